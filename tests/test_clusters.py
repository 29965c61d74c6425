"""Clusters of profiles against planted clusters, scipy and scikit-learn."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
import xarray as xr
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist
from sklearn.metrics import rand_score, silhouette_score

from otoscope.base import BadInput, BadOption
from otoscope.reduce.clusters import PERCENTILES, cluster_groups, silhouettes
from otoscope.reduce.gradnap import ProfileSums
from otoscope.reduce.profiles import Profiles


def planted(layers: dict[str, NDArray], groups: list[str], missing: tuple[str, ...] = ()) -> Profiles:
    """Profiles that equal `layers` `(group, unit)` less their mean over the groups; nothing is in the missing ones."""
    sums = ProfileSums([*groups, *missing])
    every = torch.arange(len(groups))
    for name, table in layers.items():
        activations = [row[None] for row in torch.from_numpy(table)]
        gradient = torch.ones(len(groups), 1, table.shape[1])
        sums.update(name, activations, every, gradient, 0 * every, 0 * every, every[:, None])
    return sums.finalize(frame_s=0.01, mask="none")


def names(symbols: int, phones: int) -> list[str]:
    return [f"symbol:{i}" for i in range(symbols)] + [f"phone:{i}" for i in range(phones)]


@pytest.fixture
def profiles() -> Profiles:
    """Layer "far": the phones form two tight clusters, of five and of seven. Layer "near": nothing but noise."""
    draw = np.random.default_rng(0)
    centres = np.repeat(100 * np.eye(2, 5), (5, 7), axis=0)
    far = np.concatenate([draw.normal(size=(8, 5)), centres + draw.normal(size=(12, 5))])
    return planted({"far": far, "near": draw.normal(size=(20, 3))}, names(8, 12), ("phone:ZH",))


def test_planted_clusters_are_found(profiles):
    found = cluster_groups(profiles, "phone:*")
    truth = np.repeat([0, 1], (5, 7))
    for percentile in PERCENTILES:
        at = found.sel(layer="far", percentile=percentile)
        assert rand_score(truth, at["labels"]) == 1
        assert at["clusters"] == 2
        assert at["silhouette"] > 0.95
    assert (found["silhouette_mean"].sel(layer="far") > found["silhouette_mean"].sel(layer="near") + 0.3).all()
    assert found.sizes["group"] == 12
    assert found.attrs["left_out"] == "phone:ZH"


@pytest.mark.parametrize("layer", ["far", "near"])
@pytest.mark.parametrize("groups", [None, "symbol:*", ["phone:?", "symbol:3"]])
def test_it_is_what_scipy_and_scikit_learn_say(profiles, layer, groups):
    found = cluster_groups(profiles, groups, percentiles=(50, 75, 95)).sel(layer=layer)
    count = {None: 20, "symbol:*": 8}.get(groups if not isinstance(groups, list) else "", 11)
    assert found.sizes["group"] == count
    flat = profiles.profile[layer].sel(group=found["group"].values).values.reshape(count, -1).astype(float)
    tree = linkage(flat, method="complete", metric="euclidean")
    np.testing.assert_allclose(found["linkage"], tree, rtol=1e-9)
    scores = []
    for percentile in (50, 75, 95):
        at = found.sel(percentile=percentile)
        labels = fcluster(tree, np.percentile(pdist(flat), percentile), criterion="distance")
        np.testing.assert_array_equal(at["labels"], labels)
        assert at["clusters"] == len(set(labels))
        scores.append(silhouette_score(flat, labels))
        assert float(at["silhouette"]) == pytest.approx(scores[-1])
        assert at["note"] == ""
    assert float(found["silhouette_mean"]) == pytest.approx(np.mean(scores))
    assert found["silhouette_cuts"] == 3


def test_undefined_silhouettes_are_nan_and_said():
    """Layer "even": corners of a simplex, all distances equal, so every cut is one cluster. "pair": two are close."""
    even = np.eye(4)
    pair = np.array([[0.0, 0, 0, 0], [0, 0, 0, 1], [10, 0, 0, 0], [0, 30, 0, 0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = cluster_groups(planted({"even": even, "pair": pair}, names(4, 0)), percentiles=(0, 90))
    assert found["clusters"].values.tolist() == [[1, 1], [3, 2]]
    np.testing.assert_array_equal(np.isnan(found["silhouette"]), [[True, True], [False, False]])
    assert np.isnan(found["silhouette_mean"].sel(layer="even"))
    assert found["silhouette_cuts"].values.tolist() == [0, 2]
    assert (found["note"].sel(layer="even") == "all groups in one cluster").all()
    assert (found["note"].sel(layer="pair") == "").all()
    assert found.attrs["notes"].split("; ") == [
        "even, 0 %: all groups in one cluster", "even, 90 %: all groups in one cluster",
    ]  # fmt: skip


def test_the_mean_is_over_the_cuts_that_are_defined():
    line = np.array([[0.0], [1.0], [10.0], [25.0]])
    found = cluster_groups(planted({"line": line}, names(4, 0)), percentiles=(0, 75, 100)).isel(layer=0)
    assert found["clusters"].values.tolist() == [3, 2, 1]
    defined = found["silhouette"].values[:2]
    assert np.isfinite(defined).all()
    assert float(found["silhouette_mean"]) == pytest.approx(defined.mean())
    assert found["silhouette_cuts"] == 2
    assert found["note"].values.tolist() == ["", "", "all groups in one cluster"]


def test_several_groupings_side_by_side(profiles):
    found = silhouettes(profiles)
    assert found["silhouette"].dims == ("grouping", "layer", "percentile")
    assert found["grouping"].values.tolist() == ["symbol", "phone"]
    assert found["groups"].values.tolist() == [8, 12]
    for grouping in ("symbol", "phone"):
        alone = cluster_groups(profiles, f"{grouping}:*")
        for name in ("silhouette", "clusters", "silhouette_mean", "silhouette_cuts"):
            np.testing.assert_array_equal(found[name].sel(grouping=grouping), alone[name])
    assert silhouettes(profiles, ("phone",), percentiles=(90,))["silhouette"].shape == (1, 2, 1)


def test_results_can_be_saved(profiles, tmp_path):
    for name, result in {"tree": cluster_groups(profiles), "silhouettes": silhouettes(profiles)}.items():
        result.to_netcdf(tmp_path / name, engine="h5netcdf")
        xr.testing.assert_equal(xr.load_dataset(tmp_path / name, engine="h5netcdf"), result)


def test_what_cannot_be_clustered(profiles):
    with pytest.raises(BadOption, match=r"'word:\*'(.|\n)*phone:\*, symbol:\*"):
        cluster_groups(profiles, "word:*")
    with pytest.raises(BadInput, match=r"2 with a profile; without: phone:ZH(.|\n)*at least 3"):
        cluster_groups(profiles, ["phone:1", "phone:2", "phone:ZH"])
    for percentiles in ((), (75, 101)):
        with pytest.raises(BadOption, match="percentiles of the distances"):
            cluster_groups(profiles, percentiles=percentiles)
