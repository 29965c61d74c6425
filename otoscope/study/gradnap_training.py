"""GradNAPs through training: when the profile of each group appears in each layer, and when it settles.

Every checkpoint of a run explains the same speech; each group's profile is compared with that of the last checkpoint,
and its responsiveness with what random groups of the same sizes reach (the future work of Krug et al. 2020).
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import EllipsisType
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from otoscope.base import BadInput, BadOption, Progress, atomic_path, choose, derive_seed, fingerprint, silent
from otoscope.hear.audio import HOP_S
from otoscope.hear.corpus import Utterance, corpus_fingerprint
from otoscope.learn.checkpoint import Run, load_checkpoint, open_run
from otoscope.probe.cones import FrameGradients
from otoscope.probe.layers import Layer, Survey, list_layers, match_layers
from otoscope.reduce.gradnap import ProfileSums
from otoscope.reduce.profile_course import ALIKE, along_epochs, measure, only, shuffled_name
from otoscope.reduce.profile_options import PRESETS
from otoscope.reduce.profiles import Profiles
from otoscope.study.explained import DEFAULT_BY, INSTANCES, all_layers, profile_pass, symbol_names, without_group
from otoscope.study.groupings import SYMBOL, Grouping, Labels, membership
from otoscope.study.predictions import Predictions, predict
from otoscope.study.speech import Speech, heard_by

INSTANCES_OF = ("last", "own")
TOLERANCE = 0.1
SHUFFLES = 3
# Progress within a checkpoint is reported in hundredths.
PARTS = 100


def gradnap_through_training(
    run: Run | Path | str,
    corpus: Iterable[Utterance] | Speech,
    layers: str | Sequence[str] = "*",
    by: str | Sequence[str] = DEFAULT_BY,
    epochs: str | Sequence[int] = "all",
    *,
    instances_of: str = "last",
    instances: str = "every",
    alike: float | None = ALIKE,
    shuffles: int = SHUFFLES,
    tolerance: float = TOLERANCE,
    blank: int | EllipsisType | None = ...,
    preset: str = "krug2020",
    method: str = "auto",
    min_instances: int | None = None,
    mask: str | None = None,
    normaliser: str | None = None,
    seed: int = 0,
    batch_size: int = 32,
    strict: bool = False,
    folder: Path | str | None = None,
    progress: Progress = silent,
    **options: Any,
) -> xr.Dataset:
    """The same GradNAPs on every checkpoint of a run: when each profile appears, and when it settles.

    Which frames are explained matters: a network that has only begun to learn predicts little but the blank. With
    `instances_of="last"` every checkpoint explains the frames that the last one predicts, for the symbol that the last
    one predicts there: the same instances at all epochs, so that what changes is the network. With "own" every
    checkpoint explains its own predictions, as `otoscope.gradnap` would: a group may be empty early, and part of a
    change can be that of the frames.

    Offsets count from the alignment time, which each checkpoint decides for itself: a profile that keeps its shape
    and only moves in time stays similar. Offsets that no instance reaches in one of the two are left out of the
    correlation; a mask of 0 is a value, a profile of 0.

    A profile has *appeared* from the epoch on at which it is both stronger than chance and on its way to the last: its
    responsiveness stays above that of `shuffled` groups at the same epoch, and its correlation with the last profile
    at `alike` or more. Shuffled: the groups' labels are taken from the utterances in another order and moved by some
    frames, so that random groups have the same sizes and runs. Strength alone would not do: even an untrained network
    answers differently to different sounds, since they sound different. What appears at the untrained network already,
    alike to the last, explains the data rather than the training.

    Args:
        run: a training run with its checkpoints.
        corpus: the speech that every checkpoint hears.
        layers, by, instances, blank, preset, method, min_instances, mask, normaliser, batch_size, strict, options: as
            of `otoscope.gradnap`.
        epochs: which checkpoints, at least two: numbers, or all. The last of them is what all are compared with.
        instances_of: whose predictions are explained: "last" or "own".
        alike: the least correlation with the last profile of one that has appeared; None: only its strength counts.
        shuffles: random groups for each group; the level is the largest of them.
        tolerance: a profile has *settled* from the epoch on at which its similarity stays above 1 less this.
        seed: of the random groups.
        folder: where the table of each epoch is kept as soon as it is there; what is found there, made with equal
            settings from equal checkpoints and speech, is not computed again. Other settings have other files.
        progress: called after each batch, in hundredths of a checkpoint.

    Returns:
        Dataset with `similarity`, `mask_similarity` (-1 to 1), `responsiveness`, `shuffled`, `extent_frames` and
        `extent_seconds` `(layer, group, epoch)`, NaN where a group is empty (or, a correlation, where one of the two
        is the same throughout); `instances` `(group, epoch)`; `appeared` and `settled` `(layer, group)`, epochs. NaN
        in `appeared`: not even at the last epoch; in `settled`: not before the last epoch, or the last profile is no
        stronger than shuffled groups', so that there is nothing to settle.
        `nominal_frames` and `nominal_seconds` `(layer,)`: see `Profiles.extent`. Attributes: what was chosen,
        `utterances`, `frames` explained at the last epoch, `notes`, hashes of the corpus and the checkpoints.

    Raises:
        BadCheckpoint, BadInput, BadOption: no run, no usable speech, no frame that predicts a symbol, an unknown
            layer, grouping, epoch or choice.
    """
    choose("instances_of", instances_of, INSTANCES_OF)
    choose("instances", instances, INSTANCES)
    if shuffles < 1 or not 0 < tolerance < 1 or not (alike is None or -1 <= alike < 1):
        got = f"shuffles={shuffles}, tolerance={tolerance}, alike={alike}"
        wanted = "one shuffle or more, a tolerance above 0 and below 1, alike from -1 to below 1"
        raise BadOption("this says nothing", got=got, wanted=wanted)
    if {**PRESETS[choose("preset", preset, PRESETS)], **options}["order"] == "rank":
        raise BadOption("sorted profiles have no course in time", got=f"preset={preset!r}", wanted="order='time'")
    run = run if isinstance(run, Run) else open_run(run)
    chosen = _chosen_epochs(run, epochs)
    network = load_checkpoint(run.checkpoints[chosen[-1]])
    speech = heard_by(network, corpus, strict=strict)
    plan = make_plan(network, speech, layers, by, blank, instances, batch_size, shuffles, seed)
    sums_options = {"preset": preset, **options}
    reading = {"mask": mask, "normaliser": normaliser, "min_instances": min_instances}
    settings = {
        "layers": [str(layer) for layer in plan.layers],
        "by": plan.by,
        "blank": plan.blank,
        "instances": instances,
        "instances_of": instances_of,
        "shuffles": shuffles,
        "seed": seed,
        "method": method,
        **sums_options,
        **reading,
    }
    same = {
        "settings": settings,
        "corpus": corpus_fingerprint(speech.utterances),
        "last": fingerprint(run.checkpoints[chosen[-1]]),
        "otoscope_version": importlib.metadata.version("otoscope"),
    }
    kept = Kept(None if folder is None else Path(folder), same)
    targets = predictions_of(network, plan)
    if not len(targets.frame):
        raise BadInput(
            "no frame of the last checkpoint predicts a symbol",
            got=f"{targets.blanks} frames, all of them blank",
            remedy="train the network longer, or give blank=None",
        )
    last = chosen[-1]
    found: Profiles | None = None
    reference = kept.profiles()
    if reference is None:
        said = _part_of(progress, 0, len(chosen), f"epoch {last}")
        found = explain(network, plan, targets, method, sums_options, reading, said)
        reference = only(found, plan.groups)
        kept.keep_profiles(reference)
    tables: dict[int, xr.Dataset] = {}
    for number, epoch in enumerate([last, *chosen[:-1]]):
        checkpoint = run.checkpoints[epoch]
        table = kept.table(epoch, checkpoint)
        if table is None:
            if epoch != last or found is None:
                module = load_checkpoint(checkpoint)
                mine = targets if instances_of == "last" else predictions_of(module, plan)
                said = _part_of(progress, number, len(chosen), f"epoch {epoch}")
                some = len(mine.frame) > 0
                found = explain(module, plan, mine, method, sums_options, reading, said) if some else None
            table = measure(found, reference, shuffles)
            kept.keep_table(table, epoch, checkpoint)
        tables[epoch] = table
        progress((number + 1) * PARTS, len(chosen) * PARTS, f"epoch {epoch} explained")
    result = along_epochs(dict(sorted(tables.items())), alike, tolerance)
    result.attrs |= {
        "instances_of": instances_of,
        # A file has no place for None.
        "alike": "strength alone" if alike is None else alike,
        "tolerance": tolerance,
        "utterances": len(speech),
        "left_out": len(speech.problems),
        "hop_s": HOP_S,
        "run": run.folder.resolve().name,
        "checkpoints": [fingerprint(run.checkpoints[epoch]) for epoch in chosen],
        **{name: json.dumps(value) if name == "settings" else value for name, value in same.items() if name != "last"},
    }
    return result


@dataclass(frozen=True)
class Plan:
    """What is the same for all checkpoints: the speech, the layers, the groups and how they are shuffled."""

    speech: Speech
    survey: Survey
    output: Layer
    layers: list[Layer]
    by: list[str]
    groups: list[str]
    blank: int | None
    symbols: list[str]
    counts: list[int]
    instances: str
    batch_size: int
    shuffles: int
    seed: int

    def members(self, found: Predictions) -> tuple[list[str], Tensor]:
        """The groups, random ones last, and which each instance belongs to `(instance, grouping)`."""
        groupings = _groupings(self.by, self.speech, self.counts, self.output, self.symbols)
        groups = [group for grouping in groupings for group in grouping.groups]
        members = membership(groupings, found.utterance, found.frame, found.symbol)
        if SYMBOL in self.by and self.blank is not None:
            groups, members = without_group(groups, members, f"{SYMBOL}:{self.symbols[self.blank]}")
        names, columns = list(groups), [members]
        for turn in range(self.shuffles):
            taken = members[shuffled_order(found.utterance, derive_seed("shuffled groups", self.seed, turn))]
            columns.append(torch.where(taken >= 0, taken + len(names), -1))
            names += [shuffled_name(turn, group) for group in groups]
        return names, torch.cat(columns, 1)


def make_plan(
    network: nn.Module,
    speech: Speech,
    layers: str | Sequence[str],
    by: str | Sequence[str],
    blank: int | EllipsisType | None,
    instances: str,
    batch_size: int,
    shuffles: int,
    seed: int,
) -> Plan:
    """Look at the last checkpoint, whose layers, outputs and frame rate all others share."""
    names = [by] if isinstance(by, str) else list(by)
    if by is DEFAULT_BY and not any("phone" in utterance.tiers for utterance in speech.utterances):
        names = [SYMBOL]
    survey = list_layers(network, speech.features[0])
    if survey.output is None:
        raise BadInput("this network has no output per frame", wanted="logits (batch, frame, symbol)")
    chosen = match_layers(survey, all_layers(survey) if layers == "*" else layers)
    if isinstance(blank, EllipsisType):
        blank = getattr(network, "blank", None)
    symbols = symbol_names(network, None, survey.output.width)
    if blank is not None and not 0 <= blank < len(symbols):
        raise BadOption("the blank is not among the outputs", got=blank, wanted=f"0 to {len(symbols) - 1}, or None")
    counts = [survey.output.frames(frames) for frames in speech.lengths]
    groupings = _groupings(names, speech, counts, survey.output, symbols)
    silent_group = None if blank is None else f"{SYMBOL}:{symbols[blank]}"
    groups = [group for grouping in groupings for group in grouping.groups if group != silent_group]
    some = (batch_size, shuffles, seed)
    return Plan(speech, survey, survey.output, chosen, names, groups, blank, symbols, counts, instances, *some)


def predictions_of(network: nn.Module, plan: Plan) -> Predictions:
    """What a checkpoint predicts in all the speech."""
    return predict(network, plan.speech, plan.blank, plan.instances, plan.batch_size)[0]


def shuffled_order(utterance: Tensor, seed: int) -> Tensor:
    """Whose labels each instance takes `(instance,)`: utterances in a random order, then moved by a random number.

    Every label is taken once, so groups keep their sizes, and labels that stood beside each other mostly still do: the
    random groups are as little independent from frame to frame as the real ones.
    """
    if not len(utterance):
        return torch.zeros(0, dtype=torch.int64)
    rng = np.random.default_rng(seed)
    owners = utterance.numpy()
    rank = rng.permutation(int(owners.max()) + 1)
    order = np.argsort(rank[owners], kind="stable")
    return torch.from_numpy(np.roll(order, int(rng.integers(len(order)))))


def explain(
    network: nn.Module,
    plan: Plan,
    found: Predictions,
    method: str,
    sums_options: Mapping[str, Any],
    reading: Mapping[str, Any],
    progress: Progress,
) -> Profiles:
    """Profiles of all groups, real and random, in one checkpoint."""
    groups, members = plan.members(found)
    sums = ProfileSums(groups, **sums_options)
    gradients = FrameGradients(network, plan.layers, method=method, survey=plan.survey)
    profile_pass(
        network, plan.speech, plan.layers, plan.output, gradients, found, members, sums, plan.batch_size, progress
    )
    return sums.finalize(frame_s={str(layer): layer.stride_s for layer in plan.layers}, **reading)


class Kept:
    """Tables of epochs in a folder, under names that depend on all settings; without a folder nothing is kept."""

    def __init__(self, folder: Path | None, same: Mapping[str, Any]):
        self.folder = folder
        self.same = json.dumps(same, sort_keys=True)
        self.key = hashlib.sha256(self.same.encode()).hexdigest()[:8]

    def profiles(self) -> Profiles | None:
        """The profiles of the last checkpoint, if they are there."""
        path = self._path("last")
        if path is None or not path.is_file():
            return None
        try:
            found = Profiles.load(path)
        except BadInput:
            return None
        return found if found.settings.get("made_with") == self.same else None

    def keep_profiles(self, profiles: Profiles) -> None:
        """Keep the profiles of the last checkpoint."""
        if (path := self._path("last")) is not None:
            Profiles(profiles.layers, {**profiles.settings, "made_with": self.same}).save(path)

    def table(self, epoch: int, checkpoint: Path) -> xr.Dataset | None:
        """The table of an epoch, if it is there, whole, and made from this checkpoint."""
        path = self._path(f"epoch-{epoch:03d}")
        if path is None or not path.is_file():
            return None
        try:
            with xr.open_dataset(path, engine="h5netcdf") as opened:
                found = opened.load()
        except (OSError, ValueError, KeyError):
            return None
        made = found.attrs.pop("made_with", "") == self.same and found.attrs.pop("made_from", "") == fingerprint(
            checkpoint
        )
        if not made:
            return None
        names = {name: found[name].astype(str) for name in ("layer", "group")}
        return found.assign_coords(names).assign_attrs(notes=json.loads(found.attrs["notes"]))

    def keep_table(self, table: xr.Dataset, epoch: int, checkpoint: Path) -> None:
        """Keep the table of an epoch, in one step."""
        if (path := self._path(f"epoch-{epoch:03d}")) is not None:
            made = {"made_with": self.same, "made_from": fingerprint(checkpoint)}
            with atomic_path(path) as temporary:
                noted = table.assign_attrs(notes=json.dumps(table.attrs["notes"]), **made)
                noted.to_netcdf(temporary, engine="h5netcdf")

    def _path(self, name: str) -> Path | None:
        return None if self.folder is None else self.folder / f"{name}.{self.key}.nc"


def _groupings(
    by: Sequence[str], speech: Speech, counts: Sequence[int], output: Layer, symbols: Sequence[str]
) -> list[Grouping]:
    return Labels(speech.utterances, counts, output.stride_s, symbols).group(by)


def _chosen_epochs(run: Run, epochs: str | Sequence[int]) -> list[int]:
    there = sorted(run.checkpoints)
    if isinstance(epochs, str):
        choose("epochs", epochs, ["all"])
        wanted = there
    else:
        wanted = sorted({int(epoch) for epoch in epochs})
    unknown = [epoch for epoch in wanted if epoch not in there]
    if unknown or len(wanted) < 2:
        problem = "the run has no checkpoint of these epochs" if unknown else "training takes epochs"
        raise BadOption(problem, got=unknown or wanted, wanted=f"at least two of {', '.join(map(str, there))}")
    return wanted


def _part_of(progress: Progress, number: int, of: int, note: str) -> Progress:
    """The progress of one checkpoint as a part of the whole."""

    def said(done: int, total: int, words: str = "") -> None:
        progress(number * PARTS + PARTS * done // max(1, total), of * PARTS, f"{note}: {words}")

    return said
