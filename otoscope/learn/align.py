"""CTC forced alignment: which output frames stand for which symbol of a known text.

`best_paths` finds, of all the paths that spell the text (Graves et al. 2006, "Connectionist temporal classification",
eq. 3: repeats merged, blanks dropped), the most probable one, by Viterbi over a batch of utterances at once. `extents`
then reads off the path how long each symbol lasts; a network says most symbols in a single frame and is silent between
them, so that this is a choice.
"""

from __future__ import annotations

import math
import string
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from otoscope.base import BadInput, BadOption, choose

# What networks call the symbol between words.
SPACES = (" ", "|", "▁", "<space>")
EXTENTS = ("until_next", "midway", "since_last", "path")


@dataclass(frozen=True)
class Alignment:
    """The most probable path of a text. `position` and `log_prob` are `(frame,)`.

    Attributes:
        targets: the numbers of the text's symbols.
        position: which of them each frame says, counted from 0; -1 where it says the blank.
        log_prob: what the network gives each frame of the path.
    """

    targets: tuple[int, ...]
    position: Tensor
    log_prob: Tensor

    @property
    def score(self) -> float:
        """Natural logarithm of the path's probability."""
        return float(self.log_prob.sum())


class Extent(NamedTuple):
    """A symbol of the text in time, in output frames: frame t lasts from t to t + 1, and the network says it at `peak`.

    `score` is the mean natural logarithm of the probability of its frames on the path, 0 at best.
    """

    symbol: int
    start: float
    end: float
    peak: int
    score: float


def as_letters(symbols: Sequence[str]) -> list[str]:
    """The names of a network's outputs as they stand in normalised texts: small letters, a space between words."""
    space = next((name for name in SPACES if name in symbols), None)
    named = [" " if name == space else name for name in symbols]
    return named if any(name in named for name in string.ascii_lowercase) else [name.lower() for name in named]


def frames_needed(targets: Sequence[int]) -> int:
    """The least number of frames that can spell a text: one a symbol, and a blank between equal ones."""
    return len(targets) + sum(first == second for first, second in pairwise(targets))


def best_paths(
    log_probs: Tensor,
    lengths: Tensor,
    targets: Sequence[Sequence[int]],
    blank: int,
) -> list[Alignment | BadInput]:
    """The most probable path of each utterance's text; what is wrong with it, where there is none.

    Of paths that are equally probable, the one that stays longest where it is.

    Args:
        log_probs: natural logarithms of probabilities `(batch, frame, symbol)`, padded.
        lengths: valid frames `(batch,)`.
        targets: for each utterance the numbers of its symbols, without blanks.
        blank: the number of the blank.

    Returns: an `Alignment` for each utterance, or a `BadInput` (not raised) that says why there is none: an empty text,
        one longer than the audio, symbols that the network gives no probability, values that are not finite.

    Raises:
        BadOption: shapes or numbers that do not fit each other.
    """
    batch, frames, symbols = check_shapes(log_probs, lengths, targets, blank)
    values = log_probs.double()
    faults = [fault(values[b, : int(lengths[b])], text) for b, text in enumerate(targets)]
    sound = [b for b in range(batch) if faults[b] is None]
    found: list[Alignment | BadInput] = [error if error else BadInput("nothing was aligned") for error in faults]
    if not sound:
        return found
    texts, ends = [targets[b] for b in sound], lengths[sound].to(values.device)
    states = viterbi(values[sound], ends, texts, blank)
    for row, b in enumerate(sound):
        state = states[row, : int(ends[row])]
        if int(state[0]) < 0:
            found[b] = BadInput("the network gives the text no probability at all", got="a probability of 0")
            continue
        position = torch.where(state % 2 == 1, state.div(2, rounding_mode="floor"), -1)
        text = torch.tensor([*targets[b], blank], device=values.device)
        said = values[b, : len(state)].gather(1, text[position][:, None])[:, 0]
        found[b] = Alignment(tuple(targets[b]), position.cpu(), said.cpu())
    return found


def check_shapes(
    log_probs: Tensor, lengths: Tensor, targets: Sequence[Sequence[int]], blank: int
) -> tuple[int, int, int]:
    """The shape of the log-probabilities, if everything fits it; `BadOption` if not."""
    if log_probs.ndim != 3 or not log_probs.is_floating_point():
        raise BadOption("log-probabilities", got=tuple(log_probs.shape), wanted="floats (batch, frame, symbol)")
    batch, frames, symbols = log_probs.shape
    if not len(lengths) == len(targets) == batch:
        got = f"{batch} utterances, {len(lengths)} lengths, {len(targets)} texts"
        raise BadOption("lengths and texts do not fit the log-probabilities", got=got, wanted="one each")
    if batch and not (int(lengths.min()) >= 0 and int(lengths.max()) <= frames):
        raise BadOption("lengths do not fit the frames", got=lengths.tolist(), wanted=f"0 to {frames}")
    wrong = sorted({n for text in targets for n in text if not 0 <= n < symbols or n == blank})
    if wrong or not 0 <= blank < symbols:
        wanted = f"0 to {symbols - 1}, and no blank in a text"
        raise BadOption("symbol numbers that the network does not have", got=wrong or blank, wanted=wanted)
    return batch, frames, symbols


