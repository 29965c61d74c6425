"""Several networks and seeds on one corpus: trained one after the other, scored, and put in one table.

Each network and seed is a run in a folder of its own, so that a series that was interrupted goes on where it was, to
the epoch; what is scored already is not scored again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn

from otoscope.base import Progress, choose, silent, write_text
from otoscope.hear.audio import HOP_S, TOP_HZ, pad_batch
from otoscope.hear.corpus import Utterance, select
from otoscope.hear.utterance import duration_s
from otoscope.learn.checkpoint import load
from otoscope.learn.networks import build, network_values, read_config, validated
from otoscope.learn.train import TrainConfig
from otoscope.learn.transcribe import Decoding
from otoscope.study.console import Terminal
from otoscope.study.recogniser import score_recogniser, train_recogniser, usable_examples, with_vocabulary
from otoscope.study.series_tables import Job, Row, Scored, done, kept_scores, rate, score_file, write_tables
from otoscope.study.speech import Speech, bands_of, listen

TRIED = 3
"""Batches from which the time of a training is foretold."""


def chosen(only: Sequence[str] | None, names: Sequence[str]) -> list[str]:
    """The networks asked for, in the table's order.

    Raises:
        BadOption: a name that none has.
    """
    wanted = {choose("network", name, names) for name in only or names}
    return [name for name in names if name in wanted]


def part_of(
    corpus: Speech | Sequence[Utterance], where: str, progress: Progress = silent, top_hz: float = TOP_HZ
) -> Speech:
    """The utterances that fulfil a condition, with their features; these are computed if they are not there."""
    if not isinstance(corpus, Speech):
        return listen(select(corpus, where), top_hz=top_hz, progress=progress)
    kept = {utterance.id for utterance in select(corpus.utterances, where)}
    return corpus.among([index for index, utterance in enumerate(corpus.utterances) if utterance.id in kept])


def foretell(job: Job, corpus: Speech | Sequence[Utterance], device: str) -> float:
    """About how many seconds an epoch of a job takes, from a few of its batches."""
    config = validated(TrainConfig, dict(job.options))
    condition = f"{job.training}; {_without(job.held_out)}"
    if isinstance(corpus, Speech):
        part = part_of(corpus, condition)
        frames = sum(part.lengths)
    else:
        everything = select(corpus, condition)
        frames = round(sum(duration_s(utterance) for utterance in everything) / HOP_S)
        usual = sorted(everything, key=duration_s)[len(everything) // 2 :][: config.batch_size]
        part = listen(usual, top_hz=job.values.get("top_hz", TOP_HZ))
    torch.manual_seed(0)
    network = build(read_config(with_vocabulary(network_values(job.values), part.utterances))).train()
    place = "cuda" if device == "cuda" or (device == "auto" and torch.cuda.is_available()) else "cpu"
    network.to(place)
    examples = sorted(usable_examples(part, network), key=lambda example: len(example.features))
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


def reckon(jobs: Sequence[Job], corpus: Speech | Sequence[Utterance], device: str, say: Callable[[str], None]) -> float:
    """Say about how long the training that is left takes; gives it in seconds."""
    left = 0.0
    foretold: dict[str, float] = {}
    for job in jobs:
        missing = job.epochs - done(job)
        if missing <= 0:
            continue
        if job.network not in foretold:
            foretold[job.network] = foretell(job, corpus, device)
            say(f"{job.network}: about {foretold[job.network]:.0f} s an epoch, {job.epochs} epochs")
        left += missing * foretold[job.network]
    say(
        f"{len(jobs)} networks, {sum(done(job) > 0 for job in jobs)} of them begun or done: about {left / 60:.0f} min "
        f"of training on {torch.get_num_threads()} threads, if nothing else runs"
    )
    return left


def train_and_score(
    job: Job,
    corpus: Speech | Sequence[Utterance],
    decodings: Sequence[Decoding],
    *,
    device: str = "auto",
    progress: Progress = silent,
) -> dict[str, list[Scored]]:
    """Train a job, or go on with it, and score it; gives what the first decoding made of each test part."""
    part = part_of(corpus, job.training) if isinstance(corpus, Speech) else None
    utterances = corpus.utterances if isinstance(corpus, Speech) else corpus
    train_recogniser(
        job.folder,
        select(utterances, job.training),
        held_out=job.held_out,
        network=dict(job.values),
        options=dict(job.options),
        speech=None if part is None else _the(part),
        in_memory=part is not None,
        device=device,
        progress=progress,
    )
    first, *others = [score(job, corpus, decoding, progress) for decoding in decodings]
    return first


def run_series(
    out: Path,
    jobs: Sequence[Job],
    corpus: Speech | Sequence[Utterance],
    *,
    series: Sequence[Job] = (),
    decodings: Sequence[Decoding] = (),
    device: str = "auto",
    estimate: bool = False,
    terminal: Terminal,
) -> list[Row]:
    """Train and score what is not yet, and write `wer.csv` and `table.md` of all jobs that are scored.

    The tables have those of the whole `series`, of which `jobs` are done now.

    Says beforehand how long it is going to take. With `estimate` nothing else is done. Decoding is greedy; of every
    other way asked for there are tables of their own, such as `wer-attention-8.csv` (a network without a decoder is
    left out of that).
    """
    out.mkdir(parents=True, exist_ok=True)
    say = logged(out, terminal)
    reckon(jobs, corpus, device, say)
    if estimate:
        return []
    for number, job in enumerate(jobs, 1):
        ways = [Decoding(), *(way for way in decodings if _fits(way, job))]
        begun = time.monotonic()
        with terminal.stage(f"{number}/{len(jobs)} {job.name}") as progress:
            scored = train_and_score(job, corpus, ways, device=device, progress=progress)
        say(scored_words(job, scored, time.monotonic() - begun))
    listed = [*series, *(job for job in jobs if job.folder not in {each.folder for each in series})]
    rows = write_tables(out, listed, "greedy")
    for way in decodings:
        if fitting := [job for job in listed if _fits(way, job)]:
            write_tables(out, fitting, method_name(way), ending=f"-{method_name(way)}")
    terminal.show(None, (out / "table.md").read_text(encoding="utf-8"))
    return rows


def _fits(decoding: Decoding, job: Job) -> bool:
    return decoding.method != "attention" or job.values.get("network") != "wav2letter"


def logged(out: Path, terminal: Terminal) -> Callable[[str], None]:
    """Says something to the person at the keyboard, and keeps it in `log.txt`."""

    def say(text: str) -> None:
        terminal.say(text)
        with (out / "log.txt").open("a", encoding="utf-8") as log:
            log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")

    return say


def scored_words(job: Job, scored: dict[str, list[Scored]], seconds: float) -> str:
    """What a job came to, as a line."""
    rates = ", ".join(f"{name} {rate(rows):.1f} %" for name, rows in scored.items())
    return f"{job.name}: WER {rates}; {seconds:.0f} s"


def _the(speech: Speech) -> Callable[[object], Speech]:
    return lambda _: speech


def method_name(decoding: Decoding) -> str:
    """That of the file of scores: "greedy", "attention-8", "beam-16-lexicon"."""
    parts = (decoding.method, decoding.beam, decoding.lexicon and "lexicon")
    return "-".join(str(part) for part in parts if part)


def score(
    job: Job, corpus: Speech | Sequence[Utterance], decoding: Decoding, progress: Progress = silent
) -> dict[str, list[Scored]]:
    """The last epoch's errors in each utterance of each test part; kept in the run's folder."""
    path, epoch = score_file(job, method_name(decoding)), done(job)
    kept = kept_scores(job, method_name(decoding))
    if kept and kept["epoch"] == epoch and kept["tests"] == dict(job.tests) and _is_of(kept["columns"], corpus, job):
        return {name: [Scored(*row) for row in rows] for name, rows in kept["columns"].items()}
    network = load(job.folder)
    columns: dict[str, list[Scored]] = {}
    for name, where in job.tests.items():
        part = part_of(corpus, where, top_hz=bands_of(network)[1])
        found = score_recogniser(network, part, decoding=decoding, progress=progress)
        columns[name] = [Scored(id, c.words, c.sub, c.deletions, c.ins) for id, _, _, c in found["utterances"]]
    kept = {"epoch": epoch, "parameters": parameters(network), "tests": dict(job.tests), "columns": columns}
    write_text(path, json.dumps(kept))
    return columns


def _is_of(columns: dict[str, list[list[object]]], corpus: Speech | Sequence[Utterance], job: Job) -> bool:
    """Whether scores are of the utterances of this corpus: by their ids and numbers of words."""
    utterances = corpus.utterances if isinstance(corpus, Speech) else corpus
    return all(
        {(id, words) for id, words, *_ in columns.get(name, ())}
        == {(utterance.id, len(utterance.text.split())) for utterance in select(utterances, where)}
        for name, where in job.tests.items()
    )


def parameters(network: nn.Module) -> int:
    """How many numbers are learned."""
    return sum(parameter.numel() for parameter in network.parameters())
