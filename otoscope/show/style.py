"""How every figure looks: colours that survive colour blindness and a dark page, the plotly template, sizes of text.

Colours are written for a light page. `dark_twins()` gives each its twin for a dark one; the report's page swaps them
when the reader's system asks for dark, so that a figure is computed and stored once.
"""

from __future__ import annotations

import functools
from typing import Any, Literal, TypeAlias

import plotly.colors
import plotly.graph_objects as go

Theme: TypeAlias = Literal["light", "dark"]
Panels: TypeAlias = tuple[go.Figure, ...]
"""Small figures that belong together. The page lays them in as many columns as fit, one on a phone."""

FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'
TEXT_PX = 13
TICK_PX = 12
SMALL_PX = 11

BACKGROUND: dict[Theme, str] = {"light": "#ffffff", "dark": "#1a1e22"}
INK: dict[Theme, str] = {"light": "#262d34", "dark": "#e6e3dc"}
FAINT_INK: dict[Theme, str] = {"light": "#5b656e", "dark": "#a3abb2"}
AXIS: dict[Theme, str] = {"light": "#b9bfc4", "dark": "#515960"}
GRID: dict[Theme, str] = {"light": "#ebedee", "dark": "#2b3137"}
CROWD: dict[Theme, str] = {"light": "#c4cacf", "dark": "#464e55"}

# Blue, brick, green, plum, ochre, grey, teal, umber: found by a search for the largest distances that remain for
# readers with protanopia and deuteranopia, each at least 3:1 against its page. The tests check both.
CATEGORIES = ("#0091e4", "#911c06", "#4c9d6f", "#6c185c", "#aa8516", "#595959", "#218ca9", "#62261f")
CATEGORIES_DARK = ("#47b5fd", "#d25d3c", "#8ef1b0", "#b769a3", "#deb337", "#b3b5ba", "#7adcfc", "#ec9877")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "cross", "star", "pentagon")

# ColorBrewer's RdBu and YlGnBu (Brewer and Harrower), both safe for colour-blind readers.
DIVERGING = "RdBu_r"
SEQUENTIAL = "YlGnBu"

DEPTH_STEPS = 64


def depth_colours(count: int) -> list[str]:
    """`count` colours from light orange (first layer) to dark indigo (last): lightness alone tells the order."""
    return [_plasma(0.70, 0.03, place) for place in _places(count)]


@functools.cache
def dark_twins() -> dict[str, str]:
    """Every colour used by the figures on a light page, and what stands for it on a dark one."""
    twins = dict(zip(CATEGORIES, CATEGORIES_DARK, strict=True))
    for pair in (INK, FAINT_INK, AXIS, GRID, CROWD, BACKGROUND):
        twins[pair["light"]] = pair["dark"]
    for place in range(DEPTH_STEPS + 1):
        # The same hues in the same order; only the range of lightness moves up.
        twins[_plasma(0.70, 0.03, place)] = _plasma(0.96, 0.42, place)
    return twins


def _places(count: int) -> list[int]:
    if count == 1:
        return [DEPTH_STEPS // 2]
    return [round(DEPTH_STEPS * index / (count - 1)) for index in range(count)]


def _plasma(start: float, end: float, place: int) -> str:
    at = start + (end - start) * place / DEPTH_STEPS
    (colour,) = plotly.colors.sample_colorscale("Plasma", [at], colortype="tuple")
    return "#" + "".join(f"{round(255 * part):02x}" for part in colour)


def template(theme: Theme) -> go.layout.Template:
    """Plotly's defaults for one theme. Backgrounds are clear, so the page's own shows through."""
    axis: dict[str, Any] = {
        "gridcolor": GRID[theme],
        "linecolor": AXIS[theme],
        "tickcolor": AXIS[theme],
        "zerolinecolor": GRID[theme],
        "showline": True,
        "ticks": "outside",
        "ticklen": 4,
        "tickfont": {"size": TICK_PX, "color": FAINT_INK[theme]},
        "title": {"font": {"size": TEXT_PX, "color": INK[theme]}, "standoff": 8},
        "automargin": True,
    }
    layout = {
        "font": {"family": FONT, "size": TEXT_PX, "color": INK[theme]},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "colorway": list(CATEGORIES if theme == "light" else CATEGORIES_DARK),
        "xaxis": axis,
        "yaxis": axis,
        "hoverlabel": {
            "bgcolor": BACKGROUND[theme],
            "bordercolor": AXIS[theme],
            "font": {"family": FONT, "size": TEXT_PX, "color": INK[theme]},
            "align": "left",
        },
        "legend": {"font": {"size": TICK_PX}},
        "title": {"font": {"size": 16}, "x": 0, "xref": "paper", "subtitle": {"font": {"size": TICK_PX}}},
    }
    return go.layout.Template(layout=layout)


def blank_figure(
    title: str, subtitle: str, *, height_px: int, aspect: float | None = None, narrowest_px: int = 290
) -> go.Figure:
    """An empty figure in the house style.

    Args:
        title, subtitle: plotly text (see `otoscope.show.reading.plot_text`); the subtitle says how many were averaged.
        height_px: height of the plot itself; titles, legend and colour bar come on top when it stands alone.
        aspect: width over height that the page keeps instead of `height_px` (1 for a square matrix).
        narrowest_px: the page gives the panel at least this much width, fewer columns rather than less.
    """
    return go.Figure(
        layout={
            "template": template("light"),
            "title": {"text": title, "subtitle": {"text": subtitle}},
            "height": height_px,
            "margin": {"l": 8, "r": 14, "t": 84, "b": 8},
            "meta": {"height_px": height_px, "aspect": aspect, "narrowest_px": narrowest_px},
            "hovermode": "closest",
        }
    )


def colour_axis(
    scale: str, low: float, high: float, title: str, ticks: list[float], texts: list[str]
) -> dict[str, Any]:
    """A labelled colour axis with its ticks written out, so that the page can draw one bar for several panels."""
    return {
        "colorscale": [[place, colour] for place, colour in plotly.colors.get_colorscale(scale)],
        "cmin": low,
        "cmax": high,
        "colorbar": {
            "title": {"text": title, "side": "right", "font": {"size": TICK_PX}},
            "tickfont": {"size": SMALL_PX},
            "tickvals": ticks,
            "ticktext": texts,
            "thickness": 12,
            "outlinewidth": 0,
        },
    }
