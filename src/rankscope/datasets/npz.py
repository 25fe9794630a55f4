"""Read .npy and .npz without trusting them: no pickle, and no allocation that the file's own size does not back.

The header of an array announces its shape and type; what they need is compared with the bytes that are there before
NumPy reads them. A .npz may be compressed, so there the bytes are what the archive announces, and an archive that
announces absurdly more than it weighs is refused.

Reference: NEP 1, "A simple file format for NumPy arrays".
"""

import math
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from numpy.lib import format as npy
from numpy.typing import NDArray

from rankscope.errors import CorruptDataError

# Past one gigabyte an array that shrinks more than a hundredfold is taken for a bomb.
BOMB_BYTES = 1 << 30
BOMB_RATIO = 100


def read_npy(path: Path, *, remedy: str) -> NDArray[Any]:
    """The array of a .npy file.

    Raises:
        CorruptDataError: not a .npy file, truncated, with bytes to spare, or an array of pickled objects.
    """
    with path.open("rb") as file:
        return _read_array(file, path.stat().st_size, str(path), remedy=remedy)


def read_npz(path: Path, keys: Iterable[str], *, remedy: str) -> dict[str, NDArray[Any]]:
    """The arrays of a .npz file that have one of these names; with no such name, its only array if it has just one."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
            wanted = [key for key in keys if key in entries] or (list(entries) if len(entries) == 1 else [])
            return {key: _read_entry(archive, entries[key], path, remedy=remedy) for key in wanted}
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise CorruptDataError(f"{path} is not a whole .npz file ({error}); {remedy}") from error


def _read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path, *, remedy: str) -> NDArray[Any]:
    where = f"{entry.filename} in {path}"
    size, stored = entry.file_size, entry.compress_size
    if stored > path.stat().st_size or (size > BOMB_BYTES and size > BOMB_RATIO * stored):
        raise CorruptDataError(f"{where} announces {size:,} bytes from {stored:,}; save it with np.save instead")
    with archive.open(entry) as file:
        return _read_array(file, size, where, remedy=remedy)


def _read_array(file: IO[bytes], size: int, where: str, *, remedy: str) -> NDArray[Any]:
    """Read one array from a stream of `size` bytes."""
    start = file.tell()
    try:
        version = npy.read_magic(file)
        readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
        if version not in readers:
            raise ValueError(f"format {version[0]}.{version[1]}")
        shape, _, dtype = readers[version](file)
        header = file.tell() - start
    except (ValueError, TypeError, EOFError, OverflowError) as error:
        raise CorruptDataError(f"{where} is not a NumPy array file ({_first_line(error)}); {remedy}") from error
    if dtype.hasobject:
        raise CorruptDataError(f"{where} must hold numbers, holds Python objects, which are never loaded; {remedy}")
    expected = header + math.prod(shape) * dtype.itemsize
    if expected != size:
        raise CorruptDataError(f"{where} must have the {expected:,} bytes its header announces, has {size:,}; {remedy}")
    file.seek(start)
    try:
        return npy.read_array(file, allow_pickle=False)
    except ValueError as error:
        raise CorruptDataError(f"{where} is not a whole NumPy array ({_first_line(error)}); {remedy}") from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
