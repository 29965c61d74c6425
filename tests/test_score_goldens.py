"""NIST's own test cases for sclite, csrfilt and hubscr: the same integers, in all and for each speaker."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from otoscope.learn.glm import filter_ctm, filter_stm, filter_trn, read_glm
from otoscope.learn.score import Counts
from otoscope.learn.score_files import Scores, score_files
from otoscope.learn.transcripts import read_lines

pytestmark = pytest.mark.real

SCORED = ("sclite-test1", "sclite-test3", "sclite-test7", "sclite-test14_a", "sclite-test16_9")
HUBSCR = "hubscr-test1-notag-lvc_hyp.notag.ctm"
FILTERED = ("csrfilt-trn-test.trn.in", "csrfilt-text-dh-test.in", "csrfilt-ctm-test_ctm.in")
# A ctm file as the reference, cut where both are silent: not a format of `otoscope score`.
OUT_OF_SCOPE = ("sclite-test13",)


@pytest.fixture
def goldens(real_data: Path) -> Path:
    folder = real_data / "sctk-goldens"
    if not (folder / "cases.jsonl").is_file():
        pytest.skip(f"no sctk-goldens in {real_data}: the test data of usnistgov/SCTK")
    return folder


def cases(goldens: Path) -> dict[str, dict[str, Any]]:
    lines = (goldens / "cases.jsonl").read_text(encoding="utf-8").splitlines()
    return {case["id"]: case for case in map(json.loads, lines)}


def score_case(goldens: Path, case: dict[str, Any]) -> Scores:
    flags = case["options"].split()
    hubscr = "glm" in case
    return score_files(
        goldens / case["ref"],
        goldens / case["hyp"],
        format="trn" if case.get("ref_format") == "trn" else "stm-ctm",
        glm=goldens / case["glm"] if hubscr else None,
        fragments_correct=hubscr or "-F" in flags,
        optional_deletions=hubscr or "-D" in flags,
        within=("reference", "hypothesis") if "-m" in flags else (),
    )


def test_every_case_is_accounted_for(goldens):
    assert set(cases(goldens)) == {*SCORED, HUBSCR, *FILTERED, *OUT_OF_SCOPE}


@pytest.mark.parametrize("id", [*SCORED, HUBSCR])
def test_the_counts_are_sclites(goldens, id):
    case = cases(goldens)[id]
    scores = score_case(goldens, case)
    wanted = {name: tuple(map(int, row[:7])) for name, row in case["counts"]["rows"].items()}
    for summary in ("Mean", "S.D.", "Median"):
        wanted.pop(summary)
    found = {**scores.speakers, "Sum": scores.total}
    assert {
        name: (each.sentences, each.words, each.correct, each.sub, each.deletions, each.ins, each.errors)
        for name, each in found.items()
    } == wanted


@pytest.mark.parametrize("id", [*SCORED, HUBSCR])
def test_the_counts_of_each_utterance_are_sclites(goldens, id):
    """What sclite prints of each alignment, in its order of speakers."""
    case = cases(goldens)[id]
    if "expected_dir" in case:
        (path,) = (goldens / case["expected_dir"]).glob("*.pra")
    else:
        (path,) = (goldens / name for name in case["expected_files"] if name.endswith(".pra"))
    printed = re.findall(
        r"^id: \((\S+)\)\n(?:.*\n)*?Scores: \(#C #S #D #I\) (\d+) (\d+) (\d+) (\d+)",
        path.read_text(encoding="latin-1"),
        re.MULTILINE,
    )
    wanted = {name: tuple(map(int, numbers)) for name, *numbers in printed}
    assert len(wanted) == len(printed) > 0
    found = {
        each.id: (each.counts.correct, each.counts.sub, each.counts.deletions, each.counts.ins)
        for each in score_case(goldens, case).utterances
    }
    assert found == wanted


def test_subsets_are_sclites(goldens):
    """The labelled utterance report: words and error rate of each label, in all and of each speaker."""
    scores = score_case(goldens, cases(goldens)["sclite-test3"])
    report = (goldens / "sclite/expected/test3.lur").read_text()
    rows = dict(re.findall(r"\|\s+(\d{4}-[ab]|Set Sum/Avg)\s+\|(.*)\|", report))
    for name, row in rows.items():
        wanted = [(int(words), float(rate)) for words, rate in re.findall(r"\[(\d+)\]\s+([\d.]+)", row)]
        found = scores.subsets if name.startswith("Set") else scores.subsets_of(name)
        assert [(found[label].words, round(found[label].wer, 1)) for label in ("O", "WA", "NA")] == wanted
    assert len(rows) == 5
    assert scores.subset_names == {"O": "Overall", "WA": "With Alt", "NA": "NO Alt"}


@pytest.mark.parametrize("id", FILTERED)
def test_the_rules_rewrite_as_csrfilt_does(goldens, id):
    case = cases(goldens)[id]
    # The "text" case has utterance ids, which stay as they are: it is a trn file.
    apply, kind = (filter_ctm, "ctm") if case["format"] == "ctm" else (filter_trn, "trn")
    lines = apply(
        read_glm(goldens / case["glm"], kind),
        read_lines(goldens / case["input"]),
        split_hyphens="-dh" in case["options"].split(),
    )
    assert blanks_once(line.text for line in lines) == written(goldens / case["expected"])


@pytest.mark.parametrize(
    ("name", "apply", "kinds"),
    [
        ("lvc_refe.notag.noat.stm", filter_stm, ("ref", "stm")),
        ("lvc_hyp.notag.ctm", filter_ctm, ("hyp", "ctm")),
    ],
)
def test_hubscrs_files_are_rewritten_as_it_does(goldens, name, apply, kinds):
    case = cases(goldens)[HUBSCR]
    lines = apply(
        read_glm(goldens / case["glm"], *kinds),
        read_lines(goldens / "filter_and_hubscr/inputs" / name),
        split_hyphens=True,
    )
    # The names of speakers are in capitals there, too; they are compared without case.
    wanted = written(goldens / case["expected_dir"] / f"{name}.filt")
    assert blanks_once(line.text.upper() for line in lines) == [line.upper() for line in wanted]


def written(path: Path) -> list[str]:
    return blanks_once(path.read_text().splitlines())


def blanks_once(lines: Iterable[str]) -> list[str]:
    return [re.sub(r"\s+", " ", line).strip() for line in lines if line.strip()]


@pytest.mark.parametrize("name", ["en20030506", "en20090415", "kaldi-ami-english"])
def test_rules_in_use_are_read(goldens, name):
    for kinds in (("ref", "stm"), ("hyp", "ctm")):
        rules = read_glm(goldens / "glm" / f"{name}.glm", *kinds)
        assert len(rules) > 400
        assert rules.rewrite(" GONNA ") == rules.rewrite(" gonna ")


def test_a_reference_scored_against_itself_is_right(goldens):
    scores = score_files(goldens / "sclite/inputs/csrnab.ref", goldens / "sclite/inputs/csrnab.ref")
    assert scores.total.errors == 0
    assert scores.total == sum((each.counts for each in scores.utterances), Counts())
