"""The data of the figures of Krug et al. 2020, one small table for each, from the profiles of one set of speech.

A group that has no profile is a *hole*: it stays in its table, NaN throughout, and the coordinate `hole` says why, so
that the figure shows an empty panel with these words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from torch import nn

from otoscope.base import BadInput, Progress, atomic_path, silent
from otoscope.probe.layers import Survey
from otoscope.probe.taps import INPUT
from otoscope.reduce.clusters import cluster_groups
from otoscope.reduce.fields import effective_fields
from otoscope.reduce.profiles import Profiles
from otoscope.study.gradnap_measures import METHODS, PHONES, manners
from otoscope.study.optimal import optimal_inputs_of_groups

INPUT_GROUPS = ("symbol:a", "symbol:t", "phone:AA", "phone:AE", "phone:T")
"""Figure 2 of the paper: the grapheme a, and the phones AA, AE and T."""
NEURON_GROUPS = ("phone:AE", "phone:T")
"""Its Figure 3."""
RESPONSIVE = 5
OPTIMAL_PRESETS = ("krug2020", "recommended")
MOST_FRAMES = 120
"""Frames of a profile that are kept: of more, every second (third, …)."""


def group_holes(profiles: Profiles, groups: Sequence[str], unlabelled: str = "") -> list[str]:
    """Why each group has no profile, "" where it has one.

    Args:
        profiles: of any groups.
        groups: those asked for.
        unlabelled: why no frame has any label of a grouping that is not there at all.
    """
    kinds = {name.partition(":")[0] for name in profiles.groups}
    least = max(1, profiles.settings["min_instances"])
    words = []
    for group in groups:
        if group not in profiles.groups:
            known = group.partition(":")[0] in kinds
            words.append(
                "it does not occur in this speech" if known else unlabelled or "this speech has no such labels"
            )
        elif group in profiles.empty:
            count = int(profiles.instances.sel(group=group).min())
            words.append(f"{count} instances, fewer than {least}")
        else:
            words.append("")
    return words


def input_table(
    read: Callable[..., Profiles], groups: Sequence[str] = INPUT_GROUPS, unlabelled: str = ""
) -> xr.Dataset:
    """NAvAI beside GradNAP of the input layer (Figure 2).

    Returns:
        A Dataset: `profile` `(reading, group, mel, frame)` in standard deviations of the log-mel, over half a cone on
        either side, with `time` (s), `frequency` (Hz), `instances` and `hole` `(group,)`.

    Raises:
        BadInput: the input layer has no profile, or no frequencies.
    """
    readings = {name: read(**how) for name, how in METHODS.items()}
    first = readings["GradNAP"]
    if INPUT not in first.layers or "frequency" not in first.layers[INPUT].coords:
        raise BadInput("the input layer has no profile over frequency", got=", ".join(first.layers))
    table = first.layers[INPUT]
    half = int(table.attrs["span"]) // 2
    step = -(-(2 * half + 1) // MOST_FRAMES)
    offsets = table["offset"].values
    kept = np.flatnonzero((np.abs(offsets) <= half) & (offsets % step == 0))
    holes = group_holes(first, groups, unlabelled)
    values = np.full((len(readings), len(groups), table.sizes["unit"], len(kept)), np.nan, dtype=np.float32)
    for row, profiles in enumerate(readings.values()):
        for column, (group, hole) in enumerate(zip(groups, holes, strict=True)):
            if not hole:
                values[row, column] = profiles.profile[INPUT].sel(group=group).values[:, kept]
    return xr.Dataset(
        {"profile": (("reading", "group", "mel", "frame"), values.round(3), {"units": "sd of the log-mel"})},
        coords={
            "reading": list(readings),
            "group": list(groups),
            "frequency": ("mel", table["frequency"].values, {"units": "Hz"}),
            "time": ("frame", table["time"].values[kept], {"units": "s"}),
            "instances": ("group", _instances(first, groups)),
            "hole": ("group", holes),
        },
    )


def neuron_table(
    network: nn.Module,
    survey: Survey,
    profiles: Profiles,
    layer: str,
    groups: Sequence[str] = NEURON_GROUPS,
    *,
    seed: int = 0,
    unlabelled: str = "",
    progress: Progress = silent,
) -> xr.Dataset:
    """All units of a layer over time, and the common optimal input of the five most responsive (Figure 3).

    Returns:
        A Dataset: `profile` `(group, unit, frame)` with `time` (s); `responsiveness` `(group, unit)`, r of Eq. 1;
        `optimal` `(preset, group, mel, input_frame)` in standard deviations of the log-mel, with `input_time` and
        `frequency`; `held` `(preset, group)`: 1 where the penalty outweighs every gradient, so that it stays at 0;
        `instances` and `hole` `(group,)`. Attribute `layer`.
    """
    table = profiles.layers[layer]
    half = int(table.attrs["span"]) // 2
    kept = np.flatnonzero(np.abs(table["offset"].values) <= half)
    holes = group_holes(profiles, groups, unlabelled)
    there = [group for group, hole in zip(groups, holes, strict=True) if not hole]
    values = np.full((len(groups), table.sizes["unit"], len(kept)), np.nan, dtype=np.float32)
    strength = np.full(values.shape[:2], np.nan)
    r = profiles.responsiveness()[layer]
    for row, group in enumerate(groups):
        if group in there:
            values[row] = table["profile"].sel(group=group).values[:, kept]
            strength[row] = r.sel(group=group).values
    found = {
        preset: optimal_inputs_of_groups(
            network, profiles, there, [layer], RESPONSIVE, preset=preset, seed=seed, survey=survey, progress=progress
        )[layer]
        for preset in (OPTIMAL_PRESETS if there else ())
    }
    result = xr.Dataset(
        {
            "profile": (("group", "unit", "frame"), values.round(4)),
            "responsiveness": (("group", "unit"), strength),
        },
        coords={
            "group": list(groups),
            "unit": table["unit"].values,
            "time": ("frame", table["time"].values[kept], {"units": "s"}),
            "instances": ("group", _instances(profiles, groups)),
            "hole": ("group", holes),
        },
        attrs={"layer": layer, "seed": seed, "most": RESPONSIVE},
    )
    if found:
        one = next(iter(found.values()))
        shape = (len(found), len(groups), one.sizes["mel"], one.sizes["frame"])
        inputs, held = np.full(shape, np.nan, dtype=np.float32), np.zeros(shape[:2], dtype=np.int8)
        for row, each in enumerate(found.values()):
            for group in there:
                at = list(groups).index(group)
                inputs[row, at] = each["input"].sel(set=group).values.T.round(3)
                held[row, at] = int(each["held"].sel(set=group))
        result["optimal"] = (("preset", "group", "mel", "input_frame"), inputs, {"units": "sd of the log-mel"})
        result["held"] = (("preset", "group"), held)
        result = result.assign_coords(
            preset=list(found),
            input_time=("input_frame", one["time"].values, {"units": "s"}),
            frequency=("mel", one["frequency"].values, {"units": "Hz"}),
        )
    return result


def tree_table(profiles: Profiles, layers: Sequence[str], grouping: str = PHONES) -> xr.Dataset:
    """Dendrograms of the groups of a grouping in some layers (Figure 4, bottom).

    Returns:
        A Dataset: `linkage` `(layer, merge, link)`; `threshold` `(layer, percentile)`; `labels` `(layer, percentile,
        group)`, clusters; `kind` `(group,)`, the manner of a phone, "" of others; attribute `left_out`.

    Raises:
        BadInput: fewer than three groups have a profile.
    """
    tree = cluster_groups(profiles, f"{grouping}:*")[["linkage", "threshold", "labels"]].sel(layer=list(layers))
    kinds = manners(list(map(str, tree["group"].values)))
    found = tree.drop_vars("other", errors="ignore")
    return found.assign_coords(kind=("group", [kinds.get(str(name)) or "" for name in tree["group"].values]))


def field_table(profiles: Profiles, least: int) -> xr.Dataset:
    """Effective against nominal receptive fields by layer, see `otoscope.reduce.fields`."""
    return effective_fields(profiles, min_instances=least)


def _instances(profiles: Profiles, groups: Sequence[str]) -> list[int]:
    counts = profiles.instances.max("layer")
    return [int(counts.sel(group=group)) if group in profiles.groups else 0 for group in groups]


def save_wide(table: xr.Dataset, folder: Path, name: str, *, csv: bool = True) -> list[Path]:
    """Write a Dataset of maps as compressed NetCDF, and each variable as CSV: its last dimension across.

    Columns are headed by the last dimension's coordinate, such as seconds. A number has three digits. `csv=False`:
    NetCDF alone.
    """
    paths = [folder / f"{name}.nc"]
    maps = {str(key): values for key, values in table.data_vars.items() if values.ndim > 1}
    with atomic_path(paths[0]) as temporary:
        # Any: netCDF's encodings have keys of several types.
        encoding: dict[str, Any] = {key: {"zlib": True, "complevel": 9, "shuffle": True} for key in maps}
        table.to_netcdf(temporary, engine="h5netcdf", encoding=encoding)
    for key, values in maps.items() if csv else ():
        *rows, last = values.dims
        across = next((str(c) for c in values.coords if values[c].dims == (last,)), None)
        places = values[across].values if across else np.arange(values.sizes[last])
        heads = [f"{place:.3f}" if isinstance(place, float | np.floating) else str(place) for place in places]
        index = pd.MultiIndex.from_product([_labels(values, str(row)) for row in rows], names=rows)
        frame = pd.DataFrame(values.values.reshape(len(index), -1), index=index, columns=heads)
        path = folder / f"{name}-{key}.csv"
        with atomic_path(path) as temporary:
            frame.to_csv(temporary, float_format="%.3g")
        paths.append(path)
    return paths


def _labels(values: xr.DataArray, dim: str) -> list[Any]:
    """What the places along a dimension are called: its own coordinate, or that of another name, or numbers."""
    for name in (dim, *(str(c) for c in values.coords)):
        if name in values.coords and values[name].dims == (dim,):
            return [f"{x:.0f}" if isinstance(x, float | np.floating) else x for x in values[name].values]
    return list(range(values.sizes[dim]))
