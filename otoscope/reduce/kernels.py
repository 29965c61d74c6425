"""Similarity through kernels: HSIC and centred kernel alignment, for relations between nodes that are not linear.

With Gram matrices K and L `(frame, frame)` of two nodes, n frames and the centring matrix H = 1 - 11^T / n:

    biased     tr(K H L H) / (n - 1)^2                                             Gretton et al. 2005, equation 9
    unbiased   (tr K'L' + 1'K'1 1'L'1 / ((n - 1)(n - 2)) - 2 1'K'L'1 / (n - 2)) / (n (n - 3)),
               K' and L' with zeros on the diagonal                                Song et al. 2012, equation 5

Both are inner products of matrices that were centred once each: K and L with H, K' and L' by the centring of Székely
and Rizzo 2014 (equation 2.1). So each node is prepared once, and a pair costs one inner product. By Cauchy and Schwarz
CKA = HSIC(x, y) / sqrt(HSIC(x, x) HSIC(y, y)) lies in [-1, 1] with either; only the biased one cannot be negative,
with kernels that are positive semidefinite as "rbf" and "linear" are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from otoscope.base import BadInput, BadOption, choose
from otoscope.reduce.dissimilarity import centred, check_frames, frame_matrix, squared_distances
from otoscope.reduce.frames import Array

Kernel: TypeAlias = str | Callable[[Tensor], Any]

KERNELS = ("rbf", "linear")
ESTIMATORS = ("biased", "unbiased")
# In minibatches the median is taken over so many frames at most, evenly spaced: half a million distances.
MEDIAN_FRAMES = 1000
# A centred Gram matrix this small beside the one it was made of is rounding, as a share of the sum of squares.
NOTHING = 1e-22


@dataclass(frozen=True)
class Prepared:
    """A node ready to be compared: its centred Gram matrix `(frame, frame)`, up to a factor, and HSIC with itself."""

    gram: Tensor
    self_hsic: float
    estimator: str
    positive: bool


def gram(x: Array, kernel: Kernel = "rbf", bandwidth: float = 1.0, *, name: str = "x") -> Tensor:
    """The Gram matrix of the frames of a node.

    Args:
        x: `(frame, unit)`, numpy or torch.
        kernel: "rbf": exp(-d^2 / (2 s^2)) with Euclidean distances d and s = `bandwidth` times their median over all
            pairs of different frames (Kornblith et al. 2019, section 3); "linear": inner products; or a function that
            takes the frames, a float64 tensor `(frame, unit)`, and returns `(frame, frame)`.
        bandwidth: above 0; only "rbf" has one.
        name: what messages call the node.

    Returns: `(frame, frame)`, float64.

    Raises:
        BadInput: as `otoscope.reduce.dissimilarity.frame_matrix`; with "rbf" nothing that varies, or a median distance
            of 0; a matrix from a function that is not square, finite and symmetric. BadOption: an unknown kernel, a
            bandwidth that is not above 0.
    """
    if kernel == "linear":
        matrix = frame_matrix(x, name)
        product = matrix @ matrix.T
        if not product.isfinite().all():
            raise _too_large(f"inner products of node {name!r}")
        return product
    matrices, scale, positive = _matrices(x, kernel, bandwidth, name, 2)
    return matrices(slice(None)) + 1 if positive else matrices(slice(None)) * scale


def hsic(
    x: Array,
    y: Array,
    kernel: Kernel = "rbf",
    *,
    estimator: str | None = None,
    batch: int | None = None,
    bandwidth: float = 1.0,
) -> float:
    """The Hilbert-Schmidt independence criterion of two nodes: 0 where neither tells anything about the other.

    Args:
        x, y: `(frame, unit)`, numpy or torch, with the same frames; widths may differ.
        kernel: as for `gram`, for both nodes.
        estimator: "biased" (Gretton et al. 2005), 0 or more, the default without `batch`; "unbiased" (Song et al.
            2012), negative at times, at least 4 frames, the default and the only choice with `batch`.
        batch: frames in a minibatch, 4 or more: the mean of the unbiased estimator over minibatches of consecutive
            frames (Nguyen et al. 2021, equation 3). A last one of fewer than 4 frames is left out. Memory grows with
            batch^2, not with frames^2. The bandwidth is one for all minibatches, from at most 1000 frames.
        bandwidth: as for `gram`.

    Returns: a number in the units of the two kernels: with "linear" those of x^2 y^2.

    Raises:
        BadInput: as `gram`, too few frames, unequal frames, a result beyond float64. BadOption: as `gram`, an unknown
            estimator, a batch below 4.
    """
    cross, _, scale = _terms(x, y, kernel, estimator, batch, bandwidth, alone=False)
    value = cross * scale[0] * scale[1]
    if not math.isfinite(value):
        raise _too_large("HSIC of these nodes")
    return value


def kernel_cka(
    x: Array,
    y: Array,
    kernel: Kernel = "rbf",
    *,
    estimator: str | None = None,
    batch: int | None = None,
    bandwidth: float = 1.0,
) -> float:
    """Centred kernel alignment, HSIC(x, y) / sqrt(HSIC(x, x) HSIC(y, y)) (Cortes et al. 2012, Kornblith et al. 2019).

    Args: as for `hsic`. With `batch` each of the three is averaged over minibatches before they are divided.

    Returns: biased within [0, 1], or [-1, 1] for a kernel of your own that is not positive semidefinite; unbiased and
    in minibatches within [-1, 1], about 0 and at times a little below for unrelated nodes. 1 for a node with itself.

    Raises:
        BadInput: as `hsic`, and where HSIC of a node with itself is 0: its frames are all equally alike. BadOption: as
            `hsic`.
    """
    cross, (own, other), _ = _terms(x, y, kernel, estimator, batch, bandwidth, alone=True)
    positive = isinstance(kernel, str) and batch is None and estimator != "unbiased"
    return _ratio(cross, own, other, positive)


def prepare_cka_rbf(
    x: Array, *, bandwidth: float = 1.0, kernel: Kernel = "rbf", estimator: str = "biased", name: str = "x"
) -> Prepared:
    """What `score_cka_rbf` needs of one node, for many pairs at once; frames^2 numbers of 8 bytes.

    Args: as for `kernel_cka`; `name` is what messages call the node. Raises as `kernel_cka` does for one node.
    """
    choose("estimator", estimator, ESTIMATORS)
    matrices, _, positive = _matrices(x, kernel, bandwidth, name, 4 if estimator == "unbiased" else 2)
    matrix = matrices(slice(None))
    centre = _centre(matrix, estimator)
    own = float(centre.square().sum())
    _check_self(own, _size(matrix, estimator), name)
    return Prepared(centre, own / _pairs(len(centre), estimator), estimator, positive or kernel == "linear")


def score_cka_rbf(p: Prepared, q: Prepared) -> float:
    """CKA of two prepared nodes: what `kernel_cka` gives, with its range.

    Raises:
        BadInput: unequal frames, or nodes prepared with different estimators.
    """
    frames = _same_frames(p, q)
    cross = float(torch.dot(p.gram.flatten(), q.gram.flatten())) / _pairs(frames, p.estimator)
    return _ratio(cross, p.self_hsic, q.self_hsic, p.positive and q.positive and p.estimator == "biased")


def chance_cka_rbf(p: Prepared, q: Prepared) -> float:
    """The mean of `score_cka_rbf` over all ways to shuffle the frames of one node, exactly; 0 if unbiased.

    For the biased estimator tr K tr L / ((n - 1) |K| |L|) with centred K and L. Raises as `score_cka_rbf` does.
    """
    frames = _same_frames(p, q)
    if p.estimator == "unbiased":
        return 0.0
    traces = float(p.gram.trace()) * float(q.gram.trace())
    return traces / (frames - 1) ** 3 / math.sqrt(p.self_hsic) / math.sqrt(q.self_hsic)


def _matrices(
    x: Array, kernel: Kernel, bandwidth: float, name: str, least: int, most: int | None = None
) -> tuple[Callable[[slice], Tensor], float, bool]:
    """A function from a range of frames to their Gram matrix, the scale to multiply it with, and whether it is "rbf".

    "rbf" comes without its 1: centring takes a constant away, and kernels close to 1 lose no digits to it.
    """
    if callable(kernel):
        matrix = frame_matrix(x, name, least=least)
        if most is not None:
            return (lambda rows: _checked(kernel(matrix[rows]), len(matrix[rows]))), 1.0, False
        whole = _checked(kernel(matrix), len(matrix))
        largest = _largest(whole)
        return (lambda rows: whole[rows] / largest), largest, False
    choose("kernel", kernel, KERNELS)
    where, scale = centred(x, name, least=least)
    if kernel == "linear":
        return (lambda rows: where[rows] @ where[rows].T), scale**2 if scale < 1e150 else math.inf, False
    if isinstance(bandwidth, bool) or not isinstance(bandwidth, (int, float)) or not 0 < bandwidth < math.inf:
        wanted = "a number above 0: 1 is the median distance"
        raise BadOption("bandwidth is a share of the median distance", got=repr(bandwidth), wanted=wanted)
    sample = where
    if most is not None and len(where) > most:
        sample = where[torch.linspace(0, len(where) - 1, most, dtype=torch.float64).round().long()]
    # Not below what can still be divided by: the diagonal would be 0 / 0.
    width = max(bandwidth * _median_distance(sample, name), 1e-150)
    return (lambda rows: torch.expm1(squared_distances(where[rows])[0] / width / width / -2)), 1.0, True


def _median_distance(where: Tensor, name: str) -> float:
    rows, columns = torch.triu_indices(len(where), len(where), 1)
    median = float(np.median(squared_distances(where)[0][rows, columns].sqrt().numpy()))
    if median == 0:
        raise BadInput(
            f"the median distance between frames of node {name!r} is 0",
            got=f"half or more of the pairs of {len(where)} frames are alike",
            wanted="a median distance to take the bandwidth from",
            remedy='take kernel="linear", or leave repeated frames (silence, padding) out of all nodes',
        )
    return median


def _checked(matrix: Any, frames: int) -> Tensor:
    """What a function for a kernel returned, as a float64 tensor, symmetric to the last bit."""
    problem = "the kernel's matrix cannot be used"
    tensor = torch.as_tensor(matrix).detach().to("cpu")
    if tensor.shape != (frames, frames) or tensor.is_complex():
        got = f"{tensor.dtype} of shape {tuple(tensor.shape)}"
        raise BadInput(problem, got=got, wanted=f"real numbers of shape ({frames}, {frames}), (frame, frame)")
    tensor = tensor.to(torch.float64)
    if not tensor.isfinite().all():
        got = f"{int((~tensor.isfinite()).sum())} of {tensor.numel()} values NaN or infinite"
        raise BadInput(problem, got=got, wanted="finite values")
    largest = _largest(tensor)
    if (apart := float((tensor / largest - tensor.T / largest).abs().max())) > 1e-6:
        got = f"entries that differ from their mirror image by up to {apart:.2g} of the largest value"
        raise BadInput(problem, got=got, wanted="a symmetric matrix: k(a, b) = k(b, a)")
    return tensor / 2 + tensor.T / 2


def _largest(matrix: Tensor) -> float:
    return float(matrix.abs().max()) or 1.0


def _centre(matrix: Tensor, estimator: str) -> Tensor:
    frames = len(matrix)
    if estimator == "biased":
        means = matrix.mean(1)
        return matrix - means[:, None] - means + means.mean()
    matrix = matrix.clone().fill_diagonal_(0.0)
    sums = matrix.sum(1) / (frames - 2)
    return (matrix - sums[:, None] - sums + sums.sum() / (frames - 1)).fill_diagonal_(0.0)


def _pairs(frames: int, estimator: str) -> int:
    """What the inner product of two centred Gram matrices is divided by."""
    return (frames - 1) ** 2 if estimator == "biased" else frames * (frames - 3)


def _size(matrix: Tensor, estimator: str) -> float:
    squares = float(matrix.square().sum())
    return squares if estimator == "biased" else squares - float(matrix.diagonal().square().sum())


def _terms(
    x: Array, y: Array, kernel: Kernel, estimator: str | None, batch: int | None, bandwidth: float, alone: bool
) -> tuple[float, tuple[float, float], tuple[float, float]]:
    """HSIC of x and y; of each with itself if `alone`, checked to be above 0; and the scales that are left out."""
    estimator = _estimator(estimator, batch)
    least, most = (4 if estimator == "unbiased" else 2), (None if batch is None else MEDIAN_FRAMES)
    frames = len(frame_matrix(x, "x", least=least))
    check_frames(frames, len(frame_matrix(y, "y", least=least)))
    kernels = [_matrices(each, kernel, bandwidth, name, least, most) for each, name in ((x, "x"), (y, "y"))]
    step = batch or frames
    starts = [start for start in range(0, frames, step) if min(step, frames - start) >= least]
    cross, own, sizes = 0.0, [0.0, 0.0], [0.0, 0.0]
    for start in starts:
        rows = slice(start, min(start + step, frames))
        matrices = [matrix(rows) for matrix, _, _ in kernels]
        left, right = (_centre(matrix, estimator) for matrix in matrices)
        share = _pairs(len(left), estimator) * len(starts)
        cross += float(torch.dot(left.flatten(), right.flatten())) / share
        if alone:
            for i, centre in enumerate((left, right)):
                own[i] += float(centre.square().sum()) / share
                sizes[i] += _size(matrices[i], estimator) / share
    if alone:
        for each, size, name in zip(own, sizes, "xy", strict=True):
            _check_self(each, size, name)
    return cross, (own[0], own[1]), (kernels[0][1], kernels[1][1])


def _estimator(estimator: str | None, batch: int | None) -> str:
    if estimator is not None:
        choose("estimator", estimator, ESTIMATORS)
    if batch is None:
        return estimator or "biased"
    if isinstance(batch, bool) or not isinstance(batch, int) or batch < 4:
        wanted = "a whole number, 4 or more; some hundreds are usual"
        raise BadOption("batch is a number of frames", got=repr(batch), wanted=wanted)
    if estimator == "biased":
        remedy = "leave batch out, or take estimator='unbiased'"
        raise BadOption("a mean over minibatches keeps the bias of each", got="estimator='biased'", remedy=remedy)
    return "unbiased"


def _ratio(cross: float, own: float, other: float, positive: bool) -> float:
    return min(max(cross / math.sqrt(own) / math.sqrt(other), 0.0 if positive else -1.0), 1.0)


def _same_frames(p: Prepared, q: Prepared) -> int:
    check_frames(len(p.gram), len(q.gram))
    if p.estimator != q.estimator:
        got = f"{p.estimator} and {q.estimator}"
        raise BadInput("nodes were prepared with different estimators", got=got, wanted="one for both")
    return len(p.gram)


def _check_self(own: float, size: float, name: str) -> None:
    if not math.isfinite(own) or not math.isfinite(size):
        raise _too_large(f"Gram matrices of node {name!r}")
    if own <= NOTHING * size:
        raise BadInput(
            f"HSIC of node {name!r} with itself is 0",
            got="a kernel that finds all pairs of frames equally alike",
            wanted="frames of which some are more alike than others",
            remedy="leave this node out, or take another kernel or bandwidth",
        )


def _too_large(what: str) -> BadInput:
    return BadInput(f"{what} go beyond the largest number", wanted="values below about 1e70", remedy="scale them down")
