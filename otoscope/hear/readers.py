"""Corpora in other layouts, read as they lie: LibriSpeech, TIMIT, Kaldi data directories, CSV and TSV tables.

A reader walks a folder and gives rows such as a manifest has, with the file and line they come from; what a row may
hold, and what makes it a bad one, is the same for all (`otoscope.hear.manifest`). Texts stay as the corpus writes them.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, TypeAlias

from otoscope.base import BadInput, BadOption, OtoscopeError, choose
from otoscope.hear.corpus import Corpus, collect
from otoscope.hear.manifest import MANIFEST, Row, rows_to_utterances

AUDIO_ENDINGS = (".flac", ".wav", ".sph", ".opus", ".ogg", ".mp3")
# Alternatives for the columns of tables, after Common Voice, LJSpeech and NeMo.
COLUMNS = {
    "id": ("id", "utterance_id", "utt_id", "utterance"),
    "audio": ("audio", "path", "file", "filename", "file_name", "wav", "audio_filepath"),
    "text": ("text", "sentence", "transcript", "transcription", "normalized_text"),
    "speaker": ("speaker", "speaker_id", "client_id", "spk"),
}
NUMBER_COLUMNS = {"sample_rate": int, "offset_samples": int, "num_samples": int, "offset": float, "duration": float}

Rows: TypeAlias = Iterator[tuple[int, Row | OtoscopeError]]


def import_corpus(
    folder: Path | str, format: str | None = None, *, strict: bool = False, need_text: bool = True
) -> Corpus:
    """Read a corpus folder (or one CSV or TSV file) that has no manifest of ours.

    `format` is one of `FORMATS`: "librispeech", "timit", "kaldi", "csv"; None looks at the files. Rows that cannot be
    used are left out and listed in `.problems`; with `strict` the first one raises. `need_text` as in `read_corpus`.

    Raises:
        BadOption: an unknown format, or files of several formats and none named.
        BadInput: no such folder, no files of the format, or nothing usable in them; with `strict`, a bad row.
    """
    folder = Path(folder).absolute()
    if not folder.exists():
        raise BadInput(f"there is no folder {folder}", wanted="a corpus: " + ", ".join(FORMATS))
    if format is None:
        format = _guess(folder)
    layout = FORMATS[choose("corpus format", format, FORMATS)]
    sources = layout.find(folder)
    if not sources:
        raise BadInput(f"{folder} does not look like {format}", wanted=layout.wanted)
    if format == "csv" and len(sources) > 1:
        raise BadOption(
            f"{folder} has several tables",
            got=", ".join(path.name for path in sources),
            wanted="the path of one of them",
        )
    rows = ((line, row) for source in sources for line, row in layout.read(source))
    root = folder if folder.is_dir() else folder.parent
    return collect(rows_to_utterances(rows, root, need_text=need_text), folder, strict=strict)


def _guess(folder: Path) -> str:
    fitting = [name for name, layout in FORMATS.items() if layout.find(folder)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise BadOption(
            f"{folder} may be read in more than one way",
            got="files of " + " and ".join(map(repr, fitting)),
            wanted="one format named",
            remedy=" or ".join(f"format={name}" for name in fitting),
        )
    has_manifest = (folder / MANIFEST).is_file()
    raise BadInput(
        f"{folder} is no corpus of a layout known here",
        got=f"a {MANIFEST}, which is read as it is" if has_manifest else None,
        wanted="; ".join(f"{name}: {layout.wanted}" for name, layout in FORMATS.items()),
        remedy=f"use {folder / MANIFEST}"
        if has_manifest
        else "write a table with the columns id, audio, text, speaker",
    )


def _librispeech(transcript: Path) -> Rows:
    """`subset/speaker/chapter/speaker-chapter.trans.txt`, an id and a text a line; the sex from SPEAKERS.TXT above."""
    subset, speaker, chapter = transcript.parent.parts[-3:]
    tables = [folder / "SPEAKERS.TXT" for folder in list(transcript.parents)[2:5]]
    gender = next((_librispeech_genders(table).get(speaker) for table in tables if table.is_file()), None)
    common: Row = {"speaker": speaker, "chapter": chapter}
    common |= {"gender": gender} if gender else {}
    common |= {"corpus_subset": subset} if re.match(r"(train|dev|test)-", subset) else {}
    for number, line in _lines(transcript):
        id, _, text = line.partition(" ")
        audio = _beside(transcript.with_name(id), AUDIO_ENDINGS) or transcript.with_name(f"{id}.flac")
        yield number, {"id": id, "audio": str(audio), "text": text} | common


@lru_cache(maxsize=2)
def _librispeech_genders(table: Path) -> dict[str, str]:
    fields = [[field.strip() for field in line.split("|")] for _, line in _lines(table)]
    return {speaker: gender.lower() for speaker, gender, *_ in (row for row in fields if len(row) > 1)}


def _timit(labels: Path) -> Rows:
    """`train/dr1/fcjf0/sa1` with .wav, .phn, .wrd and .txt beside each other, in small letters or capitals.

    The sample that NLTK distributes has region and speaker in one folder, `dr1-fcjf0`.
    """
    stem = labels.with_suffix("")
    *_, usage, region, speaker = ("", "", "", *(part.lower() for part in labels.parent.parts))
    joined = re.fullmatch(r"(dr\d)-(\w+)", speaker)
    if joined:
        usage, region, speaker = region, joined[1], joined[2]
    dialect = re.fullmatch(r"dr(\d)", region)
    sentence = stem.name.lower()
    audio = _beside(stem, AUDIO_ENDINGS) or stem.with_suffix(".wav")
    prompt, words = _beside(stem, (".txt",)), _beside(stem, (".wrd",))
    row: Row = {
        "id": f"{region}-{speaker}-{sentence}" if dialect else f"{speaker}-{sentence}",
        "audio": str(audio),
        # First and last sample, then the sentence.
        "text": re.sub(r"^\s*\d+\s+\d+\s+", "", _read(prompt)).strip() if prompt else None,
        "speaker": speaker,
        "phones": str(labels),
        "words": str(words) if words else None,
        "sentence_type": sentence[:2],
    }
    row |= {"gender": speaker[0]} if speaker[:1] in ("f", "m") else {}
    row |= {"dialect": int(dialect[1])} if dialect else {}
    row |= {"split": usage} if usage in ("train", "test") else {}
    yield 0, row


def _kaldi(scp: Path) -> Rows:
    """`wav.scp`, `text`, `utt2spk`, `spk2gender`, `segments`. Commands in wav.scp are refused: none is ever run."""
    folder = scp.parent
    texts, speakers, genders = (_kaldi_table(folder / name) for name in ("text", "utt2spk", "spk2gender"))
    recordings = {id: (number, entry) for number, id, entry in _kaldi_entries(scp)}
    segments = folder / "segments"
    stretches = list(_kaldi_entries(segments)) if segments.is_file() else []
    if not segments.is_file():
        stretches = [(number, id, id) for id, (number, _) in recordings.items()]
    for number, id, stretch in stretches:
        name, *times = stretch.split() or [""]
        row: Row = {"id": id, "text": texts.get(id), "speaker": speakers.get(id)}
        if gender := genders.get(speakers.get(id, "")):
            row["gender"] = gender
        if name not in recordings:
            yield (
                number,
                BadInput(f"utterance {id}: wav.scp has no recording {name!r}", wanted="a recording of wav.scp"),
            )
            continue
        entry = recordings[name][1]
        if entry.endswith("|") or re.search(r"\.ark:\d+$", entry):
            yield (
                number,
                BadInput(
                    f"utterance {id}: wav.scp names a command or an archive, and only plain files are read",
                    got=entry[:80],
                    wanted="the path of a recording",
                    remedy="write the recordings to files first (Kaldi's wav-copy does it) and name them in wav.scp",
                ),
            )
            continue
        row["audio"] = str(_kaldi_path(folder, entry))
        try:
            if times:
                start_s, end_s = map(float, times[:2])
                row["offset"] = start_s
                # A negative end means the end of the recording.
                row |= {"duration": round(end_s - start_s, 6)} if end_s >= 0 else {}
        except ValueError:
            yield (
                number,
                BadInput(f"utterance {id}: the line is not a segment", got=stretch, wanted="recording start end"),
            )
            continue
        yield number, row


def _kaldi_path(folder: Path, entry: str) -> Path:
    # Kaldi takes paths from where its scripts are started, which is mostly above `data/`.
    candidates = [base / entry for base in (folder, *list(folder.parents)[:3], Path.cwd())]
    return next((path for path in candidates if path.is_file()), folder / entry)


def _kaldi_entries(path: Path) -> Iterator[tuple[int, str, str]]:
    for number, line in _lines(path):
        id, *entry = line.split(maxsplit=1)
        yield number, id, entry[0] if entry else ""


def _kaldi_table(path: Path) -> dict[str, str]:
    return {id: entry for _, id, entry in _kaldi_entries(path)} if path.is_file() else {}


def _csv(table: Path) -> Rows:
    """A header, then a row an utterance: `audio`, `text`, mostly `id` and `speaker`; other columns are attributes."""
    delimiter = "\t" if table.suffix.lower() == ".tsv" else ","
    reader = csv.DictReader(io.StringIO(_read(table), newline=""), delimiter=delimiter, strict=True)
    header = [name.strip().lower() for name in reader.fieldnames or []]
    columns = {name: next((c for c in choices if c in header), None) for name, choices in COLUMNS.items()}
    if columns["audio"] is None:
        raise BadInput(
            f"{table} has no column for the recordings",
            got=", ".join(header) or "an empty file",
            wanted="a header with " + ", ".join(COLUMNS),
            remedy="tables with tabs end in .tsv, tables with commas in .csv",
        )
    reader.fieldnames = header
    try:
        for fields in reader:
            yield reader.line_num, _csv_row(fields, columns, table.parent)
    except csv.Error as error:
        yield reader.line_num, BadInput("the table cannot be read from here on", got=str(error), wanted="CSV or TSV")


def _csv_row(fields: dict[str, str], columns: dict[str, str | None], folder: Path) -> Row | OtoscopeError:
    if None in fields or None in fields.values():
        return BadInput("the row has more or fewer fields than the header")
    row: Row = {name: fields.pop(column) for name, column in columns.items() if column}
    row["audio"] = str(folder / row["audio"]) if row["audio"] else None
    row["id"] = row.get("id") or Path(row["audio"] or "").stem
    row["speaker"] = row.get("speaker") or None
    for name, value in fields.items():
        if name in NUMBER_COLUMNS and value:
            try:
                row[name] = NUMBER_COLUMNS[name](value)
            except ValueError:
                return BadInput(f"{name} is no number", got=repr(value))
        elif value:
            row[name] = value
    return row


def _beside(stem: Path, endings: tuple[str, ...]) -> Path | None:
    candidates = (stem.with_name(stem.name + written) for ending in endings for written in (ending, ending.upper()))
    return next((path for path in candidates if path.is_file()), None)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    return ((number, line.strip()) for number, line in enumerate(_read(path).splitlines(), 1) if line.strip())


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read", got=str(error), wanted="text in UTF-8") from error


class Layout(NamedTuple):
    """A corpus layout: the files it is known by, how one of them is read, and what to look for, in words."""

    find: Callable[[Path], list[Path]]
    read: Callable[[Path], Rows]
    wanted: str


def _under(pattern: str) -> Callable[[Path], list[Path]]:
    wanted = re.compile(pattern, re.IGNORECASE)
    return lambda folder: sorted(path for path in folder.rglob("*") if wanted.fullmatch(path.name))


def _tables(folder: Path) -> list[Path]:
    found = [folder] if folder.is_file() else sorted(folder.iterdir())
    return [path for path in found if path.suffix.lower() in (".csv", ".tsv")]


FORMATS: dict[str, Layout] = {
    "librispeech": Layout(_under(r".*\.trans\.txt"), _librispeech, "speaker/chapter folders with *.trans.txt"),
    "timit": Layout(_under(r".*\.phn"), _timit, "speaker folders with *.phn beside the recordings"),
    "kaldi": Layout(lambda folder: list(folder.glob("wav.scp")), _kaldi, "a data directory with wav.scp"),
    "csv": Layout(_tables, _csv, "one .csv or .tsv file with a header: id, audio, text, speaker, …"),
}
