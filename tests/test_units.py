"""Word pieces: transcripts come back, the vocabulary lives in the checkpoint, and what cannot be written is named."""

from __future__ import annotations

import json
import sys

import pytest
import torch

from otoscope.base import BadInput, BadOption, OtoscopeError
from otoscope.hear.text import BLANK, GRAPHEMES
from otoscope.learn.checkpoint import load_checkpoint, load_tensors, save_checkpoint
from otoscope.learn.networks import build, read_config
from otoscope.learn.units import END, Graphemes, _processor, make_units, train_vocabulary
from otoscope.learn.wav2letter import ConvolutionConfig

TEXTS = ["The cat sat on the mat", "a cat and a dog", "the dog sat", "it's the mat that a cat sat on"] * 3


@pytest.fixture(scope="module", params=["unigram", "bpe"])
def vocabulary(request) -> dict:
    pytest.importorskip("sentencepiece", reason="word pieces need the extra `units`")
    return train_vocabulary(TEXTS, kind=request.param, size=48)


def test_pieces_give_the_transcript_back(vocabulary):
    units = make_units(**vocabulary)
    assert units.symbols[0] == BLANK
    assert len(units.symbols) <= 48
    for text in (*TEXTS, "quiz", "don't jump"):
        ids = units.encode(text)
        assert 0 not in ids
        assert max(ids) < len(units.symbols)
        assert units.decode(ids) == text.lower()
    # A frequent word is fewer pieces than letters; the end and CTC's blank are passed over.
    assert len(units.encode("the cat")) < 6
    assert units.decode([0, *units.encode("the cat"), 0, len(units.symbols)]) == "the cat"


def test_pieces_are_the_librarys_own(vocabulary):
    import sentencepiece

    units = make_units(**vocabulary)
    processor = _processor(vocabulary["vocabulary"])
    assert isinstance(processor, sentencepiece.SentencePieceProcessor)
    ids = units.encode("the dog sat on it")
    assert [units.symbols[number] for number in ids] == processor.encode("the dog sat on it", out_type=str)
    assert processor.decode(ids) == "the dog sat on it"


def test_the_same_texts_give_the_same_vocabulary(vocabulary):
    assert len(train_vocabulary(TEXTS, size=2000)["symbols"]) < 100, "there are no more"
    kind = "bpe" if vocabulary == train_vocabulary(TEXTS, kind="bpe", size=48) else "unigram"
    assert train_vocabulary(iter(TEXTS), kind=kind, size=48) == vocabulary
    assert train_vocabulary([*TEXTS, "more cats"], kind=kind, size=48) != vocabulary


def test_a_checkpoint_holds_its_vocabulary_as_text(vocabulary, tmp_path):
    hidden = (ConvolutionConfig(units=4, kernel=3),)
    network = build(read_config({"hidden": hidden, "mels": 6, **vocabulary}))
    assert network(torch.zeros(1, 9, 6), torch.tensor([9]))[0].shape[2] == len(vocabulary["symbols"])
    save_checkpoint(tmp_path / "n.safetensors", network, {"epoch": 0})
    facts = load_tensors(tmp_path / "n.safetensors")[1]
    assert json.loads(json.dumps(facts))["config"]["vocabulary"] == vocabulary["vocabulary"]
    again = load_checkpoint(tmp_path / "n.safetensors")
    assert again.units.encode("the cat") == network.units.encode("the cat")
    writer = build(read_config({"network": "transformer", "decoder_blocks": 1, **vocabulary}))
    assert writer.symbols == (*vocabulary["symbols"], END)
    assert writer.units.decode([*writer.units.encode("a mat"), writer.end]) == "a mat"


def test_what_has_no_pieces_is_named(vocabulary):
    with pytest.raises(BadInput, match=r"not in the vocabulary[\s\S]*'2' 'é' in 'caf2é the'"):
        make_units(**vocabulary).encode("caf2é the")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"kind": "words"}, "unigram or bpe"),
        ({"size": 5}, "29 or more"),
    ],
)
def test_vocabularies_that_cannot_be(values, words):
    pytest.importorskip("sentencepiece", reason="word pieces need the extra `units`")
    with pytest.raises(BadOption, match=words):
        train_vocabulary(TEXTS, **values)
    with pytest.raises(BadInput, match="no text"):
        train_vocabulary(["", " . "])
    for broken in ("xx", "####", "AAAA"):
        with pytest.raises(BadOption, match="no vocabulary"):
            make_units(("_", "a"), broken).encode("a")


def test_without_the_library_what_is_needed_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    _processor.cache_clear()
    with pytest.raises(OtoscopeError, match=r"otoscope\[units\]"):
        train_vocabulary(TEXTS)
    units = make_units(("_", "\u2581the", "\u2581c", "at"), "AAAA")
    assert units.decode([1, 2, 3]) == "the cat"
    with pytest.raises(OtoscopeError, match=r"otoscope\[units\]"):
        units.encode("the cat")


def test_graphemes_are_the_alphabet():
    units = Graphemes()
    assert units.symbols == GRAPHEMES
    assert units.encode("A b'") == [3, 1, 4, 2]
    assert units.decode([3, 1, 1, 4, 29]) == "a b"
    with pytest.raises(BadOption, match="with a vocabulary it is symbol 0"):
        read_config({"vocabulary": "AAAA", "blank": 1})
