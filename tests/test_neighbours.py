"""Mutual nearest neighbours against sklearn, counting by hand, and planted ties."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from otoscope.base import BadInput, BadOption
from otoscope.reduce import neighbours
from otoscope.reduce.neighbours import knn_chance, prepare_knn, score_knn


def layers(seed=0, frames=120, width=10):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(frames, width))
    return x, x[:, :6] + 0.5 * rng.normal(size=(frames, 6))


def rotation(width, seed=1):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(width, width)))[0]


def knn(x, y, **options):
    return score_knn(prepare_knn(x, **options), prepare_knn(y, **options))


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@pytest.mark.parametrize("k", [1, 7, 119])
def test_neighbours_are_those_of_sklearn(distance, k, monkeypatch):
    x, y = layers()
    # Several blocks of frames, the last one short.
    monkeypatch.setattr(neighbours, "BLOCK_PAIRS", 120 * 50)
    expected = [NearestNeighbors(n_neighbors=k, metric=distance).fit(each).kneighbors()[1] for each in (x, y)]
    found = [prepare_knn(each, k=k, distance=distance) for each in (x, y)]
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine.numpy(), theirs)
    by_hand = np.mean([len({*a} & {*b}) / k for a, b in zip(*expected, strict=True)])
    assert score_knn(*found) == pytest.approx(by_hand, abs=1e-12)
    assert torch.equal(prepare_knn(torch.tensor(x), k=k, distance=distance), found[0])


def test_ties_go_to_the_lower_index():
    """Frames on a line, at equal distances; a rotation and an offset must not show in the order."""
    line = np.outer(np.arange(8.0), np.ones(5))
    expected = [[1, 2], [0, 2], [1, 3], [2, 4], [3, 5], [4, 6], [5, 7], [6, 5]]
    for each in (line, 0.1 * line @ rotation(5), 1e4 + line, 1e-20 * (1e4 + line)):
        assert prepare_knn(each, k=2).tolist() == expected
    onehot = np.eye(4)[[0, 1, 2, 3, 0]]
    for each in (onehot, onehot @ rotation(4), 1e4 + onehot):
        assert prepare_knn(each, k=2).tolist() == [[4, 1], [0, 2], [0, 1], [0, 1], [0, 1]]


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_copies_of_a_frame_are_its_nearest_the_first_ones_first(distance):
    x, _ = layers(frames=40)
    repeated = np.tile(x, (5, 1)) @ rotation(10)
    found = prepare_knn(repeated, k=3, distance=distance)
    for frame in range(200):
        copies = [other for other in range(frame % 40, 200, 40) if other != frame]
        assert found[frame].tolist() == copies[:3]
    assert knn(repeated, np.tile(x, (5, 1)), k=3, distance=distance) == 1


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_what_leaves_it_as_it_is_and_what_does_not(distance):
    x, y = layers()
    value = knn(x, y, distance=distance)
    assert 0.1 < value < 0.9
    assert knn(y, x, distance=distance) == value
    assert knn(x, x, distance=distance) == 1
    shuffled = np.random.default_rng(2).permutation(10)
    for same in (x[:, shuffled], x @ rotation(10), 1e-20 * x, 1e20 * x, 1e300 * x):
        assert knn(same, x, distance=distance) == 1
        assert knn(same, y, distance=distance) == value
    moved = x + np.linspace(-3, 3, 10)
    assert (knn(moved, x, distance=distance) == 1) == (distance == "euclidean")
    assert knn(1e4 + x, x) == 1


def test_chance_is_what_unrelated_nodes_score():
    rng = np.random.default_rng(0)
    scores = [knn(rng.normal(size=(60, 5)), rng.normal(size=(60, 8)), k=10) for _ in range(60)]
    error = np.std(scores) / np.sqrt(len(scores))
    assert abs(np.mean(scores) - knn_chance(60, 10)) < 4 * error
    assert knn_chance(11, 10) == 1 == knn(*layers(frames=11), k=10)
    x, y = layers(frames=400)
    assert knn(x, y[rng.permutation(400)]) < 0.06 < 0.15 < knn(x, y)


@pytest.mark.parametrize(
    ("x", "options", "words"),
    [
        (layers(frames=10)[0], {}, "(?s)too few frames for 10 .*got: +10 frames"),
        (np.ones((20, 3)), {}, "'x' has no variance"),
        (np.eye(20)[:, :3], {"distance": "cosine"}, "(?s)cosine distance.*17 of 20 frames that are zero"),
        (np.outer(np.arange(1, 20), [1, 2.2]), {"distance": "cosine"}, "one direction"),
        (np.full((20, 3), np.inf), {}, "60 of 60 values"),
        (layers()[0], {"name": "conv3", "k": 120}, "'conv3' has too few"),
    ],
)
def test_what_is_not_defined_is_said(x, options, words):
    with pytest.raises(BadInput, match=words):
        prepare_knn(x, **options)


def test_other_misuse():
    x, _ = layers()
    for k in (0, -1, 2.0, True):
        with pytest.raises(BadOption, match="number of neighbours"):
            prepare_knn(x, k=k)
    with pytest.raises(BadOption, match="unknown distance"):
        prepare_knn(x, distance="correlation")
    with pytest.raises(BadInput, match="120 and 100 frames"):
        score_knn(prepare_knn(x), prepare_knn(x[:100]))
    with pytest.raises(BadInput, match="10 and 5 neighbours"):
        score_knn(prepare_knn(x), prepare_knn(x, k=5))
    with pytest.raises(BadInput, match="there are too few frames"):
        knn_chance(10, 10)
