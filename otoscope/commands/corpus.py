"""`otoscope corpus`: make, import and check corpora."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

import otoscope
from otoscope.base import OtoscopeError
from otoscope.commands.options import JsonOption, SeedOption, StrictOption, finish
from otoscope.study.console import Terminal

app = typer.Typer(no_args_is_help=True, help="Make, import and check corpora (JSONL manifests).")


@app.command("speak")
def corpus_speak(
    out: Annotated[Path, typer.Option("--out", help="The corpus' folder.")],
    seed: SeedOption = 0,
    minutes: Annotated[float, typer.Option("--minutes", help="At least so much speech.")] = 31.0,
    words: Annotated[
        Path | None, typer.Option("--words", help="A file of words; the built-in 374 if left out.")
    ] = None,
) -> None:
    """Speak a corpus with espeak-ng: twenty voices, exact phone and word times, the same bits for the same seed."""
    terminal = Terminal()
    chosen = None
    if words is not None:
        try:
            chosen = words.read_text(encoding="utf-8").split()
        except (OSError, UnicodeDecodeError) as error:
            raise OtoscopeError(
                "the words cannot be read", got=f"{words}: {error}", wanted="a UTF-8 text file"
            ) from error
    with terminal.stage("speaking") as progress:
        manifest = otoscope.speak_corpus(
            out, seed=seed, minutes=minutes, words=chosen, processes=os.cpu_count() or 2, progress=progress
        )
    terminal.show(None, str(manifest))


@app.command("import")
def corpus_import(
    folder: Annotated[
        Path, typer.Argument(help="A corpus' folder, or where several lie side by side the file of one of them.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The manifest to write.")],
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="librispeech, timit, switchboard, hub5, kaldi, lhotse, jsonl or csv; guessed when left out.",
        ),
    ] = None,
    audio: Annotated[
        Path | None,
        typer.Option("--audio", help="Where the recordings are, if elsewhere (switchboard and hub5)."),
    ] = None,
    tiers: Annotated[bool, typer.Option("--tiers/--no-tiers", help="Keep the times of phones and words.")] = True,
    strict: StrictOption = False,
) -> None:
    """Turn a corpus in another layout into a manifest. Recordings stay where they are."""
    terminal = Terminal()
    corpus = otoscope.import_corpus(folder, format, audio=audio, tiers=tiers, strict=strict)
    otoscope.write_manifest(corpus, out)
    passed = f"; {corpus.passed_over} stretches in which nothing is said" if corpus.passed_over else ""
    terminal.show(None, f"{out}: {len(corpus)} utterances{passed}")
    finish(terminal, list(corpus.problems))


@app.command("validate")
def corpus_validate(
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST", help="manifest.jsonl, or its folder.")],
    decode: Annotated[bool, typer.Option("--decode", help="Read every sample too, not only the headers.")] = False,
    json: JsonOption = False,
) -> None:
    """Check every row and recording of a manifest: what is wrong, by name, and the totals."""
    terminal = Terminal(as_json=json)
    with terminal.stage("checking") as progress:
        report = otoscope.validate(manifest, decode=decode, progress=progress)
    terminal.show(report.as_dict(), str(report))
    if not report.ok:
        raise typer.Exit(1)
