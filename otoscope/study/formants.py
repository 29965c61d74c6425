"""Formants of vowels: by linear prediction in the recordings, and as peaks of input-layer profiles."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import pi
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray
from scipy.linalg import solve_toeplitz
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks

from otoscope.hear.audio import HOP_S, mel_frequencies, utterance_features
from otoscope.hear.corpus import Utterance, load_audio

Array = NDArray[Any]
TOP_HZ = 5500.0
"""Five formants lie below this in a woman's voice; 5000 Hz in a man's."""
SMOOTH_BINS = 3.0
LOW_HZ, HIGH_HZ = 350.0, 2600.0
LEAST_PEAK = 0.15
TOLERANCE_HZ, TOLERANCE_BINS = 100.0, 3


@dataclass(frozen=True)
class Vowel:
    """A vowel in recordings: its first two formants in Hz, each by linear prediction and as a hump of the spectrum."""

    label: str
    predicted_hz: tuple[float, float]
    spectral_hz: tuple[float | None, float | None]

    def near(self, number: int, hertz: float | None) -> bool:
        """Whether a frequency lies by formant `number`, 1 or 2, as measured in either way."""
        truths = self.predicted_hz[number - 1], self.spectral_hz[number - 1]
        return hertz is not None and any(close(hertz, truth) for truth in truths if truth is not None)


def measured_vowels(
    utterances: Iterable[Utterance], vowels: Sequence[str], tier: str = "phone", top_hz: float = TOP_HZ
) -> dict[str, Vowel]:
    """F1 and F2 of vowels in recordings that have them labelled; those that nowhere occur are left out.

    Args:
        utterances: with recordings and the tier.
        vowels: labels as they stand in the tier.
        tier: its name.
        top_hz: highest frequency of linear prediction.
    """
    spoken: dict[str, list[Array]] = {vowel: [] for vowel in vowels}
    spectra: dict[str, list[Array]] = {vowel: [] for vowel in vowels}
    for utterance in utterances:
        segments = [segment for segment in utterance.tiers.get(tier, []) if segment.label in spoken]
        if not segments:
            continue
        samples, rate = load_audio(utterance)
        frames = utterance_features(utterance).numpy()
        for start, end, vowel in segments:
            stretch = samples[int(start * rate) : int(end * rate)]
            spoken[vowel].append(linear_prediction_formants(stretch, rate, top_hz))
            spectra[vowel].append(frames[int(np.ceil(start / HOP_S)) : int(np.ceil(end / HOP_S))])
    found = {}
    for vowel in vowels:
        if sum(map(len, spoken[vowel])):
            first, second = map(float, np.median(np.concatenate(spoken[vowel]), 0))
            humps = peaks_hz(np.concatenate(spectra[vowel]).mean(0))
            by_hump = [
                nearest([hertz for hertz in humps if abs(hertz - one) < 2 * TOLERANCE_HZ], one)
                for one in (first, second)
            ]
            found[vowel] = Vowel(vowel, (first, second), (by_hump[0], by_hump[1]))
    return found


def linear_prediction_formants(samples: Array, sample_rate: int, top_hz: float = TOP_HZ) -> Array:
    """F1 and F2 in Hz of each frame `(frame, 2)`: 25 ms Hamming windows every 5 ms, order 12 up to `top_hz`.

    The autocorrelation method (Markel and Gray 1976), pre-emphasis 0.97; poles above 200 Hz narrower than 400 Hz.
    """
    rate = 2 * top_hz
    values = soxr.resample(np.asarray(samples, np.float64), sample_rate, rate)
    length, step, order = round(0.025 * rate), round(0.005 * rate), 12
    values = np.append(values[:1], values[1:] - 0.97 * values[:-1])
    found = []
    for start in range(0, len(values) - length + 1, step):
        frame = values[start : start + length] * np.hamming(length)
        correlation = np.correlate(frame, frame, "full")[length - 1 : length + order]
        if correlation[0] <= 0:
            continue
        # A little white noise keeps the equations solvable.
        correlation[0] *= 1 + 1e-9
        poles = np.roots(np.append(1, solve_toeplitz(correlation[:-1], -correlation[1:])))
        poles = poles[poles.imag > 0]
        hertz, width = np.angle(poles) * rate / (2 * pi), -np.log(np.abs(poles)) * rate / pi
        formants = np.sort(hertz[(hertz > 200) & (width < 400)])
        if len(formants) >= 2:
            found.append(formants[:2])
    return np.array(found).reshape(-1, 2)


def peaks_hz(values: Array) -> Array:
    """Peaks in Hz of `(mel,)`, smoothed over mel, between LOW_HZ and HIGH_HZ, of at least a share of the highest."""
    hertz = mel_frequencies(len(values))
    smooth = gaussian_filter1d(values, SMOOTH_BINS)
    at = find_peaks(smooth, height=LEAST_PEAK * smooth.max())[0]
    return hertz[at[(hertz[at] > LOW_HZ) & (hertz[at] < HIGH_HZ)]]


def chance_of_peaks(peaks: Sequence[float] | Array) -> float:
    """Share of the mel bins that lie close to some peak: how likely any frequency is to be near one."""
    within = [hertz for hertz in mel_frequencies() if LOW_HZ < hertz < HIGH_HZ]
    return float(np.mean([any(close(hertz, peak) for peak in peaks) for hertz in within]))


def close(one_hz: float, other_hz: float, mels: int = 128) -> bool:
    """Within 100 Hz or three mel bins."""
    bins = np.interp([one_hz, other_hz], mel_frequencies(mels), np.arange(mels))
    return bool(abs(one_hz - other_hz) <= TOLERANCE_HZ or abs(bins[0] - bins[1]) <= TOLERANCE_BINS + 1e-6)


def nearest(candidates: Sequence[float] | Array, hertz: float) -> float | None:
    """The candidate nearest to a frequency; None if there is none."""
    return min(map(float, candidates), key=lambda candidate: abs(candidate - hertz), default=None)
