"""What layers are compared with besides layers: the mel input, and labels of frames as one-hot vectors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from otoscope.base import BadOption
from otoscope.hear.tiers import Segment
from otoscope.study.groupings import fold_phones, segment_numbers
from otoscope.study.representations import Batch
from otoscope.study.speech import Speech, on_grid

MEL = "mel"
# A one-hot vector of every word of a large corpus would be wider than any layer.
MOST_LABELS = 500


@dataclass(frozen=True)
class Labels:
    """A labelling of frames.

    Attributes:
        name: "phone", "word", "speaker", any tier or attribute.
        labels: in the order of the one-hot vector; the most frequent `MOST_LABELS` where there are more.
        left_out: how many rarer labels have no place in it.
        tiers: the segments of each utterance; None for what belongs to a whole utterance.
        values: the label of each utterance, None where it has none; None for a tier.
    """

    name: str
    labels: tuple[str, ...]
    left_out: int
    tiers: tuple[list[Segment], ...] | None = None
    values: tuple[str | None, ...] | None = None

    def numbers(self, batch: Batch) -> Tensor:
        """The label's number in the middle of every frame of a batch, -1 where there is none, `(frame,)`."""
        place = {label: index for index, label in enumerate(self.labels)}
        rows = []
        for index, frames, first_s in zip(batch.indices, batch.lengths, batch.first_s, strict=True):
            if self.tiers is not None:
                rows.append(segment_numbers(self.tiers[index], place, frames, batch.frame_s, first_s))
            elif self.values is not None:
                rows.append(torch.full((frames,), place.get(self.values[index] or "", -1)))
        return torch.cat(rows)

    def one_hot(self, numbers: Tensor) -> Tensor:
        """`(frame, label)` float32; a frame without label is all zeros."""
        vectors = torch.zeros(len(numbers), len(self.labels))
        labelled = numbers >= 0
        vectors[labelled, numbers[labelled]] = 1
        return vectors


def find_labels(nodes: Sequence[str], speech: Speech) -> dict[str, Labels]:
    """The labellings among nodes.

    Raises:
        BadOption: a node that is neither "mel" nor a tier or attribute of these utterances; one with a single label,
            to which nothing can be similar.
    """
    return {name: _labels(name, speech) for name in nodes if name != MEL}


def _labels(name: str, speech: Speech) -> Labels:
    utterances = speech.utterances
    tiers, values = None, None
    if any(name in utterance.tiers for utterance in utterances):
        found = [utterance.tiers.get(name, []) for utterance in utterances]
        tiers = tuple(fold_phones(found) if name == "phone" else [list(tier) for tier in found])
        counts = Counter(segment.label for tier in tiers for segment in tier)
    else:
        given = [u.speaker if name == "speaker" else u.attributes.get(name) for u in utterances]
        values = tuple(None if value is None else str(value) for value in given)
        counts = Counter(value for value in values if value is not None)
    if len(counts) < 2:
        there = sorted({key for utterance in utterances for key in (*utterance.tiers, *utterance.attributes)})
        raise BadOption(
            f"nothing can be similar to the node {name!r}",
            got=f"{len(counts)} different labels in these utterances",
            wanted=f"two or more; nodes are {MEL}, speaker, a tier or an attribute: {', '.join(there) or 'none here'}",
            remedy="a CTM file can bring a tier: --ctm phone=FILE" if name == "phone" else None,
        )
    frequent = tuple(sorted(label for label, _ in counts.most_common(MOST_LABELS)))
    return Labels(name, frequent, len(counts) - len(frequent), tiers, values)


def mel_frames(batch: Batch, speech: Speech) -> Tensor:
    """The features of a batch on its grid, `(frame, mel)`."""
    rows = [speech.features[index] for index in batch.indices]
    return torch.cat([on_grid(each, frames) for each, frames in zip(rows, batch.lengths, strict=True)])


def node_frames(
    nodes: Sequence[str], labels: Mapping[str, Labels], numbers: Mapping[str, Tensor], mel: Tensor, points: int
) -> dict[str, Tensor]:
    """The frames of all nodes of a batch, each as often as a layer has points in a frame."""
    found = {MEL: mel} if MEL in nodes else {}
    found |= {name: label.one_hot(numbers[name]) for name, label in labels.items()}
    return {name: rows.repeat_interleave(points, 0) for name, rows in found.items()}
