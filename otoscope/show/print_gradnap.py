"""Figures of GradNAPs for papers: the input layer, the neurons of a layer, and how far a network looks.

After Figures 2 and 3 of Krug et al. 2020. Each function takes a table of `otoscope.study.gradnap_tables` and, if they
are to stand in a larger figure, the axes to draw on; it returns the figure. A group without profile is an empty panel
that says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from otoscope.base import BadInput
from otoscope.show.print_style import PAGE_IN, axes_of, figure_of, mark_hole, printed, say
from otoscope.show.reading import amount, demand, group_name, hertz_ticks, layer_names
from otoscope.show.style import CATEGORIES, CROWD, DIVERGING, FAINT_INK, INK

# The share of values that may lie outside a colour scale.
SATURATED = 0.005
RECIPES = {"krug2020": "the paper's penalties", "recommended": "penalties scaled to the gradient"}


def grid(rows: int, columns: int, axes: Sequence[Axes] | None, *, height: float, width: float = PAGE_IN) -> list[Axes]:
    """The axes to draw on, row by row: those given, or those of a new figure.

    Raises:
        BadInput: another number of axes was given.
    """
    if axes is None:
        figure = Figure(figsize=(width, height), layout="constrained")
        return list(np.asarray(figure.subplots(rows, columns, squeeze=False)).ravel())
    given = list(np.asarray(axes, dtype=object).ravel())
    if len(given) != rows * columns:
        raise BadInput("these axes do not fit the figure", got=f"{len(given)}", wanted=f"{rows} x {columns}")
    return given


@printed
def input_profiles(table: xr.Dataset, *, axes: Sequence[Axes] | None = None, about: str = "") -> Figure:
    """NAvAI above GradNAP of the input layer, a column for each group (Krug et al. 2020, Figure 2).

    Args:
        table: `profile` `(reading, group, mel, frame)` with `time`, `frequency`, `instances` and `hole`.
        axes: one for each method and group, row by row.
        about: sentences for the caption: which speech, which network.

    Raises:
        BadInput: a dimension or variable is missing, or axes of another number.
    """
    demand(table, "input profiles", ("reading", "group", "mel", "frame"), ("profile",))
    methods, groups = list(map(str, table["reading"].values)), list(map(str, table["group"].values))
    panels = grid(len(methods), len(groups), axes, height=1.45 * len(methods) + 0.35)
    figure = figure_of(panels[0])
    time_ms = 1000 * table["time"].values
    for row, method in enumerate(methods):
        line = panels[row * len(groups) : (row + 1) * len(groups)]
        values = table["profile"].sel(reading=method).transpose("group", "mel", "frame").values
        limit = colour_limit(values)
        drawn: AxesImage | None = None
        for column, (ax, group) in enumerate(zip(line, groups, strict=True)):
            hole = str(table["hole"].values[column])
            if row == 0:
                ax.set_title(group_name(group))
            if hole:
                mark_hole(ax, hole)
                continue
            drawn = spectrogram(ax, values[column], time_ms, table["frequency"].values, limit)
            ax.axvline(0, color=INK["light"], linewidth=0.6, linestyle=":")
            # Letters of the outer panels only: the axes are the same in all.
            if axes is None:
                ax.label_outer()
            if row == len(methods) - 1:
                ax.set_xlabel("time from alignment (ms)" if len(groups) < 4 else "time (ms)")
        if axes is None:
            line[0].set_ylabel(f"{method}\nfrequency (Hz)")
        if drawn is not None:
            bar = figure.colorbar(drawn, ax=line, fraction=0.03, pad=0.01, ticks=[-limit, 0, limit])
            bar.set_label("sd of the log-mel")
            bar.ax.set_yticklabels([f"\u2212{limit:.2g}", "0", f"{limit:.2g}"])
            bar.outline.set_visible(False)
    counts = ", ".join(
        f"{group_name(group)} {amount(number, 'frame')}"
        for group, number in zip(groups, table["instances"].values, strict=True)
    )
    return say(
        figure,
        f"{' (top) and '.join(methods)} (bottom) of the input layer, over half a receptive field on either side of the "
        f"alignment; red: louder than the mean of all frames explained, blue: softer. N: {counts}. {about}".strip(),
    )


@printed
def action_potentials(table: xr.Dataset, *, axes: Sequence[Axes] | None = None, about: str = "") -> Figure:
    """All units of a layer over time, the most responsive in colour, and their common optimal inputs (Figure 3).

    Args:
        table: `profile` `(group, unit, frame)`, `responsiveness` `(group, unit)`, `optimal` `(preset, group, mel,
            input_frame)`, with their coordinates, `instances` and `hole`; attributes `layer` and `most`.
        axes: for each group one for the lines and one for each way to optimise.
        about: sentences for the caption.

    Raises:
        BadInput: a dimension or variable is missing, or axes of another number.
    """
    demand(table, "action potentials", ("group", "unit", "frame"), ("profile", "responsiveness"))
    groups = list(map(str, table["group"].values))
    presets = list(map(str, table["preset"].values)) if "optimal" in table else []
    columns = 1 + len(presets)
    panels = grid(len(groups), columns, axes, height=1.75 * len(groups))
    figure, layer, most = figure_of(panels[0]), str(table.attrs["layer"]), int(table.attrs["most"])
    time_ms = 1000 * table["time"].values
    values = table["profile"].transpose("group", "unit", "frame").values
    reach = 1.06 * max(float(np.nanmax(np.abs(values), initial=0.0)), 1e-9)
    for row, group in enumerate(groups):
        line = panels[row * columns : (row + 1) * columns]
        hole = str(table["hole"].values[row])
        line[0].set_title(f"{group_name(group)} in {layer}")
        if hole:
            for ax in line:
                mark_hole(ax, hole)
            continue
        _lines(line[0], values[row], table["responsiveness"].values[row], time_ms, most, table["unit"].values)
        # Room for the names above.
        line[0].set_ylim(-reach, 1.6 * reach)
        line[0].set_ylabel("GradNAP")
        if row == len(groups) - 1:
            line[0].set_xlabel("time from alignment (ms)")
        for place, preset in enumerate(presets):
            _optimal(figure, line[1 + place], table, preset, row, last=row == len(groups) - 1)
            if row == 0:
                line[1 + place].set_title(f"optimal input,\n{RECIPES.get(preset, preset)}")
    counts = ", ".join(
        f"{group_name(group)} {amount(number, 'frame')}"
        for group, number in zip(groups, table["instances"].values, strict=True)
    )
    return say(
        figure,
        f"GradNAPs of all {table.sizes['unit']} units of {layer} over time, the {most} most responsive to a group in "
        f"colour, with their number and responsiveness r; beside them the input that drives these {most} together most "
        f"(units of negative r down). N: {counts}. {about}".strip(),
    )


def _lines(
    ax: Axes, lines: NDArray[Any], strength: NDArray[Any], time_ms: NDArray[Any], most: int, units: NDArray[Any]
) -> None:
    ranked = np.argsort(-np.abs(strength), kind="stable")
    ax.plot(time_ms, lines[ranked[most:]].T, color=CROWD["light"], linewidth=0.4)
    for place, unit in enumerate(ranked[:most][::-1]):
        colour = CATEGORIES[(most - 1 - place) % len(CATEGORIES)]
        text = f"{units[unit]}: r = {strength[unit]:+.2g}".replace("-", "\u2212")
        ax.plot(time_ms, lines[unit], color=colour, linewidth=1.1, label=text)
    ax.axvline(0, color=FAINT_INK["light"], linewidth=0.6, linestyle=":")
    handles, texts = ax.get_legend_handles_labels()
    ax.legend(
        handles[::-1], texts[::-1], loc="upper left", fontsize=5, handlelength=1, borderaxespad=0.1, labelspacing=0.2
    )
    ax.margins(x=0)


def _optimal(figure: Figure, ax: Axes, table: xr.Dataset, preset: str, row: int, *, last: bool) -> None:
    values = table["optimal"].sel(preset=preset).transpose("group", "mel", "input_frame").values
    if int(table["held"].sel(preset=preset).values[row]):
        mark_hole(ax, "the penalty outweighs every gradient", "stays at 0")
        return
    limit = colour_limit(values[row])
    drawn = spectrogram(ax, values[row], 1000 * table["input_time"].values, table["frequency"].values, limit)
    bar = figure.colorbar(drawn, ax=ax, fraction=0.06, pad=0.02, ticks=[-limit, 0, limit])
    bar.set_label("sd of the log-mel")
    bar.ax.set_yticklabels([f"\u2212{limit:.2g}", "0", f"{limit:.2g}"])
    bar.outline.set_visible(False)
    ax.set_ylabel("frequency (Hz)")
    if last:
        ax.set_xlabel("time from the units' frame (ms)")


def spectrogram(
    ax: Axes, values: NDArray[Any], time_ms: NDArray[Any], frequency_hz: NDArray[Any], limit: float
) -> AxesImage:
    """A map `(mel, frame)` over time in ms, rows evenly spaced in mel and labelled in Hz."""
    step = float(np.diff(time_ms).mean()) if len(time_ms) > 1 else 1.0
    edges = (time_ms[0] - step / 2, time_ms[-1] + step / 2, -0.5, len(values) - 0.5)
    drawn = ax.imshow(
        values, origin="lower", aspect="auto", extent=edges, cmap=diverging(), vmin=-limit, vmax=limit, rasterized=True
    )
    rows, texts = hertz_ticks(np.asarray(frequency_hz, dtype=float))
    kept = [place for place, text in enumerate(texts) if text in ("250", "500", "1k", "2k", "4k", "8k")]
    ax.set_yticks([rows[place] for place in kept], [texts[place] for place in kept])
    ax.xaxis.set_major_locator(MaxNLocator(nbins=4, symmetric=True, steps=[1, 2, 5, 10]))
    return drawn


def diverging() -> Colormap:
    """The colours of maps around 0."""
    return colormaps[DIVERGING]


def colour_limit(values: NDArray[Any]) -> float:
    """The end of a colour scale around 0: a few extreme points saturate, or everything else would look pale."""
    sizes = np.abs(values[np.isfinite(values)])
    sizes = sizes[sizes > 0]
    return float(f"{np.quantile(sizes, 1 - SATURATED):.2g}") if sizes.size else 1.0


@printed
def receptive_fields(table: xr.Dataset, *, ax: Axes | None = None, about: str = "") -> Figure:
    """Nominal receptive fields of the layers, seen from the output, and those that profiles fill.

    Args:
        table: of `otoscope.reduce.fields.effective_fields`.
        ax: to draw on.
        about: sentences for the caption.

    Raises:
        BadInput: a variable is missing.
    """
    demand(table, "receptive fields", ("layer",), ("nominal_s", "effective_s", "median_s", "group_s"))
    ax = axes_of(ax, height=2.2)
    names = layer_names(list(table["layer"].values))
    at = np.arange(len(names))
    groups = 1000 * table["group_s"].transpose("layer", "group").values
    for place, row in enumerate(groups):
        ax.plot(np.full(len(row), place), row, ".", color=CROWD["light"], markersize=2, zorder=1)
    for variable, label, marker, colour in (
        ("nominal_s", "nominal", "s", FAINT_INK["light"]),
        ("effective_s", "group that needs most", "^", CATEGORIES[1]),
        ("median_s", "median group", "o", CATEGORIES[0]),
    ):
        ax.plot(at, 1000 * table[variable].values, marker=marker, color=colour, label=label)
    ax.set_xticks(at, names, rotation=60, ha="right")
    ax.set_ylabel("time (ms)")
    ax.set_ylim(bottom=0)
    ax.grid(axis="y")
    ax.legend(loc="upper right")
    mass = 100 * float(table.attrs["mass"])
    return say(
        figure_of(ax),
        f"Frames of each layer on which an output frame can depend (nominal), and those around the alignment that hold "
        f"{mass:g} % of the profiles' absolute values; a dot for each group. N: {int(table.attrs['groups'])} groups, "
        f"{amount(int(table.attrs['instances']), 'frame')} explained. {about}".strip(),
    )
