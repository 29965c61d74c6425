"""Beam search with an attention decoder, lengths normalised and frames covered (Wu et al. 2016, section 7).

With `Y` the tokens of a finished hypothesis, its end among them, `|Y|` how many they are, and `p_ij` the attention that
token `j` paid to frame `i`, a hypothesis is worth (equation 14)

    s(Y) = log P(Y | X) / lp(Y) + cp(Y)
    lp(Y) = (5 + |Y|)^α / (5 + 1)^α
    cp(Y) = β Σ_i log min(Σ_j p_ij, 1)

α is `length_normalisation` (0 leaves log P as it is), β `coverage`. All hypotheses still open after a step are equally
long; they are ranked by log P, and `s` ranks those that have ended. The search of an utterance goes on until no open
hypothesis can come before the best that have ended.

Where CTC has been trained beside the decoder, both can search together (Watanabe et al. 2017; Hori et al. 2017). With
`ψ(Y)` what CTC gives all sentences that begin with `Y`, or of an ended one its own probability, and `λ` the
`ctc_weight`, in place of log P stands

    (1 - λ) log P(Y | X) + λ log ψ(Y)
"""

from __future__ import annotations

import heapq
import math
from typing import Any, Protocol

import torch
from torch import Tensor

from otoscope.base import BadInput, BadOption
from otoscope.learn.beam import Hypothesis, Text, check_beam
from otoscope.learn.ctc_prefix import CtcPrefix
from otoscope.learn.decode import require_normalised
from otoscope.learn.decoder_memory import DecoderMemory

BEAM = 8
CTC_WEIGHT = 0.2
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
    ctc: CtcPrefix | None = None,
    ctc_weight: float = CTC_WEIGHT,
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
        ctc: the posteriors of the same utterances, for the joint search.
        ctc_weight: λ, above 0 and below 1; says nothing without `ctc`.

    Returns:
        For each utterance its hypotheses, best first: tokens without the end, and `s` as score. An utterance without
        frames has one without tokens, of score 0. One whose open hypotheses all come to probability 0 has none.

    Raises:
        BadInput: log-probabilities that are none; decoder and CTC have not the same symbols.
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
    if ctc is not None and not 0 < ctc_weight < 1:
        raise BadOption("ctc_weight is CTC's share of the score", got=ctc_weight, wanted="above 0 and below 1")
    text = text or (lambda ids: "")
    found: list[list[Hypothesis]] = [[Hypothesis((), 0.0, text(()))] for _ in range(len(states))]
    spoken = (lengths > 0).nonzero().flatten()
    if len(spoken):
        limits = lengths[spoken].tolist() if limit is None else [limit] * len(spoken)
        search = _Search(decoder, states[spoken], lengths[spoken], limits, end, beam, nbest)
        search.alpha, search.beta = length_normalisation, coverage
        if ctc is not None:
            search.ctc, search.weight, search.prefixes = ctc, ctc_weight, ctc.start(spoken)
        search.run(end if begin is None else begin)
        for index, finished in zip(spoken.tolist(), search.finished, strict=True):
            ranked = sorted(finished, key=lambda entry: (-entry[0], entry[1]))
            found[index] = [Hypothesis(tokens, score, text(tokens)) for score, tokens in ranked]
    return found


class _Search:
    """The open hypotheses of all utterances as a grid `(utterance, place)`, flattened where the decoder sees them."""

    alpha = beta = weight = 0.0
    ctc: CtcPrefix | None = None
    prefixes: DecoderMemory

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
                require_normalised(values, "the decoder")
            values = values.double()
            if self.ctc is not None:
                gained, self.prefixes = self.ctc.step(latest, self.prefixes)
                values = self._joint(values, gained)
            latest = self._advance(values, memory, attention, length)

    def _joint(self, values: Tensor, gained: Tensor) -> Tensor:
        """Decoder and CTC in one, `(hypothesis, symbol)`; like log-probabilities these are at most 0."""
        if values.shape != gained.shape:
            raise BadInput(
                "the decoder and CTC have not the same symbols",
                got=f"{values.shape[1]} and {gained.shape[1]}, the end among them",
                wanted="as many",
            )
        return (1 - self.weight) * values + self.weight * gained

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
        if self.ctc is not None:
            self.prefixes = self.prefixes.select(index)
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
