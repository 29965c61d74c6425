"""The embedded corpus: sequences of words spoken by espeak-ng, with exact phone and word times.

What is said, by which voice, how fast, how high and in how much noise is planned from one seed. Each voice is a shard
that a fresh process speaks from beginning to end, so a seed gives the same bits (see `otoscope.hear.espeak`).

The times are the synthesiser's own: a phone lasts from its event to the next one. The event of a stop marks its
release, so a closure inside a word still counts with the phone before it, and one at the start of a word with none.
Where espeak-ng uses one symbol for two ARPAbet phones (`e@` in *chair*: EH R), they share its time evenly.
"""

from __future__ import annotations

import concurrent.futures
import importlib.resources
import io
import json
import random
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from otoscope.base import BadOption, OtoscopeError, Progress, atomic_path, derive_seed, silent
from otoscope.hear.corpus import Utterance, write_manifest
from otoscope.hear.espeak import Speech, Synthesiser
from otoscope.hear.phones import from_espeak

SAMPLE_RATE = 16_000
TRAIN_VOICES = tuple(
    f"en-us+{variant}" for variant in "m1 m2 m3 m4 m5 m7 f1 f2 f3 f5 Andy linda Alex Mario belinda Gene".split()
)
# Voices of the same kind as those. Others that espeak-ng has (whispers, robots, Reed and his family) are so unlike
# them that a network trained on sixteen voices cannot be asked to know them.
TEST_VOICES = tuple(f"en-us+{variant}" for variant in ("m6", "f4", "max", "aunty"))
TEST_SHARE = 0.1
WORDS_AN_UTTERANCE = (3, 6)
RATES = (150, 210)
PITCHES = (30, 70)
PITCH_RANGES = (30, 70)
SNR_DB = (20.0, 40.0)
SILENCE_S = (0.05, 0.2)
MEAN_UTTERANCE_S = 1.62


def load_words() -> list[str]:
    """The words of the embedded corpus, in a fixed order."""
    text = importlib.resources.files("otoscope.hear").joinpath("words.txt").read_text(encoding="utf-8")
    return [word for line in text.splitlines() if not line.startswith("#") for word in line.split()]


def plan_sequences(
    words: Sequence[str], count: int, seed: int, forbidden: Iterable[tuple[str, ...]] = ()
) -> list[tuple[str, ...]]:
    """`count` different word sequences of 3–6 words, none of them `forbidden`, every word about equally often.

    Words are dealt from shuffled decks, so frequencies differ by the decks' remainder only.
    """
    rng = random.Random(seed)
    seen = set(forbidden)
    sequences: list[tuple[str, ...]] = []
    deck: list[str] = []
    while len(sequences) < count:
        length = rng.randint(*WORDS_AN_UTTERANCE)
        while len(deck) < length:
            fresh = list(words)
            rng.shuffle(fresh)
            deck = fresh + deck
        sequence = tuple(deck.pop() for _ in range(length))
        if sequence not in seen:
            seen.add(sequence)
            sequences.append(sequence)
    return sequences


def plan_manner(rng: random.Random) -> dict[str, Any]:
    """How an utterance is spoken: rate, pitch, a little noise, and the silence around it."""
    return {
        "rate": rng.randint(*RATES),
        "pitch": rng.randint(*PITCHES),
        "pitch_range": rng.randint(*PITCH_RANGES),
        "snr_db": round(rng.uniform(*SNR_DB), 1),
        "before_s": round(rng.uniform(*SILENCE_S), 3),
        "after_s": round(rng.uniform(*SILENCE_S), 3),
        "noise_seed": rng.getrandbits(31),
    }


