"""From spelling to sound: the network, its training, its readings and their errors."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import torch

from otoscope.base import BadCheckpoint, BadInput, BadOption, derive_seed
from otoscope.hear.lexicon import Lexicon, read_lexicon
from otoscope.hear.phones import PHONES
from otoscope.learn.g2p import END, PHONE_NUMBERS, START, G2PConfig, SpellingToSound, letter_numbers, load_g2p, save_g2p
from otoscope.learn.g2p_decode import _search, read_words
from otoscope.learn.g2p_score import reading_errors
from otoscope.learn.g2p_train import G2PTraining, train_g2p
from otoscope.learn.g2p_words import split_words
from otoscope.learn.pronounce import SHIPPED, shipped_network

TINY = G2PConfig(embedding=16, encoder=16, decoder=16, attention=16, dropout=0.05)

# A language in which every letter has its sound: what a small network learns in a minute.
SOUNDS = {"b": "B", "d": "D", "k": "K", "m": "M", "s": "S", "a": "AA1", "i": "IY0", "o": "OW0"}

# Words that everybody knows, as any dictionary has them (General American, without stress).
COMMON = """
    cake K EY K | dog D AO G | house HH AW S | water W AO T ER | school S K UW L | knight N AY T | phone F OW N
    thing TH IH NG | this DH IH S | church CH ER CH | nation N EY SH AH N | vision V IH ZH AH N | box B AA K S
    garden G AA R D AH N | window W IH N D OW | paper P EY P ER | happy HH AE P IY | street S T R IY T
    boy B OY | judge JH AH JH | yellow Y EH L OW | quick K W IH K | running R AH N IH NG | hopeless HH OW P L AH S
    jumped JH AH M P T | wanted W AO N T IH D | dogs D AO G Z | cats K AE T S | simple S IH M P AH L
