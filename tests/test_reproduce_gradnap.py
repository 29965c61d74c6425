"""`otoscope reproduce gradnap` with a network of a few units: what it makes, keeps, notices and does without."""

from __future__ import annotations

import importlib.metadata
import itertools
import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
import xarray as xr

import otoscope
from otoscope.__main__ import main
from otoscope.base import BadInput, BadOption, write_json
from otoscope.hear.audio import mel_frequencies
from otoscope.hear.corpus import Utterance, read_corpus
from otoscope.learn.checkpoint import checkpoint_path, load_checkpoint, save_checkpoint
from otoscope.learn.networks import build, read_config
from otoscope.show.print_gradnap import input_profiles
from otoscope.study import gradnap_analysis, gradnap_measures, gradnap_plates
from otoscope.study import reproduce_gradnap as study
from otoscope.study.demo import quiet
from otoscope.study.formants import Vowel
from otoscope.study.gradnap_analysis import Analysis, Looking
from otoscope.study.gradnap_claims import claims_table
from otoscope.study.gradnap_tables import input_table
from otoscope.study.kept import Holes
from otoscope.study.reproduce_gradnap import SCALES, Reproduction, Scale, reproduce_gradnap

RATE = 16_000
SYMBOLS = ["_", " ", "a", "t", "s"]
PHONES = ("AA", "AE", "T", "S", "M")
FIGURES = ("figure-2", "figure-3", "figure-4a", "figure-4b", "receptive-fields", "controls")
TINY = Scale(Looking(most_s=60, parts=3, draws=1, shuffles=1, permutations=9, least=2, batch_size=4), takes="seconds")


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


def test_claims_have_their_controls_beside_them(made, speech, run, other):
    out, found = made
    claims = pd.read_csv(out / "tables" / f"{speech.name}-claims.csv")
    assert set(claims["claim"]) == {
        "regions", "formants", "t", "decay", "centre", "phones", "depth", "categories"
    }  # fmt: skip
    measures = found.analyses[speech.name].measures
    names = [str(name) for name in measures["condition"].values]
    assert names == [
        "network", "without part 1", "without part 2", "without part 3", "shuffled labels 1", "random weights 1",
        "another seed",
    ]  # fmt: skip
    row = claims[(claims["what"] == "mean silhouette") & (claims["layer"] == "layer1") & (claims["group"] == "phone")]
    values = measures["silhouette_mean"].sel(layer="layer1", grouping="phone").values
    columns = ["network", "shuffled_labels", "random_weights", "another_seed"]
    np.testing.assert_allclose(row[columns].to_numpy()[0], values[[0, 4, 5, 6]], rtol=1e-3)
    # The profiles of the whole are those of an ordinary pass.
    # And those of the other seed are those of the other network.
    for network, value in ((run, values[0]), (other, values[6])):
        profiles = otoscope.gradnap(otoscope.load(network), read_corpus(speech), min_instances=2)
        wanted = otoscope.silhouettes(profiles, ["phone"])["silhouette_mean"].sel(layer="layer1").values[0]
        assert value == pytest.approx(wanted, abs=1e-5)
    # No condition is another one under its name.
    assert len(set(np.round(values, 6))) == len(names)
    # Each of three parts is in two of the three that lack one.
    counts = measures["instances"].transpose("condition", "group").values
    np.testing.assert_array_equal(counts[1:4].sum(0), 2 * counts[0])


CONDITIONS = {
    "network": 0, "without part 1": 1, "without part 2": 3, "shuffled labels 1": 10, "shuffled labels 2": 20,
    "random weights 1": 100, "random weights 2": 300, "another seed": 1000,
}  # fmt: skip
COORDS = {
    "condition": list(CONDITIONS), "reading": ["NAvAI", "GradNAP"], "layer": ["input", "layer1", "layer2", "layer10"],
    "grouping": ["symbol", "phone"], "beyond": [0.1, 0.25], "distance": [0.0, 0.04, 0.08],
    "group": ["phone:T", "phone:AE", "symbol:t"], "way": ["NAvAI", "GradNAP"], "vowel": ["AA", "AE"], "number": [1, 2],
    "percentile": [75.0, 95.0],
}  # fmt: skip
SHAPES = {
    "outside": "reading layer grouping beyond", "extent_s": "reading layer grouping",
    "peak_s": "reading layer grouping", "decay": "reading layer distance", "fall": "reading group",
    "falling": "reading group", "formant_hz": "way vowel number", "formant_near": "way vowel number",
    "formant_chance": "way vowel number", "silhouette": "grouping layer percentile",
    "silhouette_mean": "grouping layer", "trend": "grouping", "more": "layer", "purity": "layer",
    "purity_chance": "layer", "purity_p": "layer", "ami": "layer",
}  # fmt: skip


