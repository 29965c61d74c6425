"""Train conv-lstm with 1 to 6 convolutions, lstm and transformer on the corpus of this recipe, and score them.

python recipes/insights-small/run.py runs --corpus speech [--only lstm] [--seeds 0 1 2] [--epochs N] [--beam 8]

Started again it goes on where it was. `wer.csv` and `table.md` have the form of Table 1 of Ollerenshaw et al. 2021,
with clean speech in the place of Switchboard and noisy rooms in that of CallHome.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from otoscope.study.console import Terminal

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from series import arguments, begin, chosen, listen_to, run_series  # noqa: E402
from series_tables import Job  # noqa: E402

NETWORKS = (*(f"conv-lstm-{depth}" for depth in range(6, 0, -1)), "lstm", "transformer")
SEEDS = (0, 1, 2)
TESTS = {"clean": "split=test; condition=clean", "noisy": "split=test; condition=noisy"}


def jobs(out: Path, names: Sequence[str], seeds: Sequence[int], recipes: Path = HERE) -> list[Job]:
    """A run for each network and seed, all networks of a seed first, so that an early end leaves whole tables."""
    return [
        Job(name, recipes / f"{name}.yaml", seed, out / f"{name}-s{seed}", "split=train,dev", "split=dev", TESTS)
        for seed in seeds
        for name in names
    ]


def main() -> None:
    """Read the options, and run."""
    parser = arguments(__doc__.splitlines()[0], NETWORKS, SEEDS)
    options = parser.parse_args()
    names = chosen(options.only, NETWORKS)
    terminal = Terminal()
    run_series(
        options.out,
        jobs(options.out, names, options.seeds),
        listen_to(options.corpus, terminal),
        epochs=options.epochs,
        beam=options.beam,
        device=options.device,
        estimate=options.estimate,
        terminal=terminal,
    )


if __name__ == "__main__":
    begin(main)
