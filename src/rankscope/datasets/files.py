"""A user's own matrix from .npy, .npz or .csv, kept as it is: one row a sample, nothing rescaled."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankscope.datasets.info import Data, DatasetInfo
from rankscope.datasets.npz import read_npy, read_npz
from rankscope.errors import CorruptDataError, MissingDataError

SUFFIXES = (".npy", ".npz", ".csv")
_REMEDY = "write the file again"


def load_file(path: str | Path) -> Data:
    """A matrix from a file; float32 or float64 are kept, everything else becomes the smallest of the two that holds it.

    - `.npy`: one 2-d array.
    - `.npz`: the array named `X`, or the only one; optionally `labels`, one integer a row.
    - `.csv`: numbers between commas, read as float32; a first line that is not numbers is a header.

    Raises:
        MissingDataError: no such file.
        CorruptDataError: truncated, oversized or not what its suffix says.
        ValueError: objects, complex numbers, text, NaN, infinities, no entries, or not 2-d.
    """
    path = Path(path).expanduser()
    if path.suffix not in SUFFIXES:
        raise ValueError(f"a data file must be one of {' '.join(SUFFIXES)}, got {path}; convert it")
    if not path.is_file():
        raise MissingDataError(f"{path} is not a file on this machine; check the path")
    raw, labels = _READERS[path.suffix](path)
    X = _matrix(raw, path)
    if labels is not None and labels.shape != (len(X),):
        raise ValueError(f"labels in {path} must be one integer for each of the {len(X)} rows, are {labels.shape}")
    info = DatasetInfo(path.name, (X.shape[1],), f"The file {path.absolute()}, not rescaled", labels)
    return Data(X, info)


def _npy(path: Path) -> tuple[NDArray[Any], None]:
    return read_npy(path, remedy=_REMEDY), None


def _npz(path: Path) -> tuple[NDArray[Any], NDArray[np.integer] | None]:
    arrays = read_npz(path, ("X", "labels"), remedy=_REMEDY)
    labels = arrays.pop("labels", None) if "X" in arrays else None
    if len(arrays) != 1 or "labels" in arrays:
        raise ValueError(f"{path} must hold one array, or one named X, does not; np.savez(path, X=X) writes it")
    if labels is not None and labels.dtype.kind not in "iu":
        raise ValueError(f"labels in {path} must be integers, are {labels.dtype}; number the classes")
    (X,) = arrays.values()
    return X, None if labels is None else labels.astype(np.int64)


def _csv(path: Path) -> tuple[NDArray[Any], None]:
    try:
        with path.open(encoding="utf-8-sig") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # "no data": refused below, in our words
            header = not _numeric(file.readline())
            file.seek(0)
            rows = np.loadtxt(
                file, np.float32, delimiter=",", comments=None, skiprows=int(header), ndmin=2, quotechar='"'
            )
    except UnicodeDecodeError as error:
        raise CorruptDataError(f"{path} is not text ({error.reason}); {_REMEDY} in UTF-8") from error
    except ValueError as error:
        reason = str(error).partition(";")[0][:200]
        raise CorruptDataError(f"{path} must hold numbers between commas, as many in every row: {reason}") from error
    return rows, None


_READERS = {".npy": _npy, ".npz": _npz, ".csv": _csv}


def _numeric(line: str) -> bool:
    try:
        [float(cell.strip().strip('"')) for cell in line.split(",")]
    except ValueError:
        return False
    return True


def _matrix(raw: NDArray[Any], path: Path) -> NDArray[np.floating]:
    if raw.dtype.kind not in "biuf":
        raise ValueError(f"{path} must hold real numbers, holds {raw.dtype}; take the real or absolute values")
    if raw.ndim != 2:
        raise ValueError(f"{path} must hold a 2-d array, rows × columns, holds {raw.ndim}-d {raw.shape}; reshape it")
    if raw.size == 0:
        raise ValueError(f"{path} must hold at least one row and one column, is {raw.shape[0]}×{raw.shape[1]}")
    # NumPy's own rule: 8 and 16 bits fit in float32, wider integers need float64. Long doubles are cut to float64.
    dtype = np.promote_types(raw.dtype, np.float32) if raw.dtype.itemsize <= 8 else np.dtype(np.float64)
    X = np.ascontiguousarray(raw, dtype=dtype)
    finite = np.isfinite(X)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise ValueError(f"{path} must be finite, has {X[row, column]} at row {row}, column {column}; fill or drop it")
    return X
