"""Topographic maps: units at their places, coloured on one scale, and what lies between them."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from otoscope.base import BadInput, BadOption
from otoscope.show.figures_topography import topographic_maps

UNITS = 30
GROUPS = ["phone:AE", "phone:S", "symbol:<"]


def layout(units: int = UNITS, silent: tuple[int, ...] = (4,)) -> xr.Dataset:
    rng = np.random.default_rng(1)
    position = rng.uniform(-0.7, 0.7, (2, UNITS + 5, 2))
    position[0, list(silent)] = np.nan
    position[0, units:] = np.nan
    return xr.Dataset(
        {
            "position": (("layer", "unit", "axis"), position),
            "trustworthiness": ("layer", [0.913, np.nan]),
            "units": ("layer", [units, UNITS + 5]),
        },
        coords={"layer": ["conv1", "conv2"], "unit": np.arange(UNITS + 5)},
    )


def answers() -> tuple[xr.DataArray, xr.DataArray]:
    rng = np.random.default_rng(2)
    coords = {"group": GROUPS, "unit": np.arange(UNITS)}
    r = xr.DataArray(rng.standard_normal((3, UNITS)), dims=("group", "unit"), coords=coords)
    count = xr.DataArray([[30, 12], [1873, 900], [1, 1]], dims=("group", "offset"), coords={"group": GROUPS})
    return r, count


@pytest.mark.parametrize("smooth", [True, False])
def test_every_unit_stands_at_its_place_with_its_colour(smooth: bool) -> None:
    r, count = answers()
    plan = layout()
    panels = topographic_maps(plan, r, count, GROUPS[1::-1], layer="conv1", smooth=smooth)
    assert [panel.layout.title.text for panel in panels] == ["/S/", "/AE/"]
    there = [unit for unit in range(UNITS) if unit != 4]
    for panel, group in zip(panels, GROUPS[1::-1], strict=True):
        dots = panel.data[-1]
        np.testing.assert_allclose(np.stack([dots.x, dots.y], 1), plan["position"][0, there], rtol=1e-6)
        np.testing.assert_allclose(dots.marker.color, r.sel(group=group)[there], rtol=1e-6)
        np.testing.assert_array_equal(dots.customdata[:, 0], there)
        assert len(panel.data) == (2 if smooth else 1)
        assert panel.layout.xaxis.title.text == "trustworthiness 0.91"
        assert panel.layout.yaxis.scaleanchor == "x"
    assert panels[0].layout.title.subtitle.text == "N = 1,873 instances, 29 of 30 units"
    assert panels[0].layout.coloraxis == panels[1].layout.coloraxis
    axis = panels[0].layout.coloraxis
    assert axis.cmin == -axis.cmax < 0
    assert "units" in axis.colorbar.title.text


def test_between_units_lies_a_mean_of_those_around() -> None:
    r, count = answers()
    plan = layout(silent=())
    flat = r * 0 + 0.7
    surface = topographic_maps(plan, flat, count, GROUPS[:1], layer="conv1")[0].data[0].z
    seen = np.isfinite(surface)
    np.testing.assert_allclose(surface[seen], 0.7, rtol=1e-6)
    assert 0.1 < seen.mean() < 0.95
    # Two groups of units far apart: each side of the map has its own colour, and between them there is none.
    plan["position"][0, :15] = plan["position"][0, :15].values * 0.3 - 0.6
    plan["position"][0, 15:30] = plan["position"][0, 15:30].values * 0.3 + 0.6
    two = r * 0 + np.where(np.arange(UNITS) < 15, 1.0, -2.0)
    map_ = topographic_maps(plan, two, count, GROUPS[:1], layer="conv1")[0].data[0]
    surface, grid = np.asarray(map_.z), np.asarray(map_.x)
    left, right = surface[:, grid < 0], surface[:, grid > 0]
    np.testing.assert_allclose(left[np.isfinite(left)], 1, rtol=1e-3)
    np.testing.assert_allclose(right[np.isfinite(right)], -2, rtol=1e-3)
    assert np.isnan(surface[:, np.abs(grid) < 0.05]).all()


def test_names_and_odd_layers() -> None:
    r, count = answers()
    assert topographic_maps(layout(), r, count, ["symbol:<"], layer="conv1")[0].layout.title.text == "⟨&lt;⟩"
    wide = xr.DataArray(np.ones((3, UNITS + 5)), dims=("group", "unit"), coords={"group": GROUPS})
    (panel,) = topographic_maps(layout(), wide, count, ["phone:S"], layer="conv2")
    assert panel.layout.xaxis.title.text == "trustworthiness not defined"
    alone = layout(silent=tuple(range(1, UNITS)))
    (panel,) = topographic_maps(alone, r, count, ["phone:S"], layer="conv1")
    assert len(panel.data[-1].x) == 1


def test_what_cannot_be_drawn() -> None:
    r, count = answers()
    with pytest.raises(BadOption, match="layer"):
        topographic_maps(layout(), r, count, GROUPS, layer="conv9")
    with pytest.raises(BadInput, match="other units"):
        topographic_maps(layout(), r, count, GROUPS, layer="conv2")
    with pytest.raises(BadInput, match="no profile of phone:ZZ"):
        topographic_maps(layout(), r, count, ["phone:ZZ"], layer="conv1")
    with pytest.raises(BadInput, match="has a place"):
        topographic_maps(layout(silent=tuple(range(UNITS))), r, count, GROUPS, layer="conv1")
    with pytest.raises(BadInput, match="0 or NaN"):
        topographic_maps(layout(), r * 0, count, GROUPS, layer="conv1")
    with pytest.raises(BadInput, match="lacks position"):
        topographic_maps(layout().drop_vars("position"), r, count, GROUPS, layer="conv1")
