"""Small recordings and manifests for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

RATE = 16_000


def ramp(samples: int) -> np.ndarray:
    """Samples that tell their own place: sample n is n / 32768, exact in 16 bits."""
    return np.arange(samples, dtype=np.float32) / 32768


def write_audio(path: Path, samples: np.ndarray | int = 1600, rate: int = RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, ramp(samples) if isinstance(samples, int) else samples, rate)
    return path


def write_sphere(path: Path, samples: np.ndarray, rate: int = 8000, coding: str = "ULAW") -> Path:
    """A NIST SPHERE file, as LDC hands out telephone speech: samples `(sample,)`, or `(sample, channel)` in turn."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, format="NIST", subtype=coding)
    return path


def write_rows(folder: Path, *rows: dict[str, Any] | str) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "manifest.jsonl"


def row(id: str = "a", **changes: Any) -> dict[str, Any]:
    return {"id": id, "audio": "a.wav", "text": "SO"} | changes
