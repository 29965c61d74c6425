"""Checkpoints and runs on disk.

A checkpoint is one safetensors file: the weights, and in its header, as JSON, the network's configuration, the epoch
and where it comes from. It rebuilds its network by itself, and loading it runs no code from the file.

A run is a folder:

    run.json                      training options, corpus, versions
    log.jsonl                     a line an epoch: losses, word errors, seconds
    checkpoints/epoch-000.safetensors   the untrained network, then one an epoch
    state.safetensors             the optimiser's, to go on from the last epoch
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
from pydantic import BaseModel
from safetensors.torch import save_file
from torch import Tensor, nn

from otoscope.base import BadCheckpoint, BadOption, OtoscopeError, atomic_path
from otoscope.learn.networks import build, read_config
from otoscope.learn.recogniser import Recogniser

FORMAT = "otoscope-checkpoint-1"
_NAME = re.compile(r"epoch-(\d+)\.safetensors")


@dataclass(frozen=True)
class Run:
    """A training run: its folder, what it was trained with, and its checkpoints by epoch (0 is untrained)."""

    folder: Path
    settings: dict[str, Any]
    checkpoints: dict[int, Path]

    @property
    def log(self) -> list[dict[str, Any]]:
        """One entry an epoch, oldest first."""
        return read_log(self.folder)

    @property
    def best(self) -> int:
        """The epoch with the lowest held-out loss; the last where none was measured."""
        losses = {entry["epoch"]: entry.get("heldout_loss") for entry in self.log if entry["epoch"] in self.checkpoints}
        known = {epoch: loss for epoch, loss in losses.items() if loss is not None and math.isfinite(loss)}
        return min(known, key=lambda epoch: known[epoch]) if known else max(self.checkpoints)


def checkpoint_path(folder: Path, epoch: int) -> Path:
    """Where a run keeps the checkpoint of an epoch."""
    return folder / "checkpoints" / f"epoch-{epoch:03d}.safetensors"


def save_tensors(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write tensors and a JSON header in one step: a full disk leaves what stood there before."""
    with atomic_path(path) as temporary:
        try:
            save_file(
                {name: tensor.contiguous() for name, tensor in tensors.items()},
                temporary,
                {"otoscope": json.dumps(facts)},
            )
        except safetensors.SafetensorError as error:
            # safetensors reports a full disk in words of its own.
            raise OSError(28 if "No space" in str(error) else 5, str(error)) from error


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a file and the facts in its header.

    Raises:
        BadCheckpoint: the file is missing, cut short, or not one of ours.
    """
    if not path.is_file():
        raise BadCheckpoint("no such checkpoint", got=path, wanted="a .safetensors file or a run's folder")
    try:
        with safetensors.safe_open(path, "pt") as file:
            facts = json.loads((file.metadata() or {}).get("otoscope", "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise BadCheckpoint(
            "this checkpoint cannot be read",
            got=f"{path}: {error}",
            wanted="a whole safetensors file",
            remedy="it may have been cut short: take the checkpoint of another epoch",
        ) from error
    if not isinstance(facts, dict):
        raise BadCheckpoint(
            "this safetensors file is not a checkpoint of ours", got=path, wanted=f"a header that says {FORMAT}"
        )
    return tensors, facts


def save_checkpoint(path: Path, network: nn.Module, facts: dict[str, Any]) -> None:
    """Write a network of ours with its configuration and `facts` (epoch, provenance)."""
    config = network.config
    if not isinstance(config, BaseModel):
        raise BadOption("only networks with a configuration can be saved", got=type(network).__name__)
    save_tensors(path, network.state_dict(), {"format": FORMAT, "config": config.model_dump(mode="json"), **facts})


def load_checkpoint(path: Path) -> Recogniser:
    """Rebuild the network of one checkpoint, in `eval()`. Its facts are in `.checkpoint`.

    Raises:
        BadCheckpoint: the file is missing, cut short, of another kind, or its weights do not fit its configuration.
    """
    tensors, facts = load_tensors(path)
    if facts.get("format") != FORMAT:
        raise BadCheckpoint("this file is no checkpoint", got=f"{path}: {facts.get('format')}", wanted=FORMAT)
    try:
        network = build(read_config(facts["config"]))
        network.load_state_dict(tensors)
    except (BadOption, KeyError, RuntimeError) as error:
        problem = error.got if isinstance(error, OtoscopeError) else str(error).splitlines()[0]
        raise BadCheckpoint(
            "this is a checkpoint of another network",
            got=f"{path}: {problem}",
            wanted="weights that fit the configuration beside them",
        ) from error
    network.checkpoint = {**facts, "path": str(path)}
    return network.eval()


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's log, oldest epoch first; a last line that was cut short is left out."""
    entries = []
    path = folder / "log.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            entries.append(json.loads(line))
        except ValueError:
            break
    return entries


def open_run(folder: Path | str) -> Run:
    """A run by its folder.

    Raises:
        BadCheckpoint: there is no run, or it has no checkpoint yet.
    """
    folder = Path(folder)
    settings = folder / "run.json"
    if not settings.is_file():
        raise BadCheckpoint(
            "this is not a run",
            got=folder,
            wanted="a folder with run.json and checkpoints/",
            remedy="`otoscope train` makes one",
        )
    found = {
        int(match[1]): path
        for path in (folder / "checkpoints").glob("*.safetensors")
        if (match := _NAME.fullmatch(path.name))
    }
    if not found:
        raise BadCheckpoint(
            "this run has no checkpoint yet", got=folder / "checkpoints", wanted="epoch-000.safetensors, …"
        )
    try:
        values = json.loads(settings.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadCheckpoint("the run's settings cannot be read", got=f"{settings}: {error}", wanted="JSON") from error
    return Run(folder, values, dict(sorted(found.items())))


def checkpoint_of(run_or_checkpoint: Path | str, epoch: int | None = None) -> Path:
    """The file of a checkpoint, or of a run: its last epoch, or the one asked for (0 is untrained).

    Raises:
        BadCheckpoint: a folder that is no run, an epoch that was not kept.
        BadOption: a file, and an epoch besides.
    """
    path = Path(run_or_checkpoint)
    if not path.is_dir():
        if epoch is not None:
            raise BadOption("one checkpoint has one epoch", got=f"{path} and epoch={epoch}", wanted="a run's folder")
        return path
    run = open_run(path)
    if epoch is not None and epoch not in run.checkpoints:
        raise BadCheckpoint(
            "the run has no checkpoint of this epoch",
            got=epoch,
            wanted=f"one of {', '.join(map(str, run.checkpoints))}",
        )
    return run.checkpoints[max(run.checkpoints) if epoch is None else epoch]


def load(run_or_checkpoint: Path | str, epoch: int | None = None) -> nn.Module:
    """The network of a checkpoint file, or of a run: its last epoch, or the one asked for (0 is untrained).

    A `torch.nn.Module` in `eval()` with `forward(features, lengths) -> (logits (batch, frame, symbol), lengths)`,
    `.symbols` and `.blank`.

    Raises:
        BadCheckpoint: nothing there, a file cut short, a checkpoint of another network, an epoch that was not kept.
    """
    return load_checkpoint(checkpoint_of(run_or_checkpoint, epoch))
