"""What a decoder carries from step to step: that of the utterances once, that of each hypothesis apart."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class DecoderMemory:
    """Hypotheses in a grid `(utterance, place)`, flattened: those of an utterance are neighbours, equally many of each.

    What is the same for all hypotheses of an utterance, such as the encoder's states, is kept once and not copied as
    long as the utterances stay.

    Attributes:
        shared: tensors with utterances as first axis.
        own: tensors with hypotheses as first axis.
    """

    shared: dict[str, Tensor]
    own: dict[str, Tensor]

    def select(self, index: Tensor) -> DecoderMemory:
        """The hypotheses `index` `(hypothesis,)`, which may leave out, re-order and repeat."""
        utterances = len(next(iter(self.shared.values())))
        places = len(next(iter(self.own.values()))) // utterances
        owner = torch.div(index, places, rounding_mode="floor")
        rows, counts = torch.unique_consecutive(owner, return_counts=True)
        if len(counts) and not bool((counts == counts[0]).all()):
            # No grid any more: each hypothesis gets an utterance of its own.
            rows = owner
        kept = len(rows) == utterances and torch.equal(rows, torch.arange(utterances, device=rows.device))
        shared = self.shared if kept else {name: tensor[rows] for name, tensor in self.shared.items()}
        return DecoderMemory(shared, {name: tensor[index] for name, tensor in self.own.items()})

    def after(self, **own: Tensor) -> DecoderMemory:
        """The memory with these tensors in place of those that hypotheses had."""
        return replace(self, own=self.own | own)


def by_utterance(values: Tensor, utterances: int) -> Tensor:
    """`(hypothesis, …)` as `(utterance, place, …)`."""
    return values.unflatten(0, (utterances, len(values) // max(utterances, 1)))
