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
    ends = {
        "shuffled labels": xr.Dataset({"low": table["silhouette_mean"] - 1, "high": table["silhouette_mean"] - 0.5})
    }
    figure = silhouettes_by_threshold(table, ends)
    for ax, kind in zip(figure.axes, ("symbol", "phone"), strict=False):
        assert [line.get_label() for line in ax.lines] == ["75 %", "80 %", "85 %", "90 %", "95 %"]
        for place, line in enumerate(ax.lines):
            np.testing.assert_array_equal(line.get_ydata(), table["silhouette"].sel(grouping=kind).values[:, place])
    drawn = [line.get_ydata() for line in figure.axes[2].lines]
    np.testing.assert_allclose(drawn[1], table["silhouette_mean"].sel(grouping="symbol"))
    np.testing.assert_allclose(drawn[2], table["silhouette_mean"].sel(grouping="phone") - 0.75)
    assert "20 graphemes, 38 phones, 999 frames" in figure.get_label()
    with pytest.raises(BadInput, match="axes"):
        silhouettes_by_threshold(table, {}, axes=figure.axes[:2])


def test_leaves_are_coloured_by_manner_and_a_missing_tree_is_a_hole():
    points = np.array([[0.0], [0.1], [5.0], [5.2]])
    linkage = scipy.cluster.hierarchy.linkage(points, "complete")
    table = xr.Dataset(
        {"linkage": (("layer", "merge", "link"), linkage[None]), "threshold": (("layer", "percentile"), [[1.0]])},
        coords={
            "layer": ["layer2"],
            "group": ["phone:T", "phone:D", "phone:AE", "phone:M"],
            "kind": ("group", ["stop", "stop", "vowel", "nasal"]),
        },
    )
    figure = dendrograms([(table, "layer2", "phones"), (xr.Dataset(), "", "graphemes: none")])
    colours = {text.get_text(): to_hex(text.get_color()) for text in figure.axes[0].texts}
    assert colours["T"] == colours["D"] == CATEGORIES[KINDS.index("stop")]
    assert colours["AE"] == CATEGORIES[KINDS.index("vowel")] != colours["M"]
    assert words(figure)[-1] == "missing: graphemes: none"
    assert "4 phones" in figure.get_label()


def test_controls_stand_beside_the_network():
    measures = xr.Dataset(
        {
            "decay": (("reading", "layer", "distance"), RNG.random((1, 3, 4))),
            "peak_s": (("reading", "layer", "grouping"), RNG.random((1, 3, 2))),
            "field_s": ("layer", [1.0, 0.5, 0.0]),
            "purity": ("layer", [0.4, 0.5, 0.9]),
            "purity_chance": ("layer", [0.3, 0.3, 0.3]),
        },
        coords={
            "reading": ["GradNAP"], "layer": LAYERS, "grouping": ["symbol", "phone"], "distance": [0, 0.04, 0.08, 0.12]
        },
        attrs={"instances": 77},
    )  # fmt: skip
    figure = controls(measures, {"random weights": measures - 0.1})
    drawn = {line.get_label(): line.get_ydata() for line in figure.axes[2].lines}
    np.testing.assert_allclose(drawn["network"], [0.4, 0.5, 0.9])
    np.testing.assert_allclose(drawn["random weights"], [0.3, 0.4, 0.8])
    peaks = {line.get_label(): line.get_ydata() for line in figure.axes[1].lines}
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
