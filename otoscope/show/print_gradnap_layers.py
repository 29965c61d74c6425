"""Figures of layers for papers: how distinct groups are in each (Krug et al. 2020, Figure 4), and what chance gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy.cluster.hierarchy
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from otoscope.show.print_gradnap import grid
from otoscope.show.print_style import figure_of, mark_hole, printed, say
from otoscope.show.reading import amount, demand, layer_names
from otoscope.show.style import CATEGORIES, FAINT_INK, INK, depth_colours

GRAPHEMES, PHONES = "symbol", "phone"
NAMES = {GRAPHEMES: "graphemes", PHONES: "phones"}
COLOURS = {GRAPHEMES: CATEGORIES[1], PHONES: CATEGORIES[0]}
DASHES = {"shuffled labels": (1, 1.5), "random weights": (4, 1.5)}
MARKERS = ("o", "s", "D", "^", "X", "P", "*", "p")
KINDS = ("vowel", "stop", "fricative", "affricate", "nasal", "liquid", "semivowel", "flap")
"""Manners in the order of their colours: the same in every figure."""


@printed
def silhouettes_by_threshold(
    table: xr.Dataset, bands: Mapping[str, xr.Dataset], *, axes: Sequence[Axes] | None = None, about: str = ""
) -> Figure:
    """Silhouettes by layer and threshold for graphemes and phones, and their means (Figure 4, top).

    Args:
        table: `silhouette` `(grouping, layer, percentile)` and `silhouette_mean` `(grouping, layer)` of the network.
        bands: "interval", "shuffled labels" and "random weights": `low` and `high` `(grouping, layer)`; what is not
            there is not drawn.
        axes: three.
        about: sentences for the caption.

    Raises:
        BadInput: a dimension or variable is missing, or axes of another number.
    """
    demand(table, "silhouettes", ("grouping", "layer", "percentile"), ("silhouette", "silhouette_mean"))
    panels = grid(1, 3, axes, height=2.5)
    names = layer_names(list(table["layer"].values))
    cuts = table["percentile"].values
    for ax, name in zip(panels, (*NAMES.values(), "mean over the cuts"), strict=True):
        ax.set_title(name, pad=31)
    for ax, kind in zip(panels, NAMES, strict=False):
        rows = table["silhouette"].sel(grouping=kind).transpose("percentile", "layer").values
        if not np.isfinite(rows).any():
            mark_hole(ax, f"fewer than three {NAMES[kind]} have a profile")
            continue
        for row, cut, colour in zip(rows, cuts, depth_colours(len(cuts)), strict=True):
            ax.plot(np.arange(len(names)), row, marker="o", markersize=2, color=colour, label=f"{cut:g} %")
        _above(ax, *ax.get_legend_handles_labels(), title="cut at", ncols=3)
        _layers(ax, names)
        ax.set_ylabel("silhouette")
    ax = panels[2]
    for kind, name in NAMES.items():
        mean = table["silhouette_mean"].sel(grouping=kind).values
        if not np.isfinite(mean).any():
            continue
        at = np.arange(len(names))
        if "interval" in bands:
            ends = bands["interval"].sel(grouping=kind)
            ax.fill_between(at, ends["low"].values, ends["high"].values, color=COLOURS[kind], alpha=0.18, linewidth=0)
        for control, dashes in DASHES.items():
            if control in bands:
                ends = bands[control].sel(grouping=kind)
                middle = (ends["low"].values + ends["high"].values) / 2
                ax.plot(at, middle, color=COLOURS[kind], linewidth=0.7, dashes=dashes)
        ax.plot(at, mean, marker=MARKERS[list(NAMES).index(kind)], color=COLOURS[kind], label=name)
    drawn, texts = ax.get_legend_handles_labels()
    drawn += [Line2D([], [], color=FAINT_INK["light"], linewidth=0.7, dashes=dashes) for dashes in DASHES.values()]
    _above(ax, drawn, [*texts, *DASHES], title="network, and controls", ncols=2)
    _layers(ax, names)
    low = min(ax.get_ylim()[0] for ax in panels if ax.lines)
    high = max(ax.get_ylim()[1] for ax in panels if ax.lines)
    for ax in panels:
        if ax.lines:
            # An interval may reach beyond what a silhouette can be.
            ax.set_ylim(max(low, -1), min(high, 1))
    sizes = ", ".join(f"{int(table.attrs[f'{kind}_groups'])} {name}" for kind, name in NAMES.items())
    return say(
        figure_of(panels[0]),
        "Silhouettes of complete-linkage clusterings of the GradNAPs, cut at percentiles of the distances, by layer; "
        "right: their mean, the band a 95 % interval (jackknife over parts of the speech), dotted and dashed what "
        f"shuffled labels and random weights give. N: {sizes}, {amount(int(table.attrs['instances']), 'frame')} "
        f"explained. {about}".strip(),
    )


def _above(ax: Axes, drawn: Sequence[Artist], texts: Sequence[str], *, title: str, ncols: int) -> None:
    """A panel's legend, between its name and the axes, in which intervals and curves take all the room."""
    ax.legend(
        drawn, texts, title=title, ncols=ncols, loc="lower center", bbox_to_anchor=(0.5, 1), fontsize=5.5,
        title_fontsize=6, columnspacing=0.8, handlelength=1.8, borderpad=0.2, labelspacing=0.3,
    )  # fmt: skip


