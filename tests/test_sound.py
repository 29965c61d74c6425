"""Features made sound again: a tone keeps its pitch, a sweep its course, and the way back gives the same features."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal
import soundfile
import torch

from otoscope.base import BadInput, BadOption, OtoscopeError
from otoscope.hear.audio import features, log_mel, mel_filters, mel_frequencies
from otoscope.hear.sound import SPEECH_LEVEL, griffin_lim, power_spectrum, sound, write_sound

RATE = 16_000


def sweep(seconds: float = 1.2) -> np.ndarray:
    """Something like speech: a gliding voice with harmonics, two formants, and noise between its bursts."""
    time = np.arange(round(seconds * RATE)) / RATE
    pitch = 110 + 60 * np.sin(2 * np.pi * 1.5 * time)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    voice = np.sum([np.cos(k * phase) / k for k in range(1, 30)], axis=0)
    for hertz, width in ((700, 130), (1800, 200)):
        voice += 3 * scipy.signal.lfilter(*scipy.signal.iirpeak(hertz, hertz / width, fs=RATE), voice)
    loudness = 0.5 + 0.5 * np.sin(2 * np.pi * 4 * time)
    noise = 0.02 * np.random.default_rng(1).standard_normal(len(time))
    return (0.05 * loudness * voice + noise).astype(np.float32)


def tone(hertz: float) -> np.ndarray:
    return (0.4 * np.sin(2 * np.pi * hertz * np.arange(RATE) / RATE)).astype(np.float32)


def magnitudes(samples: np.ndarray) -> np.ndarray:
    """By scipy, on the grid of the features: a 25 ms Hann window every 10 ms."""
    padded = np.pad(samples.astype(np.float64), 200)
    frames = np.lib.stride_tricks.sliding_window_view(padded, 400)[::160]
    return np.abs(np.fft.rfft(frames * scipy.signal.get_window("hann", 400), 1024))


@pytest.mark.parametrize("hertz", [150.0, 440.0, 1000.0, 3300.0, 6500.0])
def test_a_tone_keeps_its_pitch_within_a_mel_band(hertz):
    heard = sound(log_mel(tone(hertz)))
    assert heard.dtype == np.float32
    assert len(heard) == 100 * 160
    spectrum = np.abs(np.fft.rfft(heard * np.hanning(len(heard))))
    found = np.fft.rfftfreq(len(heard), 1 / RATE)[spectrum.argmax()]
    bands = mel_frequencies()
    band = int(np.abs(bands - hertz).argmin())
    assert abs(found - hertz) <= bands[band + 1] - bands[band]
    # And its loudness, within 2 dB over the middle.
    ratio = np.sqrt(np.mean(heard[4000:12000] ** 2) / np.mean(tone(hertz)[4000:12000] ** 2))
    assert 0.79 < ratio < 1.26


def test_there_and_back_gives_the_same_features():
    there = log_mel(sweep()).numpy()
    back = log_mel(sound(there)).numpy()
    assert back.shape == there.shape
    assert np.corrcoef(there.ravel(), back.ravel())[0, 1] > 0.99
    assert np.abs(back - there).mean() < 0.25


def test_the_phases_fit_the_magnitudes():
    # Spectral convergence: the distance between the magnitudes, as a share of their size.
    wanted = magnitudes(sweep())

    def convergence(iterations: int) -> float:
        found = magnitudes(griffin_lim(torch.from_numpy(wanted), iterations).numpy())
        return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))

    few, usual, many = convergence(0), convergence(64), convergence(200)
    assert usual < 0.1
    assert many < usual < 0.3 * few


def test_power_is_positive_and_fills_the_bands():
    wanted = log_mel(sweep()).numpy().astype(np.float64)
    power = power_spectrum(wanted)
    assert power.shape == (len(wanted), 513)
    assert power.min() >= 0
    bands = np.log(power @ mel_filters().numpy() + 4e-8)
    assert np.abs(bands - wanted).mean() < 0.05
    # Noise stays noise: power is spread over the bins of a band, and not put on one of them.
    noise = log_mel(0.1 * np.random.default_rng(2).standard_normal(RATE)).numpy().astype(np.float64)
    assert (power_spectrum(noise)[:, 260:500] > 0.01 * power_spectrum(noise)[:, 260:500].mean()).mean() > 0.9


def test_silence_is_silent():
    assert np.abs(sound(log_mel(np.zeros(4000)))).max() < 1e-6


def test_a_level_takes_the_normalisation_back():
    plain = log_mel(sweep())
    mean, deviation = float(plain.mean()), float(plain.std(correction=0))
    normalised = features(sweep(), RATE)
    np.testing.assert_allclose(sound(normalised, level=(mean, deviation)), sound(plain), atol=5e-3)
    assert np.abs(sound(normalised, level=SPEECH_LEVEL)).max() > 0.01


def test_the_sample_rate_and_the_seed():
    spectrogram = log_mel(tone(440.0)[:4000])
    plain, again, other = sound(spectrogram), sound(spectrogram), sound(spectrogram, seed=1)
    assert np.array_equal(plain, again)
    assert not np.array_equal(plain, other)
    faster = sound(spectrogram, 44100)
    assert len(faster) == pytest.approx(len(plain) * 44100 / RATE, abs=1)


def test_fewer_bands_work_too():
    heard = sound(log_mel(tone(1000.0)[:4000], 40))
    assert len(heard) == 25 * 160


WRONG = [
    (BadInput, np.zeros(5), {}, r"shape \(5,\)[\s\S]*two frames or more"),
    (BadInput, np.zeros((1, 128)), {}, "two frames or more"),
    (BadInput, np.full((3, 128), np.nan), {}, "384 values not finite"),
    (BadInput, np.full((3, 128), 30.0), {}, r"largest 30[\s\S]*up to 25"),
    (BadInput, np.full((3, 128), 9.0), {"level": SPEECH_LEVEL}, "smaller standard deviation"),
    (BadOption, np.zeros((3, 128)), {"level": (0.0, 0.0)}, "level of a sound"),
    (BadOption, np.zeros((3, 128)), {"sample_rate": 0}, "sample_rate=0"),
    (BadOption, np.zeros((3, 128)), {"iterations": -1}, "iterations=-1"),
]


@pytest.mark.parametrize(("error", "values", "options", "words"), WRONG)
def test_what_cannot_be_heard_is_refused(error, values, options, words):
    with pytest.raises(error, match=words):
        sound(values, **options)


def test_a_file_holds_the_sound(tmp_path):
    samples = tone(440.0)
    path = write_sound(tmp_path / "new" / "a.wav", samples, 22050)
    found, rate = soundfile.read(path)
    assert rate == 22050
    np.testing.assert_allclose(found, samples, atol=4e-5)
    # Too loud: all of it quieter, nothing cut.
    loud, _ = soundfile.read(write_sound(tmp_path / "loud.wav", 7 * samples))
    np.testing.assert_allclose(loud / np.abs(loud).max(), samples / np.abs(samples).max(), atol=1e-4)
    with pytest.raises(BadInput, match="no samples"):
        write_sound(tmp_path / "none.wav", np.zeros((2, 5)))
    (tmp_path / "flat").write_text("a file")
    with pytest.raises(OtoscopeError, match="could not write"):
        write_sound(tmp_path / "flat" / "a.wav", samples)
