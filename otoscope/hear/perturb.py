"""The same speech at another speed, or in a room: what a recogniser should not mind, and mostly does."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import soxr
from numpy.typing import ArrayLike, NDArray
from scipy.signal import fftconvolve

from otoscope.base import BadInput, BadOption

SPEEDS = (0.25, 4.0)
# 60 dB, in the natural logarithm of an amplitude.
_DECAY = math.log(1000.0)
# Echoes of an ordinary room do not come sooner: the wall is a metre away.
_FIRST_ECHO_S = 0.005


def at_speed(samples: ArrayLike, factor: float) -> NDArray[Any]:
    """Samples played `factor` times as fast: a factor of 1.1 shortens them by a tenth and raises every pitch by one.

    Resampled, so that time and frequency change together (Ko et al. 2015, "Audio augmentation for speech recognition",
    with factors of 0.9, 1 and 1.1). Times of tiers are to be divided by the factor.

    Args:
        samples: `(sample,)`, floats.
        factor: 0.25 to 4.

    Returns: `(round(sample / factor),)` of the dtype given; the samples themselves, copied, at a factor of 1.

    Raises:
        BadInput: samples that are no 1-D floats, or not finite. BadOption: another factor.
    """
    given = _checked(samples)
    if not _number(factor) or not SPEEDS[0] <= factor <= SPEEDS[1]:
        raise BadOption("a speed that speech has not", got=repr(factor), wanted=f"{SPEEDS[0]:g} to {SPEEDS[1]:g}")
    if factor == 1:
        return given.copy()
    wanted = max(1, round(len(given) / factor))
    found = soxr.resample(given.astype(np.float64), float(factor), 1.0, quality="HQ")
    # The resampler may give one sample more or less.
    return np.pad(found, (0, max(0, wanted - len(found))))[:wanted].astype(given.dtype)


def with_room(samples: ArrayLike, sample_rate: int, t60: float, seed: int, *, direct_db: float = 0.0) -> NDArray[Any]:
    """Samples as heard in a room: the direct sound, and after 5 ms an echo that decays by 60 dB in `t60` seconds.

    The echo is normal noise under an exponential: what the reflections of a room amount to once they are many (Polack
    1988; Moorer 1979 made reverberation so). It has neither walls nor a spectrum of its own. The direct sound stays
    where it was, so times of tiers hold; the result is as long as the samples and as loud (root mean square).

    Args:
        samples: `(sample,)`, floats.
        sample_rate: in Hz.
        t60: reverberation time in seconds, above 0, up to 10. Living rooms have about 0.4, lecture halls 1.
        seed: of the echo; the same one gives the same room at every speed of decay.
        direct_db: energy of the direct sound over that of the echo, in dB. 0 is two to three metres away.

    Returns: an array of the shape and dtype of `samples`.

    Raises:
        BadInput: samples that are no 1-D floats, or not finite; a sample rate that is no number above 0.
        BadOption: another `t60`, or a `direct_db` that is not finite.
    """
    given = _checked(samples)
    if not _number(sample_rate) or not 0 < sample_rate < math.inf:
        raise BadInput("the sample rate cannot be", got=repr(sample_rate), wanted="Hz, above 0")
    if not _number(t60) or not 0 < t60 <= 10 or not _number(direct_db) or not math.isfinite(direct_db):
        raise BadOption(
            "a room that cannot be",
            got=f"t60={t60!r}, direct_db={direct_db!r}",
            wanted="a reverberation time above 0 and up to 10 s, and a finite ratio in dB",
        )
    signal = given.astype(np.float64)
    heard = fftconvolve(signal, room_response(sample_rate, t60, seed, direct_db=direct_db))[: len(signal)]
    energy = float(heard @ heard)
    loudness = math.sqrt(float(signal @ signal) / energy) if energy > 0 else 0.0
    return (heard * loudness).astype(given.dtype)


def room_response(sample_rate: float, t60: float, seed: int, *, direct_db: float = 0.0) -> NDArray[np.float64]:
    """The impulse response of `with_room`, `(sample,)`, down to 60 dB: 1, 5 ms of nothing, and the echo."""
    count = max(1, round(t60 * sample_rate))
    time_s = np.arange(count) / sample_rate
    echo = np.random.default_rng(seed).standard_normal(count) * np.exp(-_DECAY * time_s / t60)
    echo *= 10 ** (-direct_db / 20) / math.sqrt(float(echo @ echo))
    return np.concatenate([[1.0], np.zeros(round(_FIRST_ECHO_S * sample_rate)), echo])


def _checked(samples: ArrayLike) -> NDArray[Any]:
    given = np.asarray(samples)
    if given.ndim != 1 or len(given) == 0 or not np.issubdtype(given.dtype, np.floating):
        raise BadInput(
            "these are not samples of one channel",
            got=f"an array of {given.dtype} with shape {given.shape}",
            wanted="floats of shape (sample,), at least one, full scale ±1",
            remedy="average the channels, or pick one; divide 16-bit integers by 32768",
        )
    if not np.isfinite(given).all():
        got = f"{int((~np.isfinite(given)).sum())} of {len(given)} samples NaN or infinite"
        raise BadInput("these samples are not all finite", got=got, remedy="convert the recording again")
    return given


def _number(value: object) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and not math.isnan(value)
