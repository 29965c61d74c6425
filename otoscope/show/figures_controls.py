"""Figures of controls: random weights layer by layer, shuffled labels, split halves, purity, effective fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from otoscope.base import BadInput, choose
from otoscope.show.intervals import band, interval_of, level_words, noted_figure
from otoscope.show.over_layers import add_chance, beside, curve, layer_axis, numbered_axis, shared_range
from otoscope.show.reading import amount, attribute, demand, group_name, layer_names, plot_text
from otoscope.show.style import BACKGROUND, CATEGORIES, CROWD, Panels, depth_colours

TABLE_NAMES = {"profile": "profiles", "mask": "gradient masks", "contrast": "unmasked profiles"}
SIGNIFICANT = 0.05
RATIOS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


def cascading_randomisation(
    table: xr.Dataset,
    grouping: str | None = None,
    *,
    measure: str = "pearson",
    tables: Sequence[str] = ("profile", "mask"),
) -> Panels:
    """How like the network's own its profiles and masks stay while weights become random from the output down.

    A line per layer, light for the first and dark for the last, with the level that shuffling gives as a band in its
    colour; a panel per table. At its star all above a layer is random, and after it the layer itself. The gradient of a
    logit with respect to itself is 1: the mask of an output layer is the same whatever the weights are.

    Args:
        table: of `otoscope.study.cascade.cascade`.
        grouping: whose groups are averaged; the first if not given.
        measure: "pearson" or "spearman".
        tables: among "profile", "mask", "contrast".

    Raises:
        BadInput: a variable, a dimension or a count is missing. BadOption: an unknown grouping, measure or table.
    """
    what = "cascade of random weights"
    demand(table, what, ("measure", "table", "step", "layer", "grouping"), ("likeness_mean", "shuffled", "above"))
    kinds = [str(kind) for kind in table["grouping"].values]
    kind = choose("grouping", kinds[0] if grouping is None else grouping, kinds)
    choose("measure", measure, map(str, table["measure"].values))
    ends = interval_of(table, "shuffled", what)
    here = {"measure": measure, "grouping": kind}
    layers, steps = list(table["layer"].values), table["step"].values
    names = dict(zip(layers, map(plot_text, layer_names(layers)), strict=True))
    drawn = [str(name) for name in table["randomised"].values]
    short = dict(zip(drawn[1:], map(plot_text, layer_names(drawn[1:])), strict=True))
    ticks = ["none", *(name if number == 0 else f"+ {name}" for number, name in enumerate(short.values()))]
    notes = [
        f"N = {amount(attribute(table, 'instances', what), 'instance')}, mean over the groups by {plot_text(kind)}",
        f"bands: {level_words(table)} with units and groups shuffled",
        "stars: all above the layer is random",
    ]
    panels = []
    for name in tables:
        choose("table", name, map(str, table["table"].values))
        figure = noted_figure(
            f"{TABLE_NAMES[name].capitalize()} while weights become random", notes, height_px=340, letters=62
        )
        colours = dict(zip(layers, depth_colours(len(layers)), strict=True))
        if ends is not None:
            for layer in layers:
                low, high = (end.sel({**here, "table": name, "layer": layer}).values for end in ends)
                figure.add_trace(band(ticks, low, high, colours[layer], names[layer], of=len(layers)))
        for layer in layers:
            values = table["likeness_mean"].sel({**here, "table": name, "layer": layer}).values
            level = table["shuffled"].sel({**here, "table": name, "layer": layer}).values
            last = int(table["above"].sel(layer=layer)) or None
            figure.add_trace(
                go.Scatter(
                    x=ticks,
                    y=values,
                    customdata=level,
                    name=names[layer],
                    mode="lines+markers",
                    line={"color": colours[layer], "width": 2.5},
                    marker={
                        "size": [13 if step == last else 6 for step in steps],
                        "symbol": ["star" if step == last else "circle" for step in steps],
                        "color": colours[layer],
                    },
                    legendgroup=names[layer],
                    showlegend=True,
                    hovertemplate=f"{names[layer]}, random: %{{x}}<br>correlation %{{y:.2f}}, shuffled "
                    "%{customdata:.2f}<extra></extra>",
                    cliponaxis=False,
                )
            )
        figure.update_layout(legend_tracegroupgap=0)
        figure.update_xaxes(
            title_text="layers with random weights (from the output down)",
            type="category",
            categoryarray=ticks,
            range=[-0.3, len(ticks) - 0.7],
            autotickangles=[0, -45, -90],
        )
        figure.update_yaxes(
            title_text=f"{measure.capitalize()} correlation with the original (−1 to 1)", range=[None, 1.04]
        )
        panels.append(figure)
    return tuple(panels)


def split_half_by_layer(table: xr.Dataset, tables: Sequence[str] = ("profile", "mask")) -> Panels:
    """How reliable profiles and masks are in each layer: the median group of each grouping, and the middle half.

    Args:
        table: of `otoscope.study.controls.split_half`.
        tables: among "profile", "mask", "contrast".

    Raises:
        BadInput: a variable, a dimension or a count is missing. BadOption: an unknown table.
    """
    what = "split halves"
    demand(table, what, ("table", "layer", "group"), ("reliability",))
    for name in tables:
        choose("table", name, map(str, table["table"].values))
    names = [plot_text(name) for name in layer_names(list(table["layer"].values))]
    kinds = np.array([str(group).partition(":")[0] for group in table["group"].values])
    floor = float(np.nanmin(table["reliability"].sel(table=list(tables)).quantile(0.25, "group")))
    notes = [
        f"N = {amount(attribute(table, 'instances', what), 'instance')} of "
        f"{amount(attribute(table, 'utterances', what), 'utterance')}",
        f"mean of {amount(attribute(table, 'splits', what), 'split')}",
        "lines: median group; bands: middle half of the groups",
    ]
    panels = []
    for name in tables:
        values = table["reliability"].sel(table=name).transpose("layer", "group").values
        figure = noted_figure(f"Reliability of {TABLE_NAMES[name]}", notes, height_px=330, letters=62)
        quartiles = {
            kind: np.nanquantile(values[:, kinds == kind], (0.25, 0.5, 0.75), axis=1) for kind in dict.fromkeys(kinds)
        }
        for place, (kind, (low, _, high)) in enumerate(quartiles.items()):
            colour = CATEGORIES[place % len(CATEGORIES)]
            figure.add_trace(band(names, low, high, colour, plot_text(kind), of=len(quartiles)))
        for place, (kind, (low, middle, high)) in enumerate(quartiles.items()):
            known = int(np.isfinite(values[:, kinds == kind]).any(axis=0).sum())
            figure.add_trace(
                curve(names, middle, plot_text(kind), place, label=f"{plot_text(kind)} ({amount(known, 'group')})")
            )
            figure.data[-1].customdata = np.stack([low, high], 1)
            figure.data[-1].hovertemplate = (
                f"{plot_text(kind)}, %{{x}}: %{{y:.2f}} (%{{customdata[0]:.2f}} to %{{customdata[1]:.2f}})"
                "<extra></extra>"
            )
        figure.update_layout(legend_tracegroupgap=0)
        layer_axis(figure, names)
        figure.update_yaxes(title_text="reliability (Spearman–Brown, at most 1)", range=[min(0.0, floor - 0.05), 1.03])
        panels.append(figure)
    return tuple(panels)


def purity_by_layer(tables: Mapping[str, xr.Dataset]) -> Panels:
    """Purity of the clusters of each layer against classes dealt out by chance: a panel for each kind of class.

    Args:
        tables: by what the classes are ("manner"): of `otoscope.reduce.purity.cluster_purity`.

    Raises:
        BadInput: no table, or a variable, a dimension or a count is missing.
    """
    if not tables:
        raise BadInput("there are no classes to draw", got="no table", wanted="at least one")
    panels = []
    for kind, table in tables.items():
        what = f"purity by {kind}"
        wanted = ("purity_mean", "purity_mean_null", "purity_mean_high", "purity_mean_p")
        demand(table, what, ("layer",), wanted)
        names = [plot_text(name) for name in layer_names(list(table["layer"].values))]
        purity, null, high, p = (table[name].values for name in wanted)
        notes = [
            f"N = {amount(attribute(table, 'groups', what), 'group')} of "
            f"{amount(attribute(table, 'classes', what), 'class', 'classes')}",
            f"band: mean to 95 % quantile of {amount(attribute(table, 'permutations', what), 'permutation')}",
            "filled: p < 0.05",
        ]
        figure = noted_figure(f"Purity of clusters by {plot_text(kind)}", notes, height_px=320, letters=62)
        add_chance(figure, names, null, null, high, "chance")
        figure.add_trace(curve(names, purity, "clusters", 0))
        figure.data[-1].customdata = p
        figure.data[-1].hovertemplate = "%{x}: %{y:.2f}, p = %{customdata:.3f}<extra></extra>"
        figure.data[-1].marker.update(
            size=9,
            color=[CATEGORIES[0] if value < SIGNIFICANT else BACKGROUND["light"] for value in p],
            line={"color": CATEGORIES[0], "width": 2},
        )
        layer_axis(figure, names)
        cuts = amount(table.sizes["percentile"], "threshold") if "percentile" in table.sizes else "all thresholds"
        figure.update_yaxes(title_text=f"purity, mean of {cuts} (0 to 1)", range=[0, 1.03])
        panels.append(figure)
    return tuple(panels)


def silhouettes_and_chance(table: xr.Dataset) -> Panels:
    """Mean silhouette of each layer beside that of networks with random weights: a panel per grouping.

    Args:
        table: of `otoscope.study.controls.random_silhouettes`.

    Raises:
        BadInput: a variable, a dimension or a count is missing.
    """
    what = "silhouettes of random networks"
    demand(table, what, ("grouping", "layer", "draw"), ("silhouette_mean", "random"))
    names = [plot_text(name) for name in layer_names(list(table["layer"].values))]
    ends = shared_range([table["silhouette_mean"], table["random"]])
    panels = []
    for kind in table["grouping"].values:
        found = table["random"].sel(grouping=kind).transpose("draw", "layer").values
        clustered = (
            f" in {amount(int(table['groups'].sel(grouping=kind)), 'group')}" if "groups" in table.coords else ""
        )
        notes = [
            f"N = {amount(attribute(table, 'instances', what), 'instance')}{clustered}",
            f"band: lowest to highest of {amount(len(found), 'network')} with random weights, dotted: their mean",
        ]
        figure = noted_figure(f"Silhouette by layer, groups by {plot_text(kind)}", notes, height_px=320, letters=62)
        # A layer without a defined silhouette in any draw has no band there.
        known = np.isfinite(found).any(axis=0)
        low, high = (np.where(known, end(found, axis=0), np.nan) for end in (np.fmin.reduce, np.fmax.reduce))
        middle = table["random"].sel(grouping=kind).mean("draw").values
        add_chance(figure, names, low, middle, high, "random weights")
        figure.add_trace(curve(names, table["silhouette_mean"].sel(grouping=kind).values, "the network", 0))
        figure.data[-1].customdata = np.stack([low, high], 1)
        hover = "%{x}: %{y:.2f}, random %{customdata[0]:.2f} to %{customdata[1]:.2f}<extra></extra>"
        figure.data[-1].hovertemplate = hover
        layer_axis(figure, names)
        figure.update_yaxes(title_text="silhouette, mean of cuts (−1 to 1)", range=ends)
        panels.append(figure)
    return tuple(panels)


def responsiveness_and_chance(table: xr.Dataset) -> Panels:
    """How strongly each layer answers to groups, in multiples of its answer to shuffled labels: a panel per grouping.

    Args:
        table: of `otoscope.study.controls.shuffled_labels`.

    Raises:
        BadInput: a variable, a dimension or a count is missing.
    """
    what = "responsiveness with shuffled labels"
    demand(table, what, ("permutation", "layer", "group"), ("responsiveness", "null", "p"))
    names = [plot_text(name) for name in layer_names(list(table["layer"].values))]
    found, p = (table[name].transpose("layer", "group").values for name in ("responsiveness", "p"))
    null = table["null"].transpose("permutation", "layer", "group").values
    usual = null.mean(axis=0)
    # A layer that does not answer at all has no place on an axis of ratios.
    with np.errstate(invalid="ignore", divide="ignore"):
        times, chance = (np.where((usual > 0) & (values > 0), values / usual, np.nan) for values in (found, null))
    kinds = np.array([str(group).partition(":")[0] for group in table["group"].values])
    labels = np.array([plot_text(group_name(group)) for group in table["group"].values])
    answers = np.isfinite(times).any(axis=0)
    if not answers.any():
        raise BadInput(f"the {what} is 0 or NaN everywhere", wanted="a group that some layer answers to")
    panels, depth, lowest = [], np.arange(len(names)), [times]
    for kind in dict.fromkeys(kinds[answers]):
        mine = np.flatnonzero((kinds == kind) & answers)
        notes = [
            f"N = {amount(attribute(table, 'instances', what), 'instance')} in {amount(len(mine), 'group')}",
            f"band: 90\u00a0% of {amount(len(null), 'shuffling')} of the labels",
            "dots: single groups, filled where p < 0.05",
        ]
        figure = noted_figure(f"Responsiveness, groups by {plot_text(kind)}", notes, height_px=340, letters=62)
        reached = chance[:, :, mine].transpose(1, 0, 2).reshape(len(names), -1)
        known = np.isfinite(reached).any(axis=1)
        low, middle, high = np.full((3, len(names)), np.nan)
        low[known], high[known] = np.nanquantile(reached[known], (0.05, 0.95), axis=1)
        lowest.append(low)
        add_chance(figure, depth, low, np.where(known, 1, np.nan), high, "shuffled labels")
        layer, member = np.nonzero(np.isfinite(times[:, mine]))
        group = mine[member]
        figure.add_trace(
            go.Scatter(
                x=layer + beside(len(mine))[member],
                y=times[layer, group],
                text=[f"{labels[of]}, {names[at]}" for at, of in zip(layer, group, strict=True)],
                customdata=p[layer, group],
                mode="markers",
                marker={
                    "size": 5,
                    "color": np.where(p[layer, group] < SIGNIFICANT, CATEGORIES[0], BACKGROUND["light"]).tolist(),
                    "line": {"color": CATEGORIES[0], "width": 1},
                },
                name="single groups",
                hovertemplate="%{text}: %{y:.2f} times, p = %{customdata:.3f}<extra></extra>",
                cliponaxis=False,
            )
        )
        middle[layer] = [np.median(times[at, group[layer == at]]) for at in layer]
        figure.add_trace(curve(depth, middle, "median group", 1))
        figure.data[-1].hovertemplate = "median group: %{y:.2f} times<extra></extra>"
        numbered_axis(figure, names)
        figure.update_yaxes(title_text="responsiveness (shuffled: 1)", type="log", tickvals=RATIOS)
        panels.append(figure)
    for figure in panels:
        figure.update_yaxes(range=shared_range(map(np.log10, lowest)))
    return tuple(panels)


def fields_by_layer(fields: xr.Dataset) -> go.Figure:
    """How much time of each layer an output frame can depend on, and how much its profiles use.

    Args:
        fields: of `otoscope.reduce.fields.effective_fields`.

    Raises:
        BadInput: a variable, a dimension or a count is missing.
    """
    what = "effective fields"
    demand(fields, what, ("layer", "group"), ("nominal_s", "effective_s", "median_s", "group_s"))
    names = [plot_text(name) for name in layer_names(list(fields["layer"].values))]
    mass = 100 * float(attribute(fields, "mass", what))
    share, groups = float(attribute(fields, "share", what)), int(attribute(fields, "groups", what))
    called = "all groups" if share == 1 else f"{100 * share:g} % of groups"
    notes = [
        f"N = {amount(attribute(fields, 'instances', what), 'instance')} in {amount(groups, 'group')}",
        f"effective: holds {mass:g} % of a profile",
        "dots: single groups",
    ]
    figure = noted_figure("Nominal and effective field by layer", notes, height_px=340)
    milliseconds = 1000 * fields["group_s"].transpose("layer", "group").values
    labels = [plot_text(group_name(group)) for group in fields["group"].values]
    for place, name in enumerate(names):
        figure.add_trace(
            go.Scatter(
                x=place + beside(len(labels)),
                y=milliseconds[place],
                text=labels,
                mode="markers",
                marker={"size": 5, "color": CROWD["light"]},
                name="single groups",
                showlegend=False,
                hovertemplate=f"%{{text}}, {name}: %{{y:.0f}} ms<extra></extra>",
            )
        )
    depth = np.arange(len(names))
    lines = (("nominal", "nominal_s"), (f"effective, {called}", "effective_s"), ("effective, median", "median_s"))
    for place, (label, variable) in enumerate(lines):
        figure.add_trace(curve(depth, 1000 * fields[variable].values, label, place))
        figure.data[-1].text = names
        figure.data[-1].hovertemplate = f"{label}, %{{text}}: %{{y:.0f}} ms<extra></extra>"
    numbered_axis(figure, names)
    figure.update_yaxes(title_text="field (ms)", rangemode="tozero")
    return figure
