"""Which axis of each module's output is time, and how many frames it gives: measured by running the network.

Two passes of different sizes show the axes. Consecutive input lengths show strides and frame counts.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from otoscope.base import BadInput
from otoscope.probe.taps import INPUT, Visit, first_tensor, listening

OUTPUT = "<logits>"
"""The name of the logits among measured layers; no module can have it."""

# What modules call the width of their input.
INPUT_SIZES = ("in_features", "in_channels", "input_size")

Shapes: TypeAlias = list[tuple[int, ...] | None]


class Axes(NamedTuple):
    """Where batch and frames lie in an output, and how many units the other axes make together."""

    batch_axis: int
    frame_axis: int
    width: int


class FrameCount(NamedTuple):
    """Frames for each input length: measured over one period of lengths from `first` on, which then repeats.

    `short` holds the exceptions among short lengths, as where a network pads its input up to its first kernel.
    """

    first: int = 0
    counts: tuple[int, ...] = (0,)
    gain: int = 1
    short: Mapping[int, int] = {}

    def __call__(self, length: int) -> int:
        if length in self.short:
            return self.short[length]
        periods, phase = divmod(length - self.first, len(self.counts))
        return max(0, self.counts[phase] + periods * self.gain) if length > 0 else 0

    @property
    def stride(self) -> Fraction:
        return Fraction(len(self.counts), self.gain)


def by_frame(tensor: Tensor, batch_axis: int, frame_axis: int) -> Tensor:
    """`(batch, frame, unit)`, the other axes flattened in their order."""
    frames = tensor.movedim((batch_axis, frame_axis), (0, 1))
    return frames.flatten(2) if frames.ndim > 2 else frames.unsqueeze(2)


class Bench:
    """A network set up for measuring.

    Attributes:
        axes: of the features, of every module that gives a tensor per frame, in order of execution, and of the logits.
        counts: their numbers of frames.
        skipped: the reason, in words, for each module that is not among them.
        period: input frames after which the frames of all of them start anew together.
        shortest: an input length at which the network runs.

    Raises:
        BadInput: the network does not run.
    """

    def __init__(self, network: nn.Module, features: Tensor | int | None) -> None:
        self.network = network
        weight = next((p for p in network.parameters() if p.is_floating_point()), torch.zeros(0))
        self.device, self.dtype = weight.device, weight.dtype
        self.noise = torch.Generator().manual_seed(0)
        self.modules = {name: module for name, module in network.named_modules() if name}
        self.skipped: dict[str, str] = {}
        self.mels, self.shortest = self.find_size(features)
        self.axes = self.find_axes()
        self.counts = self.find_counts()
        self.period = math.lcm(*(len(count.counts) for count in self.counts.values()), 1)
        self.axes[INPUT] = Axes(0, 1, self.mels)
        self.counts = {INPUT: FrameCount(), **self.counts}

    def run(self, features: Tensor, names: Iterable[str], visit: Visit) -> None:
        """A forward pass; `visit` sees the output of each layer named, and lastly the logits by the name of OUTPUT."""
        lengths = torch.full((len(features),), features.shape[1], dtype=torch.int64, device=self.device)
        with contextlib.ExitStack() as stack:
            stack.enter_context(warnings.catch_warnings(action="ignore"))
            # Convolutions by Winograd or Fourier transforms would carry a NaN beyond what depends on it.
            stack.enter_context(torch.backends.nnpack.flags(enabled=False))
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
            stack.enter_context(listening(self.network, [n for n in names if n not in (INPUT, OUTPUT)], visit))
            logits = first_tensor(self.network(features, lengths))
        if logits is None:
            raise TypeError("the network gives no tensor")
        visit(OUTPUT, logits)

    def features(self, rows: int, length: int, mels: int | None = None) -> Tensor:
        row = torch.randn(1, length, mels or self.mels, generator=self.noise)
        return row.to(self.device, self.dtype).repeat(rows, 1, 1)

    def sizes(self, rows: int, length: int, mels: int | None = None) -> dict[str, Shapes]:
        """The shape of each layer's output in every call of one pass, in order of execution."""
        seen: dict[str, Shapes] = {}

        def note(name: str, tensor: Tensor | None) -> None:
            seen.setdefault(name, []).append(None if tensor is None else tuple(tensor.shape))

        self.run(self.features(rows, length, mels), self.modules, note)
        return seen

    def find_size(self, features: Tensor | int | None) -> tuple[int, int]:
        """Mel bins that the network takes, and an input length at which it runs."""
        if isinstance(features, Tensor):
            candidates = [features.shape[-1]]
        elif features is not None:
            candidates = [features]
        elif isinstance(mels := getattr(self.network, "mels", None), int):
            candidates = [mels]
        else:
            told = (getattr(m, name, 1) for m in self.modules.values() for name in INPUT_SIZES)
            candidates = list(
                dict.fromkeys([*(size for size in told if isinstance(size, int) and size > 1), 128, 80, 40])
            )
        problem: Exception | None = None
        for length in (64, 256, 1024, 4096):
            for mels in candidates:
                try:
                    self.sizes(2, length, mels)
                except Exception as error:  # somebody else's network may raise anything
                    problem = problem or error
                else:
                    return mels, length
        raise BadInput(
            f"the network ({type(self.network).__name__}) does not run on random features",
            got=f"{type(problem).__name__}: {problem}",
            wanted="forward(features (batch, frame, mel), lengths (batch,)); tried "
            f"{' and '.join(map(str, candidates))} mel bins",
            remedy="pass one of your own spectrograms (frame, mel) as features=…, or wrap the network in a module that "
            "has this forward",
        ) from problem

    def find_axes(self) -> dict[str, Axes]:
        """Axes of every layer in order of execution, from two passes that differ in batch size and in length."""
        lengths = self.shortest + 37, 2 * self.shortest + 93
        few, many = (self.sizes(rows, length) for rows, length in zip((2, 3), lengths, strict=True))
        self.far = {length: few if length == lengths[0] else many for length in lengths}
        shapes = {}
        for name, calls in few.items():
            shape = _axes(calls, many.get(name, []))
            if isinstance(shape, str):
                self.skipped[name] = shape
            else:
                shapes[name] = shape
        self.skipped.update((name, "it is not called") for name in self.modules if name not in few)
        if INPUT in self.modules:
            self.skipped[INPUT] = "its name is that of the features"
        return shapes

    def frames_of(self, name: str, length: int) -> int:
        """Frames of a layer for one utterance; each length is run once."""
        if length not in self.far:
            self.far[length] = self.sizes(1, length)
        shape = self.far[length].get(name, [None])[0]
        return -1 if shape is None else shape[self.axes[name].frame_axis]

    def find_counts(self) -> dict[str, FrameCount]:
        counts = {}
        near, (less, more) = self.shortest, tuple(self.far)
        for name in self.axes:
            gained = self.frames_of(name, more) - self.frames_of(name, less)
            slow = math.ceil((more - less) / gained)
            checks = [less, more]
            if slow > 8:
                # Strides p and q give counts at least two apart only from 2pq frames on.
                checks.append(near + 2 * slow * slow)
            for period in range(1, max(64, 4 * slow)):
                gain = self.frames_of(name, near + period) - self.frames_of(name, near)
                count = FrameCount(near, tuple(self.frames_of(name, near + i) for i in range(period)), gain)
                if gain > 0 and all(count(length) == self.frames_of(name, length) for length in checks):
                    counts[name] = count
                    break
            else:
                self.skipped[name] = "its number of frames follows no fixed stride"
        return self.with_short(counts)

    def with_short(self, counts: dict[str, FrameCount]) -> dict[str, FrameCount]:
        """Look for short inputs whose frames do not follow the rule of the long ones."""

        def differing(lengths: Iterable[int]) -> dict[str, dict[int, int]]:
            found: dict[str, dict[int, int]] = {}
            for length in lengths:
                with contextlib.suppress(Exception):  # too short for this network: no frames to count
                    for name, count in counts.items():
                        if (frames := self.frames_of(name, length)) != count(length):
                            found.setdefault(name, {})[length] = frames
            return found

        first_look = differing(2**power for power in range(self.shortest.bit_length()) if 2**power < self.shortest)
        longest = max((length for lengths in first_look.values() for length in lengths), default=0)
        short = differing(range(1, min(2 * longest, self.shortest)))
        return {name: count._replace(short=short.get(name, {})) for name, count in counts.items()}


def _axes(few: Shapes, many: Shapes) -> Axes | str:
    """The axes of an output seen for 2 utterances and for 3 longer ones, or why it is no layer."""
    if len(few) != 1 or len(many) != 1:
        return f"it is called {max(len(few), len(many))} times in one pass"
    small, large = few[0], many[0]
    if small is None or large is None:
        return "it gives no tensor"
    if len(small) != len(large):
        return "its number of axes changes"
    batch = next((axis for axis, sizes in enumerate(zip(small, large, strict=True)) if sizes == (2, 3)), None)
    if batch is None:
        return "none of its axes is the batch"
    frame = [axis for axis, (a, b) in enumerate(zip(small, large, strict=True)) if a != b and axis != batch]
    if len(frame) > 1:
        return f"more than one of its axes follows the length of the input: {frame}"
    if not frame or large[frame[0]] < small[frame[0]]:
        return "none of its axes follows the length of the input"
    return Axes(batch, frame[0], math.prod(n for axis, n in enumerate(small) if axis not in (batch, frame[0])))
