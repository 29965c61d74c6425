"""What every network that this project trains has in common."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor, nn


class Recogniser(nn.Module):
    """`forward(features, lengths) -> (logits, lengths)`, for CTC.

    Features are `(batch, frame, mel)`, logits `(batch, frame, symbol)`, lengths `(batch,)` in frames. Padding never
    changes a valid frame of any layer.

    Attributes:
        config: from which the network can be built again; saved in its checkpoints.
        symbols: the names of the outputs.
        blank: which of them is CTC's blank.
        mels: width of the features.
        layer_names: the modules that count as its layers, first to last.
        strides: how many frames each of them makes one of; together, how the output follows the input.
        checkpoint: the facts of the checkpoint that it came from, if it did.
    """

    config: BaseModel
    symbols: tuple[str, ...]
    blank: int
    mels: int
    layer_names: tuple[str, ...]
    strides: tuple[int, ...]
    checkpoint: dict[str, Any]

    def output_length(self, frames: int) -> int:
        """How many output frames an utterance of `frames` input frames gets."""
        for stride in self.strides:
            frames = -(-frames // stride)
        return frames


def shortened(lengths: Tensor, stride: int) -> Tensor:
    """Lengths after a layer that gives a frame for each `stride`, a last one that is not full included."""
    return torch.div(lengths + stride - 1, stride, rounding_mode="floor")


def valid(lengths: Tensor, values: Tensor) -> Tensor:
    """True where a frame belongs to its utterance, false where it is padding: `(batch, frame)`."""
    return torch.arange(values.shape[1], device=values.device) < lengths[:, None]
