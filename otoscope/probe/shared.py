"""Gradients of single frames backward through their cones alone, from one forward pass that all frames share.

An utterance runs once and is taken apart (`otoscope.probe.diagonal`) into matrix products and factors. What is left to
do for a frame is to go backward: through each convolution by one matrix product for each place of its kernel, on just
the frames of the cone, and through everything else by one product with the factors of these frames. Many frames go
together, laid out as `(frame of the cone, row, unit)`, so that a step of the kernel is a step in memory and nothing has
to be copied for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from otoscope.probe.diagonal import NotDiagonal, Place, Product, Taken


class Extent(NamedTuple):
    """For frame t of the logits: the `frames` frames from t · `step` + `offset` on."""

    step: int
    offset: int
    frames: int

    def before(self, product: Product) -> Extent:
        """The frames of a product's input on which these of its output depend."""
        kernel = len(product.weight)
        frames = (self.frames - 1) * product.stride + (kernel - 1) * product.dilation + 1
        return Extent(self.step * product.stride, self.offset * product.stride - product.padding, frames)


def extents(places: Sequence[Place]) -> list[Extent | None]:
    """Which frames of each place one logit depends on; None for a place on which it does not.

    Raises:
        NotDiagonal: branches of unequal strides meet.
    """
    found: list[Extent | None] = [None] * len(places)
    found[-1] = Extent(1, 0, 1)
    for number in reversed(range(len(places))):
        at, place = found[number], places[number]
        if at is None:
            continue
        given = at if place.product is None else at.before(place.product)
        for link in place.links:
            extent, known = given._replace(offset=given.offset + link.shift), found[link.source]
            if known is not None:
                if known.step != extent.step:
                    raise NotDiagonal("branches of unequal strides that meet")
                first = min(known.offset, extent.offset)
                end = max(known.offset + known.frames, extent.offset + extent.frames)
                extent = Extent(known.step, first, end - first)
            found[link.source] = extent
    return found


class Step(NamedTuple):
    """One matrix product of the way back through a convolution: from each frame of its output to a frame of its input.

    Attributes:
        offset, column: where in the input's gradient `(frame / stride, row, stride · unit)` the result goes.
        matrix: `(output unit, a multiple of the input units)`.
    """

    offset: int
    column: int
    matrix: Tensor


