"""A Transformer (Vaswani et al. 2017) from mel features to symbols, by an attention decoder, by CTC, or by both.

Two convolutions in time and frequency take four frames to one; then identical blocks of self-attention and feed-forward
layers, normalised before each (Xiong et al. 2020); then, unless CTC alone writes, the decoder's. `paper` has the twelve
encoder blocks of Ollerenshaw et al. 2021, at the sizes that the framework named there has for Switchboard (Wang et al.
2019).
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator
from torch import Tensor, nn

from otoscope.learn.positions import positions
from otoscope.learn.recogniser import shortened, valid
from otoscope.learn.seq2seq import AttentionRecogniser, WriterConfig
from otoscope.learn.transformer_decoder import TransformerDecoder

SIZES: dict[str, dict[str, Any]] = {
    "paper": {
        "units": 512,
        "heads": 4,
        "feed_forward": 2048,
        "blocks": 12,
        "decoder_blocks": 6,
        "channels": 128,
        "dropout": 0.25,
    },
    "small": {
        "units": 144,
        "heads": 4,
        "feed_forward": 576,
        "blocks": 4,
        "decoder_blocks": 2,
        "channels": 32,
        "dropout": 0.1,
    },
}


class TransformerConfig(WriterConfig):
    """Everything needed to build the network again. Saved in its checkpoints; unknown keys are refused."""

    network: Literal["transformer"] = "transformer"
    units: int = Field(default=SIZES["small"]["units"], gt=0)
    heads: int = Field(default=SIZES["small"]["heads"], gt=0)
    feed_forward: int = Field(default=SIZES["small"]["feed_forward"], gt=0)
    blocks: int = Field(default=SIZES["small"]["blocks"], gt=0)
    decoder_blocks: int = Field(default=0, ge=0, description="0: CTC alone")
    channels: int = Field(default=SIZES["small"]["channels"], gt=0)

    @model_validator(mode="after")
    def _check(self) -> TransformerConfig:
        if self.units % self.heads or self.units % 2:
            raise ValueError(f"units: {self.units} are not even and not a multiple of {self.heads} heads")
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


class Transformer(AttentionRecogniser):
    """The network; its layers are `front`, `block1` … `blockN` and, with CTC, `output`."""

    config: TransformerConfig

    def __init__(self, config: TransformerConfig):
        super().__init__(config, has_decoder=config.decoder_blocks > 0)
        self.front = Front(config.mels, config.channels, config.units, config.dropout)
        self.block_names = tuple(f"block{number}" for number in range(1, config.blocks + 1))
        for name in self.block_names:
            self.add_module(name, Block(config.units, config.heads, config.feed_forward, config.dropout))
        # States are normalised where they are read: by the output's own norm, and before the decoder.
        if self.has_ctc:
            self.output = nn.Sequential(nn.LayerNorm(config.units), nn.Linear(config.units, len(self.symbols)))
        if config.decoder_blocks:
            self.decoder = TransformerDecoder(
                symbols=len(self.symbols),
                end=self.end,
                units=config.units,
                heads=config.heads,
                feed_forward=config.feed_forward,
                blocks=config.decoder_blocks,
                dropout=config.dropout,
                scheduled_sampling=config.scheduled_sampling,
            )
        self.layer_names = ("front", *self.block_names, *(["output"] if self.has_ctc else []))
        self.strides = (2, 2, *[1] * (len(self.layer_names) - 1))

    def encode(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """As `AttentionRecogniser`."""
        values, lengths = self.front(features, lengths)
        padding = ~valid(lengths, values)
        # An utterance without frames would have nothing to look at.
        padding[:, 0] &= lengths > 0
        for name in self.block_names:
            values = self.get_submodule(name)(values, padding)
        return values, lengths
