"""Where the sound changes: boundaries of an alignment moved to the places at which the spectrum does.

A network may say a symbol some time after its sound began: CTC asks for the order of the symbols only, and its delay is
that of the network and of its training. Where phones meet, the spectrum changes more than elsewhere; so the delay is
the shift at which the boundaries of an alignment, all together, lie on the greatest changes. No labels are needed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from otoscope.base import BadOption, Seconds
from otoscope.hear.audio import HOP_S
from otoscope.hear.tiers import Segment

# Frames compared on either side of a boundary.
SIDE_FRAMES = 3
# Delays looked at, and how finely.
EARLIEST_S, LATEST_S, STEP_S = -0.1, 0.2, 0.005
# With fewer boundaries the greatest change may be anywhere.
FEWEST_BOUNDARIES = 100
# How far a boundary is moved at most, and how far it is moved as soon as the change there is one mean change greater.
MOST_S, EASY_S = 0.04, 0.03
# What every segment keeps at least, if it had it.
SHORTEST_S = 0.01


def spectral_change(features: Tensor, side: int = SIDE_FRAMES) -> NDArray[np.float64]:
    """How much features `(frame, mel)` change at each boundary between frames `(frame,)`.

    Value t is the Euclidean distance between the means of the `side` frames before frame t and of the `side` frames
    from t on, t * HOP_S - HOP_S / 2 being the time of it; the first and last frame are repeated beyond the ends.
    """
    values = features.double().numpy()
    padded = np.concatenate([values[:1].repeat(side, 0), values, values[-1:].repeat(side - 1, 0)])
    sums = np.concatenate([np.zeros((1, padded.shape[1])), padded.cumsum(0)])
    means = (sums[side:] - sums[:-side]) / side
    return np.linalg.norm(means[side:] - means[:-side], axis=1)


def change_at(change: NDArray[np.float64], time_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """The spectral change at times in seconds, linear between frames; that at the ends beyond them."""
    return np.interp(time_s, np.arange(len(change)) * HOP_S - HOP_S / 2, change)


def measured_delay(boundaries: Sequence[Sequence[Seconds]], changes: Sequence[NDArray[np.float64]]) -> Seconds | None:
    """How long after a sound began the network says its symbol, in seconds: over all utterances, one number.

    Args:
        boundaries: of each utterance the times at which symbols start.
        changes: of each utterance, `spectral_change`; each is divided by its mean, so that all count alike.

    Returns: the delay, between -0.1 and 0.2 s, at which the mean change at the boundaries is greatest; None where there
        are fewer than 100 boundaries.
    """
    if sum(map(len, boundaries)) < FEWEST_BOUNDARIES:
        return None
    delays = np.arange(round(EARLIEST_S / STEP_S), round(LATEST_S / STEP_S) + 1) * STEP_S
    total = np.zeros(len(delays))
    for times, change in zip(boundaries, changes, strict=True):
        if len(times) and (mean := change.mean()) > 0:
            total += change_at(change / mean, np.asarray(times)[:, None] - delays).sum(0)
    return float(delays[total.argmax()])


def refined(tier: Sequence[Segment], change: NDArray[np.float64], *, most_s: Seconds = MOST_S) -> list[Segment]:
    """A tier with its boundaries moved to the greatest spectral changes near them; segments keep their order.

    Of all ways to move every boundary b to a time t within `most_s`, so that no segment gets shorter than 10 ms (or
    than it was), the one with the largest sum of c(t) - ((t - b) / 30 ms)², c being the change divided by its mean over
    the utterance. Segments that met still meet.

    Raises:
        BadOption: a distance below 0.
    """
    if not most_s >= 0:
        raise BadOption("how far boundaries may be moved", got=f"{most_s} s", wanted="0 s or more")
    mean = change.mean()
    times = np.array(sorted({time for segment in tier for time in segment[:2]}))
    if not len(times) or not mean > 0:
        return list(tier)
    steps = np.arange(-round(most_s / STEP_S), round(most_s / STEP_S) + 1) * STEP_S
    # Of equal gains the nearest.
    steps = steps[np.abs(steps).argsort(kind="stable")]
    choices = times[:, None] + steps
    gain = change_at(change / mean, choices) - (steps / EASY_S) ** 2
    gain[choices < min(0.0, times[0])] = -np.inf
    total, taken = gain[0], np.zeros(choices.shape, dtype=np.int64)
    for index in range(1, len(times)):
        least = min(SHORTEST_S, times[index] - times[index - 1])
        # Sums of decimals fall short of each other in the last digits.
        apart = choices[index][:, None] - choices[index - 1] >= least - 1e-9
        reached = np.where(apart, total, -np.inf)
        taken[index] = reached.argmax(1)
        total = reached.max(1) + gain[index]
    moved = np.zeros(len(times))
    choice = int(total.argmax())
    for index in range(len(times) - 1, -1, -1):
        moved[index] = choices[index, choice]
        choice = int(taken[index, choice])
    place = dict(zip(times.tolist(), moved.tolist(), strict=True))
    return [Segment(place[segment.start_s], place[segment.end_s], segment.label) for segment in tier]
