"""N-gram language models with back-off, read from ARPA files.

The probability of a word after a context is that of the n-gram, if the file has it; else that of the word after the
context without its first word, times the back-off weight of the context (Katz 1987, as the ARPA format writes it down):

    p(w | h) = p(h w)                 if the file has h w
             = b(h) p(w | h')         otherwise, h' being h without its first word, b(h) 1 where the file has none

Files hold logarithms to base 10; everything here is in natural logarithms. A "word" is whatever the file counts: words,
characters or word pieces.
"""

from __future__ import annotations

import gzip
import math
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np

from otoscope.base import BadInput

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
# What a word gets that a model without <unk> does not know, as in KenLM.
UNKNOWN_LOG10 = -100.0
LN_10 = math.log(10)

Context: TypeAlias = tuple[int, ...]
"""The numbers of the words before, oldest first, no more of them than make a difference."""

_COUNT = re.compile(r"ngram\s+(\d+)\s*=\s*(\d+)")
_SECTION = re.compile(r"\\(\d+)-grams:")
# Files of mere lines are turned down before their whole text is read.
_LINES_BEFORE_DATA = 1000


class Arpa:
    """A back-off model of any order.

    Attributes:
        path: the file it was read from.
        order: length of its longest n-grams.
        words: its vocabulary; the place of a word is its number.
        counts: how many n-grams of each length it has, from 1 on.
        unknown: the number of `<unk>`, None if the model has none.
    """

    def __init__(self, path: Path, words: list[str], counts: list[int]):
        self.path, self.words, self.counts, self.order = path, tuple(words), tuple(counts), len(counts)
        self._numbers = {word: number for number, word in enumerate(words)}
        # Context → word → log probability; the empty context holds the unigrams.
        self._after: dict[Context, dict[int, float]] = {(): {}}
        self._back_off: dict[Context, float] = {}
        self.unknown = self._numbers.get(UNKNOWN)
        self.begin, self.end = self._numbers[BEGIN], self._numbers[END]

    def __contains__(self, word: str) -> bool:
        return word in self._numbers

    def number(self, word: str) -> int | None:
        """The number of a word, of `<unk>` where the model does not have it, None where it has neither."""
        return self._numbers.get(word, self.unknown)

    def start(self) -> Context:
        """The context of a sentence's first word."""
        return self._shortened((self.begin,))

    def step(self, context: Context, word: int | None) -> tuple[float, Context]:
        """The natural logarithm of the probability of a word after a context, and the context after it."""
        if word is None:
            return UNKNOWN_LOG10 * LN_10, ()
        return self.log_probability(word, context), self._shortened((*context, word))

    def log_probability(self, word: int, context: Context) -> float:
        """The natural logarithm of `p(word | context)`."""
        passed = 0.0
        while True:
            found = self._after.get(context)
            if found is not None and word in found:
                return passed + found[word]
            if not context:
                return passed + UNKNOWN_LOG10 * LN_10
            passed += self._back_off.get(context, 0.0)
            context = context[1:]

    def distribution(self, context: Context) -> np.ndarray:
        """The natural logarithms of all words' probabilities after a context, `(word,)`."""
        if context:
            values = self.distribution(context[1:]) + self._back_off.get(context, 0.0)
        else:
            values = np.full(len(self.words), UNKNOWN_LOG10 * LN_10)
        found = self._after.get(context)
        if found:
            values[np.fromiter(found, int, len(found))] = np.fromiter(found.values(), float, len(found))
        return values

    def score(self, words: Iterable[str], *, begin: bool = True, end: bool = True) -> float:
        """The natural logarithm of the probability of a sentence, from `<s>` and up to `</s>` unless told otherwise."""
        context: Context = self.start() if begin else ()
        total = 0.0
        for word in words:
            value, context = self.step(context, self.number(word))
            total += value
        return total + (self.log_probability(self.end, context) if end else 0.0)

    def _shortened(self, context: Context) -> Context:
        """The longest end of a context that makes a difference to what follows."""
        context = context[max(len(context) - self.order + 1, 0) :]
        while context and context not in self._after and context not in self._back_off:
            context = context[1:]
        return context

    def _add(self, gram: Context, value: float, back_off: float) -> bool:
        """Take in an n-gram; False where it is there already."""
        after = self._after.setdefault(gram[:-1], {})
        if gram[-1] in after:
            return False
        after[gram[-1]] = value
        if back_off:
            self._back_off[gram] = back_off
        return True


def read_arpa(path: Path | str) -> Arpa:
    """Read a model from an ARPA file, plain or compressed with gzip.

    Raises:
        BadInput: no such file, not UTF-8, cut short, counts that are not those of the header, a line that is no n-gram,
            an n-gram twice or of words that are no 1-grams, no `<s>` or `</s>`; with the file and the line.
    """
    path = Path(path)
    lines = _Lines(path)
    try:
        return _read(path, lines)
    except UnicodeDecodeError as error:
        raise lines.wrong("not UTF-8", got=error.reason, wanted="text in UTF-8") from error
    except (EOFError, zlib.error) as error:
        raise lines.wrong("the file is cut short", got=str(error), wanted="a whole gzip file") from error
    except OSError as error:
        raise BadInput("this language model cannot be read", got=f"{path}: {error}", wanted="an ARPA file") from error


