"""Profiles through training: when the profile of each group appears in each layer, and when it settles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from numpy.typing import NDArray

from otoscope.base import BadInput
from otoscope.show.intervals import fixed_input, noted_figure
from otoscope.show.reading import amount, attribute, demand, epoch_ticks, group_name, layer_names, plot_text
from otoscope.show.style import CATEGORIES, SEQUENTIAL, SMALL_PX, Panels, blank_figure, colour_axis

WHAT = "table of profiles through training"
# Written so that a dark page does not swap it: it stands on cells whose colours are the same on both pages.
HALO = "rgb(255,255,255)"
# What did not happen is no epoch, and has a colour that is not on the scale.
NEVER = "rgb(203,160,160)"


def profile_courses(table: xr.Dataset, groups: Sequence[str] | None = None) -> Panels:
    """Layers by epochs, a panel for each group: how alike its profile is to the last, when it appears and settles.

    A ring marks the epoch at which the profile appears, a diamond the one from which it stays as it is. Without a ring
    it was never more than chance, or never like the last for good; without a diamond it changed to the end, or there
    is nothing to settle.

    Args:
        table: as of `otoscope.study.gradnap_training`: dimensions `layer` (first layer first), `group`, `epoch`;
            `similarity` `(layer, group, epoch)`, -1 to 1, NaN where undefined; `appeared` and `settled`
            `(layer, group)`, epochs or NaN; `instances` `(group, epoch)`.
        groups: which, in this order; if left out, all that have a profile.

    Raises:
        BadInput: a variable or a dimension is missing, or an unknown group.
    """
    demand(table, WHAT, ("layer", "group", "epoch"), ("similarity", "appeared", "settled", "instances"))
    epochs = table["epoch"].values
    layers = [str(name) for name in table["layer"].values]
    names = [plot_text(name) for name in layer_names(layers)]
    bar = colour_axis(SEQUENTIAL, 0, 1, "correlation with the last profile", [0, 0.5, 1], ["≤ 0", "0.5", "1"])
    panels = []
    for group in _groups_of(table, groups):
        here = table.sel(group=group)
        similarity = here["similarity"].transpose("layer", "epoch").values.astype(np.float32)
        called = plot_text(group_name(group))
        number = int(here["instances"].isel(epoch=-1))
        figure = blank_figure(
            called, f"N = {amount(number, 'instance')}", height_px=60 + 15 * len(names), narrowest_px=150
        )
        figure.add_trace(
            go.Heatmap(
                z=similarity,
                x=np.arange(len(epochs)),
                y=np.arange(len(names)),
                customdata=np.broadcast_to(epochs.astype(float), similarity.shape),
                text=[[plot_text(name)] * len(epochs) for name in layers],
                coloraxis="coloraxis",
                xgap=0.5,
                ygap=1,
                hovertemplate=f"{called} in %{{text}}, epoch %{{customdata:.0f}}: %{{z:.3f}}<extra></extra>",
            )
        )
        for variable, what, filled in (("appeared", "appears", False), ("settled", "settles", True)):
            figure.add_traces(_marks(here[variable].values.astype(float), epochs, layers, called, what, filled))
        step = epoch_ticks(2 * int(epochs[-1]))
        at = [place for place, epoch in enumerate(epochs) if int(epoch) % step == 0]
        figure.update_layout(coloraxis=bar, legend={"orientation": "h", "y": -0.35, "x": 0})
        figure.update_xaxes(
            title={"text": "epoch", "font": {"size": SMALL_PX}, "standoff": 4},
            tickvals=at,
            ticktext=[str(epochs[place]) for place in at],
            tickfont_size=SMALL_PX,
            range=[-0.5, len(epochs) - 0.5],
            showgrid=False,
            zeroline=False,
        )
        figure.update_yaxes(
            tickvals=np.arange(len(names)),
            ticktext=names,
            tickfont_size=SMALL_PX,
            range=[-0.5, len(names) - 0.5],
            showgrid=False,
            zeroline=False,
        )
        panels.append(figure)
    return tuple(panels)


def profile_epochs(table: xr.Dataset, groups: Sequence[str] | None = None) -> Panels:
    """Groups by layers, two panels: the epoch at which each profile appears, and that from which it stays as it is.

    Args:
        table: as of `profile_courses`, with the attributes `frames`, `utterances`, `alike` and `tolerance`.
        groups: which, in this order from the top; if left out, all that have a profile, earliest settled first within
            each grouping.

    Raises:
        BadInput: a variable, a dimension or an attribute is missing, or an unknown group.
    """
    demand(table, WHAT, ("layer", "group", "epoch"), ("appeared", "settled"))
    alike = attribute(table, "alike", WHAT)
    also = "" if isinstance(alike, str) else f", correlation with the last {float(alike):g} or more"
    tolerance = float(attribute(table, "tolerance", WHAT))
    chosen = _groups_of(table, groups)
    if groups is None:
        order = table["settled"].fillna(np.inf).mean("layer")
        late = {group: float(order.sel(group=group)) for group in chosen}
        kinds = list(dict.fromkeys(group.partition(":")[0] for group in chosen))
        chosen.sort(key=lambda group: (kinds.index(group.partition(":")[0]), late[group]))
    epochs = table["epoch"].values
    layers = [str(name) for name in table["layer"].values]
    columns = [plot_text(name) for name in layer_names(layers)]
    rows = [plot_text(group_name(group)) for group in chosen]
    first, last = int(epochs[0]), int(epochs[-1])
    step = epoch_ticks(last - first)
    ticks = list(range(first, last + 1, step))
    bar = colour_axis(SEQUENTIAL, first, last, "epoch (0 = untrained)", [*map(float, ticks)], [*map(str, ticks)])
    panels = []
    for what, title, how in (
        ("appeared", "Epoch at which a profile appears", f"from then on stronger than random groups{also}"),
        ("settled", "Epoch from which a profile stays", f"correlation with the last above {1 - tolerance:g}"),
    ):
        values = table[what].sel(group=chosen).transpose("group", "layer").values.astype(float)
        notes = [fixed_input(table, WHAT), how, *(["rose: never"] if np.isnan(values).any() else [])]
        figure = noted_figure(title, notes, height_px=70 + 15 * len(rows), letters=60)
        texts = np.where(np.isnan(values), "never", np.char.mod("%.0f", np.nan_to_num(values)))
        hovers = [
            [f"{row} in {plot_text(layer)}: {'never' if text == 'never' else 'epoch ' + text}" for layer, text in pair]
            for row, pair in ((row, zip(layers, line, strict=True)) for row, line in zip(rows, texts, strict=True))
        ]
        shared: dict[str, Any] = {"x": np.arange(len(columns)), "y": np.arange(len(rows)), "xgap": 1, "ygap": 1}
        shared |= {"text": hovers, "hovertemplate": "%{text}<extra></extra>"}
        # Below the epochs: where there is none, this shows.
        figure.add_trace(
            go.Heatmap(
                z=np.where(np.isnan(values), 1.0, np.nan),
                colorscale=[[0, NEVER], [1, NEVER]],
                showscale=False,
                **shared,
            )
        )
        figure.add_trace(go.Heatmap(z=values, coloraxis="coloraxis", hoverongaps=False, **shared))
        figure.update_layout(coloraxis=bar)
        figure.update_xaxes(
            title_text="layer (first on the left)",
            tickvals=np.arange(len(columns)),
            ticktext=columns,
            showgrid=False,
            zeroline=False,
            range=[-0.5, len(columns) - 0.5],
        )
        figure.update_yaxes(
            title_text="group",
            tickvals=np.arange(len(rows)),
            ticktext=rows,
            tickfont_size=SMALL_PX,
            showgrid=False,
            zeroline=False,
            range=[len(rows) - 0.5, -0.5],
        )
        panels.append(figure)
    return tuple(panels)


def _groups_of(table: xr.Dataset, groups: Sequence[str] | None) -> list[str]:
    """The groups asked for, or all that have a profile in some layer."""
    known = [str(name) for name in table["group"].values]
    if groups is None:
        there = table["appeared"].notnull() | table["settled"].notnull()
        if "similarity" in table:
            there = there | table["similarity"].notnull().any("epoch")
        found = [name for name in known if bool(there.sel(group=name).any())]
        if not found:
            raise BadInput(f"the {WHAT} is empty", got="no group has a profile", wanted="at least one")
        return found
    unknown = [name for name in groups if name not in known]
    if unknown or not groups:
        raise BadInput(
            f"no profile of {', '.join(unknown)}" if unknown else "no groups were chosen",
            got=", ".join(groups) or "an empty list",
            wanted=f"some of {', '.join(known)}",
        )
    return list(groups)


def _marks(
    when: NDArray[Any], epochs: NDArray[Any], layers: Sequence[str], called: str, what: str, filled: bool
) -> list[go.Scatter]:
    """A ring or a diamond in the row of every layer in which it happened, white around it for the dark cells."""
    there = np.flatnonzero(np.isfinite(when)).tolist()
    shared: dict[str, Any] = {"x": np.searchsorted(epochs, when[there]), "y": there, "mode": "markers"}
    symbol, size = ("diamond", 6) if filled else ("circle-open", 10)
    halo = go.Scatter(
        marker={"size": size, "symbol": symbol, "color": HALO, "line": {"width": 4, "color": HALO}},
        hoverinfo="skip",
        showlegend=False,
        **shared,
    )
    line = {} if filled else {"line": {"width": 2, "color": CATEGORIES[1]}}
    mark = go.Scatter(
        name=what,
        text=[f"{called} {what} in {plot_text(layers[row])} at epoch {when[row]:.0f}" for row in there],
        marker={"size": size, "symbol": symbol, "color": CATEGORIES[1], **line},
        hovertemplate="%{text}<extra></extra>",
        showlegend=True,
        **shared,
    )
    return [halo, mark]
