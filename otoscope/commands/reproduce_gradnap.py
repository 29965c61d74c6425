"""`otoscope reproduce gradnap`: Krug et al. 2020, figure by figure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import otoscope
from otoscope.commands.options import CtmOption, JsonOption, SeedOption, WhereOption, named_tiers
from otoscope.study.console import Terminal


def gradnap(
    scale: Annotated[
        str,
        typer.Option(
            "--scale", help="small: everything from nothing, within 30 minutes on 2 cores; full: --run and --corpus."
        ),
    ] = "small",
    out: Annotated[Path, typer.Option("--out", help="The folder for everything.")] = Path("reproduce-gradnap"),
    run: Annotated[
        Path | None, typer.Option("--run", metavar="RUN", help="A trained run; one is trained in --out if left out.")
    ] = None,
    other_run: Annotated[
        Path | None, typer.Option("--other-run", metavar="RUN", help="One like it from another seed, as a control.")
    ] = None,
    corpus: Annotated[
        Path | None,
        typer.Option(
            "--corpus", metavar="MANIFEST", help="The speech; of it what the run held out. Left out: it is spoken."
        ),
    ] = None,
    where: WhereOption = None,
    ctm: CtmOption = None,
    real: Annotated[
        list[Path] | None,
        typer.Option("--real", metavar="MANIFEST", help="More speech, with figures of its own; repeatable."),
    ] = None,
    seed: SeedOption = 0,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, or auto: a GPU where there is one.")] = "auto",
    json: JsonOption = False,
) -> None:
    """Figures 2, 3 and 4 of Krug et al. 2020, and every claim of theirs in numbers beside its controls.

    Figure 2: NAvAI against GradNAP of the input layer. 3: the neurons of a layer over time, the five most responsive in
    colour, and their optimal input. 4: silhouettes by layer and threshold, trees of graphemes and phones. Also
    receptive fields, and random weights, shuffled labels and another seed beside all of it. PDF and PNG in
    OUT/figures, the numbers as NetCDF and CSV in OUT/tables; NAME-claims.csv has a row for each number.

    With nothing given it speaks the embedded corpus, trains two networks of the paper's 11 layers, narrower, and looks
    at what they held out. Of your own: --run RUN --corpus MANIFEST, phones as a tier of the manifest or by --ctm;
    --where chooses what is looked at in place of what the run held out. Started again it goes on where it was, and
    makes again what belongs to another corpus, network or version. What is missing is named, left empty in the figures,
    and the exit status is 1.
    """
    terminal = Terminal(as_json=json)
    terminal.say(otoscope.gradnap_scale(scale))
    made = otoscope.reproduce_gradnap(
        out,
        scale=scale,
        run=run,
        other_run=other_run,
        corpus=corpus,
        where=where,
        ctm=named_tiers(ctm),
        real=real or (),
        seed=seed,
        device=device,
        stage=terminal.stage,
        said=terminal.say,
    )
    holes = made.holes.sentences
    facts = {name: analysis.facts for name, analysis in made.analyses.items()}
    lines = [
        f"{name}: {fact['utterances']} utterances, N = {fact['instances']} frames explained, WER {fact['wer']:.1f} %"
        for name, fact in facts.items()
        if fact
    ]
    lines += [str(path) for path in [*made.tables, *made.figures] if path.suffix in (".pdf", ".csv")]
    terminal.show(
        {
            "speech": facts,
            "figures": [str(path) for path in made.figures],
            "tables": [str(path) for path in made.tables],
            "missing": made.holes.found,
            "seconds": terminal.seconds,
        },
        "\n".join(lines),
    )
    if holes:
        terminal.say(f"{len(holes)} missing:")
        for sentence in holes:
            terminal.say(f"  {sentence}")
        raise typer.Exit(1)
