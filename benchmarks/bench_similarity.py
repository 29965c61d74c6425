"""One pass for all measures of all pairs against the loops people run: pair by pair, measure by measure.

    python benchmarks/bench_similarity.py                                         # small, some seconds
    python benchmarks/bench_similarity.py --layers 12 --width 512 --frames 20000  # the size people quote

Two networks' layers, float32, every layer of one with every layer of the other: CKA, CCA, SVCCA and PWCCA, the four
that the loops compute, and then every measure that reads sums. The loops are written after their papers: SVCCA and
PWCCA decompose both layers anew for each pair, CCA whitens both by QR, CKA forms three products for each pair in
feature space. Loops longer than `--loop-pairs` are extrapolated from that many pairs, and the output says so.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from otoscope.reduce.measures import MEASURES
from otoscope.reduce.moments import Moments
from otoscope.reduce.similarity import similarities

FOUR = ("cka", "cca", "svcca", "pwcca")
OF_SUMS = tuple(name for name, row in MEASURES.items() if not row.reads_frames)


def seconds(step: Callable[[], object]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def product_rate(dtype: torch.dtype, size: int = 2048, lasting: float = 2.0) -> float:
    """Multiply-adds, counted as two, per second in square matrix products, over some seconds.

    The best of a few short ones would be what the machine can do when nothing else runs, which a pass of half a minute
    never meets.
    """
    a = torch.randn(size, size, dtype=dtype)
    out = torch.mm(a, a)
    count, start = 0, time.perf_counter()
    while (took := time.perf_counter() - start) < lasting:
        torch.mm(a, a, out=out)
        count += 1
    return 2 * size**3 * count / took


def made_up_layers(layers: int, width: int, frames: int, seed: int) -> dict[str, torch.Tensor]:
    """Layers that share a source and have falling spectra, in float32, after ReLU."""
    random = torch.Generator().manual_seed(seed)
    source = torch.randn(frames, width // 2, generator=torch.Generator().manual_seed(0))
    mixed = {}
    for layer in range(layers):
        mixing = torch.randn(width // 2, width, generator=random) * torch.linspace(3, 0.1, width // 2)[:, None]
        own = torch.randn(frames, width, generator=random)
        mixed[f"network {seed} layer {layer}"] = torch.relu(source @ mixing / width**0.5 + 0.3 * own)
    return mixed


def loop_cka(x: np.ndarray, y: np.ndarray) -> float:
    """Kornblith et al. 2019, in feature space."""
    x, y = x - x.mean(0), y - y.mean(0)
    return float(np.linalg.norm(y.T @ x) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)))


def loop_cca(x: np.ndarray, y: np.ndarray) -> float:
    """Canonical correlations by QR of both layers."""
    x, y = (np.linalg.qr(a - a.mean(0))[0] for a in (x, y))
    return float(np.linalg.svd(x.T @ y, compute_uv=False).mean())


def loop_svcca(x: np.ndarray, y: np.ndarray) -> float:
    """Raghu et al. 2017: SVD of both layers, 99 % of the variance, then CCA."""
    kept = []
    for a in (x, y):
        u, s, _ = np.linalg.svd(a - a.mean(0), full_matrices=False)
        kept.append(u[:, : int((np.cumsum(s**2) < 0.99 * np.sum(s**2)).sum()) + 1])
    return float(np.linalg.svd(kept[0].T @ kept[1], compute_uv=False).mean())


def loop_pwcca(x: np.ndarray, y: np.ndarray) -> float:
    """Morcos et al. 2018: canonical correlations weighted by what their directions account for."""
    x, y = x - x.mean(0), y - y.mean(0)
    left, right = np.linalg.qr(x)[0], np.linalg.qr(y)[0]
    u, rho, _ = np.linalg.svd(left.T @ right)
    weights = np.abs((left @ u).T @ x).sum(1)
    return float(np.sum(weights * rho) / np.sum(weights))


LOOPS = {"cka": loop_cka, "cca": loop_cca, "svcca": loop_svcca, "pwcca": loop_pwcca}


def accumulated(
    data: dict[str, torch.Tensor], pairs: list[tuple[str, str]] | str, batch: int, precision: str, norms: bool = False
) -> Moments:
    moments = Moments(pairs=pairs, precision=precision, squared_norms=norms)
    for start in range(0, len(next(iter(data.values()))), batch):
        moments.update({name: x[start : start + batch] for name, x in data.items()})
    moments.finalize()  # The last frames are summed when something is read.
    return moments


def peak_mib() -> float:
    """Of this process alone: what getrusage says includes the process that started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def memory(layers: int, width: int, frames: int) -> None:
    """In a process of its own: all pairs of two networks' layers, batches that nobody keeps, and the reading."""
    random = torch.Generator().manual_seed(0)
    names = [f"{network} {layer}" for network in "ab" for layer in range(layers)]
    pairs = [(a, b) for a in names[:layers] for b in names[layers:]]
    moments = Moments(pairs=pairs, precision="auto")
    before = peak_mib()
    for _ in range(frames // 500):
        moments.update({name: torch.randn(500, width, generator=random) for name in names})
    similarities(moments, FOUR, pairs)
    print(f"{frames} frames: peak {peak_mib() - before:.0f} MiB over the {before:.0f} MiB of a bare process")


def four_measures(data: dict[str, torch.Tensor], pairs: list[tuple[str, str]], options: argparse.Namespace) -> None:
    """The pass and the reading in each precision, and then the loops."""
    blocks = len(pairs) + len(data)
    operations = 2 * options.frames * options.width**2 * blocks
    print(f"{len(pairs)} pairs and {len(data)} covariances, {operations / 1e9:.0f} Gflop, {options.threads} threads")
    whole = {}
    for precision, dtype in (("float64", torch.float64), ("auto", torch.float32)):
        shares, passes, readings, rates = [], [], [], []
        for _ in range(options.repeat):
            # The machine's rate moves with its other work: measured before and after each pass.
            before = product_rate(dtype)
            passes.append(seconds(lambda precision=precision: accumulated(data, pairs, options.batch, precision)))
            rates.append((before + product_rate(dtype)) / 2)
            shares.append(operations / passes[-1] / rates[-1])
        moments = accumulated(data, pairs, options.batch, precision)
        for _ in range(options.repeat):
            readings.append(seconds(lambda moments=moments: similarities(moments, FOUR, pairs)))
        one, reading = statistics.median(passes), statistics.median(readings)
        whole[precision] = one + reading
        print(f"{precision} ({moments.precision}):")
        rate = statistics.median(rates)
        print(f"  product rate {rate / 1e9:.0f} Gflop/s, floor {operations / rate:.2f} s")
        print(
            f"  accumulation {one:.2f} s, at {statistics.median(shares):.0%} of the rate (median of {options.repeat})"
        )
        part = reading / (one + reading)
        print(f"  reading {', '.join(FOUR)}: {reading:.2f} s, {part:.0%} of the whole {one + reading:.2f} s")
        found = similarities(moments, FOUR, pairs)
    timed, total, took = pairs[:: max(1, len(pairs) // options.loop_pairs)][: options.loop_pairs], 0.0, {}
    for name, loop in LOOPS.items():
        start = time.perf_counter()
        values = {(a, b): loop(data[a].numpy(), data[b].numpy()) for a, b in timed}
        took[name] = (time.perf_counter() - start) * len(pairs) / len(timed)
        total += took[name]
        apart = max(abs(values[p] - found.values[name][p]) for p in timed)
        how = f"extrapolated from {len(timed)}" if len(timed) < len(pairs) else "all timed"
        print(f"loop {name:>6}: {took[name]:8.2f} s for {len(pairs)} pairs ({how}), float32; differs by {apart:.1e}")
    for precision, time_taken in whole.items():
        print(
            f"loops {total:.1f} s, one pass in {precision} {time_taken:.2f} s: {total / time_taken:.0f} times; ", end=""
        )
        print(f"the CKA loop alone {took['cka'] / time_taken:.2f} times")


def every_measure(data: dict[str, torch.Tensor], pairs: list[tuple[str, str]], options: argparse.Namespace) -> None:
    made = []
    passing = seconds(lambda: made.append(accumulated(data, pairs, options.batch, "auto", norms=True)))
    reading = seconds(lambda: similarities(made[0], OF_SUMS, pairs))
    print(f"all of {', '.join(OF_SUMS)}: pass {passing:.2f} s, reading {reading:.2f} s ", end="")
    print(f"({reading / (passing + reading):.0%} of the whole)")


def all_with_all(data: dict[str, torch.Tensor], options: argparse.Namespace) -> None:
    """Only the upper blocks of all nodes with all nodes, against one symmetric product of that size."""
    total = options.width * len(data)
    operations = options.frames * total * (total + 1)
    rate = product_rate(torch.float64)
    took = seconds(lambda: accumulated(data, "all", options.batch, "float64"))
    print(f"all {len(data)} with all: {took:.2f} s, floor of the symmetric product {operations / rate:.2f} s, ", end="")
    print(f"{took * rate / operations:.2f} times")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=4, help="layers in each of the two networks")
    parser.add_argument("--width", type=int, default=256, help="units a layer")
    parser.add_argument("--frames", type=int, default=8000)
    parser.add_argument("--batch", type=int, default=1000, help="frames an update")
    parser.add_argument("--loop-pairs", type=int, default=4, help="pairs timed in each loop")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--memory", action="store_true", help="only measure the memory of a pass of --frames")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.memory:
        memory(options.layers, options.width, options.frames)
        return
    threadpool_limits(options.threads)  # numpy's own, in the loops
    first, second = (made_up_layers(options.layers, options.width, options.frames, seed) for seed in (1, 2))
    data, pairs = first | second, list(itertools.product(first, second))
    print(f"{options.layers} + {options.layers} layers of {options.width}, {options.frames} frames, float32: ", end="")
    four_measures(data, pairs, options)
    every_measure(data, pairs, options)
    all_with_all(data, options)
    del data, first, second
    size = ["--layers", str(options.layers), "--width", str(options.width), "--threads", str(options.threads)]
    for frames in (options.frames // 2, 5 * options.frames):
        subprocess.run([sys.executable, __file__, "--memory", "--frames", str(frames), *size], check=True)


if __name__ == "__main__":
    main()
