"""What training a network costs: operations, hours on a GPU of a stated rate, memory of weights, disk for checkpoints.

python recipes/cost.py recipes/insights-switchboard/*.yaml --hours 260 --seconds 4.8 --rate 15

The operations are counted, not estimated: torch counts the multiplications and additions of matrix products and
convolutions in one forward and backward pass over an utterance of mean length. The rate in 10^12 operations a second is
an assumption about your GPU: what it keeps up in training, not what its sheet says.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

import otoscope
from otoscope.base import BadOption, OtoscopeError
from otoscope.hear.text import GRAPHEMES
from otoscope.learn.networks import build, network_values, read_config, validated
from otoscope.learn.train import TrainConfig
from otoscope.study.console import Terminal, table


class Cost(NamedTuple):
    """Of one network: parameters, operations in a second of speech and in an epoch, epochs, hours, checkpoint bytes."""

    parameters: int
    per_second: float
    per_epoch: float
    epochs: int
    hours: float
    checkpoint: int


def cost(
    network: Mapping[str, Any], epochs: int, *, hours: float, seconds: float, letters_s: float, rate: float
) -> Cost:
    """The cost of training on `hours` of speech in utterances of `seconds`, `letters_s` output symbols a second."""
    values = network_values(dict(network))
    vocabulary = values.pop("vocabulary", None)
    if isinstance(vocabulary, Mapping):
        # Only how many there are matters; pieces are about four letters long.
        values["symbols"] = (*GRAPHEMES, *(f"piece{n}" for n in range(int(vocabulary["size"]) - len(GRAPHEMES))))
        letters_s /= 4
    built = build(read_config(values)).train()
    frames = round(100 * seconds)
    features, lengths = torch.randn(1, frames, built.mels), torch.tensor([frames])
    targets = [torch.arange(round(letters_s * seconds)) % (len(GRAPHEMES) - 1) + 1]
    # Without oneDNN, whose LSTM is one operation that cannot be looked into.
    with (
        warnings.catch_warnings(action="ignore"),
        torch.backends.mkldnn.flags(enabled=False),
        FlopCounterMode(display=False) as counter,
    ):
        built.losses(features, lengths, targets)["loss"].sum().backward()
    per_second = counter.get_total_flops() / seconds
    per_epoch = per_second * hours * 3600
    tensors = [*built.parameters(), *built.buffers()]
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    parameters = sum(parameter.numel() for parameter in built.parameters())
    return Cost(parameters, per_second, per_epoch, epochs, epochs * per_epoch / (rate * 1e12) / 3600, size)


def main() -> None:
    """A line a network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("configs", type=Path, nargs="+", help="YAML files")
    parser.add_argument("--hours", type=float, required=True, help="of speech in training")
    parser.add_argument("--seconds", type=float, default=10.0, help="mean length of an utterance")
    parser.add_argument("--letters", type=float, default=14.0, help="in a second of speech")
    parser.add_argument("--rate", type=float, default=15.0, help="of the GPU, in 10^12 operations a second")
    options = parser.parse_args()
    if min(options.hours, options.seconds, options.letters, options.rate) <= 0:
        raise BadOption("nothing can be reckoned with that", got=vars(options), wanted="numbers above 0")
    rows: list[list[object]] = []
    for path in options.configs:
        network, options_there = otoscope.read_recipe(path)
        epochs = validated(TrainConfig, options_there).epochs
        found = cost(
            network, epochs, hours=options.hours, seconds=options.seconds, letters_s=options.letters, rate=options.rate
        )
        rows.append(
            [
                path.stem, f"{found.parameters / 1e6:.1f} M", f"{found.per_second / 1e9:.1f}",
                f"{found.per_epoch / 1e15:.1f}", epochs, f"{found.hours:.1f}",
                f"{found.checkpoint / 2**20:.0f} MiB", f"{found.checkpoint * (epochs + 1) / 2**30:.1f} GiB",
            ]
        )  # fmt: skip
    headers = ["network", "parameters", "10^9 ops / s of speech", "10^15 ops / epoch", "epochs", "GPU hours"]
    Terminal().show(None, table([*headers, "checkpoint", "all checkpoints"], rows))


if __name__ == "__main__":
    try:
        main()
    except OtoscopeError as error:
        raise SystemExit(str(error)) from None
