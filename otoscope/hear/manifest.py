"""Manifests: text files with one JSON object a line, each of them an utterance.

    {"id": "a1", "audio": "a1.flac", "text": "THREE", "speaker": "jo", "tiers": {"phone": [[0.1, 0.2, "TH"], …]}}

Paths are taken from the manifest's folder. `phones` and `words` may name label files (`.phn` and `.wrd` with times in
samples, `.TextGrid`, `.ctm`), which become the tiers `phone` and `word`; a tier in `tiers` may be such a path too.
Every other key is an attribute of the utterance.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from otoscope.base import BadInput, OtoscopeError, write_text
from otoscope.hear.tiers import make_tier, read_tier
from otoscope.hear.utterance import Utterance, about, audio_info, check_stretch

MANIFEST = "manifest.jsonl"
LABEL_FILE_KEYS = {"phones": "phone", "words": "word"}


def find_manifest(manifest: Path | str) -> Path:
    """The manifest meant by a path: itself, or `manifest.jsonl` in a folder.

    Raises:
        BadInput: there is none.
    """
    path = Path(manifest)
    path = path / MANIFEST if path.is_dir() else path
    if not path.is_file():
        raise BadInput(
            f"there is no manifest {path}",
            wanted="a file with one JSON object a line",
            remedy="make one from a corpus folder with `otoscope corpus import`, or correct the path",
        )
    return path


Row: TypeAlias = dict[str, Any]


def read_rows(path: Path) -> Iterator[tuple[int, Row | OtoscopeError]]:
    """Each row of a manifest with its line (from 1); an error where a line is not one JSON object.

    Raises:
        BadInput: the file cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(f"the manifest {path} cannot be read", got=error.strerror or str(error)) from error
    return parse_rows(data)


def parse_rows(data: bytes) -> Iterator[tuple[int, Row | OtoscopeError]]:
    """Each JSON object of lines in UTF-8 with its line (from 1); an error where a line is not one JSON object."""
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield number, BadInput("this is not JSON", got=str(error), wanted="one JSON object a line")
            continue
        if isinstance(row, dict):
            yield number, row
        else:
            yield number, BadInput("this is no JSON object", got=repr(row)[:80], wanted='{"id": …, "audio": …, …}')


def rows_to_utterances(
    rows: Iterable[tuple[int, Row | OtoscopeError]], folder: Path, *, need_text: bool = True
) -> Iterator[tuple[int, str | None, Utterance | OtoscopeError]]:
    """Each row's line, its id if it has one, and the utterance or what is wrong with the row."""
    first_line: dict[str, int] = {}
    sizes: dict[str, int | None] = {}
    for number, row in rows:
        id = None
        try:
            if isinstance(row, OtoscopeError):
                raise row
            id = _row_id(row)
            if id in first_line:
                raise BadInput(f"the id {id!r} is that of line {first_line[id]} too", wanted="an id of its own")
            utterance = row_to_utterance(id, row, folder, sizes, need_text=need_text)
        except OtoscopeError as error:
            yield number, id, error
        else:
            first_line[id] = number
            yield number, id, utterance


