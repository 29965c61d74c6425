"""Several networks and seeds on one corpus: trained one after the other, scored, and put in one table.

What the drivers of the recipes share. Each network and seed is a run in a folder of its own, so that a series that was
interrupted goes on where it was, to the epoch; what is scored already is not scored again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from series_tables import Job, Row, Scored, done, rate, score_file, write_tables
from torch import nn

import otoscope
from otoscope.base import OtoscopeError, Progress, choose, write_text
from otoscope.hear.audio import pad_batch
from otoscope.learn.networks import build, network_values, read_config, validated
from otoscope.learn.train import TrainConfig
from otoscope.learn.transcribe import Decoding
from otoscope.study.console import Terminal
from otoscope.study.recogniser import usable_examples, with_vocabulary
from otoscope.study.speech import Speech

TRIED = 3
"""Batches from which the time of a training is foretold."""


def arguments(description: str, names: Sequence[str], seeds: Sequence[int]) -> argparse.ArgumentParser:
    """The options that all drivers have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("out", type=Path, help="where the runs and the tables go")
    parser.add_argument("--corpus", type=Path, required=True, help="its manifest, or the folder of it")
    parser.add_argument("--only", action="append", metavar="NAME", help=f"one of {', '.join(names)}; may be repeated")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(seeds))
    parser.add_argument("--epochs", type=int, help="in place of those in the YAML files")
    parser.add_argument("--beam", type=int, help="score attention decoders with a beam of this width, too")
    parser.add_argument("--device", default="auto", help="cpu, cuda, or auto: a GPU where there is one")
    parser.add_argument("--estimate", action="store_true", help="say how long it takes, and stop")
    return parser


def chosen(only: Sequence[str] | None, names: Sequence[str]) -> list[str]:
    """The networks asked for, in the table's order.

    Raises:
        BadOption: a name that none has.
    """
    wanted = {choose("network", name, names) for name in only or names}
    return [name for name in names if name in wanted]


