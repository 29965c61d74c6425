"""An embedded corpus of sentences of some thousand words by espeak-ng, hard enough to tell networks apart.

`split` is train, dev or test: voices and sentences of their own, and in dev and test about one word in ten that
training never has. `condition` is clean or noisy: half of the training sentences are in noisy rooms, and every dev and
test sentence is a second time. recipes/insights-small/README.md says why it is as it is.
"""

from __future__ import annotations

import importlib.resources
import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from otoscope.base import BadOption, Progress, derive_seed, silent
from otoscope.hear.corpus import Utterance, load_audio
from otoscope.hear.manifest import MANIFEST, write_manifest
from otoscope.hear.noise import add_noise
from otoscope.hear.perturb import with_room
from otoscope.hear.sound import write_sound
from otoscope.hear.speak import SAMPLE_RATE, TEST_VOICES, TRAIN_VOICES, plan_manner, speak_shards

STEMS = "stems.txt"
DEV_VOICES = ("en-us+m7", "en-us+f5")
VOICES = {
    "train": (*(voice for voice in TRAIN_VOICES if voice not in DEV_VOICES), "en-us+adam", "en-us+Andrea"),
    "dev": DEV_VOICES,
    "test": TEST_VOICES,
}
DEV_SENTENCES, TEST_SENTENCES = 100, 320
LEAST_SHARE = 0.1
SHORTEST, LONGEST = 4, 10
"""Words of a sentence."""
HELD_OUT = 0.1
"""Share of the stems that training never has."""
UNSEEN = 0.15
"""How often a noun, verb, adjective or name of a dev or test sentence is one of these."""


class Room(NamedTuple):
    """A range of rooms: reverberation time in seconds, direct sound over echo and signal over noise in dB."""

    t60_s: tuple[float, float]
    direct_db: tuple[float, float]
    snr_db: tuple[float, float]


ROOMS = {
    "train": Room((0.2, 0.5), (2, 10), (10, 25)),
    "dev": Room((0.3, 0.6), (2, 8), (8, 18)),
    "test": Room((0.3, 0.6), (2, 8), (8, 18)),
}
NOISES = ("pink", "babble")

# A name in capitals is a place for a word: see FORMS. Few sentences make sense, and that is meant: what comes next is
# not to be guessed.
SENTENCES = """
    the ADJ N VD DET N
    NAME VD DET LONG N PREP DET N
    DETS NS I PREP the ADJ N
    DET N ID ADV PREP DET N
    did NAME V DET N PREP DET N
    NAME and NAME VD NUM LONG NS
    why does DET N V DETS NS
    DET N was MORE than DET ADJ N
    we should V DET N TIME
    TIME NAME IS PREP DET ADJ N
    they were VG DET LONG N when NAME ID
    NUM NS ID PREP DET N
    please V DET N before you V DET N
    NAME IS ADV TIME
    nobody VD DETS ADJ NS
    if NAME IS the N will I
    DET N of NAME VS DETS NS ADV
    i am IG with NUM ADJ NS TIME
    DET N and DET N VD DET LONG N TIME
    do not V DET ADJ N
    NAME likes VG LONG NS
    who VD NAME so ADV
    DET ADJ N is IG
    LONG NS I but ADJ NS I
    without DET N NAME cannot V DETS NS
    our N VS NAME and DETS LONG NS
    NUM ADJ NS are IG PREP DET N
    she VD him because DET N ID
    you must never V DET LONG N
    it was NAME who VD DET ADJ N
    NAME VD DET N
    DETS ADJ NS I
    NUM NS are IG
    V DET LONG N
    DET N is MORE than NAME
    NAME IS like DET N
    LONG NS VD NAME
    did DET N I TIME
"""
FIXED = {
    "DET": "the the this that every my your his her our their another one".split(),
    "DETS": "the the these those many some few several most all".split(),
    "PREP": "in on under near behind beside above below with without over from like".split(),
}
# Place for a word → the section of stems.txt, and how its stems are changed.
FORMS = {
    "N": ("noun", "base"),
    "NS": ("noun", "plural"),
    **{f"V{ending}": ("verb", form) for ending, form in (("", "base"), ("S", "s"), ("D", "past"), ("G", "ing"))},
    **{f"I{ending}": ("verb-alone", form) for ending, form in (("", "base"), ("S", "s"), ("D", "past"), ("G", "ing"))},
    "ADJ": ("adjective", "base"),
    "MORE": ("adjective", "er"),
    "LONG": ("adjective-long", "base"),
    "ADV": ("adjective-long", "ly"),
    "NAME": ("name", "base"),
    "TIME": ("time", "base"),
    "NUM": ("number", "base"),
}
OPEN = ("noun", "verb", "verb-alone", "adjective", "adjective-long", "name")


