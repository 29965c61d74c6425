"""Figures of controls: the right numbers, their N, what chance gives beside them."""

from __future__ import annotations

import re

import numpy as np
import pytest
import xarray as xr

from otoscope.base import BadInput, BadOption
from otoscope.show.figures_controls import (
    cascading_randomisation,
    fields_by_layer,
    purity_by_layer,
    responsiveness_and_chance,
    silhouettes_and_chance,
    split_half_by_layer,
)
from otoscope.show.style import BACKGROUND, CATEGORIES

LAYERS = ["input", "conv1", "conv2", "logits"]
DRAWN = ["", "logits", "conv2", "conv1"]
MEASURES, TABLES, KINDS = ["pearson", "spearman"], ["profile", "mask", "contrast"], ["symbol", "phone"]
COUNTS = {"instances": 12345, "utterances": 60}


def made_up_cascade() -> xr.Dataset:
    rng = np.random.default_rng(0)
    dims = ("measure", "table", "step", "layer", "grouping")
    shape = (2, 3, 4, 4, 2)
    level = rng.uniform(0, 0.1, shape)
    return xr.Dataset(
        {
            "likeness_mean": (dims, rng.random(shape)),
            "shuffled": (dims, level),
            "shuffled_interval": ((*dims, "bound"), np.stack([level - 0.02, level + 0.03], -1)),
            "above": ("layer", [3, 2, 1, 0]),
        },
        coords={"measure": MEASURES, "table": TABLES, "layer": LAYERS, "grouping": KINDS, "step": range(4)}
        | {"randomised": ("step", DRAWN), "bound": ["low", "high"]},
        attrs={**COUNTS, "level": 0.95},
    )


def made_up_halves() -> xr.Dataset:
    values = np.random.default_rng(1).random((3, 4, 7))
    values[:, :, 2] = np.nan
    groups = [*(f"symbol:{label}" for label in "abc"), *(f"phone:{label}" for label in ("AA", "IY", "S", "T"))]
    coords = {"table": TABLES, "layer": LAYERS, "group": groups}
    data = {"reliability": (("table", "layer", "group"), values)}
    return xr.Dataset(data, coords=coords, attrs={**COUNTS, "splits": 3})


def made_up_purity() -> xr.Dataset:
    columns = {
        "purity_mean": [0.4, 0.5, 0.8, 0.9],
        "purity_mean_null": [0.3, 0.35, 0.4, 0.45],
        "purity_mean_high": [0.45, 0.5, 0.5, 0.6],
        "purity_mean_p": [0.2, 0.05, 0.01, 0.001],
    }
    attrs = {"groups": 39, "classes": 7, "permutations": 1000}
    coords = {"layer": LAYERS, "percentile": [75, 80, 85, 90, 95]}
    return xr.Dataset({name: ("layer", values) for name, values in columns.items()}, coords=coords, attrs=attrs)


def made_up_fields() -> xr.Dataset:
    groups = np.array([[0.21, 0.25, 0.41], [0.1, 0.1, 0.14], [0.06, 0.02, 0.02], [0.02, 0.02, 0.02]])
    columns = {"nominal_s": [0.51, 0.42, 0.22, 0.02], "effective_s": groups.max(1), "median_s": np.median(groups, 1)}
    return xr.Dataset(
        {name: ("layer", values) for name, values in columns.items()} | {"group_s": (("layer", "group"), groups)},
        coords={"layer": LAYERS, "group": ["phone:AA", "phone:S", "symbol: "]},
        attrs={**COUNTS, "mass": 0.95, "share": 0.9, "groups": 3},
    )


def made_up_silhouettes() -> xr.Dataset:
    rng = np.random.default_rng(2)
    random = rng.random((5, 2, 4))
    random[0, 0, 1] = np.nan
    random[:, 1, 3] = np.nan
    return xr.Dataset(
        {
            "silhouette_mean": (("grouping", "layer"), rng.random((2, 4))),
            "random": (("draw", "grouping", "layer"), random),
        },
        coords={"layer": LAYERS, "grouping": KINDS},
        attrs=COUNTS,
    )


