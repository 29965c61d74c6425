"""Training of the network from spelling to sound, on a pronouncing dictionary, and how well it does.

A loop of its own: its batches are words, its loss has five parts, and what it keeps are averaged weights. Everything
random in a stretch of steps is drawn from seeds that depend on the run's seed and the step alone, so that a training
that was killed and started again ends with the same bits as one that was not.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

from otoscope.base import BadCheckpoint, BadInput, Progress, derive_seed, silent, write_json, write_text
from otoscope.hear.lexicon import Lexicon, without_stress
from otoscope.learn.checkpoint import load_tensors, read_log, save_tensors
from otoscope.learn.g2p import (
    END,
    PAD,
    START,
    Decoder,
    G2PConfig,
    SpellingToSound,
    save_g2p,
)
from otoscope.learn.g2p_words import IGNORED, Example, aligned, common_chunks, examples, split_words
from otoscope.learn.graphones import Graphones
from otoscope.learn.letters import LetterAligner
from otoscope.learn.train import has_amx


class G2PTraining(BaseModel):
    """Options of the training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(default=20, gt=0)
    batch_size: int = Field(default=256, gt=0, description="words, all of one length")
    learning_rate: float = Field(default=2e-3, gt=0)
    warmup: float = Field(default=0.03, ge=0, lt=1, description="share of all steps over which the rate rises")
    weight_decay: float = Field(default=0.01, ge=0)
    gradient_clip: float = Field(default=1.0, gt=0)
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    averaging: float = Field(default=0.999, ge=0, lt=1, description="of the weights, over steps")
    attention_weight: float = Field(default=0.1, ge=0, description="of the loss that draws attention to the letter")
    stress_weight: float = Field(default=0.2, ge=0, description="of the loss of stress")
    letter_weight: float = Field(default=0.2, ge=0, description="of the loss of each letter's own phones")
    save_every: int = Field(default=100, gt=0, description="steps between states from which it goes on")
    precision: str = Field(default="auto", pattern="^(auto|float32|bfloat16)$")
    seed: int = 0


class _Taught(nn.Module):
    """The network, and what only its training needs: each letter's own phones, told from the encoder."""

    def __init__(self, network: SpellingToSound, chunks: int):
        super().__init__()
        self.network = network
        self.chunks = nn.Linear(2 * network.config.encoder, chunks)


