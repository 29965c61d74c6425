"""What every floor needs: errors that tell what to do, units of time, seeds, atomic files, named options."""

from __future__ import annotations

import contextlib
import difflib
import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

Seconds: TypeAlias = float


class OtoscopeError(Exception):
    """Something a user can mend. The message says what was got, what was wanted and what to do.

    The command line prints it without a traceback and exits with status 1.
    """

    def __init__(self, problem: str, *, got: object = None, wanted: object = None, remedy: str | None = None):
        self.problem, self.got, self.wanted, self.remedy = problem, got, wanted, remedy
        lines = [problem]
        if got is not None:
            lines.append(f"  got:    {got}")
        if wanted is not None:
            lines.append(f"  wanted: {wanted}")
        if remedy is not None:
            lines.append(f"  try:    {remedy}")
        super().__init__("\n".join(lines))


class BadInput(OtoscopeError):
    """A recording, a manifest row, a transcript or an array that cannot be used."""


class BadOption(OtoscopeError):
    """An option whose name or value is not one of those that exist."""


class BadCheckpoint(OtoscopeError):
    """A checkpoint or run that is missing, cut short, or of another network."""


def choose(name: str, value: str, allowed: Iterable[str]) -> str:
    """Return `value` if it is one of `allowed`; else raise `BadOption` naming close matches and all choices."""
    allowed = list(allowed)
    if value in allowed:
        return value
    close = difflib.get_close_matches(str(value), allowed, n=3)
    raise BadOption(
        f"unknown {name}",
        got=repr(value),
        wanted="one of " + ", ".join(map(repr, allowed)),
        remedy=f"did you mean {' or '.join(map(repr, close))}?" if close else None,
    )


def derive_seed(*parts: object) -> int:
    """A 31-bit seed that depends on every part (and on nothing else), so that no two uses share random numbers."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "big") & 0x7FFFFFFF


def fingerprint(path: Path) -> str:
    """The first 16 hex digits of a file's SHA-256: enough to tell whether a result still belongs to its input."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; on success it takes its place in one step, on failure it is removed.

    A reader therefore sees the old file or the whole new one. A full disk raises `OtoscopeError`, and what stood
    at `path` still stands.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
        os.close(handle)
    except OSError as error:
        raise unwritable(path, error) from error
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def unwritable(path: Path, error: OSError) -> OtoscopeError:
    """The message for a file that could not be written."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return OtoscopeError(
        f"could not write {path}",
        got="no space left on the disk" if full else (error.strerror or str(error)),
        wanted="a folder that can be written to",
        remedy="free some space and start the command again: it goes on where it was"
        if full
        else "name another folder, or change its permissions",
    )


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text in one step."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON, indented, in one step."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


Progress: TypeAlias = Callable[[int, int, str], None]
"""Called as `progress(done, total, note)` by long steps. The command line draws a bar from it; tests count calls."""


def silent(done: int, total: int, note: str = "") -> None:
    """The progress callback that says nothing."""
