"""Beam search with an attention decoder, lengths normalised and frames covered (Wu et al. 2016, section 7).

With `Y` the tokens of a finished hypothesis, its end among them, `|Y|` how many they are, and `p_ij` the attention that
token `j` paid to frame `i`, a hypothesis is worth (equation 14)

    s(Y) = log P(Y | X) / lp(Y) + cp(Y)
    lp(Y) = (5 + |Y|)^α / (5 + 1)^α
    cp(Y) = β Σ_i log min(Σ_j p_ij, 1)

α is `length_normalisation` (0 leaves log P as it is), β `coverage`. All hypotheses still open after a step are equally
long; they are ranked by log P, and `s` ranks those that have ended. The search of an utterance goes on until no open
hypothesis can come before the best that have ended.
"""

from __future__ import annotations

import heapq
import math
from typing import Any, Protocol

import torch
from torch import Tensor

from otoscope.base import BadInput, BadOption
from otoscope.learn.beam import NORMALISED, Hypothesis, Text, check_beam

BEAM = 8
# Attention a frame has had at least: one that was never looked at would make any hypothesis worthless.
LEAST_COVERAGE = 1e-6


class Memory(Protocol):
    """What a decoder keeps of each hypothesis between two steps; every tensor in it has hypotheses as first axis."""

    def select(self, index: Tensor) -> Any:
        """The memory of the hypotheses `index`, `(hypothesis,)`, which may name one several times or not at all."""


class Decoder(Protocol):
    """An attention decoder, one token at a time."""

    def start(self, states: Tensor, lengths: Tensor) -> Any:
        """The memory before the first token, from the encoder's states `(batch, frame, unit)` and their lengths."""

    def step(self, tokens: Tensor, memory: Any) -> tuple[Tensor, Any, Tensor]:
        """What follows `tokens` `(batch,)`: log-probabilities `(batch, symbol)`; memory; attention `(batch, frame)`."""


def length_penalty(tokens: int, alpha: float) -> float:
    """`lp` for that many tokens, the end included."""
    return float(((5 + tokens) / 6) ** alpha)


def coverage_penalty(attention: Tensor, lengths: Tensor, beta: float) -> Tensor:
    """`cp` of attention summed over tokens `(hypothesis, frame)`, valid for `lengths` `(hypothesis,)` frames."""
    frames = torch.arange(attention.shape[1], device=attention.device) < lengths[:, None]
    seen = attention.clamp(LEAST_COVERAGE, 1).log()
    return beta * (seen * frames).sum(1)


@torch.no_grad()
def attention_search(
    decoder: Decoder,
    states: Tensor,
    lengths: Tensor,
    *,
    end: int,
    begin: int | None = None,
    beam: int = BEAM,
    nbest: int = 1,
    length_normalisation: float = 0.6,
    coverage: float = 0.0,
    limit: int | None = None,
    text: Text | None = None,
) -> list[list[Hypothesis]]:
    """Decode a batch; the hypotheses of all its utterances go through the decoder together.

    Args:
        decoder: see `Decoder`.
        states: the encoder's, `(batch, frame, unit)`.
        lengths: valid frames of each utterance, `(batch,)`.
        end: the symbol that ends a sentence.
        begin: the symbol that begins one, `end` unless given.
        beam: how many hypotheses of an utterance go on after each step.
        nbest: how many to return of each utterance, `beam` at most.
        length_normalisation: α, from 0 to 1.
        coverage: β, 0 or more.
        limit: tokens of the longest sentence, the end not among them; as many as the utterance has frames unless given.
            After the last only the end may follow.
        text: symbol numbers to text; hypotheses have none unless given.

    Returns:
        For each utterance its hypotheses, best first: tokens without the end, and `s` as score. An utterance without
        frames has one without tokens, of score 0. One whose open hypotheses all come to probability 0 has none.

    Raises:
        BadInput: log-probabilities that are none.
        BadOption: an option out of its range.
    """
    check_beam(beam, nbest)
    if nbest > beam:
        raise BadOption("more hypotheses are wanted than are kept", got=f"nbest={nbest}", wanted=f"at most beam={beam}")
    if not (0 <= length_normalisation <= 1 and 0 <= coverage < math.inf and (limit is None or limit >= 0)):
        raise BadOption(
            "these settings of the attention search cannot be",
            got=f"length_normalisation={length_normalisation}, coverage={coverage}, limit={limit}",
            wanted="length_normalisation from 0 to 1, coverage and limit 0 or more",
        )
    text = text or (lambda ids: "")
    found: list[list[Hypothesis]] = [[Hypothesis((), 0.0, text(()))] for _ in range(len(states))]
    spoken = (lengths > 0).nonzero().flatten()
    if len(spoken):
        limits = lengths[spoken].tolist() if limit is None else [limit] * len(spoken)
        search = _Search(decoder, states[spoken], lengths[spoken], limits, end, beam, nbest)
        search.alpha, search.beta = length_normalisation, coverage
        search.run(end if begin is None else begin)
        for index, finished in zip(spoken.tolist(), search.finished, strict=True):
            ranked = sorted(finished, key=lambda entry: (-entry[0], entry[1]))
            found[index] = [Hypothesis(tokens, score, text(tokens)) for score, tokens in ranked]
    return found


