"""How similar are two representations of the same speech: every measure, for every pair of nodes, from running sums.

With centred covariances S_a, S_b (divided by the number of frames n) and cross-covariance C, each node is decomposed
once, each pair needs one product and one small singular value decomposition, and the frames are not needed any more.
`MEASURES` is the table: a new measure is one function of a `Pair` and one row. Formulae, invariances and edges are in
docs/measures.md.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations_with_replacement, product

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from otoscope.base import BadInput, BadOption, choose
from otoscope.reduce.moments import EPSILON, Array, Moments, PairName

# From here on a note says what unrelated nodes would score: a third of the scale is no longer small.
CHANCE_WORTH_A_NOTE = 0.3


class RankWarning(UserWarning):
    """The number of frames or of directions that vary limits what a value means. The same words are in the notes."""


class Node:
    """What measures read of one node, each part computed once. A direction is a weighted sum of units.

    A direction counts if its variance is above four times what rounding of the input makes of it, and above the error
    of the eigenvalues themselves (width × float64 epsilon × the largest). So dead and collinear units and more units
    than frames leave fewer directions than units, never a division by almost nothing.
    """

    def __init__(self, moments: Moments, name: str):
        self.name, self.frames, self.units = name, moments.frames, moments.width(name)
        self.covariance = moments.covariance(name, name)
        self.variance = self.covariance.diagonal()
        self.rounding = moments.rounding(name)
        self.varying = self.variance > self.rounding
        if not self.varying.any():
            raise self._constant()

    @cached_property
    def total(self) -> float:
        """Sum of the variances of the units."""
        return float(self.variance.sum())

    @cached_property
    def norm(self) -> float:
        """Frobenius norm of the covariance over its trace, between 1 / sqrt(units) and 1."""
        return float(torch.linalg.matrix_norm(self.covariance / self.total))

    @cached_property
    def principal(self) -> tuple[Tensor, Tensor]:
        """Variances, descending, `(direction,)`, and the orthonormal principal directions `(unit, direction)`."""
        return self._directions(self.covariance, self.rounding)

    @cached_property
    def whitening(self) -> Tensor:
        """`(direction, unit)`: the map W with W S W^T = 1.

        The units are scaled to variance 1 first, so that a quiet unit beside a loud one is not taken for rounding.
        """
        scale = self.variance[self.varying].sqrt()
        correlation = self.covariance[self.varying][:, self.varying] / torch.outer(scale, scale)
        variances, directions = self._directions(correlation, self.rounding[self.varying] / scale**2)
        whitening = torch.zeros(len(variances), self.units, dtype=torch.float64)
        whitening[:, self.varying] = (directions / variances.sqrt() / scale[:, None]).T
        return whitening

    @property
    def rank(self) -> int:
        """Number of directions that vary, whatever the scale of each unit."""
        return len(self.whitening)

    def kept(self, threshold: float) -> int:
        """The fewest principal directions that hold `threshold` of the variance (Raghu et al. 2017, section 2)."""
        share = self.principal[0].cumsum(0) / self.total
        # A share equal to the threshold must not depend on the last bits, which the order of the batches changes.
        return min(int((share < threshold - 1e-10).sum()) + 1, len(share))

    def _directions(self, symmetric: Tensor, rounding: Tensor) -> tuple[Tensor, Tensor]:
        variances, directions = torch.linalg.eigh(symmetric)
        floor = EPSILON * max(len(symmetric), 32) * variances[-1] + 4 * rounding @ directions**2
        counted = (variances > floor).flip(0)
        if not counted.any():
            raise self._constant()
        return variances.flip(0)[counted], directions.flip(1)[:, counted]

    def _constant(self) -> BadInput:
        return BadInput(
            f"node {self.name!r} has no variance",
            got=f"{self.units} units that stay the same, but for rounding, over {self.frames} frames",
            wanted="at least one unit that varies",
            remedy="leave this node out: similarity to something constant is not defined",
        )


class Pair:
    """Two nodes and their cross-covariance."""

    def __init__(self, a: Node, b: Node, cross: Tensor):
        self.a, self.b, self.cross, self.frames = a, b, cross, a.frames

    @cached_property
    def correlations(self) -> Tensor:
        """The canonical correlations, `(min of the ranks,)`, descending, within [0, 1]."""
        return torch.linalg.svdvals(self.a.whitening @ self.cross @ self.b.whitening.T).clamp(0, 1)

    def principal_correlations(self, threshold: float) -> Tensor:
        """The canonical correlations between the principal directions that hold `threshold` of each variance."""
        (variances, left), (other_variances, right) = self.a.principal, self.b.principal
        rows, columns = self.a.kept(threshold), self.b.kept(threshold)
        cross = left[:, :rows].T @ self.cross @ right[:, :columns]
        cross /= variances[:rows, None].sqrt()
        cross /= other_variances[:columns].sqrt()
        return torch.linalg.svdvals(cross).clamp(0, 1)


def cca(pair: Pair) -> float:
    """Mean canonical correlation over the smaller rank, in [0, 1] (Hotelling 1936)."""
    return float(pair.correlations.mean())


def svcca(pair: Pair, threshold: float) -> float:
    """Mean canonical correlation of the directions that hold `threshold` of each variance (Raghu et al. 2017)."""
    return float(pair.principal_correlations(threshold).mean())


def cka(pair: Pair) -> float:
    """Linear centred kernel alignment, biased estimator, in [0, 1] (Kornblith et al. 2019, equation 5)."""
    # Scaled by the variances before squaring, values of 1e-80 or 1e80 stay within the range of float64.
    cross = pair.cross / math.sqrt(pair.a.total) / math.sqrt(pair.b.total)
    return min(float((cross**2).sum()) / (pair.a.norm * pair.b.norm), 1.0)


def cca_limit(pair: Pair) -> tuple[float, str]:
    """What unrelated nodes would score with so few frames, and what is many for them, in words."""
    return _canonical_limit(pair.frames, pair.a.rank, pair.b.rank)


def svcca_limit(pair: Pair, threshold: float) -> tuple[float, str]:
    """As `cca_limit`, for the directions kept."""
    return _canonical_limit(pair.frames, pair.a.kept(threshold), pair.b.kept(threshold))


def cka_limit(pair: Pair) -> tuple[float, str]:
    """The expectation with the frames of one node shuffled is tr S_a tr S_b / ((n - 1) |S_a| |S_b|), exactly."""
    chance = 1 / ((pair.frames - 1) * pair.a.norm * pair.b.norm)
    return chance, f"{pair.a.units} and {pair.b.units} units"


def _canonical_limit(frames: int, rank: int, other: int) -> tuple[float, str]:
    """Root mean square correlation with the frames of one node shuffled: the mean is expected a little below it.

    Centring leaves n - 1 dimensions. Shuffled, the squares sum to rank × rank / (n - 1) on average; and two subspaces
    share whatever of rank + rank does not fit into n - 1.
    """
    forced = rank + other - (frames - 1)
    words = f", where {forced} of {min(rank, other)} correlations are 1 whatever the data" if forced > 0 else ""
    return math.sqrt(min(max(rank, other) / (frames - 1), 1.0)), f"{rank} and {other} directions{words}"


@dataclass(frozen=True)
class Measure:
    """A row of the table. `score` and `limit` take a `Pair` and the options named here, with these defaults."""

    score: Callable[..., float]
    limit: Callable[..., tuple[float, str]]
    formula: str
    source: str
    range: tuple[float, float]
    options: Mapping[str, float] = field(default_factory=dict)


MEASURES: dict[str, Measure] = {
    "cca": Measure(
        cca,
        cca_limit,
        "mean of rho_i over min(rank S_a, rank S_b); rho: singular values of S_a^(-1/2) C S_b^(-1/2)",
        "Hotelling 1936; as a similarity of networks Raghu et al. 2017",
        (0.0, 1.0),
    ),
    "svcca": Measure(
        svcca,
        svcca_limit,
        "mean of rho_i between the fewest principal directions that hold `threshold` of the variance of each node",
        "Raghu et al. 2017, section 2; Ollerenshaw et al. 2021, equations 1 and 2",
        (0.0, 1.0),
        {"threshold": 0.99},
    ),
    "cka": Measure(
        cka,
        cka_limit,
        "|C|^2 / (|S_a| |S_b|), Frobenius norms",
        "Kornblith et al. 2019, equation 5; Ollerenshaw et al. 2021, equations 4 and 6",
        (0.0, 1.0),
    ),
}


@dataclass(frozen=True)
class Similarities:
    """`values[measure][a, b]`; `kept[node]`: principal directions SVCCA kept; `notes`: what limits them, in words."""

    values: dict[str, dict[PairName, float]]
    kept: dict[str, int]
    notes: tuple[str, ...]


def similarities(
    moments: Moments,
    measures: Iterable[str] = ("svcca", "cka"),
    pairs: Iterable[PairName] | None = None,
    **options: float,
) -> Similarities:
    """Read measures out of running sums.

    Args:
        moments: sums over at least two frames.
        measures: names in `MEASURES`.
        pairs: (node, node) tuples, (a, a) included if wanted; left out, all pairs in `moments`.
        options: `threshold`, the share of variance SVCCA keeps, in (0, 1], 0.99 if left out.

    Raises:
        BadOption: an unknown measure or option. BadInput: fewer than two frames, a node without variance, a pair of
            which there are no sums.

    Warns:
        RankWarning: few frames for the width, or nodes with fewer directions than units.
    """
    found = _read(moments, _chosen(measures), moments.pairs if pairs is None else pairs, options)
    _warn(found.notes)
    return found


def similarity(x: Array, y: Array, measure: str = "cka", **options: float) -> float:
    """The similarity of two representations of the same frames.

    Args:
        x, y: arrays `(frame, unit)`, numpy or torch, with the same frames; widths may differ. Padding is not data.
        measure: a name in `MEASURES`: "cca", "svcca" or "cka".
        options: as for `similarities`.

    Returns: a number within the range of the measure, never NaN. Raises and warns as `similarities` and
    `Moments.update` do.
    """
    moments = Moments()
    moments.update({"x": x, "y": y})
    found = _read(moments, _chosen([measure]), moments.pairs, options)
    _warn(found.notes)
    return found.values[measure]["x", "y"]


def similarity_matrix(
    a: Array | Mapping[str, Array],
    b: Array | Mapping[str, Array] | None = None,
    measures: Iterable[str] = ("cka", "svcca"),
    **options: float,
) -> xr.Dataset:
    """Similarities of every layer in `a` with every layer in `b`, or with every other layer in `a`.

    Args:
        a, b: an array `(frame, unit)` or a mapping of layer names to such arrays; all with the same frames.
        measures: names in `MEASURES`.
        options: as for `similarities`.

    Returns: a Dataset with a variable `(layer, other_layer)` per measure; with SVCCA also `kept` `(layer,)` and, where
    `b` is given, `other_kept` `(other_layer,)`. Its attributes are `frames`, `settings` (JSON), `otoscope_version` and
    `notes` (one a line). Raises and warns as `similarities` and `Moments.update` do.
    """
    chosen = _chosen(measures)
    first = _named(a, "a")
    if b is None:
        layers = others = {layer: layer for layer in first}
        nodes = first
        wanted = list(combinations_with_replacement(first, 2))
    else:
        # A layer may have the same name in both.
        second = _named(b, "b")
        layers = {layer: f"{layer} of a" for layer in first}
        others = {layer: f"{layer} of b" for layer in second}
        nodes = {layers[k]: v for k, v in first.items()} | {others[k]: v for k, v in second.items()}
        wanted = list(product(layers.values(), others.values()))
    moments = Moments(pairs=wanted)
    moments.update(nodes)
    found = _read(moments, chosen, wanted, options)
    _warn(found.notes)

    dataset = xr.Dataset(
        coords={"layer": list(layers), "other_layer": list(others)},
        attrs={
            "frames": moments.frames,
            "settings": json.dumps({"measures": list(chosen), **_settings(chosen, options)}),
            "otoscope_version": importlib.metadata.version("otoscope"),
            "notes": "\n".join(found.notes),
        },
    )
    for name, measure in chosen.items():
        values = found.values[name]
        # Every measure so far is symmetric, so that half of the pairs of a set with itself is enough.
        table = [[values[k, o] if (k, o) in values else values[o, k] for o in others.values()] for k in layers.values()]
        attrs = {"formula": measure.formula, "source": measure.source, "range": list(measure.range)}
        dataset[name] = (("layer", "other_layer"), np.array(table), attrs)
    if "svcca" in chosen:
        attrs = {"long_name": "principal directions kept by svcca"}
        dataset["kept"] = ("layer", [found.kept[node] for node in layers.values()], attrs)
        if b is not None:
            dataset["other_kept"] = ("other_layer", [found.kept[node] for node in others.values()], attrs)
    return dataset


def _chosen(measures: Iterable[str]) -> dict[str, Measure]:
    names = [measures] if isinstance(measures, str) else list(measures)
    if not names:
        raise BadOption("no measure was asked for", wanted="one of " + ", ".join(map(repr, MEASURES)))
    return {choose("measure", name, MEASURES): MEASURES[name] for name in names}


def _settings(chosen: Mapping[str, Measure], options: Mapping[str, float]) -> dict[str, float]:
    """The defaults of the chosen measures, overridden by what was given."""
    settings = {name: value for measure in chosen.values() for name, value in measure.options.items()}
    for name, value in options.items():
        if name not in settings:
            known = ", ".join(f"{each!r} (of {m})" for m, row in MEASURES.items() for each in row.options)
            raise BadOption(f"{', '.join(chosen)} has no option {name!r}", wanted=f"the options are {known}")
        settings[name] = value
    if not 0 < settings.get("threshold", 1) <= 1:
        raise BadOption("threshold is a share of the variance", got=settings["threshold"], wanted="0 < threshold <= 1")
    return settings


def _named(arrays: Array | Mapping[str, Array], name: str) -> dict[str, Array]:
    return {str(k): v for k, v in arrays.items()} if isinstance(arrays, Mapping) else {name: arrays}


def _read(
    moments: Moments, chosen: Mapping[str, Measure], pairs: Iterable[PairName], options: Mapping[str, float]
) -> Similarities:
    settings = _settings(chosen, options)
    if moments.frames < 2:
        raise BadInput("similarity needs frames to vary over", got=f"{moments.frames} frames", wanted="at least 2")
    pairs = list(pairs)
    nodes = {name: Node(moments, name) for name in dict.fromkeys(name for pair in pairs for name in pair)}
    values: dict[str, dict[PairName, float]] = {name: {} for name in chosen}
    limits: dict[str, dict[PairName, tuple[float, str]]] = {name: {} for name in chosen}
    for a, b in pairs:
        pair = Pair(nodes[a], nodes[b], moments.covariance(a, b))
        for name, measure in chosen.items():
            given = {option: settings[option] for option in measure.options}
            values[name][a, b] = measure.score(pair, **given)
            if a != b:
                limits[name][a, b] = measure.limit(pair, **given)
    kept = {name: node.kept(settings["threshold"]) for name, node in nodes.items()} if "svcca" in chosen else {}
    notes = _rank_notes(nodes.values()) if "cca" in chosen else []
    notes += [note for name in chosen for note in _limit_notes(name, moments.frames, limits[name])]
    return Similarities(values, kept, tuple(notes))


def _rank_notes(nodes: Iterable[Node]) -> list[str]:
    short = [node for node in nodes if node.rank < node.units]
    words = [
        f"{node.name!r} varies in {node.rank} of {node.units} directions ({int((~node.varying).sum())} constant units)"
        for node in short
    ]
    return [f"cca leaves out what does not vary: {'; '.join(words)}"] if short else []


def _limit_notes(measure: str, frames: int, limits: Mapping[PairName, tuple[float, str]]) -> list[str]:
    """One note for the worst pair, which counts the others."""
    trouble = {pair: limit for pair, limit in limits.items() if limit[0] > CHANCE_WORTH_A_NOTE}
    if not trouble:
        return []
    a, b = max(trouble, key=lambda pair: trouble[pair][0])
    chance, many = trouble[a, b]
    note = f"{measure} of {a!r} and {b!r}: {frames} frames are few for {many}; unrelated nodes would score {chance:.2f}"
    return [f"{note} or so" + (f" (and {len(trouble) - 1} more pairs, less)" if len(trouble) > 1 else "")]


def _warn(notes: Iterable[str]) -> None:
    for note in notes:
        warnings.warn(note, RankWarning, stacklevel=3)
