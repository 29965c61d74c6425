"""Results as files: NetCDF with everything, and a tidy CSV beside it; and back again."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from otoscope.base import BadInput, atomic_path
from otoscope.learn.checkpoint import Run
from otoscope.reduce.clusters import cluster_groups, silhouettes
from otoscope.reduce.profiles import Profiles

SIMILARITY, GRADNAP, TRAINING, SILHOUETTES = "similarity", "gradnap", "training", "silhouettes"
# What the command line calls a comparison of several networks.
NETWORKS = "networks"
# Controls of profiles, and profiles through training.
CASCADE, SHUFFLED, HALVES, CHANCE = "random-weights", "shuffled-labels", "split-half", "random-silhouettes"
COURSE = "gradnap-training"


def training_history(run: Run) -> xr.Dataset:
    """A run's log as a Dataset over `epoch` (0 is untrained): losses (nats per utterance) and word errors, held out."""
    log = run.log
    nan = float("nan")

    def column(name: str) -> np.ndarray:
        return np.array([nan if entry.get(name) is None else entry[name] for entry in log], dtype=np.float64)

    last = log[-1] if log else {}
    return xr.Dataset(
        {
            "train_loss": ("epoch", column("train_loss"), {"units": "nats per utterance"}),
            "heldout_loss": ("epoch", column("heldout_loss"), {"units": "nats per utterance"}),
            "wer": ("epoch", column("wer"), {"units": "percent"}),
            **{name: ("epoch", column(name)) for name in ("sub", "del", "ins", "seconds")},
        },
        coords={"epoch": [entry["epoch"] for entry in log]},
        attrs={
            "heldout_utterances": last.get("sentences", 0),
            "heldout_words": last.get("words", 0),
            "train_utterances": run.settings.get("corpus", {}).get("utterances", 0) - last.get("sentences", 0),
        },
    )


def cluster_profiles(profiles: Profiles, groupings: Sequence[str]) -> tuple[xr.Dataset | None, dict[str, xr.Dataset]]:
    """Silhouettes of the groupings that have at least three groups, and each one's trees."""
    usable = [
        name
        for name in groupings
        if sum(group.startswith(f"{name}:") and group not in profiles.empty for group in profiles.groups) >= 3
    ]
    trees = {name: cluster_groups(profiles, f"{name}:*") for name in usable}
    return (silhouettes(profiles, usable) if usable else None), trees


def save_table(table: xr.Dataset, folder: Path, name: str, *, blanks: bool = True) -> list[Path]:
    """Write a Dataset as `name.nc` and, a row per entry, `name.csv`; each in one step.

    Without `blanks` what is NaN has no row: where networks lack each other's layers that is half of a table.
    """
    table = table.assign_attrs(otoscope=importlib.metadata.version("otoscope"))
    paths = [folder / f"{name}.nc", folder / f"{name}.csv"]
    with atomic_path(paths[0]) as temporary:
        table.to_netcdf(temporary, engine="h5netcdf")
    with atomic_path(paths[1]) as temporary:
        rows = tidy(table)
        rows = rows if blanks else rows.dropna(subset="value")
        rows.to_csv(temporary, index=False, float_format="%.6g")
    return paths


def tidy(table: xr.Dataset) -> pd.DataFrame:
    """A row per number: its variable, a column for each dimension, and its value."""
    columns = [
        variable.to_series().rename("value").reset_index().assign(variable=str(name))
        for name, variable in table.data_vars.items()
        if variable.ndim
    ]
    stacked = pd.concat(columns, ignore_index=True)
    return stacked[["variable", *(name for name in stacked if name not in ("variable", "value")), "value"]]


def load_table(path: Path) -> xr.Dataset:
    """Read a Dataset that `save_table` wrote.

    Raises:
        BadInput: it is missing or cannot be read.
    """
    try:
        with xr.open_dataset(path, engine="h5netcdf") as table:
            return table.load()
    except (OSError, ValueError) as error:
        raise BadInput(
            "these results cannot be read", got=f"{path}: {error}", wanted="a NetCDF file", remedy="make it again"
        ) from error


def save_profiles(profiles: Profiles, folder: Path) -> list[Path]:
    """Write GradNAPs as `gradnap.nc`, responsiveness by unit as `gradnap.csv`, and silhouettes where there are any."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{GRADNAP}.nc", folder / f"{GRADNAP}.csv"]
    profiles.save(paths[0])
    profiles.write_csv(paths[1])
    distinct, _ = cluster_profiles(profiles, profiles.settings["by"])
    return paths if distinct is None else [*paths, *save_table(distinct, folder, SILHOUETTES)]
