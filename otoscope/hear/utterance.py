"""One utterance: its sound, what is said in it, who says it, and the tiers that tell when; its samples, on request."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
from numpy.typing import ArrayLike, NDArray

from otoscope.base import BadInput, OtoscopeError, Seconds
from otoscope.hear.tiers import Segment, make_tier

STRETCH = ("offset_samples", "num_samples", "offset", "duration", "channel")
"""The attributes that say which part of a recording is meant."""

# A FLAC stream that does not tell its length is reported as about 2^63 samples; a day at 192 kHz is below 2^35.
_LONGEST_SAMPLES = 2**40


class Utterance:
    """A stretch of speech.

    `audio` is the path of a recording or its samples (1-D floats, mono, full scale ±1, with their `sample_rate` in Hz);
    `features` `(frame, mel)` may stand in its place. `tiers` maps a name (`phone`, `word`, anything) to segments
    `(start_s, end_s, label)` in seconds from the start of the utterance, which become `Segment`s.

    Whatever else is given (gender, dialect, noise…) is a free attribute: read it as `utterance.gender` or from
    `utterance.attributes`. Four of them say where the utterance lies in a longer recording: `offset_samples` and
    `num_samples`, or `offset` and `duration` in seconds; without an offset the whole recording is meant. `channel`
    (from 0) picks one channel of it.

    Raises:
        BadInput: an empty id, samples that are not a 1-D float array or come without a rate, a rate of 0, a bad tier.
    """

    def __init__(
        self,
        /,
        id: str,
        audio: str | Path | ArrayLike | None = None,
        sample_rate: int | None = None,
        text: str = "",
        speaker: str | None = None,
        tiers: Mapping[str, Iterable[tuple[Seconds, Seconds, str]]] | None = None,
        features: ArrayLike | None = None,
        **attributes: Any,
    ):
        if not isinstance(id, str) or not id.strip():
            raise BadInput("an utterance needs an id", got=repr(id), wanted="a text that no other utterance has")
        self.id = id
        self.attributes = attributes
        self.sample_rate = None if sample_rate is None else _checked_rate(sample_rate, id)
        self.text = text or ""
        self.speaker = None if speaker is None else str(speaker)
        self.features = None if features is None else np.asarray(features)
        self.audio: Path | NDArray[np.floating] | None
        if audio is None or isinstance(audio, (str, Path)):
            self.audio = None if audio is None else Path(audio)
        else:
            self.audio = _checked_samples(audio, self.sample_rate, id)
        self.tiers: dict[str, list[Segment]] = {}
        for name, segments in (tiers or {}).items():
            try:
                self.tiers[name] = make_tier(name, segments)
            except BadInput as error:
                raise about(id, error) from None

    def __getattr__(self, name: str) -> Any:
        # Copying and unpickling ask for names before `attributes` is there.
        attributes = self.__dict__.get("attributes", {})
        if name in attributes:
            return attributes[name]
        id = self.__dict__.get("id")
        raise AttributeError(f"utterance {id!r} has no attribute {name!r}; it has {', '.join(attributes) or 'none'}")

    def __repr__(self) -> str:
        tiers = ", ".join(f"{name}: {len(tier)}" for name, tier in self.tiers.items())
        return f"<Utterance {self.id!r} {self.speaker or 'unknown speaker'}: {self.text[:40]!r} tiers {{{tiers}}}>"

    def replace(self, **changes: Any) -> Utterance:
        """A copy with some fields or attributes changed."""
        names = ("id", "audio", "sample_rate", "text", "speaker", "tiers", "features")
        return Utterance(**({name: getattr(self, name) for name in names} | self.attributes | changes))


class AudioInfo(NamedTuple):
    """What a recording's header says, and which part of it is the utterance."""

    sample_rate: int
    channels: int
    file_samples: int
    start_samples: int
    num_samples: int


def load_audio(utterance: Utterance) -> tuple[NDArray[np.float32], int]:
    """The samples of an utterance, shape `(sample,)` float32 mono, and their rate in Hz.

    Only the utterance's part of a longer recording is decoded. Several channels are averaged, unless the attribute
    `channel` picks one. Nothing is resampled.

    Raises:
        BadInput: naming the utterance and the file: no audio, a missing, unreadable, empty or truncated recording, one
            at another rate than the utterance says, an offset behind its end, samples that are not finite.
    """
    if isinstance(utterance.audio, np.ndarray):
        samples, sample_rate = utterance.audio.astype(np.float32), int(utterance.sample_rate or 0)
    else:
        with _open(utterance) as file:
            info = _read_info(utterance, file)
            sample_rate = info.sample_rate
            try:
                file.seek(info.start_samples)
                frames = file.read(info.num_samples, dtype="float32", always_2d=True)
            except (soundfile.SoundFileError, OSError) as error:
                raise _unreadable(utterance, str(error)) from error
        if len(frames) < info.num_samples:
            raise _unreadable(utterance, f"it breaks off after {len(frames)} of {info.num_samples} samples")
        channel = utterance.attributes.get("channel")
        samples = frames.mean(axis=1) if channel is None else frames[:, channel]
    if len(samples) == 0:
        raise _empty(utterance)
    if not np.isfinite(samples).all():
        raise BadInput(
            f"utterance {utterance.id}: the recording has samples that are not finite",
            got=f"{np.isnan(samples).sum()} NaN, {np.isinf(samples).sum()} infinite in {_place(utterance)}",
            remedy="convert the recording again, or leave it out",
        )
    return samples, sample_rate


