"""A run through its training: the share of the time that the networks themselves take.

    python benchmarks/bench_dynamics.py                                     # small
    python benchmarks/bench_dynamics.py --epochs 30 --units 256 --frames 24000 [--network transformer]

A made-up run of a 12-layer network with random weights that drift; every layer at every epoch is compared with the
last, the next and the first epoch, across each epoch, and with the input. Each checkpoint runs once on each batch.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import otoscope
from otoscope.base import write_json
from otoscope.hear.corpus import Utterance
from otoscope.learn.checkpoint import checkpoint_path, save_checkpoint
from otoscope.learn.networks import build, read_config


def made_up_run(folder: Path, values: dict[str, Any], epochs: int) -> None:
    """Checkpoints of a network whose weights drift from one epoch to the next."""
    config = read_config({"mels": 128, "symbols": ["_", *"abcdefgh"], **values})
    torch.manual_seed(0)
    network = build(config)
    for epoch in range(epochs):
        save_checkpoint(checkpoint_path(folder, epoch), network, {"epoch": epoch})
        with torch.no_grad():
            for parameter in network.parameters():
                parameter += 0.2 / (epoch + 1) * parameter.std(correction=0) * torch.randn_like(parameter)
    write_json(folder / "run.json", {"network": config.model_dump(mode="json"), "train": {}, "corpus": {}})


def main() -> None:
    """Read the options, make the run, time the pass."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=("wav2letter", "transformer"), default="wav2letter")
    parser.add_argument("--layers", type=int, default=12, help="layers, or blocks of the transformer")
    parser.add_argument("--units", type=int, default=128)
    parser.add_argument("--kernel", type=int, default=11, help="of the wav2letter")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--frames", type=int, default=3000, help="frames of speech, in utterances of 300")
    options = parser.parse_args()
    values: dict[str, Any] = {"network": options.network}
    if options.network == "wav2letter":
        values["hidden"] = [{"units": options.units, "kernel": options.kernel} for _ in range(options.layers - 1)]
    else:
        sizes = {"units": options.units, "feed_forward": 8 * options.units, "channels": options.units}
        values |= {"blocks": options.layers, **sizes}
    speech = [
        Utterance(f"u{index}", features=np.random.default_rng(index).standard_normal((300, 128)).astype(np.float32))
        for index in range(options.frames // 300)
    ]
    spent: dict[str, Any] = {"seconds": 0.0, "calls": 0, "since": 0.0}

    def start(module: nn.Module, _: Any) -> None:
        if hasattr(module, "layer_names"):
            spent["since"] = time.perf_counter()

    def end(module: nn.Module, *_: Any) -> None:
        if hasattr(module, "layer_names"):
            spent["seconds"] += time.perf_counter() - spent["since"]
            spent["calls"] += 1

    with tempfile.TemporaryDirectory() as folder:
        made_up_run(Path(folder), values, options.epochs)
        surveyed: list[int] = []

        def progress(done: int, total: int, words: str) -> None:
            if done == total:
                surveyed.append(time.perf_counter_ns())

        hooks = [
            nn.modules.module.register_module_forward_pre_hook(start),
            nn.modules.module.register_module_forward_hook(end),
        ]
        before = time.perf_counter()
        found = otoscope.through_training(folder, speech, progress=progress)
        whole = time.perf_counter() - before
        for hook in hooks:
            hook.remove()
    reading = time.perf_counter() - surveyed[-1] / 1e9
    print(f"{options.network}, {options.layers} layers of {options.units}, {options.epochs} checkpoints, ", end="")
    print(f"{found.attrs['frames']} frames")
    print(f"whole {whole:.1f} s: forward passes {spent['seconds']:.1f} s ({spent['seconds'] / whole:.0%}), ", end="")
    print(f"reading out {reading:.1f} s ({reading / whole:.0%})")


if __name__ == "__main__":
    main()
