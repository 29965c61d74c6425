"""Gradients of single frames: every way against one backward per frame, and against this machine.

    python benchmarks/bench_cones.py                 # under half a minute on two cores
    python benchmarks/bench_cones.py --stack paper   # the GradNAP paper's full width, some minutes

Prints frames per second of every way, operations per frame as counted by torch, and how much of the rate of a plain
matrix product on this machine that makes. The rate is measured just before and after each run, because others may use
the machine. Two columns count only operations inside the cones: `in cones` forward and backward, as if every frame had
its own forward pass; `backward` the backward half alone, which is all that is left to do for a frame once its forward
pass is shared.
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
from otoscope.probe.cones import REFERENCE, FrameGradients
from otoscope.probe.layers import Survey, list_layers, match_layers
from otoscope.probe.rows import Rows, Way, make_job
from otoscope.probe.windows import Windows

WAYS = [REFERENCE, Way("window"), Way("shared")]


def adding_product(total: torch.Size, left: torch.Size, right: torch.Size, **_: object) -> int:
    """Operations of a matrix product that adds to a tensor in place, which torch's counter does not know."""
    return 2 * left[0] * left[1] * right[1]


def matrix_product_rate(size: int = 2048, repeats: int = 3) -> float:
    """Operations per second of a float32 matrix product."""
    left, right = torch.randn(2, size, size)
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        left @ right
        times.append(time.perf_counter() - begun)
    return 2 * size**3 / median(times)


def measured(call: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Median seconds of a call, and median of the matrix product's rate around it."""
    times, rates = [], [matrix_product_rate()]
    for _ in range(repeats):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
        rates.append(matrix_product_rate())
    return median(times), median(rates)


def operations_in_cones(network: Wav2Letter, survey: Survey) -> float:
    """Backward of one frame, had every layer computed just the frames of its cone. Forward is as much again."""
    cones = {str(layer): layer.cone for layer in survey}
    total = 0
    for name in network.layer_names:
        weight = network.get_submodule(name).convolution.weight
        left, right = cones[name]
        total += 2 * weight.numel() * (left + right + 1)
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stack", choices=sorted(STACKS), default="small")
    parser.add_argument("--seconds", type=float, default=12.0, help="length of the utterances")
    parser.add_argument("--frames", type=int, default=600, help="frames explained from one shared pass")
    parser.add_argument("--windows", type=int, default=84, help="frames explained from windows")
    parser.add_argument("--singles", type=int, default=6, help="frames for one backward per frame")
    parser.add_argument("--batch-frames", type=int, default=8192)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()

    torch.manual_seed(0)
    network = Wav2Letter(Wav2LetterConfig(hidden=STACKS[options.stack]))
    begun = time.perf_counter()
    survey = list_layers(network)
    surveyed = time.perf_counter() - begun
    layers = ["input", *network.layer_names]
    features = [torch.randn(round(options.seconds * 100), network.mels)]
    frames = survey.output.frames(len(features[0]))
    runner = Rows(survey, match_layers(survey, layers), Windows(survey), options.batch_frames)
    useful = operations_in_cones(network, survey)

    print(
        f"{options.stack} network, {len(layers) - 1} layers and the input, field {survey.output.field} frames, "
        f"survey {surveyed:.2f} s, {useful / 1e9:.2f} Gflop a frame backward in cones; "
        f"torch {torch.__version__}, {torch.get_num_threads()} threads"
    )
    print(
        f"{'frames':>7}{'frames/s':>10}{'speed':>8}{'Gflop/frame':>13}{'Gflop/s here':>14}{'of product':>12}"
        f"{'in cones':>10}{'backward':>10}  way"
    )
    counts = {"single": options.singles, "window": options.windows, "shared": options.frames}
    found: dict[str, float] = {}
    for way in WAYS:
        count = min(counts[way.method], frames)
        frame = torch.linspace(0, frames - 1, count).long()
        job = make_job(network, survey, features, torch.zeros_like(frame), frame, frame % len(network.symbols))

        def once(way: Way = way, job=job, count: int = count) -> None:
            for _ in runner.run(network, way, job, torch.arange(count)):
                pass

        with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: adding_product}) as counter:
            once()
        spent, rate = measured(once, options.repeats)
        per_second, operations = count / spent, counter.get_total_flops() / count
        found[str(way)] = per_second
        print(
            f"{count:7}{per_second:10.2f}{per_second / found[str(REFERENCE)]:7.1f}x{operations / 1e9:13.2f}"
            f"{rate / 1e9:14.0f}{per_second * operations / rate:12.0%}{2 * per_second * useful / rate:10.0%}"
            f"{per_second * useful / rate:10.0%}  {way}"
        )
    few = torch.linspace(0, frames - 1, 12).long()
    auto = FrameGradients(network, layers, batch_frames=options.batch_frames, survey=survey)
    for _ in auto(features, torch.zeros_like(few), few, few % len(network.symbols)):
        pass
    print("auto:", auto.reason)
    print(json.dumps({name: round(per_second, 3) for name, per_second in found.items()}))


if __name__ == "__main__":
    main()