def audio_info(utterance: Utterance) -> AudioInfo:
    """Rate, channels and length of an utterance's recording, from its header alone.

    Raises:
        BadInput: as `load_audio` does, for what a header can show.
    """
    if isinstance(utterance.audio, np.ndarray):
        return AudioInfo(int(utterance.sample_rate or 0), 1, len(utterance.audio), 0, len(utterance.audio))
    with _open(utterance) as file:
        return _read_info(utterance, file)


def duration_s(utterance: Utterance) -> Seconds:
    """How long an utterance lasts: from its attributes where they tell, else from the header of its recording.

    Raises:
        BadInput: as `audio_info`.
    """
    attributes = utterance.attributes
    if not isinstance(utterance.audio, np.ndarray):
        check_stretch(utterance)
        if attributes.get("num_samples") and utterance.sample_rate:
            return attributes["num_samples"] / utterance.sample_rate
        if attributes.get("duration"):
            return float(attributes["duration"])
    info = audio_info(utterance)
    return info.num_samples / info.sample_rate


def check_stretch(utterance: Utterance) -> None:
    """Check the attributes that say where in a recording the utterance lies.

    Raises:
        BadInput: a number of samples that is no whole number, a negative or infinite time, a length of nothing.
    """
    for name, least in (("offset_samples", 0), ("num_samples", 1), ("channel", 0)):
        value = utterance.attributes.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            wanted = f"a whole number, {least} or more"
            raise about(utterance.id, BadInput(f"{name} is no use", got=repr(value), wanted=wanted))
    for name in ("offset", "duration"):
        value = utterance.attributes.get(name)
        if value is None:
            continue
        number = not isinstance(value, bool) and isinstance(value, (int, float)) and math.isfinite(value)
        if not number or value < 0 or (name == "duration" and value == 0):
            raise about(utterance.id, BadInput(f"{name} is no use", got=repr(value), wanted="seconds, 0 or more"))


def about(id: str, error: OtoscopeError) -> BadInput:
    """The same message, with the utterance named."""
    problem = f"utterance {id}: {error.problem}"
    return BadInput(problem, got=error.got, wanted=error.wanted, remedy=error.remedy)


def _checked_rate(sample_rate: Any, id: str) -> int:
    try:
        rate = int(sample_rate)
        whole = rate == sample_rate and not isinstance(sample_rate, bool)
    except (TypeError, ValueError, OverflowError):
        rate, whole = 0, False
    if not whole or rate <= 0:
        raise BadInput(
            f"utterance {id}: a sample rate of {sample_rate!r}",
            wanted="samples a second, a whole number above 0",
            remedy="correct it, or leave it out to take the recording's own",
        )
    return rate


def _checked_samples(audio: ArrayLike, sample_rate: int | None, id: str) -> NDArray[np.floating]:
    samples = np.asarray(audio)
    if samples.ndim != 1 or not np.issubdtype(samples.dtype, np.floating):
        raise BadInput(
            f"utterance {id}: audio that is neither a path nor samples",
            got=f"an array of {samples.dtype} with shape {samples.shape}",
            wanted="a path, or a 1-D array of floats with full scale ±1",
            remedy="average the channels; divide 16-bit integers by 32768",
        )
    if sample_rate is None:
        raise BadInput(f"utterance {id}: samples without a sample rate", wanted="sample_rate=16000, or what it is")
    return samples


def _open(utterance: Utterance) -> soundfile.SoundFile:
    path = utterance.audio
    if not isinstance(path, Path):
        raise BadInput(
            f"utterance {utterance.id}: there is no audio",
            got="features only" if utterance.features is not None else "no audio",
            wanted="the path of a recording, or samples",
        )
    try:
        if not path.is_file():
            raise BadInput(
                f"utterance {utterance.id}: there is no recording {path}",
                remedy="correct the path; in a manifest it is taken from the manifest's folder",
            )
        if path.stat().st_size == 0:
            raise _empty(utterance)
        if (missing := _missing_wav_bytes(path)) > 1:
            raise _unreadable(utterance, f"it breaks off {missing} bytes before its end")
        _check_sphere(utterance, path)
        return soundfile.SoundFile(path)
    # A name that ends in .raw makes soundfile ask for the format by a TypeError; a NUL in a name is a ValueError.
    except (soundfile.SoundFileError, OSError, TypeError, ValueError) as error:
        raise _unreadable(utterance, str(error)) from error


