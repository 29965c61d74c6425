"""Layers compared with layers: through the checkpoints of a run, and with one another in the last.

One pass over the speech: every checkpoint runs once on each batch, and each pair of nodes adds its products to the
running sums. Every measure is read out of these.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from otoscope.base import BadOption, Progress, fingerprint, silent
from otoscope.hear.corpus import Utterance, corpus_fingerprint
from otoscope.learn.checkpoint import Run, load_checkpoint, open_run
from otoscope.probe.layers import Layer, as_frames, list_layers, match_layers
from otoscope.probe.taps import tap
from otoscope.reduce.dynamics import converged_from
from otoscope.reduce.moments import Moments
from otoscope.reduce.similarity import RankWarning, similarities
from otoscope.study.speech import Speech, heard_by, on_grid, unpadded

MEASURES = ("svcca", "cka")
TOLERANCE = 0.05


def compare(
    run: Run | Path | str,
    corpus: Iterable[Utterance] | Speech,
    *,
    layers: str | Sequence[str] = "*",
    measures: Sequence[str] = MEASURES,
    epochs: Sequence[int] | None = None,
    batch_size: int = 16,
    strict: bool = False,
    progress: Progress = silent,
) -> xr.Dataset:
    """Similarity of a run's layers through training, and of all layers with one another at its end.

    Args:
        run: a training run with its checkpoints.
        corpus: the speech that every checkpoint hears; padding is left out.
        layers: names, globs, or `"*"` for the network's own layers.
        measures: names of measures (see `otoscope.reduce.similarity.MEASURES`).
        epochs: which checkpoints; all that the run has.
        batch_size: utterances in a batch.
        strict: raise at the first unusable recording, instead of leaving it out.
        progress: called after each batch.

    Returns:
        Dataset with `to_last` and `to_next` `(measure, layer, epoch)` (the last epoch has no next: NaN), `matrix`
        `(measure, layer, other_layer)` for the last epoch, `converged` `(measure, layer)`, the first epoch from which
        `to_last` stays within 0.05 of its final value, and `kept` `(layer, epoch)`, the directions that SVCCA kept.
        Layers of different frame rates are brought to the coarsest by averaging. Attributes: `frames`, `utterances`,
        `notes`, the corpus' and the checkpoints' hashes.

    Raises:
        BadCheckpoint, BadInput, BadOption: no run, no usable speech, an unknown layer, measure or epoch.
    """
    run = run if isinstance(run, Run) else open_run(run)
    chosen = sorted(run.checkpoints) if epochs is None else sorted(set(epochs))
    missing = [epoch for epoch in chosen if epoch not in run.checkpoints]
    if missing or not chosen:
        raise BadOption("the run has no such epochs", got=missing or "none", wanted=f"among {sorted(run.checkpoints)}")
    networks = {epoch: load_checkpoint(run.checkpoints[epoch]) for epoch in chosen}
    speech = heard_by(networks[chosen[-1]], corpus, strict=strict)
    found = match_layers(list_layers(networks[chosen[-1]]), layers)
    moments = run_together(networks, speech, found, batch_size=batch_size, progress=progress)
    result = read_out(moments, chosen, found, measures)
    result.attrs |= {
        "corpus": corpus_fingerprint(speech.utterances),
        "left_out": len(speech.problems),
        "run": run.folder.name,
        "checkpoints": [fingerprint(run.checkpoints[epoch]) for epoch in chosen],
    }
    return result


def node(epoch: int, layer: str) -> str:
    """The name of one layer at one epoch among the nodes of the running sums."""
    return f"{epoch}/{layer}"


def pairs_through_training(epochs: Sequence[int], layers: Sequence[str]) -> list[tuple[str, str]]:
    """Every layer with itself at the next and at the last epoch, and all layers with one another at the last."""
    last = epochs[-1]
    wanted: dict[tuple[str, str], None] = {}
    for layer in layers:
        for epoch, after in itertools.zip_longest(epochs, epochs[1:]):
            if after is not None:
                wanted[node(epoch, layer), node(after, layer)] = None
                wanted[node(epoch, layer), node(last, layer)] = None
    for layer, other in itertools.combinations(layers, 2):
        wanted[node(last, layer), node(last, other)] = None
    return list(wanted)


@torch.no_grad()
def run_together(
    networks: Mapping[int, nn.Module],
    speech: Speech,
    layers: Sequence[Layer],
    *,
    batch_size: int = 16,
    progress: Progress = silent,
) -> Moments:
    """The running sums of every checkpoint's layers on the same speech, and of the pairs that are compared."""
    moments = Moments(pairs=pairs_through_training(list(networks), layers))
    batches = -(-len(speech) // batch_size)
    for number, (indices, features, lengths) in enumerate(speech.batches(batch_size)):
        counts = {layer: [layer.frames(int(length)) for length in lengths] for layer in layers}
        grid = [min(counts[layer][row] for layer in layers) for row in range(len(indices))]
        heard: dict[str, Tensor] = {}
        for epoch, network in networks.items():
            with tap(network, layers) as taps:
                network(features, lengths)
            for layer in layers:
                rows = unpadded(as_frames(taps[layer], layer), counts[layer])
                heard[node(epoch, layer)] = torch.cat([on_grid(*pair) for pair in zip(rows, grid, strict=True)])
        moments.update(heard, utterances=len(indices))
        progress(number + 1, batches, f"{len(networks)} checkpoints, {moments.frames} frames")
    return moments


def read_out(moments: Moments, epochs: Sequence[int], layers: Sequence[str], measures: Sequence[str]) -> xr.Dataset:
    """The Dataset that `compare` describes, from the running sums."""
    with warnings.catch_warnings():
        # The notes go into the result, where they stay with the numbers.
        warnings.simplefilter("ignore", RankWarning)
        found = similarities(moments, measures, pairs_through_training(epochs, layers))
    last = epochs[-1]
    shape = (len(measures), len(layers), len(epochs))
    to_last, to_next = np.full(shape, np.nan), np.full(shape, np.nan)
    matrix = np.ones((len(measures), len(layers), len(layers)))
    for m, measure in enumerate(measures):
        values = found.values[measure]
        for (i, layer), (e, epoch) in itertools.product(enumerate(layers), enumerate(epochs)):
            if epoch == last:
                to_last[m, i, e] = 1.0
            else:
                to_last[m, i, e] = values[node(epoch, layer), node(last, layer)]
                to_next[m, i, e] = values[node(epoch, layer), node(epochs[e + 1], layer)]
        for (i, layer), (j, other) in itertools.combinations(enumerate(layers), 2):
            matrix[m, i, j] = matrix[m, j, i] = values[node(last, layer), node(last, other)]
    names, dims = list(map(str, layers)), ("measure", "layer", "epoch")
    variables: dict[str, Any] = {
        "to_last": (dims, to_last, {"long_name": f"similarity with epoch {last}"}),
        "to_next": (dims, to_next, {"long_name": "similarity with the next epoch"}),
        "matrix": (("measure", "layer", "other_layer"), matrix, {"long_name": f"similarity at epoch {last}"}),
    }
    if found.kept:
        kept = [[found.kept[node(epoch, layer)] for epoch in epochs] for layer in layers]
        variables["kept"] = (("layer", "epoch"), kept, {"long_name": "directions that hold 99 % of the variance"})
    result = xr.Dataset(
        variables,
        coords={"measure": list(measures), "layer": names, "other_layer": names, "epoch": list(epochs)},
        attrs={"frames": moments.frames, "utterances": moments.utterances, "notes": "; ".join(found.notes)},
    )
    return result.assign(converged=converged_from(result["to_last"], TOLERANCE))
