"""Linear probes in closed form: how well a linear map reads labels off a layer, from sums over frames.

Linear discriminant analysis with a shared covariance (Fisher 1936; Rao 1948): with the mean m_c and the share p_c of
the frames of each label and the covariance W within labels, a frame x is given the label of the largest

    x W^-1 m_c - m_c W^-1 m_c / 2 + log p_c .

m_c, p_c and W follow from the covariances of a layer and of one-hot labels, so that a probe costs no pass of its own.
W is shrunk a little towards a multiple of the identity, which keeps collinear units from being inverted.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from otoscope.base import BadInput, BadOption
from otoscope.reduce.covariances import Covariances

# Share of the mean variance that is put in the place of as much of the covariance.
SHRINKAGE = 1e-2


@dataclass(frozen=True)
class Probe:
    """A linear classifier: `weight (unit, label)` and `bias (label,)`, minus infinity for a label never met."""

    weight: Tensor
    bias: Tensor

    def predict(self, frames: Tensor) -> Tensor:
        """The label's number for each frame `(frame, unit)`, `(frame,)`."""
        return (frames.double() @ self.weight + self.bias).argmax(1)


def fit_probe(sums: Covariances, layer: str, labels: str, shrinkage: float = SHRINKAGE) -> Probe:
    """The linear discriminant of one-hot `labels` in `layer`.

    Args:
        sums: over frames that each have exactly one label.
        layer, labels: nodes; the pair must have been asked for.
        shrinkage: between 0 (none) and 1.

    Raises:
        BadOption: another shrinkage. BadInput: fewer than two labels that occur, a frame without label, nothing that
            varies.
    """
    if not 0 <= shrinkage <= 1:
        raise BadOption("shrinkage is a share of the covariance", got=shrinkage, wanted="0 to 1")
    share = sums.mean(labels)
    met = share > 0.5 / sums.frames
    if abs(float(share.sum()) - 1) > 1e-6:
        got = f"{float(share.sum()):.4f} labels a frame on average"
        raise BadInput(f"the frames of {labels!r} do not have one label each", got=got, wanted="exactly 1")
    if int(met.sum()) < 2:
        raise BadInput("a probe needs labels to tell apart", got=f"{int(met.sum())} that occur", wanted="2 or more")
    # cov(x, label) = p_c (m_c - mean): the means by label, from the mean of all.
    away = sums.covariance(layer, labels)[:, met] / share[met]
    within = sums.covariance(layer, layer) - (away * share[met]) @ away.T
    variance = within.diagonal().mean().clamp(min=0)
    if float(sums.covariance(layer, layer).diagonal().sum()) <= float(sums.rounding(layer).sum()):
        raise BadInput(f"node {layer!r} has no variance", got="units that stay the same", wanted="some that vary")
    within = (1 - shrinkage) * within
    # Where a layer does not vary within labels, what rounding leaves of it must not be inverted.
    spread = sums.covariance(layer, layer).diagonal().mean()
    within.diagonal().add_(shrinkage * torch.maximum(variance, 1e-10 * spread))
    weight = torch.zeros(len(within), len(share), dtype=torch.float64)
    # The smallest-norm solution where even so there is no inverse.
    weight[:, met] = torch.linalg.lstsq(within, away, driver="gelsd").solution
    bias = torch.full((len(share),), -torch.inf, dtype=torch.float64)
    bias[met] = share[met].log() - ((sums.mean(layer)[:, None] + away / 2) * weight[:, met]).sum(0)
    return Probe(weight, bias)
