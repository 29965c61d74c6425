"""A run through its training: when each layer came to what it is, what it came to represent, and which layers are ill.

One pass over the speech, in which each checkpoint runs once on each batch.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from otoscope.base import BadOption, Progress, silent
from otoscope.hear.corpus import Utterance
from otoscope.learn.checkpoint import Run, open_run
from otoscope.reduce.comparison import FOLDS, REPAIRINGS
from otoscope.reduce.pathology import find_pathologies
from otoscope.study.nodes import MEL
from otoscope.study.plan import MEASURES, make_plan
from otoscope.study.probes import ProbePass
from otoscope.study.representations import Listener, open_networks
from otoscope.study.speech import Speech
from otoscope.study.training_tables import (
    add_convergence,
    add_health,
    add_matrix,
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
    listeners = open_networks({run.folder.resolve().name: run}, layers, epochs)
    if len(listeners) < 2:
        wanted = "at least two; otoscope.compare looks at one"
        raise BadOption("training takes epochs", got=f"{len(listeners)} of {sorted(run.checkpoints)}", wanted=wanted)
    plan = make_plan(
        listeners,
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
    curves, last = curve_pairs(listeners, nodes), listeners[-1]
    matrix = [(str(a), str(b)) for a, b in itertools.product(last.representations, repeat=2)]
    in_curves = list(dict.fromkeys(pair for pairs in curves.values() for pair in pairs))
    along = plan.comparison(in_curves, folds=plan.folds)
    end = plan.comparison(matrix, folds=plan.folds, repairings=plan.repairings)
    untrained = plan.comparison(matrix)
    ends = [str(representation) for representation in last.representations]
    probes = ProbePass([*ends, MEL], plan.labels, plan.speech)
    for heard in plan.hear(probes, [last], progress):
        along.update({**_by_layer(listeners, heard.layers), **heard.nodes}, heard.lengths, keys=heard.keys)
        end.update({name: heard.layers[name] for name in ends}, heard.lengths, keys=heard.keys)
        if plan.random:
            untrained.update(heard.random, heard.lengths, keys=heard.keys)
    found, ending = along.read(), end.read()
    result = lay_out_curves(found, curves, listeners, nodes, along)
    add_matrix(result, ending, last, end)
    if plan.random:
        dims = ("measure", "layer", "other_layer")
        values = square(untrained.read().values, last)
        result["matrix_random"] = (dims, values, {"long_name": "of a network with random weights"})
    add_convergence(result, found, curves, along)
    add_health(result, listeners, [along])
    if probes.probes:
        probes.add_to(result, ("layer",), {name: (row,) for row, name in enumerate(ends)}, plan.probability)
    result.attrs |= plan.attributes(along, [*found.notes, *ending.notes, *found.remarks])
    result.attrs |= {
        "level": along.level,
        "folds": along.folds,
        "pathologies": "\n".join(map(str, find_pathologies(result))),
        "run": run.folder.name,
    }
    return result


def _by_layer(listeners: Sequence[Listener], values: Mapping[str, Any]) -> dict[str, Any]:
    """The epochs of a layer beside each other, so that their products are formed together."""
    by_layer = zip(*(listener.representations for listener in listeners), strict=True)
    return {str(each): values[str(each)] for representations in by_layer for each in representations}
