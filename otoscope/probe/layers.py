"""The layers of any torch module: which there are, and how each relates in time to the input and to the output.

Nothing is guessed from the code of a network: it is run on random input and watched (`otoscope.probe.strides`,
`otoscope.probe.reach`).

Time is counted in frames. A layer of stride s gives one frame for s input frames, so frame t of the output corresponds
to frame floor(t · s_output / s_layer) of the layer.
"""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

from otoscope.base import BadInput, BadOption
from otoscope.probe.reach import measure_reach
from otoscope.probe.strides import OUTPUT, Bench, FrameCount, by_frame
from otoscope.probe.taps import INPUT


class Layer(str):
    """A module's dotted name, with what was measured of it. It is a `str` and can be used wherever a name is wanted.

    Attributes:
        kind: class of the module; of the layer `"input"`, "Features".
        width: units, that is values per frame: the sizes of all axes but batch and frame, multiplied.
        batch_axis, frame_axis: which axes of the module's output are which.
        stride: input frames per frame of this layer.
        stride_s: the same in seconds.
        field: input frames that one frame of this layer depends on, first to last; None where they span the utterance
            (or more than about 2,000 frames).
        reach: `(left, right)`: where that field lies: frame t depends on input frames c - left … c + right, c being
            floor(t · stride); None as for `field`.
        cone: `(left, right)`: output frame t depends on this layer's frames c - left … c + right, c being the frame
            that corresponds to t; None where they span the utterance or the output is not one frame for so many.
        own: whether the network counts it among its layers (`network.layer_names`); true of every module of a network
            that does not say.
    """

    kind: str
    width: int
    batch_axis: int
    frame_axis: int
    stride: Fraction | int
    hop_s: float
    field: int | None
    reach: tuple[int, int] | None
    cone: tuple[int, int] | None
    own: bool
    frame_count: FrameCount

    def __new__(cls, name: str, **facts: Any) -> Layer:
        layer = super().__new__(cls, name)
        unmeasured = {"kind": "", "width": 1, "batch_axis": 0, "frame_axis": 1, "stride": 1, "hop_s": 0.01}
        layer.__dict__.update(unmeasured, field=None, reach=None, cone=None, own=True, frame_count=FrameCount())
        layer.__dict__.update(facts)
        return layer

    def __repr__(self) -> str:
        field = "the utterance" if self.field is None else f"{self.field} frames"
        return f"Layer({str(self)!r}, {self.kind}, {self.width} units, stride {self.stride}, field {field})"

    @property
    def stride_s(self) -> float:
        return float(self.stride) * self.hop_s

    def frames(self, input_length: int) -> int:
        """The number of frames this layer gives for an utterance of `input_length` input frames, run by itself."""
        return self.frame_count(input_length)

    def facts(self) -> dict[str, Any]:
        """What was measured, as values that JSON can hold."""
        whole = isinstance(self.stride, int)
        return {
            "name": str(self),
            "kind": self.kind,
            "width": self.width,
            "batch_axis": self.batch_axis,
            "frame_axis": self.frame_axis,
            "stride": self.stride if whole else float(self.stride),
            "stride_s": self.stride_s,
            "field": self.field,
            "field_s": None if self.field is None else self.field * self.hop_s,
            "reach": None if self.reach is None else list(self.reach),
            "cone": None if self.cone is None else list(self.cone),
            "own": self.own,
        }


class Survey(list[Layer]):
    """The layers of a network in order of execution, the features first, and what else was measured of it.

    Attributes:
        output: the logits as a layer named "output"; None where they are not one frame for so many input frames.
        period: input frames after which the frames of every layer and of the output start anew together.
        skipped: modules that are no layers, and why, in words.
    """

    output: Layer | None = None
    period: int = 1
    skipped: dict[str, str]


