"""Products with a few rows of A at a time, and of these only the columns in which not all of them are 0:

    c_i += a_ij R_j,   S_j += Σ_i a_ij f_i      for ROWS rows i, and the columns j in turn

with c, or f, of these rows in registers: one to three vectors of each, a *tile*, as many times as R has tiles.
"""

from typing import Any, NamedTuple

import numpy as np

from rankscope.compiled import Array, Index, Integers, inner, leaf
from rankscope.matrices import Matrix, add_product
from rankscope.nmf.rest import add_rest, multiply_rest
from rankscope.nmf.tiles import LANES, tile_width, width_of
from rankscope.rooms import aligned_zeros
from rankscope.rows import ROWS, add_inner, add_outer, load_rows, note_columns, rows_from, store_rows
from rankscope.vectors import BYTES, LINE, ONE, THREE, TWO, WIDE, fetch, lanes, load, store

NEAR = 2**18
"""Bytes of R's columns, and of S's, that are taken at a time, a panel: both stay in the second cache level."""
FOUND = ROWS // 4
"""Rows that are fetched while columns are found."""
SOME = 64
"""Rows of F of which the Gram is taken at a time: in float64 they stay in the first cache level."""


class Columns(NamedTuple):
    """The columns of which something is not 0, for every group of rows in the lanes and every panel."""

    numbers: Integers
    """Those of a group and a panel, from the place of the panel's first column on (LANES/ROWS × n)."""
    counts: Integers
    """How many they are (LANES/ROWS × panels)."""
    panel: int
    """How many columns a panel has."""
    seen: Integers
    """Room for whether a column is one of them (n)."""


