"""What the page says about similarities: of a run through its training, and of several networks on the same speech."""

from __future__ import annotations

from collections import Counter

import numpy as np
import xarray as xr

from otoscope.reduce.dynamics import TOLERANCE
from otoscope.reduce.pathology import describe, find_pathologies
from otoscope.show.figures_depth import adjacent_layers, network_matrix, nodes_by_depth, probes_by_depth
from otoscope.show.figures_layers import layer_matrix
from otoscope.show.figures_training import convergence, similarity_through_training
from otoscope.show.intervals import span_words
from otoscope.show.reading import amount, attribute, measure_name
from otoscope.show.report import Report
from otoscope.study.adjacent import adjacent, measures_of, network_table, stages_of
from otoscope.study.nodes import MEL

# The bottom-up index from which on an order of depth is called one.
AN_ORDER = 0.5
MEANINGS = {
    "svcca": "SVCCA asks whether the same directions are there, whatever their size.",
    "cka": "Linear CKA weighs directions by their variance.",
    "cka_debiased": "Debiased CKA weighs directions by their variance, and is about 0 for unrelated layers.",
}


def add_similarity(report: Report, similarity: xr.Dataset) -> None:
    """The sections about one run, from what `otoscope.through_training` gives; what it does not hold is left out."""
    _convergence(report, similarity)
    _illness(report, similarity)
    _matrix(report, similarity)
    if "to_node" in similarity:
        _represents(report, similarity)
    if similarity.attrs.get("notes"):
        report.add_note("How these numbers were made, and what limits them: " + str(similarity.attrs["notes"]))


def add_networks(report: Report, compared: xr.Dataset) -> None:
    """The section about several networks, from what `otoscope.compare` gives.

    Raises:
        BadInput: no comparison of layers.
    """
    stages = stages_of(compared)
    epochs = Counter(stage.network for stage in stages)
    networks = [name if count == 1 else f"{name} ({count} epochs)" for name, count in epochs.items()]
    heard = amount(attribute(compared, "utterances", "comparison of networks"), "utterance")
    report.add_section(
        "Several networks side by side",
        f"All heard the same {heard}: {', '.join(networks)}. {_meanings(measures_of(compared))}",
    )
    if any(len(stage.layers) > 1 for stage in stages):
        report.add_figure(
            adjacent_layers(adjacent(compared)),
            "Similarity of each layer with the next deeper one. A low point is a step: there the representation "
            "changes most. A line close to 1 belongs to layers that hand on what they get.",
            "A line per network over depth.",
        )
    report.add_figure(
        network_matrix(network_table(compared)),
        "Every layer of every network with every other. The squares along the diagonal are the networks themselves; "
        "beside it, a dark line through the square of two networks says that they come to alike representations in the "
        "same order.",
        "A square of all layers by all layers, with ones on the diagonal.",
    )
    if compared.attrs.get("notes"):
        report.add_note("How these numbers were made, and what limits them: " + str(compared.attrs["notes"]))


def order_words(similarity: xr.Dataset) -> str:
    """Whether layers settle from the bottom up, by each measure, in a sentence or two.

    Args:
        similarity: with `bottom_up` `(measure,)`, -1 to 1, NaN where all layers settle together; optionally
            `bottom_up_interval` `(measure, bound)`.
    """
    words = []
    for measure in similarity["measure"].values:
        index = float(similarity["bottom_up"].sel(measure=measure))
        if not np.isfinite(index):
            words.append(f"{measure_name(measure)} shows no order, since all layers settle at the same epoch")
            continue
        number, doubtful = f"{index:.2f}".replace("-", "−"), False
        if "bottom_up_interval" in similarity:
            ends = similarity["bottom_up_interval"].sel(measure=measure)
            low, high = (float(ends.sel(bound=bound)) for bound in ("low", "high"))
            if np.isfinite(low) and np.isfinite(high):
                number, doubtful = f"{number} ({span_words(low, high, '.2f')})", low <= 0 <= high
        if abs(index) < AN_ORDER or doubtful:
            order = "no clear order"
        else:
            order = "from the bottom up" if index > 0 else "from the top down"
        words.append(f"{measure_name(measure)} {number}, {order}")
    return (
        "Do lower layers settle before higher ones? The bottom-up index is the rank correlation of a layer's depth "
        f"with the epoch from which it has settled: 1 if strictly from the bottom up, −1 if from the top down. Over "
        f"{similarity.sizes['layer']} layers: {'; '.join(words)}."
    )


