"""A fit in motion for print: the same signatures and rebuilt rows at several moments, time running right."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from rankscope.plots._pictures import as_images, highest
from rankscope.plots._style import FONT, INK, PAGE, RANK, SMALL, AxesArray, Matrix, new_axes


def evolution(
    moments: Sequence[tuple[Matrix, Matrix]],
    image_shape: Sequence[int],
    *,
    labels: Sequence[str],
    originals: Matrix | None = None,
    n_show: int = 5,
) -> AxesArray:
    """The first signatures and rebuilt rows of a fit at T moments: two Axes, a line each picture, a column each moment.

    A signature is shown on its own scale at every moment, a rebuilt row always on that of its original.

    Args:
        moments: (H, rows of Â) at each.
        labels: what stands above each column, as "step 40".
        originals: the rows of A that are rebuilt, for a last column.
        n_show: signatures and rows at most.

    Raises:
        ValueError: there are no moments or not a label for each, or the image shape does not fit.
    """
    if not moments or len(labels) != len(moments) or n_show < 1:
        raise ValueError(
            f"there must be a label for each of one or more moments and n_show >= 1, got {len(labels)} labels for "
            f"{len(moments)} moments and n_show = {n_show}; pass one each"
        )
    parts = [
        np.stack([as_images(part, image_shape)[:n_show] for part in group], 1) for group in zip(*moments, strict=True)
    ]
    H, made = parts
    H = H / np.array([[highest(picture) for picture in line] for line in H]).reshape(H.shape[:2] + (1,) * (H.ndim - 2))
    columns = list(labels)
    truth = (
        made[:, -1:] if originals is None else as_images(originals, image_shape, name="originals")[: len(made), None]
    )
    if originals is not None:
        made, columns = np.concatenate([made, truth], 1), [*columns, "original"]
    made = made / np.array([highest(line) for line in truth]).reshape((len(made),) + (1,) * (made.ndim - 1))
    side = min(0.62, (PAGE - 0.4) / len(columns))
    high = side * (H.shape[2] / H.shape[3] if H.ndim > 3 else 0.6)
    axes = new_axes(2, 1, size=(side * len(columns) + 0.4, high * (len(H) + len(made)) + 0.95))
    axes[0, 0].get_gridspec().set_height_ratios([len(H), len(made)])
    for ax, cells, names, title in zip(
        axes[:, 0], (H, made), (labels, columns), ("signatures", "rows of A rebuilt"), strict=True
    ):
        _draw(ax, cells, len(columns))
        ax.set_xticks(np.arange(len(names)) + 0.5, names, fontsize=SMALL, color=INK)
        ax.set_ylabel(title, fontsize=FONT, color=INK)
    return axes[:, 0]


def _draw(ax: Axes, cells: NDArray[np.float64], columns: int) -> None:
    """Pictures (k, T, …) of values 0 … 1 in a grid of unit cells; lines for one-dimensional data."""
    k, moments = cells.shape[:2]
    shown = np.nan_to_num(cells).clip(0, 1)
    if cells.ndim == 3:
        x = np.linspace(0.04, 0.96, cells.shape[2])
        for i, j in np.ndindex(k, moments):
            ax.plot(j + x, i + 0.95 - 0.9 * shown[i, j], color=RANK, linewidth=0.6)
    else:
        h, w = cells.shape[2:4]
        gap = max(1, w // 14)
        framed = np.pad(shown, [(0, 0), (0, 0), (0, gap), (0, gap), *[(0, 0)] * (cells.ndim - 4)], constant_values=1.0)
        ax.imshow(_tiled(framed), cmap="gray", vmin=0, vmax=1, interpolation="nearest", extent=(0, moments, k, 0))
        ax.set_aspect((h + gap) / (w + gap))
    ax.set(xlim=(0, columns), ylim=(k, 0), yticks=[])
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _tiled(cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """(k, T, h, w, …) as one picture (k·h, T·w, …)."""
    k, moments, h, w, *colour = cells.shape
    return np.moveaxis(cells, 2, 1).reshape(k * h, moments * w, *colour)
