"""Signatures and reconstructions of a fit at several moments, one line each: what every plateau had learned."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from rankscope.plots._pictures import as_images, draw_picture, heading, highest
from rankscope.plots._style import FONT, INK, PAGE, AxesArray, Matrix, new_axes


def plateau_gallery(
    stages: Mapping[str, tuple[Matrix, Matrix]],
    image_shape: Sequence[int],
    *,
    n_show: int = 6,
    originals: Matrix | None = None,
) -> AxesArray:
    """Signatures and reconstructions of a fit at several moments, one line each, in the order of `stages`.

    A column follows one component (left) or one row of A (right) from stage to stage: a redundant signature is seen to
    turn into a new one. Left blank where a stage has fewer.

    Args:
        stages: label → (H, rows of Â), for example {"k = 1": (H, A_hat), "final": (H, A_hat)}.
        originals: the rows of A that are reconstructed, for a first line.

    Raises:
        ValueError: there are no stages, `n_show` is below one, or the image shape does not fit.
    """
    if not stages or n_show < 1:
        raise ValueError(f"there must be a stage and n_show >= 1, got {len(stages)} stages and n_show = {n_show}")
    lines = [
        (label, as_images(H, image_shape, name="H"), as_images(rows, image_shape))
        for label, (H, rows) in stages.items()
    ]
    truth = as_images(originals, image_shape, name="originals") if originals is not None else None
    n_left = min(n_show, max(len(H) for _, H, _ in lines))
    n_right = min(n_show, max(len(rows) for _, _, rows in lines))
    top = 0 if truth is None else 1
    side = min(0.75, (PAGE - 0.7) / (n_left + n_right + 0.3))
    size = (side * (n_left + n_right + 0.3) + 0.7, (side + 0.03) * (len(lines) + top) + 0.25)
    axes = new_axes(len(lines) + top, n_left + 1 + n_right, size=size)
    axes[0, 0].get_gridspec().set_width_ratios([*[1.0] * n_left, 0.3, *[1.0] * n_right])
    for ax in axes.ravel():
        ax.set_axis_off()
    left, right = axes[:, :n_left], axes[:, n_left + 1 :]
    white = [highest(picture) for picture in (truth if truth is not None else lines[-1][2])]
    if truth is not None:
        _draw_line(right[0], truth, white)
        _name_line(right[0, 0], "original", inside=True)
    for row, (label, H, rows) in enumerate(lines, start=top):
        _draw_line(left[row], H, [highest(signature) for signature in H])
        _draw_line(right[row], rows, white)
        _name_line(left[row, 0], label)
    heading(left[top], "signatures")
    heading(right[0], "reconstructions" if truth is None else "rows of A and their reconstructions")
    return axes


def _draw_line(axes: AxesArray, pictures: NDArray[np.float64], high: Sequence[float]) -> None:
    for ax, picture, top in zip(axes, pictures, high, strict=False):  # a stage may have fewer pictures than places
        ax.set_axis_on()
        draw_picture(ax, picture, low=0.0, high=top)


def _name_line(ax: Axes, label: str, *, inside: bool = False) -> None:
    """The label to the left of a line; `inside` where blank places leave room for it."""
    text = ax.annotate(
        label,
        (0.0, 0.5),
        xycoords="axes fraction",
        xytext=(-4, 0),
        textcoords="offset points",
        ha="right",
        va="center",
        fontsize=FONT,
        color=INK,
    )
    text.set_in_layout(not inside)
