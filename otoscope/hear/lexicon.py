"""Pronouncing dictionaries: words and the phones they are made of, in the format of the CMU pronouncing dictionary.

A row is a word and its phones: `cake K EY1 K`. Further pronunciations of a word come in rows of their own, the word
followed by a number: `read(2) R EH1 D`. What follows a `#`, and rows that begin with `;;;`, are comments.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from otoscope.base import BadInput
from otoscope.hear.corpus import Problem
from otoscope.hear.phones import PHONE_TABLE, PHONES

_VARIANT = re.compile(r"\(\d+\)$")
APOSTROPHES = re.compile("[\u2018\u2019\u02bc`\u00b4]")
"""What is written for the typewriter's apostrophe; as in `otoscope.hear.text`."""
_PHONE = re.compile(r"([A-Z]+)([0-2]?)")


class Lexicon(Mapping[str, list[tuple[str, ...]]]):
    """Word, in small letters → its pronunciations as they stand in the file, stress included; the first is the usual.

    `problems` are the rows that were left out, and why.
    """

    def __init__(self, words: Mapping[str, list[tuple[str, ...]]], problems: list[Problem] | None = None):
        self.words = dict(words)
        self.problems = problems or []

    def __getitem__(self, word: str) -> list[tuple[str, ...]]:
        return self.words[word]

    def __iter__(self) -> Iterator[str]:
        return iter(self.words)

    def __len__(self) -> int:
        return len(self.words)


def without_stress(phones: tuple[str, ...]) -> tuple[str, ...]:
    """The phones without their marks of stress: `EY1` is `EY`."""
    return tuple(phone.rstrip("012") for phone in phones)


def read_lexicon(path: Path) -> Lexicon:
    """A dictionary from its file (UTF-8, or Latin-1 as older CMU dictionaries are). Empty rows are nothing.

    Raises:
        BadInput: the file cannot be read, is no text, or holds no row that can be used (the first faults are named).
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise BadInput(
            "the dictionary cannot be read", got=f"{path}: {error.strerror}", wanted="rows such as 'cake K EY1 K'"
        ) from error
    if b"\0" in data:
        raise BadInput("the dictionary is no text", got=path, wanted="rows such as 'cake K EY1 K'")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    words: dict[str, list[tuple[str, ...]]] = {}
    problems = []
    for line, row in enumerate(text.split("\n"), 1):
        if row.startswith(";;;") or not row.strip():
            continue
        written, *phones = row.partition(" #")[0].split() or [""]
        word = APOSTROPHES.sub("'", _VARIANT.sub("", written).lower())
        fault = _fault(word, phones)
        if fault:
            problems.append(Problem(line, None, fault))
            continue
        spoken = tuple(phone.upper() for phone in phones)
        if spoken not in words.setdefault(word, []):
            words[word].append(spoken)
    if not words:
        raise BadInput(
            "the dictionary has no row that can be used",
            got=f"{path}: " + ("; ".join(map(str, problems[:3])) or "no row"),
            wanted="rows such as 'cake K EY1 K'",
        )
    return Lexicon(words, problems)


def _fault(word: str, phones: list[str]) -> str | None:
    if not word or word.startswith("#"):
        return "there is no word"
    if not phones:
        return f"{word[:40]!r} has no phones"
    unknown = []
    for phone in phones:
        match = _PHONE.fullmatch(phone.upper())
        if not match or match[1] not in PHONES or (match[2] and PHONE_TABLE[match[1]].manner != "vowel"):
            unknown.append(phone)
    if unknown:
        shown = " ".join(repr(phone[:12]) for phone in unknown[:3]) + (" …" if len(unknown) > 3 else "")
        return f"{word[:40]!r} has what is no phone of ARPAbet: {shown}"
    return None
