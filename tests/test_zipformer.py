"""A recogniser that others trained: phones are seen best at its second stack, and fade towards the output."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from otoscope.study.results import load_table

RECIPE = Path(__file__).parents[1] / "recipes" / "zipformer" / "layers.py"


@pytest.mark.slow
@pytest.mark.real
def test_the_recipe_finds_the_known_shape(real_data, tmp_path):
    network = real_data.parent / "networks" / "zipformer-gigaspeech-3m"
    if not (network / "model.py").is_file():
        pytest.skip(f"no network in {network}")
    command = [sys.executable, RECIPE, network, real_data / "timit-nltk" / "manifest.jsonl", "--out", tmp_path]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = load_table(tmp_path / "zipformer.nc").squeeze(drop=True)
    probe = found["probe"].sel(node="phone").values
    stacks = probe[1:]
    assert stacks.argmax() == 1
    assert (stacks[1:-1] > stacks[2:]).all()
    # Others measured .53 for the embedding and .68 .70 .59 .57 .37 .27 for the stacks, with a logistic probe.
    assert abs(stacks - [0.68, 0.70, 0.59, 0.57, 0.37, 0.27]).max() < 0.1
    assert float(found["probe_input"].sel(node="phone")) < probe[0]
    like_input = found["cka_node"].sel(node="mel").values
    assert like_input[0] == like_input.max()
    assert like_input[-1] == like_input.min()
