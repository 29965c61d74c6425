"""One layer's aligned sums: when each instance was decided, the window around that time, and the sums of windows.

The arithmetic under `otoscope.reduce.gradnap`, on torch tensors of any device, without a loop over instances.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

# Products formed at once on a CPU, so that they stay in its cache; elsewhere, so that they fit beside the rest.
PRODUCTS_CPU, PRODUCTS = 2**18, 2**26


def importance(magnitude: Tensor, table: Tensor | None, row: Tensor) -> Tensor:
    """Mean over units of |gradient| · activation, or of |gradient| alone.

    Args:
        magnitude: `(instance, span, unit)`, |gradient|, contiguous.
        table: `(row, unit)`, activations; None for |gradient| alone.
        row: `(instance, span)`, the row of `table` that belongs to each frame.

    Returns:
        `(instance, span)`.
    """
    if table is None:
        return magnitude.mean(-1)
    flat, rows = magnitude.flatten(0, 1), row.flatten()
    step = max(1, (PRODUCTS_CPU if flat.device.type == "cpu" else PRODUCTS) // flat.shape[1])
    pieces = [table[rows[at : at + step]].mul_(flat[at : at + step]).mean(-1) for at in range(0, len(flat), step)]
    return torch.cat(pieces).view(row.shape)


def alignment_times(value: Tensor, inside: Tensor, position: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
    """The position of each row's largest value, and whether the row was flat.

    Of equal values the one closest to the centre is taken, the earlier of two as close. A row that has the same value
    everywhere, and has more than one value or only a zero, is flat: its centre is taken.

    Args:
        value: `(instance, span)`, finite where `inside`.
        inside: `(instance, span)`, what may be chosen; at least one in a row.
        position: `(instance, span)`, whole numbers.
        centre: `(instance,)`.

    Returns:
        Times `(instance,)` and flat `(instance,)`, bool.
    """
    high = value.masked_fill(~inside, -torch.inf).amax(1)
    low = value.masked_fill(~inside, torch.inf).amin(1)
    flat = (high == low) & ((inside.sum(1) > 1) | (high == 0))
    beside = position - centre[:, None]
    away = 2 * beside.abs() + (beside > 0)
    best = away.masked_fill(~inside | (value != high[:, None]), torch.iinfo(away.dtype).max).argmin(1)
    return torch.where(flat, centre, position.gather(1, best[:, None])[:, 0]), flat


class Cells(NamedTuple):
    """Where the frames of instances go: cells are (class, offset) pairs, class by class. Made by `cells`."""

    entry: Tensor
    """`(entry,)`, the instance of each entry, sorted by class."""
    place: Tensor
    """`(entry, offset)`, where each frame stands when frames are sorted by cell."""
    edge: Tensor
    """`(class · offset + 1,)`, where each cell begins in that order, and the end."""


def cells(entry: Tensor, kind: Tensor, width: int) -> tuple[Cells, Tensor]:
    """Sort the frames of windows by (class, offset), by arithmetic instead of a sort of all frames.

    Args:
        entry: `(entry,)`, an instance each; one instance may have several entries.
        kind: `(entry,)`, its class, whole numbers.
        width: frames in a window.

    Returns:
        The cells, and the classes that occur `(class,)`, rising.
    """
    kind, order = kind.sort(stable=True)
    present, row, size = torch.unique_consecutive(kind, return_inverse=True, return_counts=True)
    begin = size.cumsum(0) - size
    offset = torch.arange(width, device=entry.device)
    rank = torch.arange(len(kind), device=entry.device) - begin[row]
    place = (begin[row] * width + rank)[:, None] + offset * size[row, None]
    edge = ((begin * width)[:, None] + offset * size[:, None]).flatten()
    end = edge.new_tensor([place.numel()])
    return Cells(entry[order], place, torch.cat([edge, end])), present


def window_sums(table: Tensor, row: Tensor, valid: Tensor, where: Cells) -> tuple[Tensor, Tensor]:
    """Sum rows of a table into cells, reading each row where it lies.

    Args:
        table: `(row, unit)`.
        row: `(instance, offset)`, the row of `table` at each offset of each window.
        valid: `(instance, offset)`, where there is one; `row` is not read elsewhere.

    Returns:
        Sums `(class, offset, unit)` in the table's precision, and how many rows went in `(class, offset)`.
    """
    width = row.shape[1]
    rows, there = row.new_empty(where.place.numel()), valid.new_empty(where.place.numel())
    rows[where.place] = row[where.entry]
    there[where.place] = valid[where.entry]
    before = torch.cat([where.edge.new_zeros(1), there.cumsum(0)])[where.edge]
    # 32-bit indices take the fast way through embedding_bag.
    index = torch.int32 if max(len(table), len(rows)) < 2**31 else torch.int64
    chosen, begin = rows[there].to(index), before[:-1].to(index)
    sums = torch.nn.functional.embedding_bag(chosen, table, begin, mode="sum")
    return sums.view(-1, width, table.shape[1]), before.diff().view(-1, width)


class Block(NamedTuple):
    """Instances of one layer."""

    gradient: Tensor
    """`(instance, span, unit)`, contiguous."""
    first: Tensor
    """`(instance,)`, the row of the table of activations at which the utterance begins."""
    length: Tensor
    """`(instance,)`, frames of the utterance."""
    start: Tensor
    """`(instance,)`, frame at which the gradient begins."""
    centre: Tensor
    """`(instance,)`, frame that corresponds to the predicted output frame."""
    membership: Tensor
    """`(instance, grouping)`, groups, -1 for none."""
    usable: Tensor
    """`(instance,)`, whether the utterance's activations are finite."""


