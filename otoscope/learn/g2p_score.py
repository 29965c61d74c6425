"""How well words are read: phoneme and word error rates against a dictionary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import kaldialign

from otoscope.base import BadInput
from otoscope.hear.lexicon import without_stress


@dataclass(frozen=True)
class ReadingErrors:
    """Counts over words. `edits` are phones to be substituted, deleted or inserted, `phones` those of the nearest
    listed pronunciations, `wrong` the words whose reading is none of theirs."""

    words: int
    wrong: int
    phones: int
    edits: int

    @property
    def per(self) -> float:
        """Phoneme error rate in percent."""
        return 100 * self.edits / self.phones

    @property
    def wer(self) -> float:
        """Word error rate in percent."""
        return 100 * self.wrong / self.words

    def as_dict(self) -> dict[str, Any]:
        """The counts and both rates."""
        return {**asdict(self), "per": self.per, "wer": self.wer}

    def __str__(self) -> str:
        return (
            f"PER {self.per:.2f} % ({self.edits} of {self.phones} phones), "
            f"WER {self.wer:.2f} % ({self.wrong} of {self.words} words)"
        )


def reading_errors(
    truth: Mapping[str, Sequence[tuple[str, ...]]], readings: Mapping[str, tuple[str, ...]], *, stress: bool = False
) -> ReadingErrors:
    """Compare readings with the nearest of each word's listed pronunciations: fewest edits; of equal ones the first.

    Args:
        truth: word → its pronunciations.
        readings: word → the phones read, for every word of `truth`.
        stress: whether marks of stress count; they are dropped from both sides if not.

    Raises:
        BadInput: there is no word, or a word was not read.
    """
    if not truth:
        raise BadInput("there are no words to score", got="none", wanted="at least one")
    wrong = phones = edits = 0
    for word, listed in truth.items():
        if word not in readings:
            raise BadInput("a word was not read", got=repr(word), wanted="a reading of every word")
        variants = listed if stress else [without_stress(spoken) for spoken in listed]
        read = readings[word] if stress else without_stress(readings[word])
        fewest, length = min(
            ((kaldialign.edit_distance(spoken, read)["total"], len(spoken)) for spoken in variants),
            key=lambda found: found[0],
        )
        edits += fewest
        phones += length
        wrong += fewest > 0
    return ReadingErrors(len(truth), wrong, phones, edits)
