"""Frames as rows of a batch: each row is a stretch of an utterance, and one backward serves all rows.

Rows do not know of each other, so the sum of one logit from each has, in every row, the gradient of that row's logit.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from otoscope.base import BadInput, OtoscopeError
from otoscope.probe.diagonal import NotDiagonal, Taken, take_apart
from otoscope.probe.layers import Layer, Survey, as_frames
from otoscope.probe.shared import grouped
from otoscope.probe.taps import first_tensor, tap
from otoscope.probe.windows import Stretches, Windows, corresponding, whole_utterances

# Batches of instances at which utterances that go backward together are enough.
GROUPED = 8
# How many times as many rows as windows the shared forward pass has in a batch.
SHARED = 3


@dataclass(frozen=True)
class Window:
    """Gradients at one layer for some instances.

    Attributes:
        gradient: `(instance, span, unit)`; 0 outside the utterance and outside the cone.
        start: int64 `(instance,)` on the CPU, the layer's frame that `gradient[:, 0]` is of; negative before the start.
    """

    gradient: Tensor
    start: Tensor


@dataclass(frozen=True)
class Chunk:
    """Some of the instances asked for: `instances` holds their indices, `windows` their gradients by layer."""

    instances: Tensor
    windows: dict[str, Window]

    def __getitem__(self, layer: str) -> Window:
        return self.windows[layer]


class Way(NamedTuple):
    """How to run. `in_cones`: gradients are cut to the cones measured."""

    method: str
    in_cones: bool = True

    def __str__(self) -> str:
        said = {
            "shared": "cones backward from one shared forward pass",
            "window": "windows of the receptive field",
            "repeat": "utterances repeated along the batch",
            "single": "one backward per frame",
        }[self.method]
        return said + ("" if self.in_cones else ", without cones")


class Job(NamedTuple):
    """What is asked for. Utterances lie one after the other in `features` `(frame, mel)`, each from `first` on.

    `utterance`, `frame` and `symbol` are int64 `(instance,)` on the CPU.
    """

    features: Tensor
    first: Tensor
    lengths: Tensor
    utterance: Tensor
    frame: Tensor
    symbol: Tensor


class Batch(NamedTuple):
    """Instances that run together, each on `length` input frames from `start` on."""

    instances: Tensor
    start: Tensor
    length: int


def make_job(network: nn.Module, survey: Survey, features: Sequence[Tensor], *asked: Tensor) -> Job:
    """Check what is asked for, and bring the features to the network's device.

    Raises:
        BadInput: shapes that do not fit together, or an index out of range.
    """
    shapes = {tuple(values.shape[1:]) for values in features}
    if len(shapes) != 1 or len(shapes.pop()) != 1:
        raise BadInput(
            "the utterances are not spectrograms of one number of mel bins",
            got=", ".join(sorted({str(tuple(values.shape)) for values in features})[:4]) or "no utterances",
            wanted="a list of tensors (frame, mel)",
        )
    utterance, frame, symbol = (index.detach().to("cpu", torch.int64).flatten() for index in asked)
    if not len(utterance) == len(frame) == len(symbol):
        raise BadInput(
            "utterance, frame and symbol do not each say one thing of every instance",
            got=f"{len(utterance)}, {len(frame)} and {len(symbol)} of them",
            wanted="as many of each",
        )
    lengths = torch.tensor([len(values) for values in features])
    within("utterance", utterance, torch.full_like(utterance, len(features)))
    if survey.output is not None:
        within("frame", frame, torch.tensor([survey.output.frames(n) for n in lengths.tolist()])[utterance])
    weight = next((p for p in network.parameters() if p.is_floating_point()), features[0])
    flat = torch.cat([values.detach() for values in features]).to(weight.device, weight.dtype)
    return Job(flat, lengths.cumsum(0) - lengths, lengths, utterance, frame, symbol)


def within(what: str, index: Tensor, limit: Tensor) -> None:
    """Raise `BadInput` unless every index is at least 0 and below its limit."""
    wrong = ((index < 0) | (index >= limit)).nonzero().flatten()
    if len(wrong):
        first = int(wrong[0])
        raise BadInput(
            f"{what} out of range for {len(wrong)} of {len(index)} instances",
            got=f"{what} {int(index[first])} for instance {first}",
            wanted=f"0 to {int(limit[first]) - 1}"
            if limit[first]
            else "nothing: the utterance is too short for a frame",
        )


@contextlib.contextmanager
def running(utterances: int, frames: int) -> Iterator[None]:
    """Say in words what a network raises that runs inside."""
    try:
        yield
    except OtoscopeError:
        raise
    except Exception as error:  # somebody else's network may raise anything
        raise BadInput(
            f"the network does not run on {utterances} utterances of {frames} frames",
            got=f"{type(error).__name__}: {error}",
            remedy="leave out utterances that are too short for it; if memory ran out, lower batch_frames",
        ) from error


class Rows:
    """Runs instances as rows.

    Args:
        survey: of the network.
        layers: whose gradients are wanted.
        windows: of the network, where its receptive field has an end.
        batch_frames: input frames in one batch, all rows together.
    """

    def __init__(self, survey: Survey, layers: Sequence[Layer], windows: Windows | None, batch_frames: int) -> None:
        self.output, self.layers, self.windows = survey.output, layers, windows
        self.batch_frames = batch_frames

    def stretches(self, way: Way, job: Job) -> Stretches:
        """The input on which each instance runs."""
        lengths = job.lengths[job.utterance]
        if way.method in ("window", "shared") and self.windows is not None:
            return self.windows.place(job.frame, lengths)
        return whole_utterances(lengths)

    def per_batch(self, way: Way, length: int) -> int:
        """How many rows of so many input frames run together."""
        if way.method == "shared" and self.windows is not None:
            # Nothing is kept for a backward pass, which leaves room for more rows.
            return max(1, SHARED * self.batch_frames // self.windows.length)
        return 1 if way.method == "single" else max(1, self.batch_frames // length)

    def batches(self, way: Way, job: Job, which: Tensor) -> Iterator[Batch]:
        """The instances `which` in batches of equal length."""
        start, length, _ = self.stretches(way, job)
        for frames in length[which].unique().tolist():
            for batch in which[length[which] == frames].split(self.per_batch(way, frames)):
                yield Batch(batch, start[batch], frames)

    def run(self, network: nn.Module, way: Way, job: Job, which: Tensor, *, strict: bool = False) -> Iterator[Chunk]:
        """The gradients of the instances `which`.

        An utterance that cannot share its forward pass goes one frame at a time; where `strict`, it raises `BadOption`.
        """
        if way.method == "shared":
            return self._shared(network, way, job, which, strict)
        return (self._batch(network, way, job, *batch) for batch in self.batches(way, job, which))

    def _shared(self, network: nn.Module, way: Way, job: Job, which: Tensor, strict: bool) -> Iterator[Chunk]:
        owner, rows = job.utterance[which], self.per_batch(way, 1)
        left: list[Tensor] = []

        def utterances() -> Iterator[tuple[Taken, Tensor]]:
            for u in owner.unique().tolist():
                members, first = which[owner == u], int(job.first[u])
                features = job.features[first : first + int(job.lengths[u])]
                try:
                    with running(1, len(features)):
                        taken = take_apart(network, self.layers, features)
                except NotDiagonal:
                    if strict:
                        raise
                    left.append(members)
                else:
                    yield taken, members

        for group, instances, place in grouped(utterances(), GROUPED * rows, self.batch_frames):
            within("symbol", job.symbol[instances], torch.full_like(instances, group.places[-1].units))
            within("frame", job.frame[instances], group.frames[place, -1])
            for some, at in zip(instances.split(rows), place.split(rows), strict=True):
                frame = job.frame[some]
                found = group.backward(at, frame, job.symbol[some], job.features)
                cut = {str(layer): self._window(*found[layer], layer, way, job, frame) for layer in self.layers}
                yield Chunk(some, cut)
        if left:
            yield from self.run(network, Way("single"), job, torch.cat(left))

    def _batch(self, network: nn.Module, way: Way, job: Job, which: Tensor, start: Tensor, length: int) -> Chunk:
        index = (job.first[job.utterance[which]] + start)[:, None] + torch.arange(length)
        with tap(network, self.layers, grads=True) as taps:
            features = job.features[index.to(job.features.device)]
            lengths = torch.full((len(which),), length, device=features.device)
            with running(len(which), length):
                logits = first_tensor(network(features, lengths))
            tensors = [taps[layer] for layer in self.layers]
            target = self._logits(logits, job.frame[which], job.symbol[which], start)
            asked = [tensor for tensor in tensors if tensor.requires_grad] if target.requires_grad else []
            given = torch.autograd.grad(target.sum(), asked, allow_unused=True) if asked else ()
            gradients = dict(zip(map(id, asked), given, strict=True))
        windows = {}
        for layer, tensor in zip(self.layers, tensors, strict=True):
            gradient = gradients.get(id(tensor))
            # None for a layer that these logits do not depend on.
            gradient = as_frames(torch.zeros_like(tensor) if gradient is None else gradient, layer)
            first = corresponding(layer, start)
            windows[str(layer)] = self._window(gradient, first, layer, way, job, job.frame[which])
        return Chunk(which, windows)

    def _logits(self, logits: Tensor | None, frame: Tensor, symbol: Tensor, start: Tensor) -> Tensor:
        """The logit asked for in each row."""
        if logits is None or logits.ndim != 3:
            raise BadInput(
                "the network's first output is not logits",
                got="no tensor" if logits is None else f"shape {tuple(logits.shape)}",
                wanted="(batch, frame, symbol)",
            )
        if self.output is not None:
            frame = frame - corresponding(self.output, start)
        within("symbol", symbol, torch.full_like(symbol, logits.shape[2]))
        within("frame", frame, torch.full_like(frame, logits.shape[1]))
        return logits[torch.arange(len(frame)), frame, symbol]

    def _window(self, gradient: Tensor, first: Tensor, layer: Layer, way: Way, job: Job, frame: Tensor) -> Window:
        """Cut the cones out of `gradient` `(row, frame, unit)`, of which row r begins at the layer's frame first[r]."""
        if way.in_cones and self.output is not None and layer.cone is not None:
            left, right = layer.cone
            start, span = corresponding(layer, frame, self.output) - left, left + right + 1
        else:
            start, span = torch.zeros_like(frame), layer.frames(int(job.lengths.max()))
        local = start - first
        at = int(local[0])
        if 0 <= at <= gradient.shape[1] - span and bool((local == at).all()):
            window = gradient[:, at : at + span]
            if span == gradient.shape[1]:
                return Window(window, start)
            window = window.contiguous()
        else:
            index = local[:, None] + torch.arange(span)
            outside = ((index < 0) | (index >= gradient.shape[1])).to(gradient.device)
            index = index.clamp(0, gradient.shape[1] - 1).to(gradient.device)
            rows = torch.arange(len(index), device=gradient.device)[:, None]
            window = gradient[rows, index].masked_fill(outside.unsqueeze(2), 0)
        if window.count_nonzero() < gradient.count_nonzero() and _finite(window) < _finite(gradient):
            raise BadInput(
                f"the gradient of layer {str(layer)!r} reaches beyond the cone that was measured for it",
                got=f"values other than 0 outside of {span} frames",
                wanted="a network in which NaN spreads to all that depends on it",
                remedy="method='auto', which finds this out, given many frames in its first call",
            )
        return Window(window, start)


def _finite(gradient: Tensor) -> Tensor:
    """How many values are neither 0 nor NaN nor infinite. A frame that is NaN makes 0 · NaN of any gradient."""
    return (gradient.isfinite() & (gradient != 0)).sum()
