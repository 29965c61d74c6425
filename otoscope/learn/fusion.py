"""What a language model and a lexicon add to each hypothesis of a beam: shallow fusion (Gulcehre et al. 2015).

The score of a text is `log p(text | speech) + lm_weight · log p(text) + bonus · units`. A model counts in words, or in
the network's own symbols (characters, word pieces); `</s>` counts at the end. A machine of numbered states follows each
hypothesis: `rows[state]` is what each symbol would add, `step` is where it leads, `finish` what the end adds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from otoscope.base import BadInput, BadOption, choose
from otoscope.learn.arpa import BEGIN, END, UNKNOWN, Arpa, Context
from otoscope.learn.units import WORD_START

UNITS = ("word", "symbol")
# How models of characters write the space between words, which cannot stand in an ARPA file as it is.
SPACES = ("<space>", "|", "▁", "<SPACE>", "_")
# States are forgotten between utterances once their rows take this much memory.
MOST_BYTES = 32 * 2**20


class Machine(Protocol):
    """Follows hypotheses; state 0 is that before the first symbol."""

    rows: np.ndarray
    """`(state, symbol)`, what each symbol adds to the score; `-inf` forbids it."""
    ignored: int | None
    """The symbol that changes nothing in states where `idle` is true: the space before a word."""
    idle: np.ndarray
    """`(state,)`, whether no word has been begun."""

    def step(self, state: int, symbol: int) -> int:
        """The state after a symbol; may lengthen `rows`."""

    def finish(self, state: int, whole: bool = True) -> float:
        """What the end of the utterance adds; `-inf` in a word that is not in the lexicon, if words must be `whole`."""

    def begin(self) -> None:
        """Forget old states, if they have become many."""


class _States:
    """States by what they stand for, their rows in an array that grows."""

    ignored: int | None = None

    def __init__(self, symbols: int, first: Any):
        self._first = first
        self._symbols = symbols
        self._empty()

    def _empty(self) -> None:
        self._keys: list[Any] = []
        self._numbers: dict[Any, int] = {}
        self._steps: dict[int, int] = {}
        self.rows = np.empty((64, self._symbols))
        self.idle = np.zeros(64, bool)
        self._number(self._first)

    def begin(self) -> None:
        if self.rows.nbytes > MOST_BYTES:
            self._empty()

    def step(self, state: int, symbol: int) -> int:
        place = state * self._symbols + symbol
        found = self._steps.get(place)
        if found is None:
            found = self._steps[place] = self._number(self._next(self._keys[state], symbol))
        return found

    def _number(self, key: Any) -> int:
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._keys)
            self._keys.append(key)
            if number == len(self.rows):
                self.rows = np.concatenate([self.rows, np.empty_like(self.rows)])
                self.idle = np.concatenate([self.idle, np.zeros_like(self.idle)])
            self.idle[number] = self._fill(key, self.rows[number])
        return number

    def _next(self, key: Any, symbol: int) -> Any:
        raise NotImplementedError

    def _fill(self, key: Any, row: np.ndarray) -> bool:
        """Write what each symbol adds; returns whether the state is idle."""
        raise NotImplementedError


class SymbolMachine(_States):
    """A model of the network's own symbols; a state is the model's context.

    Raises:
        BadInput: the model has symbols that the network lacks.
    """

    def __init__(self, lm: Arpa, symbols: Sequence[str], *, lm_weight: float, bonus: float):
        self._lm, self._weight, self._bonus = lm, lm_weight, bonus
        names = model_names(lm, symbols)
        lacking = sorted(set(lm.words) - set(names) - {BEGIN, END, UNKNOWN})
        if lacking:
            raise BadInput(
                "the language model has symbols that the network lacks",
                got=f"{lm.path}: {_some(lacking)}",
                wanted=f"only symbols of the network ({_some(list(symbols))}), {BEGIN}, {END} and {UNKNOWN}",
                remedy="if it is a model of words, say so: lm_units='word'",
            )
        self._words = [lm.number(name) for name in names]
        # The place of a symbol in the model's distribution; one that the model does not have at all takes the last.
        self._places = np.array([len(lm.words) if word is None else word for word in self._words])
        self._unknown = lm.step((), None)[0]
        super().__init__(len(symbols), lm.start())

    def _next(self, key: Context, symbol: int) -> Context:
        return self._lm.step(key, self._words[symbol])[1]

    def _fill(self, key: Context, row: np.ndarray) -> bool:
        values = np.append(self._lm.distribution(key), self._unknown)
        row[:] = _weighted(self._weight, values[self._places]) + self._bonus
        return False

    def finish(self, state: int, whole: bool = True) -> float:
        """The weighted probability of `</s>`."""
        return float(_weighted(self._weight, self._lm.log_probability(self._lm.end, self._keys[state])))


class WordMachine(_States):
    """A model of words, a lexicon, or both; a state is the model's context and the letters of the word begun.

    A word counts when the separator comes, or a piece that begins the next (`▁the`), or the end. Separators at the ends
    of a text and after each other change nothing: hypotheses are texts. Without a lexicon any word may be written; the
    model's `<unk>` weighs unknown ones.

    So that a beam can tell likely words from unlikely ones before they end, letters are worth the likeliest 1-gram that
    begins with them, which the end of the word takes back (Ortmanns et al. 1996, language model look-ahead): texts have
    the scores that they have without it. Pieces of words do without.

    Raises:
        BadOption: nothing among the symbols parts words; or a lexicon with pieces.
        BadInput: words of the lexicon that the network cannot spell, or a model hardly any of whose words it can.
    """

    def __init__(
        self,
        lm: Arpa | None,
        symbols: Sequence[str],
        *,
        lm_weight: float,
        bonus: float,
        lexicon: Iterable[str] | None,
        separator: str,
    ):
        self._lm, self._weight, self._bonus, self._names = lm, lm_weight, bonus, list(symbols)
        lexicon = None if lexicon is None else tuple(dict.fromkeys(lexicon))
        self._ends = [n for n, name in enumerate(symbols) if name == separator or name.startswith(WORD_START)]
        self._ending = frozenset(self._ends)
        if not self._ends or (lexicon is not None and separator not in symbols):
            raise BadOption(
                "a lexicon wants a symbol that parts words"
                if self._ends
                else "words want a symbol that parts them, or pieces that begin them",
                got=f"no {separator!r} among {_some(self._names)}",
                wanted="one of the symbols as separator",
                remedy="give a model of symbols, or name the separator",
            )
        self.ignored = self._names.index(separator) if separator in symbols else None
        if lm is not None:
            _require_spellable(lm, symbols)
        # What may follow the letters of a word begun; the separator follows whole words.
        self._follow: dict[str, set[int]] | None = None
        if lexicon is not None and self.ignored is not None:
            self._follow = {}
            numbers = numbered(symbols)
            for word in lexicon:
                for place, symbol in enumerate([*spelling(word, numbers), self.ignored]):
                    self._follow.setdefault(word[:place], set()).add(symbol)
        self._ahead: dict[str, float] = {}
        self._unseen = 0.0
        if lm is not None and self.ignored is not None:
            spoken = lm.words if lexicon is None else lexicon
            self._unseen = float(_weighted(lm_weight, unigram(lm, UNKNOWN)))
            self._ahead = _look_ahead(spoken, lm, lm_weight, self._unseen)
        super().__init__(len(symbols), (() if lm is None else lm.start(), ""))

    def _empty(self) -> None:
        self._rows_of: dict[str, np.ndarray] = {}
        super()._empty()

    def _next(self, key: tuple[Context, str], symbol: int) -> tuple[Context, str]:
        context, begun = key
        if symbol not in self._ending:
            return context, begun + self._names[symbol]
        if self._lm is not None and begun:
            context = self._lm.step(context, self._lm.number(begun))[1]
        return context, "" if symbol == self.ignored else self._names[symbol].removeprefix(WORD_START)

    def _fill(self, key: tuple[Context, str], row: np.ndarray) -> bool:
        context, begun = key
        row[:] = self._letters(begun)
        if begun and self._whole(begun):
            row[self._ends] = self._closing(context, begun)[0]
        return not begun

    def _letters(self, begun: str) -> np.ndarray:
        """What each symbol adds after the letters of a word begun, but for those that end it, `(symbol,)`."""
        row = self._rows_of.get(begun)
        if row is None:
            row = self._rows_of[begun] = np.full(len(self._names), -np.inf)
            follow = range(len(row)) if self._follow is None else self._follow.get(begun, ())
            before = self._likeliest(begun)
            for symbol in follow:
                row[symbol] = self._likeliest(begun + self._names[symbol]) - before if self._ahead else 0.0
            if self.ignored is not None:
                row[self.ignored] = -np.inf
        return row

    def _whole(self, begun: str) -> bool:
        """Whether these letters may end a word."""
        return self._follow is None or self.ignored in self._follow.get(begun, ())

    def _likeliest(self, begun: str) -> float:
        """What has been added for a word begun, before it ends."""
        return self._ahead.get(begun, self._unseen) if begun else 0.0

    def _closing(self, context: Context, begun: str) -> tuple[float, Context]:
        """What a whole word adds, beside what its letters have, and the context after it."""
        if self._lm is None:
            return self._bonus, context
        value, context = self._lm.step(context, self._lm.number(begun))
        return float(_weighted(self._weight, value)) + self._bonus - self._likeliest(begun), context

    def finish(self, state: int, whole: bool = True) -> float:
        """The last word, if one has been begun, and the weighted probability of `</s>`."""
        context, begun = self._keys[state]
        added = 0.0
        if begun:
            if whole and not self._whole(begun):
                return -np.inf
            added, context = self._closing(context, begun)
        if self._lm is not None:
            added += float(_weighted(self._weight, self._lm.log_probability(self._lm.end, context)))
        return added


def machine(
    symbols: Sequence[str],
    lm: Arpa | None,
    *,
    lm_units: str | None = None,
    lm_weight: float = 0.5,
    bonus: float = 0.0,
    lexicon: Iterable[str] | None = None,
    separator: str = " ",
) -> Machine | None:
    """The machine for a model and a lexicon; None if there is neither.

    Args:
        lm_units: "word" or "symbol"; unless given, symbols if each word of the model is one, a space written as `|`,
            `▁`, `_` or `<space>`.

    Raises:
        BadOption, BadInput: see `SymbolMachine` and `WordMachine`; a bonus without either, or a lexicon with a model of
            symbols.
    """
    if lm is None and lexicon is None:
        if bonus:
            raise BadOption("a bonus counts with a language model or a lexicon", got=f"bonus={bonus}", wanted="either")
        return None
    if not (math.isfinite(lm_weight) and lm_weight >= 0 and math.isfinite(bonus)):
        raise BadOption(
            "these weights cannot be", got=f"lm_weight={lm_weight}, bonus={bonus}", wanted="0 or more; finite"
        )
    units = units_of(lm, symbols, lm_units)
    if units == "symbol" and lexicon is not None:
        raise BadOption(
            "a lexicon goes with a model of words", got="a model of symbols", wanted="one of both, not both"
        )
    if units == "symbol" and lm is not None:
        return SymbolMachine(lm, symbols, lm_weight=lm_weight, bonus=bonus)
    return WordMachine(lm, symbols, lm_weight=lm_weight, bonus=bonus, lexicon=lexicon, separator=separator)


def units_of(lm: Arpa | None, symbols: Sequence[str], named: str | None) -> str:
    """What a model counts in, the name given or found by its vocabulary."""
    if named is not None:
        return choose("lm_units", named, UNITS)
    if lm is None:
        return "word"
    own = set(lm.words) - {BEGIN, END, UNKNOWN}
    return "symbol" if own and own <= set(model_names(lm, symbols)) else "word"


def model_names(lm: Arpa, symbols: Sequence[str]) -> list[str]:
    """The symbols as a model of symbols writes them: the space under the first of `SPACES` that the model has."""
    space = next((name for name in SPACES if name in lm and name not in symbols), " ")
    return [space if symbol == " " else symbol for symbol in symbols]


def spelling(word: str, numbers: Mapping[str, int]) -> list[int]:
    """The symbols of a word of a lexicon, one a character, from the number of each symbol.

    Raises:
        BadInput: naming the word and the character that is no symbol.
    """
    try:
        return [numbers[character] for character in word]
    except KeyError as error:
        raise BadInput(
            "a word of the lexicon cannot be spelt with the network's symbols",
            got=f"{word!r}, which has {error}",
            wanted=_some(list(numbers)),
            remedy="write the lexicon as the transcripts are: lower case, say",
        ) from error


def numbered(symbols: Sequence[str]) -> dict[str, int]:
    """The number of each symbol."""
    return {symbol: number for number, symbol in enumerate(symbols)}


def _look_ahead(words: Iterable[str], lm: Arpa, weight: float, least: float) -> dict[str, float]:
    """The weighted log-probability of the likeliest 1-gram with each beginning."""
    found: dict[str, float] = {}
    for word in words:
        value = max(float(_weighted(weight, unigram(lm, word))), least)
        for length in range(1, len(word) + 1):
            begun = word[:length]
            if found.get(begun, -np.inf) < value:
                found[begun] = value
    return found


def unigram(lm: Arpa, word: str) -> float:
    """Its log-probability in no context; not below that of a word unknown to a model without `<unk>`."""
    return max(lm.step((), lm.number(word))[0], lm.step((), None)[0])


def _require_spellable(lm: Arpa, symbols: Sequence[str]) -> None:
    """Refuse a model that cannot be meant for this network, such as one in upper case."""
    letters = set("".join(symbols))
    own = [word for word in lm.words if word not in (BEGIN, END, UNKNOWN)]
    strange = [word for word in own if not set(word) <= letters]
    if own and len(strange) > len(own) / 2:
        raise BadInput(
            "the network cannot spell most words of the language model",
            got=f"{lm.path}: {len(strange)} of {len(own)}, such as {_some(strange)}",
            wanted=f"words of {_some(list(symbols))}",
            remedy="write the model as the transcripts are: lower case, say",
        )


def _weighted(weight: float, value: Any) -> Any:
    """`weight · value`, where nothing times impossible is nothing."""
    return weight * value if weight else np.zeros_like(value)


def _some(names: Sequence[str]) -> str:
    return " ".join(map(repr, names[:8])) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
