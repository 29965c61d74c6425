"""Measures against the formulae of their papers, other libraries and planted answers; one table of their properties."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import pytest
from direct_measures import DIRECT, centred, layers
from sklearn.cross_decomposition import CCA
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score
from statsmodels.multivariate.cancorr import CanCorr

from otoscope.base import BadInput
from otoscope.reduce.measures import MEASURES
from otoscope.reduce.similarity import RankWarning, similarity, similarity_matrix


@pytest.fixture
def silent():
    """Few frames are meant here, or dead units."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RankWarning)
        yield


# What a measure needs at least: frames, and units of each node.
LEAST = dict.fromkeys(MEASURES, (2, 1)) | {"cka_debiased": (4, 1), "knn": (11, 1), "rsa": (3, 3)}
# The angle of a cosine near 1 is only as exact as the root of its rounding.
EXACT = dict.fromkeys(MEASURES, 1e-09) | {"angular": 1e-7}


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(("width", "other"), [(12, 7), (5, 5), (1, 9), (1, 1), (40, 30)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_the_streamed_measure_is_the_direct_formula(measure, width, other, dtype, silent):
    for seed in range(2):
        x, y = (a.astype(dtype) for a in layers(seed, frames=300, width=width, other=other))
        if min(width, other) < LEAST[measure][1]:
            with pytest.raises(BadInput, match="is not defined"):
                similarity(x, y, measure)
        else:
            assert similarity(x, y, measure) == pytest.approx(DIRECT[measure](x, y), abs=EXACT[measure])


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("frames", [3, 12, 20])
def test_it_is_the_direct_formula_with_as_few_frames_as_units(measure, frames, silent):
    x, y = layers(frames=frames, width=30, other=4)
    if frames < LEAST[measure][0]:
        with pytest.raises(BadInput, match=r"frames|neighbours"):
            similarity(x, y, measure)
    else:
        assert similarity(x, y, measure) == pytest.approx(DIRECT[measure](x, y), abs=EXACT[measure])


def test_cca_agrees_with_sklearn():
    x, y = layers(frames=400, width=6, other=4)
    fitted = CCA(n_components=4, scale=False, max_iter=20_000, tol=1e-14).fit(x, y)
    found = [np.corrcoef(p, q)[0, 1] for p, q in zip(*(t.T for t in fitted.transform(x, y)), strict=True)]
    assert similarity(x, y, "cca") == pytest.approx(np.mean(found), abs=1e-6)


def planted(rhos, frames=500, extra=3, seed=0):
    """x and y whose canonical correlations are exactly `rhos` and zeros, in bases that hide it."""
    rng = np.random.default_rng(seed)
    rhos = np.array(rhos)
    count = len(rhos)
    q = np.linalg.qr(centred(rng.normal(size=(frames, 2 * count + extra))))[0]
    x = np.hstack([q[:, :count], q[:, 2 * count :]])
    y = q[:, :count] * rhos + q[:, count : 2 * count] * np.sqrt(1 - rhos**2)
    return x @ rng.normal(size=(count + extra, count + extra)), y @ rng.normal(size=(count, count)) + 5


@pytest.mark.parametrize("rhos", [[1.0, 0.5, 0.0], [0.9], [0.3, 0.2, 0.1, 0.05], [0.0, 0.0]])
def test_planted_canonical_correlations_are_found(rhos):
    x, y = planted(rhos)
    assert similarity(x, y, "cca") == pytest.approx(np.mean(rhos), abs=1e-9)
    assert similarity(x, y, "svcca", threshold=1.0) == pytest.approx(np.mean(rhos), abs=1e-9)


def test_cka_of_one_unit_each_is_the_squared_correlation():
    x, y = (a[:, :1] for a in layers())
    assert similarity(x, y, "cka") == pytest.approx(np.corrcoef(x[:, 0], y[:, 0])[0, 1] ** 2, abs=1e-12)


def test_svcca_keeps_the_fewest_directions_that_hold_the_share():
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(centred(rng.normal(size=(300, 4))))[0]
    x = basis * np.sqrt([70, 20, 9, 1])
    for threshold, kept in [(0.5, 1), (0.7, 1), (0.701, 2), (0.9, 2), (0.95, 3), (0.99, 3), (0.9901, 4), (1.0, 4)]:
        rotated = x @ np.linalg.qr(rng.normal(size=(4, 4)))[0]
        assert similarity_matrix(rotated, measures=["svcca"], threshold=threshold).kept.item() == kept


def test_svcca_ignores_faint_directions_and_cca_does_not():
    rng = np.random.default_rng(0)
    source = rng.normal(size=(2000, 5))
    x, y = (np.hstack([source, 1e-3 * rng.normal(size=(2000, 5))]) for _ in range(2))
    assert similarity(x, y, "svcca") == pytest.approx(1, abs=1e-6)
    assert similarity(x, y, "cca") == pytest.approx(0.5, abs=0.05)


# Properties. A map takes (x, rng) to another x; a measure is unchanged by it or moves by at least 0.00001.


def orthogonal(x, rng):
    return x @ np.linalg.qr(rng.normal(size=(x.shape[1],) * 2))[0]


MAPS = {
    "permutation": lambda x, rng: x[:, rng.permutation(x.shape[1])],
    "orthogonal": orthogonal,
    "isotropic scaling": lambda x, rng: -37.0 * x,
    "translation": lambda x, rng: x + 100 * rng.normal(size=x.shape[1]),
    "order of the frames, in both": None,
    "a dead unit beside": lambda x, rng: np.hstack([x, np.full((len(x), 1), 3.0)]),
    "a scale for each unit": lambda x, rng: x * np.geomspace(0.01, 100, x.shape[1]),
    "invertible linear": lambda x, rng: orthogonal(orthogonal(x, rng) * np.geomspace(0.1, 10, x.shape[1]), rng),
    "a noisy unit beside": lambda x, rng: np.hstack([x, 20 * rng.normal(size=(len(x), 1))]),
    "shuffled frames": lambda x, rng: rng.permutation(x),
}
ROTATIONS = {"permutation", "orthogonal", "isotropic scaling", "translation", "order of the frames, in both"}


class Properties(NamedTuple):
    symmetric: bool
    bounds: tuple[float, float]
    unchanged: set[str]


WITH_DEAD = ROTATIONS | {"a dead unit beside"}
LINEAR = WITH_DEAD | {"a scale for each unit", "invertible linear"}
PROPERTIES = {
    "cca": Properties(True, (0, 1), LINEAR),
    "cca_r2": Properties(True, (0, 1), LINEAR),
    "svcca": Properties(True, (0, 1), WITH_DEAD),
    # Weights are sums of absolute values over units, which a rotation changes.
    "pwcca": Properties(False, (0, 1), WITH_DEAD - {"orthogonal"}),
    "cka": Properties(True, (0, 1), WITH_DEAD),
    "cka_debiased": Properties(True, (-1, 1), WITH_DEAD),
    "cka_rbf": Properties(True, (-1, 1), WITH_DEAD),
    "procrustes": Properties(True, (0, 1), WITH_DEAD),
    "angular": Properties(True, (0, 1), WITH_DEAD),
    # Of the node that predicts; what is predicted may only be rotated (below).
    "r2": Properties(False, (0, 1), LINEAR),
    "knn": Properties(True, (0, 1), WITH_DEAD),
    # The correlation of two frames over the units is another one in another basis or from another origin.
    "rsa": Properties(True, (-1, 1), {"permutation", "isotropic scaling", "order of the frames, in both"}),
}


def test_no_measure_is_missing_from_the_table_of_properties():
    assert set(PROPERTIES) == set(MEASURES) == set(DIRECT)
    for measure, properties in PROPERTIES.items():
        assert (properties.bounds, properties.symmetric) == (MEASURES[measure].range, MEASURES[measure].symmetric)
        assert properties.unchanged <= set(MAPS)


@pytest.mark.parametrize("map_name", MAPS)
@pytest.mark.parametrize("measure", MEASURES)
def test_invariance_is_as_the_table_says(measure, map_name, silent):
    rng = np.random.default_rng(5)
    x, y = layers(5, frames=600, width=9, other=12)
    before = similarity(x, y, measure)
    if map_name == "order of the frames, in both":
        order = rng.permutation(len(x))
        after = similarity(x[order], y[order], measure)
    else:
        after = similarity(MAPS[map_name](x, rng), y, measure)
    if map_name in PROPERTIES[measure].unchanged:
        assert after == pytest.approx(before, abs=EXACT[measure])
    else:
        assert abs(after - before) > 1e-5


@pytest.mark.parametrize("measure", MEASURES)
def test_symmetry_bounds_and_identity_are_as_the_table_says(measure, silent):
    properties = PROPERTIES[measure]
    low, high = properties.bounds
    symmetric = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        width, other, frames = (int(rng.integers(least, 30)) for least in (*[LEAST[measure][1]] * 2, 25))
        x, y = layers(seed, frames=frames, width=width, other=other)
        value = similarity(x, y, measure)
        assert low <= value <= high
        assert type(value) is float
        symmetric.append(abs(similarity(y, x, measure) - value) < EXACT[measure])
        assert similarity(x, x.copy(), measure) == pytest.approx(1, abs=EXACT[measure])
        assert low <= similarity(x, orthogonal(x, rng), measure) <= high
    assert all(symmetric) == properties.symmetric


def test_what_is_predicted_may_be_rotated_and_not_more():
    x, y = layers()
    rng = np.random.default_rng(0)
    assert similarity(x, orthogonal(y, rng), "r2") == pytest.approx(similarity(x, y, "r2"), abs=1e-9)
    assert abs(similarity(x, MAPS["invertible linear"](y, rng), "r2") - similarity(x, y, "r2")) > 0.001
    assert similarity(x, y, "r2", predict="x") == pytest.approx(similarity(y, x, "r2"), abs=1e-12)


def test_both_weightings_of_pwcca():
    x, y = layers()
    first, second = similarity(x, y, "pwcca"), similarity(y, x, "pwcca")
    assert abs(first - second) > 1e-4
    assert similarity(x, y, "pwcca", weighting="y") == pytest.approx(second, abs=1e-12)
    assert similarity(x, y, "pwcca", weighting="mean") == pytest.approx((first + second) / 2, abs=1e-12)


@pytest.mark.parametrize("rhos", [[1.0, 0.5, 0.0], [0.9], [0.3, 0.2, 0.1, 0.05]])
def test_planted_correlations_give_every_measure_of_the_family(rhos):
    x, y = planted(rhos)
    assert similarity(x, y, "cca_r2") == pytest.approx(np.mean(np.square(rhos)), abs=1e-9)
    # x of equal weight in every direction: its canonical directions weigh by their L1 norms, whatever they are.
    assert similarity(y, y[:, ::-1], "pwcca") == pytest.approx(1, abs=1e-9)


def test_cca_agrees_with_statsmodels():
    x, y = layers(frames=400, width=6, other=4)
    found = CanCorr(x, y).cancorr
    assert similarity(x, y, "cca") == pytest.approx(found.mean(), abs=1e-9)
    assert similarity(x, y, "cca_r2") == pytest.approx((found**2).mean(), abs=1e-9)


def test_r2_agrees_with_sklearn():
    x, y = layers()
    fitted = LinearRegression().fit(x, y)
    wanted = r2_score(y, fitted.predict(x), multioutput="variance_weighted")
    assert similarity(x, y, "r2") == pytest.approx(wanted, abs=1e-10)


def test_debiased_cka_of_unrelated_nodes_is_0_and_biased_is_not():
    rng = np.random.default_rng(0)
    draws = [(rng.normal(size=(60, 40)), rng.normal(size=(60, 40))) for _ in range(100)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RankWarning)
        found = np.array([[similarity(x, y, m) for m in ("cka_debiased", "cka")] for x, y in draws])
    mean, error = found.mean(0), found.std(0) / np.sqrt(len(draws))
    assert abs(mean[0]) < 4 * error[0]
    assert mean[1] > 0.3
