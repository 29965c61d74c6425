"""A linear network, whose GradNAPs follow from its weights on paper.

With logits z[t, c] = Σ_k W_c[:, k] · x[t + k - 2], the gradient of z[t, c] at frame t + k - 2 is W_c[:, k] for every t.
So all instances of c are aligned at k* = argmax_k mean |W_c[:, k]|, and the mask is |W_c| / max |W_c| around it.
"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import otoscope
from otoscope.base import BadInput, BadOption
from otoscope.hear.corpus import Utterance
from otoscope.hear.tiers import Segment
from otoscope.probe.layers import Survey, list_layers
from otoscope.reduce.gradnap import ProfileSums
from otoscope.reduce.profiles import Profiles
from otoscope.study.gradnap import gradnap_sums

MELS, CLASSES, KERNEL, EDGE = 6, 4, 5, 10
FRAMES = (60, 75, 90)
HOP_S = 0.01


class Linear(nn.Module):
    """One convolution over time as logits. The last input unit says where output 0, the blank, wins."""

    mels = MELS

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(MELS, CLASSES, KERNEL, padding=KERNEL // 2, bias=False)
        torch.manual_seed(5)
        weight = torch.randn(CLASSES, MELS, KERNEL)
        weight[:, -1] = 0
        weight[0] = 0
        weight[0, -1, KERNEL // 2] = 100
        # The mean of two outputs is never the highest: output 3 is never predicted.
        weight[3] = (weight[1] + weight[2]) / 2
        self.conv.weight = nn.Parameter(weight)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return self.conv(features.transpose(1, 2)).transpose(1, 2), lengths


class Named(Linear):
    symbols, blank = ("_", "a", "b", "c"), 0


def make_speech() -> list[Utterance]:
    rng = np.random.default_rng(1)
    found = []
    for index, frames in enumerate(FRAMES):
        values = rng.standard_normal((frames, MELS)).astype(np.float32)
        values[:, -1] = (rng.random(frames) < 0.3).astype(np.float32)
        # Blank near the ends: no instance's cone or window leaves the utterance.
        values[:EDGE, -1] = values[-EDGE:, -1] = 1
        tier = [(0.2, 0.3, "AE"), (0.3, 0.4, "T"), (0.4, 0.45, "SIL")]
        found.append(Utterance(f"u{index}", features=values, tiers={"phone": tier}, speaker="ann" if index else "bob"))
    return found


def predictions(network: Linear, utterances: list[Utterance]) -> list[np.ndarray]:
    with torch.no_grad():
        return [
            network(torch.from_numpy(u.features)[None], torch.tensor([len(u.features)]))[0][0].argmax(-1).numpy()
            for u in utterances
        ]


@pytest.fixture(scope="module")
def network() -> Named:
    return Named()


@pytest.fixture(scope="module")
def profiles(network: Named) -> Profiles:
    return otoscope.gradnap(network, make_speech(), by=("symbol", "phone"))


def around(array: np.ndarray, width: int, at: int) -> np.ndarray:
    """`(unit, kernel)` on a window `(unit, offset)` with column `at` in its middle."""
    window = np.zeros((len(array), width))
    first = width // 2 - at
    window[:, first : first + array.shape[1]] = array
    return window


@pytest.mark.parametrize(("symbol", "number"), [("a", 1), ("b", 2)])
def test_closed_form(network: Named, profiles: Profiles, symbol: str, number: int) -> None:
    weight = np.abs(network.conv.weight[number].detach().numpy())
    at = int(weight.mean(0).argmax())
    mask = profiles.mask["input"].sel(group=f"symbol:{symbol}").values
    wanted = around(weight / weight.max(), mask.shape[1], at)
    np.testing.assert_allclose(mask, wanted, atol=1e-5)
    # The mean input around k* over all instances, less that over all instances of any symbol, each at its own k*.
    half = mask.shape[1] // 2
    windows: dict[int, list[np.ndarray]] = {1: [], 2: [], 3: []}
    for utterance, best in zip(make_speech(), predictions(network, make_speech()), strict=True):
        for t in np.flatnonzero(best):
            own = np.abs(network.conv.weight[best[t]].detach().numpy())
            middle = t + int(own.mean(0).argmax()) - KERNEL // 2
            windows[int(best[t])].append(utterance.features[middle - half : middle + half + 1].T)
    mean = np.mean(windows[number], 0)
    usual = np.mean([window for group in windows.values() for window in group], 0)
    np.testing.assert_allclose(profiles.mean["input"].sel(group=f"symbol:{symbol}"), mean, atol=1e-5)
    np.testing.assert_allclose(
        profiles.profile["input"].sel(group=f"symbol:{symbol}"), (mean - usual) * wanted, atol=1e-5
    )


def test_output_layer_is_decided_at_its_own_frame(profiles: Profiles) -> None:
    # The gradient of a logit with respect to itself: 1 for its own unit at its own frame.
    (layer,) = [name for name in profiles.layers if name != "input"]
    mask = profiles.mask[layer].sel(group="symbol:b")
    wanted = np.zeros(mask.shape)
    wanted[2, mask.shape[1] // 2] = 1
    np.testing.assert_allclose(mask.values, wanted, atol=1e-6)


def test_blank_frames_are_left_out_and_counted(network: Named, profiles: Profiles) -> None:
    best = np.concatenate(predictions(network, make_speech()))
    assert profiles.settings["blank_frames"] == int((best == 0).sum()) > 6 * EDGE - 1
    assert profiles.n == int((best != 0).sum())
    assert "symbol:_" not in profiles.groups
    counts = profiles.instances.sel(layer="input")
    for number, symbol in enumerate("abc", start=1):
        assert int(counts.sel(group=f"symbol:{symbol}")) == int((best == number).sum())


def test_groups_that_never_occur_are_empty(profiles: Profiles) -> None:
    assert profiles.empty == ("symbol:c",)
    assert np.isnan(profiles.profile["input"].sel(group="symbol:c")).all()
    assert any("symbol:c" in note for note in profiles.notes)


def test_by_phone(network: Named, profiles: Profiles) -> None:
    best = predictions(network, make_speech())
    counts = profiles.instances.sel(layer="input")
    assert int(counts.sel(group="phone:AE")) == sum(int((row[20:30] != 0).sum()) for row in best)
    assert int(counts.sel(group="phone:T")) == sum(int((row[30:40] != 0).sum()) for row in best)
    assert [name for name in profiles.groups if name.startswith("phone:")] == ["phone:AE", "phone:T"]
    grouped = int(counts.sel(group=["phone:AE", "phone:T"]).sum())
    assert profiles.settings["ungrouped"] == {"symbol": 0, "phone": profiles.n - grouped}
    assert (profiles.settings["hop_s"], profiles.settings["utterances"]) == (HOP_S, 3)


def test_a_prediction_stands_for_the_phone_of_its_letter(network: Named) -> None:
    """Transcripts are what is said; a makes AE, and b nothing. One ends with a letter that nobody says."""
    best = predictions(network, make_speech())
    texts = ["".join("_abc"[n] for n, _ in groupby(row.tolist()) if n) for row in best]
    speech = [u.replace(text=text) for u, text in zip(make_speech(), [texts[0] + "a", texts[1], "a 4"], strict=True)]
    made = {"a": ["AE"], "b": []}

    def pronounce(word: str) -> list[tuple[str, list[str]]]:
        if word == "4":
            raise BadInput("no letters")
        return [(letter, made[letter]) for letter in word]

    found = otoscope.gradnap(network, speech[:2], by=("symbol", "reference-phone"), pronounce=pronounce)
    assert [name for name in found.groups if not name.startswith("symbol:")] == ["reference-phone:AE"]
    a, b = (sum(int((row == n).sum()) for row in best[:2]) for n in (1, 2))
    for layer in found.layers:
        pair = [found.profile[layer].sel(group=name).values for name in ("symbol:a", "reference-phone:AE")]
        np.testing.assert_array_equal(*pair)
        assert int(found.instances.sel(layer=layer, group="reference-phone:AE")) == a
    assert found.settings["ungrouped"]["reference-phone"] == b
    assert found.settings["stand_for"] == {"reference-phone": {"the same letter": a, "a letter that is silent": b}}
    # One instance stands for the only letter that is read; the third utterance says far more than its transcript has.
    found = otoscope.gradnap(network, speech, by="reference-phone", pronounce=pronounce)
    assert found.settings["unpronounced"] == {"4": 1}
    assert sum(found.settings["stand_for"]["reference-phone"].values()) == found.n
    assert found.settings["stand_for"]["reference-phone"]["no letter of the transcript"] > 0
    assert "1 words of the transcripts have no phones: 4 (1)" in found.notes
    assert any("letter of the transcript" in note and note.startswith("reference-phone: of ") for note in found.notes)


def test_peak_takes_one_frame_of_each_run(network: Named) -> None:
    found = otoscope.gradnap(network, make_speech(), by="symbol", instances="peak")
    runs = [key for row in predictions(network, make_speech()) for key, _ in groupby(row.tolist()) if key]
    assert found.n == len(runs)
    counts = found.instances.sel(layer="input")
    assert [int(counts.sel(group=f"symbol:{s}")) for s in "ab"] == [runs.count(1), runs.count(2)]
    # The frame is that of the highest logit: its mean activation is the mean of the runs' maxima.
    (layer,) = [name for name in found.layers if name != "input"]
    highest = []
    for utterance in make_speech():
        with torch.no_grad():
            scores = network(torch.from_numpy(utterance.features)[None], torch.tensor([len(utterance.features)]))[0][0]
        best, t = scores.argmax(-1).tolist(), 0
        for key, members in groupby(best):
            size = len(list(members))
            if key == 1:
                highest.append(float(scores[t : t + size, 1].max()))
            t += size
    mean = found.mean[layer].sel(group="symbol:a", unit=1, offset=0)
    assert float(mean) == pytest.approx(np.mean(highest), abs=1e-5)


def test_order_and_batches_do_not_matter(network: Named, profiles: Profiles) -> None:
    for utterances, size in ((make_speech()[::-1], 1), (make_speech(), 2)):
        found = otoscope.gradnap(network, utterances, by=("symbol", "phone"), batch_size=size)
        assert found.groups == profiles.groups
        assert found.settings["corpus"] == profiles.settings["corpus"]
        for layer in profiles.layers:
            np.testing.assert_allclose(found.profile[layer], profiles.profile[layer], atol=1e-5)
            np.testing.assert_array_equal(found.instances, profiles.instances)


def test_symbols_by_number_and_no_blank() -> None:
    network = Linear()
    found = otoscope.gradnap(network, make_speech(), by="symbol")
    assert found.groups == tuple(f"symbol:{number}" for number in range(CLASSES))
    assert (found.settings["blank_frames"], found.n) == (0, sum(FRAMES))
    assert otoscope.gradnap(network, make_speech(), by="symbol", blank=0).groups == found.groups[1:]
    with_all = otoscope.gradnap(Named(), make_speech(), by="symbol", blank=None)
    assert with_all.groups[0] == "symbol:_"
    assert int(with_all.instances.sel(layer="input", group="symbol:_")) > 0


def test_bad_options(network: Named) -> None:
    with pytest.raises(BadOption, match=r"(?s)got:\s+3 names.*wanted: 4"):
        otoscope.gradnap(network, make_speech(), symbols=["_", "a", "b"])
    with pytest.raises(BadOption, match=r"(?s)blank.*got:\s+9.*0 to 3"):
        otoscope.gradnap(network, make_speech(), blank=9)
    with pytest.raises(BadOption, match="everyone"):
        otoscope.gradnap(network, make_speech(), instances="everyone")
    with pytest.raises(BadOption, match="nothing to group by"):
        otoscope.gradnap(network, make_speech(), by="dialect")
    with pytest.raises(BadOption, match="conv9"):
        otoscope.gradnap(network, make_speech(), layers="conv9")


def test_a_network_of_blanks_only(network: Named) -> None:
    silent = make_speech()
    for utterance in silent:
        utterance.features[:, -1] = 1
    with pytest.raises(BadInput, match=rf"(?s)no frame predicts a symbol.*{sum(FRAMES)} frames, all of them blank"):
        otoscope.gradnap(network, silent)


def test_bad_utterances_are_left_out_and_counted(network: Named, profiles: Profiles) -> None:
    bad = Utterance("bad", features=np.full((30, MELS), np.nan, np.float32))
    found = otoscope.gradnap(network, [bad, *make_speech()], by=("symbol", "phone"))
    assert (found.settings["left_out"], found.settings["utterances"], found.n) == (1, 3, profiles.n)
    assert any(bad.id in note and "cannot be read or used" in note for note in found.notes)
    with pytest.raises(BadInput, match="bad: features that are not finite"):
        otoscope.gradnap(network, [bad, *make_speech()], strict=True)


def test_left_out_by_is_symbol_and_phone_where_there_are_phones(network: Named, profiles: Profiles) -> None:
    assert {name.partition(":")[0] for name in otoscope.gradnap(network, make_speech()).groups} == {"symbol", "phone"}
    without = [utterance.replace(tiers={}) for utterance in make_speech()]
    assert {name.partition(":")[0] for name in otoscope.gradnap(network, without).groups} == {"symbol"}
    with pytest.raises(BadOption, match="nothing to group by"):
        otoscope.gradnap(network, without, by=("symbol", "phone", "word"))


@pytest.fixture(scope="module")
def navai(network: Named) -> Profiles:
    return otoscope.gradnap(network, make_speech(), by="symbol", preset="navai")


def test_navai_of_a_linear_network(network: Named, navai: Profiles) -> None:
    """The mean input in a window of the receptive field around k* = argmax mean |W_c|, less that of all; no mask."""
    windows: dict[int, list[np.ndarray]] = {1: [], 2: []}
    half = KERNEL // 2
    for utterance, best in zip(make_speech(), predictions(network, make_speech()), strict=True):
        for t in np.flatnonzero(best):
            middle = t + int(np.abs(network.conv.weight[best[t]].detach().numpy()).mean(0).argmax()) - half
            windows[int(best[t])].append(utterance.features[middle - half : middle + half + 1].T)
    usual = np.mean([window for group in windows.values() for window in group], 0)
    for number, symbol in enumerate("ab", start=1):
        found = navai.profile["input"].sel(group=f"symbol:{symbol}")
        np.testing.assert_allclose(found, np.mean(windows[number], 0) - usual, atol=1e-5)
    assert (navai.settings["preset"], navai.settings["width"]["input"], navai.settings["order"]) == ("navai", 5, "time")


def test_nap_of_a_linear_network(network: Named) -> None:
    """The mean of each unit's sorted input over the receptive field of the frame, wherever it is aligned."""
    found = otoscope.gradnap(network, make_speech(), by="symbol", preset="nap")
    half = KERNEL // 2
    windows: dict[int, list[np.ndarray]] = {1: [], 2: []}
    for utterance, best in zip(make_speech(), predictions(network, make_speech()), strict=True):
        for t in np.flatnonzero(best):
            windows[int(best[t])].append(-np.sort(-utterance.features[t - half : t + half + 1].T, axis=1))
    usual = np.mean([window for group in windows.values() for window in group], 0)
    for number, symbol in enumerate("ab", start=1):
        mean = np.mean(windows[number], 0)
        np.testing.assert_allclose(found.mean["input"].sel(group=f"symbol:{symbol}"), mean, atol=1e-5)
        np.testing.assert_allclose(found.profile["input"].sel(group=f"symbol:{symbol}"), mean - usual, atol=1e-5)
    assert repr(found).endswith("; nap)")
    assert (found.settings["order"], found.settings["alignment"], found.settings["mask"]) == ("rank", "none", "none")


