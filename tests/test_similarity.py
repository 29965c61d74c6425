"""The contract of `similarity` and `similarity_matrix`, and the traps of few frames, dead units and strange numbers."""

from __future__ import annotations

import itertools
import json
import math
import warnings

import numpy as np
import pytest
import torch
import xarray as xr
from direct_measures import DIRECT, canonical, centred, layers, reduced
from hypothesis import given, settings
from hypothesis import strategies as st

from otoscope.base import BadInput, BadOption
from otoscope.reduce.measures import MEASURES, canonical_limit, cka_limit
from otoscope.reduce.moments import Moments
from otoscope.reduce.similarity import RankWarning, similarities, similarity, similarity_matrix
from otoscope.reduce.spectra import Node, Pair


@pytest.fixture
def silent():
    """Few frames are meant here, or dead units."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RankWarning)
        yield


# Chance and rank, in words.


@pytest.mark.parametrize("width", [1, 4, 10])
def test_the_score_of_unrelated_nodes_is_the_mean_over_shuffled_frames(width, silent):
    x, y = layers(frames=40, width=width, other=6)
    rng = np.random.default_rng(0)
    moments = Moments()
    moments.update({"x": x, "y": y})
    sums = moments.finalize()
    pair = Pair(Node(sums, "x"), Node(sums, "y"))
    shuffled = [rng.permutation(y) for _ in range(300)]
    alignments = np.array([DIRECT["cka"](x, z) for z in shuffled])
    squares = np.array([(canonical(x, z) ** 2).mean() for z in shuffled])
    for chance, scores in [(cka_limit(pair)[0], alignments), (canonical_limit(pair)[0] ** 2, squares)]:
        assert chance == pytest.approx(scores.mean(), abs=4 * scores.std() / math.sqrt(300))


def noise(frames, width, seed):
    return np.random.default_rng(seed).normal(size=(frames, width))


def test_few_frames_are_reported_in_words():
    # 110 frames of 100 units of noise: centred there are 109 dimensions, so that 91 of 100 directions are shared.
    x, y = noise(110, 100, 0), noise(110, 100, 1)
    words = "cca of 'x' and 'y': 110 frames are few for 100 and 100 directions, where 91 of 100 correlations are 1"
    with pytest.warns(RankWarning, match=words + " whatever the data; unrelated nodes would score 0.96"):
        assert similarity(x, y, "cca") == pytest.approx(0.93, abs=0.01)
    with pytest.warns(RankWarning, match="cka of .*few for 100 and 100 units; unrelated nodes would score 0.48"):
        assert similarity(x, y, "cka") == pytest.approx(0.48, abs=0.01)
    with pytest.warns(RankWarning, match="svcca of 'x' and '[yz]': 110 frames are few"):
        dataset = similarity_matrix({"x": x, "y": y, "z": x + y}, measures=["svcca"])
    assert dataset.notes.endswith("(and 5 more pairs, less)")
    assert f"few for {dataset.kept[0].item()} and" in dataset.notes


def test_fewer_frames_than_units_are_never_a_silent_1():
    x, y = noise(20, 50, 0), noise(20, 50, 1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert similarity(x, y, "cca") == pytest.approx(1)
    rank, few = (str(warning.message) for warning in caught)
    assert "'x' varies in 19 of 50 directions (0 constant units)" in rank
    assert "19 of 19 correlations are 1 whatever the data" in few
    assert all(warning.filename == __file__ for warning in caught)


@pytest.mark.parametrize("measure", MEASURES)
def test_enough_frames_are_no_trouble(measure, recwarn):
    similarity(*layers(), measure)
    assert similarity_matrix(dict(zip("xy", layers(), strict=True))).notes == ""
    assert not recwarn.list


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize("offset", [0, 50])
def test_dead_and_collinear_units_are_left_out_of_cca_and_said(dtype, offset):
    x, y = layers(width=4)
    x -= x.mean(0)
    wider = np.hstack([x, np.zeros((400, 2)), x[:, :1] + x[:, 1:2] / 3, np.full((400, 1), 0.1)]) + offset
    with pytest.warns(RankWarning, match=r"'x' varies in 4 of 8 directions \(3 constant units\)"):
        found = similarity(wider.astype(dtype), y, "cca")
    # What rounding of the input does to the rest is all that may remain.
    assert found == pytest.approx(DIRECT["cca"](x, y), abs=max(1e-9, 50 * float(np.finfo(dtype).eps)))


def test_a_quiet_unit_beside_a_loud_one_counts():
    x, y = layers()
    loud = x * np.geomspace(1e-10, 1e10, x.shape[1])
    assert similarity(loud, y, "cca") == pytest.approx(DIRECT["cca"](x, y), abs=1e-9)


def test_ill_conditioned_layers_keep_seven_digits():
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(centred(rng.normal(size=(1000, 64))))[0]
    x = basis * np.geomspace(1, 1e-6, 64) @ np.linalg.qr(rng.normal(size=(64, 64)))[0]
    y = basis @ rng.normal(size=(64, 64)) + rng.normal(size=(1000, 64)) / 50
    assert similarity(x, y, "cca") == pytest.approx(DIRECT["cca"](x, y), abs=2e-7)
    assert similarity(x, y, "svcca") == pytest.approx(DIRECT["svcca"](x, y), abs=1e-9)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("scale", [1e-20, 1e20, 1e-100, 1e100])
def test_tiny_and_huge_values_change_nothing(measure, scale):
    x, y = layers()
    if measure == "cka_debiased" and not 1e-30 < scale < 1e30:
        with pytest.raises(BadInput, match=r"too small for the debiased|too large to square"):
            similarity(x * scale, y * scale, measure)
        return
    wanted = pytest.approx(similarity(x, y, measure), abs=1e-7 if measure == "angular" else 1e-10)
    assert similarity(x * scale, y / scale, measure) == wanted
    assert similarity(x * scale, y * scale, measure) == wanted


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_an_offset_of_10000_changes_nothing(measure, dtype, silent):
    # Multiples of 1/64 below 100 are exact in float32 on top of 10,000 too.
    x, y = (np.round(a * 64) / 64 for a in layers())
    shifted = (x + 1e4).astype(dtype), (y - 1e4).astype(dtype)
    assert similarity(*shifted, measure) == pytest.approx(DIRECT[measure](x, y), abs=1e-9)


def test_half_precision_is_summed_in_double():
    x, y = (torch.tensor(a) for a in layers())
    for dtype in (torch.float16, torch.bfloat16):
        for measure in MEASURES:
            low = x.to(dtype), y.to(dtype)
            wanted = DIRECT[measure](*(a.double().numpy() for a in low))
            assert similarity(*low, measure) == pytest.approx(wanted, abs=1e-9)


# Frames of like units have no correlation distance at all, which is said first.
OPTIONS = {"rsa": {"distance": "euclidean"}}


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("constant", [0.0, 0.1, -1e4])
def test_a_constant_node_is_refused_in_words(measure, constant):
    y = layers()[1]
    for dtype in (np.float64, np.float32, np.float16):
        with pytest.raises(BadInput, match=r"node 'x' has no variance\n.*3 units that stay the same.* over 400 frames"):
            similarity(np.full((400, 3), constant).astype(dtype), y, measure, **OPTIONS.get(measure, {}))


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_a_node_that_only_wavers_in_its_last_digit_is_constant(measure, dtype):
    y = layers()[1]
    low = np.array(1000, dtype)
    x = np.where(np.random.default_rng(0).random((400, 3)) < 0.5, low, np.nextafter(low, dtype(2000)))
    with pytest.raises(BadInput, match="node 'x' has no variance"):
        similarity(x, y, measure, **OPTIONS.get(measure, {}))
    similarity(np.where(x == low, low, dtype(1010)), y, measure, **OPTIONS.get(measure, {}))


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (noise(1, 3, 0), noise(1, 3, 1), "(frames to vary over|too few frames)\n.*1 frames\n.*at least"),
        (noise(0, 3, 0), noise(0, 3, 1), "(nothing to read yet|too few frames)\n.*0 frames"),
        (noise(9, 3, 0), noise(8, 3, 1), r"differ in their number of frames\n.*'x' 9, 'y' 8"),
        (noise(9, 3, 0) * [1, np.inf, 1], noise(9, 3, 1), r"node 'x' holds.*not numbers\n.*0 NaN and 9 infinite of 27"),
        (noise(9, 3, 0), noise(9, 3, 1)[0], r"node 'y' is no matrix of frames"),
    ],
)
def test_what_has_no_similarity_is_refused_in_words(x, y, words):
    for measure in MEASURES:
        with pytest.raises(BadInput, match=words):
            similarity(x, y, measure)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"measure": "ckaa"}, r"unknown measure\n.*'ckaa'\n.*'cca', 'cca_r2', 'svcca'.*\n.*did you mean 'cka'"),
        ({"measure": "svcca", "treshold": 0.9}, "svcca has no option 'treshold'\n.*'threshold' \\(of svcca\\)"),
        ({"measure": "cka", "threshold": 0.9}, "cka has no option 'threshold'"),
        ({"measure": "svcca", "threshold": 0.0}, "share of the variance\n.*0.0\n.*0 < threshold <= 1"),
        ({"measure": "svcca", "threshold": 99}, "share of the variance\n.*99"),
        ({"measure": "svcca", "threshold": math.nan}, "share of the variance\n.*nan"),
    ],
)
def test_wrong_measures_and_options_are_refused_in_words(arguments, words):
    with pytest.raises(BadOption, match=words):
        similarity(*layers(), **arguments)


def test_no_measure_is_refused():
    with pytest.raises(BadOption, match="no measure was asked for"):
        similarity_matrix(layers()[0], measures=[])


# From a stream, and as a Dataset.


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), cuts=st.lists(st.integers(1, 299), max_size=4), turned=st.booleans())
def test_any_split_order_and_merge_gives_the_same_values(seed, cuts, turned):
    x, y = layers(seed, frames=300, width=6, other=5)
    edges = [0, *sorted(cuts), 300]
    parts = []
    for start, stop in itertools.pairwise(edges):
        part = Moments()
        part.update({"x": x[start:stop], "y": y[start:stop]})
        parts.append(part)
    total = Moments()
    for part in reversed(parts) if turned else parts:
        total.merge(part)
    of_sums = [name for name, row in MEASURES.items() if not row.reads_frames and not row.needs_norms]
    found = similarities(total, of_sums)
    for measure in of_sums:
        assert found.values[measure]["x", "y"] == pytest.approx(similarity(x, y, measure), abs=1e-10)


def test_chosen_pairs_are_read_in_the_order_asked():
    x, y = layers()
    moments = Moments(pairs=[("mel", "conv1")])
    moments.update({"conv1": x, "mel": y, "conv2": x[:, :3]})
    found = similarities(moments)
    assert set(found.values) == {"svcca", "cka"}
    assert found.values["cka"] == {("mel", "conv1"): pytest.approx(DIRECT["cka"](x, y))}
    assert found.kept == {"mel": reduced(y, 0.99).shape[1], "conv1": reduced(x, 0.99).shape[1]}
    turned = similarities(moments, "cka", [("conv1", "mel"), ("conv2", "conv2")])
    assert turned.values["cka"] == {("conv1", "mel"): pytest.approx(DIRECT["cka"](x, y)), ("conv2", "conv2"): 1.0}
    assert turned.kept == {}
    with pytest.raises(BadInput, match="was not asked for"):
        similarities(moments, pairs=[("conv1", "conv2")])


def test_the_matrix_of_layers_with_each_other():
    x, y = layers()
    data = {"conv1": x, "conv2": y, "out": torch.tensor(x[:, :5] + 1)}
    dataset = similarity_matrix(data, measures=tuple(MEASURES), threshold=0.9)
    assert list(dataset.layer.values) == list(dataset.other_layer.values) == list(data)
    for measure in MEASURES:
        options = {"threshold": 0.9} if measure == "svcca" else {}
        assert dataset[measure].dims == ("layer", "other_layer")
        for a in data:
            for b in data:
                wanted = DIRECT[measure](data[a], data[b], **options)
                assert dataset[measure].sel(layer=a, other_layer=b).item() == pytest.approx(wanted, abs=1e-7)
    assert list(dataset.kept.values) == [reduced(v, 0.9).shape[1] for v in data.values()]
    assert dataset.attrs["frames"] == 400
    settings = json.loads(dataset.attrs["settings"])
    assert list(settings) == list(MEASURES)
    assert (settings["svcca"], settings["cka"]) == ({"threshold": 0.9}, {})
    assert dataset.cka.attrs["range"] == [0, 1]


def test_the_matrix_of_one_network_with_another_of_the_same_layer_names():
    x, y = layers()
    a, b = {"conv1": x, "conv2": y}, {"conv1": y[:, :4], "conv2": x[:, 2:], "conv3": x * 2}
    dataset = similarity_matrix(a, b)
    assert set(dataset) == {"cka", "svcca", "kept", "other_kept"}
    assert dict(dataset.sizes) == {"layer": 2, "other_layer": 3}
    for measure in ("cka", "svcca"):
        wanted = [[DIRECT[measure](p, q) for q in b.values()] for p in a.values()]
        np.testing.assert_allclose(dataset[measure], wanted, atol=1e-9)
    assert list(dataset.other_kept.values) == [reduced(v, 0.99).shape[1] for v in b.values()]
    with pytest.raises(BadInput, match="node 'conv1 of b' has no variance"):
        similarity_matrix(a, {**b, "conv1": np.ones((400, 4))})


def test_the_matrix_of_two_arrays_and_its_file(tmp_path):
    x, y = layers()
    dataset = similarity_matrix(x, y, measures="cka")
    assert dataset.cka.item() == pytest.approx(DIRECT["cka"](x, y), abs=1e-9)
    dataset.to_netcdf(tmp_path / "similarity.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "similarity.nc", engine="h5netcdf") as read:
        xr.testing.assert_equal(read, dataset)
        assert read.attrs["settings"] == dataset.attrs["settings"]
        assert read.attrs["frames"] == 400


def test_how_a_value_was_made_is_noted_and_is_no_warning(recwarn):
    x, y = layers()
    dataset = similarity_matrix(x, y, measures="knn", sample=100)
    assert dataset.notes == "knn: over a sample of 100 of 400 frames"
    dataset = similarity_matrix(x, y, measures="cka", preset="ollerenshaw2021")
    assert dataset.notes.startswith("preset ollerenshaw2021 (the paper's text)")
    dataset = similarity_matrix(x, y, measures="cka", interval="jackknife")
    assert dataset.notes == "no lengths were given: the frames are taken in 20 stretches, not in utterances"
    assert not recwarn.list
