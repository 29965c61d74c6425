"""`otoscope reproduce insights`: the table and the figures of Ollerenshaw et al. 2021, with one's own numbers."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

import otoscope
from otoscope.commands.options import JsonOption
from otoscope.study.console import Terminal


def insights(
    scale: Annotated[
        str, typer.Option("--scale", help="small: two cores and the embedded corpus; full: a GPU and Switchboard.")
    ] = "small",
    out: Annotated[Path, typer.Option("--out", help="The folder for everything.")] = Path("reproduce-insights"),
    corpus: Annotated[
        list[Path] | None,
        typer.Option(
            "--corpus",
            metavar="MANIFEST",
            help="Small: in place of speaking one into OUT/corpus. Full: train.jsonl and hub5.jsonl; repeatable.",
        ),
    ] = None,
    runs: Annotated[
        Path | None, typer.Option("--runs", help="Where the runs are or go: NETWORK-sSEED each; OUT/runs if left out.")
    ] = None,
    seeds: Annotated[
        list[int] | None, typer.Option("--seeds", help="A seed; repeatable. The scale's if left out.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="NETWORK", help="conv-lstm-3, lstm, ...; repeatable.")
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=2, help="In place of the scale's.")] = None,
    train: Annotated[
        bool, typer.Option("--train/--no-train", help="Train what is missing, or look only at the runs that are there.")
    ] = True,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Say what is there and how long it takes; stop.")
    ] = False,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, or auto: a GPU where there is one.")] = "auto",
    json: JsonOption = False,
) -> None:
    """Train and score CNNs of 1 to 6 convolutions, an LSTM and a Transformer; Table 1 and Figures 1 to 4 of the paper.

    Says first how long it takes: small, hours from nothing on two cores, minutes when the runs are there. Started again
    it goes on where it was. What is missing is named, marked in the figures, and makes the exit status 1.
    """
    terminal = Terminal(as_json=json)
    found = otoscope.reproduce_insights(
        out,
        scale=scale,
        corpus=corpus or (),
        runs=runs,
        seeds=seeds,
        only=only,
        epochs=epochs,
        train=train,
        estimate=estimate,
        device=device,
        command=shlex.join(["otoscope", *sys.argv[1:]]),
        terminal=terminal,
    )
    rows = [dict(row._asdict()) for row in found.rows if row.seed is None]
    if not estimate:
        terminal.show(
            {"out": str(out), "wer": rows, "files": [path.name for path in found.files], "problems": found.problems},
            f"Results: {(out / 'README.md').resolve()}",
        )
    if found.problems:
        raise typer.Exit(1)
