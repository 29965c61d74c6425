"""Transcripts of utterances (trn) and of recordings with times (stm, ctm), as the scoring of NIST has them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from itertools import compress
from pathlib import Path
from typing import NamedTuple

from otoscope.base import BadInput, BadOption
from otoscope.learn.word_alignment import single

_BLANK = " \t\r\n\f\v"
_UPPER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}
_IGNORED = re.compile("ignore_?time_?segment_?in_?scoring", re.IGNORECASE)
_LABEL = re.compile(r';;\s*(LABEL|CATEGORY)\s+"([^"]*)"\s+"([^"]*)"(?:\s+"([^"]*)")?', re.IGNORECASE)

CASES = ("ascii", "unicode", "sensitive")


class Line(NamedTuple):
    """A line of a file: where it stands, counted from 1, and its text."""

    file: str
    number: int
    text: str

    def refuse(self, problem: str, wanted: object = None, remedy: str | None = None) -> BadInput:
        """The error for this line."""
        return BadInput(f"{self.file}, line {self.number}: {problem}", got=self.text, wanted=wanted, remedy=remedy)


class Transcript(NamedTuple):
    """An utterance of a trn file: `id` as it is compared, `text` as it is written."""

    id: str
    text: str
    line: Line


class Segment(NamedTuple):
    """A stretch of one channel of a recording and what is said in it, in an stm file. Times in seconds."""

    file: str
    channel: str
    speaker: str
    start: float
    end: float
    labels: tuple[str, ...]
    text: str
    line: Line

    @property
    def ignored(self) -> bool:
        """Whether the segment, and what is heard in it, is not scored."""
        return bool(_IGNORED.search(self.text))


class TimedWord(NamedTuple):
    """A word of a ctm file; times in seconds."""

    text: str
    start: float
    duration: float
    line: Line


class Heard(NamedTuple):
    """What is heard in one place: a word, or, in an alternation, each of several sequences of words."""

    choices: tuple[tuple[TimedWord, ...], ...]

    @property
    def words(self) -> list[TimedWord]:
        """Those of all choices."""
        return [word for choice in self.choices for word in choice]

    @property
    def start(self) -> float:
        """When the first begins."""
        return min((word.start for word in self.words), default=0.0)

    @property
    def middle(self) -> float:
        """The middle of the word, or the latest of an alternation's middles."""
        return max((word.start + word.duration / 2 for word in self.words), default=0.0)


def fold(text: str, case: str = "ascii") -> str:
    """The text as it is compared: A to Z in lower case as sclite does (`ascii`), all letters, or none."""
    if case == "ascii":
        return text.translate(_UPPER)
    return text.lower() if case == "unicode" else text


