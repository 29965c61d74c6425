"""Figures over depth and across networks: labels and probes by layer, neighbours, similarity against word errors."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from numpy.typing import NDArray

from otoscope.base import BadInput
from otoscope.show.figures_layers import similarity_colours
from otoscope.show.intervals import (
    band,
    fixed_input,
    hover_spans,
    interval_note,
    interval_of,
    level_words,
    noted_figure,
    similarity_floor,
    span_words,
)
from otoscope.show.placing import label_rows, label_side, name_points
from otoscope.show.reading import amount, attribute, demand, layer_names, measure_name, plot_text
from otoscope.show.style import BACKGROUND, CATEGORIES, SYMBOLS, Panels, blank_figure

DASHES = ("solid", "dash", "dashdot", "longdash")


class ProbeLine(NamedTuple):
    """What an accuracy is measured against: in words, in short, and how its line is drawn."""

    words: str
    short: str
    dash: str
    drawn: str


PROBE_LINES = {
    "probe_input": ProbeLine("read from the mel input", "input", "dash", "dashed"),
    "probe_chance": ProbeLine("share of the commonest label", "commonest", "dot", "dotted"),
}
# Width of a plot on a phone, less its right margin.
MATRIX_PX = 340.0


def nodes_by_depth(training: xr.Dataset, epoch: int | None = None) -> Panels:
    """Similarity of every layer with the input and with labels, over depth: a line per node, a panel per measure.

    Args:
        training: dimensions `measure`, `layer` (first layer first), `epoch`, `node` ("mel", or the name of one-hot
            labels such as "phone"); variable `to_node`, 0 to 1, NaN where there is none; optional `to_node_interval`
            (one more dimension `bound`: "low", "high"). Attributes `utterances` and `frames`, optional `level`.
        epoch: which checkpoint; the last one if not given.

    Raises:
        BadInput: a variable, a dimension, a count or the epoch is missing, or an interval does not fit.
    """
    what = "similarity with input and labels"
    order = ("measure", "layer", "epoch", "node")
    demand(training, what, order, ("to_node",))
    epochs = training["epoch"].values
    shown = epochs[-1] if epoch is None else epoch
    if shown not in epochs:
        raise BadInput(f"no checkpoint of epoch {shown}", got=epoch, wanted="one of " + ", ".join(map(str, epochs)))
    ends = interval_of(training, "to_node", what)
    here = [table.transpose(*order).sel(epoch=shown) for table in (training["to_node"], *(ends or ()))]
    names = [plot_text(name) for name in layer_names(list(training["layer"].values))]
    notes = [fixed_input(training, what), *([interval_note(training, "bands")] if ends else [])]
    low = float(here[0].min()) if bool(here[0].notnull().any()) else 0.0
    with_what = "the input" if list(training["node"].values) == ["mel"] else "input and labels"
    panels = []
    for measure in training["measure"].values:
        called = plot_text(measure_name(measure))
        figure = noted_figure(f"{called} with {with_what}, epoch {shown}", notes, height_px=330)
        curves = [
            (_node_name(node), *(table.sel(measure=measure, node=node).values for table in here))
            for node in training["node"].values
        ]
        _add_curves(figure, names, curves, "%{x}: %{y:.3f}")
        _depth_axis(figure, names)
        figure.update_yaxes(title_text=f"{called} (0 to 1)", range=[min(0.0, low - 0.02), 1.02])
        panels.append(figure)
    return tuple(panels)


def probes_by_depth(training: xr.Dataset) -> go.Figure:
    """How well a linear probe reads each kind of label from each layer, beside the input and the commonest label.

    Args:
        training: dimensions `layer` (first layer first) and `node`; variable `probe`, accuracy (0 to 1) on held-out
            speakers, NaN throughout for a node without labels; optional `probe_interval` (one more dimension `bound`),
            `probe_input` and `probe_chance` `(node,)` (0 to 1). Attributes `test_frames` and `test_speakers`, optional
            `train_frames`.

    Raises:
        BadInput: a variable, a dimension or a count is missing, or no node was probed.
    """
    what = "table of linear probes"
    demand(training, what, ("layer", "node"), ("probe",))
    frames = amount(attribute(training, "test_frames", what), "test frame")
    notes = [f"N = {frames} of {amount(attribute(training, 'test_speakers', what), 'held-out speaker')}"]
    if "train_frames" in training.attrs:
        notes.append(f"trained on {amount(training.attrs['train_frames'], 'frame')}")
    ends = interval_of(training, "probe", what)
    lines = {name: training[name] for name in PROBE_LINES if name in training.data_vars}
    notes += [f"{line.drawn}: {line.words}" for name, line in PROBE_LINES.items() if name in lines]
    if ends:
        notes.append(f"bands: {level_words(training['probe_interval'])} (jackknife over speakers)")
    tables = [table.transpose("layer", "node") for table in (training["probe"], *(ends or ()))]
    # A node keeps the colour that it has beside nodes that are not probed.
    read = {i: n for i, n in enumerate(training["node"].values) if bool(tables[0].sel(node=n).notnull().any())}
    if not read:
        raise BadInput(f"the {what} is empty", got="NaN throughout", wanted="an accuracy for at least one node")
    names = [plot_text(name) for name in layer_names(list(training["layer"].values))]
    figure = noted_figure("Accuracy of a linear probe by layer", notes, height_px=340)
    curves = []
    for place, node in read.items():
        shares = {name: float(table.sel(node=node)) for name, table in lines.items()}
        said = [f"{PROBE_LINES[name].short} {share:.2f}" for name, share in shares.items() if np.isfinite(share)]
        label = plot_text(node) + (f" ({', '.join(said)})" if said else "")
        curves.append((label, *(table.sel(node=node).values for table in tables)))
        for name, share in shares.items():
            figure.add_trace(
                go.Scatter(
                    x=names,
                    y=[share] * len(names),
                    name=label,
                    mode="lines",
                    line={"color": CATEGORIES[place % len(CATEGORIES)], "width": 1.5, "dash": PROBE_LINES[name].dash},
                    legendgroup=label,
                    showlegend=False,
                    hovertemplate=f"{plot_text(node)}, {PROBE_LINES[name].words}: {share:.3f}<extra></extra>",
                )
            )
    _add_curves(figure, names, curves, "%{x}: %{y:.3f}", list(read))
    _depth_axis(figure, names)
    figure.update_yaxes(title_text="accuracy, held-out speakers (0 to 1)", range=[0, 1.02])
    return figure


def adjacent_layers(table: xr.Dataset) -> Panels:
    """Similarity of each layer with the next one in converged networks: a line per network, a panel per measure.

    Ollerenshaw et al. 2021, Figure 1.

    Args:
        table: dimensions `measure`, `network`, `step` (1 compares the first layer with the second); variable
            `adjacent`, 0 to 1, NaN beyond a network's depth; optional `adjacent_interval` (one more dimension `bound`:
            "low", "high"). Attribute `utterances`, optional `frames` (where it is the same for all) and `level`.

    Raises:
        BadInput: a variable, a dimension or a count is missing, or an interval does not fit.
    """
    what = "similarity of adjacent layers"
    order = ("measure", "network", "step")
    demand(table, what, order, ("adjacent",))
    ends = interval_of(table, "adjacent", what)
    tables = [each.transpose(*order) for each in (table["adjacent"], *(ends or ()))]
    steps = table["step"].values
    notes = [_input_of_all(table, what), *([interval_note(table, "bands")] if ends else [])]
    floor = similarity_floor(table["adjacent"], ends)
    panels = []
    for measure in table["measure"].values:
        called = plot_text(measure_name(measure))
        figure = noted_figure(f"{called} of adjacent layers", notes, height_px=330)
        curves = [
            (plot_text(network), *(each.sel(measure=measure, network=network).values for each in tables))
            for network in table["network"].values
        ]
        _add_curves(figure, steps, curves, "layers %{x} and the next: %{y:.3f}")
        every = -(-int(steps.max()) // 8)
        figure.update_xaxes(
            title_text="layer compared with the next one (1 = first)",
            tick0=1,
            dtick=every,
            range=[float(steps.min()) - 0.4, float(steps.max()) + 0.4],
        )
        figure.update_yaxes(title_text=f"{called} (0 to 1)", range=[floor, 1 + 0.02 * (1 - floor)])
        panels.append(figure)
    return tuple(panels)


def similarity_and_errors(table: xr.Dataset) -> Panels:
    """Similarity against word error rate, a point per network, a panel per condition.

    Args:
        table: dimensions `condition` (such as "clean", "noise 10 dB") and `network`; variables `similarity` (0 to 1;
            its attribute `long_name` says of what, for the axis), `wer` (percent), `rank_correlation` `(condition,)`
            (-1 to 1) and optionally `rank_correlation_interval` `(condition, bound)`, bounds "low" and "high". A
            network with NaN in a condition is left out there. Optional attribute `level`.

    Raises:
        BadInput: a variable or a dimension is missing, an interval does not fit, or a condition has no network.
    """
    what = "table of similarity and errors"
    demand(table, what, ("condition", "network"), ("similarity", "wer", "rank_correlation"))
    ends = interval_of(table, "rank_correlation", what)
    called = plot_text(table["similarity"].attrs.get("long_name", "similarity"))
    across = _room(table["similarity"].values, 0.12)
    panels = []
    for condition in table["condition"].values:
        here = table.sel(condition=condition)
        there = np.isfinite(here["similarity"].values) & np.isfinite(here["wer"].values)
        if not there.any():
            raise BadInput(f"no network was measured in {condition}", got="NaN throughout", wanted="one or more")
        x, y = here["similarity"].values[there].astype(float), here["wer"].values[there].astype(float)
        names = [plot_text(name) for name in here["network"].values[there]]
        rho = float(here["rank_correlation"])
        words = "rank correlation " + (f"{rho:.2f}".replace("-", "−") if np.isfinite(rho) else "not defined")
        if ends is not None and np.isfinite(rho):
            low, high = (float(end.sel(condition=condition)) for end in ends)
            words += f" ({level_words(table)} {span_words(low, high, '.2f')})"
        figure = noted_figure(
            plot_text(condition), [f"N = {amount(len(names), 'network')}", words], height_px=320, letters=50
        )
        figure.add_trace(
            go.Scatter(
                x=x,
                y=y,
                text=names,
                mode="markers",
                marker={"size": 10, "color": CATEGORIES[0], "line": {"width": 1, "color": BACKGROUND["light"]}},
                hovertemplate="%{text}<br>similarity %{x:.3f}, word error rate %{y:.1f} %<extra></extra>",
                showlegend=False,
                cliponaxis=False,
            )
        )
        up = _room(y, 0.14)
        name_points(figure, x, y, names, across, up)
        figure.update_xaxes(
            title_text="<br>".join(textwrap.wrap(f"{called} (0\u00a0to\u00a01)", 38)), range=across, nticks=6
        )
        figure.update_yaxes(title_text="word error rate (%)", range=up)
        panels.append(figure)
    return tuple(panels)


def network_matrix(table: xr.Dataset) -> Panels:
    """Similarity of layers of several networks and checkpoints, each with each: a square heatmap per measure.

    Dark lines part networks, thin ones the checkpoints of a network.

    Args:
        table: dimensions `measure`, `representation`, `other_representation` (the same), labelled such as
            "a / epoch 18 / conv1": the network first, the layer last; variable `matrix`, 0 to 1, NaN where there is
            none. Attribute `utterances`, optional `frames` (where it is the same for all).

    Raises:
        BadInput: a variable, a dimension or a count is missing.
    """
    what = "matrix of networks"
    order = ("measure", "representation", "other_representation")
    demand(table, what, order, ("matrix",))
    values = table["matrix"].transpose(*order)
    across, up = ([str(label) for label in table[dim].values] for dim in (order[2], order[1]))
    sides = [label_rows(labels, MATRIX_PX) for labels in (across, up)]
    (below, upright), (beside, level) = (label_side(side, axis) for side, axis in zip(sides, "xy", strict=True))
    panels = []
    for measure in table["measure"].values:
        name = plot_text(measure_name(measure))
        figure = blank_figure(name, _input_of_all(table, what), height_px=480, aspect=1.0, narrowest_px=340)
        figure.add_trace(
            go.Heatmap(
                z=np.asarray(values.sel(measure=measure).values, dtype=np.float32),
                x=[plot_text(label) for label in across],
                y=[plot_text(label) for label in up],
                coloraxis="coloraxis",
                hovertemplate=f"%{{y}}<br>with %{{x}}<br>{name} %{{z:.3f}}<extra></extra>",
            )
        )
        shared: dict[str, Any] = {
            "type": "category",
            "showgrid": False,
            "ticks": "",
            "constrain": "domain",
            "automargin": False,
            "showticklabels": False,
        }
        figure.update_layout(
            coloraxis=similarity_colours(),
            margin={"l": sides[1].room_px, "b": sides[0].room_px},
            annotations=below + beside,
            shapes=upright + level,
        )
        figure.update_xaxes(**shared)
        figure.update_yaxes(constraintoward="top", scaleanchor="x", scaleratio=1, **shared)
        panels.append(figure)
    return tuple(panels)


def _room(values: NDArray[Any], share: float) -> list[float]:
    """The range of an axis that leaves this share of it free on both sides of the values, never below 0."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    room = share * (high - low) or 0.1 * abs(high) or 0.1
    return [max(0.0, low - room) if low >= 0 else low - room, high + room]


