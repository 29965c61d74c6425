"""Alignments of networks of words: counts worked out by hand, and the least cost by trying every choice."""

from __future__ import annotations

import itertools
import random

import kaldialign
import pytest

from otoscope.base import BadInput
from otoscope.learn.score import Counts, count
from otoscope.learn.word_alignment import Pair, align, align_words
from otoscope.learn.word_network import Alternation, Reading, Spelling, Word


def kinds(reference: str, hypothesis: str, flags: str = "", spelling: Spelling | None = None) -> tuple[int, ...]:
    """Correct, substituted, deleted, inserted; flags as sclite's: F fragments, D optional deletions."""
    reading = Reading(optional_deletions="D" in flags, fragments_correct="F" in flags)
    counts = count(align(reading.parse(reference), reading.parse(hypothesis), spelling))
    return counts.correct, counts.sub, counts.deletions, counts.ins


@pytest.mark.parametrize(
    ("reference", "hypothesis", "flags", "wanted"),
    [
        # The null word of the documentation: said or not said, both are right.
        ("i've { um / uh / @ } as far", "i've uh as far", "", (4, 0, 0, 0)),
        ("i've { um / uh / @ } as far", "i've as far", "", (3, 0, 0, 0)),
        # A wrong word in its place: an insertion at 3 is cheaper than a substitution at 4.
        ("i've { um / uh / @ } as far", "i've eh as far", "", (3, 0, 0, 1)),
        # Without the null word there is only the substitution.
        ("i've { um / uh } as far", "i've eh as far", "", (3, 1, 0, 0)),
        ("a { b c / d } e", "a d e", "", (3, 0, 0, 0)),
        # `b c` costs a deletion, 3; `d` a substitution, 4.
        ("a { b c / d } e", "a b e", "", (3, 0, 1, 0)),
        ("{ { a / b } c / d }", "b c", "", (2, 0, 0, 0)),
        ("{ { a / b } c / d }", "b", "", (1, 0, 1, 0)),
        ("a { b / c } { d / e }", "a c d", "", (3, 0, 0, 0)),
        # Alternations of the hypothesis count for the system, and both may have one.
        ("a b", "{ a / c } b", "", (2, 0, 0, 0)),
        ("a { b / cd } { e f / ef }", "a { bc / b } { e d / ef }", "", (3, 0, 0, 0)),
        ("a { c / @ } d", "a { d / @ } d", "", (2, 0, 0, 0)),
        ("a @ d", "a d", "", (2, 0, 0, 0)),
        ("a", "@", "", (0, 0, 1, 0)),
        # Two null words are no word.
        ("a @ d", "a @ d", "", (2, 0, 0, 0)),
        # Braces need no blanks around them; an empty choice is none.
        ("{a/b}c", "b c", "", (2, 0, 0, 0)),
        ("{ um / } a", "a", "", (1, 0, 1, 0)),
        # Fragments.
        ("th- cat", "the cat", "", (1, 1, 0, 0)),
        ("th- cat", "the cat", "F", (2, 0, 0, 0)),
        ("-ick", "tick", "F", (1, 0, 0, 0)),
        ("-ick", "ick", "F", (1, 0, 0, 0)),
        ("tick", "-ick", "F", (1, 0, 0, 0)),
        ("th-", "cat", "F", (0, 1, 0, 0)),
        ("th-", "t", "F", (0, 1, 0, 0)),
        ("-", "a", "F", (0, 1, 0, 0)),
        # A fragment that is missing is a deletion all the same.
        ("th- cat", "cat", "F", (1, 0, 1, 0)),
        # Optional words: the documentation's example, with -D and without.
        ("b (c) d", "b e", "", (1, 1, 1, 0)),
        ("b (c) d", "b e", "D", (2, 1, 0, 0)),
        ("b (c) d", "b c d", "D", (3, 0, 0, 0)),
        ("b (c) d", "b c d", "", (2, 1, 0, 0)),
        # A wrong word for an optional one: dropping it costs 2 and the insertion 3, the substitution 4.
        ("b (c) d", "b x d", "D", (2, 1, 0, 0)),
        # An optional word too much counts as a correct one, and as one of the reference.
        ("b d", "b (c) d", "D", (3, 0, 0, 0)),
        ("b d", "b (c) d", "", (2, 0, 0, 1)),
        ("b (c-) d", "b cat d", "FD", (3, 0, 0, 0)),
        ("b (c-) d", "b cat d", "D", (2, 1, 0, 0)),
        # Tags are no part of the word, an escaped semicolon is; a last asterisk is a mark.
        (r"a\;s;tag word*", r"a\;s;other;tags word", "", (2, 0, 0, 0)),
        (r"a\;s", "a", "", (0, 1, 0, 0)),
        ("*", "*", "", (1, 0, 0, 0)),
        ("", "a b", "", (0, 0, 0, 2)),
        ("a b", "", "", (0, 0, 2, 0)),
        ("", "", "", (0, 0, 0, 0)),
        ("{ a / b }", "", "", (0, 0, 1, 0)),
        # Three substitutions cost as much as a match with two insertions and two deletions; sclite takes the former.
        ("b d d", "a a b", "", (0, 3, 0, 0)),
        # Of equal costs the last digit of single precision decides here; the counts are what sclite 2.10 gives.
        ("@ b c c { @ / c } b { @ / b }", "a b b a a a", "", (1, 3, 0, 2)),
        ("b b a @ b a b { @ / b } b b @", "a c b c b a c a", "", (4, 1, 3, 3)),
        ("b a b a a @ @ b c { @ / a }", "b c a b b c c c c b b b", "", (4, 3, 0, 5)),
        # A match between a deletion and an insertion costs 6, two substitutions 8.
        ("a b", "b c", "", (1, 0, 1, 1)),
    ],
)
def test_counts_by_hand(reference, hypothesis, flags, wanted):
    assert kinds(reference, hypothesis, flags) == wanted


