"""Word errors counted by hand."""

from __future__ import annotations

import math

import pytest

from otoscope.learn.score import Counts, score_texts, score_words


@pytest.mark.parametrize(
    ("reference", "hypothesis", "words", "sub", "deletions", "ins"),
    [
        ("the cat sat", "the cat sat", 3, 0, 0, 0),
        ("the cat sat", "the bat sat", 3, 1, 0, 0),
        ("the cat sat", "the sat", 3, 0, 1, 0),
        ("the cat sat", "the cat sat down", 3, 0, 0, 1),
        ("the cat sat", "", 3, 0, 3, 0),
        ("", "a b", 0, 0, 0, 2),
        ("", "", 0, 0, 0, 0),
        ("a b c d", "b c d e", 4, 0, 1, 1),
        # One substitution and one deletion cost 4 + 3; no alignment of these is cheaper.
        ("a b c", "x c", 3, 1, 1, 0),
        # Three substitutions cost as much as two deletions, two insertions and a match; sclite takes the former.
        ("b d d", "a a b", 3, 3, 0, 0),
        ("Don\u2019t stop!", "don't STOP", 2, 0, 0, 0),
    ],
)
def test_errors_by_hand(reference, hypothesis, words, sub, deletions, ins):
    counts = score_words(reference, hypothesis)
    assert counts == Counts(1, words, words - sub - deletions, sub, deletions, ins)
    assert counts.errors == sub + deletions + ins


def test_rates():
    assert score_words("a b c d", "a x c d").wer == 25
    assert score_words("a", "b c d").wer == 300
    assert math.isnan(score_words("", "a").wer)
    assert score_words("", "a").as_dict()["wer"] is None


def test_counts_add_up():
    total = score_texts([("a b c", "a x c"), ("d e", "d"), ("", "f"), ("g", "g")])
    assert total == Counts(sentences=4, words=6, correct=4, sub=1, deletions=1, ins=1)
    assert total == Counts(2, 5, 3, 1, 1, 0) + Counts(2, 1, 1, 0, 0, 1)
    assert total.wer == 50
    assert score_texts([]) == Counts()


def test_counts_in_words_and_under_sclites_names():
    counts = Counts(sentences=2, words=8, correct=5, sub=2, deletions=1, ins=4)
    assert str(counts) == "WER 87.5 % (S/D/I 2/1/4 of 8 words, 2 utterances)"
    assert str(Counts(1, 0, 0, 0, 0, 2)) == "WER undefined (S/D/I 0/0/2 of 0 words, 1 utterances)"
    assert counts.as_dict() == {
        **{"sentences": 2, "words": 8, "correct": 5, "sub": 2, "del": 1, "ins": 4},
        **{"errors": 7, "wer": 87.5},
    }
