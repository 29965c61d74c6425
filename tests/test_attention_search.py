"""Attention beam search against every sentence written out, with a small made-up decoder."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from otoscope.base import BadInput, BadOption
from otoscope.learn.attention_search import attention_search, coverage_penalty, length_penalty
from otoscope.learn.beam import Hypothesis

BLANK, A, B, END = range(4)


class Memory(NamedTuple):
    hidden: Tensor
    states: Tensor
    valid: Tensor

    def select(self, index: Tensor) -> Memory:
        return Memory(*(part[index] for part in self))


class Decoder:
    """A recurrent decoder with random weights, attending by scalar products; it counts its steps."""

    def __init__(self, seed: int, units: int = 5, symbols: int = 4, ending: float = 0.0):
        generator = torch.Generator().manual_seed(seed)

        def weights(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        self.inner, self.embedding, self.outer = weights(units, units), weights(symbols, units), weights(units, symbols)
        self.ending, self.steps = ending, 0

    def start(self, states: Tensor, lengths: Tensor) -> Memory:
        valid = torch.arange(states.shape[1]) < lengths[:, None]
        return Memory(torch.zeros(len(states), states.shape[2], dtype=torch.float64), states, valid)

    def step(self, tokens: Tensor, memory: Memory) -> tuple[Tensor, Memory, Tensor]:
        self.steps += 1
        scores = torch.einsum("bu,bfu->bf", memory.hidden + self.embedding[tokens], memory.states)
        attention = scores.masked_fill(~memory.valid, -math.inf).softmax(1)
        context = torch.einsum("bf,bfu->bu", attention, memory.states)
        hidden = torch.tanh(memory.hidden @ self.inner + self.embedding[tokens] + context)
        logits = hidden @ self.outer
        logits[:, BLANK] = -math.inf
        logits[:, END] += self.ending
        return logits.log_softmax(1), memory._replace(hidden=hidden), attention


def utterances(lengths: list[int], seed: int = 0, units: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(len(lengths), max(lengths), units, generator=generator, dtype=torch.float64)
    return states, torch.tensor(lengths)


def worth(decoder: Decoder, states: Tensor, sentence: tuple[int, ...], alpha: float, beta: float) -> float:
    """Equation 14 of Wu et al. 2016 for one sentence, its end included, from the states of its utterance alone."""
    memory = decoder.start(states[None], torch.tensor([len(states)]))
    before, total, seen = END, 0.0, [0.0] * len(states)
    for token in (*sentence, END):
        values, memory, attention = decoder.step(torch.tensor([before]), memory)
        total += float(values[0, token])
        seen = [old + new for old, new in zip(seen, attention[0].tolist(), strict=True)]
        before = token
    covered = beta * sum(math.log(min(frame, 1.0)) for frame in seen)
    return total / ((5 + len(sentence) + 1) ** alpha / (5 + 1) ** alpha) + covered


@pytest.mark.parametrize(("alpha", "beta"), [(0, 0), (0.6, 0), (1, 0), (0, 0.3), (0.6, 0.2)])
def test_a_beam_as_wide_as_all_sentences_finds_the_best_of_all(alpha, beta):
    states, lengths = utterances([4, 2, 3])
    decoder = Decoder(seed=1)
    settings = {"length_normalisation": alpha, "coverage": beta}
    found = attention_search(decoder, states, lengths, end=END, beam=100, nbest=8, **settings)
    for row, (length, hypotheses) in enumerate(zip(lengths.tolist(), found, strict=True)):
        expected = {
            sentence: worth(decoder, states[row, :length], sentence, alpha, beta)
            for size in range(length + 1)
            for sentence in itertools.product((A, B), repeat=size)
        }
        best = sorted(expected, key=lambda sentence: -expected[sentence])[:8]
        assert [each.tokens for each in hypotheses] == best
        assert [each.score for each in hypotheses] == pytest.approx([expected[sentence] for sentence in best])


def test_the_settings_matter():
    states, lengths = utterances([6] * 12, seed=3)
    decoder = Decoder(seed=2)

    def mean_length(**settings: float) -> float:
        found = attention_search(decoder, states, lengths, end=END, beam=200, **settings)
        return sum(len(hypotheses[0].tokens) for hypotheses in found) / len(found)

    plain = mean_length(length_normalisation=0)
    assert mean_length(length_normalisation=1) > plain
    assert mean_length(length_normalisation=0, coverage=1) > plain


def test_the_formulas_by_hand():
    assert length_penalty(1, 0.6) == 1
    assert length_penalty(7, 0.5) == pytest.approx(math.sqrt(2))
    assert length_penalty(9, 0) == 1
    attention = torch.tensor([[0.5, 2.0, 0.25, 0.1], [1.0, 1.0, 0.0, 9.0]], dtype=torch.float64)
    found = coverage_penalty(attention, torch.tensor([3, 4]), 0.2)
    assert found.tolist() == pytest.approx([0.2 * math.log(0.5 * 0.25), 0.2 * math.log(1e-6)])


def test_a_beam_of_one_takes_the_best_token_at_each_step():
    states, lengths = utterances([6, 3, 6, 5], seed=4)
    decoder = Decoder(seed=5)
    found = attention_search(decoder, states, lengths, end=END, beam=1)
    for row, length in enumerate(lengths.tolist()):
        memory, token, sentence = decoder.start(states[row : row + 1], lengths[row : row + 1]), END, []
        while len(sentence) < length:
            values, memory, _ = decoder.step(torch.tensor([token]), memory)
            token = int(values.argmax())
            if token == END:
                break
            sentence.append(token)
        assert found[row][0].tokens == tuple(sentence)


def narrow(decoder: Decoder, states: Tensor, beam: int, alpha: float) -> list[tuple[int, ...]]:
    """The same search one hypothesis at a time, without an early end: what has ended, best first."""
    going: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    ended: list[tuple[float, tuple[int, ...]]] = []
    for size in range(len(states) + 1):
        candidates = []
        for score, sentence in going:
            memory, before = decoder.start(states[None], torch.tensor([len(states)])), END
            for token in (*sentence, None):
                values, memory, _ = decoder.step(torch.tensor([before]), memory)
                before = token if token is not None else END
            allowed = (A, B, END) if size < len(states) else (END,)
            candidates += [(score + float(values[0, token]), (*sentence, token)) for token in allowed]
        candidates.sort(reverse=True)
        penalty = ((5 + size + 1) / 6) ** alpha
        ended += [(score / penalty, sentence[:-1]) for score, sentence in candidates[:beam] if sentence[-1] == END]
        going = [candidate for candidate in candidates if candidate[1][-1] != END][:beam]
    return [sentence for _, sentence in sorted(ended, reverse=True)]


@pytest.mark.parametrize("beam", [1, 2, 3])
def test_a_narrow_beam_keeps_what_a_plain_search_keeps(beam):
    states, lengths = utterances([5, 6, 3], seed=6)
    for seed in range(8):
        decoder = Decoder(seed=seed, ending=seed % 3)
        found = attention_search(decoder, states, lengths, end=END, beam=beam, nbest=beam, length_normalisation=1)
        for row, length in enumerate(lengths.tolist()):
            assert [each.tokens for each in found[row]] == narrow(decoder, states[row, :length], beam, 1)[:beam]


class Table:
    """A decoder that looks up what follows the symbols so far."""

    def __init__(self, table: dict[tuple[int, ...], list[float]]):
        self.table = table

    def start(self, states: Tensor, lengths: Tensor) -> Memory:
        return Memory(torch.zeros(len(states), 0, dtype=torch.long), states, lengths)

    def step(self, tokens: Tensor, memory: Memory) -> tuple[Tensor, Memory, Tensor]:
        before = torch.cat([memory.hidden, tokens[:, None]], 1)
        values = torch.tensor([self.table[tuple(row[1:])] for row in before.tolist()]).log()
        return values, memory._replace(hidden=before), memory.states[:, :, 0]


def test_a_sentence_ends_only_where_its_end_is_among_the_best():
    last = [0.0, 0.5, 0.49, 0.01]
    table = {
        (): [0.0, 0.5, 0.48, 0.02],
        (A,): [0.0, 0.45, 0.05, 0.5],
        (B,): [0.0, 0.28, 0.27, 0.45],
        **{(first, second): last for first in (A, B) for second in (A, B)},
    }
    states, lengths = utterances([2])
    settings = {"end": END, "beam": 2, "nbest": 2, "length_normalisation": 0}
    (found,) = attention_search(Table(table), states, lengths, **settings)
    # The end after B, at 0.216, is third after A and its end, 0.25, and A A, 0.225.
    assert [each.tokens for each in found] == [(A,), (A, A)]
    assert [math.exp(each.score) for each in found] == pytest.approx([0.25, 0.00225])


def test_a_batch_gives_what_each_utterance_gives_alone():
    states, lengths = utterances([7, 2, 5, 1], seed=7)
    decoder = Decoder(seed=8)
    settings = {"end": END, "beam": 3, "nbest": 3, "coverage": 0.1}
    together = attention_search(decoder, states, lengths, **settings)
    for row, length in enumerate(lengths.tolist()):
        (alone,) = attention_search(decoder, states[row : row + 1, :length], lengths[row : row + 1], **settings)
        assert [each.tokens for each in together[row]] == [each.tokens for each in alone]
        assert [each.score for each in together[row]] == pytest.approx([each.score for each in alone])


def test_hypotheses_go_through_the_decoder_together_and_no_longer_than_needed():
    states, lengths = utterances([40, 40, 30], seed=9)
    decoder = Decoder(seed=10, ending=-60)
    found = attention_search(decoder, states, lengths, end=END, beam=4)
    assert decoder.steps == 41
    assert [len(hypotheses[0].tokens) for hypotheses in found] == [40, 40, 30]
    decoder = Decoder(seed=10, ending=60)
    assert attention_search(decoder, states, lengths, end=END, beam=4)[0][0].tokens == ()
    assert decoder.steps == 1


def test_limits_and_utterances_without_frames():
    states, lengths = utterances([5, 0, 3], seed=11)
    decoder = Decoder(seed=12, ending=-9)
    found = attention_search(decoder, states, torch.tensor([5, 0, 3]), end=END, limit=2, text=str)
    assert found[1] == [Hypothesis((), 0.0, "()")]
    assert [len(found[row][0].tokens) for row in (0, 2)] == [2, 2]
    assert found[0][0].text == str(found[0][0].tokens)
    (only,) = attention_search(decoder, states[:1], lengths[:1], end=END, limit=0, beam=9, nbest=9)
    assert only == [Hypothesis((), pytest.approx(worth(decoder, states[0], (), 0, 0)), "")]
    assert attention_search(decoder, states[1:2], lengths[1:2], end=END) == [[Hypothesis((), 0.0, "")]]
    assert attention_search(decoder, states[:0], lengths[:0], end=END) == []


def test_another_symbol_may_begin():
    states, lengths = utterances([4], seed=13)
    decoder = Decoder(seed=14)
    usual, other = (attention_search(decoder, states, lengths, end=END, begin=begin) for begin in (END, A))
    assert usual == attention_search(decoder, states, lengths, end=END)
    assert usual[0][0].score != other[0][0].score


def test_what_a_decoder_must_not_give(monkeypatch):
    states, lengths = utterances([3], seed=15)
    decoder = Decoder(seed=16, ending=-9)
    sound = decoder.step
    monkeypatch.setattr(decoder, "step", lambda *given: (sound(*given)[0] + 1, *sound(*given)[1:]))
    with pytest.raises(BadInput, match="no log-probabilities"):
        attention_search(decoder, states, lengths, end=END)
    monkeypatch.setattr(decoder, "step", lambda *given: (sound(*given)[0] * math.nan, *sound(*given)[1:]))
    with pytest.raises(BadInput, match="add up to nan"):
        attention_search(decoder, states, lengths, end=END)

    def late(tokens: Tensor, memory: Memory) -> tuple[Tensor, Memory, Tensor]:
        values, memory, attention = sound(tokens, memory)
        return (values * math.nan if memory.hidden.shape[0] > 1 else values), memory, attention

    monkeypatch.setattr(decoder, "step", late)
    with pytest.raises(BadInput, match="at token 2"):
        attention_search(decoder, states, lengths, end=END)


@pytest.mark.parametrize(
    "options",
    [{"beam": 0}, {"beam": 2, "nbest": 3}, {"length_normalisation": 1.5}, {"coverage": -1.0}, {"limit": -1}],
)
def test_options_out_of_range(options):
    states, lengths = utterances([3])
    with pytest.raises(BadOption, match=f"{list(options)[-1]}="):
        attention_search(Decoder(seed=1), states, lengths, end=END, **options)