def row_to_utterance(
    id: str, row: Row, folder: Path, sizes: dict[str, int | None], *, need_text: bool = True
) -> Utterance:
    """One row as an utterance, its paths taken from `folder`. `sizes` remembers the recordings that were looked for.

    Raises:
        BadInput: the row cannot be used.
    """
    row = dict(row)
    audio, text, tiers = row.pop("audio", None), row.pop("text", None), row.pop("tiers", None)
    if text is not None and not isinstance(text, str):
        raise BadInput("the text is no text", got=repr(text)[:80], wanted='"text": "WHAT IS SAID"')
    if need_text and not (text and text.strip()):
        raise BadInput("there is no text", wanted='"text": "WHAT IS SAID"', remedy="add it, or leave the row out")
    if not isinstance(audio, str) or not audio:
        raise BadInput("there is no audio", got=f'"audio": {json.dumps(audio)}', wanted='"audio": "its path"')
    path = folder / audio
    size = sizes[audio] if audio in sizes else sizes.setdefault(audio, file_size(path))
    if not size:
        problem = f"there is no recording {path}" if size is None else f"the recording {path} is empty"
        remedy = "correct the path, which is taken from the manifest's folder, or copy the recording again"
        raise BadInput(problem, remedy=remedy)
    if not isinstance(tiers, dict | None):
        raise BadInput("the tiers are no object", got=repr(tiers)[:80], wanted='{"phone": [[0.1, 0.2, "TH"], …]}')
    # A list of phones without times, say, is an attribute and no label file.
    files = [key for key in LABEL_FILE_KEYS if isinstance(row.get(key), str | None)]
    sources = {LABEL_FILE_KEYS[key]: row.pop(key, None) for key in files} | (tiers or {})
    sources = {name: source for name, source in sources.items() if source not in (None, "")}
    rate, speaker = row.pop("sample_rate", None), row.pop("speaker", None)
    row.pop("id", None)
    if row.pop("features", None) is not None:
        raise BadInput("features cannot stand in a manifest", remedy="name the recording: features are made from it")
    utterance = Utterance(id, path, rate, text or "", speaker, **row)
    check_stretch(utterance)
    if utterance.sample_rate is None and any(isinstance(source, str) for source in sources.values()):
        rate = audio_info(utterance).sample_rate
    for name, source in sources.items():
        if isinstance(source, str):
            utterance.tiers[name] = read_tier(folder / source, name, id, rate)
        elif isinstance(source, list):
            utterance.tiers[name] = make_tier(name, source)
        else:
            raise BadInput(f"the tier {name!r} is no list", got=repr(source)[:80], wanted='[[0.1, 0.2, "TH"], …]')
    return utterance


def write_manifest(utterances: Iterable[Utterance], path: Path | str) -> None:
    """Write a manifest in one step; `read_corpus` gives the same utterances back.

    Recordings below the manifest's folder are named relative to it, others by their whole path. Tiers stand in rows.

    Raises:
        BadInput: an utterance whose audio is not a file, an id that comes twice, an attribute that JSON cannot hold.
        OtoscopeError: the file cannot be written; what stood there still stands.
    """
    path = Path(path)
    folder = os.path.abspath(path.parent)
    lines, seen = [], set()
    for utterance in utterances:
        if not isinstance(utterance.audio, Path):
            raise BadInput(
                f"utterance {utterance.id}: a manifest names recordings, and this one is not a file",
                got="samples" if utterance.audio is not None else "no audio",
                remedy="write the samples to a file and give the utterance its path",
            )
        if utterance.id in seen:
            raise BadInput(f"two utterances have the id {utterance.id!r}", wanted="an id for each")
        seen.add(utterance.id)
        audio = Path(os.path.abspath(utterance.audio))
        row = {
            "id": utterance.id,
            "audio": (audio.relative_to(folder) if audio.is_relative_to(folder) else audio).as_posix(),
            "text": utterance.text,
            "speaker": utterance.speaker,
            **utterance.attributes,
            "sample_rate": utterance.sample_rate,
            "tiers": {name: [list(segment) for segment in tier] for name, tier in utterance.tiers.items()},
        }
        row = {key: value for key, value in row.items() if key not in ("sample_rate", "tiers") or value}
        try:
            lines.append(json.dumps(row, ensure_ascii=False, allow_nan=False, default=plain_json) + "\n")
        except ValueError as error:
            raise about(utterance.id, BadInput("an attribute cannot be written as JSON", got=str(error))) from error
    write_text(path, "".join(lines))


def _row_id(row: Row) -> str:
    id = row.get("id")
    if isinstance(id, int) and not isinstance(id, bool):
        return str(id)
    if not isinstance(id, str) or not id.strip():
        raise BadInput("there is no id", got=f'"id": {json.dumps(id)}', wanted="a text that no other row has")
    return id


def file_size(path: Path) -> int | None:
    """The bytes of a file; None where there is none."""
    try:
        return path.stat().st_size if path.is_file() else None
    except (OSError, ValueError):
        return None


def plain_json(value: Any) -> Any:
    """What `json.dumps` shall write for numpy's numbers and arrays, and for paths."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise ValueError(f"{value!r:.80} is of no kind that JSON has")
