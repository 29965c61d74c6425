"""The networks of Ollerenshaw et al. 2021 with recurrent layers: `conv-lstm` and `lstm`, with an attention decoder.

`conv-lstm` stacks one to six 2-D convolutions of 3 × 3 over time and frequency before LSTM layers; `lstm` has these
alone, without residual connections. The paper names the framework it used and not its sizes: `paper` has that
framework's for Switchboard, four bidirectional layers of 640 units a direction under three of 640 (Wang et al. 2019).

In the named sizes of any depth the encoder gives a state for four frames, so that all decoders attend to as many.
"""

from __future__ import annotations

from typing import Any, Literal, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from otoscope.base import BadOption
from otoscope.learn.lstm_decoder import LstmDecoder
from otoscope.learn.norms import MapBatchNorm
from otoscope.learn.recogniser import shortened, valid
from otoscope.learn.seq2seq import AttentionRecogniser, WriterConfig

LSTM_SIZES: dict[str, dict[str, Any]] = {
    "paper": {
        "layers": 4,
        "units": 640,
        "decoder_layers": 3,
        "decoder_units": 640,
        "embedding": 640,
        "attention_units": 640,
        "dropout": 0.5,
    },
    "small": {
        "layers": 2,
        "units": 128,
        "decoder_layers": 1,
        "decoder_units": 192,
        "embedding": 64,
        "attention_units": 128,
        "dropout": 0.2,
    },
}
CHANNELS: dict[str, tuple[int, ...]] = {"paper": (64, 64, 128, 128, 128, 128), "small": (16, 32, 32, 32, 32, 32)}
# Which convolutions take two frames and two bands to one; the framework's four layers do so in the second and fourth.
# Small networks do it as early as they can, which spares the later layers three quarters of the work, and again.
STRIDES: dict[str, dict[int, tuple[int, ...]]] = {
    "paper": {
        1: (2,),
        2: (2, 2),
        3: (1, 2, 2),
        4: (1, 2, 1, 2),
        5: (1, 2, 1, 2, 1),
        6: (1, 2, 1, 2, 1, 1),
    },
    "small": {depth: (2, 2, 1, 1, 1, 1)[:depth] for depth in range(1, 7)},
}
STATE_FRAMES = 4
"""Input frames for one state of the encoder, in the named sizes."""


class RecurrentConfig(WriterConfig):
    """What both networks have: LSTM layers that encode, and LSTM layers that write."""

    layers: int = Field(default=2, gt=0)
    units: int = Field(default=128, gt=0, description="of each layer and direction")
    bidirectional: bool = True
    strides: tuple[int, ...] = Field(
        default=(2, 2), description="how many neighbouring frames each layer takes as one (Chan et al. 2016)"
    )
    decoder_layers: int = Field(default=1, gt=0)
    decoder_units: int = Field(default=192, gt=0)
    embedding: int = Field(default=64, gt=0)
    attention_units: int = Field(default=128, gt=0)
    dropout: float = Field(default=0.2, ge=0, lt=1)

    @model_validator(mode="after")
    def _check_strides(self) -> RecurrentConfig:
        if len(self.strides) != self.layers or min(self.strides) < 1:
            raise ValueError(f"strides: {self.strides} are not one of 1 or more for each of {self.layers} layers")
        return self


class LstmConfig(RecurrentConfig):
    """Everything needed to build `lstm` again. Saved in its checkpoints; unknown keys are refused."""

    network: Literal["lstm"] = "lstm"


class ConvLstmConfig(RecurrentConfig):
    """Everything needed to build `conv-lstm` again. Saved in its checkpoints; unknown keys are refused."""

    network: Literal["conv-lstm"] = "conv-lstm"
    channels: tuple[int, ...] = Field(default=CHANNELS["small"][:2], min_length=1, description="of each convolution")
    map_strides: tuple[int, ...] = Field(
        default=STRIDES["small"][2], description="step of each convolution in time and in frequency"
    )
    strides: tuple[int, ...] = (1, 1)

    @model_validator(mode="after")
    def _check_maps(self) -> ConvLstmConfig:
        if len(self.map_strides) != len(self.channels) or min(self.map_strides + self.channels) < 1:
            raise ValueError(f"map_strides: {self.map_strides} are not one for each of the channels {self.channels}")
        return self


def lstm_size(name: str) -> dict[str, Any]:
    """The values of a named size of `lstm`: the first layers take two frames as one, until four are."""
    values = LSTM_SIZES[name]
    return {**values, "strides": (2, 2, *[1] * (values["layers"] - 2))}


