"""Many fits against each other: error by step, error by time, effective rank by step."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from rankscope.plots._style import (
    CYCLE,
    PAGE,
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

_DASHES = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.2, 1, 1.2)))  # 7 colours × 4 dashes tell 28 fits apart


def comparison(histories: Mapping[str, pd.DataFrame], *, axes: AxesArray | None = None) -> AxesArray:
    """Relative error by step and by seconds, and effective rank by step, one colour and dash a fit: 3 Axes, one legend.

    Fits named solver-start, as in a grid, have the colour of their solver and the dash of their start.

    Raises:
        ValueError: there are no histories, a column is missing, or there are fewer than three axes.
    """
    if not histories:
        raise ValueError("histories must hold at least one fit, got none; pass {name: fit.history_}")
    names = list(histories)
    ncols = max(1, min(len(names), 5, int(115 / (max(map(len, names)) + 7))))
    new = axes is None
    if axes is None:
        axes = new_axes(1, 3, size=(PAGE, 2.2 + 0.15 * math.ceil(len(names) / ncols)))
    flat = given_axes(axes, 3)
    looks = _looks(names)
    for ax, (across, up) in zip(flat, _PANELS, strict=True):
        drawn = []
        for (name, history), (color, dashes) in zip(histories.items(), looks, strict=True):
            x = column(history, across) + (1 if across == "step" else 0)
            drawn.append(curve(ax, x, column(history, up), label=name, color=color, style=dashes))
        dress(ax, x="step + 1" if across == "step" else across, y=up.replace("_", " "))
        if not any(drawn):
            note(ax, "no finite values")
        elif across == "step":
            log_steps(ax)
        if up == "relative_error":
            log_if_positive(ax)
    handles = {line.get_label(): line for ax in flat for line in ax.get_lines()}
    handles = [handles[name] for name in names if name in handles]
    if new and handles:
        figure = figure_of(flat[0])
        figure.legend(handles=handles, loc="outside lower center", ncols=ncols, fontsize=SMALL, frameon=False)
    elif handles:
        flat[-1].legend(handles=handles, loc="center left", bbox_to_anchor=(1.02, 0.5), fontsize=SMALL, frameon=False)
    return flat


def _looks(names: Sequence[str]) -> list[tuple[str, Any]]:
    """A colour and a dash for each name: by its two parts where all names have two, else one after the other."""
    parts = [name.split("-") for name in names]
    firsts, lasts = (list(dict.fromkeys(part[i] for part in parts)) for i in (0, -1))
    if all(len(part) == 2 for part in parts) and len(firsts) <= len(CYCLE) and len(lasts) <= len(_DASHES):
        return [(CYCLE[firsts.index(first)], _DASHES[lasts.index(last)]) for first, last in parts]
    looks = itertools.cycle((color, dashes) for dashes, color in itertools.product(_DASHES, CYCLE))
    return list(itertools.islice(looks, len(names)))


_PANELS = (("step", "relative_error"), ("seconds", "relative_error"), ("step", "effective_rank"))
