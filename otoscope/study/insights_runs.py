"""The runs that the figures of Ollerenshaw et al. 2021 are drawn from: which can be used, and what was kept of them.

What was computed is kept beside the results, and computed again of other checkpoints, speech or settings.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import xarray as xr

from otoscope.base import BadCheckpoint, OtoscopeError, Progress, fingerprint
from otoscope.hear.corpus import corpus_fingerprint
from otoscope.learn.checkpoint import Run, open_run
from otoscope.learn.networks import validated
from otoscope.learn.train import TrainConfig
from otoscope.study.insights_layers import MEASURES, PRESET, READINGS, REPAIRINGS, side_by_side, through
from otoscope.study.kept import Steps
from otoscope.study.representations import Listener, open_networks
from otoscope.study.series_tables import Job
from otoscope.study.speech import Speech

# What the recommended reading alone has.
HEALTH = ("weight_change", "units", "constant_units")


@dataclass
class Usable:
    """A job's run that can be looked at: its epochs, and those that are missing among them."""

    job: Job
    run: Run
    missing: tuple[int, ...]

    @property
    def last(self) -> int:
        """Its last epoch."""
        return max(self.run.checkpoints)


def usable(job: Job, *, as_made: bool) -> Usable:
    """A job's run, if it was trained to its end and has its first and last checkpoint.

    Args:
        as_made: its end is the one it was made for; otherwise that of the job.

    Raises:
        BadCheckpoint: there is no run, it was cut short, or these checkpoints are missing.
    """
    try:
        run = open_run(job.folder)
    except BadCheckpoint as error:
        raise BadCheckpoint("not trained", got=error.problem, wanted=f"a run in {job.folder}") from error
    made = validated(TrainConfig, dict(run.settings.get("train", {})))
    wanted = made.epochs if as_made else job.epochs
    there, trained = sorted(run.checkpoints), len(run.log) - 1
    if trained < wanted and made.patience is None:
        raise BadCheckpoint(
            "training was cut short", got=f"{max(trained, 0)} of {wanted} epochs", wanted="a whole run",
            remedy="the same command, without --no-train, goes on with it",
        )  # fmt: skip
    if 0 not in there or trained not in there or len(there) < 3:
        got = f"epochs {', '.join(map(str, there))}"
        raise BadCheckpoint("checkpoints are missing", got=got, wanted=f"the untrained one, that of epoch {trained}")
    return Usable(job, run, tuple(sorted(set(range(trained + 1)) - set(there))))


def differing(job: Job, run: Run) -> str:
    """Which options of training a run was made with that are not the job's; "" if none."""
    wanted = json.loads(validated(TrainConfig, dict(job.options)).model_dump_json())
    there = json.loads(validated(TrainConfig, dict(run.settings.get("train", {}))).model_dump_json())
    return "; ".join(f"{key}: {there[key]} in place of {wanted[key]}" for key in wanted if there[key] != wanted[key])


class Keeper:
    """What the figures need of the runs, computed where it is not kept.

    Args:
        folder: where it is kept.
        speech: what the networks hear.
        say: tells it.
    """

    def __init__(self, folder: Path, speech: Speech, say: Callable[[str], None]):
        self.folder, self.speech = folder, speech
        settings = {"readings": READINGS, "preset": PRESET, "measures": MEASURES, "repairings": REPAIRINGS}
        self._steps = Steps(folder, {"speech": corpus_fingerprint(speech.utterances), "settings": settings}, say)
        self._fingerprints: dict[Path, str] = {}

    def through(self, each: Usable, progress: Progress) -> xr.Dataset:
        """A run through training, `(reading, …)` of `otoscope.study.insights_layers.through`."""
        checkpoints = [each.run.checkpoints[epoch] for epoch in sorted(each.run.checkpoints)]

        def compute() -> xr.Dataset:
            listeners = _open(each, "all")
            found = [through(listeners, self.speech, reading, progress) for reading in READINGS]
            health = found[1][list(HEALTH)]
            both = _joined([part.drop_vars(HEALTH, errors="ignore") for part in found]).merge(health)
            both.attrs |= {"pathologies": found[1].attrs["pathologies"]}
            return both

        return self._step(each.job.name, checkpoints, compute)

    def side_by_side(self, network: str, several: Sequence[Usable], progress: Progress) -> xr.Dataset:
        """All seeds of a network, `(reading, …)` of `otoscope.study.insights_layers.side_by_side`."""
        ends = [each.run.checkpoints[epoch] for each in several for epoch in (0, each.last)]

        def compute() -> xr.Dataset:
            runs = {each.job.seed: _open(each, [0, each.last]) for each in several}
            return _joined([side_by_side(runs, self.speech, reading, progress) for reading in READINGS])

        return self._step(f"{network}-seeds", ends, compute)

    def _step(self, name: str, checkpoints: Sequence[Path], make: Callable[[], xr.Dataset]) -> xr.Dataset:
        def small() -> xr.Dataset:
            # No interval needs more than single precision.
            return make().map(lambda each: each.astype("float32") if each.dtype.kind == "f" else each, keep_attrs=True)

        for path in checkpoints:
            if path not in self._fingerprints:
                self._fingerprints[path] = fingerprint(path)
        return self._steps.table(name, small, checkpoints=[self._fingerprints[path] for path in checkpoints])


def _open(each: Usable, epochs: str | Sequence[int]) -> list[Listener]:
    try:
        return open_networks({each.job.name: each.run}, "*", epochs)
    except OtoscopeError as error:
        raise BadCheckpoint(error.problem, got=error.got, wanted=error.wanted, remedy=error.remedy) from error


def _joined(found: Sequence[xr.Dataset]) -> xr.Dataset:
    """Both readings as one table; what one of them lacks is NaN there."""
    names = list(dict.fromkeys(str(name) for part in found for name in part.data_vars))
    shapes = {name: next(part[name] for part in found if name in part) for name in names}
    whole = [part.assign({n: xr.full_like(shapes[n], float("nan")) for n in names if n not in part}) for part in found]
    attrs = {f"{reading}_{key}": value for reading, part in zip(READINGS, found, strict=True)
             for key, value in part.attrs.items() if key != "pathologies"}  # fmt: skip
    joined = xr.concat(whole, pd.Index(READINGS, name="reading"), combine_attrs="drop", join="exact")
    return joined.assign_attrs(attrs)
