"""The numbers behind what Krug et al. 2020 say of GradNAPs, with their controls, all from one way to measure.

Each *condition* is a whole set of profiles of the same instances: the network's own; those with one part of the speech
left out, which give intervals; those of networks with random weights; those of shuffled labels; those of a network
trained from another seed. Whatever is said of the network stands beside the same number in the others.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.stats import spearmanr
from scipy.stats import t as student
from torch import nn

from otoscope.base import BadInput, Progress, derive_seed, silent
from otoscope.hear.phones import PHONE_TABLE, phone_class
from otoscope.probe.taps import INPUT
from otoscope.reduce.clusters import cluster_groups, silhouettes
from otoscope.reduce.gradnap import ProfileSums
from otoscope.reduce.profile_shape import shape_of_profiles
from otoscope.reduce.profiles import Profiles
from otoscope.reduce.purity import cluster_purity
from otoscope.study.cascade import randomisation_order
from otoscope.study.controls import shuffle_runs
from otoscope.study.explained import Explained
from otoscope.study.formants import Vowel, chance_of_peaks, nearest, peaks_hz
from otoscope.study.random_weights import redraw

METHODS: dict[str, dict[str, str]] = {"NAvAI": {"mask": "none"}, "GradNAP": {}}
"""How one pass is read: with the gradient mask, and without. For the input layer the latter is NAvAI, whose alignment
is that of GradNAP there; in other layers NAvAI aligns by the gradient alone."""
WAYS: dict[str, dict[str, str]] = {**METHODS, "mean of |gradient|": {"mask": "mean_of_abs"}}
"""Where formants are looked for: its mask is steadier from network to network than the paper's."""
GRAPHEMES, PHONES = "symbol", "phone"
VOWELS = ("AA", "AE", "EH", "AH")
"""Vowels whose first formants lie above the range where pitch is heard."""
OWN, RANDOM, SHUFFLED, OTHER, PART = "network", "random weights", "shuffled labels", "another seed", "without part"

Reader = Callable[..., Profiles]


def measures(
    read: Reader, vowels: Mapping[str, Vowel], *, permutations: int = 200, seed: int = 0
) -> tuple[xr.Dataset, Profiles]:
    """Everything that is measured of one condition, from one pass read in several ways.

    Args:
        read: gives the profiles of the pass, as `Explained.read` does, for `mask=…`.
        vowels: the formants as measured in the recordings.
        permutations, seed: of the classes of phones, see `otoscope.reduce.purity.cluster_purity`.

    Returns:
        A Dataset, the variables of `otoscope.reduce.profile_shape.shape_of_profiles` and, NaN where there are too few
        groups: `silhouette` `(grouping, layer, percentile)`, `silhouette_mean` `(grouping, layer)`; `more` `(layer,)`,
        the mean silhouette of phones less that of graphemes; `trend` `(grouping,)`, Spearman's rank correlation of the
        mean silhouette with depth; `purity`, `purity_chance`, `purity_p`, `ami` `(layer,)`: phones against manners;
        `formant_hz`, `formant_near`, `formant_chance` `(way, vowel, number)`: the peak of the vowel's input profile
        next to the formant, whether it lies by it, and how many frequencies do. And the profiles as the paper reads
        them.
    """
    readings = {name: read(**how) for name, how in WAYS.items()}
    profiles = readings["GradNAP"]
    found = shape_of_profiles({name: readings[name] for name in METHODS}, INPUT)
    found = found.merge(_clusters(profiles, permutations, seed))
    if INPUT in profiles.layers and "frequency" in profiles.layers[INPUT].coords:
        found = found.merge(_formants(readings, vowels))
    return found, profiles


def _clusters(profiles: Profiles, permutations: int, seed: int) -> xr.Dataset:
    layers, tables = list(profiles.layers), []
    kinds = {name.partition(":")[0] for name in profiles.groups}
    for grouping in (GRAPHEMES, PHONES):
        with contextlib.suppress(BadInput):
            if grouping in kinds:
                tables.append(silhouettes(profiles, [grouping])[["silhouette", "silhouette_mean"]])
    if not tables:
        return xr.Dataset(coords={"layer": layers})
    result = xr.concat(tables, "grouping").reindex(grouping=[GRAPHEMES, PHONES])
    means = result["silhouette_mean"].transpose("grouping", "layer")
    result["trend"] = ("grouping", [rank_trend(row) for row in means.values])
    result["more"] = means.sel(grouping=PHONES, drop=True) - means.sel(grouping=GRAPHEMES, drop=True)
    if PHONES not in kinds:
        return result.drop_attrs()
    with contextlib.suppress(BadInput):
        pure = cluster_purity(
            cluster_groups(profiles, f"{PHONES}:*"),
            manners(profiles.groups),
            permutations=permutations,
            seed=seed,
        )
        for name, source in (
            ("purity", "purity_mean"),
            ("purity_chance", "purity_mean_null"),
            ("purity_p", "purity_mean_p"),
            ("ami", "ami_mean"),
        ):
            result[name] = ("layer", pure[source].values)
    return result.drop_attrs()


