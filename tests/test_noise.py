"""Noise at the ratio asked for, of the spectrum asked for, the same each time."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
from recordings import RATE, write_audio
from scipy.signal import welch

from otoscope.base import BadInput, BadOption
from otoscope.hear.corpus import Utterance, load_audio
from otoscope.hear.noise import add_noise, noisy
from otoscope.hear.utterance import duration_s


def speech(seed: int = 0, samples: int = 8000) -> np.ndarray:
    """Bursts of a tone between pauses."""
    t = np.arange(samples) / RATE
    return (0.3 * np.sin(2 * np.pi * (200 + 30 * seed) * t) * (np.sin(2 * np.pi * 4 * t + seed) > 0)).astype(np.float32)


def ratio_db(samples: np.ndarray, result: np.ndarray) -> float:
    noise = result.astype(np.float64) - samples.astype(np.float64)
    return 10 * math.log10(np.sum(samples.astype(np.float64) ** 2) / np.sum(noise**2))


VOICES = [speech(seed, 5000 + 1000 * seed) for seed in range(1, 7)]


@pytest.mark.parametrize("kind", ["white", "pink", "babble"])
@pytest.mark.parametrize("snr_db", [-20, 0, 7.5, 40])
def test_the_ratio_is_the_one_asked_for(kind: str, snr_db: float) -> None:
    for dtype, exact in ((np.float64, 1e-9), (np.float32, 1e-3)):
        samples = speech().astype(dtype)
        before = samples.copy()
        result = add_noise(samples, snr_db, seed=1, kind=kind, babble=VOICES)
        assert result.dtype == dtype
        assert result.shape == samples.shape
        assert ratio_db(samples, result) == pytest.approx(snr_db, abs=exact)
        assert (samples == before).all()
    for scale in (1e-200, 1e150):
        result = add_noise(scale * speech().astype(np.float64), snr_db, seed=1, kind=kind, babble=VOICES)
        assert ratio_db(speech().astype(np.float64), result / scale) == pytest.approx(snr_db, abs=1e-6)


def test_the_seed_decides_and_the_ratio_only_how_loud() -> None:
    samples = speech().astype(np.float64)
    for kind in ("white", "pink", "babble"):
        noise = [add_noise(samples, snr, seed=s, kind=kind, babble=VOICES) - samples for snr, s in ((5, 1), (5, 1))]
        assert (noise[0] == noise[1]).all()
        louder = add_noise(samples, -15, seed=1, kind=kind, babble=VOICES) - samples
        np.testing.assert_allclose(louder, 10 * noise[0], rtol=1e-6, atol=1e-12)
        other = add_noise(samples, 5, seed=2, kind=kind, babble=VOICES) - samples
        assert abs(np.corrcoef(noise[0], other)[0, 1]) < 0.5


@pytest.mark.parametrize(("kind", "slope"), [("white", 0), ("pink", -1)])
def test_the_spectrum_falls_as_it_should(kind: str, slope: float) -> None:
    """Power against frequency on logarithmic axes, by Welch's method: 3 dB an octave less for pink noise."""
    samples = np.ones(400_000)
    frequency, power = welch(add_noise(samples, 0, seed=0, kind=kind) - samples, RATE, nperseg=4096)
    band = (frequency > 40) & (frequency < 7000)
    assert np.polyfit(np.log(frequency[band]), np.log(power[band]), 1)[0] == pytest.approx(slope, abs=0.05)


