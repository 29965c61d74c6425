"""How well labels can be read off layers by a linear map, on speakers that the map has never met."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from otoscope.reduce.intervals import LEVEL, jackknife
from otoscope.reduce.moments import Moments
from otoscope.reduce.probes import Probe, fit_probe
from otoscope.study.nodes import MEL, Labels
from otoscope.study.representations import Batch
from otoscope.study.speech import Speech


class ProbePass:
    """Linear probes of some labels in some nodes: sums over one half of the speakers, tested on the other half.

    Speakers are taken by turns, sorted by gender where that is known, and by name. First all utterances of `train` go
    through `update`, then those of `test`.

    Args:
        names: the nodes to read labels off.
        labels: the labellings; that by speaker is left out, since no speaker is in both halves.
        speech: all of the utterances.
    """

    def __init__(self, names: Sequence[str], labels: Mapping[str, Labels], speech: Speech):
        self.names = list(names)
        self.labels = {name: label for name, label in labels.items() if name != "speaker"}
        # Women beside women and men beside men: names often tell them apart, and by turns would part them.
        found = {u.speaker: str(u.attributes.get("gender", "")) for u in speech.utterances if u.speaker is not None}
        half = set(sorted(found, key=lambda speaker: (found[speaker], speaker))[::2])
        self.speakers = [utterance.speaker for utterance in speech.utterances]
        self.train = [index for index, speaker in enumerate(self.speakers) if speaker in half]
        self.test = [i for i, speaker in enumerate(self.speakers) if speaker is not None and speaker not in half]
        self.sums = {name: Moments(pairs=[(node, name) for node in self.names]) for name in self.labels}
        self.probes: dict[tuple[str, str], Probe] = {}
        # Correct frames by (node, label), and frames, of each speaker tested.
        self.correct: dict[tuple[str, str], dict[str, int]] = {}
        self.tested: dict[str, dict[str, int]] = {name: {} for name in self.labels}
        self.most: dict[str, Tensor] = {}

    @property
    def possible(self) -> bool:
        """Whether there are labels to read, and speakers to hold out."""
        return bool(self.labels and self.train and self.test)

    @property
    def order(self) -> list[list[int]]:
        """All utterances in the order of a pass: those of `train`, those of `test`, those of nobody."""
        used = {*self.train, *self.test}
        others = [index for index in range(len(self.speakers)) if index not in used]
        return [self.train, self.test, others] if self.possible else [list(range(len(self.speakers)))]

    def update(self, batch: Batch, heard: Mapping[str, Tensor], numbers: Mapping[str, Tensor]) -> None:
        """Add a batch of utterances of one part of `order`."""
        training, testing = (batch.indices[0] in part for part in (self.train, self.test))
        if not (self.possible and (training or testing)):
            return
        owners = np.repeat([self.speakers[index] or "" for index in batch.indices], batch.lengths)
        for name, label in self.labels.items():
            labelled = numbers[name] >= 0
            truth = numbers[name][labelled]
            rows = {node: heard[node][labelled] for node in self.names}
            if training:
                self.sums[name].update({**rows, name: label.one_hot(truth)})
                continue
            self._tally(self.tested[name], owners[labelled.numpy()], torch.ones(len(truth)))
            counts = torch.bincount(truth, minlength=len(label.labels))
            self.most[name] = self.most.get(name, torch.zeros_like(counts)) + counts
            for node, frames in rows.items():
                probe = self._probe(node, name)
                hits = (probe.predict(frames) == truth).float()
                self._tally(self.correct.setdefault((node, name), {}), owners[labelled.numpy()], hits)

    def result(self, level: float = LEVEL) -> xr.Dataset:
        """`accuracy` `(node, label)`, 0 to 1, its jackknife interval over speakers, and `chance` `(label,)`.

        Chance is the share of the commonest label. Attributes: `train_frames`, `test_frames`, `test_speakers`.
        """
        shape = (len(self.names), len(self.labels))
        accuracy, bounds = np.full(shape, np.nan), np.full((*shape, 2), np.nan)
        chance = np.full(len(self.labels), np.nan)
        for j, name in enumerate(self.labels):
            frames = np.array(list(self.tested[name].values()), float)
            if not frames.sum():
                continue
            chance[j] = float(self.most[name].max() / self.most[name].sum())
            for i, node in enumerate(self.names):
                hits = np.array([self.correct[node, name][speaker] for speaker in self.tested[name]], float)
                accuracy[i, j] = hits.sum() / frames.sum()
                if len(frames) > 1:
                    parts = (hits.sum() - hits) / (frames.sum() - frames)
                    bounds[i, j] = jackknife(accuracy[i, j], parts, level=level, within=(0.0, 1.0))
        attrs: dict[str, Any] = {
            "train_frames": max((sums.frames for sums in self.sums.values()), default=0),
            "test_frames": max((sum(tested.values()) for tested in self.tested.values()), default=0),
            "test_speakers": max((len(tested) for tested in self.tested.values()), default=0),
        }
        return xr.Dataset(
            {
                "accuracy": (("probed", "label_node"), accuracy),
                "interval": (("probed", "label_node", "bound"), bounds),
                "chance": ("label_node", chance),
            },
            coords={"probed": self.names, "label_node": list(self.labels), "bound": ["low", "high"]},
            attrs=attrs,
        )

    def add_to(
        self, result: xr.Dataset, dims: tuple[str, ...], places: Mapping[str, tuple[int, ...]], level: float
    ) -> None:
        """Put what was read off into a result that has a dimension `node`.

        Args:
            result: gets `probe` `(*dims, node)`, `probe_interval` `(*dims, node, bound)`, `probe_input` and
                `probe_chance` `(node,)`.
            dims, places: of a probed node, where in `dims` it stands.
            level: of the intervals.
        """
        read = self.result(level).reindex(label_node=result["node"].values)
        shape = [result.sizes[dim] for dim in (*dims, "node")]
        accuracy, bounds = np.full(shape, np.nan), np.full([*shape, 2], np.nan)
        for name, place in places.items():
            accuracy[place] = read["accuracy"].sel(probed=name)
            bounds[place] = read["interval"].sel(probed=name)
        attrs = {"long_name": "accuracy of a linear probe, held-out speakers", "units": "1", **read.attrs}
        result["probe"] = ((*dims, "node"), accuracy, attrs)
        result["probe_interval"] = ((*dims, "node", "bound"), bounds, {"level": level})
        result["probe_input"] = ("node", read["accuracy"].sel(probed=MEL).values, attrs)
        result["probe_chance"] = ("node", read["chance"].values, {"long_name": "share of the commonest label"})
        result.coords["bound"] = ["low", "high"]
        result.attrs |= read.attrs

    def _probe(self, node: str, name: str) -> Probe:
        if (node, name) not in self.probes:
            self.probes[node, name] = fit_probe(self.sums[name].finalize(), node, name)
        return self.probes[node, name]

    @staticmethod
    def _tally(into: dict[str, int], owners: np.ndarray, hits: Tensor) -> None:
        for speaker in np.unique(owners):
            into[str(speaker)] = into.get(str(speaker), 0) + int(hits[torch.from_numpy(owners == speaker)].sum())
