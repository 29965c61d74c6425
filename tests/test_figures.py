"""The figures: axes with units, N, and the right numbers in the right place."""

from __future__ import annotations

import re

import numpy as np
import plotly.graph_objects as go
import pytest
import scipy.cluster.hierarchy
import synthetic_results as made_up
import xarray as xr

from otoscope.base import BadInput, BadOption, OtoscopeError
from otoscope.reduce.profiles import Profiles
from otoscope.show.figures_layers import dendrogram, layer_matrix, silhouettes_by_layer
from otoscope.show.figures_profiles import action_potentials, gradnap_heatmaps
from otoscope.show.figures_training import convergence, similarity_through_training, training_curves
from otoscope.show.reading import group_name, hertz_ticks, layer_names


def every_figure() -> dict[str, tuple[go.Figure, ...]]:
    similarity = made_up.similarity()
    profile, count = made_up.input_profile()
    layer, layer_count, responsiveness = made_up.layer_profile()
    linkage, labels, classes, cut = made_up.phone_tree()
    return {
        "training": training_curves(made_up.history()),
        "last": similarity_through_training(similarity),
        "next": similarity_through_training(similarity, "next"),
        "convergence": (convergence(made_up.convergence_epochs(), tolerance=0.03, last_epoch=12),),
        "matrix": layer_matrix(similarity),
        "silhouettes": (silhouettes_by_layer(made_up.silhouettes()),),
        "gradnap": gradnap_heatmaps(profile, count, ["phone:AE", "phone:T"]),
        "potentials": action_potentials(layer, layer_count, responsiveness, ["phone:AE", "phone:T"], layer="conv2"),
        "dendrogram": (dendrogram(linkage, labels, layer="conv9", classes=classes, cut=cut),),
    }


COUNTS = {
    "training": ["1,400 training utterances, 60 held-out utterances", "612 words"],
    "last": ["25,310 frames of 120 utterances"] * 2,
    "next": ["25,310 frames of 120 utterances"] * 2,
    "convergence": ["25,310 frames of 120 utterances"],
    "matrix": ["25,310 frames of 120 utterances"] * 2,
    "silhouettes": ["26 graphemes, 38 phones"],
    "gradnap": ["412 instances", "1,873 instances"],
    "potentials": ["412 instances, 200 units", "1,873 instances, 200 units"],
    "dendrogram": ["38 groups"],
}


def test_every_figure_says_n_and_its_units():
    for name, panels in every_figure().items():
        for panel, expected in zip(panels, COUNTS[name], strict=True):
            assert panel.layout.title.text
            assert panel.layout.title.subtitle.text.startswith("N = " + expected), name
            x, y = panel.layout.xaxis.title.text, panel.layout.yaxis.title.text
            for title in (x,) if name == "dendrogram" else (x, y):
                # A unit, a range or an orientation in brackets; names of layers have none.
                assert re.search(r"\(.+\)$", title) or (name == "matrix" and title == "layer"), (name, title)


def font_sizes(node, key=""):
    if isinstance(node, dict):
        if key.endswith("font") and "size" in node:
            yield node["size"]
        for name, inner in node.items():
            yield from font_sizes(inner, name)


def test_no_text_is_too_small_for_a_phone():
    for name, panels in every_figure().items():
        for panel in panels:
            fonts = list(font_sizes(panel.to_plotly_json()))
            assert len(fonts) > 5, name
            assert min(fonts) >= 11, name


def test_training_curves_hold_the_history():
    history = made_up.history()
    loss, wer = training_curves(history)
    np.testing.assert_array_equal(loss.data[0].y, history["train_loss"])
    np.testing.assert_array_equal(loss.data[1].y, history["heldout_loss"])
    assert [trace.name for trace in loss.data] == ["training", "held out"]
    assert "nats" in loss.layout.yaxis.title.text
    np.testing.assert_array_equal(wer.data[0].y, history["wer"])
    assert "612 words, held out" in wer.layout.title.subtitle.text


@pytest.mark.parametrize(("last", "scale"), [(60.0, "linear"), (1.0, "log")])
def test_loss_axis_is_logarithmic_only_when_it_must_be(last, scale):
    history = made_up.history()
    history["train_loss"][:] = history["heldout_loss"][:] = np.linspace(120, last, history.sizes["epoch"])
    assert training_curves(history)[0].layout.yaxis.type == scale


