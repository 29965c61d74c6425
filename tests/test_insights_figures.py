"""Captions of the figures of Ollerenshaw et al. 2021: what they count is there."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import xarray as xr

from otoscope.study.insights_figures import draw_neighbours, draw_table
from otoscope.study.insights_numbers import wer_table
from otoscope.study.series_tables import Row


def row(network: str, seed: int | None, condition: str, words: int) -> Row:
    return Row(network, seed, condition, 20.0, 18.0, 22.0, math.nan, math.nan, words, 20, 0, 0, 1000, 2, 1.0)


def test_a_caption_says_which_network_has_which_seeds_and_how_many_words_each_condition(tmp_path: Path) -> None:
    """Switchboard's part of Hub5'00 and CallHome's have not the same number of words."""
    rows = []
    for network, seeds in (("conv-lstm-2", (0, 1)), ("lstm", (0,))):
        for condition, words in (("SWBD", 120), ("Clhm", 150)):
            rows += [row(network, seed, condition, words) for seed in (*seeds, None)]
    draw_table(tmp_path, wer_table(rows), ["conv-lstm-2", "lstm"], [0, 1])
    caption = " ".join((tmp_path / "wer.txt").read_text(encoding="utf-8").split())
    assert "mean over 2 seeds (0, 1) of conv-lstm-2; 1 seed (0) of lstm; small" in caption
    assert "N = 120 words SWBD, 150 words Clhm." in caption


def test_figure_1_names_the_networks_that_it_shows(tmp_path: Path) -> None:
    dims = ("network", "reading", "measure", "seed", "stage", "step")
    coords = {
        "network": ["conv-lstm-2", "conv-lstm-4"],
        "reading": ["paper", "recommended"],
        "measure": ["svcca", "cka"],
        "seed": [0],
        "stage": ["untrained", "trained"],
        "step": [1, 2, 3],
    }
    shape = tuple(len(coords[dim]) for dim in dims)
    found = xr.Dataset({"adjacent": (dims, np.full(shape, 0.5))}, coords=coords)
    keys = ("paper_adjacent_frames", "recommended_utterances", "recommended_adjacent_frames")
    draw_neighbours(tmp_path, found, dict.fromkeys(keys, 7), ["conv-lstm-4", "conv-lstm-3", "conv-lstm-2"])
    caption = " ".join((tmp_path / "figure1.txt").read_text(encoding="utf-8").split())
    assert "networks of 2, 4 convolutions" in caption
    assert "Missing, since not trained or not whole: conv-lstm-3." in caption
