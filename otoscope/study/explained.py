"""What a GradNAP explains: which frames of which utterances, by which logit, in which groups.

Chosen once, so that other networks of the same shape, other halves of the speech and other labels can be put through
the same pass. The target of each instance stays the logit of the symbol that the original network predicts there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import EllipsisType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from otoscope.base import BadInput, BadOption, OtoscopeError, Progress, choose, silent
from otoscope.hear.audio import HOP_S, MELS, mel_frequencies
from otoscope.hear.corpus import Utterance, corpus_fingerprint
from otoscope.probe.cones import FrameGradients
from otoscope.probe.layers import Layer, Survey, as_frames, list_layers, match_layers
from otoscope.probe.taps import INPUT, tap
from otoscope.probe.windows import corresponding
from otoscope.reduce.gradnap import ProfileSums
from otoscope.reduce.profile_options import CHOICES, PRESETS
from otoscope.reduce.profiles import Profiles
from otoscope.study.groupings import SYMBOL, By, Grouping, Labels, membership
from otoscope.study.predictions import Predictions, at_home, predict
from otoscope.study.reference_labels import Pronounce
from otoscope.study.speech import Speech, bands_of, heard_by, unpadded

INSTANCES = CHOICES["instances"]
DEFAULT_BY = ("symbol", "phone")
# Kept on either side of the alignment in layers whose cone has no end, in seconds.
ENDLESS_S = 1.0
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
    counts: list[int]
    """Output frames of each utterance."""
    labels: Labels
    """All that was grouped by, what only conditions asked for included."""
    groupings: list[Grouping]
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

    def sums(self, network: nn.Module | None = None, progress: Progress = silent) -> ProfileSums:
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
            progress,
        )
        bands = bands_of(network)
        sums.frame_s = {str(layer): layer.stride_s for layer in self.layers}
        standard = bands.mels == MELS == self.survey[0].width
        sums.frequency_hz = list(map(float, mel_frequencies(*bands))) if standard else None
        sums.facts["gradients"] = f"{gradients.method}: {gradients.reason}"
        return sums

    def read(self, sums: ProfileSums, **changes: Any) -> Profiles:
        """Profiles from sums, read as asked for but for `changes`."""
        return sums.finalize(**{**self.reading, **changes})

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
        predictions = replace(
            found, utterance=place[found.utterance[kept]], frame=found.frame[kept], symbol=found.symbol[kept]
        )
        return replace(self, speech=self.speech.among(indices), predictions=predictions, members=self.members[kept])


def explained(
    network: nn.Module,
    utterances: Iterable[Utterance] | Speech,
    layers: str | Sequence[str] = "*",
    by: By = DEFAULT_BY,
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
    pronounce: Pronounce | None = None,
    **options: Any,
) -> Explained:
    """Choose what is explained; the arguments are those of `gradnap`.

    Raises:
        BadInput, BadOption: as `gradnap`.
    """
    choose("instances", instances, INSTANCES)
    choose("preset", preset, PRESETS)
    speech = heard_by(network, utterances, strict=strict)
    if by is DEFAULT_BY and not any("phone" in utterance.tiers for utterance in speech.utterances):
        by = SYMBOL
    survey = list_layers(network, speech.features[0])
    if survey.output is None:
        raise BadInput(
            "this network has no output per frame",
            wanted="logits (batch, frame, symbol), a frame for so many input frames",
        )
    chosen = match_layers(survey, all_layers(survey) if layers == "*" else layers)
    check_units(options.get("units") or {}, chosen)
    blank = getattr(network, "blank", None) if isinstance(blank, EllipsisType) else blank
    symbols = symbol_names(network, symbols, survey.output.width)
    if blank is not None and not 0 <= blank < len(symbols):
        raise BadOption("the blank is not among the outputs", got=blank, wanted=f"0 to {len(symbols) - 1}, or None")
    predictions, counts = predict(network, speech, blank, instances, batch_size)
    if strict and predictions.failed:
        index, why = next(iter(predictions.failed.items()))
        raise BadInput(f"the network does not run on utterance {speech.utterances[index].id}", got=why)
    if not len(predictions.frame):
        others = sum(predictions.not_finite.values())
        raise BadInput(
            "no frame predicts a symbol",
            got=f"{predictions.blanks} frames, all of them blank" + (f", and {others} not finite" if others else ""),
            remedy="train the network longer, or give blank=None",
        )
    seconds = [frames * HOP_S for frames in speech.lengths]
    labels = Labels(speech.utterances, counts, survey.output.stride_s, symbols, seconds, pronounce)
    groupings = labels.group(by)
    groups = [group for grouping in groupings for group in grouping.groups]
    members = membership(groupings, predictions.utterance, predictions.frame, predictions.symbol)
    if any(grouping.name == SYMBOL for grouping in groupings) and blank is not None:
        # The blank's own group can have no instance.
        groups, members = without_group(groups, members, f"{SYMBOL}:{symbols[blank]}")
    options["width"] = widths(options.get("width"), preset, chosen)
    return Explained(
        network,
        speech,
        survey,
        chosen,
        survey.output,
        predictions,
        counts,
        labels,
        groupings,
        groups,
        members,
        {"preset": preset, "instances": instances, **options},
        {"mask": mask, "normaliser": normaliser, "min_instances": min_instances},
        method,
        batch_size,
    )


def all_layers(survey: Survey) -> list[str]:
    """What `"*"` means: the input and the network's own layers. One without modules has none but its input."""
    return [INPUT, "*"] if any(layer.own and layer != INPUT for layer in survey) else [INPUT]


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


