"""Train four kinds of networks on connected digits, each speaker held out in turn, and score them.

python recipes/digits-real/run.py runs --corpus digits [--only lstm] [--seeds 0] [--epochs N] [--held-out george]

Started again it goes on where it was. A row of `table.md` is of all held-out speakers together.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import otoscope
from otoscope.hear.corpus import select
from otoscope.learn.transcribe import Decoding
from otoscope.study.console import Terminal
from otoscope.study.series import chosen, run_series
from otoscope.study.series_tables import Job

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from drivers import arguments, beams, begin, listen_to  # noqa: E402

NETWORKS = ("wav2letter", "conv-lstm-2", "lstm", "transformer")
SEEDS = (0,)
BEAM = 16
"""Sentences in the search over the frames of CTC with the ten digits as the only words."""
TOP_HZ = 3800
"""Where the bands end in the networks' configurations: the recordings have no more."""


def jobs(
    out: Path,
    names: Sequence[str],
    seeds: Sequence[int],
    speakers: Sequence[str],
    *,
    epochs: int | None = None,
    recipes: Path = HERE,
) -> list[Job]:
    """A run for each network, seed and held-out speaker.

    A new speaker is scored on all recordings, each once; the speakers that taught on the takes that did not.
    """
    read = {name: otoscope.read_recipe(recipes / f"{name}.yaml") for name in names}
    fewer = {} if epochs is None else {"epochs": epochs}
    return [
        Job(
            name,
            read[name][0],
            {**read[name][1], **fewer, "seed": seed},
            out / f"{name}-s{seed}-without-{speaker}",
            "split=train",
            f"speaker={speaker}",
            {"new speaker": f"speaker={speaker}; split=once,test", "known speakers": f"speaker!={speaker}; split=test"},
        )
        for seed in seeds
        for name in names
        for speaker in speakers
    ]


def main() -> None:
    """Read the options, and run."""
    parser = arguments(__doc__.splitlines()[0], NETWORKS, SEEDS)
    parser.add_argument("--held-out", action="append", metavar="SPEAKER", help="all, one after the other, if left out")
    options = parser.parse_args()
    names = chosen(options.only, NETWORKS)
    terminal = Terminal()
    speech = listen_to(options.corpus, terminal, top_hz=TOP_HZ)
    # Of other voices nothing is heard once alone: they are learned from, and never held out.
    there = sorted({utterance.speaker or "" for utterance in select(speech.utterances, "split=once")})
    run_series(
        options.out,
        jobs(options.out, names, options.seeds, chosen(options.held_out, there), epochs=options.epochs),
        speech,
        series=jobs(options.out, NETWORKS, SEEDS, there),
        decodings=[Decoding(method="beam", beam=BEAM, lexicon=HERE / "digits.txt"), *beams(options.beam)],
        device=options.device,
        estimate=options.estimate,
        terminal=terminal,
    )


if __name__ == "__main__":
    begin(main)
