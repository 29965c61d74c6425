"""How profiles lie in time and frequency, in numbers: what Krug et al. 2020 say of them by eye (section 4.1 and 4.2).

Every number is given with the gradient mask and without it, for the mask alone makes a profile fall off.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from otoscope.base import BadInput
from otoscope.reduce.profiles import Profiles

BIN_S = 0.04
"""Width of a bin of distances, in seconds."""
BEYOND_S = (0.1, 0.25, 0.5)
FALL_S = 0.1
MASS = 0.95


def shape_of_profiles(methods: Mapping[str, Profiles], input_layer: str = "input", k: int = 5) -> xr.Dataset:
    """Where profiles have their mass, their strongest responses, and their change at the alignment.

    Only frames within half a cone of the alignment count: those of NAvAI's window. With a time t of each frame from the
    alignment and m(t) = Σ over units of |profile|, of each group:

    Args:
        methods: the same pass read in several ways, such as `{"GradNAP": …, "NAvAI": …}`: same layers and groups.
        input_layer: name of the input among the layers.
        k: how many of the most responsive units (Eq. 1) have their strongest response looked up.

    Returns:
        A Dataset:
        `outside` `(reading, layer, group, beyond)`: the share of Σ m(t) at |t| > `beyond` seconds;
        `extent_s` `(reading, layer, group)`: the least |t| within which lie 95 % of it;
        `peak_s` `(reading, layer, group)`: mean over the k most responsive units of |t| of their largest |value|;
        a unit that is 0 throughout has none and is left out;
        `decay` `(reading, layer, distance)`: mean over groups and units of |profile| at so many seconds from the
        alignment, in bins of 40 ms, as a share of the largest bin;
        `field_s` `(layer,)`: half the cone in seconds, the largest |t| there is;
        `fall` `(reading, group)`: in the input layer, the mean over units and over the 100 ms before the alignment,
        less that over the 100 ms after it; `falling` `(reading, group)`: the share of units of which that is above 0.
        NaN for groups without a profile; `fall` is NaN throughout where the input layer is not there.

    Raises:
        BadInput: the methods differ in layers or groups, or a profile is sorted by rank.
    """
    first = next(iter(methods.values()))
    for name, profiles in methods.items():
        if list(profiles.layers) != list(first.layers) or profiles.groups != first.groups:
            raise BadInput(f"{name} has other layers or groups", wanted="one pass, read in several ways")
        if profiles.by_rank:
            raise BadInput("sorted profiles have no shape in time", got=name)
    layers, groups = list(first.layers), list(first.groups)
    shape = (len(methods), len(layers), len(groups))
    halves = {name: _half_s(table) for name, table in first.layers.items()}
    bins = np.arange(round(max(halves.values()) / BIN_S) + 1)
    outside = np.full((*shape, len(BEYOND_S)), np.nan)
    extent, peak = np.full(shape, np.nan), np.full(shape, np.nan)
    decay = np.full((*shape[:2], len(bins)), np.nan)
    fall, falling = np.full((shape[0], shape[2]), np.nan), np.full((shape[0], shape[2]), np.nan)
    for row, profiles in enumerate(methods.values()):
        for column, (name, table) in enumerate(profiles.layers.items()):
            time = table["time"].values.astype(float)
            inside = np.abs(time) <= halves[name] + 1e-6
            values, time = table["profile"].values[:, :, inside].astype(np.float64), time[inside]
            sizes = np.abs(values)
            here = row, column
            outside[here], extent[here] = _spread(sizes.sum(axis=1), time)
            peak[here] = _peaks(values, time, k)
            decay[here] = _decay(sizes, time, len(bins))
            if name == input_layer:
                fall[row], falling[row] = _fall(values, time)
    by_group = ("reading", "layer", "group")
    return xr.Dataset(
        {
            "outside": ((*by_group, "beyond"), outside),
            "extent_s": (by_group, extent, {"units": "s"}),
            "peak_s": (by_group, peak, {"units": "s"}),
            "decay": (("reading", "layer", "distance"), decay),
            "field_s": ("layer", list(halves.values()), {"units": "s"}),
            "fall": (("reading", "group"), fall),
            "falling": (("reading", "group"), falling),
        },
        coords={
            "reading": list(methods),
            "layer": layers,
            "group": groups,
            "beyond": ("beyond", list(BEYOND_S), {"units": "s"}),
            "distance": ("distance", bins * BIN_S, {"units": "s"}),
        },
        attrs={"units_looked_up": k, "fall_s": FALL_S, "mass": MASS},
    )


def _half_s(table: xr.Dataset) -> float:
    """Half of a layer's cone in seconds, never more than the window has."""
    frame_s, span = float(table.attrs["frame_s"]), int(table.attrs["span"])
    return min(span // 2 * frame_s, float(np.abs(table["time"].values).max()))


def _spread(mass: NDArray[np.float64], time: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The share beyond each distance `(group, beyond)` and the distance that holds most `(group,)`."""
    whole = np.where(mass.sum(axis=1) > 0, mass.sum(axis=1), np.nan)
    far = np.stack([mass[:, np.abs(time) > beyond + 1e-6].sum(axis=1) for beyond in BEYOND_S], axis=1)
    order = np.argsort(np.abs(time), kind="stable")
    held = mass[:, order].cumsum(axis=1)
    reached = (held >= MASS * held[:, -1:] * (1 - 1e-12)).argmax(axis=1)
    return far / whole[:, None], np.where(np.isfinite(whole), np.abs(time)[order][reached], np.nan)


def _peaks(values: NDArray[np.float64], time: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Mean distance of the strongest response of the k most responsive units `(group,)`, silent ones left out."""
    sizes = np.nan_to_num(np.abs(values))
    top = np.argsort(-sizes.sum(axis=2), axis=1, kind="stable")[:, :k]
    found = np.abs(time)[np.take_along_axis(sizes.argmax(axis=2), top, axis=1)]
    # The largest of nothing but zeros is none: it would lie at the edge of the window.
    responds = np.take_along_axis(sizes.max(axis=2) > 0, top, axis=1)
    there = np.isfinite(values).all(axis=(1, 2)) & responds.any(axis=1)
    return np.where(there, (found * responds).sum(axis=1) / np.maximum(responds.sum(axis=1), 1), np.nan)


def _decay(sizes: NDArray[np.float64], time: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    """Mean size in each bin of distances as a share of the largest `(distance,)`; NaN where no frame lies."""
    there = np.isfinite(sizes).all(axis=(1, 2))
    found = np.full(bins, np.nan)
    if there.any():
        mean, at = sizes[there].mean(axis=(0, 1)), np.rint(np.abs(time) / BIN_S - 1e-6).astype(int)
        for place in np.unique(at[at < bins]):
            found[place] = mean[at == place].mean()
        largest = np.nanmax(found)
        found = found / largest if largest > 0 else found
    return found


def _fall(values: NDArray[np.float64], time: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Before less after the alignment: its mean over units `(group,)`, and the share of units above 0."""
    before = (time < -1e-9) & (time >= -FALL_S - 1e-6)
    after = (time > 1e-9) & (time <= FALL_S + 1e-6)
    if not before.any() or not after.any():
        return np.full(len(values), np.nan), np.full(len(values), np.nan)
    change = values[:, :, before].mean(axis=2) - values[:, :, after].mean(axis=2)
    there = np.isfinite(change).all(axis=1)
    return change.mean(axis=1), np.where(there, (change > 0).mean(axis=1), np.nan)
