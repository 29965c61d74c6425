"""Distances and RSA against scipy, and what leaves them as they are."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist, squareform
from scipy.stats import pearsonr, spearmanr

from otoscope.base import BadInput, BadOption
from otoscope.reduce.dissimilarity import DISTANCES, points, prepare_rsa, score_rsa, squared_distances

ANGULAR = ("cosine", "correlation")


def layers(seed=0, frames=60, width=12, other=7):
    rng = np.random.default_rng(seed)
    source = rng.normal(size=(frames, 5)) * np.geomspace(3, 0.3, 5)
    x = source @ rng.normal(size=(5, width)) + rng.normal(size=(frames, width))
    return x, np.tanh(source @ rng.normal(size=(5, other))) + 0.5 * rng.normal(size=(frames, other))


def rotation(width, seed=1):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(width, width)))[0]


def rsa(x, y, **options):
    return score_rsa(prepare_rsa(x, **options), prepare_rsa(y, **options))


@pytest.mark.parametrize("distance", DISTANCES)
def test_distances_are_those_of_scipy(distance):
    x, _ = layers()
    squares, _ = squared_distances(points(x, distance))
    found = squares.sqrt().numpy() if distance == "euclidean" else squares.numpy() / 2
    expected = squareform(pdist(x, distance))
    # Euclidean distances are known up to one factor.
    factor = expected[0, 1] / found[0, 1] if distance == "euclidean" else 1
    np.testing.assert_allclose(found * factor, expected, rtol=1e-11, atol=1e-13)
    assert (np.diag(found) == 0).all()


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize(("comparison", "truth"), [("spearman", spearmanr), ("pearson", pearsonr)])
def test_rsa_is_that_of_scipy(distance, comparison, truth):
    for seed in range(3):
        x, y = layers(seed)
        expected = truth(pdist(x, distance), pdist(y, distance))[0]
        assert rsa(x, y, distance=distance, comparison=comparison) == pytest.approx(expected, abs=1e-10)
        single = rsa(torch.tensor(x), torch.tensor(y), distance=distance, comparison=comparison)
        assert single == rsa(x, y, distance=distance, comparison=comparison)


def test_ties_get_their_average_rank():
    """Labels and repeated frames: most distances are equal, and rounding must not put them in an order."""
    x, _ = layers(frames=80)
    labels = np.eye(6)[np.random.default_rng(3).integers(6, size=80)]
    expected = spearmanr(pdist(x), pdist(labels)).statistic
    for onehot in (labels, labels @ rotation(6), 1e4 + labels):
        assert rsa(x, onehot, distance="euclidean") == pytest.approx(expected, abs=1e-10)
    repeated = np.repeat(x[:20], 4, axis=0)
    expected = spearmanr(pdist(repeated), pdist(labels)).statistic
    assert rsa(repeated @ rotation(12), labels, distance="euclidean") == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("comparison", ["spearman", "pearson"])
@pytest.mark.parametrize("distance", DISTANCES)
def test_what_leaves_it_as_it_is_and_what_does_not(distance, comparison):
    x, y = layers()
    options = {"distance": distance, "comparison": comparison}
    value = rsa(x, y, **options)

    def change(other):
        return abs(rsa(other, y, **options) - value)

    assert rsa(x, x, **options) == pytest.approx(1)
    assert rsa(y, x, **options) == pytest.approx(value, abs=1e-12)
    shuffled = np.random.default_rng(2).permutation(12)
    for same in (x[:, shuffled], 1e-20 * x, 1e20 * x, 1e300 * x):
        assert change(same) < 1e-10
    # An angle is seen from zero, a correlation from the mean over units: moving them is another question.
    assert (change(x + np.linspace(-3, 3, 12)) < 1e-9) == (distance == "euclidean")
    assert (change(x + 5) < 1e-9) == (distance != "cosine")
    assert (change(x @ rotation(12)) < 1e-9) == (distance != "correlation")
    if distance == "euclidean":
        assert change(x + 1e4) < 1e-8
        assert change((x + 1e4).astype(np.float32)) < 0.02


def test_unrelated_nodes_score_about_zero_and_paired_ones_do_not():
    rng = np.random.default_rng(0)
    x, y = layers(frames=200)
    assert abs(rsa(x, rng.normal(size=(200, 8)))) < 0.05
    assert rsa(x, y) > 0.2
    assert abs(rsa(x, y[rng.permutation(200)])) < 0.05


def flat(rows):
    x = layers()[0]
    x[:rows] = np.arange(1, rows + 1)[:, None] * 0.1
    return x


def wobbling(dtype):
    """Constant but for the last bit of one value in 60."""
    x = np.full((60, 60), 1e4, dtype)
    np.fill_diagonal(x, np.nextafter(dtype(1e4), dtype(np.inf)))
    return x


@pytest.mark.parametrize(
    ("x", "distance", "words"),
    [
        (np.ones((9, 3)), "euclidean", "no variance"),
        (np.full((9, 3), 0.1, np.float32), "euclidean", "no variance"),
        (np.full((7, 3), 0.1), "euclidean", "no variance"),
        (wobbling(np.float32), "euclidean", "no variance"),
        (wobbling(np.float64), "euclidean", "no variance"),
        (wobbling(np.float32), "correlation", "60 of 60 frames"),
        (wobbling(np.float32), "cosine", "one direction"),
        (np.ones((2, 3)), "euclidean", "2 frames"),
        (np.ones(9), "euclidean", "shape"),
        (np.ones((9, 0)), "euclidean", "shape"),
        (np.ones((9, 3), complex), "euclidean", "real numbers"),
        (np.array([["a"] * 3] * 9), "euclidean", "real numbers"),
        (torch.ones(9, 3, dtype=torch.complex64), "euclidean", "real numbers"),
        (np.where(np.arange(27).reshape(9, 3) == 13, np.nan, 1), "euclidean", "1 of 27 .* frame 4"),
        (np.arange(9.0)[:, None], "correlation", "1 unit in 9 frames"),
        (flat(3), "correlation", "3 of 60 frames .*same value"),
        (flat(3).astype(np.float32), "correlation", "3 of 60 frames .*same value"),
        (flat(3) * (flat(3) > 0.35), "cosine", "3 of 60 frames that are zero"),
        (np.outer(np.arange(1, 9), [1, 2, 4.4]), "cosine", "one direction"),
        (np.outer(np.arange(1, 9), [1, 2, 4.4]).astype(np.float32), "correlation", "one direction"),
        (np.eye(7), "euclidean", "equally far"),
        (rotation(7), "cosine", "equally far"),
    ],
)
@pytest.mark.parametrize("comparison", ["spearman", "pearson"])
@pytest.mark.filterwarnings("error")
def test_what_is_not_defined_is_said(x, distance, words, comparison):
    with pytest.raises(BadInput, match=rf"(?s){words}") as error:
        prepare_rsa(x, distance=distance, comparison=comparison)
    if distance != "euclidean" and "equally" not in words:
        assert 'distance="euclidean"' in error.value.remedy


def test_other_misuse():
    x, _ = layers()
    with pytest.raises(BadOption, match="unknown distance"):
        prepare_rsa(x, distance="manhattan")
    with pytest.raises(BadOption, match="unknown comparison"):
        prepare_rsa(x, comparison="kendall")
    with pytest.raises(BadInput, match="60 and 50 frames"):
        score_rsa(prepare_rsa(x), prepare_rsa(x[:50]))
    with pytest.raises(BadInput, match="'conv3'"):
        prepare_rsa(np.ones((5, 2)), name="conv3")


def test_whole_numbers_and_half_precision_are_read():
    x, y = layers()
    coarse = np.round(x * 3)
    expected = rsa(coarse, y)
    for each in (coarse.astype(np.int16), torch.tensor(coarse).to(torch.bfloat16), coarse.astype(np.float16)):
        assert rsa(each, y) == pytest.approx(expected, abs=1e-12)
    assert math.isfinite(rsa(x > 0.3, y, distance="euclidean"))
