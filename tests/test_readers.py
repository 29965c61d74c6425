from __future__ import annotations

import gzip
import inspect
import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from recordings import ramp, write_audio, write_sphere

from otoscope.base import BadInput, BadOption
from otoscope.commands.corpus import corpus_import
from otoscope.hear.corpus import (
    load_audio,
    read_corpus,
    write_manifest,
)
from otoscope.hear.read_speech import CORE_TEST_SPEAKERS
from otoscope.hear.readers import FORMATS, import_corpus


def librispeech(root: Path) -> Path:
    chapter = root / "LibriSpeech" / "dev-clean" / "84" / "121123"
    for n in range(2):
        write_audio(chapter / f"84-121123-000{n}.flac")
    (chapter / "84-121123.trans.txt").write_text(
        "84-121123-0000 GO DO YOU HEAR\n84-121123-0001 BUT\n84-121123-0002 LOST\n"
    )
    (root / "LibriSpeech" / "SPEAKERS.TXT").write_text(
        ";ID  |SEX| SUBSET |MINUTES| NAME\n84   | F | dev-clean        |  8.02 | Christie N.\n"
    )
    return root


def timit(root: Path, case: Callable[[str], str] = str.upper) -> Path:
    """As on LDC's disc: documents beside the speakers of TRAIN and TEST, recordings in SPHERE that are named .WAV."""
    for speaker in ("train/dr4/maeb0", "test/dr1/felc0", "test/dr1/faks0"):
        stem = root / case(f"timit/{speaker}/sx90")
        write_sphere(stem.with_suffix(case(".wav")), ramp(1600), 16_000, "PCM_16")
        stem.with_suffix(case(".phn")).write_text("0 800 h#\n800 1600 t\n")
        stem.with_suffix(case(".wrd")).write_text("800 1600 tea\n")
        stem.with_suffix(case(".txt")).write_text("0 1600 Tea, please.\n")
    (root / case("timit/doc")).mkdir()
    (root / case("timit/doc/spkrinfo.txt")).write_text("AEB0  M  4  TRN  06/12/86  03/02/62\n")
    return root


def table(root: Path) -> Path:
    write_audio(root / "clips" / "x.wav")
    rows = [
        "client_id path sentence age duration".split(),
        ["jo", "clips/x.wav", "Said, so", "twenties", "0.1"],
        ["", "clips/none.wav", "Lost", "", ""],
        ["jo", "clips/x.wav"],
        ["jo", "clips/x.wav", "One too many", "", "", "x"],
    ]
    (root / "train.tsv").write_text("".join("\t".join(fields) + "\n" for fields in rows), encoding="utf-8")
    return root


def test_librispeech_is_imported(tmp_path: Path) -> None:
    corpus = import_corpus(librispeech(tmp_path))
    assert [(u.id, u.text, u.speaker) for u in corpus] == [
        ("84-121123-0000", "GO DO YOU HEAR", "84"),
        ("84-121123-0001", "BUT", "84"),
    ]
    assert corpus[0].attributes == {"chapter": "121123", "gender": "f", "corpus_subset": "dev-clean"}
    assert [(p.line, p.id) for p in corpus.problems] == [(3, "84-121123-0002")]
    assert len(load_audio(corpus[1])[0]) == 1600
    with pytest.raises(BadInput, match="there is no recording"):
        import_corpus(tmp_path, "librispeech", strict=True)


@pytest.mark.parametrize("case", [str.upper, str.lower])
def test_timit_is_imported(tmp_path: Path, case: Callable[[str], str]) -> None:
    corpus = import_corpus(timit(tmp_path, case))
    assert [(u.id, u.split, u.attributes.get("core_test")) for u in corpus] == [
        ("dr1-faks0-sx90", "test", False),
        ("dr1-felc0-sx90", "test", True),
        ("dr4-maeb0-sx90", "train", None),
    ]
    utterance = corpus[2]
    assert (utterance.text, utterance.speaker) == ("Tea, please.", "maeb0")
    assert utterance.tiers == {"phone": [(0, 0.05, "h#"), (0.05, 0.1, "t")], "word": [(0.05, 0.1, "tea")]}
    assert utterance.attributes == {"sentence_type": "sx", "gender": "m", "dialect": 4, "split": "train"}
    np.testing.assert_array_equal(load_audio(utterance)[0], ramp(1600))
    without = import_corpus(tmp_path, tiers=False)[2]
    assert (without.tiers, without.attributes) == ({}, utterance.attributes)


