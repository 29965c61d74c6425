"""A Transformer encoder from mel features to graphemes (Vaswani et al. 2017), trained with CTC.

Two convolutions in time and frequency take four frames to one; then identical blocks of self-attention and feed-forward
layers, normalised before each (Xiong et al. 2020). `paper` has the twelve blocks of Ollerenshaw et al. 2021.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from otoscope.hear.audio import MELS
from otoscope.hear.text import GRAPHEMES
from otoscope.learn.recogniser import Recogniser, shortened, valid

SIZES: dict[str, dict[str, int]] = {
    "paper": {"units": 256, "heads": 4, "feed_forward": 2048, "blocks": 12, "channels": 256},
    "small": {"units": 144, "heads": 4, "feed_forward": 576, "blocks": 4, "channels": 32},
}
# Wave lengths of the positions go from 2 pi to this many times 2 pi frames.
LONGEST_WAVE = 10_000.0


class TransformerConfig(BaseModel):
    """Everything needed to build the network again. Saved in its checkpoints; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    network: Literal["transformer"] = "transformer"
    mels: int = Field(default=MELS, gt=0)
    symbols: tuple[str, ...] = GRAPHEMES
    blank: int = Field(default=0, ge=0)
    units: int = Field(default=SIZES["small"]["units"], gt=0)
    heads: int = Field(default=SIZES["small"]["heads"], gt=0)
    feed_forward: int = Field(default=SIZES["small"]["feed_forward"], gt=0)
    blocks: int = Field(default=SIZES["small"]["blocks"], gt=0)
    channels: int = Field(default=SIZES["small"]["channels"], gt=0)
    dropout: float = Field(default=0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _check(self) -> TransformerConfig:
        if self.units % self.heads or self.units % 2:
            raise ValueError(f"units: {self.units} are not even and not a multiple of {self.heads} heads")
        if self.blank >= len(self.symbols):
            raise ValueError(f"blank: symbol {self.blank} of {len(self.symbols)} does not exist")
        return self


class Front(nn.Module):
    """Two convolutions of 3 × 3 with a stride of 2 in time and frequency, one vector a frame, and where it stands."""

    def __init__(self, mels: int, channels: int, units: int, dropout: float):
        super().__init__()
        self.first = nn.Conv2d(1, channels, 3, stride=2, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.join = nn.Linear(channels * -(-mels // 4), units)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """`(batch, frame, mel)` and lengths to `(batch, ceil(ceil(frame / 2) / 2), unit)` and theirs."""
        values = features * valid(lengths, features).unsqueeze(2)
        values = values.unsqueeze(1)
        for convolution in (self.first, self.second):
            lengths = shortened(lengths, 2)
            values = convolution(values).relu()
            values = values * valid(lengths, values.transpose(1, 2))[:, None, :, None]
        joined = self.join(values.transpose(1, 2).flatten(2))
        return self.dropout(joined + positions(joined)), lengths


class Block(nn.Module):
    """Self-attention and a feed-forward layer, each normalised before and added to what came in."""

    def __init__(self, units: int, heads: int, feed_forward: int, dropout: float):
        super().__init__()
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(units), nn.LayerNorm(units)
        self.attention = nn.MultiheadAttention(units, heads, dropout=dropout, batch_first=True)
        self.feed_forward = nn.Sequential(
            nn.Linear(units, feed_forward), nn.ReLU(), nn.Dropout(dropout), nn.Linear(feed_forward, units)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, values: Tensor, padding: Tensor) -> Tensor:
        """`(batch, frame, unit)` to the same shape; `padding` `(batch, frame)` is true where nobody may look."""
        normed = self.attention_norm(values)
        seen, _ = self.attention(normed, normed, normed, key_padding_mask=padding, need_weights=False)
        values = values + self.dropout(seen)
        return values + self.dropout(self.feed_forward(self.feed_forward_norm(values)))


class Transformer(Recogniser):
    """The network; its layers are `front`, `block1` … `blockN` and `output`."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.config = config
        self.symbols, self.blank, self.mels = config.symbols, config.blank, config.mels
        self.front = Front(config.mels, config.channels, config.units, config.dropout)
        names = [f"block{number}" for number in range(1, config.blocks + 1)]
        for name in names:
            self.add_module(name, Block(config.units, config.heads, config.feed_forward, config.dropout))
        self.output = nn.Sequential(nn.LayerNorm(config.units), nn.Linear(config.units, len(config.symbols)))
        self.layer_names = ("front", *names, "output")
        self.strides = (2, 2, *[1] * (len(names) + 1))

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features `(batch, frame, mel)` and their lengths in frames to logits `(batch, frame, symbol)` and theirs."""
        values, lengths = self.front(features, lengths)
        padding = ~valid(lengths, values)
        # An utterance without frames would have nothing to look at.
        padding[:, 0] &= lengths > 0
        for name in self.layer_names[1:-1]:
            values = self.get_submodule(name)(values, padding)
        return self.output(values), lengths


def positions(values: Tensor) -> Tensor:
    """Sines and cosines of the place of each frame, `(frame, unit)` (Vaswani et al. 2017, section 3.5)."""
    frames, units = values.shape[1:]
    place = torch.arange(frames, device=values.device, dtype=torch.float32)[:, None]
    rate = torch.exp(torch.arange(0, units, 2, device=values.device) * (-math.log(LONGEST_WAVE) / units))
    waves = torch.stack([torch.sin(place * rate), torch.cos(place * rate)], dim=2)
    return waves.flatten(1).to(values.dtype)
