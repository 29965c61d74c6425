"""Kaldi data directories: `wav.scp`, `text`, `utt2spk`, `spk2gender`, `segments`. No command is ever run.

A command in `wav.scp` that only unpacks a file which libsndfile reads itself (`sph2pipe`, `flac`, `cat`) is replaced by
that file, and by the channel that sph2pipe would pick; any other one is refused.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from otoscope.base import BadInput, OtoscopeError
from otoscope.hear.layouts import Place, Rows, lines, near
from otoscope.hear.manifest import Row

# What changes the container or the coding of the samples, and neither which samples they are nor how many.
_SPH2PIPE_FLAGS, _SPH2PIPE_VALUES = {"-p", "-u", "-a"}, {"-f", "-c"}
_FLAC_FLAG = re.compile(r"-[cds]+|--(?:stdout|decode|silent|totally-silent)")


def find(place: Place) -> list[Path]:
    """The folder's `wav.scp`."""
    return [path for path in place.top if path.name == "wav.scp"]


def read(scp: Path, place: Place) -> Rows:
    """A row an utterance: those of `segments`, or where there are none the recordings themselves."""
    folder = scp.parent
    texts, speakers, genders = (_table(folder / name) for name in ("text", "utt2spk", "spk2gender"))
    recordings = {id: entry for _, id, entry in _entries(scp)}
    segments = folder / "segments"
    cut = segments.is_file()
    stretches = list(_entries(segments)) if cut else [(number, id, id) for number, id, _ in _entries(scp)]
    known = {id for _, id, _ in stretches}
    for number, id, stretch in stretches:
        row: Row = {"id": id, "text": texts.get(id), "speaker": speakers.get(id)}
        if gender := genders.get(speakers.get(id, "")):
            row["gender"] = gender
        try:
            row |= _stretch(id, stretch, recordings, folder, cut=cut)
        except OtoscopeError as error:
            yield number, error
        else:
            yield number, row
    for number, id, _ in _entries(folder / "text") if texts else ():
        if id not in known:
            where = "segments" if cut else "wav.scp"
            yield number, BadInput(f"utterance {id}: it has a text, but {where} does not have it")


def _stretch(id: str, stretch: str, recordings: dict[str, str], folder: Path, *, cut: bool) -> dict[str, Any]:
    """The recording of an utterance, and which part and channel of it are meant."""
    name, *times = stretch.split() or [""]
    if name not in recordings:
        raise BadInput(f"utterance {id}: wav.scp has no recording {name!r}", wanted="a recording of wav.scp")
    try:
        path, channel = recording_of(recordings[name])
    except BadInput as error:
        raise BadInput(
            f"utterance {id}: {error.problem}", got=error.got, wanted=error.wanted, remedy=error.remedy
        ) from None
    found: dict[str, Any] = {"audio": str(near(folder, path))} | ({} if channel is None else {"channel": channel})
    if not cut:
        return found
    try:
        start_s, end_s, *picked = map(float, times)
        found["offset"] = start_s
        # A negative end means the end of the recording.
        found |= {"duration": round(end_s - start_s, 6)} if end_s >= 0 else {}
        found |= {"channel": int(picked[0])} if picked and picked[0] >= 0 else {}
    except ValueError:
        raise BadInput(
            f"utterance {id}: the line is not a segment", got=stretch, wanted="recording start end"
        ) from None
    return found


def recording_of(entry: str) -> tuple[str, int | None]:
    """The file that an entry of `wav.scp` means, and which channel of it (from 0; None: as it is).

    Raises:
        BadInput: the entry is an archive, or a command that does more than unpack a file that libsndfile reads.
    """
    if not entry.endswith("|"):
        if re.search(r"\.ark:\d+$", entry):
            raise _refusal(entry)
        return entry, None
    try:
        program, *words = shlex.split(entry[:-1])
    except ValueError:
        raise _refusal(entry) from None
    paths, channel = [], None
    rest = iter(words)
    name = Path(program).name
    for word in rest:
        if not word.startswith("-"):
            paths.append(word)
        elif name == "sph2pipe" and word in _SPH2PIPE_VALUES:
            value = next(rest, "")
            if word == "-c":
                if value not in ("1", "2"):
                    raise _refusal(entry)
                channel = int(value) - 1
        elif not (word in _SPH2PIPE_FLAGS if name == "sph2pipe" else name == "flac" and _FLAC_FLAG.fullmatch(word)):
            raise _refusal(entry)
    # sph2pipe writes a file where a second one is named; another pipe or a redirection shows as a further word.
    if name not in ("sph2pipe", "flac", "cat") or len(paths) != 1 or re.search(r"[|<>;&$`]", entry[:-1]):
        raise _refusal(entry)
    return paths[0], channel


def _refusal(entry: str) -> BadInput:
    return BadInput(
        "wav.scp names a command or an archive, and only files are read",
        got=entry[:80],
        wanted="the path of a recording, or sph2pipe, flac or cat with one",
        remedy="write the recordings to files first (Kaldi's wav-copy does it) and name them in wav.scp",
    )


def _entries(path: Path) -> Iterator[tuple[int, str, str]]:
    for number, line in lines(path):
        id, *entry = line.split(maxsplit=1)
        yield number, id, entry[0] if entry else ""


def _table(path: Path) -> dict[str, str]:
    return {id: entry for _, id, entry in _entries(path)} if path.is_file() else {}
