"""Which layer fell ill in training, and when: spikes, frozen and unsettled layers, dead units.

Ollerenshaw et al. 2021 see pathology by eye, as curves of similarity through training that spike or do not converge.
An illness in one layer shows in the activations of every deeper layer as well, so each is reported once, in the layer
where it starts. A layer's own weights say that best: they are asked first, activations where there are no weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias, get_args

import numpy as np
import xarray as xr

from otoscope.base import BadOption, choose
from otoscope.reduce.dynamics import Course, distance

Kind: TypeAlias = Literal["spike", "frozen", "unsettled", "dead units"]
KINDS: tuple[Kind, ...] = get_args(Kind)

# Chosen on 40 healthy and 140 planted runs of small networks (tests/plantings.py). "Seen" is what healthy runs reached
# at most, and planted ones at least, in those | in the 80 healthy and 100 planted runs that were measured afterwards.
THRESHOLDS: dict[str, float] = {
    # Both changes of weights around one epoch against those beside them, in other layers and epochs: a factor.
    # Seen: 1.5 and 3.7 | 1.9 and 8.1.
    "spike_weights": 2.5,
    # Distances to the epochs before and after against the distance across, in this layer and all deeper ones together.
    # Healthy runs reached 1.5 | more than 1.6 in 1 of 80. About three quarters of the planted spikes exceed it.
    "spike_similarity": 1.6,
    # The largest change of weights against that of the other layers at the same epoch: a factor. Rates were 30 to 100
    # times too high. Seen: 4.6 and 9.9 | 7.2 and 16.4.
    "unsettled": 8.0,
    # The third largest, so that neither a spike nor weights set once count. It need not tell ill from healthy alone.
    # Seen: 4.0 and 3.4 | 4.5 and 2.7.
    "unsettled_again": 2.5,
    # Share of a layer's units that become constant and stay so. From 20 % of the units were made to.
    # Seen: 0.14 and 0.21 | 0.14 and 0.19.
    "dead_share": 0.17,
    # Share that is constant throughout; healthy networks are born with some. Seen: 0.12 | 0.18.
    "dead_always": 0.35,
}
# To say that a layer stopped changing, so many changes of the others in a row must have left it as it is.
FROZEN_LEAST = 2
# Similarities of a frozen layer are 1 but for rounding.
SAME = 1 - 1e-6
# A spike at the first epoch that stands out less may be the start of an unsettled layer, which reached 3.5.
FIRST_SPIKE = 4.0
# Training goes on while a spike comes and goes.
ROUNDED_RETURN = 0.1


@dataclass(frozen=True)
class Pathology:
    """One illness: its kind, the layer where it starts, the epoch from or at which, None for the whole training.

    `evidence` has the numbers by name, `followers` the deeper layers that show the same without an illness of theirs.
    """

    kind: Kind
    layer: str
    epoch: int | None
    evidence: Mapping[str, float] = field(hash=False)
    followers: tuple[str, ...] = ()

    def __str__(self) -> str:
        head, parts = _WORDS[self.kind]
        since = "throughout" if self.epoch is None else f"from epoch {self.epoch} on"
        words = [pattern.format(self.evidence[name]) for name, pattern in parts.items() if name in self.evidence]
        if self.followers:
            words.append(f"deeper in, {', '.join(self.followers)} {'shows' if len(self.followers) == 1 else 'show'} it")
        return f"{head.format(layer=self.layer, epoch=self.epoch, since=since)}: {', '.join(words)}."


# How each kind is said, and the numbers that follow where they were measured.
_WORDS: dict[Kind, tuple[str, dict[str, str]]] = {
    "spike": (
        "{layer} spikes at epoch {epoch}",
        {
            "weight_change_into": "weights change by {:.2g} of their norm",
            "weight_change_out": "then by {:.2g}",
            "factor": "{:.1f} times what stands beside it",
            "similarity_before": "similarity {:.3f} to the epoch before",
            "similarity_after": "{:.3f} to the next",
            "similarity_across": "{:.3f} between those two",
        },
    ),
    "frozen": (
        "{layer} is frozen {since}",
        {
            "weight_change_of_others": "weights stay as they are while those of other layers change by {:.2g} an epoch",
            "similarity_to_first": "similarity to the first epoch at least {:.6f}",
            "deeper_similarity": "down to {:.3f} in the first layer that moves",
        },
    ),
    "unsettled": (
        "{layer} is unsettled {since}",
        {
            "factor": "weights change up to {:.0f} times as much as those of other layers",
            "factor_at": "most after epoch {:.0f}",
            "late_factor": "{:.1f} times in the last third",
            "late_similarity": "similarity {:.3f} from epoch to epoch there",
            "constant_units": "constant at the end {:.0f} units",
            "units": "of {:.0f}",
        },
    ),
    "dead units": (
        "{layer} has dead units {since}",
        {"constant_units": "constant at the end {:.0f}", "units": "of {:.0f}", "constant_before": "before {:.0f}"},
    ),
}


def find_pathologies(training: xr.Dataset, measure: str | None = None, **thresholds: float) -> list[Pathology]:
    """Find ill layers and epochs in what was measured through training.

    Args:
        training: with dimensions `measure`, `layer` (shallow to deep) and `epoch` (0 is untrained, the last the
            converged state), and `to_last` `(measure, layer, epoch)`. Every other variable may be missing; what needs
            it is not looked for, and `describe` says so: `to_next`, `to_first`, `across` (before with after an epoch),
            likewise; `weight_change` `(layer, epoch)`, |next - this| / |this|, NaN for layers without parameters;
            `constant_units` `(layer, epoch)` and `units` `(layer,)`. NaN counts as not measured.
        measure: whose similarities to read; left out, "svcca" where it is there, else the first.
        thresholds: any of `THRESHOLDS`; factors, and shares of units.

    Returns:
        The findings from the shallowest layer to the deepest:
        "spike": the weights of one layer at one epoch stand apart from those before and after; without weights, its
        activations do. "frozen": weights do not change while those of others do, from `epoch` on; without weights,
        activations that never leave the untrained ones. "unsettled": weights change far more than those of the other
        layers, time and again. "dead units": units become constant and stay so, from `epoch` on, or are so throughout.

    Raises:
        BadInput: no `to_last`, or without its dimensions. BadOption: an unknown measure or threshold.
    """
    limits = _limits(thresholds)
    course = Course(training, measure)
    dead = _dead(course, limits)
    spikes = _spikes_in_weights(course, limits) if course.has_weights else _spikes_in_similarity(course, limits)
    # Units that die move weights and activations too, at the last epoch just as a spike does.
    spikes = [spike for spike in spikes if not any(_explains(ill, spike, course) for ill in dead)]
    unsettled = _unsettled(course, limits, spikes, dead)
    spikes = [spike for spike in spikes if spike.layer not in {ill.layer for ill in unsettled}]
    found = _attributed([*_frozen(course), *spikes, *unsettled], dead, course)
    return sorted(found, key=lambda each: (course.layers.index(each.layer), -1 if each.epoch is None else each.epoch))


def describe(pathologies: list[Pathology], training: xr.Dataset) -> str:
    """A short report in words, a sentence a line: what was found, and what was not looked for and why."""
    course = Course(training, None)
    nothing = f"Nothing found (layers: {len(course.layers)}, epochs: {len(course.epochs)})."
    return "\n".join([*(map(str, pathologies) if pathologies else [nothing]), *_not_looked_for(course)])


def _limits(thresholds: Mapping[str, float]) -> dict[str, float]:
    for name, value in thresholds.items():
        choose("threshold", name, THRESHOLDS)
        if not value > 0:
            raise BadOption(f"threshold {name!r} must be above 0", got=value)
    return THRESHOLDS | dict(thresholds)


def _median(values: np.ndarray) -> float:
    """Of the numbers among `values`; NaN where there is none."""
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else float("nan")


def _numbers(**values: float) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if math.isfinite(value)}


def _frozen(course: Course) -> list[Pathology]:
    if not course.has_weights:
        return _frozen_in_similarity(course)
    found = []
    # A step that changes nothing at all, at the end of a schedule or of a run cut short, says nothing.
    told = (course.change > 0).any(0)
    for layer, change in enumerate(course.change):
        known = told & np.isfinite(change)
        moved = np.flatnonzero(known & (change > 0))
        first = int(moved[-1]) + 1 if len(moved) else 0
        still = int(known[first:].sum())
        if still >= FROZEN_LEAST or (still and not len(moved)):
            others = np.delete(course.change, layer, 0)[:, first:]
            usual = float(np.median(others[np.isfinite(others) & (others > 0)]))
            evidence = _numbers(changes=still, weight_change=0.0, weight_change_of_others=usual)
            found.append(Pathology("frozen", course.layers[layer], course.epochs[first] if first else None, evidence))
    return found


def _frozen_in_similarity(course: Course) -> list[Pathology]:
    same = course.to_first[:, 1:]
    stays = np.array([bool(len(row)) and bool((row >= SAME).all()) for row in same])
    # Above a frozen layer activations stay too where there are no weights, so the stretch counts once.
    end = int(stays.argmin()) if not stays.all() else 0
    if not end:
        return []
    evidence = _numbers(similarity_to_first=float(same[:end].min()), deeper_similarity=float(same[end].min()))
    return [Pathology("frozen", course.layers[0], None, evidence, tuple(course.layers[1:end]))]


def _spikes_in_weights(course: Course, limits: Mapping[str, float]) -> list[Pathology]:
    found = []
    for layer, row in enumerate(course.relative_change()):
        spiked = 0
        for epoch in range(1, len(course.epochs)):
            # Into the epoch and out of it; of the last epoch only into it.
            pair, rest = row[epoch - 1 : epoch + 1], np.delete(row, slice(epoch - 1, epoch + 1))
            beside = np.concatenate([row[max(epoch - 2, 0) : epoch - 1], row[epoch + 1 : epoch + 2]])
            beside = beside[np.isfinite(beside)]
            alone = len(pair) == 1
            # The way out of a spike would be the way into a last one.
            if len(beside) == 0 or (alone and spiked == epoch - 1 > 0):
                continue
            # Beside, not only the rest: a rate that is too high makes large changes at first that fall off by degrees.
            # The smaller of the two beside, so that a spike one epoch further does not hide this one.
            stands_out = math.exp(pair.min() - max(beside.min(), _median(rest)))
            comes_back = alone or _returns(*course.change[layer, epoch - 1 : epoch + 1])
            if comes_back and stands_out >= limits["spike_weights"]:
                found.append(_spike(course, layer, epoch, stands_out))
                spiked = epoch
    return found


def _returns(into: float, out: float) -> bool:
    """Whether a change relative to |W| can be undone by one relative to the changed |W'|: ||W| - |W'|| <= |W' - W|."""
    return (1 - ROUNDED_RETURN) * into / (1 + into) <= out <= (1 + ROUNDED_RETURN) * into / max(abs(1 - into), 1e-9)


