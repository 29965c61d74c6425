"""Which frames of speech are explained: those in which a network predicts a symbol. What cannot be used is counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from otoscope.base import BadInput, OtoscopeError
from otoscope.probe.layers import Survey
from otoscope.probe.taps import evaluating, tap
from otoscope.study.speech import Speech, unpadded

# How far two passes over the same speech may differ, as a share of the largest logit.
STEADY = 1e-3


@dataclass(frozen=True)
class Predictions:
    """The output frames that are explained: index of the utterance, frame, predicted output, each `(instance,)`."""

    utterance: Tensor
    frame: Tensor
    symbol: Tensor
    blanks: int
    """Frames that predict the blank, left out."""
    not_finite: dict[int, int] = field(default_factory=dict)
    """Utterance → frames whose logits are not finite, left out."""
    failed: dict[int, str] = field(default_factory=dict)
    """Utterance → why the network does not run on it; left out."""


@torch.no_grad()
def predict(
    network: nn.Module, speech: Speech, blank: int | None, instances: str, batch_size: int
) -> tuple[Predictions, list[int]]:
    """Which frames predict which symbol, and how many output frames each utterance has.

    Raises:
        BadInput: the network runs on no utterance, or says something else each time.
    """
    frames, symbols, owners, counts, blanks = [], [], [], [0] * len(speech), 0
    failed: dict[int, str] = {}
    not_finite: dict[int, int] = {}
    steady = False
    with evaluating(network):
        for batch in speech.batches(batch_size):
            for indices, logits, output_lengths in _run(network, speech, batch, failed):
                if not steady:
                    check_steady(network, speech, indices, logits)
                    steady = True
                lengths = output_lengths.clamp(0, logits.shape[1]).tolist()
                for index, scores in zip(indices, unpadded(logits.cpu(), lengths), strict=True):
                    highest, best = scores.max(-1)
                    sound = highest.isfinite() & ~scores.isnan().any(-1)
                    counts[index] = len(best)
                    if not sound.all():
                        not_finite[index] = int((~sound).sum())
                    spoken = sound if blank is None else sound & (best != blank)
                    blanks += int((sound & ~spoken).sum())
                    if instances == "peak":
                        spoken = spoken & peaks(best, highest)
                    chosen = spoken.nonzero()[:, 0]
                    frames.append(chosen)
                    symbols.append(best[chosen])
                    owners.append(torch.full_like(chosen, index))
    if not owners:
        raise BadInput("the network runs on none of the utterances", got=next(iter(failed.values())))
    order = torch.cat(owners).argsort(stable=True)
    owner, frame, symbol = (torch.cat(part)[order] for part in (owners, frames, symbols))
    return Predictions(owner, frame, symbol, blanks, not_finite, failed), counts


def _run(
    network: nn.Module, speech: Speech, batch: tuple[list[int], Tensor, Tensor], failed: dict[int, str]
) -> list[tuple[list[int], Tensor, Tensor]]:
    """Indices, logits and their lengths: of the batch, or of each utterance where the network fails on the batch."""
    indices, features, lengths = batch
    try:
        logits, output_lengths = network(*at_home(network, features, lengths))[:2]
    except OtoscopeError:
        raise
    except Exception as error:  # somebody else's network may raise anything
        if len(indices) == 1:
            failed[indices[0]] = f"{type(error).__name__}: {str(error)[:120]}"
            return []
        return [part for alone in speech.batches(1, indices) for part in _run(network, speech, alone, failed)]
    return [(indices, logits, output_lengths)]


def check_steady(network: nn.Module, speech: Speech, indices: Sequence[int], logits: Tensor) -> None:
    """Raise `BadInput` if the network gives other logits when it hears the same utterances again."""
    ((_, features, lengths),) = speech.batches(len(indices), indices)
    again = network(*at_home(network, features, lengths))[0]
    if not logits.numel():
        return
    unlike, largest = (float(values.nan_to_num(0, 0, 0).abs().max()) for values in (again - logits, logits))
    if unlike > STEADY * largest:
        raise BadInput(
            "the network says something else each time it hears the same",
            got=f"logits that differ by {unlike:.2g} between two passes in eval()",
            wanted="the same logits: what changes by chance has no gradient to explain",
            remedy="switch off dropout or noise that stays on in eval()",
        )


def at_home(network: nn.Module, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Features and lengths on the network's device, the features in its precision."""
    weight = next((p for p in network.parameters() if p.is_floating_point()), features)
    return features.to(weight.device, weight.dtype), lengths.to(weight.device)


def peaks(best: Tensor, score: Tensor) -> Tensor:
    """One frame for each run of the same prediction: that of its highest logit, the first of equals; bool."""
    _, run = torch.unique_consecutive(best, return_inverse=True)
    chosen = torch.zeros_like(best, dtype=torch.bool)
    for number in range(int(run[-1]) + 1 if len(run) else 0):
        inside = (run == number).nonzero()[:, 0]
        chosen[inside[score[inside].argmax()]] = True
    return chosen


@torch.no_grad()
def incidents(
    network: nn.Module, speech: Speech, survey: Survey, predictions: Predictions, counts: Sequence[int]
) -> dict[str, dict[str, int]]:
    """What was met in utterances: in words, in which, how often."""
    found: dict[str, dict[str, int]] = {}
    for index, why in predictions.failed.items():
        what = f"utterances are left out, on which the network does not run ({why.partition(':')[0]})"
        found.setdefault(what, {})[speech.utterances[index].id] = 1
    for index, count in enumerate(counts):
        if count == 0 and index not in predictions.failed:
            what = "utterances are too short for a frame of output"
            found.setdefault(what, {})[speech.utterances[index].id] = 1
    for index, count in predictions.not_finite.items():
        features = speech.features[index][None]
        with tap(network, list(survey)) as taps:
            network(*at_home(network, features, torch.tensor([features.shape[1]])))
        first = next((layer for layer in survey if not taps[layer].isfinite().all()), "the output")
        what = f"frames are left out, whose logits are not finite (the first such layer is {first})"
        found.setdefault(what, {})[speech.utterances[index].id] = count
    return found
