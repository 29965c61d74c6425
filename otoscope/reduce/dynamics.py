"""Similarity through training: when a layer has become what it stays, in which order of depth, and how surely."""

from __future__ import annotations

import numpy as np
import scipy.stats
import xarray as xr

from otoscope.base import BadInput, choose

TOLERANCE = 0.05
CONFIDENCE = 0.95
# Relative changes below this are the rounding of float32 weights.
ROUNDING = 1e-6
# A deeper layer follows if its distance grows by this factor at the same epoch.
FOLLOWS = 1.2
# Distances of layers that stay the same do not become zero.
SMALLEST_DISTANCE = 1e-3


def converged_from(to_last: xr.DataArray, tolerance: float = TOLERANCE) -> xr.DataArray:
    """The first epoch from which a layer's similarity with the last epoch never again falls below `1 - tolerance`.

    Args:
        to_last: similarity with the last epoch, with a dimension `epoch` whose last value is 1 by definition. A NaN
            counts as below: nothing says that the layer was the same then.
        tolerance: what still counts as the same, in units of the measure.

    Returns:
        The epoch, without the dimension `epoch`; NaN where only the last one qualifies, which says nothing.
    """
    below = ~(to_last >= 1 - tolerance)
    axis = to_last.get_axis_num("epoch")
    epochs = to_last["epoch"].values
    # How many epochs from the end qualify without a break.
    reversed_below = np.flip(below.values, axis)
    stays = np.where(reversed_below.any(axis), reversed_below.argmax(axis), len(epochs))
    first = np.where(stays > 1, epochs[len(epochs) - np.maximum(stays, 1)], np.nan)
    dims = [name for name in to_last.dims if name != "epoch"]
    coords = {name: to_last[name] for name in dims if name in to_last.coords}
    attrs = {"long_name": f"epoch from which the similarity with the last stays above {1 - tolerance:g}"}
    return xr.DataArray(first, dims=dims, coords=coords, attrs=attrs)


def bottom_up(converged: xr.DataArray) -> xr.DataArray:
    """Spearman's rank correlation of depth with the epoch of convergence: 1 where layers settle strictly bottom-up.

    Ollerenshaw et al. 2021 see by eye that shallow layers settle first; this puts a number to it.

    Args:
        converged: what `converged_from` returns, with a dimension `layer` from shallow to deep. NaN, a layer that does
            not settle before the last epoch, counts as the last epoch: it ranks after every layer that settles.

    Returns:
        The correlation in [-1, 1], without the dimension `layer`; -1 is top-down. NaN where there is no order to speak
        of, because all layers settle at the same epoch or there is only one; the attribute `notes` then says so.
    """
    axis = converged.get_axis_num("layer")
    layers = converged.sizes["layer"]
    epochs = np.moveaxis(np.where(np.isnan(converged.values), np.inf, converged.values), axis, -1)
    dims = [name for name in converged.dims if name != "layer"]
    found = xr.DataArray(
        np.array([_rank_correlation(row) for row in epochs.reshape(-1, layers)]).reshape(epochs.shape[:-1]),
        dims=dims,
        coords={name: converged[name] for name in dims if name in converged.coords},
        attrs={"long_name": "rank correlation of depth with the epoch of convergence"},
    )
    undefined = int(np.isnan(found.values).sum())
    if undefined:
        why = "one layer has no order" if layers < 2 else f"all {layers} layers settle at the same epoch"
        many = f" ({undefined} of {found.size})" if found.size > 1 else ""
        found.attrs["notes"] = f"no rank correlation of depth with convergence: {why}{many}"
    return found


def converged_with_interval(
    to_last: xr.DataArray, leave_one_out: xr.DataArray, tolerance: float = TOLERANCE, confidence: float = CONFIDENCE
) -> xr.Dataset:
    """`converged_from` with what the choice of utterances makes it uncertain by, from a jackknife over groups of them.

    The jackknife is rough for a statistic that jumps from epoch to epoch: where all folds agree, the interval is the
    epoch itself, which means surer than a kept epoch, not exact.

    Args:
        to_last: `(..., epoch)`, similarity with the last epoch over all utterances.
        leave_one_out: the same with a dimension `fold` more: values with one group of utterances left out.
        tolerance: as for `converged_from`.
        confidence: of the interval, in (0, 1).

    Returns:
        `converged` `(...)` and `interval` `(..., bound)` with `bound` low and high, within the epochs. In folds and
        estimate a layer that does not settle counts as the last epoch; both bounds are NaN if it settles in none.

    Raises:
        BadInput: fewer than two folds, or dimensions that differ.
    """
    _check_folds(to_last, leave_one_out)
    epochs = to_last["epoch"].values
    converged, folds = converged_from(to_last, tolerance), converged_from(leave_one_out, tolerance)
    settles = converged.notnull() | folds.notnull().any("fold")
    last = float(epochs[-1])
    interval = _jackknife(converged.fillna(last), folds.fillna(last), confidence, float(epochs[0]), last)
    interval.attrs["long_name"] = f"{confidence:.0%} interval of the epoch of convergence (jackknife over utterances)"
    return xr.Dataset({"converged": converged, "interval": interval.where(settles)})


def bottom_up_with_interval(
    to_last: xr.DataArray, leave_one_out: xr.DataArray, tolerance: float = TOLERANCE, confidence: float = CONFIDENCE
) -> xr.Dataset:
    """`bottom_up` with its jackknife interval; arguments and errors as for `converged_with_interval`.

    Returns:
        `bottom_up` and `interval` `(..., bound)`, within [-1, 1]. Folds without an order are left out; both bounds are
        NaN if fewer than two are left or all utterances together show no order.
    """
    _check_folds(to_last, leave_one_out)
    found = bottom_up(converged_from(to_last, tolerance))
    interval = _jackknife(found, bottom_up(converged_from(leave_one_out, tolerance)), confidence, -1.0, 1.0)
    interval.attrs["long_name"] = f"{confidence:.0%} interval of the rank correlation (jackknife over utterances)"
    return xr.Dataset({"bottom_up": found, "interval": interval})


