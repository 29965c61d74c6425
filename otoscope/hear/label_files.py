"""Tiers become files, and files of a folder become tiers: CTM (one tier, many utterances), TextGrid (one utterance).

What is written here is read by `otoscope.hear.tiers`; a folder of TextGrids, as forced aligners leave it, by
`add_textgrids`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias
from urllib.parse import quote

from praatio import textgrid

from otoscope.base import BadInput, OtoscopeError, Seconds, atomic_path, write_text
from otoscope.hear.corpus import Problem, Utterance
from otoscope.hear.tiers import Segment, make_tier, overlaps, read_textgrid

ENDING = ".TextGrid"
Labelled: TypeAlias = Segment | tuple[Seconds, Seconds, str]
# Times are written to ten-thousandths of a second; less is no overlap.
DIGITS = 4


def write_ctm(tiers: Mapping[str, Iterable[Labelled]], path: Path | str) -> int:
    """Write one tier of many utterances as CTM: utterance, channel 1, start, duration, label; the number of lines.

    Segments without a label are silence, and left out.

    Raises:
        BadInput: an id or a label that CTM cannot hold, because a space ends it; nothing to write.
        OtoscopeError: the file cannot be written.
    """
    lines = []
    for id, tier in tiers.items():
        for segment in make_tier(id, tier):
            label = segment.label.strip()
            if not label:
                continue
            for text in (id, label):
                if len(text.split()) != 1 or text.startswith(";;"):
                    wanted = "no spaces in ids and labels, and no ;; before them"
                    raise BadInput(f"utterance {id}: CTM cannot hold this", got=repr(text), wanted=wanted)
            start_s = round(segment.start_s, DIGITS)
            duration_s = round(segment.end_s, DIGITS) - start_s
            lines.append(f"{id} 1 {start_s:.{DIGITS}f} {duration_s:.{DIGITS}f} {label}\n")
    if not lines:
        raise BadInput("there is no segment to write", got=f"{len(tiers)} utterances", wanted="at least one segment")
    write_text(Path(path), "".join(lines))
    return len(lines)


def write_textgrid(tiers: Mapping[str, Iterable[Labelled]], seconds: Seconds, path: Path | str) -> None:
    """Write the tiers of one utterance as a TextGrid (long format) of `seconds`, or as long as its last segment.

    Segments too short to be told apart from a point (below a ten-thousandth of a second) cannot stand in it and are
    left out.

    Raises:
        BadInput: segments that overlap; no tier.
        OtoscopeError: the file cannot be written.
    """
    path = Path(path)
    if not tiers:
        raise BadInput(f"{path.name}: a TextGrid needs a tier", got="none", wanted="at least one")
    checked = {name: make_tier(name, tier) for name, tier in tiers.items()}
    ends = [segment.end_s for tier in checked.values() for segment in tier]
    seconds = round(max([seconds, *ends]), DIGITS)
    grid = textgrid.Textgrid(0, seconds)
    for name, tier in checked.items():
        clashes = overlaps(tier, 10**-DIGITS)
        if clashes:
            got = " and ".join(f"{one.label!r} {one.start_s:g}–{one.end_s:g} s" for one in clashes[0])
            raise BadInput(f"{path.name}: the tier {name!r} has segments that overlap", got=got)
        entries, reached = [], 0.0
        for segment in tier:
            start_s, end_s = max(reached, round(segment.start_s, DIGITS)), round(segment.end_s, DIGITS)
            if end_s > start_s:
                entries.append((start_s, end_s, segment.label))
                reached = end_s
        grid.addTier(textgrid.IntervalTier(name, entries, 0, seconds))
    with atomic_path(path) as temporary:
        grid.save(str(temporary), "long_textgrid", includeBlankSpaces=True)


def write_textgrids(
    utterances: Iterable[Utterance], names: Sequence[str], seconds: Mapping[str, Seconds], folder: Path | str
) -> list[Path]:
    """Write `ID.TextGrid` for each utterance that has one of the tiers; their paths.

    Signs that a file name cannot have are written as in URLs.
    """
    paths = []
    for utterance in utterances:
        tiers = {name: utterance.tiers[name] for name in names if name in utterance.tiers}
        if tiers:
            paths.append(Path(folder) / (quote(utterance.id, safe=" ") + ENDING))
            write_textgrid(tiers, seconds.get(utterance.id, 0.0), paths[-1])
    return paths


def add_textgrids(utterances: Iterable[Utterance], folder: Path | str) -> list[Problem]:
    """Give utterances the tiers of the TextGrids named after them in a folder or below it, in place.

    A tier replaces one of the same name. Utterances without a TextGrid stay as they are.

    Returns: the files that cannot be read, as problems.

    Raises:
        BadInput: no such folder, or no TextGrid in it that is named after an utterance.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise BadInput(f"there is no folder {folder}", wanted="a folder of TextGrids named after the utterances")
    files = {path.stem: path for path in sorted(folder.rglob("*")) if path.suffix.lower() == ENDING.lower()}
    found, problems, asked = 0, [], ""
    for utterance in utterances:
        asked = asked or utterance.id
        path = files.get(utterance.id) or files.get(quote(utterance.id, safe=" "))
        if path is None:
            continue
        found += 1
        try:
            utterance.tiers.update(read_textgrid(path))
        except OtoscopeError as error:
            problems.append(Problem.of(0, utterance.id, error))
    if not found:
        got = f"{len(files)} TextGrids" + (f" such as {next(iter(files))}{ENDING}" if files else "")
        raise BadInput(f"{folder} has no TextGrid of these utterances", got=got, wanted=f"such as {asked}{ENDING}")
    return problems
