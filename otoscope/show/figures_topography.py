"""Topographic maps: the units of one layer at fixed places, coloured by how they answer to one group after another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from otoscope.base import BadInput, choose
from otoscope.show.reading import amount, chosen_groups, demand, group_name, instances, plot_text
from otoscope.show.style import DIVERGING, SMALL_PX, Panels, blank_figure, colour_axis

SATURATED = 0.01
# Points of the grid along each side of a smooth map.
GRID = 80
# The kernel's width and the reach of the map around its units, in typical distances between neighbours.
WIDTH, REACH = 1.0, 2.5
MARGIN = 0.14
# A map is light on a dark page too: these colours have no twin.
PAPER, RIM = "#f7f7f7", "#8a8a8a"


def topographic_maps(
    layout: xr.Dataset,
    responsiveness: xr.DataArray,
    count: xr.DataArray,
    groups: Sequence[str],
    *,
    layer: str,
    smooth: bool = True,
) -> Panels:
    """The same layer for several groups side by side, all on one colour scale around 0.

    Red units rise for the group, blue ones fall. The scale ends at the 99th percentile of what is shown; a few units
    beyond it saturate.

    Args:
        layout: as of `otoscope.reduce.topography.unit_topography`: `position` `(layer, unit, axis)`, -1 to 1, NaN for
            units without response; `trustworthiness` (0 to 1) and `units` `(layer,)`.
        responsiveness: r of Eq. 1 in this layer, `(group, unit)`, in the units of the activations.
        count: instances, with a dimension `group`; the largest of a group is its N.
        groups: which groups, in this order, such as `["phone:AE", "phone:T"]`.
        layer: which layer of `layout`.
        smooth: colour also what lies between units, by the mean of the units around with Gaussian weights; the units
            stay as small dots. Nothing is drawn far from all units.

    Raises:
        BadInput: an unknown group, a variable or dimension missing, fewer units than the layout has, none with a place.
        BadOption: an unknown layer.
    """
    what = "layout"
    demand(layout, what, ("layer", "unit", "axis"), ("position", "trustworthiness", "units"))
    demand(responsiveness, "responsiveness", ("group", "unit"))
    here = layout.sel(layer=choose("layer", layer, [str(name) for name in layout["layer"].values]))
    units = int(here["units"])
    if responsiveness.sizes["unit"] != units:
        raise BadInput(
            "responsiveness of other units than the layout's",
            got=f"{responsiveness.sizes['unit']} units",
            wanted=f"{units} units of layer {layer}",
        )
    places = here["position"].transpose("unit", "axis").values[:units].astype(float)
    there = np.flatnonzero(np.isfinite(places).all(axis=1))
    if not there.size:
        raise BadInput(f"no unit of layer {layer} has a place", got="NaN throughout", wanted="units that respond")
    places = places[there]
    shown = responsiveness.sel(group=chosen_groups(responsiveness, groups)).transpose("group", "unit")
    values = np.nan_to_num(shown.values.astype(float)[:, there])
    names = shown["unit"].values[there] if "unit" in shown.coords else there
    limit = _limit(values)
    bar = colour_axis(
        DIVERGING,
        -limit,
        limit,
        "responsiveness r (activation units)",
        [-limit, 0, limit],
        [f"≤ −{limit:.2g}", "0", f"≥ {limit:.2g}"],
    )
    of_all = f"{len(there)} of {amount(units, 'unit')}" if len(there) < units else amount(units, "unit")
    kept = float(here["trustworthiness"])
    trust = "trustworthiness " + (f"{kept:.2f}" if np.isfinite(kept) else "not defined")
    grid, weights = _kernel(places) if smooth else (np.zeros(0), np.zeros((0, 0)))
    panels = []
    for group, row in zip(shown["group"].values, values, strict=True):
        name = plot_text(group_name(group))
        figure = blank_figure(
            name,
            f"N = {amount(instances(count, str(group)), 'instance')}, {of_all}",
            height_px=220,
            aspect=1.0,
            narrowest_px=150,
        )
        if smooth:
            between = (weights @ row).reshape(len(grid), len(grid)).astype(np.float32)
            figure.add_trace(
                go.Heatmap(z=between, x=grid, y=grid, coloraxis="coloraxis", hoverinfo="skip", zsmooth=False)
            )
        figure.add_trace(
            go.Scatter(
                x=places[:, 0].astype(np.float32),
                y=places[:, 1].astype(np.float32),
                customdata=np.stack([names.astype(float), row], axis=1),
                mode="markers",
                marker={
                    "color": row.astype(np.float32),
                    "coloraxis": "coloraxis",
                    "size": 3.5 if smooth else _dot_px(len(there)),
                    "line": {"width": 0.5, "color": RIM},
                },
                hovertemplate=f"{name}, unit %{{customdata[0]:.0f}}: r = %{{customdata[1]:.3g}}<extra></extra>",
                showlegend=False,
                cliponaxis=False,
            )
        )
        figure.update_layout(coloraxis=bar, plot_bgcolor=PAPER)
        end = 1 + MARGIN
        shared: dict[str, Any] = {
            "range": [-end, end],
            "showgrid": False,
            "zeroline": False,
            "showticklabels": False,
            "ticks": "",
            "constrain": "domain",
            "showline": False,
        }
        figure.update_xaxes(title={"text": trust, "font": {"size": SMALL_PX}, "standoff": 4}, **shared)
        figure.update_yaxes(scaleanchor="x", scaleratio=1, **shared)
        panels.append(figure)
    return tuple(panels)


def _kernel(places: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """The grid's coordinates along a side, and the units' weights at each of its points; NaN far from all units."""
    grid = np.linspace(-1 - MARGIN, 1 + MARGIN, GRID)
    points = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
    # Units at one and the same place are no measure of distance; nor may a map of few units be all one colour.
    between = cdist(places, places) + np.diag(np.full(len(places), np.inf))
    nearest = between.min(axis=1)
    nearest = nearest[np.isfinite(nearest) & (nearest > 1e-6)]
    typical = float(np.clip(np.median(nearest), 0.03, 0.25)) if nearest.size else 0.25
    far = cdist(points, places)
    # The nearest unit has weight 1, so that no sum is 0.
    logs = -0.5 * (far**2 - far.min(axis=1, keepdims=True) ** 2) / (WIDTH * typical) ** 2
    weights = np.exp(logs)
    weights /= weights.sum(axis=1, keepdims=True)
    weights[far.min(axis=1) > REACH * typical] = np.nan
    return grid.astype(np.float32), weights


def _dot_px(units: int) -> float:
    return float(np.clip(90 / np.sqrt(units), 3.5, 11))


def _limit(values: NDArray[Any]) -> float:
    """The end of the colour scale."""
    sizes = np.abs(values[values != 0])
    if not sizes.size:
        raise BadInput("responsiveness that is 0 or NaN everywhere", wanted="at least one unit that responds")
    return float(f"{np.quantile(sizes, 1 - SATURATED):.2g}")
