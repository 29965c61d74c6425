"""Which letter of a word makes which of its phones: expectation–maximisation over monotone alignments.

Every letter makes none, one or two phones, in order. How often a letter makes which is learned from words and their
pronunciations alone, as in Jiampojamarn, Kondrak and Sherif (2007), "Applying many-to-many alignments and hidden Markov
models to letter-to-phoneme conversion", section 2, with one letter to at most two phones: in *cake* the c makes K, the
a EY, the k K and the e nothing; the x of *box* makes K S.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from otoscope.base import BadInput

Chunk: TypeAlias = tuple[str, ...]
"""The phones that one letter makes."""

# Before anything is known: how likely a letter is to make none, one and two phones.
_SIZES = (0.25, 0.65, 0.1)
# The chance of a chunk that a letter was never seen to make, for each of its phones: less than anything seen.
_UNSEEN = 1e-7


class LetterAligner:
    """How likely each letter is to make which phones, and the best alignment of a word by it.

    `chances` maps a letter to its chunks and their probabilities: `{"x": {("K", "S"): 0.66, ("Z",): 0.19, ...}, ...}`.
    """

    def __init__(self, chances: Mapping[str, Mapping[Chunk, float]]):
        self.chances = {letter: dict(chunks) for letter, chunks in chances.items()}

    @classmethod
    def fit(cls, words: Iterable[tuple[Sequence[str], Sequence[str]]], *, rounds: int = 8) -> LetterAligner:
        """Learn the chances from pairs of letters and phones.

        Pairs that have no alignment (more than two phones a letter, or no letter) are left out: *aaa*, read as "triple
        a". Chunks that end with less than one word in a million letters are dropped.

        Args:
            words: letters and phones of each word; a word with two pronunciations comes twice.
            rounds: of expectation and maximisation.

        Raises:
            BadInput: no pair has an alignment.
        """
        groups = _same_shapes(words)
        if not groups.shapes:
            raise BadInput(
                "no word can be aligned with its phones",
                got="no word",
                wanted="words whose letters make none, one or two phones each",
            )
        letters, phones = len(groups.letters), len(groups.phones)
        none = np.full(letters, _SIZES[0])
        one = np.full((letters, phones), _SIZES[1] / phones)
        two = np.full((letters, phones, phones), _SIZES[2] / phones**2)
        for _ in range(rounds):
            counts = [np.zeros_like(table) for table in (none, one, two)]
            for spelt, spoken in groups.shapes:
                _expect(spelt, spoken, none, one, two, *counts)
            every = counts[0] + counts[1].sum(1) + counts[2].sum((1, 2))
            none = counts[0] / every
            one = counts[1] / every[:, None]
            two = counts[2] / every[:, None, None]
        chances: dict[str, dict[Chunk, float]] = {}
        for number, letter in enumerate(groups.letters):
            found: dict[Chunk, float] = {(): float(none[number])}
            found |= {(groups.phones[p],): float(one[number, p]) for p in range(phones)}
            for p, q in zip(*np.nonzero(two[number] > 1e-6), strict=True):
                found[groups.phones[p], groups.phones[q]] = float(two[number, p, q])
            chances[letter] = {chunk: chance for chunk, chance in found.items() if chance > 1e-6}
        return cls(chances)

    def align(self, letters: Sequence[str], phones: Sequence[str]) -> list[Chunk]:
        """The phones that each letter makes, in the most probable alignment.

        Of alignments that are equally likely, the one whose phones come early: the first l of *ball* makes the L. What
        was never seen is unlikely, not impossible. Where there are more than two phones a letter on average (*w*), a
        letter may make more.

        Raises:
            BadInput: there is a phone, and no letter to make it.
        """
        if phones and not letters:
            raise BadInput("there is no letter to make the phones", got=" ".join(phones), wanted="at least one letter")

        def value(place: int, start: int, size: int) -> float:
            chance = self.chances.get(letters[place], {}).get(tuple(phones[start : start + size]), 0.0)
            return math.log(chance) if chance else max(1, size) * math.log(_UNSEEN)

        return share_out(phones, len(letters), value)

    def as_json(self) -> dict[str, dict[str, float]]:
        """Plain values, the phones of a chunk joined by spaces, rounded to six places."""
        return {
            letter: {" ".join(chunk): round(chance, 6) for chunk, chance in sorted(chunks.items())}
            for letter, chunks in sorted(self.chances.items())
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Mapping[str, Any]]) -> LetterAligner:
        """What `as_json` gave."""
        return cls(
            {
                letter: {tuple(chunk.split()): float(chance) for chunk, chance in chunks.items() if float(chance) > 0}
                for letter, chunks in values.items()
            }
        )


def share_out(phones: Sequence[str], letters: int, value: Callable[[int, int, int], float]) -> list[Chunk]:
    """Give each of so many letters none, one or two of the phones, in order, so that the sum of values is greatest.

    `value(letter, start, size)` is what it is worth that this letter makes so many phones from that one on. Of equal
    sums the one whose phones come early wins. More than two phones a letter only where there are more than twice as
    many phones as letters.
    """
    total = len(phones)
    longest = 2 if total <= 2 * letters else total
    best = [[-math.inf] * (total + 1) for _ in range(letters + 1)]
    came = [[0] * (total + 1) for _ in range(letters + 1)]
    best[0][0] = 0.0
    for letter in range(letters):
        for start, before in enumerate(best[letter]):
            if before == -math.inf:
                continue
            for size in range(min(longest, total - start) + 1):
                worth, end = before + value(letter, start, size), start + size
                # Ways to here come from few phones before to many: of equal ones the last has its phones earliest.
                if worth >= best[letter + 1][end] - 1e-9:
                    best[letter + 1][end], came[letter + 1][end] = max(worth, best[letter + 1][end]), size
    chunks, end = [], total
    for letter in range(letters, 0, -1):
        size = came[letter][end]
        chunks.append(tuple(phones[end - size : end]))
        end -= size
    return chunks[::-1]


class _Groups:
    """Words of the same numbers of letters and of phones, as arrays `(word, letter)` and `(word, phone)`."""

    def __init__(self, letters: list[str], phones: list[str], shapes: list[tuple[np.ndarray, np.ndarray]]):
        self.letters, self.phones, self.shapes = letters, phones, shapes


def _same_shapes(words: Iterable[tuple[Sequence[str], Sequence[str]]]) -> _Groups:
    letter_number: dict[str, int] = {}
    phone_number: dict[str, int] = {}
    found: dict[tuple[int, int], list[tuple[list[int], list[int]]]] = defaultdict(list)
    # Words that come often count as often.
    for (spelt, spoken), often in Counter((tuple(spelt), tuple(spoken)) for spelt, spoken in words).items():
        if spelt and len(spoken) <= 2 * len(spelt):
            row = (
                [letter_number.setdefault(letter, len(letter_number)) for letter in spelt],
                [phone_number.setdefault(phone, len(phone_number)) for phone in spoken],
            )
            found[len(spelt), len(spoken)] += [row] * often
    shapes = [
        (np.array([spelt for spelt, _ in rows]), np.array([spoken for _, spoken in rows], dtype=int))
        for _, rows in sorted(found.items())
    ]
    return _Groups(list(letter_number), list(phone_number), shapes)


def _expect(
    spelt: np.ndarray,
    spoken: np.ndarray,
    none: np.ndarray,
    one: np.ndarray,
    two: np.ndarray,
    none_counts: np.ndarray,
    one_counts: np.ndarray,
    two_counts: np.ndarray,
) -> None:
    """Add the expected number of times that each letter made each chunk, by the forward–backward algorithm."""
    words, count = spelt.shape
    total = spoken.shape[1]
    # Of each letter at each place of the phones: the chance of making none, the next, the next two.
    skip = [none[spelt[:, place]][:, None] for place in range(count)]
    single = [one[spelt[:, place][:, None], spoken] for place in range(count)]
    double = [two[spelt[:, place][:, None], spoken[:, :-1], spoken[:, 1:]] for place in range(count)]
    forward = np.zeros((count + 1, words, total + 1))
    backward = np.zeros((count + 1, words, total + 1))
    forward[0, :, 0] = backward[count, :, total] = 1
    for place in range(count):
        forward[place + 1] = forward[place] * skip[place]
        forward[place + 1, :, 1:] += forward[place, :, :-1] * single[place]
        forward[place + 1, :, 2:] += forward[place, :, :-2] * double[place]
    for place in reversed(range(count)):
        backward[place] = backward[place + 1] * skip[place]
        backward[place, :, :-1] += backward[place + 1, :, 1:] * single[place]
        backward[place, :, :-2] += backward[place + 1, :, 2:] * double[place]
    whole = forward[count, :, total]
    # A word that has become impossible (all its chunks underflowed) says nothing.
    share = np.divide(1.0, whole, out=np.zeros_like(whole), where=whole > 0)[:, None]
    for place in range(count):
        letter = spelt[:, place]
        np.add.at(none_counts, letter, (forward[place] * skip[place] * backward[place + 1] * share).sum(1))
        expected = forward[place, :, :-1] * single[place] * backward[place + 1, :, 1:] * share
        np.add.at(one_counts, (letter[:, None], spoken), expected)
        expected = forward[place, :, :-2] * double[place] * backward[place + 1, :, 2:] * share
        np.add.at(two_counts, (letter[:, None], spoken[:, :-1], spoken[:, 1:]), expected)
