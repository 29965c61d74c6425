"""Checkpoints: what is saved comes back bit for bit; what is damaged or foreign is refused with words."""

from __future__ import annotations

import errno
import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import otoscope
from otoscope.base import BadCheckpoint, BadOption, OtoscopeError, write_json
from otoscope.learn.checkpoint import (
    FORMAT,
    checkpoint_path,
    load,
    load_checkpoint,
    open_run,
    read_log,
    save_checkpoint,
    save_tensors,
)
from otoscope.learn.wav2letter import ConvolutionConfig, Wav2Letter, Wav2LetterConfig


def network(seed: int = 0, units: int = 6, norm: str = "batch") -> Wav2Letter:
    torch.manual_seed(seed)
    hidden = (ConvolutionConfig(units=units, kernel=4, stride=2), ConvolutionConfig(units=5, kernel=3))
    made = Wav2Letter(
        Wav2LetterConfig(mels=8, symbols=("a", "b", "<blank>"), blank=2, hidden=hidden, norm=norm, dropout=0.2)
    )
    made(torch.randn(2, 9, 8), torch.tensor([9, 7]))
    return made


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "one.safetensors"
    save_checkpoint(path, network(), {"epoch": 3, "corpus": {"fingerprint": "beef"}})
    return path


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of three epochs: epoch n has the weights of seed n."""
    folder = tmp_path / "run"
    write_json(folder / "run.json", {"train": {"seed": 0}})
    for epoch in (0, 2, 10):
        save_checkpoint(checkpoint_path(folder, epoch), network(epoch), {"epoch": epoch})
    return folder


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
def test_the_network_comes_back_bit_for_bit(tmp_path, norm):
    before = network(norm=norm)
    save_checkpoint(tmp_path / "one.safetensors", before, {"epoch": 3, "note": "ä"})
    after = load_checkpoint(tmp_path / "one.safetensors")
    assert same_weights(before, after)
    assert after.config == before.config
    assert (after.symbols, after.blank) == (("a", "b", "<blank>"), 2)
    assert not any(module.training for module in after.modules())
    assert after.checkpoint["epoch"] == 3
    assert after.checkpoint["note"] == "ä"
    features, lengths = torch.randn(1, 20, 8), torch.tensor([20])
    with torch.no_grad():
        torch.testing.assert_close(after(features, lengths), before.eval()(features, lengths), rtol=0, atol=0)


@pytest.mark.parametrize("kept", [0, 4, 100, 0.5, -1])
def test_a_file_cut_short_is_refused(saved, kept):
    data = saved.read_bytes()
    saved.write_bytes(data[: int(len(data) * kept) if isinstance(kept, float) else kept])
    with pytest.raises(BadCheckpoint, match=r"cannot be read[\s\S]*one.safetensors[\s\S]*another epoch"):
        load_checkpoint(saved)


def test_another_format_is_refused(saved, tmp_path):
    path = tmp_path / "other.safetensors"
    save_tensors(path, network().state_dict(), {"format": "otoscope-checkpoint-99"})
    with pytest.raises(BadCheckpoint, match=r"otoscope-checkpoint-99[\s\S]*otoscope-checkpoint-1"):
        load_checkpoint(path)
    save_file(network().state_dict(), path)
    with pytest.raises(BadCheckpoint, match="not a checkpoint of ours"):
        load_checkpoint(path)


@pytest.mark.parametrize("other", [network(units=7), network(norm="none")], ids=["other width", "other norm"])
def test_weights_of_another_network_are_refused(tmp_path, other):
    path = tmp_path / "mixed.safetensors"
    config = network().config.model_dump(mode="json")
    save_tensors(path, other.state_dict(), {"format": FORMAT, "config": config, "epoch": 0})
    with pytest.raises(BadCheckpoint, match="another network"):
        load_checkpoint(path)


def test_an_unknown_key_in_the_configuration_is_refused(tmp_path):
    path = tmp_path / "newer.safetensors"
    config = {**network().config.model_dump(mode="json"), "attention": True}
    save_tensors(path, network().state_dict(), {"format": FORMAT, "config": config})
    with pytest.raises(BadCheckpoint, match="attention"):
        load_checkpoint(path)
    save_tensors(path, network().state_dict(), {"format": FORMAT})
    with pytest.raises(BadCheckpoint, match="config"):
        load_checkpoint(path)


class Planted:
    """Unpickling this makes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("write", [pickle.dump, torch.save], ids=["pickle", "torch"])
