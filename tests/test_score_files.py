"""Files of transcripts: what is read, who is scored, what is refused and how."""

from __future__ import annotations

from pathlib import Path

import pytest

from otoscope.base import BadInput, BadOption
from otoscope.learn.score import Counts
from otoscope.learn.score_files import Scores, score_files
from otoscope.learn.transcripts import Line, fold, parse_ctm, parse_stm, parse_trn, share_out

STM = """\
;; LABEL "O" "Overall" "All segments"
;; LABEL "F" "Female" "Female speakers"
call A ann 0.00 1.00 <O,F> yes { uh / @ } I see
call A ben 1.00 2.00 <O> no
call A ann 3.00 4.00 <O,F> IGNORE_TIME_SEGMENT_IN_SCORING
call B cat 0.00 5.00 hello
"""
CTM = """\
;; a comment
call a 0.10 0.20 YES 0.9
call a 0.40 0.20 I 0.8
call a 0.70 0.20 SEA 0.7
call a 0.95 0.20 NO

call a 2.40 0.20 WHAT
call a 3.10 0.20 BLAH
call b 0.00 0.30 HELLO
call b 9.00 0.30 THERE
"""


def write(folder: Path, **texts: str) -> list[Path]:
    paths = []
    for name, text in texts.items():
        paths.append(folder / name)
        paths[-1].write_text(text, encoding="utf-8")
    return paths


def trn(folder: Path, ref: str, hyp: str, **options) -> Scores:
    return score_files(*write(folder, ref=ref, hyp=hyp), **options)


def timed(folder: Path, stm: str = STM, ctm: str = CTM, **options) -> Scores:
    return score_files(*write(folder, ref=stm, hyp=ctm), format="stm-ctm", **options)


def test_utterances_and_their_speakers(tmp_path):
    ref = ";; remark\nThe cat sat (ann-1)\n\nno way (ann-2)\nhow (ben_x-1)\nnever heard (ben_x-2)\n"
    hyp = "how how (BEN_X-1)\nthe CAT sad (ann-1)\n(ann-2)\n"
    scores = trn(tmp_path, ref, hyp)
    assert scores.speakers == {"ben_x": Counts(1, 1, 1, 0, 0, 1), "ann": Counts(2, 5, 2, 1, 2, 0)}
    assert list(scores.speakers) == ["ben_x", "ann"]
    assert scores.total == Counts(3, 6, 3, 1, 2, 1)
    assert [each.id for each in scores.utterances] == ["ben_x-1", "ann-1", "ann-2"]
    assert scores.as_dict()["speakers"]["ann"]["del"] == 2
    # Only what the hypothesis has is scored, as sclite does, and the rest is named.
    (left_out,) = scores.left_out
    assert "line 6: ben_x-2 has no hypothesis" in left_out
    assert scores.as_dict()["left_out"] == 1


@pytest.mark.parametrize(
    ("speaker", "ids", "wanted"),
    [
        ("auto", ("ann-1", "ben_2"), ["ann", "ben"]),
        ("auto", ("4t0c0201", "4t1c0202"), ["4t0", "4t1"]),
        # One without a prefix: none has.
        ("auto", ("ann-1", "4t0c02"), ["ann", "4t0"]),
        ("prefix", ("a_b-1", "c_1"), ["a_b", "c"]),
        ("three", ("ann-1", "ben_2"), ["ann", "ben"]),
        ("whole", ("ann-1", "ben_2"), ["ann-1", "ben_2"]),
    ],
)
def test_what_of_an_id_is_the_speaker(tmp_path, speaker, ids, wanted):
    text = "".join(f"a ({id})\n" for id in ids)
    assert list(trn(tmp_path, text, text, speaker=speaker).speakers) == wanted


