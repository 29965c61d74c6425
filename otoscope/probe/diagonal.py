"""One utterance through a network, taken apart: matrix products, and the factors that lie between them.

Where everything between a network's convolutions and linear layers works on each value by itself (normalisation in
`eval()`, activations, masks, padding), the way back through it is a product with a factor for each value: its Jacobian
is diagonal, up to a shift in time. These factors do not depend on which logit is explained, so that one pass over an
utterance serves all of its frames.

That the Jacobians are diagonal is not read off the modules: each is applied to random numbers and compared.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from otoscope.base import BadOption
from otoscope.probe.layers import Layer, as_frames
from otoscope.probe.taps import first_tensor, frozen, listening

# A Jacobian counts as diagonal where it gives what its diagonal gives, as a share of the largest value.
DIAGONAL = {torch.float64: 1e-12}
DIAGONAL_SINGLE = 1e-5


class NotDiagonal(BadOption):
    """The network cannot be taken apart in this way."""

    def __init__(self, found: str) -> None:
        super().__init__(
            "one forward pass cannot be shared by all frames of this network",
            got=found,
            wanted="convolutions and linear layers, with nothing but functions of single values between them",
            remedy="method='auto', which takes another way then",
        )


class Product(NamedTuple):
    """A convolution over time; a linear layer is one with a kernel of 1. Weight: `(kernel, output, input)`."""

    weight: Tensor
    stride: int = 1
    padding: int = 0
    dilation: int = 1

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for the same convolution in another pass."""
        weight = self.weight
        return weight.data_ptr(), weight.shape, weight.stride(), *self[1:]


class Link(NamedTuple):
    """What a place gets from an earlier one: frame t is a function of frame t + `shift` there, value by value.

    Attributes:
        source: index of the earlier place.
        shift: in frames.
        factor: derivative `(frame of the earlier place, unit)`; None where it is 1 throughout.
    """

    source: int
    shift: int
    factor: Tensor | None


class Place(NamedTuple):
    """A point of the network where its graph is cut.

    Attributes:
        frames, units: of its values in this utterance.
        layer: whose output it is, or the input; None for the output of a product.
        product: by which it comes from `links`; None where it is what the links say.
        links: of the product's input, or of the place itself.
    """

    frames: int
    units: int
    layer: Layer | None
    product: Product | None
    links: tuple[Link, ...]


class Taken(NamedTuple):
    """An utterance taken apart: places in order of execution, the logits last."""

    places: tuple[Place, ...]

    @property
    def signature(self) -> tuple[Any, ...]:
        """Equal for utterances that can go backward together."""
        return tuple(
            (
                place.units,
                place.layer,
                None if place.product is None else place.product.key,
                *((link.source, link.shift, link.factor is None) for link in place.links),
            )
            for place in self.places
        )


class _Cut:
    """Cuts the graph of one pass at every product and every layer wanted."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.layers = {str(layer): layer for layer in layers}
        self.places: list[Place] = []
        self.seen: set[str] = set()
        self._leaves: list[Tensor] = []
        self._views: list[Callable[[Tensor], Tensor]] = []
        # Its own, so that whoever looks at a network does not change what is drawn elsewhere.
        self._random = torch.Generator().manual_seed(0)

    def visit(self, name: str, tensor: Tensor | None) -> Tensor | None:
        layer = self.layers[name]
        if name in self.seen:
            raise NotDiagonal(f"layer {name!r} is called more than once")
        self.seen.add(name)
        if tensor is None or not tensor.is_floating_point():
            raise NotDiagonal(f"layer {name!r} gives no tensor of real numbers")

        def view(values: Tensor) -> Tensor:
            return as_frames(values, layer)[0]

        return self.cut(tensor, view, layer, None, self.links(view(tensor), f"layer {name!r}"))

    def cut(
        self,
        tensor: Tensor,
        view: Callable[[Tensor], Tensor],
        layer: Layer | None,
        product: Product | None,
        links: tuple[Link, ...],
    ) -> Tensor:
        """Let the graph begin anew at `tensor`, of which `view` makes `(frame, unit)`."""
        leaf = tensor.detach().requires_grad_()
        frames, units = view(leaf).shape
        self.places.append(Place(frames, units, layer, product, links))
        self._leaves.append(leaf)
        self._views.append(view)
        # Whatever follows may write in place: it writes on a copy.
        return leaf.clone()

    def links(self, values: Tensor, what: str) -> tuple[Link, ...]:
        """How `values` `(frame, unit)` come from the places before."""
        if not values.requires_grad or not self._leaves:
            return ()
        ramp = torch.arange(1, len(values) + 1, device=values.device, dtype=values.dtype)[:, None].expand_as(values)
        # Of two vectors, because a number for each value takes as long to draw as all the rest.
        noise = torch.rand(2, max(values.shape), generator=self._random, dtype=values.dtype).to(values.device).add_(0.5)
        noise = noise[0, : len(values), None] * noise[1, : values.shape[1]]
        back = [
            torch.autograd.grad(values, self._leaves, given, retain_graph=True, allow_unused=True)
            for given in (torch.ones_like(values), ramp, noise)
        ]
        found = []
        for source, (view, *answers) in enumerate(zip(self._views, *back, strict=True)):
            if answers[0] is not None:
                factor, ramped, noisy = (view(answer).detach() for answer in answers)
                found.append(_link(source, factor, ramped, noise, noisy, what))
        return tuple(found)


def _link(source: int, factor: Tensor, ramped: Tensor, noise: Tensor, noisy: Tensor, what: str) -> Link:
    """The link whose Jacobian, transposed, made `ramped` and `noisy` of the frames' numbers and of `noise`."""
    if factor.shape[1] != noise.shape[1]:
        raise NotDiagonal(f"{what} has {noise.shape[1]} values a frame where what it is made of has {factor.shape[1]}")
    if not _size(factor):
        return Link(source, 0, factor.contiguous())
    largest = int(factor.abs().nan_to_num_(0, 0, 0).argmax())
    number = float(ramped.flatten()[largest] / factor.flatten()[largest]) - 1
    if not math.isfinite(number):
        raise NotDiagonal(f"{what} is not a function of single values")
    shift = largest // factor.shape[1] - round(number)
    expected = torch.zeros_like(factor)
    first, end = max(0, shift), min(len(factor), len(noise) + shift)
    if first < end:
        torch.mul(factor[first:end], noise[first - shift : end - shift], out=expected[first:end])
    allowed = DIAGONAL.get(factor.dtype, DIAGONAL_SINGLE) * _size(expected)
    if _size(expected.sub_(noisy)) > allowed:
        raise NotDiagonal(f"{what} mixes values of what it is made of")
    ones = first == 0 and end == len(factor) and bool((factor == 1).all())
    return Link(source, shift, None if ones else factor.contiguous())


