"""`otoscope profile` and `optimal`: what sounds look like to neurons, and what these would like to hear."""

from __future__ import annotations

import fnmatch
from pathlib import Path
from typing import Annotated, Any

import typer

import otoscope
from otoscope.base import BadOption
from otoscope.commands.options import (
    CorpusOption,
    CtmOption,
    EpochOption,
    JsonOption,
    LayersOption,
    LexiconOption,
    OutOption,
    RunArgument,
    SeedOption,
    StrictOption,
    WhereOption,
    finish,
    pronouncing,
    read_chosen,
)
from otoscope.study.console import Terminal, table
from otoscope.study.summaries import optimal_summary, profile_summary


def profile(
    run: RunArgument,
    corpus: CorpusOption,
    by: Annotated[
        list[str] | None,
        typer.Option(
            "--by",
            help="symbol, phone, a class of phones (manner, place, voicing, height, backness), speaker, a tier or "
            "attribute, reference-grapheme or reference-phone (what a prediction stands for in the transcript), or a "
            "condition such as 'phone=AE & gender=f'; repeatable. Left out: symbol and phone.",
        ),
    ] = None,
    layers: LayersOption = None,
    preset: Annotated[
        str, typer.Option("--preset", help="krug2020 (GradNAP), or its forerunners navai and nap.")
    ] = "krug2020",
    instances: Annotated[
        str, typer.Option("--instances", help="every frame of a prediction, or the peak of each emission.")
    ] = "every",
    controls: Annotated[
        bool,
        typer.Option(
            "--controls",
            help="Also random weights from the top down, shuffled labels, split halves, and random networks: some "
            "forty passes.",
        ),
    ] = False,
    training: Annotated[
        bool,
        typer.Option("--through-training", help="Also at every checkpoint: when profiles appear, when they settle."),
    ] = False,
    seed: SeedOption = 0,
    ctm: CtmOption = None,
    lexicon: LexiconOption = None,
    where: WhereOption = None,
    epoch: EpochOption = None,
    out: OutOption = None,
    strict: StrictOption = False,
    json: JsonOption = False,
) -> None:
    """GradNAPs: what letters, phones or speakers look like to every layer, and which neurons answer to them."""
    if training and lexicon:
        raise BadOption("profiles through training read words by their letters", got="--lexicon", wanted="one of them")
    terminal = Terminal(as_json=json)
    network = otoscope.load(run, epoch)
    chosen = read_chosen(corpus, where, ctm, strict)
    with terminal.stage("features") as progress:
        speech = otoscope.listen(chosen, network=network, strict=strict, progress=progress)
    asked: dict[str, Any] = {"layers": layers or "*", "preset": preset, "instances": instances, "strict": strict}
    asked |= {"by": tuple(by)} if by else {}
    # Profiles through training read words by their letters.
    said = {"pronounce": pronouncing(terminal, lexicon, chosen)} if "reference-phone" in " ".join(by or ()) else {}
    with terminal.stage("profiles") as progress:
        profiles = otoscope.gradnap(network, speech, progress=progress, **asked, **said)
    folder = out or (run if run.is_dir() else run.parent) / "report"
    paths = otoscope.save_profiles(profiles, folder)
    if controls:
        paths += _control(terminal, otoscope.explained(network, speech, **asked, **said), folder, seed)
    if training:
        with terminal.stage("training") as progress:
            kept = folder / "gradnap-training"
            course = otoscope.gradnap_through_training(run, speech, folder=kept, seed=seed, progress=progress, **asked)
        paths += otoscope.save_table(course, folder, "gradnap-training")
    counts = profiles.instances.max("layer")
    terminal.show(
        {
            "groups": {str(group): int(counts.sel(group=group)) for group in profiles.groups},
            "settings": profiles.settings,
            "notes": list(profiles.notes),
            "files": [str(path) for path in paths],
        },
        table(*profile_summary(profiles)),
    )
    terminal.say(f"{profiles!r}\n{profiles.settings['gradients']}")
    for note in profiles.notes:
        terminal.say(note)
    terminal.say(", ".join(map(str, paths)))
    finish(terminal, speech.problems)


def _control(terminal: Terminal, task: Any, folder: Path, seed: int) -> list[Path]:
    """Every control, its table and what it says."""
    paths: list[Path] = []
    for words, name, control in (
        ("random weights", "random-weights", otoscope.cascade),
        ("shuffled labels", "shuffled-labels", otoscope.shuffled_labels),
        ("split halves", "split-half", otoscope.split_half),
        ("random networks", "random-silhouettes", otoscope.random_silhouettes),
    ):
        with terminal.stage(words) as progress:
            found = control(task, seed=seed, progress=progress)
        paths += otoscope.save_table(found, folder, name)
        for note in str(found.attrs.get("notes", "")).splitlines():
            terminal.say(note)
    return paths


def optimal(
    run: RunArgument,
    groups: Annotated[
        list[str] | None,
        typer.Option("--group", help="The neurons most responsive to this group of the run's profiles: phone:AE."),
    ] = None,
    units: Annotated[
        list[int] | None, typer.Option("--unit", help="These neurons instead, together; repeatable.")
    ] = None,
    layers: LayersOption = None,
    profiles: Annotated[
        Path | None, typer.Option("--profiles", help="gradnap.nc; that in the run's report folder if left out.")
    ] = None,
    k: Annotated[int, typer.Option("--k", help="Neurons of a group in a layer.")] = 5,
    preset: Annotated[
        str,
        typer.Option(
            "--preset", help="recommended: penalties measured against the gradient; krug2020: the paper's numbers."
        ),
    ] = "recommended",
    frames: Annotated[
        int | None, typer.Option("--frames", help="Of the input; needed for recurrent and attention layers.")
    ] = None,
    sounds: Annotated[bool, typer.Option("--sound/--no-sound", help="Write WAV files to listen to.")] = True,
    seed: SeedOption = 0,
    epoch: EpochOption = None,
    out: OutOption = None,
    json: JsonOption = False,
) -> None:
    """Optimal inputs: spectrograms, and sounds, that excite some neurons as strongly as they can."""
    terminal = Terminal(as_json=json)
    if bool(groups) == bool(units):
        raise BadOption(
            "say whose optimal inputs to look for", got="both" if groups else "neither", wanted="--group or --unit"
        )
    network = otoscope.load(run, epoch)
    folder = out or (run if run.is_dir() else run.parent) / "report"
    options: dict[str, Any] = {"preset": preset, "frames": frames, "seed": seed}
    with terminal.stage("optimal inputs") as progress:
        if groups:
            made = otoscope.Profiles.load(profiles or folder / "gradnap.nc")
            found = otoscope.optimal_inputs_of_groups(
                network, made, groups, layers or "*", k, progress=progress, **options
            )
        else:
            named = [
                str(layer)
                for layer in otoscope.list_layers(network)
                if layer.own and layer != "input" and any(fnmatch.fnmatchcase(layer, each) for each in layers or ["*"])
            ]
            if not named:
                raise BadOption("no layer has these neurons", got=str(layers), wanted="names as of otoscope layers")
            found = {
                name: otoscope.optimal_inputs(network, name, units, progress=progress, **options) for name in named
            }
        paths = otoscope.save_optimal_inputs(found, folder, sounds=sounds)
    summary = optimal_summary(found)
    terminal.show({"rows": [dict(zip(summary[0], row, strict=True)) for row in summary[1]]}, table(*summary))
    for note in dict.fromkeys(
        line for each in found.values() for line in str(each.attrs.get("notes", "")).splitlines()
    ):
        terminal.say(note)
    terminal.say(", ".join(map(str, paths)))