@printed
def dendrograms(
    trees: Sequence[tuple[xr.Dataset, str, str]], *, axes: Sequence[Axes] | None = None, about: str = ""
) -> Figure:
    """Trees of groups, their leaves in the colours of the manner of articulation (Figure 4, bottom).

    Args:
        trees: for each panel a table of `otoscope.study.gradnap_tables.tree_table`, the layer, and what the groups are
            called; a table without groups is a hole, and the last text then says why.
        axes: one for each tree.
        about: sentences for the caption.

    Raises:
        BadInput: axes of another number.
    """
    panels = grid(len(trees), 1, axes, height=1.55 * len(trees) + 0.2)
    used: dict[str, None] = {}
    said: dict[str, None] = {}
    for ax, (table, layer, name) in zip(panels, trees, strict=True):
        if "linkage" not in table:
            mark_hole(ax, name)
            continue
        labels = [str(group).partition(":")[2] for group in table["group"].values]
        kinds = [str(kind) for kind in table["kind"].values]
        _tree(ax, table["linkage"].sel(layer=layer).values, labels, kinds)
        cut = float(table["threshold"].sel(layer=layer).values[0])
        ax.axhline(cut, color=FAINT_INK["light"], linewidth=0.6, linestyle="--")
        ax.set_title(f"{name} in {layer}")
        ax.set_ylabel("distance")
        used |= dict.fromkeys(kind for kind in kinds if kind)
        said[f"{len(labels)} {name}"] = None
    shown = [kind for kind in KINDS if kind in used]
    if shown:
        figure_of(panels[0]).legend(
            handles=[_leaf(kind) for kind in shown], loc="outside lower center", ncols=len(shown), handletextpad=0.1
        )
    return say(
        figure_of(panels[0]),
        "Complete-linkage clusterings of GradNAPs by Euclidean distance; the line is the 75th percentile of the "
        f"distances; colours and marks are manners of articulation. N: {', '.join(said) or 'none'}. {about}".strip(),
    )


