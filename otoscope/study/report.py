"""The page about a run: what its training, its similarities and its profiles say, in figures and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from otoscope.learn.checkpoint import Run, open_run
from otoscope.reduce.profiles import Profiles
from otoscope.show.figures_training import training_curves
from otoscope.show.report import Report
from otoscope.study.report_profiles import add_profiles
from otoscope.study.report_similarity import add_networks, add_similarity
from otoscope.study.results import (
    CASCADE,
    CHANCE,
    COURSE,
    GRADNAP,
    HALVES,
    NETWORKS,
    SHUFFLED,
    SILHOUETTES,
    SIMILARITY,
    TRAINING,
    load_table,
    save_table,
    training_history,
)

DATA = {
    f"{TRAINING}.nc": "losses and word errors of every epoch",
    f"{TRAINING}.csv": "the same as a table",
    f"{SIMILARITY}.nc": "similarities of layers, through training and with one another",
    f"{SIMILARITY}.csv": "the same as a table, a row per number",
    f"{NETWORKS}.nc": "similarities of the layers of several networks",
    f"{NETWORKS}.csv": "the same as a table, a row per number",
    f"{GRADNAP}.nc": "GradNAPs of every layer and group, with masks, means and counts",
    f"{GRADNAP}.csv": "responsiveness of every unit to every group (Eq. 1)",
    f"{SILHOUETTES}.nc": "silhouettes of the clusterings of every layer",
    f"{SILHOUETTES}.csv": "the same as a table",
    f"{CASCADE}.nc": "profiles with weights drawn anew from the top down",
    f"{SHUFFLED}.nc": "responsiveness with the labels of groups shuffled",
    f"{HALVES}.nc": "profiles of one half of the speech against those of the other",
    f"{CHANCE}.nc": "silhouettes of networks with random weights",
    f"{COURSE}.nc": "profiles at every checkpoint of the run",
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
        add_profiles(report, Profiles.load(folder / f"{GRADNAP}.nc"), folder)
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
