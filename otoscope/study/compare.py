"""Layers compared with layers: of one network or several, at one epoch or several, and with the input and labels.

One pass over the speech: every network runs once on each batch, and each pair of nodes adds to running sums. Every
measure, interval and baseline is read out of these.
"""

from __future__ import annotations

import copy
import importlib.metadata
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import combinations_with_replacement, product
from typing import Any

import torch
import xarray as xr
from torch import nn

from otoscope.base import BadOption, Progress, choose, derive_seed, fingerprint, silent
from otoscope.hear.corpus import Utterance, corpus_fingerprint
from otoscope.reduce.comparison import FOLDS, REPAIRINGS, Comparison
from otoscope.reduce.intervals import LEVEL
from otoscope.reduce.measures import chosen_measures
from otoscope.reduce.readout import warn
from otoscope.reduce.resize import PRESETS
from otoscope.reduce.similarity import level_of, with_preset
from otoscope.study.nodes import MEL, find_labels, mel_frames, node_frames
from otoscope.study.pair_tables import PAIR_DIMS, add_probes, lay_out, pair_table
from otoscope.study.probes import ProbePass
from otoscope.study.representations import Listener, Reading, hear, open_networks, points_a_frame
from otoscope.study.speech import Speech, heard_by

MEASURES = ("svcca", "cka")
BASELINES = ("permutation", "random")
# Running sums of so many pairs need this much memory at most, unless the caller chooses fewer.
MOST_BYTES = 8 * 2**30


