"""A fit against its steps: the four curves of training, and the staircase of its effective rank.

The step axis is logarithmic and shows step + 1, so that step 0 has a place; it is also the axis on which plateaus are
found and on which the stairs are about equally wide.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch, Rectangle

from rankscope.plots._style import (
    COLUMN,
    ERROR,
    FAINT,
    INK,
    NUCLEAR,
    PAGE,
    RANK,
    SIGMA_1,
    SIGMA_2,
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
from rankscope.trace.levels import Plateau, RankLevel

_FEW_LEVELS = 5  # lines across a figure; with more it is a grid that says nothing
_SHADES = {"transient": ("#000000", 0.08, None), "converged": (NUCLEAR, 0.15, None), "locked": (ERROR, 0.15, "////")}


def training_curves(
    history: pd.DataFrame, plateaus: Iterable[Plateau] = (), *, axes: AxesArray | None = None
) -> AxesArray:
    """Relative error, effective rank, nuclear/operator norm and σ₁, σ₂ against step + 1, plateaus shaded: 2×2 Axes.

    Raises:
        ValueError: a column of the history is missing, or fewer than four axes are given.
    """
    plateaus = list(plateaus)
    if axes is None:
        axes = new_axes(2, 2, size=(PAGE, 4.2))
    flat = given_axes(axes, 4)
    panels = [
        ("relative error", [("relative_error", ERROR, "relative error", "-")]),
        ("effective rank", [("effective_rank", RANK, "effective rank", "-")]),
        ("nuclear / operator norm", [("nuclear_over_operator", NUCLEAR, "nuclear / operator norm", "-")]),
        ("singular values", [("sigma_1", SIGMA_1, "σ₁", "-"), ("sigma_2", SIGMA_2, "σ₂", "--")]),
    ]
    x = column(history, "step") + 1
    for ax, (title, lines) in zip(flat, panels, strict=True):
        drawn = [
            curve(ax, x, column(history, name), label=label, color=c, style=style) for name, c, label, style in lines
        ]
        dress(ax, x="step + 1", y=title)
        if any(drawn):
            log_steps(ax)
            shade_plateaus(ax, plateaus, labelled=title in ("relative error", "effective rank"))
        else:
            note(ax, "no finite values")
        if len(lines) > 1 and any(drawn):
            kinds = [shade(plateau.kind) for plateau in _one_of_each_kind(plateaus)]
            ax.legend(handles=[*ax.get_lines(), *kinds], fontsize=SMALL, frameon=False)
    log_if_positive(flat[0])
    figure_of(flat[0]).align_ylabels(flat)
    return flat.reshape(2, 2)


def staircase(
    history: pd.DataFrame,
    plateaus: Iterable[Plateau] = (),
    *,
    levels: Sequence[RankLevel] = (),
    ax: Axes | None = None,
) -> Axes:
    """The effective rank against step + 1 with the relative error on a second axis, plateaus shaded, A_k levels dashed.

    Returns the Axes of the effective rank; that of the error is the other one of its figure.

    Raises:
        ValueError: a column of the history is missing.
    """
    plateaus = list(plateaus)
    if ax is None:
        ax = new_axes(1, 1, size=(1.25 * COLUMN, 2.9))[0, 0]
    x, rank = column(history, "step") + 1, column(history, "effective_rank")
    drawn = curve(ax, x, rank, label="effective rank", color=RANK)
    right = ax.twinx()
    drawn_error = curve(
        right, x, column(history, "relative_error"), label="relative error", color=ERROR, style=(0, (4, 1.5))
    )
    dress(ax, x="step + 1", y="effective rank")
    dress(right, y="relative error")
    right.spines["right"].set_visible(True)
    for axis, side, color in ((ax, "left", RANK), (right, "right", ERROR)):
        axis.yaxis.label.set_color(color)
        axis.tick_params(axis="y", which="both", labelcolor=color, color=color)
        axis.spines[side].set_color(color)
    if not (drawn or drawn_error):
        note(ax, "no finite values")
        right.set_yticks([])
        return ax
    log_steps(ax)
    log_if_positive(right)
    if drawn:
        _draw_levels(ax, levels, float(np.max(rank[np.isfinite(rank)])), {plateau.k for plateau in plateaus})
    shade_plateaus(ax, plateaus, labelled=True)
    handles = [*ax.get_lines()[: int(drawn)], *right.get_lines()[: int(drawn_error)]]
    handles += [shade(plateau.kind) for plateau in _one_of_each_kind(plateaus)]
    ax.legend(handles=handles, fontsize=SMALL, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.06), ncols=2)
    return ax


def shade_plateaus(ax: Axes, plateaus: Iterable[Plateau], *, labelled: bool) -> list[Rectangle]:
    """One span per plateau, coloured by its kind; its k, or else its level, above it where there is room."""
    spans, taken = [], -math.inf  # where the last label ends, in points
    left, right = (math.log(limit) for limit in ax.get_xlim())
    points = 72 * ax.get_window_extent().width / figure_of(ax).dpi
    for plateau in plateaus:
        color, alpha, hatch = _SHADES[plateau.kind]
        first, last = plateau.start + 1, plateau.end + 1
        spans.append(ax.axvspan(first, last, color=color, alpha=alpha, hatch=hatch, linewidth=0, zorder=0))
        place = (math.log(first * last) / 2 - left) / (right - left) * points
        # "2" where "k=2" would run into the label before it.
        fitting = [text for text in _names(plateau) if place - _half_width(text) >= taken]
        if not labelled or not fitting:
            continue
        text = fitting[0]
        taken = place + _half_width(text)
        ax.annotate(
            text,
            (math.sqrt(first * last), 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=SMALL,
            color=INK,
        )
    return spans


def shade(kind: str) -> Patch:
    """What a span of this kind looks like, for a legend."""
    color, alpha, hatch = _SHADES[kind]
    return Patch(facecolor=color, alpha=alpha, hatch=hatch, linewidth=0, label=f"plateau: {kind}")


def _one_of_each_kind(plateaus: Sequence[Plateau]) -> list[Plateau]:
    """The first plateau of each kind, in the order of their kinds."""
    return [next(p for p in plateaus if p.kind == kind) for kind in _SHADES if any(p.kind == kind for p in plateaus)]


def _names(plateau: Plateau) -> list[str]:
    """What a plateau may be called, the clearest first."""
    if plateau.kind == "locked":
        return ["locked"]
    return [f"{plateau.level:.3g}"] if plateau.k is None else [f"k={plateau.k}", f"{plateau.k}"]


def _half_width(text: str) -> float:
    """In points, with a gap to the next."""
    return 0.5 * (0.7 * SMALL * len(text) + 2)


def _draw_levels(ax: Axes, levels: Sequence[RankLevel], highest: float, matched: set[int | None]) -> None:
    """Dashed lines at the effective ranks of A_k that the curve could touch, named where there is room.

    Where there are many, only those that a plateau sits at cross the figure; the others are marks at its edge.
    """
    top = max(ax.get_ylim()[1], 1.05 * highest)
    reached = [level for level in levels if level.effective_rank <= top]
    beyond = [level for level in levels if level.effective_rank > top][:1]
    room, taken = 0.055 * top, -math.inf
    for level in (*reached, *(beyond if not reached else ())):
        across = 1.0 if len(reached) <= _FEW_LEVELS or level.k in matched else 0.09
        ax.axhline(level.effective_rank, xmax=across, color=FAINT, linewidth=0.7, linestyle=(0, (5, 3)), zorder=1)
        place = max(level.effective_rank, taken)
        if place - level.effective_rank <= 0.6 * room:  # pushed up further it would seem to name the next line
            taken = place + room
            ax.annotate(
                f"$A_{{{level.k}}}$",
                (0.0, place),
                xycoords=("axes fraction", "data"),
                xytext=(3, 0),
                textcoords="offset points",
                fontsize=SMALL,
                color=INK,
                va="center",
                bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "linewidth": 0},
                zorder=1.5,
            )
