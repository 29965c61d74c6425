from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from recordings import RATE, ramp, write_audio

from otoscope.base import BadInput
from otoscope.hear.corpus import (
    Utterance,
    load_audio,
    read_corpus,
    select,
)
from otoscope.hear.utterance import audio_info, duration_s


def test_an_utterance_holds_what_it_is_given() -> None:
    tiers = {"phone": [(0.1, 0.2, "T"), (0.0, 0.1, "SIL")]}
    utterance = Utterance("a", ramp(10), RATE, "TEA", "ann", tiers, gender="f", age=6)
    assert utterance.tiers == {"phone": [(0.0, 0.1, "SIL"), (0.1, 0.2, "T")]}
    assert utterance.tiers["phone"][0].label == "SIL"
    assert (utterance.gender, utterance.attributes) == ("f", {"gender": "f", "age": 6})
    assert Utterance("a", "x/a.wav").audio == Path("x/a.wav")
    assert Utterance("a", features=np.zeros((5, 128))).features.shape == (5, 128)
    with pytest.raises(AttributeError, match="'a' has no attribute 'dialect'; it has gender, age"):
        utterance.dialect  # noqa: B018
    assert not hasattr(utterance, "dialect")


def test_an_utterance_is_copied_pickled_and_changed_whole() -> None:
    utterance = Utterance("a", "a.wav", RATE, "TEA", "ann", {"word": [(0, 1, "tea")]}, dialect=3, self="odd")
    for other in (copy.deepcopy(utterance), pickle.loads(pickle.dumps(utterance)), utterance.replace()):
        assert vars(other) == vars(utterance)
    changed = utterance.replace(text="TO", dialect=4)
    assert (changed.text, changed.dialect, changed.speaker, utterance.text) == ("TO", 4, "ann", "TEA")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"id": ""}, "needs an id"),
        ({"sample_rate": 0}, "sample rate of 0"),
        ({"sample_rate": -8000}, "sample rate of -8000"),
        ({"sample_rate": "fast"}, "sample rate of 'fast'"),
        ({"audio": np.zeros(5)}, "without a sample rate"),
        ({"audio": np.zeros(5, np.int16), "sample_rate": RATE}, "divide 16-bit integers by 32768"),
        ({"audio": np.zeros((5, 2)), "sample_rate": RATE}, "average the channels"),
        ({"tiers": {"phone": [(0.2, 0.1, "T")]}}, "utterance a: the tier 'phone' has a segment that ends before"),
        ({"tiers": {"phone": [(0.2, "T")]}}, "not a segment"),
        ({"tiers": {"phone": [(-0.2, 0.1, "T")]}}, "negative"),
        ({"tiers": {"phone": [(0.0, float("nan"), "T")]}}, "no number"),
        ({"tiers": {"phone": [(0.0, 0.1, 7)]}}, "label that is not text"),
    ],
)
def test_an_utterance_that_makes_no_sense_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Utterance(**({"id": "a"} | arguments))


@pytest.mark.parametrize("ending", ["wav", "flac"])
def test_samples_come_as_they_were_written(tmp_path: Path, ending: str) -> None:
    path = write_audio(tmp_path / f"a.{ending}", 1600, 8000)
    samples, rate = load_audio(Utterance("a", path))
    assert (samples.dtype, rate) == (np.float32, 8000)
    np.testing.assert_array_equal(samples, ramp(1600))


@pytest.mark.parametrize(
    "part",
    [{"offset_samples": 400, "num_samples": 300}, {"offset": 0.025, "duration": 0.01875}],
)
def test_a_part_of_a_longer_recording_is_cut_out(tmp_path: Path, part: dict[str, Any]) -> None:
    utterance = Utterance("a", write_audio(tmp_path / "long.flac", 2000), **part)
    np.testing.assert_array_equal(load_audio(utterance)[0], ramp(2000)[400:700])
    assert duration_s(utterance) == 300 / RATE
    assert audio_info(utterance) == (RATE, 1, 2000, 400, 300)


def test_a_part_without_a_length_goes_to_the_end(tmp_path: Path) -> None:
    path = write_audio(tmp_path / "long.flac", 2000)
    for part in ({"offset_samples": 1500}, {"offset": 1500 / RATE}):
        np.testing.assert_array_equal(load_audio(Utterance("a", path, **part))[0], ramp(2000)[1500:])
    # Half a hundredth of a second behind the end, as in segment files with two decimals.
    np.testing.assert_array_equal(load_audio(Utterance("a", path, offset=0.1, duration=0.03))[0], ramp(2000)[1600:])


