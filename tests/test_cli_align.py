"""`otoscope align` as a user meets it: a network of random weights, noise, and texts that fit or do not."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from recordings import RATE, write_audio, write_rows

import otoscope
from otoscope.__main__ import main
from otoscope.base import BadInput, write_json
from otoscope.hear.corpus import read_corpus
from otoscope.hear.tiers import read_ctm, read_textgrid
from otoscope.learn.checkpoint import checkpoint_path, save_checkpoint
from otoscope.learn.networks import build, read_config

TEXTS = {"one": "a cab", "two": "Fab; cab!", "three": "bab"}
PHONES = {"a": ["AE"], "b": ["B"], "c": ["K"], "f": ["F"]}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("noises")
    rows = []
    for seed, (id, text) in enumerate(TEXTS.items()):
        noise = 0.1 * np.random.default_rng(seed).standard_normal(RATE * (2 + seed) // 4)
        write_audio(folder / f"{id}.wav", noise.astype(np.float32))
        rows.append({"id": id, "audio": f"{id}.wav", "text": text, "speaker": "n", "age": seed, "split": "good"})
    rows += [
        {"id": "short", "audio": "s.wav", "text": "abba " * 30, "split": "bad"},
        {"id": "digits", "audio": "one.wav", "text": "cab 4", "split": "bad"},
        {"id": "signs", "audio": "one.wav", "text": "?!", "split": "bad"},
        {"id": "empty", "audio": "one.wav", "text": " ", "split": "bad"},
    ]
    write_audio(folder / "s.wav", RATE // 4)
    return write_rows(folder, *rows)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    hidden = [{"units": 8, "kernel": 5, "stride": 2}]
    symbols = ["_", " ", "'", "a", "b", "c", "f"]
    config = read_config({"mels": 20, "symbols": symbols, "hidden": hidden, "norm": "none"})
    torch.manual_seed(0)
    save_checkpoint(checkpoint_path(folder, 1), build(config), {"epoch": 1})
    write_json(folder / "run.json", {"network": config.model_dump(mode="json"), "train": {}, "corpus": {}})
    return folder


class Pronouncer:
    """Says words letter by letter, and does not know "bab"."""

    def __init__(self, lexicon: object = None) -> None:
        self.lexicon = lexicon

    def words(self, words: list[str], **options: object) -> None:
        assert words == sorted(words)

    def word(self, word: str) -> SimpleNamespace:
        if word == "bab":
            raise BadInput("no such word")
        return SimpleNamespace(letters=[(letter, PHONES[letter]) for letter in word])


@pytest.fixture
def meet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    """Runs `otoscope align` through `main()` in an empty folder; gives status, output and messages."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(otoscope, "Pronouncer", Pronouncer, raising=False)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["otoscope", "align", *map(str, arguments)])
        capsys.readouterr()
        status = 0
        try:
            main()
        except SystemExit as end:
            status = int(end.code or 0)
        return (status, *capsys.readouterr())

    return run


def test_ctm(meet, run, corpus, tmp_path):
    status, output, said = meet(run, "--corpus", corpus, "--where", "split=good", "--out", "a.ctm", "--json")
    assert status == 1, said
    found = json.loads(output)
    # Rows that the manifest itself cannot use are named, too.
    assert [entry["id"] for entry in found["left_out"]] == ["empty"]
    tiers = read_ctm(tmp_path / "a.ctm")
    assert [one.label for one in tiers["one"]] == ["AE", "K", "AE", "B"]
    assert [one.label for one in tiers["two"]] == ["F", "AE", "B", "K", "AE", "B"]
    # Not a line for the word that cannot be pronounced, and none invented.
    assert "three" not in tiers
    assert found["unpronounced"] == {"bab": 1}
    assert (found["utterances"], found["segments"]) == (3, {"phone": 10})
    assert sum(map(len, tiers.values())) == 10 == len((tmp_path / "a.ctm").read_text().splitlines())
    assert "bab (1)" in said
    for tier in tiers.values():
        assert all(one.end_s <= other.start_s + 1e-9 for one, other in itertools.pairwise(tier))
        assert all(one.start_s < one.end_s for one in tier)


def test_letters_need_no_pronunciations(meet, run, corpus, tmp_path, monkeypatch):
    monkeypatch.delattr(otoscope, "Pronouncer")
    arguments = ("--corpus", corpus, "--where", "split=good", "--tier", "grapheme")
    assert meet(run, *arguments, "--out", "a.ctm")[0] == 1
    assert [one.label for one in read_ctm(tmp_path / "a.ctm")["two"]] == list("fabcab")


