"""Plotly figures prepared for a page: titles, legends and colour bars become text that wraps on a narrow screen.

Plotly lays its texts out in pixels and never wraps them; on a phone a legend would cover the curves. So the page writes
them in HTML around the plot, from what the figure itself says, and the figure stays whole for those who save it.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from otoscope.base import BadInput
from otoscope.show.style import dark_twins

HEIGHT_PX = 320
NARROWEST_PX = 290
DASHES = {"solid": "", "dash": "6 4", "dot": "2 3", "dashdot": "6 3 2 3", "longdash": "9 4"}
MARKERS = {
    "circle": "M12 4.2a3.8 3.8 0 1 0 .01 0z",
    "square": "M8.5 4.5h7v7h-7z",
    "diamond": "M12 3.4l4.6 4.6-4.6 4.6-4.6-4.6z",
    "triangle-up": "M12 3.6l4.6 8h-9.2z",
    "star": "M12 2.4l1.6 3.6 4 .4-3 2.7.9 3.9-3.5-2-3.5 2 .9-3.9-3-2.7 4-.4z",
    "x": "M8.6 6.2l1.8-1.8 1.6 1.8 1.6-1.8 1.8 1.8-1.7 1.8 1.7 1.8-1.8 1.8-1.6-1.8-1.6 1.8-1.8-1.8 1.7-1.8z",
    "cross": "M10.7 3.6h2.6v3.1h3.1v2.6h-3.1v3.1h-2.6v-3.1h-3.1v-2.6h3.1z",
    "pentagon": "M12 3.6l4.4 3.2-1.7 5.2h-5.4l-1.7-5.2z",
}


@dataclass(frozen=True)
class Swatch:
    """One entry of a legend."""

    name: str
    key: str
    light: str
    dark: str
    dashes: str
    width: float
    line: bool
    marker: str


@dataclass(frozen=True)
class Bar:
    """A horizontal colour bar: CSS stops, and texts at places from 0 to 1."""

    title: str
    stops: str
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Panel:
    """One plot with the texts around it."""

    id: str
    title: str
    subtitle: str
    height_px: int
    aspect: float | None
    narrowest_px: int
    legend: tuple[Swatch, ...]
    bar: Bar | None
    spec: str


def prepare(figures: Sequence[go.Figure], number: int) -> tuple[Panel, ...]:
    """The panels of figure `number`. Any plotly figure will do; the house style replaces its template.

    Raises:
        BadInput: no figures, or something that is not a plotly figure.
    """
    if not figures or not all(isinstance(figure, go.Figure) for figure in figures):
        raise BadInput(
            "nothing to draw",
            got=", ".join(type(figure).__name__ for figure in figures) or "an empty list",
            wanted="one plotly figure, or several",
        )
    return tuple(_panel(figure, f"plot-{number}-{index + 1}") for index, figure in enumerate(figures))


def shared(panels: Sequence[Panel], name: str) -> Any:
    """The `legend` or `bar` of all panels where it is one and the same, so that it need be written only once."""
    first = getattr(panels[0], name)
    return first if all(getattr(panel, name) == first for panel in panels) else None


def columns(panels: Sequence[Panel]) -> int:
    """Columns on a wide page, the last row as full as can be."""
    if panels[0].narrowest_px >= 200:
        return min(2, len(panels))
    return len(panels) if len(panels) <= 4 else min((4, 3), key=lambda width: -len(panels) % width)


def script_json(value: Any) -> str:
    """JSON that can stand inside a script element: no `<` is left that could end it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def _panel(figure: go.Figure, id_: str) -> Panel:
    spec = json.loads(figure.to_json())
    layout = spec["layout"]
    # The page has one template for each theme.
    layout.pop("template", None)
    meta = layout.get("meta") if isinstance(layout.get("meta"), dict) else {}
    title = layout.get("title") or {}
    return Panel(
        id=id_,
        title=_plain(title.get("text")),
        subtitle=_plain((title.get("subtitle") or {}).get("text")),
        height_px=int(meta.get("height_px") or layout.get("height") or HEIGHT_PX),
        aspect=meta.get("aspect"),
        narrowest_px=int(meta.get("narrowest_px") or NARROWEST_PX),
        legend=tuple(_legend(spec["data"])),
        bar=_bar(layout.get("coloraxis")),
        spec=script_json(spec),
    )


def _legend(traces: Sequence[dict[str, Any]]) -> list[Swatch]:
    twins = dark_twins()
    entries = []
    for trace in traces:
        # Plotly's own rule hides a lone trace's entry; here every figure says what it wants.
        if not trace.get("showlegend") or not trace.get("name"):
            continue
        line, marker = trace.get("line") or {}, trace.get("marker") or {}
        mode = trace.get("mode", "lines")
        colour = (line if "lines" in mode else marker).get("color") or marker.get("color") or "#808080"
        symbol = marker.get("symbol", "circle") if "markers" in mode else ""
        if isinstance(symbol, list):
            symbol = next((each for each in symbol if not each.endswith("-open")), symbol[0] if symbol else "")
        entries.append(
            Swatch(
                name=_plain(trace["name"]),
                key=str(trace.get("legendgroup") or trace["name"]),
                light=colour,
                dark=twins.get(colour, colour),
                dashes=DASHES.get(line.get("dash", "solid"), ""),
                width=min(3.0, float(line.get("width", 2))),
                line="lines" in mode,
                marker=MARKERS.get(symbol.removesuffix("-open"), MARKERS["circle"]) if symbol else "",
            )
        )
    return entries


def _bar(axis: dict[str, Any] | None) -> Bar | None:
    if not axis or "colorbar" not in axis or axis.get("cmin") is None:
        return None
    low, high, bar = float(axis["cmin"]), float(axis["cmax"]), axis["colorbar"]
    ticks = zip(bar.get("tickvals") or (), bar.get("ticktext") or (), strict=True)
    return Bar(
        title=_plain((bar.get("title") or {}).get("text")),
        stops=", ".join(f"{colour} {100 * place:.4g}%" for place, colour in axis["colorscale"]),
        ticks=tuple(((float(value) - low) / (high - low), _plain(text)) for value, text in ticks),
    )


def _plain(text: str | None) -> str:
    """Plotly text as plain text: its few tags dropped, its entities read."""
    return html.unescape(re.sub(r"<[^>]*>", " ", text or "")).strip()
