"""Passes over a small A that is packed once, without the columns in which a few rows are all 0: they only look.

C = A Rᵀ,   S = X A

Each thread has a share of the columns, the same in every pass: those of R, of S and of A stay in its cache, and threads
give each other no more than their parts of C.
"""

from typing import Any, NamedTuple

import numpy as np

from rankscope.compiled import Array, Index, Integers, compiled, leaf
from rankscope.nmf.columns import see
from rankscope.nmf.tiles import FOLD, LANES, WHOLE, fold_columns, share_of, tile_width, width_of
from rankscope.rows import ROWS, add_inner, add_outer, load_rows, rows_from, store_rows
from rankscope.vectors import BYTES, ONE, THREE, TWO, load, store

ENOUGH = 2**16
"""Entries of A that are worth another thread."""


class Packed(NamedTuple):
    """A (m×n) without the columns in which ROWS rows are all 0."""

    entries: Array
    """Those of ROWS rows in one column side by side, then in the next; one group of rows after another, and all groups
    of one share of the columns after those of another."""
    numbers: Integers
    """Of these columns, from the first of their share on."""
    begins: Integers
    """Where each group begins among them, and where the last one ends (shares × (⌈m/ROWS⌉ + 1))."""


def pack(A: Array, team: int) -> Packed:
    """A small matrix that many passes by so many threads only look at: they need not find its columns again."""
    m, n = A.shape
    groups = -(-m // ROWS)
    shares = max(1, min(team, A.size // ENOUGH, n // WHOLE))
    begins, numbers, entries = (
        np.zeros((shares, groups + 1), np.int64),
        np.empty(n * groups, np.int32),
        np.empty(ROWS * n * groups, A.dtype),
    )
    found = _pack(A, entries, numbers, begins)
    return Packed(entries[: ROWS * found].copy(), numbers[:found].copy(), begins)


@compiled
def _pack(A: Array, entries: Array, numbers: Integers, begins: Integers) -> int:
    """How many columns there are, of all groups."""
    (m, n), flat, place, shares = A.shape, A.reshape(A.size), 0, len(begins)
    seen = np.zeros(n, np.uint8)
    for part in range(shares):
        begin, end = share_of(part, shares, n)
        begins[part, 0] = place
        for group in range(begins.shape[1] - 1):
            first = ROWS * group
            see(flat, rows_from(first * n, n, m - first), begin, end, seen)
            for j in range(begin, end):
                if seen[j]:
                    numbers[place] = j - begin
                    for i in range(ROWS):
                        entries[ROWS * place + i] = A[first + i, j] if first + i < m else 0
                    place += 1
            begins[part, group + 1] = place
    return place


@leaf
def look_at_share(part: int, A: Packed, F: Array, directions: Array, sums: Array, C: Array, S: Array) -> None:
    """C ← A Rᵀ of a share of the columns, in rows, and these columns of S ← X A (k×n).

    X (k×m) is laid in rows as F, this share of R (k×…) as directions; sums are room for as much.
    """
    (k, n), across = S.shape, width_of(len(S), S.itemsize)
    begin, end = share_of(part, len(A.begins), n)
    many = end - begin
    C[:], sums[:] = 0, 0
    for i in range(k):
        S[i, begin:end] = 0
    for group in range(A.begins.shape[1] - 1):
        at, rows = 0, ROWS * group * across
        first, last = A.begins[part, group], A.begins[part, group + 1]
        while at < across:
            width = tile_width(across - at, S.itemsize)
            if width == len(ONE) * BYTES // S.itemsize:
                _add_both(A, first, last, directions, F, C, sums, at * many, rows + at, across, ONE)
            elif width == len(TWO) * BYTES // S.itemsize:
                _add_both(A, first, last, directions, F, C, sums, at * many, rows + at, across, TWO)
            else:
                _add_both(A, first, last, directions, F, C, sums, at * many, rows + at, across, THREE)
            at += width
        if group % (FOLD * LANES // ROWS) == FOLD * LANES // ROWS - 1:
            fold_columns(sums, S, begin, many)
    fold_columns(sums, S, begin, many)


@leaf
def _add_both(
    A: Packed,
    first: int,
    last: int,
    R: Array,
    F: Array,
    C: Array,
    S: Array,
    tile: int,
    frm: int,
    across: int,
    many: Any,
) -> None:
    """One tile of c_i += Σ_j a_ij R_j and of S_j += Σ_i a_ij f_i, for the rows i of a group."""
    width, rows = len(many) * BYTES // R.itemsize, rows_from(frm, across, ROWS)
    sums, entries = load_rows(C, rows, 0, many), rows_from(0, 1, ROWS)
    for k in range(first, last):
        j = np.int64(A.numbers[Index(k)])
        sums = add_outer(sums, A.entries, entries, ROWS * k, load(R, tile + j * width, many))
    store_rows(C, rows, 0, sums)
    f = load_rows(F, rows, 0, many)
    for k in range(first, last):
        place = tile + np.int64(A.numbers[Index(k)]) * width
        store(S, place, add_inner(load(S, place, many), A.entries, entries, ROWS * k, f))