@pytest.mark.parametrize("to", ["last", "next", "first"])
def test_similarity_has_a_line_per_layer_and_a_panel_per_measure(to):
    data = made_up.similarity()
    data["to_first"] = data["to_last"].isel(epoch=slice(None, None, -1)).assign_coords(epoch=data["epoch"])
    panels = similarity_through_training(data, to)
    assert [panel.layout.title.text for panel in panels] == [
        f"SVCCA with the {to} checkpoint",
        f"linear CKA with the {to} checkpoint",
    ]
    for panel, measure in zip(panels, ("svcca", "cka"), strict=True):
        assert [trace.name for trace in panel.data] == made_up.LAYERS
        for trace in panel.data:
            np.testing.assert_array_equal(trace.y, data[f"to_{to}"].sel(measure=measure, layer=trace.name))
            np.testing.assert_array_equal(trace.x, data["epoch"])
    # Panels that are compared share their scale, and nothing lies outside it.
    low, high = panels[0].layout.yaxis.range
    assert panels[1].layout.yaxis.range == (low, high)
    assert low <= float(data[f"to_{to}"].min())
    assert high >= 1


@pytest.mark.parametrize("to", ["last", "next", "first"])
def test_intervals_are_bands_below_the_lines(to):
    data = made_up.through_training()
    for panel, measure in zip(similarity_through_training(data, to), ("svcca", "cka"), strict=True):
        areas, curves = panel.data[:12], panel.data[12:]
        # Every layer stands in the legend once, and takes its band along when it is hidden.
        assert [trace.name for trace in curves] == [trace.legendgroup for trace in curves] == made_up.LAYERS
        assert [trace.legendgroup for trace in areas] == made_up.LAYERS
        assert all(curve.showlegend for curve in curves)
        for area, curve in zip(areas, curves, strict=True):
            assert not area.showlegend
            assert area.fill == "toself"
            assert area.fillcolor == curve.line.color
            assert area.opacity < 0.15
            here = data[f"to_{to}_interval"].sel(measure=measure, layer=curve.name)
            low, high = (here.sel(bound=bound).values for bound in ("low", "high"))
            known = np.isfinite(low)
            count = known.sum()
            np.testing.assert_array_equal(area.x[:count], data["epoch"].values[known])
            np.testing.assert_array_equal(area.y[:count], low[known])
            np.testing.assert_array_equal(area.y[count : 2 * count], high[known][::-1])
            assert curve.customdata[1] == f" ({low[1]:.3f} to {high[1]:.3f})"
            assert "%{customdata}" in curve.hovertemplate
            assert min(area.y[: 2 * count]) >= panel.layout.yaxis.range[0]
        assert "bands: 95\u00a0% interval (jackknife over utterances)" in (
            panel.layout.title.subtitle.text.replace("<br>", " ")
        )
    other = similarity_through_training(data.drop_vars(f"to_{to}_interval"), to)[0]
    assert len(other.data) == 12
    assert "interval" not in other.layout.title.subtitle.text


def test_an_interval_of_unknown_level_claims_none():
    data = made_up.through_training()
    del data.attrs["level"]
    assert "bands: interval (" in similarity_through_training(data)[0].layout.title.subtitle.text


def test_the_order_of_dimensions_does_not_matter():
    for data in (made_up.similarity(), made_up.through_training()):
        turned = data.transpose(
            "bound", "repairing", "epoch", "other_layer", "layer", "measure", ..., missing_dims="ignore"
        )
        for draw in (similarity_through_training, layer_matrix):
            assert [p.to_json() for p in draw(turned)] == [p.to_json() for p in draw(data)]