def test_loading_runs_no_code(tmp_path, write):
    trace, path = tmp_path / "trace", tmp_path / "epoch-000.safetensors"
    with open(path, "wb") as file:
        write({"weights": Planted(trace)}, file)
    with pytest.raises(BadCheckpoint, match="cannot be read"):
        otoscope.load(path)
    assert not trace.exists()
    with open(path, "rb") as file:
        (pickle.load(file) if write is pickle.dump else torch.load(file, weights_only=False))
    assert trace.exists(), "the plant itself must work"


def test_a_run_gives_its_last_epoch_or_the_one_asked_for(run):
    assert same_weights(otoscope.load(run), network(10))
    assert same_weights(otoscope.load(str(run), epoch=0), network(0))
    assert same_weights(otoscope.load(run, epoch=2), network(2))
    assert list(open_run(run).checkpoints) == [0, 2, 10]
    assert same_weights(load(checkpoint_path(run, 2)), network(2))


def test_what_is_not_there_is_named(run, tmp_path, saved):
    with pytest.raises(BadCheckpoint, match=r"no checkpoint of this epoch[\s\S]*7[\s\S]*0, 2, 10"):
        otoscope.load(run, epoch=7)
    with pytest.raises(BadCheckpoint, match=r"no such checkpoint[\s\S]*nowhere"):
        otoscope.load(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadCheckpoint, match=r"not a run[\s\S]*otoscope train"):
        otoscope.load(tmp_path / "empty")
    write_json(tmp_path / "empty" / "run.json", {})
    with pytest.raises(BadCheckpoint, match="no checkpoint yet"):
        otoscope.load(tmp_path / "empty")
    with pytest.raises(BadOption, match="one checkpoint has one epoch"):
        otoscope.load(saved, epoch=3)
    (run / "run.json").write_text("{", encoding="utf-8")
    with pytest.raises(BadCheckpoint, match="settings cannot be read"):
        otoscope.load(run)


def test_a_network_without_a_configuration_cannot_be_saved(tmp_path):
    module = nn.Linear(2, 2)
    module.config = {"in": 2}
    with pytest.raises(BadOption, match="Linear"):
        save_checkpoint(tmp_path / "x.safetensors", module, {})


def test_a_full_disk_leaves_the_old_checkpoint(saved, monkeypatch):
    before = saved.read_bytes()

    def full(source, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        with pytest.raises(OtoscopeError, match="no space left on the disk"):
            save_checkpoint(saved, network(1), {"epoch": 4})
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]
    save_checkpoint(saved, network(1), {"epoch": 4})
    assert same_weights(load_checkpoint(saved), network(1))


def test_the_best_epoch_has_the_lowest_held_out_loss(run):
    assert open_run(run).best == 10
    losses = {0: 9.0, 1: 0.5, 2: 3.0, 10: float("nan")}
    lines = [json.dumps({"epoch": epoch, "heldout_loss": loss}) for epoch, loss in losses.items()]
    (run / "log.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert open_run(run).best == 2, "epoch 1 has no checkpoint"


def test_a_log_is_read_up_to_a_broken_line(run):
    assert read_log(run) == []
    (run / "log.jsonl").write_text('{"epoch": 0}\n{"epoch": 1}\n{"epo', encoding="utf-8")
    assert open_run(run).log == [{"epoch": 0}, {"epoch": 1}]
