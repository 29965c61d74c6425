"""Layers measured, against the textbook's formulas, networks built to be of a known kind, and plain runs."""

from __future__ import annotations

import json
import math
import pickle
from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn

from otoscope.base import BadInput, BadOption
from otoscope.probe.layers import Layer, Survey, as_frames, list_layers, match_layers


class Stack(nn.Module):
    """Modules on `(batch, unit, frame)`, one after the other."""

    def __init__(self, *modules: nn.Module, mels: int | None = 5) -> None:
        super().__init__()
        self.body = nn.Sequential(*modules)
        if mels is not None:
            self.mels = mels

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return self.body(features.transpose(1, 2)).transpose(1, 2), lengths


class Each(nn.Module):
    """Runs the function given."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, values: Tensor) -> Tensor:
        return self.function(values)


def conv(inputs: int = 5, units: int = 5, kernel: int = 3, **options) -> nn.Conv1d:
    return nn.Conv1d(inputs, units, kernel, **options)


def blocks(values: Tensor) -> Tensor:
    return values.unfold(2, 16, 16).mean(3).repeat_interleave(16, 2)


def by_name(survey: Survey) -> dict[str, Layer]:
    return {str(layer): layer for layer in survey}


@pytest.mark.parametrize("seed", range(12))
def test_random_stacks_have_the_textbook_receptive_field(seed):
    """Dumoulin and Visin 2016: jump j = Π s, field r = 1 + Σ (k - 1) d j, first frame sees from -Σ p j on."""
    noise = torch.Generator().manual_seed(seed)

    def pick(*values: int) -> int:
        return values[int(torch.randint(len(values), (), generator=noise))]

    modules, expected, jump, field, offset = [], [], 1, 1, 0
    for _ in range(pick(1, 2, 3, 4)):
        kernel, stride, dilation = pick(1, 2, 3, 5, 8), pick(1, 1, 2, 3), pick(1, 1, 2, 3)
        padding = pick(0, (kernel - 1) * dilation // 2, kernel)
        modules.append(conv(kernel=kernel, stride=stride, dilation=dilation, padding=padding))
        field += (kernel - 1) * dilation * jump
        offset += padding * jump
        jump *= stride
        expected.append((field, jump, offset))
    network = Stack(*modules)
    # Poison shows what depends on what even where no weight lets anything through.
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    survey = list_layers(network)
    layers = by_name(survey)
    for index, (module, (field, jump, offset)) in enumerate(zip(modules, expected, strict=True)):
        layer = layers[f"body.{index}"]
        assert (layer.field, layer.stride, layer.reach) == (field, jump, (offset, field - 1 - offset)), module
        # How the last frame reaches back into this layer: the same formula over the modules after it.
        left, right, step = 0, 0, 1
        for later in modules[index + 1 :]:
            left += later.padding[0] * step
            right += ((later.kernel_size[0] - 1) * later.dilation[0] - later.padding[0]) * step
            step *= later.stride[0]
        assert layer.cone == (left, right)
    assert survey.output.reach == layers["input"].cone
    assert survey.period == jump


@pytest.mark.parametrize(
    ("modules", "cone"),
    [
        # The first and last frames of output are made of padding alone, and NaN never reaches them.
        (
            [conv(5, 5, 3, stride=3, padding=1, dilation=3), conv(5, 5, 4, dilation=3), conv(5, 2, 1, padding=1)],
            (4, 29),
        ),
        # The same, where most frames of a period are of no matter.
        (
            [
                conv(5, 2, 3, stride=3, padding=1, dilation=2),
                conv(2, 2, 3, stride=3, dilation=3),
                conv(2, 2, 3, dilation=2),
                conv(2, 2, 1, padding=1),
            ],
            (10, 48),
        ),
        # Two frames far apart, and nothing between.
        ([conv(5, 2, 2, dilation=40)], (0, 40)),
    ],
)
def test_a_field_with_gaps_is_seen_whole(modules, cone):
    torch.manual_seed(0)
    survey = list_layers(Stack(*modules).eval())
    assert survey[0].cone == cone


@pytest.mark.parametrize(
    "modules",
    [
        (conv(kernel=4, stride=2, padding=1), conv(kernel=3, stride=3)),
        (conv(kernel=48, stride=2, padding=24), conv(kernel=7, padding=3)),
        (nn.AvgPool1d(4, ceil_mode=True), conv(padding=1)),
        (nn.ConvTranspose1d(5, 5, 4, stride=2),),
        (conv(kernel=2, stride=2), nn.ConvTranspose1d(5, 5, 3, stride=3)),
        (Each(lambda values: nn.functional.pad(values, (0, max(0, 12 - values.shape[2])))), conv(kernel=10)),
        (nn.MaxPool1d(17), conv(padding=1)),
    ],
)
def test_frames_is_the_number_a_run_gives(modules):
    network = Stack(*modules).eval()
    layers = by_name(list_layers(network))
    for length in [*range(1, 40), 77, 100, 101, 102, 103, 1000]:
        values = torch.zeros(1, 5, length)
        try:
            for index, module in enumerate(modules):
                values = module(values)
                assert layers[f"body.{index}"].frames(length) == values.shape[2], (length, module)
        except RuntimeError:
            assert layers[f"body.{index}"].frames(length) == 0  # too short for this kernel
    assert layers["input"].frames(123) == 123


def test_strides_may_be_fractions_and_stretch_over_seconds():
    layers = by_name(list_layers(Stack(conv(kernel=2, stride=2), nn.ConvTranspose1d(5, 5, 3, stride=3)), hop_s=0.02))
    assert (layers["body.0"].stride, layers["body.1"].stride) == (2, Fraction(2, 3))
    assert layers["body.1"].stride_s == pytest.approx(0.02 * 2 / 3)
    assert layers["body.1"].facts()["stride"] == pytest.approx(2 / 3)


def test_axes_and_widths_of_other_layouts():
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map = nn.Conv2d(1, 3, 3, padding=1)
            self.lstm = nn.LSTM(12, 4)
            self.flat = nn.Linear(4, 7)

        def forward(self, features, lengths):
            mapped = self.map(features.unsqueeze(1))
            seen, _ = self.lstm(mapped.permute(2, 0, 1, 3).flatten(2))
            return self.flat(seen.transpose(0, 1)), lengths

    layers = by_name(list_layers(Mixed(), 4))
    assert list(layers) == ["input", "map", "lstm", "flat"]
    facts = {name: (at.kind, at.width, at.batch_axis, at.frame_axis) for name, at in layers.items()}
    assert facts == {
        "input": ("Features", 4, 0, 1),
        "map": ("Conv2d", 12, 0, 2),
        "lstm": ("LSTM", 4, 1, 0),
        "flat": ("Linear", 7, 0, 1),
    }
    tensor = torch.randn(2, 3, 9, 4)
    frames = as_frames(tensor, layers["map"])
    assert frames.shape == (2, 9, 12)
    torch.testing.assert_close(frames[1, 5], tensor[1, :, 5].flatten())
    torch.testing.assert_close(
        as_frames(torch.arange(6.0).view(3, 2, 1).expand(3, 2, 4), layers["lstm"])[1, :, 0], torch.tensor([1.0, 3, 5])
    )
    with pytest.raises(BadInput, match="12 units"):
        as_frames(torch.zeros(2, 3, 9, 5), layers["map"])
    with pytest.raises(BadInput, match="no output of layer 'map'"):
        as_frames(torch.zeros(2, 3), layers["map"])


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Linear(5, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.after = nn.Conv1d(8, 6, 5, padding=2)

    def forward(self, features, lengths):
        values = self.before(features)
        values, _ = self.attention(values, values, values)
        return self.after(values.transpose(1, 2)).transpose(1, 2), lengths


class Recurrent(nn.Module):
    def __init__(self, both_ways: bool = False) -> None:
        super().__init__()
        self.front = nn.Conv1d(5, 6, 3, stride=2, padding=1)
        self.lstm = nn.LSTM(6, 4, batch_first=True, bidirectional=both_ways)
        self.after = nn.Conv1d(8 if both_ways else 4, 6, 5, padding=2)

    def forward(self, features, lengths):
        values = self.front(features.transpose(1, 2)).transpose(1, 2)
        values, _ = self.lstm(values)
        return self.after(values.transpose(1, 2)).transpose(1, 2), lengths // 2


@pytest.mark.parametrize(
    ("network", "before", "unbounded", "cone_after"),
    [
        (Attending(), ("before", 1), "attention", (2, 2)),
        (Recurrent(), ("front", 3), "lstm", (2, 2)),
        (Recurrent(both_ways=True), ("front", 3), "lstm", (2, 2)),
    ],
)
def test_layers_that_see_the_whole_utterance_have_no_field(network, before, unbounded, cone_after):
    survey = list_layers(network, 5)
    layers = by_name(survey)
    assert layers[before[0]].field == before[1]
    assert layers[before[0]].cone is None
    assert layers[unbounded].field is None
    assert layers[unbounded].cone == cone_after
    assert survey.output.field is None
    assert survey.output.cone == (0, 0)
    assert "spans" not in json.dumps(layers[unbounded].facts())
    assert "the utterance" in repr(layers[unbounded])


@pytest.mark.parametrize(
    "module",
    [
        nn.GroupNorm(1, 5),
        nn.InstanceNorm1d(5),
        Each(lambda values: values - values.mean(2, keepdim=True)),
        Each(lambda values: values.flip(2)),
        # A mean over blocks of 16 frames is not the same at all times, which their number does not show.
        Each(lambda values: blocks(nn.functional.pad(values, (0, 16)))[:, :, : values.shape[2]]),
        # A comparison ends the trail of NaN.
        Each(lambda values: torch.where(values > 0, 1.0, 0.0)),
    ],
)
def test_no_field_is_claimed_where_time_is_not_local(module):
    survey = list_layers(Stack(conv(padding=1), module, conv(padding=1)))
    assert survey.output is None or survey.output.field is None
    assert by_name(survey)["body.0"].field == 3


def test_blocks_count_as_a_period_where_their_number_shows_it():
    survey = list_layers(Stack(conv(padding=1), Each(blocks), conv(padding=1)))
    # The frames at the edge of a block depend on two blocks, and on one frame before and after them.
    assert (survey.period, survey.output.stride, survey.output.field) == (16, 1, 34)


def test_the_two_phases_of_an_upsampled_layer_are_both_seen():
    survey = list_layers(Stack(conv(kernel=2, stride=2), nn.Upsample(scale_factor=2), conv(padding=1)))
    assert survey.period == 2
    # Frames 2t and 2t + 1 are the same pair of input frames; a kernel of 3 touches two pairs.
    assert survey.output.field == 4
    assert survey.output.reach == (2, 2)


def test_modules_that_are_no_layers_say_why():
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.twice, self.never, self.input = nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 5)
            self.pooled, self.pairs = Each(lambda values: values.mean(1)), Each(lambda values: values @ values.mT)
            self.nothing, self.flat = Each(lambda values: None), Each(lambda values: values.flatten(0, 1))
            self.tuple, self.picked = Each(lambda values: ([values], 3)), Each(lambda values: values[:, ::3][:, 1::2])

        def forward(self, features, lengths):
            for module in (self.pooled, self.pairs, self.nothing, self.flat, self.picked):
                module(features)
            return self.tuple(self.input(self.twice(self.twice(features))))[0][0], lengths

    survey = list_layers(Odd(), 5)
    assert survey == ["input", "picked", "tuple"]
    for name, words in {
        "twice": "called 2 times",
        "never": "not called",
        "input": "features",
        "pooled": "none of its axes follows the length",
        "pairs": "more than one",
        "nothing": "no tensor",
        "flat": "batch",
    }.items():
        assert words in survey.skipped[name], name
    with pytest.raises(BadOption, match="cannot be used as a layer: it is called 2 times"):
        match_layers(survey, "twice")


def test_a_network_without_frames_of_logits_has_no_cones():
    class Classifier(Stack):
        def forward(self, features, lengths):
            return super().forward(features, lengths)[0].mean(1, keepdim=True), lengths

    survey = list_layers(Classifier(conv()))
    assert survey.output is None
    assert by_name(survey)["body.0"].field == 3
    assert by_name(survey)["body.0"].cone is None


class Bare(nn.Module):
    """A convolution whose weight is the network's own: there are no modules."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weight = nn.Parameter(torch.randn(3, 5, kernel))

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        padded = nn.functional.conv1d(features.transpose(1, 2), self.weight, padding="same")
        return padded.transpose(1, 2), lengths


