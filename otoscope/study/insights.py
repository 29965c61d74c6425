"""Ollerenshaw et al. 2021 again: the networks trained and scored, and the paper's table and figures with their numbers.

What is there is kept; what is missing is said, left out and marked in the figures, and the rest is done.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import xarray as xr

from otoscope.base import BadInput, OtoscopeError, choose, write_json, write_text
from otoscope.hear.corpus import Corpus, Utterance, corpus_fingerprint, read_corpus, select
from otoscope.hear.manifest import MANIFEST
from otoscope.hear.sentences import make_corpus
from otoscope.study.console import Terminal
from otoscope.study.insights_figures import draw_neighbours, draw_table, draw_training, figure_networks
from otoscope.study.insights_index import write_index
from otoscope.study.insights_numbers import (
    convergence,
    curves,
    neighbours,
    sensitivity,
    shape,
    solutions,
    wer_table,
)
from otoscope.study.insights_runs import Keeper, Usable, differing, usable
from otoscope.study.insights_settings import NETWORKS, SCALES, Settings
from otoscope.study.results import save_table
from otoscope.study.series import (
    chosen,
    logged,
    method_name,
    reckon,
    score,
    scored_words,
    train_and_score,
)
from otoscope.study.series_tables import Job, Row, done, write_tables
from otoscope.study.speech import Speech, listen

# Processor seconds that the analysis takes for each checkpoint and minute of speech, measured on the small networks.
ANALYSIS_S = 1.0
# And that speaking a sentence takes.
SPEAKING_S = 0.04


@dataclass
class Reproduction:
    """What came of it: the folder of results, and what was missing (a line each)."""

    out: Path
    rows: list[Row] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def reproduce_insights(
    out: Path,
    *,
    scale: str = "small",
    corpus: Sequence[Path] = (),
    runs: Path | None = None,
    seeds: Sequence[int] | None = None,
    only: Sequence[str] | None = None,
    epochs: int | None = None,
    train: bool = True,
    estimate: bool = False,
    device: str = "auto",
    settings: Settings | None = None,
    command: str = "",
    terminal: Terminal,
) -> Reproduction:
    """Table 1 and Figures 1 to 4 of Ollerenshaw et al. 2021, with the numbers that its claims need, in `out`.

    Args:
        out: where results go.
        scale: "small", on the embedded corpus, or "full", on the user's.
        corpus: manifests; small, one is spoken into `out/corpus` where none is given.
        runs: where the runs lie or go, `<network>-s<seed>` each; `out/runs` if left out.
        seeds, only, epochs: fewer or others than the scale's.
        train: train what is not trained yet; otherwise only the runs that are there are looked at, as they were made.
        estimate: say how long it takes, and stop.
        settings: in place of those of the scale.
        command: how it was called, for the index.

    Raises:
        BadInput: no corpus at full scale, no usable speech. BadOption: an unknown scale or network.
    """
    settings = settings or SCALES[choose("scale", scale, SCALES)]
    names = chosen(only, NETWORKS)
    wanted = list(settings.seeds if seeds is None else dict.fromkeys(seeds))
    out.mkdir(parents=True, exist_ok=True)
    say = logged(out, terminal)
    result = Reproduction(out)
    if not corpus and settings.sentences is None:
        remedy = "prepare yours as recipes/insights-switchboard says, and give train.jsonl and hub5.jsonl"
        raise BadInput("this scale needs a corpus", got="none", wanted="--corpus MANIFEST", remedy=remedy)
    utterances = _corpus(corpus, settings, out, terminal)
    result.problems += [f"corpus: {problem}" for problem in utterances.problems]
    with terminal.stage("features") as progress:
        speech = listen(utterances, top_hz=settings.top_hz, progress=progress) if settings.in_memory else None
        heard = _analysed(speech or utterances, settings)
    left_out = (speech.problems if speech else heard.problems)[len(utterances.problems) if speech else 0 :]
    result.problems += [f"recording: {problem}" for problem in left_out]
    source = speech or utterances
    jobs = settings.jobs(runs or out / "runs", names, wanted, epochs)
    keeper = Keeper(out / "analysis", heard, say)
    _foretell(jobs, source, keeper, device, train, say)
    if estimate:
        return result
    scored = _train(jobs, source, settings, device, train, result, say, terminal)
    found = _usable(jobs, corpus_fingerprint(select(_utterances(source), settings.learns)), train, result)
    through, beside = _analyse(found, keeper, result, terminal)
    if scored:
        result.rows = write_tables(out, scored, method_name(settings.decoding))
        os.replace(out / "table.md", out / "table1.md")
        result.files += [out / "table1.md", out / "wer.csv"]
    _draw(result, settings, names, wanted, through, beside)
    result.files += write_index(
        out, settings, files=result.files, problems=result.problems, through=through, speech=heard, command=command
    )
    for problem in result.problems:
        say(f"missing: {problem}")
    return result


def _corpus(given: Sequence[Path], settings: Settings, out: Path, terminal: Terminal) -> Corpus:
    """The manifests that were given as one corpus, or the embedded one, spoken if it is not there."""
    if given:
        read = [read_corpus(path) for path in given]
        return Corpus([u for each in read for u in each], [p for each in read for p in each.problems])
    folder = out / "corpus"
    note = folder / "settings.json"
    wanted = {"counts": settings.counts(), "share": settings.share, "longest": settings.longest, "seed": 0}
    if (folder / MANIFEST).is_file() and note.is_file():
        there = json.loads(note.read_text(encoding="utf-8"))
        if there != wanted:
            raise BadInput(
                f"{folder} holds a corpus of other settings", got=there, wanted=wanted,
                remedy="name another folder with --out, or give this corpus with --corpus",
            )  # fmt: skip
        return read_corpus(folder / MANIFEST)
    minutes = SPEAKING_S * sum(settings.counts().values()) / 60
    terminal.say(
        f"there is no corpus yet: about {minutes:.0f} min to speak it; how long the rest takes is reckoned on it"
    )
    with terminal.stage("speaking") as progress:
        make_corpus(
            folder, counts=settings.counts(), share=settings.share or 1.0, longest=settings.longest,
            processes=os.cpu_count() or 2, progress=progress,
        )  # fmt: skip
    write_json(note, wanted)
    return read_corpus(folder / MANIFEST)


def _analysed(source: Speech | Sequence[Utterance], settings: Settings) -> Speech:
    """The utterances that the analysis listens to, spread evenly over those that may be."""
    there = select(_utterances(source), settings.hears)
    step = max(1, len(there) // settings.utterances)
    few = list(there)[::step][: settings.utterances]
    if not isinstance(source, Speech):
        return listen(few, top_hz=settings.top_hz)
    ids = {utterance.id for utterance in few}
    return source.among([index for index, utterance in enumerate(source.utterances) if utterance.id in ids])


def _utterances(source: Speech | Sequence[Utterance]) -> Sequence[Utterance]:
    return source.utterances if isinstance(source, Speech) else source


def _foretell(
    jobs: Sequence[Job],
    source: Speech | Sequence[Utterance],
    keeper: Keeper,
    device: str,
    train: bool,
    say: Callable[[str], None],
) -> None:
    """Say how much is there, and how long the rest is going to take."""
    left = reckon(jobs, source, device, say) if train else 0.0
    there = [job for job in jobs if (job.folder / "run.json").is_file()]
    looked_at = sum((keeper.folder / f"{job.name}.nc").is_file() for job in jobs)
    todo = jobs if train else there
    checkpoints = sum(max(job.epochs, done(job)) + 3 for job in todo)
    seconds = ANALYSIS_S * checkpoints * keeper.speech.seconds / 60 * max(0, len(todo) - looked_at) / max(1, len(todo))
    say(
        f"there already: {sum(done(job) >= job.epochs for job in jobs)} of {len(jobs)} networks trained, {looked_at} "
        f"analysed. Left: about {left / 60:.0f} min of training and {seconds / 60:.0f} min of analysis"
    )


def _train(
    jobs: Sequence[Job],
    source: Speech | Sequence[Utterance],
    settings: Settings,
    device: str,
    train: bool,
    result: Reproduction,
    say: Callable[[str], None],
    terminal: Terminal,
) -> list[Job]:
    """Train and score what is not yet; gives the jobs that are scored. What fails is said, and the next one follows."""
    scored = []
    for number, job in enumerate(jobs, 1):
        begun = time.monotonic()
        whole = done(job) >= job.epochs
        if not train and not whole and not (job.folder / "run.json").is_file():
            continue
        try:
            with terminal.stage(f"{number}/{len(jobs)} {job.name}") as progress:
                if train and not whole:
                    rows = train_and_score(job, source, [settings.decoding], device=device, progress=progress)
                else:
                    usable(job, as_made=not train)
                    rows = score(job, source, settings.decoding, progress)
        except OtoscopeError as error:
            # What is wrong with a run that is there is said where runs are opened.
            if train and not whole:
                result.problems.append(f"{job.name}: {_line(error)}")
            continue
        scored.append(job)
        say(scored_words(job, rows, time.monotonic() - begun))
    return scored


def _usable(jobs: Sequence[Job], corpus: str, train: bool, result: Reproduction) -> dict[str, list[Usable]]:
    """Network → its runs that can be looked at; the others, and what is odd about them, are problems."""
    found: dict[str, list[Usable]] = {}
    for job in jobs:
        try:
            each = usable(job, as_made=not train)
        except OtoscopeError as error:
            line = f"{job.name}: {_line(error)}"
            if not any(problem.startswith(f"{job.name}: ") for problem in result.problems):
                result.problems.append(line)
            continue
        if each.missing:
            gone = ", ".join(map(str, each.missing))
            what = f"checkpoint of epoch {gone} is" if len(each.missing) == 1 else f"checkpoints of epochs {gone} are"
            result.problems.append(f"{job.name}: the {what} missing")
        there = each.run.settings.get("corpus", {}).get("fingerprint")
        if there != corpus:
            result.problems.append(f"{job.name}: trained on another corpus ({there}, not {corpus})")
        if train and (unlike := differing(job, each.run)):
            result.problems.append(f"{job.name}: made with other settings ({unlike})")
        found.setdefault(job.network, []).append(each)
    return found


def _analyse(
    found: dict[str, list[Usable]], keeper: Keeper, result: Reproduction, terminal: Terminal
) -> tuple[dict[str, dict[int, xr.Dataset]], dict[str, xr.Dataset]]:
    """What is needed of each run through training, and of each network's seeds side by side."""
    through: dict[str, dict[int, xr.Dataset]] = {}
    beside: dict[str, xr.Dataset] = {}
    total = sum(len(several) for several in found.values())
    number = 0
    for network, several in found.items():
        whole = []
        for each in several:
            number += 1
            with terminal.stage(f"analysis {number}/{total} {each.job.name}") as progress:
                try:
                    through.setdefault(network, {})[each.job.seed] = keeper.through(each, progress)
                except OtoscopeError as error:
                    result.problems.append(f"{each.job.name}: {_line(error)}")
                    continue
            whole.append(each)
        if not through.get(network):
            through.pop(network, None)
            continue
        with terminal.stage(f"{network}: seeds side by side") as progress:
            try:
                beside[network] = keeper.side_by_side(network, whole, progress)
            except OtoscopeError as error:
                result.problems.append(f"{network}, seeds side by side: {_line(error)}")
    return through, beside


