"""Similarity against word errors in rows and sentences. Imports nothing, so that the command line starts quickly."""

from __future__ import annotations

import math
from typing import Any

Table = tuple[list[str], list[list[object]]]

# Of 4 networks even the rarest order comes up by chance in 2 of 24, so that nothing can fall below 5 %.
FEWEST = 5


def performance_summary(found: Any) -> Table:
    """A row for each network on each kind of speech: its similarity and its word error rate."""
    rows: list[list[object]] = []
    for condition in found["condition"].values:
        for network in found["network"].values:
            at = found.sel(condition=condition, network=network)
            rows.append([str(condition), str(network), _number(at["similarity"], ".3f"), _number(at["wer"], ".1f")])
    return ["speech", "network", "similarity", "WER (%)"], rows


def performance_words(found: Any) -> list[str]:
    """A line for each condition: the rank correlation with its doubt, and what may be read from it.

    Args:
        found: what `otoscope.study.performance.similarity_and_performance` gives.
    """
    numbers = str(found.attrs["words"]).splitlines()
    return [
        f"{line}: {_meaning(found.sel(condition=condition))}"
        for line, condition in zip(numbers, found["condition"].values, strict=True)
    ]


def _meaning(at: Any) -> str:
    counted = int((at["similarity"].notnull() & at["wer"].notnull()).sum())
    if counted < FEWEST:
        chance = 2 / math.factorial(counted)
        return f"too few networks to show anything (of {counted}, even a perfect order has p = {chance:.2g})"
    level = float(at["rank_correlation_interval"].attrs["level"])
    low, high = (float(at["rank_correlation_interval"].sel(bound=bound)) for bound in ("low", "high"))
    if low <= 0 <= high or float(at["p"]) >= 1 - level:
        return "no relation is shown"
    return f"among these, the more similar have {'fewer' if high < 0 else 'more'} word errors"


def _number(value: Any, form: str) -> str:
    return "-" if math.isnan(float(value)) else f"{float(value):{form}}"