def _missing_wav_bytes(path: Path) -> int:
    # libsndfile reads a WAV file that was cut short as a short one. Writers that could not know the length put a
    # number near 2^31 or 2^32 in its place. A single missing byte may be padding.
    with open(path, "rb") as file:
        head = file.read(12)
        announced = 8 + int.from_bytes(head[4:8], "little")
        told = head[:4] == b"RIFF" and head[8:] == b"WAVE" and announced < 0x7F000000
        return announced - file.seek(0, 2) if told else 0


_SPHERE_FIELD = re.compile(rb"^(sample_coding|sample_count|sample_n_bytes|channel_count) -\w+ (.*?)\s*$", re.MULTILINE)


def _check_sphere(utterance: Utterance, path: Path) -> None:
    """NIST SPHERE files that libsndfile reads as shorter ones, or refuses without a word."""
    with open(path, "rb") as file:
        head = file.read(1024)
        if not head.startswith(b"NIST_1A"):
            return
        said = dict(_SPHERE_FIELD.findall(head))
        if b"shorten" in said.get(b"sample_coding", b""):
            raise BadInput(
                f"utterance {utterance.id}: the recording is packed with shorten, which libsndfile does not read",
                got=str(path),
                wanted="SPHERE with plain samples, WAV or FLAC",
                remedy="unpack it with LDC's sph2pipe -f wav",
            )
        try:
            begin, count = int(head[8:16]), int(said[b"sample_count"])
            frame_bytes = int(said.get(b"channel_count", 1)) * int(said.get(b"sample_n_bytes", 2))
            frames = (file.seek(0, 2) - begin) // frame_bytes
        except (KeyError, ValueError, ZeroDivisionError):
            return
    # Some writers count the samples of all channels.
    if frames < count and count != frames * int(said.get(b"channel_count", 1)):
        raise _unreadable(utterance, f"it breaks off after {frames} of {count} samples")


def _read_info(utterance: Utterance, file: soundfile.SoundFile) -> AudioInfo:
    check_stretch(utterance)
    if file.frames == 0:
        raise _empty(utterance)
    if file.samplerate <= 0 or file.frames > _LONGEST_SAMPLES:
        raise _unreadable(utterance, f"its header says {file.frames} samples at {file.samplerate} Hz")
    if utterance.sample_rate not in (None, file.samplerate):
        raise BadInput(
            f"utterance {utterance.id}: the recording has another sample rate than is said of it",
            got=f"{file.samplerate} Hz in {utterance.audio}",
            wanted=f"{utterance.sample_rate} Hz",
            remedy="correct sample_rate, or leave it out to take the recording's own",
        )
    attributes = utterance.attributes
    start, count = 0, file.frames
    if attributes.get("offset_samples") is not None:
        start = attributes["offset_samples"]
        count = attributes.get("num_samples") or file.frames - start
    elif attributes.get("offset") is not None:
        start = round(attributes["offset"] * file.samplerate)
        length_s = attributes.get("duration")
        # A duration rounded to hundredths may end just behind the recording.
        left = file.frames - start
        count = left if length_s is None else round(length_s * file.samplerate)
        count = left if 0 < count - left <= file.samplerate // 100 else count
    if start + count > file.frames or count <= 0:
        raise BadInput(
            f"utterance {utterance.id}: its part lies behind the end of the recording",
            got=f"samples {start} to {start + count} of {file.frames} in {utterance.audio}",
            remedy="correct the offset, or copy the recording again",
        )
    if (attributes.get("channel") or 0) >= file.channels:
        raise BadInput(
            f"utterance {utterance.id}: the recording has no channel {attributes['channel']}",
            got=f"{file.channels} channel(s), counted from 0, in {utterance.audio}",
        )
    return AudioInfo(file.samplerate, file.channels, file.frames, start, count)


def _place(utterance: Utterance) -> str:
    return str(utterance.audio) if isinstance(utterance.audio, Path) else "an array"


def _empty(utterance: Utterance) -> BadInput:
    return BadInput(
        f"utterance {utterance.id}: the recording is empty",
        got=f"no samples in {_place(utterance)}",
        remedy="copy or convert it again, or leave it out",
    )


def _unreadable(utterance: Utterance, why: str) -> BadInput:
    return BadInput(
        f"utterance {utterance.id}: the recording cannot be read",
        got=f"{utterance.audio}: {why}",
        wanted="WAV, FLAC, Ogg or another format of libsndfile, whole",
        remedy="copy or convert it again, or leave it out",
    )
