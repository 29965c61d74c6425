"""What the drivers of the recipes share: their options, the features of a corpus, and how they end."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import otoscope
from otoscope.base import OtoscopeError
from otoscope.hear.audio import TOP_HZ
from otoscope.learn.transcribe import Decoding
from otoscope.study.console import Terminal
from otoscope.study.speech import Speech


def arguments(description: str, names: Sequence[str], seeds: Sequence[int]) -> argparse.ArgumentParser:
    """The options that all drivers have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("out", type=Path, help="where the runs and the tables go")
    parser.add_argument("--corpus", type=Path, required=True, help="its manifest, or the folder of it")
    parser.add_argument("--only", action="append", metavar="NAME", help=f"one of {', '.join(names)}; may be repeated")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(seeds))
    parser.add_argument("--epochs", type=int, help="in place of those of the settings")
    parser.add_argument("--beam", type=int, help="score attention decoders with a beam of this width, too")
    parser.add_argument("--device", default="auto", help="cpu, cuda, or auto: a GPU where there is one")
    parser.add_argument("--estimate", action="store_true", help="say how long it takes, and stop")
    return parser


def beams(width: int | None) -> list[Decoding]:
    """How attention decoders are scored besides: with a beam of so many sentences, if any."""
    return [] if width is None else [Decoding(method="attention", beam=width)]


def listen_to(corpus: Path, terminal: Terminal, *, top_hz: float = TOP_HZ) -> Speech:
    """The features of a whole corpus, once for all networks: mel bands from 0 to `top_hz` Hz."""
    with terminal.stage("features") as progress:
        return otoscope.listen(otoscope.read_corpus(corpus), top_hz=top_hz, progress=progress)


def begin(main: Callable[[], None]) -> None:
    """Run a driver; what is wrong with its input is told in words."""
    try:
        main()
    except OtoscopeError as error:
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:
        raise SystemExit("stopped; the same command goes on from the last whole epoch") from None