def plan_shards(seed: int, utterances: int, words: Sequence[str], batch: int = 0) -> list[dict[str, Any]]:
    """One shard a voice: what it says and how. Test voices say word sequences that no training voice says.

    `batch` numbers further helpings of the same corpus, which share no random numbers with earlier ones.
    """
    test_count = round(utterances * TEST_SHARE)
    sequences = plan_sequences(words, utterances, derive_seed(seed, "sequences", batch))
    parts = (("train", TRAIN_VOICES, sequences[test_count:]), ("test", TEST_VOICES, sequences[:test_count]))
    shards = []
    for split, voices, said in parts:
        for number, voice in enumerate(voices):
            rng = random.Random(derive_seed(seed, "manner", batch, voice))
            name = voice.partition("+")[2].lower()
            items = [
                {"id": f"{name}-{batch}-{index:04d}", "words": sequence} | plan_manner(rng)
                for index, sequence in enumerate(said[number :: len(voices)])
            ]
            shards.append(
                {"voice": voice, "split": split, "seed": derive_seed(seed, "voice", batch, voice), "items": items}
            )
    return shards


def tiers_of(speech: Speech, offset_s: float) -> dict[str, list[tuple[float, float, str]]]:
    """Phone segments in ARPAbet and word segments, in seconds, `offset_s` after the start of the speech."""
    word_starts = [sample for sample, _ in speech.words]
    word_ends = [*word_starts[1:], speech.end]
    words = [
        (start / speech.sample_rate + offset_s, end / speech.sample_rate + offset_s, label)
        for start, end, (_, label) in zip(word_starts, word_ends, speech.words, strict=True)
    ]
    starts = [sample for sample, _ in speech.phones]
    phones = []
    mnemonics = [mnemonic for _, mnemonic in speech.phones]
    events = zip(starts, mnemonics, [*starts[1:], speech.end], [*mnemonics[1:], ""], strict=True)
    for start, mnemonic, following, mnemonic_after in events:
        # A phone ends with its word at the latest: what follows is the closure of the next one.
        end = min([following, *(word for word in word_starts if start < word < following)])
        names = from_espeak(mnemonic, mnemonic_after)
        step = (end - start) / max(len(names), 1)
        for index, name in enumerate(names):
            first, last = start + index * step, start + (index + 1) * step
            phones.append((first / speech.sample_rate + offset_s, last / speech.sample_rate + offset_s, name))
    return {
        tier: [(round(start, 5), round(end, 5), label) for start, end, label in segments]
        for tier, segments in (("phone", phones), ("word", words))
    }


def speak_shard(shard: dict[str, Any], folder: Path) -> Iterator[dict[str, Any]]:
    """Speak one shard in this process (which must be fresh); yields one manifest row per utterance."""
    synthesiser = Synthesiser(shard["seed"])
    synthesiser.set_voice(shard["voice"])
    for item in shard["items"]:
        text = " ".join(item["words"])
        speech = synthesiser.say(text, rate=item["rate"], pitch=item["pitch"], pitch_range=item["pitch_range"])
        spoken = soxr.resample(speech.samples.astype(np.float32) / 32768, speech.sample_rate, SAMPLE_RATE, quality="HQ")
        before, after = (round(item[key] * SAMPLE_RATE) for key in ("before_s", "after_s"))
        samples = np.concatenate([np.zeros(before, np.float32), spoken, np.zeros(after, np.float32)])
        noise = np.random.default_rng(item["noise_seed"]).standard_normal(len(samples), dtype=np.float32)
        samples += noise * float(np.sqrt(np.mean(spoken**2))) * 10 ** (-item["snr_db"] / 20)
        samples *= min(1.0, 0.99 / float(np.abs(samples).max()))
        path = folder / f"{item['id']}.wav"
        with atomic_path(path) as temporary:
            # Through memory, so that a full disk is an OSError and not a "System error" of libsndfile.
            wav = io.BytesIO()
            soundfile.write(wav, samples, SAMPLE_RATE, subtype="PCM_16", format="WAV")
            temporary.write_bytes(wav.getvalue())
        yield {
            "id": item["id"],
            "audio": path.name,
            "text": text,
            "duration": round(len(samples) / SAMPLE_RATE, 5),
            "tiers": tiers_of(speech, before / SAMPLE_RATE),
            **{key: item[key] for key in ("rate", "pitch", "pitch_range", "snr_db")},
        }


