"""Training on tones whose times are known: it learns them, where they are; and a killed run ends with the same bits."""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import otoscope
from otoscope.base import BadCheckpoint, BadInput, BadOption, write_json
from otoscope.hear.utterance import Utterance
from otoscope.learn import train as train_module
from otoscope.learn.checkpoint import checkpoint_path, load_checkpoint, read_log
from otoscope.learn.examples import Example, make_example
from otoscope.learn.networks import build, read_config, validated
from otoscope.learn.parallel import Team
from otoscope.learn.recogniser import Recogniser, RecogniserConfig
from otoscope.learn.score import score_words
from otoscope.learn.train import TrainConfig, gains_by_bfloat16, rate, stopped, train
from otoscope.learn.wav2letter import ConvolutionConfig, Wav2Letter, Wav2LetterConfig
from otoscope.study.recogniser import recorded_examples

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


def same_runs(one: Path, other: Path, count: int = 6) -> bool:
    files = sorted(path.relative_to(one) for path in one.rglob("*.safetensors"))
    assert files == sorted(path.relative_to(other) for path in other.rglob("*.safetensors"))
    assert len(files) == count
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
    for example in corpus[1]:
        with torch.no_grad():
            (ids,) = network.recognise(example.features[None], torch.tensor([len(example.features)]))
        hypotheses[example.id] = network.units.decode(ids)
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


def test_training_begins_with_the_weights_of_another_run(trained, few, tmp_path):
    """Epoch 0 is the other's last epoch, to the bit and to the loss of the same speech."""
    folder, _, entries, _ = trained
    last = checkpoint_path(folder, 12)
    train(tmp_path / "run", NETWORK, TrainConfig(epochs=1, **OPTIONS), lambda network: few(network), start=last)
    begun = load_checkpoint(checkpoint_path(tmp_path / "run", 0)).state_dict()
    assert all(torch.equal(value, begun[name]) for name, value in load_checkpoint(last).state_dict().items())
    assert read_log(tmp_path / "run")[0]["wer"] < 50 < entries[0]["wer"]
    # The same command goes on; without these weights, or with others, it is another run.
    train(tmp_path / "run", NETWORK, TrainConfig(epochs=1, **OPTIONS), few, start=last)
    for other in (None, checkpoint_path(folder, 11)):
        with pytest.raises(BadCheckpoint, match=r"start\.weights"):
            train(tmp_path / "run", NETWORK, TrainConfig(epochs=1, **OPTIONS), few, start=other)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"top_hz": 3800.0}, "top_hz"),
        ({"symbols": (*NETWORK.symbols, "?")}, "symbols"),
        ({"hidden": (*NETWORK.hidden, NETWORK.hidden[1])}, "weight"),
    ],
    ids=["bands", "symbols", "layers"],
)
def test_weights_of_another_network_are_no_beginning(change, named, whole, few, tmp_path):
    config = type(NETWORK)(**{**NETWORK.model_dump(), **change})
    with pytest.raises(BadCheckpoint, match=rf"(?s)cannot begin.*{named}"):
        train(tmp_path / "run", config, TrainConfig(epochs=1, **OPTIONS), few, start=checkpoint_path(whole, 4))
    assert not (tmp_path / "run").exists()


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

    real_write = train_module.write_log

    def write(folder, log):
        if moment == "before epoch 4 is told" and log[-1]["epoch"] == 4:
            raise Killed
        real_write(folder, log)

    with monkeypatch.context() as patched:
        patched.setattr(train_module, "write_log", write)
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


def writers(name: str, **changes) -> RecogniserConfig:
    """Small networks of each family, for tones; dropout and scheduled sampling draw random numbers."""
    recurrent = {"layers": 1, "units": 12, "decoder_units": 12, "embedding": 4, "attention_units": 8}
    values = {
        "lstm": {**recurrent, "strides": (3,), "scheduled_sampling": 0.3},
        "conv-lstm": {**recurrent, "strides": (1,), "channels": (3, 4), "map_strides": (2, 2)},
        "transformer": {
            "units": 16,
            "heads": 2,
            "feed_forward": 24,
            "blocks": 1,
            "decoder_blocks": 1,
            "channels": 4,
            "scheduled_sampling": 0.3,
        },
    }[name]
    return read_config({"network": name, "symbols": ("<blank>", *TONES), "dropout": 0.1, **values, **changes})


