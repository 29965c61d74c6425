"""Colours: told apart by colour-blind readers, and standing out from the page."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from otoscope.show import style


def linear_rgb(colour: str) -> np.ndarray:
    parts = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """WCAG 2.2's contrast ratio."""
    bright, dim = sorted((float(np.dot([0.2126, 0.7152, 0.0722], linear_rgb(c))) for c in (one, other)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def lab(rgb: np.ndarray) -> np.ndarray:
    matrix = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    white = np.array([0.9505, 1.0, 1.089])
    t = np.array(matrix) @ np.clip(rgb, 0, 1) / white
    f = np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


# Machado, Oliveira and Fernandes 2009, table 1, severity 1.
VISION = {
    "trichromat": np.eye(3),
    "protanope": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranope": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
}


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("colours", [style.CATEGORIES, style.CATEGORIES_DARK])
def test_categories_can_be_told_apart_by_colour_blind_readers(vision, colours):
    seen = [lab(np.array(VISION[vision]) @ linear_rgb(colour)) for colour in colours]
    distances = {(i, j): float(np.linalg.norm(seen[i] - seen[j])) for i, j in itertools.combinations(range(8), 2)}
    # 2.3 is just noticeable; thin lines need several times that. The first five colour neurons.
    assert min(distances.values()) > 18
    assert min(distance for (_, j), distance in distances.items() if j < 5) > 25


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_lines_and_text_stand_out_from_the_page(theme):
    page = style.BACKGROUND[theme]
    colours = style.CATEGORIES if theme == "light" else style.CATEGORIES_DARK
    assert min(contrast(colour, page) for colour in colours) >= 3
    depth = style.depth_colours(12) if theme == "light" else [style.dark_twins()[c] for c in style.depth_colours(12)]
    levels = [contrast(colour, page) for colour in depth]
    assert min(levels) >= 2.5
    # Lightness alone tells the order of the layers.
    assert levels == sorted(levels, reverse=theme == "dark")
    assert min(contrast(text[theme], page) for text in (style.INK, style.FAINT_INK)) >= 4.5
