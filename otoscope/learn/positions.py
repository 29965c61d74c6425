"""Where a frame or a symbol stands in its sequence, as sines and cosines (Vaswani et al. 2017, section 3.5)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Wave lengths go from 2 pi to this many times 2 pi frames.
LONGEST_WAVE = 10_000.0


def positions(values: Tensor) -> Tensor:
    """Sines and cosines of the place of each frame of `(batch, frame, unit)`: `(frame, unit)`; units must be even."""
    frames, units = values.shape[1:]
    place = torch.arange(frames, device=values.device, dtype=torch.float32)[:, None]
    rate = torch.exp(torch.arange(0, units, 2, device=values.device) * (-math.log(LONGEST_WAVE) / units))
    waves = torch.stack([torch.sin(place * rate), torch.cos(place * rate)], dim=2)
    return waves.flatten(1).to(values.dtype)
