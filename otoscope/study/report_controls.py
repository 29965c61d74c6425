"""What the page says about controls of profiles, about profiles through training, and about optimal inputs.

Each part shows the tables that lie in the folder of results; what was not computed is not mentioned.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import xarray as xr

from otoscope.show.figures_controls import (
    cascading_randomisation,
    responsiveness_and_chance,
    silhouettes_and_chance,
    split_half_by_layer,
)
from otoscope.show.figures_optimal import optimal_spectrograms
from otoscope.show.figures_profile_training import profile_courses, profile_epochs
from otoscope.show.report import Report
from otoscope.study.optimal import OPTIMAL
from otoscope.study.results import CASCADE, CHANCE, COURSE, HALVES, SHUFFLED, load_table


def add_controls(report: Report, folder: Path) -> None:
    """Whether profiles explain the network or the data, and how sure they are."""
    found = {
        name: load_table(folder / f"{name}.nc") for name in (CASCADE, SHUFFLED, HALVES, CHANCE) if _is(folder, name)
    }
    if not found:
        return
    report.add_section(
        "The network, or the data?",
        "What survives when the network is replaced by one with random weights was in the data; what shuffled labels "
        "give is chance; what one half of the speech does not share with the other is noise.",
    )
    if CASCADE in found:
        report.add_figure(
            cascading_randomisation(found[CASCADE]),
            "How like the original the profiles and masks of each layer stay as weights are drawn anew from the output "
            "down. The band is the level of shuffled units and groups.",
            "A line for each layer, from 1 where no weight is random, to the right as more layers are; a star where "
            "all above the layer is random; bands of chance near the bottom.",
        )
        _findings(report, found[CASCADE])
    if HALVES in found:
        report.add_figure(
            split_half_by_layer(found[HALVES]),
            "Correlation of the profiles of two halves of the speech, corrected to its full length (Spearman-Brown).",
            "A line over the layers for each grouping, near 1 where profiles are reliable, in a band that holds the "
            "middle half of the groups.",
        )
        _findings(report, found[HALVES])
    if SHUFFLED in found:
        report.add_figure(
            responsiveness_and_chance(found[SHUFFLED]),
            "How strongly the units of each layer answer to a group, beside groups of the same size that mean nothing: "
            "the labels are handed out anew among stretches of speech. A filled dot is a group above 95 % of them.",
            "A dot for each group in every layer, a line through the median group, and a band around 1 that shuffled "
            "labels reach.",
        )
        _findings(report, found[SHUFFLED])
    if CHANCE in found:
        report.add_figure(
            silhouettes_and_chance(found[CHANCE]),
            "Mean silhouette of the clusters of groups, beside that of networks with random weights.",
            "A line of the network over the layers, and a band from the lowest to the highest network with random "
            "weights.",
        )
        _findings(report, found[CHANCE])


def add_course(report: Report, folder: Path, groups: Sequence[str]) -> None:
    """When profiles appear in training, and when they settle."""
    if not _is(folder, COURSE):
        return
    table = load_table(folder / f"{COURSE}.nc")
    report.add_section("When the sounds appear", "The same profiles at every checkpoint, compared with the last.")
    there = [str(group) for group in table["group"].values]
    shown = [group for group in groups if group in there]
    report.add_figure(
        profile_courses(table, shown or None),
        "Likeness of each layer's profile to that at the end. A ring: it appears, stronger than shuffled groups and "
        "like the last from then on. A diamond: it stays as it is.",
        "A small map of layers by epochs for each group.",
    )
    report.add_figure(
        profile_epochs(table),
        "The epochs at which the profile of each group appears and settles in each layer.",
        "Two maps of groups by layers, coloured by epoch.",
    )
    _findings(report, table)


def add_optimal_inputs(report: Report, folder: Path) -> None:
    """What would excite the most responsive neurons, to see and to hear."""
    tables = [load_table(path) for path in sorted(folder.glob(f"{OPTIMAL}-*.nc"))]
    if not tables:
        return
    by_layer = {str(table.attrs["layer"]): table for table in tables}
    report.add_section(
        "What neurons would like to hear",
        "Inputs made from noise so that some neurons answer as strongly as they can (Eq. 2 of Krug et al. 2020).",
    )
    report.add_figure(
        optimal_spectrograms(by_layer, shared_scale=False),
        "Optimal inputs by layer, in deviations from the mean spectrum. Time 0 is the neurons' frame.",
        "A small spectrogram for each layer and set of neurons.",
    )
    named = [folder / name for table in tables for name in str(table.attrs.get("sounds", "")).split("\n")]
    sounds = [path for path in named if path.is_file()]
    if sounds:
        report.add_text("As sound, at the level of speech:")
        report.add_sounds([(path.stem.removeprefix(f"{OPTIMAL}-"), path) for path in sounds])
    notes = list(dict.fromkeys(note for table in tables for note in _notes(table)))
    if notes:
        report.add_note("; ".join(notes))


def _findings(report: Report, table: xr.Dataset) -> None:
    """What a result says of itself in words, if it says anything."""
    notes = _notes(table)
    if notes:
        report.add_list(notes)


def _is(folder: Path, name: str) -> bool:
    return (folder / f"{name}.nc").is_file()


def _notes(table: xr.Dataset) -> list[str]:
    return [line for line in str(table.attrs.get("notes", "")).splitlines() if line]
