"""GradNAP's running sums: each instance is aligned in time, cropped and added to its groups.

Follows Krug et al. 2020, section 3.2 and Figure 1. An *instance* is one output frame whose prediction is explained. Per
layer it brings the gradient of its logit over the layer's *cone* (the frames on which that output frame depends), and
the activations of its utterance. What is kept per layer, for every group and every offset from the alignment time, is

    Σ activation, Σ gradient, Σ |gradient|    (group, offset, unit)    float64
    n                                         (group, offset)          int64

and the same over all instances, the normaliser. Up to 256 instances at a time are summed in the precision of the
tensors handed over (float32 at least), and those sums in float64. So any order, split and merge gives the same counts,
and the same sums to the rounding of that precision.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from otoscope.base import BadInput, BadOption, atomic_path, choose
from otoscope.reduce.aligned_sums import Block, How, LayerSums
from otoscope.reduce.profile_options import (
    PRESETS,
    changed,
    checked_units,
    checked_width,
    groupings,
    joined,
    named,
    united,
)
from otoscope.reduce.profiles import Profiles, read_out

INPUT = "input"
"""The network's input among the layers. It is aligned by |gradient| alone: zero does not mean absence there."""

FORMAT = 2
# Instances summed at once: it bounds the memory beside the caller's tensors, and the length of a float32 sum.
BLOCK = 256
# Activations sorted at once.
SORTED = 2**23
# What a file of sums holds beside its tables.
RECORDS = ("settings", "facts", "incidents", "not_finite", "frame_s", "frequency_hz")