def widths(
    given: int | str | Mapping[str, int | str] | None, preset: str, layers: Sequence[Layer]
) -> int | str | dict[str, int | str] | None:
    """The width of each layer's window, where layers without an end to their cones make one necessary."""
    if all(layer.cone is not None for layer in layers) or isinstance(given, int):
        return dict(given) if isinstance(given, Mapping) else given
    standard = PRESETS[preset]["width"] if given is None or isinstance(given, Mapping) else given
    table = {str(layer): standard for layer in layers} | (dict(given) if isinstance(given, Mapping) else {})
    for layer in layers:
        if layer.cone is None and not isinstance(table[layer], int):
            table[str(layer)] = 2 * round(ENDLESS_S / layer.stride_s) + 1
    return {layer: width for layer, width in table.items() if width is not None}


def check_units(units: Mapping[str, Sequence[int]], layers: Sequence[Layer]) -> None:
    """Raise `BadOption` unless every unit asked for is one of a layer that is looked at."""
    known = {str(layer): layer for layer in layers}
    for name, given in units.items():
        choose("layer of `units`", name, known)
        wrong = [unit for unit in given if not 0 <= unit < known[name].width]
        if wrong:
            raise BadOption(f"layer {name!r} has no such unit", got=wrong[:5], wanted=f"0 to {known[name].width - 1}")


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
    """Add every instance to the sums: activations from one full pass over each batch, gradients from the cones.

    Raises:
        BadInput: the network does not run on a batch, though it runs on each of its utterances.
    """
    owner = predictions.utterance.numpy()
    explained = np.unique(owner).tolist()
    done = 0
    for indices, features, lengths in speech.batches(batch_size, explained):
        try:
            with torch.no_grad(), tap(network, layers) as taps:
                network(*at_home(network, features, lengths))
        except OtoscopeError:
            raise
        except Exception as error:  # somebody else's network may raise anything
            raise BadInput(
                f"the network does not run on {len(indices)} utterances together",
                got=f"{type(error).__name__}: {error}",
                remedy="lower batch_size",
            ) from error
        activations = {
            layer: unpadded(as_frames(taps[layer], layer), [layer.frames(int(length)) for length in lengths])
            for layer in layers
        }
        place = np.full(len(speech), -1)
        place[indices] = np.arange(len(indices))
        rows = np.flatnonzero(place[owner] >= 0)
        mine, utterance = torch.from_numpy(rows), torch.from_numpy(place[owner[rows]])
        frame, symbol = predictions.frame[mine], predictions.symbol[mine]
        heard = [speech.features[index] for index in indices]
        names = [speech.utterances[index].id for index in indices]
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
                    names,
                )
        done += len(mine)
        progress(done, len(owner), f"{done} frames explained by {gradients.method}")
