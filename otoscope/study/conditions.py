"""Conditions on labels, joined by not, and, or: `phone=AE & gender=f`, `manner=vowel | phone=R`, `~voicing=voiced`.

Their atoms are the conditions of `otoscope.select`: `name=value`, `name=one,other` for alternatives, `name!=value`, and
`name<number` (`<=`, `>`, `>=`). `~` is not, `&` is and, `|` is or, from the tightest to the loosest; `;` is and as
well, looser than all, as between the conditions of `select`; parentheses group. A value that has such signs, or spaces
at its ends, stands in double quotes: `symbol="|"`.

What has no such label fulfils `!=` only. So `~voicing=voiced` is `voicing!=voiced`, and holds in silence.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor

from otoscope.base import BadOption

SIGNS = set("=<>&|~;()")
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}
_ATOM = re.compile(r'([\w.-]+)\s*(!=|<=|>=|=|<|>)((?:"[^"]*"|[^"=<>()&|~;])*)')
_VALUE = re.compile(r'\s*(?:"([^"]*)"|([^",]*?))\s*(?:,|$)')


@dataclass(frozen=True)
class Atom:
    """`name=value`, `name=one,other`, `name!=value` or `name<number`."""

    name: str
    sign: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Compound:
    """`~` of one condition, `&` or `|` of several."""

    sign: str
    parts: tuple[Condition, ...]


Condition: TypeAlias = Atom | Compound


def parse_condition(text: str) -> Condition:
    """Read a condition.

    Raises:
        BadOption: a text that is none; the message shows where reading ended.
    """
    return _Reader(text).read()


def evaluate(condition: Condition, find: Callable[[Atom], Tensor]) -> Tensor:
    """Where a condition holds, bool, from where each of its atoms does."""
    if isinstance(condition, Atom):
        return find(condition)
    parts = [evaluate(part, find) for part in condition.parts]
    if condition.sign == "~":
        return ~parts[0]
    found = parts[0]
    for part in parts[1:]:
        found = found & part if condition.sign == "&" else found | part
    return found


def fulfils(value: Any, atom: Atom) -> bool:
    """Whether a value, None where there is none, fulfils an atom; as `otoscope.select` has it.

    Raises:
        BadOption: what stands after `<` or `>` is no number.
    """
    if atom.sign in ("=", "!="):
        equal = value is not None and any(as_text(value) == one or _same_number(value, one) for one in atom.values)
        return equal is (atom.sign == "=")
    limit = _number(atom.values[0]) if len(atom.values) == 1 else math.nan
    if math.isnan(limit):
        got = f"{atom.name}{atom.sign}{','.join(atom.values)}"
        raise BadOption("only numbers can be less or more", got=got, wanted="name<number")
    return _COMPARISONS[atom.sign](_number(value), limit)


def as_text(value: Any) -> str:
    """How a value is written: true and false in small letters."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _number(value: Any) -> float:
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return math.nan


def _same_number(value: Any, text: str) -> bool:
    # An id such as "007" is text and differs from "7".
    return isinstance(value, int | float) and _number(value) == _number(text)


class _Reader:
    """Recursive descent over the tokens of a condition: its signs, and its atoms."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = list(self._tokens())
        self.next = 0

    def _tokens(self) -> Iterator[tuple[str | Atom, int]]:
        at = 0
        while at < len(self.text):
            match = _ATOM.match(self.text, at)
            if match:
                yield Atom(match[1], match[2], self._values(match[3], match.start(3))), at
            elif self.text[at] in "()&|~;":
                yield self.text[at], at
            elif not self.text[at].isspace():
                raise self.wrong(at)
            at = match.end() if match else at + 1

    def _values(self, text: str, start: int) -> tuple[str, ...]:
        values, at = [], 0
        while True:
            match = _VALUE.match(text, at)
            if match is None or not (match[1] or match[2]):
                raise self.wrong(start + at)
            values.append(match[1] or match[2])
            at = match.end()
            if at == len(text) and not match[0].rstrip().endswith(","):
                return tuple(values)

    def read(self) -> Condition:
        condition = self.joined(";", lambda: self.joined("|", lambda: self.joined("&", self.single)))
        if self.next < len(self.tokens):
            raise self.wrong(self.tokens[self.next][1])
        return condition

    def joined(self, sign: str, part: Callable[[], Condition]) -> Condition:
        parts = [part()]
        while self.taken(sign):
            parts.append(part())
        return parts[0] if len(parts) == 1 else Compound("|" if sign == "|" else "&", tuple(parts))

    def single(self) -> Condition:
        if self.taken("~"):
            return Compound("~", (self.single(),))
        if self.taken("("):
            condition = self.joined(";", lambda: self.joined("|", lambda: self.joined("&", self.single)))
            if not self.taken(")"):
                raise self.wrong(self.place())
            return condition
        token = self.tokens[self.next][0] if self.next < len(self.tokens) else ""
        if not isinstance(token, Atom):
            raise self.wrong(self.place())
        self.next += 1
        return token

    def taken(self, sign: str) -> bool:
        found = self.next < len(self.tokens) and self.tokens[self.next][0] == sign
        self.next += found
        return found

    def place(self) -> int:
        return self.tokens[self.next][1] if self.next < len(self.tokens) else len(self.text)

    def wrong(self, at: int) -> BadOption:
        left = self.text[at:].strip()
        return BadOption(
            "this is no condition on labels",
            got=f"{self.text!r}" + (f", of which {left!r} cannot be read" if left else ", which ends too early"),
            wanted="such as phone=AE & gender=f, manner=vowel | phone=R, ~voicing=voiced, age<12",
        )
