"""Planted illnesses are found where they were planted, in networks really trained; healthy runs stay unflagged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache

import numpy as np
import pytest
import torch
import xarray as xr
from plantings import Planted, Run, Setting, draw_other_setting, draw_planting, draw_setting, made_ill, measured, train

from otoscope.base import BadInput, BadOption
from otoscope.reduce.pathology import KINDS, Pathology, describe, find_pathologies

EPOCHS = 8
LAYERS = ["first", "second", "third", "fourth"]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Networks this small are slower on several, and their runs would depend on the machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@cache
def healthy_run(setting: Setting) -> Run:
    return train(setting)


@cache
def healthy(setting: Setting) -> xr.Dataset:
    return measured(healthy_run(setting))


@cache
def ill(kind: str, seed: int) -> tuple[xr.Dataset, Planted]:
    setting, planted = draw_planting(kind, seed)
    return made_ill(setting, planted, healthy_run(setting) if kind == "spike" else None), planted


def missed(kind: str, seeds: Iterable[int]) -> list[str]:
    """What was planted and not found, or found with something else beside it."""
    wrong = []
    for seed in seeds:
        training, planted = ill(kind, seed)
        found = find_pathologies(training)
        if kinds(found) != [(kind, planted.layer, planted.epoch)]:
            wrong.append(f"seed {seed}, {planted}: found {[*map(str, found)]}")
    return wrong


def flagged(settings: Iterable[Setting]) -> list[str]:
    found = {setting: find_pathologies(healthy(setting)) for setting in settings}
    return [f"{setting}: {[*map(str, each)]}" for setting, each in found.items() if each]


def kinds(found: list[Pathology]) -> list[tuple[str, str, int | None]]:
    return [(each.kind, each.layer, each.epoch) for each in found]


@pytest.mark.parametrize("kind", KINDS)
def test_a_few_plantings(kind: str) -> None:
    assert not missed(kind, range(300, 302))


def test_a_few_healthy_runs() -> None:
    assert not flagged([*map(draw_setting, range(300, 303)), draw_other_setting(300)])


@pytest.mark.slow
def test_plantings() -> None:
    wrong = {kind: missed(kind, range(25)) for kind in KINDS}
    print({kind: f"{25 - len(lines)} of 25" for kind, lines in wrong.items()})
    lines = [line for each in wrong.values() for line in each]
    assert len(lines) <= 5, "\n".join(lines)


@pytest.mark.slow
@pytest.mark.parametrize("draw", [draw_setting, draw_other_setting])
def test_healthy_runs(draw: Callable[[int], Setting]) -> None:
    lines = flagged(map(draw, range(40)))
    print(f"{len(lines)} of 40")
    assert len(lines) <= 2, "\n".join(lines)


@pytest.mark.slow
def test_spikes_in_activations_alone() -> None:
    """Weaker than with weights: a spike early in training hides in what the layers learn at the same time."""
    hits = 0
    for seed in range(25):
        training, planted = ill("spike", seed)
        hits += ("spike", planted.layer, planted.epoch) in kinds(find_pathologies(training.drop_vars("weight_change")))
    alarms = sum(bool(find_pathologies(healthy(draw_setting(s)).drop_vars("weight_change"))) for s in range(40))
    print(f"{hits} of 25, {alarms} of 40")
    assert hits >= 15
    assert alarms <= 2


def course(layers: list[str] = LAYERS, epochs: int = EPOCHS) -> xr.Dataset:
    """A calm training drawn by hand: everything moves less from epoch to epoch, deeper layers more."""
    labels = [2 * epoch for epoch in range(epochs)]
    depth, step = np.meshgrid(np.arange(1, len(layers) + 1), np.arange(epochs), indexing="ij")
    moved = 0.02 * depth * 0.8**step
    left = 1 - 0.3 * depth / 4 * (epochs - 1 - step) / max(epochs - 1, 1)
    similar = {
        "to_last": left,
        "to_next": 1 - moved,
        "to_first": 1 - 0.05 * depth * step / epochs,
        "across": 1 - 3 * moved,
    }
    dataset = xr.Dataset(
        {name: (("measure", "layer", "epoch"), np.stack([values, values])) for name, values in similar.items()}
        | {"weight_change": (("layer", "epoch"), 0.05 * (1 + 0.2 * (depth % 2)) * 0.9**step)}
        | {"constant_units": (("layer", "epoch"), np.zeros_like(moved)), "units": ("layer", [20] * len(layers))},
        coords={"measure": ["cka", "svcca"], "layer": layers, "epoch": labels},
    )
    dataset["to_next"][..., -1] = dataset["across"][..., 0] = dataset["across"][..., -1] = np.nan
    dataset["weight_change"][:, -1] = np.nan
    return dataset


def with_spike(training: xr.Dataset, layer: int, epoch: int) -> xr.Dataset:
    training = training.copy(deep=True)
    training["to_next"][:, layer:, epoch - 1 : epoch + 1] = 0.6
    training["across"][:, layer:, [epoch - 1, epoch + 1]] = 0.6
    training["weight_change"][layer, epoch - 1 : epoch + 1] = 0.5
    return training


def test_a_calm_course_is_not_flagged() -> None:
    training = course()
    assert find_pathologies(training) == []
    assert describe([], training) == "Nothing found (layers: 4, epochs: 8)."


@pytest.mark.parametrize("layer", [0, 2, 3])
@pytest.mark.parametrize("weights", [True, False])
def test_a_spike_is_that_of_the_shallowest_layer(layer: int, weights: bool) -> None:
    training = with_spike(course(), layer, 4)
    found = find_pathologies(training if weights else training.drop_vars("weight_change"))
    # The fifth checkpoint is labelled 8: epochs are labels, not positions.
    assert kinds(found) == [("spike", LAYERS[layer], 8)]
    assert found[0].followers == tuple(LAYERS[layer + 1 :])
    assert found[0].evidence["similarity_before"] == pytest.approx(0.6)
    assert found[0].evidence["similarity_across"] == pytest.approx(1 - 3 * 0.02 * (layer + 1) * 0.8**4)


def test_two_spikes_are_two_findings() -> None:
    training = with_spike(with_spike(course(), 2, 2), 0, 5)
    assert kinds(find_pathologies(training)) == [("spike", "first", 10), ("spike", "third", 4)]


@pytest.mark.parametrize("weights", [True, False])
def test_a_spike_at_the_last_epoch(weights: bool) -> None:
    training = course()
    training["to_next"][:, 1:, -2] = 0.6
    training["weight_change"][1, -2] = 0.7
    found = find_pathologies(training if weights else training.drop_vars("weight_change"))
    assert kinds(found) == [("spike", "second", 14)]
    assert "weight_change_out" not in found[0].evidence


def test_a_layer_set_anew_does_not_spike() -> None:
    """It goes and does not come back, or what follows is no way back."""
    training = course()
    training["weight_change"][1, 3] = 1.4
    assert find_pathologies(training) == []
    training["weight_change"][1, 4] = 30.0
    assert find_pathologies(training) == []


def test_frozen_by_weights() -> None:
    training = course()
    training["weight_change"][2, :-1] = 0.0
    training["weight_change"][1, 4:-1] = 0.0
    found = find_pathologies(training)
    assert kinds(found) == [("frozen", "second", 8), ("frozen", "third", None)]
    assert "from epoch 8 on" in str(found[0])
    assert "throughout" in str(found[1])


def test_a_run_that_stands_still_is_not_frozen() -> None:
    """A schedule that reached zero stops every layer, and one step without a change says little."""
    training = course()
    training["weight_change"][:, 4:-1] = 0.0
    assert find_pathologies(training) == []
    training = course()
    training["weight_change"][1, -2] = 0.0
    assert find_pathologies(training) == []


def test_frozen_by_activations() -> None:
    training = course().drop_vars("weight_change")
    training["to_first"][:, :2] = 1.0
    found = find_pathologies(training)
    assert kinds(found) == [("frozen", "first", None)]
    assert found[0].followers == ("second",)
    training["to_first"][:] = 1.0
    assert find_pathologies(training) == []


def test_unsettled() -> None:
    training = course()
    training["weight_change"][3, :-1] *= 15
    found = find_pathologies(training)
    assert kinds(found) == [("unsettled", "fourth", None)]
    assert found[0].evidence["factor"] == pytest.approx(15, rel=0.3)
    assert find_pathologies(training, unsettled=20.0) == []


def test_units_that_an_unsettled_layer_kills_are_its_evidence() -> None:
    training = course()
    training["weight_change"][1, :-1] *= 15
    training["constant_units"][1:3, 2:] = 9
    found = find_pathologies(training)
    assert kinds(found) == [("unsettled", "second", None)]
    assert found[0].followers == ("third",)
    assert "9 units of 20" in str(found[0]).replace(", ", " ")


@pytest.mark.parametrize("epoch", [1, 4, 7])
def test_dead_units_blame_the_shallowest_layer(epoch: int) -> None:
    training = course()
    training["constant_units"][1, epoch:] = 8
    training["constant_units"][2, epoch:] = 12
    # What kills them need not leave a trace elsewhere, but if it does at the last epoch, it is no spike.
    training["weight_change"][1, epoch - 1] = 300.0
    training["to_next"][:, 1:, epoch - 1] = 0.5
    for given in (training, training.drop_vars("weight_change")):
        found = find_pathologies(given)
        assert kinds(found) == [("dead units", "second", 2 * epoch)]
        assert found[0].followers[0] == "third"
        assert dict(found[0].evidence) == {"units": 20.0, "constant_units": 8.0, "constant_before": 0.0}


def test_what_deeper_layers_do_about_dead_units_is_no_spike() -> None:
    training = course()
    training["constant_units"][1, 3:] = 8
    training["weight_change"][1, 2:4] = 0.5
    training["weight_change"][2, 3:5] = 0.5
    assert kinds(find_pathologies(training)) == [("dead units", "second", 6)]
    # Two epochs further it is one.
    training = training.assign(weight_change=course()["weight_change"])
    training["weight_change"][2, 4:6] = 0.5
    assert kinds(find_pathologies(training)) == [("dead units", "second", 6), ("spike", "third", 10)]


def test_dead_units_throughout() -> None:
    training = course()
    training["constant_units"][0] = 8
    found = find_pathologies(training)
    assert kinds(found) == [("dead units", "first", None)]
    assert "first has dead units throughout" in str(found[0])


def test_units_that_come_back_are_not_dead() -> None:
    training = course()
    training["constant_units"][1, 3:6] = 12
    training["constant_units"][2] = 3
    assert find_pathologies(training) == []


def test_what_is_missing_is_said() -> None:
    bare = course()[["to_last"]]
    assert find_pathologies(bare) == []
    words = describe([], bare)
    for start in ("Spikes", "Frozen", "Unsettled", "Dead units"):
        assert any(line.startswith(start) for line in words.splitlines()), start
    assert "Dead units were not" in describe([], course().drop_vars("units"))
    assert "Unsettled" in describe([], course(epochs=3))
    assert "one layer" in describe([], course(["only"]))
    training = course()
    training["weight_change"][1] = np.nan
    assert "Of second no weight_change is known" in describe([], training)


def test_the_report_has_a_line_for_each() -> None:
    training = with_spike(course(), 2, 4)
    training["weight_change"][0, :-1] = 0.0
    found = find_pathologies(training)
    lines = describe(found, training).splitlines()
    assert lines == [str(each) for each in found]
    assert "first" in lines[0]
    assert "third spikes at epoch 8" in lines[1]
    assert "fourth shows it" in lines[1]
    assert "0.600" in lines[1]


@pytest.mark.parametrize("layers", [["only"], LAYERS[:2], LAYERS])
@pytest.mark.parametrize("epochs", [1, 2, 3, 8])
@pytest.mark.parametrize("weights", [True, False])
def test_small_and_unknown(layers: list[str], epochs: int, weights: bool) -> None:
    """No alarm and no warning, whatever is NaN."""
    training = course(layers, epochs)
    training = training if weights else training.drop_vars("weight_change")
    assert find_pathologies(training) == []
    assert describe([], training).startswith("Nothing found")
    for name in training.data_vars:
        unknown = training.copy(deep=True)
        unknown[name] = unknown[name].astype(float) * np.nan
        assert find_pathologies(unknown) == []
        assert describe([], unknown).startswith("Nothing found")
    rng = np.random.default_rng(1)
    holes = training.map(lambda values: values.where(rng.random(values.shape) > 0.3) if values.ndim > 1 else values)
    assert find_pathologies(holes) == []


def test_one_layer_can_spike() -> None:
    assert kinds(find_pathologies(with_spike(course(["only"]), 0, 4))) == [("spike", "only", 8)]


def test_measure() -> None:
    training = with_spike(course(), 1, 4).drop_vars("weight_change")
    calm = course().drop_vars("weight_change")
    for name in ("to_next", "across"):
        training[name].loc["cka"] = calm[name].loc["cka"]
    assert find_pathologies(training, "cka") == []
    assert len(find_pathologies(training, "svcca")) == len(find_pathologies(training)) == 1
    assert find_pathologies(training.sel(measure=["cka"])) == []
    with pytest.raises(BadOption, match="unknown measure"):
        find_pathologies(training, "svca")


def test_errors() -> None:
    with pytest.raises(BadInput, match="to_last"):
        find_pathologies(course().drop_vars("to_last"))
    with pytest.raises(BadInput, match="to_last"):
        find_pathologies(course().isel(measure=0))
    with pytest.raises(BadOption, match="unknown threshold"):
        find_pathologies(course(), unsetled=3.0)
    with pytest.raises(BadOption, match="above 0"):
        find_pathologies(course(), unsettled=-1.0)