def test_convergence_has_bars_and_the_bottom_up_index():
    data = made_up.through_training()
    data["converged_interval"][0, 0] = [-0.7, 12.9]
    figure = convergence(data.transpose("bound", "layer", ...), tolerance=0.03, last_epoch=12)
    bare = convergence(data["converged"].assign_attrs(data.attrs), tolerance=0.03, last_epoch=12)
    for trace, plain, measure in zip(figure.data, bare.data, ("svcca", "cka"), strict=True):
        np.testing.assert_array_equal(trace.x, plain.x)
        assert plain.error_x.array is None
        settled = data["converged"].sel(measure=measure)
        there = np.isfinite(settled.values)
        low, high = (data["converged_interval"].sel(measure=measure, bound=bound) for bound in ("low", "high"))
        # A bar ends where the run does; a layer that never settled has none.
        np.testing.assert_allclose((trace.x + trace.error_x.array)[there], np.minimum(high, 12)[there])
        np.testing.assert_allclose((trace.x - trace.error_x.arrayminus)[there], np.maximum(low, 0)[there])
        assert np.isnan(trace.error_x.array[~there]).all()
        assert trace.error_x.color == trace.marker.color
    assert figure.data[0].text[3] == "conv4, SVCCA: epoch 4 (3.3 to 4.7)"
    words = figure.layout.title.subtitle.text.replace("<br>", " ")
    assert words == (
        "N = 25,310 frames of 120 utterances; bars: 95\u00a0% interval (jackknife over utterances); "
        "bottom-up index (95\u00a0% interval): SVCCA 0.84 (0.71 to 0.93), linear CKA −0.12 (−0.40 to 0.20)"
    )
    data["bottom_up"][1] = np.nan
    without_interval = convergence(data.drop_vars("bottom_up_interval"), tolerance=0.03, last_epoch=12)
    words = without_interval.layout.title.subtitle.text.replace("<br>", " ")
    assert words.endswith("bottom-up index: SVCCA 0.84, linear CKA not defined")


def test_convergence_puts_never_beyond_the_last_epoch():
    epochs = made_up.convergence_epochs()
    figure = convergence(epochs, tolerance=0.03, last_epoch=12)
    svcca, cka = figure.data
    np.testing.assert_array_equal(svcca.x, epochs.sel(measure="svcca"))
    assert cka.x[-2] > 12
    assert cka.marker.symbol[-2] == "square-open"
    assert list(cka.marker.symbol).count("square-open") == 1
    assert figure.layout.xaxis.ticktext[-1] == "never"
    assert figure.layout.xaxis.tickvals[-1] == cka.x[-2]
    assert figure.layout.xaxis.range[1] > cka.x[-2]
    # The first layer is at the bottom.
    assert svcca.y[0] < svcca.y[-1]
    assert figure.layout.yaxis.ticktext[0] == "conv1"
    settled = convergence(epochs.sel(measure=["svcca"]), tolerance=0.03, last_epoch=12)
    assert "never" not in settled.layout.xaxis.ticktext


def test_convergence_refuses_an_epoch_outside_the_run():
    with pytest.raises(BadInput, match="outside the run"):
        convergence(made_up.convergence_epochs(), tolerance=0.03, last_epoch=4)


def test_layer_matrix_is_not_turned_over():
    data = made_up.similarity()
    data["matrix"][0, 2, 9] = 0.123
    panel = layer_matrix(data)[0]
    heatmap = panel.data[0]
    assert heatmap.y[2] == "conv3"
    assert heatmap.x[9] == "conv10"
    assert heatmap.z[2][9] == pytest.approx(0.123)
    assert (panel.layout.coloraxis.cmin, panel.layout.coloraxis.cmax) == (0, 1)
    assert panel.layout.coloraxis.colorbar.title.text == "similarity (0 to 1)"


def test_layer_matrix_marks_what_no_baseline_bears_out():
    data = made_up.through_training()
    data["matrix"][:] = 0.5
    data["matrix_baseline"][:] = 0.2
    data["matrix_random"][:] = 0.3
    data["matrix_baseline"][0, 1, 7, 3] = 0.5
    data["matrix_random"][0, 9, 4] = 0.9
    data["matrix"][0, 9, 4] = 0.8
    data["matrix_random"][0, 6, 6] = 0.9
    data["matrix_random"][0, 2, 3] = np.nan
    first, second = layer_matrix(data)
    heatmap, dots = first.data
    # Equal is not above; the diagonal cannot pass; one re-pairing of five is enough.
    assert set(zip(dots.y, dots.x, strict=True)) == {("conv2", "conv8"), ("conv10", "conv5")}
    # Seen on pale and on dark cells, on light and on dark pages.
    assert dict(zip(dots.y, dots.marker.color, strict=True)) == {"conv2": "rgb(38,45,52)", "conv10": "rgb(255,255,255)"}
    assert len(second.data[1].x) == 0
    assert first.layout.xaxis.range == (-0.5, 11.5)
    assert heatmap.text[1][7].endswith("<br>re-paired utterances (highest of 5) 0.500<br>random networks 0.300")
    low, high = data["matrix_interval"][0, 1, 7].values
    assert heatmap.text[1][7].startswith(f"<br>95\u00a0% interval {low:.3f} to {high:.3f}")
    assert "dot: not above re-paired utterances (highest of 5) or random networks" in (
        first.layout.title.subtitle.text.replace("<br>", " ")
    )
    for dropped, expected in (
        (["matrix_random", "matrix_interval"], {("conv2", "conv8")}),
        (["matrix_baseline"], {("conv10", "conv5")}),
    ):
        dots = layer_matrix(data.drop_vars(dropped))[0].data[1]
        assert set(zip(dots.y, dots.x, strict=True)) == expected


