"""Compiled functions: loops over arrays of numbers as machine code, kept on disk for the next process.

What the compiler keeps of a function it renews when the function's own file changes. Ours call each other from file to
file, so theirs is renewed when any file with compiled functions does.

What Python calls gives numbers only, and writes arrays into those that it is given. To make a new array for Python the
compiler runs some Python code whose errors it does not look at: an interrupt (Ctrl-C) that came while the machine code
ran, and is noticed there, would be lost in an error about something else.
"""

import hashlib
import re
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
_DECORATED = re.compile(rb"^@(compiled|inner|leaf|inlined)$", re.MULTILINE)


def compiled(function: Callable[..., Result]) -> Callable[..., Result]:
    """Compile what Python calls, for the types it is called with. It may give numbers, but no arrays.

    No Python is held while it runs, so threads run side by side. Sums may be taken in any order and as fused
    multiply-adds; NaN and inf keep their meaning.

    Raises:
        TypeError: it gives an array, when it is first called.
    """
    return _compiled(function, _Numbers(function))


def inner(function: Callable[..., Result]) -> Callable[..., Result]:
    """Compile what only compiled functions call, likewise: Python cannot."""
    return _compiled(function, _Cache(function), no_cpython_wrapper=True, no_cfunc_wrapper=True)


def leaf(function: Callable[..., Result]) -> Callable[..., Result]:
    """The same for what makes no arrays and gives none: who holds those that it is given is not counted.

    Threads that share an array would wait for each other to count, some tens of nanoseconds each time.

    Of what threads work on (``team.together``) there are several copies, and the process that compiles may take another
    than those that load. So a sum over entries is taken by named vectors (``vectors``) or in double precision: left to
    the compiler, its order, and in single precision its last bits, differ from copy to copy.

    Raises:
        TypeError: it gives an array, which might be freed while it is used.
    """
    return _compiled(function, _Numbers(function), no_cpython_wrapper=True, no_cfunc_wrapper=True, _nrt=False)


def inlined(function: Callable[..., Result]) -> Callable[..., Result]:
    """Compile it within each that calls it, and nowhere else: for loops that several share."""
    return _compiled(function, _Numbers(function), no_cpython_wrapper=True, no_cfunc_wrapper=True, inline="always")


def _compiled(function: Callable[..., Result], cache: "_Cache", **how: bool | str) -> Callable[..., Result]:
    dispatcher = njit(nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz", "arcp"}, **how)(function)
    dispatcher._cache = cache
    return dispatcher


class _Cache(FunctionCache):
    """A function's machine code by the source of all that it may call."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file = _Files(self._cache_path, self._impl.filename_base, source())


class _Files(IndexDataCacheFile):
    """Where it is kept, also while other processes read and write there.

    The compiler's own files are named by number and listed before they are written, so that a process can get what
    another one compiled from other sources, or for other types. Here a name stands for both, and a file comes before
    its entry in the list.
    """

    def save(self, key: Any, data: Any) -> None:
        listed = self._load_index()
        if not listed:  # What is there is from other sources.
            for path in Path(self._cache_path).glob(self._name("*")):
                path.unlink(missing_ok=True)
        name = self._name(hashlib.sha256(f"{self._source_stamp}{key!r}".encode()).hexdigest()[:16])
        self._save_data(name, data)
        self._save_index(self._load_index() | {key: name})

    def _name(self, which: str) -> str:
        return f"{self._index_name.removesuffix('.nbi')}.{which}.nbc"


class _Numbers(_Cache):
    """That of a function that must not give arrays."""

    def save_overload(self, sig: Any, data: Any) -> None:
        if "array(" in str(data.signature.return_type):
            raise TypeError(
                f"{data.fndesc.qualname} must give numbers, got an array; let it write into one it is given"
            )
        super().save_overload(sig, data)


@cache
def source() -> str:
    """A digest of every file with compiled functions, and of what makes their instructions."""
    files = sorted(Path(__file__).parent.rglob("*.py"))
    texts = [file.read_bytes() for file in files if file.stem in ("compiled", "rows", "team", "vectors")]
    texts += [text for file in files if _DECORATED.search(text := file.read_bytes())]
    return hashlib.sha256(b"".join(texts)).hexdigest()
