"""The one training loop, for every network: a checkpoint of the untrained one and of every epoch, exact resumption.

Everything random in an epoch (order, masks, noise, dropout) is drawn from seeds that depend on the run's seed and the
epoch alone. So a run that was killed and started again goes on from its last whole epoch and, on the CPU, ends with the
same bits as one that was not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ConfigDict, Field
from torch import Tensor, nn

from otoscope.base import BadInput, Progress, derive_seed, fingerprint, silent
from otoscope.hear.audio import pad_batch
from otoscope.learn.augment import Masks, Perturbation
from otoscope.learn.checkpoint import checkpoint_path, read_log, save_checkpoint, save_tensors
from otoscope.learn.examples import Example, bucketed, features_of
from otoscope.learn.networks import build
from otoscope.learn.parallel import Item, Team, team
from otoscope.learn.recogniser import Recogniser, RecogniserConfig
from otoscope.learn.resume import begin_with, board, claim, optimiser_tensors, resume, write_log
from otoscope.learn.score import Counts, score_texts

# How many batches running may have a loss that is not finite.
STRANGE = 3


class TrainConfig(Masks):
    """Options of the training; saved in the run. Unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(default=18, gt=0)
    batch_size: int = Field(default=8, gt=0)
    learning_rate: float = Field(default=2e-3, gt=0, description="the highest there will be")
    schedule: Literal["cosine", "noam"] = Field(
        default="cosine", description="after the warm-up: a half cosine to nothing, or the inverse square root of steps"
    )
    warmup: float = Field(default=0.05, ge=0, lt=1, description="share of all steps over which the rate rises")
    weight_decay: float = Field(default=0.01, ge=0)
    gradient_clip: float = Field(default=5.0, gt=0)
    patience: int | None = Field(
        default=None, gt=0, description="epochs without a lower held-out loss after which training stops"
    )
    perturb: Perturbation = Perturbation()
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="of the matrix products; auto: bfloat16 where it is faster, on GPUs that multiply it natively, and "
        "for wav2letter on processors that do",
    )
    seed: int = 0


def has_amx() -> bool:
    """Whether the processor has matrix units for bfloat16."""
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)())


