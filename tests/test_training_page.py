"""The page about training names every key of every configuration, and its example is one that is accepted."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from otoscope.learn.augment import Perturbation
from otoscope.learn.networks import NAMED_SIZES, NETWORKS, network_values, read_config, validated
from otoscope.learn.train import TrainConfig

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "training.md").read_text(encoding="utf-8")


def test_every_key_and_size_is_named() -> None:
    """Otherwise there is no way to learn of it but the source."""
    models = [config for config, _ in NETWORKS.values()] + [TrainConfig, Perturbation]
    keys = {key for model in models for key in model.model_fields}
    keys |= {"size", "depth", *NETWORKS, *(name for sizes in NAMED_SIZES.values() for name in sizes)}
    named = set(re.findall(r"`([\w-]+)`", PAGE))
    assert keys - named == set()


def test_the_example_is_accepted() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    recipe = yaml.safe_load(text)
    config = read_config(network_values(recipe["network"]))
    assert len(config.model_dump()["channels"]) == recipe["network"]["depth"]
    assert validated(TrainConfig, recipe["train"]).perturb.noises == ("white", "babble")


def test_defaults_are_those_of_the_code() -> None:
    defaults = TrainConfig()
    rows = dict(re.findall(r"^\| `(\w+)` \| ([\w.`-]+) \|", PAGE, re.MULTILINE))
    for key in ("epochs", "batch_size", "learning_rate", "warmup", "mask_share", "seed"):
        assert float(rows[key]) == getattr(defaults, key), key
    for key in ("schedule", "precision"):
        assert rows[key].strip("`") == getattr(defaults, key), key
