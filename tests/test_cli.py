"""The command line as a user meets it: through `main()`, with its exit status, and never a traceback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import soundfile

import otoscope
from otoscope.__main__ import main
from otoscope.learn.checkpoint import load_tensors, save_tensors

RATE = 16_000
CONFIG = """
network:
  hidden:
    - {units: 12, kernel: 5, stride: 2}
    - {units: 10, kernel: 5}
  norm: none
train: {epochs: 1, batch_size: 4, learning_rate: 1.0e-4, precision: float32}
"""
TEXTS = ("a b", "b a", "a a b", "b b")
COMMANDS = (
    *("demo", "corpus", "train", "score", "align", "pronounce"),
    *("layers", "compare", "profile", "optimal", "performance", "report"),
)


class Met(NamedTuple):
    """What a user meets."""

    status: int
    out: str
    err: str


Meet = Callable[..., Met]


@pytest.fixture
def meet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Meet:
    """Runs a command through `main()`; whatever `main` lets through fails the test."""

    def run(*arguments: object) -> Met:
        monkeypatch.setattr(sys, "argv", ["otoscope", *map(str, arguments)])
        capsys.readouterr()
        status = 0
        try:
            main()
        except SystemExit as end:
            status = int(end.code or 0)
        return Met(status, *capsys.readouterr())

    return run


def refused(met: Met, *words: str) -> None:
    """A message with what was got, or wanted, that has these words; status 1."""
    assert met.status == 1, met
    assert "otoscope: " in met.err
    assert "got:" in met.err or "wanted:" in met.err or "try:" in met.err
    for word in words:
        assert word in met.err
    assert "Traceback" not in met.out + met.err


def tone(path: Path, hz: float, seconds: float = 0.6) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    times = np.arange(int(seconds * RATE)) / RATE
    noise = np.random.default_rng(int(hz)).standard_normal(len(times))
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * hz * times) + 0.01 * noise, RATE)
    return path


def good_row(index: int) -> dict[str, Any]:
    return {
        "id": f"u{index:02d}",
        "audio": f"audio/{index:02d}.wav",
        "text": TEXTS[index % 4],
        "speaker": f"s{index % 3}",
        "split": "test" if index % 4 == 3 else "train",
        "tiers": {"phone": [[0.1, 0.25, "AE"], [0.25, 0.4, "T"], [0.4, 0.55, "S"]]},
    }


BAD_ROWS: list[dict[str, Any]] = [
    {"id": "digits", "text": "a 7"},
    {"id": "wordless", "text": ""},
    {"id": "ratezero", "sample_rate": 0},
    {"id": "hollow", "audio": "audio/hollow.wav"},
    {"id": "absent", "audio": "audio/absent.wav"},
    {"id": "noise", "audio": "audio/noise.wav"},
]


def write_manifest(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "manifest.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def beside(manifest: Path, folder: Path) -> Path:
    """A new folder for another manifest about the same recordings."""
    new = folder / "corpus"
    new.mkdir()
    (new / "audio").symlink_to(manifest.parent / "audio")
    return new


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve tones with texts."""
    folder = tmp_path_factory.mktemp("tones")
    for index in range(12):
        tone(folder / "audio" / f"{index:02d}.wav", 300 + 200 * index)
    return write_manifest(folder, [good_row(index) for index in range(12)])


