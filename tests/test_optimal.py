"""Optimal inputs of linear networks, whose optimum follows on paper, and of others against a loop written out here."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from otoscope.base import BadInput, BadOption, derive_seed
from otoscope.learn.wav2letter import ConvolutionConfig, Wav2Letter, Wav2LetterConfig
from otoscope.probe.layers import list_layers
from otoscope.probe.optimal import PRESETS, make_recipe, optimise_inputs
from otoscope.probe.preactivations import UnitReader, place_input

MELS, UNITS, KERNEL = 4, 6, 5
FREE = {"l1": 0, "l2": 0, "start_sd": 0}


class Chain(nn.Module):
    """Modules over `(batch, unit, frame)`, one after the other, between frames first and frames first."""

    mels = MELS

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(modules)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        values = features.transpose(1, 2)
        for module in self.layers:
            values = module(values)
        return values.transpose(1, 2), lengths


def linear(seed: int = 1, padding: int = 0, stride: int = 1) -> Chain:
    torch.manual_seed(seed)
    return Chain(nn.Conv1d(MELS, UNITS, KERNEL, stride=stride, padding=padding))


def kernel(network: Chain, unit: int) -> np.ndarray:
    """`(frame, mel)`"""
    weight: Any = network.layers[0].weight
    return weight[unit].detach().numpy().T


def wav2letter(norm: str = "batch") -> Wav2Letter:
    hidden = tuple(ConvolutionConfig(units=7, kernel=size, stride=step) for size, step in ((6, 2), (5, 1), (3, 1)))
    torch.manual_seed(3)
    network = Wav2Letter(Wav2LetterConfig(mels=MELS, symbols=("_", "a", "b"), hidden=hidden, norm=norm)).eval()
    for name, buffer in network.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(std=0.1)
        elif name.endswith("running_var"):
            buffer.uniform_(0.02, 0.1)
    return network


class Recurrent(nn.Module):
    mels = MELS

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.rnn = nn.GRU(MELS, UNITS, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * UNITS, 3)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return self.head(self.rnn(features)[0]), lengths


def test_the_presets_numbers_are_the_papers():
    recipe = PRESETS["krug2020"]
    assert (recipe.steps, recipe.learning_rate, recipe.start_sd, recipe.l1, recipe.l2) == (16, 0.05, 0.001, 15, 0.1)
    assert (recipe.tv_time, recipe.tv_frequency, recipe.jitter) == (0, 0, 0)
    assert make_recipe() == recipe


@pytest.mark.parametrize("padding", [0, 2])
def test_without_penalty_each_step_goes_along_the_sign_of_the_kernel(padding):
    # The gradient of w·x is w in every step, and Adam's step along a constant gradient is the learning rate.
    network = linear(padding=padding)
    found = optimise_inputs(network, "layers.0", [{2: 1}], recipe=make_recipe(**FREE))
    np.testing.assert_allclose(found.inputs[0], 16 * 0.05 * np.sign(kernel(network, 2)), atol=1e-5)
    assert found.gradient[0] == pytest.approx(np.abs(kernel(network, 2)).max())
    steps = np.diff(found.activation[0].numpy())
    np.testing.assert_allclose(steps, 0.05 * np.abs(kernel(network, 2)).sum(), rtol=1e-4)


def test_with_l2_the_optimum_is_the_kernel():
    # w·x - c‖x‖² is largest at x = w / 2c.
    network, c = linear(), 0.4
    recipe = make_recipe(steps=800, learning_rate=0.01, l1=0, l2=c * KERNEL)
    found = optimise_inputs(network, "layers.0", [{unit: 1} for unit in range(UNITS)], recipe=recipe)
    for unit in range(UNITS):
        wanted = kernel(network, unit)
        assert np.corrcoef(found.inputs[unit].ravel(), wanted.ravel())[0, 1] == pytest.approx(1, abs=1e-6)
        np.testing.assert_allclose(found.inputs[unit], wanted / (2 * c), atol=1e-4)


def test_with_l1_and_l2_small_weights_are_thresholded():
    # Value by value: w x - a|x| - c x² is largest at sign(w) · max(|w| - a, 0) / 2c.
    network, a, c = linear(), 0.1, 0.4
    recipe = make_recipe(steps=700, learning_rate=0.002, l1=a * KERNEL, l2=c * KERNEL)
    found = optimise_inputs(network, "layers.0", [{0: 1}], recipe=recipe)
    weight = kernel(network, 0)
    wanted = np.sign(weight) * np.maximum(np.abs(weight) - a, 0) / (2 * c)
    assert 0.2 < (wanted == 0).mean() < 0.8
    np.testing.assert_allclose(found.inputs[0], wanted, atol=6e-3)


def test_units_of_negative_weight_are_minimised():
    network, c = linear(), 0.5
    recipe = make_recipe(steps=800, learning_rate=0.01, l1=0, l2=c * KERNEL)
    found = optimise_inputs(network, "layers.0", [{1: 1, 4: -1}], recipe=recipe)
    np.testing.assert_allclose(found.inputs[0], kernel(network, 1) - kernel(network, 4), atol=1e-4)


def by_hand(network: Wav2Letter, layer: str, units: dict[int, float], start: Tensor, seen: int, at: int, recipe: Any):
    """Eq. 2 as a loop, on an input of which `seen` leading frames are zero, read at frame `at` before the ReLU."""
    values = start.clone().requires_grad_()
    optimiser = torch.optim.Adam([values], lr=recipe.learning_rate)
    heard: list[Tensor] = []
    hook = network.get_submodule(f"{layer}.norm").register_forward_hook(lambda _m, _a, output: heard.append(output))
    field = start.shape[1]
    for _ in range(recipe.steps):
        optimiser.zero_grad()
        features = torch.cat([torch.zeros(1, seen, MELS), values, torch.zeros(1, 4, MELS)], 1)
        network(features, torch.tensor([features.shape[1]]))
        preactivation = heard.pop()[0, at]
        loss = -sum(preactivation[unit] for unit, sign in units.items() if sign > 0)
        loss = loss + sum(preactivation[unit] for unit, sign in units.items() if sign < 0)
        loss = loss + recipe.l1 / field * values.abs().sum() + recipe.l2 / field * (values**2).sum()
        loss = loss + recipe.tv_time / field * (values[:, 1:] - values[:, :-1]).abs().sum()
        loss = loss + recipe.tv_frequency / field * (values[:, :, 1:] - values[:, :, :-1]).abs().sum()
        loss.backward()
        optimiser.step()
    hook.remove()
    return values.detach()[0]


@pytest.mark.parametrize("changes", [{}, {"l1": 0.3}, {"l1": 0, "tv_time": 0.7, "tv_frequency": 0.2}, {"steps": 5}])
def test_a_layer_of_a_network_is_optimised_as_in_a_plain_loop(changes):
    network, units = wav2letter(), {0: 1.0, 5: -1.0, 3: 1.0}
    recipe = make_recipe(**changes)
    found = optimise_inputs(network, "layer2", [units], recipe=recipe, seed=8)
    # Layer 1: kernel 6, step 2, frames -2 … 3 around 2t. Layer 2: kernel 5. So frames 2t - 6 … 2t + 7.
    assert found.inputs.shape == (1, 14, MELS)
    assert found.target == "input of layer2.activation, the pre-activation of layer2"
    start = 0.001 * torch.randn(1, 14, MELS, generator=torch.Generator().manual_seed(derive_seed(8, "optimal input")))
    wanted = by_hand(network, "layer2", units, start, seen=2, at=4, recipe=recipe)
    np.testing.assert_allclose(found.inputs[0], wanted, atol=2e-5)
    assert found.activation.shape == (1, recipe.steps + 1)


def test_the_activation_told_is_that_of_the_input_found():
    network, units = wav2letter(), {0: 1.0, 5: -1.0}
    found = optimise_inputs(network, "layer3", [units], recipe=make_recipe(l1=0, jitter=2, steps=40))
    heard: list[Tensor] = []
    hook = network.layer3.norm.register_forward_hook(lambda _m, _a, output: heard.append(output))
    features = nn.functional.pad(found.inputs, (0, 0, 20, 21))
    network(features, torch.tensor([features.shape[1]]))
    hook.remove()
    at = (20 + found.place.centre) // 2
    assert found.activation[0, -1] == pytest.approx((heard[0][0, at, 0] - heard[0][0, at, 5]).item(), abs=1e-5)
    assert found.activation[0, -1] > found.activation[0, 0] + 0.5


PLACES = [
    # layers as (kernel, stride, padding), what the last one's field is
    ([(5, 1, 0)], 5),
    ([(5, 1, 2)], 5),
    ([(6, 2, 2)], 6),
    ([(48, 2, 23), (7, 1, 3)], 60),
    ([(3, 2, 1), (3, 2, 1)], 7),
    ([(4, 3, 0), (1, 1, 0)], 4),
]


@pytest.mark.parametrize(("plan", "field"), PLACES)
@pytest.mark.parametrize("more", [0, 1, 9])
def test_the_unit_sees_all_of_the_input_and_nothing_else(plan, field, more):
    torch.manual_seed(0)
    widths = [MELS, *([3] * len(plan))]
    network = Chain(
        *(
            nn.Conv1d(before, after, size, stride=step, padding=pad)
            for (before, after), (size, step, pad) in zip(itertools.pairwise(widths), plan, strict=True)
        )
    )
    layer = list_layers(network)[-1]
    place = place_input(layer, field + more if more else None)
    assert (place.field, place.frames) == (field, field + more)
    features = torch.randn(1, place.length, MELS, requires_grad=True)
    logits, _ = network(features, torch.tensor([place.length]))
    logits[0, place.frame, 0].backward()
    seen = features.grad[0].abs().sum(1).nonzero().flatten().tolist()
    assert len(seen) == field, "the whole field lies inside the utterance"
    assert seen[0] >= place.first
    assert seen[-1] < place.first + place.frames
    if not more:
        assert seen == list(range(place.first, place.first + place.frames))
    # It is the middle frame: no frame of the layer lies more evenly.
    uneven = abs((seen[0] - place.first) - (place.first + place.frames - 1 - seen[-1]))
    assert uneven <= math.prod(step for _, step, _ in plan)


def test_a_field_without_end_needs_a_number_of_frames():
    network = Recurrent()
    with pytest.raises(
        BadOption, match=r"depends on the whole utterance.*\n.*frames=None[\s\S]*number of input frames"
    ):
        optimise_inputs(network, "rnn", [{0: 1}])
    found = optimise_inputs(network, "rnn", [{0: 1}, {7: -1}], frames=30, recipe=make_recipe(l1=0.01))
    assert found.inputs.shape == (2, 30, MELS)
    assert found.place.field == 30
    assert found.place.frame == 15
    assert (found.activation[:, -1] > found.activation[:, 0]).all()


def test_sets_do_not_depend_on_each_other():
    network = wav2letter()
    sets = [{unit: 1.0, (unit + 1) % 7: -1.0} for unit in range(7)]
    recipe = make_recipe(l1=0.1, jitter=1)
    together = optimise_inputs(network, "layer2", sets, recipe=recipe)
    apart = optimise_inputs(network, "layer2", sets, recipe=recipe, batch_frames=40)
    alone = optimise_inputs(network, "layer2", sets[4:5], recipe=recipe)
    np.testing.assert_allclose(together.inputs, apart.inputs, atol=1e-5)
    np.testing.assert_allclose(together.inputs[4], alone.inputs[0], atol=1e-5)
    assert not torch.allclose(together.inputs[3], together.inputs[4], atol=0.1)


def test_the_seed_decides():
    network, recipe = linear(), make_recipe(steps=3, jitter=2)
    first, again, other = (
        optimise_inputs(network, "layers.0", [{0: 1}], seed=seed, recipe=recipe).inputs for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_start_has_the_papers_standard_deviation():
    start = optimise_inputs(Chain(nn.Conv1d(MELS, 1, 999)), "layers.0", [{0: 1}], recipe=make_recipe(steps=1, l1=0))
    moved = start.inputs[0].abs() - 0.05
    assert float(moved.std()) == pytest.approx(0.001, rel=0.1)


def test_the_activation_told_at_every_step_is_without_jitter():
    # What a shorter run ends with, which is told of its final input, a longer one passes through.
    network = linear()
    longer = optimise_inputs(network, "layers.0", [{0: 1}], recipe=make_recipe(steps=6, jitter=3)).activation[0]
    for steps in range(1, 6):
        found = optimise_inputs(network, "layers.0", [{0: 1}], recipe=make_recipe(steps=steps, jitter=3))
        assert found.activation[0, -1] == pytest.approx(float(longer[steps]), abs=1e-6)


@pytest.mark.parametrize("shift", [-2, 0, 3])
def test_jitter_moves_the_input_and_brings_in_zeros(shift):
    network = linear()
    layer = list_layers(network)[-1]
    reader = UnitReader(network, layer, place_input(layer), MELS, "activation")
    values = torch.randn(1, KERNEL, MELS)
    moved = torch.zeros_like(values)
    for frame in range(KERNEL):
        if 0 <= frame + shift < KERNEL:
            moved[0, frame + shift] = values[0, frame]
    wanted = torch.einsum("uwk,rkw->ru", network.layers[0].weight, moved) + network.layers[0].bias
    np.testing.assert_allclose(reader.read(values, shift).detach(), wanted.detach(), atol=1e-5)


def test_total_variation_smooths():
    network = linear()
    rough, in_time, in_frequency = (
        optimise_inputs(network, "layers.0", [{0: 1}], recipe=make_recipe(l1=0, steps=60, **changes)).inputs[0]
        for changes in ({}, {"tv_time": 2.0}, {"tv_frequency": 2.0})
    )
    assert in_time.diff(dim=0).abs().sum() < 0.3 * rough.diff(dim=0).abs().sum()
    assert in_frequency.diff(dim=1).abs().sum() < 0.3 * rough.diff(dim=1).abs().sum()


def test_penalties_against_the_gradient_do_not_know_the_layers_scale():
    network, louder = linear(), linear()
    with torch.no_grad():
        louder.layers[0].weight *= 100
    recipe = make_recipe("recommended", jitter=0)
    found, same = (optimise_inputs(each, "layers.0", [{2: 1}], recipe=recipe) for each in (network, louder))
    np.testing.assert_allclose(found.inputs, same.inputs, atol=1e-3)
    assert found.penalty[0] == pytest.approx(float(np.abs(kernel(network, 2)).mean()), rel=1e-5)
    # Those against the field do.
    assert optimise_inputs(network, "layers.0", [{2: 1}]).penalty[0] == pytest.approx(1 / KERNEL)


class Functional(Chain):
    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return torch.relu(self.layers[0](features.transpose(1, 2))).transpose(1, 2), lengths


class Shared(Chain):
    """One ReLU after both convolutions, in place; whatever comes after the second fails on short inputs."""

    def __init__(self) -> None:
        super().__init__(nn.Conv1d(MELS, 5, 3), nn.Conv1d(5, 5, 3), nn.Conv1d(5, 2, 20))
        self.first, self.second = nn.Sequential(self.layers[0]), nn.Sequential(self.layers[1])
        self.relu, self.drop1, self.drop2 = nn.ReLU(inplace=True), nn.Dropout(), nn.Dropout()

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        values = self.drop1(self.relu(self.layers[0](features.transpose(1, 2))))
        values = self.drop2(self.relu(self.layers[1](values)))
        return self.layers[2](values).transpose(1, 2), lengths


def test_what_is_read_before_the_nonlinearity():
    network = Chain(nn.Conv1d(MELS, 5, 3), nn.ReLU(inplace=True), nn.Conv1d(5, 3, 1), nn.LogSoftmax(1))
    # Convolution 1 is linear, ReLU and softmax end in themselves.
    survey = list_layers(network)
    targets = [
        optimise_inputs(network, name, [{0: 1}], survey=survey, recipe=make_recipe(steps=1)).target
        for name in ("layers.0", "layers.1", "layers.3")
    ]
    assert targets == [
        "output of layers.0",
        "input of layers.1, the pre-activation of layers.1",
        "input of layers.3, the pre-activation of layers.3",
    ]
    other = optimise_inputs(network, "layers.1", [{0: 1}], survey=survey, recipe=make_recipe(target="activation"))
    assert other.target == "output of layers.1"
    # A function cannot be seen.
    functional = Functional(nn.Conv1d(MELS, 5, 3))
    assert optimise_inputs(functional, "layers.0", [{0: 1}]).target == "output of layers.0"


@pytest.mark.parametrize(("layer", "convolutions"), [("drop1", 1), ("drop2", 2)])
def test_a_shared_nonlinearity_is_read_at_the_right_call(layer, convolutions):
    torch.manual_seed(2)
    network = Shared()
    recipe = make_recipe(**{**FREE, "steps": 1})
    found = optimise_inputs(network, layer, [{0: 1}], recipe=recipe)
    assert found.target == f"input of relu, the pre-activation of {layer}"
    assert found.inputs.shape[1] == 1 + 2 * convolutions
    values = torch.zeros(1, MELS, 1 + 2 * convolutions)
    for index in range(convolutions):
        values = network.layers[index](values.relu() if index else values)
    assert found.activation[0, 0] == pytest.approx(float(values.detach()[0, 0, 0]), abs=1e-6)


def test_a_unit_below_zero_can_be_raised():
    # Behind the ReLU it has no gradient; before it, it has.
    network = Chain(nn.Conv1d(MELS, 2, 3), nn.ReLU())
    with torch.no_grad():
        network.layers[0].bias.fill_(-0.1)
    before = optimise_inputs(network, "layers.1", [{0: 1}], recipe=make_recipe(l1=0))
    behind = optimise_inputs(network, "layers.1", [{0: 1}], recipe=make_recipe(l1=0, target="activation"))
    assert before.activation[0, -1] > 0.1
    assert behind.activation[0, -1] == 0
    assert behind.gradient[0] == 0


def test_the_network_is_left_as_it_was():
    network = Chain(nn.Conv1d(MELS, 5, 3), nn.Dropout(), nn.ReLU())
    network.train()
    network.layers[0].bias.requires_grad_(False)
    survey = list_layers(network)
    with torch.no_grad():
        optimise_inputs(network, "layers.2", [{0: 1}], survey=survey)
        with torch.no_grad():
            network.layers[0].weight[0, 0, 0] = math.nan
        with pytest.raises(BadInput, match=r"layer 'layers.2' or its gradient is not finite[\s\S]*set 0"):
            optimise_inputs(network, "layers.2", [{1: 1}, {0: 1}], survey=survey, recipe=make_recipe(**FREE))
    assert all(module.training for module in network.modules())
    assert [p.requires_grad for p in network.parameters()] == [True, False]
    assert all(p.grad is None for p in network.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())


def test_progress_counts_every_step_of_every_set():
    calls: list[tuple[int, int]] = []
    optimise_inputs(
        linear(),
        "layers.0",
        [{unit: 1} for unit in range(5)],
        recipe=make_recipe(steps=3),
        batch_frames=2 * KERNEL,
        progress=lambda done, total, note: calls.append((done, total)),
    )
    assert calls == [(done, 15) for done in (2, 4, 6, 8, 10, 12, 13, 14, 15)]


class Blind(Chain):
    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            return super().forward(features, lengths)


WRONG = [
    ({"layer": "layers.9"}, "no layer of this name"),
    ({"layer": "input"}, "the input has no optimal input"),
    ({"sets": []}, "no sets"),
    ({"sets": [{0: 1}, {}]}, "set 1 has no units"),
    ({"sets": [{0: 1, UNITS: 1}]}, r"set 0 has units that layer 'layers.0' does not have[\s\S]*units 0 to 5"),
    ({"sets": [{-1: 1}]}, "does not have"),
    ({"sets": [{0: 0}]}, "weight of unit 0"),
    ({"sets": [{0: math.nan}]}, "weight of unit 0"),
    ({"frames": 4}, r"shorter than what a unit[\s\S]*5 or more, or None"),
    ({"frames": 0}, "a whole number, 1 or more"),
]


@pytest.mark.parametrize(("changes", "words"), WRONG)
def test_what_cannot_be_is_refused(changes, words):
    arguments: dict[str, Any] = {"layer": "layers.0", "sets": [{0: 1}], **changes}
    with pytest.raises(BadOption, match=words):
        optimise_inputs(linear(), **arguments)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"preset": "krug2021"}, "did you mean 'krug2020'"),
        ({"stepz": 3}, "unknown option"),
        ({"steps": 0}, "steps of an optimal input"),
        ({"steps": 2.5}, "steps of an optimal input"),
        ({"jitter": -1}, "jitter of an optimal input"),
        ({"learning_rate": 0}, "learning_rate of an optimal input"),
        ({"l1": -1}, "l1 of an optimal input"),
        ({"l2": math.inf}, "l2 of an optimal input"),
        ({"penalty": "area"}, "unknown penalty"),
        ({"target": "logit"}, "unknown target"),
    ],
)
def test_recipes_that_cannot_be_are_refused(changes, words):
    with pytest.raises(BadOption, match=words):
        make_recipe(**changes)


def test_a_network_without_gradients_is_refused():
    network = Blind(nn.Conv1d(MELS, 3, 3))
    with pytest.raises(BadInput, match="cannot be differentiated"):
        optimise_inputs(network, "layers.0", [{0: 1}])
