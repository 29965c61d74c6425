"""Profiles through training against planted courses: networks whose detectors are switched on, moved and kept.

The hidden layer is the same at all epochs: unit u passes on mel bin u. Only the output's weights change, so the
profile of a group is that of the units which its logit reads.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

import otoscope
from otoscope.base import BadCheckpoint, BadInput, BadOption, write_json
from otoscope.hear.corpus import Utterance
from otoscope.learn.checkpoint import checkpoint_path, load_checkpoint, save_checkpoint
from otoscope.learn.networks import build, read_config
from otoscope.reduce.profile_course import along_epochs, appeared_from, correlations
from otoscope.study import gradnap_training
from otoscope.study.gradnap_training import gradnap_through_training, shuffled_order

MELS, EPOCHS = 8, 9
SYMBOLS = ["_", "a", "b", "c"]
LAYERS = ["input", "layer1"]
# Mel bins that hold the events of each symbol; the others, from 5 on, are noise.
BINS = {"a": (0,), "b": (1, 4), "c": (2,)}


def weights_of(epoch: int) -> torch.Tensor:
    """The output's weights `(symbol, unit)`: what each logit reads at an epoch."""
    weight = torch.zeros(4, MELS)
    # A logit without a detector hangs on noise, too weakly ever to win.
    weight[1, 0 if epoch >= 3 else 5] = 1 if epoch >= 3 else 0.01
    if epoch < 5:
        weight[2, 6] = 0.01
    elif epoch < 7:
        weight[2, 1], weight[2, 4] = 1, 0.1 * (epoch - 5)
    else:
        weight[2, 1], weight[2, 4] = 1, 0.8
    weight[3, 2] = 1
    return weight


def make_run(folder: Path) -> Path:
    hidden = [{"units": MELS, "kernel": 3}]
    config = read_config({"mels": MELS, "symbols": SYMBOLS, "hidden": hidden, "norm": "none"})
    for epoch in range(EPOCHS):
        torch.manual_seed(0)
        network = build(config)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.zero_()
            network.layer1.convolution.weight[:, :, 1] = torch.eye(MELS)
            # So that no unit that a logit reads is ever off.
            network.layer1.convolution.bias[:] = 1
            network.layer2.convolution.weight[:, :, 0] = weights_of(epoch)
            network.layer2.convolution.bias[0] = 3
        save_checkpoint(checkpoint_path(folder, epoch), network, {"epoch": epoch})
    write_json(folder / "run.json", {"network": config.model_dump(mode="json"), "train": {}, "corpus": {}})
    return folder


def make_speech(utterances: int = 12) -> list[Utterance]:
    rng = np.random.default_rng(4)
    found = []
    for number in range(utterances):
        values = 0.2 * rng.standard_normal((60, MELS)).astype(np.float32)
        tier = []
        for place, symbol in enumerate(rng.permutation(["a", "b", "c"])):
            start = 8 + 16 * place
            values[start : start + 6, list(BINS[symbol])] += 4
            tier.append((start / 100, (start + 6) / 100, symbol.upper()))
        found.append(Utterance(f"u{number}", features=values, tiers={"event": tier}, speaker=f"s{number % 2}"))
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def course(run: Path) -> xr.Dataset:
    return gradnap_through_training(run, make_speech(), layers=LAYERS, by="symbol")


@pytest.mark.parametrize("instances_of", ["last", "own"])
@pytest.mark.parametrize("by", ["symbol", "event"])
def test_planted_switches_are_found_at_their_epochs(run: Path, instances_of: str, by: str) -> None:
    found = gradnap_through_training(run, make_speech(), LAYERS, by, instances_of=instances_of)
    a, b = ("symbol:a", "symbol:b") if by == "symbol" else ("event:A", "event:B")
    for layer in LAYERS:
        assert float(found["appeared"].sel(layer=layer, group=a)) == 3
        assert float(found["settled"].sel(layer=layer, group=a)) == 3
        assert float(found["appeared"].sel(layer=layer, group=b)) == 5
        assert float(found["settled"].sel(layer=layer, group=b)) == 7
    assert found.attrs["frames"] == 3 * 12 * 6
    early = found["instances"].sel(epoch=[0, 2], group=a).values
    assert list(early) == ([72, 72] if instances_of == "last" else [0, 0])


def test_what_does_not_change_is_there_from_the_first_checkpoint(course: xr.Dataset) -> None:
    """Though the shuffled level does change, with the other groups."""
    for name in ("appeared", "settled"):
        assert (course[name].sel(group="symbol:c") == 0).all()
    level = course["shuffled"].sel(group="symbol:c", layer="layer1")
    assert float(level.max()) > 1.1 * float(level.min())


