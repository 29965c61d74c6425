"""How sure a number is: intervals read from results, drawn as light bands, and said in words beside the N."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from numpy.typing import NDArray

from otoscope.base import BadInput
from otoscope.show.reading import Table, amount, attribute
from otoscope.show.style import blank_figure

# The page wraps a subtitle by itself; a figure saved on its own does not, and is at least this many letters wide.
SUBTITLE_LETTERS = 70
SUBTITLE_LINE_PX = 20


def interval_of(data: xr.Dataset, name: str, what: str) -> tuple[xr.DataArray, xr.DataArray] | None:
    """Low and high end of the interval of `data[name]`, in its order of dimensions; None where there is no interval.

    Raises:
        BadInput: `<name>_interval` lies along other dimensions, lacks the bounds "low" and "high", or is upside down.
    """
    variable = f"{name}_interval"
    if variable not in data.data_vars:
        return None
    both, wanted = data[variable], (*data[name].dims, "bound")
    bounds = [str(bound) for bound in both["bound"].values] if "bound" in both.coords else []
    if set(both.dims) != set(wanted) or set(bounds) != {"low", "high"}:
        raise BadInput(
            f"the {what} has an interval of another shape: {variable}",
            got=f"dimensions ({', '.join(map(str, both.dims))}), bounds {', '.join(bounds) or '(none)'}",
            wanted=f"dimensions ({', '.join(map(str, wanted))}), bounds low, high",
        )
    low, high = (both.sel(bound=bound, drop=True).transpose(*data[name].dims) for bound in ("low", "high"))
    if bool((low > high).any()):
        raise BadInput(
            f"the {what} has an interval that is upside down: {variable}",
            got="a low bound above its high bound",
            wanted="low ≤ high",
        )
    return low, high


def level_words(data: Table) -> str:
    """`95 % interval` where the data say their level, else `interval`. The space before % does not break."""
    level = data.attrs.get("level")
    return "interval" if level is None else f"{100 * float(level):g}\u00a0% interval"


def similarity_floor(values: xr.DataArray, ends: tuple[xr.DataArray, xr.DataArray] | None) -> float:
    """A round number below all similarities and their intervals, at most 0.9: where the axis of a line plot begins.

    An interval that reaches below 0 does not move it: it would press all curves together.
    """
    low = float(values.min()) if bool(values.notnull().any()) else 0.0
    if ends is not None and bool(ends[0].notnull().any()):
        low = min(low, max(0.0, float(ends[0].min())))
    return min(0.9, math.floor(10 * (low - 0.02)) / 10)


def interval_note(data: Table, drawn_as: str) -> str:
    """What the light marks of a figure are: `bands: 95 % interval (jackknife over utterances)`."""
    return f"{drawn_as}: {level_words(data)} (jackknife over utterances)"


def span_words(low: float, high: float, form: str = ".3f") -> str:
    """`0.790 to 0.830`, with a real minus sign; a dash where an end is not known."""
    if not (np.isfinite(low) and np.isfinite(high)):
        return "–"
    return f"{low:{form}} to {high:{form}}".replace("-", "−")


def hover_spans(low: NDArray[Any], high: NDArray[Any], form: str = ".3f") -> list[str]:
    """For each point the interval in brackets, as the end of its hover text; empty where it has none."""
    return [
        f" ({span_words(one, other, form)})" if np.isfinite(one) and np.isfinite(other) else ""
        for one, other in zip(low, high, strict=True)
    ]


def band(
    x: Sequence[Any] | NDArray[Any], low: NDArray[Any], high: NDArray[Any], colour: str, group: str, *, of: int
) -> go.Scatter:
    """The area between two lines, interrupted where either is NaN; a lone point becomes an upright.

    Args:
        x: places on the axis, numbers or categories `(point,)`.
        low, high: ends of the intervals `(point,)`.
        colour: that of the line, written `#rrggbb` so that a dark page can swap it.
        group: the line's legend group: who hides the line hides its band.
        of: how many bands there are; the more, the fainter each, for they cover one another.
    """
    known = np.isfinite(low) & np.isfinite(high)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], known, [False]]).astype(int))).reshape(-1, 2)
    xs: list[Any] = []
    ys: list[float | None] = []
    for start, stop in edges:
        there = list(x[start:stop])
        xs += [*there, *reversed(there), there[0], None]
        ys += [*low[start:stop].tolist(), *reversed(high[start:stop].tolist()), float(low[start]), None]
    return go.Scatter(
        x=xs,
        y=ys,
        name=group,
        mode="lines",
        fill="toself",
        fillcolor=colour,
        # The edge keeps a band visible that is narrower than a pixel.
        line={"color": colour, "width": 0.75},
        opacity=max(0.05, min(0.2, 1.7 / of)),
        hoverinfo="skip",
        legendgroup=group,
        showlegend=False,
    )


def fixed_input(data: Table, what: str) -> str:
    """The N of a similarity: `N = 25,310 frames of 120 utterances`.

    Raises:
        BadInput: the data lack the attributes `frames` or `utterances`.
    """
    utterances = amount(attribute(data, "utterances", what), "utterance")
    return f"N = {amount(attribute(data, 'frames', what), 'frame')} of {utterances}"


def noted_figure(
    title: str, notes: Sequence[str], *, height_px: int, aspect: float | None = None, letters: int = SUBTITLE_LETTERS
) -> go.Figure:
    """A blank figure whose subtitle holds several notes, broken into lines for those who save it on its own.

    Args:
        title: plotly text.
        notes: plotly text, N first.
        height_px, aspect: as in `blank_figure`.
        letters: longest line; a figure without legend or colour bar is saved narrower than others.
    """
    lines = textwrap.wrap("; ".join(notes), letters, break_long_words=False, break_on_hyphens=False)
    figure = blank_figure(title, "<br>".join(lines), height_px=height_px, aspect=aspect)
    if len(lines) > 1:
        figure.update_layout(margin_t=figure.layout.margin.t + SUBTITLE_LINE_PX * (len(lines) - 1))
    return figure
