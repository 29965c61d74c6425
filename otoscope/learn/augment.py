"""The same speech, different in each epoch: other speeds and noise in the waveform, masks in the spectrogram.

What an utterance becomes depends on the run's seed, the epoch and the utterance's id alone.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal

import numpy as np
import soxr
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from otoscope.base import BadInput, derive_seed
from otoscope.hear.audio import HOP_SAMPLES, SAMPLE_RATE, TOP_HZ, features, one_thread, utterance_features
from otoscope.hear.noise import BABBLE_VOICES, add_noise
from otoscope.hear.utterance import Utterance, duration_s, load_audio


class Perturbation(BaseModel):
    """What is done to waveforms in training. Unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    speeds: tuple[float, ...] = Field(
        default=(), description="one is drawn for each utterance and epoch; 1.1 is a tenth faster, and higher in pitch"
    )
    noises: tuple[Literal["white", "pink", "babble"], ...] = Field(
        default=(), description="kinds, of which one is drawn"
    )
    noise_share: float = Field(default=0.5, ge=0, le=1, description="of the utterances that get noise in an epoch")
    snr_db: tuple[float, float] = Field(default=(5.0, 20.0), description="lowest and highest signal-to-noise ratio")

    @model_validator(mode="after")
    def _check(self) -> Perturbation:
        if any(not 0.5 <= speed <= 2 for speed in self.speeds):
            raise ValueError(f"speeds: {self.speeds} are not all within 0.5 and 2")
        if not -100 <= self.snr_db[0] <= self.snr_db[1] <= 100:
            raise ValueError(f"snr_db: {self.snr_db} is not a lowest and a highest ratio in dB")
        return self

    def __bool__(self) -> bool:
        return bool(self.speeds or (self.noises and self.noise_share))


class Recording:
    """The features of an utterance, computed from its waveform each time, changed as asked from epoch 1 on.

    Args:
        utterance: with audio; one that carries features only gives these.
        mels: how many mel bands.
        perturbation: what is done to the waveform.
        seed: of the training.
        others: of which babble is made; those without audio and the utterance itself are passed over.
    """

    def __init__(
        self,
        utterance: Utterance,
        mels: int,
        perturbation: Perturbation | None = None,
        seed: int = 0,
        others: Sequence[Utterance] = (),
        *,
        top_hz: float = TOP_HZ,
    ):
        self.utterance, self.mels, self.top_hz, self.seed, self.others = utterance, mels, top_hz, seed, others
        self.perturbation = perturbation or Perturbation()
        if utterance.audio is None:
            self.frames = len(utterance_features(utterance, mels))
        else:
            self.frames = 1 + int(duration_s(utterance) * SAMPLE_RATE) // HOP_SAMPLES

    def __len__(self) -> int:
        return self.frames

    def __call__(self, epoch: int) -> Tensor:
        """The features `(frame, mel)` of an epoch; of epoch 0 unchanged.

        Raises:
            BadInput: the audio cannot be read; babble is asked for and there are fewer than 6 others with sound.
        """
        with one_thread():
            if epoch == 0 or not self.perturbation or self.utterance.audio is None:
                return utterance_features(self.utterance, self.mels, top_hz=self.top_hz)
            samples, rate = load_audio(self.utterance)
            return features(self.perturbed(samples, rate, epoch), SAMPLE_RATE, self.mels, top_hz=self.top_hz)

    def perturbed(self, samples: NDArray[np.floating], rate: int, epoch: int) -> NDArray[np.floating]:
        """The samples of an epoch, `(sample,)` at 16 kHz."""
        rng = random.Random(derive_seed(self.seed, "perturbation", epoch, self.utterance.id))
        speed = rng.choice(self.perturbation.speeds) if self.perturbation.speeds else 1.0
        # Taken as recorded at another rate (Ko et al. 2015).
        if rate * speed != SAMPLE_RATE:
            samples = soxr.resample(samples, rate * speed, SAMPLE_RATE, quality="HQ")
        if not self.perturbation.noises or rng.random() >= self.perturbation.noise_share or not samples.any():
            return samples
        kind = rng.choice(self.perturbation.noises)
        snr_db = rng.uniform(*self.perturbation.snr_db)
        voices = self._voices(rng) if kind == "babble" else None
        return add_noise(samples, snr_db, seed=rng.getrandbits(31), kind=kind, babble=voices)

    def _voices(self, rng: random.Random) -> list[NDArray[np.floating]]:
        voices: list[NDArray[np.floating]] = []
        for index in rng.sample(range(len(self.others)), len(self.others)):
            other = self.others[index]
            if other.id == self.utterance.id or other.audio is None:
                continue
            samples, rate = load_audio(other)
            if samples.any():
                voices.append(
                    samples if rate == SAMPLE_RATE else soxr.resample(samples, rate, SAMPLE_RATE, quality="HQ")
                )
            if len(voices) == BABBLE_VOICES:
                return voices
        raise BadInput(
            f"utterance {self.utterance.id}: there are too few others for babble",
            got=f"{len(voices)} other utterances with sound",
            wanted=f"{BABBLE_VOICES} or more",
            remedy="train on more utterances, or with white or pink noise",
        )


class Masks(BaseModel):
    """Bands of mel bins and stretches of frames set to 0, the mean (SpecAugment; Park et al. 2019)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mask_mels: int = Field(default=20, ge=0, description="widest band of mel bins masked in an utterance (SpecAugment)")
    mask_frames: int = Field(default=8, ge=0, description="longest stretch of frames masked in an utterance")
    mel_masks: int = Field(default=1, ge=0, description="how many bands are masked in an utterance")
    frame_masks: int = Field(default=1, ge=0, description="how many stretches of frames")
    mask_share: float = Field(default=1.0, ge=0, le=1, description="no stretch is longer than this share of the frames")

    def masked(self, features: Tensor, rng: random.Random) -> Tensor:
        """Features `(frame, mel)` with masks drawn from `rng`; what was given is left as it is."""
        if not (self.mask_mels or self.mask_frames):
            return features
        features = features.clone()
        longest = min(self.mask_frames, int(self.mask_share * len(features)))
        for axis, widest, count in ((1, self.mask_mels, self.mel_masks), (0, longest, self.frame_masks)):
            for _ in range(count):
                width = rng.randint(0, min(widest, features.shape[axis]))
                start = rng.randint(0, features.shape[axis] - width)
                features.narrow(axis, start, width).zero_()
        return features
