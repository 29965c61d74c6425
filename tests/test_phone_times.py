"""Letters to phones in time, on paper; boundaries moved to planted changes; predictions mapped to their transcript."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from otoscope.base import BadInput, BadOption
from otoscope.hear.audio import HOP_S
from otoscope.hear.corpus import Utterance
from otoscope.hear.label_files import add_textgrids, write_ctm, write_textgrid, write_textgrids
from otoscope.hear.tiers import Segment, read_ctm, read_textgrid
from otoscope.learn.boundaries import change_at, measured_delay, refined, spectral_change
from otoscope.learn.phone_times import phone_segments, word_segment
from otoscope.study.groupings import Labels
from otoscope.study.reference_labels import (
    CROWDED,
    INSERTED,
    OTHER,
    SAME,
    SILENT,
    SPACE,
    UNPRONOUNCED,
    counterparts,
    emissions,
    phones_of,
    reference_graphemes,
    reference_phones,
)

SPELLINGS = {
    "cake": [["c", ["K"]], ["a", ["EY"]], ["k", ["K"]], ["e", []]],
    "box": [["b", ["B"]], ["o", ["AA"]], ["x", ["K", "S"]]],
    "knee": [["k", []], ["n", ["N"]], ["e", ["IY"]], ["e", []]],
    "day": [["d", ["D"]], ["a", []], ["y", ["EY"]]],
    "sing": [["s", ["S"]], ["i", ["IH"]], ["n", []], ["g", ["NG"]]],
    "a": [["a", ["AH"]]],
    "it's": [["i", ["IH"]], ["t", ["T"]], ["'", []], ["s", ["S"]]],
}


def letters(word: str, step_s: float = 0.1) -> list[Segment]:
    """A word whose letters last 0.1 s each, from 1 s on."""
    return [Segment(1 + step_s * i, 1 + step_s * (i + 1), letter) for i, letter in enumerate(word)]


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        # A silent letter at the end goes to the sound before it.
        ("cake", [(1.0, 1.1, "K"), (1.1, 1.2, "EY"), (1.2, 1.4, "K")]),
        # Two phones share the time of their letter.
        ("box", [(1.0, 1.1, "B"), (1.1, 1.2, "AA"), (1.2, 1.25, "K"), (1.25, 1.3, "S")]),
        # At the beginning there is only the sound behind.
        ("knee", [(1.0, 1.2, "N"), (1.2, 1.4, "IY")]),
        # A vowel goes to the vowel, a consonant to the consonant.
        ("day", [(1.0, 1.1, "D"), (1.1, 1.3, "EY")]),
        ("sing", [(1.0, 1.1, "S"), (1.1, 1.2, "IH"), (1.2, 1.4, "NG")]),
        ("it's", [(1.0, 1.1, "IH"), (1.1, 1.3, "T"), (1.3, 1.4, "S")]),
    ],
)
def test_phones_have_the_time_of_their_letters(word, wanted):
    found = phone_segments(letters(word), SPELLINGS[word])
    assert [one.label for one in found] == [label for *_, label in wanted]
    assert np.allclose([one[:2] for one in found], [one[:2] for one in wanted])
    assert word_segment(letters(word)) == (1.0, pytest.approx(1 + 0.1 * len(word)), word)


def test_a_word_that_is_silent_has_no_phones():
    assert phone_segments(letters("hm"), [["h", []], ["m", []]]) == []


@pytest.mark.parametrize("spelling", [SPELLINGS["box"], [["c", ["K"]]], [1, 2], [["c"], ["a"]]])
def test_phones_of_another_word_are_refused(spelling):
    with pytest.raises(BadInput, match=r"another word|not letters"):
        phone_segments(letters("cake"), spelling)


def planted(edges: list[int], frames: int = 200, mels: int = 8) -> torch.Tensor:
    """Features that change at these frames and nowhere else, but for a little noise."""
    rng = np.random.default_rng(len(edges))
    sounds = rng.standard_normal((len(edges) + 1, mels)) * 3
    values = sounds[np.searchsorted(edges, np.arange(frames), side="right")]
    return torch.from_numpy((values + 0.05 * rng.standard_normal(values.shape)).astype(np.float32))


def test_change_on_paper():
    # 0 0 0 | 6 6 6 6 in one band: two frames on either side; the first frame is repeated before the beginning.
    change = spectral_change(torch.tensor([[0.0], [0], [0], [6], [6], [6], [6]]), side=2)
    assert change.tolist() == [0, 0, 3, 6, 3, 0, 0]
    # Frame 3 begins half a frame before its centre; a quarter of a frame later a quarter of the way to the next.
    assert change_at(change, np.array([2.5 * HOP_S, 2.75 * HOP_S])).tolist() == pytest.approx([6, 5.25])


@pytest.mark.parametrize("late_s", [0.0, 0.055, -0.04, 0.15])
def test_a_planted_delay_is_found(late_s):
    rng = np.random.default_rng(7)
    found, changes = [], []
    for _ in range(12):
        edges = sorted(rng.choice(np.arange(20, 180, 7), 10, replace=False).tolist())
        changes.append(spectral_change(planted(edges)))
        # Spikes scatter around their delay.
        found.append([(e - 0.5) * HOP_S + late_s + 0.01 * rng.standard_normal() for e in edges])
    assert measured_delay(found, changes) == pytest.approx(late_s, abs=0.0051)
    assert measured_delay(found[:5], changes[:5]) is None


def test_boundaries_go_to_changes_and_keep_their_order():
    edges = [50, 53, 90, 140]
    change = spectral_change(planted(edges))
    true = [(edge - 0.5) * HOP_S for edge in edges]
    tier = [
        Segment(true[0] + 0.02, true[1] + 0.005, "a"),
        Segment(true[1] + 0.005, true[2] - 0.03, "b"),
        Segment(true[2] - 0.03, true[3] - 0.1, "c"),
    ]
    found = refined(tier, change)
    assert [one.label for one in found] == ["a", "b", "c"]
    assert found[0].end_s == found[1].start_s
    assert np.allclose([one.start_s for one in found], true[:3], atol=0.006)
    # 0.1 s away there is a change, which is too far.
    assert abs(found[2].end_s - tier[2].end_s) <= 0.04 + 1e-9
    assert refined(tier, change, most_s=0) == tier
    assert refined([], change) == []
    assert refined(tier, np.zeros(200)) == tier
    close = [Segment(0.5, 0.502, "a"), Segment(0.502, 0.504, "b")]
    times = [time for one in refined(close, change) for time in one[:2]]
    assert times == sorted(times)
    with pytest.raises(BadOption):
        refined(tier, change, most_s=-1)


def test_ctm_and_textgrid_come_back(tmp_path: Path):
    tiers = {"u-1": letters("cake"), "u/2": [*letters("box"), Segment(1.3, 1.5, ""), Segment(1.5, 1.6, "s")]}
    assert write_ctm(tiers, tmp_path / "a.ctm") == 8
    assert (tmp_path / "a.ctm").read_text().splitlines()[0] == "u-1 1 1.0000 0.1000 c"
    found = read_ctm(tmp_path / "a.ctm")
    assert [one.label for one in found["u/2"]] == ["b", "o", "x", "s"]
    assert np.allclose([one[:2] for one in found["u-1"]], [one[:2] for one in tiers["u-1"]], atol=1e-4)

    utterances = [Utterance(id, tiers={"grapheme": tier, "word": [word_segment(tier)]}) for id, tier in tiers.items()]
    paths = write_textgrids(utterances, ["grapheme", "word"], {"u-1": 2.0}, tmp_path / "grids")
    assert [path.name for path in paths] == ["u-1.TextGrid", "u%2F2.TextGrid"]
    grid = read_textgrid(paths[0])
    assert [one.label for one in grid["grapheme"] if one.label] == list("cake")
    assert np.allclose([one[:2] for one in grid["grapheme"] if one.label], [one[:2] for one in tiers["u-1"]])
    assert grid["word"][-1].end_s == 2.0
    bare = [Utterance(id) for id in (*tiers, "v")]
    assert add_textgrids(bare, tmp_path / "grids") == []
    assert [one.label for one in bare[1].tiers["grapheme"] if one.label] == ["b", "o", "x", "s"]
    assert bare[2].tiers == {}


def test_files_that_cannot_be(tmp_path: Path):
    with pytest.raises(BadInput, match="CTM cannot hold"):
        write_ctm({"u 1": letters("a")}, tmp_path / "a.ctm")
    with pytest.raises(BadInput, match="no segment"):
        write_ctm({"u": [Segment(0, 1, " ")]}, tmp_path / "a.ctm")
    with pytest.raises(BadInput, match="overlap"):
        write_textgrid({"word": [Segment(0, 1, "a"), Segment(0.5, 2, "b")]}, 2.0, tmp_path / "a.TextGrid")
    assert not list(tmp_path.iterdir())
    # Shorter than a point: an interval cannot hold it, and the rest stays.
    write_textgrid({"word": [Segment(0, 0.00001, "a"), Segment(0.5, 2, "b")]}, 2.0, tmp_path / "u.TextGrid")
    assert [one.label for one in read_textgrid(tmp_path / "u.TextGrid")["word"] if one.label] == ["b"]
    (tmp_path / "v.TextGrid").write_text("nothing of Praat's")
    (problem,) = add_textgrids([Utterance("u"), Utterance("v")], tmp_path)
    assert problem.id == "v"
    with pytest.raises(BadInput, match=r"no TextGrid of these.*(\n.*)*w\.TextGrid"):
        add_textgrids([Utterance("w")], tmp_path)
    with pytest.raises(BadInput, match="no folder"):
        add_textgrids([Utterance("w")], tmp_path / "none")


def test_emissions_on_paper():
    assert emissions(["c", "c", None, "c", "a", "a"]) == [[0, 1], [3], [4, 5]]
    # Without the blanks, frames tell them apart.
    assert emissions(["c", "c", "c", "a"], [0, 1, 3, 4]) == [[0, 1], [2], [3]]
    assert emissions([]) == []


def test_counterparts_on_paper():
    # c a k e said as k a k e e: k replaces c, and one e is too many.
    found = counterparts(list("kakee"), list("cake"))
    assert found[:3] == [0, 1, 2]
    assert sorted(found[3:], key=str) == [3, None]
    # Nothing said for the a.
    assert counterparts(list("cke"), list("cake")) == [0, 2, 3]
    assert counterparts([], list("cake")) == []


# What a network says of "a cake": a blank, a, space, k (for c) twice, a, k, an e that is not there, blank, e.
SAID = [None, "a", " ", "k", "k", None, "a", "k", "e"]


def test_letters_of_the_transcript():
    found = reference_graphemes(SAID, "A cake!")
    assert found.labels == (None, "a", " ", "c", "c", None, "a", "k", "e")
    assert found.counts == {SAME: 5, OTHER: 2}
    found = reference_graphemes(["a", "b"], "a")
    assert found.labels == ("a", None)
    assert found.counts == {SAME: 1, INSERTED: 1}


def test_phones_of_the_transcript():
    found = reference_phones(SPELLINGS.get, SAID, "a cake")
    assert found.labels == (None, "AH", None, "K", "K", None, "EY", "K", None)
    assert found.counts == {SAME: 3, OTHER: 2, SPACE: 1, SILENT: 1}
    # An x of two frames is K, then S; of one frame nobody knows.
    found = reference_phones(SPELLINGS.get, ["b", "o", "x", "x", "x", None, "x"], "box")
    assert found.labels == ("B", "AA", "K", "K", "S", None, None)
    assert found.counts == {SAME: 5, INSERTED: 1}
    found = reference_phones(SPELLINGS.get, ["b", "o", "x", " ", "z"], "box zoo")
    assert found.labels == ("B", "AA", None, None, None)
    assert found.counts == {SAME: 2, CROWDED: 1, SPACE: 1, UNPRONOUNCED: 1}


def test_words_that_cannot_be_pronounced_have_no_phones():
    def refuses(word: str) -> list:
        raise BadInput("no such word")

    assert phones_of("ab c", refuses) == [None] * 4
    with pytest.raises(BadInput, match="another word"):
        phones_of("ab", lambda word: [["a", ["AH"]]])


def test_groups_by_what_predictions_stand_for():
    symbols = ["_", "|", "A", "C", "E", "K"]
    utterances = [Utterance("u", text="a cake"), Utterance("v", text="CAKE")]
    labels = Labels(utterances, [9, 4], 0.02, symbols, pronounce=SPELLINGS.get)
    # As above, without the blanks; v says "cake" but for its last letter.
    utterance = torch.tensor([0] * 7 + [1] * 3)
    frame = torch.tensor([1, 2, 3, 4, 6, 7, 8, 0, 2, 3])
    symbol = torch.tensor([2, 1, 5, 5, 2, 5, 4, 3, 2, 5])
    (letters_,) = labels.group("reference-grapheme")
    assert letters_.labels == (" ", "a", "c", "e", "k")
    assert letters_.groups[1] == "reference-grapheme:a"
    assert letters_.numbers(utterance, frame, symbol).tolist() == [1, 0, 2, 2, 1, 4, 3, 2, 1, 4]
    (phones,) = labels.group("reference-phone")
    assert phones.labels == ("AH", "EY", "K")
    assert phones.numbers(utterance, frame, symbol).tolist() == [0, -1, 2, 2, 1, 2, -1, 2, 1, 2]
    (where,) = labels.group("reference-phone=K & symbol=C")
    assert where.numbers(utterance, frame, symbol).tolist() == [-1] * 7 + [0] + [-1] * 2
    with pytest.raises(BadOption, match="nothing to group by"):
        Labels([Utterance("u")], [9], 0.02, symbols).group("reference-grapheme")


def test_words_are_read_by_their_letters_where_nothing_else_is_said():
    symbols = ["_", " ", "c", "a", "k", "e", "4"]
    labels = Labels([Utterance("u", text="cake 42"), Utterance("v", text="42")], [9, 4], 0.02, symbols)
    (phones,) = labels.group("reference-phone")
    assert phones.labels == ("EY", "K")
    assert phones.unpronounced == {"42": 2}
    told = torch.tensor([0] * 6), torch.arange(6), torch.tensor([2, 3, 4, 5, 1, 6])
    assert phones.numbers(*told).tolist() == [1, 0, 1, -1, -1, -1]
    assert phones.mapped(*told) == {SAME: 3, SILENT: 1, SPACE: 1, UNPRONOUNCED: 1}
    with pytest.raises(BadOption, match="nothing to group by"):
        Labels([Utterance("u", text="42")], [9], 0.02, symbols).group("reference-phone")
