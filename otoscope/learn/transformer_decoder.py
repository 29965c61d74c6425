"""The Transformer's decoder (Vaswani et al. 2017), its blocks normalised before each part."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from otoscope.learn.decoder_memory import DecoderMemory, by_utterance
from otoscope.learn.positions import positions
from otoscope.learn.recogniser import valid
from otoscope.learn.seq2seq import Decoder, replaced


class DecoderBlock(nn.TransformerDecoderLayer):
    """torch's own block, and the same step by step: what earlier steps and the states are asked for is kept."""

    def __init__(self, units: int, heads: int, feed_forward: int, dropout: float):
        super().__init__(units, heads, feed_forward, dropout, batch_first=True, norm_first=True)

    def step(
        self, value: Tensor, past: tuple[Tensor, Tensor], states: tuple[Tensor, Tensor], padding: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor]:
        """One symbol `(hypothesis, unit)`, keys and values `(hypothesis, step, unit)` of those before it.

        Keys and values of the states are `(utterance, frame, unit)`, with as many hypotheses of each utterance.

        Returns: the block's output, the keys and values with this symbol's, and the attention to the states
        `(hypothesis, frame)`, the mean over heads.
        """
        normed = self.norm1(value)
        keys, values = (
            torch.cat([before, new[:, None]], 1)
            for before, new in zip(past, keys_and_values(self.self_attn, normed), strict=True)
        )
        value = value + attend(self.self_attn, normed, keys, values)[0]
        seen, weights = attend(self.multihead_attn, self.norm2(value), *states, padding)
        value = value + seen
        value = value + self.linear2(self.activation(self.linear1(self.norm3(value))))
        return value, (keys, values), weights


def keys_and_values(attention: nn.MultiheadAttention, values: Tensor) -> tuple[Tensor, Tensor]:
    """What a module of torch's makes of what is attended to: two tensors of the shape of `values`."""
    _, *weights = attention.in_proj_weight.chunk(3)
    _, *biases = attention.in_proj_bias.chunk(3)
    key, value = (nn.functional.linear(values, w, b) for w, b in zip(weights, biases, strict=True))
    return key, value


def attend(
    attention: nn.MultiheadAttention, queries: Tensor, keys: Tensor, values: Tensor, padding: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Scaled dot-product attention with a module's weights: queries `(batch × place, unit)`, as many of each utterance.

    Keys and values are `(batch, frame, unit)`, `padding` `(batch, frame)` is true where none is.

    Returns: what is seen `(batch × place, unit)`, and the weights `(batch × place, frame)`, their mean over heads.
    """
    heads, size = attention.num_heads, attention.head_dim
    queries = nn.functional.linear(queries, attention.in_proj_weight.chunk(3)[0], attention.in_proj_bias.chunk(3)[0])
    queries = by_utterance(queries, len(keys)).unflatten(2, (heads, size))
    keys, values = (tensor.unflatten(2, (heads, size)) for tensor in (keys, values))
    scores = torch.einsum("bphu,bfhu->bhpf", queries, keys) / math.sqrt(size)
    if padding is not None:
        scores = scores.masked_fill(padding[:, None, None], -torch.inf)
    weights = scores.softmax(-1)
    seen = torch.einsum("bhpf,bfhu->bphu", weights, values).flatten(2).flatten(0, 1)
    return attention.out_proj(seen), weights.mean(1).flatten(0, 1)


class TransformerDecoder(Decoder):
    """Embedded symbols with their places, blocks, and the choice of the next symbol."""

    def __init__(
        self,
        *,
        symbols: int,
        end: int,
        units: int,
        heads: int,
        feed_forward: int,
        blocks: int,
        dropout: float,
        scheduled_sampling: float,
    ):
        super().__init__()
        self.end, self.scheduled_sampling = end, scheduled_sampling
        self.state_norm = nn.LayerNorm(units)
        self.embedding = nn.Embedding(symbols, units)
        # Symbols as loud as their places, whose sines and cosines have a mean square of a half.
        nn.init.normal_(self.embedding.weight, std=math.sqrt(0.5))
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(DecoderBlock(units, heads, feed_forward, dropout) for _ in range(blocks))
        self.norm = nn.LayerNorm(units)
        # All symbols but CTC's blank.
        self.choice = nn.Linear(units, symbols - 1)

    def start(self, states: Tensor, lengths: Tensor) -> DecoderMemory:
        """As `Decoder`."""
        states, padding = self._states(states, lengths)
        memory = DecoderMemory({"padding": padding}, {})
        nothing = states.new_zeros(len(states), 0, states.shape[2])
        for number, block in enumerate(self._blocks()):
            keys, values = keys_and_values(block.multihead_attn, states)
            memory.shared.update({f"keys{number}": keys, f"values{number}": values})
            memory.own.update({f"keys{number}": nothing, f"values{number}": nothing})
        return memory

    def step(self, tokens: Tensor, memory: DecoderMemory) -> tuple[Tensor, DecoderMemory, Tensor]:
        """As `Decoder`; the attention is that of the last block."""
        value = self.embedding(tokens)
        steps = memory.own["keys0"].shape[1]
        value = value + positions(value.new_empty(1, steps + 1, value.shape[1]))[-1]
        padding = memory.shared["padding"]
        weights, after = padding, dict[str, Tensor]()
        for number, block in enumerate(self._blocks()):
            names = f"keys{number}", f"values{number}"
            past, states = ((kept[names[0]], kept[names[1]]) for kept in (memory.own, memory.shared))
            value, present, weights = block.step(value, past, states, padding)
            after |= dict(zip(names, present, strict=True))
        return self._logits(value).log_softmax(-1), memory.after(**after), weights

    def forward(self, states: Tensor, lengths: Tensor, tokens: Tensor) -> Tensor:
        """As `Decoder`. Its own symbols are those of a first pass with the right ones (Mihaylova & Martins 2019)."""
        states, padding = self._states(states, lengths)
        if self.training and self.scheduled_sampling:
            with torch.no_grad():
                own = self._pass(states, padding, tokens).argmax(-1)
            tokens = torch.cat([tokens[:, :1], replaced(tokens[:, 1:], own[:, :-1], self.scheduled_sampling)], 1)
        return self._pass(states, padding, tokens)

    def _blocks(self) -> list[DecoderBlock]:
        return [cast(DecoderBlock, block) for block in self.blocks]

    def _states(self, states: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        padding = ~valid(lengths, states)
        # An utterance without frames would have nothing to look at.
        padding[:, 0] &= lengths > 0
        return self.state_norm(states), padding

    def _pass(self, states: Tensor, padding: Tensor, tokens: Tensor) -> Tensor:
        values = self.embedding(tokens)
        values = self.dropout(values + positions(values))
        steps = tokens.shape[1]
        later = torch.ones(steps, steps, dtype=torch.bool, device=tokens.device).triu(1)
        for block in self.blocks:
            values = block(values, states, tgt_mask=later, memory_key_padding_mask=padding, tgt_is_causal=True)
        return self._logits(values)

    def _logits(self, values: Tensor) -> Tensor:
        return nn.functional.pad(self.choice(self.norm(values)), (1, 0), value=-torch.inf)
