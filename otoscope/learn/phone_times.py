"""Letters in time become phones and words in time.

Which phones each letter of a word makes is given (lexicon, grapheme-to-phoneme network): `[("c", ["K"]), ("a", ["EY"]),
("k", ["K"]), ("e", [])]`. A letter that makes several phones gives each an equal share of its time. A silent letter's
time goes to a neighbour: of the nearest letters of the word that sound, to the one whose phone is of the letter's own
kind, vowel or consonant (the a of *day* to EY, the n of *sing* to NG); where both or neither are, to the one before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from otoscope.base import BadInput
from otoscope.hear.phones import PHONE_TABLE
from otoscope.hear.tiers import Segment

Spelling: TypeAlias = Sequence[tuple[str, Sequence[str]] | Sequence]
"""The letters of a word in order, each with the phones that it makes: ARPAbet without stress, none if it is silent."""

VOWEL_LETTERS = frozenset("aeiouy")


def letters_of(spelling: Spelling) -> list[tuple[str, tuple[str, ...]]]:
    """Pairs of a letter and its phones.

    Raises:
        BadInput: something else.
    """
    try:
        return [(letter, tuple(phones)) for letter, phones in spelling if isinstance(letter, str)]
    except (TypeError, ValueError):
        wanted = '[["c", ["K"]], ["a", ["EY"]], …]'
        raise BadInput("these are not letters with their phones", got=repr(spelling)[:80], wanted=wanted) from None


def phone_segments(letters: Sequence[Segment], spelling: Spelling) -> list[Segment]:
    """The phones of one word in time, from its letters in time; none where the whole word is silent.

    Raises:
        BadInput: the letters are not those of the spelling.
    """
    pairs = letters_of(spelling)
    if [segment.label for segment in letters] != [letter for letter, _ in pairs]:
        raise BadInput(
            "these phones are of another word",
            got="".join(letter for letter, _ in pairs),
            wanted="".join(segment.label for segment in letters),
        )
    sounding = [index for index, (_, phones) in enumerate(pairs) if phones]
    spans = {index: (letters[index].start_s, letters[index].end_s) for index in sounding}
    for index, (letter, phones) in enumerate(pairs):
        if phones or not sounding:
            continue
        heir = heir_of(index, letter, pairs, sounding)
        start_s, end_s = spans[heir]
        spans[heir] = min(start_s, letters[index].start_s), max(end_s, letters[index].end_s)
    found = []
    for index in sounding:
        start_s, end_s = spans[index]
        phones = pairs[index][1]
        edges = [start_s + (end_s - start_s) * part / len(phones) for part in range(len(phones))] + [end_s]
        found += [Segment(edges[part], edges[part + 1], phone) for part, phone in enumerate(phones)]
    return found


def heir_of(index: int, letter: str, pairs: Sequence[tuple[str, tuple[str, ...]]], sounding: Sequence[int]) -> int:
    """Which of the sounding letters has the time of the silent letter number `index`."""
    before = max((one for one in sounding if one < index), default=None)
    after = min((one for one in sounding if one > index), default=None)
    if before is None or after is None:
        heir = after if before is None else before
        assert heir is not None
        return heir
    vowel = letter.lower() in VOWEL_LETTERS
    like_before = is_vowel(pairs[before][1][-1]) == vowel
    like_after = is_vowel(pairs[after][1][0]) == vowel
    return after if like_after and not like_before else before


def is_vowel(phone: str) -> bool:
    """Whether a phone is a vowel or diphthong; stress does not matter."""
    known = PHONE_TABLE.get(phone.rstrip("012"))
    return known is not None and known.manner == "vowel"


def word_segment(letters: Sequence[Segment]) -> Segment:
    """A word in time, from its letters."""
    return Segment(letters[0].start_s, letters[-1].end_s, "".join(segment.label for segment in letters))
