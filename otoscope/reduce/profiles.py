"""Gradient-adjusted neuron activation profiles (GradNAPs, Krug et al. 2020): what is read out of `ProfileSums`.

For each layer and group, over units and over the frames around the alignment time:

    profile = (mean activation of the group - mean over all instances) · mask,    mask = |mean gradient| / its maximum

All tables are float32, computed from float64 sums. This module needs no network and no torch.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.spatial.distance import pdist, squareform

from otoscope.base import BadInput, BadOption, atomic_path, choose
from otoscope.reduce.profile_options import mapping_notes

FORMAT = 1
METHODS = {"krug2020": "GradNAP", "navai": "NAvAI", "nap": "NAP"}
"""What a profile is called, by preset."""
# Unit and name of an offset, and the name of its `time`.
TIMES = "frames", "frames from the alignment", "time from the alignment"
RANKS = "ranks", "rank of the activation, the largest first", "for how long the unit is more active"
# Utterances named in a note.
SHOWN = 5


class Profiles:
    """Aligned profiles of groups in every layer, with their masks, means and counts.

    Made by `ProfileSums.finalize` or `Profiles.load`. Per layer there is one `xarray.Dataset` in `layers`: `profile`,
    `mask` and `mean` `(group, unit, offset)`, `count` `(group, offset)`, `instances` `(group,)`. `offset` counts frames
    of that layer from the alignment; `time` is the same in seconds. In NAPs it counts ranks from 0, the largest, and
    `time` is for how long a unit was more active. `unit` has the indices of the units kept. The input layer may have
    `frequency` (Hz) along `unit`. `grouping` and `label` are the two halves of a group's name.

    A group with fewer instances than `settings["min_instances"]` (at least one) in some layer is named in `empty`, and
    is NaN throughout there. Elsewhere the one thing that can be undefined is the mean at an offset that no instance
    reaches (count 0): it is NaN, and mask and profile are 0, since no gradient comes from a frame that is not there.
    """

    def __init__(self, layers: Mapping[str, xr.Dataset], settings: Mapping[str, Any]):
        self.layers = dict(layers)
        self.settings = dict(settings)

    def __repr__(self) -> str:
        names, groupings = list(self.layers), list(dict.fromkeys(name.partition(":")[0] for name in self.groups))
        shown = names if len(names) <= 4 else [*names[:2], "…", names[-1]]
        return (
            f"Profiles({len(names)} layers: {', '.join(shown)}; {len(self.groups)} groups by {', '.join(groupings)}"
            f"{f', {len(self.empty)} of them empty' if self.empty else ''}; N = {self.n} instances; "
            f"{self.settings['preset']}{' changed' if self.settings['changed'] else ''})"
        )

    @property
    def groups(self) -> tuple[str, ...]:
        """Names on the group axis, such as "phone:AE"."""
        return tuple(map(str, next(iter(self.layers.values()))["group"].values))

    @property
    def n(self) -> int:
        """Number of instances that any layer holds, in groups or not."""
        return max(int(table.attrs["instances"]) for table in self.layers.values())

    @property
    def profile(self) -> dict[str, xr.DataArray]:
        """GradNAPs `(group, unit, offset)` by layer, in the units of the activations."""
        return {layer: table["profile"] for layer, table in self.layers.items()}

    @property
    def mask(self) -> dict[str, xr.DataArray]:
        """Gradient masks `(group, unit, offset)` by layer, 0 to 1; all 0 where no gradient reached the layer."""
        return {layer: table["mask"] for layer, table in self.layers.items()}

    @property
    def mean(self) -> dict[str, xr.DataArray]:
        """Mean activations of the groups `(group, unit, offset)` by layer, nothing subtracted, no mask."""
        return {layer: table["mean"] for layer, table in self.layers.items()}

    @property
    def count(self) -> dict[str, xr.DataArray]:
        """How many instances each mean stands on `(group, unit, offset)` by layer; the same for all units."""
        result = {}
        for layer, table in self.layers.items():
            profile, count = table["profile"], table["count"]
            result[layer] = profile.copy(data=np.broadcast_to(count.values[:, None, :], profile.shape)).rename("count")
            result[layer].attrs = dict(count.attrs)
        return result

    @property
    def instances(self) -> xr.DataArray:
        """Instances `(layer, group)`."""
        rows = [table["instances"].values for table in self.layers.values()]
        coords = {"layer": list(self.layers), "group": list(self.groups)}
        return xr.DataArray(np.stack(rows), dims=("layer", "group"), coords=coords, name="instances")

    @property
    def empty(self) -> tuple[str, ...]:
        """Groups with too few instances to have a profile, in at least one layer."""
        few = (self.instances < max(1, self.settings["min_instances"])).any("layer").values
        return tuple(name for name, is_few in zip(self.groups, few, strict=True) if is_few)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know, in sentences: empty groups, flat maps, gradients of 0, what was left out."""
        notes = []
        if self.empty:
            least = max(1, self.settings["min_instances"])
            notes.append(f"no profile (fewer than {least} instances): {', '.join(self.empty)}")
        for layer, table in self.layers.items():
            total, flat, left_out = (int(table.attrs[name]) for name in ("instances", "flat", "left_out"))
            if flat:
                notes.append(f"{layer}: {flat} of {total} instances had a flat map and stay at the predicted frame")
            if left_out:
                said = f"{layer}: {left_out} of {total + left_out} instances were not finite and are left out"
                notes.append(said + _in_utterances(self.settings.get("not_finite", {}).get(layer)))
            unreached = (table["mask"].max(("unit", "offset")) == 0).values
            if unreached.any():
                notes.append(f"{layer}: no gradient in {', '.join(map(str, table['group'].values[unreached]))}")
        for what, owners in self.settings.get("incidents", {}).items():
            notes.append(f"{owners['count']} {what}{_in_utterances(owners)}")
        notes += mapping_notes(self.settings)
        notes += self.settings.get("limits", [])
        notes += [f"{layer} is left out: {why}" for layer, why in self.settings.get("skipped", {}).items()]
        return tuple(notes)

    def matching(self, groups: str | Sequence[str] | None = None) -> tuple[list[str], list[str]]:
        """The groups that names or glob patterns such as "phone:*" mean, in the order of the group axis; None: all.

        Returns:
            Those that have a profile, and those that are empty.

        Raises:
            BadOption: a pattern that matches no group.
        """
        patterns = ["*"] if groups is None else [groups] if isinstance(groups, str) else list(groups)

        def means(pattern: str, name: str) -> bool:
            return name == pattern or fnmatchcase(name, pattern)

        for pattern in patterns:
            if not any(means(pattern, name) for name in self.groups):
                kinds = ", ".join(sorted({f"{name.partition(':')[0]}:*" for name in self.groups}))
                raise BadOption("no group of that name", got=repr(pattern), wanted=f"a group, or one of {kinds}")
        empty = self.empty
        found = [name for name in self.groups if any(means(pattern, name) for pattern in patterns)]
        return [name for name in found if name not in empty], [name for name in found if name in empty]

    @property
    def by_rank(self) -> bool:
        """Whether an offset is a rank, 0 that of the largest activation, and not a time from the alignment (NAPs)."""
        return self.settings.get("order", "time") == "rank"

    def responsiveness(self) -> dict[str, xr.DataArray]:
        """Group responsiveness r `(group, unit)` by layer (Krug et al. 2020, Eq. 1).

        The sum of a unit's absolute profile values, with the sign of their plain sum; 0 where that sum is exactly 0.
        """
        result = {}
        for layer, profile in self.profile.items():
            values = profile.values.astype(np.float64)
            r = np.sign(values.sum(axis=2)) * np.abs(values).sum(axis=2)
            result[layer] = profile.isel(offset=0, drop=True).copy(data=r).rename("responsiveness")
            result[layer].attrs = {"long_name": "group responsiveness r (Eq. 1)"}
        return result

    def top_units(self, group: str, k: int = 5) -> dict[str, xr.DataArray]:
        """The k units of each layer with the largest |r| for `group`: their r `(unit,)`, largest |r| first.

        `top_units("phone:AE")["conv2"].unit` names them. Of equal |r| the lower unit comes first; a layer with fewer
        than k units gives all.

        Raises:
            BadOption: an unknown group, or k below 1.
            BadInput: the group is empty.
        """
        choose("group", group, self.groups)
        if k < 1:
            raise BadOption("units to name", got=k, wanted="1 or more")
        if group in self.empty:
            raise BadInput(f"group {group} has no profile", got=self.notes[0], wanted="a group that occurred")
        result = {}
        for layer, r in self.responsiveness().items():
            of_group = r.sel(group=group)
            result[layer] = of_group[np.argsort(-np.abs(of_group.values), kind="stable")[:k]]
        return result

    def extent(self, mass: float = 0.95) -> xr.Dataset:
        """How far from the alignment a profile holds `mass` of the sum of its absolute values.

        Returns:
            A Dataset: `frames` and `seconds` `(layer, group)`, the least distance whose frames on both sides hold it,
            NaN for a group that is empty or zero throughout; `nominal_frames` and `nominal_seconds` `(layer,)`, the
            largest distance at which there can be anything: the cone less one frame, or the window's end.

        Raises:
            BadOption: `mass` is not above 0 and at most 1.
            BadInput: these are NAPs, in which there is no time.
        """
        if self.by_rank:
            raise BadInput("sorted profiles have no extent in time", got=f"order {self.settings['order']!r}")
        if not 0 < mass <= 1:
            raise BadOption("share of the mass", got=mass, wanted="a number above 0, at most 1")
        frames, nominal = [], []
        for profile in self.profile.values():
            weight = np.abs(profile.values).sum(axis=1, dtype=np.float64)
            half = weight.shape[1] // 2
            folded = weight[:, half:].copy()
            folded[:, 1:] += weight[:, :half][:, ::-1]
            held = folded.cumsum(axis=1)
            # The last sum can fall short of the total by rounding only.
            reached = held >= mass * held[:, -1:] * (1 - 1e-12)
            frames.append(np.where(held[:, -1] > 0, reached.argmax(axis=1), np.nan))
            nominal.append(half)
        spans = [int(table.attrs["span"]) - 1 for table in self.layers.values()]
        seconds = np.array([table.attrs["frame_s"] for table in self.layers.values()])
        farthest = np.minimum(nominal, spans)
        return xr.Dataset(
            {
                "frames": (("layer", "group"), np.array(frames)),
                "seconds": (("layer", "group"), np.array(frames) * seconds[:, None], {"units": "s"}),
                "nominal_frames": (("layer",), farthest),
                "nominal_seconds": (("layer",), farthest * seconds, {"units": "s"}),
            },
            coords={"layer": list(self.layers), "group": list(self.groups)},
            attrs={"mass": mass},
        )

    def distance(self) -> dict[str, xr.DataArray]:
        """Euclidean distances between the profiles of groups `(group, other)` by layer; NaN for empty groups."""
        result = {}
        names = list(self.groups)
        for layer, profile in self.profile.items():
            flat = profile.values.reshape(len(names), -1)
            there = np.isfinite(flat).all(axis=1)
            square = np.full((len(names), len(names)), np.nan)
            if there.any():
                square[np.ix_(there, there)] = squareform(pdist(flat[there].astype(np.float64)))
            coords = {"group": names, "other": names}
            result[layer] = xr.DataArray(square, dims=("group", "other"), coords=coords, name="distance")
        return result

    def save(self, path: Path | str) -> None:
        """Write one NetCDF file, in one step: a group per layer, the settings in the attributes of the whole."""
        with atomic_path(Path(path)) as temporary:
            whole = {"format": FORMAT, "layers": json.dumps(list(self.layers)), "settings": json.dumps(self.settings)}
            xr.Dataset(attrs={"title": "GradNAPs", "instances": self.n, **whole}).to_netcdf(
                temporary, engine="h5netcdf"
            )
            for layer, table in self.layers.items():
                table.to_netcdf(temporary, mode="a", group=quote(layer, safe=""), engine="h5netcdf")

    @classmethod
    def load(cls, path: Path | str) -> Profiles:
        """Read what `save` wrote. Raises `BadInput` if the file is missing, cut short or something else."""
        problem, wanted = f"could not read profiles from {path}", f"a file by Profiles.save, format {FORMAT}"

        def table(group: str | None = None) -> xr.Dataset:
            return xr.load_dataset(path, engine="h5netcdf", group=group)

        try:
            whole = table().attrs
            if whole.get("format") != FORMAT:
                raise BadInput(problem, got=f"format {whole.get('format', 'unknown')}", wanted=wanted)
            layers = {layer: table(quote(layer, safe="")) for layer in json.loads(whole["layers"])}
        except (OSError, KeyError, ValueError) as error:
            raise BadInput(problem, got=str(error), wanted=wanted) from error
        texts = ("group", "grouping", "label")
        layers = {
            layer: content.assign_coords({name: content[name].astype(str) for name in texts})
            for layer, content in layers.items()
        }
        return cls(layers, json.loads(whole["settings"]))

    def write_csv(self, path: Path | str) -> None:
        """Write a tidy table, a row per layer, group and unit: responsiveness (blank if none) and instances."""
        with atomic_path(Path(path)) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("layer", "group", "unit", "responsiveness", "instances"))
            for layer, r in self.responsiveness().items():
                counts = self.layers[layer]["instances"].values
                for group, row, n in zip(self.groups, r.values, counts, strict=True):
                    for unit, value in zip(r["unit"].values, row, strict=True):
                        writer.writerow((layer, group, unit, "" if np.isnan(value) else f"{value:.6g}", n))


