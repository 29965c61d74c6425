"""Waveforms become log-mel features, shapes `(frame, mel)`, and features become padded batches.

16 kHz, a 25 ms Hann window every 10 ms, 128 mel bands, natural logarithm, then z-normalised over the whole
utterance: mean 0 and standard deviation 1 over all its frames and bands together. Frame `t` is centred at
`t * HOP_S` seconds, so a recording of `n` samples has `1 + n // HOP_SAMPLES` frames.

The bands reach from 0 to 8 kHz, or to `top_hz`. Recordings at lower rates are resampled and have nothing above half
their own rate: of telephone speech at 8 kHz the upper 28 of 128 bands are empty, unless `top_hz=TELEPHONE_HZ`.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import soxr
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from otoscope.base import BadInput, BadOption
from otoscope.hear.corpus import Utterance, load_audio

SAMPLE_RATE = 16_000
HOP_SAMPLES = 160
WINDOW_SAMPLES = 400
# The window is zero-padded to this length: with 512 points the lowest mel bands would lie between two of its bins.
FFT_SAMPLES = 1024
MELS = 128
HOP_S = HOP_SAMPLES / SAMPLE_RATE
TOP_HZ = SAMPLE_RATE / 2
TELEPHONE_HZ = 4000.0
"""The upper end of the bands for recordings at 8 kHz."""
LEAST_TOP_HZ = 1000.0
# Added to the power before the logarithm: 100 dB below full scale, quieter than any recording's own noise.
POWER_FLOOR = 1e-10 * WINDOW_SAMPLES

# Slaney's mel scale: linear below 1 kHz, logarithmic above.
_LINEAR_HZ_A_MEL = 200 / 3
_BREAK_HZ = 1000.0
_LOG_STEP = math.log(6.4) / 27


def hz_to_mel(hz: ArrayLike) -> np.ndarray:
    """Frequency in Hz to mel (Slaney's Auditory Toolbox scale)."""
    hz = np.asarray(hz, np.float64)
    high = _BREAK_HZ / _LINEAR_HZ_A_MEL + np.log(np.maximum(hz, _BREAK_HZ) / _BREAK_HZ) / _LOG_STEP
    return np.where(hz < _BREAK_HZ, hz / _LINEAR_HZ_A_MEL, high)


def mel_to_hz(mel: ArrayLike) -> np.ndarray:
    """Mel to frequency in Hz: the inverse of `hz_to_mel`."""
    mel = np.asarray(mel, np.float64)
    break_mel = _BREAK_HZ / _LINEAR_HZ_A_MEL
    high = _BREAK_HZ * np.exp((np.maximum(mel, break_mel) - break_mel) * _LOG_STEP)
    return np.where(mel < break_mel, mel * _LINEAR_HZ_A_MEL, high)


def mel_frequencies(mels: int = MELS, top_hz: float = TOP_HZ) -> np.ndarray:
    """The centre frequency in Hz of each mel band, shape `(mel,)`."""
    return mel_to_hz(np.linspace(0.0, float(hz_to_mel(top_hz)), mels + 2))[1:-1]


@functools.cache
def mel_filters(mels: int = MELS, top_hz: float = TOP_HZ) -> Tensor:
    """Triangular filters of unit area, shape `(bin, mel)`, for the power spectrum of a padded window."""
    edges = mel_to_hz(np.linspace(0.0, float(hz_to_mel(top_hz)), mels + 2))
    bins = np.linspace(0.0, SAMPLE_RATE / 2, FFT_SAMPLES // 2 + 1)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    triangles = np.maximum(0.0, np.minimum(rising, falling)) * 2.0 / (edges[2:] - edges[:-2])
    return torch.from_numpy(triangles.astype(np.float32))


@functools.cache
def _window() -> Tensor:
    return torch.hann_window(WINDOW_SAMPLES)


def log_mel(samples: ArrayLike, mels: int = MELS, top_hz: float = TOP_HZ) -> Tensor:
    """Log-mel energies (natural logarithm of power) of 16 kHz `samples` in [-1, 1], `(frame, mel)`, not normalised."""
    signal = torch.as_tensor(np.ascontiguousarray(samples, dtype=np.float32))
    spectrum = torch.stft(
        signal,
        FFT_SAMPLES,
        hop_length=HOP_SAMPLES,
        win_length=WINDOW_SAMPLES,
        window=_window(),
        center=True,
        pad_mode="constant",
        return_complex=True,
    )
    power = spectrum.real.square() + spectrum.imag.square()
    return torch.log(power.T @ mel_filters(mels, top_hz) + POWER_FLOOR)


def features(audio: ArrayLike, sample_rate: int, mels: int = MELS, *, top_hz: float = TOP_HZ) -> Tensor:
    """The network's input: z-normalised log-mel features, shape `(frame, mel)`, float32.

    Args:
        audio: samples, shape `(sample,)`, full scale 1. Integers are taken as PCM and scaled.
        sample_rate: in Hz; anything but 16 kHz is resampled (soxr, high quality).
        mels: how many mel bands.
        top_hz: where they end, 1000 to 8000 Hz. A network that is to hear nothing but telephones has no use for bands
            above `TELEPHONE_HZ`.

    Raises:
        BadInput: no samples, more than one channel, samples that are not finite, or a sample rate that is no whole
            number above 0. BadOption: another `top_hz`.
    """
    samples = np.asarray(audio)
    if np.issubdtype(samples.dtype, np.integer):
        samples = samples.astype(np.float32) / -float(np.iinfo(samples.dtype).min)
    samples = samples.astype(np.float32, copy=False)
    if samples.ndim != 1 or len(samples) == 0:
        raise BadInput(
            "these are not samples of one channel",
            got=f"an array of shape {samples.shape}",
            wanted="shape (sample,), at least one sample",
        )
    if not _number(sample_rate) or sample_rate <= 0 or sample_rate != int(sample_rate):
        raise BadInput(
            "the sample rate cannot be", got=f"{sample_rate} Hz", wanted="a whole number above 0, such as 16000"
        )
    require_top_hz(top_hz)
    if not np.isfinite(samples).all():
        raise BadInput(
            "the recording has samples that are not finite",
            got=f"{int((~np.isfinite(samples)).sum())} of {len(samples)} samples NaN or infinite",
            remedy="convert the recording again, or leave it out",
        )
    if sample_rate != SAMPLE_RATE:
        samples = soxr.resample(samples, sample_rate, SAMPLE_RATE, quality="HQ")
    return normalise(log_mel(samples, mels, float(top_hz)))


def require_top_hz(top_hz: float) -> None:
    """Refuse what cannot be the upper end of mel bands.

    Raises:
        BadOption: no number from 1000 to 8000 Hz.
    """
    if not _number(top_hz) or not LEAST_TOP_HZ <= top_hz <= TOP_HZ:
        raise BadOption(
            "mel bands cannot end there", got=f"top_hz={top_hz!r}", wanted=f"{LEAST_TOP_HZ:g} to {TOP_HZ:g} Hz"
        )


def _number(value: object) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and bool(np.isfinite(value))


def normalise(values: Tensor) -> Tensor:
    """Mean 0 and standard deviation 1 over the whole spectrogram `(frame, mel)`; a constant one becomes zeros."""
    centred = values - values.mean()
    deviation = centred.square().mean().sqrt()
    # A constant -17, the logarithm of silence, leaves about 2e-6 when its mean is rounded to float32.
    return centred / deviation if deviation > 1e-4 else torch.zeros_like(values)


def utterance_features(utterance: Utterance, mels: int = MELS, *, top_hz: float = TOP_HZ) -> Tensor:
    """The features of an utterance, shape `(frame, mel)`: those it carries, or those of its audio.

    Raises:
        BadInput: naming the utterance, when its audio cannot be read, or its features are not finite `(frame, mels)`.
    """
    if utterance.features is None:
        samples, sample_rate = load_audio(utterance)
        try:
            return features(samples, sample_rate, mels, top_hz=top_hz)
        except BadInput as error:
            raise BadInput(
                f"{utterance.id}: {error.problem}", got=error.got, wanted=error.wanted, remedy=error.remedy
            ) from error
    values = torch.as_tensor(np.asarray(utterance.features, np.float32))
    if values.ndim != 2 or len(values) == 0 or values.shape[1] != mels:
        raise BadInput(
            f"{utterance.id}: features of the wrong shape",
            got=tuple(values.shape),
            wanted=f"(frame, {mels}) with at least one frame",
        )
    if not bool(torch.isfinite(values).all()):
        raise BadInput(
            f"{utterance.id}: features that are not finite",
            got=f"{int((~torch.isfinite(values)).sum())} values NaN or infinite",
            wanted="finite values",
        )
    return values


def pad_batch(items: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Stack `(frame, mel)` features into `(batch, frame, mel)`, padded with zeros; and their lengths."""
    lengths = torch.tensor([len(item) for item in items])
    return torch.nn.utils.rnn.pad_sequence(list(items), batch_first=True), lengths


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """torch on one thread: features then have the same bits in whichever process they are computed.

    Transforms of a second of sound are too small to share anyway, and wait when others are busy.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
