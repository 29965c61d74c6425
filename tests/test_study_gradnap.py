"""A linear network, whose GradNAPs follow from its weights on paper.

With logits z[t, c] = Σ_k W_c[:, k] · x[t + k - 2], the gradient of z[t, c] at frame t + k - 2 is W_c[:, k] for every t.
So all instances of c are aligned at k* = argmax_k mean |W_c[:, k]|, and the mask is |W_c| / max |W_c| around it.
"""

from __future__ import annotations

from itertools import groupby

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import otoscope
from otoscope.base import BadInput, BadOption
from otoscope.hear.corpus import Utterance
from otoscope.reduce.profiles import Profiles

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
    with pytest.raises(BadInput, match="bad: features that are not finite"):
        otoscope.gradnap(network, [bad, *make_speech()], strict=True)


def test_left_out_by_is_symbol_and_phone_where_there_are_phones(network: Named, profiles: Profiles) -> None:
    assert {name.partition(":")[0] for name in otoscope.gradnap(network, make_speech()).groups} == {"symbol", "phone"}
    without = [utterance.replace(tiers={}) for utterance in make_speech()]
    assert {name.partition(":")[0] for name in otoscope.gradnap(network, without).groups} == {"symbol"}
    with pytest.raises(BadOption, match="nothing to group by"):
        otoscope.gradnap(network, without, by=("symbol", "phone", "word"))
