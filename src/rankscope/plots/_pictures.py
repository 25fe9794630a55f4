"""Rows as pictures: their shape, and one of them on one Axes."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from rankscope.plots._style import ERROR, FONT, INK, RANK, SMALL, AxesArray, Matrix, array, dress, figure_of


def grid_shape(n: int) -> tuple[int, int]:
    """Rows and columns of a grid for n pictures: one line of eight, or at most ten columns with few blanks."""
    if n <= 8:
        return 1, n
    ncols = min(range(10, 5, -1), key=lambda columns: -n % columns)
    return math.ceil(n / ncols), ncols


def as_images(rows: Matrix | Any, image_shape: Sequence[int], *, name: str = "rows") -> NDArray[np.float64]:
    """Rows (n×p) as pictures: (n, h, w) in grey, (n, h, w, 3) in colour, (n, p) for an image_shape of length one.

    Colour is stored channels first: (c, h, w) with c = 3, or (h, w) for rows of 3·h·w numbers.

    Raises:
        ValueError: the shape does not account for the numbers in a row.
    """
    values, shape = array(rows, name=name), tuple(int(side) for side in image_shape)
    n, p = values.shape
    size = math.prod(shape)
    if len(shape) == 2 and p == 3 * size:
        return values.reshape(n, 3, *shape).transpose(0, 2, 3, 1)
    if p == size and len(shape) == 1:
        return values
    if p == size and len(shape) == 2:
        return values.reshape(n, *shape)
    if p == size and len(shape) == 3 and shape[0] in (1, 3):
        pictures = values.reshape(n, *shape).transpose(0, 2, 3, 1)
        return pictures if shape[0] == 3 else pictures[..., 0]
    wanted = f"{size}" + (f" (grey) or {3 * size} (colour)" if len(shape) == 2 else "")
    raise ValueError(
        f"image_shape {shape} needs rows of {wanted} numbers, got {p}; pass (p,), (h, w), (1, h, w) or (3, h, w)"
    )


def draw_picture(ax: Axes, picture: NDArray[np.float64], *, low: float, high: float) -> None:
    """One picture on a bare Axes, values low … high from black to white; a line for one-dimensional data."""
    if picture.ndim == 1:
        ax.plot(picture, color=RANK, linewidth=0.9)
        low = min(low, float(np.min(picture, initial=0.0, where=np.isfinite(picture))))
        ax.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
        ax.axhline(0.0, color="#BBBBBB", linewidth=0.5, zorder=0)
    elif picture.ndim == 3:
        ax.imshow(np.clip(np.nan_to_num((picture - low) / (high - low)), 0.0, 1.0), interpolation="nearest")
    else:
        ax.imshow(picture, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    _bare(ax)


def draw_error(ax: Axes, error: NDArray[np.float64]) -> None:
    """An error map with its colour bar, over channels the mean; a filled line for one-dimensional data."""
    if error.ndim == 1:
        ax.fill_between(np.arange(len(error)), error, color=ERROR, linewidth=0, alpha=0.8)
        dress(ax)
        ax.set_xticks([])
        ax.yaxis.set_major_locator(MaxNLocator(3))
        return
    flat = error.mean(axis=-1) if error.ndim == 3 else error
    image = ax.imshow(flat, cmap="inferno", vmin=0.0, vmax=highest(flat), interpolation="nearest")
    colorbar = figure_of(ax).colorbar(image, ax=ax, fraction=0.08, pad=0.03, aspect=14)
    colorbar.outline.set_linewidth(0)
    colorbar.ax.tick_params(labelsize=SMALL, width=0.6, length=2)
    colorbar.locator = MaxNLocator(4)
    colorbar.update_ticks()
    _bare(ax)


def heading(line: AxesArray, text: str) -> None:
    """A title over the middle of a line of Axes."""
    n = len(line)
    # Of an even number the middle is the gap before the right half.
    line[n // 2].set_title(text, fontsize=FONT, color=INK, pad=4, x=0.5 if n % 2 else -0.06)


def highest(picture: NDArray[np.float64]) -> float:
    """The largest finite value of a picture, 1 if none is positive: the white of its scale."""
    finite = picture[np.isfinite(picture)]
    top = float(finite.max()) if finite.size else 0.0
    return top if top > 0 else 1.0


def _bare(ax: Axes) -> None:
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)