def test_every_choice_is_an_option_of_every_preset(network: Named, navai: Profiles) -> None:
    same = otoscope.gradnap(network, make_speech(), by="symbol", alignment="gradient", width="cone", mask="none")
    np.testing.assert_array_equal(same.profile["input"], navai.profile["input"])
    assert same.settings["changed"] == ["alignment", "mask", "width"]
    assert otoscope.gradnap(network, make_speech(), instances="peak").settings["changed"] == ["instances"]
    with pytest.raises(BadOption, match="unknown preset"):
        otoscope.gradnap(network, make_speech(), preset="krug2018")


def test_conditions_are_groups_of_the_same_pass(network: Named) -> None:
    by = ("phone", "phone=AE & speaker=ann", {"his or T": "speaker=bob | phone=T"}, "manner")
    found = otoscope.gradnap(network, make_speech(), by=by)
    assert found.groups == (
        "phone:AE", "phone:T", "where:phone=AE & speaker=ann", "where:his or T", "manner:stop", "manner:vowel"
    )  # fmt: skip
    alone = otoscope.gradnap(network, make_speech()[1:], by="phone")
    mean = found.mean["input"].sel(group="where:phone=AE & speaker=ann")
    np.testing.assert_allclose(mean, alone.mean["input"].sel(group="phone:AE"), atol=1e-6)
    best = predictions(network, make_speech())
    wanted = int((best[0] != 0).sum()) + sum(int((row[30:40] != 0).sum()) for row in best[1:])
    assert int(found.instances.sel(layer="input", group="where:his or T")) == wanted
    np.testing.assert_array_equal(
        found.profile["input"].sel(group="manner:stop"), found.profile["input"].sel(group="phone:T")
    )
    assert found.settings["by"] == ["phone", "where", "manner"]
    assert found.settings["conditions"]["his or T"] == "speaker=bob | phone=T"
    assert set(found.settings["ungrouped"]) == {"phone", "manner"}