def test_layer_matrix_without_baselines_has_no_marks():
    data = made_up.similarity()
    (heatmap,) = layer_matrix(data)[0].data
    assert heatmap.text is None
    assert layer_matrix(data)[0].layout.title.subtitle.text == "N = 25,310 frames of 120 utterances"
    only_interval = made_up.through_training().drop_vars(["matrix_baseline", "matrix_random"])
    (heatmap,) = layer_matrix(only_interval)[0].data
    assert heatmap.text[0][1].startswith("<br>95\u00a0% interval 0.")


def test_silhouettes_are_honest_about_what_is_missing():
    data = made_up.silhouettes()
    figure = silhouettes_by_layer(data)
    means = {trace.name: trace for trace in figure.data if trace.showlegend}
    grapheme = means["graphemes"]
    np.testing.assert_allclose(means["phones"].y, data.sel(grouping="phone").mean("percentile"))
    # One cut missing: the mean of the other four, and an open marker. All missing: a gap, not a bridge.
    assert grapheme.y[3] == pytest.approx(float(data.sel(grouping="symbol")[3, :4].mean()))
    assert grapheme.marker.symbol[3].endswith("-open")
    assert "only 4 of 5" in grapheme.customdata[3]
    assert not grapheme.marker.symbol[2].endswith("-open")
    assert np.isnan(grapheme.y[7])
    assert not any(trace.connectgaps for trace in figure.data)
    single = [trace for trace in figure.data if not trace.showlegend]
    assert len(single) == 10
    np.testing.assert_array_equal(single[0].y, data.sel(grouping="symbol", percentile=75))


def test_dendrogram_is_scipys_tree():
    linkage, labels, classes, cut = made_up.phone_tree()
    figure = dendrogram(linkage, labels, layer="conv9", classes=classes, cut=cut)
    order = [labels[leaf] for leaf in scipy.cluster.hierarchy.leaves_list(linkage)]
    assert list(figure.layout.yaxis.ticktext) == [f"/{label.removeprefix('phone:')}/" for label in order]
    links = np.array([np.nan if value is None else value for value in figure.data[0].x], dtype=float).reshape(-1, 5)
    # Every link's upright stands at the distance of one merge.
    np.testing.assert_allclose(np.sort(links[:, 1]), np.sort(linkage[:, 2]))
    # Links that start at 0 start from the leaves, one each.
    feet = [(x, y) for x, y in zip(figure.data[0].x, figure.data[0].y, strict=True) if x == 0]
    assert sorted(y for _, y in feet) == list(range(len(labels)))
    for trace in figure.data[1:]:
        assert {classes[order[row]] for row in trace.y} == {trace.name}
    assert sum(len(trace.y) for trace in figure.data[1:]) == len(labels)
    assert figure.layout.shapes[0].x0 == pytest.approx(cut)
    assert figure.layout.xaxis.range[1] > linkage[-1, 2]


def test_dendrogram_without_classes_or_cut():
    linkage, labels, _, _ = made_up.phone_tree()
    figure = dendrogram(linkage, labels, layer="conv9")
    assert len(figure.data) == 1
    assert not figure.layout.shapes


@pytest.mark.parametrize("units", [40, 80, 128])
def test_hertz_ticks_lie_where_the_mel_scale_puts_them(units):
    centres = made_up.mel_centres_hz(units)
    places, texts = hertz_ticks(centres)
    # Evenly spaced in mel from 0 to 8 kHz, the first row's centre one step above 0.
    step = 2595 * np.log10(1 + 8000 / 700) / (units + 1)
    hertz = {"125": 125, "250": 250, "500": 500, "1k": 1000, "2k": 2000, "4k": 4000, "8k": 8000}
    assert texts == list(hertz)
    for place, text in zip(places[:-1], texts[:-1], strict=True):
        assert place == pytest.approx(2595 * np.log10(1 + hertz[text] / 700) / step - 1, abs=0.03)
    # 8 kHz is the end of the top filter, just beyond the upper edge of the top row.
    assert places[-1] == units - 0.5


