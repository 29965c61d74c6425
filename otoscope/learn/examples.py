"""Utterances ready to be learned: their features, in memory or computed when they are wanted, and batches of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Generator, Tensor, tensor
from torch.utils.data import DataLoader, Dataset

from otoscope.base import BadInput
from otoscope.learn.recogniser import Recogniser


class Heard(Protocol):
    """Features that are computed when they are wanted: `len()` frames, as plain as they can be in epoch 0."""

    def __len__(self) -> int:
        """Frames of the plain features."""

    def __call__(self, epoch: int) -> Tensor:
        """The features `(frame, mel)` of an epoch; the same each time for the same epoch."""


@dataclass(frozen=True)
class Example:
    """One utterance ready for training or scoring: features `(frame, mel)`, target symbols, and the text as given.

    `needed` is the number of output frames without which the targets cannot be written.
    """

    id: str
    features: Tensor | Heard
    targets: Tensor
    text: str
    needed: int = 0

    def heard(self, epoch: int = 0) -> Tensor:
        """The features of an epoch; of epoch 0 unchanged by anything."""
        return self.features if isinstance(self.features, Tensor) else self.features(epoch)


def make_example(id: str, features: Tensor | Heard, text: str, network: Recogniser) -> Example:
    """Check that a network can learn an utterance.

    Raises:
        BadInput: a character that is no symbol, an empty transcript, or a transcript longer than the network's output.
    """
    targets = tensor(network.units.encode(text)).long()
    if len(targets) == 0:
        raise BadInput(f"{id}: there is no text to learn", got=repr(text), wanted="a transcript")
    # CTC needs a frame for each symbol and one for the blank between two equal ones; a decoder can do with one.
    needed = len(targets) + int((targets[1:] == targets[:-1]).sum()) if network.has_ctc else 1
    frames = network.output_length(len(features))
    if needed > frames:
        raise BadInput(
            f"{id}: the transcript is longer than the network's output",
            got=f"{needed} symbols (with the blanks between repeated ones)",
            wanted=f"at most {frames} frames of output",
            remedy="check that the transcript belongs to the recording",
        )
    return Example(id, features, targets, text, needed)


def bucketed(
    examples: Sequence[Example], batch_size: int, rng: random.Random, *, shuffled: bool
) -> list[list[Example]]:
    """Batches of examples of like length, so that little is padding: in random order, or from short to long.

    Short ones first, in the first epoch, spare CTC much of its search for an alignment (Amodei et al. 2016).
    """
    jittered = sorted(examples, key=lambda example: len(example.features) * rng.uniform(0.9, 1.1))
    batches = [jittered[start : start + batch_size] for start in range(0, len(jittered), batch_size)]
    if shuffled:
        rng.shuffle(batches)
    return batches


class _Features(Dataset[list[Tensor]]):
    """The features of each batch in an epoch."""

    def __init__(self, batches: Sequence[Sequence[Example]], epoch: int, output_length: Callable[[int], int]):
        self.batches, self.epoch, self.output_length = batches, epoch, output_length

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> list[Tensor]:
        return [self.of(example) for example in self.batches[index]]

    def of(self, example: Example) -> Tensor:
        features = example.heard(self.epoch)
        # Sped up, the output may have become too short for its text.
        return features if self.output_length(len(features)) >= example.needed else example.heard()


def features_of(
    batches: Sequence[Sequence[Example]], epoch: int, output_length: Callable[[int], int], workers: int
) -> Iterator[list[Tensor]]:
    """The features of each batch, in order; those not in memory are computed by so many processes ahead of time."""
    wanted = _Features(batches, epoch, output_length)
    in_memory = all(isinstance(example.features, Tensor) for batch in batches for example in batch)
    if in_memory or not workers:
        return (wanted[index] for index in range(len(wanted)))
    # With a generator of its own: it would draw from torch's, which dropout depends on.
    return iter(DataLoader(wanted, batch_size=None, num_workers=workers, generator=Generator()))
