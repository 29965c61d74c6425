"""Intervals and tests against known distributions, other libraries and planted truths."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from otoscope.base import BadInput, BadOption
from otoscope.learn.score import count
from otoscope.learn.score_files import ScoredUtterance, Scores
from otoscope.learn.significance import (
    bootstrap_interval,
    compare_scores,
    error_segments,
    matched_pairs,
    paired_bootstrap,
    score_interval,
)
from otoscope.learn.word_alignment import align_words


def test_one_word_each_gives_the_binomial_distribution():
    """Errors of 0 or 1 in utterances of a word: a draw has a binomial number of them."""
    errors = np.r_[np.ones(60), np.zeros(140)]
    found = bootstrap_interval(errors, np.ones(200), level=0.9, samples=20_000, seed=1)
    assert (found.value, found.units) == (30, 200)
    low, high = scipy.stats.binom.ppf([0.05, 0.95], 200, 0.3) / 2
    assert found.low == pytest.approx(low, abs=0.5)
    assert found.high == pytest.approx(high, abs=0.5)
    assert found == bootstrap_interval(errors, np.ones(200), level=0.9, samples=20_000, seed=1)
    assert found != bootstrap_interval(errors, np.ones(200), level=0.9, samples=20_000, seed=2)


def test_intervals_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(0)
    held = 0
    for trial in range(300):
        words = rng.integers(1, 30, 80)
        # Utterances differ in how hard they are; of all words 0.2 are wrong.
        errors = rng.binomial(words, rng.beta(2, 8, 80))
        found = bootstrap_interval(errors, words, samples=400, seed=trial)
        held += found.low <= 20 <= found.high
    # 0.95 and three standard errors of 300 trials, with what a percentile interval lacks of 80 utterances.
    assert 0.90 <= held / 300 <= 0.985


def test_speakers_are_drawn_whole():
    rng = np.random.default_rng(1)
    words = np.full(100, 20)
    rates = np.repeat(rng.uniform(0.05, 0.6, 10), 10)
    errors = rng.binomial(words, rates)
    speakers = [f"s{index // 10}" for index in range(100)]
    by_utterance = bootstrap_interval(errors, words, seed=0)
    by_speaker = bootstrap_interval(errors, words, units=speakers, seed=0)
    assert by_speaker.units == 10
    assert by_speaker.value == by_utterance.value
    # Ten alike utterances of a speaker say little more than one.
    assert by_speaker.high - by_speaker.low > 1.8 * (by_utterance.high - by_utterance.low)
    sums = bootstrap_interval(errors.reshape(10, 10).sum(1), np.full(10, 200), seed=0)
    assert by_speaker == sums


def test_pairs_share_what_makes_an_utterance_hard():
    rng = np.random.default_rng(2)
    words = rng.integers(5, 40, 200)
    hard = rng.beta(1, 4, 200)
    first = rng.binomial(words, hard)
    second = np.minimum(words, first + rng.binomial(3, 0.1, 200))
    found = paired_bootstrap(first, second, words, seed=0)
    assert found.value == pytest.approx(100 * (second.sum() - first.sum()) / words.sum())
    assert found.low < found.value < found.high
    assert found.better == 0
    assert found.p == pytest.approx(1 / found.samples)
    alone = [bootstrap_interval(errors, words, seed=0) for errors in (first, second)]
    # Each interval alone holds the other's rate.
    assert alone[0].low < alone[1].value < alone[0].high
    back = paired_bootstrap(second, first, words, seed=0)
    assert (back.value, back.better) == (-found.value, 1)


def test_systems_that_do_not_differ_are_found_to_differ_as_rarely_as_allowed():
    rng = np.random.default_rng(3)
    bootstrap = matched = 0
    for trial in range(300):
        words = rng.integers(1, 30, 100)
        hard = rng.beta(2, 8, 100)
        first, second = rng.binomial(words, hard), rng.binomial(words, hard)
        bootstrap += paired_bootstrap(first, second, words, samples=400, seed=trial).p < 0.05
        matched += matched_pairs(first, second).p < 0.05
    assert 0.015 <= bootstrap / 300 <= 0.095
    assert 0.015 <= matched / 300 <= 0.09


def test_a_difference_of_references_counts():
    """Where alternatives of the reference differ, each system has its own words."""
    found = paired_bootstrap([1, 1], [1, 1], [10, 10], [20, 20], samples=100)
    assert (found.value, found.low, found.high, found.better) == (-5, -5, -5, 1)
    same = paired_bootstrap([1, 2], [1, 2], [10, 10], samples=100)
    assert (same.value, same.better, same.p) == (0, 0.5, 1)


def test_matched_pairs_is_the_paired_t_statistic():
    rng = np.random.default_rng(4)
    first, second = rng.poisson(2, 150), rng.poisson(2.4, 150)
    found = matched_pairs(first, second)
    assert found.z == pytest.approx(scipy.stats.ttest_rel(first, second).statistic)
    assert found.p == pytest.approx(2 * scipy.stats.norm.cdf(-abs(found.z)))
    assert (found.segments, found.mean) == (150, pytest.approx((first - second).mean()))
    assert matched_pairs([1, 1], [1, 1])[3:] == (0, 1)
    assert matched_pairs([1, 1], [0, 0])[3:] == (math.inf, 0)
    assert math.isnan(matched_pairs([1], [0]).p)
    assert matched_pairs([], []).segments == 0


def segments(reference: str, first: str, second: str) -> list[tuple[int, int]]:
    pairs = [align_words(reference.split(), text.split()) for text in (first, second)]
    return error_segments(*pairs)


@pytest.mark.parametrize(
    ("first", "second", "wanted"),
    [
        ("a b c d e f g h", "a b c d e f g h", []),
        ("x b c d e f g h", "a b c d e f g h", [(1, 0)]),
        # Two right words between: two stretches. One: a single one.
        ("x b c y e f g h", "a b c d e f g h", [(1, 0), (1, 0)]),
        ("x b y d e f g h", "a b c d e f g h", [(2, 0)]),
        # Right in both: `c` alone is.
        ("a x c d e f g h", "a b c y e f g h", [(1, 1)]),
        ("a x c d e f g h", "a b c d y f g h", [(1, 0), (0, 1)]),
        # An insertion stands in the gap before `d`.
        ("a b c x d e f g h", "a b c d e f g", [(1, 0), (0, 1)]),
        ("x y a b c d e f g h", "a b c d e f g h z", [(2, 0), (0, 1)]),
        ("", "a b c d e f g h", [(8, 0)]),
    ],
)
def test_stretches_by_hand(first, second, wanted):
    assert segments("a b c d e f g h", first, second) == wanted


def test_other_alternatives_make_one_stretch():
    first, second = align_words(["a", "b", "c"], ["a", "x", "c"]), align_words(["a", "d", "c"], ["y", "d"])
    assert error_segments(first, second) == [(1, 2)]
    assert error_segments(align_words(["a"], ["a"]), align_words(["b"], ["b"])) == []


def scored(hypotheses: dict[str, str], reference: str = "a b c d e f") -> Scores:
    utterances = []
    for id, hypothesis in hypotheses.items():
        pairs = tuple(align_words(reference.split(), hypothesis.split()))
        utterances.append(ScoredUtterance(id, id[0], (), count(pairs), pairs))
    return Scores(tuple(utterances))


def test_two_systems_on_what_both_have():
    first = scored({"a1": "a b c d e f", "a2": "x b c d e f", "b1": "a b c d e", "b2": "a"})
    second = scored({"b1": "a b c d e f", "a2": "x y c d e f", "a1": "a b c d e f", "c1": ""})
    found = compare_scores(first, second, samples=200)
    assert (found.utterances, found.left_out) == (3, 2)
    assert found.difference.value == pytest.approx(0)
    assert (found.matched_pairs.segments, found.matched_pairs.mean) == (2, 0)
    assert compare_scores(first, second, samples=200, by_speaker=True).difference.units == 2
    with pytest.raises(BadInput, match="no utterance in common"):
        compare_scores(first, scored({"d1": "a"}))
    assert score_interval(first, samples=200).value == pytest.approx(100 * 7 / 24)
    assert score_interval(first, samples=200, by_speaker=True).units == 2


def test_what_says_nothing_is_refused():
    with pytest.raises(BadInput, match="something to draw from"):
        bootstrap_interval([1], [5])
    with pytest.raises(BadInput, match="something to draw from"):
        bootstrap_interval([1, 2], [5, 5], units=["s", "s"])
    with pytest.raises(BadInput, match="reference words"):
        bootstrap_interval([1, 2], [0, 0])
    for options in ({"level": 1.0}, {"level": 0.0}, {"samples": 99}):
        with pytest.raises(BadOption):
            paired_bootstrap([1, 2], [1, 2], [5, 5], **options)
    # An utterance without words is drawn with the others; a draw of nothing else has no rate.
    assert bootstrap_interval([0, 1], [0, 4], samples=200).value == 25
