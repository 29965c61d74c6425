"""The manifests of recipes/gradnap-real: what is held out of each corpus, and that nothing is in two of them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from recipe_scripts import RECIPES, script

from otoscope.base import BadInput
from otoscope.hear.corpus import Utterance, select
from otoscope.learn.networks import network_values, read_config
from otoscope.study.recogniser import read_recipe

RECIPE = RECIPES / "gradnap-real"


@pytest.fixture(scope="module")
def together():
    return script("gradnap-real/corpus.py").together


def speech(name: str, **attributes: str) -> Utterance:
    return Utterance(name, features=np.zeros((4, 128), np.float32), text="so", **attributes)


def parts() -> dict[str, list[Utterance]]:
    timit = [speech(f"{s}-{n}", speaker=s, gender=s[0]) for s in ("f2", "f1", "m1", "m2") for n in range(3)]
    read = [speech(f"19-{n:04d}", speaker="19", gender="f") for n in range(25)]
    spoken = [speech(f"v-{n}", speaker="v", split="test" if n < 2 else "train") for n in range(8)]
    more = [speech(f"c-{s}-{n}", speaker=s, gender=s[0]) for s in ("f8", "f9", "m8") for n in range(2)]
    return {"timit": timit, "librispeech": read, "embedded": spoken, "more": more}


def test_whole_speakers_every_tenth_and_the_own_test_part_are_held_out(together):
    made = together(parts())
    kept = {name: [u.id for u in select(found, "split=test")] for name, found in made.items()}
    # Of several women and men the first by name.
    assert kept["timit"] == ["f1-0", "f1-1", "f1-2", "m1-0", "m1-1", "m1-2"]
    assert kept["librispeech"] == ["19-0000", "19-0010", "19-0020"]
    assert kept["embedded"] == ["v-0", "v-1"]
    assert kept["more"] == ["c-f8-0", "c-f8-1", "c-m8-0", "c-m8-1"]
    assert Counter(u.attributes["source"] for found in made.values() for u in found) == {
        "timit": 12, "librispeech": 25, "embedded": 8, "more": 6
    }  # fmt: skip


def test_ids_that_are_there_twice_and_nothing_to_hold_out_are_refused(together):
    twice = parts()
    twice["librispeech"].append(speech("f1-0", speaker="19"))
    with pytest.raises(BadInput, match="cannot be put together"):
        together(twice)
    none = parts()
    none["embedded"] = none["embedded"][2:]
    with pytest.raises(BadInput, match="nothing of embedded"):
        together(none)


def test_the_network_has_the_shape_of_the_papers():
    network, _ = read_recipe(RECIPE / "first.yaml")
    paper, _ = read_recipe(RECIPE.parent / "gradnap-librispeech" / "wav2letter.yaml")
    narrow, wide = (read_config(network_values(values)).hidden for values in (network, paper))
    assert [(one.kernel, one.stride) for one in narrow] == [(one.kernel, one.stride) for one in wide]
    # The second training takes the first one's network.
    assert read_recipe(RECIPE / "second.yaml")[0] == {}
    # The third has its own, of the same shape.
    again = read_recipe(RECIPE / "third.yaml")[0]
    assert read_config(network_values(again)).hidden == read_config(network_values(network)).hidden
    assert all(one.units < other.units for one, other in zip(narrow, wide, strict=True))
