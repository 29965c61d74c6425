"""Networks hear the same speech, and their layers come out on one grid of frames: what a comparison compares.

A *representation* is a layer of a network at an epoch. Every network runs once on each batch, whatever is compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from otoscope.base import BadInput, BadOption, choose
from otoscope.learn.checkpoint import Run, load, load_checkpoint, open_run
from otoscope.probe.layers import Layer, as_frames, as_points, list_layers, match_layers
from otoscope.probe.taps import tap
from otoscope.reduce.resize import Preset, interpolate_frames, interpolate_units
from otoscope.study.speech import Speech, on_grid

# The epoch of a network that was given as a module, and so belongs to no training run.
NO_EPOCH = -1
ALIGNMENTS = ("pool", "interpolate")
MAPS = ("units", "channels")


class Representation(NamedTuple):
    """A layer of a network at an epoch."""

    network: str
    epoch: int
    layer: str

    def __str__(self) -> str:
        epoch = "" if self.epoch == NO_EPOCH else f"/epoch {self.epoch}"
        return f"{self.network}{epoch}/{self.layer}"


@dataclass
class Listener:
    """A network at an epoch, and those of its layers that are looked at."""

    network: str
    epoch: int
    module: nn.Module
    layers: list[Layer]
    checkpoint: Path | None = None

    @property
    def representations(self) -> list[Representation]:
        return [Representation(self.network, self.epoch, str(layer)) for layer in self.layers]


@dataclass(frozen=True)
class Reading:
    """How layers are read.

    Attributes:
        align: layers of different frame rates are brought to one: "pool" averages to the coarsest, "interpolate" goes
            linearly between frames to the finest.
        maps: the neurons of a two-dimensional convolutional map: "units", each channel at each frequency; "channels",
            each channel, seen at every point of frame × frequency.
        preset: a paper's way, which overrides `maps`.
        width: to which width every layer is interpolated; only with a preset.
    """

    align: str = "pool"
    maps: str = "units"
    preset: Preset | None = None
    width: int | None = None

    def __post_init__(self) -> None:
        choose("alignment", self.align, ALIGNMENTS)
        choose("reading of maps", self.maps, MAPS)

    def words(self, listeners: Sequence[Listener]) -> list[str]:
        """What was done to the layers of these networks that a reader must know."""
        said = [self.preset.words] if self.preset else []
        if len({layer.stride for listener in listeners for layer in listener.layers}) == 1:
            return said
        how = {"pool": "averaged to the coarsest", "interpolate": "interpolated linearly to the finest"}
        return [f"layers of different frame rates: {how[self.align]}", *said]


class Batch(NamedTuple):
    """What representations say about some utterances.

    Attributes:
        indices: of the utterances in the speech.
        features: `(batch, frame, mel)`, padded.
        lengths: frames of each utterance on the common grid.
        first_s: the middle of the first frame of each utterance, in seconds.
        frame_s: seconds from one frame of the grid to the next.
        values: `(frame, unit)` of each representation, utterances below each other; `values[r]` has `points[r]` rows
            for each frame of the grid.
        points: rows a frame.
    """

    indices: list[int]
    features: Tensor
    lengths: list[int]
    first_s: list[float]
    frame_s: float
    values: dict[Representation, Tensor]
    points: dict[Representation, int]


def open_networks(
    networks: Any, layers: str | Sequence[str] | Mapping[str, Sequence[str] | str], epochs: str | Sequence[int] | None
) -> list[Listener]:
    """The networks that were named, with their layers measured.

    Args:
        networks: a module, a run or its folder, a checkpoint's file, a list of these, or a mapping of names to them.
        layers: names or globs, for all networks or by network.
        epochs: of runs: numbers, "all", or None for the last.

    Raises:
        BadCheckpoint, BadInput, BadOption: nothing there, an unknown layer or epoch, a network that does not run.
    """
    listeners = []
    for name, network in _named(networks).items():
        wanted = layers.get(name, "*") if isinstance(layers, Mapping) else layers
        found: list[Layer] | None = None
        for epoch, module, path in _stages(network, epochs):
            if found is None:
                found = match_layers(list_layers(module), wanted)
            listeners.append(Listener(name, epoch, module.eval(), found, path))
    if not listeners:
        raise BadOption("there is no network to look at", got="an empty list", wanted="a network, a run, or several")
    return listeners


def _named(networks: Any) -> dict[str, Any]:
    if isinstance(networks, Mapping):
        return {str(name): network for name, network in networks.items()}
    single = isinstance(networks, (nn.Module, Run, str, Path))
    named: dict[str, Any] = {}
    for network in [networks] if single else networks:
        if isinstance(network, Run):
            base = network.folder.resolve().name
        elif isinstance(network, (str, Path)):
            base = Path(network).resolve().stem
        else:
            base = type(network).__name__
        name, number = base, 2
        while name in named:
            name, number = f"{base} {number}", number + 1
        named[name] = network
    return named


def _stages(network: Any, epochs: str | Sequence[int] | None) -> Iterator[tuple[int, nn.Module, Path | None]]:
    """The epochs of a network that are wanted."""
    if isinstance(network, nn.Module):
        yield NO_EPOCH, network, None
        return
    if isinstance(network, (str, Path)):
        if Path(network).is_file():
            yield NO_EPOCH, load(network), Path(network)
            return
        network = open_run(network)
    if not isinstance(network, Run):
        wanted = "a torch module, a run's folder or a checkpoint"
        raise BadInput("this is no network", got=type(network).__name__, wanted=wanted)
    for epoch in chosen_epochs(network, epochs):
        yield epoch, load_checkpoint(network.checkpoints[epoch]), network.checkpoints[epoch]


def chosen_epochs(run: Run, epochs: str | Sequence[int] | None) -> list[int]:
    """Epochs of a run, ascending; None is the last. Raises `BadOption` for one that it does not have."""
    there = sorted(run.checkpoints)
    if epochs is None:
        return there[-1:]
    if isinstance(epochs, str):
        choose("choice of epochs", epochs, ["all"])
        return there
    missing = [epoch for epoch in epochs if epoch not in run.checkpoints]
    if missing or not epochs:
        raise BadOption("the run has no such epochs", got=missing or "none", wanted=f"among {there}")
    return sorted(set(epochs))


@torch.no_grad()
def hear(
    listeners: Sequence[Listener],
    speech: Speech,
    reading: Reading,
    batch_size: int,
    among: Sequence[int] | None = None,
) -> Iterator[Batch]:
    """Run every network once on each batch of the speech, and give what its layers say.

    `among`: only utterances of these indices.
    """
    padding = reading.preset is not None and reading.preset.padding
    everything = [layer for listener in listeners for layer in listener.layers]
    # Layers of many checkpoints are the same layers.
    distinct = list({id(layer): layer for layer in everything}.values())
    for indices, features, lengths in speech.batches(batch_size, among):
        heard = [int(features.shape[1])] * len(indices) if padding else [int(length) for length in lengths]
        counts = {id(layer): [layer.frames(length) for length in heard] for layer in distinct}
        coarsest_or_finest = min if reading.align == "pool" else max
        beat = coarsest_or_finest(distinct, key=lambda layer: counts[id(layer)][-1])
        grid = [coarsest_or_finest(counts[id(layer)][row] for layer in distinct) for row in range(len(indices))]
        # What a network without padding leaves out is taken to be as much at the start as at the end.
        first_s = [
            (length - (n - 1) * float(beat.stride)) * beat.hop_s / 2 for length, n in zip(heard, grid, strict=True)
        ]
        values: dict[Representation, Tensor] = {}
        points: dict[Representation, int] = {}
        for listener in listeners:
            with tap(listener.module, listener.layers) as taps:
                listener.module(features, lengths)
            for layer, name in zip(listener.layers, listener.representations, strict=True):
                read = _read(taps[layer], layer, reading)
                rows = [each[:count] for each, count in zip(read, counts[id(layer)], strict=True)]
                aligned = [_aligned(row, frames, reading.align) for row, frames in zip(rows, grid, strict=True)]
                joined = torch.cat(aligned)
                points[name] = joined.shape[1]
                values[name] = joined.flatten(0, 1)
        yield Batch(indices, features, grid, first_s, beat.stride_s, values, points)


def _read(tensor: Tensor, layer: Layer, reading: Reading) -> Tensor:
    """A layer's output as `(batch, frame, point, unit)`."""
    preset = reading.preset
    channels = reading.maps == "channels" or preset is not None
    values = as_points(tensor, layer) if channels else as_frames(tensor, layer).unsqueeze(2)
    if preset is None:
        return values
    if reading.width is not None:
        values = interpolate_units(values, reading.width)
    # One column: every value is a data point.
    return values.flatten(2).unsqueeze(3) if preset.flat and values.shape[2] == 1 else values


def _aligned(rows: Tensor, frames: int, align: str) -> Tensor:
    """`(frame, point, unit)` on a grid of `frames` frames."""
    if len(rows) == frames:
        return rows
    flat = rows.flatten(1)
    moved = on_grid(flat, frames) if align == "pool" else interpolate_frames(flat, frames)
    return moved.unflatten(1, rows.shape[1:])


def points_a_frame(batch: Batch) -> int:
    """Rows a frame, the same for all representations.

    Raises:
        BadOption: maps of different numbers of frequencies, or maps and other layers, with channels as neurons.
    """
    counts = set(batch.points.values())
    if len(counts) > 1:
        raise BadOption(
            "layers have different numbers of points in a frame",
            got=", ".join(f"{name}: {count}" for name, count in list(batch.points.items())[:4]),
            wanted="one number, as maps of the same number of frequencies have",
            remedy='take maps="units", or name fewer layers',
        )
    return counts.pop()
