"""Figures for papers: matplotlib at the width of a column, fonts embedded, the pages' colours, N in the caption.

Functions that draw take `ax=` and return the figure; wrap them in `printed`, so that they look the same wherever they
are called from, and end them with `say`. No pyplot: nothing is registered globally, and no window opens.
"""

from __future__ import annotations

import functools
import io
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import matplotlib
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from otoscope.base import atomic_path, write_text
from otoscope.show.style import AXIS, CATEGORIES, CROWD, FAINT_INK, GRID, INK

COLUMN_IN = 3.35
"""Width of a column of a two-column paper, in inches."""
PAGE_IN = 6.9
"""Width of its text."""
DPI = 300
HATCH = "////"
"""Marks whatever is not there."""
HOLE_LETTERS = 22
"""A line in an empty panel has no more."""

# Any: matplotlib names every key in a type of its own.
LOOK: Any = {
    "font.family": "sans-serif",
    # Comes with matplotlib, so that a figure is the same on every machine.
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 7,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
    "legend.frameon": False,
    "axes.edgecolor": AXIS["light"],
    "axes.labelcolor": INK["light"],
    "axes.titlecolor": INK["light"],
    "text.color": INK["light"],
    "xtick.color": FAINT_INK["light"],
    "ytick.color": FAINT_INK["light"],
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=CATEGORIES),
    "grid.color": GRID["light"],
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.1,
    "lines.markersize": 3,
    "image.interpolation": "nearest",
    # TrueType, which journals ask for; type 3 is refused by some.
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
}

P = ParamSpec("P")
T = TypeVar("T")


def printed(draw: Callable[P, T]) -> Callable[P, T]:
    """Let a function draw with the look of print, and leave the reader's own settings alone."""

    @functools.wraps(draw)
    def drawn(*args: P.args, **named: P.kwargs) -> T:
        with matplotlib.rc_context(LOOK):
            return draw(*args, **named)

    return drawn


def axes_of(ax: Axes | None, *, width: float = COLUMN_IN, height: float = 2.1) -> Axes:
    """The axes to draw on: those given, or those of a new figure of so many inches."""
    if ax is not None:
        return ax
    return Figure(figsize=(width, height), layout="constrained").add_subplot()


def figure_of(ax: Axes) -> Figure:
    """The figure that axes stand in, also where it is divided into subfigures."""
    figure = ax.get_figure(root=True)
    if not isinstance(figure, Figure):
        raise TypeError("these axes belong to no figure")
    return figure


def mark_hole(ax: Axes, words: str, what: str = "missing") -> None:
    """Hatch an empty panel, and write in it what is with it, and why."""
    ax.set(xticks=[], yticks=[])
    hatched = Rectangle((0, 0), 1, 1, transform=ax.transAxes, facecolor="none", linewidth=0)
    hatched.set(edgecolor=CROWD["light"], hatch=HATCH)
    ax.add_patch(hatched)
    ax.text(
        0.5, 0.5, textwrap.fill(f"{what}: {words}", HOLE_LETTERS), transform=ax.transAxes, ha="center", va="center",
        color=INK["light"], fontsize=6.5, bbox={"facecolor": "white", "edgecolor": "none", "pad": 3},
    )  # fmt: skip


def mark_gap(ax: Axes, words: str) -> None:
    """Say in a hatched corner what a panel that shows the rest lacks."""
    box = {"hatch": HATCH, "facecolor": "white", "edgecolor": CROWD["light"], "pad": 3}
    ax.text(0.02, 0.04, f"missing: {words}", transform=ax.transAxes, fontsize=6.5, color=INK["light"], bbox=box)


@printed
def missing_figure(words: str, *, caption: str = "", ax: Axes | None = None) -> Figure:
    """A figure of which nothing could be made: one hatched panel that says why."""
    ax = axes_of(ax, height=1.4)
    mark_hole(ax, words)
    return say(figure_of(ax), f"{caption} Missing: {words}.".strip())


def say(figure: Figure, caption: str) -> Figure:
    """Give a figure its caption, which `save_print` writes beside it; returns the figure."""
    figure.set_label(caption)
    return figure


def _save_png(figure: Figure, path: Path, facts: dict[str, str]) -> None:
    """At 300 dpi, of 256 colours, which is as many as a colour scale has: half the size or less."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=DPI)
    with Image.open(drawn) as picture:
        # So that no colour is far off, however few points have it: the ends of a colour bar.
        small = picture.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=1, dither=Image.Dither.NONE)
    notes = PngInfo()
    for key, value in facts.items():
        notes.add_text(key, value)
    small.save(path, format="png", optimize=True, dpi=(DPI, DPI), pnginfo=notes)


@printed
def save_print(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write `name.pdf`, `name.png` (300 dpi) and `name.txt`, the caption; returns their paths.

    The same figure is the same bytes: no time is written into the files.

    Raises:
        BadInput: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    caption = str(figure.get_label())
    facts = {"Title": name, "Subject": caption, "CreationDate": None}
    with atomic_path(folder / f"{name}.pdf") as path:
        figure.savefig(path, format="pdf", dpi=DPI, metadata=facts)
    with atomic_path(folder / f"{name}.png") as path:
        _save_png(figure, path, {"Title": name, "Description": caption})
    write_text(folder / f"{name}.txt", textwrap.fill(caption, 100) + "\n")
    return [folder / f"{name}.{ending}" for ending in ("pdf", "png", "txt")]