def test_channels_are_averaged_or_picked(tmp_path: Path) -> None:
    path = write_audio(tmp_path / "two.wav", np.stack([ramp(100), ramp(100)[::-1]], axis=1))
    np.testing.assert_allclose(load_audio(Utterance("a", path))[0], np.full(100, 99 / 2 / 32768), atol=1e-9)
    np.testing.assert_array_equal(load_audio(Utterance("a", path, channel=1))[0], ramp(100)[::-1])
    with pytest.raises(BadInput, match="no channel 2"):
        load_audio(Utterance("a", path, channel=2))


def test_arrays_are_given_back_as_float32() -> None:
    samples, rate = load_audio(Utterance("a", list(np.linspace(-1, 1, 5)), 8000))
    assert (samples.dtype, rate) == (np.float32, 8000)
    np.testing.assert_array_equal(samples, np.float32([-1, -0.5, 0, 0.5, 1]))


def bad_recordings(folder: Path) -> dict[str, tuple[Utterance, str]]:
    whole = write_audio(folder / "whole.flac", np.random.default_rng(0).uniform(-0.5, 0.5, 20_000)).read_bytes()
    (folder / "cut.flac").write_bytes(whole[: len(whole) // 2])
    soundfile.write(folder / "cut.mp3", ramp(20_000), RATE)
    (folder / "cut.mp3").write_bytes((folder / "cut.mp3").read_bytes()[:-400])
    (folder / "cut.wav").write_bytes(write_audio(folder / "whole.wav", 1600).read_bytes()[:-100])
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.wav").write_text("this is not a recording")
    (folder / "x.raw").write_bytes(b"1234")
    write_audio(folder / "header.wav", 0)
    soundfile.write(folder / "nan.wav", np.float32([0, np.nan, np.inf, 0]), RATE, subtype="FLOAT")
    header = bytearray((folder / "header.wav").read_bytes())
    header[24:28] = bytes(4)
    (folder / "rate0.wav").write_bytes(header + bytes(100))
    at = {name: folder / name for name in ("cut.flac", "empty.wav", "text.wav", "x.raw", "header.wav", "nan.wav")}
    return {
        "missing": (Utterance("u7", folder / "none.wav"), "there is no recording"),
        "no bytes": (Utterance("u7", at["empty.wav"]), "the recording is empty"),
        "no samples": (Utterance("u7", at["header.wav"]), "the recording is empty"),
        "not audio": (Utterance("u7", at["text.wav"]), "cannot be read"),
        "headerless": (Utterance("u7", at["x.raw"]), "cannot be read"),
        "cut short": (Utterance("u7", at["cut.flac"]), "cannot be read"),
        "cut wav": (Utterance("u7", folder / "cut.wav"), "breaks off 100 bytes before"),
        "cut mp3": (Utterance("u7", folder / "cut.mp3"), r"breaks off after \d+ of 20000 samples"),
        "rate 0": (Utterance("u7", folder / "rate0.wav"), "cannot be read"),
        "not finite": (Utterance("u7", at["nan.wav"]), "not finite\n.*1 NaN, 1 infinite"),
        "other rate": (Utterance("u7", folder / "whole.flac", 8000), "another sample rate"),
        "behind the end": (Utterance("u7", folder / "whole.flac", offset_samples=19_000, num_samples=2000), "behind"),
        "odd offset": (Utterance("u7", folder / "whole.flac", offset_samples=-1), "offset_samples is no use"),
        "features": (Utterance("u7", features=np.zeros((3, 4))), "there is no audio"),
        "a folder": (Utterance("u7", folder), "there is no recording"),
        "no array": (Utterance("u7", np.zeros(0), RATE), "the recording is empty"),
    }


def test_bad_recordings_are_named_with_a_way_out(tmp_path: Path) -> None:
    for name, (utterance, message) in bad_recordings(tmp_path).items():
        with pytest.raises(BadInput, match=message) as caught:
            load_audio(utterance)
        text = str(caught.value)
        assert "utterance u7" in text, name
        assert "try:" in text or "wanted:" in text, name
        if isinstance(utterance.audio, Path) and name != "odd offset":
            assert str(utterance.audio) in text, name


@pytest.mark.real
def test_real_digits_are_cut_at_their_offsets(real_data: Path) -> None:
    corpus = select(read_corpus(real_data / "fsdd"), "speaker=george; index<3")
    whole, _ = soundfile.read(corpus[0].audio, dtype="float32")
    for utterance in corpus:
        start = utterance.offset_samples
        np.testing.assert_array_equal(load_audio(utterance)[0], whole[start : start + utterance.num_samples])
