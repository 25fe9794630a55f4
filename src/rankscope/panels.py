"""Products of larger matrices, compiled: the right side is laid into panels that stay in the first cache level.

A panel has DEEP rows of it and the columns that are multiplied at once, up to three vectors, side by side; ROWS rows of
the left side at a time are multiplied with it (Goto & van de Geijn 2008, doi:10.1145/1356052.1356053). Where the right
side is large, what is needed next is fetched meanwhile, a cache line with each row of the panel: many at once would be
waited for. A right side that is near is multiplied where it lies, unless its columns lie apart.
"""

from typing import Any, NamedTuple

from rankscope.compiled import Array, inner, leaf
from rankscope.matrices import Matrix, at_once, copy, turn, whole
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
from rankscope.vectors import FAR, LINE, ONE, THREE, TWO, fetch, fetch_near, lanes, load

DEEP = 256
"""Rows of a panel."""
HIGH = 128
"""Rows of the left side that are laid together where its columns lie far apart."""
NEAR = 2**18
"""Bytes of a right side that is near: of what comes next nothing is fetched, which costs more than to wait for some."""
SOON = 8
"""Columns of the left side that lie apart are fetched into the first cache level so many before they are needed."""


class Room(NamedTuple):
    """For a panel and for a strip: HIGH rows of the left side."""

    panel: Array
    strip: Array


class Ahead(NamedTuple):
    """So many rows and columns that are needed next; columns lie side by side."""

    entries: Array
    start: int
    row: int
    rows: int
    columns: int


@leaf
def panel_size(A: Array) -> int:
    """How many numbers of A's kind a panel has."""
    return DEEP * 3 * lanes(A)


@leaf
def multiply(C: Matrix, A: Matrix, B: Matrix, m: int, p: int, n: int, shift: Array, room: Room) -> None:
    """C ← A B for A (m×p) and B (p×n); its rows are shifted by a vector if that has entries.

    Columns of C lie side by side; of A and of B either the columns do or the rows.
    """
    far = A.column * room.strip.itemsize >= FAR
    high, large = HIGH if far else max(1, m), p * n * room.panel.itemsize > NEAR
    for i in range(0, m, high):
        some, to = min(high, m - i), Matrix(C.entries, C.start + i * C.row, C.row, 1)
        for k in range(0, p, DEEP):
            deep, start = min(DEEP, p - k), A.start + i * A.row + k * A.column
            left = Matrix(A.entries, start, A.row, A.column)
            ahead = Ahead(A.entries, start + deep, A.row, some if A.column == 1 else 0, min(DEEP, p - k - deep))
            if far:
                left = Matrix(room.strip, 0, 1, some)
                copy(Matrix(room.strip, 0, some, 1), Matrix(A.entries, start, A.column, 1), deep, some)
                ahead = Ahead(A.entries, start + some, A.column, deep, min(high, m - i - some))
            right = Matrix(B.entries, B.start + k * B.row, B.row, B.column)
            _by_panels(to, left, right, some, deep, n, k > 0, shift, ahead, large, room.panel)


@leaf
def _by_panels(
    C: Matrix,
    A: Matrix,
    B: Matrix,
    m: int,
    p: int,
    n: int,
    more: bool,
    shift: Array,
    ahead: Ahead,
    large: bool,
    panel: Array,
) -> None:
    """The product with DEEP rows of B at most; to what is there if there is more."""
    width, end, begun = lanes(panel), whole(n, panel), more or shift.size > 0
    j, many = 0, at_once(end, width)
    while j < n:
        to, right, start = Matrix(C.entries, C.start + j, C.row, 1), Matrix(panel, 0, many, 1), B.start + j * B.column
        after, some = at_once(end - j - many, width), min(many, n - j)
        before = to if more else Matrix(shift, j, 0, 1)
        if some < many:
            for k in range(many, (p + 1) * many, many):
                panel[k - width : k] = 0
        if B.column == 1:
            next = Ahead(B.entries, start + many, B.row, p, after)
            if large or some < many:
                copy(right, Matrix(B.entries, start, B.row, 1), p, some)
            else:
                right = Matrix(B.entries, start, B.row, 1)
        else:
            turn(right, Matrix(B.entries, start, B.column, 1), some, p)
            next = Ahead(B.entries, start + many * B.column, B.column, after, p)
        last = some + width - many
        if many == width:
            _by_rows(to, A, right, m, p, ONE, last, before, begun, next, ahead, large)
        elif many == 2 * width:
            _by_rows(to, A, right, m, p, TWO, last, before, begun, next, ahead, large)
        else:
            _by_rows(to, A, right, m, p, THREE, last, before, begun, next, ahead, large)
        ahead = Ahead(ahead.entries, 0, 0, 0, 0)  # It is there.
        j, many = j + many, after


@leaf
def _by_rows(
    C: Matrix,
    A: Matrix,
    B: Matrix,
    m: int,
    p: int,
    many: tuple[int, ...],
    last: int,
    before: Matrix,
    begun: bool,
    next: Ahead,
    ahead: Ahead,
    large: bool,
) -> None:
    """The product with a panel, of as many vectors of columns as ``many`` stands for, so many of the last one."""
    a, b, c, line = A.entries, B.entries, C.entries, LINE // C.entries.itemsize
    for i in range(0, m, ROWS):
        left, end = rows_from(A.start + i * A.row, A.row, m - i), i + ROWS
        to = rows_from(C.start + i * C.row, C.row, m - i)
        sums, k = _rows_there(before, i, m, many, last) if begun else zero_rows(c, many), 0
        if large:
            below = Ahead(c, C.start + end * C.row, C.row, min(ROWS, max(0, m - end)), B.row)
            for what in (below, _share(next, i, end, m), _share(ahead, i, end, m)):
                for e in range(what.rows):
                    for at in range(0, what.columns, line):
                        fetch(what.entries, what.start + e * what.row + at)
                        if k < p:
                            sums = add_outer(sums, a, left, k * A.column, load(b, B.start + k * B.row, many))
                            k += 1
        if A.column >= line:
            for rest in range(k, p):
                fetch_near(a, left[0] + (rest + SOON) * A.column)
                sums = add_outer(sums, a, left, rest * A.column, load(b, B.start + rest * B.row, many))
        else:
            for rest in range(k, p):
                sums = add_outer(sums, a, left, rest * A.column, load(b, B.start + rest * B.row, many))
        if last < lanes(c):
            store_some_of_rows(c, to, 0, sums, last)
        else:
            store_rows(c, to, 0, sums)


@leaf
def _rows_there(before: Matrix, i: int, m: int, many: tuple[int, ...], last: int) -> tuple[Any, ...]:
    """What the sums of the rows from i on begin with."""
    begins = rows_from(before.start + i * before.row, before.row, m - i)
    if last < lanes(before.entries):
        return load_some_of_rows(before.entries, begins, 0, many, last)
    return load_rows(before.entries, begins, 0, many)


@inner
def _share(ahead: Ahead, begin: int, end: int, m: int) -> Ahead:
    """What of it falls to rows begin … end − 1 of m."""
    first, after = begin * ahead.rows // m, min(end, m) * ahead.rows // m
    return Ahead(ahead.entries, ahead.start + first * ahead.row, ahead.row, after - first, ahead.columns)