def gains_by_bfloat16(network: Recogniser, device: torch.device) -> bool:
    """Whether a network trains faster so: any on a GPU with matrix units for bfloat16, some on a processor with AMX.

    A processor gains where large products are most of the work. LSTM and attention layers make many small ones, whose
    operands have to be converted: with `small` networks and batches of many lengths a step in bfloat16 took 0.5 times
    what it takes in float32 for wav2letter, 0.97 for two convolutions and LSTM layers, 0.99 for LSTM layers alone, and
    1.2 for a transformer.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return network.bfloat16_on_cpu and has_amx()


EpochReport = Callable[[dict[str, Any]], None]


def train(
    folder: Path,
    network_config: RecogniserConfig,
    config: TrainConfig,
    examples: Callable[[Recogniser], tuple[Sequence[Example], Sequence[Example]]],
    *,
    corpus: dict[str, Any] | None = None,
    start: Path | None = None,
    device: str = "auto",
    workers: int | None = None,
    progress: Progress = silent,
    on_epoch: EpochReport = lambda entry: None,
) -> nn.Module:
    """Train, or go on training, the run in `folder`; returns the network of the last epoch in `eval()`.

    Started by `torchrun` on several devices, each takes its part of every batch, and the first one writes.

    Args:
        folder: the run's folder; what it holds already is continued when it was made with the same settings.
        network_config: of the network to build.
        config: the options.
        examples: gives the training and the held-out examples for the network; called only when there is work left.
        corpus: facts that identify the corpus; a run is not continued on another one.
        start: a checkpoint with whose weights the training begins, in place of random ones; epoch 0 holds them.
        device: "cpu", "cuda", or "auto": a GPU where there is one.
        workers: processes that compute features which are not in memory, beside the training; left out, one beside a
            CPU and up to 8 beside a GPU, where there are cores for them.
        progress: called after each batch with batches done, batches in all, and a note.
        on_epoch: called with each epoch's log entry.

    Raises:
        BadCheckpoint: the folder holds a run with other settings, or its files cannot be read; `start` is of another
            network.
        BadInput: there are no examples, or the loss is not finite three times running or in a whole epoch.
        BadOption: a device that is not there.
    """
    settings = {
        "network": network_config.model_dump(mode="json"),
        "train": config.model_dump(mode="json"),
        "corpus": corpus or {},
        "start": {"weights": fingerprint(start)} if start else {},
    }
    facts = {"corpus": settings["corpus"], "train": settings["train"]}
    defaults = {"network": type(network_config)().model_dump(), "train": TrainConfig().model_dump()}
    state_path = folder / "state.safetensors"
    processes = team(device)
    torch.manual_seed(derive_seed(config.seed, "weights"))
    network = build(network_config)
    if start and not checkpoint_path(folder, 0).is_file():
        begin_with(network, start)
    if processes.first:
        claim(folder, settings, defaults)
        if not checkpoint_path(folder, 0).is_file():
            save_checkpoint(checkpoint_path(folder, 0), network.eval(), {"epoch": 0, **facts})
    processes.wait()
    claim(folder, settings, defaults)
    network.to(processes.device)
    optimiser = torch.optim.AdamW(
        network.parameters(),
        lr=config.learning_rate,
        betas=(0.9, 0.98),
        weight_decay=config.weight_decay,
        fused=True,
    )
    done = resume(folder, state_path, network, optimiser)
    log = read_log(folder)[: done + 1]
    processes.wait()
    if len(log) == done + 1 and (done >= config.epochs or stopped(log, config.patience)):
        return network.eval()
    training, heldout = examples(network)
    if not training:
        raise BadInput("there is nothing to train on", got="no usable utterance", wanted="at least one")
    if workers is None:
        workers = min(1 if processes.device.type == "cpu" else 8, (os.cpu_count() or 1) - 1)
    if not processes.first:
        progress, on_epoch = silent, _nowhere
    loop = _Loop(network, optimiser, config, processes, workers, progress)
    with board(folder, done if log else -1) if processes.first else contextlib.nullcontext(_nowhere) as show:
        if not log:
            log.append(
                {"epoch": 0, "train_loss": None, **evaluate(network, heldout, processes=processes), "seconds": 0.0}
            )
            if processes.first:
                write_log(folder, log)
            show(log[-1])
            on_epoch(log[-1])
        for epoch in range(done + 1, config.epochs + 1):
            if stopped(log, config.patience):
                break
            started = time.monotonic()
            train_loss = loop.epoch(training, epoch)
            entry = {"epoch": epoch, "train_loss": train_loss, **evaluate(network, heldout, processes=processes)}
            entry["seconds"] = round(time.monotonic() - started, 3)
            log.append(entry)
            if processes.first:
                save_checkpoint(checkpoint_path(folder, epoch), network, {"epoch": epoch, **facts})
                write_log(folder, log)
                # Last, for it says that the epoch is done: a run killed before this trains the epoch again.
                save_tensors(state_path, optimiser_tensors(optimiser), {"epoch": epoch})
            show(entry)
            on_epoch(entry)
    processes.wait()
    return network.eval()


def _nowhere(entry: dict[str, Any]) -> None:
    """Only the first process tells of an epoch."""


def stopped(log: Sequence[dict[str, Any]], patience: int | None) -> bool:
    """Whether the held-out loss has not fallen below its lowest for `patience` epochs."""
    losses = [entry["heldout_loss"] for entry in log if entry.get("heldout_loss") is not None]
    if patience is None or not losses:
        return False
    # A loss that is not a number is no lowest.
    lowest = min(range(len(losses)), key=lambda epoch: losses[epoch] if math.isfinite(losses[epoch]) else math.inf)
    return len(losses) - 1 - lowest >= patience


@torch.no_grad()
def evaluate(
    network: Recogniser,
    examples: Sequence[Example],
    batch_size: int = 32,
    *,
    processes: Team | None = None,
) -> dict[str, Any]:
    """Loss per utterance in nats, its parts where it has some, and the word errors of the network's quickest decoding.

    The examples are those held out, unchanged; the network is in `eval()` afterwards.
    """
    if not examples:
        return {}
    processes = processes or Team(0, 1, next(network.parameters()).device)
    network.eval()
    ordered = sorted(processes.share(examples), key=lambda example: len(example.features))
    losses = dict.fromkeys(network.loss_names, 0.0)
    pairs = []
    for start in range(0, len(ordered), batch_size):
        batch = ordered[start : start + batch_size]
        features, lengths = pad_batch([example.heard() for example in batch])
        found, ids = network.losses_and_ids(
            features.to(processes.device), lengths.to(processes.device), [example.targets for example in batch]
        )
        for name, values in found.items():
            losses[name] += float(values.sum())
        pairs += [(example.text, network.units.decode(numbers)) for example, numbers in zip(batch, ids, strict=True)]
    counts = dataclasses.astuple(score_texts(pairs))
    numbers = torch.tensor([*losses.values(), *counts], dtype=torch.float64, device=processes.device)
    sums = processes.sum(numbers).tolist()
    named = {f"heldout_{name}": value / len(examples) for name, value in zip(losses, sums[: len(losses)], strict=True)}
    return {**named, **Counts(*map(int, sums[len(losses) :])).as_dict()}


class _Loop:
    """Passes over the examples that teach a network."""

    def __init__(
        self,
        network: Recogniser,
        optimiser: torch.optim.Optimizer,
        config: TrainConfig,
        processes: Team,
        workers: int,
        progress: Progress,
    ):
        self.network, self.optimiser, self.config = network, optimiser, config
        self.processes, self.workers, self.progress = processes, workers, progress
        self.objective = processes.objective(network)
        self.half = config.precision == "bfloat16" or (
            config.precision == "auto" and gains_by_bfloat16(network, processes.device)
        )

    def epoch(self, examples: Sequence[Example], epoch: int) -> float:
        """One pass over the examples; the mean loss per utterance in nats."""
        config, processes = self.config, self.processes
        self.network.train()
        rng = random.Random(derive_seed(config.seed, "epoch", epoch))
        # Each process drops out units of its own.
        torch.manual_seed(derive_seed(config.seed, "dropout", epoch, *([processes.rank] if processes.rank else [])))
        batches = bucketed(examples, config.batch_size, rng, shuffled=epoch > 1)
        steps = len(batches)
        total_loss, used, strange = 0.0, 0, 0
        heard = features_of([self._mine(batch) for batch in batches], epoch, self.network.output_length, self.workers)
        for index, (batch, items) in enumerate(zip(batches, heard, strict=True)):
            step = (epoch - 1) * steps + index
            for group in self.optimiser.param_groups:
                group["lr"] = config.learning_rate * rate(step, steps * config.epochs, config)
            loss = self._step(batch, self._masked(batch, items, rng, epoch))
            if loss is None:
                strange += 1
                # An epoch of one or two batches never counts to three.
                if strange == min(STRANGE, steps):
                    raise BadInput(
                        "the loss was not finite "
                        + ("three times running" if strange == STRANGE else "in a whole epoch"),
                        got=f"epoch {epoch}, utterances {self._culprits(batch, epoch)}",
                        remedy="look at these, or lower the learning rate; the checkpoints of earlier epochs are whole",
                    )
            else:
                strange = 0
                total_loss, used = total_loss + loss * len(batch), used + len(batch)
            note = f"epoch {epoch}, loss {total_loss / max(used, 1):.1f}"
            self.progress(step + 1, steps * config.epochs, note)
        self.network.eval()
        return total_loss / max(used, 1)

    def _mine(self, batch: Sequence[Item]) -> Sequence[Item]:
        """This process's part of a batch; where there is none, its first, which does not count."""
        return self.processes.share(batch) or batch[:1]

    def _masked(
        self, batch: Sequence[Example], items: Sequence[Tensor], rng: random.Random, epoch: int
    ) -> Sequence[Tensor]:
        """This process's features with masks: those that one process alone would have drawn."""
        if all(isinstance(example.features, Tensor) for example in batch):
            return self._mine([self.config.masked(example.heard(), rng) for example in batch])
        seeds = [derive_seed(self.config.seed, "masks", epoch, example.id) for example in self._mine(batch)]
        return [self.config.masked(item, random.Random(seed)) for item, seed in zip(items, seeds, strict=True)]

    def _step(self, batch: Sequence[Example], items: Sequence[Tensor]) -> float | None:
        """Learn from one batch; the loss per utterance, or None where it, or its gradient, was not finite.

        Then nothing has changed: neither the weights nor the statistics of batch normalisation.
        """
        network, processes = self.network, self.processes
        before = [buffer.clone() for buffer in network.buffers()]
        features, lengths = pad_batch(items)
        # All processes pad alike, as one alone would: batch normalisation sees the padding.
        missing = processes.largest(features.shape[1]) - features.shape[1]
        features = nn.functional.pad(features, (0, 0, 0, missing)).to(processes.device)
        targets = [example.targets for example in self._mine(batch)]
        with torch.autocast(processes.device.type, torch.bfloat16, enabled=self.half):
            losses = self.objective(features, lengths.to(processes.device), targets)["loss"]
        loss = losses.sum() / len(batch)
        if not processes.share(batch):
            loss = loss * 0
        value = float(processes.sum(loss.detach().clone()))
        if math.isfinite(value):
            self.optimiser.zero_grad(set_to_none=True)
            # The processes' gradients are averaged, their losses were to be added.
            (loss * processes.size).backward()
            norm = nn.utils.clip_grad_norm_(network.parameters(), self.config.gradient_clip)
            if torch.isfinite(norm):
                self.optimiser.step()
                return value
        for buffer, kept in zip(network.buffers(), before, strict=True):
            buffer.copy_(kept)
        return None

    @torch.no_grad()
    def _culprits(self, batch: Sequence[Example], epoch: int) -> str:
        """The ids of utterances whose own loss is not finite; the batch's where each is finite alone."""
        self.network.eval()
        found = []
        for example in self._mine(batch):
            features, lengths = pad_batch([example.heard(epoch)])
            features, lengths = features.to(self.processes.device), lengths.to(self.processes.device)
            if not torch.isfinite(self.network.losses(features, lengths, [example.targets])["loss"]).all():
                found.append(example.id)
        found = found or [example.id for example in batch]
        return ", ".join(found[:5]) + (" …" if len(found) > 5 else "")


def rate(step: int, steps: int, config: TrainConfig) -> float:
    """The share of the full learning rate at a step, from 0 on.

    A linear rise over the warm-up, its first step included; then a half cosine down to nothing, or the inverse square
    root of the steps (Vaswani et al. 2017, Eq. 3).
    """
    rising = config.warmup * steps
    if step < rising:
        return (step + 1) / rising
    if config.schedule == "noam":
        return math.sqrt(max(rising, 1.0) / (step + 1))
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1.0, steps - rising)))
