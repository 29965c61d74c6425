"""`otoscope performance`: is the similarity of layers related to how well networks recognise?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import otoscope
from otoscope.base import BadInput, BadOption
from otoscope.commands.options import (
    CorpusOption,
    JsonOption,
    LayersOption,
    SeedOption,
    StrictOption,
    WhereOption,
    finish,
    read_chosen,
)
from otoscope.study.console import Terminal, table
from otoscope.study.performance_words import performance_summary, performance_words

CLEAN = "clean"


def performance(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Three or more runs' folders or checkpoints.")],
    corpus: CorpusOption,
    where: WhereOption = None,
    noise: Annotated[
        list[float] | None,
        typer.Option("--noise", metavar="DB", help="Also with white noise at this ratio (dB); repeatable."),
    ] = None,
    similarity: Annotated[
        str, typer.Option("--similarity", help="Of adjacent layers of each network, or with the others' layers.")
    ] = "adjacent",
    measure: Annotated[str, typer.Option("--measure", help="cka_debiased, cka, svcca, pwcca, ...")] = "cka_debiased",
    layers: LayersOption = None,
    interval: Annotated[float, typer.Option("--interval", help="Level of the interval, by bootstrap.")] = 0.95,
    out: Annotated[Path, typer.Option("--out", help="Where the page and the numbers go.")] = Path("performance"),
    seed: SeedOption = 0,
    strict: StrictOption = False,
    json: JsonOption = False,
) -> None:
    """Over a set of networks, is similarity of layers related to word errors? On clean and on noisy speech.

    Writes a page with a figure, and the numbers as NetCDF and CSV. Few networks show little; the interval says how
    little.
    """
    # Said now, and not after minutes of recognising.
    if len(runs) < 3:
        raise BadInput(
            "a rank correlation takes networks",
            got=f"{len(runs)}",
            wanted="at least 3 runs, better 6 or more",
            remedy="train more, of other depths, widths or seeds",
        )
    if not 0 < interval < 1:
        raise BadOption("an interval has a level", got=f"--interval {interval:g}", wanted="between 0 and 1, as 0.95")
    terminal = Terminal(as_json=json)
    network = otoscope.load(runs[0])
    chosen = read_chosen(corpus, where, None, strict, need_text=True)
    with terminal.stage("features") as progress:
        clean = otoscope.listen(chosen, network=network, strict=strict, progress=progress)
    conditions: dict[str, Any] = {CLEAN: clean}
    for snr_db in noise or ():
        with terminal.stage(name := f"noise {snr_db:g} dB") as progress:
            # What cannot be heard at all was left out above.
            louder = otoscope.noisy(clean.utterances, snr_db, seed=seed)
            conditions[name] = otoscope.listen(louder, network=network, strict=strict, progress=progress)
    with terminal.stage("recognising, comparing") as progress:
        found = otoscope.similarity_and_performance(
            runs,
            conditions,
            similarity=similarity,
            measure=measure,
            layers=layers or "*",
            level=interval,
            seed=seed,
            progress=progress,
        )
    paths = otoscope.write_performance(found, out)
    terminal.show(found.to_dict(), table(*performance_summary(found)))
    for line in performance_words(found):
        terminal.say(line)
    words = sum(len(utterance.text.split()) for utterance in clean.utterances)
    terminal.say(
        f"{found['similarity'].attrs['long_name']}; {len(runs)} networks, {len(clean)} utterances with {words} words\n"
        f"Page: {paths[0].resolve()}"
    )
    finish(terminal, clean.problems)
