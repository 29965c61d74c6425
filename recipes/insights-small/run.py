"""Train conv-lstm with 1 to 6 convolutions, lstm and transformer on the embedded corpus of sentences, and score them.

python recipes/insights-small/run.py runs --corpus speech [--only lstm] [--seeds 0 1 2] [--epochs N] [--beam 8]

Started again it goes on where it was. `wer.csv` and `table.md` have the form of Table 1 of Ollerenshaw et al. 2021,
with clean speech in the place of Switchboard and noisy rooms in that of CallHome. `otoscope reproduce insights` does
the same, and draws the paper's figures.
"""

from __future__ import annotations

import sys
from pathlib import Path

from otoscope.study.console import Terminal
from otoscope.study.insights_settings import NETWORKS, SMALL
from otoscope.study.series import chosen, run_series

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from drivers import arguments, beams, begin, listen_to


def main() -> None:
    """Read the options, and run."""
    options = arguments(__doc__.splitlines()[0], NETWORKS, SMALL.seeds).parse_args()
    names = chosen(options.only, NETWORKS)
    terminal = Terminal()
    run_series(
        options.out,
        SMALL.jobs(options.out, names, options.seeds, options.epochs),
        listen_to(options.corpus, terminal),
        series=SMALL.jobs(options.out, NETWORKS, SMALL.seeds),
        decodings=beams(options.beam),
        device=options.device,
        estimate=options.estimate,
        terminal=terminal,
    )


if __name__ == "__main__":
    begin(main)
