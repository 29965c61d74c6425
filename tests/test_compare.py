"""Networks compared against similarities of activations collected by hand, each utterance alone."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from test_through_training import LENGTHS, MELS, by_hand, make_run, make_speech
from torch import nn

import otoscope
from otoscope.base import BadInput, BadOption
from otoscope.hear.corpus import Utterance
from otoscope.hear.tiers import Segment
from otoscope.learn.checkpoint import checkpoint_path, load_checkpoint
from otoscope.reduce.similarity import RankWarning
from otoscope.study import plan as module
from otoscope.study.compare import compare

SPEAKERS = ("ann", "bob", "ann", "cid")


@pytest.fixture(autouse=True)
def silent():
    """158 frames are few, as they are meant to be."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RankWarning)
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return [make_run(tmp_path_factory.mktemp("a") / "first"), make_run(tmp_path_factory.mktemp("b") / "second")]


def labelled():
    """The same speech with phones of five frames each, and speakers."""
    speech = []
    for utterance, speaker in zip(make_speech(), SPEAKERS, strict=True):
        frames = len(utterance.features)
        tier = [Segment(s / 100, (s + 5) / 100, "AE" if s // 5 % 2 else "T") for s in range(0, frames - 5, 5)]
        speech.append(utterance.replace(speaker=speaker, tiers={"phone": tier}))
    return speech


def test_every_layer_of_every_network_and_epoch_meets_every_other(runs):
    found = compare(runs, make_speech(), epochs=[1, 3], measures=("cka", "r2"), batch_size=1)
    assert list(found.network.values) == ["first", "second"]
    assert list(found.epoch.values) == [1, 3]
    dims = ("network", "epoch", "layer")
    assert found.cka.dims == (*dims, *(f"other_{dim}" for dim in dims))
    heard = {("first", epoch): by_hand(runs[0], epoch) for epoch in (1, 3)}
    heard |= {("second", epoch): by_hand(runs[1], epoch) for epoch in (1, 3)}
    for measure in ("cka", "r2"):
        for (network, epoch), layers in heard.items():
            for (other, other_epoch), others in heard.items():
                at = found[measure].sel(network=network, epoch=epoch, other_network=other, other_epoch=other_epoch)
                direct = otoscope.similarity(layers["layer1"], others["layer2"], measure)
                assert float(at.sel(layer="layer1", other_layer="layer2")) == pytest.approx(direct, abs=1e-6)
    assert (found.attrs["frames"], found.attrs["utterances"]) == (sum(LENGTHS), 4)


def test_nodes_are_the_input_and_one_hot_labels(runs):
    speech = labelled()
    found = compare(runs[0], speech, nodes=("mel", "phone", "speaker"), measures=("cka", "cca"), batch_size=1)
    layer = by_hand(runs[0], 3)["layer2"]
    mel = np.concatenate([utterance.features for utterance in speech])
    hot = []
    for utterance in speech:
        # Frame t sounds in the middle of its hop, at (t + 1/2) / 100 seconds.
        rows = np.zeros((len(utterance.features), 2))
        for segment in utterance.tiers["phone"]:
            place = ["AE", "T"].index(segment.label)
            rows[round(segment.start_s * 100) : round(segment.end_s * 100), place] = 1
        hot.append(rows)
    speakers = np.concatenate([np.tile(np.eye(3)[["ann", "bob", "cid"].index(s)], (n, 1))
                               for s, n in zip(SPEAKERS, LENGTHS, strict=True)])  # fmt: skip
    for measure in ("cka", "cca"):
        at = found[f"{measure}_node"].sel(network="first", epoch=3, layer="layer2")
        for node, values in (("mel", mel), ("phone", np.concatenate(hot)), ("speaker", speakers)):
            direct = otoscope.similarity(layer, values, measure)
            assert float(at.sel(node=node)) == pytest.approx(direct, abs=1e-6)
    # Half of the speakers teach the probe (ann, cid), the other is tested (bob).
    assert (found.attrs["train_frames"], found.attrs["test_speakers"]) == (35 + 55 + 30, 1)
    assert 0 <= found.probe.sel(layer="layer1", node="phone").item() <= 1
    assert np.isnan(found.probe.sel(layer="layer1", node="speaker").item())


def test_a_label_that_a_layer_holds_is_read_off_it():
    """The network passes its input on, and the input is the label, in another basis."""
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(MELS, MELS)))[0]
    speech = []
    for index in range(6):
        labels = rng.integers(0, 3, 40)
        features = (np.eye(MELS)[labels] @ turn + 0.01 * rng.normal(size=(40, MELS))).astype(np.float32)
        tier = [Segment(t / 100, (t + 1) / 100, "AE IY UW".split()[label]) for t, label in enumerate(labels)]
        speech.append(Utterance(f"u{index}", features=features, speaker=f"s{index % 3}", tiers={"phone": tier}))

    class Passing(nn.Module):
        mels = MELS

        def __init__(self):
            super().__init__()
            self.same = nn.Identity()
            self.noise = nn.Linear(MELS, MELS)

        def forward(self, features, lengths):
            return self.noise(self.same(features)) * 0 + torch.rand_like(features), lengths

    found = compare(Passing(), speech, layers=["same"], nodes=("phone",))
    assert found.epoch.values.tolist() == [-1]
    assert found.probe.item() == 1
    assert float(found.probe_input.squeeze()) == 1
    assert 0.3 < float(found.probe_chance.squeeze()) < 0.6
    assert found.probe.attrs["test_frames"] == 80
    assert float(found.svcca_node.squeeze()) > 0.99