@pytest.mark.parametrize(
    ("reference", "hypothesis", "spelling", "wanted"),
    [
        # White space is no character.
        ("ab c", "abc", Spelling(), (3, 0, 0, 0)),
        # `h e` for `e h`: deleting and inserting one costs 6, two substitutions 8.
        ("the", "teh", Spelling(), (2, 0, 1, 1)),
        ("a { bc / d } e", "ade", Spelling(), (3, 0, 0, 0)),
        ("a-b", "ab", Spelling(), (2, 0, 1, 0)),
        ("a-b", "ab", Spelling(drop_hyphens=True), (2, 0, 0, 0)),
        ("中文 ok", "中 文ok", Spelling(keep_ascii=True), (3, 0, 0, 0)),
        ("中文 ok", "中 文ko", Spelling(keep_ascii=True), (2, 1, 0, 0)),
        ("é", "e", Spelling(), (0, 1, 0, 0)),
        ("--", "a", Spelling(drop_hyphens=True), (0, 1, 0, 0)),
    ],
)
def test_characters_by_hand(reference, hypothesis, spelling, wanted):
    assert kinds(reference, hypothesis, "", spelling) == wanted


def test_optional_characters():
    assert kinds("a (bc) d", "ad", "D", Spelling()) == (4, 0, 0, 0)


def test_the_pairs_are_those_of_the_words():
    said, heard = (Reading(True, True).parse(text) for text in ("{ a / @ } (b) c- d", "a cat x"))
    assert align(said, heard) == [
        Pair("C", "a", "a"),
        Pair("C", "(b)", None),
        Pair("C", "c-", "cat"),
        Pair("S", "d", "x"),
    ]
    assert align_words(["a", "b"], ["b"]) == [Pair("D", "a", None), Pair("C", "b", "b")]
    assert count(align_words(["a", "b"], ["b"])) == Counts(1, 2, 1, 0, 1, 0)


def test_what_is_read():
    assert Reading().parse("a { b c / { d / @ } }") == (
        Word("a"),
        Alternation(((Word("b"), Word("c")), (Alternation(((Word("d"),), (Word("@"),))),))),
    )
    assert Reading(True, True).parse("(th-) (a -b") == (
        Word("th-", True, True),
        Word("(a"),
        Word("-b", False, True),
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a { b / c", "not closed"),
        ("a } b", "a brace"),
        ("a{b/c}", "a brace"),
        ("{ }", "without a choice"),
        ("{ / }", "without a choice"),
    ],
)
def test_braces_without_partners_are_refused(text, words):
    with pytest.raises(BadInput, match=words):
        Reading().parse(text)


def ways(said) -> list[list[str]]:
    """Every sequence of words that can be said, without null words."""
    options = [
        [way for choice in item.choices for way in ways(choice)]
        if isinstance(item, Alternation)
        else [[] if item.text == "@" else [item.text]]
        for item in said
    ]
    return [list(itertools.chain(*way)) for way in itertools.product(*options)]


def random_text(rng: random.Random, depth: int = 0) -> str:
    words = []
    for _ in range(rng.randint(depth > 0, 4)):
        if depth < 2 and rng.random() < 0.25:
            words.append("{ " + " / ".join(random_text(rng, depth + 1) for _ in range(rng.randint(1, 3))) + " }")
        else:
            words.append(rng.choice(("a", "b", "c", "@")))
    return " ".join(words)


def test_no_choice_of_alternatives_costs_less():
    """Every way through both networks, each pair of ways aligned by another library."""
    rng = random.Random(7)
    for _ in range(300):
        said, heard = (Reading().parse(random_text(rng)) for _ in range(2))
        counts = count(align(said, heard))
        least = min(
            4 * found["sub"] + 3 * found["del"] + 3 * found["ins"]
            for one in ways(said)
            for two in ways(heard)
            for found in [kaldialign.edit_distance(one, two, sclite_mode=True)]
        )
        assert 4 * counts.sub + 3 * counts.deletions + 3 * counts.ins == least


def test_chains_and_networks_agree():
    """Ordinary words are aligned by a faster way; an alternation of one choice forces the other."""
    rng = random.Random(8)
    for _ in range(300):
        said, heard = ([rng.choice("abcd") for _ in range(rng.randint(0, 12))] for _ in range(2))
        fast = align_words(said, heard)
        slow = align([Alternation(((Word("@"),), (Word("opt", True),))), *map(Word, said)], list(map(Word, heard)))
        assert slow == fast
        cost = kaldialign.edit_distance(said, heard, sclite_mode=True)
        found = count(fast)
        assert 4 * found.sub + 3 * (found.deletions + found.ins) == 4 * cost["sub"] + 3 * (cost["del"] + cost["ins"])
