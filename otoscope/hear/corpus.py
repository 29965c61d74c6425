"""A corpus: utterances read from a manifest, chosen by their attributes, and told from others by a fingerprint.

Reading a manifest (`otoscope.hear.manifest` has its form) parses and checks every row at once. Rows that cannot be used
are named and left out. Recordings are not opened before their samples are asked for, with `load_audio`.
"""

from __future__ import annotations

import hashlib
import json
import math
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np

from otoscope.base import BadInput, BadOption, OtoscopeError, choose
from otoscope.hear.manifest import file_size, find_manifest, plain_json, read_rows, rows_to_utterances, write_manifest
from otoscope.hear.tiers import Segment, read_ctm
from otoscope.hear.utterance import STRETCH, Utterance, load_audio

__all__ = [
    "Corpus",
    "Problem",
    "Segment",
    "Utterance",
    "corpus_fingerprint",
    "load_audio",
    "read_corpus",
    "select",
    "write_manifest",
]


@dataclass(frozen=True)
class Problem:
    """Something wrong with one row: its line in the file (from 1; 0 where there is none), its id if known, and what."""

    line: int
    id: str | None
    what: str

    @classmethod
    def of(cls, line: int, id: str | None, error: OtoscopeError) -> Problem:
        """The problem that a message tells of, in one line."""
        details = ((name, value) for name, value in (("got", error.got), ("wanted", error.wanted)) if value is not None)
        what = "; ".join([error.problem, *(f"{name} {value}" for name, value in details)])
        return cls(line, id, what.removeprefix(f"utterance {id}: "))

    def __str__(self) -> str:
        place = [f"line {self.line}"] if self.line else []
        name = [f"utterance {self.id}"] if self.id else []
        return f"{', '.join(place + name) or 'somewhere'}: {self.what}"


class Corpus(Sequence[Utterance]):
    """Utterances, to be walked through as often as needed; `problems` are the rows that were left out.

    `passed_over`: how many stretches of an imported corpus were no utterances, for nothing is said in them.
    """

    def __init__(self, utterances: Iterable[Utterance], problems: Iterable[Problem] = ()):
        self.utterances = list(utterances)
        self.problems = list(problems)
        self.passed_over = 0

    def __len__(self) -> int:
        return len(self.utterances)

    def __iter__(self) -> Iterator[Utterance]:
        return iter(self.utterances)

    @overload
    def __getitem__(self, index: int) -> Utterance: ...
    @overload
    def __getitem__(self, index: slice) -> Corpus: ...
    def __getitem__(self, index: int | slice) -> Utterance | Corpus:
        if isinstance(index, slice):
            return Corpus(self.utterances[index], self.problems)
        return self.utterances[index]

    def __repr__(self) -> str:
        speakers = len({utterance.speaker for utterance in self if utterance.speaker is not None})
        left_out = f", {len(self.problems)} rows left out" if self.problems else ""
        return f"<Corpus: {len(self)} utterances, {speakers} speakers{left_out}>"


def read_corpus(
    manifest: Path | str,
    *,
    strict: bool = False,
    need_text: bool = True,
    ctm: Mapping[str, Path | str] | None = None,
) -> Corpus:
    """Read a manifest, or the `manifest.jsonl` of a folder.

    A row that cannot be used (broken JSON, no id or one seen before, no recording, no text, a bad tier or label file)
    is left out and listed in `.problems`; with `strict` the first one raises. `need_text=False` keeps rows without
    text, for analyses that need none. `ctm` adds tiers from CTM files, `{"phone": path}`, in place of a row's own tier
    of that name; utterances that the CTM file lacks are kept as they are. Its path may be relative to the manifest's
    folder.

    Raises:
        BadInput: the manifest or a CTM file is missing or unreadable, or has nothing usable; with `strict`, a bad row.
    """
    path = find_manifest(manifest)
    corpus = collect(rows_to_utterances(read_rows(path), path.parent, need_text=need_text), path, strict=strict)
    for tier, file in (ctm or {}).items():
        add_ctm(corpus, tier, find_ctm(file, path))
    return corpus


def find_ctm(file: Path | str, manifest: Path) -> Path:
    """The path of a CTM file as it stands, or where there is nothing taken from the manifest's folder."""
    return Path(file) if Path(file).exists() else manifest.parent / file


def collect(
    found: Iterable[tuple[int, str | None, Utterance | OtoscopeError]], source: Path, *, strict: bool = False
) -> Corpus:
    """A corpus of the good ones among `found` (line, id, utterance or error), with the others as its problems.

    Raises:
        BadInput: none is good; with `strict`, the first that is not.
    """
    corpus = Corpus([])
    for line, id, item in found:
        if isinstance(item, Utterance):
            corpus.utterances.append(item)
        elif strict:
            place = f"line {line} of {source}" if line else str(source)
            raise BadInput(f"{place}: {item.problem}", got=item.got, wanted=item.wanted, remedy=item.remedy)
        else:
            corpus.problems.append(Problem.of(line, id, item))
    if not corpus:
        more = "; …" if len(corpus.problems) > 3 else ""
        raise BadInput(
            f"{source} has no usable utterance",
            got="; ".join(map(str, corpus.problems[:3])) + more or "nothing at all",
            wanted="rows with an id, the path of a recording and a text",
        )
    return corpus


