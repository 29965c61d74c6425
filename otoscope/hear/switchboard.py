"""Conversations on the telephone: Switchboard-1 with the transcripts of Mississippi State, and Hub5 evaluations.

Two people, one a channel of an 8 kHz recording: side A is channel 0, side B channel 1. Switchboard is LDC97S62 with
`swb_ms98_transcriptions`; Hub5'00 (eval2000) is LDC2002S09 with LDC2002T43. What is kept of a transcript is what was
said, as Kaldi's recipe s5c does in spirit; `docs/corpora.md` has the rules.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from otoscope.base import BadInput
from otoscope.hear.layouts import Place, Rows, lines, text_of
from otoscope.hear.manifest import Row

SUBSETS = {"sw": "swbd", "en": "callhome"}
"""What the two parts of Hub5'00 are called here, by what the names of their recordings begin with."""

IGNORED = "IGNORE_TIME_SEGMENT_IN_SCORING"
_SIDES = {"a": 0, "b": 1, "1": 0, "2": 1}
_TRANSCRIPT = re.compile(r"(sw0?(\d{4})([ab])-ms98-a)-trans\.text", re.IGNORECASE)


def find_switchboard(place: Place) -> list[Path]:
    """The transcripts, a file a side."""
    return place.named(_TRANSCRIPT.pattern)


def find_hub5(place: Place) -> list[Path]:
    """The references for scoring (`.stm`), or where there are none the transcripts they were made of."""
    return place.named(r".*\.stm") or place.named(r"(en|sw)_\d{4}\.txt")


def read_switchboard(transcript: Path, place: Place) -> Rows:
    """`sw2001A-ms98-a-trans.text`: id, start and end in seconds, text; beside it `…-word.text` with times of words.

    With `call_con_tab.csv` and `caller_tab.csv`, which LDC has beside the corpus, a speaker is a caller, who may be in
    several conversations; without them each side is one.
    """
    named = _TRANSCRIPT.fullmatch(transcript.name)
    if named is None:
        raise BadInput(f"{transcript} is no transcript of one side", wanted="sw2001A-ms98-a-trans.text, and so on")
    conversation, side = named[2], named[3].upper()
    sound = _recording(place, f"sw0{conversation}", f"sw{conversation}")
    common: Row = {"audio": sound, "channel": _SIDES[side.lower()], "conversation": conversation}
    common |= {"speaker": f"sw0{conversation}-{side}"} | _caller(place, conversation, side)
    words = _words(transcript.with_name(f"{named[1]}-word.text")) if place.tiers else {}
    for number, line in lines(transcript):
        try:
            id, start, end, *rest = line.split(maxsplit=3)
            start_s, end_s = float(start), float(end)
        except ValueError:
            yield number, _bad_line(transcript, line, "id, start, end, text")
            continue
        written = rest[0] if rest else ""
        text = switchboard_text(written)
        if not text:
            yield number, None
            continue
        row = {"id": id, "text": text} | common | _stretch(start_s, end_s)
        row |= {"transcript": written} if written != text else {}
        tier = [[max(0.0, round(t - start_s, 5)) for t in word[:2]] + [word[2]] for word in words.get(id, [])]
        yield number, row | ({"tiers": {"word": tier}} if tier else {})


def read_hub5(path: Path, place: Place) -> Rows:
    """`hub5e00.english.000405.stm`, or one of the transcripts `en_4156.txt`.

    `subset` is "swbd" or "callhome" where a recording's name begins with `sw_` or `en_`.
    """
    return _read_stm(path, place) if path.suffix.lower() == ".stm" else _read_ldc(path, place)


def _read_stm(stm: Path, place: Place) -> Rows:
    for number, line in lines(stm):
        if line.startswith(";;"):
            continue
        try:
            name, side, _, start, end, *rest = line.split(maxsplit=5)
            channel, start_s, end_s = _SIDES[side.lower()], float(start), float(end)
        except (ValueError, KeyError):
            yield number, _bad_line(stm, line, "recording, side, speaker, start, end, <labels>, text (NIST's STM)")
            continue
        labelled = re.match(r"<([^>]*)>\s*", rest[0]) if rest else None
        written = rest[0][labelled.end() if labelled else 0 :] if rest else ""
        labels = [label.strip().lower() for label in labelled[1].split(",")] if labelled else []
        gender = next((label for label in labels if label in ("f", "m")), None)
        yield number, _side_row(name, channel, start_s, end_s, written, stm_text, place, gender)


def _read_ldc(transcript: Path, place: Place) -> Rows:
    for number, line in lines(transcript):
        if line.startswith("#"):
            continue
        found = re.fullmatch(r"(\d+\.?\d*)\s+(\d+\.?\d*)\s+([AB])\d*:\s*(.*)", line)
        if found is None:
            yield number, _bad_line(transcript, line, "start, end, side and colon, text")
            continue
        start_s, end_s, channel = float(found[1]), float(found[2]), _SIDES[found[3].lower()]
        yield number, _side_row(transcript.stem, channel, start_s, end_s, found[4], ldc_text, place)


