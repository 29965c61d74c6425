"""`otoscope performance` as a user meets it, over networks whose word errors are planted."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import xarray as xr
from test_through_training import make_run

from otoscope.__main__ import main
from otoscope.hear.corpus import read_corpus
from otoscope.learn.checkpoint import checkpoint_path, load_checkpoint, save_checkpoint
from otoscope.reduce.performance import rank_correlation
from otoscope.study.compare import compare
from otoscope.study.performance_words import performance_summary, performance_words
from otoscope.study.results import load_table

RATE = 16_000
TEXTS = ("a", "a", "a b", "b")
# What a network that says nothing but one symbol gets wrong of the five words.
SAID = {"_": 100.0, "a": 40.0, "b": 60.0}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four noises with texts."""
    folder = tmp_path_factory.mktemp("noises")
    rows = []
    for index, text in enumerate(TEXTS):
        samples = 0.1 * np.random.default_rng(index).standard_normal(RATE // 2)
        soundfile.write(folder / f"{index}.wav", samples, RATE)
        rows.append({"id": f"u{index}", "audio": f"{index}.wav", "text": text, "split": "ab"[index % 2]})
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "manifest.jsonl"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A run for each symbol of `SAID`: random weights, and an output that says this symbol and nothing else."""
    folder = tmp_path_factory.mktemp("runs")
    made = []
    for seed, symbol in enumerate(SAID):
        run = make_run(folder / f"says {symbol}")
        torch.manual_seed(seed + 10)
        network = load_checkpoint(checkpoint_path(run, 3))
        with torch.no_grad():
            for name, values in network.named_parameters():
                values.copy_(torch.randn_like(values) / 5)
                if name == "layer3.convolution.bias":
                    values[network.symbols.index(symbol)] += 100
        save_checkpoint(checkpoint_path(run, 3), network, {"epoch": 3})
        made.append(run)
    return made


@pytest.fixture
def meet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    """Runs `otoscope performance` through `main()` in an empty folder; gives status, output and messages."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["otoscope", "performance", *map(str, arguments)])
        capsys.readouterr()
        status = 0
        try:
            main()
        except SystemExit as end:
            status = int(end.code or 0)
        return (status, *capsys.readouterr())

    return run


def test_help(meet):
    status, out, _ = meet("--help")
    assert status == 0
    assert "--noise" in out


@pytest.mark.parametrize("kind", ["adjacent", "others"])
def test_the_numbers_the_page_and_the_words(meet, runs, corpus, tmp_path, kind):
    status, out, err = meet(*runs, "--corpus", corpus, "--noise", 10, "--noise", -5, "--similarity", kind, "--json")
    assert status == 0, err
    found = json.loads(out)
    assert found["coords"]["condition"]["data"] == ["clean", "noise 10 dB", "noise -5 dB"]
    assert found["coords"]["network"]["data"] == [run.name for run in runs]
    # They say the same whatever they hear.
    assert found["data_vars"]["wer"]["data"] == [list(SAID.values())] * 3
    table = load_table(tmp_path / "performance" / "performance.nc")
    assert table["similarity"].values.tolist() == found["data_vars"]["similarity"]["data"]
    assert len(np.unique(table["similarity"].values.round(6))) == 9, "noise changes what layers do"
    pairs = compare(runs, read_corpus(corpus), measures="cka_debiased")["cka_debiased"].isel(epoch=0, other_epoch=0)
    if kind == "adjacent":
        for run in runs:
            own = pairs.sel(network=run.name, other_network=run.name)
            steps = [own.sel(layer=a, other_layer=b) for a, b in (("layer1", "layer2"), ("layer2", "layer3"))]
            assert float(table["similarity"].sel(condition="clean", network=run.name)) == pytest.approx(np.mean(steps))
    assert (tmp_path / "performance" / "performance.csv").read_text().count("wer,") == 9
    page = (tmp_path / "performance" / "index.html").read_text(encoding="utf-8")
    assert "debiased CKA, mean similarity of" in page
    for text in (err, page):
        assert "clean: rank correlation" in text
        assert "too few networks to show anything (of 3, even a perfect order has p = 0.33)" in text
    assert "3 networks, 4 utterances with 5 words" in err


def test_a_table_to_read(meet, runs, corpus, tmp_path):
    status, out, err = meet(
        *runs, "--corpus", corpus, "--where", "split=a", "--measure", "cka", "--layers", "layer[12]", "--out", "there"
    )
    assert status == 0, err
    rows = [line.split() for line in out.splitlines()]
    assert rows[0] == ["speech", "network", "similarity", "WER", "(%)"]
    # "a" and "a b".
    assert [(row[2], row[-1]) for row in rows[1:]] == [("_", "100.0"), ("a", "33.3"), ("b", "66.7")]
    assert "linear CKA" in (tmp_path / "there" / "index.html").read_text(encoding="utf-8")


def test_a_recording_that_cannot_be_read_is_named_and_left_out(meet, runs, corpus, tmp_path):
    rows = [json.loads(line) for line in corpus.read_text().splitlines()]
    rows = [{**row, "audio": str(corpus.parent / row["audio"])} for row in rows]
    rows.append({**rows[0], "id": "absent", "audio": "absent.wav"})
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    status, out, err = meet(*runs, "--corpus", tmp_path / "manifest.jsonl", "--noise", 0, "--json")
    assert status == 1
    assert json.loads(out)["attrs"]["utterances"] == [4, 4]
    assert "1 left out" in err
    assert err.count("absent:") == 1
    status, _, err = meet(*runs, "--corpus", tmp_path / "manifest.jsonl", "--strict")
    assert (status, "absent" in err, "Traceback" in err) == (1, True, False)


def test_what_cannot_be_asked_is_refused_in_words(meet, runs, corpus, tmp_path):
    given = (*runs, "--corpus", corpus)
    silent = tmp_path / "silent.jsonl"
    silent.write_text(json.dumps({"id": "u", "audio": str(corpus.parent / "0.wav")}) + "\n")
    for arguments, words in (
        ((*runs[:2], "--corpus", corpus), ("takes networks", "got:    2", "at least 3")),
        ((*given, "--similarity", "nearest"), ("kind of similarity", "nearest", "others")),
        ((*given, "--measure", "ckaa"), ("ckaa", "'cka'")),
        ((*given, "--layers", "conv*"), ("conv*",)),
        ((*given, "--interval", 95), ("--interval 95", "0.95")),
        ((*given, "--noise", "nan"), ("signal-to-noise",)),
        ((*given, "--where", "split=c"), ("split=c", "a, b")),
        ((*runs, "--corpus", silent), ("text",)),
        ((*runs[:2], tmp_path / "no-run", "--corpus", corpus), ("no-run",)),
    ):
        status, out, err = meet(*arguments)
        assert (status, out) == (1, ""), arguments
        assert all(word in err for word in words), err
        assert "Traceback" not in err
    assert not (tmp_path / "performance").exists()


def table_of(similarity: list[float], wer: list[float]) -> xr.Dataset:
    """What `similarity_and_performance` would give for one kind of speech."""
    rank = rank_correlation(similarity, wer)
    return xr.Dataset(
        {
            "similarity": (("condition", "network"), [similarity]),
            "wer": (("condition", "network"), [wer]),
            "rank_correlation": ("condition", [rank.spearman]),
            "rank_correlation_interval": (("condition", "bound"), [[rank.low, rank.high]], {"level": rank.level}),
            "p": ("condition", [rank.p]),
        },
        coords={"condition": ["clean"], "network": [f"n{i}" for i in range(len(wer))], "bound": ["low", "high"]},
        attrs={"words": f"clean: {rank}"},
    )


@pytest.mark.parametrize(
    ("similarity", "meaning"),
    [
        ([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], "among these, the more similar have fewer word errors"),
        ([0.4, 0.5, 0.6, 0.7, 0.8, 0.9], "among these, the more similar have more word errors"),
        ([0.7, 0.5, 0.9, 0.4, 0.8, 0.6], "no relation is shown"),
        # Of four networks: 2 of the 24 orders are this far from none.
        ([0.7, 0.6, 0.5, 0.4], "too few networks to show anything (of 4, even a perfect order has p = 0.083)"),
        ([0.9, 0.8, 0.7, 0.6, np.nan, np.nan], "too few networks"),
    ],
)
def test_a_planted_relation_is_put_in_words(similarity, meaning):
    wer = [10.0, 20.0, 30.0, 40.0, 50.0, 60.0][: len(similarity)]
    found = table_of(similarity, wer)
    (line,) = performance_words(found)
    assert line.startswith("clean: rank correlation ")
    assert meaning in line
    headers, rows = performance_summary(found)
    assert [len(row) for row in rows] == [len(headers)] * len(wer)
    assert rows[-1][2:] == ["-" if np.isnan(similarity[-1]) else f"{similarity[-1]:.3f}", f"{wer[-1]:.1f}"]


@pytest.mark.parametrize(("high", "p"), [(0.1, 0.01), (-0.1, 0.2)])
def test_interval_and_p_must_both_show_a_relation(high, p):
    found = table_of([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], [10.0, 20.0, 30.0, 40.0, 50.0, 60.0])
    found["rank_correlation_interval"][:] = [[-0.9, high]]
    found["p"][:] = p
    assert performance_words(found)[0].endswith(": no relation is shown")
