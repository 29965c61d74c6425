"""What the figures read from their data: the dimensions they need, how many were averaged, names for the axes."""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from otoscope.base import BadInput

Table: TypeAlias = xr.Dataset | xr.DataArray

LONGEST_LABEL = 18
ROUND_HERTZ = (125, 250, 500, 1000, 2000, 4000, 8000)
MEASURES = {
    "svcca": "SVCCA",
    "cca": "CCA",
    "cca_r2": "CCA (squared)",
    "pwcca": "PWCCA",
    "cka": "linear CKA",
    "cka_debiased": "debiased CKA",
    "cka_rbf": "CKA (RBF kernel)",
    "procrustes": "Procrustes",
    "angular": "angular Procrustes",
    "r2": "linear predictivity",
    "knn": "mutual nearest neighbours",
    "rsa": "RSA",
}


def plot_text(text: object) -> str:
    """Plotly reads a little HTML in every text: names that hold `<` or `&` must not become tags."""
    return html.escape(str(text), quote=False)


def demand(data: Table, what: str, dims: Sequence[str], variables: Sequence[str] = ()) -> None:
    """Raise `BadInput` unless `data` has these dimensions, none of them empty, and these variables."""
    if isinstance(data, xr.Dataset):
        missing = [name for name in variables if name not in data.data_vars]
        if missing:
            raise BadInput(
                f"the {what} lacks {', '.join(missing)}",
                got=", ".join(map(str, data.data_vars)) or "no variables",
                wanted=", ".join(variables),
            )
    lacking = [dim for dim in dims if data.sizes.get(dim, 0) == 0]
    if lacking:
        raise BadInput(
            f"the {what} has nothing along {', '.join(lacking)}",
            got=", ".join(f"{dim}: {size}" for dim, size in data.sizes.items()) or "no dimensions",
            wanted=f"dimensions ({', '.join(dims)}), each of size 1 or more",
        )


def attribute(data: Table, name: str, what: str) -> Any:
    """One of the attributes that a result must carry: a plot without its N is not drawn."""
    if name not in data.attrs:
        raise BadInput(
            f"the {what} does not say {name!r}",
            got="attributes " + (", ".join(map(str, data.attrs)) or "(none)"),
            wanted=f"an attribute {name!r}",
            remedy=f"set .attrs[{name!r}] where the {what} is made",
        )
    return data.attrs[name]


def amount(number: float, one: str, many: str | None = None) -> str:
    """A count with its noun: `1 word`, `12,304 frames`."""
    return f"{int(number):,} {one if int(number) == 1 else many or one + 's'}"


def measure_name(measure: object) -> str:
    """The name of a similarity measure as papers write it."""
    return MEASURES.get(str(measure), str(measure))


def group_name(label: object) -> str:
    """`phone:AE` as /AE/, `symbol:a` as ⟨a⟩ (the linguists' brackets for sounds and spelling), others as they are."""
    kind, colon, value = str(label).partition(":")
    if not colon:
        return str(label)
    if kind == "phone":
        return f"/{value}/"
    if kind in ("symbol", "grapheme"):
        return f"⟨{'space' if value.isspace() else value}⟩"
    return f"{kind} {value}"


