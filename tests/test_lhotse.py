"""lhotse's manifests, written down as its documentation has them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recordings import ramp, write_audio, write_sphere

from otoscope.base import BadInput
from otoscope.hear.corpus import load_audio
from otoscope.hear.readers import import_corpus

RATE = 16_000


def recording(**changes: Any) -> dict[str, Any]:
    sources = [{"type": "file", "channels": [0, 1], "source": "sound/call.wav"}]
    return {
        "id": "call",
        "sources": sources,
        "sampling_rate": RATE,
        "num_samples": 2 * RATE,
        "duration": 2.0,
        "channel_ids": [0, 1],
    } | changes


def said(id: str, **changes: Any) -> dict[str, Any]:
    return {
        "id": id,
        "recording_id": "call",
        "start": 0.5,
        "duration": 0.25,
        "channel": 0,
        "text": "hello there",
        "language": "English",
        "speaker": "ann",
        "gender": "F",
    } | changes


def cut(id: str, *supervisions: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "id": id,
        "start": 1.0,
        "duration": 0.5,
        "channel": 0,
        "supervisions": list(supervisions),
        "recording": recording(),
        "type": "MonoCut",
    } | changes


def write(path: Path, *rows: dict[str, Any]) -> Path:
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_audio(tmp_path / "sound" / "call.wav", np.stack([ramp(2 * RATE), -ramp(2 * RATE)], axis=1))
    return tmp_path


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz"])
def test_supervisions_and_their_recordings_are_imported(folder: Path, ending: str) -> None:
    write(folder / f"swbd_recordings_all.{ending}", recording())
    alignment = {"word": [["hello", 0.5, 0.1, 0.9], ["there", 0.6, 0.125]]}
    write(
        folder / f"swbd_supervisions_train-a.{ending}",
        said("one", alignment=alignment, custom={"snr": 12.5, "emb": [1, 2]}),
        said("two", channel=1, speaker="bob"),
        said("both", channel=[0, 1]),
        said("lost", recording_id="other"),
        said("mute", text=""),
        said("third", channel=2),
        {"id": "bare", "recording_id": "call"},
    )
    corpus = import_corpus(folder)
    assert [u.id for u in corpus] == ["one", "two", "both"]
    one = corpus[0]
    assert (one.text, one.speaker, one.sample_rate) == ("hello there", "ann", RATE)
    assert one.tiers == {"word": [(0.0, 0.1, "hello"), (0.1, 0.225, "there")]}
    assert one.attributes == {
        **{"offset": 0.5, "duration": 0.25, "channel": 0, "snr": 12.5},
        **{"gender": "F", "language": "English", "split": "train-a"},
    }
    part = ramp(2 * RATE)[RATE // 2 : RATE * 3 // 4]
    np.testing.assert_array_equal([load_audio(u)[0] for u in corpus], [part, -part, 0 * part])
    assert [p.line for p in corpus.problems] == [4, 5, 6, 7]
    for problem, words in zip(
        corpus.problems, ("no recording 'other'", "no text", "channel 2", "no supervision of"), strict=True
    ):
        assert words in problem.what


def test_cuts_are_imported_by_their_supervisions(folder: Path) -> None:
    """Times of a cut's supervisions count from the cut's start."""
    write(
        folder / "cuts.jsonl.gz",
        cut("c", said("one", start=0.0), said("two", start=0.25, channel=1)),
        cut("silence"),
        cut("mixed", said("x"), type="MixedCut", tracks=[]),
        cut("fast", said("fast"), recording=recording(transforms=[{"name": "Speed", "kwargs": {"factor": 1.1}}])),
        cut("stored", said("y"), recording=None),
        cut("memory", said("z"), recording=recording(sources=[{"type": "memory", "channels": [0], "source": "AA=="}])),
    )
    corpus = import_corpus(folder)
    assert [(u.id, u.offset, u.duration, u.channel) for u in corpus] == [("one", 1.0, 0.25, 0), ("two", 1.25, 0.25, 1)]
    np.testing.assert_array_equal(load_audio(corpus[1])[0], -ramp(2 * RATE)[RATE * 5 // 4 : RATE * 3 // 2])
    words = ["no supervision", "mixed and padded cuts", "changed by lhotse", "no recording", "is no file"]
    assert len(corpus.problems) == len(words)
    for problem, word in zip(corpus.problems, words, strict=True):
        assert word in problem.what


def test_a_command_of_sph2pipe_is_replaced_by_its_file(tmp_path: Path) -> None:
    sound = write_sphere(tmp_path / "x.sph", np.stack([ramp(RATE), -ramp(RATE)], axis=1), RATE, "PCM_16")
    sources = [{"type": "command", "channels": [c], "source": f"sph2pipe -f wav -p -c {c + 1} {sound}"} for c in (0, 1)]
    write(tmp_path / "recordings.jsonl", recording(sources=sources))
    write(tmp_path / "supervisions.jsonl", said("one", channel=1))
    (utterance,) = import_corpus(tmp_path)
    np.testing.assert_array_equal(load_audio(utterance)[0], -ramp(RATE)[RATE // 2 : RATE * 3 // 4])
    assert "split" not in utterance.attributes


def test_one_file_a_channel_is_told_by_its_source(tmp_path: Path) -> None:
    for name, sign in (("a", 1), ("b", -1)):
        write_audio(tmp_path / f"{name}.wav", sign * ramp(RATE))
    sources = [{"type": "file", "channels": [c], "source": f"{name}.wav"} for c, name in enumerate("ab")]
    write(tmp_path / "recordings.jsonl", recording(sources=sources))
    write(tmp_path / "supervisions_dev.jsonl", said("one", channel=1))
    write(tmp_path / "supervisions_test.jsonl", said("two", channel=0))
    corpus = import_corpus(tmp_path)
    assert [(u.id, u.split, np.sign(load_audio(u)[0][1])) for u in corpus] == [("one", "dev", -1), ("two", "test", 1)]
    assert [u.id for u in import_corpus(tmp_path / "supervisions_test.jsonl")] == ["two"]
    with pytest.raises(BadInput, match="does not look like lhotse"):
        import_corpus(tmp_path / "recordings.jsonl", "lhotse")
