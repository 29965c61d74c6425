"""Optimal inputs of a network's units, with names, seconds and Hz, and as files to look at and to listen to."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from torch import nn

from otoscope.base import BadInput, BadOption, Progress, silent
from otoscope.hear.audio import HOP_S, mel_frequencies
from otoscope.hear.sound import SPEECH_LEVEL, sound, write_sound
from otoscope.probe.layers import Survey, list_layers, match_layers
from otoscope.probe.optimal import PRESETS, OptimalInputs, Recipe, make_recipe, optimise_inputs
from otoscope.probe.taps import INPUT
from otoscope.reduce.profiles import Profiles
from otoscope.study.results import save_table
from otoscope.study.speech import bands_of

UnitSet: TypeAlias = int | Iterable[int] | Mapping[int, float] | xr.DataArray
"""Units to maximise; or with weights, negative to minimise; or their r with a coordinate `unit` (`top_units`)."""
# Files of optimal inputs begin so.
OPTIMAL = "optimal"


def optimal_inputs(
    network: nn.Module,
    layer: str,
    units: UnitSet | Mapping[str, UnitSet],
    *,
    preset: str = "krug2020",
    frames: int | None = None,
    seed: int = 0,
    survey: Survey | None = None,
    progress: Progress = silent,
    **options: Any,
) -> xr.Dataset:
    """The spectrograms that drive sets of units of a layer as far as they go (Krug et al. 2020, Eq. 2).

    Args:
        network: any module with `forward(features, lengths) -> (logits, lengths)`.
        layer: its name.
        units: one set of units, or several by name. A set is a unit, a list of units (all maximised), a mapping from
            unit to weight (-1 to minimise), or what `Profiles.top_units` gives for this layer: units of positive r are
            maximised, of negative r minimised.
        preset: `krug2020`: the paper's numbers; its L1 penalty is in the units of the layer, and holds the input at 0
            where gradients are smaller (the notes say so). `recommended`: penalties measured against the gradient,
            total variation and jitter, 64 steps.
        frames: of the input; left out, as many as one unit sees. Must be given for recurrent and attention layers.
        seed: of the random start and the jitter.
        survey: `list_layers(network)`, where it is at hand.
        progress: called after each step.
        options: `steps`, `learning_rate`, `start_sd`, `l1`, `l2`, `tv_time`, `tv_frequency`, `jitter`, `penalty`,
            `target`, `batch_frames`; see `otoscope.probe.optimal.Recipe`.

    Returns:
        A Dataset. `input` `(set, frame, mel)` in standard deviations of the log-mel, with `time` (seconds, 0 at the
        frame of the units) and `frequency` (Hz); `activation` `(set, step)`: the sum over units, each times its weight,
        at the start and after each step; `gradient` `(set,)`: the steepest at the start; `units` and `size` `(set,)`;
        `held` `(set,)`: 1 where the L1 penalty outweighs every gradient at the start.
        The settings are attributes, `notes` says what a reader should know.

    Raises:
        BadOption: an unknown layer, preset or option, units that the layer does not have, `frames` needed or too few.
        BadInput: responsiveness without units, values that are not finite, a network that does not run.
    """
    batch = {"batch_frames": options.pop("batch_frames")} if "batch_frames" in options else {}
    recipe = make_recipe(preset, **options)
    named = _named_sets(units)
    survey = list_layers(network) if survey is None else survey
    found = optimise_inputs(
        network,
        layer,
        list(named.values()),
        frames=frames,
        recipe=recipe,
        seed=seed,
        survey=survey,
        progress=progress,
        **batch,
    )
    (measured,) = match_layers(survey, layer)[:1]
    mels = found.inputs.shape[2]
    place = found.place
    time_s = (np.arange(place.frames) - place.centre) * HOP_S
    coords: dict[str, Any] = {
        "set": list(named),
        "time": ("frame", time_s, {"units": "s", "long_name": "time from the frame of the units"}),
        "step": np.arange(recipe.steps + 1),
        "units": ("set", [" ".join(_signed(*pair) for pair in each.items()) for each in named.values()]),
        "size": ("set", [len(each) for each in named.values()]),
        "held": (
            "set",
            _held(found, recipe).astype(np.int8),
            {"long_name": "L1 outweighs every gradient at the start"},
        ),
    }
    if mels == bands_of(network).mels:
        coords["frequency"] = ("mel", mel_frequencies(*bands_of(network)), {"units": "Hz"})
    return xr.Dataset(
        {
            "input": (
                ("set", "frame", "mel"),
                found.inputs.numpy(),
                {"units": "sd of the log-mel", "long_name": "optimal input"},
            ),
            "activation": (
                ("set", "step"),
                found.activation.numpy(),
                {"long_name": f"sum over units of weight times {found.target}"},
            ),
            "gradient": (
                ("set",),
                found.gradient.numpy(),
                {"long_name": "largest gradient of the activation with respect to an input value, at the start"},
            ),
        },
        coords=coords,
        attrs={
            "title": "optimal inputs",
            "layer": str(measured),
            "kind": measured.kind,
            "target": found.target,
            "preset": preset,
            "changed": int(recipe != PRESETS[preset]),
            "recipe": json.dumps(dataclasses.asdict(recipe)),
            "field_frames": place.field,
            "frames": place.frames,
            "hop_s": HOP_S,
            "stride_s": measured.stride_s,
            "seed": seed,
            "notes": "\n".join(_notes(list(named), found, recipe)),
        },
    )


def optimal_inputs_of_groups(
    network: nn.Module,
    profiles: Profiles,
    groups: str | Sequence[str],
    layers: str | Sequence[str] = "*",
    k: int = 5,
    *,
    progress: Progress = silent,
    **options: Any,
) -> dict[str, xr.Dataset]:
    """For each layer, the optimal inputs of the k units most responsive to each group (Krug et al. 2020, Figure 3).

    Args:
        network: that the profiles were made of.
        profiles: `otoscope.gradnap(network, …)`.
        groups: such as `"phone:AE"`, or several.
        layers: names or globs; `"*"` is all of the network's own that the profiles have.
        k: units of a group in a layer.
        options: see `optimal_inputs`.

    Raises:
        BadOption: an unknown group or layer, or one that the profiles lack. BadInput: a group without profile.
    """
    names = [groups] if isinstance(groups, str) else list(groups)
    tops = {group: profiles.top_units(group, k) for group in names}
    survey = options.pop("survey", None) or list_layers(network)
    matched = match_layers(survey, layers)
    chosen = [layer for layer in matched if layer != INPUT and (layers != "*" or layer in profiles.layers)]
    absent = [str(layer) for layer in chosen if layer not in profiles.layers]
    if absent or not chosen:
        raise BadOption(
            "layers without profiles",
            got=", ".join(absent) or "no layer of the network",
            wanted="some of " + ", ".join(profiles.layers),
            remedy="gradnap(network, …, layers=…) makes them",
        )
    tables = {}
    for number, layer in enumerate(chosen):

        def report(done: int, total: int, note: str = "", before: int = number, name: str = str(layer)) -> None:
            progress(before * total + done, len(chosen) * total, f"{name}: {note}")

        units = {group: top[layer] for group, top in tops.items()}
        width, expected = layer.width, profiles.layers[layer].sizes["unit"]
        if width != expected:
            raise BadInput(
                f"the profiles are of another network: layer {str(layer)!r}",
                got=f"{expected} units in the profiles",
                wanted=f"{width}",
            )
        tables[str(layer)] = optimal_inputs(network, layer, units, survey=survey, progress=report, **options)
    return tables


def save_optimal_inputs(
    tables: Mapping[str, xr.Dataset],
    folder: Path | str,
    *,
    sounds: bool = True,
    level: tuple[float, float] = SPEECH_LEVEL,
    iterations: int = 64,
) -> list[Path]:
    """Write each Dataset as `optimal-LAYER.nc` and `.csv`, and each input as sound, `optimal-LAYER-SET.wav`.

    The attribute `sounds` of a saved Dataset names its sounds, one a line.

    Args:
        tables: by layer, as `optimal_inputs_of_groups` gives them.
        folder: made if it is not there.
        sounds: whether to write WAV files; only features of our own (with a frequency axis) can be heard.
        level: mean and standard deviation of the log-mel that the inputs are heard at.
        iterations: of Griffin-Lim.

    Raises:
        OtoscopeError: a file cannot be written.
    """
    folder = Path(folder)
    paths: list[Path] = []
    for layer, table in tables.items():
        stem = f"{OPTIMAL}-{_file_name(layer)}"
        made: list[Path] = []
        audible = sounds and "frequency" in table.coords and table.sizes["frame"] > 1
        for index, name in enumerate(table["set"].values if audible else ()):
            wav = folder / f"{stem}-{_file_name(str(name))}.wav"
            if wav in made:
                wav = wav.with_stem(f"{wav.stem}-{index}")
            samples = sound(table["input"].values[index], level=level, iterations=iterations)
            made.append(write_sound(wav, samples))
        # Named in the table, since sounds of an earlier one may lie beside them.
        paths += [*save_table(table.assign_attrs(sounds="\n".join(wav.name for wav in made)), folder, stem), *made]
    return paths


def _named_sets(units: UnitSet | Mapping[str, UnitSet]) -> dict[str, dict[int, float]]:
    """Each set's weights by unit, by name."""
    if isinstance(units, Mapping) and units and all(isinstance(name, str) for name in units):
        return {str(name): _weights(each) for name, each in cast(Mapping[str, UnitSet], units).items()}
    weights = _weights(cast(UnitSet, units))
    group = units.coords["group"].item() if isinstance(units, xr.DataArray) and "group" in units.coords else None
    return {str(group) if group is not None else _set_name(weights): weights}


