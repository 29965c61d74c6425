"""What figures over layers have in common: curves, the axis of layers, and what chance reaches beside them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike, NDArray

from otoscope.show.intervals import band
from otoscope.show.style import CATEGORIES, FAINT_INK, SYMBOLS

Places = Sequence[Any] | NDArray[Any]
"""Where layers stand on the axis: their names, or numbers from 0."""


def curve(x: Places, values: NDArray[Any], name: str, place: int, label: str | None = None) -> go.Scatter:
    """A value for each layer, in the colour and with the symbol of a `place` in the palette.

    Args:
        x, values: `(layer,)`.
        name: the legend group, shared with the curve's band.
        label: what the legend says, if not the name.
    """
    colour = CATEGORIES[place % len(CATEGORIES)]
    return go.Scatter(
        x=x,
        y=values,
        name=label or name,
        mode="lines+markers",
        line={"color": colour, "width": 2.5},
        marker={"size": 7, "color": colour, "symbol": SYMBOLS[place % len(SYMBOLS)]},
        legendgroup=name,
        showlegend=True,
        cliponaxis=False,
    )


def add_chance(
    figure: go.Figure, x: Places, low: NDArray[Any], middle: NDArray[Any], high: NDArray[Any], name: str
) -> None:
    """A band that chance reaches, and a dotted line in it; all `(layer,)`, NaN where nothing is known."""
    colour = FAINT_INK["light"]
    figure.add_trace(band(x, low, high, colour, name, of=4))
    figure.add_trace(
        go.Scatter(
            x=x,
            y=middle,
            name=name,
            mode="lines",
            line={"color": colour, "width": 1.5, "dash": "dot"},
            legendgroup=name,
            showlegend=True,
            hovertemplate=f"{name}: %{{y:.2f}}<extra></extra>",
        )
    )


def layer_axis(figure: go.Figure, names: Sequence[str]) -> None:
    """The axis of layers, which stand on it by name."""
    _axis(figure, len(names), type="category", categoryarray=list(names))


def numbered_axis(figure: go.Figure, names: Sequence[str]) -> None:
    """The axis of layers where dots stand beside each other, so that places are numbers."""
    _axis(figure, len(names), tickvals=np.arange(len(names)), ticktext=list(names))


def beside(count: int) -> NDArray[np.float64]:
    """How far to the side the dots of a layer stand, so that equal ones do not hide each other `(dot,)`."""
    return np.linspace(-0.2, 0.2, count) if count > 1 else np.zeros(count)


def shared_range(tables: Iterable[ArrayLike]) -> list[float]:
    """The ends of an axis that panels share: a little beyond all finite values; 0 to 1 where there are none."""
    values = np.concatenate([np.ravel(table) for table in tables]).astype(float)
    values = values[np.isfinite(values)]
    if not len(values):
        return [0.0, 1.0]
    low, high = float(values.min()), float(values.max())
    beyond = 0.06 * (high - low) or 0.1
    return [low - beyond, high + beyond]


def _axis(figure: go.Figure, count: int, **options: Any) -> None:
    figure.update_xaxes(
        title_text="layer (first on the left)", range=[-0.4, count - 0.6], autotickangles=[0, -90], **options
    )
