"""The phones of ARPAbet in other notations, and back: IPA, TIMIT's 61 labels, espeak-ng; TIMIT's 48 and 39 classes.

IPA is that of General American in the Handbook of the International Phonetic Association (1999, pp. 41-44), with the
diphthongs of FACE and GOAT written as such. The 48 and 39 classes are those of Lee and Hon (1989), "Speaker-independent
phone recognition using hidden Markov models", Table I and section III: models are trained for 48, and confusions within
seven groups are not counted, which leaves 39.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from otoscope.base import BadInput
from otoscope.hear.phones import FLAP, SILENCE, TIMIT_TO_ARPABET, from_espeak, from_timit

_IPA = """
    IY i  IH ɪ  EY eɪ EH ɛ  AE æ  AH ʌ  ER ɝ  AA ɑ  AO ɔ  OW oʊ UH ʊ  UW u  AY aɪ AW aʊ OY ɔɪ
    P p   B b   T t   D d   K k   G ɡ   CH tʃ JH dʒ F f   V v   TH θ  DH ð  S s   Z z   SH ʃ  ZH ʒ
    HH h  M m   N n   NG ŋ  L l   R ɹ   W w   Y j   DX ɾ
"""
ARPABET_TO_IPA: dict[str, str] = dict(zip(_IPA.split()[::2], _IPA.split()[1::2], strict=True))
"""Each of the 39 phones, and the flap, in IPA; silence has no sign. Without stress AH and ER are ə and ɚ."""

_UNSTRESSED = {"AH": "ə", "ER": "ɚ"}
_STRESS = {"1": "ˈ", "2": "ˌ"}

# Other ways to write the same, as dictionaries and phonemic transcriptions of English have them.
_IPA_VARIANTS = {
    **{"ə": "AH", "ɐ": "AH", "ɚ": "ER", "ɜ": "ER", "ɜɹ": "ER", "əɹ": "ER", "ɨ": "IH", "ᵻ": "IH", "e": "EH"},
    **{"a": "AA", "ɒ": "AA", "o": "OW", "əʊ": "OW", "ʉ": "UW", "ɛɪ": "EY", "ɑɪ": "AY", "ɑʊ": "AW"},
    **{"g": "G", "r": "R", "ʧ": "CH", "ʤ": "JH", "ɫ": "L", "ʔ": "T", "ɦ": "HH", "ʍ": "W", "x": "K"},
}
IPA_TO_ARPABET: dict[str, str] = {**_IPA_VARIANTS, **{ipa: phone for phone, ipa in ARPABET_TO_IPA.items()}}
"""Signs of IPA, one or two characters → ARPAbet."""

# Stress, length, syllables, ties, and what espeak-ng and Wiktionary put around a transcription.
_MARKS = set("ˈˌːˑ.ʲ͡‿/[]() ") | {"\u0361", "\u035c"}
# Below or beside a letter: syllabic, non-syllabic, dental, voiceless, rhotic, nasal, aspirated, unreleased.
_DIACRITICS = set("\u0329\u030d\u032f\u032a\u0325\u030a\u02de\u0303\u02b0\u031a\u02e0\u02b7\u0334")

_TO_ESPEAK = """
    IY i: IH I  EY eI EH E  AE a  AH V  ER 3: AA A: AO O: OW oU UH U  UW u: AY aI AW aU OY OI
    P p   B b   T t   D d   K k   G g   CH tS JH dZ F f   V v   TH T  DH D  S s   Z z   SH S  ZH Z
    HH h  M m   N n   NG N  L l   R r   W w   Y j   DX t#
