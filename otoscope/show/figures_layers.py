"""Figures across layers: every layer against every other, silhouettes by layer, the tree of groups within one layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import scipy.cluster.hierarchy
import xarray as xr
from numpy.typing import NDArray

from otoscope.base import BadInput
from otoscope.show.reading import amount, attribute, demand, group_name, layer_names, measure_name, plot_text
from otoscope.show.style import (
    AXIS,
    CATEGORIES,
    FAINT_INK,
    SEQUENTIAL,
    SMALL_PX,
    SYMBOLS,
    Panels,
    blank_figure,
    colour_axis,
)

# A little more than the widest of usual fonts needs for a letter of a tick label.
LETTER_PX = 8.0


def layer_matrix(similarity: xr.Dataset) -> Panels:
    """Similarity of every layer with every other in one checkpoint: a square heatmap per measure, one colour scale.

    Args:
        similarity: dimensions `measure`, `layer`, `other_layer` (the same layers, first layer first); variable
            `matrix`, 0 to 1, NaN where there is none. Attributes `utterances` and `frames`.

    Raises:
        BadInput: a variable, a dimension or a count is missing.
    """
    what = "layer matrix"
    demand(similarity, what, ("measure", "layer", "other_layer"), ("matrix",))
    utterances = amount(attribute(similarity, "utterances", what), "utterance")
    frames = amount(attribute(similarity, "frames", what), "frame")
    names = layer_names(list(similarity["layer"].values))
    others = layer_names(list(similarity["other_layer"].values))
    rows, columns = ([plot_text(name) for name in each] for each in (names, others))
    axis = {"type": "category", "showgrid": False, "constrain": "domain", "automargin": False}
    ticks = [0, 0.25, 0.5, 0.75, 1]
    bar = colour_axis(SEQUENTIAL, 0, 1, "similarity (0 to 1)", ticks, ["0", "0.25", "0.5", "0.75", "1"])
    panels = []
    for measure in similarity["measure"].values:
        name = plot_text(measure_name(measure))
        figure = blank_figure(name, f"N = {frames} of {utterances}", height_px=420, aspect=1.0)
        values = similarity["matrix"].sel(measure=measure).transpose("layer", "other_layer").values
        figure.add_trace(
            go.Heatmap(
                z=np.asarray(values, dtype=np.float32),
                x=columns,
                y=rows,
                coloraxis="coloraxis",
                xgap=1,
                ygap=1,
                hovertemplate=f"%{{y}} with %{{x}}<br>{name} %{{z:.3f}}<extra></extra>",
            )
        )
        # Automatic margins and a square that follows them chase each other: here the room is reckoned beforehand.
        left, below = (36 + round(LETTER_PX * max(map(len, each))) for each in (names, others))
        figure.update_layout(coloraxis=bar, margin={"l": left, "b": below})
        figure.update_xaxes(title_text="layer", tickangle=-90, **axis)
        figure.update_yaxes(title_text="layer", constraintoward="top", scaleanchor="x", scaleratio=1, **axis)
        panels.append(figure)
    return tuple(panels)


def silhouettes_by_layer(silhouettes: xr.DataArray) -> go.Figure:
    """How distinct the clusters of graphemes and of phones are in every layer (Krug et al. 2020, Figure 4).

    Args:
        silhouettes: dimensions `grouping` (such as "symbol", "phone"), `layer` (first layer first) and `percentile`
            (of the distances, where the tree is cut); -1 to 1, NaN where a cut leaves one cluster or only
            single groups. Coordinate `groups` along `grouping`: how many groups were clustered.

    Raises:
        BadInput: a dimension or the coordinate `groups` is missing.
    """
    what = "silhouettes"
    demand(silhouettes, what, ("grouping", "layer", "percentile"))
    if "groups" not in silhouettes.coords:
        raise BadInput(
            "silhouettes without the number of groups",
            got="coordinates " + ", ".join(map(str, silhouettes.coords)),
            wanted="a coordinate `groups` along `grouping`",
        )
    names = [plot_text(name) for name in layer_names(list(silhouettes["layer"].values))]
    percentiles = silhouettes["percentile"].values
    groupings = [str(grouping) for grouping in silhouettes["grouping"].values]
    # What a network of this kind writes is a grapheme; that is what the paper sets against phones.
    called = {grouping: "grapheme" if grouping == "symbol" else grouping for grouping in groupings}
    sizes = [int(silhouettes["groups"].sel(grouping=grouping)) for grouping in groupings]
    figure = blank_figure(
        "Silhouette by layer",
        "N = "
        + ", ".join(amount(size, plot_text(called[grouping])) for grouping, size in zip(groupings, sizes, strict=True)),
        height_px=360,
    )
    for place, grouping in enumerate(groupings):
        colour, symbol = CATEGORIES[place % len(CATEGORIES)], SYMBOLS[place % len(SYMBOLS)]
        name = called[grouping]
        values = silhouettes.sel(grouping=grouping).transpose("percentile", "layer").values.astype(float)
        for percentile, row in zip(percentiles, values, strict=True):
            figure.add_trace(
                go.Scatter(
                    x=names,
                    y=row,
                    mode="lines",
                    line={"color": colour, "width": 1},
                    opacity=0.35,
                    legendgroup=name,
                    showlegend=False,
                    connectgaps=False,
                    hovertemplate=f"{plot_text(name)}, cut at {percentile:g} %, %{{x}}: %{{y:.3f}}<extra></extra>",
                )
            )
        _add_mean(figure, names, values, name, colour, symbol, place)
    cuts = f"mean of {len(percentiles)} cuts" if len(percentiles) > 1 else f"cut at {percentiles[0]:g} %"
    figure.update_xaxes(
        title_text="layer (first on the left)",
        type="category",
        categoryarray=names,
        range=[-0.4, len(names) - 0.6],
        autotickangles=[0, -90],
    )
    figure.update_yaxes(title_text=f"silhouette, {cuts} (−1 to 1)")
    return figure


def _add_mean(
    figure: go.Figure, names: list[str], values: NDArray[Any], grouping: str, colour: str, symbol: str, place: int
) -> None:
    """The mean over the cuts that exist: an open marker where some do not, a gap where none does."""
    present = np.isfinite(values)
    cuts = present.sum(0)
    with np.errstate(invalid="ignore"):
        mean = np.where(cuts > 0, np.where(present, values, 0).sum(0) / cuts, np.nan)
    whole = cuts == len(values)
    notes = ["" if full else f" (only {found} of {len(values)} cuts)" for full, found in zip(whole, cuts, strict=True)]
    figure.add_trace(
        go.Scatter(
            x=names,
            y=mean,
            name=plot_text(grouping) + "s",
            mode="lines+markers",
            line={"color": colour, "width": 3, "dash": ("solid", "dash")[place % 2]},
            marker={
                "size": 9,
                "color": colour,
                "symbol": [symbol if full else f"{symbol}-open" for full in whole],
                "line": {"width": 2, "color": colour},
            },
            legendgroup=grouping,
            showlegend=True,
            connectgaps=False,
            customdata=notes,
            hovertemplate=f"{plot_text(grouping)}s, %{{x}}: mean %{{y:.3f}}%{{customdata}}<extra></extra>",
            cliponaxis=False,
        )
    )


def dendrogram(
    linkage: NDArray[Any],
    labels: Sequence[str],
    *,
    layer: str,
    classes: Mapping[str, str] | None = None,
    cut: float | None = None,
) -> go.Figure:
    """The tree of groups by the distance between their profiles in one layer, leaves on the left.

    Args:
        linkage: scipy's linkage matrix `(group - 1, 4)`; its distances are Euclidean, between profiles.
        labels: the groups in the order in which they were clustered, such as "phone:AE".
        layer: name of the layer, for the title.
        classes: class of each label (vowel, stop, …), shown as a marker at the leaf; labels without one stay plain.
        cut: distance at which the tree was cut into clusters, drawn as a line.

    Raises:
        BadInput: the number of labels does not fit the linkage matrix.
    """
    linkage = np.asarray(linkage, dtype=float)
    if linkage.ndim != 2 or linkage.shape[1:] != (4,) or len(linkage) + 1 != len(labels):
        raise BadInput(
            "labels that do not fit the linkage matrix",
            got=f"{len(labels)} labels, a matrix of shape {linkage.shape}",
            wanted=f"a matrix of shape ({max(1, len(labels) - 1)}, 4)",
        )
    tree = scipy.cluster.hierarchy.dendrogram(linkage, no_plot=True, labels=list(labels))
    order = [str(label) for label in tree["ivl"]]
    figure = blank_figure(
        f"Tree of groups in {plot_text(layer)}", f"N = {amount(len(order), 'group')}", height_px=90 + 17 * len(order)
    )
    # scipy puts leaves at 5, 15, 25, …; None lifts the pen between the links.
    x = [value for link in tree["dcoord"] for value in (*link, None)]
    y = [None if value is None else (value - 5) / 10 for link in tree["icoord"] for value in (*link, None)]
    figure.add_trace(
        go.Scatter(
            x=x, y=y, mode="lines", line={"color": FAINT_INK["light"], "width": 1.5}, hoverinfo="skip", showlegend=False
        )
    )
    first_join = {}
    for left, right, distance, _ in linkage:
        for leaf in (int(left), int(right)):
            if leaf < len(labels):
                first_join[str(labels[leaf])] = distance
    classes = classes or {}
    kinds = list(dict.fromkeys(classes[label] for label in labels if label in classes))
    for place, kind in enumerate(kinds):
        members = [row for row, label in enumerate(order) if classes.get(label) == kind]
        figure.add_trace(
            go.Scatter(
                x=[0.0] * len(members),
                y=members,
                name=plot_text(kind),
                mode="markers",
                marker={
                    "color": CATEGORIES[place % len(CATEGORIES)],
                    "symbol": SYMBOLS[place % len(SYMBOLS)],
                    "size": 10,
                },
                text=[plot_text(group_name(order[row])) for row in members],
                customdata=[first_join[order[row]] for row in members],
                hovertemplate=f"%{{text}}, {plot_text(kind)}<br>joins at %{{customdata:.3g}}<extra></extra>",
                showlegend=True,
                cliponaxis=False,
            )
        )
    if cut is not None:
        figure.add_vline(x=cut, line={"color": AXIS["light"], "width": 1.5, "dash": "dash"})
    figure.update_xaxes(
        title_text="Euclidean distance (activation units)", range=[0, 1.04 * float(linkage[:, 2].max())]
    )
    figure.update_yaxes(
        tickvals=list(range(len(order))),
        ticktext=[plot_text(group_name(label)) for label in order],
        tickfont_size=SMALL_PX,
        range=[-0.8, len(order) - 0.2],
        showgrid=False,
        showline=False,
        ticks="",
        zeroline=False,
        ticklabelstandoff=9,
    )
    return figure
