"""Log-mel features become sound again: what a spectrogram that a network likes is like to listen to.

Two things were lost on the way to the features, and are guessed here. The power within each mel band: found by
non-negative factorisation with the mel filters as one factor, Kullback-Leibler divergence as the measure (Lee and Seung
2001; scikit-learn's), from a flat start, so that power stays spread over a band. A non-negative least-squares solution
fits the bands more closely, but takes fifty times as long and puts all power of a band on one frequency, which rings.
The phases: by the fast Griffin-Lim algorithm (Perraudin, Balazs and Søndergaard 2013).
"""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.decomposition import non_negative_factorization
from torch import Tensor

from otoscope.base import BadInput, BadOption, atomic_path
from otoscope.hear.audio import FFT_SAMPLES, HOP_SAMPLES, POWER_FLOOR, SAMPLE_RATE, WINDOW_SAMPLES, mel_filters

SPEECH_LEVEL = (-8.0, 3.8)
"""Mean and standard deviation of the log-mel values of read speech (LibriSpeech: -8.1 ± 0.5 and 3.8 ± 0.2)."""

# More do not bring the bands nearer.
_FACTOR_STEPS = 50
_MOMENTUM = 0.99
# The loudest that speech gets is about 9; beyond this the samples would be far off any scale.
_LOUDEST = 25.0


def sound(
    log_mel: ArrayLike,
    sample_rate: int = SAMPLE_RATE,
    *,
    level: tuple[float, float] | None = None,
    iterations: int = 64,
    seed: int = 0,
) -> NDArray[np.float32]:
    """A waveform whose log-mel features are close to those given.

    Args:
        log_mel: `(frame, mel)`, two frames or more, 10 ms apart: natural logarithm of power, as
            `otoscope.hear.audio.log_mel` gives it.
        sample_rate: of the waveform, in Hz; anything but 16 kHz is resampled.
        level: `(mean, standard deviation)` that were taken off, where the features are normalised as for a network.
            `SPEECH_LEVEL` is usual.
        iterations: of Griffin-Lim.
        seed: of the phases that it starts from.

    Returns:
        Samples `(sample,)`, float32, `(frames - 1) · 0.01` seconds. Full scale is 1, which loud features can exceed;
        `write_sound` brings them back.

    Raises:
        BadInput: not two frames or more of finite values, or values louder than any sound.
        BadOption: a level, a sample rate or a number of iterations that cannot be.
    """
    values = np.asarray(log_mel, np.float64)
    if values.ndim != 2 or len(values) < 2 or values.shape[1] < 1:
        raise BadInput(
            "this is no spectrogram that can be heard",
            got=f"an array of shape {values.shape}",
            wanted="shape (frame, mel), two frames or more",
        )
    if level is not None:
        mean, deviation = level
        if not (math.isfinite(mean) and 0 < deviation < math.inf):
            raise BadOption("level of a sound", got=level, wanted="(mean, standard deviation), such as SPEECH_LEVEL")
        values = mean + deviation * values
    finite = np.isfinite(values)
    loudest = values[finite].max(initial=-math.inf)
    if not finite.all() or loudest > _LOUDEST:
        raise BadInput(
            "log-mel values that no sound has",
            got=f"{int((~finite).sum())} values not finite, the largest {loudest:.3g}",
            wanted=f"finite values up to {_LOUDEST:g}, the natural logarithm of power",
            remedy="give level= for features that were normalised; a smaller standard deviation",
        )
    if sample_rate != int(sample_rate) or sample_rate <= 0 or iterations != int(iterations) or iterations < 0:
        raise BadOption(
            "how a sound is made",
            got=f"sample_rate={sample_rate}, iterations={iterations}",
            wanted="a whole number of Hz above 0, and of iterations, 0 or more",
        )
    samples = griffin_lim(torch.from_numpy(np.sqrt(power_spectrum(values))), iterations, seed)
    found = samples.numpy().astype(np.float32)
    return found if sample_rate == SAMPLE_RATE else soxr.resample(found, SAMPLE_RATE, sample_rate, quality="HQ")


def power_spectrum(log_mel: NDArray[np.float64]) -> NDArray[np.float64]:
    """A power spectrum `(frame, bin)`, 0 or more, whose mel bands are nearly `exp(log_mel)` `(frame, mel)`."""
    bands = np.maximum(np.exp(log_mel) - POWER_FLOOR, 0)
    filters = mel_filters(log_mel.shape[1]).double().numpy()
    # The factorisation treats as zero what is far below one, so every frame is brought to one.
    loudest = bands.max(axis=1, keepdims=True)
    loudest[loudest == 0] = 1
    power, _, _ = non_negative_factorization(
        bands / loudest,
        H=filters,
        n_components=len(filters),
        update_H=False,
        solver="mu",
        beta_loss="kullback-leibler",
        tol=0,
        max_iter=_FACTOR_STEPS,
    )
    return power * loudest


def griffin_lim(magnitude: Tensor, iterations: int = 64, seed: int = 0) -> Tensor:
    """Samples `(sample,)` whose spectrum, windowed as for the features, has nearly these magnitudes `(frame, bin)`."""
    window = torch.hann_window(WINDOW_SAMPLES, dtype=magnitude.dtype)
    length = (len(magnitude) - 1) * HOP_SAMPLES

    def from_spectrum(spectrum: Tensor) -> Tensor:
        return torch.istft(spectrum, FFT_SAMPLES, HOP_SAMPLES, WINDOW_SAMPLES, window, center=True, length=length)

    def to_spectrum(samples: Tensor) -> Tensor:
        return torch.stft(
            samples, FFT_SAMPLES, HOP_SAMPLES, WINDOW_SAMPLES, window, pad_mode="constant", return_complex=True
        )

    wanted = magnitude.T
    noise = torch.Generator().manual_seed(seed)
    turns = 2 * math.pi * torch.rand(wanted.shape, generator=noise, dtype=magnitude.dtype)
    phases = torch.polar(torch.ones_like(turns), turns)
    before: Tensor | None = None
    for _ in range(iterations):
        rebuilt = to_spectrum(from_spectrum(wanted * phases))
        ahead = rebuilt if before is None else rebuilt + _MOMENTUM * (rebuilt - before)
        phases, before = torch.sgn(ahead), rebuilt
    return from_spectrum(wanted * phases)


def write_sound(path: Path | str, samples: ArrayLike, sample_rate: int = SAMPLE_RATE) -> Path:
    """Write samples `(sample,)` as a 16-bit WAV file, in one step; what exceeds full scale is made quieter as a whole.

    Raises:
        BadInput: no samples, or samples that are not finite. OtoscopeError: the file cannot be written.
    """
    values = np.asarray(samples, np.float32)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise BadInput("these are no samples", got=f"shape {values.shape}", wanted="finite values (sample,)")
    peak = float(np.abs(values).max())
    if peak > 0.99:
        values = values * (0.99 / peak)
    # Through memory, so that a full disk is an OSError and not a "System error" of libsndfile.
    wav = io.BytesIO()
    soundfile.write(wav, values, int(sample_rate), subtype="PCM_16", format="WAV")
    with atomic_path(Path(path)) as temporary:
        temporary.write_bytes(wav.getvalue())
    return Path(path)
