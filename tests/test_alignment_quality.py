"""Alignments of planted speech come out where it was planted; their quality against numbers on paper."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_profiles import planted as profiles_of
from torch import Tensor, nn

from otoscope.base import BadInput, BadOption
from otoscope.hear.audio import HOP_S
from otoscope.hear.corpus import Utterance
from otoscope.hear.tiers import Segment
from otoscope.study.alignment_quality import alignment_quality, bootstrap, joined_closures, profile_agreement
from otoscope.study.alignments import align, write_alignment

SYMBOLS = ("<blank>", " ", "'", *"abcdefghijklmnopqrstuvwxyz")
# A letter's sound lasts so long; the network says it in the second frame of its own, for one frame.
LATE = 2


class Echo(nn.Module):
    """Says what the features hold: band n loud in a frame is symbol n. An output frame for every frame."""

    symbols, blank, mels = SYMBOLS, 0, len(SYMBOLS) + 8

    def __init__(self) -> None:
        super().__init__()
        self.output = nn.Linear(self.mels, len(SYMBOLS), bias=False)
        with torch.no_grad():
            self.output.weight.copy_(12 * torch.eye(len(SYMBOLS), self.mels))

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return self.output(features), lengths


def planted(id: str, text: str, seed: int, **more: object) -> tuple[Utterance, list[Segment]]:
    """An utterance that says `text`, a random sound for each letter, and when each letter is heard."""
    rng = np.random.default_rng(seed)
    spans, at = [], 10
    for letter in text:
        frames = int(rng.integers(8, 15))
        if letter != " ":
            spans.append((at, at + frames, letter))
        at += frames if letter != " " else 0
    values = np.zeros((at + 10, Echo.mels), dtype=np.float32)
    values[:, 0] = 0.5
    for start, end, letter in spans:
        # Sounds are in the last eight bands, which the network does not hear, and its symbols in the first.
        values[start:end, -8:] = rng.standard_normal(8)
        values[start + LATE, SYMBOLS.index(letter)] = 1
    place = 0
    for letter in text:
        if letter == " ":
            values[spans[place][0] - 1, 1] = 1
        else:
            place += 1
    tier = [Segment((start - 0.5) * HOP_S, (end - 0.5) * HOP_S, letter) for start, end, letter in spans]
    return Utterance(id, features=values, text=text, **more), tier


WORDS = {
    "cab": [["c", ["K"]], ["a", ["AE"]], ["b", ["B"]]],
    "fade": [["f", ["F"]], ["a", ["EY"]], ["d", ["D"]], ["e", []]],
}


def corpus() -> tuple[list[Utterance], dict[str, list[Segment]]]:
    texts = ["cab fade", "fade cab", "fade fade cab", "cab", "cab cab fade"] * 4
    made = [planted(f"u{index}", text, index) for index, text in enumerate(texts)]
    return [utterance for utterance, _ in made], {utterance.id: tier for utterance, tier in made}


def test_planted_letters_are_found_where_they_are():
    utterances, truth = corpus()
    found = align(Echo(), utterances, WORDS.get)
    assert found.tiers == ("grapheme", "phone", "word")
    # The sounds are the network's own, so its delay is known.
    assert found.measured
    assert found.delay_s == pytest.approx(LATE * HOP_S, abs=0.0051)
    errors = []
    for utterance in found.utterances:
        tier = utterance.tiers["grapheme"]
        assert [one.label for one in tier] == [one.label for one in truth[utterance.id]]
        errors += [abs(a.start_s - b.start_s) for a, b in zip(tier, truth[utterance.id], strict=True)]
        assert [one.label for one in utterance.tiers["word"]] == utterance.text.split()
    assert np.median(errors) < 0.006
    assert np.mean(np.array(errors) < 0.021) > 0.95
    # The e of fade is silent, and its d lasts as long as both.
    first = found.utterances[1].tiers
    assert [one.label for one in first["phone"][:3]] == ["F", "EY", "D"]
    assert first["phone"][2].end_s == first["grapheme"][3].end_s
    quality = alignment_quality(list(truth.values()), [u.tiers["grapheme"] for u in found.utterances], draws=50)
    assert quality.median_error_s == pytest.approx(np.median(_all_errors(found.utterances, truth)), abs=1e-9)


def _all_errors(utterances: list[Utterance], truth: dict[str, list[Segment]]) -> list[float]:
    pairs = [zip(u.tiers["grapheme"], truth[u.id], strict=True) for u in utterances]
    return [abs(x - y) for row in pairs for a, b in row for x, y in ((a.start_s, b.start_s), (a.end_s, b.end_s))]


def test_without_refinement_the_path_is_what_counts():
    utterances, truth = corpus()
    found = align(Echo(), utterances, delay_s=LATE * HOP_S, refine_s=0)
    assert (found.delay_s, found.measured) == (LATE * HOP_S, False)
    assert found.tiers == ("grapheme", "word")
    for utterance in found.utterances:
        for one, wanted, index in zip(utterance.tiers["grapheme"], truth[utterance.id], range(100), strict=False):
            # Words share the space between them; all other letters start where their sound does.
            starts_word = utterance.text.replace(" ", "")[:index] == "" or index in _word_starts(utterance.text)
            if not starts_word or index == 0:
                assert one.start_s == pytest.approx(wanted.start_s, abs=1e-9)


def _word_starts(text: str) -> set[int]:
    starts, at = set(), 0
    for word in text.split():
        starts.add(at)
        at += len(word)
    return starts


def test_what_cannot_be_aligned_is_named_and_left_out():
    utterances, _ = corpus()
    bad = [
        Utterance("short", features=utterances[0].features[:5], text="cab fade"),
        Utterance("digits", features=utterances[0].features, text="route 66"),
        Utterance("mute", features=utterances[0].features, text=" ... "),
        Utterance("quote", features=utterances[0].features, text="''"),
        Utterance("nan", features=np.full((40, Echo.mels), np.nan, np.float32), text="cab"),
    ]
    found = align(Echo(), [*bad, *utterances], lambda word: WORDS["cab"] if word == "cab" else None)
    assert len(found.utterances) == len(utterances)
    said = {problem.id: problem.what for problem in found.problems}
    assert set(said) == {"short", "digits", "mute", "quote", "nan"}
    assert "5 output frames" in said["short"]
    assert "'6'" in said["digits"]
    assert "no letters" in said["mute"]
    assert "no letters" in said["quote"]
    assert found.unpronounced == {"fade": sum(u.text.split().count("fade") for u in utterances)}
    assert {one.label for u in found.utterances for one in u.tiers["phone"]} == {"K", "AE", "B"}
    with pytest.raises(BadInput, match="shorter"):
        align(Echo(), [bad[0], utterances[0]], strict=True)
    with pytest.raises(BadInput, match=r"no utterance can be aligned(.|\n)*short"):
        align(Echo(), bad[:1])


def test_a_network_without_a_blank_is_refused():
    utterances, _ = corpus()
    with pytest.raises(BadInput, match="blank"):
        align(Echo(), utterances[:1], blank=None)
    with pytest.raises(BadOption, match="times"):
        align(Echo(), utterances[:1], refine_s=-1)


def test_tiers_that_were_not_made_are_not_written(tmp_path):
    utterances, _ = corpus()
    found = align(Echo(), utterances[:2])
    with pytest.raises(BadOption, match="'phone'"):
        write_alignment(found, tmp_path / "a.ctm", ["phone"])
    with pytest.raises(BadOption, match="one tier"):
        write_alignment(found, tmp_path / "a.ctm", ["word", "grapheme"])
    with pytest.raises(BadOption, match=r"a\.txt"):
        write_alignment(found, tmp_path / "a.txt")


def test_quality_on_paper():
    truth = [Segment(0.0, 0.1, "K"), Segment(0.1, 0.3, "AE"), Segment(0.3, 0.4, "SIL"), Segment(0.4, 0.5, "T")]
    # AE ends 0.1 s early; T is taken for D, 10 ms early at the start; there is an S too many behind it.
    found = [Segment(0.0, 0.1, "K"), Segment(0.1, 0.2, "AE"), Segment(0.39, 0.5, "D"), Segment(0.5, 0.6, "S")]
    quality = alignment_quality([truth], [found], draws=10)
    # Errors 0 0 | 0 100 | 10 0 ms: the median is 0; five of six are within 20 ms.
    assert (quality.boundaries, quality.median_error_s) == (6, pytest.approx(0, abs=1e-12))
    assert quality.near == pytest.approx(5 / 6)
    # Frames every 10 ms: 10 of K, 20 of AE, 10 of T; right are those of K and the first 10 of AE.
    assert quality.frames == 40
    assert quality.right == pytest.approx(20 / 40)
    assert (quality.phones, quality.unmatched, quality.extra, quality.other) == (3, 0, 1, 1)
    # One utterance can only be drawn again.
    assert quality.right_interval == (0.5, 0.5)
    same = alignment_quality([truth, truth], [truth, truth], draws=10)
    assert (same.median_error_s, same.near, same.right) == (0, 1, 1)
    assert "100.0 % [100.0, 100.0] of frames" in str(same)


def test_intervals_hold_what_they_should():
    # The mean of 60 independent numbers: the bootstrap's interval is near that of the normal distribution.
    values = np.random.default_rng(0).standard_normal(60)
    ((low, high),) = bootstrap([lambda drawn: float(values[drawn].mean())], 60, 0.95, 2000, 1)
    reach = 1.96 * values.std() / 60**0.5
    assert (low, high) == pytest.approx((values.mean() - reach, values.mean() + reach), abs=0.15 * reach)


def test_what_cannot_be_compared():
    tier = [Segment(0, 1, "K")]
    for reference, found in (([tier], []), ([], []), ([tier], [[]]), ([[Segment(0, 1, "SIL")]], [tier])):
        with pytest.raises(BadInput):
            alignment_quality(reference, found)
    with pytest.raises(BadOption):
        alignment_quality([tier], [tier], level=1)


def test_closures_belong_to_their_stops():
    labels = "h# kcl k ae tcl t q dcl jh pcl m bcl"
    tier = [Segment(i / 10, (i + 1) / 10, label) for i, label in enumerate(labels.split())]
    found = joined_closures(tier)
    assert [one.label for one in found] == "h# k ae t q jh p m b".split()
    assert (found[1].start_s, found[1].end_s) == (0.1, 0.3)
    assert (found[5].start_s, found[5].end_s) == (0.7, 0.9)


def test_agreement_of_profiles_on_paper():
    rng = np.random.default_rng(3)
    table = rng.standard_normal((3, 4, 5)).astype(np.float32)
    one = profiles_of({"conv": table}, ("phone:AE", "phone:T", "phone:K"))
    # T and K change places, and K is called by another grouping's name; AE is another sound there, Z nowhere here.
    other_table = np.concatenate([table[[2, 1]], rng.standard_normal((1, 4, 5)).astype(np.float32)])
    other = profiles_of({"conv": other_table, "more": table}, ("reference:K", "reference:T", "reference:Z"))
    found = profile_agreement(one, other, "phone", "reference")
    assert list(found["layer"].values) == ["conv"]
    assert list(found["label"].values) == ["T", "K"]
    wanted = [
        np.corrcoef(one.profile["conv"].values[i].ravel(), other.profile["conv"].values[j].ravel())[0, 1]
        for i, j in ((1, 1), (2, 0))
    ]
    assert found["correlation"].values[0] == pytest.approx(wanted, abs=1e-6)
    assert found["median"].values[0] == pytest.approx(np.median(wanted), abs=1e-6)
    assert found["instances"].values.tolist() == [[1, 1]]
    assert found.attrs["unpaired"] == "AE Z"
    itself = profile_agreement(one, one)
    assert itself["correlation"].values == pytest.approx(np.ones((1, 3)), abs=1e-6)
    with pytest.raises(BadInput, match="nothing in common"):
        profile_agreement(one, other)
