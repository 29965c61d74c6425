from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from recordings import RATE, row, write_audio, write_rows

from otoscope.hear.corpus import (
    load_audio,
    read_corpus,
)
from otoscope.hear.validate import validate


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_audio(tmp_path / "a.wav")
    return tmp_path


def test_validation_names_every_bad_row_and_adds_up_the_rest(folder: Path) -> None:
    write_audio(folder / "b.wav", 3200)
    (folder / "text.wav").write_text("not a recording")
    good = {"num_samples": 1600, "duration": 0.1, "speaker": "ann"}
    manifest = write_rows(
        folder,
        row("good", text="SO IT IS SO", tiers={"phone": [[0, 0.1, "S"]]}, **good),
        row("unreadable", audio="text.wav"),
        row("wrong rate", sample_rate=8000),
        row("wrong length", duration=0.2),
        row("wrong count", num_samples=3200),
        row("tier outside", tiers={"phone": [[0, 0.16, "S"]]}),
        row("tier just outside", tiers={"phone": [[0, 0.14, "S"]]}, speaker="bob"),
        row("early end", audio="b.wav", tiers={"phone": [[0, 0.02, "S"]], "word": []}),
        row("overlap", audio="b.wav", tiers={"word": [[0, 0.1, "so"], [0.04, 0.2, "it"]]}),
        row("behind", offset_samples=1600, num_samples=10),
        "{",
    )
    report = validate(manifest)
    assert [(p.line, p.id) for p in report.problems] == [
        (2, "unreadable"),
        (3, "wrong rate"),
        (4, "wrong length"),
        (5, "wrong count"),
        (6, "tier outside"),
        (10, "behind"),
        (11, None),
    ]
    assert [(w.line, w.id) for w in report.warnings] == [(8, "early end"), (9, "overlap")]
    assert "'so' until 0.100 s, 'it' from 0.040 s" in report.warnings[1].what
    assert (report.rows, report.utterances, report.speakers) == (11, 4, ["ann", "bob"])
    assert report.hours == pytest.approx((0.1 + 0.1 + 0.2 + 0.2) / 3600)
    assert (report.words, report.distinct_words) == (7, 3)
    assert (report.sample_rates, report.tiers) == ({RATE: 4}, {"phone": 3, "word": 2})
    assert not report.ok
    assert "4 of 11 rows can be used" in str(report)
    assert "bad: line 3, utterance wrong rate: the recording has another sample rate" in str(report)
    assert json.loads(json.dumps(report.as_dict()))["problems"][0]["id"] == "unreadable"


def test_validation_tells_of_mixed_rates_and_checks_tiers_of_a_ctm_file(folder: Path) -> None:
    write_audio(folder / "slow.wav", 1600, 8000)
    (folder / "align.ctm").write_text("a 1 0.00 0.04 SIL\nslow 1 0.04 0.30 T\n")
    report = validate(write_rows(folder, row("a"), row("slow", audio="slow.wav")), ctm={"phone": "align.ctm"})
    assert [str(p) for p in report.problems] == [
        "line 2, utterance slow: the tier 'phone' ends at 0.340 s; got 0.200 s of audio"
    ]
    assert report.tiers == {"phone": 1}
    assert validate(folder).ok
    assert "several sample rates: 1 at 16000 Hz, 1 at 8000 Hz" in str(validate(folder))


def test_validation_decodes_when_asked(folder: Path) -> None:
    soundfile.write(folder / "nan.wav", np.float32([0, np.nan, 0]), RATE, subtype="FLOAT")
    manifest = write_rows(folder, row("a"), row("b", audio="nan.wav"))
    assert validate(manifest).ok
    (problem,) = validate(manifest, decode=True).problems
    assert problem.id == "b"
    assert "not finite" in problem.what


REAL = {
    "fsdd": (2000, 4, 0.231),
    "librispeech-slice": (229, 2, 0.838),
    "speechocean762": (1260, 63, 1.407),
    "timit-nltk": (80, 8, 0.067),
    "ljspeech-32": (32, 1, 0.062),
}


@pytest.mark.real
@pytest.mark.parametrize("name", REAL)
def test_real_manifests_read_as_they_are(real_data: Path, name: str) -> None:
    report = validate(real_data / name / "manifest.jsonl")
    assert report.ok
    assert (report.utterances, len(report.speakers), round(report.hours, 3)) == REAL[name]
    corpus = read_corpus(real_data / name / "manifest.jsonl", strict=True)
    utterance = corpus[len(corpus) // 2]
    samples, rate = load_audio(utterance)
    assert (len(samples), rate) == (utterance.num_samples, utterance.sample_rate)
    assert 0.001 < np.abs(samples).max() <= 1.0