def list_layers(network: nn.Module, features: Tensor | int | None = None, *, hop_s: float = 0.01) -> Survey:
    """Measure every layer of a network by running it, in `eval()`, on random features.

    Args:
        network: a module with `forward(features (batch, frame, mel), lengths (batch,)) → (logits, lengths)`.
        features: a spectrogram such as the network takes, `(frame, mel)` or `(batch, frame, mel)`, or the number of
            mel bins. Left out, it is `network.mels`, or found by trying.
        hop_s: seconds from one input frame to the next.

    Returns:
        A list of `Layer` that begins with `"input"`. Modules that give no tensor per frame, are not called or are
        called more than once in a pass are left out; `.skipped` says why.

    Raises:
        BadInput: the network does not run on such features.
    """
    with torch.inference_mode(False), torch.no_grad():
        bench = Bench(network, features)
        fields, cones = measure_reach(bench)
    own = getattr(network, "layer_names", None)
    layers = Survey()
    layers.skipped, layers.period = bench.skipped, bench.period
    for name, count in bench.counts.items():
        axes, field, cone = bench.axes[name], fields.get(name), cones.get(name)
        layer = Layer(
            "output" if name == OUTPUT else name,
            kind={INPUT: "Features", OUTPUT: "Logits"}.get(name) or type(bench.modules[name]).__name__,
            width=axes.width,
            batch_axis=axes.batch_axis,
            frame_axis=axes.frame_axis,
            stride=count.stride.numerator if count.stride.denominator == 1 else count.stride,
            hop_s=hop_s,
            field=None if field is None else field.width,
            reach=None if field is None else (field.left, field.right),
            cone=None if cone is None else (cone.left, cone.right),
            own=name in own if own is not None else name != INPUT,
            frame_count=count,
        )
        if name == OUTPUT:
            layers.output = layer
        else:
            layers.append(layer)
    return layers


def match_layers(network_layers: Sequence[Layer], wanted: str | Iterable[str]) -> list[Layer]:
    """The layers that `wanted` names: a name, a glob such as `"conv.*"`, or a list of these.

    `"*"` stands for the network's own layers (its `layer_names`; every module where it has none), `"**"` for every
    layer listed, the features among them. The order is that of the request; of layers under one glob, of execution.

    Raises:
        BadOption: a name or glob that fits no layer, or none asked for.
    """
    patterns = [wanted] if isinstance(wanted, str) else list(wanted)
    found: dict[str, Layer] = {}
    for pattern in patterns:
        if pattern == "*":
            matches = [layer for layer in network_layers if layer.own]
        elif pattern == "**":
            matches = list(network_layers)
        else:
            matches = [layer for layer in network_layers if layer == pattern]
            matches = matches or [layer for layer in network_layers if fnmatch.fnmatchcase(layer, pattern)]
        if not matches:
            raise _no_such_layer(network_layers, str(pattern))
        found.update((str(layer), layer) for layer in matches)
    if not found:
        raise BadOption("no layer was asked for", got=repr(wanted), wanted="a name, a glob or a list of these")
    return list(found.values())


def _no_such_layer(network_layers: Sequence[Layer], pattern: str) -> BadOption:
    why = getattr(network_layers, "skipped", {}).get(pattern)
    close = difflib.get_close_matches(pattern, map(str, network_layers), n=3)
    return BadOption(
        "no layer of this name" if why is None else f"module {pattern!r} cannot be used as a layer: {why}",
        got=repr(pattern),
        wanted=f"one of {len(network_layers)} layers, or a glob over their names",
        remedy=(f"did you mean {' or '.join(map(repr, close))}? " if close else "")
        + "list_layers(network) shows all; on the command line: otoscope layers",
    )


def as_frames(tensor: Tensor, layer: Layer) -> Tensor:
    """A layer's output as `(batch, frame, unit)`; axes other than batch and frame are flattened in their order.

    Raises:
        BadInput: a tensor that is not one of this layer's outputs.
    """
    if tensor.ndim > max(layer.batch_axis, layer.frame_axis):
        frames = by_frame(tensor, layer.batch_axis, layer.frame_axis)
        if frames.shape[2] == layer.width:
            return frames
    raise BadInput(
        f"this is no output of layer {str(layer)!r}",
        got=f"a tensor of shape {tuple(tensor.shape)}",
        wanted=f"batch on axis {layer.batch_axis}, frames on axis {layer.frame_axis}, {layer.width} units on the rest",
    )


def as_points(tensor: Tensor, layer: Layer) -> Tensor:
    """A layer's output as `(batch, frame, point, channel)`: what a convolutional map says at each point of a frame.

    The channels of a map `(batch, channel, frame, frequency)` are on axis 1, as torch's convolutions have them; where
    that axis is taken by the frames, on the last. Anything but a map has one point a frame.

    Raises:
        BadInput: a tensor that is not one of this layer's outputs.
    """
    if tensor.ndim <= 3:
        return as_frames(tensor, layer).unsqueeze(2)
    as_frames(tensor, layer)
    others = [axis for axis in range(tensor.ndim) if axis not in (layer.batch_axis, layer.frame_axis)]
    channel = 1 if 1 in others else others[-1]
    moved = tensor.movedim((layer.batch_axis, layer.frame_axis, channel), (0, 1, -1))
    return moved.flatten(2, -2)
