"""`otoscope align`: letters, phones and words of transcripts in time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import otoscope
from otoscope.base import BadInput, BadOption, choose
from otoscope.commands.options import (
    CorpusOption,
    EpochOption,
    JsonOption,
    LexiconOption,
    RunArgument,
    StrictOption,
    WhereOption,
    finish,
    pronouncing,
    read_chosen,
)
from otoscope.study.console import Terminal, table

TIERS = ("grapheme", "phone", "word")


def align(
    run: RunArgument,
    corpus: CorpusOption,
    out: Annotated[Path, typer.Option("--out", help="FILE.ctm, FILE.jsonl (a manifest), or a folder of TextGrids.")],
    tier: Annotated[
        list[str] | None,
        typer.Option(
            "--tier", metavar="TIER", help="grapheme, phone or word; repeatable. Left out: all; in CTM, the phones."
        ),
    ] = None,
    lexicon: LexiconOption = None,
    where: WhereOption = None,
    epoch: EpochOption = None,
    delay: Annotated[
        float | None,
        typer.Option("--delay", metavar="S", help="How late the network says a sound, in seconds; else measured."),
    ] = None,
    refine: Annotated[
        bool, typer.Option("--refine/--no-refine", help="Move boundaries to the nearest change of the spectrum.")
    ] = True,
    strict: StrictOption = False,
    json: JsonOption = False,
) -> None:
    """Find when each letter, phone and word of the transcripts is said, by CTC forced alignment.

    What cannot be aligned is named and left out: an audio shorter than its text needs, characters that the network does
    not know, an empty text.
    """
    wanted = [choose("tier", name, TIERS) for name in dict.fromkeys(tier or ())]
    kind = out.suffix.lower()
    # Said now, and not after minutes of aligning.
    if kind not in ("", ".ctm", ".jsonl"):
        raise BadOption("an alignment cannot be written to such a file", got=out, wanted="FILE.ctm, FILE.jsonl, FOLDER")
    if kind == ".ctm" and len(wanted) > 1:
        raise BadOption("a CTM file has one tier", got=", ".join(wanted), wanted="one --tier")
    manifest = corpus / "manifest.jsonl" if corpus.is_dir() else corpus
    if out.absolute().resolve() == manifest.absolute().resolve():
        raise BadInput("the alignment would take the corpus's place", got=out, remedy="name another file with --out")
    terminal = Terminal(as_json=json)
    network = otoscope.load(run, epoch)
    chosen = read_chosen(corpus, where, None, strict, need_text=True)
    pronounce = pronouncing(terminal, lexicon, chosen) if "phone" in wanted or not wanted else None
    with terminal.stage("features") as progress:
        speech = otoscope.listen(chosen, mels=getattr(network, "mels", 128), strict=strict, progress=progress)
    with terminal.stage("aligning") as progress:
        aligned = otoscope.align(
            network,
            speech,
            pronounce,
            delay_s=delay,
            strict=strict,
            progress=progress,
            **({} if refine else {"refine_s": 0.0}),
        )
    paths = otoscope.write_alignment(aligned, out, wanted or None)
    made = wanted or (["phone"] if kind == ".ctm" else list(aligned.tiers))
    scores = sorted(zip(aligned.scores, (utterance.id for utterance in aligned.utterances), strict=True))
    terminal.show(
        {
            "out": str(out),
            "files": len(paths),
            "utterances": len(aligned.utterances),
            "segments": {name: aligned.count(name) for name in made},
            "delay_s": aligned.delay_s,
            "delay_measured": aligned.measured,
            "score": sum(aligned.scores) / len(aligned.scores),
            "lowest": [{"id": id, "score": score} for score, id in scores[:5]],
            "unpronounced": aligned.unpronounced,
            "left_out": [{"id": problem.id, "what": problem.what} for problem in aligned.problems],
        },
        table(["tier", "segments"], [[name, aligned.count(name)] for name in made]),
    )
    measured = "measured on this speech" if aligned.measured else "given" if delay is not None else "not measured"
    late = f"{abs(1000 * aligned.delay_s):.0f} ms {'early' if aligned.delay_s < 0 else 'late'}"
    terminal.say(f"{len(aligned.utterances)} utterances; the network is {late} ({measured})")
    if aligned.unpronounced:
        words = ", ".join(f"{word} ({n})" for word, n in list(aligned.unpronounced.items())[:8])
        terminal.say(f"{sum(aligned.unpronounced.values())} words without phones: {words}")
    terminal.say(f"Written: {out.resolve()}")
    finish(terminal, aligned.problems)