def _speak_in_fresh_process(shard: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "otoscope.hear.speak", str(folder)]
    done = subprocess.run(command, input=json.dumps(shard), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OtoscopeError(
            f"speaking with the voice {shard['voice']} failed",
            got=done.stderr.strip() or f"exit status {done.returncode}",
        )
    return [json.loads(line) for line in done.stdout.splitlines()]


def speak_shards(
    shards: Sequence[dict[str, Any]], folder: Path, *, processes: int = 2, progress: Progress = silent
) -> list[Utterance]:
    """Speak shards into WAV files in `folder`, a fresh process for each, and give the utterances in their order.

    A shard has `voice`, `split` and `seed`, and `items` with `id`, `words` and what `plan_manner` gives. An utterance
    has that as attributes, and the tiers `phone` and `word`.

    Raises:
        OtoscopeError: espeak-ng is not installed, has no such voice, or the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    utterances: list[Utterance] = []
    spoken_s = 0.0
    with concurrent.futures.ThreadPoolExecutor(processes) as pool:
        spoken = pool.map(lambda shard: _speak_in_fresh_process(shard, folder), shards)
        for number, (shard, rows) in enumerate(zip(shards, spoken, strict=True)):
            for row in rows:
                row["audio"] = str(folder / row["audio"])
                utterances.append(
                    Utterance(**row, sample_rate=SAMPLE_RATE, speaker=shard["voice"], split=shard["split"])
                )
                spoken_s += row["duration"]
            progress(number + 1, len(shards), f"{spoken_s / 60:.1f} min of speech")
    return utterances


def speak_corpus(
    folder: Path | str,
    *,
    seed: int = 0,
    minutes: float = 31.0,
    words: Sequence[str] | None = None,
    processes: int = 2,
    progress: Progress = silent,
) -> Path:
    """Speak at least `minutes` of audio into `folder`; returns the path of its manifest.

    Sixteen voices speak the training part (`split` = "train"), four others the test part ("test", a tenth of it), with
    word sequences of their own. 16 kHz WAV files; tiers `phone` (ARPAbet) and `word`. The same seed, minutes and words
    give the same bits.

    Raises:
        OtoscopeError: espeak-ng is not installed, or the disk is full.
        BadOption: fewer than ten words, or a length of no minutes.
    """
    words = load_words() if words is None else list(dict.fromkeys(words))
    if len(words) < 10:
        raise BadOption(
            "too few words to make sequences of", got=f"{len(words)} words", wanted="at least 10 different words"
        )
    if not minutes > 0:
        raise BadOption("no speech was asked for", got=f"{minutes} minutes", wanted="more than 0 minutes")
    folder = Path(folder)
    utterances: list[Utterance] = []
    spoken_s, batch = 0.0, 0
    while spoken_s < 60 * minutes:
        missing_s = 60 * minutes - spoken_s
        count = max(len(TRAIN_VOICES + TEST_VOICES), round(missing_s / MEAN_UTTERANCE_S * 1.02))
        shards = plan_shards(seed, count, words, batch)
        helping = speak_shards(shards, folder / "audio", processes=processes, progress=progress)
        spoken_s += sum(utterance.duration for utterance in helping)
        utterances += helping
        batch += 1
    manifest = folder / "manifest.jsonl"
    write_manifest(utterances, manifest)
    return manifest


def main() -> None:
    """Speak the shard described on standard input; the process ends with it."""
    for row in speak_shard(json.load(sys.stdin), Path(sys.argv[1])):
        print(json.dumps(row))


if __name__ == "__main__":
    try:
        main()
    except OtoscopeError as error:
        sys.exit(str(error))
