"""GLM files: rules that rewrite transcripts, so that two spellings of one word count as one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from otoscope.base import BadInput
from otoscope.learn.transcripts import Line, read_lines

_ONLY_FOR = re.compile(r';;\s+INPUT_DEPENDENT_APPLICATION\s*=\s*"([^"]*)"')
_TRUE, _FALSE = ("t", "yes", "true"), ("f", "no", "false")
_ASCII_UPPER = {code: code - 32 for code in range(ord("a"), ord("z") + 1)}


class Rule(NamedTuple):
    """`old => new / before __ after`: `old` becomes `new` where it stands between the two."""

    old: str
    new: str
    before: str
    after: str


@dataclass
class Rules:
    """The rules of a GLM file that are meant for one kind of text.

    Attributes:
        rules: in the file's order.
        copy: whether what no rule rewrites stays (it is left out otherwise).
        case_sensitive: whether upper and lower case differ.
    """

    rules: tuple[Rule, ...] = ()
    copy: bool = True
    case_sensitive: bool = True

    def __len__(self) -> int:
        return len(self.rules)

    @cached_property
    def _starting(self) -> dict[str, list[Rule]]:
        """Which rules can fit where one character, or two, are read."""
        found: dict[str, list[Rule]] = {}
        for start in {rule.old[:2] for rule in self.rules} | {rule.old[0] for rule in self.rules}:
            found[start] = [rule for rule in self.rules if rule.old.startswith(start) or rule.old == start[0]]
        for start in found:
            if len(start) == 1:
                found[start] = [rule for rule in found[start] if rule.old == start]
        return found

    def rewrite(self, text: str) -> str:
        """The text from left to right, each place by the first rule that fits there; what was rewritten stays so.

        Source: "GLMRules.txt" of NIST SCTK (rfilter1), section 2.
        """
        read = text if self.case_sensitive else text.translate(_ASCII_UPPER)
        starting = self._starting
        written = []
        position = 0
        while position < len(text):
            fitting = starting.get(read[position : position + 2])
            for rule in starting.get(read[position], ()) if fitting is None else fitting:
                begin, end = position - len(rule.before), position + len(rule.old)
                if (
                    begin >= 0
                    and read.startswith(rule.old, position)
                    and read.startswith(rule.before, begin)
                    and read.startswith(rule.after, end)
                ):
                    written.append(rule.new)
                    position = end
                    break
            else:
                if self.copy:
                    written.append(text[position])
                position += 1
        return "".join(written)


def read_glm(path: Path | str, *kinds: str) -> Rules:
    """The rules of a GLM file that are meant for texts of these kinds.

    Args:
        path: the file, in UTF-8 or Latin-1; its first line begins with what begins a comment, as a rule `;;`.
        kinds: what the text is, of `ref`, `hyp`, `trn`, `stm`, `ctm`. Rules after a comment
            `;; INPUT_DEPENDENT_APPLICATION = "regular expression"` are meant for texts one of whose kinds it matches.

    Raises:
        BadInput: a rule without an arrow or without anything to rewrite, a setting that cannot be read.
    """
    try:
        lines = read_lines(path)
    except BadInput:
        # Files of the nineties, some of which are still in use. Every byte is a letter of Latin-1.
        lines = read_lines(path, "latin-1")
    comment = re.split(r"[^!-~]", lines[0].text, maxsplit=1)[0]
    found = Rules()
    rules: list[Rule] = []
    meant = True
    for line in lines[1:]:
        if only_for := _ONLY_FOR.match(line.text):
            try:
                pattern = re.compile(only_for[1].lower())
            except re.error as error:
                raise line.refuse(f"no regular expression: {error}") from error
            meant = any(pattern.search(kind) for kind in kinds)
        if not meant or not line.text.strip() or (comment and line.text.lstrip().startswith(comment)):
            continue
        if line.text.startswith("*"):
            _set(found, line)
        else:
            rules.append(_rule(line, line.text.partition(comment)[0] if comment else line.text))
    if not found.case_sensitive:
        rules = [
            Rule(
                rule.old.translate(_ASCII_UPPER),
                rule.new,
                rule.before.translate(_ASCII_UPPER),
                rule.after.translate(_ASCII_UPPER),
            )
            for rule in rules
        ]
    found.rules = tuple(rules)
    return found


def _set(rules: Rules, line: Line) -> None:
    """Read a setting: `* keyword = "value"`."""
    match = re.match(r"""\*([^"']*)["']([^"']*)["']""", line.text)
    if not match:
        raise line.refuse("a setting without a value in quotes", "* case_sensitive = 'F'")
    name, value = match[1].upper(), match[2].lower()
    if "FORMAT" in name and value != "nist1":
        raise line.refuse("rules of a format that is not known", "NIST1")
    for word, attribute in (("COPY_NO_HIT", "copy"), ("CASE_SENSITIVE", "case_sensitive")):
        if word in name:
            if value not in (*_TRUE, *_FALSE):
                raise line.refuse("a setting that is neither true nor false", "'T' or 'F'")
            setattr(rules, attribute, value in _TRUE)


