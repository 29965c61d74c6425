"""Reference and hypothesis laid side by side at the least cost, as sclite does: 4 a substitution, 3 an insertion or
deletion, over networks of words."""

from __future__ import annotations

import math
import struct
from array import array
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from otoscope.learn.word_network import NULL, Network, Said, Spelling, Word, ordinary

CORRECT, SUBSTITUTION, DELETION, INSERTION = "C", "S", "D", "I"

_SINGLE = struct.Struct("f")

# sclite's costs. Dropping a null word costs next to nothing, but not nothing, so that it is taken only where it helps.
_SUBSTITUTION, _GAP, _OPTIONAL_GAP, _NULL_GAP, _NULL_PAIR = 4.0, 3.0, 2.0, 0.001, 1.0


# So many cells are filled sooner without numpy.
_SMALL = 5_000


class Pair(NamedTuple):
    """A word of the reference beside one of the hypothesis.

    Attributes:
        kind: `C` correct, `S` substitution, `D` deletion, `I` insertion.
        reference: None where nothing was to be said.
        hypothesis: None where nothing was heard.
    """

    kind: str
    reference: str | None
    hypothesis: str | None


def single(value: float) -> float:
    """The nearest number of single precision, in which sclite adds costs and keeps the ends of segments.

    Costs of equal alignments may differ in their last digit by the order in which they were added, and then that
    decides between them.
    """
    return float(_SINGLE.unpack(_SINGLE.pack(value))[0])


def same(reference: Word, hypothesis: Word) -> bool:
    """Whether the two words count as the same; a fragment is the same as what begins (or ends) like it."""
    first, second = reference.text, hypothesis.text
    if reference.fragment or hypothesis.fragment:
        for part, whole in ((first, second), (second, first)):
            if len(part) > 1 and part.startswith("-"):
                return whole.endswith(part[1:])
            if len(part) > 1 and part.endswith("-"):
                return whole.startswith(part[:-1])
    return first == second


class _Rounded:
    """`single`, faster."""

    def __init__(self) -> None:
        self.cell = array("f", [0.0])

    def keep(self, value: float) -> float:
        self.cell[0] = value
        return self.cell[0]


def align(reference: Said, hypothesis: Said, spelling: Spelling | None = None) -> list[Pair]:
    """The pairs of the alignment that costs least; of several, the one that sclite takes.

    Of the reference's and the hypothesis's alternations the choice that costs least is taken. A null word leaves no
    pair. An optional word that is missing, or too much, makes a correct pair.

    Args:
        reference: words and alternations, as `Reading.parse` gives them.
        hypothesis: the same.
        spelling: align characters, spelled so, in place of words.

    Source: the documentation of NIST SCTK (sclite): a dynamic programme over two networks of words, with costs 0 for
    a correct word, 3 for an insertion or deletion, 4 for a substitution, 0.001 for dropping a null word, 2 for dropping
    an optional one.
    """
    said, heard = ordinary(reference), ordinary(hypothesis)
    if said is not None and heard is not None and spelling is None:
        return align_words(said, heard)
    return _align_networks(Network(reference, spelling), Network(hypothesis, spelling))


def align_words(reference: Sequence[str], hypothesis: Sequence[str]) -> list[Pair]:
    """The same for two sequences of ordinary words."""
    cost = _costs(reference, hypothesis)
    pairs = []
    row, column = len(reference), len(hypothesis)
    while row or column:
        diagonal = deletion = insertion = math.inf
        if row and column:
            diagonal = cost[row - 1][column - 1] + _SUBSTITUTION * (reference[row - 1] != hypothesis[column - 1])
        if row:
            deletion = cost[row - 1][column] + _GAP
        if column:
            insertion = cost[row][column - 1] + _GAP
        if diagonal <= deletion and diagonal <= insertion:
            row, column = row - 1, column - 1
            kind = CORRECT if reference[row] == hypothesis[column] else SUBSTITUTION
            pairs.append(Pair(kind, reference[row], hypothesis[column]))
        elif deletion < insertion:
            row -= 1
            pairs.append(Pair(DELETION, reference[row], None))
        else:
            column -= 1
            pairs.append(Pair(INSERTION, None, hypothesis[column]))
    return pairs[::-1]


