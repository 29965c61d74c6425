"""GradNAP's running sums against closed forms, planted patterns and a plain re-implementation with loops."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from otoscope.base import BadInput, BadOption
from otoscope.reduce import gradnap
from otoscope.reduce.aligned_sums import alignment_times
from otoscope.reduce.gradnap import ProfileSums
from otoscope.reduce.profiles import Profiles

GROUPS = ("symbol:a", "symbol:b", "phone:AE", "phone:B", "phone:K", "phone:ZH")


class Instances(NamedTuple):
    """The arguments of `ProfileSums.update` after the layer."""

    activations: list[Tensor]
    utterance: Tensor
    gradient: Tensor
    start: Tensor
    centre: Tensor
    membership: Tensor

    def pick(self, which: Tensor) -> Instances:
        return Instances(self.activations, *(part[which] for part in self[1:]))


def some_instances(
    seed: int, number: int = 40, span: int = 5, units: int = 3, dtype: torch.dtype = torch.float64
) -> Instances:
    """Random instances of three utterances, the shortest of fewer frames than the cone. No instance is a phone:ZH."""
    draw = torch.Generator().manual_seed(seed)
    length = torch.tensor([9, 4, 13])
    activations = [torch.randn(int(n), units, generator=draw, dtype=dtype) for n in length]
    utterance = torch.randint(3, (number,), generator=draw)
    centre = (torch.rand(number, generator=draw) * length[utterance]).long()
    gradient = torch.randn(number, span, units, generator=draw, dtype=dtype)
    membership = torch.stack(
        [torch.randint(-1, 2, (number,), generator=draw), torch.randint(1, 5, (number,), generator=draw)], 1
    )
    membership[:, 1] = torch.where(membership[:, 1] == 1, -1, membership[:, 1])
    return Instances(activations, utterance, gradient, centre - span // 2, centre, membership)


def summed(*parts: Instances, layer: str = "conv", groups: tuple[str, ...] = GROUPS, **options) -> ProfileSums:
    sums = ProfileSums(groups, **options)
    for part in parts:
        sums.update(layer, *part)
    return sums


def by_loops(these: Instances, layer: str, alignment: str, width: int, pad: str, mask: str, normaliser: str) -> dict:
    """GradNAP as the paper tells it, one instance, frame and group after the other."""
    half, units = width // 2, these.gradient.shape[2]
    crops = []
    for u, g, start, centre in zip(*(part.numpy() for part in these[1:5]), strict=True):
        a = these.activations[u].numpy()
        score = {}
        for k in range(len(g)):
            if 0 <= start + k < len(a):
                weight = a[start + k] if alignment == "gradient_activation" and layer != "input" else 1
                score[start + k] = np.mean(np.abs(g[k]) * weight)
        time = centre
        if alignment != "none" and (len(score) > 1 or score[next(iter(score))] != 0):
            time = max(score, key=lambda t: score[t])
        crop = np.full((2, units, width), np.nan)
        for o in range(-half, half + 1):
            if 0 <= time + o < len(a):
                crop[0, :, o + half] = a[time + o]
                k = time + o - start
                crop[1, :, o + half] = g[k] if 0 <= k < len(g) else 0
            elif pad == "zero":
                crop[:, :, o + half] = 0
        crops.append(crop)
    crops = np.array(crops)
    member = np.array([[row_g in row for row_g in range(len(GROUPS))] for row in these.membership.tolist()])
    result = {"mean": [], "mask": [], "profile": [], "count": []}

    def mean_of(x):
        return np.nansum(x, 0) / np.isfinite(x).sum(0)

    with np.errstate(all="ignore"):
        means = [mean_of(crops[member[:, g], 0]) for g in range(len(GROUPS))]
        for g, name in enumerate(GROUPS):
            mine = crops[member[:, g]]
            if normaliser == "instances":
                usual = mean_of(crops[:, 0])
            else:
                kin = [m for m, other in enumerate(GROUPS) if other.split(":")[0] == name.split(":")[0]]
                usual = mean_of(np.array([means[m] for m in kin if member[:, m].any()]))
            slope = np.abs(mean_of(mine[:, 1])) if mask == "abs_of_mean" else mean_of(np.abs(mine[:, 1]))
            seen = np.isfinite(mine[:, 1]).any(0)
            slope = np.where(seen, slope, 0)
            weight = slope / slope.max() if mask != "none" else seen.astype(float)
            profile = np.where(weight > 0, (means[g] - usual) * weight, 0)
            if not len(mine):
                weight = profile = np.full((units, width), np.nan)
            for key, value in {"mean": means[g], "mask": weight, "profile": profile}.items():
                result[key].append(value)
            result["count"].append(np.isfinite(mine[:, 1]).sum(0))
    return {name: np.array(value) for name, value in result.items()}


@pytest.mark.parametrize("layer", ["conv", "input"])
@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"alignment": "gradient"},
        {"alignment": "none"},
        {"width": 3},
        {"width": 15},
        {"pad": "zero"},
        {"mask": "mean_of_abs"},
        {"mask": "none"},
        {"normaliser": "groups"},
        {"normaliser": "groups", "pad": "zero", "mask": "mean_of_abs", "alignment": "gradient", "width": 7},
    ],
    ids=str,
)
def test_sums_agree_with_loops(layer, changed, monkeypatch):
    monkeypatch.setattr(gradnap, "BLOCK", 17)
    these = some_instances(3, number=60)
    options = {"alignment": "gradient_activation", "width": 9, "pad": "missing"} | {
        name: value for name, value in changed.items() if name in ("alignment", "width", "pad")
    }
    reading = {"mask": "abs_of_mean", "normaliser": "instances"} | {
        name: value for name, value in changed.items() if name in ("mask", "normaliser")
    }
    found = summed(these, layer=layer, **options).finalize(frame_s=0.01, **reading)
    wanted = by_loops(these, layer, **options, **reading)
    for name in ("count", "mean", "mask", "profile"):
        table = getattr(found, name)[layer]
        assert table.dims == ("group", "unit", "offset")
        np.testing.assert_allclose(table.values, wanted[name], rtol=3e-7, atol=1e-7, err_msg=name)
    assert found.empty == ("phone:ZH",)
    assert np.isnan(found.profile[layer].sel(group="phone:ZH")).all()
    assert np.isfinite(found.profile[layer].drop_sel(group="phone:ZH")).all()


def test_the_preset_is_the_default_and_every_choice_is_recorded():
    these = some_instances(0)
    standard = summed(these).finalize(frame_s=0.01)
    assert standard.settings == {
        "preset": "krug2020", "instances": "every", "alignment": "gradient_activation", "width": {"conv": 9},
        "order": "time", "units": None, "pad": "missing",
        "mask": "abs_of_mean", "normaliser": "instances", "min_instances": 1, "changed": [],
    }  # fmt: skip
    other = summed(these, pad="zero", width=5).finalize(frame_s=0.01, mask="none", min_instances=3)
    assert other.settings["changed"] == ["mask", "min_instances", "pad", "width"]
    assert other.settings["width"] == {"conv": 5}
    assert other.settings["mask"] == "none"


def linear_network(seed: int, classes: int = 3, mels: int = 4, taps: int = 7) -> tuple[Tensor, list[Tensor]]:
    draw = torch.Generator().manual_seed(seed)
    weight = torch.randn(classes, mels, taps, generator=draw)
    return weight, [torch.randn(n, mels, generator=draw) for n in (40, 23)]


def gradients_of(weight: Tensor, spectrograms: list[Tensor], frames: list[tuple[int, int, int]]) -> Instances:
    """Gradients by autograd of the logits (utterance, frame, class) of one convolution, padded with zeros."""
    taps = weight.shape[2]
    utterance, centre, target = (torch.tensor(column) for column in zip(*frames, strict=True))
    windows = []
    for u, t, c in frames:
        x = spectrograms[u].T[None].clone().requires_grad_()
        torch.nn.functional.conv1d(x, weight, padding=taps // 2)[0, c, t].backward()
        outside = torch.nn.functional.pad(x.grad[0].T, (0, 0, taps, taps))
        windows.append(outside[t + taps - taps // 2 : t + taps + taps // 2 + 1])
    return Instances(spectrograms, utterance, torch.stack(windows), centre - taps // 2, centre, target[:, None])


@pytest.mark.parametrize("seed", range(4))
def test_one_linear_convolution_has_the_closed_form(seed):
    """Alignment argmax_k mean |W_c|, mask |W_c| / max, shifted to it; no frame whose cone leaves the utterance."""
    weight, spectrograms = linear_network(seed)
    taps = weight.shape[2]
    frames = [(u, t, (u + t) % 3) for u, x in enumerate(spectrograms) for t in range(taps, len(x) - taps)]
    groups = ("symbol:a", "symbol:b", "symbol:c")
    found = summed(gradients_of(weight, spectrograms, frames), layer="input", groups=groups).finalize(frame_s=0.01)
    for c, group in enumerate(groups):
        peak = int(weight[c].abs().mean(0).argmax())
        mask = found.mask["input"].sel(group=group)
        for o in range(-taps + 1, taps):
            tap = peak + o
            there = weight[c][:, tap].abs() / weight[c].abs().max() if 0 <= tap < taps else torch.zeros(weight.shape[1])
            np.testing.assert_allclose(mask.sel(offset=o), there, rtol=1e-6, atol=1e-6)
        aligned = [(u, t - taps // 2 + peak) for u, t, k in frames if k == c]
        mean = torch.stack([spectrograms[u][t] for u, t in aligned]).double().mean(0).numpy()
        np.testing.assert_allclose(found.mean["input"].sel(group=group, offset=0), mean, rtol=1e-6, atol=1e-6)
        every = torch.stack(
            [spectrograms[u][t - taps // 2 + int(weight[k].abs().mean(0).argmax())] for u, t, k in frames]
        )
        profile = (mean - every.double().mean(0).numpy()) * mask.sel(offset=0).values
        np.testing.assert_allclose(found.profile["input"].sel(group=group, offset=0), profile, rtol=1e-5, atol=1e-6)


def test_a_planted_motif_is_found_at_its_time_and_one_without_weight_vanishes():
    """Mel 0-3: a motif the network listens to, four frames before the prediction. Mel 4-7: a motif it does not."""
    draw = torch.Generator().manual_seed(1)
    heard, ignored = torch.rand(4, 3, generator=draw) + 1, torch.rand(4, 3, generator=draw) + 1
    spectrograms = [0.1 * torch.randn(60, 8, generator=draw) for _ in range(20)]
    frames = []
    for u, x in enumerate(spectrograms):
        for t in (20, 40):
            if (t == 20) == (u % 2 == 0):
                x[t - 5 : t - 2, :4] += heard.T
                x[t - 5 : t - 2, 4:] += ignored.T
                frames.append((u, t, 0))
            else:
                frames.append((u, t, 1))
    weight = torch.zeros(2, 8, 11)
    weight[0, :4, 0:3] = heard * torch.tensor([1.0, 2.0, 1.0])
    weight[1, :, 5] = 0.1
    found = summed(gradients_of(weight, spectrograms, frames), layer="input", groups=GROUPS[:2]).finalize(frame_s=0.01)
    mask, mean, profile = (table["input"].sel(group="symbol:a") for table in (found.mask, found.mean, found.profile))
    assert int(mask.mean("unit").argmax("offset")) == 10
    np.testing.assert_allclose(mean.sel(offset=[-1, 0, 1])[:4], heard, atol=0.1)
    np.testing.assert_allclose(mean.sel(offset=[-1, 0, 1])[4:], ignored, atol=0.1)
    half = heard[:, 1].numpy() / 2  # the other class, as frequent, has no motif
    np.testing.assert_allclose(profile.sel(offset=0)[:4], half * mask.sel(offset=0).values[:4], atol=0.05)
    assert (profile[4:] == 0).all()


@pytest.mark.parametrize("pad", ["missing", "zero"])
def test_positions_outside_the_utterance(pad):
    """A constant activation of 5: its mean is 5 where anything is seen, or shrinks with the share of frames that is."""
    length, span = 6, 5
    frames = torch.arange(length)
    these = Instances(
        [torch.full((length, 2), 5.0)], torch.zeros(length, dtype=torch.long), torch.ones(length, span, 2),
        frames - 2, frames, torch.zeros(length, 1, dtype=torch.long),
    )  # fmt: skip
    found = summed(these, alignment="none", pad=pad).finalize(frame_s=0.01)
    reached = np.array([2, 3, 4, 5, 6, 5, 4, 3, 2])
    mean, count = (table["conv"].sel(group="symbol:a", unit=0).values for table in (found.mean, found.count))
    np.testing.assert_array_equal(count, reached if pad == "missing" else [length] * 9)
    np.testing.assert_allclose(mean, 5 if pad == "missing" else 5 * reached / length, rtol=1e-6)
    slope = np.where(np.abs(np.arange(-4, 5)) <= 2, 1, 0) * (1 if pad == "missing" else reached / length)
    np.testing.assert_allclose(found.mask["conv"].sel(group="symbol:a", unit=0), slope, rtol=1e-6)


def test_an_offset_no_instance_reaches_has_no_mean_and_no_profile():
    these = some_instances(0, number=1)._replace(utterance=torch.tensor([1]), centre=torch.tensor([1]))
    these = these._replace(start=these.centre - 2, membership=torch.tensor([[0, 2]]))
    found = summed(these).finalize(frame_s=0.01)
    unseen = found.count["conv"].sel(group="symbol:a") == 0
    assert unseen.any()
    assert not unseen.all()
    np.testing.assert_array_equal(np.isnan(found.mean["conv"].sel(group="symbol:a")), unseen)
    assert (found.mask["conv"].sel(group="symbol:a").where(unseen, 0) == 0).all()
    assert np.isfinite(found.profile["conv"].sel(group="symbol:a")).all()


@pytest.mark.parametrize(
    ("value", "inside", "centre", "time", "flat"),
    [
        ([1.0, 3.0, 2.0, 0.0], [1, 1, 1, 1], 12, 11, False),
        ([3.0, 1.0, 1.0, 3.0], [1, 1, 1, 1], 12, 13, False),
        ([3.0, 1.0, 3.0, 1.0], [1, 1, 1, 1], 11, 10, False),
        ([-1.0, -3.0, -2.0, -5.0], [1, 1, 1, 1], 13, 10, False),
        ([9.0, 3.0, 4.0, 9.0], [0, 1, 1, 0], 11, 12, False),
        ([2.0, 2.0, 2.0, 2.0], [1, 1, 1, 1], 11, 11, True),
        ([9.0, 2.0, 2.0, 9.0], [0, 1, 1, 0], 12, 12, True),
        ([0.0, 0.0, 0.0, 0.0], [1, 1, 1, 1], 13, 13, True),
        ([0.0, 0.0, 4.0, 0.0], [0, 0, 1, 0], 11, 12, False),
        ([0.0, 0.0, 0.0, 0.0], [0, 0, 1, 0], 11, 11, True),
    ],
)
def test_alignment_times(value, inside, centre, time, flat):
    position = torch.arange(10, 14)[None]
    found = alignment_times(torch.tensor([value]), torch.tensor([inside]).bool(), position, torch.tensor([centre]))
    assert (int(found[0]), bool(found[1])) == (time, flat)


def test_flat_maps_stay_at_the_centre_and_are_counted():
    these = some_instances(5, number=8)
    these.gradient[:3] = 0
    found = summed(these).finalize(frame_s=0.01)
    assert found.layers["conv"].attrs["flat"] == 3
    assert any("3 of 8 instances had a flat map" in note for note in found.notes)
    assert summed(these, alignment="none").finalize(frame_s=0.01).layers["conv"].attrs["flat"] == 0


def same(one: Profiles, other: Profiles, rtol: float = 1e-6) -> None:
    assert one.settings == other.settings
    assert list(one.layers) == list(other.layers)
    for layer, table in one.layers.items():
        np.testing.assert_array_equal(table["count"], other.layers[layer]["count"])
        np.testing.assert_array_equal(table["instances"], other.layers[layer]["instances"])
        assert table.attrs == other.layers[layer].attrs
        for name in ("mean", "mask", "profile"):
            np.testing.assert_allclose(table[name], other.layers[layer][name], rtol=rtol, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", range(3))
def test_order_split_and_merge_change_nothing(seed, dtype):
    these = some_instances(seed, number=90, dtype=dtype)
    whole = summed(these)
    order = torch.randperm(90, generator=torch.Generator().manual_seed(seed))
    cuts = sorted(np.random.default_rng(seed).choice(np.arange(1, 90), 4, replace=False))
    parts = [these.pick(part) for part in torch.tensor_split(order, cuts)]
    merged = ProfileSums(GROUPS)
    for part in parts:
        merged.merge(summed(part))
    for other in (summed(these.pick(order)), summed(*parts), merged):
        same(whole.finalize(frame_s=0.01), other.finalize(frame_s=0.01))
        for name, table in whole.layers["conv"].tables().items():
            tight = 1e-12 if dtype == torch.float64 else 3e-5
            np.testing.assert_allclose(other.layers["conv"].tables()[name], table, rtol=tight, atol=tight)


def test_merging_leaves_the_other_alone_and_knows_layers_only_one_has():
    one, other = summed(some_instances(0)), summed(some_instances(1), layer="input")
    before = other.layers["input"].activation.clone()
    one.merge(other).merge(other)
    assert list(one.layers) == ["conv", "input"]
    assert torch.equal(other.layers["input"].activation, before)
    assert torch.equal(one.layers["input"].activation, 2 * before)


def test_duplicates_scaled_gradients_and_permuted_units():
    these = some_instances(7)
    plain = summed(these).finalize(frame_s=0.01)
    doubled = summed(these, these).finalize(frame_s=0.01)
    scaled = summed(these._replace(gradient=these.gradient * 37)).finalize(frame_s=0.01)
    units = torch.tensor([2, 0, 1])
    mixed = [frames[:, units] for frames in these.activations]
    permuted = summed(these._replace(activations=mixed, gradient=these.gradient[:, :, units])).finalize(frame_s=0.01)
    for name in ("mean", "mask", "profile"):
        table = getattr(plain, name)["conv"].values
        for other in (doubled, scaled):
            np.testing.assert_allclose(getattr(other, name)["conv"], table, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(getattr(permuted, name)["conv"], table[:, units], rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(doubled.count["conv"], 2 * plain.count["conv"])


def test_utterances_may_be_handed_over_in_any_batch():
    """Each instance with only its own utterance, later in time by unused utterances before it."""
    these = some_instances(2)
    single = ProfileSums(GROUPS)
    for i in range(len(these.utterance)):
        one = these.pick(torch.tensor([i]))
        own = [these.activations[0], these.activations[int(one.utterance)]]
        single.update("conv", *one._replace(activations=own, utterance=torch.tensor([1])))
    same(summed(these).finalize(frame_s=0.01), single.finalize(frame_s=0.01))


def test_instances_without_any_group_still_belong_to_the_normaliser():
    these = some_instances(2)
    none = these._replace(membership=these.membership[:, :0])
    sums = summed(these)
    assert torch.equal(summed(none).layers["conv"].reached[-1], sums.layers["conv"].reached[-1])
    np.testing.assert_allclose(
        summed(none).layers["conv"].activation[-1], sums.layers["conv"].activation[-1], atol=1e-12
    )
    assert torch.equal(sums.layers["conv"].instances[:2], torch.bincount(these.membership[:, 0] + 1)[1:])
    assert int(sums.layers["conv"].instances[-1]) == 40


def test_half_precision_is_summed_as_float32():
    these = some_instances(4)
    half = these._replace(activations=[x.bfloat16() for x in these.activations], gradient=these.gradient.bfloat16())
    full = these._replace(activations=[x.float() for x in half.activations], gradient=half.gradient.float())
    same(summed(full).finalize(frame_s=0.01), summed(half).finalize(frame_s=0.01), rtol=0)


def test_what_is_not_finite_is_left_out_and_counted(monkeypatch):
    """The last frame of utterance 2, which few cones reach, and the gradients of two other instances."""
    monkeypatch.setattr(gradnap, "BLOCK", 7)
    these = some_instances(6, number=30)
    early, late = torch.nonzero(these.utterance != 2)[[0, -1], 0].tolist()
    clean = these.pick((these.utterance != 2) & (torch.arange(30) != early) & (torch.arange(30) != late))
    clean = clean._replace(activations=[x.clone() for x in clean.activations])
    these.activations[2][-1, 0] = torch.nan
    these.gradient[early, 2, 1] = torch.inf
    these.gradient[late, 2, 0] = torch.nan
    sums = ProfileSums(GROUPS)
    left_out = sums.update("conv", *these)
    wanted = {*torch.nonzero(these.utterance == 2)[:, 0].tolist(), early, late}
    assert set(left_out.tolist()) == wanted
    assert sums.layers["conv"].tally[1] == len(wanted)
    found = sums.finalize(frame_s=0.01)
    assert any(f"{len(wanted)} of 30 instances were not finite" in note for note in found.notes)
    for name in ("mean", "mask", "profile"):
        np.testing.assert_allclose(
            getattr(found, name)["conv"], getattr(summed(clean).finalize(frame_s=0.01), name)["conv"], atol=1e-6
        )
    every = these.pick(these.utterance == 2)
    assert len(ProfileSums(GROUPS).update("conv", *every)) == len(every.utterance)


def naps_by_loops(these: Instances, pad: str) -> np.ndarray:
    """NAPs, one instance, unit and rank after the other: mean of sorted activations over the cone `(group, ...)`."""
    span, units = these.gradient.shape[1:]
    rows = []
    for u, start in zip(these.utterance.tolist(), these.start.tolist(), strict=True):
        a = these.activations[u].numpy()
        found = np.zeros((units, span))
        for unit in range(units):
            values = [a[t, unit] for t in range(start, start + span) if 0 <= t < len(a)]
            values += [0.0] * (span - len(values)) if pad == "zero" else []
            values = sorted(values, reverse=True)
            for rank in range(span):
                # The value below which the share (rank + 1/2) / span of the frames lies, from above.
                found[unit, rank] = values[int(np.ceil((rank + 0.5) / span * len(values))) - 1]
        rows.append(found)
    table = np.array(rows)
    member = np.array([[g in row for g in range(len(GROUPS))] for row in these.membership.tolist()])
    return np.array([table[member[:, g]].mean(0) for g in range(5)] + [table.mean(0)])


@pytest.mark.parametrize("pad", ["missing", "zero"])
@pytest.mark.parametrize("span", [5, 4])
def test_naps_agree_with_loops(span, pad, monkeypatch):
    monkeypatch.setattr(gradnap, "SORTED", 100)
    these = some_instances(5, number=50, span=span)
    assert any((these.start < 0).tolist())
    found = summed(these, preset="nap", pad=pad).finalize(frame_s=0.01)
    wanted = naps_by_loops(these, pad)
    mean = found.mean["conv"].values[:5]
    np.testing.assert_allclose(mean, wanted[:5], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(found.profile["conv"].values[:5], wanted[:5] - wanted[5], rtol=1e-5, atol=1e-6)
    assert (found.mask["conv"].values[:5] == 1).all()
    assert found.profile["conv"]["offset"].values.tolist() == list(range(span))
    np.testing.assert_allclose(found.profile["conv"]["time"], 0.01 * np.arange(span))
    assert (found.count["conv"][:, 0] == found.instances.sel(layer="conv")).all()
    assert (np.diff(mean, axis=2) <= 0).all()


def test_naps_know_no_time():
    """The frames of each cone in another order, unit by unit, leave NAPs as they are; GradNAPs they change."""
    draw = torch.Generator().manual_seed(2)
    frames = torch.randn(4, 7, 3, generator=draw)
    mixed = torch.stack([torch.stack([x[torch.randperm(7, generator=draw), u] for u in range(3)], 1) for x in frames])
    which, zeros = torch.arange(4), torch.zeros(4, dtype=torch.int64)
    gradient = torch.randn(4, 7, 3, generator=draw)
    found = {}
    for preset in ("nap", "krug2020"):
        for name, table in (("as it was", frames), ("mixed", mixed)):
            these = Instances(list(table), which, gradient, zeros, zeros + 3, zeros[:, None])
            found[preset, name] = summed(these, preset=preset).finalize(frame_s=0.01).mean["conv"].values[0]
    np.testing.assert_allclose(found["nap", "mixed"], found["nap", "as it was"], atol=1e-6)
    assert np.nanmax(np.abs(found["krug2020", "mixed"] - found["krug2020", "as it was"])) > 0.1


def test_gradients_are_sorted_with_their_activations():
    """One instance, no frame missing: rank r has the gradient of the frame with the r-th largest activation."""
    a, g = torch.tensor([[3.0], [5.0], [-1.0], [4.0]]), torch.tensor([[[1.0], [-2.0], [8.0], [4.0]]])
    zero = torch.zeros(1, dtype=torch.int64)
    sums = summed(Instances([a], zero, g, zero, zero + 1, zero[:, None]), preset="nap")
    found = sums.finalize(frame_s=0.01, mask="abs_of_mean")
    assert found.mean["conv"].values[0, 0].tolist() == [5, 4, 3, -1]
    np.testing.assert_allclose(found.mask["conv"].values[0, 0], [0.25, 0.5, 0.125, 1])
    # A cone that begins before the utterance: what is not there is a 0 without a gradient, whatever stands for it.
    late = Instances([a], zero, g.flip(1), zero - 1, zero + 1, zero[:, None])
    found = summed(late, preset="nap", pad="zero").finalize(frame_s=0.01, mask="abs_of_mean")
    assert found.mean["conv"].values[0, 0].tolist() == [5, 3, 0, -1]
    np.testing.assert_allclose(found.mask["conv"].values[0, 0], [0.25, 1, 0, 0.125])


@pytest.mark.parametrize("layer", ["conv", "input"])
def test_navai_agrees_with_loops(layer):
    """Alignment by |gradient| in every layer, a window of the receptive field, no mask."""
    these = some_instances(3, number=60)
    found = summed(these, layer=layer, preset="navai").finalize(frame_s=0.01)
    wanted = by_loops(these, layer, "gradient", 5, "missing", "none", "instances")
    for name in ("count", "mean", "mask", "profile"):
        np.testing.assert_allclose(getattr(found, name)[layer].values, wanted[name], rtol=3e-7, atol=1e-7)
    assert repr(found).endswith("; navai)")
    assert (found.settings["alignment"], found.settings["mask"], found.settings["changed"]) == ("gradient", "none", [])
    even = summed(some_instances(3, span=4), preset="navai").finalize(frame_s=0.01)
    assert even.settings["width"] == {"conv": 5}


@pytest.mark.parametrize("preset", ["krug2020", "nap"])
def test_a_subset_of_units_is_that_part_of_the_layer(preset):
    these = some_instances(1, units=4)
    whole = summed(these, preset=preset).finalize(frame_s=0.01)
    sums = summed(these, preset=preset, units={"conv": [3, 1]})
    assert sums.layers["conv"].activation.shape[2] == 2
    part = sums.finalize(frame_s=0.01)
    assert part.settings["units"] == {"conv": [3, 1]}
    assert "units" in part.settings["changed"]
    assert part.profile["conv"]["unit"].values.tolist() == [3, 1]
    np.testing.assert_array_equal(part.mean["conv"], whole.mean["conv"].sel(unit=[3, 1]))
    np.testing.assert_array_equal(part.count["conv"], whole.count["conv"].sel(unit=[3, 1]))
    kept = whole.mask["conv"].sel(unit=[3, 1])
    np.testing.assert_allclose(part.mask["conv"], kept / kept.max(("unit", "offset")), rtol=1e-6)
    assert part.top_units("phone:AE", k=1)["conv"].unit.item() in (1, 3)
    other = summed(these, layer="other", units={"conv": [0]})
    assert other.layers["other"].activation.shape[2] == 4


def test_units_of_the_input_keep_their_frequencies():
    found = summed(some_instances(1), layer="input", units={"input": [2, 0]}).finalize(
        frame_s=0.01, frequency_hz=[100, 200, 300]
    )
    assert found.mean["input"]["frequency"].values.tolist() == [300, 100]


def test_units_that_do_not_exist():
    for units, words in (([], "indices of units"), ([0, 0], "each once"), ([-1], "indices of units")):
        with pytest.raises(BadOption, match=words):
            ProfileSums(GROUPS, units={"conv": units})
    with pytest.raises(BadOption, match=r"no such unit(.|\n)*0 to 2"):
        summed(some_instances(0), units={"conv": [3]})


def test_parts_that_lack_groups_merge_to_the_whole():
    """The first half has no phone:B, the second no phone:K; each knows only its own groups."""
    these = some_instances(4, number=60)
    b, k = (GROUPS.index(name) for name in ("phone:B", "phone:K"))
    ae = GROUPS.index("phone:AE")
    late = torch.arange(60) >= 30
    phones = these.membership[:, 1]
    phones[late & (phones == k)] = ae
    phones[~late & (phones == b)] = ae
    parts = []
    for which, missing in ((~late, b), (late, k)):
        part = these.pick(which)
        names = [name for name in GROUPS if name != GROUPS[missing]]
        part = part._replace(membership=torch.where(part.membership > missing, part.membership - 1, part.membership))
        parts.append(summed(part, groups=tuple(names)))
    whole = summed(these).finalize(frame_s=0.01)
    for first, second in (parts, parts[::-1]):
        merged = ProfileSums(first.groups).merge(first).merge(second)
        assert merged.groups == GROUPS
        same(merged.finalize(frame_s=0.01), whole)
    assert parts[0].groups == tuple(name for name in GROUPS if name != "phone:B")
    with pytest.raises(BadInput, match=r"different groups or options(.|\n)*speaker(.|\n)*phone"):
        summed(these).merge(ProfileSums(["symbol:a", "speaker:x"]))


def test_what_passes_say_is_joined():
    one, two = ProfileSums(GROUPS), ProfileSums(GROUPS)
    one.facts = {"blank_frames": 3, "ungrouped": {"phone": 2}, "gradients": "window", "corpus": "aa", "limits": ["x"]}
    two.facts = {"blank_frames": 4, "ungrouped": {"phone": 5}, "gradients": "window", "corpus": "bb", "limits": ["y"]}
    one.incidents, two.incidents = {"frames are odd": {"u": 1}}, {"frames are odd": {"u": 2, "v": 1}}
    one.settings["network"] = two.settings["network"] = "n1"
    merged = one.merge(two)
    assert merged.facts == {
        "blank_frames": 7, "ungrouped": {"phone": 7}, "gradients": "window", "corpus": "aa; bb", "limits": ["x", "y"]
    }  # fmt: skip
    assert merged.incidents == {"frames are odd": {"u": 3, "v": 1}}
    merged.update("conv", *some_instances(0))
    found = merged.finalize(frame_s=0.01)
    assert found.settings["blank_frames"] == 7
    assert "4 frames are odd: u (3), v (1)" in found.notes
    two.settings["network"] = "n2"
    with pytest.raises(BadInput, match=r"different groups or options(.|\n)*n2(.|\n)*n1"):
        merged.merge(two)


def test_what_is_not_finite_is_named(tmp_path: Path):
    these = some_instances(6, number=30)
    these.activations[2][-1, 0] = torch.nan
    lost = int((these.utterance == 2).sum())
    first = int(torch.nonzero(these.utterance == 0)[0, 0])
    these.gradient[first, 2, 1] = torch.inf
    sums = ProfileSums(GROUPS)
    sums.update("conv", *these, names=["u0", "u1", "u2"])
    sums.update("conv", *these, names=["u0", "u1", "u2"])
    assert sums.not_finite == {"conv": {"u2": 2 * lost, "u0": 2}}
    sums.save(tmp_path / "sums")
    merged = ProfileSums.load(tmp_path / "sums").merge(sums)
    assert merged.not_finite == {"conv": {"u2": 4 * lost, "u0": 4}}
    found = merged.finalize(frame_s=0.01)
    counted = {"utterances": 2, "count": 4 * lost + 4, "named": {"u2": 4 * lost, "u0": 4}}
    assert found.settings["not_finite"] == {"conv": counted}
    note = f"conv: {4 * lost + 4} of 120 instances were not finite and are left out: u2 ({4 * lost}), u0 (4)"
    assert note in found.notes


def test_saved_sums_are_the_same_and_go_on(tmp_path):
    these = some_instances(0)
    sums = summed(these.pick(torch.arange(25)), pad="zero", width={"conv": 7})
    sums.save(tmp_path / "sums.safetensors")
    again = ProfileSums.load(tmp_path / "sums.safetensors")
    assert repr(again) == repr(sums) == "ProfileSums(1 layers, 6 groups, N = 25 instances)"
    for part in dataclasses.fields(sums.layers["conv"]):
        assert torch.equal(getattr(again.layers["conv"], part.name), getattr(sums.layers["conv"], part.name))
    rest = these.pick(torch.arange(25, 40))
    again.update("conv", *rest)
    sums.update("conv", *rest)
    same(
        sums.finalize(frame_s=0.01),
        again.merge(ProfileSums(GROUPS, pad="zero", width={"conv": 7})).finalize(frame_s=0.01),
    )


def test_files_that_are_not_sums(tmp_path: Path):
    summed(some_instances(0)).save(tmp_path / "good")
    (tmp_path / "short").write_bytes((tmp_path / "good").read_bytes()[:300])
    (tmp_path / "text").write_text("not sums")
    save_file({"weight": torch.zeros(2)}, tmp_path / "weights")
    for name, words in {"none": "No such file", "short": "", "text": "", "weights": "format unknown"}.items():
        with pytest.raises(BadInput, match=f"could not read running sums from .*{name}(.|\n)*{words}"):
            ProfileSums.load(tmp_path / name)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"gradient": torch.zeros(40, 5, 4)}, "activations and gradients differ"),
        ({"gradient": torch.zeros(40, 15)}, "gradients cannot be used"),
        ({"gradient": torch.zeros(40, 5, 3, dtype=torch.long)}, "gradients cannot be used"),
        ({"start": torch.zeros(39)}, "instances differ in number"),
        ({"utterance": torch.full((40,), 3)}, "an utterance that was not given"),
        ({"centre": torch.full((40,), 13)}, "an instance outside its utterance"),
        ({"start": torch.full((40,), -5)}, "an instance outside its utterance"),
        ({"membership": torch.full((40, 1), 6)}, "a group that does not exist"),
        ({"membership": torch.full((40, 2), 1)}, "twice in a group"),
    ],
)
def test_arguments_that_do_not_fit(change, words):
    with pytest.raises(BadInput, match=f"layer 'conv': .*{words}"):
        summed(some_instances(0)._replace(**change))


def test_layers_that_change_between_updates():
    sums = summed(some_instances(0, span=5))
    sums.update("conv", *some_instances(1, span=3))
    with pytest.raises(BadInput, match=r"13 frames, 3 units(.|\n)*9 frames, 3 units(.|\n)*full cone"):
        sums.update("conv", *some_instances(1, span=7))
    with pytest.raises(BadInput, match=r"9 frames, 2 units"):
        sums.update("conv", *some_instances(1, units=2))
    with pytest.raises(BadInput, match="differs in the two sums"):
        sums.merge(summed(some_instances(1, span=7)))
    with pytest.raises(BadInput, match="different groups or options"):
        sums.merge(summed(some_instances(1), pad="zero"))
    fixed = summed(some_instances(0, span=5), some_instances(1, span=7), width=9)
    assert int(fixed.layers["conv"].tally[2]) == 7


def test_options_that_do_not_exist():
    with pytest.raises(BadOption, match="did you mean 'gradient'"):
        ProfileSums(GROUPS, alignment="gradent")
    with pytest.raises(BadOption, match=r"width 4(.|\n)*an odd number"):
        ProfileSums(GROUPS, width={"conv": 4})
    with pytest.raises(BadOption, match="unknown preset"):
        ProfileSums(GROUPS, preset="krug2019")
    for groups in (["AE"], ["phone:"], ["phone:AE", "phone:AE"], []):
        with pytest.raises(BadInput, match="cannot be groups"):
            ProfileSums(groups)
    sums = summed(some_instances(0), layer="input")
    with pytest.raises(BadOption, match="unknown mask"):
        sums.finalize(frame_s=0.01, mask="abs")
    with pytest.raises(BadInput, match="also input"):
        sums.finalize(frame_s={"conv": 0.01})
    with pytest.raises(BadInput, match=r"\(4,\)(.|\n)*\(3,\)"):
        sums.finalize(frame_s=0.01, frequency_hz=[1, 2, 3, 4])
    with pytest.raises(BadInput, match="nothing to read out"):
        ProfileSums(GROUPS).finalize(frame_s=0.01)