def read_words() -> dict[str, list[str]]:
    """Section → stems; a stem may have its irregular form after a slash."""
    text = importlib.resources.files("otoscope.hear").joinpath(STEMS).read_text(encoding="utf-8")
    found: dict[str, list[str]] = {}
    section = ""
    for line in text.splitlines():
        if line.startswith("["):
            section = line.strip("[] ")
            found[section] = []
        elif section and not line.startswith("#"):
            found[section] += line.lower().split()
    return {section: list(dict.fromkeys(stems)) for section, stems in found.items()}


def inflect(stem: str, form: str) -> str:
    """A form of a stem by the rules of English spelling: "base", "plural", "s", "past", "ing", "er" or "ly"."""
    word, _, irregular = stem.partition("/")
    if form == "base":
        return word
    if irregular and form in ("plural", "past"):
        return irregular
    after_consonant_y = re.search(r"[^aeiou]y$", word)
    if form in ("plural", "s"):
        if after_consonant_y:
            return word[:-1] + "ies"
        return word + ("es" if re.search(r"(s|x|z|ch|sh|[^aeiou]o)$", word) else "s")
    if form == "ly":
        if word.endswith("le") and word[-3] not in "aeiou":
            return word[:-1] + "y"
        return word[:-1] + "ily" if after_consonant_y else word + ("ally" if word.endswith("ic") else "ly")
    if form == "ing" and word.endswith("ie"):
        return word[:-2] + "ying"
    if form != "ing" and after_consonant_y:
        return word[:-1] + "i" + ("ed" if form == "past" else form)
    if word.endswith("e") and not (form == "ing" and word.endswith("ee")):
        word = word[:-1]
    elif re.fullmatch(r"[^aeiou]*(qu)?[aeiou][^aeiouwxy]", word):
        word += word[-1]
    return word + {"past": "ed", "ing": "ing", "er": "er"}[form]


def forms_of(section: str, stem: str) -> set[str]:
    """Every word that a stem can become."""
    return {inflect(stem, form) for name, form in FORMS.values() if name == section}


def hold_out(words: Mapping[str, Sequence[str]], seed: int) -> dict[str, list[str]]:
    """The stems that training never has: a tenth of each open section, none sharing a form with another stem."""
    shared = Counter(form for section, stems in words.items() for stem in stems for form in forms_of(section, stem))
    fixed = {word for sentence in SENTENCES.split("\n") for word in sentence.split()}.union(*FIXED.values())
    found = {}
    for section in OPEN:
        own = [s for s in words[section] if all(shared[f] == 1 and f not in fixed for f in forms_of(section, s))]
        random.Random(derive_seed(seed, "held out", section)).shuffle(own)
        found[section] = sorted(own[: round(HELD_OUT * len(words[section]))])
    return found


def sentences(
    words: Mapping[str, Sequence[str]],
    held_out: Mapping[str, Sequence[str]],
    seed: int,
    unseen: float = 0.0,
    longest: int = LONGEST,
) -> Iterator[tuple[str, ...]]:
    """Different sentences of 4 to `longest` words, without end; each word of a section about as often as every other.

    `unseen` is how often a word is dealt from `held_out` in place of the rest.
    """
    rng = random.Random(seed)
    patterns = [pattern for line in SENTENCES.strip().splitlines() if len(pattern := line.split()) <= longest]
    known = {section: [s for s in stems if s not in held_out.get(section, ())] for section, stems in words.items()}
    decks: dict[tuple[str, bool], list[str]] = {}
    seen = set()

    def deal(section: str) -> str:
        rare = bool(held_out.get(section)) and rng.random() < unseen
        deck = decks.setdefault((section, rare), [])
        if not deck:
            deck += (held_out if rare else known)[section]
            rng.shuffle(deck)
        return deck.pop()

    def word(place: str) -> str:
        if place in FIXED:
            return rng.choice(FIXED[place])
        if place not in FORMS:
            return place
        section, form = FORMS[place]
        return inflect(deal(section), form)

    while True:
        sentence = tuple(word(place) for place in rng.choice(patterns))
        if sentence not in seen:
            seen.add(sentence)
            yield sentence


def fewer(words: Mapping[str, Sequence[str]], share: float, seed: int) -> dict[str, list[str]]:
    """A share of the stems of each open section, drawn at random; the rest whole."""
    kept = {}
    for section, stems in words.items():
        rng = random.Random(derive_seed(seed, "share", section))
        drawn = set(rng.sample(list(stems), max(10, round(share * len(stems))))) if section in OPEN else set(stems)
        kept[section] = [stem for stem in stems if stem in drawn]
    return kept


def plan(seed: int, counts: Mapping[str, int], share: float = 1.0, longest: int = LONGEST) -> list[dict[str, Any]]:
    """One shard a voice, as `otoscope.hear.speak.speak_shards` takes them; no sentence comes in two parts."""
    words = fewer(read_words(), share, seed)
    held_out = hold_out(words, seed)
    shards, taken = [], set()
    for split, voices in VOICES.items():
        unseen = 0.0 if split == "train" else UNSEEN
        source = (s for s in sentences(words, held_out, derive_seed(seed, split), unseen, longest) if s not in taken)
        said = [next(source) for _ in range(counts[split])]
        taken.update(said)
        for number, voice in enumerate(voices):
            name = voice.partition("+")[2].lower()
            rng = random.Random(derive_seed(seed, "manner", voice))
            items = [
                {"id": f"{name}-{index:04d}", "words": sentence} | plan_manner(rng)
                for index, sentence in enumerate(said[number :: len(voices)])
            ]
            shards.append({"voice": voice, "split": split, "seed": derive_seed(seed, "voice", voice), "items": items})
    return shards


