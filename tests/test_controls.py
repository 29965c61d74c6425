"""Controls against planted networks and data: what explains the network and what the data, and what chance gives."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.stats import pearsonr, spearmanr
from torch import Tensor, nn

import otoscope
from otoscope.base import BadInput, BadOption
from otoscope.hear.corpus import Utterance
from otoscope.probe.layers import list_layers
from otoscope.reduce.clusters import silhouettes
from otoscope.reduce.likeness import correlations, shuffled_levels, spearman_brown, standardised
from otoscope.study.cascade import cascade, randomisation_order
from otoscope.study.controls import random_silhouettes, shuffle_runs, shuffled_labels, split_half
from otoscope.study.explained import explained
from otoscope.study.random_weights import redraw

MELS, LENGTH = 12, 8
PHONES = ("AA", "IY", "S", "T")
# Each phone has a unit that the network weighs and one, twelve times as strong, that it does not.
USED, CONFOUND = range(4), range(6, 10)


class Planted(nn.Module):
    """Two convolutions. The first passes on the used units, each to a unit of its own; the last names the loudest."""

    mels, symbols = MELS, PHONES

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Conv1d(MELS, 8, 5, padding=2)
        self.out = nn.Conv1d(8, len(PHONES), 1)
        with torch.no_grad():
            torch.manual_seed(3)
            self.hidden.weight.zero_()
            for number, unit in enumerate(USED):
                self.hidden.weight[number, unit] = torch.tensor([0.3, 0.6, 1, 0.6, 0.3])
            self.hidden.bias.fill_(0.1)
            self.out.weight.copy_(torch.cat([torch.eye(4), torch.zeros(4, 4)], 1)[:, :, None])
            self.out.bias.zero_()

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        values = self.hidden(features.transpose(1, 2)).relu()
        return self.out(values).transpose(1, 2), lengths


def make_speech(
    *, used: float = 1.0, confound: float = 12.0, noise: float = 0.3, utterances: int = 6, seed: int = 0
) -> list[Utterance]:
    """Utterances of 12 segments, phones in any order, with their motifs; the same phones at random as tier "chance"."""
    rng = np.random.default_rng(seed)
    found = []
    for index in range(utterances):
        order = rng.permutation(np.tile(np.arange(len(PHONES)), 3))
        values = noise * rng.standard_normal((len(order) * LENGTH, MELS)).astype(np.float32)
        for place, phone in enumerate(order):
            middle = slice(place * LENGTH + 1, (place + 1) * LENGTH - 1)
            values[middle, USED[phone]] += used
            values[middle, CONFOUND[phone]] += confound
        tiers = {"phone": tier(order), "chance": tier(rng.permutation(order))}
        found.append(Utterance(f"u{index}", features=values, tiers=tiers))
    return found


def tier(order: np.ndarray) -> list[tuple[float, float, str]]:
    seconds = 0.01 * LENGTH
    return [(seconds * at, seconds * (at + 1), PHONES[phone]) for at, phone in enumerate(order)]


def at(values: xr.DataArray, **where: object) -> float:
    return float(values.sel(where))


def test_explained_is_what_gradnap_explains() -> None:
    wanted = otoscope.gradnap(Planted(), make_speech(), by=("symbol", "phone"), pad="zero", mask="mean_of_abs")
    task = explained(Planted(), make_speech(), by=("symbol", "phone"), pad="zero", mask="mean_of_abs")
    found = task.read(task.sums())
    assert found.groups == wanted.groups
    assert found.n == wanted.n == task.facts["instances"]
    for layer in wanted.layers:
        np.testing.assert_array_equal(found.profile[layer], wanted.profile[layer])
    halves = [task.among([4, 0, 1]), task.among([5, 2, 3])]
    merged = task.read(halves[0].sums().merge(halves[1].sums()))
    for layer in wanted.layers:
        np.testing.assert_allclose(merged.profile[layer], wanted.profile[layer], atol=1e-5)


def test_a_motif_of_zero_weight_is_named_as_explaining_the_data() -> None:
    # The confound hardly stronger than the motif that is used: only the network's weights tell them apart.
    alike = cascade(explained(Planted(), make_speech(confound=1.5), by="phone"), shuffles=2)
    found = cascade(explained(Planted(), make_speech(), by="phone"))
    assert alike.attrs["in_data_only"] == found.attrs["in_data_only"]
    named = [tuple(entry) for entry in json.loads(found.attrs["in_data_only"]) if entry[0] == "input"]
    assert named == [("input", f"phone:{phone}", unit) for phone, unit in zip(PHONES, CONFOUND, strict=True)]
    assert "what phone:S shows without a mask in unit 8 explains the data, not the network" in found.attrs["notes"]
    # With random weights the motif enters the profile; what was there before is the network's own.
    assert found["verdict"].sel(layer="input", grouping="phone") == "network"
    assert "input: profiles by phone explain the network" in found.attrs["notes"]


def test_a_profile_that_outlives_the_weights_is_named_as_explaining_the_data() -> None:
    # Without the mask the profile is the motifs of the data, used or not.
    found = cascade(explained(Planted(), make_speech(), by=("symbol", "phone"), mask="none"))
    for kind in ("symbol", "phone"):
        assert found["verdict"].sel(layer="input", grouping=kind) == "data"
        assert f"input: profiles by {kind} explain the data, not the network" in found.attrs["notes"]
        assert at(found["kept"], table="profile", layer="input", grouping=kind) > 0.9
        assert at(found["kept"], table="mask", layer="input", grouping=kind) < 0.2
    assert found.attrs["instances"] == 6 * 12 * LENGTH


def test_masks_fall_to_the_shuffled_level() -> None:
    found = cascade(explained(Planted(), make_speech(), by="phone"), shuffles=100)
    last = found.sel(grouping="phone", step=2, table="mask")
    for measure in ("pearson", "spearman"):
        value, ends = last["likeness_mean"].sel(measure=measure), last["shuffled_interval"].sel(measure=measure)
        for layer in ("input", "hidden"):
            assert at(value, layer=layer) < at(ends, layer=layer, bound="high")
    # The logits' own gradient is 1 whatever the weights are, and nothing is said of it.
    assert at(last["likeness_mean"], measure="pearson", layer="out") == pytest.approx(1)
    assert found["verdict"].sel(layer="out", grouping="phone") == ""
    first = found["likeness_mean"].sel(step=0)
    np.testing.assert_allclose(first, 1, atol=1e-5)


def test_layers_below_the_random_ones_are_untouched() -> None:
    # Aligned at the predicted frame, what a layer's values are depends on the weights up to it alone.
    found = cascade(explained(Planted(), make_speech(), by="phone", alignment="none"), shuffles=2)
    assert list(found["randomised"].values) == ["", "out", "hidden"]
    assert list(found["above"].values) == [2, 1, 0]
    contrast = found["likeness_mean"].sel(measure="pearson", table="contrast", grouping="phone")
    np.testing.assert_allclose([contrast.sel(layer="input", step=step) for step in (1, 2)], 1, atol=1e-5)
    np.testing.assert_allclose(contrast.sel(layer="hidden", step=1), 1, atol=1e-5)
    assert at(contrast, layer="hidden", step=2) < 0.9
    assert at(contrast, layer="out", step=1) < 0.9


def test_the_target_stays_the_symbol_that_the_original_predicts() -> None:
    class Linear(nn.Module):
        mels = MELS

        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(8)
            self.conv = nn.Conv1d(MELS, 3, 3, padding=1)

        def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
            return self.conv(features.transpose(1, 2)).transpose(1, 2), lengths

    network, speech = Linear(), make_speech(confound=0.5)
    found = cascade(explained(network, speech, "input", by="symbol", alignment="none"), seed=4, shuffles=2)
    twin = copy.deepcopy(network)
    redraw(twin, ["conv"], 4)
    assert not torch.equal(twin.conv.weight, network.conv.weight)
    for symbol in range(3):
        # The mask of a linear network at the predicted frame is |W_c| / max, of the symbol c of the group.
        one, other = (net.conv.weight[symbol].detach().abs().flatten().numpy() for net in (network, twin))
        cells = np.zeros((2, MELS, 5))
        cells[0, :, 1:4], cells[1, :, 1:4] = one.reshape(MELS, 3), other.reshape(MELS, 3)
        here = {"table": "mask", "step": 1, "layer": "input", "group": f"symbol:{symbol}"}
        assert at(found["likeness"], measure="pearson", **here) == pytest.approx(pearsonr(*cells.reshape(2, -1))[0])
        rank = spearmanr(*cells.reshape(2, -1))[0]
        assert at(found["likeness"], measure="spearman", **here) == pytest.approx(rank, abs=1e-5)


def test_random_weights_are_the_same_for_a_seed_only_and_spare_the_original() -> None:
    network = Planted()
    before = copy.deepcopy(network.state_dict())
    task = explained(network, make_speech(utterances=2), by="phone")
    state = torch.random.get_rng_state()
    one, same, other = (cascade(task, seed=seed, shuffles=2) for seed in (1, 1, 2))
    xr.testing.assert_identical(one, same)
    assert not one["likeness"].equals(other["likeness"])
    assert torch.equal(state, torch.random.get_rng_state())
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


def test_the_order_of_randomisation() -> None:
    class Nested(nn.Module):
        mels = MELS

        def __init__(self) -> None:
            super().__init__()
            # Declared in another order than they run.
            self.last = nn.Linear(8, 3)
            self.block = nn.Sequential(nn.Linear(MELS, 8), nn.LayerNorm(8), nn.ReLU())
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
            return self.last(self.block(features) * self.scale), lengths

    network = Nested()
    steps, lasting = randomisation_order(network, list_layers(network))
    assert [(name, modules) for _, name, modules in steps] == [
        ("last", ["last"]),
        ("block.1", ["block.1"]),
        ("block.0", ["block.0"]),
    ]
    assert lasting == ["network"]
    network.layer_names = ("block", "last")
    steps, _ = randomisation_order(network, list_layers(network))
    assert [(name, modules) for _, name, modules in steps] == [("last", ["last"]), ("block", ["block.0", "block.1"])]
    found = cascade(explained(network, make_speech(utterances=2), by="phone"), shuffles=2)
    assert "cannot draw their weights anew and kept them: network" in found.attrs["notes"]

    class Fixed(nn.Module):
        mels = MELS

        def __init__(self) -> None:
            super().__init__()
            self.relu = nn.ReLU()

        def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
            return self.relu(features)[..., :3], lengths

    with pytest.raises(BadInput, match="no module of this network can draw its weights anew"):
        randomisation_order(Fixed(), list_layers(Fixed(), MELS))


def test_likeness_is_a_correlation_and_shuffling_is_chance() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.random((2, 5, 6, 7))
    other[1] = one[1]
    other[2] = 3
    other[3, 0, 0] = np.nan
    for measure, right in (("pearson", pearsonr), ("spearman", spearmanr)):
        found = correlations(standardised(one, measure), standardised(other, measure))
        assert np.isnan(found).tolist() == [False, False, True, True, False]
        for group in (0, 1, 4):
            wanted = right(one[group].ravel(), other[group].ravel())[0]
            assert found[group] == pytest.approx(wanted, abs=1e-6)
    # A shape in time that all profiles share stays when units and groups are shuffled; what units share does not.
    shape, units = np.hanning(9)[None, None, :], rng.standard_normal((4, 30, 1))
    both = standardised(shape + 0 * units), standardised(units + 0 * shape)
    np.testing.assert_allclose(shuffled_levels(both[0], both[0], 20, rng), 1, atol=1e-5)
    assert abs(shuffled_levels(both[1], both[1], 200, rng).mean()) < 0.03
    with pytest.raises(BadInput, match="different shapes"):
        correlations(one, other[:3])
    with pytest.raises(BadOption, match="kendall"):
        standardised(one, "kendall")


def test_shuffled_labels_have_the_responsiveness_of_chance() -> None:
    below = []
    for seed in range(8):
        task = explained(Planted(), make_speech(utterances=3, seed=seed), by=("phone", "chance"))
        found = shuffled_labels(task, permutations=39, seed=seed)
        p = {kind: found["p"].sel(group=[f"{kind}:{phone}" for phone in PHONES]) for kind in ("phone", "chance")}
        assert (p["phone"] == 1 / 40).all()
        below.append((p["chance"] < 0.05).values)
    # 8 times 4 groups in 3 layers: 5 % is 5; the groups and layers of one set of labels go together.
    assert np.mean(below) < 0.12
    z = found["z"].sel(layer="input")
    assert (z.sel(group=[f"phone:{phone}" for phone in PHONES]) > 4).all()
    assert "of 4 groups by phone, above 95 % of shuffled labels: input 4, hidden 4, out 4" in found.attrs["notes"]
    inside = found["responsiveness"] <= found["null_high"]
    assert inside.sel(group=[f"chance:{phone}" for phone in PHONES]).mean() >= 0.75


def test_several_passes_of_shuffled_labels_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    task = explained(Planted(), make_speech(utterances=2), by="phone")
    one = shuffled_labels(task, permutations=5)
    assert one.attrs["notes"].startswith("5 permutations cannot show")
    monkeypatch.setattr("otoscope.study.controls.MOST_BYTES", 1)
    xr.testing.assert_allclose(one, shuffled_labels(task, permutations=5), rtol=1e-4)
    with pytest.raises(BadOption, match="permutations"):
        shuffled_labels(task, permutations=0)


def test_runs_are_shuffled_whole() -> None:
    utterance = torch.tensor([0, 0, 0, 0, 0, 1, 1, 1])
    members = torch.tensor([[1, 1, -1, 2, 2, 2, -1, 0], [4, 4, 4, 4, 4, 5, 5, 5]]).T
    seen = set()
    for seed in range(40):
        found = shuffle_runs(utterance, members, np.random.default_rng(seed)).T.tolist()
        seen.add(tuple(found[0]))
        a, b, none, c, d, e, gone, f = found[0]
        assert (none, gone) == (-1, -1)
        assert a == b
        assert c == d
        # Four runs with the labels 1, 2, 2, 0: a run ends where the utterance does.
        assert sorted([a, c, e, f]) == [0, 1, 2, 2]
        assert found[1] in ([4] * 5 + [5] * 3, [5] * 5 + [4] * 3)
    assert len(seen) == 12


def test_halves_agree_on_what_is_there_and_on_nothing_else() -> None:
    speech = make_speech(utterances=48, confound=0.0, used=2.0)
    task = explained(Planted(), speech, by=("phone", "chance"))
    found = split_half(task)
    assert found.attrs["splits"] == 3
    planted, chance = ([f"{kind}:{phone}" for phone in PHONES] for kind in ("phone", "chance"))
    profile = found.sel(table="profile")
    assert (profile["reliability"].sel(group=planted) > 0.97).all()
    assert abs(float(profile["correlation"].sel(group=chance, layer=["input", "hidden"]).mean())) < 0.2
    np.testing.assert_allclose(found["reliability"].sel(group=planted), 2 * found["correlation"].sel(group=planted)
                               / (1 + found["correlation"].sel(group=planted)))  # fmt: skip
    assert int(found["instances"].sel(group=planted).sum()) == found.attrs["instances"]
    # Neither the order of the utterances nor a second call changes the halves.
    again = split_half(explained(Planted(), speech[::-1], by=("phone", "chance")))
    np.testing.assert_allclose(again["correlation"], found["correlation"], atol=1e-4)
    with pytest.raises(BadOption, match="even number"):
        split_half(task, folds=3)
    with pytest.raises(BadInput, match="too few utterances"):
        split_half(task, folds=50)


def test_spearman_brown() -> None:
    # The correlation of sums of two halves of a test with parallel halves, r = 0.6: 1.2 / 1.6.
    np.testing.assert_allclose(spearman_brown(np.array([0.6, 0, 1, -0.2])), [0.75, 0, 1, -0.2])
    rng = np.random.default_rng(1)
    truth = rng.standard_normal(20000)
    quarters = truth + 1.5 * rng.standard_normal((4, 20000))
    halves = np.corrcoef(quarters[:2].sum(0), quarters[2:].sum(0))[0, 1]
    whole = truth + 0.75 * rng.standard_normal((2, 20000))
    assert float(spearman_brown(halves)) == pytest.approx(np.corrcoef(whole)[0, 1], abs=0.02)


def test_silhouettes_of_random_networks() -> None:
    network, speech = Planted(), make_speech(utterances=3)
    found = random_silhouettes(explained(network, speech, by="phone"), draws=2)
    wanted = silhouettes(otoscope.gradnap(network, speech, by="phone"), ["phone"])["silhouette_mean"]
    xr.testing.assert_allclose(found["silhouette_mean"].drop_vars("groups"), wanted.drop_vars("groups"))
    assert dict(found["random"].sizes) == {"draw": 2, "grouping": 1, "layer": 3}
    assert not np.allclose(found["random"][0], found["random"][1])
    with pytest.raises(BadOption, match="random weights"):
        random_silhouettes(explained(network, speech, by="phone"), draws=0)


def test_many_units_of_the_data_are_counted_and_a_few_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otoscope.study.cascade.MOST_NAMED", 2)
    found = cascade(explained(Planted(), make_speech(utterances=3), by="phone"), shuffles=2)
    assert len(json.loads(found.attrs["in_data_only"])) >= 4
    assert "input: in 4 groups a unit that differs much is all but left out" in found.attrs["notes"]
    assert found.attrs["notes"].count("explains the data, not the network, whose gradient") == 2