def made_up_shuffled(permutations: int = 40) -> xr.Dataset:
    """Four phones and three symbols, of which /S/ never occurs; ever stronger with depth, but /IY/, which is chance."""
    rng = np.random.default_rng(3)
    groups = [*(f"symbol:{label}" for label in "ab "), *(f"phone:{label}" for label in ("AA", "IY", "S", "T"))]
    usual = rng.uniform(0.5, 2, (4, 7))
    null = usual * rng.lognormal(0, 0.15, (permutations, 4, 7))
    found = null.mean(0) * np.array([1.3, 2, 4, 8])[:, None] * rng.uniform(0.9, 1.1, (4, 7))
    found[:, 4] = null[0, :, 4]
    found[:, 5], null[:, :, 5] = np.nan, np.nan
    dims = ("layer", "group")
    p = (1 + (null >= found).sum(0)) / (permutations + 1)
    p[:, 5] = np.nan
    return xr.Dataset(
        {"responsiveness": (dims, found), "null": (("permutation", *dims), null), "p": (dims, p)},
        coords={"layer": LAYERS, "group": groups},
        attrs=COUNTS,
    )


def lines(figure):
    return {trace.name: trace for trace in figure.data if trace.mode == "lines+markers"}


def bands(figure):
    return [trace for trace in figure.data if trace.fill == "toself"]


def dotted(figure):
    (line,) = [trace for trace in figure.data if trace.line.dash == "dot"]
    assert line.showlegend
    return line


def subtitle(figure):
    return figure.layout.title.subtitle.text.replace("<br>", " ")


def test_every_figure_says_n_and_its_units() -> None:
    every = {
        "N = 12,345 instances, mean over the groups by symbol; bands: 95\u00a0% interval with units and groups "
        "shuffled; stars: all above the layer is random": cascading_randomisation(made_up_cascade()),
        "N = 12,345 instances of 60 utterances; mean of 3 splits; lines: median group; bands: middle half of the "
        "groups": split_half_by_layer(made_up_halves()),
        "N = 39 groups of 7 classes; band: mean to 95 % quantile of 1,000 permutations; filled: p < 0.05": (
            purity_by_layer({"manner": made_up_purity()})
        ),
        "N = 12,345 instances in 3 groups; effective: holds 95 % of a profile; dots: single groups": (
            fields_by_layer(made_up_fields()),
        ),
        "N = 12,345 instances; band: lowest to highest of 5 networks with random weights, dotted: their mean": (
            silhouettes_and_chance(made_up_silhouettes())
        ),
        "N = 12,345 instances in 3 groups; band: 90\u00a0% of 40 shufflings of the labels; dots: single groups, filled "
        "where p < 0.05": responsiveness_and_chance(made_up_shuffled()),
    }
    for wanted, panels in every.items():
        for panel in panels:
            assert subtitle(panel) == wanted
            for axis in (panel.layout.xaxis, panel.layout.yaxis):
                assert re.search(r"\(.+\)$", axis.title.text), axis.title.text


def test_the_cascade_has_a_line_and_a_band_per_layer() -> None:
    table = made_up_cascade()
    panels = cascading_randomisation(table, "phone", measure="spearman", tables=TABLES)
    assert [panel.layout.title.text.split(" while")[0] for panel in panels] == [
        "Profiles",
        "Gradient masks",
        "Unmasked profiles",
    ]
    for panel, name in zip(panels, TABLES, strict=True):
        here = {"measure": "spearman", "grouping": "phone", "table": name}
        assert list(lines(panel)) == LAYERS
        for number, (layer, line) in enumerate(lines(panel).items()):
            np.testing.assert_array_equal(line.y, table["likeness_mean"].sel({**here, "layer": layer}))
            np.testing.assert_array_equal(line.customdata, table["shuffled"].sel({**here, "layer": layer}))
            assert list(line.x) == ["none", "logits", "+ conv2", "+ conv1"]
            # The star stands where all above the layer is random; nothing is above the output.
            assert [symbol == "star" for symbol in line.marker.symbol] == [
                3 - number == step and number < 3 for step in range(4)
            ]
            area = bands(panel)[number]
            assert area.fillcolor == line.line.color
            ends = table["shuffled_interval"].sel({**here, "layer": layer})
            np.testing.assert_array_equal(area.y[:4], ends.sel(bound="low"))
            np.testing.assert_array_equal(area.y[7:3:-1], ends.sel(bound="high"))
    assert not bands(cascading_randomisation(table.drop_vars("shuffled_interval"))[0])