def test_babble_is_the_sum_of_the_voices_each_as_loud() -> None:
    """Tones of six frequencies and loudnesses: each has its peak in the spectrum, all of one height."""
    hz = np.array([300, 500, 700, 900, 1100, 1300])
    voices = [10.0**-i * np.sin(2 * np.pi * f * np.arange(RATE // 2) / RATE) for i, f in enumerate(hz)]
    samples = np.random.default_rng(0).normal(size=RATE)
    noise = add_noise(samples, 0, seed=3, kind="babble", babble=voices) - samples
    spectrum = np.abs(np.fft.rfft(noise)) ** 2
    assert spectrum[hz].sum() / spectrum.sum() == pytest.approx(1, abs=1e-9)
    np.testing.assert_allclose(spectrum[hz], spectrum[hz].mean(), rtol=1e-6)


@pytest.mark.parametrize(
    ("samples", "options", "words"),
    [
        (np.zeros(100), {}, "silent"),
        (np.zeros(0), {}, "shape"),
        (np.ones((4, 2)), {}, r"(?s)one channel.*\(4, 2\)"),
        (np.ones(9, np.int16), {}, "(?s)not floats.*32768"),
        (np.array([1, np.nan]), {}, "1 of 2 samples"),
        (np.ones(1), {"kind": "pink"}, "too short for pink"),
        (np.ones(9), {"kind": "babble", "babble": [np.ones(5), np.zeros(5)]}, "voice of the babble are silent"),
        (speech().astype(np.float16), {"snr_db": 90}, "(?s)does not fit.*float16.*float64"),
        (speech(), {"snr_db": -5000}, "does not fit"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_samples_that_cannot_take_noise_are_refused(samples: np.ndarray, options: dict, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        add_noise(samples, **({"snr_db": 10, "seed": 0} | options))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "brown"}, "unknown kind of noise"),
        ({"snr_db": math.inf}, "no number"),
        ({"snr_db": "loud"}, "no number"),
        ({"kind": "babble"}, "needs voices"),
    ],
)
def test_options_are_checked(options: dict, words: str) -> None:
    with pytest.raises(BadOption, match=words):
        add_noise(speech(), **({"snr_db": 10, "seed": 0} | options))


def corpus(folder: Path, count: int = 8) -> list[Utterance]:
    """Half of them recordings, one of those a stretch of its file."""
    made = []
    for i in range(count):
        audio = write_audio(folder / f"{i}.wav", speech(i)) if i % 2 else speech(i)
        made.append(Utterance(f"u{i}", audio, RATE, f"TEXT {i}", "ann", {"word": [(0, 0.1, "a")]}, dialect=i))
    return [*made[:-1], made[-1].replace(offset_samples=1000, num_samples=4000, channel=0)]


@pytest.mark.parametrize("kind", ["white", "pink", "babble"])
def test_noisy_utterances_are_the_same_but_for_the_noise(tmp_path: Path, kind: str) -> None:
    clean = corpus(tmp_path)
    before = [copy.deepcopy(vars(utterance)) for utterance in clean]
    found = noisy(clean, 10, kind=kind)
    for old, new, was in zip(clean, found, before, strict=True):
        for name in ("id", "text", "speaker", "tiers"):
            assert getattr(new, name) == getattr(old, name)
        assert new.attributes == {"dialect": old.dialect, "snr_db": 10, "noise": kind}
        assert new.sample_rate == RATE
        assert load_audio(new)[0].dtype == np.float32
        assert ratio_db(load_audio(old)[0], load_audio(new)[0]) == pytest.approx(10, abs=1e-3)
        assert duration_s(new) == duration_s(old)
        # A copy of the tiers' lists may be shared; what they hold must not have changed.
        assert str(vars(old)) == str(was)
    assert len(load_audio(found[-1])[0]) == 4000


@pytest.mark.parametrize("kind", ["white", "pink", "babble"])
def test_the_noise_belongs_to_the_id_and_the_seed(tmp_path: Path, kind: str) -> None:
    clean = [utterance.replace(audio=speech()) for utterance in corpus(tmp_path)[:-1]]
    first, again, other = noisy(clean, 10, kind=kind), noisy(clean, 10, kind=kind), noisy(clean, 10, seed=1, kind=kind)
    for a, b, c in zip(first, again, other, strict=True):
        assert (a.audio == b.audio).all()
        assert not (a.audio == c.audio).all()
    assert not (first[0].audio == first[1].audio).all()
    if kind != "babble":
        assert (noisy(clean[3:4], 10, kind=kind)[0].audio == first[3].audio).all()


def test_babble_is_of_six_others(tmp_path: Path) -> None:
    """Each speaks at a frequency of its own, so that the spectrum tells who is in the babble."""
    t = np.arange(RATE) / RATE
    hz = [300 + 100 * i for i in range(10)]
    tones = [Utterance(f"u{i}", 0.1 * np.sin(2 * np.pi * f * t), RATE) for i, f in enumerate(hz)]
    # At another rate, and silent: resampled, and passed over.
    slow = 0.1 * np.sin(2 * np.pi * hz[4] * np.arange(8000) / 8000)
    tones[4] = Utterance("u4", slow, 8000)
    tones[5] = Utterance("u5", write_audio(tmp_path / "s.wav", np.zeros(9)), RATE)
    speaking = [u for u in tones if u.id != "u5"]
    seen = set()
    for utterance, new in zip(
        speaking[:4], noisy(tones[:4] + tones[4:5] + speaking[5:], 0, kind="babble"), strict=False
    ):
        noise = new.audio.astype(np.float64) - load_audio(utterance)[0]
        spectrum = np.abs(np.fft.rfft(noise)) ** 2
        heard = [i for i, f in enumerate(hz) if spectrum[f] > 0.05 * spectrum.sum()]
        assert len(heard) == 6
        assert int(utterance.id[1:]) not in heard
        assert 5 not in heard
        seen.add(tuple(heard))
    assert len(seen) > 1
    with pytest.raises(BadInput, match=r"(?s)u0: there are too few others.*5 other"):
        noisy([*speaking[:6], tones[5]], 0, kind="babble")


def test_an_utterance_that_cannot_be_made_noisy_is_named(tmp_path: Path) -> None:
    good = Utterance("good", speech(), RATE)
    mels = np.zeros((5, 128))
    with pytest.raises(BadInput, match=r"(?s)utterance mels cannot be made noisy.*features only"):
        noisy([good, Utterance("mels", features=mels)], 10)
    with pytest.raises(BadInput, match=r"(?s)utterance none cannot be made noisy.*no audio"):
        noisy([good, Utterance("none")], 10)
    with pytest.raises(BadInput, match="utterance quiet: these samples are silent"):
        noisy([good, Utterance("quiet", np.zeros(100), RATE)], 10)
    with pytest.raises(BadInput, match="utterance lost: there is no recording"):
        noisy([good, Utterance("lost", tmp_path / "lost.wav")], 10)
    with pytest.raises(BadOption, match="unknown kind"):
        noisy([], 10, kind="brown")
    assert noisy([], 10) == []
    assert noisy([good.replace(features=mels, snr_db=30)], 10)[0].features is None
    assert noisy([good.replace(snr_db=30)], 10)[0].snr_db == 10


def test_a_recording_with_two_channels_is_averaged(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "two.wav", np.stack([speech(1), speech(2)], 1), RATE)
    utterance = Utterance("two", tmp_path / "two.wav")
    assert ratio_db(load_audio(utterance)[0], noisy([utterance], 3)[0].audio) == pytest.approx(3, abs=1e-3)
