"""Print figures of GradNAPs: what is drawn is what the table holds, on axes given or new, and holes say why."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.cluster.hierarchy
import xarray as xr
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from otoscope.base import BadInput
from otoscope.show.print_gradnap import (
    action_potentials,
    colour_limit,
    input_profiles,
    receptive_fields,
)
from otoscope.show.print_gradnap_layers import KINDS, controls, dendrograms, silhouettes_by_threshold
from otoscope.show.style import CATEGORIES, CROWD

LAYERS = ["input", "layer1", "layer2"]
RNG = np.random.default_rng(0)


def words(figure: Figure) -> list[str]:
    return [" ".join(text.get_text().split()) for ax in figure.axes for text in ax.texts]


def neurons(held: int = 0) -> xr.Dataset:
    values = 0.1 * RNG.standard_normal((2, 8, 11))
    values[0, 3], values[0, 6] = 2, -3
    r = np.sign(values.sum(2)) * np.abs(values).sum(2)
    return xr.Dataset(
        {
            "profile": (("group", "unit", "frame"), values),
            "responsiveness": (("group", "unit"), r),
            "optimal": (("preset", "group", "mel", "input_frame"), RNG.standard_normal((2, 2, 128, 9))),
            "held": (("preset", "group"), [[held, held], [0, 0]]),
        },
        coords={
            "group": ["phone:AE", "phone:T"],
            "unit": np.arange(8) + 10,
            "time": ("frame", 0.02 * np.arange(-5, 6)),
            "preset": ["krug2020", "recommended"],
            "input_time": ("input_frame", 0.01 * np.arange(-4, 5)),
            "frequency": ("mel", np.linspace(20, 7900, 128)),
            "instances": ("group", [41, 0]),
            "hole": ("group", ["", "it does not occur in this speech"]),
        },
        attrs={"layer": "layer2", "most": 5},
    )


def test_the_most_responsive_units_are_in_colour_and_all_others_grey():
    table = neurons()
    figure = action_potentials(table)
    lines = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 11]
    assert len(lines) == 8
    coloured = {
        line.get_label().partition(":")[0]: line for line in lines if to_hex(line.get_color()) != CROWD["light"]
    }
    assert len(coloured) == 5
    assert to_hex(coloured["16"].get_color()) == CATEGORIES[0]
    np.testing.assert_array_equal(coloured["16"].get_ydata(), table["profile"].values[0, 6])
    assert "r = \u221233" in coloured["16"].get_label()
    np.testing.assert_allclose(coloured["13"].get_xdata(), 20 * np.arange(-5, 6))
    maps = [ax for ax in figure.axes if ax.images]
    np.testing.assert_array_equal(maps[0].images[0].get_array(), table["optimal"].values[0, 0])
    assert "/AE/ 41 frames" in figure.get_label()
    assert words(figure) == ["missing: it does not occur in this speech"] * 3


def test_each_optimal_input_is_that_of_its_group_and_preset():
    table = neurons().assign_coords(hole=("group", ["", ""]))
    maps = [ax.images[0] for ax in action_potentials(table).axes if ax.images and ax.get_label() != "<colorbar>"]
    assert len(maps) == 4
    for drawn, (group, preset) in zip(maps, np.ndindex(2, 2), strict=True):
        np.testing.assert_array_equal(drawn.get_array(), table["optimal"].values[preset, group])
        np.testing.assert_allclose(drawn.get_extent()[:2], [-45, 45])


def test_input_profiles_lie_where_their_axes_say():
    """NAvAI above GradNAP, low frequencies below, red for louder, times in ms from the middle of the alignment."""
    values = RNG.standard_normal((2, 2, 128, 5))
    hertz = np.linspace(20, 7900, 128)
    table = xr.Dataset(
        {"profile": (("reading", "group", "mel", "frame"), values)},
        coords={
            "reading": ["NAvAI", "GradNAP"],
            "group": ["phone:AE", "symbol:t"],
            "frequency": ("mel", hertz),
            "time": ("frame", 0.02 * np.arange(-2, 3)),
            "instances": ("group", [41, 7]),
            "hole": ("group", ["", ""]),
        },
    )
    figure = input_profiles(table)
    panels = [ax for ax in figure.axes if ax.images and ax.get_label() != "<colorbar>"]
    for ax, (reading, group) in zip(panels, np.ndindex(2, 2), strict=True):
        (drawn,) = ax.images
        np.testing.assert_array_equal(drawn.get_array(), values[reading, group])
        assert drawn.origin == "lower"
        np.testing.assert_allclose(drawn.get_extent(), [-50, 50, -0.5, 127.5])
        low, high = drawn.get_clim()
        assert low == -high < 0
        red, _, blue, _ = drawn.cmap(1.0)
        assert red > blue
    for ax in panels[::2]:
        (row,) = [y for y, text in zip(ax.get_yticks(), ax.get_yticklabels(), strict=True) if text.get_text() == "1k"]
        assert np.interp(row, np.arange(128), hertz) == pytest.approx(1000, abs=40)
    assert [ax.get_title() for ax in panels[:2]] == ["/AE/", "⟨t⟩"]
    assert [ax.get_ylabel().split()[0] for ax in panels[::2]] == ["NAvAI", "GradNAP"]
    assert "/AE/ 41 frames, ⟨t⟩ 7 frames" in figure.get_label()


def test_an_optimal_input_that_stays_at_zero_is_not_drawn_as_noise():
    texts = words(action_potentials(neurons(held=1)))
    assert texts.count("stays at 0: the penalty outweighs every gradient") == 1


def test_fields_are_drawn_on_the_axes_given():
    table = xr.Dataset(
        {
            "nominal_s": ("layer", [1.9, 0.7, 0.0]),
            "effective_s": ("layer", [0.9, 0.3, 0.0]),
            "median_s": ("layer", [0.4, 0.2, 0.0]),
            "group_s": (("layer", "group"), RNG.random((3, 4))),
        },
        coords={"layer": LAYERS, "group": list("abcd")},
        attrs={"mass": 0.95, "groups": 4, "instances": 1234},
    )
    mine = Figure()
    left, right = mine.subplots(1, 2)
    assert receptive_fields(table, ax=right) is mine
    assert not left.lines
    drawn = {line.get_label(): line.get_ydata() for line in right.lines if not line.get_label().startswith("_")}
    np.testing.assert_allclose(drawn["nominal"], [1900, 700, 0])
    np.testing.assert_allclose(drawn["median group"], [400, 200, 0])
    np.testing.assert_allclose(drawn["group that needs most"], [900, 300, 0])
    assert "that hold 95 %" in mine.get_label()
    assert "1,234 frames" in mine.get_label()


def silhouettes() -> xr.Dataset:
    values = RNG.random((2, 3, 5))
    return xr.Dataset(
        {
            "silhouette": (("grouping", "layer", "percentile"), values),
            "silhouette_mean": (("grouping", "layer"), values.mean(2)),
        },
        coords={"grouping": ["symbol", "phone"], "layer": LAYERS, "percentile": [75, 80, 85, 90, 95]},
        attrs={"symbol_groups": 20, "phone_groups": 38, "instances": 999},
    )


def test_silhouettes_are_drawn_by_threshold_and_as_means():
    table = silhouettes()
    mean = table["silhouette_mean"]
    ends = {
        "interval": xr.Dataset({"low": mean - 0.1, "high": mean + 0.2}),
        "shuffled labels": xr.Dataset({"low": mean - 1, "high": mean - 0.5}),
        "random weights": xr.Dataset({"low": mean - 3, "high": mean - 1}),
    }
    figure = silhouettes_by_threshold(table, ends)
    for ax, kind in zip(figure.axes, ("symbol", "phone"), strict=False):
        assert [line.get_label() for line in ax.lines] == ["75 %", "80 %", "85 %", "90 %", "95 %"]
        for place, line in enumerate(ax.lines):
            np.testing.assert_array_equal(line.get_ydata(), table["silhouette"].sel(grouping=kind).values[:, place])
    lines = figure.axes[2].lines
    drawn = [line.get_ydata() for line in lines]
    for place, kind in enumerate(("symbol", "phone")):
        own = mean.sel(grouping=kind)
        np.testing.assert_allclose(drawn[3 * place : 3 * place + 3], [own - 0.75, own - 2, own])
        shade = {(x, round(y, 6)) for x, y in figure.axes[2].collections[place].get_paths()[0].vertices}
        assert {(at, round(float(own[at]) + reach, 6)) for at in range(3) for reach in (-0.1, 0.2)} <= shade
    # Legends lie over nothing, and nothing lies over them.
    figure.draw_without_rendering()
    for ax in figure.axes:
        legend, title = (part.get_window_extent() for part in (ax.get_legend(), ax.title))
        assert ax.get_window_extent().y1 <= legend.y0 < legend.y1 <= title.y0 < title.y1 <= figure.bbox.y1
    # The legend's dashes are those of the lines; matplotlib tells them nowhere else.
    legend = figure.axes[2].get_legend()
    dashes = {
        text.get_text(): line._unscaled_dash_pattern
        for text, line in zip(legend.get_texts(), legend.get_lines(), strict=True)
    }
    assert lines[0]._unscaled_dash_pattern == dashes["shuffled labels"]
    assert lines[1]._unscaled_dash_pattern == dashes["random weights"]
    assert "20 graphemes, 38 phones, 999 frames" in figure.get_label()
    with pytest.raises(BadInput, match="axes"):
        silhouettes_by_threshold(table, {}, axes=figure.axes[:2])


def test_leaves_are_coloured_by_manner_and_a_missing_tree_is_a_hole():
    # The leaves of the tree stand in another order than the table has them: T beside D, AE beside M.
    points = np.array([[0.0], [5.0], [0.1], [5.2]])
    linkage = scipy.cluster.hierarchy.linkage(points, "complete")
    table = xr.Dataset(
        {
            "linkage": (("layer", "merge", "link"), [linkage * [1, 1, 7, 1], linkage]),
            "threshold": (("layer", "percentile"), [[7.0, 8.0], [1.0, 3.0]]),
        },
        coords={
            "layer": ["layer1", "layer2"],
            "group": ["phone:T", "phone:AE", "phone:D", "phone:M"],
            "kind": ("group", ["stop", "vowel", "stop", "nasal"]),
        },
    )
    figure = dendrograms([(table, "layer2", "phones"), (xr.Dataset(), "", "graphemes: none")])
    colours = {text.get_text(): to_hex(text.get_color()) for text in figure.axes[0].texts}
    assert colours["T"] == colours["D"] == CATEGORIES[KINDS.index("stop")]
    assert colours["AE"] == CATEGORIES[KINDS.index("vowel")] != colours["M"]
    order = [text.get_text() for text in sorted(figure.axes[0].texts, key=lambda text: text.get_position()[0])]
    assert {frozenset(order[:2]), frozenset(order[2:])} == {frozenset("TD"), frozenset(("AE", "M"))}
    # The line is the first of the cuts, the 75th percentile; the tree is as high as its last merge, 5.2.
    (cut,) = [line for line in figure.axes[0].lines if line.get_linestyle() == "--"]
    assert set(cut.get_ydata()) == {1.0}
    assert figure.axes[0].get_ylim()[1] == pytest.approx(1.03 * 5.2)
    letters = table.assign_coords(group=["symbol:a", "symbol: ", "symbol:b", "symbol:c"], kind=("group", [""] * 4))
    names = [text.get_text() for text in dendrograms([(letters, "layer2", "graphemes")]).axes[0].texts]
    assert sorted(names) == ["a", "b", "c", "\u2423"]
    assert words(figure)[-1] == "missing: graphemes: none"
    assert "4 phones" in figure.get_label()


def test_controls_stand_beside_the_network():
    measures = xr.Dataset(
        {
            "decay": (("reading", "layer", "distance"), RNG.random((2, 3, 4))),
            "peak_s": (("reading", "layer", "grouping"), RNG.random((2, 3, 2))),
            "field_s": ("layer", [1.0, 0.5, 0.0]),
            "purity": ("layer", [0.4, 0.5, 0.9]),
            "purity_chance": ("layer", [0.3, 0.3, 0.3]),
        },
        coords={
            "reading": ["NAvAI", "GradNAP"], "layer": LAYERS, "grouping": ["symbol", "phone"],
            "distance": [0, 0.04, 0.08, 0.12],
        },
        attrs={"instances": 77},
    )  # fmt: skip
    figure = controls(measures, {"random weights": measures - 0.1})
    drawn = {line.get_label(): line.get_ydata() for line in figure.axes[2].lines}
    np.testing.assert_allclose(drawn["network"], [0.4, 0.5, 0.9])
    np.testing.assert_allclose(drawn["random weights"], [0.3, 0.4, 0.8])
    np.testing.assert_allclose(drawn["chance"], [0.3, 0.3, 0.3])
    for line, layer in zip(figure.axes[0].lines, LAYERS, strict=True):
        np.testing.assert_allclose(line.get_xdata(), [0, 40, 80, 120])
        np.testing.assert_allclose(line.get_ydata(), measures["decay"].sel(reading="GradNAP", layer=layer))
    peaks = {line.get_label(): line.get_ydata() for line in figure.axes[1].lines}
    np.testing.assert_allclose(peaks["half the nominal field"], [1000, 500, 0])
    np.testing.assert_allclose(peaks["network"], 1000 * measures["peak_s"].sel(reading="GradNAP", grouping="phone"))
    without = controls(measures.drop_vars(["purity", "purity_chance"]), {})
    assert words(without) == ["missing: too few phones have a profile"]


def test_an_empty_table_is_refused():
    with pytest.raises(BadInput):
        input_profiles(xr.Dataset())


def test_a_few_extreme_values_do_not_set_the_colours():
    values = np.full(1000, 0.5)
    values[0] = 100
    assert colour_limit(values) == 0.5
    assert colour_limit(np.array([np.nan, 0.0])) == 1
    # Of 0, 1, … 1000 a share of 0.005 lies beyond 995; the zero is no value to colour.
    assert colour_limit(-np.arange(1001.0)) == 1000
    assert colour_limit(np.arange(101.0)) == 100
