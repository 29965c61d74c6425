from __future__ import annotations

from pathlib import Path

import pytest
from recordings import write_audio

from otoscope.base import BadInput, BadOption
from otoscope.hear.corpus import (
    load_audio,
    read_corpus,
    write_manifest,
)
from otoscope.hear.readers import import_corpus


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


def timit(root: Path) -> Path:
    speaker = root / "TRAIN" / "DR4" / "MAEB0"
    write_audio(speaker / "SX90.WAV")
    (speaker / "SX90.PHN").write_text("0 800 h#\n800 1600 t\n")
    (speaker / "SX90.WRD").write_text("800 1600 tea\n")
    (speaker / "SX90.TXT").write_text("0 1600 Tea, please.\n")
    return root


def kaldi(root: Path) -> Path:
    write_audio(root / "corpus" / "call.wav", 16_000)
    data = root / "data" / "test"
    data.mkdir(parents=True)
    (data / "wav.scp").write_text(f"call corpus/call.wav\nabs\t{root}/corpus/call.wav\npipe sph2pipe -f wav x.sph |\n")
    (data / "segments").write_text("ann-1 call 0.10 0.30\nbob-1 abs 0.5 -1\nbob-2 pipe 0.5 0.6\nbob-3 none 0.1 0.2\n")
    (data / "text").write_text("ann-1 HELLO THERE\nbob-1 YES\nbob-2 NO\n")
    (data / "utt2spk").write_text("ann-1 ann\nbob-1 bob\nbob-2 bob\n")
    (data / "spk2gender").write_text("ann f\nbob m\n")
    return data


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


def test_timit_is_imported(tmp_path: Path) -> None:
    (utterance,) = import_corpus(timit(tmp_path))
    assert (utterance.id, utterance.text, utterance.speaker) == ("dr4-maeb0-sx90", "Tea, please.", "maeb0")
    assert utterance.tiers == {"phone": [(0, 0.05, "h#"), (0.05, 0.1, "t")], "word": [(0.05, 0.1, "tea")]}
    assert utterance.attributes == {"sentence_type": "sx", "gender": "m", "dialect": 4, "split": "train"}
    (tmp_path / "TRAIN" / "DR4" / "MAEB0").rename(tmp_path / "dr4-maeb0")
    (nltk,) = import_corpus(tmp_path)
    assert (nltk.id, nltk.speaker, nltk.dialect, nltk.gender) == ("dr4-maeb0-sx90", "maeb0", 4, "m")


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
    (tmp_path / "data" / "test" / "segments").unlink()
    (tmp_path / "data" / "test" / "text").write_text("call HELLO\npipe NO\n")
    assert [u.id for u in import_corpus(tmp_path / "data" / "test")] == ["call"]


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


def test_a_layout_is_guessed_or_asked_for(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no corpus of a layout known here"):
        import_corpus(tmp_path)
    with pytest.raises(BadInput, match="there is no folder"):
        import_corpus(tmp_path / "none")
    librispeech(tmp_path)
    timit(tmp_path)
    with pytest.raises(BadOption, match="'librispeech' and 'timit'"):
        import_corpus(tmp_path)
    assert len(import_corpus(tmp_path, "timit")) == 1
    with pytest.raises(BadInput, match="does not look like kaldi"):
        import_corpus(tmp_path, "kaldi")
    with pytest.raises(BadOption, match="did you mean 'librispeech'"):
        import_corpus(tmp_path, "librispech")


def test_an_imported_corpus_becomes_a_manifest(tmp_path: Path) -> None:
    corpus = import_corpus(timit(tmp_path))
    write_manifest(corpus, tmp_path / "manifest.jsonl")
    assert [vars(u) for u in read_corpus(tmp_path)] == [vars(u) for u in corpus]
    (tmp_path / "TRAIN" / "DR4" / "MAEB0" / "SX90.TXT").unlink()
    with pytest.raises(BadInput, match="no text"):
        import_corpus(tmp_path)


@pytest.mark.real
def test_real_transcripts_agree_with_the_manifest(real_data: Path) -> None:
    folder = real_data / "librispeech-slice"
    corpus = read_corpus(folder)
    imported = import_corpus(folder)
    assert [(u.id, u.audio, u.text, u.speaker) for u in imported] == [
        (u.id, u.audio, u.text, u.speaker) for u in corpus
    ]
