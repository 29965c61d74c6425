"""Training and decoding against torch's own ceiling: how much of the time is the network's.

    python benchmarks/bench_training.py                                  # made-up features, every family at size small
    python benchmarks/bench_training.py --only lstm --batches 20 --threads 2
    python benchmarks/bench_training.py --corpus speech --perturb        # features computed beside the training

The ceiling is the same modules on the same batches, padded and in memory: forward and backward for training, encoder
and greedy decoder for decoding. `share` is what of the training's own wall clock was spent in the network's forward and
backward; the rest is batches, masks, clipping, the optimiser, the log. The bar is 90 % on two cores.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

import otoscope
from otoscope.hear.audio import pad_batch
from otoscope.learn.examples import Example
from otoscope.learn.networks import build, network_values, read_config
from otoscope.learn.recogniser import Recogniser, RecogniserConfig
from otoscope.learn.train import TrainConfig, gains_by_bfloat16, train
from otoscope.study.recogniser import recorded_examples, transcribe, usable_examples
from otoscope.study.speech import Speech, listen

FAMILIES: dict[str, dict[str, Any]] = {
    "wav2letter": {"network": "wav2letter", "hidden": "small"},
    "conv-lstm-1": {"network": "conv-lstm", "size": "small", "depth": 1},
    "conv-lstm-2": {"network": "conv-lstm", "size": "small", "depth": 2},
    "conv-lstm-6": {"network": "conv-lstm", "size": "small", "depth": 6},
    "lstm": {"network": "lstm", "size": "small"},
    "transformer": {"network": "transformer", "size": "small"},
}
BATCH = 8
BAR = 0.90
EPOCHS = 2
"""The first is not counted: it warms up."""


class Found(NamedTuple):
    """Frames a second (ceiling, own) of training and of decoding, and the network's share of the training's time."""

    ceiling: float
    training: float
    share: float
    decoding_ceiling: float
    decoding: float


class Clock:
    """Seconds spent in what it wraps."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def of(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*given: Any, **named: Any) -> Any:
            begun = time.perf_counter()
            try:
                return function(*given, **named)
            finally:
                self.seconds += time.perf_counter() - begun

        return timed


@contextmanager
def timed_backward(clock: Clock) -> Iterator[None]:
    own = Tensor.backward
    Tensor.backward = clock.of(own)  # type: ignore[method-assign]
    try:
        yield
    finally:
        Tensor.backward = own  # type: ignore[method-assign]


