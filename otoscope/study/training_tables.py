"""What a run's comparison found, as tables over (measure, layer, epoch)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
import xarray as xr
from torch import nn

from otoscope.reduce.comparison import Comparison, Findings
from otoscope.reduce.dynamics import (
    TOLERANCE,
    bottom_up,
    bottom_up_with_interval,
    converged_from,
    converged_with_interval,
)
from otoscope.study.representations import Listener

# What a layer at an epoch is compared with: itself, at another epoch.
CURVES = {
    "to_last": "similarity with the last epoch",
    "to_next": "similarity with the next epoch",
    "to_first": "similarity with the first epoch",
    "across": "similarity of the epoch before with the epoch after",
}

# Pairs of nodes, and where (layer, epoch[, node]) the value of each stands.
Places: TypeAlias = Mapping[tuple[str, str], tuple[int, ...]]


def curve_pairs(listeners: Sequence[Listener], nodes: Sequence[str]) -> Mapping[str, Places]:
    """For each curve its pairs of nodes, and where (layer, epoch[, node]) their values stand."""
    layers, last = range(len(listeners[0].layers)), len(listeners) - 1
    names = [[str(r) for r in listener.representations] for listener in listeners]
    curves: dict[str, dict[tuple[str, str], tuple[int, ...]]] = {name: {} for name in (*CURVES, "to_node")}
    for layer, epoch in itertools.product(layers, range(len(listeners))):
        here = names[epoch][layer]
        curves["to_last"][here, names[last][layer]] = (layer, epoch)
        curves["to_first"][here, names[0][layer]] = (layer, epoch)
        if epoch < last:
            curves["to_next"][here, names[epoch + 1][layer]] = (layer, epoch)
        if 0 < epoch < last:
            curves["across"][names[epoch - 1][layer], names[epoch + 1][layer]] = (layer, epoch)
        for number, node in enumerate(nodes):
            curves["to_node"][here, node] = (layer, epoch, number)
    return curves


def lay_out_curves(
    found: Findings,
    curves: Mapping[str, Places],
    listeners: Sequence[Listener],
    nodes: Sequence[str],
    along: Comparison,
) -> xr.Dataset:
    """The curves of every layer through training, with intervals as far as there are."""
    measures, layers = list(found.values), [str(layer) for layer in listeners[0].layers]
    epochs = [listener.epoch for listener in listeners]
    coords: dict[str, Any] = {"measure": measures, "layer": layers, "epoch": epochs, "other_layer": layers}
    coords |= ({"node": list(nodes)} if nodes else {}) | ({"bound": ["low", "high"]} if found.intervals else {})
    result = xr.Dataset(coords=coords)
    shape = (len(measures), len(layers), len(epochs))
    for name, pairs in curves.items():
        if not pairs:
            continue
        dims: tuple[str, ...] = ("measure", "layer", "epoch", *(["node"] if name == "to_node" else []))
        size = shape if name != "to_node" else (*shape, len(nodes))
        table, bounds = np.full(size, np.nan), np.full((*size, 2), np.nan)
        for (m, measure), (pair, at) in itertools.product(enumerate(measures), pairs.items()):
            table[(m, *at)] = found.values[measure][pair]
            if found.intervals:
                bounds[(m, *at)] = found.intervals[measure][pair]
        words = CURVES.get(name, "similarity with the mel input and with one-hot labels")
        result[name] = (dims, table, {"long_name": words})
        if found.intervals:
            result[f"{name}_interval"] = ((*dims, "bound"), bounds, {"level": along.level, "folds": along.folds})
    if found.kept:
        kept = [[found.kept[str(listener.representations[i])] for listener in listeners] for i in range(len(layers))]
        result["kept"] = (("layer", "epoch"), kept, {"long_name": "principal directions kept by svcca"})
    return result


def square(values: Mapping[str, Mapping[tuple[str, str], Any]], last: Listener) -> np.ndarray:
    """Values of all pairs of layers of one checkpoint, `(measure, layer, other_layer, …)`."""
    names = [str(r) for r in last.representations]
    return np.array([[[table[a, b] for b in names] for a in names] for table in values.values()])


def add_matrix(result: xr.Dataset, ending: Findings, last: Listener, end: Comparison) -> None:
    """Every layer against every other at the last epoch, with interval and baseline as far as there are."""
    dims = ("measure", "layer", "other_layer")
    result["matrix"] = (dims, square(ending.values, last), {"long_name": f"similarity at epoch {last.epoch}"})
    if ending.intervals:
        bounds = square(ending.intervals, last)
        result["matrix_interval"] = ((*dims, "bound"), bounds, {"level": end.level, "folds": end.folds})
    if ending.baseline:
        attrs = {"long_name": "with utterances re-paired"}
        result["matrix_baseline"] = ((*dims, "repairing"), square(ending.baseline, last), attrs)


def add_convergence(
    result: xr.Dataset,
    found: Findings,
    curves: Mapping[str, Places],
    along: Comparison,
) -> None:
    """When each layer converged, and whether from the bottom up."""
    to_last = result["to_last"]
    if not found.parts:
        converged = converged_from(to_last, TOLERANCE)
        result["converged"], result["bottom_up"] = converged, bottom_up(converged)
        return
    parts = np.full((along.folds, *to_last.shape), np.nan)
    places = curves["to_last"].items()
    for (m, measure), (pair, (layer, epoch)) in itertools.product(enumerate(found.parts), places):
        parts[:, m, layer, epoch] = found.parts[measure][pair]
    folds = xr.DataArray(parts, dims=("fold", *to_last.dims), coords=to_last.coords)
    settled = converged_with_interval(to_last, folds, confidence=along.level)
    order = bottom_up_with_interval(to_last, folds, confidence=along.level)
    result["converged"], result["converged_interval"] = settled["converged"], settled["interval"]
    result["bottom_up"], result["bottom_up_interval"] = order["bottom_up"], order["interval"]


def add_health(result: xr.Dataset, listeners: Sequence[Listener], comparisons: Sequence[Comparison]) -> None:
    """What the pathology report needs beside similarities: how weights move, and which units never vary.

    `comparisons`: those that heard the layers; a layer's units are as many as it was read to have.
    """
    layers = listeners[0].layers
    change = np.full((len(layers), len(listeners)), np.nan)
    for i, layer in enumerate(layers):
        weights = [_weights(listener.module, layer) for listener in listeners]
        for e, (before, after) in enumerate(itertools.pairwise(weights)):
            if before is not None and after is not None:
                change[i, e] = float((after - before).norm() / before.norm().clamp(min=1e-30))
    attrs = {"long_name": "change of the weights to the next epoch over their norm", "units": "1"}
    result["weight_change"] = (("layer", "epoch"), change, attrs)
    result["units"] = ("layer", [layer.width for layer in layers])
    varies: dict[str, np.ndarray] = {}
    for comparison in comparisons:
        if comparison.moments is not None:
            sums = comparison.moments.finalize()
            heard = dict.fromkeys(name for pair in comparison.pairs for name in pair)
            varies |= {name: np.asarray(sums.variance(name) > sums.rounding(name)) for name in heard}
    if not varies:
        return
    found = [[varies[str(listener.representations[i])] for listener in listeners] for i in range(len(layers))]
    constant = [[int((~each).sum()) for each in row] for row in found]
    result["units"] = ("layer", [len(row[0]) for row in found])
    result["constant_units"] = (("layer", "epoch"), constant, {"long_name": "units that never vary over the speech"})


def _weights(network: nn.Module, layer: str) -> torch.Tensor | None:
    """All parameters of a layer as one vector; None where it has none."""
    found = [p.detach().double().flatten() for name, p in network.named_parameters() if name.startswith(f"{layer}.")]
    return torch.cat(found) if found else None
