"""Products of larger matrices, compiled: the right side is laid into panels that stay in the first cache level.

A panel has DEEP rows of it and the columns that are multiplied at once, up to three vectors, side by side; rows of the
left side are multiplied with it a few at a time (Goto & van de Geijn 2008, doi:10.1145/1356052.1356053).
"""

from typing import NamedTuple

from rankscope.compiled import Array, inner, leaf
from rankscope.matrices import Matrix, at_once, copy, turn
from rankscope.rows import ROWS, add_outer, load_rows, rows_from, store_rows, zero_rows
from rankscope.vectors import LINE, ONE, THREE, TWO, fetch, lanes, load

DEEP = 256
"""Rows of a panel."""
HIGH = 128
"""Rows of the left side that are laid together where its columns lie pages apart."""
PAGE = 2048
"""Bytes. What lies so far apart shares places in a cache, which holds only some of it."""


class Ahead(NamedTuple):
    """What is multiplied next, so many rows and columns, to be fetched meanwhile."""

    entries: Array
    start: int
    row: int
    rows: int
    columns: int


class Room(NamedTuple):
    """For a panel and for a strip."""

    panel: Array
    strip: Array


@leaf
def panel_size(A: Array) -> int:
    """How many numbers of A's kind a panel has."""
    return DEEP * 3 * lanes(A)


@leaf
def multiply(C: Matrix, A: Matrix, B: Matrix, m: int, p: int, n: int, shift: Array, room: Room) -> None:
    """C ← A B, its rows shifted by that vector if it has entries, for A (m×p) and B (p×n); n is of whole vectors.

    Columns of C lie side by side, those of A or its rows, and those of B or its rows.
    """
    far = A.column * room.strip.itemsize >= PAGE
    high = HIGH if far else m
    for i in range(0, m, high):
        some = min(high, m - i)
        to = Matrix(C.entries, C.start + i * C.row, C.row, 1)
        for k in range(0, p, DEEP):
            deep, start = min(DEEP, p - k), A.start + i * A.row + k * A.column
            right = Matrix(B.entries, B.start + k * B.row, B.row, B.column)
            if far:
                copy(Matrix(room.strip, 0, some, 1), Matrix(A.entries, start, A.column, 1), deep, some)
                ahead = Ahead(A.entries, start + some, A.column, deep, min(high, m - i - some))
                _by_panels(to, Matrix(room.strip, 0, 1, some), right, some, deep, n, k > 0, shift, room.panel, ahead)
            else:
                ahead = Ahead(A.entries, start + deep, A.row, m if A.column == 1 else 0, min(DEEP, p - k - deep))
                _by_panels(to, Matrix(A.entries, start, A.row, A.column), right, some, deep, n, k > 0, shift, room.panel, ahead)


@leaf
def _by_panels(C: Matrix, A: Matrix, B: Matrix, m: int, p: int, n: int, more: bool, shift: Array, panel: Array, ahead: Ahead) -> None:
    width, j = lanes(panel), 0
    while j < n:
        many, below = at_once(n - j, width), B.start + j * B.column
        to, right, after = Matrix(C.entries, C.start + j, C.row, 1), Matrix(panel, 0, many, 1), at_once(n - j - many, width)
        if shift.size and not more:
            copy(to, Matrix(shift, j, 0, 1), m, many)
        if B.column == 1:
            copy(right, Matrix(B.entries, below, B.row, 1), p, many)
            next = Ahead(B.entries, below + many, B.row, p, after)
        else:
            turn(right, Matrix(B.entries, below, B.column, 1), many, p)
            next = Ahead(B.entries, below + many * B.column, B.column, after, p)
        for i in range(0, m, ROWS):
            high = min(ROWS, m - i)
            left, rows = Matrix(A.entries, A.start + i * A.row, A.row, A.column), Matrix(C.entries, to.start + i * C.row, C.row, 1)
            below = Ahead(C.entries, rows.start + ROWS * C.row, C.row, min(ROWS, m - i - high), many)
            ahead_of = (_share(next, i, i + high, m), _share(ahead, i, i + high, m if j == 0 else 0), below)
            if many == width:
                _tile(rows, left, right, high, p, ONE, more or shift.size > 0, ahead_of)
            elif many == 2 * width:
                _tile(rows, left, right, high, p, TWO, more or shift.size > 0, ahead_of)
            else:
                _tile(rows, left, right, high, p, THREE, more or shift.size > 0, ahead_of)
        j += many


@inner
def _share(ahead: Ahead, begin: int, end: int, of: int) -> Ahead:
    """The rows between two shares of all; none of none."""
    if of == 0:
        return Ahead(ahead.entries, 0, 0, 0, 0)
    first = begin * ahead.rows // of
    return Ahead(ahead.entries, ahead.start + first * ahead.row, ahead.row, end * ahead.rows // of - first, ahead.columns)


@leaf
def _tile(C: Matrix, A: Matrix, B: Matrix, m: int, p: int, many: tuple[int, ...], more: bool, ahead: tuple[Ahead, ...]) -> None:
    """ROWS rows of the product with a panel. What comes next is fetched, a cache line with each row of the panel."""
    a, b, c, line = A.entries, B.entries, C.entries, LINE // C.entries.itemsize
    left, to = rows_from(A.start, A.row, m), rows_from(C.start, C.row, m)
    sums, k = load_rows(c, to, 0, many) if more else zero_rows(c, many), 0
    for one in ahead:
        for e in range(one.rows):
            for at in range(0, one.columns, line):
                if k < p:
                    sums = add_outer(sums, a, left, k * A.column, load(b, B.start + k * B.row, many))
                    k += 1
                fetch(one.entries, one.start + e * one.row + at)
    for k in range(k, p):
        sums = add_outer(sums, a, left, k * A.column, load(b, B.start + k * B.row, many))
    store_rows(c, to, 0, sums)