"""
ARPABET_TO_ESPEAK: dict[str, str] = {
    **dict(zip(_TO_ESPEAK.split()[::2], _TO_ESPEAK.split()[1::2], strict=True)),
    SILENCE: "_:",
}
"""The mnemonic by which espeak-ng's American voice says each phone; AH without stress is `@`. `from_espeak` reads them
back, the flap as T."""

ARPABET_TO_TIMIT: dict[str, str] = {
    **{phone: label for label, phone in TIMIT_TO_ARPABET.items() if phone and label == phone.lower()},
    FLAP: "dx",
    SILENCE: "pau",
}
"""Each phone, the flap and silence as one of TIMIT's 61 labels. TIMIT's closures are not told from silence here."""

_48_FOLDS: dict[str, str | None] = {
    **{"ux": "uw", "axr": "er", "ax-h": "ax", "em": "m", "nx": "n", "eng": "ng", "hv": "hh"},
    **dict.fromkeys(("pcl", "tcl", "kcl"), "cl"),
    **dict.fromkeys(("bcl", "dcl", "gcl"), "vcl"),
    **dict.fromkeys(("h#", "pau"), "sil"),
    "q": None,
}
TIMIT_TO_48: dict[str, str | None] = {label: _48_FOLDS.get(label, label) for label in TIMIT_TO_ARPABET}
"""TIMIT's 61 labels → the 48 classes for which models are trained: `cl` and `vcl` are closures, `epi` stays; `q` is
dropped."""

_39_GROUPS = ("sil cl vcl epi", "l el", "n en", "sh zh", "aa ao", "ih ix", "ah ax")
TIMIT_48_TO_39: dict[str, str] = {
    **{label: label for label in TIMIT_TO_48.values() if label},
    **{label: group.split()[0] for group in _39_GROUPS for label in group.split()},
}
"""The 48 classes → the 39 by which they are scored."""


def timit_39(label: str) -> str | None:
    """One of TIMIT's 61 labels as one of the 39 classes, in TIMIT's small letters; None for `q`, which is dropped.

    The same as `from_timit` with its default, in TIMIT's writing.

    Raises:
        BadInput: not a label of TIMIT.
    """
    # For the message about labels that TIMIT has not.
    from_timit(label)
    class_48 = TIMIT_TO_48[label.lower()]
    return None if class_48 is None else TIMIT_48_TO_39[class_48]


def to_ipa(phones: Sequence[str], *, stress: bool = True) -> str:
    """Phones of ARPAbet in IPA: `["K", "EY1", "K"]` is "ˈkeɪk" with its stress, "keɪk" without.

    A mark of stress stands before the consonants with which the syllable can begin: those between the last vowel and
    this one, all but the first where there are two or more. AH0 and ER0 are ə and ɚ; without a digit they are ʌ and ɝ.
    Silence is a space.

    Raises:
        BadInput: what is no phone of ARPAbet.
    """
    signs: list[str] = []
    begins = 0
    since_vowel = 0
    for phone in phones:
        bare, digit = (phone[:-1], phone[-1]) if phone[-1:].isdigit() else (phone, "")
        if bare == SILENCE:
            signs.append(" ")
            begins, since_vowel = len(signs), 0
            continue
        if bare not in ARPABET_TO_IPA:
            raise BadInput(f"{phone!r} is no phone of ARPAbet", got=repr(phone), wanted="a phone such as AE or AE1")
        sign = _UNSTRESSED.get(bare, ARPABET_TO_IPA[bare]) if digit == "0" else ARPABET_TO_IPA[bare]
        if digit and stress:
            first_syllable = begins == 0 or signs[begins - 1] == " "
            onset = begins if first_syllable or since_vowel < 2 else begins + 1
            if digit in _STRESS:
                signs.insert(onset, _STRESS[digit])
        signs.append(sign)
        if digit:
            begins, since_vowel = len(signs), 0
        else:
            since_vowel += 1
    return "".join(signs)


def from_ipa(text: str) -> list[str]:
    """A transcription in IPA as phones of ARPAbet without stress: "ˈkeɪk" is `["K", "EY", "K"]`.

    Two signs are one phone where English has it so (eɪ, tʃ), the longest first. Marks of stress, length, syllables and
    ties say nothing about the phone; diacritics are dropped.

    Raises:
        BadInput: a sign that no phone of English has.
    """
    kept = "".join(
        sign for sign in unicodedata.normalize("NFD", text) if sign not in _MARKS and sign not in _DIACRITICS
    )
    phones, place = [], 0
    while place < len(kept):
        for size in (2, 1):
            sign = kept[place : place + size]
            if len(sign) == size and sign in IPA_TO_ARPABET:
                phones.append(IPA_TO_ARPABET[sign])
                place += size
                break
        else:
            raise BadInput(
                f"{kept[place]!r} is no sign of English in IPA",
                got=repr(text),
                wanted=" ".join(sorted(IPA_TO_ARPABET)),
            )
    return phones


def to_espeak(phones: Sequence[str]) -> list[str]:
    """Phones of ARPAbet as espeak-ng's mnemonics, its mark before stressed vowels: `["K", "EY1"]` is `["k", "'eI"]`.

    AH0 is `@` and ER0 `3`.

    Raises:
        BadInput: what is no phone of ARPAbet.
    """
    found = []
    for phone in phones:
        bare, digit = (phone[:-1], phone[-1]) if phone[-1:].isdigit() else (phone, "")
        if bare not in ARPABET_TO_ESPEAK:
            raise BadInput(f"{phone!r} is no phone of ARPAbet", got=repr(phone), wanted="a phone such as AE or AE1")
        sign = {"AH0": "@", "ER0": "3"}.get(phone, ARPABET_TO_ESPEAK[bare])
        found.append({"1": "'", "2": ","}.get(digit, "") + sign)
    return found


def from_espeak_word(mnemonics: Sequence[str], *, rhotic: bool = True) -> list[str]:
    """What espeak-ng sends for a word, as phones of ARPAbet (see `from_espeak`).

    Raises:
        BadInput: a mnemonic that the English voices do not have.
    """
    pairs = zip(mnemonics, [*mnemonics[1:], ""], strict=True)
    return [phone for name, following in pairs for phone in from_espeak(name, following, rhotic=rhotic)]
