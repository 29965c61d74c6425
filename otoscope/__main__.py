"""The command line. Every command is thin: it reads options, calls one function of the package, shows the result."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

# Threads that wait for each other sleep instead of spinning: on a machine that others use, or that lends a share of its
# processors, spinning takes the time that the thread waited for would need, and training took ten times as long.
# Read once, when torch is loaded, which is later.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import typer

import otoscope
from otoscope.base import OtoscopeError
from otoscope.study.console import Terminal, table
from otoscope.study.summaries import layer_summary, network_summary, profile_summary, training_summary, training_words

app = typer.Typer(
    name="otoscope",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Look inside networks that listen.\n\nStart with [bold]otoscope demo[/bold]: it speaks a corpus, trains a "
    "recogniser on it and writes a page about what its layers learned. Then bring your own: import a corpus, train on "
    "it, compare, profile, report.",
    rich_markup_mode="rich",
)
corpus_app = typer.Typer(no_args_is_help=True, help="Make, import and check corpora (JSONL manifests).")
app.add_typer(corpus_app, name="corpus")

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder (or, for one network, a checkpoint).")]
CorpusOption = Annotated[
    Path, typer.Option("--corpus", metavar="MANIFEST", help="manifest.jsonl, or the folder that holds it.")
]
WhereOption = Annotated[
    str | None, typer.Option("--where", help="Only these utterances: split=test, speaker=a,b, gender!=f, age<12.")
]
CtmOption = Annotated[list[str] | None, typer.Option("--ctm", help="A tier from a CTM file: phone=FILE.")]
LayersOption = Annotated[
    list[str] | None, typer.Option("--layers", help="Layer names or globs; all of the network's own when left out.")
]
OutOption = Annotated[Path | None, typer.Option("--out", help="Where results go; the run's report folder if left out.")]
StrictOption = Annotated[bool, typer.Option("--strict", help="Stop at the first recording that cannot be used.")]
JsonOption = Annotated[bool, typer.Option("--json", help="The result as JSON on standard output.")]
SeedOption = Annotated[int, typer.Option("--seed", help="The same seed gives the same result.")]
EpochOption = Annotated[int | None, typer.Option("--epoch", help="Which checkpoint of the run; the last if left out.")]


def _read(manifest: Path, where: str | None, ctm: list[str] | None, strict: bool, *, need_text: bool = False) -> Any:
    """The chosen utterances; their `.problems` are the manifest's."""
    tiers = {}
    for entry in ctm or []:
        tier, sign, path = entry.partition("=")
        if not sign or not tier or not path:
            raise OtoscopeError("a CTM file needs a tier's name", got=entry, wanted="phone=FILE")
        tiers[tier] = path
    corpus = otoscope.read_corpus(manifest, strict=strict, need_text=need_text, ctm=tiers)
    chosen = otoscope.select(corpus, where) if where else corpus
    if not len(chosen):
        raise OtoscopeError("no utterance is left", got=f"--where {where}", wanted="a condition that some fulfil")
    return chosen


def _finish(terminal: Terminal, problems: list[Any]) -> None:
    """Name what was left out; the exit status then is 1."""
    if not problems:
        return
    terminal.say(f"{len(problems)} left out:")
    for problem in problems:
        terminal.say(f"  {problem}")
    raise typer.Exit(1)


@app.command()
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


@corpus_app.command("speak")
def corpus_speak(
    out: Annotated[Path, typer.Option("--out", help="The corpus' folder.")],
    seed: SeedOption = 0,
    minutes: Annotated[float, typer.Option("--minutes", help="At least so much speech.")] = 31.0,
    words: Annotated[
        Path | None, typer.Option("--words", help="A file of words; the built-in 374 if left out.")
    ] = None,
) -> None:
    """Speak a corpus with espeak-ng: twenty voices, exact phone and word times, the same bits for the same seed."""
    terminal = Terminal()
    chosen = None
    if words is not None:
        try:
            chosen = words.read_text(encoding="utf-8").split()
        except (OSError, UnicodeDecodeError) as error:
            raise OtoscopeError(
                "the words cannot be read", got=f"{words}: {error}", wanted="a UTF-8 text file"
            ) from error
    with terminal.stage("speaking") as progress:
        manifest = otoscope.speak_corpus(
            out, seed=seed, minutes=minutes, words=chosen, processes=os.cpu_count() or 2, progress=progress
        )
    terminal.show(None, str(manifest))


@corpus_app.command("import")
def corpus_import(
    folder: Annotated[Path, typer.Argument(help="LibriSpeech, TIMIT or Kaldi folder, or a CSV/TSV table.")],
    out: Annotated[Path, typer.Option("--out", help="The manifest to write.")],
    format: Annotated[
        str | None, typer.Option("--format", help="librispeech, timit, kaldi or csv; guessed when left out.")
    ] = None,
    strict: StrictOption = False,
) -> None:
    """Turn a corpus in another layout into a manifest. Recordings stay where they are."""
    terminal = Terminal()
    corpus = otoscope.import_corpus(folder, format, strict=strict)
    otoscope.write_manifest(corpus, out)
    terminal.show(None, f"{out}: {len(corpus)} utterances")
    _finish(terminal, list(corpus.problems))