def test_a_subset_of_units(network: Named, profiles: Profiles) -> None:
    found = otoscope.gradnap(network, make_speech(), by=("symbol", "phone"), units={"input": range(1, 4)})
    assert found.profile["input"].sizes["unit"] == 3
    part = {"unit": [1, 2, 3]}
    np.testing.assert_array_equal(found.mean["input"], profiles.mean["input"].sel(part))
    np.testing.assert_array_equal(found.profile["conv"], profiles.profile["conv"])
    for units, words in (({"conv9": [0]}, "unknown layer of `units`"), ({"conv": [0, 4]}, r"\[4\](.|\n)*0 to 3")):
        with pytest.raises(BadOption, match=words):
            otoscope.gradnap(network, make_speech(), units=units)


def test_halves_merge_to_the_whole(network: Named, tmp_path: Path) -> None:
    speech = make_speech()
    # Only the second half has an S, only the first an AE.
    for utterance in speech[1:]:
        utterance.tiers["phone"][0] = utterance.tiers["phone"][0]._replace(label="S")
    by = ("symbol", "phone", "speaker", "phone=S & speaker=ann")
    whole = otoscope.gradnap(network, speech, by=by)
    first = gradnap_sums(network, speech[:1], by=by)
    first.save(tmp_path / "first")
    for one, other in ((speech[:1], speech[1:]), (speech[1:], speech[:1])):
        merged = gradnap_sums(network, one, by=by).merge(gradnap_sums(network, other, by=by))
        found = merged.finalize()
        assert (found.groups, found.n, found.notes) == (whole.groups, whole.n, whole.notes)
        for layer, table in whole.layers.items():
            for name in ("mean", "mask", "profile"):
                np.testing.assert_allclose(found.layers[layer][name], table[name], atol=1e-5)
            for name in ("count", "instances", "time", "offset"):
                np.testing.assert_array_equal(found.layers[layer][name], table[name])
        for name in ("blank_frames", "ungrouped", "utterances", "left_out", "by", "conditions", "width", "network"):
            assert found.settings[name] == whole.settings[name], name
    again = ProfileSums.load(tmp_path / "first").finalize()
    np.testing.assert_array_equal(again.profile["conv"], first.finalize().profile["conv"])
    assert again.settings == first.finalize().settings
    torch.manual_seed(0)
    other_network = Named()
    other_network.conv.weight.data[1] += 1
    with pytest.raises(BadInput, match=r"different groups or options(.|\n)*network"):
        first.merge(gradnap_sums(other_network, speech[1:], by=by))
    with pytest.raises(BadInput, match="different groups or options"):
        first.merge(gradnap_sums(network, speech[1:], by="symbol"))


