"""The command line. Every command is thin: it reads options, calls one function of the package, shows the result."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

# Threads that wait for each other sleep instead of spinning: on a machine that others use, or that lends a share of its
# processors, spinning takes the time that the thread waited for would need, and training took ten times as long.
# Read once, when torch is loaded, which is later.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import typer

from otoscope.base import OtoscopeError
from otoscope.commands import align, corpus, looking, performance, profiles, pronounce, reproduce, score, training

app = typer.Typer(
    name="otoscope",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Look inside networks that listen.\n\nStart with [bold]otoscope demo[/bold]: it speaks a corpus, trains a "
    "recogniser on it and writes a page about what its layers learned. Then bring your own: import a corpus, train on "
    "it, compare, profile, report.",
    rich_markup_mode="rich",
)
app.add_typer(corpus.app, name="corpus")
app.add_typer(reproduce.app, name="reproduce")
# In the order of `otoscope --help`.
for command in (
    training.demo,
    training.train,
    score.score,
    align.align,
    pronounce.pronounce,
    looking.layers,
    looking.compare,
    performance.performance,
    profiles.profile,
    profiles.optimal,
    looking.report,
):
    app.command()(command)


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    """Whatever goes wrong ends in a message and an exit status, never in a traceback."""
    try:
        yield
    except OtoscopeError as error:
        typer.echo(f"otoscope: {error}", err=True)
        sys.exit(1)
    except SystemExit as end:
        # Typer turns an interruption into this status, and says nothing.
        if end.code == 130:
            typer.echo("otoscope: interrupted; started again, the command goes on where it was", err=True)
        raise
    except OSError as error:
        typer.echo(f"otoscope: {error.strerror or error}: {error.filename or 'a file'}", err=True)
        sys.exit(1)
    except Exception as error:
        # Not one of ours, so a fault of otoscope's: said in a line, with the way to the traceback for a report.
        if os.environ.get("OTOSCOPE_DEBUG"):
            raise
        typer.echo(f"otoscope: a fault of otoscope's own: {type(error).__name__}: {error}", err=True)
        typer.echo("  try:    OTOSCOPE_DEBUG=1 shows where; please report it with the command", err=True)
        sys.exit(1)


def main() -> None:
    """Run the command line."""
    with _plain_errors():
        app()


if __name__ == "__main__":
    main()
