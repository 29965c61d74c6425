"""Results in a few lines of text, as the command line shows them. Imports nothing, so that `--help` stays quick."""

from __future__ import annotations

import itertools
import math
from typing import Any

Table = tuple[list[str], list[list[object]]]


def layer_summary(facts: list[dict[str, Any]]) -> Table:
    """A row for each layer of a network."""
    rows: list[list[object]] = [
        [
            fact["name"],
            fact["kind"],
            fact["width"],
            f"{1000 * fact['stride_s']:g}",
            "utterance" if fact["field"] is None else f"{fact['field']} ({1000 * fact['field_s']:g} ms)",
        ]
        for fact in facts
    ]
    return ["layer", "kind", "units", "stride (ms)", "receptive field (frames)"], rows


def profile_summary(profiles: Any) -> Table:
    """A row for each group: its instances, and the units of the last layer that answer most."""
    counts, last = profiles.instances.max("layer"), list(profiles.layers)[-1]
    rows: list[list[object]] = []
    for group in profiles.groups:
        units = "-" if group in profiles.empty else profiles.top_units(group, 5)[last]["unit"].values
        rows.append([group, int(counts.sel(group=group)), " ".join(map(str, units))])
    return ["group", "N", f"most responsive units of {last}"], rows


def training_summary(found: Any) -> Table:
    """A row for each layer: how alike it was to its end when training began, and from when on it stayed so."""
    headers = ["layer"]
    for measure in found["measure"].values:
        headers += [f"{measure}: first with last", "settled at epoch"]
    if "probe" in found:
        headers += [f"{node} read off it" for node in _probed(found)]
    rows: list[list[object]] = []
    for layer in found["layer"].values:
        row: list[object] = [str(layer)]
        for measure in found["measure"].values:
            at = found.sel(measure=measure, layer=layer)
            row += [_with_interval(at, "to_last", epoch=0), _epochs(at)]
        if "probe" in found:
            row += [f"{float(found['probe'].sel(layer=layer, node=node)):.2f}" for node in _probed(found)]
        rows.append(row)
    return headers, rows


def training_words(found: Any) -> list[str]:
    """Whether layers settle from the bottom up, and which are ill."""
    words = []
    for measure in found["measure"].values:
        index = float(found["bottom_up"].sel(measure=measure))
        said = "no order (all settle together)" if math.isnan(index) else f"{index:+.2f}"
        words.append(f"{measure}: rank correlation of depth with convergence {said}")
    ill = found.attrs.get("pathologies", "")
    return [*words, *(ill.splitlines() or ["no sign of illness: no spike, no layer that stays frozen or unsettled"])]


def network_summary(found: Any, measures: list[str]) -> Table:
    """A row for each pair of neighbouring layers of each network, and for the last layers of each pair of networks."""
    rows: list[list[object]] = []
    there = [
        (
            network,
            epoch,
            [layer for layer in _in_depth(found, network) if _has(found, network, epoch, layer, measures[0])],
        )
        for network in found["network"].values
        for epoch in found["epoch"].values
    ]
    there = [each for each in there if each[2]]
    pairs = [((n, e, a), (n, e, b)) for n, e, layers in there for a, b in itertools.pairwise(layers)]
    ends = [(network, epoch, layers[-1]) for network, epoch, layers in there]
    pairs += [(a, b) for index, a in enumerate(ends) for b in ends[index + 1 :]]
    for a, b in pairs:
        at = dict(zip(("network", "epoch", "layer"), a, strict=True))
        at |= dict(zip(("other_network", "other_epoch", "other_layer"), b, strict=True))
        chosen = found.sel(at)
        rows.append([_place(a), _place(b), *(_with_interval(chosen, measure) for measure in measures)])
    return ["layer", "with", *measures], rows


def _in_depth(found: Any, network: str) -> list[str]:
    """The layers of a network, the first one first."""
    depth = found["depth"].sel(network=network).dropna("layer")
    return [str(layer) for layer in depth.sortby(depth)["layer"].values]


def _has(found: Any, network: str, epoch: int, layer: str, measure: str) -> bool:
    one = found[measure].sel(network=network, epoch=epoch, layer=layer)
    return bool(one.notnull().any())


def _place(place: tuple[str, int, str]) -> str:
    network, epoch, layer = place
    return f"{network}/{layer}" if int(epoch) < 0 else f"{network}/epoch {epoch}/{layer}"


def _probed(found: Any) -> list[str]:
    return [str(node) for node in found["node"].values if bool(found["probe"].sel(node=node).notnull().any())]


def _with_interval(at: Any, name: str, epoch: int | None = None) -> str:
    value, bounds = at[name], at.get(f"{name}_interval")
    if epoch is not None:
        value, bounds = value[epoch], None if bounds is None else bounds[epoch]
    if bounds is None:
        return f"{float(value):.3f}"
    low, high = map(float, bounds)
    return f"{float(value):.3f} ({low:.3f} to {high:.3f})"


def _epochs(at: Any) -> str:
    settled = float(at["converged"])
    if math.isnan(settled):
        return "-"
    if "converged_interval" not in at:
        return f"{settled:.0f}"
    low, high = map(float, at["converged_interval"])
    return f"{settled:.0f} ({low:.0f} to {high:.0f})"


def optimal_summary(found: dict[str, Any]) -> Table:
    """How far optimal inputs go: the activation of the neurons at the start and at the end, by layer and set."""
    rows: list[list[object]] = []
    for layer, table in found.items():
        for name, size, course in zip(
            table["set"].values, table["size"].values, table["activation"].values, strict=True
        ):
            rows.append([layer, str(name), str(int(size)), f"{float(course[0]):.3g}", f"{float(course[-1]):.3g}"])
    return ["layer", "neurons of", "N", "activation at the start", "at the end"], rows
