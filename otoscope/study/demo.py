"""The whole way once: speak a corpus, train a recogniser on it, look inside, write the page.

Every stage keeps what it made, and a demonstration that was interrupted goes on where it was.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch

from otoscope.base import BadInput, Progress, fingerprint, silent, write_json
from otoscope.hear.corpus import Corpus, read_corpus, select
from otoscope.hear.manifest import MANIFEST
from otoscope.hear.speak import load_words, speak_corpus
from otoscope.learn.checkpoint import Run, load_checkpoint
from otoscope.reduce.profiles import Profiles
from otoscope.study.gradnap import gradnap
from otoscope.study.recogniser import HELD_OUT, train_recogniser
from otoscope.study.report import write_report
from otoscope.study.results import GRADNAP, SIMILARITY, load_table, save_profiles, save_table
from otoscope.study.speech import Speech, listen
from otoscope.study.through_training import through_training

Stage: TypeAlias = Callable[[str], AbstractContextManager[Progress]]
MINUTES = 31.0


@contextlib.contextmanager
def quiet(name: str) -> Iterator[Progress]:
    """A stage that shows nothing."""
    yield silent


@dataclass(frozen=True)
class Demonstration:
    """What a demonstration made: the page, the run, and the held-out word errors of its last epoch."""

    page: Path
    run: Run
    result: dict[str, Any]


def run_demo(
    out: Path | str = "demo",
    *,
    seed: int = 0,
    minutes: float = MINUTES,
    network: dict[str, Any] | None = None,
    training: dict[str, Any] | None = None,
    stage: Stage = quiet,
) -> Demonstration:
    """Speak, train, compare, profile and write `out/report/index.html`; goes on where an earlier call was interrupted.

    Args:
        out: the folder for everything; made when it is not there.
        seed: of the corpus and of the training.
        minutes: how much speech, at least.
        network, training: values that differ from the defaults, which are the demonstration's.
        stage: gives a progress callback for each stage by name.

    Raises:
        OtoscopeError: espeak-ng is not installed, the disk is full, or `out` holds a demonstration of other settings.
    """
    out = Path(out)
    settings = {"seed": seed, "minutes": minutes}
    with stage("speaking") as progress:
        corpus = spoken_corpus(out / "corpus", settings, progress)
    with stage("features") as progress:
        heard = listen(corpus, progress=progress)
    with stage("training") as progress:
        run = train_recogniser(
            out / "run",
            corpus,
            network=network,
            options={**(training or {}), "seed": seed},
            speech=lambda _: heard,
            progress=progress,
        )
    held_out = select(corpus, HELD_OUT)
    fixed = _part(heard, {utterance.id for utterance in held_out})
    checkpoints = [fingerprint(path) for path in run.checkpoints.values()]
    report = out / "report"
    with stage("similarities") as progress:
        if not _belongs(report / f"{SIMILARITY}.nc", checkpoints):
            save_table(through_training(run, fixed, progress=progress), report, SIMILARITY)
    with stage("profiles") as progress:
        if not _profiles_belong(report, checkpoints[-1]):
            last = load_checkpoint(run.checkpoints[max(run.checkpoints)])
            profiles = gradnap(last, fixed, progress=progress)
            profiles.settings["checkpoint"] = checkpoints[-1]
            save_profiles(profiles, report)
    with stage("report"):
        page = write_report(
            run,
            report,
            title="What the layers of a recogniser learned",
            subtitle=(
                f"A Wav2Letter trained on {heard.seconds / 60:.0f} minutes of synthetic speech, and "
                f"what {len(fixed)} utterances of voices it never heard show of its layers."
            ),
            facts=[
                (
                    f"{heard.seconds / 60:.0f} min",
                    "speech, by espeak-ng",
                    f"{len(corpus)} utterances, {len({u.speaker for u in corpus})} voices",
                ),
                (str(len(load_words())), "words", "in sequences; those held out are never trained on"),
            ],
            provenance={"demo": settings, "threads": torch.get_num_threads()},
        )
    return Demonstration(page, run, run.log[-1])


def spoken_corpus(folder: Path, settings: dict[str, Any], progress: Progress) -> Corpus:
    """The embedded corpus, spoken unless it is there already.

    Args:
        folder: for it.
        settings: `seed` and `minutes`.
        progress: called as shards are spoken.

    Raises:
        BadInput: the folder holds a corpus of other settings.
    """
    note = folder / "settings.json"
    if note.is_file() and (folder / MANIFEST).is_file():
        found = json.loads(note.read_text(encoding="utf-8"))
        if found != settings:
            raise BadInput(
                f"{folder.parent} holds a corpus of other settings",
                got=found,
                wanted=settings,
                remedy="name another folder with --out, or remove this one",
            )
        return read_corpus(folder / MANIFEST, strict=True)
    # Half a corpus is no use: what an interruption left is spoken again, which takes seconds.
    if (folder / "audio").is_dir():
        shutil.rmtree(folder / "audio")
    speak_corpus(
        folder, seed=settings["seed"], minutes=settings["minutes"], processes=os.cpu_count() or 2, progress=progress
    )
    write_json(note, settings)
    return read_corpus(folder / MANIFEST, strict=True)


def _part(speech: Speech, ids: set[str]) -> Speech:
    """The utterances of these ids."""
    chosen = [index for index, utterance in enumerate(speech.utterances) if utterance.id in ids]
    return speech.among(chosen)


def _belongs(path: Path, checkpoints: list[str]) -> bool:
    """Whether similarities were made from these checkpoints."""
    return path.is_file() and list(load_table(path).attrs.get("checkpoints", [])) == checkpoints


def _profiles_belong(report: Path, checkpoint: str) -> bool:
    path = report / f"{GRADNAP}.nc"
    return path.is_file() and Profiles.load(path).settings.get("checkpoint") == checkpoint