"""


def toy_lexicon() -> Lexicon:
    words = ["".join(pair) for pair in itertools.product("bdkms", "aio", "bdkms", "aio")]
    return Lexicon({word: [tuple(SOUNDS[letter] for letter in word)] for word in words})


def toy_options(**changes: object) -> G2PTraining:
    values = {"epochs": 2, "batch_size": 16, "save_every": 3, "learning_rate": 2e-2, "precision": "float32"}
    return G2PTraining(**values | changes)


@pytest.fixture(scope="module")
def untrained() -> SpellingToSound:
    torch.manual_seed(3)
    return SpellingToSound(TINY).eval()


def test_words_are_held_out_by_their_spelling_with_all_they_sound_like():
    lexicon = Lexicon(
        {f"{a}{b}'s": [("AA1",), ("B",)] for a, b in itertools.product("abcdefghijkl", repeat=2)}
        | {"3d": [("D",)], "x-ray": [("R",)], "'": [("R",)], "naïve": [("N",)]}
    )
    parts = split_words(lexicon)
    assert sum(map(len, parts)) == 144
    shares = {word: derive_seed("g2p", word) % 100 for part in parts for word in part}
    assert set(parts.heldout) == {word for word, share in shares.items() if share < 10}
    assert set(parts.development) == {word for word, share in shares.items() if share == 10}
    assert len(parts.heldout) > 4
    assert all(spoken == [("AA1",), ("B",)] for part in parts for spoken in part.values())


def test_errors_are_those_counted_by_hand():
    truth = {
        "read": [("R", "IY1", "D"), ("R", "EH1", "D")],  # the second is right
        "cake": [("K", "EY1", "K")],  # one substitution, one insertion
        "box": [("B", "AA1", "K", "S")],  # one deletion
        "w": [("D", "AH1", "B", "AH0", "L"), ("W",)],  # one substitution from the second
    }
    readings = {"read": ("R", "EH", "D"), "cake": ("S", "EY0", "K", "S"), "box": ("B", "AA", "K"), "w": ("V",)}
    errors = reading_errors(truth, readings)
    assert (errors.words, errors.wrong, errors.phones, errors.edits) == (4, 3, 3 + 3 + 4 + 1, 0 + 2 + 1 + 1)
    assert errors.wer == 75
    assert errors.per == pytest.approx(100 * 4 / 11)
    assert str(errors) == "PER 36.36 % (4 of 11 phones), WER 75.00 % (3 of 4 words)"
    stressed = reading_errors({"cake": truth["cake"]}, {"cake": ("K", "EY0", "K")}, stress=True)
    assert (stressed.wrong, stressed.edits) == (1, 1)
    with pytest.raises(BadInput, match="not read"):
        reading_errors(truth, {})
    with pytest.raises(BadInput, match="no words"):
        reading_errors({}, {})


@pytest.fixture(scope="module")
def opinionated() -> SpellingToSound:
    """Without training, yet with preferences that are far apart."""
    torch.manual_seed(5)
    network = SpellingToSound(TINY).eval()
    with torch.no_grad():
        for decoder in (network.onward, network.homeward):
            for weight in decoder.parameters():
                weight *= 4
            # Rather two phones than one.
            decoder.phones.bias[END] -= 4
    return network


@torch.no_grad()
def every_score(decoder, keys, sequences):
    """The logarithm of the probability of each sequence of two phones, all written at once."""
    told = torch.tensor([[START, *phones] for phones in sequences])
    said = decoder(told, keys.expand(len(sequences), -1, -1)).phones.log_softmax(-1)
    rows = torch.arange(len(sequences))
    return said[rows, 0, told[:, 1]] + said[rows, 1, told[:, 2]] + said[rows, 2, END]


def test_a_beam_finds_the_most_probable_of_all(opinionated):
    """One letter makes one or two phones: every sequence of two is tried."""
    keys = opinionated.encode(torch.tensor([letter_numbers("k"), letter_numbers("e")]))[0].detach()
    pairs = list(itertools.product(PHONE_NUMBERS.values(), repeat=2))
    for decoder in (opinionated.onward, opinionated.homeward):
        with torch.no_grad():
            found = _search(decoder, keys, 1600, 2)
        for word in (0, 1):
            scores = every_score(decoder, keys[word : word + 1], pairs)
            right = [pairs[index] for index in scores.argsort(descending=True).tolist()[:12]]
            assert [phones for phones in found[word] if len(phones) == 2][:12] == right


def test_the_reading_is_the_one_on_which_both_ends_agree(opinionated):
    """Among what either decoder proposes, by the sum of both scores; of words of which two phones are best."""
    of_two = 0
    for word in "abcdefghijkl":
        keys = opinionated.encode(torch.tensor([letter_numbers(word)]))[0].detach()
        with torch.no_grad():
            onward, homeward = (_search(d, keys, 5, 2)[0] for d in (opinionated.onward, opinionated.homeward))
        candidates = {phones for phones in onward if len(phones) == 2}
        candidates |= {phones[::-1] for phones in homeward if len(phones) == 2}
        ordered = sorted(candidates)
        scores = every_score(opinionated.onward, keys, ordered)
        scores += every_score(opinionated.homeward, keys, [phones[::-1] for phones in ordered])
        (reading,) = read_words(opinionated, [word], beam=5)
        if len(reading.phones) == 2:
            assert tuple(PHONE_NUMBERS[phone] for phone in reading.phones) == ordered[int(scores.argmax())]
            assert reading.score == pytest.approx(float(scores.max()), abs=1e-3)
            of_two += 1
        else:
            assert reading.score > float(scores.max())
    assert of_two > 3


def test_readings_do_not_depend_on_the_company(untrained):
    words = ["abba", "x", "rhythm", "isn't", "zebra", "xylophones", "abbb", "y" * 64]
    together = read_words(untrained, words)
    for word, reading in zip(words, together, strict=True):
        (alone,) = read_words(untrained, [word])
        assert alone[:3] == reading[:3]
        assert 1 <= len(reading.phones) <= 2 * len(word)
        assert len(reading.letters) == len(word)
        assert tuple(phone for chunk in reading.letters for phone in chunk) == reading.phones
        assert max(map(len, reading.letters)) <= 2
        for phone, mark in zip(reading.phones, reading.stress, strict=True):
            assert (mark is not None) == (phone in PHONES[:15])


def test_what_cannot_be_read_is_refused(untrained):
    for word in ("", "'", "naïve", "Cake", "x-ray", "a" * 65):
        with pytest.raises(BadInput, match="cannot read"):
            read_words(untrained, [word])
    with pytest.raises(BadOption, match="at least one"):
        read_words(untrained, ["a"], beam=0)
    assert read_words(untrained, []) == []


def test_a_file_brings_the_network_back(untrained, tmp_path):
    path = tmp_path / "g2p.safetensors"
    untrained.facts = {"made": "here"}
    save_g2p(path, untrained, dtype=torch.float32)
    again = load_g2p(path)
    assert again.facts == {"made": "here"}
    assert read_words(again, ["cake"]) == read_words(untrained, ["cake"])
    save_g2p(path, untrained)
    assert load_g2p(path).embed.weight.dtype == torch.float32
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(BadCheckpoint, match="cannot be read"):
        load_g2p(path)
    with pytest.raises(BadCheckpoint, match="no such"):
        load_g2p(tmp_path / "none")


def test_training_learns_and_goes_on_as_if_never_interrupted(tmp_path):
    lexicon = toy_lexicon()
    options = toy_options(epochs=16, averaging=0.9)
    whole = train_g2p(tmp_path / "whole", lexicon, TINY, options)
    # Stopped three times in the middle of an epoch.
    for _ in range(3):
        train_g2p(tmp_path / "parts", lexicon, TINY, options, steps=7)
    parts = train_g2p(tmp_path / "parts", lexicon, TINY, options)
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, parts.state_dict()[name]), name
    logs = [[json.loads(line) for line in (tmp_path / name / "log.jsonl").open()] for name in ("whole", "parts")]
    assert [entry["loss"] for entry in logs[0]] == [entry["loss"] for entry in logs[1]]
    heldout = split_words(lexicon).heldout
    readings = read_words(whole, list(heldout))
    errors = reading_errors(heldout, {word: r.phones for word, r in zip(heldout, readings, strict=True)})
    assert (errors.words, errors.wrong) == (21, 0)
    assert all(reading.letters == [(phone,) for phone in reading.phones] for reading in readings)
    assert readings[0].stressed == heldout[next(iter(heldout))][0]
    # And done is done.
    again = train_g2p(tmp_path / "whole", lexicon, TINY, options)
    assert all(torch.equal(weight, again.state_dict()[name]) for name, weight in whole.state_dict().items())
    with pytest.raises(BadCheckpoint, match="other settings"):
        train_g2p(tmp_path / "whole", lexicon, TINY, toy_options(epochs=3))
    with pytest.raises(BadInput, match="nothing to learn from"):
        train_g2p(tmp_path / "none", Lexicon({"3": [("TH",)]}), TINY, options)


def common() -> dict[str, tuple[str, ...]]:
    return {
        row.split()[0]: tuple(row.split()[1:])
        for line in COMMON.strip().splitlines()
        for row in line.split("|")
        if row.strip()
    }


def test_the_network_that_ships_reads_common_words():
    words = common()
    readings = read_words(shipped_network(), list(words))
    wrong = {word: r.phones for (word, phones), r in zip(words.items(), readings, strict=True) if r.phones != phones}
    assert not wrong


def test_its_attention_says_which_letter_makes_the_phone():
    cases = {
        "cake": "K|EY|K|", "box": "B|AA|K S", "phone": "F||OW|N|", "knight": "|N|AY|||T", "ball": "B|AO|L|",
        "nation": "N|EY|SH|AH||N", "little": "L|IH|T||AH L|", "queen": "K W||IY||N",
    }  # fmt: skip
    for word, letters in cases.items():
        (reading,) = read_words(shipped_network(), [word])
        assert reading.letters == [tuple(chunk.split()) for chunk in letters.split("|")], word


def test_its_stress_falls_where_it_does():
    for word, stressed in {"cake": "K EY1 K", "banana": "B AH0 N AE1 N AH0", "window": "W IH1 N D OW0"}.items():
        (reading,) = read_words(shipped_network(), [word])
        assert " ".join(reading.stressed) == stressed


def test_what_ships_says_how_it_was_made():
    facts = json.loads(SHIPPED.with_suffix(".json").read_text(encoding="utf-8"))
    assert SHIPPED.stat().st_size <= 15e6
    assert facts["network"] == shipped_network().config.model_dump(mode="json")
    assert facts["train"] == shipped_network().facts["train"]
    assert facts["scores"]["heldout"]["per"] <= 5.2
    assert facts["scores"]["heldout"]["wer"] <= 22
    assert facts["training_time"]["processor_s"] <= 2 * 3600


@pytest.mark.real
def test_held_out_words_are_read_as_well_as_it_says(real_data: Path):
    """A sample of the words that it never saw; the sample's rate may differ by what chance allows."""
    heldout = split_words(read_lexicon(real_data / "cmudict" / "cmudict.dict")).heldout
    stated = json.loads(SHIPPED.with_suffix(".json").read_text(encoding="utf-8"))["scores"]["heldout"]
    assert len(heldout) == stated["words"]
    sample = {word: heldout[word] for word in sorted(heldout)[::12]}
    readings = read_words(shipped_network(), list(sample))
    errors = reading_errors(sample, {word: r.phones for word, r in zip(sample, readings, strict=True)})
    # Three standard errors of a rate near 21 % of a thousand words, and of phones by bootstrap.
    assert errors.wer == pytest.approx(stated["wer"], abs=3.9)
    assert errors.per == pytest.approx(stated["per"], abs=1.2)
