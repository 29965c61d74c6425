"""Profiles through training: how alike to the last, how strong beside random groups, and from when on.

`otoscope.study.gradnap_training` brings the profiles; this module needs no network and no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from otoscope.reduce.dynamics import converged_from
from otoscope.reduce.profiles import Profiles

# A profile that correlates this much with the last is on its way to it.
ALIKE = 0.5
WORDS = {
    "similarity": "correlation of the profile with that of the last epoch, over units and offsets",
    "mask_similarity": "correlation of the gradient mask with that of the last epoch, over units and offsets",
    "responsiveness": "Euclidean norm over units of the group responsiveness r (Eq. 1)",
    "shuffled": "the largest such norm of random groups of the same size",
    "extent_frames": "distance from the alignment that holds 95 % of the profile",
    "extent_seconds": "distance from the alignment that holds 95 % of the profile",
}


def shuffled_name(turn: int, group: str) -> str:
    """The name of a random group of the size of `group`."""
    return f"shuffled {turn} {group}"


def only(profiles: Profiles, groups: Sequence[str]) -> Profiles:
    """The profiles of some groups."""
    tables = {layer: table.sel(group=list(groups)) for layer, table in profiles.layers.items()}
    return Profiles(tables, profiles.settings)


def measure(profiles: Profiles | None, reference: Profiles, shuffles: int) -> xr.Dataset:
    """What one epoch's profiles are beside those of the last epoch.

    Args:
        profiles: of the groups and, named by `shuffled_name`, of `shuffles` random groups for each; None where the
            epoch has none.
        reference: those of the groups at the last epoch, which name the groups.

    Returns:
        Dataset with the variables of `WORDS` `(layer, group)`, NaN where a group is empty; `instances` `(group,)`;
        `nominal_frames` and `nominal_seconds` `(layer,)`. Attributes `frames` and `notes`.
    """
    layers, groups = list(reference.layers), list(reference.groups)
    nan = np.full((len(layers), len(groups)), np.nan)
    tables = {name: nan.copy() for name in WORDS}
    count = np.zeros(len(groups), np.int64)
    notes: tuple[str, ...] = ()
    if profiles is not None:
        real = only(profiles, groups)
        strength = {layer: (r**2).sum("unit", skipna=False) ** 0.5 for layer, r in profiles.responsiveness().items()}
        random = [[shuffled_name(turn, group) for group in groups] for turn in range(shuffles)]
        extent = real.extent()
        tables["extent_frames"], tables["extent_seconds"] = extent["frames"].values, extent["seconds"].values
        count = real.instances.max("layer").values
        notes = tuple(note for note in real.notes if "not finite" in note)
        for row, layer in enumerate(layers):
            tables["responsiveness"][row] = strength[layer].sel(group=groups).values
            tables["shuffled"][row] = np.max([strength[layer].sel(group=names).values for names in random], 0)
            mine, theirs = real.layers[layer], reference.layers[layer]
            tables["similarity"][row] = correlations(mine, theirs, "profile")
            tables["mask_similarity"][row] = correlations(mine, theirs, "mask")
    result = xr.Dataset(
        {name: (("layer", "group"), values) for name, values in tables.items()} | {"instances": ("group", count)},
        coords={"layer": layers, "group": groups},
        attrs={"frames": 0 if profiles is None else profiles.n, "notes": list(notes)},
    )
    nominal = reference.extent()
    return result.assign({name: nominal[name] for name in ("nominal_frames", "nominal_seconds")})


def correlations(mine: xr.Dataset, theirs: xr.Dataset, name: str) -> NDArray[np.float64]:
    """Pearson's correlation of each group's table over the units and offsets that both have reached `(group,)`.

    NaN where a group is empty, or one of its two tables is the same throughout.
    """
    one, other = xr.align(mine[[name, "count"]], theirs[[name, "count"]], join="inner")
    reached = ((one["count"] > 0) & (other["count"] > 0)).values
    found = np.full(len(reached), np.nan)
    for group, there in enumerate(reached):
        a, b = (table[name].values[group][:, there].ravel().astype(np.float64) for table in (one, other))
        if len(a) > 1 and np.isfinite(a).all() and np.isfinite(b).all() and np.ptp(a) > 0 and np.ptp(b) > 0:
            found[group] = np.clip(np.corrcoef(a, b)[0, 1], -1, 1)
    return found


def along_epochs(tables: Mapping[int, xr.Dataset], alike: float | None, tolerance: float) -> xr.Dataset:
    """The tables of `measure` by epoch, rising, beside each other, with `appeared` and `settled` `(layer, group)`."""
    epochs = list(tables)
    nominal = ["nominal_frames", "nominal_seconds"]
    result = xr.concat(
        [table.drop_vars(nominal) for table in tables.values()], xr.Variable("epoch", epochs), combine_attrs="drop"
    )
    result = result.transpose("layer", "group", "epoch").assign({name: tables[epochs[-1]][name] for name in nominal})
    for name, words in WORDS.items():
        result[name].attrs["long_name"] = words
    result["extent_seconds"].attrs["units"] = "s"
    with np.errstate(divide="ignore", invalid="ignore"):
        strength = result["responsiveness"] / result["shuffled"]
    result["appeared"] = appeared_from(strength, result["similarity"], alike)
    # What is no stronger than a random group's at the end is chance, and chance does not settle.
    result["settled"] = converged_from(result["similarity"], tolerance).where(strength.isel(epoch=-1, drop=True) > 1)
    notes = [f"epoch {epoch}: {note}" for epoch in epochs for note in tables[epoch].attrs["notes"]]
    empty = result["group"].values[result["responsiveness"].isel(epoch=-1).isnull().any("layer").values]
    if len(empty):
        notes.insert(0, f"no profile at the last epoch: {', '.join(map(str, empty))}")
    return result.assign_attrs(frames=int(tables[epochs[-1]].attrs["frames"]), notes="; ".join(notes))


def appeared_from(strength: xr.DataArray, similarity: xr.DataArray, alike: float | None = ALIKE) -> xr.DataArray:
    """The first epoch from which a profile is stronger than chance and alike to the last, to the end; else NaN.

    Args:
        strength: responsiveness in units of that of shuffled groups, with a dimension `epoch`; chance is 1.
        similarity: with the last epoch's profile, same dimensions. NaN is neither stronger nor alike.
        alike: the least similarity; None: strength alone.
    """
    there = strength > 1
    if alike is not None:
        there &= similarity >= alike
    there = there.transpose(..., "epoch")
    stays = np.logical_and.accumulate(there.values[..., ::-1], axis=-1).sum(-1)
    epochs = strength["epoch"].values
    first = np.where(stays > 0, epochs[len(epochs) - np.maximum(stays, 1)], np.nan)
    words = "" if alike is None else f", and a correlation of {alike:g} with the last"
    found = there.isel(epoch=-1, drop=True).copy(data=first)
    return found.assign_attrs(long_name=f"first epoch above the level of shuffled groups{words}")
