"""Whether clusters of groups are classes of sounds: purity by layer against classes dealt out by chance.

Silhouettes say how distinct clusters are, not what they are (Krug et al. 2020, section 4.3). Purity says how far each
cluster is of one class (Manning, Raghavan and Schütze 2008, "Introduction to Information Retrieval", 16.3); many small
clusters are pure by chance, so it stands beside the same clusters with the classes dealt out anew among the groups.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.special import xlogy
from sklearn.metrics import adjusted_mutual_info_score

from otoscope.base import BadInput, BadOption

SIGNIFICANT = 0.05


def purity(clusters: Sequence[Hashable], classes: Sequence[Hashable]) -> float:
    """The share of items that are of the commonest class of their cluster, above 0 to 1.

    Raises:
        BadInput: no items, or not one cluster and one class for each.
    """
    if len(clusters) != len(classes) or not len(clusters):
        raise BadInput(
            "clusters and classes do not fit", got=f"{len(clusters)} and {len(classes)}", wanted="as many of each, some"
        )
    table = _one_hot(clusters).T @ _one_hot(classes)
    return float(table.max(axis=1).sum() / len(clusters))


def cluster_purity(
    clusters: xr.Dataset, classes: Mapping[str, str | None], *, permutations: int = 1000, seed: int = 0
) -> xr.Dataset:
    """How far the clusters of each layer are classes of sounds, and from which layer on.

    Args:
        clusters: of `otoscope.reduce.clusters.cluster_groups`: `labels` `(layer, percentile, group)`, layers from first
            to last.
        classes: the class of each group, such as `{"phone:T": "stop"}`. Groups without one, or with None, are left out.
        permutations: how often the classes are dealt out anew among the groups.
        seed: of the permutations; the same for all layers and thresholds.

    Returns:
        A Dataset: `purity` and `ami` `(layer, percentile)`, 0 to 1 and about 0 by chance to 1 (scikit-learn's adjusted
        mutual information); `clusters` `(layer, percentile)`, how many hold a classed group; `purity_null` the mean of
        the permutations, `purity_high` their 95 % quantile, `purity_p` and `ami_p` the share of them that reach the
        value, itself among them. `purity_mean`, `purity_mean_null`, `purity_mean_high`, `purity_mean_p`, `ami_mean`
        `(layer,)`: the same of the mean over the thresholds, one test a layer. Attributes: `emerges`, the first layer
        from which on every layer passes (p of the mean below 0.05), "" if the last layer does not; `notes` in words;
        `groups`, `classes`, how many; `left_out`, names.

    Raises:
        BadInput: fewer than three groups have a class, or all the same one. BadOption: fewer than one permutation.
    """
    if permutations < 1:
        raise BadOption("permutations of the classes", got=permutations, wanted="1 or more")
    names = [str(name) for name in clusters["group"].values]
    kept = [name for name in names if classes.get(name) is not None]
    kinds = [str(classes[name]) for name in kept]
    if len(kept) < 3 or len(set(kinds)) < 2:
        raise BadInput(
            "these classes cannot be looked for among the clusters",
            got=f"{len(kept)} of {len(names)} groups have a class, {len(set(kinds))} classes",
            wanted="at least 3 groups and 2 classes; the keys are names of groups, such as 'phone:T'",
        )
    labels = clusters["labels"].sel(group=kept).transpose("layer", "percentile", "group").values
    hot, rng = _one_hot(kinds), np.random.default_rng(seed)
    # Row 0 is the classes as they are.
    orders = np.stack([np.arange(len(kept)), *(rng.permutation(len(kept)) for _ in range(permutations))])
    dealt = hot[orders]
    shape = labels.shape[:2]
    pure, shared = (np.empty((*shape, permutations + 1)) for _ in range(2))
    ami = np.empty(shape)
    for cut in np.ndindex(shape):
        tables = np.einsum("nk,pnc->pkc", _one_hot(labels[cut]), dealt)
        pure[cut] = tables.max(axis=2).sum(axis=1) / len(kept)
        # Sizes of clusters and classes are the same in all permutations: the adjusted score rises with this sum alone.
        shared[cut] = xlogy(tables, tables).sum(axis=(1, 2))
        ami[cut] = adjusted_mutual_info_score(kinds, labels[cut])
    by_cut = ("layer", "percentile")
    result = xr.Dataset(
        {
            "purity": (by_cut, pure[..., 0]),
            "ami": (by_cut, ami),
            "clusters": (by_cut, [[len(np.unique(row)) for row in layer] for layer in labels]),
            "purity_null": (by_cut, pure[..., 1:].mean(axis=-1)),
            "purity_high": (by_cut, np.quantile(pure[..., 1:], 0.95, axis=-1)),
            "purity_p": (by_cut, _share_reaching(pure)),
            "ami_p": (by_cut, _share_reaching(shared)),
            "purity_mean": ("layer", pure.mean(axis=1)[:, 0]),
            "purity_mean_null": ("layer", pure[..., 1:].mean(axis=(1, 2))),
            "purity_mean_high": ("layer", np.quantile(pure[..., 1:].mean(axis=1), 0.95, axis=-1)),
            "purity_mean_p": ("layer", _share_reaching(pure.mean(axis=1))),
            "ami_mean": ("layer", ami.mean(axis=1)),
        },
        coords={"layer": clusters["layer"].values, "percentile": clusters["percentile"].values},
        attrs={
            "groups": len(kept),
            "classes": len(set(kinds)),
            "permutations": permutations,
            "seed": seed,
            "left_out": ", ".join(name for name in names if name not in kept),
        },
    )
    emerges, notes = _emergence(result)
    return result.assign_attrs(emerges=emerges, notes=notes)


def _one_hot(labels: Sequence[Any] | NDArray[Any]) -> NDArray[Any]:
    """`(item, label)`, whole numbers as float64, which products of matrices take the fast way through."""
    number = {label: index for index, label in enumerate(dict.fromkeys(labels))}
    return np.eye(len(number))[[number[label] for label in labels]]


def _share_reaching(values: NDArray[Any]) -> NDArray[Any]:
    """The share of the last axis that reaches its first entry, that entry among them; equal but for rounding counts."""
    return (values >= values[..., :1] - 1e-9).mean(axis=-1)


def _emergence(result: xr.Dataset) -> tuple[str, str]:
    """The layer from which on the classes show, and a sentence.

    Under chance the last layer passes once in twenty times, and so does this claim, however many layers there are.
    """
    layers = [str(layer) for layer in result["layer"].values]
    passes = (result["purity_mean_p"] < SIGNIFICANT).values
    first = len(layers)
    while first and passes[first - 1]:
        first -= 1
    facts = f"{result.attrs['groups']} groups of {result.attrs['classes']} classes"

    def shown(place: int) -> str:
        at = result.isel(layer=place)
        return (
            f"purity {float(at['purity_mean']):.2f} against {float(at['purity_mean_null']):.2f} by chance, "
            f"p = {float(at['purity_mean_p']):.3g}"
        )

    alone = [place for place in range(first) if passes[place]]
    elsewhere = "; ".join(f"{layers[place]} ({shown(place)})" for place in alone)
    if first < len(layers):
        what = f"the classes show from {layers[first]} on ({shown(first)})"
        if first == 0:
            what = f"the classes show in every layer, from {layers[0]} on ({shown(0)})"
        return layers[first], f"{what}, and before it in: {elsewhere}; {facts}" if alone else f"{what}; {facts}"
    if alone:
        return "", (
            f"there is no layer from which on the classes show: not in the last ({shown(len(layers) - 1)}), but in: "
            f"{elsewhere}, where with {len(layers)} layers one in twenty tests passes by chance; {facts}"
        )
    return "", f"the clusters are classes in no layer: none is purer than by chance; {facts}"
