"""Sentences of some thousand words by espeak-ng, hard enough to tell networks apart; a part in noisy rooms.

python recipes/insights-small/corpus.py OUT [--seed 0] [--sentences 2600] [--share 1.0] [--longest 10]

Left out, they are those of `otoscope reproduce insights`.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import otoscope
from otoscope.base import BadOption, OtoscopeError
from otoscope.hear.sentences import DEV_SENTENCES, TEST_SENTENCES, make_corpus, summary
from otoscope.study.console import Terminal
from otoscope.study.insights_settings import SMALL


def main() -> None:
    """Make the corpus and say what is in it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="the corpus' folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sentences", type=int, default=SMALL.sentences, help="of the training part")
    said = "of the nouns, verbs, … of the embedded list: fewer is easier"
    parser.add_argument("--share", type=float, default=SMALL.share, help=said)
    parser.add_argument("--longest", type=int, default=SMALL.longest, help="words of the longest sentence, 4 to 10")
    options = parser.parse_args()
    if options.sentences < 100:
        got, wanted = f"--sentences {options.sentences}", "100 sentences or more"
        raise BadOption("this is no corpus to learn from", got=got, wanted=wanted)
    terminal = Terminal()
    counts = {"train": options.sentences, "dev": DEV_SENTENCES, "test": TEST_SENTENCES}
    with terminal.stage("speaking") as progress:
        manifest = make_corpus(
            options.out,
            seed=options.seed,
            counts=counts,
            share=options.share,
            longest=options.longest,
            processes=os.cpu_count() or 2,
            progress=progress,
        )
    terminal.show(None, "\n".join([str(manifest), *summary(otoscope.read_corpus(manifest))]))


if __name__ == "__main__":
    try:
        main()
    except OtoscopeError as error:
        raise SystemExit(str(error)) from None