def in_a_noisy_room(utterance: Utterance, others: Sequence[Utterance], seed: int, path: Path) -> Utterance:
    """The utterance in a room and a noise drawn for it, written to `path`; `others` are who babbles."""
    rng = random.Random(derive_seed(seed, "room", utterance.id))
    room = ROOMS[utterance.split]
    t60_s, direct_db, snr_db = (round(rng.uniform(*limits), 2) for limits in room)
    noise = rng.choice(NOISES)
    voices = [load_audio(other)[0] for other in rng.sample(list(others), 6)] if noise == "babble" else None
    own = rng.getrandbits(31)
    heard = with_room(load_audio(utterance)[0], SAMPLE_RATE, t60_s, own, direct_db=direct_db)
    samples = add_noise(heard, snr_db, seed=own + 1, kind=noise, babble=voices)
    write_sound(path, samples, SAMPLE_RATE)
    facts = {"condition": "noisy", "t60_s": t60_s, "direct_db": direct_db, "snr_db": snr_db, "noise": noise}
    return utterance.replace(audio=path, **facts)


def make_corpus(
    folder: Path,
    *,
    seed: int = 0,
    counts: Mapping[str, int],
    share: float = 1.0,
    longest: int = LONGEST,
    processes: int = 2,
    progress: Progress = silent,
) -> Path:
    """Speak the corpus into `folder`; gives the path of its manifest. The same options give the same bits.

    Args:
        counts: sentences of each split.
        share: of the stems of each open section; fewer words are easier.
        longest: words of the longest sentence, 4 to 10; an attention decoder learns short ones far sooner.
        processes: how many voices speak at a time.

    Raises:
        BadOption: too few sentences or words to learn from. OtoscopeError: espeak-ng is not installed.
    """
    if min(counts.values()) < 1 or not LEAST_SHARE <= share <= 1 or not SHORTEST <= longest <= LONGEST:
        raise BadOption(
            "this is no corpus to learn from",
            got=f"{dict(counts)} sentences of {longest} words at most, a share of {share:g}",
            wanted=f"sentences of {SHORTEST} to {LONGEST} words, a share of {LEAST_SHARE} to 1",
        )
    shards = plan(seed, counts, share, longest)
    spoken = speak_shards(shards, folder / "clean", processes=processes, progress=progress)
    learnt = {word for u in spoken if u.split == "train" for word in u.text.split()}
    spoken = [u.replace(condition="clean", unseen=sum(word not in learnt for word in u.text.split())) for u in spoken]
    train = [u for u in spoken if u.split == "train"]
    # Every other training sentence of a voice; of the rest both versions.
    worse = [u for u in spoken if u.split != "train" or int(u.id[-4:]) % 2]
    (folder / "noisy").mkdir(parents=True, exist_ok=True)
    names = [u.id if u.split == "train" else f"{u.id}-noisy" for u in worse]
    paths = [folder / "noisy" / f"{name}.wav" for name in names]

    def worsen(utterance: Utterance, path: Path) -> Utterance:
        others = [u for u in train if u.speaker != utterance.speaker]
        return in_a_noisy_room(utterance, others, seed, path)

    noisy = []
    with ThreadPoolExecutor(processes) as pool:
        for name, utterance in zip(names, pool.map(worsen, worse, paths), strict=True):
            noisy.append(utterance.replace(id=name))
            progress(len(noisy), len(worse), "in noisy rooms")
    replaced = {u.id for u in noisy}
    for utterance in spoken:
        if utterance.id in replaced:
            (folder / "clean" / f"{utterance.id}.wav").unlink()
    manifest = folder / MANIFEST
    write_manifest([*(u for u in spoken if u.id not in replaced), *noisy], manifest)
    return manifest


def summary(corpus: Sequence[Utterance]) -> list[str]:
    """A line a split: hours, sentences, voices, words, and how many of them training does not have."""
    said = []
    for split in VOICES:
        part = [u for u in corpus if u.split == split]
        words = [word for u in part for word in u.text.split()]
        unseen = sum(u.unseen for u in part)
        said.append(
            f"{split}: {sum(u.duration for u in part) / 3600:.2f} hours, {len(part)} utterances, "
            f"{len({u.speaker for u in part})} voices, {len(words)} words, {len(set(words))} different, "
            f"{100 * unseen / len(words):.1f} % not in training; "
            f"{np.mean([u.condition == 'noisy' for u in part]):.0%} in noisy rooms"
        )
    return said
