"""`otoscope reproduce gradnap` with a network of a few units: what it makes, keeps, notices and does without."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
import xarray as xr

import otoscope
from otoscope.__main__ import main
from otoscope.base import BadOption, write_json
from otoscope.hear.corpus import read_corpus
from otoscope.learn.checkpoint import checkpoint_path, load_checkpoint, save_checkpoint
from otoscope.learn.networks import build, read_config
from otoscope.show.print_gradnap import input_profiles
from otoscope.study import reproduce_gradnap as study
from otoscope.study.gradnap_analysis import Looking
from otoscope.study.gradnap_tables import input_table
from otoscope.study.reproduce_gradnap import SCALES, Reproduction, Scale, reproduce_gradnap

RATE = 16_000
SYMBOLS = ["_", " ", "a", "t", "s"]
PHONES = ("AA", "AE", "T", "S", "M")
FIGURES = ("figure-2", "figure-3", "figure-4a", "figure-4b", "receptive-fields", "controls")
TINY = Scale(Looking(most_s=60, parts=2, draws=1, shuffles=1, permutations=9, least=2, batch_size=4), takes="seconds")


def make_run(folder: Path, seed: int = 0, epochs: int = 1) -> Path:
    """Random weights that say every symbol now and then; the blank never."""
    layers = [{"units": 6, "kernel": 5, "stride": 2}, {"units": 5, "kernel": 3}]
    config = read_config({"symbols": SYMBOLS, "hidden": layers, "norm": "none"})
    for epoch in range(epochs + 1):
        torch.manual_seed(10 * seed + epoch)
        network = build(config)
        with torch.no_grad():
            network.layer3.convolution.weight.normal_(std=3)
            network.layer3.convolution.bias.zero_()[0] = -1e3
        save_checkpoint(checkpoint_path(folder, epoch), network, {"epoch": epoch})
    settings = {"network": config.model_dump(mode="json"), "train": {"epochs": epochs}, "corpus": {}}
    write_json(folder / "run.json", settings)
    return folder


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six noises, each phone a band of its own, in an order of its own."""
    folder = tmp_path_factory.mktemp("noises")
    rng = np.random.default_rng(0)
    rows = []
    for index in range(6):
        order, parts = rng.permutation(len(PHONES)), []
        for place in order:
            carrier = np.sin(2 * np.pi * 500 * (1 + place) * np.arange(RATE // 8) / RATE)
            parts.append(0.2 * carrier * rng.standard_normal(RATE // 8))
        soundfile.write(folder / f"{index}.wav", np.concatenate(parts), RATE)
        tier = [[0.125 * at, 0.125 * (at + 1), PHONES[place]] for at, place in enumerate(order)]
        rows.append({"id": f"u{index}", "audio": f"{index}.wav", "text": "at s", "tiers": {"phone": tier}})
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("other"), seed=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, speech: Path, run: Path, other: Path) -> tuple[Path, Reproduction]:
    out = tmp_path_factory.mktemp("made")
    return out, reproduce_gradnap(out, scale=TINY, run=run, other_run=other, corpus=speech)


def copied(made: tuple[Path, Reproduction], to: Path) -> Path:
    shutil.copytree(made[0], to)
    return to


def test_every_figure_and_table_is_made(made, speech):
    out, found = made
    assert not found.holes, found.holes.sentences
    for number in FIGURES:
        for ending in ("pdf", "png", "txt"):
            assert (out / "figures" / f"{speech.name}-{number}.{ending}").stat().st_size > 100
    assert {path.suffix for path in found.tables} == {".nc", ".csv"}
    assert sum(path.stat().st_size for path in found.tables) < 4_000_000
    caption = (out / "figures" / f"{speech.name}-figure-2.txt").read_text()
    instances = int(found.analyses[speech.name].tables["inputs"]["instances"].sel(group="phone:AA"))
    assert f"/AA/ {instances} frames" in " ".join(caption.split())


def test_started_again_nothing_is_explained_twice(made, tmp_path, speech, run, other, monkeypatch):
    out = copied(made, tmp_path / "out")

    def never(*_args: object, **_named: object) -> None:
        raise AssertionError("explained again")

    monkeypatch.setattr("otoscope.study.explained.Explained.sums", never)
    said: list[str] = []
    again = reproduce_gradnap(out, scale=TINY, run=run, other_run=other, corpus=speech, said=said.append)
    assert not again.holes
    assert not said
    texts = [path for path in again.tables if path.suffix == ".csv"]
    assert len(texts) >= 8
    for path in texts:
        assert path.read_bytes() == (made[0] / "tables" / path.name).read_bytes(), path.name


def test_navai_of_the_input_is_that_of_its_preset(speech, run, made):
    network = otoscope.load(run)
    found = made[1].analyses[speech.name].tables["inputs"].sel(reading="NAvAI", group="phone:AE")
    navai = otoscope.gradnap(network, read_corpus(speech), layers="input", by="phone", preset="navai")
    wanted = navai.profile["input"].sel(group="phone:AE")
    offsets = np.rint(found["time"].values / 0.01).astype(int)
    kept = np.isin(offsets, wanted["offset"].values)
    assert kept.sum() >= 5
    np.testing.assert_allclose(
        found["profile"].values[:, kept], wanted.sel(offset=offsets[kept]).values, atol=0.0006, rtol=1e-4
    )


def test_what_is_drawn_is_what_the_tables_hold(made, speech):
    folder = made[0] / "tables"
    with xr.open_dataset(folder / f"{speech.name}-inputs.nc", engine="h5netcdf") as table:
        table = table.load()
    figure = input_profiles(table)
    maps = [ax.images[0].get_array() for ax in figure.axes if ax.images and ax.get_label() != "<colorbar>"]
    values = table["profile"].values.reshape(-1, *table["profile"].shape[2:])
    drawn = [row for row, hole in zip(values, np.tile(table["hole"].values, 2), strict=True) if not hole]
    assert len(maps) == len(drawn) >= 6
    for one, other in zip(maps, drawn, strict=True):
        np.testing.assert_array_equal(one, other)
    text = pd.read_csv(folder / f"{speech.name}-inputs-profile.csv")
    rows = text[(text["reading"] == "GradNAP") & (text["group"] == "phone:T")]
    np.testing.assert_allclose(
        rows.iloc[:, 3:].to_numpy(), table["profile"].sel(reading="GradNAP", group="phone:T"), atol=1e-3, rtol=6e-3
    )


def test_claims_have_their_controls_beside_them(made, speech, run):
    out, found = made
    claims = pd.read_csv(out / "tables" / f"{speech.name}-claims.csv")
    assert set(claims["claim"]) == {
        "regions", "formants", "t", "decay", "centre", "phones", "depth", "categories"
    }  # fmt: skip
    measures = found.analyses[speech.name].measures
    names = [str(name) for name in measures["condition"].values]
    assert names == [
        "network", "without part 1", "without part 2", "shuffled labels 1", "random weights 1", "another seed"
    ]  # fmt: skip
    row = claims[(claims["what"] == "mean silhouette") & (claims["layer"] == "layer1") & (claims["group"] == "phone")]
    values = measures["silhouette_mean"].sel(layer="layer1", grouping="phone").values
    columns = ["network", "shuffled_labels", "random_weights", "another_seed"]
    np.testing.assert_allclose(row[columns].to_numpy()[0], values[[0, 3, 4, 5]], rtol=1e-3)
    # The profiles of the whole are those of an ordinary pass.
    profiles = otoscope.gradnap(otoscope.load(run), read_corpus(speech), min_instances=2)
    wanted = otoscope.silhouettes(profiles, ["phone"])["silhouette_mean"].sel(layer="layer1").values[0]
    assert values[0] == pytest.approx(wanted, abs=1e-5)


# All four go the same way; two of them make a minute of the suite.
@pytest.mark.parametrize(
    "change",
    [
        "corpus",
        "checkpoint",
        pytest.param("otoscope", marks=pytest.mark.slow),
        pytest.param("settings", marks=pytest.mark.slow),
    ],
)
def test_what_belongs_to_something_else_is_made_again(made, tmp_path, speech, run, other, change, monkeypatch):
    out, scale, manifest, network = copied(made, tmp_path / "out"), TINY, speech, run
    if change == "corpus":
        manifest = tmp_path / speech.name
        shutil.copytree(speech, manifest)
        rows = (manifest / "manifest.jsonl").read_text().replace('"AE"', '"EH"')
        (manifest / "manifest.jsonl").write_text(rows)
    elif change == "checkpoint":
        network = other
    elif change == "otoscope":
        real = importlib.metadata.version
        monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.0.1" if name == change else real(name))
    else:
        scale = Scale(Looking(most_s=60, parts=3, draws=1, shuffles=1, permutations=9, least=2), takes="")
    said: list[str] = []
    found = reproduce_gradnap(out, scale=scale, run=network, corpus=manifest, said=said.append)
    assert f"inputs.nc was made with another {change}, and is made again" in said
    if change == "corpus":
        # What is there is new: a phone that is gone is a hole, and not the old one's profile.
        assert "does not occur" in found.holes.found[f"{speech.name}: phone:AE"]


def test_a_group_without_instances_is_an_empty_panel_that_says_so(made, tmp_path, speech, run):
    profiles = otoscope.gradnap(otoscope.load(run), read_corpus(speech), layers="input", min_instances=2)
    table = input_table(lambda **how: profiles, ["phone:AE", "phone:OY"])
    assert list(table["hole"].values) == ["", "it does not occur in this speech"]
    figure = input_profiles(table)
    texts = [" ".join(text.get_text().split()) for ax in figure.axes for text in ax.texts]
    assert texts == ["missing: it does not occur in this speech"] * 2


def cli(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setitem(SCALES, "small", TINY)
    monkeypatch.setattr(sys, "argv", ["otoscope", "reproduce", "gradnap", *map(str, words)])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_the_command_names_what_it_made(made, tmp_path, speech, run, other, monkeypatch, capsys):
    out = copied(made, tmp_path / "out")
    named = ("--run", run, "--other-run", other, "--corpus", speech, "--out", out, "--json")
    assert cli(monkeypatch, *named) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert found["missing"] == {}
    assert all(Path(path).is_file() for path in found["figures"] + found["tables"])
    assert "Scale small: seconds." in captured.err


def test_a_missing_recording_and_a_run_cut_short_are_named(tmp_path, speech, monkeypatch, capsys):
    folder = tmp_path / "speech"
    shutil.copytree(speech, folder)
    (folder / "3.wav").unlink()
    run = make_run(tmp_path / "run")
    settings = json.loads((run / "run.json").read_text())
    write_json(run / "run.json", {**settings, "train": {"epochs": 7}})
    assert cli(monkeypatch, "--run", run, "--corpus", folder, "--out", tmp_path / "out") == 1
    words = capsys.readouterr().err
    assert "epoch 1 of 7" in words
    assert "u3" in words
    assert (tmp_path / "out" / "figures" / "speech-figure-4a.pdf").is_file()
    caption = " ".join((tmp_path / "out" / "figures" / "speech-controls.txt").read_text().split())
    assert "5 utterances" in caption
    assert "cut short: epoch 1 of 7" in caption
    assert "missing: 1 " in caption


def test_a_damaged_checkpoint_is_passed_over(tmp_path, monkeypatch):
    run = make_run(tmp_path / "run")
    last = checkpoint_path(run, 1)
    last.write_bytes(last.read_bytes()[:100])
    holes = study.Holes()
    network = study._network(run, "the network", holes, "cpu")
    first = load_checkpoint(checkpoint_path(run, 0))
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), first.parameters(), strict=True))
    assert "the network: epoch 1" in holes.found
    assert "epoch 0 of 1" in holes.found["the network"]


def test_without_a_network_every_figure_is_an_empty_panel(tmp_path, speech, monkeypatch, capsys):
    (tmp_path / "run").mkdir()
    code = cli(monkeypatch, "--run", tmp_path / "run", "--corpus", speech, "--out", tmp_path / "out")
    assert code == 1
    assert "this is not a run" in capsys.readouterr().err
    for number in FIGURES:
        assert "Missing:" in (tmp_path / "out" / "figures" / f"{speech.name}-{number}.txt").read_text() or (
            number == "figure-4b"
        )


def test_more_speech_has_figures_of_its_own_and_what_is_not_there_is_a_hole(tmp_path, speech, run, monkeypatch, capsys):
    rows = [json.loads(line) for line in (speech / "manifest.jsonl").read_text().splitlines()]
    for row in rows:
        del row["tiers"]
        row["audio"] = str(speech / row["audio"])
    (tmp_path / "letters.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "out"
    named = ("--run", run, "--corpus", tmp_path / "none.jsonl", "--real", tmp_path / "letters.jsonl", "--out", out)
    assert cli(monkeypatch, *named) == 1
    words = capsys.readouterr().err
    assert "there is no manifest" in words
    assert "no times of phones" in words
    assert (out / "figures" / "letters-figure-2.pdf").is_file()
    assert "Missing" in (out / "figures" / "none-figure-2.txt").read_text()
    with xr.open_dataset(out / "tables" / "letters-inputs.nc", engine="h5netcdf") as table:
        holes = dict(zip(table["group"].values, table["hole"].values, strict=True))
    assert holes["symbol:a"] == ""
    assert "no times of phones" in holes["phone:T"]


def test_the_full_scale_takes_a_run_and_a_corpus(tmp_path, speech):
    with pytest.raises(BadOption, match="nothing is trained"):
        reproduce_gradnap(tmp_path, scale="full", corpus=speech)
    with pytest.raises(BadOption, match="unknown scale"):
        reproduce_gradnap(tmp_path, scale="medium")


def test_from_nothing_two_networks_are_trained(tmp_path, speech, monkeypatch):
    """With the spoken corpus replaced by six noises."""
    rows = [json.loads(line) for line in (speech / "manifest.jsonl").read_text().splitlines()]
    corpus = tmp_path / "out" / "corpus"
    shutil.copytree(speech, corpus)
    for index, row in enumerate(rows):
        row["split"] = "test" if index < 3 else "train"
    (corpus / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_json(corpus / "settings.json", {"seed": 0, "minutes": 1.0})
    scale = Scale(
        TINY.looking,
        takes="",
        minutes=1.0,
        network={"network": "wav2letter", "hidden": [{"units": 4, "kernel": 3, "stride": 2}]},
        training={"epochs": 1, "batch_size": 2},
    )
    found = reproduce_gradnap(tmp_path / "out", scale=scale)
    assert {"run", "run-other-seed"} <= {path.name for path in (tmp_path / "out").iterdir()}
    facts = found.analyses["embedded"].facts
    # What was held out is looked at, if the network says anything at all.
    assert facts.get("utterances", 3) == 3


def test_a_run_of_another_seed_alone_is_refused_before_anything_is_trained(tmp_path, speech):
    """It would not be looked at: where no run is given, two are trained."""
    with pytest.raises(BadOption, match="no run"):
        reproduce_gradnap(tmp_path / "out", other_run=tmp_path / "elsewhere", corpus=speech)
    assert not (tmp_path / "out").exists()
