from __future__ import annotations

from pathlib import Path

import pytest

from otoscope.base import BadInput, BadOption
from otoscope.hear.phones import (
    ESPEAK_TO_ARPABET,
    PHONE_TABLE,
    PHONES,
    TIMIT_TO_ARPABET,
    fold,
    from_espeak,
    from_timit,
    guess_source,
    known_value,
    phone_class,
    phones_with,
)

# Lee and Hon (1989), Table II, as groups: what the 61 labels of TIMIT become.
LEE_HON = """
    aa ao | ah ax ax-h | er axr | hh hv | ih ix | l el | m em | n en nx | ng eng | sh zh | uw ux
    sil pcl tcl kcl bcl dcl gcl h# pau epi
    ae | aw | ay | b | ch | d | dh | dx | eh | ey | f | g | iy | jh | k | ow | oy | p
    r | s | t | th | uh | v | w | y | z
"""

# What espeak-ng 1.52 sends for a word spoken by en-us, and how the CMU dictionary writes the word.
SPOKEN = """
    chair    | tS 'e@           | CH EH R
    vary     | v 'e@ r i        | V EH R IY
    near     | n 'i@3           | N IH R
    fire     | f 'aI3           | F AY ER
    car      | k 'A@            | K AA R
    water    | w 'O: t# 3       | W AO T ER
    bottle   | b '0 t# @L       | B AA T AH L
    thinking | T 'I N k I N     | TH IH NG K IH NG
    church   | tS '3: tS        | CH ER CH
    judge    | dZ 'V dZ         | JH AH JH
    measure  | m 'E Z 3         | M EH ZH ER
    boy      | b 'OI            | B OY
    about    | a# b 'aU t       | AH B AW T
    yellow   | j 'E l oU        | Y EH L OW
    house    | h 'aU s          | HH AW S
    these    | D 'i: z          | DH IY Z
    ship     | S 'I p           | SH IH P
    wood     | w 'U d           | W UH D
    food     | f 'u: d          | F UW D
    north    | n 'O@ T          | N AO R TH
    tour     | t 'U@            | T UH R
    happy    | h 'a p i         | HH AE P IY
    vision   | v 'I Z @ n       | V IH ZH AH N
    day      | d 'eI            | D EY
    five     | f 'aI v          | F AY V
    go       | g 'oU            | G OW
    lost     | l 'O2 s t        | L AO S T
    quiet    | k w 'aI@ t       | K W AY AH T
    ago      | a# g 'oU         | AH G OW
    damien   | d 'eI m i@ n     | D EY M IY AH N
    theater  | T 'i@ t# 3       | TH IY AH T ER
"""


def spoken() -> list[tuple[str, list[str], list[str]]]:
    rows = [line.split("|") for line in SPOKEN.strip().splitlines()]
    return [(word.strip(), events.split(), phones.split()) for word, events, phones in rows]


def test_the_set_has_39_phones_and_silence_and_the_flap_beside_them() -> None:
    assert len(PHONES) == len(set(PHONES)) == 39
    assert set(PHONE_TABLE) - set(PHONES) == {"SIL", "DX"}


def test_classes_agree_with_textbook_pairs() -> None:
    for voiceless, voiced in ("PB", "TD", "KG", "SZ", "FV", ("CH", "JH"), ("TH", "DH"), ("SH", "ZH")):
        for feature in ("manner", "place"):
            assert phone_class(voiceless, feature) == phone_class(voiced, feature)
        assert (phone_class(voiceless, "voicing"), phone_class(voiced, "voicing")) == ("voiceless", "voiced")
    for stop, nasal in ("BM", "DN", ("G", "NG")):
        assert phone_class(stop, "place") == phone_class(nasal, "place")
    assert phones_with(manner="stop", voicing="voiceless") == ("P", "T", "K")
    assert set(phones_with(height="high")) == {"IY", "IH", "UH", "UW"}
    assert set(phones_with(kind="diphthong")) == {"EY", "AY", "OY", "AW", "OW"}
    assert len(phones_with(manner="vowel")) == 15
    assert phone_class("T", "height") is None
    assert phone_class("SIL", "manner") == "silence"