def planted_measures() -> xr.Dataset:
    """Every number of the network another one; each condition adds what `CONDITIONS` says."""
    found, first = {}, 0
    for name, dims in SHAPES.items():
        sizes = [len(COORDS[dim]) for dim in dims.split()]
        own = first + np.arange(np.prod(sizes), dtype=float).reshape(sizes)
        first += own.size
        steps = np.array(list(CONDITIONS.values()), dtype=float).reshape(-1, *[1] * len(sizes))
        found[name] = (("condition", *dims.split()), own + steps)
    half = np.full((len(CONDITIONS), 4), 0.1)
    counts = np.tile([3, 0, 5], (len(CONDITIONS), 1))
    more = {"field_s": (("condition", "layer"), half), "instances": (("condition", "group"), counts)}
    return xr.Dataset(found | more, coords=COORDS).assign_coords(groups=("grouping", [1, 2]))


def test_a_claim_has_its_own_number_and_those_of_its_controls():
    """Without one of two parts: 1 and 3 more, so the error is 1 and half the interval t(0.975, 1) = 12.706."""
    measures = planted_measures()
    table = claims_table(measures).set_index(["claim", "what", "layer", "group"])
    assert table.index.is_unique
    own = measures.sel(condition="network", drop=True)
    for reading, kind in itertools.product(("NAvAI", "GradNAP"), ("symbol", "phone")):
        at = own.sel(reading=reading, grouping=kind)
        for beyond, ms in ((0.1, 100), (0.25, 250)):
            what = f"{reading}: share of the mass more than {ms} ms away, input"
            wanted = at["outside"].sel(layer="input", beyond=beyond)
            assert table.loc[("regions", what, "input", kind), "network"] == wanted
        for layer in COORDS["layer"]:
            for claim, words, name in (
                ("regions", "seconds that hold 95 %", "extent_s"),
                ("centre", "seconds from the alignment to the strongest response", "peak_s"),
            ):
                row = table.loc[(claim, f"{reading}: {words}", layer, kind)]
                assert row["network"] == at[name].sel(layer=layer)
    for reading, layer in itertools.product(("NAvAI", "GradNAP"), COORDS["layer"]):
        # Half of the field is 50 ms: only what is 80 ms away lies beyond.
        what = f"{reading}: mean |value| in the outer half of the field, as a share of the largest"
        wanted = own["decay"].sel(reading=reading, layer=layer, distance=0.08)
        assert table.loc[("decay", what, layer, ""), "network"] == wanted
    for words, name in (("100 ms before less 100 ms after (sd of the log-mel)", "fall"),
                        ("share of mel bands that fall", "falling")):  # fmt: skip
        row = table.loc[("t", f"GradNAP: {words}", "input", "phone:T")]
        assert row["network"] == own[name].sel(reading="GradNAP", group="phone:T")
    for words, name in (
        ("peak (Hz)", "formant_hz"), ("lies by the formant (1 or 0)", "formant_near"),
        ("frequencies that would", "formant_chance"),
    ):  # fmt: skip
        row = table.loc[("formants", f"GradNAP: {words}", "input", "AE F2")]
        assert row["network"] == own[name].sel(way="GradNAP", vowel="AE", number=2)
        # An interval is only of what changes smoothly with the speech: a peak jumps.
        assert np.isnan(row["low"])
    row = table.loc[("phones", "mean silhouette", "layer1", "phone")]
    mean = float(own["silhouette_mean"].sel(layer="layer1", grouping="phone"))
    np.testing.assert_allclose(row[["network", "low", "high"]], mean + np.array([0, -12.706, 12.706]), atol=1e-3)
    names = ["random_weights", "random_weights_low", "random_weights_high", "shuffled_labels", "shuffled_labels_low",
             "shuffled_labels_high", "another_seed"]  # fmt: skip
    np.testing.assert_allclose(row[names].astype(float), mean + np.array([200, 100, 300, 15, 10, 20, 1000]))
    more = own["more"].sel(layer=["layer2", "layer10"]).mean()
    assert table.loc[("phones", "phones less graphemes, mean from layer2 on", "", ""), "network"] == more
    trend = table.loc[("depth", "rank correlation of the mean silhouette with depth", "", "phone"), "network"]
    assert trend == own["trend"].sel(grouping="phone")
    for words, name in (
        ("purity of clusters of phones against manners", "purity"),
        ("the same with the manners dealt out at random", "purity_chance"),
        ("how often chance reaches it", "purity_p"), ("adjusted mutual information of clusters and manners", "ami"),
    ):  # fmt: skip
        assert table.loc[("categories", words, "layer10", ""), "network"] == own[name].sel(layer="layer10")


