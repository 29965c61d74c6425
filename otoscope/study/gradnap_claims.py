"""What Krug et al. 2020 say of GradNAPs, claim by claim: the network's number beside the same of its controls.

Nothing is judged here: a row says what was measured, how sure it is, and what random weights, shuffled labels and a
network of another seed give.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from otoscope.base import atomic_path
from otoscope.study.gradnap_measures import OTHER, OWN, PART, RANDOM, SHUFFLED, jackknife

LEVEL = 0.95
CLAIMS = {
    "regions": "profiles show only prediction-relevant regions where NAvAI shows the whole field",
    "formants": "input profiles show the formants of vowels",
    "t": "the input profile of /t/ changes from high to low intensity at the alignment",
    "decay": "values fall to zero away from the alignment",
    "centre": "responses are close to the centre",
    "phones": "phones cluster better than graphemes in deep layers",
    "depth": "silhouettes do not rise steadily with depth",
    "categories": "phonemic categories emerge in the last layers",
}


def claims_table(measures: xr.Dataset) -> pd.DataFrame:
    """A row for each number of a claim.

    Args:
        measures: of `otoscope.study.gradnap_analysis.analyse`.

    Returns:
        Columns `claim`, `what` (the number), `layer` and `group` (blank where it is of none); `network`, with `low` and
        `high` (95 %, jackknife over parts of the speech); `random_weights` and `shuffled_labels`, means over draws,
        with their `_low` and `_high`, the least and the largest; `another_seed`. NaN where there is none.
    """
    rows = [
        {"claim": claim, "what": what, "layer": layer, "group": group} | _beside(values)
        for claim, what, layer, group, values in _numbers(measures)
    ]
    return pd.DataFrame(rows)


def save_claims(table: pd.DataFrame, folder: Path, name: str) -> Path:
    """Write the table as CSV, in one step."""
    path = folder / f"{name}.csv"
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.4g")
    return path


def _numbers(measures: xr.Dataset) -> Iterator[tuple[str, str, str, str, xr.DataArray]]:
    """Claim, number, layer, group, and its values `(condition,)`."""
    layers = [str(layer) for layer in measures["layer"].values]
    groupings = [str(kind) for kind in measures["grouping"].values]
    for kind in groupings:
        for method in map(str, measures["reading"].values):
            at = measures.sel(grouping=kind, reading=method)
            for beyond in at["beyond"].values:
                what = f"{method}: share of the mass more than {1000 * beyond:.0f} ms away, input"
                yield "regions", what, layers[0], kind, at["outside"].sel(layer=layers[0], beyond=beyond)
            for layer in layers:
                yield "regions", f"{method}: seconds that hold 95 %", layer, kind, at["extent_s"].sel(layer=layer)
                what = f"{method}: seconds from the alignment to the strongest response"
                yield "centre", what, layer, kind, at["peak_s"].sel(layer=layer)
    for method in map(str, measures["reading"].values):
        for layer in layers:
            row = measures["decay"].sel(reading=method, layer=layer)
            far = measures["distance"].values > 0.5 * float(measures["field_s"].sel(layer=layer).max())
            if far.any():
                what = f"{method}: mean |value| in the outer half of the field, as a share of the largest"
                yield "decay", what, layer, "", row.isel(distance=np.flatnonzero(far)).mean("distance")
        for group in map(str, measures["group"].values):
            if group in ("phone:T", "phone:K", "phone:P", "phone:S", "phone:AE", "phone:AA"):
                at = measures[["fall", "falling"]].sel(reading=method, group=group)
                yield "t", f"{method}: 100 ms before less 100 ms after (sd of the log-mel)", "input", group, at["fall"]
                yield "t", f"{method}: share of mel bands that fall", "input", group, at["falling"]
    if "formant_hz" in measures:
        for way in map(str, measures["way"].values):
            at = measures.sel(way=way)
            for vowel in map(str, measures["vowel"].values):
                for number in (1, 2):
                    one, of = at.sel(vowel=vowel, number=number), f"{vowel} F{number}"
                    yield "formants", f"{way}: peak (Hz)", "input", of, one["formant_hz"]
                    yield "formants", f"{way}: lies by the formant (1 or 0)", "input", of, one["formant_near"]
                    yield "formants", f"{way}: frequencies that would", "input", of, one["formant_chance"]
    if "silhouette_mean" in measures:
        for kind in groupings:
            at = measures.sel(grouping=kind)
            for layer in layers:
                what = "mean silhouette"
                yield "phones", what, layer, kind, at["silhouette_mean"].sel(layer=layer)
            yield "depth", "rank correlation of the mean silhouette with depth", "", kind, at["trend"]
        deep = layers[len(layers) // 2 :]
        for layer in layers:
            yield "phones", "phones less graphemes", layer, "", measures["more"].sel(layer=layer)
        yield (
            "phones",
            f"phones less graphemes, mean from {deep[0]} on",
            "",
            "",
            measures["more"].sel(layer=deep).mean("layer", skipna=False),
        )
    for name, what in (
        ("purity", "purity of clusters of phones against manners"),
        ("purity_chance", "the same with the manners dealt out at random"),
        ("purity_p", "how often chance reaches it"),
        ("ami", "adjusted mutual information of clusters and manners"),
    ):
        if name in measures:
            for layer in layers:
                yield "categories", what, layer, "", measures[name].sel(layer=layer)


def _beside(values: xr.DataArray) -> dict[str, float]:
    """The network's number, its interval, and its controls."""
    conditions = np.array([str(name) for name in values["condition"].values])
    own = values.isel(condition=int(np.flatnonzero(conditions == OWN)[0]), drop=True)
    found = {"network": float(own), "low": np.nan, "high": np.nan}
    parts = np.flatnonzero(np.char.startswith(conditions, PART))
    # A jackknife is of what changes smoothly with the speech: not of peaks, which jump from one to the next, of yes and
    # no, counts of near peaks, and p.
    if len(parts) > 1 and values.name not in ("formant_hz", "formant_near", "formant_chance", "purity_p"):
        low, high = jackknife(own, values.isel(condition=parts).drop_vars("condition"), LEVEL)
        found |= {"low": float(low), "high": float(high)}
    for name, start in (("random_weights", RANDOM), ("shuffled_labels", SHUFFLED), ("another_seed", OTHER)):
        there = values.values[np.char.startswith(conditions, start)]
        there = there[np.isfinite(there)]
        found[name] = float(there.mean()) if len(there) else np.nan
        if name != "another_seed":
            ends = (there.min(), there.max()) if len(there) else (np.nan, np.nan)
            found |= {f"{name}_low": float(ends[0]), f"{name}_high": float(ends[1])}
    return found