class Bare(nn.Module):
    """The linear network with its weight in itself: no modules."""

    mels, symbols, blank = MELS, Named.symbols, Named.blank

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(Named().conv.weight.detach().clone())

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        logits = nn.functional.conv1d(features.transpose(1, 2), self.weight, padding=KERNEL // 2)
        return logits.transpose(1, 2), lengths


def test_a_network_without_modules_has_profiles_of_its_input(profiles: Profiles) -> None:
    found = otoscope.gradnap(Bare(), make_speech(), by=("symbol", "phone"))
    assert list(found.layers) == ["input"]
    np.testing.assert_allclose(found.profile["input"], profiles.profile["input"], atol=1e-5)


class Whole(Named):
    """Looks at the size of each frame, and refuses, once it has been measured, what is not a whole utterance."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error: BaseException | None = error

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        if self.error is not None and features.shape[1] < min(FRAMES):
            raise self.error
        return super().forward(features / (1 + features.norm(dim=2, keepdim=True)), lengths)


@pytest.fixture
def survey(monkeypatch: pytest.MonkeyPatch) -> Survey:
    """What is measured of `Whole` while it refuses nothing."""
    network = Whole(ValueError())
    network.error = None
    found = list_layers(network)
    monkeypatch.setattr("otoscope.study.explained.list_layers", lambda *_: found)
    return found


def test_why_a_network_cannot_be_run_in_windows_reaches_the_reader(survey: Survey) -> None:
    network = Whole(ValueError("whole utterances only"))
    found = otoscope.gradnap(network, make_speech(), by="symbol", blank=None)
    assert "the network fails (" in found.settings["gradients"]
    assert "whole utterances only" in found.settings["gradients"]
    single = otoscope.gradnap(network, make_speech(), by="symbol", blank=None, method="single")
    np.testing.assert_allclose(found.profile["input"], single.profile["input"], atol=1e-6)


def test_an_interruption_is_no_failure_of_the_network(survey: Survey) -> None:
    network = Whole(KeyboardInterrupt()).train()
    with pytest.raises(KeyboardInterrupt):
        otoscope.gradnap(network, make_speech(), by="symbol", blank=None)
    assert all(module.training for module in network.modules())
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


class Dropping(Named):
    """Dropout that is left on at hand-over; with `always` also in eval()."""

    def __init__(self, always: bool = False) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)
        self.still = nn.Sequential(nn.Dropout(0.5))
        self.always = always

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        logits, lengths = super().forward(self.drop(features), lengths)
        return nn.functional.dropout(logits, 0.5, training=self.always), lengths


def test_dropout_left_on_is_off_during_the_pass(profiles: Profiles) -> None:
    network = Dropping()
    network.train()
    network.still.eval()
    flags = [module.training for module in network.modules()]
    found = otoscope.gradnap(network, make_speech(), layers=["input", "conv"], by=("symbol", "phone"))
    np.testing.assert_allclose(found.profile["conv"], profiles.profile["conv"], atol=1e-6)
    assert [module.training for module in network.modules()] == flags
    assert True in flags
    assert False in flags
    with pytest.raises(BadInput, match=r"(?s)something else each time.*two passes in eval\(\).*dropout"):
        otoscope.gradnap(Dropping(always=True).train(), make_speech())


class Layered(Named):
    """Two linear layers, and between them a recurrent one whose output is a tuple; one called twice, one never."""

    symbols, blank = ("_", "a", "b"), None

    def __init__(self) -> None:
        nn.Module.__init__(self)
        torch.manual_seed(3)
        self.first = nn.Conv1d(MELS, 5, 5, padding=2)
        self.recurrent = nn.LSTM(5, 4, batch_first=True)
        self.twice = nn.Tanh()
        self.never = nn.Linear(2, 2)
        self.logits = nn.Linear(4, 3)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        x = self.first(features.transpose(1, 2)).transpose(1, 2)
        x, _ = self.recurrent(self.twice(self.twice(x)))
        return self.logits(x), lengths


def odd_speech() -> list[Utterance]:
    """As `make_speech`, the last input unit between 1 and 3, no two values alike."""
    rng, speech = np.random.default_rng(4), make_speech()
    for utterance in speech:
        utterance.features[:, -1] += 1 + rng.random(len(utterance.features), dtype=np.float32)
    return speech


def test_a_layer_that_returns_a_tuple_is_its_first_tensor() -> None:
    network = Layered().eval()
    found = otoscope.gradnap(network, odd_speech(), layers=["recurrent"], by="symbol", alignment="none", width=1)
    outputs: dict[int, list[np.ndarray]] = {0: [], 1: [], 2: []}
    for utterance in odd_speech():
        with torch.no_grad():
            x = torch.from_numpy(utterance.features)[None]
            inner, _ = network.recurrent(torch.tanh(torch.tanh(network.first(x.transpose(1, 2)).transpose(1, 2))))
            best = network(x, torch.tensor([x.shape[1]]))[0][0].argmax(-1)
        for t, number in enumerate(best.tolist()):
            outputs[number].append(inner[0, t].numpy())
    for number, symbol in enumerate("_ab"):
        if outputs[number]:
            mean = found.mean["recurrent"].sel(group=f"symbol:{symbol}", offset=0)
            np.testing.assert_allclose(mean, np.mean(outputs[number], 0), atol=1e-5)
            # d logit / d h_t is the row of the last layer's weights.
            slope = network.logits.weight[number].detach().abs().numpy()
            mask = found.mask["recurrent"].sel(group=f"symbol:{symbol}", offset=0)
            np.testing.assert_allclose(mask, slope / slope.max(), rtol=1e-4)


def test_layers_called_twice_or_never_are_named() -> None:
    network = Layered()
    for name, words in (("twice", "it is called 2 times in one pass"), ("never", "it is not called")):
        with pytest.raises(BadOption, match=f"'{name}' cannot be used as a layer: {words}"):
            otoscope.gradnap(network, odd_speech(), layers=[name])
    network.layer_names = ["first", "twice", "never", "logits"]
    found = otoscope.gradnap(network, odd_speech(), by="symbol")
    assert list(found.layers) == ["input", "first", "logits"]
    assert "twice is left out: it is called 2 times in one pass" in found.notes
    assert "never is left out: it is not called" in found.notes


def test_layers_without_an_end_to_their_cone_keep_a_second() -> None:
    found = otoscope.gradnap(Layered(), odd_speech(), layers=["first", "logits"], by="symbol", batch_size=1)
    assert found.settings["width"] == {"first": 201, "logits": 1}
    assert any(note.startswith("first: predictions depend on the whole utterance") for note in found.notes)
    narrow = otoscope.gradnap(Layered(), odd_speech(), layers=["first"], by="symbol", width={"first": 9})
    assert narrow.settings["width"] == {"first": 9}
    middle = found.mean["first"].sel(offset=slice(-4, 4))
    np.testing.assert_allclose(narrow.mean["first"], middle, atol=1e-6)


class Root(nn.Module):
    """A gradient without end at 0, and no finite value at 7."""

    def forward(self, x: Tensor) -> Tensor:
        return x.abs().sqrt() + 1 / (x - 7)


class Rooted(Named):
    """The linear network, with a little of the root of each frame's last input unit added to its logits."""

    symbols, blank = ("_", "a", "b", "c"), None

    def __init__(self) -> None:
        super().__init__()
        self.level = nn.Identity()
        self.root = Root()

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        logits, lengths = super().forward(features, lengths)
        return logits + 1e-3 * self.root(self.level(features[:, :, -1:])), lengths


def test_gradients_and_activations_that_are_not_finite_are_named() -> None:
    """u1 has a 0, whose root has a gradient without end, and u2 a 7, where root and logits are infinite."""
    speech = odd_speech()
    speech[1].features[30, -1] = 0
    speech[2].features[40, -1] = 7
    network = Rooted()
    found = otoscope.gradnap(network, speech, layers=["input", "conv", "level", "root"], by="symbol")
    assert found.settings["not_finite"] == {
        # Frames 28 to 32 see frame 30, and frames 38 to 42 frame 40, which is itself no instance.
        "input": {"utterances": 2, "count": 9, "named": {"u1": 5, "u2": 4}},
        # `level` sees its own frame only, and is what it is where the root is not.
        "level": {"utterances": 1, "count": 1, "named": {"u1": 1}},
        # An activation that is not finite takes its utterance with it.
        "root": {"utterances": 1, "count": 89, "named": {"u2": 89}},
    }
    total = sum(FRAMES) - 1
    assert f"input: 9 of {total} instances were not finite and are left out: u1 (5), u2 (4)" in found.notes
    assert "1 frames are left out, whose logits are not finite (the first such layer is root): u2 (1)" in found.notes
    for layer in found.layers:
        there = found.instances.sel(layer=layer) > 0
        assert np.isfinite(found.profile[layer].sel(group=there)).all()
    # What is left is what it would be without them.
    clean = otoscope.gradnap(network, [odd_speech()[0]], layers=["root"], by="id")
    np.testing.assert_allclose(
        otoscope.gradnap(network, speech, layers=["root"], by="id").mean["root"].sel(group="id:u0"),
        clean.mean["root"].sel(group="id:u0"),
        atol=1e-6,
    )


class Shrinking(nn.Module):
    """No padding: an utterance of fewer than 9 frames gives none, and alone is refused."""

    mels = MELS

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv = nn.Conv1d(MELS, 3, 9)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return self.conv(features.transpose(1, 2)).transpose(1, 2), lengths - 8


@pytest.mark.parametrize("pad", ["missing", "zero"])
def test_utterances_shorter_than_the_receptive_field(network: Named, pad: str) -> None:
    """Three frames under a kernel of five: aligned at the steepest of the frames there are, means over these alone."""
    short = Utterance("short", features=make_speech()[0].features[20:23])
    found = otoscope.gradnap(network, [*make_speech(), short], by="id", blank=None, pad=pad)
    assert int(found.instances.sel(layer="input", group="id:short")) == 3
    half = KERNEL // 2
    rows = []
    for t, number in enumerate(predictions(network, [short])[0]):
        steep = np.abs(network.conv.weight[number].detach().numpy()).mean(0)
        time = max(range(3), key=lambda frame: steep[frame - t + half] if abs(frame - t) <= half else -1)
        window = np.full((MELS, 2 * KERNEL - 1), 0.0 if pad == "zero" else np.nan)
        for frame in range(3):
            window[:, frame - time + KERNEL - 1] = short.features[frame]
        rows.append(window)
    with np.errstate(all="ignore"):
        wanted = np.nansum(rows, 0) / np.isfinite(rows).sum(0)
    np.testing.assert_allclose(found.mean["input"].sel(group="id:short"), wanted, atol=1e-6)
    np.testing.assert_array_equal(found.count["input"].sel(group="id:short"), np.isfinite(rows).sum(0))
    assert np.isfinite(found.profile["input"].sel(group="id:short")).all()


@pytest.mark.parametrize("size", [1, 32])
def test_utterances_that_give_no_frame_are_named(size: int) -> None:
    short = Utterance("short", features=make_speech()[0].features[:5])
    found = otoscope.gradnap(Shrinking(), [short, *make_speech()], by="symbol", batch_size=size)
    alone = otoscope.gradnap(Shrinking(), make_speech(), by="symbol")
    assert found.n == alone.n == sum(FRAMES) - 8 * 3
    np.testing.assert_allclose(found.profile["input"], alone.profile["input"], atol=1e-5)
    (note,) = (note for note in found.notes if "short (1)" in note)
    words = {1: "on which the network does not run (RuntimeError)", 32: "too short for a frame of output"}[size]
    assert words in note
    assert (found.settings["left_out"], found.settings["utterances"]) == ((1, 3) if size == 1 else (0, 4))
    if size == 1:
        with pytest.raises(BadInput, match="does not run on utterance short"):
            otoscope.gradnap(Shrinking(), [short, *make_speech()], by="symbol", batch_size=size, strict=True)
    with pytest.raises(BadInput, match="runs on none of the utterances"):
        otoscope.gradnap(Shrinking(), [short], by="symbol")


def test_labels_outside_the_audio_are_noted(network: Named, profiles: Profiles) -> None:
    speech = make_speech()
    speech[0].tiers["phone"] += [Segment(0.58, 0.9, "S"), Segment(2, 3, "Z")]
    found = otoscope.gradnap(network, speech, by=("symbol", "phone"))
    assert "2 labels by phone reach beyond the audio, and count inside it only: u0 (2)" in found.notes
    assert "phone:Z" in found.empty
    for group in ("phone:AE", "phone:T"):
        np.testing.assert_allclose(
            found.profile["input"].sel(group=group), profiles.profile["input"].sel(group=group), atol=1e-6
        )


def test_one_note_says_which_groups_have_no_instance(network: Named) -> None:
    found = otoscope.gradnap(network, make_speech(), by=("symbol", "speaker=eve", {"no": "phone=IY"}))
    assert found.notes == ("no profile (fewer than 1 instances): symbol:c, where:speaker=eve, where:no",)
    assert np.isnan(found.profile["input"].sel(group="where:no")).all()
