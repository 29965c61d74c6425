"""Phones: the ARPAbet set, what kind of sound each one is, and how other notations fold into it.

The set is that of the CMU pronouncing dictionary: 39 phones without stress, and `SIL` for silence. TIMIT's 61 labels
fold into it as in Lee and Hon (1989), "Speaker-independent phone recognition using hidden Markov models", IEEE Trans.
ASSP 37(11): closures are silence, `q` is dropped, and the flap keeps a label of its own, `DX`. espeak-ng's mnemonics
fold by the sound that is made; where ARPAbet has no sign for it, by the phoneme it stands for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from otoscope.base import BadInput, BadOption, choose

SILENCE = "SIL"
FLAP = "DX"
SOURCES = ("arpabet", "timit", "espeak")


@dataclass(frozen=True)
class Phone:
    """One sound. `kind`: vowel, diphthong, consonant or silence; a feature that does not apply is None.

    Consonants have `manner`, `place` and `voicing`, vowels `height` and `backness` (manner "vowel", and voiced);
    those of a diphthong tell where it begins. After Ladefoged and Johnson, "A Course in Phonetics".
    """

    label: str
    kind: str
    manner: str | None
    place: str | None
    voicing: str | None
    height: str | None
    backness: str | None
    example: str


FEATURES = ("kind", "manner", "place", "voicing", "height", "backness")

_VOWELS = """
    IY vowel     high front    beat
    IH vowel     high front    bit
    EY diphthong mid  front    bait
    EH vowel     mid  front    bet
    AE vowel     low  front    bat
    AH vowel     mid  central  but
    ER vowel     mid  central  bird
    AA vowel     low  back     father
    AO vowel     mid  back     bought
    OW diphthong mid  back     boat
    UH vowel     high back     book
    UW vowel     high back     boot
    AY diphthong low  central  bite
    AW diphthong low  central  bout
    OY diphthong mid  back     boy
"""
_CONSONANTS = """
    P  stop      bilabial     voiceless pea
    B  stop      bilabial     voiced    bee
    T  stop      alveolar     voiceless tea
    D  stop      alveolar     voiced    day
    K  stop      velar        voiceless key
    G  stop      velar        voiced    gay
    CH affricate postalveolar voiceless choke
    JH affricate postalveolar voiced    joke
    F  fricative labiodental  voiceless fin
    V  fricative labiodental  voiced    van
    TH fricative dental       voiceless thin
    DH fricative dental       voiced    then
    S  fricative alveolar     voiceless sea
    Z  fricative alveolar     voiced    zone
    SH fricative postalveolar voiceless she
    ZH fricative postalveolar voiced    azure
    HH fricative glottal      voiceless hay
    M  nasal     bilabial     voiced    mom
    N  nasal     alveolar     voiced    noon
    NG nasal     velar        voiced    sing
    L  liquid    alveolar     voiced    lay
    R  liquid    alveolar     voiced    ray
    W  semivowel labial-velar voiced    way
    Y  semivowel palatal      voiced    yacht
    DX flap      alveolar     voiced    muddy
"""


def _phone_table() -> dict[str, Phone]:
    table = {}
    for line in _VOWELS.strip().splitlines():
        label, kind, height, backness, example = line.split()
        table[label] = Phone(label, kind, "vowel", None, "voiced", height, backness, example)
    for line in _CONSONANTS.strip().splitlines():
        label, manner, place, voicing, example = line.split()
        table[label] = Phone(label, "consonant", manner, place, voicing, None, None, example)
    table[SILENCE] = Phone(SILENCE, "silence", "silence", None, None, None, None, "")
    return table


PHONE_TABLE: dict[str, Phone] = _phone_table()
"""Label → what kind of sound it is: the 39 phones, `DX` and `SIL`."""

SYNONYMS = {
    "plosive": "stop",
    "glide": "semivowel",
    "palato-alveolar": "postalveolar",
    "labiovelar": "labial-velar",
    "unvoiced": "voiceless",
    "close": "high",
    "open": "low",
}
"""Other names that phonetics has for values of features → those used here (of heights, the extremes)."""

PHONES: tuple[str, ...] = tuple(label for label in PHONE_TABLE if label not in (SILENCE, FLAP))
"""The 39 phones of ARPAbet, vowels first."""


def phone_class(label: str, feature: str) -> str | None:
    """A feature of a phone: `phone_class("T", "manner")` is "stop"; None where it does not apply.

    Raises:
        BadOption: a feature other than `FEATURES`.
        BadInput: a label that is neither in `PHONES` nor `DX` or `SIL`.
    """
    choose("phone feature", feature, FEATURES)
    if label not in PHONE_TABLE:
        raise _unknown(label, "ARPAbet")
    return getattr(PHONE_TABLE[label], feature)


def known_value(feature: str, value: str) -> str:
    """A value of a phone feature under the name it has here: "stop" for "plosive", "voiceless" for "unvoiced".

    Raises:
        BadOption: a feature, or a value of one, that no phone has.
    """
    choose("phone feature", feature, FEATURES)
    value = SYNONYMS.get(value, value)
    sounds = [phone for label, phone in PHONE_TABLE.items() if label != SILENCE]
    return choose(feature, value, sorted({v for phone in sounds if (v := getattr(phone, feature))}))


def phones_with(**features: str) -> tuple[str, ...]:
    """The phones of `PHONES` that have all the given features: `phones_with(manner="stop", voicing="voiced")`.

    Raises:
        BadOption: a feature, or a value of one, that no phone has.
    """
    for feature, value in features.items():
        choose("phone feature", feature, FEATURES)
        choose(feature, value, sorted({v for label in PHONES if (v := getattr(PHONE_TABLE[label], feature))}))
    return tuple(p for p in PHONES if all(getattr(PHONE_TABLE[p], name) == value for name, value in features.items()))


# The labels of TIMIT that are not an ARPAbet phone in small letters.
_TIMIT_FOLDS: dict[str, str | None] = {
    # Reduced, fronted and devoiced vowels, syllabic consonants, allophones.
    **{"ax": "AH", "ax-h": "AH", "ix": "IH", "axr": "ER", "ux": "UW", "hv": "HH", "nx": "N", "dx": FLAP},
    **{"el": "L", "em": "M", "en": "N", "eng": "NG"},
    # Closures of stops, epenthetic silence, pauses, the ends of the recording.
    **dict.fromkeys(("bcl", "dcl", "gcl", "pcl", "tcl", "kcl", "epi", "pau", "h#"), SILENCE),
    # The glottal stop is an allophone of T, or marks the onset of a vowel.
    "q": None,
}
TIMIT_TO_ARPABET: dict[str, str | None] = {**{label.lower(): label for label in PHONES}, **_TIMIT_FOLDS}
"""TIMIT's 61 labels → ARPAbet, `DX` or `SIL`; None is dropped."""

