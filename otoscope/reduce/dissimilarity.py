"""Distances between frames, and representational similarity: are the frames of two nodes alike in the same pairs?

Three distances are Euclidean ones in disguise: after its own preparation of the frames, the cosine and the correlation
distance are half the squared Euclidean distance. So one matrix product gives all distances of any of them. `points`
prepares, `squared_distances` measures and knows how far rounding may carry it, so that what is equal stays equal.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from otoscope.base import BadInput, choose
from otoscope.reduce.covariances import EPSILON
from otoscope.reduce.frames import Array

DISTANCES = ("euclidean", "cosine", "correlation")
COMPARISONS = ("spearman", "pearson")


def frame_matrix(x: Array, name: str = "x", *, least: int = 2) -> Tensor:
    """The frames of a node as a float64 tensor `(frame, unit)` on the CPU.

    Raises:
        BadInput: something other than a `(frame, unit)` array of real numbers, fewer than `least` frames, no units,
            NaN or infinite values.
    """
    values: Any = x
    if not isinstance(values, Tensor):
        array = np.asarray(values)
        values = torch.from_numpy(array.astype(np.float64)) if array.dtype.kind in "fiub" else array
    if not isinstance(values, Tensor) or values.is_complex():
        raise BadInput(f"node {name!r} is not an array of real numbers", got=str(values.dtype), wanted="numbers")
    if values.ndim != 2 or values.shape[1] == 0:
        got = f"shape {tuple(values.shape)}"
        raise BadInput(f"node {name!r} is no (frame, unit) matrix", got=got, wanted="two dimensions, one unit or more")
    if len(values) < least:
        got = f"{len(values)} frames"
        raise BadInput(f"node {name!r} has too few frames", got=got, wanted=f"at least {least}")
    matrix = values.detach().to("cpu", torch.float64)
    finite = matrix.isfinite()
    if not finite.all():
        first = int((~finite).any(1).nonzero()[0])
        raise BadInput(
            f"node {name!r} holds values that are not finite",
            got=f"{int((~finite).sum())} of {matrix.numel()} values NaN or infinite, from frame {first} on",
            wanted="finite values in every frame",
            remedy="leave padding out; look for overflow where the network runs in half precision",
        )
    return matrix


def check_frames(frames: int, other: int) -> None:
    """Raise `BadInput` unless two nodes have the same number of frames."""
    if frames != other:
        raise BadInput(
            "nodes differ in their number of frames",
            got=f"{frames} and {other} frames",
            wanted="the same frames in both",
            remedy="bring layers of other frame rates to one rate first",
        )


def centred(x: Array, name: str = "x", *, least: int = 2) -> tuple[Tensor, float]:
    """The frames without their mean, scaled to values within ±1, and the scale that was taken out.

    Raises:
        BadInput: as `frame_matrix`, and where no unit varies by more than the rounding of its dtype.
    """
    matrix, scale = _scaled(frame_matrix(x, name, least=least))
    moved = _without_mean(matrix, 0)
    if not _varies(matrix, moved, 0, _resolution(x) ** 2 / 12).any():
        raise _constant(name, matrix)
    moved, again = _scaled(moved)
    return moved, scale * again


def points(x: Array, distance: str = "euclidean", name: str = "x", *, least: int = 2) -> Tensor:
    """Points `(frame, unit)` around zero whose Euclidean distances d tell how far frames are apart.

    Args:
        x: `(frame, unit)`, numpy or torch.
        distance: "euclidean": d is the distance, up to one factor for all. "cosine" (1 - cosine of the angle between
            frames) and "correlation" (the same, each frame without its own mean over units): d^2 / 2 is the distance.
        name: what messages call the node.
        least: the fewest frames that will do.

    Raises:
        BadInput: as `centred`; a frame of zeros with "cosine"; one unit, or a frame whose units are all alike, with
            "correlation"; frames that all point in one direction with either. BadOption: an unknown distance.
    """
    choose("distance", distance, DISTANCES)
    if distance == "euclidean":
        return centred(x, name, least=least)[0]
    matrix, _ = _scaled(frame_matrix(x, name, least=least))
    remedy = 'take distance="euclidean", or leave these frames out of all nodes'
    if distance == "correlation":
        if matrix.shape[1] == 1:
            wanted, got = "at least two units", f"1 unit in {len(matrix)} frames"
            problem = f"the correlation distance between frames of node {name!r} is not defined"
            raise BadInput(problem, got=got, wanted=wanted, remedy='take distance="euclidean"')
        moved = _without_mean(matrix, 1)
        sound = _varies(matrix, moved, 1, _resolution(x) ** 2 / 12)
        matrix, words = moved, "have the same value in every unit"
    else:
        sound, words = matrix.any(1), "are zero in every unit"
    if not sound.all():
        problem = f"the {distance} distance is not defined for some frames of node {name!r}"
        got = f"{int((~sound).sum())} of {len(sound)} frames that {words}"
        raise BadInput(problem, got=got, wanted="none of them", remedy=remedy)
    # Scaled one by one first: a quiet frame's squares must not vanish beside a loud one's.
    matrix = matrix / matrix.abs().amax(1, keepdim=True)
    directions = matrix / torch.linalg.vector_norm(matrix, dim=1, keepdim=True)
    moved = _without_mean(directions, 0)
    if not _varies(directions, moved, 0, 16 * _resolution(x) ** 2).any():
        problem = f"all frames of node {name!r} point in one direction"
        got = f"{len(matrix)} frames at {distance} distance 0, but for rounding"
        raise BadInput(problem, got=got, wanted="frames that differ in direction", remedy='take distance="euclidean"')
    return moved


def squared_distances(these: Tensor, those: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Squared Euclidean distances between points `(frame, unit)`, and how far rounding may carry each: both
    `(frame of these, frame of those)`. What is below its own rounding is 0."""
    those = these if those is None else those
    left, right = these.square().sum(1), those.square().sum(1)
    slack = rounding(these.shape[1]) * (left[:, None] + right)
    squares = torch.addmm(left[:, None] + right, these, those.T, alpha=-2)
    return squares.masked_fill_(squares <= slack, 0.0), slack


