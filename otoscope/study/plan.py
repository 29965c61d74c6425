"""What a comparison of networks and one through training share: options, checked, and the one pass over the speech."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from otoscope.base import BadOption, Progress, choose, fingerprint
from otoscope.hear.corpus import Utterance, corpus_fingerprint
from otoscope.reduce.comparison import Comparison
from otoscope.reduce.intervals import LEVEL
from otoscope.reduce.resize import PRESETS
from otoscope.reduce.similarity import level_of, with_preset
from otoscope.reduce.sums import PairName
from otoscope.study.nodes import MEL, Labels, find_labels, mel_frames, node_frames
from otoscope.study.probes import ProbePass
from otoscope.study.random_weights import with_random_weights
from otoscope.study.representations import Listener, Reading, hear, points_a_frame
from otoscope.study.speech import Speech, heard_by

MEASURES = ("svcca", "cka")
BASELINES = ("permutation", "random")
# Running sums of so many pairs need this much memory at most, unless the caller chooses fewer.
MOST_BYTES = 8 * 2**30


class Heard(NamedTuple):
    """A batch, as comparisons take it: `(frame, unit)` each, utterances below each other.

    Attributes:
        layers: of every representation, by name.
        nodes: of the other nodes.
        random: of representations, by name, in the same network with random weights.
        lengths: rows of each utterance.
        keys: the numbers of the utterances.
    """

    layers: dict[str, Tensor]
    nodes: dict[str, Tensor]
    random: dict[str, Tensor]
    lengths: list[int]
    keys: list[int]


@dataclass(frozen=True)
class Plan:
    """What is compared, on which speech, and how. Made by `make_plan`.

    Attributes:
        listeners: the networks.
        speech: what they hear.
        reading: how their layers are read; `preset`: after whom.
        nodes: what else layers are compared with; `labels`: the labellings among them.
        measures, options: names of measures, and their options.
        level: of intervals; None for none.
        random: whether networks with random weights are wanted beside them.
        folds, repairings: as many as the speech allows; 0 where they are not wanted.
    """

    listeners: list[Listener]
    speech: Speech
    reading: Reading
    preset: str | None
    nodes: tuple[str, ...]
    labels: dict[str, Labels]
    measures: tuple[str, ...]
    options: dict[str, Any]
    level: float | None
    random: bool
    folds: int
    repairings: int
    batch_size: int
    seed: int

    @property
    def probability(self) -> float:
        """Of intervals, those of the probes included, which are always there."""
        return self.level or LEVEL

    def comparison(self, pairs: Sequence[PairName], *, folds: int = 0, repairings: int = 0) -> Comparison:
        """An empty comparison of such pairs. Raises `BadOption` where its sums would not fit into memory."""
        widths = {
            str(name): layer.width
            for listener in self.listeners
            for name, layer in zip(listener.representations, listener.layers, strict=True)
        }
        times = max(folds, 1) + repairings
        size = 8 * times * sum(widths.get(a, 0) * widths.get(b, 100) for a, b in pairs)
        if size > MOST_BYTES:
            raise BadOption(
                f"the sums of {len(pairs)} pairs of layers do not fit into memory",
                got=f"{size / 2**30:.0f} GiB" + (f" for {times} folds and re-pairings" if times > 1 else ""),
                wanted=f"at most {MOST_BYTES / 2**30:.0f} GiB",
                remedy="choose fewer layers or epochs, fewer folds, or compare through training (through_training)",
            )
        settings = {"level": self.probability, "seed": self.seed, **self.options}
        return Comparison(self.measures, pairs, folds=folds, repairings=repairings, **settings)

    def hear(self, probes: ProbePass, like_random: Sequence[Listener], progress: Progress) -> Iterator[Heard]:
        """One pass over the speech, each network once on each batch; probes of labels are filled on the way.

        Args:
            probes: of all nodes of which labels are to be read off.
            like_random: the networks that are wanted with random weights, too, if this baseline is.
            progress: called after each batch.
        """
        twins = with_random_weights(like_random, self.seed) if self.random else {}
        everything = [each for listener in self.listeners for each in listener.representations]
        shadows = {
            str(own): twin
            for listener in like_random
            if self.random
            for own, twin in zip(listener.representations, twins[listener.network].representations, strict=True)
        }
        total, done, frames = sum(-(-len(part) // self.batch_size) for part in probes.order), 0, 0
        for among in probes.order:
            for batch in hear([*self.listeners, *twins.values()], self.speech, self.reading, self.batch_size, among):
                points, mel = points_a_frame(batch), mel_frames(batch, self.speech)
                numbers = {name: label.numbers(batch) for name, label in self.labels.items()}
                layers = {str(each): batch.values[each] for each in everything}
                if points == 1:
                    probes.update(batch, {**layers, MEL: mel}, numbers)
                yield Heard(
                    layers,
                    node_frames(self.nodes, self.labels, numbers, mel, points),
                    {own: batch.values[twin] for own, twin in shadows.items()},
                    [length * points for length in batch.lengths],
                    batch.indices,
                )
                done, frames = done + 1, frames + sum(batch.lengths)
                progress(done, total, f"{len(self.listeners)} networks, {frames} frames")

    def attributes(self, comparison: Comparison, notes: Iterable[str]) -> dict[str, Any]:
        """What a result says of how it was made."""
        rare = [f"{e.left_out} rarer labels of {name!r} are left out" for name, e in self.labels.items() if e.left_out]
        how = {"align": self.reading.align, "maps": self.reading.maps, "preset": self.preset}
        return {
            "frames": comparison.frames,
            "utterances": comparison.utterances,
            "left_out": len(self.speech.problems),
            "notes": "; ".join(dict.fromkeys([*notes, *self.reading.words(self.listeners), *rare])),
            "settings": json.dumps({**comparison.settings, **how}, default=repr),
            "corpus": corpus_fingerprint(self.speech.utterances),
            "checkpoints": [fingerprint(each.checkpoint) for each in self.listeners if each.checkpoint],
            "otoscope_version": importlib.metadata.version("otoscope"),
        }


def make_plan(
    listeners: list[Listener],
    corpus: Iterable[Utterance] | Speech,
    *,
    nodes: Sequence[str],
    measures: Iterable[str] | str,
    options: dict[str, Any],
    interval: str | float | None,
    baseline: str | Sequence[str] | None,
    align: str,
    maps: str,
    preset: str | None,
    folds: int,
    repairings: int,
    seed: int,
    batch_size: int,
    strict: bool,
) -> Plan:
    """Check what was asked for, as `otoscope.compare` describes it.

    Raises:
        BadInput, BadOption: no usable speech, an unknown node, preset, baseline or reading.
    """
    level = level_of(interval)
    baselines = [baseline] if isinstance(baseline, str) else list(baseline or ())
    for each in baselines:
        choose("baseline", each, BASELINES)
    speech = heard_by(listeners[0].module, corpus, strict=strict)
    for listener in listeners[1:]:
        # One input for all: those that take other features are refused by name.
        heard_by(listener.module, speech)
    reading = _reading(listeners, align, maps, preset)
    if reading.preset is not None:
        speech = _controlled_input(speech, reading)
    measures, options = with_preset(reading.preset, measures, options)
    return Plan(
        listeners,
        speech,
        reading,
        preset,
        tuple(nodes),
        find_labels(nodes, speech),
        (measures,) if isinstance(measures, str) else tuple(measures),
        options,
        level,
        "random" in baselines,
        min(folds, len(speech)) if level else 0,
        # Utterances are paired with others of their batch.
        min(repairings, min(batch_size, len(speech)) - 1) if "permutation" in baselines else 0,
        batch_size,
        seed,
    )


def _reading(listeners: Sequence[Listener], align: str, maps: str, preset: str | None) -> Reading:
    """How layers are read; a preset interpolates all to the widest."""
    way = None if preset is None else PRESETS[choose("preset", preset, PRESETS)]
    width = max(layer.width for listener in listeners for layer in listener.layers) if way else None
    return Reading(align, maps, way, width)


def _controlled_input(speech: Speech, reading: Reading) -> Speech:
    """The one input of so many frames that a preset wants: the start of the first utterance that is as long."""
    wanted = reading.preset.frames if reading.preset else None
    if wanted is None:
        return speech
    for index, frames in enumerate(speech.lengths):
        if frames >= wanted:
            start = [speech.features[index][:wanted]]
            return Speech([speech.utterances[index]], start, speech.problems, speech.top_hz)
    longest = max(speech.lengths)
    raise BadOption("no utterance is as long as the preset's input", got=f"{longest} frames", wanted=f"{wanted}")
