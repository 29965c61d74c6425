"""Speed and rooms, measured: lengths, the pitch of a sine, the decay of an echo, loudness, and noise on top."""

from __future__ import annotations

import math

import numpy as np
import pytest

from otoscope.base import BadInput, BadOption
from otoscope.hear.noise import add_noise
from otoscope.hear.perturb import at_speed, room_response, with_room

RATE = 16_000


def tone(hz: float, seconds: float = 1.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def pitch_hz(samples: np.ndarray) -> float:
    """Zero crossings upwards, the first and the last placed between samples."""
    middle = samples[len(samples) // 10 : -len(samples) // 10].astype(np.float64)
    at = np.flatnonzero((middle[:-1] < 0) & (middle[1:] >= 0))
    exact = at + middle[at] / (middle[at] - middle[at + 1])
    return RATE * (len(at) - 1) / (exact[-1] - exact[0])


@pytest.mark.parametrize("factor", [0.25, 0.9, 1, 1.1, 2 / 3, math.pi])
def test_time_and_pitch_change_together(factor: float) -> None:
    samples = tone(440)
    found = at_speed(samples, factor)
    assert (found.dtype, len(found)) == (np.float32, round(RATE / factor))
    assert pitch_hz(found) == pytest.approx(440 * factor, rel=1e-5)
    # As loud as before, but for the ends.
    assert np.sqrt(np.mean(found**2)) == pytest.approx(np.sqrt(np.mean(samples**2)), rel=0.01)


def test_a_click_stays_where_its_time_is() -> None:
    click = np.zeros(RATE)
    click[8000] = 1.0
    for factor in (0.9, 1.1, 1.25):
        assert abs(int(np.argmax(at_speed(click, factor))) - 8000 / factor) <= 1


def test_there_and_back_is_the_same_below_the_band_that_is_lost() -> None:
    random = np.random.default_rng(0)
    spectrum = np.fft.rfft(random.standard_normal(RATE))
    spectrum[5000:] = 0
    samples = np.fft.irfft(spectrum, RATE)
    back = at_speed(at_speed(samples, 1.1), 1 / 1.1)
    middle = slice(1000, -1000)
    assert np.abs(back[: len(samples)][middle] - samples[: len(back)][middle]).max() < 1e-3 * np.abs(samples).max()


@pytest.mark.parametrize("samples", [1, 2, 100])
def test_short_stretches_keep_their_length(samples: int) -> None:
    for factor in (0.9, 1.1, 4):
        assert len(at_speed(np.ones(samples), factor)) == max(1, round(samples / factor))


def decay_s(response: np.ndarray) -> float:
    """T60 by Schroeder's backward integration (1965): a line through −5 to −35 dB, drawn out to 60 dB."""
    energy = np.cumsum(response[::-1] ** 2)[::-1]
    level_db = 10 * np.log10(energy / energy[0])
    part = (level_db < -5) & (level_db > -35)
    slope = np.polyfit(np.flatnonzero(part) / RATE, level_db[part], 1)[0]
    return -60 / slope


@pytest.mark.parametrize("t60", [0.2, 0.4, 1.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_echo_decays_in_the_time_asked_for(t60: float, seed: int) -> None:
    click = np.zeros(2 * RATE)
    click[100] = 0.5
    heard = with_room(click, RATE, t60, seed)
    assert not heard[:100].any() or np.abs(heard[:100]).max() < 1e-12
    assert np.argmax(np.abs(heard)) == 100
    # The integration runs over the echo alone: the direct sound would be a step of its own.
    assert decay_s(heard[100 + round(0.006 * RATE) :]) == pytest.approx(t60, rel=0.05)


@pytest.mark.parametrize("direct_db", [-6.0, 0.0, 10.0])
def test_direct_sound_and_echo_stand_in_the_ratio_asked_for(direct_db: float) -> None:
    response = room_response(RATE, 0.5, 3, direct_db=direct_db)
    assert response[0] == 1
    assert not response[1 : 1 + RATE // 200].any()
    assert 10 * np.log10(1 / np.sum(response[1:] ** 2)) == pytest.approx(direct_db, abs=1e-9)


def test_length_loudness_and_dtype_stay() -> None:
    samples = tone(300)
    before = samples.copy()
    heard = with_room(samples, RATE, 0.5, 0)
    assert (heard.shape, heard.dtype) == (samples.shape, np.float32)
    assert np.sqrt(np.mean(heard**2)) == pytest.approx(np.sqrt(np.mean(samples**2)), rel=1e-5)
    assert (samples == before).all()
    assert not np.allclose(heard, samples, atol=0.05)
    assert (with_room(samples, RATE, 0.5, 0) == heard).all()
    assert not np.allclose(with_room(samples, RATE, 0.5, 1), heard, atol=0.01)
    assert not with_room(np.zeros(50), RATE, 0.5, 0).any()


def test_noise_on_top_has_its_ratio() -> None:
    heard = with_room(tone(300).astype(np.float64), RATE, 0.4, 0)
    noise = add_noise(heard, 7, seed=0, kind="pink") - heard
    assert 10 * np.log10(np.sum(heard**2) / np.sum(noise**2)) == pytest.approx(7, abs=1e-6)


@pytest.mark.parametrize("change", [lambda s: at_speed(s, 1.1), lambda s: with_room(s, RATE, 0.4, 0)])
@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (np.ones((3, 2)), r"one channel[\s\S]*\(3, 2\)"),
        (np.zeros(0), "at least one"),
        (np.ones(3, np.int16), "int16[\\s\\S]*32768"),
        (np.array([1.0, np.nan]), "1 of 2 samples"),
    ],
)
def test_what_is_no_recording_is_refused(change, samples, words) -> None:
    with pytest.raises(BadInput, match=words):
        change(samples)


def test_rooms_and_speeds_that_cannot_be_are_refused() -> None:
    for factor in (0, -1, 5, math.nan, True, "fast"):
        with pytest.raises(BadOption, match="speed that speech has not"):
            at_speed(tone(300), factor)
    for t60 in (0, -1, 11, math.nan, None):
        with pytest.raises(BadOption, match="room that cannot be"):
            with_room(tone(300), RATE, t60, 0)
    with pytest.raises(BadOption, match="direct_db=inf"):
        with_room(tone(300), RATE, 0.5, 0, direct_db=math.inf)
    for rate in (0, -8000, math.nan, math.inf):
        with pytest.raises(BadInput, match="sample rate"):
            with_room(tone(300), rate, 0.5, 0)
