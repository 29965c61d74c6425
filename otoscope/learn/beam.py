"""CTC prefix beam search (Graves and Jaitly 2014; Hannun et al. 2014), with a language model, exact up to the beam.

A hypothesis is a sequence of symbols, and its probability the sum over all paths through the frames that collapse to
it: repeats merged, blanks dropped. For each prefix the search keeps the mass of the paths that end in a blank and of
those that do not. What a language model adds (`otoscope.learn.fusion`) depends on the prefix only and multiplies both.

With words (a model of words, or a lexicon) hypotheses are texts: the paths of texts that differ only in the number of
spaces between words or at the ends are summed, too.

After each frame the `beam` best prefixes go on. Nothing else is left out: in a beam as wide as there are prefixes,
scores are the exact sums. `symbol_floor` and `skip_blank` are approximations and off by default.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from torch import Tensor

from otoscope.base import BadInput, BadOption
from otoscope.hear.text import decode
from otoscope.learn.arpa import BEGIN, END, Arpa
from otoscope.learn.decode import NORMALISED
from otoscope.learn.fusion import Machine, machine

BEAM = 16

Text: TypeAlias = Callable[[Sequence[int]], str]
"""From symbol numbers to text: that of the network's units."""


class Hypothesis(NamedTuple):
    """One answer of a search: symbol numbers, score (natural logarithm, as the search defines it), text."""

    tokens: tuple[int, ...]
    score: float
    text: str = ""


def checked(log_probabilities: Tensor | np.ndarray, blank: int | None, symbols: Sequence[str] | None) -> np.ndarray:
    """The posteriors of an utterance as `(frame, symbol)` in float64.

    Raises:
        BadInput: another shape, not a number, frames that do not add up to 1, a blank or symbols that do not fit.
    """
    values = log_probabilities
    if isinstance(values, Tensor):
        values = values.detach().cpu().double().numpy()
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or not values.shape[1]:
        raise BadInput(
            "these are no posteriors of one utterance", got=f"shape {values.shape}", wanted="(frame, symbol)"
        )
    width = values.shape[1]
    if symbols is not None and len(symbols) != width:
        raise BadInput("symbols and posteriors differ", got=f"{len(symbols)} symbols", wanted=f"{width}, one a column")
    if blank is None or not 0 <= blank < width:
        raise BadInput(
            "a beam search over frames needs CTC's blank",
            got=f"blank={blank}",
            wanted=f"a number from 0 to {width - 1}",
            remedy="a network without a blank is decoded greedily or by its attention decoder",
        )
    with np.errstate(invalid="ignore", over="ignore"):
        sums = np.exp(values).sum(axis=1)
    wrong = np.flatnonzero(~(np.abs(sums - 1) <= NORMALISED))
    if len(wrong):
        raise BadInput(
            "these are no log-probabilities",
            got=f"frame {wrong[0]} adds up to {sums[wrong[0]]:.4g}",
            wanted="1 over the symbols of each frame",
            remedy="take the log_softmax of the logits, and look for values that are not finite",
        )
    return values


class CtcBeam:
    """A search with its settings, for any number of utterances; `ctc_beam` explains them."""

    def __init__(
        self,
        symbols: Sequence[str] | None,
        blank: int | None,
        *,
        beam: int = BEAM,
        nbest: int | None = None,
        lm: Arpa | None = None,
        lm_units: str | None = None,
        lm_weight: float = 0.5,
        bonus: float = 0.0,
        lexicon: Iterable[str] | None = None,
        separator: str = " ",
        text: Text | None = None,
        symbol_floor: float = 0.0,
        skip_blank: float | None = None,
    ):
        check_beam(beam, nbest)
        if not 0 <= symbol_floor < 1:
            raise BadOption("symbol_floor is a probability", got=symbol_floor, wanted="from 0 to below 1")
        if skip_blank is not None and not 0.5 < skip_blank <= 1:
            raise BadOption(
                "skip_blank is a high probability", got=skip_blank, wanted="above 0.5, such as 0.999, or None"
            )
        self.symbols, self.blank = None if symbols is None else tuple(symbols), blank
        self._beam, self._nbest = beam, nbest or beam
        self._floor = math.log(symbol_floor) if symbol_floor else -math.inf
        self._skip = math.inf if skip_blank is None else math.log(skip_blank)
        # Symbols that no hypothesis has: the blank, and marks that only an attention decoder writes.
        self.never = [] if blank is None else [blank]
        self.never += [number for number, name in enumerate(self.symbols or ()) if name in (BEGIN, END)]
        self._text = text or (lambda ids: "" if self.symbols is None else decode(ids, self.symbols))
        if self.symbols is None and (lm is not None or lexicon is not None):
            raise BadOption(
                "a language model and a lexicon want the names of the symbols", got="none", wanted="symbols="
            )
        self._machine = machine(
            self.symbols or (),
            lm,
            lm_units=lm_units,
            lm_weight=lm_weight,
            bonus=bonus,
            lexicon=lexicon,
            separator=separator,
        )

    def __call__(self, log_probabilities: Tensor | np.ndarray) -> list[Hypothesis]:
        """The hypotheses of one utterance, `(frame, symbol)`, best first; one without symbols if it has no frames."""
        values = checked(log_probabilities, self.blank, self.symbols)
        assert self.blank is not None
        search = _Search(values.shape[1], self.blank, self._beam, self._machine)
        frames = values.copy()
        frames[values < self._floor] = -np.inf
        frames[:, self.never] = -np.inf
        certain = values[:, self.blank] >= self._skip
        for row, letters, skipped in zip(values, frames, certain, strict=True):
            if skipped:
                search.wait(row[self.blank])
            else:
                search.frame(row, letters)
        return [Hypothesis(tokens, score, self._text(tokens)) for tokens, score in search.finish()[: self._nbest]]


