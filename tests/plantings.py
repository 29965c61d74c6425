"""Small networks that are really trained on frames like speech, healthy or with one illness planted on purpose.

Each run keeps every checkpoint and reads from all of them what `find_pathologies` reads: similarities through training,
changes of weights, constant units. The test knows what was planted, in which layer, from which epoch.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from otoscope.base import BadInput
from otoscope.reduce.moments import Moments
from otoscope.reduce.similarity import similarities

MEASURES = ("svcca", "cka")
BANDS, UTTERANCES, FRAMES, HEARD = 12, 32, 40, 20
LEARNING_RATES = {"adam": (0.002, 0.004), "sgd": (0.03, 0.08)}


@dataclass(frozen=True)
class Setting:
    """One healthy configuration; everything random in it comes from `seed`."""

    seed: int
    hidden: int = 5
    width: int = 28
    kernel: int = 1
    residual: bool = False
    optimiser: str = "adam"
    rate: float = 0.003
    decays: bool = False
    epochs: int = 14
    classes: int = 8
    noise: float = 1.0

    @property
    def layers(self) -> list[str]:
        """Names from the shallowest hidden layer to the output."""
        return [f"hidden{depth}" for depth in range(self.hidden)] + ["output"]


@dataclass(frozen=True)
class Planted:
    """What was made ill. `strength`: noise in deviations of the weights, factor on the rate, or share of dead units."""

    kind: str
    layer: str
    epoch: int | None = None
    strength: float = 0.0


@dataclass(frozen=True)
class Run:
    """Weights and activations `[epoch][layer]` of one training run; activations are `(frame, unit)`."""

    setting: Setting
    network: nn.ModuleList
    states: list[dict[str, Tensor]]
    heard: Tensor


def draw_setting(seed: int) -> Setting:
    """A healthy configuration of the family on which the thresholds were chosen."""
    rng = np.random.default_rng([seed, 1])
    optimiser = str(rng.choice(["adam", "sgd"]))
    return Setting(
        seed=seed,
        hidden=int(rng.integers(3, 6)),
        width=int(rng.integers(24, 33)),
        kernel=int(rng.choice([1, 3])),
        residual=bool(rng.random() < 0.3),
        optimiser=optimiser,
        rate=float(rng.uniform(*LEARNING_RATES[optimiser])),
        decays=bool(rng.random() < 0.5),
        epochs=int(rng.integers(12, 17)),
    )


def draw_other_setting(seed: int) -> Setting:
    """A healthy configuration of another task and size, never looked at when the thresholds were chosen."""
    rng = np.random.default_rng([seed, 2])
    setting = draw_setting(seed)
    return replace(
        setting,
        hidden=int(rng.integers(2, 8)),
        width=int(rng.integers(12, 49)),
        epochs=int(rng.integers(8, 25)),
        classes=int(rng.integers(3, 16)),
        noise=float(rng.uniform(0.4, 2.0)),
    )


def draw_planting(kind: str, seed: int) -> tuple[Setting, Planted]:
    """A configuration and an illness of this kind in a random layer, from a random epoch where it has one.

    Three spikes share one healthy run, since noise in a kept checkpoint does not disturb the training.
    """
    setting = draw_setting(seed // 3 if kind == "spike" else seed)
    rng = np.random.default_rng([seed, 3])
    layer = str(rng.choice(setting.layers))
    if kind == "spike":
        return setting, Planted(kind, layer, int(rng.integers(1, setting.epochs + 1)), float(rng.uniform(0.5, 2)))
    if kind == "unsettled":
        return setting, Planted(kind, layer, None, float(np.exp(rng.uniform(np.log(30), np.log(100)))))
    if kind == "dead units":
        # The output has no threshold under which a unit could die.
        layer = str(rng.choice(setting.layers[:-1]))
        return setting, Planted(kind, layer, int(rng.integers(1, setting.epochs + 1)), float(rng.uniform(0.2, 0.6)))
    return setting, Planted(kind, layer, None)


def speech(setting: Setting) -> tuple[Tensor, Tensor]:
    """Utterances of sounds that last a few frames and glide into each other: `(utterance, band, frame)`, and labels."""
    rng = np.random.default_rng([setting.seed, 4])
    sounds = rng.normal(size=(setting.classes, BANDS))
    voices = rng.normal(scale=0.4, size=(UTTERANCES + HEARD, 1, BANDS))
    labels = np.zeros((UTTERANCES + HEARD, FRAMES), int)
    for row in labels:
        lengths = rng.integers(2, 9, size=FRAMES)
        row[:] = np.repeat(rng.integers(setting.classes, size=FRAMES), lengths)[:FRAMES]
    frames = sounds[labels] + voices + rng.normal(scale=setting.noise, size=(*labels.shape, BANDS))
    for t in range(1, FRAMES):
        frames[:, t] = 0.5 * frames[:, t - 1] + 0.5 * frames[:, t]
    return torch.tensor(frames.transpose(0, 2, 1), dtype=torch.float32), torch.tensor(labels)


def train(setting: Setting, planted: Planted | None = None) -> Run:
    """Train and keep a checkpoint before the first and after every epoch. A spike is not planted here."""
    torch.manual_seed(setting.seed)
    sizes = [BANDS] + [setting.width] * setting.hidden + [setting.classes]
    network = nn.ModuleList(nn.Conv1d(a, b, setting.kernel, padding="same") for a, b in pairwise(sizes))
    for layer in network:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)
    at = setting.layers.index(planted.layer) if planted else -1
    groups = []
    for index, layer in enumerate(network):
        if planted and planted.kind == "frozen" and index == at:
            layer.requires_grad_(False)
        else:
            high = planted is not None and planted.kind == "unsettled" and index == at
            groups.append({"params": layer.parameters(), "lr": setting.rate * (planted.strength if high else 1)})
    optimiser = torch.optim.Adam(groups) if setting.optimiser == "adam" else torch.optim.SGD(groups, momentum=0.9)
    lasting = setting.epochs if setting.decays else 10**9
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda done: (1 + np.cos(np.pi * done / lasting)) / 2)

    frames, labels = speech(setting)
    states = [_copy(network)]
    for epoch in range(1, setting.epochs + 1):
        for batch in torch.randperm(UTTERANCES).split(4):
            loss = nn.functional.cross_entropy(hear(network, setting, frames[batch])[-1], labels[batch])
            optimiser.zero_grad()
            loss.backward()
            # Without this a layer with a far too high rate soon holds no finite numbers.
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
        schedule.step()
        if planted and planted.kind == "dead units" and epoch == planted.epoch:
            count = round(planted.strength * setting.width)
            with torch.no_grad():
                network[at].bias[torch.randperm(setting.width)[:count]] = -1e3
        states.append(_copy(network))
    return Run(setting, network, states, frames[UTTERANCES:])


def plant_spike(run: Run, planted: Planted) -> Run:
    """The same run with noise in one layer's weights at one epoch's checkpoint only."""
    name = f"{run.setting.layers.index(planted.layer)}.weight"
    weight = run.states[planted.epoch or 0][name]
    generator = torch.Generator().manual_seed(run.setting.seed + 1000 * (planted.epoch or 0))
    noisy = weight + planted.strength * weight.std() * torch.randn(weight.shape, generator=generator)
    states = [state | {name: noisy} if epoch == planted.epoch else state for epoch, state in enumerate(run.states)]
    return replace(run, states=states)


def hear(network: nn.ModuleList, setting: Setting, frames: Tensor) -> list[Tensor]:
    """What every layer gives, `(utterance, unit, frame)`; a residual layer's own part, before it is added."""
    stream, given = frames, []
    for index, layer in enumerate(network):
        values = layer(stream)
        if index < setting.hidden:
            values = values.relu()
        given.append(values)
        stream = stream + values if setting.residual and values.shape == stream.shape else values
    return given


