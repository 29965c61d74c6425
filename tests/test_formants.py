"""Linear prediction of known resonators, peaks of known profiles, and vowels of the demonstration's network."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.signal import lfilter
from torch import Tensor, nn

import otoscope
from otoscope.hear.audio import mel_frequencies
from otoscope.hear.corpus import Utterance
from otoscope.study.formants import (
    Vowel,
    chance_of_peaks,
    close,
    linear_prediction_formants,
    measured_vowels,
    nearest,
    peaks_hz,
)

RECIPE = Path(__file__).parents[1] / "recipes" / "formants" / "formants.py"
VOWELS = {"AA": (730.0, 1090.0, 2440.0, 3400.0), "AE": (660.0, 1720.0, 2410.0, 3400.0)}
HIGH = (270.0, 2290.0, 3010.0, 3700.0)
"""Of men (Peterson and Barney 1952), and a fourth formant as most voices have it."""
RATE = 16_000


@pytest.fixture(scope="module")
def recipe():
    spec = importlib.util.spec_from_file_location("formants", RECIPE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["formants"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["formants"]


def vowel(label: str | tuple[float, ...], seconds: float, pitch_hz: float) -> np.ndarray:
    """Pulses, falling 6 dB an octave, through one resonator for each formant, 80 Hz wide (Klatt 1980)."""
    samples = np.zeros(round(seconds * RATE))
    samples[:: round(RATE / pitch_hz)] = 1
    samples = lfilter([1], [1, -0.97], samples)
    for hertz in VOWELS[label] if isinstance(label, str) else label:
        radius = np.exp(-np.pi * 80 / RATE)
        samples = lfilter([1], [1, -2 * radius * np.cos(2 * np.pi * hertz / RATE), radius**2], samples)
    return 0.3 * samples / np.abs(samples).max()


@pytest.mark.parametrize("label", VOWELS)
@pytest.mark.parametrize("pitch_hz", [90, 110, 140])
def test_linear_prediction_finds_the_resonators(label, pitch_hz):
    found = linear_prediction_formants(vowel(label, 0.3, pitch_hz), RATE)
    assert len(found) > 50
    np.testing.assert_allclose(np.median(found, 0), VOWELS[label][:2], rtol=0, atol=50)


def test_a_soft_voice_is_tilted_back_before_it_is_predicted():
    """A source that falls 12 dB an octave, as a soft voice's does, hides the formants of /UH/ from the prediction."""
    samples = vowel((300.0, 870.0, 2240.0, 3400.0), 0.3, 110)
    found = linear_prediction_formants(lfilter([1], [1, -0.97], samples), RATE)
    assert len(found) > 50
    np.testing.assert_allclose(np.median(found, 0), (300, 870), rtol=0, atol=30)


def test_silence_has_no_formants():
    assert linear_prediction_formants(np.zeros(3200), RATE).shape == (0, 2)


def test_close_is_100_hz_or_three_bins():
    hertz = mel_frequencies()
    low, high = 30, 80
    assert close(hertz[low], hertz[low] + 100)
    assert not close(hertz[low], hertz[low] + 101)
    assert hertz[high + 3] - hertz[high] > 100
    assert close(hertz[high], hertz[high + 3])
    assert not close(hertz[high], hertz[high + 4])
    assert nearest([], 100) is None


def humps(*sizes: tuple[float, float]) -> np.ndarray:
    """A profile over 128 mel bands with a hump, five bands wide, at each frequency."""
    bands, hertz = np.arange(128), mel_frequencies()
    return sum(size * np.exp(-(((bands - np.interp(at, hertz, bands)) / 5) ** 2)) for at, size in sizes)


def test_peaks_lie_where_humps_were_put_and_only_where_formants_do():
    """Between 350 and 2600 Hz, of 15 % of the largest at least, and not at every band that is a little louder."""
    profile = humps((150, 1), (600, 1), (1500, 0.5), (2200, 0.06), (5000, 1))
    ripple = 0.02 * (-1.0) ** np.arange(128)
    np.testing.assert_allclose(peaks_hz(profile + ripple), [600, 1500], atol=25)
    assert len(peaks_hz(-profile)) == 0


def test_chance_is_the_share_of_the_bands_near_some_peak():
    """At 2 kHz three bands are 150 Hz and more: near a peak are it and three on either side, near two neighbours 8."""
    hertz = mel_frequencies()
    there = ((hertz > 350) & (hertz < 2600)).sum()
    at = int(np.argmin(np.abs(hertz - 2000)))
    assert hertz[at + 3] - hertz[at] > 100
    assert chance_of_peaks([hertz[at]]) == pytest.approx(7 / there)
    assert chance_of_peaks(hertz[at : at + 2]) == pytest.approx(8 / there)
    # No formant is looked for beyond 2600 Hz.
    assert chance_of_peaks([hertz[120]]) == 0


def test_a_formant_is_met_as_measured_in_either_way():
    one = Vowel("AA", (700.0, 1100.0), (None, 1400.0))
    assert one.near(1, 780)
    assert one.near(2, 1100)
    assert one.near(2, 1400)
    assert not one.near(1, 1100)
    assert not one.near(2, 700)
    assert not one.near(1, None)


