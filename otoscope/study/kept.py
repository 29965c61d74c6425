"""Steps of long work that are kept on disk: made once, taken up again if they still belong, made anew if they do not.

A kept table says in its attribute `made_with` what it was made from: speech, networks, settings, version. A table of
anything else is stale. What could not be made is a *hole*: it is named, and the rest goes on.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xarray as xr

from otoscope.base import BadInput, OtoscopeError, atomic_path
from otoscope.study.results import load_table

MADE_WITH = "made_with"


@dataclass
class Holes:
    """What is missing, in the order it was met: what it is, and why."""

    found: dict[str, str] = field(default_factory=dict)

    def add(self, what: str, why: str | OtoscopeError) -> str:
        """Name a hole; returns why, in one line."""
        words = (
            " ".join(f"{why.problem}{f' ({why.got})' if why.got else ''}".split()) if not isinstance(why, str) else why
        )
        self.found[what] = words
        return words

    def __bool__(self) -> bool:
        return bool(self.found)

    @property
    def sentences(self) -> list[str]:
        """A sentence for each."""
        return [f"{what}: {why}" for what, why in self.found.items()]


@dataclass(frozen=True)
class Steps:
    """The tables of a folder that were made from the same things.

    Attributes:
        folder: where they lie.
        same: what all of them are made from; anything that JSON can say.
        said: called with a sentence where a kept table is stale.
    """

    folder: Path
    same: Mapping[str, Any]
    said: Callable[[str], None]

    def table(self, name: str, make: Callable[[], xr.Dataset], **more: Any) -> xr.Dataset:
        """The table of this name, made by `make` if it is not there, cannot be read, or is of something else.

        Args:
            name: of the file.
            make: gives the table.
            more: what this step is made from besides.
        """
        path = self.folder / f"{name}.nc"
        wanted = json.dumps({**self.same, **more, "otoscope": importlib.metadata.version("otoscope")}, sort_keys=True)
        found = self._kept(path, wanted)
        if found is None:
            made = make()
            with atomic_path(path) as temporary:
                made.assign_attrs({MADE_WITH: wanted}).to_netcdf(temporary, engine="h5netcdf")
            # Read again, so that a table is the same whether it was made now or before.
            found = load_table(path)
        return _plain(found)

    def _kept(self, path: Path, wanted: str) -> xr.Dataset | None:
        if not path.is_file():
            return None
        try:
            found = load_table(path)
        except BadInput:
            self.said(f"{path.name} cannot be read, and is made again")
            return None
        old, new = json.loads(found.attrs.get(MADE_WITH, "{}")), json.loads(wanted)
        if old == new:
            return found
        other = ", ".join(sorted(key for key in {*old, *new} if old.get(key) != new.get(key)))
        self.said(f"{path.name} was made with another {other}, and is made again")
        return None


def _plain(table: xr.Dataset) -> xr.Dataset:
    """Texts as numpy's own, not as objects, and without what only the file needs."""
    texts = {str(name): table[name].astype(str) for name in table.coords if table[name].dtype == object}
    values = {str(name): table[name].astype(str) for name in table.data_vars if table[name].dtype == object}
    return table.assign_coords(texts).assign(values).drop_encoding()
