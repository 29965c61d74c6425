"""Similarities of a run against those of activations collected by hand, each utterance alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import otoscope
from otoscope.base import BadCheckpoint, BadInput, BadOption, write_json
from otoscope.hear.corpus import Utterance
from otoscope.learn.checkpoint import checkpoint_path, load_checkpoint, open_run, save_checkpoint
from otoscope.learn.networks import build, read_config
from otoscope.study.through_training import through_training

MELS = 6
LENGTHS = (40, 26, 58, 34)
LAYERS = ("layer1", "layer2", "layer3")


def make_run(folder: Path, stride: int = 1) -> Path:
    hidden = [{"units": 7, "kernel": 5}, {"units": 5, "kernel": 3, "stride": stride}]
    config = read_config({"mels": MELS, "symbols": ["_", "a", "b", "c"], "hidden": hidden, "norm": "none"})
    for epoch in range(4):
        # Epochs 2 and 3 have the same weights.
        torch.manual_seed(min(epoch, 2))
        save_checkpoint(checkpoint_path(folder, epoch), build(config), {"epoch": epoch})
    write_json(folder / "run.json", {"network": config.model_dump(mode="json"), "train": {}, "corpus": {}})
    return folder


def make_speech() -> list[Utterance]:
    rng = np.random.default_rng(3)
    return [
        Utterance(f"u{index}", features=rng.standard_normal((length, MELS)).astype(np.float32))
        for index, length in enumerate(LENGTHS)
    ]


def by_hand(run: Path, epoch: int) -> dict[str, np.ndarray]:
    """Activations `(frame, unit)` of each layer, float64: every utterance runs alone, so there is no padding."""
    network = load_checkpoint(checkpoint_path(run, epoch))
    kept: dict[str, list[torch.Tensor]] = {name: [] for name in LAYERS}
    for name in LAYERS:
        network.get_submodule(name).register_forward_hook(lambda _m, _i, out, name=name: kept[name].append(out[0]))
    with torch.no_grad():
        for utterance in make_speech():
            values = torch.from_numpy(utterance.features)
            network(values[None], torch.tensor([len(values)]))
    return {name: torch.cat(rows).double().numpy() for name, rows in kept.items()}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"))


# In batches, float32 convolutions round otherwise than alone.
@pytest.mark.parametrize(("batch_size", "tolerance"), [(1, 1e-8), (3, 1e-5)])
def test_equals_direct_similarity(run: Path, batch_size: int, tolerance: float) -> None:
    measures = ("svcca", "cka", "cca")
    found = through_training(run, make_speech(), measures=measures, batch_size=batch_size)
    assert tuple(found["layer"].values) == LAYERS
    assert (found.attrs["frames"], found.attrs["utterances"], found.attrs["left_out"]) == (sum(LENGTHS), 4, 0)
    heard = [by_hand(run, epoch) for epoch in range(4)]
    for measure in measures:
        for layer in LAYERS:
            at = found.sel(measure=measure, layer=layer)
            for epoch in range(3):
                direct = otoscope.similarity(heard[epoch][layer], heard[3][layer], measure)
                assert float(at["to_last"][epoch]) == pytest.approx(direct, abs=tolerance)
                direct = otoscope.similarity(heard[epoch][layer], heard[epoch + 1][layer], measure)
                assert float(at["to_next"][epoch]) == pytest.approx(direct, abs=tolerance)
            for other in LAYERS:
                direct = otoscope.similarity(heard[3][layer], heard[3][other], measure)
                assert float(at["matrix"].sel(other_layer=other)) == pytest.approx(direct, abs=tolerance)


def test_identical_checkpoints_and_ends(run: Path) -> None:
    found = through_training(run, make_speech())
    np.testing.assert_allclose(found["to_last"].sel(epoch=[2, 3]), 1, atol=1e-8)
    np.testing.assert_allclose(found["to_next"].sel(epoch=2), 1, atol=1e-8)
    assert np.isnan(found["to_next"].sel(epoch=3)).all()
    assert (found["to_last"].sel(epoch=[0, 1]) < 0.99).all()
    assert (found["converged"] == 2).all()
    np.testing.assert_allclose(found["matrix"].values, found["matrix"].values.transpose(0, 2, 1))


def test_order_does_not_matter(run: Path) -> None:
    one = through_training(run, make_speech(), batch_size=2)
    other = through_training(run, make_speech()[::-1], batch_size=4)
    np.testing.assert_allclose(one["to_last"], other["to_last"], atol=1e-5)
    assert one.attrs["corpus"] == other.attrs["corpus"]


def test_different_frame_rates_meet_on_one_grid(tmp_path: Path) -> None:
    folder = make_run(tmp_path, stride=2)
    found = through_training(folder, make_speech(), measures=("cka",), batch_size=1)
    assert found.attrs["frames"] == sum(LENGTHS) // 2
    heard = [by_hand(folder, epoch) for epoch in range(4)]

    def halved(values: np.ndarray) -> np.ndarray:
        # Every length is even, so pairs of frames never reach over an utterance's end.
        return values.reshape(-1, 2, values.shape[1]).mean(1)

    for epoch in range(3):
        direct = otoscope.similarity(halved(heard[epoch]["layer1"]), halved(heard[3]["layer1"]), "cka")
        assert float(found["to_last"].sel(layer="layer1", epoch=epoch)[0]) == pytest.approx(direct, abs=1e-6)
        direct = otoscope.similarity(heard[epoch]["layer2"], heard[3]["layer2"], "cka")
        assert float(found["to_last"].sel(layer="layer2", epoch=epoch)[0]) == pytest.approx(direct, abs=1e-8)
    direct = otoscope.similarity(halved(heard[3]["layer1"]), heard[3]["layer2"], "cka")
    assert float(found["matrix"].sel(layer="layer1", other_layer="layer2")[0]) == pytest.approx(direct, abs=1e-6)


def test_choosing_layers_and_epochs(run: Path) -> None:
    found = through_training(open_run(run), make_speech(), layers=["layer2"], measures=["cka"], epochs=[2, 0])
    assert (found["layer"].values.tolist(), found["epoch"].values.tolist()) == (["layer2"], [0, 2])
    heard = [by_hand(run, epoch)["layer2"] for epoch in (0, 2)]
    direct = otoscope.similarity(*heard, "cka")
    np.testing.assert_allclose(found["to_last"].values.ravel(), [direct, 1], atol=1e-5)
    np.testing.assert_allclose(found["to_next"].values.ravel()[:1], [direct], atol=1e-5)
    assert len(found.attrs["checkpoints"]) == 2
    with pytest.raises(BadOption, match="layer9"):
        through_training(run, make_speech(), layers=["layer9"])
    with pytest.raises(BadOption, match=r"(?s)got:\s+\[7\].*among \[0, 1, 2, 3\]"):
        through_training(run, make_speech(), epochs=[1, 7])
    with pytest.raises(BadOption, match="no such epochs"):
        through_training(run, make_speech(), epochs=[])
    with pytest.raises(BadOption, match="svca"):
        through_training(run, make_speech(), measures=["svca"])


def test_notes_and_left_out(run: Path) -> None:
    bad = Utterance("bad", features=np.zeros((9, MELS + 1), np.float32))
    found = through_training(run, [*make_speech()[:1], bad])
    assert (found.attrs["utterances"], found.attrs["left_out"]) == (1, 1)
    # 40 frames are few for seven units.
    assert "40" in found.attrs["notes"]
    assert "svcca" in found.attrs["notes"].lower()
    with pytest.raises(BadInput, match="bad: features of the wrong shape"):
        through_training(run, [*make_speech(), bad], strict=True)
    with pytest.raises(BadInput, match="no utterance can be used"):
        through_training(run, [bad])


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match="this is not a run"):
        through_training(tmp_path, make_speech())


def test_the_first_epoch_the_input_and_the_epochs_around(run: Path) -> None:
    found = through_training(run, make_speech(), measures=["cka"], batch_size=1)
    heard = [by_hand(run, epoch) for epoch in range(4)]
    mel = np.concatenate([utterance.features for utterance in make_speech()])
    at = found.sel(measure="cka", layer="layer2")
    for epoch in range(4):
        first = otoscope.similarity(heard[epoch]["layer2"], heard[0]["layer2"], "cka")
        assert float(at["to_first"][epoch]) == pytest.approx(first, abs=1e-8)
        to_mel = otoscope.similarity(heard[epoch]["layer2"], mel, "cka")
        assert float(at["to_node"].sel(node="mel")[epoch]) == pytest.approx(to_mel, abs=1e-8)
    for epoch in (1, 2):
        around = otoscope.similarity(heard[epoch - 1]["layer2"], heard[epoch + 1]["layer2"], "cka")
        assert float(at["across"][epoch]) == pytest.approx(around, abs=1e-8)
    assert np.isnan(at["across"][[0, 3]]).all()


def test_intervals_go_with_every_curve_and_with_convergence(run: Path) -> None:
    found = through_training(
        run, make_speech(), measures=["cka"], interval=0.9, folds=4, batch_size=1, baseline=["permutation", "random"]
    )
    heard = [by_hand(run, epoch)["layer1"] for epoch in (0, 3)]
    wanted = otoscope.similarity_matrix(*heard, measures="cka", interval=0.9, folds=4, lengths=LENGTHS)
    at = found.sel(measure="cka", layer="layer1")
    np.testing.assert_allclose(at["to_last_interval"].sel(epoch=0), wanted["cka_interval"].squeeze(), atol=1e-6)
    low, high = at["converged_interval"].values
    assert low <= float(at["converged"]) <= high
    assert set(found["bottom_up_interval"].dims) == {"measure", "bound"}
    # One utterance a batch: there is nothing to re-pair with, and no baseline.
    assert "matrix_baseline" not in found
    assert found["matrix_random"].shape == found["matrix"].shape
    assert (found.attrs["level"], found.attrs["folds"]) == (0.9, 4)


def test_what_pathology_needs_is_measured(run: Path, tmp_path: Path) -> None:
    found = through_training(run, make_speech())
    networks = [load_checkpoint(checkpoint_path(run, epoch)) for epoch in range(4)]
    weights = [torch.cat([p.detach().flatten() for p in n.layer2.parameters()]) for n in networks]
    for epoch in range(3):
        wanted = float((weights[epoch + 1] - weights[epoch]).norm() / weights[epoch].norm())
        assert float(found["weight_change"].sel(layer="layer2", epoch=epoch)) == pytest.approx(wanted, rel=1e-5)
    assert found["units"].values.tolist() == [7, 5, 4]
    # A unit that is dead from epoch 1 on.
    folder = make_run(tmp_path / "dead")
    for epoch in (1, 2, 3):
        network = load_checkpoint(checkpoint_path(folder, epoch))
        with torch.no_grad():
            for name, value in network.layer1.named_parameters():
                if name.endswith("bias"):
                    value[:2] = -1e4
        save_checkpoint(checkpoint_path(folder, epoch), network, {"epoch": epoch})
    found = through_training(folder, make_speech())
    assert found["constant_units"].sel(layer="layer1").values.tolist() == [0, 2, 2, 2]
    assert "dead units" in found.attrs["pathologies"]
    assert "layer1" in found.attrs["pathologies"]


def test_one_epoch_is_no_training(run: Path) -> None:
    with pytest.raises(BadOption, match=r"training takes epochs\n.*1 of \[0, 1, 2, 3\]"):
        through_training(run, make_speech(), epochs=[3])
