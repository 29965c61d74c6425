"""How much of its context a network uses: where profiles hold their mass, against what the layers above can see.

Krug et al. 2020, section 4.1, saw GradNAPs drop to 0 away from the alignment, and concluded that smaller kernels would
do. Here that is measured, layer by layer, and said in words.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from otoscope.base import BadInput, BadOption
from otoscope.reduce.profiles import Profiles

# Below this share of the frames, or fewer than two frames, nothing is worth a suggestion.
WORTH = 0.1


def effective_fields(
    profiles: Profiles, mass: float = 0.95, *, share: float = 1.0, min_instances: int = 30
) -> xr.Dataset:
    """Frames of each layer that an output frame can depend on, and those that hold the profiles' mass.

    Around the alignment a group needs e frames on both sides to hold `mass` of the sum of its absolute profile values
    (`Profiles.extent`): its effective field is 2 e + 1 frames, at most the nominal one. Instances are aligned where
    their gradient is largest, which need not be the middle of the field: profiles can reach beyond it, and an effective
    field is then rather too large than too small.

    Args:
        profiles: of any groups.
        mass: share of the absolute values, above 0 to 1.
        share: of the groups, ordered by their field, that must do with the effective field of a layer: 1, the group
            that needs most decides; 0.5, the median.
        min_instances: rarer groups are left out, since noise is spread over all offsets.

    Returns:
        A Dataset: `nominal_frames` and `nominal_s` `(layer,)`; `group_frames` and `group_s` `(layer, group)`; of these
        `effective_frames` and `effective_s` `(layer,)` for that share of the groups, and `median_frames`, `median_s`;
        `widest` `(layer,)`, the group that needs most; `frame_s` `(layer,)`. Attributes: `mass`, `share`, `instances`,
        `groups`, `left_out` (names), and `notes`, a sentence for each layer and what could be smaller.

    Raises:
        BadOption: `mass` or `share` is not above 0 and at most 1.
        BadInput: no group has so many instances and a profile.
    """
    if not 0 < share <= 1:
        raise BadOption("share of the groups", got=share, wanted="a number above 0, at most 1")
    extent = profiles.extent(mass)
    counts = profiles.instances
    enough = (counts >= max(1, min_instances)).all("layer").values & extent["frames"].notnull().any("layer").values
    names = np.array(profiles.groups)
    if not enough.any():
        raise BadInput(
            "no group has enough instances for an effective field",
            got=f"at most {int(counts.max()) if counts.size else 0} instances",
            wanted=f"{min_instances} or more",
            remedy="use more speech, or a lower min_instances",
        )
    nominal = np.array([int(table.attrs["span"]) for table in profiles.layers.values()])
    seconds = np.array([float(table.attrs["frame_s"]) for table in profiles.layers.values()])
    frames = np.minimum(2 * extent["frames"].values[:, enough] + 1, nominal[:, None])
    effective, median, widest = np.full((2, len(nominal)), np.nan), np.full(len(nominal), np.nan), []
    for row, of_groups in enumerate(frames):
        known = of_groups[np.isfinite(of_groups)]
        widest.append(str(names[enough][np.nanargmax(of_groups)]) if len(known) else "")
        if len(known):
            # The least field with which so many groups do: a whole number of frames, no value in between.
            effective[0, row] = np.quantile(known, share, method="inverted_cdf")
            median[row] = np.quantile(known, 0.5, method="inverted_cdf")
    effective[1] = effective[0] * seconds
    result = xr.Dataset(
        {
            "nominal_frames": ("layer", nominal),
            "nominal_s": ("layer", nominal * seconds, {"units": "s"}),
            "group_frames": (("layer", "group"), frames),
            "group_s": (("layer", "group"), frames * seconds[:, None], {"units": "s"}),
            "effective_frames": ("layer", effective[0]),
            "effective_s": ("layer", effective[1], {"units": "s"}),
            "median_frames": ("layer", median),
            "median_s": ("layer", median * seconds, {"units": "s"}),
            "widest": ("layer", widest),
            "frame_s": ("layer", seconds, {"units": "s"}),
        },
        coords={"layer": list(profiles.layers), "group": names[enough]},
        attrs={
            "mass": mass,
            "share": share,
            "instances": profiles.n,
            "groups": int(enough.sum()),
            "left_out": ", ".join(names[~enough]),
        },
    )
    return result.assign_attrs(notes="\n".join(describe_fields(result)))


def describe_fields(fields: xr.Dataset) -> list[str]:
    """What `effective_fields` found, a sentence for each layer, and at last where the network could be smaller."""
    mass, groups = 100 * float(fields.attrs["mass"]), int(fields.attrs["groups"])
    whose = "all" if fields.attrs["share"] == 1 else f"{100 * float(fields.attrs['share']):g} % of"
    sentences, spare = [], []
    for layer in fields["layer"].values:
        at = fields.sel(layer=layer)
        nominal, effective = int(at["nominal_frames"]), float(at["effective_frames"])
        whole = f"{_frames(nominal)} ({_time(float(at['nominal_s']))})"
        if nominal == 1:
            sentences.append(f"{layer}: an output frame depends on one frame of it, and nothing could be narrower")
        elif not np.isfinite(effective):
            sentences.append(f"{layer}: no profile, so nothing is known of the {whole} that an output frame depends on")
        else:
            used = f"{_frames(effective)} ({_time(float(at['effective_s']))})"
            sentences.append(
                f"{layer}: of the {whole} that an output frame depends on, {used} around the alignment hold {mass:g} % "
                f"of the profile in {whose} {groups} groups; {at['widest'].item().replace(' ', '␣')} needs most, the "
                f"median group {_frames(float(at['median_frames']))}"
            )
            unused = nominal - effective
            if unused >= max(2, WORTH * nominal):
                spare.append(
                    f"what lies above {layer} sees {whole} of it and could be tried with kernels or context narrower "
                    f"by {_frames(unused)} ({_time(unused * float(at['frame_s']))}) in all"
                )
    if spare:
        sentences.append(
            "where the network could be smaller: " + "; ".join(spare) + ". These are upper limits of the same context, "
            "not to be added up. A profile says where the mean gradient and activation lie, not what a recogniser can "
            "do without: train the smaller network and compare its errors before trusting it"
        )
    else:
        sentences.append("no layer's context is clearly wider than what its profiles use: nothing could be smaller")
    return sentences


def _frames(number: float) -> str:
    return "1 frame" if number == 1 else f"{int(number):,} frames"


def _time(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"
