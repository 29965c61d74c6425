"""When a curve of similarities has settled, on curves drawn by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
import xarray as xr

from otoscope.base import BadInput
from otoscope.reduce import dynamics
from otoscope.reduce.dynamics import bottom_up, bottom_up_with_interval, converged_from, converged_with_interval

SETTLES = [0.2, 0.5, 0.9, 0.96, 0.97, 1.0]
DIPS = [0.2, 0.96, 0.99, 0.90, 0.97, 1.0]
NEVER = [0.1, 0.2, 0.3, 0.4, 0.5, 1.0]
ALWAYS = [0.96, 0.97, 0.98, 0.99, 0.99, 1.0]


def curve(*rows: list[float], epochs: list[int] | None = None) -> xr.DataArray:
    return xr.DataArray(
        np.array([rows]),
        dims=("measure", "layer", "epoch"),
        coords={"measure": ["cka"], "layer": [f"l{i}" for i in range(len(rows))], "epoch": epochs or list(range(6))},
    )


def test_first_epoch_that_stays() -> None:
    found = converged_from(curve(SETTLES, DIPS, NEVER, ALWAYS))
    assert found.dims == ("measure", "layer")
    np.testing.assert_array_equal(found.values, [[3, 4, np.nan, 0]])
    assert list(found["layer"].values) == ["l0", "l1", "l2", "l3"]


def test_epochs_are_labels_not_positions() -> None:
    found = converged_from(curve(SETTLES, DIPS, epochs=[0, 2, 4, 8, 16, 32]))
    np.testing.assert_array_equal(found.values, [[8, 16]])


@pytest.mark.parametrize(("tolerance", "wanted"), [(0.01, np.nan), (0.035, 4), (0.05, 3), (0.11, 2), (0.9, 0)])
def test_tolerance(tolerance: float, wanted: float) -> None:
    np.testing.assert_array_equal(converged_from(curve(SETTLES), tolerance).values, [[wanted]])


def test_epoch_axis_may_stand_anywhere() -> None:
    first = converged_from(curve(SETTLES, DIPS).transpose("epoch", "layer", "measure"))
    np.testing.assert_array_equal(first.sel(measure="cka").values, [3, 4])


def test_a_run_of_one_epoch_says_nothing() -> None:
    assert np.isnan(converged_from(curve([1.0], epochs=[0]))).all()


def test_nan_is_not_the_same() -> None:
    gap = [0.2, 0.96, np.nan, 0.97, 0.99, 1.0]
    np.testing.assert_array_equal(converged_from(curve(gap, [np.nan] * 6)).values, [[3, np.nan]])


def by_layer(*rows: list[float]) -> xr.DataArray:
    return xr.DataArray(
        np.array(rows, float), dims=("measure", "layer"), coords={"measure": list("abcdefgh"[: len(rows)])}
    )


def test_bottom_up_is_spearmans_rho() -> None:
    epochs = np.random.default_rng(0).integers(0, 6, size=(5, 7)).astype(float)
    found = bottom_up(by_layer(*epochs.tolist()))
    assert found.dims == ("measure",)
    np.testing.assert_allclose(found.values, [scipy.stats.spearmanr(range(7), row).statistic for row in epochs])
    np.testing.assert_allclose(bottom_up(by_layer(*epochs.tolist()).T).values, found.values)
    assert "notes" not in found.attrs


@pytest.mark.parametrize(
    ("epochs", "wanted"),
    [
        ([1, 2, 5], 1),
        ([5, 2, 1], -1),
        ([1, 2, np.nan], 1),
        ([np.nan, 2, 1], -1),
        # 1 - 6 sum(d^2) / (n (n^2 - 1)) with d = 1, 1, 0, and with ties the correlation of ranks 1, 2.5, 2.5.
        ([2, 1, 3], 0.5),
        ([1, np.nan, np.nan], 0.75**0.5),
    ],
)
def test_bottom_up_by_hand(epochs: list[float], wanted: float) -> None:
    np.testing.assert_allclose(bottom_up(by_layer(epochs)).values, [wanted])


def test_no_order_has_no_number_but_words() -> None:
    found = bottom_up(by_layer([3, 3, 3], [np.nan] * 3, [1, 2, 3]))
    np.testing.assert_array_equal(found.values, [np.nan, np.nan, 1])
    assert found.attrs["notes"].endswith("all 3 layers settle at the same epoch (2 of 3)")
    assert "one layer" in bottom_up(by_layer([3])).attrs["notes"]


def folds(*values: xr.DataArray) -> xr.DataArray:
    return xr.concat(values, "fold")


def test_interval_of_convergence_by_hand() -> None:
    """Folds settle at 1, 2, 3: the variance is 2/3 (1 + 0 + 1), and t with 2 degrees of freedom at 80 % is 1.8856."""
    rows = [[0.2, *[0.5] * k, *[0.99] * (5 - k)] for k in (0, 1, 2)]
    whole = curve(rows[1])
    found = converged_with_interval(whole, folds(*(curve(row) for row in rows)), confidence=0.8)
    assert found["converged"].item() == 2
    assert found["interval"].dims == ("measure", "layer", "bound")
    reach = (4 / 3) ** 0.5 * 1.8856
    np.testing.assert_allclose(found["interval"].values[0, 0], [max(2 - reach, 0), 2 + reach], atol=1e-4)
    assert list(found["bound"].values) == ["low", "high"]
    wide = converged_with_interval(whole, folds(*(curve(row) for row in rows)), confidence=0.99)
    np.testing.assert_array_equal(wide["interval"].values[0, 0], [0, 5])


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    """On a statistic for which the answer is known: with one utterance a fold, the error of a mean is s / sqrt(K)."""
    rng = np.random.default_rng(3)
    values = rng.normal(size=12)
    left_out = xr.DataArray([np.delete(values, k).mean() for k in range(12)], dims="fold")
    bounds = dynamics._jackknife(xr.DataArray(values.mean()), left_out, 0.95, -9, 9)
    wanted = scipy.stats.t.interval(0.95, 11, values.mean(), scipy.stats.sem(values))
    np.testing.assert_allclose(bounds.values, wanted)


def test_interval_where_folds_do_not_settle() -> None:
    found = converged_with_interval(
        curve(NEVER, SETTLES, SETTLES), folds(curve(NEVER, NEVER, SETTLES), curve(NEVER, SETTLES, SETTLES))
    )
    assert np.isnan(found["converged"].values[0, 0])
    assert np.isnan(found["interval"].values[0, 0]).all()
    # One fold settles at 3, the other counts as the last epoch: too few and too far apart to say.
    np.testing.assert_array_equal(found["interval"].values[0, 1], [0, 5])
    np.testing.assert_array_equal(found["interval"].values[0, 2], [3, 3])


def test_interval_of_bottom_up() -> None:
    whole = curve(ALWAYS, SETTLES, DIPS)
    same = bottom_up_with_interval(whole, folds(whole, whole, whole))
    np.testing.assert_allclose(same["interval"].values, [[1, 1]])
    other = bottom_up_with_interval(whole, folds(whole, curve(SETTLES, ALWAYS, DIPS), curve(DIPS, SETTLES, ALWAYS)))
    assert other["bottom_up"].item() == 1
    np.testing.assert_array_equal(other["interval"].values, [[-1, 1]])
    flat = curve(SETTLES, SETTLES, SETTLES)
    assert np.isnan(bottom_up_with_interval(flat, folds(whole, whole))["interval"]).all()
    assert np.isnan(bottom_up_with_interval(whole, folds(whole, flat))["interval"]).all()


@pytest.mark.parametrize("compute", [converged_with_interval, bottom_up_with_interval])
def test_folds_must_fit(compute: Callable[..., xr.Dataset]) -> None:
    whole = curve(SETTLES)
    for wrong in (whole, folds(whole), folds(curve(SETTLES, DIPS), curve(SETTLES, DIPS))):
        with pytest.raises(BadInput, match="folds"):
            compute(whole, wrong)
