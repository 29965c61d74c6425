"""Utterances become features for a network, the unusable ones named, counted and left out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from otoscope.base import BadInput, OtoscopeError, Progress, silent
from otoscope.hear.audio import HOP_S, MELS, TOP_HZ, one_thread, pad_batch, require_top_hz, utterance_features
from otoscope.hear.corpus import Corpus, Problem, Utterance
from otoscope.study.features import Chosen, Features, frames_of


@dataclass
class Speech:
    """Utterances with their features `(frame, mel)`, in the same order, and what was left out.

    Attributes:
        top_hz: where the bands of the features end, in Hz; None where nobody knows.
    """

    utterances: list[Utterance] = field(default_factory=list)
    features: Sequence[Tensor] = field(default_factory=Features)
    problems: list[Problem] = field(default_factory=list)
    top_hz: float | None = None

    def __len__(self) -> int:
        return len(self.utterances)

    @property
    def lengths(self) -> list[int]:
        """Number of frames of each utterance."""
        return frames_of(self.features)

    @property
    def seconds(self) -> float:
        """How long it all is, in seconds."""
        return sum(self.lengths) * HOP_S

    def among(self, indices: Sequence[int]) -> Speech:
        """Some of the utterances, without the problems."""
        utterances = [self.utterances[index] for index in indices]
        return Speech(utterances, Chosen(self.features, indices), top_hz=self.top_hz)

    def batches(self, size: int, among: Sequence[int] | None = None) -> Iterator[tuple[list[int], Tensor, Tensor]]:
        """Indices, padded features `(batch, frame, mel)` and lengths; utterances of like length together.

        `among`: only the utterances of these indices.
        """
        lengths = self.lengths
        order = sorted(range(len(self)) if among is None else among, key=lengths.__getitem__)
        for start in range(0, len(order), size):
            indices = order[start : start + size]
            yield (indices, *pad_batch([self.features[index] for index in indices]))


def listen(
    utterances: Iterable[Utterance],
    *,
    mels: int = MELS,
    top_hz: float = TOP_HZ,
    network: nn.Module | None = None,
    strict: bool = False,
    progress: Progress = silent,
) -> Speech:
    """Compute the features of utterances: `mels` bands from 0 to `top_hz` Hz, or those that a network takes.

    A recording that cannot be read is left out and listed in `.problems`, beside what a corpus had left out itself;
    `strict` raises instead.

    Raises:
        BadInput: none can be used; with `strict`, the first that cannot.
        BadOption: a `top_hz` that cannot be.
    """
    if network is not None:
        mels, top_hz = bands_of(network)
    require_top_hz(top_hz)
    problems = list(utterances.problems) if isinstance(utterances, Corpus) else []
    if strict and problems:
        raise BadInput("the corpus has rows that cannot be used", got="; ".join(map(str, problems[:3])), wanted="none")
    listed = list(utterances)
    features, seconds = Features(), 0.0
    speech = Speech(features=features, problems=problems, top_hz=top_hz)
    for number, utterance in enumerate(listed):
        try:
            with one_thread():
                frames = utterance_features(utterance, mels, top_hz=top_hz)
        except OtoscopeError as error:
            if strict:
                raise
            speech.problems.append(Problem.of(0, utterance.id, error))
        else:
            speech.utterances.append(utterance)
            features.append(frames)
            seconds += len(frames) * HOP_S
        progress(number + 1, len(listed), f"{seconds / 60:.1f} min of features")
    if not speech.utterances:
        raise BadInput(
            "no utterance can be used",
            got="; ".join(map(str, problems[:3])) or "an empty corpus",
            wanted="at least one",
        )
    return speech


class Bands(NamedTuple):
    """What features a network takes."""

    mels: int
    top_hz: float


def bands_of(network: nn.Module) -> Bands:
    """How many mel bands, and where they end in Hz; our networks say, others are given the usual 128 up to 8 kHz."""
    mels, top_hz = getattr(network, "mels", MELS), getattr(network, "top_hz", TOP_HZ)
    return Bands(mels if isinstance(mels, int) else MELS, top_hz if isinstance(top_hz, (int, float)) else TOP_HZ)


def heard_by(network: nn.Module, corpus: Iterable[Utterance] | Speech, *, strict: bool = False) -> Speech:
    """The features that a network takes: those given, or computed from utterances.

    Raises:
        BadInput: none can be used, or features were given that have another number of mel bands than the network, or
            bands that end elsewhere.
    """
    if not isinstance(corpus, Speech):
        return listen(corpus, network=network, strict=strict)
    mels, top_hz = getattr(network, "mels", None), getattr(network, "top_hz", None)
    # Those of one speech were computed alike.
    found = sorted({frames.shape[1] for frames in corpus.features[:1]})
    if isinstance(mels, int) and found != [mels]:
        raise BadInput(
            "the features do not fit the network",
            got=f"{', '.join(map(str, found)) or 'no'} mel bins",
            wanted=f"{mels}",
            remedy=f"compute them with mels={mels}",
        )
    if top_hz is not None and corpus.top_hz not in (None, top_hz):
        raise BadInput(
            "the features do not fit the network",
            got=f"mel bands from 0 to {corpus.top_hz:g} Hz",
            wanted=f"from 0 to {top_hz:g} Hz, as in its training",
            remedy=f"compute them with top_hz={top_hz:g}",
        )
    return corpus


def unpadded(values: Tensor, lengths: Sequence[int]) -> list[Tensor]:
    """`(batch, frame, unit)` as one `(frame, unit)` per utterance, without padding."""
    return [rows[:length] for rows, length in zip(values, lengths, strict=True)]


def on_grid(values: Tensor, frames: int) -> Tensor:
    """`(frame, unit)` brought to a coarser grid of `frames` frames, by averaging those that fall on each of its frames.

    With twice (three times, …) as many frames these are whole pairs (triples, …); the last may have fewer.
    """
    if len(values) == frames:
        return values
    owner = torch.arange(len(values)) // -(-len(values) // frames)
    if int(owner[-1]) + 1 != frames:
        # No whole number of frames falls on each: as evenly as can be.
        owner = torch.arange(len(values)) * frames // len(values)
    sums = values.new_zeros(frames, values.shape[1]).index_add_(0, owner, values)
    return sums / torch.bincount(owner, minlength=frames)[:, None]
