"""HSIC and kernel CKA against the N × N formulae with the centring matrix, and against sklearn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import euclidean_distances, linear_kernel, polynomial_kernel, rbf_kernel

from otoscope.base import BadInput, BadOption
from otoscope.reduce.kernels import chance_cka_rbf, gram, hsic, kernel_cka, prepare_cka_rbf, score_cka_rbf
from otoscope.reduce.similarity import similarity


def layers(seed=0, frames=60, width=12, other=7):
    rng = np.random.default_rng(seed)
    source = rng.normal(size=(frames, 5))
    x = source @ rng.normal(size=(5, width)) + 0.5 * rng.normal(size=(frames, width))
    return x, np.tanh(source @ rng.normal(size=(5, other))) + 0.3 * rng.normal(size=(frames, other))


def rotation(width, seed=1):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(width, width)))[0]


def direct_rbf(x, bandwidth=1.0, sample=None):
    chosen = euclidean_distances(x if sample is None else x[sample])
    s = bandwidth * np.median(chosen[np.triu_indices(len(chosen), 1)])
    return rbf_kernel(x, gamma=1 / (2 * s**2))


def squared(x):
    return polynomial_kernel(np.asarray(x), degree=2, gamma=1, coef0=1)


DIRECT = {"rbf": direct_rbf, "linear": linear_kernel, squared: squared}


def direct_biased(k, m):
    n = len(k)
    h = np.eye(n) - np.ones((n, n)) / n
    return np.trace(k @ h @ m @ h) / (n - 1) ** 2


def direct_unbiased(k, m):
    """Song et al. 2012, term by term."""
    n, one = len(k), np.ones(len(k))
    k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    middle = (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
    return (np.trace(k @ m) + middle - 2 / (n - 2) * (one @ k @ m @ one)) / (n * (n - 3))


ESTIMATES = {"biased": direct_biased, "unbiased": direct_unbiased}


@pytest.mark.parametrize("kernel", DIRECT, ids=str)
def test_gram_is_that_of_sklearn(kernel):
    x, _ = layers()
    np.testing.assert_allclose(gram(x, kernel).numpy(), DIRECT[kernel](x), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(gram(torch.tensor(x), kernel).numpy(), DIRECT[kernel](x), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(gram(x, "rbf", 0.3).numpy(), direct_rbf(x, 0.3), rtol=1e-9, atol=1e-15)
    # An odd number of pairs has one in the middle, an even number two.
    np.testing.assert_allclose(gram(x[:6]).numpy(), direct_rbf(x[:6]), rtol=1e-12)
    np.testing.assert_allclose(gram(x[:5]).numpy(), direct_rbf(x[:5]), rtol=1e-12)


@pytest.mark.parametrize("kernel", DIRECT, ids=str)
@pytest.mark.parametrize("estimator", ESTIMATES)
def test_hsic_and_cka_are_the_formulae(kernel, estimator):
    for seed in range(3):
        x, y = layers(seed)
        k, m = DIRECT[kernel](x), DIRECT[kernel](y)
        estimate = ESTIMATES[estimator]
        assert hsic(x, y, kernel, estimator=estimator) == pytest.approx(estimate(k, m), rel=1e-9)
        expected = estimate(k, m) / math.sqrt(estimate(k, k) * estimate(m, m))
        assert kernel_cka(x, y, kernel, estimator=estimator) == pytest.approx(expected, rel=1e-9)
        p, q = (prepare_cka_rbf(each, kernel=kernel, estimator=estimator) for each in (x, y))
        assert score_cka_rbf(p, q) == pytest.approx(expected, rel=1e-9)
        assert p.gram.shape == (60, 60)
        if kernel == "rbf":
            assert p.self_hsic == pytest.approx(estimate(k, k), rel=1e-9)


def test_linear_cka_is_that_of_running_sums():
    x, y = layers(frames=300)
    assert kernel_cka(x, y, "linear") == pytest.approx(similarity(x, y, "cka"), abs=1e-10)


@pytest.mark.parametrize("kernel", DIRECT, ids=str)
def test_minibatches_are_the_mean_of_the_unbiased_estimator(kernel):
    x, y = layers(frames=63)
    for batch, starts in ((20, [0, 20, 40]), (25, [0, 25, 50]), (4, range(0, 60, 4)), (63, [0]), (900, [0])):
        rows = [slice(start, start + batch) for start in starts]

        def average(k, m, rows=rows):
            return np.mean([direct_unbiased(k[each, each], m[each, each]) for each in rows])

        k, m = DIRECT[kernel](x), DIRECT[kernel](y)
        assert hsic(x, y, kernel, batch=batch) == pytest.approx(average(k, m), rel=1e-9)
        assert hsic(x, y, kernel, batch=batch, estimator="unbiased") == hsic(x, y, kernel, batch=batch)
        expected = average(k, m) / math.sqrt(average(k, k) * average(m, m))
        assert kernel_cka(x, y, kernel, batch=batch) == pytest.approx(expected, rel=1e-9)


def test_the_bandwidth_of_minibatches_is_one_from_a_thousand_frames():
    x, y = layers(frames=1999)
    sample = np.arange(0, 1999, 2)
    k, m = direct_rbf(x, sample=sample), direct_rbf(y, sample=sample)
    rows = [slice(start, start + 500) for start in range(0, 1999, 500)]
    expected = np.mean([direct_unbiased(k[each, each], m[each, each]) for each in rows])
    assert hsic(x, y, batch=500) == pytest.approx(expected, rel=1e-9)


def test_the_unbiased_estimator_is_unbiased_and_the_biased_one_is_not():
    rng = np.random.default_rng(0)
    draws = {"unbiased": [], "biased": [], "batch": []}
    for _ in range(250):
        x, y = rng.normal(size=(16, 3)), rng.normal(size=(16, 2))
        # A fixed bandwidth: one chosen from the data would make the terms depend on each other.
        options = {"kernel": lambda frames: torch.exp(-(torch.cdist(frames, frames) ** 2) / 4)}
        draws["unbiased"].append(hsic(x, y, estimator="unbiased", **options))
        draws["biased"].append(hsic(x, y, **options))
        draws["batch"].append(hsic(x, y, batch=8, **options))
    off = {name: np.mean(each) / (np.std(each) / np.sqrt(len(each))) for name, each in draws.items()}
    assert abs(off["unbiased"]) < 3
    assert abs(off["batch"]) < 3
    assert off["biased"] > 15
    assert min(draws["unbiased"]) < 0 < min(draws["biased"])


@pytest.mark.parametrize("options", [{}, {"estimator": "unbiased"}, {"batch": 50}], ids=str)
def test_frames_that_do_not_belong_together_score_less(options):
    x, y = layers(frames=200)
    shuffled = y[np.random.default_rng(0).permutation(200)]
    for measure in (hsic, kernel_cka):
        assert abs(measure(x, shuffled, **options)) < 0.5 * measure(x, y, **options)
    # Not related in a straight line, and still related.
    rng = np.random.default_rng(1)
    angle = rng.uniform(0, 2 * np.pi, size=(200, 1))
    x, y = np.cos(angle), np.cos(2 * angle)
    assert kernel_cka(x, y, "linear", **options) < 0.05
    assert kernel_cka(x, y, bandwidth=0.4, **options) > 0.2


@pytest.mark.parametrize("options", [{}, {"estimator": "unbiased"}, {"batch": 20}], ids=str)
@pytest.mark.parametrize("kernel", ["rbf", "linear"])
def test_what_leaves_cka_as_it_is(kernel, options):
    x, y = layers()
    value = kernel_cka(x, y, kernel, **options)
    assert kernel_cka(y, x, kernel, **options) == pytest.approx(value, abs=1e-12)
    assert kernel_cka(x, x, kernel, **options) == pytest.approx(1)
    shuffled = np.random.default_rng(2).permutation(12)
    for same in (x[:, shuffled], x @ rotation(12), 1e-20 * x, 1e20 * x, 1e140 * x, x + np.linspace(-3, 3, 12)):
        assert kernel_cka(same, y, kernel, **options) == pytest.approx(value, abs=1e-10)
    assert kernel_cka(1e4 + x, y, kernel, **options) == pytest.approx(value, abs=1e-9)
    assert kernel_cka((1e4 + x).astype(np.float32), y, kernel, **options) == pytest.approx(value, abs=1e-4)
    assert kernel_cka(x * np.geomspace(0.1, 10, 12), y, kernel, **options) != pytest.approx(value, abs=1e-3)


def test_hsic_has_the_scale_of_its_kernel():
    x, y = layers()
    assert hsic(1e20 * x, y, "linear") == pytest.approx(1e40 * hsic(x, y, "linear"), rel=1e-9)
    assert hsic(1e-20 * x, 3 * y, "linear") == pytest.approx(9e-40 * hsic(x, y, "linear"), rel=1e-9)
    assert hsic(1e20 * x, y) == pytest.approx(hsic(x, y), rel=1e-9)
    with pytest.raises(BadInput, match="beyond the largest"):
        hsic(1e100 * x, 1e100 * y, "linear")
    with pytest.raises(BadInput, match="beyond the largest"):
        gram(1e200 * x, "linear")


def test_a_wide_kernel_becomes_the_linear_one():
    """With d much below s, exp(-d^2 / (2 s^2)) - 1 is -d^2 / (2 s^2), which centres to the linear kernel."""
    x, y = layers()
    assert kernel_cka(x, y, bandwidth=1e6) == pytest.approx(kernel_cka(x, y, "linear"), abs=1e-9)


def test_chance_is_the_mean_over_shuffled_frames():
    x, y = layers(frames=20)
    p = prepare_cka_rbf(x)
    rng = np.random.default_rng(0)
    scores = [score_cka_rbf(p, prepare_cka_rbf(y[rng.permutation(20)])) for _ in range(400)]
    chance = chance_cka_rbf(p, prepare_cka_rbf(y))
    assert abs(np.mean(scores) - chance) < 4 * np.std(scores) / np.sqrt(400)
    assert chance > 0.2
    p, q = (prepare_cka_rbf(each, estimator="unbiased") for each in (x, y))
    scores = [score_cka_rbf(p, prepare_cka_rbf(y[rng.permutation(20)], estimator="unbiased")) for _ in range(400)]
    assert abs(np.mean(scores) - chance_cka_rbf(p, q)) < 4 * np.std(scores) / np.sqrt(400)


def test_values_stay_within_their_range():
    for seed in range(60):
        rng = np.random.default_rng(seed)
        frames = int(rng.integers(4, 9))
        x, y = rng.normal(size=(frames, 3)), rng.normal(size=(frames, 2))
        assert 0 <= kernel_cka(x, y) <= 1
        assert -1 <= kernel_cka(x, y, estimator="unbiased") <= 1
        assert kernel_cka(x, 2 * x) <= 1
    assert kernel_cka(x[:2], y[:2]) == pytest.approx(1)

    def indefinite(frames):
        return frames @ torch.diag(torch.tensor([1.0, -3.0], dtype=torch.float64)) @ frames.T

    x = np.outer(np.arange(9.0), [1.0, 0])
    assert kernel_cka(x, x[:, ::-1], indefinite) == pytest.approx(-1)


NARROW = {"bandwidth": 1e-3}


@pytest.mark.parametrize(
    ("x", "options", "words"),
    [
        (np.ones((9, 3)), {}, "'x' has no variance"),
        (np.ones((9, 3)), {"kernel": "linear"}, "'x' has no variance"),
        (np.eye(9)[:1], {}, "at least 2"),
        (np.eye(9)[:3], {"estimator": "unbiased"}, "at least 4"),
        (np.eye(9)[:3], {"batch": 4}, "at least 4"),
        (np.full((9, 3), np.nan), {}, "27 of 27"),
        (np.eye(9)[:8], {}, "8 and 9 frames"),
        (np.eye(9)[[0] * 8 + [1]], {}, "(?s)median distance.* is 0.*linear"),
        (np.arange(18.0).reshape(9, 2), NARROW | {"estimator": "unbiased"}, "(?s)itself is 0.*equally"),
        (np.eye(9), {"estimator": "unbiased"}, "itself is 0"),
        (np.eye(9), {"batch": 4}, "itself is 0"),
        (np.eye(9), {"kernel": lambda x: np.ones((9, 9))}, "itself is 0"),
        (np.eye(9), {"kernel": lambda x: np.zeros((9, 9))}, "itself is 0"),
        (np.eye(9), {"kernel": lambda x: x[:, :3]}, r"(?s)shape \(9, 3\).*shape \(9, 9\)"),
        (np.eye(9), {"kernel": lambda x: x * math.nan}, "81 of 81 values NaN"),
        (np.eye(9), {"kernel": lambda x: x + x.cumsum(0)}, "(?s)mirror.*symmetric"),
        (np.eye(9), {"kernel": lambda x: 1e250 * x @ x.T, "batch": 9}, "beyond the largest"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_what_is_not_defined_is_said(x, options, words):
    y = np.random.default_rng(0).normal(size=(9, 3))
    with pytest.raises(BadInput, match=words):
        kernel_cka(x, y[: len(x)] if "frames" not in words else y, **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kernel": "cosine"}, "unknown kernel"),
        ({"estimator": "debiased"}, "unknown estimator"),
        ({"bandwidth": 0}, "median distance"),
        ({"bandwidth": -1.0}, "median distance"),
        ({"bandwidth": math.nan}, "median distance"),
        ({"batch": 3}, "4 or more"),
        ({"batch": 8.0}, "4 or more"),
        ({"batch": 8, "estimator": "biased"}, "bias"),
    ],
)
def test_options_are_checked(options, words):
    x, y = layers()
    for measure in (hsic, kernel_cka):
        with pytest.raises(BadOption, match=words):
            measure(x, y, **options)


def test_prepared_nodes_must_go_together():
    x, y = layers()
    for measure in (score_cka_rbf, chance_cka_rbf):
        with pytest.raises(BadInput, match="60 and 50 frames"):
            measure(prepare_cka_rbf(x), prepare_cka_rbf(y[:50]))
        with pytest.raises(BadInput, match="biased and unbiased"):
            measure(prepare_cka_rbf(x), prepare_cka_rbf(y, estimator="unbiased"))
    with pytest.raises(BadInput, match="'conv3'"):
        prepare_cka_rbf(np.ones((9, 2)), name="conv3")
    assert kernel_cka(x, y, bandwidth=1e-200) == pytest.approx(1)
