"""Topographic maps against planted likeness: clusters of units, a plane of units, units in another order."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import xarray as xr
from scipy.spatial.distance import pdist, squareform
from scipy.stats import spearmanr
from sklearn.manifold import trustworthiness
from sklearn.metrics import silhouette_score

from otoscope.base import BadInput, BadOption
from otoscope.reduce.profiles import Profiles
from otoscope.reduce.topography import METHODS, lay_out, layout_quality, unit_topography

GROUPS = ("phone:AE", "phone:IY", "phone:S", "symbol:a", "symbol:b")
OFFSETS = 5
INSTALLED = [name for name in METHODS if name != "umap"]


def profiles_of(layers: dict[str, np.ndarray], groups: tuple[str, ...] = GROUPS) -> Profiles:
    """`Profiles` from tables `(group, unit, offset)`."""
    tables = {}
    for name, values in layers.items():
        half = values.shape[2] // 2
        tables[name] = xr.Dataset(
            {
                "profile": (("group", "unit", "offset"), values.astype(np.float32)),
                "instances": ("group", [0 if np.isnan(row).all() else 20 for row in values]),
            },
            coords={"group": list(groups), "unit": np.arange(values.shape[1]), "offset": np.arange(-half, half + 1)},
            attrs={"instances": 60, "frame_s": 0.01, "span": half + 1, "flat": 0, "left_out": 0},
        )
    return Profiles(tables, {"min_instances": 1, "preset": "krug2020", "changed": []})


def three_clusters(seed: int = 0, each: int = 15, noise: float = 0.4) -> tuple[np.ndarray, np.ndarray]:
    """A table `(group, unit, offset)` whose units answer in one of three ways, mixed, and which way each does."""
    rng = np.random.default_rng(seed)
    ways = rng.standard_normal((3, len(GROUPS), OFFSETS))
    cluster = rng.permutation(np.repeat(np.arange(3), each))
    size = rng.uniform(0.5, 20, len(cluster))[:, None, None]
    units = size * (ways[cluster] + noise * rng.standard_normal((len(cluster), len(GROUPS), OFFSETS)))
    return units.transpose(1, 0, 2), cluster


@pytest.mark.parametrize("method", INSTALLED)
def test_planted_clusters_stay_apart(method: str) -> None:
    values, cluster = three_clusters()
    found = unit_topography(profiles_of({"conv": values}), method=method)
    places = found["position"].sel(layer="conv").values
    assert silhouette_score(places, cluster) > 0.6
    for name in ("trustworthiness", "distance_correlation"):
        assert float(found[name][0]) > float(found[f"{name}_random"][0]) + 0.2
    assert abs(float(found["distance_correlation_random"][0])) < 0.1


def test_units_that_lie_in_a_plane_keep_all_their_distances() -> None:
    rng = np.random.default_rng(2)
    plane = rng.standard_normal((40, 2))
    turn = np.linalg.qr(rng.standard_normal((25, 2)))[0]
    rows = plane @ turn.T + 3
    for method in ("pca", "mds"):
        placed = lay_out(rows, method)
        ratio = pdist(placed) / pdist(plane)
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-3)
    assert layout_quality(rows, lay_out(rows, "pca"))[:2] == pytest.approx((1, 1))


def test_quality_is_that_of_scikit_learn_and_scipy() -> None:
    rng = np.random.default_rng(3)
    rows, placed = rng.standard_normal((50, 9)), rng.standard_normal((50, 2))
    kept, alike, random_kept, random_alike = layout_quality(rows, placed, neighbours=7)
    assert kept == pytest.approx(trustworthiness(rows, placed, n_neighbors=7))
    assert alike == pytest.approx(spearmanr(pdist(rows), pdist(placed)).statistic)
    assert (kept, alike) == pytest.approx((random_kept, random_alike), abs=0.12)


@pytest.mark.parametrize("method", INSTALLED)
def test_the_order_of_units_does_not_matter(method: str) -> None:
    values, _ = three_clusters(1)
    order = np.random.default_rng(7).permutation(values.shape[1])
    one = unit_topography(profiles_of({"conv": values}), method=method)
    other = unit_topography(profiles_of({"conv": values[:, order]}), method=method)
    np.testing.assert_allclose(other["position"][0], one["position"][0].values[order], atol=1e-9)
    for name in ("trustworthiness", "distance_correlation"):
        assert float(one[name][0]) == pytest.approx(float(other[name][0]), abs=1e-9)


def test_a_seed_repeats_a_layout() -> None:
    values, _ = three_clusters(2)
    first, again, other = (unit_topography(profiles_of({"conv": values}), seed=seed) for seed in (1, 1, 2))
    xr.testing.assert_identical(first, again)
    assert float(other["trustworthiness_random"][0]) != float(first["trustworthiness_random"][0])


def test_silent_units_have_no_place_and_are_named() -> None:
    values, _ = three_clusters()
    values[:, [3, 4, 5, 11]] = 0
    values[:, 20] = 1e-30
    narrow = np.zeros((len(GROUPS), 6, 1))
    found = unit_topography(profiles_of({"conv": values, "dead": narrow}), method="pca")
    missing = found["position"].isnull().all("axis")
    assert list(np.flatnonzero(missing.sel(layer="conv"))) == [3, 4, 5, 11]
    assert missing.sel(layer="dead").all()
    assert list(found["silent"].values) == [4, 6]
    assert list(found["units"].values) == [45, 6]
    assert "conv: 4 of 45 units without response: 3-5, 11" in found.attrs["notes"]
    assert "dead: 6 of 6 units without response: 0-5" in found.attrs["notes"]
    assert np.isnan(found["trustworthiness"].sel(layer="dead"))


def test_places_are_centred_and_within_the_unit_circle() -> None:
    values, _ = three_clusters()
    wide, narrow = values, values[:, :9, 1:4]
    found = unit_topography(profiles_of({"wide": wide, "narrow": narrow}), method="mds")
    assert found["position"].dims == ("layer", "unit", "axis")
    for layer, units in (("wide", 45), ("narrow", 9)):
        places = found["position"].sel(layer=layer).values
        assert np.isfinite(places[:units]).all()
        assert np.isnan(places[units:]).all()
        np.testing.assert_allclose(places[:units].mean(0), 0, atol=1e-12)
        assert np.linalg.norm(places[:units], axis=1).max() == pytest.approx(1)
        assert places[:units, 0].var() >= places[:units, 1].var()


def test_cosine_looks_at_shape_alone_and_euclidean_at_size_too() -> None:
    values, _ = three_clusters()
    louder = values * np.random.default_rng(0).uniform(1, 9, values.shape[1])[:, None]
    for metric, same in (("cosine", True), ("euclidean", False)):
        one, other = (unit_topography(profiles_of({"c": v}), method="pca", metric=metric) for v in (values, louder))
        assert np.allclose(one["position"], other["position"], atol=1e-4) == same


def test_groups_are_chosen_and_empty_ones_left_out() -> None:
    values, _ = three_clusters()
    values[1] = np.nan
    found = unit_topography(profiles_of({"conv": values}), method="pca")
    assert (found.attrs["groups"], found.attrs["left_out"]) == (4, "phone:IY")
    assert np.isfinite(found["position"]).all()
    some = unit_topography(profiles_of({"conv": values}), method="pca", groups="symbol:*")
    direct = unit_topography(profiles_of({"conv": values[3:]}, GROUPS[3:]), method="pca")
    np.testing.assert_array_equal(some["position"], direct["position"])


@pytest.mark.parametrize("units", [1, 2, 3, 4, 5, 7])
def test_layers_of_few_units(units: int) -> None:
    values, _ = three_clusters()
    found = unit_topography(profiles_of({"conv": values[:, :units]}))
    assert np.isfinite(found["position"]).all()
    assert ("too few for tsne" in found.attrs["notes"]) == (units < 5)
    assert np.isfinite(found["trustworthiness"]).all() == (units >= 5)


def test_units_alike_in_all_are_no_trouble() -> None:
    values, _ = three_clusters()
    for method in INSTALLED:
        found = unit_topography(profiles_of({"conv": np.repeat(values[:, :1], 8, axis=1)}), method=method)
        assert (found["position"] == 0).all()
        assert found["distance_correlation"].isnull().all()


def test_what_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    values, _ = three_clusters()
    profiles = profiles_of({"conv": values})
    for options in (
        {"method": "som"},
        {"metric": "manhattan"},
        {"layers": ["conv9"]},
        {"layers": []},
        {"groups": "word:*"},
        {"neighbours": 0},
    ):
        with pytest.raises(BadOption):
            unit_topography(profiles, **options)
    with pytest.raises(BadInput, match="no group has a profile"):
        unit_topography(profiles_of({"conv": np.full((1, 4, 3), np.nan)}, ("phone:AE",)))

    def absent(name: str) -> object:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(BadOption, match="not installed"):
        unit_topography(profiles, method="umap")


def test_umap_is_called_where_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in that returns the first two features: the package itself is not among the project's."""

    class Stand:
        def __init__(self, **options: object) -> None:
            assert isinstance(options["random_state"], int)

        def fit_transform(self, rows: np.ndarray) -> np.ndarray:
            return rows[:, :2]

    monkeypatch.setattr(importlib, "import_module", lambda name: type("Module", (), {"UMAP": Stand}))
    rows = np.random.default_rng(0).standard_normal((12, 5))
    placed = lay_out(rows, "umap")
    ratio = squareform(pdist(placed))[0, 1:] / squareform(pdist(rows[:, :2]))[0, 1:]
    np.testing.assert_allclose(ratio, ratio[0])
