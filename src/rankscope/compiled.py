"""Compiled functions: loops over arrays of numbers as machine code, kept on disk for the next process.

What the compiler keeps of a function it renews when the function's own file changes. Ours call each other from file to
file, so theirs is renewed when any file with compiled functions does.
"""

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numba import njit
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numpy.typing import NDArray

Array = NDArray[np.floating]
Integers = NDArray[np.integer]
Index = np.uintp
"""Unsigned, so that no index is taken from the end."""

Result = TypeVar("Result")


def compiled(function: Callable[..., Result]) -> Callable[..., Result]:
    """Compile for the types it is called with. No Python is held while it runs, so threads run side by side.

    Sums may be taken in any order and as fused multiply-adds; NaN and inf keep their meaning.
    """
    dispatcher = njit(nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz", "arcp"})(function)
    dispatcher._cache = _Cache(function)
    return dispatcher


class _Cache(FunctionCache):
    """A function's machine code by the source of all that it may call."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file = IndexDataCacheFile(self._cache_path, self._impl.filename_base, source())


@cache
def source() -> str:
    """A digest of every file with compiled functions, and of what makes their instructions."""
    files = sorted(Path(__file__).parent.rglob("*.py"))
    texts = [file.read_bytes() for file in files if file.stem in ("compiled", "vectors", "team")]
    texts += [text for file in files if b"\n@compiled\n" in (text := file.read_bytes())]
    return hashlib.sha256(b"".join(texts)).hexdigest()