@dataclass
class LayerSums:
    """What one layer keeps. The last row of every group axis is for all instances, in groups or not."""

    activation: Tensor
    """`(group + 1, offset, unit)`, float64, as are `gradient` and `magnitude`, the sum of |gradient|."""
    gradient: Tensor
    magnitude: Tensor
    reached: Tensor
    """`(group + 1, offset)`, int64, how many instances have a frame at the offset."""
    instances: Tensor
    """`(group + 1,)`, int64."""
    tally: Tensor
    """`(3,)`, int64: instances whose map was flat, instances left out as not finite, the widest cone in frames."""

    @classmethod
    def zeros(cls, groups: int, width: int, units: int, device: torch.device) -> LayerSums:
        """Nothing yet."""
        total = torch.zeros(groups + 1, width, units, dtype=torch.float64, device=device)
        reached = torch.zeros(groups + 1, width, dtype=torch.int64, device=device)
        tally = torch.zeros(3, dtype=torch.int64)
        return cls(total, total.clone(), total.clone(), reached, reached[:, 0].clone(), tally)

    def tables(self) -> dict[str, Tensor]:
        """Everything, by name."""
        return dict(self.__dict__)

    def merge(self, other: LayerSums) -> None:
        """Add sums of the same shapes."""
        span = torch.maximum(self.tally[2], other.tally[2])
        for name, table in self.tables().items():
            table.add_(other.tables()[name].to(table.device))
        self.tally[2] = span

    def add(self, table: Tensor, block: Block, *, weigh: bool, align: bool, zeros: bool) -> Tensor:
        """Add instances whose activations are rows of `table` `(row, unit)`.

        `weigh`: |gradient| · activation decides the time, not |gradient| alone; `align` off: the centre is the time.
        `zeros`: positions outside the utterance count. Returns the indices of the instances left out as not finite.
        """
        span, device = block.gradient.shape[1], table.device
        position = block.start[:, None] + torch.arange(span, device=device)
        inside = (position >= 0) & (position < block.length[:, None])
        row = (block.first[:, None] + position).clamp(0, len(table) - 1)
        magnitude = block.gradient.abs()
        value = importance(magnitude, table if weigh else None, row)
        sound = (value.isfinite() | ~inside).all(1) & block.usable
        if not sound.all():
            self.tally[1] += int((~sound).sum())
            if sound.any():
                self.add(table, Block(*(part[sound] for part in block)), weigh=weigh, align=align, zeros=zeros)
            return (~sound).nonzero()[:, 0]
        time = block.centre
        if align:
            time, flat = alignment_times(value, inside, position, block.centre)
            self.tally[0] += int(flat.sum())
        self.tally[2] = max(int(self.tally[2]), span)
        width = self.reached.shape[1]
        position = time[:, None] + torch.arange(-(width // 2), width // 2 + 1, device=device)
        inside = (position >= 0) & (position < block.length[:, None])
        column = position - block.start[:, None]
        covered = inside & (column >= 0) & (column < span)
        where, kinds = self._cells(block.membership)
        found, reached = window_sums(table, block.first[:, None] + position, inside, where)
        self._spread(self.activation, found, kinds)
        row = torch.arange(len(time), device=device)[:, None] * span + column
        for total, rows in ((self.gradient, block.gradient), (self.magnitude, magnitude)):
            self._spread(total, window_sums(rows.flatten(0, 1), row, covered, where)[0], kinds)
        size = (where.edge[width::width] - where.edge[:-1:width]) // width
        self._spread(self.reached, size[:, None].expand_as(reached) if zeros else reached, kinds)
        self._spread(self.instances, size, kinds)
        return row[:0, 0]

    def _cells(self, membership: Tensor) -> tuple[Cells, list[int]]:
        """Cells by grouping and group; in the first grouping "none" counts as one, so that it holds every instance."""
        rows, width = self.reached.shape
        if membership.shape[1] == 0:
            membership = membership.new_full((len(membership), 1), -1)
        member = membership >= 0
        kind = membership.where(member, rows - 1) + rows * torch.arange(membership.shape[1], device=member.device)
        member[:, 0] = True
        entry, grouping = member.nonzero(as_tuple=True)
        where, kinds = cells(entry, kind[entry, grouping], width)
        return where, kinds.tolist()

    def _spread(self, total: Tensor, found: Tensor, kinds: list[int]) -> None:
        """Add sums by grouping and group to a table by group, and those of the first grouping to its last row."""
        rows = len(self.reached)
        for kind, part in zip(kinds, found, strict=True):
            if kind % rows < rows - 1:
                total[kind % rows].add_(part)
        total[-1].add_(found[: sum(kind < rows for kind in kinds)].sum(0))
