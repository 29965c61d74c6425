"""Spectrograms of optimal inputs: the right numbers in the right place, units on the axes, N and what was reached."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from otoscope.base import BadInput
from otoscope.hear.audio import mel_frequencies
from otoscope.show.figures_optimal import optimal_spectrograms

SETS = ["phone:AE", "phone:T"]


def made_up(layer: str = "conv2", frames: int = 21, mels: int = 128, loudness: float = 1.0) -> xr.Dataset:
    """A band at 700 Hz for the first set, a click in the middle for the second."""
    hertz = mel_frequencies(mels)
    values = np.zeros((2, frames, mels), np.float32)
    values[0, :, np.abs(hertz - 700).argmin()] = loudness
    values[1, frames // 2] = -loudness / 2
    return xr.Dataset(
        {
            "input": (("set", "frame", "mel"), values),
            "activation": (("set", "step"), np.stack([np.linspace(-0.5, 3, 17), np.linspace(0, 1, 17)])),
        },
        coords={
            "set": SETS,
            "time": ("frame", (np.arange(frames) - frames // 2) * 0.01),
            "frequency": ("mel", hertz),
            "size": ("set", [5, 1]),
            "held": ("set", [0, 1]),
        },
        attrs={"layer": layer, "target": "pre-activation"},
    )


def test_a_panel_per_layer_and_set_says_what_it_shows():
    figures = optimal_spectrograms({"conv1": made_up("conv1"), "conv2": made_up()})
    assert [figure.layout.title.text for figure in figures] == [
        "/AE/ in conv1",
        "/T/ in conv1",
        "/AE/ in conv2",
        "/T/ in conv2",
    ]
    assert figures[0].layout.title.subtitle.text == "N = 5 units, −0.50 to +3.00 in 16 steps"
    assert figures[1].layout.title.subtitle.text == (
        "N = 1 unit, +0.00 to +1.00 in 16 steps<br>held at 0 by L1: what shows is noise"
    )
    for figure in figures:
        assert figure.layout.xaxis.title.text == "time (ms)"
        assert figure.layout.yaxis.title.text == "frequency (Hz)"
        assert "sd of the log-mel" in figure.layout.coloraxis.colorbar.title.text


def test_a_planted_band_lies_at_its_frequency_and_a_click_at_its_time():
    band, click = optimal_spectrograms(made_up())
    values = np.asarray(band.data[0].z, float)
    row = int(np.abs(values).sum(1).argmax())
    assert abs(mel_frequencies()[row] - 700) < 12
    assert int(np.asarray(band.data[0].customdata)[row, 0]) == round(mel_frequencies()[row])
    tick = dict(zip(band.layout.yaxis.ticktext, band.layout.yaxis.tickvals, strict=True))
    assert tick["500"] < row < tick["1k"]
    columns = np.abs(np.asarray(click.data[0].z, float)).sum(0)
    assert np.asarray(click.data[0].x, float)[columns.argmax()] == 0
    assert list(np.asarray(click.data[0].x, float)[[0, -1]]) == [-100, 100]


def test_one_scale_for_all_or_one_for_each_layer():
    tables = {"a": made_up("a"), "b": made_up("b", loudness=4)}

    def limits(figures):
        return [(figure.layout.coloraxis.cmin, figure.layout.coloraxis.cmax) for figure in figures]

    assert len(set(limits(optimal_spectrograms(tables)))) == 1
    assert limits(optimal_spectrograms(tables, shared_scale=False)) == [(-1, 1)] * 2 + [(-4, 4)] * 2


def test_sets_are_chosen_in_order():
    figures = optimal_spectrograms(made_up(), ["phone:T", "phone:AE"])
    assert [figure.layout.title.text for figure in figures] == ["/T/ in conv2", "/AE/ in conv2"]


def test_bands_without_frequencies_are_numbered():
    (figure, _) = optimal_spectrograms(made_up().drop_vars("frequency"))
    assert figure.layout.yaxis.title.text == "mel band"
    assert list(figure.layout.yaxis.ticktext) == ["0", "127"]


def test_names_cannot_become_markup():
    table = made_up("<b>x").assign_coords(set=["<i>y", "z"])
    figure = optimal_spectrograms(table)[0]
    assert figure.layout.title.text == "&lt;i&gt;y in &lt;b&gt;x"


def without_layer() -> xr.Dataset:
    table = made_up()
    del table.attrs["layer"]
    return table


@pytest.mark.parametrize(
    ("tables", "sets", "words"),
    [
        ({}, None, "no optimal inputs to draw"),
        (made_up(), ["phone:S"], "no optimal input of phone:S"),
        (made_up(), [], "no sets were chosen"),
        (made_up().drop_vars("activation"), None, "step|activation"),
        (made_up().drop_vars("time"), None, "without time"),
        (made_up().isel(frame=slice(0)), None, "nothing along frame"),
        (without_layer(), None, "does not say 'layer'"),
        (made_up() * np.nan, None, "cannot be drawn"),
        (made_up(loudness=0), None, "cannot be drawn"),
    ],
)
def test_bad_input_is_told_in_words(tables, sets, words):
    with pytest.raises(BadInput, match=words):
        optimal_spectrograms(tables, sets)
