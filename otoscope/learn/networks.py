"""The networks by name: a configuration tells which one to build. A new network is one module and one row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pydantic

from otoscope.base import BadCheckpoint, BadOption, choose
from otoscope.learn.recogniser import Recogniser
from otoscope.learn.transformer import Transformer, TransformerConfig
from otoscope.learn.wav2letter import Wav2Letter, Wav2LetterConfig

NETWORKS: dict[str, tuple[type[pydantic.BaseModel], Callable[[Any], Recogniser]]] = {
    "wav2letter": (Wav2LetterConfig, Wav2Letter),
    "transformer": (TransformerConfig, Transformer),
}


def read_config(values: dict[str, Any]) -> pydantic.BaseModel:
    """A network's configuration from plain values, as they stand in a checkpoint or a YAML file.

    Raises:
        BadOption: an unknown network, an unknown key, or a value out of its range; all of them named at once.
    """
    name = choose("network", str(values.get("network", "wav2letter")), NETWORKS)
    return validated(NETWORKS[name][0], values)


def validated(model: type[pydantic.BaseModel], values: dict[str, Any]) -> Any:
    """`model(**values)`, its complaints in this project's form."""
    try:
        return model.model_validate(values)
    except pydantic.ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'the whole'}: {fault['msg']}" for fault in error.errors()
        )
        fields = ", ".join(model.model_fields)
        raise BadOption(
            f"{model.__name__} does not accept these values", got=faults, wanted=f"keys among {fields}"
        ) from error


def build(config: pydantic.BaseModel) -> Recogniser:
    """A network with fresh random weights (from torch's current random state)."""
    for config_type, network_type in NETWORKS.values():
        if isinstance(config, config_type):
            return network_type(config)
    raise BadCheckpoint("no network has such a configuration", got=type(config).__name__, wanted=", ".join(NETWORKS))