def test_timit_as_nltk_distributes_it_is_imported(tmp_path: Path) -> None:
    speaker = timit(tmp_path / "whole") / "TIMIT" / "TRAIN" / "DR4" / "MAEB0"
    speaker.rename(tmp_path / "dr4-maeb0")
    shutil.rmtree(tmp_path / "whole")
    (nltk,) = import_corpus(tmp_path)
    assert (nltk.id, nltk.speaker, nltk.dialect, nltk.gender) == ("dr4-maeb0-sx90", "maeb0", 4, "m")


def test_the_core_test_set_is_two_men_and_a_woman_of_eight_dialects() -> None:
    assert len(CORE_TEST_SPEAKERS) == 24
    assert Counter(speaker[0] for speaker in CORE_TEST_SPEAKERS) == {"m": 16, "f": 8}


def test_tables_are_imported(tmp_path: Path) -> None:
    for place in (table(tmp_path), tmp_path / "train.tsv"):
        corpus = import_corpus(place)
        (utterance,) = corpus
        assert (utterance.id, utterance.text, utterance.speaker) == ("x", "Said, so", "jo")
        assert utterance.attributes == {"age": "twenties", "duration": 0.1}
        assert [p.line for p in corpus.problems] == [3, 4, 5]
        assert ["more or fewer fields" in p.what for p in corpus.problems] == [False, True, True]
    (tmp_path / "dev.csv").write_text("id,wav\n1,x\n")
    with pytest.raises(BadOption, match=r"several tables\n.*dev\.csv, train\.tsv"):
        import_corpus(tmp_path)
    (tmp_path / "odd.csv").write_text("a;b\n")
    with pytest.raises(BadInput, match="no column for the recordings"):
        import_corpus(tmp_path / "odd.csv")


JSON_ROWS = [
    {"audio_filepath": "clips/x.wav", "duration": 0.1, "text": "said so", "offset": 0.0, "lang": "en"},
    {"id": 7, "audio": "clips/x.wav", "transcript": "again", "speaker_id": "jo", "tiers": {"word": [[0, 0.1, "a"]]}},
    {"audio_filepath": "clips/none.wav", "text": "lost"},
    {"text": "no recording"},
    {"audio": ["x"], "text": "odd"},
]


@pytest.mark.parametrize("name", ["train.jsonl", "train.jsonl.gz", "manifest.json"])
def test_json_lines_are_imported(tmp_path: Path, name: str) -> None:
    write_audio(tmp_path / "clips" / "x.wav")
    data = "".join(json.dumps(row) + "\n" for row in JSON_ROWS).encode() + b'{"audio"\n'
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    for place in (tmp_path / name, *([tmp_path] if "jsonl" in name else [])):
        corpus = import_corpus(place)
        assert [(u.id, u.text, u.speaker) for u in corpus] == [("x", "said so", None), ("7", "again", "jo")]
        assert corpus[0].attributes == {"duration": 0.1, "offset": 0.0, "lang": "en"}
        assert corpus[1].tiers == {"word": [(0, 0.1, "a")]}
        assert [p.line for p in corpus.problems] == [3, 4, 5, 6]
    assert import_corpus(tmp_path / name, tiers=False)[1].tiers == {}


def test_a_packed_file_that_breaks_off_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"audio": "a.wav"}\n' * 99)[:-12])
    with pytest.raises(BadInput, match=r"a\.jsonl\.gz cannot be read[\s\S]*copy it again"):
        import_corpus(tmp_path / "a.jsonl.gz")


