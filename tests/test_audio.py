"""Log-mel features against the Fourier sum written out, known tones and clicks, and the refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import soxr
import torch

import otoscope
from otoscope.base import BadInput, BadOption
from otoscope.hear.audio import TELEPHONE_HZ, features, log_mel, mel_frequencies, pad_batch, utterance_features
from otoscope.hear.corpus import Utterance


def noise(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, count).astype(np.float32)


def tone(hz: float, seconds: float, rate: int = 16000) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def slaney_edges() -> np.ndarray:
    """130 frequencies equally far apart on Slaney's scale, from 0 to 8 kHz."""
    top = 15 + 27 * math.log(8) / math.log(6.4)
    mels = [top * index / 129 for index in range(130)]
    return np.array([mel * 200 / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27) for mel in mels])


def log_mel_by_definition(samples: np.ndarray) -> np.ndarray:
    edges, bins = slaney_edges(), np.arange(513) * 16000 / 1024
    filters = [
        np.interp(bins, [low, centre, high], [0, 1, 0], left=0, right=0) * 2 / (high - low)
        for low, centre, high in zip(edges, edges[1:], edges[2:], strict=False)
    ]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    fourier = np.exp(-2j * np.pi * np.outer(np.arange(513), np.arange(400)) / 1024)
    surrounded = np.concatenate([np.zeros(200), samples.astype(np.float64), np.zeros(200)])
    rows = []
    for frame in range(1 + len(samples) // 160):
        power = np.abs(fourier @ (window * surrounded[160 * frame : 160 * frame + 400])) ** 2
        rows.append(np.log(np.array(filters) @ power + 4e-8))
    return np.array(rows)


@pytest.mark.parametrize(
    "samples", [noise(4000), tone(440, 0.2), 1e-3 * noise(1601, 1)], ids=["noise", "tone", "quiet"]
)
def test_log_mel_is_the_fourier_sum_through_triangles(samples):
    found = log_mel(samples)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), log_mel_by_definition(samples), atol=2e-3)


def test_band_centres_are_slaneys():
    np.testing.assert_allclose(mel_frequencies(), slaney_edges()[1:-1])


