"""`otoscope score`: a recogniser on a corpus, or any system's transcripts against a reference, as sclite counts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import otoscope
from otoscope.base import BadOption
from otoscope.commands.options import (
    EpochOption,
    JsonOption,
    SeedOption,
    StrictOption,
    WhereOption,
    finish,
    read_chosen,
)
from otoscope.study.console import Terminal, table

FILES, RUN = "Files of transcripts", "A run on a corpus"
COUNTS = ("sentences", "words", "correct", "sub", "del", "ins", "errors")
WIDTH = 100


def score(
    run: Annotated[
        Path | None, typer.Argument(metavar="RUN", help="A run's folder, to recognise --corpus with.")
    ] = None,
    ref: Annotated[
        Path | None, typer.Option("--ref", metavar="FILE", help="Reference: trn or stm.", rich_help_panel=FILES)
    ] = None,
    hyp: Annotated[
        Path | None, typer.Option("--hyp", metavar="FILE", help="Hypothesis: trn or ctm.", rich_help_panel=FILES)
    ] = None,
    format: Annotated[str, typer.Option("--format", help="trn or stm-ctm.", rich_help_panel=FILES)] = "trn",
    glm: Annotated[
        Path | None,
        typer.Option("--glm", metavar="FILE", help="Rules that rewrite both files first.", rich_help_panel=FILES),
    ] = None,
    fragments_correct: Annotated[
        bool,
        typer.Option("--fragments-correct", help="th- is right for what begins so (-F).", rich_help_panel=FILES),
    ] = False,
    optional_deletions: Annotated[
        bool, typer.Option("--optional-deletions", help="A (word) may be missing (-D).", rich_help_panel=FILES)
    ] = False,
    chars: Annotated[
        bool, typer.Option("--chars", help="Characters in place of words (-c).", rich_help_panel=FILES)
    ] = False,
    keep_ascii: Annotated[
        bool, typer.Option("--keep-ascii", help="With --chars: ASCII words stay words.", rich_help_panel=FILES)
    ] = False,
    drop_hyphens: Annotated[
        bool, typer.Option("--drop-hyphens", help="With --chars: without hyphens.", rich_help_panel=FILES)
    ] = False,
    case: Annotated[
        str, typer.Option("--case", help="ascii: A is a; unicode; sensitive (-s).", rich_help_panel=FILES)
    ] = "ascii",
    speaker: Annotated[
        str,
        typer.Option("--speaker", help="Of a trn id: auto, prefix, three, whole (-i).", rich_help_panel=FILES),
    ] = "auto",
    within: Annotated[
        list[str] | None,
        typer.Option("--within", help="Only within the times of: reference, hypothesis (-m).", rich_help_panel=FILES),
    ] = None,
    keep_hyphens: Annotated[
        bool, typer.Option("--keep-hyphens", help="With --glm: do not split at hyphens.", rich_help_panel=FILES)
    ] = False,
    encoding: Annotated[str, typer.Option("--encoding", help="Of both files.", rich_help_panel=FILES)] = "utf-8",
    alignments: Annotated[
        bool, typer.Option("--alignments", help="Show each utterance aligned.", rich_help_panel=FILES)
    ] = False,
    subsets: Annotated[
        bool, typer.Option("--subsets", help="By label of the stm file; SWBD, Clhm.", rich_help_panel=FILES)
    ] = False,
    interval: Annotated[
        float | None, typer.Option("--interval", help="Bootstrap interval of this level.", rich_help_panel=FILES)
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option("--against", metavar="FILE", help="Another system's hypothesis.", rich_help_panel=FILES),
    ] = None,
    by_speaker: Annotated[
        bool, typer.Option("--by-speaker", help="Draw speakers, not utterances.", rich_help_panel=FILES)
    ] = False,
    samples: Annotated[int, typer.Option("--samples", help="Of the bootstrap.", rich_help_panel=FILES)] = 10_000,
    corpus: Annotated[
        Path | None,
        typer.Option("--corpus", metavar="MANIFEST", help="manifest.jsonl, or its folder.", rich_help_panel=RUN),
    ] = None,
    where: WhereOption = None,
    epoch: EpochOption = None,
    transcripts: Annotated[
        bool, typer.Option("--transcripts", help="Show what was heard, too.", rich_help_panel=RUN)
    ] = False,
    method: Annotated[
        str,
        typer.Option("--method", help="greedy; beam, over CTC's frames; attention.", rich_help_panel=RUN),
    ] = "greedy",
    beam: Annotated[int | None, typer.Option("--beam", help="Width of the beam.", rich_help_panel=RUN)] = None,
    lm: Annotated[
        Path | None,
        typer.Option("--lm", metavar="FILE", help="With --method beam: an ARPA model.", rich_help_panel=RUN),
    ] = None,
    lm_weight: Annotated[float, typer.Option("--lm-weight", help="Of the model.", rich_help_panel=RUN)] = 0.5,
    bonus: Annotated[float, typer.Option("--bonus", help="For each word.", rich_help_panel=RUN)] = 0.0,
    lexicon: Annotated[
        Path | None,
        typer.Option("--lexicon", metavar="FILE", help="With --method beam: the only words.", rich_help_panel=RUN),
    ] = None,
    ctc_weight: Annotated[
        float | None,
        typer.Option("--ctc-weight", help="With --method attention: share of CTC, from 0.", rich_help_panel=RUN),
    ] = None,
    strict: StrictOption = False,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Count substitutions, deletions and insertions: of a run on a corpus, or between two files of transcripts.

    With --ref and --hyp any system's output can be scored; the counts are those of NIST sclite.
    """
    if ref is None and hyp is None:
        if run is None or corpus is None:
            raise typer.BadParameter("give --ref and --hyp, or a RUN and --corpus")
        if any((glm, fragments_correct, optional_deletions, chars, alignments, subsets, interval, against)):
            raise BadOption(
                "an option for files of transcripts, and a run to be scored",
                got="RUN --corpus with an option of --ref and --hyp",
                wanted="--where, --epoch, --transcripts, --strict, --json",
            )
        decoding = {"method": method, "beam": beam, "lm": lm, "lm_weight": lm_weight, "bonus": bonus}
        decoding |= {"lexicon": lexicon, "ctc_weight": ctc_weight}
        _score_run(Terminal(as_json=json), run, corpus, where, epoch, strict, decoding, transcripts)
        return
    if run is not None or corpus is not None or where or epoch is not None or transcripts or strict:
        raise BadOption(
            "files of transcripts and a run cannot be scored at once",
            got="--ref or --hyp with RUN, --corpus, --where, --epoch, --transcripts or --strict",
            wanted="--ref and --hyp, or RUN and --corpus",
        )
    if ref is None or hyp is None:
        raise typer.BadParameter("--ref and --hyp belong together")
    terminal = Terminal(as_json=json)
    options: dict[str, Any] = {
        **{
            "format": format,
            "glm": glm,
            "case": case,
            "speaker": speaker,
            "within": within or (),
            "encoding": encoding,
        },
        **{"fragments_correct": fragments_correct, "optional_deletions": optional_deletions, "chars": chars},
        **{"keep_ascii": keep_ascii, "drop_hyphens": drop_hyphens, "split_hyphens": not keep_hyphens},
    }
    scores = otoscope.score_files(ref, hyp, **options)
    values = scores.as_dict()
    drawn = {"by_speaker": by_speaker, "samples": samples, "seed": seed}
    lines = []
    if interval is not None:
        found = otoscope.score_interval(scores, level=interval, **drawn)
        values["interval"] = {**found._asdict(), "by": "speaker" if by_speaker else "utterance"}
        lines.append(
            f"{_rate(scores)} {found.value:.2f} %, {100 * interval:g} % interval {found.low:.2f} to {found.high:.2f} "
            f"(bootstrap of {found.units} {'speakers' if by_speaker else 'utterances'}, {found.samples} samples)"
        )
    if against is not None:
        other = otoscope.score_files(ref, against, **options)
        compared = otoscope.compare_scores(scores, other, level=0.95 if interval is None else interval, **drawn)
        values["against"] = {
            **other.total.as_dict(),
            "difference": compared.difference._asdict(),
            "matched_pairs": compared.matched_pairs._asdict(),
            "utterances": compared.utterances,
            "left_out": compared.left_out,
        }
        lines += _compared(scores, other, against, compared)
    if subsets:
        values["subsets"] = {name: counts.as_dict() for name, counts in scores.subsets.items()}
    if alignments:
        values["alignments"] = [
            {"id": each.id, "speaker": each.speaker, "pairs": [list(pair) for pair in each.pairs]}
            for each in scores.utterances
        ]
    if json:
        terminal.show(values, "")
    else:
        _show(terminal, scores, alignments=alignments, subsets=subsets)
        for line in lines:
            terminal.show({}, line)
    _say_left_out(terminal, scores)


