"""The numbers that the claims of Ollerenshaw et al. 2021 need, out of what was found of each run and network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import spearmanr

from otoscope.reduce.dynamics import bottom_up
from otoscope.reduce.performance import rank_correlation
from otoscope.study.insights_settings import CNN
from otoscope.study.series_tables import Row

CURVES = ("to_last", "to_next")
OUTPUT = "output"


def curves(runs: Mapping[int, xr.Dataset], last: int) -> xr.Dataset:
    """The curves of one network's seeds: `to_last` and `to_next` `(reading, measure, seed, layer, epoch)`.

    Epochs whose checkpoint is missing are NaN.
    """
    epochs = np.arange(last + 1)
    parts = [found[list(CURVES)].reindex(epoch=epochs) for found in runs.values()]
    joined = xr.concat(parts, pd.Index(list(runs), name="seed"), combine_attrs="drop", join="exact")
    return joined.transpose("reading", "measure", "seed", "layer", "epoch")


def convergence(networks: Mapping[str, Mapping[int, xr.Dataset]]) -> xr.Dataset:
    """`converged` `(network, reading, measure, seed, layer)`, and without layer `bottom_up` and `bottom_up_encoder`.

    The latter is without the output, whose place in the order is not the encoder's: of two layers it is 1, -1, or NaN
    where both converge at once. NaN: no such network, seed or layer.
    """
    layers, seeds = all_layers(networks), all_seeds(networks)
    parts = []
    for runs in networks.values():
        found = []
        for each in runs.values():
            encoder = bottom_up(each["converged"].drop_sel(layer=OUTPUT, errors="ignore")).drop_attrs()
            kept = each[["converged", "bottom_up"]].reindex(layer=layers)
            found.append(kept.assign(bottom_up_encoder=encoder))
        parts.append(xr.concat(found, pd.Index(list(runs), name="seed"), combine_attrs="drop").reindex(seed=seeds))
    result = xr.concat(parts, pd.Index(list(networks), name="network"), combine_attrs="drop")
    result["converged"].attrs["long_name"] = "epoch from which the similarity with the last stays above 0.95"
    result["bottom_up"].attrs["long_name"] = "rank correlation of depth with the epoch of convergence"
    result["bottom_up_encoder"].attrs["long_name"] = "the same without the output"
    return result


def sensitivity(networks: Mapping[str, Mapping[int, xr.Dataset]]) -> xr.Dataset:
    """How much the seed matters to the curves: `seed_sd` `(network, reading, measure, layer)`.

    The standard deviation over seeds of the similarity with the last epoch, mean over all epochs but the last, where it
    is 1; NaN with one seed.
    """
    parts = []
    for runs in networks.values():
        there = curves(runs, _last(runs))["to_last"].isel(epoch=slice(None, -1))
        spread = there.std("seed", ddof=1) if len(runs) > 1 else there.isel(seed=0, drop=True) * np.nan
        parts.append(spread.mean("epoch").reindex(layer=all_layers(networks)).rename("seed_sd"))
    return xr.concat(parts, pd.Index(list(networks), name="network")).to_dataset()


def shape(networks: Mapping[str, Mapping[int, xr.Dataset]]) -> xr.Dataset:
    """Whether SVCCA and CKA agree in shape: `agreement` and `distance` `(network, reading, seed, layer)`.

    Of the two curves to the last epoch, over all epochs but the last, where both are 1: Spearman's rank correlation,
    and the root mean square of their difference where each is stretched to go from 0 to 1. NaN where a curve does not
    vary, or has fewer than three epochs. All curves rise, so `agreement_elsewhere` and `distance_elsewhere` say what
    comes of that alone: the same with the CKA curves of the network's other layers, on average.
    """
    layers, seeds = all_layers(networks), all_seeds(networks)
    parts = []
    for runs in networks.values():
        there = curves(runs, _last(runs))["to_last"].isel(epoch=slice(None, -1))
        one = there.sel(measure="svcca", drop=True)
        other = there.sel(measure="cka", drop=True).rename(layer="other_layer")
        same = one["layer"] == other["other_layer"]
        found = {}
        for name, compared in (("agreement", _ranks), ("distance", _distance)):
            pairs = xr.apply_ufunc(compared, one, other, input_core_dims=[["epoch"], ["epoch"]], vectorize=True)
            found[name] = pairs.where(same).sum("other_layer", min_count=1)
            found[f"{name}_elsewhere"] = pairs.where(~same).mean("other_layer")
        parts.append(xr.Dataset(found).reindex(layer=layers, seed=seeds))
    return xr.concat(parts, pd.Index(list(networks), name="network"))


def _paired(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The values where both are known; None if they are fewer than three, or one of the two does not vary."""
    known = np.isfinite(one) & np.isfinite(other)
    one, other = one[known], other[known]
    return (one, other) if len(one) >= 3 and np.ptp(one) > 0 and np.ptp(other) > 0 else None


def _ranks(one: np.ndarray, other: np.ndarray) -> float:
    pair = _paired(one, other)
    return float(spearmanr(*pair).statistic) if pair else float("nan")


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    pair = _paired(one, other)
    if pair is None:
        return float("nan")
    first, second = ((each - each.min()) / np.ptp(each) for each in pair)
    return float(np.sqrt(np.mean((first - second) ** 2)))


def neighbours(found: Mapping[str, xr.Dataset]) -> xr.Dataset | None:
    """Figure 1: `adjacent` `(network, reading, measure, seed, stage, step)` of the CNNs, and shuffled; None: no two."""
    names = ("adjacent", "adjacent_shuffled")
    there = {network: each for network, each in found.items() if "adjacent" in each}
    if not there:
        return None
    steps = np.arange(1, max(each.sizes["step"] for each in there.values()) + 1)
    seeds = sorted({int(seed) for each in there.values() for seed in each["seed"].values})
    parts = [each[[n for n in names if n in each]].reindex(step=steps, seed=seeds) for each in there.values()]
    return xr.concat(parts, pd.Index(list(there), name="network"), combine_attrs="drop")


