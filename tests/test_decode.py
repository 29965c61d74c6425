"""Greedy decoding and the CTC loss against every path written out."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from otoscope.learn.decode import greedy, greedy_ids
from otoscope.learn.losses import ctc_losses

FRAMES, SYMBOLS = 4, 3


def collapse(path: tuple[int, ...], blank: int) -> list[int]:
    """A symbol counts where it is not the blank and differs from the frame before it."""
    return [
        symbol for place, symbol in enumerate(path) if symbol != blank and not (place > 0 and path[place - 1] == symbol)
    ]


def paths(probabilities: torch.Tensor) -> list[tuple[float, tuple[int, ...]]]:
    """The probability of every path through `(frame, symbol)`."""
    return [
        (math.prod(float(probabilities[frame, symbol]) for frame, symbol in enumerate(path)), path)
        for path in itertools.product(range(probabilities.shape[1]), repeat=len(probabilities))
    ]


@pytest.mark.parametrize("blank", [0, 2])
def test_greedy_is_the_most_probable_path_collapsed(blank):
    logits = torch.randn(50, FRAMES, SYMBOLS, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([4, 3, 2, 1, 4] * 10)
    for one, length, found in zip(logits, lengths.tolist(), greedy_ids(logits, lengths, blank), strict=True):
        assert found == collapse(max(paths(one[:length].softmax(-1).double()))[1], blank)


@pytest.mark.parametrize("path", [(1, 1, 0, 1), (0, 0, 0, 0), (1, 2, 2, 1), (1, 0, 0, 1), (2, 1, 1, 1)])
def test_repeats_merge_and_blanks_part_them(path):
    logits = torch.nn.functional.one_hot(torch.tensor([path]), SYMBOLS).float()
    assert greedy_ids(logits, torch.tensor([4]), 0) == [collapse(path, 0)]


def test_without_a_blank_only_repeats_merge():
    logits = torch.nn.functional.one_hot(torch.tensor([[0, 0, 1, 0]]), SYMBOLS).float()
    assert greedy_ids(logits, torch.tensor([4]), None) == [[0, 1, 0]]


def test_greedy_text():
    path = [0, 3, 3, 0, 3, 1, 1, 4, 0]
    logits = torch.nn.functional.one_hot(torch.tensor([path, path]), 5).float()
    assert greedy(logits, torch.tensor([9, 3]), ["<blank>", " ", "'", "a", "b"], 0) == ["aa b", "a"]


@pytest.mark.parametrize("blank", [0, 2])
def test_the_ctc_loss_is_the_sum_over_all_paths(blank):
    first, second = (symbol for symbol in range(SYMBOLS) if symbol != blank)
    targets = [[first, second], [first, first], [second], [second, first, second]]
    lengths = torch.tensor([4, 3, 2, 4])
    logits = torch.randn(4, FRAMES, SYMBOLS, generator=torch.Generator().manual_seed(1))
    expected = 0.0
    for one, length, target in zip(logits, lengths.tolist(), targets, strict=True):
        every = paths(one[:length].double().softmax(-1))
        assert sum(probability for probability, _ in every) == pytest.approx(1)
        expected -= math.log(sum(probability for probability, path in every if collapse(path, blank) == target))
    found = ctc_losses(logits, lengths, [torch.tensor(target) for target in targets], blank)
    assert float(found.sum()) == pytest.approx(expected, abs=1e-5)