def test_hertz_ticks_leave_out_what_the_rows_do_not_reach():
    assert hertz_ticks(np.array([300.0, 400.0, 1200.0, 1700.0]))[1] == ["250", "500", "1k", "2k"]
    with pytest.raises(BadInput, match="do not rise"):
        hertz_ticks(np.array([200.0, 100.0]))


def test_gradnap_shows_a_planted_sound_at_its_place():
    profile, count = made_up.input_profile()
    planted = xr.zeros_like(profile)
    row = int(np.argmin(np.abs(made_up.mel_centres_hz() - 1000)))
    planted.loc[{"group": "phone:AE", "unit": row, "offset": 3}] = 2.0
    planted.loc[{"group": "phone:T", "unit": 5, "offset": -4}] = -1.0
    ae, t = gradnap_heatmaps(planted, count, ["phone:AE", "phone:T"])
    time = list(ae.data[0].x)
    assert ae.data[0].z[row][time.index(30.0)] == 2.0
    assert t.data[0].z[5][time.index(-40.0)] == -1.0
    ticks = dict(zip(ae.layout.yaxis.ticktext, ae.layout.yaxis.tickvals, strict=True))
    assert ticks["1k"] == pytest.approx(row, abs=0.5)
    # What the pointer reads is Hz, not row numbers.
    assert ae.data[0].customdata[row][0] == round(made_up.mel_centres_hz()[row])
    assert (ae.layout.title.text, t.layout.title.text) == ("/AE/", "/T/")


