"""The spoken corpus: the same bits from the same seed, parts that share nothing, times that lie where the sound is."""

from __future__ import annotations

import importlib.util
import itertools
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from otoscope.base import BadOption, OtoscopeError
from otoscope.hear import speak
from otoscope.hear.corpus import Corpus, read_corpus
from otoscope.hear.phones import PHONES
from otoscope.hear.speak import TEST_VOICES, TRAIN_VOICES, load_words, plan_sequences, plan_shards, speak_corpus

WORDS = "cat dog chair thing boy usual yellow about shoe five house jam".split()
espeak = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None,
    reason="espeak-ng is not installed: pip install otoscope[synth]",
)


@pytest.fixture(scope="module")
def spoken(tmp_path_factory) -> tuple[Path, Path, Path]:
    """Half a minute by five voices, twice with one seed and once with another."""
    folder = tmp_path_factory.mktemp("spoken")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(speak, "TRAIN_VOICES", TRAIN_VOICES[2:8:2])
        patched.setattr(speak, "TEST_VOICES", TEST_VOICES[:1])
        for name, seed, processes in (("one", 5, 1), ("two", 5, 2), ("other", 6, 2)):
            found = speak_corpus(folder / name, seed=seed, minutes=0.5, words=WORDS, processes=processes)
            assert found == folder / name / "manifest.jsonl"
    return folder / "one", folder / "two", folder / "other"


@pytest.fixture
def corpus(spoken) -> Corpus:
    return read_corpus(spoken[0], strict=True)


@espeak
def test_a_seed_gives_the_same_bits(spoken):
    one, two, _ = ({path.name: path.read_bytes() for path in folder.rglob("*.wav")} for folder in spoken)
    assert len(one) >= 15
    assert one == two
    texts = [(folder / "manifest.jsonl").read_text().replace(str(folder), "") for folder in spoken[:2]]
    assert texts[0] == texts[1]


@espeak
def test_another_seed_gives_another_corpus(spoken):
    one, _, other = (read_corpus(folder) for folder in spoken)
    assert not {u.text for u in one} & {u.text for u in other}
    assert not {p.read_bytes() for p in spoken[0].rglob("*.wav")} & {p.read_bytes() for p in spoken[2].rglob("*.wav")}


@espeak
def test_the_corpus_is_as_long_as_asked_and_its_parts_are_apart(spoken, corpus):
    seconds = [soundfile.info(path).duration for path in spoken[0].rglob("*.wav")]
    assert sum(seconds) >= 30
    assert {soundfile.info(path).samplerate for path in spoken[0].rglob("*.wav")} == {16000}
    train, test = ([u for u in corpus if u.split == split] for split in ("train", "test"))
    assert len(train) + len(test) == len(corpus) == len(seconds)
    assert {u.speaker for u in train} == set(TRAIN_VOICES[2:8:2])
    assert {u.speaker for u in test} == {TEST_VOICES[0]}
    assert not {u.text for u in train} & {u.text for u in test}


@espeak
def test_tiers_cover_the_words_in_order(corpus):
    for utterance in corpus:
        length = soundfile.info(utterance.audio).duration
        words, phones = utterance.tiers["word"], utterance.tiers["phone"]
        assert [segment[2] for segment in words] == utterance.text.split()
        for tier in (words, phones):
            assert all(0 <= start < end <= length for start, end, _ in tier)
            assert all(first[1] <= second[0] + 1e-4 for first, second in itertools.pairwise(tier))
        assert {segment[2] for segment in phones} <= set(PHONES)
        for start, end, word in words:
            inside = [label for first, last, label in phones if first >= start - 1e-4 and last <= end + 1e-4]
            assert len(inside) >= 2, (utterance.id, word)
        assert sum(len([p for p in phones if p[0] >= w[0] - 1e-4 and p[1] <= w[1] + 1e-4]) for w in words) == len(
            phones
        )


@espeak
def test_phones_are_the_words_own(corpus):
    """Consonants as every dictionary has them; vowels differ between dictionaries."""
    consonants = {
        "cat": "K T",
        "dog": "D G",
        "chair": "CH R",
        "thing": "TH NG",
        "boy": "B",
        "five": "F V",
        "jam": "JH M",
    }
    checked: Counter[str] = Counter()
    for utterance in corpus:
        words = utterance.tiers["word"]
        for start, end, word in words:
            if word in consonants:
                checked[word] += 1
                labels = [p[2] for p in utterance.tiers["phone"] if p[0] >= start - 1e-4 and p[1] <= end + 1e-4]
                assert " ".join(label for label in labels if label[0] not in "AEIOU") == consonants[word], utterance.id
    assert set(checked) == set(consonants)


