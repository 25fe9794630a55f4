"""Small matrices, compiled: products, copies and transposes of views on flat arrays, by whole vectors.

A product takes a few rows of its left side at a time,

    C_i += Σ_k a_ik B_k      for ROWS rows i,

with these parts of C in registers, three vectors wide. So columns of B and of C lie side by side in memory; the left
side may lie in any order. Where rows end within a vector, what is left is moved by itself: padded they take less.
"""

from typing import NamedTuple

from rankscope.compiled import Array, leaf
from rankscope.rows import (
    ROWS,
    add_outer,
    load_rows,
    load_some_of_rows,
    rows_from,
    store_rows,
    store_some_of_rows,
    zero_rows,
)
from rankscope.vectors import (
    BYTES,
    ONE,
    THREE,
    TWO,
    lanes,
    load,
    load_some,
    plus,
    store,
    store_some,
    turn_some,
    turn_square,
)


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


def are_whole(*sizes: int) -> bool:
    """Whether these are of whole vectors of single precision, and so of double."""
    return all(whole_of(size, 4) == size for size in sizes)


@leaf
def add_product(C: Matrix, A: Matrix, B: Matrix, m: int, p: int, n: int) -> None:
    """C += A B for A (m×p) and B (p×n); columns of B and C lie side by side."""
    accumulate(C, A, B, m, p, n, True)


@leaf
def product(C: Matrix, A: Matrix, B: Matrix, m: int, p: int, n: int) -> None:
    """C ← A B likewise."""
    accumulate(C, A, B, m, p, n, False)


@leaf
def accumulate(C: Matrix, A: Matrix, B: Matrix, m: int, p: int, n: int, more: bool) -> None:
    """C += A B if there is more in C than this, C ← A B otherwise."""
    width, at = lanes(B.entries), 0
    rest = n % width
    while at < n - rest:
        many = at_once(n - rest - at, width)
        if many == width:
            _columns(C, A, B, m, p, at, ONE, more)
        elif many == 2 * width:
            _columns(C, A, B, m, p, at, TWO, more)
        else:
            _columns(C, A, B, m, p, at, THREE, more)
        at += many
    if rest:
        _last_columns(C, A, B, m, p, at, rest, more)


@leaf
def at_once(left: int, width: int) -> int:
    """Of so many columns those that are multiplied first, up to three vectors: four are two and two."""
    return 2 * width if left == 4 * width else min(left, 3 * width)


@leaf
def _columns(C: Matrix, A: Matrix, B: Matrix, m: int, p: int, at: int, many: tuple[int, ...], more: bool) -> None:
    """The columns of C from ``at`` on, as many vectors as ``many`` stands for; to what is there if there is more."""
    a, b, c = A.entries, B.entries, C.entries
    for i in range(0, m, ROWS):
        # Rows beyond the last one are the last one again: it is written more than once, and the same.
        left, to = rows_from(A.start + i * A.row, A.row, m - i), rows_from(C.start + i * C.row, C.row, m - i)
        sums, k, below = load_rows(c, to, at, many) if more else zero_rows(c, many), 0, B.start + at
        for _ in range(p):
            sums = add_outer(sums, a, left, k, load(b, below, many))
            k, below = k + A.column, below + B.row
        store_rows(c, to, at, sums)


@leaf
def _last_columns(C: Matrix, A: Matrix, B: Matrix, m: int, p: int, at: int, few: int, more: bool) -> None:
    """The same of less than a vector of columns."""
    a, b, c = A.entries, B.entries, C.entries
    for i in range(0, m, ROWS):
        left, to = rows_from(A.start + i * A.row, A.row, m - i), rows_from(C.start + i * C.row, C.row, m - i)
        sums, k, below = load_some_of_rows(c, to, at, ONE, few) if more else zero_rows(c, ONE), 0, B.start + at
        for _ in range(p):
            sums = add_outer(sums, a, left, k, load_some(b, below, few))
            k, below = k + A.column, below + B.row
        store_some_of_rows(c, to, at, sums, few)


@leaf
def copy(C: Matrix, A: Matrix, m: int, n: int) -> None:
    """C ← A (m×n), columns side by side."""
    width = lanes(A.entries)
    for i in range(m):
        to, frm = C.start + i * C.row, A.start + i * A.row
        for j in range(0, n - width + 1, width):
            store(C.entries, to + j, load(A.entries, frm + j, ONE))
        done = n // width * width
        if done < n:
            store_some(C.entries, to + done, n - done, load_some(A.entries, frm + done, n - done))


@leaf
def copy_sum(C: Matrix, A: Matrix, B: Matrix, m: int, n: int) -> None:
    """C ← A + B (m×n), columns side by side; row by row, so that C = A of a row 0 apart gets the sum of B's rows."""
    width = lanes(A.entries)
    for i in range(m):
        to, one, other = C.start + i * C.row, A.start + i * A.row, B.start + i * B.row
        for j in range(0, n - width + 1, width):
            store(C.entries, to + j, plus(load(A.entries, one + j, ONE), load(B.entries, other + j, ONE)))
        done = n // width * width
        if done < n:
            sums = plus(load_some(A.entries, one + done, n - done), load_some(B.entries, other + done, n - done))
            store_some(C.entries, to + done, n - done, sums)


@leaf
def turn(C: Matrix, A: Matrix, m: int, n: int) -> None:
    """C (n×m) ← Aᵀ (m×n), columns side by side: by squares of whole vectors, and parts of such."""
    side = lanes(A.entries)
    for i in range(0, m, side):
        for j in range(0, n, side):
            to, frm = C.start + j * C.row + i, A.start + i * A.row + j
            if i + side <= m and j + side <= n:
                turn_square(C.entries, to, C.row, A.entries, frm, A.row)
            else:
                turn_some(C.entries, to, C.row, A.entries, frm, A.row, min(side, m - i), min(side, n - j))