def _size(values: Tensor) -> float:
    """The largest absolute value. Where a value is NaN its derivative may be as well: there is nothing to compare."""
    size = float(torch.linalg.vector_norm(values, math.inf))
    return size if math.isfinite(size) else float(torch.linalg.vector_norm(values.nan_to_num(0, 0, 0), math.inf))


class _Products(TorchFunctionMode):
    """Hands the products of a pass to a `_Cut`."""

    def __init__(self, cut: _Cut) -> None:
        super().__init__()
        self._cut = cut

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if func is torch.nn.functional.linear:
            return self._linear(*args, **given)
        if func in (torch.conv1d, torch.conv2d):
            return self._convolution(func, *args, **given)
        return func(*args, **given)

    def _linear(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        output = torch.nn.functional.linear(input, weight, bias)
        if not input.requires_grad:
            return output
        return self._given(input, output, _flat, Product(_fixed(weight).detach()[None]))

    def _convolution(
        self,
        func: Any,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Tensor:
        output = func(input, weight, bias, stride, padding, dilation, groups)
        if not input.requires_grad:
            return output
        sizes = list(_fixed(weight).shape[2:])
        # The axis of frames is the last, or the one before where the kernel is only as wide as a column.
        axis = len(sizes) - 1 if sizes[0] == 1 and (len(sizes) == 1 or input.shape[2] == 1) else 0
        others = [size for shape in (sizes, input.shape[2:], output.shape[2:]) for size in _without(shape, axis)]
        if groups != 1 or len(input) != 1 or input.ndim != weight.ndim or any(size != 1 for size in others):
            raise NotDiagonal("a convolution that is not over time alone, or in groups")
        along = {"stride": stride, "dilation": dilation}
        steps = {
            name: value if isinstance(value, int) else value[-1 if len(value) == 1 else axis]
            for name, value in along.items()
        }
        if isinstance(padding, str):
            padding = (sizes[axis] - 1) * steps["dilation"] // 2 if padding == "same" else 0
        elif not isinstance(padding, int):
            padding = padding[-1 if len(padding) == 1 else axis]
        product = Product(weight.detach().flatten(2).permute(2, 0, 1), padding=padding, **steps)
        return self._given(input, output, _channels_first, product)

    def _given(self, input: Tensor, output: Tensor, view: Callable[[Tensor], Tensor], product: Product) -> Tensor:
        links = self._cut.links(view(input), "the input of a convolution or linear layer")
        return self._cut.cut(output, view, None, product, links)


def _fixed(weight: Tensor) -> Tensor:
    if weight.requires_grad:
        raise NotDiagonal("a product whose weights depend on the input")
    return weight


def _without(sizes: Sequence[int], axis: int) -> list[int]:
    return [size for at, size in enumerate(sizes) if at != axis]


def _flat(values: Tensor) -> Tensor:
    return values.flatten(0, -2)


def _channels_first(values: Tensor) -> Tensor:
    return values[0].flatten(1).T


def take_apart(network: nn.Module, layers: Sequence[Layer], features: Tensor) -> Taken:
    """Run one utterance `(frame, mel)` and take it apart at the layers.

    Raises:
        NotDiagonal: not this network, or not on these features.
    """
    cut = _Cut(layers)
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(frozen(network))
        stack.enter_context(listening(network, cut.layers, cut.visit))
        stack.enter_context(_Products(cut))
        lengths = torch.full((1,), len(features), device=features.device)
        logits = first_tensor(network(features[None].clone(), lengths))
        if logits is None or logits.ndim != 3:
            raise NotDiagonal("the network's first output is not logits (batch, frame, symbol)")
        links = cut.links(logits[0], "the output")
    missing = [name for name in cut.layers if name not in cut.seen]
    if missing:
        raise NotDiagonal(f"layer {missing[0]!r} does not run")
    return Taken((*cut.places, Place(logits.shape[1], logits.shape[2], None, None, links)))
