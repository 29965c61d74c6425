"""Figures of profiles: what a sound looks like to the input layer, which neurons answer to it and when.

The figures take the arrays that `otoscope.reduce.profiles` reads out: dimensions `(group, unit, offset)`, with `time`
(seconds, 0 at the alignment) along `offset`, and in the input layer `frequency` (Hz) along `unit`. In NAPs an offset is
a rank, the largest activation first: its unit is "ranks", and no time is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from numpy.typing import NDArray

from otoscope.base import BadInput, BadOption
from otoscope.show.reading import (
    amount,
    chosen_groups,
    demand,
    group_name,
    hertz_ticks,
    instances,
    plot_text,
    three_ticks,
)
from otoscope.show.style import (
    CATEGORIES,
    CROWD,
    DIVERGING,
    INK,
    SMALL_PX,
    Panels,
    blank_figure,
    colour_axis,
)

HELD = 0.99
SATURATED = 0.005
TITLE_PX = 12
# A map is light on a dark page too: this colour has no twin.
ON_MAP = "#202020"


class Along(NamedTuple):
    """The axis along the offsets."""

    places: NDArray[Any]
    """`(offset,)`, those that are shown."""
    shown: NDArray[Any]
    """`(offset,)` of the profile, bool."""
    title: str
    ticks: list[float]
    ends: list[float]
    unit: str
    """What stands behind a place, `%{x} ms`."""
    aligned: bool
    """Whether 0 is the moment of alignment."""


def gradnap_heatmaps(
    profile: xr.DataArray, count: xr.DataArray, groups: Sequence[str], *, within_s: float | None = None
) -> Panels:
    """Input-layer GradNAPs of several groups: a heatmap each, one colour scale around 0 (Krug et al. 2020, Figure 2).

    Args:
        profile: `(group, unit, offset)` of the input layer, coordinates `frequency` (Hz) and `time` (seconds); NaN
            where no instance reached. Offsets in ranks make a NAP; the attribute `method` is what it is called.
        count: instances, with a dimension `group`; the largest of a group is its N.
        groups: which groups, in this order, such as `["phone:AE", "phone:T"]`.
        within_s: show this much time on either side of the alignment. Left out, the least that holds 99 % of the
            profiles' absolute values: what lies outside is close to 0. Of ranks all are shown.

    Raises:
        BadInput: an unknown group, a dimension or coordinate missing, nothing but NaN.
        BadOption: `within_s` that is not positive, or where there is no time.
    """
    demand(profile, "profile", ("group", "unit", "offset"))
    _demand_coordinates(profile, ("frequency", "time"))
    shown = profile.sel(group=chosen_groups(profile, groups)).transpose("group", "unit", "offset")
    along = _along(shown, within_s)
    method = str(profile.attrs.get("method", "GradNAP"))
    values = shown.values[:, :, along.shown].astype(np.float32)
    limit = _limit(values)
    frequency = shown["frequency"].values.astype(float)
    rows, hertz = hertz_ticks(frequency)
    bar = colour_axis(
        DIVERGING,
        -limit,
        limit,
        f"{method} (sd of the log-mel)",
        [-limit, 0, limit],
        [f"≤ −{limit:.2g}", "0", f"≥ {limit:.2g}"],
    )
    # Rows are evenly spaced in mel; the pointer should still read Hz.
    hover_hertz = np.broadcast_to(np.rint(frequency)[:, None], values.shape[1:]).astype(np.uint16)
    panels = []
    for group, map_ in zip(shown["group"].values, values, strict=True):
        name = plot_text(group_name(group))
        figure = blank_figure(
            name, f"N = {amount(instances(count, str(group)), 'instance')}", height_px=300, narrowest_px=140
        )
        figure.add_trace(
            go.Heatmap(
                z=map_,
                x=along.places,
                y=np.arange(len(frequency)),
                customdata=hover_hertz,
                coloraxis="coloraxis",
                hovertemplate=f"{name} {along.unit}, %{{customdata}} Hz<br>{method} %{{z:.3f}}<extra></extra>",
            )
        )
        if along.aligned:
            _alignment_line(figure, ON_MAP)
        figure.update_layout(coloraxis=bar)
        figure.update_xaxes(
            title={"text": along.title, "font_size": TITLE_PX, "standoff": 4},
            tickvals=along.ticks,
            tickfont_size=SMALL_PX,
            showgrid=False,
            zeroline=False,
        )
        figure.update_yaxes(
            title={"text": "frequency (Hz)", "font_size": TITLE_PX, "standoff": 4},
            tickvals=rows,
            ticktext=hertz,
            tickfont_size=SMALL_PX,
            range=[-0.5, len(frequency) - 0.5],
            showgrid=False,
            zeroline=False,
        )
        panels.append(figure)
    return tuple(panels)


def action_potentials(
    profile: xr.DataArray,
    count: xr.DataArray,
    responsiveness: xr.DataArray,
    groups: Sequence[str],
    *,
    layer: str,
    most: int = 5,
    drawn: int = 300,
    within_s: float | None = None,
) -> Panels:
    """All units of a layer over time, the most responsive in colour: a panel per group (Krug et al. 2020, Figure 3).

    Args:
        profile: `(group, unit, offset)`, coordinate `time` (seconds); NaN where no instance reached.
        count: instances, with a dimension `group`; the largest of a group is its N.
        responsiveness: r of Eq. 1, `(group, unit)`: positive where a unit rises for the group, negative where it falls.
        groups: which groups, in this order.
        layer: name of the layer, for the title.
        most: how many of the most responsive units, by the absolute value of r, are coloured; at most 5.
        drawn: of wider layers only this many units, again the most responsive, are drawn; the rest lie closer to 0.
        within_s: show this much time on either side of the alignment; see `gradnap_heatmaps`, also for ranks.

    Raises:
        BadInput: an unknown group, a dimension or coordinate missing, nothing but NaN.
        BadOption: `most` outside 1 to 5, or `within_s` not positive, or where there is no time.
    """
    if not 1 <= most <= 5:
        raise BadOption("units to highlight", got=most, wanted="1 to 5: more colours cannot be told apart")
    demand(profile, "profile", ("group", "unit", "offset"))
    demand(responsiveness, "responsiveness", ("group", "unit"))
    _demand_coordinates(profile, ("time",))
    shown = profile.sel(group=chosen_groups(profile, groups)).transpose("group", "unit", "offset")
    strength = responsiveness.sel(group=shown["group"].values).transpose("group", "unit").values.astype(float)
    if strength.shape != shown.shape[:2]:
        raise BadInput(
            "responsiveness of other units than the profile's",
            got=f"{strength.shape[1]} units",
            wanted=f"{shown.sizes['unit']} units",
        )
    units = shown["unit"].values if "unit" in shown.coords else np.arange(shown.sizes["unit"])
    along = _along(shown, within_s)
    method = str(profile.attrs.get("method", "GradNAP"))
    values = shown.values[:, :, along.shown].astype(np.float32)
    reach = 1.06 * max(float(np.nanmax(np.abs(values), initial=0.0)), 1e-9)
    panels = []
    for group, lines, strengths in zip(shown["group"].values, values, strength, strict=True):
        ranked = np.argsort(-np.abs(np.nan_to_num(strengths)), kind="stable")[:drawn]
        some = f"{len(ranked)} of {len(lines)} units" if len(ranked) < len(lines) else amount(len(lines), "unit")
        figure = blank_figure(
            f"{plot_text(group_name(group))} in {plot_text(layer)}",
            f"N = {amount(instances(count, str(group)), 'instance')}, {some}",
            height_px=310,
        )
        figure.add_trace(_crowd(along.places, lines[ranked]))
        for place, unit in enumerate(ranked[:most]):
            name = f"unit {units[unit]}"
            figure.add_trace(
                go.Scatter(
                    x=along.places,
                    y=lines[unit],
                    name=f"{name}, r = {strengths[unit]:+.3g}".replace("-", "−"),
                    mode="lines",
                    line={"color": CATEGORIES[place], "width": 2.5},
                    hovertemplate=f"{name}, {along.unit}: %{{y:.3f}}<extra></extra>",
                    showlegend=True,
                )
            )
        if along.aligned:
            _alignment_line(figure, INK["light"])
        figure.update_xaxes(
            title_text="time from alignment (ms)" if along.aligned else "rank of the activation (0: the largest)",
            range=along.ends,
            tickvals=sorted({*along.ticks, *(tick / 2 for tick in along.ticks)}) if along.aligned else along.ticks,
            zeroline=False,
        )
        figure.update_yaxes(title_text=f"{method} (activation units)", range=[-reach, reach], zeroline=True)
        panels.append(figure)
    return tuple(panels)


def _along(shown: xr.DataArray, within_s: float | None) -> Along:
    """The axis of a profile `(group, unit, offset)`: time around the alignment, or ranks from the largest on."""
    if shown["offset"].attrs.get("units") == "ranks":
        if within_s is not None:
            raise BadOption("sorted profiles have no time", got=f"within_s={within_s}", wanted="nothing: all ranks")
        if not np.nansum(np.abs(shown.values)) > 0:
            raise BadInput("profiles that are 0 or NaN everywhere", wanted="at least one value that is not 0")
        ranks = shown["offset"].values.astype(float)
        step = next((step for step in (1, 2, 5, 10, 20, 50, 100, 200) if len(ranks) <= 4 * step), 500)
        ends = [float(ranks[0]) - 0.5, float(ranks[-1]) + 0.5]
        ticks = [float(rank) for rank in ranks if rank % step == 0]
        return Along(ranks, np.full(len(ranks), True), "rank (0: largest)", ticks, ends, "rank %{x:.0f}", False)
    time_ms = 1000 * shown["time"].values.astype(float)
    half_ms = _half_window(np.nansum(np.abs(shown.values), axis=(0, 1)), time_ms, within_s)
    inside = np.abs(time_ms) <= half_ms + 1e-6
    ticks = three_ticks(half_ms)
    return Along(time_ms[inside], inside, "time (ms)", ticks, [-half_ms, half_ms], "%{x:.0f} ms", True)


def _crowd(places: NDArray[Any], lines: NDArray[Any]) -> go.Scatter:
    """All lines as one trace, the pen lifted by NaN between them: hundreds of traces would make the page slow."""
    gap = np.full((len(lines), 1), np.nan, dtype=np.float32)
    return go.Scatter(
        x=np.tile(np.append(places, places[-1]).astype(np.float32), len(lines)),
        y=np.concatenate([lines, gap], axis=1).ravel(),
        name="other units",
        mode="lines",
        line={"color": CROWD["light"], "width": 1},
        hoverinfo="skip",
        showlegend=True,
        connectgaps=False,
    )


def _alignment_line(figure: go.Figure, colour: str) -> None:
    figure.add_vline(x=0, line={"color": colour, "width": 1, "dash": "dot"})


def _demand_coordinates(profile: xr.DataArray, names: Sequence[str]) -> None:
    missing = [name for name in names if name not in profile.coords]
    if missing:
        raise BadInput(
            f"a profile without {' and '.join(missing)}",
            got="coordinates " + ", ".join(map(str, profile.coords)),
            wanted=f"{', '.join(names)} (the input layer's profile has all of them)",
        )


def _half_window(mass: NDArray[Any], time_ms: NDArray[Any], within_s: float | None) -> float:
    """Half the time to show, in ms: what was asked for, else the least around 0 that holds `HELD` of the mass."""
    if within_s is not None:
        if within_s <= 0:
            raise BadOption("time to show on either side", got=within_s, wanted="seconds, more than 0")
        return min(1000 * within_s, float(np.abs(time_ms).max()))
    if not mass.sum() > 0:
        raise BadInput("profiles that are 0 or NaN everywhere", wanted="at least one value that is not 0")
    order = np.argsort(np.abs(time_ms), kind="stable")
    held = np.cumsum(mass[order]) / mass.sum()
    enough = float(np.abs(time_ms[order[int(np.searchsorted(held, HELD))]]))
    # One burst in a single frame would otherwise fill the whole width.
    return max(enough, min(50.0, float(np.abs(time_ms).max())))


def _limit(values: NDArray[Any]) -> float:
    """The end of the colour scale: a few extreme points saturate, or everything else would look pale."""
    sizes = np.abs(values[np.isfinite(values)])
    sizes = sizes[sizes > 0]
    if sizes.size == 0:
        raise BadInput("profiles that are 0 or NaN everywhere", wanted="at least one value that is not 0")
    return float(f"{np.quantile(sizes, 1 - SATURATED):.2g}")
