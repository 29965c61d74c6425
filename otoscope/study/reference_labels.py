"""Which letter of the transcript a prediction stands for, and which phone that letter makes; no times are needed.

The way of Krug et al. (2020, section 3.1) to phones of a corpus that has none: what the network says, letter by letter,
is aligned with the reference transcript by edit distance; the phone of a frame that predicts a letter is the phone that
the corresponding letter of the transcript makes. What cannot be mapped has no label, and is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import kaldialign
import torch
from torch import Tensor

from otoscope.base import BadInput, OtoscopeError
from otoscope.hear.corpus import Utterance
from otoscope.hear.text import normalise_text
from otoscope.learn.phone_times import Spelling, letters_of

NOTHING = ""
"""Stands for no letter in an alignment."""

Pronounce = Callable[[str], Spelling | None]

# What becomes of the frames that predict a symbol.
SAME, OTHER = "the same letter", "another letter"
INSERTED, SILENT, SPACE = "no letter of the transcript", "a letter that is silent", "a space between words"
CROWDED, UNPRONOUNCED = "fewer frames than the letter has phones", "a word without pronunciation"


@dataclass(frozen=True)
class ReferenceLabels:
    """`labels` `(frame,)`, None where there is none; `counts`, of frames that predict a symbol, by what they stand for.

    Of the counts, "the same letter" and "another letter" (a substitution) tell how the labelled frames were mapped; the
    others are frames without label, and why.
    """

    labels: tuple[str | None, ...]
    counts: Counter[str]


def emissions(said: Sequence[str | None], frames: Sequence[int] | None = None) -> list[list[int]]:
    """Indices of the frames of each symbol that is said: CTC merges equal neighbours, a blank (None) parts them.

    Args:
        said: predicted symbols, None for the blank.
        frames: the frame of each, ascending, where some are left out; frames that are not next to each other are
            different emissions.
    """
    found: list[list[int]] = []
    for index, symbol in enumerate(said):
        if symbol is None:
            continue
        gap = 1 if frames is None or index == 0 else frames[index] - frames[index - 1]
        if index and said[index - 1] == symbol and gap == 1:
            found[-1].append(index)
        else:
            found.append([index])
    return found


def counterparts(said: Sequence[str], reference: Sequence[str]) -> list[int | None]:
    """For each symbol said the index of the reference's symbol that it stands for; None for an insertion.

    By edit distance with equal costs (kaldialign): a substituted symbol stands for the one it replaces.
    """
    found: list[int | None] = []
    place = 0
    for wanted, got in kaldialign.align(list(reference), list(said), NOTHING):
        if got != NOTHING:
            found.append(None if wanted == NOTHING else place)
        place += wanted != NOTHING
    return found


def reference_graphemes(said: Sequence[str | None], text: str, frames: Sequence[int] | None = None) -> ReferenceLabels:
    """The letter (or space) of the transcript for which each frame's prediction stands.

    Args:
        said, frames: as for `emissions`.
        text: the transcript; it is normalised.
    """
    reference = list(normalise_text(text))
    labels: list[str | None] = [None] * len(said)
    counts: Counter[str] = Counter()
    for emission, place in _mapped(said, reference, frames):
        if place is None:
            counts[INSERTED] += len(emission)
            continue
        for index in emission:
            labels[index] = reference[place]
            counts[SAME if said[index] == reference[place] else OTHER] += 1
    return ReferenceLabels(tuple(labels), counts)


def reference_phones(
    pronounce: Pronounce, said: Sequence[str | None], text: str, frames: Sequence[int] | None = None
) -> ReferenceLabels:
    """The phone that each frame's counterpart in the transcript makes.

    A letter of two phones gives its frames to them in order, as evenly as can be; where it has fewer frames than
    phones, they have no label. Frames of silent letters, of spaces and of words that `pronounce` does not know (it
    gives None or raises an `OtoscopeError`) have none either.
    """
    reference = list(normalise_text(text))
    made = phones_of(reference, pronounce)
    labels: list[str | None] = [None] * len(said)
    counts: Counter[str] = Counter()
    for emission, place in _mapped(said, reference, frames):
        if place is None:
            counts[INSERTED] += len(emission)
            continue
        phones = made[place]
        if phones is None:
            counts[SPACE if reference[place] == " " else UNPRONOUNCED] += len(emission)
        elif not phones:
            counts[SILENT] += len(emission)
        elif len(emission) < len(phones):
            counts[CROWDED] += len(emission)
        else:
            for number, index in enumerate(emission):
                labels[index] = phones[number * len(phones) // len(emission)]
                counts[SAME if said[index] == reference[place] else OTHER] += 1
    return ReferenceLabels(tuple(labels), counts)


def phones_of(reference: Sequence[str], pronounce: Pronounce) -> list[tuple[str, ...] | None]:
    """The phones of each letter of a normalised text; None for spaces and for letters of words not pronounced.

    Raises:
        BadInput: a pronunciation has other letters than its word.
    """
    found: list[tuple[str, ...] | None] = []
    for word in "".join(reference).split(" "):
        try:
            spelling = pronounce(word) if word else None
        except OtoscopeError:
            spelling = None
        pairs = None if spelling is None else letters_of(spelling)
        if pairs is not None and "".join(letter for letter, _ in pairs) != word:
            raise BadInput("these phones are of another word", got=repr(pairs)[:80], wanted=f"the letters of {word!r}")
        found += [None] * len(word) if pairs is None else [phones for _, phones in pairs]
        found.append(None)
    return found[:-1]


@dataclass(frozen=True)
class Mapper:
    """Maps the predictions of many utterances to their transcripts.

    Args:
        utterances: whose transcripts are the reference.
        symbols: names of the outputs, as in transcripts.
        labelled: makes labels of the symbols said, the transcript and the frames of an utterance.
        number: of each label.

    Instances are given by `utterance, frame, symbol` `(instance,)`, as in `otoscope.study.predictions`: all predictions
    of an utterance, or the peak of each, in the order of their frames.
    """

    utterances: Sequence[Utterance]
    symbols: Sequence[str]
    labelled: Callable[[Sequence[str], str, Sequence[int]], ReferenceLabels]
    number: Mapping[str, int]

    def numbers(self, utterance: Tensor, frame: Tensor, symbol: Tensor) -> Tensor:
        """The label's number for each instance, -1 for none `(instance,)`."""
        found = torch.full_like(utterance, -1)
        for rows, mapped in self._each(utterance, frame, symbol):
            found[rows] = torch.tensor([-1 if label is None else self.number[label] for label in mapped.labels])
        return found

    def counts(self, utterance: Tensor, frame: Tensor, symbol: Tensor) -> Counter[str]:
        """How many instances stand for what: those with a label by how they were mapped, those without by why."""
        return sum((mapped.counts for _, mapped in self._each(utterance, frame, symbol)), Counter())

    def _each(self, utterance: Tensor, frame: Tensor, symbol: Tensor) -> Iterator[tuple[Tensor, ReferenceLabels]]:
        """The instances of each utterance, and their labels."""
        for index in utterance.unique().tolist():
            rows = (utterance == index).nonzero()[:, 0]
            said = [self.symbols[n] for n in symbol[rows].tolist()]
            yield rows, self.labelled(said, self.utterances[index].text, frame[rows].tolist())


def unpronounced(texts: Sequence[str], pronounce: Pronounce) -> Counter[str]:
    """Words of normalised texts that cannot be pronounced, and how often they come."""
    words = Counter(word for text in texts for word in text.split())
    return Counter({word: count for word, count in words.items() if phones_of(word, pronounce)[0] is None})


def _mapped(
    said: Sequence[str | None], reference: Sequence[str], frames: Sequence[int] | None
) -> list[tuple[list[int], int | None]]:
    """The frames of each emission, and its counterpart in the reference."""
    runs = emissions(said, frames)
    spoken = [str(said[run[0]]) for run in runs]
    return list(zip(runs, counterparts(spoken, reference), strict=True))
