"""Forced alignment against every path there is, on tiny cases, and against paths found on paper."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from otoscope.base import BadInput, BadOption
from otoscope.learn.align import Alignment, as_letters, best_paths, extents, frames_needed, viterbi

NEVER = -math.inf


def log(rows: list[list[float]]) -> Tensor:
    return torch.tensor(rows).log()


def aligned(rows: list[list[float]], text: list[int], blank: int = 0) -> Alignment:
    (found,) = best_paths(log(rows)[None], torch.tensor([len(rows)]), [text], blank)
    assert isinstance(found, Alignment), found
    return found


def spelled(path: tuple[int, ...], blank: int) -> list[int]:
    """What a path says: CTC's B, written out (Graves et al. 2006)."""
    return [symbol for symbol, _ in itertools.groupby(path) if symbol != blank]


def best_by_enumeration(log_probs: Tensor, text: list[int], blank: int) -> tuple[float, tuple[int, ...]]:
    frames, symbols = log_probs.shape
    paths = (path for path in itertools.product(range(symbols), repeat=frames) if spelled(path, blank) == text)
    scores = [(sum(float(log_probs[t, s]) for t, s in enumerate(path)), path) for path in paths]
    return max(scores, default=(NEVER, ()))


@pytest.mark.parametrize("blank", [0, 2])
@pytest.mark.parametrize("text", [[1], [1, 1], [1, 3], [3, 1, 3], [1, 1, 1], [3, 3, 1, 1]])
def test_the_best_path_is_that_of_enumeration(text, blank):
    generator = torch.Generator().manual_seed(len(text) + 10 * blank)
    for frames in range(1, 7):
        log_probs = torch.randn(frames, 4, generator=generator, dtype=torch.float64).mul(2).log_softmax(-1)
        score, path = best_by_enumeration(log_probs, text, blank)
        (found,) = best_paths(log_probs[None], torch.tensor([frames]), [text], blank)
        assert (score == NEVER) == (frames < frames_needed(text)) == isinstance(found, BadInput)
        if isinstance(found, Alignment):
            assert found.score == pytest.approx(score, abs=1e-9)
            said = [blank if p < 0 else text[p] for p in found.position.tolist()]
            assert tuple(said) == path
            assert sorted(set(found.position.tolist()) - {-1}) == list(range(len(text)))


def test_a_batch_is_what_each_is_alone():
    generator = torch.Generator().manual_seed(4)
    lengths, texts = [9, 4, 12, 7], [[1, 2], [2, 2], [1, 2, 1, 1], [2]]
    rows = [torch.randn(length, 3, generator=generator).log_softmax(-1) for length in lengths]
    # What stands behind the ends must not matter, not even if it is no number.
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=math.nan)
    together = best_paths(padded, torch.tensor(lengths), texts, 0)
    for row, text, found in zip(rows, texts, together, strict=True):
        (alone,) = best_paths(row[None], torch.tensor([len(row)]), [text], 0)
        assert isinstance(found, Alignment)
        assert isinstance(alone, Alignment)
        assert found.position.tolist() == alone.position.tolist()
        assert found.score == pytest.approx(alone.score)


def test_paths_on_paper():
    # ab over four frames: the best single symbols are a, blank, b, b, and they spell the text.
    found = aligned([[0.1, 0.8, 0.1], [0.6, 0.2, 0.2], [0.1, 0.1, 0.8], [0.2, 0.1, 0.7]], [1, 2])
    assert found.position.tolist() == [0, -1, 1, 1]
    assert found.score == pytest.approx(math.log(0.8 * 0.6 * 0.8 * 0.7), rel=1e-6)
    # aa needs a blank between: of a_a (0.9 · 0.1 · 0.9) there is no other path in three frames.
    found = aligned([[0.05, 0.9, 0.05], [0.1, 0.8, 0.1], [0.05, 0.9, 0.05]], [1, 1])
    assert found.position.tolist() == [0, -1, 1]
    assert found.score == pytest.approx(math.log(0.081), rel=1e-6)
    # The text is forced though the network would say something else: one b where it is likeliest.
    found = aligned([[0.15, 0.8, 0.05], [0.1, 0.5, 0.4], [0.15, 0.8, 0.05]], [2])
    assert found.position.tolist() == [-1, 0, -1]
    # a_ab: a, blank, a, b is the only way in four frames to say aab, whatever is likely.
    found = aligned([[0.7, 0.2, 0.1]] * 4, [1, 1, 2])
    assert found.position.tolist() == [0, -1, 1, 2]


def test_scores_are_those_of_the_path():
    found = aligned([[0.25, 0.5, 0.25], [0.25, 0.5, 0.25], [0.5, 0.25, 0.25]], [1])
    assert found.log_prob.exp().tolist() == pytest.approx([0.5, 0.5, 0.5])
    (letter,) = extents(found, "path")
    assert (letter.start, letter.end, letter.score) == (0, 2, pytest.approx(math.log(0.5)))


