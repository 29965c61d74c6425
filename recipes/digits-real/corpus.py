"""Digits of one speaker, one recording each, joined to strings of 3 to 6 with pauses: connected digits of real voices.

python recipes/digits-real/corpus.py fsdd/manifest.jsonl OUT [--seed 0] [--times 4] [--more spoken/manifest.jsonl]

`split=train`: takes 5 and later of each digit, each in as many strings as asked for. `split=once`: the same takes, each
in one string, so that errors are counted without counting a recording twice. `split=test`: takes 0 to 4, the source's
own test set, each in one string. What else there is of digits is learned from (`--more`).
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import otoscope
from otoscope.base import BadInput, BadOption, OtoscopeError, Progress, derive_seed, silent
from otoscope.hear.corpus import Utterance, load_audio
from otoscope.hear.utterance import duration_s
from otoscope.study.console import Terminal

DIGITS = "zero one two three four five six seven eight nine".split()
SHORTEST, LONGEST = 3, 6
"""Digits in a string."""
PAUSE_S = (0.05, 0.35)
"""Between two digits, and half as much at both ends."""
TEST_TAKES = 5
"""The source's own test set: takes 0 to 4 of each digit and speaker."""
SPLITS: dict[str, tuple[Callable[[int], bool], int | None]] = {
    "train": (lambda take: take >= TEST_TAKES, None),
    "once": (lambda take: take >= TEST_TAKES, 1),
    "test": (lambda take: take < TEST_TAKES, 1),
}
"""Split → which takes, and in how many strings each is heard; None: as often as asked for."""
RAMP_S = 0.005
"""Recordings are cut close; they are faded in and out over so long, or every joint would click."""


def strings(recordings: Sequence[Utterance], times: int, rng: random.Random) -> Iterator[list[Utterance]]:
    """Strings in which each recording comes `times` times: shuffled anew for each time, dealt in turn."""
    deck = [recording for _ in range(times) for recording in rng.sample(list(recordings), len(recordings))]
    while deck:
        length = min(len(deck), rng.randint(SHORTEST, LONGEST))
        if len(deck) - length < SHORTEST:
            # What would be left is too short for a string of its own.
            length = len(deck) if len(deck) <= LONGEST else len(deck) - SHORTEST
        yield deck[:length]
        del deck[:length]


def joined(
    recordings: Sequence[Utterance], rng: random.Random
) -> tuple[NDArray[np.float32], int, list[tuple[float, float, str]]]:
    """Samples, rate in Hz, and where each digit lies, of recordings with pauses between them.

    The pauses are filled with noise as strong as the recording's own quietest stretches, 30 dB below the whole or less:
    digital silence would tell where a recording begins.

    Raises:
        BadInput: recordings at different rates.
    """
    heard = [load_audio(recording) for recording in recordings]
    rates = sorted({rate for _, rate in heard})
    if len(rates) > 1:
        got = ", ".join(f"{rate} Hz" for rate in rates)
        raise BadInput("recordings at different rates cannot be joined", got=got, wanted="one rate in all")
    rate = rates[0]
    noise = np.random.default_rng(rng.getrandbits(32))
    pieces: list[NDArray[np.float32]] = []
    segments: list[tuple[float, float, str]] = []
    at = 0
    floors = [_floor(samples, rate) for samples, _ in heard]
    for index, (samples, _) in enumerate(heard):
        pause = round(rng.uniform(*PAUSE_S) * rate * (0.5 if index == 0 else 1))
        pieces += [floors[index] * noise.standard_normal(pause, np.float32), _faded(samples, rate)]
        segments.append(((at + pause) / rate, (at + pause + len(samples)) / rate, word_of(recordings[index])))
        at += pause + len(samples)
    end = round(rng.uniform(*PAUSE_S) * rate / 2)
    pieces.append(floors[-1] * noise.standard_normal(end, np.float32))
    return np.concatenate(pieces).astype(np.float32), rate, segments