def _weights(units: UnitSet) -> dict[int, float]:
    if isinstance(units, xr.DataArray):
        if units.dims != ("unit",) or "unit" not in units.coords or not np.isfinite(units.values).all():
            raise BadInput(
                "this is no responsiveness of units",
                got=f"dimensions {units.dims}, {int((~np.isfinite(units.values)).sum())} values not finite",
                wanted="finite r (unit,) with a coordinate `unit`",
                remedy="Profiles.top_units(group)[layer]",
            )
        # A unit that does not respond is neither to be raised nor to be lowered.
        found = {int(unit): float(np.sign(r)) for unit, r in zip(units["unit"].values, units.values, strict=True) if r}
        if not found:
            raise BadInput("none of these units responds", got="r = 0 for all", wanted="a group with responsive units")
        return found
    if isinstance(units, Mapping):
        return {_unit(unit): float(weight) for unit, weight in units.items()}
    listed = [_unit(units)] if isinstance(units, int | np.integer) else [_unit(unit) for unit in units]
    if len(set(listed)) < len(listed):
        raise BadOption("units named twice in one set", got=", ".join(map(str, listed)), wanted="each once")
    return dict.fromkeys(listed, 1.0)


def _unit(unit: Any) -> int:
    if isinstance(unit, bool) or not isinstance(unit, int | np.integer):
        raise BadOption("a unit is a number", got=repr(unit), wanted="0, 1, …; sets by name: {'a': [0, 1], 'b': [2]}")
    return int(unit)


