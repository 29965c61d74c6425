"""When a curve of similarities has settled, on curves drawn by hand."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from otoscope.reduce.dynamics import converged_from

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
