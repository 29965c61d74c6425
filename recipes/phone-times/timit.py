"""Train a network for TIMIT's sentences: the demonstration's goes on learning, on TIMIT and some of LibriSpeech.

No phone label is seen, transcripts only. Started again it goes on where it was.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import otoscope
from otoscope.base import OtoscopeError
from otoscope.learn.checkpoint import checkpoint_path

TRAINING, HELD_OUT = 50, 10


def main() -> None:
    """Read the options, train, say what it reaches."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("start", type=Path, help="the run from whose last epoch it starts")
    parser.add_argument("timit", type=Path, help="its manifest: all of it is trained on")
    parser.add_argument("librispeech", type=Path, help=f"its manifest: {TRAINING} are trained on, {HELD_OUT} held out")
    parser.add_argument("run", type=Path, help="the folder of the new run")
    parser.add_argument("--epochs", type=int, default=20)
    chosen = parser.parse_args()

    sentences = list(otoscope.read_corpus(chosen.timit))
    others = list(otoscope.read_corpus(chosen.librispeech))[: TRAINING + HELD_OUT]
    corpus = [u.replace(split="train") for u in sentences + others[:TRAINING]]
    corpus += [u.replace(split="test") for u in others[TRAINING:]]

    start = otoscope.load(chosen.start)
    first = checkpoint_path(chosen.run, 0)
    if not first.is_file():
        # What a run finds as its untrained network is what it starts from.
        first.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(start.checkpoint["path"], first)
    otoscope.train_recogniser(
        chosen.run,
        corpus,
        network=start.config.model_dump(),
        options={"epochs": chosen.epochs},
        on_epoch=lambda entry: print(entry, flush=True),
    )
    print("TIMIT:", otoscope.score_recogniser(otoscope.load(chosen.run), sentences)["total"])


if __name__ == "__main__":
    try:
        main()
    except OtoscopeError as error:
        sys.exit(str(error))
