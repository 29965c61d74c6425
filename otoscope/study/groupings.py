"""Which group each instance belongs to: the symbol that was predicted, the phone that sounds, who speaks, …

Names to group by are `symbol`, the tiers (`phone`, `word`, `grapheme`, anything), the classes of the phone tier
(`manner`, `place`, …), `speaker`, the attributes of utterances, and what a prediction stands for in the transcript
(`reference-grapheme`, `reference-phone`; see `otoscope.study.reference_labels`). Conditions on them make one group
each; see `otoscope.study.conditions`.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from otoscope.base import BadInput, BadOption, Seconds, choose
from otoscope.hear.corpus import Utterance
from otoscope.hear.phones import FEATURES, PHONE_TABLE, SILENCE, fold, guess_source, known_value
from otoscope.hear.text import normalise_text
from otoscope.hear.tiers import Segment
from otoscope.learn.align import as_letters
from otoscope.learn.pronounce import Pronouncer
from otoscope.study.conditions import SIGNS, Atom, as_text, evaluate, fulfils, parse_condition
from otoscope.study.reference_labels import (
    Mapper,
    Pronounce,
    ReferenceLabels,
    phones_of,
    reference_graphemes,
    reference_phones,
    unpronounced,
)

SYMBOL, PHONE, GRAPHEME, WHERE = "symbol", "phone", "grapheme", "where"
REFERENCE_GRAPHEME, REFERENCE_PHONE = "reference-grapheme", "reference-phone"
# What tiers of reference graphemes are called.
GRAPHEME_TIERS = ("grapheme", "graphemes", "character", "characters", "char", "chars", "letter", "letters")
# How far a label may end behind the audio before it is worth a word, beside one output frame: a frame's window.
BEYOND_S = 0.03

By: TypeAlias = str | Mapping[str, str] | Sequence[str | Mapping[str, str]]
"""A name, a condition, a mapping of names to conditions, or several of these."""


@dataclass(frozen=True)
class Grouping:
    """One way to label frames: `labels` in order, and per utterance the label's number for every output frame.

    `frames` is None where the label does not depend on the speech but on the prediction (`symbol`). Of a condition,
    `holds` tells for which instances it is fulfilled; `find` gives the numbers of labels that depend on both.
    """

    name: str
    labels: tuple[str, ...]
    frames: tuple[Tensor, ...] | None = None
    holds: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
    find: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
    values: tuple[Any, ...] = ()
    """What the labels stand for where that is not text: numbers, true and false."""
    condition: str = ""
    beyond: Mapping[str, int] = field(default_factory=dict)
    """Utterance → labels that lie outside its audio, wholly or in part."""
    mapped: Callable[[Tensor, Tensor, Tensor], Counter[str]] | None = None
    """Of what predictions stand for in the transcript: how many stand for what, those without a label included."""
    unpronounced: Mapping[str, int] = field(default_factory=dict)
    """Words of the transcripts that nobody knows how to say → how often they come."""

    @property
    def groups(self) -> list[str]:
        """The names on the group axis, `phone:AE`."""
        return [f"{self.name}:{label}" for label in self.labels]

    def numbers(self, utterance: Tensor, frame: Tensor, symbol: Tensor) -> Tensor:
        """The label's number for each instance, -1 for none `(instance,)`."""
        if self.holds is not None:
            return self.holds(utterance, frame, symbol).long() - 1
        if self.find is not None:
            return self.find(utterance, frame, symbol)
        if self.frames is None:
            return symbol.clone()
        starts = torch.tensor([0, *(len(row) for row in self.frames)]).cumsum(0)
        return torch.cat(self.frames)[starts[utterance] + frame]