def solutions(found: Mapping[str, xr.Dataset], rows: Sequence[Row]) -> xr.Dataset | None:
    """Do better networks come to more similar solutions? None where no network has two seeds.

    Returns:
        `across_seeds` and, by chance, `across_seeds_shuffled` `(network, reading, measure, stage, layer)`, mean over
        pairs of seeds; `wer` `(network, condition)`; over the CNNs `rank` and `rank_p` `(place, reading, measure,
        condition)`, the rank correlation of similarity with word errors (below 0: the better, the more similar), where
        `place` is the mean of all convolutions, the first, or the deepest; NaN with fewer than three networks.
    """
    names = ("across_seeds", "across_seeds_shuffled")
    there = {network: each for network, each in found.items() if "across_seeds" in each}
    if not there:
        return None
    layers = ordered({str(layer) for each in there.values() for layer in each["layer"].values})
    parts = [
        each[[n for n in names if n in each]].mean(("seed", "other_seed")).reindex(layer=layers)
        for each in there.values()
    ]
    result = xr.concat(parts, pd.Index(list(there), name="network"), combine_attrs="drop")
    conditions = list(dict.fromkeys(row.condition for row in rows))
    means = {(row.network, row.condition): row.wer for row in rows if row.seed is None}
    table = [[means.get((network, condition), np.nan) for condition in conditions] for network in there]
    result = result.assign_coords(condition=conditions, place=["all", "first", "deepest"])
    result["wer"] = (("network", "condition"), np.array(table).reshape(len(there), len(conditions)))
    cnns = [network for network in there if network.startswith(CNN)]
    of_cnns = result["across_seeds"].sel(stage="trained", network=cnns).transpose("network", "layer", ...)
    # (network, reading, measure) each: of all convolutions, of the first, and of the deepest that the network has.
    maps = [[each for each in map(str, there[n]["layer"].values) if each.startswith("conv")] for n in cnns]
    chosen = (maps, [own[:1] for own in maps], [own[-1:] for own in maps])
    places = [
        np.array([of_cnns.sel(network=n, layer=own).mean("layer").values for n, own in zip(cnns, each, strict=True)])
        for each in chosen
    ]
    size = (3, result.sizes["reading"], result.sizes["measure"], len(conditions))
    rank, p = np.full(size, np.nan), np.full(size, np.nan)
    errors_of = result["wer"].sel(network=cnns).values
    for place, r, m, c in np.ndindex(*size):
        if len(cnns) < 3:
            continue
        if pair := _paired(places[place][:, r, m], errors_of[:, c]):
            one = rank_correlation(*pair)
            rank[place, r, m, c], p[place, r, m, c] = one.spearman, one.p
    dims = ("place", "reading", "measure", "condition")
    return result.assign(rank=(dims, rank), rank_p=(dims, p))


def wer_table(rows: Sequence[Row]) -> xr.Dataset:
    """Table 1 as numbers: `wer` `(network, condition)`, `over_utterances` and `over_seeds` `(…, bound)`, its intervals.

    `by_seed` `(network, condition, seed)`: the rate of each; `words` `(condition,)`: how many were scored.
    """
    names = list(dict.fromkeys(row.network for row in rows))
    conditions = list(dict.fromkeys(row.condition for row in rows))
    seeds = sorted({row.seed for row in rows if row.seed is not None})
    words = [max(row.words for row in rows if row.condition == c and row.seed is not None) for c in conditions]
    shape = (len(names), len(conditions))
    wer, by_seed = np.full(shape, np.nan), np.full((*shape, len(seeds)), np.nan)
    over_utterances, over_seeds = np.full((*shape, 2), np.nan), np.full((*shape, 2), np.nan)
    for row in rows:
        at = names.index(row.network), conditions.index(row.condition)
        if row.seed is None:
            wer[at], over_utterances[at] = row.wer, (row.low, row.high)
            over_seeds[at] = row.seeds_low, row.seeds_high
        else:
            by_seed[(*at, seeds.index(row.seed))] = row.wer
    dims = ("network", "condition")
    return xr.Dataset(
        {
            "wer": (dims, wer, {"units": "percent"}),
            "over_utterances": ((*dims, "bound"), over_utterances),
            "over_seeds": ((*dims, "bound"), over_seeds),
            "by_seed": ((*dims, "seed"), by_seed),
            "words": ("condition", words),
        },
        coords={"network": names, "condition": conditions, "seed": seeds, "bound": ["low", "high"]},
    )


def all_layers(networks: Mapping[str, Mapping[int, xr.Dataset]]) -> list[str]:
    """Every layer that some network has, from shallow to deep."""
    return ordered({str(n) for runs in networks.values() for each in runs.values() for n in each["layer"].values})


def all_seeds(networks: Mapping[str, Mapping[int, xr.Dataset]]) -> list[int]:
    """Every seed that some network has."""
    return sorted({seed for runs in networks.values() for seed in runs})


def ordered(layers: set[str]) -> list[str]:
    """Layers of networks of different kinds in one order that is from shallow to deep in each."""
    kinds = ("front", "conv", "lstm", "block", "output")

    def place(name: str) -> tuple[int, int, str]:
        head = name.rstrip("0123456789")
        return (kinds.index(head) if head in kinds else len(kinds) - 1, int(name[len(head) :] or 0), name)

    return sorted(layers, key=place)


def _last(runs: Mapping[int, xr.Dataset]) -> int:
    return max(int(each["epoch"].values[-1]) for each in runs.values())
