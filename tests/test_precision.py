"""When products are formed in float32, and what it costs every measure: spectra made by hand, float64 as the truth."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest
import scipy.linalg
import torch
from direct_measures import DIRECT, centred

from otoscope.reduce import moments as module
from otoscope.reduce.comparison import Comparison
from otoscope.reduce.measures import MEASURES
from otoscope.reduce.moments import Moments
from otoscope.reduce.precision import LARGEST_CONDITION
from otoscope.reduce.similarity import RankWarning, similarities, similarity

OF_SUMS = tuple(name for name, row in MEASURES.items() if not row.reads_frames)


def with_condition(basis, condition):
    """Frames whose units have variance 1 and correlations of exactly this condition number; as many units as 2^k.

    A Hadamard matrix spreads every direction over all units alike.
    """
    units = basis.shape[1]
    spectrum = np.geomspace(1, 1 / condition, units)
    spread = scipy.linalg.hadamard(units) / np.sqrt(units)
    return basis * np.sqrt(spectrum / spectrum.mean() * len(basis)) @ spread


def related(conditions, widths=(64, 128), frames=10_000, seed=0):
    """Two float32 nodes on an offset, with canonical correlations from 0.95 to 0.05 in bases that hide them."""
    rng = np.random.default_rng(seed)
    first, second = widths
    basis = np.linalg.qr(centred(rng.normal(size=(frames, first + second))))[0]
    x, y = basis[:, :first], basis[:, first:]
    rhos = np.linspace(0.95, 0.05, min(widths))
    turned = x @ np.linalg.qr(rng.normal(size=(first, first)))[0]
    y[:, : len(rhos)] = turned[:, : len(rhos)] * rhos + y[:, : len(rhos)] * np.sqrt(1 - rhos**2)
    y = y @ np.linalg.qr(rng.normal(size=(second, second)))[0]
    nodes = (with_condition(each, condition) for each, condition in zip((x, y), conditions, strict=True))
    return [(each + rng.normal(size=each.shape[1])).astype(np.float32) for each in nodes]


# Forced into float32, the error grows with the condition number. "auto" goes as far as it stays below 1e-7.
BOUNDS = {10: 3e-8, 100: 1e-7, 1000: 1e-6}


def read_in(precision, x, y, at_once=1500):
    comparison = Comparison(OF_SUMS, [("x", "y")], precision=precision)
    for start in range(0, len(x), at_once):
        comparison.update({"x": x[start : start + at_once], "y": y[start : start + at_once]})
    return comparison.read()


@pytest.fixture(scope="module")
def errors():
    """By condition number and measure: how far float32 products are from float64 ones."""
    found = {}
    for condition in BOUNDS:
        nodes = related((condition, condition))
        low, high = (read_in(precision, *nodes).values for precision in ("float32", "float64"))
        found[condition] = {measure: abs(low[measure]["x", "y"] - high[measure]["x", "y"]) for measure in OF_SUMS}
    return found


@pytest.mark.parametrize("condition", BOUNDS)
@pytest.mark.parametrize("measure", OF_SUMS)
def test_float32_costs_a_measure_as_much_as_the_condition_number_says(measure, condition, errors):
    # Where nothing differs at all, nothing was formed in float32.
    assert 0 < errors[condition][measure] <= BOUNDS[condition]
    if measure in ("cka", "cka_debiased", "procrustes", "angular", "svcca"):
        # These weigh directions by their variance, and never see the faintest.
        assert errors[condition][measure] <= 1e-7


@pytest.mark.parametrize(("units", "condition"), [(4, 300), (16, 800), (64, 800), (16, 30), (64, 60), (64, 1e6)])
def test_whatever_is_chosen_no_measure_loses_more_than_a_ten_millionth(units, condition):
    x, y = related((condition, condition), (units, units), 20_000)
    found, wanted = (read_in(precision, x, y) for precision in ("auto", "float64"))
    if condition > 1e3:
        assert not any("float32" in note for note in found.remarks)
    worst = max((abs(found.values[m]["x", "y"] - wanted.values[m]["x", "y"]), m) for m in OF_SUMS)
    assert worst[0] <= 1e-7, worst


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(module, "BLOCK_FRAMES", (1000, 1000))


def node(condition=10, dtype=np.float32, units=16, frames=1000, seed=0):
    basis = np.linalg.qr(centred(np.random.default_rng(seed).normal(size=(frames, units))))[0]
    return with_condition(basis, condition).astype(dtype)


def chosen(**nodes):
    moments = Moments()
    moments.update(nodes)
    return moments.precision


SAFE = {
    "well conditioned": node(10),
    "float16": node(10, np.float16),
    "bfloat16": torch.tensor(node(10)).bfloat16(),
    "loud and quiet units": node(10) * np.geomspace(1e-3, 1e3, 16, dtype=np.float32),
    "a dead unit": np.hstack([node(10), np.full((1000, 1), 0.1, np.float32)]),
    "on an offset": node(10) + np.float32(1000),
    "twice as many frames as units": np.float32(
        np.linalg.qr(centred(np.random.default_rng(0).normal(size=(1000, 500))))[0]
    ),
    # What does not vary at all is left out by every measure that whitens.
    "collinear units": np.hstack([node(10), node(10)[:, :1]]),
    "one-hot labels": np.eye(16, dtype=np.float32)[np.random.default_rng(0).integers(16, size=1000)],
    "large": node(10) * np.float32(1e4),
    "small": node(10) * np.float32(1e-4),
}


@pytest.mark.parametrize("name", SAFE)
@pytest.mark.usefixtures("small_blocks")
def test_float32_is_chosen_where_it_is_safe(name):
    assert chosen(a=SAFE[name]).startswith("products in float32: condition numbers are at most ")


UNSAFE = {
    "float64": (node(10, np.float64), "the input is given in float64"),
    "integers": (np.round(node(10) * 100).astype(np.int64), "the input is given in float64"),
    "badly conditioned": (node(1e6), r"node 'a' has condition number 1e\+06"),
    "nearly collinear units": (
        np.hstack([node(10), node(10)[:, :1] + 1e-3 * node(10, seed=1)[:, :1]]),
        r"node 'a' has condition number \d",
    ),
    "too many units": (np.random.default_rng(0).normal(size=(1000, 501)).astype(np.float32), "a block of 1000 frames"),
    "huge": (node(10) * np.float32(1e7), "the values of node 'a' are too large or too small for float32 squares"),
    "tiny": (node(10) * np.float32(1e-8), "the values of node 'a' are too large or too small for float32 squares"),
    "one frame too few": (node(10)[:-1], "a block of frames was never full"),
}


@pytest.mark.parametrize("name", UNSAFE)
@pytest.mark.usefixtures("small_blocks")
def test_float64_is_kept_where_it_is_not_and_why_is_said(name):
    values, words = UNSAFE[name]
    assert re.match(f"products in float64: {words}", chosen(a=values))


@pytest.mark.usefixtures("small_blocks")
def test_the_limit_is_the_condition_number_that_is_said():
    for units in (16, 64):
        limit = min(units, LARGEST_CONDITION)
        assert "float32" in chosen(a=node(limit * 0.99, units=units))
        words = chosen(a=node(limit * 1.02, units=units))
        assert re.match("products in float64: node 'a' has condition number .* above", words)


@pytest.mark.usefixtures("small_blocks")
def test_the_worst_node_decides():
    assert chosen(a=node(4), b=node(12), c=node(8)).endswith("at most 12 (node 'b')")
    assert chosen(a=node(10), b=node(1e4)).endswith("float64: node 'b' has condition number 1e+04, above 16")
    assert chosen(a=node(10), b=node(10, np.float64)).endswith("float64: the input is given in float64")


@pytest.mark.usefixtures("small_blocks")
def test_the_choice_falls_once_a_block_is_full_and_a_float64_batch_takes_it_back():
    x = node(10)
    moments = Moments(precision="auto")
    for start, stop in [(0, 400), (400, 999)]:
        moments.update({"a": x[start:stop]})
        assert moments.precision == "products in float64: a block of frames was never full"
    moments.update({"a": x[999:]})
    assert moments.precision == "products in float32: condition numbers are at most 10 (node 'a')"
    moments.update({"a": x})
    moments.update({"a": x[:300].astype(np.float64)})
    assert moments.precision == "products in float64: the input is given in float64"
    moments.update({"a": x})
    assert moments.precision == "products in float64: the input is given in float64"
    data = np.concatenate([x, x, x[:300], x]).astype(np.float64)
    assert moments.frames == len(data)
    np.testing.assert_allclose(moments.finalize().covariance("a", "a"), np.cov(data.T, bias=True), atol=2e-6)


@pytest.mark.usefixtures("small_blocks")
def test_a_choice_that_was_asked_for_is_kept():
    for precision in ("float32", "float64"):
        for dtype in (np.float32, np.float64):
            moments = Moments(precision=precision)
            moments.update({"a": node(1e6, dtype)})
            moments.update({"a": node(10, np.float64)})
            assert moments.precision == f"products in {precision}: asked for"


@pytest.mark.usefixtures("small_blocks")
def test_the_choice_is_saved_and_so_is_that_none_was_made(tmp_path):
    x = node(10)
    for frames in (500, 1000):
        moments = Moments()
        moments.update({"a": x[:frames]})
        moments.save(tmp_path / "sums")
        loaded = Moments.load(tmp_path / "sums")
        assert loaded.precision == moments.precision
        loaded.update({"a": x})
        assert "float32" in loaded.precision


@pytest.mark.usefixtures("small_blocks")
def test_what_is_chosen_stands_in_the_notes():
    x, y = related((10, 10), (64, 64), 3000)
    found = {precision: read_in(precision, x, y, 500) for precision in ("auto", "float64", "float32")}
    assert any(note.startswith("products in float32: condition numbers are") for note in found["auto"].remarks)
    assert not any("float32" in note for note in found["float64"].remarks)
    assert found["float32"].remarks[-1] == "products in float32: asked for"
    for measure in OF_SUMS:
        assert found["auto"].values[measure] != found["float64"].values[measure]
    assert found["auto"].values["cca"]["x", "y"] == pytest.approx(DIRECT["cca"](x, y), abs=1e-7)


def collinear(frames=5000):
    """Sixteen units of which eight are exact sums and differences of the others, and six that have nothing of them."""
    rng = np.random.default_rng(0)
    x = np.round(rng.normal(size=(frames, 8)) * 64) / 64
    x = np.hstack([x, x[:, :4] + x[:, 4:], x[:, ::2] - x[:, 1::2]])
    return {"x": x.astype(np.float32), "y": rng.normal(size=(frames, 6)).astype(np.float32)}


def rank_and_cca(moments):
    with pytest.warns(RankWarning, match="'x' varies in") as caught:
        found = similarities(moments, "cca")
    rank = int(re.search(r"'x' varies in (\d+) of 16", str(caught[0].message))[1])
    return rank, found.values["cca"]["x", "y"]


def test_collinear_units_stay_so_in_float32():
    data = collinear()
    moments = Moments(precision="float32")
    moments.update(data)
    rank, cca = rank_and_cca(moments)
    assert rank == 8
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RankWarning)
        assert cca == pytest.approx(similarity(data["x"][:, :8], data["y"], "cca"), abs=1e-6)


def test_sums_formed_in_float32_stay_so_where_they_are_merged():
    part, total = Moments(precision="float32"), Moments()
    part.update(collinear())
    total.merge(part)
    assert rank_and_cca(total)[0] == 8
    assert total.finalize().epsilon == part.finalize().epsilon


@pytest.mark.usefixtures("small_blocks")
def test_sums_formed_in_float32_stay_so_when_float64_batches_follow():
    x = node(10)
    moments = Moments()
    moments.update({"a": np.concatenate([x, x])})
    before = moments.finalize().epsilon
    assert before > 1e-8
    moments.update({"a": x[:10].astype(np.float64)})
    assert moments.finalize().epsilon == before


@pytest.mark.usefixtures("small_blocks")
def test_a_float64_batch_within_the_first_block_keeps_float64():
    x = node(10) + np.float32(1000)
    moments = Moments()
    moments.update({"a": x[:500].astype(np.float64)})
    moments.update({"a": np.concatenate([x[500:], x])})
    assert "float64" in moments.precision
    wanted = np.cov(np.concatenate([x, x]).astype(np.float64).T, bias=True)
    np.testing.assert_allclose(moments.finalize().covariance("a", "a"), wanted, atol=1e-7)
