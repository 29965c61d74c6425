"""GradNAPs of a network on speech: one pass over the utterances into running sums, and what is read out of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from types import EllipsisType
from typing import Any

import torch
from torch import Tensor, nn

from otoscope.base import Progress, silent
from otoscope.hear.audio import HOP_S
from otoscope.hear.corpus import Utterance, corpus_fingerprint
from otoscope.probe.layers import Survey
from otoscope.reduce.gradnap import ProfileSums
from otoscope.reduce.profiles import Profiles
from otoscope.study.explained import DEFAULT_BY, explained
from otoscope.study.groupings import WHERE, By
from otoscope.study.predictions import incidents
from otoscope.study.reference_labels import Pronounce
from otoscope.study.speech import Speech


def gradnap(
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
    progress: Progress = silent,
    **options: Any,
) -> Profiles:
    """Gradient-adjusted neuron activation profiles (Krug et al. 2020) of groups of inputs, in every layer.

    For each output frame that predicts a symbol, the gradient of that symbol's logit says where each layer decided it;
    activations are averaged around that time over all frames of a group, less the mean over all groups, and masked with
    the mean gradient. See `otoscope.reduce.profiles`.

    The paper's forerunners come from the same pass. `preset="navai"`, its "sensitivity-based alignment": windows of the
    receptive field around the largest mean |gradient| of every layer, no mask. `preset="nap"`, "time-independence by
    sorting on the time axis": of each frame, every neuron's activations over the frames on which the prediction depends
    are sorted, the largest first, and averaged rank by rank; what the group has beyond the mean over all instances is
    its profile, with no gradient in it. Both subtract the mean over all instances, as GradNAP does.

    Args:
        network: any module with `forward(features, lengths) -> (logits, lengths)`. It is used in `eval()`, and left as
            it was.
        utterances: the speech; what cannot be read or run is left out and counted.
        layers: names, globs or `"*"`: the network's own layers and the `"input"`.
        by: what to group by: `symbol` (the predicted grapheme), a tier such as `phone`, `word` or `grapheme`, a class
            of phones (`manner`, `place`, `voicing`, `height`, `backness`), `speaker`, an attribute, what a prediction
            stands for in the transcript (`reference-grapheme`, `reference-phone`), or a condition on
            these, `"phone=AE & gender=f"` (`otoscope.study.conditions`). A condition makes one group, named by itself,
            `where:phone=AE & gender=f`, or by the key of a mapping, `{"her AE": "phone=AE & gender=f"}`. Several share
            one pass and one `group` dimension, labelled `symbol:a`, `phone:AE`. Left out: by symbol, and by phone where
            there are phones.
        symbols: names of the outputs; the network's own, else their numbers.
        blank: the output that stands for none; the network's own when left out; None: there is none.
        preset: fixes every choice that is not given: "krug2020", "navai" or "nap".
        instances: `every` frame of a prediction, or the `peak` of each emission.
        strict: raise at the first unusable recording.
        method: how gradients are computed (`otoscope.probe.cones`); chosen and tested by itself.
        batch_size: utterances handled together.
        min_instances, mask, normaliser: see `otoscope.reduce.gradnap.ProfileSums.finalize`.
        pronounce: the phones of a word's letters, `[("c", ["K"]), …]`, for `by="reference-phone"`, as those of
            `otoscope.Pronouncer(lexicon).word(word).letters`; left out, as they are read without a lexicon.
        alignment, width, order, units, pad: see `otoscope.reduce.gradnap.ProfileSums`. Layers whose cone has no end
            keep a second on either side of the alignment, unless `width` says otherwise.
        progress: called after each batch.

    Raises:
        BadInput: no usable speech, no frame that predicts a symbol, or a network whose logits change by chance.
        BadOption: an unknown choice, layer or unit, or one that cannot be used, and why.
    """
    sums = gradnap_sums(
        network,
        utterances,
        layers,
        by,
        symbols,
        blank,
        preset,
        instances=instances,
        strict=strict,
        method=method,
        batch_size=batch_size,
        pronounce=pronounce,
        progress=progress,
        **options,
    )
    return sums.finalize(mask=mask, normaliser=normaliser, min_instances=min_instances)


def gradnap_sums(
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
    pronounce: Pronounce | None = None,
    progress: Progress = silent,
    **options: Any,
) -> ProfileSums:
    """The running sums of `gradnap`, for partial passes: save them, `merge` those of other speech, then `finalize`.

        sums = otoscope.gradnap_sums(network, first_half, by="phone")
        sums.merge(otoscope.gradnap_sums(network, second_half, by="phone")).finalize()    # as of the whole

    Arguments and errors are those of `gradnap`. A part that lacks some phone or speaker merges as well; one that lacks
    everything to group by raises.
    """
    task = explained(
        network,
        utterances,
        layers,
        by,
        symbols,
        blank,
        preset,
        instances=instances,
        strict=strict,
        method=method,
        batch_size=batch_size,
        pronounce=pronounce,
        **options,
    )
    speech, predictions = task.speech, task.predictions
    sums = task.sums(progress=progress)
    names = list(dict.fromkeys(grouping.name for grouping in task.groupings))
    sums.settings |= {"by": names, "hop_s": HOP_S, "network": weights_fingerprint(network)}
    conditions = {grouping.labels[0]: grouping.condition for grouping in task.groupings if grouping.condition}
    if conditions:
        sums.settings["conditions"] = conditions
    sums.facts |= {
        "blank_frames": predictions.blanks,
        "ungrouped": {
            grouping.name: int((task.members[:, column] < 0).sum())
            for column, grouping in enumerate(task.groupings)
            if grouping.name != WHERE
        },
        "utterances": len(speech) - len(predictions.failed),
        "left_out": len(speech.problems) + len(predictions.failed),
        "corpus": corpus_fingerprint(speech.utterances),
    }
    skipped = skipped_layers(network, task.survey, layers)
    if skipped:
        sums.facts["skipped"] = skipped
    endless = [str(layer) for layer in task.layers if layer.cone is None]
    if endless:
        said = f"{', '.join(endless)}: predictions depend on the whole utterance, profiles hold the frames of `width`"
        sums.facts["limits"] = [said]
    sums.incidents = incidents(network, speech, task.survey, predictions, task.counts)
    if speech.problems:
        unusable = {problem.id or f"line {problem.line}": 1 for problem in speech.problems}
        sums.incidents["utterances are left out, which cannot be read or used"] = unusable
    for grouping in task.labels.made.values():
        if grouping.mapped:
            counts = grouping.mapped(predictions.utterance, predictions.frame, predictions.symbol)
            sums.facts.setdefault("stand_for", {})[grouping.name] = dict(counts.most_common())
        if grouping.unpronounced:
            sums.facts["unpronounced"] = dict(grouping.unpronounced)
        if grouping.beyond:
            what = f"labels by {grouping.name} reach beyond the audio, and count inside it only"
            sums.incidents[what] = dict(grouping.beyond)
    return sums


def skipped_layers(network: nn.Module, survey: Survey, asked: str | Sequence[str]) -> dict[str, str]:
    """Modules that a glob would have meant, but that give no vector for each frame, and why."""
    if not any(set(pattern) & set("*?[") for pattern in ([asked] if isinstance(asked, str) else asked)):
        return {}
    own = getattr(network, "layer_names", None)
    if own is not None:
        return {name: why for name, why in survey.skipped.items() if name in own}
    leaves = {name for name, module in network.named_modules() if not any(module.children())}
    return {name: why for name, why in survey.skipped.items() if name in leaves and why != "it is not called"}


def weights_fingerprint(network: nn.Module) -> str:
    """16 hex digits that change with any weight or buffer."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        if isinstance(tensor, Tensor):
            digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
