"""Layers as Ollerenshaw et al. 2021 compare them: through training, with the next deeper one, and across seeds.

Each in two readings: *paper*, the preset that follows the paper's text (one controlled input of 100 frames, layers that
are no convolutional maps flattened to one column of data points, narrower layers interpolated), and *recommended*: all
the speech given, without padding, neurons as neurons. In both a neuron of a convolutional map is a channel, seen at
every point of frame × frequency. Layers of different numbers of points are never mixed, so one pass does for all.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from torch import Tensor

from otoscope.base import BadOption, Progress, silent
from otoscope.reduce.comparison import Comparison, Findings
from otoscope.reduce.dynamics import bottom_up, converged_from
from otoscope.reduce.pathology import find_pathologies
from otoscope.reduce.resize import PRESETS, interpolate_units
from otoscope.study.representations import Batch, Listener, Reading, Representation, hear
from otoscope.study.speech import Speech, on_grid
from otoscope.study.training_tables import add_health, curve_pairs, lay_out_curves

READINGS = ("paper", "recommended")
PRESET = "ollerenshaw2021"
MEASURES = ("svcca", "cka")
REPAIRINGS = 5
BATCH = 8
"""Utterances at a time: every checkpoint of a run is heard at once."""


class Pass(NamedTuple):
    """What one pass over the speech found of all pairs, and the comparisons it came from, one a number of points."""

    found: Findings
    comparisons: list[Comparison]

    @property
    def frames(self) -> int:
        """Data points of the layer that has the fewest."""
        return min(comparison.frames for comparison in self.comparisons)


def through(listeners: Sequence[Listener], speech: Speech, reading: str, progress: Progress = silent) -> xr.Dataset:
    """The epochs of one run: every layer's similarity with itself at other epochs.

    Returns:
        `to_last`, `to_next`, `to_first` and `across` `(measure, layer, epoch)`, `converged` `(measure, layer)` and
        `bottom_up` `(measure,)`, as of `otoscope.through_training`; recommended also the pathologies as an attribute.
        Attributes: `frames` and `utterances`.
    """
    curves = curve_pairs(listeners, ())
    pairs = list(dict.fromkeys(pair for places in curves.values() for pair in places))
    heard = compare_pairs(listeners, speech, pairs, reading, progress=progress)
    # The curves take no intervals from a comparison: seeds tell how sure they are.
    result = lay_out_curves(heard.found, curves, listeners, (), heard.comparisons[0])
    result["converged"] = converged_from(result["to_last"])
    result["bottom_up"] = bottom_up(result["converged"])
    if reading == "recommended":
        add_health(result, listeners, heard.comparisons)
        result.attrs["pathologies"] = "\n".join(map(str, find_pathologies(result)))
    result.attrs |= {"frames": heard.frames, "utterances": heard.comparisons[0].utterances}
    return result.drop_vars(["other_layer"])


def side_by_side(
    runs: Mapping[int, Sequence[Listener]], speech: Speech, reading: str, progress: Progress = silent
) -> xr.Dataset:
    """The same network trained from several seeds: neighbouring convolutions in each, and each layer across seeds.

    Args:
        runs: seed → the run untrained and at its end.

    Returns:
        `adjacent` `(measure, seed, stage, step)`, convolution `step` with the next (absent where there are not two),
        and `across_seeds` `(measure, seed, other_seed, stage, layer)`, for seed < other_seed (absent with one seed).
        `stage` is "untrained" or "trained". Recommended, with several utterances, also `adjacent_shuffled` and
        `across_seeds_shuffled`: utterances paired with others, the mean of re-pairings.
    """
    stages = ("untrained", "trained")
    layers = [str(layer) for layer in next(iter(runs.values()))[0].layers]
    names = {
        (seed, stage): [str(each) for each in listener.representations]
        for seed, listeners in runs.items()
        for stage, listener in zip(stages, listeners, strict=True)
    }
    steps = len(convolutions(layers)) - 1
    beside = {
        (names[seed, stage][step], names[seed, stage][step + 1]): (s, e, step)
        for (s, seed), (e, stage) in itertools.product(enumerate(runs), enumerate(stages))
        for step in range(max(steps, 0))
    }
    between = {
        (names[one, stage][at], names[other, stage][at]): (a, b, e, at)
        for (a, one), (b, other) in itertools.combinations(enumerate(runs), 2)
        for e, stage in enumerate(stages)
        for at in range(len(layers))
    }
    listeners = [listener for both in runs.values() for listener in both]
    result = xr.Dataset(
        coords={"measure": list(MEASURES), "seed": list(runs), "stage": list(stages), "layer": layers}
        | ({"step": np.arange(1, steps + 1)} if beside else {})
        | ({"other_seed": list(runs)} if between else {})
    )
    looks: list[tuple[str, dict[tuple[str, str], tuple[int, ...]], tuple[str, ...], bool]] = [
        ("adjacent", dict(beside), ("seed", "stage", "step"), True),
        ("across_seeds", dict(between), ("seed", "other_seed", "stage", "layer"), False),
    ]
    for name, pairs, dims, coarse in looks:
        if not pairs:
            continue
        heard = compare_pairs(
            listeners, speech, list(pairs), reading, coarse=coarse, repairings=REPAIRINGS, progress=progress
        )
        shape = (len(MEASURES), *(result.sizes[dim] for dim in dims))
        kinds: list[tuple[str, Any]] = [(name, heard.found.values), (f"{name}_shuffled", heard.found.baseline)]
        for variable, values in kinds:
            if values:
                table = np.full(shape, np.nan)
                for (m, measure), (pair, at) in itertools.product(enumerate(MEASURES), pairs.items()):
                    table[(m, *at)] = np.mean(values[measure][pair])
                result[variable] = (("measure", *dims), table)
        result.attrs[f"{name}_frames"] = heard.frames
        result.attrs["utterances"] = heard.comparisons[0].utterances
    return result


def convolutions(layers: Sequence[str]) -> list[str]:
    """The convolutions at the start of a network."""
    return list(itertools.takewhile(lambda name: name.startswith("conv"), layers))


def compare_pairs(
    listeners: Sequence[Listener],
    speech: Speech,
    pairs: Sequence[tuple[str, str]],
    reading: str,
    *,
    coarse: bool = False,
    repairings: int = 0,
    progress: Progress = silent,
) -> Pass:
    """One pass over the speech, in which every network runs once on each batch.

    Args:
        pairs: of representations, by name; both of a pair must have the same number of points in a frame.
        coarse: maps of different numbers of bands are averaged to the fewest, and, after the paper, their channels
            interpolated to the most.
        repairings: for the baseline; of one utterance there is none.
    """
    way = PRESETS[PRESET] if reading == "paper" else None
    heard = speech if way is None else controlled_input(speech, way.frames or 1)
    wanted = {name for pair in pairs for name in pair}
    # Which layers are needed; nothing else is kept of a pass.
    few = [
        replace(
            each,
            layers=[a for a, b in zip(each.layers, each.representations, strict=True) if str(b) in wanted],
        )
        for each in listeners
    ]
    few = [each for each in few if each.layers]
    repairings = min(repairings, min(BATCH, len(heard)) - 1)
    comparisons: dict[int, Comparison] = {}
    options: dict[str, Any] = {} if way is None else {"threshold": way.threshold}
    total = -(-len(heard) // BATCH)
    for done, batch in enumerate(hear(few, heard, Reading(maps="channels", preset=way), BATCH), 1):
        values, points = _on_one_grid(batch, interpolated=way is not None) if coarse else _as_they_are(batch)
        if not comparisons:
            for count in dict.fromkeys(points.values()):
                own = [pair for pair in pairs if points[pair[0]] == count]
                comparisons[count] = Comparison(MEASURES, own, repairings=repairings, **options)
        for count, comparison in comparisons.items():
            rows = {name: value for name, value in values.items() if points[name] == count}
            comparison.update(rows, [length * count for length in batch.lengths], keys=batch.indices)
        progress(done, total, f"{reading}: {len(few)} networks")
    together = Findings({name: {} for name in MEASURES}, {}, ())
    for comparison in comparisons.values():
        found = comparison.read()
        together.kept |= found.kept
        for name in MEASURES:
            together.values[name] |= found.values[name]
            if found.baseline:
                together.baseline.setdefault(name, {}).update(found.baseline[name])
    return Pass(together, list(comparisons.values()))


def controlled_input(speech: Speech, frames: int) -> Speech:
    """The start of the first utterance that has so many frames.

    Raises:
        BadOption: none has.
    """
    for index, count in enumerate(speech.lengths):
        if count >= frames:
            return Speech([speech.utterances[index]], [speech.features[index][:frames]])
    longest = max(speech.lengths)
    raise BadOption("no utterance is as long as the paper's input", got=f"{longest} frames", wanted=f"{frames}")


def _as_they_are(batch: Batch) -> tuple[dict[str, Tensor], dict[str, int]]:
    return {str(r): rows for r, rows in batch.values.items()}, {str(r): count for r, count in batch.points.items()}


def _on_one_grid(batch: Batch, *, interpolated: bool) -> tuple[dict[str, Tensor], dict[str, int]]:
    """Maps with their bands averaged to the fewest; `interpolated`: channels stretched to the most, too."""
    fewest, widest = min(batch.points.values()), max(rows.shape[1] for rows in batch.values.values())

    def brought(name: Representation, rows: Tensor) -> Tensor:
        bands = rows.unflatten(0, (-1, batch.points[name])).movedim(1, 0)
        pooled = on_grid(bands.flatten(1), fewest).unflatten(1, bands.shape[1:]).movedim(0, 1).flatten(0, 1)
        return interpolate_units(pooled, widest) if interpolated else pooled

    values = {str(name): brought(name, rows) for name, rows in batch.values.items()}
    return values, dict.fromkeys(values, fewest)
