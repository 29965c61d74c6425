"""Running first and second moments of named streams of frames: update, merge, read out.

A *node* is whatever has one vector per frame: a layer, the mel input, a one-hot label. For every node a and every
asked-for pair (a, b) the accumulator holds, in float64 on the CPU,

    n,   s_a = sum(x - c_a),   P_ab = sum((x - c_a)(y - c_b)^T)

where the shift c_a is the node's mean over its first batch, fixed from then on. Shifted sums do not cancel when
activations sit on a large offset (Chan, Golub and LeVeque 1983, "Algorithms for computing the sample variance"), and
they stay plain sums: they add up in any order, across shards, processes and machines. Memory depends on the widths and
the pairs, never on the number of frames.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from otoscope.base import BadInput, atomic_path, choose

Array: TypeAlias = Tensor | NDArray[Any]
PairName: TypeAlias = tuple[str, str]

FORMAT = 1
# Frames wait until the matrix products of a block run at full speed; 2**23 float64 numbers are 64 MiB.
BLOCK_NUMBERS, BLOCK_FRAMES = 2**23, (256, 8192)
# The squares of larger values, and above all sums of them, leave the range of float64.
LARGEST = 1e145
EPSILON = torch.finfo(torch.float64).eps


class _Strip(NamedTuple):
    """One matrix product: the columns of a left node against neighbouring columns of right nodes."""

    left: slice
    right: slice
    total: Tensor


class Moments:
    """Counts, means and covariances of named nodes, in one pass over the frames or in any split of it.

    Args:
        widths: units of each node; left out, nodes and widths are those of the first update.
        pairs: the pairs of different nodes whose cross-covariance is wanted: `"all"`, or (node, node) tuples.
            Only these are formed. A node's own covariance is always formed.

    Raises:
        BadInput: no node, a width below 1, or a pair that names an unknown node.
    """

    def __init__(self, widths: Mapping[str, int] | None = None, pairs: Literal["all"] | Iterable[PairName] = "all"):
        self._asked = _asked(pairs)
        self._frames = self._utterances = self._waiting = 0
        self._at: dict[str, slice] = {}
        self._resolution: dict[str, float] = {}
        if widths is not None:
            self._lay_out(dict(widths))

    def __repr__(self) -> str:
        numbers = f"nodes={len(self.nodes)}, pairs={len(self.pairs)}, frames={self.frames}"
        return f"Moments({numbers}, utterances={self.utterances})"

    def __getstate__(self) -> dict[str, Any]:
        # The block of waiting frames can be the largest part of a small accumulator that travels between processes.
        self._flush()
        return {name: value for name, value in self.__dict__.items() if name != "_block"}

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of the nodes, in the order of `widths` or of the first update."""
        return tuple(self._at)

    @property
    def pairs(self) -> tuple[PairName, ...]:
        """The asked-for pairs of different nodes, each once. `covariance` also knows (a, a) and the reverse of each."""
        return _resolve(self._asked, self.nodes) if self._at else ()

    @property
    def frames(self) -> int:
        """Number of frames summed so far."""
        return self._frames

    @property
    def utterances(self) -> int:
        """Number of utterances summed so far, as the callers of `update` counted them."""
        return self._utterances

    def width(self, node: str) -> int:
        """Number of units of `node`."""
        return int(self._columns(node).stop - self._columns(node).start)

    def update(self, batch: Mapping[str, Array], utterances: int = 1) -> None:
        """Add the frames of a batch.

        Args:
            batch: for every node an array `(frame, unit)` of valid frames only, on any device, of any real dtype;
                torch or numpy. All nodes have the same number of frames; none at all is allowed and adds none.
            utterances: how many utterances these frames come from.

        Raises:
            BadInput: nodes missing or unknown, frame counts that differ, a wrong width, NaN or infinite values, values
                too large to square. Nothing has been added then.
        """
        arrays = {str(node): _matrix(str(node), values) for node, values in batch.items()}
        _check_frames(arrays)
        if not self._at:
            self._lay_out({node: array.shape[1] for node, array in arrays.items()})
        self._check_nodes({node: array.shape[1] for node, array in arrays.items()}, "this batch has")
        frames = len(next(iter(arrays.values())))
        if frames and self._frames == 0:
            self._shift = torch.cat([arrays[node].to(torch.float64).mean(0) for node in self._at])
        for node, array in arrays.items():
            step = torch.finfo(array.dtype).eps if array.dtype.is_floating_point else EPSILON
            self._resolution[node] = max(self._resolution[node], step)
        start = 0
        while start < frames:
            block = self._block_with_room()
            taken = min(frames - start, len(block) - self._waiting)
            rows = slice(self._waiting, self._waiting + taken)
            for node, columns in self._at.items():
                block[rows, columns].copy_(arrays[node][start : start + taken])
            self._waiting += taken
            start += taken
        self._frames += frames
        self._utterances += int(utterances)

    def merge(self, other: Moments) -> None:
        """Add the sums of `other`, which stays as it is. Different shifts are reconciled exactly.

        Raises:
            BadInput: the two have other nodes, widths or pairs.
        """
        if other._at:
            widths = {node: other.width(node) for node in other.nodes}
            mine = _resolve(self._asked, self.nodes or other.nodes)
            if self._at:
                self._check_nodes(widths, "the sums to be added have")
            if set(map(frozenset, mine)) != set(map(frozenset, other.pairs)):
                raise BadInput("sums of different pairs do not add up", got=_names(other.pairs), wanted=_names(mine))
            if not self._at:
                self._lay_out(widths)
        other._flush()
        self._utterances += other._utterances
        if other._frames == 0:
            return
        shift = torch.cat([other._shift[other._at[node]] for node in self._at])
        total = torch.cat([other._sum[other._at[node]] for node in self._at])
        if self._frames == 0:
            self._shift = shift
        # x - c = (x - c') + d with d = c' - c, so P = P' + d s'^T + s' d^T + n d d^T.
        moved = shift - self._shift
        for a, b in self._where:
            left, right = self._at[a], self._at[b]
            product = self._product(a, b)
            product += other._product(a, b)
            product.addr_(moved[left], total[right] + other._frames * moved[right])
            product.addr_(total[left], moved[right])
        self._sum += total + other._frames * moved
        self._resolution = {node: max(step, other._resolution[node]) for node, step in self._resolution.items()}
        self._frames += other._frames

    def mean(self, node: str) -> Tensor:
        """Mean over frames, `(unit,)`, float64. Raises `BadInput` for an unknown node or when there are no frames."""
        return self._from_shift(node) + self._shift[self._columns(node)]

    def covariance(self, a: str, b: str) -> Tensor:
        """Sum of (x - mean)(y - mean)^T divided by n (not by n - 1): `(unit of a, unit of b)`, float64.

        Raises:
            BadInput: an unknown node, a pair that was not asked for, or no frames.
        """
        means = self._from_shift(a), self._from_shift(b)
        return (self._product(a, b) / self._frames).addr_(*means, alpha=-1)

    def rounding(self, node: str) -> Tensor:
        """Variance per unit, `(unit,)`, that rounding alone can make: a unit with no more than this is constant.

        It is the rounding of the input (uniform over a spacing of eps |x|, so eps^2 x^2 / 12, for the coarsest dtype
        that came in) and the cancellation between shift and mean.
        """
        variance = self.covariance(node, node).diagonal().clamp(min=0)
        cancelled = EPSILON * (variance + self._from_shift(node) ** 2)
        return self._resolution[node] ** 2 / 12 * (variance + self.mean(node) ** 2) + cancelled

    def save(self, path: Path | str) -> None:
        """Write everything to one safetensors file (JSON in its header), in one step. `load` gives the same sums."""
        self._flush()
        tensors = {"counts": torch.tensor([self._frames, self._utterances], dtype=torch.int64)}
        header = {
            "format": FORMAT,
            "widths": [(node, self.width(node)) for node in self.nodes],
            "pairs": self._asked,
            "resolution": self._resolution,
        }
        if self._at:
            tensors["sum"] = self._sum
            tensors |= {f"product.{index}": strip.total for index, strip in enumerate(self._strips)}
        if self._frames:
            tensors["shift"] = self._shift
        with atomic_path(Path(path)) as temporary:
            safetensors.torch.save_file(tensors, str(temporary), metadata={"otoscope.moments": json.dumps(header)})

    @classmethod
    def load(cls, path: Path | str) -> Moments:
        """Read what `save` wrote. Raises `BadInput` if the file is missing, cut short or something else."""
        problem, wanted = f"could not read running sums from {path}", f"a file by Moments.save, format {FORMAT}"
        try:
            with safetensors.safe_open(str(path), framework="pt") as file:
                header = json.loads((file.metadata() or {}).get("otoscope.moments", "{}"))
            tensors = safetensors.torch.load_file(str(path))
        except (OSError, safetensors.SafetensorError) as error:
            raise BadInput(problem, got=str(error), wanted=wanted) from error
        if header.get("format") != FORMAT:
            raise BadInput(problem, got=f"format {header.get('format', 'unknown')}", wanted=wanted)
        pairs = header["pairs"] if header["pairs"] == "all" else [(a, b) for a, b in header["pairs"]]
        moments = cls(dict(header["widths"]) or None, pairs)
        moments._resolution = header["resolution"]
        moments._frames, moments._utterances = map(int, tensors["counts"])
        if moments._at:
            moments._sum = tensors["sum"]
            moments._strips = [s._replace(total=tensors[f"product.{i}"]) for i, s in enumerate(moments._strips)]
        if moments._frames:
            moments._shift = tensors["shift"]
        return moments

    def _lay_out(self, widths: dict[str, int]) -> None:
        """Give every node its columns and every left node its products; neighbours on the right share one product."""
        names, end, at = tuple(widths), 0, {}
        for node, width in widths.items():
            if width < 1:
                raise BadInput(f"node {node!r} has no units", got=f"width {width}", wanted="a width of at least 1")
            at[node] = slice(end, end + width)
            end += width
        if not names:
            raise BadInput("there are no nodes", got="an empty mapping", wanted="at least one node: (frame, unit)")
        rights: dict[str, set[str]] = {node: {node} for node in names}
        for pair in _resolve(self._asked, names):
            low, high = sorted(pair, key=names.index)
            rights[low].add(high)
        self._at = at
        self._resolution = dict.fromkeys(names, 0.0)
        self._sum: Tensor = torch.zeros(end, dtype=torch.float64)
        self._strips: list[_Strip] = []
        self._where: dict[PairName, int] = {}
        for low, members in rights.items():
            for run in _runs([node in members for node in names]):
                right = slice(at[names[run.start]].start, at[names[run.stop - 1]].stop)
                self._where |= {(low, high): len(self._strips) for high in names[run]}
                total = torch.zeros(widths[low], right.stop - right.start, dtype=torch.float64)
                self._strips.append(_Strip(at[low], right, total))

    def _block_with_room(self) -> Tensor:
        if "_block" not in self.__dict__:
            least, most = BLOCK_FRAMES
            frames = min(max(BLOCK_NUMBERS // len(self._sum), least), most)
            self._block = torch.empty(frames, len(self._sum), dtype=torch.float64)
        if self._waiting == len(self._block):
            self._flush()
        return self._block

    def _flush(self) -> None:
        """Bring the waiting frames into the sums."""
        if self._waiting:
            # Once for all nodes: many small operations cost more than they compute.
            waiting = self._block[: self._waiting].sub_(self._shift)
            for left, right, total in self._strips:
                total.addmm_(waiting[:, left].T, waiting[:, right])
            self._sum += waiting.sum(0)
            self._waiting = 0

    def _from_shift(self, node: str) -> Tensor:
        """The node's mean, measured from its shift."""
        columns = self._columns(node)
        if self._frames == 0:
            raise BadInput("there is nothing to read yet", got="0 frames", wanted="at least one update with frames")
        self._flush()
        return self._sum[columns] / self._frames

    def _product(self, a: str, b: str) -> Tensor:
        """The sum of products of a pair, a view. The waiting frames are not in it."""
        if (a, b) in self._where:
            _, right, total = self._strips[self._where[a, b]]
            columns = self._at[b]
            return total[:, columns.start - right.start : columns.stop - right.start]
        if (b, a) in self._where:
            return self._product(b, a).T
        raise BadInput(f"the pair ({a!r}, {b!r}) was not asked for", remedy="name it in `pairs` before the pass")

    def _columns(self, node: str) -> slice:
        if node not in self._at:
            raise BadInput(f"there is no node {node!r}", wanted=f"one of {_names(self._at)}")
        return self._at[node]

    def _check_nodes(self, widths: Mapping[str, int], whose: str) -> None:
        missing, new = [n for n in self._at if n not in widths], [n for n in widths if n not in self._at]
        if missing or new:
            got = f"missing: {_names(missing)}; new: {_names(new)}"
            raise BadInput(f"{whose} other nodes than before", got=got, wanted=_names(self._at))
        for node, width in widths.items():
            if width != self.width(node):
                wanted = f"{self.width(node)} units, as before"
                raise BadInput(f"{whose} node {node!r} in another width", got=f"{width} units", wanted=wanted)


def _asked(pairs: Literal["all"] | Iterable[PairName]) -> Literal["all"] | tuple[PairName, ...]:
    if isinstance(pairs, str):
        choose("choice of pairs", pairs, ["all"])
        return "all"
    kept: dict[frozenset[str], PairName] = {}
    for pair in pairs:
        if isinstance(pair, str) or len(pair) != 2:
            raise BadInput("a pair is two node names", got=repr(pair), wanted="('layer1', 'layer2')")
        if pair[0] != pair[1]:
            kept.setdefault(frozenset(pair), pair)
    return tuple(kept.values())


def _resolve(asked: Literal["all"] | tuple[PairName, ...], nodes: tuple[str, ...]) -> tuple[PairName, ...]:
    if asked == "all":
        return tuple(combinations(nodes, 2))
    unknown = sorted({node for pair in asked for node in pair} - set(nodes))
    if unknown:
        raise BadInput("a pair names a node that is not there", got=_names(unknown), wanted=f"among {_names(nodes)}")
    return asked


def _runs(wanted: list[bool]) -> list[slice]:
    """The stretches of True: [True, True, False, True] gives slices 0:2 and 3:4."""
    edges = np.flatnonzero(np.diff([False, *wanted, False]))
    return [slice(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def _names(things: Iterable[object], most: int = 8) -> str:
    names = list(map(repr, things))
    return ", ".join(names[:most] or ["none"]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _matrix(node: str, values: Array) -> Tensor:
    """A finite real `(frame, unit)` tensor on the CPU."""
    if not isinstance(values, Tensor):
        array = np.asarray(values)
        if array.dtype.kind in "fiub" and array.dtype.itemsize <= 8:
            # torch wants memory that it may write to, forward strides and the machine's byte order.
            plain = array.flags.writeable and min(array.strides, default=0) >= 0 and array.dtype.isnative
            values = torch.from_numpy(array if plain else array.astype(array.dtype.newbyteorder("=")))
    if not isinstance(values, Tensor) or values.is_complex():
        got = f"{type(values).__name__} of {getattr(values, 'dtype', 'no dtype')}"
        raise BadInput(f"node {node!r} is not an array of real numbers", got=got, wanted="floats or integers")
    if values.ndim != 2:
        remedy = "put the valid frames of all utterances below each other: padding is not data"
        got = f"shape {tuple(values.shape)}"
        raise BadInput(f"node {node!r} is no (frame, unit) matrix", got=got, wanted="two dimensions", remedy=remedy)
    tensor = values.detach().cpu()
    if tensor.numel() and tensor.dtype.is_floating_point:
        low, high = map(float, torch.aminmax(tensor))
        if not -LARGEST <= low <= high <= LARGEST:
            raise _unusable(node, tensor)
    return tensor


def _unusable(node: str, tensor: Tensor) -> BadInput:
    nan, infinite = int(tensor.isnan().sum()), int(tensor.isinf().sum())
    if not nan and not infinite:
        wanted, remedy = f"values within ±{LARGEST:g}", "scale the node down: no measure depends on its scale"
        got = f"values up to {float(tensor.abs().max()):g}"
        return BadInput(f"node {node!r} holds values too large to square", got=got, wanted=wanted, remedy=remedy)
    first = int((~tensor.isfinite()).any(1).nonzero()[0])
    return BadInput(
        f"node {node!r} holds values that are not numbers",
        got=f"{nan} NaN and {infinite} infinite of {tensor.numel()} values, from frame {first} of {len(tensor)} on",
        wanted="finite values in every frame",
        remedy="leave padding out; look for overflow where the network runs in half precision",
    )


def _check_frames(arrays: Mapping[str, Tensor]) -> None:
    counts = {node: len(array) for node, array in arrays.items()}
    if len(set(counts.values())) > 1:
        got = ", ".join(f"{node!r} {count}" for node, count in counts.items())
        remedy = "bring layers of other frame rates to one rate first"
        raise BadInput("nodes differ in their number of frames", got=got, wanted="one number", remedy=remedy)
