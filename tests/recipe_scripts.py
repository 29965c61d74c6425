"""Scripts of recipes as modules, and their YAML files with networks that train in no time."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
RECIPES = ROOT / "recipes"

_WRITER = {"layers": 2, "units": 8, "decoder_units": 8, "decoder_layers": 1, "embedding": 4, "attention_units": 4}
TINY: dict[str, dict[str, Any]] = {
    "wav2letter": {"hidden": [{"units": 8, "kernel": 5, "stride": 2}, {"units": 8, "kernel": 1}]},
    "lstm": {"size": "small", **_WRITER},
    "conv-lstm": {"size": "small", **_WRITER},
    "transformer": {"units": 8, "heads": 2, "feed_forward": 8, "blocks": 2, "decoder_blocks": 1, "channels": 2},
}


def script(path: str) -> ModuleType:
    """A recipe's script, `insights-small/run.py`, as a module of its own name."""
    name = f"recipe_{path.removesuffix('.py').replace('/', '_').replace('-', '_')}"
    spec = importlib.util.spec_from_file_location(name, RECIPES / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def tiny(recipe: Path, into: Path) -> Path:
    """A recipe's YAML file for one epoch of a network of its kind and depth, a few units wide."""
    values = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    network = values["network"]
    kept = {key: network[key] for key in ("network", "depth", "scheduled_sampling") if key in network}
    network = {**kept, **TINY[network["network"]]}
    if "depth" in network:
        network["channels"] = [2] * network["depth"]
    if "vocabulary" in values["network"]:
        network["vocabulary"] = {**values["network"]["vocabulary"], "size": 32}
    values = {"network": network, "train": {**values["train"], "epochs": 1, "batch_size": 4}}
    into.mkdir(parents=True, exist_ok=True)
    (into / recipe.name).write_text(yaml.safe_dump(values), encoding="utf-8")
    return into / recipe.name
