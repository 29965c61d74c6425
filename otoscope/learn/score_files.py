"""Any system's output against a reference: files of transcripts in, the counts of NIST sclite out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from otoscope.base import BadInput, choose
from otoscope.learn.glm import filter_ctm, filter_stm, filter_trn, read_glm
from otoscope.learn.score import Counts, count
from otoscope.learn.transcripts import (
    CASES,
    Heard,
    Line,
    Segment,
    Transcript,
    fold,
    label_names,
    parse_ctm,
    parse_stm,
    parse_trn,
    read_lines,
    share_out,
)
from otoscope.learn.word_alignment import Pair, align
from otoscope.learn.word_network import Alternation, Reading, Said, Spelling, Word

FORMATS = ("trn", "stm-ctm")
SPEAKERS = ("auto", "prefix", "three", "whole")
WITHIN = ("reference", "hypothesis")

# Hub5'00 has conversations of both in one file, told apart by their names.
_HUB5 = {"sw_": "SWBD", "en_": "Clhm"}


class ScoredUtterance(NamedTuple):
    """One utterance, or segment of a recording, with its alignment."""

    id: str
    speaker: str
    subsets: tuple[str, ...]
    counts: Counts
    pairs: tuple[Pair, ...]


@dataclass(frozen=True)
class Scores:
    """What was counted, utterance by utterance, and what was left out of it.

    Attributes:
        utterances: in the order of the file.
        subset_names: the heading of each subset that has one, in their order.
        left_out: a line for each utterance or segment that was not scored.
        remarks: a line for what was scored and is suspicious: a recording in which nothing was heard.
        unit: `words` or `chars`.
    """

    utterances: tuple[ScoredUtterance, ...]
    subset_names: dict[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    unit: str = "words"

    @cached_property
    def total(self) -> Counts:
        """The counts of all utterances together."""
        return sum((each.counts for each in self.utterances), Counts())

    @cached_property
    def speakers(self) -> dict[str, Counts]:
        """Speaker → counts, in the order of their first utterances."""
        return _grouped((each.speaker, each.counts) for each in self.utterances)

    @cached_property
    def subsets(self) -> dict[str, Counts]:
        """Subset → counts: the labels of an stm file, and `SWBD` and `Clhm` for recordings `sw_...` and `en_...`."""
        return self._by_subset(self.utterances)

    def subsets_of(self, speaker: str) -> dict[str, Counts]:
        """The same for one speaker."""
        return self._by_subset(each for each in self.utterances if each.speaker == speaker)

    def _by_subset(self, utterances: Iterable[ScoredUtterance]) -> dict[str, Counts]:
        found = _grouped((subset, each.counts) for each in utterances for subset in each.subsets)
        named = [subset for subset in self.subset_names if subset in found]
        return {subset: found[subset] for subset in [*named, *found] if subset in found}

    def as_dict(self) -> dict[str, Any]:
        """The counts under sclite's names, in all and under `speakers`."""
        speakers = {name: counts.as_dict() for name, counts in self.speakers.items()}
        return {**self.total.as_dict(), "speakers": speakers, "left_out": len(self.left_out)}


def _grouped(counts: Iterable[tuple[str, Counts]]) -> dict[str, Counts]:
    found: dict[str, Counts] = {}
    for name, each in counts:
        found[name] = found.get(name, Counts()) + each
    return found


