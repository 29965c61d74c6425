"""Is similarity related to how well networks recognise? The question of Ollerenshaw et al. 2021, with an interval.

And the same on speech of other kinds, noisy or from elsewhere, which they leave to future work.
"""

from __future__ import annotations

import importlib.metadata
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from otoscope.base import BadInput, Progress, choose, fingerprint, silent
from otoscope.hear.corpus import Utterance
from otoscope.reduce.intervals import LEVEL
from otoscope.reduce.measures import chosen_measures
from otoscope.reduce.performance import rank_correlation
from otoscope.reduce.similarity import level_of
from otoscope.study.compare import compare
from otoscope.study.recogniser import score_recogniser
from otoscope.study.representations import open_networks
from otoscope.study.speech import Speech, heard_by

KINDS = {
    "adjacent": "mean similarity of neighbouring layers of the network",
    "others": "mean similarity of each layer with its nearest layer in every other network",
}


def similarity_and_performance(
    networks_or_runs: Any,
    conditions: Mapping[str, Iterable[Utterance] | Speech],
    *,
    similarity: str = "adjacent",
    measure: str = "cka_debiased",
    layers: Any = "*",
    level: float = LEVEL,
    batch_size: int = 16,
    seed: int = 0,
    progress: Progress = silent,
    **options: Any,
) -> xr.Dataset:
    """How similar a network's layers are against its word error rate, over a set of networks.

    Args:
        networks_or_runs: at least three, as for `otoscope.compare`; runs at their last epoch.
        conditions: speech with transcripts by name, such as `{"clean": corpus, "10 dB": noisy(corpus, 10)}`.
        similarity: `"adjacent"` (the paper's Figure 1: neighbouring layers of one network) or `"others"` (with the
            other networks: do good networks come to the same solution?).
        measure: a name in `otoscope.reduce.measures.MEASURES`.
        layers: which layers, as for `otoscope.compare`.
        level: of the interval of the rank correlation, by bootstrap over networks.
        batch_size, options: as for `otoscope.compare`.
        seed: of the bootstrap.
        progress: called after each network that was scored.

    Returns:
        Dataset with `similarity` and `wer` (percent) `(condition, network)`, `rank_correlation` (Spearman's, between
        the two; below 0: the better, the more similar), `rank_correlation_interval` `(condition, bound)` and `p`
        (permutation test) `(condition,)`; attributes `words` (the findings in words, a condition a line),
        `frames`, `utterances`, `reference_words` and the hash of the `corpus` of each condition, `checkpoints`.

    Raises:
        BadInput: fewer than three networks, a condition without transcripts. BadOption: an unknown kind or measure.
    """
    choose("kind of similarity", similarity, KINDS)
    chosen_measures(measure)
    level_of(level)
    listeners = open_networks(networks_or_runs, layers, None)
    if len(listeners) < 3:
        raise BadInput("a rank correlation takes networks", got=f"{len(listeners)}", wanted="at least 3")
    names = [listener.network for listener in listeners]
    shape = (len(conditions), len(names))
    values, errors = np.full(shape, np.nan), np.full(shape, np.nan)
    ranks, bounds, p = np.full(len(conditions), np.nan), np.full((len(conditions), 2), np.nan), []
    words, frames, utterances, spoken, corpora, done = [], [], [], [], [], 0
    for row, (condition, corpus) in enumerate(conditions.items()):
        speech = heard_by(listeners[0].module, corpus)
        if not any(utterance.text for utterance in speech.utterances):
            raise BadInput(f"nothing says what was spoken in {condition!r}", wanted="utterances with text")
        for column, listener in enumerate(listeners):
            total = score_recogniser(listener.module, speech)["total"].as_dict()
            errors[row, column] = np.nan if total["wer"] is None else total["wer"]
            done += 1
            progress(done, values.size, f"{condition}: {listener.network} scored")
        modules = {listener.network: listener.module for listener in listeners}
        chosen = {listener.network: [str(layer) for layer in listener.layers] for listener in listeners}
        found = compare(modules, speech, layers=chosen, measures=[measure], batch_size=batch_size, **options)
        values[row] = _summary(found[measure].isel(epoch=0, other_epoch=0), chosen, similarity)
        rank = rank_correlation(values[row], errors[row], level=level, seed=seed)
        ranks[row], bounds[row] = rank.spearman, (rank.low, rank.high)
        p.append(rank.p)
        words.append(f"{condition}: {rank}")
        frames.append(found.attrs["frames"])
        utterances.append(found.attrs["utterances"])
        spoken.append(int(total["words"]))
        corpora.append(found.attrs["corpus"])
    return xr.Dataset(
        {
            "similarity": (("condition", "network"), values, {"long_name": f"{measure}, {KINDS[similarity]}"}),
            "wer": (("condition", "network"), errors, {"units": "percent", "long_name": "word error rate"}),
            "rank_correlation": ("condition", ranks, {"long_name": "Spearman's rank correlation"}),
            "rank_correlation_interval": (("condition", "bound"), bounds, {"level": level}),
            "p": ("condition", p, {"long_name": "permutation test"}),
        },
        coords={"condition": list(conditions), "network": names, "bound": ["low", "high"]},
        attrs={
            "words": "\n".join(words),
            "frames": frames,
            "utterances": utterances,
            "reference_words": spoken,
            "level": level,
            "corpus": corpora,
            "checkpoints": [fingerprint(each.checkpoint) for each in listeners if each.checkpoint],
            "settings": json.dumps({"similarity": similarity, "measure": measure, **options}, default=repr),
            "otoscope_version": importlib.metadata.version("otoscope"),
        },
    )


def _summary(found: xr.DataArray, layers: Mapping[str, Sequence[str]], kind: str) -> list[float]:
    """One number for each network."""
    means = []
    for name, own in layers.items():
        if kind == "adjacent":
            mine = found.sel(network=name, other_network=name)
            pairs = [float(mine.sel(layer=a, other_layer=b)) for a, b in itertools.pairwise(own)]
            means.append(float(np.mean(pairs)) if pairs else float("nan"))
            continue
        rows = found.sel(network=name, layer=list(own))
        others = [rows.sel(other_network=other).max("other_layer").mean() for other in layers if other != name]
        means.append(float(np.mean(others)))
    return means
