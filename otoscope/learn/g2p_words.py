"""What the network from spelling to sound learns from: a dictionary's words, held out or not, in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from otoscope.base import derive_seed
from otoscope.hear.lexicon import Lexicon, without_stress
from otoscope.learn.g2p import LETTERS, PHONE_NUMBERS, letter_numbers
from otoscope.learn.graphones import Graphone
from otoscope.learn.letters import Chunk, LetterAligner

IGNORED = -100
"""The number of what there is no answer to: torch leaves it out of a loss."""


class Example(NamedTuple):
    """One pronunciation of a word in numbers, and which letter makes each phone and each letter's chunk."""

    letters: list[int]
    phones: list[int]
    stress: list[int]
    owners: list[int]
    chunks: list[int]


class Split(NamedTuple):
    """Headwords of a dictionary that the network can read, and their pronunciations with stress."""

    training: dict[str, list[tuple[str, ...]]]
    development: dict[str, list[tuple[str, ...]]]
    heldout: dict[str, list[tuple[str, ...]]]


def split_words(lexicon: Lexicon) -> Split:
    """Headwords of letters and apostrophes only, a tenth of them held out, a hundredth kept for development.

    Which is decided by `derive_seed("g2p", headword) % 100`: below 10 it is held out with all its pronunciations, 10 is
    development. No list is needed to repeat it, and a dictionary with more words moves none.
    """
    parts = Split({}, {}, {})
    for word, spoken in lexicon.items():
        if any("a" <= letter <= "z" for letter in word) and set(word) <= set(LETTERS):
            share = derive_seed("g2p", word) % 100
            parts[2 if share < 10 else 1 if share == 10 else 0][word] = spoken
    return parts


def examples(words: dict[str, list[tuple[str, ...]]], aligner: LetterAligner, chunks: Sequence[Chunk]) -> list[Example]:
    """What is learned from words; pronunciations that differ in stress alone count once, *aaa* ("triple a") never."""
    chunk_numbers = {chunk: number for number, chunk in enumerate(chunks)}
    found = []
    for word, variants in words.items():
        seen = set()
        for spoken in variants:
            phones = without_stress(spoken)
            if phones in seen or len(phones) > 2 * len(word):
                continue
            seen.add(phones)
            made = aligner.align(word, phones)
            found.append(
                Example(
                    letter_numbers(word),
                    [PHONE_NUMBERS[phone] for phone in phones],
                    [int(phone[-1]) if phone[-1].isdigit() else IGNORED for phone in spoken],
                    [letter for letter, chunk in enumerate(made) for _ in chunk],
                    [*(chunk_numbers.get(chunk, IGNORED) for chunk in made), IGNORED],
                )
            )
    return found


def aligned(aligner: LetterAligner, pairs: Sequence[tuple[str, tuple[str, ...]]]) -> Iterator[list[Graphone]]:
    """Words as rows of letters with the phones they make; those of more than two phones a letter are left out."""
    for word, phones in pairs:
        if len(phones) <= 2 * len(word):
            yield list(zip(word, aligner.align(word, phones), strict=True))


def common_chunks(aligner: LetterAligner, pairs: Sequence[tuple[str, tuple[str, ...]]]) -> list[Chunk]:
    """What letters make often, in a fixed order."""
    some = pairs[:: max(1, len(pairs) // 20_000)]
    often = Counter(chunk for row in aligned(aligner, some) for _, chunk in row)
    return [chunk for chunk, count in sorted(often.items()) if count >= 5] or [()]
