"""Topographic maps: the units of a layer laid out in the plane, those with like profiles side by side.

As brain imaging shows activity on a map of the scalp, a layer's answer to a group can then be seen at one look (Krug et
al., topographic activation maps). A layout is only as good as it keeps likeness, so each comes with numbers that say
how well it does, beside those of a random layout.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.stats
import xarray as xr
from numpy.typing import NDArray
from scipy.spatial.distance import pdist, squareform
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE, smacof, trustworthiness

from otoscope.base import BadInput, BadOption, choose, derive_seed
from otoscope.reduce.profiles import Profiles

Points = NDArray[np.float64]

METHODS = ("tsne", "mds", "pca", "umap")
METRICS = ("cosine", "euclidean")
NEIGHBOURS = 10
PERPLEXITY = 30
RANDOM_LAYOUTS = 10
# With fewer units t-SNE and UMAP have no neighbourhoods to keep.
FEWEST = 5


def unit_topography(
    profiles: Profiles,
    layers: Sequence[str] | None = None,
    method: str = "tsne",
    *,
    groups: str | Sequence[str] | None = None,
    metric: str = "cosine",
    neighbours: int = NEIGHBOURS,
    seed: int = 0,
) -> xr.Dataset:
    """Lay the units of layers out in the plane by the likeness of their profiles over all groups and offsets.

    The default is t-SNE because the map is there to show which units are alike, and of the layouts of scikit-learn it
    is the one that keeps neighbours together; "mds" and "pca" keep the large distances better, which
    `distance_correlation` shows. A layout depends on the units, not on their order: they are sorted by their profiles
    first.

    A unit without any response, whose profile is 0 for all groups, is like no other: it has no place on the map, and is
    named.

    Args:
        profiles: the GradNAPs.
        layers: which; all if left out.
        method: "tsne" (van der Maaten and Hinton 2008), "mds" (metric multidimensional scaling by SMACOF), "pca", or
            "umap" (McInnes et al. 2018) where the package umap-learn is installed.
        groups: names or glob patterns such as "phone:*"; None for all. Empty groups are left out and named.
        metric: "cosine", the shape of the profiles, whatever their size; "euclidean", their size too.
        neighbours: how many neighbours trustworthiness looks at; fewer where there are not three times as many units.
        seed: of UMAP and the random layouts; the others start from principal components and draw nothing.

    Returns:
        Dataset with `position` `(layer, unit, axis)`, centred on 0, the farthest unit at distance 1, turned so that the
        first axis is the widest; NaN for units without response and beyond a layer's width.
        `trustworthiness` `(layer,)`, 0 to 1: whether neighbours on the map are neighbours by profile (Venna and Kaski
        2001); `distance_correlation` `(layer,)`, -1 to 1: Spearman's, of distances on the map with those of the
        profiles; both also as `<name>_random`, the mean over units placed at random in a disc, and NaN for fewer than 5
        units. `units` and `silent` `(layer,)`: how many there are, and how many without response. Attributes: what was
        chosen, `instances`, `left_out` (groups) and `notes`, which name the silent units.

    Raises:
        BadOption: an unknown layer, group, method or metric, or UMAP where it is not installed.
        BadInput: no group that is not empty.
    """
    choose("layout", method, METHODS)
    choose("metric", metric, METRICS)
    if neighbours < 1:
        raise BadOption("neighbours to look at", got=neighbours, wanted="1 or more")
    names = list(profiles.layers) if layers is None else [choose("layer", name, profiles.layers) for name in layers]
    used, left_out = profiles.matching(groups)
    if not used:
        raise BadInput("no group has a profile", got=", ".join(left_out) or "no group", wanted="groups that occurred")
    widest = max((profiles.layers[name].sizes["unit"] for name in names), default=0)
    if not widest:
        raise BadOption("no layer was asked for", got=layers, wanted=f"some of {', '.join(profiles.layers)}")
    position = np.full((len(names), widest, 2), np.nan)
    quality = np.full((4, len(names)), np.nan)
    silent, notes = np.zeros(len(names), np.int64), []
    for row, name in enumerate(names):
        profile = profiles.profile[name].sel(group=used)
        vectors = profile.transpose("unit", "group", "offset").values.reshape(profile.sizes["unit"], -1)
        rows = vectors.astype(np.float64)
        answers = np.flatnonzero(np.abs(rows).max(axis=1) > 0)
        silent[row] = len(rows) - len(answers)
        if silent[row]:
            numbers = np.setdiff1d(np.arange(len(rows)), answers)
            notes.append(f"{name}: {len(numbers)} of {len(rows)} units without response: {_listed(numbers)}")
        if not len(answers):
            continue
        rows = rows[answers]
        if metric == "cosine":
            # The largest first: profiles can be so small that their squares are 0.
            rows /= np.abs(rows).max(axis=1, keepdims=True)
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        chosen = method
        if len(rows) < FEWEST and method in ("tsne", "umap"):
            chosen = "pca"
            notes.append(f"{name}: {len(rows)} units are too few for {method}: pca")
        placed = lay_out(rows, chosen, derive_seed("topography", seed))
        position[row, answers] = placed
        quality[:, row] = layout_quality(rows, placed, neighbours, derive_seed("random layout", seed))
    kinds = ["trustworthiness", "distance_correlation", "trustworthiness_random", "distance_correlation_random"]
    return xr.Dataset(
        {
            "position": (("layer", "unit", "axis"), position, {"long_name": "place on the map; only distances mean"}),
            **{kind: ("layer", values) for kind, values in zip(kinds, quality, strict=True)},
            "units": ("layer", [profiles.layers[name].sizes["unit"] for name in names]),
            "silent": ("layer", silent, {"long_name": "units without response"}),
        },
        coords={"layer": names, "unit": np.arange(widest), "axis": ["x", "y"]},
        attrs={
            "method": method,
            "metric": metric,
            "groups": len(used),
            "neighbours": neighbours,
            "seed": seed,
            "instances": profiles.n,
            "left_out": ", ".join(left_out),
            "notes": "; ".join(notes),
        },
    )


def lay_out(rows: Points, method: str, seed: int = 0) -> Points:
    """Places in the plane `(unit, 2)` by the Euclidean distances of `rows` `(unit, feature)`; see `unit_topography`.

    Raises:
        BadOption: an unknown method, or UMAP where it is not installed.
    """
    layout = {"pca": _pca, "mds": _mds, "tsne": _tsne, "umap": _umap}[choose("layout", method, METHODS)]
    if not pdist(rows).any():
        # All alike: what a layout would make of them is rounding.
        return np.zeros((len(rows), 2))
    # The order of units is arbitrary, and must not show: iterative layouts round differently in another order.
    order = sorted(range(len(rows)), key=lambda unit: rows[unit].tobytes())
    placed = np.empty((len(rows), 2))
    placed[order] = _upright(layout(np.ascontiguousarray(rows[order]), seed))
    return placed


def layout_quality(
    rows: Points, placed: Points, neighbours: int = NEIGHBOURS, seed: int = 0
) -> tuple[float, float, float, float]:
    """Trustworthiness and distance correlation of a layout, then the means of both over random layouts.

    Args:
        rows: `(unit, feature)`, whose Euclidean distances count.
        placed: `(unit, 2)`.
    """
    nan = float("nan")
    if len(rows) < FEWEST:
        return nan, nan, nan, nan
    far = pdist(rows)
    square, count = squareform(far), max(1, min(neighbours, (len(rows) - 1) // 3))

    def judge(points: Points) -> tuple[float, float]:
        kept = float(trustworthiness(square, points, n_neighbors=count, metric="precomputed"))
        near = pdist(points)
        alike = np.ptp(far) == 0 or np.ptp(near) == 0
        return kept, nan if alike else float(scipy.stats.spearmanr(far, near).statistic)

    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, 2 * np.pi, (RANDOM_LAYOUTS, len(rows)))
    radius = np.sqrt(rng.uniform(0, 1, angle.shape))
    random = [judge(points) for points in np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)]
    kept, alike = np.mean(random, axis=0)
    return (*judge(placed), float(kept), float(alike))


def _pca(rows: Points, seed: int) -> Points:
    count = min(2, *rows.shape)
    found = np.zeros((len(rows), 2))
    if len(rows) < 2:
        return found
    # The full decomposition: the quicker ones draw random numbers.
    found[:, :count] = PCA(count, svd_solver="full").fit_transform(rows)
    return found


def _mds(rows: Points, seed: int) -> Points:
    # From the principal components there is one start, and it is a good one.
    start = _pca(rows, seed)
    return smacof(squareform(pdist(rows)), init=start, n_init=1, max_iter=1000, normalized_stress=False)[0]


def _tsne(rows: Points, seed: int) -> Points:
    perplexity = min(PERPLEXITY, (len(rows) - 1) / 3)
    start = _pca(rows, seed)
    spread = start[:, 0].std()
    # As scikit-learn's own start from principal components, which need two units and two features.
    start = start / spread * 1e-4 if spread > 0 else start
    method = TSNE(perplexity=perplexity, init=start.astype(np.float32), random_state=seed, learning_rate="auto")
    return np.asarray(method.fit_transform(rows.astype(np.float32)), dtype=np.float64)


def _umap(rows: Points, seed: int) -> Points:
    try:
        umap: Any = importlib.import_module("umap")
    except ImportError as error:
        raise BadOption(
            "this layout needs a package that is not installed",
            got="method='umap'",
            wanted="umap-learn, or one of 'tsne', 'mds', 'pca'",
            remedy="pip install umap-learn",
        ) from error
    method = umap.UMAP(n_neighbors=min(15, len(rows) - 1), random_state=seed, n_jobs=1)
    return np.asarray(method.fit_transform(rows), dtype=np.float64)


def _upright(points: Points) -> Points:
    """Centred, along its principal axes, the longer tail of each to the right and up, the farthest at distance 1."""
    centred = points - points.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    turned = np.zeros_like(centred)
    turned[:, : len(axes)] = centred @ axes.T
    turned *= np.where((turned**3).sum(axis=0) < 0, -1.0, 1.0)
    reach = np.linalg.norm(turned, axis=1).max()
    return turned / reach if reach > 0 else turned


def _listed(numbers: NDArray[np.int64]) -> str:
    """Unit numbers, runs of them as 3-7."""
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
