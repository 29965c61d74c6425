"""What several tests share: where real recordings are found, and small language models."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

# The arrays of tests are too small to be shared between threads, which wait for each other on a busy machine.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# As the command line has it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
import torch
from language_models import CHARACTERS, WORDS

from otoscope.learn.arpa import Arpa, read_arpa


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """torch on one thread in the tests' own process; the commands that tests start choose for themselves."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def real_data() -> Path:
    """The folder of real corpora: the one OTOSCOPE_DATA names, or `shared/data` beside the repository."""
    named = os.environ.get("OTOSCOPE_DATA")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    if not (folder / "timit-nltk" / "manifest.jsonl").is_file():
        pytest.skip(
            f"no real recordings in {folder}: set OTOSCOPE_DATA to a folder with timit-nltk, fsdd and the others"
        )
    return folder


@pytest.fixture
def word_model(tmp_path: Path) -> Arpa:
    """A trigram model of the words a, b and ba."""
    (tmp_path / "words.arpa").write_text(WORDS)
    return read_arpa(tmp_path / "words.arpa")


@pytest.fixture
def character_model(tmp_path: Path) -> Arpa:
    """A bigram model of a, b and the space, written |."""
    (tmp_path / "characters.arpa").write_text(CHARACTERS)
    return read_arpa(tmp_path / "characters.arpa")
