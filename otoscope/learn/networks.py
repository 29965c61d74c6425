"""The networks by name: a configuration tells which one to build. A new network is one module and one row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pydantic

from otoscope.base import BadCheckpoint, BadOption, choose
from otoscope.learn.conv_lstm import LSTM_SIZES, ConvLstm, ConvLstmConfig, LstmConfig, conv_lstm_size, lstm_size
from otoscope.learn.recogniser import Recogniser, RecogniserConfig
from otoscope.learn.transformer import SIZES, Transformer, TransformerConfig
from otoscope.learn.wav2letter import STACKS, Wav2Letter, Wav2LetterConfig

NETWORKS: dict[str, tuple[type[RecogniserConfig], Callable[[Any], Recogniser]]] = {
    "wav2letter": (Wav2LetterConfig, Wav2Letter),
    "conv-lstm": (ConvLstmConfig, ConvLstm),
    "lstm": (LstmConfig, ConvLstm),
    "transformer": (TransformerConfig, Transformer),
}


# Named sizes, as values of configurations.
NAMED_SIZES: dict[str, dict[str, dict[str, Any]]] = {
    "wav2letter": {name: {"hidden": [layer.model_dump() for layer in stack]} for name, stack in STACKS.items()},
    "conv-lstm": {name: conv_lstm_size(name) for name in LSTM_SIZES},
    "lstm": {name: lstm_size(name) for name in LSTM_SIZES},
    "transformer": SIZES,
}


def network_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """A network's configuration with a named size written out: `size: small`; values beside it take precedence.

    `conv-lstm` takes `depth: 1` to `6` as well, how many convolutions; of `wav2letter` `hidden: small` does the same.

    Raises:
        BadOption: no size of this name, or a depth that no named size has.
    """
    given = dict(values)
    network = choose("network", str(given.get("network", "wav2letter")), NETWORKS)
    sizes = NAMED_SIZES[network]
    for key in ("hidden", "size"):
        name = given.get(key)
        if key == "size" and "depth" in given and network == "conv-lstm":
            name = name or "small"
        if isinstance(name, str):
            if name not in sizes:
                wanted = f"{', '.join(sizes)}" + (", or a list of layers" if key == "hidden" else "")
                raise BadOption(f"no {key} of this name", got=repr(name), wanted=wanted)
            size = sizes[name]
            if network == "conv-lstm" and "depth" in given:
                size = conv_lstm_size(name, given.pop("depth"))
            given = {**size, **{other: value for other, value in given.items() if other != key}}
    return given


def read_config(values: dict[str, Any]) -> RecogniserConfig:
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
