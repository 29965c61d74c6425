"""What every network that this project trains has in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from otoscope.hear.audio import LEAST_TOP_HZ, MELS, TOP_HZ
from otoscope.hear.text import GRAPHEMES
from otoscope.learn.decode import greedy_ids
from otoscope.learn.losses import ctc_losses
from otoscope.learn.units import Units, make_units


class RecogniserConfig(BaseModel):
    """What every network needs to be built again. Saved in its checkpoints; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mels: int = Field(default=MELS, gt=0)
    top_hz: float = Field(
        default=TOP_HZ, ge=LEAST_TOP_HZ, le=TOP_HZ, description="where the mel bands end; below 4000 for telephones"
    )
    symbols: tuple[str, ...] = GRAPHEMES
    blank: int = Field(default=0, ge=0)
    vocabulary: str = Field(default="", description="of word pieces, as train_vocabulary gives it; empty for graphemes")

    @model_validator(mode="after")
    def _check_symbols(self) -> RecogniserConfig:
        if self.blank >= len(self.symbols):
            raise ValueError(f"blank: symbol {self.blank} of {len(self.symbols)} does not exist")
        if self.vocabulary and self.blank:
            raise ValueError(f"blank: with a vocabulary it is symbol 0, not {self.blank}")
        return self


class Recogniser(nn.Module):
    """`forward(features, lengths) -> (logits, lengths)`, for CTC.

    Features are `(batch, frame, mel)`, logits `(batch, frame, symbol)`, lengths `(batch,)` in frames. Padding never
    changes a valid frame of any layer.

    Attributes:
        config: from which the network can be built again; saved in its checkpoints.
        symbols: the names of the outputs.
        blank: which of them is CTC's blank.
        units: transcripts to symbol numbers and back.
        mels: width of the features.
        top_hz: where their bands end.
        bfloat16_on_cpu: whether training in bfloat16 is faster on a processor with AMX.
        has_ctc: whether it is trained with CTC, so that `forward` gives logits.
        loss_names: of what `losses` gives.
        layer_names: the modules that count as its layers, first to last.
        strides: how many frames each of them makes one of; together, how the output follows the input.
        checkpoint: the facts of the checkpoint that it came from, if it did.
    """

    config: RecogniserConfig
    symbols: tuple[str, ...]
    blank: int
    units: Units
    mels: int
    top_hz: float
    bfloat16_on_cpu: bool = False
    has_ctc: bool = True
    loss_names: tuple[str, ...] = ("loss",)
    layer_names: tuple[str, ...]
    strides: tuple[int, ...]
    checkpoint: dict[str, Any]

    def __init__(self, config: RecogniserConfig):
        super().__init__()
        self.config = config
        self.symbols, self.blank = config.symbols, config.blank
        self.mels, self.top_hz = config.mels, config.top_hz
        self.units = make_units(config.symbols, config.vocabulary)

    def output_length(self, frames: int) -> int:
        """How many output frames an utterance of `frames` input frames gets."""
        for stride in self.strides:
            frames = -(-frames // stride)
        return frames

    def losses(self, features: Tensor, lengths: Tensor, targets: Sequence[Tensor]) -> dict[str, Tensor]:
        """What is minimised, in nats per utterance: `{"loss": (batch,)}`.

        Networks whose loss is a sum of parts give these too, under their names. `targets` are symbol numbers, one
        tensor an utterance.
        """
        logits, lengths = self(features, lengths)
        return {"loss": ctc_losses(logits, lengths, targets, self.blank)}

    def recognise(self, features: Tensor, lengths: Tensor) -> list[list[int]]:
        """Symbol numbers per utterance by the quickest way there is: here the best symbol of each frame."""
        logits, lengths = self(features, lengths)
        return greedy_ids(logits, lengths, self.blank)

    def losses_and_ids(
        self, features: Tensor, lengths: Tensor, targets: Sequence[Tensor]
    ) -> tuple[dict[str, Tensor], list[list[int]]]:
        """`losses` and `recognise` from one pass."""
        logits, lengths = self(features, lengths)
        return {"loss": ctc_losses(logits, lengths, targets, self.blank)}, greedy_ids(logits, lengths, self.blank)


def shortened(lengths: Tensor, stride: int) -> Tensor:
    """Lengths after a layer that gives a frame for each `stride`, a last one that is not full included."""
    return torch.div(lengths + stride - 1, stride, rounding_mode="floor")


def valid(lengths: Tensor, values: Tensor) -> Tensor:
    """True where a frame belongs to its utterance, false where it is padding: `(batch, frame)`."""
    return torch.arange(values.shape[1], device=values.device) < lengths[:, None]
