"""Batch normalisation whose statistics are those of all devices together, where several train one network."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class _Sum(torch.autograd.Function):
    """The sum over all processes; what reaches it on the way back is summed as well."""

    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def _summed(values: Tensor) -> Tensor:
    return _Sum.apply(values)


class _Shared(nn.modules.batchnorm._BatchNorm):
    """torch's own on one device. torch's form for several is for GPUs only and wants equal shares of every batch."""

    def forward(self, values: Tensor) -> Tensor:
        """The same shape, normalised over all axes but the second; in `eval()` a fixed scale and shift."""
        if not self.training or not dist.is_initialized() or dist.get_world_size() == 1:
            return super().forward(values)
        axes = [axis for axis in range(values.ndim) if axis != 1]
        points = torch.tensor(float(values.numel() // values.shape[1]), device=values.device)
        shape = [-1 if axis == 1 else 1 for axis in range(values.ndim)]
        wide = values.float()
        dist.all_reduce(points)
        mean = _summed(wide.sum(axes)) / points
        centred = wide - mean.view(shape)
        variance = _summed(centred.square().sum(axes)) / points
        scale = self.weight * torch.rsqrt(variance + self.eps)
        momentum = self.momentum or 0.0
        with torch.no_grad():
            for kept, now in ((self.running_mean, mean), (self.running_var, variance * points / (points - 1))):
                if kept is not None:
                    kept.lerp_(now, momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
        return (centred * scale.view(shape) + self.bias.view(shape)).to(values.dtype)


class FrameBatchNorm(_Shared, nn.BatchNorm1d):
    """Batch normalisation of `(batch, frame, unit)` over batch and frame: a fixed scale and shift in `eval()`."""

    def forward(self, values: Tensor) -> Tensor:
        """The same shape, normalised per unit."""
        return super().forward(values.flatten(0, 1)).view_as(values)


class MapBatchNorm(_Shared, nn.BatchNorm2d):
    """Batch normalisation of maps `(batch, channel, frame, mel)` over all but the channels."""
