"""Switchboard and Hub5'00 in small: LDC's folders, two-channel µ-law SPHERE, the transcripts' own notation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from recordings import write_sphere

from otoscope.base import BadInput, BadOption
from otoscope.hear.corpus import Utterance, load_audio, read_corpus, select, write_manifest
from otoscope.hear.readers import import_corpus
from otoscope.hear.switchboard import ldc_text, stm_text, switchboard_text
from otoscope.hear.validate import validate

RATE = 8000
SIDES = np.stack([0.5 * np.sin(np.arange(2 * RATE) / 5), 0.3 * np.sin(np.arange(2 * RATE) / 9)], axis=1)


def switchboard(root: Path) -> Path:
    write_sphere(root / "swb1_d1" / "data" / "sw02001.sph", SIDES)
    talk = root / "swb_ms98_transcriptions" / "20" / "2001"
    talk.mkdir(parents=True)
    (talk / "sw2001A-ms98-a-trans.text").write_text(
        "sw2001A-ms98-a-0001 0.000000 0.250000 [silence]\n"
        "sw2001A-ms98-a-0002 0.250000 0.750000 hi um [noise] yeah [laughter-i'd] like to th[at]-\n"
        "sw2001A-ms98-a-0003 0.750000 1.000000 [laughter] [vocalized-noise]\n"
        "sw2001A-ms98-a-0004 soon 1.5 yes\n"
    )
    (talk / "sw2001A-ms98-a-word.text").write_text(
        "sw2001A-ms98-a-0001 0.000000 0.250000 [silence]\n"
        "sw2001A-ms98-a-0002 0.250000 0.350000 hi\n"
        "sw2001A-ms98-a-0002 0.350000 0.375000 [noise]\n"
        "sw2001A-ms98-a-0002 0.375000 0.500000 [laughter-i'd]\n"
    )
    (talk / "sw2001B-ms98-a-trans.text").write_text(
        "sw2001B-ms98-a-0001 0.500000 1.500000 <b_aside> okay <e_aside> go\nsw2001B-ms98-a-0002 1.5 2.0\n"
    )
    (root / "swb_ms98_transcriptions" / "sw-ms98-dict.text").write_text("a ax\n")
    return root


def hub5(root: Path) -> Path:
    """LDC2002S09 and LDC2002T43 side by side."""
    for name in ("en_4156", "sw_4390"):
        write_sphere(root / "LDC2002S09" / "hub5e_00" / "english" / f"{name}.sph", SIDES)
    (root / "LDC2002S09" / "hub5e_00" / "english" / "hub5e_00.pem").write_text("en_4156 A unknown_speaker 0.5 1.0\n")
    reference = root / "LDC2002T43" / "reference"
    (reference / "english").mkdir(parents=True)
    (reference / "hub5e00.english.000405.stm").write_text(
        ';; LABEL "en" "CallHome" ""\n'
        "en_4156 A en_4156_A 0.50 1.00 <O,en,F,en-F>  HE IS (%HESITATION) A (PO-) POLICE OFFICER\n"
        "en_4156 B en_4156_B 1.00 1.25 <O,en,M,en-M>  <B_ASIDE> { YEAH / YES } <E_ASIDE>\n"
        "sw_4390 A sw_4390_A 0.25 0.75 <O,sw,F,sw-F>  UH-HUH\n"
        "sw_4390 B inter_segment_gap 0.00 1.00 <O,sw,,>\n"
        "sw_4390 B sw_4390_B 1.00 1.50 <O,sw,M,sw-M>  IGNORE_TIME_SEGMENT_IN_SCORING\n"
        "sw_4390 C sw_4390_C 1.00 1.50 <O,sw,M,sw-M>  WHO\n"
    )
    (reference / "english" / "en_4156.txt").write_text(
        "#Language: eng\n#File id: 4156\n\n"
        "0.50 1.00 A: %um, <contraction e_form=\"[he=>he]['s=>is]\">he's a ((police)) off-\n"
        "1.00 1.25 B: {breath} [[hangs up]]\nno times\n"
    )
    return root


def test_each_side_of_switchboard_is_a_channel(tmp_path: Path) -> None:
    corpus = import_corpus(switchboard(tmp_path))
    assert [(u.id, u.text, u.speaker, u.channel) for u in corpus] == [
        ("sw2001A-ms98-a-0002", "hi um yeah i'd like to th-", "sw02001-A", 0),
        ("sw2001B-ms98-a-0001", "okay go", "sw02001-B", 1),
    ]
    assert corpus.passed_over == 3
    assert [(p.line, "cannot be read" in p.what) for p in corpus.problems] == [(4, True)]
    first, second = corpus
    assert first.tiers == {"word": [(0.0, 0.1, "hi"), (0.125, 0.25, "i'd")]}
    assert first.transcript == "hi um [noise] yeah [laughter-i'd] like to th[at]-"
    assert (first.offset, first.duration, first.conversation) == (0.25, 0.5, "2001")
    np.testing.assert_allclose(load_audio(first)[0], SIDES[2000:6000, 0], atol=0.02)
    np.testing.assert_allclose(load_audio(second)[0], SIDES[4000:12_000, 1], atol=0.02)
    assert import_corpus(tmp_path, tiers=False)[0].tiers == {}
    # And through a manifest.
    write_manifest(corpus, tmp_path / "manifest.jsonl")
    assert [vars(u) for u in read_corpus(tmp_path)] == [vars(u) for u in corpus]
    report = validate(tmp_path)
    assert (report.ok, report.utterances, report.sample_rates) == (True, 2, {RATE: 2})


def test_callers_are_the_speakers_where_ldcs_tables_are_there(tmp_path: Path) -> None:
    switchboard(tmp_path)
    (tmp_path / "call_con_tab.csv").write_text('2001, "A", 1117, 0, ""\n2001, "B", 1124, 0, ""\n')
    (tmp_path / "caller_tab.csv").write_text(
        '1117, 32, "N", "FEMALE", 1959, "NEW ENGLAND", 2\n1124, 33, "Y", "MALE", , "UNK", 2\n'
    )
    first, second = import_corpus(tmp_path)
    assert (first.speaker, first.gender, first.birth_year, first.dialect) == ("1117", "f", 1959, "new england")
    assert (second.speaker, second.gender, "birth_year" in second.attributes) == ("1124", "m", False)


def test_transcripts_and_recordings_may_lie_apart(tmp_path: Path) -> None:
    switchboard(tmp_path)
    (tmp_path / "swb1_d1").rename(tmp_path / "discs")
    transcripts = tmp_path / "swb_ms98_transcriptions"
    assert len(import_corpus(transcripts, audio=tmp_path / "discs")) == 2
    with pytest.raises(BadInput, match=r"transcripts, but no recordings[\s\S]*--audio FOLDER"):
        import_corpus(transcripts)
    with pytest.raises(BadInput, match=r"there is no folder .*nowhere"):
        import_corpus(transcripts, audio=tmp_path / "nowhere")
    (tmp_path / "discs" / "data" / "sw02001.sph").rename(tmp_path / "discs" / "data" / "sw02005.sph")
    with pytest.raises(BadInput, match=r"there is no recording .*sw02001\.sph"):
        import_corpus(transcripts, audio=tmp_path / "discs")


@pytest.mark.parametrize("whole", [True, False])
def test_hub5_tells_swbd_and_callhome_apart(tmp_path: Path, whole: bool) -> None:
    hub5(tmp_path)
    stm = tmp_path / "LDC2002T43" / "reference" / "hub5e00.english.000405.stm"
    corpus = import_corpus(tmp_path) if whole else import_corpus(stm, audio=tmp_path / "LDC2002S09")
    assert [(u.id, u.text, u.subset, u.gender, u.channel) for u in corpus] == [
        ("en_4156-A_000050-000100", "HE IS A PO- POLICE OFFICER", "callhome", "f", 0),
        ("en_4156-B_000100-000125", "YEAH", "callhome", "m", 1),
        ("sw_4390-A_000025-000075", "UH-HUH", "swbd", "f", 0),
    ]
    assert corpus.passed_over == 2
    assert [p.line for p in corpus.problems] == [7]
    assert [u.speaker for u in select(corpus, "subset=callhome")] == ["en_4156-A", "en_4156-B"]
    np.testing.assert_allclose(load_audio(corpus[1])[0], SIDES[8000:10_000, 1], atol=0.02)


def test_hub5_is_read_from_ldcs_own_transcripts_where_there_is_no_stm(tmp_path: Path) -> None:
    stm = hub5(tmp_path) / "LDC2002T43" / "reference" / "hub5e00.english.000405.stm"
    (stm.parent / "other.stm").write_text("")
    with pytest.raises(BadOption, match=r"several tables[\s\S]*hub5e00\.english\.000405\.stm, other\.stm"):
        import_corpus(tmp_path)
    stm.unlink()
    (stm.parent / "other.stm").unlink()
    corpus = import_corpus(tmp_path)
    assert [(u.id, u.text, u.subset) for u in corpus] == [
        ("en_4156-A_000050-000100", "um, he's a police off-", "callhome")
    ]
    assert (corpus.passed_over, [p.line for p in corpus.problems]) == (1, [6])


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("[silence]", ""),
        ("[noise] [vocalized-noise] [laughter]", ""),
        ("well <b_aside> come here <e_aside> so", "well come here so"),
        ("[laughter-story] [laughter-th[at]-]", "story th-"),
        ("[it'n/isn't] [lem[guini]-/linguini]", "it'n lem-"),
        ("ab[solute]- -[an]y ammu[n]it-", "ab- -y ammu-it-"),
        ("ex[specially]-/especially]", "ex-"),
        ("{yuppiedom} them_1 them_1's", "yuppiedom them them's"),
        ("i- i'm uh-huh -", "i- i'm uh-huh"),
    ],
)
def test_words_of_switchboard_are_what_was_said(written: str, said: str) -> None:
    """The examples are those in the comments of Kaldi's recipe for Switchboard, s5c."""
    assert switchboard_text(written) == said


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("{ UM / UH / @ } SO", "UM SO"),
        ("A { B { C / D } / E } F", "A B C F"),
        ("{ @ / UH } (TH-) (%HESITATION) %HESITATION THE", "TH- THE"),
        ("so;tag1 <B_ASIDE> yes", "so yes"),
        ("ignore_time_segment_in_scoring", ""),
    ],
)
def test_segments_of_an_stm_file_are_what_was_said(written: str, said: str) -> None:
    assert stm_text(written) == said


