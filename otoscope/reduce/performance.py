"""Is what similarity measures related to what the networks can do? Rank correlation over networks, with its doubt.

Ollerenshaw et al. 2021 ask whether networks that represent speech alike also recognise it equally well. A handful of
networks answers that with little certainty, so that the correlation comes with an interval and a p-value.
"""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from otoscope.base import BadInput, BadOption

# Measured over 200 made-up sets of networks whose rank correlation is 0.58 (bivariate normal): the 95 % interval held
# the truth in 95.5 % of them with 8 networks, in 95.5 % with 20, in 92.5 % with 60. One standard error is 1.5 %.
RESAMPLES = 2000
PERMUTATIONS = 9999
# 8! = 40320 orders are all tried; beyond that some are drawn.
EXACT_NETWORKS = 8
# Correlations are equal that differ by less: the sums of the same products, in another order.
SAME = 1e-9


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's rank correlation over networks.

    `spearman`, `low` and `high` lie in [-1, 1]; with 3 networks the interval is all of it. `p`: the probability of a
    correlation this far from 0, on either side, if values and errors were unrelated. `n`: networks counted;
    `left_out`: those without a value or an error; `ignored`: resamples without variation; `level`: of the interval.
    """

    spearman: float
    low: float
    high: float
    p: float
    n: int
    left_out: int = 0
    ignored: int = 0
    level: float = 0.95

    def __str__(self) -> str:
        words = f"rank correlation {self.spearman:.2f} over {self.n} networks"
        interval = f"{self.level:.0%} interval {self.low:.2f} to {self.high:.2f}"
        if self.n < 4:
            interval = "too few for an interval"
        p = "p < 0.001" if self.p < 0.001 else f"p = {self.p:.2g}"
        out = f"; {self.left_out} left out, without a value or an error" if self.left_out else ""
        return f"{words} ({interval}, {p}){out}"


def rank_correlation(values: ArrayLike, errors: ArrayLike, *, level: float = 0.95, seed: int = 0) -> RankCorrelation:
    """Spearman's rank correlation of one value per network with its error rate.

    The interval is a percentile bootstrap over networks (Efron and Tibshirani 1993, chapter 13): 2,000 resamples;
    those in which the values or the errors are all equal have no correlation, are ignored and counted. The p-value is
    two-sided: over all orders of the errors with up to 8 networks, else over 9,999 random ones and the one found.

    Args:
        values: one number per network, `(network,)`, such as a similarity; NaN where there is none.
        errors: one per network, such as the word error rate; NaN where there is none. Those networks are left out.
        level: of the interval, in (0, 1).
        seed: of resamples and orders.

    Raises:
        BadInput: other shapes, infinite values, fewer than 3 networks, values or errors that are all equal.
        BadOption: a level outside (0, 1).
    """
    if not 0 < level < 1:
        raise BadOption("level is the share of intervals that hold the truth", got=level, wanted="0 < level < 1")
    pairs = _paired(values, errors)
    counted = pairs[:, ~np.isnan(pairs).any(0)]
    left_out = pairs.shape[1] - counted.shape[1]
    n = counted.shape[1]
    if n < 3:
        got = f"{n} networks" + (f", {left_out} more without a value or an error" if left_out else "")
        raise BadInput("a rank correlation needs networks to rank", got=got, wanted="at least 3")
    for row, name in zip(counted, ("values", "errors"), strict=True):
        if (row == row[0]).all():
            raise BadInput(
                f"the {name} of all networks are equal",
                got=f"{row[0]:g} for each of {n} networks",
                wanted="some that differ: a correlation with something constant is not defined",
            )
    ranks = rankdata(counted, axis=1)
    found = float(_correlations(ranks[0], ranks[1]))
    random = np.random.default_rng(seed)
    low, high, ignored = _interval(counted, level, random) if n > 3 else (-1.0, 1.0, 0)
    return RankCorrelation(found, low, high, _p_value(ranks, found, random), n, left_out, ignored, level)


def _paired(values: ArrayLike, errors: ArrayLike) -> NDArray[np.float64]:
    try:
        first, second = (np.asarray(each, dtype=np.float64) for each in (values, errors))
    except (TypeError, ValueError) as error:
        raise BadInput("values and errors are not all numbers", got=str(error), wanted="one number each") from error
    if first.ndim != 1 or first.shape != second.shape:
        got = f"shapes {first.shape} and {second.shape}"
        raise BadInput("values and errors do not go together", got=got, wanted="one of each per network: (network,)")
    pairs = np.stack([first, second])
    if np.isinf(pairs).any():
        got = f"{np.isinf(pairs).any(0).sum()} of {len(first)} networks with an infinite value or error"
        raise BadInput("values and errors must be finite", got=got, wanted="finite numbers, NaN for none")
    return pairs


def _correlations(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pearson's correlation along the last dimension; NaN where one of the two does not vary."""
    a, b = (each - each.mean(-1, keepdims=True) for each in (a, b))
    size = np.sqrt((a**2).sum(-1) * (b**2).sum(-1))
    products = (a * b).sum(-1)
    return np.clip(np.divide(products, size, out=np.full_like(size, math.nan), where=size > 0), -1, 1)


def _interval(counted: NDArray[np.float64], level: float, random: np.random.Generator) -> tuple[float, float, int]:
    n = counted.shape[1]
    drawn = counted[:, random.integers(n, size=(RESAMPLES, n))]
    spread = _correlations(*rankdata(drawn, axis=2))
    usable = spread[~np.isnan(spread)]
    low, high = np.quantile(usable, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high), RESAMPLES - len(usable)


def _p_value(ranks: NDArray[np.float64], found: float, random: np.random.Generator) -> float:
    values, errors = ranks - ranks.mean(1, keepdims=True)
    n = len(errors)
    exact = n <= EXACT_NETWORKS
    orders = errors[_all_orders(n)] if exact else random.permuted(np.tile(errors, (PERMUTATIONS, 1)), axis=1)
    # An order changes neither mean nor length.
    shuffled = orders @ values / math.sqrt((values @ values) * (errors @ errors))
    as_far = int((np.abs(shuffled) >= abs(found) - SAME).sum())
    return as_far / len(orders) if exact else (as_far + 1) / (len(orders) + 1)


@functools.cache
def _all_orders(n: int) -> NDArray[np.int8]:
    return np.array(list(itertools.permutations(range(n))), dtype=np.int8)
