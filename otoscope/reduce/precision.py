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
# Measured with 20,000 frames of 512 units: the error of CCA grows with the square root of the condition number of the
# correlations, and is 2e-8 at 1e3 (tests/test_precision.py holds it to 1e-7).
LARGEST_CONDITION = 1e3
# Within these, squares and fourth powers of values stay far inside the range of float32.
SMALLEST_SD, LARGEST_VALUE = 1e-6, 1e6


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
    exact = [node for node, step in resolution.items() if step < torch.finfo(torch.float32).eps]
    if exact:
        return Choice(torch.float64, f"node {exact[0]!r} is given in float64")
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
        if condition > LARGEST_CONDITION:
            return Choice(torch.float64, f"node {node!r} has condition number {condition:.1g}")
        worst, where = max((worst, where), (condition, node))
    return Choice(torch.float32, f"condition numbers are at most {worst:.2g} (node {where!r})")


def _condition(rows: Tensor, step: float) -> float | None:
    """Condition number of the correlations of the units that vary; None where float32 cannot hold their squares."""
    covariance = rows.T @ rows / len(rows)
    mean = rows.mean(0)
    variance = covariance.diagonal() - mean**2
    if float(rows.abs().max()) > LARGEST_VALUE or float(variance.max()) < SMALLEST_SD**2:
        return None
    varying = variance > step**2 * covariance.diagonal()
    scale = variance[varying].sqrt()
    correlation = (covariance - torch.outer(mean, mean))[varying][:, varying] / torch.outer(scale, scale)
    spectrum = torch.linalg.eigvalsh(correlation)
    return float(spectrum[-1] / spectrum[0].clamp(min=1e-300))
