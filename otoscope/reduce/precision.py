"""In which precision the products of a block of frames are formed.

Products of float32 numbers, formed in float32 and summed over blocks in float64, are about twice as fast and err by
some 1e-7 of a covariance. Measures that weigh directions by their variance (CKA, Procrustes) do not notice. Those that
whiten (the CCA family) magnify the error of the faintest directions by the condition number, so that the spectrum
decides.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from otoscope.reduce.parallel import in_parallel
from otoscope.reduce.sums import Layout

PRECISIONS = ("auto", "float64", "float32")
# The error of CCA grows with the condition number of the correlations and falls with the width, over which it averages
# out: 20,000 frames at condition 1e3 gave 2e-8 for 512 units, 10,000 frames 3e-7 for 64 units and 1e-6 for 16. So the
# limit is the width, and this at most (tests/test_precision.py holds the error to 1e-7).
LARGEST_CONDITION = 1e3
# Within these, squares and fourth powers of values stay far inside the range of float32.
SMALLEST_SD, LARGEST_VALUE = 1e-6, 1e6
COLLINEAR = 1e-12


class Choice(NamedTuple):
    """A dtype for the products, and why, in words."""

    dtype: torch.dtype
    why: str


def choose_precision(block: Tensor, layout: Layout, resolution: dict[str, float]) -> Choice:
    """Whether float32 products are safe for nodes whose first frames look like this.

    Args:
        block: shifted frames `(frame, column)`, float64.
        layout: where the nodes stand.
        resolution: machine epsilon of each node's input.
    """
    widest = max(layout.widths, key=lambda node: layout.widths[node])
    if len(block) < 2 * layout.widths[widest]:
        words = f"a block of {len(block)} frames does not show the spectrum of {layout.widths[widest]} units"
        return Choice(torch.float64, words)
    conditions = in_parallel(
        lambda node: _condition(block[:, layout.units(node)], resolution[node]), layout.widths, layout.widths[widest]
    )
    worst, where = 0.0, ""
    for node, condition in zip(layout.widths, conditions, strict=True):
        if condition is None:
            return Choice(torch.float64, f"the values of node {node!r} are too large or too small for float32 squares")
        limit = min(LARGEST_CONDITION, layout.widths[node])
        if condition > limit:
            words = f"node {node!r} has condition number {condition:.2g}, above {limit:g}"
            return Choice(torch.float64, words)
        worst, where = max((worst, where), (condition, node))
    return Choice(torch.float32, f"condition numbers are at most {worst:.2g} (node {where!r})")


def _condition(rows: Tensor, step: float) -> float | None:
    """Condition number of the correlations of the units that vary; None where float32 cannot hold their squares."""
    covariance = rows.T @ rows / len(rows)
    mean = rows.mean(0)
    variance = covariance.diagonal() - mean**2
    varying = variance > step**2 * covariance.diagonal()
    if not varying.any():
        return 1.0
    if float(rows.abs().max()) > LARGEST_VALUE or float(variance[varying].min()) < SMALLEST_SD**2:
        return None
    scale = variance[varying].sqrt()
    correlation = (covariance - torch.outer(mean, mean))[varying][:, varying] / torch.outer(scale, scale)
    spectrum = torch.linalg.eigvalsh(correlation)
    # Directions that do not vary at all, as one of one-hot labels, are left out by every measure that whitens.
    return float(spectrum[-1] / spectrum[spectrum > COLLINEAR * spectrum[-1]][0])
