"""Optimal inputs: spectrograms that drive sets of units of a layer as far as they go (Krug et al. 2020, section 3.3).

For a set of units with weights w (+1 to maximise, -1 to minimise; Eq. 2), found by Adam from a start near zero:

    loss = -Σ_n w_n · preact_n + l1/RF · Σ|x| + l2/RF · Σ x²

The sums run over all values of the input x, RF is the number of input frames that one unit of the layer sees, and x has
just that many frames. The units are read at one frame, all of whose field lies inside x. Many sets are optimised
together: the rows of one batch do not see each other.

What a pre-activation is, and where the input lies, is said in `otoscope.probe.preactivations`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from otoscope.base import BadInput, BadOption, Progress, choose, derive_seed, silent
from otoscope.probe.layers import Layer, Survey, list_layers, match_layers
from otoscope.probe.preactivations import Place, UnitReader, differentiable, place_input
from otoscope.probe.taps import INPUT

TARGETS = ("preactivation", "activation")
UNITS_OF_PENALTY = ("field", "gradient")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How an optimal input is found.

    Attributes:
        steps, learning_rate: of Adam.
        start_sd: standard deviation of the normal distribution, mean 0, that the input starts from.
        l1, l2: weights of Σ|x| and Σx².
        tv_time, tv_frequency: weights of the total variation, the sum of absolute differences of neighbouring frames,
            and of neighbouring mel bands.
        jitter: each step sees the input moved by up to so many frames, earlier or later (zeros come in).
        penalty: what the four weights are multiplied with: `"field"`, 1/RF as in the paper; or `"gradient"`, the mean
            absolute gradient of the set's units with respect to the input at the start, so that the result does not
            depend on the scale of the layer.
        target: `"preactivation"`, or the layer's output: `"activation"`.
    """

    steps: int = 16
    learning_rate: float = 0.05
    start_sd: float = 0.001
    l1: float = 15.0
    l2: float = 0.1
    tv_time: float = 0.0
    tv_frequency: float = 0.0
    jitter: int = 0
    penalty: str = "field"
    target: str = "preactivation"


PRESETS = {
    "krug2020": Recipe(),
    "recommended": Recipe(steps=64, l1=1.0, l2=0.5, tv_time=0.5, tv_frequency=0.5, jitter=1, penalty="gradient"),
}


def make_recipe(preset: str = "krug2020", **changes: Any) -> Recipe:
    """A preset with some choices changed; None leaves one as it is.

    Raises:
        BadOption: an unknown preset or choice, or a value out of its range.
    """
    base = PRESETS[choose("preset", preset, PRESETS)]
    known = [field.name for field in dataclasses.fields(Recipe)]
    recipe = dataclasses.replace(
        base, **{choose("option", name, known): value for name, value in changes.items() if value is not None}
    )
    choose("penalty", recipe.penalty, UNITS_OF_PENALTY)
    choose("target", recipe.target, TARGETS)
    for name in ("steps", "jitter"):
        value = getattr(recipe, name)
        if not isinstance(value, int) or value < (name == "steps"):
            raise BadOption(f"{name} of an optimal input", got=repr(value), wanted="a whole number, steps 1 or more")
    for name in ("learning_rate", "start_sd", "l1", "l2", "tv_time", "tv_frequency"):
        value = getattr(recipe, name)
        if not isinstance(value, int | float) or not 0 <= value < math.inf or (name == "learning_rate" and not value):
            raise BadOption(f"{name} of an optimal input", got=repr(value), wanted="0 or more; a learning rate above 0")
    return recipe


class OptimalInputs(NamedTuple):
    """What was found.

    Attributes:
        inputs: `(set, frame, mel)` float32.
        activation: Σ_n w_n · preact_n at the start and after each step, without jitter, `(set, step)` float64.
        gradient: largest absolute gradient of that sum with respect to an input value at the start, `(set,)`.
        penalty: what the weights of the penalties were multiplied with, `(set,)`.
        place: see `Place`.
        target: what was maximised, in words.
    """

    inputs: Tensor
    activation: Tensor
    gradient: Tensor
    penalty: Tensor
    place: Place
    target: str


