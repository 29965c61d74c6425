"""Figures of the Insights paper for print: lines have the table's values, holes are hatched and named."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

pytest.importorskip("matplotlib", reason="figures for papers need the extra `print`")

from otoscope.show.print_insights import (
    four_panels,
    layer_handles,
    neighbouring_layers,
    over_seeds,
    through_training,
    wer_by_depth,
)
from otoscope.show.style import depth_colours


def drawn(figure):
    (ax,) = figure.axes
    return ax


def curves() -> xr.DataArray:
    values = np.array([[[0.2, 0.6, 1.0], [0.1, 0.5, 1.0]], [[0.4, 0.8, 1.0], [0.3, np.nan, 1.0]]])
    coords = {"seed": [0, 1], "layer": ["conv1", "lstm1"], "epoch": [0, 1, 2]}
    return xr.DataArray(values, dims=("seed", "layer", "epoch"), coords=coords)


def test_curves_are_means_over_seeds_and_shades_their_range() -> None:
    ax = drawn(through_training(curves()))
    lines = {line.get_label(): line for line in ax.lines}
    np.testing.assert_allclose(lines["conv1"].get_ydata(), [0.3, 0.7, 1.0])
    # One seed is missing at one epoch: the mean is of the other.
    np.testing.assert_allclose(lines["lstm1"].get_ydata(), [0.2, 0.5, 1.0])
    assert [lines[name].get_color() for name in ("conv1", "lstm1")] == depth_colours(2)
    corners = ax.collections[0].get_paths()[0].vertices
    assert {(0.0, 0.2), (0.0, 0.4), (1.0, 0.6), (1.0, 0.8)} <= {tuple(np.round(row, 6)) for row in corners}
    assert ax.get_ylim()[0] < 0.2
    # Converged is what stays within 0.05 of its end.
    assert [list(line.get_ydata()) for line in ax.lines if line.get_linestyle() == ":"] == [[0.95, 0.95]]


def test_an_epoch_without_any_value_is_hatched() -> None:
    found = curves()
    assert not drawn(through_training(found)).patches
    found = found.copy()
    found[:, :, 1] = np.nan
    (patch,) = drawn(through_training(found)).patches
    assert patch.get_hatch() == "////"
    assert patch.get_x() == 0.5
    assert patch.get_width() == 1
    # The last epoch has no next one: nothing is missing there.
    ends = curves().copy()
    ends[:, :, 2] = np.nan
    assert not drawn(through_training(ends)).patches


def test_word_errors_stand_where_the_table_says_and_gaps_are_named() -> None:
    bound = [[[8.0, 12.0], [28.0, 32.0]], [[18.0, 22.0], [38.0, 42.0]]]
    none = [np.nan, np.nan]
    table = xr.Dataset(
        {
            "wer": (("network", "condition"), [[10.0, 30.0], [20.0, 40.0]]),
            "over_utterances": (("network", "condition", "bound"), bound),
            "over_seeds": (("network", "condition", "bound"), [[[-1.0, 21.0], none], [none, none]]),
            "by_seed": (("network", "condition", "seed"), [[[9, 11], [29, 31]], [[20, np.nan], [40, np.nan]]]),
        },
        coords={
            "network": ["conv-lstm-1", "conv-lstm-3"],
            "condition": ["clean", "noisy"],
            "seed": [0, 1],
            "bound": ["low", "high"],
        },
    )
    names = [f"conv-lstm-{n}" for n in (1, 2, 3)]
    ax = drawn(wer_by_depth(table, names))
    points = {line.get_label(): line for line in ax.lines}
    np.testing.assert_allclose(points["clean"].get_ydata(), [10, 20])
    np.testing.assert_allclose(points["noisy"].get_ydata(), [30, 40])
    np.testing.assert_allclose(points["clean"].get_xdata(), np.array([0, 2]) - 0.16)
    of_seeds = [line for line in ax.lines if line.get_markersize() < 2]
    np.testing.assert_allclose([line.get_ydata()[0] for line in of_seeds], [9, 11, 29, 31])
    np.testing.assert_allclose([line.get_ydata()[1] for line in of_seeds], [20, np.nan, 40, np.nan])
    bars = [[tuple(end[1] for end in segment) for segment in each.get_segments()] for each in ax.collections]
    # Errors are not below nothing; of one seed there is no interval.
    assert bars == [[(0.0, 21.0)], [(8.0, 12.0), (18.0, 22.0)], [], [(28.0, 32.0), (38.0, 42.0)]]
    thin, thick = (each.get_linewidth()[0] for each in ax.collections[:2])
    assert thin < thick
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["1", "2", "3"]
    (hatched,) = [patch for patch in ax.patches if patch.get_hatch()]
    assert hatched.get_x() == pytest.approx(0.6)
    assert "not trained" in [text.get_text() for text in ax.texts]


def test_neighbours_have_the_values_of_the_table_and_their_controls() -> None:
    values = np.full((2, 2, 2, 2), np.nan)
    values[0, :, :, 0] = [[0.1, 0.5], [0.2, 0.7]]
    values[1] = [[[0.2, 0.3], [0.8, 0.9]], [[0.4, 0.5], [0.6, 0.9]]]
    coords = {
        "network": ["conv-lstm-2", "conv-lstm-3"],
        "seed": [0, 1],
        "stage": ["untrained", "trained"],
        "step": [1, 2],
    }
    found = xr.DataArray(values, dims=("network", "seed", "stage", "step"), coords=coords)
    ax = drawn(neighbouring_layers(found, found * 0.1))
    lines = [line.get_ydata() for line in ax.lines]
    np.testing.assert_allclose(lines[0], [0.6, np.nan])
    np.testing.assert_allclose(lines[1], [0.15, np.nan])
    np.testing.assert_allclose(lines[2], [0.06, np.nan])
    np.testing.assert_allclose(lines[3], [0.7, 0.9])
    np.testing.assert_allclose(lines[4], [0.3, 0.4])
    # Shades from the lowest to the highest seed of each network.
    shades = [{round(y, 6) for _, y in shade.get_paths()[0].vertices} for shade in ax.collections]
    assert shades[1] == {0.6, 0.8, 0.9}
    assert {0.5, 0.7} <= shades[0]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["1–2", "2–3"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["2", "3"]


def test_each_panel_is_headed_by_its_own_measure_and_reading() -> None:
    _, panels = four_panels("", [], "")
    assert {key: ax.get_title(loc="left") for key, ax in panels.items()} == {
        ("paper", "svcca"): "SVCCA, as the paper does",
        ("recommended", "svcca"): "SVCCA, recommended",
        ("paper", "cka"): "CKA, as the paper does",
        ("recommended", "cka"): "CKA, recommended",
    }


def test_the_legend_has_a_line_for_each_layer() -> None:
    assert [handle.get_label() for handle in layer_handles(["a", "b"])] == ["a", "b"]


def test_over_seeds_leaves_out_what_is_missing() -> None:
    mean, low, high = over_seeds(np.array([[1.0, np.nan, 3.0], [2.0, np.nan, np.nan]]))
    np.testing.assert_allclose(mean, [1.5, np.nan, 3])
    np.testing.assert_allclose(low, [1, np.nan, 3])
    np.testing.assert_allclose(high, [2, np.nan, 3])


def test_a_network_of_two_convolutions_shows_its_untrained_twin() -> None:
    """It has a single point, which a dashed line without marks does not draw."""
    coords = {"network": ["conv-lstm-2"], "seed": [0], "stage": ["untrained", "trained"], "step": [1]}
    found = xr.DataArray([[[[0.3], [0.8]]]], dims=("network", "seed", "stage", "step"), coords=coords)
    dashed = [line for line in drawn(neighbouring_layers(found)).lines if line.get_linestyle() == "--"]
    assert [line.get_ydata().tolist() for line in dashed] == [[0.3]]
    assert dashed[0].get_marker() not in ("None", "", None)
