"""What depends on what in time: receptive fields, and cones, the frames of a layer that one frame of logits depends on.

Measured by *poison*: NaN in one frame spreads to every frame computed from it, whatever the weights, and to no other.
Where a network breaks that chain (a comparison, an index) or is not the same at all times, nothing is concluded.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from otoscope.probe.strides import OUTPUT, Bench, by_frame
from otoscope.probe.taps import INPUT

# A field that does not end within this many input frames (20 s), or 32 periods, counts as unbounded.
FARTHEST = 2048
# Fields are looked for in no shorter an input: gaps of up to about this many frames do not hide how far they go.
SHORTEST = 64
# Frames in one poisoned batch, which bounds the memory that measuring takes.
BATCH_FRAMES = 8192


class Reach(NamedTuple):
    """Frame t of a target depends on frames c - left … c + right of a source, c = floor(t · source frames per frame).

    `width` is the largest number of source frames from the first to the last that one target frame depends on.
    """

    left: int
    right: int
    width: int


Reaches: TypeAlias = dict[str, Reach | None]


def measure_reach(bench: Bench) -> tuple[Reaches, Reaches]:
    """How far each layer reaches back into the features, and the logits into each layer; None where there is no end.

    The input and the logits count as layers.
    """
    poisoner = _Poisoner(bench)
    fields = poisoner.find_fields()
    return fields, poisoner.find_cones(fields)


class _Poisoner:
    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.counts, self.period = bench.counts, bench.period
        # The first input length at which the reach of the logits showed whole.
        self.settled: int | None = None

    def poisoned(self, length: int, poison: Sequence[tuple[str, int]], watched: Iterable[str]) -> dict[str, Tensor]:
        """Which frames turn NaN, `(row, frame)` for each watched layer, when row r has NaN in frame `poison[r]`."""
        features = self.bench.features(len(poison), length)
        marks: dict[str, Tensor] = {}
        watched = set(watched)

        def visit(name: str, tensor: Tensor | None) -> Tensor | None:
            axes = self.bench.axes.get(name)
            if tensor is None or axes is None:
                return None
            if name in watched:
                marks[name] = by_frame(tensor, axes.batch_axis, axes.frame_axis).isnan().any(2).cpu()
            rows = [row for row, (source, _) in enumerate(poison) if source == name]
            if not rows or not tensor.is_floating_point():
                return None
            tensor = tensor.clone()
            frames = tensor.movedim((axes.batch_axis, axes.frame_axis), (0, 1))
            frames[rows, [poison[row][1] for row in rows]] = math.nan
            return tensor

        for row, (source, frame) in enumerate(poison):
            if source == INPUT:
                features[row, frame] = math.nan
        try:
            self.bench.run(features, watched | {source for source, _ in poison}, visit)
        except Exception:  # a network may refuse NaN, or so long an input: then nothing can be told
            return {}
        return marks

    def find_fields(self) -> Reaches:
        """How far each layer, and the logits, reach back into the features."""
        fields: Reaches = {INPUT: Reach(0, 0, 1)}
        pending = [name for name in self.counts if name != INPUT]
        patterns: dict[str, list[int]] = {}
        for length in self.lengths():
            place = length // self.period // 2
            middle = place * self.period
            look = self.poisoned(length, [(INPUT, middle)], pending)
            ready = [name for name, mark in look.items() if not _cut_off(mark)]
            # One row before and one after, a period away, show whether the same happens at other times.
            poison = [(INPUT, middle + shift) for shift in (-self.period, *range(self.period), self.period)]
            for name, mark in self.in_parts(length, poison, ready).items():
                per_period = self.per_period(name)
                if _whole(mark, place * per_period, patterns, name) and not _cut_off(mark):
                    same = _repeats(mark, per_period)
                    fields[name] = _reach(mark[1:-1], middle, self.period, per_period) if same else None
                    pending.remove(name)
            if OUTPUT not in pending and self.settled is None:
                self.settled = length
            if not pending or not look or (not ready and length >= self.farthest):
                break
        return fields

    def same(self) -> dict[str, str]:
        """Modules that hand on another's very output (containers, dropout in `eval()`), and that other's name."""
        first: dict[tuple[int, int], str] = {}
        kept: list[Tensor] = []  # while they live, no other tensor has their identity
        same: dict[str, str] = {}

        def visit(name: str, tensor: Tensor | None) -> None:
            if tensor is not None and name in self.counts:
                kept.append(tensor)
                # The version counts writes in place, after which the same tensor is another output.
                origin = first.setdefault((id(tensor), tensor._version), name)
                if origin != name and self.bench.axes[origin] == self.bench.axes[name]:
                    same[name] = origin

        self.bench.run(self.bench.features(1, self.bench.shortest), self.bench.modules, visit)
        return same

    def find_cones(self, fields: Reaches) -> Reaches:
        """How far the logits reach back into each layer."""
        same = self.same()
        cones = self.cones_of([name for name in self.counts if name not in same], fields)
        return {name: cones.get(same.get(name, name)) for name in self.counts}

    def cones_of(self, names: Sequence[str], fields: Reaches) -> Reaches:
        cones: Reaches = {INPUT: fields.get(OUTPUT)}
        if OUTPUT not in self.counts:
            return cones
        cones[OUTPUT] = Reach(0, 0, 1)
        patterns: dict[str, list[int]] = {}
        # From the last layer back.
        pending = [name for name in reversed(names) if name not in cones]
        if fields.get(OUTPUT) is None:
            # What lies behind an unbounded layer is unbounded, so the search ends with the first: at worst some layer
            # is called unbounded that is not.
            length = max(256, self.bench.shortest)
            for name in pending:
                if not any(self.reach_from([name], frames, cones, patterns) for frames in (length, 2 * length)):
                    break
            return cones
        for length in self.lengths((self.settled or self.bench.shortest) // 2):
            # A network without modules has no layers between the features and the logits.
            if not pending:
                break
            done = self.reach_from(pending, length, cones, patterns)
            pending = [name for name in pending if name not in done]
        return cones

    def reach_from(
        self, names: Sequence[str], length: int, cones: Reaches, patterns: dict[str, list[int]]
    ) -> list[str]:
        """Add to `cones` those that end within an input of this length, and return their names.

        `patterns`: what each did at the length before, kept up to date.
        """
        poison: list[tuple[str, int]] = []
        rows: dict[str, slice] = {}
        for name in names:
            per_period = self.per_period(name)
            middle = self.counts[name](length) // per_period // 2 * per_period
            rows[name] = slice(len(poison), len(poison) + per_period)
            poison += [(name, middle + i) for i in range(per_period)]
        mark = self.in_parts(length, poison, [OUTPUT]).get(OUTPUT)
        if mark is None:
            return []
        done = []
        for name in names:
            place = poison[rows[name].start][1] // self.per_period(name) * self.per_period(OUTPUT)
            if _whole(mark[rows[name]], place, patterns, name) and not _cut_off(mark[rows[name]]):
                done.append(name)
        for name in done:
            first = poison[rows[name].start][1]
            cones[name] = _reach(mark[rows[name]], first, self.per_period(name), self.per_period(OUTPUT))
        return done

    def lengths(self, first: int = 0) -> Iterator[int]:
        """Input lengths to look at, until it is far enough to say that there is no end."""
        length = max(first, self.bench.shortest, 4 * self.period, SHORTEST)
        # What ends there must do so in an utterance twice as long.
        while length <= 2 * self.farthest:
            yield length
            length *= 2

    def in_parts(self, length: int, poison: Sequence[tuple[str, int]], watched: Sequence[str]) -> dict[str, Tensor]:
        # Where the period is long, input frames are samples and layers have fewer.
        rows = max(1, BATCH_FRAMES * max(1, self.period // 4) // length)
        parts = [self.poisoned(length, poison[at : at + rows], watched) for at in range(0, len(poison), rows)]
        return {name: torch.cat([part[name] for part in parts]) for name in watched if all(name in p for p in parts)}

    @property
    def farthest(self) -> int:
        return max(FARTHEST, 32 * self.period)

    def per_period(self, name: str) -> int:
        return int(self.period / self.counts[name].stride)


def _cut_off(mark: Tensor) -> bool:
    """Whether NaN reaches an end of the utterance, so that it may have gone on."""
    return bool(mark[:, 0].any() or mark[:, -1].any())


def _whole(mark: Tensor, place: int, patterns: dict[str, list[int]], name: str) -> bool:
    """Whether the same frames around `place` turn NaN as in an utterance of half the length, which is noted.

    A field with gaps, or one whose ends fall among frames made of padding alone, is cut off where no NaN shows.
    """
    pattern = (mark.nonzero() - torch.tensor([0, place])).flatten().tolist()
    before, patterns[name] = patterns.get(name), pattern
    return pattern == before


def _repeats(mark: Tensor, per_period: int) -> bool:
    """Whether poison a period earlier and a period later does the same, a period earlier and later."""
    before, here, after = mark[0], mark[1], mark[-1]
    return bool((before.roll(per_period) == here).all() and (here.roll(per_period) == after).all())


def _reach(mark: Tensor, first: int, sources: int, targets: int) -> Reach | None:
    """From which target frames turned NaN for each of the source frames first … first + sources - 1.

    Args:
        mark: bool `(source, target)`, one period of source frames.
        sources, targets: frames of each in a period.
    """
    source, target = mark.nonzero(as_tuple=True)
    if not len(source):
        return None
    source = source + first
    behind = target * sources // targets - source
    # Frames of one phase depend on the same sources but for whole periods.
    phase, moved = target % targets, source - target // targets * sources
    widths = [moved[phase == p].max() - moved[phase == p].min() + 1 for p in phase.unique()]
    return Reach(int(behind.max()), int(-behind.min()), int(max(widths)))
