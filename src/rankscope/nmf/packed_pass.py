"""Passes over a small A that is packed once, without the columns in which four rows are all 0: they only look.

C = A Rᵀ,   S = X A
"""

from typing import Any, NamedTuple

import numpy as np

from rankscope.compiled import Array, Index, Integers, compiled, inner
from rankscope.nmf.columns import four_rows
from rankscope.nmf.tiles import (
    FOLD,
    LANES,
    aligned_zeros,
    fold,
    inner_product,
    tile_width,
    width_of,
)
from rankscope.team import together
from rankscope.vectors import BYTES, THREE, TWO, add_scaled, add_up, load, store

ENOUGH = 2**16
"""Entries of A, columns of which some rows are 0 left out, times k that are worth another thread."""


class Packed(NamedTuple):
    """A (m×n) without the columns in which four rows are all 0."""

    entries: Array
    """Four rows' in one column side by side, then in the next; one group of four after another."""
    numbers: Integers
    """Of these columns."""
    begins: Integers
    """Where each group begins among them, and where the last one ends (⌈m/4⌉ + 1)."""


def pack(A: Array) -> Packed:
    """A small matrix that many passes only look at: they need not find its columns again."""
    m, n = A.shape
    begins = np.zeros((m + 3) // 4 + 1, np.int64)
    numbers, entries = np.empty(n * (len(begins) - 1), np.int32), np.empty(4 * n * (len(begins) - 1), A.dtype)
    found = _pack(A, entries, numbers, begins)
    return Packed(entries[: 4 * found].copy(), numbers[:found].copy(), begins)


@compiled
def _pack(A: Array, entries: Array, numbers: Integers, begins: Integers) -> int:
    """How many columns there are, of all groups."""
    (m, n), flat, place = A.shape, A.reshape(A.size), 0
    for group in range(len(begins) - 1):
        i0, i1, i2, i3 = four_rows(4 * group, m, n)
        rows = min(4, m - 4 * group)
        for j in range(n):
            if flat[i0 + j] != 0 or flat[i1 + j] != 0 or flat[i2 + j] != 0 or flat[i3 + j] != 0:
                numbers[place] = j
                for i in range(4):
                    entries[4 * place + i] = A[4 * group + i, j] if i < rows else 0
                place += 1
        begins[group + 1] = place
    return place


@inner
def evaluate_packed(A: Packed, R: Array, F: Array, directions: Array, S: Array, T: Array, team: int) -> float:
    """S ← X A (k×n), T ← R Aᵀ (k×m), and ⟨S, R⟩ for X (k×m), laid in rows as F, and R (k×n), laid as directions."""
    parts = min(team, max(1, A.numbers.size * len(R) // ENOUGH))
    Ss = np.empty((parts, *R.shape), R.dtype)
    together(_part, parts, team, (A, F, directions, Ss, T))
    add_up(Ss, S)
    return inner_product(S, R)


@inner
def _part(part: int, A: Packed, F: Array, directions: Array, S: Array, T: Array) -> None:
    (parts, k, n), (_, m), groups = S.shape, T.shape, len(A.begins) - 1
    across, C, sums = width_of(k, T.itemsize), aligned_zeros(len(F), T), aligned_zeros(len(directions), T)
    first, end = part * groups // parts, (part + 1) * groups // parts
    S[part] = 0
    for group in range(first, end):
        at, rows = 0, 4 * group * across
        while at < across:
            width = tile_width(across - at, T.itemsize)
            if width == len(TWO) * BYTES // T.itemsize:
                _add_both(A, group, directions, F, C, sums, at * n, rows + at, across, TWO)
            else:
                _add_both(A, group, directions, F, C, sums, at * n, rows + at, across, THREE)
            at += width
        if (group - first) % (FOLD * LANES // 4) == FOLD * LANES // 4 - 1:
            fold(sums, S[part])
    fold(sums, S[part])
    for begin in range(4 * first, min(4 * end, m), LANES):
        for j in range(k):
            for i in range(begin, min(begin + LANES, 4 * end, m)):
                T[j, i] = C[i * across + j]


@inner
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
    """One tile of c_i += Σ_j a_ij R_j and of S_j += Σ_i a_ij f_i, for four rows i."""
    width = len(many) * BYTES // R.itemsize
    c0, c1 = load(C, frm, many), load(C, frm + across, many)
    c2, c3 = load(C, frm + 2 * across, many), load(C, frm + 3 * across, many)
    for k in range(A.begins[group], A.begins[group + 1]):
        r = load(R, tile + np.int64(A.numbers[Index(k)]) * width, many)
        c0, c1 = add_scaled(c0, A.entries, 4 * k, r), add_scaled(c1, A.entries, 4 * k + 1, r)
        c2, c3 = add_scaled(c2, A.entries, 4 * k + 2, r), add_scaled(c3, A.entries, 4 * k + 3, r)
    store(C, frm, c0)
    store(C, frm + across, c1)
    store(C, frm + 2 * across, c2)
    store(C, frm + 3 * across, c3)
    f0, f1 = load(F, frm, many), load(F, frm + across, many)
    f2, f3 = load(F, frm + 2 * across, many), load(F, frm + 3 * across, many)
    for k in range(A.begins[group], A.begins[group + 1]):
        place = tile + np.int64(A.numbers[Index(k)]) * width
        s = load(S, place, many)
        s = add_scaled(add_scaled(s, A.entries, 4 * k, f0), A.entries, 4 * k + 1, f1)
        s = add_scaled(add_scaled(s, A.entries, 4 * k + 2, f2), A.entries, 4 * k + 3, f3)
        store(S, place, s)
