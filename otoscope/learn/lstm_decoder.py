"""An LSTM decoder with additive attention (Bahdanau et al. 2015; Ollerenshaw et al. 2021, Eq. 7)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from otoscope.learn.decoder_memory import DecoderMemory, by_utterance
from otoscope.learn.recogniser import valid
from otoscope.learn.seq2seq import Decoder, replaced


class AdditiveAttention(nn.Module):
    """Weights a_t = softmax_t(v · tanh(W s + U h_t)) of states h_t for a query s, and the context Σ a_t h_t.

    Bahdanau et al. 2015, section A.1.2; the bias is U's.
    """

    def __init__(self, query_units: int, state_units: int, units: int):
        super().__init__()
        self.query = nn.Linear(query_units, units, bias=False)
        self.key = nn.Linear(state_units, units)
        self.score = nn.Linear(units, 1, bias=False)

    def keys(self, states: Tensor) -> Tensor:
        """U h_t, which every step shares: `(batch, frame, unit)`."""
        return self.key(states)

    def forward(self, queries: Tensor, keys: Tensor, states: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
        """Queries `(batch × place, unit)`, as many of each utterance; keys and states `(batch, frame, unit)`.

        `padding` `(batch, frame)` is true where none is.

        Returns: contexts `(batch × place, unit)` and weights `(batch × place, frame)`, 0 in padding, 1 in all.
        """
        asked = by_utterance(self.query(queries), len(keys))
        scores = self.score(torch.tanh(asked[:, :, None] + keys[:, None])).squeeze(3)
        weights = scores.masked_fill(padding[:, None], -torch.inf).softmax(2)
        return torch.bmm(weights, states).flatten(0, 1), weights.flatten(0, 1)


class LstmDecoder(Decoder):
    """ŷ_u = LSTM(c_u, y_{u-1}, ŷ_{u-1}): the context is sought with the state before, and read with the symbol before.

    Several layers stand upon each other; the context is that of the last one's state. The symbol is chosen from state
    and context together.
    """

    def __init__(
        self,
        *,
        symbols: int,
        end: int,
        state_units: int,
        embedding: int,
        units: int,
        layers: int,
        attention_units: int,
        dropout: float,
        scheduled_sampling: float,
    ):
        super().__init__()
        self.end, self.scheduled_sampling = end, scheduled_sampling
        self.embedding = nn.Embedding(symbols, embedding)
        self.attention = AdditiveAttention(units, state_units, attention_units)
        inputs = [embedding + state_units] + [units] * (layers - 1)
        self.cells = nn.ModuleList(nn.LSTMCell(size, units) for size in inputs)
        self.dropout = nn.Dropout(dropout)
        # All symbols but CTC's blank.
        self.choice = nn.Linear(units + state_units, symbols - 1)
        self.units = units

    def start(self, states: Tensor, lengths: Tensor) -> DecoderMemory:
        """As `Decoder`."""
        states = states.float()
        zeros = states.new_zeros(len(states), len(self.cells), self.units)
        padding = ~valid(lengths, states)
        # An utterance without frames would have nothing to look at.
        padding[:, 0] &= lengths > 0
        shared = {"states": states, "padding": padding, "keys": self.attention.keys(states)}
        return DecoderMemory(shared, {"hidden": zeros, "cell": zeros.clone()})

    def step(self, tokens: Tensor, memory: DecoderMemory) -> tuple[Tensor, DecoderMemory, Tensor]:
        """As `Decoder`."""
        read, memory, weights = self._read(self.embedding(tokens), memory)
        return self._logits(read).log_softmax(-1), memory, weights

    def forward(self, states: Tensor, lengths: Tensor, tokens: Tensor) -> Tensor:
        """As `Decoder`."""
        # Small products step by step gain nothing from halved precision, and sums over long sentences lose by it.
        with torch.autocast(states.device.type, enabled=False):
            memory = self.start(states, lengths)
            sampling = self.scheduled_sampling if self.training else 0.0
            given = self.dropout(self.embedding(tokens)).unbind(1)
            found: list[Tensor] = []
            for step, symbol in enumerate(given):
                if sampling and found:
                    own = self._logits(found[-1].detach()).argmax(-1)
                    symbol = self.dropout(self.embedding(replaced(tokens[:, step], own, sampling)))
                read, memory, _ = self._read(symbol, memory)
                found.append(read)
            return self._logits(torch.stack(found, 1))

    def _logits(self, read: Tensor) -> Tensor:
        return nn.functional.pad(self.choice(read), (1, 0), value=-torch.inf)

    def _read(self, symbol: Tensor, memory: DecoderMemory) -> tuple[Tensor, DecoderMemory, Tensor]:
        """What a symbol is chosen from, state and context `(batch, unit)`; the memory after it; and the attention."""
        hidden, cell = memory.own["hidden"].unbind(1), memory.own["cell"].unbind(1)
        context, weights = self.attention(hidden[-1], *(memory.shared[name] for name in ("keys", "states", "padding")))
        value = torch.cat([symbol, context], 1)
        new_hidden, new_cell = [], []
        for number, layer in enumerate(self.cells):
            output, kept = layer(value, (hidden[number], cell[number]))
            new_hidden.append(output)
            new_cell.append(kept)
            value = self.dropout(output)
        after = memory.after(hidden=torch.stack(new_hidden, 1), cell=torch.stack(new_cell, 1))
        return torch.cat([value, context], 1), after, weights
