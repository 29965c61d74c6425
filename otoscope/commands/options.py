"""Options that several commands have, and what each does with them: choose utterances, say what was left out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import otoscope
from otoscope.base import OtoscopeError
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
EpochOption = Annotated[int | None, typer.Option("--epoch", help="Which checkpoint of the run; the last if left out.")]


def read_chosen(
    manifest: Path, where: str | None, ctm: list[str] | None, strict: bool, *, need_text: bool = False
) -> Any:
    """The chosen utterances; their `.problems` are the manifest's."""
    tiers = {}
    for entry in ctm or []:
        tier, sign, path = entry.partition("=")
        if not sign or not tier or not path:
            raise OtoscopeError("a CTM file needs a tier's name", got=entry, wanted="phone=FILE")
        tiers[tier] = path
    corpus = otoscope.read_corpus(manifest, strict=strict, need_text=need_text, ctm=tiers)
    chosen = otoscope.select(corpus, where) if where else corpus
    if not len(chosen):
        raise OtoscopeError("no utterance is left", got=f"--where {where}", wanted="a condition that some fulfil")
    return chosen


def finish(terminal: Terminal, problems: list[Any]) -> None:
    """Name what was left out; the exit status then is 1."""
    if not problems:
        return
    terminal.say(f"{len(problems)} left out:")
    for problem in problems:
        terminal.say(f"  {problem}")
    raise typer.Exit(1)