def _floor(samples: NDArray[np.float32], rate: int) -> np.float32:
    """Root mean square of the quietest twentieth of stretches of 10 ms, or 30 dB below the whole where that is less."""
    width = max(1, rate // 100)
    stretches = samples[: len(samples) // width * width].reshape(-1, width)
    levels = np.sqrt((stretches.astype(float) ** 2).mean(1)) if len(stretches) else np.zeros(1)
    return np.float32(min(np.quantile(levels, 0.05), 10**-1.5 * np.sqrt((levels**2).mean())))


def _faded(samples: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    samples = samples.astype(np.float32).copy()
    width = min(round(RAMP_S * rate), len(samples) // 2)
    ramp = np.linspace(0, 1, width, endpoint=False, dtype=np.float32)
    samples[:width] *= ramp
    samples[len(samples) - width :] *= ramp[::-1]
    return samples


def word_of(recording: Utterance) -> str:
    """The digit that is said, as a word: "SEVEN", "seven" and "7" are one."""
    text = recording.text.strip().lower()
    if text.isdigit() and len(text) == 1:
        return DIGITS[int(text)]
    if text not in DIGITS:
        raise BadInput(f"{recording.id}: no single digit", got=repr(recording.text), wanted=", ".join(DIGITS))
    return text


def take_of(recording: Utterance) -> int:
    """Which of its speaker's recordings of this digit it is: the attribute `index`, or the end of `7_jackson_12`.

    Raises:
        BadInput: neither is there.
    """
    index = recording.attributes.get("index", recording.id.rpartition("_")[2])
    try:
        return int(index)
    except ValueError as error:
        wanted = "an attribute `index`, or an id such as 7_jackson_12"
        raise BadInput(f"{recording.id}: which take this is cannot be told", got=index, wanted=wanted) from error


def learned_besides(others: Iterable[Utterance], speakers: Collection[str]) -> list[Utterance]:
    """The utterances of another corpus in which nothing is said but digits, as more to learn from.

    Raises:
        BadInput: one is of a speaker who is to be held out.
    """
    kept = [each for each in others if each.text and all(word in DIGITS for word in each.text.lower().split())]
    if known := sorted({str(each.speaker) for each in kept} & set(speakers)):
        raise BadInput("a speaker of both corpora cannot be held out", got=", ".join(known), wanted="other names")
    return [each.replace(text=each.text.lower(), split="train") for each in kept]


def make_corpus(
    recordings: Sequence[Utterance],
    out: Path,
    *,
    more: Iterable[Utterance] = (),
    seed: int = 0,
    times: int = 4,
    progress: Progress = silent,
) -> Path:
    """Write the strings of every speaker, and a manifest of them and of what is learned besides.

    The same seed gives the same bits.

    Raises:
        BadInput: a recording that is no single digit, without a speaker, or of a speaker with too few; a speaker who is
            in `more`, too.
    """
    speakers: dict[str, list[Utterance]] = {}
    for recording in recordings:
        if recording.speaker is None:
            raise BadInput(f"{recording.id}: nobody is said to speak", wanted="a speaker for each recording")
        word_of(recording)
        speakers.setdefault(recording.speaker, []).append(recording)
    made = learned_besides(more, speakers)
    (out / "audio").mkdir(parents=True, exist_ok=True)
    for number, (speaker, all_takes) in enumerate(sorted(speakers.items()), 1):
        ordered = sorted(all_takes, key=lambda recording: recording.id)
        for split, (is_part, often) in SPLITS.items():
            part = [one for one in ordered if is_part(take_of(one))]
            if len(part) < SHORTEST:
                got, wanted = f"{len(part)} takes for {split}", f"{SHORTEST} or more"
                raise BadInput(f"{speaker} says too little for a string", got=got, wanted=wanted)
            rng = random.Random(derive_seed(seed, "strings", speaker, split))
            for index, string in enumerate(strings(part, often or times, rng)):
                samples, rate, segments = joined(string, rng)
                name = f"{speaker}-{split}-{index:04d}"
                path = out / "audio" / f"{name}.wav"
                otoscope.write_sound(path, samples, rate)
                text = " ".join(word_of(one) for one in string)
                made.append(
                    Utterance(
                        name, path, text=text, speaker=speaker, tiers={"word": segments}, split=split,
                        takes=" ".join(one.id for one in string),
                    )
                )  # fmt: skip
        progress(number, len(speakers), speaker)
    manifest = out / "manifest.jsonl"
    otoscope.write_manifest(made, manifest)
    return manifest


def main() -> None:
    """Make the corpus and say what is in it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recordings", type=Path, help="the manifest of single digits")
    parser.add_argument("out", type=Path, help="the corpus' folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--more", type=Path, nargs="+", default=[], help="manifests with more digits to learn from")
    parser.add_argument("--times", type=int, default=4, help="in how many strings a recording is heard")
    options = parser.parse_args()
    if options.times < 1:
        raise BadOption("each recording is heard at least once", got=f"--times {options.times}", wanted="1 or more")
    terminal = Terminal()
    with terminal.stage("joining") as progress:
        found = otoscope.read_corpus(options.recordings)
        more = [utterance for path in options.more for utterance in otoscope.read_corpus(path)]
        manifest = make_corpus(
            list(found), options.out, more=more, seed=options.seed, times=options.times, progress=progress
        )
    corpus = otoscope.read_corpus(manifest)
    words = sum(len(utterance.text.split()) for utterance in corpus)
    hours = sum(duration_s(utterance) for utterance in corpus) / 3600
    terminal.show(None, f"{manifest}: {len(corpus)} strings of {words} digits, {hours:.2f} hours")


if __name__ == "__main__":
    try:
        main()
    except OtoscopeError as error:
        raise SystemExit(str(error)) from None
