"""How alike two sets of profiles are: correlation over units and time, and what shuffled ones would give."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from otoscope.base import BadInput, choose

MEASURES = ("pearson", "spearman")


def standardised(table: NDArray[Any], measure: str = "pearson") -> NDArray[Any]:
    """Every group's table less its mean and of length 1, so that a sum of products is a correlation.

    Args:
        table: `(group, unit, offset)`.
        measure: "pearson", or "spearman", the same of the ranks (equal values share their mean rank).

    Returns:
        `(group, unit, offset)` float32; NaN for a group that is not finite or the same everywhere.
    """
    choose("measure", measure, MEASURES)
    flat = np.asarray(table, dtype=np.float64).reshape(len(table), -1)
    sound = np.isfinite(flat).all(axis=1) & (np.ptp(flat, axis=1) > 0)
    result = np.full(flat.shape, np.nan)
    if sound.any():
        rows = rankdata(flat[sound], axis=1) if measure == "spearman" else flat[sound]
        rows = rows - rows.mean(axis=1, keepdims=True)
        result[sound] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return result.reshape(np.shape(table)).astype(np.float32)


def correlations(one: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
    """The correlation of each group's two tables `(group,)`, from `standardised` tables; NaN where one has none.

    Raises:
        BadInput: tables of different shapes.
    """
    if one.shape != other.shape:
        raise BadInput("profiles of different shapes cannot be compared", got=other.shape, wanted=one.shape)
    return np.einsum("guo,guo->g", one, other, dtype=np.float64)


def shuffled_levels(one: NDArray[Any], other: NDArray[Any], shuffles: int, rng: np.random.Generator) -> NDArray[Any]:
    """The mean correlation over the groups when `other`'s units and groups are shuffled `(shuffle,)`.

    In one shuffle all groups have their units in the same new order, for what chance makes alike in one group of a
    network it makes alike in all. Offsets stay: the shape that time gives to all profiles is no likeness.

    Args:
        one, other: `standardised` tables `(group, unit, offset)` without NaN.
    """
    groups, units, _ = one.shape
    levels = np.empty(shuffles)
    for number in range(shuffles):
        mixed = other[rng.permutation(groups)[:, None], rng.permutation(units)]
        levels[number] = correlations(one, mixed).mean()
    return levels


def spearman_brown(correlation: NDArray[Any]) -> NDArray[Any]:
    """The reliability of the whole from the correlation r of two halves, 2 r / (1 + r).

    Spearman (1910) and Brown (1910). Of a correlation below 0 it makes no sense, and the correlation is kept.
    """
    r = np.asarray(correlation, dtype=np.float64)
    return np.where(r > 0, 2 * r / (1 + np.maximum(r, 0)), r)
