"""Neighbouring layers and networks side by side: the right cells of a comparison, in the right order."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

import otoscope
from otoscope.base import BadInput, BadOption
from otoscope.hear.corpus import Utterance
from otoscope.learn.networks import build, read_config
from otoscope.show.figures_depth import adjacent_layers, network_matrix
from otoscope.study.adjacent import adjacent, network_table, stages_of
from otoscope.study.results import load_table, save_table

SIDE = ("network", "epoch", "layer")
PAIR = (*SIDE, *(f"other_{dim}" for dim in SIDE))
# "a" at two epochs, "b" (a module, so of no epoch) a layer shorter.
EVERYTHING = [("a", e, layer) for e in (0, 3) for layer in ("l1", "l2", "l3")] + [("b", -1, "l1"), ("b", -1, "l3")]


def number(measure: int, first: int, second: int) -> float:
    """What stands in the cell of two representations: no two cells have the same, so that the order shows."""
    return (100 * measure + 10 * first + second) / 1000


def comparison(everything: list[tuple[str, int, str]] = EVERYTHING, measures: tuple[str, ...] = ("svcca", "r2")):
    """A Dataset as `otoscope.compare` lays it out, with intervals of ±0.0001, and a baseline."""
    values = [list(dict.fromkeys(each[place] for each in everything)) for place in range(3)]
    values[1].sort()
    coords = dict(zip(PAIR, values * 2, strict=True)) | {"bound": ["low", "high"]}
    found = xr.Dataset(coords=coords, attrs={"frames": 158, "utterances": 4, "notes": ""})
    for m, measure in enumerate(measures):
        table = np.full([len(each) for each in values * 2], np.nan)
        for (i, one), (j, other) in itertools.product(enumerate(everything), repeat=2):
            at = [each.index(name) for each, name in zip(values * 2, (*one, *other), strict=True)]
            table[tuple(at)] = number(m, i, j)
        found[measure] = (PAIR, table)
        bounds = np.stack([table - 1e-4, table + 1e-4], axis=-1)
        found[f"{measure}_interval"] = ((*PAIR, "bound"), bounds, {"level": 0.9})
        found[f"{measure}_random"] = (PAIR, table / 2)
    found["depth"] = (("network", "layer"), np.tile(np.arange(1.0, len(values[2]) + 1), (len(values[0]), 1)))
    return found


def test_each_layer_with_the_next() -> None:
    found = adjacent(comparison())
    assert (found["measure"].values.tolist(), found["step"].values.tolist()) == (["svcca", "r2"], [1, 2])
    assert found["network"].values.tolist() == ["a, epoch 0", "a, epoch 3", "b"]
    assert found["adjacent"].dims == ("measure", "network", "step")
    for m in (0, 1):
        wanted = [[number(m, 0, 1), number(m, 1, 2)], [number(m, 3, 4), number(m, 4, 5)], [number(m, 6, 7), np.nan]]
        np.testing.assert_array_equal(found["adjacent"][m], wanted)
    assert found.attrs == {"frames": 158, "utterances": 4, "level": 0.9}
    low, high = (found["adjacent_interval"].sel(bound=bound) for bound in ("low", "high"))
    xr.testing.assert_allclose(low.drop_vars("bound"), found["adjacent"] - 1e-4)
    xr.testing.assert_allclose(high.drop_vars("bound"), found["adjacent"] + 1e-4)
    lines = [trace for trace in adjacent_layers(found)[0].data if trace.showlegend]
    assert [line.name for line in lines] == ["a, epoch 0", "a, epoch 3", "b"]


def test_without_intervals() -> None:
    data = comparison().drop_vars(["svcca_interval", "r2_interval", "bound"])
    found = adjacent(data, "svcca")
    assert (list(found.data_vars), found["measure"].values.tolist()) == (["adjacent"], ["svcca"])
    assert "level" not in found.attrs
    assert len(adjacent_layers(found)) == 1


def test_depth_goes_before_the_order_of_names() -> None:
    # "b" has its "l3" below its "l1", which no single order of names can say beside "a".
    data = comparison()
    data["depth"] = (("network", "layer"), [[1, 2, 3], [2, np.nan, 1]])
    assert [stage.layers for stage in stages_of(data)] == [("l1", "l2", "l3")] * 2 + [("l3", "l1")]
    assert float(adjacent(data)["adjacent"].sel(network="b", step=1)[0]) == number(0, 7, 6)
    assert network_table(data)["representation"].values[-2:].tolist() == ["b / l3", "b / l1"]


def test_every_layer_with_every_other() -> None:
    found = network_table(comparison(), ["r2"])
    labels = [f"a / epoch {epoch} / l{layer}" for epoch in (0, 3) for layer in (1, 2, 3)] + ["b / l1", "b / l3"]
    assert found["representation"].values.tolist() == found["other_representation"].values.tolist() == labels
    wanted = [[number(1, i, j) for j in range(8)] for i in range(8)]
    np.testing.assert_array_equal(found["matrix"], [wanted])
    assert found.attrs == {"frames": 158, "utterances": 4}
    (panel,) = network_matrix(found)
    np.testing.assert_allclose(panel.data[0].z, wanted, rtol=1e-6)


def test_a_network_at_one_epoch_goes_by_its_name() -> None:
    found = comparison([("a", 18, "l1"), ("a", 18, "l2"), ("b", 12, "l1")])
    assert network_table(found)["representation"].values.tolist() == ["a / l1", "a / l2", "b / l1"]
    # The other network has a single layer: there is nothing next to it.
    assert adjacent(found)["network"].values.tolist() == ["a"]


def test_what_cannot_be_told() -> None:
    with pytest.raises(BadInput, match="no adjacent layers"):
        adjacent(comparison([("a", 1, "l1"), ("b", 1, "l1")]))
    with pytest.raises(BadOption, match=r"(?s)unknown measure.*'cka'.*'svcca', 'r2'"):
        network_table(comparison(), "cka")
    for wrong in (xr.Dataset(), xr.Dataset({"matrix": (("layer", "other_layer"), np.ones((2, 2)))})):
        with pytest.raises(BadInput, match="no comparison of layers"):
            adjacent(wrong)


def make_network(seed: int, *units: int) -> torch.nn.Module:
    hidden = [{"units": count, "kernel": 3} for count in units]
    torch.manual_seed(seed)
    return build(read_config({"mels": 6, "symbols": ["_", "a", "b"], "hidden": hidden, "norm": "none"})).eval()


def test_a_real_comparison(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    speech = [Utterance(f"u{n}", features=rng.standard_normal((40, 6)).astype(np.float32)) for n in range(4)]
    networks = {"deep": make_network(1, 7, 5), "flat": make_network(2, 6)}
    compared = otoscope.compare(networks, speech, interval=0.9, baseline="random", folds=4, batch_size=1)
    compared = load_table(save_table(compared, tmp_path, "networks")[0])
    kept: dict[str, list[torch.Tensor]] = {}
    for name, network in networks.items():
        for layer, module in network.named_children():
            place = kept.setdefault(f"{name} / {layer}", [])
            module.register_forward_hook(lambda _m, _i, out, place=place: place.append(out[0]))
        with torch.no_grad():
            for utterance in speech:
                network(torch.from_numpy(utterance.features)[None], torch.tensor([40]))
    heard = {name: torch.cat(rows).double().numpy() for name, rows in kept.items()}
    square, steps = network_table(compared), adjacent(compared)
    assert square["representation"].values.tolist() == list(heard)
    for measure, (one, first), (other, second) in itertools.product(("svcca", "cka"), heard.items(), heard.items()):
        found = float(square["matrix"].sel(measure=measure, representation=one, other_representation=other))
        assert found == pytest.approx(otoscope.similarity(first, second, measure), abs=1e-6)
    deep = steps["adjacent"].sel(measure="cka", network="deep").values
    wanted = [otoscope.similarity(heard[f"deep / layer{n}"], heard[f"deep / layer{n + 1}"], "cka") for n in (1, 2)]
    np.testing.assert_allclose(deep, wanted, atol=1e-6)
    assert np.isnan(steps["adjacent"].sel(network="flat", step=2)).all()
    low, high = (steps["adjacent_interval"].sel(bound=bound, network="deep") for bound in ("low", "high"))
    assert ((low <= steps["adjacent"].sel(network="deep")) & (steps["adjacent"].sel(network="deep") <= high)).all()
    assert (steps.attrs["level"], steps.attrs["frames"]) == (0.9, 160)
