"""Products of small matrices, compiled: too small for a library's, whose call costs more than the product.

A matrix is a view on a flat array. A product takes a few rows of its left side at a time,

    C_i += Σ_k a_ik B_k      for ROWS rows i,

with these parts of C in registers, three vectors wide. So rows of B and of C are whole vectors, side by side in memory:
they are padded with zeros where they end before; the left side may lie in any order.
"""

from typing import NamedTuple

from rankscope.compiled import Array, inner, leaf
from rankscope.vectors import (
    BYTES,
    ONE,
    ROWS,
    THREE,
    TWO,
    add_outer,
    aligned_zeros,
    lanes,
    load,
    load_rows,
    plus,
    rooms,
    rows_from,
    store,
    store_rows,
    turn_square,
)

ASIDE = 64
"""Bytes that keep rows of a power of two apart, which the cache would else put in one place."""

NEAR = 64
"""Rows of a product that are taken at a time."""
ENOUGH = 2**18
"""Multiply-adds that are worth another thread."""


class Matrix(NamedTuple):
    """Entry (i, j) is ``entries[start + i * row + j * column]``."""

    entries: Array
    start: int
    row: int
    column: int = 1


@leaf
def whole(n: int, A: Array) -> int:
    """n and as many more as fill whole vectors of A's kind."""
    return (n + lanes(A) - 1) // lanes(A) * lanes(A)


