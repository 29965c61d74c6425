"""How likely a spelling and a pronunciation belong together: an n-gram model of letters with the phones they make.

A word with its phones, aligned, is a row of pairs (c, K) (a, EY) (k, K) (e, –), "graphones" (Bisani and Ney 2008,
"Joint-sequence models for grapheme-to-phoneme conversion"). Their n-grams are counted, and smoothed by interpolated
Kneser–Ney (Chen and Goodman 1999, equations 25 to 27, one discount for each order): with `c` the count of an n-gram in
the highest order, and in lower ones the number of different symbols before it,

    P(x | h) = max(c(h x) - D, 0) / c(h ·) + D N(h ·) / c(h ·) P(x | h')

where `N(h ·)` is how many different symbols follow `h`, `h'` is `h` without its first symbol, and D = n₁ / (n₁ + 2 n₂)
from the numbers of n-grams that came once and twice. Beneath single symbols all are equally likely.

A network sees the whole word and forgets what is rare; n-grams see six letters and forget nothing. Each is wrong about
other words.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from otoscope.base import BadInput
from otoscope.learn.letters import Chunk

Graphone: TypeAlias = tuple[str, Chunk]
"""A letter and the phones that it makes."""

ORDER = 6

# Numbers of symbols: before a word, after it; graphones follow.
_START, _END, _FIRST = 0, 1, 2


class _Order(NamedTuple):
    """One order of the model: n-grams, their discounted share, and histories with what they leave to lower orders."""

    ngrams: NDArray[np.int64]
    shares: NDArray[np.float64]
    histories: NDArray[np.int64]
    left: NDArray[np.float64]


class Graphones:
    """The model. An n-gram is one number, its symbols' numbers one after the other in as many bits as they need.

    Args:
        symbols: the graphones, numbered from 2 in this order.
        ngrams: those of the highest order that were seen, ascending, `(n-gram,)`.
        counts: how often each was, `(n-gram,)`.
        order: symbols in an n-gram.

    Raises:
        BadInput: n-grams that do not ascend, or not as many counts; more symbols than fit.
    """

    def __init__(
        self, symbols: Sequence[Graphone], ngrams: NDArray[np.int64], counts: NDArray[np.int64], order: int = ORDER
    ):
        self.symbols, self.ngrams, self.counts, self.order = list(symbols), ngrams, counts, order
        # One number more stands for graphones that were never seen.
        self._bits = (len(symbols) + _FIRST).bit_length()
        if order < 1 or order * self._bits > 63 or len(ngrams) != len(counts) or (np.diff(ngrams) <= 0).any():
            raise BadInput(
                "these are no n-grams",
                got=f"{len(ngrams)} n-grams of order {order}, {len(counts)} counts, {len(symbols)} symbols",
                wanted="ascending n-grams with a count each, of symbols that fit into 63 bits",
            )
        self._numbers = {graphone: number for number, graphone in enumerate(self.symbols, start=_FIRST)}
        self._orders = list(self._smoothed())

    @classmethod
    def fit(cls, words: Iterable[Sequence[Graphone]], order: int = ORDER) -> Graphones:
        """Count the n-grams of aligned words; a word with two pronunciations comes twice."""
        rows = [list(word) for word in words]
        symbols = sorted({graphone for row in rows for graphone in row})
        empty = np.zeros(0, np.int64)
        numbers = cls(symbols, empty, empty, order)
        found = np.concatenate([empty, *(numbers._packed(row) for row in rows)])
        return cls(symbols, *np.unique(found, return_counts=True), order)

    def log_probabilities(self, words: Sequence[Sequence[Graphone]]) -> NDArray[np.float64]:
        """ln P of each aligned word, its end among it, `(word,)`."""
        if not words:
            return np.zeros(0)
        packed = [self._packed(word) for word in words]
        ngrams = np.concatenate(packed)
        chances = np.full(len(ngrams), 1 / (len(self.symbols) + 1))
        for length, order in enumerate(self._orders, start=1):
            own = ngrams & ((1 << length * self._bits) - 1)
            place, seen = _find(order.histories, own >> self._bits)
            left = np.where(seen, order.left[place], 1.0) if len(order.left) else np.ones(len(own))
            place, known = _find(order.ngrams, own)
            share = np.where(known, order.shares[place], 0.0) if len(order.shares) else np.zeros(len(own))
            chances = share + left * chances
        ends = np.cumsum([len(row) for row in packed])
        return np.diff(np.concatenate([[0.0], np.cumsum(np.log(chances))[ends - 1]]))

    def facts(self) -> dict[str, Any]:
        """What is not counts, as JSON."""
        return {"order": self.order, "symbols": [[letter, list(chunk)] for letter, chunk in self.symbols]}

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any], ngrams: NDArray[np.int64], counts: NDArray[np.int64]) -> Graphones:
        """As `facts` wrote it, with its n-grams and counts.

        Raises:
            BadInput, KeyError, TypeError, ValueError: they are of something else.
        """
        symbols = [(str(letter), tuple(map(str, chunk))) for letter, chunk in facts["symbols"]]
        return cls(symbols, ngrams, counts, int(facts["order"]))

    def _packed(self, word: Sequence[Graphone]) -> NDArray[np.int64]:
        """The n-gram that ends in each symbol of a word and in its end, `(symbol + 1,)`."""
        strange = len(self.symbols) + _FIRST
        row = [_START] * (self.order - 1) + [self._numbers.get(graphone, strange) for graphone in word] + [_END]
        windows = np.lib.stride_tricks.sliding_window_view(np.array(row, np.int64), self.order)
        return windows @ (1 << self._bits * np.arange(self.order - 1, -1, -1, dtype=np.int64))

    def _smoothed(self) -> Iterable[_Order]:
        """The orders from single symbols to the highest."""
        tables = [(self.ngrams, self.counts)]
        for length in range(self.order - 1, 0, -1):
            # How many different symbols came before.
            shorter = tables[0][0] & ((1 << length * self._bits) - 1)
            tables.insert(0, np.unique(shorter, return_counts=True))
        for ngrams, counts in tables:
            once, twice = int((counts == 1).sum()), int((counts == 2).sum())
            # Too few words to tell: something must be left for what was never seen.
            discount = once / (once + 2 * twice) if once and twice else 0.5
            histories, first = np.unique(ngrams >> self._bits, return_index=True)
            if not len(ngrams):
                yield _Order(ngrams, np.zeros(0), histories, np.zeros(0))
                continue
            sums = np.add.reduceat(counts, first)
            kinds = np.diff(np.append(first, len(ngrams)))
            shares = (counts - discount) / np.repeat(sums, kinds)
            yield _Order(ngrams, shares, histories, discount * kinds / sums)


def _find(table: NDArray[np.int64], wanted: NDArray[np.int64]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Where each number is in an ascending table, and whether it is there."""
    if not len(table):
        return np.zeros(len(wanted), np.intp), np.zeros(len(wanted), bool)
    place = np.minimum(np.searchsorted(table, wanted), len(table) - 1)
    return place, table[place] == wanted
