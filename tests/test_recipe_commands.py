"""Every command of the recipes for real corpora, on small copies of the folders, with networks of a few units."""

from __future__ import annotations

import csv
import dataclasses
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from recipe_scripts import RECIPES, TINY, tiny
from recordings import write_audio, write_sphere
from test_docs import COMMANDS, fences

from otoscope.__main__ import main
from otoscope.learn.checkpoint import open_run
from otoscope.reduce.profiles import Profiles
from otoscope.study.insights_settings import FULL, NETWORKS, SCALES, Settings

SAYINGS = ("so it is", "oh yes", "no not at all", "we do that")
RATE = 8000


def noise(seed: int, seconds: float, channels: int = 1, rate: int = RATE) -> np.ndarray:
    samples = 0.1 * np.random.default_rng(seed).standard_normal((round(seconds * rate), channels))
    return samples[:, 0] if channels == 1 else samples


def switchboard(folder: Path) -> None:
    """Forty-two conversations of two turns a side, and two of Hub5'00, each where LDC puts it."""
    for talk in range(2001, 2043):
        write_sphere(folder / "LDC97S62" / "swb1_d1" / "data" / f"sw0{talk}.sph", noise(talk, 3.2, 2))
        there = folder / "LDC97S62" / "swb_ms98_transcriptions" / str(talk)[:2] / str(talk)
        there.mkdir(parents=True)
        for side in "AB":
            said = [SAYINGS[(talk + turn + (side == "B")) % 4] for turn in range(2)]
            lines = [
                f"sw{talk}{side}-ms98-a-{turn + 1:04d} {1.6 * turn} {1.6 * (turn + 1)} {text}"
                for turn, text in enumerate(said)
            ]
            (there / f"sw{talk}{side}-ms98-a-trans.text").write_text("\n".join(lines) + "\n")
    reference = folder / "LDC2002T43" / "reference"
    reference.mkdir(parents=True)
    rows = [';; LABEL "sw" "SWBD" ""', ';; LABEL "en" "CallHome" ""']
    for name in ("en_4156", "sw_4390"):
        write_sphere(folder / "LDC2002S09" / "hub5e_00" / "english" / f"{name}.sph", noise(len(name), 6.4, 2))
        for turn, text in enumerate(SAYINGS):
            side = "AB"[turn % 2]
            rows.append(
                f"{name} {side} {name}_{side} {1.6 * turn:.2f} {1.6 * (turn + 1):.2f} <O,{name[:2]},F,{name[:2]}-F> "
                f"{text.upper()}"
            )
    (reference / "hub5e00.english.000405.stm").write_text("\n".join(rows) + "\n")
    (reference / "en20000405_hub5.glm").write_text(';; rules\n* name = "hub5"\n[OKAY] => [OK] / [ ] __ [ ]\n')


def librispeech(folder: Path) -> None:
    """A chapter in each part; phones of test-clean in a CTM file."""
    times = []
    for speaker, part in enumerate(
        ("train-clean-100", "train-clean-360", "train-other-500", "dev-clean", "test-clean", "test-other"), 84
    ):
        chapter = folder / "LibriSpeech" / part / str(speaker) / "1"
        for number in range(len(SAYINGS)):
            id = f"{speaker}-1-{number:04d}"
            write_audio(chapter / f"{id}.flac", noise(speaker * 10 + number, 1.6, rate=16_000), 16_000)
            times += [f"{id} 1 {0.2 * n:.2f} 0.20 {'AE T S IY'.split()[n % 4]}" for n in range(8)]
        lines = [f"{speaker}-1-{number:04d} {text.upper()}" for number, text in enumerate(SAYINGS)]
        (chapter / f"{speaker}-1.trans.txt").write_text("\n".join(lines) + "\n")
    (folder / "phones.ctm").write_text("\n".join(line for line in times if line.startswith("88-")) + "\n")


def commands(page: str, folder: Path) -> list[list[str]]:
    """The page's commands as a shell makes them of its loops; everything else in its blocks is done by that shell."""
    told = (
        'told() { printf "%s\\037" "$@"; echo; }; otoscope() { told otoscope "$@"; }; python() { told python "$@"; }\n'
    )
    blocks = [fence.text for fence in fences(page) if fence.info in COMMANDS]
    shell = ["bash", "-euc", told + "".join(blocks)]
    said = subprocess.run(shell, cwd=folder, capture_output=True, text=True, check=True).stdout
    return [line.split("\x1f")[:-1] for line in said.splitlines()]


