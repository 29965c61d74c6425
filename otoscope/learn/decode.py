"""Logits become text. Greedy CTC: the best symbol of each frame, repeats merged, blanks dropped."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from otoscope.hear.text import decode


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
