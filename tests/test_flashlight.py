"""flashlight-text and KenLM give the answers and scores of our own search and reader."""

from __future__ import annotations

import numpy as np
import pytest
from language_models import LETTERS, WORDS, posteriors

from otoscope.base import BadInput, BadOption
from otoscope.learn.arpa import LN_10, read_arpa
from otoscope.learn.beam import ctc_beam
from otoscope.learn.flashlight import FlashlightBeam

kenlm = pytest.importorskip(
    "flashlight.lib.text.decoder.kenlm", reason="compares with flashlight-text: install the extra `decode`"
)
dictionary = pytest.importorskip("flashlight.lib.text.dictionary")

WIDE = 10**5
LEXICON = ("a", "b", "ba", "abb")


def assert_same(ours, theirs) -> None:
    """The same hypotheses with the same scores; the order of equals is nobody's."""
    assert {each.tokens for each in theirs} == {each.tokens for each in ours}
    assert {each.tokens: each.score for each in theirs} == pytest.approx(
        {each.tokens: each.score for each in ours}, rel=1e-5, abs=1e-5
    )
    assert theirs[0].tokens == ours[0].tokens
    assert theirs[0].text == ours[0].text


@pytest.mark.parametrize("seed", range(5))
def test_without_a_model(seed):
    values = posteriors(6, 4, seed)
    assert_same(ctc_beam(values, 0, symbols=LETTERS, beam=WIDE), FlashlightBeam(LETTERS, 0, beam=WIDE)(values))


@pytest.mark.parametrize("seed", range(5))
def test_with_a_model_of_characters(seed, character_model):
    values = posteriors(6, 4, seed)
    options = {"beam": WIDE, "lm": character_model, "lm_weight": 0.7}
    assert_same(ctc_beam(values, 0, symbols=LETTERS, **options), FlashlightBeam(LETTERS, 0, **options)(values))


@pytest.mark.parametrize("seed", range(5))
def test_with_a_lexicon_and_a_model_of_words(seed, word_model):
    values = posteriors(7, 4, seed)
    for options in ({}, {"lm": word_model, "lm_weight": 0.7}, {"lm": word_model, "lm_weight": 1.5}):
        options |= {"beam": WIDE, "lexicon": LEXICON, "bonus": 0.4}
        assert_same(ctc_beam(values, 0, symbols=LETTERS, **options), FlashlightBeam(LETTERS, 0, **options)(values))


def test_another_place_of_the_blank():
    values = posteriors(6, 4, seed=1)[:, [1, 2, 3, 0]]
    symbols = (*LETTERS[1:], "-")
    options = {"beam": WIDE, "lexicon": LEXICON}
    assert_same(ctc_beam(values, 3, symbols=symbols, **options), FlashlightBeam(symbols, 3, **options)(values))
    assert_same(ctc_beam(values, 3, symbols=symbols, beam=WIDE), FlashlightBeam(symbols, 3, beam=WIDE)(values))


def test_long_utterances(word_model):
    search = {"beam": 200, "nbest": 1, "lexicon": LEXICON, "lm": word_model}
    theirs = FlashlightBeam(LETTERS, 0, **search)
    for seed in range(20):
        values = posteriors(50, 4, seed, spread=5, blank=6)
        (ours,), (other,) = ctc_beam(values, 0, symbols=LETTERS, **search), theirs(values)
        assert ours.tokens == other.tokens
        assert ours.score == pytest.approx(other.score, rel=0.01)


def test_kenlm_reads_the_probabilities_that_we_read(word_model):
    names = ["a", "b", "ba", "what"]
    theirs = kenlm.KenLM(str(word_model.path), dictionary.Dictionary(names))
    rng = np.random.default_rng(0)
    for _ in range(200):
        sentence = rng.integers(4, size=rng.integers(7)).tolist()
        state, total = theirs.start(False), 0.0
        for word in sentence:
            state, score = theirs.score(state, word)
            total += score
        total += theirs.finish(state)[1]
        assert word_model.score([names[word] for word in sentence]) / LN_10 == pytest.approx(total, abs=1e-5)


def test_utterances_without_frames_and_without_whole_words(word_model):
    options = {"lexicon": ["ba"], "lm": word_model}
    search = FlashlightBeam(LETTERS, 0, beam=1, **options)
    assert search(np.zeros((0, 4))) == ctc_beam(np.zeros((0, 4)), 0, symbols=LETTERS, beam=1, **options)
    values = np.log(np.array([[1e-9, 1e-9, 1 - 3e-9, 1e-9]]))
    assert FlashlightBeam(LETTERS, 0, beam=1, lexicon=["ba"])(values)[0].text in ("b", "")


def test_only_the_likeliest_symbols_on_demand():
    values = np.log([[0.1, 0.4, 0.3, 0.2]])
    assert [each.text for each in FlashlightBeam(LETTERS, 0, symbol_beam=2)(values)] == ["a", "b"]


def test_what_flashlight_cannot_do(word_model, character_model, tmp_path):
    with pytest.raises(BadOption, match="wants a lexicon"):
        FlashlightBeam(LETTERS, 0, lm=word_model)
    with pytest.raises(BadOption, match="no bonus for symbols"):
        FlashlightBeam(LETTERS, 0, lm=character_model, bonus=1.0)
    with pytest.raises(BadOption, match="at least one symbol"):
        FlashlightBeam(LETTERS, 0, symbol_beam=0)
    with pytest.raises(BadInput, match="'c'"):
        FlashlightBeam(LETTERS, 0, lexicon=["c"])
    with pytest.raises(BadInput, match="adds up to"):
        FlashlightBeam(LETTERS, 0)(np.zeros((2, 4)))
    (tmp_path / "spaces.arpa").write_text(WORDS.replace("\t", " "))
    with pytest.raises(BadInput, match=r"KenLM cannot read(.*\n)*.*Expected tab(.*\n)*.*with tabs"):
        FlashlightBeam(LETTERS, 0, lexicon=LEXICON, lm=read_arpa(tmp_path / "spaces.arpa"))
