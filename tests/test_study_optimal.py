"""Optimal inputs with names: a planted detector finds its template, and what is saved says how it was made."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import xarray as xr
from torch import Tensor, nn

from otoscope.base import BadInput, BadOption
from otoscope.hear.audio import mel_frequencies
from otoscope.hear.utterance import Utterance
from otoscope.probe.layers import list_layers
from otoscope.reduce.profiles import Profiles
from otoscope.study.gradnap import gradnap
from otoscope.study.optimal import optimal_inputs, optimal_inputs_of_groups, save_optimal_inputs
from otoscope.study.results import load_table

MELS, UNITS, KERNEL = 16, 6, 7


class Detector(nn.Module):
    """A convolution of random units, of which number 2 looks for a template; a ReLU; a convolution as logits."""

    mels = MELS
    layer_names = ("hidden", "out")
    symbols = ("a", "b", "c")

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(6)
        convolution = nn.Conv1d(MELS, UNITS, KERNEL, padding=KERNEL // 2)
        with torch.no_grad():
            convolution.weight[2] = torch.from_numpy(template().T)
        self.hidden = nn.Sequential(convolution, nn.ReLU())
        self.out = nn.Conv1d(UNITS, 3, 3, padding=1)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return self.out(self.hidden(features.transpose(1, 2))).transpose(1, 2), lengths


def template() -> np.ndarray:
    """`(frame, mel)`: a band that rises, silence above it."""
    picture = np.zeros((KERNEL, MELS), np.float32)
    for frame in range(KERNEL):
        picture[frame, 4 + frame // 2] = 1
        picture[frame, 12:] = -0.5
    return picture


@pytest.fixture(scope="module")
def network() -> Detector:
    return Detector()


@pytest.fixture(scope="module")
def profiles(network: Detector) -> Profiles:
    rng = np.random.default_rng(0)
    speech = [Utterance(f"u{n}", features=rng.standard_normal((40, MELS)).astype(np.float32)) for n in range(4)]
    return gradnap(network, speech, by="symbol", blank=None)


@pytest.mark.parametrize("preset", ["krug2020", "recommended"])
def test_the_optimal_input_of_a_detector_is_its_template(network, preset):
    changes = {"l1": 0.1} if preset == "krug2020" else {}
    table = optimal_inputs(network, "hidden", 2, preset=preset, **changes)
    assert table["set"].values.tolist() == ["unit 2"]
    found = table["input"].values[0]
    assert np.corrcoef(found.ravel(), template().ravel())[0, 1] > 0.85
    assert table.attrs["target"] == "input of hidden.1, the pre-activation of hidden"
    assert table.attrs["changed"] == int(preset == "krug2020")


def test_axes_are_in_seconds_and_hertz(network):
    table = optimal_inputs(network, "hidden", [0, 3], l1=0.0, l2=0.0, start_sd=0.0)
    assert table["input"].dims == ("set", "frame", "mel")
    np.testing.assert_allclose(table["time"], np.arange(-3, 4) * 0.01)
    np.testing.assert_allclose(table["frequency"], mel_frequencies(MELS))
    assert table["frequency"].attrs["units"] == "Hz"
    assert table["activation"].shape == (1, 17)
    # Two units at once: their kernels' sum has the gradient.
    weight = network.hidden[0].weight.detach().numpy()
    assert table["gradient"].item() == pytest.approx(np.abs(weight[0] + weight[3]).max(), rel=1e-5)
    assert table["units"].item() == "+0 +3"
    assert table["size"].item() == 2


SETS = [
    (3, "unit 3", "+3"),
    ([5, 1], "units 5 1", "+5 +1"),
    ({5: 1, 1: -1}, "units 5 1", "+5 -1"),
    ({5: 0.5}, "unit 5", "+5×0.5"),
    ({"mine": [4]}, "mine", "+4"),
    ([0, 1, 2, 3, 4, 5], "units 0 1 2 3 4 …", "+0 +1 +2 +3 +4 +5"),
    (xr.DataArray([2.5, -0.1, 0.0], dims="unit", coords={"unit": [4, 0, 1], "group": "phone:AE"}), "phone:AE", "+4 -0"),
]


@pytest.mark.parametrize(("units", "name", "signed"), SETS)
def test_sets_of_units_in_every_form(network, units, name, signed):
    table = optimal_inputs(network, "hidden", units, steps=1)
    assert table["set"].item() == name
    assert table["units"].item() == signed


def test_groups_take_their_most_responsive_units_in_every_layer(network, profiles):
    calls: list[tuple[int, int, str]] = []
    groups = ["symbol:a", "symbol:c"]
    tables = optimal_inputs_of_groups(network, profiles, groups, k=2, l1=0.1, progress=lambda *call: calls.append(call))
    assert list(tables) == ["hidden", "out"]
    for layer, table in tables.items():
        assert table.attrs["layer"] == layer
        assert table["set"].values.tolist() == groups
        for group in groups:
            top = profiles.top_units(group, 2)[layer]
            # Of the output, a group moves its own unit alone: another has r = 0 and is left out.
            wanted = " ".join(
                f"{'-' if r < 0 else '+'}{int(u)}" for u, r in zip(top.unit.values, top.values, strict=True) if r
            )
            assert table.sel(set=group)["units"].item() == wanted
            alone = optimal_inputs(network, layer, top, l1=0.1)
            np.testing.assert_allclose(alone["input"][0], table["input"].sel(set=group), atol=1e-5)
    assert [table.sizes["frame"] for table in tables.values()] == [7, 9]
    assert [done for done, _, _ in calls] == sorted(done for done, _, _ in calls)
    assert calls[-1][0] == calls[-1][1] == 64
    assert list(optimal_inputs_of_groups(network, profiles, "symbol:b", layers=["out"])) == ["out"]


def test_a_penalty_that_holds_the_input_at_zero_is_told(network):
    held = optimal_inputs(network, "hidden", {"strong": 2, "weak": 0}, l1=3.0)
    # 3 / 7 on each value; the template's steepest is 1, that of a random unit 1 / √112.
    assert held["held"].values.tolist() == [0, 1]
    assert "the L1 penalty of 0.43 on every value outweighs the steepest gradient" in held.attrs["notes"]
    assert "for weak;" in held.attrs["notes"]
    assert np.abs(held["input"].values[1]).max() < 0.06
    free = optimal_inputs(network, "hidden", {"strong": 2, "weak": 0}, l1=0.1)
    assert free.attrs["notes"] == ""
    assert not free["held"].any()


def test_a_unit_without_gradient_is_told():
    network = Detector()
    with torch.no_grad():
        network.hidden[0].weight[5] = 0
    table = optimal_inputs(network, "hidden", {"dead": 5})
    assert table.attrs["notes"].startswith("no gradient at the start, so nothing was found, for dead")
    assert not table["held"].any()


def test_files_hold_it_all(network, tmp_path):
    tables = {"hidden": optimal_inputs(network, "hidden", {"phone:AE": 2, "phone/AE": 3}, l1=0.1, seed=5)}
    paths = save_optimal_inputs(tables, tmp_path / "new", iterations=2)
    assert [path.name for path in paths] == [
        "optimal-hidden.nc",
        "optimal-hidden.csv",
        "optimal-hidden-phone-AE.wav",
        "optimal-hidden-phone-AE-1.wav",
    ]
    back = load_table(paths[0])
    xr.testing.assert_allclose(back, tables["hidden"])
    assert back.attrs["sounds"].splitlines() == [path.name for path in paths[2:]]
    recipe = json.loads(back.attrs["recipe"])
    assert (recipe["l1"], recipe["steps"], recipe["penalty"]) == (0.1, 16, "field")
    assert (back.attrs["seed"], back.attrs["field_frames"], back.attrs["preset"]) == (5, 7, "krug2020")
    samples, rate = soundfile.read(paths[2])
    assert rate == 16000
    assert len(samples) == 6 * 160
    assert np.abs(samples).max() > 0
    assert len(save_optimal_inputs(tables, tmp_path, sounds=False)) == 2


def test_the_survey_can_be_handed_on(network, monkeypatch):
    survey = list_layers(network)
    monkeypatch.setattr("otoscope.study.optimal.list_layers", lambda *_: pytest.fail("it was measured again"))
    optimal_inputs(network, "hidden", 0, survey=survey, steps=1, batch_frames=10)


WRONG: list[tuple[type[Exception], dict[str, Any], str]] = [
    (BadOption, {"layer": "hiden"}, "did you mean"),
    (BadOption, {"units": [0, 99]}, "units that layer 'hidden' does not have"),
    (BadOption, {"units": [1, 1]}, "named twice"),
    (BadOption, {"units": ["a"]}, "a unit is a number"),
    (BadOption, {"units": True}, "a unit is a number"),
    (BadOption, {"units": {"x": []}}, "has no units"),
    (BadOption, {"preset": "krug"}, "unknown preset"),
    (BadOption, {"stepz": 3}, "did you mean 'steps'"),
    (BadOption, {"frames": 3}, "shorter than what a unit"),
    (BadInput, {"units": xr.DataArray([1.0, np.nan], dims="unit", coords={"unit": [0, 1]})}, "1 values not finite"),
    (BadInput, {"units": xr.DataArray([1.0], dims="neuron")}, r"Profiles.top_units\(group\)"),
    (BadInput, {"units": xr.DataArray([0.0], dims="unit", coords={"unit": [0]})}, "none of these units responds"),
]


@pytest.mark.parametrize(("error", "changes", "words"), WRONG)
def test_what_cannot_be_is_refused(network, error, changes, words):
    arguments: dict[str, Any] = {"layer": "hidden", "units": 0, **changes}
    with pytest.raises(error, match=words):
        optimal_inputs(network, **arguments)


def test_profiles_must_be_of_these_layers_and_this_network(network, profiles):
    with pytest.raises(BadOption, match="unknown group"):
        optimal_inputs_of_groups(network, profiles, "symbol:z")
    with pytest.raises(BadOption, match=r"layers without profiles[\s\S]*hidden.0"):
        optimal_inputs_of_groups(network, profiles, "symbol:a", layers="hidden.0")
    with pytest.raises(BadOption, match="no layer of the network"):
        optimal_inputs_of_groups(network, profiles, "symbol:a", layers="input")
    other = Detector()
    other.hidden[0] = nn.Conv1d(MELS, 9, 3, padding=1)
    other.out = nn.Conv1d(9, 3, 3, padding=1)
    with pytest.raises(BadInput, match="profiles are of another network"):
        optimal_inputs_of_groups(other, profiles, "symbol:a")
