"""A corpus and a recogniser: training one on it, and scoring one with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
import yaml
from torch import nn

from otoscope.base import BadInput, BadOption, OtoscopeError, Progress, silent, write_text
from otoscope.hear.corpus import Corpus, Problem, Utterance, corpus_fingerprint, select
from otoscope.learn.augment import Recording
from otoscope.learn.checkpoint import Run, checkpoint_of, load_checkpoint, open_run
from otoscope.learn.examples import Example, make_example
from otoscope.learn.networks import network_values, read_config, validated
from otoscope.learn.recogniser import Recogniser
from otoscope.learn.score import Counts, score_words
from otoscope.learn.train import EpochReport, TrainConfig, train
from otoscope.learn.transcribe import Decoding, Transcriber
from otoscope.learn.units import train_vocabulary
from otoscope.study.predictions import at_home
from otoscope.study.speech import Speech, heard_by

HELD_OUT = "split=test"


def read_recipe(path: Path | str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The `network` and `train` parts of a YAML file.

    Raises:
        BadOption: no such file, no YAML, other parts than these two, or parts without names.
    """
    path = Path(path)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadOption(
            "the configuration cannot be read", got=f"{path}: {error}", wanted="a YAML file with network: and train:"
        ) from error
    if not isinstance(values, dict) or not set(values) <= {"network", "train"}:
        raise BadOption(
            "unknown parts in the configuration",
            got=f"{path}: {', '.join(map(str, values))}",
            wanted="network: and train:",
        )
    network, train = (values.get(part) or {} for part in ("network", "train"))
    for part, found in (("network", network), ("train", train)):
        if not isinstance(found, dict):
            raise BadOption(
                f"{part}: in the configuration is no list of names and values",
                got=f"{path}: {found!r}",
                wanted="a name: value on each line below it",
            )
    return network, train


def train_recogniser(
    folder: Path | str,
    corpus: Iterable[Utterance],
    *,
    held_out: str = HELD_OUT,
    network: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    start: Path | str | None = None,
    strict: bool = False,
    speech: Callable[[Recogniser], Speech] | None = None,
    in_memory: bool = True,
    device: str = "auto",
    workers: int | None = None,
    progress: Progress = silent,
    on_epoch: EpochReport = lambda entry: None,
) -> Run:
    """Train a recogniser, keeping the untrained network and every epoch; goes on where an interrupted run was.

    Args:
        folder: the run's.
        corpus: utterances with text.
        held_out: which of them are kept for scoring, such as `split=test` or `speaker=theo,jackson`; see `select`.
        network: values of the network's configuration; `size` may name them, see `network_values`. `vocabulary` may be
            the `kind` and `size` of one that is learned from the transcripts not held out, see `train_vocabulary`.
        options: values of `TrainConfig`.
        start: a run, or a checkpoint, with whose weights training begins in place of random ones; the network's
            configuration is taken from there where `network` says nothing.
        strict: raise at the first utterance that cannot be used, instead of leaving it out.
        speech: gives the features of the whole corpus that a network takes, in place of `listen`; not asked where none
            are kept in memory.
        in_memory: keep all features in memory; False: compute them in each epoch anew, as is done with those of
            perturbed speech in any case.
        device, workers, progress, on_epoch: see `otoscope.learn.train.train`.

    Raises:
        BadInput, BadOption, BadCheckpoint: nothing to train on or to score, an unknown option, a run of other settings.
    """
    config = validated(TrainConfig, dict(options or {}))
    corpus = corpus if isinstance(corpus, Sequence) else list(corpus)
    kept = {utterance.id for utterance in held_out_part(corpus, held_out)}
    if len(kept) == len(corpus):
        raise BadInput("every utterance is held out", got=held_out, wanted="some left to train on")
    training = [utterance for utterance in corpus if utterance.id not in kept]
    begin = checkpoint_of(start) if start else None
    if begin is None or network:
        network_config = read_config(with_vocabulary(network_values(network or {}), training))
    else:
        network_config = load_checkpoint(begin).config
    problems: list[Problem] = []

    def examples(built: Recogniser) -> tuple[list[Example], list[Example]]:
        if in_memory and not config.perturb:
            heard = heard_by(built, corpus if speech is None else speech(built), strict=strict)
            found = usable_examples(heard, built, strict=strict)
            problems.extend(heard.problems)
        else:
            problems.extend(corpus.problems if isinstance(corpus, Corpus) else [])
            recorded, found = corpus, []
            if in_memory:
                heard = heard_by(built, [utterance for utterance in corpus if utterance.id in kept], strict=strict)
                recorded, found = training, usable_examples(heard, built, strict=strict)
                problems.extend(heard.problems)
            found += recorded_examples(recorded, built, config, training, problems, strict=strict)
        parts = [e for e in found if e.id not in kept], [e for e in found if e.id in kept]
        for purpose, part in zip(("train on", "score"), parts, strict=True):
            if not part:
                raise BadInput(
                    f"there is nothing to {purpose}",
                    got="; ".join(map(str, problems[:3])) or "no utterance",
                    wanted="at least one usable utterance",
                )
        return parts

    folder = Path(folder)
    facts = {"fingerprint": corpus_fingerprint(corpus), "utterances": len(corpus), "held_out": held_out}
    train(
        folder,
        network_config,
        config,
        examples,
        corpus=facts,
        start=begin,
        device=device,
        workers=workers,
        progress=progress,
        on_epoch=on_epoch,
    )
    if problems:
        write_text(folder / "left-out.txt", "".join(f"{problem}\n" for problem in problems))
    return open_run(folder)


