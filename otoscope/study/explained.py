"""What a GradNAP explains: which frames of which utterances, by which logit, in which groups.

Chosen once, so that other networks of the same shape, other halves of the speech and other labels can be put through
the same pass. The target of each instance stays the logit of the symbol that the original network predicts there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from types import EllipsisType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from otoscope.base import BadInput, BadOption, silent
from otoscope.hear.corpus import Utterance, corpus_fingerprint
from otoscope.probe.cones import FrameGradients
from otoscope.probe.layers import Layer, Survey, list_layers, match_layers
from otoscope.probe.taps import INPUT
from otoscope.reduce.gradnap import ProfileSums
from otoscope.reduce.profiles import Profiles
from otoscope.study.gradnap import DEFAULT_BY, Predictions, predict, profile_pass, symbol_names, without_group
from otoscope.study.groupings import SYMBOL, make_grouping, membership
from otoscope.study.speech import Speech, heard_by

TABLES = ("profile", "mask", "contrast")
"""What controls compare. `contrast` is the profile without its mask: mean activation less that over all instances."""


@dataclass(frozen=True)
class Explained:
    """What is explained, the same for the network and all its controls. Made by `explained`."""

    network: nn.Module
    speech: Speech
    survey: Survey
    layers: list[Layer]
    output: Layer
    predictions: Predictions
    by: list[str]
    groups: list[str]
    members: Tensor
    """`(instance, grouping)`, indices into `groups`, -1 for none."""
    options: dict[str, Any]
    """Of `ProfileSums`."""
    reading: dict[str, Any]
    """Of `ProfileSums.finalize`."""
    method: str
    batch_size: int

    @property
    def facts(self) -> dict[str, Any]:
        """What every result carries: its counts, and which speech it was."""
        corpus = corpus_fingerprint(self.speech.utterances)
        return {"instances": len(self.members), "utterances": len(self.speech), "corpus": corpus}

    @property
    def kinds(self) -> NDArray[Any]:
        """The grouping of each group `(group,)`."""
        return np.array([name.partition(":")[0] for name in self.groups])

    def sums(self, network: nn.Module | None = None) -> ProfileSums:
        """One pass over all instances, through another network of the same shape if one is given."""
        sums = ProfileSums(self.groups, **self.options)
        network = self.network if network is None else network
        gradients = FrameGradients(network, self.layers, method=self.method, survey=self.survey)
        profile_pass(
            network,
            self.speech,
            self.layers,
            self.output,
            gradients,
            self.predictions,
            self.members,
            sums,
            self.batch_size,
            silent,
        )
        return sums

    def read(self, sums: ProfileSums, **changes: Any) -> Profiles:
        """Profiles from sums, read as asked for but for `changes`."""
        seconds = {str(layer): layer.stride_s for layer in self.layers}
        return sums.finalize(frame_s=seconds, **{**self.reading, **changes})

    def tables(self, sums: ProfileSums) -> dict[str, dict[str, NDArray[Any]]]:
        """`TABLES` by layer `(group, unit, offset)`. The mask is the gradient's, whatever profiles are asked for."""
        asked = self.read(sums)
        without = asked.settings["mask"] == "none"
        masked = self.read(sums, mask="abs_of_mean") if without else asked
        plain = asked if without else self.read(sums, mask="none")
        return {
            layer: {
                "profile": asked.profile[layer].values,
                "mask": masked.mask[layer].values,
                "contrast": plain.profile[layer].values,
            }
            for layer in asked.layers
        }

    def among(self, indices: Sequence[int]) -> Explained:
        """The same of some utterances only."""
        place = torch.full((len(self.speech),), -1)
        place[list(indices)] = torch.arange(len(indices))
        found = self.predictions
        kept = (place[found.utterance] >= 0).nonzero()[:, 0]
        heard = self.speech
        speech = Speech([heard.utterances[index] for index in indices], [heard.features[index] for index in indices])
        predictions = replace(
            found, utterance=place[found.utterance[kept]], frame=found.frame[kept], symbol=found.symbol[kept]
        )
        return replace(self, speech=speech, predictions=predictions, members=self.members[kept])


def explained(
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
    **options: Any,
) -> Explained:
    """Choose what is explained; the arguments are those of `gradnap`.

    Raises:
        BadInput, BadOption: as `gradnap`.
    """
    speech = heard_by(network, utterances, strict=strict)
    names = [by] if isinstance(by, str) else list(by)
    if by is DEFAULT_BY and not any("phone" in utterance.tiers for utterance in speech.utterances):
        names = [SYMBOL]
    survey = list_layers(network, speech.features[0])
    if survey.output is None:
        raise BadInput("this network has no output per frame", wanted="logits (batch, frame, symbol)")
    chosen = match_layers(survey, [INPUT, "*"] if layers == "*" else layers)
    blank = getattr(network, "blank", None) if isinstance(blank, EllipsisType) else blank
    symbols = symbol_names(network, symbols, survey.output.width)
    if blank is not None and not 0 <= blank < len(symbols):
        raise BadOption("the blank is not among the outputs", got=blank, wanted=f"0 to {len(symbols) - 1}, or None")
    predictions, counts = predict(network, speech, blank, instances, batch_size)
    if not len(predictions.frame):
        raise BadInput("no frame predicts a symbol", got="blanks only", remedy="train longer, or give blank=None")
    groupings = [make_grouping(name, speech.utterances, counts, survey.output.stride_s, symbols) for name in names]
    groups = [group for grouping in groupings for group in grouping.groups]
    members = membership(groupings, predictions.utterance, predictions.frame, predictions.symbol)
    if SYMBOL in names and blank is not None:
        groups, members = without_group(groups, members, f"{SYMBOL}:{symbols[blank]}")
    reading = {"mask": mask, "normaliser": normaliser, "min_instances": min_instances}
    sums_options = {"preset": preset, **options}
    return Explained(
        network, speech, survey, chosen, survey.output, predictions, names, groups, members, sums_options, reading,
        method, batch_size,
    )  # fmt: skip
