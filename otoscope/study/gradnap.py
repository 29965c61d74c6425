"""GradNAPs of a network on speech: one pass over the utterances into running sums, and what is read out of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import EllipsisType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from otoscope.base import BadInput, BadOption, Progress, choose, silent
from otoscope.hear.audio import HOP_S, MELS, mel_frequencies
from otoscope.hear.corpus import Utterance, corpus_fingerprint
from otoscope.probe.cones import FrameGradients
from otoscope.probe.layers import Layer, as_frames, list_layers, match_layers
from otoscope.probe.taps import INPUT, tap
from otoscope.probe.windows import corresponding
from otoscope.reduce.gradnap import ProfileSums
from otoscope.reduce.profiles import Profiles
from otoscope.study.groupings import SYMBOL, make_grouping, membership
from otoscope.study.speech import Speech, heard_by, mels_of, unpadded

INSTANCES = ("every", "peak")
DEFAULT_BY = ("symbol", "phone")


@dataclass(frozen=True)
class Predictions:
    """The output frames that are explained: index of the utterance, frame, predicted output, each `(instance,)`."""

    utterance: Tensor
    frame: Tensor
    symbol: Tensor
    blanks: int
    """Frames that predict the blank, left out."""


@torch.no_grad()
def predict(
    network: nn.Module, speech: Speech, blank: int | None, instances: str, batch_size: int
) -> tuple[Predictions, list[int]]:
    """Which frames predict which symbol, and how many output frames each utterance has."""
    frames, symbols, owners, counts, blanks = [], [], [], [0] * len(speech), 0
    training = network.training
    network.eval()
    for indices, features, lengths in speech.batches(batch_size):
        logits, output_lengths = network(features, lengths)
        for index, best, scores in zip(
            indices, unpadded(logits.argmax(-1), output_lengths.tolist()), logits, strict=True
        ):
            counts[index] = len(best)
            spoken = torch.ones_like(best, dtype=torch.bool) if blank is None else best != blank
            blanks += int((~spoken).sum())
            if instances == "peak":
                spoken &= peaks(best, scores[: len(best)].gather(1, best[:, None])[:, 0])
            chosen = spoken.nonzero()[:, 0]
            frames.append(chosen)
            symbols.append(best[chosen])
            owners.append(torch.full_like(chosen, index))
    network.train(training)
    order = torch.cat(owners).argsort(stable=True)
    owner, frame, symbol = (torch.cat(part)[order] for part in (owners, frames, symbols))
    return Predictions(owner, frame, symbol, blanks), counts


def peaks(best: Tensor, score: Tensor) -> Tensor:
    """One frame for each run of the same prediction: that of its highest logit, the first of equals; bool."""
    _, run = torch.unique_consecutive(best, return_inverse=True)
    chosen = torch.zeros_like(best, dtype=torch.bool)
    for number in range(int(run[-1]) + 1 if len(run) else 0):
        inside = (run == number).nonzero()[:, 0]
        chosen[inside[score[inside].argmax()]] = True
    return chosen


def gradnap(
    network: nn.Module,
    utterances: Iterable[Utterance] | Speech,
    layers: str | Sequence[str] = "*",
    by: str | Sequence[str] = DEFAULT_BY,
    symbols: Sequence[str] | None = None,
    blank: int | EllipsisType | None = ...,
    preset: str = "krug2020",
    *,
    instances: str = "every",
    strict: bool = False,
    method: str = "auto",
    batch_size: int = 32,
    min_instances: int | None = None,
    mask: str | None = None,
    normaliser: str | None = None,
    progress: Progress = silent,
    **options: Any,
) -> Profiles:
    """Gradient-adjusted neuron activation profiles (Krug et al. 2020) of groups of inputs, in every layer.

    For each output frame that predicts a symbol, the gradient of that symbol's logit says where each layer decided it;
    activations are averaged around that time over all frames of a group, less the mean over all groups, and masked with
    the mean gradient. See `otoscope.reduce.profiles`.

    Args:
        network: any module with `forward(features, lengths) -> (logits, lengths)`.
        utterances: the speech; what cannot be read is left out and counted.
        layers: names, globs or `"*"`: the network's own layers and the `"input"`.
        by: what to group by: `symbol` (the prediction), a tier such as `phone`, `speaker`, or an attribute. Several
            share one pass and one `group` dimension, labelled `symbol:a`, `phone:AE`. Left out: by symbol, and by
            phone where there are phones.
        symbols: names of the outputs; the network's own, else their numbers.
        blank: the output that stands for none; the network's own when left out; None: there is none.
        preset: fixes every choice that is not given.
        instances: `every` frame of a prediction, or the `peak` of each emission.
        strict: raise at the first unusable recording.
        method: how gradients are computed (`otoscope.probe.cones`); chosen and tested by itself.
        batch_size: utterances handled together.
        min_instances, mask, normaliser, alignment, width, pad: see `otoscope.reduce.gradnap.ProfileSums`.
        progress: called after each batch.

    Raises:
        BadInput: no usable speech, or no frame that predicts a symbol. BadOption: an unknown choice or layer.
    """
    choose("instances", instances, INSTANCES)
    speech = heard_by(network, utterances, strict=strict)
    names = [by] if isinstance(by, str) else list(by)
    if by is DEFAULT_BY and not any("phone" in utterance.tiers for utterance in speech.utterances):
        names = [SYMBOL]
    survey = list_layers(network, speech.features[0])
    if survey.output is None:
        raise BadInput(
            "this network has no output per frame",
            wanted="logits (batch, frame, symbol), a frame for so many input frames",
        )
    chosen = match_layers(survey, [INPUT, "*"] if layers == "*" else layers)
    if isinstance(blank, EllipsisType):
        blank = getattr(network, "blank", None)
    symbols = symbol_names(network, symbols, survey.output.width)
    if blank is not None and not 0 <= blank < len(symbols):
        raise BadOption("the blank is not among the outputs", got=blank, wanted=f"0 to {len(symbols) - 1}, or None")
    predictions, counts = predict(network, speech, blank, instances, batch_size)
    if not len(predictions.frame):
        raise BadInput(
            "no frame predicts a symbol",
            got=f"{predictions.blanks} frames, all of them blank",
            remedy="train the network longer, or give blank=None",
        )
    groupings = [make_grouping(name, speech.utterances, counts, survey.output.stride_s, symbols) for name in names]
    groups = [group for grouping in groupings for group in grouping.groups]
    members = membership(groupings, predictions.utterance, predictions.frame, predictions.symbol)
    if SYMBOL in names and blank is not None:
        # The blank's own group can have no instance.
        groups, members = without_group(groups, members, f"{SYMBOL}:{symbols[blank]}")
    sums = ProfileSums(groups, preset=preset, **options)
    gradients = FrameGradients(network, chosen, method=method, survey=survey)
    profile_pass(network, speech, chosen, survey.output, gradients, predictions, members, sums, batch_size, progress)
    mels = mels_of(network)
    profiles = sums.finalize(
        frame_s={str(layer): layer.stride_s for layer in chosen},
        frequency_hz=mel_frequencies(mels) if mels == MELS and survey[0].width == mels else None,
        mask=mask,
        normaliser=normaliser,
        min_instances=min_instances,
    )
    profiles.settings |= {
        "instances": instances,
        "by": names,
        "blank_frames": predictions.blanks,
        "ungrouped": {name: int((members[:, column] < 0).sum()) for column, name in enumerate(names)},
        "gradients": f"{gradients.method}: {gradients.reason}",
        "utterances": len(speech),
        "left_out": len(speech.problems),
        "corpus": corpus_fingerprint(speech.utterances),
        "hop_s": HOP_S,
    }
    return profiles


def symbol_names(network: nn.Module, given: Sequence[str] | None, outputs: int) -> list[str]:
    """The names of the outputs: those given, the network's own, or their numbers.

    Raises:
        BadOption: not one name for each output.
    """
    own = getattr(network, "symbols", None)
    found = list(given if given is not None else own if own is not None else map(str, range(outputs)))
    if len(found) != outputs:
        raise BadOption("symbols do not fit the network's output", got=f"{len(found)} names", wanted=f"{outputs}")
    return found


def without_group(groups: Sequence[str], members: Tensor, group: str) -> tuple[list[str], Tensor]:
    """Take one group off the group axis; its members belong to none."""
    index = groups.index(group)
    members = torch.where(members == index, -1, torch.where(members > index, members - 1, members))
    return [name for name in groups if name != group], members


def profile_pass(
    network: nn.Module,
    speech: Speech,
    layers: Sequence[Layer],
    output: Layer,
    gradients: FrameGradients,
    predictions: Predictions,
    members: Tensor,
    sums: ProfileSums,
    batch_size: int,
    progress: Progress,
) -> None:
    """Add every instance to the sums: activations from one full pass over each batch, gradients from the cones."""
    instances = np.arange(len(predictions.frame))
    owner = predictions.utterance.numpy()
    done = 0
    for indices, features, lengths in speech.batches(batch_size):
        with torch.no_grad(), tap(network, layers) as taps:
            network(features, lengths)
        activations = {
            layer: unpadded(as_frames(taps[layer], layer), [layer.frames(int(length)) for length in lengths])
            for layer in layers
        }
        place = np.full(len(speech), -1)
        place[indices] = np.arange(len(indices))
        mine = torch.from_numpy(instances[place[owner] >= 0])
        utterance = torch.from_numpy(place[owner[mine]])
        frame, symbol = predictions.frame[mine], predictions.symbol[mine]
        heard = [speech.features[index] for index in indices]
        for chunk in gradients(heard, utterance, frame, symbol):
            at = chunk.instances
            for layer in layers:
                window = chunk[layer]
                centre = corresponding(layer, frame[at], output)
                sums.update(
                    str(layer),
                    activations[layer],
                    utterance[at],
                    window.gradient,
                    window.start,
                    centre,
                    members[mine[at]],
                )
        done += len(mine)
        progress(done, len(owner), f"{done} frames explained by {gradients.method}")
