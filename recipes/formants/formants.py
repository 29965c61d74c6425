"""Where input-layer GradNAPs of vowels peak, against the formants measured from the same recordings.

python recipes/formants/formants.py RUN CORPUS --where gender=f --vowels AA,AE
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from math import pi

import numpy as np
import soxr
from scipy.linalg import solve_toeplitz
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks

import otoscope
from otoscope.hear.audio import HOP_S, mel_frequencies, utterance_features
from otoscope.hear.corpus import Utterance, load_audio

TOP_HZ = 5500.0
"""Five formants lie below this in a woman's voice; 5000 Hz in a man's."""
SMOOTH_BINS = 3.0
LOW_HZ, HIGH_HZ = 350.0, 2600.0
LEAST_PEAK = 0.15
TOLERANCE_HZ, TOLERANCE_BINS = 100.0, 3


@dataclass(frozen=True)
class Formant:
    """One formant of one vowel: by linear prediction, as a peak of the mean spectrum, and as a peak of the profile."""

    vowel: str
    number: int
    instances: int
    predicted_hz: float
    spectral_hz: float | None
    profile_hz: float | None
    holds: bool
    chance: float
    """Share of the mel bins that lie as close to some peak of the profile: how likely any frequency is to hold."""


def linear_prediction_formants(samples: np.ndarray, sample_rate: int, top_hz: float = TOP_HZ) -> np.ndarray:
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


def peaks_hz(values: np.ndarray) -> np.ndarray:
    """Peaks in Hz of `(mel,)`, smoothed over mel, between LOW_HZ and HIGH_HZ, of at least a share of the highest."""
    hertz = mel_frequencies(len(values))
    smooth = gaussian_filter1d(values, SMOOTH_BINS)
    at = find_peaks(smooth, height=LEAST_PEAK * smooth.max())[0]
    return hertz[at[(hertz[at] > LOW_HZ) & (hertz[at] < HIGH_HZ)]]


def close(one_hz: float, other_hz: float, mels: int = 128) -> bool:
    """Within 100 Hz or three mel bins."""
    bins = np.interp([one_hz, other_hz], mel_frequencies(mels), np.arange(mels))
    return bool(abs(one_hz - other_hz) <= TOLERANCE_HZ or abs(bins[0] - bins[1]) <= TOLERANCE_BINS + 1e-6)


def nearest(candidates: Sequence[float] | np.ndarray, hertz: float) -> float | None:
    """The candidate nearest to a frequency; None if there is none."""
    return min(map(float, candidates), key=lambda candidate: abs(candidate - hertz), default=None)


def compare(
    network: object, utterances: Sequence[Utterance], vowels: Sequence[str], top_hz: float = TOP_HZ
) -> list[Formant]:
    """F1 and F2 of each vowel: measured in the utterances' `phone` tier, and read off the network's profiles."""
    heard = []
    spoken: dict[str, list[np.ndarray]] = {vowel: [] for vowel in vowels}
    spectra: dict[str, list[np.ndarray]] = {vowel: [] for vowel in vowels}
    for utterance in utterances:
        # A tier of its own, for phones are folded: TIMIT's /ao/ would count as /aa/.
        tier = [segment._replace(label=segment.label.upper()) for segment in utterance.tiers["phone"]]
        tier = [segment for segment in tier if segment.label in vowels]
        heard.append(utterance.replace(tiers={**utterance.tiers, "vowel": tier}))
        samples, rate = load_audio(utterance)
        frames = utterance_features(utterance).numpy()
        for start, end, vowel in tier:
            stretch = samples[int(start * rate) : int(end * rate)]
            spoken[vowel].append(linear_prediction_formants(stretch, rate, top_hz))
            spectra[vowel].append(frames[int(np.ceil(start / HOP_S)) : int(np.ceil(end / HOP_S))])
    # The mean of |gradient| holds in every network tried; its absolute mean, as in the paper, in one and not the next.
    profiles = otoscope.gradnap(network, heard, layers="input", by=("symbol", "vowel"), mask="mean_of_abs")
    found = []
    for vowel in vowels:
        group = f"vowel:{vowel}"
        profile = profiles.profile["input"].sel(group=group).sum("offset").values
        peaks, humps = peaks_hz(profile), peaks_hz(np.concatenate(spectra[vowel]).mean(0))
        within = [hertz for hertz in mel_frequencies() if LOW_HZ < hertz < HIGH_HZ]
        chance = float(np.mean([any(close(hertz, peak) for peak in peaks) for hertz in within]))
        for number, predicted in enumerate(np.median(np.concatenate(spoken[vowel]), 0), start=1):
            hump = nearest([hertz for hertz in humps if abs(hertz - predicted) < 2 * TOLERANCE_HZ], predicted)
            peak = nearest(peaks, predicted)
            holds = peak is not None and any(close(peak, truth) for truth in (predicted, hump) if truth is not None)
            count = int(profiles.instances.sel(layer="input", group=group))
            found.append(Formant(vowel, number, count, float(predicted), hump, peak, holds, chance))
    return found


def main() -> None:
    """Print one line for each formant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a run's folder, or one of its checkpoints")
    parser.add_argument("corpus", help="a manifest whose utterances have phones")
    parser.add_argument("--where", help="which utterances, such as gender=f")
    parser.add_argument("--vowels", default="AA,AE")
    parser.add_argument("--top", type=float, default=TOP_HZ, help="highest frequency of linear prediction, in Hz")
    given = parser.parse_args()
    utterances = otoscope.read_corpus(given.corpus)
    if given.where:
        utterances = otoscope.select(utterances, given.where)
    for row in compare(otoscope.load(given.run), list(utterances), given.vowels.split(","), given.top):
        shown = ["none" if hertz is None else f"{hertz:.0f}" for hertz in (row.spectral_hz, row.profile_hz)]
        print(
            f"/{row.vowel}/ F{row.number}  N = {row.instances}  linear prediction {row.predicted_hz:.0f} Hz  "
            f"mean spectrum {shown[0]}  profile {shown[1]}  {'holds' if row.holds else 'does not hold'} "
            f"(by chance {row.chance:.0%})"
        )


if __name__ == "__main__":
    main()
