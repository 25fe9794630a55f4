"""The weight study in figures: convergence, accuracy against parameters, response to the rate, ranks in training."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from numpy.typing import ArrayLike, NDArray

from rankscope.plots._style import (
    CYCLE,
    FAINT,
    INK,
    PAGE,
    SMALL,
    AxesArray,
    dress,
    figure_of,
    given_axes,
    new_axes,
    note,
)
from rankscope.plots.curves import staircase

Band = NDArray[np.floating]
"""Values by step and seed (T × N)."""
_DASHES = ("-", (0, (4, 1.5)), (0, (1, 1.2)))
_BAND = 0.95


def convergence(
    accuracy: Mapping[str, Band], train_loss: Mapping[str, Band], *, y: str, axes: AxesArray | None = None
) -> AxesArray:
    """Accuracy in percent and training loss by epoch: the mean over seeds, and the middle 95% of seeds as a band.

    Args:
        accuracy, train_loss: (T × N) by model.
        y: what the accuracy is of.

    Raises:
        ValueError: there is no model, or there are fewer than two axes.
    """
    _check(accuracy)
    if axes is None:
        axes = new_axes(1, 2, size=(PAGE, 2.6 + 0.15 * _legend_lines(accuracy)))
        flat = given_axes(axes, 2)
    else:
        flat = given_axes(axes, 2)
    for ax, curves, name in zip(flat, (accuracy, train_loss), (y, "training loss"), strict=True):
        _bands(ax, curves, first=1)
        dress(ax, x="epoch", y=name)
    flat[1].set_yscale("log")
    flat[1].yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    flat[1].yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    flat[1].yaxis.set_minor_formatter(NullFormatter())
    _legend(flat, accuracy)
    return flat


def ranks_in_training(ranks: Mapping[str, Sequence[Band]], *, axes: AxesArray | None = None) -> AxesArray:
    """The effective rank of each layer by epoch, from before the first one on: one Axes a layer.

    Args:
        ranks: for each model the bands (T + 1 × N) of its layers.

    Raises:
        ValueError: there is no model, or there are fewer axes than layers.
    """
    _check(ranks)
    layers = max(map(len, ranks.values()))
    if axes is None:
        axes = new_axes(1, layers, size=(PAGE, 2.6 + 0.15 * _legend_lines(ranks)))
    flat = given_axes(axes, layers)
    for layer, ax in enumerate(flat):
        _bands(ax, {name: bands[layer] for name, bands in ranks.items() if layer < len(bands)}, first=0, among=ranks)
        dress(ax, title=f"layer {layer + 1}", x="epoch", y="effective rank" if layer == 0 else None)
        ax.set_ylim(bottom=1.0)
    _legend(flat, ranks)
    return flat


def accuracy_against_parameters(results: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Test accuracy with its interval against parameters on a log axis; the Pareto front is a line, its models named.

    Args:
        results: the columns model, parameters, test_accuracy, test_low, test_high, pareto and published.

    Raises:
        ValueError: there is no row.
    """
    _check(results)
    if ax is None:
        ax = new_axes(1, 1, size=(PAGE, 4.2))[0, 0]
    x, mean = results["parameters"].to_numpy(float), results["test_accuracy"].to_numpy(float)
    low, high = (results[name].to_numpy(float) for name in ("test_low", "test_high"))
    front = results["pareto"].to_numpy(bool)
    ends = np.nan_to_num(np.stack([mean - low, high - mean])).clip(min=0)
    for chosen, color in ((~front, FAINT), (front, CYCLE[0])):
        if chosen.any():
            look = {"color": color, "ms": 3.5, "elinewidth": 0.8, "linestyle": "none", "zorder": 3}
            ax.errorbar(x[chosen], mean[chosen], yerr=ends[:, chosen], fmt="o", **look)
    order = np.flatnonzero(front)[np.argsort(x[front], kind="stable")]
    ax.plot(
        x[order], mean[order], color=CYCLE[0], linewidth=0.8, drawstyle="steps-post", zorder=2, label="Pareto front"
    )
    published = pd.to_numeric(results["published"], errors="coerce").to_numpy(float)
    if np.isfinite(published).any():
        ax.plot(x, published, "x", color=CYCLE[1], ms=4, zorder=4, label="published in the brief")
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    dress(ax, x="parameters", y="test accuracy, %")
    _name_points(ax, list(results["model"]), x, mean, front)
    ax.legend(fontsize=SMALL, frameon=False, loc="lower right")
    return ax