def test_split_halves_show_the_median_group_and_the_middle_half() -> None:
    table = made_up_halves()
    for panel, name in zip(split_half_by_layer(table), ("profile", "mask"), strict=True):
        # A group without a value counts nowhere.
        assert list(lines(panel)) == ["symbol (2 groups)", "phone (4 groups)"]
        for (label, line), area in zip(lines(panel).items(), bands(panel), strict=True):
            kind = label.split()[0]
            mine = [group for group in table["group"].values if group.startswith(kind)]
            values = table["reliability"].sel(table=name, group=mine)
            np.testing.assert_allclose(line.y, values.median("group"))
            np.testing.assert_allclose(area.y[:4], values.quantile(0.25, "group"))
            np.testing.assert_allclose(area.y[7:3:-1], values.quantile(0.75, "group"))


def test_purity_fills_what_passes() -> None:
    table = made_up_purity()
    first, second = purity_by_layer({"manner": table, "place": table})
    assert [panel.layout.title.text.split()[-1] for panel in (first, second)] == ["manner", "place"]
    line = lines(first)["clusters"]
    np.testing.assert_array_equal(line.y, table["purity_mean"])
    assert list(line.marker.color) == [BACKGROUND["light"]] * 2 + [CATEGORIES[0]] * 2
    (area,) = bands(first)
    np.testing.assert_array_equal(area.y[:4], table["purity_mean_null"])
    np.testing.assert_array_equal(area.y[7:3:-1], table["purity_mean_high"])
    np.testing.assert_array_equal(dotted(first).y, table["purity_mean_null"])
    assert first.layout.yaxis.title.text.startswith("purity, mean of 5 thresholds")


def test_fields_are_in_milliseconds() -> None:
    table = made_up_fields()
    figure = fields_by_layer(table)
    found = lines(figure)
    assert list(found) == ["nominal", "effective, 90 % of groups", "effective, median"]
    for line, name in zip(found.values(), ("nominal_s", "effective_s", "median_s"), strict=True):
        np.testing.assert_allclose(line.y, 1000 * table[name])
    dots = [trace for trace in figure.data if trace.mode == "markers"]
    np.testing.assert_allclose([trace.y for trace in dots], 1000 * table["group_s"])
    assert list(dots[0].text) == ["/AA/", "/S/", "⟨space⟩"]
    assert "effective, all groups" in lines(fields_by_layer(table.assign_attrs(share=1.0)))


def test_silhouettes_stand_against_random_weights() -> None:
    table = made_up_silhouettes()
    for panel, kind in zip(silhouettes_and_chance(table), KINDS, strict=True):
        np.testing.assert_array_equal(lines(panel)["the network"].y, table["silhouette_mean"].sel(grouping=kind))
        (area,) = bands(panel)
        there = table["random"].sel(grouping=kind).dropna("layer", how="all")
        size = there.sizes["layer"]
        np.testing.assert_array_equal(area.y[:size], there.min("draw"))
        np.testing.assert_array_equal(area.y[2 * size - 1 : size - 1 : -1], there.max("draw"))
        np.testing.assert_array_equal(dotted(panel).y, table["random"].sel(grouping=kind).mean("draw"))
        # Groupings are compared with each other: one scale, with room for all there is.
        low, high = panel.layout.yaxis.range
        assert (low, high) == silhouettes_and_chance(table)[0].layout.yaxis.range
        every = [table[name] for name in ("silhouette_mean", "random")]
        assert low < min(float(values.min()) for values in every) < max(float(values.max()) for values in every) < high
    (panel, _) = silhouettes_and_chance(table.assign_coords(groups=("grouping", [26, 1])))
    assert subtitle(panel).startswith("N = 12,345 instances in 26 groups; band")


