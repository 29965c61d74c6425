"""CTC beam search against every path written out, against a plain search over dictionaries, and with broken input."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict

import numpy as np
import pytest
import torch
from language_models import LETTERS, WORDS, posteriors

from otoscope.base import BadInput, BadOption
from otoscope.learn.arpa import LN_10, read_arpa
from otoscope.learn.beam import CtcBeam, Hypothesis, ctc_beam
from otoscope.learn.fusion import machine

WIDE = 10**6


def every_path(values: np.ndarray, blank: int) -> dict[tuple[int, ...], float]:
    """The probability of each sequence, summed over all paths one by one."""
    found: dict[tuple[int, ...], float] = defaultdict(float)
    for path in itertools.product(range(values.shape[1]), repeat=len(values)):
        collapsed = tuple(symbol for symbol, _ in itertools.groupby(path) if symbol != blank)
        found[collapsed] += math.exp(sum(values[frame, symbol] for frame, symbol in enumerate(path)))
    return found


def every_text(values: np.ndarray) -> dict[str, float]:
    """The probability of each text over LETTERS, spaces made single."""
    found: dict[str, float] = defaultdict(float)
    for sequence, probability in every_path(values, 0).items():
        found[" ".join("".join(LETTERS[symbol] for symbol in sequence).split())] += probability
    return found


def assert_ranked(found: list[Hypothesis], expected: dict) -> None:
    """The hypotheses are those expected, with their scores, best first."""
    assert {each.tokens: each.score for each in found} == pytest.approx(expected)
    assert [each.score for each in found] == sorted(expected.values(), reverse=True) or len(found) == len(expected)
    assert all(first.score >= second.score for first, second in itertools.pairwise(found))


@pytest.mark.parametrize("blank", [0, 3])
@pytest.mark.parametrize("frames", [1, 2, 5])
def test_a_wide_beam_sums_all_paths(frames, blank):
    values = posteriors(frames, 4, seed=frames)
    found = ctc_beam(values, blank, beam=WIDE)
    assert_ranked(found, {tokens: math.log(value) for tokens, value in every_path(values, blank).items()})
    assert sum(math.exp(each.score) for each in found) == pytest.approx(1)


def test_the_best_text_need_not_be_that_of_the_best_path():
    # Blank is the best of each frame, and yet `a` is likelier: 1 - 0.6 · 0.6.
    values = np.log([[0.6, 0.4], [0.6, 0.4]])
    best, second = ctc_beam(values, 0, symbols=["-", "a"])
    assert (best.text, best.tokens) == ("a", (1,))
    assert math.exp(best.score) == pytest.approx(0.64)
    assert math.exp(second.score) == pytest.approx(0.36)


def test_scores_are_torchs_ctc_likelihoods():
    values = torch.from_numpy(posteriors(9, 4, seed=1, spread=3))
    loss = torch.nn.CTCLoss(blank=0, reduction="none")

    def exact(tokens: tuple[int, ...]) -> float:
        lengths = torch.tensor([9]), torch.tensor([len(tokens)])
        return -float(loss(values[:, None], torch.tensor([tokens]), *lengths))

    for each in ctc_beam(values, 0, beam=WIDE)[::50]:
        assert each.score == pytest.approx(exact(each.tokens))
    # What a narrow beam leaves out is missing from the sums, never too much in them.
    lacks = [exact(each.tokens) - each.score for each in ctc_beam(values, 0, beam=6)]
    assert min(lacks) > -1e-9
    assert 1e-4 < max(lacks) < 1


def plain_search(values: np.ndarray, blank: int, beam: int) -> list[tuple[int, ...]]:
    """Prefix beam search as it is written down in textbooks: tuples, probabilities, dictionaries."""
    prefixes = {(): (1.0, 0.0)}
    for frame in np.exp(values):
        mass: dict[tuple[int, ...], list[float]] = defaultdict(lambda: [0.0, 0.0])
        for prefix, (in_blank, in_symbol) in prefixes.items():
            mass[prefix][0] += (in_blank + in_symbol) * frame[blank]
            for symbol in range(len(frame)):
                if symbol == blank:
                    continue
                if prefix and symbol == prefix[-1]:
                    mass[prefix][1] += in_symbol * frame[symbol]
                    mass[(*prefix, symbol)][1] += in_blank * frame[symbol]
                else:
                    mass[(*prefix, symbol)][1] += (in_blank + in_symbol) * frame[symbol]
        best = sorted(mass.items(), key=lambda item: -sum(item[1]))[:beam]
        prefixes = {prefix: (pair[0], pair[1]) for prefix, pair in best}
    return sorted(prefixes, key=lambda prefix: -sum(prefixes[prefix]))


@pytest.mark.parametrize("beam", [1, 2, 4, 8])
def test_a_narrow_beam_keeps_what_a_plain_search_keeps(beam):
    # Seeds 1, 17 and 22: a prefix comes back into the beam where longer ones have stayed.
    for seed in range(30):
        values = posteriors(30, 4, seed=seed)
        found = ctc_beam(values, 1, beam=beam)
        assert [each.tokens for each in found] == plain_search(values, 1, beam)


def test_a_model_of_characters(character_model):
    values = posteriors(5, 4, seed=2)
    expected = {}
    for sequence, probability in every_path(values, 0).items():
        names = ["|" if symbol == 3 else LETTERS[symbol] for symbol in sequence]
        expected[sequence] = math.log(probability) + 0.7 * character_model.score(names) + 0.3 * len(names)
    found = ctc_beam(values, 0, symbols=LETTERS, beam=WIDE, lm=character_model, lm_weight=0.7, bonus=0.3)
    assert_ranked(found, expected)


def test_symbols_that_a_model_of_characters_lacks_are_unknown_to_it(character_model):
    values = posteriors(3, 5, seed=3)
    found = ctc_beam(values, 0, symbols=[*LETTERS, "z"], beam=WIDE, lm=character_model, lm_units="symbol", lm_weight=1)
    scores = {each.tokens: each.score for each in found}
    assert scores[4,] == pytest.approx(math.log(every_path(values, 0)[4,]) - (100 + 0.4 + 0.8) * LN_10, abs=1)
    assert character_model.score(["z"]) / LN_10 == pytest.approx(-100 - 0.8)


def test_a_model_of_words(word_model):
    values = posteriors(6, 4, seed=4)
    expected = {}
    for text, probability in every_text(values).items():
        spoken = text.split()
        score = math.log(probability) + 0.6 * word_model.score(spoken) + 0.2 * len(spoken)
        expected[tuple(map(LETTERS.index, text))] = score
    found = ctc_beam(values, 0, symbols=LETTERS, beam=WIDE, lm=word_model, lm_weight=0.6, bonus=0.2)
    assert_ranked(found, expected)
    assert " ".join(LETTERS[token] for token in found[0].tokens).replace(" ", "") == found[0].text.replace(" ", "")


@pytest.mark.parametrize("weight", [None, 0.0, 0.6])
def test_a_lexicon_allows_its_words_only(word_model, weight):
    values = posteriors(6, 4, seed=5)
    lexicon = ["ba", "a", "bab"]
    expected = {}
    for text, probability in every_text(values).items():
        spoken = text.split()
        if set(spoken) <= set(lexicon):
            model = word_model.score(spoken) * weight if weight else 0.0
            expected[tuple(map(LETTERS.index, text))] = math.log(probability) + model + 0.2 * len(spoken)
    options = {} if weight is None else {"lm": word_model, "lm_weight": weight}
    found = ctc_beam(values, 0, symbols=LETTERS, beam=WIDE, lexicon=lexicon, bonus=0.2, **options)
    assert_ranked(found, expected)


def test_a_model_of_words_with_pieces(word_model):
    symbols = ["-", "▁a", "▁b", "a", "▁"]
    values = posteriors(5, 5, seed=6)
    expected = {}
    for sequence, probability in every_path(values, 0).items():
        spoken = "".join(symbols[symbol] for symbol in sequence).replace("▁", " ").split()
        expected[sequence] = math.log(probability) + 0.6 * word_model.score(spoken) + 0.2 * len(spoken)
    found = ctc_beam(values, 0, symbols=symbols, beam=WIDE, lm=word_model, lm_weight=0.6, bonus=0.2)
    assert_ranked(found, expected)
    with pytest.raises(BadOption, match="a lexicon wants a symbol that parts words"):
        ctc_beam(values, 0, symbols=symbols, lexicon=["a"])


def test_a_model_changes_the_answer():
    values = np.log([[0.1, 0.5, 0.4, 0.0 + 1e-12]])
    assert ctc_beam(values, 0, symbols=LETTERS)[0].text == "a"
    assert [each.text for each in ctc_beam(values, 0, symbols=LETTERS, lexicon=["b"])] == ["b", ""]


def test_without_a_whole_word_the_beginning_of_one_is_given():
    values = np.log(np.array([[1e-9, 1e-9, 1 - 3e-9, 1e-9]]))
    assert ctc_beam(values, 0, symbols=LETTERS, lexicon=["ba"], beam=1)[0].text == "b"
    assert ctc_beam(values, 0, symbols=LETTERS, lexicon=["ba"], beam=2)[0].text == ""


def test_sentence_marks_are_never_written():
    values = np.log([[0.1, 0.2, 0.7]])
    assert {each.text for each in ctc_beam(values, 0, symbols=["-", "a", "</s>"])} == {"a", ""}


def test_one_search_for_many_utterances_forgets_each(word_model, monkeypatch):
    utterances = [posteriors(frames, 4, seed=frames) for frames in (9, 1, 6, 9)]
    for most in (2**25, 0):
        monkeypatch.setattr("otoscope.learn.fusion.MOST_BYTES", most)
        search = CtcBeam(LETTERS, 0, beam=5, lm=word_model, nbest=3)
        for values in utterances:
            alone = ctc_beam(values, 0, symbols=LETTERS, beam=5, lm=word_model, nbest=3)
            assert search(torch.from_numpy(values)) == alone
            assert len(alone) == 3


def test_states_do_not_pile_up(word_model, monkeypatch):
    found = machine(LETTERS, word_model)
    for size in range(200):
        state = 0
        for letter in f"{size:b}":
            state = found.step(state, 1 + int(letter))
    long = len(found.rows)
    found.begin()
    assert len(found.rows) == long > 64
    monkeypatch.setattr("otoscope.learn.fusion.MOST_BYTES", 1000)
    found.begin()
    assert len(found.rows) == 64


def test_an_utterance_without_frames(word_model):
    nothing = np.zeros((0, 4))
    assert ctc_beam(nothing, 0) == [Hypothesis((), 0.0, "")]
    (only,) = ctc_beam(nothing, 0, symbols=LETTERS, lm=word_model, lm_weight=1)
    assert only == ((), pytest.approx((-0.4 - 0.8) * LN_10), "")


def test_approximations():
    values = posteriors(40, 4, seed=7, spread=4)
    exact = ctc_beam(values, 0, beam=50)
    assert ctc_beam(values, 0, beam=50, symbol_floor=1e-30) == exact
    near = ctc_beam(values, 0, beam=50, symbol_floor=1e-4)
    assert near[0].tokens == exact[0].tokens
    assert near[0].score < exact[0].score
    assert near[0].score == pytest.approx(exact[0].score, abs=0.01)
    # A skipped blank still parts two of the same symbol.
    values = np.log([[0.02, 0.96, 0.02], [0.999, 0.0005, 0.0005], [0.02, 0.96, 0.02]])
    exact, near = (ctc_beam(values, 0, skip_blank=skip) for skip in (None, 0.99))
    assert near[0].tokens == exact[0].tokens == (1, 1)
    assert near[0].score == pytest.approx(math.log(0.96 * 0.999 * 0.96))


def test_text_is_that_of_the_units():
    values = np.log([[0.1, 0.9]])
    assert ctc_beam(values, 0)[0].text == ""
    assert ctc_beam(values, 0, symbols=["-", "a"], text=lambda ids: f"<{ids}>")[0].text == "<(1,)>"


@pytest.mark.parametrize(
    ("values", "blank", "symbols", "words"),
    [
        (np.zeros((3, 4)), 0, None, "frame 0 adds up to 4"),
        (np.log([[0.5, 0.5], [0.5, np.nan]]), 0, None, "frame 1 adds up to nan"),
        (np.full((2, 2), -np.inf), 0, None, "frame 0 adds up to 0"),
        (np.full((1, 2), np.inf), 0, None, "frame 0 adds up to inf"),
        (np.log([0.5, 0.5]), 0, None, r"shape \(2,\)"),
        (np.log([[0.5, 0.5]]), None, None, "blank=None"),
        (np.log([[0.5, 0.5]]), 2, None, "from 0 to 1"),
        (np.log([[0.5, 0.5]]), 0, LETTERS, "4 symbols"),
    ],
)
def test_what_are_no_posteriors(values, blank, symbols, words):
    with pytest.raises(BadInput, match=words):
        ctc_beam(values, blank, symbols=symbols)


def test_models_and_lexicons_that_do_not_fit(word_model, character_model, tmp_path):
    values = posteriors(2, 4, seed=0)
    with pytest.raises(BadInput, match=r"symbols that the network lacks\n.*'ba'(.*\n)*.*lm_units='word'"):
        ctc_beam(values, 0, symbols=LETTERS, lm=word_model, lm_units="symbol")
    (tmp_path / "upper.arpa").write_text(WORDS.replace("a", "A").replace("b", "B").replace("dAtA", "data"))
    text = (tmp_path / "upper.arpa").read_text().replace("nGrAm", "ngram").replace("ngrAm", "ngram")
    (tmp_path / "upper.arpa").write_text(text.replace("-grAms", "-grams"))
    with pytest.raises(BadInput, match=r"cannot spell most words(.*\n)*.*3 of 3, such as 'A' 'B' 'BA'"):
        ctc_beam(values, 0, symbols=LETTERS, lm=read_arpa(tmp_path / "upper.arpa"))
    with pytest.raises(BadInput, match="'cab', which has 'c'"):
        ctc_beam(values, 0, symbols=LETTERS, lexicon=["ba", "cab"])
    with pytest.raises(BadOption, match="a lexicon goes with a model of words"):
        ctc_beam(values, 0, symbols=LETTERS, lexicon=["ba"], lm=character_model)
    with pytest.raises(BadOption, match="that parts them"):
        ctc_beam(values, 0, symbols=LETTERS, lm=word_model, separator="|")
    with pytest.raises(BadOption, match="unknown lm_units"):
        ctc_beam(values, 0, symbols=LETTERS, lm=word_model, lm_units="words")
    with pytest.raises(BadOption, match="want the names of the symbols"):
        ctc_beam(values, 0, lm=word_model)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"beam": 0}, "beam=0"),
        ({"nbest": 0}, "nbest=0"),
        ({"bonus": 1.0}, "a bonus counts with"),
        ({"lexicon": ["a"], "bonus": math.nan}, "bonus=nan"),
        ({"lexicon": ["a"], "lm_weight": -1}, "lm_weight=-1"),
        ({"symbol_floor": 1.0}, "symbol_floor"),
        ({"skip_blank": 0.3}, "skip_blank"),
    ],
)
def test_options_out_of_range(options, words):
    with pytest.raises(BadOption, match=words):
        ctc_beam(posteriors(2, 4, seed=0), 0, symbols=LETTERS, **options)
