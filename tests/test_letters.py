"""Which letter makes which phone."""

from __future__ import annotations

import random
from itertools import combinations_with_replacement, pairwise

import numpy as np
import pytest

from otoscope.base import BadInput
from otoscope.learn.letters import LetterAligner, share_out
from otoscope.learn.pronounce import shipped_network

# What every letter makes is fixed: none, one or two phones.
PLANTED = {
    "a": ("AA",), "b": ("B",), "c": ("K",), "d": (), "e": ("IY",), "f": ("F",),
    "g": (), "h": ("HH",), "u": ("Y", "UW"), "x": ("K", "S"), "q": ("K", "W"), "s": ("S",),
}  # fmt: skip

# Written by hand: each letter and what it makes. Of two letters for one sound the first makes it; in er, ir and ur it
# is the r; the vowel that le and the m of rhythm have besides is theirs.
BY_HAND = """
    cake     c:K a:EY k:K e:-
    box      b:B o:AA x:K+S
    exam     e:IH x:G+Z a:AE m:M
    knight   k:- n:N i:AY g:- h:- t:T
    ball     b:B a:AO l:L l:-
    hello    h:HH e:AH l:L l:- o:OW
    school   s:S c:K h:- o:UW o:- l:L
    phone    p:F h:- o:OW n:N e:-
    church   c:CH h:- u:- r:ER c:CH h:-
    little   l:L i:IH t:T t:- l:AH+L e:-
    question q:K+W u:- e:EH s:S t:CH i:AH o:- n:N
    nation   n:N a:EY t:SH i:AH o:- n:N
    vision   v:V i:IH s:ZH i:AH o:- n:N
    queue    q:K u:Y+UW e:- u:- e:-
    use      u:Y+UW s:S e:-
    cute     c:K u:Y+UW t:T e:-
    what     w:W h:- a:AH t:T
    through  t:TH h:- r:R o:- u:UW g:- h:-
    write    w:- r:R i:AY t:T e:-
    judge    j:JH u:AH d:- g:JH e:-
    accept   a:AE c:K c:S e:EH p:P t:T
    success  s:S u:AH c:K c:S e:EH s:S s:-
    muscle   m:M u:AH s:S c:- l:AH+L e:-
    island   i:AY s:- l:L a:AH n:N d:D
    debt     d:D e:EH b:- t:T
    castle   c:K a:AE s:S t:- l:AH+L e:-
    first    f:F i:- r:ER s:S t:T
    mother   m:M o:AH t:DH h:- e:- r:ER
    one      o:W+AH n:N e:-
    rhythm   r:R h:- y:IH t:DH h:- m:AH+M
    dog's    d:D o:AO g:G ':- s:Z
    pneumonia p:- n:N e:- u:UH m:M o:OW n:N i:Y a:AH
    choir    c:K h:- o:W i:AY r:ER
    tube     t:T u:UW b:B e:-
    psychology p:- s:S y:AY c:K h:- o:AA l:L o:AH g:JH y:IY
"""


def by_hand() -> list[tuple[str, list[tuple[str, ...]]]]:
    rows = [line.split() for line in BY_HAND.strip().splitlines()]
    return [
        (word, [tuple(phone for phone in pair[2:].split("+") if phone != "-") for pair in pairs])
        for word, *pairs in rows
    ]


def planted_words(count: int) -> list[tuple[str, list[str]]]:
    rng = random.Random(4)
    words = ["".join(rng.choices(sorted(PLANTED), k=rng.randint(2, 9))) for _ in range(count)]
    return [(word, [phone for letter in word for phone in PLANTED[letter]]) for word in words]


def test_planted_letters_are_found():
    words = planted_words(400)
    aligner = LetterAligner.fit(words, rounds=25)
    for letter, chunk in PLANTED.items():
        assert max(aligner.chances[letter], key=aligner.chances[letter].__getitem__) == chunk
        assert aligner.chances[letter][chunk] > 0.99
    for word, phones in words:
        assert aligner.align(word, phones) == [PLANTED[letter] for letter in word]


def test_one_round_gives_the_expected_counts_of_all_alignments():
    """Against every alignment written out, weighted alike but for the sizes of chunks."""
    words = [("ab", ["P", "Q"]), ("b", ["Q"]), ("abb", ["P", "Q", "Q"])]
    sizes = {0: 0.25, 1: 0.65 / 2, 2: 0.1 / 4}
    counts: dict[tuple[str, tuple[str, ...]], float] = {}
    for word, phones in words:
        ways = []
        for cuts in combinations_with_replacement(range(len(phones) + 1), len(word) - 1):
            ends = [0, *cuts, len(phones)]
            chunks = [tuple(phones[i:j]) for i, j in pairwise(ends)]
            if max(map(len, chunks)) <= 2:
                ways.append((np.prod([sizes[len(chunk)] for chunk in chunks]), chunks))
        for weight, chunks in ways:
            for letter, chunk in zip(word, chunks, strict=True):
                key = (letter, chunk)
                counts[key] = counts.get(key, 0) + weight / sum(weight for weight, _ in ways)
    chances = LetterAligner.fit(words, rounds=1).chances
    for letter in "ab":
        every = sum(count for (other, _), count in counts.items() if other == letter)
        right = {chunk: count / every for (other, chunk), count in counts.items() if other == letter}
        assert chances[letter] == pytest.approx(right)


@pytest.mark.parametrize(("word", "chunks"), by_hand(), ids=[word for word, _ in by_hand()])
def test_words_are_aligned_as_by_hand(word, chunks):
    phones = [phone for chunk in chunks for phone in chunk]
    assert shipped_network().aligner.align(word, phones) == chunks


def test_equal_alignments_have_their_phones_early():
    assert share_out(["L"], 3, lambda letter, start, size: 0.0) == [("L",), (), ()]
    assert share_out(["L", "IY"], 3, lambda letter, start, size: -float(size > 1)) == [("L",), ("IY",), ()]


def test_what_was_never_seen_is_still_aligned():
    aligner = LetterAligner.fit([("ab", ["AA", "B"])] * 3)
    assert aligner.align("ab", ["ZH", "B"]) == [("ZH",), ("B",)]
    assert aligner.align("zb", ["OY", "B"]) == [("OY",), ("B",)]
    # More phones than two a letter.
    assert aligner.align("b", ["B", "IY", "IY"]) == [("B", "IY", "IY")]
    assert aligner.align("ab", []) == [(), ()]
    assert aligner.align("", []) == []
    with pytest.raises(BadInput, match="no letter to make the phones"):
        aligner.align("", ["B"])


def test_words_without_an_alignment_are_left_out():
    words = planted_words(50)
    spoilt = [*words, ("a", ["T", "R", "IH"]), ("", ["B"])]
    assert LetterAligner.fit(spoilt).chances == LetterAligner.fit(words).chances
    with pytest.raises(BadInput, match="no word can be aligned"):
        LetterAligner.fit([("a", ["T", "R", "IH"])])


def test_the_table_comes_back_from_json():
    aligner = LetterAligner.fit(planted_words(60))
    again = LetterAligner.from_json(aligner.as_json())
    assert again.as_json() == aligner.as_json()
    assert () in again.chances["d"]
