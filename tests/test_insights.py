"""`otoscope reproduce insights` in tiny form: trained, looked at, drawn, resumed, with holes; numbers by formulas."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from recordings import write_audio
from scipy.stats import spearmanr
from typer.testing import CliRunner

import otoscope
from otoscope.commands.reproduce import app
from otoscope.hear.audio import pad_batch
from otoscope.hear.corpus import Utterance, read_corpus
from otoscope.hear.manifest import write_manifest
from otoscope.learn.checkpoint import checkpoint_path, load_checkpoint, open_run
from otoscope.probe.layers import as_points, list_layers
from otoscope.probe.taps import tap
from otoscope.study import insights, insights_numbers
from otoscope.study.console import Terminal
from otoscope.study.insights import reproduce_insights
from otoscope.study.insights_layers import side_by_side, through
from otoscope.study.insights_settings import FULL, NETWORKS, SMALL
from otoscope.study.kept import MADE_WITH
from otoscope.study.representations import open_networks
from otoscope.study.results import load_table

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
    agreement = insights_numbers.shape(networks)["agreement"]
    np.testing.assert_allclose(agreement.sel(network="conv-lstm-2"), 1)
    other = planted([[0.1, 0.5, 0.9, 1]])
    other["to_last"] = other["to_last"].copy()
    other["to_last"].loc[{"measure": "cka"}] = [0.6, 0.1, 0.2, 1]
    found = insights_numbers.shape({"a": {0: other}})["agreement"]
    np.testing.assert_allclose(found, spearmanr([0.1, 0.5, 0.9], [0.6, 0.1, 0.2]).statistic)
    settled = insights_numbers.convergence(networks)
    assert settled["converged"].sel(network="conv-lstm-1", seed=0, layer="conv2").isnull().all()
    assert float(settled["bottom_up"].sel(network="conv-lstm-2", seed=1, reading="paper", measure="cka")) == 0.5
    gap = insights_numbers.curves({0: runs[0].isel(epoch=[0, 1, 3])}, 3)["to_last"]
    assert gap.sel(epoch=2).isnull().all()
    assert gap.sel(epoch=1).notnull().all()


def test_more_similar_solutions_of_better_networks_are_found() -> None:
    """Planted: over three CNNs similarity falls as errors rise, but in the deepest convolution it rises."""
    dims = ("reading", "measure", "seed", "other_seed", "stage", "layer")
    found = {}
    for depth, first in ((2, 0.9), (3, 0.6), (4, 0.3)):
        values = np.full((2, 2, 2, 2, 2, depth), np.nan)
        values[:, :, 0, 1] = [first] * (depth - 1) + [0.1 * depth]
        coords = {"reading": ["paper", "recommended"], "measure": ["svcca", "cka"], "stage": ["untrained", "trained"]}
        coords |= {"seed": [0, 1], "other_seed": [0, 1], "layer": [f"conv{n + 1}" for n in range(depth)]}
        found[f"conv-lstm-{depth}"] = xr.Dataset({"across_seeds": (dims, values)}, coords=coords)
    rows = [
        insights_numbers.Row(f"conv-lstm-{d}", None, "clean", 10.0 * d, *[np.nan] * 4, 100, 1, 1, 1, 5, 2, 1.0)
        for d in (2, 3, 4)
    ]
    table = insights_numbers.solutions(found, rows)
    assert table is not None
    assert (table["rank"].sel(place="first") == -1).all()
    assert (table["rank"].sel(place="deepest") == 1).all()
    assert float(table["across_seeds"].sel(network="conv-lstm-3", layer="conv2", stage="trained")[0, 0]) == 0.6
    assert table["wer"].sel(network="conv-lstm-4").item() == 40


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