@inner
def room_for_columns(R: Array) -> Columns:
    """Room for the columns of A (…×n) that are multiplied with R (r×n)."""
    r, n = R.shape
    panel = min(n, max(NEAR // (width_of(r, R.itemsize) * R.itemsize), 64))
    groups = LANES // ROWS
    counts, seen = np.zeros((groups, -(-n // panel)), np.int64), np.zeros(n, np.uint8)
    return Columns(np.zeros((groups, n + 1 + BYTES), np.int32), counts, panel, seen)


@inner
def find_columns(A: Array, start: int, rows: int, n: int, columns: Columns) -> None:
    """The columns of so many rows of A from ``start`` on."""
    for group in range((rows + ROWS - 1) // ROWS):
        for k in range(columns.counts.shape[1]):
            _find(A, _group(group, start, rows, n), n, columns, group, k, 0, False)


@leaf
def _find(A: Array, begins: Any, n: int, columns: Columns, group: int, k: int, ahead: int, fetches: bool) -> None:
    """Those of one group and panel. Meanwhile FOUND rows are fetched, from ``ahead`` on, if it fetches."""
    first, seen, numbers = k * columns.panel, columns.seen, columns.numbers[group]
    end = min(first + columns.panel, n)
    begin, place = first, Index(first)
    if WIDE:
        for j in range(first, end - lanes(A) + 1, lanes(A)):
            place += Index(note_columns(numbers, place, A, begins, j))
            if fetches:
                for e in range(FOUND):
                    fetch(A, ahead + (j - first) * FOUND + e * lanes(A))
            begin = j + lanes(A)
    if begin < end:
        see(A, begins, begin, end, seen)
        for j in range(Index(begin), Index(end)):
            numbers[place] = j
            place += Index(seen[j])
    columns.counts[group, k] = place - first


@leaf
def see(A: Array, begins: Any, first: int, end: int, seen: Array) -> None:
    """Whether not all of ROWS rows that begin there are 0, for each column from the first to the end."""
    for i in range(0, ROWS, 4):
        a0, a1 = A[begins[i] : begins[i] + end], A[begins[i + 1] : begins[i + 1] + end]
        a2, a3 = A[begins[i + 2] : begins[i + 2] + end], A[begins[i + 3] : begins[i + 3] + end]
        for j in range(first, end):
            here = (a0[j] != 0) | (a1[j] != 0) | (a2[j] != 0) | (a3[j] != 0)
            seen[j] = here if i == 0 else here | seen[j]


@leaf
def add_products(
    A: Array, start: int, rows: int, n: int, columns: Columns, R: Array, c: Array, whole: Array, x: Array, far: bool
) -> None:
    """c_i += Σ_j a_ij R_j for so many rows i of A from ``start`` on, whose columns are found on the way.

    What is left over of ``whole``, R as it was given, goes into lanes of x. Meanwhile the next group is fetched; where
    A is far, in memory, only its second half, as ``add_left`` has fetched the other.
    """
    across = len(c) // LANES
    begun = ROWS // 2 if far else 0
    found = FOUND if far and WIDE and _is_narrow(across, A) else 0
    for k in range(columns.counts.shape[1]):
        for group in range((rows + ROWS - 1) // ROWS):
            begins, first, next = _group(group, start, rows, n), k * columns.panel, start + ROWS * (group + 1)
            _find(A, begins, n, columns, group, k, (next + begun) * n + FOUND * first, found > 0)
            numbers, count = columns.numbers[group], columns.counts[group, k]
            some = ROWS - begun - found
            ahead = (next + begun + found) * n + some * first
            step = _step(some * min(columns.panel, n - first), count, across, A)
            multiply_rows(A, begins, numbers, first, count, R, c, ROWS * group * across, across, ahead, step)
            if k == 0:
                multiply_rest(A, begins, n, whole, x, ROWS * group)


@leaf
def add_left(
    A: Array, start: int, rows: int, n: int, columns: Columns, F: Array, S: Array, f: Array, rest: Array, far: bool
) -> None:
    """S_j += Σ_i a_ij f_i for so many rows i of A from ``start`` on; what is left over, from lanes of f into rest.

    Meanwhile half of a group of the rows after those that are worked on is fetched, if they are far.
    """
    across = len(F) // LANES
    left = (len(rest) + 1) // 2 if far and _is_narrow(across, A) else 0
    some = ROWS // 2 - left
    for k in range(columns.counts.shape[1]):
        for group in range((rows + ROWS - 1) // ROWS):
            begins, first, next = _group(group, start, rows, n), k * columns.panel, start + LANES + ROWS * group
            numbers, count = columns.numbers[group], columns.counts[group, k]
            if far:
                ahead = (next * n + some * first, _step(some * min(columns.panel, n - first), count, across, A))
                _spread(A, begins, numbers, first, count, F, ROWS * group * across, across, S, ahead)
            else:
                _spread(A, begins, numbers, first, count, F, ROWS * group * across, across, S, (0,))
            if k == 0:
                add_rest(A, begins, n, f, ROWS * group, rest, (next + some) * n, left > 0)


@leaf
def _is_narrow(across: int, A: Array) -> bool:
    """Whether a product takes one vector a column, and so no more time than to find the columns, or than what is left
    over: what is fetched is then divided among these."""
    return across == lanes(A)


@leaf
def _step(entries: int, count: int, across: int, A: Array) -> int:
    """How far apart what is fetched with each of so many columns and each tile is, so that all of these entries are.

    A line at most: what is left of them where columns are few is not fetched.
    """
    tiles = (across // lanes(A) + 2) // 3
    return max(1, min((entries + count * tiles - 1) // max(1, count * tiles), LINE // A.itemsize))


@inner
def room_for_gram(r: int, G: Array) -> tuple[Array, Array]:
    """Zeros like G for FᵀF, and for SOME rows of F."""
    across = width_of(r, G.itemsize)
    return aligned_zeros(r * across, G), aligned_zeros(SOME * across, G)


@leaf
def add_gram(F: Array, q: int, f: Array, rows: int, wide: Array, G: Array) -> None:
    """G += FᵀF of so many rows in float64, from the diagonal on, or a little before.

    There is ``wide`` for SOME of F's rows. Components from the q-th on are taken from the lanes of f.
    """
    r, apart = len(f), len(F) // LANES
    across = len(G) // r
    for begin in range(0, rows, SOME):
        some, to, frm = min(SOME, rows - begin), Index(0), Index(begin * apart)
        for _ in range(some):
            for j in range(Index(q)):
                wide[to + j] = F[frm + j]
            to, frm = to + Index(across), frm + Index(apart)
        for j in range(q, r):
            to = Index(j)
            for lane in range(Index(begin), Index(begin + some)):
                wide[to] = f[j, lane]
                to += Index(across)
        for i in range(0, r, ROWS):
            left, right = Matrix(wide, i, 1, across), Matrix(wide, i, across, 1)
            add_product(Matrix(G, i * across + i, across, 1), left, right, min(ROWS, r - i), some, across - i)


@leaf
def multiply_rows(
    A: Array,
    begins: Any,
    numbers: Integers,
    begin: int,
    count: int,
    R: Array,
    c: Array,
    to: int,
    across: int,
    ahead: int,
    step: int,
) -> None:
    """c_i += Σ_j a_ij R_j for the rows i and so many columns j, tile by tile; c_i from ``to`` on.

    Meanwhile what A has from ``ahead`` on is fetched, a ``step`` for each column.
    """
    n, at = len(R) // across, 0
    while at < across:
        width = tile_width(across - at, R.itemsize)
        if width == len(ONE) * BYTES // R.itemsize:
            _multiply(A, begins, numbers, begin, count, R, at * n, c, to + at, across, ahead, step, ONE)
        elif width == len(TWO) * BYTES // R.itemsize:
            _multiply(A, begins, numbers, begin, count, R, at * n, c, to + at, across, ahead, step, TWO)
        else:
            _multiply(A, begins, numbers, begin, count, R, at * n, c, to + at, across, ahead, step, THREE)
        ahead += count * step
        at += width


@leaf
def _spread(
    A: Array,
    begins: Any,
    numbers: Integers,
    begin: int,
    count: int,
    F: Array,
    f: int,
    across: int,
    S: Array,
    ahead: tuple[int, ...],
) -> None:
    """S_j += Σ_i a_ij f_i for the rows i and so many columns j, tile by tile; f_i from ``f`` on."""
    n, at, begun = len(S) // across, 0, 0
    while at < across:
        width = tile_width(across - at, F.itemsize)
        if width == len(ONE) * BYTES // F.itemsize:
            _add(A, begins, numbers, begin, count, F, f + at, across, S, at * n, ahead, begun, ONE)
        elif width == len(TWO) * BYTES // F.itemsize:
            _add(A, begins, numbers, begin, count, F, f + at, across, S, at * n, ahead, begun, TWO)
        else:
            _add(A, begins, numbers, begin, count, F, f + at, across, S, at * n, ahead, begun, THREE)
        at, begun = at + width, begun + count


@leaf
def _multiply(
    A: Array,
    begins: Any,
    numbers: Integers,
    begin: int,
    count: int,
    R: Array,
    tile: int,
    c: Array,
    to: int,
    across: int,
    ahead: int,
    step: int,
    many: Any,
) -> None:
    """One tile of c_i += Σ_j a_ij R_j: it stays in registers."""
    width, rows = len(many) * BYTES // R.itemsize, rows_from(to, across, ROWS)
    sums = load_rows(c, rows, 0, many)
    for k in range(begin, begin + count):
        fetch(A, ahead + (k - begin) * step)
        j = np.int64(numbers[k])
        sums = add_outer(sums, A, begins, j, load(R, tile + j * width, many))
    store_rows(c, rows, 0, sums)


@leaf
def _add(
    A: Array,
    begins: Any,
    numbers: Integers,
    begin: int,
    count: int,
    F: Array,
    frm: int,
    across: int,
    S: Array,
    tile: int,
    ahead: tuple[int, ...],
    begun: int,
    many: Any,
) -> None:
    """One tile of S_j += Σ_i a_ij f_i: f stays in registers."""
    width = len(many) * BYTES // F.itemsize
    f = load_rows(F, rows_from(frm, across, ROWS), 0, many)
    for k in range(begin, begin + count):
        if len(ahead) > 1:
            fetch(A, ahead[0] + (begun + k - begin) * ahead[1])
        j = np.int64(numbers[k])
        place = tile + j * width
        store(S, place, add_inner(load(S, place, many), A, begins, j, f))


@leaf
def _group(group: int, start: int, rows: int, n: int) -> Any:
    """Where the rows of a group begin, of so many from ``start`` on."""
    first = ROWS * group
    return rows_from((start + first) * n, n, rows - first)
