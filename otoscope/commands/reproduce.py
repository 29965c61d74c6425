"""`otoscope reproduce`: the tables and figures of the two papers, with one's own numbers."""

from __future__ import annotations

import typer

from otoscope.commands.reproduce_gradnap import gradnap
from otoscope.commands.reproduce_insights import insights

app = typer.Typer(no_args_is_help=True, help="The papers' own figures and tables, with your networks and speech.")
app.command()(insights)
app.command()(gradnap)