def steps(product: Product, count: int) -> list[Step]:
    """The products that go through a convolution from so many frames. For neighbours within a stride they are one."""
    kernel, outputs, units = product.weight.shape
    if kernel == 1:
        return [Step(0, 0, product.weight[0])]
    if _at_once(product, count):
        return [Step(0, 0, product.weight.permute(1, 2, 0).reshape(outputs, units * kernel))]
    # A convolution holds its kernel innermost; the steps need each place of it in one piece.
    weight = product.weight.permute(1, 2, 0).reshape(outputs * units, kernel).T.contiguous()
    weight = weight.view(kernel, outputs, units)
    if product.dilation > 1:
        return [
            Step(place * product.dilation // product.stride, place * product.dilation % product.stride * units, matrix)
            for place, matrix in enumerate(weight)
        ]
    groups = weight.split(product.stride)
    return [Step(offset, 0, torch.cat(list(group), 1)) for offset, group in enumerate(groups)]


def _at_once(product: Product, count: int) -> bool:
    """Whether one product gives all frames of the input, in the order in which the weights lie."""
    return count == 1 and product.stride == 1 and product.dilation == 1


def through_product(gradient: Tensor, through: Sequence[Step], product: Product) -> Tensor:
    """From the gradient at a convolution's output to that at its input, both `(frame, row, unit)`.

    Only the operations that the frames need are done.
    """
    count, rows, _ = gradient.shape
    kernel, _, units = product.weight.shape
    stride = product.stride
    length = (count - 1) * stride + (kernel - 1) * product.dilation + 1
    flat = gradient.flatten(0, 1)
    if kernel == 1 and stride == 1:
        return (flat @ through[0].matrix).view(count, rows, units)
    if _at_once(product, count):
        return (flat @ through[0].matrix).view(rows, units, kernel).permute(2, 0, 1).contiguous()
    # Frames that a stride has in one step lie beside each other.
    result = gradient.new_zeros((-(-length // stride), rows, stride * units))
    for offset, column, matrix in through:
        slab = result[offset : offset + count].view(count * rows, stride * units)
        slab[:, column : column + matrix.shape[1]].addmm_(flat, matrix)
    if stride == 1:
        return result
    return result.view(-1, rows, stride, units).transpose(1, 2).flatten(0, 1)[:length]


class Group:
    """Utterances alike in all but length and factors, whose frames go backward together."""

    def __init__(self, taken: Sequence[Taken]) -> None:
        self.places = taken[0].places
        self.extents = extents(self.places)
        self._steps = {
            number: steps(place.product, extent.frames)
            for number, (place, extent) in enumerate(zip(self.places, self.extents, strict=True))
            if place.product is not None and extent is not None and place.links
        }
        self.take_in(taken)

    def fits(self, taken: Taken) -> bool:
        """Whether an utterance can take the place of this group's."""
        return taken.signature == self._signature

    def take_in(self, taken: Sequence[Taken]) -> None:
        """Put these utterances in the place of those before."""
        self._signature = taken[0].signature
        self._factors: dict[tuple[int, int], Tensor] = {}
        self.frames = torch.tensor([[place.frames for place in one.places] for one in taken])
        # A frame of zeros lies before, between and after the utterances.
        self._first = (self.frames + 1).cumsum(0) - self.frames
        for number, place in enumerate(self.places):
            for place_of, link in enumerate(place.links):
                if link.factor is None:
                    continue
                zeros = link.factor.new_zeros((1, link.factor.shape[1]))
                parts = [zeros]
                for one in taken:
                    factor = one.places[number].links[place_of].factor
                    parts += [zeros if factor is None else factor, zeros]
                self._factors[number, place_of] = torch.cat(parts)

    @torch.inference_mode(False)
    @torch.no_grad()
    def backward(
        self, utterance: Tensor, frame: Tensor, symbol: Tensor, like: Tensor
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Layer → gradients `(row, frame, unit)` of the rows' logits, and the frame at which each row's begin.

        Args:
            utterance, frame, symbol: int64 `(row,)` on the CPU: index into the group, and the logit asked for.
            like: a tensor of the device and type to compute in.
        """
        found: dict[str, tuple[Tensor, Tensor]] = {}
        waiting: dict[int, Tensor] = {}
        rows = len(frame)
        last = like.new_zeros((1, rows, self.places[-1].units))
        last[0, torch.arange(rows), symbol] = 1
        waiting[len(self.places) - 1] = last
        for number in reversed(range(len(self.places))):
            place, extent = self.places[number], self.extents[number]
            gradient = waiting.pop(number, None)
            if gradient is None or extent is None:
                if place.layer is not None:
                    found[place.layer] = last.new_zeros((rows, 1, place.units)), torch.zeros_like(frame)
                continue
            if place.layer is not None:
                found[place.layer] = gradient.transpose(0, 1), frame * extent.step + extent.offset
            if place.product is not None and place.links:
                gradient = through_product(gradient, self._steps[number], place.product)
                extent = extent.before(place.product)
            for index, link in enumerate(place.links):
                at, whole = extent._replace(offset=extent.offset + link.shift), self.extents[link.source]
                given = self._through(number, index, gradient, at, link.source, utterance, frame)
                if whole is not None and whole != at:
                    wide = given.new_zeros((whole.frames, *given.shape[1:]))
                    begin = at.offset - whole.offset
                    wide[begin : begin + at.frames] = given
                    given = wide
                waiting[link.source] = waiting[link.source] + given if link.source in waiting else given
        return found

    def _through(
        self, number: int, index: int, gradient: Tensor, at: Extent, source: int, utterance: Tensor, frame: Tensor
    ) -> Tensor:
        """The gradient times the derivative of a link; 0 beyond the utterance's ends."""
        begin = frame * at.step + at.offset
        frames = self.frames[utterance, source]
        factor = self._factors.get((number, index))
        if factor is None and bool((begin >= 0).all()) and bool((begin + at.frames <= frames).all()):
            return gradient
        reached = begin + torch.arange(at.frames)[:, None]
        if factor is None:
            inside = ((reached >= 0) & (reached < frames)).unsqueeze(2)
            return gradient.masked_fill(~inside.to(gradient.device), 0)
        flat = self._first[utterance, source] + torch.minimum(reached.clamp(min=-1), frames)
        return factor.index_select(0, flat.flatten().to(factor.device)).view_as(gradient).mul_(gradient)


def grouped(
    utterances: Iterator[tuple[Taken, Tensor]], rows: int, frames: int
) -> Iterator[tuple[Group, Tensor, Tensor]]:
    """Put together utterances that can go backward together.

    Args:
        utterances: each taken apart, and the instances asked for in it.
        rows, frames: a group that has so many instances, or frames of its longest layer, takes no more utterances.

    Yields:
        A group, its instances, and for each instance the index of its utterance in the group. The group is the same
        object as the one before where it can be: one is to be used before the next is taken.

    Raises:
        NotDiagonal: not this network.
    """
    group: Group | None = None
    for together in _alike(utterances, rows, frames):
        taken, instances = [one for one, _ in together], [some for _, some in together]
        if group is not None and group.fits(taken[0]):
            group.take_in(taken)
        else:
            group = Group(taken)
        yield group, torch.cat(instances), torch.repeat_interleave(torch.tensor([len(some) for some in instances]))


def _alike(utterances: Iterator[tuple[Taken, Tensor]], rows: int, frames: int) -> Iterator[list[tuple[Taken, Tensor]]]:
    together: list[tuple[Taken, Tensor]] = []
    for one, asked in utterances:
        if together and one.signature != together[0][0].signature:
            yield together
            together = []
        together.append((one, asked))
        if (
            sum(len(some) for _, some in together) >= rows
            or sum(max(place.frames for place in taken.places) for taken, _ in together) >= frames
        ):
            yield together
            together = []
    if together:
        yield together
