"""Numbers and records as the text of tables: four digits, – for nothing and for NaN."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
import pandas as pd

_READINGS = 16  # lines of the table that says in numbers what a staircase draws
TITLES = {
    "step": "step",
    "seconds": "seconds",
    "relative_error": "relative error",
    "effective_rank": "effective rank",
    "nuclear_over_operator": "nuclear / operator",
    "sigma_1": "σ₁",
    "sigma_2": "σ₂",
    "absolute_error": "absolute error",
    "n_iter": "steps",
}


@dataclass(frozen=True)
class Table:
    """Cells as text; `numeric` says which columns stand right-aligned."""

    header: list[str]
    rows: list[list[str]]
    numeric: list[bool]


def number(value: object) -> str:
    """A value as a table shows it: four digits, – for nothing and for NaN."""
    if value is None or (isinstance(value, float | np.floating) and not isfinite(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float | np.floating):
        return f"{value:,.0f}" if value.is_integer() and abs(value) < 1e9 else f"{value:.4g}"
    if isinstance(value, int | np.integer):
        return f"{value:,d}"
    return str(value)


def records(items: list[Mapping[str, Any]]) -> Table | None:
    """Numbered rows, one a mapping; None when there are none."""
    if not items:
        return None
    keys = list(dict.fromkeys(key for item in items for key in item))
    rows = [[str(i), *(number(item.get(key)) for key in keys)] for i, item in enumerate(items, start=1)]
    titles = {"level": "effective rank", **TITLES}
    return Table(["", *(titles.get(key, key) for key in keys)], rows, [key != "kind" for key in ("", *keys)])


def readings(curve: pd.DataFrame) -> Table | None:
    """Some rows of a curve, evenly spread over its log steps."""
    if curve.empty:
        return None
    places = np.unique(np.rint(np.geomspace(1, len(curve), _READINGS)).astype(int)) - 1
    rows = [[number(value) for value in row] for row in curve.iloc[places].itertuples(index=False, name=None)]
    return Table([TITLES[str(column)] for column in curve], rows, [True] * curve.shape[1])


def results(frame: pd.DataFrame | None) -> Table | None:
    """results.csv, read as text, for the page."""
    if frame is None or frame.empty:
        return None
    numbers = frame.apply(pd.to_numeric, errors="coerce")
    absent = frame.isin(["", "nan", "NaN"])
    numeric = (numbers.notna() | absent).all().tolist()
    words = {"True": "yes", "False": "no", "": "–"}
    columns = [
        [number(value) for value in numbers[name]] if right else [words.get(value, value) for value in frame[name]]
        for name, right in zip(frame, numeric, strict=True)
    ]
    rows = [list(row) for row in zip(*columns, strict=True)]
    return Table([TITLES.get(str(name), str(name).replace("_", " ")) for name in frame], rows, numeric)


def flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested mappings as one level of dotted names."""
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from flat(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", text(item)


def text(value: object) -> str:
    """A value as it was written, numbers in full."""
    if isinstance(value, list):
        return ", ".join(json.dumps(item) if isinstance(item, dict) else text(item) for item in value)
    return repr(value) if isinstance(value, int | float) and not isinstance(value, bool) else number(value)
