"""The one training loop: CTC on graphemes, a checkpoint of the untrained network and of every epoch, exact resumption.

Everything random in an epoch (order, masks, dropout) is drawn from seeds that depend on the run's seed and the epoch
alone. So a run that was killed and started again goes on from its last whole epoch and, on the CPU, ends with the same
bits as one that was not.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from otoscope.base import BadCheckpoint, BadInput, Progress, derive_seed, silent, write_json, write_text
from otoscope.hear.audio import pad_batch
from otoscope.hear.text import encode
from otoscope.learn.checkpoint import (
    checkpoint_path,
    load_checkpoint,
    load_tensors,
    read_log,
    save_checkpoint,
    save_tensors,
)
from otoscope.learn.decode import greedy
from otoscope.learn.networks import build
from otoscope.learn.recogniser import Recogniser
from otoscope.learn.score import Counts, score_texts


class TrainConfig(BaseModel):
    """Options of the training; saved in the run. Unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(default=18, gt=0)
    batch_size: int = Field(default=8, gt=0)
    learning_rate: float = Field(default=2e-3, gt=0)
    warmup: float = Field(default=0.05, ge=0, lt=1, description="share of all steps over which the rate rises")
    weight_decay: float = Field(default=0.01, ge=0)
    gradient_clip: float = Field(default=5.0, gt=0)
    mask_mels: int = Field(default=20, ge=0, description="widest band of mel bins masked in an utterance (SpecAugment)")
    mask_frames: int = Field(default=8, ge=0, description="longest stretch of frames masked in an utterance")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="of the matrix products; auto: bfloat16 where the processor multiplies it natively"
    )
    seed: int = 0


def natively_bfloat16() -> bool:
    """Whether this machine has matrix units for bfloat16: a GPU, or a processor with AMX."""
    return torch.cuda.is_available() or bool(getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)())


@dataclass(frozen=True)
class Example:
    """One utterance ready for training or scoring: features `(frame, mel)`, target symbols, and the text as given."""

    id: str
    features: Tensor
    targets: Tensor
    text: str


EpochReport = Callable[[dict[str, Any]], None]


def make_example(id: str, features: Tensor, text: str, network: Recogniser) -> Example:
    """Check that a network can learn an utterance.

    Raises:
        BadInput: a character that is no symbol, an empty transcript, or a transcript longer than the network's output.
    """
    targets = torch.tensor(encode(text, network.symbols), dtype=torch.long)
    if len(targets) == 0:
        raise BadInput(f"{id}: there is no text to learn", got=repr(text), wanted="a transcript")
    # CTC needs a frame for each symbol and one for the blank between two equal ones.
    needed = len(targets) + int((targets[1:] == targets[:-1]).sum())
    frames = network.output_length(len(features))
    if needed > frames:
        raise BadInput(
            f"{id}: the transcript is longer than the network's output",
            got=f"{needed} symbols (with the blanks between repeated ones)",
            wanted=f"at most {frames} frames of output",
            remedy="check that the transcript belongs to the recording",
        )
    return Example(id, features, targets, text)


