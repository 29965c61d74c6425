"""Training on tones whose times are known: it learns them, where they are; and a killed run ends with the same bits."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import otoscope
from otoscope.base import BadCheckpoint, BadInput
from otoscope.learn import train as train_module
from otoscope.learn.checkpoint import checkpoint_path, load_checkpoint, read_log
from otoscope.learn.score import score_words
from otoscope.learn.train import Example, TrainConfig, make_example, train
from otoscope.learn.wav2letter import ConvolutionConfig, Wav2Letter, Wav2LetterConfig

TONES = {"a": 350.0, "b": 900.0, "c": 2000.0, "d": 4500.0}
TONE_S, EDGE_S, FRAME_S = 0.12, 0.06, 0.01
NETWORK = Wav2LetterConfig(
    symbols=("<blank>", *TONES),
    hidden=(ConvolutionConfig(units=24, kernel=5, stride=2), ConvolutionConfig(units=24, kernel=5)),
    dropout=0.1,
)
# Two kernels of 5, the second on frames 20 ms apart: an output frame sees 2 + 4 input frames to either side.
REACH_S = 6 * FRAME_S
OPTIONS = {"batch_size": 8, "learning_rate": 1e-2, "precision": "float32", "mask_mels": 8, "mask_frames": 2}


class Killed(Exception):
    """Stands for the power going out."""


def tones(text: str, rng: np.random.Generator) -> np.ndarray:
    time = np.arange(round(TONE_S * 16000)) / 16000
    silence = np.zeros(round(EDGE_S * 16000))
    sounds = [0.3 * np.sin(2 * np.pi * (TONES[symbol] * time + rng.uniform())) for symbol in text]
    samples = np.concatenate([silence, *sounds, silence])
    return samples + 1e-3 * rng.standard_normal(len(samples))


def make_texts(count: int, seed: int) -> list[str]:
    """Sequences of 2–4 tones, never the same tone twice in a row: that would be one long tone."""
    rng, texts = np.random.default_rng(seed), []
    for _ in range(count):
        text = ""
        for _ in range(rng.integers(2, 5)):
            text += str(rng.choice([symbol for symbol in TONES if symbol != text[-1:]]))
        texts.append(text)
    return texts


@pytest.fixture(scope="module")
def corpus() -> tuple[list[Example], list[Example]]:
    rng, network = np.random.default_rng(0), Wav2Letter(NETWORK)
    made = [
        make_example(f"u{number:03d}", otoscope.features(tones(text, rng), 16000), text, network)
        for number, text in enumerate(make_texts(120, 1))
    ]
    return made[:96], made[96:]


@pytest.fixture
def few(corpus) -> Callable[[nn.Module], tuple[Sequence[Example], Sequence[Example]]]:
    return lambda network: (corpus[0][:28], corpus[1][:6])


def log_without_seconds(folder: Path) -> list[dict]:
    return [{key: value for key, value in entry.items() if key != "seconds"} for entry in read_log(folder)]


def same_runs(one: Path, other: Path) -> bool:
    files = sorted(path.relative_to(one) for path in one.rglob("*.safetensors"))
    assert files == sorted(path.relative_to(other) for path in other.rglob("*.safetensors"))
    assert len(files) == 6
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in files)


@pytest.fixture(scope="module")
def trained(corpus, tmp_path_factory) -> tuple[Path, nn.Module, list[dict], list[tuple[int, int]]]:
    folder, entries, steps = tmp_path_factory.mktemp("tones") / "run", [], []
    network = train(
        folder,
        NETWORK,
        TrainConfig(epochs=12, **OPTIONS),
        lambda network: corpus,
        progress=lambda done, total, note="": steps.append((done, total)),
        on_epoch=entries.append,
    )
    return folder, network, entries, steps


def test_tones_are_learned(trained, corpus):
    folder, network, _, _ = trained
    hypotheses = {}
    for batch, logits, lengths in train_module.outputs(network, corpus[1]):
        for example, text in zip(batch, train_module.greedy(logits, lengths, NETWORK.symbols, 0), strict=True):
            hypotheses[example.id] = text
    counts = [score_words(" ".join(example.text), " ".join(hypotheses[example.id])) for example in corpus[1]]
    assert sum(count.errors for count in counts) <= 0.1 * sum(count.words for count in counts)
    untrained = read_log(folder)[0]
    assert untrained["epoch"] == 0
    assert untrained["wer"] > 90
    assert read_log(folder)[-1]["heldout_loss"] < 0.1 * untrained["heldout_loss"]


def test_outputs_stand_where_the_tones_are(trained, corpus):
    network = trained[1]
    inside = total = 0
    for example in corpus[1]:
        with torch.no_grad():
            logits, _ = network(example.features[None], torch.tensor([len(example.features)]))
        path = logits[0].argmax(-1).tolist()
        # Repeats and blanks away, with the frame at which each symbol begins.
        starts = [t for t, symbol in enumerate(path) if symbol != 0 and (t == 0 or path[t - 1] != symbol)]
        if [NETWORK.symbols[path[t]] for t in starts] != list(example.text):
            continue
        for number, t in enumerate(starts):
            begin = EDGE_S + number * TONE_S
            total += 1
            inside += begin - REACH_S <= t * 2 * FRAME_S <= begin + TONE_S + REACH_S
    assert total >= 0.8 * sum(len(example.text) for example in corpus[1])
    assert inside == total


def test_every_epoch_is_kept_and_told(trained):
    folder, network, entries, steps = trained
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == [
        f"epoch-{epoch:03d}.safetensors" for epoch in range(13)
    ]
    assert [load_checkpoint(checkpoint_path(folder, epoch)).checkpoint["epoch"] for epoch in (0, 5, 12)] == [0, 5, 12]
    assert [entry["epoch"] for entry in entries] == list(range(13))
    assert entries == read_log(folder)
    assert steps == [(done, 12 * 12) for done in range(1, 145)]
    last = otoscope.load(folder).state_dict()
    assert all(torch.equal(value, last[name]) for name, value in network.state_dict().items())
    assert not network.training


def test_a_finished_run_is_not_trained_again(trained):
    folder, before = trained[0], (trained[0] / "log.jsonl").read_bytes()

    def refuse(network: nn.Module):
        raise AssertionError("examples were asked for")

    train(folder, NETWORK, TrainConfig(epochs=12, **OPTIONS), refuse)
    assert (folder / "log.jsonl").read_bytes() == before


@pytest.fixture(scope="module")
def whole(corpus, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(folder, NETWORK, TrainConfig(epochs=4, **OPTIONS), lambda network: (corpus[0][:28], corpus[1][:6]))
    return folder


@pytest.mark.parametrize("moment", ["after epoch 2", "in epoch 3", "in epoch 1", "before epoch 4 is told"])
def test_a_killed_run_ends_with_the_same_bits(moment, whole, few, tmp_path, monkeypatch):
    config = TrainConfig(epochs=4, **OPTIONS)

    def on_epoch(entry):
        if moment == "after epoch 2" and entry["epoch"] == 2:
            raise Killed

    def progress(done, total, note=""):
        # Four batches an epoch.
        if (moment, done) in {("in epoch 3", 10), ("in epoch 1", 2)}:
            raise Killed

    real_write = train_module._write_log

    def write(folder, log):
        if moment == "before epoch 4 is told" and log[-1]["epoch"] == 4:
            raise Killed
        real_write(folder, log)

    with monkeypatch.context() as patched:
        patched.setattr(train_module, "_write_log", write)
        with pytest.raises(Killed):
            train(tmp_path / "run", NETWORK, config, few, progress=progress, on_epoch=on_epoch)
    torch.manual_seed(99)
    train(tmp_path / "run", NETWORK, config, few)
    assert same_runs(whole, tmp_path / "run")
    assert log_without_seconds(whole) == log_without_seconds(tmp_path / "run")


def test_other_seeds_give_other_bits(whole, few, tmp_path):
    train(tmp_path / "run", NETWORK, TrainConfig(epochs=4, seed=1, **OPTIONS), few)
    assert not same_runs(whole, tmp_path / "run")


def test_a_run_of_other_settings_is_refused(whole, few):
    with pytest.raises(BadCheckpoint, match=r"train.epochs: 4 there, 5 here[\s\S]*another folder"):
        train(whole, NETWORK, TrainConfig(epochs=5, **OPTIONS), few)
    with pytest.raises(BadCheckpoint, match=r"network.norm: batch there, layer here"):
        train(whole, NETWORK.model_copy(update={"norm": "layer"}), TrainConfig(epochs=4, **OPTIONS), few)
    with pytest.raises(BadCheckpoint, match=r"corpus.fingerprint: None there, beef here"):
        train(whole, NETWORK, TrainConfig(epochs=4, **OPTIONS), few, corpus={"fingerprint": "beef"})


@pytest.mark.parametrize(
    ("text", "frames", "fits"), [("abcd", 7, True), ("abcd", 6, False), ("aab", 7, True), ("aab", 6, False)]
)
def test_a_transcript_needs_room_in_the_output(text, frames, fits):
    """Stride 2 makes 7 frames 4 outputs and 6 frames 3; `aab` needs a blank between its two a."""
    network, features = Wav2Letter(NETWORK), torch.zeros(frames, 128)
    if fits:
        assert make_example("u9", features, text, network).targets.tolist() == ["_abcd".index(one) for one in text]
        return
    with pytest.raises(BadInput, match=r"u9: the transcript is longer[\s\S]*4 symbols[\s\S]*at most 3 frames"):
        make_example("u9", features, text, network)


def test_a_transcript_must_be_there_and_spelled_in_symbols():
    with pytest.raises(BadInput, match="u9: there is no text"):
        make_example("u9", torch.zeros(50, 128), " . ", Wav2Letter(NETWORK))
    with pytest.raises(BadInput, match="'e' in 'abe'"):
        make_example("u9", torch.zeros(50, 128), "abe", Wav2Letter(NETWORK))


@pytest.mark.parametrize("frames", [1, 2, 37, 100])
def test_output_length_is_the_networks(frames):
    network = Wav2Letter(NETWORK).eval()
    with torch.no_grad():
        logits, lengths = network(torch.zeros(1, frames, 128), torch.tensor([frames]))
    assert network.output_length(frames) == logits.shape[1] == int(lengths)


@pytest.mark.parametrize("batches", [4, 1], ids=["three running", "a whole epoch"])
def test_a_loss_that_is_not_finite_stops_and_names_the_utterances(batches, corpus, tmp_path):
    broken = [Example(one.id, torch.full_like(one.features, math.nan), one.targets, one.text) for one in corpus[0]]
    with pytest.raises(BadInput, match=r"not finite[\s\S]*epoch 1, utterances u0\d\d[\s\S]*learning rate"):
        train(
            tmp_path / "run",
            NETWORK,
            TrainConfig(epochs=2, **OPTIONS),
            lambda network: (broken[: 8 * batches], corpus[1][:2]),
        )
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["epoch-000.safetensors"]


def test_nothing_to_train_on(tmp_path):
    with pytest.raises(BadInput, match="nothing to train on"):
        train(tmp_path / "run", NETWORK, TrainConfig(epochs=1), lambda network: ([], []))
