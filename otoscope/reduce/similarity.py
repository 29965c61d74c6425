"""How similar are two representations of the same speech: a number, or a table of every layer against every other."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import xarray as xr

from otoscope.base import BadInput, BadOption, choose
from otoscope.reduce.comparison import FOLDS, REPAIRINGS, SAMPLE, Comparison, Findings
from otoscope.reduce.covariances import Covariances
from otoscope.reduce.frames import Array, valid_frames
from otoscope.reduce.intervals import LEVEL
from otoscope.reduce.measures import MEASURES, Measure, chosen_measures, settings_of
from otoscope.reduce.moments import LARGEST, Moments
from otoscope.reduce.readout import RankWarning, Similarities, read_sums, warn
from otoscope.reduce.resize import PRESETS, Preset, same_width
from otoscope.reduce.sums import PairName

__all__ = ["MEASURES", "RankWarning", "similarities", "similarity", "similarity_matrix"]


def similarities(
    sums: Moments | Covariances,
    measures: Iterable[str] | str = ("svcca", "cka"),
    pairs: Iterable[PairName] | None = None,
    **options: Any,
) -> Similarities:
    """Read measures out of running sums.

    Args:
        sums: over at least two frames.
        measures: names in `MEASURES`, of those that read sums.
        pairs: (node, node) tuples, (a, a) included if wanted; left out, all pairs in `sums`.
        options: of the measures, such as `threshold` of SVCCA.

    Raises:
        BadOption: an unknown measure or option, or a measure that compares frames with frames. BadInput: fewer than
            two frames, a node without variance, a pair of which there are no sums.

    Warns:
        RankWarning: few frames for the width, or nodes with fewer directions than units.
    """
    chosen = chosen_measures(measures)
    for name, measure in chosen.items():
        if measure.reads_frames:
            wanted = ", ".join(repr(name) for name, row in MEASURES.items() if not row.reads_frames)
            raise BadOption(f"{name} compares frames with frames, and sums have none", got=repr(name), wanted=wanted)
    settings = settings_of(chosen, options)
    covariances = sums.finalize() if isinstance(sums, Moments) else sums
    found = read_sums(covariances, chosen, covariances.pairs if pairs is None else pairs, settings)
    warn(found.notes)
    return found


def similarity(x: Array, y: Array, measure: str = "cka", **options: Any) -> float:
    """The similarity of two representations of the same frames.

    Args:
        x, y: arrays `(frame, unit)`, numpy or torch, with the same frames; widths may differ. Padding is not data.
        measure: a name in `MEASURES`: cca, cca_r2, svcca, pwcca, cka, cka_debiased, cka_rbf, procrustes, angular, r2,
            knn, rsa.
        options: of the measure (see docs/measures/), and `sample`: how many frames cka_rbf, knn and rsa look at, drawn
            at random where there are more; 3,000 if left out, None for all.

    Returns: a number within the range of the measure, never NaN; 1 if x and y are the same.

    Raises:
        BadInput: not two arrays of as many frames, fewer than two frames, nothing that varies, NaN or infinite values.
        BadOption: an unknown measure or option.

    Warns:
        RankWarning: few frames for the width, or nodes with fewer directions than units.
    """
    choose("measure", measure, MEASURES)
    comparison = Comparison([measure], [("x", "y")], **options)
    comparison.update({"x": x, "y": y})
    found = comparison.read()
    warn(found.notes)
    return found.values[measure]["x", "y"]


def similarity_matrix(
    a: Array | Mapping[str, Array],
    b: Array | Mapping[str, Array] | None = None,
    measures: Iterable[str] | str = ("cka", "svcca"),
    interval: str | float | None = None,
    baseline: str | None = None,
    *,
    lengths: Sequence[int] | None = None,
    preset: str | None = None,
    folds: int = FOLDS,
    repairings: int = REPAIRINGS,
    precision: str = "auto",
    sample: int | None = SAMPLE,
    seed: int = 0,
    **options: Any,
) -> xr.Dataset:
    """Similarities of every layer in `a` with every layer in `b`, or with every other layer in `a`.

    Args:
        a, b: an array `(frame, unit)`, or `(batch, frame, unit)` with `lengths`, or a mapping of layer names to such
            arrays; all with the same frames.
        measures: names in `MEASURES`.
        interval: "jackknife", or the level of the intervals (0.95 otherwise): what the values become when parts of the
            utterances are left out.
        baseline: "permutation": what the values are when each utterance is paired with another one.
        lengths: frames of each utterance. Left out, the frames are taken in stretches of a twentieth, for intervals
            and baseline, which is too kind where a stretch holds a single sound.
        preset: "ollerenshaw2021" or "ollerenshaw2021-code": layers treated as that paper's text or its authors' code
            does (docs/measures/presets.md); the recommended way when left out.
        folds: parts of the utterances for the interval; as many as utterances where these are fewer.
        repairings: how often utterances are paired anew for the baseline.
        precision, sample, seed: see `Comparison`.
        options: of the measures.

    Returns: a Dataset with a variable `(layer, other_layer)` per measure; for asymmetric measures the first node is
        `layer`. With an interval also `<measure>_interval` `(layer, other_layer, bound)`, with a baseline
        `<measure>_baseline` `(layer, other_layer, repairing)`; with SVCCA `kept` `(layer,)` and, where `b` is given,
        `other_kept` `(other_layer,)`. Its attributes are `frames`, `utterances`, `settings` (JSON),
        `otoscope_version` and `notes` (one a line).

    Raises and warns as `similarity` does.
    """
    if isinstance(a, Mapping) and not a:
        raise BadInput("there are no layers to compare", got="an empty mapping", wanted="at least one: (frame, unit)")
    level = level_of(interval)
    if baseline is not None:
        choose("baseline", baseline, ("permutation",))
    way = PRESETS[choose("preset", preset, PRESETS)] if preset is not None else None
    measures, options = with_preset(way, measures, options)
    layers, others, nodes = _named_nodes(a, b)
    if way is not None:
        nodes, lengths = _read_as(way, nodes, lengths)
    pairs = list(product(layers.values(), others.values()))
    notes = []
    if lengths is None and (level or baseline):
        first = np.asarray(next(iter(nodes.values())))
        if first.ndim == 2:
            lengths = [len(part) for part in np.array_split(np.arange(len(first)), min(FOLDS, max(len(first) // 2, 1)))]
            notes.append(f"no lengths were given: the frames are taken in {len(lengths)} stretches, not in utterances")
    count = len(lengths) if lengths is not None else len(next(iter(nodes.values())))
    comparison = Comparison(
        measures,
        pairs,
        folds=max(min(folds, count), 2) if level else 0,
        repairings=max(min(repairings, count - 1), 1) if baseline else 0,
        precision=precision,
        sample=sample,
        level=level or LEVEL,
        seed=seed,
        **options,
    )
    comparison.update(nodes, lengths)
    found = comparison.read()
    warn(found.notes)
    found.remarks = (*found.remarks, *notes, *([way.words] if way else []))
    return _dataset(comparison, found, layers, others, with_other=b is not None)


def level_of(interval: str | float | None) -> float | None:
    """The level of the intervals that were asked for; None for none. Raises `BadOption` for what is no level."""
    if interval is None:
        return None
    if isinstance(interval, str):
        choose("interval", interval, ("jackknife",))
        return LEVEL
    if not 0 < interval < 1:
        raise BadOption("an interval has a level", got=interval, wanted='"jackknife", or between 0 and 1, as 0.95')
    return float(interval)


def with_preset(
    way: Preset | None, measures: Iterable[str] | str, options: dict[str, Any]
) -> tuple[Iterable[str] | str, dict[str, Any]]:
    """Measures and options under a preset: the code of the paper calls plain CCA what its text calls SVCCA."""
    if way is None or way.threshold is None:
        return measures, options
    wanted = [measures] if isinstance(measures, str) else list(measures)
    return wanted, ({"threshold": way.threshold} if "svcca" in wanted else {}) | options


def _named_nodes(
    a: Array | Mapping[str, Array], b: Array | Mapping[str, Array] | None
) -> tuple[dict[str, str], dict[str, str], dict[str, Array]]:
    """Layer names to node names, of both sides, and the arrays of the nodes. A layer may have the same name in both."""
    first = _named(a, "a")
    if b is None:
        layers = others = {layer: layer for layer in first}
        nodes = first
    else:
        second = _named(b, "b")
        layers, others = {layer: f"{layer} of a" for layer in first}, {layer: f"{layer} of b" for layer in second}
        nodes = {layers[k]: v for k, v in first.items()} | {others[k]: v for k, v in second.items()}
    return layers, others, nodes


def _read_as(
    way: Preset, nodes: Mapping[str, Array], lengths: Sequence[int] | None
) -> tuple[dict[str, Array], Sequence[int] | None]:
    """The nodes as a preset reads them: with flat layers each value of a frame is a frame of its own."""
    padded = any(getattr(array, "ndim", 2) == 3 for array in nodes.values())
    arrays, counts = valid_frames(nodes, lengths, None, LARGEST)
    same = same_width(arrays, flat=way.flat)
    values = max(array.shape[1] for array in arrays.values()) if way.flat else 1
    return dict(same), [count * values for count in counts] if lengths is not None or padded else None


def _named(arrays: Array | Mapping[str, Array], name: str) -> dict[str, Array]:
    found = {str(k): v for k, v in arrays.items()} if isinstance(arrays, Mapping) else {name: arrays}
    # What comes as lists is an array too.
    return {k: np.asarray(v) if isinstance(v, (list, tuple)) else v for k, v in found.items()}


def _dataset(
    comparison: Comparison, found: Findings, layers: Mapping[str, str], others: Mapping[str, str], *, with_other: bool
) -> xr.Dataset:
    dims = ("layer", "other_layer")
    dataset = xr.Dataset(
        coords={"layer": list(layers), "other_layer": list(others)},
        attrs={
            "frames": comparison.frames,
            "utterances": comparison.utterances,
            "settings": json.dumps(comparison.settings, default=repr),
            "otoscope_version": importlib.metadata.version("otoscope"),
            "notes": "\n".join([*found.notes, *found.remarks]),
        },
    )

    def table(values: Mapping[PairName, Any]) -> np.ndarray:
        return np.array([[values[k, o] for o in others.values()] for k in layers.values()])

    for name, measure in comparison.measures.items():
        dataset[name] = (dims, table(found.values[name]), describe(measure))
        if name in found.intervals:
            attrs = {"long_name": "jackknife interval over utterances", "level": comparison.level}
            bounds = table(found.intervals[name])
            dataset[f"{name}_interval"] = ((*dims, "bound"), bounds, attrs | {"folds": comparison.folds})
        if name in found.baseline:
            attrs = {"long_name": "with utterances re-paired"}
            dataset[f"{name}_baseline"] = ((*dims, "repairing"), table(found.baseline[name]), attrs)
    if found.intervals:
        dataset = dataset.assign_coords(bound=["low", "high"])
    if "svcca" in comparison.measures:
        attrs = {"long_name": "principal directions kept by svcca"}
        dataset["kept"] = ("layer", [found.kept[node] for node in layers.values()], attrs)
        if with_other:
            dataset["other_kept"] = ("other_layer", [found.kept[node] for node in others.values()], attrs)
    return dataset


def describe(measure: Measure) -> dict[str, Any]:
    """What a variable of this measure should say of itself."""
    return {"formula": measure.formula, "source": measure.source, "range": list(measure.range), "units": "1"}
