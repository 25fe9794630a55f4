"""Products with the last few components, of which no register would be full: columns of A lie side by side instead.

    c_ik = Σ_j a_ij R_kj,        S_kj += Σ_i a_ij f_ik        for ROWS rows i, and one component k or two

With r = 50 and registers of 16 entries, two components would take as many steps as sixteen.
"""

from typing import Any

from rankscope.compiled import Array, inner, leaf
from rankscope.nmf.tiles import LANES
from rankscope.rooms import aligned_zeros
from rankscope.rows import ROWS, add_pairs, add_weighted, everywhere, load_rows, store_totals, zero_rows
from rankscope.vectors import BYTES, ONE, TWO, fetch, lanes, load_apart, store_apart

FEW = 4
"""Components, of which more are quicker with zeros beside them."""


@leaf
def rest_of(r: int, itemsize: int) -> int:
    """How many of r components are taken so."""
    width = BYTES // itemsize
    return r % width if r > width and r % width <= FEW else 0


@inner
def room_for_rest(rest: int, R: Array) -> Array:
    """Zeros for so many components of S, which is like R (r×n)."""
    return aligned_zeros(rest * R.shape[1], R).reshape(rest, R.shape[1])


@leaf
def multiply_rest(A: Array, begins: Any, n: int, R: Array, c: Array, lane: int) -> None:
    """c_k, from a lane on, ← Σ_j a_ij R_kj for the last components k and the ROWS rows i that begin there."""
    r = len(c)
    flat, products = R.reshape(R.size), c.reshape(c.size)
    for k in range(r - rest_of(r, A.itemsize), r, 2):
        if k + 1 < r:
            _multiply(A, begins, n, flat, k, products, lane, TWO)
        else:
            _multiply(A, begins, n, flat, k, products, lane, ONE)


@leaf
def add_rest(A: Array, begins: Any, n: int, f: Array, lane: int, S: Array, ahead: int, fetches: bool) -> None:
    """S_k += Σ_i a_ij f_k, lane by lane, for the last components k of f and the ROWS rows i that begin there.

    Meanwhile a row for each two components is fetched, of A from ``ahead`` on, if it fetches.
    """
    rest = len(S)
    flat, weights, first = S.reshape(S.size), f.reshape(f.size), len(f) - rest
    for k in range(0, rest, 2):
        next = ahead + k // 2 * n
        if k + 1 < rest:
            _add(A, begins, n, weights, (first + k) * LANES + lane, flat, k * n, next, fetches, TWO)
        else:
            _add(A, begins, n, weights, (first + k) * LANES + lane, flat, k * n, next, fetches, ONE)


@leaf
def _multiply(A: Array, begins: Any, n: int, R: Array, k: int, c: Array, lane: int, many: Any) -> None:
    width, sums = lanes(A), zero_rows(A, many)
    for j in range(0, n - width + 1, width):
        sums = add_pairs(sums, load_rows(A, begins, j, ONE), load_apart(R, k * n + j, n, many))
    store_totals(c, k * LANES + lane, LANES, sums)
    for j in range(n // width * width, n):
        for m in range(len(many)):
            for i in range(ROWS):
                c[(k + m) * LANES + lane + i] += A[begins[i] + j] * R[(k + m) * n + j]


@leaf
def _add(
    A: Array, begins: Any, n: int, f: Array, frm: int, S: Array, to: int, ahead: int, fetches: bool, many: Any
) -> None:
    width, weights = lanes(A), everywhere(f, frm, LANES, many)
    for j in range(0, n - width + 1, width):
        if fetches:
            fetch(A, ahead + j)
        sums = load_apart(S, to + j, n, many)
        store_apart(S, to + j, n, add_weighted(sums, load_rows(A, begins, j, ONE), weights))
    for j in range(n // width * width, n):
        for m in range(len(many)):
            for i in range(ROWS):
                S[to + m * n + j] += A[begins[i] + j] * f[frm + m * LANES + i]
