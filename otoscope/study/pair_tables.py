"""Values of pairs of representations as tables over (network, epoch, layer) × (network, epoch, layer)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from otoscope.reduce.comparison import Comparison, Findings
from otoscope.reduce.similarity import describe
from otoscope.study.representations import NO_EPOCH, Representation

DIMS = ("network", "epoch", "layer")
PAIR_DIMS = (*DIMS, *(f"other_{dim}" for dim in DIMS))

Values = Mapping[tuple[str, str], Any]


def lay_out(
    comparison: Comparison, found: Findings, everything: Sequence[Representation], nodes: Sequence[str]
) -> xr.Dataset:
    """What a comparison found: a variable per measure over six dimensions, and one over layers × nodes."""
    coords: dict[str, Any] = {dim: list(dict.fromkeys(r[i] for r in everything)) for i, dim in enumerate(DIMS)}
    coords["epoch"] = sorted(coords["epoch"])
    coords |= {f"other_{dim}": coords[dim] for dim in DIMS}
    result = xr.Dataset(coords=coords | ({"node": list(nodes)} if nodes else {}))
    at = places_in(result)
    depth = np.full([result.sizes["network"], result.sizes["layer"]], np.nan)
    for network in coords["network"]:
        own = list(dict.fromkeys(r.layer for r in everything if r.network == network))
        for representation in everything:
            if representation.network == network:
                place = at(representation)
                depth[place[0], place[2]] = own.index(representation.layer) + 1
    result["depth"] = (("network", "layer"), depth, {"long_name": "place of the layer in its network, from 1"})
    if NO_EPOCH in coords["epoch"]:
        result["epoch"].attrs["note"] = f"{NO_EPOCH}: not from a training run"
    if found.intervals:
        result = result.assign_coords(bound=["low", "high"])
    for name, measure in comparison.measures.items():
        kinds: list[tuple[str, Values, tuple[str, ...], dict[str, Any]]] = [
            ("", found.values[name], (), describe(measure))
        ]
        if name in found.intervals:
            attrs = {"long_name": "jackknife interval over utterances", "level": comparison.level}
            kinds.append(("_interval", found.intervals[name], ("bound",), attrs))
        if name in found.baseline:
            attrs = {"long_name": "with utterances re-paired"}
            kinds.append(("_baseline", found.baseline[name], ("repairing",), attrs))
        for suffix, values, extra, attrs in kinds:
            result[f"{name}{suffix}"] = ((*PAIR_DIMS, *extra), pair_table(result, everything, values), attrs)
            if nodes:
                table = _node_table(result, everything, nodes, values)
                result[f"{name}_node{suffix}"] = ((*DIMS, "node", *extra), table, attrs)
    return result


def pair_table(result: xr.Dataset, everything: Sequence[Representation], values: Values) -> np.ndarray:
    """Values of all pairs over `PAIR_DIMS` (and what each value has itself), NaN where there are none."""

    def value(a: Representation, b: Representation) -> Any:
        # A pair is there in one order at least; where the order matters, in both.
        return values[str(a), str(b)] if (str(a), str(b)) in values else values[str(b), str(a)]

    sizes = [result.sizes[dim] for dim in DIMS]
    table = np.full([*sizes, *sizes, *np.shape(next(iter(values.values())))], np.nan)
    at = places_in(result)
    for a in everything:
        for b in everything:
            table[at(a) + at(b)] = value(a, b)
    return table


def _node_table(
    result: xr.Dataset, everything: Sequence[Representation], nodes: Sequence[str], values: Values
) -> np.ndarray:
    sizes = [result.sizes[dim] for dim in DIMS]
    table = np.full([*sizes, len(nodes), *np.shape(next(iter(values.values())))], np.nan)
    at = places_in(result)
    for representation in everything:
        for number, name in enumerate(nodes):
            table[(*at(representation), number)] = values[str(representation), name]
    return table


def places_in(result: xr.Dataset) -> Callable[[Representation], tuple[int, ...]]:
    """Where a representation stands in `DIMS`."""
    places = [{value: index for index, value in enumerate(result[dim].values.tolist())} for dim in DIMS]
    return lambda representation: tuple(place[part] for place, part in zip(places, representation, strict=True))
