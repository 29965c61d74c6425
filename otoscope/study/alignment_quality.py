"""How good an alignment is: its boundaries and frames against exact or hand labels, its GradNAPs against others'.

Frames of one utterance, and boundaries too, depend on each other: intervals come from drawing whole utterances.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import kaldialign
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from otoscope.base import BadInput, BadOption
from otoscope.hear.audio import HOP_S
from otoscope.hear.phones import SILENCE
from otoscope.hear.tiers import Segment
from otoscope.reduce.intervals import LEVEL
from otoscope.reduce.likeness import correlations, standardised
from otoscope.reduce.profiles import Profiles
from otoscope.study.groupings import segment_numbers

NOTHING = "*"
# TIMIT's closures, and the releases that belong to them; alone they stand for the stop.
CLOSURES = {
    "bcl": ("b",),
    "dcl": ("d", "jh"),
    "gcl": ("g",),
    "pcl": ("p",),
    "tcl": ("t", "ch"),
    "kcl": ("k",),
}
NEAR_S = 0.02
DRAWS = 1000


@dataclass(frozen=True)
class AlignmentQuality:
    """An alignment against a reference. Intervals are (low, high), by bootstrap over utterances.

    Attributes:
        utterances: how many.
        boundaries: starts and ends of the phones that have a counterpart in the reference.
        median_error_s: of these, the median distance to the reference's, in seconds.
        near: the share of them within 20 ms.
        frames: those, every 10 ms, at which the reference has a phone, silence being none.
        right: the share of these frames that have the reference's phone.
        phones: of the reference.
        unmatched: phones of the reference without counterpart.
        extra: phones of the alignment without counterpart.
        other: counterparts of another label.
    """

    utterances: int
    boundaries: int
    median_error_s: float
    median_error_interval: tuple[float, float]
    near: float
    near_interval: tuple[float, float]
    frames: int
    right: float
    right_interval: tuple[float, float]
    phones: int
    unmatched: int
    extra: int
    other: int
    level: float

    def as_dict(self) -> dict[str, Any]:
        """The values by name."""
        return asdict(self)

    def __str__(self) -> str:
        def between(interval: tuple[float, float], scale: float, digits: int) -> str:
            return f"[{interval[0] * scale:.{digits}f}, {interval[1] * scale:.{digits}f}]"

        return (
            f"median boundary error {1000 * self.median_error_s:.1f} ms {between(self.median_error_interval, 1000, 1)},"
            f" {100 * self.near:.0f} % {between(self.near_interval, 100, 0)} within 20 ms"
            f" (N = {self.boundaries} boundaries); {100 * self.right:.1f} % {between(self.right_interval, 100, 1)} of"
            f" frames with the right phone (N = {self.frames} frames); {self.utterances} utterances"
        )


def joined_closures(tier: Sequence[Segment]) -> list[Segment]:
    """TIMIT's closures as part of their stops: `tcl t` is one `t`; a closure without release is its stop, too."""
    found: list[Segment] = []
    for segment in tier:
        before = found[-1] if found else None
        if before and segment.label in CLOSURES.get(before.label, ()):
            found[-1] = Segment(before.start_s, segment.end_s, segment.label)
        else:
            found.append(segment)
    return [segment._replace(label=CLOSURES.get(segment.label, (segment.label,))[0]) for segment in found]


def alignment_quality(
    reference: Sequence[Sequence[Segment]],
    found: Sequence[Sequence[Segment]],
    *,
    level: float = LEVEL,
    draws: int = DRAWS,
    seed: int = 0,
) -> AlignmentQuality:
    """Compare phone tiers with those of a reference, utterance by utterance.

    Both in the same notation (`otoscope.study.groupings.fold_phones`). Counterparts are found by edit distance between
    the two sequences of labels, silence left out; the boundaries of all pairs count, of substitutions too.

    Raises:
        BadInput: not one tier for each of the reference, or no phone that has a counterpart.
        BadOption: a level that is none, or no draws.
    """
    if not 0 < level < 1 or draws < 1:
        raise BadOption("intervals", got=f"level {level}, {draws} draws", wanted="a level between 0 and 1, 1 or more")
    if len(reference) != len(found) or not len(reference):
        raise BadInput("tiers do not fit the reference", got=f"{len(found)}", wanted=f"{len(reference)}, at least one")
    rows = [_compared(one, other) for one, other in zip(reference, found, strict=True)]
    errors = [row[0] for row in rows]
    frames = np.array([row[1] for row in rows])
    counts = np.array([row[2] for row in rows]).sum(0)
    pooled = np.concatenate(errors)
    if not len(pooled) or not frames[:, 1].sum():
        raise BadInput("no phone has a counterpart in the reference", got="nothing to compare")

    def near(drawn: NDArray[np.int64]) -> float:
        return float((np.concatenate([errors[i] for i in drawn]) <= NEAR_S + 1e-9).mean())

    def right(drawn: NDArray[np.int64]) -> float:
        return float(frames[drawn, 0].sum() / frames[drawn, 1].sum())

    def median(drawn: NDArray[np.int64]) -> float:
        return float(np.median(np.concatenate([errors[i] for i in drawn])))

    every = np.arange(len(rows))
    intervals = bootstrap([median, near, right], len(rows), level, draws, seed)
    return AlignmentQuality(
        utterances=len(rows),
        boundaries=len(pooled),
        median_error_s=median(every),
        median_error_interval=intervals[0],
        near=near(every),
        near_interval=intervals[1],
        frames=int(frames[:, 1].sum()),
        right=right(every),
        right_interval=intervals[2],
        phones=int(counts[0]),
        unmatched=int(counts[1]),
        extra=int(counts[2]),
        other=int(counts[3]),
        level=level,
    )


