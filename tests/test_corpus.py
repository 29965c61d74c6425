from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from praatio import textgrid
from recordings import RATE, ramp, row, write_audio, write_rows

from otoscope.base import BadInput, BadOption
from otoscope.hear.corpus import (
    Corpus,
    Segment,
    Utterance,
    corpus_fingerprint,
    read_corpus,
    select,
    write_manifest,
)
from otoscope.hear.tiers import read_textgrid
from otoscope.hear.utterance import duration_s


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_audio(tmp_path / "a.wav")
    return tmp_path


def test_a_manifest_is_read_again_and_again(folder: Path) -> None:
    rows = [
        row("a", speaker=19, sample_rate=RATE, gender="f"),
        row("b", text="NO", tiers={"word": [[0.0, 0.05, "no"]]}),
    ]
    manifest = write_rows(folder, rows[0], "", rows[1])
    for place in (manifest, str(manifest), folder):
        corpus = read_corpus(place)
        assert [u.id for u in corpus] == [u.id for u in corpus] == ["a", "b"]
        assert (len(corpus), corpus[1].text, corpus[-1].tiers) == (2, "NO", {"word": [Segment(0.0, 0.05, "no")]})
        assert (corpus[0].speaker, corpus[0].sample_rate, corpus[0].gender) == ("19", RATE, "f")
        assert corpus[0].audio == folder / "a.wav"
        assert isinstance(corpus[:1], Corpus)
        assert corpus.problems == []


def test_reading_opens_no_recording(folder: Path) -> None:
    (folder / "a.wav").write_text("not a recording")
    assert len(read_corpus(write_rows(folder, row()))) == 1


def test_label_files_become_tiers_in_seconds(folder: Path) -> None:
    (folder / "a.phn").write_text("0 800 h#\n800 1600 t\n")
    (folder / "a.wrd").write_text("800 1600 tea\n")
    expected = {"phone": [(0.0, 0.05, "h#"), (0.05, 0.1, "t")], "word": [(0.05, 0.1, "tea")]}
    corpus = read_corpus(
        write_rows(
            folder,
            row("rate given", phones="a.phn", words="a.wrd", sample_rate=RATE),
            row("rate of the recording", phones="a.phn", words="a.wrd"),
            row("in tiers", tiers={"phone": "a.phn", "word": "a.wrd"}),
            row("none", phones=None, words=None),
            row("not files", phones=["T"]),
        )
    )
    assert [u.tiers for u in corpus] == [expected, expected, expected, {}, {}]
    assert "phones" not in corpus[0].attributes
    assert corpus[4].phones == ["T"]


@pytest.mark.parametrize("format", ["long_textgrid", "short_textgrid"])
def test_textgrids_are_read_and_cut_ones_refused(folder: Path, format: Any) -> None:
    grid = textgrid.Textgrid()
    grid.addTier(textgrid.IntervalTier("words", [(0.02, 0.08, "tea")], 0, 0.1))
    grid.addTier(textgrid.IntervalTier("phones", [(0.02, 0.05, "T"), (0.05, 0.08, 'I"')], 0, 0.1))
    grid.addTier(textgrid.PointTier("tones", [(0.03, "H*")], 0, 0.1))
    path = folder / "a.TextGrid"
    grid.save(str(path), format=format, includeBlankSpaces=True)
    corpus = read_corpus(write_rows(folder, row(phones="a.TextGrid", words="a.TextGrid")))
    phones = [(0, 0.02, ""), (0.02, 0.05, "T"), (0.05, 0.08, 'I"'), (0.08, 0.1, "")]
    assert corpus[0].tiers == {"phone": phones, "word": [(0, 0.02, ""), (0.02, 0.08, "tea"), (0.08, 0.1, "")]}
    text = path.read_text()
    path.write_text(text[: text.index("tea") + 5])
    with pytest.raises(BadInput, match=r"TextGrid.*(cut short|cannot be read)"):
        read_textgrid(path)
    path.write_text("nonsense")
    with pytest.raises(BadInput, match="save it again"):
        read_textgrid(path)


