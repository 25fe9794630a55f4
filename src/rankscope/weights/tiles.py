"""A batch in tiles, compiled: neighbouring entries fill a register, and ROWS vectors of the batch follow each other.

Entries (i, a) of a vector with a = 0 … m − 1, m of whole registers, lie as

    T[a // lanes][b // ROWS][i][b % ROWS][a % lanes]

for vector b. What is multiplied for each a by itself is then multiplied register by register, and what is summed over
a has rows like any other matrix, but for a step from one group of a to the next.
"""

from typing import NamedTuple

from rankscope.compiled import Array, leaf
from rankscope.matrices import Matrix, at_once
from rankscope.rows import (
    ROWS,
    add_outer,
    add_pairs,
    load_rows,
    load_rows_apart,
    rows_from,
    store_rows_apart,
    zero_rows,
)
from rankscope.vectors import ONE, THREE, TWO, fetch_near, lanes, load, load_apart, store

SOON = 8
"""Steps after which what is fetched is needed."""


class Runs(NamedTuple):
    """Entry (i, k) is at ``start + i * row + k % run * column + k // run * far``: ``run`` is that of the product."""

    entries: Array
    start: int
    row: int
    column: int
    far: int


@leaf
def tiles_of(batch: int) -> int:
    """How many tiles a batch is."""
    return (batch + ROWS - 1) // ROWS


@leaf
def place_of_tile(group: int, tile: int, batch: int, n: int, like: Array) -> int:
    """Where a tile of vectors with n entries for each a begins."""
    return (group * tiles_of(batch) + tile) * n * ROWS * lanes(like)


@leaf
def lay_tile(T: Array, X: Array, begin: int, many: int, m: int, n: int) -> None:
    """All groups of some vectors of X (batch×n·m), ROWS at most: T[group][i][b][lane]."""
    width = lanes(X)
    for i in range(n):
        for b in range(many):
            frm, to = ((begin + b) * n + i) * m, (i * ROWS + b) * width
            for group in range(m // width):
                store(T, to + group * n * ROWS * width, load(X, frm + group * width, ONE))


@leaf
def lay_group(T: Array, X: Array, begin: int, many: int, group: int, first: int, some: int, m: int, n: int) -> None:
    """One group of any number of vectors of X, of each the entries i from ``first`` on: T[tile][i][b][lane]."""
    width = lanes(X)
    for b in range(many):
        frm, to = ((begin + b) * n + first) * m + group * width, (b // ROWS * some * ROWS + b % ROWS) * width
        for i in range(some):
            store(T, to + i * ROWS * width, load(X, frm + i * m, ONE))


@leaf
def multiply_lanes(C: Matrix, A: Runs, B: Runs, m: int, p: int, n: int, run: int, more: bool) -> None:
    """C_ij ← Σ_k A_ik ∘ B_jk where entries are registers, i < m, j < n and k < p; to what is there if there is more."""
    for i in range(0, m, ROWS):
        j = 0
        while j < n:
            many = at_once(n - j, 1)
            if many == 1:
                _lanes(C, A, B, m, p, run, i, j, ONE, more)
            elif many == 2:
                _lanes(C, A, B, m, p, run, i, j, TWO, more)
            else:
                _lanes(C, A, B, m, p, run, i, j, THREE, more)
            j += many


@leaf
def _lanes(
    C: Matrix, A: Runs, B: Runs, m: int, p: int, run: int, i: int, j: int, many: tuple[int, ...], more: bool
) -> None:
    a, b, c = A.entries, B.entries, C.entries
    left, to = rows_from(A.start + i * A.row, A.row, m - i), rows_from(C.start + i * C.row, C.row, m - i)
    sums = load_rows_apart(c, to, j * C.column, C.column, many) if more else zero_rows(c, many)
    x, y = 0, B.start + j * B.row
    if run >= p:  # B is large then: it comes from the second cache level.
        for _ in range(p):
            for e in range(len(many)):
                fetch_near(b, y + e * B.row + SOON * B.column)
            sums = add_pairs(sums, load_rows(a, left, x, ONE), load_apart(b, y, B.row, many))
            x, y = x + A.column, y + B.column
    else:
        for begin in range(0, p, run):
            k, below = x, y
            for _ in range(min(run, p - begin)):
                sums = add_pairs(sums, load_rows(a, left, k, ONE), load_apart(b, below, B.row, many))
                k, below = k + A.column, below + B.column
            x, y = x + A.far, y + B.far
    store_rows_apart(c, to, j * C.column, C.column, sums)


@leaf
def multiply_runs(C: Matrix, A: Runs, B: Runs, m: int, p: int, n: int, run: int, before: Matrix, begun: bool) -> None:
    """C_ij ← Σ_k a_ik B_kj for entries a_ik and rows of B of whole registers, n entries; those of C lie apart.

    i < m and k < p. If begun, the sums begin with what is there before.
    """
    width = lanes(C.entries)
    for i in range(0, m, ROWS):
        j = 0
        while j < n:
            many = at_once(n - j, width)
            if many == width:
                _runs(C, A, B, m, p, run, i, j, ONE, before, begun)
            elif many == 2 * width:
                _runs(C, A, B, m, p, run, i, j, TWO, before, begun)
            else:
                _runs(C, A, B, m, p, run, i, j, THREE, before, begun)
            j += many


@leaf
def _runs(
    C: Matrix,
    A: Runs,
    B: Runs,
    m: int,
    p: int,
    run: int,
    i: int,
    j: int,
    many: tuple[int, ...],
    before: Matrix,
    begun: bool,
) -> None:
    a, b, c = A.entries, B.entries, C.entries
    left, to = rows_from(A.start + i * A.row, A.row, m - i), rows_from(C.start + i * C.row, C.row, m - i)
    sums, x, y = zero_rows(c, many), 0, B.start + j
    if begun:
        sums = load_rows(before.entries, rows_from(before.start + i * before.row, before.row, m - i), j, many)
    for begin in range(0, p, run):
        k, below = x, y
        if A.column > 1:  # Each step takes another line: those of the next run are fetched.
            for _ in range(min(run, p - begin)):
                fetch_near(a, left[0] + k + A.far)
                sums = add_outer(sums, a, left, k, load(b, below, many))
                k, below = k + A.column, below + B.column
        else:
            for _ in range(min(run, p - begin)):
                sums = add_outer(sums, a, left, k, load(b, below, many))
                k, below = k + A.column, below + B.column
        x, y = x + A.far, y + B.far
    store_rows_apart(c, to, j // lanes(c) * C.column, C.column, sums)
