"""Windows of the receptive field: on which stretch of an utterance a network must run for one frame of its output.

A window begins on the grid of the network's strides and is slid inside the utterance, so that the utterance's real ends
keep their padding. At a window's other ends the network pads as well, but nothing that the frame depends on sees it.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor

from otoscope.base import BadOption
from otoscope.probe.layers import Layer, Survey

WHOLE, AT_START, AT_END = -1, -2, -3
"""Kinds of stretches. Inside an utterance the kind is the output frame's place in the period, 0 or more."""


class Stretches(NamedTuple):
    """The input on which each instance runs: first frame, number of frames, and kind."""

    start: Tensor
    length: Tensor
    kind: Tensor


def whole_utterances(utterance_length: Tensor) -> Stretches:
    """Every instance on all of its utterance."""
    zeros = torch.zeros_like(utterance_length)
    return Stretches(zeros, utterance_length, zeros + WHOLE)


def corresponding(layer: Layer, frame: Tensor, output: Layer | None = None) -> Tensor:
    """The frame of a layer at the time of each frame of the output, or of the input: floor(t · s_output / s_layer)."""
    step = Fraction(1 if output is None else output.stride) / Fraction(layer.stride)
    return frame * step.numerator // step.denominator


class Windows:
    """The windows of one network.

    Attributes:
        length: input frames in a window; at an utterance's end up to one period more.

    Raises:
        BadOption: the receptive field of the logits has no end.
    """

    def __init__(self, survey: Survey) -> None:
        output = survey.output
        if output is None or output.reach is None:
            raise BadOption(
                "this network has no windows: its logits depend on the whole utterance",
                got="method='shared' or 'window'",
                wanted="'auto', 'repeat' or 'single'",
            )
        self.output, self.period = output, survey.period
        self.layers = [layer for layer in [*survey, output] if layer.cone is not None]
        self.phases = self.per_period(output)
        self.first_period = torch.tensor([self._first_period(phase) for phase in range(self.phases)])
        self.length = 1
        while not all(self._holds(phase) for phase in range(self.phases)):
            self.length += 1

    def per_period(self, layer: Layer) -> int:
        return int(self.period / layer.stride)

    def place(self, frame: Tensor, utterance_length: Tensor) -> Stretches:
        """The stretch for each output frame of an utterance of so many input frames."""
        phase = frame % self.phases
        start = self.period * (frame // self.phases + self.first_period[phase])
        length = torch.full_like(start, self.length)
        at_start, at_end = start < 0, start + self.length > utterance_length
        whole = utterance_length < self.length
        # At the end the window begins on the grid and takes in whatever is left.
        last = (utterance_length - self.length) // self.period * self.period
        start = torch.where(at_end, last, start).clamp(min=0)
        start = torch.where(whole, 0, start)
        length = torch.where(at_end | whole, utterance_length - start, length)
        kind = phase
        for mask, name in ((at_start, AT_START), (at_end, AT_END), (whole, WHOLE)):
            kind = torch.where(mask, name, kind)
        return Stretches(start, length, kind)

    def cone(self, layer: Layer, phase: int) -> tuple[int, int]:
        """First frame and the one after the last that an output frame depends on, counted from a window's start."""
        left, right = layer.cone or (0, 0)
        centre = phase * self.per_period(layer) // self.phases
        start = int(self.first_period[phase]) * self.per_period(layer)
        return centre - left - start, centre + right + 1 - start

    def _first_period(self, phase: int) -> int:
        """Where the window begins, in periods from that of the output frame: no cone begins before it."""
        return min(
            (phase * self.per_period(layer) // self.phases - (layer.cone or (0, 0))[0]) // self.per_period(layer)
            for layer in self.layers
        )

    def _holds(self, phase: int) -> bool:
        return all(self.cone(layer, phase)[1] <= layer.frames(self.length) for layer in self.layers)