def with_vocabulary(values: dict[str, Any], training: Iterable[Utterance]) -> dict[str, Any]:
    """A network's configuration with its vocabulary, where only kind and size are given, learned from transcripts.

    Raises:
        BadOption: other keys than these two, or as `train_vocabulary`.
    """
    wanted = values.get("vocabulary")
    if not isinstance(wanted, Mapping):
        return values
    if not set(wanted) <= {"kind", "size"}:
        got = ", ".join(map(str, wanted))
        raise BadOption("a vocabulary is not described like this", got=got, wanted="kind: and size:")
    return values | train_vocabulary((utterance.text for utterance in training), **wanted)


def held_out_part(corpus: Sequence[Utterance], held_out: str) -> Sequence[Utterance]:
    """The held-out utterances.

    Raises:
        BadOption: the condition fits none.
    """
    found = select(corpus, held_out)
    if not len(found):
        raise BadOption(
            "no utterance is held out",
            got=held_out,
            wanted="a condition that some utterances fulfil, such as speaker=theo",
            remedy="name held-out speakers with --held-out",
        )
    return found


def usable_examples(speech: Speech, network: Recogniser, *, strict: bool = False) -> list[Example]:
    """What the network can learn or be scored on; the rest is added to `speech.problems`, or raised when `strict`."""
    found = []
    for utterance, features in zip(speech.utterances, speech.features, strict=True):
        try:
            found.append(make_example(utterance.id, features, utterance.text, network))
        except OtoscopeError as error:
            if strict:
                raise
            speech.problems.append(Problem.of(0, utterance.id, error))
    return found


def recorded_examples(
    utterances: Iterable[Utterance],
    network: Recogniser,
    config: TrainConfig,
    others: Sequence[Utterance],
    problems: list[Problem],
    *,
    strict: bool = False,
) -> list[Example]:
    """As `usable_examples`, of recordings whose features are computed when they are wanted; babble is of `others`."""
    found = []
    for utterance in utterances:
        try:
            recording = Recording(utterance, network.mels, config.perturb, config.seed, others, top_hz=network.top_hz)
            found.append(make_example(utterance.id, recording, utterance.text, network))
        except OtoscopeError as error:
            if strict:
                raise
            problems.append(Problem.of(0, utterance.id, error))
    return found


@torch.no_grad()
def transcribe(
    network: nn.Module,
    speech: Speech,
    *,
    decoding: Decoding | None = None,
    batch_size: int = 16,
    progress: Progress = silent,
) -> list[str]:
    """Transcripts, in the order of the utterances; `decoding`: greedy if left out."""
    texts = [""] * len(speech)
    batches = -(-len(speech) // batch_size)
    network.eval()
    write = Transcriber(network, decoding)
    for number, (indices, features, lengths) in enumerate(speech.batches(batch_size)):
        for index, text in zip(indices, write(*at_home(network, features, lengths)), strict=True):
            texts[index] = text
        progress(number + 1, batches, f"{sum(map(bool, texts))} transcripts")
    return texts


def score_recogniser(
    network: nn.Module,
    corpus: Iterable[Utterance] | Speech,
    *,
    decoding: Decoding | Mapping[str, Any] | None = None,
    strict: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Word errors of transcripts, in all and by speaker; `decoding`, or its options: greedy if left out.

    Returns:
        `total` and `speakers` (name → counts) as `Counts`; `utterances`, a list of `(id, reference, hypothesis,
        Counts)`; `problems`, what was left out.

    Raises:
        BadInput: no usable utterance; with `strict`, the first that is not.
        BadOption: the network cannot be decoded so.
    """
    speech = heard_by(network, corpus, strict=strict)
    if decoding is not None and not isinstance(decoding, Decoding):
        decoding = cast(Decoding, validated(Decoding, dict(decoding)))
    # Any network that names its symbols and its blank will do.
    texts = transcribe(network, speech, decoding=decoding, progress=progress)
    rows: list[tuple[str, str, str, Counts]] = []
    speakers: dict[str, Counts] = {}
    for utterance, text in zip(speech.utterances, texts, strict=True):
        counts = score_words(utterance.text, text)
        rows.append((utterance.id, utterance.text, text, counts))
        name = utterance.speaker or "unknown"
        speakers[name] = speakers.get(name, Counts()) + counts
    total = sum((row[3] for row in rows), Counts())
    return {"total": total, "speakers": dict(sorted(speakers.items())), "utterances": rows, "problems": speech.problems}