def _rule(line: Line, text: str) -> Rule:
    """Read `old => new` or `old => new / before __ after`; each may stand in `[ ]` or `" "`, to keep its blanks."""
    old, arrow, rest = text.partition("=>")
    if not arrow:
        raise line.refuse("a rule without an arrow", "old => new, or old => new / before __ after")
    if not (old := _unwrapped(old)):
        raise line.refuse("a rule that rewrites nothing", "something before =>")
    before = after = ""
    # The last slash that is not within brackets, if a place follows it, is where the context begins.
    for slash in reversed([match.start() for match in re.finditer("/", rest)]):
        context = rest[slash + 1 :]
        if (
            "_" in context
            and context.count("[") == context.count("]")
            and rest[:slash].count("[") == rest[:slash].count("]")
        ):
            left, right = context.split("_", 1)
            before, after = _unwrapped(left), _unwrapped(re.sub(r"^\S*", "", right))
            rest = rest[:slash]
            break
    return Rule(old, _unwrapped(rest), before, after)


def _unwrapped(text: str) -> str:
    text = text.strip()
    for begin, end in ("[]", '""'):
        if len(text) > 1 and text[0] == begin and text[-1] == end:
            return text[1:-1]
    # A slip that rules in use have; the bracket is no part of a word.
    return text[1:] if text.startswith("[") and "]" not in text else text


def filter_text(rules: Rules, text: str, *, split_hyphens: bool = False) -> str:
    """One transcript in capitals, rewritten; hyphens between letters become blanks if wanted.

    Raises:
        BadInput: parentheses that do not mark optional words.
    """
    text = " " + re.sub(r"[ \t]+", " ", text).translate(_ASCII_UPPER).replace("(", "( ").replace(")", " )") + " "
    if re.search(r"[()]", re.sub(r"\([^()]+\)", "", text)):
        raise BadInput(
            "parentheses that do not mark optional words",
            got=text.strip(),
            wanted="(word) or (word word), none within another",
        )
    text = rules.rewrite(text)
    if split_hyphens:
        # A hyphen that begins or ends a word marks a fragment and stays.
        text = re.sub(r"([^( ])-(?=[^) ])", r"\1 ", text)
    return " ".join(re.sub(r"\(([^()]*)\)", lambda match: _optional(match[1]), text).split())


def _optional(text: str) -> str:
    """Of several optional words together each is optional."""
    if "{" in text:
        text = re.sub(r"([{}/])", r" \1 ", text)
    return " ".join(word if word in ("{", "/", "}", "@") else f"({word})" for word in text.split())


def filter_trn(rules: Rules, lines: Iterable[Line], *, split_hyphens: bool = False) -> Iterator[Line]:
    """A trn file with its words rewritten."""
    for line in lines:
        match = None if line.text.startswith(";;") else re.match(r"(.*)(\(.*\))\s*$", line.text)
        if match:
            text = _filtered(rules, line, match[1], split_hyphens)
            line = line._replace(text=f"{text} {match[2]}".strip())
        yield line


def filter_stm(rules: Rules, lines: Iterable[Line], *, split_hyphens: bool = False) -> Iterator[Line]:
    """An stm file with its words rewritten."""
    for line in lines:
        match = None if line.text.startswith(";;") else re.match(r"\s*((?:\S+\s+){4}\S+(?:\s+<\S+>)?)(.*)$", line.text)
        if match:
            text = _filtered(rules, line, match[2], split_hyphens)
            line = line._replace(text=f"{match[1]} {text}".strip())
        yield line


def filter_ctm(rules: Rules, lines: Iterable[Line], *, split_hyphens: bool = False) -> Iterator[Line]:
    """A ctm file with its words rewritten.

    A word that becomes several shares its time out among them; one that becomes an alternation becomes lines between
    `<ALT_BEGIN>` and `<ALT_END>`.
    """
    for line in lines:
        fields = line.text.split()
        if line.text.startswith(";") or len(fields) < 5:
            yield line
            continue
        if fields[4].upper() in ("<ALT_BEGIN>", "<ALT>", "<ALT_END>"):
            yield line
            continue
        place, (start, duration), rest = fields[:2], fields[2:4], fields[5:]
        word = _filtered(rules, line, fields[4], split_hyphens)
        # What stands between the word and a last number belongs to the word.
        confidence = rest.pop() if rest and re.fullmatch(r"[0-9.\-]*", rest[-1]) else ""
        said = re.sub(r"([{}])", r" \1 ", " ".join([word, *rest])).split()
        if len(said) == 1 and not confidence:
            yield line._replace(text=" ".join([*place, start, duration, *said]))
            continue
        choices = [choice.replace("{", "").replace("}", "").split() for choice in " ".join(said).split("/")]
        if len(choices) > 1:
            yield _mark(line, place, "<ALT_BEGIN>")
        for index, words in enumerate(choices):
            if index:
                yield _mark(line, place, "<ALT>")
            for number, each in enumerate(words):
                share = _time(line, duration) / len(words)
                begin = _time(line, start) + share * number
                yield line._replace(text=" ".join([*place, f"{begin:.3f}", f"{share:.3f}", each, confidence]).rstrip())
        if len(choices) > 1:
            yield _mark(line, place, "<ALT_END>")


def _mark(line: Line, place: list[str], name: str) -> Line:
    return line._replace(text=" ".join([*place, "*", "*", name]))


def _filtered(rules: Rules, line: Line, text: str, split_hyphens: bool) -> str:
    try:
        return filter_text(rules, text, split_hyphens=split_hyphens)
    except BadInput as error:
        raise line.refuse(error.problem, error.wanted) from error


def _time(line: Line, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise line.refuse("no time", f"seconds in place of {text}") from error