@dataclass
class Labels:
    """Makes groupings of one set of utterances.

    Args:
        utterances: whose labels they are.
        frames: the output frames of each utterance.
        frame_s: seconds from one output frame to the next; frame t is at `t * frame_s`.
        symbols: names of the outputs.
        seconds: how long each utterance is; left out, as long as its output frames.
        pronounce: the phones of a word's letters, for `reference-phone`, see `otoscope.learn.phone_times`; left out,
            as the network from spelling to sound reads them.
    """

    utterances: Sequence[Utterance]
    frames: Sequence[int]
    frame_s: Seconds
    symbols: Sequence[str]
    seconds: Sequence[Seconds] | None = None
    pronounce: Pronounce | None = None
    made: dict[str, Grouping] = field(default_factory=dict)

    def group(self, by: By) -> list[Grouping]:
        """The groupings asked for, in their order.

        Raises:
            BadOption: a name that nothing has, or a condition that cannot be read.
        """
        asked = [by] if isinstance(by, str | Mapping) else list(by)
        found: list[Grouping] = []
        for entry in asked:
            if isinstance(entry, Mapping):
                found += [self.where(condition, name) for name, condition in entry.items()]
            elif self.is_name(entry):
                found.append(self.by_name(entry))
            else:
                found.append(self.where(entry))
        return found

    def is_name(self, entry: str) -> bool:
        """Whether this is a name and no condition; names of tiers and attributes may have any signs."""
        return not SIGNS & set(entry) or any(entry in {**u.tiers, **u.attributes} for u in self.utterances)

    def where(self, condition: str, name: str | None = None) -> Grouping:
        """One group, of the instances that fulfil a condition; `name` is its label, else the condition itself."""
        tree = parse_condition(condition)

        def holds(utterance: Tensor, frame: Tensor, symbol: Tensor) -> Tensor:
            return evaluate(tree, lambda atom: self.fulfil(atom, utterance, frame, symbol))

        # Unknown names are found out here, and not when the first instance comes.
        none = torch.zeros(0, dtype=torch.int64)
        holds(none, none, none)
        said = " ".join(condition.split())
        return Grouping(WHERE, (name or said,), holds=holds, condition=said)

    def fulfil(self, atom: Atom, utterance: Tensor, frame: Tensor, symbol: Tensor) -> Tensor:
        """Which instances fulfil `name=value`; bool `(instance,)`."""
        grouping = self.by_name(atom.name)
        wanted = atom.values
        feature = self.feature(atom.name)
        if feature is not None:
            wanted = tuple(known_value(feature, value) for value in wanted)
        elif atom.name == SYMBOL or (atom.name == PHONE and set(grouping.labels) <= set(PHONE_TABLE)):
            known = grouping.labels if atom.name == SYMBOL else [label for label in PHONE_TABLE if label != SILENCE]
            for value in wanted:
                choose(atom.name, value, known)
        atom = replace(atom, values=wanted)
        # The last is for frames and utterances that have no such label.
        table = torch.tensor([fulfils(value, atom) for value in (*(grouping.values or grouping.labels), None)])
        return table[grouping.numbers(utterance, frame, symbol)]

    def feature(self, name: str) -> str | None:
        """The phone feature that a name means: `phone.height` always, `height` where nothing else is called so.

        Raises:
            BadOption: the utterances have a tier or attribute of that name as well.
        """
        qualified = name.removeprefix(f"{PHONE}.")
        if qualified not in FEATURES:
            return None
        if qualified == name and any(name in u.tiers or name in u.attributes for u in self.utterances):
            raise BadOption(
                "there are two things of this name",
                got=repr(name),
                wanted=f"'{PHONE}.{name}', the class of the phone, or 'utterance.{name}', what the utterances say",
            )
        return qualified

    def by_name(self, name: str) -> Grouping:
        """The grouping by one name, made once."""
        if name not in self.made:
            self.made[name] = self.make(name)
        return self.made[name]

    def make(self, name: str) -> Grouping:
        if name == SYMBOL:
            # Every output keeps its number, so that a prediction is its own label.
            return Grouping(name, tuple(self.symbols))
        if name in (REFERENCE_GRAPHEME, REFERENCE_PHONE):
            return self.by_reference(name)
        feature = self.feature(name)
        if feature is not None:
            if not any(PHONE in utterance.tiers for utterance in self.utterances):
                raise self.nothing(name)
            return self.by_tier(name, fold_classes([u.tiers.get(PHONE, []) for u in self.utterances], feature))
        tier = next((t for t in tier_names(name) if any(t in u.tiers for u in self.utterances)), None)
        if tier is not None:
            tiers = [utterance.tiers.get(tier, []) for utterance in self.utterances]
            return self.by_tier(name, fold_phones(tiers) if name == PHONE else tiers)
        plain = name.removeprefix("utterance.")
        values = [
            getattr(u, plain) or None if plain in ("id", "speaker", "text") else u.attributes.get(plain)
            for u in self.utterances
        ]
        there = {text: value for value in values if value is not None and (text := as_text(value)).strip()}
        if not there:
            raise self.nothing(name)
        labels = sorted(there)
        number = {label: index for index, label in enumerate(labels)}
        rows = tuple(
            torch.full((count,), -1 if value is None else number.get(as_text(value), -1))
            for value, count in zip(values, self.frames, strict=True)
        )
        return Grouping(name, tuple(labels), rows, values=tuple(there[label] for label in labels))

    def by_reference(self, name: str) -> Grouping:
        """What each prediction stands for in the transcript: its letter or space, or the phone of that letter."""
        texts = [normalise_text(utterance.text) for utterance in self.utterances]
        if name == REFERENCE_GRAPHEME:
            labels = sorted({letter for text in texts for letter in text})
            labelled: Callable[[Sequence[str], str, Sequence[int]], ReferenceLabels] = reference_graphemes
            unread: Mapping[str, int] = {}
        else:
            pronounce = lru_cache(maxsize=None)(self.pronounce or read_letters(texts))
            labels = sorted({p for text in texts for made in phones_of(text, pronounce) for p in made or ()})
            labelled = partial(reference_phones, pronounce)
            unread = unpronounced(texts, pronounce)
        if not labels:
            raise self.nothing(name)
        number = {label: index for index, label in enumerate(labels)}
        mapper = Mapper(self.utterances, as_letters(self.symbols), labelled, number)
        return Grouping(name, tuple(labels), find=mapper.numbers, mapped=mapper.counts, unpronounced=unread)

    def by_tier(self, name: str, tiers: Sequence[Sequence[Segment]]) -> Grouping:
        labels = sorted({segment.label for tier in tiers for segment in tier if segment.label.strip()})
        if not labels:
            raise self.nothing(name)
        number = {label: index for index, label in enumerate(labels)}
        rows = tuple(
            segment_numbers(tier, number, count, self.frame_s) for tier, count in zip(tiers, self.frames, strict=True)
        )
        seconds = self.seconds or [count * self.frame_s for count in self.frames]
        beyond: Counter[str] = Counter()
        for utterance, tier, end_s in zip(self.utterances, tiers, seconds, strict=True):
            late = sum(segment.end_s > end_s + self.frame_s + BEYOND_S for segment in tier if segment.label.strip())
            beyond[utterance.id] += late
        return Grouping(name, tuple(labels), rows, beyond=dict(+beyond))

    def nothing(self, name: str) -> BadOption:
        """What to say where there is nothing of a name."""
        there = sorted({key for u in self.utterances for key in (*u.tiers, *u.attributes)})
        remedy = None
        if name in GRAPHEME_TIERS:
            remedy = (
                f"'{SYMBOL}' groups by the predicted grapheme. Reference graphemes need the letters of the transcript "
                f"aligned in time: a tier '{GRAPHEME}' or 'character' (a TextGrid, or --ctm grapheme=FILE)"
            )
        elif name == PHONE or name.removeprefix(f"{PHONE}.") in FEATURES:
            remedy = "a CTM file can bring a tier: --ctm phone=FILE"
        return BadOption(
            "there is nothing to group by",
            got=repr(name),
            wanted=f"symbol, speaker, a tier or an attribute: {', '.join(there) or 'these utterances have none'}",
            remedy=remedy,
        )