def _signed(unit: int, weight: float) -> str:
    return f"{'-' if weight < 0 else '+'}{unit}" + ("" if abs(weight) == 1 else f"×{abs(weight):g}")


def _set_name(weights: Mapping[int, float]) -> str:
    if len(weights) == 1:
        return f"unit {next(iter(weights))}"
    shown = [str(unit) for unit in weights]
    return "units " + " ".join([*shown[:5], "…"] if len(shown) > 5 else shown)


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.+-]+", "-", name)


def _notes(names: Sequence[str], found: OptimalInputs, recipe: Recipe) -> list[str]:
    notes = []
    flat = [name for name, steepest in zip(names, found.gradient.tolist(), strict=True) if steepest == 0]
    if flat:
        notes.append(f"no gradient at the start, so nothing was found, for {', '.join(flat)}")
    held = _held(found, recipe)
    if held.any():
        limit = recipe.l1 * found.penalty.numpy()[held].max()
        which = [name for name, is_held in zip(names, held, strict=True) if is_held]
        notes.append(
            f"the L1 penalty of {limit:.2g} on every value outweighs the steepest gradient at the start "
            f"({found.gradient.numpy()[held].max():.2g}): what is left near 0 is the noise of the optimiser, for "
            f"{', '.join(which)}; preset='recommended' measures penalties against the gradient"
        )
    return notes


def _held(found: OptimalInputs, recipe: Recipe) -> NDArray[np.bool_]:
    """Which sets the L1 penalty holds at 0 `(set,)`: no value of the input has a gradient that is larger."""
    steepest = found.gradient.numpy()
    return (steepest > 0) & (steepest <= recipe.l1 * found.penalty.numpy())