def test_equals_gradnap_of_each_checkpoint(run: Path) -> None:
    """With their own predictions, what is compared are the profiles that `otoscope.gradnap` gives."""
    speech, options = make_speech(), {"layers": LAYERS, "by": ["symbol", "event"]}
    found = gradnap_through_training(run, speech, instances_of="own", epochs=[8, 3, 6], **options)
    assert list(found["epoch"].values) == [3, 6, 8]
    profiles = {e: otoscope.gradnap(load_checkpoint(checkpoint_path(run, e)), speech, **options) for e in (3, 6, 8)}
    for epoch, one in profiles.items():
        for layer in LAYERS:
            r = one.responsiveness()[layer]
            here = found.sel(epoch=epoch, layer=layer)
            np.testing.assert_allclose(here["responsiveness"], np.linalg.norm(r.values, axis=1), rtol=1e-5)
            np.testing.assert_array_equal(here["instances"], one.instances.max("layer"))
            np.testing.assert_allclose(here["extent_frames"], one.extent().frames.sel(layer=layer))
            for group in ("symbol:b", "event:C"):
                tables = [p.profile[layer].sel(group=group).values.ravel() for p in (one, profiles[8])]
                if np.isfinite(tables[0]).all():
                    wanted = np.corrcoef(*tables)[0, 1]
                    assert float(here["similarity"].sel(group=group)) == pytest.approx(wanted, abs=1e-6)


def test_shuffled_groups_keep_their_sizes_and_take_each_label_once() -> None:
    owner = torch.arange(30).repeat_interleave(7)
    label = torch.arange(210) // 6
    order = shuffled_order(owner, seed=3)
    assert sorted(order.tolist()) == list(range(210))
    assert torch.equal(order, shuffled_order(owner, seed=3))
    assert not torch.equal(order, shuffled_order(owner, seed=4))
    # Neighbours within an utterance stay neighbours.
    assert int((order.diff() == 1).sum()) >= 210 - 30 - 2
    assert float((label[order] == label).float().mean()) < 0.2


def test_correlation_leaves_out_what_one_of_them_never_reaches() -> None:
    def table(values: list[list[float]], count: list[int], offset: list[int]) -> xr.Dataset:
        profile = np.array(values)[None]
        data = {"profile": (("group", "unit", "offset"), profile), "count": (("group", "offset"), [count])}
        return xr.Dataset(data, coords={"group": ["symbol:a"], "offset": offset})

    one = table([[1, 2, 99], [0, 5, 99]], [4, 4, 0], [-1, 0, 1])
    other = table([[7, 2, 4, 3], [7, 0, 10, 1]], [4, 4, 4, 4], [-2, -1, 0, 1])
    assert correlations(one, other, "profile")[0] == pytest.approx(np.corrcoef([1, 2, 0, 5], [2, 4, 0, 10])[0, 1])
    flat = table([[1, 1], [1, 1]], [4, 4], [0, 1])
    assert np.isnan(correlations(flat, other, "profile")[0])


def test_appeared_is_the_first_epoch_above_the_null_for_good() -> None:
    strength = xr.DataArray(
        [[2, 0, 3, 3], [2, 3, 3, 3], [np.nan, 0.5, 2, 2], [0.2, 0.5, 0.6, 1.5], [3, 3, 3, 0.9]],
        dims=("group", "epoch"),
        coords={"epoch": [0, 2, 5, 9]},
    )
    similarity = xr.ones_like(strength)
    similarity[1] = [0.4, 0.6, 0.3, 1]
    similarity[2] = [np.nan, np.nan, 0.5, 1]
    nan = np.nan
    np.testing.assert_array_equal(appeared_from(strength, similarity, None), [5, 0, 5, 9, nan])
    np.testing.assert_array_equal(appeared_from(strength, similarity), [5, 9, 5, 9, nan])
    np.testing.assert_array_equal(appeared_from(strength, similarity, 0.4), [5, 9, 5, 9, nan])
    np.testing.assert_array_equal(appeared_from(strength, similarity, 0.3), [5, 0, 5, 9, nan])


def test_chance_does_not_settle() -> None:
    def table(strength: float) -> xr.Dataset:
        names = ("similarity", "mask_similarity", "shuffled", "extent_frames", "extent_seconds")
        ones = {name: (("layer", "group"), np.ones((1, 2))) for name in names}
        ones |= {"responsiveness": (("layer", "group"), [[strength, 2.0]]), "instances": ("group", [5, 5])}
        nominal = {name: ("layer", [1.0]) for name in ("nominal_frames", "nominal_seconds")}
        coords = {"layer": ["l"], "group": ["symbol:a", "symbol:b"]}
        return xr.Dataset(ones | nominal, coords=coords, attrs={"frames": 10, "notes": []})

    found = along_epochs({1: table(2.0), 2: table(0.9)}, None, 0.1)
    np.testing.assert_array_equal(found["settled"], [[np.nan, 1]])
    np.testing.assert_array_equal(found["appeared"], [[np.nan, 1]])


