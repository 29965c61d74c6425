"""Networks side by side: each layer with the next deeper one, and every layer with every other, ready to be drawn."""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from otoscope.base import BadInput, choose
from otoscope.show.placing import PART
from otoscope.study.pair_tables import DIMS, PAIR_DIMS

RANDOM = "_random"


@dataclass(frozen=True)
class Stage:
    """A network at an epoch, `layers` from shallow to deep; `alone`: at no other epoch, so that its name will do."""

    network: str
    epoch: int
    layers: tuple[str, ...]
    alone: bool

    @property
    def names(self) -> tuple[str, ...]:
        """What tells it from all others: ("a",), or ("a", "epoch 3")."""
        return (self.network,) if self.alone else (self.network, f"epoch {self.epoch}")


def adjacent(compared: xr.Dataset, measures: Iterable[str] | str | None = None) -> xr.Dataset:
    """Similarity of each layer with the next deeper one, within each network (Ollerenshaw et al. 2021, Figure 1).

    Args:
        compared: what `otoscope.compare` returns: a variable per measure over `(network, epoch, layer, other_network,
            other_epoch, other_layer)`, NaN where a network has no such layer or epoch, and `depth` `(network, layer)`.
        measures: which of its measures; all if left out.

    Returns:
        `adjacent` `(measure, network, step)`, NaN beyond a network's depth; step 1 compares the first layer with the
        second. A network at several epochs counts as several, such as "a, epoch 3"; one of a single layer is left out.
        With intervals also `adjacent_interval` `(measure, network, step, bound)`. Attributes: `frames`, `utterances`
        and, with intervals, their `level`.

    Raises:
        BadInput: no comparison of layers, or no network of two layers. BadOption: an unknown measure.
    """
    chosen = _chosen(compared, measures)
    stages = [stage for stage in stages_of(compared) if len(stage.layers) > 1]
    if not stages:
        raise BadInput("there are no adjacent layers", got="networks of one layer", wanted="one of two layers or more")
    steps = np.arange(1, max(len(stage.layers) for stage in stages))
    titles = [", ".join(stage.names) for stage in stages]
    result = xr.Dataset(coords={"measure": chosen, "network": titles, "step": steps}, attrs=_counts(compared))
    dims = ("measure", "network", "step")
    values = [[_along_depth(compared[name], stage, len(steps)) for stage in stages] for name in chosen]
    result["adjacent"] = (dims, np.array(values), {"long_name": "similarity with the next deeper layer"})
    intervals = [name for name in chosen if f"{name}_interval" in compared]
    if intervals:
        table = np.full((*result["adjacent"].shape, 2), np.nan)
        for name in intervals:
            bounds = compared[f"{name}_interval"].sel(bound=["low", "high"])
            table[chosen.index(name)] = [_along_depth(bounds, stage, len(steps)) for stage in stages]
        result = result.assign_coords(bound=["low", "high"])
        result["adjacent_interval"] = ((*dims, "bound"), table)
        if "level" in (attrs := compared[f"{intervals[0]}_interval"].attrs):
            result.attrs["level"] = float(attrs["level"])
    return result


def network_table(compared: xr.Dataset, measures: Iterable[str] | str | None = None) -> xr.Dataset:
    """Every layer of every network and epoch with every other, as one square.

    Args:
        compared, measures: as of `adjacent`.

    Returns:
        `matrix` `(measure, representation, other_representation)`, networks one after the other and each from its first
        layer to its last, labelled such as "a / epoch 3 / conv1", without the epoch where a network has a single one.
        Attributes: `frames` and `utterances`.

    Raises:
        BadInput: no comparison of layers. BadOption: an unknown measure.
    """
    chosen = _chosen(compared, measures)
    everything = [(stage, layer) for stage in stages_of(compared) for layer in stage.layers]
    labels = [PART.join((*stage.names, layer)) for stage, layer in everything]
    places = [[stage.network for stage, _ in everything], [stage.epoch for stage, _ in everything]]
    places.append([layer for _, layer in everything])
    at = {
        f"{prefix}{dim}": xr.DataArray(place, dims=f"{prefix}representation")
        for prefix, (dim, place) in itertools.product(("", "other_"), zip(DIMS, places, strict=True))
    }
    dims = ("representation", "other_representation")
    tables = [compared[name].sel(at).transpose(*dims).values for name in chosen]
    return xr.Dataset(
        {"matrix": (("measure", *dims), np.array(tables), {"long_name": "similarity"})},
        coords={"measure": chosen, "representation": labels, "other_representation": labels},
        attrs=_counts(compared),
    )


def stages_of(compared: xr.Dataset) -> list[Stage]:
    """The networks of a comparison, each at each of its epochs, in the order of the comparison.

    Raises:
        BadInput: no comparison of layers.
    """
    others = [f"other_{dim}" for dim in DIMS]
    there = functools.reduce(operator.or_, (compared[name].notnull().any(others) for name in measures_of(compared)))
    stages = []
    for network in map(str, compared["network"].values):
        has = there.sel(network=network).transpose("epoch", "layer")
        epochs = [int(epoch) for epoch in has["epoch"].values[has.any("layer").values]]
        for epoch in epochs:
            names = has["layer"].values[has.sel(epoch=epoch).values]
            names = names[np.argsort(compared["depth"].sel(network=network, layer=names).values, kind="stable")]
            stages.append(Stage(network, epoch, tuple(map(str, names)), alone=len(epochs) == 1))
    return stages


def measures_of(compared: xr.Dataset) -> list[str]:
    """The measures of a comparison: its variables over pairs of layers that are no baseline.

    Raises:
        BadInput: there is none.
    """
    pairs = [str(name) for name, variable in compared.data_vars.items() if set(variable.dims) == set(PAIR_DIMS)]
    found = [name for name in pairs if not (name.endswith(RANDOM) and name.removesuffix(RANDOM) in pairs)]
    if not found:
        raise BadInput(
            "this is no comparison of layers",
            got=f"the variables {', '.join(map(str, compared.data_vars)) or '(none)'}",
            wanted=f"a measure over ({', '.join(PAIR_DIMS)}), as otoscope.compare gives it",
        )
    return found


def _chosen(compared: xr.Dataset, measures: Iterable[str] | str | None) -> list[str]:
    there = measures_of(compared)
    wanted: Sequence[str] = [measures] if isinstance(measures, str) else list(there if measures is None else measures)
    return [choose("measure of this comparison", name, there) for name in wanted]


def _along_depth(table: xr.DataArray, stage: Stage, steps: int) -> np.ndarray:
    """`(step,)` and what each value has itself: the layers of a network with the next deeper ones, then NaN."""
    network, epoch, layers = stage.network, stage.epoch, stage.layers
    here = table.sel(network=network, epoch=epoch, other_network=network, other_epoch=epoch)
    shallow, deep = (xr.DataArray(list(names), dims="step") for names in (layers[:-1], layers[1:]))
    found = here.sel(layer=shallow, other_layer=deep).transpose("step", ...).values
    return np.concatenate([found, np.full((steps - len(found), *found.shape[1:]), np.nan)])


def _counts(compared: xr.Dataset) -> dict[str, Any]:
    """How much was heard, which figures must say."""
    return {name: int(compared.attrs[name]) for name in ("frames", "utterances") if name in compared.attrs}
