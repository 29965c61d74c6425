"""The espeak-ng synthesiser through ctypes: text in, samples and the exact times of phones and words out.

espeak-ng keeps global state and draws random numbers from it, so a process may hold one synthesiser only, and what it
says is bit-identical from run to run only in a fresh process that speaks the same texts in the same order after
`espeak_ng_SetRandSeed`. `otoscope.hear.speak` arranges that. espeak-ng is GPL-3: it comes with the extra `synth` and
nothing else in the package needs it.
"""

from __future__ import annotations

import ctypes
import importlib
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from otoscope.base import BadOption, OtoscopeError

# From espeak-ng's speak_lib.h.
OUTPUT_SYNCHRONOUS = 2
PHONEME_EVENTS = 1
CHARS_UTF8 = 1
EVENT_END_OF_LIST, EVENT_WORD, EVENT_END, EVENT_PHONEME = 0, 1, 5, 7
# The letters that begin words which begin with these sounds (espeak-ng's mnemonics); none begins with ng.
SONORANT_LETTERS = {"l": ("l",), "m": ("m",), "n": ("n", "kn", "gn", "pn"), "N": ()}
PARAMETER_RATE, PARAMETER_PITCH, PARAMETER_RANGE = 1, 3, 4
LONGEST_DATA_PATH = 160


class _EventId(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@dataclass
class Speech:
    """What was said: `samples` int16 at `sample_rate`; each phone and word with its first sample; where speech ends.

    Words that espeak-ng speaks as one, such as "do not" and "in the", come as one.
    """

    sample_rate: int
    samples: NDArray[np.int16] = field(default_factory=lambda: np.zeros(0, np.int16))
    phones: list[tuple[int, str]] = field(default_factory=list)
    words: list[tuple[int, str]] = field(default_factory=list)
    end: int = 0


class Synthesiser:
    """The one synthesiser of this process. `say` speaks a text with a voice, rate and pitch."""

    def __init__(self, seed: int):
        try:
            loader = importlib.import_module("espeakng_loader")
        except ImportError as error:
            raise OtoscopeError(
                "the spoken corpus needs espeak-ng, which is not installed",
                wanted="the package espeakng-loader",
                remedy='pip install "otoscope[synth]"',
            ) from error
        self._library = ctypes.CDLL(loader.get_library_path())
        self._data = Path(loader.get_data_path())
        self._library.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
        self._short_path = tempfile.TemporaryDirectory(prefix="espeak-")
        path = self._data
        if len(str(path)) >= LONGEST_DATA_PATH - 20:
            # espeak-ng holds the path in a fixed buffer and fails without a word when it is longer.
            path = Path(self._short_path.name) / "espeak-ng-data"
            path.symlink_to(self._data)
        rate = self._library.espeak_Initialize(OUTPUT_SYNCHRONOUS, 0, str(path).encode(), PHONEME_EVENTS)
        if rate <= 0:
            raise OtoscopeError("espeak-ng did not start", got=f"status {rate}", remedy="reinstall espeakng-loader")
        self.sample_rate = int(rate)
        self._blocks: list[bytes] = []
        self._events: list[tuple[int, int, int, int, str]] = []
        self._callback = _Callback(self._receive)
        self._library.espeak_SetSynthCallback(self._callback)
        self._library.espeak_ng_SetRandSeed(seed)

    def _receive(self, samples, count, events) -> int:  # type: ignore[no-untyped-def]
        if samples and count > 0:
            self._blocks.append(ctypes.string_at(samples, count * 2))
        index = 0
        while events[index].type != EVENT_END_OF_LIST:
            event = events[index]
            label = event.id.string.decode("utf-8", "replace") if event.type == EVENT_PHONEME else ""
            self._events.append((event.type, event.text_position, event.length, event.sample, label))
            index += 1
        return 0

    def set_voice(self, voice: str) -> None:
        """Choose a voice: `language` or `language+variant`, such as `en-us+f2`.

        Raises `BadOption` for one that does not exist: espeak-ng itself would quietly speak with another voice.
        """
        language, _, variant = voice.partition("+")
        known = variant == "" or (self._data / "voices" / "!v" / variant).is_file()
        if not known or self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise BadOption("no such espeak-ng voice", got=voice, wanted="a voice such as en-us, en-us+f2 or gmw/en+m3")

    def say(self, text: str, *, rate: int = 175, pitch: int = 50, pitch_range: int = 50) -> Speech:
        """Speak `text`: `rate` in words a minute (80–450), `pitch` and `pitch_range` 0–100."""
        self._blocks.clear()
        self._events.clear()
        for parameter, value in ((PARAMETER_RATE, rate), (PARAMETER_PITCH, pitch), (PARAMETER_RANGE, pitch_range)):
            self._library.espeak_SetParameter(parameter, value, 0)
        data = text.encode()
        status = self._library.espeak_Synth(data, len(data) + 1, 0, 1, 0, CHARS_UTF8, None, None)
        self._library.espeak_Synchronize()
        if status != 0:
            raise OtoscopeError("espeak-ng could not speak", got=f"status {status} for {text!r}")
        speech = Speech(self.sample_rate, np.frombuffer(b"".join(self._blocks), np.int16))
        # Positions count characters from 1. Words that espeak-ng speaks as one ("do not", "in the") have one event, at
        # the first of them.
        begins = [(sample, position - 1) for kind, position, _, sample, _ in self._events if kind == EVENT_WORD]
        ends = [*(position for _, position in begins[1:]), len(text)]
        speech.words = [
            (sample, re.sub(r"\W+$", "", text[begin:end])) for (sample, begin), end in zip(begins, ends, strict=True)
        ]
        for kind, _, _, sample, label in self._events:
            if kind == EVENT_PHONEME:
                speech.phones.append((sample, label))
        # What comes after the last sound are pauses; a pause between words stays.
        speech.end = len(speech.samples)
        while speech.phones and speech.phones[-1][1].startswith("_"):
            speech.end = speech.phones.pop()[0]
        words = [word for _, word in speech.words]
        speech.words = list(zip(starts_of_words(speech), words, strict=True))
        return speech


def starts_of_words(speech: Speech) -> list[int]:
    """The first sample of each word.

    espeak-ng may announce a word before the last l, m, n or ng of the one before. Where a word cannot begin with that
    sound, or says it twice, it begins with the next one.
    """
    samples, sounds = [sample for sample, _ in speech.phones], [name.lstrip("',%=") for _, name in speech.phones]
    starts = []
    for sample, word in speech.words:
        index = samples.index(sample) if sample in samples else 0
        if 0 < index < len(sounds) - 1:
            sound, following = sounds[index], sounds[index + 1]
            letters = SONORANT_LETTERS.get(sound[:1])
            if letters is not None and (not word.startswith(letters) or following == sound):
                sample = samples[index + 1]
        starts.append(sample)
    return starts
