"""Groups clustered by their profiles, layer by layer (Krug et al. 2020, section 3.4 and Figure 4).

Complete linkage on Euclidean distances; the tree is cut at percentiles of the pairwise distances; the silhouette says
how distinct the clusters of each cut are, and its mean over the cuts how well a layer represents the groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.cluster.hierarchy as hierarchy
import xarray as xr
from numpy.typing import NDArray
from scipy.spatial.distance import squareform
from sklearn.metrics import silhouette_score

from otoscope.base import BadInput, BadOption
from otoscope.reduce.profiles import Profiles

PERCENTILES = (75, 80, 85, 90, 95)


def cluster_groups(
    profiles: Profiles, groups: str | Sequence[str] | None = None, percentiles: Sequence[float] = PERCENTILES
) -> xr.Dataset:
    """Cluster the groups of every layer.

    Args:
        profiles: the GradNAPs.
        groups: names or glob patterns such as "phone:*"; None for all. Empty groups are left out and named in the
            attribute `left_out`.
        percentiles: of the distances between groups, where the tree is cut, 0 to 100.

    Returns:
        A Dataset:
        `labels` `(layer, percentile, group)`, the cluster of each group, from 1;
        `threshold` and `clusters` `(layer, percentile)`, the distance of the cut and the number of clusters;
        `silhouette` `(layer, percentile)`, -1 to 1; NaN where it is undefined, for one cluster or as many as groups,
        which `note` `(layer, percentile)` and the attribute `notes` say in words;
        `silhouette_mean` `(layer,)`, over the cuts where it is defined, and their number `silhouette_cuts`;
        `linkage` `(layer, merge, link)`, scipy's linkage matrix, groups numbered as on `group`;
        `distance` `(layer, group, other)`.

    Raises:
        BadOption: a pattern that matches no group, or percentiles outside 0 to 100.
        BadInput: fewer than three groups that are not empty.
    """
    names, left_out = profiles.matching(groups)
    cuts = list(percentiles)
    if not cuts or not all(0 <= cut <= 100 for cut in cuts):
        raise BadOption("percentiles of the distances", got=cuts, wanted="one or more numbers, 0 to 100")
    if len(names) < 3:
        raise BadInput(
            "too few groups to cluster",
            got=f"{len(names)} with a profile" + (f"; without: {', '.join(left_out)}" if left_out else ""),
            wanted="at least 3",
        )
    layers = {layer: table.sel(group=names, other=names) for layer, table in profiles.distance().items()}
    found = [_cluster(table.values, cuts) for table in layers.values()]
    by_cut, by_group = ("layer", "percentile"), ("layer", "percentile", "group")
    result = xr.Dataset(
        {
            "labels": (by_group, np.stack([tree["labels"] for tree in found])),
            "threshold": (by_cut, np.stack([tree["threshold"] for tree in found])),
            "clusters": (by_cut, np.stack([tree["clusters"] for tree in found])),
            "silhouette": (by_cut, np.stack([tree["silhouette"] for tree in found])),
            "note": (by_cut, np.stack([tree["note"] for tree in found])),
            "linkage": (("layer", "merge", "link"), np.stack([tree["linkage"] for tree in found])),
            "distance": (("layer", "group", "other"), np.stack([table.values for table in layers.values()])),
        },
        coords={
            "layer": list(layers),
            "percentile": cuts,
            "group": names,
            "other": names,
            "link": ["left", "right", "distance", "groups"],
        },
        attrs={"left_out": ", ".join(left_out), "linkage": "complete", "metric": "euclidean"},
    )
    # The mean of xarray skips NaN, and is NaN without a warning where nothing is left.
    result["silhouette_mean"] = result["silhouette"].mean("percentile")
    result["silhouette_cuts"] = result["silhouette"].notnull().sum("percentile")
    sentences = [
        f"{layer}, {cut:g} %: {result['note'].values[row, column]}"
        for row, layer in enumerate(layers)
        for column, cut in enumerate(cuts)
        if result["note"].values[row, column]
    ]
    return result.assign_attrs(notes="; ".join(sentences))


def silhouettes(
    profiles: Profiles,
    groupings: Sequence[str] = ("symbol", "phone"),
    percentiles: Sequence[float] = PERCENTILES,
) -> xr.Dataset:
    """How distinct the clusters of several groupings are in every layer: graphemes against phones.

    Returns:
        A Dataset: `silhouette`, `clusters`, `note` `(grouping, layer, percentile)`; `silhouette_mean` and
        `silhouette_cuts` `(grouping, layer)`; the coordinate `groups` `(grouping,)` is how many groups were clustered.

    Raises:
        BadOption, BadInput: as `cluster_groups`.
    """
    trees = [cluster_groups(profiles, f"{grouping}:*", percentiles) for grouping in groupings]
    kept = ["silhouette", "clusters", "note", "silhouette_mean", "silhouette_cuts"]
    # The groups themselves differ from grouping to grouping, so only what has no group axis can be stacked.
    result = xr.concat(
        [tree[kept].drop_vars(("group", "other", "link"), errors="ignore") for tree in trees],
        xr.Variable("grouping", list(groupings)),
        combine_attrs="drop",
    )
    notes = [
        f"{name}: {tree.attrs['notes']}" for name, tree in zip(groupings, trees, strict=True) if tree.attrs["notes"]
    ]
    sizes = ("grouping", [tree.sizes["group"] for tree in trees])
    return result.assign_coords(groups=sizes).assign_attrs(notes="; ".join(notes))


def _cluster(distance: NDArray[Any], percentiles: Sequence[float]) -> dict[str, NDArray[Any]]:
    """The tree of one layer, from distances `(group, other)`, and its cuts."""
    pairs = squareform(distance, checks=False)
    linkage = hierarchy.linkage(pairs, method="complete")
    threshold = np.percentile(pairs, percentiles)
    labels = np.stack([hierarchy.fcluster(linkage, cut, criterion="distance") for cut in threshold])
    clusters = labels.max(axis=1)
    silhouette, note = np.full(len(labels), np.nan), np.full(len(labels), "", dtype="<U32")
    for cut, (cluster, number) in enumerate(zip(labels, clusters, strict=True)):
        if 1 < number < len(cluster):
            silhouette[cut] = silhouette_score(distance, cluster, metric="precomputed")
        else:
            note[cut] = "all groups in one cluster" if number == 1 else "every group a cluster of its own"
    return {
        "labels": labels,
        "threshold": threshold,
        "clusters": clusters,
        "silhouette": silhouette,
        "note": note,
        "linkage": linkage,
    }
