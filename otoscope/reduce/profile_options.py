"""The choices of a pass into profiles, the presets that fix them, and how the records of two passes become one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from otoscope.base import BadOption, choose

_GRADNAP: dict[str, Any] = {
    "instances": "every",
    "alignment": "gradient_activation",
    "width": None,
    "order": "time",
    "units": None,
    "pad": "missing",
    "mask": "abs_of_mean",
    "normaliser": "instances",
    "min_instances": 1,
}
PRESETS: dict[str, dict[str, Any]] = {
    "krug2020": _GRADNAP,
    # Aligned by sensitivity in every layer, a window of the receptive field, no mask (Krug et al. 2020, section 3.2).
    "navai": _GRADNAP | {"alignment": "gradient", "width": "cone", "mask": "none"},
    # "Time-independence by sorting on the time axis": each neuron's activations over the cone, sorted; no gradients.
    "nap": _GRADNAP | {"alignment": "none", "width": "cone", "order": "rank", "mask": "none"},
}
CHOICES = {
    "instances": ("every", "peak"),
    "alignment": ("gradient_activation", "gradient", "none"),
    "order": ("time", "rank"),
    "pad": ("missing", "zero"),
    "mask": ("abs_of_mean", "mean_of_abs", "none"),
    "normaliser": ("instances", "groups"),
}
# Utterances named in the settings of profiles; their number is told whatever it is.
NAMED = 20


def checked_width(width: int | str | Mapping[str, int | str] | None) -> int | str | dict[str, int | str] | None:
    """A width as it is recorded.

    Raises:
        BadOption: a number of frames that is not odd, or a word other than "cone".
    """
    given = dict(width) if isinstance(width, Mapping) else width
    for value in given.values() if isinstance(given, dict) else [] if given is None else [given]:
        if value != "cone" and (not isinstance(value, int) or value < 1 or value % 2 == 0):
            raise BadOption("a window needs a middle", got=f"width {value}", wanted="an odd number, or 'cone'")
    return given


def checked_units(units: Mapping[str, Sequence[int]] | None) -> dict[str, list[int]] | None:
    """Units as they are recorded, None for all of every layer.

    Raises:
        BadOption: a layer with no unit, a negative one or one twice.
    """
    kept = {layer: [int(unit) for unit in given] for layer, given in (units or {}).items()}
    for layer, given in kept.items():
        if not given or min(given) < 0 or len(set(given)) < len(given):
            raise BadOption(f"units of layer {layer!r}", got=given, wanted="indices of units, each once")
    return kept or None


def changed(settings: Mapping[str, Any], **options: Any) -> dict[str, Any]:
    """The settings with the options that are not None, and in "changed" the names of those unlike the preset."""
    given = {name: value for name, value in options.items() if value is not None}
    for name in given.keys() & CHOICES.keys():
        choose(name, given[name], CHOICES[name])
    result = {**settings, **given}
    standard = PRESETS[settings["preset"]]
    return {**result, "changed": sorted(name for name in standard if result[name] != standard[name])}


def groupings(groups: Sequence[str]) -> set[str]:
    """The groupings among names of groups."""
    return {name.partition(":")[0] for name in groups}


def united(mine: tuple[str, ...], theirs: tuple[str, ...]) -> tuple[str, ...]:
    """All groups, grouping by grouping; in the order of the alphabet where both were."""
    if set(theirs) <= set(mine):
        return mine
    found: list[str] = []
    for grouping in dict.fromkeys(name.partition(":")[0] for name in mine):
        ours, others = ([name for name in names if name.partition(":")[0] == grouping] for names in (mine, theirs))
        both = list(dict.fromkeys([*ours, *others]))
        found += sorted(both) if ours == sorted(ours) and others == sorted(others) else both
    return tuple(found)


def joined(mine: Any, theirs: Any) -> Any:
    """What two passes say, as one: counts add up, what differs otherwise stands side by side."""
    if isinstance(mine, dict) and isinstance(theirs, dict):
        both = {name: joined(mine[name], theirs[name]) for name in mine if name in theirs}
        return {**mine, **theirs, **both}
    if isinstance(mine, int) and isinstance(theirs, int) and not isinstance(mine, bool):
        return mine + theirs
    if isinstance(mine, list) and isinstance(theirs, list):
        return [*mine, *(item for item in theirs if item not in mine)]
    return mine if mine == theirs else f"{mine}; {theirs}"


def named(owners: Mapping[str, int]) -> dict[str, Any]:
    """How often something was met: in how many utterances, how often in all, and in which most."""
    most = dict(Counter(owners).most_common(NAMED))
    return {"utterances": len(owners), "count": sum(owners.values()), "named": most}


def mapping_notes(settings: Mapping[str, Any]) -> list[str]:
    """What predictions stand for in their transcripts, in sentences: how many of each, and words without phones."""
    notes = []
    for name, counts in settings.get("stand_for", {}).items():
        said = ", ".join(f"{count} {what}" for what, count in counts.items())
        notes.append(f"{name}: of {sum(counts.values())} predictions stand for {said}")
    words = settings.get("unpronounced", {})
    if words:
        most = ", ".join(f"{word} ({count})" for word, count in Counter(words).most_common(NAMED))
        notes.append(f"{sum(words.values())} words of the transcripts have no phones: {most}")
    return notes
