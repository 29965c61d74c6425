"""Batches as they come, padded or not, as checked `(frame, unit)` tensors of valid frames."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from otoscope.base import BadInput

Array: TypeAlias = Tensor | NDArray[Any]


def valid_frames(
    batch: Mapping[str, Array], lengths: Array | Sequence[int] | None, mask: Array | None, largest: float
) -> tuple[dict[str, Tensor], list[int]]:
    """The valid frames of every node, `(frame, unit)` on the CPU, and how many each utterance has.

    Args:
        batch: for each node `(batch, frame, unit)`, or `(frame, unit)` with all utterances below each other.
        lengths: `(batch,)` valid frames of each utterance; left out, every frame is valid and a `(frame, unit)` array
            is one utterance.
        mask: `(batch, frame)`, true where a frame is valid; instead of `lengths`, for padded arrays.
        largest: the largest value that may be summed.

    Raises:
        BadInput: no real numbers, other dimensions, lengths that do not fit, numbers of frames that differ between
            nodes, values among the valid frames that are NaN, infinite or above `largest`.
    """
    valid = _mask(lengths, mask)
    counts = None if lengths is None else _whole_numbers(lengths)
    if isinstance(valid, Tensor):
        counts = valid.sum(1).tolist()
    arrays: dict[str, Tensor] = {}
    for node, values in batch.items():
        tensor = real_tensor(str(node), values)
        if tensor.ndim == 3:
            whole = [tensor.shape[1]] * len(tensor)
            if lengths is None and mask is None and counts not in (None, whole):
                got, wanted = f"{whole[:1]} frames in each of {len(whole)} utterances", "as in the other nodes"
                raise BadInput("nodes differ in their number of frames", got=f"{node!r}: {got}", wanted=wanted)
            counts = whole if counts is None else counts
            tensor = _unpadded(str(node), tensor, counts, valid)
        elif valid is not None:
            problem = f"node {node!r} is no (batch, frame, unit) array, as the mask wants"
            raise BadInput(problem, got=f"shape {tuple(tensor.shape)}", wanted="three dimensions")
        _check_values(str(node), tensor, largest)
        arrays[str(node)] = tensor
    _check_counts(arrays, counts)
    if counts is None:
        counts = [len(next(iter(arrays.values())))] if arrays else []
    return arrays, counts


def real_tensor(node: str, values: Array) -> Tensor:
    """A real tensor of two or three dimensions on the CPU."""
    if not isinstance(values, Tensor):
        array = np.asarray(values)
        if array.dtype.kind in "fiub" and array.dtype.itemsize <= 8:
            # torch wants memory that it may write to, forward strides and the machine's byte order.
            plain = array.flags.writeable and min(array.strides, default=0) >= 0 and array.dtype.isnative
            values = torch.from_numpy(array if plain else array.astype(array.dtype.newbyteorder("=")))
    if not isinstance(values, Tensor) or values.is_complex():
        got = f"{type(values).__name__} of {getattr(values, 'dtype', 'no dtype')}"
        raise BadInput(f"node {node!r} is not an array of real numbers", got=got, wanted="floats or integers")
    if values.ndim not in (2, 3):
        remedy = "flatten the other axes into units, or (a convolutional map) its points into frames"
        wanted = "(frame, unit), or (batch, frame, unit) with lengths"
        raise BadInput(
            f"node {node!r} is no matrix of frames", got=f"shape {tuple(values.shape)}", wanted=wanted, remedy=remedy
        )
    return values.detach().cpu()


def _mask(lengths: object, mask: Array | None) -> Tensor | None:
    if mask is None:
        return None
    if lengths is not None:
        raise BadInput("lengths and a mask both say which frames are valid", wanted="one of them")
    tensor = torch.as_tensor(mask).cpu()
    if tensor.dtype != torch.bool or tensor.ndim != 2:
        got = f"{tensor.dtype} of shape {tuple(tensor.shape)}"
        raise BadInput("this is no mask", got=got, wanted="booleans (batch, frame), true where a frame is valid")
    return tensor


def _whole_numbers(lengths: Array | Sequence[int]) -> list[int]:
    try:
        counts = [int(n) for n in lengths]
        sound = all(count >= 0 and count == n for count, n in zip(counts, lengths, strict=True))
    except (TypeError, ValueError):
        sound = False
    if not sound:
        raise BadInput("these are no lengths", got=repr(lengths)[:100], wanted="a whole number of frames an utterance")
    return counts


def _unpadded(node: str, tensor: Tensor, counts: list[int], mask: Tensor | None) -> Tensor:
    utterances, frames = tensor.shape[:2]
    if mask is not None:
        if mask.shape != tensor.shape[:2]:
            problem = f"the mask does not fit node {node!r}"
            raise BadInput(problem, got=f"mask {tuple(mask.shape)}", wanted=f"{tuple(tensor.shape[:2])}")
        return tensor[mask]
    if len(counts) != utterances or not all(0 <= count <= frames for count in counts):
        problem = f"the lengths do not fit node {node!r}"
        got = f"{len(counts)} lengths from {min(counts, default=0)} to {max(counts, default=0)}"
        raise BadInput(problem, got=got, wanted=f"{utterances} lengths from 0 to {frames}")
    if all(count == frames for count in counts):
        return tensor.flatten(0, 1)
    return torch.cat([rows[:count] for rows, count in zip(tensor, counts, strict=True)])


def _check_values(node: str, tensor: Tensor, largest: float) -> None:
    if not tensor.numel() or not tensor.dtype.is_floating_point:
        return
    low, high = map(float, torch.aminmax(tensor))
    if -largest <= low <= high <= largest:
        return
    nan, infinite = int(tensor.isnan().sum()), int(tensor.isinf().sum())
    if not nan and not infinite:
        raise BadInput(
            f"node {node!r} holds values too large to square",
            got=f"values up to {float(tensor.abs().max()):g}",
            wanted=f"values within ±{largest:g}",
            remedy="scale the node down: no measure depends on its scale",
        )
    first = int((~tensor.isfinite()).any(1).nonzero()[0])
    raise BadInput(
        f"node {node!r} holds values that are not numbers",
        got=f"{nan} NaN and {infinite} infinite of {tensor.numel()} values, from frame {first} of {len(tensor)} on",
        wanted="finite values in every frame",
        remedy="leave padding out (lengths); look for overflow where the network runs in half precision",
    )


def _check_counts(arrays: Mapping[str, Tensor], lengths: Iterable[int] | None) -> None:
    counts = {node: len(array) for node, array in arrays.items()}
    if len(set(counts.values())) > 1:
        got = ", ".join(f"{node!r} {count}" for node, count in counts.items())
        remedy = "bring layers of other frame rates to one rate first"
        raise BadInput("nodes differ in their number of frames", got=got, wanted="one number", remedy=remedy)
    if lengths is not None and counts and sum(lengths) != (frames := next(iter(counts.values()))):
        problem = "the lengths do not add up to the frames"
        raise BadInput(problem, got=f"{sum(lengths)} in {len(list(lengths))} lengths", wanted=f"{frames}")
