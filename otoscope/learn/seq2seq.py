"""Networks that write with an attention decoder: what they have in common, whatever encodes and whatever decodes.

The encoder makes states `(batch, frame, unit)` of the features. The decoder writes one symbol after the other, each
from the states it attends to and from the symbols before. A branch with CTC can be trained beside it (Watanabe et al.
2017): that is what `forward` then gives, and what forced alignment and profiles look at.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from otoscope.learn.decode import greedy_ids
from otoscope.learn.decoder_memory import DecoderMemory
from otoscope.learn.losses import ctc_losses, next_symbol_losses
from otoscope.learn.recogniser import Recogniser, RecogniserConfig
from otoscope.learn.units import END


class WriterConfig(RecogniserConfig):
    """What networks with an attention decoder have in common. `symbols` are those of CTC; the end is added to them."""

    ctc_weight: float = Field(default=0.3, ge=0, le=1, description="share of CTC in the loss; 0: no such branch")
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    scheduled_sampling: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="how often the decoder is trained on its own symbol in place of the right one",
    )
    dropout: float = Field(default=0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _check_writer(self) -> WriterConfig:
        if self.blank:
            raise ValueError(f"blank: of a network with a decoder it is symbol 0, not {self.blank}")
        if END in self.symbols:
            raise ValueError(f"symbols: {END} is added to them, and must not be among them")
        return self


class Decoder(nn.Module, ABC):
    """Writes symbol after symbol. `end` begins and ends a sentence; CTC's blank, symbol 0, is never written."""

    end: int
    scheduled_sampling: float = 0.0

    @abstractmethod
    def start(self, states: Tensor, lengths: Tensor) -> DecoderMemory:
        """The memory before the first step, from states `(batch, frame, unit)` valid for `lengths` frames each."""

    @abstractmethod
    def step(self, tokens: Tensor, memory: DecoderMemory) -> tuple[Tensor, DecoderMemory, Tensor]:
        """One step: the last symbols `(batch,)`, at first `end`, and the memory; what was given is left as it is.

        Returns: log probabilities of the next `(batch, symbol)`, -inf for the blank; the memory after it; and how much
        attention each frame got, `(batch, frame)`, 1 in all.
        """

    @abstractmethod
    def forward(self, states: Tensor, lengths: Tensor, tokens: Tensor) -> Tensor:
        """Logits `(batch, step, symbol)` of what follows each of the right symbols `(batch, step)`; the first is `end`.

        In training a share of `scheduled_sampling` of the symbols are the decoder's own (Bengio et al. 2015).
        """

    @torch.no_grad()
    def greedy(self, states: Tensor, lengths: Tensor) -> list[list[int]]:
        """The best symbol at each step, until the end, or until there are as many as frames."""
        memory = self.start(states, lengths)
        tokens = torch.full((len(states),), self.end, device=states.device)
        written, running = [], lengths > 0
        limit = lengths.tolist()
        for _ in range(int(lengths.max())):
            log_probabilities, memory, _ = self.step(tokens, memory)
            tokens = log_probabilities.argmax(-1)
            running = running & (tokens != self.end)
            if not running.any():
                break
            written.append(torch.where(running, tokens, self.end))
        rows = torch.stack(written, 1).tolist() if written else [[] for _ in limit]
        return [[token for token in row if token != self.end][:most] for row, most in zip(rows, limit, strict=True)]


def with_start(targets: Sequence[Tensor], end: int, device: torch.device) -> Tensor:
    """What a decoder is given to predict `targets`: `end`, then each target, padded with `end`; `(batch, step)`."""
    rows = [torch.cat([torch.tensor([end]), target]) for target in targets]
    return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=end).to(device)


def replaced(tokens: Tensor, own: Tensor, share: float) -> Tensor:
    """Symbols, each with a chance of `share` exchanged for the decoder's own; both of one shape."""
    return torch.where(torch.rand(tokens.shape, device=tokens.device) < share, own, tokens)


class AttentionRecogniser(Recogniser):
    """An encoder and, unless it has none, a decoder; `symbols` are then CTC's with the end behind them.

    `forward` gives the logits of the CTC branch, or, where there is none (`has_ctc`), the encoder's last states.

    Attributes:
        decoder: writes; None where the network has CTC alone.
        end: the symbol that begins and ends a sentence.
        output: the module that makes logits of states, where there is CTC.
    """

    config: WriterConfig
    decoder: Decoder | None
    end: int
    output: nn.Module

    def __init__(self, config: WriterConfig, *, has_decoder: bool = True):
        super().__init__(config)
        self.has_ctc = config.ctc_weight > 0 or not has_decoder
        self.end = len(config.symbols)
        if not has_decoder:
            self.decoder = None
        else:
            self.symbols = (*config.symbols, END)
            self.loss_names = ("loss", "ctc", "attention") if self.has_ctc else ("loss",)

    def encode(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The encoder's last states `(batch, frame, unit)` and their lengths."""
        raise NotImplementedError

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features `(batch, frame, mel)` and their lengths in frames to CTC logits `(batch, frame, symbol)` and theirs.

        Without CTC it gives the encoder's states instead.
        """
        states, lengths = self.encode(features, lengths)
        return (self.output(states) if self.has_ctc else states), lengths

    def losses(self, features: Tensor, lengths: Tensor, targets: Sequence[Tensor]) -> dict[str, Tensor]:
        """As `Recogniser`; with CTC and decoder both, `ctc` and `attention` are the parts and `loss` their mean."""
        return self._losses(*self.encode(features, lengths), targets)

    def recognise(self, features: Tensor, lengths: Tensor) -> list[list[int]]:
        """Symbol numbers per utterance: the decoder's best at each step; without one, CTC's."""
        return self._ids(*self.encode(features, lengths))

    def losses_and_ids(
        self, features: Tensor, lengths: Tensor, targets: Sequence[Tensor]
    ) -> tuple[dict[str, Tensor], list[list[int]]]:
        """As `Recogniser`."""
        states, lengths = self.encode(features, lengths)
        return self._losses(states, lengths, targets), self._ids(states, lengths)

    def _ids(self, states: Tensor, lengths: Tensor) -> list[list[int]]:
        if self.decoder is None:
            return greedy_ids(self.output(states), lengths, self.blank)
        return self.decoder.greedy(states, lengths)

    def _losses(self, states: Tensor, lengths: Tensor, targets: Sequence[Tensor]) -> dict[str, Tensor]:
        parts = {}
        if self.has_ctc:
            parts["ctc"] = ctc_losses(self.output(states), lengths, targets, self.blank)
        if self.decoder is not None:
            logits = self.decoder(states, lengths, with_start(targets, self.end, states.device))
            parts["attention"] = next_symbol_losses(logits, targets, self.end, self.config.label_smoothing)
        if len(parts) == 1:
            return {"loss": next(iter(parts.values()))}
        weight = self.config.ctc_weight
        return {"loss": weight * parts["ctc"] + (1 - weight) * parts["attention"], **parts}
