"""The table of similarity measures. A new one is a function and a row.

Measures of two kinds: those that read sums take a `Pair` (covariances C, S_a, S_b over n frames); those that read
frames are prepared once for each node, `prepare(x (frame, unit))`, and scored for each pair. Formulae, invariances and
edges are in docs/measures/.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from otoscope.base import BadInput, BadOption, choose
from otoscope.reduce.dissimilarity import prepare_rsa, score_rsa
from otoscope.reduce.kernels import Prepared, chance_cka_rbf, prepare_cka_rbf, score_cka_rbf
from otoscope.reduce.neighbours import knn_chance, prepare_knn, score_knn
from otoscope.reduce.spectra import Pair, unbiased_hsic

# A sum of so many singular values comes with this error for each, of which the arc cosine near 1 would make its root.
COSINE_ROUNDING = 4 * torch.finfo(torch.float64).eps
WEIGHTINGS = ("x", "y", "mean")


def cca(pair: Pair) -> float:
    """Mean canonical correlation over the smaller rank, in [0, 1] (Hotelling 1936)."""
    return float(pair.correlations.mean())


def cca_r2(pair: Pair) -> float:
    """Mean squared canonical correlation over the smaller rank, in [0, 1] (Ramsay et al. 1984)."""
    return min(float((pair.whitened**2).sum()) / min(pair.whitened.shape), 1.0)


def svcca(pair: Pair, threshold: float) -> float:
    """Mean canonical correlation of the directions that hold `threshold` of each variance (Raghu et al. 2017)."""
    if not 0 < threshold <= 1:
        raise BadOption("threshold is a share of the variance", got=threshold, wanted="0 < threshold <= 1")
    return float(pair.principal_correlations(threshold).mean())


def pwcca(pair: Pair, weighting: str) -> float:
    """Canonical correlations weighted by how much of a node each direction accounts for (Morcos et al. 2018).

    `weighting`: of the first node ("x", the paper's), of the second ("y"), or the mean of both values ("mean").
    """
    sides = {"x": [pair], "y": [pair.reverse], "mean": [pair, pair.reverse]}[choose("weighting", weighting, WEIGHTINGS)]
    return sum(map(_projection_weighted, sides)) / len(sides)


def _projection_weighted(pair: Pair) -> float:
    correlations, directions = pair.canonical
    # <h_i, x_j> summed over units j: h_i is the i-th canonical variate of `a` over the frames.
    weights = (directions.T @ pair.a.loading).abs().sum(1)
    return min(float(correlations @ weights / weights.sum()), 1.0)


def cka(pair: Pair) -> float:
    """Linear centred kernel alignment, biased estimator, in [0, 1] (Kornblith et al. 2019, equation 5)."""
    # Scaled by the variances before squaring, values of 1e-80 or 1e80 stay within the range of float64.
    cross = pair.cross / math.sqrt(pair.a.total) / math.sqrt(pair.b.total)
    return min(float((cross**2).sum()) / (pair.a.norm * pair.b.norm), 1.0)


def cka_debiased(pair: Pair) -> float:
    """Linear CKA from the unbiased estimator of HSIC, at most 1 and about 0 for unrelated nodes (Song et al. 2012)."""
    for node in (pair.a, pair.b):
        if node.self_hsic <= 0:
            raise BadInput(
                f"node {node.name!r} has no unbiased HSIC with itself",
                got=f"{node.self_hsic:.2g} of its variance squared over {node.frames} frames of {node.units} units",
                wanted="more than 0",
                remedy="give more frames, or use the biased cka",
            )
    between = unbiased_hsic(pair.a.covariances, pair.a, pair.b, pair.cross)
    return max(-1.0, min(between / math.sqrt(pair.a.self_hsic * pair.b.self_hsic), 1.0))


def procrustes(pair: Pair) -> float:
    """Cosine of two centred representations after the best rotation of one, in [0, 1] (Ding et al. 2021).

    The Procrustes distance of the representations, each scaled to norm 1, is the root of 2 (1 - procrustes).
    """
    return pair.overlap


def angular(pair: Pair) -> float:
    """1 - 2 theta / pi with theta the angle whose cosine is `procrustes`, in [0, 1] (Williams et al. 2021)."""
    cosine = pair.overlap
    return (
        1.0 if 1 - cosine <= COSINE_ROUNDING * max(pair.a.units, pair.b.units) else 1 - 2 * math.acos(cosine) / math.pi
    )


def r2(pair: Pair, predict: str) -> float:
    """Share of the variance of one node that a linear map of the other predicts, in [0, 1] (Kornblith et al. 2019).

    `predict`: the second node from the first ("y"), or the first from the second ("x").
    """
    if choose("node to predict", predict, ("y", "x")) == "x":
        return r2(pair.reverse, "y")
    return min(float(((pair.half_whitened / math.sqrt(pair.b.total)) ** 2).sum()), 1.0)


# What unrelated nodes would score with so few frames, and what is many for them, in words.


def canonical_limit(pair: Pair, **_: Any) -> tuple[float, str]:
    """Root mean square correlation with the frames of one node shuffled: the mean is expected a little below it.

    Centring leaves n - 1 dimensions. Shuffled, the squares sum to rank × rank / (n - 1) on average; and two subspaces
    share whatever of rank + rank does not fit into n - 1.
    """
    return _canonical_limit(pair.frames, pair.a.rank, pair.b.rank)


def cca_r2_limit(pair: Pair) -> tuple[float, str]:
    """Mean squared correlation with the frames of one node shuffled, exactly."""
    root, words = canonical_limit(pair)
    return root**2, words


def svcca_limit(pair: Pair, threshold: float) -> tuple[float, str]:
    """As `canonical_limit`, for the directions kept."""
    return _canonical_limit(pair.frames, pair.a.kept(threshold), pair.b.kept(threshold))


def cka_limit(pair: Pair) -> tuple[float, str]:
    """The expectation with the frames of one node shuffled is tr S_a tr S_b / ((n - 1) |S_a| |S_b|), exactly."""
    chance = 1 / ((pair.frames - 1) * pair.a.norm * pair.b.norm)
    return chance, f"{pair.a.units} and {pair.b.units} units"


def procrustes_limit(pair: Pair) -> tuple[float, str]:
    """Shuffled, |C|^2 is tr S_a tr S_b / (n - 1) on average, spread over as many directions as carry the variance."""
    spread = min(pair.a.norm**-2, pair.b.norm**-2)
    return min(math.sqrt(spread / (pair.frames - 1)), 1.0), f"{pair.a.units} and {pair.b.units} units"


def angular_limit(pair: Pair) -> tuple[float, str]:
    """As `procrustes_limit`, as an angle."""
    cosine, words = procrustes_limit(pair)
    return 1 - 2 * math.acos(cosine) / math.pi, words


def r2_limit(pair: Pair, predict: str) -> tuple[float, str]:
    """With the frames of one node shuffled, rank / (n - 1) of the variance, exactly; the rank is the predictor's."""
    predictor = pair.a if predict == "y" else pair.b
    return min(predictor.rank / (pair.frames - 1), 1.0), f"{predictor.rank} directions that predict"


def _canonical_limit(frames: int, rank: int, other: int) -> tuple[float, str]:
    forced = rank + other - (frames - 1)
    words = f", where {forced} of {min(rank, other)} correlations are 1 whatever the data" if forced > 0 else ""
    return math.sqrt(min(max(rank, other) / (frames - 1), 1.0)), f"{rank} and {other} directions{words}"


def knn_limit(p: Any, _: Any, k: int, distance: str) -> tuple[float, str]:
    """k of n - 1 frames are neighbours by chance."""
    return knn_chance(len(p), k), f"{k} {distance} neighbours"


def cka_rbf_limit(p: Prepared, q: Prepared, **_: Any) -> tuple[float, str]:
    """The expectation with the frames of one node shuffled, exactly."""
    return chance_cka_rbf(p, q), "a Gram matrix of so narrow a kernel"


@dataclass(frozen=True)
class Measure:
    """A row of the table.

    Attributes:
        score: of a `Pair`, or where there is `prepare` of what that made of two nodes; gives a float.
        formula, source, range: for people, and (the range) for tests.
        options: those of the measure, with their defaults; passed to `score`, or where there is one to `prepare`.
        prepare: of the frames of a node, `(frame, unit)` float64; None for a measure that reads sums.
        limit: what unrelated nodes would score, and words; of a `Pair` or, beside `prepare`, of what that made of two.
        symmetric: whether the order of the nodes makes no difference.
        needs_norms: whether the sums must hold squared norms.
        needs_directions: whether it reads the canonical directions beside the correlations.
        whitens: whether it leaves out directions that do not vary.
    """

    score: Callable[..., float]
    formula: str
    source: str
    range: tuple[float, float] = (0.0, 1.0)
    options: Mapping[str, Any] = field(default_factory=dict)
    prepare: Callable[..., Any] | None = None
    limit: Callable[..., tuple[float, str]] | None = None
    symmetric: bool = True
    needs_norms: bool = False
    needs_directions: bool = False
    whitens: bool = False

    @property
    def reads_frames(self) -> bool:
        return self.prepare is not None

    def given(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The measure's own options."""
        return {name: settings[name] for name in self.options}


KORNBLITH = "Kornblith et al. 2019"
MEASURES: dict[str, Measure] = {
    "cca": Measure(
        cca,
        "mean of rho_i over min(rank S_a, rank S_b); rho: singular values of S_a^(-1/2) C S_b^(-1/2)",
        "Hotelling 1936; as a similarity of networks Raghu et al. 2017",
        limit=canonical_limit,
        whitens=True,
    ),
    "cca_r2": Measure(
        cca_r2,
        "mean of rho_i^2 over min(rank S_a, rank S_b)",
        f"Ramsay et al. 1984; {KORNBLITH}, section 3",
        limit=cca_r2_limit,
        whitens=True,
    ),
    "svcca": Measure(
        svcca,
        "mean of rho_i between the fewest principal directions that hold `threshold` of the variance of each node",
        "Raghu et al. 2017, section 2; Ollerenshaw et al. 2021, equations 1 and 2",
        options={"threshold": 0.99},
        limit=svcca_limit,
    ),
    "pwcca": Measure(
        pwcca,
        "sum of alpha_i rho_i / sum of alpha_i; alpha_i = sum over units j of |<h_i, x_j>|, h_i: canonical variates",
        "Morcos et al. 2018, section 3",
        options={"weighting": "x"},
        limit=canonical_limit,
        symmetric=False,
        needs_directions=True,
        whitens=True,
    ),
    "cka": Measure(
        cka,
        "|C|^2 / (|S_a| |S_b|), Frobenius norms",
        f"{KORNBLITH}, equation 5; Ollerenshaw et al. 2021, equations 4 and 6",
        limit=cka_limit,
    ),
    "cka_debiased": Measure(
        cka_debiased,
        "HSIC_1(x, y) / sqrt(HSIC_1(x, x) HSIC_1(y, y)), linear kernels",
        "Song et al. 2012, equation 5; as CKA Nguyen et al. 2021",
        range=(-1.0, 1.0),
        needs_norms=True,
    ),
    "cka_rbf": Measure(
        score_cka_rbf,
        "HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)), k(x, x') = exp(-|x - x'|^2 / (2 (bandwidth median distance)^2))",
        f"{KORNBLITH}, section 3; Gretton et al. 2005",
        range=(-1.0, 1.0),
        options={"bandwidth": 1.0, "kernel": "rbf", "estimator": "biased"},
        prepare=prepare_cka_rbf,
        limit=cka_rbf_limit,
    ),
    "procrustes": Measure(
        procrustes,
        "nuclear norm of C / sqrt(tr S_a tr S_b)",
        "Schönemann 1966; as a similarity Ding et al. 2021",
        limit=procrustes_limit,
    ),
    "angular": Measure(
        angular,
        "1 - (2 / pi) arccos of procrustes",
        "Williams et al. 2021, equation 5",
        limit=angular_limit,
    ),
    "r2": Measure(
        r2,
        "1 - min over B of |Y - X B|^2 / |Y|^2 = tr(C^T S_a^(-1) C) / tr S_b",
        f"{KORNBLITH}, section 3",
        options={"predict": "y"},
        limit=r2_limit,
        symmetric=False,
        whitens=True,
    ),
    "knn": Measure(
        score_knn,
        "share of the `k` nearest neighbours of a frame that two representations agree on, mean over frames",
        "Huh et al. 2024",
        options={"k": 10, "distance": "euclidean"},
        prepare=prepare_knn,
        limit=knn_limit,
    ),
    "rsa": Measure(
        score_rsa,
        "Spearman correlation between the dissimilarities of all pairs of frames",
        "Kriegeskorte et al. 2008",
        range=(-1.0, 1.0),
        options={"distance": "correlation", "comparison": "spearman"},
        prepare=prepare_rsa,
    ),
}


def chosen_measures(measures: Any) -> dict[str, Measure]:
    """The rows of these names. Raises `BadOption` for an unknown name, or none."""
    names = [measures] if isinstance(measures, str) else list(measures)
    if not names:
        raise BadOption("no measure was asked for", wanted="one of " + ", ".join(map(repr, MEASURES)))
    return {choose("measure", name, MEASURES): MEASURES[name] for name in names}


def settings_of(chosen: Mapping[str, Measure], options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """For each measure its options: the defaults, overridden by what was given.

    Raises:
        BadOption: an option that none of the measures has.
    """
    for name in options:
        if not any(name in measure.options for measure in chosen.values()):
            known = ", ".join(f"{each!r} (of {m})" for m, row in MEASURES.items() for each in row.options)
            raise BadOption(f"{', '.join(chosen)} has no option {name!r}", wanted=f"the options are {known}")
    return {
        key: {name: options.get(name, default) for name, default in measure.options.items()}
        for key, measure in chosen.items()
    }
