"""Perturbed speech: other speeds, noise at the ratio asked for, the same each time; masks; features from disk."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from otoscope.base import BadInput, BadOption
from otoscope.hear.audio import SAMPLE_RATE, utterance_features
from otoscope.hear.utterance import Utterance
from otoscope.learn.augment import Masks, Perturbation, Recording
from otoscope.learn.examples import Example, features_of
from otoscope.learn.networks import validated

HZ = 1000.0


def tone(id: str, seconds: float = 1.0, rate: int = SAMPLE_RATE, hz: float = HZ, **more) -> Utterance:
    time = np.arange(round(seconds * rate)) / rate
    return Utterance(id, 0.3 * np.sin(2 * np.pi * hz * time), rate, "a", **more)


def loudest_hz(samples: np.ndarray) -> float:
    return float(np.abs(np.fft.rfft(samples)).argmax() * SAMPLE_RATE / len(samples))


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_epoch_0_is_plain(rate):
    utterance = tone("u", rate=rate)
    perturbation = Perturbation(speeds=(0.8,), noises=("white",), noise_share=1.0)
    plain = utterance_features(utterance)
    assert torch.equal(Recording(utterance, 128, perturbation)(0), plain)
    assert torch.equal(Recording(utterance, 128)(3), plain)
    assert len(Recording(utterance, 128, perturbation)) == len(plain)


@pytest.mark.parametrize("rate", [8000, 16000])
@pytest.mark.parametrize("speed", [0.8, 1.25])
def test_faster_is_shorter_and_higher(rate, speed):
    utterance = tone("u", rate=rate)
    samples = Recording(utterance, 128, Perturbation(speeds=(speed,))).perturbed(utterance.audio, rate, 1)
    assert len(samples) == pytest.approx(SAMPLE_RATE / speed, abs=2)
    assert loudest_hz(samples) == pytest.approx(HZ * speed, abs=2)


@pytest.mark.parametrize("kind", ["white", "pink", "babble"])
def test_noise_has_the_ratio_that_was_drawn(kind):
    utterance, others = tone("u"), [tone(f"o{n}", hz=200.0 + 70 * n) for n in range(7)]
    for low, high in ((7.0, 7.0), (0.0, 20.0)):
        recording = Recording(
            utterance, 128, Perturbation(noises=(kind,), noise_share=1.0, snr_db=(low, high)), 3, others
        )
        found = []
        for epoch in range(1, 6):
            noise = recording.perturbed(utterance.audio, SAMPLE_RATE, epoch) - utterance.audio
            found.append(10 * np.log10((utterance.audio**2).sum() / (noise**2).sum()))
        assert low - 0.05 <= min(found) <= max(found) <= high + 0.05
        assert (np.ptp(found) > 2) == (high > low)


def test_the_share_of_utterances_gets_noise():
    perturbation = Perturbation(noises=("white",), noise_share=0.3)
    noisy = 0
    for number in range(200):
        utterance = tone(f"u{number}", 0.02)
        samples = Recording(utterance, 128, perturbation).perturbed(utterance.audio, SAMPLE_RATE, 1)
        noisy += not np.array_equal(samples, utterance.audio)
    assert 40 <= noisy <= 80


def test_what_is_drawn_depends_on_seed_epoch_and_id():
    perturbation = Perturbation(speeds=(0.9, 1.0, 1.1), noises=("white", "pink"), noise_share=1.0)

    def features(id: str, epoch: int, seed: int) -> bytes:
        return Recording(tone(id), 16, perturbation, seed)(epoch).numpy().tobytes()

    assert features("u", 1, 0) == features("u", 1, 0)
    assert len({features("u", 1, 0), features("u", 2, 0), features("v", 1, 0), features("u", 1, 1)}) == 4


def test_what_cannot_be_perturbed_is_left_alone():
    perturbation = Perturbation(noises=("white",), noise_share=1.0)
    silent = Utterance("u", np.zeros(8000), SAMPLE_RATE, "a")
    assert torch.equal(Recording(silent, 128, perturbation)(1), utterance_features(silent))
    carried = Utterance("u", features=np.ones((7, 128), np.float32), text="a")
    recording = Recording(carried, 128, perturbation)
    assert len(recording) == 7
    assert torch.equal(recording(1), torch.ones(7, 128))


def test_babble_takes_others():
    recording = Recording(tone("u"), 128, Perturbation(noises=("babble",), noise_share=1.0), 0, [tone("u"), tone("v")])
    with pytest.raises(BadInput, match=r"utterance u: there are too few[\s\S]*1 other"):
        recording(1)


@pytest.mark.parametrize(
    "values",
    [{"speeds": (0.1,)}, {"snr_db": (20.0, 5.0)}, {"noises": ("street",)}, {"noise_share": 2}, {"volume": 3}],
)
def test_perturbations_that_cannot_be(values):
    with pytest.raises(BadOption, match=next(iter(values))):
        validated(Perturbation, values)


def test_masks_are_as_many_and_as_wide_as_asked_for():
    masks = Masks(mask_mels=4, mask_frames=30, mel_masks=2, frame_masks=3, mask_share=0.1)
    features = torch.arange(1.0, 60 * 40 + 1).view(60, 40)
    widths: dict[str, list[int]] = {"mels": [], "frames": []}
    for seed in range(200):
        found = masks.masked(features, random.Random(seed))
        hidden = found == 0
        mels, frames = hidden.all(0), hidden.all(1)
        assert torch.equal(hidden, mels[None] | frames[:, None])
        assert torch.equal(found[~hidden], features[~hidden])
        for name, axis in (("mels", mels), ("frames", frames)):
            widths[name].append(int(axis.sum()))
            # Stretches that touch count as one.
            assert int((axis.int().diff(prepend=torch.zeros(1).int()) == 1).sum()) <= {"mels": 2, "frames": 3}[name]
    # A tenth of 60 frames is the longest stretch; three may be masked, two bands of four.
    assert max(widths["frames"]) in range(13, 19)
    assert max(widths["mels"]) == 8
    assert (features != 0).all(), "what was given stays as it is"
    assert Masks(mask_mels=0, mask_frames=0).masked(features, random.Random(0)) is features
    assert torch.equal(Masks(mel_masks=0, frame_masks=0).masked(features, random.Random(0)), features)


def test_processes_compute_what_one_does():
    perturbation = Perturbation(speeds=(0.9, 1.1), noises=("white",))
    batches = [
        [Example(f"u{n}", Recording(tone(f"u{n}", 0.2), 16, perturbation), torch.tensor([1]), "a", 2) for n in pair]
        for pair in ((0, 1), (2, 3), (4,))
    ]
    alone, together = (list(features_of(batches, 3, lambda frames: frames, count)) for count in (0, 2))
    assert [len(items) for items in alone] == [2, 2, 1]
    for one, other in zip(alone, together, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_sped_up_beyond_its_text_an_utterance_stays_as_it_is():
    recording = Recording(tone("u", 0.2), 16, Perturbation(speeds=(2.0,)))
    room, tight = (Example("u", recording, torch.tensor([1]), "a", needed) for needed in (11, 12))
    (items,) = features_of([[room, tight]], 1, lambda frames: frames, 0)
    assert [len(item) for item in items] == [11, 21]
