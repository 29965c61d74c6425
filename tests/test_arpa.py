"""Back-off models against probabilities worked out from the format's definition and from counts; broken files."""

from __future__ import annotations

import functools
import gzip
import itertools
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from otoscope.base import BadInput
from otoscope.learn.arpa import LN_10, read_arpa

# p(b | a) has no back-off weight, p(a | b) no 2-gram, and `c` follows nothing but `a b`.
TEXT = """written by hand

\\data\\
ngram 1=6
ngram 2=4
ngram 3=1

\\1-grams:
-99\t<s>\t-0.30
-0.9\t</s>
-1.3\t<unk>
-0.5\ta\t-0.20
-0.7\tb\t-0.10
-1.1\tc

\\2-grams:
-0.25\t<s> a\t-0.15
-0.35\ta b\t-0.05
-0.40\tb </s>
-0.60\t<unk> a

\\3-grams:
-0.12\ta b c

\\end\\
"""


@pytest.fixture
def model(tmp_path):
    (tmp_path / "hand.arpa").write_text(TEXT)
    return read_arpa(tmp_path / "hand.arpa")


@pytest.mark.parametrize(
    ("sentence", "parts"),
    [
        ("", [-0.30 - 0.9]),
        # <s> a; <s> a b is none: back off from <s> a to a b; a b </s> is none: back off to b </s>.
        ("a b", [-0.25, -0.15 - 0.35, -0.05 - 0.40]),
        ("a b c", [-0.25, -0.15 - 0.35, -0.12, -0.9]),
        # b a is no 2-gram: what follows it backs off from a alone.
        ("b a b", [-0.30 - 0.7, -0.10 - 0.5, -0.35, -0.05 - 0.40]),
        ("what a", [-0.30 - 1.3, -0.60, -0.20 - 0.9]),
        ("c c", [-0.30 - 1.1, -1.1, -0.9]),
    ],
)
def test_sentences_worked_out_by_hand(model, sentence, parts):
    assert model.score(sentence.split()) / LN_10 == pytest.approx(sum(parts))
    assert model.score(sentence.split(), end=False) / LN_10 == pytest.approx(sum(parts[:-1]))


def test_without_the_beginning_the_context_is_empty(model):
    assert model.score(["a"], begin=False, end=False) / LN_10 == pytest.approx(-0.5)
    assert (model.order, model.counts, "a" in model, "d" in model) == (3, (6, 4, 1), True, False)


def test_a_model_without_unk_gives_unknown_words_next_to_nothing(tmp_path):
    text = TEXT.replace("-1.3\t<unk>\n", "").replace("1=6", "1=5").replace("-0.60\t<unk> a\n", "").replace("2=4", "2=3")
    (tmp_path / "closed.arpa").write_text(text)
    closed = read_arpa(tmp_path / "closed.arpa")
    # The word after an unknown one has no context.
    assert closed.score(["d", "a"], end=False) / LN_10 == pytest.approx(-100 - 0.5)


def test_contexts_that_make_no_difference_are_one_state(model):
    context = model.start()
    _, context = model.step(context, model.number("c"))
    assert context == ()
    _, context = model.step(model.start(), model.number("a"))
    assert len(context) == 2
    _, context = model.step(context, model.number("b"))
    assert [model.words[number] for number in context] == ["a", "b"]


def discounted(sentences: list[list[str]], order: int, discount: float, words: list[str]):
    """Absolute discounting with back-off (Ney et al. 1994) by its definition: p(w | h) as a function."""
    counts: Counter[tuple[str, ...]] = Counter()
    for sentence in sentences:
        padded = ["<s>", *sentence, "</s>"]
        for length in range(1, order + 1):
            counts.update(tuple(padded[at : at + length]) for at in range(len(padded) - length + 1))
    del counts[("<s>",)]
    total = sum(count for gram, count in counts.items() if len(gram) == 1)
    grams = [gram for gram in counts if len(gram) > 1]

    @functools.cache
    def probability(word, context):
        if not context:
            # Add one half to each, so that each word has something.
            return (counts[word,] + 0.5) / (total + 0.5 * len(words))
        after = {gram[-1]: counts[gram] for gram in grams if gram[:-1] == context}
        if word in after:
            return (after[word] - discount) / sum(after.values())
        return weight(context) * probability(word, context[1:])

    @functools.cache
    def weight(context):
        after = {gram[-1]: counts[gram] for gram in grams if gram[:-1] == context}
        if not after:
            return 1.0
        left = discount * len(after) / sum(after.values())
        return left / (1 - sum(probability(word, context[1:]) for word in after))

    return counts, probability, weight