def test_an_interrupted_pass_goes_on_where_it_was(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"layers": LAYERS, "by": "symbol", "epochs": [1, 4, 6, 8]}
    whole = gradnap_through_training(run, make_speech(), **options)
    options["folder"] = tmp_path / "kept"
    explained: list[int] = []
    genuine = gradnap_training.explain

    def counting(network, *rest):
        explained.append(network.checkpoint["epoch"])
        if stop_after and len(explained) == stop_after:
            raise KeyboardInterrupt
        return genuine(network, *rest)

    monkeypatch.setattr(gradnap_training, "explain", counting)
    stop_after = 3
    with pytest.raises(KeyboardInterrupt):
        gradnap_through_training(run, make_speech(), **options)
    assert explained == [8, 1, 4]
    stop_after = 0
    explained.clear()
    found = gradnap_through_training(run, make_speech(), **options)
    assert explained == [4, 6]
    xr.testing.assert_identical(found, whole)
    explained.clear()
    xr.testing.assert_identical(gradnap_through_training(run, make_speech(), **options), whole)
    assert explained == []
    # Tolerance and likeness are read from the tables; other speech, options or weights are another pass.
    gradnap_through_training(run, make_speech(), tolerance=0.5, alike=None, **options)
    assert explained == []
    gradnap_through_training(run, make_speech(5), **options | {"epochs": [6, 8]})
    gradnap_through_training(run, make_speech(), instances="peak", **options | {"epochs": [6, 8]})
    assert explained == [8, 6, 8, 6]
    xr.testing.assert_identical(gradnap_through_training(run, make_speech(), **options), whole)
    assert explained == [8, 6, 8, 6]


def test_a_table_cut_short_is_made_again(run: Path, tmp_path: Path) -> None:
    options = {"layers": LAYERS, "by": "symbol", "folder": tmp_path, "epochs": [2, 8]}
    first = gradnap_through_training(run, make_speech(), **options)
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:100])
    xr.testing.assert_identical(gradnap_through_training(run, make_speech(), **options), first)


def test_progress_rises_to_the_end(run: Path) -> None:
    said: list[tuple[int, int]] = []
    gradnap_through_training(
        run,
        make_speech(),
        LAYERS,
        "symbol",
        [1, 8],
        batch_size=4,
        progress=lambda done, of, note: said.append((done, of)),
    )
    assert [done for done, _ in said] == sorted(done for done, _ in said)
    assert said[-1] == (200, 200)
    assert len(said) == 2 * (3 + 1)


def test_the_result_says_what_it_is(course: xr.Dataset) -> None:
    assert course["similarity"].dims == ("layer", "group", "epoch")
    assert course["appeared"].dims == course["settled"].dims == ("layer", "group")
    assert (course["similarity"].sel(epoch=8) > 1 - 1e-12).all()
    assert (course.attrs["utterances"], course.attrs["left_out"], course.attrs["alike"]) == (12, 0, 0.5)
    assert json.loads(course.attrs["settings"])["shuffles"] == 3
    assert len(set(course.attrs["checkpoints"])) == EPOCHS


def test_what_cannot_be(run: Path, tmp_path: Path) -> None:
    speech = make_speech(2)
    for options in (
        {"epochs": [3]},
        {"epochs": [3, 99]},
        {"epochs": "some"},
        {"instances_of": "first"},
        {"alike": 1.0},
        {"instances": "some"},
        {"shuffles": 0},
        {"tolerance": 1.0},
        {"layers": "layer9"},
        {"by": "dialect"},
        {"blank": 9},
        {"preset": "nap"},
    ):
        with pytest.raises(BadOption):
            gradnap_through_training(run, speech, **options)
    with pytest.raises(BadCheckpoint):
        gradnap_through_training(tmp_path, speech)
    silence = [Utterance("quiet", features=np.zeros((40, MELS), np.float32))]
    with pytest.raises(BadInput, match="predicts a symbol"):
        gradnap_through_training(run, silence)


def test_a_checkpoint_trained_anew_is_explained_anew(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    options = {"layers": LAYERS, "by": "symbol", "folder": tmp_path / "kept", "epochs": [2, 8]}
    before = gradnap_through_training(copy, make_speech(), **options)
    shutil.copyfile(checkpoint_path(run, 6), checkpoint_path(copy, 2))
    after = gradnap_through_training(copy, make_speech(), **options)
    assert (before["appeared"].sel(group="symbol:b") == 8).all()
    assert (after["appeared"].sel(group="symbol:b") == 2).all()
