"""Generated rows beside real ones."""

import math
from collections.abc import Sequence

import numpy as np

from rankscope.nmf.generate import GenerationScore
from rankscope.plots._pictures import as_images, draw_picture, heading, highest
from rankscope.plots._style import FONT, INK, PAGE, AxesArray, Matrix, figure_of, new_axes

_MOST = 25  # pictures a side


def sample_grid(
    samples: Matrix, real: Matrix, image_shape: Sequence[int], *, score: GenerationScore | float | None = None
) -> AxesArray:
    """Real rows (left) beside generated ones (right) as pictures on one common scale, the score below.

    Returns:
        The Axes as a 2×n array: real ones, then generated ones.

    Raises:
        ValueError: the image shape does not fit, or either side is empty.
    """
    sides = [as_images(real, image_shape, name="real"), as_images(samples, image_shape, name="samples")]
    n = min(_MOST, len(sides[0]), len(sides[1]))
    if n == 0:
        raise ValueError(f"there must be a row on each side, got {len(sides[0])} real and {len(sides[1])} generated")
    # One white for all: a generated picture that is too bright must look too bright.
    high = highest(sides[0][:n])
    ncols = math.ceil(math.sqrt(n))
    nrows = math.ceil(n / ncols)
    side = min(0.65, PAGE / (2 * ncols + 0.5))
    axes = new_axes(nrows, 2 * ncols + 1, size=(side * (2 * ncols + 0.5), side * nrows + 0.5))
    axes[0, 0].get_gridspec().set_width_ratios([*[1.0] * ncols, 0.5, *[1.0] * ncols])
    for ax in axes.ravel():
        ax.set_axis_off()
    blocks = np.array([axes[:, :ncols].ravel()[:n], axes[:, ncols + 1 :].ravel()[:n]])
    for line, pictures in zip(blocks, sides, strict=True):
        for ax, picture in zip(line, pictures, strict=False):  # the longer side is cut
            ax.set_axis_on()
            draw_picture(ax, picture, low=0.0, high=high)
    heading(axes[0, :ncols], "real")
    heading(axes[0, ncols + 1 :], "generated")
    if score is not None:
        figure_of(axes[0, 0]).supxlabel(_score(score), fontsize=FONT, color=INK)
    return blocks


def _score(score: GenerationScore | float) -> str:
    if isinstance(score, GenerationScore):
        return ", ".join(f"{name} {value:.2f}" for name, value in score._asdict().items())
    return f"score {score:.3g}"
