"""Figures 2, 3 and 4 of Krug et al. 2020 with networks and speech of one's own, the numbers behind what it says, and
their controls. See `reproduce_gradnap`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from otoscope.base import BadCheckpoint, BadInput, BadOption, OtoscopeError, choose
from otoscope.hear.corpus import Corpus, find_ctm, read_corpus, select
from otoscope.hear.manifest import MANIFEST, find_manifest
from otoscope.learn.checkpoint import Run, load_checkpoint, open_run
from otoscope.study.demo import Stage, quiet, spoken_corpus
from otoscope.study.gradnap_analysis import Analysis, Looking, analyse
from otoscope.study.gradnap_plates import save_plates
from otoscope.study.kept import Holes
from otoscope.study.recogniser import HELD_OUT, train_recogniser
from otoscope.study.speech import listen

EMBEDDED = "embedded"


@dataclass(frozen=True)
class Scale:
    """How large a reproduction is.

    Attributes:
        looking: how speech is looked at.
        minutes: of the embedded corpus, where no other is given; None: one must be given.
        network, training: of the networks that are trained where no run is given.
        takes: how long it takes, in words.
    """

    looking: Looking
    takes: str
    minutes: float | None = None
    network: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)


SCALES = {
    "small": Scale(
        Looking(),
        takes="from nothing, two trainings included, less than 30 minutes on 2 processors; from a run some two "
        "minutes for each minute of speech",
        minutes=31.0,
        network={"network": "wav2letter", "hidden": "narrow"},
        training={"epochs": 40, "learning_rate": 5e-4},
    ),
    "full": Scale(
        Looking(most_s=3600.0, draws=1, shuffles=1),
        takes="with the paper's 11 layers of up to 2000 units, on an hour of speech at most: eight passes over it, "
        "some hours on 2 processors",
    ),
}


@dataclass
class Reproduction:
    """What was made: files, by set of speech the analyses, and what is missing."""

    figures: list[Path] = field(default_factory=list)
    tables: list[Path] = field(default_factory=list)
    analyses: dict[str, Analysis] = field(default_factory=dict)
    holes: Holes = field(default_factory=Holes)


def reproduce_gradnap(
    out: Path | str,
    *,
    scale: str | Scale = "small",
    run: Path | str | None = None,
    other_run: Path | str | None = None,
    corpus: Path | str | None = None,
    where: str | None = None,
    ctm: Mapping[str, Path | str] | None = None,
    real: Sequence[Path | str] = (),
    seed: int = 0,
    device: str = "auto",
    stage: Stage = quiet,
    said: Callable[[str], None] = lambda words: None,
) -> Reproduction:
    """Make the figures and tables of Krug et al. 2020; goes on where an earlier call was interrupted.

    Each set of speech has figures and tables of its own, `NAME-…` in `out/figures` and `out/tables`: NAvAI against
    GradNAP of the input layer (Figure 2), action potentials and optimal inputs (Figure 3), silhouettes and trees
    (Figure 4), receptive fields, and every claim in numbers beside its controls.

    Args:
        out: the folder for everything; made when it is not there.
        scale: "small", "full", or one of one's own.
        run: a trained network; left out, one is trained in `out/run` (and a second of another seed beside it).
        other_run: a network like it from another seed, as a control.
        corpus: a manifest; left out, the embedded corpus is spoken. Where it has utterances that the run held out,
            only these are looked at.
        where: which of its utterances are looked at in place of those, such as `corpus_subset=test-clean`.
        ctm: its tiers from CTM files, `{"phone": path}`, see `read_corpus`.
        real: further manifests, each looked at as a whole with the same network.
        seed: of the corpus, the training and the controls.
        device: "cpu", "cuda", or "auto".
        stage: gives a progress callback for each stage by name.
        said: called with what a reader should know, in sentences.

    Returns:
        What was made. Whatever is missing (a run that was cut short, a recording, a group without instances) is a hole,
        named in `holes` and in the figure; the rest is made nevertheless.

    Raises:
        BadInput: a run or a CTM file that is not there.
        BadOption: an unknown scale, one that takes a run and a corpus, `other_run` without `run`, or `where` or `ctm`
            without `corpus`.
        OtoscopeError: nothing can be made at all.
    """
    plan = scale if isinstance(scale, Scale) else _known_scale(scale)
    if plan.minutes is None and (run is None or corpus is None):
        raise BadOption(
            "at this scale nothing is trained",
            got="no --run" if run is None else "no --corpus",
            wanted="--run RUN and --corpus MANIFEST, as recipes/gradnap-librispeech makes them",
        )
    if run is None and other_run is not None:
        raise BadOption(
            "a run of another seed, but no run",
            got=f"--other-run {other_run}",
            wanted="--run RUN as well",
            remedy="name the run that it is to be compared with, or leave both out: two are trained then",
        )
    for option, path in (("--run", run), ("--other-run", other_run)):
        # A mistyped path is no hole to be drawn over the figures of an earlier time.
        if path is not None and not Path(path).exists():
            raise BadInput("there is no such run", got=f"{option} {path}", wanted="a run's folder, or a checkpoint")
    if where or ctm:
        if corpus is None:
            got = f"--where {where}" if where else "--ctm"
            raise BadOption("a part or times of a corpus, but no corpus", got=got, wanted="--corpus MANIFEST as well")
        there = find_manifest(corpus)
        for tier, path in (ctm or {}).items():
            if not find_ctm(path, there).is_file():
                raise BadInput("there is no such CTM file", got=f"--ctm {tier}={path}", wanted=f"{tier}=FILE.ctm")
    out, made = Path(out), Reproduction()
    manifest = Path(corpus) if corpus is not None else _spoken(out, plan, seed, stage)
    runs: list[Path | None] = [_path(run), _path(other_run)]
    if run is None:
        runs = list(_trained(out, plan, manifest, seed, device, stage))
    networks = [
        None if path is None else _network(path, what, made.holes, device)
        for path, what in zip(runs, ("the network", "the network of another seed"), strict=True)
    ]
    main = EMBEDDED if corpus is None else _name(manifest)
    sets = {main: manifest}
    for path in map(Path, real):
        sets[_unused(_name(path), sets)] = path
    for name, path in sets.items():
        try:
            speech = _corpus(path, ctm if name == main else None, made.holes, name)
            if name == main:
                speech = select(speech, where) if where else _held_out(speech, runs[0] or path)
            if networks[0] is None:
                raise BadCheckpoint("there is no network to look into", got=str(runs[0]))
            made.analyses[name] = analyse(
                networks[0],
                networks[1],
                speech,
                plan.looking,
                out / "kept" / name,
                name=name,
                seed=seed,
                holes=made.holes,
                stage=stage,
                said=said,
            )
        except OtoscopeError as error:
            made.holes.add(f"{name}: everything", error)
            made.analyses[name] = Analysis(name, missing=str(error.problem))
        made.analyses[name].note = _note(made.holes, name)
        with stage(f"{name}: figures"):
            figures, tables = save_plates(made.analyses[name], out)
        made.figures += figures
        made.tables += tables
    return made


def gradnap_scale(name: str) -> str:
    """What a scale takes, in a sentence.

    Raises:
        BadOption: there is none of this name.
    """
    return f"Scale {name}: {_known_scale(name).takes}."


def _note(holes: Holes, name: str) -> str:
    """What is missing of the network and of the speech of a set, for its captions."""
    mine = [what for what in holes.found if what.startswith(f"{name}: ") and what.endswith(("recordings", "rows"))]
    told = [f"missing: {what.removeprefix(f'{name}: ')}" for what in mine]
    return "; ".join([holes.found[what] for what in ("the network",) if what in holes.found] + told)


def _known_scale(name: str) -> Scale:
    return SCALES[choose("scale", name, SCALES)]


def _path(path: Path | str | None) -> Path | None:
    return None if path is None else Path(path)


def _name(manifest: Path) -> str:
    """What a set of speech is called: its file, or the folder of a `manifest.jsonl`."""
    path = manifest.absolute()
    return path.parent.name if path.name == MANIFEST else path.stem


def _unused(name: str, taken: dict[str, Any]) -> str:
    return name if name not in taken else next(n for i in range(2, 99) if (n := f"{name}-{i}") not in taken)


def _spoken(out: Path, plan: Scale, seed: int, stage: Stage) -> Path:
    with stage("speaking") as progress:
        spoken_corpus(out / "corpus", {"seed": seed, "minutes": plan.minutes}, progress)
    return out / "corpus" / MANIFEST


def _trained(out: Path, plan: Scale, manifest: Path, seed: int, device: str, stage: Stage) -> tuple[Path, Path]:
    """Two runs that differ in their seeds."""
    corpus = read_corpus(manifest, strict=True)
    with stage("features") as progress:
        heard = listen(corpus, progress=progress)
    folders = out / "run", out / "run-other-seed"
    for number, folder in enumerate(folders):
        with stage(f"training {number + 1} of 2") as progress:
            train_recogniser(
                folder,
                corpus,
                network=plan.network,
                options={**plan.training, "seed": seed + number},
                speech=lambda _: heard,
                device=device,
                progress=progress,
            )
    return folders


def _network(path: Path, what: str, holes: Holes, device: str) -> nn.Module | None:
    """The network of a run's last checkpoint that can be read; what is missing of the run is a hole."""
    try:
        if not path.is_dir():
            return load_checkpoint(path).to(_device(device))
        run = open_run(path)
    except OtoscopeError as error:
        holes.add(what, error)
        return None
    planned = int(run.settings.get("train", {}).get("epochs", max(run.checkpoints)))
    for epoch in sorted(run.checkpoints, reverse=True):
        try:
            network = load_checkpoint(run.checkpoints[epoch]).to(_device(device))
        except BadCheckpoint as error:
            holes.add(f"{what}: epoch {epoch}", error)
            continue
        if epoch < planned and not _finished(run, epoch):
            why = "checkpoints are missing" if len(run.log) > planned else "its training was cut short"
            holes.add(what, f"{why}: epoch {epoch} of {planned} is looked at")
        return network
    holes.add(what, "none of its checkpoints can be read")
    return None


def _finished(run: Run, epoch: int) -> bool:
    """Whether training ended by itself before its last epoch, for it no longer got better."""
    return run.settings.get("train", {}).get("patience") is not None and max(run.checkpoints) == epoch


def _device(name: str) -> str:
    return name if name != "auto" else "cuda" if torch.cuda.is_available() else "cpu"


def _corpus(path: Path, ctm: Mapping[str, Path | str] | None, holes: Holes, name: str) -> Corpus:
    """The speech of a set; rows that cannot be used are a hole."""
    corpus = read_corpus(path, need_text=False, ctm=ctm)
    if corpus.problems:
        rows = len(corpus) + len(corpus.problems)
        holes.add(f"{name}: {len(corpus.problems)} of {rows} rows", "; ".join(map(str, corpus.problems[:3])))
    return Corpus(corpus.utterances)


def _held_out(corpus: Corpus, run: Path) -> Corpus:
    """What the run held out, if it has any of that; else everything."""
    condition = HELD_OUT
    with contextlib.suppress(OtoscopeError):  # no run, which is a hole already, or a checkpoint alone
        condition = open_run(run).settings.get("corpus", {}).get("held_out", HELD_OUT)
    try:
        return select(corpus, condition)
    except BadOption:
        return corpus
