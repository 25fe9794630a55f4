"""The weights of a model while it trains: one look at all of them, their singular values, and their stairs.

Each takes the long table of a RankTracker: a row per step and layer. Steps are shown as step + 1 on a logarithmic axis.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, ScalarFormatter
from numpy.typing import NDArray

from rankscope.plots._style import (
    COLUMN,
    FONT,
    INK,
    PAGE,
    RANK,
    SMALL,
    AxesArray,
    column,
    curve,
    dress,
    figure_of,
    given_axes,
    log_if_positive,
    log_steps,
    new_axes,
    note,
)
from rankscope.plots.curves import shade_plateaus
from rankscope.trace.levels import Plateau

_MOST = 12  # layers of one figure unless more are asked for
_LONGEST = 26  # characters of a name


def layer_heatmap(
    history: pd.DataFrame,
    measure: str = "effective_rank",
    *,
    relative: bool = False,
    layers: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Layers × steps, a cell per recorded row coloured by the measure; grey where it is not finite.

    Args:
        history: of a RankTracker.
        measure: a column of it.
        relative: colour by the factor since each layer's first finite value, blue below one and red above, so that
            layers of different sizes compare.
        layers: which ones, from top to bottom; all, in the order of their first row.

    Raises:
        ValueError: a column is missing, there are no rows, or a layer is not among them.
    """
    names = _names(history, layers, most=None)
    if ax is None:
        ax = new_axes(1, 1, size=(1.5 * COLUMN, 0.9 + 0.2 * max(len(names), 3)))[0, 0]
    grid, steps = _grid(history, measure, names)
    if relative:
        grid = np.array([row / _first_finite(row) for row in grid])
    finite = grid[np.isfinite(grid)]
    norm = _norm(finite, relative=relative)
    colors = mpl.colormaps["RdBu_r" if relative else "viridis"].with_extremes(bad="#DDDDDD")
    edges = _edges(steps + 1.0)
    ax.pcolormesh(edges, np.arange(len(names) + 1), np.ma.masked_invalid(grid), cmap=colors, norm=norm, rasterized=True)
    ax.set_ylim(len(names), 0)
    ax.set_yticks(np.arange(len(names)) + 0.5, [_short(name) for name in names])
    dress(ax, x="step + 1")
    ax.tick_params(axis="y", length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    log_steps(ax)
    ax.set_xlim(edges[0], edges[-1])
    bar = figure_of(ax).colorbar(mpl.cm.ScalarMappable(norm, colors), ax=ax, pad=0.02, aspect=18)
    label = measure.replace("_", " ")
    bar.set_label(f"{label} / its start" if relative else label, fontsize=FONT, color=INK)
    bar.outline.set_linewidth(0)
    bar.ax.tick_params(which="both", labelsize=SMALL, width=0.6, length=2)
    if isinstance(norm, LogNorm):
        bar.ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        bar.ax.yaxis.set_major_formatter(ScalarFormatter())
        bar.ax.yaxis.set_minor_formatter(NullFormatter())
    else:
        bar.locator = MaxNLocator(5)
        bar.update_ticks()
    if relative and np.any(finite != 1):
        bar.ax.set_ylim(finite.min(initial=1.0), finite.max(initial=1.0))  # only what occurs
    return ax


def singular_value_trajectories(
    history: pd.DataFrame, *, layers: Sequence[str] | None = None, axes: AxesArray | None = None
) -> AxesArray:
    """σ₁ … σ_k of each layer against step + 1, dark to light, an Axes each.

    Args:
        layers: which ones; the first twelve.

    Raises:
        ValueError: no singular values were recorded, a layer is unknown, or there are too few axes.
    """
    sigmas = sorted((c for c in history.columns if c.startswith("sigma_")), key=lambda c: int(c.removeprefix("sigma_")))
    if not sigmas:
        raise ValueError("history must have sigma_1 and so on, got none; track with top_k of at least 1")
    names = _names(history, layers, most=_MOST)
    flat = _panels(names, axes)
    shades = mpl.colormaps["viridis"](np.linspace(0.0, 0.85, len(sigmas)))
    for name, ax in zip(names, flat, strict=True):
        rows = history[history["layer"] == name]
        x = column(rows, "step") + 1
        drawn = [
            curve(ax, x, column(rows, sigma), label=f"σ{_subscript(i)}", color=mpl.colors.to_hex(shade))
            for i, (sigma, shade) in enumerate(zip(sigmas, shades, strict=True), 1)
        ]
        dress(ax, title=_short(name))
        if any(drawn):
            log_steps(ax)
            log_if_positive(ax)
        else:
            note(ax, "no finite values")
    _label_outer(flat, "singular value")
    _legend(flat, ncols=len(sigmas))
    return flat


def layer_staircases(
    history: pd.DataFrame,
    plateaus: Mapping[str, Iterable[Plateau]] | None = None,
    *,
    layers: Sequence[str] | None = None,
    axes: AxesArray | None = None,
) -> AxesArray:
    """The effective rank of each layer against step + 1, its plateaus shaded and their levels written, an Axes each.

    Args:
        plateaus: layer → its plateaus, as `RankTracker.plateaus`.
        layers: which ones; the first twelve.

    Raises:
        ValueError: a column is missing, a layer is unknown, or there are too few axes.
    """
    plateaus = plateaus or {}
    names = _names(history, layers, most=_MOST)
    flat = _panels(names, axes)
    for name, ax in zip(names, flat, strict=True):
        rows = history[history["layer"] == name]
        drawn = curve(ax, column(rows, "step") + 1, column(rows, "effective_rank"), label="effective rank", color=RANK)
        dress(ax)
        ax.set_title(_short(name), fontsize=FONT, color=INK, pad=12)  # the levels stand below it
        if not drawn:
            note(ax, "no finite values")
            continue
        log_steps(ax)
        ax.yaxis.set_major_locator(MaxNLocator(4))
    _label_outer(flat, "effective rank")
    for name, ax in zip(names, flat, strict=True):
        if ax.get_lines():
            shade_plateaus(ax, plateaus.get(name, ()), labelled=True)
    return flat


def _names(history: pd.DataFrame, layers: Sequence[str] | None, *, most: int | None) -> list[str]:
    if "layer" not in history.columns or not len(history):
        raise ValueError("history must have rows and a column layer, this one lacks them; pass a RankTracker's history")
    known = list(dict.fromkeys(history["layer"]))
    if layers is None:
        return known[:most]
    unknown = [name for name in layers if name not in known]
    if unknown or not len(layers):
        raise ValueError(f"layers must be among those recorded, got {unknown or list(layers)}; there are {known}")
    return list(layers)


def _grid(history: pd.DataFrame, measure: str, names: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The measure (layers × steps), NaN where there is no row, and the steps."""
    values = history.assign(**{measure: column(history, measure)})
    table = values.drop_duplicates(["layer", "step"], keep="last").pivot(index="layer", columns="step", values=measure)
    grid = table.reindex(index=list(names)).to_numpy(dtype=np.float64)
    return np.where(np.isfinite(grid), grid, np.nan), table.columns.to_numpy(dtype=np.float64)


def _edges(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The borders of cells around the values, half way between neighbours in the logarithm."""
    logs = np.log(x)
    if len(logs) == 1:
        return np.exp(logs[0] + np.array([-0.5, 0.5]))
    middle = (logs[1:] + logs[:-1]) / 2
    return np.exp(np.concatenate([[logs[0]], middle, [logs[-1] + (logs[-1] - middle[-1])]]))


def _norm(finite: NDArray[np.float64], *, relative: bool) -> Normalize:
    if not finite.size:
        return Normalize(0.0, 1.0)
    low, high = float(finite.min()), float(finite.max())
    if relative:
        reach = max(1 - low, high - 1, 1e-3)
        return Normalize(1 - reach, 1 + reach)
    return LogNorm(low, high) if 0 < 10 * low < high else Normalize(low, high if high > low else low + 1)


def _first_finite(row: NDArray[np.float64]) -> float:
    finite = row[np.isfinite(row) & (row != 0)]
    return float(finite[0]) if len(finite) else math.nan


def _panels(names: Sequence[str], axes: AxesArray | None) -> AxesArray:
    """An Axes per name: given ones, or a new figure of at most three columns."""
    if axes is not None:
        return given_axes(axes, len(names))
    ncols = min(len(names), 3)
    nrows = math.ceil(len(names) / ncols)
    width = PAGE if ncols == 3 else ncols * PAGE / 2.6
    axes = new_axes(nrows, ncols, size=(width, 1.75 * nrows + 0.3))
    for ax in axes.ravel()[len(names) :]:
        ax.set_axis_off()
    return axes.ravel()[: len(names)]


def _label_outer(flat: AxesArray, y: str) -> None:
    """Axis labels at the left and below only, where the Axes form a grid."""
    for ax in flat:
        place = ax.get_subplotspec()
        left = place is None or place.is_first_col()
        # Nothing of ours is below the last full row of an uneven grid.
        below = place is None or not any(
            other.get_subplotspec().colspan == place.colspan
            and other.get_subplotspec().rowspan.start >= place.rowspan.stop
            for other in flat
            if other.get_subplotspec() is not None
        )
        ax.set_ylabel(y if left else "", fontsize=FONT, color=INK)
        ax.set_xlabel("step + 1" if below else "", fontsize=FONT, color=INK)


def _legend(flat: AxesArray, *, ncols: int) -> None:
    """One legend for all, above a figure of its own, or inside the only Axes."""
    handles, labels = next((ax.get_legend_handles_labels() for ax in flat if ax.get_lines()), ([], []))
    if handles:
        figure_of(flat[0]).legend(
            handles, labels, loc="outside upper center", ncols=ncols, fontsize=SMALL, frameon=False
        )


def _short(name: str) -> str:
    """A name with its middle left out if it is long: both ends tell layers apart."""
    if len(name) <= _LONGEST:
        return name
    head = _LONGEST // 2 - 1
    return f"{name[:head]}…{name[len(name) - (_LONGEST - head - 1) :]}"


def _subscript(i: int) -> str:
    return str(i).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))
