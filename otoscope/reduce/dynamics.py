"""Similarity through training: when a layer has become what it stays."""

from __future__ import annotations

import numpy as np
import xarray as xr


def converged_from(to_last: xr.DataArray, tolerance: float = 0.05) -> xr.DataArray:
    """The first epoch from which a layer's similarity with the last epoch never again falls below `1 - tolerance`.

    Args:
        to_last: similarity with the last epoch, with a dimension `epoch` whose last value is 1 by definition.
        tolerance: what still counts as the same, in units of the measure.

    Returns:
        The epoch, without the dimension `epoch`; NaN where only the last one qualifies, which says nothing.
    """
    below = to_last < 1 - tolerance
    axis = to_last.get_axis_num("epoch")
    epochs = to_last["epoch"].values
    # How many epochs from the end qualify without a break.
    reversed_below = np.flip(below.values, axis)
    stays = np.where(reversed_below.any(axis), reversed_below.argmax(axis), len(epochs))
    first = np.where(stays > 1, epochs[len(epochs) - np.maximum(stays, 1)], np.nan)
    dims = [name for name in to_last.dims if name != "epoch"]
    coords = {name: to_last[name] for name in dims}
    attrs = {"long_name": f"epoch from which the similarity with the last stays above {1 - tolerance:g}"}
    return xr.DataArray(first, dims=dims, coords=coords, attrs=attrs)