def test_unknown_classes_and_labels_are_refused_in_words() -> None:
    with pytest.raises(BadOption, match="did you mean 'manner'"):
        phone_class("T", "maner")
    with pytest.raises(BadOption, match="'fricative'"):
        phones_with(manner="fricativ")
    with pytest.raises(BadInput, match="'XX' is not a phone label"):
        phone_class("XX", "manner")


def test_values_have_other_names_in_phonetics() -> None:
    assert [known_value("manner", name) for name in ("plosive", "stop", "flap")] == ["stop", "stop", "flap"]
    assert known_value("voicing", "unvoiced") == "voiceless"
    for feature, value in (("manner", "silence"), ("manner", "plosiv"), ("place", "uvular"), ("height", "stop")):
        with pytest.raises(BadOption, match=f"unknown {feature}"):
            known_value(feature, value)


# Ladefoged and Johnson's chart of English consonants: rows are manners, columns places, voiceless before voiced.
CHART = """
    stop      | bilabial P B | alveolar T D | velar K G
    affricate | postalveolar CH JH
    fricative | labiodental F V | dental TH DH | alveolar S Z | postalveolar SH ZH | glottal HH -
    nasal     | bilabial - M | alveolar - N | velar - NG
    flap      | alveolar - DX
    liquid    | alveolar - L | alveolar - R
    semivowel | labial-velar - W | palatal - Y
"""
# Heights and backness of vowels, where diphthongs begin.
VOWELS = {
    ("high", "front"): "IY IH", ("high", "back"): "UW UH", ("mid", "front"): "EY EH", ("mid", "central"): "AH ER",
    ("mid", "back"): "OW AO OY", ("low", "front"): "AE", ("low", "central"): "AY AW", ("low", "back"): "AA",
}  # fmt: skip


def test_the_table_is_that_of_the_charts() -> None:
    seen = {"SIL"}
    for line in CHART.strip().splitlines():
        manner, *cells = map(str.strip, line.split("|"))
        for cell in cells:
            place, *pair = cell.split()
            for voicing, label in zip(("voiceless", "voiced"), pair, strict=True):
                if label != "-":
                    seen.add(label)
                    found = PHONE_TABLE[label]
                    assert (found.manner, found.place, found.voicing) == (manner, place, voicing), label
                    assert (found.kind, found.height, found.backness) == ("consonant", None, None)
    for (height, backness), labels in VOWELS.items():
        for label in labels.split():
            seen.add(label)
            found = PHONE_TABLE[label]
            assert (found.height, found.backness, found.place) == (height, backness, None), label
            assert (found.manner, found.voicing) == ("vowel", "voiced")
    assert seen == set(PHONE_TABLE)


def test_timit_folds_as_lee_and_hon_say() -> None:
    groups = [group.split() for line in LEE_HON.strip().splitlines() for group in line.split("|")]
    assert len(groups) == 39
    for into, *others in groups:
        for label in (into, *others):
            if label != "sil":
                assert from_timit(label) == into.upper()
    assert from_timit("q") is None
    labels = {label for group in groups for label in group} - {"sil"} | {"q"}
    assert labels == set(TIMIT_TO_ARPABET)
    assert len(labels) == 61


def test_timit_may_keep_what_lee_and_hon_merge() -> None:
    assert [from_timit(label, lee_hon=False) for label in ("ao", "zh", "aa", "sh")] == ["AO", "ZH", "AA", "SH"]
    assert {from_timit(label, lee_hon=False) for label in TIMIT_TO_ARPABET} - {None} == set(PHONE_TABLE)
    with pytest.raises(BadInput, match="TIMIT"):
        from_timit("oe")


@pytest.mark.parametrize(("word", "events", "phones"), spoken(), ids=[word for word, *_ in spoken()])
def test_espeak_words_become_those_of_the_dictionary(word: str, events: list[str], phones: list[str]) -> None:
    pairs = zip(events, [*events[1:], "_:"], strict=True)
    assert [phone for event, following in pairs for phone in from_espeak(event, following)] == phones