def _convergence(report: Report, similarity: xr.Dataset) -> None:
    heard = amount(attribute(similarity, "utterances", "similarity through training"), "utterance")
    report.add_section(
        "Which layer converged when",
        f"The same {heard} run through every checkpoint. Each layer is "
        "compared with itself at the end of training: the nearer to 1, the more it already is what it will be. "
        + _meanings([str(name) for name in similarity["measure"].values]),
    )
    bands = " Bands say how far another choice of utterances might move a line." if _sure(similarity, "to_last") else ""
    report.add_figure(
        similarity_through_training(similarity),
        "Similarity of each layer with its own last checkpoint. A line that rises early belongs to a layer that "
        f"converged early; where it starts is what random weights have in common with trained ones.{bands}",
        "A line per layer rising to 1 at the last epoch.",
    )
    report.add_figure(
        convergence(similarity, tolerance=TOLERANCE, last_epoch=int(similarity["epoch"].values[-1])),
        f"The epoch from which a layer stays within {TOLERANCE:g} of its last state. If layers converge from the "
        "bottom up, the dots rise to the right.",
        "A dot per layer and measure.",
    )
    if "bottom_up" in similarity:
        report.add_text(order_words(similarity))
    report.add_figure(
        similarity_through_training(similarity, "next"),
        "Similarity of each checkpoint with the next one: how much a layer still moves.",
        "A line per layer.",
    )


def _illness(report: Report, similarity: xr.Dataset) -> None:
    report.add_section(
        "Is any layer ill?",
        "Looked for are a spike (one epoch at which a layer stands apart from the epochs before and after), a frozen "
        "layer (it stays as it is while others learn), an unsettled one (it never comes to rest), and dead units (they "
        "no longer vary). An illness shows in all deeper layers, too; it is reported where it starts.",
    )
    found = similarity.attrs.get("pathologies")
    findings = list(map(str, find_pathologies(similarity))) if found is None else str(found).splitlines()
    nothing, *unsought = describe([], similarity).splitlines()
    if findings:
        report.add_list(findings)
    else:
        report.add_text(nothing)
    if unsought:
        report.add_note(" ".join(unsought))


def _matrix(report: Report, similarity: xr.Dataset) -> None:
    report.add_section("Which layers represent the same", "Every layer against every other in the last checkpoint.")
    words = [
        "Adjacent layers are usually the most alike; a pale square between neighbours is where the representation "
        "changes most."
    ]
    if _sure(similarity, "matrix"):
        words.append(
            "The interval, shown for the square pointed at, says how far another choice of utterances might move it."
        )
    chance = []
    if "matrix_baseline" in similarity:
        chance.append("what two layers score when they hear different utterances, which is chance")
    if "matrix_random" in similarity:
        chance.append("what they score with random weights, which takes no learning")
    if chance:
        words.append(f"A dot marks a square that is not above its baseline: {', or '.join(chance)}.")
    report.add_figure(
        layer_matrix(similarity), " ".join(words), "A square of layers by layers, with ones on the diagonal."
    )


def _represents(report: Report, similarity: xr.Dataset) -> None:
    nodes, epochs = [str(node) for node in similarity["node"].values], similarity["epoch"].values
    labels = [node for node in nodes if node != MEL]
    beside = ["the mel spectrogram that goes in"] if MEL in nodes else []
    beside += [f"labels of each frame ({', '.join(labels)})"] if labels else []
    report.add_section("What each layer represents", f"Layers are compared with {' and with '.join(beside)}.")
    panels = nodes_by_depth(similarity)
    both = [*(["the input"] if MEL in nodes else []), *(["the labels"] if labels else [])]
    words = [f"Similarity of each layer with {' and with '.join(both)}."]
    if labels:
        words.append("Follow a line from layer to layer; two lines cannot be compared, since labels differ in number.")
    if len(epochs) > 1 and int(epochs[0]) == 0:
        panels = (*panels, *nodes_by_depth(similarity, 0))
        words.append("Epoch 0 is the untrained network: what it shows was not learned.")
    report.add_figure(panels, " ".join(words), "A line per node over the layers.")
    if "probe" not in similarity or not bool(similarity["probe"].notnull().any()):
        return
    said = "Share of the frames whose label a linear classifier reads off the layer, in voices it was not fitted to."
    if "probe_input" in similarity:
        known = [node for node in nodes if np.isfinite(float(similarity["probe_input"].sel(node=node)))]
        mel = ", ".join(f"{node} {float(similarity['probe_input'].sel(node=node)):.2f}" for node in known)
        said += f" Off the mel input itself: {mel}." if known else ""
    report.add_figure(probes_by_depth(similarity), said, "A line per kind of label over the layers.")


def _meanings(measures: list[str]) -> str:
    return " ".join(MEANINGS[name] for name in measures if name in MEANINGS)


def _sure(similarity: xr.Dataset, name: str) -> bool:
    return f"{name}_interval" in similarity
