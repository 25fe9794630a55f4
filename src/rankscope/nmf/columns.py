"""Products with four rows of A at a time, and of these only the columns in which not all four are 0:

    c_i += a_ij R_j,   S_j += Σ_i a_ij f_i      for four i, and the columns j in turn

with c, or f, of the four rows in registers: two or three vectors of each, a *tile*, as many times as R has tiles.
"""

from typing import Any, NamedTuple

import numpy as np

from rankscope.compiled import Array, Index, Integers, inner
from rankscope.nmf.tiles import LANES, tile_width, to_rows, width_of
from rankscope.vectors import BYTES, THREE, TWO, add_scaled, load, store

NEAR = 2**18
"""Bytes of R's columns, and of S's, that are taken at a time, a panel: both stay in the second cache level."""


class Columns(NamedTuple):
    """The columns of which something is not 0, for every four rows in the lanes and every panel."""

    numbers: Integers
    """Those of four rows and a panel, from the place of the panel's first column on (LANES/4 × n)."""
    counts: Integers
    """How many they are (LANES/4 × panels)."""
    panel: int
    """How many columns a panel has."""


@inner
def room_for_columns(R: Array) -> Columns:
    """Room for the columns of A (…×n) that are multiplied with R (r×n)."""
    r, n = R.shape
    panel = min(n, max(NEAR // (width_of(r, R.itemsize) * R.itemsize), 64))
    return Columns(np.zeros((LANES // 4, n + 1), np.int32), np.zeros((LANES // 4, -(-n // panel)), np.int64), panel)


@inner
def find_columns(A: Array, start: int, rows: int, n: int, columns: Columns) -> None:
    """The columns of so many rows of A from ``start`` on."""
    seen = np.zeros(n, np.uint8)
    for group in range((rows + 3) // 4):
        i0, i1, i2, i3 = four_rows(start + 4 * group, start + rows, n)
        a0, a1, a2, a3 = A[i0 : i0 + n], A[i1 : i1 + n], A[i2 : i2 + n], A[i3 : i3 + n]
        for j in range(n):
            seen[j] = (a0[j] != 0) | (a1[j] != 0) | (a2[j] != 0) | (a3[j] != 0)
        numbers, counts = columns.numbers[group], columns.counts[group]
        for k in range(len(counts)):
            begin = Index(k * columns.panel)
            place = begin
            for j in range(begin, Index(min(k * columns.panel + columns.panel, n))):
                numbers[place] = j
                place += Index(seen[j])
            counts[k] = place - begin


@inner
def add_products(A: Array, start: int, rows: int, n: int, columns: Columns, R: Array, c: Array) -> None:
    """c_i += Σ_j a_ij R_j for so many rows i of A from ``start`` on."""
    across = len(c) // LANES
    for k in range(columns.counts.shape[1]):
        for group in range((rows + 3) // 4):
            four = four_rows(start + 4 * group, start + rows, n)
            numbers, count = columns.numbers[group], columns.counts[group, k]
            multiply_four(A, four, numbers, k * columns.panel, count, R, c, 4 * group * across, across)


@inner
def add_left(A: Array, start: int, rows: int, n: int, columns: Columns, F: Array, S: Array) -> None:
    """S_j += Σ_i a_ij f_i for so many rows i of A from ``start`` on."""
    across = len(F) // LANES
    for k in range(columns.counts.shape[1]):
        for group in range((rows + 3) // 4):
            four = four_rows(start + 4 * group, start + rows, n)
            numbers, count = columns.numbers[group], columns.counts[group, k]
            _spread(A, four, numbers, k * columns.panel, count, F, 4 * group * across, across, S, False)


@inner
def add_gram(x: Array, r: int, wide: Array, G: Array) -> None:
    """G += x xᵀ in float64, but for what lies below the tiles of the diagonal; ``wide`` is room for x."""
    across, every = len(G) // r, np.arange(r).astype(np.int32)
    to_rows(x, r, wide)
    for i in range(0, LANES, 4):
        _spread(wide, four_rows(i, LANES, across), every, 0, r, wide, i * across, across, G, True)


@inner
def multiply_four(
    A: Array, four: Any, numbers: Integers, begin: int, count: int, R: Array, c: Array, to: int, across: int
) -> None:
    """c_i += Σ_j a_ij R_j for four rows i and so many columns j, tile by tile; c_i from ``to`` on."""
    n, at = len(R) // across, 0
    while at < across:
        width = tile_width(across - at, R.itemsize)
        if width == len(TWO) * BYTES // R.itemsize:
            _add_inner(A, four, numbers, begin, count, R, at * n, c, to + at, across, TWO)
        else:
            _add_inner(A, four, numbers, begin, count, R, at * n, c, to + at, across, THREE)
        at += width


@inner
def _spread(
    A: Array,
    four: Any,
    numbers: Integers,
    begin: int,
    count: int,
    F: Array,
    f: int,
    across: int,
    S: Array,
    upper: bool,
) -> None:
    """S_j += Σ_i a_ij f_i for four rows i and so many columns j, tile by tile; f_i from ``f`` on. Where ``upper``, only
    for columns that do not lie beyond the tile."""
    n, at = len(S) // across, 0
    while at < across:
        width = tile_width(across - at, F.itemsize)
        many = min(count, at + width) if upper else count
        if width == len(TWO) * BYTES // F.itemsize:
            _add_outer(A, four, numbers, begin, many, F, f + at, across, S, at * n, TWO)
        else:
            _add_outer(A, four, numbers, begin, many, F, f + at, across, S, at * n, THREE)
        at += width


@inner
def _add_inner(
    A: Array,
    four: Any,
    numbers: Integers,
    begin: int,
    count: int,
    R: Array,
    tile: int,
    c: Array,
    to: int,
    across: int,
    many: Any,
) -> None:
    """One tile of c_i += Σ_j a_ij R_j: it stays in registers."""
    i0, i1, i2, i3 = four
    width = len(many) * BYTES // R.itemsize
    c0, c1 = load(c, to, many), load(c, to + across, many)
    c2, c3 = load(c, to + 2 * across, many), load(c, to + 3 * across, many)
    for k in range(begin, begin + count):
        j = np.int64(numbers[k])
        r = load(R, tile + j * width, many)
        c0, c1 = add_scaled(c0, A, i0 + j, r), add_scaled(c1, A, i1 + j, r)
        c2, c3 = add_scaled(c2, A, i2 + j, r), add_scaled(c3, A, i3 + j, r)
    store(c, to, c0)
    store(c, to + across, c1)
    store(c, to + 2 * across, c2)
    store(c, to + 3 * across, c3)


@inner
def _add_outer(
    A: Array,
    four: Any,
    numbers: Integers,
    begin: int,
    count: int,
    F: Array,
    frm: int,
    across: int,
    S: Array,
    tile: int,
    many: Any,
) -> None:
    """One tile of S_j += Σ_i a_ij f_i: f stays in registers."""
    i0, i1, i2, i3 = four
    width = len(many) * BYTES // F.itemsize
    f0, f1 = load(F, frm, many), load(F, frm + across, many)
    f2, f3 = load(F, frm + 2 * across, many), load(F, frm + 3 * across, many)
    for k in range(begin, begin + count):
        j = np.int64(numbers[k])
        s = load(S, tile + j * width, many)
        s = add_scaled(add_scaled(s, A, i0 + j, f0), A, i1 + j, f1)
        s = add_scaled(add_scaled(s, A, i2 + j, f2), A, i3 + j, f3)
        store(S, tile + j * width, s)


@inner
def four_rows(i: int, end: int, n: int) -> tuple[int, int, int, int]:
    """Where rows i … i + 3 begin, the last one before ``end`` in place of those beyond."""
    last = end - 1
    return i * n, min(i + 1, last) * n, min(i + 2, last) * n, min(i + 3, last) * n
