"""Labels of frames: planted segments come out at known frames."""

from __future__ import annotations

import pytest
import torch

from otoscope.base import BadOption
from otoscope.hear.corpus import Utterance
from otoscope.study.groupings import make_grouping, membership

FRAME_S = 0.02


def speech(id: str, phones: list[tuple[float, float, str]], **more: object) -> Utterance:
    return Utterance(id, tiers={"phone": phones}, **more)  # type: ignore[arg-type]


def group(name: str, utterances: list[Utterance], frames: list[int]) -> tuple[tuple[str, ...], list[list[int]]]:
    found = make_grouping(name, utterances, frames, FRAME_S, ["_", "a", "b"])
    assert found.frames is not None
    return found.labels, [row.tolist() for row in found.frames]


def test_phones_at_known_frames() -> None:
    # Frame t is at 20 t ms: AE from 40 ms holds frames 2 to 4, T from 100 ms up to but not at 160 ms frames 5 to 7.
    labels, rows = group("phone", [speech("u", [(0.04, 0.1, "AE1"), (0.1, 0.16, "T")])], [10])
    assert labels == ("AE", "T")
    assert rows == [[-1, -1, 0, 0, 0, 1, 1, 1, -1, -1]]


def test_segments_between_frames_and_beyond_the_end() -> None:
    labels, rows = group("phone", [speech("u", [(0.041, 0.059, "AE"), (0.11, 9.0, "T")])], [8])
    # AE lies between frames 2 and 3 and has none.
    assert labels == ("AE", "T")
    assert rows == [[-1, -1, -1, -1, -1, -1, 1, 1]]


def test_silence_is_no_group() -> None:
    labels, rows = group("phone", [speech("u", [(0, 0.04, "SIL"), (0.04, 0.08, "AE"), (0.08, 0.12, "sp")])], [6])
    assert labels == ("AE",)
    assert rows == [[-1, -1, 0, 0, -1, -1]]


def test_timit_labels_are_folded() -> None:
    # h# and the closure tcl are silence; ix is IH, ao is AA in the 39 phones of Lee and Hon.
    tier = [(0, 0.02, "h#"), (0.02, 0.04, "ix"), (0.04, 0.06, "tcl"), (0.06, 0.08, "t"), (0.08, 0.1, "ao")]
    labels, rows = group("phone", [speech("u", tier)], [6])
    named = [None if number < 0 else labels[number] for number in rows[0]]
    assert named == [None, "IH", None, "T", "AA", None]


def test_utterances_without_the_tier_belong_to_none() -> None:
    labels, rows = group("phone", [speech("u", [(0, 0.04, "AE")]), Utterance("v")], [2, 3])
    assert labels == ("AE",)
    assert rows == [[0, 0], [-1, -1, -1]]


def test_other_tiers_keep_their_labels() -> None:
    utterance = Utterance("u", tiers={"word": [(0, 0.04, "ix"), (0.04, 0.08, "sil")]})
    assert group("word", [utterance], [4]) == (("ix", "sil"), [[0, 0, 1, 1]])


def test_speakers_and_attributes() -> None:
    utterances = [Utterance("u", speaker="bob", age=7), Utterance("v", speaker="ann"), Utterance("w", age=12)]
    assert group("speaker", utterances, [2, 1, 1]) == (("ann", "bob"), [[1, 1], [0], [-1]])
    assert group("age", utterances, [2, 1, 1]) == (("12", "7"), [[1, 1], [-1], [0]])


def test_symbols_are_their_own_labels() -> None:
    found = make_grouping("symbol", [Utterance("u")], [4], FRAME_S, ["_", "a", "b"])
    assert (found.frames, found.groups) == (None, ["symbol:_", "symbol:a", "symbol:b"])


def test_unknown_grouping_says_what_there_is() -> None:
    utterances = [Utterance("u", tiers={"word": [(0, 1, "so")]}, dialect="north")]
    with pytest.raises(BadOption) as caught:
        make_grouping("gender", utterances, [4], FRAME_S, ["_"])
    for word in ("'gender'", "symbol", "speaker", "word", "dialect"):
        assert word in str(caught.value)
    assert "--ctm" not in str(caught.value)
    with pytest.raises(BadOption, match="--ctm phone=FILE"):
        make_grouping("phone", utterances, [4], FRAME_S, ["_"])


def test_membership_on_one_axis() -> None:
    utterances = [
        speech("u", [(0, 0.04, "AE"), (0.04, 0.06, "T")], speaker="bob"),
        speech("v", [(0.02, 0.06, "T")], speaker="ann"),
    ]
    frames = [4, 3]
    groupings = [make_grouping(n, utterances, frames, FRAME_S, ["_", "a", "b"]) for n in ("symbol", "phone", "speaker")]
    # The axis: _ a b | AE T | ann bob.
    owner, frame, symbol = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([0, 2, 3, 0, 2]), torch.tensor([1, 2, 1, 1, 2])
    found = membership(groupings, owner, frame, symbol)
    assert found.tolist() == [[1, 3, 6], [2, 4, 6], [1, -1, 6], [1, -1, 5], [2, 4, 5]]
    swapped = membership(groupings[::-1], owner, frame, symbol)
    assert swapped[1].tolist() == [1, 3, 6]
