"""Tables of figures: what a caption counts is what was clustered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

from otoscope.study.gradnap_analysis import Analysis
from otoscope.study.gradnap_plates import save_plates, silhouette_table


def test_the_silhouettes_count_the_groups_that_were_clustered():
    """Groups of too few instances have no profile, and are in no tree: N is not that of all that occur."""
    measures = xr.Dataset(
        {
            "silhouette": (("condition", "grouping", "layer", "percentile"), np.full((1, 2, 1, 1), 0.2)),
            "silhouette_mean": (("condition", "grouping", "layer"), np.full((1, 2, 1), 0.2)),
            "instances": (("condition", "group"), [[40.0, 30.0, 20.0, 2.0]]),
        },
        coords={
            "condition": ["network"],
            "grouping": ["symbol", "phone"],
            "groups": ("grouping", [3.0, np.nan]),
            "layer": ["layer1"],
            "percentile": [75],
            "group": ["symbol:a", "symbol:b", "symbol:c", "symbol:q"],
        },
    )
    table = silhouette_table(Analysis("speech", measures=measures, facts={"instances": 92}))
    assert (table.attrs["symbol_groups"], table.attrs["phone_groups"], table.attrs["instances"]) == (3, 0, 92)


def test_captions_say_how_much_was_heard(tmp_path: Path):
    facts = {"utterances": 1, "speakers": 1, "seconds": 90.0, "epoch": 3, "wer": float("nan"), "words": 0}
    save_plates(Analysis("speech", facts=facts, holes={"phone-trees": "no phones"}), tmp_path)
    caption = " ".join((tmp_path / "figures" / "speech-figure-4b.txt").read_text(encoding="utf-8").split())
    assert caption.endswith("N: none. Speech: speech, 1 utterance of 1 speaker, 1.5 min. Network: epoch 3.")