def rounding(units: int) -> float:
    """The relative error that is allowed for in a squared distance: a sum over units, in float64."""
    return 4 * max(units, 32) * EPSILON


def tied(ordered: Tensor, slack: Tensor) -> Tensor:
    """The number of its tie, from 0, for each of some ascending values: neighbours within rounding are equal.

    Args:
        ordered: ascending along the last dimension.
        slack: how far rounding may carry each value, of the same shape.
    """
    steps = ordered.diff(dim=-1) > torch.maximum(slack[..., 1:], slack[..., :-1])
    return torch.nn.functional.pad(steps.to(torch.int64).cumsum(-1), (1, 0))


def prepare_rsa(x: Array, *, distance: str = "correlation", comparison: str = "spearman", name: str = "x") -> Tensor:
    """The representational dissimilarity matrix of a node, ready to be compared (Kriegeskorte et al. 2008).

    Args:
        x: `(frame, unit)`, numpy or torch, at least 3 frames. Time and memory grow with frames^2, whatever the width:
            about 100 bytes a pair of frames for a moment, 8 to keep.
        distance: between frames: "correlation", "euclidean" or "cosine", as for `points`.
        comparison: "spearman": distances become ranks, ties (within rounding) their average rank; "pearson": they stay.
        name: what messages call the node.

    Returns: `(frame * (frame - 1) / 2,)`, float64: the triangle above the diagonal, row by row, with mean 0 and
    length 1.

    Raises:
        BadInput: as `points`, and where all frames are equally far apart. BadOption: an unknown distance or comparison.
    """
    choose("comparison", comparison, COMPARISONS)
    where = points(x, distance, name, least=3)
    rows, columns = torch.triu_indices(len(where), len(where), 1)
    squares = squared_distances(where)[0][rows, columns]
    lengths = where.square().sum(1)
    slack = (lengths[rows] + lengths[columns]) * rounding(where.shape[1])
    del rows, columns
    if float(squares.max() - squares.min()) <= float(slack.max()):
        raise _equidistant(name, where, distance)
    if comparison == "spearman":
        ordered, order = squares.sort()
        ties = tied(ordered, slack[order])
        counts = torch.bincount(ties).to(torch.float64)
        if len(counts) == 1:
            raise _equidistant(name, where, distance)
        values = torch.empty_like(squares)
        values[order] = (counts.cumsum(0) - (counts - 1) / 2)[ties]
    else:
        values = squares.sqrt() if distance == "euclidean" else squares / 2
    values -= values.mean()
    return values / torch.linalg.vector_norm(values)


def score_rsa(p: Tensor, q: Tensor) -> float:
    """The correlation of two prepared dissimilarity matrices, in [-1, 1]; unrelated nodes score about 0.

    Both must have been prepared with the same comparison. Raises `BadInput` for different numbers of frames.
    """
    check_frames(*(round((1 + (1 + 8 * len(each)) ** 0.5) / 2) for each in (p, q)))
    return min(max(float(p @ q), -1.0), 1.0)


def _resolution(x: Array) -> float:
    """The spacing of the dtype the values came in, relative to them; whole numbers are exact."""
    if isinstance(x, Tensor):
        return torch.finfo(x.dtype).eps if x.dtype.is_floating_point else EPSILON
    dtype = np.asarray(x).dtype
    return max(float(np.finfo(dtype).eps), EPSILON) if dtype.kind == "f" else EPSILON


def _scaled(matrix: Tensor) -> tuple[Tensor, float]:
    """Values within ±1 and the power of two they were divided by, which rounds nothing."""
    largest = float(matrix.abs().max())
    exponent = int(np.clip(np.frexp(largest)[1], -1000, 1000)) if largest else 0
    return matrix * 2.0**-exponent, 2.0**exponent


def _without_mean(matrix: Tensor, dim: int) -> Tensor:
    # From the first value on, so that what is constant becomes exactly zero: its mean would be rounded.
    moved = matrix - matrix.narrow(dim, 0, 1)
    return moved - moved.mean(dim, keepdim=True)


def _varies(matrix: Tensor, moved: Tensor, dim: int, share: float) -> Tensor:
    """Where the variance exceeds that share of the mean square: less is what rounding makes of a constant."""
    return moved.square().mean(dim) > share * matrix.square().mean(dim)


def _constant(name: str, matrix: Tensor) -> BadInput:
    return BadInput(
        f"node {name!r} has no variance",
        got=f"{matrix.shape[1]} units that stay the same, but for rounding, over {len(matrix)} frames",
        wanted="at least one unit that varies",
        remedy="leave this node out: similarity to something constant is not defined",
    )


def _equidistant(name: str, where: Tensor, distance: str) -> BadInput:
    return BadInput(
        f"all frames of node {name!r} are equally far apart",
        got=f"one {distance} distance between {len(where)} frames",
        wanted="distances that vary: their correlation with others is not defined",
        remedy="use more frames, or another distance",
    )