class _Search:
    """The prefixes of one utterance. Arrays are `(prefix,)`, in no order; a prefix is a node of a tree."""

    def __init__(self, width: int, blank: int, beam: int, machine: Machine | None):
        self.width, self.blank, self.beam, self.machine = width, blank, beam, machine
        self.parent, self.symbol, self.state_of = [-1], [-1], [0]
        # Prefixes that come back into the beam must be the same node as before: their longer ones may be in it still.
        self.children: dict[int, int] = {}
        self.nodes = [0]
        # Natural logarithms: paths ending in a blank, and in the prefix's last symbol.
        self.blanks, self.letters = np.zeros(1), np.full(1, -np.inf)
        if machine is not None:
            machine.begin()
        self._settle()

    def _settle(self) -> None:
        """What depends on which prefixes are in the beam, and not on the frame."""
        self.places = np.arange(len(self.nodes))
        self.last = np.array([self.symbol[node] for node in self.nodes])
        where = {node: place for place, node in enumerate(self.nodes)}
        pairs = [(place, where[self.parent[node]]) for node, place in where.items() if self.parent[node] in where]
        self.longer, self.shorter = np.array(pairs, dtype=int).reshape(-1, 2).T
        self.added, self.idle = None, None
        if self.machine is not None:
            states = np.array([self.state_of[node] for node in self.nodes])
            self.added = self.machine.rows[states]
            if self.machine.ignored is not None:
                # The empty text goes on through spaces as if it ended in one.
                self.idle = self.machine.idle[states]
                self.last[self.last < 0] = self.machine.ignored

    def wait(self, blank: float) -> None:
        """A frame taken for a certain blank."""
        self.blanks = np.logaddexp(self.blanks, self.letters) + blank
        self.letters = np.full_like(self.blanks, -np.inf)

    def frame(self, row: np.ndarray, letters: np.ndarray) -> None:
        """One frame, `(symbol,)`; `letters` is the same with `-inf` for what no prefix goes on with."""
        total = np.logaddexp(self.blanks, self.letters)
        held = self.letters if self.idle is None else np.where(self.idle, total, self.letters)
        stay = held + row[self.last]
        longer = total[:, None] + letters
        # The same symbol again makes a longer prefix only after a blank. The empty prefix has had blanks only.
        longer[self.places, self.last] = self.blanks + letters[self.last]
        if self.added is not None:
            longer += self.added
        if len(self.longer):
            symbols = self.last[self.longer]
            stay[self.longer] = np.logaddexp(stay[self.longer], longer[self.shorter, symbols])
            longer[self.shorter, symbols] = -np.inf
        self.blanks, self.letters = total + row[self.blank], stay
        scores = np.logaddexp(self.blanks, stay)
        worst = -np.inf if len(scores) < self.beam else scores.min()
        flat = longer.ravel()
        new = np.flatnonzero(flat > worst)
        if len(new):
            self._extend(scores, flat, new)

    def _extend(self, scores: np.ndarray, flat: np.ndarray, new: np.ndarray) -> None:
        """The best of the prefixes that stay and of the `new` ones, places in `flat`, go on."""
        everything = np.concatenate([scores, flat[new]])
        if len(everything) > self.beam:
            kept = np.argpartition(everything, -self.beam)[-self.beam :]
            kept.sort()
        else:
            kept = np.arange(len(everything))
        kept = kept[everything[kept] > -np.inf]
        old = kept[kept < len(scores)]
        new = new[kept[len(old) :] - len(scores)]
        if not len(new) and len(old) == len(scores):
            return
        self.blanks = np.concatenate([self.blanks[old], np.full(len(new), -np.inf)])
        self.letters = np.concatenate([self.letters[old], flat[new]])
        nodes = [self.nodes[place] for place in old.tolist()]
        for place in new.tolist():
            before, symbol = divmod(place, self.width)
            nodes.append(self._child(self.nodes[before], symbol))
        self.nodes = nodes
        self._settle()

    def _child(self, node: int, symbol: int) -> int:
        key = node * self.width + symbol
        found = self.children.get(key)
        if found is None:
            found = self.children[key] = len(self.parent)
            self.parent.append(node)
            self.symbol.append(symbol)
            self.state_of.append(0 if self.machine is None else self.machine.step(self.state_of[node], symbol))
        return found

    def finish(self) -> list[tuple[tuple[int, ...], float]]:
        """Symbols and scores, best first; if nothing is possible, no symbols with a score of `-inf`."""
        scores = np.logaddexp(self.blanks, self.letters)
        if self.machine is not None:
            states = [self.state_of[node] for node in self.nodes]
            ended = scores + [self.machine.finish(state) for state in states]
            if not (ended > -np.inf).any():
                # No hypothesis ends in a whole word of the lexicon: rather the beginning of one than no answer.
                ended = scores + [self.machine.finish(state, whole=False) for state in states]
            scores = ended
        found: dict[tuple[int, ...], float] = {}
        for node, score in zip(self.nodes, scores.tolist(), strict=True):
            if score == -math.inf:
                continue
            tokens = self._tokens(node)
            found[tokens] = float(np.logaddexp(found.get(tokens, -np.inf), score))
        return sorted(found.items(), key=lambda item: (-item[1], item[0])) or [((), -math.inf)]

    def _tokens(self, node: int) -> tuple[int, ...]:
        tokens = []
        while node:
            tokens.append(self.symbol[node])
            node = self.parent[node]
        if self.machine is not None and tokens and tokens[0] == self.machine.ignored:
            del tokens[0]
        return tuple(reversed(tokens))


