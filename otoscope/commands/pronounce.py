"""`otoscope pronounce`: words, their phones, and which letter makes which."""

from __future__ import annotations

from typing import Annotated

import typer

import otoscope
from otoscope.base import BadOption
from otoscope.commands.options import JsonOption, LexiconOption, read_pronouncer
from otoscope.study.console import Terminal


def pronounce(
    words: Annotated[list[str], typer.Argument(metavar="WORD…", help="What to say.")],
    lexicon: LexiconOption = None,
    no_lexicon: Annotated[bool, typer.Option("--no-lexicon", help="Read every word by its letters.")] = False,
    json: JsonOption = False,
) -> None:
    """Say how words are pronounced (ARPAbet, without stress), and which letter makes which phone."""
    if lexicon and no_lexicon:
        raise BadOption("a lexicon is either asked or not", got="--lexicon and --no-lexicon", wanted="one of them")
    terminal = Terminal(as_json=json)
    pronouncer = otoscope.Pronouncer() if no_lexicon else read_pronouncer(terminal, lexicon)
    said = pronouncer.words(words)
    for spoken in said.words.values():
        if spoken.unread:
            unread = " ".join(spoken.unread)
            terminal.say(f"{spoken.word!r}: no phones for {unread}; write numbers and signs as words")
    lines = []
    for word, spoken in said.words.items():
        letters = " ".join(f"{letter}:{'+'.join(phones) or '–'}" for letter, phones in spoken.letters)
        lines.append(f"{word}  {' '.join(spoken.phones)}  ({letters}; {spoken.source})")
    terminal.show(
        {word: [[letter, list(phones)] for letter, phones in spoken.letters] for word, spoken in said.words.items()},
        "\n".join(lines),
    )
    if said.problems:
        terminal.say(f"{len(said.problems)} left out:")
        for problem in said.problems:
            terminal.say(f"  {problem}")
        raise typer.Exit(1)
