"""One forward pass for all frames and only the cones backward, against plain autograd and closed forms."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from otoscope.base import BadInput, BadOption
from otoscope.learn.wav2letter import ConvolutionConfig, Wav2Letter, Wav2LetterConfig
from otoscope.probe.cones import FrameGradients
from otoscope.probe.diagonal import NotDiagonal, Product, take_apart
from otoscope.probe.layers import list_layers
from otoscope.probe.rows import SHARED
from otoscope.probe.shared import Extent, extents, grouped, steps, through_product
from otoscope.probe.taps import tap

MELS, SYMBOLS = 5, 3


class Net(nn.Module):
    """Modules on `(batch, unit, frame)`, one after the other, in double precision."""

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*modules)
        self.mels = MELS
        self.double()

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return self.body(features.transpose(1, 2)).transpose(1, 2), lengths


class Each(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, values: Tensor) -> Tensor:
        return self.function(values)


def chain() -> Net:
    torch.manual_seed(0)
    return Net(
        nn.Conv1d(MELS, 6, 4, stride=2, padding=1), nn.Tanh(), nn.Conv1d(6, 7, 3), nn.ReLU(), nn.Conv1d(7, SYMBOLS, 1)
    )


def utterances(*lengths: int, seed: int = 0) -> list[Tensor]:
    noise = torch.Generator().manual_seed(seed)
    return [torch.randn(length, MELS, generator=noise, dtype=torch.float64) for length in lengths]


def frames_of(network: nn.Module, features: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    with torch.no_grad():
        counts = [network.eval()(values[None], torch.tensor([len(values)]))[0].shape[1] for values in features]
    utterance = torch.cat([torch.full((count,), u) for u, count in enumerate(counts)])
    frame = torch.cat([torch.arange(count) for count in counts])
    return utterance, frame, (utterance + frame) % SYMBOLS


def differences(network: nn.Module, gradients: FrameGradients, features: list[Tensor], asked, survey=None) -> float:
    """The largest difference from plain autograd at any layer and frame, outside of the windows too."""
    survey = survey or list_layers(network, features[0])
    worst = 0.0
    for chunk in gradients(features, *asked):
        for row, instance in enumerate(chunk.instances.tolist()):
            u, t, c = (int(index[instance]) for index in asked)
            with tap(network, survey, grads=True) as taps:
                logits, _ = network(features[u][None], torch.tensor([len(features[u])]))
                logits[0, t, c].backward()
            for layer in survey:
                whole = taps.grads[layer].movedim((layer.batch_axis, layer.frame_axis), (0, 1))[0].flatten(1)
                window, start = chunk[layer].gradient[row], int(chunk[layer].start[row])
                laid_out = torch.zeros_like(whole)
                at = start + torch.arange(len(window))
                inside = (at >= 0) & (at < len(whole))
                laid_out[at[inside]] = window[inside]
                worst = max(worst, float((laid_out - whole).abs().max()), float(window[~inside].abs().sum()))
    return worst


@st.composite
def stacks(draw) -> Net:
    """Random chains of convolutions, with and without norms, activations, dropout and padding of their own."""
    torch.manual_seed(draw(st.integers(0, 1000)))
    modules: list[nn.Module] = []
    units = MELS
    for number in range(draw(st.integers(1, 4))):
        kernel, dilation = draw(st.integers(1, 6)), draw(st.sampled_from([1, 1, 2, 3]))
        stride = draw(st.sampled_from([1, 1, 2, 3])) if number < 2 else 1
        padding: int | str = draw(st.integers(0, 3))
        if stride == 1 and draw(st.booleans()):
            padding = draw(st.sampled_from(["same", "valid"]))
        if draw(st.booleans()):
            modules.append(nn.ConstantPad1d((draw(st.integers(0, 3)), draw(st.integers(0, 3))), 0.5))
        wider = draw(st.integers(1, 6))
        modules.append(nn.Conv1d(units, wider, kernel, stride, padding, dilation, bias=draw(st.booleans())))
        if draw(st.booleans()):
            norm = nn.BatchNorm1d(wider)
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
            modules.append(norm)
        activation = draw(st.sampled_from([nn.ReLU(inplace=True), nn.GELU(), nn.Tanh(), nn.Dropout(), None]))
        modules += [] if activation is None else [activation]
        units = wider
    return Net(*modules, nn.Conv1d(units, SYMBOLS, draw(st.integers(1, 3)), padding=1))


@settings(max_examples=10, deadline=None)
@given(stacks(), st.integers(1, 400))
def test_any_chain_of_convolutions_has_the_gradients_of_autograd(network, batch_frames):
    network.eval()
    features = utterances(201, 160)
    survey = list_layers(network, features[0])
    assume(survey.output is not None and survey.output.reach is not None)
    utterance, frame, symbol = frames_of(network, features)
    chosen = torch.unique(torch.linspace(0, len(frame) - 1, 9).long())
    asked = utterance[chosen], frame[chosen], symbol[chosen]
    gradients = FrameGradients(network, survey, method="shared", batch_frames=batch_frames, survey=survey)
    assert differences(network, gradients, features, asked, survey) <= 1e-12


@settings(max_examples=40, deadline=None)
@given(*[st.integers(1, 6)] * 2, *[st.integers(1, 4)] * 2, st.integers(0, 3))
def test_the_way_through_a_convolution_is_its_transpose(kernel, frames, stride, dilation, padding):
    torch.manual_seed(0)
    weight = torch.randn(4, 3, kernel, dtype=torch.float64)
    product = Product(weight.permute(2, 0, 1), stride, padding, dilation)
    given = torch.randn(frames, 2, 4, dtype=torch.float64)
    right = torch.nn.functional.conv_transpose1d(given.permute(1, 2, 0), weight, stride=stride, dilation=dilation)
    found = through_product(given, steps(product, frames), product)
    torch.testing.assert_close(found.permute(1, 2, 0), right)
    assert Extent(1, 0, frames).before(product).frames == len(found)


def test_the_factors_are_the_derivatives_and_the_shifts_those_of_the_padding():
    network = chain().eval()
    for module in network.modules():
        for parameter in module.parameters():
            parameter.requires_grad_(False)
    survey = list_layers(network)
    (features,) = utterances(30)
    first, tanh, second, relu, third, output = take_apart(network, [survey[0], *survey[2:6:2]], features).places[1:]
    with tap(network, ["body.0", "body.1", "body.2"]) as taps:
        network(features[None], torch.tensor([30]))
    assert (first.product.stride, first.product.padding, first.product.dilation) == (2, 1, 1)
    assert first.links == ((0, 0, None),)
    torch.testing.assert_close(tanh.links[0].factor, 1 - taps["body.1"][0].T ** 2)
    torch.testing.assert_close(relu.links[0].factor, (taps["body.2"][0].T > 0).double())
    assert second.links == ((2, 0, None),)
    assert third.product.weight.shape == (1, SYMBOLS, 7)
    assert output.links == ((5, 0, None),)
    assert extents(take_apart(network, survey[:1], features).places)[0] == Extent(2, -1, 8)

    padded = Net(nn.ConstantPad1d((2, 1), 0.0), nn.Conv1d(MELS, SYMBOLS, 4), Each(lambda values: 3 * values[..., 1:]))
    place, output = take_apart(padded, [list_layers(padded)[0]], features).places[1:]
    assert place.links == ((0, -2, None),)
    assert output.links[0].shift == 1
    torch.testing.assert_close(
        output.links[0].factor[:, 0], torch.cat([torch.zeros(1), torch.full((29,), 3.0)]).double()
    )


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_wav2letter_shares_its_pass(norm):
    torch.manual_seed(0)
    hidden = tuple(ConvolutionConfig(units=u, kernel=k, stride=s) for u, k, s in [(9, 6, 2), (8, 5, 1), (12, 1, 1)])
    config = Wav2LetterConfig(mels=MELS, symbols=("-", "a", "b"), hidden=hidden, norm=norm)
    network = Wav2Letter(config).double().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    features = utterances(40, 3, 17)
    gradients = FrameGradients(network, list_layers(network))
    assert differences(network, gradients, features, frames_of(network, features)) <= 1e-12
    assert gradients.method == "shared"
    assert "shared forward pass give what one backward per frame gives" in gradients.reason
    # In single precision too, and for the network's own layers only.
    single = FrameGradients(network.float(), ["input", *network.layer_names])
    list(single([values.float() for values in features], *frames_of(network, [v.float() for v in features])))
    assert single.method == "shared"
    assert single.error <= 1e-5


def test_a_convolution_called_twice_counts_twice():
    class Twice(Net):
        def forward(self, features, lengths):
            values = features.transpose(1, 2)
            same, last = self.body
            values = same(values).tanh()
            return last(same(values) + values.square()).transpose(1, 2), lengths

    torch.manual_seed(0)
    network = Twice(nn.Conv1d(MELS, MELS, 3, padding=1), nn.Conv1d(MELS, SYMBOLS, 5, padding=2)).eval()
    features = utterances(30, 8)
    gradients = FrameGradients(network, ["input", "body.1"])
    right = FrameGradients(network, ["input", "body.1"], method="single")
    asked = frames_of(network, features)
    by_instance = {int(chunk.instances): chunk["input"] for chunk in right(features, *asked)}
    for chunk in gradients(features, *asked):
        for row, instance in enumerate(chunk.instances.tolist()):
            torch.testing.assert_close(chunk["input"].gradient[row], by_instance[instance].gradient[0])
    assert gradients.method == "shared"


def test_two_dimensional_convolutions_over_time_alone_and_linear_layers_count_as_well():
    class Flat(nn.Module):
        def __init__(self, first: nn.Module, turned: bool) -> None:
            super().__init__()
            self.first, self.last, self.mels, self.turned = first, nn.Linear(4, SYMBOLS), MELS, turned
            self.double()

        def forward(self, features, lengths):
            values = features.transpose(1, 2).unsqueeze(3 if self.turned else 2)
            values = self.first(values).relu().squeeze(3 if self.turned else 2)
            return self.last(values.transpose(1, 2)), lengths

    torch.manual_seed(0)
    features = utterances(31)
    for first, turned in (
        (nn.Conv2d(MELS, 4, (1, 4), stride=(1, 2), padding=(0, 2), dilation=(1, 2)), False),
        (nn.Conv2d(MELS, 4, (5, 1), stride=(3, 1), padding=(1, 0)), True),
    ):
        network = Flat(first, turned).eval()
        gradients = FrameGradients(network, list_layers(network), method="shared")
        assert differences(network, gradients, features, frames_of(network, features)) <= 1e-12


@pytest.mark.parametrize(
    ("middle", "words"),
    [
        (nn.Softmax(1), "mixes values"),
        (nn.Conv1d(6, 6, 3, padding=1, groups=2), "in groups"),
        (nn.AvgPool1d(3, 1, 1), "mixes values"),
        (Each(lambda values: values.flip(1)), "mixes values"),
        (Each(lambda values: values + values[:, :, :1].tanh()), "mixes values"),
        (
            Each(
                lambda values: nn.functional.conv1d(
                    values, values[0, :, None, :6].mean(2, keepdim=True).expand(6, 6, 1)
                )
            ),
            "weights",
        ),
        (nn.Sequential(nn.ConvTranspose1d(6, 4, 2, 2), nn.Conv1d(4, 6, 2, 2)), "values a frame where"),
    ],
)
def test_what_cannot_be_taken_apart_is_said_and_goes_another_way(middle, words):
    torch.manual_seed(0)
    network = Net(nn.Conv1d(MELS, 6, 3, padding=1), middle, nn.Conv1d(6, SYMBOLS, 3, padding=1))
    features = utterances(40)
    gradients = FrameGradients(network, ["input"])
    list(gradients(features, *frames_of(network, features)))
    assert gradients.method != "shared"
    if list_layers(network).output.reach is not None:
        assert "one shared forward pass do not" in gradients.reason
        assert words in gradients.reason
        with pytest.raises(BadOption, match="cannot be shared"):
            list(FrameGradients(network, ["input"], method="shared")(features, *frames_of(network, features)))


def test_branches_of_unequal_strides_are_not_shared():
    class Meeting(Net):
        def forward(self, features, lengths):
            values = features.transpose(1, 2)
            fine, coarse = self.body[0](values), self.body[1](values)
            count = coarse.shape[2]
            return (fine[..., :count] + coarse).transpose(1, 2), lengths

    network = Meeting(nn.Conv1d(MELS, SYMBOLS, 3, padding=1), nn.Conv1d(MELS, SYMBOLS, 3, 2, padding=1))
    (features,) = utterances(20)
    taken = take_apart(network, list_layers(network, MELS)[:1], features)
    with pytest.raises(NotDiagonal, match="unequal strides"):
        extents(taken.places)


def test_an_utterance_that_differs_goes_one_frame_at_a_time():
    """Beyond 60 frames this network mixes units, which no frame of a shorter utterance can tell."""
    mixing = Each(lambda values: values.softmax(1) if values.shape[2] > 60 else values.tanh())
    torch.manual_seed(0)
    network = Net(nn.Conv1d(MELS, 6, 3, padding=1), mixing, nn.Conv1d(6, SYMBOLS, 3, padding=1)).eval()
    short, long = utterances(60, 61)
    gradients = FrameGradients(network, list_layers(network))
    list(gradients([short], *frames_of(network, [short])))
    assert gradients.method == "shared"
    both = [long, short, long]
    asked = [index[::3] for index in frames_of(network, both)]
    assert sorted(i for c in gradients(both, *asked) for i in c.instances.tolist()) == list(range(len(asked[0])))
    assert differences(network, gradients, both, asked) <= 1e-12


def test_each_utterance_runs_once_and_groups_do_not_grow_with_their_number():
    network = chain().eval()
    survey = list_layers(network)
    features = utterances(*[20] * 12)
    asked = frames_of(network, features)
    gradients = FrameGradients(network, ["input"], method="shared", batch_frames=40, survey=survey)
    runs = []
    network.register_forward_hook(lambda module, given, output: runs.append(len(given[0])))
    chunks = list(gradients(features, *asked))
    assert runs == [1] * 12
    assert 1 < max(len(chunk.instances) for chunk in chunks) <= SHARED * 40 // 8
    taken = [(take_apart(network, survey[:1], values), torch.arange(8)) for values in features]
    groups = [len(owner.unique()) for _, _, owner in grouped(iter(taken), 20, 1000)]
    assert groups == [3, 3, 3, 3]
    assert [len(owner.unique()) for _, _, owner in grouped(iter(taken), 1000, 40)] == [2] * 6
    # Utterances are taken apart only when their turn comes.
    runs.clear()
    next(iter(gradients(features, *asked)))
    assert 0 < len(runs) < 12


def test_utterances_of_another_network_make_another_group():
    one, other = chain().eval(), chain().eval()
    layers = list_layers(one)[:1]
    parts = [
        (take_apart(n, layers, values), torch.arange(2))
        for n, values in zip([one, one, other], utterances(20, 9, 20), strict=True)
    ]
    assert [owner.tolist() for _, _, owner in grouped(iter(parts), 100, 1000)] == [[0, 0, 1, 1], [0, 0]]


def test_weights_changed_between_calls_are_the_new_ones():
    network = chain().eval()
    features = utterances(24)
    asked = frames_of(network, features)
    gradients = FrameGradients(network, ["input"], method="shared")
    list(gradients(features, *asked))
    with torch.no_grad():
        network.body[2].weight.data.mul_(-2)
    survey = list_layers(network)
    full = FrameGradients(network, survey, method="shared", survey=survey)
    assert differences(network, full, features, asked) <= 1e-12
    (new,) = gradients(features, *asked)
    (right,) = full(features, *asked)
    torch.testing.assert_close(new["input"].gradient, right["input"].gradient, rtol=0, atol=0)


@pytest.mark.parametrize("method", ["shared", "auto"])
def test_after_an_error_everything_is_as_it_was(method):
    network = chain().train()
    features = utterances(30, 30)
    asked = frames_of(network, features)
    network.train()
    gradients = FrameGradients(network, ["input"], method=method)
    list(gradients(features, *asked))
    handle = network.body[3].register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(BadInput, match=r"does not run on 1 utterances.*(\n.*)*ZeroDivisionError"):
        list(gradients(features, *asked))
    handle.remove()
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    values = features[0].T[None]
    assert network.body[0](values).grad_fn is not None
    assert torch.overrides._get_current_function_mode() is None
    # Left in the middle, too.
    next(iter(gradients(features, *asked)))
    assert torch.overrides._get_current_function_mode() is None
    assert network.training
