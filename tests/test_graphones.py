"""N-grams of letters and their phones: against the formula counted by hand, as a distribution, kept as they were."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from otoscope.base import BadInput
from otoscope.learn.graphones import Graphones

A, B, C = ("a", ("EY",)), ("b", ("B",)), ("c", ())
WORDS = [[A, B], [A, B], [A, C], [B]]


def chance(model: Graphones, *words: list) -> float:
    return float(np.exp(model.log_probabilities(words)).sum())


def test_bigrams_are_smoothed_as_kneser_and_ney_say():
    """Counted on paper. Bigrams: ^a 3, ^b 1, ab 2, ac 1, b$ 3, c$ 1: three of six came once, one twice, D = 3/5.

    Symbols by how many others stand before them: a 1, b 2, c 1, $ 2: D = 2 / (2 + 4) = 1/3 of six; four kinds.
    """
    model = Graphones.fit(WORDS, order=2)
    share = 1 / 3 * 4 / 6
    alone = {name: (count - 1 / 3) / 6 + share / 4 for name, count in {"a": 1, "b": 2, "c": 1, "$": 2}.items()}
    assert sum(alone.values()) == pytest.approx(1)
    d = 3 / 5
    first_a = (3 - d) / 4 + d * 2 / 4 * alone["a"]
    b_after_a = (2 - d) / 3 + d * 2 / 3 * alone["b"]
    end_after_b = (3 - d) / 3 + d * 1 / 3 * alone["$"]
    assert chance(model, [A, B]) == pytest.approx(first_a * b_after_a * end_after_b)
    # Never seen: what is left to the lower order, or from an unknown history that order itself.
    b_after_b = d * 1 / 3 * alone["b"]
    first_b = (1 - d) / 4 + d * 2 / 4 * alone["b"]
    assert chance(model, [B, B]) == pytest.approx(first_b * b_after_b * end_after_b)


@pytest.mark.parametrize("order", [1, 2, 3, 6])
def test_all_words_together_have_a_chance_of_one(order):
    model = Graphones.fit(WORDS, order=order)
    words = [list(word) for length in range(9) for word in itertools.product([A, B, C], repeat=length)]
    found = np.exp(model.log_probabilities(words))
    assert (found > 0).all()
    # Longer words have the rest, which shrinks with every letter.
    longer = 1 - found.sum()
    assert 0 < longer < (0.06 if order > 1 else 0.2)
    lengths = np.array([len(word) for word in words])
    missing = 1 - np.array([found[lengths <= length].sum() for length in range(9)])
    assert (missing[3:] / missing[2:-1] < 0.9).all()


def test_what_is_often_is_likely_and_what_was_never_seen_is_possible():
    model = Graphones.fit(WORDS)
    often, rare, never, strange = model.log_probabilities([[A, B], [A, C], [C, A, C], [("q", ("K",))]])
    assert often > rare > never > -math.inf
    assert np.isfinite(strange)
    assert list(model.log_probabilities([])) == []


def test_a_word_is_worth_the_same_alone_and_among_others():
    model = Graphones.fit(WORDS)
    together = model.log_probabilities([[A], [B, A], [A, B, C]])
    for value, word in zip(together, [[A], [B, A], [A, B, C]], strict=True):
        assert model.log_probabilities([word])[0] == pytest.approx(value, rel=1e-12)


def test_it_is_kept_as_it_was():
    model = Graphones.fit(WORDS)
    again = Graphones.from_facts(model.facts(), model.ngrams, model.counts)
    np.testing.assert_array_equal(again.log_probabilities(WORDS), model.log_probabilities(WORDS))


def test_no_n_grams_are_told():
    with pytest.raises(BadInput, match="no n-grams"):
        Graphones([A], np.array([5, 5]), np.array([1, 1]))
    with pytest.raises(BadInput, match="63 bits"):
        Graphones([A, B], np.array([5]), np.array([1]), order=40)


def test_without_words_all_symbols_are_alike():
    model = Graphones.fit([])
    assert model.log_probabilities([[]])[0] == 0.0
    assert list(model.log_probabilities([[A], [A, B]])) == [0.0, 0.0]


def test_words_that_all_came_as_often_leave_something_for_others():
    for word in ([A, B], [C]):
        seen, never = Graphones.fit([word] * 3).log_probabilities([word, [B, A]])
        assert -math.inf < never < seen
