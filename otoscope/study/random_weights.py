"""Networks with random weights: the control of whatever is said about a trained one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import torch
from torch import nn

from otoscope.base import derive_seed
from otoscope.study.representations import Listener


def redraw(network: nn.Module, modules: Iterable[str], seed: int) -> None:
    """Draw these modules' parameters anew, in place, each from `seed` and its name."""
    for name in modules:
        reset = reset_of(network.get_submodule(name))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, "random weights", name))
            if reset is not None:
                reset()


def reset_of(part: nn.Module) -> Callable[[], None] | None:
    """How a module draws its parameters anew; torch's attention has a name of its own for it."""
    for name in ("reset_parameters", "_reset_parameters"):
        reset = getattr(part, name, None)
        if callable(reset):
            return reset
    return None


def with_random_weights(listeners: Sequence[Listener], seed: int) -> dict[str, Listener]:
    """For each network one like it, every module that can reset its parameters reset.

    Drawn from `seed` and the network's name: its epochs share it.
    """
    twins: dict[str, Listener] = {}
    for listener in listeners:
        if listener.network in twins:
            continue
        module = copy.deepcopy(listener.module)
        redraw(module, [name for name, _ in module.named_modules()], derive_seed(seed, listener.network))
        # Its representations must not share names with those of the network itself.
        name = f"{listener.network} with random weights"
        twins[listener.network] = replace(listener, network=name, module=module.eval(), checkpoint=None)
    return twins
