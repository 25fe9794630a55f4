"""Passes over a small A that is packed once, without the columns in which a few rows are all 0: they only look.

C = A Rᵀ,   S = X A
"""

from typing import Any, NamedTuple

import numpy as np

from rankscope.compiled import Array, Index, Integers, compiled, inner, leaf
from rankscope.nmf.columns import see
from rankscope.nmf.tiles import (
    FOLD,
    LANES,
    fold,
    inner_product,
    tile_width,
    width_of,
)
from rankscope.team import together
from rankscope.vectors import (
    BYTES,
    ONE,
    ROWS,
    THREE,
    TWO,
    add_inner,
    add_outer,
    add_up,
    load,
    load_rows,
    rooms,
    rows_from,
    store,
    store_rows,
)

ENOUGH = 2**18
"""Entries of a packed A, times k, that are worth another thread."""


class Packed(NamedTuple):
    """A (m×n) without the columns in which ROWS rows are all 0."""

    entries: Array
    """Those of ROWS rows in one column side by side, then in the next; one group of rows after another."""
    numbers: Integers
    """Of these columns."""
    begins: Integers
    """Where each group begins among them, and where the last one ends (⌈m/ROWS⌉ + 1)."""


def pack(A: Array) -> Packed:
    """A small matrix that many passes only look at: they need not find its columns again."""
    m, n = A.shape
    groups = -(-m // ROWS)
    begins, numbers, entries = (
        np.zeros(groups + 1, np.int64),
        np.empty(n * groups, np.int32),
        np.empty(ROWS * n * groups, A.dtype),
    )
    found = _pack(A, entries, numbers, begins)
    return Packed(entries[: ROWS * found].copy(), numbers[:found].copy(), begins)


@compiled
def _pack(A: Array, entries: Array, numbers: Integers, begins: Integers) -> int:
    """How many columns there are, of all groups."""
    (m, n), flat, place = A.shape, A.reshape(A.size), 0
    seen = np.zeros(n, np.uint8)
    for group in range(len(begins) - 1):
        first = ROWS * group
        see(flat, rows_from(first * n, n, m - first), 0, n, seen)
        for j in range(n):
            if seen[j]:
                numbers[place] = j
                for i in range(ROWS):
                    entries[ROWS * place + i] = A[first + i, j] if first + i < m else 0
                place += 1
        begins[group + 1] = place
    return place


@inner
def evaluate_packed(A: Packed, R: Array, F: Array, directions: Array, S: Array, T: Array, team: int) -> float:
    """S ← X A (k×n), T ← R Aᵀ (k×m), and ⟨S, R⟩ for X (k×m), laid in rows as F, and R (k×n), laid as directions."""
    parts = min(team, max(1, A.entries.size * len(R) // ENOUGH))
    Ss, Cs, sums = rooms(parts, S.size, S), rooms(parts, len(F), S), rooms(parts, len(directions), S)
    together(_part, parts, team, (parts, A, F, directions, Ss, T, Cs, sums))
    add_up(Ss, S.shape[1], S)
    return inner_product(S, R)


@leaf
def _part(
    part: int, parts: int, A: Packed, F: Array, directions: Array, Ss: Array, T: Array, Cs: Array, all_sums: Array
) -> None:
    (k, m), groups = T.shape, len(A.begins) - 1
    n = len(directions) // width_of(k, T.itemsize)
    S = Ss[part, : k * n].reshape(k, n)
    across, C, sums = width_of(k, T.itemsize), Cs[part], all_sums[part, : len(directions)]
    first, end = part * groups // parts, (part + 1) * groups // parts
    S[:], C[:], sums[:] = 0, 0, 0
    for group in range(first, end):
        at, rows = 0, ROWS * group * across
        while at < across:
            width = tile_width(across - at, T.itemsize)
            if width == len(ONE) * BYTES // T.itemsize:
                _add_both(A, group, directions, F, C, sums, at * n, rows + at, across, ONE)
            elif width == len(TWO) * BYTES // T.itemsize:
                _add_both(A, group, directions, F, C, sums, at * n, rows + at, across, TWO)
            else:
                _add_both(A, group, directions, F, C, sums, at * n, rows + at, across, THREE)
            at += width
        if (group - first) % (FOLD * LANES // ROWS) == FOLD * LANES // ROWS - 1:
            fold(sums, S)
    fold(sums, S)
    for begin in range(ROWS * first, min(ROWS * end, m), LANES):
        for j in range(k):
            for i in range(begin, min(begin + LANES, ROWS * end, m)):
                T[j, i] = C[i * across + j]


@leaf
def _add_both(
    A: Packed,
    group: int,
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
    for k in range(A.begins[group], A.begins[group + 1]):
        j = np.int64(A.numbers[Index(k)])
        sums = add_outer(sums, A.entries, entries, ROWS * k, load(R, tile + j * width, many))
    store_rows(C, rows, 0, sums)
    f = load_rows(F, rows, 0, many)
    for k in range(A.begins[group], A.begins[group + 1]):
        place = tile + np.int64(A.numbers[Index(k)]) * width
        store(S, place, add_inner(load(S, place, many), A.entries, entries, ROWS * k, f))