def measured(run: Run) -> xr.Dataset:
    """The Dataset that `find_pathologies` reads."""
    layers, epochs = run.setting.layers, list(range(len(run.states)))
    last = epochs[-1]
    heard = []
    with torch.no_grad():
        for state in run.states:
            run.network.load_state_dict(state)
            given = hear(run.network, run.setting, run.heard)
            heard.append([values.transpose(1, 2).flatten(0, 1) for values in given])

    shape = (len(MEASURES), len(layers), len(epochs))
    found = {name: np.full(shape, np.nan) for name in ("to_last", "to_next", "to_first", "across")}
    constant = np.zeros(shape[1:])
    for depth in range(len(layers)):
        varies = [bool((values[depth].std(0) > 0).any()) for values in heard]
        constant[depth] = [int((values[depth].std(0) == 0).sum()) for values in heard]
        wanted = {
            "to_last": {epoch: (epoch, last) for epoch in epochs},
            "to_next": {epoch: (epoch, epoch + 1) for epoch in epochs[:-1]},
            "to_first": {epoch: (0, epoch) for epoch in epochs},
            "across": {epoch: (epoch - 1, epoch + 1) for epoch in epochs[1:-1]},
        }
        pairs = {pair for row in wanted.values() for pair in row.values() if varies[pair[0]] and varies[pair[1]]}
        names = {pair: (str(pair[0]), str(pair[1])) for pair in pairs}
        moments = Moments(pairs=[name for name in names.values() if name[0] != name[1]])
        try:
            moments.update({str(epoch): heard[epoch][depth] for epoch in epochs})
        except BadInput:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values = similarities(moments, MEASURES, list(names.values())).values
        for variable, row in wanted.items():
            for epoch, pair in row.items():
                if pair in names:
                    found[variable][:, depth, epoch] = [values[measure][names[pair]] for measure in MEASURES]

    change = np.full(shape[1:], np.nan)
    for depth in range(len(layers)):
        vectors = [torch.cat([s[f"{depth}.weight"].flatten(), s[f"{depth}.bias"]]).double() for s in run.states]
        change[depth, :-1] = [float((b - a).norm() / a.norm()) for a, b in pairwise(vectors)]
    return xr.Dataset(
        {name: (("measure", "layer", "epoch"), values) for name, values in found.items()}
        | {"weight_change": (("layer", "epoch"), change), "constant_units": (("layer", "epoch"), constant)}
        | {"units": ("layer", [run.network[depth].out_channels for depth in range(len(layers))])},
        coords={"measure": list(MEASURES), "layer": layers, "epoch": epochs},
    )


def made_ill(setting: Setting, planted: Planted, healthy: Run | None = None) -> xr.Dataset:
    """Train with this illness, or put the spike into a run that is there already, and measure."""
    if planted.kind == "spike":
        return measured(plant_spike(healthy or train(setting), planted))
    return measured(train(setting, planted))


def _copy(network: nn.ModuleList) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}