class _Lines:
    """The lines of a file without white space around them, and the number of the last one."""

    def __init__(self, path: Path):
        self.path, self.number, self.text = path, 0, ""

    def __iter__(self) -> Iterator[str]:
        with open(self.path, "rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
        with gzip.open(self.path, "rt", encoding="utf-8") if zipped else open(self.path, encoding="utf-8") as file:
            for line in file:
                self.number += 1
                self.text = line.strip()
                yield self.text

    def wrong(self, problem: str, *, got: object = None, wanted: object) -> BadInput:
        """The error for the present line."""
        place = f"{self.path}, line {self.number}"
        shown = repr(self.text[:120]) if got is None else got
        return BadInput(f"a broken ARPA file: {problem}", got=f"{place}: {shown}", wanted=wanted)


def _read(path: Path, source: _Lines) -> Arpa:
    lines = iter(source)
    counts = _header(lines, source)
    unigrams: dict[str, tuple[float, float]] = {}
    for (word,), value, back_off in _section(lines, source, 1, counts):
        word = UNKNOWN if word == "<UNK>" else word
        if word in unigrams:
            raise source.wrong("a 1-gram twice", wanted="each n-gram once")
        unigrams[word] = value, back_off
    missing = [word for word in (BEGIN, END) if word not in unigrams]
    if missing:
        raise source.wrong("no sentence marks", got=f"no {' and no '.join(missing)}", wanted=f"{BEGIN} and {END}")
    model = Arpa(path, list(unigrams), counts)
    for number, (value, back_off) in enumerate(unigrams.values()):
        model._add((number,), value, back_off)
    for length in range(2, len(counts) + 1):
        for gram, value, back_off in _section(lines, source, length, counts):
            try:
                numbers = tuple(model._numbers[word] for word in gram)
            except KeyError:
                unknown = next(word for word in gram if word not in model)
                if unknown != "<UNK>" or model.unknown is None:
                    raise source.wrong(f"{unknown!r} is no 1-gram", wanted="words of the 1-grams") from None
                numbers = tuple(model._numbers[UNKNOWN if word == "<UNK>" else word] for word in gram)
            if not model._add(numbers, value, back_off):
                raise source.wrong(f"a {length}-gram twice", wanted="each n-gram once")
    if source.text != "\\end\\":
        raise source.wrong("another section after the last", wanted="\\end\\")
    return model


def _header(lines: Iterator[str], source: _Lines) -> list[int]:
    """The counts, from 1-grams on; leaves off after the line `\\1-grams:`."""
    for line in lines:
        if line == "\\data\\":
            break
        if source.number >= _LINES_BEFORE_DATA:
            raise source.wrong("this is no ARPA file", wanted="a line \\data\\ near its beginning")
    else:
        raise source.wrong("this is no ARPA file", got="no line \\data\\", wanted="\\data\\, counts, n-grams, \\end\\")
    counts: list[int] = []
    for line in lines:
        if not line:
            continue
        if _SECTION.fullmatch(line):
            break
        match = _COUNT.fullmatch(line)
        if not match or int(match[1]) != len(counts) + 1:
            raise source.wrong("a line that is no count", wanted=f"ngram {len(counts) + 1}=…, or \\1-grams:")
        counts.append(int(match[2]))
    if not counts:
        raise source.wrong("no counts", wanted="ngram 1=…")
    if source.text != "\\1-grams:":
        raise source.wrong("no 1-grams", wanted="\\1-grams:")
    return counts


def _section(
    lines: Iterator[str], source: _Lines, length: int, counts: list[int]
) -> Iterator[tuple[list[str], float, float]]:
    """The n-grams of one length with their natural logarithms; leaves off at the next section's title or `\\end\\`."""
    found, last = 0, length == len(counts)
    for line in lines:
        if not line:
            continue
        fields = line.split()
        # Only a title has one field; a word may begin with a backslash.
        if len(fields) == 1:
            following = "\\end\\" if last else f"\\{length + 1}-grams:"
            if found != counts[length - 1]:
                wanted = f"{counts[length - 1]} {length}-grams, as the header says"
                raise source.wrong("another count than in the header", got=f"{found}, then {line!r}", wanted=wanted)
            if line != following:
                raise source.wrong("another title was due", wanted=following)
            return
        try:
            if not length + 1 <= len(fields) <= length + 2:
                raise ValueError
            value = float(fields[0])
            back_off = float(fields[-1]) if len(fields) == length + 2 else 0.0
        except ValueError:
            wanted = f"a logarithm, {length} word{'s' * (length > 1)}" + ("" if last else ", a back-off weight or none")
            raise source.wrong(f"this is no {length}-gram", wanted=wanted) from None
        if not value <= 0:
            raise source.wrong("the logarithm of a probability is above 0", wanted="0 or less")
        if not math.isfinite(back_off) or (last and back_off):
            wanted = "none for the longest n-grams" if last else "a finite number"
            raise source.wrong("a back-off weight that cannot be", wanted=wanted)
        found += 1
        yield fields[1 : length + 1], value * LN_10, back_off * LN_10
    raise source.wrong(
        "it ends before \\end\\", got=f"{found} of {counts[length - 1]} {length}-grams", wanted="\\end\\"
    )
