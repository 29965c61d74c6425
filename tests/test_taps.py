"""Taps: what they hold, against plain calls and autograd, and that they always come off."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from otoscope.base import BadInput, BadOption
from otoscope.probe.taps import first_tensor, replace_first_tensor, tap


class Network(nn.Module):
    """Three linear layers on `(batch, frame, mel)`, a ReLU in place between the first two, and dropout."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.third = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.relu, self.dropout = nn.ReLU(inplace=True), nn.Dropout(0.5)
        self.unused = nn.Linear(4, 4)
        self.fail = False

    def forward(self, features: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        values = self.second(self.relu(self.first(features)))
        if self.fail:
            raise ZeroDivisionError("planted")
        return self.third(self.dropout(values)), lengths


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def features() -> Tensor:
    return torch.randn(2, 7, 4, generator=torch.Generator().manual_seed(1))


def hooks(network: nn.Module) -> int:
    tables = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(module, table)) for module in network.modules() for table in tables)


def test_a_tap_holds_what_the_module_gives(network, features):
    network.train()
    with tap(network, ["second", "first", "input"]) as taps:
        assert not any(module.training for module in network.modules())
        network(features, None)
    assert list(taps) == ["second", "first", "input"]
    assert len(taps) == 3
    assert "first" in taps
    assert "third" not in taps
    torch.testing.assert_close(taps["input"], features, rtol=0, atol=0)
    # The ReLU after it writes in place; the tap must not see that.
    torch.testing.assert_close(taps["first"], network.first(features).detach(), rtol=0, atol=0)
    assert (taps["first"] < 0).any()
    torch.testing.assert_close(taps["second"], network.second(network.first(features).relu()).detach(), rtol=0, atol=0)
    assert not taps["second"].requires_grad


def test_a_tapped_network_gives_what_it_gives_untapped(network, features):
    plain = network.eval()(features)[0]
    for grads in (False, True):
        with tap(network, [name for name, _ in network.named_modules() if name], grads) as taps:
            torch.testing.assert_close(network(features)[0].detach(), plain.detach(), rtol=0, atol=0)
        torch.testing.assert_close(taps["third"].detach(), plain.detach(), rtol=0, atol=0)


def test_gradients_are_those_of_autograd(network, features):
    network.eval()
    given = features.clone().requires_grad_()
    first = network.first(given)
    second = network.second(first.relu())
    target = network.third(second)[1, 3, 2]
    right = dict(zip(["input", "first", "second"], torch.autograd.grad(target, [given, first, second]), strict=True))
    with torch.no_grad(), tap(network, ["input", "first", "second", "unused"], grads=True) as taps:
        logits, _ = network(features)
        with pytest.raises(BadInput, match=r"'first' has no gradient"):
            taps.grads["first"]
        logits[1, 3, 2].backward()
    for name, gradient in right.items():
        torch.testing.assert_close(taps.grads[name], gradient)
        torch.testing.assert_close(taps[name].grad, gradient)
    assert list(taps.grads) == list(taps)
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not features.requires_grad


def test_gradients_without_the_input_start_at_the_first_tap(network, features):
    with tap(network, ["second"], grads=True) as taps:
        network(features)[0][0, 0, 0].backward()
    assert taps["second"].is_leaf
    torch.testing.assert_close(taps.grads["second"][0, 0], network.third.weight[0].detach())
    assert not taps.grads["second"][1].any()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gradients_are_recorded_where_the_caller_has_them_off(network, mode):
    with mode():
        features = torch.randn(2, 7, 4)
        with tap(network, ["input", "first"], grads=True) as taps:
            network(features)[0].sum().backward()
    assert taps.grads["input"].shape == (2, 7, 4)


def test_features_that_require_a_gradient_keep_it(network, features):
    features.requires_grad_()
    with tap(network, ["input"], grads=True) as taps:
        network(features)[0].sum().backward()
    assert features.grad is not None
    assert taps["input"] is features


def test_features_may_come_by_keyword(network, features):
    with tap(network, ["input"], grads=True) as taps:
        network(lengths=None, features=features)[0].sum().backward()
    assert taps.grads["input"].shape == features.shape


def test_taps_are_those_of_the_latest_pass(network, features):
    with tap(network, ["first"]) as taps:
        network(features)
        network(features * 2)
    torch.testing.assert_close(taps["first"], network.first(features * 2).detach())


def run(network: Network, features: Tensor) -> None:
    network(features)


def run_and_raise(network: Network, features: Tensor) -> None:
    network.fail = True
    network(features)


def raise_after(network: Network, features: Tensor) -> None:
    network(features)
    raise ZeroDivisionError("planted")


@pytest.mark.parametrize("grads", [False, True])
@pytest.mark.parametrize(
    ("layers", "inside", "error"),
    [
        (["input", "first", "second"], run, None),
        (["input", "first", "second"], run_and_raise, ZeroDivisionError),
        (["input", "first", "second"], raise_after, ZeroDivisionError),
        (["first", "absent"], run, BadOption),
    ],
)
def test_every_hook_comes_off_and_every_flag_comes_back(network, features, layers, inside, error, grads):
    network.train()
    network.dropout.eval()
    network.second.weight.requires_grad_(False)
    training = [module.training for module in network.modules()]
    requiring = [parameter.requires_grad for parameter in network.parameters()]
    mode = torch.is_grad_enabled()

    def use() -> None:
        with tap(network, layers, grads):
            assert hooks(network) == 1 + len(layers[1:])  # the network's own, and one a module
            assert not any(parameter.requires_grad for parameter in network.parameters()) or not grads
            inside(network, features)

    if error is None:
        use()
    else:
        with pytest.raises(error):
            use()
    assert hooks(network) == 0
    assert [module.training for module in network.modules()] == training
    assert [parameter.requires_grad for parameter in network.parameters()] == requiring
    assert torch.is_grad_enabled() == mode