@corpus_app.command("validate")
def corpus_validate(
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST", help="manifest.jsonl, or its folder.")],
    decode: Annotated[bool, typer.Option("--decode", help="Read every sample too, not only the headers.")] = False,
    json: JsonOption = False,
) -> None:
    """Check every row and recording of a manifest: what is wrong, by name, and the totals."""
    terminal = Terminal(as_json=json)
    with terminal.stage("checking") as progress:
        report = otoscope.validate(manifest, decode=decode, progress=progress)
    terminal.show(report.as_dict(), str(report))
    if not report.ok:
        raise typer.Exit(1)


@app.command()
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
    chosen = _read(corpus, where, None, strict, need_text=True)
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
    _finish(terminal, heard[0].problems if heard else chosen.problems)


@app.command()
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
    chosen = _read(corpus, where, None, strict, need_text=True)
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
    _finish(terminal, speech.problems)


@app.command()
def layers(run: RunArgument, epoch: EpochOption = None, json: JsonOption = False) -> None:
    """List the layers of a network: width, stride, receptive field. These names go into --layers."""
    terminal = Terminal(as_json=json)
    facts = [layer.facts() for layer in otoscope.list_layers(otoscope.load(run, epoch))]
    terminal.show(facts, table(*layer_summary(facts)))


@app.command()
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
    chosen = _read(corpus, where, ctm, strict)
    with terminal.stage("features") as progress:
        speech = otoscope.listen(chosen, mels=getattr(network, "mels", 128), strict=strict, progress=progress)
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
    _finish(terminal, speech.problems)


@app.command()
def profile(
    run: RunArgument,
    corpus: CorpusOption,
    by: Annotated[
        list[str] | None,
        typer.Option(
            "--by", help="symbol, phone, speaker, a tier or attribute; repeatable. Left out: symbol and phone."
        ),
    ] = None,
    layers: LayersOption = None,
    ctm: CtmOption = None,
    where: WhereOption = None,
    epoch: EpochOption = None,
    out: OutOption = None,
    strict: StrictOption = False,
    json: JsonOption = False,
) -> None:
    """GradNAPs: what letters, phones or speakers look like to every layer, and which neurons answer to them."""
    terminal = Terminal(as_json=json)
    network = otoscope.load(run, epoch)
    chosen = _read(corpus, where, ctm, strict)
    with terminal.stage("features") as progress:
        speech = otoscope.listen(chosen, mels=network.mels, strict=strict, progress=progress)
    with terminal.stage("profiles") as progress:
        groupings = {"by": tuple(by)} if by else {}
        profiles = otoscope.gradnap(network, speech, layers or "*", progress=progress, **groupings)
    folder = out or (run if run.is_dir() else run.parent) / "report"
    paths = otoscope.save_profiles(profiles, folder)
    counts = profiles.instances.max("layer")
    terminal.show(
        {
            "groups": {str(group): int(counts.sel(group=group)) for group in profiles.groups},
            "settings": profiles.settings,
            "files": [str(path) for path in paths],
        },
        table(*profile_summary(profiles)),
    )
    terminal.say(f"{profiles!r}\n{profiles.settings['gradients']}\n{', '.join(str(path) for path in paths)}")
    _finish(terminal, speech.problems)


@app.command()
def report(run: RunArgument, out: OutOption = None) -> None:
    """Write the page about a run from what `compare` and `profile` have left in its report folder."""
    page = otoscope.write_report(run, out, title=f"What the layers of {run.resolve().name} learned")
    Terminal().show(None, f"Page: {page.resolve()}")


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    """Whatever goes wrong ends in a message and an exit status, never in a traceback."""
    try:
        yield
    except OtoscopeError as error:
        typer.echo(f"otoscope: {error}", err=True)
        sys.exit(1)
    except SystemExit as end:
        # Typer turns an interruption into this status, and says nothing.
        if end.code == 130:
            typer.echo("otoscope: interrupted; started again, the command goes on where it was", err=True)
        raise
    except OSError as error:
        typer.echo(f"otoscope: {error.strerror or error}: {error.filename or 'a file'}", err=True)
        sys.exit(1)
    except Exception as error:
        # Not one of ours, so a fault of otoscope's: said in a line, with the way to the traceback for a report.
        if os.environ.get("OTOSCOPE_DEBUG"):
            raise
        typer.echo(f"otoscope: a fault of otoscope's own: {type(error).__name__}: {error}", err=True)
        typer.echo("  try:    OTOSCOPE_DEBUG=1 shows where; please report it with the command", err=True)
        sys.exit(1)


def main() -> None:
    """Run the command line."""
    with _plain_errors():
        app()


if __name__ == "__main__":
    main()
