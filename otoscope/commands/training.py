"""`otoscope demo`, `train`: recognisers come to be."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

import otoscope
from otoscope.commands.options import (
    CorpusOption,
    JsonOption,
    SeedOption,
    StrictOption,
    WhereOption,
    finish,
    read_chosen,
)
from otoscope.study.console import Terminal, table


def demo(
    out: Annotated[Path, typer.Option("--out", help="The folder for everything.")] = Path("demo"),
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Speak a corpus, train a recogniser on it, look inside, and write a page about it. Under three minutes on 2 cores.

    Started again after an interruption it goes on where it was.
    """
    terminal = Terminal(as_json=json)
    made = otoscope.run_demo(out, seed=seed, stage=terminal.stage)
    result = made.result
    wer = f"{result['wer']:.1f} %" if result["wer"] is not None else "undefined"
    total = sum(terminal.seconds.values())
    rows: list[list[object]] = [[name, f"{seconds:.1f}"] for name, seconds in terminal.seconds.items()]
    terminal.screen.print(table(["stage", "seconds"], [*rows, ["all", f"{total:.1f}"]]))
    terminal.show(
        {"page": str(made.page), "result": result, "seconds": terminal.seconds},
        f"Word error rate {wer} on held-out voices and word sequences "
        f"(S/D/I {result['sub']}/{result['del']}/{result['ins']} of {result['words']} words)\n"
        f"Page: {made.page.resolve()}",
    )


def train(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run's folder, made where there is none.")],
    corpus: CorpusOption,
    config: Annotated[Path | None, typer.Option("--config", help="YAML with network: and train:.")] = None,
    held_out: Annotated[
        str, typer.Option("--held-out", help="Utterances kept for scoring: split=test, speaker=a,b.")
    ] = "split=test",
    start: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Begin with the weights of this run or checkpoint; where --config has no network:, it is that one.",
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="How many; overrides the configuration.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Overrides the configuration.")] = None,
    where: WhereOption = None,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, or auto: a GPU where there is one.")] = "auto",
    workers: Annotated[
        int | None, typer.Option("--workers", min=0, help="Processes that compute features beside the training.")
    ] = None,
    in_memory: Annotated[
        bool, typer.Option("--in-memory/--from-disk", help="Keep features in memory, or compute them in each epoch.")
    ] = True,
    strict: StrictOption = False,
    json: JsonOption = False,
) -> None:
    """Train a recogniser, keeping the untrained network and the checkpoint of every epoch.

    Started again after an interruption it goes on from the last whole epoch. Started by torchrun (torchrun
    --nproc-per-node 2 -m otoscope train …) it shares every batch among so many devices.
    """
    terminal = Terminal(as_json=json)
    chosen = read_chosen(corpus, where, None, strict, need_text=True)
    network, options = otoscope.read_recipe(config) if config else ({}, {})
    options |= {name: value for name, value in (("epochs", epochs), ("seed", seed)) if value is not None}
    heard: list[Any] = []

    def speech(built: Any) -> Any:
        with terminal.stage("features") as progress:
            heard.append(otoscope.listen(chosen, network=built, strict=strict, progress=progress))
        return heard[0]

    def on_epoch(entry: dict[str, Any]) -> None:
        loss = "" if entry["train_loss"] is None else f"loss {entry['train_loss']:.2f}, "
        wer = entry.get("wer")
        terminal.say(f"epoch {entry['epoch']}: {loss}held-out WER " + ("undefined" if wer is None else f"{wer:.1f} %"))

    with terminal.stage("training") as progress:
        trained = otoscope.train_recogniser(
            run,
            chosen,
            held_out=held_out,
            network=network,
            options=options,
            start=start,
            strict=strict,
            speech=speech,
            in_memory=in_memory,
            device=device,
            workers=workers,
            progress=progress,
            on_epoch=on_epoch,
        )
    if int(os.environ.get("RANK", "0")):
        return
    last = trained.log[-1]
    terminal.show(
        last,
        f"{trained.folder}: {len(trained.checkpoints)} checkpoints, held-out WER {last['wer']:.1f} % "
        f"(S/D/I {last['sub']}/{last['del']}/{last['ins']} of {last['words']} words)",
    )
    # What was heard names the manifest's problems, too.
    finish(terminal, heard[0].problems if heard else chosen.problems)