def layer_names(layers: Sequence[object]) -> list[str]:
    """Layer names short enough for an axis, each still different from all others.

    Of names that are too long, the parts that all of them begin and end with go first (one is kept at the front:
    `encoder.layers.3.output` becomes `layers.3`); then the middle becomes `…`; at last they are numbered.
    """
    full = [str(layer) for layer in layers]
    short = dict(zip(full, full, strict=True))
    parts = {name: name.split(".") for name in full if len(name) > LONGEST_LABEL}
    if len(parts) > 1:
        start, end = _in_common(parts.values()), _in_common(each[::-1] for each in parts.values())
        for name, each in parts.items():
            stop = max(start + 1, len(each) - end)
            short[name] = ".".join(each[max(0, start - 1) : stop])
    for head in (LONGEST_LABEL // 2, LONGEST_LABEL // 4, LONGEST_LABEL - 3):
        cut = [_elided(short[name], head) for name in full]
        if len(set(cut)) == len(set(full)):
            return cut
    return [f"{number} …{short[name][-LONGEST_LABEL + 6 :]}" for number, name in enumerate(full, 1)]


def _in_common(names: Iterable[Sequence[str]]) -> int:
    """How many parts all of the names begin with."""
    return sum(1 for _ in itertools.takewhile(lambda parts: len(set(parts)) == 1, zip(*names, strict=False)))


def _elided(name: str, head: int) -> str:
    return name if len(name) <= LONGEST_LABEL else f"{name[:head]}…{name[len(name) - LONGEST_LABEL + head + 1 :]}"


def chosen_groups(profile: xr.DataArray, groups: Sequence[str]) -> list[str]:
    """`groups`, after checking that there are some and that `profile` has something of each."""
    known = [str(label) for label in profile["group"].values]
    unknown = [group for group in groups if group not in known]
    if unknown or not groups:
        raise BadInput(
            f"no profile of {', '.join(unknown)}" if unknown else "no groups were chosen",
            got=", ".join(map(str, groups)) or "an empty list",
            wanted=f"some of {', '.join(known)}",
        )
    blank = [group for group in groups if not bool(profile.sel(group=group).notnull().any())]
    if blank:
        raise BadInput(
            f"the profile of {', '.join(blank)} is empty",
            got="NaN throughout: too few instances",
            wanted="groups that occurred",
        )
    return list(groups)


def instances(count: xr.DataArray, group: str) -> int:
    """How many instances a group's mean stands on: the largest count over offsets (fewer reach its edges)."""
    if "group" not in count.dims:
        raise BadInput("counts without a group dimension", got=str(count.dims), wanted="(group, …)")
    return int(count.sel(group=group).max())


def hertz_ticks(frequency_hz: NDArray[Any]) -> tuple[list[float], list[str]]:
    """Where round frequencies lie among rows, and their labels.

    Args:
        frequency_hz: centre of each row, rising `(unit,)`.

    Returns:
        Row numbers (whole rows have their centre at 0, 1, …) and texts. A frequency up to three quarters of a row
        above the upper edge is drawn at that edge: the top mel filter ends at half the sample rate, its centre lies
        one row lower.
    """
    rows = np.arange(len(frequency_hz), dtype=float)
    if len(rows) < 2 or np.any(np.diff(frequency_hz) <= 0):
        raise BadInput(
            "frequencies that do not rise", got=f"{len(rows)} rows", wanted="two or more rows, lowest first, in Hz"
        )
    places, texts = [], []
    for hertz in ROUND_HERTZ:
        row = float(np.interp(hertz, frequency_hz, rows))
        if hertz > frequency_hz[-1]:
            row += (hertz - frequency_hz[-1]) / (frequency_hz[-1] - frequency_hz[-2])
        elif hertz < frequency_hz[0]:
            row -= (frequency_hz[0] - hertz) / (frequency_hz[1] - frequency_hz[0])
        if -0.5 <= row <= len(rows) + 0.25:
            places.append(min(row, len(rows) - 0.5))
            texts.append(str(hertz) if hertz < 1000 else f"{hertz // 1000}k")
    return places, texts


def three_ticks(half_range: float) -> list[float]:
    """`[-s, 0, s]` for the largest s of 1, 2 or 5 times a power of ten that leaves room for its label; or `[0]`."""
    if half_range <= 0:
        return [0.0]
    power = 10.0 ** math.floor(math.log10(0.85 * half_range))
    step = max(factor * power for factor in (1, 2, 5) if factor * power <= 0.85 * half_range)
    return [-step, 0, step]


def epoch_ticks(last: int) -> int:
    """Distance between labelled epochs, so that at most eight stand on the narrowest axis."""
    for step in (1, 2, 5, 10, 20, 25, 50, 100, 200, 250, 500):
        if last / step <= 7:
            return step
    return math.ceil(last / 7)