@espeak
@pytest.mark.parametrize(
    ("text", "phone"), [("call thick", "l"), ("jam other", "m"), ("ring out", "N"), ("call lake", "l")]
)
def test_a_word_begins_after_the_last_phone_of_the_one_before(text, phone):
    program = (
        "import sys, json\nfrom otoscope.hear.espeak import Synthesiser\n"
        "synthesiser = Synthesiser(0)\nsynthesiser.set_voice('en-us+m5')\nspeech = synthesiser.say(sys.argv[1])\n"
        "print(json.dumps([speech.words, speech.phones]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, text], capture_output=True, text=True, check=True)
    words, phones = json.loads(done.stdout)
    assert words[1][0] > next(sample for sample, label in phones if label == phone)


@espeak
def test_words_that_are_spoken_as_one_come_as_one():
    program = (
        "from otoscope.hear.espeak import Synthesiser\n"
        "synthesiser = Synthesiser(0)\nsynthesiser.set_voice('en-us+m5')\n"
        "print([word for _, word in synthesiser.say('do not sit in the  rain, please.').words])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['do not', 'sit', 'in the', 'rain', 'please']"


@espeak
def test_words_sound_where_their_times_say(corpus):
    for utterance in corpus:
        samples, rate = soundfile.read(utterance.audio)
        words = utterance.tiers["word"]
        silence = np.mean(samples[: round(words[0][0] * rate)] ** 2)
        after = np.mean(samples[round(words[-1][1] * rate) :] ** 2)
        for start, end, word in words:
            energy = np.mean(samples[round(start * rate) : round(end * rate)] ** 2)
            assert energy > 8 * silence, (utterance.id, word)
            assert energy > 2 * after, (utterance.id, word)
        # The sound sets in within 60 ms of the first word's time.
        blocks = samples[: len(samples) // 80 * 80].reshape(-1, 80)
        onset = int(np.argmax(np.mean(blocks**2, axis=1) > 2.5 * silence)) * 80 / rate
        assert abs(onset - words[0][0]) < 0.06, utterance.id


@espeak
def test_an_unknown_voice_is_refused():
    shard = {"voice": "en-us+nobody", "split": "train", "seed": 0, "items": []}
    with pytest.raises(OtoscopeError, match=r"en-us\+nobody"):
        speak._speak_in_fresh_process(shard, Path())
    # A process may hold one synthesiser only, so this one holds none.
    program = (
        "from otoscope.hear.espeak import Synthesiser\nfrom otoscope.base import BadOption\n"
        "synthesiser = Synthesiser(0)\nsynthesiser.set_voice('en-us+f2')\n"
        "for voice in ('en-us+nobody', 'qq-nowhere'):\n"
        "    try:\n        synthesiser.set_voice(voice)\n    except BadOption as error:\n        print(error.got)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["en-us+nobody", "qq-nowhere"]


def test_test_voices_and_their_sequences_are_unheard_in_training():
    assert len({*TRAIN_VOICES, *TEST_VOICES}) == 20
    shards = plan_shards(0, 1000, load_words())
    said = {
        split: [i["words"] for s in shards if s["split"] == split for i in s["items"]] for split in ("train", "test")
    }
    voices = {split: {s["voice"] for s in shards if s["split"] == split} for split in ("train", "test")}
    assert voices == {"train": set(TRAIN_VOICES), "test": set(TEST_VOICES)}
    assert (len(said["train"]), len(said["test"])) == (900, 100)
    assert len({*said["train"], *said["test"]}) == 1000
    ids = [item["id"] for shard in shards for item in shard["items"]]
    assert len(set(ids)) == 1000


def test_plans_depend_on_the_seed_and_nothing_else():
    assert json.dumps(plan_shards(3, 60, WORDS)) == json.dumps(plan_shards(3, 60, WORDS))
    for other in (plan_shards(4, 60, WORDS), plan_shards(3, 60, WORDS, batch=1)):
        for one, two in zip(plan_shards(3, 60, WORDS), other, strict=True):
            assert one["seed"] != two["seed"]
            assert one["items"] != two["items"]


def test_sequences_are_new_and_use_words_equally_often():
    forbidden = set(plan_sequences(WORDS, 50, seed=1))
    sequences = plan_sequences(WORDS, 300, seed=1, forbidden=forbidden)
    assert len(set(sequences)) == 300
    assert not set(sequences) & forbidden
    assert {len(sequence) for sequence in sequences} == {3, 4, 5, 6}
    counts = Counter(itertools.chain.from_iterable(plan_sequences(WORDS, 300, seed=2)))
    assert max(counts.values()) - min(counts.values()) <= 2


def test_what_cannot_be_spoken_is_refused(tmp_path):
    with pytest.raises(BadOption, match=r"2 words[\s\S]*at least 10"):
        speak_corpus(tmp_path, words=["a", "b"] * 10)
    with pytest.raises(BadOption, match="-1 minutes"):
        speak_corpus(tmp_path, minutes=-1)
    with pytest.raises(BadOption, match="more than 0"):
        speak_corpus(tmp_path, minutes=float("nan"))


def test_the_word_list():
    words = load_words()
    assert len(words) >= 300
    assert len(set(words)) == len(words)
    assert all(re.fullmatch("[a-z]+", word) for word in words)


@pytest.mark.real
def test_the_word_list_has_every_phone_and_no_two_words_sound_alike(real_data):
    pronounced: dict[str, tuple[str, ...]] = {}
    with open(real_data / "cmudict" / "cmudict.dict", encoding="utf-8") as file:
        for line in file:
            word, *phones = line.partition("#")[0].split()
            pronounced[word] = tuple(phone.rstrip("012") for phone in phones)
    words = load_words()
    assert [word for word in words if word not in pronounced] == []
    having = Counter(phone for word in words for phone in set(pronounced[word]))
    assert {phone: having[phone] for phone in PHONES if having[phone] < 5} == {}
    assert len(PHONES) == 39
    sounds = Counter(pronounced[word] for word in words)
    assert [sound for sound, count in sounds.items() if count > 1] == []
