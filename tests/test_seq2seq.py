"""Attention decoders: step by step as all at once, losses against their formulas, and networks that learn to write."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from otoscope.base import BadInput, BadOption
from otoscope.learn.checkpoint import load_checkpoint, save_checkpoint
from otoscope.learn.examples import make_example
from otoscope.learn.losses import ctc_losses, next_symbol_losses
from otoscope.learn.lstm_decoder import AdditiveAttention
from otoscope.learn.networks import build, read_config
from otoscope.learn.recogniser import Recogniser
from otoscope.learn.seq2seq import with_start
from otoscope.learn.transformer_decoder import attend, keys_and_values
from otoscope.learn.units import END

SYMBOLS = ("_", " ", "a", "b", "c")
SHARED = {"mels": 6, "symbols": SYMBOLS, "dropout": 0.0}
RECURRENT = {**SHARED, "layers": 2, "units": 8, "decoder_units": 9, "embedding": 5, "attention_units": 7}
TINY = {
    "lstm": {**RECURRENT, "network": "lstm", "strides": (2, 1), "decoder_layers": 2},
    "conv-lstm": {**RECURRENT, "network": "conv-lstm", "channels": (3, 4), "map_strides": (2, 1)},
    "transformer": {
        **SHARED,
        "network": "transformer",
        "units": 12,
        "heads": 3,
        "feed_forward": 20,
        "blocks": 2,
        "decoder_blocks": 2,
        "channels": 4,
    },
}
ALL = pytest.mark.parametrize("name", TINY)


def tiny(name: str, seed: int = 5, **changes) -> Recogniser:
    torch.manual_seed(seed)
    return build(read_config({**TINY[name], **changes})).eval()


def speech(*frames: int) -> tuple[torch.Tensor, torch.Tensor]:
    items = [torch.randn(count, 6, generator=torch.Generator().manual_seed(count)) for count in frames]
    return nn.utils.rnn.pad_sequence(items, batch_first=True), torch.tensor(frames)


@ALL
@torch.no_grad()
def test_steps_give_what_all_at_once_gives(name):
    network = tiny(name)
    states, lengths = network.encode(*speech(40, 23, 31))
    targets = [torch.tensor([2, 3, 4, 2]), torch.tensor([3]), torch.tensor([4, 1, 4])]
    tokens = with_start(targets, network.end, states.device)
    assert tokens.tolist() == [[5, 2, 3, 4, 2], [5, 3, 5, 5, 5], [5, 4, 1, 4, 5]]
    together = network.decoder(states, lengths, tokens)
    assert together.shape == (3, 5, 6)
    assert (together[..., 0] == -torch.inf).all()
    memory = network.decoder.start(states, lengths)
    for step in range(tokens.shape[1]):
        before = {key: value.clone() for key, value in memory.own.items()}
        found, after, attention = network.decoder.step(tokens[:, step], memory)
        torch.testing.assert_close(found, together[:, step].log_softmax(-1), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(attention.sum(1), torch.ones(3))
        for row, length in enumerate(lengths.tolist()):
            assert (attention[row, length:] == 0).all()
        assert all(torch.equal(memory.own[key], value) for key, value in before.items()), "what is given stays as it is"
        memory = after


@ALL
@torch.no_grad()
def test_selected_rows_go_on_as_they_would_have(name):
    network = tiny(name)
    states, lengths = network.encode(*speech(40, 23, 31))
    _, memory, _ = network.decoder.step(torch.tensor([5, 5, 5]), network.decoder.start(states, lengths))
    whole, *_ = network.decoder.step(torch.tensor([2, 3, 4]), memory)
    chosen = torch.tensor([2, 0, 2])
    part, _, attention = network.decoder.step(torch.tensor([4, 2, 4]), memory.select(chosen))
    torch.testing.assert_close(part, whole[chosen])
    assert attention.shape == (3, states.shape[1])


@ALL
@torch.no_grad()
def test_padding_changes_nothing_that_is_written(name):
    network = tiny(name)
    features, lengths = speech(40, 23, 31)
    states, frames = network.encode(features, lengths)
    tokens = torch.tensor([[5, 2, 3, 4]] * 3)
    together = network.decoder(states, frames, tokens)
    ids = network.recognise(features, lengths)
    for row, length in enumerate(lengths.tolist()):
        one = features[row : row + 1, :length], lengths[row : row + 1]
        torch.testing.assert_close(
            network.decoder(*network.encode(*one), tokens[:1])[0], together[row], rtol=1e-4, atol=1e-5
        )
        assert network.recognise(*one) == [ids[row]]


@ALL
def test_greedy_is_the_best_symbol_at_each_step(name):
    network = tiny(name)
    nn.init.normal_(network.decoder.choice.weight, std=2.0, generator=torch.Generator().manual_seed(3))
    states, lengths = network.encode(*speech(40, 23, 31))
    found = network.decoder.greedy(states, lengths)
    assert len({*map(tuple, found)}) > 1
    for row, ids in enumerate(found):
        assert 0 not in ids
        assert network.end not in ids
        tokens = torch.tensor([[network.end, *ids]])
        with torch.no_grad():
            logits = network.decoder(states[row : row + 1], lengths[row : row + 1], tokens)[0]
        best = logits.argmax(-1).tolist()
        assert best[:-1] == ids
        assert best[-1] == network.end or len(ids) == int(lengths[row])


def test_additive_attention_is_the_formula():
    torch.manual_seed(0)
    attention = AdditiveAttention(3, 4, 5)
    query, states = torch.randn(2, 3), torch.randn(2, 6, 4)
    padding = torch.zeros(2, 6, dtype=torch.bool)
    padding[1, 4:] = True
    context, weights = attention(query, attention.keys(states), states, padding)
    w, u, v = (module.weight.detach().double().numpy() for module in (attention.query, attention.key, attention.score))
    bias = attention.key.bias.detach().double().numpy()
    for row, frames in enumerate((6, 4)):
        s, h = query[row].double().numpy(), states[row, :frames].double().numpy()
        energies = np.array([v[0] @ np.tanh(w @ s + u @ h[t] + bias) for t in range(frames)])
        a = np.exp(energies) / np.exp(energies).sum()
        np.testing.assert_allclose(weights[row, :frames].detach(), a, atol=1e-6)
        np.testing.assert_allclose(context[row].detach(), sum(a[t] * h[t] for t in range(frames)), atol=1e-6)
    assert (weights[1, 4:] == 0).all()


def test_a_decoder_lstm_reads_the_symbol_and_the_context_of_the_state_before():
    """Ollerenshaw et al. 2021, Eq. 7, with torch's cell as the LSTM."""
    decoder = tiny("conv-lstm").decoder
    states = torch.randn(2, 7, 16, generator=torch.Generator().manual_seed(1))
    tokens, lengths = torch.tensor([[5, 2, 3], [5, 4, 4]]), torch.tensor([7, 5])
    padding = torch.arange(7) >= lengths[:, None]
    hidden = cell = torch.zeros(2, 9)
    expected = []
    for step in range(3):
        context, _ = decoder.attention(hidden, decoder.attention.keys(states), states, padding)
        hidden, cell = decoder.cells[0](torch.cat([decoder.embedding(tokens[:, step]), context], 1), (hidden, cell))
        expected.append(decoder.choice(torch.cat([hidden, context], 1)))
    torch.testing.assert_close(decoder(states, lengths, tokens)[..., 1:], torch.stack(expected, 1))


