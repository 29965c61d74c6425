"""Purity of clusters: by hand, against scikit-learn, planted and random classes, and what is said of them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import xarray as xr
from sklearn.metrics import adjusted_mutual_info_score, mutual_info_score

from otoscope.base import BadInput, BadOption
from otoscope.reduce.purity import cluster_purity, purity

GROUPS = [f"phone:{number}" for number in range(24)]
CLASSES = {group: f"class {number // 6}" for number, group in enumerate(GROUPS)}


def trees(*layers: np.ndarray, groups: list[str] = GROUPS) -> xr.Dataset:
    """What `cluster_groups` gives, as far as it is read: labels `(percentile, group)` of each layer."""
    labels = np.stack([np.atleast_2d(layer) for layer in layers])
    coords = {
        "layer": [f"layer{number}" for number in range(1, len(labels) + 1)],
        "percentile": 75 + 5 * np.arange(labels.shape[1]),
        "group": groups,
    }
    return xr.Dataset({"labels": (("layer", "percentile", "group"), labels)}, coords=coords)


TRUE = np.repeat([1, 2, 3, 4], 6)
MIXED = np.tile([1, 2, 3, 4], 6)


def test_purity_by_hand() -> None:
    # Cluster 1 holds a a b, cluster 2 holds b b c, cluster 3 holds c: 2 + 2 + 1 of 7.
    assert purity([1, 1, 1, 2, 2, 2, 3], list("aabbbcc")) == pytest.approx(5 / 7)
    assert purity([1, 1, 1], list("abc")) == pytest.approx(1 / 3)
    assert purity([1, 2, 3], list("aaa")) == 1


def test_purity_and_p_over_all_orders_on_paper() -> None:
    # Two clusters of two among classes a a b b: of the 6 ways to deal them out 2 are pure, 4 have purity 1/2.
    found = cluster_purity(
        trees(np.array([1, 1, 2, 2]), groups=GROUPS[:4]),
        dict(zip(GROUPS, "aabb", strict=False)),
        permutations=6000,
    ).sel(layer="layer1", percentile=75)
    assert found["purity"] == 1
    assert float(found["purity_p"]) == pytest.approx(1 / 3, abs=0.02)
    assert float(found["ami_p"]) == pytest.approx(1 / 3, abs=0.02)
    assert float(found["purity_null"]) == pytest.approx(1 / 3 + 2 / 3 / 2, abs=0.01)
    assert found["purity_high"] == 1


def test_planted_clusters_are_pure_and_random_ones_are_not() -> None:
    found = cluster_purity(trees(MIXED, TRUE), CLASSES)
    planted, mixed = (found.sel(layer=layer, percentile=75) for layer in ("layer2", "layer1"))
    assert planted["purity"] == 1
    assert planted["ami"] == pytest.approx(1)
    assert planted["purity_p"] == planted["ami_p"] == pytest.approx(1 / 1001)
    assert planted["purity_high"] < 0.7
    assert mixed["purity"] == 1 / 3
    assert mixed["purity_p"] > 0.9
    assert mixed["clusters"] == 4


def test_p_of_random_classes_is_small_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    values = []
    for seed in range(200):
        clusters = np.stack([rng.integers(0, size, len(GROUPS)) for size in (9, 5, 3)])
        found = cluster_purity(trees(clusters), CLASSES, permutations=99, seed=seed)
        values.append([float(found["purity_mean_p"][0]), float(found["ami_p"][0, 1])])
    share = (np.array(values) < 0.05).mean(axis=0)
    assert (share <= 0.08).all(), share
    # And they are not always large: about half of them are below one half.
    assert (np.abs((np.array(values) < 0.5).mean(axis=0) - 0.5) < 0.15).all()


def test_ami_is_that_of_scikit_learn_and_its_p_that_of_its_permutations() -> None:
    rng = np.random.default_rng(4)
    clusters = np.stack([rng.integers(0, size, len(GROUPS)) for size in (8, 4)])
    found = cluster_purity(trees(clusters), CLASSES, permutations=200, seed=7)
    kinds = [CLASSES[group] for group in GROUPS]
    for cut, labels in enumerate(clusters):
        assert float(found["ami"][0, cut]) == pytest.approx(adjusted_mutual_info_score(kinds, labels))
    # The p of a score that rises with the mutual information alone, drawn independently.
    draws = [mutual_info_score(rng.permutation(kinds), clusters[0]) for _ in range(600)]
    share = np.mean(np.array(draws) >= mutual_info_score(kinds, clusters[0]) - 1e-12)
    assert float(found["ami_p"][0, 0]) == pytest.approx(share, abs=0.12)


def test_trivial_clusters_prove_nothing() -> None:
    found = cluster_purity(trees(np.stack([np.ones(24, int), np.arange(24)])), CLASSES, permutations=50)
    np.testing.assert_allclose(found["purity"][0], [0.25, 1])
    np.testing.assert_array_equal(found["purity_p"], 1)
    np.testing.assert_array_equal(found["ami_p"], 1)
    np.testing.assert_allclose(found["ami"], 0, atol=1e-12)


def test_the_layer_from_which_classes_show_is_named() -> None:
    found = cluster_purity(trees(MIXED, MIXED, TRUE, TRUE), CLASSES)
    assert found.attrs["emerges"] == "layer3"
    assert found.attrs["notes"].startswith("the classes show from layer3 on (purity 1.00 against 0.4")
    assert found.attrs["notes"].endswith("p = 0.000999); 24 groups of 4 classes")
    everywhere = cluster_purity(trees(TRUE, TRUE), CLASSES)
    assert everywhere.attrs["emerges"] == "layer1"
    assert "in every layer, from layer1 on" in everywhere.attrs["notes"]
    before = cluster_purity(trees(TRUE, MIXED, TRUE), CLASSES)
    assert before.attrs["emerges"] == "layer3"
    assert "and before it in: layer1 (purity 1.00" in before.attrs["notes"]


def test_none_is_said_where_no_layer_passes() -> None:
    found = cluster_purity(trees(MIXED, MIXED), CLASSES)
    assert found.attrs["emerges"] == ""
    assert "in no layer: none is purer than by chance" in found.attrs["notes"]
    passing = cluster_purity(trees(TRUE, MIXED), CLASSES)
    assert passing.attrs["emerges"] == ""
    assert "no layer from which on" in passing.attrs["notes"]
    assert "but in: layer1 (purity 1.00" in passing.attrs["notes"]


def test_groups_without_a_class_are_left_out_and_named() -> None:
    some = {**CLASSES, "phone:3": None}
    del some["phone:20"]
    found = cluster_purity(trees(TRUE), some)
    assert found.attrs["left_out"] == "phone:3, phone:20"
    assert (found.attrs["groups"], found.attrs["classes"]) == (22, 4)
    assert found["purity"].item() == 1


@pytest.mark.parametrize(
    "classes", [{}, {"phone:1": "a", "phone:2": "b"}, dict.fromkeys(GROUPS, "a"), {"T": "stop", "D": "stop"}]
)
def test_classes_that_cannot_be_used(classes: dict[str, str]) -> None:
    with pytest.raises(BadInput, match="cannot be looked for among the clusters"):
        cluster_purity(trees(TRUE), classes)


def test_bad_arguments() -> None:
    with pytest.raises(BadOption, match="permutations"):
        cluster_purity(trees(TRUE), CLASSES, permutations=0)
    for clusters, classes in itertools.product(([1, 2], []), (["a"], [])):
        with pytest.raises(BadInput, match="do not fit"):
            purity(clusters, classes)