def bootstrap(
    statistics: Sequence[Callable[[NDArray[np.int64]], float]], count: int, level: float, draws: int, seed: int
) -> list[tuple[float, float]]:
    """Percentile intervals (Efron 1979) of statistics of utterances, given as indices; NaN where a draw has none."""
    rng = np.random.default_rng(seed)
    values = []
    with np.errstate(invalid="ignore", divide="ignore"):
        for _ in range(draws):
            drawn = rng.integers(0, count, count)
            values.append([statistic(drawn) for statistic in statistics])
    low, high = np.nanquantile(np.array(values), [(1 - level) / 2, (1 + level) / 2], axis=0)
    return [(float(a), float(b)) for a, b in zip(low, high, strict=True)]


def _compared(
    reference: Sequence[Segment], found: Sequence[Segment]
) -> tuple[NDArray[np.float64], tuple[int, int], tuple[int, int, int, int]]:
    """Boundary errors in seconds; frames right, and all; phones, those unmatched, those too many, other labels."""
    ours = [segment for segment in reference if _sounds(segment)]
    theirs = [segment for segment in found if _sounds(segment)]
    pairs, i, j = [], 0, 0
    for wanted, got in kaldialign.align([s.label for s in ours], [s.label for s in theirs], NOTHING):
        if NOTHING not in (wanted, got):
            pairs.append((ours[i], theirs[j]))
        i += wanted != NOTHING
        j += got != NOTHING
    edges = [(a, b) for one, two in pairs for a, b in ((one.start_s, two.start_s), (one.end_s, two.end_s))]
    errors = np.array([abs(a - b) for a, b in edges], dtype=np.float64)
    number = {label: index for index, label in enumerate(dict.fromkeys(s.label for s in (*ours, *theirs)))}
    count = round(max([s.end_s for s in ours], default=0.0) / HOP_S) + 1
    truth, guess = (segment_numbers(tier, number, count, HOP_S).numpy() for tier in (ours, theirs))
    counted = truth >= 0
    frames = int((guess[counted] == truth[counted]).sum()), int(counted.sum())
    other = sum(one.label != two.label for one, two in pairs)
    return errors, frames, (len(ours), len(ours) - len(pairs), len(theirs) - len(pairs), other)


def _sounds(segment: Segment) -> bool:
    return bool(segment.label.strip()) and segment.label != SILENCE


def profile_agreement(one: Profiles, other: Profiles, by: str = "phone", other_by: str | None = None) -> xr.Dataset:
    """How alike the GradNAPs of two labellings are: Pearson's correlation over units and offsets.

    Args:
        one, other: profiles of the same network, layers and windows, as of `gradnap`.
        by: the grouping of `one`, such as "phone".
        other_by: that of `other`; left out, the same. Groups are paired by their labels.

    Returns:
        A Dataset: `correlation` `(layer, label)`, NaN where a group has no profile in one of them; `instances` and
        `other_instances` `(layer, label)`; `median` `(layer,)`, over the labels. Attribute `unpaired`: labels that only
        one of them has.

    Raises:
        BadInput: no layer or no label in common, or windows of different width.
    """
    other_by = by if other_by is None else other_by
    layers = [layer for layer in one.layers if layer in other.layers]
    labels, others = (
        {name.split(":", 1)[1]: name for name in profiles.groups if name.split(":", 1)[0] == kind}
        for profiles, kind in ((one, by), (other, other_by))
    )
    shared = [label for label in labels if label in others]
    if not layers or not shared:
        got = f"{len(layers)} layers and {len(shared)} labels in common, by {by} and {other_by}"
        raise BadInput("these profiles have nothing in common", got=got, wanted="at least one of each")
    first, second = [labels[label] for label in shared], [others[label] for label in shared]
    values, counts, other_counts = [], [], []
    for layer in layers:
        tables = [
            profiles.profile[layer].sel(group=names).values for profiles, names in ((one, first), (other, second))
        ]
        values.append(correlations(*map(standardised, tables)))
        counts.append(one.layers[layer]["instances"].sel(group=first).values)
        other_counts.append(other.layers[layer]["instances"].sel(group=second).values)
    table = np.array(values)
    sound = np.isfinite(table)
    median = [float(np.median(row[there])) if there.any() else np.nan for row, there in zip(table, sound, strict=True)]
    dims = ("layer", "label")
    return xr.Dataset(
        {
            "correlation": (dims, table, {"long_name": "correlation of the profiles"}),
            "instances": (dims, np.array(counts)),
            "other_instances": (dims, np.array(other_counts)),
            "median": (("layer",), np.array(median)),
        },
        coords={"layer": layers, "label": shared},
        attrs={
            "by": by,
            "other_by": other_by,
            "unpaired": " ".join(sorted(set(labels) ^ set(others))),
        },
    )