def test_attention_of_one_step_is_torchs_own():
    torch.manual_seed(2)
    module = nn.MultiheadAttention(12, 3, batch_first=True)
    query, states = torch.randn(2, 12), torch.randn(2, 6, 12)
    padding = torch.zeros(2, 6, dtype=torch.bool)
    padding[1, 4:] = True
    found = attend(module, query, *keys_and_values(module, states), padding)
    seen, weights = module(query[:, None], states, states, key_padding_mask=padding)
    torch.testing.assert_close(found, (seen[:, 0], weights[:, 0]))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_cross_entropy_with_smoothed_labels_is_the_formula(smoothing):
    logits = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0))
    targets, end = [torch.tensor([2, 3, 1]), torch.tensor([4])], 5
    found = next_symbol_losses(logits, targets, end, smoothing)
    for row, target in enumerate(targets):
        expected = 0.0
        for step, symbol in enumerate([*target.tolist(), end]):
            # The blank, symbol 0, takes no part.
            chances = np.exp(logits[row, step, 1:].double().numpy())
            surprise = -np.log(chances / chances.sum())
            expected += (1 - smoothing) * surprise[symbol - 1] + smoothing * surprise.mean()
        assert float(found[row]) == pytest.approx(expected, abs=1e-5)


@ALL
def test_the_joint_loss_is_the_weighted_sum(name):
    network = tiny(name, ctc_weight=0.3, label_smoothing=0.1)
    features, lengths = speech(40, 31)
    targets = [torch.tensor([2, 3, 3]), torch.tensor([4])]
    losses = network.losses(features, lengths, targets)
    assert tuple(losses) == network.loss_names == ("loss", "ctc", "attention")
    torch.testing.assert_close(losses["loss"], 0.3 * losses["ctc"] + 0.7 * losses["attention"])
    logits, frames = network(features, lengths)
    torch.testing.assert_close(losses["ctc"], ctc_losses(logits, frames, targets, 0))
    logits = network.decoder(*network.encode(features, lengths), with_start(targets, 5, features.device))
    torch.testing.assert_close(losses["attention"], next_symbol_losses(logits, targets, 5, 0.1))
    both, ids = network.losses_and_ids(features, lengths, targets)
    torch.testing.assert_close(both, losses)
    assert ids == network.recognise(features, lengths)


