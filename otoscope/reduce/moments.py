"""Running first and second moments of named streams of frames: update, merge, finalize.

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
import weakref
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from otoscope.base import BadInput, BadOption, atomic_path, choose
from otoscope.reduce.covariances import EPSILON, Covariances
from otoscope.reduce.frames import Array, valid_frames
from otoscope.reduce.parallel import in_parallel
from otoscope.reduce.precision import PRECISIONS, choose_precision
from otoscope.reduce.sums import Layout, PairName, Sums, asked_pairs, listed, resolve

FORMAT = 2
UNDECIDED, EXACT = "a block of frames was never full", "the input is given in float64"
# Frames wait until the matrix products of a block run at full speed, and take longer than adding them to the sums: a
# block takes so much memory, or half of the sums'.
BLOCK_BYTES, BLOCK_FRAMES = 3 * 2**26, (256, 8192)
# The squares of larger values (of their squared norms), and above all sums of them, leave the range of float64.
LARGEST, LARGEST_OF_NORMS = 1e145, 1e70


class Moments:
    """Counts, means and covariances of named nodes, in one pass over the frames or in any split of it.

    Args:
        widths: units of each node; left out, nodes and widths are those of the first update.
        pairs: the pairs of different nodes whose cross-covariance is wanted: `"all"`, or (node, node) tuples.
            Only these are formed. A node's own covariance is always formed.
        folds: keep the sums of so many parts of the utterances apart, for intervals by jackknife. The memory is that
            many times as large. 0: one sum.
        precision: of the products. `"float64"`; `"float32"`, about twice as fast; `"auto"`: float32 where the input is
            no finer and the spectrum of the first block of frames says that measures stay exact to 1e-7. Sums are
            always float64.
        squared_norms: also keep what the debiased CKA needs, sums of squared norms of the frames.

    Raises:
        BadInput: no node, a width below 1, or a pair that names an unknown node. BadOption: a precision or a number of
            folds that there cannot be.
    """

    def __init__(
        self,
        widths: Mapping[str, int] | None = None,
        pairs: Literal["all"] | Iterable[PairName] = "all",
        *,
        folds: int = 0,
        precision: str = "auto",
        squared_norms: bool = False,
    ):
        self._asked = asked_pairs(pairs)
        self._precision = choose("precision", precision, PRECISIONS)
        if folds < 0 or folds == 1:
            raise BadOption("folds are parts of the utterances", got=folds, wanted="0, or 2 and more")
        self._folds, self._squared_norms = folds, squared_norms
        self._dtype = torch.float32 if precision == "float32" else torch.float64
        self._why = UNDECIDED if precision == "auto" else "asked for"
        self._layout: Layout | None = None
        self._shift: Tensor = torch.zeros(0, dtype=torch.float64)
        self._resolution: dict[str, float] = {}
        self._parts: list[Sums] = []
        self._waiting, self._owners = 0, list[tuple[int, int]]()
        # What was finalized shares the sums until they grow.
        self._finalized: weakref.WeakSet[Covariances] = weakref.WeakSet()
        if widths is not None:
            self._lay_out(widths)

    def __repr__(self) -> str:
        numbers = f"nodes={len(self.nodes)}, pairs={len(self.pairs)}, frames={self.frames}"
        return f"Moments({numbers}, utterances={self.utterances})"

    def __getstate__(self) -> dict[str, Any]:
        # The block of waiting frames can be the largest part of a small accumulator that travels between processes.
        self._flush()
        return {name: value for name, value in self.__dict__.items() if name not in ("_block", "_finalized")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= {**state, "_finalized": weakref.WeakSet()}

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of the nodes, in the order of `widths` or of the first update."""
        return tuple(self._layout.widths) if self._layout else ()

    @property
    def pairs(self) -> tuple[PairName, ...]:
        """The asked-for pairs of different nodes, each once."""
        return self._layout.pairs if self._layout else ()

    @property
    def folds(self) -> int:
        """How many parts of the utterances are kept apart; 0 for none."""
        return self._folds

    @property
    def frames(self) -> int:
        """Number of frames summed so far."""
        return self._waiting + sum(part.frames for part in self._parts)

    @property
    def utterances(self) -> int:
        """Number of utterances summed so far."""
        return sum(part.utterances for part in self._parts)

    @property
    def precision(self) -> str:
        """In which precision products are formed now, and why, in words."""
        return f"products in {'float32' if self._dtype == torch.float32 else 'float64'}: {self._why}"

    def update(
        self,
        batch: Mapping[str, Array],
        lengths: Array | Sequence[int] | None = None,
        mask: Array | None = None,
        *,
        folds: Sequence[int] | None = None,
    ) -> None:
        """Add the frames of a batch.

        Args:
            batch: for every node an array `(batch, frame, unit)`, or `(frame, unit)` with the valid frames of all
                utterances below each other; on any device, of any real dtype; torch or numpy. All nodes have the same
                valid frames; none at all is allowed and adds none.
            lengths: `(batch,)` the valid frames of each utterance. Left out, all frames are valid, and a
                `(frame, unit)` array is one utterance.
            mask: `(batch, frame)` booleans instead, true where a frame is valid.
            folds: to which part each utterance belongs, from 0; by turns when left out.

        Raises:
            BadInput: nodes missing or unknown, frame counts that differ, a wrong width, NaN or infinite values, values
                too large to square. Nothing has been added then.
        """
        arrays, counts = valid_frames(batch, lengths, mask, LARGEST_OF_NORMS if self._squared_norms else LARGEST)
        widths = {node: array.shape[1] for node, array in arrays.items()}
        layout = self._layout or self._lay_out(widths)
        layout.check(widths, "this batch has")
        owners = self._owners_of(counts, folds)
        if sum(counts) and self.frames == 0:
            self._set_shift(arrays)
        for node, array in arrays.items():
            step = torch.finfo(array.dtype).eps if array.dtype.is_floating_point else EPSILON
            self._resolution[node] = max(self._resolution[node], step)
            if self._precision == "auto" and step < torch.finfo(torch.float32).eps and self._why != EXACT:
                self._flush()
                self._set_dtype(torch.float64, EXACT)
        start = 0
        for count, owner in zip(counts, owners, strict=True):
            end = start + count
            while start < end:
                start += self._take(arrays, slice(start, end), owner)
            self._parts[owner].utterances += 1

    def merge(self, other: Moments) -> None:
        """Add the sums of `other`, which stays as it is. Different shifts are reconciled exactly.

        Raises:
            BadInput: the two have other nodes, widths, pairs or folds, or only one has squared norms.
        """
        kinds = [(each._folds, each._squared_norms) for each in (self, other)]
        if kinds[0] != kinds[1]:
            got, wanted = (f"{folds} folds, squared norms: {norms}" for folds, norms in reversed(kinds))
            raise BadInput("sums of different kinds do not add up", got=got, wanted=wanted)
        if other._layout is None:
            return
        mine = resolve(self._asked, self.nodes or other.nodes)
        if self._layout is not None:
            self._layout.check(other._layout.widths, "the sums to be added have")
        if set(map(frozenset, mine)) != set(map(frozenset, other.pairs)):
            raise BadInput("sums of different pairs do not add up", got=listed(other.pairs), wanted=listed(mine))
        layout = self._layout or self._lay_out(other._layout.widths)
        other._flush()
        self._flush()
        if other.frames and self.frames == 0:
            self._shift = torch.cat([other._shift[other._layout.columns[node]] for node in layout.widths])
        self._grow()
        for part, others in zip(self._parts, other._parts, strict=True):
            if others.frames:
                part.add_sums(others, self._shift, other._shift)
            else:
                part.utterances += others.utterances
        self._resolution = {node: max(step, other._resolution[node]) for node, step in self._resolution.items()}

    def finalize(self, *, without: int | None = None) -> Covariances:
        """What the sums say so far: means and covariances of the frames. The pass may go on.

        Args:
            without: a fold whose utterances are left out.

        Raises:
            BadInput: there are no frames. BadOption: there is no such fold.
        """
        if without is not None and without not in range(self._folds):
            raise BadOption("there is no such fold", got=without, wanted=f"one of {self._folds} folds")
        self._flush()
        parts = [part for fold, part in enumerate(self._parts) if fold != without]
        if not sum(part.frames for part in parts):
            raise BadInput("there is nothing to read yet", got="0 frames", wanted="at least one update with frames")
        sums = Covariances(parts, self._shift, dict(self._resolution), self._squared_norms)
        self._finalized.add(sums)
        return sums

    def save(self, path: Path | str) -> None:
        """Write everything to one safetensors file (JSON in its header), in one step. `load` gives the same sums."""
        self._flush()
        header = {
            "format": FORMAT,
            "widths": list(self._layout.widths.items()) if self._layout else [],
            "pairs": self._asked,
            "folds": self._folds,
            "squared_norms": self._squared_norms,
            "precision": [self._precision, "float32" if self._dtype == torch.float32 else "float64", self._why],
            "resolution": self._resolution,
        }
        tensors = {"format": torch.tensor(FORMAT)}
        if self._layout:
            tensors["shift"] = self._shift
            for fold, part in enumerate(self._parts):
                tensors[f"{fold}.counts"] = torch.tensor([part.frames, part.utterances, part.coarse], dtype=torch.int64)
                tensors[f"{fold}.total"] = part.total
                tensors |= {f"{fold}.product.{index}": product for index, product in enumerate(part.products)}
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
        precision, dtype, why = header["precision"]
        moments = cls(
            dict(header["widths"]) or None,
            pairs,
            folds=header["folds"],
            precision=precision,
            squared_norms=header["squared_norms"],
        )
        moments._set_dtype(torch.float32 if dtype == "float32" else torch.float64, why)
        if moments._layout:
            moments._resolution, moments._shift = header["resolution"], tensors["shift"]
            for fold, part in enumerate(moments._parts):
                part.frames, part.utterances, coarse = map(int, tensors[f"{fold}.counts"])
                part.coarse = bool(coarse)
                part.total = tensors[f"{fold}.total"]
                part.products = [tensors[f"{fold}.product.{index}"] for index in range(len(part.products))]
        return moments

    def _lay_out(self, widths: Mapping[str, int]) -> Layout:
        layout = Layout(widths, self._asked, self._squared_norms)
        self._layout = layout
        self._parts = [Sums(layout) for _ in range(max(self._folds, 1))]
        self._shift = torch.zeros(layout.width, dtype=torch.float64)
        self._resolution = dict.fromkeys(layout.widths, 0.0)
        return layout

    def _owners_of(self, counts: Sequence[int], folds: Sequence[int] | None) -> list[int]:
        """The part to which each utterance of a batch belongs."""
        parts = max(self._folds, 1)
        if folds is None:
            return [(self.utterances + index) % parts for index in range(len(counts))]
        if len(folds) != len(counts) or not all(fold in range(parts) for fold in folds):
            wanted = f"{len(counts)} numbers from 0 to {parts - 1}, one for each utterance"
            raise BadInput("the folds do not fit the utterances", got=listed(folds), wanted=wanted)
        return list(folds)

    def _set_shift(self, arrays: Mapping[str, Tensor]) -> None:
        """The mean of the first batch; for float32 units a float32 number, so that it can be taken away in float32."""
        assert self._layout is not None
        for node, array in arrays.items():
            mean = array.to(torch.float64).mean(0)
            near = mean.float().double() if array.dtype != torch.float64 else mean
            self._shift[self._layout.units(node)] = near
            if self._squared_norms:
                norms = torch.linalg.vecdot(array.double() - near, array.double() - near)
                self._shift[self._layout.columns[node].stop - 1] = norms.mean()

    def _set_dtype(self, dtype: torch.dtype, why: str) -> None:
        self.__dict__.pop("_block", None)
        self._dtype, self._why = dtype, why

    def _take(self, arrays: Mapping[str, Tensor], frames: slice, owner: int) -> int:
        """Let frames of one utterance wait for their block to fill; gives how many found room."""
        assert self._layout is not None
        if "_block" not in self.__dict__:
            least, most = BLOCK_FRAMES
            sums = sum(product.nbytes for product in self._parts[0].products)
            size = max(BLOCK_BYTES, sums // 2) // (self._layout.width * self._dtype.itemsize)
            self._block = torch.empty(min(max(size, least), most), self._layout.width, dtype=self._dtype)
        taken = min(frames.stop - frames.start, len(self._block) - self._waiting)
        for node, array in arrays.items():
            rows = self._block[self._waiting : self._waiting + taken, self._layout.units(node)]
            rows.copy_(array[frames.start : frames.start + taken])
        self._owners.append((self._waiting, owner))
        self._waiting += taken
        if self._waiting == len(self._block):
            self._flush(full=True)
        return taken

    def _grow(self) -> None:
        """Leave what was finalized before the sums grow."""
        for sums in self._finalized:
            sums.keep()
        self._finalized.clear()

    def _flush(self, full: bool = False) -> None:
        """Bring the waiting frames into the sums."""
        if not self._waiting or self._layout is None:
            return
        self._grow()
        layout, rows, shift = self._layout, self._block[: self._waiting], self._shift.to(self._dtype)

        def take_shift(node: str) -> None:
            units, norm = layout.units(node), layout.columns[node].stop - 1
            shifted = rows[:, units].sub_(shift[units])
            if self._squared_norms:
                rows[:, norm].copy_(torch.linalg.vecdot(shifted, shifted)).sub_(shift[norm])

        in_parallel(take_shift, layout.widths, self._waiting)
        choosing = full and self._precision == "auto" and self._why == UNDECIDED
        choice = choose_precision(rows, layout, self._resolution) if choosing else None
        if choice is not None:
            rows = rows.to(choice.dtype)
        if len(self._parts) == 1:
            self._parts[0].add(rows)
        else:
            ends = [start for start, _ in self._owners[1:]] + [self._waiting]
            for fold, part in enumerate(self._parts):
                spans = [rows[s:e] for (s, owner), e in zip(self._owners, ends, strict=True) if owner == fold]
                if spans:
                    part.add(torch.cat(spans))
        self._waiting = 0
        self._owners.clear()
        if choice is not None:
            self._set_dtype(*choice)
