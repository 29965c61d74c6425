"""How sure a number is, and what it would be by chance: leaving utterances out, and pairing each with another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.stats
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

LEVEL = 0.95


def jackknife(
    value: ArrayLike, leave_one_out: ArrayLike, *, level: float = LEVEL, within: tuple[float, float] | None = None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """A confidence interval from what a statistic becomes when each of K parts of the data is left out in turn.

    The standard error is sqrt((K - 1) / K sum_k (t_k - mean t)^2) (delete-a-group jackknife, Efron 1982), the interval
    value ± t_(K-1) standard errors. Frames of one utterance are not independent: parts are made of whole utterances.

    Args:
        value: the statistic over everything, any shape.
        leave_one_out: `(part, …)`.
        level: share of such intervals that hold the true value.
        within: the range of the statistic, to which the interval is clipped.

    Returns: the lower and the upper bound, in the shape of `value`.
    """
    value, parts = np.asarray(value, float), np.asarray(leave_one_out, float)
    count = len(parts)
    error = np.sqrt((count - 1) / count * ((parts - parts.mean(0)) ** 2).sum(0))
    reach = scipy.stats.t.ppf((1 + level) / 2, count - 1) * error
    low, high = value - reach, value + reach
    return (low, high) if within is None else (np.clip(low, *within), np.clip(high, *within))


def re_paired(lengths: Sequence[int], shift: int) -> tuple[Tensor, Tensor, list[int]]:
    """Pair each utterance with the one `shift` places further on, frame by frame, as far as the shorter goes.

    Args:
        lengths: frames of the utterances, which stand below each other.
        shift: by how many places; around the end.

    Returns: the frames of the first and of the second of each pair, both `(frame,)`, and the frames of each pair. No
        frames where an utterance would meet itself.
    """
    count = len(lengths)
    none = torch.zeros(0, dtype=torch.long)
    if count == 0 or shift % count == 0:
        return none, none, []
    starts = np.concatenate([[0], np.cumsum(lengths)])
    partners = [(index + shift) % count for index in range(count)]
    shared = [min(lengths[index], lengths[partner]) for index, partner in enumerate(partners)]
    first = [torch.arange(n) + int(starts[index]) for index, n in enumerate(shared)]
    second = [torch.arange(n) + int(starts[partner]) for partner, n in zip(partners, shared, strict=True)]
    return torch.cat(first), torch.cat(second), shared
