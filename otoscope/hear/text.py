"""Transcripts become symbol numbers and back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from otoscope.base import BadInput

BLANK = "<blank>"
GRAPHEMES: tuple[str, ...] = (BLANK, " ", "'", *"abcdefghijklmnopqrstuvwxyz")
"""The paper's 29 outputs: CTC's blank, the space, the apostrophe and the 26 letters."""

_APOSTROPHES = re.compile("[\u2018\u2019\u02bc`\u00b4]")
_PUNCTUATION = re.compile(r"[.,;:?!\"()\[\]\u201c\u201d\u2026]+")
_SEPARATORS = re.compile(r"[\s\-\u2010-\u2015_/]+")


def normalise_text(text: str) -> str:
    """Lower case, typewriter apostrophes, punctuation dropped, hyphens and runs of white space to single spaces."""
    text = _APOSTROPHES.sub("'", text.lower())
    return _SEPARATORS.sub(" ", _PUNCTUATION.sub(" ", text)).strip()


def encode(text: str, symbols: Sequence[str]) -> list[int]:
    """The symbol numbers of a transcript, after `normalise_text`.

    Raises:
        BadInput: naming the characters that are no symbols.
    """
    numbers = {symbol: number for number, symbol in enumerate(symbols)}
    text = normalise_text(text)
    unknown = sorted({character for character in text if character not in numbers})
    if unknown:
        raise BadInput(
            "the transcript has characters that are not among the network's symbols",
            got=f"{' '.join(map(repr, unknown))} in {text!r}",
            wanted=" ".join(map(repr, symbols)),
            remedy="write numbers and signs as words",
        )
    return [numbers[character] for character in text]


def decode(numbers: Iterable[int], symbols: Sequence[str]) -> str:
    """The text of symbol numbers, single spaces between words."""
    return " ".join("".join(symbols[number] for number in numbers).split())