class _Search:
    """The open hypotheses of all utterances as a grid `(utterance, place)`, flattened where the decoder sees them."""

    alpha = beta = 0.0

    def __init__(
        self, decoder: Decoder, states: Tensor, lengths: Tensor, limits: list[int], end: int, beam: int, nbest: int
    ):
        self.decoder, self.lengths, self.limits, self.end, self.beam = decoder, lengths, limits, end, beam
        self.nbest = nbest
        self.finished: list[list[tuple[float, tuple[int, ...]]]] = [[] for _ in limits]
        self.open = list(range(len(limits)))
        self.memory = decoder.start(states, lengths)
        self.scores = torch.zeros(len(limits), 1, dtype=torch.float64, device=states.device)
        self.tokens: list[list[tuple[int, ...]]] = [[()] for _ in limits]
        self.seen = torch.zeros(len(limits), states.shape[1], dtype=torch.float64, device=states.device)

    def run(self, begin: int) -> None:
        """Step until every utterance is done."""
        latest = torch.full((len(self.open),), begin, dtype=torch.long, device=self.scores.device)
        length = 0
        while self.open:
            length += 1
            values, memory, attention = self.decoder.step(latest, self.memory)
            if length == 1:
                require_normalised(values)
            latest = self._advance(values.double(), memory, attention, length)

    def _advance(self, values: Tensor, memory: Any, attention: Tensor, length: int) -> Tensor:
        """Extend every hypothesis by one token, the `length`-th, and keep the best; returns the new latest tokens."""
        utterances, places = self.scores.shape
        width = values.shape[1]
        full = torch.tensor([self.limits[index] < length for index in self.open], device=values.device)
        if full.any():
            # Only the end may follow.
            ended = values[:, self.end].clone()
            rows = full.repeat_interleave(places)
            values = values.masked_fill(rows[:, None], -math.inf)
            values[:, self.end] = ended
        if self.beta:
            self.seen = self.seen + attention
        totals = (self.scores.reshape(-1, 1) + values).reshape(utterances, places * width)
        # Twice as many as may go on, since those that end leave a place for another.
        best, where = totals.topk(min(2 * self.beam, places * width), dim=1)
        kept: list[list[tuple[float, int, int]]] = []
        ends: list[tuple[int, float, int]] = []
        for row, (scores, spots) in enumerate(zip(best.tolist(), where.tolist(), strict=True)):
            going: list[tuple[float, int, int]] = []
            if math.isnan(scores[0]):
                raise BadInput(
                    "the decoder gives values that are no numbers", got=f"at token {length}", wanted="numbers"
                )
            for rank, (score, spot) in enumerate(zip(scores, spots, strict=True)):
                place, token = divmod(spot, width)
                if score == -math.inf or len(going) == self.beam:
                    break
                if token != self.end:
                    going.append((score, place, token))
                elif rank < self.beam:
                    ends.append((row, score, place))
            kept.append(going)
        self._finish(ends, places, length)
        return self._select(kept, memory, places, length)

    def _finish(self, ends: list[tuple[int, float, int]], places: int, length: int) -> None:
        """Score the hypotheses that ended as `(row, log P, place)`."""
        if not ends:
            return
        covered = [0.0] * len(ends)
        if self.beta:
            rows = torch.tensor([row * places + place for row, _, place in ends], device=self.seen.device)
            owners = torch.tensor([self.open[row] for row, _, _ in ends], device=self.seen.device)
            covered = coverage_penalty(self.seen[rows], self.lengths[owners], self.beta).tolist()
        penalty = length_penalty(length, self.alpha)
        for (row, score, place), cover in zip(ends, covered, strict=True):
            heap = self.finished[self.open[row]]
            entry = (score / penalty + cover, self.tokens[row][place])
            if len(heap) < self.nbest:
                heapq.heappush(heap, entry)
            else:
                heapq.heappushpop(heap, entry)

    def _select(self, kept: list[list[tuple[float, int, int]]], memory: Any, places: int, length: int) -> Tensor:
        """Go on with the hypotheses `(log P, place, token)` of each utterance that is not done."""
        going = [row for row, entries in enumerate(kept) if entries and not self._done(row, entries[0][0], length)]
        width = max((len(kept[row]) for row in going), default=0)
        # Rows shorter than the grid are filled with hypotheses of probability 0.
        grid = [kept[row] + [(-math.inf, 0, self.end)] * (width - len(kept[row])) for row in going]
        tokens = [
            [(*self.tokens[row][place], token) for _, place, token in entries]
            for row, entries in zip(going, grid, strict=True)
        ]
        device = self.scores.device
        index = torch.tensor(
            [row * places + place for row, entries in zip(going, grid, strict=True) for _, place, _ in entries],
            dtype=torch.long,
            device=device,
        )
        self.scores = torch.tensor(
            [[score for score, _, _ in entries] for entries in grid], dtype=torch.float64, device=device
        )
        self.tokens, self.open = tokens, [self.open[row] for row in going]
        if not going:
            return index
        self.memory = memory.select(index)
        if self.beta:
            self.seen = self.seen[index]
        return torch.tensor([token for entries in grid for _, _, token in entries], dtype=torch.long, device=device)

    def _done(self, row: int, best: float, length: int) -> bool:
        """Whether no open hypothesis, the best at `best`, can still come before those that have ended.

        Probabilities fall with every token, coverage is 0 at best, and no penalty divides by more than the longest's.
        """
        heap = self.finished[self.open[row]]
        longest = length_penalty(max(self.limits[self.open[row]], length) + 1, self.alpha)
        return len(heap) == self.nbest and heap[0][0] >= best / longest


def require_normalised(values: Tensor) -> None:
    """Refuse what are no log-probabilities `(row, symbol)`.

    Raises:
        BadInput: naming what they add up to.
    """
    sums = values.double().exp().sum(1)
    wrong = (~((sums - 1).abs() <= NORMALISED)).nonzero().flatten()
    if len(wrong):
        raise BadInput(
            "the decoder gives no log-probabilities",
            got=f"they add up to {float(sums[wrong[0]]):.4g}",
            wanted="1 over the symbols",
            remedy="take the log_softmax of its logits, and look for values that are not finite",
        )