def settings(job: Job, epochs: int | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """The `network` and `train` parts of a job's recipe, with its seed, and with so many epochs where it is said."""
    network, options = otoscope.read_recipe(job.recipe)
    return network, {**options, "seed": job.seed, **({} if epochs is None else {"epochs": epochs})}


def part_of(speech: Speech, where: str) -> Speech:
    """The utterances that fulfil a condition, with their features."""
    kept = {utterance.id for utterance in otoscope.select(speech.utterances, where)}
    return speech.among([index for index, utterance in enumerate(speech.utterances) if utterance.id in kept])


def foretell(job: Job, speech: Speech, epochs: int | None, device: str) -> float:
    """About how many seconds an epoch of a job takes, from a few of its batches."""
    values, options = settings(job, epochs)
    config = validated(TrainConfig, options)
    part = part_of(part_of(speech, job.training), _without(job.held_out))
    torch.manual_seed(0)
    network = build(read_config(with_vocabulary(network_values(values), part.utterances))).train()
    place = "cuda" if device == "cuda" or (device == "auto" and torch.cuda.is_available()) else "cpu"
    network.to(place)
    examples = sorted(usable_examples(part, network), key=lambda example: len(example.features))
    frames = sum(len(example.features) for example in examples)
    middle = max(0, (len(examples) - config.batch_size) // 2)
    batch = examples[middle : middle + config.batch_size]
    features, lengths = pad_batch([example.heard() for example in batch])
    spent = []
    for _ in range(TRIED):
        started = time.perf_counter()
        loss = network.losses(features.to(place), lengths.to(place), [example.targets for example in batch])["loss"]
        loss.mean().backward()
        # A number in the hand is one that the device has computed.
        sum(float(parameter.grad.sum()) for parameter in network.parameters() if parameter.grad is not None)
        spent.append(time.perf_counter() - started)
    return min(spent) * frames / int(lengths.sum())


def _without(condition: str) -> str:
    """Those that do not fulfil a condition of one `name=value`."""
    name, _, value = condition.partition("=")
    return f"{name}!={value}"


def run_series(
    out: Path,
    jobs: Sequence[Job],
    speech: Speech,
    *,
    epochs: int | None = None,
    beam: int | None = None,
    device: str = "auto",
    estimate: bool = False,
    terminal: Terminal,
) -> list[Row]:
    """Train and score what is not yet, and write `wer.csv` and `table.md` of all jobs.

    Says beforehand how long it is going to take. With `estimate` nothing else is done.
    """
    out.mkdir(parents=True, exist_ok=True)

    def say(text: str) -> None:
        terminal.say(text)
        with (out / "log.txt").open("a", encoding="utf-8") as log:
            log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")

    left = 0.0
    foretold: dict[str, float] = {}
    for job in jobs:
        total = validated(TrainConfig, settings(job, epochs)[1]).epochs
        missing = total - done(job)
        if missing <= 0:
            continue
        if job.network not in foretold:
            foretold[job.network] = foretell(job, speech, epochs, device)
            say(f"{job.network}: about {foretold[job.network]:.0f} s an epoch, {total} epochs")
        left += missing * foretold[job.network]
    say(
        f"{len(jobs)} networks, {sum(done(job) > 0 for job in jobs)} of them begun or done: about {left / 60:.0f} min "
        f"of training on {torch.get_num_threads()} threads, if nothing else runs"
    )
    if estimate:
        return []
    for number, job in enumerate(jobs, 1):
        values, options = settings(job, epochs)
        part = part_of(speech, job.training)
        begun = time.monotonic()
        with terminal.stage(f"{number}/{len(jobs)} {job.name}") as progress:
            otoscope.train_recogniser(
                job.folder,
                part.utterances,
                held_out=job.held_out,
                network=values,
                options=options,
                speech=_the(part),
                device=device,
                progress=progress,
            )
            scored = score(job, speech, Decoding(), progress)
            if beam is not None and values.get("network") != "wav2letter":
                score(job, speech, Decoding(method="attention", beam=beam), progress)
        rates = ", ".join(f"{name} {rate(rows):.1f} %" for name, rows in scored.items())
        say(f"{job.name}: WER {rates}; {time.monotonic() - begun:.0f} s")
    rows = write_tables(out, jobs, "greedy")
    if beam is not None:
        write_tables(out, jobs, f"attention-{beam}", ending=f"-beam-{beam}")
    terminal.show(None, (out / "table.md").read_text(encoding="utf-8"))
    return rows


def _the(speech: Speech) -> Callable[[], Speech]:
    return lambda: speech


def score(job: Job, speech: Speech, decoding: Decoding, progress: Progress) -> dict[str, list[Scored]]:
    """The last epoch's errors in each utterance of each test part; kept in the run's folder."""
    method = decoding.method if decoding.beam is None else f"{decoding.method}-{decoding.beam}"
    path, epoch = score_file(job, method), done(job)
    if path.is_file():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["epoch"] == epoch and kept["tests"] == dict(job.tests):
            return {name: [Scored(*row) for row in rows] for name, rows in kept["columns"].items()}
    network = otoscope.load(job.folder)
    columns = {}
    for name, where in job.tests.items():
        found = otoscope.score_recogniser(network, part_of(speech, where), decoding=decoding, progress=progress)
        columns[name] = [Scored(id, c.words, c.sub, c.deletions, c.ins) for id, _, _, c in found["utterances"]]
    kept = {"epoch": epoch, "parameters": parameters(network), "tests": dict(job.tests), "columns": columns}
    write_text(path, json.dumps(kept))
    return columns


def parameters(network: nn.Module) -> int:
    """How many numbers are learned."""
    return sum(parameter.numel() for parameter in network.parameters())


def listen_to(corpus: Path, terminal: Terminal) -> Speech:
    """The features of a whole corpus, once for all networks."""
    with terminal.stage("features") as progress:
        return otoscope.listen(otoscope.read_corpus(corpus), progress=progress)


def begin(main: Callable[[], None]) -> None:
    """Run a driver; what is wrong with its input is told in words."""
    try:
        main()
    except OtoscopeError as error:
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:
        raise SystemExit("stopped; the same command goes on from the last whole epoch") from None
