"""Figures for papers: fonts embedded, the same bytes each time, captions beside them, nothing global touched."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from otoscope.show.print_style import (
    COLUMN_IN,
    DPI,
    axes_of,
    figure_of,
    mark_gap,
    missing_figure,
    printed,
    save_print,
    say,
)


@printed
def drawn(ax: Axes | None = None) -> Figure:
    ax = axes_of(ax)
    ax.plot([0, 1], [0, 1])
    ax.set_xlabel("frequency (Hz)")
    return say(figure_of(ax), "A line. N = 2 points.")


def test_fonts_are_embedded_as_truetype(tmp_path):
    pdf, _, _ = save_print(drawn(), tmp_path, "line")
    data = pdf.read_bytes()
    assert b"/FontFile2" in data
    assert b"/Type3" not in data


def test_a_png_is_as_wide_as_a_column(tmp_path):
    _, png, _ = save_print(drawn(), tmp_path, "line")
    width = int.from_bytes(png.read_bytes()[16:20], "big")
    assert width == pytest.approx(COLUMN_IN * DPI, abs=1)


def test_the_caption_stands_beside_and_within(tmp_path):
    pdf, png, caption = save_print(drawn(), tmp_path, "line")
    assert caption.read_text(encoding="utf-8") == "A line. N = 2 points.\n"
    assert b"N = 2 points." in png.read_bytes()
    assert b"N = 2 points." in pdf.read_bytes()


def test_the_same_figure_is_the_same_bytes(tmp_path):
    first = [path.read_bytes() for path in save_print(drawn(), tmp_path / "a", "line")]
    second = [path.read_bytes() for path in save_print(drawn(), tmp_path / "b", "line")]
    assert first == second


def test_own_axes_are_drawn_on_and_own_settings_stay():
    figure = Figure()
    left, right = figure.subplots(1, 2)
    before = dict(matplotlib.rcParams)
    assert drawn(ax=left) is figure
    assert dict(matplotlib.rcParams) == before
    np.testing.assert_array_equal(left.lines[0].get_xdata(), [0, 1])
    assert not right.lines


def test_a_figure_of_which_there_is_nothing_is_hatched_and_says_why():
    figure = missing_figure("LSTM is not trained", caption="Figure 3.")
    (ax,) = figure.axes
    assert [text.get_text() for text in ax.texts] == ["missing: LSTM is not\ntrained"]
    assert [patch.get_hatch() for patch in ax.patches] == ["////"]
    assert figure.get_label() == "Figure 3. Missing: LSTM is not trained."


def test_a_gap_is_named_and_leaves_what_is_there():
    ax = axes_of(None)
    ax.plot([0, 1], [0, 1])
    mark_gap(ax, "seed 2, not trained")
    assert [text.get_text() for text in ax.texts] == ["missing: seed 2, not trained"]
    assert ax.texts[0].get_bbox_patch().get_hatch() == "////"
    assert len(ax.lines) == 1
    assert ax.get_xticks().size