def test_case(tmp_path):
    ref, hyp = "Ärger the (a-1)\n", "ärger THE (a-1)\n"
    assert trn(tmp_path, ref, hyp).total.sub == 1
    assert trn(tmp_path, ref, hyp, case="unicode").total.sub == 0
    assert trn(tmp_path, ref, hyp, case="sensitive").total.sub == 2
    assert fold("ÄZ", "unicode") == "äz"


def test_parentheses_in_the_words_are_no_id(tmp_path):
    scores = trn(tmp_path, "b (c) d (u-1) \n", "b d (u-1)\n", optional_deletions=True)
    assert scores.total == Counts(1, 3, 3, 0, 0, 0)


def test_segments_and_what_is_heard_in_them(tmp_path):
    scores = timed(tmp_path)
    # `NO` has its middle at 1.05, in the second segment; `WHAT` lies between two and belongs to the later one, which
    # is not scored; the last segment of a channel gets all that is left, `THERE` too.
    assert scores.speakers == {
        "ann": Counts(1, 3, 2, 1, 0, 0),
        "ben": Counts(1, 1, 1, 0, 0, 0),
        "cat": Counts(1, 1, 1, 0, 0, 1),
    }
    (left_out,) = scores.left_out
    assert "line 5: to be ignored, with 2 words heard" in left_out
    assert scores.subsets == {"O": Counts(2, 4, 3, 1, 0, 0), "F": Counts(1, 3, 2, 1, 0, 0)}
    assert scores.subsets_of("ben") == {"O": Counts(1, 1, 1, 0, 0, 0)}
    assert scores.subset_names == {"O": "Overall", "F": "Female"}
    assert [each.id for each in scores.utterances] == ["ann-000", "ben-000", "cat-000"]


def test_lines_in_another_order(tmp_path):
    shuffled = "\n".join(reversed(CTM.splitlines()))
    assert timed(tmp_path, "\n".join(reversed(STM.splitlines())), shuffled).total == timed(tmp_path).total


def test_alternations_in_time(tmp_path):
    ctm = """\
call A 0.10 0.20 yes
call A * * <ALT_BEGIN>
call A 0.40 0.20 eye
call A * * <ALT>
call A 0.40 0.10 I
call A 0.50 0.10 see
call A * * <ALT>
call A * * <ALT_END>
call A 1.10 0.20 no
call B 0.10 0.20 hello
"""
    assert timed(tmp_path, ctm=ctm).total == Counts(3, 5, 5, 0, 0, 0)
    stm = "call A ann 0 1 yes { uh / @ }\ncall A ben 1 2 no\ncall B cat 0 5 hello\n"
    assert timed(tmp_path, stm, ctm).total == Counts(3, 3, 3, 0, 0, 0)


def test_a_recording_in_which_nothing_was_heard(tmp_path):
    scores = timed(tmp_path, ctm="call A 0.10 0.20 yes\n")
    assert scores.speakers["cat"] == Counts(1, 1, 0, 0, 1, 0)
    assert scores.remarks == (f"{tmp_path / 'hyp'}: no word for recording call, channel b: all counted as deleted",)
    assert timed(tmp_path, ctm="").total == Counts(3, 5, 0, 0, 5, 0)


def test_within_the_time_of_the_other(tmp_path):
    stm = "c A s 0 1 a\nc A s 1 2 b\nc A s 2 3 c\nc A s 3 4 d\n"
    ctm = "c A 1.1 0.2 b\nc A 2.1 0.2 x\n"
    assert timed(tmp_path, stm, ctm).total == Counts(4, 4, 1, 1, 2, 0)
    scores = timed(tmp_path, stm, ctm, within=["hypothesis"])
    assert scores.total == Counts(2, 2, 1, 1, 0, 0)
    assert len(scores.left_out) == 2
    ctm += "c A 9.1 0.2 z\n"
    assert timed(tmp_path, stm, ctm).total == Counts(4, 4, 1, 2, 1, 0)
    assert timed(tmp_path, stm, ctm, within=["reference"]).total == Counts(4, 4, 1, 1, 2, 0)