def test_espeak_r_is_silent_where_the_accent_has_none() -> None:
    assert from_espeak("'A@") == ("AA", "R")
    assert from_espeak("'A@", rhotic=False) == ("AA",)
    assert from_espeak("3", rhotic=False) == ("AH",)
    assert from_espeak("3:", rhotic=False) == ("ER",)
    assert from_espeak("e@", "r", rhotic=False) == ("EH",)


def test_espeak_marks_pauses_and_syllabic_consonants() -> None:
    assert from_espeak("_:") == from_espeak("_") == from_espeak("_!") == ("SIL",)
    assert from_espeak(";") == from_espeak("") == ()
    assert from_espeak(",n-") == ("N",)
    assert from_espeak("l-") == ("L",)
    assert from_espeak("@L") == ("AH", "L")
    assert from_espeak("t#") == from_espeak("?") == ("T",)
    with pytest.raises(BadInput, match=r"espeak-ng's English"):
        from_espeak("y:")


def test_every_espeak_phone_is_in_the_set() -> None:
    assert {phone for phones in ESPEAK_TO_ARPABET.values() for phone in phones} == set(PHONES)


@pytest.mark.parametrize(
    ("label", "source", "folded"),
    [
        ("AH0", "auto", "AH"),
        ("AH1_B", "auto", "AH"),
        ("SIL", "auto", "SIL"),
        ("", "auto", "SIL"),
        ("sp", "auto", "SIL"),
        ("h#", "auto", "SIL"),
        ("spn", "auto", None),
        ("ax-h", "auto", "AH"),
        ("dx", "auto", "DX"),
        ("q", "auto", None),
        ("T", "auto", "T"),
        ("T", "espeak", "TH"),
        ("'i:", "auto", "IY"),
        ("A@", "espeak", "AA"),
        ("AX", "arpabet", "AH"),
        ("EL", "arpabet", "L"),
        ("Q", "arpabet", None),
        ("ao", "timit", "AA"),
        ("AO", "arpabet", "AO"),
    ],
)
def test_fold_reads_every_notation(label: str, source: str, folded: str | None) -> None:
    assert fold(label, source) == folded


def test_fold_refuses_unknown_sources() -> None:
    with pytest.raises(BadOption, match="did you mean 'timit'"):
        fold("ae", "timti")
    with pytest.raises(BadInput, match="ARPAbet"):
        fold("tcl", "arpabet")
    with pytest.raises(BadInput, match="'ah1_B'"):
        fold("ah1_B")


def test_the_notation_is_guessed_from_all_labels() -> None:
    assert guess_source(["SIL", "T", "AH0", "sp"]) == "arpabet"
    assert guess_source(["h#", "t", "ax", "tcl"]) == "timit"
    assert guess_source(["T", "I", "N", "k", "_:"]) == "espeak"
    assert guess_source(["T", "s", "S"]) == "espeak"
    with pytest.raises(BadOption, match="'xyz'"):
        guess_source(["AH", "xyz"])


@pytest.mark.real
def test_labels_of_real_corpora_fold(real_data: Path) -> None:
    phones = {line.split()[2] for file in real_data.glob("timit-nltk/labels/*/*.phn") for line in file.open()}
    assert len(phones) > 50
    assert guess_source(phones) == "timit"
    ctm = {line.split()[4] for line in (real_data / "librispeech-slice/phones-aligned.ctm").open()}
    assert {fold(label) for label in ctm} == set(PHONES) | {"SIL"}


@pytest.mark.real
def test_manners_are_those_of_the_cmu_dictionary(real_data: Path) -> None:
    theirs = dict(line.split() for line in (real_data / "cmudict/cmudict.phones").open())
    assert set(theirs) == set(PHONES)
    for label, manner in theirs.items():
        # The dictionary calls HH an aspirate.
        assert phone_class(label, "manner") == {"aspirate": "fricative"}.get(manner, manner)
    symbols = {line.strip() for line in (real_data / "cmudict/cmudict.symbols").open()}
    assert {fold(symbol, "arpabet") for symbol in symbols} == set(PHONES)