def test_responsiveness_stands_against_shuffled_labels() -> None:
    table = made_up_shuffled()
    panels = responsiveness_and_chance(table)
    assert [panel.layout.title.text.rpartition(" ")[2] for panel in panels] == KINDS
    ratio, chance = (table[name] / table["null"].mean("permutation") for name in ("responsiveness", "null"))
    for panel, kind in zip(panels, KINDS, strict=True):
        mine = [g for g in table["group"].values if g.startswith(kind) and g != "phone:S"]
        (dots,) = [trace for trace in panel.data if trace.mode == "markers"]
        np.testing.assert_allclose(dots.y, ratio.sel(group=mine).values.ravel())
        p = table["p"].sel(group=mine).values.ravel()
        np.testing.assert_array_equal(dots.customdata, p)
        assert list(dots.marker.color) == [CATEGORIES[0] if value < 0.05 else BACKGROUND["light"] for value in p]
        # Each dot stands at its layer, a little to the side.
        np.testing.assert_array_equal(np.rint(dots.x), np.repeat(range(4), 3))
        assert len(set(dots.x)) == 12
        np.testing.assert_allclose(lines(panel)["median group"].y, ratio.sel(group=mine).median("group"))
        (area,) = bands(panel)
        here = chance.sel(group=mine).stack(all=("permutation", "group"))
        np.testing.assert_allclose(area.y[:4], here.quantile(0.05, "all"))
        np.testing.assert_allclose(area.y[7:3:-1], here.quantile(0.95, "all"))
        np.testing.assert_array_equal(dotted(panel).y, 1)
        assert panel.layout.yaxis.type == "log"
        low, high = (10**end for end in panel.layout.yaxis.range)
        assert low < min(area.y[:4]) < float(ratio.max()) < high
    assert next(t for t in panels[0].data if t.mode == "markers").text[-1] == "⟨space⟩, logits"


def test_a_layer_that_answers_to_nothing_has_no_dots() -> None:
    table = made_up_shuffled()
    for name in ("responsiveness", "null"):
        table[name].loc[{"layer": "conv1"}] = 0
    for panel in responsiveness_and_chance(table):
        (dots,) = [trace for trace in panel.data if trace.mode == "markers"]
        assert set(np.rint(dots.x)) == {0, 2, 3}
        assert np.isfinite(np.log(dots.y)).all()
        assert np.isnan(lines(panel)["median group"].y[1])
    with pytest.raises(BadInput, match="0 or NaN everywhere"):
        responsiveness_and_chance(table.assign(responsiveness=0 * table["responsiveness"]))


def test_what_cannot_be_drawn() -> None:
    cascade = made_up_cascade()
    with pytest.raises(BadOption, match="word"):
        cascading_randomisation(cascade, "word")
    with pytest.raises(BadOption, match="kendall"):
        cascading_randomisation(cascade, measure="kendall")
    with pytest.raises(BadOption, match="masks"):
        cascading_randomisation(cascade, tables=["masks"])
    with pytest.raises(BadOption, match="masks"):
        split_half_by_layer(made_up_halves(), ["masks"])
    with pytest.raises(BadInput, match="no classes"):
        purity_by_layer({})
    for draw, table, gone in (
        (cascading_randomisation, cascade, "shuffled"),
        (split_half_by_layer, made_up_halves(), "reliability"),
        (fields_by_layer, made_up_fields(), "median_s"),
        (silhouettes_and_chance, made_up_silhouettes(), "random"),
        (responsiveness_and_chance, made_up_shuffled(), "null"),
    ):
        with pytest.raises(BadInput, match=gone):
            draw(table.drop_vars(gone))
        bare = table.copy()
        del bare.attrs["instances"]
        with pytest.raises(BadInput, match="instances"):
            draw(bare)
