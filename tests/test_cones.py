"""Gradients of many frames at once, against closed forms, captum, and one backward per frame."""

from __future__ import annotations

import functools
import itertools

import pytest
import torch
from captum.attr import LayerGradientXActivation, Saliency
from torch import Tensor, nn

from otoscope.base import BadInput, BadOption
from otoscope.probe import cones
from otoscope.probe.cones import FrameGradients
from otoscope.probe.layers import list_layers
from otoscope.probe.taps import tap

MELS, SYMBOLS = 6, 4


class Net(nn.Module):
    """Modules on `(batch, unit, frame)`, one after the other; in double precision, to keep rounding out of sight."""

    def __init__(self, *modules: nn.Module, double: bool = True) -> None:
        super().__init__()
        self.body = nn.Sequential(*modules)
        self.mels = MELS
        if double:
            self.double()

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return self.body(features.transpose(1, 2)).transpose(1, 2), lengths


class Each(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, values: Tensor) -> Tensor:
        return self.function(values)


def strided(double: bool = True, middle: nn.Module | None = None) -> Net:
    """Field 1 + 5 + 2 · (4 + 6 + 2 · 2) = 34, stride 4, with zeros beyond the utterance's ends."""
    torch.manual_seed(0)
    return Net(
        nn.Conv1d(MELS, 8, 6, stride=2, padding=3),
        nn.BatchNorm1d(8),
        nn.ReLU(inplace=True),
        nn.Conv1d(8, 10, 5, padding=2),
        middle or nn.Tanh(),
        nn.Conv1d(10, 7, 4, stride=2, padding=1, dilation=2),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Conv1d(7, SYMBOLS, 3, padding=1),
        double=double,
    )


def mixing(double: bool = True) -> Net:
    """The same with units that depend on each other within a frame, so that no forward pass can be shared."""
    return strided(double, nn.Softmax(1))


def unpadded() -> Net:
    torch.manual_seed(1)
    return Net(nn.Conv1d(MELS, 8, 7, stride=3), nn.GELU(), nn.Conv1d(8, 8, 5), nn.GELU(), nn.Conv1d(8, SYMBOLS, 3))


def upsampling() -> Net:
    torch.manual_seed(2)
    up = nn.ConvTranspose1d(8, 8, 4, stride=2, padding=1)
    return Net(nn.Conv1d(MELS, 8, 4, stride=4), nn.GELU(), up, nn.GELU(), nn.Conv1d(8, SYMBOLS, 3, padding=1))


class Residual(nn.Module):
    """A sum of two branches of unequal fields: its layers are no chain."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.narrow, self.wide = nn.Conv1d(MELS, 8, 3, padding=1), nn.Conv1d(MELS, 8, 9, padding=4)
        self.last = nn.Conv1d(8, SYMBOLS, 5, padding=2)
        self.double()

    def forward(self, features, lengths):
        values = features.transpose(1, 2)
        return self.last((self.narrow(values) + self.wide(values)).relu()).transpose(1, 2), lengths


class Unequal(Residual):
    """The same, of which the sum is scaled by the whole frame."""

    def forward(self, features, lengths):
        values = features.transpose(1, 2)
        return self.last((self.narrow(values) + self.wide(values)).softmax(1)).transpose(1, 2), lengths


class Maps(nn.Module):
    """Two-dimensional convolutions over frames and mel bins."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.mels = MELS
        self.first, self.second = nn.Conv2d(1, 3, 3, padding=1, stride=(2, 1)), nn.Conv2d(3, 2, 3, padding=1)
        self.last = nn.Linear(2 * MELS, SYMBOLS)
        self.double()

    def forward(self, features, lengths):
        values = self.second(self.first(features.unsqueeze(1)).tanh())
        return self.last(values.transpose(1, 2).flatten(2)), lengths


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.front = nn.Conv1d(MELS, 8, 4, stride=2, padding=1)
        self.lstm = nn.LSTM(8, 5, bidirectional=True)
        self.after = nn.Conv1d(10, SYMBOLS, 3, padding=1)
        self.double()

    def forward(self, features, lengths):
        values = self.front(features.transpose(1, 2)).permute(2, 0, 1)
        return self.after(self.lstm(values)[0].permute(1, 2, 0)).transpose(1, 2), lengths


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(6)
        self.before, self.after = nn.Linear(MELS, 8), nn.Linear(8, SYMBOLS)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.double()

    def forward(self, features, lengths):
        values = self.before(features)
        return self.after(self.attention(values, values, values)[0]), lengths