def test_two_taps_at_once_do_not_disturb_each_other(network, features):
    with tap(network, ["first"]) as outer:
        with tap(network, ["first", "second"]) as inner:
            network(features)
        assert hooks(network) == 2
        torch.testing.assert_close(outer["first"], inner["first"])
    assert hooks(network) == 0


def test_unknown_layers_are_named_with_their_neighbours(network):
    with (
        pytest.raises(BadOption, match=r"'secnd'(\n.*)*6 modules(\n.*)*did you mean 'second'"),
        tap(network, ["secnd"]),
    ):
        pass
    with pytest.raises(BadOption, match="no such layer"), tap(network, ""):
        pass


def test_reading_what_is_not_there_says_what_to_do(network, features):
    with tap(network, ["first", "unused"]) as taps:
        with pytest.raises(BadInput, match=r"'first' has not run(\n.*)*list_layers"):
            taps["first"]
        network(features)
        with pytest.raises(BadInput, match=r"'unused' has not run"):
            taps["unused"]
        with pytest.raises(BadOption, match=r"not tapped(\n.*)*'second'"):
            taps["second"]


class Pair(NamedTuple):
    tensor: Tensor
    number: int


class Outputs(nn.Module):
    """Gives whatever the function makes of its input."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, values):
        return self.function(values)


class Around(nn.Module):
    def __init__(self, function, undo, times: int = 1) -> None:
        super().__init__()
        self.inner, self.undo, self.times = Outputs(function), undo, times

    def forward(self, features, lengths=None):
        for _ in range(self.times):
            features = self.undo(self.inner(features))
        return features * 3, lengths


@pytest.mark.parametrize(
    ("function", "undo"),
    [
        (lambda values: (values * 2, 5), lambda output: output[0]),
        (lambda values: [None, [values * 2]], lambda output: output[1][0]),
        (lambda values: OrderedDict(note="a", last=values * 2), lambda output: output["last"]),
        (lambda values: (values * 2).max(0, keepdim=True), lambda output: output.values),
        (lambda values: Pair(values * 2, 5), lambda output: output.tensor),
    ],
)
def test_of_several_things_the_first_tensor_counts(function, undo, features):
    features = features[:1]
    network = Around(function, undo)
    with tap(network, ["inner"], grads=True) as taps:
        logits, _ = network(features)
        logits.sum().backward()
    torch.testing.assert_close(taps["inner"].detach(), features * 2)
    # The gradient arrives, so what was tapped is what went on.
    torch.testing.assert_close(taps.grads["inner"], torch.full_like(features, 3.0))


def test_a_packed_sequence_counts_as_its_padded_tensor(features):
    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.lower, self.upper = nn.LSTM(4, 5, batch_first=True), nn.LSTM(5, 3, batch_first=True)

        def forward(self, features, lengths):
            packed = pack_padded_sequence(features, lengths, batch_first=True, enforce_sorted=False)
            packed, _ = self.upper(self.lower(packed)[0])
            return pad_packed_sequence(packed, batch_first=True)[0], lengths

    network = Packed()
    lengths = torch.tensor([5, 7])
    plain = network(features, lengths)[0]
    with tap(network, ["lower"], grads=True) as taps:
        logits, _ = network(features, lengths)
        torch.testing.assert_close(logits, plain)
        logits[0, 2].sum().backward()
    torch.testing.assert_close(taps["lower"][0, :5], network.lower(features[:1, :5])[0][0])
    assert not taps["lower"][0, 5:].any()
    gradient = taps.grads["lower"]
    assert gradient[0, :3].abs().sum(1).all()
    assert not gradient[0, 3:].any()
    assert not gradient[1].any()


def test_a_module_called_twice_is_refused_when_read(features):
    network = Around(lambda values: values * 2, lambda values: values, times=2)
    for grads in (False, True):
        with tap(network, ["inner"], grads) as taps:
            network(features)
            with pytest.raises(BadInput, match=r"'inner' was called 2 times"):
                taps["inner"]


def test_a_module_that_gives_no_tensor_is_refused_when_read(features):
    network = Around(lambda values: None, lambda output: features)
    with tap(network, ["inner"]) as taps:
        network(features)
        with pytest.raises(BadInput, match=r"'inner' gave no tensor"):
            taps["inner"]


def test_replacing_leaves_the_output_given_as_it_was():
    old, new = torch.zeros(2), torch.ones(2)
    output = {"a": None, "b": (1, [old])}
    changed = replace_first_tensor(output, new)
    assert first_tensor(changed) is new
    assert first_tensor(output) is old
    assert changed["b"][0] == 1


def test_globs_stand_for_the_modules_that_they_fit():
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    with tap(network, "*") as taps:
        network(torch.randn(5, 3))
    assert list(taps) == ["0", "1", "2"]
    with tap(network, ["[02]", "input"]) as taps:
        network(torch.randn(5, 3))
    assert list(taps) == ["0", "2", "input"]
    network.layer_names = ("2",)
    with tap(network, "*") as taps:
        assert list(taps) == ["2"]
    with pytest.raises(BadOption, match="no such layer"), tap(network, "conv*"):
        pass
