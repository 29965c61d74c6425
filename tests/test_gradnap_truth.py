"""GradNAPs as a user gets them, from `otoscope.gradnap`: on paper, by captum, of planted sounds; what must not matter.

The parts have their own tests (`test_cones`, `test_gradnap`, `test_profiles`): here they are all behind the one call.
"""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest
import torch
from captum.attr import LayerActivation, LayerGradientXActivation, Saliency
from torch import Tensor, nn

import otoscope
from otoscope.hear.corpus import Utterance
from otoscope.learn.wav2letter import ConvolutionConfig, Wav2Letter, Wav2LetterConfig
from otoscope.reduce.gradnap import ProfileSums
from otoscope.reduce.profiles import Profiles
from otoscope.study import explained as study

MELS = 6
TABLES = ("mean", "mask", "profile")


def network(norm: str = "batch", mels: int = MELS) -> Wav2Letter:
    """Five symbols without a blank, a stride of 2, a field of 17 frames, three layers of hidden units."""
    torch.manual_seed(3)
    hidden = tuple(
        ConvolutionConfig(units=units, kernel=kernel, stride=stride)
        for units, kernel, stride in ((7, 5, 2), (8, 5, 1), (6, 3, 1))
    )
    built = Wav2Letter(Wav2LetterConfig(mels=mels, symbols=("_", "a", "b", "c", "d"), hidden=hidden, norm=norm))
    for module in built.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.normal_().mul_(0.3)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 2)
            module.bias.data.normal_().mul_(0.3)
    with torch.no_grad():
        logits, _ = built.eval()(torch.randn(1, 500, mels), torch.tensor([500]))
    # Every symbol is predicted somewhere.
    built.get_submodule("layer4").convolution.bias.data -= logits[0].mean(0)
    return built


@functools.cache
def speech(*lengths: int, mels: int = MELS, seed: int = 0) -> tuple[Utterance, ...]:
    """Noise, with phones of 7 frames each, drawn anew for each utterance."""
    draw = np.random.default_rng(seed)
    found = []
    for index, length in enumerate(lengths):
        values = draw.standard_normal((length, mels)).astype(np.float32)
        ends = np.arange(0, length, 7) / 100
        phones = [(start, start + 0.07, str(draw.choice(["AA", "K", "S"]))) for start in ends]
        found.append(Utterance(f"u{seed}-{index}", features=values, tiers={"phone": phones}, speaker=f"s{index % 2}"))
    return tuple(found)


SPEECH = speech(60, 9, 33, 34, 81, 16)
"""Longer and shorter than the field."""


def explain(module: nn.Module, utterances=SPEECH, **options) -> Profiles:
    return otoscope.gradnap(module, utterances, blank=None, **options)


def same(found: Profiles, wanted: Profiles, atol: float = 1e-5, counts: int = 1) -> None:
    """The same groups, layers and numbers; counts `counts` times as high. Values are near 1."""
    assert found.groups == wanted.groups
    assert list(found.layers) == list(wanted.layers)
    for layer, table in wanted.layers.items():
        np.testing.assert_array_equal(found.layers[layer]["count"], counts * table["count"], err_msg=layer)
        for name in TABLES:
            np.testing.assert_allclose(found.layers[layer][name], table[name], rtol=0, atol=atol, err_msg=layer)


class Convolution(nn.Module):
    """One convolution as logits, without padding: no frame depends on what is beyond the utterance."""

    mels = MELS

    def __init__(self, seed: int, classes: int = 3, kernel: int = 7) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.logits = nn.Conv1d(MELS, classes, kernel, stride=2)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.logits(features.transpose(1, 2)).transpose(1, 2)
        return logits, (lengths - 7) // 2 + 1