def test_intervals_and_baselines_are_those_of_the_arrays(runs):
    speech = make_speech()
    found = compare(runs[0], speech, layers=["layer1", "layer2"], measures=["cka"], interval=0.9, batch_size=4,
                    baseline=("permutation", "random"), folds=4, repairings=2)  # fmt: skip
    heard = by_hand(runs[0], 3)
    wanted = otoscope.similarity_matrix(
        {name: heard[name] for name in ("layer1", "layer2")}, measures=["cka"], interval=0.9, lengths=LENGTHS, folds=4
    )
    pair = {"network": "first", "epoch": 3, "layer": "layer1",
            "other_network": "first", "other_epoch": 3, "other_layer": "layer2"}  # fmt: skip
    np.testing.assert_allclose(found["cka_interval"].sel(pair), wanted["cka_interval"][0, 1], atol=1e-5)
    # Sorted by length, as a batch is: 26, 34, 40, 58; each meets the next, or the one after.
    starts = dict(zip(LENGTHS, np.cumsum([0, *LENGTHS[:-1]]), strict=True))
    order = sorted(LENGTHS)
    for shift in (1, 2):
        rows, others = [], []
        for index, length in enumerate(order):
            partner = order[(index + shift) % 4]
            shared = min(length, partner)
            rows.append(heard["layer1"][starts[length] :][:shared])
            others.append(heard["layer2"][starts[partner] :][:shared])
        direct = otoscope.similarity(np.concatenate(rows), np.concatenate(others), "cka")
        assert float(found["cka_baseline"].sel(pair)[shift - 1]) == pytest.approx(direct, abs=1e-5)
    assert 0 < float(found["cka_random"].sel(pair)) < 1
    assert float(found["cka_random"].sel(pair)) != pytest.approx(float(found["cka"].sel(pair)), abs=1e-3)


def test_networks_with_random_weights_leave_the_network_as_it_is(runs):
    network = load_checkpoint(checkpoint_path(runs[0], 3))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    first = compare({"n": network}, make_speech(), baseline="random", measures=["cka"])
    again = compare({"n": network}, make_speech(), baseline="random", measures=["cka"])
    other = compare({"n": network}, make_speech(), baseline="random", measures=["cka"], seed=1)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    np.testing.assert_array_equal(first["cka_random"], again["cka_random"])
    assert float(abs(first["cka_random"] - other["cka_random"]).max()) > 1e-3


