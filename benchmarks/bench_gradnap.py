"""GradNAPs of a whole corpus in one pass: how long, how many frames, how much memory.

    python benchmarks/bench_gradnap.py                                        # made-up speech, half a minute
    python benchmarks/bench_gradnap.py --corpus manifest.jsonl --stack paper  # real speech, the paper's full width

The network's weights are random: what it predicts does not matter to the time, and it always predicts something, so
that every frame is explained. `--repeat 10` hears the corpus ten times, which must not take more memory.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

import otoscope
from otoscope.learn.wav2letter import STACKS, Wav2Letter, Wav2LetterConfig
from otoscope.study.speech import listen


def peak_mib() -> float:
    """Of this process alone: what getrusage says includes the process that started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def made_up(seconds: float, utterances: int) -> list[otoscope.Utterance]:
    """Noise in the place of features."""
    random = torch.Generator().manual_seed(0)
    shape = (round(100 * seconds), 128)
    return [
        otoscope.Utterance(f"u{number}", features=torch.randn(shape, generator=random)) for number in range(utterances)
    ]


def said(done: int, of: int, note: str) -> None:
    print(f"{done} of {of}: {note}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stack", choices=sorted(STACKS), default="small")
    parser.add_argument("--corpus", type=Path, help="a manifest; noise if left out")
    parser.add_argument("--utterances", type=int, default=8, help="of noise")
    parser.add_argument("--seconds", type=float, default=12.0, help="length of each")
    parser.add_argument("--repeat", type=int, default=1, help="how often the speech is heard")
    options = parser.parse_args()

    torch.manual_seed(0)
    network = Wav2Letter(Wav2LetterConfig(hidden=STACKS[options.stack])).eval()
    begun = time.perf_counter()
    made = made_up(options.seconds, options.utterances)
    speech = listen(made if options.corpus is None else otoscope.read_corpus(options.corpus))
    speech = speech.among(list(range(len(speech))) * options.repeat)
    heard = time.perf_counter() - begun
    before = peak_mib()
    by = ("symbol", "phone") if "phone" in speech.utterances[0].tiers else "symbol"
    begun = time.perf_counter()
    sums = otoscope.gradnap_sums(network, speech, by=by, blank=None, progress=said)
    passed = time.perf_counter() - begun
    begun = time.perf_counter()
    profiles = sums.finalize()
    read = time.perf_counter() - begun
    frames = profiles.n
    print(
        f"{options.stack} network, {len(speech)} utterances, {speech.seconds / 60:.1f} min; torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads\n"
        f"features {heard:.1f} s; pass {passed:.1f} s over {frames} explained frames, {frames / passed:.0f} frames/s; "
        f"reading {read:.1f} s\n"
        f"{profiles.settings['gradients']}\n"
        f"peak {peak_mib() - before:.0f} MiB over the {before:.0f} MiB with the features read"
    )


if __name__ == "__main__":
    main()