@pytest.mark.parametrize("seed", range(3))
def test_one_linear_convolution_has_the_closed_form(seed):
    """Aligned at argmax_k mean |W_c[:, k]|, masked with |W_c| / max |W_c| around it."""
    convolution = Convolution(seed)
    found = explain(convolution, by="symbol", layers="input")
    weight = convolution.logits.weight.detach().numpy().astype(np.float64)
    peak = np.abs(weight).mean(1).argmax(1)
    half = found.profile["input"].sizes["offset"] // 2
    assert half == 6
    windows = {c: [] for c in range(3)}
    for utterance in SPEECH:
        x = utterance.features.astype(np.float64)
        with torch.no_grad():
            logits, _ = convolution(torch.from_numpy(utterance.features)[None], torch.tensor([len(x)]))
        beyond = np.pad(x, ((half, half), (0, 0)), constant_values=np.nan)
        for t, c in enumerate(logits[0].argmax(-1).tolist()):
            middle = 2 * t + peak[c]
            windows[c].append(beyond[middle : middle + 2 * half + 1].T)
    every = np.nanmean(np.concatenate(list(windows.values())), 0)
    for c in range(3):
        mask = np.zeros((MELS, 2 * half + 1))
        mask[:, half - peak[c] : half - peak[c] + 7] = np.abs(weight[c]) / np.abs(weight[c]).max()
        mean = np.nanmean(windows[c], 0)
        wanted = {"mask": mask, "mean": mean, "profile": (mean - every) * mask}
        for name in TABLES:
            table = getattr(found, name)["input"].sel(group=f"symbol:{c}")
            np.testing.assert_allclose(table, wanted[name], rtol=0, atol=1e-6, err_msg=name)


class Recorded(ProfileSums):
    """Keeps what is added: layer, activations, utterance, gradient, start, centre."""

    updates: list

    def update(self, *given):
        self.updates.append(given)
        return super().update(*given)


@pytest.mark.parametrize("method", ["window", "auto", "repeat", "single"])
def test_without_biases_gradient_times_activation_is_the_logit_at_every_layer(method, monkeypatch):
    """A ReLU network without biases is homogeneous of degree one: Euler's theorem, at each frame that is explained."""
    module = network("none")
    for name, values in module.named_parameters():
        if name.endswith("bias"):
            values.data.zero_()
    updates: list = []
    monkeypatch.setattr(Recorded, "updates", updates, raising=False)
    monkeypatch.setattr(study, "ProfileSums", Recorded)
    found = explain(module, SPEECH[1:4], method=method)
    layers = ["input", *module.layer_names]
    assert list(found.layers) == layers
    best = {}
    for utterance in SPEECH[1:4]:
        x = torch.from_numpy(utterance.features)
        with torch.no_grad():
            logits, lengths = module(x[None], torch.tensor([len(x)]))
        best[len(x)] = logits[0].max(-1).values[: int(lengths)]
    seen = dict.fromkeys(layers, 0)
    heard: dict[int, int] = {}
    for layer, activations, utterance, gradient, start, centre, *_ in updates:
        if layer == "input":
            heard = dict(enumerate(map(len, activations)))
        seen[layer] += len(gradient)
        for u, g, first, t in zip(utterance.tolist(), gradient, start.tolist(), centre.tolist(), strict=True):
            inside = range(max(0, first), min(len(activations[u]), first + len(g)))
            product = sum(float(g[k - first] @ activations[u][k]) for k in inside)
            frame = t // 2 if layer == "input" else t
            assert product == pytest.approx(float(best[heard[u]][frame]), rel=1e-5, abs=1e-6), (layer, u, t)
    assert set(seen.values()) == {sum(map(len, best.values()))}


