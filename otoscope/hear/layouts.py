"""What the readers of other layouts share: a corpus' folder walked once, its files as text, and what a layout is."""

from __future__ import annotations

import gzip
import os
import re
import zlib
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypeAlias

from otoscope.base import BadInput, OtoscopeError
from otoscope.hear.manifest import Row

AUDIO_ENDINGS = (".flac", ".wav", ".sph", ".opus", ".ogg", ".mp3")

Rows: TypeAlias = Iterator[tuple[int, Row | OtoscopeError | None]]
"""Lines with their rows; an error for a bad one, None for a stretch in which nothing is said."""


class Place:
    """Where a corpus lies: a folder, or one file of it; and the folder of its recordings, where that is another.

    `tiers`: whether times of phones and words are wanted.
    """

    def __init__(self, path: Path, audio: Path | None = None, *, tiers: bool = True):
        self.path, self.audio, self.tiers = path, audio, tiers
        self.folder = path if path.is_dir() else path.parent
        self._named: dict[str, list[Path]] = {}

    @cached_property
    def files(self) -> list[Path]:
        """Every file below the folder, or the one that was named."""
        return sorted(_walk(self.path)) if self.path.is_dir() else [self.path]

    @property
    def top(self) -> list[Path]:
        """The files in the folder itself, or the one that was named."""
        return sorted(path for path in self.path.iterdir() if path.is_file()) if self.path.is_dir() else [self.path]

    def named(self, pattern: str) -> list[Path]:
        """The files below the folder with such a name, a regular expression for small letters and capitals alike."""
        if pattern not in self._named:
            wanted = re.compile(pattern, re.IGNORECASE)
            self._named[pattern] = [path for path in self.files if wanted.fullmatch(path.name)]
        return self._named[pattern]

    @cached_property
    def recordings(self) -> dict[str, Path]:
        """Every recording by its name without ending, in small letters.

        Raises:
            BadInput: there is none.
        """
        near = self.files if self.path.is_dir() else list(_walk(self.folder))
        found = [*near, *(sorted(_walk(self.audio)) if self.audio else [])]
        by_name = {path.stem.lower(): path for path in reversed(found) if path.suffix.lower() in AUDIO_ENDINGS}
        if not by_name:
            raise BadInput(
                f"there are transcripts, but no recordings in {self.audio or self.folder}",
                wanted=f"files with one of the endings {', '.join(AUDIO_ENDINGS)}",
                remedy="name the folder that holds them: audio=FOLDER, on the command line --audio FOLDER",
            )
        return by_name


class Layout(NamedTuple):
    """A corpus layout: the files it is known by, how one of them is read, and what to look for, in words.

    `alone`: the endings of files that are a corpus each. `apart`: recordings may lie in another folder.
    """

    find: Callable[[Place], list[Path]]
    read: Callable[[Path, Place], Rows]
    wanted: str
    alone: tuple[str, ...] = ()
    apart: bool = False


def beside(stem: Path, endings: tuple[str, ...]) -> Path | None:
    """The file of this name with one of the endings, in small letters or capitals; None where there is none."""
    candidates = (stem.with_name(stem.name + written) for ending in endings for written in (ending, ending.upper()))
    return next((path for path in candidates if path.is_file()), None)


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text that are not blank, with their numbers from 1.

    Raises:
        BadInput: the file cannot be read.
    """
    return ((number, line.strip()) for number, line in enumerate(text_of(path).split("\n"), 1) if line.strip())


def text_of(path: Path) -> str:
    """A text in UTF-8, whose name may end in .gz.

    Raises:
        BadInput: the file cannot be read.
    """
    try:
        return bytes_of(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} cannot be read", got=str(error), wanted="text in UTF-8") from error


def bytes_of(path: Path) -> bytes:
    """What a file holds, unpacked where its name ends in .gz.

    Raises:
        BadInput: the file cannot be read, or is no whole gzip file.
    """
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if path.suffix.lower() == ".gz" else data
    except (OSError, EOFError, zlib.error) as error:
        remedy = "copy it again" if path.suffix.lower() == ".gz" else None
        raise BadInput(f"{path} cannot be read", got=str(error), remedy=remedy) from error


def near(folder: Path, name: str) -> Path:
    """The file that a relative path means, which others take from where their scripts are started: mostly above."""
    candidates = [base / name for base in (folder, *list(folder.parents)[:3], Path.cwd())]
    return next((path for path in candidates if path.is_file()), folder / name)


def _walk(folder: Path) -> Iterator[Path]:
    # Corpora that came on several discs are often put together by links.
    seen = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        yield from (Path(parent, name) for name in names)
