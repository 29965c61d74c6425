"""Corpora in other layouts, read as they lie: found by their files, and turned into rows such as a manifest has.

A reader of `FORMATS` gives rows with the line they come from; what a row may hold, and what makes it a bad one, is the
same for all (`otoscope.hear.manifest`). Texts stay as the corpus writes them, but for transcripts of conversations,
whose marks for noises, broken words and doubts are taken out (`otoscope.hear.switchboard`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from otoscope.base import BadInput, BadOption, OtoscopeError, choose
from otoscope.hear import kaldi, lhotse, read_speech, switchboard, tables
from otoscope.hear.corpus import Corpus, collect
from otoscope.hear.layouts import Layout, Place
from otoscope.hear.manifest import LABEL_FILE_KEYS, MANIFEST, Row, rows_to_utterances

FORMATS: dict[str, Layout] = {
    "librispeech": Layout(
        lambda place: place.named(r".*\.trans\.txt"),
        read_speech.librispeech,
        "speaker/chapter folders with *.trans.txt",
    ),
    "timit": Layout(
        lambda place: place.named(r".*\.phn"), read_speech.timit, "speaker folders with *.phn beside the recordings"
    ),
    "switchboard": Layout(
        switchboard.find_switchboard,
        switchboard.read_switchboard,
        "Mississippi State's transcripts sw2001A-ms98-a-trans.text, …",
        apart=True,
    ),
    "hub5": Layout(
        switchboard.find_hub5,
        switchboard.read_hub5,
        "an .stm file such as hub5e00.english.000405.stm, or LDC's transcripts en_4156.txt, …",
        alone=(".stm",),
        apart=True,
    ),
    "kaldi": Layout(kaldi.find, kaldi.read, "a data directory with wav.scp"),
    "lhotse": Layout(lhotse.find, lhotse.read, "supervisions with recordings, or cuts, in .jsonl or .jsonl.gz files"),
    "jsonl": Layout(
        tables.find_jsonl,
        tables.read_jsonl,
        "one .jsonl file, an object a line with audio (or audio_filepath) and text",
        alone=(".jsonl", ".gz"),
    ),
    "csv": Layout(
        tables.find_csv,
        tables.read_csv,
        "one .csv or .tsv file with a header: id, audio, text, speaker, …",
        alone=(".csv", ".tsv"),
    ),
}


def import_corpus(
    folder: Path | str,
    format: str | None = None,
    *,
    audio: Path | str | None = None,
    tiers: bool = True,
    strict: bool = False,
    need_text: bool = True,
) -> Corpus:
    """Read a corpus folder, or one file of it, that has no manifest of ours.

    Rows that cannot be used are left out and listed in `.problems`; with `strict` the first one raises. Stretches in
    which nothing is said (silence, noise, laughter alone) are no utterances, and counted in `.passed_over`.

    Args:
        folder: the corpus; or one of its files, where several lie side by side.
        format: one of `FORMATS`; None looks at the files.
        audio: where the recordings are, if not below `folder`: for "switchboard" and "hub5", of which LDC hands out
            recordings and transcripts apart.
        tiers: whether to keep times of phones and words; without them a manifest is shorter and quicker to read.
        strict, need_text: as in `read_corpus`.

    Raises:
        BadOption: an unknown format, or files of several formats and none named; several files that are a corpus each;
            recordings elsewhere for a format that has them beside its texts.
        BadInput: no such folder, no files of the format, or nothing usable in them; with `strict`, a bad row.
    """
    folder, apart = Path(folder).absolute(), None if audio is None else Path(audio).absolute()
    if not folder.exists():
        raise BadInput(f"there is no folder {folder}", wanted="a corpus: " + ", ".join(FORMATS))
    if apart is not None and not apart.is_dir():
        raise BadInput(f"there is no folder {apart}", wanted="the folder of the recordings")
    place = Place(folder, apart, tiers=tiers)
    if format is None:
        format = _guess(place)
    layout = FORMATS[choose("corpus format", format, FORMATS)]
    if apart is not None and not layout.apart:
        raise BadOption(
            f"{format} has its recordings beside its texts",
            got=f"audio={apart}",
            wanted="no other folder; " + " and ".join(name for name in FORMATS if FORMATS[name].apart) + " take one",
        )
    sources = layout.find(place)
    if not sources:
        raise BadInput(f"{folder} does not look like {format}", wanted=layout.wanted)
    if len(sources) > 1 and sources[0].suffix.lower() in layout.alone:
        raise BadOption(
            f"{folder} has several tables",
            got=", ".join(path.name for path in sources),
            wanted="the path of one of them",
        )
    passed_over = 0

    def rows() -> Iterator[tuple[int, Row | OtoscopeError]]:
        nonlocal passed_over
        for source in sources:
            for line, row in layout.read(source, place):
                if row is None:
                    passed_over += 1
                elif isinstance(row, OtoscopeError) or tiers:
                    yield line, row
                else:
                    yield line, _without_times(row)

    corpus = collect(rows_to_utterances(rows(), place.folder, need_text=need_text), folder, strict=strict)
    corpus.passed_over = passed_over
    return corpus


def _guess(place: Place) -> str:
    fitting = [name for name, layout in FORMATS.items() if layout.find(place)]
    # Tables of something else lie beside many corpora.
    fitting = [name for name in fitting if name not in ("jsonl", "csv")] or fitting
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise BadOption(
            f"{place.path} may be read in more than one way",
            got="files of " + " and ".join(map(repr, fitting)),
            wanted="one format named",
            remedy=" or ".join(f"format={name}" for name in fitting),
        )
    has_manifest = (place.path / MANIFEST).is_file()
    raise BadInput(
        f"{place.path} is no corpus of a layout known here",
        got=f"a {MANIFEST}, which is read as it is" if has_manifest else None,
        wanted="; ".join(f"{name}: {layout.wanted}" for name, layout in FORMATS.items()),
        remedy=f"use {place.path / MANIFEST}"
        if has_manifest
        else "write a table with the columns id, audio, text, speaker",
    )


def _without_times(row: Row) -> Row:
    # A list of phones without times is an attribute.
    return {name: value for name, value in row.items() if name != "tiers" and not _names_labels(name, value)}


def _names_labels(name: str, value: object) -> bool:
    return name in LABEL_FILE_KEYS and isinstance(value, str | None)