class Course:
    """The training as arrays `(layer, epoch)`; whatever is missing is NaN throughout."""

    def __init__(self, training: xr.Dataset, measure: str | None):
        wanted = {"measure", "layer", "epoch"}
        if "to_last" not in training or set(training["to_last"].dims) != wanted:
            got = (
                training["to_last"].dims if "to_last" in training else f"the variables {', '.join(map(str, training))}"
            )
            raise BadInput("this is not a course of training", got=got, wanted="to_last (measure, layer, epoch)")
        measures = [str(name) for name in training["measure"].values]
        if measure is None:
            measure = "svcca" if "svcca" in measures else measures[0]
        chosen = training.isel(measure=measures.index(choose("measure", measure, measures)))
        self.layers = [str(name) for name in training["layer"].values]
        self.epochs = [int(epoch) for epoch in training["epoch"].values]
        shape = (len(self.layers), len(self.epochs))

        def read(name: str) -> np.ndarray:
            if name not in chosen:
                return np.full(shape, np.nan)
            values = chosen[name].transpose("layer", "epoch").values.astype(float)
            return np.where(np.isfinite(values), values, np.nan)

        self.to_next, self.to_first, self.across = read("to_next"), read("to_first"), read("across")
        self.change = read("weight_change")[:, :-1]
        units = chosen["units"].values.astype(float) if "units" in chosen else np.full(len(self.layers), np.nan)
        self.units = np.where(units > 0, units, np.nan)
        self.constant = read("constant_units")
        self.share = self.constant / self.units[:, None]
        self.has_weights = bool(np.isfinite(self.change).any())
        self.distance = distance(self.to_next)

    def relative_change(self) -> np.ndarray:
        """Logarithm of each change of weights over that of the other layers at the same time, `(layer, epoch - 1)`.

        "The other layers" is their median; of an even number the larger of the two in the middle, so that of two
        others the one that hardly changes does not make the third look restless. One layer alone stands for itself.
        """
        logs = np.log(self.change, where=self.change > ROUNDING, out=np.full(self.change.shape, np.nan))
        return np.array([logs[i] - _middle(np.delete(logs, i, 0)) for i in range(len(logs))]).reshape(logs.shape)

    def followers(self, layer: int, epoch: int) -> tuple[str, ...]:
        """Deeper layers that are further from the epoch before than the course around this epoch has it."""
        into = self.distance[:, epoch - 1]
        if epoch + 1 < len(self.epochs):
            usual = distance(self.across)[:, epoch]
        else:
            usual = self.distance[:, epoch - 2] if epoch > 1 else np.full(len(self.layers), np.nan)
        return tuple(self.layers[i] for i in range(layer + 1, len(self.layers)) if into[i] > FOLLOWS * usual[i])


def distance(similarity: np.ndarray) -> np.ndarray:
    """The root of one minus the similarity, which for small changes grows with the square of the change."""
    return np.maximum(np.sqrt(np.maximum(1 - similarity, 0)), SMALLEST_DISTANCE) + 0 * similarity


def _rank_correlation(epochs: np.ndarray) -> float:
    if len(np.unique(epochs)) < 2:
        return float("nan")
    # Ranks first: the correlation of ranks has no trouble with infinity.
    return float(np.corrcoef(np.arange(len(epochs)), scipy.stats.rankdata(epochs))[0, 1])


def _jackknife(
    estimate: xr.DataArray, folds: xr.DataArray, confidence: float, lowest: float, highest: float
) -> xr.DataArray:
    """Estimate ± t × standard error, `(..., bound)`; the variance is (K - 1) / K × sum of (fold - mean)^2 over K folds.

    (Efron and Tibshirani 1993, chapter 11, with groups in place of single observations.) Student's t with
    K - 1 degrees of freedom, since the folds are few.
    """
    count = folds.notnull().sum("fold")
    squares = ((folds - folds.mean("fold")) ** 2).sum("fold")
    error = np.sqrt(squares * (count - 1) / count.where(count > 1))
    reach = error * scipy.stats.t.ppf((1 + confidence) / 2, np.maximum(count - 1, 1))
    bounds = xr.concat([estimate - reach, estimate + reach], xr.DataArray(["low", "high"], dims="bound", name="bound"))
    return bounds.clip(lowest, highest).transpose(..., "bound")


def _check_folds(to_last: xr.DataArray, leave_one_out: xr.DataArray) -> None:
    wanted = dict(to_last.sizes)
    got = {name: size for name, size in leave_one_out.sizes.items() if name != "fold"}
    if got != wanted or leave_one_out.sizes.get("fold", 0) < 2:
        raise BadInput(
            "the folds of a jackknife do not fit the whole",
            got=dict(leave_one_out.sizes),
            wanted=f"{wanted} and a dimension 'fold' of at least 2",
        )


def _middle(rows: np.ndarray) -> np.ndarray:
    """The upper median down the columns, NaN where there is none; 0 everywhere if there are no numbers at all."""
    counts = np.isfinite(rows).sum(0)
    if not counts.any():
        return np.zeros(rows.shape[1])
    ordered = np.sort(np.where(np.isfinite(rows), rows, np.inf), 0)
    middle = np.take_along_axis(ordered, np.minimum(counts // 2, len(rows) - 1)[None], 0)[0]
    return np.where(counts > 0, middle, np.nan)
