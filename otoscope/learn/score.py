"""Substitutions, deletions and insertions between reference and hypothesis, and the word error rate they make."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from otoscope.hear.text import normalise_text
from otoscope.learn.word_alignment import DELETION, INSERTION, SUBSTITUTION, Pair, align_words


@dataclass(frozen=True)
class Counts:
    """Counted errors; they add up. `words` are the reference's."""

    sentences: int = 0
    words: int = 0
    correct: int = 0
    sub: int = 0
    # `del` is a word of Python's.
    deletions: int = 0
    ins: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(**{name: value + getattr(other, name) for name, value in asdict(self).items()})

    @property
    def errors(self) -> int:
        """Substitutions, deletions and insertions."""
        return self.sub + self.deletions + self.ins

    @property
    def wer(self) -> float:
        """Word error rate in percent of the reference words; may exceed 100. NaN when there are no reference words."""
        return 100 * self.errors / self.words if self.words else float("nan")

    def as_dict(self) -> dict[str, Any]:
        """The counts under sclite's names, and the rate."""
        return {
            "sentences": self.sentences,
            "words": self.words,
            "correct": self.correct,
            "sub": self.sub,
            "del": self.deletions,
            "ins": self.ins,
            "errors": self.errors,
            "wer": None if self.words == 0 else self.wer,
        }

    def __str__(self) -> str:
        counts = f"S/D/I {self.sub}/{self.deletions}/{self.ins} of {self.words} words, {self.sentences} utterances"
        return f"WER {self.wer:.1f} % ({counts})" if self.words else f"WER undefined ({counts})"


def count(pairs: Iterable[Pair]) -> Counts:
    """The counts of one aligned utterance. Optional words count among the words, as sclite has it."""
    kinds = [pair.kind for pair in pairs]
    sub, deletions, ins = (kinds.count(kind) for kind in (SUBSTITUTION, DELETION, INSERTION))
    words = len(kinds) - ins
    return Counts(1, words, words - sub - deletions, sub, deletions, ins)


def score_words(reference: str, hypothesis: str) -> Counts:
    """The counts of one utterance: aligned with sclite's weights (4 a substitution, 3 an insertion or deletion).

    Both texts are normalised the same way first.
    """
    return count(align_words(normalise_text(reference).split(), normalise_text(hypothesis).split()))


def score_texts(pairs: Iterable[tuple[str, str]]) -> Counts:
    """The counts of many `(reference, hypothesis)` pairs together."""
    return sum((score_words(reference, hypothesis) for reference, hypothesis in pairs), Counts())