def read_lines(path: Path | str, encoding: str = "utf-8") -> list[Line]:
    """The lines of a text file.

    Raises:
        BadInput: no such file, or bytes that are not of the encoding.
        BadOption: an encoding that does not exist.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode(encoding)
    except LookupError as error:
        raise BadOption("unknown encoding", got=encoding, wanted="utf-8, latin-1, gb18030, ...") from error
    except UnicodeDecodeError as error:
        number = error.object[: error.start].count(b"\n") + 1
        raise BadInput(
            f"{path}, line {number}: bytes that are not {encoding}",
            got=repr(error.object[error.start : error.start + 8]),
            wanted=f"text in {encoding}",
            remedy="name the file's encoding: --encoding latin-1",
        ) from error
    except OSError as error:
        raise BadInput(f"{path} cannot be read", got=error.strerror, wanted="a text file") from error
    return [Line(str(path), number, line) for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1)]


def _content(lines: Iterable[Line], comments: tuple[str, ...] = (";;", "**")) -> Iterable[Line]:
    return (line for line in lines if line.text.strip(_BLANK) and not line.text.startswith(comments))


def parse_trn(lines: Iterable[Line], case: str = "ascii") -> dict[str, Transcript]:
    """Id → utterance of a trn file: a line is the words and then `(id)`.

    Raises:
        BadInput: a line without an id, or two lines with the same one.
    """
    found: dict[str, Transcript] = {}
    for line in _content(lines):
        match = re.search(r"\(([^()]*)\)[^()]*$", line.text)
        if not match or not match[1].strip(_BLANK):
            raise line.refuse("no utterance id", "words and then (id)")
        id = fold(match[1].strip(_BLANK), case)
        transcript = Transcript(id, line.text[: match.start()], line)
        if id in found:
            raise line.refuse(f"utterance {id} stands on line {found[id].line.number}, too", "each id once")
        found[id] = transcript
    return found


def parse_stm(lines: Iterable[Line], case: str = "ascii") -> list[Segment]:
    """The segments of an stm file, those of a channel together and in the order of their starts.

    A line is `file channel speaker start end [<label,label>] words`.

    Raises:
        BadInput: a line of another form, an end before the start.
    """
    found: dict[tuple[str, str], list[Segment]] = {}
    for line in _content(lines):
        fields = line.text.split(None, 5)
        if len(fields) < 5:
            raise line.refuse(f"{len(fields)} fields", "file channel speaker start end [<labels>] words")
        start, end = _seconds(line, fields[3], "start"), _seconds(line, fields[4], "end")
        if end < start:
            raise line.refuse("the segment ends before it starts", "start <= end")
        rest = fields[5] if len(fields) > 5 else ""
        labels: tuple[str, ...] = ()
        # As they are written: LABEL comments name them so.
        if rest.startswith("<"):
            label, _, rest = rest.partition(">")
            labels = tuple(each for each in label[1:].split(",") if each)
        file, channel, speaker = (fold(field, case) for field in fields[:3])
        found.setdefault((file, channel), []).append(
            Segment(file, channel, speaker, start, end, labels, rest.strip(_BLANK), line)
        )
    return [segment for channel in found.values() for segment in sorted(channel, key=lambda each: each.start)]


def parse_ctm(lines: Iterable[Line], case: str = "ascii") -> dict[tuple[str, str], list[Heard]]:
    """(file, channel) → what a ctm file has heard there, in the order of the starts.

    A line is `file channel start duration word [confidence]`. Alternations are between lines whose words are
    `<ALT_BEGIN>`, `<ALT>` and `<ALT_END>`; a choice without words is the null word.

    Raises:
        BadInput: a line of another form, an alternation that is not closed.
    """
    found: dict[tuple[str, str], list[Heard]] = {}
    choices: list[list[TimedWord]] | None = None
    opened: tuple[Line, tuple[str, str]] | None = None
    for line in _content(lines, (";",)):
        fields = line.text.split()
        if len(fields) < 5:
            raise line.refuse(f"{len(fields)} fields", "file channel start duration word [confidence]")
        place = (fold(fields[0], case), fold(fields[1], case))
        mark = fields[4].upper()
        if mark == "<ALT_BEGIN>":
            if opened:
                raise line.refuse(f"the alternation of line {opened[0].number} is not closed", "<ALT_END> before it")
            choices, opened = [[]], (line, place)
        elif mark in ("<ALT>", "<ALT_END>"):
            if choices is None or opened is None or opened[1] != place:
                raise line.refuse("no alternation is open here", "<ALT_BEGIN> before it")
            if mark == "<ALT>":
                choices.append([])
                continue
            # Choices without words take their time from the others.
            timed = [word for choice in choices for word in choice]
            null = TimedWord("@", timed[0].start if timed else 0.0, 0.0, line)
            found.setdefault(place, []).append(Heard(tuple(tuple(choice or [null]) for choice in choices)))
            choices = opened = None
        else:
            start, duration = (
                _seconds(line, fields[2].removeprefix("&&"), "start"),
                _seconds(line, fields[3], "duration"),
            )
            if duration < 0:
                raise line.refuse("a negative duration", "seconds >= 0")
            word = TimedWord(fields[4], start, duration, line)
            if opened is None or choices is None:
                found.setdefault(place, []).append(Heard(((word,),)))
            elif opened[1] != place:
                raise opened[0].refuse("the alternation is not closed", "<ALT_END> in the same channel")
            else:
                choices[-1].append(word)
    if opened:
        raise opened[0].refuse("the alternation is not closed", "<ALT_END> further down")
    return {place: sorted(heard, key=lambda each: each.start) for place, heard in found.items()}


def _seconds(line: Line, field: str, name: str) -> float:
    try:
        value = float(field)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise line.refuse(f"the {name} is no time", f"{name} in seconds in place of {field}")
    return value


def label_names(lines: Iterable[Line]) -> dict[str, str]:
    """Label → heading of its column, from the comments `;; LABEL "id" "heading" "description"` of an stm file."""
    found = {}
    for line in lines:
        match = _LABEL.match(line.text)
        if match and match[1].upper() == "LABEL":
            found[match[2]] = match[3]
    return found


def share_out(
    segments: Sequence[Segment], heard: Sequence[Heard], within: Iterable[str] = ()
) -> list[tuple[Segment, list[Heard]]]:
    """The segments of one channel, each with what is heard in it, in order.

    A word belongs to the first segment that ends after the word's middle; so one that lies between two segments
    belongs to the later, and the last segment gets all that is left.

    Args:
        segments: of one channel, in the order of their starts.
        heard: in that channel, in order.
        within: `hypothesis` leaves out the segments before the first word and after the last, `reference` then the
            words before the first segment and after the last.
    """
    wanted = [True] * len(segments)
    if "hypothesis" in within and heard:
        first, last = heard[0].words[0], heard[-1].words[-1]
        ended = last.start + last.duration
        wanted = [single(each.end) > first.start and single(each.start) < ended for each in segments]
    spare: set[int] = set()
    if "reference" in within:
        kept = list(compress(segments, wanted))
        begin = min((single(each.start) for each in kept), default=math.inf)
        end = max((single(each.end) for each in kept), default=-math.inf)
        spare = {
            index
            for index, each in enumerate(heard)
            if all(word.start > end or word.start + word.duration < begin for word in each.words)
        }
    shared = []
    position = 0
    for number, segment in compress(enumerate(segments, 1), wanted):
        start = position
        if number == len(segments):
            position = len(heard)
        while position < len(heard) and heard[position].middle < single(segment.end):
            position += 1
        shared.append((segment, [heard[index] for index in range(start, position) if index not in spare]))
    return shared