@pytest.fixture(scope="module")
def spoilt(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with six rows of every kind that cannot be used."""
    folder = tmp_path_factory.mktemp("spoilt")
    shutil.copytree(corpus.parent / "audio", folder / "audio")
    (folder / "audio" / "hollow.wav").write_bytes(b"")
    (folder / "audio" / "noise.wav").write_bytes(b"this is no recording" * 20)
    return write_manifest(folder, [good_row(i) for i in range(12)] + [{**good_row(0), **row} for row in BAD_ROWS])


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    return path


def outside(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    command = [sys.executable, "-m", "otoscope", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


@pytest.fixture(scope="module")
def run(corpus: Path, config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch, trained by the command."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    done = outside("train", folder, "--corpus", corpus, "--config", config)
    assert done.returncode == 0, done.stderr
    assert "2 checkpoints" in done.stdout
    assert "epoch 1: loss" in done.stderr
    return folder


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS), ["corpus", "speak"], ["corpus", "import"]])
def test_help(meet: Meet, command: list[str]) -> None:
    met = meet(*command, "--help")
    assert met.status == 0
    assert "Usage" in met.out
    assert "--help" in met.out
    if not command:
        assert all(name in met.out for name in COMMANDS)


def test_help_loads_no_torch() -> None:
    code = "import sys, otoscope.__main__; sys.exit('torch' in sys.modules or 'xarray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_import_and_validate(meet: Meet, tmp_path: Path) -> None:
    chapter = tmp_path / "LibriSpeech" / "dev-clean" / "84" / "121"
    for number in range(3):
        tone(chapter / f"84-121-000{number}.flac", 400 + number)
    lines = [f"84-121-000{number} HELLO THERE" for number in range(3)]
    (chapter / "84-121.trans.txt").write_text("\n".join(lines) + "\n")
    out = tmp_path / "manifest.jsonl"
    met = meet("corpus", "import", tmp_path / "LibriSpeech", "--out", out)
    assert (met.status, "3 utterances" in met.out) == (0, True)
    assert [json.loads(line)["speaker"] for line in out.read_text().splitlines()] == ["84"] * 3
    met = meet("corpus", "validate", out)
    assert met.status == 0
    assert "nothing is wrong" in met.out
    (chapter / "84-121-0001.flac").unlink()
    met = meet("corpus", "validate", out, "--json")
    found = json.loads(met.out)
    assert (met.status, found["ok"], found["utterances"]) == (1, False, 2)
    assert [problem["id"] for problem in found["problems"]] == ["84-121-0001"]
    met = meet("corpus", "validate", out)
    assert met.status == 1
    assert "84-121-0001" in met.out
    met = meet("corpus", "import", tmp_path / "LibriSpeech", "--out", out)
    assert met.status == 1
    assert "1 left out" in met.err
    assert "84-121-0001" in met.err
    refused(meet("corpus", "import", tmp_path / "nowhere", "--out", out))
    refused(meet("corpus", "import", chapter.parent, "--format", "mp3", "--out", out), "librispeech")


def test_the_whole_way(meet: Meet, run: Path, corpus: Path, tmp_path: Path) -> None:
    met = meet("score", run, "--corpus", corpus, "--where", "split=test", "--json")
    assert met.status == 0, met.err
    found = json.loads(met.out)
    assert (found["sentences"], found["words"], sorted(found["speakers"])) == (3, 6, ["s0", "s1", "s2"])
    assert {"sub", "del", "ins", "wer"} <= set(found)
    met = meet("score", run, "--corpus", corpus, "--transcripts")
    assert met.status == 0
    assert "u00" in met.out
    assert "hyp" in met.out
    words = tmp_path / "words.txt"
    words.write_text("tea\nnot\n")
    beam = ("score", run, "--corpus", corpus, "--method", "beam")
    met = meet(*beam, "--beam", 4, "--lexicon", words, "--transcripts", "--json")
    assert met.status == 0, met.err
    assert {word for row in json.loads(met.out)["utterances"] for word in row["hyp"].split()} <= {"tea", "not"}
    refused(meet(*beam, "--lm", tmp_path / "no.arpa"), "no.arpa")
    refused(meet("score", run, "--corpus", corpus, "--lexicon", words), "lexicon", "greedy")
    refused(meet("score", run, "--corpus", corpus, "--method", "attention"), "attention decoder")
    refused(meet("score", run, "--corpus", corpus, "--ctc-weight", "0.3"), "ctc_weight: no option of method greedy")
    met = meet("layers", run, "--json")
    assert {"layer1", "layer2", "layer3"} <= {layer["name"] for layer in json.loads(met.out)}
    assert "layer3" in meet("layers", run, "--epoch", 0).out
    met = meet("compare", run, "--corpus", corpus, "--json")
    assert met.status == 0, met.err
    found = json.loads(met.out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert found["data_vars"]["matrix"]["dims"] == ["measure", "layer", "other_layer"]
    assert (run / "report" / "similarity.nc").is_file()
    assert (run / "report" / "similarity.csv").is_file()
    met = meet("profile", run, "--corpus", corpus, "--by", "symbol")
    assert met.status == 0, met.err
    assert "symbol:" in met.out
    assert (run / "report" / "gradnap.nc").is_file()
    met = meet("profile", run, "--corpus", corpus, "--by", "phone", "--json", "--epoch", 0)
    assert met.status == 0, met.err
    found = json.loads(met.out)
    assert set(found["groups"]) == {"phone:AE", "phone:T", "phone:S"}
    assert all(map(os.path.isfile, found["files"]))
    met = meet("report", run)
    assert met.status == 0, met.err
    assert str(run / "report" / "index.html") in met.out.replace("\n", "")
    assert "Not computed yet" not in (run / "report" / "index.html").read_text(encoding="utf-8")


def test_predictions_are_grouped_by_the_phones_of_the_transcript(meet: Meet, run: Path, corpus: Path, tmp_path: Path):
    """The dictionary says a as ZH and b as OY, which no network would: the groups are its own."""
    (tmp_path / "odd.dict").write_text("a ZH\nb OY1\nbroken\n")
    asked = ("profile", run, "--corpus", corpus, "--out", tmp_path, "--json", "--by", "reference-phone")
    met = meet(*asked, "--lexicon", tmp_path / "odd.dict")
    assert met.status == 0, met.err
    assert "line 3: 'broken' has no phones: left out" in met.err
    found = json.loads(met.out)
    assert set(found["groups"]) == {"reference-phone:OY", "reference-phone:ZH"}
    counts = found["settings"]["stand_for"]["reference-phone"]
    mapped = counts.get("the same letter", 0) + counts.get("another letter", 0)
    assert sum(found["groups"].values()) == mapped > 0
    assert found["settings"]["ungrouped"]["reference-phone"] == sum(counts.values()) - mapped
    (note,) = (note for note in found["notes"] if note.startswith("reference-phone: of "))
    for what, count in counts.items():
        assert f"{count} {what}" in note
    refused(meet(*asked, "--lexicon", tmp_path / "odd.dict", "--through-training"), "--lexicon")


def test_controls_training_and_optimal_inputs_stand_on_the_page(
    meet: Meet, run: Path, corpus: Path, tmp_path: Path
) -> None:
    asked = ("profile", run, "--corpus", corpus, "--by", "symbol", "--out", tmp_path)
    met = meet(*asked, "--controls", "--through-training")
    assert met.status == 0, met.err
    for name in ("random-weights", "shuffled-labels", "split-half", "random-silhouettes", "gradnap-training"):
        assert (tmp_path / f"{name}.nc").is_file()
        assert f"{name}.nc" in met.err.replace("\n", "")
    made = otoscope.Profiles.load(tmp_path / "gradnap.nc")
    group = next(group for group in made.groups if group not in made.empty)
    met = meet("optimal", run, "--group", group, "--layers", "layer2", "--k", 2, "--out", tmp_path, "--json")
    assert met.status == 0, met.err
    (row,) = json.loads(met.out)["rows"]
    assert row["layer"] == "layer2"
    paper = ("--preset", "krug2020", "--no-sound")
    met = meet("optimal", run, "--unit", 1, "--layers", "layer1", *paper, "--out", tmp_path)
    assert met.status == 0, met.err
    assert {path.name for path in tmp_path.glob("optimal-layer1*")} == {"optimal-layer1.nc", "optimal-layer1.csv"}
    assert len(list(tmp_path.glob("optimal-layer2*.wav"))) == 1
    met = meet("report", run, "--out", tmp_path)
    assert met.status == 0, met.err
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    for words in ("The network, or the data?", "When the sounds appear", "What neurons would like to hear", "<audio"):
        assert words in page
    refused(meet("optimal", run, "--out", tmp_path), "--group or --unit")
    refused(meet("optimal", run, "--unit", 1, "--layers", "conv*", "--out", tmp_path), "conv*")
    refused(meet("optimal", run, "--group", "phone:XX", "--out", tmp_path), "phone:XX")
    refused(meet("optimal", run, "--unit", 999, "--out", tmp_path), "999")
    refused(meet("profile", run, "--corpus", corpus, "--preset", "gradnav"), "krug2020")


def test_training_goes_on_only_with_the_same(meet: Meet, run: Path, corpus: Path, config: Path) -> None:
    met = meet("train", run, "--corpus", corpus, "--config", config)
    assert met.status == 0
    assert "2 checkpoints" in met.out
    refused(meet("train", run, "--corpus", corpus, "--config", config, "--seed", 5), "seed", "remove this one")


def test_training_begins_where_another_run_ended(meet: Meet, run: Path, corpus: Path, tmp_path: Path) -> None:
    """Its network and its bands are those of the other run, which the options do not name."""
    met = meet("train", tmp_path / "next", "--corpus", corpus, "--from", run, "--epochs", 1)
    assert met.status == 0, met.err
    begun, ended = otoscope.load(tmp_path / "next", 0), otoscope.load(run)
    assert begun.config == ended.config
    assert all((value == begun.state_dict()[name]).all() for name, value in ended.state_dict().items())
    refused(meet("train", tmp_path / "x", "--corpus", corpus, "--from", tmp_path, "--epochs", 1), "this is not a run")


def test_bad_rows_among_good_ones(meet: Meet, spoilt: Path, run: Path, config: Path, tmp_path: Path) -> None:
    met = meet("train", tmp_path / "run", "--corpus", spoilt, "--config", config)
    assert met.status == 1
    assert "2 checkpoints" in met.out
    assert f"{len(BAD_ROWS)} left out" in met.err
    for row in BAD_ROWS:
        assert met.err.count(f"utterance {row['id']}:") == 1
    assert "'7'" in met.err
    assert "Traceback" not in met.err
    settings = json.loads((tmp_path / "run" / "run.json").read_text())
    assert settings["corpus"]["utterances"] >= 12
    for command, left_out in (
        (("score", run, "--json"), 5),
        (("compare", run, "--out", tmp_path, "--json"), 4),
        (("profile", run, "--out", tmp_path, "--json"), 4),
    ):
        met = meet(*command, "--corpus", spoilt)
        # The text is no concern of `compare` and `profile`; digits are only unknown to the training.
        assert met.status == 1, met.err
        assert f"{left_out} left out" in met.err
        for name in ("ratezero", "hollow", "absent", "noise"):
            assert met.err.count(f"utterance {name}:") == 1
        assert json.loads(met.out)


def test_strict_stops(meet: Meet, spoilt: Path, run: Path, config: Path, tmp_path: Path) -> None:
    met = meet("train", tmp_path / "run", "--corpus", spoilt, "--config", config, "--strict")
    refused(met, "text")
    assert not (tmp_path / "run" / "checkpoints" / "epoch-001.safetensors").exists()
    for command in (("score", run), ("compare", run, "--out", tmp_path), ("profile", run, "--out", tmp_path)):
        refused(meet(*command, "--corpus", spoilt, "--strict"))
    only = write_manifest(beside(spoilt, tmp_path), [good_row(0), {**good_row(0), **BAD_ROWS[5]}])
    refused(meet("score", run, "--corpus", only, "--strict"), "noise", "cannot be read")


@pytest.mark.parametrize("row", BAD_ROWS, ids=lambda row: row["id"])
def test_nothing_but_a_bad_row(meet: Meet, row: dict[str, Any], spoilt: Path, config: Path, tmp_path: Path) -> None:
    bad = write_manifest(beside(spoilt, tmp_path), [{**good_row(3), **row}, {**good_row(4), **row, "id": "other"}])
    met = meet("train", tmp_path / "run", "--corpus", bad, "--config", config, "--held-out", "id=other")
    refused(met, row["id"])


def test_missing_things(meet: Meet, run: Path, corpus: Path, config: Path, tmp_path: Path) -> None:
    for command in ("score", "compare", "profile"):
        refused(meet(command, tmp_path / "no-run", "--corpus", corpus), "no-run")
        refused(meet(command, run, "--corpus", tmp_path / "no-corpus"), "no-corpus")
        refused(meet(command, run, "--corpus", corpus, "--where", "split=dev"), "dev", "train, test")
    refused(meet("layers", tmp_path), "run")
    refused(meet("report", tmp_path), "this is not a run")
    refused(meet("layers", run, "--epoch", 9), "0, 1")
    refused(meet("compare", run, "--corpus", corpus, "--measure", "ckaa"), "'cka'")
    refused(meet("compare", run, "--corpus", corpus, "--layers", "conv*"), "conv*")
    refused(meet("profile", run, "--corpus", corpus, "--by", "dialect"), "dialect", "split")
    refused(meet("profile", run, "--corpus", corpus, "--ctm", "phones.ctm"), "phone=FILE")
    refused(meet("profile", run, "--corpus", corpus, "--ctm", "phone=nowhere.ctm"), "nowhere.ctm")
    refused(meet("train", tmp_path / "r", "--corpus", corpus, "--held-out", "speaker=theo"), "theo")
    refused(meet("train", tmp_path / "r", "--corpus", corpus, "--config", tmp_path / "no.yaml"), "no.yaml")
    refused(meet("train", tmp_path / "r", "--corpus", corpus, "--config", config, "--epochs", 0), "epochs")
    assert not (tmp_path / "r").exists()
    assert meet("score", run).status == 2


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("network: {hidden: tiny}", "tiny"),
        ("network: {hiden: small}", "hiden"),
        ("train: {epochs: many}", "epochs"),
        ("train: [1, 2]", "train"),
        ("network: wav2letter", "network"),
        ("optimiser: {}", "optimiser"),
        ("{", "YAML"),
        ("- 1", "network"),
    ],
)
def test_bad_configurations(meet: Meet, text: str, word: str, corpus: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    refused(meet("train", tmp_path / "run", "--corpus", corpus, "--config", path), word)


def test_a_network_of_fewer_mels(meet: Meet, corpus: Path, tmp_path: Path) -> None:
    path, run = tmp_path / "mels.yaml", tmp_path / "run"
    path.write_text(CONFIG.replace("  norm: none", "  norm: none\n  mels: 40"))
    assert meet("train", run, "--corpus", corpus, "--config", path).status == 0
    for command in ("score", "compare", "profile"):
        met = meet(command, run, "--corpus", corpus)
        assert met.status == 0, met.err


def test_nothing_held_out_can_be_used(meet: Meet, corpus: Path, config: Path, tmp_path: Path) -> None:
    rows = [good_row(0), {**good_row(1), "id": "digits", "text": "7", "split": "test"}]
    bad = write_manifest(beside(corpus, tmp_path), rows)
    refused(meet("train", tmp_path / "run", "--corpus", bad, "--config", config), "nothing to score", "digits", "'7'")


def test_checkpoints_of_another_kind(meet: Meet, run: Path, corpus: Path, tmp_path: Path) -> None:
    tensors, facts = load_tensors(run / "checkpoints" / "epoch-001.safetensors")
    other = tmp_path / "other.safetensors"
    hidden = [{"units": 3, "kernel": 5, "stride": 1}]
    save_tensors(other, tensors, {**facts, "config": {**facts["config"], "hidden": hidden}})
    refused(meet("score", other, "--corpus", corpus), "another network", "other.safetensors")
    save_tensors(other, tensors, {**facts, "config": {**facts["config"], "network": "whisper"}})
    refused(meet("layers", other), "whisper")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes((run / "checkpoints" / "epoch-001.safetensors").read_bytes()[:500])
    refused(meet("layers", cut), "cut.safetensors")
    cut.write_bytes(b"")
    refused(meet("profile", cut, "--corpus", corpus), "cut.safetensors")
    untrained = run / "checkpoints" / "epoch-000.safetensors"
    refused(meet("compare", untrained, "--corpus", corpus), "not a run")
    assert meet("score", untrained, "--corpus", corpus).status == 0


@pytest.mark.parametrize("call", ["os.fsync", "os.replace"])
def test_full_disk(
    meet: Meet, call: str, run: Path, corpus: Path, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(call, full)
    out = tmp_path / "out"
    for command in (
        ("train", out, "--corpus", corpus, "--config", config),
        ("compare", run, "--corpus", corpus, "--out", out),
        ("profile", run, "--corpus", corpus, "--out", out),
        ("report", run, "--out", out),
    ):
        refused(meet(*command), "no space left on the disk", "free some space")
    assert not [path for path in out.rglob("*") if path.is_file()]


def test_interrupted(meet: Meet, corpus: Path, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.replace

    def interrupt(source: str, target: Path) -> None:
        if "epoch-001" in str(target):
            raise KeyboardInterrupt
        whole(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", interrupt)
        met = meet("train", tmp_path / "run", "--corpus", corpus, "--config", config)
    assert met.status == 130
    assert "goes on where it was" in met.err
    assert "Traceback" not in met.err
    met = meet("train", tmp_path / "run", "--corpus", corpus, "--config", config)
    assert met.status == 0
    assert "2 checkpoints" in met.out


def test_in_a_process_of_its_own(spoilt: Path, run: Path, tmp_path: Path) -> None:
    done = outside("score", run, "--corpus", spoilt, "--json")
    assert done.returncode == 1
    assert "5 left out" in done.stderr
    assert json.loads(done.stdout)["sentences"] == 13
    lost = outside("layers", tmp_path / "nowhere")
    assert lost.returncode == 1
    assert lost.stderr.startswith("otoscope: ")
    assert lost.stdout == ""
    assert "Traceback" not in done.stderr + lost.stderr
