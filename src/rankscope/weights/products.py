"""Products of a layer, compiled: too small for a library's, whose call costs more than the product."""

from rankscope.compiled import Array, inner, leaf
from rankscope.matrices import Matrix, add_product, copy, copy_sum, turn, whole
from rankscope.vectors import ROWS, aligned_zeros, rooms

ASIDE = 64
"""Bytes that keep rows of a power of two apart, which the cache would else put in one place."""

NEAR = 64
"""Rows of a product that are taken at a time."""
ENOUGH = 2**18
"""Multiply-adds that are worth another thread."""


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
def room_for_near(parts: int, n: int, A: Array) -> Array:
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