LEE_HON_MERGED = {"AO": "AA", "ZH": "SH"}
"""What Lee and Hon (1989) merge beyond that, to arrive at 39 classes with silence."""


def from_timit(label: str, *, lee_hon: bool = True) -> str | None:
    """Fold one of TIMIT's 61 labels; None for `q`, which is dropped.

    The 39 classes are those of Lee and Hon (1989), silence among them: AO is counted as AA and ZH as SH. With
    `lee_hon=False` those two stay apart, as in the CMU dictionary.

    Raises:
        BadInput: not a label of TIMIT.
    """
    if label.lower() not in TIMIT_TO_ARPABET:
        raise _unknown(label, "TIMIT")
    folded = TIMIT_TO_ARPABET[label.lower()]
    return LEE_HON_MERGED.get(folded, folded) if lee_hon and folded else folded


# espeak-ng 1.52: the phonemes of its English tables (en, en-us and the accents), and those of its base tables that
# English words with foreign sounds use.
_ESPEAK_PHONES = """
    IY  i i:
    IH  I I2 I# I2#
    EY  eI e e: e#
    EH  E E# E2
    AE  a aa a2 a/
    AH  @ @- @2 @5 @# V a# a#2
    ER  3: IR VR
    AA  A: A# A~ 0 0# 02
    AO  O O: O2 O~
    OW  oU oU# o o:
    UH  U
    UW  u: u
    AY  aI aI2
    AW  aU
    OY  OI
    P   p
    B   b
    T   t t2 t# t[ ?
    D   d d# d[
    K   k x q
    G   g
    CH  tS
    JH  dZ
    F   f
    V   v v#
    TH  T
    DH  D
    S   s
    Z   z z# z/2
    SH  S
    ZH  Z
    HH  h C
    M   m m-
    N   n n- n^
    NG  N N-
    L   l l- l# l/ l/2 l/3 L
    R   r r- r/ R * **
    W   w w# w2
    Y   j
"""
# One mnemonic, two phones.
_ESPEAK_PAIRS = {"i@": ("IY", "AH"), "aI@": ("AY", "AH"), "@L": ("AH", "L")}
# Vowels coloured by an r that follows in the spelling: in accents that sound it, and in those that do not.
_ESPEAK_R_COLOURED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "3": (("ER",), ("AH",)),
    "A@": (("AA", "R"), ("AA",)),
    "O@": (("AO", "R"), ("AO",)),
    "o@": (("AO", "R"), ("AO",)),
    "e@": (("EH", "R"), ("EH", "AH")),
    "i@3": (("IH", "R"), ("IH", "AH")),
    "U@": (("UH", "R"), ("UH", "AH")),
    "aI3": (("AY", "ER"), ("AY", "AH")),
    "aU@": (("AW", "ER"), ("AW", "AH")),
}
ESPEAK_TO_ARPABET: dict[str, tuple[str, ...]] = {
    **{name: (label,) for label, *names in map(str.split, _ESPEAK_PHONES.strip().splitlines()) for name in names},
    **_ESPEAK_PAIRS,
    **{name: rhotic for name, (rhotic, _) in _ESPEAK_R_COLOURED.items()},
    # Palatalisation, length and a break between words make no sound of their own.
    **dict.fromkeys(("", ";", ":", "-", "||"), ()),
}
"""espeak-ng's mnemonics, without stress marks → ARPAbet, for an accent that sounds its r's."""

