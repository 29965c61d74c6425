"""A transcript as a network of words: a chain, with side by side what may be said in one place."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from otoscope.base import BadInput

NULL = "@"
"""The word that is nothing: `{ uh / @ }` may be said or not."""

_WHITE = re.compile(r"[ \t\r\n\f\v]+")


class Word(NamedTuple):
    """One word of a transcript, as it is compared.

    Attributes:
        text: without the marks of an optional word, with those of a fragment.
        optional: forgiven when it is missing (in a reference) or too much (in a hypothesis).
        fragment: begins or ends with a hyphen, and matches what has its other part.
    """

    text: str
    optional: bool = False
    fragment: bool = False

    def __str__(self) -> str:
        return f"({self.text})" if self.optional else self.text


class Alternation(NamedTuple):
    """What may be said in one place: of each sequence of words and alternations, one is said."""

    choices: tuple[tuple[Word | Alternation, ...], ...]


Said = Sequence[Word | Alternation]


class Reading(NamedTuple):
    """How words of a transcript are read."""

    optional_deletions: bool = False
    fragments_correct: bool = False

    def word(self, token: str) -> Word:
        """A word from how it is written: `word;tag;tag`, with `\\;` for a semicolon; a last `*` is dropped."""
        text = token
        if ";" in token or "\\" in token:
            text = re.split(r"(?<!\\);", token, maxsplit=1)[0].replace("\\", "") or token
        if len(text) > 1 and text.endswith("*"):
            text = text[:-1]
        optional = self.optional_deletions and len(text) > 1 and text[0] == "(" and text[-1] == ")"
        fragment = self.fragments_correct and (
            text.startswith("-") or text.endswith("-") or (optional and text.endswith("-)"))
        )
        return Word(text[1:-1] if optional else text, optional, fragment)

    def parse(self, text: str) -> tuple[Word | Alternation, ...]:
        """Words and alternations `{ a b / c / @ }`, which may stand within one another.

        An empty choice is left out, as sclite does; the null word is written `@`.

        Raises:
            BadInput: a brace that has no partner, an alternation without a choice.
        """
        if "{" not in text and "}" not in text:
            return tuple(self.word(token) for token in _WHITE.split(text) if token)
        said: list[Word | Alternation] = []
        position = 0
        while position < len(text):
            if blank := _WHITE.match(text, position):
                position = blank.end()
            elif text[position] == "{":
                end = _closing(text, position)
                choices = [self.parse(choice) for choice in _split_choices(text[position + 1 : end])]
                if not any(choices):
                    raise BadInput(
                        "an alternation without a choice", got=text[position : end + 1], wanted="{ um / uh }"
                    )
                said.append(Alternation(tuple(filter(None, choices))))
                position = end + 1
            else:
                space = _WHITE.search(text, position)
                end = space.start() if space else len(text)
                token = text[position:end]
                if "{" in token or "}" in token:
                    raise BadInput(
                        "a brace that is not one of an alternation",
                        got=token,
                        wanted="{ um / uh }, with white space before and after",
                    )
                said.append(self.word(token))
                position = end
        return tuple(said)


def _closing(text: str, start: int) -> int:
    """Where the brace opened at `start` is closed."""
    depth = 0
    for position in range(start, len(text)):
        depth += (text[position] == "{") - (text[position] == "}")
        if depth == 0:
            return position
    raise BadInput("an alternation is not closed", got=text[start:], wanted="as many } as {")


def _split_choices(text: str) -> list[str]:
    """The choices between `/` that stand in no inner braces."""
    choices, depth = [""], 0
    for character in text:
        depth += (character == "{") - (character == "}")
        if character == "/" and depth == 0:
            choices.append("")
        else:
            choices[-1] += character
    return choices


class Spelling(NamedTuple):
    """How words become characters.

    Attributes:
        keep_ascii: runs of ASCII characters stay whole, as words of another script within Chinese text.
        drop_hyphens: a hyphen is no character.
    """

    keep_ascii: bool = False
    drop_hyphens: bool = False

    def spell(self, word: Word) -> list[Word]:
        """The characters of a word, each optional if the word is."""
        text = word.text
        if len(text) < 2 and not word.optional:
            return [word]
        parts: list[str] = []
        for character in text.replace("-", "") if self.drop_hyphens else text:
            if self.keep_ascii and parts and parts[-1].isascii() and character.isascii():
                parts[-1] += character
            else:
                parts.append(character)
        return [Word(part, word.optional) for part in parts] or [word]


class _Arc:
    __slots__ = ("source", "target", "word")

    def __init__(self, word: Word | None, source: _Node, target: _Node):
        self.word, self.source, self.target = word, source, target
        source.leaving.append(self)
        target.entering.append(self)


class _Node:
    __slots__ = ("entering", "leaving")

    def __init__(self) -> None:
        self.entering: list[_Arc] = []
        self.leaving: list[_Arc] = []


class Network:
    """The words of a transcript as arcs, in an order in which every arc comes after those that it can follow.

    Of two alignments of the same cost the order decides which is taken, and it is sclite's: nodes as they become
    complete, the choices of an alternation as they are written.

    Attributes:
        words: `words[0]` is None and stands before the first; the others are the arcs' words.
        before: for each arc the numbers of those that it can follow, in order.
        last: the numbers of the arcs after which the transcript can be over.
    """

    def __init__(self, said: Said, spelling: Spelling | None = None):
        start, first, stop = _Node(), _Node(), _Node()
        _Arc(None, start, first)
        # Without a word the transcript is over where it begins.
        _lay(said, first, stop if said else first)
        if spelling:
            _spell(start, spelling)
        arcs = list(_in_order(start))
        number = {id(arc): index for index, arc in enumerate(arcs)}
        self.words: list[Word | None] = [arc.word for arc in arcs]
        self.before = [[number[id(arc)] for arc in each.source.entering] for each in arcs]
        self.last = [number[id(arc)] for arc in (stop if said else first).entering]


def ordinary(said: Said) -> list[str] | None:
    """The words, if what is said is a chain of ordinary ones: no alternation, null word, optional word or fragment."""
    words = []
    for item in said:
        if isinstance(item, Alternation) or item.text == NULL or item.optional or item.fragment:
            return None
        words.append(item.text)
    return words


def _lay(said: Said, source: _Node, stop: _Node) -> None:
    """Arcs for what is said, from `source` to `stop`."""
    for index, item in enumerate(said):
        target = stop if index == len(said) - 1 else _Node()
        if isinstance(item, Alternation):
            for choice in item.choices:
                _lay(choice, source, target)
        else:
            _Arc(item, source, target)
        source = target


def _spell(start: _Node, spelling: Spelling) -> None:
    """Put a chain of its characters in the place of each word.

    Depth first, the last of several nodes first; a word that was spelled comes after those that were not. So sclite
    goes about it, and the order decides between alignments of the same cost.
    """
    waiting, met = [start], {id(start)}
    while waiting:
        node = waiting.pop()
        for arc in node.leaving:
            if id(arc.target) not in met:
                met.add(id(arc.target))
                waiting.append(arc.target)
        for arc in list(node.leaving):
            if arc.word is None or (spelled := spelling.spell(arc.word)) == [arc.word]:
                continue
            arc.source.leaving.remove(arc)
            arc.target.entering.remove(arc)
            _lay(spelled, arc.source, arc.target)


def _in_order(start: _Node) -> Iterator[_Arc]:
    """Every arc, those that leave a node together, after all that enter it."""
    left: dict[int, int] = {}
    waiting = deque([start])
    while waiting:
        node = waiting.popleft()
        for arc in node.leaving:
            missing = left.get(id(arc.target), len(arc.target.entering)) - 1
            left[id(arc.target)] = missing
            if not missing:
                waiting.append(arc.target)
        yield from node.leaving
