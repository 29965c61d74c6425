"""Weights drawn anew from the output down: what of a GradNAP explains the network, and what the data.

After Adebayo et al. 2018, "Sanity checks for saliency maps". A network with random weights predicts something else, and
its profiles would differ for that reason alone, since other instances would be averaged. So every step explains the
same output frames, in the same groups, each by the logit of the symbol that the *original* network predicts there. Only
the weights differ.
"""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from torch import nn

from otoscope.base import BadInput, Progress, derive_seed, silent
from otoscope.probe.layers import Survey
from otoscope.probe.taps import INPUT
from otoscope.reduce.likeness import MEASURES, correlations, shuffled_levels, standardised
from otoscope.study.explained import TABLES, Explained
from otoscope.study.random_weights import redraw, reset_of

# Shares of the likeness above the shuffled level: at most so much is a fall, at least so much is alike.
FALLEN, ALIKE = 0.2, 0.5
# A unit of the data alone: this share of the group's largest contrast, with at most this mask.
STRONG, UNUSED = 0.5, 0.05
# Groups of which the notes say so one by one; the attribute `in_data_only` has all.
MOST_NAMED = 6


def cascade(task: Explained, *, seed: int = 0, shuffles: int = 40, progress: Progress = silent) -> xr.Dataset:
    """Draw the weights anew from the output down, and see what of every layer's profiles and masks stays.

    One pass for the network and one for each step. Likeness is the correlation over (unit, offset) with the original,
    per group. The shuffled level is that of the step's own tables with units, and groups within a grouping, shuffled:
    what they share without any match, such as the shape of the cone.

    A layer's verdict is read where everything *above* it is random and it is not itself: its units are still the same.
    Its mask then comes from random weights. If the profile stays alike although the mask has fallen, it shows what
    the layer's values are for these groups: in the input layer that explains the data, not the network.

    Returns:
        A Dataset: `likeness` `(measure, table, step, layer, group)`; its mean over the groups of a grouping
        `likeness_mean` `(measure, table, step, layer, grouping)`; `shuffled` and `shuffled_interval` (95 %, one more
        dimension `bound`) of the same shape; `kept` `(table, layer, grouping)`, the share of the Pearson likeness above
        the shuffled level that is left at step `above` `(layer,)`; `verdict` `(layer, grouping)`: "data", "network",
        "partly", "architecture" (the mask is alike too), or "" (nothing above it, or undefined). Coordinate
        `randomised` `(step,)` names the layer drawn anew. Attributes: `notes` in words; `in_data_only`, JSON
        `[[layer, group, unit], …]`: units of large contrast which the network's mask takes out though random weights
        would not; `not_randomised`, modules that kept their parameters.

    Raises:
        BadInput: no module can reset its parameters.
    """
    steps, lasting = randomisation_order(task.network, task.survey)
    kinds = list(dict.fromkeys(task.kinds))
    twin = copy.deepcopy(task.network).eval()
    original = task.tables(task.sums())
    progress(1, len(steps) + 1, "the network itself")
    first = {
        (name, table, measure): standardised(values, measure)
        for name, tables in original.items()
        for table, values in tables.items()
        for measure in MEASURES
    }
    names = [str(layer) for layer in task.layers]
    place = {str(layer): index for index, layer in enumerate(task.survey)}
    above = [sum(step[0] > place[name] for step in steps) for name in names]
    shape = (len(MEASURES), len(TABLES), len(steps) + 1, len(names))
    likeness = np.full((*shape, len(task.groups)), np.nan)
    mean, shuffled = (np.full((*shape, len(kinds)), np.nan) for _ in range(2))
    interval = np.full((*shape, len(kinds), 2), np.nan)
    hidden: list[tuple[str, str, int]] = []
    for number in range(len(steps) + 1):
        found = original
        if number:
            redraw(twin, steps[number - 1][2], seed)
            found = task.tables(task.sums(twin))
        for column, name in enumerate(names):
            if number == above[column] > 0:
                hidden += [(name, *unit) for unit in _in_data_only(task.groups, original[name], found[name])]
            for row, table in enumerate(TABLES):
                rng = np.random.default_rng(derive_seed(seed, "shuffles", number, name, table))
                for line, measure in enumerate(MEASURES):
                    one = first[name, table, measure]
                    other = standardised(found[name][table], measure) if number else one
                    here = line, row, number, column
                    likeness[here] = correlations(one, other)
                    for last, kind in enumerate(kinds):
                        mine = np.flatnonzero((task.kinds == kind) & np.isfinite(likeness[here]))
                        if len(mine):
                            levels = shuffled_levels(one[mine], other[mine], shuffles, rng)
                            mean[*here, last] = likeness[here][mine].mean()
                            shuffled[*here, last] = levels.mean()
                            interval[*here, last] = np.percentile(levels, (2.5, 97.5))
        if number:
            progress(number + 1, len(steps) + 1, f"{steps[number - 1][1]} and above it random")
    dims = ("measure", "table", "step", "layer")
    by_kind = (*dims, "grouping")
    at = (slice(None), np.array(above), np.arange(len(names)))
    level = shuffled[0][at]
    with np.errstate(invalid="ignore", divide="ignore"):
        # A level of 1: nothing can be told from shuffled tables.
        kept = (mean[0][at] - level) / (1 - level)
    fallen = (kept <= FALLEN) | (mean[0][at] <= interval[0][at][..., 1])
    verdict = _verdicts(kept, fallen, np.array(above))
    result = xr.Dataset(
        {
            "likeness": ((*dims, "group"), likeness),
            "likeness_mean": (by_kind, mean),
            "shuffled": (by_kind, shuffled),
            "shuffled_interval": ((*by_kind, "bound"), interval),
            "kept": (("table", "layer", "grouping"), kept),
            "above": ("layer", above),
            "verdict": (("layer", "grouping"), verdict),
        },
        coords={
            "measure": list(MEASURES),
            "table": list(TABLES),
            "step": np.arange(len(steps) + 1),
            "randomised": ("step", ["", *(step[1] for step in steps)]),
            "layer": names,
            "group": task.groups,
            "grouping": kinds,
            "bound": ["low", "high"],
        },
        attrs={**task.facts, "level": 0.95, "seed": seed, "shuffles": shuffles},
    )
    in_data_only = json.dumps(hidden, ensure_ascii=False)
    notes = "\n".join(_cascade_notes(result, hidden, lasting))
    return result.assign_attrs(in_data_only=in_data_only, not_randomised=", ".join(lasting), notes=notes)