def _score_run(
    terminal: Terminal,
    run: Path,
    corpus: Path,
    where: str | None,
    epoch: int | None,
    strict: bool,
    decoding: dict[str, Any],
    transcripts: bool,
) -> None:
    """Recognise a corpus and count errors, in all and by speaker."""
    network = otoscope.load(run, epoch)
    chosen = read_chosen(corpus, where, None, strict, need_text=True)
    with terminal.stage("features") as progress:
        speech = otoscope.listen(chosen, network=network, strict=strict, progress=progress)
    with terminal.stage("recognising") as progress:
        scored = otoscope.score_recogniser(network, speech, decoding=decoding, progress=progress)
    speakers = {name: counts.as_dict() for name, counts in scored["speakers"].items()}
    values = {**scored["total"].as_dict(), "speakers": speakers}
    if transcripts:
        values["utterances"] = [{"id": id, "ref": ref, "hyp": hyp} for id, ref, hyp, _ in scored["utterances"]]
        if not terminal.as_json:
            for id, reference, hypothesis, _ in scored["utterances"]:
                typer.echo(f"{id}\n  ref {reference}\n  hyp {hypothesis}")
    lines = [str(scored["total"]), *(f"  {name}: {counts}" for name, counts in scored["speakers"].items())]
    terminal.show(values, "\n".join(lines))
    finish(terminal, speech.problems)