def test_the_end_of_a_segment_is_not_in_it():
    """sclite keeps ends in single precision: 1.07 becomes 1.0700000525, and a middle at 1.07 lies before it."""
    segments = parse_stm([Line("f", 1, "c A s 0 1.0 a"), Line("f", 2, "c A s 1.0 2.0 b"), Line("f", 3, "c A s 2 3 c")])
    (heard,) = parse_ctm([Line("f", 1, "c A 0.9 0.2 w")]).values()
    assert [len(words) for _, words in share_out(segments, heard)] == [0, 1, 0]
    segments = [segment._replace(end=1.07) if segment.end == 1 else segment for segment in segments]
    (heard,) = parse_ctm([Line("f", 1, "c A 1.07 0.0 w")]).values()
    assert [len(words) for _, words in share_out(segments, heard)] == [1, 0, 0]


def test_switchboard_and_callhome_are_told_apart(tmp_path):
    stm = "sw_4390 A sw_4390-A 0 1 a b\nen_4156 A en_4156_A 0 1 <O,en> c\n"
    scores = timed(tmp_path, stm, "sw_4390 A 0.1 0.1 a\nen_4156 A 0.1 0.1 x\n")
    assert scores.subsets == {
        "SWBD": Counts(1, 2, 1, 0, 1, 0),
        "O": Counts(1, 1, 0, 1, 0, 0),
        "en": Counts(1, 1, 0, 1, 0, 0),
        "Clhm": Counts(1, 1, 0, 1, 0, 0),
    }
    assert list(trn(tmp_path, "a (sw_1-A-1)\n", "a (sw_1-A-1)\n").subsets) == ["SWBD"]


def test_rules_rewrite_both(tmp_path):
    glm = write(tmp_path, glm=";; rules\n[GONNA] => [GOING TO] / [ ] __ [ ]\nUH-HUH => YES\n")[0]
    scores = trn(tmp_path, "gonna go uh-huh well-known (a-1)\n", "going to go yes well known (a-1)\n", glm=glm)
    assert scores.total == Counts(1, 6, 6, 0, 0, 0)
    kept = trn(tmp_path, "well-known (a-1)\n", "well-known (a-1)\n", glm=glm, split_hyphens=False)
    assert kept.total.words == 1
    ctm = "call A 0.1 0.9 GONNA 0.5\ncall B 0.1 0.2 hello\n"
    scores = timed(tmp_path, "call A ann 0 0.5 going\ncall A ann 0.5 2 to\ncall B cat 0 1 hello\n", ctm, glm=glm)
    # The two words share the time of the one: middles at 0.325 and 0.775.
    assert scores.total == Counts(3, 3, 3, 0, 0, 0)


def test_characters(tmp_path):
    scores = trn(tmp_path, "ab c (a-1)\n", "ab d (a-1)\n", chars=True)
    assert (scores.total, scores.unit) == (Counts(1, 3, 2, 1, 0, 0), "chars")


def test_another_encoding(tmp_path):
    for name in ("ref", "hyp"):
        (tmp_path / name).write_bytes("é (a-1)\n".encode("latin-1"))
    assert score_files(tmp_path / "ref", tmp_path / "hyp", encoding="latin-1").total.correct == 1
    with pytest.raises(BadInput, match=r"ref, line 1: bytes that are not utf-8"):
        score_files(tmp_path / "ref", tmp_path / "hyp")
    with pytest.raises(BadOption, match="unknown encoding"):
        score_files(tmp_path / "ref", tmp_path / "hyp", encoding="utf-9")


