"""The units of a layer at one frame, before the nonlinearity, for inputs that lie just where those units see them.

The pre-activation is what goes into the nonlinearity that a layer ends with. It is looked for while the network runs: a
module of torch's, such as `nn.ReLU`, whose output is the layer's. Where there is none (a nonlinearity called as a
function cannot be seen), the layer's own output is read, and `UnitReader.target` says so.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from otoscope.base import BadInput, BadOption, OtoscopeError
from otoscope.probe.layers import Layer, as_frames
from otoscope.probe.taps import evaluating, first_tensor, frozen

NONLINEARITIES = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.Threshold, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU),
    *(nn.Mish, nn.Softplus, nn.Softsign, nn.Softshrink, nn.Hardshrink, nn.Tanhshrink, nn.Tanh, nn.Hardtanh),
    *(nn.Sigmoid, nn.Hardsigmoid, nn.LogSigmoid, nn.Hardswish, nn.Softmax, nn.LogSoftmax),
)


class Place(NamedTuple):
    """Where an optimal input lies in what the network is given, and where the units are read.

    Attributes:
        frames: of the optimal input.
        field: RF, input frames that one unit sees; all of them where the field has no end.
        length: input frames that the network is given; beyond the optimal input they are 0, and no unit sees them.
        first: frame of that input at which the optimal input begins.
        frame: the layer's frame at which the units are read.
        centre: frame of the optimal input that corresponds to it.
    """

    frames: int
    field: int
    length: int
    first: int
    frame: int
    centre: int


def place_input(layer: Layer, frames: int | None = None) -> Place:
    """Where an input of so many frames (left out: the field of a unit) lies, and which frame of the layer sees it.

    That is the middle one of the layer's frames whose field lies inside. Where a network pads so that no frame sees
    exactly the first RF frames, the input given to it begins the few frames earlier that are needed.

    Raises:
        BadOption: the field of the layer has no end and no number was given, or the number is less than the field.
    """
    if frames is not None and (not isinstance(frames, int) or frames < 1):
        raise BadOption("frames of an optimal input", got=repr(frames), wanted="a whole number, 1 or more")
    if layer.reach is None:
        if frames is None:
            raise BadOption(
                f"a unit of layer {str(layer)!r} depends on the whole utterance (it has recurrence, attention, or "
                "statistics over time), so its optimal input has no length of its own",
                got="frames=None",
                wanted="a number of input frames",
                remedy=f"frames=100 is {100 * layer.hop_s:.3g} s",
            )
        count = layer.frames(frames)
        if not count:
            raise BadOption(f"too few frames for layer {str(layer)!r}", got=f"frames={frames}", wanted="more")
        middle = count // 2
        return Place(frames, frames, frames, 0, middle, _input_frame(layer, middle))
    left, right = layer.reach
    field = left + right + 1
    frames = field if frames is None else frames
    if frames < field:
        raise BadOption(
            f"an optimal input shorter than what a unit of layer {str(layer)!r} sees",
            got=f"frames={frames}",
            wanted=f"{field} or more, or None for just {field}",
        )
    inside = [
        frame
        for frame in range(layer.frames(frames))
        if _input_frame(layer, frame) >= left and _input_frame(layer, frame) + right < frames
    ]
    if inside:
        frame = inside[(len(inside) - 1) // 2]
        return Place(frames, field, frames, 0, frame, _input_frame(layer, frame))
    frame = next(frame for frame in range(left + field + 1) if _input_frame(layer, frame) >= left)
    first = _input_frame(layer, frame) - left
    length = first + frames
    while layer.frames(length) <= frame:
        length += 1
    return Place(frames, field, length, first, frame, left)


def _input_frame(layer: Layer, frame: int) -> int:
    """The input frame that corresponds to a frame of the layer."""
    return frame * layer.stride.numerator // layer.stride.denominator


@contextlib.contextmanager
def differentiable(network: nn.Module) -> Iterator[None]:
    """`eval()`, no parameter requires a gradient, and gradients are recorded."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(evaluating(network))
        stack.enter_context(frozen(network))
        if any(isinstance(module, nn.RNNBase) for module in network.modules()):
            # cuDNN's recurrent layers refuse to run backward in eval().
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        yield