def fault(values: Tensor, targets: Sequence[int]) -> BadInput | None:
    """What is wrong with the log-probabilities `(frame, symbol)` of one utterance or with its text, if anything is."""
    if not len(targets):
        return BadInput("there is nothing to align", got="an empty text", wanted="a text with at least one symbol")
    needed = frames_needed(targets)
    if len(values) < needed:
        return BadInput(
            "the audio is shorter than its text needs",
            got=f"{len(values)} output frames",
            wanted=f"at least {needed}, for {len(targets)} symbols and a blank between equal ones",
            remedy="check that the text belongs to the recording",
        )
    if bool(values.isnan().any()) or bool((values == torch.inf).any()):
        return BadInput("the network's output is not finite", got="NaN or infinite log-probabilities")
    return None


def viterbi(log_probs: Tensor, lengths: Tensor, targets: Sequence[Sequence[int]], blank: int) -> Tensor:
    """The best state of each frame `(batch, frame)`; -1 throughout where no path is possible, and behind the ends.

    States are the text with a blank before, between and after its symbols: symbol number i is state 2i + 1.
    """
    batch, frames, _ = log_probs.shape
    device, rows = log_probs.device, torch.arange(batch, device=log_probs.device)
    counts = torch.tensor([len(text) for text in targets], device=device)
    text = torch.full((batch, 2 * int(counts.max()) + 1), blank, device=device)
    for row, numbers in enumerate(targets):
        text[row, 1 : 2 * len(numbers) : 2] = torch.tensor(numbers, device=device)
    # From symbol to symbol without a blank between, unless they are the same.
    hop = torch.zeros_like(text, dtype=torch.bool)
    hop[:, 3::2] = text[:, 3::2] != text[:, 1:-2:2]
    never = torch.full((batch, 2), -torch.inf, dtype=log_probs.dtype, device=device)
    score = torch.full(text.shape, -torch.inf, dtype=log_probs.dtype, device=device)
    score[:, :2] = log_probs[:, 0].gather(1, text[:, :2])
    steps = torch.zeros((frames, *text.shape), dtype=torch.int8, device=device)
    last = score.clone()
    for t in range(1, frames):
        before = torch.cat([never, score], 1)
        choices = torch.stack([score, before[:, 1:-1], before[:, :-2].where(hop, -torch.inf)])
        best, step = choices.max(0)
        steps[t] = step
        score = best + log_probs[:, t].gather(1, text)
        last = torch.where((lengths == t + 1)[:, None], score, last)
    # A path ends in the last symbol or in the blank behind it.
    final, blank_final = last[rows, 2 * counts - 1], last[rows, 2 * counts]
    state = torch.where(final >= blank_final, 2 * counts - 1, 2 * counts)
    possible = torch.maximum(final, blank_final) > -torch.inf
    path = torch.full((batch, frames), -1, device=device)
    for t in range(frames - 1, -1, -1):
        inside = possible & (t < lengths)
        path[:, t] = torch.where(inside, state, -1)
        state = torch.where(inside, state - steps[t, rows, state], state)
    return path


def extents(
    alignment: Alignment, extent: str = "until_next", *, space: int | None = None, reach: float = math.inf
) -> list[Extent]:
    """How long each symbol of an aligned text lasts, in order.

    Args:
        extent: "until_next": from its first frame on the path to the first frame of the next symbol; "midway": the
            boundary is midway between the peaks of two symbols; "since_last": from the last frame of the symbol before
            to its own last frame; "path": the frames in which the path says it, with gaps between.
        space: the number of the symbol between words. With every extent but "path" it lasts no time: its two
            neighbours share it, half each.
        reach: how long a symbol may last before and after its peak at most, in frames; so pauses are no one's. Never
            less than on the path.

    Raises:
        BadOption: another extent.
    """
    choose("extent", extent, EXTENTS)
    count = len(alignment.targets)
    said = [(alignment.position == index).nonzero()[:, 0] for index in range(count)]
    scores = [alignment.log_prob[frames] for frames in said]
    first, last = [float(frames[0]) for frames in said], [float(frames[-1]) + 1 for frames in said]
    peak = [int(frames[score.argmax()]) for frames, score in zip(said, scores, strict=True)]
    start, end = list(first), list(last)
    if extent != "path":
        if extent == "until_next":
            edges = first[1:]
        elif extent == "since_last":
            edges = last[:-1]
        else:
            halves = [(one + other + 1) / 2 for one, other in pairwise(peak)]
            # Nothing is left to halve where the path goes from one symbol to the other without a blank.
            edges = [min(max(half, e), s) for half, e, s in zip(halves, last[:-1], first[1:], strict=True)]
        start = [first[0] if extent == "until_next" else 0.0, *edges]
        end = [*edges, last[-1] if extent == "since_last" else float(len(alignment.position))]
        for index, symbol in enumerate(alignment.targets):
            if symbol == space:
                boundary = (start[index] + end[index]) / 2
                if index > 0:
                    end[index - 1] = boundary
                if index + 1 < count:
                    start[index + 1] = boundary
                start[index] = end[index] = boundary
        start = [max(s, min(f, p + 0.5 - reach)) for s, f, p in zip(start, first, peak, strict=True)]
        ends = zip(start, end, last, peak, strict=True)
        end = [max(s, min(e, max(n, p + 0.5 + reach))) for s, e, n, p in ends]
    return [
        Extent(symbol, s, e, p, float(score.mean()))
        for symbol, s, e, p, score in zip(alignment.targets, start, end, peak, scores, strict=True)
    ]
