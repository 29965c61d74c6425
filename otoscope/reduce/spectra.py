"""Nodes and pairs of nodes as the measures see them: decomposed once, each part when it is first wanted."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from otoscope.base import BadInput
from otoscope.reduce.covariances import EPSILON, Covariances
from otoscope.reduce.parallel import once

# Below this share of the largest, the root of an eigenvalue of A A^T is no longer the singular value of A to 1e-10.
SQUARE_LOSES = 1e-10
# Up to this condition number of a covariance, its faintest directions are exact to 1e-10 without scaling the units.
EVEN = 1e6
# The squared norms of frames, multiplied, leave the range of float64 below this.
SMALLEST_VARIANCE = 1e-140


class Node:
    """What measures read of one node. A direction is a weighted sum of units.

    A direction counts if its variance is above four times what rounding of the input makes of it, and above the error
    of the eigenvalues themselves (width × machine epsilon × the largest). So dead and collinear units and more units
    than frames leave fewer directions than units, never a division by almost nothing.
    """

    def __init__(self, covariances: Covariances, name: str):
        self.covariances, self.name = covariances, name
        self.frames, self.units = covariances.frames, covariances.width(name)
        self.variance = covariances.variance(name)
        self.rounding = covariances.rounding(name)
        self.varying = self.variance > self.rounding
        if not self.varying.any():
            raise self._constant()
        #: Sum of the variances of the units.
        self.total = float(self.variance.sum())

    @property
    def covariance(self) -> Tensor:
        """`(unit, unit)`, formed anew: of hundreds of nodes only what is decomposed is kept."""
        return self.covariances.covariance(self.name, self.name)

    @once
    def norm(self) -> float:
        """Frobenius norm of the covariance over its trace, between 1 / sqrt(units) and 1."""
        return float(torch.linalg.matrix_norm(self.covariance / self.total))

    @once
    def principal(self) -> tuple[Tensor, Tensor]:
        """Variances, descending, `(direction,)`, and the orthonormal principal directions `(unit, direction)`."""
        return self._directions(self.covariance, self.rounding)

    @once
    def even(self) -> bool:
        """Whether the principal directions, each scaled to variance 1, are good whitened ones."""
        variances = self.principal[0]
        return len(variances) == self.units and float(variances[0]) < EVEN * float(variances[-1])

    @once
    def whitening(self) -> Tensor:
        """`(direction, unit)`: the map W with W S W^T = 1.

        The principal directions where the variances are even. Elsewhere the units are scaled to variance 1 first, so
        that a quiet unit beside a loud one is not taken for rounding.
        """
        if self.even:
            variances, directions = self.principal
            return (directions / variances.sqrt()).T
        scale = self.variance[self.varying].sqrt()
        correlation = self.covariance[self.varying][:, self.varying] / torch.outer(scale, scale)
        variances, directions = self._directions(correlation, self.rounding[self.varying] / scale**2)
        whitening = torch.zeros(len(variances), self.units, dtype=torch.float64)
        whitening[:, self.varying] = (directions / variances.sqrt() / scale[:, None]).T
        return whitening

    @once
    def loading(self) -> Tensor:
        """`(direction, unit)`: covariances of the whitened directions with the units, W S."""
        return self.whitening @ self.covariance

    @property
    def rank(self) -> int:
        """Number of directions that vary, whatever the scale of each unit."""
        return len(self.whitening)

    def kept(self, threshold: float) -> int:
        """The fewest principal directions that hold `threshold` of the variance (Raghu et al. 2017, section 2)."""
        share = self.principal[0].cumsum(0) / self.total
        # A share equal to the threshold must not depend on the last bits, which the order of the batches changes.
        return min(int((share < threshold - 1e-10).sum()) + 1, len(share))

    @once
    def self_hsic(self) -> float:
        """Unbiased HSIC of the node with itself, linear kernel, over its total variance squared."""
        return unbiased_hsic(self.covariances, self, self, self.covariance)

    def _directions(self, symmetric: Tensor, rounding: Tensor) -> tuple[Tensor, Tensor]:
        variances, directions = torch.linalg.eigh(symmetric)
        epsilon = self.covariances.epsilon
        error = EPSILON * max(len(symmetric), 32) if epsilon == EPSILON else epsilon * math.sqrt(len(symmetric))
        floor = error * variances[-1] + 4 * rounding @ directions**2
        counted = (variances > floor).flip(0)
        if not counted.any():
            raise self._constant()
        return variances.flip(0)[counted], directions.flip(1)[:, counted]

    def _constant(self) -> BadInput:
        return BadInput(
            f"node {self.name!r} has no variance",
            got=f"{self.units} units that stay the same, but for rounding, over {self.frames} frames",
            wanted="at least one unit that varies",
            remedy="leave this node out: similarity to something constant is not defined",
        )


class Pair:
    """Two nodes and their cross-covariance.

    Args:
        a, b: the nodes.
        directions: whether the canonical directions of `a` will be wanted beside the correlations.
    """

    def __init__(self, a: Node, b: Node, *, directions: bool = False):
        self.a, self.b, self.frames, self._directions = a, b, a.frames, directions

    @once
    def cross(self) -> Tensor:
        """Cross-covariance `(unit of a, unit of b)`."""
        return self.a.covariances.covariance(self.a.name, self.b.name)

    @once
    def half_whitened(self) -> Tensor:
        """`(direction of a, unit of b)`: W_a C."""
        return self.a.whitening @ self.cross

    @once
    def whitened(self) -> Tensor:
        """`(direction of a, direction of b)`: W_a C W_b^T, whose singular values are the canonical correlations."""
        return self.half_whitened @ self.b.whitening.T

    @once
    def correlations(self) -> Tensor:
        """The canonical correlations, `(min of the ranks,)`, descending, within [0, 1]."""
        return self.canonical[0] if self._directions else singular_values(self.whitened).clamp(0, 1)

    @once
    def canonical(self) -> tuple[Tensor, Tensor]:
        """The canonical correlations, and the canonical directions `(direction of a, min of the ranks)`."""
        count = min(self.whitened.shape)
        squares, vectors = torch.linalg.eigh(self.whitened @ self.whitened.T)
        squares, vectors = squares.flip(0)[:count], vectors.flip(1)[:, :count]
        if squares[-1] < SQUARE_LOSES:
            return torch.linalg.vector_norm(self.whitened.T @ vectors, dim=0).clamp(0, 1), vectors
        return squares.sqrt().clamp(0, 1), vectors

    def principal_correlations(self, threshold: float) -> Tensor:
        """The canonical correlations between the principal directions that hold `threshold` of each variance."""
        (variances, left), (other_variances, right) = self.a.principal, self.b.principal
        rows, columns = self.a.kept(threshold), self.b.kept(threshold)
        if self.a.even and self.b.even:
            return singular_values(self.whitened[:rows, :columns]).clamp(0, 1)
        cross = left[:, :rows].T @ self.cross @ right[:, :columns]
        cross /= variances[:rows, None].sqrt()
        cross /= other_variances[:columns].sqrt()
        return singular_values(cross).clamp(0, 1)

    @once
    def overlap(self) -> float:
        """Nuclear norm of the cross-covariance over the root of both total variances, in [0, 1]."""
        scaled = self.cross / math.sqrt(self.a.total) / math.sqrt(self.b.total)
        # As an angle near 0 it must be exact to the last digits.
        return min(float(torch.linalg.svdvals(scaled).sum()), 1.0)

    @property
    def reverse(self) -> Pair:
        """The same pair, seen from `b`."""
        return Pair(self.b, self.a, directions=self._directions)


def singular_values(matrix: Tensor) -> Tensor:
    """Singular values, descending; the roots of the eigenvalues of the square, half the work, where these are exact."""
    square = matrix @ matrix.T if len(matrix) <= matrix.shape[1] else matrix.T @ matrix
    squares = torch.linalg.eigvalsh(square)
    if squares[0] < SQUARE_LOSES * squares[-1]:
        return torch.linalg.svdvals(matrix)
    return squares.flip(0).sqrt()


def unbiased_hsic(covariances: Covariances, a: Node, b: Node, cross: Tensor) -> float:
    """HSIC_1 of Song et al. 2012 for linear kernels, from sums over frames, over both total variances.

    With K = X X^T without its diagonal, X centred and k = |x|^2 frame by frame: tr K L = |n C|^2 - sum k l,
    1 K 1 = -sum k, 1 K L 1 = sum k l.
    """
    n = covariances.frames
    if n < 4:
        raise BadInput("the unbiased estimator needs frames", got=f"{n}", wanted="at least 4")
    if min(a.total, b.total) < SMALLEST_VARIANCE:
        got, wanted = f"{min(a.total, b.total):.1g}", f"at least {SMALLEST_VARIANCE:g}: its fourth powers are summed"
        raise BadInput("the variance is too small for the debiased measure", got=got, wanted=wanted, remedy="scale it")
    scaled = cross / math.sqrt(a.total) / math.sqrt(b.total)
    together = n * covariances.squared_norms(a.name, b.name) / a.total / b.total
    trace = n**2 * float((scaled**2).sum()) - together
    return (trace + n**2 / ((n - 1) * (n - 2)) - 2 * together / (n - 2)) / (n * (n - 3))