def _spikes_in_similarity(course: Course, limits: Mapping[str, float]) -> list[Pathology]:
    found = []
    threshold = math.log(limits["spike_similarity"])
    into, out = course.distance[:, :-1], course.distance[:, 1:]
    # Column by column the epochs from 1 on; the last has nothing behind it, the changes before stand in for that.
    stands_out = np.minimum(into, out) / distance(course.across)[:, 1:]
    if into.shape[1] > 2:
        stands_out[:, -1] = into[:, -1] / np.maximum(into[:, -2], into[:, -3])
    for column, ratios in enumerate(np.log(stands_out).T):
        known = np.flatnonzero(np.isfinite(ratios))
        # Noise in one layer reaches all deeper ones; where similarities of one layer jump by chance, they do not.
        ill = [layer for layer in known if min(ratios[layer], ratios[known[known >= layer]].mean()) >= threshold]
        if ill:
            found.append(_spike(course, int(ill[0]), column + 1, math.exp(ratios[ill[0]])))
    return found


def _spike(course: Course, layer: int, epoch: int, stands_out: float) -> Pathology:
    last = epoch == len(course.epochs) - 1
    evidence = _numbers(
        factor=stands_out,
        weight_change_into=course.change[layer, epoch - 1],
        weight_change_out=np.nan if last else course.change[layer, epoch],
        similarity_before=course.to_next[layer, epoch - 1],
        similarity_after=course.to_next[layer, epoch],
        similarity_across=course.across[layer, epoch],
    )
    return Pathology("spike", course.layers[layer], course.epochs[epoch], evidence, course.followers(layer, epoch))


