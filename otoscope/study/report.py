"""The page about a run: what its training, its similarities and its profiles say, in figures and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from otoscope.hear.phones import PHONE_TABLE, phone_class
from otoscope.learn.checkpoint import Run, open_run
from otoscope.probe.taps import INPUT
from otoscope.reduce.profiles import Profiles
from otoscope.show.figures_layers import dendrogram, silhouettes_by_layer
from otoscope.show.figures_profiles import action_potentials, gradnap_heatmaps
from otoscope.show.figures_training import training_curves
from otoscope.show.report import Report
from otoscope.study.report_similarity import add_networks, add_similarity
from otoscope.study.results import (
    GRADNAP,
    SIMILARITY,
    TRAINING,
    cluster_profiles,
    load_table,
    save_table,
    training_history,
)

# Two vowels of the paper's Figure 2, its stop, and sounds that lie far apart.
SHOWN_PHONES = ("AA", "AE", "IY", "UW", "S", "SH", "T", "N")
ACTION_POTENTIAL_PHONES = ("AE", "T")
# What the command line calls a comparison of several networks.
NETWORKS = "networks"
DATA = {
    f"{TRAINING}.nc": "losses and word errors of every epoch",
    f"{TRAINING}.csv": "the same as a table",
    f"{SIMILARITY}.nc": "similarities of layers, through training and with one another",
    f"{SIMILARITY}.csv": "the same as a table, a row per number",
    f"{NETWORKS}.nc": "similarities of the layers of several networks",
    f"{NETWORKS}.csv": "the same as a table, a row per number",
    f"{GRADNAP}.nc": "GradNAPs of every layer and group, with masks, means and counts",
    f"{GRADNAP}.csv": "responsiveness of every unit to every group (Eq. 1)",
    "silhouettes.nc": "silhouettes of the clusterings of every layer",
    "silhouettes.csv": "the same as a table",
}


def write_report(
    run: Run | Path | str,
    folder: Path | str | None = None,
    *,
    title: str = "What the layers learned",
    subtitle: str = "",
    facts: Sequence[tuple[str, str, str]] = (),
    provenance: Mapping[str, Any] | None = None,
) -> Path:
    """Write `index.html` about a run into `folder` (default: `report` in the run's) from the results that lie there.

    What `otoscope compare` and `otoscope profile` have written is shown; what is missing is said on the page.

    Args:
        run: the training run.
        folder: where the results lie and the page goes.
        title, subtitle: of the page.
        facts: further cards `(value, label, detail)` for its header.
        provenance: settings to list at its foot, beside the run's own.

    Raises:
        BadCheckpoint, BadInput: no run, or results that cannot be read.
    """
    run = run if isinstance(run, Run) else open_run(run)
    folder = run.folder / "report" if folder is None else Path(folder)
    history = training_history(run)
    save_table(history, folder, TRAINING)
    report = Report(title, subtitle)
    last = run.log[-1] if run.log else {}
    if last.get("wer") is not None:
        counts = f"S/D/I {last['sub']}/{last['del']}/{last['ins']} of {last['words']} words"
        report.add_fact(f"{last['wer']:.1f} %", "word error rate, held out", counts)
    report.add_fact(str(max(run.checkpoints)), "epochs of training", f"{len(run.checkpoints)} checkpoints kept")
    for fact in facts:
        report.add_fact(*fact)
    _training(report, history)
    similarity = folder / f"{SIMILARITY}.nc"
    missing = []
    if similarity.is_file():
        add_similarity(report, load_table(similarity))
    else:
        missing.append("similarities (`otoscope compare`)")
    if (folder / f"{NETWORKS}.nc").is_file():
        add_networks(report, load_table(folder / f"{NETWORKS}.nc"))
    if (folder / f"{GRADNAP}.nc").is_file():
        _profiles(report, Profiles.load(folder / f"{GRADNAP}.nc"))
    else:
        missing.append("profiles (`otoscope profile`)")
    if missing:
        report.add_warning(f"Not computed yet: {' and '.join(missing)}.")
    for name, what in DATA.items():
        if (folder / name).is_file():
            report.add_data(folder / name, what)
    report.set_provenance({**run.settings, **(provenance or {})})
    return report.save(folder)


def _training(report: Report, history: xr.Dataset) -> None:
    report.add_section(
        "Training", "The network is kept untrained and after every epoch; everything below looks at these checkpoints."
    )
    if history.sizes["epoch"] == 0:
        report.add_warning("The run has no log.")
        return
    report.add_figure(
        training_curves(history),
        "CTC loss per utterance and word error rate by epoch; epoch 0 is the untrained network. The held-out "
        "utterances are spoken by voices, and are sequences of words, that the training never meets.",
        "Two curves: loss falls, then the word error rate falls.",
    )


def _profiles(report: Report, profiles: Profiles) -> None:
    phones = present(profiles, [f"phone:{phone}" for phone in SHOWN_PHONES])
    shown = phones or present(profiles, list(profiles.groups))[: len(SHOWN_PHONES)]
    settings = profiles.settings
    report.add_section(
        "What the sounds look like to the network",
        f"Gradient-adjusted neuron activation profiles of {profiles.n:,} frames in {settings['utterances']} "
        "utterances: for each frame that predicts a letter, activations are averaged around the moment that "
        "decided the prediction, less the average over all "
        f"frames, and only where the prediction depends on them. {settings['blank_frames']:,} frames that "
        "predict the blank are left out.",
    )
    spectrum = profiles.profile.get(INPUT)
    if spectrum is not None and "frequency" in spectrum.coords and spectrum.sizes["offset"] > 1 and shown:
        report.add_figure(
            gradnap_heatmaps(spectrum, profiles.count[INPUT], shown),
            "Input-layer GradNAPs. Red: louder than the average of all sounds, blue: softer; white: of no "
            "matter to the prediction. Vowels show their formants as red bands, fricatives their noise high "
            "up.",
            "A small spectrogram for each phone.",
        )
    # A window of a single frame has no course over time, as in a layer below outputs of kernel 1.
    layers = [name for name, table in profiles.layers.items() if name != INPUT and table.sizes["offset"] > 1]
    potentials = present(profiles, [f"phone:{phone}" for phone in ACTION_POTENTIAL_PHONES]) or shown[:2]
    if layers and potentials:
        layer = layers[min(1, len(layers) - 1)]
        report.add_section(
            "Which neurons fire",
            "Like the action potentials of real neurons: every unit of a layer over time, those that answer "
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
            "The five most responsive units (Eq. 1 of Krug et al. 2020): + rises for the sound, - falls for "
            "it. Time 0 is the moment of alignment in this layer.",
            "Many faint lines around zero and five coloured ones with peaks near time 0.",
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
    if profiles.notes:
        report.add_note("What to bear in mind: " + "; ".join(profiles.notes))


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