@pytest.mark.parametrize("kernel", [1, 5])
def test_a_network_without_modules_has_its_input_and_its_logits(kernel):
    survey = list_layers(Bare(kernel), 5)
    assert list(survey) == ["input"]
    assert survey.output is not None
    assert (survey.output.field, survey.output.width) == (kernel, 3)
    assert survey[0].cone == survey.output.reach == (kernel // 2, kernel // 2)


def test_a_network_without_modules_that_sees_the_whole_utterance():
    class Mean(Bare):
        def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
            return super().forward(features - features.mean(1, keepdim=True), lengths)

    survey = list_layers(Mean(3), 5)
    assert list(survey) == ["input"]
    assert (survey[0].cone, survey.output.reach) == (None, None)


def test_an_interruption_passes_and_every_hook_comes_off():
    def interrupt(values: Tensor) -> Tensor:
        if values.isnan().any():
            raise KeyboardInterrupt
        return values

    network = Stack(conv(padding=1), Each(interrupt))
    network.train()
    with pytest.raises(KeyboardInterrupt):
        list_layers(network)
    assert all(module.training for module in network.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_measuring_leaves_no_trace():
    network = Stack(conv(), nn.Dropout(), nn.BatchNorm1d(5)).train()
    network.body[1].eval()
    network.body[0].weight.requires_grad_(False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    random = torch.get_rng_state()
    list_layers(network)
    assert [module.training for module in network.body] == [True, False, True]
    assert [parameter.requires_grad for parameter in network.parameters()] == [False, True, True, True]
    torch.testing.assert_close(dict(network.state_dict()), before, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), random)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_mel_bins_are_told_or_found():
    assert list_layers(Stack(conv(23), mels=None))[0].width == 23
    assert list_layers(Stack(conv(23), mels=None), torch.zeros(70, 23))[0].width == 23
    assert list_layers(Stack(conv(23), mels=23))[0].width == 23
    with pytest.raises(
        BadInput, match=r"does not run.*(\n.*)*RuntimeError.*(\n.*)*tried 9 mel bins(\n.*)*features="
    ) as caught:
        list_layers(Stack(conv(23), mels=None), 9)
    assert "Traceback" not in str(caught.value)


def test_double_precision_networks_are_measured_in_theirs():
    assert list_layers(Stack(conv()).double()).output.field == 3


@pytest.fixture(scope="module")
def survey() -> Survey:
    network = Stack(conv(), nn.ReLU(), conv(), nn.ReLU(), conv())
    network.layer_names = ("body.0", "body.2", "body.4")
    return list_layers(network)


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ("*", "body.0 body.2 body.4"),
        ("**", "input body.0 body.1 body.2 body.3 body.4 body"),
        ("body.3", "body.3"),
        ("body.[02]", "body.0 body.2"),
        (["body.4", "input", "body.*"], "body.4 input body.0 body.1 body.2 body.3"),
        (["input", "*"], "input body.0 body.2 body.4"),
    ],
)
def test_layers_are_chosen_by_name_and_glob(survey, wanted, names):
    chosen = match_layers(survey, wanted)
    assert chosen == names.split()
    assert all(isinstance(layer, Layer) and layer.kind for layer in chosen)


