"""What `otoscope reproduce insights` says of its results: a page that lists them, and the pathologies as text."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import xarray as xr

from otoscope.base import write_text
from otoscope.hear.corpus import corpus_fingerprint
from otoscope.study.insights_layers import PRESET, REPAIRINGS
from otoscope.study.insights_settings import PAPER_WER, Settings
from otoscope.study.speech import Speech

INDEX, PATHOLOGIES = "README.md", "pathologies.md"
SAID = {
    "table1.md": "Table 1: word errors by network, with intervals over utterances and over seeds",
    "wer": "word errors of every network, seed and condition (`wer.csv`: a row each with counts)",
    "figure1": "Figure 1: each convolution with the next in the converged networks",
    "figure2": "Figure 2: every layer of the CNN through training, against the last epoch",
    "figure2-next": "the same against the next epoch",
    "figure3": "Figure 3: every layer of the LSTM network through training, against the last epoch",
    "figure3-next": "the same against the next epoch",
    "figure4": "Figure 4: every layer of the Transformer through training, against the last epoch",
    "figure4-next": "the same against the next epoch",
    "convergence": "`converged`: epoch from which a layer stays within 0.05 of its end; `bottom_up`: rank correlation "
    "of depth with it; `bottom_up_encoder`: without the output",
    "sensitivity": "`seed_sd`: standard deviation over seeds of the similarity with the last epoch, mean over epochs",
    "shape": "`agreement`: rank correlation of the SVCCA curve with the CKA curve of a layer; `distance`: root mean "
    "square of their difference, each stretched from 0 to 1; `…_elsewhere`: with the CKA curves of the other layers",
    "solutions": "`across_seeds`: the same layer in networks of different seeds, untrained, trained and, "
    "`across_seeds_shuffled`, with utterances paired with others; `rank`: over the CNNs, with word errors",
}


def write_index(
    out: Path,
    settings: Settings,
    *,
    files: Sequence[Path],
    problems: Sequence[str],
    through: Mapping[str, Mapping[int, xr.Dataset]],
    speech: Speech,
    command: str,
) -> list[Path]:
    """`README.md`, which lists the results, and `pathologies.md`."""
    write_text(out / PATHOLOGIES, pathologies(through))
    versions = {name: importlib.metadata.version(name) for name in ("otoscope", "torch", "numpy", "xarray")}
    told = ", ".join(f"{name} {version}" for name, version in versions.items())
    seeds = {network: ", ".join(map(str, runs)) for network, runs in through.items()}
    lines = [
        "# Ollerenshaw et al. 2021, reproduced",
        "",
        f"`{command}`" if command else "",
        "",
        f"Networks of size `{settings.size}`; seeds by network: "
        + ("; ".join(f"{network}: {numbers}" for network, numbers in seeds.items()) or "none")
        + ".",
        "",
        f"Analysis: {len(speech)} utterances ({settings.hears}), {speech.seconds:.0f} s, corpus "
        f"`{corpus_fingerprint(speech.utterances)}`. Readings: *paper*, preset `{PRESET}` (100 frames of the first "
        "utterance that has them; layers other than maps flattened to one column), and *recommended* (all frames, no "
        "padding, neurons as neurons; a convolution's are its channels, at every point of frame × frequency). "
        f"Controls: the untrained networks (epoch 0: random weights), other seeds, {REPAIRINGS} re-pairings of the "
        "utterances.",
        "",
        f"Versions: {told}, Python {platform.python_version()}; {torch.get_num_threads()} threads, "
        f"{platform.machine()}.",
        "",
        "| | |",
        "|---|---|",
    ]
    names = [PATHOLOGIES, *dict.fromkeys(path.name for path in files)]
    for stem in dict.fromkeys(name if name == "table1.md" else name.split(".")[0] for name in names):
        own = [name for name in names if name == stem or (name.split(".")[0] == stem and name != "table1.md")]
        said = "ill layers and epochs, in words" if stem == "pathologies" else SAID.get(stem, "")
        lines.append(f"| {', '.join(f'[{name}]({name})' for name in own)} | {said} |")
    lines += ["", "`analysis/` holds what was computed of each run, so that it is not computed again.", ""]
    lines += ["The paper's Table 1, to compare with:", "", "| CNN | SWBD, WER % | Clhm, WER % |", "|---|---|---|"]
    lines += [f"| {name} | {swbd} | {clhm} |" for name, (swbd, clhm) in PAPER_WER.items()]
    ending = (
        ["## Missing or odd", "", *(f"- {problem}" for problem in problems)] if problems else ["Nothing is missing."]
    )
    lines += ["", *ending]
    write_text(out / INDEX, "\n".join(lines) + "\n")
    return [out / PATHOLOGIES, out / INDEX]


def pathologies(through: Mapping[str, Mapping[int, xr.Dataset]]) -> str:
    """The report in words, by network and seed."""
    lines = [
        "# Pathologies",
        "",
        "In the recommended reading: spikes, frozen and unsettled layers, dead units (`otoscope.reduce.pathology`).",
        "",
    ]
    for network, runs in through.items():
        lines += [f"## {network}", ""]
        for seed, found in runs.items():
            said = str(found.attrs.get("pathologies", "")).splitlines()
            nothing = f"nothing found ({found.sizes['layer']} layers, {found.sizes['epoch']} epochs)"
            lines += [f"Seed {seed}: {nothing}." if not said else f"Seed {seed}:", *(f"- {line}" for line in said), ""]
    return "\n".join(lines)
