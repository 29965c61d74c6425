"""The figures of Ollerenshaw et al. 2021, for print: word errors by depth, neighbouring layers, layers in training.

Every function draws on `ax=`, or on axes of its own, and returns the figure. What is not there is said in the panel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from otoscope.show.print_style import HATCH, PAGE_IN, axes_of, figure_of, printed
from otoscope.show.style import CATEGORIES, CROWD, FAINT_INK, depth_colours

MARKERS = ("o", "s", "D", "^")
MEASURE_NAMES = {"svcca": "SVCCA", "cka": "CKA"}
READING_NAMES = {"paper": "as the paper does", "recommended": "recommended"}
TOLERANCE = 0.95


@printed
def wer_by_depth(table: xr.Dataset, networks: Sequence[str], *, ax: Axes | None = None) -> Figure:
    """Word error rate of networks, usually of ascending depth, in every condition (the paper's Table 1).

    Args:
        table: `wer` `(network, condition)` in percent, its intervals `over_utterances` and `over_seeds`
            `(network, condition, bound)`, and `by_seed` `(network, condition, seed)`.
        networks: in the order of the axis, those that are not in the table, too: their place is hatched.
    """
    ax = axes_of(ax, height=2.3)
    conditions = [str(name) for name in table["condition"].values]
    there = {str(name) for name in table["network"].values}
    shifts = np.linspace(-0.16, 0.16, len(conditions)) if len(conditions) > 1 else [0.0]
    for number, (condition, shift) in enumerate(zip(conditions, shifts, strict=True)):
        colour, marker = CATEGORIES[number], MARKERS[number % len(MARKERS)]
        places = np.array([place for place, name in enumerate(networks) if name in there], dtype=float)
        found = table.sel(condition=condition, network=[name for name in networks if name in there])
        wer = found["wer"].values
        for name, width, inked in (("over_seeds", 0.7, 0.45), ("over_utterances", 2.4, 0.9)):
            low, high = np.moveaxis(found[name].transpose("network", "bound").values, -1, 0)
            known = np.isfinite(low)
            bars = np.maximum(low[known], 0), high[known]
            ax.vlines(places[known] + shift, *bars, color=colour, linewidth=width, alpha=inked)
        ax.plot(
            places + shift, wer, marker, color=colour, markersize=4, markeredgecolor="white", markeredgewidth=0.5,
            label=condition, zorder=3,
        )  # fmt: skip
        seeds = found["by_seed"].transpose("network", "seed").values
        ax.plot(places + shift + 0.13, seeds, marker, color=colour, markersize=1.6, alpha=0.8, linestyle="none")
    for place, name in enumerate(networks):
        if name not in there:
            ax.axvspan(place - 0.4, place + 0.4, facecolor="none", edgecolor=CROWD["light"], hatch=HATCH, linewidth=0)
            ax.text(
                place, 0.5, "not trained", rotation=90, ha="center", va="center", color=FAINT_INK["light"],
                transform=ax.get_xaxis_transform(), bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
            )  # fmt: skip
    ax.set_xticks(range(len(networks)), [_short(name) for name in networks])
    of_all = all(name.startswith("conv") for name in networks)
    ax.set(xlabel="convolutions" if of_all else "convolutions, or another network", ylabel="word errors (%)")
    ax.set_xlim(-0.5, len(networks) - 0.5)
    ax.set_ylim(bottom=0)
    ax.grid(axis="y")
    ax.set_axisbelow(True)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, 1.16), ncols=len(conditions), handletextpad=0.2)
    return figure_of(ax)


@printed
def neighbouring_layers(
    found: xr.DataArray, chance: xr.DataArray | None = None, *, labels: bool = True, ax: Axes | None = None
) -> Figure:
    """Each convolution with the next, a line for each network (the paper's Figure 1).

    Args:
        found: `(network, seed, stage, step)`; lines are means over seeds of "trained", shades from the lowest to the
            highest seed, and thin dashes the untrained networks.
        chance: the same with utterances re-paired: dots.
        labels: whether lines are named in a legend.
    """
    ax = axes_of(ax)
    names = [str(name) for name in found["network"].values]
    steps = found["step"].values
    colours = dict(zip(names, depth_colours(len(names)), strict=True))
    for number, name in enumerate(names):
        # Side by side, so that a point does not hide another.
        at = steps + 0.05 * (number - (len(names) - 1) / 2)
        of_seeds = found.sel(network=name, stage="trained").transpose("seed", "step").values
        mean, low, high = over_seeds(of_seeds)
        ax.plot(at, mean, "o-", color=colours[name], label=name.removeprefix("conv-lstm-"), zorder=3)
        ax.fill_between(at, low, high, color=colours[name], alpha=0.18, linewidth=0)
        untrained = over_seeds(found.sel(network=name, stage="untrained").transpose("seed", "step").values)[0]
        # A network of two convolutions has one point, which dashes alone would not show.
        ax.plot(at, untrained, "_--", color=colours[name], linewidth=0.6)
        if chance is not None and name in chance["network"].values:
            shuffled = over_seeds(chance.sel(network=name, stage="trained").transpose("seed", "step").values)[0]
            ax.plot(at, shuffled, ".", color=colours[name], markersize=2)
    ax.set_xticks(steps, [f"{step}–{step + 1}" for step in steps])
    ax.set(xlabel="convolutions", ylabel="similarity", ylim=(-0.02, 1.02))
    ax.set_xlim(steps[0] - 0.25, steps[-1] + 0.25)
    ax.grid(axis="y")
    if labels:
        ax.legend(title="convolutions", ncols=len(names), columnspacing=1.0, handlelength=1.2)
    return figure_of(ax)


@printed
def through_training(
    found: xr.DataArray, *, colours: Mapping[str, str] | None = None, least: float | None = None, ax: Axes | None = None
) -> Figure:
    """A curve for each layer, light to dark with depth, shaded from the lowest to the highest seed (Figures 2 to 4).

    Args:
        found: similarity `(seed, layer, epoch)`; NaN leaves a gap, and is marked below the axis.
        colours: of the layers; by depth if left out.
        least: where the axis begins; below the lowest value if left out.
    """
    ax = axes_of(ax)
    layers = [str(name) for name in found["layer"].values]
    colours = colours or dict(zip(layers, depth_colours(len(layers)), strict=True))
    epochs = found["epoch"].values
    for layer in layers:
        mean, low, high = over_seeds(found.sel(layer=layer).transpose("seed", "epoch").values)
        ax.plot(epochs, mean, color=colours[layer], label=layer, zorder=3)
        ax.fill_between(epochs, low, high, color=colours[layer], alpha=0.15, linewidth=0)
    values = found.values[np.isfinite(found.values)]
    if least is None:
        least = float(np.floor(10 * values.min()) / 10) if len(values) else 0.0
    ax.axhline(TOLERANCE, color=FAINT_INK["light"], linewidth=0.5, linestyle=":")
    there = np.isfinite(found.transpose("epoch", ...).values.reshape(len(epochs), -1)).any(1)
    first, last = (int(epochs[there][0]), int(epochs[there][-1])) if there.any() else (0, -1)
    for epoch in epochs[~there]:
        if first <= epoch <= last:
            ax.axvspan(epoch - 0.5, epoch + 0.5, facecolor="none", edgecolor=CROWD["light"], hatch=HATCH, linewidth=0)
    ax.set(xlabel="epoch", ylabel="similarity", ylim=(min(least, 0.9) - 0.01, 1.01))
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.margins(x=0.01)
    ax.grid(axis="y")
    return figure_of(ax)


@printed
def four_panels(
    title: str, handles: Sequence[Line2D], legend: str, *, height: float = 4.0
) -> tuple[Figure, dict[tuple[str, str], Axes]]:
    """A figure of measures (rows) by readings (columns), with one legend below; gives its axes."""
    figure = Figure(figsize=(PAGE_IN, height), layout="constrained")
    axes = figure.subplots(len(MEASURE_NAMES), len(READING_NAMES), sharex=True, sharey="row")
    panels = {}
    for row, (measure, said) in enumerate(MEASURE_NAMES.items()):
        for column, (reading, how) in enumerate(READING_NAMES.items()):
            panels[reading, measure] = axes[row, column]
            axes[row, column].set_title(f"{said}, {how}", loc="left")
    if title:
        figure.suptitle(title, x=0.01, ha="left")
    if handles:
        figure.legend(handles=list(handles), loc="outside lower center", ncols=min(len(handles), 9), title=legend,
                      columnspacing=1.2, handlelength=1.4)  # fmt: skip
    return figure, panels


def tidy_panels(panels: Mapping[tuple[str, str], Axes]) -> None:
    """Labels of the axes only at the left and below."""
    for ax in panels.values():
        ax.label_outer()


def layer_handles(names: Sequence[str]) -> list[Line2D]:
    """The legend of lines coloured by depth."""
    return [
        Line2D([], [], color=colour, label=name) for name, colour in zip(names, depth_colours(len(names)), strict=True)
    ]


def _short(network: str) -> str:
    return {"lstm": "LSTM", "transformer": "Trans-\nformer"}.get(network, network.removeprefix("conv-lstm-"))


def over_seeds(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, lowest and highest over the first axis, of what is there; NaN where nothing is."""
    known = np.isfinite(values)
    count = known.sum(0)
    mean = np.where(count > 0, np.where(known, values, 0).sum(0) / np.maximum(count, 1), np.nan)
    low = np.where(count > 0, np.where(known, values, np.inf).min(0), np.nan)
    high = np.where(count > 0, np.where(known, values, -np.inf).max(0), np.nan)
    return mean, low, high
