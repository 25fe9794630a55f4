"""Factor matrices as heatmaps."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from rankscope.plots._style import PAGE, SMALL, AxesArray, Matrix, array, dress, given_axes, new_axes

_MAX_CELLS = 400  # a side: finer than this no print shows


def factor_heatmap(F: Matrix, *, title: str | None = None, ax: Axes | None = None) -> Axes:
    """A heatmap of a factor F (m×n), white at zero; sides longer than 400 are averaged in blocks for display.

    Raises:
        ValueError: F is not two-dimensional, or empty.
    """
    values = array(F, name="F")
    m, n = values.shape
    if not values.size:
        raise ValueError(f"F must have entries, got shape {values.shape}")
    if ax is None:
        ax = new_axes(1, 1, size=_size(m, n))[0, 0]
    shown = _block_means(_block_means(np.where(np.isfinite(values), values, np.nan)).T).T
    finite = shown[np.isfinite(shown)]
    low, high = (float(finite.min()), float(np.abs(finite).max())) if finite.size else (0.0, 0.0)
    # A few large entries would leave all others pale; where the scale stops short of them, its bar ends in an arrow.
    bulk = float(np.percentile(np.abs(finite), 99.5)) if finite.size else 0.0
    cut = 0 < 1.5 * bulk < high
    limit = bulk if cut else high if high > 0 else 1.0
    arrow = ("both" if low < 0 else "max") if cut else "neither"
    sns.heatmap(
        shown,
        ax=ax,
        cmap="RdBu_r" if low < 0 else "Blues",
        vmin=-limit if low < 0 else 0.0,
        vmax=limit,
        xticklabels=False,
        yticklabels=False,
        cbar_kws={"pad": 0.02, "fraction": 0.08 if n > 60 else 0.16, "aspect": 25, "extend": arrow, "extendfrac": 0.03},
        rasterized=True,  # an SVG with one path per cell opens in no viewer
    )
    colorbar = ax.collections[0].colorbar
    if colorbar is not None:
        colorbar.outline.set_linewidth(0)
        colorbar.ax.tick_params(labelsize=SMALL, width=0.6, length=2)
        colorbar.locator = MaxNLocator(4)
        colorbar.update_ticks()
    _index_ticks(ax, m, n, shown.shape)
    dress(ax, title=title if title is not None else f"{m} × {n}")
    return ax


def factor_heatmaps(
    factors: Sequence[Matrix], *, names: Sequence[str] | None = None, axes: AxesArray | None = None
) -> AxesArray:
    """Heatmaps of the factors of a chain beside each other, named W, H or W₁, W₂, …, H unless `names` are given.

    Raises:
        ValueError: there are no factors, or not one name for each.
    """
    if not len(factors):
        raise ValueError("factors must hold at least one matrix, got none; pass a fit's factors_")
    names = _names(len(factors)) if names is None else list(names)
    if len(names) != len(factors):
        raise ValueError(f"names must hold one name per factor, got {len(names)} for {len(factors)}")
    shapes = [array(F, name=name).shape for F, name in zip(factors, names, strict=True)]
    if axes is None:
        axes = new_axes(1, len(factors), size=(PAGE, 2.6))
        axes[0, 0].get_gridspec().set_width_ratios(width_ratios(factors))
    flat = given_axes(axes, len(factors))
    for i, (F, name, (m, n), ax) in enumerate(zip(factors, names, shapes, flat, strict=True)):
        factor_heatmap(F, title=f"{name}  ({m} × {n})", ax=ax)
        dress(ax, x="column of A" if i == len(factors) - 1 else "component", y="row of A" if i == 0 else "component")
    return flat


def width_ratios(factors: Sequence[Matrix]) -> list[float]:
    """How much room each factor needs beside the others: √columns, so that a narrow W keeps room for its colour bar."""
    return [math.sqrt(min(max(array(F, name="factor").shape[1], 12), 400)) for F in factors]


def _names(depth: int) -> list[str]:
    if depth == 2:
        return ["W", "H"]
    subscripts = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
    return [f"W{str(i).translate(subscripts)}" for i in range(1, depth)] + ["H"]


def _block_means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows averaged in equal blocks until there are at most `_MAX_CELLS`."""
    block = math.ceil(len(values) / _MAX_CELLS)
    return values if block <= 1 else pd.DataFrame(values).groupby(np.arange(len(values)) // block).mean().to_numpy()


def _index_ticks(ax: Axes, m: int, n: int, shown: tuple[int, ...]) -> None:
    """About five ticks a side that name rows and columns of F, not blocks of what is shown."""
    for axis, length, cells in ((ax.yaxis, m, shown[0]), (ax.xaxis, n, shown[1])):
        ticks = [int(t) for t in MaxNLocator(5, integer=True).tick_values(0, length - 1) if 0 <= t < length]
        axis.set_ticks([(tick + 0.5) * cells / length for tick in ticks], labels=[str(tick) for tick in ticks])
    ax.tick_params(axis="x", labelrotation=0)
    ax.tick_params(axis="y", labelrotation=0)


def _size(m: int, n: int) -> tuple[float, float]:
    """Inches that follow the matrix's proportions within reason."""
    aspect = math.sqrt(m / n) if m and n else 1.0
    return (PAGE / 2, PAGE / 2 * min(max(aspect, 0.4), 1.6))
