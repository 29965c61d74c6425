"""Running sums against this machine's matrix-product rate, and one pass for all pairs against loops over pairs.

    python benchmarks/bench_moments.py                                         # small, some seconds
    python benchmarks/bench_moments.py --layers 12 --width 512 --frames 20000  # the size people quote

Two networks' layers, float32, every layer of one with every layer of the other. The loops are written after the papers:
SVCCA and CCA decompose both layers anew for each pair, CKA forms three products for each pair in feature space. Loops
longer than `--loop-pairs` are extrapolated from that many pairs, and the output says so.
"""

from __future__ import annotations

import argparse
import itertools
import resource
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from otoscope.reduce.moments import Moments
from otoscope.reduce.similarity import similarities


def seconds(step: Callable[[], object]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def product_rate(size: int = 1536) -> float:
    """Multiply-adds, counted as two, per second in a float64 matrix product: the best of five."""
    a = torch.randn(size, size, dtype=torch.float64)
    out = torch.empty_like(a)
    return 2 * size**3 / min(seconds(lambda: torch.mm(a, a, out=out)) for _ in range(5))


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


LOOPS = {"cka": loop_cka, "cca": loop_cca, "svcca": loop_svcca}


def accumulated(data: dict[str, torch.Tensor], pairs: list[tuple[str, str]], batch: int) -> Moments:
    moments = Moments(pairs=pairs)
    for start in range(0, len(next(iter(data.values()))), batch):
        moments.update({name: x[start : start + batch] for name, x in data.items()})
    moments.mean(moments.nodes[0])  # The last frames are summed when something is read.
    return moments


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory(width: int, batches: int) -> float:
    """The peak of this process after that many batches that nobody keeps."""
    moments = Moments()
    random = torch.Generator().manual_seed(0)
    for _ in range(batches):
        moments.update({f"layer {i}": torch.randn(500, width, generator=random) for i in range(4)})
    return peak_mib()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=4, help="layers in each of the two networks")
    parser.add_argument("--width", type=int, default=256, help="units a layer")
    parser.add_argument("--frames", type=int, default=8000)
    parser.add_argument("--batch", type=int, default=900, help="frames an update")
    parser.add_argument("--loop-pairs", type=int, default=4, help="pairs timed in each loop")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    threadpool_limits(options.threads)  # numpy's own, in the loops

    few = memory(options.width, 10)
    many = memory(options.width, 100)
    print(f"memory: peak {few:.0f} MiB after 10 batches of 500 frames, {many:.0f} MiB after 100")

    first, second = (made_up_layers(options.layers, options.width, options.frames, seed) for seed in (1, 2))
    data, pairs = first | second, list(itertools.product(first, second))
    operations = 2 * options.frames * options.width**2 * (len(pairs) + len(data))
    print(f"{options.layers} + {options.layers} layers of {options.width}, {options.frames} frames, float32: ", end="")
    print(f"{len(pairs)} pairs and {len(data)} covariances, {operations / 1e9:.1f} Gflop, {options.threads} threads")

    # The machine's rate moves with its other work: measured before and after each pass.
    shares, passes, readings = [], [], []
    for _ in range(options.repeat):
        before = product_rate()
        passes.append(seconds(lambda: accumulated(data, pairs, options.batch)))
        rate = (before + product_rate()) / 2
        shares.append(operations / passes[-1] / rate)
        print(f"accumulation: {passes[-1]:.2f} s, {operations / passes[-1] / 1e9:.1f} of {rate / 1e9:.1f} Gflop/s")
    moments = accumulated(data, pairs, options.batch)
    for _ in range(options.repeat):
        readings.append(seconds(lambda: similarities(moments, LOOPS)))
    one_pass, reading = statistics.median(passes), statistics.median(readings)
    print(f"accumulation at {statistics.median(shares):.0%} of the float64 matrix-product rate (median)")
    print(f"reading {', '.join(LOOPS)}: {reading:.2f} s, {reading / (one_pass + reading):.0%} of the whole")

    found = similarities(moments, LOOPS)
    timed, total = pairs[:: max(1, len(pairs) // options.loop_pairs)][: options.loop_pairs], 0.0
    for name, loop in LOOPS.items():
        start = time.perf_counter()
        values = {(a, b): loop(data[a].numpy(), data[b].numpy()) for a, b in timed}
        took = time.perf_counter() - start
        took *= len(pairs) / len(timed)
        total += took
        apart = max(abs(values[p] - found.values[name][p]) for p in timed)
        how = f"extrapolated from {len(timed)}" if len(timed) < len(pairs) else "all timed"
        print(f"loop {name:>6}: {took:7.2f} s for {len(pairs)} pairs ({how}), float32; differs by {apart:.1e} at most")
    print(
        f"all three: loops {total:.2f} s, one pass {one_pass + reading:.2f} s: {total / (one_pass + reading):.1f} times"
    )


if __name__ == "__main__":
    main()
