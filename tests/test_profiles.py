"""What is read out of profiles, against sums by hand and other libraries."""

from __future__ import annotations

import csv
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import xarray as xr
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from otoscope.base import BadInput, BadOption
from otoscope.reduce.gradnap import ProfileSums
from otoscope.reduce.profiles import Profiles

GROUPS = ("symbol:a", "symbol:b", "phone:AE", "phone:ZH")


def planted(layers: dict[str, NDArray], groups: tuple[str, ...], **reading) -> Profiles:
    """Profiles that equal `layers` `(group, unit, offset)`, odd numbers of offsets, less their mean over the groups.

    Every group has one instance, in the middle of an utterance of its own, with a gradient of ones over the window.
    """
    sums = ProfileSums(groups, alignment="none", width={name: table.shape[2] for name, table in layers.items()})
    for name, table in layers.items():
        n, _, width = table.shape
        frames = torch.from_numpy(table).transpose(1, 2)
        every, middle = torch.arange(n), torch.full((n,), width // 2)
        sums.update(name, list(frames), every, torch.ones_like(frames), 0 * every, middle, every[:, None])
    return sums.finalize(**{"frame_s": 0.02} | reading)


@pytest.fixture
def profiles() -> Profiles:
    """Two layers; no instance is a phone:ZH, and one is in no group."""
    sums = ProfileSums(GROUPS)
    draw = torch.Generator().manual_seed(0)
    for layer, units in {"input": 4, "body.0/conv": 6}.items():
        membership = torch.tensor([[0, 2], [0, -1], [1, 2], [1, 2], [-1, -1]])
        middle = torch.tensor([3, 4, 5, 6, 7])
        frames, gradient = torch.randn(10, units, generator=draw), torch.randn(5, 5, units, generator=draw)
        sums.update(layer, [frames], 0 * middle, gradient, middle - 2, middle, membership)
    return sums.finalize(frame_s={"input": 0.01, "body.0/conv": 0.02}, frequency_hz=[100, 200, 400, 800])


def test_the_tables_say_what_they_are(profiles):
    assert list(profiles.profile) == list(profiles.layers) == ["input", "body.0/conv"]
    assert profiles.groups == GROUPS
    for kind in (profiles.profile, profiles.mask, profiles.mean, profiles.count):
        assert kind["input"].dims == ("group", "unit", "offset")
        assert kind["input"].shape == (4, 4, 9)
        np.testing.assert_array_equal(kind["input"]["offset"], np.arange(-4, 5))
        np.testing.assert_allclose(kind["input"]["time"], 0.01 * np.arange(-4, 5))
        np.testing.assert_allclose(kind["body.0/conv"]["time"], 0.02 * np.arange(-4, 5))
        np.testing.assert_array_equal(kind["input"]["frequency"], [100, 200, 400, 800])
        assert "frequency" not in kind["body.0/conv"].coords
        assert (kind["input"]["time"].units, kind["input"]["frequency"].units) == ("s", "Hz")
    assert profiles.count["input"].dtype == np.int64
    assert profiles.profile["input"].sel(group="phone:AE").label == "AE"
    np.testing.assert_array_equal(profiles.instances.sel(layer="input"), [2, 2, 3, 0])
    assert profiles.n == 5
    assert repr(profiles) == (
        "Profiles(2 layers: input, body.0/conv; 4 groups by symbol, phone, 1 of them empty; N = 5 instances; krug2020)"
    )


def test_groups_without_enough_instances_are_named_and_nan():
    sums = ProfileSums(GROUPS)
    membership = torch.tensor([[0, 2]] * 4 + [[1, 2]])
    middle = torch.arange(2, 7)
    draw = torch.Generator().manual_seed(0)
    frames, gradient = torch.randn(10, 2, generator=draw), torch.randn(5, 3, 2, generator=draw)
    sums.update("conv", [frames], 0 * middle, gradient, middle - 1, middle, membership)
    for least, empty in ((1, ("phone:ZH",)), (2, ("symbol:b", "phone:ZH")), (5, ("symbol:a", "symbol:b", "phone:ZH"))):
        found = sums.finalize(frame_s=0.01, min_instances=least)
        assert found.empty == empty
        for kind in (found.profile, found.mask, found.mean):
            there = np.isfinite(kind["conv"]).all(("unit", "offset")).values
            np.testing.assert_array_equal(there, [name not in empty for name in GROUPS])
            np.testing.assert_array_equal(np.isnan(kind["conv"]).all(("unit", "offset")).values, ~there)
        assert found.notes == (f"no profile (fewer than {least} instances): {', '.join(empty)}",)
        assert np.isnan(found.responsiveness()["conv"].sel(group=list(empty))).all()
        assert np.isnan(found.extent()["frames"].sel(group=list(empty))).all()
        with pytest.raises(BadInput, match="group phone:ZH has no profile"):
            found.top_units("phone:ZH")


def test_a_group_that_no_gradient_reaches_is_noted():
    frames = torch.arange(10.0)[:, None].expand(10, 2)
    middle = torch.tensor([3, 5])
    gradient = torch.ones(2, 3, 2) * torch.tensor([0.0, 1.0])[:, None, None]
    sums = ProfileSums(GROUPS[:2])
    sums.update("conv", [frames], 0 * middle, gradient, middle - 1, middle, torch.tensor([[0], [1]]))
    found = sums.finalize(frame_s=0.01)
    assert "conv: no gradient in symbol:a" in found.notes
    assert (found.profile["conv"].sel(group="symbol:a") == 0).all()
    assert np.isnan(found.extent()["frames"].sel(group="symbol:a")).all()
    assert (found.profile["conv"].sel(group="symbol:b") != 0).any()


def test_responsiveness_by_hand():
    """Rows are units of group a; group b is its negative, so that the mean over groups is 0."""
    a = np.array([[1.0, -2.0, 4.0], [-1.0, -2.0, 1.0], [0.0, 0.0, 0.0], [2.0, -3.0, 1.0], [0.5, 0.25, 0.25]])
    found = planted({"conv": np.stack([a, -a])}, ("phone:A", "phone:B"), mask="none")
    r = found.responsiveness()["conv"]
    assert r.dims == ("group", "unit")
    np.testing.assert_allclose(r, [[7, -4, 0, 0, 1], [-7, 4, 0, 0, -1]])
    top = found.top_units("phone:A", k=3)["conv"]
    assert top.unit.values.tolist() == [0, 1, 4]
    np.testing.assert_allclose(top, [7, -4, 1])
    assert found.top_units("phone:B", k=50)["conv"].unit.values.tolist() == [0, 1, 4, 2, 3]
    with pytest.raises(BadOption, match=r"unknown group(.|\n)*did you mean 'phone:A'"):
        found.top_units("phone:AA")
    with pytest.raises(BadOption, match="1 or more"):
        found.top_units("phone:A", k=0)


def test_extent_by_hand():
    """The shares of |profile| at distance 0, 1, 2 are 40, 40 and 20 %."""
    a = np.array([[[0.0, 1.0, -2.0, 2.0, 0.0], [-1.0, 1.0, 2.0, 0.0, 1.0]]])
    layers = {"conv": np.concatenate([a, -a]), "wide": np.concatenate([a, -a, 0 * a])[:2]}
    found = planted(layers, ("phone:A", "phone:B"), mask="none", frame_s={"conv": 0.02, "wide": 0.04})
    for mass, frames in ((0.3, 0), (0.4, 0), (0.41, 1), (0.8, 1), (0.81, 2), (1.0, 2)):
        extent = found.extent(mass)
        assert extent["frames"].dims == ("layer", "group")
        assert (extent["frames"] == frames).all(), mass
        np.testing.assert_allclose(extent["seconds"].sel(layer="wide"), 0.04 * frames)
    assert found.extent()["nominal_frames"].values.tolist() == [2, 2]
    np.testing.assert_allclose(found.extent()["nominal_seconds"], [0.04, 0.08])
    for mass in (0, 1.1):
        with pytest.raises(BadOption, match="share of the mass"):
            found.extent(mass)


def test_groups_are_chosen_by_name_and_pattern(profiles):
    """The group axis is symbol:a, symbol:b, phone:AE, phone:ZH; the last is empty."""
    assert profiles.matching() == (["symbol:a", "symbol:b", "phone:AE"], ["phone:ZH"])
    assert profiles.matching("phone:*") == (["phone:AE"], ["phone:ZH"])
    # The order is that of the profiles, and a group that two patterns mean is there once.
    assert profiles.matching(["phone:A?", "*:a", "symbol:a"]) == (["symbol:a", "phone:AE"], [])
    with pytest.raises(BadOption, match=r"'word:\*'(.|\n)*phone:\*, symbol:\*"):
        profiles.matching(["phone:*", "word:*"])
    # A name with the signs of a pattern is still a name.
    odd = planted({"conv": np.random.default_rng(0).random((2, 3, 5))}, ("symbol:[b]", "symbol:a"))
    assert odd.matching("symbol:[b]") == (["symbol:[b]"], [])


def test_profiles_say_what_they_are_called(profiles, tmp_path):
    table = profiles.profile["input"]
    assert table.attrs["method"] == "GradNAP"
    assert table.attrs["long_name"] == (
        "GradNAP: mean activation less the mean over all instances, times the gradient mask"
    )
    assert table["offset"].attrs["units"] == "frames"
    profiles.save(tmp_path / "profiles.nc")
    assert Profiles.load(tmp_path / "profiles.nc").profile["input"].attrs == table.attrs
    zero = torch.zeros(1, dtype=torch.int64)
    for preset, method, unit in (("nap", "NAP", "ranks"), ("navai", "NAvAI", "frames")):
        sums = ProfileSums(GROUPS[:1], preset=preset)
        sums.update("conv", [torch.randn(9, 2)], zero, torch.ones(1, 3, 2), zero + 3, zero + 4, zero[:, None])
        found = sums.finalize(frame_s=0.01, normaliser="groups").profile["conv"]
        assert found.attrs == {
            "method": method,
            "long_name": f"{method}: mean activation less the mean over groups",
        }
        assert found["offset"].attrs["units"] == unit


def test_sorted_profiles_have_no_extent():
    sums = ProfileSums(GROUPS[:1], preset="nap")
    zero = torch.zeros(1, dtype=torch.int64)
    sums.update("conv", [torch.randn(9, 2)], zero, torch.ones(1, 3, 2), zero + 3, zero + 4, zero[:, None])
    found = sums.finalize(frame_s=0.01)
    assert found.by_rank
    with pytest.raises(BadInput, match="no extent in time"):
        found.extent()


def test_notes_name_a_few_utterances_and_count_the_rest(profiles):
    owners = {f"u{number}": 2 for number in range(30)}
    sums = ProfileSums(GROUPS)
    sums.incidents = {"labels are late": owners}
    sums.facts = {"skipped": {"relu": "it is called 2 times in one pass"}, "limits": ["a limit"]}
    zero = torch.zeros(1, dtype=torch.int64)
    sums.update("conv", [torch.randn(9, 2)], zero, torch.ones(1, 3, 2), zero + 3, zero + 4, zero[:, None])
    found = sums.finalize(frame_s=0.01)
    assert found.settings["incidents"]["labels are late"]["utterances"] == 30
    assert len(found.settings["incidents"]["labels are late"]["named"]) == 20
    assert found.notes[-3:] == (
        "60 labels are late: u0 (2), u1 (2), u2 (2), u3 (2), u4 (2) and 25 more utterances",
        "a limit",
        "relu is left out: it is called 2 times in one pass",
    )
    assert not profiles.by_rank


def test_distances_are_those_of_scipy(profiles):
    for layer, distance in profiles.distance().items():
        flat = profiles.profile[layer].values[:3].reshape(3, -1).astype(float)
        assert distance.dims == ("group", "other")
        np.testing.assert_allclose(distance[:3, :3], cdist(flat, flat), atol=1e-12)
        assert np.isnan(distance.sel(group="phone:ZH")).all()
        assert np.isnan(distance.sel(other="phone:ZH")).all()


def test_saved_profiles_are_the_same(profiles, tmp_path):
    path = tmp_path / "deep" / "profiles.nc"
    profiles.save(path)
    again = Profiles.load(path)
    assert repr(again) == repr(profiles)
    assert (again.settings, again.empty, again.notes) == (profiles.settings, profiles.empty, profiles.notes)
    for layer, table in profiles.layers.items():
        xr.testing.assert_identical(again.layers[layer], table)
    assert [file.name for file in path.parent.iterdir()] == ["profiles.nc"]
    with h5py.File(path) as file:
        assert set(file) == {"input", "body.0%2Fconv"}


def test_files_that_are_not_profiles(profiles, tmp_path: Path):
    profiles.save(tmp_path / "good.nc")
    (tmp_path / "short.nc").write_bytes((tmp_path / "good.nc").read_bytes()[:2000])
    (tmp_path / "text.nc").write_text("no profiles")
    xr.Dataset({"x": 1}).to_netcdf(tmp_path / "other.nc", engine="h5netcdf")
    for name, words in {"none": "No such file", "short": "", "text": "", "other": "format unknown"}.items():
        with pytest.raises(BadInput, match=f"could not read profiles from .*{name}(.|\n)*{words}"):
            Profiles.load(tmp_path / f"{name}.nc")


def test_the_csv_has_a_row_for_every_layer_group_and_unit(profiles, tmp_path):
    profiles.write_csv(tmp_path / "r.csv")
    with open(tmp_path / "r.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["layer", "group", "unit", "responsiveness", "instances"]
    assert len(rows) == 4 * 4 + 4 * 6
    r = profiles.responsiveness()
    for row in rows:
        if row["group"] == "phone:ZH":
            assert (row["responsiveness"], row["instances"]) == ("", "0")
        else:
            wanted = float(r[row["layer"]].sel(group=row["group"], unit=int(row["unit"])))
            assert float(row["responsiveness"]) == pytest.approx(wanted, rel=1e-5)
    assert {row["instances"] for row in rows if row["group"] == "phone:AE"} == {"3"}
