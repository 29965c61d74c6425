"""Recurrent encoders: padding that changes no layer, an LSTM layer against torch's packed one, and the named sizes."""

from __future__ import annotations

import math

import pytest
import torch
from test_seq2seq import TINY, speech, tiny
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from otoscope.base import BadOption
from otoscope.learn.conv_lstm import STATE_FRAMES, LstmLayer, conv_lstm_size
from otoscope.learn.networks import NAMED_SIZES, build, network_values, read_config
from otoscope.probe.layers import list_layers
from otoscope.probe.taps import tap


@pytest.mark.parametrize("name", ["lstm", "conv-lstm"])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_padding_changes_no_layer(name, bidirectional):
    network, frames = tiny(name, bidirectional=bidirectional), [1, 2, 5, 12, 13, 31]
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.bias.data.normal_()
    batch, lengths = speech(*frames)
    for row, count in enumerate(frames):
        batch[row, count:] = 100.0
    with tap(network, network.layer_names) as taps, torch.no_grad():
        logits, output_lengths = network(batch, lengths)
        together = dict(taps)
        assert output_lengths.tolist() == [math.ceil(count / 2) for count in frames]
        assert output_lengths.tolist() == [network.output_length(count) for count in frames]
        for row, count in enumerate(frames):
            alone, alone_length = network(speech(count)[0], torch.tensor([count]))
            assert alone.shape[1] == int(alone_length) == int(output_lengths[row])
            torch.testing.assert_close(logits[row, : alone.shape[1]], alone[0], rtol=1e-4, atol=1e-5)
            for layer in network.layer_names:
                axis = 1 if layer.startswith("conv") else 0
                found = together[layer][row].narrow(axis, 0, taps[layer][0].shape[axis])
                torch.testing.assert_close(found, taps[layer][0], rtol=1e-4, atol=1e-5)


def test_a_layer_is_torchs_own_on_packed_sequences():
    torch.manual_seed(1)
    layer, packed = LstmLayer(5, 4, 1, True), nn.LSTM(5, 4, batch_first=True, bidirectional=True)
    for name, parameter in packed.named_parameters():
        direction = layer.backwards if name.endswith("_reverse") else layer.forwards
        direction.get_parameter(name.removesuffix("_reverse")).data.copy_(parameter.data)
    lengths, values = torch.tensor([7, 3, 1]), torch.randn(3, 7, 5)
    right = packed(pack_padded_sequence(values, lengths, batch_first=True))[0]
    right, _ = pad_packed_sequence(right, batch_first=True)
    found = layer(values, lengths)
    for row, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(found[row, :length], right[row, :length])


def test_a_layer_takes_neighbouring_frames_as_one():
    torch.manual_seed(2)
    joined, plain = LstmLayer(3, 4, 2, False), LstmLayer(6, 4, 1, False)
    plain.load_state_dict(joined.state_dict())
    values = torch.randn(1, 5, 3)
    pairs = torch.stack([torch.cat([values[0, 0], values[0, 1]]), torch.cat([values[0, 2], values[0, 3]])])
    last = torch.cat([values[0, 4], torch.zeros(3)])
    right = plain(torch.cat([pairs, last[None]])[None], torch.tensor([3]))
    torch.testing.assert_close(joined(values, torch.tensor([5])), right)


def test_its_layers_are_seen():
    survey = list_layers(tiny("conv-lstm"))
    own = [(str(layer), layer.kind, layer.width, layer.stride, layer.field) for layer in survey if layer.own]
    assert own == [
        ("conv1", "MapLayer", 9, 2, 3),
        ("conv2", "MapLayer", 12, 2, 7),
        ("lstm1", "LstmLayer", 16, 2, None),
        ("lstm2", "LstmLayer", 16, 2, None),
        ("output", "Linear", 6, 2, None),
    ]
    with tap(tiny("conv-lstm"), "*") as taps:
        pass
    assert list(taps) == ["conv1", "conv2", "lstm1", "lstm2", "output"]


@pytest.mark.parametrize("size", ["paper", "small"])
def test_every_depth_has_as_many_states(size):
    for depth in range(1, 7):
        config = read_config(network_values({"network": "conv-lstm", "size": size, "depth": depth}))
        assert len(config.channels) == depth
        assert math.prod(config.map_strides) * math.prod(config.strides) == STATE_FRAMES
    assert math.prod(read_config(network_values({"network": "lstm", "size": size})).strides) == STATE_FRAMES


def test_the_papers_sizes():
    config = read_config(network_values({"network": "conv-lstm", "size": "paper", "depth": 4, "dropout": 0.4}))
    assert config.channels == (64, 64, 128, 128)
    assert config.map_strides == (1, 2, 1, 2)
    assert (config.layers, config.units, config.decoder_layers, config.decoder_units) == (4, 640, 3, 640)
    assert config.dropout == 0.4
    with torch.device("meta"):
        network = build(config)
    assert [tuple(network.get_submodule(name).convolution.weight.shape) for name in network.layer_names[:4]] == [
        (64, 1, 3, 3),
        (64, 64, 3, 3),
        (128, 64, 3, 3),
        (128, 128, 3, 3),
    ]
    # Four gates of 640 from 128 channels of 32 bands, and two biases.
    first = 4 * 640 * (128 * 32 + 640 + 2)
    assert sum(p.numel() for p in network.lstm1.forwards.parameters()) == first


def test_sizes_by_name():
    assert network_values({"network": "conv-lstm", "depth": 2}) == {
        "network": "conv-lstm",
        **conv_lstm_size("small", 2),
    }
    assert set(NAMED_SIZES) == {"wav2letter", "conv-lstm", "lstm", "transformer"}
    for name, sizes in NAMED_SIZES.items():
        assert set(sizes) == {"paper", "small", *(["narrow"] if name == "wav2letter" else [])}
        assert read_config(network_values({"network": name})) == read_config({"network": name})
    with pytest.raises(BadOption, match="1 to 6 convolutions"):
        network_values({"network": "conv-lstm", "depth": 7})
    with pytest.raises(BadOption, match=r"no size of this name[\s\S]*paper, small"):
        network_values({"network": "lstm", "size": "huge"})
    with pytest.raises(BadOption, match="depth"):
        read_config(network_values({"network": "lstm", "size": "small", "depth": 2}))


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("lstm", {"strides": (2,)}, "not one of 1 or more for each of 2 layers"),
        ("conv-lstm", {"map_strides": (2,)}, "not one for each of the channels"),
        ("conv-lstm", {"map_strides": (0, 1)}, "not one for each of the channels"),
        ("lstm", {"channels": (3,)}, "channels"),
    ],
)
def test_what_cannot_be_built(name, changes, words):
    with pytest.raises(BadOption, match=words):
        read_config({**TINY[name], **changes})
