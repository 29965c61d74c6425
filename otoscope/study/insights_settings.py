"""What `otoscope reproduce insights` trains, and on what: the one place of these settings, small and full.

recipes/insights-small runs the small ones; the YAML files of recipes/insights-switchboard say the same as the full ones
(a test holds them to it).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from otoscope.base import choose
from otoscope.hear.audio import TOP_HZ
from otoscope.hear.sentences import DEV_SENTENCES, LONGEST, TEST_SENTENCES
from otoscope.learn.transcribe import Decoding
from otoscope.study.series_tables import Job

DEEPEST = 6
CNN = "conv-lstm"
CNNS = tuple(f"{CNN}-{depth}" for depth in range(DEEPEST, 0, -1))
NETWORKS = (*CNNS, "lstm", "transformer")
"""In the order of the paper's Table 1, and then the other two."""


@dataclass(frozen=True)
class Settings:
    """Of one scale.

    Attributes:
        size: named size of the networks.
        network: further values of every network's configuration; `of_network` those of some, by name.
        training: options of training that all have; `of_training` those of some networks, by name.
        in_memory: whether features are computed once and kept, or in each epoch anew.
        seeds: of the trainings.
        sentences, share, longest: of the embedded corpus: sentences of its training part, the share of its stems, words
            of the longest sentence. Without sentences: a corpus of the user's.
        learns: condition on the utterances that training may know of; `held_out` those it does not learn from.
        tests: column of Table 1 → condition on the utterances scored in it; `paper_columns`: the paper's name for it.
        decoding: how they are written.
        hears: condition on the utterances that the analysis listens to, `utterances` of them, spread over the corpus.
        cnn: the convolutional network that Figure 2 shows.
    """

    size: str
    network: Mapping[str, Any]
    of_network: Mapping[str, Mapping[str, Any]]
    training: Mapping[str, Any]
    of_training: Mapping[str, Mapping[str, Any]]
    in_memory: bool
    seeds: tuple[int, ...]
    sentences: int | None
    share: float | None
    longest: int
    learns: str
    held_out: str
    tests: Mapping[str, str]
    paper_columns: Mapping[str, str]
    decoding: Decoding
    hears: str
    utterances: int = 64
    cnn: str = f"{CNN}-{DEEPEST}"

    @property
    def top_hz(self) -> float:
        """Upper end of the mel bands that all networks hear."""
        return float(self.network.get("top_hz", TOP_HZ))

    def values(self, network: str) -> dict[str, Any]:
        """A network's configuration, as a recipe has it under `network:`."""
        choose("network", network, NETWORKS)
        family, _, depth = network.rpartition("-") if network.startswith(CNN) else (network, "", "")
        named = {"network": family, "size": self.size, **({"depth": int(depth)} if depth else {})}
        return {**named, **self.of_network.get(network, {}), **self.network}

    def options(self, network: str) -> dict[str, Any]:
        """A network's training, as a recipe has it under `train:`."""
        return {**self.training, **self.of_training.get(network, {})}

    def counts(self) -> dict[str, int]:
        """Sentences of each part of the embedded corpus."""
        return {"train": self.sentences or 0, "dev": DEV_SENTENCES, "test": TEST_SENTENCES}

    def jobs(self, out: Path, names: Sequence[str], seeds: Sequence[int], epochs: int | None = None) -> list[Job]:
        """A run for each network and seed, all networks of a seed first, so that an early end leaves whole tables."""
        return [
            Job(
                name,
                self.values(name),
                {**self.options(name), **({} if epochs is None else {"epochs": epochs}), "seed": seed},
                out / f"{name}-s{seed}",
                self.learns,
                self.held_out,
                self.tests,
            )
            for seed in seeds
            for name in names
        ]


SMALL = Settings(
    size="small",
    network={},
    of_network={},
    training={"epochs": 10, "batch_size": 8, "learning_rate": 3e-3, "precision": "float32"},
    # Which learns later, and at a higher rate worse.
    of_training={"transformer": {"epochs": 20, "learning_rate": 2e-3}},
    in_memory=True,
    seeds=(0, 1, 2),
    sentences=1400,
    share=0.25,
    longest=5,
    learns="split=train,dev",
    held_out="split=dev",
    tests={"clean": "split=test; condition=clean", "noisy": "split=test; condition=noisy"},
    paper_columns={"clean": "SWBD", "noisy": "Clhm"},
    decoding=Decoding(),
    hears="split=test; condition=clean",
)

_RECURRENT = {"scheduled_sampling": 0.1}
FULL = Settings(
    size="paper",
    network={"top_hz": 3800, "vocabulary": {"kind": "unigram", "size": 1000}},
    of_network=dict.fromkeys((*CNNS, "lstm"), _RECURRENT),
    training={
        "epochs": 35,
        "batch_size": 64,
        "learning_rate": 1.0e-3,
        "perturb": {"speeds": [0.9, 1.0, 1.1]},
    },
    of_training={"transformer": {"epochs": 90, "schedule": "noam", "warmup": 0.06}},
    in_memory=False,
    seeds=(0,),
    sentences=None,
    share=None,
    longest=LONGEST,
    learns="split=train,dev",
    held_out="split=dev",
    tests={"SWBD": "subset=swbd", "Clhm": "subset=callhome"},
    paper_columns={"SWBD": "SWBD", "Clhm": "Clhm"},
    decoding=Decoding(method="attention", beam=10),
    hears="subset=swbd",
)

SCALES = {"small": SMALL, "full": FULL}

PAPER_WER: Mapping[str, tuple[float, float]] = {
    "conv-lstm-6": (11.4, 22.4),
    "conv-lstm-5": (10.7, 21.3),
    "conv-lstm-4": (10.9, 21.2),
    "conv-lstm-3": (10.5, 20.8),
    "conv-lstm-2": (10.6, 20.9),
    "conv-lstm-1": (11.6, 22.5),
}
"""Ollerenshaw et al. 2021, Table 1: SWBD and Clhm, percent."""
