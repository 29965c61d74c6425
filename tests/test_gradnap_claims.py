"""Claims in numbers: which of them have an interval."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from otoscope.study.gradnap_claims import claims_table

CONDITIONS = ["network", *(f"without part {n}" for n in range(1, 6)), "random weights 1", "shuffled labels 1"]


def measures() -> xr.Dataset:
    """One layer, whose numbers are the same in all conditions but those named here."""
    count = len(CONDITIONS)
    by_layer = ("condition", "reading", "layer", "grouping")
    dims = ("condition", "way", "vowel", "number")
    jumping = np.full((count, 1, 1, 2), 650.0)
    jumping[5] = 1700.0
    return xr.Dataset(
        {
            "outside": ((*by_layer, "beyond"), np.linspace(0.3, 0.37, count).reshape(-1, 1, 1, 1, 1)),
            "extent_s": (by_layer, np.full((count, 1, 1, 1), 0.1)),
            "peak_s": (by_layer, np.full((count, 1, 1, 1), 0.1)),
            "decay": (("condition", "reading", "layer", "distance"), np.full((count, 1, 1, 2), 0.5)),
            "field_s": (("condition", "layer"), np.full((count, 1), 0.04)),
            "fall": (("condition", "reading", "group"), np.zeros((count, 1, 1))),
            "falling": (("condition", "reading", "group"), np.zeros((count, 1, 1))),
            "formant_hz": (dims, jumping),
            "formant_near": (dims, np.ones((count, 1, 1, 2))),
            "formant_chance": (dims, np.full((count, 1, 1, 2), 0.25)),
        },
        coords={
            "condition": CONDITIONS,
            "reading": ["GradNAP"],
            "layer": ["input"],
            "grouping": ["phone"],
            "group": ["phone:T"],
            "beyond": [0.1],
            "distance": [0.0, 0.04],
            "way": ["GradNAP"],
            "vowel": ["AH"],
            "number": [1, 2],
        },
    )


def test_only_what_changes_smoothly_with_the_speech_has_an_interval():
    """A peak that jumps to the next formant when a part is left out would have one that reaches below 0 Hz."""
    table = claims_table(measures()).set_index("what")
    share = table.loc["GradNAP: share of the mass more than 100 ms away, input"]
    # Tukey: the network's 0.3; of 0.31 … 0.35 the mean is 0.33, the sum of squares 0.001, and t of 4 is 2.776.
    reach = 2.7764 * np.sqrt(4 / 5 * 0.001)
    assert (share["low"], share["high"]) == pytest.approx((0.3 - reach, 0.3 + reach), abs=1e-5)
    for what in ("peak (Hz)", "lies by the formant (1 or 0)", "frequencies that would"):
        assert table.loc[f"GradNAP: {what}", ["low", "high"]].isna().all(axis=None)
