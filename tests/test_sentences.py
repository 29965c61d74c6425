"""The embedded corpus of sentences: spelling against a list written out, parts that share nothing, rooms."""

from __future__ import annotations

import importlib.util
import itertools
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from otoscope.base import BadOption
from otoscope.hear import sentences
from otoscope.hear.corpus import Utterance, load_audio, read_corpus

COUNTS = {"train": 24, "dev": 2, "test": 6}
espeak = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None,
    reason="espeak-ng is not installed: pip install otoscope[synth]",
)


@pytest.fixture(scope="module")
def words():
    return sentences.read_words()


FORMS = {
    "plural": "acorn acorns, torch torches, box boxes, cherry cherries, monkey monkeys, potato potatoes, kangaroo "
    "kangaroos, wolf/wolves wolves, dish dishes, glass glasses",
    "s": "carry carries, catch/caught catches, enjoy enjoys, fix fixes, go goes, agree agrees",
    "past": "stop stopped, carry carried, enjoy enjoyed, bake baked, cheat cheated, draw/drew drew, fix fixed, "
    "tie tied, quip quipped, visit visited, agree agreed, snow snowed",
    "ing": "stop stopping, carry carrying, bake baking, tie tying, flee/fled fleeing, run/ran running, "
    "visit visiting, mix mixing, snow snowing",
    "er": "big bigger, happy happier, late later, slow slower, shy shier, thin thinner, new newer, sweet sweeter",
    "ly": "careful carefully, lazy lazily, terrible terribly, frantic frantically, sole solely, royal royally",
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_are_spelt_as_english_has_them(form):
    for pair in FORMS[form].split(", "):
        stem, wanted = pair.split()
        assert sentences.inflect(stem, form) == wanted


def test_there_are_thousands_of_words_and_each_is_spelt_in_letters(words):
    forms = [f for section, stems in words.items() for stem in stems for f in sentences.forms_of(section, stem)]
    assert len(set(forms)) > 3000
    assert all(re.fullmatch("[a-z]+", form) for form in forms)
    assert {section for section, _ in sentences.FORMS.values()} == set(words)


def test_sentences_differ_have_4_to_10_words_and_use_words_equally_often(words):
    held_out = sentences.hold_out(words, 0)
    said = list(itertools.islice(sentences.sentences(words, held_out, 1), 1500))
    assert len(set(said)) == 1500
    assert {len(sentence) for sentence in said} == set(range(4, 11))
    counts = Counter(word for sentence in said for word in sentence)
    names = [counts[name] for name in words["name"] if name not in held_out["name"]]
    assert max(names) - min(names) <= 2
    assert [counts[name] for name in held_out["name"]] == [0] * len(held_out["name"])
    assert said == list(itertools.islice(sentences.sentences(words, held_out, 1), 1500))
    assert not set(said) & set(itertools.islice(sentences.sentences(words, held_out, 2), 1500))


def test_training_never_has_a_form_of_a_stem_that_is_held_out(words):
    for seed in (0, 1):
        held_out = sentences.hold_out(words, seed)
        assert all(len(held_out[s]) == round(0.1 * len(words[s])) for s in sentences.OPEN)
        away = {f for section, stems in held_out.items() for stem in stems for f in sentences.forms_of(section, stem)}
        shards = sentences.plan(seed, {"train": 800, "dev": 20, "test": 300})
        said = {split: [i["words"] for s in shards if s["split"] == split for i in s["items"]] for split in COUNTS}
        learnt = {word for sentence in said["train"] for word in sentence}
        assert not learnt & away
        test_words = [word for sentence in said["test"] for word in sentence]
        assert 0.06 < sum(word in away for word in test_words) / len(test_words) < 0.12
        assert len(set(itertools.chain(*said.values()))) == 1120
    assert sentences.hold_out(words, 0) != sentences.hold_out(words, 1)


def test_a_share_of_the_words_is_fewer_words(words):
    half = sentences.fewer(words, 0.5, 0)
    assert all(set(half[section]) <= set(words[section]) for section in words)
    assert (len(half["noun"]), half["time"]) == (round(len(words["noun"]) / 2), words["time"])
    counts = {"train": 400, "dev": 0, "test": 0}
    said = [
        {word for shard in sentences.plan(0, counts, share) for item in shard["items"] for word in item["words"]}
        for share in (1.0, 0.25)
    ]
    assert len(said[1]) < 0.7 * len(said[0])
    assert sentences.fewer(words, 1.0, 0) == words


def test_a_sentence_of_one_part_is_in_no_other_even_where_chance_repeats_it(monkeypatch):
    """With a generator that says the same in each part."""
    monkeypatch.setattr(sentences, "sentences", lambda *_args: ((f"number {n}",) for n in itertools.count()))
    said = [item["words"] for shard in sentences.plan(0, COUNTS) for item in shard["items"]]
    assert sorted(said) == sorted((f"number {n}",) for n in range(sum(COUNTS.values())))


def test_each_seed_has_words_of_its_own_and_each_voice_a_seed(words):
    """A tenth of the names are said: other ones with another seed."""
    shards = [sentences.plan(seed, {"train": 400, "dev": 2, "test": 2}, 0.1) for seed in (0, 1)]
    names = [{w for s in each for i in s["items"] for w in i["words"]} & set(words["name"]) for each in shards]
    assert all(len(each) <= max(10, round(0.1 * len(words["name"]))) for each in names)
    assert len(names[0] & names[1]) < 0.7 * len(names[0])
    for each in shards:
        assert len({shard["seed"] for shard in each}) == len(each)


def test_a_noisy_room_is_the_one_that_the_manifest_names(monkeypatch, tmp_path):
    """The room is left out, so that what was added to the sentence is the noise alone."""
    rng = np.random.default_rng(0)
    said = [
        Utterance(f"u{n}", (0.1 * rng.standard_normal(8000)).astype(np.float32), sample_rate=16_000, split="test")
        for n in range(8)
    ]
    rooms = []

    def with_room(samples, rate, t60_s, seed, *, direct_db):
        rooms.append((t60_s, direct_db))
        return samples

    monkeypatch.setattr(sentences, "with_room", with_room)
    heard = [sentences.in_a_noisy_room(u, said[2:], 0, tmp_path / f"{u.id}.wav") for u in said]
    for one, before in zip(heard, said, strict=True):
        noise = load_audio(one)[0] - load_audio(before)[0]
        ratio_db = 10 * np.log10(np.sum(load_audio(before)[0] ** 2) / np.sum(noise**2))
        assert ratio_db == pytest.approx(one.snr_db, abs=0.1)
    assert rooms == [(one.t60_s, one.direct_db) for one in heard]
    assert {one.noise for one in heard} == {"pink", "babble"}


def test_others_babble_and_they_are_of_the_training(monkeypatch, tmp_path):
    voices = (("ann", "train"), ("bob", "train"), ("cid", "dev"), ("dot", "test"))
    spoken = [
        Utterance(name, tmp_path / "clean" / f"{name}.wav", text="so", speaker=voice, split=split)
        for voice, split in voices
        for name in (f"{voice}-0000", f"{voice}-0001")
    ]
    (tmp_path / "clean").mkdir()
    for utterance in spoken:
        utterance.audio.touch()
    heard = {}

    def in_a_noisy_room(utterance, others, seed, path):
        heard[utterance.id] = {other.speaker for other in others}
        return utterance.replace(condition="noisy")

    monkeypatch.setattr(sentences, "speak_shards", lambda *_args, **_named: spoken)
    monkeypatch.setattr(sentences, "in_a_noisy_room", in_a_noisy_room)
    monkeypatch.setattr(sentences, "write_manifest", lambda *_args: None)
    sentences.make_corpus(tmp_path, counts=COUNTS)
    assert heard == {
        "ann-0001": {"bob"}, "bob-0001": {"ann"},
        **{f"{voice}-{n:04d}": {"ann", "bob"} for voice in ("cid", "dot") for n in range(2)},
    }  # fmt: skip


def test_the_summary_counts_what_training_does_not_have():
    facts = {"duration": 1800.0, "condition": "noisy"}
    corpus = [
        Utterance(f"{split}{n}", text="a b c d e", speaker=f"{split}{n}", split=split, unseen=n, **facts)
        for split in ("train", "dev", "test") for n in range(2)
    ]  # fmt: skip
    assert sentences.summary(corpus)[2] == (
        "test: 1.00 hours, 2 utterances, 2 voices, 10 words, 5 different, 10.0 % not in training; 100% in noisy rooms"
    )


def test_sentences_are_no_longer_than_asked(words):
    counts = {"train": 300, "dev": 10, "test": 50}
    for longest in (4, 5, 7):
        said = [item["words"] for shard in sentences.plan(0, counts, 0.5, longest) for item in shard["items"]]
        assert {len(sentence) for sentence in said} == set(range(4, longest + 1))
    with pytest.raises(BadOption, match="no corpus to learn from"):
        sentences.make_corpus(Path("nowhere"), counts=counts, longest=3)


def test_voices_are_those_of_one_part_only():
    voices = list(itertools.chain(*sentences.VOICES.values()))
    assert len(set(voices)) == len(voices) == 22


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """The same twice, by five of the voices, for each takes a process of its own."""
    folder = tmp_path_factory.mktemp("insights")
    few = {split: voices[: 3 if split == "train" else 1] for split, voices in sentences.VOICES.items()}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sentences, "VOICES", few)
        return [sentences.make_corpus(folder / str(n), seed=3, counts=COUNTS, processes=n) for n in (1, 2)]


