"""The main job, as a user meets it: killed in the middle, started again, and looked at when it is over."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import soundfile
import xarray as xr

import otoscope

pytest.importorskip("espeakng_loader", reason="the demonstration speaks with espeak-ng: install the extra `synth`")
pytestmark = pytest.mark.demo
STAGES = ("speaking", "features", "training", "similarities", "profiles", "report")


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A demonstration that was killed after its second epoch and started again."""
    out = tmp_path_factory.mktemp("demo") / "demo"
    command = [sys.executable, "-m", "otoscope", "demo", "--out", str(out), "--json"]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    second_epoch = out / "run" / "checkpoints" / "epoch-002.safetensors"
    until = time.monotonic() + 900
    while not second_epoch.is_file() and first.poll() is None and time.monotonic() < until:
        time.sleep(0.2)
    assert first.poll() is None, "the demonstration ended before it was killed"
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert second_epoch.is_file()
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=2400)
    return out, done


def test_it_recognises_voices_and_sequences_that_it_never_heard(demo):
    out, done = demo
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)["result"]
    assert result["words"] >= 500
    assert result["sub"] + result["del"] + result["ins"] == result["errors"]
    assert result["wer"] <= 15.0
    # The same from outside: the checkpoint, the corpus and the scoring command.
    command = [sys.executable, "-m", "otoscope", "score", str(out / "run"), "--corpus", str(out / "corpus")]
    scored = subprocess.run([*command, "--where", "split=test", "--json"], capture_output=True, text=True, check=True)
    counts = json.loads(scored.stdout)
    assert [counts[name] for name in ("sub", "del", "ins", "words")] == [
        result[name] for name in ("sub", "del", "ins", "words")
    ]
    assert len(counts["speakers"]) == 4


def test_the_corpus_is_what_was_promised(demo):
    out, _ = demo
    corpus = otoscope.read_corpus(out / "corpus", strict=True)
    train, test = (otoscope.select(corpus, f"split={split}") for split in ("train", "test"))
    assert sum(soundfile.info(utterance.audio).duration for utterance in corpus) >= 30 * 60
    assert len({utterance.speaker for utterance in train}) >= 12
    assert not {u.speaker for u in train} & {u.speaker for u in test}
    assert not {u.text for u in train} & {u.text for u in test}
    assert len({word for utterance in corpus for word in utterance.text.split()}) >= 300


def test_every_stage_reports_and_every_epoch_is_kept_after_the_interruption(demo):
    out, done = demo
    seconds = json.loads(done.stdout)["seconds"]
    assert tuple(seconds) == STAGES
    for stage in STAGES:
        assert stage in done.stderr
    run = otoscope.load(out / "run").checkpoint
    log = [json.loads(line) for line in (out / "run" / "log.jsonl").read_text().splitlines()]
    assert [entry["epoch"] for entry in log] == list(range(len(log)))
    assert run["epoch"] == len(log) - 1 >= 10
    kept = sorted(path.name for path in (out / "run" / "checkpoints").glob("*.safetensors"))
    assert kept == [f"epoch-{epoch:03d}.safetensors" for epoch in range(len(log))]
    # How long it takes is a figure for the README: on a busy machine even processor time grows, since threads that wait
    # for one another spin.
    assert all(seconds[stage] > 0 for stage in STAGES)


def test_the_page_and_the_numbers_beside_it(demo):
    out, _ = demo
    report = out / "report"
    page = (report / "index.html").read_text(encoding="utf-8")
    for words in ("Which layer converged when", "Which layers represent the same", "Which neurons fire", "silhouette"):
        assert words in page
    for phone in ("/AA/", "/AE/", "/S/", "/T/"):
        assert phone in page
    assert "frequency (Hz)" in page
    assert "time (ms)" in page
    assert 'src="http' not in page
    similarity = xr.load_dataset(report / "similarity.nc", engine="h5netcdf")
    layers = otoscope.load(out / "run").layer_names
    assert tuple(similarity["layer"].values) == layers
    assert set(similarity["measure"].values) == {"svcca", "cka"}
    assert float(similarity["to_last"].isel(epoch=-1).min()) == pytest.approx(1, abs=1e-9)
    assert similarity.attrs["pathologies"] == ""
    # Layers near the input are closer to their end early on than the output is (CKA): the run learned something.
    early = similarity["to_last"].sel(measure="cka", epoch=1)
    assert float(early.sel(layer=layers[0])) > float(early.sel(layer=layers[-1]))
    profiles = otoscope.Profiles.load(report / "gradnap.nc")
    assert list(profiles.layers) == ["input", *layers]
    assert {"symbol:a", "phone:AE", "phone:T"} <= set(profiles.groups)
    silhouettes = xr.load_dataset(report / "silhouettes.nc", engine="h5netcdf")
    assert set(silhouettes["grouping"].values) == {"symbol", "phone"}
    for name in ("training", "similarity", "gradnap", "silhouettes"):
        with open(report / f"{name}.csv", newline="", encoding="utf-8") as file:
            assert len(list(csv.reader(file))) > 10, name
        assert (report / f"{name}.nc").is_file()


def test_vowels_look_like_their_formants(demo):
    """Input-layer GradNAPs: /IY/ has little at 700 Hz where /AA/ has its first formant, and more above 2 kHz."""
    out, _ = demo
    profile = otoscope.Profiles.load(out / "report" / "gradnap.nc").profile["input"]
    near = profile.where(abs(profile["time"]) <= 0.08, drop=True)

    def energy(phone: str, low_hz: float, high_hz: float) -> float:
        hertz = near["frequency"]
        return float(near.sel(group=f"phone:{phone}").where((hertz > low_hz) & (hertz < high_hz)).mean())

    assert energy("AA", 600, 1300) > energy("IY", 600, 1300)
    assert energy("IY", 2000, 3500) > energy("AA", 2000, 3500)
    assert energy("S", 5000, 8000) > energy("N", 5000, 8000)


def test_started_once_more_it_has_nothing_left_to_do(demo):
    out, _ = demo
    checkpoint = max((out / "run" / "checkpoints").glob("*.safetensors"))
    profiles = out / "report" / "gradnap.nc"
    before = (checkpoint.stat().st_mtime_ns, profiles.stat().st_mtime_ns)
    command = [sys.executable, "-m", "otoscope", "demo", "--out", str(out)]
    again = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=dict(os.environ))
    assert again.returncode == 0, again.stderr
    assert "Word error rate" in again.stdout
    assert "index.html" in again.stdout
    assert (checkpoint.stat().st_mtime_ns, profiles.stat().st_mtime_ns) == before


def test_another_seed_in_the_same_folder_is_refused(demo):
    out, _ = demo
    command = [sys.executable, "-m", "otoscope", "demo", "--out", str(out), "--seed", "1"]
    refused = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert refused.returncode == 1
    assert "other settings" in refused.stderr
    assert "Traceback" not in refused.stderr
