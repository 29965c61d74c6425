"""A random sample of frames, for measures that compare frames with frames; the same whatever the order of the pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from otoscope.base import BadInput, BadOption


class FrameSample:
    """`size` frames of named nodes, each frame of the speech as likely as any other.

    Every frame draws a number, from the seed, its utterance's key and its place; those with the highest numbers stay.
    So batches in any order, and shards that are merged, give the same sample.

    Args:
        size: how many frames are kept at most; None keeps all.
        seed: another seed draws another sample.
    """

    def __init__(self, size: int | None, seed: int = 0):
        if size is not None and size < 1:
            raise BadOption("a sample has frames", got=size, wanted="1 or more, or None for all")
        self.size, self.seed = size, seed
        self.seen = 0
        self._rows: dict[str, Tensor] = {}
        # Per kept frame: its number, its utterance's key, its place in the utterance, its fold.
        self._marks = np.zeros((0, 4))

    def __len__(self) -> int:
        return len(self._marks)

    @property
    def folds(self) -> np.ndarray:
        """The fold of each kept frame."""
        return self._marks[self._order(), 3].astype(int)

    @property
    def frames(self) -> dict[str, Tensor]:
        """The kept frames of each node, `(frame, unit)`, in the order of the speech."""
        order = torch.from_numpy(self._order())
        return {node: rows[order] for node, rows in self._rows.items()}

    def update(
        self, batch: Mapping[str, Tensor], lengths: Sequence[int], keys: Sequence[int], folds: Sequence[int]
    ) -> None:
        """Let the frames of a batch draw.

        Args:
            batch: `(frame, unit)` per node, utterances below each other.
            lengths, keys, folds: of each utterance: its frames, a number that no other utterance of the corpus has,
                and its fold.
        """
        marks = [
            np.column_stack(
                [np.random.default_rng([self.seed, key]).random(n), np.full(n, key), np.arange(n), np.full(n, fold)]
            )
            for n, key, fold in zip(lengths, keys, folds, strict=True)
        ]
        self.seen += sum(lengths)
        self._keep(np.concatenate([*marks, np.zeros((0, 4))]), batch)

    def merge(self, other: FrameSample) -> None:
        """Add the frames of another part of the corpus. Raises `BadInput` for another size or seed."""
        if (self.size, self.seed) != (other.size, other.seed):
            got, wanted = (f"{each.size} frames, seed {each.seed}" for each in (other, self))
            raise BadInput("samples of different kinds do not add up", got=got, wanted=wanted)
        self.seen += other.seen
        self._keep(other._marks, other._rows)

    def _keep(self, marks: np.ndarray, batch: Mapping[str, Tensor]) -> None:
        if not len(marks) and self._rows:
            return
        widths, known = ({node: rows.shape[1] for node, rows in each.items()} for each in (batch, self._rows))
        if known and widths != known:
            raise BadInput("these frames have other nodes or widths than before", got=widths, wanted=known)
        if self.size is not None and len(self) == self.size and len(marks):
            better = marks[:, 0] > self._marks[:, 0].min()
            marks, batch = marks[better], {node: rows[torch.from_numpy(better)] for node, rows in batch.items()}
        rows = {node: rows.clone() for node, rows in batch.items()}
        if self._rows:
            rows = {node: torch.cat([kept, rows[node]]) for node, kept in self._rows.items()}
        marks = np.concatenate([self._marks, marks])
        if self.size is not None and len(marks) > self.size:
            best = np.sort(np.argpartition(-marks[:, 0], self.size - 1)[: self.size])
            marks, rows = marks[best], {node: each[torch.from_numpy(best)] for node, each in rows.items()}
        self._marks, self._rows = marks, rows

    def _order(self) -> np.ndarray:
        return np.lexsort((self._marks[:, 2], self._marks[:, 1]))
