"""The Transformer: its blocks against torch's, padding that changes nothing, and that it can learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from otoscope.base import BadOption
from otoscope.learn.checkpoint import load_checkpoint, save_checkpoint
from otoscope.learn.networks import build, network_values, read_config
from otoscope.learn.positions import positions
from otoscope.learn.transformer import SIZES, Block, Transformer, TransformerConfig
from otoscope.probe.layers import list_layers
from otoscope.probe.taps import tap

TINY = {"mels": 10, "symbols": ("_", "a", "b"), "units": 12, "heads": 3, "feed_forward": 20, "blocks": 2, "channels": 4}


def tiny(**changes) -> Transformer:
    torch.manual_seed(5)
    return Transformer(TransformerConfig(**{**TINY, **changes})).eval()


def test_padding_changes_no_layer():
    network, frames = tiny(), [1, 2, 5, 12, 13, 31]
    items = [torch.randn(count, 10, generator=torch.Generator().manual_seed(count)) for count in frames]
    batch = nn.utils.rnn.pad_sequence(items, batch_first=True)
    for row, count in enumerate(frames):
        batch[row, count:] = 100.0
    with tap(network, network.layer_names[1:]) as taps, torch.no_grad():
        logits, lengths = network(batch, torch.tensor(frames))
        together = dict(taps)
        assert lengths.tolist() == [math.ceil(math.ceil(count / 2) / 2) for count in frames]
        assert lengths.tolist() == [network.output_length(count) for count in frames]
        for row, item in enumerate(items):
            alone, alone_lengths = network(item[None], torch.tensor([len(item)]))
            assert alone.shape[1] == int(alone_lengths) == int(lengths[row])
            torch.testing.assert_close(logits[row, : int(lengths[row])], alone[0], rtol=1e-4, atol=1e-5)
            for name in network.layer_names[1:]:
                torch.testing.assert_close(together[name][row, : len(alone[0])], taps[name][0], rtol=1e-4, atol=1e-5)


def test_a_block_is_torchs_own_layer():
    torch.manual_seed(1)
    block = Block(12, 3, 20, 0.0).eval()
    theirs = nn.TransformerEncoderLayer(12, 3, 20, 0.0, norm_first=True, batch_first=True).eval()
    pairs = {
        "self_attn": block.attention,
        "linear1": block.feed_forward[0],
        "linear2": block.feed_forward[3],
        "norm1": block.attention_norm,
        "norm2": block.feed_forward_norm,
    }
    for name, module in pairs.items():
        theirs.get_submodule(name).load_state_dict(module.state_dict())
    values, padding = torch.randn(2, 7, 12), torch.zeros(2, 7, dtype=torch.bool)
    padding[1, 4:] = True
    found, right = block(values, padding), theirs(values, src_key_padding_mask=padding)
    torch.testing.assert_close(found[~padding], right[~padding], rtol=1e-5, atol=1e-5)


def test_positions_are_those_of_the_paper():
    found = positions(torch.zeros(1, 50, 8)).double().numpy()
    for place, index in ((0, 0), (3, 2), (49, 3)):
        angle = place / 10_000 ** (2 * index / 8)
        np.testing.assert_allclose(found[place, 2 * index : 2 * index + 2], [np.sin(angle), np.cos(angle)], atol=1e-5)


def test_it_learns_and_comes_back_from_its_checkpoint(tmp_path):
    network = tiny(dropout=0.0).train()
    random = torch.Generator().manual_seed(0)
    features, lengths = torch.randn(2, 40, 10, generator=random), torch.tensor([40, 32])
    targets, sizes = torch.tensor([1, 2, 1, 2, 2]), torch.tensor([3, 2])
    optimiser = torch.optim.Adam(network.parameters(), 0.01)
    losses = []
    for _ in range(60):
        logits, frames = network(features, lengths)
        loss = nn.functional.ctc_loss(logits.log_softmax(2).transpose(0, 1), targets, frames, sizes)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.1 < losses[0]
    save_checkpoint(tmp_path / "t.safetensors", network, {"epoch": 1})
    again = load_checkpoint(tmp_path / "t.safetensors")
    with torch.no_grad():
        torch.testing.assert_close(again(features, lengths)[0], network.eval()(features, lengths)[0], rtol=0, atol=0)


def test_its_layers_are_seen():
    survey = list_layers(tiny())
    own = [layer for layer in survey if layer.own and layer != "input"]
    assert list(map(str, own)) == ["front", "block1", "block2", "output"]
    assert [(layer.width, layer.stride, layer.field) for layer in own] == [
        (12, 4, 7),
        (12, 4, None),
        (12, 4, None),
        (3, 4, None),
    ]


def test_the_papers_size():
    assert SIZES["paper"]["blocks"] == 12
    config = read_config(network_values({"network": "transformer", "size": "paper", "dropout": 0.2}))
    assert (config.blocks, config.units, config.feed_forward, config.dropout) == (12, 512, 2048, 0.2)
    # A block: four projections and two feed-forward maps with their biases, two normalisations.
    block = 4 * (512 * 512 + 512) + 2 * 512 * 2048 + 2048 + 512 + 4 * 512
    assert sum(p.numel() for p in build(config).block1.parameters()) == block


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"heads": 5}, "12 are not even and not a multiple of 5"),
        ({"blank": 3}, "symbol 3 of 3"),
        ({"depth": 2}, "depth"),
    ],
)
def test_what_cannot_be_built(values, words):
    with pytest.raises(BadOption, match=words):
        read_config({"network": "transformer", **TINY, **values})
    with pytest.raises(BadOption, match="no size of this name"):
        network_values({"network": "transformer", "size": "huge"})
