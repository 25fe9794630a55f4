"""Interactive charts as plotly figures: the staircase of one fit, and all fits of a run against each other."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from rankscope.report.contents import Fit

_PAGE, _FIT, _FEWEST = 16_000, 2_000, 300  # points of all staircases, of one at most, of one at least
_COMPARED = 400
_ZERO = 0.4
_HOVER = "%{y:.5~g}"
_LOGARITHMIC = ("relative_error",)
_INKS = 8
_FEW_LEVELS, _EDGE, _ROOM = 6, 0.08, 0.05  # lines across a chart, length of the others, least distance of two
_DASHES = ("solid", "dash", "dot", "dashdot")


def staircase(fit: Fit, *, fits: int = 1) -> dict[str, Any]:
    """Effective rank and relative error over log step; plateaus shaded, levels of the best rank-k matrices dashed.

    Traces carry meta={"ink": i}: the page gives each ink its colour in the light and in the dark.
    """
    curve = thin(fit.curve, max(_FEWEST, min(_FIT, _PAGE // max(fits, 1))))
    x = _positions(curve["step"])
    error = curve["relative_error"]
    plateaus, tick = spans(fit.plateaus), _tick(error.to_numpy())
    sigma = go.Scatter(
        customdata=curve[["sigma_1", "sigma_2"]].to_numpy(dtype=np.float32),
        hovertemplate=f"{_HOVER}<br>σ₁  %{{customdata[0]:.5~g}}<br>σ₂  %{{customdata[1]:.5~g}}",
    )
    figure = go.Figure(layout=_layout("step"))
    figure.add_trace(_line(x, curve["effective_rank"], "effective rank", ink=0, width=2.5))
    figure.add_trace(_line(x, curve["nuclear_over_operator"], "nuclear / operator", ink=2, width=1.25).update(sigma))
    figure.add_trace(_line(x, error.where(error > 0), "relative error", ink=1, width=2.5).update(yaxis="y2"))
    figure.update_layout(
        shapes=[*(_shade(a, b) for a, b, _ in plateaus), *_level_lines(fit)],
        annotations=[_note(*plateau) for plateau in plateaus],
        xaxis={"hoverformat": ",.0f", "unifiedhovertitle": {"text": "step %{x}"}, "dtick": _tick(x)},
        # The levels are the grid.
        yaxis={"title": "effective rank", "showgrid": not fit.levels},
        yaxis2={
            "title": "relative error",
            "overlaying": "y",
            "side": "right",
            "type": "log",
            "showgrid": False,
            "exponentformat": "power",
            "tickformat": _format(tick),
            "tickmode": "linear" if tick else "auto",  # or it would follow the other axis
            "dtick": tick,
            "automargin": True,
            "showspikes": False,
        },
    )
    return json.loads(figure.to_json())


def comparison(fits: Sequence[Fit], x: str, y: str, *, titles: Mapping[str, str]) -> dict[str, Any]:
    """One line a fit: column `y` against column `x`. In a grid, colours are solvers and dashes are starts."""
    looks = _looks([fit.name for fit in fits])
    figure = go.Figure(layout=_layout(titles[x]))
    drawn, heights = [], []
    for fit, (ink, dash) in zip(fits, looks, strict=True):
        curve = thin(fit.curve, _COMPARED)
        drawn.append(_positions(curve[x]))
        # A logarithm has no place for 0.
        values = curve[y].where(curve[y] > 0) if y in _LOGARITHMIC else curve[y]
        heights.append(values.to_numpy())
        figure.add_trace(_line(drawn[-1], values, fit.name, ink=ink, width=2).update(line_dash=dash))
    figure.update_layout(xaxis_dtick=_tick(*drawn), yaxis_title=titles[y])
    if y in _LOGARITHMIC:
        tick = _tick(*heights)
        figure.update_yaxes(type="log", exponentformat="power", dtick=tick, tickformat=_format(tick))
    return json.loads(figure.to_json())


def thin(curve: pd.DataFrame, most: int) -> pd.DataFrame:
    """At most `most` rows that draw the same line over log step: first, last and the extremes of each stretch."""
    if len(curve) <= most:
        return curve
    place = np.log1p(curve["step"] - curve["step"].iloc[0]).to_numpy()
    stretches = max(1, (most - 2) // 5)
    stretch = np.minimum((place / place[-1] * stretches).astype(int), stretches - 1)
    groups = curve.reset_index(drop=True).groupby(stretch)
    kept = [np.array([0, len(curve) - 1]), np.asarray(groups["step"].idxmin())]
    for column in ("effective_rank", "relative_error"):
        seen = curve[column].reset_index(drop=True).dropna().groupby(lambda i: stretch[i])
        kept += [np.asarray(seen.idxmin()), np.asarray(seen.idxmax())]
    return curve.iloc[np.unique(np.concatenate(kept)).astype(int)]


def spans(plateaus: Sequence[Mapping[str, Any]]) -> list[tuple[float, float, str]]:
    """Where plateaus start and end on the axis, and the k they match."""
    return [
        (max(float(p["start"]), _ZERO), max(float(p["end"]), _ZERO), f"k = {p['k']}" if p.get("k") else "plateau")
        for p in plateaus
        if all(isinstance(p.get(end), int | float) for end in ("start", "end"))
    ]


def _layout(title: str) -> go.Layout:
    return go.Layout(
        template="none",
        hovermode="x unified",
        dragmode="pan",
        margin={"l": 56, "r": 16, "t": 28, "b": 48},
        legend={"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0},
        xaxis={
            "title": {"text": title, "standoff": 8},
            "type": "log",
            "exponentformat": "none",
            "automargin": True,
            "showspikes": True,
        },
        yaxis={"showspikes": False},
    )


def _line(x: np.ndarray, y: pd.Series, name: str, *, ink: int, width: float) -> go.Scatter:
    # Simplified lines show corners at the width of a page.
    line = {"width": width, "simplify": False}
    shown, mode = escape(name, quote=False), "lines" if len(x) > 1 else "markers"
    return go.Scatter(x=x, y=_single(y), name=shown, line=line, meta={"ink": ink}, mode=mode, hovertemplate=_HOVER)


def _positions(values: pd.Series) -> np.ndarray:
    """Where to draw on a log axis: step 0, which has no place there, goes left of step 1 and still rounds to 0."""
    return np.maximum(_single(values), _ZERO) if values.name == "step" else _single(values)


def _tick(*positions: np.ndarray) -> int | str | None:
    """One label a decade on a long log axis, 1, 2 and 5 on a shorter one, and plotly's choice within one decade."""
    drawn = np.concatenate([np.asarray(values, dtype=float) for values in positions])
    drawn = drawn[drawn > 0]
    ratio = drawn.max() / drawn.min() if drawn.size else 1.0
    return 1 if ratio >= 100 else "D2" if ratio >= 8 else None