def add_ctm(corpus: Corpus, tier: str, file: Path) -> None:
    """Give the utterances that a CTM file has a tier from it, in place.

    Raises:
        BadInput: the file is missing or malformed, or has none of the utterances.
    """
    tiers = read_ctm(file)
    known = [utterance for utterance in corpus if utterance.id in tiers]
    if not known:
        raise BadInput(
            f"{file} has none of the corpus's utterances",
            got=f"utterances such as {next(iter(tiers))}",
            wanted=f"utterances such as {corpus[0].id}",
        )
    for utterance in known:
        utterance.tiers[tier] = tiers[utterance.id]


# Longest first, so that `!=` is not read as `=`.
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}
_CONDITION = re.compile(rf"\s*([\w.-]+?)\s*({'|'.join(_OPERATORS)})(.*)", re.DOTALL)


def select(utterances: Iterable[Utterance], where: str | Sequence[str]) -> Corpus:
    """The utterances that fulfil every condition: `"split=test"`, `"speaker=ann,bob"`, `"speaker!=ann"`, `"age<12"`.

    Several conditions stand in a list, or in one text between semicolons. A name is an attribute, `id`, `speaker` or
    `text`; values are compared as text (numbers as numbers, true and false in small letters), and commas separate
    alternatives. An utterance without the attribute fulfils `!=` only.

    Raises:
        BadOption: a condition that is none, a name that no utterance has, a value that is no number after < or >, or
            conditions that leave nothing; the message tells which values there are.
    """
    corpus = utterances if isinstance(utterances, Corpus) else Corpus(utterances)
    conditions = where.split(";") if isinstance(where, str) else list(where)
    chosen = corpus.utterances
    for condition in filter(str.strip, conditions):
        match = _CONDITION.fullmatch(condition)
        if match is None:
            raise BadOption(
                "this is no condition on utterances",
                got=repr(condition),
                wanted="name=value, name=one,other, name!=value, or name<number",
            )
        name, sign, wanted = match[1], match[2], [value.strip() for value in match[3].split(",")]
        names = dict.fromkeys(name for utterance in corpus for name in utterance.attributes)
        choose("attribute of utterances", name, ["id", "speaker", "text", *names])
        before = chosen
        chosen = [utterance for utterance in before if _fulfils(_value(utterance, name), sign, wanted, condition)]
        if not chosen:
            there = dict.fromkeys(_as_text(value) for u in before if (value := _value(u, name)) is not None)
            raise BadOption(
                f"no utterance fulfils {condition.strip()!r}",
                got=f"values of {name}: {', '.join(list(there)[:12])}{', …' if len(there) > 12 else ''}",
                wanted="a condition that some utterance fulfils",
            )
    return Corpus(chosen, corpus.problems)


def corpus_fingerprint(utterances: Iterable[Utterance]) -> str:
    """16 hex digits that change with the utterances' ids, texts, speakers, tiers, places, and recordings.

    A recording counts by its file name and size, samples and features by their bytes: so the digits stay when a corpus
    is moved or listed in another order, and a recording changed in place at the same size goes unnoticed.

    Raises:
        BadInput: a recording is missing.
    """
    sizes: dict[Path, int | None] = {}
    digests = []
    for utterance in utterances:
        recording: list[Any] = []
        if isinstance(utterance.audio, Path):
            size = sizes[utterance.audio] = sizes.get(utterance.audio) or file_size(utterance.audio)
            if size is None:
                raise BadInput(f"utterance {utterance.id}: there is no recording {utterance.audio}")
            recording = [utterance.audio.name, size]
        arrays = [array for array in (utterance.audio, utterance.features) if isinstance(array, np.ndarray)]
        parts = [
            *(utterance.id, utterance.text, utterance.speaker, sorted(utterance.tiers.items())),
            [utterance.attributes.get(key) for key in STRETCH],
            [*recording, utterance.sample_rate],
            [[array.shape, hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()] for array in arrays],
        ]
        digests.append(hashlib.sha256(json.dumps(parts, default=plain_json).encode()).digest())
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()[:16]


def _value(utterance: Utterance, name: str) -> Any:
    return getattr(utterance, name) if name in ("id", "speaker", "text") else utterance.attributes.get(name)


def _as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _fulfils(value: Any, sign: str, wanted: list[str], condition: str) -> bool:
    if sign in ("=", "!="):
        equal = value is not None and any(_as_text(value) == one or _same_number(value, one) for one in wanted)
        return equal is (sign == "=")
    try:
        limit = float(wanted[0])
    except ValueError:
        limit = math.nan
    if len(wanted) != 1 or math.isnan(limit):
        raise BadOption("only numbers can be less or more", got=repr(condition.strip()), wanted="name<number")
    number = _number(value)
    return not math.isnan(number) and _OPERATORS[sign](number, limit)


def _number(value: Any) -> float:
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return math.nan


def _same_number(value: Any, text: str) -> bool:
    # An id such as "007" is text and differs from "7".
    return isinstance(value, (int, float)) and _number(value) == _number(text)