def compare(
    networks_or_runs: Any,
    corpus: Iterable[Utterance] | Speech,
    *,
    layers: Any = "*",
    nodes: Sequence[str] = (),
    measures: Iterable[str] | str = MEASURES,
    epochs: str | Sequence[int] | None = None,
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
    """Similarity of every layer of every network at every chosen epoch with every other, on the same speech.

    Args:
        networks_or_runs: a torch module, a run (or its folder), a checkpoint's file; a list of these, or a mapping of
            names to them. All must take the same features.
        corpus: the speech that every network hears; padding is left out.
        layers: names, globs, or `"*"` for the network's own layers; a mapping gives them by network.
        nodes: what else every layer is compared with: `"mel"` (the input), `"phone"`, `"word"`, `"speaker"`, any tier
            or attribute of the utterances as one-hot vectors.
        measures: names of measures (see `otoscope.reduce.measures.MEASURES`).
        epochs: which checkpoints of runs: numbers, `"all"`, or the last one when left out.
        interval: `"jackknife"` over utterances, or the level of such intervals (0.95 otherwise).
        baseline: `"permutation"` (each utterance paired with another), `"random"` (the same networks with random
            weights), or both.
        align: layers of other frame rates are averaged to the coarsest (`"pool"`) or interpolated to the finest.
        maps: neurons of two-dimensional convolutional maps: `"units"` (each channel at each frequency) or `"channels"`
            (every point of frame × frequency is a data point).
        preset: `"ollerenshaw2021"` or `"ollerenshaw2021-code"`: layers treated as in that paper's text or its authors'
            code; the recommended way when left out.
        folds, repairings: parts of the utterances for the interval, re-pairings for the baseline.
        precision: of the products, see `Moments`.
        seed: of the random networks and of samples of frames.
        batch_size: utterances in a batch.
        strict: raise at the first unusable recording, instead of leaving it out.
        progress: called after each batch.
        options: of the measures.

    Returns:
        Dataset with a variable per measure over `(network, epoch, layer, other_network, other_epoch, other_layer)`;
        NaN where a network has no such layer or epoch (epoch -1: not from a run). With nodes `<measure>_node`
        `(network, epoch, layer, node)`; with intervals `<…>_interval` `(…, bound)`; with baselines `<…>_baseline`
        `(…, repairing)` and `<measure>_random`. With label nodes and several speakers `probe`
        `(network, epoch, layer, node)`, the accuracy of a linear probe on held-out speakers (`probe_interval`),
        `probe_input` `(node,)`, that of the mel input, and `probe_chance` `(node,)`.
        Attributes: `frames`, `utterances`, `left_out`, `notes`, `settings`, the corpus' and the checkpoints' hashes.

    Raises:
        BadCheckpoint, BadInput, BadOption: no network, no usable speech, an unknown layer, node, measure or epoch.
    """
    level = level_of(interval)
    baselines = [baseline] if isinstance(baseline, str) else list(baseline or ())
    for each in baselines:
        choose("baseline", each, BASELINES)
    listeners = open_networks(networks_or_runs, layers, epochs)
    speech = heard_by(listeners[0].module, corpus, strict=strict)
    for listener in listeners[1:]:
        # One input for all: those that take other features are refused by name.
        heard_by(listener.module, speech)
    reading = make_reading(listeners, align, maps, preset)
    if reading.preset is not None:
        speech = controlled_input(speech, reading)
    measures, options = with_preset(reading.preset, measures, options)
    everything = [representation for listener in listeners for representation in listener.representations]
    labels = find_labels(nodes, speech)
    one_way = all(measure.symmetric for measure in chosen_measures(measures).values())
    wanted = combinations_with_replacement(everything, 2) if one_way else product(everything, everything)
    pairs = [(str(a), str(b)) for a, b in wanted]
    pairs += [(str(representation), name) for representation in everything for name in nodes]
    check_memory(listeners, pairs, (folds if level else 0) + (repairings if "permutation" in baselines else 0))
    settings: dict[str, Any] = {"precision": precision, "seed": seed, **options}
    comparison = Comparison(
        measures,
        pairs,
        folds=min(folds, len(speech)) if level else 0,
        repairings=min(repairings, min(batch_size, len(speech)) - 1) if "permutation" in baselines else 0,
        level=level or LEVEL,
        **settings,
    )
    untrained = Comparison(measures, [pair for pair in pairs if pair[1] not in nodes], **settings)
    random = with_random_weights(listeners, seed) if "random" in baselines else []
    probes = ProbePass([*map(str, everything), MEL], labels, speech)
    total, done = sum(-(-len(part) // batch_size) for part in probes.order), 0
    for among in probes.order:
        for batch in hear([*listeners, *random], speech, reading, batch_size, among):
            points = points_a_frame(batch)
            lengths = [length * points for length in batch.lengths]
            heard = {str(each): batch.values[each] for each in everything}
            numbers = {name: label.numbers(batch) for name, label in labels.items()}
            mel = mel_frames(batch, speech)
            if points == 1:
                probes.update(batch, {**heard, MEL: mel}, numbers)
            others = node_frames(nodes, labels, numbers, mel, points)
            comparison.update({**heard, **others}, lengths, keys=batch.indices)
            if random:
                shadows = [r for listener in random for r in listener.representations]
                twins = {str(e): batch.values[s] for e, s in zip(everything, shadows, strict=True)}
                untrained.update(twins, lengths, keys=batch.indices)
            done += 1
            progress(done, total, f"{len(listeners)} networks, {comparison.frames} frames")
    found = comparison.read()
    result = lay_out(comparison, found, everything, nodes)
    if random:
        for name, values in untrained.read().values.items():
            table = pair_table(result, everything, values)
            result[f"{name}_random"] = (PAIR_DIMS, table, {"long_name": "of networks with random weights"})
    if probes.probes:
        add_probes(result, probes, everything, nodes, level or LEVEL)
    rare = [f"{each.left_out} rarer labels of {name!r} are left out" for name, each in labels.items() if each.left_out]
    notes = [*found.notes, *found.remarks, *reading.words(listeners), *rare]
    warn(found.notes)
    result.attrs |= {
        "frames": comparison.frames,
        "utterances": comparison.utterances,
        "left_out": len(speech.problems),
        "notes": "; ".join(notes),
        "settings": json.dumps({**comparison.settings, "align": align, "maps": maps, "preset": preset}, default=repr),
        "corpus": corpus_fingerprint(speech.utterances),
        "checkpoints": [fingerprint(listener.checkpoint) for listener in listeners if listener.checkpoint],
        "otoscope_version": importlib.metadata.version("otoscope"),
    }
    return result


def make_reading(listeners: Sequence[Listener], align: str, maps: str, preset: str | None) -> Reading:
    """How layers are read; a preset interpolates all to the widest."""
    way = None if preset is None else PRESETS[choose("preset", preset, PRESETS)]
    width = max(layer.width for listener in listeners for layer in listener.layers) if way else None
    return Reading(align, maps, way, width)


def controlled_input(speech: Speech, reading: Reading) -> Speech:
    """The one input of so many frames that a preset wants: the start of the first utterance that is as long."""
    wanted = reading.preset.frames if reading.preset else None
    if wanted is None:
        return speech
    for utterance, features in zip(speech.utterances, speech.features, strict=True):
        if len(features) >= wanted:
            return Speech([utterance], [features[:wanted]], speech.problems)
    longest = max(len(features) for features in speech.features)
    raise BadOption("no utterance is as long as the preset's input", got=f"{longest} frames", wanted=f"{wanted}")


def check_memory(listeners: Sequence[Listener], pairs: Sequence[tuple[str, str]], times: int) -> None:
    """Raises `BadOption` where the sums of these pairs, kept so many times, would not fit."""
    widths = {
        str(name): layer.width
        for listener in listeners
        for name, layer in zip(listener.representations, listener.layers, strict=True)
    }
    numbers = sum(widths.get(a, 0) * widths.get(b, 100) for a, b in pairs)
    size = 8 * numbers * max(times, 1)
    if size > MOST_BYTES:
        raise BadOption(
            f"the sums of {len(pairs)} pairs of layers do not fit into memory",
            got=f"{size / 2**30:.0f} GiB" + (f" for {times} folds and re-pairings" if times else ""),
            wanted=f"at most {MOST_BYTES / 2**30:.0f} GiB",
            remedy="choose fewer layers or epochs, fewer folds, or compare through training (through_training)",
        )


def with_random_weights(listeners: Sequence[Listener], seed: int) -> list[Listener]:
    """The same networks, every module that can reset its parameters reset; drawn from `seed` and the network's name."""
    twins: list[Listener] = []
    made: dict[str, nn.Module] = {}
    for listener in listeners:
        if listener.network not in made:
            module = copy.deepcopy(listener.module)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(derive_seed(seed, "random weights", listener.network))
                for part in module.modules():
                    reset = getattr(part, "reset_parameters", None)
                    if callable(reset):
                        reset()
            made[listener.network] = module.eval()
        # Its representations must not share names with those of the network itself.
        name = f"{listener.network} with random weights"
        twins.append(replace(listener, network=name, module=made[listener.network], checkpoint=None))
    return twins
