"""`otoscope layers`, `compare`, `report`: what the layers of a network represent."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import otoscope
from otoscope.commands.options import (
    CorpusOption,
    CtmOption,
    EpochOption,
    JsonOption,
    LayersOption,
    OutOption,
    RunArgument,
    StrictOption,
    WhereOption,
    finish,
    read_chosen,
)
from otoscope.study.console import Terminal, table
from otoscope.study.summaries import layer_summary, network_summary, training_summary, training_words


def layers(run: RunArgument, epoch: EpochOption = None, json: JsonOption = False) -> None:
    """List the layers of a network: width, stride, receptive field. These names go into --layers."""
    terminal = Terminal(as_json=json)
    facts = [layer.facts() for layer in otoscope.list_layers(otoscope.load(run, epoch))]
    terminal.show(facts, table(*layer_summary(facts)))


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Runs' folders or checkpoints.")],
    corpus: CorpusOption,
    layers: LayersOption = None,
    nodes: Annotated[
        list[str] | None,
        typer.Option("--node", help="mel (if left out), phone, word, speaker, a tier or attribute."),
    ] = None,
    measures: Annotated[
        list[str] | None,
        typer.Option("--measure", help="cka, svcca, cka_debiased, pwcca, ...; the first two if left out."),
    ] = None,
    interval: Annotated[float | None, typer.Option("--interval", help="Level of jackknife intervals: 0.95.")] = None,
    baseline: Annotated[
        list[str] | None, typer.Option("--baseline", help="permutation (utterances re-paired), random (weights).")
    ] = None,
    preset: Annotated[
        str | None, typer.Option("--preset", help="ollerenshaw2021 or ollerenshaw2021-code: as that paper did.")
    ] = None,
    align: Annotated[str, typer.Option("--align", help="Other frame rates: pool or interpolate.")] = "pool",
    maps: Annotated[str, typer.Option("--maps", help="Neurons of 2-D maps: units or channels.")] = "units",
    ctm: CtmOption = None,
    where: WhereOption = None,
    out: OutOption = None,
    strict: StrictOption = False,
    json: JsonOption = False,
) -> None:
    """How alike layers are: of one run through its training, or of several networks at their end.

    With one run, each layer with itself at the last, next and first epoch and with the input, and all layers with one
    another at the end; which layers converged when, and which are ill. With several, every layer with every other.
    """
    terminal = Terminal(as_json=json)
    network = otoscope.load(runs[0])
    chosen = read_chosen(corpus, where, ctm, strict)
    with terminal.stage("features") as progress:
        speech = otoscope.listen(chosen, network=network, strict=strict, progress=progress)
    options: dict[str, Any] = {"interval": interval, "baseline": baseline, "preset": preset}
    options |= {"layers": layers or "*", "measures": measures or ["svcca", "cka"], "align": align, "maps": maps}
    with terminal.stage("similarities") as progress:
        if len(runs) == 1:
            options["nodes"] = ["mel"] if nodes is None else nodes
            found = otoscope.through_training(runs[0], speech, progress=progress, **options)
        else:
            found = otoscope.compare(runs, speech, nodes=nodes or (), progress=progress, **options)
    folder = out or (runs[0] if runs[0].is_dir() else runs[0].parent) / "report"
    paths = otoscope.save_table(found, folder, "similarity" if len(runs) == 1 else "networks")
    summary = training_summary(found) if len(runs) == 1 else network_summary(found, options["measures"])
    terminal.show(found.to_dict(), table(*summary))
    for line in training_words(found) if len(runs) == 1 else ():
        terminal.say(line)
    terminal.say(
        f"{found.attrs['frames']} frames of {found.attrs['utterances']} utterances; {paths[0]}, {paths[1].name}"
    )
    finish(terminal, speech.problems)


def report(run: RunArgument, out: OutOption = None) -> None:
    """Write the page about a run from what `compare`, `profile` and `optimal` have left in its report folder."""
    page = otoscope.write_report(run, out, title=f"What the layers of {run.resolve().name} learned")
    Terminal().show(None, f"Page: {page.resolve()}")
