"""What a run needs to go on where it was: its settings, its last whole epoch, the optimiser's state, its log."""

from __future__ import annotations

import contextlib
import importlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from otoscope.base import BadCheckpoint, write_json, write_text
from otoscope.learn.checkpoint import checkpoint_path, load_checkpoint, load_tensors
from otoscope.learn.recogniser import Recogniser


def claim(folder: Path, settings: dict[str, Any], defaults: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the settings into a new run, or check that an old one has the same.

    A run made before a setting existed has its default.

    Raises:
        BadCheckpoint: a run of other settings.
    """
    path = folder / "run.json"
    if not path.is_file():
        write_json(path, settings)
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadCheckpoint("the run's settings cannot be read", got=f"{path}: {error}", wanted="JSON") from error
    settings = json.loads(json.dumps(settings))
    there = {part: {**defaults.get(part, {}), **found.get(part, {})} for part in settings}
    there = json.loads(json.dumps(there))
    differing = [
        f"{part}.{key}: {there[part].get(key)} there, {settings[part].get(key)} here"
        for part in settings
        for key in sorted({*settings[part], *there[part]})
        if settings[part].get(key) != there[part].get(key)
    ]
    if differing:
        raise BadCheckpoint(
            f"{folder} holds a run with other settings",
            got="; ".join(differing),
            wanted="the same, to go on with it",
            remedy="name another folder, or remove this one",
        )


def begin_with(network: Recogniser, start: Path) -> None:
    """Give a network the weights of a checkpoint.

    Raises:
        BadCheckpoint: one of another network, of other features, or with other output symbols.
    """
    found = load_checkpoint(start)
    same = ("symbols", "mels", "top_hz")
    unlike = [name for name in same if getattr(found, name) != getattr(network, name)]
    shapes, wanted = ({n: tuple(t.shape) for n, t in each.state_dict().items()} for each in (found, network))
    unlike += sorted(name for name in {*shapes, *wanted} if shapes.get(name) != wanted.get(name))[:3]
    if unlike:
        raise BadCheckpoint(
            "training cannot begin with these weights", got=f"{start}: other {', '.join(unlike)}",
            wanted="those of the same network", remedy="leave network: out of the configuration to take it from there",
        )  # fmt: skip
    network.load_state_dict(found.state_dict())


def resume(folder: Path, state_path: Path, network: Recogniser, optimiser: torch.optim.Optimizer) -> int:
    """Load the last whole epoch, if there is one; returns its number, 0 when training starts now."""
    if not state_path.is_file():
        network.load_state_dict(load_checkpoint(checkpoint_path(folder, 0)).state_dict())
        return 0
    tensors, facts = load_tensors(state_path)
    epoch = int(facts["epoch"])
    network.load_state_dict(load_checkpoint(checkpoint_path(folder, epoch)).state_dict())
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        number, _, key = name.partition(".")
        state.setdefault(int(number), {})[key] = tensor
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    return epoch


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state under flat names: `parameter number.key`."""
    state = optimiser.state_dict()["state"]
    return {
        f"{number}.{key}": torch.as_tensor(value) for number, values in state.items() for key, value in values.items()
    }


def write_log(folder: Path, log: Sequence[dict[str, Any]]) -> None:
    """The log as JSON lines, an entry an epoch."""
    write_text(folder / "log.jsonl", "".join(json.dumps(entry) + "\n" for entry in log))


@contextlib.contextmanager
def board(folder: Path, done: int) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Gives what shows an entry of the log in TensorBoard; nothing where that is not installed.

    What an interrupted training showed of epochs after `done` is taken back.
    """
    try:
        summary = importlib.import_module("torch.utils.tensorboard")
    except ImportError:
        yield lambda entry: None
        return
    with summary.SummaryWriter(str(folder / "tensorboard"), purge_step=done + 1) as writer:

        def show(entry: dict[str, Any]) -> None:
            for name, value in entry.items():
                if name != "epoch" and isinstance(value, (int, float)):
                    writer.add_scalar(name, value, entry["epoch"])
            writer.flush()

        yield show
