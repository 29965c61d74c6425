"""Gradients of single frames: windows of the receptive field against one backward per frame, and against this machine.

    python benchmarks/bench_cones.py                 # under half a minute on two cores
    python benchmarks/bench_cones.py --stack paper   # the GradNAP paper's full width, some minutes

Prints frames per second of every method, operations per frame as counted by torch, and how much of the rate of a plain
matrix product on this machine that makes. `useful` counts only the operations inside the cones.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from statistics import median

import torch
from torch.utils.flop_counter import FlopCounterMode

from otoscope.learn.wav2letter import STACKS, Wav2Letter, Wav2LetterConfig
from otoscope.probe.cones import FrameGradients
from otoscope.probe.layers import Survey, list_layers


def seconds(call: Callable[[], object], repeats: int = 3) -> float:
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return median(times)


def matrix_product_rate(size: int = 2048) -> float:
    """Operations per second of a float32 matrix product."""
    left, right = torch.randn(2, size, size)
    left @ right
    return 2 * size**3 / seconds(lambda: left @ right, 5)


def operations_in_cones(network: Wav2Letter, survey: Survey) -> float:
    """Forward and backward of one frame, had every layer computed just the frames of its cone."""
    cones = {str(layer): layer.cone for layer in survey}
    total = 0
    for name in network.layer_names:
        weight = network.get_submodule(name).convolution.weight
        left, right = cones[name]
        total += 2 * 2 * weight.numel() * (left + right + 1)
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stack", choices=sorted(STACKS), default="small")
    parser.add_argument("--seconds", type=float, default=12.0, help="length of the utterances")
    parser.add_argument("--frames", type=int, default=600, help="frames for the fast methods")
    parser.add_argument("--singles", type=int, default=6, help="frames for one backward per frame")
    parser.add_argument("--batch-frames", type=int, default=8192)
    options = parser.parse_args()

    torch.manual_seed(0)
    network = Wav2Letter(Wav2LetterConfig(hidden=STACKS[options.stack]))
    begun = time.perf_counter()
    survey = list_layers(network)
    surveyed = time.perf_counter() - begun
    layers = ["input", *network.layer_names]
    features = [torch.randn(round(options.seconds * 100), network.mels)]
    frames = survey.output.frames(len(features[0]))
    rate = matrix_product_rate()

    rows = []
    for method, count in (("single", options.singles), ("window", options.frames), ("auto", options.frames)):
        gradients = FrameGradients(network, layers, method=method, batch_frames=options.batch_frames, survey=survey)
        frame = torch.linspace(0, frames - 1, count).long()
        asked = torch.zeros_like(frame), frame, frame % len(network.symbols)

        def once(gradients: FrameGradients = gradients, asked: tuple[torch.Tensor, ...] = asked) -> None:
            for _ in gradients(features, *asked):
                pass

        if method == "auto":
            once()  # the first call tests itself
        with FlopCounterMode(display=False) as counter:
            once()
        spent = seconds(once, 2)
        rows.append((method, gradients, count / spent, counter.get_total_flops() / count))

    useful = operations_in_cones(network, survey)
    print(
        f"{options.stack} network, field {survey.output.field} frames, survey {surveyed:.2f} s; "
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, float32 matrix product {rate / 1e9:.0f} Gflop/s"
    )
    print(f"{'method':10}{'frames/s':>10}{'speed':>8}{'Gflop/frame':>13}{'of product':>12}{'useful':>9}")
    for method, _, per_second, operations in rows:
        print(
            f"{method:10}{per_second:10.2f}{per_second / rows[0][2]:7.1f}x{operations / 1e9:13.2f}"
            f"{per_second * operations / rate:12.0%}{per_second * useful / rate:9.0%}"
        )
    print("auto:", rows[-1][1].reason)
    print(json.dumps({method: round(per_second, 3) for method, _, per_second, _ in rows}))


if __name__ == "__main__":
    main()
