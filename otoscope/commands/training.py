"""`otoscope demo`, `train`, `score`: recognisers come to be, and say how well they recognise."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import otoscope
from otoscope.commands.options import (
    CorpusOption,
    EpochOption,
    JsonOption,
    RunArgument,
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
    run: RunArgument,
    corpus: CorpusOption,
    config: Annotated[Path | None, typer.Option("--config", help="YAML with network: and train:.")] = None,
    held_out: Annotated[
        str, typer.Option("--held-out", help="Utterances kept for scoring: split=test, speaker=a,b.")
    ] = "split=test",
    epochs: Annotated[int | None, typer.Option("--epochs", help="How many; overrides the configuration.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Overrides the configuration.")] = None,
    where: WhereOption = None,
    strict: StrictOption = False,
    json: JsonOption = False,
) -> None:
    """Train a recogniser with CTC, keeping the untrained network and the checkpoint of every epoch.

    Started again after an interruption it goes on from the last whole epoch.
    """
    terminal = Terminal(as_json=json)
    chosen = read_chosen(corpus, where, None, strict, need_text=True)
    network, options = otoscope.read_recipe(config) if config else ({}, {})
    options |= {name: value for name, value in (("epochs", epochs), ("seed", seed)) if value is not None}
    heard: list[Any] = []

    def speech() -> Any:
        with terminal.stage("features") as progress:
            mels = {"mels": int(network["mels"])} if "mels" in network else {}
            heard.append(otoscope.listen(chosen, strict=strict, progress=progress, **mels))
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
            strict=strict,
            speech=speech,
            progress=progress,
            on_epoch=on_epoch,
        )
    last = trained.log[-1]
    terminal.show(
        last,
        f"{trained.folder}: {len(trained.checkpoints)} checkpoints, held-out WER {last['wer']:.1f} % "
        f"(S/D/I {last['sub']}/{last['del']}/{last['ins']} of {last['words']} words)",
    )
    # What was heard names the manifest's problems, too.
    finish(terminal, heard[0].problems if heard else chosen.problems)


def score(
    run: RunArgument,
    corpus: CorpusOption,
    where: WhereOption = None,
    epoch: EpochOption = None,
    strict: StrictOption = False,
    json: JsonOption = False,
    transcripts: Annotated[bool, typer.Option("--transcripts", help="Show what was heard, too.")] = False,
) -> None:
    """Recognise a corpus and count substitutions, deletions and insertions, in all and by speaker."""
    terminal = Terminal(as_json=json)
    network = otoscope.load(run, epoch)
    chosen = read_chosen(corpus, where, None, strict, need_text=True)
    with terminal.stage("features") as progress:
        speech = otoscope.listen(chosen, mels=network.mels, strict=strict, progress=progress)
    with terminal.stage("recognising") as progress:
        scored = otoscope.score_recogniser(network, speech, progress=progress)
    speakers = {name: counts.as_dict() for name, counts in scored["speakers"].items()}
    values = {**scored["total"].as_dict(), "speakers": speakers}
    if transcripts:
        values["utterances"] = [{"id": id, "ref": ref, "hyp": hyp} for id, ref, hyp, _ in scored["utterances"]]
        if not json:
            for id, reference, hypothesis, _ in scored["utterances"]:
                typer.echo(f"{id}\n  ref {reference}\n  hyp {hypothesis}")
    lines = [str(scored["total"]), *(f"  {name}: {counts}" for name, counts in scored["speakers"].items())]
    terminal.show(values, "\n".join(lines))
    finish(terminal, speech.problems)
