"""Room for parts of some work, for compiled loops: each begins at a cache line and shares none with another's."""

import numpy as np

from rankscope.compiled import Array, inner, leaf
from rankscope.vectors import LINE


@inner
def rooms(parts: int, size: int, A: Array) -> Array:
    """Room for so many numbers like A, not filled, for each part of some work, in cache lines of its own."""
    line = LINE // A.itemsize
    apart = (size + line - 1) // line * line
    room = np.empty(parts * apart + line, A.dtype)
    skip = -room.ctypes.data % LINE // A.itemsize
    return room[skip : skip + parts * apart].reshape(parts, apart)


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
        total = whole[i]
        for k in range(len(parts)):
            row = parts[k, i * width : i * width + len(total)]
            for j in range(len(total)):
                total[j] = row[j] if k == 0 else total[j] + row[j]
