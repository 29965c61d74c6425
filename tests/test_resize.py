"""Widths by interpolation against numpy's, and what the presets make of CCA and CKA."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from direct_measures import layers

from otoscope.base import BadInput
from otoscope.reduce.resize import PRESETS, interpolate_frames, interpolate_units, same_width
from otoscope.reduce.similarity import RankWarning, similarity_matrix


def by_numpy(rows, width):
    rows = np.asarray(rows, np.float64)
    last = rows.shape[1] - 1
    at = np.linspace(0, last, width) if width > 1 else [last / 2]
    return np.array([np.interp(at, np.arange(last + 1), row) for row in rows])


@pytest.mark.parametrize("width", [1, 2, 3, 7, 8, 12, 64, 101])
@pytest.mark.parametrize("units", [1, 2, 5, 8, 64])
def test_units_are_interpolated_as_numpy_does(units, width):
    x = np.random.default_rng(0).normal(size=(6, units))
    wide = interpolate_units(torch.tensor(x), width)
    np.testing.assert_allclose(wide, by_numpy(x, width), atol=1e-12)
    single = interpolate_units(torch.tensor(x, dtype=torch.float32), width)
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single, by_numpy(x, width), atol=1e-5)


@pytest.mark.parametrize("width", [2, 5, 9, 1000])
def test_the_end_units_stay_what_they_are(width):
    x = torch.tensor(np.random.default_rng(1).normal(size=(4, 9)))
    wide = interpolate_units(x, width)
    assert torch.equal(wide[:, [0, -1]], x[:, [0, -1]])


def test_a_single_unit_is_repeated_and_of_many_one_is_the_middle():
    x = torch.tensor([[1.0], [-2.0]])
    assert interpolate_units(x, 3).tolist() == [[1, 1, 1], [-2, -2, -2]]
    assert interpolate_units(torch.tensor([[1.0, 5.0, 90.0]]), 1).tolist() == [[5]]
    assert interpolate_units(torch.tensor([[1.0, 2.0, 4.0, 90.0]]), 1).tolist() == [[3]]
    assert interpolate_units(torch.tensor([[1, 2]]), 3).tolist() == [[1, 1.5, 2]]


def test_leading_axes_are_kept():
    x = torch.tensor(np.random.default_rng(2).normal(size=(2, 3, 4)))
    assert torch.equal(interpolate_units(x, 7)[1, 2], interpolate_units(x[1, 2:3], 7)[0])


@pytest.mark.parametrize("width", [0, -3])
def test_no_width_is_refused_in_words(width):
    with pytest.raises(BadInput, match=rf"a layer has at least one unit\n.*width {width}\n.*1 or more"):
        interpolate_units(torch.ones(2, 3), width)


def test_frames_are_interpolated_in_time():
    x = np.random.default_rng(3).normal(size=(10, 4))
    np.testing.assert_allclose(interpolate_frames(torch.tensor(x), 23), by_numpy(x.T, 23).T, atol=1e-12)


def test_all_nodes_come_to_the_width_of_the_widest():
    x, y = (torch.tensor(a) for a in layers(frames=30, width=12, other=7))
    wide = same_width({"x": x, "y": y}, flat=False)
    assert wide["x"] is x
    np.testing.assert_allclose(wide["y"], by_numpy(y, 12), atol=1e-12)
    flat = same_width({"x": x, "y": y}, flat=True)
    assert [tuple(each.shape) for each in flat.values()] == [(360, 1), (360, 1)]
    np.testing.assert_array_equal(flat["x"][:, 0], x.numpy().ravel())
    np.testing.assert_allclose(flat["y"][:, 0], by_numpy(y, 12).ravel(), atol=1e-12)


# The presets.


def compared(x, y, preset=None, **arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RankWarning)
        return similarity_matrix(x, y, measures=("cca", "svcca", "cka"), preset=preset, **arguments)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("other", [12, 7, 1])
def test_of_flat_layers_cca_is_the_correlation_of_all_values_and_cka_its_square(preset, other):
    for seed in range(3):
        x, y = layers(seed, frames=200, width=12, other=other)
        correlation = np.corrcoef(x.ravel(), by_numpy(y, 12).ravel())[0, 1]
        for found in (compared(x, y, preset), compared(y, x, preset), compared(-x, y, preset)):
            assert found.cca.item() == pytest.approx(abs(correlation), abs=1e-10)
            assert found.svcca.item() == pytest.approx(abs(correlation), abs=1e-10)
            assert found.cka.item() == pytest.approx(correlation**2, abs=1e-10)
            assert found.kept.item() == 1
            assert PRESETS[preset].words in found.notes


@pytest.mark.parametrize("preset", PRESETS)
def test_permuted_neurons_are_the_same_layer_but_not_to_the_presets(preset):
    rng = np.random.default_rng(0)
    layer = rng.normal(size=(2000, 32))
    permuted = layer[:, rng.permutation(32)]
    recommended, flat = compared(layer, permuted), compared(layer, permuted, preset)
    for measure in ("cca", "svcca", "cka"):
        assert recommended[measure].item() == pytest.approx(1, abs=1e-9)
        assert flat[measure].item() < 0.2
        assert compared(layer, layer.copy(), preset)[measure].item() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_interval_of_flat_layers_leaves_whole_utterances_out(preset):
    x, y = layers(frames=120, width=6, other=4)
    lengths = [20, 50, 10, 40]
    found = compared(x, y, preset, lengths=lengths, interval="jackknife", baseline="permutation")
    flat = {"x": x.reshape(-1, 1), "y": by_numpy(y, 6).reshape(-1, 1)}
    many = [6 * length for length in lengths]
    wanted = compared(flat["x"], flat["y"], lengths=many, interval="jackknife", baseline="permutation")
    assert found.attrs["utterances"] == 4
    for name in ("cca_interval", "cka_interval", "cca_baseline", "cka_baseline"):
        np.testing.assert_allclose(found[name], wanted[name], atol=1e-10)


def test_padding_is_left_out_before_layers_are_flattened():
    x, y = layers(frames=120, width=6, other=4)
    lengths = [20, 50, 10, 40]
    padded = []
    for rows in (x, y):
        batch = np.full((4, 50, rows.shape[1]), np.nan)
        for index, part in enumerate(np.split(rows, np.cumsum(lengths)[:-1])):
            batch[index, : len(part)] = part
        padded.append(batch)
    found = compared(*padded, "ollerenshaw2021", lengths=lengths)
    assert found.cca.item() == pytest.approx(compared(x, y, "ollerenshaw2021").cca.item(), abs=1e-12)


def test_the_presets_set_the_threshold_of_svcca_unless_told_otherwise():
    x, y = layers()
    assert '"threshold": 0.99' in compared(x, y, "ollerenshaw2021").attrs["settings"]
    assert '"threshold": 1.0' in compared(x, y, "ollerenshaw2021-code").attrs["settings"]
    assert '"threshold": 0.5' in compared(x, y, "ollerenshaw2021-code", threshold=0.5).attrs["settings"]
    found = similarity_matrix(x, y, measures="cka", preset="ollerenshaw2021-code")
    assert found.attrs["notes"].startswith("preset ollerenshaw2021-code")
    assert found.attrs["settings"] == '{"cka": {}}'
