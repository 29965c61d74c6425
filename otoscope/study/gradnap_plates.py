"""The figures and tables of a set of speech as files: tables first, and figures from nothing but the tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

from otoscope.probe.taps import INPUT
from otoscope.show.print_gradnap import action_potentials, input_profiles, receptive_fields
from otoscope.show.print_gradnap_layers import controls, dendrograms, silhouettes_by_threshold
from otoscope.show.print_style import missing_figure, save_print
from otoscope.show.reading import amount
from otoscope.study.gradnap_analysis import Analysis
from otoscope.study.gradnap_claims import claims_table, save_claims
from otoscope.study.gradnap_measures import GRAPHEMES, OWN, PART, PHONES, RANDOM, SHUFFLED, jackknife
from otoscope.study.gradnap_tables import save_wide
from otoscope.study.kept import MADE_WITH
from otoscope.study.results import save_table

FIGURES, TABLES = "figures", "tables"
WIDE = ("inputs", "neurons")
"""Tables of maps, which have a row for each frequency or unit."""
CUT_SHORT = "its data could not be made"


def save_plates(analysis: Analysis, out: Path) -> tuple[list[Path], list[Path]]:
    """Write `out/tables/NAME-….nc` and `.csv`, and `out/figures/NAME-….pdf`, `.png` and `.txt`; returns their paths.

    Raises:
        OtoscopeError: a file cannot be written.
    """
    name = analysis.name
    tables: list[Path] = []
    for key, table in analysis.tables.items():
        plain = table.copy()
        plain.attrs.pop(MADE_WITH, None)
        if key in WIDE:
            tables += save_wide(plain, out / TABLES, f"{name}-{key}")
        else:
            tables += save_table(plain, out / TABLES, f"{name}-{key}")
    if analysis.measures is not None:
        tables += save_wide(analysis.measures.drop_attrs(), out / TABLES, f"{name}-measures", csv=False)
        tables += save_table(silhouette_table(analysis), out / TABLES, f"{name}-silhouettes")
        tables.append(save_claims(claims_table(analysis.measures), out / TABLES, f"{name}-claims"))
    return _figures(analysis, out / FIGURES), tables


def silhouette_table(analysis: Analysis) -> xr.Dataset:
    """The network's silhouettes, and the ends of what its controls give.

    Returns:
        A Dataset: `silhouette` `(grouping, layer, percentile)`; `silhouette_mean` `(grouping, layer)`; `bands`
        `(control, bound, grouping, layer)`: the 95 % interval, and the least and largest of shuffled labels and of
        random weights, NaN where there are none. Attributes `symbol_groups`, `phone_groups`, `instances`.
    """
    measures = analysis.measures
    if measures is None or "silhouette" not in measures:
        return xr.Dataset()
    names = np.array([str(condition) for condition in measures["condition"].values])
    own = measures.isel(condition=int(np.flatnonzero(names == OWN)[0]), drop=True)
    means = measures["silhouette_mean"].transpose("condition", "grouping", "layer").drop_vars("condition")
    bands = []
    for start in (PART, SHUFFLED, RANDOM):
        rows = means.isel(condition=np.flatnonzero(np.char.startswith(names, start)))
        if start == PART and rows.sizes["condition"] > 1:
            low, high = jackknife(own["silhouette_mean"].transpose("grouping", "layer"), rows)
        elif rows.sizes["condition"] and start != PART:
            low, high = rows.min("condition"), rows.max("condition")
        else:
            low = high = own["silhouette_mean"].transpose("grouping", "layer") * np.nan
        bands.append(xr.concat([low, high], xr.Variable("bound", ["low", "high"])))
    # Of those that were clustered: rarer groups have no profile.
    clustered = own["groups"].fillna(0)
    counts = {f"{kind}_groups": int(clustered.sel(grouping=kind)) for kind in (GRAPHEMES, PHONES)}
    return xr.Dataset(
        {
            "silhouette": own["silhouette"],
            "silhouette_mean": own["silhouette_mean"],
            "bands": xr.concat(bands, xr.Variable("control", ["interval", SHUFFLED, RANDOM])),
        },
        attrs={**counts, "instances": int(analysis.facts.get("instances", 0))},
    )


def _figures(analysis: Analysis, folder: Path) -> list[Path]:
    about, name, tables = _about(analysis), analysis.name, analysis.tables

    def hole(key: str, number: str) -> list[Path]:
        words = analysis.missing or analysis.holes.get(key, CUT_SHORT)
        return save_print(missing_figure(words, caption=f"{number}, {name}."), folder, f"{name}-{number}")

    made = []
    for key, number, draw in (
        ("inputs", "figure-2", input_profiles),
        ("neurons", "figure-3", action_potentials),
    ):
        figure = draw(tables[key], about=about) if key in tables else None
        made += hole(key, number) if figure is None else save_print(figure, folder, f"{name}-{number}")
    measures = analysis.measures
    if measures is not None and "silhouette" in measures:
        table = silhouette_table(analysis)
        ends = {
            str(control): xr.Dataset(
                {str(b): table["bands"].sel(control=control, bound=b, drop=True) for b in ("low", "high")}
            )
            for control in table["control"].values
            if np.isfinite(table["bands"].sel(control=control)).any()
        }
        made += save_print(silhouettes_by_threshold(table, ends, about=about), folder, f"{name}-figure-4a")
    else:
        made += hole("silhouettes", "figure-4a")
    made += save_print(dendrograms(_trees(analysis), about=about), folder, f"{name}-figure-4b")
    if "fields" in tables:
        figure = receptive_fields(tables["fields"], about=about)
        made += save_print(figure, folder, f"{name}-receptive-fields")
    else:
        made += hole("fields", "receptive-fields")
    if measures is None:
        return made + hole("controls", "controls")
    names = np.array([str(condition) for condition in measures["condition"].values])
    kept = [key for key in ("decay", "peak_s", "purity") if key in measures]

    def mean(start: str) -> xr.Dataset:
        return measures[kept].isel(condition=np.flatnonzero(np.char.startswith(names, start))).mean("condition")

    own = measures.isel(condition=int(np.flatnonzero(names == OWN)[0]), drop=True)
    own = own.assign_attrs(instances=int(analysis.facts["instances"]))
    beside = {start: mean(start) for start in (RANDOM, SHUFFLED) if np.char.startswith(names, start).any()}
    return made + save_print(controls(own, beside, about=about), folder, f"{name}-controls")


def _trees(analysis: Analysis) -> list[tuple[xr.Dataset, str, str]]:
    """What Figure 4 shows, graphemes and phones in the last layer but one, and phones in layers below and above it."""
    found = []
    for key, name in (("grapheme-trees", "graphemes"), ("phone-trees", "phones")):
        table = analysis.tables.get(key)
        if table is None:
            why = analysis.missing or analysis.holes.get(key, CUT_SHORT)
            found.append((xr.Dataset(), "", f"{name}: {why}"))
            continue
        layers = [str(layer) for layer in table["layer"].values if layer != INPUT]
        chosen = [layers[max(0, len(layers) - 2)]]
        if key == "phone-trees":
            chosen = list(dict.fromkeys([layers[len(layers) // 2 - 1], layers[max(0, len(layers) - 3)], *chosen]))
        found += [(table, layer, name) for layer in chosen]
    return found


def _about(analysis: Analysis) -> str:
    """Which speech and network, for a caption."""
    facts, note = analysis.facts, f" ({analysis.note})" if analysis.note else ""
    if not facts:
        return ""
    wer = "" if not np.isfinite(facts["wer"]) else f", {facts['wer']:.1f} % word errors on {facts['words']} words of it"
    heard = f"{amount(facts['utterances'], 'utterance')} of {amount(facts['speakers'], 'speaker')}"
    heard += f", {facts['seconds'] / 60:.1f} min"
    return f"Speech: {analysis.name}, {heard}. Network: epoch {facts['epoch']}{wer}{note}."
