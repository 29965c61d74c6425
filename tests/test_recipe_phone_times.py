"""The recipe that measures phone times: what it takes as given, and what it has words sound like."""

from __future__ import annotations

import pytest
from recipe_scripts import script

from otoscope.base import BadInput
from otoscope.hear.corpus import Utterance


def utterance(id: str, *words: str) -> Utterance:
    """Words such as `cat=k,ae,tcl,t`, each phone 0.1 s long, silence at both ends; labels are TIMIT's."""
    phones, spans, now = [(0.0, 0.1, "h#")], [], 0.1
    for word in words:
        name, _, labels = word.partition("=")
        started = now
        for label in labels.split(","):
            phones.append((now, now + 0.1, label))
            now += 0.1
        spans.append((started, now, name))
    return Utterance(id, tiers={"phone": [*phones, (now, now + 0.1, "h#")], "word": spans})


@pytest.fixture(scope="module")
def measure():
    return script("phone-times/measure.py")


def test_closures_are_part_of_their_stops_and_silence_is_left_out(measure):
    found = measure.given(utterance("u", "cat=kcl,k,ae,tcl", "shore=sh,ao"))
    assert [one.label for one in found] == ["K", "AE", "T", "SH", "AO"]
    assert (found[0].start_s, found[0].end_s) == pytest.approx((0.1, 0.3))
    assert [[one.label for one in tier] for tier in measure.counted([found], timit=True)] == [
        ["K", "AE", "T", "SH", "AA"]
    ]
    assert measure.counted([found], timit=False) == [found]


def test_words_are_said_as_they_mostly_are(measure):
    said = [
        utterance("u", "CAT=kcl,k,ae,tcl,t", "tack=t,ae,kcl,k"),
        utterance("v", "cat=k,ae,q", "cat=k,ae,t", "ax=ae,kcl,k,s"),
    ]
    pronounce = measure.own_pronunciations(said)
    assert pronounce("cat") == [("c", ("K",)), ("a", ("AE",)), ("t", ("T",))]
    assert [phones for _, phones in pronounce("ax")] == [("AE",), ("K", "S")]
    with pytest.raises(BadInput, match="nobody says"):
        pronounce("dog")