def test_gradnap_panels_share_one_scale_centred_on_zero():
    profile, count = made_up.input_profile()
    panels = gradnap_heatmaps(profile, count, list(profile["group"].values))
    axes = {panel.layout.coloraxis.to_plotly_json()["cmax"] for panel in panels}
    (limit,) = axes
    for panel in panels:
        assert panel.layout.coloraxis.cmin == -limit
        assert panel.layout.coloraxis.colorbar.title.text == "GradNAP (sd of the log-mel)"
        assert panel.layout.coloraxis.colorbar.ticktext == (f"≤ −{limit:g}", "0", f"≥ {limit:g}")
        assert panel.data[0].coloraxis == "coloraxis"
    # White stands for 0.
    scale = panels[0].layout.coloraxis.colorscale
    assert scale[len(scale) // 2] == (0.5, "rgb(247,247,247)")
    inside = np.concatenate([np.abs(panel.data[0].z).ravel() for panel in panels])
    assert 0.001 < np.mean(inside[inside > 0] > limit) < 0.01


def test_gradnap_window_holds_what_matters():
    profile, count = made_up.input_profile()
    flat = xr.zeros_like(profile)
    flat.loc[{"offset": slice(-10, 10)}] = 1.0
    (panel,) = gradnap_heatmaps(flat, count, ["phone:AE"])
    assert (panel.data[0].x[0], panel.data[0].x[-1]) == (-100, 100)
    (panel,) = gradnap_heatmaps(flat, count, ["phone:AE"], within_s=0.3)
    assert (panel.data[0].x[0], panel.data[0].x[-1]) == pytest.approx((-300, 300))
    (panel,) = gradnap_heatmaps(flat, count, ["phone:AE"], within_s=9)
    assert (panel.data[0].x[0], panel.data[0].x[-1]) == pytest.approx((-620, 620))


def by_rank(table: xr.DataArray) -> xr.DataArray:
    """The same as a NAP: offsets are ranks from 0 on."""
    ranks = np.arange(table.sizes["offset"])
    coords = {"offset": ("offset", ranks, {"units": "ranks"}), "time": ("offset", 0.01 * ranks)}
    return table.assign_coords(coords).assign_attrs(method="NAP")


def test_sorted_profiles_are_drawn_over_ranks():
    profile, count = made_up.input_profile()
    table = by_rank(profile)
    (panel,) = gradnap_heatmaps(table, count, ["phone:AE"])
    assert panel.layout.xaxis.title.text == "rank (0: largest)"
    np.testing.assert_array_equal(panel.data[0].x, table["offset"])
    assert len(panel.data[0].z[0]) == table.sizes["offset"]
    assert "rank %{x:.0f}" in panel.data[0].hovertemplate
    assert "NAP %{z:.3f}" in panel.data[0].hovertemplate
    assert panel.layout.coloraxis.colorbar.title.text == "NAP (sd of the log-mel)"
    # There is no moment of alignment, and no time to choose.
    assert not panel.layout.shapes
    with pytest.raises(BadOption, match="no time"):
        gradnap_heatmaps(table, count, ["phone:AE"], within_s=0.1)
    with pytest.raises(BadInput, match="0 or NaN"):
        gradnap_heatmaps(0 * table, count, ["phone:AE"])
    layer, layer_count, responsiveness = made_up.layer_profile()
    (lines,) = action_potentials(by_rank(layer), layer_count, responsiveness, ["phone:T"], layer="conv2")
    assert lines.layout.xaxis.title.text == "rank of the activation (0: the largest)"
    assert lines.layout.yaxis.title.text == "NAP (activation units)"
    assert lines.layout.xaxis.range == (-0.5, layer.sizes["offset"] - 0.5)
    np.testing.assert_array_equal(lines.data[1].x, np.arange(layer.sizes["offset"]))
    assert not lines.layout.shapes


@pytest.mark.parametrize("frames", [1, 2, 7, 40, 205, 2000])
def test_ranks_have_few_ticks_and_the_largest_among_them(frames):
    profile, count = made_up.input_profile()
    few = by_rank(profile.isel(offset=[60] * frames))
    (panel,) = gradnap_heatmaps(few, count.isel(offset=[60] * frames), ["phone:AE"])
    ticks = panel.layout.xaxis.tickvals
    assert ticks[0] == 0
    assert len(ticks) <= 4
    assert set(ticks) <= set(range(frames))


def test_action_potentials_draw_every_unit_and_colour_the_most_responsive():
    profile, count, responsiveness = made_up.layer_profile()
    panel = action_potentials(profile, count, responsiveness, ["phone:AE", "phone:T"], layer="conv2", within_s=9)[1]
    crowd, *coloured = panel.data
    r = responsiveness.sel(group="phone:T")
    best = np.argsort(-np.abs(r.values))[:5]
    assert [trace.name.split(",")[0] for trace in coloured] == [f"unit {unit}" for unit in best]
    for trace, unit in zip(coloured, best, strict=True):
        np.testing.assert_allclose(trace.y, profile.sel(group="phone:T", unit=unit), atol=1e-6)
        assert trace.name.endswith(f"{'+' if r[unit] > 0 else '−'}{abs(float(r[unit])):.3g}")
    lines = np.array(crowd.y).reshape(200, -1)
    assert np.isnan(lines[:, -1]).all()
    drawn = {tuple(np.round(line, 5)) for line in lines[:, :-1]}
    assert drawn == {tuple(np.round(line, 5)) for line in profile.sel(group="phone:T").values.astype(np.float32)}
    np.testing.assert_allclose(np.array(crowd.x).reshape(200, -1)[7, :-1], 1000 * profile["time"], atol=1e-4)
    assert "ms" in panel.layout.xaxis.title.text


def test_figures_take_what_profiles_hold():
    profile, count = made_up.input_profile()
    tables = {"profile": profile, "mask": abs(profile), "mean": profile, "count": count}
    held = Profiles({"input": xr.Dataset(tables)}, settings={})
    shown = ["phone:AE", "phone:T"]
    for draw, more, options in (
        (gradnap_heatmaps, (), {}),
        (action_potentials, (held.responsiveness()["input"],), {"layer": "input"}),
    ):
        panels = draw(held.profile["input"], held.count["input"], *more, shown, **options)
        assert panels[0].layout.title.subtitle.text.startswith("N = 412 instances")


def test_a_wide_layer_is_thinned_and_says_so():
    profile, count, responsiveness = made_up.layer_profile(units=120)
    panel = action_potentials(profile, count, responsiveness, ["phone:AE"], layer="conv2", drawn=40)[0]
    assert panel.layout.title.subtitle.text == "N = 412 instances, 40 of 120 units"
    assert np.isnan(panel.data[0].y).sum() == 40


def test_names_cannot_become_markup():
    data = made_up.similarity(["<blank>", "a & b"])
    panel = similarity_through_training(data)[0]
    assert [trace.name for trace in panel.data] == ["&lt;blank&gt;", "a &amp; b"]
    assert list(layer_matrix(data)[0].data[0].x) == ["&lt;blank&gt;", "a &amp; b"]


def test_group_and_layer_names():
    assert [group_name(label) for label in ("phone:AE", "symbol:a", "symbol: ", "word:cat", "all")] == [
        "/AE/",
        "⟨a⟩",
        "⟨space⟩",
        "word cat",
        "all",
    ]


def test_long_layer_names_are_cut_but_stay_apart():
    assert layer_names(["conv1", "logits"]) == ["conv1", "logits"]
    deep = [f"encoder.layers.{index}.feed_forward.output" for index in range(12)]
    assert layer_names(["input", *deep]) == ["input", *(f"layers.{index}" for index in range(12))]
    assert layer_names(["input", "encoder.blocks.10.attention"]) == ["input", "encoder.b…ttention"]
    # Nothing is gained by names that cannot be told apart.
    mixed = [f"{where}_very_long_indeed_{part}_of_the_network" for where in "ab" for part in ("front", "later")]
    assert layer_names(mixed)[1] == "2 …_the_network"
    for names in (deep, mixed, ["a.b", "a.b.c.d.e.f.g.h.i.j.k.l", "a.b.c.d.e.f.g.h.i.j.k.m"]):
        assert len(set(layer_names(names))) == len(names)
        assert max(map(len, layer_names(names))) <= 18


def without(data, name):
    data = data.copy()
    del data.attrs[name]
    return data


BAD = {
    "no loss": (lambda: training_curves(made_up.history().drop_vars("heldout_loss")), "lacks heldout_loss"),
    "no N": (lambda: similarity_through_training(without(made_up.similarity(), "frames")), "'frames'"),
    "no N of words": (lambda: training_curves(without(made_up.history(), "heldout_words")), "'heldout_words'"),
    "no epochs": (lambda: similarity_through_training(made_up.similarity().isel(epoch=[])), "nothing along epoch"),
    "no measure": (lambda: layer_matrix(made_up.similarity().isel(measure=0)), "nothing along measure"),
    "which checkpoint": (lambda: similarity_through_training(made_up.similarity(), "lst"), "'last'"),
    "no first": (lambda: similarity_through_training(made_up.similarity(), "first"), "lacks to_first"),
    "interval": (
        lambda: convergence(
            made_up.through_training().assign_coords(bound=["from", "to"]), tolerance=0.03, last_epoch=12
        ),
        "bounds from, to",
    ),
    "baseline": (
        lambda: layer_matrix(
            made_up.through_training().assign(matrix_baseline=made_up.through_training()["matrix_random"])
        ),
        "nothing along repairing",
    ),
    "unknown group": (lambda: gradnap_heatmaps(*made_up.input_profile(), ["phone:XX"]), "phone:XX"),
    "no group": (lambda: gradnap_heatmaps(*made_up.input_profile(), []), "no groups"),
    "no frequency": (
        lambda: gradnap_heatmaps(
            *(table.drop_vars("frequency", errors="ignore") for table in made_up.input_profile()), ["phone:T"]
        ),
        "without frequency",
    ),
    "all zero": (lambda: gradnap_heatmaps(*(0 * table for table in made_up.input_profile()), ["phone:T"]), "0 or NaN"),
    "empty group": (
        lambda: gradnap_heatmaps(
            *(table.where(table["group"] != "phone:T") for table in made_up.input_profile()), ["phone:T"]
        ),
        "phone:T is empty",
    ),
    "window": (lambda: gradnap_heatmaps(*made_up.input_profile(), ["phone:T"], within_s=0), "more than 0"),
    "too many units": (
        lambda: action_potentials(*made_up.layer_profile(), ["phone:T"], layer="conv2", most=9),
        "1 to 5",
    ),
    "other units": (
        lambda: action_potentials(
            *made_up.layer_profile()[:2], made_up.layer_profile(units=7)[2], ["phone:T"], layer="conv2"
        ),
        "7 units",
    ),
    "labels": (lambda: dendrogram(made_up.phone_tree()[0], ["a", "b"], layer="conv9"), "2 labels"),
    "no number of groups": (lambda: silhouettes_by_layer(made_up.silhouettes().drop_vars("groups")), "`groups`"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_told_in_words(name):
    call, words = BAD[name]
    with pytest.raises(OtoscopeError) as caught:
        call()
    assert isinstance(caught.value, (BadInput, BadOption))
    assert words in str(caught.value)
    assert "wanted:" in str(caught.value)
