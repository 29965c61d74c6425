"""The tables of a series of networks: rates of each seed, their mean, and how sure it is."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.stats

from otoscope.base import BadOption, write_text
from otoscope.learn.checkpoint import read_log
from otoscope.learn.networks import validated
from otoscope.learn.significance import bootstrap_interval
from otoscope.learn.train import TrainConfig


@dataclasses.dataclass(frozen=True)
class Job:
    """One network to train and score.

    Attributes:
        network: its row in the table.
        values: of the network's configuration, as a recipe has them under `network:`.
        options: of the training, its seed among them.
        folder: of the run.
        training: condition on the utterances that it may know of, such as `split=train,dev`.
        held_out: which of these it does not learn from.
        tests: column of the table → condition on the utterances scored in it.
    """

    network: str
    values: Mapping[str, Any]
    options: Mapping[str, Any]
    folder: Path
    training: str
    held_out: str
    tests: Mapping[str, str]

    @property
    def seed(self) -> int:
        """Of the training."""
        return int(self.options["seed"])

    @property
    def epochs(self) -> int:
        """How many it is to have."""
        return int(validated(TrainConfig, dict(self.options)).epochs)

    @property
    def name(self) -> str:
        """That of the run's folder."""
        return self.folder.name


class Scored(NamedTuple):
    """One utterance, scored."""

    id: str
    words: int
    sub: int
    deletions: int
    ins: int

    @property
    def errors(self) -> int:
        """All three kinds."""
        return self.sub + self.deletions + self.ins


class Row(NamedTuple):
    """A network in one condition, with one seed or with all (`seed` None: the mean of their rates).

    `low` and `high` are the bootstrap interval over utterances, `seeds_low` and `seeds_high` the t interval over seeds;
    NaN where there is one utterance, or one seed.
    """

    network: str
    seed: int | None
    condition: str
    wer: float
    low: float
    high: float
    seeds_low: float
    seeds_high: float
    words: int
    sub: int
    deletions: int
    ins: int
    parameters: int
    epochs: int
    seconds: float


def done(job: Job) -> int:
    """How many epochs of a job are trained."""
    log = read_log(job.folder)
    return int(log[-1]["epoch"]) if log else 0


def score_file(job: Job, method: str) -> Path:
    """Where the errors of a job are kept, by how it was decoded."""
    return job.folder / f"scores-{method}.json"


