"""Controls of GradNAPs beside the cascade of random weights: what labels, the choice of speech and chance would give.

- `shuffled_labels`: responsiveness of groups that mean nothing.
- `split_half`: the same profiles from two halves of the utterances.
- `random_silhouettes`: how distinct clusters are in a network that learned nothing.

All of them explain what `gradnap` explains; see `otoscope.study.explained` and `otoscope.study.cascade`.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from otoscope.base import BadInput, BadOption, Progress, derive_seed, silent
from otoscope.reduce.clusters import silhouettes
from otoscope.reduce.gradnap import ProfileSums
from otoscope.reduce.likeness import correlations, spearman_brown, standardised
from otoscope.reduce.profiles import Profiles
from otoscope.study.cascade import randomisation_order
from otoscope.study.explained import TABLES, Explained
from otoscope.study.random_weights import redraw

# Running sums of shuffled labels at once; more permutations than fit take more passes.
MOST_BYTES = 2**30


def shuffled_labels(
    task: Explained, *, permutations: int = 40, seed: int = 0, progress: Progress = silent
) -> xr.Dataset:
    """Responsiveness of every group against that of groups whose labels were shuffled.

    What is shuffled are *runs*: consecutive instances of an utterance that have the same label keep one label, for
    frames of one sound are not independent of each other. Runs without a label keep none.

    Returns:
        A Dataset: `responsiveness` `(layer, group)`, the mean over units of |r| (Krug et al. 2020, Eq. 1); `null`
        `(permutation, layer, group)`, the same of shuffled labels; `null_high` its 95 % quantile; `z`, the distance
        from its mean in its standard deviations; `p` `(layer, group)`, the share of permutations that reach the
        responsiveness, itself among them: at least 1 / (permutations + 1). Attribute `notes` in words.

    Raises:
        BadOption: fewer than one permutation.
    """
    if permutations < 1:
        raise BadOption("permutations of the labels", got=permutations, wanted="1 or more")
    names, drawn = [str(layer) for layer in task.layers], []
    per_pass = max(1, MOST_BYTES // _bytes_of_sums(task))
    observed = _mean_responsiveness(task.read(task.sums()), names)
    for first in range(0, permutations, per_pass):
        numbers = range(first, min(first + per_pass, permutations))
        rng = [np.random.default_rng(derive_seed(seed, "labels", number)) for number in numbers]
        columns = [shuffle_runs(task.predictions.utterance, task.members, each) for each in rng]
        size = len(task.groups)
        members = [torch.where(each >= 0, each + place * size, each) for place, each in enumerate(columns)]
        groups = [name.replace(":", f" shuffled {number}:", 1) for number in numbers for name in task.groups]
        shuffled = replace(task, groups=groups, members=torch.cat(members, 1))
        found = _mean_responsiveness(shuffled.read(shuffled.sums()), names)
        drawn.append(found.reshape(len(names), len(numbers), size).swapaxes(0, 1))
        progress(numbers.stop, permutations, "labels shuffled")
    null = np.concatenate(drawn)
    with np.errstate(invalid="ignore", divide="ignore"):
        p = (1 + (null >= observed * (1 - 1e-9)).sum(axis=0)) / (permutations + 1)
        z = (observed - null.mean(axis=0)) / null.std(axis=0, ddof=1) if permutations > 1 else np.nan * observed
    there, dims = np.isfinite(observed), ("layer", "group")
    result = xr.Dataset(
        {
            "responsiveness": (dims, observed),
            "null": (("permutation", *dims), null),
            "null_high": (dims, np.quantile(null, 0.95, axis=0)),
            "z": (dims, z),
            "p": (dims, np.where(there, p, np.nan)),
        },
        coords={"layer": names, "group": task.groups, "permutation": np.arange(permutations)},
        attrs={**task.facts, "seed": seed},
    )
    few = f"{permutations} permutations cannot show that anything is above 95 % of them: take 20 or more"
    notes = [few] if permutations < 20 else []
    for kind in dict.fromkeys(task.kinds):
        here = result["p"].sel(group=[name for name in task.groups if name.startswith(f"{kind}:")])
        total = int(here.notnull().any("layer").sum())
        counts = ", ".join(f"{layer} {int((here.sel(layer=layer) < 0.05).sum())}" for layer in names)
        notes.append(f"of {total} groups by {kind}, above 95 % of shuffled labels: {counts}")
    return result.assign_attrs(notes="\n".join(notes))


def shuffle_runs(utterance: Tensor, members: Tensor, rng: np.random.Generator) -> Tensor:
    """Hand the labels of each grouping out anew among its runs of one label within an utterance.

    Args:
        utterance: `(instance,)`; instances of an utterance stand together, in order of time.
        members: `(instance, grouping)`, -1 for none, which stays.
    """
    columns = []
    for labels in members.numpy().T:
        starts = np.ones(len(labels), dtype=bool)
        starts[1:] = (np.diff(labels) != 0) | (np.diff(utterance.numpy()) != 0)
        run, of_run = starts.cumsum() - 1, labels[starts]
        some = of_run >= 0
        of_run[some] = rng.permutation(of_run[some])
        columns.append(of_run[run])
    return torch.from_numpy(np.stack(columns, 1))


def split_half(task: Explained, *, folds: int = 4, seed: int = 0, progress: Progress = silent) -> xr.Dataset:
    """How reliable profiles are: those of two halves of the utterances, each less its own half's mean, correlated.

    Utterances are dealt into `folds` parts by `seed` and their ids; each way to make two halves of them is a split.
    One pass in all.

    Returns:
        A Dataset: `correlation` `(table, layer, group)`, the mean over the splits; `reliability` of the same shape,
        that of the whole from it (`otoscope.reduce.likeness.spearman_brown`); `instances` `(group,)`. The mask is
        reliable whatever the labels mean: a network's gradient is much the same for all instances of a symbol.

    Raises:
        BadOption: an odd number of folds. BadInput: fewer utterances than folds.
    """
    if folds < 2 or folds % 2:
        raise BadOption("parts that make two halves", got=folds, wanted="an even number")
    if len(task.speech) < folds:
        raise BadInput("too few utterances to split", got=f"{len(task.speech)}", wanted=f"at least {folds}")
    keys = [(derive_seed(seed, "folds", utterance.id), utterance.id) for utterance in task.speech.utterances]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    parts = []
    for fold in range(folds):
        parts.append(task.among(sorted(order[fold::folds])).sums())
        progress(fold + 1, folds, "parts of the utterances")
    names, found = [str(layer) for layer in task.layers], []
    # The first part is in the first half, so that no split is counted twice.
    for others in combinations(range(1, folds), folds // 2 - 1):
        first = {0, *others}
        halves = []
        for chosen in (first, set(range(folds)) - first):
            sums = ProfileSums(task.groups, **task.options)
            for part in sorted(chosen):
                sums.merge(parts[part])
            halves.append(task.tables(sums))
        one, other = halves
        found.append(
            [
                [correlations(*(standardised(half[name][table]) for half in (one, other))) for name in names]
                for table in TABLES
            ]
        )
    correlation = np.mean(found, axis=0)
    dims = ("table", "layer", "group")
    instances = [int((task.members == number).sum()) for number in range(len(task.groups))]
    return xr.Dataset(
        {
            "correlation": (dims, correlation),
            "reliability": (dims, spearman_brown(correlation)),
            "instances": ("group", instances),
        },
        coords={"table": list(TABLES), "layer": names, "group": task.groups},
        attrs={**task.facts, "splits": len(found), "seed": seed},
    )


def random_silhouettes(
    task: Explained, groupings: Sequence[str] | None = None, *, draws: int = 3, seed: int = 0,
    progress: Progress = silent,
) -> xr.Dataset:  # fmt: skip
    """Mean silhouettes of the network's clusters beside those of networks of its shape with random weights.

    Returns:
        A Dataset: `silhouette_mean` `(grouping, layer)` as `otoscope.reduce.clusters.silhouettes` has it; `random`
        `(draw, grouping, layer)`. One pass for the network and for each draw.

    Raises:
        BadOption, BadInput: as `silhouettes`; no module can reset its parameters; fewer than one draw.
    """
    if draws < 1:
        raise BadOption("networks with random weights", got=draws, wanted="1 or more")
    chosen = list(dict.fromkeys(task.kinds)) if groupings is None else list(groupings)
    steps, lasting = randomisation_order(task.network, task.survey)
    found = [silhouettes(task.read(task.sums()), chosen)["silhouette_mean"]]
    progress(1, draws + 1, "the network itself")
    for draw in range(draws):
        twin = copy.deepcopy(task.network).eval()
        redraw(twin, [name for step in steps for name in step[2]], derive_seed(seed, "draw", draw))
        found.append(silhouettes(task.read(task.sums(twin)), chosen)["silhouette_mean"])
        progress(draw + 2, draws + 1, "random weights")
    table = xr.Dataset({"silhouette_mean": found[0], "random": xr.concat(found[1:], "draw")})
    return table.assign_attrs(**task.facts, seed=seed, not_randomised=", ".join(lasting))


def _mean_responsiveness(profiles: Profiles, names: Sequence[str]) -> NDArray[Any]:
    """The mean over units of |r| `(layer, group)`; NaN for an empty group."""
    found = profiles.responsiveness()
    return np.stack([np.abs(found[name].values).mean(axis=1) for name in names])


def _bytes_of_sums(task: Explained) -> int:
    """Of one permutation: three tables in float64, and as much again while they are read out."""
    longest = max(task.speech.lengths)
    cells = 0
    for layer in task.layers:
        span = layer.frames(longest) if layer.cone is None else sum(layer.cone) + 1
        cells += layer.width * (2 * span - 1)
    return 2 * 3 * 8 * cells * len(task.groups)