def whole_of(n: int, itemsize: int) -> int:
    """The same outside of what is compiled."""
    return -(-n * itemsize // BYTES) * BYTES // itemsize


@leaf
def add_product(C: Matrix, A: Matrix, B: Matrix, m: int, p: int, n: int) -> None:
    """C += A B for A (m×p) and B (p×n); n is of whole vectors, and columns of B and C lie side by side."""
    width, at = lanes(B.entries), 0
    while at < n:
        left = n - at
        if left in (2 * width, 4 * width):
            _add(C, A, B, m, p, at, TWO)
            at += 2 * width
        elif left == width:
            _add(C, A, B, m, p, at, ONE)
            at += width
        else:
            _add(C, A, B, m, p, at, THREE)
            at += 3 * width


@leaf
def _add(C: Matrix, A: Matrix, B: Matrix, m: int, p: int, at: int, many: tuple[int, ...]) -> None:
    """The columns of C from ``at`` on, as many vectors as ``many`` stands for."""
    a, b, c = A.entries, B.entries, C.entries
    for i in range(0, m, ROWS):
        # Rows beyond the last one are the last one again: it is written more than once, and the same.
        left, to = rows_from(A.start + i * A.row, A.row, m - i), rows_from(C.start + i * C.row, C.row, m - i)
        sums, k, below = load_rows(c, to, at, many), 0, B.start + at
        for _ in range(p):
            sums = add_outer(sums, a, left, k, load(b, below, many))
            k, below = k + A.column, below + B.row
        store_rows(c, to, at, sums)


@leaf
def copy(C: Matrix, A: Matrix, m: int, n: int) -> None:
    """C ← A (m×n), columns side by side."""
    width = lanes(A.entries)
    for i in range(m):
        to, frm = C.start + i * C.row, A.start + i * A.row
        for j in range(0, n - width + 1, width):
            store(C.entries, to + j, load(A.entries, frm + j, ONE))
        for j in range(n // width * width, n):
            C.entries[to + j] = A.entries[frm + j]


@leaf
def copy_sum(C: Matrix, A: Matrix, B: Matrix, m: int, n: int) -> None:
    """C ← A + B (m×n), columns side by side."""
    width = lanes(A.entries)
    for i in range(m):
        to, one, other = C.start + i * C.row, A.start + i * A.row, B.start + i * B.row
        for j in range(0, n - width + 1, width):
            store(C.entries, to + j, plus(load(A.entries, one + j, ONE), load(B.entries, other + j, ONE)))
        for j in range(n // width * width, n):
            C.entries[to + j] = A.entries[one + j] + B.entries[other + j]


@leaf
def turn(C: Matrix, A: Matrix, m: int, n: int) -> None:
    """C (n×m) ← Aᵀ (m×n), columns side by side: by squares of whole vectors, and the rest entry by entry."""
    side = lanes(A.entries)
    rows, columns = m // side * side, n // side * side
    for i in range(0, rows, side):
        for j in range(0, columns, side):
            turn_square(C.entries, C.start + j * C.row + i, C.row, A.entries, A.start + i * A.row + j, A.row)
    for i in range(m):
        for j in range(columns if i < rows else 0, n):
            C.entries[C.start + j * C.row + i] = A.entries[A.start + i * A.row + j]


@inner
def padded(A: Array) -> Array:
    """A (m×n), flat, each row up to whole vectors."""
    (m, n), width = A.shape, whole(A.shape[1], A)
    rows = aligned_zeros(m * width, A)
    copy(Matrix(rows, 0, width, 1), Matrix(A.reshape(A.size), 0, n, 1), m, n)
    return rows


@inner
def padded_turned(A: Array) -> Array:
    """Aᵀ for A (m×n), flat, each row up to whole vectors."""
    (m, n), width = A.shape, whole(len(A), A)
    rows = aligned_zeros(n * width, A)
    turn(Matrix(rows, 0, width, 1), Matrix(A.reshape(A.size), 0, n, 1), m, n)
    return rows


@leaf
def multiply(A: Array, right: Array, bias: Array, C: Array, sums: Array) -> None:
    """C ← A B + b for A (m×p) and B (p×n), whose rows are padded; ``sums`` has room for NEAR of C's."""
    (m, p), n = A.shape, C.shape[1]
    a, c, width = A.reshape(A.size), C.reshape(C.size), whole(n, A)
    for begin in range(0, m, NEAR):
        rows, to = min(NEAR, m - begin), Matrix(sums, 0, width, 1)
        sums[:] = 0
        add_product(to, Matrix(a, begin * p, p, 1), Matrix(right, 0, width, 1), rows, p, width)
        copy_sum(Matrix(c, begin * n, n, 1), to, Matrix(bias, 0, 0, 1), rows, n)


@leaf
def multiply_turned(A: Array, B: Array, C: Array, left: Array, right: Array) -> None:
    """C += AᵀB, whose rows are padded, for A (m×n) and B (m×p); there is room for NEAR padded rows of A, and of B."""
    (m, n), p = A.shape, B.shape[1]
    a, b, width = A.reshape(A.size), B.reshape(B.size), whole(p, A)
    apart = ASIDE // A.itemsize
    for begin in range(0, m, NEAR):
        rows = min(NEAR, m - begin)
        copy(Matrix(left, 0, n + apart, 1), Matrix(a, begin * n, n, 1), rows, n)
        copy(Matrix(right, 0, width + apart, 1), Matrix(b, begin * p, p, 1), rows, p)
        turned = Matrix(left, 0, 1, n + apart)
        add_product(Matrix(C, 0, width, 1), turned, Matrix(right, 0, width + apart, 1), n, rows, width)


@leaf
def sum_columns(A: Array, sums: Array) -> None:
    """sums += Σ_i A_i."""
    (m, n), a = A.shape, A.reshape(A.size)
    for i in range(m):
        copy_sum(Matrix(sums, 0, 0, 1), Matrix(sums, 0, 0, 1), Matrix(a, i * n, 0, 1), 1, n)


@inner
def room_in_rows(parts: int, n: int, A: Array) -> Array:
    """Room for NEAR rows of n and some beside, for each part."""
    return rooms(parts, NEAR * (whole(n, A) + ASIDE // A.itemsize), A)


@leaf
def parts_of(rows: int, each: int, team: int) -> int:
    """Into how many parts so many rows are worth being divided, with so many multiply-adds each."""
    return max(1, min(team, rows * each // ENOUGH, rows // ROWS))


@leaf
def share(part: int, parts: int, rows: int) -> tuple[int, int]:
    """Where a part of the rows begins and ends."""
    groups = (rows + ROWS - 1) // ROWS
    return part * groups // parts * ROWS, min((part + 1) * groups // parts * ROWS, rows)
