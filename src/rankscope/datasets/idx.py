"""Read an IDX file, the format of MNIST, without trusting it.

    magic 00 00 08 d | d big-endian 32-bit sizes | unsigned bytes

A file is `NAME` or `NAME.gz`. The sizes in its header are compared with the size of the file before anything of that
size is allocated, and a compressed file is never inflated past what its header announced.

Reference: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits", 1998.
"""

import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rankscope.datasets.storage import corrupt

_GZIP_WBITS = 31


def find_idx(folder: Path, stem: str) -> Path | None:
    """The extracted file if there is one, else the compressed one, else None."""
    candidates = (folder / stem, folder / f"{stem}.gz")
    return next((path for path in candidates if path.is_file()), None)


def read_idx(path: Path, ndim: int, *, name: str) -> NDArray[np.uint8]:
    """The array of an IDX file of unsigned bytes, read-only.

    Args:
        ndim: the number of dimensions the file must have (3 for images, 1 for labels).
        name: the data set that the remedy names.

    Raises:
        CorruptDataError: wrong magic number, or sizes that do not match the file.
    """
    content = read_content(path, ndim, name=name)
    sizes = _sizes(path, content[: _header_length(ndim)], ndim, name=name)
    return np.frombuffer(content, np.uint8, offset=_header_length(ndim)).reshape(sizes)


def read_content(path: Path, ndim: int, *, name: str) -> bytes:
    """The decompressed bytes of an IDX file, header included: what the published checksums are of."""
    return _inflate(path, ndim, name=name) if path.suffix == ".gz" else _read(path, ndim, name=name)


def _read(path: Path, ndim: int, *, name: str) -> bytes:
    with path.open("rb") as file:
        expected = _expected_length(path, file.read(_header_length(ndim)), ndim, name=name)
        found = path.stat().st_size
        if found != expected:
            raise corrupt(path, f"must have the {expected:,} bytes its header announces, has {found:,}", name)
        file.seek(0)
        content = file.read(expected)
    if len(content) != expected:
        raise corrupt(path, f"ended after {len(content):,} of {expected:,} bytes", name)
    return content


def _inflate(path: Path, ndim: int, *, name: str) -> bytes:
    compressed = path.stat().st_size
    try:
        with path.open("rb") as file:
            start = zlib.decompressobj(_GZIP_WBITS).decompress(file.read(4096), _header_length(ndim))
            expected = _expected_length(path, start, ndim, name=name)
            # The last four bytes of a gzip file are its decompressed size.
            file.seek(-4, 2)
            (announced,) = struct.unpack("<I", file.read(4))
            # Incompressible data grows by five bytes in 16 KiB; anything longer hides something behind the images.
            if announced != expected or compressed > 1.01 * expected + 4096:
                found = f"is {compressed:,} bytes that announce {announced:,}"
                raise corrupt(path, f"must decompress to the {expected:,} bytes of its header, {found}", name)
            file.seek(0)
            inflater = zlib.decompressobj(_GZIP_WBITS)
            content = inflater.decompress(file.read(compressed), expected + 1)
    except zlib.error as error:
        raise corrupt(path, f"is not a whole gzip file ({error})", name) from error
    if len(content) != expected or not inflater.eof or inflater.unused_data:
        raise corrupt(path, f"must decompress to the {expected:,} bytes of its header and end there, does not", name)
    return content


def _header_length(ndim: int) -> int:
    return 4 + 4 * ndim


def _expected_length(path: Path, header: bytes, ndim: int, *, name: str) -> int:
    return _header_length(ndim) + math.prod(_sizes(path, header, ndim, name=name))


def _sizes(path: Path, header: bytes, ndim: int, *, name: str) -> tuple[int, ...]:
    if len(header) < _header_length(ndim):
        raise corrupt(path, f"must start with an IDX header of {_header_length(ndim)} bytes, is shorter", name)
    magic, *sizes = struct.unpack(f">{1 + ndim}I", header)
    if magic != 0x0800 + ndim:
        raise corrupt(path, f"must start with the IDX magic number {0x0800 + ndim:#010x}, has {magic:#010x}", name)
    return tuple(sizes)