@pytest.mark.parametrize(
    ("frames", "text", "words"),
    [
        (2, [1, 2, 1], "shorter than its text needs"),
        (2, [1, 1], "shorter than its text needs"),
        (3, [], "nothing to align"),
        (0, [1], "shorter than its text needs"),
    ],
)
def test_what_cannot_be_aligned_is_named_and_the_rest_goes_on(frames, text, words):
    log_probs = torch.full((2, 5, 3), 1 / 3).log()
    bad, good = best_paths(log_probs, torch.tensor([frames, 5]), [text, [1]], 0)
    assert isinstance(bad, BadInput)
    assert words in str(bad)
    assert isinstance(good, Alignment)


def test_how_many_frames_were_needed_is_said():
    (bad,) = best_paths(torch.zeros(1, 4, 3), torch.tensor([4]), [[1, 1, 2, 2]], 0)
    assert "4 output frames" in str(bad)
    assert "at least 6" in str(bad)


def test_values_that_are_no_probabilities():
    log_probs = torch.full((3, 4, 3), 1 / 3).log()
    log_probs[0, 2, 1] = math.nan
    log_probs[1, :, 1] = NEVER
    nan, never, good = best_paths(log_probs, torch.tensor([4, 4, 4]), [[1], [1], [1]], 0)
    assert isinstance(nan, BadInput)
    assert "not finite" in str(nan)
    assert isinstance(never, BadInput)
    assert "no probability" in str(never)
    assert isinstance(good, Alignment)
    # A symbol that is impossible somewhere is said elsewhere.
    (found,) = best_paths(log_probs[1:2], torch.tensor([4]), [[2]], 0)
    assert isinstance(found, Alignment)


@pytest.mark.parametrize(
    ("lengths", "texts", "blank"),
    [
        ([4], [[1]], 0),
        ([4, 5], [[1], [1]], 0),
        ([4, 4], [[1], [3]], 0),
        ([4, 4], [[1], [0]], 0),
        ([4, 4], [[1], [1]], 3),
    ],
)
def test_what_does_not_fit_is_refused(lengths, texts, blank):
    with pytest.raises(BadOption):
        best_paths(torch.zeros(2, 4, 3), torch.tensor(lengths), texts, blank)


def test_frames_behind_the_end_have_no_state():
    states = viterbi(torch.zeros(2, 4, 3), torch.tensor([2, 4]), [[1], [1, 2]], 0)
    assert states[0, 2:].tolist() == [-1, -1]
    assert (states[1] >= 0).all()


# Twelve frames: c at 2 and 3 (more likely at 3), the space at 6, b at 9.
SPOKEN = torch.tensor([-1, -1, 0, 0, -1, -1, 1, -1, -1, 2, -1, -1])


def spoken() -> Alignment:
    log_prob = torch.full((12,), -0.1)
    log_prob[2] = -0.5
    return Alignment((3, 1, 2), SPOKEN, log_prob)


@pytest.mark.parametrize(
    ("extent", "wanted"),
    [
        # On paper. Frame t lasts from t to t + 1; the peaks are in the middle of frames 3, 6 and 9.
        ("path", [(2, 4), (6, 7), (9, 10)]),
        ("until_next", [(2, 6), (6, 9), (9, 12)]),
        ("since_last", [(0, 4), (4, 7), (7, 10)]),
        ("midway", [(0, 5), (5, 8), (8, 12)]),
    ],
)
def test_extents_on_paper(extent, wanted):
    found = extents(spoken(), extent)
    assert [(one.start, one.end) for one in found] == wanted
    assert [one.peak for one in found] == [3, 6, 9]
    assert [one.symbol for one in found] == [3, 1, 2]


@pytest.mark.parametrize(
    ("extent", "wanted"),
    [
        ("path", [(2, 4), (6, 7), (9, 10)]),
        ("until_next", [(2, 7.5), (7.5, 7.5), (7.5, 12)]),
        ("midway", [(0, 6.5), (6.5, 6.5), (6.5, 12)]),
    ],
)
def test_neighbours_share_a_space(extent, wanted):
    assert [(one.start, one.end) for one in extents(spoken(), extent, space=1)] == wanted


def test_pauses_are_no_ones():
    # Within 2 frames of the peaks at 3.5 and 9.5, but never less than on the path.
    found = extents(spoken(), "until_next", space=1, reach=2)
    assert [(one.start, one.end) for one in found] == [(2, 5.5), (7.5, 7.5), (7.5, 11.5)]
    assert next((one.start, one.end) for one in extents(spoken(), "midway", reach=0.1)) == (2, 4)


def test_letters_that_follow_without_a_blank_meet_where_the_path_says():
    alignment = Alignment((1, 2), torch.tensor([0, 0, 0, 0, 1]), torch.tensor([-0.1, -0.5, -0.5, -0.5, -0.1]))
    # The peaks are 0 and 4; midway, at 2.5, the path still says the first letter.
    assert [(one.start, one.end) for one in extents(alignment, "midway")] == [(0, 4), (4, 5)]
    with pytest.raises(BadOption, match="extent"):
        extents(alignment, "centre")


def test_other_networks_names_of_letters():
    assert as_letters(["<pad>", "|", "A", "B", "'"]) == ["<pad>", " ", "a", "b", "'"]
    assert as_letters(["_", " ", "a", "|"]) == ["_", " ", "a", "|"]