def test_star_is_every_module_where_the_network_does_not_name_its_layers():
    assert match_layers(list_layers(Stack(conv())), "*") == ["body.0", "body"]


def test_a_name_with_the_signs_of_a_glob_is_still_a_name():
    layers = [Layer("body.0.all[1]"), Layer("body.0.all1")]
    assert match_layers(layers, "body.0.all[1]") == ["body.0.all[1]"]


def test_an_unknown_layer_is_named_with_its_neighbours(survey):
    with pytest.raises(BadOption, match=r"'bdoy\.2'(\n.*)*did you mean 'body\.2'.*(\n.*)*list_layers"):
        match_layers(survey, ["body.0", "bdoy.2"])
    with pytest.raises(BadOption, match="no layer of this name"):
        match_layers(survey, "encoder.*")
    with pytest.raises(BadOption, match="no layer was asked for"):
        match_layers(survey, [])


def test_a_layer_is_a_string_and_its_facts_are_json(survey):
    layer = survey[1]
    assert layer == "body.0"
    assert {"body.0": 1}[layer] == 1
    assert f"{layer}" == "body.0"
    facts = json.loads(json.dumps(layer.facts()))
    assert facts["name"] == "body.0"
    assert (facts["kind"], facts["width"], facts["stride"], facts["field"]) == ("Conv1d", 5, 1, 3)
    assert math.isclose(facts["field_s"], 0.03)
    assert facts["cone"] == [0, 4]
    again = pickle.loads(pickle.dumps(layer))
    assert again == layer
    assert again.facts() == layer.facts()
    assert again.frames(20) == 18
