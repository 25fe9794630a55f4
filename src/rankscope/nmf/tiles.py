"""How matrices lie for compiled products: in tiles of one to three registers, side by side, and sums on their way back.

Rows of four of A are multiplied with a tile at a time, which stays in registers (``columns``). What is added up in
tiles in single precision is put aside from time to time, so that sums stay small.
"""

import numpy as np

from rankscope.compiled import Array, inner, leaf
from rankscope.matrices import Matrix, turn
from rankscope.rooms import aligned_zeros
from rankscope.rows import ROWS
from rankscope.vectors import BYTES, ONE, WIDE, lanes, load, plus, store, turn_square

LANES = 128
"""Rows of A that are taken at a time: few enough to stay in the second cache level."""
WHOLE = 16
"""Rows and columns are divided at multiples of it, so that shares are of whole vectors."""
FEWEST = 1 if WIDE else 2
"""Vectors of a tile: sums of fewer would wait for each other."""
FOLD = 8
"""Groups of lanes after which sums in single precision are put aside, so that they stay small."""


@leaf
def share_of(part: int, parts: int, n: int) -> tuple[int, int]:
    """Where a share of n rows or columns begins and ends: at whole vectors."""
    vectors = (n + WHOLE - 1) // WHOLE
    return part * vectors // parts * WHOLE, min((part + 1) * vectors // parts * WHOLE, n)


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
def laid(R: Array, q: int) -> Array:
    """The first q rows of R (…×n) as columns, in tiles, one after another: of each, the rows."""
    n = R.shape[1]
    whole = aligned_zeros(n * width_of(q, R.itemsize), R)
    lay(R, q, 0, n, whole)
    return whole


@leaf
def lay(R: Array, q: int, begin: int, many: int, whole: Array) -> None:
    """So many columns of R from ``begin`` on, of its first q rows, into such room, which holds zeros beyond."""
    flat, n, across, at = R.reshape(R.size), R.shape[1], len(whole) // many, 0
    while at < across:
        width = tile_width(across - at, R.itemsize)
        turn(Matrix(whole, at * many, width, 1), Matrix(flat, at * n + begin, n, 1), min(width, q - at), many)
        at += width


@inner
def room_in_rows(m: int, X: Array) -> Array:
    """Where Xᵀ (m×k) can be laid."""
    return aligned_zeros((m + ROWS - 1) // ROWS * ROWS * width_of(len(X), X.itemsize), X)


@leaf
def lay_in_rows(X: Array, F: Array, begin: int, end: int) -> None:
    """Some columns of X as rows into such room, which holds zeros beyond."""
    across = width_of(len(X), X.itemsize)
    for first in range(begin, end, LANES):
        for j in range(len(X)):
            for i in range(first, min(first + LANES, end)):
                F[i * across + j] = X[j, i]


@leaf
def to_rows(x: Array, r: int, F: Array) -> None:
    """F, whose rows lie one after another, ← r rows of x (…×LANES)."""
    turn(Matrix(F, 0, len(F) // LANES, 1), Matrix(x.reshape(x.size), 0, LANES, 1), r, LANES)


@leaf
def fold(sums: Array, rest: Array, S: Array) -> None:
    """S (r×n) += sums, which are laid as Sᵀ, and the rest of its rows; both ← 0."""
    q = len(S) - len(rest)
    fold_columns(sums, S[:q], 0, S.shape[1])
    for k in range(len(rest)):
        for j in range(S.shape[1]):
            S[q + k, j] += rest[k, j]
    rest[:] = 0


@leaf
def fold_columns(sums: Array, S: Array, begin: int, many: int) -> None:
    """The same for so many columns of S from ``begin`` on."""
    (r, n), whole = S.shape, S.reshape(S.size)
    across, at = len(sums) // many, 0
    while at < across:
        width = tile_width(across - at, S.itemsize)
        add_turned(sums, at * many, width, many, min(width, r - at), whole, at * n + begin, n)
        at += width
    sums[:] = 0


@leaf
def add_turned(rows: Array, frm: int, width: int, n: int, r: int, whole: Array, to: int, apart: int) -> None:
    """r rows, so far ``apart``, += as many columns of n rows, so wide; these are used up."""
    side = lanes(rows)
    for j in range(0, n - side + 1, side):
        for k in range(0, r, side):
            square = frm + j * width + k
            turn_square(rows, square, width, rows, square, width)
            for i in range(min(side, r - k)):
                place = to + (k + i) * apart + j
                store(whole, place, plus(load(whole, place, ONE), load(rows, square + i * width, ONE)))
    for j in range(n // side * side, n):
        for k in range(r):
            whole[to + k * apart + j] += rows[frm + j * width + k]


@leaf
def symmetric(G: Array, whole: Array) -> None:
    """The whole (r×r) of rows that hold what lies from the diagonal on."""
    across = len(G) // len(whole)
    for j in range(len(whole)):
        for k in range(j, len(whole)):
            whole[j, k] = whole[k, j] = G[j * across + k]


@leaf
def inner_product(S: Array, R: Array) -> float:
    """⟨S, R⟩ in float64."""
    total = 0.0
    for i in range(len(S)):
        for j in range(S.shape[1]):
            total += np.float64(S[i, j]) * R[i, j]
    return total
