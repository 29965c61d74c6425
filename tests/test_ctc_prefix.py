"""What CTC gives prefixes, against every path written out; the joint search against every sentence."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict

import pytest
import torch
from test_attention_search import Decoder, utterances, worth
from torch import Tensor

from otoscope.base import BadInput, BadOption
from otoscope.learn.attention_search import attention_search
from otoscope.learn.beam import ctc_beam
from otoscope.learn.ctc_prefix import CtcPrefix

BLANK, A, B, END = range(4)
LENGTHS = torch.tensor([5, 1, 3])


def posteriors(seed: int, rows: int = 3, frames: int = 5, spread: float = 2.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(rows, frames, 3, generator=generator, dtype=torch.double) * spread).log_softmax(2)


def every_sentence(values: Tensor) -> dict[tuple[int, ...], float]:
    """The probability of each sentence `(frame, symbol)` gives, all paths one by one."""
    found: dict[tuple[int, ...], float] = defaultdict(float)
    for path in itertools.product(range(3), repeat=len(values)):
        sentence = tuple(symbol for symbol, _ in itertools.groupby(path) if symbol != BLANK)
        found[sentence] += math.exp(sum(float(values[frame, symbol]) for frame, symbol in enumerate(path)))
    return found


def prefix_mass(sentences: dict[tuple[int, ...], float], prefix: tuple[int, ...]) -> float:
    return sum(value for sentence, value in sentences.items() if sentence[: len(prefix)] == prefix)


def test_prefixes_have_the_mass_of_all_their_sentences():
    values = posteriors(0)
    sums = [every_sentence(row[:length]) for row, length in zip(values, LENGTHS.tolist(), strict=True)]
    ctc = CtcPrefix(values, LENGTHS, BLANK, END)
    for prefix in (prefix for size in range(5) for prefix in itertools.product((A, B), repeat=size)):
        memory, total = ctc.start(torch.arange(3)), torch.zeros(3, 1, dtype=torch.double)
        for token in (END, *prefix):
            total = total if token == END else total[:, token, None]
            gained, memory = ctc.step(torch.full((3,), token), memory)
            total = total + gained
        for row, sentences in enumerate(sums):
            expected = [0.0, prefix_mass(sentences, (*prefix, A)), prefix_mass(sentences, (*prefix, B))]
            assert total[row].exp().tolist() == pytest.approx([*expected, sentences.get(prefix, 0.0)], rel=1e-9)


def test_a_long_sentence_has_torchs_ctc_likelihood():
    """Far below what a float holds, with certain frames and frames where symbols are impossible."""
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(1, 900, 3, generator=generator, dtype=torch.double) * 6
    logits[0, 100:120] = torch.tensor([0.0, 0.0, -math.inf])
    values = logits.log_softmax(2)
    sentence = torch.randint(1, 3, (1, 200), generator=generator)
    ctc = CtcPrefix(values, torch.tensor([900]), BLANK, END)
    memory, total = ctc.start(torch.tensor([0])), 0.0
    for token, after in itertools.pairwise([END, *sentence[0].tolist(), END]):
        gained, memory = ctc.step(torch.tensor([token]), memory)
        total += float(gained[0, after])
    loss = torch.nn.functional.ctc_loss(
        values.transpose(0, 1), sentence, torch.tensor([900]), torch.tensor([200]), reduction="sum"
    )
    assert total < -800
    assert total == pytest.approx(-float(loss), rel=1e-9)


def test_selected_hypotheses_go_on_as_they_would_have():
    values = posteriors(3, frames=7)
    ctc = CtcPrefix(values, torch.tensor([7, 4, 6]), BLANK, END)
    _, memory = ctc.step(torch.full((3,), END), ctc.start(torch.arange(3)))
    _, grid = ctc.step(torch.tensor([A, B, A, A, B, B]), memory.select(torch.tensor([0, 0, 1, 1, 2, 2])))
    before = {name: value.clone() for name, value in grid.own.items()}
    whole, _ = ctc.step(torch.tensor([A, A, B, A, B, A]), grid)
    assert all(torch.equal(grid.own[name], value) for name, value in before.items())
    for chosen in ([4, 1, 1], [2, 3], [5, 4, 0, 1], [0]):
        part, _ = ctc.step(torch.tensor([A, A, B, A, B, A])[chosen], grid.select(torch.tensor(chosen)))
        torch.testing.assert_close(part, whole[chosen])


@pytest.mark.parametrize("alpha", [0, 0.6])
@pytest.mark.parametrize("weight", [0.3, 0.8])
def test_the_joint_search_finds_the_best_of_all_sentences(weight, alpha):
    states, lengths = utterances([5, 1, 3])
    decoder, values = Decoder(seed=1), posteriors(2)
    ctc = CtcPrefix(values, lengths, BLANK, END)
    found = attention_search(
        decoder, states, lengths, end=END, beam=100, nbest=6, length_normalisation=alpha, ctc=ctc, ctc_weight=weight
    )
    plain = attention_search(decoder, states, lengths, end=END, beam=100, nbest=6, length_normalisation=alpha)
    assert [each[0].tokens for each in found] != [each[0].tokens for each in plain]
    for row, (length, hypotheses) in enumerate(zip(lengths.tolist(), found, strict=True)):
        expected = {
            sentence: (1 - weight) * worth(decoder, states[row, :length], sentence, alpha, 0.0)
            + weight * math.log(mass) / ((6 + len(sentence)) / 6) ** alpha
            for sentence, mass in every_sentence(values[row, :length]).items()
        }
        best = sorted(expected, key=lambda sentence: -expected[sentence])[:6]
        assert [each.tokens for each in hypotheses] == best
        assert [each.score for each in hypotheses] == pytest.approx([expected[sentence] for sentence in best])


def test_what_ctc_gives_the_end_says_nothing():
    values = posteriors(4)
    wide = torch.cat([values + math.log(0.98), torch.full((3, 5, 1), math.log(0.02), dtype=torch.double)], 2)
    one, other = (CtcPrefix(each, LENGTHS, BLANK, END) for each in (wide, values))
    states = [each.start(torch.arange(3)) for each in (one, other)]
    for token in (END, A, B):
        found = [ctc.step(torch.full((3,), token), memory) for ctc, memory in zip((one, other), states, strict=True)]
        states = [memory for _, memory in found]
    # One frame does not hold two symbols: the second utterance has no such sentence.
    ends = [memory.own["following"][[0, 2], END] for memory in states]
    torch.testing.assert_close(ends[0] - ends[1], LENGTHS[[0, 2]].double() * math.log(0.98))


def test_nearly_all_weight_on_ctc_is_the_search_over_frames():
    states, lengths = utterances([9, 6])
    values = posteriors(5, rows=2, frames=9)
    ctc = CtcPrefix(values, lengths, BLANK, END)
    options = {"beam": 30, "length_normalisation": 0, "ctc_weight": 1 - 1e-9}
    found = attention_search(Decoder(seed=1), states, lengths, end=END, ctc=ctc, **options)
    for row, length in enumerate(lengths.tolist()):
        best = ctc_beam(values[row, :length], BLANK, beam=10**5)[0]
        assert found[row][0].tokens == best.tokens
        assert found[row][0].score == pytest.approx(best.score, abs=1e-6)


def test_the_joint_search_stops_early_and_loses_nothing():
    """Five answers are wanted of the second search, which goes on for longer."""
    states, lengths = utterances([12] * 4, seed=3)
    values = posteriors(6, rows=4, frames=12, spread=4)
    settings = {"end": END, "beam": 5, "ctc_weight": 0.5, "length_normalisation": 0.6}
    decoder = Decoder(seed=2, ending=1.0)
    alone = attention_search(decoder, states, lengths, ctc=CtcPrefix(values, lengths, BLANK, END), **settings)
    assert decoder.steps < 13
    all_of_them = attention_search(
        Decoder(seed=2, ending=1.0), states, lengths, ctc=CtcPrefix(values, lengths, BLANK, END), nbest=5, **settings
    )
    assert [each[0] for each in alone] == [each[0] for each in all_of_them]


def test_what_does_not_fit():
    values, (states, lengths) = posteriors(0), utterances([5, 1, 3])
    with pytest.raises(BadInput, match="CTC gives no log-probabilities"):
        CtcPrefix(values * 2, LENGTHS, BLANK, END)
    with pytest.raises(BadInput, match="add up to nan"):
        CtcPrefix(values * math.nan, LENGTHS, BLANK, END)
    with pytest.raises(BadOption, match="cannot be CTC's blank"):
        CtcPrefix(values, LENGTHS, BLANK, BLANK)
    ctc = CtcPrefix(values, LENGTHS, BLANK, END)
    with pytest.raises(BadInput, match="have not the same symbols"):
        attention_search(Decoder(seed=1, symbols=5), states, lengths, end=END, ctc=ctc)
    for weight in (0.0, 1.0, math.nan):
        with pytest.raises(BadOption, match="share of the score"):
            attention_search(Decoder(seed=1), states, lengths, end=END, ctc=ctc, ctc_weight=weight)
