"""Rank correlation over networks against scipy, and its interval against planted truth."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from scipy.stats import permutation_test, spearmanr

from otoscope.base import BadInput, BadOption
from otoscope.reduce import performance
from otoscope.reduce.performance import RankCorrelation, rank_correlation


def networks(n, strength=0.6, seed=0):
    """Similarities and errors of made-up networks, bivariate normal with a correlation of `strength`."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=n)
    return values, strength * values + math.sqrt(1 - strength**2) * rng.normal(size=n)


@pytest.mark.parametrize("n", [3, 5, 8, 9, 40])
def test_the_correlation_is_that_of_scipy(n):
    for seed in range(5):
        values, errors = networks(n, seed=seed)
        coarse = np.round(values), np.round(errors)
        for a, b in ((values, errors), (values, -errors), (10**values, errors), coarse):
            if np.ptp(a) and np.ptp(b):
                assert rank_correlation(a, b).spearman == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)


@pytest.mark.parametrize("n", [4, 5, 8])
def test_the_p_value_of_few_networks_is_exact(n):
    for seed in range(3):
        values, errors = networks(n, seed=seed)

        def distance_from_0(order, errors=errors):
            return abs(spearmanr(order, errors).statistic)

        # scipy tries the orders one by one, and 40320 take too long.
        if n < 8:
            exact = permutation_test(
                (values,), distance_from_0, permutation_type="pairings", alternative="greater", n_resamples=np.inf
            )
            assert rank_correlation(values, errors).p == pytest.approx(exact.pvalue, abs=1e-12)
    line = np.arange(n)
    assert rank_correlation(line, -line).p == pytest.approx(2 / math.factorial(n))
    assert rank_correlation([1, 2, 3], [1, 3, 2]).p == 1


def test_the_p_value_of_many_networks_is_that_of_random_orders():
    for seed in range(4):
        values, errors = networks(30, 0.35, seed)
        expected = spearmanr(values, errors).pvalue
        assert rank_correlation(values, errors).p == pytest.approx(expected, abs=0.02)
    line = np.arange(30)
    assert rank_correlation(line, line).p == 1 / 10_000


def test_p_values_of_unrelated_networks_are_spread_evenly():
    p = np.array([rank_correlation(*networks(10, 0, seed)).p for seed in range(60)])
    assert 0.4 < p.mean() < 0.6
    assert (p < 0.1).mean() < 0.25


@pytest.mark.parametrize(("n", "least"), [(8, 0.9), (20, 0.9)])
def test_the_interval_holds_the_truth_about_as_often_as_it_says(n, least, monkeypatch):
    """The population's rank correlation is 6 / pi arcsin(r / 2) (Pearson 1907). 200 sets: one error is 1.5 %."""
    monkeypatch.setattr(performance, "PERMUTATIONS", 9)
    truth = 6 / math.pi * math.asin(0.6 / 2)
    found = [rank_correlation(*networks(n, seed=seed)) for seed in range(200)]
    share = np.mean([each.low <= truth <= each.high for each in found])
    assert least < share < 0.99
    half = [rank_correlation(*networks(n, seed=seed), level=0.5) for seed in range(0, 200, 4)]
    assert 0.25 < np.mean([each.low <= truth <= each.high for each in half]) < 0.75


def test_resamples_without_variation_are_ignored_and_counted():
    """With one of 6 networks apart, (5/6)^6 of the resamples miss it; drawn 6 times it leaves nothing else."""
    found = rank_correlation([0, 0, 0, 0, 0, 1], [1, 2, 3, 4, 5, 6])
    assert found.ignored == pytest.approx(2000 * ((5 / 6) ** 6 + (1 / 6) ** 6), abs=4 * math.sqrt(2000 * 0.22))
    assert -1 <= found.low <= found.spearman <= found.high <= 1
    assert rank_correlation(*networks(40)).ignored == 0


def test_networks_without_a_number_are_left_out_and_counted():
    values, errors = networks(12)
    whole = rank_correlation(values[2:], errors[2:])
    values[0], errors[0], errors[1] = math.nan, math.nan, math.nan
    found = rank_correlation(values, errors)
    assert (found.n, found.left_out) == (10, 2)
    assert found == dataclasses.replace(whole, left_out=2)


def test_the_seed_decides():
    values, errors = networks(15)
    assert rank_correlation(values, errors) == rank_correlation(list(values), list(errors))
    assert rank_correlation(values, errors).low != rank_correlation(values, errors, seed=1).low


def test_it_is_said_in_words():
    found = RankCorrelation(-0.712, -0.93, -0.216, 0.0114, 12, 1)
    assert str(found) == (
        "rank correlation -0.71 over 12 networks (95% interval -0.93 to -0.22, p = 0.011); "
        "1 left out, without a value or an error"
    )
    three = rank_correlation([1, 2, 3], [3, 2, 1])
    assert (three.low, three.high) == (-1, 1)
    assert str(three) == "rank correlation -1.00 over 3 networks (too few for an interval, p = 0.33)"
    assert "p < 0.001" in str(rank_correlation(range(20), range(20)))


@pytest.mark.parametrize(
    ("values", "errors", "words"),
    [
        ([1, 2], [1, 2], "2 networks"),
        ([1, 2, math.nan, 3], [1, 2, 3, math.nan], "2 networks, 2 more"),
        ([1, 1, 1, 1], [1, 2, 3, 4], "the values of all networks are equal"),
        ([1, 2, 3, 4], [0.1, 0.1, 0.1, math.nan], "the errors of all networks are equal"),
        ([1, 2, 3], [1, 2], r"\(3,\) and \(2,\)"),
        (np.ones((3, 3)), np.ones((3, 3)), "per network"),
        ([1, 2, math.inf], [1, 2, 3], "1 of 3 networks"),
        (["a", "b", "c"], [1, 2, 3], "not all numbers"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_what_is_not_defined_is_said(values, errors, words):
    with pytest.raises(BadInput, match=words):
        rank_correlation(values, errors)


@pytest.mark.parametrize("level", [0, 1, 95, -0.5, math.nan])
def test_the_level_is_a_share(level):
    with pytest.raises(BadOption, match="level"):
        rank_correlation([1, 2, 3], [1, 2, 4], level=level)
