"""Rows as pictures: the signatures a fit has learned, and what it makes of single rows.

Pictures are grey, or in colour with channels first; rows with an image_shape of length one are drawn as lines.
"""

from collections.abc import Sequence

import numpy as np

from rankscope.metrics import relative_error
from rankscope.plots._pictures import as_images, draw_error, draw_picture, grid_shape, highest
from rankscope.plots._style import (
    COLUMN,
    FONT,
    INK,
    PAGE,
    SMALL,
    AxesArray,
    Matrix,
    array,
    figure_of,
    given_axes,
    new_axes,
)

_MOST = 60  # pictures of one figure unless more are asked for


def signatures(
    H: Matrix,
    image_shape: Sequence[int],
    *,
    n_show: int | None = None,
    title: str | None = None,
    axes: AxesArray | None = None,
) -> AxesArray:
    """The first `n_show` rows of H (r×n) as pictures, each scaled by its own largest entry.

    Args:
        n_show: how many rows; all, but at most 60, unless given.
        title: over the figure; given axes keep their own.

    Raises:
        ValueError: the image shape does not fit the rows, `n_show` is below one, or there are too few axes.
    """
    pictures = as_images(H, image_shape, name="H")
    if n_show is not None and n_show < 1:
        raise ValueError(f"n_show must be at least 1, got {n_show}; leave it out to show all")
    if not len(pictures):
        raise ValueError("H must have at least one row, got none")
    n = min(len(pictures), n_show if n_show is not None else _MOST)
    new = axes is None
    if axes is None:
        nrows, ncols = grid_shape(n)
        width = min(PAGE, 0.75 * ncols + 0.1)
        axes = new_axes(nrows, ncols, size=(width, nrows * (width / ncols + 0.17) + (0.3 if title else 0.05)))
    flat = given_axes(axes, n)
    for i, ax in enumerate(flat):
        draw_picture(ax, pictures[i], low=0.0, high=highest(pictures[i]))
        ax.set_title(f"{i + 1}", fontsize=SMALL, color=INK, pad=2)
    if new:
        for ax in np.ravel(axes)[n:]:
            ax.set_axis_off()
    heading = title if title is not None else "signatures"
    hidden = f" ({n} of {len(pictures)})" if n < len(pictures) else ""
    if new and (title is not None or hidden):
        figure_of(flat[0]).suptitle(heading + hidden, fontsize=FONT, color=INK)
    return flat


def reconstructions(
    A: Matrix,
    A_hat: Matrix,
    image_shape: Sequence[int],
    *,
    indices: Sequence[int] = (0,),
    numbers: Sequence[int] | None = None,
    axes: AxesArray | None = None,
) -> AxesArray:
    """Original, reconstruction and absolute error of rows of A (m×n), with ‖a − â‖²/‖a‖² in each title: k×3 Axes.

    Args:
        indices: which rows of A.
        numbers: what to call them, one number each, where A is only a part of the data.

    Raises:
        ValueError: shapes differ, an index lies outside the rows, or the image shape does not fit.
    """
    A, A_hat = array(A, name="A"), array(A_hat, name="A_hat")
    if A.shape != A_hat.shape:
        raise ValueError(f"A and A_hat must have one shape, got {A.shape} and {A_hat.shape}")
    outside = [i for i in indices if not -len(A) <= i < len(A)]
    if outside or not len(indices):
        raise ValueError(f"indices must name rows of A (0 … {len(A) - 1}), got {list(indices)}")
    chosen = list(indices)
    names = chosen if numbers is None else list(numbers)
    if len(names) != len(chosen):
        raise ValueError(f"numbers must hold one number a row, got {len(names)} for {len(chosen)}")
    originals, made = as_images(A[chosen], image_shape, name="A"), as_images(A_hat[chosen], image_shape, name="A_hat")
    if axes is None:
        axes = new_axes(len(chosen), 3, size=(1.4 * COLUMN, 1.55 * len(chosen) + 0.25))
    grid = given_axes(axes, 3 * len(chosen)).reshape(-1, 3)
    for row, (i, number, a, a_hat) in enumerate(zip(chosen, names, originals, made, strict=True)):
        titles = [f"row {number}", f"relative error {float(relative_error(A[[i]], A_hat[[i]])):.3g}", ""]
        if row == 0:
            headings = ("original", "reconstruction", "absolute error")
            titles = [f"{heading}\n{title}" for heading, title in zip(headings, titles, strict=True)]
        high = max(highest(a), highest(a_hat)) if a.ndim == 1 else highest(a)  # nothing clips a line
        draw_picture(grid[row, 0], a, low=0.0, high=high)
        draw_picture(grid[row, 1], a_hat, low=0.0, high=high)
        draw_error(grid[row, 2], np.abs(a - a_hat))
        for ax, title in zip(grid[row], titles, strict=True):
            ax.set_title(title, fontsize=FONT, color=INK, pad=3)
    return grid