@pytest.mark.parametrize("count", [1, 159, 160, 161, 16000, 16159])
def test_frames_are_ten_milliseconds_apart(count):
    assert features(noise(count), 16000).shape == (1 + count // 160, 128)


@pytest.mark.parametrize("hz", [300, 1000, 2500, 5000, 7000])
def test_a_tone_is_loudest_in_the_nearest_band(hz):
    loudest = int(features(tone(hz, 0.5), 16000)[10:-10].mean(0).argmax())
    assert loudest == int(np.abs(mel_frequencies() - hz).argmin())


def test_frames_are_centred_on_their_time():
    click = np.zeros(8000, np.float32)
    click[20 * 160] = 1.0
    energy = log_mel(click).double().exp().sum(1)
    assert int(energy.argmax()) == 20
    assert energy[19] == pytest.approx(float(energy[21]), rel=1e-3)
    assert set(torch.nonzero(energy > 1e-3 * energy[20]).flatten().tolist()) <= {19, 20, 21}


def test_features_have_mean_0_and_deviation_1_over_everything():
    values = features(noise(16000) * np.linspace(0.01, 1, 16000, dtype=np.float32), 16000).double()
    assert float(values.mean()) == pytest.approx(0, abs=1e-5)
    assert float(values.std(correction=0)) == pytest.approx(1, abs=1e-5)
    # Over everything together: loud frames stay louder than soft ones.
    assert values[-20:].mean() > values[:20].mean() + 1


@pytest.mark.parametrize("count", [100, 3200, 500_000])
def test_digital_silence_becomes_zeros(count):
    assert torch.equal(features(np.zeros(count), 16000), torch.zeros(1 + count // 160, 128))


def test_another_sample_rate_is_resampled():
    values = features(tone(1000, 0.5, 8000) + tone(3000, 0.5, 8000), 8000)
    assert values.shape == (51, 128)
    spectrum, centres = values[10:-10].mean(0), mel_frequencies()
    for hz in (1000, 3000):
        near = np.flatnonzero(np.abs(centres - hz) < 400)
        assert abs(centres[near[int(spectrum[near].argmax())]] - hz) < 40
    assert spectrum[centres > 4500].max() < spectrum.max() - 2


def test_a_telephone_leaves_the_upper_bands_empty_unless_they_end_below():
    """By Slaney's formula 28 of 128 bands lie above 4 kHz; a 25 ms window and the resampler leave a little in two."""
    speech = noise(8000)
    spectrum = log_mel(soxr.resample(speech, 8000, 16000, quality="HQ"))[5:-5]
    empty = (spectrum < math.log(4e-8) + 3).all(0)
    assert np.flatnonzero(empty).tolist() == list(range(102, 128))
    assert sum(slaney_edges()[1:-1] > 4000) == 28
    narrow = log_mel(soxr.resample(speech, 8000, 16000, quality="HQ"), top_hz=TELEPHONE_HZ)[5:-5]
    assert float(narrow[:, :120].mean(0).std()) < 0.3
    assert not (narrow.mean(0) < math.log(4e-8) + 3).any()


@pytest.mark.parametrize("hz", [300, 1000, 2500, 3500])
def test_bands_may_end_lower(hz):
    values = features(tone(hz, 0.5, 8000), 8000, top_hz=TELEPHONE_HZ)
    centres = mel_frequencies(128, TELEPHONE_HZ)
    assert int(values[10:-10].mean(0).argmax()) == int(np.abs(centres - hz).argmin())
    utterance = Utterance("a", audio=tone(hz, 0.5, 8000), sample_rate=8000)
    assert torch.equal(utterance_features(utterance, top_hz=TELEPHONE_HZ), values)
    assert torch.equal(features(noise(3200), 16000, top_hz=8000), features(noise(3200), 16000))


@pytest.mark.parametrize("top_hz", [0, 999, 8001, math.nan, math.inf, None])
def test_bands_cannot_end_anywhere(top_hz):
    with pytest.raises(BadOption, match=r"cannot end there[\s\S]*1000 to 8000 Hz"):
        features(noise(100), 16000, top_hz=top_hz)


def test_integers_are_scaled_to_full_scale_1():
    pcm = np.random.default_rng(2).integers(-32768, 32768, 3200).astype(np.int16)
    assert torch.equal(features(pcm, 16000), features(pcm / 32768.0, 16000))


@pytest.mark.parametrize(
    ("samples", "rate", "words"),
    [
        (noise(100), 0, "sample rate"),
        (noise(100), -16000, "-16000 Hz"),
        (noise(100), 16000.5, "whole number"),
        (noise(100), math.nan, "nan Hz"),
        (noise(100), math.inf, "inf Hz"),
        (noise(100), True, "True Hz"),
        (noise(100), "16000", "whole number"),
        (noise(100), None, "None Hz"),
        (np.zeros(0), 16000, "at least one sample"),
        (np.zeros((100, 2)), 16000, r"\(100, 2\)"),
        (np.array([0.0, np.nan, np.inf]), 16000, "2 of 3 samples"),
    ],
)
def test_what_is_no_recording_is_refused_with_words(samples, rate, words):
    with pytest.raises(BadInput, match=words):
        features(samples, rate)


def test_an_utterance_gives_the_features_of_its_audio_or_its_own():
    samples = noise(3200)
    heard = utterance_features(Utterance("a", audio=samples, sample_rate=16000))
    assert torch.equal(heard, otoscope.features(samples, 16000))
    assert utterance_features(Utterance("a", audio=samples, sample_rate=16000), mels=40).shape == (21, 40)
    own = np.arange(12.0).reshape(3, 4)
    values = utterance_features(Utterance("b", features=own), mels=4)
    assert values.dtype == torch.float32
    np.testing.assert_array_equal(values, own)


@pytest.mark.parametrize(
    ("own", "words"),
    [
        (np.zeros((3, 5)), r"u7: features of the wrong shape[\s\S]*\(3, 5\)"),
        (np.zeros((0, 4)), "at least one frame"),
        (np.zeros(4), r"u7[\s\S]*\(4,\)"),
        (np.full((2, 4), np.nan), "u7: features that are not finite[\\s\\S]*8 values"),
    ],
)
def test_features_that_cannot_be_are_refused_by_name(own, words):
    with pytest.raises(BadInput, match=words):
        utterance_features(Utterance("u7", features=own), mels=4)


def test_an_unusable_recording_is_refused_by_name():
    with pytest.raises(BadInput, match=r"u8: .*not finite"):
        utterance_features(Utterance("u8", audio=np.array([0.0, np.nan]), sample_rate=16000))


def test_a_batch_is_padded_with_zeros():
    batch, lengths = pad_batch([torch.ones(2, 3), torch.full((4, 3), 2.0)])
    assert lengths.tolist() == [2, 4]
    assert batch[:, :, 0].tolist() == [[1, 1, 0, 0], [2, 2, 2, 2]]
    assert batch.shape == (2, 4, 3)