def conv_lstm_size(name: str, depth: int = 3) -> dict[str, Any]:
    """The values of a named size of `conv-lstm` with so many convolutions.

    Raises:
        BadOption: a depth that is not 1 to 6.
    """
    if depth not in STRIDES[name]:
        raise BadOption("no named size has this depth", got=repr(depth), wanted="1 to 6 convolutions")
    steps = STRIDES[name][depth]
    taken = 1
    for step in steps:
        taken *= step
    values = LSTM_SIZES[name]
    return {
        **values,
        "channels": CHANNELS[name][:depth],
        "map_strides": steps,
        # What the convolutions have not done the first LSTM layer does.
        "strides": (STATE_FRAMES // taken, *[1] * (values["layers"] - 1)),
    }


class MapLayer(nn.Module):
    """Convolution of 3 × 3 over time and frequency, batch normalisation, ReLU; maps `(batch, channel, frame, mel)`."""

    def __init__(self, inputs: int, channels: int, stride: int):
        super().__init__()
        self.stride = stride
        self.convolution = nn.Conv2d(inputs, channels, 3, stride=stride, padding=1, bias=False)
        self.norm = MapBatchNorm(channels)
        self.activation = nn.ReLU()

    def forward(self, maps: Tensor) -> Tensor:
        """`(batch, channel, frame, mel)` to `(batch, channel, ceil(frame / stride), ceil(mel / stride))`."""
        return self.activation(self.norm(self.convolution(maps)))


class LstmLayer(nn.Module):
    """An LSTM over the frames of each utterance, both ways where it is bidirectional.

    Backwards is forwards over utterances that are turned round, each within its own length. torch's packed sequences
    do the same; on a CPU they take eight times as long to train.
    """

    def __init__(self, inputs: int, units: int, stride: int, bidirectional: bool):
        super().__init__()
        self.stride = stride
        self.forwards = nn.LSTM(inputs * stride, units, batch_first=True)
        self.backwards = nn.LSTM(inputs * stride, units, batch_first=True) if bidirectional else None

    def forward(self, values: Tensor, lengths: Tensor) -> Tensor:
        """`(batch, frame, unit)`, zeros beyond `lengths`, to `(batch, ceil(frame / stride), unit)`."""
        if self.stride > 1:
            values = nn.functional.pad(values, (0, 0, 0, -values.shape[1] % self.stride))
            values = values.unflatten(1, (-1, self.stride)).flatten(2)
        found = self.forwards(values)[0]
        if self.backwards is None:
            return found
        lengths = shortened(lengths, self.stride)
        return torch.cat([found, turned(self.backwards(turned(values, lengths))[0], lengths)], 2)


def turned(values: Tensor, lengths: Tensor) -> Tensor:
    """Each utterance of `(batch, frame, unit)` last frame first, its padding left where it is."""
    place = torch.arange(values.shape[1], device=values.device).expand(len(values), -1)
    source = torch.where(valid(lengths, values), lengths[:, None] - 1 - place, place)
    return values.gather(1, source[:, :, None].expand_as(values))


class ConvLstm(AttentionRecogniser):
    """The network; its layers are `conv1` …, `lstm1` … and, with CTC, `output`."""

    def __init__(self, config: LstmConfig | ConvLstmConfig):
        super().__init__(config)
        channels = config.channels if isinstance(config, ConvLstmConfig) else ()
        steps = config.map_strides if isinstance(config, ConvLstmConfig) else ()
        maps, bands = 1, config.mels
        self.conv_names = tuple(f"conv{number}" for number in range(1, len(channels) + 1))
        for name, count, step in zip(self.conv_names, channels, steps, strict=True):
            self.add_module(name, MapLayer(maps, count, step))
            maps, bands = count, -(-bands // step)
        inputs, outputs = maps * bands, config.units * (1 + config.bidirectional)
        self.lstm_names = tuple(f"lstm{number}" for number in range(1, config.layers + 1))
        for name, step in zip(self.lstm_names, config.strides, strict=True):
            self.add_module(name, LstmLayer(inputs, config.units, step, config.bidirectional))
            inputs = outputs
        self.dropout = nn.Dropout(config.dropout)
        if self.has_ctc:
            self.output = nn.Linear(outputs, len(self.symbols))
        self.decoder = LstmDecoder(
            symbols=len(self.symbols),
            end=self.end,
            state_units=outputs,
            embedding=config.embedding,
            units=config.decoder_units,
            layers=config.decoder_layers,
            attention_units=config.attention_units,
            dropout=config.dropout,
            scheduled_sampling=config.scheduled_sampling,
        )
        self.layer_names = (*self.conv_names, *self.lstm_names, *(["output"] if self.has_ctc else []))
        self.strides = (*steps, *config.strides)

    def encode(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """As `AttentionRecogniser`. Beyond each utterance every layer finds zeros, as beyond one that runs alone."""
        values = features * valid(lengths, features).unsqueeze(2)
        if self.conv_names:
            maps = values.unsqueeze(1)
            for name in self.conv_names:
                convolution = cast(MapLayer, self.get_submodule(name))
                maps = convolution(maps)
                lengths = shortened(lengths, convolution.stride)
                maps = maps * valid(lengths, maps.transpose(1, 2))[:, None, :, None]
            values = maps.transpose(1, 2).flatten(2)
        for name in self.lstm_names:
            layer = cast(LstmLayer, self.get_submodule(name))
            values = layer(values, lengths)
            lengths = shortened(lengths, layer.stride)
            values = self.dropout(values) * valid(lengths, values).unsqueeze(2)
        return values, lengths
