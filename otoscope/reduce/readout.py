"""Measures, read out of sums or of frames, for many pairs at once."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from otoscope.base import BadInput
from otoscope.reduce.covariances import Covariances
from otoscope.reduce.measures import Measure
from otoscope.reduce.parallel import in_parallel
from otoscope.reduce.spectra import Node, Pair
from otoscope.reduce.sums import PairName

# From here on a note says what unrelated nodes would score: a third of the scale is no longer small.
CHANCE_WORTH_A_NOTE = 0.3

Settings = Mapping[str, Mapping[str, Any]]
Limit = tuple[float, str]


class RankWarning(UserWarning):
    """The number of frames or of directions that vary limits what a value means. The same words are in the notes."""


@dataclass
class Similarities:
    """What measures say.

    Attributes:
        values: `[measure][a, b]`.
        kept: of each node the principal directions that SVCCA kept.
        notes: what limits the values, in words; said as warnings, too.
        remarks: how they were made.
    """

    values: dict[str, dict[PairName, float]]
    kept: dict[str, int]
    notes: tuple[str, ...]
    remarks: tuple[str, ...] = ()


def read_sums(
    sums: Covariances, chosen: Mapping[str, Measure], pairs: Iterable[PairName], settings: Settings
) -> Similarities:
    """Measures that read sums.

    Args:
        sums: over at least two frames.
        chosen: rows of the table.
        pairs: (node, node) tuples, (a, a) included if wanted.
        settings: the options of each measure.

    Raises:
        BadInput: fewer than two frames, a node without variance, a pair of which there are no sums.
    """
    if sums.frames < 2:
        raise BadInput("similarity needs frames to vary over", got=f"{sums.frames} frames", wanted="at least 2")
    pairs = list(pairs)
    names = list(dict.fromkeys(name for pair in pairs for name in pair))
    # What every pair of a node needs is computed before the pairs, which are then independent of each other.
    widest = max(map(sums.width, names), default=0)
    whitens = any(measure.whitens for measure in chosen.values())

    def prepared(name: str) -> Node:
        node = Node(sums, name)
        if whitens:
            _ = node.whitening
        if "svcca" in chosen:
            _ = node.principal
        return node

    nodes = dict(zip(names, in_parallel(prepared, names, widest), strict=True))
    directions = any(measure.needs_directions for measure in chosen.values())

    def score(job: tuple[PairName, Sequence[str]]) -> dict[str, tuple[float, Limit | None]]:
        (a, b), wanted = job
        pair = Pair(nodes[a], nodes[b], directions=directions)
        scores = {}
        for name in wanted:
            measure, options = chosen[name], settings[name]
            limit = measure.limit(pair, **options) if measure.limit and a != b else None
            scores[name] = measure.score(pair, **options), limit
        return scores

    found = _each_once(chosen, pairs, score, widest)
    kept = {name: nodes[name].kept(settings["svcca"]["threshold"]) for name in names} if "svcca" in chosen else {}
    notes = _rank_notes([name for name, row in chosen.items() if row.whitens], nodes.values()) if whitens else []
    return _with_limits(found, kept, notes, sums.frames)


def read_frames(
    frames: Mapping[str, Tensor], chosen: Mapping[str, Measure], pairs: Iterable[PairName], settings: Settings
) -> Similarities:
    """Measures that compare frames with frames, of nodes `(frame, unit)` with the same frames."""
    pairs = list(pairs)
    names = list(dict.fromkeys(name for pair in pairs for name in pair))
    count = len(next(iter(frames.values())))
    found: dict[str, dict[PairName, tuple[float, Limit | None]]] = {}
    for name, measure in chosen.items():
        found |= _read_one(name, measure, frames, names, pairs, settings[name])
    return _with_limits(found, {}, [], count)


def _read_one(
    measure_name: str,
    measure: Measure,
    frames: Mapping[str, Tensor],
    names: Sequence[str],
    pairs: Sequence[PairName],
    options: Mapping[str, Any],
) -> dict[str, dict[PairName, tuple[float, Limit | None]]]:
    """One measure at a time: what it makes of a node can be as large as the square of the frames."""
    prepare, count = measure.prepare, len(next(iter(frames.values())))
    assert prepare is not None
    made = in_parallel(lambda name: prepare(frames[name], name=name, **options), names, count)
    ready = dict(zip(names, made, strict=True))

    def score(job: tuple[PairName, Sequence[str]]) -> dict[str, tuple[float, Limit | None]]:
        (a, b), wanted = job
        limit = measure.limit(ready[a], ready[b], **options) if measure.limit and a != b else None
        return dict.fromkeys(wanted, (measure.score(ready[a], ready[b]), limit))

    return _each_once({measure_name: measure}, pairs, score, count)


def _each_once(
    chosen: Mapping[str, Measure],
    pairs: Sequence[PairName],
    score: Callable[[tuple[PairName, Sequence[str]]], dict[str, tuple[float, Limit | None]]],
    size: int,
) -> dict[str, dict[PairName, tuple[float, Limit | None]]]:
    """The scores of all pairs; a symmetric measure of (b, a) is that of (a, b)."""
    jobs: dict[PairName, list[str]] = {}
    for a, b in dict.fromkeys(pairs):
        wanted = [name for name, row in chosen.items() if not (row.symmetric and (b, a) in jobs and a != b)]
        jobs[a, b] = wanted
    scores = in_parallel(score, [job for job in jobs.items() if job[1]], size)
    by_pair = dict(zip([pair for pair, wanted in jobs.items() if wanted], scores, strict=True))
    found: dict[str, dict[PairName, tuple[float, Limit | None]]] = {}
    for name in chosen:
        found[name] = {(a, b): by_pair[a, b][name] if name in jobs[a, b] else by_pair[b, a][name] for a, b in jobs}
    return found


def _with_limits(
    found: Mapping[str, Mapping[PairName, tuple[float, Limit | None]]],
    kept: dict[str, int],
    notes: list[str],
    frames: int,
) -> Similarities:
    values = {name: {pair: value for pair, (value, _) in scores.items()} for name, scores in found.items()}
    for name, scores in found.items():
        notes += _limit_notes(name, frames, {pair: limit for pair, (_, limit) in scores.items() if limit})
    return Similarities(values, kept, tuple(notes))


def _rank_notes(measures: Sequence[str], nodes: Iterable[Node]) -> list[str]:
    short = [node for node in nodes if node.rank < node.units]
    words = [
        f"{node.name!r} varies in {node.rank} of {node.units} directions ({int((~node.varying).sum())} constant units)"
        for node in short
    ]
    return [f"{', '.join(measures)}: what does not vary is left out: {'; '.join(words)}"] if short else []


def _limit_notes(measure: str, frames: int, limits: Mapping[PairName, Limit]) -> list[str]:
    """One note for the worst pair, which counts the others."""
    trouble = {pair: limit for pair, limit in limits.items() if limit[0] > CHANCE_WORTH_A_NOTE}
    if not trouble:
        return []
    a, b = max(trouble, key=lambda pair: trouble[pair][0])
    chance, many = trouble[a, b]
    note = f"{measure} of {a!r} and {b!r}: {frames} frames are few for {many}; unrelated nodes would score {chance:.2f}"
    return [f"{note} or so" + (f" (and {len(trouble) - 1} more pairs, less)" if len(trouble) > 1 else "")]


def warn(notes: Iterable[str], depth: int = 3) -> None:
    """Say the notes as warnings of the caller's caller."""
    for note in notes:
        warnings.warn(note, RankWarning, stacklevel=depth)