def kept_scores(job: Job, method: str) -> dict[str, Any] | None:
    """What `score_file` holds: `epoch`, `parameters`, `tests`, `columns`; None: not there, or cut short or damaged."""
    try:
        kept = json.loads(score_file(job, method).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    whole = isinstance(kept, dict) and {"epoch", "parameters", "tests", "columns"} <= set(kept)
    return kept if whole else None


def rate(rows: Sequence[Scored]) -> float:
    """Word error rate in percent."""
    return 100 * sum(row.errors for row in rows) / max(1, sum(row.words for row in rows))


def rows_of(jobs: Sequence[Job], method: str) -> list[Row]:
    """A row for each network, seed and condition, and one for all its seeds, of what is scored.

    Jobs of one network and seed that are tested on different utterances, as with speakers held out in turn, are put
    together.
    """
    found: dict[tuple[str, str], dict[int, list[Scored]]] = {}
    facts: dict[tuple[str, int], list[tuple[int, int, float]]] = {}
    for job in jobs:
        kept = kept_scores(job, method)
        if kept is None:
            continue
        seconds = sum(entry["seconds"] for entry in read_log(job.folder))
        facts.setdefault((job.network, job.seed), []).append((kept["parameters"], kept["epoch"], seconds))
        for condition, rows in kept["columns"].items():
            seeds = found.setdefault((job.network, condition), {})
            seeds.setdefault(job.seed, []).extend(Scored(*row) for row in rows)
    return [row for key, seeds in found.items() for row in _rows(*key, seeds, facts)]


def _rows(
    network: str,
    condition: str,
    seeds: Mapping[int, list[Scored]],
    facts: Mapping[tuple[str, int], list[tuple[int, int, float]]],
) -> Iterator[Row]:
    rates, seconds = [], []
    for seed, rows in sorted(seeds.items()):
        of_jobs = facts[network, seed]
        seconds.append(sum(job[2] for job in of_jobs) / len(of_jobs))
        rates.append(rate(rows))
        yield Row(
            network, seed, condition, rates[-1], *_interval([rows]), math.nan, math.nan, *_sums(rows), *of_jobs[0][:2],
            round(seconds[-1], 1),
        )  # fmt: skip
    everything = list(seeds.values())
    half = math.nan
    if len(rates) > 1:
        half = float(scipy.stats.t.ppf(0.975, len(rates) - 1) * np.std(rates, ddof=1) / math.sqrt(len(rates)))
    mean = float(np.mean(rates))
    first = facts[network, min(seeds)][0]
    yield Row(
        network, None, condition, mean, *_interval(everything), mean - half, mean + half,
        *_sums([row for rows in everything for row in rows]), first[0], first[1], round(float(np.mean(seconds)), 1),
    )  # fmt: skip


def _sums(rows: Sequence[Scored]) -> tuple[int, int, int, int]:
    words, sub, deletions, ins = (sum(column) for column in list(zip(*rows, strict=True))[1:])
    return words, sub, deletions, ins


def _interval(seeds: Sequence[Sequence[Scored]]) -> tuple[float, float]:
    """Over utterances; each is drawn with what all the seeds made of it."""
    words: dict[str, int] = {}
    errors: dict[str, int] = {}
    for row in (row for rows in seeds for row in rows):
        words[row.id] = words.get(row.id, 0) + row.words
        errors[row.id] = errors.get(row.id, 0) + row.errors
    if len(words) < 2 or not sum(words.values()):
        return math.nan, math.nan
    found = bootstrap_interval(list(errors.values()), list(words.values()))
    return found.low, found.high


def write_tables(out: Path, jobs: Sequence[Job], method: str, ending: str = "") -> list[Row]:
    """`wer.csv`, all rows, and `table.md`, a row a network and a column a condition, as the paper's Table 1.

    Raises:
        BadOption: nothing is scored yet.
    """
    rows = rows_of(jobs, method)
    if not rows:
        raise BadOption("no network is scored yet", got=out, wanted="runs of this series")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(name if name != "deletions" else "del" for name in Row._fields)
    for row in rows:
        values = ["all" if value is None else value for value in row]
        writer.writerow(
            "" if isinstance(v, float) and math.isnan(v) else f"{v:.2f}" if isinstance(v, float) else v for v in values
        )
    write_text(out / f"wer{ending}.csv", text.getvalue())
    write_text(out / f"table{ending}.md", table(rows))
    return rows


def table(rows: Sequence[Row]) -> str:
    """The rows over all seeds as a table in Markdown."""
    conditions = list(dict.fromkeys(row.condition for row in rows))
    means = {(row.network, row.condition): row for row in rows if row.seed is None}
    lines = [
        "| network | " + " | ".join(f"{name}, WER %" for name in conditions) + " | parameters | epochs | seconds |",
        "|" + "---|" * (len(conditions) + 4),
    ]
    for name in dict.fromkeys(row.network for row in rows):
        cells = [_cell(means.get((name, condition))) for condition in conditions]
        row = next(row for row in rows if row.network == name and row.seed is None)
        millions = f"{row.parameters / 1e6:.2f} M"
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {millions} | {row.epochs} | {row.seconds:.0f} |")
    seeds: dict[str, list[int]] = {}
    for row in rows:
        if row.seed is not None and row.seed not in seeds.setdefault(row.network, []):
            seeds[row.network].append(row.seed)
    told = {c: max(row.words for row in rows if row.condition == c and row.seed is not None) for c in conditions}
    lines += [
        "",
        f"Mean over {seeds_in_words(seeds)}; in parentheses the 95 % interval over utterances (bootstrap, all seeds "
        "scored on the same draws), in brackets that over seeds, where there are several (Student's t, a degree of "
        "freedom less than seeds). Words: "
        + ", ".join(f"{count} {name}" for name, count in told.items())
        + ". Seconds: of training, mean of the runs.",
        "",
    ]
    return "\n".join(lines)


def seeds_in_words(of_networks: Mapping[str, Sequence[int]]) -> str:
    """Such as "2 seeds (0, 1)"; where networks have different ones, of which network each."""
    alike: dict[tuple[int, ...], list[str]] = {}
    for network, seeds in of_networks.items():
        alike.setdefault(tuple(sorted(seeds)), []).append(network)
    said = [
        f"{len(seeds)} seed{'s' * (len(seeds) != 1)} ({', '.join(map(str, seeds))})"
        + (f" of {', '.join(networks)}" if len(alike) > 1 else "")
        for seeds, networks in alike.items()
    ]
    return "; ".join(said)


def _cell(row: Row | None) -> str:
    if row is None:
        return "–"
    said = f"{row.wer:.1f}"
    if not math.isnan(row.low):
        said += f" ({row.low:.1f} to {row.high:.1f})"
    if not math.isnan(row.seeds_low):
        said += f" [{row.seeds_low:.1f} to {row.seeds_high:.1f}]"
    return said