def check_beam(beam: int, nbest: int | None) -> None:
    """Refuse a beam without hypotheses."""
    if beam < 1 or (nbest is not None and nbest < 1):
        raise BadOption("a search keeps at least one hypothesis", got=f"beam={beam}, nbest={nbest}", wanted="1 or more")


def ctc_beam(
    log_probabilities: Tensor | np.ndarray,
    blank: int | None,
    *,
    symbols: Sequence[str] | None = None,
    beam: int = BEAM,
    nbest: int | None = None,
    lm: Arpa | None = None,
    lm_units: str | None = None,
    lm_weight: float = 0.5,
    bonus: float = 0.0,
    lexicon: Iterable[str] | None = None,
    separator: str = " ",
    text: Text | None = None,
    symbol_floor: float = 0.0,
    skip_blank: float | None = None,
) -> list[Hypothesis]:
    """Prefix beam search over the posteriors of one utterance; for many, make a `CtcBeam` once.

    Args:
        log_probabilities: `(frame, symbol)`, natural logarithms.
        blank: which symbol is CTC's blank.
        symbols: their names; wanted for a model, a lexicon and texts.
        beam: how many prefixes go on after each frame.
        nbest: how many hypotheses to return, all in the beam unless given.
        lm: from `read_arpa`; its probability, to the power of `lm_weight`, multiplies that of the frames.
        lm_units: whether the model counts in words ("word") or in the network's symbols ("symbol"); found by its
            vocabulary unless given.
        bonus: added for each word, or symbol, that the model or the lexicon sees.
        lexicon: the only words to be written. Without one any may be.
        separator: the symbol between words.
        text: symbol numbers to text; unless given, the names joined and spaces made single.
        symbol_floor: an approximation: symbols less probable than this in a frame do not lengthen prefixes there.
        skip_blank: an approximation: frames whose blank is at least as probable as this are taken for certain blanks.

    Returns:
        Hypotheses, best first. A score is `log p(tokens | frames)` plus what model and bonus add.

    Raises:
        BadInput: see `checked`; symbols of the model that the network lacks; words that it cannot spell.
        BadOption: an option out of its range, or two that exclude each other.
    """
    search = CtcBeam(
        symbols,
        blank,
        beam=beam,
        nbest=nbest,
        lm=lm,
        lm_units=lm_units,
        lm_weight=lm_weight,
        bonus=bonus,
        lexicon=lexicon,
        separator=separator,
        text=text,
        symbol_floor=symbol_floor,
        skip_blank=skip_blank,
    )
    return search(log_probabilities)