class _Heard(Exception):
    """Ends a forward pass: the layer has been heard, and what comes after it is not needed."""

    def __init__(self, tensor: Tensor):
        super().__init__()
        self.tensor = tensor


class UnitReader:
    """Runs the network up to a layer and reads its units at one frame.

    Attributes:
        target: what is read, in words.
    """

    def __init__(self, network: nn.Module, layer: Layer, place: Place, mels: int, target: str) -> None:
        self.network, self.layer, self.place, self.mels = network, layer, place, mels
        weight = next((p for p in network.parameters() if p.is_floating_point()), torch.zeros(0))
        self.device, self.dtype = weight.device, weight.dtype
        # Module, which of its calls in a pass, and whether its input is read.
        self.source: tuple[nn.Module, int, bool] = (network.get_submodule(layer), 0, False)
        self.target = f"output of {layer}"
        if target == "preactivation":
            self._find_preactivation()

    def read(self, values: Tensor, shift: int = 0) -> Tensor:
        """The layer's units `(row, unit)` for optimal inputs `(row, frame, mel)`, moved by `shift` frames."""
        place = self.place
        moved = nn.functional.pad(values, (0, 0, max(shift, 0), max(-shift, 0)))
        moved = moved[:, max(-shift, 0) : max(-shift, 0) + place.frames]
        return self.units(nn.functional.pad(moved, (0, 0, place.first, place.length - place.first - place.frames)))

    def units(self, features: Tensor) -> Tensor:
        """The layer's units `(row, unit)` at the frame where they are read, for all that the network is given."""
        frames = as_frames(self._run(features), self.layer)
        if self.place.frame >= frames.shape[1]:
            raise BadInput(
                f"layer {str(self.layer)!r} gave fewer frames than were measured",
                got=f"{frames.shape[1]} frames for an input of {self.place.length}",
                wanted=f"more than {self.place.frame}",
            )
        return frames[:, self.place.frame]

    def _run(self, features: Tensor) -> Tensor:
        module, call, reads_input = self.source
        calls = 0

        def hear(tensor: Tensor | None) -> None:
            nonlocal calls
            if tensor is not None and calls == call:
                raise _Heard(tensor)
            calls += 1

        handle = (
            module.register_forward_pre_hook(lambda module, arguments: hear(first_tensor(arguments)))
            if reads_input
            else module.register_forward_hook(lambda module, arguments, output: hear(first_tensor(output)))
        )
        lengths = torch.full((len(features),), features.shape[1], dtype=torch.int64, device=self.device)
        try:
            self.network(features, lengths)
        except _Heard as heard:
            return heard.tensor
        except OtoscopeError:
            raise
        except Exception as error:  # somebody else's network may raise anything
            raise BadInput(
                f"the network does not run on {len(features)} inputs of {features.shape[1]} frames",
                got=f"{type(error).__name__}: {error}",
                remedy="if the input is too short for it, give frames=; if memory ran out, lower batch_frames",
            ) from error
        finally:
            handle.remove()
        raise BadInput(f"layer {str(self.layer)!r} has not run", wanted="a module that every forward pass calls")

    def _find_preactivation(self) -> None:
        """Look for the nonlinearity whose output is the layer's, in one pass over noise."""
        noise = torch.Generator().manual_seed(0)
        features = torch.randn(1, self.place.length, self.mels, generator=noise).to(self.device, self.dtype)
        seen: list[tuple[nn.Module, int, Tensor]] = []

        def note(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
            if isinstance(output, Tensor):
                calls = sum(module is other for other, _, _ in seen)
                seen.append((module, calls, output.detach().clone()))

        with contextlib.ExitStack() as stack, torch.no_grad():
            for module in self.network.modules():
                if isinstance(module, NONLINEARITIES):
                    stack.callback(module.register_forward_hook(note).remove)
            # The clones are made before whatever follows can write in place; so is this one.
            output = self._run(features).clone()
        names = {module: name for name, module in self.network.named_modules()}
        for module, call, given in reversed(seen):
            if given.shape == output.shape and torch.equal(given, output):
                self.source = (module, call, True)
                self.target = f"input of {names[module]}, the pre-activation of {self.layer}"
                return
