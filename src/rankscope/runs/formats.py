"""What may be written: names that stay in their folder, values JSON can hold, arrays safetensors keeps, tables."""

import re
from collections.abc import Mapping, Set
from dataclasses import asdict, is_dataclass
from datetime import date
from math import isfinite
from pathlib import PurePath
from typing import Any

import numpy as np
import pandas as pd

_UNSAFE = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]')
_LONGEST = 120


def checked_name(name: str, what: str) -> str:
    """Return `name` when it can name a file in one folder on every system; ValueError otherwise."""
    if not name or len(name) > _LONGEST or name.startswith(".") or name != name.strip() or _UNSAFE.search(name):
        raise ValueError(
            f'{what} must be 1 to {_LONGEST} characters without path separators, control characters or any of :*?"<>|,'
            f" and must not begin with a dot, got {name[:60]!r}; rename it"
        )
    return name


def plain(value: Any) -> Any:
    """The value as JSON holds it: mappings, lists, text, numbers; NaN and ±inf, which JSON has not, become null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list | Set):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        value = plain(value.tolist())
    elif is_dataclass(value) and not isinstance(value, type):
        value = plain(asdict(value))
    elif isinstance(value, float) and not isfinite(value):
        value = None
    elif isinstance(value, PurePath | date):
        value = str(value)
    return value


def contiguous(name: str, value: Any) -> np.ndarray:
    """The values of an array or tensor in C order.

    safetensors 0.8 writes the raw memory of a NumPy array as if it were in C order, so any other layout would come back
    as other values (safetensors issue 825).
    """
    import torch  # noqa: PLC0415  (listing and reading runs must not wait for it)

    array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"arrays must hold real numbers, got {name!r} with dtype {array.dtype}; convert it first")
    return np.asarray(array, order="C")


def markdown_table(frame: pd.DataFrame) -> str:
    """The frame as a Markdown table, its index left out, floats to four significant digits."""
    numeric = [pd.api.types.is_numeric_dtype(kind) for kind in frame.dtypes]
    lines = [[str(column) for column in frame.columns], ["---:" if right else "---" for right in numeric]]
    lines += [[_cell(value) for value in row] for row in frame.itertuples(index=False, name=None)]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _cell(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return f"{value:.4g}" if isfinite(value) else str(value)
    return " ".join(str(value).replace("|", r"\|").split())