def _input_of_all(table: xr.Dataset, what: str) -> str:
    """The N of several networks: their frames are named only where they have the same ones."""
    if "frames" in table.attrs:
        return fixed_input(table, what)
    return f"N = {amount(attribute(table, 'utterances', what), 'utterance')}"


def _node_name(node: object) -> str:
    return "mel input" if str(node) == "mel" else f"{plot_text(node)} labels"


def _add_curves(
    figure: go.Figure,
    x: Sequence[Any] | NDArray[Any],
    curves: Sequence[tuple[str, Any, *tuple[Any, ...]]],
    hover: str,
    places: Sequence[int] | None = None,
) -> None:
    """A line per curve `(name, values)` or `(name, values, low, high)`; bands lie below all lines.

    `places`: of the curves among the colours, if not one after the other.
    """
    places = range(len(curves)) if places is None else places
    for place, (name, _, *ends) in zip(places, curves, strict=True):
        if ends:
            figure.add_trace(band(x, ends[0], ends[1], CATEGORIES[place % len(CATEGORIES)], name, of=len(curves)))
    for place, (name, values, *ends) in zip(places, curves, strict=True):
        figure.add_trace(_curve(x, values, name, place, f"{name}, {hover}" + ("%{customdata}" if ends else "")))
        if ends:
            figure.data[-1].customdata = hover_spans(*ends)
    figure.update_layout(legend_tracegroupgap=0)


def _curve(x: Sequence[Any] | NDArray[Any], values: NDArray[Any], name: str, place: int, hover: str) -> go.Scatter:
    colour = CATEGORIES[place % len(CATEGORIES)]
    return go.Scatter(
        x=x,
        y=values,
        name=name,
        mode="lines+markers",
        line={"color": colour, "width": 2.5, "dash": DASHES[place // len(CATEGORIES) % len(DASHES)]},
        marker={"size": 7, "color": colour, "symbol": SYMBOLS[place % len(SYMBOLS)]},
        legendgroup=name,
        showlegend=True,
        hovertemplate=f"{hover}<extra></extra>",
        cliponaxis=False,
    )


def _depth_axis(figure: go.Figure, names: list[str]) -> None:
    figure.update_xaxes(
        title_text="layer (first on the left)",
        type="category",
        categoryarray=names,
        range=[-0.4, len(names) - 0.6],
        autotickangles=[0, -90],
    )
