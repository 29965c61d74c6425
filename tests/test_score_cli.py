"""`otoscope score --ref --hyp` as a user meets it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from otoscope.__main__ import main

REF = "The cat sat (ann-1)\n(b) th- well (ann-2)\nhello there (sw_ben-1)\nnever (cy-1)\n"
HYP = "the cat sad now (ann-1)\nthe well (ann-2)\nhello (sw_ben-1)\n"
OTHER = "the cat sat (ann-1)\nthe well (ann-2)\nhello there (sw_ben-1)\n"
COUNTS = ("sentences", "words", "correct", "sub", "del", "ins", "errors")


class Met(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture
def meet(monkeypatch, capsys, tmp_path):
    """Runs `otoscope score` in a folder with three files; whatever `main` lets through fails the test."""
    monkeypatch.chdir(tmp_path)
    for name, text in (("ref", REF), ("hyp", HYP), ("other", OTHER)):
        Path(name).write_text(text, encoding="utf-8")

    def run(*arguments: object) -> Met:
        monkeypatch.setattr(sys, "argv", ["otoscope", "score", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        code = end.value.code
        return Met(code if isinstance(code, int) else 0, *capsys.readouterr())

    return run


def counts(found: dict[str, int]) -> tuple[int, ...]:
    assert all(isinstance(found[name], int) for name in COUNTS)
    return tuple(found[name] for name in COUNTS)


def test_the_contract(meet):
    met = meet("--ref", "ref", "--hyp", "hyp", "--json")
    assert met.status == 0
    found = json.loads(met.out)
    # the cat sat/sad +now; (b)/the and th- deleted, or as cheap; there deleted.
    assert counts(found) == (3, 8, 4, 2, 2, 1, 5)
    assert {name: counts(each) for name, each in found["speakers"].items()} == {
        "ann": (2, 6, 3, 2, 1, 1, 4),
        "sw_ben": (1, 2, 1, 0, 1, 0, 1),
    }
    assert "cy-1 has no hypothesis" in met.err
    assert found["left_out"] == 1
    options = ("--fragments-correct", "--optional-deletions", "--format", "trn")
    found = json.loads(meet("--ref", "ref", "--hyp", "hyp", "--json", *options).out)
    assert counts(found) == (3, 8, 6, 1, 1, 1, 3)
    found = json.loads(meet("--ref", "ref", "--hyp", "hyp", "--json", "--chars").out)
    assert found["words"] == sum(len(line.rpartition("(")[0].replace(" ", "")) for line in REF.splitlines()[:3])


def test_times_and_rules(meet):
    Path("ref.stm").write_text("c A ann 0 1 <O,M> gonna go\nc A ann 1 2 <O,F> IGNORE_TIME_SEGMENT_IN_SCORING\n")
    Path("hyp.ctm").write_text("c A 0.1 0.2 going\nc A 0.4 0.2 to\nc A 0.6 0.1 go\nc A 1.5 0.1 what\n")
    Path("rules.glm").write_text(";;\n[GONNA] => [GOING TO] / [ ] __ [ ]\n")
    options = ("--ref", "ref.stm", "--hyp", "hyp.ctm", "--format", "stm-ctm", "--glm", "rules.glm")
    met = meet(*options, "--json", "--subsets")
    found = json.loads(met.out)
    assert counts(found) == (1, 3, 3, 0, 0, 0, 0)
    assert {name: each["words"] for name, each in found["subsets"].items()} == {"O": 3, "M": 3}
    assert "to be ignored, with 1 words heard" in met.err
    met = meet(*options, "--subsets")
    assert "0.0 (3)" in met.out


def test_to_be_read(meet):
    met = meet("--ref", "ref", "--hyp", "hyp", "--alignments", "--subsets")
    assert met.status == 0
    lines = [line.rstrip() for line in met.out.splitlines()]
    start = lines.index("ann-1  C 2  S 1  D 0  I 1")
    assert lines[start + 1 : start + 4] in (
        ["  ref  the cat *** SAT", "  hyp  the cat SAD NOW", "               I   S"],
        ["  ref  the cat SAT ***", "  hyp  the cat SAD NOW", "               S   I"],
    )
    row = next(line.split() for line in lines if line.startswith("all "))
    assert row == ["all", "3", "8", "4", "2", "2", "1", "5", "62.5"]
    assert any("SWBD" in line for line in lines)
    # A long utterance is broken into lines that fit.
    text = " ".join(["word"] * 60)
    Path("long").write_text(f"{text} (u-1)\n")
    assert max(map(len, meet("--ref", "long", "--hyp", "long", "--alignments").out.splitlines())) <= 110


def test_intervals_and_two_systems(meet):
    options = ("--ref", "ref", "--hyp", "hyp", "--against", "other", "--interval", 0.9, "--samples", 500, "--seed", 3)
    met = meet(*options, "--json")
    found = json.loads(met.out)
    assert found["interval"]["low"] <= found["interval"]["value"] == 62.5 <= found["interval"]["high"]
    assert (found["interval"]["level"], found["interval"]["by"], found["interval"]["units"]) == (0.9, "utterance", 3)
    assert found["against"]["errors"] == 2
    assert found["against"]["difference"]["value"] == pytest.approx(-37.5)
    assert found["against"]["matched_pairs"]["segments"] == 3
    assert meet(*options, "--json").out == met.out
    met = meet(*options, "--by-speaker")
    assert "bootstrap of 2 speakers" in met.out
    assert "Gillick and Cox 1989" in met.out


def test_what_cannot_be_done_is_said(meet):
    def refused(*arguments: object) -> str:
        met = meet(*arguments)
        assert met.status == 1, met
        assert met.out == ""
        assert "Traceback" not in met.err
        return met.err

    both = ("--ref", "ref", "--hyp", "hyp")
    Path("extra").write_text("a (zoe-1)\n")
    assert "extra, line 1: no reference for zoe-1" in refused("--ref", "ref", "--hyp", "extra")
    assert "nowhere cannot be read" in refused("--ref", "nowhere", "--hyp", "hyp")
    assert "ref, line 1" in refused(*both, "--format", "stm-ctm")
    assert "'stm-ctm'" in refused(*both, "--format", "stm")
    Path("bad.glm").write_text(";;\nA = B\n")
    assert "bad.glm, line 2: a rule without an arrow" in refused(*both, "--glm", "bad.glm")
    assert "unknown encoding" in refused(*both, "--encoding", "utf-9")
    assert "an interval has a level" in refused(*both, "--interval", 95)
    assert "at once" in refused("run", *both)
    assert "at once" in refused("--epoch", 3, *both)
    assert "an option for files" in refused("run", "--corpus", "x", "--chars")
    for arguments in ((), ("run",), ("--ref", "ref"), ("--hyp", "hyp"), ("--corpus", "x")):
        assert meet(*arguments).status == 2