def read_letters(texts: Sequence[str]) -> Pronounce:
    """Says words by their letters, those of the texts all at once, which is quicker."""
    pronouncer = _reader()
    pronouncer.words(sorted({word for text in texts for word in text.split()}))
    return lambda word: pronouncer.word(word).letters


@lru_cache(maxsize=1)
def _reader() -> Pronouncer:
    """One for all: it remembers what it has read."""
    return Pronouncer()


def tier_names(name: str) -> tuple[str, ...]:
    """The tiers that a name may mean: itself, and `grapheme` whatever tiers of letters are called."""
    return (name, *GRAPHEME_TIERS) if name == GRAPHEME else (name,)


def fold_phones(tiers: Sequence[Sequence[Segment]], *, lee_hon: bool = True) -> list[list[Segment]]:
    """Phone labels of any known notation as the 39 of ARPAbet; silence is left out, what is no phone stays as it is."""
    source = None
    with contextlib.suppress(BadOption):  # of no notation known here: its labels are groups as they are
        source = guess_source({segment.label for tier in tiers for segment in tier})
    folded: list[list[Segment]] = []
    for tier in tiers:
        kept = []
        for segment in tier:
            try:
                label = fold(segment.label, source or "auto", lee_hon=lee_hon) if source else segment.label
            except BadInput:
                label = segment.label
            if label is not None and label != SILENCE:
                kept.append(segment._replace(label=label))
        folded.append(kept)
    return folded


def fold_classes(tiers: Sequence[Sequence[Segment]], feature: str) -> list[list[Segment]]:
    """A phone tier with the class of each phone as its label; what has none is left out."""
    # Lee and Hon count AO as AA and ZH as SH, which are of other classes.
    return [
        [
            segment._replace(label=value)
            for segment in tier
            if segment.label in PHONE_TABLE and (value := getattr(PHONE_TABLE[segment.label], feature)) is not None
        ]
        for tier in fold_phones(tiers, lee_hon=False)
    ]


def segment_numbers(
    tier: Sequence[Segment], number: dict[str, int], frames: int, frame_s: Seconds, first_s: Seconds = 0.0
) -> Tensor:
    """The label's number at the time of each frame, -1 where there is none; frame 0 is at `first_s`; `(frame,)`."""
    times = first_s + np.arange(frames) * frame_s
    found = np.full(frames, -1, np.int64)
    for segment in tier:
        span = slice(np.searchsorted(times, segment.start_s), np.searchsorted(times, segment.end_s))
        found[span] = number.get(segment.label, -1)
    return torch.from_numpy(found)


def membership(groupings: Sequence[Grouping], utterance: Tensor, frame: Tensor, symbol: Tensor) -> Tensor:
    """Group indices on the common group axis `(instance, grouping)`, -1 for none.

    Args:
        groupings: in the order of the group axis.
        utterance, frame, symbol: `(instance,)`: index of the utterance, output frame, predicted output.
    """
    columns, first = [], 0
    for grouping in groupings:
        numbers = grouping.numbers(utterance, frame, symbol)
        columns.append(torch.where(numbers >= 0, numbers + first, numbers))
        first += len(grouping.labels)
    return torch.stack(columns, 1)