def made_up(utterances: int, seconds: float) -> list[otoscope.Utterance]:
    """Noise in the place of features, between half and one and a half times as long, 10 letters a second."""
    random = torch.Generator().manual_seed(0)
    made = []
    for number in range(utterances):
        frames = round(100 * seconds * (0.5 + (number + 0.5) / utterances))
        letters = "tea for two and two for tea " * (1 + frames // 280)
        text = letters[: frames // 10].strip()
        made.append(otoscope.Utterance(f"u{number}", features=torch.randn((frames, 128), generator=random), text=text))
    return made


def ceiling(network: Recogniser, examples: list[Example], half: bool) -> float:
    """Frames a second of forward and backward alone, over batches that lie ready."""
    ordered = sorted(examples, key=lambda example: len(example.features))
    batches = []
    for start in range(0, len(ordered), BATCH):
        batch = ordered[start : start + BATCH]
        batches.append((*pad_batch([example.heard() for example in batch]), [example.targets for example in batch]))
    network.train()
    spent = 0.0
    for turn in range(EPOCHS):
        for features, lengths, targets in batches:
            network.zero_grad(set_to_none=True)
            begun = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                loss = network.losses(features, lengths, targets)["loss"].sum()
            loss.backward()
            spent += (time.perf_counter() - begun) * (turn == EPOCHS - 1)
    return sum(len(example.features) for example in examples) / spent


def trained(config: RecogniserConfig, given: Callable[[Recogniser], list[Example]]) -> tuple[float, float]:
    """Frames a second of the training's last epoch, and the share of its time in forward and backward."""
    clock, frames, within = Clock(), [0], []

    def examples(network: Recogniser) -> tuple[list[Example], list[Example]]:
        found = given(network)
        frames[0] = sum(len(example.features) for example in found)
        network.losses = clock.of(network.losses)  # type: ignore[method-assign]
        return found, []

    def on_epoch(entry: dict[str, Any]) -> None:
        within.append((clock.seconds, entry["seconds"]))

    options = TrainConfig(epochs=EPOCHS, batch_size=BATCH)
    with tempfile.TemporaryDirectory() as folder, timed_backward(clock):
        train(Path(folder), config, options, examples, device="cpu", on_epoch=on_epoch)
    spent, seconds = within[-1][0] - within[-2][0], within[-1][1]
    return frames[0] / max(seconds, 0.01), spent / max(seconds, 0.01)


@torch.no_grad()
def decoded(network: Recogniser, speech: Speech) -> tuple[float, float]:
    """Frames a second: the network's own greedy decoding over batches that lie ready, and the whole of `transcribe`.

    A random network never writes the end, so that every utterance is as much work as it can be.
    """
    network.eval()
    frames = sum(speech.lengths)
    batches = list(speech.batches(16))
    network.recognise(*batches[0][1:])
    begun = time.perf_counter()
    for _, features, lengths in batches:
        network.recognise(features, lengths)
    bare = time.perf_counter() - begun
    begun = time.perf_counter()
    transcribe(network, speech)
    return frames / bare, frames / (time.perf_counter() - begun)


def measure(values: dict[str, Any], speech: Speech, perturbed: list[otoscope.Utterance] | None) -> Found:
    config = read_config(network_values(values))
    torch.manual_seed(0)
    network = build(config)
    examples = usable_examples(speech, network)
    half = gains_by_bfloat16(network, torch.device("cpu"))
    top = ceiling(network, examples, half)

    def given(built: Recogniser) -> list[Example]:
        if perturbed is None:
            return examples
        options = TrainConfig.model_validate({"perturb": {"speeds": (0.9, 1.0, 1.1), "noises": ("white", "pink")}})
        return recorded_examples(perturbed, built, options, perturbed, [])

    return Found(top, *trained(config, given), *decoded(network, speech))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", choices=list(FAMILIES))
    parser.add_argument("--batches", type=int, default=20, help=f"of {BATCH} utterances")
    parser.add_argument("--seconds", type=float, default=3.0, help="mean length of made-up ones")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--corpus", type=Path, help="a manifest; made-up features if left out")
    parser.add_argument("--perturb", action="store_true", help="with --corpus: other speeds and noise in each epoch")
    options = parser.parse_args()
    if options.perturb and options.corpus is None:
        parser.error("--perturb wants --corpus")
    torch.set_num_threads(options.threads)
    count = BATCH * options.batches
    utterances = list(otoscope.read_corpus(options.corpus))[:count] if options.corpus else []
    speech = listen(utterances or made_up(count, options.seconds))
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__} on "
        f"{options.threads} threads, Python {platform.python_version()}; load before "
        f"{', '.join(f'{load:.1f}' for load in os.getloadavg())}\n"
        f"{len(speech)} utterances, {sum(speech.lengths)} frames, batches of {BATCH}"
    )
    head = ("network", "fwd+bwd", "training", "of it", "share", "greedy", "transcribe", "of it")
    print(("{:<12}" + "{:>11}" * 7).format(*head))
    below = []
    for name in options.only or FAMILIES:
        found = measure(FAMILIES[name], speech, utterances if options.perturb else None)
        print(
            f"{name:<12}{found.ceiling:>11.0f}{found.training:>11.0f}{found.training / found.ceiling:>11.1%}"
            f"{found.share:>11.1%}{found.decoding_ceiling:>11.0f}{found.decoding:>11.0f}"
            f"{found.decoding / found.decoding_ceiling:>11.1%}",
            flush=True,
        )
        below += [name] if found.share < BAR else []
    loads = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    print(
        f"frames a second; load after {loads}; share of {BAR:.0%} or more: "
        + ("not " + ", ".join(below) if below else "all")
    )


if __name__ == "__main__":
    main()