def train(
    folder: Path,
    network_config: BaseModel,
    config: TrainConfig,
    examples: Callable[[Recogniser], tuple[Sequence[Example], Sequence[Example]]],
    *,
    corpus: dict[str, Any] | None = None,
    progress: Progress = silent,
    on_epoch: EpochReport = lambda entry: None,
) -> nn.Module:
    """Train, or go on training, the run in `folder`; returns the network of the last epoch in `eval()`.

    Args:
        folder: the run's folder; what it holds already is continued when it was made with the same settings.
        network_config: of the network to build.
        config: the options.
        examples: gives the training and the held-out examples for the network; called only when there is work left.
        corpus: facts that identify the corpus; a run is not continued on another one.
        progress: called after each batch with batches done, batches in all, and a note.
        on_epoch: called with each epoch's log entry.

    Raises:
        BadCheckpoint: the folder holds a run with other settings, or its files cannot be read.
        BadInput: there are no examples, or the loss is not finite three times running or in a whole epoch.
    """
    settings = {
        "network": network_config.model_dump(mode="json"),
        "train": config.model_dump(mode="json"),
        "corpus": corpus or {},
    }
    _claim(folder, settings)
    state_path = folder / "state.safetensors"
    torch.manual_seed(derive_seed(config.seed, "weights"))
    network = build(network_config)
    facts = {"corpus": corpus or {}, "train": settings["train"]}
    if not checkpoint_path(folder, 0).is_file():
        save_checkpoint(checkpoint_path(folder, 0), network.eval(), {"epoch": 0, **facts})
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=config.weight_decay, fused=True
    )
    done = _resume(folder, state_path, network, optimiser)
    log = read_log(folder)[: done + 1]
    if done >= config.epochs and len(log) == config.epochs + 1:
        return network.eval()
    training, heldout = examples(network)
    if not training:
        raise BadInput("there is nothing to train on", got="no usable utterance", wanted="at least one")
    if not log:
        log.append({"epoch": 0, "train_loss": None, **evaluate(network, heldout), "seconds": 0.0})
        _write_log(folder, log)
        on_epoch(log[-1])
    steps = math.ceil(len(training) / config.batch_size)
    for epoch in range(done + 1, config.epochs + 1):
        started = time.monotonic()
        train_loss = _train_epoch(network, optimiser, training, config, epoch, steps, progress)
        entry = {"epoch": epoch, "train_loss": train_loss, **evaluate(network, heldout)}
        entry["seconds"] = round(time.monotonic() - started, 2)
        save_checkpoint(checkpoint_path(folder, epoch), network, {"epoch": epoch, **facts})
        log.append(entry)
        _write_log(folder, log)
        # Last, for it says that the epoch is done: a run killed before this trains the epoch again.
        save_tensors(state_path, _optimiser_tensors(optimiser), {"epoch": epoch})
        on_epoch(entry)
    return network.eval()


def evaluate(network: Recogniser, examples: Sequence[Example], batch_size: int = 32) -> dict[str, Any]:
    """CTC loss per utterance in nats and the word errors of greedy decoding on held-out examples."""
    if not examples:
        return {}
    loss, pairs = 0.0, []
    for batch, logits, lengths in outputs(network, examples, batch_size):
        loss += float(_ctc(logits, lengths, batch, network.blank))
        texts = greedy(logits, lengths, network.symbols, network.blank)
        pairs += [(example.text, text) for example, text in zip(batch, texts, strict=True)]
    counts: Counts = score_texts(pairs)
    return {"heldout_loss": loss / len(examples), **counts.as_dict()}


@torch.no_grad()
def outputs(
    network: Recogniser, examples: Sequence[Example], batch_size: int = 32
) -> Iterator[tuple[Sequence[Example], Tensor, Tensor]]:
    """Batches of examples, longest together, with their logits and lengths; the network in `eval()`."""
    network.eval()
    ordered = sorted(examples, key=lambda example: len(example.features))
    for start in range(0, len(ordered), batch_size):
        batch = ordered[start : start + batch_size]
        yield (batch, *network(*pad_batch([example.features for example in batch])))


def _train_epoch(
    network: Recogniser,
    optimiser: torch.optim.Optimizer,
    examples: Sequence[Example],
    config: TrainConfig,
    epoch: int,
    steps: int,
    progress: Progress,
) -> float:
    """One pass over the examples; the mean loss per utterance in nats."""
    network.train()
    rng = random.Random(derive_seed(config.seed, "epoch", epoch))
    torch.manual_seed(derive_seed(config.seed, "dropout", epoch))
    total_loss, used, strange = 0.0, 0, 0
    half = config.precision == "bfloat16" or (config.precision == "auto" and natively_bfloat16())
    for index, batch in enumerate(_bucketed(examples, config.batch_size, rng, shuffled=epoch > 1)):
        step = (epoch - 1) * steps + index
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * _schedule(step, steps * config.epochs, config.warmup)
        features, lengths = pad_batch([_masked(example.features, config, rng) for example in batch])
        with torch.autocast(features.device.type, torch.bfloat16, enabled=half):
            logits, output_lengths = network(features, lengths)
        loss = _ctc(logits.float(), output_lengths, batch, network.blank) / len(batch)
        if not torch.isfinite(loss):
            strange += 1
            # An epoch of one or two batches never counts to three.
            if strange == min(3, steps):
                raise BadInput(
                    "the loss was not finite " + ("three times running" if strange == 3 else "in a whole epoch"),
                    got=f"epoch {epoch}, utterances {', '.join(example.id for example in batch[:5])} …",
                    remedy="lower the learning rate; the checkpoints of earlier epochs are whole",
                )
            continue
        strange = 0
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), config.gradient_clip)
        optimiser.step()
        total_loss, used = total_loss + float(loss.detach()) * len(batch), used + len(batch)
        progress(step + 1, steps * config.epochs, f"epoch {epoch}, loss {total_loss / used:.1f}")
    network.eval()
    return total_loss / max(used, 1)


