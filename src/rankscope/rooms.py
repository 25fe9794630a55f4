"""Room for parts of some work, for compiled loops: each begins at a cache line and shares none with another's.

Some megabytes that are taken and given back at every step of a training go back to the system in between, or not, by
chance; page by page they then cost more than what is done in them. So the room of a layer's pass is kept for the next
one, of whatever layer.
"""

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from rankscope.addresses import LIKE, at
from rankscope.compiled import Array, Integers, inner, leaf
from rankscope.vectors import LINE

MOST = 2**26
"""Bytes that are kept at most, of all rooms."""
_free: dict[torch.dtype, list[Array]] = {dtype: [] for dtype in LIKE}
"""Rooms that nobody works in, as many as there once were at the same time, with those that were too small first."""
_bytes = dict.fromkeys(LIKE, 0)
"""Of all rooms, those that somebody works in too."""
_growing = threading.Lock()


class Kept(NamedTuple):
    """A room that is kept, its numbers not filled, and how many of them are taken."""

    numbers: Array
    taken: Integers


def with_kept_room(dtype: torch.dtype, work: Callable[..., int], *given: Any) -> None:
    """work(room, …) with a kept room of such numbers; it tells how many of them it takes if there are enough."""
    free = _free[dtype]
    try:
        room = free.pop()
    except IndexError:
        room = LIKE[dtype]
    try:
        enough = work(room, *given)
    except BaseException:
        free.append(room)
        raise
    if len(room) < enough:
        room = _larger(room, dtype, enough)
    free.insert(len(free) if len(room) >= enough else 0, room)


def _larger(room: Array, dtype: torch.dtype, enough: int) -> Array:
    """A room for so many numbers in place of this one, or for as many as may be kept; this one while another is made.

    The next pass asks again.
    """
    if not _growing.acquire(blocking=False):
        return room
    try:
        numbers = min(enough, (MOST - sum(_bytes.values()) + room.nbytes) // room.itemsize)
        if numbers <= len(room):
            return room
        larger = torch.empty(numbers, dtype=dtype, device="cpu").numpy()
        _bytes[dtype] += larger.nbytes - room.nbytes
        return larger
    except RuntimeError:  # There is no memory for it, which the work did without.
        return room
    finally:
        _growing.release()


@inner
def kept_room(numbers: Array) -> Kept:
    """These numbers, none of them taken."""
    return Kept(numbers, np.zeros(1, np.intp))


@inner
def rooms_in(kept: Kept, parts: int, size: int) -> Array:
    """The same as `rooms`, of what is kept while that is enough."""
    apart, begin = _apart(size, kept.numbers), kept.taken[0]
    kept.taken[0] += parts * apart
    if kept.taken[0] > len(kept.numbers):
        return rooms(parts, size, kept.numbers)
    return at(kept.numbers.ctypes.data + begin * kept.numbers.itemsize, (parts, apart), kept.numbers)


@inner
def rooms(parts: int, size: int, A: Array) -> Array:
    """Room for so many numbers like A, not filled, for each part of some work, in cache lines of its own."""
    line, apart = LINE // A.itemsize, _apart(size, A)
    room = np.empty(parts * apart + line, A.dtype)
    skip = -room.ctypes.data % LINE // A.itemsize
    return room[skip : skip + parts * apart].reshape(parts, apart)


@leaf
def _apart(size: int, A: Array) -> int:
    """So many numbers and as many more as fill cache lines."""
    line = LINE // A.itemsize
    return (size + line - 1) // line * line


@inner
def aligned_zeros(size: int, A: Array) -> Array:
    """Zeros like A from the beginning of a cache line on: vectors then do not cross one."""
    zeros = rooms(1, size, A)[0, :size]
    zeros[:] = 0
    return zeros


@leaf
def add_up(parts: Array, width: int, whole: Array) -> None:
    """whole ← Σ_k parts_k, matrices; of a part (parts × size) the rows lie one after another, so wide each."""
    for i in range(len(whole)):
        _add_up(parts, i * width, whole[i])


@leaf
def add_up_columns(parts: Array, begin: int, end: int, whole: Array) -> None:
    """The same of some columns, for parts as wide as the whole."""
    for i in range(len(whole)):
        _add_up(parts, i * whole.shape[1] + begin, whole[i, begin:end])


@leaf
def _add_up(parts: Array, at: int, total: Array) -> None:
    """What each part has from there on."""
    for k in range(len(parts)):
        row = parts[k, at : at + len(total)]
        for j in range(len(total)):
            total[j] = row[j] if k == 0 else total[j] + row[j]
