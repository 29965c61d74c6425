"""Speech in noise: white, pink or babble, at exactly the signal-to-noise ratio that was asked for."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import soxr
from numpy.typing import ArrayLike, NDArray

from otoscope.base import BadInput, BadOption, choose, derive_seed
from otoscope.hear.utterance import STRETCH, Utterance, load_audio

KINDS = ("white", "pink", "babble")
BABBLE_VOICES = 6
# How far rounding to the dtype of the samples may move the ratio.
TOLERANCE_DB = 0.05


def add_noise(
    samples: ArrayLike,
    snr_db: float,
    *,
    seed: int,
    kind: str = "white",
    babble: Sequence[ArrayLike] | None = None,
) -> NDArray[Any]:
    """Samples with noise, so that 10 log10(energy of the samples / energy of the noise) is `snr_db`.

    Both energies are sums of squares over the whole utterance, pauses included. Nothing is clipped: the result may
    exceed full scale where the samples nearly fill it.

    Args:
        samples: `(sample,)`, floats.
        snr_db: in dB; 0 is as loud as the speech.
        seed: the same seed gives the same noise at every ratio, only louder.
        kind: "white" (normal, every sample for itself), "pink" (power falls as 1 / frequency, no constant part) or
            "babble".
        babble: for "babble" the samples of other speech, one array `(sample,)` a voice, at the same sample rate. Each
            is repeated or cut to length from a random sample on, made as loud as the others, and added up.

    Returns: an array of the shape and dtype of `samples`.

    Raises:
        BadInput: samples that are no 1-D floats, not finite, or silent; too short for pink noise; a voice that is
            silent or not finite; samples whose dtype is too coarse for so little noise. BadOption: a ratio that is not
            finite, an unknown kind, babble without voices.
    """
    choose("kind of noise", kind, KINDS)
    if isinstance(snr_db, bool) or not isinstance(snr_db, (int, float, np.number)) or not math.isfinite(snr_db):
        raise BadOption("the signal-to-noise ratio is no number", got=repr(snr_db), wanted="dB, such as 10")
    given = np.asarray(samples)
    if not np.issubdtype(given.dtype, np.floating):
        remedy = "divide 16-bit integers by 32768"
        raise BadInput("these samples are not floats", got=given.dtype, wanted="floats, full scale ±1", remedy=remedy)
    signal, loudness = _even(given, "these samples")
    random = np.random.default_rng(seed)
    noise = _noise(len(signal), kind, babble, random)
    energy = float(noise @ noise)
    if energy == 0:
        got = f"{len(signal)} samples"
        raise BadInput(f"these samples are too short for {kind} noise", got=got, wanted="some hundreds, or white noise")
    noise *= math.sqrt(float(signal @ signal) / energy) * 10 ** (-snr_db / 20)
    with np.errstate(over="ignore"):
        result = ((signal + noise) * loudness).astype(given.dtype)
    added = result.astype(np.float64) / loudness - signal
    with np.errstate(divide="ignore", invalid="ignore"):
        reached_db = 10 * np.log10((signal @ signal) / (added @ added))
    if not abs(reached_db - snr_db) <= TOLERANCE_DB:
        raise BadInput(
            f"noise at {snr_db:g} dB does not fit into these samples",
            got=f"{given.dtype} samples, in which rounding leaves {reached_db:.1f} dB",
            wanted=f"{snr_db:g} dB within {TOLERANCE_DB:g} dB",
            remedy="take float64 samples, or a ratio nearer to 0 dB",
        )
    return result


def noisy(utterances: Iterable[Utterance], snr_db: float, *, seed: int = 0, kind: str = "white") -> list[Utterance]:
    """The same utterances in noise: new ones that hold their samples, float32, all in memory.

    The noise of an utterance depends on its id, `seed` and `kind`, not on the ratio, so that the same noise can be
    made louder. Babble is 6 others of the utterances, drawn at random, resampled where their rate differs.

    Args:
        utterances: each with audio.
        snr_db: signal-to-noise ratio in dB, over the whole utterance.
        seed: of all noise.
        kind: "white", "pink" or "babble", as for `add_noise`.

    Returns: utterances with the same id, text, speaker, tiers and attributes, and two more: `snr_db` and `noise` (the
    kind). Features are left out, they were those of clean speech; and so are the attributes that say which part of a
    recording is meant, for the samples are that part.

    Raises:
        BadInput: naming the utterance: features only, audio that cannot be read, silence; for babble fewer than 7
            utterances with sound. BadOption: as `add_noise`.
    """
    given = list(utterances)
    choose("kind of noise", kind, KINDS)
    for utterance in given:
        if utterance.audio is None:
            raise BadInput(
                f"utterance {utterance.id} cannot be made noisy",
                got="features only" if utterance.features is not None else "no audio",
                wanted="the path of a recording, or samples",
                remedy="leave it out, or add its recording",
            )
    return [_made_noisy(index, given, snr_db, seed, kind) for index in range(len(given))]


def _made_noisy(index: int, given: list[Utterance], snr_db: float, seed: int, kind: str) -> Utterance:
    utterance = given[index]
    samples, rate = load_audio(utterance)
    own = derive_seed("noise", kind, seed, utterance.id)
    voices = (
        _voices(index, given, rate, np.random.default_rng(derive_seed(own, "voices"))) if kind == "babble" else None
    )
    try:
        audio = add_noise(samples, snr_db, seed=own, kind=kind, babble=voices)
    except BadInput as error:
        problem = f"utterance {utterance.id}: {error.problem}"
        raise BadInput(problem, got=error.got, wanted=error.wanted, remedy=error.remedy) from None
    attributes = {name: value for name, value in utterance.attributes.items() if name not in STRETCH}
    return Utterance(
        utterance.id,
        audio,
        rate,
        utterance.text,
        utterance.speaker,
        utterance.tiers,
        **(attributes | {"snr_db": snr_db, "noise": kind}),
    )


def _voices(index: int, given: list[Utterance], rate: int, random: np.random.Generator) -> list[NDArray[np.floating]]:
    """Samples of other utterances, in an order drawn at random; those without a sound are passed over."""
    voices: list[NDArray[np.floating]] = []
    for other in random.permutation([i for i in range(len(given)) if i != index]):
        samples, other_rate = load_audio(given[int(other)])
        if other_rate != rate:
            samples = soxr.resample(samples, other_rate, rate, quality="HQ")
        if samples.any():
            voices.append(samples)
        if len(voices) == BABBLE_VOICES:
            return voices
    raise BadInput(
        f"utterance {given[index].id}: there are too few others for babble",
        got=f"{len(voices)} other utterances with sound",
        wanted=f"{BABBLE_VOICES} or more",
        remedy="give more utterances at once, or take white or pink noise",
    )


def _noise(
    samples: int, kind: str, babble: Sequence[ArrayLike] | None, random: np.random.Generator
) -> NDArray[np.float64]:
    if kind == "white":
        return random.standard_normal(samples)
    if kind == "pink":
        spectrum = np.fft.rfft(random.standard_normal(samples))
        spectrum[0] = 0
        spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
        return np.fft.irfft(spectrum, samples)
    if babble is None or len(babble) == 0:
        raise BadOption("babble needs voices", wanted="the samples of other speech, one array a voice: babble=[...]")
    total = np.zeros(samples)
    for voice in babble:
        even, _ = _even(np.asarray(voice), "a voice of the babble")
        stretch = np.resize(np.roll(even, -int(random.integers(len(even)))), samples)
        # A short stretch may fall into a pause. It adds nothing then, rather than the pause's own noise made loud.
        total += stretch / math.sqrt(float(even @ even) / len(even))
    return total


def _even(samples: NDArray[Any], what: str) -> tuple[NDArray[np.float64], float]:
    """Samples as float64 within ±1, whose squares can be summed, and the largest they were divided by."""
    if samples.ndim != 1 or len(samples) == 0:
        got = f"shape {samples.shape}"
        raise BadInput(f"{what} are not those of one channel", got=got, wanted="shape (sample,), at least one sample")
    even = samples.astype(np.float64)
    if not np.isfinite(even).all():
        got = f"{int((~np.isfinite(even)).sum())} of {len(even)} samples NaN or infinite"
        raise BadInput(f"{what} are not all finite", got=got, remedy="convert the recording again, or leave it out")
    largest = float(np.abs(even).max())
    if largest == 0:
        got = f"{len(even)} samples, all 0"
        raise BadInput(f"{what} are silent", got=got, wanted="sound to set the noise against", remedy="leave it out")
    return even / largest, largest
