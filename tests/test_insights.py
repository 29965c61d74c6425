"""`otoscope reproduce insights` in tiny form: trained, looked at, drawn, resumed, with holes; numbers by formulas."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from recordings import write_audio
from scipy.stats import spearmanr
from typer.testing import CliRunner

import otoscope
from otoscope.base import BadCheckpoint, BadInput, BadOption, silent
from otoscope.commands.reproduce import app
from otoscope.hear.audio import pad_batch
from otoscope.hear.corpus import Utterance, read_corpus
from otoscope.hear.manifest import write_manifest
from otoscope.learn.checkpoint import checkpoint_path, load_checkpoint, open_run
from otoscope.probe.layers import as_points, list_layers
from otoscope.probe.taps import tap
from otoscope.reduce.comparison import Findings
from otoscope.study import insights, insights_figures, insights_layers, insights_numbers, insights_runs
from otoscope.study.console import Terminal
from otoscope.study.insights import reproduce_insights
from otoscope.study.insights_layers import side_by_side, through
from otoscope.study.insights_settings import FULL, NETWORKS, SMALL
from otoscope.study.kept import MADE_WITH, Steps
from otoscope.study.representations import open_networks
from otoscope.study.results import load_table
from otoscope.study.speech import Speech

pytest.importorskip("matplotlib", reason="figures for papers need the extra `print`")

RATE = 8000
SAID = ("tea for two", "two for tea", "me for you", "you for me")
WRITER = {"layers": 2, "units": 8, "decoder_units": 8, "decoder_layers": 1, "embedding": 4, "attention_units": 4}
TINY = dataclasses.replace(
    SMALL,
    of_network={
        **{f"conv-lstm-{n}": {**WRITER, "channels": (2, *[4] * (n - 1))} for n in range(1, 7)},
        "lstm": WRITER,
        "transformer": {"units": 8, "heads": 2, "feed_forward": 8, "blocks": 2, "decoder_blocks": 1, "channels": 2},
    },
    training={"epochs": 2, "batch_size": 4, "precision": "float32"},
    seeds=(0, 1),
    utterances=4,
)  # fmt: skip
ONLY = ["conv-lstm-2", "lstm"]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six utterances to learn from, two to choose by, and four that are clean and noisy, of 1.2 s of noise each."""
    folder = tmp_path_factory.mktemp("speech")
    rows = [("train", "clean")] * 6 + [("dev", "clean")] * 2 + [("test", "clean")] * 4 + [("test", "noisy")] * 4
    rng = np.random.default_rng(0)
    made = []
    for number, (split, condition) in enumerate(rows):
        samples = (0.1 * rng.standard_normal(RATE * 6 // 5 + 400 * (number % 3))).astype(np.float32)
        path = write_audio(folder / f"u{number:02d}.wav", samples, RATE)
        made.append(Utterance(path.stem, path, text=SAID[number % 4], speaker="ann", split=split, condition=condition))
    write_manifest(made, folder / "manifest.jsonl")
    return folder / "manifest.jsonl"


@pytest.fixture(scope="module")
def done(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole once, of three networks and two seeds."""
    out = tmp_path_factory.mktemp("insights")
    found = reproduce(out, manifest)
    assert found.problems == []
    return out


def reproduce(out: Path, manifest: Path, **options):
    given = {"corpus": [manifest], "only": ONLY, "settings": TINY, "terminal": Terminal(), **options}
    return reproduce_insights(out, **given)


def copied(done: Path, tmp_path: Path) -> Path:
    shutil.copytree(done, tmp_path / "out")
    return tmp_path / "out"


def test_everything_is_there_and_small(done: Path) -> None:
    names = {path.name for path in done.iterdir()}
    for figure in ("wer", "figure1", "figure3", "figure3-next"):
        assert {f"{figure}.pdf", f"{figure}.png", f"{figure}.txt"} <= names
    for table in ("wer", "figure1", "figure3", "convergence", "sensitivity", "shape", "solutions"):
        assert {f"{table}.nc", f"{table}.csv"} <= names
    index = (done / "README.md").read_text()
    assert all(f"({name})" in index for name in ("table1.md", "figure1.pdf", "pathologies.md", "shape.nc"))
    assert "Nothing is missing." in index
    assert "conv-lstm-2: 0, 1" in index
    assert "| conv-lstm-2 |" in (done / "table1.md").read_text()
    assert "## lstm" in (done / "pathologies.md").read_text()
    # The six-layer CNN was not asked for: nothing of it is drawn.
    assert "figure2.pdf" not in names
    assert "N = 12 words" in (done / "wer.txt").read_text()
    numbers = [path for path in done.iterdir() if path.suffix in (".nc", ".csv")]
    assert sum(path.stat().st_size for path in numbers) < 1_000_000


def maps_by_hand(folder: Path, epoch: int, speech, layer: str, frames: int | None = None) -> list[np.ndarray]:
    """A layer's output, `(frame, point, unit)` for each utterance, one utterance at a time."""
    network = load_checkpoint(checkpoint_path(folder, epoch))
    (found,) = [each for each in list_layers(network) if str(each) == layer]
    outputs = []
    for features in speech.features:
        features = features[:frames]
        with tap(network, [found]) as taps:
            network(features[None], pad_batch([features])[1])
        outputs.append(as_points(taps[found], found)[0].detach().numpy())
    return outputs


def test_curves_are_those_of_layers_read_by_hand(done: Path, manifest: Path) -> None:
    speech = otoscope.listen(otoscope.select(read_corpus(manifest), TINY.hears))
    folder = done / "runs" / "conv-lstm-2-s0"
    listeners = open_networks({"a": open_run(folder)}, "*", "all")
    recommended, paper = through(listeners, speech, "recommended"), through(listeners, speech, "paper")
    for layer, flat in (("conv1", False), ("lstm1", True)):
        by_epoch = {e: maps_by_hand(folder, e, speech, layer) for e in (0, 2)}
        first, last = (np.concatenate([u.reshape(-1, u.shape[-1]) for u in by_epoch[e]]) for e in (0, 2))
        for measure in ("svcca", "cka"):
            value = float(recommended["to_last"].sel(measure=measure, layer=layer, epoch=0))
            assert value == pytest.approx(otoscope.similarity(first, last, measure), abs=2e-4)
        # The paper's: 100 frames of the first utterance, and what is no map as one column.
        first, last = (maps_by_hand(folder, e, speech, layer, 100)[0] for e in (0, 2))
        column = (first.reshape(-1, 1), last.reshape(-1, 1)) if flat else ()
        first, last = column or (first.reshape(-1, first.shape[-1]), last.reshape(-1, last.shape[-1]))
        value = float(paper["to_last"].sel(measure="svcca", layer=layer, epoch=0))
        assert value == pytest.approx(otoscope.similarity(first, last, "svcca"), abs=2e-4)
        if flat:
            assert value == pytest.approx(abs(np.corrcoef(first[:, 0], last[:, 0])[0, 1]), abs=1e-4)
    # The layer that has the fewest data points: a frame of the recurrent layers is one.
    assert recommended.attrs["frames"] == sum(map(len, by_epoch[0]))
    # Converged is from where on it stays within 0.05 of its end.
    for found, measure, layer in itertools.product(
        (recommended, paper), ("svcca", "cka"), ("conv1", "lstm1", "output")
    ):
        curve = found["to_last"].sel(measure=measure, layer=layer).values
        told = float(found["converged"].sel(measure=measure, layer=layer))
        assert told == min(epoch for epoch in range(3) if (curve[epoch:] >= 0.95).all())
    # What is kept has the readings under their names.
    kept = load_table(done / "analysis" / "conv-lstm-2-s0.nc")["to_last"]
    for reading, found in (("paper", paper), ("recommended", recommended)):
        np.testing.assert_allclose(kept.sel(reading=reading), found["to_last"], atol=1e-4)
    np.testing.assert_allclose(recommended["to_last"].sel(epoch=2), 1, atol=1e-6)
    assert recommended["units"].sel(layer="conv1") == 2


def test_neighbours_are_compared_on_the_coarser_grid(done: Path, manifest: Path) -> None:
    speech = otoscope.listen(otoscope.select(read_corpus(manifest), TINY.hears))
    folder = done / "runs" / "conv-lstm-2-s0"
    ends = open_networks({"a": open_run(folder)}, "*", [0, 2])
    found = side_by_side({0: ends}, speech, "recommended")
    one, two = (maps_by_hand(folder, 2, speech, layer) for layer in ("conv1", "conv2"))
    rows = []
    for shallow, deep in zip(one, two, strict=True):
        frames, bands, channels = shallow.shape
        # Every two frames and every two bands are one in the deeper layer; an odd last frame stands alone.
        padded = np.concatenate([shallow, np.full((frames % 2, bands, channels), np.nan, np.float32)])
        rows.append(np.nanmean(padded.reshape(len(padded) // 2, 2, bands, channels), 1))
        assert len(rows[-1]) == len(deep)
    pooled = np.concatenate([row.reshape(len(row), -1, 2, row.shape[-1]).mean(2).reshape(-1, 2) for row in rows])
    wanted = otoscope.similarity(pooled, np.concatenate([deep.reshape(-1, 4) for deep in two]), "cka")
    assert float(found["adjacent"].sel(measure="cka", seed=0, stage="trained", step=1)) == pytest.approx(
        wanted, abs=1e-3
    )
    assert "across_seeds" not in found
    # The paper's: the first utterance's 100 frames, and the two channels interpolated to four.
    one, two = (maps_by_hand(folder, 2, speech, layer, 100)[0] for layer in ("conv1", "conv2"))
    pooled = one.reshape(len(two), 2, two.shape[1], 2, 2).mean((1, 3)).reshape(-1, 2)
    stretched = pooled @ np.array([[1, 2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3, 1]], np.float32)
    wanted = otoscope.similarity(stretched, two.reshape(-1, 4), "cka")
    found = side_by_side({0: ends}, speech, "paper")["adjacent"]
    assert float(found.sel(measure="cka", seed=0, stage="trained", step=1)) == pytest.approx(wanted, abs=1e-3)


def test_every_pair_goes_to_its_own_seed_stage_and_layer(monkeypatch) -> None:
    """A pair's similarity is planted: 100 times the number of the one, and the number of the other."""
    layers, stages = ["conv1", "conv2", "conv3", "lstm1"], ("untrained", "trained")
    number = {
        f"{seed}/{stage}/{layer}": 20 * s + 10 * e + at
        for s, seed in enumerate((4, 7, 9)) for e, stage in enumerate(stages) for at, layer in enumerate(layers)
    }  # fmt: skip
    asked = []

    def compare_pairs(listeners, speech, pairs, reading, *, coarse=False, repairings, progress):
        asked.append((reading, coarse, repairings))
        values = {pair: 100.0 * number[pair[0]] + number[pair[1]] for pair in pairs}
        found = Findings({"svcca": values, "cka": {pair: -value for pair, value in values.items()}}, {}, ())
        found.baseline = {
            measure: {pair: value + np.array([0.0, 1.0, 5.0]) for pair, value in each.items()}
            for measure, each in found.values.items()
        }
        few, many = (SimpleNamespace(frames=count, utterances=3) for count in (5, 40))
        return insights_layers.Pass(found, [many, few])

    monkeypatch.setattr(insights_layers, "compare_pairs", compare_pairs)
    runs = {
        seed: [
            SimpleNamespace(layers=layers, representations=[f"{seed}/{stage}/{layer}" for layer in layers])
            for stage in stages
        ]
        for seed in (4, 7, 9)
    }
    found = side_by_side(runs, None, "paper")
    for sign, measure in ((1, "svcca"), (-1, "cka")):
        for seed in (4, 7, 9):
            for stage in stages:
                for step in (1, 2):
                    at = {"measure": measure, "seed": seed, "stage": stage, "step": step}
                    one, other = (number[f"{seed}/{stage}/conv{n}"] for n in (step, step + 1))
                    assert float(found["adjacent"].sel(at)) == sign * (100 * one + other)
                    assert float(found["adjacent_shuffled"].sel(at)) == sign * (100 * one + other) + 2
        for pair in ((4, 7), (4, 9), (7, 9)):
            for stage in stages:
                for layer in layers:
                    at = {"measure": measure, "seed": pair[0], "other_seed": pair[1], "stage": stage, "layer": layer}
                    one, other = (number[f"{seed}/{stage}/{layer}"] for seed in pair)
                    assert float(found["across_seeds"].sel(at)) == sign * (100 * one + other)
                    assert float(found["across_seeds_shuffled"].sel(at)) == sign * (100 * one + other) + 2
    assert asked == [("paper", True, 5), ("paper", False, 5)]
    assert found.attrs == {"adjacent_frames": 5, "across_seeds_frames": 5, "utterances": 3}


def test_the_papers_input_is_the_start_of_the_first_that_is_long_enough() -> None:
    features = [np.arange(count, dtype=np.float32)[:, None].repeat(128, 1) for count in (99, 100, 130)]
    speech = otoscope.listen(Utterance(f"u{n}", features=each) for n, each in enumerate(features))
    for frames, name in ((100, "u1"), (101, "u2")):
        found = insights_layers.controlled_input(speech, frames)
        assert [utterance.id for utterance in found.utterances] == [name]
        np.testing.assert_array_equal(found.features[0][:, 0], np.arange(frames))
    with pytest.raises(BadOption, match="no utterance is as long"):
        insights_layers.controlled_input(speech, 131)


def test_the_analysis_hears_utterances_spread_over_those_it_may_hear() -> None:
    nothing = np.zeros((3, 128), np.float32)
    made = [
        Utterance(f"u{n}", features=nothing, split="train" if n % 2 else "test", condition="clean") for n in range(20)
    ]
    # Ten may be heard, u0, u2, … u18; every second of them, four in all.
    found = insights._analysed(otoscope.listen(made), TINY)
    assert isinstance(found, Speech)
    assert [utterance.id for utterance in found.utterances] == ["u0", "u4", "u8", "u12"]


def test_a_spoken_corpus_of_other_settings_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "manifest.jsonl").write_text("")
    (folder / "settings.json").write_text(json.dumps({"counts": TINY.counts(), "share": 0.5, "longest": 5, "seed": 0}))
    with pytest.raises(BadInput, match="other settings"):
        insights._corpus([], TINY, tmp_path, Terminal())


def test_the_same_network_twice_is_the_same_solution(done: Path, manifest: Path) -> None:
    speech = otoscope.listen(otoscope.select(read_corpus(manifest), TINY.hears))
    run = open_run(done / "runs" / "lstm-s0")
    twice = {seed: open_networks({f"n{seed}": run}, "*", [0, 2]) for seed in (0, 1)}
    found = side_by_side(twice, speech, "recommended")
    np.testing.assert_allclose(found["across_seeds"].sel(seed=0, other_seed=1), 1, atol=1e-6)
    assert (found["across_seeds_shuffled"].sel(seed=0, other_seed=1, measure="cka") < 0.9).all()
    assert np.isnan(found["across_seeds"].sel(seed=1)).all()


def planted(values: list[list[float]]) -> xr.Dataset:
    """Curves `(layer, epoch)` of a run, the same by both readings; CKA is the square of SVCCA."""
    one = np.array(values)
    table = np.broadcast_to(np.stack([one, one**2]), (2, 2, *one.shape))
    dims = ("reading", "measure", "layer", "epoch")
    coords = {"reading": ["paper", "recommended"], "measure": ["svcca", "cka"],
              "layer": [f"conv{n + 1}" for n in range(len(one))], "epoch": range(one.shape[1])}  # fmt: skip
    found = xr.Dataset({"to_last": (dims, table), "to_next": (dims, table)}, coords=coords)
    shape = ("reading", "measure", "layer")
    return found.assign(
        converged=(shape, np.full((2, 2, len(one)), 3.0)), bottom_up=(shape[:2], np.array([[1.0, 0.5]] * 2))
    )


def test_numbers_of_the_claims_are_those_of_the_formulas() -> None:
    runs = {0: planted([[0.1, 0.5, 0.9, 1], [0.2, 0.3, 0.1, 1]]), 1: planted([[0.3, 0.5, 0.9, 1], [0.2, 0.7, 0.1, 1]])}
    networks = {"conv-lstm-2": runs, "conv-lstm-1": {0: planted([[0.4, 0.5, 0.6, 1]])}}
    at = {"network": "conv-lstm-2", "reading": "paper", "measure": "svcca"}
    spread = insights_numbers.sensitivity(networks)["seed_sd"]
    np.testing.assert_allclose(spread.sel(at), [np.std([0.1, 0.3], ddof=1) / 3, np.std([0.3, 0.7], ddof=1) / 3])
    assert np.isnan(spread.sel(network="conv-lstm-1")).all()
    shape = insights_numbers.shape(networks)
    np.testing.assert_allclose(shape["agreement"].sel(network="conv-lstm-2"), 1)
    # By hand, of the first layer: stretched, SVCCA is 0, 0.5, 1, its own CKA 0, 0.3, 1, the other layer's 3/8, 1, 0.
    first = shape.sel(network="conv-lstm-2", reading="paper", seed=0, layer="conv1")
    np.testing.assert_allclose(first["distance"], 0.2 / 3**0.5)
    np.testing.assert_allclose(first["distance_elsewhere"], ((0.375**2 + 0.5**2 + 1) / 3) ** 0.5)
    np.testing.assert_allclose(first["agreement_elsewhere"], -0.5)
    assert shape["distance_elsewhere"].sel(network="conv-lstm-1").isnull().all()
    other = planted([[0.1, 0.5, 0.9, 1]])
    other["to_last"] = other["to_last"].copy()
    other["to_last"].loc[{"measure": "cka"}] = [0.6, 0.1, 0.2, 1]
    found = insights_numbers.shape({"a": {0: other}})["agreement"]
    np.testing.assert_allclose(found, spearmanr([0.1, 0.5, 0.9], [0.6, 0.1, 0.2]).statistic)
    settled = insights_numbers.convergence(networks)
    assert settled["converged"].sel(network="conv-lstm-1", seed=0, layer="conv2").isnull().all()
    assert float(settled["bottom_up"].sel(network="conv-lstm-2", seed=1, reading="paper", measure="cka")) == 0.5
    late = planted([[0.1, 0.5, 0.9, 1]] * 3).assign_coords(layer=["conv1", "conv2", "output"])
    late = late.assign(converged=late["converged"].copy(data=np.broadcast_to([2.0, 3.0, 1.0], (2, 2, 3))))
    order = insights_numbers.convergence({"conv-lstm-2": {0: late}})
    np.testing.assert_allclose(order["bottom_up_encoder"], np.ones((1, 1, 2, 2)))
    np.testing.assert_array_equal(order["bottom_up"].squeeze(), late["bottom_up"])
    gap = insights_numbers.curves({0: runs[0].isel(epoch=[0, 1, 3])}, 3)["to_last"]
    assert gap.sel(epoch=2).isnull().all()
    assert gap.sel(epoch=1).notnull().all()


def test_more_similar_solutions_of_better_networks_are_found() -> None:
    """Planted: over three CNNs similarity falls as errors rise, but in the deepest convolution it rises."""
    dims = ("reading", "measure", "seed", "other_seed", "stage", "layer")
    found = {}
    for depth, first, lstm in ((2, 0.9, 0.0), (3, 0.6, 0.9), (4, 0.3, 1.0)):
        values = np.full((2, 2, 3, 3, 2, depth + 1), np.nan)
        # What is no convolution, and what is not trained, would rank otherwise.
        trained = np.array([*[first] * (depth - 1), 0.1 * depth, lstm])
        for pair, off in (((0, 1), -0.1), ((0, 2), 0.0), ((1, 2), 0.1)):
            values[:, :, *pair] = np.stack([1 - trained, trained]) + off
        coords = {"reading": ["paper", "recommended"], "measure": ["svcca", "cka"], "stage": ["untrained", "trained"]}
        coords |= {"seed": [0, 1, 2], "other_seed": [0, 1, 2]}
        coords["layer"] = [*(f"conv{n + 1}" for n in range(depth)), "lstm1"]
        found[f"conv-lstm-{depth}"] = xr.Dataset({"across_seeds": (dims, values)}, coords=coords)
    rows = [
        row_of(f"conv-lstm-{d}", seed, condition, wer)
        for d in (2, 3, 4)
        for condition, mean in (("clean", 10.0 * d), ("noisy", 90.0 - 10 * d))
        for seed, wer in ((None, mean), (0, 5.0), (1, 95.0))
    ]
    table = insights_numbers.solutions(found, rows)
    assert table is not None
    # In noise, the other way round, for errors fall with depth there.
    for place, rank in (("all", -1), ("first", -1), ("deepest", 1)):
        assert (table["rank"].sel(place=place, condition="clean") == rank).all()
        assert (table["rank"].sel(place=place, condition="noisy") == -rank).all()
    one = table["across_seeds"].sel(network="conv-lstm-3", layer="conv2")
    np.testing.assert_allclose(one.sel(stage="trained"), 0.6)
    np.testing.assert_allclose(one.sel(stage="untrained"), 0.4)
    np.testing.assert_allclose(table["wer"].sel(network="conv-lstm-4"), [40, 50])


def row_of(network: str, seed: int | None, condition: str, wer: float, ends: tuple[float, ...] = (np.nan,) * 4):
    return insights_numbers.Row(network, seed, condition, wer, *ends, 100, 1, 1, 1, 5, 2, 1.0)


def test_word_errors_lie_by_network_condition_and_seed() -> None:
    rows = [
        row_of("a", 3, "clean", 10.0), row_of("a", 1, "clean", 20.0), row_of("a", None, "clean", 15.0, (14, 16, 1, 29)),
        row_of("b", 3, "noisy", 50.0), row_of("b", None, "noisy", 50.0, (48, 53, np.nan, np.nan)),
    ]  # fmt: skip
    table = insights_numbers.wer_table(rows)
    np.testing.assert_array_equal(table["wer"], [[15, np.nan], [np.nan, 50]])
    np.testing.assert_array_equal(table["by_seed"].sel(network="a", condition="clean", seed=[1, 3]), [20, 10])
    np.testing.assert_array_equal(table["by_seed"].sel(network="b", condition="noisy", seed=[1, 3]), [np.nan, 50])
    ends = table.sel(network="a", condition="clean", bound=["low", "high"])
    assert ends["over_utterances"].values.tolist() == [14, 16]
    assert ends["over_seeds"].values.tolist() == [1, 29]
    assert table["words"].values.tolist() == [100, 100]


def test_neighbours_of_networks_of_other_depths_and_seeds_stand_in_one_table() -> None:
    def steps(values: list[list[float]], seeds: list[int]) -> xr.Dataset:
        coords = {"seed": seeds, "step": np.arange(1, len(values[0]) + 1)}
        return xr.Dataset({"adjacent": (("seed", "step"), np.array(values))}, coords=coords)

    found = {"conv-lstm-3": steps([[0.1, 0.2], [0.3, 0.4]], [2, 1]), "conv-lstm-2": steps([[0.5]], [2])}
    table = insights_numbers.neighbours({**found, "lstm": xr.Dataset()})
    assert table is not None
    assert list(table["network"].values) == ["conv-lstm-3", "conv-lstm-2"]
    np.testing.assert_array_equal(
        table["adjacent"].sel(seed=[1, 2], step=[1, 2]),
        [[[0.3, 0.4], [0.1, 0.2]], [[np.nan, np.nan], [0.5, np.nan]]],
    )
    assert insights_numbers.neighbours({"lstm": xr.Dataset()}) is None


def figures_of(monkeypatch) -> dict[str, object]:
    """What is drawn from now on, by name, in place of files."""
    made: dict[str, object] = {}
    monkeypatch.setattr(insights_figures, "save_print", lambda figure, out, name: [made.setdefault(name, figure)])
    return made


def lines_by_panel(figure) -> dict[str, list[np.ndarray]]:
    return {ax.get_title(loc="left"): [line.get_ydata() for line in ax.lines] for ax in figure.axes}


TITLES = {
    ("paper", "svcca"): "SVCCA, as the paper does", ("paper", "cka"): "CKA, as the paper does",
    ("recommended", "svcca"): "SVCCA, recommended", ("recommended", "cka"): "CKA, recommended",
}  # fmt: skip


def test_figures_through_training_draw_each_curve_in_its_panel(monkeypatch, tmp_path: Path) -> None:
    made = figures_of(monkeypatch)
    assert insights_figures.figure_networks(SMALL) == {
        "figure2": "conv-lstm-6", "figure3": "lstm", "figure4": "transformer"
    }  # fmt: skip
    values = np.linspace(0.1, 0.9, 2 * 2 * 2 * 2 * 3).reshape(2, 2, 2, 2, 3)
    coords = {"reading": ["paper", "recommended"], "measure": ["svcca", "cka"], "seed": [0, 1],
              "layer": ["lstm1", "output"], "epoch": [0, 1, 2]}  # fmt: skip
    found = xr.Dataset({"to_last": (tuple(coords), values), "to_next": (tuple(coords), 1 - values)}, coords=coords)
    facts = {"paper_frames": 11, "recommended_frames": 22, "recommended_utterances": 33}
    insights_figures.draw_training(tmp_path, "figure3", "lstm", found, facts, [0, 1, 2])
    for name, words, curve in (("figure3", "the last epoch", "to_last"), ("figure3-next", "the next epoch", "to_next")):
        caption, panels = made[name].get_label(), lines_by_panel(made[name])
        assert f"similarity of each layer with itself at {words}" in caption
        assert "100 frames of 1 utterance (11 data points" in caption
        assert "recommended, 33 utterances (22 or more)" in caption
        assert caption.endswith("Missing, since not trained or not whole: seed 2.")
        for (reading, measure), title in TITLES.items():
            wanted = found[curve].sel(reading=reading, measure=measure).mean("seed")
            np.testing.assert_allclose(panels[title][:2], wanted)


def test_figure_1_draws_each_reading_and_measure_in_its_panel(monkeypatch, tmp_path: Path) -> None:
    made = figures_of(monkeypatch)
    values = np.linspace(0.1, 0.9, 2 * 2 * 2 * 1 * 2 * 2).reshape(2, 2, 2, 1, 2, 2)
    coords = {"network": ["conv-lstm-3", "conv-lstm-2"], "reading": ["paper", "recommended"],
              "measure": ["svcca", "cka"], "seed": [0], "stage": ["untrained", "trained"], "step": [1, 2]}  # fmt: skip
    adjacent = xr.DataArray(values, coords, tuple(coords))
    found = xr.Dataset({"adjacent": adjacent, "adjacent_shuffled": adjacent / 10})
    facts = {"paper_adjacent_frames": 11, "recommended_adjacent_frames": 22, "recommended_utterances": 33}
    insights_figures.draw_neighbours(tmp_path, found, facts, ["conv-lstm-3", "conv-lstm-2", "conv-lstm-1"])
    panels, caption = lines_by_panel(made["figure1"]), made["figure1"].get_label()
    for (reading, measure), title in TITLES.items():
        # From shallow to deep, as the colours have it: trained, untrained, and trained with others' utterances.
        for place, network in enumerate(("conv-lstm-2", "conv-lstm-3")):
            of = adjacent.sel(reading=reading, measure=measure, network=network, seed=0)
            own = [of.sel(stage="trained"), of.sel(stage="untrained"), of.sel(stage="trained") / 10]
            np.testing.assert_allclose(panels[title][3 * place : 3 * place + 3], own)
    assert "100 frames of 1 utterance, which cannot be paired with others (11 data points)" in caption
    assert "recommended, 33 utterances (22 points)" in caption
    assert "Missing" not in caption


def test_a_step_is_made_again_of_whatever_is_different(tmp_path: Path, monkeypatch) -> None:
    made = []

    def table(same: dict[str, object], **more: object) -> None:
        def make() -> xr.Dataset:
            made.append((same, more))
            return xr.Dataset({"n": len(made)})

        before = len(made)
        found = Steps(tmp_path, same, lambda _: None).table("x", make, **more)
        assert int(found["n"]) == len(made)
        again.append(len(made) - before)

    again: list[int] = []
    table({"speech": "a"}, checkpoints=["1"])
    table({"speech": "a"}, checkpoints=["1"])
    table({"speech": "b"}, checkpoints=["1"])
    table({"speech": "b"}, checkpoints=["2"])
    table({"speech": "b"}, checkpoints=["2"], other="c")
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.0.1")
    table({"speech": "b"}, checkpoints=["2"], other="c")
    assert again == [1, 0, 1, 1, 1, 1]


def test_what_is_kept_of_runs_is_of_their_ends_their_speech_and_their_weights(tmp_path: Path, monkeypatch) -> None:
    """Networks and what is found of them are planted: 1 by the paper's reading, 2 by the recommended one."""
    speech = otoscope.listen([Utterance("u0", features=np.zeros((3, 128), np.float32), text="a")])
    heard: list[dict[int, list[int]]] = []

    def beside(runs, speech, reading, progress) -> xr.Dataset:
        heard.append(runs)
        return xr.Dataset({"n": {"paper": 1.0, "recommended": 2.0}[reading]}, attrs={"frames": reading})

    monkeypatch.setattr(insights_runs, "side_by_side", beside)
    monkeypatch.setattr(insights_runs, "open_networks", lambda runs, layers, epochs: list(epochs))
    several = []
    for seed, last in ((0, 2), (1, 3)):
        paths = {epoch: tmp_path / f"{seed}-{epoch}" for epoch in range(last + 1)}
        for path in paths.values():
            path.write_bytes(path.name.encode())
        several.append(
            insights_runs.Usable(SimpleNamespace(name="a", seed=seed), SimpleNamespace(checkpoints=paths), ())
        )

    def kept(of: Speech = speech) -> xr.Dataset:
        return insights_runs.Keeper(tmp_path, of, lambda _: None).side_by_side("a", several, silent)

    for found in (kept(), kept()):
        assert float(found["n"].sel(reading="paper")) == 1
        assert float(found["n"].sel(reading="recommended")) == 2
        assert (found.attrs["paper_frames"], found.attrs["recommended_frames"]) == ("paper", "recommended")
    assert heard == [{0: [0, 2], 1: [0, 3]}] * 2
    (tmp_path / "1-2").write_bytes(b"in between: not looked at")
    kept()
    assert len(heard) == 2
    (tmp_path / "1-3").write_bytes(b"other weights")
    kept()
    assert len(heard) == 4
    kept(otoscope.listen([Utterance("u0", features=np.ones((3, 128), np.float32), text="b")]))
    assert len(heard) == 6


def test_a_run_is_looked_at_if_it_has_its_ends_and_was_not_cut_short(done: Path, tmp_path: Path) -> None:
    shutil.copytree(done / "runs" / "lstm-s0", tmp_path / "lstm-s0")
    (job,) = TINY.jobs(tmp_path, ["lstm"], [0])
    assert insights_runs.usable(job, as_made=False).last == 2
    (longer,) = TINY.jobs(tmp_path, ["lstm"], [0], epochs=3)
    with pytest.raises(BadCheckpoint, match="cut short") as told:
        insights_runs.usable(longer, as_made=False)
    assert told.value.got == "2 of 3 epochs"
    assert insights_runs.usable(longer, as_made=True).last == 2
    first = tmp_path / "lstm-s0" / "checkpoints" / "epoch-000.safetensors"
    shutil.copy(first, first.with_name("epoch-003.safetensors"))
    first.unlink()
    with pytest.raises(BadCheckpoint, match="checkpoints are missing"):
        insights_runs.usable(job, as_made=False)


def test_nothing_is_done_twice_and_stale_is_done_again(done: Path, manifest: Path, tmp_path: Path, capfd) -> None:
    out = copied(done, tmp_path)
    kept = {path: path.stat().st_mtime_ns for path in [*out.glob("analysis/*.nc"), *out.glob("runs/*/checkpoints/*")]}
    before = load_table(out / "figure3.nc")
    again = reproduce(out, manifest)
    assert again.problems == []
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert "there already: 4 of 4 networks trained, 4 analysed" in capfd.readouterr().err
    xr.testing.assert_equal(load_table(out / "figure3.nc"), before)
    # Another version, and another corpus.
    for name, key in (("lstm-s0", "otoscope"), ("lstm-s1", "speech")):
        path = out / "analysis" / f"{name}.nc"
        table = load_table(path)
        made_with = json.dumps({**json.loads(table.attrs[MADE_WITH]), key: "other"})
        table.assign_attrs({MADE_WITH: made_with}).to_netcdf(path, engine="h5netcdf")
    (out / "analysis" / "conv-lstm-2-s0.nc").write_bytes(b"cut short")
    assert reproduce(out, manifest).problems == []
    said = capfd.readouterr().err
    assert "lstm-s0.nc was made with another otoscope, and is made again" in said
    assert "lstm-s1.nc was made with another speech, and is made again" in said
    assert "conv-lstm-2-s0.nc cannot be read, and is made again" in said
    xr.testing.assert_allclose(load_table(out / "figure3.nc"), before)


def test_a_series_cut_short_goes_on(done: Path, manifest: Path, tmp_path: Path) -> None:
    """A run that was stopped after its first epoch ends as the one that was not."""
    out = tmp_path / "out"
    (job,) = TINY.jobs(out / "runs", ["lstm"], [0])

    def stop(entry: dict[str, object]) -> None:
        if entry["epoch"] == 1:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        otoscope.train_recogniser(
            job.folder, otoscope.select(read_corpus(manifest), job.training), held_out=job.held_out,
            network=job.values, options=job.options, on_epoch=stop,
        )  # fmt: skip
    found = reproduce(out, manifest, only=["lstm"], seeds=[0])
    assert found.problems == []
    ours, whole = (folder / "runs" / "lstm-s0" / "checkpoints" / "epoch-002.safetensors" for folder in (out, done))
    a, b = (dict(load_checkpoint(path).state_dict()) for path in (ours, whole))
    assert all(np.array_equal(a[name].numpy(), b[name].numpy()) for name in a)


def test_holes_are_named_and_marked(done: Path, manifest: Path, tmp_path: Path, monkeypatch) -> None:
    out = copied(done, tmp_path)
    runs = out / "runs"
    (runs / "conv-lstm-2-s0" / "checkpoints" / "epoch-002.safetensors").unlink()
    (runs / "conv-lstm-2-s1" / "checkpoints" / "epoch-001.safetensors").write_bytes(b"cut short")
    shutil.rmtree(runs / "lstm-s0")
    monkeypatch.setitem(insights.SCALES, "small", TINY)
    options = ["--no-train", "--out", str(out), "--corpus", str(manifest), "--json"]
    result = CliRunner().invoke(app, ["insights", *options, *[f"--only={name}" for name in [*ONLY, "transformer"]]])
    assert result.exit_code == 1, result.output
    told = json.loads(result.stdout)
    problems = "\n".join(told["problems"])
    assert "conv-lstm-2-s0: checkpoints are missing (epochs 0, 1)" in problems
    assert "conv-lstm-2-s1: this checkpoint cannot be read" in problems
    assert "lstm-s0: not trained" in problems
    assert "transformer-s0: not trained" in problems
    # The rest is done, and each caption says what it lacks.
    assert "Transformer (transformer) is not trained" in (out / "figure4.txt").read_text()
    assert "no CNN of two convolutions is trained" in (out / "figure1.txt").read_text()
    said = {name: " ".join((out / f"{name}.txt").read_text().split()) for name in ("wer", "figure3")}
    assert said["wer"].endswith("Missing, since not trained or not whole: transformer, seed 0.")
    assert said["figure3"].endswith("Missing, since not trained or not whole: seed 0.")
    assert {row["network"] for row in told["wer"]} == {"conv-lstm-2", "lstm"}
    assert load_table(out / "figure3.nc")["seed"].values.tolist() == [1]
    assert "- lstm-s0: not trained" in (out / "README.md").read_text()


def test_a_missing_recording_is_named_and_the_rest_done(done: Path, manifest: Path, tmp_path: Path) -> None:
    out = copied(done, tmp_path)
    corpus = tmp_path / "speech"
    shutil.copytree(manifest.parent, corpus)
    (corpus / "u09.wav").unlink()
    found = reproduce(out, corpus / "manifest.jsonl", only=["lstm"])
    assert any("u09" in problem for problem in found.problems)
    assert (out / "figure3.pdf").is_file()
    assert load_table(out / "analysis" / "lstm-s0.nc").attrs["recommended_utterances"] == 3


def test_a_run_of_another_corpus_or_with_other_settings_is_said(done: Path, manifest: Path, tmp_path: Path) -> None:
    out = copied(done, tmp_path)
    path = out / "runs" / "lstm-s0" / "run.json"
    settings = json.loads(path.read_text())
    settings["corpus"]["fingerprint"] = "f" * 16
    settings["train"]["batch_size"] = 3
    path.write_text(json.dumps(settings))
    found = reproduce(out, manifest, only=["lstm"])
    assert [problem for problem in found.problems if "lstm-s0: trained on another corpus (ffff" in problem]
    assert "lstm-s0: made with other settings (batch_size: 3 in place of 4)" in found.problems


def test_the_command_says_its_time_first(manifest: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(insights.SCALES, "small", TINY)
    options = ["insights", "--estimate", "--out", str(tmp_path), "--corpus", str(manifest), "--only", "lstm"]
    result = CliRunner().invoke(app, options)
    assert result.exit_code == 0
    assert "there already: 0 of 2 networks trained, 0 analysed. Left: about 0 min of training" in result.stderr
    assert not (tmp_path / "runs").exists()
    assert "this scale needs a corpus" in str(CliRunner().invoke(app, ["insights", "--scale", "full"]).exception)


def test_settings_are_said_once() -> None:
    """The YAML files for `otoscope train` on Switchboard say what `--scale full` does."""
    recipes = Path(__file__).parents[1] / "recipes"
    for name in NETWORKS:
        values, options = otoscope.read_recipe(recipes / "insights-switchboard" / f"{name}.yaml")
        assert FULL.values(name) == values
        assert FULL.options(name) == options
    assert not list((recipes / "insights-small").glob("*.yaml"))
    assert SMALL.values("conv-lstm-4") == {"network": "conv-lstm", "size": "small", "depth": 4}
    assert SMALL.values("lstm") == {"network": "lstm", "size": "small"}
