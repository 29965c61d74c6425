"""Logits become text. Greedy CTC: the best symbol of each frame, repeats merged, blanks dropped."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from otoscope.base import BadInput
from otoscope.hear.text import decode

# How far probabilities may be from adding up to 1: bfloat16 logits give about 0.01.
NORMALISED = 0.03


def greedy_ids(logits: Tensor, lengths: Tensor, blank: int | None) -> list[list[int]]:
    """Symbol numbers per utterance from logits `(batch, frame, symbol)`, valid for `lengths` frames each.

    This is the text of the single most probable CTC path, not the most probable text (Graves et al. 2006).
    """
    best = logits.argmax(-1).cpu()
    merged = [torch.unique_consecutive(frames[:length]) for frames, length in zip(best, lengths.tolist(), strict=True)]
    return [[int(symbol) for symbol in symbols if symbol != blank] for symbols in merged]


def greedy(logits: Tensor, lengths: Tensor, symbols: Sequence[str], blank: int | None) -> list[str]:
    """The transcripts of a batch, by `greedy_ids`."""
    return [decode(ids, symbols) for ids in greedy_ids(logits, lengths, blank)]


def require_normalised(values: Tensor, who: str) -> None:
    """Refuse what are no log-probabilities `(row, symbol)`.

    Raises:
        BadInput: naming `who` gives them, and what they add up to.
    """
    sums = values.double().exp().sum(1)
    wrong = (~((sums - 1).abs() <= NORMALISED)).nonzero().flatten()
    if len(wrong):
        raise BadInput(
            f"{who} gives no log-probabilities",
            got=f"they add up to {float(sums[wrong[0]]):.4g}",
            wanted="1 over the symbols",
            remedy="take the log_softmax of its logits, and look for values that are not finite",
        )