def test_what_is_drawn_beside_the_silhouettes_is_that_of_its_control():
    measures = planted_measures()
    table = gradnap_plates.silhouette_table(Analysis("x", measures=measures, facts={"instances": 77}))
    own = measures["silhouette_mean"].sel(condition="network", drop=True)
    for control, (low, high) in {
        "interval": (-12.706, 12.706), "shuffled labels": (10, 20), "random weights": (100, 300)
    }.items():  # fmt: skip
        for bound, away in (("low", low), ("high", high)):
            band = table["bands"].sel(control=control, bound=bound)
            np.testing.assert_allclose(band.transpose("grouping", "layer"), own + away, atol=1e-3)
    xr.testing.assert_equal(table["silhouette"], measures["silhouette"].sel(condition="network", drop=True))
    assert table.attrs == {"symbol_groups": 1, "phone_groups": 2, "instances": 77}


def test_trees_are_of_the_last_layer_but_one_and_of_those_below():
    table = xr.Dataset(coords={"layer": ["input", *(f"layer{n}" for n in range(1, 6))]})
    found = gradnap_plates._trees(Analysis("x", tables={"phone-trees": table}, holes={"grapheme-trees": "none"}))
    assert [(layer, name) for _, layer, name in found] == [
        ("", "graphemes: none"), ("layer2", "phones"), ("layer3", "phones"), ("layer4", "phones")
    ]  # fmt: skip


def test_phones_are_compared_with_graphemes_and_clusters_with_manners(monkeypatch):
    layers, groups = ["layer1", "layer2", "layer3"], ["symbol:t", "phone:T", "phone:AE", "phone:XX"]
    means = {"phone": [0.1, 0.5, 0.9], "symbol": [0.3, 0.2, 0.1]}
    asked = {}

    def silhouettes(profiles, kinds) -> xr.Dataset:
        values = np.array([means[kind] for kind in kinds])
        coords = {"grouping": kinds, "layer": layers, "percentile": [75.0]}
        dims = ("grouping", "layer", "percentile")
        return xr.Dataset({"silhouette": (dims, values[..., None]), "silhouette_mean": (dims[:2], values)}, coords)

    def cluster_purity(clusters, kinds, *, permutations, seed) -> xr.Dataset:
        asked.update(clusters=clusters, kinds=kinds, permutations=permutations, seed=seed)
        names = ("purity_mean", "purity_mean_null", "purity_mean_p", "ami_mean")
        return xr.Dataset({name: ("layer", [10.0 * n + at for at in range(3)]) for n, name in enumerate(names)})

    monkeypatch.setattr(gradnap_measures, "silhouettes", silhouettes)
    monkeypatch.setattr(gradnap_measures, "cluster_groups", lambda profiles, chosen: chosen)
    monkeypatch.setattr(gradnap_measures, "cluster_purity", cluster_purity)
    found = gradnap_measures._clusters(SimpleNamespace(layers=dict.fromkeys(layers), groups=groups), 9, 4)
    np.testing.assert_allclose(found["more"], [-0.2, 0.3, 0.8])
    assert found["trend"].sel(grouping=["phone", "symbol"]).values.tolist() == [1, -1]
    for n, name in enumerate(("purity", "purity_chance", "purity_p", "ami")):
        np.testing.assert_array_equal(found[name], 10.0 * n + np.arange(3))
    kinds = {"phone:T": "stop", "phone:AE": "vowel", "phone:XX": None}
    assert asked == {"clusters": "phone:*", "kinds": kinds, "permutations": 9, "seed": 4}