class ProfileSums:
    """Running sums of aligned activations and gradients by layer and group: `update`, `merge`, `finalize`.

    Args:
        groups: names on the group axis, "grouping:label" such as "symbol:a" and "phone:AE"; several groupings share it.
        preset: fixes every choice that is not given: "krug2020", "navai" or "nap".
        instances: "every" frame or the "peak" of each emission: what the instances are, which is only recorded here.
        alignment: "gradient_activation", the time of the largest mean over units of |gradient| · activation, or for the
            layer "input" of |gradient|; "gradient", |gradient| in every layer, as NAvAI aligns; "none", the frame that
            was predicted.
        width: odd number of frames kept around the alignment, one for all layers or by layer. None is twice the cone
            less one, which loses nothing; "cone" as many as the cone has (one more where that is even).
        order: "time"; or "rank", as in NAPs: each unit's activations over the window sorted, the largest first, so that
            an offset is a rank and time is gone. The window is then the cone, unless a number of frames is given.
            Gradients go with their activations.
        units: by layer the indices of the units to keep; of other layers all are. The whole layer still decides the
            time of alignment, so means and counts are those of the whole layer; the mask's maximum is that of the
            units kept.
        pad: positions outside the utterance are "missing" from the means, or count as "zero".

    Attributes:
        settings: the choices; what is added to them must be the same in sums that are merged.
        facts: what a pass says of itself. In a merge whole numbers add up, and texts that differ stand side by side.
        incidents: what a pass met that readers should know, in words: in which utterance how often.
        not_finite: by layer and utterance, how many instances were left out as not finite; where names were given.
        frame_s, frequency_hz: as in `finalize`, which takes these where it is given none.

    Raises:
        BadOption: an unknown choice, a width that is not odd, units that are none.
        BadInput: names of groups that cannot be used.
    """

    def __init__(
        self,
        groups: Sequence[str],
        *,
        preset: str = "krug2020",
        instances: str | None = None,
        alignment: str | None = None,
        width: int | str | Mapping[str, int | str] | None = None,
        order: str | None = None,
        units: Mapping[str, Sequence[int]] | None = None,
        pad: str | None = None,
    ):
        self.groups = tuple(groups)
        wrong = [name for name in self.groups if not all(name.partition(":"))]
        twice = sorted({name for name in self.groups if self.groups.count(name) > 1})
        if wrong or twice or not self.groups:
            raise BadInput("these cannot be groups", got=wrong or twice or "none", wanted="names like 'phone:AE', once")
        choose("preset", preset, PRESETS)
        standard = {"preset": preset, **PRESETS[preset], "changed": []}
        given = {"instances": instances, "alignment": alignment, "order": order, "pad": pad}
        self.settings: dict[str, Any] = changed(
            standard, width=checked_width(width), units=checked_units(units), **given
        )
        self.layers: dict[str, LayerSums] = {}
        self.not_finite: dict[str, dict[str, int]] = {}
        self.facts: dict[str, Any] = {}
        self.incidents: dict[str, dict[str, int]] = {}
        self.frame_s: dict[str, float] = {}
        self.frequency_hz: list[float] | None = None

    def __repr__(self) -> str:
        n = max((int(sums.instances[-1]) for sums in self.layers.values()), default=0)
        return f"ProfileSums({len(self.layers)} layers, {len(self.groups)} groups, N = {n} instances)"

    @torch.no_grad()
    def update(
        self,
        layer: str,
        activations: Sequence[Tensor],
        utterance: Tensor,
        gradient: Tensor,
        start: Tensor,
        centre: Tensor,
        membership: Tensor,
        names: Sequence[str] | None = None,
    ) -> Tensor:
        """Add instances of one layer; a few hundred at a time are fastest.

        The alignment time is the maximum over the cone inside the utterance; of equal maxima the one closest to
        `centre`, the earlier of two as close. A map that is the same everywhere says nothing: `centre` is used, and the
        instance counted as flat. An instance whose gradient, or whose utterance's activations, are not finite is left
        out of this layer and counted.

        Args:
            activations: per utterance `(frame, unit)`, valid frames only.
            utterance: `(instance,)`, which of them each instance belongs to.
            gradient: `(instance, span, unit)`, of each instance's logit, over the cone. It is not read where the cone
                reaches outside the utterance.
            start: `(instance,)`, the frame of this layer at which the cone begins; may be negative.
            centre: `(instance,)`, the frame of this layer that corresponds to the predicted output frame.
            membership: `(instance, grouping)`, indices into `groups`, -1 for none; a group at most once per instance.
            names: of the utterances, for `not_finite`.

        Returns:
            The indices of the instances left out, so that the caller can name them.

        Raises:
            BadInput: shapes or indices that do not fit together, a cone wider than the first one's window.
        """
        if len(gradient) == 0:
            return torch.zeros(0, dtype=torch.int64)
        device, precision = gradient.device, torch.promote_types(torch.float32, gradient.dtype)
        at, start, centre, membership = (x.to(device, torch.int64) for x in (utterance, start, centre, membership))
        length = torch.tensor([len(frames) for frames in activations], device=device)
        self._check(layer, activations, length, at, gradient, start, centre, membership)
        owner, units = utterance.cpu(), self._units(layer, gradient)
        used, at = at.unique(return_inverse=True)
        length = length[used]
        table = torch.cat([activations[index].detach().to(device, precision) for index in used.tolist()])
        first, usable = length.cumsum(0) - length, _finite_utterances(table, length)
        self._open(layer, gradient)
        alignment, ranked = self.settings["alignment"], self.settings["order"] == "rank"
        how = How(
            weigh=alignment == "gradient_activation" and layer != INPUT,
            align=alignment != "none",
            zeros=self.settings["pad"] == "zero",
            ranked=ranked,
            cone=ranked and not isinstance(self._width(layer), int),
            units=units,
        )
        step = max(1, min(BLOCK, SORTED // gradient[0].numel())) if ranked else BLOCK
        left_out = []
        for begin in range(0, len(gradient), step):
            part = slice(begin, begin + step)
            here = at[part]
            chunk = gradient[part].detach().to(precision).contiguous()
            block = Block(chunk, first[here], length[here], start[part], centre[part], membership[part], usable[here])
            left_out.append(begin + self.layers[layer].add(table, block, how))
        lost = torch.cat(left_out).cpu()
        if len(lost) and names is not None:
            mine = Counter(names[index] for index in owner[lost].tolist())
            self.not_finite[layer] = dict(Counter(self.not_finite.get(layer, {})) + mine)
        return lost

    def merge(self, other: ProfileSums) -> ProfileSums:
        """Add the sums of another pass to these, and return these. `other` is not changed.

        Groups that only one of them has, as when half of a corpus lacks a phone, are taken over; the groupings must be
        the same.

        Raises:
            BadInput: other groupings or options, or a layer with another number of units or frames.
        """
        differing = sorted(
            name for name in {*self.settings, *other.settings} if self.settings.get(name) != other.settings.get(name)
        )
        if differing or groupings(self.groups) != groupings(other.groups):
            differing = differing or ["groupings"]
            wanted, got = (
                {name: sums.settings.get(name, sorted(groupings(sums.groups))) for name in differing}
                for sums in (self, other)
            )
            raise BadInput("sums of different groups or options cannot be added", got=got, wanted=wanted)
        for layer, theirs in other.layers.items():
            mine = self.layers.get(layer)
            if mine is not None and mine.activation.shape[1:] != theirs.activation.shape[1:]:
                raise BadInput(
                    f"layer {layer!r} differs in the two sums",
                    got=f"(offset, unit) {tuple(theirs.activation.shape[1:])}",
                    wanted=f"{tuple(mine.activation.shape[1:])}",
                    remedy="hand over the layer's full cone for every instance, or fix `width`",
                )
        groups = united(self.groups, other.groups)
        if groups != self.groups:
            places = torch.tensor([groups.index(name) for name in self.groups])
            self.layers = {layer: sums.spread(places, len(groups)) for layer, sums in self.layers.items()}
            self.groups = groups
        places = torch.tensor([groups.index(name) for name in other.groups])
        for layer, theirs in other.layers.items():
            placed = theirs.spread(places, len(groups))
            if layer in self.layers:
                self.layers[layer].merge(placed)
            else:
                self.layers[layer] = placed
        self.not_finite = joined(self.not_finite, other.not_finite)
        self.incidents = joined(self.incidents, other.incidents)
        self.facts = joined(self.facts, other.facts)
        self.frame_s = {**other.frame_s, **self.frame_s}
        self.frequency_hz = other.frequency_hz if self.frequency_hz is None else self.frequency_hz
        return self

    def save(self, path: Path | str) -> None:
        """Write everything to one safetensors file (JSON in its header), in one step. `load` gives the same sums."""
        names = list(self.layers)
        header = {"format": FORMAT, "layers": names, **{name: getattr(self, name) for name in ("groups", *RECORDS)}}
        tensors = {
            f"{index}.{name}": table.cpu().contiguous()
            for index, sums in enumerate(self.layers.values())
            for name, table in sums.tables().items()
        }
        with atomic_path(Path(path)) as temporary:
            metadata = {"otoscope.gradnap": json.dumps(header)}
            safetensors.torch.save_file(tensors, str(temporary), metadata=metadata)

    @classmethod
    def load(cls, path: Path | str) -> ProfileSums:
        """Read what `save` wrote. Raises `BadInput` if the file is missing, cut short or something else."""
        problem, wanted = f"could not read running sums from {path}", f"a file by ProfileSums.save, format {FORMAT}"
        try:
            with safetensors.safe_open(str(path), framework="pt") as file:
                header = json.loads((file.metadata() or {}).get("otoscope.gradnap", "{}"))
            tensors = safetensors.torch.load_file(str(path))
        except (OSError, safetensors.SafetensorError) as error:
            raise BadInput(problem, got=str(error), wanted=wanted) from error
        if header.get("format") != FORMAT:
            raise BadInput(problem, got=f"format {header.get('format', 'unknown')}", wanted=wanted)
        sums = cls(header["groups"], preset=header["settings"]["preset"])
        for name in RECORDS:
            setattr(sums, name, header[name])
        names = [part.name for part in fields(LayerSums)]
        for index, layer in enumerate(header["layers"]):
            sums.layers[layer] = LayerSums(**{name: tensors[f"{index}.{name}"] for name in names})
        return sums

    def finalize(
        self,
        *,
        frame_s: float | Mapping[str, float] | None = None,
        frequency_hz: Sequence[float] | NDArray[Any] | None = None,
        mask: str | None = None,
        normaliser: str | None = None,
        min_instances: int | None = None,
    ) -> Profiles:
        """Read out the profiles. The sums stay as they are, so other choices can be read from the same pass.

        Args:
            frame_s: seconds from one frame to the next, one for all layers or by layer; the pass's own if left out.
            frequency_hz: `(unit,)`, centre frequencies of the units of the layer "input", as `frame_s`.
            mask: "abs_of_mean", |mean gradient|; "mean_of_abs", mean |gradient|; each divided by its maximum over units
                and offsets, once per layer and group. "none": 1 everywhere.
            normaliser: what is subtracted: the mean over all "instances", or over the "groups" of the same grouping.
            min_instances: groups with fewer are treated as empty.

        Raises:
            BadInput: no instance was ever added, a layer without `frame_s`, frequencies that do not fit the input.
            BadOption: an unknown choice.
        """
        if not self.layers:
            raise BadInput("there is nothing to read out", got="no instance", wanted="at least one update")
        chosen = changed(self.settings, mask=mask, normaliser=normaliser, min_instances=min_instances)
        frame_s = self.frame_s if frame_s is None else frame_s
        seconds = frame_s if isinstance(frame_s, Mapping) else dict.fromkeys(self.layers, frame_s)
        frequency_hz = self.frequency_hz if frequency_hz is None else frequency_hz
        without = [layer for layer in self.layers if layer not in seconds]
        if without:
            raise BadInput("frame_s lacks layers", got=list(seconds), wanted=f"also {', '.join(without)}")
        tables = {}
        for layer, sums in self.layers.items():
            numbers = {name: table.cpu().numpy() for name, table in sums.tables().items()}
            hertz = frequency_hz if layer == INPUT else None
            tables[layer] = read_out(layer, self.groups, numbers, float(seconds[layer]), hertz, chosen)
        chosen["width"] = {layer: int(sums.reached.shape[1]) for layer, sums in self.layers.items()}
        for name, owners in (("not_finite", self.not_finite), ("incidents", self.incidents)):
            if owners:
                chosen[name] = {what: named(counts) for what, counts in owners.items()}
        return Profiles(tables, {**chosen, **self.facts})

    def _check(
        self,
        layer: str,
        activations: Sequence[Tensor],
        length: Tensor,
        at: Tensor,
        gradient: Tensor,
        start: Tensor,
        centre: Tensor,
        membership: Tensor,
    ) -> None:
        """Raise `BadInput` unless the arguments of `update` fit together."""

        def bad(problem: str, got: object, wanted: str) -> BadInput:
            return BadInput(f"layer {layer!r}: {problem}", got=got, wanted=wanted)

        n = len(gradient)
        if gradient.ndim != 3 or not gradient.is_floating_point():
            raise bad("gradients cannot be used", f"{gradient.dtype} {tuple(gradient.shape)}", "(instance, span, unit)")
        shapes = {tuple(frames.shape[1:]) for frames in activations}
        if shapes != {(gradient.shape[2],)}:
            raise bad("activations and gradients differ", f"(frame, {shapes})", f"(frame, {gradient.shape[2]}) each")
        if at.shape != (n,) or start.shape != (n,) or centre.shape != (n,) or membership.shape[:-1] != (n,):
            got = {"utterance": at, "start": start, "centre": centre, "membership": membership}
            wanted = f"({n},) each, membership ({n}, grouping)"
            raise bad("instances differ in number", {name: tuple(x.shape) for name, x in got.items()}, wanted)
        if at.min() < 0 or at.max() >= len(length):
            raise bad("an utterance that was not given", int(at.max()), f"0 to {len(length) - 1}")
        frames = length[at]
        if ((centre < 0) | (centre >= frames)).any() or ((start >= frames) | (start + gradient.shape[1] <= 0)).any():
            raise bad("an instance outside its utterance", "a centre or cone beyond its frames", "some frame inside")
        if membership.numel() and (membership.min() < -1 or membership.max() >= len(self.groups)):
            raise bad("a group that does not exist", int(membership.max()), f"-1 to {len(self.groups) - 1}")
        ordered = membership.sort(1).values
        if ((ordered.diff(dim=1) == 0) & (ordered[:, 1:] >= 0)).any():
            raise bad("an instance is twice in a group", "equal indices in a row of membership", "each group once")

    def _width(self, layer: str) -> int | str | None:
        """The width asked for."""
        given = self.settings["width"]
        return given.get(layer) if isinstance(given, dict) else given

    def _units(self, layer: str, gradient: Tensor) -> Tensor | None:
        """The units kept of a layer, None for all."""
        given = (self.settings["units"] or {}).get(layer)
        if given is None:
            return None
        if max(given) >= gradient.shape[2]:
            raise BadOption(f"layer {layer!r} has no such unit", got=max(given), wanted=f"0 to {gradient.shape[2] - 1}")
        return torch.tensor(given, device=gradient.device)

    def _open(self, layer: str, gradient: Tensor) -> None:
        """Make room for a layer, or see that the gradients fit the room there is."""
        span, units = gradient.shape[1:]
        units = len((self.settings["units"] or {}).get(layer, range(units)))
        width = self._width(layer)
        if isinstance(width, int):
            wanted = width
        elif self.settings["order"] == "rank":
            wanted = span
        else:
            wanted = 2 * span - 1 if width is None else span + 1 - span % 2
        if layer not in self.layers:
            self.layers[layer] = LayerSums.zeros(len(self.groups), wanted, units, gradient.device)
        room, known = self.layers[layer].activation.shape[1:]
        if units != known or wanted > room:
            raise BadInput(
                f"layer {layer!r} differs from the instances before",
                got=f"a window of {wanted} frames, {units} units, for a cone of {span} frames",
                wanted=f"a window of {room} frames, {known} units",
                remedy="hand over the layer's full cone for every instance, or fix `width`",
            )


def _finite_utterances(table: Tensor, length: Tensor) -> Tensor:
    """Which utterances have only finite activations `(utterance,)`; `table` `(row, unit)` holds one after the other."""
    if table.sum().isfinite():
        return torch.ones_like(length, dtype=torch.bool)
    broken = (~table.isfinite().all(1)).to(length.dtype)
    owner = torch.arange(len(length), device=length.device).repeat_interleave(length)
    return torch.zeros_like(length).index_add_(0, owner, broken) == 0
