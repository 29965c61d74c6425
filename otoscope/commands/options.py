"""Options that several commands have, and what each does with them: choose utterances, say what was left out."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

import otoscope
from otoscope.base import OtoscopeError
from otoscope.hear.text import normalise_text
from otoscope.study.console import Terminal

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder (or, for one network, a checkpoint).")]
CorpusOption = Annotated[
    Path, typer.Option("--corpus", metavar="MANIFEST", help="manifest.jsonl, or the folder that holds it.")
]
WhereOption = Annotated[
    str | None, typer.Option("--where", help="Only these utterances: split=test, speaker=a,b, gender!=f, age<12.")
]
CtmOption = Annotated[list[str] | None, typer.Option("--ctm", help="A tier from a CTM file: phone=FILE.")]
LayersOption = Annotated[
    list[str] | None, typer.Option("--layers", help="Layer names or globs; all of the network's own when left out.")
]
OutOption = Annotated[Path | None, typer.Option("--out", help="Where results go; the run's report folder if left out.")]
StrictOption = Annotated[bool, typer.Option("--strict", help="Stop at the first recording that cannot be used.")]
JsonOption = Annotated[bool, typer.Option("--json", help="The result as JSON on standard output.")]
SeedOption = Annotated[int, typer.Option("--seed", help="The same seed gives the same result.")]
LexiconOption = Annotated[
    Path | None,
    typer.Option(
        "--lexicon",
        metavar="FILE",
        help="A dictionary as CMU writes them (cake K EY1 K), asked first; OTOSCOPE_LEXICON names one for always.",
    ),
]
EpochOption = Annotated[int | None, typer.Option("--epoch", help="Which checkpoint of the run; the last if left out.")]


def read_chosen(
    manifest: Path, where: str | None, ctm: list[str] | None, strict: bool, *, need_text: bool = False
) -> Any:
    """The chosen utterances; their `.problems` are the manifest's."""
    corpus = otoscope.read_corpus(manifest, strict=strict, need_text=need_text, ctm=named_tiers(ctm))
    chosen = otoscope.select(corpus, where) if where else corpus
    if not len(chosen):
        raise OtoscopeError("no utterance is left", got=f"--where {where}", wanted="a condition that some fulfil")
    return chosen


def named_tiers(ctm: list[str] | None) -> dict[str, str]:
    """Tier → CTM file, of `--ctm` options."""
    tiers = {}
    for entry in ctm or []:
        tier, sign, path = entry.partition("=")
        if not sign or not tier or not path:
            raise OtoscopeError("a CTM file needs a tier's name", got=entry, wanted="phone=FILE")
        tiers[tier] = path
    return tiers


def read_pronouncer(terminal: Terminal, lexicon: Path | None) -> Any:
    """What says words: the dictionary's pronunciations first, if one is named; its broken rows are named."""
    named = os.environ.get("OTOSCOPE_LEXICON")
    lexicon = lexicon or (Path(named) if named else None)
    if lexicon is None:
        return otoscope.Pronouncer()
    listed = otoscope.read_lexicon(lexicon)
    for problem in listed.problems[:5]:
        terminal.say(f"{lexicon}, {problem}: left out")
    if len(listed.problems) > 5:
        terminal.say(f"{lexicon}: {len(listed.problems)} rows left out in all")
    return otoscope.Pronouncer(listed)


def pronouncing(terminal: Terminal, lexicon: Path | None, chosen: Any) -> Callable[[str], Any]:
    """The letters of a word of these transcripts, each with its phones.

    All words are read at once, which is quicker; what has no pronunciation is counted where it occurs.
    """
    pronouncer = read_pronouncer(terminal, lexicon)
    words = sorted({word for utterance in chosen for word in normalise_text(utterance.text).split()})
    with terminal.stage("pronouncing") as progress:
        pronouncer.words(words, progress=progress)
    return lambda word: pronouncer.word(word).letters


def finish(terminal: Terminal, problems: list[Any]) -> None:
    """Name what was left out; the exit status then is 1."""
    if not problems:
        return
    terminal.say(f"{len(problems)} left out:")
    for problem in problems:
        terminal.say(f"  {problem}")
    raise typer.Exit(1)
