"""Which group each instance belongs to: the symbol that was predicted, the phone that sounds, who speaks, …"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from otoscope.base import BadInput, BadOption, Seconds
from otoscope.hear.corpus import Utterance
from otoscope.hear.phones import SILENCE, fold, guess_source
from otoscope.hear.tiers import Segment

SYMBOL = "symbol"


@dataclass(frozen=True)
class Grouping:
    """One way to label frames: `labels` in order, and per utterance the label's number for every output frame.

    `frames[u]` is None where the label does not depend on the speech but on the prediction (`symbol`).
    """

    name: str
    labels: tuple[str, ...]
    frames: tuple[Tensor, ...] | None

    @property
    def groups(self) -> list[str]:
        """The names on the group axis, `phone:AE`."""
        return [f"{self.name}:{label}" for label in self.labels]


def make_grouping(
    name: str,
    utterances: Sequence[Utterance],
    frames: Sequence[int],
    frame_s: Seconds,
    symbols: Sequence[str],
) -> Grouping:
    """The grouping by `symbol`, by a tier (`phone`, `word`, …), by `speaker` or by any attribute of the utterances.

    Args:
        name: what to group by.
        utterances: whose labels they are.
        frames: the output frames of each utterance.
        frame_s: seconds from one output frame to the next; frame t is at `t * frame_s`.
        symbols: names of the outputs.

    Raises:
        BadOption: no utterance has such a tier or attribute; says what there is.
    """
    if name == SYMBOL:
        # Every output keeps its number, so that a prediction is its own label.
        return Grouping(name, tuple(symbols), None)
    if any(name in utterance.tiers for utterance in utterances):
        tiers = [utterance.tiers.get(name, []) for utterance in utterances]
        if name == "phone":
            tiers = fold_phones(tiers)
        labels = sorted({segment.label for tier in tiers for segment in tier})
        number = {label: index for index, label in enumerate(labels)}
        rows = tuple(segment_numbers(tier, number, count, frame_s) for tier, count in zip(tiers, frames, strict=True))
        return Grouping(name, tuple(labels), rows)
    values = [utterance.speaker if name == "speaker" else utterance.attributes.get(name) for utterance in utterances]
    labels = sorted({str(value) for value in values if value is not None})
    if not labels:
        there = sorted({key for utterance in utterances for key in (*utterance.tiers, *utterance.attributes)})
        raise BadOption(
            "there is nothing to group by",
            got=repr(name),
            wanted=f"symbol, speaker, a tier or an attribute: {', '.join(there) or 'these utterances have none'}",
            remedy="a CTM file can bring a tier: --ctm phone=FILE" if name == "phone" else None,
        )
    number = {label: index for index, label in enumerate(labels)}
    rows = tuple(
        torch.full((count,), -1 if value is None else number[str(value)])
        for value, count in zip(values, frames, strict=True)
    )
    return Grouping(name, tuple(labels), rows)


def fold_phones(tiers: Sequence[Sequence[Segment]]) -> list[list[Segment]]:
    """Phone labels of any known notation as the 39 of ARPAbet; silence and what is no phone is left out."""
    source = guess_source({segment.label for tier in tiers for segment in tier})
    folded: list[list[Segment]] = []
    for tier in tiers:
        kept = []
        for segment in tier:
            try:
                label = fold(segment.label, source)
            except BadInput:
                label = segment.label
            if label is not None and label != SILENCE:
                kept.append(segment._replace(label=label))
        folded.append(kept)
    return folded


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
        if grouping.frames is None:
            numbers = symbol.clone()
        else:
            starts = torch.tensor([0, *(len(row) for row in grouping.frames)]).cumsum(0)
            numbers = torch.cat(grouping.frames)[starts[utterance] + frame]
        columns.append(torch.where(numbers >= 0, numbers + first, numbers))
        first += len(grouping.labels)
    return torch.stack(columns, 1)