def _format(tick: int | str | None) -> str | None:
    """The whole number at every tick of a short log axis, where plotly would write 2 for 0.2."""
    return None if tick == 1 else "~g"


def _looks(names: Sequence[str]) -> list[tuple[int, str]]:
    """An ink and a dash a fit: by solver and start where all are named solver-start, else one after the other."""
    parts = [name.split("-") for name in names]
    firsts, lasts = (list(dict.fromkeys(part[i] for part in parts)) for i in (0, -1))
    if all(len(part) == 2 for part in parts) and len(firsts) <= _INKS and len(lasts) <= len(_DASHES):
        return [(firsts.index(first), _DASHES[lasts.index(last)]) for first, last in parts]
    return [(i % _INKS, _DASHES[i // _INKS % len(_DASHES)]) for i in range(len(names))]


def _single(values: pd.Series) -> np.ndarray:
    """Seven digits are more than the page shows, in half the bytes."""
    return values.to_numpy(dtype=np.float32)


def _shade(start: float, end: float) -> dict[str, Any]:
    place = {"type": "rect", "xref": "x", "yref": "paper", "x0": start, "x1": end, "y0": 0, "y1": 1}
    return {**place, "layer": "below", "line": {"width": 0}, "fillcolor": "rgba(128,128,128,0.16)"}


def _note(start: float, end: float, text: str) -> dict[str, Any]:
    # Shapes take values on a log axis, annotations their logarithms.
    middle = (np.log10(start) + np.log10(end)) / 2
    place = {"xref": "x", "yref": "paper", "x": middle, "y": 1, "yanchor": "bottom"}
    return {**place, "text": escape(text, quote=False), "showarrow": False, "font": {"size": 12}}


def _level_lines(fit: Fit) -> list[dict[str, Any]]:
    """The levels inside the drawn range, leaving out those that would touch another.

    Where there are many, only those that a plateau sits at cross the chart; the others are marks at its edge.
    """
    rank = fit.curve["effective_rank"]
    top = float(rank.max()) * 1.04 if rank.notna().any() else 0.0
    numbers = [level for level in fit.levels if isinstance(level.get("effective_rank"), int | float)]
    reached = [(float(level["effective_rank"]), level.get("k", "?")) for level in numbers]
    reached = [level for level in reached if level[0] <= top]
    matched = {plateau.get("k") for plateau in fit.plateaus if isinstance(plateau.get("k"), int)}
    chosen: list[tuple[float, Any]] = []
    for value, k in sorted(reached, key=lambda level: level[1] not in matched):
        if all(abs(value - other) >= _ROOM * top for other, _ in chosen):
            chosen.append((value, k))
    return [
        _level_line(
            value,
            k,
            across=1.0 if len(reached) <= _FEW_LEVELS or k in matched else _EDGE,
            below=value > 0.97 * top,  # above the line its name would leave the chart
        )
        for value, k in sorted(chosen, key=lambda level: level[0])
    ]


def _level_line(value: float, k: object, *, across: float, below: bool) -> dict[str, Any]:
    text = escape(f"best rank {k}", quote=False)
    label = {"text": text, "textposition": "start", "yanchor": "top" if below else "bottom", "font": {"size": 11}}
    line = {"width": 1, "dash": "dash", "color": "rgba(128,128,128,0.6)"}
    place = {"type": "line", "xref": "paper", "yref": "y", "x0": 0, "x1": across, "y0": value, "y1": value}
    return {**place, "layer": "below", "line": line, "label": label}
