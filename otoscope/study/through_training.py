"""A run through its training: when each layer came to what it is, what it came to represent, and which layers are ill.

One pass over the speech, in which each checkpoint runs once on each batch.
"""

from __future__ import annotations

import importlib.metadata
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from otoscope.base import BadOption, Progress, choose, fingerprint, silent
from otoscope.hear.corpus import Utterance, corpus_fingerprint
from otoscope.learn.checkpoint import Run, open_run
from otoscope.reduce.comparison import FOLDS, REPAIRINGS, Comparison
from otoscope.reduce.intervals import LEVEL
from otoscope.reduce.pathology import find_pathologies
from otoscope.reduce.similarity import level_of, with_preset
from otoscope.study.compare import (
    BASELINES,
    MEASURES,
    check_memory,
    controlled_input,
    make_reading,
    with_random_weights,
)
from otoscope.study.nodes import MEL, find_labels, mel_frames, node_frames
from otoscope.study.probes import ProbePass
from otoscope.study.representations import Listener, Representation, hear, open_networks, points_a_frame
from otoscope.study.speech import Speech, heard_by
from otoscope.study.training_tables import (
    add_convergence,
    add_health,
    add_matrix,
    add_probes,
    curve_pairs,
    lay_out_curves,
    square,
)


def through_training(
    run: Run | Path | str,
    corpus: Iterable[Utterance] | Speech,
    *,
    layers: str | Sequence[str] = "*",
    nodes: Sequence[str] = (MEL,),
    measures: Iterable[str] | str = MEASURES,
    epochs: str | Sequence[int] = "all",
    interval: str | float | None = None,
    baseline: str | Sequence[str] | None = None,
    align: str = "pool",
    maps: str = "units",
    preset: str | None = None,
    folds: int = FOLDS,
    repairings: int = REPAIRINGS,
    precision: str = "auto",
    seed: int = 0,
    batch_size: int = 16,
    strict: bool = False,
    progress: Progress = silent,
    **options: Any,
) -> xr.Dataset:
    """Similarity of a run's layers through training, and of all layers with one another at its end.

    Args:
        run: a training run with its checkpoints.
        corpus: the speech that every checkpoint hears; padding is left out.
        epochs: which checkpoints, at least two: numbers, or all.
        the others: as of `otoscope.compare`.

    Returns:
        Dataset with `to_last`, `to_next`, `to_first` and `across` `(measure, layer, epoch)` (`across`: the epoch before
        with the one after; NaN where there is no such epoch), `to_node` `(measure, layer, epoch, node)`, `matrix`
        `(measure, layer, other_layer)` at the last epoch, `converged` `(measure, layer)`, the first epoch from which
        `to_last` stays within 0.05 of its final value, `bottom_up` `(measure,)`, the rank correlation of depth with
        that epoch, `weight_change` and `constant_units` `(layer, epoch)`, `units` `(layer,)`, and with SVCCA `kept`
        `(layer, epoch)`. With label nodes and several speakers also `probe` `(layer, node)`, the accuracy of a linear
        probe on held-out speakers, `probe_input` `(node,)`, that of the mel input, and `probe_chance` `(node,)`. With
        intervals `<name>_interval` `(…, bound)`, with baselines `matrix_baseline` `(…, repairing)` and `matrix_random`.
        Attributes: `frames`, `utterances`, `notes`, `pathologies` (a finding a line), the corpus' and the
        checkpoints' hashes.

    Raises:
        BadCheckpoint, BadInput, BadOption: no run, no usable speech, an unknown layer, node, measure or epoch.
    """
    run = run if isinstance(run, Run) else open_run(run)
    level = level_of(interval)
    baselines = [baseline] if isinstance(baseline, str) else list(baseline or ())
    for each in baselines:
        choose("baseline", each, BASELINES)
    listeners = open_networks({run.folder.resolve().name: run}, layers, epochs)
    if len(listeners) < 2:
        wanted = "at least two; otoscope.compare looks at one"
        raise BadOption("training takes epochs", got=f"{len(listeners)} of {sorted(run.checkpoints)}", wanted=wanted)
    speech = heard_by(listeners[-1].module, corpus, strict=strict)
    reading = make_reading(listeners, align, maps, preset)
    if reading.preset is not None:
        speech = controlled_input(speech, reading)
    measures, options = with_preset(reading.preset, measures, options)
    labels = find_labels(nodes, speech)
    curves = curve_pairs(listeners, nodes)
    last = listeners[-1]
    matrix = [(str(a), str(b)) for a, b in itertools.product(last.representations, repeat=2)]
    check_memory(listeners, [pair for pairs in curves.values() for pair in pairs] + matrix, folds if level else 0)
    settings: dict[str, Any] = {"precision": precision, "seed": seed, "level": level or LEVEL, **options}
    parts = min(folds, len(speech)) if level else 0
    along = Comparison(
        measures, list(dict.fromkeys(p for pairs in curves.values() for p in pairs)), folds=parts, **settings
    )
    turns = min(repairings, min(batch_size, len(speech)) - 1) if "permutation" in baselines else 0
    end = Comparison(measures, matrix, folds=parts, repairings=turns, **settings)
    random = with_random_weights([last], seed) if "random" in baselines else []
    untrained = Comparison(measures, matrix, **settings)
    probes = ProbePass([*map(str, last.representations), MEL], labels, speech)
    total, done = sum(-(-len(part) // batch_size) for part in probes.order), 0
    for among in probes.order:
        for batch in hear([*listeners, *random], speech, reading, batch_size, among):
            numbers = {name: label.numbers(batch) for name, label in labels.items()}
            heard = _ordered(listeners, batch.values)
            mel = mel_frames(batch, speech)
            points = points_a_frame(batch)
            others = node_frames(nodes, labels, numbers, mel, points)
            lengths = [length * points for length in batch.lengths]
            along.update({**heard, **others}, lengths, keys=batch.indices)
            end.update({str(r): batch.values[r] for r in last.representations}, lengths, keys=batch.indices)
            for listener in random:
                pairs_of = zip(last.representations, listener.representations, strict=True)
                untrained.update({str(r): batch.values[twin] for r, twin in pairs_of}, lengths, keys=batch.indices)
            if points == 1:
                probes.update(batch, {**heard, MEL: mel}, numbers)
            done += 1
            progress(done, total, f"{len(listeners)} checkpoints, {along.frames} frames")
    found, ending = along.read(), end.read()
    result = lay_out_curves(found, curves, listeners, nodes, along)
    add_matrix(result, ending, last, end)
    if random:
        values = untrained.read().values
        dims = ("measure", "layer", "other_layer")
        result["matrix_random"] = (dims, square(values, last), {"long_name": "of a network with random weights"})
    add_convergence(result, found, curves, along)
    add_health(result, listeners, along)
    if probes.probes:
        add_probes(result, probes, last, nodes, level or LEVEL)
    notes = list(dict.fromkeys([*found.notes, *ending.notes, *found.remarks]))
    notes += reading.words(listeners)
    result.attrs |= {
        "frames": along.frames,
        "utterances": along.utterances,
        "level": along.level,
        "folds": along.folds,
        "notes": "; ".join(notes),
        "pathologies": "\n".join(map(str, find_pathologies(result))),
        "settings": json.dumps({**along.settings, "align": align, "maps": maps, "preset": preset}, default=repr),
        "corpus": corpus_fingerprint(speech.utterances),
        "left_out": len(speech.problems),
        "run": run.folder.name,
        "checkpoints": [fingerprint(listener.checkpoint) for listener in listeners if listener.checkpoint],
        "otoscope_version": importlib.metadata.version("otoscope"),
    }
    return result


def _ordered(listeners: Sequence[Listener], values: Mapping[Representation, Any]) -> dict[str, Any]:
    """The epochs of a layer beside each other, so that their products are formed together."""
    by_layer = zip(*(listener.representations for listener in listeners), strict=True)
    return {str(r): values[r] for representations in by_layer for r in representations}
