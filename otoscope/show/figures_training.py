"""Figures along training: loss and word error rate, similarity of layers to later checkpoints, when each settled."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from numpy.typing import NDArray

from otoscope.base import BadInput, choose
from otoscope.show.intervals import (
    band,
    fixed_input,
    hover_spans,
    interval_note,
    interval_of,
    level_words,
    noted_figure,
    similarity_floor,
    span_words,
)
from otoscope.show.reading import (
    Table,
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

    Ollerenshaw et al. 2021, Figures 2 to 4. Where the data hold an interval, it is a light band around each line.

    Args:
        similarity: dimensions `measure`, `layer` (first layer first), `epoch` (0 is the untrained network); variables
            `to_last`, `to_next` or `to_first`, 0 to 1, NaN where there is none, and optionally their intervals
            `to_last_interval` and so on, with one more dimension `bound` ("low", "high"). Attributes `utterances` and
            `frames`, optional `level` of the intervals (0 to 1).
        to: `"last"` (the final checkpoint), `"next"` (the checkpoint one epoch later) or `"first"` (the untrained
            network, or the first checkpoint that there is).

    Raises:
        BadInput: a variable, a dimension or a count is missing, or an interval does not fit.
        BadOption: another `to`.
    """
    what = "similarity through training"
    variable = f"to_{choose('checkpoint to compare with', to, ('last', 'next', 'first'))}"
    demand(similarity, what, ("measure", "layer", "epoch"), (variable,))
    order = ("measure", "layer", "epoch")
    values = similarity[variable].transpose(*order)
    ends = interval_of(similarity, variable, what)
    epochs = similarity["epoch"].values
    layers = list(similarity["layer"].values)
    names = [plot_text(name) for name in layer_names(layers)]
    colours = depth_colours(len(names))
    floor = similarity_floor(values, ends)
    notes = [fixed_input(similarity, what), *([interval_note(similarity, "bands")] if ends else [])]
    panels = []
    for measure in similarity["measure"].values:
        called = plot_text(measure_name(measure))
        figure = noted_figure(f"{called} with the {to} checkpoint", notes, height_px=330)
        rows = values.sel(measure=measure).values
        spans = [[""] * len(epochs)] * len(names)
        if ends is not None:
            lows, highs = (end.transpose(*order).sel(measure=measure).values for end in ends)
            spans = [hover_spans(*pair) for pair in zip(lows, highs, strict=True)]
            # All bands below all lines: no line is dimmed by a neighbour's band.
            figure.add_traces(
                [band(epochs, *each, of=len(names)) for each in zip(lows, highs, colours, names, strict=True)]
            )
            figure.update_layout(legend_tracegroupgap=0)
        for full, name, colour, row, span in zip(layers, names, colours, rows, spans, strict=True):
            figure.add_trace(
                go.Scatter(
                    x=epochs,
                    y=row,
                    name=name,
                    mode="lines+markers" if len(epochs) <= 30 else "lines",
                    line={"color": colour, "width": 2},
                    marker={"size": 4.5, "color": colour},
                    hovertemplate=f"{plot_text(full)}, epoch %{{x}}: %{{y:.3f}}<extra></extra>",
                    showlegend=True,
                    cliponaxis=False,
                )
            )
            if ends is not None:
                figure.data[-1].update(
                    legendgroup=name,
                    customdata=span,
                    hovertemplate=f"{plot_text(full)}, epoch %{{x}}: %{{y:.3f}}%{{customdata}}<extra></extra>",
                )
        _epoch_axis(figure, epochs)
        figure.update_yaxes(title_text=f"{called} (0 to 1)", range=[floor, 1.0 + 0.02 * (1 - floor)])
        panels.append(figure)
    return tuple(panels)