def test_the_peak_beside_a_formant_is_looked_for_in_the_vowels_own_profile():
    """/AA/ has humps at both its formants; /AE/ has one by its first, and none by its second."""
    hertz, bands = mel_frequencies(), np.arange(128)

    def humps(*places: float) -> np.ndarray:
        return sum(np.exp(-(((bands - np.interp(at, hertz, bands)) / 5) ** 2)) for at in places)

    profile = xr.DataArray(
        np.stack([humps(700, 1200), humps(700, 1200)])[:, :, None] * [0.5, 0.5],
        {"group": ["phone:AA", "phone:AE"]}, ("group", "unit", "offset"),
    )  # fmt: skip
    profiles = SimpleNamespace(
        groups=["phone:AA", "phone:AE", "phone:EH"], empty={"phone:EH"}, profile={"input": profile}
    )
    none = (None, None)
    vowels = {
        "AA": Vowel("AA", (720, 1180), none),
        "AE": Vowel("AE", (660, 1720), none),
        "EH": Vowel("EH", (1, 2), none),
    }
    found = gradnap_measures._formants({"GradNAP": profiles}, vowels).sel(way="GradNAP")
    np.testing.assert_allclose(found["formant_hz"].sel(vowel=["AA", "AE"]), [[700, 1200], [700, 1200]], atol=25)
    np.testing.assert_array_equal(found["formant_near"].sel(vowel=["AA", "AE"]), [[1, 1], [1, 0]])
    assert found["formant_hz"].sel(vowel=["EH", "AH"]).isnull().all()


def test_each_draw_is_one_of_its_own_and_of_the_right_network(monkeypatch, tmp_path, speech):
    """What is explained is noted in place of being measured."""
    noted: dict[str, tuple[object, object]] = {}

    def task_of(network: str, labels: object = "own") -> SimpleNamespace:
        return SimpleNamespace(network=network, labels=labels, sums=lambda twin=None, progress=None: twin or network)

    def measured(task, sums, vowels, looking, seed, condition) -> xr.Dataset:
        noted[condition] = (task.labels, sums)
        # The other network has one layer less.
        layers = ["layer2", "layer10"][: 1 if condition == "another seed" else 2]
        return xr.Dataset(coords={"condition": [condition], "layer": layers, "group": ["b", "a"]})

    for name, stub in {
        "heard_by": lambda network, utterances: otoscope.listen(utterances),
        "weights_fingerprint": str,
        "explained": lambda network, heard, **_: task_of(network),
        "_facts": lambda *_: xr.Dataset(),
        "_vowels": lambda *_: {},
        "_own": lambda steps, whole, *_: measured(whole.task, "ours", {}, None, 0, "network"),
        "_figure_tables": lambda *_: None,
        "_measured": measured,
        "with_shuffled_labels": lambda task, seed: task_of(task.network, seed),
        "random_twin": lambda task, seed: f"{task.network} {seed}",
    }.items():  # fmt: skip
        monkeypatch.setattr(gradnap_analysis, name, stub)
    found = gradnap_analysis.analyse(
        "ours", "theirs", read_corpus(speech), Looking(draws=2, shuffles=2), tmp_path, name="x", seed=0,
        holes=study.Holes(), stage=quiet, said=lambda _: None,
    )  # fmt: skip
    assert list(noted) == [
        "network", "shuffled labels 1", "shuffled labels 2", "random weights 1", "random weights 2", "another seed"
    ]  # fmt: skip
    assert noted["another seed"] == ("own", "theirs")
    one, two = (noted[f"shuffled labels {n}"] for n in (1, 2))
    assert one[1] == two[1] == "ours"
    assert len({"own", one[0], two[0]}) == 3
    one, two = (noted[f"random weights {n}"] for n in (1, 2))
    assert one[0] == two[0] == "own"
    assert len({"ours", one[1], two[1]}) == 3
    # Layers stay in their order, from shallow to deep, and groups in theirs.
    assert [list(found.measures[name].values) for name in ("layer", "group")] == [["layer2", "layer10"], ["b", "a"]]


