"""Kaldi data directories, and the commands in them that are replaced by files or refused; nothing is ever run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from recordings import ramp, write_audio, write_sphere

from otoscope.base import BadInput
from otoscope.hear.corpus import load_audio
from otoscope.hear.kaldi import recording_of
from otoscope.hear.readers import import_corpus


def kaldi(root: Path) -> Path:
    write_audio(root / "corpus" / "call.wav", 16_000)
    data = root / "data" / "test"
    data.mkdir(parents=True)
    (data / "wav.scp").write_text(f"call corpus/call.wav\nabs\t{root}/corpus/call.wav\npipe sox x.sph -t wav - |\n")
    (data / "segments").write_text("ann-1 call 0.10 0.30\nbob-1 abs 0.5 -1\nbob-2 pipe 0.5 0.6\nbob-3 none 0.1 0.2\n")
    (data / "text").write_text("ann-1 HELLO THERE\nbob-1 YES\nbob-2 NO\n")
    (data / "utt2spk").write_text("ann-1 ann\nbob-1 bob\nbob-2 bob\n")
    (data / "spk2gender").write_text("ann f\nbob m\n")
    return data


def test_kaldi_is_imported_and_commands_are_refused(tmp_path: Path) -> None:
    corpus = import_corpus(kaldi(tmp_path))
    assert [(u.id, u.text, u.speaker, u.gender) for u in corpus] == [
        ("ann-1", "HELLO THERE", "ann", "f"),
        ("bob-1", "YES", "bob", "m"),
    ]
    assert [len(load_audio(u)[0]) for u in corpus] == [3200, 8000]
    assert load_audio(corpus[0])[0][0] == 1600 / 32768
    assert [p.line for p in corpus.problems] == [3, 4]
    assert "bob-2: wav.scp names a command" in corpus.problems[0].what
    assert "no recording 'none'" in corpus.problems[1].what


def test_recordings_are_the_utterances_where_there_are_no_segments(tmp_path: Path) -> None:
    data = kaldi(tmp_path)
    (data / "segments").unlink()
    (data / "text").write_text("call HELLO\npipe NO\ngone WHO\n")
    corpus = import_corpus(data)
    assert [u.id for u in corpus] == ["call"]
    assert [(p.line, p.id) for p in corpus.problems] == [(2, "abs"), (3, None), (3, None)]
    assert "utterance gone: it has a text, but wav.scp does not have it" in corpus.problems[2].what


def test_a_line_that_is_no_segment_is_named(tmp_path: Path) -> None:
    data = kaldi(tmp_path)
    (data / "segments").write_text("ann-1 call 0.10 0.30\nbob-1 call 0.5\nbob-2 call soon 0.6\n")
    assert ["not a segment" in p.what for p in import_corpus(data).problems] == [True, True]


def test_the_sides_of_a_conversation_are_heard_apart(tmp_path: Path) -> None:
    """As Kaldi's recipe for Switchboard writes it: two recordings a file, each through sph2pipe."""
    left = 0.5 * np.sin(np.arange(8000) / 5)
    right = 0.3 * np.sin(np.arange(8000) / 9)
    sound = write_sphere(tmp_path / "sw02001.sph", np.stack([left, right], axis=1))
    data = tmp_path / "train"
    data.mkdir()
    pipes = (f"sw02001-{side} /opt/sph2pipe -f wav -p -c {n} {sound} |" for side, n in (("A", 1), ("B", 2)))
    (data / "wav.scp").write_text("\n".join(pipes) + "\n")
    (data / "segments").write_text("a sw02001-A 0.25 0.75\nb sw02001-B 0 0.5\n")
    (data / "text").write_text("a hi\nb hello\n")
    heard = [load_audio(u)[0] for u in import_corpus(data, strict=True)]
    # µ-law keeps about six bits of each sample.
    np.testing.assert_allclose(heard[0], left[2000:6000], atol=0.02)
    np.testing.assert_allclose(heard[1], right[:4000], atol=0.02)


def test_segments_may_name_channels(tmp_path: Path) -> None:
    write_audio(tmp_path / "x.wav", np.stack([ramp(16_000), -ramp(16_000)], axis=1))
    (tmp_path / "wav.scp").write_text("x x.wav\n")
    (tmp_path / "segments").write_text("a x 0 0.5 1\nb x 0 0.5 0\nc x 0 0.5 -1\n")
    (tmp_path / "text").write_text("a A\nb B\nc C\n")
    heard = [load_audio(u)[0] for u in import_corpus(tmp_path)]
    np.testing.assert_array_equal(heard, [-ramp(8000), ramp(8000), np.zeros(8000)])


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        ("a b.wav", ("a b.wav", None)),
        ("sph2pipe -f wav x.sph |", ("x.sph", None)),
        ("/k/sph2pipe_v2.5/sph2pipe -p -f wav -c 2 x/y.sph|", ("x/y.sph", 1)),
        ("sph2pipe -c 1 -f rif 'a b.sph' |", ("a b.sph", 0)),
        ("flac -c -d -s /c/84-1-0.flac |", ("/c/84-1-0.flac", None)),
        ("flac -cds x.flac |", ("x.flac", None)),
        ("cat x.wav |", ("x.wav", None)),
    ],
)
def test_unpacking_is_replaced_by_the_file(entry: str, found: tuple[str, int | None]) -> None:
    assert recording_of(entry) == found


@pytest.mark.parametrize(
    "entry",
    [
        "x.ark:17",
        "sox x.wav -r 8000 -t wav - |",
        "sph2pipe -f wav -t 1:2 x.sph |",
        "sph2pipe -f wav -c 3 x.sph |",
        "sph2pipe -f wav -c 1 x.sph | sox -t wav - -t wav - |",
        "sph2pipe -f wav x.sph y.wav |",
        "flac -d x.flac --until=10 -c |",
        "cat x.wav > /etc/passwd |",
        "cat x.wav; rm y |",
        "cat $(ls) |",
        "cat 'x |",
        "|",
        "touch pwned |",
    ],
)
def test_everything_else_is_refused_in_words(entry: str) -> None:
    with pytest.raises(BadInput, match=r"names a command or an archive[\s\S]*sph2pipe, flac or cat[\s\S]*wav-copy"):
        recording_of(entry)
