"""Where labels stand: names beside the points of a scatter, and labels of two levels along a matrix."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from otoscope.show.reading import plot_text
from otoscope.show.style import AXIS, SMALL_PX

# Width and height that a letter of a small label takes, a little more than the widest of usual fonts needs.
LETTER_PX, LINE_PX = 6.8, 15.0
POINT_PX = 6.0
# Width and height of a scatter between its axes on a phone and on a desk.
SCATTERS_PX = ((270.0, 262.0), (420.0, 262.0))
# Written so that a dark page does not swap it: it stands between cells whose colours are the same on both pages.
BETWEEN_CELLS = "rgb(38,45,52)"
# Distances from a point at which a label is tried: beside it, then at the end of a thin line.
RINGS_PX = (0.0, 14.0, 28.0, 44.0)
SWEEPS = 6
CROWDED_PX = 60.0
# Lines of a small label may stand this close.
TIGHT_PX = 11.0
PART = " / "
LONGEST_PART = 16


@dataclass(frozen=True)
class Place:
    """Centre of a label in pixels from its point (right, down); `led` when a line must lead to it."""

    right: float
    down: float
    led: bool


def place_labels(
    x: NDArray[np.floating], y: NDArray[np.floating], texts: Sequence[str], sizes_px: Sequence[tuple[float, float]]
) -> list[Place]:
    """A place for the label of each point, so that labels cover neither each other nor a point.

    Every label tries eight directions at growing distances, the most crowded points first, and again while it helps.

    Args:
        x, y: points as shares of the plot, 0 to 1 from the lower left corner `(point,)`.
        texts: the labels `(point,)`.
        sizes_px: widths and heights of the plot at which the places must be good.
    """
    points = np.array([np.stack([x * width, (1 - y) * height], axis=1) for width, height in sizes_px])
    edges = np.array(sizes_px, dtype=float)[:, None]
    halves = np.array([[LETTER_PX * len(text) / 2, LINE_PX / 2] for text in texts])
    tries = [_tries(half) for half in halves]
    away = np.array([[(place.right, place.down) for place in each] for each in tries])
    dislike = np.array([[0.5 * rank + 6.0 * place.led for rank, place in enumerate(each)] for each in tries])
    chosen = np.full(len(texts), -1)

    def costs(index: int) -> NDArray[np.floating]:
        """What each try of one label costs: hidden letters, hidden points, distance `(try,)`."""
        half = halves[index]
        centres = points[:, index, None] + away[index]
        cut = np.maximum(0, half - centres) + np.maximum(0, centres + half - edges)
        hidden = np.all(np.abs(points[:, None] - centres[:, :, None]) < half + POINT_PX, axis=-1)
        total = dislike[index] + 20 * cut.sum((0, 2)) + 60 * hidden.sum((0, 2))
        others = np.flatnonzero((chosen >= 0) & (np.arange(len(texts)) != index))
        if others.size:
            taken = points[:, others] + away[others, chosen[others]]
            shared = half + halves[others] + 1 - np.abs(taken[:, None] - centres[:, :, None])
            total += 3 * np.prod(np.maximum(0, shared), axis=-1).sum((0, 2))
        return total

    crowd = (np.hypot(*np.moveaxis(points[0][:, None] - points[0], -1, 0)) < CROWDED_PX).sum(1)
    for _ in range(SWEEPS):
        before = chosen.copy()
        for index in np.argsort(-crowd, kind="stable"):
            chosen[index] = np.argmin(costs(index))
        if np.array_equal(chosen, before):
            break
    return [each[place] for each, place in zip(tries, chosen, strict=True)]


def _tries(half: NDArray[np.floating]) -> list[Place]:
    """Beside, above and below, then the corners; near ones first."""
    directions = [(1, 0), (-1, 0), (0, -1), (0, 1), (1, -1), (1, 1), (-1, -1), (-1, 1)]
    return [
        Place(
            float(right * (half[0] + (8 if not down else 3) + ring)),
            float(down * (half[1] + (8 if not right else 3) + ring)),
            led=ring > 0,
        )
        for ring, (right, down) in itertools.product(RINGS_PX, directions)
    ]


def name_points(
    figure: go.Figure, x: NDArray[Any], y: NDArray[Any], names: list[str], across: list[float], up: list[float]
) -> None:
    """Write the names of points beside them, or at the end of a thin line.

    Args:
        x, y: the points `(point,)`.
        names: plotly text `(point,)`.
        across, up: ranges of the two axes.
    """
    to_right, upward = ((values - low) / (high - low) for values, (low, high) in ((x, across), (y, up)))
    places = place_labels(to_right, upward, names, SCATTERS_PX)
    for left, top, name, place in zip(x, y, names, places, strict=True):
        figure.add_annotation(
            x=left,
            y=top,
            text=name,
            font_size=SMALL_PX,
            borderpad=0,
            xanchor="center",
            yanchor="middle",
            showarrow=place.led,
            **(
                {"ax": place.right, "ay": place.down, "arrowhead": 0, "arrowwidth": 1, "arrowcolor": AXIS["light"]}
                | {"standoff": 6}
                if place.led
                else {"xshift": place.right, "yshift": -place.down}
            ),
        )


@dataclass(frozen=True)
class Block:
    """Neighbouring rows of a matrix with one label of their own: `first` to `last`, both within it."""

    first: int
    last: int
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Rows:
    """How the rows (and columns) of a matrix are labelled.

    `inner` are the labels of single rows, empty where there is no room for them; `outer` those of blocks of rows.
    `networks` and `checkpoints` are the rows after which another network, or another checkpoint of it, begins.
    """

    inner: tuple[str, ...]
    outer: tuple[Block, ...]
    networks: tuple[int, ...]
    checkpoints: tuple[int, ...]

    @property
    def inner_px(self) -> int:
        """Room for the inner labels."""
        return 6 + round(LETTER_PX * max(map(len, self.inner))) if self.inner else 4

    @property
    def room_px(self) -> int:
        """Room for all labels."""
        widest = max((len(line) for block in self.outer for line in block.lines), default=0)
        return self.inner_px + (round(LETTER_PX * widest) + 14 if widest else 4)

    def fits(self, count: int, plot_px: float) -> bool:
        """Whether each label has its height in a plot of this width with `count` rows."""
        row_px = (plot_px - self.room_px) / count
        blocks = [(block.last - block.first + 1) * row_px / len(block.lines) for block in self.outer]
        return min([*blocks, *([row_px] if self.inner else [])], default=TIGHT_PX) >= TIGHT_PX


def label_rows(labels: Sequence[str], plot_px: float) -> Rows:
    """Labels such as "a / epoch 18 / conv1" on two levels: what neighbours share is written once for all of them.

    Where there is no room for all, the labels of single rows go first, then the checkpoints, at last the networks.

    Args:
        labels: first the network, last the layer, anything between them; parted by " / ".
        plot_px: width for which there must be room, labels included.
    """
    parts = [label.split(PART) for label in labels]
    inner = tuple(_short(each[-1]) for each in parts)
    by_network, by_checkpoint = (_blocks(parts, above) for above in (_network, _checkpoint))
    networks = tuple(block.last for block in by_network[:-1])
    checkpoints = tuple(block.last for block in by_checkpoint[:-1] if block.last not in networks)
    stacked, in_a_row = (_named(by_checkpoint, several) for several in (True, False))
    tried = [(inner, stacked), (inner, in_a_row), ((), stacked), ((), in_a_row), ((), _named(by_network, False))]
    for each in tried:
        rows = Rows(*each, networks, checkpoints)
        if rows.fits(len(labels), plot_px):
            return rows
    return Rows((), (), networks, checkpoints)


def _blocks(parts: Sequence[list[str]], above: Callable[[list[str]], list[str]]) -> list[Block]:
    """Runs of rows with the same names above them."""
    blocks = []
    first = 0
    for names, run in itertools.groupby(above(each) for each in parts):
        last = first + len(list(run)) - 1
        blocks.append(Block(first, last, tuple(map(_short, names))))
        first = last + 1
    return blocks


def _named(blocks: Sequence[Block], several: bool) -> tuple[Block, ...]:
    """The blocks that have a name, on several lines or one."""
    return tuple(
        block if several else Block(block.first, block.last, (PART.join(block.lines),))
        for block in blocks
        if any(block.lines)
    )


def label_side(rows: Rows, axis: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The labels of one side of a matrix, and the lines between its blocks.

    Args:
        rows: what `label_rows` made of the labels; the axis must be one of categories.
        axis: "x" or "y".

    Returns:
        Annotations and shapes for the figure's layout. The labels take `rows.room_px`.
    """
    other = "y" if axis == "x" else "x"
    labels: list[tuple[float, tuple[str, ...], int]] = [(float(row), (text,), 4) for row, text in enumerate(rows.inner)]
    labels += [((block.first + block.last) / 2, block.lines, rows.inner_px + 6) for block in rows.outer]
    annotations = [
        {
            axis: at,
            f"{axis}ref": axis,
            other: 0,
            f"{other}ref": f"{other} domain",
            f"{other}anchor": "top" if axis == "x" else "right",
            f"{axis}anchor": "center" if axis == "x" else "middle",
            f"{other}shift": -away,
            "text": "<br>".join(map(plot_text, lines)),
            "textangle": -90 if axis == "x" else 0,
            "align": "right",
            "showarrow": False,
            "borderpad": 0,
            "font": {"size": SMALL_PX},
        }
        for at, lines, away in labels
    ]
    shapes = [
        {
            "type": "line",
            f"{axis}0": row + 0.5,
            f"{axis}1": row + 0.5,
            f"{axis}ref": axis,
            f"{other}0": 0,
            f"{other}1": 1,
            f"{other}ref": f"{other} domain",
            "line": {"color": BETWEEN_CELLS, "width": width},
        }
        for ends, width in ((rows.networks, 1.5), (rows.checkpoints, 0.6))
        for row in ends
    ]
    return annotations, shapes


def _network(parts: list[str]) -> list[str]:
    return parts[:1] if len(parts) > 1 else []


def _checkpoint(parts: list[str]) -> list[str]:
    return parts[:-1]


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_PART else f"{name[: LONGEST_PART // 2]}…{name[-LONGEST_PART // 2 + 1 :]}"
