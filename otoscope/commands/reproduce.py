"""`otoscope reproduce`: the tables and figures of the two papers, with one's own numbers."""

from __future__ import annotations

import typer

from otoscope.commands.reproduce_insights import insights

app = typer.Typer(no_args_is_help=True)
app.command()(insights)


@app.callback()
def reproduce() -> None:
    """The papers again: their tables and figures with your own numbers."""