_ESPEAK_STRESS = "',%="


def from_espeak(mnemonic: str, following: str = "", *, rhotic: bool = True) -> tuple[str, ...]:
    """The ARPAbet phones that one of espeak-ng's phoneme events stands for: mostly one, two for `A@`, none for `;`.

    Stress marks are ignored, and every pause is `SIL`. `following` is the mnemonic of the next event, where it is
    known: before an r of its own a coloured vowel has none (`e@` `r` in *vary* is EH R, not EH R R). `rhotic=False` is
    for accents that do not sound the r of *car* (`gmw/en` and its kin); the mnemonics are the same there.

    Raises:
        BadInput: a mnemonic that the English voices do not have.
    """
    name = mnemonic.lstrip(_ESPEAK_STRESS)
    if name.startswith("_"):
        return (SILENCE,)
    if name not in ESPEAK_TO_ARPABET:
        raise _unknown(mnemonic, "espeak-ng's English")
    if name not in _ESPEAK_R_COLOURED:
        return ESPEAK_TO_ARPABET[name]
    sounded, silent = _ESPEAK_R_COLOURED[name]
    if len(sounded) == 2 and ESPEAK_TO_ARPABET.get(following.lstrip(_ESPEAK_STRESS)) == ("R",):
        return sounded[:1]
    return sounded if rhotic else silent


# Silence and noise in the notations of Kaldi, the Montreal Forced Aligner, pocketsphinx and Praat.
_SILENCES = {"sil", "sp", "<eps>", "<sil>", "<p:>", "#", "pau", "h#", ""}
_NOISES = {"spn", "nsn", "lau", "<unk>", "+noise+", "+breath+", "+spn+", "[noise]"}
_STRESS_AND_POSITION = re.compile(r"(?<=[A-Z])[0-2]?(_[BIES])?$")


def fold(label: str, source: str = "auto", *, lee_hon: bool = True) -> str | None:
    """One label of a phone tier as ARPAbet, `DX` or `SIL`; None when it is to be dropped (noise, TIMIT's `q`).

    `source` names the notation; "auto" tries ARPAbet (with or without stress and word position), then TIMIT, then
    espeak-ng, label by label. Single capitals are ARPAbet then, though espeak-ng writes TH as `T`: `guess_source` looks
    at all labels of a corpus and knows better. A mnemonic of espeak-ng that stands for two phones folds to the first.
    `lee_hon` is for TIMIT only (see `from_timit`).

    Raises:
        BadOption: a source other than "auto" and `SOURCES`.
        BadInput: a label that the source does not have.
    """
    choose("source of phone labels", source, ("auto", *SOURCES))
    label = label.strip()
    if source != "auto":
        return _fold_known(label, source, lee_hon)
    for name in SOURCES:
        if _knows(label, name):
            return _fold_known(label, name, lee_hon)
    raise _unknown(label, "any known")


def guess_source(labels: Iterable[str]) -> str:
    """The notation that has all these labels: "arpabet", "timit" or "espeak", in this order.

    Raises:
        BadOption: none has them all; the message names labels that each one lacks.
    """
    distinct = sorted({label.strip() for label in labels})
    lacking = {}
    for source in SOURCES:
        lacking[source] = [label for label in distinct if not _knows(label, source)]
        if not lacking[source]:
            return source
    raise BadOption(
        "the phone labels belong to no notation known here",
        got="; ".join(f"not in {source}: {' '.join(map(repr, labels[:5]))}" for source, labels in lacking.items()),
        wanted=f"labels of {', '.join(SOURCES)}",
        remedy="use the labels as they are, or translate them first",
    )


def _fold_known(label: str, source: str, lee_hon: bool) -> str | None:
    if label.lower() in _SILENCES:
        return SILENCE
    if label.lower() in _NOISES:
        return None
    if source == "timit":
        return from_timit(label, lee_hon=lee_hon)
    if source == "espeak":
        return next(iter(from_espeak(label)), None)
    bare = _STRESS_AND_POSITION.sub("", label)
    if bare in PHONE_TABLE:
        return bare
    # ARPAbet's own signs for reduced vowels and allophones, which TIMIT writes in small letters.
    if bare.isupper() and bare.lower() in _TIMIT_FOLDS:
        return _TIMIT_FOLDS[bare.lower()]
    raise _unknown(label, "ARPAbet")


def _knows(label: str, source: str) -> bool:
    try:
        _fold_known(label, source, lee_hon=True)
    except BadInput:
        return False
    # TIMIT is written in small letters, and espeak-ng's capitals mean other sounds.
    return source != "timit" or label == label.lower()


def _unknown(label: str, notation: str) -> BadInput:
    return BadInput(
        f"{label!r} is not a phone label of {notation} notation",
        got=repr(label),
        wanted="a label such as AE or SIL (ARPAbet), ae or h# (TIMIT), 'a or _: (espeak-ng)",
        remedy="name the notation the labels are in, or correct the label",
    )