def utterances(*lengths: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    noise = torch.Generator().manual_seed(7)
    return [torch.randn(length, MELS, generator=noise, dtype=torch.float64).to(dtype) for length in lengths]


def every_frame(network: nn.Module, features: list[Tensor], step: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Every frame of the output, each with one symbol."""
    with torch.no_grad():
        counts = [network.eval()(values[None], torch.tensor([len(values)]))[0].shape[1] for values in features]
    pairs = [(u, t) for u, count in enumerate(counts) for t in range(0, count, step)]
    utterance, frame = torch.tensor(pairs).T
    return utterance, frame, (utterance + frame) % SYMBOLS


def laid_out(gradients: FrameGradients, features: list[Tensor], asked, frames: dict[str, list[int]]):
    """Layer → gradients of each instance over its whole utterance, from windows wherever they lie."""
    found: dict[str, dict[int, Tensor]] = {layer: {} for layer in frames}
    for chunk in gradients(features, *asked):
        assert list(chunk.windows) == list(frames)
        for layer, window in chunk.windows.items():
            for row, instance in enumerate(chunk.instances.tolist()):
                assert instance not in found[layer]
                whole = torch.zeros(frames[layer][int(asked[0][instance])], window.gradient.shape[2]).double()
                for offset, values in enumerate(window.gradient[row]):
                    at = int(window.start[row]) + offset
                    if 0 <= at < len(whole):
                        whole[at] = values
                    else:
                        assert not values.any()
                found[layer][instance] = whole
    assert all(sorted(by_instance) == list(range(len(asked[0]))) for by_instance in found.values())
    return found


def by_autograd(network: nn.Module, layers: list, features: list[Tensor], asked):
    """The same by the plainest means: run the utterance, go backward from the one logit."""
    found: dict[str, dict[int, Tensor]] = {str(layer): {} for layer in layers}
    for instance, (u, t, c) in enumerate(zip(*(index.tolist() for index in asked), strict=True)):
        with tap(network, layers, grads=True) as taps:
            logits, _ = network(features[u][None], torch.tensor([len(features[u])]))
            logits[0, t, c].backward()
        for layer in layers:
            gradient = taps[layer].grad.movedim((layer.batch_axis, layer.frame_axis), (0, 1))[0]
            found[layer][instance] = gradient.flatten(1)
    return found


@functools.cache
def plain(make):
    """A network, utterances shorter and longer than its field, frames all over them, and their plain gradients."""
    network = make()
    survey = list_layers(network)
    lengths = (90, 40) if survey.output.field is None else (90, 9, 34, 35, 36, 37, 38, 61, 90)
    features = utterances(*(length for length in lengths if survey.output.frames(length)))
    asked = every_frame(network, features, step=9 if survey.output.field is None else 2)
    return network, survey, features, asked, by_autograd(network, list(survey), features, asked)


NETWORKS = [
    (strided, "shared"),
    (unpadded, "shared"),
    (Residual, "shared"),
    (mixing, "window"),
    (upsampling, "window"),
    (Unequal, "window"),
    (Maps, "window"),
    (Recurrent, "repeat"),
    (Attending, "repeat"),
]


@pytest.mark.parametrize(("make", "chosen"), NETWORKS)
@pytest.mark.parametrize("method", ["auto", "shared", "window", "repeat", "single"])
def test_every_method_gives_the_plain_gradient_at_every_layer_and_frame(make, chosen, method):
    network, survey, features, asked, right = plain(make)
    gradients = FrameGradients(network, survey, method=method, batch_frames=300, survey=survey)
    if method == "shared" and chosen == "window":
        with pytest.raises(BadOption, match=r"cannot be shared.*(\n.*)*'auto'"):
            list(gradients(features, *asked))
        return
    if method in ("shared", "window") and chosen == "repeat":
        with pytest.raises(BadOption, match=r"no windows.*whole utterance(\n.*)*'repeat'"):
            gradients(features, *asked)
        return
    found = laid_out(gradients, features, asked, {str(at): [at.frames(len(f)) for f in features] for at in survey})
    assert gradients.method == (chosen if method == "auto" else method)
    for layer in survey:
        for instance, gradient in right[layer].items():
            torch.testing.assert_close(found[layer][instance], gradient, rtol=1e-9, atol=1e-11)


def test_the_windows_are_of_just_the_field_and_on_the_grid():
    network = strided()
    survey = list_layers(network)
    assert (survey.output.field, survey.period) == (34, 4)
    seen = []
    network.register_forward_hook(lambda module, given, output: seen.append(tuple(given[0].shape[:2])))
    features = utterances(400)
    gradients = FrameGradients(network, ["input"], method="window", survey=survey)
    list(gradients(features, *every_frame(network, features)))
    # 34 frames, of which 13 before the frame's own time; 16 is where the grid of 4 lies.
    assert sum(rows for rows, length in seen[1:] if length == 37) >= 90
    assert {length for _, length in seen[1:]} <= {37, 38, 39, 40}


def test_one_linear_convolution_has_its_weights_as_gradient():
    network = Net(nn.Conv1d(MELS, SYMBOLS, 5, stride=2))
    features = utterances(30, 7)
    asked = torch.tensor([0, 1, 0]), torch.tensor([3, 1, 12]), torch.tensor([2, 0, 1])
    gradients = FrameGradients(network, ["input", "body.0"])
    (chunk,) = gradients(features[:1], *(index[[0, 2]] for index in asked))
    weight = network.body[0].weight.detach()
    torch.testing.assert_close(chunk["input"].gradient, weight[[2, 1]].transpose(1, 2), rtol=0, atol=1e-15)
    assert chunk["input"].start.tolist() == [6, 24]
    torch.testing.assert_close(chunk["body.0"].gradient, torch.eye(SYMBOLS).double()[[2, 1]][:, None])
    assert chunk["body.0"].start.tolist() == [3, 12]
    assert sorted(i for chunk in gradients(features, *asked) for i in chunk.instances.tolist()) == [0, 1, 2]


def test_without_biases_gradient_times_activation_is_the_logit_at_every_layer():
    """A ReLU network without biases is homogeneous of degree one (Euler's theorem)."""
    torch.manual_seed(0)
    sizes = (MELS, 8, 8, SYMBOLS)
    convolutions = [nn.Conv1d(a, b, 5, padding=2, bias=False) for a, b in itertools.pairwise(sizes)]
    network = Net(*[module for one in convolutions for module in (one, nn.ReLU())][:-1])
    features = utterances(40)
    asked = every_frame(network, features)
    layers = ["input", "body.0", "body.1", "body.2", "body.3"]
    with tap(network, layers) as taps:
        logits, _ = network(features[0][None], torch.tensor([40]))
    found = laid_out(FrameGradients(network, layers), features, asked, {layer: [40] for layer in layers})
    for layer in layers:
        activation = taps[layer][0] if layer == "input" else taps[layer][0].T
        for t in range(40):
            product = (found[layer][t] * activation).sum()
            torch.testing.assert_close(product, logits[0, t, asked[2][t]].detach())


@pytest.mark.parametrize("make", [strided, Maps, Recurrent])
def test_captum_gives_the_same(make):
    network = make().float().eval()
    survey = list_layers(network)
    features = utterances(70, dtype=torch.float32)
    asked = every_frame(network, features, step=5)
    layers = {str(layer): layer for layer in survey}
    found = laid_out(
        FrameGradients(network, survey), features, asked, {name: [at.frames(70)] for name, at in layers.items()}
    )

    def logits(values: Tensor) -> Tensor:
        return network(values, torch.tensor([70]))[0]

    for instance, (t, c) in enumerate(zip(asked[1].tolist(), asked[2].tolist(), strict=True)):
        for name, layer in layers.items():
            if name == "input":
                oracle = Saliency(logits).attribute(features[0][None].requires_grad_(), (t, c), abs=False)
            elif name == "lstm":
                continue  # captum takes no nested outputs
            else:
                method = LayerGradientXActivation(logits, network.get_submodule(name), multiply_by_inputs=False)
                oracle = method.attribute(features[0][None], (t, c))
            oracle = oracle.detach().movedim((layer.batch_axis, layer.frame_axis), (0, 1))[0].flatten(1).double()
            assert (found[name][instance] - oracle).abs().max() <= 1e-5 * oracle.abs().max(), (name, t)


def test_where_single_precision_cannot_decide_a_double_copy_does(monkeypatch):
    monkeypatch.setattr(cones, "TOLERANCE", 1e-13)
    network = mixing(double=False)
    features = utterances(200, 90, dtype=torch.float32)
    gradients = FrameGradients(network, ["input", "body.3"])
    (chunk, *_) = gradients(features, *every_frame(network, features))
    assert gradients.method == "window"
    assert gradients.error <= 1e-13
    assert chunk["input"].gradient.dtype == torch.float32
    assert next(network.parameters()).dtype == torch.float32


class Position(nn.Module):
    """Adds the frame's number: poison does not show that a frame knows where it is."""

    def forward(self, values: Tensor) -> Tensor:
        return values + torch.arange(values.shape[2]) / 20


@pytest.mark.parametrize(
    ("module", "chosen", "words"),
    [
        # Poison shows that the mean over time has no end.
        (nn.InstanceNorm1d(8), "repeat", "depend on the whole utterance"),
        (nn.GroupNorm(2, 8), "repeat", "depend on the whole utterance"),
        # What poison cannot show, the test against single frames does.
        (nn.Sequential(Position(), nn.Tanh()), "repeat", "windows of the receptive field do not: they differ by"),
        (Each(lambda values: values * torch.where(values > 0, 1.0, 0.1).mean(2, keepdim=True)), "repeat", "differ by"),
        # Statistics of the batch: no two rows may run together.
        (nn.BatchNorm1d(8, track_running_stats=False), "single", "repeated along the batch do not"),
        (Each(lambda values: values * values.shape[0]), "single", "one backward per frame is always right"),
        (Each(lambda values: values if len(values) < 4 else 1 / 0), "single", "fails (ZeroDivisionError"),
    ],
)
def test_what_windows_or_batches_would_change_is_found_out(module, chosen, words):
    torch.manual_seed(0)
    network = Net(nn.Conv1d(MELS, 8, 3, padding=1), module, nn.Softmax(1), nn.Conv1d(8, SYMBOLS, 3, padding=1))
    features = utterances(60, 45)
    asked = every_frame(network, features, step=3)
    survey = list_layers(network)
    gradients = FrameGradients(network, survey, survey=survey)
    found = laid_out(gradients, features, asked, {str(at): [at.frames(60), at.frames(45)] for at in survey})
    assert gradients.method == chosen
    assert words in gradients.reason
    right = by_autograd(network, list(survey), features, asked)
    for layer in survey:
        for instance, gradient in right[layer].items():
            torch.testing.assert_close(found[layer][instance], gradient)


def test_a_cone_measured_too_small_is_found_out():
    """Where a unit is NaN this network takes the way around its wide convolution."""

    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.mels = MELS
            self.front, self.wide = nn.Conv1d(MELS, 8, 1), nn.Conv1d(8, 8, 9, padding=4)
            self.last = nn.Conv1d(8, SYMBOLS, 1)
            self.double()

        def forward(self, features, lengths):
            values = self.front(features.transpose(1, 2))
            wide = self.wide(values)
            values = torch.where(wide.isfinite(), wide, values)
            return self.last(values).transpose(1, 2), lengths

    network = Around()
    survey = list_layers(network)
    assert survey[1].cone == (0, 0)
    features = utterances(60)
    asked = every_frame(network, features)
    for method in ("repeat", "single"):
        with pytest.raises(BadInput, match=r"layer 'front' reaches beyond the cone.*(\n.*)*'auto'"):
            list(FrameGradients(network, ["front"], method=method)([features[0][:30]], *(a[9:20] for a in asked)))
    gradients = FrameGradients(network, ["front"])
    found = laid_out(gradients, features, asked, {"front": [60]})
    assert "without cones" in gradients.reason
    right = by_autograd(network, survey[1:2], features, asked)
    for instance in range(60):
        torch.testing.assert_close(found["front"][instance], right["front"][instance])


def test_kinds_of_frames_met_later_are_tested_then():
    """Only beyond the 50th frame does this network differ from what it is in a window."""
    late = Each(lambda values: values + torch.arange(values.shape[2]).sub(50).clamp(min=0) / 20)
    torch.manual_seed(0)
    network = Net(nn.Conv1d(MELS, 8, 3, padding=1), late, nn.Tanh(), nn.Softmax(1), nn.Conv1d(8, SYMBOLS, 3, padding=1))
    gradients = FrameGradients(network, ["input"])
    short, long = utterances(4, 90)
    list(gradients([short], *every_frame(network, [short])))
    assert gradients.method == "window"
    asked = every_frame(network, [long])
    found = laid_out(gradients, [long], asked, {"input": [90]})
    assert gradients.method == "repeat"
    right = by_autograd(network, list_layers(network)[:1], [long], asked)
    torch.testing.assert_close(found["input"][80], right["input"][80])


def test_one_kind_of_frame_that_fails_is_enough():
    """The last of 60 frames is another thing here, and only windows at the end of an utterance hold it."""
    last = Each(lambda values: values + torch.arange(values.shape[2]).sub(58).clamp(min=0))
    torch.manual_seed(0)
    network = Net(nn.Conv1d(MELS, 8, 3, padding=1), last, nn.Tanh(), nn.Softmax(1), nn.Conv1d(8, SYMBOLS, 1))
    features = utterances(60)
    gradients = FrameGradients(network, ["input"])
    gradients(features, *every_frame(network, features))
    assert gradients.method == "repeat"


def test_how_rows_are_batched_changes_nothing():
    network = strided()
    features = utterances(90, 20, 61)
    asked = every_frame(network, features)
    order = torch.randperm(len(asked[0]), generator=torch.Generator().manual_seed(0))
    frames = {"body.3": [list_layers(network)[4].frames(length) for length in (90, 20, 61)]}
    small = laid_out(FrameGradients(network, ["body.3"], batch_frames=1), features, asked, frames)
    large = laid_out(FrameGradients(network, ["body.3"]), features, [index[order] for index in asked], frames)
    for place, instance in enumerate(order.tolist()):
        torch.testing.assert_close(large["body.3"][place], small["body.3"][instance])


def test_padding_after_an_utterance_is_never_part_of_a_window():
    """Utterances in one call do not know of each other, however much longer the others are."""
    network = strided()
    features = utterances(36, 500)
    asked = every_frame(network, features[:1])
    frames = {"input": [36, 500]}
    alone = laid_out(FrameGradients(network, ["input"]), features[:1], asked, {"input": [36]})
    among = laid_out(FrameGradients(network, ["input"]), features, asked, frames)
    for instance in range(len(asked[0])):
        torch.testing.assert_close(among["input"][instance], alone["input"][instance], rtol=0, atol=0)


def test_the_network_is_left_as_it_was():
    network = strided().train()
    network.body[3].weight.requires_grad_(False)
    requiring = [parameter.requires_grad for parameter in network.parameters()]
    features = utterances(90)
    asked = [index[::4] for index in every_frame(network, features)]
    network.train()
    for _ in FrameGradients(network, ["input"])(features, *asked):
        assert network.training  # between chunks, too
    assert [parameter.requires_grad for parameter in network.parameters()] == requiring
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    assert features[0].grad is None


def test_gradients_are_detached_and_the_callers_mode_does_not_matter():
    network = strided()
    features = utterances(50)
    asked = every_frame(network, features)
    with torch.no_grad():
        (one, *_) = FrameGradients(network, ["input"])(features, *asked)
    with torch.inference_mode():
        (two, *_) = FrameGradients(network, ["input"])(features, *asked)
    assert not one["input"].gradient.requires_grad
    torch.testing.assert_close(one["input"].gradient, two["input"].gradient)


def test_a_layer_that_the_logits_do_not_use_has_gradient_nought():
    class Aside(Net):
        def forward(self, features, lengths):
            self.body[1](features)
            return self.body[0](features.transpose(1, 2)).transpose(1, 2), lengths

    network = Aside(nn.Conv1d(MELS, SYMBOLS, 3), nn.Linear(MELS, 2))
    for layers in (["body.1"], ["body.1", "input"]):
        (chunk,) = FrameGradients(network, layers)(utterances(20), *(torch.tensor([i]) for i in (0, 4, 1)))
        assert chunk["body.1"].gradient.shape == (1, 20, 2)
        assert not chunk["body.1"].gradient.any()
    assert chunk["input"].gradient.any()


def test_gradients_that_are_not_finite_are_handed_on():
    network = strided()
    features = utterances(90)
    features[0][45, 2] = torch.nan
    asked = every_frame(network, features)
    gradients = FrameGradients(network, ["input", "body.3"])
    finite = {}
    for chunk in gradients(features, *asked):
        finite.update(
            zip(chunk.instances.tolist(), chunk["input"].gradient.isfinite().all(2).all(1).tolist(), strict=True)
        )
    assert (finite[0], finite[11], finite[len(finite) - 1]) == (True, False, True)
    assert gradients.method == "shared"
    # Here there is nothing to compare with, which speaks against no method.
    alone = FrameGradients(network, ["input", "body.3"])
    list(alone(features, *(index[11:12] for index in asked)))
    assert alone.method == "shared"


@pytest.mark.parametrize(
    ("features", "asked", "words"),
    [
        ([], (0, 0, 0), "no utterances"),
        ([torch.zeros(20, MELS), torch.zeros(20, MELS + 1)], (0, 0, 0), r"\(20, 6\), \(20, 7\)"),
        ([torch.zeros(1, 20, MELS)], (0, 0, 0), r"frame, mel"),
        ([torch.zeros(20, MELS)], (1, 0, 0), r"utterance out of range.*(\n.*)*utterance 1 for instance 0(\n.*)*0 to 0"),
        ([torch.zeros(20, MELS)], (0, 18, 0), r"frame out of range.*(\n.*)*0 to 17"),
        ([torch.zeros(20, MELS)], (0, -1, 0), r"frame out of range"),
        ([torch.zeros(20, MELS)], (0, 0, SYMBOLS), r"symbol out of range.*(\n.*)*0 to 3"),
        ([torch.zeros(2, MELS)], (0, 0, 0), r"frame out of range.*(\n.*)*too short"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(features, asked, words):
    network = Net(nn.Conv1d(MELS, SYMBOLS, 3))
    with pytest.raises(BadInput, match=words):
        list(FrameGradients(network, ["input"])(features, *(torch.tensor([index]) for index in asked)))


def test_options_that_do_not_exist_are_refused():
    network = Net(nn.Conv1d(MELS, SYMBOLS, 3))
    with pytest.raises(BadOption, match=r"unknown method(\n.*)*'window'"):
        FrameGradients(network, ["input"], method="windows")
    with pytest.raises(BadOption, match=r"did you mean 'body\.0'"):
        FrameGradients(network, ["body.O"])(utterances(20), *[torch.zeros(1, dtype=torch.int64)] * 3)
    with pytest.raises(BadInput, match=r"one thing of every instance(\n.*)*1, 2 and 1"):
        FrameGradients(network, ["input"])(utterances(20), *(torch.zeros(n, dtype=torch.int64) for n in (1, 2, 1)))


def test_nothing_asked_for_gives_nothing():
    network = Net(nn.Conv1d(MELS, SYMBOLS, 3))
    nothing = torch.zeros(0, dtype=torch.int64)
    assert list(FrameGradients(network, ["input"])(utterances(20), nothing, nothing, nothing)) == []
