"""Layers brought to one width, and read as points and neurons, the way Ollerenshaw et al. 2021 did.

The recommended way needs none of this: CCA and CKA compare layers of any widths, and neurons are neurons.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from otoscope.base import BadInput


@dataclass(frozen=True)
class Preset:
    """A way to treat layers.

    Attributes:
        words: what it does, for the notes of a result.
        threshold: the share of variance that SVCCA keeps; 1 makes it plain CCA.
        frames: how many frames of one utterance are heard.
        flat: whether a layer that is no convolutional map becomes one column: every value of every frame is a data
            point of a single neuron.
        padding: whether frames of padding are kept.
    """

    words: str
    threshold: float | None
    frames: int | None
    flat: bool
    padding: bool


PRESETS = {
    "ollerenshaw2021": Preset(
        "preset ollerenshaw2021 (the paper's text): layers flattened to one column of data points, the narrower "
        "interpolated to the width of the wider, 99 % of the variance kept; with one column CCA is the absolute "
        "correlation of all activations, and CKA its square",
        threshold=0.99,
        frames=100,
        flat=True,
        padding=False,
    ),
    "ollerenshaw2021-code": Preset(
        "preset ollerenshaw2021-code (the authors' code): plain CCA without truncation, layers flattened to one "
        "column of data points (convolutional maps: channels as neurons), the narrower interpolated to the width of "
        "the wider, padding kept",
        threshold=1.0,
        frames=None,
        flat=True,
        padding=True,
    ),
}


def interpolate_units(x: Tensor, width: int) -> Tensor:
    """`(…, unit)` with its units stretched or shrunk to `width` by linear interpolation; the end units stay.

    The order of the units is taken for a line, which it is in a spectrogram, and in hardly any layer.

    Raises:
        BadInput: a width below 1.
    """
    if width < 1:
        raise BadInput("a layer has at least one unit", got=f"width {width}", wanted="1 or more")
    if x.shape[-1] == width:
        return x
    if x.shape[-1] == 1:
        return x.expand(*x.shape[:-1], width)
    # A single unit stands for the middle of the line.
    places = torch.linspace(0, x.shape[-1] - 1, width, dtype=torch.float64) if width > 1 else None
    at = torch.tensor([(x.shape[-1] - 1) / 2], dtype=torch.float64) if places is None else places
    low = at.floor().long().clamp(max=x.shape[-1] - 2)
    share = (at - low).to(x.dtype if x.dtype.is_floating_point else torch.float64)
    return x[..., low] * (1 - share) + x[..., low + 1] * share


def same_width(arrays: Mapping[str, Tensor], *, flat: bool) -> dict[str, Tensor]:
    """All nodes `(frame, unit)` at the width of the widest, and if `flat` as one column `(frame * unit, 1)`."""
    width = max(array.shape[-1] for array in arrays.values())
    wide = {node: interpolate_units(array, width) for node, array in arrays.items()}
    return {node: array.reshape(-1, 1) for node, array in wide.items()} if flat else wide


def interpolate_frames(x: Tensor, frames: int) -> Tensor:
    """`(frame, unit)` at another number of frames by linear interpolation in time; first and last frame stay.

    Raises:
        BadInput: there are no frames to interpolate between, or none are wanted.
    """
    if not len(x):
        raise BadInput("there are no frames to interpolate between", got="0 frames", wanted="at least 1")
    return interpolate_units(x.T, frames).T
