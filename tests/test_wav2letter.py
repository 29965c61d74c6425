"""Wav2Letter: its convolution against torch's and a sum written out, padding that changes nothing, the paper's plan."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from otoscope.base import BadOption
from otoscope.learn.networks import build, read_config
from otoscope.learn.wav2letter import STACKS, ConvolutionConfig, ConvolutionLayer, Wav2Letter, Wav2LetterConfig
from otoscope.probe.taps import tap


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def small(norm: str) -> Wav2Letter:
    """Strides of 2, even and odd kernels, and batch statistics that are not those of a fresh network."""
    torch.manual_seed(3)
    plan = [(8, 5, 2), (7, 4, 1), (6, 6, 2), (6, 3, 1), (5, 1, 1)]
    hidden = tuple(ConvolutionConfig(units=units, kernel=kernel, stride=stride) for units, kernel, stride in plan)
    network = Wav2Letter(Wav2LetterConfig(mels=10, symbols=("<blank>", "a", "b"), hidden=hidden, norm=norm))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
        if isinstance(module, nn.BatchNorm1d | nn.LayerNorm):
            nn.init.normal_(module.bias)
    return network.eval()


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
def test_padding_changes_no_layer(norm):
    network = small(norm)
    frames = [1, 2, 7, 12, 13, 31]
    items = [random(count, 10, seed=count) for count in frames]
    batch = nn.utils.rnn.pad_sequence(items, batch_first=True)
    for row, count in enumerate(frames):
        # What stands in the padding must not matter either.
        batch[row, count:] = 100.0
    with tap(network, network.layer_names) as taps, torch.no_grad():
        logits, lengths = network(batch, torch.tensor(frames))
        together = dict(taps)
        assert lengths.tolist() == [math.ceil(math.ceil(count / 2) / 2) for count in frames]
        for row, item in enumerate(items):
            alone, alone_lengths = network(item[None], torch.tensor([len(item)]))
            assert alone.shape[1] == int(alone_lengths) == int(lengths[row])
            torch.testing.assert_close(logits[row, : int(lengths[row])], alone[0], rtol=1e-4, atol=1e-5)
            for name in network.layer_names:
                values = taps[name][0]
                torch.testing.assert_close(together[name][row, : len(values)], values, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("kernel", "stride"), [(5, 1), (4, 1), (5, 2), (6, 2), (48, 2), (1, 1), (1, 2)])
def test_the_layer_is_a_convolution_with_zeros_beyond_the_ends(kernel, stride):
    torch.manual_seed(0)
    layer = ConvolutionLayer(3, ConvolutionConfig(units=4, kernel=kernel, stride=stride), norm="none", dropout=0.0)
    values, weight, bias = random(2, 11, 3), layer.convolution.weight, layer.convolution.bias
    left = (kernel - 1) // 2
    surrounded = nn.functional.pad(values.transpose(1, 2), (left, kernel - 1 - left))
    expected = nn.functional.conv1d(surrounded, weight, bias, stride=stride).transpose(1, 2).relu()
    with torch.no_grad():
        found = layer(values)
    assert found.shape == (2, -(-11 // stride), 4)
    torch.testing.assert_close(found, expected.detach(), rtol=1e-5, atol=1e-6)
    # One value as a sum: output frame 3 looks at the frames around input frame 3 * stride.
    total = bias.detach().double().clone()
    for place in range(kernel):
        frame = 3 * stride + place - left
        if 0 <= frame < 11:
            total += weight[:, :, place].detach().double() @ values[1, frame].double()
    torch.testing.assert_close(found[1, 3].double(), total.relu(), rtol=1e-5, atol=1e-5)


def test_the_order_is_convolution_norm_relu_and_the_output_is_plain():
    network = small("layer")
    values = random(1, 9, 10)
    first = network.layer1
    with torch.no_grad():
        plain = nn.functional.conv1d(nn.functional.pad(values.transpose(1, 2), (2, 2)), *first.convolution.parameters())
        plain = plain.transpose(1, 2)[:, ::2]
        deviation = plain.var(-1, correction=0, keepdim=True).add(first.norm.eps).sqrt()
        expected = (plain - plain.mean(-1, keepdim=True)) / deviation * first.norm.weight + first.norm.bias
        torch.testing.assert_close(first(values), expected.relu(), rtol=1e-4, atol=1e-5)
        logits, _ = network(values, torch.tensor([9]))
    assert network.layer6.norm is None
    assert network.layer6.activation is None
    assert float(logits.min()) < 0


def test_the_papers_stack():
    network = build(Wav2LetterConfig(hidden=STACKS["paper"]))
    assert network.layer_names == tuple(f"layer{number}" for number in range(1, 12))
    shapes = [tuple(network.get_submodule(name).convolution.weight.shape) for name in network.layer_names]
    assert shapes == [(250, 128, 48), *[(250, 250, 7)] * 7, (2000, 250, 32), (2000, 2000, 1), (29, 2000, 1)]
    assert [network.get_submodule(name).stride for name in network.layer_names] == [2, *[1] * 10]
    with torch.no_grad():
        logits, lengths = network.eval()(random(1, 9, 128), torch.tensor([9]))
    assert logits.shape == (1, 5, 29)
    assert lengths.tolist() == [5]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"unitz": 3}, "unitz: Extra inputs[\\s\\S]*hidden, norm"),
        ({"norm": "bach", "dropout": 1.5}, "norm: [\\s\\S]*dropout: "),
        ({"hidden": []}, "at least one layer"),
        ({"hidden": [{"units": 4, "kernel": 3, "dilation": 2}]}, "hidden.0.dilation"),
        ({"blank": 29}, "symbol 29 of 29 does not exist"),
        ({"network": "wav2leter"}, "did you mean 'wav2letter'"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused_with_words(values, words):
    with pytest.raises(BadOption, match=words):
        read_config(values)


def test_a_configuration_survives_json():
    config = small("layer").config
    assert read_config(config.model_dump(mode="json")) == config