def score_files(
    reference: Path | str,
    hypothesis: Path | str,
    *,
    format: str = "trn",
    glm: Path | str | None = None,
    fragments_correct: bool = False,
    optional_deletions: bool = False,
    chars: bool = False,
    keep_ascii: bool = False,
    drop_hyphens: bool = False,
    case: str = "ascii",
    speaker: str = "auto",
    within: Sequence[str] = (),
    split_hyphens: bool = True,
    encoding: str = "utf-8",
) -> Scores:
    """Align two files of transcripts as NIST sclite does, and count.

    Args:
        reference: a trn file, or an stm file.
        hypothesis: a trn file, or a ctm file.
        format: `trn` or `stm-ctm`.
        glm: a file of rules that rewrite both, as hubscr has it done: in capitals, hyphens between letters split.
        fragments_correct: a word with a hyphen at its end or start is correct if the other begins or ends like it
            (`sclite -F`).
        optional_deletions: a word in parentheses may be missing, or be too much in a hypothesis (`sclite -D`).
        chars: compare characters in place of words; white space counts for none (`sclite -c`).
        keep_ascii: of these characters, words in ASCII stay words (`-c NOASCII`), as for Chinese text.
        drop_hyphens: hyphens are no characters (`-c DH`).
        case: `ascii` takes A and a for the same, as sclite does; `unicode` all letters; `sensitive` none (`sclite -s`).
        speaker: what of a trn id is the speaker: `prefix`, what stands before the first `-`, or `_` if there is none
            (`sclite -i spu_id`); `three`, the first three characters (`-i wsj`); `whole`; `auto`: `prefix` if every id
            has one, else `three`.
        within: with stm and ctm, `hypothesis` leaves out segments in which the system had nothing to hear yet, or any
            more; `reference` words before the first segment and after the last (`sclite -m ref` and `-m hyp`).
        split_hyphens: with a GLM file, `-` between letters becomes a blank.
        encoding: of both files.

    Raises:
        BadInput: a file that cannot be read, a malformed line, an utterance or channel without a reference, none at
            all.
        BadOption: an option that does not exist.
    """
    choose("format", format, FORMATS)
    choose("case", case, CASES)
    choose("speaker", speaker, SPEAKERS)
    for side in within:
        choose("side to reduce to", side, WITHIN)
    ref_lines, hyp_lines = read_lines(reference, encoding), read_lines(hypothesis, encoding)
    if glm is not None:
        ref_kind, hyp_kind = ("trn", "trn") if format == "trn" else ("stm", "ctm")
        ref_rules, hyp_rules = read_glm(glm, "ref", ref_kind), read_glm(glm, "hyp", hyp_kind)
        filter_ref, filter_hyp = (filter_trn, filter_trn) if format == "trn" else (filter_stm, filter_ctm)
        ref_lines = list(filter_ref(ref_rules, ref_lines, split_hyphens=split_hyphens))
        hyp_lines = list(filter_hyp(hyp_rules, hyp_lines, split_hyphens=split_hyphens))
    reading = Reading(optional_deletions, fragments_correct)
    scorer = _Scorer(reading, Spelling(keep_ascii, drop_hyphens) if chars else None, case)
    if format == "trn":
        scores = _score_trn(scorer, ref_lines, hyp_lines, speaker)
    else:
        scores = _score_stm(scorer, ref_lines, hyp_lines, within)
    if not scores.utterances:
        raise BadInput(
            "nothing is left to score", got=f"{len(scores.left_out)} left out", wanted="at least one utterance"
        )
    return replace(scores, subset_names=label_names(ref_lines), unit="chars" if chars else "words")


class _Scorer(NamedTuple):
    reading: Reading
    spelling: Spelling | None
    case: str

    def parse(self, text: str, line: Line) -> tuple[Word | Alternation, ...]:
        try:
            return self.reading.parse(fold(text, self.case))
        except BadInput as error:
            raise line.refuse(error.problem, error.wanted) from error

    def heard(self, heard: Sequence[Heard]) -> list[Word | Alternation]:
        """The words of a ctm file, whose braces are no alternations."""
        said: list[Word | Alternation] = []
        for each in heard:
            choices = tuple(
                tuple(self.reading.word(fold(word.text, self.case)) for word in choice) for choice in each.choices
            )
            said += choices[0] if len(choices) == 1 else (Alternation(choices),)
        return said

    def pairs(self, reference: Said, hypothesis: Said) -> tuple[Pair, ...]:
        return tuple(align(reference, hypothesis, self.spelling))


