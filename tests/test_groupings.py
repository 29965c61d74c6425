"""Labels of frames: planted segments come out at known frames; conditions are what Python and `select` make of them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest
import torch

from otoscope.base import BadOption
from otoscope.hear.corpus import Utterance, select
from otoscope.study.groupings import Grouping, Labels, membership

FRAME_S = 0.02


def make_grouping(name, utterances, frames, frame_s, symbols) -> Grouping:
    (found,) = Labels(utterances, frames, frame_s, symbols).group(name)
    return found


def speech(id: str, phones: list[tuple[float, float, str]], **more: object) -> Utterance:
    return Utterance(id, tiers={"phone": phones}, **more)  # type: ignore[arg-type]


def group(name: str, utterances: list[Utterance], frames: list[int]) -> tuple[tuple[str, ...], list[list[int]]]:
    found = make_grouping(name, utterances, frames, FRAME_S, ["_", "a", "b"])
    assert found.frames is not None
    return found.labels, [row.tolist() for row in found.frames]


def test_phones_at_known_frames() -> None:
    # Frame t is at 20 t ms: AE from 40 ms holds frames 2 to 4, T from 100 ms up to but not at 160 ms frames 5 to 7.
    labels, rows = group("phone", [speech("u", [(0.04, 0.1, "AE1"), (0.1, 0.16, "T")])], [10])
    assert labels == ("AE", "T")
    assert rows == [[-1, -1, 0, 0, 0, 1, 1, 1, -1, -1]]


def test_segments_between_frames_and_beyond_the_end() -> None:
    labels, rows = group("phone", [speech("u", [(0.041, 0.059, "AE"), (0.11, 9.0, "T")])], [8])
    # AE lies between frames 2 and 3 and has none.
    assert labels == ("AE", "T")
    assert rows == [[-1, -1, -1, -1, -1, -1, 1, 1]]


def test_silence_is_no_group() -> None:
    labels, rows = group("phone", [speech("u", [(0, 0.04, "SIL"), (0.04, 0.08, "AE"), (0.08, 0.12, "sp")])], [6])
    assert labels == ("AE",)
    assert rows == [[-1, -1, 0, 0, -1, -1]]


def test_timit_labels_are_folded() -> None:
    # h# and the closure tcl are silence; ix is IH, ao is AA in the 39 phones of Lee and Hon.
    tier = [(0, 0.02, "h#"), (0.02, 0.04, "ix"), (0.04, 0.06, "tcl"), (0.06, 0.08, "t"), (0.08, 0.1, "ao")]
    labels, rows = group("phone", [speech("u", tier)], [6])
    named = [None if number < 0 else labels[number] for number in rows[0]]
    assert named == [None, "IH", None, "T", "AA", None]


def test_utterances_without_the_tier_belong_to_none() -> None:
    labels, rows = group("phone", [speech("u", [(0, 0.04, "AE")]), Utterance("v")], [2, 3])
    assert labels == ("AE",)
    assert rows == [[0, 0], [-1, -1, -1]]


def test_other_tiers_keep_their_labels() -> None:
    utterance = Utterance("u", tiers={"word": [(0, 0.04, "ix"), (0.04, 0.08, "sil")]})
    assert group("word", [utterance], [4]) == (("ix", "sil"), [[0, 0, 1, 1]])


def test_speakers_and_attributes() -> None:
    utterances = [Utterance("u", speaker="bob", age=7), Utterance("v", speaker="ann"), Utterance("w", age=12)]
    assert group("speaker", utterances, [2, 1, 1]) == (("ann", "bob"), [[1, 1], [0], [-1]])
    assert group("age", utterances, [2, 1, 1]) == (("12", "7"), [[1, 1], [-1], [0]])


def test_symbols_are_their_own_labels() -> None:
    found = make_grouping("symbol", [Utterance("u")], [4], FRAME_S, ["_", "a", "b"])
    assert (found.frames, found.groups) == (None, ["symbol:_", "symbol:a", "symbol:b"])


def test_unknown_grouping_says_what_there_is() -> None:
    utterances = [Utterance("u", tiers={"word": [(0, 1, "so")]}, dialect="north")]
    with pytest.raises(BadOption) as caught:
        make_grouping("gender", utterances, [4], FRAME_S, ["_"])
    for word in ("'gender'", "symbol", "speaker", "word", "dialect"):
        assert word in str(caught.value)
    assert "--ctm" not in str(caught.value)
    with pytest.raises(BadOption, match="--ctm phone=FILE"):
        make_grouping("phone", utterances, [4], FRAME_S, ["_"])


def test_membership_on_one_axis() -> None:
    utterances = [
        speech("u", [(0, 0.04, "AE"), (0.04, 0.06, "T")], speaker="bob"),
        speech("v", [(0.02, 0.06, "T")], speaker="ann"),
    ]
    frames = [4, 3]
    groupings = [make_grouping(n, utterances, frames, FRAME_S, ["_", "a", "b"]) for n in ("symbol", "phone", "speaker")]
    # The axis: _ a b | AE T | ann bob.
    owner, frame, symbol = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([0, 2, 3, 0, 2]), torch.tensor([1, 2, 1, 1, 2])
    found = membership(groupings, owner, frame, symbol)
    assert found.tolist() == [[1, 3, 6], [2, 4, 6], [1, -1, 6], [1, -1, 5], [2, 4, 5]]
    swapped = membership(groupings[::-1], owner, frame, symbol)
    assert swapped[1].tolist() == [1, 3, 6]


TIMIT = [
    (0.00, 0.02, "h#"), (0.02, 0.04, "iy"), (0.04, 0.06, "tcl"), (0.06, 0.08, "t"), (0.08, 0.10, "zh"),
    (0.10, 0.12, "ao"), (0.12, 0.14, "ng"), (0.14, 0.16, "w"), (0.16, 0.18, "q"), (0.18, 0.20, "dx"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        # By hand, after the chart of English sounds; closures are silence and the glottal stop is dropped.
        ("manner", [None, "vowel", None, "stop", "fricative", "vowel", "nasal", "semivowel", None, "flap"]),
        ("place", [None, None, None, "alveolar", "postalveolar", None, "velar", "labial-velar", None, "alveolar"]),
        ("voicing", [None, "voiced", None, "voiceless", *["voiced"] * 4, None, "voiced"]),
        # AO is a mid vowel, though Lee and Hon count it as AA.
        ("height", [None, "high", None, None, None, "mid", None, None, None, None]),
        ("phone.backness", [None, "front", None, None, None, "back", None, None, None, None]),
    ],
)
def test_phones_by_class(name: str, wanted: list[str | None]) -> None:
    labels, rows = group(name, [speech("u", TIMIT)], [10])
    assert [None if number < 0 else labels[number] for number in rows[0]] == wanted
    assert make_grouping(name, [speech("u", TIMIT)], [10], FRAME_S, ["_"]).groups[0] == f"{name}:{labels[0]}"


def test_a_class_and_an_attribute_of_one_name_are_told_apart() -> None:
    utterances = [speech("u", TIMIT, height=1.8), speech("v", TIMIT, height=1.6)]
    for by in ("height", "height=high", "place=velar & height<1.7"):
        with pytest.raises(BadOption, match=r"(?s)two things of this name.*'phone.height'.*'utterance.height'"):
            group(by, utterances, [10, 10])
    assert group("phone.height", utterances, [10, 10])[0] == ("high", "mid")
    assert group("utterance.height", utterances, [1, 2]) == (("1.6", "1.8"), [[1], [0, 0]])


def test_phones_of_an_unknown_notation_are_groups_as_they_are() -> None:
    utterance = speech("u", [(0, 0.02, "a\u02d0"), (0.02, 0.04, "\u0283")])
    assert group("phone", [utterance], [3]) == (("a\u02d0", "\u0283"), [[0, 1, -1]])
    with pytest.raises(BadOption, match="nothing to group by"):
        group("manner", [utterance], [3])


def test_labels_of_nothing_are_no_group() -> None:
    utterance = Utterance("u", tiers={"word": [(0, 0.04, ""), (0.04, 0.08, "so"), (0.08, 0.1, " ")]}, accent="")
    assert group("word", [utterance], [5]) == (("so",), [[-1, -1, 0, 0, -1]])
    assert group("accent", [utterance, Utterance("v", accent="north")], [1, 1]) == (("north",), [[-1], [0]])
    with pytest.raises(BadOption, match="nothing to group by"):
        group("word", [utterance.replace(tiers={"word": [(0, 1, "")]})], [5])


def test_reference_graphemes_come_from_a_tier_of_letters() -> None:
    tier = [(0, 0.02, "c"), (0.02, 0.04, "a")]
    for name in ("grapheme", "character", "letters"):
        found = make_grouping("grapheme", [Utterance("u", tiers={name: tier})], [3], FRAME_S, ["_"])
        assert found.groups == ["grapheme:a", "grapheme:c"]
    with pytest.raises(BadOption, match=r"(?s)'symbol' groups by the predicted.*Reference.*--ctm grapheme=FILE"):
        group("grapheme", [speech("u", tier)], [3])


def test_labels_beyond_the_audio_are_counted() -> None:
    utterances = [speech("u", [(0, 0.1, "AE"), (0.1, 0.3, "T"), (0.5, 0.6, "S")]), speech("v", [(0, 0.22, "AE")])]
    found = Labels(utterances, [10, 10], FRAME_S, ["_"], [0.2, 0.2]).group("phone")[0]
    # v's end is that of the last window; S lies outside altogether and is a group without a frame.
    assert (found.beyond, found.labels) == ({"u": 2}, ("AE", "S", "T"))
    assert found.frames is not None
    assert found.frames[0].tolist() == [0] * 5 + [2] * 5


PEOPLE = [
    speech("u", [(0, 0.04, "AE"), (0.04, 0.08, "T")], speaker="ann", gender="f", age=7, native=True),
    speech("v", [(0.02, 0.06, "IY")], speaker="bob", gender="m", age=12, code="007"),
    speech("w", [(0, 0.08, "R")], speaker="cid", gender="f", native=False),
    Utterance("x", speaker="dee", age=9.5),
]
SYMBOLS = ["_", "a", "|"]


def all_instances() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rows = list(itertools.product(range(4), range(4), range(3)))
    owner, frame, symbol = torch.tensor(rows).T
    return owner, frame, symbol


def fulfilled(condition: str) -> list[bool]:
    (found,) = Labels(PEOPLE, [4] * 4, FRAME_S, SYMBOLS).group(condition)
    members = membership([found], *all_instances())
    assert found.groups == [f"where:{' '.join(condition.split())}"]
    return (members[:, 0] == 0).tolist()


@pytest.mark.parametrize(
    "condition",
    ["gender=f", "gender!=f", "age<10", "age>=9.5", "age=12", "age=12.0", "code=7", "code=007", "native=true",
     "speaker=ann,dee", "speaker!=ann,dee", "id=x", "gender=f;age<8", "age > 8 ; gender = m"],
)  # fmt: skip
def test_conditions_on_utterances_mean_what_select_makes_of_them(condition: str) -> None:
    try:
        chosen = {utterance.id for utterance in select(PEOPLE, condition)}
    except BadOption:
        chosen = set()
    owners = all_instances()[0].tolist()
    assert fulfilled(condition) == [PEOPLE[owner].id in chosen for owner in owners]


# Atoms and what they mean, in Python, of an utterance, its phone at a frame and a predicted symbol.
ATOMS = {
    "phone=AE": lambda u, phone, symbol: phone == "AE",
    "phone!=T,R": lambda u, phone, symbol: phone not in ("T", "R"),
    "manner=vowel": lambda u, phone, symbol: phone in ("AE", "IY"),
    "manner = plosive": lambda u, phone, symbol: phone == "T",
    "phone.height=high": lambda u, phone, symbol: phone == "IY",
    "voicing=voiced": lambda u, phone, symbol: phone in ("AE", "IY", "R"),
    "gender=f": lambda u, phone, symbol: u.attributes.get("gender") == "f",
    "age<10": lambda u, phone, symbol: u.attributes.get("age", 99) < 10,
    "symbol=a": lambda u, phone, symbol: symbol == "a",
    'symbol="|", _': lambda u, phone, symbol: symbol in ("|", "_"),
}


def test_conditions_mean_what_python_makes_of_them() -> None:
    draw = random.Random(3)

    def made(depth: int) -> tuple[str, Callable[..., bool]]:
        """A condition, and the same in Python."""
        kind = draw.choice("atom not and or".split()) if depth else "atom"
        if kind == "atom":
            return draw.choice(list(ATOMS.items()))
        if kind == "not":
            inner, meaning = made(depth - 1)
            return f"~({inner})", lambda *case: not meaning(*case)
        texts, meanings = zip(*(made(depth - 1) for _ in range(draw.choice((2, 3)))), strict=True)
        whole = all if kind == "and" else any
        return f"({(' & ' if kind == 'and' else ' | ').join(texts)})", lambda *case: whole(m(*case) for m in meanings)

    shares = []
    for _ in range(60):
        condition, meaning = made(3)
        wanted = []
        for owner, frame, symbol in zip(*(part.tolist() for part in all_instances()), strict=True):
            phone = next(
                (label for start, end, label in PEOPLE[owner].tiers.get("phone", []) if start <= frame * FRAME_S < end),
                None,
            )
            wanted.append(bool(meaning(PEOPLE[owner], phone, SYMBOLS[symbol])))
        assert fulfilled(condition) == wanted, condition
        shares.append(sum(wanted) / len(wanted))
    assert len({share for share in shares if 0 < share < 1}) > 10


def test_and_binds_tighter_than_or_and_not_tightest() -> None:
    assert fulfilled("phone=T | gender=f & symbol=a") == fulfilled("phone=T | (gender=f & symbol=a)")
    assert fulfilled("~phone=T & gender=f") == fulfilled("phone!=T & gender=f")
    assert fulfilled("gender=m | gender=f ; phone=T") == fulfilled("(gender=m | gender=f) & phone=T")
    assert fulfilled("gender=m | gender=f ; phone=T") != fulfilled("gender=m | gender=f & phone=T")


@pytest.mark.parametrize(
    "text",
    ["", "phone=", "phone=AE &", "& phone=AE", "(phone=AE", "phone=AE)", "phone AE", "phone=AE gender=f", "a<",
     "~", "phone=AE,,T", "phone=AE,", 'symbol="', "phone=AE & | gender=f"],
)  # fmt: skip
def test_texts_that_are_no_condition(text: str) -> None:
    labels = Labels(PEOPLE, [4] * 4, FRAME_S, SYMBOLS)
    with pytest.raises(BadOption, match="no condition on labels"):
        labels.where(text)


def test_conditions_on_what_is_not_there() -> None:
    for text, words in {
        "phone=AAA": "did you mean 'AA'",
        "phone=SIL": "unknown phone",
        "manner=plosiv | gender=f": "unknown manner",
        "symbol=b": "unknown symbol",
        "dialect=north": "nothing to group by(.|\n)*gender",
        "gender<3,4": "only numbers",
        "gender<f": "only numbers",
    }.items():
        with pytest.raises(BadOption, match=words):
            fulfilled(text)
    # An attribute can have any value: nobody has this one.
    assert not any(fulfilled("gender=x"))


def test_conditions_have_names_and_stand_beside_groupings() -> None:
    by = ("gender", {"hers": "gender=f & phone=AE", "other": "~gender=f"}, "symbol=a")
    groupings = Labels(PEOPLE, [4] * 4, FRAME_S, SYMBOLS).group(by)
    names = [name for grouping in groupings for name in grouping.groups]
    assert names == ["gender:f", "gender:m", "where:hers", "where:other", "where:symbol=a"]
    owner, frame, symbol = torch.tensor([0, 0, 1]), torch.tensor([0, 3, 1]), torch.tensor([1, 0, 1])
    assert membership(groupings, owner, frame, symbol).tolist() == [[0, 2, -1, 4], [0, -1, -1, -1], [1, -1, 3, 4]]
    assert Labels(PEOPLE, [4] * 4, FRAME_S, SYMBOLS).group({"hers": "gender=f"})[0].condition == "gender=f"
