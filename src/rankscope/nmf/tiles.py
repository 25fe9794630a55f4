"""How matrices lie for compiled products: in tiles of one to three registers, side by side, and sums on their way back.

Rows of four of A are multiplied with a tile at a time, which stays in registers (``columns``). What is added up in
tiles in single precision is put aside from time to time, so that sums stay small.
"""

import numpy as np

from rankscope.compiled import Array, inner, leaf
from rankscope.matrices import Matrix, turn
from rankscope.vectors import BYTES, ROWS, WIDE, aligned_zeros

LANES = 128
"""Rows of A that are taken at a time: few enough to stay in the second cache level."""
FEWEST = 1 if WIDE else 2
"""Vectors of a tile: sums of fewer would wait for each other."""
FOLD = 8
"""Groups of lanes after which sums in single precision are put aside, so that they stay small."""


@inner
def room_for_rows(r: int, A: Array) -> Array:
    """Zeros like A for a row of r in each lane, one after another."""
    return aligned_zeros(LANES * width_of(r, A.itemsize), A)


@leaf
def width_of(r: int, itemsize: int) -> int:
    """r and as many more as fill whole tiles."""
    return max(-(-r * itemsize // BYTES), FEWEST) * BYTES // itemsize


@leaf
def tile_width(left: int, itemsize: int) -> int:
    """How many entries the next tile has, of those that are left: three vectors, or fewer where that comes out even."""
    vectors = left * itemsize // BYTES
    return (1 if vectors == 1 else 2 if vectors in (2, 4) else 3) * BYTES // itemsize


@inner
def laid(B: Array) -> Array:
    """B (p×q) in tiles, one after another: of each, the rows."""
    whole = aligned_zeros(len(B) * width_of(B.shape[1], B.itemsize), B)
    lay(B, whole)
    return whole


@inner
def room(n: int, R: Array) -> Array:
    """Where Rᵀ can be laid."""
    return aligned_zeros(n * width_of(len(R), R.itemsize), R)


@leaf
def lay(B: Array, whole: Array) -> None:
    """B (p×q) into such room, which holds zeros beyond."""
    p, q = B.shape
    across, at = len(whole) // p, 0
    while at < across:
        width = tile_width(across - at, B.itemsize)
        for begin in range(0, p, LANES):  # Few rows at a time, which stay in the first cache level.
            for k in range(at, min(at + width, q)):
                for i in range(begin, min(begin + LANES, p)):
                    whole[at * p + i * width + k - at] = B[i, k]
        at += width


@inner
def room_in_rows(m: int, X: Array) -> Array:
    """Where Xᵀ (m×k) can be laid."""
    return aligned_zeros((m + ROWS - 1) // ROWS * ROWS * width_of(len(X), X.itemsize), X)


@leaf
def lay_in_rows(X: Array, F: Array) -> None:
    """Xᵀ into such room, which holds zeros beyond."""
    (k, m), across = X.shape, width_of(len(X), X.itemsize)
    for begin in range(0, m, LANES):
        for j in range(k):
            for i in range(begin, min(begin + LANES, m)):
                F[i * across + j] = X[j, i]


@leaf
def to_rows(x: Array, r: int, F: Array) -> None:
    """F, whose rows lie one after another, ← r rows of x (…×LANES)."""
    turn(Matrix(F, 0, len(F) // LANES, 1), Matrix(x.reshape(x.size), 0, LANES, 1), r, LANES)


@leaf
def fold(sums: Array, S: Array) -> None:
    """S (r×n) += sums, which are laid as Sᵀ; sums ← 0."""
    r, n = S.shape
    across, at = len(sums) // n, 0
    while at < across:
        width = tile_width(across - at, S.itemsize)
        for begin in range(0, n, LANES):
            for k in range(at, min(at + width, r)):
                for j in range(begin, min(begin + LANES, n)):
                    S[k, j] += sums[at * n + j * width + k - at]
        at += width
    sums[:] = 0


@inner
def symmetric(G: Array, whole: Array) -> None:
    """The whole (r×r) of what is laid above the diagonal."""
    upper = np.zeros(whole.shape)
    fold(G, upper)
    for k in range(len(whole)):
        for j in range(k + 1):
            whole[j, k] = whole[k, j] = upper[k, j]


@leaf
def inner_product(S: Array, R: Array) -> float:
    """⟨S, R⟩ in float64."""
    total = 0.0
    for i in range(len(S)):
        for j in range(S.shape[1]):
            total += np.float64(S[i, j]) * R[i, j]
    return total
