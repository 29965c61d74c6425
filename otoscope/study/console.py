"""What a command shows: a progress bar for each stage, messages, and how it ends."""

from __future__ import annotations

import contextlib
import json
import math
import sys
import time
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from otoscope.base import Progress as Report

# What is written are people's names of things: `phone:a:` is no emoji, `take[2]` no style.
_LITERAL: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False}


class Terminal:
    """Progress and messages go to standard error, so that results on standard output can be piped."""

    def __init__(self, *, as_json: bool = False):
        self.as_json = as_json
        self.screen = Console(stderr=True, **_LITERAL, soft_wrap=True)
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[Report]:
        """A progress bar for one stage; its time is kept in `seconds`."""
        started = time.monotonic()
        columns = (
            TextColumn("{task.description:<24}", markup=False),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        with Progress(*columns, console=self.screen, transient=not self.screen.is_terminal) as bars:
            task = bars.add_task(name, total=None, note="")

            def report(done: int, total: int, note: str = "") -> None:
                bars.update(task, completed=done, total=total, note=note)

            yield report
        took = time.monotonic() - started
        self.seconds[name] = self.seconds.get(name, 0.0) + took
        if not self.screen.is_terminal:
            # Without a terminal there is no bar: a line says that the stage is over.
            self.screen.print(f"{name}: {took:.1f} s")

    def say(self, text: str) -> None:
        """A message for the person at the keyboard."""
        self.screen.print(text)

    def show(self, value: Any, text: str | Table) -> None:
        """The result, on standard output: as JSON when asked for, else to be read."""
        if self.as_json:
            sys.stdout.write(json.dumps(_without_nan(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n")
        elif isinstance(text, Table):
            Console(**_LITERAL).print(text)
        else:
            sys.stdout.write(text + "\n")


def _without_nan(value: Any) -> Any:
    """The same with null for numbers that are not finite, which JSON does not know."""
    if isinstance(value, dict):
        return {name: _without_nan(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def table(headers: list[str], rows: list[list[object]], title: str | None = None) -> Table:
    """A plain table; numbers to the right."""
    result = Table(title=title, box=None, pad_edge=False, header_style="bold", title_justify="left")
    for index, header in enumerate(headers):
        numeric = all(isinstance(row[index], (int, float)) for row in rows)
        result.add_column(header, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        result.add_row(*(f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row))
    return result