def train_g2p(
    folder: Path,
    lexicon: Lexicon,
    config: G2PConfig | None = None,
    options: G2PTraining | None = None,
    *,
    facts: dict[str, Any] | None = None,
    progress: Progress = silent,
    on_epoch: Callable[[dict[str, Any]], None] = lambda entry: None,
    steps: int | None = None,
) -> SpellingToSound:
    """Train, or go on training, in `folder`; returns the network with averaged weights, in `eval()`.

    The folder gets `run.json`, `log.jsonl` (a line an epoch), `state.safetensors` and, with each epoch,
    `g2p.safetensors`. `steps` ends a call early, at the first saved state after so many steps.

    Raises:
        BadInput: the dictionary has no word to learn from.
        BadCheckpoint: the folder holds a training with other settings.
    """
    config, options = config or G2PConfig(), options or G2PTraining()
    words = split_words(lexicon)
    pairs = [(word, without_stress(spoken)) for word, variants in words.training.items() for spoken in variants]
    settings = {
        "network": config.model_dump(mode="json"),
        "train": options.model_dump(mode="json"),
        "words": {"training": len(words.training), "pronunciations": len(pairs), "heldout": len(words.heldout)},
        **(facts or {}),
    }
    _claim(folder, settings)
    if not pairs:
        raise BadInput("the dictionary has nothing to learn from", got="no word", wanted="words of letters")
    aligner = LetterAligner.fit(pairs)
    graphones = Graphones.fit(aligned(aligner, pairs))
    chunks = common_chunks(aligner, pairs)
    learned = examples(words.training, aligner, chunks)
    torch.manual_seed(derive_seed(options.seed, "g2p weights"))
    network = SpellingToSound(config)
    taught = _Taught(network, len(chunks))
    optimiser = torch.optim.AdamW(
        taught.parameters(), options.learning_rate, (0.9, 0.98), weight_decay=options.weight_decay, fused=True
    )
    averaged = {name: weight.detach().clone() for name, weight in network.state_dict().items()}
    done = _resume(folder / "state.safetensors", taught, averaged, optimiser)
    per_epoch = sum(1 for _ in _batches(learned, options, 1))
    total = per_epoch * options.epochs
    log = [entry for entry in read_log(folder) if entry["step"] <= done["step"]]
    half = options.precision == "bfloat16" or (options.precision == "auto" and has_amx())
    ending = total if steps is None else min(total, done["step"] + steps)
    wall, processor = time.monotonic(), time.process_time()
    while done["step"] < ending:
        epoch, first = divmod(done["step"], per_epoch)
        taught.train()
        for step, batch in enumerate(_batches(learned, options, epoch + 1), epoch * per_epoch):
            if step < epoch * per_epoch + first:
                continue
            if (step - epoch * per_epoch) % options.save_every == 0:
                torch.manual_seed(derive_seed(options.seed, "g2p dropout", step))
            for group in optimiser.param_groups:
                group["lr"] = options.learning_rate * _schedule(step, total, options.warmup)
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                losses = _losses(taught, batch, options)
            loss = sum(losses.values(), torch.zeros(()))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(taught.parameters(), options.gradient_clip)
            optimiser.step()
            _average(averaged, network, min(options.averaging, (1 + step) / (10 + step)))
            done["words"] += len(batch[0])
            done["loss"] += float(losses["onward"].detach() + losses["homeward"].detach()) * len(batch[0])
            done["step"] = step + 1
            over = done["step"] == (epoch + 1) * per_epoch
            progress(done["step"], total, f"epoch {epoch + 1}, loss {done['loss'] / done['words']:.3f}")
            if not over and (step + 1 - epoch * per_epoch) % options.save_every:
                continue
            now = (time.monotonic(), time.process_time())
            done["wall"] += now[0] - wall
            done["processor"] += now[1] - processor
            wall, processor = now
            if over:
                entry = {
                    "epoch": epoch + 1,
                    "step": done["step"],
                    "loss": done["loss"] / done["words"],
                    "wall_s": round(done["wall"], 1),
                    "processor_s": round(done["processor"], 1),
                }
                log.append(entry)
                write_text(folder / "log.jsonl", "".join(json.dumps(entry) + "\n" for entry in log))
                save_g2p(folder / "g2p.safetensors", _with(averaged, config, aligner, graphones, settings))
                on_epoch(entry)
                done["loss"] = done["words"] = 0
            _save_state(folder / "state.safetensors", taught, averaged, optimiser, done)
            if over or done["step"] >= ending:
                break
    return _with(averaged, config, aligner, graphones, settings)


def _with(
    averaged: dict[str, Tensor],
    config: G2PConfig,
    aligner: LetterAligner,
    graphones: Graphones,
    facts: dict[str, Any],
) -> SpellingToSound:
    network = SpellingToSound(config)
    network.load_state_dict(averaged)
    network.aligner, network.graphones, network.facts = aligner, graphones, facts
    return network.eval()


def _batches(learned: Sequence[Example], options: G2PTraining, epoch: int) -> Iterator[list[list[list[int]]]]:
    """Words of one length together, in an order of the epoch's own; fields as lists, phones padded."""
    rng = random.Random(derive_seed(options.seed, "g2p epoch", epoch))
    by_length: dict[int, list[Example]] = defaultdict(list)
    for example in learned:
        by_length[len(example.letters)].append(example)
    found = []
    for _, group in sorted(by_length.items()):
        rng.shuffle(group)
        found += [group[start : start + options.batch_size] for start in range(0, len(group), options.batch_size)]
    rng.shuffle(found)
    for batch in found:
        yield [list(field) for field in zip(*batch, strict=True)]


def _padded(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows])


