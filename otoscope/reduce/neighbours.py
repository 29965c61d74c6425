"""Mutual nearest neighbours: do two nodes put the same frames next to each other?

Huh et al. 2024, "The platonic representation hypothesis": for each frame the k nearest others are found
in either node, and the share that both have in common is averaged over frames. Only the order of the distances counts.
"""

from __future__ import annotations

import torch
from torch import Tensor

from otoscope.base import BadInput, BadOption, choose
from otoscope.reduce.dissimilarity import check_frames, points, squared_distances, tied
from otoscope.reduce.frames import Array

DISTANCES = ("euclidean", "cosine")
# Distances of this many pairs of frames wait at a time: 2**22 float64 numbers are 32 MiB.
BLOCK_PAIRS = 2**22


def prepare_knn(x: Array, *, k: int = 10, distance: str = "euclidean", name: str = "x") -> Tensor:
    """The k nearest other frames of every frame.

    Distances that differ by no more than rounding are equal, and of equally near frames those with the lower index
    count as nearer. So the copies of a frame are its nearest neighbours, the first copies first, in every node.

    Args:
        x: `(frame, unit)`, numpy or torch, more than k frames. Time grows with frames^2, memory with frames * k.
        k: how many neighbours, 1 or more.
        distance: "euclidean", or "cosine" (1 - cosine of the angle), which an offset of the units changes.
        name: what messages call the node.

    Returns: indices of frames, int64, `(frame, k)`, nearest first, the frame itself left out.

    Raises:
        BadInput: k frames or fewer, no variance, frames of zeros with "cosine", values that are not finite.
        BadOption: k below 1, an unknown distance.
    """
    choose("distance", distance, DISTANCES)
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise BadOption("k is a number of neighbours", got=repr(k), wanted="a whole number, 1 or more")
    where = points(x, distance, name)
    frames = len(where)
    _check_enough(frames, k, f"node {name!r} has")
    index = torch.arange(frames)
    found = torch.empty(frames, k, dtype=torch.int64)
    for rows in index.split(max(BLOCK_PAIRS // frames, 1)):
        squares, slack = squared_distances(where[rows], where)
        own = torch.arange(len(rows))
        squares[own, rows] = torch.inf
        ordered, order = squares.sort(1)
        ties = tied(ordered, slack.gather(1, order))
        # Ties are few and frames are below 2**31, so that both fit into one number: first the tie, then the index.
        nearest = (ties * frames + order).topk(k, dim=1, largest=False).values
        found[rows] = nearest % frames
    return found


def score_knn(p: Tensor, q: Tensor) -> float:
    """The mean share of neighbours that two nodes have in common, in [0, 1]; `knn_chance` for unrelated nodes.

    Args:
        p, q: `(frame, k)` from `prepare_knn`, of the same frames with the same k.

    Raises:
        BadInput: different numbers of frames, or of neighbours.
    """
    check_frames(len(p), len(q))
    if p.shape[1] != q.shape[1]:
        got = f"{p.shape[1]} and {q.shape[1]} neighbours"
        raise BadInput("nodes were prepared with different k", got=got, wanted="the same k for both")
    # An index is in either list once at most, so that what both hold stands beside itself in the sorted whole.
    both = torch.cat([p, q], 1).sort(1).values
    return int((both[:, 1:] == both[:, :-1]).sum()) / p.numel()


def knn_chance(frames: int, k: int = 10) -> float:
    """What `score_knn` is on average if the neighbours in one node say nothing about the other: k / (frames - 1).

    Raises:
        BadInput: k frames or fewer.
    """
    _check_enough(frames, k, "there are")
    return k / (frames - 1)


def _check_enough(frames: int, k: int, whose: str) -> None:
    if frames <= k:
        raise BadInput(
            f"{whose} too few frames for {k} neighbours each",
            got=f"{frames} frames",
            wanted=f"more than {k}; many more, for {k} of {k + 1} frames are neighbours whatever the data",
            remedy="use more frames, or a smaller k",
        )
