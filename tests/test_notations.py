"""Phones in IPA, in TIMIT's labels and classes, in espeak-ng's mnemonics."""

from __future__ import annotations

import pytest

from otoscope.base import BadInput
from otoscope.hear.notations import (
    ARPABET_TO_ESPEAK,
    ARPABET_TO_IPA,
    ARPABET_TO_TIMIT,
    IPA_TO_ARPABET,
    TIMIT_48_TO_39,
    TIMIT_TO_48,
    from_espeak_word,
    from_ipa,
    timit_39,
    to_espeak,
    to_ipa,
)
from otoscope.hear.phones import ESPEAK_TO_ARPABET, PHONES, TIMIT_TO_ARPABET, from_timit

# As dictionaries print them (Longman Pronunciation Dictionary, American; ɹ for r, stress marked).
PRINTED = """
    cake       K EY1 K                        ˈkeɪk
    about      AH0 B AW1 T                    əˈbaʊt
    butter     B AH1 T ER0                    ˈbʌtɚ
    bird       B ER1 D                        ˈbɝd
    judge      JH AH1 JH                      ˈdʒʌdʒ
    church     CH ER1 CH                      ˈtʃɝtʃ
    vision     V IH1 ZH AH0 N                 ˈvɪʒən
    thing      TH IH1 NG                      ˈθɪŋ
    these      DH IY1 Z                       ˈðiz
    yellow     Y EH1 L OW0                    ˈjɛloʊ
    boy        B OY1                          ˈbɔɪ
    good       G UH1 D                        ˈɡʊd
    house      HH AW1 S                       ˈhaʊs
    shoe       SH UW1                         ˈʃu
    father     F AA1 DH ER0                   ˈfɑðɚ
    law        L AO1                          ˈlɔ
    apple      AE1 P AH0 L                    ˈæpəl
    wipe       W AY1 P                        ˈwaɪp
    california K AE2 L AH0 F AO1 R N Y AH0    ˌkæləˈfɔɹnjə
    extreme    IH0 K S T R IY1 M              ɪkˈstɹim
    canteen    K AE0 N T IY1 N                kænˈtin
    mother     M AH1 DH ER0                   ˈmʌðɚ
"""

# Lee and Hon (1989), Table I: the allophones, beside a phone that stands for itself, in each of the 48 classes.
FORTY_EIGHT = """
    aa | ae | ah | ao | aw | ax ax-h | er axr | ay | b | ch | d | dh | dx | eh | el | m em | en | ng eng | ey | f
    g | hh hv | ih | ix | iy | jh | k | l | n nx | ow | oy | p | r | s | sh | t | th | uh | uw ux | v | w | y | z | zh
    sil pau h# | epi | cl pcl tcl kcl | vcl bcl dcl gcl
"""
# And the groups within which confusions are not counted.
THIRTY_NINE = ("sil cl vcl epi", "el l", "en n", "sh zh", "ao aa", "ih ix", "ah ax")


def printed() -> list[tuple[str, list[str], str]]:
    rows = [line.split() for line in PRINTED.strip().splitlines()]
    return [(word, phones, ipa) for word, *phones, ipa in rows]


@pytest.mark.parametrize(("word", "phones", "ipa"), printed(), ids=[word for word, *_ in printed()])
def test_words_are_written_as_dictionaries_print_them(word, phones, ipa):
    assert to_ipa(phones) == ipa
    assert to_ipa(phones, stress=False) == ipa.translate({ord("ˈ"): None, ord("ˌ"): None})
    assert from_ipa(ipa) == [phone.rstrip("012") for phone in phones]


def test_every_phone_goes_to_ipa_and_back():
    assert set(ARPABET_TO_IPA) == {*PHONES, "DX"}
    assert len(set(ARPABET_TO_IPA.values())) == 40
    for phone in ARPABET_TO_IPA:
        assert from_ipa(to_ipa([phone])) == [phone]
    assert from_ipa(to_ipa(["AH0", "ER0"])) == ["AH", "ER"]
    assert set(IPA_TO_ARPABET.values()) == set(ARPABET_TO_IPA)
    assert to_ipa(["K", "SIL", "EY1"]) == "k ˈeɪ"


def test_ipa_as_others_write_it():
    assert from_ipa("/ˈbɜːd/") == ["B", "ER", "D"]
    assert from_ipa("[t͡ʃɜɹt͜ʃ]") == ["CH", "ER", "CH"]
    assert from_ipa("ˈbʌt.l̩") == ["B", "AH", "T", "L"]
    assert from_ipa("pʰɹəʊt") == ["P", "R", "OW", "T"]
    assert from_ipa("ges") == ["G", "EH", "S"]
    assert from_ipa("") == []
    with pytest.raises(BadInput, match="'ø' is no sign"):
        from_ipa("bøf")
    with pytest.raises(BadInput, match="'XX' is no phone"):
        to_ipa(["XX"])


def test_timit_folds_to_48_and_39_as_lee_and_hon_say():
    groups = [group.split() for line in FORTY_EIGHT.strip().splitlines() for group in line.split("|")]
    assert len(groups) == 48
    seen = {"q"}
    for name, *members in groups:
        for label in (name, *members):
            if label not in ("sil", "cl", "vcl"):
                seen.add(label)
                assert TIMIT_TO_48[label] == name, label
    assert seen == set(TIMIT_TO_48) == set(TIMIT_TO_ARPABET)
    assert len(seen) == 61
    assert TIMIT_TO_48["q"] is None
    for group in THIRTY_NINE:
        assert len({TIMIT_48_TO_39[label] for label in group.split()}) == 1
    assert len(set(TIMIT_48_TO_39.values())) == 39


def test_the_39_classes_are_those_of_the_phones():
    for label in TIMIT_TO_ARPABET:
        folded, known = timit_39(label), from_timit(label)
        assert folded == (known.lower() if known else None)
    with pytest.raises(BadInput, match="TIMIT"):
        timit_39("oe")


def test_every_phone_goes_to_timit_and_back():
    assert set(ARPABET_TO_TIMIT) == {*PHONES, "DX", "SIL"}
    assert all(from_timit(label, lee_hon=False) == phone for phone, label in ARPABET_TO_TIMIT.items())


def test_every_phone_goes_to_espeak_and_back():
    assert set(ARPABET_TO_ESPEAK) == {*PHONES, "DX", "SIL"}
    for phone in PHONES:
        assert ESPEAK_TO_ARPABET[ARPABET_TO_ESPEAK[phone]] == (phone,)
    assert to_espeak("AH0 B AH1 T ER0".split()) == ["@", "b", "'V", "t", "3"]
    assert from_espeak_word(to_espeak("K AE2 L AH0 F AO1 R N Y AH0 SIL".split())) == [
        *"K AE L AH F AO R N Y AH SIL".split()
    ]
    # The r that a vowel is coloured by is not said twice.
    assert from_espeak_word(["v", "'e@", "r", "i"]) == ["V", "EH", "R", "IY"]
    with pytest.raises(BadInput, match="'XX' is no phone"):
        to_espeak(["XX"])
