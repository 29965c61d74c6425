"""One pass over the frames for everything a comparison of nodes needs: sums, a sample of frames, and both re-paired.

Every measure for every pair, its interval and what it would be by chance are then read out without the speech.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from otoscope.base import BadInput, BadOption, choose
from otoscope.reduce.frames import Array, valid_frames
from otoscope.reduce.intervals import LEVEL, jackknife, re_paired
from otoscope.reduce.measures import Measure, chosen_measures, settings_of
from otoscope.reduce.moments import LARGEST, Moments
from otoscope.reduce.readout import Similarities, read_frames, read_sums
from otoscope.reduce.samples import FrameSample
from otoscope.reduce.sums import PairName, listed

FOLDS, REPAIRINGS, SAMPLE = 20, 10, 3000


@dataclass
class Findings(Similarities):
    """What a comparison found.

    Attributes:
        parts: `[measure][pair]`: the values with each fold of utterances left out, `(fold,)`.
        intervals: `[measure][pair]`: lower and upper bound.
        baseline: `[measure][pair]`: the values with utterances re-paired, `(repairing,)`.
    """

    parts: dict[str, dict[PairName, np.ndarray]] = field(default_factory=dict)
    intervals: dict[str, dict[PairName, tuple[float, float]]] = field(default_factory=dict)
    baseline: dict[str, dict[PairName, np.ndarray]] = field(default_factory=dict)


class Comparison:
    """Collects what the similarity of pairs of nodes takes, batch by batch.

    Args:
        measures: names in `otoscope.reduce.measures.MEASURES`.
        pairs: (node, node) tuples, a node with itself included if wanted; in the order of the measures that have one.
        folds: parts of the utterances for intervals by jackknife; 0 for none. Memory grows with them.
        repairings: in how many ways utterances are paired with others, for the baseline; each costs a further pass.
        precision: of the products, see `Moments`.
        sample: how many frames measures that compare frames with frames look at; None for all.
        level: of the intervals.
        seed: of the sample.
        options: of the measures.

    Raises:
        BadOption: an unknown measure or option.
    """

    def __init__(
        self,
        measures: Iterable[str] | str,
        pairs: Sequence[PairName],
        *,
        folds: int = 0,
        repairings: int = 0,
        precision: str = "auto",
        sample: int | None = SAMPLE,
        level: float = LEVEL,
        seed: int = 0,
        **options: Any,
    ):
        self.measures = chosen_measures(measures)
        self.settings = settings_of(self.measures, options)
        if not 0 < level < 1:
            raise BadOption("level is a share of intervals", got=level, wanted="between 0 and 1, as 0.95")
        if folds < 0 or folds == 1:
            raise BadOption("folds are parts of the utterances", got=folds, wanted="0, or 2 and more")
        if not pairs:
            raise BadInput("there is no pair to compare", got="none", wanted="(node, node) tuples")
        if repairings < 0:
            raise BadOption("utterances cannot be re-paired so often", got=repairings, wanted="0 or more")
        self.pairs, self.folds, self.level = list(pairs), folds, level
        self.moments: Moments | None = None
        self.sample: FrameSample | None = None
        of_sums = [row for row in self.measures.values() if not row.reads_frames]
        if of_sums:
            norms = any(row.needs_norms for row in of_sums)
            self.moments = Moments(pairs=pairs, folds=folds, precision=precision, squared_norms=norms)
        if len(of_sums) < len(self.measures):
            self.sample = FrameSample(sample, seed)
        self.repaired: list[Comparison] = []
        for _ in range(repairings):
            # A partner is a node of its own, since it says something else at the same time.
            crossed = [(a, _partner(b)) for a, b in pairs]
            chance = Comparison(self.measures, crossed, precision=precision, sample=sample, seed=seed, **options)
            self.repaired.append(chance)
        self.utterances = self.frames = 0
        self._heard_of: set[int] = set()

    def update(
        self,
        batch: Mapping[str, Array],
        lengths: Array | Sequence[int] | None = None,
        mask: Array | None = None,
        *,
        keys: Sequence[int] | None = None,
    ) -> None:
        """Add the frames of a batch; arguments and errors as of `Moments.update`.

        Args:
            keys: a number for each utterance that no other in the corpus has: it decides on fold and sample, so that
                these do not depend on the order of the batches. By turns when left out.
        """
        arrays, counts = valid_frames(batch, lengths, mask, LARGEST)
        keys = list(range(self.utterances, self.utterances + len(counts))) if keys is None else list(keys)
        if len(keys) != len(counts) or min(keys, default=0) < 0:
            got, wanted = f"{len(keys)} keys for {len(counts)} utterances", "a number from 0 for each"
            raise BadInput("the keys do not fit the utterances", got=got, wanted=wanted)
        unknown = sorted({node for pair in self.pairs for node in pair} - set(arrays))
        if unknown:
            raise BadInput(
                "a pair names a node that is not there", got=listed(unknown), wanted=f"among {listed(arrays)}"
            )
        folds = [key % max(self.folds, 1) for key in keys]
        self._heard_of.update(folds[index] for index, count in enumerate(counts) if count)
        if self.moments is not None:
            self.moments.update(arrays, counts, folds=folds)
        if self.sample is not None:
            self.sample.update(arrays, counts, keys, folds)
        self.utterances += len(counts)
        self.frames += sum(counts)
        for shift, chance in enumerate(self.repaired, 1):
            first, second, shared = re_paired(counts, shift)
            partners = {_partner(b) for _, b in self.pairs}
            crossed = {node: rows[first] for node, rows in arrays.items()}
            crossed |= {_partner(n): rows[second] for n, rows in arrays.items() if _partner(n) in partners}
            chance.update(crossed, shared, keys=keys[: len(shared)])

    def merge(self, other: Comparison) -> None:
        """Add what was collected over another part of the corpus.

        Raises:
            BadInput: it was collected with other measures, options, pairs, folds or re-pairings.
        """
        own, others = (
            {"measures": each.settings, "pairs": each.pairs, "folds": each.folds, "repairings": len(each.repaired)}
            for each in (self, other)
        )
        unlike = [name for name, value in own.items() if others[name] != value]
        if unlike:
            got, wanted = (", ".join(f"{name} {each[name]}" for name in unlike) for each in (others, own))
            raise BadInput("what was collected in another way does not add up", got=got, wanted=wanted)
        if self.moments is not None and other.moments is not None:
            self.moments.merge(other.moments)
        if self.sample is not None and other.sample is not None:
            self.sample.merge(other.sample)
        for mine, theirs in zip(self.repaired, other.repaired, strict=True):
            mine.merge(theirs)
        self.utterances += other.utterances
        self.frames += other.frames
        self._heard_of |= other._heard_of

    def read(self, measures: Iterable[str] | None = None) -> Findings:
        """Every measure of every pair, with intervals and baseline as far as they were asked for.

        Raises:
            BadInput: fewer than two frames, a node without variance, folds without frames.
        """
        chosen = self.measures
        if measures is not None:
            chosen = {choose("measure", name, self.measures): self.measures[name] for name in measures}
        whole = self._read(chosen)
        found = Findings(whole.values, whole.kept, whole.notes, whole.remarks)
        if self.folds:
            self._add_intervals(found, chosen)
        if self.repaired:
            drawn = [chance.read(chosen).values for chance in self.repaired if chance.frames > 1]
            if not drawn:
                problem = "utterances cannot be re-paired"
                raise BadInput(problem, got=f"{self.utterances} utterances, one at a time", wanted="two in a batch")
            for name, values in found.values.items():
                draws = {(a, b): np.array([each[name][a, _partner(b)] for each in drawn]) for a, b in values}
                found.baseline[name] = draws
        return found

    def _add_intervals(self, found: Findings, chosen: Mapping[str, Measure]) -> None:
        if len(self._heard_of) < self.folds:
            remedy = "give more utterances, or ask for fewer folds"
            problem, wanted = "there are too few utterances to leave some out", f"{self.folds} folds with frames"
            got = f"{self.utterances} utterances in {len(self._heard_of)} folds"
            raise BadInput(problem, got=got, wanted=wanted, remedy=remedy)
        parts = [self._read(chosen, without=fold).values for fold in range(self.folds)]
        for name, values in found.values.items():
            low, high = chosen[name].range
            found.parts[name] = {pair: np.array([part[name][pair] for part in parts]) for pair in values}
            for pair, value in values.items():
                bounds = jackknife(value, found.parts[name][pair], level=self.level, within=(low, high))
                found.intervals.setdefault(name, {})[pair] = (float(bounds[0]), float(bounds[1]))

    def _read(self, chosen: Mapping[str, Measure], without: int | None = None) -> Similarities:
        of_sums = {name: row for name, row in chosen.items() if not row.reads_frames}
        of_frames = {name: row for name, row in chosen.items() if row.reads_frames}
        read = Similarities({}, {}, ())
        if of_sums and self.moments is not None:
            read = read_sums(self.moments.finalize(without=without), of_sums, self.pairs, self.settings)
            if self.moments.precision.startswith("products in float32"):
                read.remarks = (self.moments.precision,)
        if of_frames and self.sample is not None:
            frames: dict[str, Tensor] = self.sample.frames
            if without is not None:
                keep = torch.from_numpy(self.sample.folds != without)
                frames = {node: rows[keep] for node, rows in frames.items()}
            more = read_frames(frames, of_frames, self.pairs, self.settings)
            remarks = list(read.remarks)
            if self.sample.seen > len(self.sample):
                share = f"{len(self.sample)} of {self.sample.seen} frames"
                remarks.append(f"{', '.join(of_frames)}: over a sample of {share}")
            read = Similarities(read.values | more.values, read.kept, (*read.notes, *more.notes), tuple(remarks))
        return read


def _partner(node: str) -> str:
    """The name of a node's copy whose utterances were exchanged."""
    return f"{node} (another utterance)"