def test_layers_of_other_frame_rates_are_interpolated_to_the_finest(tmp_path):
    folder = make_run(tmp_path / "strided", stride=2)
    found = compare(
        folder, make_speech(), layers=["layer1", "layer2"], measures=["cka"], align="interpolate", batch_size=1
    )
    heard, start, fine = by_hand(folder, 3), 0, []
    for length in LENGTHS:
        rows = heard["layer2"][start : start + length // 2]
        at = np.linspace(0, len(rows) - 1, length)
        fine.append(np.stack([np.interp(at, np.arange(len(rows)), unit) for unit in rows.T], 1))
        start += length // 2
    direct = otoscope.similarity(heard["layer1"], np.concatenate(fine), "cka")
    value = found.cka.squeeze().sel(layer="layer1", other_layer="layer2")
    assert float(value) == pytest.approx(direct, abs=1e-5)
    assert found.attrs["frames"] == sum(LENGTHS)
    assert "interpolated linearly to the finest" in found.attrs["notes"]


class Maps(nn.Module):
    """Two convolutional maps (batch, channel, frame, frequency), and a layer that is none."""

    mels = MELS

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.one = nn.Conv2d(1, 4, 3, padding=1)
        self.two = nn.Conv2d(4, 5, 3, padding=1)
        self.flat = nn.Linear(5 * MELS, 3)
        self.calls = 0

    def forward(self, features, lengths):
        self.calls += not torch.is_grad_enabled() and len(features) < 3 and features.shape[1] in LENGTHS
        maps = torch.relu(self.two(torch.relu(self.one(features[:, None]))))
        return self.flat(maps.transpose(1, 2).flatten(2)), lengths


def maps_by_hand(network):
    kept = {"one": [], "two": []}
    hooks = [network.get_submodule(n).register_forward_hook(lambda _m, _i, o, n=n: kept[n].append(o[0])) for n in kept]
    with torch.no_grad():
        for utterance in make_speech():
            network(torch.from_numpy(utterance.features)[None], torch.tensor([len(utterance.features)]))
    for hook in hooks:
        hook.remove()
    return kept


def test_neurons_of_maps_are_channels_or_channels_at_frequencies():
    network = Maps()
    kept = maps_by_hand(network)
    units = {n: torch.cat([m.transpose(0, 1).flatten(1) for m in maps]).double() for n, maps in kept.items()}
    channels = {n: torch.cat([m.permute(1, 2, 0).flatten(0, 1) for m in maps]).double() for n, maps in kept.items()}
    for maps, arrays in (("units", units), ("channels", channels)):
        found = compare(network, make_speech(), layers=["one", "two"], measures=["cka"], maps=maps, batch_size=1)
        direct = otoscope.similarity(arrays["one"], arrays["two"], "cka")
        assert float(found.cka.squeeze()[0, 1]) == pytest.approx(direct, abs=1e-6)
        assert found.attrs["frames"] == len(arrays["one"])
    with pytest.raises(BadOption, match=r'different numbers of points(.|\n)*maps="units"'):
        compare(network, make_speech(), layers=["one", "flat"], maps="channels")


def test_each_network_runs_once_on_each_batch():
    network = Maps()
    listed = otoscope.list_layers(network)
    assert listed
    network.calls = 0
    probed = compare(network, make_speech(), layers=["one", "two"], batch_size=1, interval=0.9, folds=4)
    assert probed.attrs["utterances"] == 4
    measuring = network.calls - len(LENGTHS)
    network.calls = 0
    compare(network, make_speech() * 2, layers=["one", "two"], batch_size=1)
    assert network.calls - measuring == 2 * len(LENGTHS)


def test_the_presets_of_the_paper():
    network = Maps()
    long = Utterance("long", features=np.random.default_rng(0).normal(size=(130, MELS)).astype(np.float32))
    found = compare(network, [*make_speech(), long], layers=["flat"], measures=["svcca", "cka"],
                    preset="ollerenshaw2021")  # fmt: skip
    # 100 frames of one input, three units each, in one column.
    assert (found.attrs["frames"], found.attrs["utterances"]) == (300, 1)
    assert "99 % of the variance kept" in found.attrs["notes"]
    with pytest.raises(BadOption, match=r"as long as the preset's input\n.*58 frames\n.*100"):
        compare(network, make_speech(), preset="ollerenshaw2021", layers=["flat"])
    padded = compare(network, make_speech(), layers=["flat"], measures=["cka"], preset="ollerenshaw2021-code")
    assert padded.attrs["frames"] == 4 * max(LENGTHS) * 3


def test_layers_can_be_named_by_network(runs):
    found = compare({"a": runs[0], "b": runs[1]}, make_speech(), layers={"a": ["layer1"], "b": ["layer2"]})
    assert list(found.network.values) == ["a", "b"]
    value = found.cka.sel(network="a", layer="layer1", other_network="b", other_layer="layer2").squeeze()
    assert np.isfinite(float(value))
    assert np.isnan(found.cka.sel(network="a", layer="layer2")).all()


def test_bad_requests_are_refused_in_words(runs, monkeypatch):
    with pytest.raises(BadOption, match="there is no network"):
        compare([], make_speech())
    with pytest.raises(BadInput, match=r"this is no network\n.*int"):
        compare([3], make_speech())
    with pytest.raises(BadOption, match=r"nothing can be similar to the node 'phone'(.|\n)*--ctm"):
        compare(runs[0], make_speech(), nodes=["phone"])
    with pytest.raises(BadOption, match="unknown baseline"):
        compare(runs[0], make_speech(), baseline="chance")
    with pytest.raises(BadOption, match="unknown alignment"):
        compare(runs[0], make_speech(), align="stretch")
    with pytest.raises(BadOption, match="unknown preset"):
        compare(runs[0], make_speech(), preset="paper")
    monkeypatch.setattr(module, "MOST_BYTES", 1000)
    with pytest.raises(BadOption, match=r"do not fit into memory(.|\n)*fewer layers or epochs"):
        compare(runs, make_speech(), epochs="all")
