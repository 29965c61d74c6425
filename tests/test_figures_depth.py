"""Figures over depth and across networks: the right numbers, their N and intervals, labels that keep apart."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
import synthetic_results as made_up
import xarray as xr

from otoscope.base import BadInput, OtoscopeError
from otoscope.show.figures_depth import (
    adjacent_layers,
    network_matrix,
    nodes_by_depth,
    probes_by_depth,
    similarity_and_errors,
)
from otoscope.show.intervals import band, interval_of
from otoscope.show.placing import LETTER_PX, LINE_PX, SCATTERS_PX, label_rows, place_labels

INTERVAL = "95\u00a0% interval"
JACKKNIFE = f"bands: {INTERVAL} (jackknife over utterances)"
FRAMES = "N = 25,310 frames of 120 utterances"


def lines(figure):
    return [trace for trace in figure.data if trace.showlegend]


def bands(figure):
    return [trace for trace in figure.data if trace.fill == "toself"]


def subtitle(figure):
    return figure.layout.title.subtitle.text.replace("<br>", " ")


def every_figure():
    training = made_up.through_training()
    return {
        "nodes": nodes_by_depth(training),
        "probes": (probes_by_depth(training),),
        "adjacent": adjacent_layers(made_up.adjacent()),
        "errors": similarity_and_errors(made_up.errors()),
        "networks": network_matrix(made_up.networks_matrix()),
    }


def test_every_figure_says_n_and_its_units():
    expected = {
        "nodes": [f"{FRAMES}; {JACKKNIFE}"] * 2,
        "probes": [
            "N = 5,310 test frames of 2 held-out speakers; trained on 20,100 frames; "
            "dotted: share of the commonest label"
        ],
        "adjacent": [f"{FRAMES}; {JACKKNIFE}"] * 2,
        "errors": [
            f"N = 9 networks; rank correlation −0.87 ({INTERVAL} −0.98 to −0.42)",
            f"N = 9 networks; rank correlation −0.55 ({INTERVAL} −0.91 to 0.13)",
        ],
        "networks": [FRAMES] * 2,
    }
    for name, panels in every_figure().items():
        assert [subtitle(panel) for panel in panels] == expected[name]
        for panel in panels:
            assert panel.layout.title.text
            # No line of a subtitle is wider than the figure saved on its own; each has its height.
            broken = panel.layout.title.subtitle.text.split("<br>")
            assert max(map(len, broken)) <= (50 if name == "errors" else 70)
            assert panel.layout.margin.t >= 84 + 17 * (len(broken) - 1)
            if name != "networks":
                for axis in (panel.layout.xaxis, panel.layout.yaxis):
                    assert re.search(r"\(.+\)$", axis.title.text), (name, axis.title.text)


def test_nodes_have_a_line_each_over_depth():
    data = made_up.through_training()
    panels = nodes_by_depth(data.transpose("node", "bound", "epoch", ...))
    assert [panel.layout.title.text for panel in panels] == [
        "SVCCA with input and labels, epoch 12",
        "linear CKA with input and labels, epoch 12",
    ]
    for panel, measure in zip(panels, ("svcca", "cka"), strict=True):
        assert [line.name for line in lines(panel)] == ["mel input", "phone labels", "speaker labels"]
        for line, area, node in zip(lines(panel), bands(panel), ("mel", "phone", "speaker"), strict=True):
            here = {"measure": measure, "node": node, "epoch": 12}
            np.testing.assert_array_equal(line.y, data["to_node"].sel(here))
            assert list(line.x) == made_up.LAYERS
            low, high = (data["to_node_interval"].sel({**here, "bound": bound}).values for bound in ("low", "high"))
            assert list(area.y[:12]) == list(low)
            assert list(area.y[12:24]) == list(high[::-1])
            assert area.legendgroup == line.legendgroup
            assert area.fillcolor == line.line.color
            assert line.customdata[3] == f" ({low[3]:.3f} to {high[3]:.3f})"
    early = nodes_by_depth(data, epoch=2)[0]
    assert early.layout.title.text.endswith("epoch 2")
    np.testing.assert_array_equal(lines(early)[1].y, data["to_node"].sel(measure="svcca", node="phone", epoch=2))


def test_without_intervals_nothing_is_said_of_them():
    data = made_up.through_training().drop_vars("to_node_interval")
    for panel in nodes_by_depth(data):
        assert not bands(panel)
        assert subtitle(panel) == FRAMES
        assert "customdata" not in panel.data[0].hovertemplate


def test_probes_stand_against_the_input_and_the_commonest_label():
    data = made_up.through_training()
    data["probe_input"] = ("node", [np.nan, 0.27, 0.2])
    low, high = data["probe"] - 0.02, data["probe"] + 0.03
    data["probe_interval"] = xr.concat([low, high], xr.Variable("bound", ["low", "high"])).transpose(..., "bound")
    data["probe_interval"].attrs["level"] = 0.9
    figure = probes_by_depth(data)
    # The mel input has no labels to probe for; the others keep the colours that they have among the nodes.
    nodes = {line.name.split()[0]: line.line.color for line in lines(nodes_by_depth(data)[0])}
    probes = {line.name: line for line in lines(figure)}
    assert list(probes) == ["phone (input 0.27, commonest 0.11)", "speaker (input 0.20, commonest 0.09)"]
    assert len(bands(figure)) == 2
    assert "bands: 90" in subtitle(figure)
    for (label, line), node in zip(probes.items(), ("phone", "speaker"), strict=True):
        np.testing.assert_array_equal(line.y, data["probe"].sel(node=node))
        assert line.line.color == nodes[node]
        (chance,) = [trace for trace in figure.data if trace.line.dash == "dot" and trace.legendgroup == label]
        assert set(chance.y) == {float(data["probe_chance"].sel(node=node))}
        (mel,) = [trace for trace in figure.data if trace.line.dash == "dash" and trace.legendgroup == label]
        assert set(mel.y) == {float(data["probe_input"].sel(node=node))}
    bare = probes_by_depth(data.drop_vars(["probe_chance", "probe_input", "probe_interval", "bound"], errors="ignore"))
    assert [line.name for line in bare.data] == ["phone", "speaker"]
    assert "dotted" not in subtitle(bare)
    assert "dashed" not in subtitle(bare)


def test_adjacent_layers_end_with_their_network():
    data = made_up.adjacent()
    for panel, measure in zip(adjacent_layers(data), ("svcca", "cka"), strict=True):
        assert [line.name for line in lines(panel)] == ["conv", "conv-LSTM", "LSTM", "transformer"]
        for line in lines(panel):
            np.testing.assert_array_equal(line.y, data["adjacent"].sel(measure=measure, network=line.name))
            np.testing.assert_array_equal(line.x, data["step"])
        # Four pairs: there and back, closed, and the pen lifted.
        assert list(bands(panel)[2].x) == [1, 2, 3, 4, 4, 3, 2, 1, 1, None]
        low, high = panel.layout.yaxis.range
        assert low <= float(data["adjacent_interval"].min())
        assert high >= 1
    del data.attrs["frames"]
    assert subtitle(adjacent_layers(data)[0]).startswith("N = 120 utterances;")


def test_more_networks_than_colours_still_differ():
    many = made_up.adjacent({f"net {number}": 5 for number in range(11)})
    looks = {(line.line.color, line.line.dash) for line in lines(adjacent_layers(many)[0])}
    assert len(looks) == 11


def test_errors_and_similarity_share_their_points_with_the_table():
    data = made_up.errors()
    data["wer"][1, 2] = np.nan
    panels = similarity_and_errors(data)
    assert [panel.layout.title.text for panel in panels] == ["clean", "noise 10 dB"]
    for panel, condition in zip(panels, data["condition"].values, strict=True):
        here = data.sel(condition=condition)
        there = here["wer"].notnull().values
        np.testing.assert_array_equal(panel.data[0].x, here["similarity"].values[there])
        np.testing.assert_array_equal(panel.data[0].y, here["wer"].values[there])
        named = {note.text: (note.x, note.y) for note in panel.layout.annotations}
        assert list(named) == [str(name) for name in here["network"].values[there]]
        assert named["LSTM 4"] == (here["similarity"].sel(network="LSTM 4"), here["wer"].sel(network="LSTM 4"))
        for values, axis in ((panel.data[0].x, panel.layout.xaxis), (panel.data[0].y, panel.layout.yaxis)):
            assert axis.range[0] < min(values)
            assert max(values) < axis.range[1]
    assert subtitle(panels[1]).startswith("N = 8 networks; ")
    # Conditions are compared along the similarity; word error rates of clean and noisy speech need their own scales.
    assert panels[0].layout.xaxis.range == panels[1].layout.xaxis.range
    assert panels[0].layout.xaxis.title.text == "SVCCA of adjacent layers, mean<br>(0\u00a0to\u00a01)"


def test_a_rank_correlation_of_two_networks_is_not_made_up():
    data = made_up.errors().isel(network=[0, 1])
    data["rank_correlation"][:] = np.nan
    panel = similarity_and_errors(data)[0]
    assert subtitle(panel) == "N = 2 networks; rank correlation not defined"


def boxes(x, y, texts, places, width, height):
    for left, up, text, place in zip(x, y, texts, places, strict=True):
        across, down = left * width + place.right, (1 - up) * height + place.down
        half = LETTER_PX * len(text) / 2
        yield across - half, across + half, down - LINE_PX / 2, down + LINE_PX / 2


@pytest.mark.parametrize("seed", range(4))
def test_names_of_points_keep_apart(seed):
    rng = np.random.default_rng(seed)
    x, y = 0.1 + 0.8 * rng.random((2, 10))
    # A cluster closer than any label is wide.
    x[5:8] = x[5] + 0.01 * np.arange(3)
    y[5:8] = y[5]
    texts = ["transformer 12", "LSTM 4", "conv 11", "wav2letter", "g2p", "conv-LSTM 7", "LSTM 8", "big", "one", "two"]
    places = place_labels(x, y, texts, SCATTERS_PX)
    for width, height in SCATTERS_PX:
        all_boxes = list(boxes(x, y, texts, places, width, height))
        for left, right, top, bottom in all_boxes:
            assert left >= -1
            assert right <= width + 1
            assert top >= -1
            assert bottom <= height + 1
        for one, other in itertools.combinations(all_boxes, 2):
            across, along = min(one[1], other[1]) - max(one[0], other[0]), min(one[3], other[3]) - max(one[2], other[2])
            assert across <= 1 or along <= 1
    assert all(np.hypot(place.right, place.down) < 130 for place in places)


def test_a_lone_point_has_its_name_beside_it():
    (place,) = place_labels(np.array([0.5]), np.array([0.5]), ["conv"], SCATTERS_PX)
    assert not place.led
    assert place.down == 0


def test_matrix_of_networks_is_not_turned_over_and_parted_where_it_must_be():
    data = made_up.networks_matrix()
    data["matrix"][0, 2, 9] = 0.123
    panel = network_matrix(data.transpose("other_representation", ...))[0]
    heatmap = panel.data[0]
    assert heatmap.y[2] == "a / epoch 0 / conv3"
    assert heatmap.x[9] == "b / epoch 18 / conv1"
    assert heatmap.z[2][9] == pytest.approx(0.123)
    upright = {shape.x0: shape.line.width for shape in panel.layout.shapes if shape.xref == "x"}
    level = {shape.y0: shape.line.width for shape in panel.layout.shapes if shape.yref == "y"}
    assert upright == level
    # Three networks of six rows, two checkpoints each.
    assert sorted(upright) == [2.5, 5.5, 8.5, 11.5, 14.5]
    assert upright[5.5] == upright[11.5] > upright[2.5] == upright[8.5] == upright[14.5]
    named = {(note.text, note.x) for note in panel.layout.annotations if note.xref == "x" and "<br>" in note.text}
    assert ("b<br>epoch 18", 10) in named


def test_labels_of_rows_go_where_there_is_no_room():
    def rows(networks, epochs, layers, plot_px=340.0):
        return label_rows(list(made_up.networks_matrix(networks, epochs, layers)["representation"].values), plot_px)

    small = rows(("a", "b"), (18,), 5)
    assert small.inner == tuple(f"conv{layer}" for layer in range(1, 6)) * 2
    assert [(block.first, block.last, block.lines) for block in small.outer] == [
        (0, 4, ("a", "epoch 18")),
        (5, 9, ("b", "epoch 18")),
    ]
    assert (small.networks, small.checkpoints) == ((4,), ())
    # Rows too thin for their own labels, blocks wide enough for theirs.
    thin = rows(("a", "b"), (0, 18), 12)
    assert thin.inner == ()
    assert [block.lines for block in thin.outer] == [(n, f"epoch {e}") for n in "ab" for e in (0, 18)]
    assert thin.networks == (23,)
    assert thin.checkpoints == (11, 35)
    # Many checkpoints: only networks keep a name.
    many = rows(("a", "b"), tuple(range(20)), 2)
    assert [(block.first, block.last, block.lines) for block in many.outer] == [(0, 39, ("a",)), (40, 79, ("b",))]
    plain = label_rows(["conv1", "conv2"], 340.0)
    assert (plain.inner, plain.outer, plain.networks) == (("conv1", "conv2"), (), ())


def test_a_band_is_interrupted_where_it_is_not_known():
    low, high = np.array([0.1, 0.2, np.nan, 0.4]), np.array([0.3, 0.4, 0.5, 0.6])
    area = band([0, 1, 2, 3], low, high, "#0091e4", "conv", of=1)
    assert list(area.x) == [0, 1, 1, 0, 0, None, 3, 3, 3, None]
    assert list(area.y) == [0.1, 0.2, 0.4, 0.3, 0.1, None, 0.4, 0.6, 0.4, None]
    assert not area.showlegend


def test_names_cannot_become_markup():
    data = made_up.errors(["<b>", "a & b", *"cdefg"])
    assert [note.text for note in similarity_and_errors(data)[0].layout.annotations][:2] == ["&lt;b&gt;", "a &amp; b"]
    marked = made_up.networks_matrix(("<b>", "c"), (0,), 2)
    panel = network_matrix(marked)[0]
    assert panel.data[0].x[0] == "&lt;b&gt; / epoch 0 / conv1"
    assert "&lt;b&gt;<br>epoch 0" in {note.text for note in panel.layout.annotations}


def upside_down():
    data = made_up.through_training()
    return data.assign(
        to_node_interval=data["to_node_interval"].isel(bound=[1, 0]).assign_coords(bound=["low", "high"])
    )


def unbounded():
    data = made_up.through_training()
    return data.assign_coords(bound=["lower", "upper"])


def without(data: xr.Dataset, name: str) -> xr.Dataset:
    data = data.copy()
    del data.attrs[name]
    return data


BAD = {
    "no epoch": (lambda: nodes_by_depth(made_up.through_training(), epoch=99), "no checkpoint of epoch 99"),
    "no node": (lambda: nodes_by_depth(made_up.through_training().drop_vars("to_node")), "lacks to_node"),
    "no N": (lambda: nodes_by_depth(without(made_up.through_training(), "utterances")), "'utterances'"),
    "upside down": (lambda: nodes_by_depth(upside_down()), "upside down"),
    "other bounds": (lambda: nodes_by_depth(unbounded()), "bounds lower, upper"),
    "no test frames": (lambda: probes_by_depth(without(made_up.through_training(), "test_frames")), "'test_frames'"),
    "nothing probed": (
        lambda: probes_by_depth(made_up.through_training().sel(node=["mel"])),
        "linear probes is empty",
    ),
    "no network": (lambda: adjacent_layers(made_up.adjacent().isel(network=[])), "nothing along network"),
    "no utterances": (lambda: adjacent_layers(without(without(made_up.adjacent(), "frames"), "utterances")), "utter"),
    "no error rate": (lambda: similarity_and_errors(made_up.errors().drop_vars("wer")), "lacks wer"),
    "empty condition": (
        lambda: similarity_and_errors(made_up.errors().where(made_up.errors()["condition"] == "clean")),
        "noise 10 dB",
    ),
    "no matrix": (lambda: network_matrix(made_up.networks_matrix().drop_vars("matrix")), "lacks matrix"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_told_in_words(name):
    call, words = BAD[name]
    with pytest.raises(OtoscopeError) as caught:
        call()
    assert isinstance(caught.value, BadInput)
    assert words in str(caught.value)
    assert "wanted:" in str(caught.value)


def test_an_interval_of_other_dimensions_is_refused():
    data = made_up.through_training()
    data["to_last_interval"] = data["to_last_interval"].isel(layer=0)
    with pytest.raises(BadInput, match="another shape"):
        interval_of(data, "to_last", "table")
    assert interval_of(data.drop_vars("to_next_interval"), "to_next", "table") is None