def _costs(reference: Sequence[str], hypothesis: Sequence[str]) -> Sequence[Sequence[int]]:
    """The least cost of aligning the first words of each, `(reference words + 1, hypothesis words + 1)`."""
    gap, substitution = int(_GAP), int(_SUBSTITUTION)
    rows, columns = len(reference) + 1, len(hypothesis) + 1
    if rows * columns <= _SMALL:
        table = [list(range(0, gap * columns, gap))]
        for word in reference:
            above = table[-1]
            left = above[0] + gap
            line = [left]
            for column, heard in enumerate(hypothesis):
                left = min(above[column] + (0 if word == heard else substitution), above[column + 1] + gap, left + gap)
                line.append(left)
            table.append(line)
        return table
    numbers: dict[str, int] = {}
    spoken, said = ([numbers.setdefault(word, len(numbers)) for word in words] for words in (hypothesis, reference))
    heard_words = np.array(spoken, dtype=np.int64)
    insertions = gap * np.arange(columns)
    cost = np.empty((rows, columns), dtype=np.int64)
    cost[0] = insertions
    for row, number in enumerate(said, 1):
        best = cost[row - 1] + gap
        best[1:] = np.minimum(best[1:], cost[row - 1, :-1] + np.where(heard_words == number, 0, substitution))
        # A run of insertions may begin anywhere on the left.
        cost[row] = np.minimum.accumulate(best - insertions) + insertions
    return [cost[row] for row in range(rows)]


def _gap(word: Word | None) -> float:
    """The cost of a word that is paired with nothing."""
    if word is None:
        return 0.0
    if word.text == NULL and not word.optional:
        return single(_NULL_GAP)
    return _OPTIONAL_GAP if word.optional else _GAP


def _pair(reference: Word, hypothesis: Word) -> float:
    if reference.text == hypothesis.text == NULL:
        return _NULL_PAIR
    return 0.0 if same(reference, hypothesis) else _SUBSTITUTION


def _align_networks(reference: Network, hypothesis: Network) -> list[Pair]:
    rows, columns = len(reference.words), len(hypothesis.words)
    ref_gap = [_gap(word) for word in reference.words]
    hyp_gap = [_gap(word) for word in hypothesis.words]
    # Where all costs are whole, nothing is lost in adding them.
    whole = all(gap in (0.0, _GAP, _OPTIONAL_GAP) for gap in (*ref_gap, *hyp_gap))
    kept: Callable[[float], float] = float if whole else _Rounded().keep
    # The cost of a cell, and the cell before it as row * columns + column.
    cost = [array("d", bytes(8 * columns)) for _ in range(rows)]
    back = [array("q", bytes(8 * columns)) for _ in range(rows)]
    # Of equals the first is taken, everywhere.
    for row in range(rows):
        above, said = reference.before[row], reference.words[row]
        here, from_here = cost[row], back[row]
        for column in range(columns):
            left, heard = hypothesis.before[column], hypothesis.words[column]
            insertion = deletion = diagonal = math.inf
            beside = over = corner = 0
            if heard is not None:
                beside = left[0] if len(left) == 1 else min(left, key=here.__getitem__)
                insertion = kept(here[beside] + hyp_gap[column])
            if said is not None:
                over = above[0] if len(above) == 1 else min(above, key=lambda index: cost[index][column])
                deletion = kept(cost[over][column] + ref_gap[row])
            if said is not None and heard is not None:
                least = math.inf
                for a in above:
                    for b in left:
                        if cost[a][b] < least:
                            least, corner = cost[a][b], a * columns + b
                diagonal = kept(least + _pair(said, heard))
            # Of equal costs the substitution first, then the insertion.
            if said is None and heard is None:
                continue
            if diagonal <= deletion and diagonal <= insertion:
                here[column], from_here[column] = diagonal, corner
            elif deletion < insertion:
                here[column], from_here[column] = deletion, over * columns + column
            else:
                here[column], from_here[column] = insertion, row * columns + beside
    row, column = min(
        ((a, b) for a in reference.last for b in hypothesis.last), key=lambda pair: cost[pair[0]][pair[1]]
    )
    pairs: list[Pair] = []
    while row or column:
        above_row, left_column = divmod(back[row][column], columns)
        said = reference.words[row] if above_row != row else None
        heard = hypothesis.words[column] if left_column != column else None
        pairs += _written(said, heard)
        row, column = above_row, left_column
    return pairs[::-1]


def _written(said: Word | None, heard: Word | None) -> Iterable[Pair]:
    """The pair of two words, or none for null words."""
    words = [word for word in (said, heard) if word is not None]
    if all(word.text == NULL and not word.optional for word in words):
        return
    if said is None or heard is None:
        kind = CORRECT if words[0].optional else INSERTION if said is None else DELETION
    else:
        kind = CORRECT if same(said, heard) else SUBSTITUTION
    yield Pair(kind, None if said is None else str(said), None if heard is None else str(heard))
