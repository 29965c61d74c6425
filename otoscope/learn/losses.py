"""What networks minimise: the CTC loss, and cross entropy on the next symbol with smoothed labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def ctc_losses(logits: Tensor, lengths: Tensor, targets: Sequence[Tensor], blank: int) -> Tensor:
    """The CTC loss of each utterance in nats, `(batch,)` (Graves et al. 2006).

    Logits `(batch, frame, symbol)` are valid for `lengths` frames each. A target that has no path is infinite.
    """
    with torch.autocast(logits.device.type, enabled=False):
        log_probabilities = logits.float().log_softmax(-1).transpose(0, 1)
        return nn.functional.ctc_loss(
            log_probabilities,
            torch.cat(list(targets)).to(logits.device),
            lengths,
            torch.tensor([len(target) for target in targets], device=lengths.device),
            blank=blank,
            reduction="none",
        )


def next_symbol_losses(logits: Tensor, targets: Sequence[Tensor], end: int, smoothing: float = 0.0) -> Tensor:
    """Cross entropy of each utterance in nats, summed over its symbols and the end, `(batch,)`.

    Args:
        logits: `(batch, step, symbol)`, by a decoder that is given the right symbols before each step. Symbol 0, CTC's
            blank, is never a target and takes no part.
        targets: symbol numbers, one tensor an utterance.
        end: the symbol that follows the last.
        smoothing: this share of each target is spread evenly over all symbols (Szegedy et al. 2016).
    """
    rows = [torch.cat([target, torch.tensor([end])]) for target in targets]
    wanted = nn.utils.rnn.pad_sequence(rows, batch_first=True).to(logits.device)
    with torch.autocast(logits.device.type, enabled=False):
        losses = nn.functional.cross_entropy(
            logits[..., 1:].float().transpose(1, 2),
            wanted - 1,
            # The padding's 0, which is no target.
            ignore_index=-1,
            reduction="none",
            label_smoothing=smoothing,
        )
    return losses.sum(1)