def test_a_model_estimated_by_formula_has_its_probabilities_in_every_context(tmp_path):
    rng = np.random.default_rng(0)
    letters = list("abcdef")
    sentences = [
        list(rng.choice(letters, size=rng.integers(1, 6), p=[0.4, 0.2, 0.2, 0.1, 0.05, 0.05])) for _ in range(12)
    ]
    words = [*letters, "</s>"]
    counts, probability, weight = discounted(sentences, 3, 0.5, words)
    sections = {1: [("<s>",), *[(word,) for word in words]]}
    sections |= {n: [gram for gram in counts if len(gram) == n] for n in (2, 3)}
    text = "\\data\\\n" + "".join(f"ngram {n}={len(grams)}\n" for n, grams in sections.items())
    for n, grams in sections.items():
        text += f"\n\\{n}-grams:\n"
        for gram in grams:
            value = -99 if gram == ("<s>",) else math.log10(probability(gram[-1], gram[:-1]))
            back_off = f"\t{math.log10(weight(gram))!r}" if n < 3 and weight(gram) != 1 else ""
            text += f"{value!r}\t{' '.join(gram)}{back_off}\n"
    (tmp_path / "estimated.arpa").write_text(text + "\n\\end\\\n")
    model = read_arpa(tmp_path / "estimated.arpa")
    seen = 0
    for context in [(), *itertools.product([*letters, "<s>"], repeat=1), *itertools.product(letters, repeat=2)]:
        numbers = tuple(model.number(word) for word in context)
        found = [math.exp(model.log_probability(model.number(word), numbers)) for word in words]
        assert found == pytest.approx([probability(word, context) for word in words])
        assert sum(found) == pytest.approx(1)
        rows = model.distribution(numbers)
        assert np.exp(rows[[model.number(word) for word in words]]) == pytest.approx(found)
        seen += any((*context, word) in counts for word in words)
    assert 10 < seen < 40
    for sentence in [["a", "b", "a"], ["f", "f"], []]:
        padded = ["<s>", *sentence, "</s>"]
        each = [probability(padded[at], tuple(padded[max(at - 2, 0) : at])) for at in range(1, len(padded))]
        assert model.score(sentence) == pytest.approx(sum(map(math.log, each)))


def test_gzip_reads_the_same(tmp_path, model):
    with gzip.open(tmp_path / "hand.gz", "wt") as file:
        file.write(TEXT)
    assert read_arpa(tmp_path / "hand.gz").score(["a", "b", "d"]) == model.score(["a", "b", "d"])


def test_spaces_for_tabs_and_capital_unk(tmp_path, model):
    (tmp_path / "other.arpa").write_text(TEXT.replace("\t", " ").replace("<unk>", "<UNK>"))
    other = read_arpa(tmp_path / "other.arpa")
    assert other.score(["what", "a"]) == model.score(["what", "a"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("-0.12\ta b c\n", ""), ["line 24", "0, then", "1 3-grams, as the header says"]),
        (("2=4", "2=5"), ["line 22", "4, then", "5 2-grams"]),
        (("\\end\\\n", ""), ["line 24", "ends before \\end\\", "1 of 1 3-grams"]),
        (("-0.35\ta b\t-0.05\n", "-0.35\ta\n"), ["line 18", "this is no 2-gram", "'-0.35\\ta'", "2 words"]),
        (("-0.35\ta b\t-0.05", "-0.35\ta b\t-0.05\t1\t1"), ["line 18", "this is no 2-gram"]),
        (("-0.35\ta b", "x\ta b"), ["line 18", "'x\\ta b"]),
        (("-0.35\ta b", "0.35\ta b"), ["line 18", "above 0"]),
        (("-0.35\ta b", "nan\ta b"), ["line 18", "above 0"]),
        (("a b\t-0.05", "a b\tinf"), ["line 18", "back-off"]),
        (("-0.12\ta b c", "-0.12\ta b c\t-1"), ["line 23", "none for the longest"]),
        (("-0.35\ta b\t", "-0.35\ta d\t"), ["line 18", "'d' is no 1-gram"]),
        (("-0.35\ta b\t", "-0.35\t<s> a\t"), ["line 18", "a 2-gram twice"]),
        (("-1.1\tc\n", "-1.1\tb\n"), ["line 14", "a 1-gram twice"]),
        (("-0.9\t</s>\n", "-0.9\td\n"), ["no </s>", "<s> and </s>"]),
        (("\\2-grams:", "\\3-grams:"), ["line 16", "another title", "\\2-grams:"]),
        (("\\end\\", "\\4-grams:"), ["line 25", "another title", "\\end\\"]),
        (("ngram 2=4", "ngram two=4"), ["line 5", "ngram 2=…"]),
        (("ngram 2=4", "ngram 3=4"), ["line 5", "ngram 2=…"]),
        (("\\data\\\n", ""), ["no line \\data\\"]),
        (("\\1-grams:", "\\2-grams:"), ["line 8", "no 1-grams"]),
    ],
)
def test_broken_files_are_named_with_their_line(tmp_path, change, words):
    assert change[0] in TEXT
    (tmp_path / "broken.arpa").write_text(TEXT.replace(change[0], change[1], 1))
    with pytest.raises(BadInput) as caught:
        read_arpa(tmp_path / "broken.arpa")
    for word in ["broken.arpa", *words]:
        assert word in str(caught.value)


def test_files_that_are_no_models(tmp_path):
    cases: dict[str, tuple[bytes, str]] = {
        "text": (b"no model\n" * 2000, "line 1000"),
        "cut.gz": (gzip.compress(TEXT.encode() * 50)[:-200], "cut short"),
        "latin": (TEXT.replace("a", "\xe9").encode("latin-1"), "not UTF-8"),
        "counts": (b"\\data\\\n\n\\1-grams:\n\\end\\\n", "no counts"),
    }
    for name, (content, words) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BadInput, match=words) as caught:
            read_arpa(tmp_path / name)
        assert name in str(caught.value)
    for missing in (tmp_path / "absent", tmp_path):
        with pytest.raises(BadInput, match="cannot be read"):
            read_arpa(Path(missing))
