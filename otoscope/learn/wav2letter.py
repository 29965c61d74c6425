"""Wav2Letter: 1-D convolutions over time from mel features to graphemes (Collobert et al. 2016; Krug et al. 2020).

The GradNAP paper analyses the 11-layer form: a kernel of 48 with stride 2, seven of 7, one of 32, one of 1, and the
output; 250 units and, in the two layers before the output, 2000. `narrow` is the same with a quarter of the units and
an eighth in the two wide layers, `small` has five layers: both are trained in minutes on two cores.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, cast

from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from otoscope.learn.norms import FrameBatchNorm
from otoscope.learn.recogniser import Recogniser, RecogniserConfig, shortened, valid


class ConvolutionConfig(BaseModel):
    """One layer: how many units, and the kernel's width and step in frames."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    units: int = Field(gt=0)
    kernel: int = Field(gt=0)
    stride: int = Field(default=1, gt=0)


def _stack(*layers: tuple[int, int, int]) -> tuple[ConvolutionConfig, ...]:
    return tuple(ConvolutionConfig(units=units, kernel=kernel, stride=stride) for units, kernel, stride in layers)


STACKS: dict[str, tuple[ConvolutionConfig, ...]] = {
    "paper": _stack((250, 48, 2), *[(250, 7, 1)] * 7, (2000, 32, 1), (2000, 1, 1)),
    "narrow": _stack((64, 48, 2), *[(64, 7, 1)] * 7, (256, 32, 1), (256, 1, 1)),
    "small": _stack((192, 11, 2), (192, 11, 1), (192, 11, 1), (320, 1, 1)),
}


class Wav2LetterConfig(RecogniserConfig):
    """Everything needed to build the network again. Saved in its checkpoints; unknown keys are refused."""

    network: Literal["wav2letter"] = "wav2letter"
    hidden: tuple[ConvolutionConfig, ...] = STACKS["small"]
    norm: Literal["none", "batch", "layer"] = "batch"
    dropout: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _check(self) -> Wav2LetterConfig:
        if not self.hidden:
            raise ValueError("hidden: at least one layer is needed")
        return self


NORMS: dict[str, Callable[[int], nn.Module | None]] = {
    "none": lambda units: None,
    "batch": FrameBatchNorm,
    "layer": nn.LayerNorm,
}


class ConvolutionLayer(nn.Module):
    """Convolution over time, then (unless it is the output) normalisation, ReLU and dropout.

    Works on `(batch, frame, unit)`. An utterance of `n` frames gives `ceil(n / stride)`; beyond its ends lie zeros.
    """

    def __init__(self, inputs: int, config: ConvolutionConfig, *, norm: str, dropout: float, output: bool = False):
        super().__init__()
        self.kernel, self.stride = config.kernel, config.stride
        self.convolution = nn.Conv1d(inputs, config.units, config.kernel, stride=config.stride)
        self.norm = None if output else NORMS[norm](config.units)
        self.activation = None if output else nn.ReLU()
        self.dropout = nn.Dropout(dropout) if dropout and not output else None

    def forward(self, values: Tensor) -> Tensor:
        """`(batch, frame, unit)` to `(batch, ceil(frame / stride), unit)`."""
        if self.kernel == self.stride == 1:
            values = nn.functional.linear(values, self.convolution.weight.squeeze(2), self.convolution.bias)
            return self._after(values)
        left = (self.kernel - 1) // 2
        # The right end is padded up to a whole step, so that the last frame does not depend on the batch's length.
        right = self.kernel - 1 - left
        values = nn.functional.pad(values.transpose(1, 2), (left, right))
        # A 2-D convolution over a height of one takes the channels-last layout that these tensors have anyway,
        # which is a quarter faster here than the 1-D one.
        weight = self.convolution.weight.unsqueeze(2)
        values = nn.functional.conv2d(values.unsqueeze(2), weight, self.convolution.bias, stride=(1, self.stride))
        return self._after(values.squeeze(2).transpose(1, 2))

    def _after(self, values: Tensor) -> Tensor:
        for module in (self.norm, self.activation, self.dropout):
            if module is not None:
                values = module(values)
        return values


class Wav2Letter(Recogniser):
    """The network; its layers are `layer1` … `layerN`."""

    bfloat16_on_cpu = True

    def __init__(self, config: Wav2LetterConfig):
        super().__init__(config)
        plan = [*config.hidden, ConvolutionConfig(units=len(config.symbols), kernel=1)]
        self.layer_names = tuple(f"layer{number}" for number in range(1, len(plan) + 1))
        self.strides = tuple(layer.stride for layer in plan)
        inputs = config.mels
        for name, layer in zip(self.layer_names, plan, strict=True):
            output = name == self.layer_names[-1]
            self.add_module(
                name, ConvolutionLayer(inputs, layer, norm=config.norm, dropout=config.dropout, output=output)
            )
            inputs = layer.units

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features `(batch, frame, mel)` and their lengths in frames to logits `(batch, frame, symbol)` and theirs.

        Padding never changes a valid frame of any layer: after each layer the frames beyond an utterance are zeros,
        as they are beyond the end of one that runs alone.
        """
        values = features
        for name in self.layer_names:
            layer = cast(ConvolutionLayer, self.get_submodule(name))
            values = values * valid(lengths, values).unsqueeze(2)
            values = layer(values)
            lengths = shortened(lengths, layer.stride)
        return values, lengths