def test_manifest(meet, run, corpus, tmp_path):
    status, _, said = meet(run, "--corpus", corpus, "--where", "split=good", "--out", "new/a.jsonl")
    assert status == 1, said
    found = {utterance.id: utterance for utterance in read_corpus(tmp_path / "new" / "a.jsonl")}
    assert set(found) == set(TEXTS)
    assert found["two"].age == 1
    assert found["two"].audio == corpus.parent / "two.wav"
    assert [one.label for one in found["two"].tiers["word"]] == ["fab", "cab"]
    assert set(found["two"].tiers) == {"grapheme", "phone", "word"}
    meet(run, "--corpus", corpus, "--where", "split=good", "--out", "b.jsonl", "--tier", "word")
    assert set(read_corpus(tmp_path / "b.jsonl")[0].tiers) == {"word"}


def test_textgrids(meet, run, corpus, tmp_path):
    meet(run, "--corpus", corpus, "--where", "split=good", "--out", "grids", "--tier", "word", "--tier", "phone")
    assert sorted(path.name for path in (tmp_path / "grids").iterdir()) == [f"{id}.TextGrid" for id in sorted(TEXTS)]
    grid = read_textgrid(tmp_path / "grids" / "one.TextGrid")
    assert [one.label for one in grid["word"] if one.label] == ["a", "cab"]
    assert [one.label for one in grid["phone"] if one.label] == ["AE", "K", "AE", "B"]
    assert grid["word"][-1].end_s == pytest.approx(0.5, abs=0.011)


def test_what_cannot_be_aligned_is_named(meet, run, corpus):
    status, output, said = meet(run, "--corpus", corpus, "--out", "a.ctm", "--tier", "word", "--json")
    assert status == 1
    assert json.loads(output)["utterances"] == 3
    named = {entry["id"]: entry["what"] for entry in json.loads(output)["left_out"]}
    assert set(named) == {"short", "digits", "signs", "empty"}
    assert "shorter than its text needs" in named["short"]
    assert "'4'" in named["digits"]
    assert "no letters" in named["signs"]
    assert "4 left out" in said
    for id in named:
        assert f"utterance {id}" in said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--out", "a.txt"], "cannot be written to such a file"),
        (["--out", "a.ctm", "--tier", "word", "--tier", "phone"], "one tier"),
        (["--out", "a.ctm", "--tier", "phones"], "did you mean 'phone'"),
        (["--out", "a.ctm", "--tier", "word", "--where", "split=bad"], "no utterance can be aligned"),
        (["--out", "a.ctm", "--tier", "word", "--strict"], "there is no text"),
    ],
)
def test_mistakes_end_in_a_message(meet, run, corpus, options, words, tmp_path):
    status, output, said = meet(run, "--corpus", corpus, *options)
    assert (status, output) == (1, "")
    assert words in said
    assert "Traceback" not in said
    assert not list(tmp_path.iterdir())


def test_the_corpus_itself_is_never_written_over(meet, run, corpus):
    before = corpus.read_bytes()
    status, _, said = meet(run, "--corpus", corpus.parent, "--out", corpus)
    assert status == 1
    assert "take the corpus's place" in said
    assert corpus.read_bytes() == before


def test_a_given_delay_is_taken_off(meet, run, corpus, tmp_path):
    arguments = ("--corpus", corpus, "--where", "split=good", "--tier", "grapheme", "--no-refine")
    # Too little speech to measure one.
    assert "0 ms late (not measured)" in meet(run, *arguments, "--out", "a.ctm")[2]
    assert "50 ms early (given)" in meet(run, *arguments, "--out", "b.ctm", "--delay", "-0.05")[2]
    one, other = (read_ctm(tmp_path / name)["three"] for name in ("a.ctm", "b.ctm"))
    later = [b.start_s - a.start_s for a, b in zip(one, other, strict=True)]
    assert later[1] == pytest.approx(0.05, abs=2e-4)


def test_help_needs_no_torch():
    code = (
        "import sys, typer\nfrom otoscope.commands import align\napp = typer.Typer()\napp.command()(align.align)\n"
        "try:\n    app(['--help'])\nexcept SystemExit:\n    pass\nassert 'torch' not in sys.modules\n"
    )
    plain = os.environ | {"TERM": "dumb", "NO_COLOR": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=plain)
    assert done.returncode == 0, done.stderr
    for option in ("--corpus", "--out", "--tier", "--where", "--delay"):
        assert option in done.stdout
