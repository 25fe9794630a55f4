"""Read one row of integers from a MATLAB Level 5 .mat file without trusting it.

    128 bytes of header | elements: type, count of bytes, bytes, padding to 8
    a matrix is an element of elements: flags, dimensions, name, numbers       any of it may be deflated once

SciPy's reader is not used: on a file whose type codes were changed it reads outside its tables and ends the process
(SciPy 1.17). Here every count is compared with the bytes that are there, and inflating stops at a small limit.

Reference: The MathWorks, "MAT-File Format", Level 5.
"""

import math
import struct
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankscope.datasets.storage import corrupt

MAX_BYTES = 1 << 18
MAX_ENTRIES = 100_000
_MAX_INFLATED = 1 << 20
_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_COMPLEX = 0x0800
# The types in which numbers are stored, and the classes of arrays that are plain numbers.
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_BYTE_ORDERS = {b"\x00\x01IM": "<", b"\x01\x00MI": ">"}
_NUMERIC_CLASSES = range(6, 16)


class _MalformedError(Exception):
    """What is wrong, to follow the path in a sentence."""


def read_integers(path: Path, key: str, *, low: int, high: int, name: str) -> NDArray[np.int64]:
    """The vector stored under `key`, whole numbers in low..high.

    Raises:
        CorruptDataError: too large a file, not a .mat file, no such key, not a vector of whole numbers in that range.
    """
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise corrupt(path, f"must have at most {MAX_BYTES:,} bytes, has {size:,}", name)
    try:
        values = _vector(path.read_bytes(), key)
    except _MalformedError as error:
        raise corrupt(path, str(error), name) from error
    # NaN differs from itself, so the last comparison finds it.
    if np.any((values < low) | (values > high) | (values != np.trunc(values))):
        raise corrupt(path, f"must hold {key!r} as whole numbers in {low}..{high}, has others", name)
    return values.astype(np.int64)


def _vector(content: bytes, key: str) -> NDArray[Any]:
    order = _BYTE_ORDERS.get(content[124:_HEADER])
    if order is None:
        raise _MalformedError("is not a MATLAB Level 5 file")
    found = []
    for kind, data in _elements(content[_HEADER:], order):
        if kind == _COMPRESSED:
            matrices = [inner for inner_kind, inner in _elements(_inflate(data), order) if inner_kind == _MATRIX]
        else:
            matrices = [data] if kind == _MATRIX else []
        for matrix in matrices:
            # Flags, dimensions, name and then the numbers come first in every plain matrix.
            parts = list(islice(_elements(matrix, order), 4))
            label = parts[2][1].decode("latin1") if len(parts) > 2 else ""
            if label == key:
                return _numbers(parts, key, order)
            found.append(repr(label[:30]))
    raise _MalformedError(f"must hold {key!r}, holds {', '.join(found[:5]) or 'nothing'}")


def _numbers(parts: list[tuple[int, bytes]], key: str, order: str) -> NDArray[Any]:
    (_, flags), (_, dimensions) = parts[:2]
    if len(flags) != 8 or len(dimensions) % 4:
        raise _MalformedError(f"must hold {key!r} with whole flags and dimensions, does not")
    (word,) = struct.unpack_from(f"{order}I", flags)
    shape = struct.unpack(f"{order}{len(dimensions) // 4}i", dimensions)
    if word & 0xFF not in _NUMERIC_CLASSES or word & _COMPLEX:
        raise _MalformedError(f"must hold {key!r} as real numbers, holds class {word & 0xFF}, flags {word:#x}")
    if len(shape) != 2 or min(shape) != 1 or max(shape) > MAX_ENTRIES:
        found = "×".join(map(str, shape))
        raise _MalformedError(f"must hold {key!r} as one row of at most {MAX_ENTRIES:,} numbers, holds {found}")
    kind, data = parts[3] if len(parts) > 3 else (0, b"")
    if kind not in _TYPES or len(data) != math.prod(shape) * np.dtype(_TYPES[kind]).itemsize:
        raise _MalformedError(
            f"must hold {math.prod(shape):,} numbers as {key!r}, has {len(data):,} bytes of type {kind}"
        )
    return np.frombuffer(data, order + _TYPES[kind])


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """The (type, bytes) of each element, in order."""
    start = 0
    while start < len(data):
        if len(data) - start < 8:
            raise _MalformedError("ends within an element")
        kind, count = struct.unpack_from(f"{order}II", data, start)
        begin = start + 8
        # Up to four bytes may sit in the tag itself: then its first word is (count, type).
        if kind >> 16:
            kind, count, begin = kind & 0xFFFF, kind >> 16, start + 4
            if count > 4:
                raise _MalformedError(f"announces a small element of {count:,} bytes")
        if count > len(data) - begin:
            raise _MalformedError(f"announces an element of {count:,} bytes where {len(data) - begin:,} are left")
        yield kind, data[begin : begin + count]
        # Padded to 8 bytes from its own beginning, unless deflated.
        size = begin + count - start
        start += size if kind == _COMPRESSED else size + -size % 8


def _inflate(data: bytes) -> bytes:
    inflater = zlib.decompressobj()
    try:
        content = inflater.decompress(data, _MAX_INFLATED)
    except zlib.error as error:
        raise _MalformedError(f"is damaged ({error})") from error
    if not inflater.eof:
        raise _MalformedError(f"must inflate to at most {_MAX_INFLATED:,} bytes and end there, does not")
    return content
