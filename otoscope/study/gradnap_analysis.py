"""One set of speech through one network: the tables of the figures, and every measure under every condition.

Each condition is a step of its own that is kept, so that an interrupted analysis goes on where it was; see
`otoscope.study.gradnap_measures` for what is measured.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from torch import nn

from otoscope.base import BadInput, OtoscopeError, Progress, derive_seed, silent
from otoscope.hear.corpus import Utterance, corpus_fingerprint
from otoscope.probe.taps import INPUT
from otoscope.reduce.gradnap import ProfileSums
from otoscope.reduce.profiles import Profiles
from otoscope.study.demo import Stage
from otoscope.study.explained import Explained, explained
from otoscope.study.formants import Vowel, measured_vowels
from otoscope.study.gradnap import weights_fingerprint
from otoscope.study.gradnap_measures import (
    GRAPHEMES,
    OTHER,
    OWN,
    PART,
    PHONES,
    RANDOM,
    SHUFFLED,
    VOWELS,
    measures,
    parts_of,
    random_twin,
    united,
    with_shuffled_labels,
)
from otoscope.study.gradnap_tables import field_table, input_table, neuron_table, tree_table
from otoscope.study.groupings import fold_phones
from otoscope.study.kept import Holes, Steps
from otoscope.study.recogniser import score_recogniser
from otoscope.study.speech import Speech, heard_by


@dataclass(frozen=True)
class Looking:
    """How a set of speech is looked at.

    Attributes:
        most_s: seconds of speech at most; of more, utterances are drawn by the seed.
        parts: of the utterances; each is left out once, for intervals.
        draws: networks with random weights.
        shuffles: of the labels.
        permutations: of the classes of phones.
        least: instances that a group must have.
        batch_size: utterances at once.
    """

    most_s: float = 600.0
    parts: int = 5
    draws: int = 2
    shuffles: int = 3
    permutations: int = 200
    least: int = 10
    batch_size: int = 32


@dataclass
class Analysis:
    """What was found in one set of speech; a table that could not be made is not there.

    Attributes:
        name: of the set.
        tables: of `otoscope.study.gradnap_tables`: `inputs`, `neurons`, `phone-trees`, `grapheme-trees`, `fields`.
        measures: every measure, with a dimension `condition`; None where there is none.
        facts: counts: `utterances`, `seconds`, `instances`, `wer` (percent), `words`, `epoch`.
        missing: why there is nothing at all, "" otherwise.
        holes: why a table is not there.
        note: what every caption should say besides: a run that was cut short, recordings that are missing.
    """

    name: str
    tables: dict[str, xr.Dataset] = field(default_factory=dict)
    measures: xr.Dataset | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    missing: str = ""
    holes: dict[str, str] = field(default_factory=dict)
    note: str = ""


def analyse(
    network: nn.Module,
    other: nn.Module | None,
    utterances: Sequence[Utterance],
    looking: Looking,
    folder: Path,
    *,
    name: str,
    seed: int,
    holes: Holes,
    stage: Stage,
    said: Callable[[str], None],
) -> Analysis:
    """Look at a set of speech.

    Args:
        network: to look into.
        other: one of another seed; None: this control is left out.
        utterances: of the set.
        looking: how.
        folder: where steps are kept.
        name: of the set, for messages.
        seed: of all that is drawn.
        holes: what is missing is added to them.
        stage: gives a progress callback for each stage.
        said: called with sentences.

    Raises:
        OtoscopeError: no utterance can be used, or the network predicts nothing.
    """
    with stage(f"{name}: features") as progress:
        heard = heard_by(network, _some(utterances, looking.most_s, seed))
    for problem in heard.problems[:1]:
        more = f" and {len(heard.problems) - 1} more" if len(heard.problems) > 1 else ""
        holes.add(f"{name}: {len(heard.problems)} of {len(utterances)} recordings", f"{problem}{more}")
    labelled = any(PHONES in utterance.tiers for utterance in heard.utterances)
    unlabelled = "" if labelled else "this speech has no times of phones"
    if unlabelled:
        remedy = "`phones` in the manifest's rows gives them, or `otoscope align RUN --corpus … --out FILE.jsonl`"
        holes.add(f"{name}: phones", f"{unlabelled}; {remedy}")
    same = {
        "corpus": corpus_fingerprint(heard.utterances),
        "checkpoint": weights_fingerprint(network),
        "settings": asdict(looking),
        "seed": seed,
    }
    steps = Steps(folder, same, said)
    by = (GRAPHEMES, PHONES) if labelled else (GRAPHEMES,)

    def task_of(module: nn.Module) -> Explained:
        return explained(module, heard, by=by, min_instances=looking.least, batch_size=looking.batch_size)

    whole = _Whole(lambda: task_of(network), looking.parts, seed)
    result = Analysis(name)
    vowels = _vowels(steps, heard) if labelled else {}
    facts = steps.table("facts", lambda: _facts(network, heard, whole.task))
    result.facts = {str(key): value.item() for key, value in facts.data_vars.items()}
    conditions = [_own(steps, whole, looking, vowels, seed, stage, name)]
    _figure_tables(result, steps, whole, looking, seed, unlabelled, stage, holes)
    for number in range(looking.shuffles):
        with stage(f"{name}: {SHUFFLED} {number + 1} of {looking.shuffles}") as progress:

            def shuffled(number: int = number, progress: Progress = progress) -> xr.Dataset:
                task = with_shuffled_labels(whole.task, derive_seed(seed, "labels", number))
                return _measured(task, task.sums(progress=progress), vowels, looking, seed, f"{SHUFFLED} {number + 1}")

            conditions.append(steps.table(f"shuffled-{number + 1}", shuffled))
    for number in range(looking.draws):
        with stage(f"{name}: {RANDOM} {number + 1} of {looking.draws}") as progress:

            def random(number: int = number, progress: Progress = progress) -> xr.Dataset:
                twin = random_twin(whole.task, derive_seed(seed, "draw", number))
                sums = whole.task.sums(twin, progress)
                return _measured(whole.task, sums, vowels, looking, seed, f"{RANDOM} {number + 1}")

            conditions.append(steps.table(f"random-{number + 1}", random))
    if other is not None:
        with stage(f"{name}: {OTHER}") as progress, _hole(holes, f"{name}: {OTHER}"):

            def others(progress: Progress = progress) -> xr.Dataset:
                task = task_of(other)
                return _measured(task, task.sums(progress=progress), vowels, looking, seed, OTHER)

            conditions.append(steps.table("another-seed", others, other=weights_fingerprint(other)))
    result.measures = _beside(conditions)
    return result


def _beside(conditions: Sequence[xr.Dataset]) -> xr.Dataset:
    """Several conditions in one table; what one of them lacks is NaN."""
    found = xr.concat(
        conditions,
        "condition",
        join="outer",
        data_vars="all",
        coords="minimal",
        compat="override",
        combine_attrs="drop",
    )
    # An outer join sorts.
    return found.reindex({name: conditions[0][name].values for name in ("layer", "group")})


class _Whole:
    """The pass over all speech, made when it is first asked for."""

    def __init__(self, make: Callable[[], Explained], parts: int, seed: int):
        self._make, self._parts, self._seed = make, parts, seed
        self._task: Explained | None = None
        self._sums: list[ProfileSums] | None = None
        self._united: ProfileSums | None = None

    @property
    def task(self) -> Explained:
        if self._task is None:
            self._task = self._make()
        return self._task

    def sums_of(self, progress: Progress = silent) -> list[ProfileSums]:
        """Of the parts."""
        if self._sums is None:
            self._sums = parts_of(self.task, self._parts, self._seed, progress)
        return self._sums

    def read(self, **how: Any) -> Profiles:
        """The profiles of all of it."""
        if self._united is None:
            self._united = united(self.task, self.sums_of())
        return self.task.read(self._united, **how)


def _own(
    steps: Steps, whole: _Whole, looking: Looking, vowels: dict[str, Vowel], seed: int, stage: Stage, name: str
) -> xr.Dataset:
    """The measures of the network, and of it without each part of the speech."""

    def make() -> xr.Dataset:
        with stage(f"{name}: profiles") as progress:
            sums = whole.sums_of(progress)
        with stage(f"{name}: measures") as progress:
            found = [_measured(whole.task, united(whole.task, sums), vowels, looking, seed, OWN)]
            for number in range(len(sums) if len(sums) > 1 else 0):
                rest = united(whole.task, [part for place, part in enumerate(sums) if place != number])
                found.append(_measured(whole.task, rest, vowels, looking, seed, f"{PART} {number + 1}"))
                progress(number + 1, len(sums), "parts left out")
        return _beside(found)

    return steps.table("measures", make)


def _measured(
    task: Explained, sums: ProfileSums, vowels: dict[str, Vowel], looking: Looking, seed: int, condition: str
) -> xr.Dataset:
    """The measures of one condition; those by layer and group averaged over the groups of a grouping."""
    found, profiles = measures(
        lambda **how: task.read(sums, **how), vowels, permutations=looking.permutations, seed=seed
    )
    kinds = np.array([str(group).partition(":")[0] for group in found["group"].values])
    for variable in ("outside", "extent_s", "peak_s"):
        parts = [
            found[variable].isel(group=np.flatnonzero(kinds == kind)).mean("group") for kind in (GRAPHEMES, PHONES)
        ]
        found[variable] = xr.concat(parts, xr.Variable("grouping", [GRAPHEMES, PHONES]))
    counts = profiles.instances.max("layer").values
    return found.assign(instances=("group", counts)).expand_dims(condition=[condition])


def _figure_tables(
    result: Analysis,
    steps: Steps,
    whole: _Whole,
    looking: Looking,
    seed: int,
    unlabelled: str,
    stage: Stage,
    holes: Holes,
) -> None:
    """The tables of the figures; one that cannot be made is a hole."""
    with stage(f"{result.name}: optimal inputs") as progress:

        def neurons() -> xr.Dataset:
            profiles = whole.read()
            # A window of a single frame has no course over time, as in a layer below outputs of kernel 1.
            own = [name for name, table in profiles.layers.items() if name != INPUT and table.sizes["offset"] > 1]
            if not own:
                raise BadInput("no layer has a course over time", got="windows of a single frame")
            layer = own[min(1, len(own) - 1)]
            task = whole.task
            return neuron_table(
                task.network, task.survey, profiles, layer, seed=seed, unlabelled=unlabelled, progress=progress
            )

        def trees(grouping: str) -> xr.Dataset:
            profiles = whole.read()
            return tree_table(profiles, list(profiles.layers), grouping)

        makers: dict[str, Callable[[], xr.Dataset]] = {
            "inputs": lambda: input_table(whole.read, unlabelled=unlabelled),
            "neurons": neurons,
            "phone-trees": lambda: trees(PHONES),
            "grapheme-trees": lambda: trees(GRAPHEMES),
            "fields": lambda: field_table(whole.read(), looking.least),
        }
        if unlabelled:
            result.holes["phone-trees"] = unlabelled
            del makers["phone-trees"]
        for name, make in makers.items():
            try:
                result.tables[name] = steps.table(name, make)
            except OtoscopeError as error:
                result.holes[name] = holes.add(f"{result.name}: {name}", error)
    for name in ("inputs", "neurons"):
        if name in result.tables:
            for group, hole in zip(*(result.tables[name][key].values for key in ("group", "hole")), strict=True):
                if hole and not (unlabelled and str(group).startswith(PHONES)):
                    holes.add(f"{result.name}: {group}", str(hole))


@contextlib.contextmanager
def _hole(holes: Holes, what: str) -> Iterator[None]:
    try:
        yield
    except OtoscopeError as error:
        holes.add(what, error)


def _some(utterances: Sequence[Utterance], most_s: float, seed: int) -> list[Utterance]:
    """As many utterances as fit into the time, drawn by the seed and their ids; one of unknown length counts 5 s."""
    drawn = sorted(utterances, key=lambda utterance: derive_seed(seed, "speech", utterance.id))
    kept: set[str] = set()
    seconds = 0.0
    for utterance in drawn:
        seconds += float(utterance.attributes.get("duration") or 5.0)
        if seconds > most_s and kept:
            break
        kept.add(utterance.id)
    return [utterance for utterance in utterances if utterance.id in kept]


def _facts(network: nn.Module, heard: Speech, task: Explained) -> xr.Dataset:
    """Counts and word errors of the set."""
    errors = score_recogniser(network, heard)["total"]
    found = {
        "utterances": len(heard),
        "seconds": heard.seconds,
        "speakers": len({utterance.speaker for utterance in heard.utterances}),
        "instances": len(task.members),
        "words": errors.words,
        "wer": errors.wer if errors.words else float("nan"),
        "epoch": int(getattr(network, "checkpoint", {}).get("epoch") or 0),
    }
    return xr.Dataset({name: ((), value) for name, value in found.items()})


def _vowels(steps: Steps, heard: Speech) -> dict[str, Vowel]:
    """The formants of the vowels, as measured in the recordings."""

    def make() -> xr.Dataset:
        tiers = fold_phones([utterance.tiers.get(PHONES, []) for utterance in heard.utterances])
        pairs = zip(heard.utterances, tiers, strict=True)
        folded = [one.replace(tiers={PHONES: tier}) for one, tier in pairs if one.audio is not None]
        found = measured_vowels(folded, VOWELS)
        missing = Vowel("", (np.nan, np.nan), (np.nan, np.nan))
        vowels = [found.get(label, missing) for label in VOWELS]
        shape = [[vowel.predicted_hz for vowel in vowels], [vowel.spectral_hz for vowel in vowels]]
        return xr.Dataset(
            {"hertz": (("source", "vowel", "number"), np.array(shape, dtype=float))},
            coords={"source": ["linear prediction", "mean spectrum"], "vowel": list(VOWELS), "number": [1, 2]},
        )

    hertz = steps.table("vowels", make)["hertz"]
    vowels = {}
    for label in VOWELS:
        (low, high), (first, second) = hertz.sel(vowel=label).values.tolist()
        if np.isfinite([low, high]).all():
            peaks = None if np.isnan(first) else first, None if np.isnan(second) else second
            vowels[label] = Vowel(label, (low, high), peaks)
    return vowels