def optimise_inputs(
    network: nn.Module,
    layer: Layer | str,
    sets: Sequence[Mapping[int, float]],
    *,
    frames: int | None = None,
    recipe: Recipe | None = None,
    seed: int = 0,
    batch_frames: int = 8192,
    survey: Survey | None = None,
    progress: Progress = silent,
) -> OptimalInputs:
    """Find the optimal input of each set of units of a layer.

    Every set starts from the same random values, so that inputs differ by their units alone, and none depends on which
    others are asked for beside it. The network is used in `eval()` and left as it was.

    Args:
        network: see `otoscope.probe.layers.list_layers`.
        layer: name, or `Layer`, of any layer but `"input"`; axes other than batch and frame count as units, flattened.
        sets: for each set its units and their weights, such as `{17: 1, 3: -1}`.
        frames: of the optimal input; left out, as many as a unit sees. Needed where the field has no end.
        recipe: `make_recipe(preset, **changes)`; the numbers of Krug et al. 2020 when left out.
        seed: of the start and the jitter.
        batch_frames: input frames in one batch, all sets together; memory follows it.
        survey: `list_layers(network)` where it is at hand.
        progress: called after each step.

    Raises:
        BadOption: an unknown layer, no set or an empty one, a unit that the layer does not have, a weight that is 0 or
            not finite, `frames` left out for a layer without end or less than the field.
        BadInput: the network does not run, the layer's values or gradients are not finite, or do not depend on the
            input as measured.
    """
    recipe = recipe or make_recipe()
    survey = list_layers(network) if survey is None else survey
    (layer,) = match_layers(survey, [str(layer)])[:1]
    if layer == INPUT:
        raise BadOption("the input has no optimal input", got=repr(INPUT), wanted="a layer after it")
    weights = _weights(layer, sets)
    place = place_input(layer, frames)
    with differentiable(network):
        reader = UnitReader(network, layer, place, survey[0].width, recipe.target)
        rows = max(1, batch_frames // place.length)
        parts: list[tuple[Tensor, ...]] = []
        for at in range(0, len(weights), rows):

            def report(step: int, before: int = at, count: int = min(rows, len(weights) - at)) -> None:
                done = before * recipe.steps + step * count
                progress(done, len(weights) * recipe.steps, f"{len(weights)} optimal inputs of {place.frames} frames")

            parts.append(_optimise(reader, weights[at : at + rows], recipe, seed, report))
    inputs, activation, gradient, penalty = (torch.cat(part) for part in zip(*parts, strict=True))
    return OptimalInputs(inputs, activation, gradient, penalty, place, reader.target)


def _weights(layer: Layer, sets: Sequence[Mapping[int, float]]) -> Tensor:
    """`(set, unit)`, 0 where a unit is not in the set."""
    if not len(sets):
        raise BadOption("no units to find an optimal input for", got="no sets", wanted="at least one set of units")
    weights = torch.zeros(len(sets), layer.width, dtype=torch.float64)
    for row, units in enumerate(sets):
        wrong = [unit for unit in units if not 0 <= unit < layer.width]
        if wrong or not units:
            raise BadOption(
                f"set {row} has units that layer {str(layer)!r} does not have" if wrong else f"set {row} has no units",
                got=", ".join(map(str, wrong)) or "an empty set",
                wanted=f"units 0 to {layer.width - 1}",
            )
        for unit, weight in units.items():
            if not math.isfinite(weight) or weight == 0:
                raise BadOption(f"weight of unit {unit}", got=weight, wanted="+1 to maximise it, -1 to minimise it")
            weights[row, unit] = weight
    return weights


def _optimise(
    reader: UnitReader, weights: Tensor, recipe: Recipe, seed: int, report: Callable[[int], None]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Inputs, activations by step, largest gradient at the start, and scale of the penalties, for one batch of sets."""
    place, count = reader.place, len(weights)
    weights = weights.to(reader.dtype).to(reader.device)
    noise = torch.Generator().manual_seed(derive_seed(seed, "optimal input"))
    start = recipe.start_sd * torch.randn(1, place.frames, reader.mels, generator=noise)
    values = start.to(reader.device, reader.dtype).repeat(count, 1, 1).requires_grad_()
    slope = _slope(reader, values.detach(), weights)
    # The mean is over what a unit sees; in a longer input the rest has no gradient.
    mean = slope.sum((1, 2)) / (place.field * reader.mels)
    scale = torch.full_like(mean, 1 / place.field) if recipe.penalty == "field" else mean
    shifts = torch.Generator().manual_seed(derive_seed(seed, "jitter"))
    adam = torch.optim.Adam([values], lr=recipe.learning_rate)
    trace = []
    for step in range(recipe.steps):
        shift = int(torch.randint(-recipe.jitter, recipe.jitter + 1, (1,), generator=shifts))
        activation = (reader.read(values, shift) * weights).sum(1)
        loss = scale * _penalties(values, recipe) - activation
        (values.grad,) = torch.autograd.grad(loss.sum(), values)
        _demand_finite(reader.layer, activation, values.grad)
        trace.append(_clean(reader, values, weights) if shift else activation.detach())
        adam.step()
        report(step + 1)
    trace.append(_clean(reader, values, weights))
    _demand_finite(reader.layer, trace[-1])
    return (
        values.detach().float().cpu(),
        torch.stack(trace, 1).double().cpu(),
        slope.amax((1, 2)).float().cpu(),
        scale.float().cpu(),
    )


@torch.no_grad()
def _clean(reader: UnitReader, values: Tensor, weights: Tensor) -> Tensor:
    return (reader.read(values) * weights).sum(1)


def _penalties(values: Tensor, recipe: Recipe) -> Tensor:
    """The penalties of each row, before they are scaled."""
    total = recipe.l1 * values.abs().sum((1, 2)) + recipe.l2 * values.square().sum((1, 2))
    if recipe.tv_time:
        total = total + recipe.tv_time * values.diff(dim=1).abs().sum((1, 2))
    if recipe.tv_frequency:
        total = total + recipe.tv_frequency * values.diff(dim=2).abs().sum((1, 2))
    return total


def _slope(reader: UnitReader, start: Tensor, weights: Tensor) -> Tensor:
    """Absolute gradients at the start `(row, frame, mel)`, once it is sure that none lies outside the optimal input."""
    place = reader.place
    after = place.length - place.first - place.frames
    given = nn.functional.pad(start, (0, 0, place.first, after)).requires_grad_()
    activation = (reader.units(given) * weights).sum(1)
    if not activation.requires_grad:
        raise BadInput(
            f"layer {str(reader.layer)!r} cannot be differentiated with respect to the input",
            wanted="a network that computes it with gradients (no torch.no_grad, no rounding, no numpy on the way)",
        )
    (gradient,) = torch.autograd.grad(activation.sum(), given)
    _demand_finite(reader.layer, activation, gradient)
    slope = gradient.abs()
    inside = slope[:, place.first : place.first + place.frames]
    if slope.count_nonzero() > inside.count_nonzero():
        raise BadInput(
            f"units of layer {str(reader.layer)!r} depend on more than was measured",
            got=f"a gradient outside of {place.frames} input frames",
            wanted="a network in which NaN spreads to all that depends on it",
            remedy="give a larger number of frames",
        )
    return inside


def _demand_finite(layer: Layer, *tensors: Tensor) -> None:
    for tensor in tensors:
        if not tensor.isfinite().all():
            rows = (~tensor.isfinite().flatten(1).all(1) if tensor.ndim > 1 else ~tensor.isfinite()).nonzero().flatten()
            raise BadInput(
                f"layer {str(layer)!r} or its gradient is not finite",
                got=f"NaN or infinite for set {', '.join(map(str, rows[:5].tolist()))}",
                remedy="look at the network's weights; a smaller learning rate may help",
            )
