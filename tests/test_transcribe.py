"""Networks decoded as a configuration says, and configurations that make no sense."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from otoscope.base import BadInput, BadOption
from otoscope.learn import flashlight
from otoscope.learn.attention_search import attention_search
from otoscope.learn.beam import ctc_beam
from otoscope.learn.ctc_prefix import CtcPrefix
from otoscope.learn.decode import greedy
from otoscope.learn.networks import build, read_config, validated
from otoscope.learn.transcribe import Decoding, Transcriber, read_lexicon

SYMBOLS = ("-", " ", "a", "b", "c")


class Attending(nn.Module):
    """A made-up network with CTC's symbols, the end behind them, and a decoder that writes the frames' best symbols."""

    symbols, blank, end, has_ctc = (*SYMBOLS, "</s>"), 0, 5, True

    def __init__(self) -> None:
        super().__init__()
        self.decoder = self

    def encode(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return features, lengths

    def output(self, states: Tensor) -> Tensor:
        return states[:, :, :5].flip(1)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return features[:, :, :5], lengths

    def recognise(self, features: Tensor, lengths: Tensor) -> list[list[int]]:
        return [[2, 3, 1, 2]] * len(features)

    def start(self, states: Tensor, lengths: Tensor) -> Any:
        place = torch.zeros(len(states), dtype=torch.long)
        return Memory(states=states, lengths=lengths, place=place)

    def step(self, tokens: Tensor, memory: Memory) -> tuple[Tensor, Memory, Tensor]:
        rows, place = torch.arange(len(tokens)), memory["place"]
        values = memory["states"][rows, place.clamp(max=memory["states"].shape[1] - 1)].clone()
        values[:, 0] = -math.inf
        values[place >= memory["lengths"], 5] = 50.0
        attention = nn.functional.one_hot(place.clamp(max=len(values[0])), memory["states"].shape[1]).double()
        return values.log_softmax(1), Memory(memory, place=place + 1), attention


class Memory(dict):
    def select(self, index: Tensor) -> Memory:
        return Memory({name: value[index] for name, value in self.items()})


@pytest.fixture
def spoken() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, 7, 6, generator=generator) * 2, torch.tensor([7, 4, 0])


def test_frames_by_beam(spoken):
    features, lengths = spoken
    network = Attending()
    found = Transcriber(network, Decoding(method="beam", beam=3))(features, lengths)
    rows = features[:, :, :5].double().log_softmax(2)
    expected = [ctc_beam(row[:n], 0, symbols=SYMBOLS, beam=3) for row, n in zip(rows, lengths, strict=True)]
    assert found == [hypotheses[0].text for hypotheses in expected]
    assert found[2] == ""
    assert len(set(found)) == 3


def test_models_and_lexicons_from_files(spoken, tmp_path):
    (tmp_path / "words.txt").write_text("abc  a b c\n\nca\nabc\n")
    (tmp_path / "lm.arpa").write_text("\\data\\\nngram 1=3\n\n\\1-grams:\n-9\t<s>\n-9\t</s>\n-0.1\tca\n\n\\end\\\n")
    assert read_lexicon(tmp_path / "words.txt") == ["abc", "ca"]
    decoding = Decoding(method="beam", lexicon=tmp_path / "words.txt", lm=tmp_path / "lm.arpa", bonus=20, lm_weight=1)
    for text in Transcriber(Attending(), decoding)(*spoken)[:2]:
        assert text
        assert set(text.split()) == {"ca"}


def test_a_decoder_by_beam(spoken):
    features, lengths = spoken
    network = Attending()
    settings = {"length_normalisation": 0.2, "coverage": 0.1, "limit": 5, "beam": 3}
    ctc = CtcPrefix(network.output(features).log_softmax(2), lengths, 0, 5)
    answers = []
    for weight, joint in ((0.0, {}), (None, {"ctc": ctc, "ctc_weight": 0.2}), (0.8, {"ctc": ctc, "ctc_weight": 0.8})):
        expected = attention_search(network, features, lengths, end=5, **settings, **joint)
        found = Transcriber(network, Decoding(method="attention", **settings, ctc_weight=weight))(features, lengths)
        assert found == [" ".join("".join(SYMBOLS[token] for token in each[0].tokens).split()) for each in expected]
        answers.append(found[0])
    assert len(set(answers)) == 3
    assert all(answers)


def test_without_ctc_the_decoder_searches_alone(spoken):
    alone, both = Attending(), Attending()
    alone.has_ctc = False
    texts = Transcriber(both, Decoding(method="attention", ctc_weight=0))(*spoken)
    assert Transcriber(alone, Decoding(method="attention"))(*spoken) == texts
    assert Transcriber(both, Decoding(method="attention"))(*spoken) != texts
    with pytest.raises(BadOption, match=r"wants a network with CTC beside its decoder(.*\n)*.*ctc_weight=0.3"):
        Transcriber(alone, Decoding(method="attention", ctc_weight=0.3))


def test_the_quickest_way(spoken):
    features, lengths = spoken
    assert Transcriber(Attending())(features, lengths) == ["ab a"] * 3
    network = build(read_config({"mels": 6, "symbols": SYMBOLS, "hidden": [{"units": 8, "kernel": 3}]})).eval()
    logits, frames = network(features, lengths)
    assert Transcriber(network)(features, lengths) == greedy(logits, frames, SYMBOLS, 0)


def test_texts_are_those_of_the_networks_units(spoken):
    class Units:
        def decode(self, numbers: Any) -> str:
            return "+".join(map(str, numbers))

    network = Attending()
    network.units = Units()
    assert Transcriber(network)(*spoken)[0] == "2+3+1+2"
    found = Transcriber(network, Decoding(method="beam", beam=2))(*spoken)
    assert found[2] == ""
    assert set("".join(found)) <= set("+01234")


def test_networks_that_cannot_be_decoded_so():
    network = Attending()
    network.has_ctc = False
    with pytest.raises(BadOption, match="trained with CTC"):
        Transcriber(network, Decoding(method="beam"))
    network.decoder = None
    with pytest.raises(BadOption, match="no attention decoder"):
        Transcriber(network, Decoding(method="attention"))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"methd": "beam"}, "methd"),
        ({"method": "viterbi"}, "method"),
        ({"lm": "x.arpa"}, "lm: no option of method greedy"),
        ({"beam": 4}, "beam: no option of method greedy"),
        ({"method": "attention", "lexicon": "x", "bonus": 1}, "bonus, lexicon: no option of method attention"),
        ({"method": "beam", "coverage": 0.1}, "coverage: no option of method beam"),
        ({"method": "beam", "engine": "flashlight", "skip_blank": 0.9}, "skip_blank: no option of engine flashlight"),
        ({"method": "beam", "symbol_beam": 3}, "symbol_beam: no option of engine own"),
        ({"method": "beam", "beam": 0}, "beam"),
    ],
)
def test_configurations_that_make_no_sense(values, words):
    with pytest.raises(BadOption, match=words):
        validated(Decoding, values)


def test_a_configuration_can_be_saved_and_read():
    decoding = Decoding(method="beam", lm="x.arpa", skip_blank=0.99)
    assert Decoding.model_validate_json(decoding.model_dump_json()) == decoding
    assert Decoding.model_validate(Decoding().model_dump()) == Decoding()


def test_lexicons_that_are_none(tmp_path):
    (tmp_path / "empty").write_text("\n \n")
    (tmp_path / "latin").write_bytes(b"\xe9\n")
    for name, words in (("absent", "cannot be read"), ("latin", "cannot be read"), ("empty", "has no words")):
        with pytest.raises(BadInput, match=f"{words}(.*\n)*.*{name}"):
            Transcriber(Attending(), Decoding(method="beam", lexicon=tmp_path / name))


def test_without_flashlight_it_says_what_to_install(monkeypatch, spoken):
    monkeypatch.setattr(flashlight, "installed", lambda: False)
    transcriber = Transcriber(Attending(), Decoding(method="beam", engine="flashlight"))
    with pytest.raises(BadOption, match=r"not installed(.*\n)*.*otoscope\[decode\]"):
        transcriber(*spoken)