def test_a_table_may_name_channels(tmp_path: Path) -> None:
    write_audio(tmp_path / "x.wav", np.stack([ramp(100), -ramp(100)], axis=1))
    (tmp_path / "x.csv").write_text("id,audio,text,channel\na,x.wav,SO,1\nb,x.wav,NO,0\nc,x.wav,NO,left\n")
    corpus = import_corpus(tmp_path)
    np.testing.assert_array_equal([load_audio(u)[0] for u in corpus], [-ramp(100), ramp(100)])
    assert "channel is no number" in corpus.problems[0].what


def test_a_layout_is_guessed_or_asked_for(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no corpus of a layout known here"):
        import_corpus(tmp_path)
    with pytest.raises(BadInput, match="there is no folder"):
        import_corpus(tmp_path / "none")
    librispeech(tmp_path)
    timit(tmp_path)
    (tmp_path / "notes.csv").write_text("a,b\n")
    with pytest.raises(BadOption, match="'librispeech' and 'timit'"):
        import_corpus(tmp_path)
    assert len(import_corpus(tmp_path, "timit")) == 3
    with pytest.raises(BadInput, match="does not look like kaldi"):
        import_corpus(tmp_path, "kaldi")
    with pytest.raises(BadOption, match="did you mean 'librispeech'"):
        import_corpus(tmp_path, "librispech")
    with pytest.raises(BadOption, match=r"timit has its recordings beside its texts[\s\S]*switchboard and hub5"):
        import_corpus(tmp_path, "timit", audio=tmp_path)


def test_folders_put_together_by_links_are_walked_once(tmp_path: Path) -> None:
    librispeech(tmp_path / "disc")
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "one").symlink_to(tmp_path / "disc")
    (tmp_path / "disc" / "again").symlink_to(tmp_path / "disc")
    corpus = import_corpus(tmp_path / "corpus")
    # The problem is the recording that the fixture leaves out.
    assert (len(corpus), len(corpus.problems)) == (2, 1)


def test_an_imported_corpus_becomes_a_manifest(tmp_path: Path) -> None:
    corpus = import_corpus(timit(tmp_path))
    write_manifest(corpus, tmp_path / "manifest.jsonl")
    assert [vars(u) for u in read_corpus(tmp_path)] == [vars(u) for u in corpus]
    (tmp_path / "TIMIT" / "TRAIN" / "DR4" / "MAEB0" / "SX90.TXT").unlink()
    (problem,) = import_corpus(tmp_path, "timit").problems
    assert (problem.id, "no text" in problem.what) == ("dr4-maeb0-sx90", True)


@pytest.mark.real
def test_real_transcripts_agree_with_the_manifest(real_data: Path) -> None:
    folder = real_data / "librispeech-slice"
    corpus = read_corpus(folder)
    imported = import_corpus(folder)
    assert [(u.id, u.audio, u.text, u.speaker) for u in imported] == [
        (u.id, u.audio, u.text, u.speaker) for u in corpus
    ]


def test_the_command_and_the_page_name_every_format() -> None:
    page = (Path(__file__).parents[1] / "docs" / "corpora.md").read_text(encoding="utf-8")
    command = inspect.signature(corpus_import).parameters["format"].annotation
    for name in FORMATS:
        assert f"| `{name}` |" in page
        assert name in str(command)


def test_the_command_takes_recordings_from_elsewhere_and_counts_silence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_sphere(tmp_path / "audio" / "en_1.sph", np.stack([ramp(8000), -ramp(8000)], axis=1))
    (tmp_path / "x.stm").write_text("en_1 B s 0.25 0.5 <O,en,F> YES\nen_1 A s 0 1 <O,en,F> @\n")
    out = tmp_path / "out.jsonl"
    corpus_import(tmp_path / "x.stm", out, audio=tmp_path / "audio", tiers=False)
    assert f"{out}: 1 utterances; 1 stretches in which nothing is said" in capsys.readouterr().out
    (utterance,) = read_corpus(out)
    assert (utterance.channel, len(load_audio(utterance)[0])) == (1, 2000)
