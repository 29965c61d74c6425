"""Figures of optimal inputs: the spectrograms that drive sets of units of a layer, and how far they drove them.

The figures take what `otoscope.study.optimal` finds, or reads back from its files: a Dataset per layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from numpy.typing import NDArray

from otoscope.base import BadInput
from otoscope.show.reading import amount, attribute, demand, group_name, hertz_ticks, plot_text, three_ticks
from otoscope.show.style import DIVERGING, SMALL_PX, Panels, blank_figure, colour_axis

SATURATED = 0.005
TITLE_PX = 12
# A map is light on a dark page too: this colour has no twin.
ON_MAP = "#202020"


def optimal_spectrograms(
    tables: xr.Dataset | Mapping[str, xr.Dataset], sets: Sequence[str] | None = None, *, shared_scale: bool = True
) -> Panels:
    """Optimal inputs as spectrograms, a panel per layer and set (Krug et al. 2020, Figure 3).

    Args:
        tables: of one layer, or of several by name: `input` `(set, frame, mel)` with `time` (seconds) along `frame`
            and, where known, `frequency` (Hz) along `mel`; `activation` `(set, step)`; `size` `(set,)`, the number of
            units; `held` `(set,)`, 1 where a panel should say that it shows noise; attribute `layer`.
        sets: which sets, in this order; all when left out. Panels go layer by layer.
        shared_scale: one colour scale around 0 for all panels; else one for each layer.

    Raises:
        BadInput: no table, an unknown set, a dimension, variable or attribute missing, values that are not finite, or
            0 throughout.
    """
    listed = [tables] if isinstance(tables, xr.Dataset) else list(tables.values())
    if not listed:
        raise BadInput("no optimal inputs to draw", got="an empty mapping", wanted="at least one Dataset")
    shown = [_chosen(table, sets) for table in listed]
    limits = [_limit([table]) for table in shown]
    if shared_scale:
        limits = [_limit(shown)] * len(shown)
    return tuple(
        _spectrogram(table, index, limit)
        for table, limit in zip(shown, limits, strict=True)
        for index in range(table.sizes["set"])
    )


def _chosen(table: xr.Dataset, sets: Sequence[str] | None) -> xr.Dataset:
    demand(table, "optimal inputs", ("set", "frame", "mel", "step"), ("input", "activation"))
    missing = [name for name in ("set", "time", "size") if name not in table.coords]
    if missing:
        raise BadInput(
            f"optimal inputs without {' and '.join(missing)}",
            got="coordinates " + ", ".join(map(str, table.coords)),
            wanted="set, time, size (and frequency)",
        )
    known = [str(name) for name in table["set"].values]
    unknown = [name for name in sets or [] if name not in known]
    if unknown or (sets is not None and not len(sets)):
        raise BadInput(
            f"no optimal input of {', '.join(unknown)}" if unknown else "no sets were chosen",
            got=", ".join(sets or []) or "an empty list",
            wanted="some of " + ", ".join(known),
        )
    table = table.assign_coords({"set": known})
    return table if sets is None else table.sel(set=list(sets))


def _spectrogram(table: xr.Dataset, index: int, limit: float) -> go.Figure:
    layer = plot_text(attribute(table, "layer", "optimal input"))
    one = table.isel(set=index)
    name = plot_text(group_name(one["set"].item()))
    values = one["input"].transpose("mel", "frame").values.astype(np.float32)
    time_ms = 1000 * table["time"].values.astype(float)
    reached = one["activation"].values.astype(float)
    steps = amount(len(reached) - 1, "step")
    driven = f"{_number(reached[0])} to {_number(reached[-1])} in {steps}"
    if "held" in one.coords and one["held"].item():
        driven += "<br>held at 0 by L1: what shows is noise"
    figure = blank_figure(
        f"{name} in {layer}",
        f"N = {amount(one['size'].item(), 'unit')}, {driven}",
        height_px=300,
        narrowest_px=190,
    )
    rows, texts, axis, hover = _rows(table, values.shape)
    figure.add_trace(
        go.Heatmap(
            z=values,
            x=time_ms,
            y=np.arange(len(values)),
            customdata=hover,
            coloraxis="coloraxis",
            hovertemplate=f"{name} %{{x:.0f}} ms, {axis[1]}<br>%{{z:.3f}} sd<extra></extra>",
        )
    )
    figure.add_vline(x=0, line={"color": ON_MAP, "width": 1, "dash": "dot"})
    bar = colour_axis(
        DIVERGING,
        -limit,
        limit,
        "optimal input (sd of the log-mel)",
        [-limit, 0, limit],
        [f"≤ −{limit:.2g}", "0", f"≥ {limit:.2g}"],
    )
    figure.update_layout(coloraxis=bar)
    figure.update_xaxes(
        title={"text": "time (ms)", "font_size": TITLE_PX, "standoff": 4},
        tickvals=three_ticks(float(np.abs(time_ms).max())),
        tickfont_size=SMALL_PX,
        showgrid=False,
        zeroline=False,
    )
    figure.update_yaxes(
        title={"text": axis[0], "font_size": TITLE_PX, "standoff": 4},
        tickvals=rows,
        ticktext=texts,
        tickfont_size=SMALL_PX,
        range=[-0.5, len(values) - 0.5],
        showgrid=False,
        zeroline=False,
    )
    return figure


def _rows(
    table: xr.Dataset, shape: tuple[int, ...]
) -> tuple[list[float], list[str], tuple[str, str], NDArray[Any] | None]:
    """Ticks of the rows, their texts, the axis' title and what the pointer says, and the frequencies for it."""
    if "frequency" in table.coords:
        hertz = table["frequency"].values.astype(float)
        places, texts = hertz_ticks(hertz)
        hover = np.broadcast_to(np.rint(hertz)[:, None], shape).astype(np.uint16)
        return places, texts, ("frequency (Hz)", "%{customdata} Hz"), hover
    last = shape[0] - 1
    places = [0.0, float(last)] if last else [0.0]
    return places, [str(int(place)) for place in places], ("mel band", "band %{y}"), None


def _number(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _limit(tables: Sequence[xr.Dataset]) -> float:
    """The end of the colour scale: a few extreme points saturate, or everything else would look pale."""
    sizes = np.abs(np.concatenate([table["input"].values.ravel() for table in tables]))
    if not np.isfinite(sizes).all() or not sizes.max() > 0:
        raise BadInput(
            "optimal inputs that cannot be drawn", got="NaN, infinity or 0 throughout", wanted="finite values"
        )
    sizes = sizes[sizes > 0]
    return float(f"{np.quantile(sizes, 1 - SATURATED):.2g}")