def _dead(course: Course, limits: Mapping[str, float]) -> list[Pathology]:
    """Layers with too many constant units, whether or not that is the consequence of another illness."""
    found = []
    for layer, share in enumerate(course.share):
        # Units that are constant at every epoch from this one on, at the least.
        lasting = np.flip(np.fmin.accumulate(np.flip(share)))
        rises = np.array([lasting[epoch] - _median(share[:epoch]) for epoch in range(1, len(share))])
        risen = np.flatnonzero(rises >= limits["dead_share"])
        always = lasting[0] >= limits["dead_always"]
        if not always and not len(risen):
            continue
        epoch = None if always else int(risen[0]) + 1
        evidence = _numbers(
            units=course.units[layer],
            constant_units=course.constant[layer, -1],
            constant_before=np.nan if epoch is None else _median(course.constant[layer, :epoch]),
        )
        label, followers = (None, ()) if epoch is None else (course.epochs[epoch], course.followers(layer, epoch))
        found.append(Pathology("dead units", course.layers[layer], label, evidence, followers))
    return found


def _unsettled(
    course: Course, limits: Mapping[str, float], spikes: list[Pathology], dead: list[Pathology]
) -> list[Pathology]:
    if len(course.layers) < 2:
        return []
    found = []
    relative = course.relative_change()
    for ill in (*spikes, *dead):
        # What one epoch explains does not count again.
        if ill.epoch is None or _may_be_start(ill, course):
            continue
        at, depth = course.epochs.index(ill.epoch), course.layers.index(ill.layer)
        relative[depth, at - 1 : at + (ill.kind == "spike")] = np.nan
        if ill.kind == "dead units":
            # Deeper layers learn anew to do without the units they lost.
            relative[depth + 1 :, at:] = np.nan
    late = slice(-max(relative.shape[1] // 3, 1), None)
    for layer, row in enumerate(relative):
        known = np.sort(row[np.isfinite(row)])[::-1]
        if len(known) < 3 or known[0] < math.log(limits["unsettled"]) or known[2] < math.log(limits["unsettled_again"]):
            continue
        evidence = _numbers(
            factor=math.exp(known[0]),
            factor_at=course.epochs[int(np.nanargmax(row))],
            third_factor=math.exp(known[2]),
            late_factor=math.exp(_median(row[late])),
            late_similarity=_median(course.to_next[layer, :-1][late]),
        )
        found.append(Pathology("unsettled", course.layers[layer], None, evidence))
    return found


def _may_be_start(ill: Pathology, course: Course) -> bool:
    """Whether the illness may be the first large steps of a layer whose rate is too high."""
    first = course.epochs.index(ill.epoch) == 1 if ill.epoch is not None else False
    return first and (ill.kind == "dead units" or ill.evidence["factor"] < FIRST_SPIKE)


def _explains(cause: Pathology, effect: Pathology, course: Course) -> bool:
    """Whether what happens in one layer can be what another layer, or the same one, shows in its activations."""
    shallow, deep = course.layers.index(cause.layer), course.layers.index(effect.layer)
    if shallow > deep or (shallow == deep and cause.kind == effect.kind) or cause.kind == "frozen":
        return False
    if effect.kind == "spike":
        if cause.epoch is None or effect.epoch is None:
            return False
        later = course.epochs.index(effect.epoch) - course.epochs.index(cause.epoch)
        # Noise in a checkpoint cannot kill units for good; deeper weights move only later, to make up for the loss.
        return later == (1 if shallow < deep and course.has_weights else 0)
    if cause.kind == "spike":
        return shallow < deep and cause.epoch == effect.epoch
    return cause.epoch is None or (effect.epoch is not None and cause.epoch <= effect.epoch)


def _attributed(found: list[Pathology], dead: list[Pathology], course: Course) -> list[Pathology]:
    """Findings, with dead units only where nothing shallower explains them; elsewhere their layer follows."""
    found = list(found)
    for ill in dead:
        causes = [index for index, cause in enumerate(found) if _explains(cause, ill, course)]
        if not causes:
            found.append(ill)
            continue
        cause = found[causes[0]]
        if cause.layer == ill.layer:
            found[causes[0]] = replace(cause, evidence={**cause.evidence, **ill.evidence})
        else:
            layers = {*cause.followers, ill.layer}
            found[causes[0]] = replace(cause, followers=tuple(name for name in course.layers if name in layers))
    return found


def _not_looked_for(course: Course) -> list[str]:
    weights, epochs, layers = course.has_weights, len(course.epochs), len(course.layers)
    triangle = epochs > 2 and np.isfinite(course.across).any() and np.isfinite(course.to_next).any()
    without = "there is no weight_change"
    reasons = [
        (not weights and triangle, f"Spikes early in training may hide: {without}, so activations had to do."),
        (not weights and not triangle, f"Spikes were not looked for: {without}, nor to_next and across for 3 epochs."),
        (weights and epochs < 3, "Spikes were not looked for: that takes 3 epochs."),
        (not weights, f"Frozen layers were looked for only next to the input, by to_first, since {without}."),
        (not weights, f"Unsettled layers were not looked for: {without}."),
        (
            weights and layers < 2,
            "Frozen and unsettled layers were not looked for: there is one layer, none to compare.",
        ),
        (weights and epochs < 4, "Unsettled layers were not looked for: that takes 4 epochs."),
        (not np.isfinite(course.share).any(), "Dead units were not looked for: that takes constant_units and units."),
    ]
    unmeasured = [name for name, row in zip(course.layers, course.change, strict=True) if not np.isfinite(row).any()]
    if weights and unmeasured:
        reasons.append(
            (True, f"Of {', '.join(unmeasured)} no weight_change is known: only dead units were looked for.")
        )
    return [words for true, words in reasons if true]