def test_of_much_speech_some_is_drawn_by_the_seed():
    made = [Utterance(f"u{n}", features=np.zeros((3, 128), np.float32), duration=60.0) for n in range(30)]
    drawn = [[utterance.id for utterance in gradnap_analysis._some(made, 320.0, seed)] for seed in (0, 0, 1)]
    # Five minutes and a bit, and as they stand in the corpus.
    assert [len(each) for each in drawn] == [5, 5, 5]
    assert drawn[0] == drawn[1] != drawn[2]
    assert all(each == sorted(each, key=lambda name: int(name[1:])) for each in drawn)
    assert len(gradnap_analysis._some(made, 1.0, 0)) == 1


def test_the_main_speech_is_what_was_held_out_and_further_speech_is_whole(tmp_path, speech, run, other, monkeypatch):
    rows = [json.loads(line) for line in (speech / "manifest.jsonl").read_text().splitlines()]
    for index, row in enumerate(rows):
        row |= {"split": "test" if index < 2 else "train", "audio": str(speech / row["audio"])}
    for name in ("main", "more"):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    heard = {}

    def analyse(network, another, utterances, *_args, name, **_named):
        heard[name] = (network, another, [utterance.id for utterance in utterances])
        return Analysis(name)

    monkeypatch.setattr(study, "analyse", analyse)
    monkeypatch.setattr(study, "save_plates", lambda *_: ([], []))
    reproduce_gradnap(
        tmp_path, scale=TINY, run=run, other_run=other, corpus=tmp_path / "main.jsonl", real=[tmp_path / "more.jsonl"]
    )
    assert {name: each[2] for name, each in heard.items()} == {
        "main": ["u0", "u1"],
        "more": [f"u{n}" for n in range(6)],
    }
    for place, folder in enumerate((run, other)):
        wanted = otoscope.load(folder).state_dict()
        there = heard["main"][place].state_dict()
        assert all(torch.equal(there[name], wanted[name]) for name in wanted)


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
        scale = Scale(Looking(most_s=60, parts=2, draws=1, shuffles=1, permutations=9, least=2), takes="")
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
    told = [json.loads((tmp_path / "out" / name / "run.json").read_text()) for name in ("run", "run-other-seed")]
    assert [each["train"]["seed"] for each in told] == [0, 1]
    one, two = (load_checkpoint(checkpoint_path(tmp_path / "out" / name, 0)) for name in ("run", "run-other-seed"))
    assert not torch.equal(next(one.parameters()), next(two.parameters()))
    facts = found.analyses["embedded"].facts
    # What was held out is looked at, if the network says anything at all.
    assert facts.get("utterances", 3) == 3


def test_phones_of_a_ctm_file_and_a_part_of_the_corpus(tmp_path, speech, run, monkeypatch, capsys):
    """What `--where` names is looked at, with the phones of the file in place of the manifest's own."""
    rows = [json.loads(line) for line in (speech / "manifest.jsonl").read_text().splitlines()]
    for index, row in enumerate(rows):
        row |= {"part": "one" if index < 4 else "two", "audio": str(speech / row["audio"])}
    # Its path is taken from the manifest's folder.
    manifest, phones, out = tmp_path / "parted.jsonl", tmp_path / "phones.ctm", tmp_path / "out"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = ((row["id"], 0.2 * at, ("AA", "T")[at % 2]) for row in rows for at in range(3))
    phones.write_text("".join(f"{id} 1 {start:.1f} 0.2 {phone}\n" for id, start, phone in said))
    named = ("--run", run, "--corpus", manifest, "--out", out, "--json")
    cli(monkeypatch, *named, "--where", "part=one", "--ctm", "phone=phones.ctm")
    assert json.loads(capsys.readouterr().out)["speech"]["parted"]["utterances"] == 4
    with xr.open_dataset(out / "tables" / "parted-inputs.nc", engine="h5netcdf") as table:
        holes = dict(zip(table["group"].values, table["hole"].values, strict=True))
    phones_there = {group for group, hole in holes.items() if group.startswith("phone:") and not hole}
    assert phones_there == {"phone:AA", "phone:T"}