@ALL
def test_without_ctc_a_network_gives_its_states_and_needs_no_room(name):
    network = tiny(name, ctc_weight=0.0)
    features, lengths = speech(9, 7)
    states, frames = network.encode(features, lengths)
    torch.testing.assert_close(network(features, lengths), (states, frames))
    assert "output" not in network.layer_names
    assert network.loss_names == ("loss",) == tuple(network.losses(features, lengths, [torch.tensor([2])] * 2))
    # More symbols than frames: a decoder can write them, CTC cannot.
    assert make_example("u", features[0], "abcabcabc", network).targets.tolist() == [2, 3, 4] * 3
    with pytest.raises(BadInput, match="longer than the network's output"):
        make_example("u", features[0], "abcabcabc", tiny(name))


@ALL
def test_its_symbols_end_with_the_end(name):
    network = tiny(name)
    assert network.symbols == (*SYMBOLS, END)
    assert (network.end, network.blank, network.decoder.end) == (5, 0, 5)
    assert network(*speech(20))[0].shape[2] == 6
    assert network.units.decode([2, 3, 1, 4, 5]) == "ab c"
    ctc = tiny("transformer", decoder_blocks=0)
    assert (ctc.symbols, ctc.decoder, ctc.loss_names) == (SYMBOLS, None, ("loss",))


@ALL
def test_scheduled_sampling_gives_the_decoder_its_own_symbols(name):
    network = tiny(name, scheduled_sampling=1.0)
    nn.init.normal_(network.decoder.choice.weight, std=2.0, generator=torch.Generator().manual_seed(3))
    states, lengths = network.encode(*speech(40))
    states = states.detach()
    tokens = torch.tensor([[5, 2, 2, 2, 2]])
    taught = network.decoder(states, lengths, tokens)
    network.decoder.train()
    found = network.decoder(states, lengths, tokens)
    # Its own: those of a free run for the LSTM, those of a taught pass for the Transformer.
    network.decoder.eval()
    own = tokens.clone()
    for step in range(1, 5):
        seen = taught if name == "transformer" else network.decoder(states, lengths, own)
        own[0, step] = seen[0, step - 1].argmax()
    assert not torch.equal(own, tokens)
    torch.testing.assert_close(found, network.decoder(states, lengths, own))
    torch.testing.assert_close(taught[0, 0], found[0, 0])


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("lstm", {"ctc_weight": 0.0}),
        ("conv-lstm", {"ctc_weight": 0.3}),
        ("transformer", {"ctc_weight": 0.3}),
        ("transformer", {"decoder_blocks": 0}),
    ],
    ids=["attention", "both, convolutions", "both, transformer", "ctc"],
)
def test_five_utterances_are_learned_by_heart(name, changes, tmp_path):
    texts = ["ab", "b a", "cab", "acca", "bc b"]
    network = tiny(name, label_smoothing=0.0, **changes).train()
    features, lengths = speech(48, 44, 46, 50, 42)
    targets = [torch.tensor(network.units.encode(text)) for text in texts]
    optimiser = torch.optim.Adam(network.parameters(), 3e-3 if name == "transformer" else 0.02)
    for step in range(600):
        loss = network.losses(features, lengths, targets)["loss"].mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        if step % 10 == 0 and float(loss.detach()) < 0.2:
            break
    network.eval()
    with torch.no_grad():
        assert [network.units.decode(ids) for ids in network.recognise(features, lengths)] == texts
    save_checkpoint(tmp_path / "n.safetensors", network, {"epoch": 1})
    again = load_checkpoint(tmp_path / "n.safetensors")
    assert again.config == network.config
    with torch.no_grad():
        for one, other in zip(again(features, lengths), network(features, lengths), strict=True):
            assert torch.equal(one, other)
        assert again.recognise(features, lengths) == network.recognise(features, lengths)


@ALL
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"residual": True}, "residual"),
        ({"ctc_weight": 1.5}, "ctc_weight"),
        ({"blank": 1}, "symbol 0, not 1"),
        ({"symbols": ("_", "a", END)}, "added to them"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
    ],
)
def test_what_cannot_be_built(name, changes, words):
    with pytest.raises(BadOption, match=words):
        read_config({**TINY[name], **changes})