def _in_utterances(owners: Mapping[str, Any] | None) -> str:
    """In which utterances something was met, as the end of a sentence."""
    if owners is None:
        return ""
    shown = list(owners["named"].items())[:SHOWN]
    more = owners["utterances"] - len(shown)
    return f": {', '.join(f'{name} ({n})' for name, n in shown)}{f' and {more} more utterances' if more else ''}"


def read_out(
    layer: str,
    groups: tuple[str, ...],
    sums: Mapping[str, NDArray[Any]],
    frame_s: float,
    frequency_hz: Sequence[float] | NDArray[Any] | None,
    settings: Mapping[str, Any],
) -> xr.Dataset:
    """One layer of `Profiles` from the tables of `aligned_sums.LayerSums`; `settings` as in `ProfileSums.finalize`."""
    every = sums["reached"][:, None, :]
    activation, gradient, magnitude = (
        sums[name].transpose(0, 2, 1) for name in ("activation", "gradient", "magnitude")
    )
    instances, reached = sums["instances"][:-1], every[:-1] > 0
    enough = instances >= max(1, settings["min_instances"])
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = activation[:-1] / every[:-1]
        usual = activation[-1] / every[-1]
        if settings["normaliser"] == "groups":
            usual = _mean_of_groups(groups, mean, reached & enough[:, None, None])
        slope = (np.abs(gradient) if settings["mask"] == "abs_of_mean" else magnitude)[:-1]
        slope = np.where(reached, slope / every[:-1], 0.0)
        steepest = slope.max(axis=(1, 2), keepdims=True)
        mask = np.where(steepest > 0, slope / steepest, 0.0)
        if settings["mask"] == "none":
            mask = np.broadcast_to(reached, mean.shape)
        profile = np.where(reached, (mean - usual) * mask, 0.0)
    tables = {"profile": profile, "mask": mask, "mean": mean}
    half, units = every.shape[2] // 2, mean.shape[1]
    ranked = settings.get("order", "time") == "rank"
    unit, of_offset, of_time = RANKS if ranked else TIMES
    offset = np.arange(every.shape[2]) - (0 if ranked else half)
    kept = (settings.get("units") or {}).get(layer)
    grouping, label = zip(*(name.split(":", 1) for name in groups), strict=True)
    flat, left_out, span = sums["tally"].tolist()
    dims, there = ("group", "unit", "offset"), enough[:, None, None]
    words = {
        "profile": _profile_words(settings),
        "mask": {"long_name": "gradient mask, 0 to 1"},
        "mean": {"long_name": "mean activation of the group"},
    }
    table = xr.Dataset(
        {
            name: (dims, np.where(there, values, np.nan).astype(np.float32), words[name])
            for name, values in tables.items()
        }
        | {
            "count": (("group", "offset"), every[:-1, 0], {"long_name": "instances that reach the offset"}),
            "instances": (("group",), instances, {"long_name": "instances of the group"}),
        },
        coords={
            "group": list(groups),
            "grouping": ("group", list(grouping)),
            "label": ("group", list(label)),
            "unit": np.arange(units) if kept is None else np.array(kept),
            "offset": ("offset", offset, {"units": unit, "long_name": of_offset}),
            "time": ("offset", offset * frame_s, {"units": "s", "long_name": of_time}),
        },
        attrs={
            "frame_s": frame_s,
            "instances": int(sums["instances"][-1]),
            "flat": flat,
            "left_out": left_out,
            "span": span,
        },
    )
    if frequency_hz is None:
        return table
    hertz = np.asarray(frequency_hz, dtype=np.float64)
    if kept is not None and hertz.ndim == 1 and len(hertz) > max(kept):
        hertz = hertz[kept]
    if hertz.shape != (units,):
        raise BadInput("frequencies do not fit the input layer", got=f"{hertz.shape}", wanted=f"({units},)")
    return table.assign_coords(frequency=("unit", hertz, {"units": "Hz"}))


def _profile_words(settings: Mapping[str, Any]) -> dict[str, str]:
    """What a profile is called and what it is, as attributes."""
    method = METHODS.get(settings.get("preset", ""), "profile")
    usual = "the mean over all instances" if settings["normaliser"] == "instances" else "the mean over groups"
    masked = "" if settings["mask"] == "none" else ", times the gradient mask"
    return {"method": method, "long_name": f"{method}: mean activation less {usual}{masked}"}


def _mean_of_groups(groups: tuple[str, ...], mean: NDArray[Any], there: NDArray[Any]) -> NDArray[Any]:
    """For each group the plain mean over the groups of its grouping that have one `(group, unit, offset)`."""
    grouping = np.array([name.partition(":")[0] for name in groups])
    result = np.empty_like(mean)
    for name in dict.fromkeys(grouping):
        mine = grouping == name
        result[mine] = np.where(there[mine], mean[mine], 0.0).sum(0) / there[mine].sum(0)
    return result