def test_captum_gives_the_same_profiles_at_every_layer():
    """Every gradient and activation by captum, one frame at a time; aligned, cropped and averaged by plain loops."""
    module, utterances = network(), SPEECH[1:4]
    found = explain(module, utterances, by=("symbol", "phone"))
    halves = {layer: profile.sizes["offset"] // 2 for layer, profile in found.profile.items()}
    crops: dict[str, list[tuple[set[str], np.ndarray]]] = {layer: [] for layer in found.layers}
    for utterance in utterances:
        x = torch.from_numpy(utterance.features)[None]

        def logits(values: Tensor) -> Tensor:
            return module(values, torch.tensor([values.shape[1]]))[0]

        for t, c in enumerate(logits(x)[0].argmax(-1).tolist()):
            phones = [s.label for s in utterance.tiers["phone"] if s.start_s <= t * 0.02 + 1e-9 < s.end_s]
            groups = {f"symbol:{module.symbols[c]}", *(f"phone:{label}" for label in phones)}
            for layer in found.layers:
                if layer == "input":
                    gradient = Saliency(logits).attribute(x.clone().requires_grad_(), (t, c), abs=False)[0]
                    activation, centre = x[0], 2 * t
                else:
                    part = module.get_submodule(layer)
                    oracle = LayerGradientXActivation(logits, part, multiply_by_inputs=False)
                    gradient = oracle.attribute(x, (t, c))[0]
                    activation, centre = LayerActivation(logits, part).attribute(x)[0], t
                a, g = activation.detach().numpy(), gradient.detach().numpy()
                crops[layer].append((groups, crop(a, g, halves[layer], centre, weigh=layer != "input")))
    for layer, rows in crops.items():
        every = np.nanmean([row for _, row in rows], 0)
        for group in found.groups:
            mine = np.array([row for groups, row in rows if group in groups])
            if not len(mine):
                assert group in found.empty
                continue
            reached = np.isfinite(mine[:, 0]).any(0)
            with np.errstate(invalid="ignore"):
                mean, slope = (np.where(reached, np.nansum(mine, 0) / np.isfinite(mine).sum(0), np.nan))[:2]
            mask = np.where(reached, np.abs(slope), 0) / np.nanmax(np.abs(slope))
            wanted = {"mean": mean, "mask": mask, "profile": np.where(reached, (mean - every[0]) * mask, 0)}
            for name, table in wanted.items():
                tight = 1e-5 * np.nanmax(np.abs(table))
                value = getattr(found, name)[layer].sel(group=group)
                np.testing.assert_allclose(value, table, rtol=0, atol=tight, err_msg=f"{layer} {group} {name}")


def crop(a: np.ndarray, g: np.ndarray, half: int, centre: int, weigh: bool) -> np.ndarray:
    """Activation and gradient `(2, unit, offset)` around the frame of the largest mean |gradient| (· activation)."""
    reached = np.flatnonzero(np.abs(g).any(1))
    score = np.mean(np.abs(g) * (a if weigh else 1), 1)
    middle = reached[score[reached].argmax()] if len(reached) else centre
    window = np.full((2, a.shape[1], 2 * half + 1), np.nan)
    for o in range(-half, half + 1):
        if 0 <= middle + o < len(a):
            window[:, :, o + half] = a[middle + o], g[middle + o]
    return window


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
def test_every_way_to_the_gradients_gives_the_same_profiles(norm):
    module = network(norm)
    single = explain(module, SPEECH[:4], method="single")
    assert single.settings["gradients"].startswith("single")
    # A norm over units mixes values, so that no forward pass can be shared.
    best = "window" if norm == "layer" else "shared"
    for method in dict.fromkeys((best, "window", "repeat", "auto")):
        found = explain(module, SPEECH[:4], method=method)
        assert found.settings["gradients"].startswith(best if method == "auto" else method)
        same(found, single)


class Listening(nn.Module):
    """Hears two motifs of three frames, each in its own three bins, and says so four frames after their middle.

    A third detector hears the motif of bins 6 to 8 just as well, but nobody asks it.
    """

    symbols, blank, mels, delay = ("_", "a", "b"), 0, 9, 4

    def __init__(self, motifs: Tensor) -> None:
        super().__init__()
        self.hearing = nn.Conv1d(9, 3, 3, padding=1)
        self.saying = nn.Conv1d(3, 3, 2 * self.delay + 1, padding=self.delay)
        for values in self.parameters():
            values.data.zero_()
        for number, motif in enumerate(motifs):
            rows = slice(3 * number, 3 * number + 3)
            self.hearing.weight.data[number, rows] = motif
            # Only the whole motif is above the threshold, not one that is a frame early or late.
            self.hearing.bias.data[number] = -0.9 * motif.square().sum()
        self.saying.weight.data[1, 0, 0] = self.saying.weight.data[2, 1, 0] = 1
        self.saying.bias.data[0] = 1e-3

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return self.saying(self.hearing(features.transpose(1, 2)).relu()).transpose(1, 2), lengths


def test_planted_motifs_are_found_at_their_time_and_one_without_weight_vanishes():
    motifs = torch.tensor([[[0, 1, 0], [1, 4, 1], [2, 5, 0.0]], [[1, 3, 0], [0, 5, 2], [0, 3, 1]], [[2, 5, 1]] * 3])
    draw = np.random.default_rng(0)
    found, planted = [], {"a": 0, "b": 0}
    for index in range(20):
        values = 0.01 * draw.standard_normal((80, 9)).astype(np.float32)
        # The third motif comes with the first one, always.
        for at, kinds in zip(draw.permutation([15, 38, 60])[:2] + draw.integers(-4, 5, 2), ((0, 2), (1,)), strict=True):
            for kind in kinds:
                values[at - 1 : at + 2, 3 * kind : 3 * kind + 3] += motifs[kind].numpy().T
            planted["ab"[kinds[0]]] += 1
        found.append(Utterance(f"u{index}", features=values))
    module = Listening(motifs)
    profiles = otoscope.gradnap(module, found, by="symbol")
    counts = profiles.instances.sel(layer="input")
    assert {symbol: int(counts.sel(group=f"symbol:{symbol}")) for symbol in "ab"} == planted
    near = {"offset": [-1, 0, 1]}
    for number, symbol in enumerate("ab"):
        own = slice(3 * number, 3 * number + 3)
        mask, mean = (table["input"].sel(group=f"symbol:{symbol}") for table in (profiles.mask, profiles.mean))
        # One instance aligned a frame beside would make the mean 5 % lower.
        np.testing.assert_allclose(mean.sel(near)[own], motifs[number], rtol=0, atol=0.01)
        np.testing.assert_allclose(mask.sel(near)[own], motifs[number] / motifs[number].max(), rtol=0, atol=1e-6)
        # Where it is heard, and four frames later where it is said.
        for name, unit in (("hearing", number), ("saying", number + 1)):
            fired = profiles.mean[name].sel(group=f"symbol:{symbol}", unit=unit)
            assert float(fired.sel(offset=0)) == pytest.approx(0.1 * float(motifs[number].square().sum()), rel=0.05)
            assert (fired.drop_sel(offset=0).fillna(0) < 0.01).all()
    # Unmasked, the third motif is as plain as the first; both classes are as frequent, so half of it is left.
    plain = otoscope.gradnap(module, found, by="symbol", mask="none").profile["input"].sel(group="symbol:a").sel(near)
    np.testing.assert_allclose(plain[6:], motifs[2] / 2, rtol=0, atol=0.02)
    assert float(profiles.profile["input"].sel(group="symbol:a").sel(near)[:3].max()) > 2
    assert (profiles.profile["input"][:, 6:].sel(group=["symbol:a", "symbol:b"]) == 0).all()
    third = profiles.mean["hearing"].sel(group="symbol:a", unit=2, offset=0)
    assert float(third) - float(profiles.mean["hearing"].sel(group="symbol:b", unit=2, offset=0)) > 1
    assert (profiles.profile["hearing"].sel(unit=2, group=["symbol:a", "symbol:b"]) == 0).all()


@pytest.mark.parametrize("seed", range(2))
def test_what_must_not_matter(seed):
    """Speech twice, in another order, in other batches, and logits on another scale."""
    module = network()
    # The last has one frame of output: alone in its batch it is the only instance there.
    heard = [*SPEECH, *speech(2, seed=1)]
    plain = explain(module, heard)
    assert not plain.empty
    twice = [Utterance(f"{u.id}-again", features=u.features, tiers=u.tiers, speaker=u.speaker) for u in heard]
    same(explain(module, [*heard, *twice]), plain, counts=2)
    order = np.random.default_rng(seed).permutation(len(heard))
    same(explain(module, [heard[index] for index in order], batch_size=1 + seed), plain)
    same(explain(module, heard, batch_size=3 + seed), plain)
    scaled, factor = network(), (37.0, 1e-3)[seed]
    last = scaled.get_submodule(scaled.layer_names[-1]).convolution
    for values in last.parameters():
        values.data.mul_(factor)
    found = explain(scaled, heard)
    for name in ("mean", "profile"):
        found.layers[scaled.layer_names[-1]][name] /= factor
    same(found, plain)


@pytest.mark.parametrize("seed", range(2))
def test_permuted_units_permute_their_profiles_and_no_others(seed):
    plain, module = explain(network()), network()
    order = torch.randperm(8, generator=torch.Generator().manual_seed(seed))
    one, two = module.get_submodule("layer2"), module.get_submodule("layer3")
    for values in (*one.parameters(), one.norm.running_mean, one.norm.running_var):
        values.data = values.data[order]
    two.convolution.weight.data = two.convolution.weight.data[:, order]
    found = explain(module)
    assert not np.allclose(found.profile["layer2"], plain.profile["layer2"], atol=0.01, equal_nan=True)
    back = found.layers["layer2"].isel(unit=order.argsort().numpy())
    found.layers["layer2"] = back.assign_coords(unit=plain.layers["layer2"]["unit"])
    same(found, plain)


def noise_in_silence(before: int, after: int) -> Utterance:
    """0.4 s of noise at 16 kHz, `before` and `after` samples of silence around it."""
    noise = 0.1 * np.random.default_rng(0).standard_normal(6400).astype(np.float32)
    samples = np.concatenate([np.zeros(before, np.float32), noise, np.zeros(after, np.float32)])
    return Utterance(f"shifted-{before}", audio=samples, sample_rate=16_000)


def test_audio_shifted_by_a_multiple_of_the_stride_gives_the_same_profiles():
    """As much silence before and after together, so that normalisation is the same: every frame has its like."""
    module, stride = network(mels=128), 2 * 160
    plain = explain(module, [noise_in_silence(30 * stride, 40 * stride)])
    for frames in (1, 7):
        same(explain(module, [noise_in_silence((30 + frames) * stride, (40 - frames) * stride)]), plain)
    # Half a stride later the network hears other frames.
    half = explain(module, [noise_in_silence(30 * stride + 160, 40 * stride - 160)])
    group = next(name for name in plain.groups if name not in plain.empty)
    least = np.abs(plain.profile["layer1"].sel(group=group) - half.profile["layer1"].sel(group=group)).max()
    assert least > 1e-3


@pytest.mark.parametrize("seed", range(2))
def test_any_split_into_partial_passes_gives_the_same_profiles(seed, tmp_path):
    """Instances dealt out to passes of their own, saved, and merged in another order."""
    module = network()
    whole = explain(module)
    task = study.explained(module, SPEECH, blank=None)
    found, members = task.predictions, task.members
    part = torch.randint(3, (len(members),), generator=torch.Generator().manual_seed(seed))
    for number in range(3):
        mine = part == number
        some = replace(found, utterance=found.utterance[mine], frame=found.frame[mine], symbol=found.symbol[mine])
        dealt = replace(task, predictions=some, members=members[mine], batch_size=1 + number)
        dealt.sums().save(tmp_path / f"{number}")
    first, *others = (ProfileSums.load(tmp_path / f"{number}") for number in np.random.default_rng(seed).permutation(3))
    for other in others:
        first.merge(other)
    same(first.finalize(), whole)