def convergence(epochs: Table, *, tolerance: float, last_epoch: int) -> go.Figure:
    """The epoch from which each layer stays within `tolerance` of its last similarity: dots, first layer at the bottom.

    Args:
        epochs: dimensions `measure`, `layer` (first layer first); NaN where a layer never settled. Attributes
            `utterances` and `frames`. A Dataset holds these as `converged`, and optionally `converged_interval`
            (one more dimension `bound`: "low", "high"; error bars), `bottom_up` `(measure,)` (rank correlation of depth
            with convergence, -1 to 1) and `bottom_up_interval` `(measure, bound)`; optional attribute `level`.
        tolerance: how far from the last checkpoint still counts as settled (similarity, 0 to 1).
        last_epoch: number of the last epoch, the end of the axis.

    Raises:
        BadInput: a variable, a dimension or a count is missing, an interval does not fit, or an epoch lies outside 0
            to `last_epoch`.
    """
    what = "convergence epochs"
    table = epochs if isinstance(epochs, xr.Dataset) else epochs.to_dataset(name="converged").assign_attrs(epochs.attrs)
    demand(table, what, ("measure", "layer"), ("converged",))
    values = table["converged"].transpose("measure", "layer").values.astype(float)
    finite = values[np.isfinite(values)]
    if finite.size and (finite.min() < 0 or finite.max() > last_epoch):
        raise BadInput(
            "an epoch outside the run", got=f"{finite.min():g} to {finite.max():g}", wanted=f"0 to {last_epoch}"
        )
    ends = interval_of(table, "converged", what)
    bounds = [end.transpose("measure", "layer").values for end in ends] if ends else [np.full(values.shape, np.nan)] * 2
    names = layer_names(list(table["layer"].values))
    measures = table["measure"].values
    notes = [fixed_input(table, what), *([interval_note(table, "bars")] if ends else []), *_bottom_up(table, what)]
    figure = noted_figure(
        f"Epoch from which a layer stays within {tolerance:g} of its last state", notes, height_px=90 + 30 * len(names)
    )
    rows = np.arange(len(names), dtype=float)
    step = epoch_ticks(last_epoch)
    beyond = last_epoch + step
    spread = 0.36 * (np.arange(len(measures)) - (len(measures) - 1) / 2) / max(1, len(measures) - 1)
    for place, (measure, row, low, high) in enumerate(zip(measures, values, *bounds, strict=True)):
        settled = np.isfinite(row)
        # A layer that never settled stands open beyond the last epoch: it must not vanish from the chart.
        x = np.where(settled, row, beyond)
        texts = [
            f"{plot_text(name)}, {plot_text(measure_name(measure))}: "
            + (f"epoch {epoch:g}{span}" if done else "never settled")
            for name, epoch, done, span in zip(names, row, settled, hover_spans(low, high, ".3g"), strict=True)
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
        if ends is not None:
            # A bar ends where the run does: no layer settles before its start or after its end.
            figure.data[-1].error_x = {
                "type": "data",
                "symmetric": False,
                "array": np.where(settled, np.minimum(high, last_epoch) - row, np.nan),
                "arrayminus": np.where(settled, row - np.maximum(low, 0), np.nan),
                "color": colour,
                "thickness": 1.5,
                "width": 4,
            }
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


def _bottom_up(table: xr.Dataset, what: str) -> list[str]:
    """The bottom-up index of each measure with its interval, where the data hold it."""
    if "bottom_up" not in table.data_vars:
        return []
    demand(table, what, ("measure",), ("bottom_up",))
    ends = interval_of(table, "bottom_up", what)
    words = []
    for measure in table["measure"].values:
        value = float(table["bottom_up"].sel(measure=measure))
        text = "not defined" if not np.isfinite(value) else f"{value:.2f}".replace("-", "−")
        if ends is not None and np.isfinite(value):
            low, high = (float(end.sel(measure=measure)) for end in ends)
            text += f" ({span_words(low, high, '.2f')})"
        words.append(f"{plot_text(measure_name(measure))} {text}")
    head = "bottom-up index" + (f" ({level_words(table)})" if ends is not None else "")
    return [f"{head}: {', '.join(words)}"]


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
