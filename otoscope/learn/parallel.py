"""Several devices that train one network together, started by `torchrun`; alone, the same calls do nothing."""

from __future__ import annotations

import atexit
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from otoscope.base import BadOption, choose
from otoscope.learn.recogniser import Recogniser

DEVICES = ("auto", "cpu", "cuda")
# Rank 0 may compute features for long while the others wait.
PATIENCE = timedelta(hours=2)
Item = TypeVar("Item")


class Objective(nn.Module):
    """A network's losses as the module that several devices share."""

    def __init__(self, network: Recogniser):
        super().__init__()
        self.network = network

    def forward(self, features: Tensor, lengths: Tensor, targets: Sequence[Tensor]) -> dict[str, Tensor]:
        """`network.losses`."""
        return self.network.losses(features, lengths, targets)


@dataclass(frozen=True)
class Team:
    """Which of how many processes this one is, and the device it trains on."""

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """This process's part; the parts of all are the whole."""
        return items[self.rank :: self.size]

    def objective(self, network: Recogniser) -> nn.Module:
        """The network's losses; gradients become the mean over all processes."""
        objective = Objective(network)
        return DistributedDataParallel(objective) if self.size > 1 else objective

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def largest(self, value: int) -> int:
        """The largest of all processes' numbers."""
        if self.size == 1:
            return value
        values = torch.tensor(value, device=self.device)
        dist.all_reduce(values, op=dist.ReduceOp.MAX)
        return int(values)

    def wait(self) -> None:
        """Go on when all have come here."""
        if self.size > 1:
            dist.barrier()


def team(device: str = "auto") -> Team:
    """The processes that `torchrun` started, as its variables say; this one alone where there are none.

    They stay connected until they end.

    Args:
        device: "cpu", "cuda", or "auto": a GPU where there is one. Of several each process takes one.

    Raises:
        BadOption: another device, or one that is not there.
    """
    choose("device", device, DEVICES)
    if device == "cuda" and not torch.cuda.is_available():
        raise BadOption("there is no GPU that torch can use", got="cuda", wanted="cpu, or auto")
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    chosen = torch.device("cpu")
    if device != "cpu" and torch.cuda.is_available():
        chosen = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
        torch.cuda.set_device(chosen)
    if size > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=PATIENCE)
        atexit.register(dist.destroy_process_group)
    return Team(rank, size, chosen)