def few(settings: Settings) -> Settings:
    """Settings of a reproduction for two epochs of networks of a few units, on any speech there is."""
    families = {name: TINY[name.rpartition("-")[0] if name.startswith("conv-lstm") else name] for name in NETWORKS}
    channels = {name: {"channels": [2] * int(name[-1])} for name in NETWORKS if name.startswith("conv-lstm")}
    return dataclasses.replace(
        settings,
        size="small",
        network={**settings.network, "vocabulary": {"kind": "unigram", "size": 32}},
        of_network={name: {**values, **channels.get(name, {})} for name, values in families.items()},
        training={**settings.training, "epochs": 2, "batch_size": 4},
        of_training={name: {**values, "epochs": 2} for name, values in settings.of_training.items()},
    )


def run(command: list[str], monkeypatch: pytest.MonkeyPatch) -> object:
    """One command in this process; its exit status."""
    monkeypatch.setattr(sys, "argv", command if command[0] == "otoscope" else command[1:])
    try:
        if command[0] == "otoscope":
            main()
        else:
            runpy.run_path(command[1], run_name="__main__")
    except SystemExit as end:
        return end.code or 0
    return 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "corpus", "networks"),
    [("insights-switchboard", switchboard, 8), ("gradnap-librispeech", librispeech, 1)],
)
def test_every_command_of_a_recipe_runs(
    recipe: str,
    corpus: Callable[[Path], None],
    networks: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("sentencepiece", reason="word pieces need sentencepiece: install the extra `units`")
    corpus(tmp_path)
    shutil.copytree(RECIPES, tmp_path / "recipes", ignore=shutil.ignore_patterns("__pycache__"))
    for path in (RECIPES / recipe).glob("*.yaml"):
        tiny(path, tmp_path / "recipes" / recipe)
    monkeypatch.setitem(SCALES, "full", few(FULL))
    monkeypatch.chdir(tmp_path)
    found = commands((RECIPES / recipe / "README.md").read_text(encoding="utf-8"), tmp_path)
    for command in found:
        status = run(command, monkeypatch)
        met = capfd.readouterr()
        # Eight noises have no AA and few letters, and a network of two layers no course over time: it says so.
        holes = ("neurons", "symbol:a", "phone:AA") if command[1:3] == ["reproduce", "gradnap"] else ()
        assert status == (1 if holes else 0), f"{' '.join(command)}\n{met.out}\n{met.err}"
        assert all(f"librispeech: {hole}:" in met.err for hole in holes)
    assert len(list((tmp_path / "runs").iterdir())) == networks
    for folder in (tmp_path / "runs").iterdir():
        assert sorted(open_run(folder).checkpoints) == [0, 1]
    if recipe == "insights-switchboard":
        assert len(list((tmp_path / "hub5").glob("*.ctm"))) == networks
        drawn = {path.stem for path in (tmp_path / "insights").glob("*.pdf")}
        assert drawn >= {"wer", "figure1", "figure2", "figure3", "figure4"}
        assert "SWBD, WER %" in (tmp_path / "insights" / "table1.md").read_text()
        # The four sayings of each have twelve words.
        rows = list(csv.DictReader((tmp_path / "insights" / "wer.csv").open()))
        assert {(row["condition"], row["words"]) for row in rows} == {("SWBD", "12"), ("Clhm", "12")}
    else:
        assert "phone:AE" in Profiles.load(tmp_path / "profiles-of-phones" / "gradnap.nc").groups
        drawn = {path.stem for path in (tmp_path / "gradnap" / "figures").glob("*.pdf")}
        assert drawn >= {f"librispeech-{name}" for name in ("figure-2", "figure-3", "figure-4a", "figure-4b")}
        with (tmp_path / "gradnap" / "tables" / "librispeech-silhouettes.csv").open() as table:
            assert {"symbol", "phone"} == {row["grouping"] for row in csv.DictReader(table)}
