"""What the page says about profiles: sounds as the network sees them, its neurons, their groups, maps and fields."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from otoscope.base import BadInput
from otoscope.hear.phones import FEATURES, PHONE_TABLE, phone_class
from otoscope.probe.taps import INPUT
from otoscope.reduce.fields import describe_fields, effective_fields
from otoscope.reduce.profiles import METHODS, Profiles
from otoscope.reduce.purity import cluster_purity
from otoscope.reduce.topography import unit_topography
from otoscope.show.figures_controls import fields_by_layer, purity_by_layer
from otoscope.show.figures_layers import dendrogram, silhouettes_by_layer
from otoscope.show.figures_profiles import action_potentials, gradnap_heatmaps
from otoscope.show.figures_topography import topographic_maps
from otoscope.show.report import Report
from otoscope.study.report_controls import add_controls, add_course, add_optimal_inputs
from otoscope.study.results import cluster_profiles

# What is done for each explained frame, by preset.
AVERAGED = {
    "krug2020": (
        "Gradient-adjusted neuron activation profiles",
        "activations are averaged around the moment that decided the prediction, less the average over all frames, "
        "and only where the prediction depends on them",
    ),
    "navai": (
        "Normalised averages of aligned inputs (NAvAI)",
        "activations are averaged around the moment to which the prediction is most sensitive, less the average over "
        "all frames; nothing is masked",
    ),
    "nap": (
        "Neuron activation profiles (NAP)",
        "each neuron's activations over the frames on which the prediction depends are sorted by size, which takes "
        "time away, and averaged rank by rank, less the average over all frames",
    ),
}
# Two vowels of the paper's Figure 2, its stop, and sounds that lie far apart.
SHOWN_PHONES = ("AA", "AE", "IY", "UW", "S", "SH", "T", "N")
ACTION_POTENTIAL_PHONES = ("AE", "T")
# Fewer units are no map.
FEWEST_UNITS = 40


def add_profiles(report: Report, profiles: Profiles, folder: Path) -> None:
    """The sections about profiles, with the controls, maps and optimal inputs whose results lie in `folder`."""
    phones = present(profiles, [f"phone:{phone}" for phone in SHOWN_PHONES])
    shown = phones or present(profiles, list(profiles.groups))[: len(SHOWN_PHONES)]
    settings = profiles.settings
    name, done = AVERAGED[settings["preset"]]
    other = f" Chosen otherwise: {', '.join(settings['changed'])}." if settings["changed"] else ""
    report.add_section(
        "What the sounds look like to the network",
        f"{name} of {profiles.n:,} frames in {settings['utterances']} utterances: for each frame that predicts a "
        f"letter, {done}.{other} {settings['blank_frames']:,} frames that predict the blank are left out.",
    )
    spectrum = profiles.profile.get(INPUT)
    if spectrum is not None and "frequency" in spectrum.coords and spectrum.sizes["offset"] > 1 and shown:
        report.add_figure(
            gradnap_heatmaps(spectrum, profiles.count[INPUT], shown),
            _input_words(profiles),
            "A small map for each sound, frequency against "
            + ("rank: in each row the loudest frames stand on the left." if profiles.by_rank else "time."),
        )
    # A window of a single frame has no course over time, as in a layer below outputs of kernel 1.
    layers = [name for name, table in profiles.layers.items() if name != INPUT and table.sizes["offset"] > 1]
    potentials = present(profiles, [f"phone:{phone}" for phone in ACTION_POTENTIAL_PHONES]) or shown[:2]
    if layers and potentials:
        layer = layers[min(1, len(layers) - 1)]
        report.add_section(
            "Which neurons fire",
            "Every unit of a layer, its activations sorted by size, those that answer most in colour."
            if profiles.by_rank
            else "Like the action potentials of real neurons: every unit of a layer over time, those that answer "
            "most in colour.",
        )
        report.add_figure(
            action_potentials(
                profiles.profile[layer],
                profiles.count[layer],
                profiles.responsiveness()[layer],
                potentials,
                layer=layer,
            ),
            "The five most responsive units (Eq. 1 of Krug et al. 2020): + rises for the sound, - falls for it. "
            + (
                "On the left the frames in which a unit is most active."
                if profiles.by_rank
                else "Time 0 is the moment of alignment in this layer."
            ),
            "A faint line for each unit of the layer, and the five most responsive in colour, "
            + ("over the ranks of their activations." if profiles.by_rank else "over time around the alignment."),
        )
    distinct, trees = cluster_profiles(profiles, settings["by"])
    if distinct is not None:
        report.add_section(
            "Letters or phones?",
            "Groups are clustered by their profiles in each layer. The more distinct the clusters, the better"
            " the layer represents the grouping.",
        )
        report.add_figure(
            silhouettes_by_layer(distinct["silhouette"]),
            "Silhouette of the clusterings, cut at the 75th to 95th percentile of the distances (faint), and "
            "their mean. 1: clusters lie far apart; 0: they touch.",
            "A line per grouping over the layers.",
        )
        name = "phone" if "phone" in trees else next(iter(trees))
        _tree(report, trees[name], name)
        _categories(report, trees)
    _fields(report, profiles)
    _map(report, profiles, shown or potentials)
    add_controls(report, folder)
    add_course(report, folder, shown)
    add_optimal_inputs(report, folder)
    if profiles.notes:
        report.add_note("What to bear in mind: " + "; ".join(profiles.notes))


def _input_words(profiles: Profiles) -> str:
    """How to read the maps of the input layer."""
    colours = "Red: louder than the average of all sounds, blue: softer"
    if profiles.by_rank:
        return (
            f"Input-layer NAPs. {colours}, at the loudest moment of each frequency on the left, at its softest on the "
            "right. There is no time in them."
        )
    masked = profiles.settings["mask"] != "none"
    meaning = "of no matter to the prediction, or as on average" if masked else "as on average"
    method = METHODS[profiles.settings["preset"]]
    formants = "Vowels show their formants as red bands, fricatives their noise high up."
    return f"Input-layer {method}s. {colours}; white: {meaning}. {formants}"


def _categories(report: Report, trees: Mapping[str, xr.Dataset]) -> None:
    """Whether clusters of phones are classes of phones, and from which layer on."""
    if "phone" not in trees:
        return
    tables, found = {}, []
    groups = [str(group) for group in trees["phone"]["group"].values]
    for feature in FEATURES:
        labels = {group: group.partition(":")[2] for group in groups}
        classes = {g: phone_class(label, feature) if label in PHONE_TABLE else None for g, label in labels.items()}
        # Few phones have some features, and some speech has few phones.
        with contextlib.suppress(BadInput):
            tables[feature] = cluster_purity(trees["phone"], classes)
            first = str(tables[feature].attrs["emerges"])
            where = f"from {first} on" if first else "not in the last layer"
            found.append(f"{feature}: {where} ({tables[feature].attrs['groups']} phones)")
    if not tables:
        return
    report.add_figure(
        purity_by_layer(tables),
        "Purity of the clusters against classes of phones: the share of phones that belong to the commonest class of "
        "their cluster, mean over the cuts. The band is what the same clusters reach with the classes dealt out at "
        "random, 95 % of the time.",
        "A line per class over the layers, above a band where it is more than chance.",
    )
    report.add_text("Where clusters are purer than chance in every layer from there on:")
    report.add_list(found)


def _fields(report: Report, profiles: Profiles) -> None:
    """How much of its context the network uses."""
    with contextlib.suppress(BadInput):  # no group with enough instances
        fields = effective_fields(profiles)
        report.add_section(
            "How far the network looks",
            "The frames that an output frame can depend on, and those that hold 95 % of the profiles.",
        )
        report.add_figure(
            fields_by_layer(fields),
            "Nominal field, and the effective one of the group that needs most and of the median group.",
            "Three lines over the layers, in milliseconds: the nominal field on top, below it the effective field of "
            "the group that needs most and that of the median group, with a dot for each group.",
        )
        report.add_list(describe_fields(fields))


def _map(report: Report, profiles: Profiles, groups: Sequence[str]) -> None:
    """The units of the layer below the output, laid out by the likeness of their profiles."""
    layers = [name for name, table in profiles.layers.items() if name != INPUT and table.sizes["unit"] >= FEWEST_UNITS]
    if not layers or not groups:
        return
    layout = unit_topography(profiles, layers[-1:])
    report.add_section(
        "A map of the neurons",
        f"The units of {layers[-1]}, side by side if their profiles are alike (t-SNE), and how they answer to some "
        "groups: the same map each time.",
    )
    responsiveness, count = profiles.responsiveness()[layers[-1]], profiles.count[layers[-1]]
    report.add_figure(
        topographic_maps(layout, responsiveness, count, groups, layer=layers[-1]),
        "Red units rise for the group, blue ones fall.",
        "A map of coloured dots for each group.",
    )


def _tree(report: Report, tree: xr.Dataset, grouping: str) -> None:
    """The dendrogram of the layer whose clusters are the most distinct on average."""
    means = tree["silhouette_mean"]
    if not bool(np.isfinite(means).any()):
        return
    layer = str(means["layer"].values[int(means.argmax("layer"))])
    labels = [str(group) for group in tree["group"].values]
    classes = {
        label: kind
        for label in labels
        if grouping == "phone"
        and label.partition(":")[2] in PHONE_TABLE
        and (kind := phone_class(label.partition(":")[2], "manner")) is not None
    }
    report.add_figure(
        dendrogram(
            tree["linkage"].sel(layer=layer).values,
            labels,
            layer=layer,
            classes=classes,
            cut=float(tree["threshold"].sel(layer=layer).values[0]),
        ),
        "The layer whose clusters are the most distinct. Groups that join early have like profiles. The line marks "
        "the cut at the 75th percentile.",
        "A tree whose leaves are the groups.",
    )


def present(profiles: Profiles, groups: Sequence[str]) -> list[str]:
    """Those of `groups` that the profiles have, and not empty."""
    return [group for group in groups if group in profiles.groups and group not in profiles.empty]
