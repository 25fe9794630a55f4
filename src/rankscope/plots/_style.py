"""What all figures share: sizes and colours, and how arrays, histories and images come in.

Nothing here touches matplotlib's global settings: sizes are set on the artists of each figure.
"""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter
from numpy.typing import NDArray

AxesArray = NDArray[Any]  # of Axes
Matrix = NDArray[np.floating] | torch.Tensor | pd.DataFrame

COLUMN, PAGE = 3.5, 7.16  # the widths of one and of two columns of print, in inches
FONT, SMALL = 8.0, 7.0

# Okabe & Ito 2008: eight colours that stay apart for colour-blind readers. One quantity keeps one colour everywhere.
RANK, ERROR, NUCLEAR, SIGMA_1, SIGMA_2 = "#0072B2", "#D55E00", "#009E73", "#0072B2", "#E69F00"
CYCLE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
INK, FAINT = "#333333", "#8C8C8C"

HISTORY = ("step", "seconds", "relative_error", "effective_rank", "nuclear_over_operator", "sigma_1", "sigma_2")
_MAX_POINTS = 4000  # per curve: more than a page can show, few enough for a small SVG


def new_axes(nrows: int, ncols: int, *, size: tuple[float, float]) -> AxesArray:
    """nrows×ncols axes in a new figure of that size in inches, laid out so that labels do not overlap."""
    _, axes = plt.subplots(nrows, ncols, figsize=size, layout="constrained", squeeze=False)
    return axes


def given_axes(axes: Any, n: int) -> AxesArray:
    """The first n of the axes that a caller passed, as a flat array.

    Raises:
        ValueError: there are fewer than n.
    """
    flat = np.asarray(axes, dtype=object).ravel()
    if len(flat) < n:
        raise ValueError(f"axes must hold at least {n} Axes, got {len(flat)}; pass more, or none for a new figure")
    return flat[:n]


def figure_of(ax: Axes) -> Figure:
    """The figure at the root of an Axes, also within subfigures."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    return figure


def dress(ax: Axes, *, title: str | None = None, x: str | None = None, y: str | None = None) -> None:
    """Labels and ticks in print sizes, without the frame's upper and right side."""
    ax.tick_params(which="both", labelsize=SMALL, width=0.6, length=2.5, color=INK, labelcolor=INK)
    ax.tick_params(which="minor", length=1.5)
    ax.yaxis.get_offset_text().set_fontsize(SMALL)
    for side, spine in ax.spines.items():
        spine.set_linewidth(0.6)
        spine.set_color(INK)
        if side in ("top", "right"):
            spine.set_visible(False)
    if title is not None:
        ax.set_title(title, fontsize=FONT, color=INK)
    if x is not None:
        ax.set_xlabel(x, fontsize=FONT, color=INK)
    if y is not None:
        ax.set_ylabel(y, fontsize=FONT, color=INK)


def note(ax: Axes, text: str) -> None:
    """A remark where the data would be, and no scale for what is not there."""
    ax.set_xticks([])
    ax.set_yticks([])
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", fontsize=FONT, color=FAINT)


def curve(
    ax: Axes, x: NDArray[np.float64], y: NDArray[np.float64], *, label: str, color: str, style: Any = "-"
) -> bool:
    """Draw the finite points of a curve; False if there are none."""
    finite = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    if len(finite) > _MAX_POINTS:
        # Evenly in the logarithm of the position, as the step axis is; the last point is kept.
        places = np.geomspace(1, len(finite), _MAX_POINTS)
        finite = finite[np.unique(np.round(places).astype(np.intp)) - 1]
    if len(finite):
        marker = "o" if len(finite) == 1 else None  # a line through one point cannot be seen
        ax.plot(x[finite], y[finite], color=color, linestyle=style, linewidth=1.1, marker=marker, ms=3, label=label)
    return bool(len(finite))


def array(values: Matrix | Any, *, name: str = "matrix") -> NDArray[np.float64]:
    """A matrix from NumPy, torch or pandas as float64.

    Raises:
        ValueError: it is not two-dimensional.
    """
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().to(torch.float64).numpy()
    out = np.asarray(values, dtype=np.float64)
    if out.ndim != 2:
        raise ValueError(f"{name} must be two-dimensional, got shape {out.shape}; reshape it to rows × columns")
    return out


def column(history: pd.DataFrame, name: str) -> NDArray[np.float64]:
    """One column of a history as float64, missing values as NaN.

    Raises:
        ValueError: there is no such column.
    """
    if name not in history.columns:
        raise ValueError(f"history must have the columns {', '.join(HISTORY)}; it lacks {name}: pass a fit's history_")
    return history[name].to_numpy(dtype=np.float64, na_value=np.nan)


def log_steps(ax: Axes) -> None:
    """A logarithmic axis of step + 1, so that step 0 has a place."""
    ax.set_xscale("log")
    ax.set_xlabel("step + 1", fontsize=FONT, color=INK)


def log_if_positive(ax: Axes) -> None:
    """A logarithmic y axis with readable ticks, unless nothing drawn on it is positive."""
    drawn = [np.asarray(line.get_ydata(), dtype=np.float64) for line in ax.get_lines()]
    values = np.concatenate([np.empty(0), *drawn])
    values = values[values > 0]
    if not len(values):
        return
    ax.set_yscale("log", nonpositive="mask")
    low, high = float(values.min()), float(values.max())
    if low > 1e-3 and high < 100 * low:
        # Within two decades 0.2 reads better than 2 × 10⁻¹, and powers of ten alone are too few.
        ax.yaxis.set_major_locator(MaxNLocator(5) if high < 4 * low else LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
