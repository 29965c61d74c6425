"""Gradients of many single frames: of logit[utterance, frame, symbol] with respect to every chosen layer and the input.

Four methods give the same numbers:

- `"single"`: one forward and one backward for each frame, over its whole utterance. The reference, and slow.
- `"repeat"`: utterances repeated along the batch, one frame's logit in each row.
- `"window"`: for networks of finite receptive field. A frame's gradient lies in its cone, so the network runs on
  windows of just the receptive field, many in a batch (`otoscope.probe.windows`).
- `"shared"`: for such networks of convolutions and linear layers with nothing but functions of single values between
  them. An utterance runs once, and only the cones go backward (`otoscope.probe.shared`).

`"auto"` takes the fastest that gives what `"single"` gives on a few of the frames asked for.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from otoscope.base import BadInput, choose
from otoscope.probe.diagonal import NotDiagonal
from otoscope.probe.layers import Layer, Survey, list_layers, match_layers
from otoscope.probe.rows import Chunk, Job, Rows, Way, make_job
from otoscope.probe.windows import Stretches, Windows

METHODS = ("auto", "shared", "window", "repeat", "single")
# Largest difference from `single` that still counts as the same, as a share of the frame's largest gradient at a layer.
TOLERANCE = 1e-5
# The same in float64, which decides where rounding in float32 may have switched a ReLU.
TOLERANCE_DOUBLE = 1e-9
# Instances tested of each kind: inside the utterance, at its start, at its end, the whole of a short one.
TESTED = 2
REFERENCE = Way("single", in_cones=False)


class FrameGradients:
    """Gradients of single frames' logits with respect to layers of a network.

    Args:
        network: see `otoscope.probe.layers.list_layers`. While it runs it is in `eval()` and its parameters require no
            gradient; afterwards all is as it was.
        layers: layers or names of layers, `"input"` among them if wanted.
        method: `"auto"`, `"shared"`, `"window"`, `"repeat"` or `"single"`. Only `"auto"` tests itself.
        batch_frames: input frames in one batch, all rows together; memory follows it.
        survey: `list_layers(network)` where it is at hand; else the first call measures it.

    Attributes:
        method: the method in use; `"auto"` before the first call.
        reason: why it is, in a sentence.
        error: what the self-test found: the largest difference from `"single"` as a share of the largest gradient;
            that of a float64 copy of the network where float32 could not decide.

    Raises:
        BadOption: an unknown method.
    """

    def __init__(
        self,
        network: nn.Module,
        layers: Sequence[Layer | str],
        *,
        method: str = "auto",
        batch_frames: int = 8192,
        survey: Survey | None = None,
    ) -> None:
        self.network = network
        self.method = self._asked = choose("method", method, METHODS)
        self.reason = "nothing has run yet" if method == "auto" else "it was asked for, and has not been tested"
        self.error: float | None = None
        self.batch_frames = batch_frames
        self._survey = survey
        self._wanted = [str(layer) for layer in layers]
        self._rows: Rows | None = None
        self._ways: list[Way] = []
        self._tested: set[int] = set()
        self._failures: list[str] = []

    def __call__(self, features: Sequence[Tensor], utterance: Tensor, frame: Tensor, symbol: Tensor) -> Iterator[Chunk]:
        """The gradient of `logits[utterance[i], frame[i], symbol[i]]` for every instance i, in chunks, in any order.

        Args:
            features: the utterances, each `(frame, mel)`.
            utterance, frame, symbol: int64 `(instance,)`: index into `features`, frame of the output, its symbol.

        Yields:
            `Chunk`s; every instance is in exactly one. A layer's span is the width of its cone; where the cone has no
            end, the layer's frames for the longest utterance of this call.

        Raises:
            BadInput: indices out of range, features of unequal width, or a network that does not run on them.
            BadOption: an unknown layer, `"shared"` or `"window"` for a network without a finite receptive field, or
                `"shared"` for one that cannot be taken apart.
        """
        if not len(features):
            raise BadInput("there are no utterances", got="an empty list", wanted="tensors (frame, mel)")
        if self._survey is None:
            self._survey = list_layers(self.network, features[0])
        if self._rows is None:
            self._rows = self._set_up(self._survey)
        job = make_job(self.network, self._survey, features, utterance, frame, symbol)
        if not len(job.utterance):
            return iter(())
        way = self._choose(self._rows, job)
        strict = self._asked != "auto"
        return self._rows.run(self.network, way, job, torch.arange(len(job.utterance)), strict=strict)

    def _set_up(self, survey: Survey) -> Rows:
        layers = match_layers(survey, self._wanted)
        finite = survey.output is not None and survey.output.reach is not None
        windows = Windows(survey) if finite or self.method in ("shared", "window") else None
        if self.method != "auto":
            self._ways = [Way(self.method)]
        else:
            self._ways = [Way("shared"), Way("window")] if finite else []
            for method in ("repeat", "single"):
                self._ways += [Way(method), Way(method, in_cones=False)]
        return Rows(survey, layers, windows, self.batch_frames)

    def _choose(self, rows: Rows, job: Job) -> Way:
        """The first way that does what `single` does, on a few instances of each kind not tested before."""
        while len(self._ways) > 1:
            way = self._ways[0]
            stretches = rows.stretches(way, job)
            new = [kind for kind in stretches.kind.unique().tolist() if kind not in self._tested]
            if not new:
                return way
            error, where = 0.0, ""
            for batch in _samples(rows, way, stretches, new):
                error, where = max((error, where), self._test(rows, way, job, batch))
            if error <= TOLERANCE:
                self._tested.update(new)
                self.error = max(error, self.error or 0.0)
                if way.method != "single":
                    near = f"to {self.error:.1g} of the largest gradient" if self.error else "to the last bit"
                    self._say(f"{way} give what one backward per frame gives, {near}")
                    return way
                break
            self._failures.append(f"{way} do not: {where}")
            self._ways.pop(0)
            self._tested.clear()
            self.error = None
        if self._failures:
            self._say("one backward per frame is always right")
        return self._ways[0]

    def _say(self, found: str) -> None:
        self.method = self._ways[0].method
        finite = self._rows is not None and self._rows.windows is not None
        unbounded = [] if finite else ["the logits depend on the whole utterance, so there are no windows"]
        self.reason = "; ".join([*unbounded, found, *self._failures])

    def _test(self, rows: Rows, way: Way, job: Job, batch: Tensor) -> tuple[float, str]:
        """The largest difference from `single` as a share of the largest gradient, and in words where it lies."""
        error, where = _difference(rows, self.network, way, job, batch)
        if TOLERANCE < error < math.inf and job.features.dtype != torch.float64:
            # Another order of summation can put a value that is all but 0 on the other side of a ReLU's kink.
            try:
                network, features = copy.deepcopy(self.network).double(), job.features.double()
                exact, _ = _difference(rows, network, way, job._replace(features=features), batch)
            except Exception:  # not every network can be copied, or computes in float64
                return error, where
            return (exact if exact <= TOLERANCE_DOUBLE else error), where
        return error, where


def _samples(rows: Rows, way: Way, at: Stretches, kinds: Sequence[int]) -> Iterator[Tensor]:
    """Full batches of each kind, drawn from all over: what a network does may depend on how many rows there are."""
    for kind in kinds:
        members = (at.kind == kind).nonzero().flatten()
        for length in _spread(at.length[members].unique(), TESTED).tolist():
            yield _spread(members[at.length[members] == length], rows.per_batch(way, length))


def _spread(index: Tensor, count: int) -> Tensor:
    """Some of the indices, the first and the last among them."""
    return index[torch.linspace(0, len(index) - 1, min(count, len(index))).round().long()]


def _difference(rows: Rows, network: nn.Module, way: Way, job: Job, batch: Tensor) -> tuple[float, str]:
    """The same for one batch run as a whole, of which a few instances are compared."""
    reference = {int(c.instances): c.windows for c in rows.run(network, REFERENCE, job, _spread(batch, TESTED))}
    worst, where = 0.0, ""
    try:
        chunks = list(rows.run(network, way, job, batch, strict=True))
    except NotDiagonal as error:
        return math.inf, str(error.got)
    except Exception as error:  # a network may not bear being run so
        return math.inf, f"the network fails ({getattr(error, 'got', None) or error})"
    for chunk in chunks:
        for row, instance in enumerate(chunk.instances.tolist()):
            for layer, right in reference.get(instance, {}).items():
                share = _share(chunk[layer].gradient[row], int(chunk[layer].start[row]), right.gradient[0])
                if share > worst:
                    worst, where = share, f"they differ by {share:.2g} of the largest gradient, at layer {layer!r}"
    return worst, where


def _share(gradient: Tensor, start: int, right: Tensor) -> float:
    """Largest difference of a window that begins at frame `start` from the gradient over the whole utterance."""
    if not right.isfinite().all():
        return 0.0  # nothing to compare with
    low, high = max(0, start), min(len(right), start + len(gradient))
    laid_out = torch.zeros_like(right)
    laid_out[low:high] = gradient[low - start : high - start]
    difference, largest = float((laid_out - right).abs().max().nan_to_num(math.inf)), float(right.abs().max())
    return difference / largest if largest else difference and math.inf