def _score_trn(scorer: _Scorer, ref_lines: list[Line], hyp_lines: list[Line], speaker: str) -> Scores:
    references, hypotheses = parse_trn(ref_lines, scorer.case), parse_trn(hyp_lines, scorer.case)
    file = ref_lines[0].file
    if not references:
        raise BadInput(f"{file} has no utterance", wanted="lines of words and then (id)")
    without = [each for id, each in hypotheses.items() if id not in references]
    if without:
        raise without[0].line.refuse(
            f"no reference for {without[0].id}" + (f" and {len(without) - 1} more" if without[1:] else ""),
            f"each id of a hypothesis in {file}, too",
        )
    if not hypotheses:
        raise BadInput(f"{hyp_lines[0].file} has no utterance", wanted="lines of words and then (id)")
    prefixed = speaker == "prefix" or (speaker == "auto" and all(_prefix(id) for id in hypotheses))
    scored = []
    for id, hypothesis in hypotheses.items():
        reference = references[id]
        pairs = scorer.pairs(
            scorer.parse(reference.text, reference.line), scorer.parse(hypothesis.text, hypothesis.line)
        )
        name = _speaker(hypothesis, prefixed, speaker)
        scored.append(ScoredUtterance(id, name, _hub5(id), count(pairs), pairs))
    left_out = (
        f"{each.line.file}, line {each.line.number}: {id} has no hypothesis"
        for id, each in references.items()
        if id not in hypotheses
    )
    return Scores(tuple(scored), left_out=tuple(left_out))


def _prefix(id: str) -> str:
    """What stands before the first hyphen, or before the first underscore if there is no hyphen."""
    sign = "-" if "-" in id else "_"
    return id.partition(sign)[0] if sign in id else ""


def _speaker(transcript: Transcript, prefixed: bool, how: str) -> str:
    if how == "whole":
        return transcript.id
    if not prefixed:
        return transcript.id[:3]
    if not _prefix(transcript.id):
        raise transcript.line.refuse("an id that does not name its speaker", "speaker-utterance or speaker_utterance")
    return _prefix(transcript.id)


def _hub5(name: str) -> tuple[str, ...]:
    return tuple(subset for start, subset in _HUB5.items() if name.startswith(start))


def _score_stm(scorer: _Scorer, ref_lines: list[Line], hyp_lines: list[Line], within: Sequence[str]) -> Scores:
    segments, heard = parse_stm(ref_lines, scorer.case), parse_ctm(hyp_lines, scorer.case)
    if not segments:
        raise BadInput(f"{ref_lines[0].file} has no segment", wanted="file channel speaker start end words")
    channels: dict[tuple[str, str], list[Segment]] = {}
    for segment in segments:
        channels.setdefault((segment.file, segment.channel), []).append(segment)
    for place, words in heard.items():
        if place not in channels:
            raise (
                words[0]
                .words[0]
                .line.refuse(
                    f"no reference for recording {place[0]}, channel {place[1]}",
                    "; ".join(f"{file} {channel}" for file, channel in list(channels)[:8]),
                )
            )
    scored: list[ScoredUtterance] = []
    left_out: list[str] = []
    remarks: list[str] = []
    numbers: dict[str, int] = {}
    for place, here in channels.items():
        shares = share_out(here, heard.get(place, []), within)
        if place not in heard:
            remarks.append(
                f"{hyp_lines[0].file}: no word for recording {place[0]}, channel {place[1]}: all counted as deleted"
            )
        taken = {segment.line.number for segment, _ in shares}
        left_out += [
            f"{segment.line.file}, line {segment.line.number}: beyond the time of the hypothesis"
            for segment in here
            if segment.line.number not in taken
        ]
        for segment, words in shares:
            if segment.ignored:
                left_out.append(
                    f"{segment.line.file}, line {segment.line.number}: to be ignored, with {len(words)} words heard"
                )
                continue
            pairs = scorer.pairs(scorer.parse(segment.text, segment.line), scorer.heard(words))
            number = numbers[segment.speaker] = numbers.get(segment.speaker, -1) + 1
            subsets = (*segment.labels, *_hub5(segment.file))
            scored.append(
                ScoredUtterance(f"{segment.speaker}-{number:03d}", segment.speaker, subsets, count(pairs), pairs)
            )
    return Scores(tuple(scored), left_out=tuple(left_out), remarks=tuple(remarks))
