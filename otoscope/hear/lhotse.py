"""Manifests of lhotse, read as the JSON lines they are: supervisions with their recordings, or cuts.

    {"id": "rec", "sources": [{"type": "file", "channels": [0, 1], "source": "rec.sph"}], "sampling_rate": 8000, …}
    {"id": "rec-1", "recording_id": "rec", "start": 1.5, "duration": 2.0, "channel": 0, "text": "HELLO", "speaker": …}

lhotse itself is not needed for that. What only lhotse can do is refused in words: mixed and padded cuts, recordings
that are changed on the fly, archives of features.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from otoscope.base import BadInput, OtoscopeError
from otoscope.hear.kaldi import recording_of
from otoscope.hear.layouts import Place, Rows, bytes_of, near
from otoscope.hear.manifest import Row, parse_rows
from otoscope.hear.tiers import TIER_NAMES

_ENDINGS = (".jsonl", ".jsonl.gz")
_SPLIT = re.compile(r"(?:.*?[_.-])??(?:supervisions|cuts)(?:[_.-](?P<split>.+?))?\.jsonl(?:\.gz)?", re.IGNORECASE)


def kind_of(path: Path) -> str:
    """What the first line of a file is: "recording", "supervision", "cut", or a row of some other "table"."""
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as file:
            row = json.loads(file.readline())
    except (OSError, EOFError, ValueError, RecursionError):
        return "table"
    if not isinstance(row, dict):
        return "table"
    if "recording" in row or str(row.get("type", "")).endswith("Cut"):
        return "cut"
    return "supervision" if "recording_id" in row else "recording" if "sources" in row else "table"


def find(place: Place) -> list[Path]:
    """The folder's supervisions, or where it has none its cuts; or such a file that was named."""
    kinds = [(kind_of(path), path) for path in place.top if path.name.endswith(_ENDINGS)]
    supervisions = [path for kind, path in kinds if kind == "supervision"]
    return supervisions or [path for kind, path in kinds if kind == "cut"]


def read(manifest: Path, place: Place) -> Rows:
    """A row for each supervision, also of a cut; `split` is what the name says after "supervisions" or "cuts"."""
    named = _SPLIT.fullmatch(manifest.name)
    common: Row = {"split": named["split"]} if named and named["split"] else {}
    cuts = kind_of(manifest) == "cut"
    recordings = {} if cuts else _recordings(tuple(_stamped(manifest.parent)))
    for number, row in parse_rows(bytes_of(manifest)):
        if isinstance(row, OtoscopeError):
            yield number, row
            continue
        try:
            if cuts:
                found = [_of_supervision(s, row["recording"], row["start"], manifest.parent) for s in _parts(row)]
            else:
                if row["recording_id"] not in recordings:
                    raise BadInput(
                        f"utterance {row['id']}: there is no recording {row['recording_id']!r}",
                        wanted=f"one of the {len(recordings)} in the recordings' manifests beside {manifest.name}",
                    )
                found = [_of_supervision(row, recordings[row["recording_id"]], 0.0, manifest.parent)]
        except OtoscopeError as error:
            yield number, error
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            what = "cut" if cuts else "supervision"
            got = f"{type(error).__name__} {error}"
            yield number, BadInput(f"this is no {what} of lhotse's", got=got, wanted="a manifest that lhotse wrote")
        else:
            yield from ((number, one | common) for one in found)


def _stamped(folder: Path) -> Iterator[tuple[Path, int]]:
    for path in sorted(folder.iterdir()):
        if path.name.endswith(_ENDINGS) and kind_of(path) == "recording":
            yield path, path.stat().st_mtime_ns


@lru_cache(maxsize=1)
def _recordings(files: tuple[tuple[Path, int], ...]) -> dict[str, dict[str, Any]]:
    # One read for the supervisions of several splits; the times of change make an edited file another one.
    rows = (row for path, _ in files for _, row in parse_rows(bytes_of(path)))
    return {row["id"]: row for row in rows if isinstance(row, dict) and "id" in row}


def _parts(cut: dict[str, Any]) -> list[dict[str, Any]]:
    kind = cut.get("type", "MonoCut")
    if kind not in ("MonoCut", "MultiCut", "DataCut"):
        raise BadInput(
            f"cut {cut['id']}: mixed and padded cuts are not read",
            got=kind,
            wanted="cuts of one recording",
            remedy="import the supervisions and recordings that it was made of",
        )
    if not cut.get("recording"):
        raise BadInput(f"cut {cut['id']}: there is no recording", got="features only", wanted="a cut with a recording")
    if not cut.get("supervisions"):
        raise BadInput(f"cut {cut['id']}: there is no supervision", wanted="a cut in which something is said")
    return cut["supervisions"]


def _of_supervision(said: dict[str, Any], recording: dict[str, Any], start_s: float, folder: Path) -> Row:
    """A row; `start_s` is where the times of the supervision begin in the recording."""
    begin_s = float(said["start"])
    row: Row = {
        "id": said["id"],
        "text": said.get("text"),
        "speaker": said.get("speaker"),
        "sample_rate": recording["sampling_rate"],
        "offset": round(start_s + begin_s, 6),
        "duration": said["duration"],
    }
    row |= _source(said, recording, folder)
    extra = {name: said.get(name) for name in ("gender", "language")} | (said.get("custom") or {})
    plain = {name: value for name, value in extra.items() if isinstance(value, str | int | float)}
    row |= {name: value for name, value in plain.items() if name not in row}
    tiers = {}
    for name, items in (said.get("alignment") or {}).items():
        # Times of an alignment count from where those of its supervision do.
        triples = [(float(start) - begin_s, float(length), str(label)) for label, start, length, *_ in items]
        tiers[TIER_NAMES.get(name, name)] = [
            [max(0.0, round(start, 5)), max(0.0, round(start + length, 5)), label] for start, length, label in triples
        ]
    return row | ({"tiers": tiers} if tiers else {})


def _source(said: dict[str, Any], recording: dict[str, Any], folder: Path) -> Row:
    """The file that a supervision lies in, and the channel where the file has several."""
    if recording.get("transforms"):
        raise BadInput(
            f"utterance {said['id']}: its recording is changed by lhotse when it is read",
            got=str(recording["transforms"])[:80],
            wanted="a recording as it was made",
            remedy="import the manifests from before the change, or have lhotse write the recordings to files",
        )
    wanted = said.get("channel", 0)
    channels = wanted if isinstance(wanted, list) else [wanted]
    source = next((s for s in recording["sources"] if set(channels) <= set(s["channels"])), None)
    if source is None:
        got = ", ".join(str(s["channels"]) for s in recording["sources"])
        raise BadInput(f"utterance {said['id']}: no file has channel {wanted}", got=f"channels {got}")
    if source["type"] not in ("file", "command"):
        raise BadInput(
            f"utterance {said['id']}: its recording is no file",
            got=f"a source of the type {source['type']!r}",
            wanted="file, or a command of sph2pipe or flac",
            remedy="have lhotse write the recordings to files",
        )
    path, picked = source["source"], None
    if source["type"] == "command":
        path, picked = recording_of(f"{path.rstrip('| ')} |")
    row: Row = {"audio": str(near(folder, path))}
    if picked is None and len(source["channels"]) > 1 and len(channels) == 1:
        picked = source["channels"].index(channels[0])
    return row | ({} if picked is None else {"channel": picked})