@espeak
def test_the_corpus_is_the_same_each_time_and_half_of_it_noisy(spoken):
    one, two = ({p.name: p.read_bytes() for p in m.parent.rglob("*.wav")} for m in spoken)
    assert one == two
    assert spoken[0].read_text() == spoken[1].read_text()
    corpus = read_corpus(spoken[0], strict=True)
    assert len(one) == len(corpus)
    counts = Counter((u.split, u.condition) for u in corpus)
    assert counts == {
        **{("train", "clean"): 12, ("train", "noisy"): 12},
        **{("dev", "clean"): 2, ("dev", "noisy"): 2, ("test", "clean"): 6, ("test", "noisy"): 6},
    }
    learnt = {word for u in corpus if u.split == "train" for word in u.text.split()}
    for utterance in corpus:
        assert utterance.unseen == sum(word not in learnt for word in utterance.text.split())
        assert " ".join(segment.label for segment in utterance.tiers["word"]) == utterance.text
    assert sentences.summary(corpus)[2].startswith("test: 0.0")


@espeak
def test_noisy_sentences_are_the_clean_ones_in_rooms_of_their_part(spoken):
    corpus = read_corpus(spoken[0])
    clean = {u.id: u for u in corpus if u.condition == "clean"}
    for utterance in (u for u in corpus if u.condition == "noisy"):
        room = sentences.ROOMS[utterance.split]
        for value, (least, most) in zip((utterance.t60_s, utterance.direct_db, utterance.snr_db), room, strict=True):
            assert least <= value <= most
        if utterance.split == "train":
            continue
        before = clean[utterance.id.removesuffix("-noisy")]
        assert (before.text, before.speaker, before.tiers) == (utterance.text, utterance.speaker, utterance.tiers)
        samples, heard = load_audio(before)[0], load_audio(utterance)[0]
        assert len(samples) == len(heard)
        # The direct sound is still the likeliest thing to find in what is heard.
        spectrum = np.fft.rfft(heard, 2 * len(heard)) * np.conj(np.fft.rfft(samples, 2 * len(heard)))
        assert int(np.argmax(np.fft.irfft(spectrum))) == 0


@espeak
def test_another_seed_says_other_sentences():
    said = [{i["words"] for s in sentences.plan(seed, COUNTS) for i in s["items"]} for seed in (3, 4)]
    assert not said[0] & said[1]
