"""The figures of `otoscope reproduce insights` with their captions, for print; holes where networks are missing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from otoscope.show.print_insights import (
    MEASURE_NAMES,
    READING_NAMES,
    four_panels,
    layer_handles,
    neighbouring_layers,
    through_training,
    tidy_panels,
    wer_by_depth,
)
from otoscope.show.print_style import mark_gap, missing_figure, save_print, say
from otoscope.study.insights_settings import CNNS, Settings
from otoscope.study.series_tables import seeds_in_words

TITLES = {"figure2": "CNN", "figure3": "LSTM", "figure4": "Transformer"}
CURVE_WORDS = {"to_last": "the last epoch", "to_next": "the next epoch"}


def figure_networks(settings: Settings) -> dict[str, str]:
    """Which network each figure through training shows."""
    return {"figure2": settings.cnn, "figure3": "lstm", "figure4": "transformer"}


def draw_table(out: Path, table: xr.Dataset | None, names: Sequence[str], seeds: Sequence[int]) -> list[Path]:
    """Table 1 as a figure, `wer.pdf` and `.png`: the CNNs from shallow to deep."""
    wanted = [name for name in reversed(CNNS) if name in names]
    wanted += [name for name in names if name not in CNNS]
    if table is None:
        return save_print(missing_figure("no network is trained", caption="Word errors."), out, "wer")
    figure = wer_by_depth(table, wanted)
    conditions = ", ".join(map(str, table["condition"].values))
    caption = (
        f"Word errors by number of convolutions, {conditions} (the paper's Table 1). Large points: mean over "
        f"{_seeds(table['by_seed'])}; small points: each seed; thick bars: 95 % interval over utterances "
        f"(bootstrap), thin bars: over seeds, where there are several (Student's t). N = {_words(table['words'])}."
    )
    return save_print(
        say(figure, caption + _holes(wanted, table["network"].values, seeds, table["seed"].values)), out, "wer"
    )


def draw_neighbours(out: Path, found: xr.Dataset | None, facts: dict[str, Any], names: Sequence[str]) -> list[Path]:
    """Figure 1: neighbouring convolutions of the converged CNNs."""
    wanted = [name for name in reversed(CNNS) if name in names and name != "conv-lstm-1"]
    if found is None:
        text = "no CNN of two convolutions is trained"
        return save_print(missing_figure(text, caption="Figure 1."), out, "figure1")
    handles = layer_handles([name.removeprefix("conv-lstm-") for name in wanted])
    figure, panels = four_panels("", handles, "convolutions in the network")
    there = [name for name in wanted if name in found["network"].values]
    for (reading, measure), ax in panels.items():
        at = {"reading": reading, "measure": measure}
        # Networks that are not there keep their colour.
        lines = found["adjacent"].sel(at).reindex(network=wanted)
        shuffled = found["adjacent_shuffled"].sel(at).reindex(network=wanted) if "adjacent_shuffled" in found else None
        neighbouring_layers(lines, shuffled, labels=False, ax=ax)
        if len(there) < len(wanted):
            gone = ", ".join(name.removeprefix("conv-lstm-") for name in wanted if name not in there)
            mark_gap(ax, f"{gone}, not trained")
    tidy_panels(panels)
    depths = ", ".join(name.removeprefix("conv-lstm-") for name in there)
    caption = (
        f"Similarity of each convolution with the next in converged networks of {depths} convolutions (the paper's "
        f"Figure 1); lines: mean over {_seeds(found['adjacent'])}, shades: lowest to highest seed, dashes: the same "
        "networks untrained, dots: utterances paired with others. N: paper's reading, 100 frames of 1 utterance, "
        f"which cannot be paired with others ({facts['paper_adjacent_frames']} data points); recommended, "
        f"{facts['recommended_utterances']} utterances ({facts['recommended_adjacent_frames']} points). Neurons are "
        "channels, bands averaged to the fewest."
    )
    return save_print(say(figure, caption + _holes(wanted, there)), out, "figure1")


def draw_training(
    out: Path, name: str, network: str, found: xr.Dataset | None, facts: dict[str, Any], seeds: Sequence[int]
) -> list[Path]:
    """Figure 2, 3 or 4: every layer through training, against the last epoch and against the next."""
    title = f"{TITLES[name]} ({network})"
    if found is None:
        text = f"{title} is not trained"
        return save_print(missing_figure(text, caption=f"Figure {name[-1]}."), out, name)
    paths = []
    layers = [str(layer) for layer in found["layer"].values]
    there = [int(seed) for seed in found["seed"].values]
    for curve, words in CURVE_WORDS.items():
        figure, panels = four_panels("", layer_handles(layers), "layers, shallow to deep")
        for measure in MEASURE_NAMES:
            lowest = float(found[curve].sel(measure=measure).min())
            for reading in READING_NAMES:
                values = found[curve].sel(reading=reading, measure=measure)
                through_training(values, least=int(10 * max(lowest, 0)) / 10, ax=panels[reading, measure])
                if gone := [str(seed) for seed in seeds if seed not in there]:
                    mark_gap(panels[reading, measure], f"seed {', '.join(gone)}, not trained")
        tidy_panels(panels)
        caption = (
            f"{title}: similarity of each layer with itself at {words}, by SVCCA and CKA (the paper's Figure "
            f"{name[-1]}); lines: mean over {seeds_in_words({network: there})}, shades: lowest to highest seed, "
            f"dotted: 0.95. N: paper's reading, 100 frames of 1 utterance ({facts['paper_frames']} data points or more "
            f"a layer); recommended, {facts['recommended_utterances']} utterances "
            f"({facts['recommended_frames']} or more)."
        )
        caption += _holes([network], [network], seeds, there)
        if int(found[curve].isnull().all(("reading", "measure", "seed", "layer")).sum()) > (curve == "to_next"):
            caption += " Hatched: epochs whose checkpoint is missing."
        paths += save_print(say(figure, caption), out, name if curve == "to_last" else f"{name}-next")
    return paths


def _seeds(values: xr.DataArray) -> str:
    """Which seeds the networks of a table have."""
    there = values.notnull().any([dim for dim in values.dims if dim not in ("network", "seed")])
    return seeds_in_words(
        {
            str(network): [int(seed) for seed in values["seed"].values if there.sel(network=network, seed=seed)]
            for network in values["network"].values
        }
    )


def _words(words: xr.DataArray) -> str:
    """How many words were scored."""
    counts = {str(name): int(count) for name, count in zip(words["condition"].values, words.values, strict=True)}
    if len(set(counts.values())) == 1:
        return f"{next(iter(counts.values()))} words in each condition"
    return ", ".join(f"{count} words {name}" for name, count in counts.items())


def _holes(wanted: Sequence[str], there: Any, seeds: Sequence[int] = (), seeds_there: Sequence[int] | Any = ()) -> str:
    """What a figure lacks, as a sentence of its caption."""
    names = [name for name in wanted if name not in list(there)]
    numbers = [str(seed) for seed in seeds if seed not in list(seeds_there)]
    gone = [*names, *(f"seed {number}" for number in numbers)]
    return f" Missing, since not trained or not whole: {', '.join(gone)}." if gone else ""