def randomisation_order(network: nn.Module, survey: Survey) -> tuple[list[tuple[float, str, list[str]]], list[str]]:
    """The steps of a cascade, output first, and the modules whose parameters cannot be drawn anew.

    A step is `(place, name, modules)`: the place among the layers in order of execution, the innermost of the network's
    own layers that holds them, and the modules that can reset their parameters. A module that no layer holds follows
    the layer declared before it.
    """
    places = {str(layer): float(place) for place, layer in enumerate(survey) if layer.own and layer != INPUT}
    steps: dict[tuple[float, str], list[str]] = {}
    lasting, last, able = [], 0.0, []
    for name, part in network.named_modules():
        last = places.get(name, last)
        if reset_of(part) is not None:
            able.append(name)
            holders = [layer for layer in places if name == layer or name.startswith(f"{layer}.")]
            holder = max(holders, key=len, default=None)
            key = (last + 0.5, name or "network") if holder is None else (places[holder], holder)
            steps.setdefault(key, []).append(name)
        elif next(part.parameters(recurse=False), None) is not None and not any(
            not above or name.startswith(f"{above}.") for above in able
        ):
            lasting.append(name or "network")
    if not steps:
        raise BadInput(
            "no module of this network can draw its weights anew",
            got=", ".join(lasting) or "no parameters",
            wanted="modules with reset_parameters(), as torch's layers have",
        )
    return [(*key, steps[key]) for key in sorted(steps, reverse=True)], lasting