def learning_rate_response(
    trials: Mapping[str, tuple[ArrayLike, ArrayLike]], chosen: Mapping[str, float], *, y: str, ax: Axes | None = None
) -> Axes:
    """The score of every trial against its rate, a line a model, the chosen rate marked.

    Args:
        trials: rates and scores in percent by model.
        chosen: the rate chosen, by model.
        y: what the score is.

    Raises:
        ValueError: there is no model.
    """
    _check(trials)
    if ax is None:
        ax = new_axes(1, 1, size=(PAGE, 3.0 + 0.15 * _legend_lines(trials)))[0, 0]
    looks = _looks(trials)
    for name, (rates, scores) in trials.items():
        color, dashes = looks[name]
        order = np.argsort(np.asarray(rates, dtype=float), kind="stable")
        x, height = np.asarray(rates, dtype=float)[order], np.asarray(scores, dtype=float)[order]
        ax.plot(x, height, color=color, linestyle=dashes, linewidth=0.9, marker=".", ms=3.5, label=name)
        best = np.flatnonzero(np.isclose(x, chosen.get(name, math.nan), rtol=1e-9))
        ax.plot(x[best], height[best], "o", color=color, ms=6, markerfacecolor="none")
    ax.set_xscale("log")
    dress(ax, x="learning rate", y=y)
    _legend(np.array([ax]), trials)
    return ax


def staircases(histories: Mapping[str, Sequence[pd.DataFrame]], *, axes: AxesArray | None = None) -> AxesArray:
    """The staircase of every layer of every model, a row a model: its effective rank, and how far it still has to go.

    Raises:
        ValueError: there is no model, or there are too few axes.
    """
    _check(histories)
    layers = max(map(len, histories.values()))
    if axes is None:
        axes = new_axes(len(histories), layers, size=(PAGE, 1.9 * len(histories)))
    flat = given_axes(axes, len(histories) * layers).reshape(len(histories), layers)
    for row, (name, parts) in zip(flat, histories.items(), strict=True):
        for layer, ax in enumerate(row):
            if layer >= len(parts):
                note(ax, "no such layer")
                continue
            staircase(parts[layer], ax=ax)
            legend = ax.get_legend()
            if legend is not None:  # The axes have the colours of their curves.
                legend.remove()
            ax.set_title(f"{name}, layer {layer + 1}", fontsize=SMALL, color=INK, loc="left")
    return flat


def _bands(ax: Axes, curves: Mapping[str, Band], *, first: int, among: Mapping[str, object] | None = None) -> None:
    """Mean lines with bands; a name has the look that it has among all."""
    looks = _looks(among or curves)
    for name, band in curves.items():
        values = np.asarray(band, dtype=float)
        color, dashes = looks[name]
        x = np.arange(first, first + len(values))
        seen = np.isfinite(values).any(1)
        if not seen.any():
            continue
        x, values = x[seen], values[seen]
        marker = "." if len(x) == 1 else None
        mean = np.nanmean(values, axis=1)
        ax.plot(x, mean, color=color, linestyle=dashes, linewidth=1.1, marker=marker, label=name)
        if values.shape[1] > 1:
            low, high = np.nanquantile(values, [(1 - _BAND) / 2, (1 + _BAND) / 2], axis=1)
            ax.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)


def _looks(names: Iterable[str]) -> dict[str, tuple[str, Any]]:
    """A colour and a dash for each name."""
    looks = itertools.cycle([(color, dashes) for dashes, color in itertools.product(_DASHES, CYCLE)])
    return dict(zip(names, looks, strict=False))


def _legend_lines(names: Mapping[str, object]) -> int:
    return math.ceil(len(names) / _columns(names))


def _columns(names: Mapping[str, object]) -> int:
    return max(1, min(len(names), 6, int(115 / (max(map(len, names)) + 7))))


def _legend(axes: AxesArray, names: Mapping[str, object]) -> None:
    handles = {line.get_label(): line for ax in axes for line in ax.get_lines()}
    shown = [handles[name] for name in names if name in handles]
    if shown:
        figure = figure_of(axes[0])
        look = {"fontsize": SMALL, "frameon": False, "ncols": _columns(names)}
        figure.legend(handles=shown, loc="outside lower center", **look)


def _name_points(
    ax: Axes, names: Sequence[str], x: NDArray[np.float64], y: NDArray[np.float64], front: NDArray[np.bool_]
) -> None:
    """Names beside their points where there is room, those on the front first."""
    figure = figure_of(ax)
    figure.draw_without_rendering()
    places = ax.transData.transform(np.column_stack([x, y]))
    scale = 72 / figure.dpi
    taken: list[tuple[float, float, float, float]] = []
    for index in sorted(range(len(names)), key=lambda i: (not front[i], -y[i])):
        if not np.isfinite(y[index]):
            continue
        px, py = places[index] * scale
        width = 0.52 * SMALL * len(names[index])
        for dx, dy in ((4, 4), (4, -8), (-4 - width, 4), (-4 - width, -8)):
            box = (px + dx, py + dy, px + dx + width, py + dy + SMALL)
            if all(box[2] < b[0] or b[2] < box[0] or box[3] < b[1] or b[3] < box[1] for b in taken):
                taken.append(box)
                color = INK if front[index] else FAINT
                look = {"fontsize": SMALL - 0.5, "color": color, "zorder": 5}
                ax.annotate(names[index], (x[index], y[index]), (dx, dy), textcoords="offset points", **look)
                break


def _check(things: Mapping[str, object] | pd.DataFrame) -> None:
    if not len(things):
        raise ValueError("there must be at least one model to draw, got none; run one first")