def test_ldcs_notation_is_taken_off() -> None:
    assert ldc_text("%uh, &John **rode** +his+ ~FBI // aside // (( )) {laugh} [noise] bike -- --") == (
        "uh, John rode his FBI aside bike"
    )
    assert ldc_text('<as spa="x"> hm </as> -cause ((th-)) ((two words))') == "hm -cause th- two words"


def test_sphere_files_that_cannot_be_read_whole_are_refused(tmp_path: Path) -> None:
    whole = write_sphere(tmp_path / "x.sph", SIDES)
    data = whole.read_bytes()
    (tmp_path / "cut.sph").write_bytes(data[:-1000])
    with pytest.raises(BadInput, match="breaks off after 15500 of 16000 samples"):
        load_audio(Utterance("u", tmp_path / "cut.sph"))
    (tmp_path / "packed.sph").write_bytes(data.replace(b"-s4 ulaw", b"-s26 ulaw,embedded-shorten-v2.00"))
    with pytest.raises(BadInput, match=r"packed with shorten[\s\S]*sph2pipe"):
        load_audio(Utterance("u", tmp_path / "packed.sph"))
    (tmp_path / "all.sph").write_bytes(data.replace(b"sample_count -i 16000", b"sample_count -i 32000"))
    assert len(load_audio(Utterance("u", tmp_path / "all.sph", channel=1))[0]) == 2 * RATE