def _rate(scores: Any) -> str:
    return "CER" if scores.unit == "chars" else "WER"


def _show(terminal: Terminal, scores: Any, *, alignments: bool, subsets: bool) -> None:
    if alignments:
        for each in scores.utterances:
            terminal.show({}, _aligned(each))
    unit, rate = scores.unit, f"{_rate(scores)} %"
    headers = ["speaker", *(unit if name == "words" else name for name in COUNTS), rate]
    rows = [_row(name, counts) for name, counts in scores.speakers.items()]
    terminal.show({}, table(headers, [*rows, _row("all", scores.total)]))
    if subsets:
        if not scores.subsets:
            terminal.say("No subsets: no labels in the reference, and no recordings sw_... or en_...")
            return
        names = {name: scores.subset_names.get(name, name) for name in scores.subsets}
        by_speaker = {speaker: scores.subsets_of(speaker) for speaker in scores.speakers}
        cells = [
            [speaker, *(_cell(counts.get(name)) for name in names)]
            for speaker, counts in [*by_speaker.items(), ("all", scores.subsets)]
        ]
        terminal.show({}, "")
        terminal.show({}, table([f"{rate} ({unit})", *names.values()], cells))


def _row(name: str, counts: Any) -> list[object]:
    values = counts.as_dict()
    return [name, *(values[key] for key in COUNTS), "" if counts.words == 0 else f"{counts.wer:.1f}"]


def _cell(counts: Any) -> str:
    if counts is None:
        return ""
    return f"{'-' if counts.words == 0 else format(counts.wer, '.1f')} ({counts.words})"


def _aligned(utterance: Any) -> str:
    """The words below each other, errors in capitals, in lines that fit a terminal."""
    counts = utterance.counts
    lines = [f"{utterance.id}  C {counts.correct}  S {counts.sub}  D {counts.deletions}  I {counts.ins}"]
    block = ["", "", ""]
    for kind, said, heard in utterance.pairs:
        width = max(len(said or ""), len(heard or ""))
        # Right without a partner: an optional word that was left out, or was too much.
        absent = "" if kind == "C" else "*" * width
        words = [absent if word is None else word if kind == "C" else word.upper() for word in (said, heard)]
        if block[0] and len(block[0]) + width >= WIDTH:
            lines += _lines(block)
            block = ["", "", ""]
        for index, cell in enumerate([*words, "" if kind == "C" else kind]):
            block[index] += cell.ljust(width + 1)
    return "\n".join([*lines, *_lines(block), ""])


def _lines(block: list[str]) -> list[str]:
    lines = [f"  {name} {text}".rstrip() for name, text in zip(("ref ", "hyp ", "    "), block, strict=True)]
    return [line for line in lines if line]


def _compared(scores: Any, other: Any, against: Path, compared: Any) -> list[str]:
    difference, matched = compared.difference, compared.matched_pairs
    lines = [
        f"{_rate(scores)} of {against.name}: {other.total.wer:.2f} %; difference {difference.value:+.2f}, "
        f"{100 * difference.level:g} % interval {difference.low:+.2f} to {difference.high:+.2f}, better in "
        f"{100 * difference.better:.1f} % of {difference.samples} samples, p = {difference.p:.2g} "
        f"(paired bootstrap of {difference.units} units: Bisani and Ney 2004)",
        f"matched pairs: {matched.segments} segments, {matched.mean:+.3f} errors a segment (sd {matched.sd:.3f}), "
        f"z = {matched.z:.3f}, p = {matched.p:.2g} (Gillick and Cox 1989)",
    ]
    if compared.left_out:
        lines.append(f"{compared.left_out} utterances that only one of the two has are not compared")
    return lines


def _say_left_out(terminal: Terminal, scores: Any, most: int = 8) -> None:
    """Name what was not scored. sclite leaves out the same, so this is no failure."""
    for lines, what in ((scores.left_out, "left out"), (scores.remarks, "to be looked at")):
        if lines:
            terminal.say(f"{len(lines)} {what}:")
        for line in lines[:most]:
            terminal.say(f"  {line}")
        if len(lines) > most:
            terminal.say(f"  and {len(lines) - most} more")
