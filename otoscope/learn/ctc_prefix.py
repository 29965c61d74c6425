"""What CTC gives all sentences that begin with a prefix, for the joint search (Watanabe et al. 2017; Hori et al. 2017).

With `γⁿ_t(h)` and `γᵇ_t(h)` the probability of all paths through the first `t` frames that collapse to `h` and end in
its last symbol, or in a blank (Watanabe et al. 2017, algorithm 2), `y_t` the posteriors of frame `t`, and

    φ_t(h, c) = γᵇ_{t-1}(h) + γⁿ_{t-1}(h) unless c is the last symbol of h

a path that writes `c` after `h` does so in some frame, and what comes after is free, so that all sentences which begin
with `h c` have together

    ψ(h c) = Σ_t φ_t(h, c) y_t(c)

and `h` as the whole sentence has `γⁿ_T(h) + γᵇ_T(h)`. The recursions over frames

    γⁿ_t(h c) = (γⁿ_{t-1}(h c) + φ_t(h, c)) y_t(c)        γᵇ_t(h c) = (γᵇ_{t-1}(h c) + γⁿ_{t-1}(h c)) y_t(blank)

are linear and solved for all frames at once, as cumulative sums of logarithms.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from otoscope.base import BadOption
from otoscope.learn.decode import require_normalised
from otoscope.learn.decoder_memory import DecoderMemory, by_utterance

# The logarithm of a posterior that is 0, so that sums of logarithms stay numbers.
NEVER = -1000.0


class CtcPrefix:
    """Prefix scores of the hypotheses of a batch of utterances, step by step beside a decoder.

    Args:
        log_probabilities: CTC's, `(batch, frame, symbol)`.
        lengths: valid frames of each utterance, `(batch,)`.
        blank: which symbol is CTC's blank.
        end: the symbol that ends a sentence. What CTC itself gives it, where it has such a symbol, says nothing.

    Raises:
        BadInput: log-probabilities that do not add up to 1 in each valid frame.
        BadOption: an end that is the blank.
    """

    def __init__(self, log_probabilities: Tensor, lengths: Tensor, blank: int, end: int):
        self.blank, self.end = blank, end
        values = log_probabilities.double()
        padding = torch.arange(values.shape[1], device=values.device) >= lengths[:, None]
        require_normalised(values[~padding], "CTC")
        if end == blank:
            raise BadOption("the end of a sentence cannot be CTC's blank", got=end, wanted="another number")
        # Padding is certain blank, which changes nothing.
        silent = torch.full((values.shape[2],), -math.inf, dtype=values.dtype, device=values.device)
        silent[blank] = 0
        self.values = torch.where(padding[:, :, None], silent, values)

    def start(self, utterances: Tensor) -> DecoderMemory:
        """The memory of the empty hypothesis of each of these utterances, `(utterance,)`.

        Its own tensors are `symbol` and `blank`, log γⁿ and log γᵇ `(hypothesis, 1 + frame)`, from no frames to all;
        `last`, the latest symbol, the end for none; and `prefix`, log ψ, `(hypothesis,)`.
        """
        values = self.values[utterances]
        blanks = values[:, :, self.blank].clamp(min=NEVER).cumsum(1)
        none = blanks.new_zeros(len(blanks), 1)
        own = {
            "symbol": torch.full_like(torch.cat([none, blanks], 1), -math.inf),
            "blank": torch.cat([none, blanks], 1),
            "last": torch.full((len(blanks),), self.end, device=values.device),
            "prefix": none.flatten(),
        }
        return DecoderMemory({"values": values, "chances": values.exp(), "blanks": blanks}, own)

    def step(self, tokens: Tensor, memory: DecoderMemory) -> tuple[Tensor, DecoderMemory]:
        """The hypotheses with `tokens` `(hypothesis,)` at their ends, the end for none, and what may follow.

        Returns: `log ψ(h c) - log ψ(h)` for every symbol and, at `end`, that of the whole sentence,
        `(hypothesis, symbol)`; -inf for the blank. And the memory, to be given to the next step.
        """
        memory = self._lengthened(tokens, memory)
        own, chances = memory.own, memory.shared["chances"]
        before = torch.logaddexp(own["symbol"], own["blank"])
        free = before[:, :-1]
        # Products of probabilities, each hypothesis in proportion to its greatest: far faster than sums of logarithms.
        # What float64 then cannot hold is 10^300 times less than that.
        top = free.max(1, keepdim=True).values.clamp(min=-1e300)
        sums = torch.bmm(by_utterance((free - top).exp(), len(chances)), chances).flatten(0, 1)
        found = sums.new_full((len(sums), max(sums.shape[1], self.end + 1)), -math.inf)
        found[:, : sums.shape[1]] = sums.log() + top
        # The symbol that was last can only come again after a blank.
        again = own["last"] != self.end
        last = torch.where(again, own["last"], 0)
        repeated = torch.logsumexp(own["blank"][:, :-1] + self._posteriors(last, memory), 1)
        rows = torch.arange(len(last), device=last.device)
        found[rows, last] = torch.where(again, repeated, found[rows, last])
        found[:, self.end] = before[:, -1]
        found[:, self.blank] = -math.inf
        prefix = own["prefix"][:, None]
        # A sentence has no more than what begins with it; rounding may say otherwise by a hair.
        gained = (found - prefix.clamp(min=-1e300)).clamp(max=0)
        memory.own["following"] = found
        return torch.where(prefix == -math.inf, prefix, gained), memory

    def _lengthened(self, tokens: Tensor, memory: DecoderMemory) -> DecoderMemory:
        """γ of the hypotheses with these tokens at their ends."""
        own = memory.own
        new = tokens != self.end
        if not new.any():
            return memory.after(**own)
        symbol = torch.where(new, tokens, 0)
        posteriors = self._posteriors(symbol, memory).clamp(min=NEVER)
        blanks = memory.shared["blanks"].repeat_interleave(len(tokens) // len(memory.shared["blanks"]), 0)
        free = torch.where(own["last"] == symbol, -math.inf, own["symbol"].T).T.logaddexp(own["blank"])[:, :-1]
        so_far = posteriors.cumsum(1)
        ending = so_far + torch.logcumsumexp(free - so_far + posteriors, 1)
        none = torch.full_like(ending[:, :1], -math.inf)
        in_symbol = torch.cat([none, ending], 1)
        # The first blank after it is in the second frame at the earliest.
        before = blanks[:, :-1]
        waiting = blanks[:, 1:] + torch.logcumsumexp(ending[:, :-1] - before, 1)
        in_blank = torch.cat([none, none, waiting], 1)
        prefix = own["following"].gather(1, symbol[:, None]).squeeze(1)
        chosen = {"symbol": in_symbol, "blank": in_blank, "last": tokens, "prefix": prefix}
        return memory.after(
            **{
                name: torch.where(new.view(-1, *[1] * (value.dim() - 1)), value, own[name])
                for name, value in chosen.items()
            }
        )

    @staticmethod
    def _posteriors(symbols: Tensor, memory: DecoderMemory) -> Tensor:
        """log y_t of one symbol `(hypothesis,)` of each hypothesis, `(hypothesis, frame)`."""
        values = memory.shared["values"]
        places = by_utterance(symbols, len(values))
        picked = values.gather(2, places[:, None].expand(-1, values.shape[1], -1))
        return picked.transpose(1, 2).flatten(0, 1)
