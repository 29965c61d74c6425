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


def by_rank(
    table: Tensor,
    row: Tensor,
    inside: Tensor,
    gradient: Tensor,
    column: Tensor,
    covered: Tensor,
    width: int,
    *,
    zeros: bool,
) -> tuple[Tensor, Tensor]:
    """Each unit's activations sorted over a window, the largest first, and the gradients of the frames they are of.

    A window of fewer frames than `width` is read at equal shares of its ranks: rank r of `width` is that of its m
    frames at or above which lies the share (r + 1/2) / width of them (the nearest-rank quantile).

    Args:
        table: `(row, unit)`.
        row, inside: `(instance, frame)`, the row of each frame of each window, and whether there is one.
        gradient: `(instance, span, unit)`; `column`, `covered` `(instance, frame)`: where each frame stands in it.
        width: ranks wanted.
        zeros: frames that are not there count as zeros.

    Returns:
        Activations and gradients `(instance, rank, unit)`.
    """
    frames = row.shape[1]
    missing = ~inside[..., None]
    values = table[row.clamp(0, len(table) - 1)].masked_fill_(missing, 0.0 if zeros else -torch.inf)
    order = values.argsort(stable=True, dim=1, descending=True)
    there = torch.full_like(row[:, 0], frames) if zeros else inside.sum(1)
    share = 2 * torch.arange(width, device=row.device) + 1
    rank = (share * there[:, None] - 1) // (2 * width)
    chosen = order.gather(1, rank[..., None].expand(-1, -1, order.shape[2]))
    beside = column.clamp(0, gradient.shape[1] - 1)[..., None].expand(-1, -1, gradient.shape[2])
    slopes = gradient.gather(1, beside).masked_fill_(~covered[..., None], 0)
    return values.gather(1, chosen), slopes.gather(1, chosen)


class How(NamedTuple):
    """What is done with the instances of one layer."""

    weigh: bool
    """|gradient| · activation decides the time, not |gradient| alone."""
    align: bool
    """The window lies around that time, not around the predicted frame."""
    zeros: bool
    """Positions outside the utterance count, as zeros."""
    ranked: bool = False
    """Each unit's frames are sorted by activation, which takes time away (`by_rank`)."""
    cone: bool = False
    """The window is the cone itself, wherever the time is; only where `ranked`."""
    units: Tensor | None = None
    """The units that are kept, `(unit,)`; None: all."""


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

    def spread(self, groups: Tensor, number: int) -> LayerSums:
        """The same on a group axis of `number` groups, of which `groups` `(group,)` are these; the others are 0."""
        places = torch.cat([groups, groups.new_tensor([number])]).to(self.reached.device)
        tables = {}
        for name, table in self.tables().items():
            tables[name] = table.clone()
            if name != "tally":
                empty = torch.zeros(number + 1, *table.shape[1:], dtype=table.dtype, device=table.device)
                tables[name] = empty.index_copy_(0, places, table)
        return LayerSums(**tables)

    def add(self, table: Tensor, block: Block, how: How) -> Tensor:
        """Add instances whose activations are rows of `table` `(row, unit)`.

        Returns the indices of the instances left out as not finite.
        """
        span, device = block.gradient.shape[1], table.device
        position = block.start[:, None] + torch.arange(span, device=device)
        inside = (position >= 0) & (position < block.length[:, None])
        row = (block.first[:, None] + position).clamp(0, len(table) - 1)
        magnitude = block.gradient.abs()
        value = importance(magnitude, table if how.weigh else None, row)
        sound = (value.isfinite() | ~inside).all(1) & block.usable
        if not sound.all():
            self.tally[1] += int((~sound).sum())
            if sound.any():
                self.add(table, Block(*(part[sound] for part in block)), how)
            return (~sound).nonzero()[:, 0]
        time = block.centre
        if how.align:
            time, flat = alignment_times(value, inside, position, block.centre)
            self.tally[0] += int(flat.sum())
        self.tally[2] = max(int(self.tally[2]), span)
        gradient, width = block.gradient, self.reached.shape[1]
        if how.units is not None:
            # The whole layer has decided the time; from here on only some of its units matter.
            table, gradient, magnitude = (part[..., how.units] for part in (table, gradient, magnitude))
        if not how.cone:
            position = time[:, None] + torch.arange(-(width // 2), width // 2 + 1, device=device)
            inside = (position >= 0) & (position < block.length[:, None])
        column = position - block.start[:, None]
        covered = inside & (column >= 0) & (column < span)
        where, kinds = self._cells(block.membership)
        size = (where.edge[width::width] - where.edge[:-1:width]) // width
        row = block.first[:, None] + position
        if how.ranked:
            activation, ranked = by_rank(table, row, inside, gradient, column, covered, width, zeros=how.zeros)
            row = torch.arange(len(time) * width, device=device).view(-1, width)
            covered = torch.ones_like(row, dtype=torch.bool)
            found, reached = window_sums(activation.flatten(0, 1), row, covered, where)
            gradient, magnitude = ranked, ranked.abs()
        else:
            found, reached = window_sums(table, row, inside, where)
            row = torch.arange(len(time), device=device)[:, None] * span + column
            reached = size[:, None].expand_as(reached) if how.zeros else reached
        self._spread(self.activation, found, kinds)
        for total, rows in ((self.gradient, gradient), (self.magnitude, magnitude)):
            self._spread(total, window_sums(rows.flatten(0, 1), row, covered, where)[0], kinds)
        self._spread(self.reached, reached, kinds)
        self._spread(self.instances, size, kinds)
        return time.new_zeros(0)

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
