"""Where the sums of named nodes stand, and the sums themselves: plain float64 numbers that add up.

The columns of all nodes stand side by side. A *strip* is one matrix product: the columns of a node against those of
its partners that are neighbours, so that many pairs are formed at once and pairs nobody asked for are not.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from otoscope.base import BadInput, choose
from otoscope.reduce.parallel import WORTH_A_THREAD, in_parallel

PairName: TypeAlias = tuple[str, str]
SUMMED_AT_ONCE = 128
# So many columns of a float32 product are added to the sums while they are still in the cache.
COLUMNS_AT_ONCE = 2048

Asked: TypeAlias = Literal["all"] | tuple[PairName, ...]


class Strip(NamedTuple):
    """The columns of one node, and those it is multiplied with."""

    left: slice
    right: slice


class Layout:
    """The columns of each node, and the strips that hold the asked-for pairs.

    Args:
        widths: units of each node, in order.
        asked: as `asked_pairs` gives it.
        squared_norms: whether a column with the squared norm of the frame stands behind the units of each node.

    Raises:
        BadInput: no node, a node without units, a pair with an unknown node.
    """

    def __init__(self, widths: Mapping[str, int], asked: Asked, squared_norms: bool = False):
        if not widths:
            raise BadInput("there are no nodes", got="an empty mapping", wanted="at least one node: (frame, unit)")
        self.widths = dict(widths)
        self.pairs = resolve(asked, tuple(widths))
        self.columns: dict[str, slice] = {}
        end = 0
        for node, width in widths.items():
            if width < 1:
                raise BadInput(f"node {node!r} has no units", got=f"width {width}", wanted="a width of at least 1")
            self.columns[node] = slice(end, end := end + width + squared_norms)
        self.width = end
        names = tuple(widths)
        partners: dict[str, set[str]] = {node: {node} for node in names}
        for pair in self.pairs:
            low, high = sorted(pair, key=names.index)
            partners[low].add(high)
        self.strips: list[Strip] = []
        self.strip_of: dict[PairName, int] = {}
        for low, members in partners.items():
            for run in _runs([node in members for node in names]):
                self.strip_of |= {(low, high): len(self.strips) for high in names[run]}
                right = slice(self.columns[names[run.start]].start, self.columns[names[run.stop - 1]].stop)
                self.strips.append(Strip(self.columns[low], right))

    def units(self, node: str) -> slice:
        """The columns of `node` without its squared norm. Raises `BadInput` for an unknown node."""
        if node not in self.columns:
            raise BadInput(f"there is no node {node!r}", wanted=f"one of {listed(self.columns)}")
        start = self.columns[node].start
        return slice(start, start + self.widths[node])

    def check(self, widths: Mapping[str, int], whose: str) -> None:
        """Raises `BadInput` unless these are the nodes and widths of this layout."""
        missing = [node for node in self.widths if node not in widths]
        new = [node for node in widths if node not in self.widths]
        if missing or new:
            got = f"missing: {listed(missing)}; new: {listed(new)}"
            raise BadInput(f"{whose} other nodes than before", got=got, wanted=listed(self.widths))
        for node, width in widths.items():
            if width != self.widths[node]:
                wanted = f"{self.widths[node]} units, as before"
                raise BadInput(f"{whose} node {node!r} in another width", got=f"{width} units", wanted=wanted)


class Sums:
    """Sums over frames of shifted columns and of their products, float64."""

    def __init__(self, layout: Layout):
        self.layout = layout
        self.frames = self.utterances = 0
        #: Whether any product was formed in float32, which leaves an error of that size for good.
        self.coarse = False
        self.total = torch.zeros(layout.width, dtype=torch.float64)
        self.products = [
            torch.zeros(left.stop - left.start, right.stop - right.start, dtype=torch.float64)
            for left, right in layout.strips
        ]

    def add(self, rows: Tensor) -> None:
        """Add shifted frames `(frame, column)`. Products of float32 rows are formed in float32, summed in float64."""

        def add_strip(index: int) -> None:
            (left, right), product = self.layout.strips[index], self.products[index]
            if rows.dtype == torch.float64:
                product.addmm_(rows[:, left].T, rows[:, right])
            else:
                pieces = zip(product.split(COLUMNS_AT_ONCE, 1), rows[:, right].split(COLUMNS_AT_ONCE, 1), strict=True)
                for piece, columns in pieces:
                    piece.add_(rows[:, left].T @ columns)

        def add_columns(columns: slice) -> None:
            # A float64 sum of float32 numbers is slow; of some hundred of them float32 loses nothing that counts.
            for piece in rows[:, columns].split(SUMMED_AT_ONCE):
                self.total[columns] += piece.sum(0)

        # The largest first, so that no core waits long for the last.
        order = sorted(range(len(self.products)), key=lambda index: -self.products[index].numel())
        in_parallel(add_strip, order, WORTH_A_THREAD if len(order) > 2 and len(rows) > SUMMED_AT_ONCE else 0)
        in_parallel(add_columns, self.layout.columns.values(), len(rows))
        self.frames += len(rows)
        self.coarse |= rows.dtype != torch.float64

    def copy(self) -> Sums:
        """The same sums, which stay as they are when these grow."""
        twin = copy.copy(self)
        twin.total, twin.products = self.total.clone(), [product.clone() for product in self.products]
        return twin

    def product(self, a: str, b: str) -> Tensor:
        """The sum of products of a pair, `(column of a, column of b)`, a view. Raises `BadInput` if not asked for."""
        where = self.layout.strip_of
        if (a, b) in where:
            columns, right = self.layout.columns[b], self.layout.strips[where[a, b]].right
            return self.products[where[a, b]][:, columns.start - right.start : columns.stop - right.start]
        if (b, a) in where:
            return self.product(b, a).T
        raise BadInput(f"the pair ({a!r}, {b!r}) was not asked for", remedy="name it in `pairs` before the pass")

    def add_sums(self, other: Sums, shift: Tensor, other_shift: Tensor) -> None:
        """Add the sums of `other`, of the same nodes in any order, which were shifted by something else.

        With d = other_shift - shift the units become x + d and their squared norm grows by 2 d x + |d|^2: both are
        linear in the columns, so z = A z' + e and the sums follow: P = A P' B^T + A s' e^T + e s'^T B^T + n e e^T.
        """
        n = other.frames
        moves = {node: self._move(node, shift, other, other_shift) for node in self.layout.widths}
        for a, b in self.layout.strip_of:
            (lean_a, e_a), (lean_b, e_b) = moves[a], moves[b]
            s_a, s_b = (other.total[other.layout.columns[node]].clone() for node in (a, b))
            moved = other.product(a, b).clone()
            if lean_a is not None and lean_b is not None:
                moved[-1] += lean_a @ moved[:-1]
                moved[:, -1] += moved[:, :-1] @ lean_b
                s_a[-1] += lean_a @ s_a[:-1]
                s_b[-1] += lean_b @ s_b[:-1]
            moved.addr_(s_a, e_b).addr_(e_a, s_b + n * e_b)
            target = self.product(a, b)
            target += moved
        for node, (lean, e) in moves.items():
            s = other.total[other.layout.columns[node]].clone()
            if lean is not None:
                s[-1] += lean @ s[:-1]
            self.total[self.layout.columns[node]] += s + n * e
        self.frames += n
        self.coarse |= other.coarse
        self.utterances += other.utterances

    def _move(self, node: str, shift: Tensor, other: Sums, other_shift: Tensor) -> tuple[Tensor | None, Tensor]:
        """(2 d, e): by how much the squared norm leans on the units (None where there is none), and the offset."""
        e = other_shift[other.layout.columns[node]] - shift[self.layout.columns[node]]
        if len(e) == self.layout.widths[node]:
            return None, e
        d = e[:-1]
        e = e.clone()
        e[-1] += d @ d
        return 2 * d, e


def asked_pairs(pairs: Literal["all"] | Iterable[PairName]) -> Asked:
    """Each pair of different nodes once. Raises `BadInput` for what is no pair."""
    if isinstance(pairs, str):
        choose("choice of pairs", pairs, ["all"])
        return "all"
    kept: dict[frozenset[str], PairName] = {}
    for pair in pairs:
        if isinstance(pair, str) or len(pair) != 2:
            raise BadInput("a pair is two node names", got=repr(pair), wanted="('layer1', 'layer2')")
        if pair[0] != pair[1]:
            kept.setdefault(frozenset(pair), (pair[0], pair[1]))
    return tuple(kept.values())


def resolve(asked: Asked, nodes: tuple[str, ...]) -> tuple[PairName, ...]:
    """The pairs that were asked for, by name. Raises `BadInput` for an unknown node."""
    if asked == "all":
        return tuple(combinations(nodes, 2))
    unknown = sorted({node for pair in asked for node in pair} - set(nodes))
    if unknown:
        raise BadInput("a pair names a node that is not there", got=listed(unknown), wanted=f"among {listed(nodes)}")
    return asked


def listed(things: Iterable[object], most: int = 8) -> str:
    """The first few of them, and how many more there are."""
    names = list(map(repr, things))
    return ", ".join(names[:most] or ["none"]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _runs(wanted: list[bool]) -> list[slice]:
    """The stretches of True: [True, True, False, True] gives slices 0:2 and 3:4."""
    edges = np.flatnonzero(np.diff([False, *wanted, False]))
    return [slice(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]
