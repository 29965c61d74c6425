"""Running sums, read: means, covariances and squared norms of nodes over all frames, or over all but a part."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from otoscope.reduce.sums import PairName, Sums

EPSILON = torch.finfo(torch.float64).eps


class Covariances:
    """Means and covariances of named nodes, formed from sums when they are asked for.

    Args:
        parts: the sums that are added up.
        shift: what was taken from every column before it was summed.
        resolution: machine epsilon of the coarsest dtype of each node's input.
        squared_norms: whether the sums hold squared norms.
    """

    def __init__(
        self,
        parts: Sequence[Sums],
        shift: Tensor,
        resolution: dict[str, float],
        squared_norms: bool = False,
    ):
        self._parts, self._shift, self._resolution = parts, shift, resolution
        self._layout = parts[0].layout
        self.has_squared_norms = squared_norms
        self.frames = sum(part.frames for part in parts)
        self.utterances = sum(part.utterances for part in parts)
        #: Relative error of a covariance, about: what float32 products lose over a block of some thousand frames.
        self.epsilon = 4 * torch.finfo(torch.float32).eps if any(part.coarse for part in parts) else EPSILON
        self._mean = torch.stack([part.total for part in parts]).sum(0) / self.frames

    def keep(self) -> None:
        """Copy the sums, which are about to grow."""
        self._parts = [part.copy() for part in self._parts]

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of the nodes."""
        return tuple(self._layout.widths)

    @property
    def pairs(self) -> tuple[PairName, ...]:
        """The asked-for pairs of different nodes, each once. `covariance` also knows (a, a) and the reverse of each."""
        return self._layout.pairs

    def width(self, node: str) -> int:
        """Number of units of `node`. Raises `BadInput` for an unknown node."""
        units = self._layout.units(node)
        return int(units.stop - units.start)

    def mean(self, node: str) -> Tensor:
        """Mean over frames, `(unit,)`, float64. Raises `BadInput` for an unknown node."""
        units = self._layout.units(node)
        return self._mean[units] + self._shift[units]

    def covariance(self, a: str, b: str) -> Tensor:
        """Sum of (x - mean)(y - mean)^T divided by n (not by n - 1): `(unit of a, unit of b)`, float64.

        Raises:
            BadInput: an unknown node or a pair that was not asked for.
        """
        rows, columns = self._layout.units(a), self._layout.units(b)
        product = self._product(a, b)[: rows.stop - rows.start, : columns.stop - columns.start]
        return torch.addr(product, self._mean[rows], self._mean[columns], alpha=-1)

    def squared_norms(self, a: str, b: str) -> float:
        """Mean over frames of |x - mean|^2 |y - mean|^2. The pass must have kept squared norms.

        A squared norm from the mean is the one from the shift less 2 m x, but for a constant (m: the mean, x: the
        frame, both from the shift), so that the products of shifted columns are enough.
        """
        leans, traces, means = [], [], []
        for node in (a, b):
            units, columns = self._layout.units(node), self._layout.columns[node]
            leans.append(torch.cat([-2 * self._mean[units], torch.ones(1, dtype=torch.float64)]))
            traces.append(float(self.variance(node).sum()))
            means.append(float(leans[-1] @ self._mean[columns]))
        product = sum(float(leans[0] @ part.product(a, b) @ leans[1]) for part in self._parts) / self.frames
        return product - means[0] * means[1] + traces[0] * traces[1]

    def variance(self, node: str) -> Tensor:
        """Of each unit over frames, `(unit,)`: the diagonal of the covariance. At least 0."""
        units = self._layout.units(node)
        squares = torch.stack([part.product(node, node).diagonal() for part in self._parts]).sum(0) / self.frames
        return (squares[: self.width(node)] - self._mean[units] ** 2).clamp(min=0)

    def rounding(self, node: str) -> Tensor:
        """Variance per unit, `(unit,)`, that rounding alone can make: a unit with no more than this is constant.

        It is the rounding of the input (uniform over a spacing of eps |x|, so eps^2 x^2 / 12, for the coarsest dtype
        that came in) and the cancellation between shift and mean.
        """
        variance = self.variance(node)
        cancelled = EPSILON * (variance + self._mean[self._layout.units(node)] ** 2)
        return self._resolution[node] ** 2 / 12 * (variance + self.mean(node) ** 2) + cancelled

    def _product(self, a: str, b: str) -> Tensor:
        """The sum of products over all parts, divided by the number of frames."""
        total = self._parts[0].product(a, b) / self.frames
        for part in self._parts[1:]:
            total += part.product(a, b) / self.frames
        return total