def _in_data_only(
    groups: Sequence[str], original: Mapping[str, NDArray[Any]], random: Mapping[str, NDArray[Any]]
) -> Iterator[tuple[str, int]]:
    """Group and unit where the groups differ much, the network's mask is all but 0, and random weights' mask is not."""
    contrast, mask, other = (
        np.nan_to_num(np.abs(table).max(axis=2)) for table in (original["contrast"], original["mask"], random["mask"])
    )
    strong = (contrast >= STRONG * contrast.max(axis=1, keepdims=True)) & (contrast > 0)
    reached = mask.max(axis=1, keepdims=True) > 0
    for group, unit in zip(*np.nonzero(strong & reached & (mask <= UNUSED) & (other > UNUSED)), strict=True):
        yield groups[group], int(unit)


def _verdicts(kept: NDArray[Any], fallen: NDArray[Any], above: NDArray[Any]) -> NDArray[Any]:
    """`(layer, grouping)` from `(table, layer, grouping)`; see `cascade`."""
    profile, mask = (TABLES.index(name) for name in ("profile", "mask"))
    known = np.isfinite(kept[profile]) & np.isfinite(kept[mask]) & (above > 0)[:, None]
    alike = kept[profile] >= ALIKE
    found = np.where(
        alike,
        np.where(fallen[mask], "data", np.where(kept[mask] >= ALIKE, "architecture", "partly")),
        np.where(fallen[profile], "network", "partly"),
    )
    return np.where(known, found, "")


def _cascade_notes(result: xr.Dataset, hidden: Sequence[tuple[str, str, int]], lasting: Sequence[str]) -> list[str]:
    notes = []
    for layer in result["layer"].values:
        for kind in result["grouping"].values:
            verdict = str(result["verdict"].sel(layer=layer, grouping=kind).values)
            profile, mask = (
                float(result["kept"].fillna(0).sel(table=name, layer=layer, grouping=kind)) for name in TABLES[:2]
            )
            shares = f"kept of the likeness: profiles {round(100 * profile)} %, masks {round(100 * mask)} %"
            words = {
                "data": "explain the data, not the network: they stay alike when all weights are random"
                if layer == INPUT
                else "show what this layer's values are, not what the network makes of them: they stay alike when all "
                "weights above it are random",
                "network": "explain the network: they fall to the shuffled level, or nearly, with random weights",
                "partly": "explain the network in part: some of their likeness stays with random weights",
                "architecture": "and their masks stay alike with random weights: neither says anything of what was "
                "learned",
            }.get(verdict)
            if words:
                notes.append(f"{layer}: profiles by {kind} {words} ({shares})")
    found: dict[str, list[int]] = {}
    for layer, group, unit in hidden:
        if layer == INPUT:
            found.setdefault(group, []).append(unit)
    if len(found) > MOST_NAMED:
        notes.append(
            f"{INPUT}: in {len(found)} groups a unit that differs much is all but left out by the network's gradient "
            f"(mask at most {UNUSED:g}); the first {MOST_NAMED} are:"
        )
    for group, units in list(found.items())[:MOST_NAMED]:
        named = ", ".join(map(str, units[:8])) + (f" and {len(units) - 8} more" if len(units) > 8 else "")
        notes.append(
            f"{INPUT}: what {group} shows without a mask in unit {named} explains the data, not the network, whose "
            f"gradient all but leaves it out (mask at most {UNUSED:g})"
        )
    counts = Counter(layer for layer, _, _ in hidden if layer != INPUT)
    notes += [
        f"{layer}: {count} times a unit that differs much in a group is all but left out by the network above it"
        for layer, count in counts.items()
    ]
    if lasting:
        notes.append(f"these modules cannot draw their weights anew and kept them: {', '.join(lasting)}")
    return notes