def test_ctm_files_add_tiers_to_the_utterances_they_have(folder: Path) -> None:
    (folder / "align.ctm").write_text(";; made by hand\na 1 0.00 0.04 SIL\na 1 0.04 0.03 T 0.9\n")
    manifest = write_rows(folder, row("a"), row("b"))
    for path in ("align.ctm", folder / "align.ctm"):
        corpus = read_corpus(manifest, ctm={"phone": path})
        assert corpus[0].tiers == {"phone": [(0.0, 0.04, "SIL"), (0.04, 0.07, "T")]}
        assert corpus[1].tiers == {}
    with pytest.raises(BadInput, match="none of the corpus's utterances"):
        read_corpus(write_rows(folder, row("z")), ctm={"phone": "align.ctm"})
    (folder / "bad.ctm").write_text("a 1 0.00 0.04 SIL\na 1 soon\n")
    with pytest.raises(BadInput, match=r"line 2 of .*bad\.ctm"):
        read_corpus(manifest, ctm={"phone": "bad.ctm"})
    with pytest.raises(BadInput, match="there is no label file"):
        read_corpus(manifest, ctm={"phone": "none.ctm"})


BAD_ROWS: dict[str, tuple[dict[str, Any] | str, str]] = {
    "broken": ('{"id": "x", ', "not JSON"),
    "a list": ("[1, 2]", "no JSON object"),
    "deep": ("[" * 100_000, "not JSON"),
    "not text": ('{"id": "x", "audio": "a.wav", "text": "\udcff"}', "not JSON"),
    "no id": ({"audio": "a.wav", "text": "SO"}, "there is no id"),
    "empty id": (row(" "), "there is no id"),
    "id twice": (row("good"), "that of line 1 too"),
    "no text": (row(text=None), "there is no text"),
    "blank text": (row(text="  "), "there is no text"),
    "number for text": (row(text=7), "the text is no text"),
    "no audio": (row(audio=None), "there is no audio"),
    "missing audio": (row(audio="b.wav"), "there is no recording"),
    "empty audio": (row(audio="empty.wav"), "is empty"),
    "odd path": (row(audio="a\0.wav"), "there is no recording"),
    "rate 0": (row(sample_rate=0), "a sample rate of 0"),
    "bad tier": (row(tiers={"phone": [[0.2, 0.1, "T"]]}), "ends before it starts"),
    "no tiers": (row(tiers=[1]), "the tiers are no object"),
    "tier of one": (row(tiers={"phone": 3}), "is no list"),
    "missing labels": (row(phones="none.phn"), "there is no label file"),
    "bad labels": (row(phones="bad.phn"), "line 2 of"),
    "bad offset": (row(offset_samples=1.5), "offset_samples is no use"),
    "no length": (row(offset=0.0, duration=0), "duration is no use"),
    "features": (row(features="a.npy"), "features cannot stand"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_bad_row_is_named_counted_and_left_out(folder: Path, name: str) -> None:
    (folder / "empty.wav").write_bytes(b"")
    (folder / "bad.phn").write_text("0 10 h#\nten 20 t\n")
    bad, message = BAD_ROWS[name]
    text = "\n".join(r if isinstance(r, str) else json.dumps(r) for r in (row("good"), bad, row("other")))
    manifest = folder / "manifest.jsonl"
    manifest.write_bytes(text.encode("utf-8", errors="surrogateescape"))
    corpus = read_corpus(manifest)
    assert [u.id for u in corpus] == ["good", "other"]
    (problem,) = corpus.problems
    assert problem.line == 2
    assert message in problem.what
    assert str(problem).startswith("line 2")
    assert str(problem).count("utterance ") <= 1
    assert "1 rows left out" in repr(corpus)
    with pytest.raises(BadInput, match=r"line 2 of .*manifest\.jsonl"):
        read_corpus(manifest, strict=True)


def test_rows_without_text_are_kept_where_none_is_needed(folder: Path) -> None:
    manifest = write_rows(folder, row("a", text=None), row("b"))
    assert [u.text for u in read_corpus(manifest, need_text=False)] == ["", "SO"]


def test_a_manifest_with_nothing_usable_is_refused(folder: Path) -> None:
    with pytest.raises(BadInput, match=r"no manifest .*none\.jsonl"):
        read_corpus(folder / "none.jsonl")
    with pytest.raises(BadInput, match=r"no usable utterance\n.*line 1, utterance a: there is no text"):
        read_corpus(write_rows(folder, row(text="")))
    with pytest.raises(BadInput, match="nothing at all"):
        read_corpus(write_rows(folder))


def test_a_manifest_of_2000_rows_is_read_well_under_a_second(folder: Path) -> None:
    tiers = {"phone": [[i / 100, (i + 1) / 100, "T"] for i in range(20)]}
    manifest = write_rows(folder, *(row(f"u{n}", tiers=tiers, speaker=n % 7) for n in range(2000)))
    start = time.process_time()
    assert len(read_corpus(manifest)) == 2000
    assert time.process_time() - start < 1.0


def test_written_manifests_give_the_same_utterances_back(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = write_audio(tmp_path_factory.mktemp("elsewhere") / "b.flac", 700)
    utterances = [
        Utterance(
            "a", folder / "a.wav", RATE, "SÖ", "ann", {"phone": [(0.1, 1 / 3, "T")]}, age=np.int64(6), noise=None
        ),
        Utterance("b", elsewhere, text="NO", offset_samples=10, num_samples=20),
    ]
    write_manifest(utterances, folder / "new" / "manifest.jsonl")
    write_manifest(utterances, folder / "manifest.jsonl")
    first, second = (json.loads(line) for line in (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines())
    assert list(first) == ["id", "audio", "text", "speaker", "age", "noise", "sample_rate", "tiers"]
    assert (first["audio"], second["audio"]) == ("a.wav", str(elsewhere))
    for manifest in (folder / "manifest.jsonl", folder / "new" / "manifest.jsonl"):
        assert [vars(u) for u in read_corpus(manifest)] == [vars(u) for u in utterances]
        assert corpus_fingerprint(read_corpus(manifest)) == corpus_fingerprint(utterances)


def test_what_a_manifest_cannot_hold_is_refused_and_the_old_one_stays(folder: Path) -> None:
    manifest = write_rows(folder, row())
    before = manifest.read_bytes()
    good = Utterance("a", folder / "a.wav")
    for bad, message in (
        (Utterance("b", np.zeros(3), RATE), "utterance b: a manifest names recordings"),
        (good.replace(text="AGAIN"), "two utterances have the id 'a'"),
        (Utterance("b", folder / "a.wav", odd=object()), "utterance b: an attribute cannot"),
        (Utterance("b", folder / "a.wav", snr=float("inf")), "utterance b: an attribute cannot"),
    ):
        with pytest.raises(BadInput, match=message):
            write_manifest([good, bad], manifest)
    assert manifest.read_bytes() == before
    assert not list(folder.glob(".manifest*"))


def some() -> list[Utterance]:
    people = [
        ("ann", 6, True, "test"),
        ("bob", 12, False, "train"),
        ("cy", 40, True, "train"),
        ("007", None, None, None),
    ]
    return [
        Utterance(
            name, "a.wav", text="X", speaker=name, **({} if age is None else {"age": age, "native": nat, "split": s})
        )
        for name, age, nat, s in people
    ]


@pytest.mark.parametrize(
    ("where", "chosen"),
    [
        ("split=test", "ann"),
        ("split!=test", "bob cy 007"),
        ("speaker=ann, bob", "ann bob"),
        ("speaker!=ann,bob", "cy 007"),
        ("speaker=007", "007"),
        ("native=true", "ann cy"),
        ("age=12.0", "bob"),
        ("age<12", "ann"),
        ("age<=12", "ann bob"),
        ("age>12", "cy"),
        ("age >= 12; native = true", "cy"),
        (["age>=12", "split=train"], "bob cy"),
        ("", "ann bob cy 007"),
        ("id=cy", "cy"),
    ],
)
def test_utterances_are_chosen_by_their_attributes(where: str | list[str], chosen: str) -> None:
    assert [u.id for u in select(some(), where)] == chosen.split()


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("split", "no condition"),
        ("splt=test", "did you mean 'split'"),
        ("split=dev", r"(?s)no utterance fulfils 'split=dev'.*values of split: test, train"),
        ("age<young", "only numbers"),
        ("age<5,6", "only numbers"),
        ("speaker=7", "values of speaker: ann, bob, cy, 007"),
    ],
)
def test_conditions_that_cannot_be_are_explained(where: str, message: str) -> None:
    with pytest.raises(BadOption, match=message):
        select(some(), where)


def test_a_choice_keeps_the_problems(folder: Path) -> None:
    corpus = read_corpus(write_rows(folder, row("a", split="test"), "{", row("b", split="train")))
    assert select(corpus, "split=test").problems == corpus.problems != []


def test_the_fingerprint_changes_with_whatever_matters(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    base = Utterance("a", folder / "a.wav", text="SO", tiers={"phone": [(0, 0.1, "S")]}, gender="f")
    other = Utterance("b", ramp(9), RATE)
    longer = write_audio(tmp_path_factory.mktemp("longer") / "a.wav", 1700)
    variants = [
        base,
        base.replace(id="c"),
        base.replace(text="SEW"),
        base.replace(speaker="ann"),
        base.replace(tiers={"phone": [(0, 0.1, "Z")]}),
        base.replace(tiers={"phone": [(0, 0.11, "S")]}),
        base.replace(audio=longer),
        base.replace(offset_samples=5),
        base.replace(audio=None, features=np.zeros((2, 3))),
        base.replace(audio=None, features=np.zeros((3, 2))),
        base.replace(audio=ramp(8), sample_rate=RATE),
        base.replace(audio=ramp(8)[::-1], sample_rate=RATE),
    ]
    assert len({corpus_fingerprint([variant, other]) for variant in variants}) == len(variants)
    moved = write_audio(tmp_path_factory.mktemp("moved") / "a.wav")
    same = [[base, other], [other, base], [base.replace(audio=moved, gender="m"), other]]
    assert len({corpus_fingerprint(corpus) for corpus in same}) == 1
    assert len(corpus_fingerprint([base])) == 16


def test_these_modules_import_without_torch() -> None:
    code = "import sys, otoscope.hear.readers, otoscope.hear.validate, otoscope.hear.phones; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "xarray", "pandas", "scipy"} & set(loaded)


@pytest.mark.real
def test_real_hand_alignments_are_read(real_data: Path) -> None:
    corpus = read_corpus(real_data / "timit-nltk")
    sa1 = next(u for u in corpus if u.id == "dr1-fvmh0-sa1")
    assert sa1.tiers["phone"][:2] == [(0.0, 7812 / RATE, "h#"), (7812 / RATE, 9507 / RATE, "sh")]
    assert " ".join(segment.label for segment in sa1.tiers["word"]).upper() == sa1.text
    for utterance in corpus:
        starts, ends = ([segment[side] for segment in utterance.tiers["phone"]] for side in (0, 1))
        assert starts[1:] == ends[:-1]
        assert ends[-1] <= duration_s(utterance) + 0.05


@pytest.mark.real
def test_real_alignments_from_a_ctm_file_fit_the_audio(real_data: Path) -> None:
    folder = real_data / "librispeech-slice"
    corpus = read_corpus(folder, ctm={"phone": "phones-aligned.ctm"})
    aligned = [u for u in corpus if "phone" in u.tiers]
    assert len(aligned) == 158
    for utterance in aligned:
        assert abs(utterance.tiers["phone"][-1].end_s - duration_s(utterance)) < 0.1
