"""Figures along training: loss and word error rate, similarity of layers to later checkpoints, when each settled."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from numpy.typing import NDArray

from otoscope.base import BadInput, choose
from otoscope.show.reading import (
    amount,
    attribute,
    demand,
    epoch_ticks,
    layer_names,
    measure_name,
    plot_text,
)
from otoscope.show.style import AXIS, CATEGORIES, FAINT_INK, SYMBOLS, Panels, blank_figure, depth_colours

# Above this ratio of the largest to the smallest loss a linear axis shows one cliff and a flat line.
LOG_FROM_RATIO = 25


def training_curves(history: xr.Dataset) -> Panels:
    """Loss and word error rate by epoch: two panels.

    Args:
        history: dimension `epoch` (0 is the untrained network); variables `train_loss` and `heldout_loss` (CTC loss,
            nats per utterance) and `wer` (percent, held out), NaN where not measured. Attributes `train_utterances`,
            `heldout_utterances`, `heldout_words`.

    Raises:
        BadInput: a variable, a dimension or a count is missing.
    """
    what = "training history"
    demand(history, what, ("epoch",), ("train_loss", "heldout_loss", "wer"))
    epochs = history["epoch"].values
    trained_on = amount(attribute(history, "train_utterances", what), "training utterance")
    held_out = amount(attribute(history, "heldout_utterances", what), "held-out utterance")
    words = amount(attribute(history, "heldout_words", what), "word")

    loss = blank_figure("Loss", f"N = {trained_on}, {held_out}", height_px=290)
    values = np.concatenate([history["train_loss"].values, history["heldout_loss"].values])
    positive = values[np.isfinite(values) & (values > 0)]
    log = positive.size > 0 and positive.max() / positive.min() > LOG_FROM_RATIO
    for place, (name, variable) in enumerate((("training", "train_loss"), ("held out", "heldout_loss"))):
        loss.add_trace(_curve(epochs, history[variable].values, name, place, "%{y:.3g} nats per utterance"))
    _epoch_axis(loss, epochs)
    loss.update_yaxes(
        title_text="CTC loss (nats per utterance)",
        type="log" if log else "linear",
        rangemode="normal" if log else "tozero",
        **({"dtick": "D2" if positive.max() / positive.min() < 200 else 1, "tickformat": "~g"} if log else {}),
    )

    wer = blank_figure("Word error rate", f"N = {words}, held out", height_px=290)
    wer.add_trace(_curve(epochs, history["wer"].values, "held out", 1, "%{y:.1f} %"))
    _epoch_axis(wer, epochs)
    wer.update_yaxes(title_text="word error rate (%)", rangemode="tozero")
    return loss, wer


def similarity_through_training(similarity: xr.Dataset, to: str = "last") -> Panels:
    """Similarity of every layer to itself in another checkpoint, by epoch: one panel per measure.

    Ollerenshaw et al. 2021, Figures 2 to 4.

    Args:
        similarity: dimensions `measure`, `layer` (first layer first), `epoch` (0 is the untrained network); variables
            `to_last` and `to_next`, 0 to 1, NaN where there is none. Attributes `utterances` and `frames`.
        to: `"last"` (the final checkpoint) or `"next"` (the checkpoint one epoch later).

    Raises:
        BadInput: a variable, a dimension or a count is missing.
        BadOption: another `to`.
    """
    what = "similarity through training"
    variable = f"to_{choose('checkpoint to compare with', to, ('last', 'next'))}"
    demand(similarity, what, ("measure", "layer", "epoch"), (variable,))
    values = similarity[variable].transpose("measure", "layer", "epoch")
    epochs = similarity["epoch"].values
    layers = list(similarity["layer"].values)
    names = layer_names(layers)
    low = float(values.min()) if bool(values.notnull().any()) else 0.0
    floor = min(0.9, math.floor(10 * (low - 0.02)) / 10)
    panels = []
    for measure in similarity["measure"].values:
        figure = blank_figure(
            f"{plot_text(measure_name(measure))} with the {to} checkpoint",
            _fixed_input(similarity, what),
            height_px=330,
        )
        rows = values.sel(measure=measure).values
        for full, name, colour, row in zip(layers, names, depth_colours(len(names)), rows, strict=True):
            figure.add_trace(
                go.Scatter(
                    x=epochs,
                    y=row,
                    name=plot_text(name),
                    mode="lines+markers" if len(epochs) <= 30 else "lines",
                    line={"color": colour, "width": 2},
                    marker={"size": 4.5, "color": colour},
                    hovertemplate=f"{plot_text(full)}, epoch %{{x}}: %{{y:.3f}}<extra></extra>",
                    showlegend=True,
                    cliponaxis=False,
                )
            )
        _epoch_axis(figure, epochs)
        figure.update_yaxes(
            title_text=f"{plot_text(measure_name(measure))} (0 to 1)", range=[floor, 1.0 + 0.02 * (1 - floor)]
        )
        panels.append(figure)
    return tuple(panels)


def convergence(epochs: xr.DataArray, *, tolerance: float, last_epoch: int) -> go.Figure:
    """The epoch from which each layer stays within `tolerance` of its last similarity: dots, first layer at the bottom.

    Args:
        epochs: dimensions `measure`, `layer` (first layer first); NaN where a layer never settled. Attributes
            `utterances` and `frames`.
        tolerance: how far from the last checkpoint still counts as settled (similarity, 0 to 1).
        last_epoch: number of the last epoch, the end of the axis.

    Raises:
        BadInput: a dimension or a count is missing, or an epoch lies outside 0 to `last_epoch`.
    """
    what = "convergence epochs"
    demand(epochs, what, ("measure", "layer"))
    values = epochs.transpose("measure", "layer").values.astype(float)
    finite = values[np.isfinite(values)]
    if finite.size and (finite.min() < 0 or finite.max() > last_epoch):
        raise BadInput(
            "an epoch outside the run", got=f"{finite.min():g} to {finite.max():g}", wanted=f"0 to {last_epoch}"
        )
    names = layer_names(list(epochs["layer"].values))
    measures = epochs["measure"].values
    figure = blank_figure(
        f"Epoch from which a layer stays within {tolerance:g} of its last state",
        _fixed_input(epochs, what),
        height_px=90 + 30 * len(names),
    )
    rows = np.arange(len(names), dtype=float)
    step = epoch_ticks(last_epoch)
    beyond = last_epoch + step
    spread = 0.36 * (np.arange(len(measures)) - (len(measures) - 1) / 2) / max(1, len(measures) - 1)
    for place, (measure, row) in enumerate(zip(measures, values, strict=True)):
        settled = np.isfinite(row)
        # A layer that never settled stands open beyond the last epoch: it must not vanish from the chart.
        x = np.where(settled, row, beyond)
        texts = [
            f"{plot_text(name)}, {plot_text(measure_name(measure))}: "
            + (f"epoch {epoch:g}" if done else "never settled")
            for name, epoch, done in zip(names, row, settled, strict=True)
        ]
        colour, symbol = CATEGORIES[place % len(CATEGORIES)], SYMBOLS[place % len(SYMBOLS)]
        figure.add_trace(
            go.Scatter(
                x=x,
                y=rows + spread[place],
                name=plot_text(measure_name(measure)),
                mode="markers",
                marker={
                    "size": 11,
                    "color": colour,
                    "symbol": [symbol if done else f"{symbol}-open" for done in settled],
                },
                text=texts,
                hovertemplate="%{text}<extra></extra>",
                showlegend=True,
                cliponaxis=False,
            )
        )
    never = bool((~np.isfinite(values)).any())
    ticks = list(range(0, last_epoch + 1, step))
    texts = [str(tick) for tick in ticks]
    if never:
        ticks, texts = [*ticks, beyond], [*texts, "never"]
        figure.add_vline(x=(last_epoch + beyond) / 2, line={"color": AXIS["light"], "width": 1, "dash": "dash"})
    figure.update_xaxes(
        title_text="epoch (0 = untrained)",
        range=[-0.5, beyond + max(0.5, 0.06 * beyond) if never else last_epoch + 0.5],
        tickvals=ticks,
        ticktext=texts,
    )
    figure.update_yaxes(
        title_text="layer (first at the bottom)",
        tickvals=rows,
        ticktext=[plot_text(name) for name in names],
        range=[-0.7, len(names) - 0.3],
    )
    return figure


def _fixed_input(data: xr.Dataset | xr.DataArray, what: str) -> str:
    utterances = amount(attribute(data, "utterances", what), "utterance")
    return f"N = {amount(attribute(data, 'frames', what), 'frame')} of {utterances}"


def _curve(epochs: NDArray[Any], values: NDArray[Any], name: str, place: int, hover: str) -> go.Scatter:
    return go.Scatter(
        x=epochs,
        y=values,
        name=name,
        mode="lines+markers",
        line={"color": CATEGORIES[place], "width": 2.5, "dash": ("solid", "dash")[place]},
        marker={"size": 6, "color": CATEGORIES[place], "symbol": SYMBOLS[place]},
        hovertemplate=f"{name}, epoch %{{x}}: {hover}<extra></extra>",
        showlegend=True,
        cliponaxis=False,
    )


def _epoch_axis(figure: go.Figure, epochs: NDArray[Any]) -> None:
    first, last = float(epochs.min()), float(epochs.max())
    margin = max(0.35, 0.025 * (last - first))
    figure.update_xaxes(
        title_text="epoch (0 = untrained)" if first == 0 else "epoch",
        tick0=0,
        dtick=epoch_ticks(int(last)),
        range=[first - margin, last + margin],
    )
    if first == 0 and last > 0:
        # What stands on this line was there before any training.
        figure.add_vline(x=0, line={"color": FAINT_INK["light"], "width": 1, "dash": "dot"}, layer="below")
