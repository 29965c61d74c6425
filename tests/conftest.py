"""What several tests share: where real recordings are found."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


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
