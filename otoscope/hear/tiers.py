"""Tiers: labelled stretches of time, and the files they come in.

A tier is a list of `Segment(start_s, end_s, label)`, in the order of their starts. Read here: TIMIT's `.phn` and `.wrd`
(times in samples), NIST's CTM (many utterances a file), and Praat's TextGrid, long and short, through praatio.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from praatio import textgrid

from otoscope.base import BadInput, OtoscopeError, Seconds


class Segment(NamedTuple):
    """What is heard from `start_s` to `end_s` (seconds from the start of the utterance)."""

    start_s: Seconds
    end_s: Seconds
    label: str


# What aligners and corpora call the two tiers that have a name here.
TIER_NAMES = {"phones": "phone", "phoneme": "phone", "phonemes": "phone", "mau": "phone", "words": "word"}


def make_tier(name: str, segments: Iterable[Any]) -> list[Segment]:
    """Check `(start_s, end_s, label)` triples and put them in the order of their starts. They may overlap or be empty.

    Raises:
        BadInput: not triples, times that are not numbers, negative or not finite, an end before its start.
    """
    tier = []
    for item in segments:
        try:
            start_s, end_s, label = item
            start_s, end_s = float(start_s), float(end_s)
        except (TypeError, ValueError):
            raise BadInput(
                f"the tier {name!r} has something that is not a segment",
                got=repr(item)[:80],
                wanted="[start in seconds, end in seconds, label]",
            ) from None
        if not isinstance(label, str):
            raise BadInput(f"the tier {name!r} has a label that is not text", got=repr(item)[:80], wanted="a text")
        if not (math.isfinite(start_s) and math.isfinite(end_s)) or start_s < 0:
            raise BadInput(
                f"the tier {name!r} has a time that is negative or no number",
                got=f"{label!r} from {start_s} s to {end_s} s",
                wanted="seconds from the start of the utterance",
            )
        if end_s < start_s:
            raise BadInput(
                f"the tier {name!r} has a segment that ends before it starts",
                got=f"{label!r} from {start_s:g} s to {end_s:g} s",
                wanted="a start, then an end",
            )
        tier.append(Segment(start_s, end_s, label))
    tier.sort(key=lambda segment: segment.start_s)
    return tier


def read_labels(path: Path, sample_rate: int) -> list[Segment]:
    """A `.phn` or `.wrd` file: a line for each segment, its first sample, the sample after its last one, its label.

    `sample_rate` (Hz) is that of the samples counted in the file.

    Raises:
        BadInput: the file is missing or a line of it is not of that form, with the line's number.
    """
    triples = []
    for number, line in _lines(path):
        parts = line.split(maxsplit=2)
        if len(parts) != 3 or not (parts[0].isdecimal() and parts[1].isdecimal()):
            raise _bad_line(path, number, line, "first sample, end sample, label")
        triples.append((int(parts[0]) / sample_rate, int(parts[1]) / sample_rate, parts[2].strip()))
    return make_tier(path.name, triples)


def read_ctm(path: Path | str) -> dict[str, list[Segment]]:
    """A CTM file, as utterance → tier: lines of utterance, channel, start and duration in seconds, label.

    A confidence may follow; lines that start with `;;` are comments (NIST SCTK, doc/infmts).

    Raises:
        BadInput: the file is missing or a line of it is not of that form, with the line's number.
    """
    path = Path(path)
    triples: dict[str, list[tuple[float, float, str]]] = {}
    for number, line in _lines(path):
        if line.startswith(";;"):
            continue
        parts = line.split()
        try:
            start_s, duration_s = float(parts[2]), float(parts[3])
            # Ten-thousandths of a second are below what any aligner knows, and sums of decimals stay readable.
            triples.setdefault(parts[0], []).append((start_s, round(start_s + duration_s, 5), parts[4]))
        except (IndexError, ValueError):
            raise _bad_line(path, number, line, "utterance, channel, start, duration, label") from None
    if not triples:
        raise BadInput(f"{path} holds no segments", wanted="lines of utterance, channel, start, duration, label")
    return {utterance: make_tier(path.name, tier) for utterance, tier in triples.items()}


def read_textgrid(path: Path | str) -> dict[str, list[Segment]]:
    """The interval tiers of a Praat TextGrid (long or short) by name; `phones` and `words` come as `phone` and `word`.

    Empty intervals are kept, with the label "": they are silence.

    Raises:
        BadInput: the file is missing, or praatio cannot read it.
    """
    path = Path(path)
    if not path.is_file():
        raise _missing(path)
    try:
        grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=True, reportingMode="error")
    except Exception as error:  # praatio raises plain ValueError, IndexError and its own kinds on files cut short
        raise BadInput(
            f"the TextGrid {path} cannot be read",
            got=str(error).splitlines()[0][:120] if str(error) else type(error).__name__,
            wanted="Praat's long or short text format",
            remedy="open it in Praat and save it again as a text file",
        ) from error
    _check_whole(path, grid)
    tiers = {}
    for tier in grid.tiers:
        if isinstance(tier, textgrid.IntervalTier):
            name = TIER_NAMES.get(tier.name.lower(), tier.name)
            tiers[name] = make_tier(name, [(entry.start, entry.end, entry.label) for entry in tier.entries])
    return tiers


def read_tier(path: Path, name: str, utterance: str, sample_rate: int | None) -> list[Segment]:
    """The tier `name` of one utterance from a label file: .TextGrid, .ctm, or times in samples as in .phn and .wrd.

    Raises:
        BadInput: the file is missing or malformed, has no such tier or utterance, or counts samples of unknown rate.
    """
    kind = path.suffix.lower()
    if kind in (".textgrid", ".ctm"):
        tiers = _read_once(path, path.stat().st_mtime_ns if path.exists() else 0)
        found = name if kind == ".textgrid" else utterance
    elif sample_rate is None:
        raise BadInput(f"{path} counts samples, but of what rate is not known", remedy="add sample_rate to the row")
    else:
        return read_labels(path, sample_rate)
    if found not in tiers:
        raise BadInput(f"{path} has no {found!r}", got=f"it has {', '.join(list(tiers)[:8]) or 'nothing'}")
    return list(tiers[found])


def overlaps(tier: list[Segment], tolerance_s: Seconds = 0.0) -> list[tuple[Segment, Segment]]:
    """Neighbours of which the second starts more than `tolerance_s` before the first has ended."""
    return [(first, second) for first, second in itertools.pairwise(tier) if second.start_s < first.end_s - tolerance_s]


# How many intervals or points each tier should have: `intervals: size = 40` in the long format; in the short one the
# number after the tier's kind, name, start and end.
_LONG_COUNTS = re.compile(r"(?:intervals|points): size = (\d+)")
_SHORT_COUNTS = re.compile(r'"(?:IntervalTier|TextTier)"\s+"(?:[^"]|"")*"\s+\S+\s+\S+\s+(\d+)')


def _check_whole(path: Path, grid: textgrid.Textgrid) -> None:
    """praatio reads a file that was cut short without a word; the numbers it announces tell."""
    data = path.read_bytes()
    text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8", errors="replace")
    announced = [int(n) for n in _LONG_COUNTS.findall(text) or _SHORT_COUNTS.findall(text)]
    found = [len(tier.entries) for tier in grid.tiers]
    if announced != found:
        raise BadInput(
            f"the TextGrid {path} is cut short",
            got=f"{found} segments in its tiers",
            wanted=f"{announced}, as it says itself",
            remedy="copy or export it again",
        )


@lru_cache(maxsize=4)
def _read_once(path: Path, changed: int) -> dict[str, list[Segment]]:
    # Rows in a row ask the same file for their tiers; `changed` makes an edited file another one.
    return read_textgrid(path) if path.suffix.lower() == ".textgrid" else read_ctm(path)


def _lines(path: Path) -> list[tuple[int, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, IsADirectoryError):
        raise _missing(path) from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the label file {path} cannot be read", got=str(error), wanted="text in UTF-8") from error
    return [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def _missing(path: Path) -> OtoscopeError:
    return BadInput(f"there is no label file {path}", remedy="correct the path; it is taken from the manifest's folder")


def _bad_line(path: Path, number: int, line: str, wanted: str) -> OtoscopeError:
    return BadInput(f"line {number} of {path} is not a segment", got=line.strip()[:80], wanted=wanted)