def test_parts_and_times_of_no_corpus_are_refused(tmp_path, speech, run):
    with pytest.raises(BadOption, match="no corpus"):
        reproduce_gradnap(tmp_path / "out", where="split=test")
    with pytest.raises(BadInput, match="no such CTM file"):
        reproduce_gradnap(tmp_path / "out", run=run, corpus=speech, ctm={"phone": tmp_path / "none.ctm"})
    assert not (tmp_path / "out").exists()


def test_groups_are_averaged_within_their_kind(monkeypatch):
    """By hand: letters 1 and 3 make 2, the phone alone 7; what is not known of a group is left out."""
    groups = ["symbol:a", "phone:T", "symbol:t", "symbol:s"]
    values = xr.DataArray([[[1.0, 7.0, 3.0, np.nan]]], dims=("reading", "layer", "group"), coords={"group": groups})
    beyond = xr.concat([values, 10 * values], "beyond").transpose(..., "beyond")
    shapes = xr.Dataset({"outside": beyond, "extent_s": values + 1, "peak_s": values + 2})
    counts = xr.DataArray([[5, 6, 7, 8], [5, 0, 9, 8]], dims=("layer", "group"))
    profiles = SimpleNamespace(instances=counts)
    monkeypatch.setattr(gradnap_analysis, "measures", lambda read, vowels, **how: (shapes, profiles))
    found = gradnap_analysis._measured(None, None, {}, Looking(), 0, "network").isel(condition=0, reading=0, layer=0)
    for name, wanted in (("extent_s", (3, 8)), ("peak_s", (4, 9))):
        assert tuple(found[name].sel(grouping=["symbol", "phone"]).values) == wanted
    np.testing.assert_array_equal(found["outside"].sel(grouping="symbol"), [2, 20])
    np.testing.assert_array_equal(found["outside"].sel(grouping="phone"), [7, 70])
    assert list(found["instances"].values) == [5, 6, 9, 8]


def test_a_run_without_its_last_checkpoint_was_not_cut_short(tmp_path):
    """Its log has all epochs; of a run cut short it has not."""
    run, told = make_run(tmp_path / "run"), []
    settings = json.loads((run / "run.json").read_text())
    write_json(run / "run.json", {**settings, "train": {"epochs": 2}})
    for epochs in (1, 2):
        (run / "log.jsonl").write_text("".join(f'{{"epoch": {epoch}}}\n' for epoch in range(epochs + 1)))
        holes = Holes()
        assert study._network(run, "the network", holes, "cpu") is not None
        told.append(holes.found["the network"])
    whys = ("its training was cut short", "checkpoints are missing")
    assert told == [f"{why}: epoch 1 of 2 is looked at" for why in whys]


def test_a_run_of_another_seed_alone_is_refused_before_anything_is_trained(tmp_path, speech):
    """It would not be looked at: where no run is given, two are trained."""
    with pytest.raises(BadOption, match="no run"):
        reproduce_gradnap(tmp_path / "out", other_run=tmp_path / "elsewhere", corpus=speech)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", ["run", "other_run"])
def test_a_run_that_is_not_there_is_no_hole(option, tmp_path, speech, run):
    """A mistyped path leaves the figures of an earlier time alone."""
    given = {"run": run, option: tmp_path / "none"}
    with pytest.raises(BadInput, match="there is no such run"):
        reproduce_gradnap(tmp_path / "out", corpus=speech, **given)
    assert not (tmp_path / "out").exists()
