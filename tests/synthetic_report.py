"""A page with everything on it, as the demonstration writes it, from made-up results."""

from __future__ import annotations

from pathlib import Path

import synthetic_results as made_up

from otoscope.show.figures_depth import (
    adjacent_layers,
    network_matrix,
    nodes_by_depth,
    probes_by_depth,
    similarity_and_errors,
)
from otoscope.show.figures_layers import dendrogram, layer_matrix, silhouettes_by_layer
from otoscope.show.figures_profiles import action_potentials, gradnap_heatmaps
from otoscope.show.figures_training import convergence, similarity_through_training, training_curves
from otoscope.show.report import Report


def full_report(directory: Path) -> Path:
    """A page with everything on it, as the demonstration will write it."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in ("similarity.nc", "similarity.csv", "gradnap.nc", "history.csv"):
        (directory / name).write_bytes(b"0" * 48_300)
    report = Report(
        "What a small recogniser learned to hear",
        "A Wav2Letter network, trained on half an hour of synthetic English in twelve voices: what each of its layers "
        "represents, when it came to, and which neurons answer to which sounds.",
    )
    report.add_fact("9.8 %", "word error rate, held out", "S/D/I 40/12/8 of 612 words")
    report.add_fact("33 min", "speech heard", "1,500 utterances")
    report.add_fact(12, "voices", "2 of them held out")
    report.add_fact(12, "epochs", "every checkpoint kept")
    report.add_fact("2 min 41 s", "from nothing to this page", "2 CPU cores")

    report.add_section(
        "What was found",
        "Three things stand out in this run. Each is shown below, with the number of utterances, frames or instances "
        "that it rests on.",
    )
    report.add_list(
        [
            "Lower layers settle first: conv1 stays within 0.03 of its final state from epoch 3.",
            "The input pattern of /AE/ has its energy near 700 and 1,800 Hz, where the formants of that vowel "
            "lie; that of /T/ is a silence followed by a burst.",
            "From conv8 on, phones form clearer clusters than graphemes.",
        ]
    )
    report.add_note(
        "A similarity depends on the speech it was measured on. All checkpoints here heard the same 120 utterances."
    )

    report.add_section(
        "Training", "The network starts from random weights (epoch 0) and is measured after every epoch."
    )
    report.add_figure(
        training_curves(made_up.history()),
        "The loss is what training lowers, here on the speech it learns from and on speech it does not; the word "
        "error rate is the percentage of words that come out wrong. The star is the held-out set: voices and word "
        "sequences never heard before.",
        "Two line plots: the loss falls from 120 to 3 nats per utterance, word error rate from 100 to 10 percent.",
    )
    report.add_table(
        ["set", "utterances", "words", "substituted", "deleted", "inserted", "WER"],
        [
            ["development", 60, 268, 14, 5, 3, "8.2 %"],
            ["held-out voices", 70, 306, 22, 7, 3, "10.5 %"],
            ["held-out word sequences", 70, 306, 18, 5, 5, "9.2 %"],
            ["empty", 0, 0, None, float("nan"), 0, "–"],
        ],
        "Word errors by kind. WER is (S + D + I) / words.",
    )

    report.add_section(
        "Similarity through training",
        "Every checkpoint hears the same speech. A layer whose curve reaches 1 early learned early what it needed.",
    )
    data = made_up.similarity()
    report.add_figure(
        similarity_through_training(data),
        "How similar each layer is to itself at the end of training. Light lines are layers near the input, dark lines "
        "near the output. SVCCA ignores any rotation of the neurons; CKA gives more weight to strong directions.",
        "Two panels of rising lines, one line per layer; lower layers reach 1 before upper layers.",
    )
    report.add_figure(
        similarity_through_training(data, to="next"),
        "How much a layer changes from one epoch to the next: 1 is no change. A spike downwards after the first epochs "
        "would be a sign of illness.",
        "Two panels of lines close to 1 after the fourth epoch.",
    )
    report.add_figure(
        convergence(made_up.convergence_epochs(), tolerance=0.03, last_epoch=12),
        "The earlier a layer settles, the further left its dot. Dots that climb to the right mean learning from the "
        "bottom up. An open marker at “never” is a layer that did not settle.",
        "A dot per layer and measure; dots move to the right with depth.",
    )

    report.add_section("Layer by layer", "Which layers say the same thing?")
    report.add_figure(
        layer_matrix(data),
        "Every layer against every other in the last checkpoint, first layer at the lower left. A dark block is a run "
        "of layers that represent much the same.",
        "Two square heatmaps, dark along the diagonal.",
    )

    report.add_section("What sounds look like", "Gradient-adjusted profiles of the input layer.")
    profile, count = made_up.input_profile()
    report.add_figure(
        gradnap_heatmaps(profile, count, list(profile["group"].values)),
        "Red: more energy than in the average of all sounds, where the prediction depends on it; blue: less; white: no "
        "difference, or of no consequence for the prediction. The dotted line is the moment of alignment.",
        "Eight small spectrograms: formants of vowels, high bands of fricatives, silence and burst of a stop.",
    )

    report.add_section("Which neurons answer", "Every line is a neuron, drawn like the potential of a real one.")
    profile, count, responsiveness = made_up.layer_profile()
    report.add_figure(
        action_potentials(profile, count, responsiveness, list(profile["group"].values), layer="conv2"),
        "The five most responsive units in colour. r is the sum of a unit's absolute profile (Krug et al. 2020, Eq. "
        "1); its sign says whether the unit rises (+) or falls (−) for this sound, compared with all others.",
        "Two plots with 200 grey lines each and five coloured ones that peak close to time 0.",
    )

    report.add_section("Clusters")
    report.add_warning("Only 26 graphemes and 38 phones were clustered; differences below 0.03 are within the scatter.")
    report.add_figure(
        silhouettes_by_layer(made_up.silhouettes()),
        "How distinct clusters are: 1 is perfectly apart, 0 is touching. Thick: the mean over five cuts of the tree; "
        "faint: each cut. An open marker stands for a mean over fewer cuts, a gap for none.",
        "Two lines over layers; phones rise above graphemes towards the output.",
    )
    linkage, labels, classes, cut = made_up.phone_tree()
    report.add_figure(
        dendrogram(linkage, labels, layer="conv9", classes=classes, cut=cut),
        "Groups that join further left have more similar profiles. The dashed line is the cut at the 75th percentile.",
        "A tree of 39 phones; phones of one class mostly join first.",
    )

    report.add_data(directory / "similarity.nc", "Similarity of all layers, measures and epochs")
    report.add_data(directory / "similarity.csv", "The same as a tidy table")
    report.add_data(directory / "gradnap.nc", "GradNAPs of all layers, with counts, masks and times")
    report.add_data(directory / "history.csv", "Loss and word error rate by epoch")
    report.set_provenance(
        {
            "seed": 0,
            "corpus": {"sha256": "9f2c4e7ab01d33c8", "utterances": 1500},
            "network": {"name": "wav2letter", "layers": 12, "parameters": 1_512_029},
            "similarity": {"preset": "recommended", "variance kept": 0.99, "layers": made_up.LAYERS},
            "checkpoints": "a3d9c1f20b7e4455, 77f0e2ab19cc04d1, 1b6a0c95e8e3f402, 0fd2e18c7715ab39, c2c8f4d55aa10e7b",
        }
    )
    return report.save(directory)


def deep_report(directory: Path) -> Path:
    """Many layers with long names, many epochs: what somebody's transformer brings along."""
    layers = [f"encoder.layers.{index}.feed_forward.output_dense" for index in range(24)]
    data = made_up.similarity(layers, epochs=61)
    report = Report("A transformer of twenty-four layers", "Long names, many epochs.")
    report.add_section("Everything long")
    for figure in (
        similarity_through_training(data),
        layer_matrix(data),
        convergence(made_up.convergence_epochs(layers), tolerance=0.03, last_epoch=60),
        silhouettes_by_layer(made_up.silhouettes(layers)),
        training_curves(made_up.history(61)),
    ):
        report.add_figure(figure, "Something long.", "Something long.")
    return report.save(directory)


def dynamics_report(directory: Path) -> Path:
    """Similarity with intervals, baselines, labels, probes, and several networks."""
    data = made_up.through_training()
    report = Report("How sure, compared with what", "Intervals and baselines.")
    report.add_section("Similarity")
    for figure in (
        similarity_through_training(data, "first"),
        convergence(data, tolerance=0.03, last_epoch=12),
        layer_matrix(data),
        nodes_by_depth(data),
        probes_by_depth(data),
        adjacent_layers(made_up.adjacent()),
        similarity_and_errors(made_up.errors()),
        network_matrix(made_up.networks_matrix(("conv", "transformer"), (0, 18), 3)),
    ):
        report.add_figure(figure, "Something sure.", "Something sure.")
    return report.save(directory)