def _formants(readings: Mapping[str, Profiles], vowels: Mapping[str, Vowel]) -> xr.Dataset:
    """Peaks of the vowels' input profiles, summed over time."""
    shape = (len(readings), len(VOWELS), 2)
    hertz, near, chance = (np.full(shape, np.nan) for _ in range(3))
    for row, profiles in enumerate(readings.values()):
        for column, label in enumerate(VOWELS):
            group = f"{PHONES}:{label}"
            if label not in vowels or group not in profiles.groups or group in profiles.empty:
                continue
            peaks = peaks_hz(profiles.profile[INPUT].sel(group=group).sum("offset").values)
            for place in (0, 1):
                peak = nearest(peaks, vowels[label].predicted_hz[place])
                hertz[row, column, place] = np.nan if peak is None else peak
                near[row, column, place] = vowels[label].near(place + 1, peak)
                chance[row, column, place] = chance_of_peaks(peaks)
    dims = ("way", "vowel", "number")
    return xr.Dataset(
        {"formant_hz": (dims, hertz), "formant_near": (dims, near), "formant_chance": (dims, chance)},
        coords={"way": list(readings), "vowel": list(VOWELS), "number": [1, 2]},
    )


def manners(groups: Sequence[str]) -> dict[str, str | None]:
    """The manner of articulation of each group that is a phone: stop, fricative, vowel and so on."""
    labels = {name: name.partition(":")[2] for name in groups if name.startswith(f"{PHONES}:")}
    return {name: phone_class(label, "manner") if label in PHONE_TABLE else None for name, label in labels.items()}


def rank_trend(values: NDArray[Any]) -> float:
    """Spearman's rank correlation of values with their place, from 1, steadily rising, to -1; NaN of fewer than 3."""
    known = np.isfinite(values)
    if known.sum() < 3 or np.ptp(values[known]) == 0:
        return float("nan")
    return float(spearmanr(np.flatnonzero(known), values[known]).statistic)


def parts_of(task: Explained, parts: int, seed: int, progress: Progress = silent) -> list[ProfileSums]:
    """Sums of parts of the utterances, dealt by `seed` and their ids; together they are the whole.

    Of fewer utterances than `parts` each is a part of its own.
    """
    utterances = task.speech.utterances
    order = sorted(range(len(utterances)), key=lambda index: derive_seed(seed, "parts", utterances[index].id))
    found = []
    for part in range(count := min(parts, len(utterances))):
        found.append(task.among(sorted(order[part::count])).sums())
        progress(part + 1, count, "parts of the utterances")
    return found


def united(task: Explained, sums: Sequence[ProfileSums]) -> ProfileSums:
    """The sums of several parts as one; the parts stay as they are."""
    whole = ProfileSums(task.groups, **task.options)
    for part in sums:
        whole.merge(part)
    return whole


def with_shuffled_labels(task: Explained, seed: int) -> Explained:
    """The same instances in groups that mean nothing: labels handed out anew, see `shuffle_runs`."""
    rng = np.random.default_rng(seed)
    return replace(task, members=shuffle_runs(task.predictions.utterance, task.members, rng))


def random_twin(task: Explained, seed: int) -> nn.Module:
    """A network of the same shape with random weights; its instances stay those that the network predicted."""
    steps, _ = randomisation_order(task.network, task.survey)
    twin = copy.deepcopy(task.network).eval()
    redraw(twin, [name for step in steps for name in step[2]], seed)
    return twin


def jackknife(whole: xr.DataArray, without: xr.DataArray, level: float = 0.95) -> tuple[xr.DataArray, xr.DataArray]:
    """An interval of a number from what it is without each of k parts `(condition, …)`: Tukey's jackknife, t of k - 1.

    Raises:
        BadInput: fewer than two parts.
    """
    k = without.sizes["condition"]
    if k < 2:
        raise BadInput("an interval takes parts", got=k, wanted="2 or more")
    error = np.sqrt((k - 1) / k * ((without - without.mean("condition")) ** 2).sum("condition", skipna=False))
    reach = float(student.ppf(0.5 + level / 2, k - 1)) * error
    return whole - reach, whole + reach
