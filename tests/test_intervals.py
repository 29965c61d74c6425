"""The jackknife against the standard error of a mean and against planted truth; re-pairing by hand."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from otoscope.reduce.intervals import jackknife, re_paired


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95])
@pytest.mark.parametrize("count", [2, 5, 30])
def test_for_the_mean_it_is_the_interval_of_the_textbook(count, level):
    values = np.random.default_rng(count).normal(3, 2, size=(count, 4))
    left_out = np.array([np.delete(values, index, axis=0).mean(0) for index in range(count)])
    low, high = jackknife(values.mean(0), left_out, level=level)
    error = scipy.stats.sem(values)
    wanted = scipy.stats.t.interval(level, count - 1, loc=values.mean(0), scale=error)
    np.testing.assert_allclose([low, high], wanted, rtol=1e-10)
    # s / sqrt(n), written down.
    np.testing.assert_allclose(error, values.std(0, ddof=1) / np.sqrt(count), rtol=1e-12)


def test_groups_of_equal_size_give_the_error_of_their_means():
    groups = np.random.default_rng(0).normal(size=(8, 25))
    left_out = [np.delete(groups, index, axis=0).mean() for index in range(8)]
    low, high = jackknife(groups.mean(), left_out)
    wanted = scipy.stats.t.interval(0.95, 7, loc=groups.mean(), scale=scipy.stats.sem(groups.mean(1)))
    np.testing.assert_allclose([low, high], wanted, rtol=1e-10)


def test_it_is_clipped_to_the_range_and_of_the_shape_of_the_value():
    values = np.full((2, 3), 0.9)
    parts = np.stack([values - 0.2, values + 0.2, values])
    low, high = jackknife(values, parts, within=(0.0, 1.0))
    assert low.shape == high.shape == (2, 3)
    assert (high == 1).all()
    assert (low == 0).all()
    free = jackknife(values, parts)
    assert (free[1] > 1).all()
    np.testing.assert_allclose(values - free[0], free[1] - values)


def test_parts_that_agree_leave_no_doubt():
    low, high = jackknife(0.3, [0.3] * 10)
    assert (low, high) == pytest.approx((0.3, 0.3), abs=1e-12)


def correlation(sums):
    """Of pooled frames, from `(…, 6)`: n, Σx, Σy, Σx², Σy², Σxy."""
    n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    return (xy - x * y / n) / np.sqrt((xx - x**2 / n) * (yy - y**2 / n))


def leave_out(sums, folds):
    """`sums (part, 6)` dealt into folds by turns; the correlation without each."""
    parts = np.array([sums[fold::folds].sum(0) for fold in range(folds)])
    return correlation(parts.sum(0) - parts)


def test_the_interval_holds_the_true_value_where_utterances_hang_together():
    """Two units that share 0.6 of their variance, most of it the same through an utterance of 5 to 40 frames."""
    rng = np.random.default_rng(0)
    trials, utterances, true = 200, 60, 0.6
    held, held_by_frames = 0, 0
    for _ in range(trials):
        lengths = rng.integers(5, 41, utterances)
        slow, fast = rng.normal(size=(3, utterances)).repeat(lengths, 1), rng.normal(size=(3, lengths.sum()))
        common, own_x, own_y = np.sqrt(0.7) * slow + np.sqrt(0.3) * fast
        x, y = (np.sqrt(true) * common + np.sqrt(1 - true) * own for own in (own_x, own_y))
        frames = np.stack([np.ones(len(x)), x, y, x * x, y * y, x * y], axis=1)
        value = correlation(frames.sum(0))
        by_utterance = np.add.reduceat(frames, np.cumsum(lengths) - lengths)
        low, high = jackknife(value, leave_out(by_utterance, 20))
        held += low <= true <= high
        low, high = jackknife(value, leave_out(frames, 20))
        held_by_frames += low <= true <= high
    assert 0.9 * trials <= held <= 0.99 * trials
    # Frames taken for independent, which they are not, give intervals that are far too narrow.
    assert held_by_frames < 0.7 * trials


@pytest.mark.parametrize(
    ("lengths", "shift", "first", "second", "shared"),
    [
        ([2, 2], 1, [0, 1, 2, 3], [2, 3, 0, 1], [2, 2]),
        ([1, 3, 2], 1, [0, 1, 2, 4], [1, 4, 5, 0], [1, 2, 1]),
        ([1, 3, 2], 2, [0, 1, 4, 5], [4, 0, 1, 2], [1, 1, 2]),
        ([1, 3, 2], 4, [0, 1, 2, 4], [1, 4, 5, 0], [1, 2, 1]),
        ([2, 0, 1], 1, [3 - 1], [0], [0, 0, 1]),
        ([0, 0], 1, [], [], [0, 0]),
        ([3], 1, [], [], []),
        ([1, 3, 2], 3, [], [], []),
        ([1, 3, 2], 0, [], [], []),
        ([], 1, [], [], []),
    ],
)
def test_utterances_are_re_paired_frame_by_frame(lengths, shift, first, second, shared):
    rows, partners, counts = re_paired(lengths, shift)
    assert (rows.tolist(), partners.tolist(), counts) == (first, second, shared)
