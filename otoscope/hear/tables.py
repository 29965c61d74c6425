"""Tables of recordings: CSV and TSV files with a header, and JSON lines with keys of their own."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from otoscope.base import BadInput, OtoscopeError
from otoscope.hear.layouts import Place, Rows, bytes_of, text_of
from otoscope.hear.lhotse import kind_of
from otoscope.hear.manifest import MANIFEST, Row, parse_rows

# Alternatives for the columns of tables, after Common Voice, LJSpeech and NeMo.
COLUMNS = {
    "id": ("id", "utterance_id", "utt_id", "utterance"),
    "audio": ("audio", "path", "file", "filename", "file_name", "wav", "audio_filepath"),
    "text": ("text", "sentence", "transcript", "transcription", "normalized_text"),
    "speaker": ("speaker", "speaker_id", "client_id", "spk"),
}
NUMBER_COLUMNS = {
    **dict.fromkeys(("sample_rate", "offset_samples", "num_samples", "channel"), int),
    **dict.fromkeys(("offset", "duration"), float),
}


def find_csv(place: Place) -> list[Path]:
    """The tables of a folder, not of those below it."""
    return [path for path in place.top if path.suffix.lower() in (".csv", ".tsv")]


def find_jsonl(place: Place) -> list[Path]:
    """The JSON lines of a folder that are neither our own manifest nor lhotse's; a file that was named in any case."""
    if not place.path.is_dir():
        endings = (".jsonl", ".jsonl.gz", ".json")
        return [p for p in place.top if p.name.lower().endswith(endings) and kind_of(p) == "table"]
    found = [p for p in place.top if p.name.lower().endswith((".jsonl", ".jsonl.gz")) and p.name != MANIFEST]
    return [path for path in found if kind_of(path) == "table"]


def read_csv(table: Path, place: Place) -> Rows:
    """A header, then a row an utterance: `audio`, `text`, mostly `id` and `speaker`; other columns are attributes."""
    delimiter = "\t" if table.suffix.lower() == ".tsv" else ","
    reader = csv.DictReader(io.StringIO(text_of(table), newline=""), delimiter=delimiter, strict=True)
    header = [name.strip().lower() for name in reader.fieldnames or []]
    if not set(header) & set(COLUMNS["audio"]):
        raise BadInput(
            f"{table} has no column for the recordings",
            got=", ".join(header) or "an empty file",
            wanted="a header with " + ", ".join(COLUMNS),
            remedy="tables with tabs end in .tsv, tables with commas in .csv",
        )
    reader.fieldnames = header
    try:
        for fields in reader:
            yield reader.line_num, _csv_row(fields, table.parent)
    except csv.Error as error:
        yield reader.line_num, BadInput("the table cannot be read from here on", got=str(error), wanted="CSV or TSV")


def read_jsonl(table: Path, place: Place) -> Rows:
    """An object an utterance, its keys named as the columns of a table may be; other keys are attributes."""
    for number, fields in parse_rows(bytes_of(table)):
        yield number, fields if isinstance(fields, OtoscopeError) else _row(fields, table.parent)


def _csv_row(fields: dict[str, str], folder: Path) -> Row | OtoscopeError:
    if None in fields or None in fields.values():
        return BadInput("the row has more or fewer fields than the header")
    row = _row(fields, folder)
    for name, value in list(row.items()):
        if value == "" and name != "text":
            del row[name]
        elif name in NUMBER_COLUMNS:
            try:
                row[name] = NUMBER_COLUMNS[name](value)
            except ValueError:
                return BadInput(f"{name} is no number", got=repr(value))
    return row


def _row(fields: Mapping[str, Any], folder: Path) -> Row:
    row = dict(fields)
    for name, choices in COLUMNS.items():
        found = next((column for column in choices if column in row), None)
        if found is not None:
            row[name] = row.pop(found)
    audio = row.get("audio")
    if isinstance(audio, str) and audio:
        row["audio"] = str(folder / audio)
        # None and an empty field alike: the recording's name stands in.
        row["id"] = row.get("id") if row.get("id") not in (None, "") else Path(audio).stem
    row["speaker"] = row.get("speaker") or None
    return row