def _draw(
    result: Reproduction,
    settings: Settings,
    names: Sequence[str],
    seeds: Sequence[int],
    through: Mapping[str, Mapping[int, xr.Dataset]],
    beside: Mapping[str, xr.Dataset],
) -> None:
    """Figures and the numbers behind them."""
    out, tables = result.out, {}
    if result.rows:
        tables["wer"] = wer_table(result.rows)
    result.files += draw_table(out, tables.get("wer"), names, seeds)
    cnns = {name: each for name, each in beside.items() if name.startswith("conv")}
    if any(name.startswith("conv") for name in names):
        facts = next((each.attrs for each in cnns.values() if "adjacent" in each), {})
        if (found := neighbours(cnns)) is not None:
            tables["figure1"] = found
        result.files += draw_neighbours(out, tables.get("figure1"), facts, names)
    for figure, network in figure_networks(settings).items():
        if network not in names:
            continue
        runs = through.get(network)
        if runs:
            tables[figure] = curves(runs, max(int(each["epoch"].values[-1]) for each in runs.values()))
        facts = next(iter(runs.values())).attrs if runs else {}
        result.files += draw_training(out, figure, network, tables.get(figure), facts, seeds)
    if through:
        tables |= {"convergence": convergence(through), "sensitivity": sensitivity(through), "shape": shape(through)}
    if (similar := solutions(beside, result.rows)) is not None:
        tables["solutions"] = similar
    for name, table in tables.items():
        keep = out / "wer.csv" if name == "wer" else None
        kept = keep.read_text(encoding="utf-8") if keep else ""
        result.files += save_table(_single(table), out, name, blanks=False)
        if keep:
            # The rows of Table 1, as series of networks write them, say more than the tidy form.
            write_text(keep, kept)
    result.files = list(dict.fromkeys(result.files))


def _single(table: xr.Dataset) -> xr.Dataset:
    """In single precision, which is more than any interval needs."""
    return table.map(lambda each: each.astype("float32") if each.dtype.kind == "f" else each, keep_attrs=True)


def _line(error: OtoscopeError) -> str:
    return error.problem + (f" ({error.got})" if error.got is not None else "")
