"""What the tables of a series say of their seeds."""

from __future__ import annotations

import json
import math
from pathlib import Path

from otoscope.study.series_tables import Job, Row, kept_scores, rows_of, score_file, seeds_in_words, table


def row(network: str, seed: int | None) -> Row:
    return Row(network, seed, "clean", 20.0, 18.0, 22.0, math.nan, math.nan, 100, 20, 0, 0, 1000, 2, 1.0)


def test_seeds_are_said_once_where_all_networks_have_the_same():
    assert seeds_in_words({"lstm": [1, 0], "transformer": [0, 1]}) == "2 seeds (0, 1)"


def test_a_network_of_fewer_seeds_is_not_counted_among_those_of_more():
    rows = [row("lstm", 0), row("lstm", 1), row("lstm", None), row("transformer", 0), row("transformer", None)]
    assert "Mean over 2 seeds (0, 1) of lstm; 1 seed (0) of transformer; in parentheses" in table(rows)


def test_scores_that_were_cut_short_are_as_if_they_were_not_there(tmp_path: Path):
    job = Job("lstm", {}, {"seed": 0}, tmp_path, "", "", {})
    path = score_file(job, "greedy")
    whole = json.dumps({"epoch": 2, "parameters": 9, "tests": {}, "columns": {"clean": [["u1", 4, 1, 0, 0]]}})
    assert kept_scores(job, "greedy") is None
    path.write_text(whole, encoding="utf-8")
    assert [row.wer for row in rows_of([job], "greedy")] == [25.0, 25.0]
    for damaged in (whole[:40], "", "[]", "{}"):
        path.write_text(damaged, encoding="utf-8")
        assert kept_scores(job, "greedy") is None
        assert rows_of([job], "greedy") == []
