"""A corpus and a network with a decoder: trained from disk and from memory, with word pieces, scored, looked into."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import otoscope
from otoscope.base import BadInput, BadOption
from otoscope.hear.audio import features
from otoscope.hear.utterance import Utterance, load_audio
from otoscope.study.recogniser import with_vocabulary

RECURRENT = {"layers": 1, "units": 12, "decoder_units": 12, "embedding": 4, "attention_units": 8}
NETWORK = {"network": "conv-lstm", "mels": 32, "channels": (3,), "map_strides": (2,), "strides": (2,), **RECURRENT}
WORDS = {"bad": 400.0, "cab": 900.0, "dead": 2000.0}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> list[Utterance]:
    """Three words, each a tone of its own, in recordings on disk."""
    folder, rng, made = tmp_path_factory.mktemp("tones"), np.random.default_rng(0), []
    for number in range(24):
        said = [str(word) for word in rng.choice(list(WORDS), 2)]
        time = np.arange(4800) / 16000
        samples = np.concatenate([0.3 * np.sin(2 * np.pi * WORDS[word] * time) for word in said])
        path = folder / f"u{number}.wav"
        soundfile.write(path, samples + 1e-3 * rng.standard_normal(len(samples)), 16000)
        split = "test" if number % 4 == 0 else "train"
        made.append(Utterance(f"u{number}", path, text=" ".join(said), speaker="s", split=split))
    return made


def weights(folder: Path) -> list[np.ndarray]:
    return [value.numpy() for value in otoscope.load(folder).state_dict().values()]


def test_features_from_disk_are_those_in_memory(corpus, tmp_path):
    options = {"epochs": 2, "mask_mels": 0, "mask_frames": 0}
    for folder, how in (("memory", {}), ("disk", {"in_memory": False, "workers": 0})):
        otoscope.train_recogniser(tmp_path / folder, corpus, network=NETWORK, options=options, **how)
    for one, other in zip(weights(tmp_path / "memory"), weights(tmp_path / "disk"), strict=True):
        np.testing.assert_array_equal(one, other)


def test_perturbed_words_are_learned_scored_and_looked_into(corpus, tmp_path):
    perturb = {"speeds": [0.98, 1.0, 1.02], "noises": ["pink"]}
    options = {"epochs": 8, "learning_rate": 1e-2, "precision": "float32", "perturb": perturb}
    asked = []
    run = otoscope.train_recogniser(
        tmp_path / "run", corpus, network=NETWORK, options=options, workers=0, speech=lambda _: asked.append("features")
    )
    assert not asked
    held_out = [utterance for utterance in corpus if utterance.split == "test"]
    network = otoscope.load(run.folder)
    scored = otoscope.score_recogniser(network, held_out)
    assert run.log[-1]["heldout_loss"] < 0.7 * run.log[0]["heldout_loss"]
    assert scored["total"].as_dict() == {key: run.log[-1][key] for key in scored["total"].as_dict()}
    compared = otoscope.compare({"run": run}, held_out, measures=["cka"])
    assert {"conv1", "lstm1", "output"} <= {str(layer).rpartition("/")[2] for layer in compared["layer"].values}


def test_word_pieces_come_from_the_transcripts_that_are_trained_on(corpus, tmp_path):
    pytest.importorskip("sentencepiece", reason="word pieces need the extra `units`")
    network = {**NETWORK, "ctc_weight": 0.0, "vocabulary": {"kind": "bpe", "size": 36}}
    for _ in range(2):
        run = otoscope.train_recogniser(tmp_path / "run", corpus, network=network, options={"epochs": 1})
    network = otoscope.load(run.folder)
    assert len(network.units.encode("bad")) < len("_bad")
    trained_on = [utterance for utterance in corpus if utterance.split == "train"]
    wanted = with_vocabulary({"vocabulary": {"kind": "bpe", "size": 36}}, trained_on)["symbols"]
    assert network.units.symbols == wanted
    assert "heldout_ctc" not in run.log[-1]
    with pytest.raises(BadOption, match=r"symbols do not fit the network's output"):
        otoscope.gradnap(network, corpus)


def test_a_vocabulary_of_other_keys():
    with pytest.raises(BadOption, match=r"vocabulary is not described[\s\S]*kind, words"):
        with_vocabulary({"vocabulary": {"kind": "bpe", "words": 3}}, [])


def test_a_network_for_telephones_hears_all_speech_so(corpus, tmp_path):
    network = {**NETWORK, "top_hz": 3800.0}
    options = {"epochs": 3, "learning_rate": 1e-2, "precision": "float32", "mask_mels": 0, "mask_frames": 0}
    run = otoscope.train_recogniser(tmp_path / "run", corpus, network=network, options=options)
    disk = {"in_memory": False, "workers": 0}
    otoscope.train_recogniser(tmp_path / "disk", corpus, network=network, options=options, **disk)
    for one, other in zip(weights(tmp_path / "run"), weights(tmp_path / "disk"), strict=True):
        np.testing.assert_array_equal(one, other)
    loaded = otoscope.load(run.folder)
    assert loaded.top_hz == loaded.config.top_hz == 3800
    held_out = [utterance for utterance in corpus if utterance.split == "test"]
    heard = otoscope.listen(held_out, network=loaded)
    samples, rate = load_audio(held_out[0])
    assert torch.equal(heard.features[0], features(samples, rate, loaded.mels, top_hz=3800))
    wide = otoscope.listen(held_out, mels=loaded.mels)
    assert float((wide.features[0] - heard.features[0]).abs().mean()) > 0.1
    logged = {key: run.log[-1][key] for key in ("words", "errors", "sub", "del", "ins")}
    for speech in (held_out, heard, heard.among(range(len(heard)))):
        counts = otoscope.score_recogniser(loaded, speech)["total"].as_dict()
        assert {key: counts[key] for key in logged} == logged
    otherwise = otoscope.train_recogniser(tmp_path / "wide", corpus, network=NETWORK, options={**options, "epochs": 1})
    for use in (
        lambda: otoscope.score_recogniser(loaded, wide),
        lambda: otoscope.gradnap(loaded, wide),
        lambda: otoscope.through_training(run, wide, measures=["cka"]),
        lambda: otoscope.compare({"run": run, "wide": otherwise}, held_out, measures=["cka"]),
        lambda: otoscope.train_recogniser(tmp_path / "other", corpus, network=network, speech=lambda _: wide),
    ):
        with pytest.raises(BadInput, match=r"do not fit the network\n.*from 0 to \d+ Hz\n.*from 0 to \d+ Hz"):
            use()
    with pytest.raises(BadOption, match="top_hz"):
        otoscope.train_recogniser(tmp_path / "bad", corpus, network={**NETWORK, "top_hz": 9000}, options=options)
    with pytest.raises(BadOption, match="cannot end there"):
        otoscope.listen(held_out, top_hz=500)