@pytest.mark.parametrize(
    ("ref", "hyp", "words"),
    [
        ("a b\n", "a (u-1)\n", r"ref, line 1: no utterance id"),
        ("a ()\n", "a (u-1)\n", r"ref, line 1: no utterance id"),
        ("a (u-1)\n\nb\n", "a (u-1)\n", r"ref, line 3: no utterance id"),
        ("a (u-1)\nb (U-1)\n", "a (u-1)\n", r"ref, line 2: utterance u-1 stands on line 1, too"),
        ("a (u-1)\n", "a (u-1)\na (u-1)\n", r"hyp, line 2: utterance u-1 stands on line 1, too"),
        ("a (u-1)\n", "a (u-1)\na (u-2)\na (u-3)\n", r"hyp, line 2: no reference for u-2 and 1 more"),
        ("", "a (u-1)\n", r"ref has no utterance"),
        (";; nothing\n", "a (u-1)\n", r"ref has no utterance"),
        ("a (u-1)\n", "", r"hyp has no utterance"),
        ("{ a / b (u-1)\n", "a (u-1)\n", r"ref, line 1: an alternation is not closed"),
        ("a } b (u-1)\n", "a (u-1)\n", r"ref, line 1: a brace that is not one"),
        ("a (u-1)\n", "{ } (u-1)\n", r"hyp, line 1: an alternation without a choice"),
    ],
)
def test_bad_transcripts_are_refused(tmp_path, ref, hyp, words):
    with pytest.raises(BadInput, match=words):
        trn(tmp_path, ref, hyp)


@pytest.mark.parametrize(
    ("stm", "ctm", "words"),
    [
        ("c A s 0\n", "", r"ref, line 1: 4 fields"),
        ("c A s 0 one a\n", "", r"ref, line 1: the end is no time"),
        ("c A s nan 1 a\n", "", r"ref, line 1: the start is no time"),
        ("c A s 2 1 a\n", "", r"ref, line 1: the segment ends before it starts"),
        ("", "", r"ref has no segment"),
        ("c A s 0 1 { a\n", "", r"ref, line 1: an alternation is not closed"),
        ("c A s 0 1 a\n", "c A 0 1\n", r"hyp, line 1: 4 fields"),
        ("c A s 0 1 a\n", "c A 0 -1 a\n", r"hyp, line 1: a negative duration"),
        ("c A s 0 1 a\n", "c A 0 x a\n", r"hyp, line 1: the duration is no time"),
        ("c A s 0 1 a\n", "c A 0 1 a\nc B 0 1 a\n", r"hyp, line 2: no reference for recording c, channel b"),
        ("c A s 0 1 a\n", "c A * * <ALT>\n", r"hyp, line 1: no alternation is open"),
        ("c A s 0 1 a\n", "c A * * <ALT_BEGIN>\nc A 0 1 a\n", r"hyp, line 1: the alternation is not closed"),
        ("c A s 0 1 a\n", "c A * * <ALT_BEGIN>\nc A * * <ALT_BEGIN>\n", r"hyp, line 2: the alternation of line 1"),
        ("c A s 0 1 IGNORE_TIME_SEGMENT_IN_SCORING\n", "c A 0 1 a\n", r"nothing is left to score"),
    ],
)
def test_bad_times_are_refused(tmp_path, stm, ctm, words):
    with pytest.raises(BadInput, match=words):
        timed(tmp_path, stm, ctm)


def test_bad_options_are_refused(tmp_path):
    paths = write(tmp_path, ref="a (u-1)\n", hyp="a (u-1)\n")
    for options in ({"format": "ctm"}, {"case": "lower"}, {"speaker": "spu"}, {"within": ["ref"]}):
        with pytest.raises(BadOption, match="unknown"):
            score_files(*paths, **options)
    with pytest.raises(BadInput, match="nowhere cannot be read"):
        score_files(tmp_path / "nowhere", paths[1])
    with pytest.raises(BadInput, match="does not name its speaker"):
        trn(tmp_path, "a (u1)\n", "a (u1)\n", speaker="prefix")


def test_an_empty_reference_utterance_counts(tmp_path):
    assert trn(tmp_path, "(u-1)\n", "a b (u-1)\n").total == Counts(1, 0, 0, 0, 0, 2)
    assert list(parse_trn([Line("f", 1, "( U-1 )")])) == ["u-1"]
