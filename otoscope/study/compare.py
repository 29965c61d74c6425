"""Layers compared with layers: of one network or several, at one epoch or several, and with the input and labels.

One pass over the speech: every network runs once on each batch, and each pair of nodes adds to running sums. Every
measure, interval and baseline is read out of these.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations_with_replacement, product
from typing import Any

import xarray as xr

from otoscope.base import Progress, silent
from otoscope.hear.corpus import Utterance
from otoscope.reduce.comparison import FOLDS, REPAIRINGS
from otoscope.reduce.measures import chosen_measures
from otoscope.reduce.readout import warn
from otoscope.study.nodes import MEL
from otoscope.study.pair_tables import DIMS, PAIR_DIMS, lay_out, pair_table, places_in
from otoscope.study.plan import MEASURES, make_plan
from otoscope.study.probes import ProbePass
from otoscope.study.representations import open_networks
from otoscope.study.speech import Speech


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
    plan = make_plan(
        open_networks(networks_or_runs, layers, epochs),
        corpus,
        nodes=nodes,
        measures=measures,
        options={"precision": precision, **options},
        interval=interval,
        baseline=baseline,
        align=align,
        maps=maps,
        preset=preset,
        folds=folds,
        repairings=repairings,
        seed=seed,
        batch_size=batch_size,
        strict=strict,
    )
    everything = [representation for listener in plan.listeners for representation in listener.representations]
    one_way = all(measure.symmetric for measure in chosen_measures(plan.measures).values())
    wanted = combinations_with_replacement(everything, 2) if one_way else product(everything, everything)
    of_layers = [(str(a), str(b)) for a, b in wanted]
    with_nodes = [(str(representation), name) for representation in everything for name in nodes]
    comparison = plan.comparison([*of_layers, *with_nodes], folds=plan.folds, repairings=plan.repairings)
    untrained = plan.comparison(of_layers)
    probes = ProbePass([*map(str, everything), MEL], plan.labels, plan.speech)
    for heard in plan.hear(probes, plan.listeners, progress):
        comparison.update({**heard.layers, **heard.nodes}, heard.lengths, keys=heard.keys)
        if plan.random:
            untrained.update(heard.random, heard.lengths, keys=heard.keys)
    found = comparison.read()
    result = lay_out(comparison, found, everything, nodes)
    if plan.random:
        for name, values in untrained.read().values.items():
            table = pair_table(result, everything, values)
            result[f"{name}_random"] = (PAIR_DIMS, table, {"long_name": "of networks with random weights"})
    if probes.probes:
        at = places_in(result)
        probes.add_to(result, DIMS, {str(each): at(each) for each in everything}, plan.probability)
    warn(found.notes)
    result.attrs |= plan.attributes(comparison, [*found.notes, *found.remarks])
    return result