@pytest.mark.parametrize("name", ["lstm", "conv-lstm", "transformer"])
def test_a_network_with_a_decoder_killed_in_mid_epoch_ends_with_the_same_bits(name, few, tmp_path):
    config = TrainConfig(epochs=5, **OPTIONS)

    def progress(done, total, note=""):
        if done == 10:
            raise Killed

    train(tmp_path / "whole", writers(name), config, few)
    with pytest.raises(Killed):
        train(tmp_path / "run", writers(name), config, few, progress=progress)
    assert len(read_log(tmp_path / "run")) == 3
    torch.manual_seed(99)
    train(tmp_path / "run", writers(name), config, few)
    assert same_runs(tmp_path / "whole", tmp_path / "run", 7)
    log = log_without_seconds(tmp_path / "whole")
    assert log == log_without_seconds(tmp_path / "run")
    assert log[-1]["heldout_loss"] < 0.7 * log[0]["heldout_loss"]
    assert log[-1]["heldout_loss"] == pytest.approx(
        0.3 * log[-1]["heldout_ctc"] + 0.7 * log[-1]["heldout_attention"], rel=1e-6
    )


def test_perturbed_speech_is_the_same_after_a_resumption(tmp_path):
    rng = np.random.default_rng(0)
    said = [Utterance(f"u{n}", tones(text, rng), 16000, text) for n, text in enumerate(make_texts(20, 1))]
    perturb = {"speeds": [0.9, 1.0, 1.1], "noises": ["white", "babble"], "noise_share": 0.5}
    config = validated(TrainConfig, {"epochs": 4, "perturb": perturb, **OPTIONS})

    def examples(network: Recogniser):
        recorded = recorded_examples(said, network, config, said, [])
        return recorded[:14], recorded[14:]

    def progress(done, total, note=""):
        if done == 5:
            raise Killed

    train(tmp_path / "whole", NETWORK, config, examples)
    with pytest.raises(Killed):
        train(tmp_path / "run", NETWORK, config, examples, progress=progress)
    train(tmp_path / "run", NETWORK, config, examples, workers=2)
    assert same_runs(tmp_path / "whole", tmp_path / "run")