def _losses(taught: _Taught, batch: list[list[list[int]]], options: G2PTraining) -> dict[str, Tensor]:
    """Each part of the loss, for each phone of a batch of the usual size."""
    letters, phones, stress, owners, chunks = batch
    network = taught.network
    spelt = torch.tensor(letters)
    keys, heard = network.encode(spelt)
    scale = options.batch_size * 7.0
    losses = {}
    end = spelt.shape[1] - 1
    decoders: tuple[tuple[str, Decoder, int], ...] = (("onward", network.onward, 1), ("homeward", network.homeward, -1))
    for name, decoder, turn in decoders:
        previous = _padded([[START, *row[::turn]] for row in phones], PAD)
        targets = _padded([[*row[::turn], END] for row in phones], IGNORED)
        owner = _padded([[*row[::turn], end] for row in owners], IGNORED)
        written = decoder(previous, keys)
        losses[name] = (
            functional.cross_entropy(
                written.phones.float().flatten(0, 1),
                targets.flatten(),
                ignore_index=IGNORED,
                label_smoothing=options.label_smoothing,
                reduction="sum",
            )
            / scale
        )
        for look, share in ((written.first_look, 0.5), (written.attention, 1.0)):
            weights = look.float().clamp_min(1e-6).log().flatten(0, 1)
            loss = functional.nll_loss(weights, owner.flatten(), ignore_index=IGNORED, reduction="sum") / scale
            losses["attention"] = losses.get("attention", 0.0) + options.attention_weight * share * loss
        marks = _padded([[*row[::turn], IGNORED] for row in stress], IGNORED)
        loss = functional.cross_entropy(
            written.stress.float().flatten(0, 1), marks.flatten(), ignore_index=IGNORED, reduction="sum"
        )
        losses["stress"] = losses.get("stress", 0.0) + options.stress_weight * loss / scale
    logits = taught.chunks(heard).float().flatten(0, 1)
    loss = functional.cross_entropy(logits, torch.tensor(chunks).flatten(), ignore_index=IGNORED, reduction="sum")
    losses["letters"] = options.letter_weight * loss / scale
    return losses


def _schedule(step: int, total: int, warmup: float) -> float:
    """Share of the learning rate: rises over the warm-up, then falls along a cosine."""
    rise = max(1, round(total * warmup))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, total - rise)))


def _average(averaged: dict[str, Tensor], network: nn.Module, decay: float) -> None:
    weights = network.state_dict()
    names = list(averaged)
    torch._foreach_lerp_([averaged[name] for name in names], [weights[name] for name in names], 1 - decay)


def _claim(folder: Path, settings: dict[str, Any]) -> None:
    """Write down the settings, or check that the folder holds the same."""
    path = folder / "run.json"
    if not path.is_file():
        write_json(path, settings)
        return
    found = json.loads(path.read_text(encoding="utf-8"))
    differing = sorted(key for key in {*found, *settings} if found.get(key) != settings.get(key))
    if differing:
        raise BadCheckpoint(
            f"{folder} holds a training with other settings",
            got="; ".join(f"{key}: {found.get(key)} there, {settings.get(key)} here" for key in differing),
            wanted="the same, to go on with it",
            remedy="name another folder, or remove this one",
        )


def _save_state(
    path: Path,
    taught: nn.Module,
    averaged: dict[str, Tensor],
    optimiser: torch.optim.Optimizer,
    done: dict[str, Any],
) -> None:
    state = optimiser.state_dict()["state"]
    tensors = {f"weight.{name}": weight for name, weight in taught.state_dict().items()}
    tensors |= {f"average.{name}": weight for name, weight in averaged.items()}
    tensors |= {
        f"optimiser.{number}.{key}": torch.as_tensor(value)
        for number, values in state.items()
        for key, value in values.items()
    }
    save_tensors(path, tensors, done)


def _resume(
    path: Path, taught: nn.Module, averaged: dict[str, Tensor], optimiser: torch.optim.Optimizer
) -> dict[str, Any]:
    """Load the last state, if there is one; returns how far it is."""
    if not path.is_file():
        return {"step": 0, "words": 0, "loss": 0.0, "wall": 0.0, "processor": 0.0}
    tensors, done = load_tensors(path)
    parts: dict[str, dict[str, Tensor]] = {"weight": {}, "average": {}, "optimiser": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = tensor
    taught.load_state_dict(parts["weight"])
    averaged.update(parts["average"])
    state: dict[int, dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in parts["optimiser"].items():
        number, _, key = name.partition(".")
        state[int(number)][key] = tensor
    optimiser.load_state_dict({"state": dict(state), "param_groups": optimiser.state_dict()["param_groups"]})
    return done