def _side_row(
    name: str,
    channel: int,
    start_s: float,
    end_s: float,
    written: str,
    normalise: Callable[[str], str],
    place: Place,
    gender: str | None = None,
) -> Row | None:
    text = normalise(written)
    if not text:
        return None
    speaker = f"{name}-{'AB'[channel]}"
    row: Row = {"id": f"{speaker}_{100 * start_s:06.0f}-{100 * end_s:06.0f}", "text": text, "speaker": speaker}
    row |= {"audio": _recording(place, name), "channel": channel, "conversation": name} | _stretch(start_s, end_s)
    row |= {"subset": SUBSETS[name[:2].lower()]} if name[:3].lower() in ("sw_", "en_") else {}
    row |= {"gender": gender} if gender else {}
    return row | ({"transcript": written} if written != text else {})


def switchboard_text(written: str) -> str:
    """What is said in a line of the transcripts of Mississippi State, marks and sounds that are no words taken out."""
    return " ".join(word for word in map(_said, written.split()) if word)


@lru_cache(maxsize=100_000)
def _said(word: str) -> str:
    if laughing := re.fullmatch(r"(-?)\[laughter-(.+)\](-?)", word, re.IGNORECASE):
        word = "".join(laughing.groups())
    if re.fullmatch(r"\[(?:silence|noise|vocalized-noise|laughter)\]|</?[^>]*>", word, re.IGNORECASE):
        return ""
    if said_and_meant := re.fullmatch(r"\[(.+)/.+\](-?)", word):
        word = "".join(said_and_meant.groups())
    # A bracket that was never opened, as in "ex[specially]-/especially]".
    word = word.partition("/")[0] if word.endswith("]") and "/" in word else word
    word = re.sub(r"_\d+", "", word.strip("{}"))
    # Unspoken parts: at the start, at the end, and between.
    word = re.sub(r"^-?\[[^\[\]]+\]-?(?=[^\]\-])", "-", word)
    word = re.sub(r"\[[^\[\]]+\]-?$", "-", word)
    word = re.sub(r"-?\[[^\[\]]+\]-?", "-", word)
    return re.sub("-{2,}", "-", word) if word.strip("-") else ""


def stm_text(written: str) -> str:
    """What is said in a segment of an STM file: the first of several alternatives, without what is only a mark.

    For a network to learn from or to be looked into with. Scores are to be counted on the STM file itself.
    """
    if IGNORED in written.upper():
        return ""
    while (inner := re.sub(r"\{([^{}]*)\}", lambda found: found[1].split("/")[0], written)) != written:
        written = inner
    marks = re.compile(r"@|%\w+|</?[^>]*>|\(\)|\[[^\[\]]*\]", re.IGNORECASE)
    # Tags of NIST's filters follow a semicolon.
    words = (re.sub(r"[();]", "", word.split(";")[0]) for word in written.split())
    return " ".join(word for word in words if word.strip("-") and not marks.fullmatch(word))


def ldc_text(written: str) -> str:
    """What is said in a line of LDC's transcripts of CallHome and Hub5."""
    # Tags; comments; sounds of the speaker; noises and where they end; what nobody understood.
    # Attributes of tags have > in them: e_form="[he=>he]['s=>is]".
    written = re.sub(r"""<[^>"]*(?:"[^"]*"[^>"]*)*>|\[\[.*?\]\]|\{[^}]*\}|\[[^\]]*\]|\(\(\s*\)\)""", " ", written)
    words = (re.sub(r"^[%&+*@~/(]+|[+*/)]+(?=[.,?!]*$)", "", word) for word in written.split())
    return " ".join(word for word in words if word.strip("-.,?!"))


def _stretch(start_s: float, end_s: float) -> Row:
    return {"offset": start_s, "duration": round(end_s - start_s, 6)}


def _recording(place: Place, *names: str) -> str:
    found = next((place.recordings[name.lower()] for name in names if name.lower() in place.recordings), None)
    return str(found or (place.audio or place.folder) / f"{names[0]}.sph")


def _words(path: Path) -> dict[str, list[tuple[float, float, str]]]:
    """The words of each utterance with their times in the recording."""
    found: dict[str, list[tuple[float, float, str]]] = {}
    for number, line in lines(path) if path.is_file() else ():
        try:
            id, start, end, written = line.split(maxsplit=3)
            times = float(start), float(end)
        except ValueError:
            raise BadInput(
                f"line {number} of {path} is not a word with its times", got=line[:80], wanted="id, start, end, word"
            ) from None
        if word := switchboard_text(written):
            found.setdefault(id, []).append((*times, word))
    return found


def _caller(place: Place, conversation: str, side: str) -> Row:
    calls, callers = (next(iter(place.named(name)), None) for name in (r"call_con_tab\.csv", r"caller_tab\.csv"))
    if calls is None:
        return {}
    caller = _csv(calls, 2).get((conversation, side), ("",) * 3)[2]
    person = _csv(callers, 1).get((caller,), ()) if callers else ()
    found: dict[str, Any] = {"speaker": caller} if caller else {}
    if len(person) > 5:
        found |= {"gender": person[3][:1].lower(), "birth_year": person[4], "dialect": person[5].lower()}
    return {name: int(value) if name == "birth_year" else value for name, value in found.items() if value}


@lru_cache(maxsize=2)
def _csv(path: Path, keys: int) -> dict[tuple[str, ...], tuple[str, ...]]:
    """The rows of a table without a header by their first columns."""
    rows = csv.reader(io.StringIO(text_of(path)), skipinitialspace=True)
    found = (tuple(field.strip(' "') for field in row) for row in rows)
    return {row[:keys]: row for row in found if len(row) > keys}


def _bad_line(path: Path, line: str, wanted: str) -> BadInput:
    return BadInput(f"{path.name}: this line cannot be read", got=line[:80], wanted=wanted)