def test_a_run_without_new_settings_goes_on(whole, few, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    settings = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    for part, key in (("train", "schedule"), ("train", "perturb"), ("network", "vocabulary")):
        del settings[part][key]
    write_json(tmp_path / "run" / "run.json", settings)
    train(tmp_path / "run", NETWORK, TrainConfig(epochs=4, **OPTIONS), few)
    with pytest.raises(BadCheckpoint, match=r"train.schedule: cosine there, noam here"):
        train(tmp_path / "run", NETWORK, TrainConfig(epochs=4, schedule="noam", **OPTIONS), few)


def test_training_stops_where_nothing_is_gained(few, tmp_path, monkeypatch):
    losses = {0: 9.0, 1: 5.0, 2: 6.0, 3: 4.0, 4: math.nan, 5: 4.5, 6: 1.0}
    trained = []

    def evaluate(network, examples, **options):
        return {"heldout_loss": losses[len(trained)]}

    def on_epoch(entry):
        trained.append(entry["epoch"])
        if entry["epoch"] == 4 and killed:
            raise Killed

    monkeypatch.setattr(train_module, "evaluate", evaluate)
    config = TrainConfig(epochs=20, patience=2, **OPTIONS)
    for killed in (False, True):
        trained.clear()
        folder = tmp_path / str(killed)
        if killed:
            with pytest.raises(Killed):
                train(folder, NETWORK, config, few, on_epoch=on_epoch)
        killed = False
        train(folder, NETWORK, config, few, on_epoch=on_epoch)
        assert trained == [0, 1, 2, 3, 4, 5]
    train(folder, NETWORK, config, lambda network: pytest.fail("there is nothing left to do"))
    assert same_runs(tmp_path / "False", tmp_path / "True", 7)


def test_the_lowest_held_out_loss_is_what_patience_waits_for():
    def log(*losses: float) -> list[dict]:
        return [{"heldout_loss": loss} for loss in losses]

    assert not stopped(log(9, 8, 8.5), 2)
    assert stopped(log(9, 8, 8.5, 8), 2)
    assert not stopped(log(9, 8, 8.5, 7), 2)
    assert stopped(log(9, math.nan), 1)
    assert not stopped(log(math.nan, 9), 1)
    assert not stopped(log(9, 9, 9, 9), None)
    assert not stopped([{}, {}, {}], 1)


def test_rates_follow_their_formulas():
    config = TrainConfig(warmup=0.1, schedule="noam")
    steps, rising = 1000, 100
    scale = 1 / (rising**-0.5)
    for step in (0, 5, 99, 100, 101, 500, 999):
        # Vaswani et al. 2017, Eq. 3, counted from 1 and scaled to a highest rate of 1.
        number = step + 1
        expected = scale * min(number**-0.5, number * rising**-1.5)
        assert rate(step, steps, config) == pytest.approx(expected)
    cosine = TrainConfig(warmup=0.1)
    assert [rate(step, steps, cosine) for step in (0, 49, 99, 100)] == pytest.approx([0.01, 0.5, 1, 1])
    assert rate(550, steps, cosine) == pytest.approx(0.5)
    assert rate(999, steps, cosine) < 1e-5
    assert rate(0, steps, TrainConfig(warmup=0.0)) == rate(0, steps, TrainConfig(warmup=0.0, schedule="noam")) == 1


@pytest.mark.parametrize("name", ["wav2letter", "conv-lstm"])
def test_a_batch_that_is_left_out_leaves_no_trace(name, corpus, tmp_path):
    """One utterance of one batch is broken: the others are learned, and batch normalisation stays sound."""
    network_config = NETWORK if name == "wav2letter" else writers(name)
    broken = dataclasses.replace(corpus[0][3], features=torch.full_like(corpus[0][3].features, math.nan))
    training = [*corpus[0][:3], broken, *corpus[0][4:28]]
    network = train(
        tmp_path / "run", network_config, TrainConfig(epochs=2, **OPTIONS), lambda network: (training, corpus[1][:2])
    )
    state = load_checkpoint(checkpoint_path(tmp_path / "run", 2)).state_dict()
    assert any("running_mean" in key for key in state)
    assert all(value.isfinite().all() for value in state.values())
    log = read_log(tmp_path / "run")
    assert math.isfinite(log[-1]["heldout_loss"])
    assert log[-1]["train_loss"] < log[1]["train_loss"]
    with pytest.raises(BadInput, match=r"utterances u003\n"):
        train(tmp_path / "other", network_config, TrainConfig(epochs=1, **OPTIONS), lambda _: ([broken], corpus[1][:2]))
    assert network is not None


def test_a_batch_whose_gradient_is_not_finite_is_left_out(few, tmp_path):
    """The square root at 0 has a finite value and an infinite slope."""

    class Steep(Wav2Letter):
        def losses(self, features, lengths, targets):
            losses = super().losses(features, lengths, targets)
            return {"loss": losses["loss"] + torch.sqrt(self.layer1.convolution.bias.sum() * 0)}

    torch.manual_seed(0)
    network = Steep(NETWORK)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimiser = torch.optim.AdamW(network.parameters())
    alone = Team(0, 1, torch.device("cpu"))
    loop = train_module._Loop(network, optimiser, TrainConfig(**OPTIONS), alone, 0, lambda *note: None)
    with pytest.raises(BadInput, match="not finite three times running"):
        loop.epoch(few(network)[0], 1)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_two_processes_do_what_one_does(tmp_path):
    """`torchrun` with gloo: batch normalisation, uneven shares and a last batch of one included."""
    networks = {
        "wav2letter": NETWORK.model_copy(update={"dropout": 0.0}),
        "conv-lstm": writers("conv-lstm", dropout=0.0),
        "transformer": writers("transformer", dropout=0.0, scheduled_sampling=0.0),
    }
    options = {**OPTIONS, "batch_size": 5, "epochs": 2}
    settings = {name: network.model_dump(mode="json") for name, network in networks.items()}
    write_json(tmp_path / "settings.json", {"networks": settings, "options": options})
    script = tmp_path / "train.py"
    script.write_text(SHARED_TRAINING, encoding="utf-8")
    here = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", script]
    done = subprocess.run(launch, cwd=tmp_path, env=here, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines() == ["0 of 2"]
    for name, network in networks.items():
        train(tmp_path / "one" / name, network, TrainConfig(**options), random_examples, device="cpu")
        one, two = (log_without_seconds(tmp_path / folder / name) for folder in ("one", "two"))
        assert len(one) == len(two) == 3
        for entry, other in zip(one, two, strict=True):
            for key, value in entry.items():
                # Adam makes noise of the gradients that are 0 but for rounding, such as those of a bias before batch
                # normalisation. The loss in training does not depend on it, the stored statistics lag behind it.
                near = 1e-2 if name == "wav2letter" and key == "heldout_loss" and entry["epoch"] else 1e-5
                assert other[key] == (pytest.approx(value, rel=near) if isinstance(value, float) else value), key


def random_examples(network: Recogniser) -> tuple[list[Example], list[Example]]:
    random, made = torch.Generator().manual_seed(0), []
    for number in range(21):
        features = torch.randn(40 + 3 * (number % 7), 128, generator=random)
        made.append(make_example(f"u{number}", features, "abcd"[: 1 + number % 4], network))
    return made[:16], made[16:]


SHARED_TRAINING = f"""
import json
import os
from pathlib import Path
import torch
from otoscope.learn.examples import Example, make_example
from otoscope.learn.networks import read_config
from otoscope.learn.recogniser import Recogniser
from otoscope.learn.train import TrainConfig, train

{inspect.getsource(random_examples)}

settings = json.loads(Path("settings.json").read_text(encoding="utf-8"))
told = []
for name, network in settings["networks"].items():
    options = TrainConfig(**settings["options"])
    train(Path("two", name), read_config(network), options, random_examples, device="cpu", on_epoch=told.append)
assert len(told) == (9 if os.environ["RANK"] == "0" else 0)
if told:
    print(os.environ["RANK"], "of", os.environ["WORLD_SIZE"])
"""


def test_the_log_is_shown_in_tensorboard(few, tmp_path):
    loader = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is not installed"
    )
    train(tmp_path / "run", NETWORK, TrainConfig(epochs=2, **OPTIONS), few)
    events = loader.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    shown = [(event.step, event.value) for event in events.Scalars("heldout_loss")]
    assert shown == [(entry["epoch"], pytest.approx(entry["heldout_loss"])) for entry in read_log(tmp_path / "run")]


def test_without_tensorboard_nothing_is_missed(few, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    train(tmp_path / "run", NETWORK, TrainConfig(epochs=1, **OPTIONS), few)
    assert not (tmp_path / "run" / "tensorboard").exists()


@pytest.mark.parametrize("amx", [True, False])
def test_bfloat16_is_taken_where_it_is_faster(amx, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: amx)
    tiny = {"units": 4, "decoder_units": 4, "embedding": 2, "attention_units": 2}
    networks = {name: build(read_config({"network": name, **tiny})) for name in ("lstm", "conv-lstm")}
    networks |= {"wav2letter": Wav2Letter(NETWORK)}
    for name, network in networks.items():
        assert gains_by_bfloat16(network, torch.device("cuda")) == amx
        assert gains_by_bfloat16(network, torch.device("cpu")) == (amx and name == "wav2letter")


def test_a_device_that_is_not_there(few, tmp_path):
    with pytest.raises(BadOption, match="unknown device"):
        train(tmp_path / "run", NETWORK, TrainConfig(epochs=1), few, device="tpu")
    if not torch.cuda.is_available():
        with pytest.raises(BadOption, match="no GPU"):
            train(tmp_path / "run", NETWORK, TrainConfig(epochs=1), few, device="cuda")
    assert not (tmp_path / "run").exists()


def test_nothing_to_train_on(tmp_path):
    with pytest.raises(BadInput, match="nothing to train on"):
        train(tmp_path / "run", NETWORK, TrainConfig(epochs=1), lambda network: ([], []))
