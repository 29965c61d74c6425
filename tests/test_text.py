"""Transcripts to symbols and back, worked out by hand."""

from __future__ import annotations

import pytest

from otoscope.base import BadInput
from otoscope.hear.text import GRAPHEMES, decode, encode, normalise_text


def test_the_symbols_are_the_papers_29():
    assert len(GRAPHEMES) == len(set(GRAPHEMES)) == 29
    assert GRAPHEMES[:4] == ("<blank>", " ", "'", "a")


def test_numbers_by_hand():
    assert encode("a b", ["<blank>", "b", "a", " "]) == [2, 3, 1]
    assert encode("", GRAPHEMES) == []


@pytest.mark.parametrize("text", ["the cat sat", "don't", "a", "", "zzz aa q"])
def test_encoding_and_decoding_give_the_text_back(text):
    assert decode(encode(text, GRAPHEMES), GRAPHEMES) == text


def test_decoding_leaves_single_spaces():
    assert decode([1, 3, 1, 1, 4, 1], GRAPHEMES) == "a b"


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Hello, World!", "hello world"),
        ("DON\u2019T \u2018stop\u2019", "don't 'stop'"),
        ("well-known\u2013ish  and/or\tsnake_case", "well known ish and or snake case"),
        ('(he said: "no"; [yes]?\u2026)', "he said no yes"),
        ("Wait...what", "wait what"),
        ("  \n ", ""),
    ],
)
def test_punctuation_and_case_are_taken_away(text, plain):
    assert normalise_text(text) == plain
    assert normalise_text(plain) == plain


def test_unknown_symbols_are_named():
    with pytest.raises(BadInput) as caught:
        encode("na\u00efve 4 you", GRAPHEMES)
    assert "'4' '\u00ef'" in str(caught.value)
    assert "na\u00efve 4 you" in str(caught.value)
    with pytest.raises(BadInput, match="' ' in 'a b'"):
        encode("a b", ["<blank>", "a", "b"])
