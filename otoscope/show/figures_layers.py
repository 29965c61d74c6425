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
from otoscope.show.intervals import fixed_input, interval_of, level_words, noted_figure, span_words
from otoscope.show.reading import amount, demand, group_name, layer_names, measure_name, plot_text
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
MATRIX = ("measure", "layer", "other_layer")
DOT_ON_PALE, DOT_ON_DARK = "rgb(38,45,52)", "rgb(255,255,255)"


def layer_matrix(similarity: xr.Dataset) -> Panels:
    """Similarity of every layer with every other in one checkpoint: a square heatmap per measure, one colour scale.

    Where the data hold baselines, a dot marks every cell that is not above the highest of them. The diagonal is never
    marked: a layer is similar to itself in every network, so that no baseline can be passed there.

    Args:
        similarity: dimensions `measure`, `layer`, `other_layer` (the same layers, first layer first); variable
            `matrix`, 0 to 1, NaN where there is none. Attributes `utterances` and `frames`. Optional variables
            `matrix_interval` (one more dimension `bound`: "low", "high"; attribute `level`), `matrix_baseline` (one
            more dimension `repairing`: what re-paired utterances score) and `matrix_random` (what randomly initialised
            networks score).

    Raises:
        BadInput: a variable, a dimension or a count is missing, or an interval or baseline does not fit.
    """
    what = "layer matrix"
    demand(similarity, what, ("measure", "layer", "other_layer"), ("matrix",))
    names = layer_names(list(similarity["layer"].values))
    others = layer_names(list(similarity["other_layer"].values))
    rows, columns = ([plot_text(name) for name in each] for each in (names, others))
    table = similarity.assign(matrix=similarity["matrix"].transpose(*MATRIX))
    ends = interval_of(table, "matrix", what)
    baselines = _baselines(table, what)
    notes = [fixed_input(similarity, what)]
    if baselines:
        notes.append("dot: not above " + " or ".join(title for title, _ in baselines.values()))
    axis = {"type": "category", "showgrid": False, "constrain": "domain", "automargin": False}
    panels = []
    for measure in table["measure"].values:
        name = plot_text(measure_name(measure))
        figure = noted_figure(name, notes, height_px=420, aspect=1.0)
        values = table["matrix"].sel(measure=measure)
        figure.add_trace(
            go.Heatmap(
                z=np.asarray(values.values, dtype=np.float32),
                x=columns,
                y=rows,
                coloraxis="coloraxis",
                xgap=1,
                ygap=1,
                hovertemplate=f"%{{y}} with %{{x}}<br>{name} %{{z:.3f}}<extra></extra>",
            )
        )
        if ends is not None or baselines:
            texts = np.full(values.shape, "", dtype=object)
            if ends is not None:
                low, high = (end.sel(measure=measure).values for end in ends)
                texts += f"<br>{level_words(table)} " + np.vectorize(span_words, otypes=[object])(low, high)
            here = {key: baseline.sel(measure=measure).values for key, (_, baseline) in baselines.items()}
            for (title, _), baseline in zip(baselines.values(), here.values(), strict=True):
                texts += f"<br>{title} " + np.vectorize("{:.3f}".format, otypes=[object])(baseline)
            heatmap = figure.data[0]
            heatmap.text = texts
            heatmap.hovertemplate = f"%{{y}} with %{{x}}<br>{name} %{{z:.3f}}%{{text}}<extra></extra>"
            if here:
                # Points would widen the axes beyond the cells.
                figure.update_xaxes(range=[-0.5, len(columns) - 0.5])
                figure.update_yaxes(range=[-0.5, len(rows) - 0.5])
                figure.add_trace(_dots(values.values, np.fmax.reduce(list(here.values())), rows, columns))
        # Automatic margins and a square that follows them chase each other: here the room is reckoned beforehand.
        left, below = (36 + round(LETTER_PX * max(map(len, each))) for each in (names, others))
        figure.update_layout(coloraxis=similarity_colours(), margin={"l": left, "b": below})
        figure.update_xaxes(title_text="layer", tickangle=-90, **axis)
        figure.update_yaxes(title_text="layer", constraintoward="top", scaleanchor="x", scaleratio=1, **axis)
        panels.append(figure)
    return tuple(panels)


def similarity_colours() -> dict[str, Any]:
    """The colour axis of a similarity, 0 to 1: the same in every matrix."""
    ticks = [0, 0.25, 0.5, 0.75, 1]
    return colour_axis(SEQUENTIAL, 0, 1, "similarity (0 to 1)", ticks, ["0", "0.25", "0.5", "0.75", "1"])


def _baselines(table: xr.Dataset, what: str) -> dict[str, tuple[str, xr.DataArray]]:
    """What each cell must exceed, with its name: the highest of the re-pairings, and the random networks."""
    found = {}
    if "matrix_baseline" in table.data_vars:
        demand(table["matrix_baseline"], f"baseline of the {what}", (*MATRIX, "repairing"))
        baseline = table["matrix_baseline"]
        times = baseline.sizes["repairing"]
        title = "re-paired utterances" + (f" (highest of {times})" if times > 1 else "")
        found["repaired"] = (title, baseline.max("repairing").transpose(*MATRIX))
    if "matrix_random" in table.data_vars:
        demand(table["matrix_random"], f"baseline of the {what}", MATRIX)
        found["random"] = ("random networks", table["matrix_random"].transpose(*MATRIX))
    return found


def _dots(values: NDArray[Any], highest: NDArray[Any], rows: list[str], columns: list[str]) -> go.Scatter:
    """A dot in every cell that is not above its highest baseline."""
    own = np.array(rows)[:, None] == np.array(columns)[None]
    row, column = np.nonzero((values <= highest) & ~own)
    return go.Scatter(
        x=[columns[place] for place in column],
        y=[rows[place] for place in row],
        mode="markers",
        marker={
            "symbol": "circle",
            "size": max(2.5, min(6, 90 / len(rows))),
            # Against the cell, not against the page: these two are written so that a dark page does not swap them.
            "color": [DOT_ON_DARK if values[cell] > 0.5 else DOT_ON_PALE for cell in zip(row, column, strict=True)],
        },
        hoverinfo="skip",
        showlegend=False,
    )


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