def _ctc(logits: Tensor, lengths: Tensor, batch: Sequence[Example], blank: int) -> Tensor:
    """The CTC loss summed over a batch, in nats."""
    targets = torch.cat([example.targets for example in batch])
    target_lengths = torch.tensor([len(example.targets) for example in batch])
    log_probabilities = logits.log_softmax(-1).transpose(0, 1)
    return nn.functional.ctc_loss(log_probabilities, targets, lengths, target_lengths, blank=blank, reduction="sum")


def _bucketed(
    examples: Sequence[Example], batch_size: int, rng: random.Random, *, shuffled: bool
) -> list[list[Example]]:
    """Batches of examples of like length, so that little is padding: in random order, or from short to long.

    Short ones first, in the first epoch, spare CTC much of its search for an alignment (Amodei et al. 2016).
    """
    jittered = sorted(examples, key=lambda example: len(example.features) * rng.uniform(0.9, 1.1))
    batches = [jittered[start : start + batch_size] for start in range(0, len(jittered), batch_size)]
    if shuffled:
        rng.shuffle(batches)
    return batches


def _masked(features: Tensor, config: TrainConfig, rng: random.Random) -> Tensor:
    """One band of mel bins and one stretch of frames set to 0, the mean (Park et al. 2019)."""
    if not (config.mask_mels or config.mask_frames):
        return features
    features = features.clone()
    for axis, widest in ((1, config.mask_mels), (0, config.mask_frames)):
        width = rng.randint(0, min(widest, features.shape[axis]))
        start = rng.randint(0, features.shape[axis] - width)
        features.narrow(axis, start, width).zero_()
    return features


def _schedule(step: int, steps: int, warmup: float) -> float:
    """Linear rise over the warm-up, then a half cosine down to nothing; a share of the full learning rate."""
    rising = warmup * steps
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1.0, steps - rising)))


def _claim(folder: Path, settings: dict[str, Any]) -> None:
    """Write the settings into a new run, or check that an old one has the same."""
    path = folder / "run.json"
    if not path.is_file():
        write_json(path, settings)
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadCheckpoint("the run's settings cannot be read", got=f"{path}: {error}", wanted="JSON") from error
    settings = json.loads(json.dumps(settings))
    differing = [
        f"{part}.{key}: {found.get(part, {}).get(key)} there, {settings[part].get(key)} here"
        for part in settings
        for key in sorted({*settings[part], *found.get(part, {})})
        if settings[part].get(key) != found.get(part, {}).get(key)
    ]
    if differing:
        raise BadCheckpoint(
            f"{folder} holds a run with other settings",
            got="; ".join(differing),
            wanted="the same, to go on with it",
            remedy="name another folder, or remove this one",
        )


def _resume(folder: Path, state_path: Path, network: Recogniser, optimiser: torch.optim.Optimizer) -> int:
    """Load the last whole epoch, if there is one; returns its number, 0 when training starts now."""
    if not state_path.is_file():
        network.load_state_dict(load_checkpoint(checkpoint_path(folder, 0)).state_dict())
        return 0
    tensors, facts = load_tensors(state_path)
    epoch = int(facts["epoch"])
    network.load_state_dict(load_checkpoint(checkpoint_path(folder, epoch)).state_dict())
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        number, _, key = name.partition(".")
        state.setdefault(int(number), {})[key] = tensor
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    return epoch


def _optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state under flat names: `parameter number.key`."""
    state = optimiser.state_dict()["state"]
    return {
        f"{number}.{key}": torch.as_tensor(value) for number, values in state.items() for key, value in values.items()
    }


def _write_log(folder: Path, log: Sequence[dict[str, Any]]) -> None:
    write_text(folder / "log.jsonl", "".join(json.dumps(entry) + "\n" for entry in log))