@printed
def controls(
    measures: xr.Dataset, bands: Mapping[str, xr.Dataset], *, axes: Sequence[Axes] | None = None, about: str = ""
) -> Figure:
    """Decay away from the alignment, distance of the strongest response, and clusters against manners, with controls.

    Args:
        measures: `decay` `(reading, layer, distance)`, `peak_s` `(reading, layer, grouping)`, and where there are
            phones `purity` and `purity_chance` `(layer,)`, of the network.
        bands: by control, such as "random weights", the same variables averaged over its draws.
        axes: three.
        about: sentences for the caption.

    Raises:
        BadInput: a dimension or variable is missing, or axes of another number.
    """
    demand(measures, "measures", ("reading", "layer", "distance"), ("decay", "peak_s"))
    panels = grid(1, 3, axes, height=2.2)
    layers = list(measures["layer"].values)
    names, far_ms = layer_names(layers), 1000 * measures["distance"].values
    decay = measures["decay"].sel(reading="GradNAP")
    for layer, colour, name in zip(layers, depth_colours(len(layers)), names, strict=True):
        row = decay.sel(layer=layer).values
        if np.isfinite(row).sum() > 1:
            panels[0].plot(far_ms, row, color=colour, linewidth=0.9, label=name)
    panels[0].set(xlabel="distance from the alignment (ms)", ylabel="mean |GradNAP|, largest = 1", title="decay")
    if panels[0].lines:
        panels[0].legend(fontsize=5, ncols=2, handlelength=1, columnspacing=0.8, labelspacing=0.2)
    panels[0].set_ylim(bottom=0)
    at = np.arange(len(layers))
    kind = PHONES if np.isfinite(measures["peak_s"].sel(grouping=PHONES)).any() else GRAPHEMES
    styles: list[tuple[str, xr.Dataset, str, Any]] = [("network", measures, INK["light"], "-")]
    styles += [(name, bands[name], CATEGORIES[place], "--") for place, name in enumerate(bands)]
    for name, table, colour, line in styles:
        values = 1000 * table["peak_s"].sel(reading="GradNAP", grouping=kind).values
        panels[1].plot(at, values, color=colour, linestyle=line, marker="o", markersize=2, label=name)
    panels[1].plot(
        at, 1000 * measures["field_s"].values, color=FAINT_INK["light"], linestyle=":", label="half the nominal field"
    )
    panels[1].set(ylabel="distance (ms)", title="strongest response")
    panels[1].legend(fontsize=5.5)
    panels[1].set_ylim(bottom=0)
    _layers(panels[1], names)
    if "purity" in measures and np.isfinite(measures["purity"]).any():
        for name, table, colour, line in styles:
            if "purity" in table:
                panels[2].plot(
                    at, table["purity"].values, color=colour, linestyle=line, marker="o", markersize=2, label=name
                )
        panels[2].plot(at, measures["purity_chance"].values, color=FAINT_INK["light"], linestyle=":", label="chance")
        panels[2].set(ylabel="purity", title="phone clusters and manners")
        panels[2].legend(fontsize=5.5)
        _layers(panels[2], names)
    else:
        panels[2].set_title("phone clusters and manners")
        mark_hole(panels[2], "too few phones have a profile")
    return say(
        figure_of(panels[0]),
        "Left: mean |GradNAP| by distance from the alignment, light for the first layer, dark for the last. Middle: "
        f"distance of the strongest response to {NAMES[kind]} from the alignment, mean over the five units most "
        "responsive to each. Right: share of phones that are of the commonest manner of their cluster, mean over the "
        f"cuts; dotted: manners dealt out at random. N: {amount(int(measures.attrs['instances']), 'frame')} explained. "
        f"{about}".strip(),
    )


def _layers(ax: Axes, names: Sequence[str]) -> None:
    ax.set_xticks(np.arange(len(names)), names, rotation=60, ha="right")
    ax.grid(axis="y")


def _tree(ax: Axes, linkage: NDArray[Any], labels: Sequence[str], kinds: Sequence[str]) -> None:
    """A tree with its leaves at the bottom, each with its mark and its name."""
    drawn = scipy.cluster.hierarchy.dendrogram(linkage, no_plot=True)
    # scipy puts leaves at 5, 15, 25, …
    paths = [
        np.column_stack([(np.array(x) - 5) / 10, y]) for x, y in zip(drawn["icoord"], drawn["dcoord"], strict=True)
    ]
    ax.add_collection(LineCollection(paths, colors=FAINT_INK["light"], linewidths=0.7))
    high = float(linkage[:, 2].max())
    for place, leaf in enumerate(drawn["leaves"] or []):
        look = _leaf(kinds[leaf])
        ax.plot([place], [0], marker=look.get_marker(), color=look.get_color(), markersize=3.2, clip_on=False, zorder=3)
        name = "␣" if labels[leaf].isspace() else labels[leaf]
        ax.text(place, -0.07 * high, name, ha="center", va="top", fontsize=5.5, color=look.get_color(), clip_on=False)
    ax.set_xlim(-0.7, len(labels) - 0.3)
    ax.set_ylim(0, 1.03 * high)
    ax.set_xticks([])
    ax.spines["bottom"].set_visible(False)


def _leaf(kind: str) -> Line2D:
    """The mark of a manner."""
    if kind not in KINDS:
        return Line2D([], [], linestyle="", marker="o", color=FAINT_INK["light"], markersize=3.2, label=kind)
    place = KINDS.index(kind)
    return Line2D([], [], linestyle="", marker=MARKERS[place], color=CATEGORIES[place], markersize=3.2, label=kind)