def test_vowels_are_measured_where_the_tier_has_them():
    """/AE/ after /AA/; one long /IY/ under the name of /AA/ does not move the medians of the others."""
    spoken = []
    for index in range(4):
        parts = [vowel("AA", 0.3, 100 + 8 * index), vowel("AE", 0.3, 100 + 8 * index), vowel(HIGH, 0.1, 110)]
        tier = [(0, 0.3, "AA"), (0.3, 0.6, "AE"), (0.6, 0.7, "IY" if index else "AA")]
        samples = np.concatenate(parts).astype(np.float32)
        spoken.append(Utterance(f"u{index}", audio=samples, sample_rate=RATE, tiers={"phone": tier}))
    found = measured_vowels(spoken, ["AA", "AE", "IY", "OY"])
    assert list(found) == ["AA", "AE", "IY"]
    for label, wanted in (*((label, VOWELS[label][:2]) for label in VOWELS), ("IY", HIGH[:2])):
        np.testing.assert_allclose(found[label].predicted_hz, wanted, atol=60)
    # The spectrum has a hump by each of them, but what lies where pitch is heard is not looked for.
    for label in VOWELS:
        np.testing.assert_allclose(found[label].spectral_hz, VOWELS[label][:2], atol=120)
    assert found["IY"].spectral_hz[0] is None


class Spectra(nn.Module):
    """Says which of two mean spectra a frame is more like: its gradient lies where they differ from the mean."""

    symbols, mels = ("a", "b"), 128

    def __init__(self, spectra: np.ndarray) -> None:
        super().__init__()
        differences = spectra - spectra.mean(0)
        self.linear = nn.Linear(128, 2)
        self.linear.weight.data = torch.from_numpy(differences).float()
        self.linear.bias.data = torch.from_numpy(-(differences * spectra.mean(0)).sum(1)).float()

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return self.linear(features), lengths


def test_profiles_of_a_network_that_knows_the_spectra_peak_at_the_formants_that_differ(recipe):
    """/AA/ has its second formant where /AE/ has nothing, and the other way round; the first ones are much alike."""
    spoken = []
    for index in range(6):
        parts = [vowel(label, 0.3, 100 + 8 * index) for label in VOWELS]
        tier = [(0, 0.3, "AA"), (0.3, 0.6, "ae")]
        samples = np.concatenate(parts).astype(np.float32)
        spoken.append(Utterance(f"u{index}", audio=samples, sample_rate=RATE, tiers={"phone": tier}))
    heard = np.mean([otoscope.features(utterance.audio, RATE)[:60].numpy() for utterance in spoken], 0)
    network = Spectra(np.stack([heard[2:28].mean(0), heard[32:58].mean(0)]))
    rows = {(row.vowel, row.number): row for row in recipe.compare(network, spoken, ["AA", "AE"], 5000)}
    for (label, number), row in rows.items():
        assert abs(row.predicted_hz - VOWELS[label][number - 1]) < 50
        assert row.instances >= 150
        assert 0 < row.chance < 0.5
    assert rows["AA", 2].holds
    assert rows["AE", 2].holds
    # With the vowels' names exchanged, linear prediction hears the other one, and the profile goes with it ...
    swapped = [u.replace(tiers={"phone": [(0, 0.3, "AE"), (0.3, 0.6, "AA")]}) for u in spoken]
    other = {(row.vowel, row.number): row for row in recipe.compare(network, swapped, ["AA", "AE"], 5000)}
    assert other["AE", 2].profile_hz == pytest.approx(rows["AA", 2].profile_hz, abs=1)
    # ... but neither formant is near the other vowel's.
    assert not close(rows["AA", 2].profile_hz, rows["AE", 2].predicted_hz)
    assert not close(rows["AE", 2].profile_hz, rows["AA", 2].predicted_hz)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A demonstration of its own: the run, and the speech of the voices it never heard."""
    pytest.importorskip("espeakng_loader", reason="the demonstration speaks with espeak-ng: install the extra `synth`")
    out = tmp_path_factory.mktemp("formants") / "demo"
    run = otoscope.run_demo(out).run
    corpus = otoscope.read_corpus(out / "corpus" / "manifest.jsonl", strict=True)
    return otoscope.load(run.folder), list(otoscope.select(corpus, "split=test"))


@pytest.mark.slow
@pytest.mark.demo
def test_vowels_of_the_demonstration_peak_at_their_formants(recipe, demo):
    """Three of four at least: F1 of /AE/, high and low voices pooled, lies at the edge of the tolerance."""
    rows = recipe.compare(*demo, ["AA", "AE"])
    assert sum(row.holds for row in rows) >= 3, rows
    assert all(row.instances > 50 and row.chance < 0.4 for row in rows), rows
    second = {row.vowel: row.profile_hz for row in rows if row.number == 2}
    assert second["AA"] < 1400 < 1600 < second["AE"]


@pytest.mark.slow
@pytest.mark.demo
@pytest.mark.real
def test_vowels_of_people_peak_at_their_formants(recipe, demo, real_data):
    """Hand-labelled vowels of women and men, heard by a network that knows only synthetic ones: seven of eight."""
    network, _ = demo
    timit = otoscope.read_corpus(real_data / "timit-nltk" / "manifest.jsonl", strict=True)
    rows = []
    for gender, top_hz in (("f", 5500.0), ("m", 5000.0)):
        rows += recipe.compare(network, list(otoscope.select(timit, f"gender={gender}")), ["AA", "AE"], top_hz)
    assert sum(row.holds for row in rows) >= 7, rows
    # By chance about two of the eight would hold.
    assert sum(row.chance for row in rows) < 3, rows
