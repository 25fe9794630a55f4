"""One pass over A, compiled: each row is read from memory once, for both products and for what lies between them.

    C = A Rᵀ,   F ← moved(F, C),   S = FᵀA,   G = FᵀF

128 rows of A are taken at a time, few enough to stay in the second cache level: both products of them (``columns``),
and between the two their rows of F, side by side (``lanes``). Factors are given and returned transposed, X = Fᵀ (r×m).
Parts of the rows are worked on side by side, by so many threads (``team``); their S and G are added up.
"""

import numpy as np

from rankscope.compiled import Array, compiled, inner
from rankscope.nmf.columns import (
    add_gram,
    add_left,
    add_products,
    find_columns,
    multiply_rows,
    room_for_columns,
    room_for_gram,
)
from rankscope.nmf.lanes import (
    combine,
    load_lanes,
    move_lanes,
    parts_of,
    product_of,
    room_for_lanes,
    store_lanes,
    to_lanes,
    violation_of,
)
from rankscope.nmf.rest import rest_of, room_for_rest
from rankscope.nmf.rules.rule import COORDINATES, SWEEPS_PER_CHECK, Move
from rankscope.nmf.tiles import (
    FOLD,
    LANES,
    fold,
    inner_product,
    laid,
    room_for_rows,
    share_of,
    symmetric,
    to_rows,
)
from rankscope.rooms import add_up, aligned_zeros, rooms
from rankscope.rows import ROWS, rows_from
from rankscope.team import together

FAR_BYTES = 40 * 2**20
"""Of A, beyond which it is read from memory: measured where 47 MB come twice as fast as more."""
SOLVED = 4
"""Parts for each thread where some rows take more sweeps than others."""


@compiled
def move_rows(
    A: Array,
    at: int,
    R: Array,
    Q: Array,
    l1: float,
    X: Array,
    moved: Array,
    move: Move,
    measure: bool,
    S: Array,
    G: Array,
    team: int,
) -> tuple[float, float]:
    """The columns of X that belong to rows of A, moved; their part of S and G; and the sums of the KKT residual.

    Args:
        A: rows ``at`` … ``at + len(A)`` of the matrix (…×n), contiguous.
        at: the number of the first.
        R: (r×n).
        Q: RRᵀ + ℓ₂I (r×r).
        l1: what is subtracted from C.
        X: the factor before, transposed (r×m).
        moved: gets the factor after (r×m).
        move: how to move.
        measure: whether ‖v‖² and ‖C‖² of the factor before are wanted (see ``Subproblem.residual``).
        S: gets FᵀA (r×n).
        G: gets FᵀF (r×r) in float64.
        team: how many threads.

    Returns:
        ‖v‖², ‖C‖².
    """
    Ss = rooms(parts_of(len(A), team), S.size, S)
    residual = move_rows_into_parts(A, at, R, Q, l1, X, moved, move, measure, Ss, G, team)
    add_up(Ss, S.shape[1], S)
    return residual


@inner
def move_rows_into_parts(
    A: Array,
    at: int,
    R: Array,
    Q: Array,
    l1: float,
    X: Array,
    moved: Array,
    move: Move,
    measure: bool,
    Ss: Array,
    G: Array,
    team: int,
) -> tuple[float, float]:
    """The same, where S is left in parts, one for each part of the rows, which are not yet added up."""
    parts = len(Ss)
    Gs, residuals = rooms(parts, G.size, G), np.zeros((parts, 2))
    together(_move_rows, parts, team, (A, at, R, Q, l1, X, moved, move, measure, Ss, Gs, residuals))
    add_up(Gs, G.shape[1], G)
    violation, scale = 0.0, 0.0
    for k in range(parts):
        violation, scale = violation + residuals[k, 0], scale + residuals[k, 1]
    return violation, scale


@inner
def _move_rows(
    k: int,
    A: Array,
    at: int,
    R: Array,
    Q: Array,
    l1: float,
    X: Array,
    moved: Array,
    move: Move,
    measure: bool,
    Ss: Array,
    Gs: Array,
    residuals: Array,
) -> None:
    r, n = R.shape
    q = r - rest_of(r, A.itemsize)
    flat, directions, curvature = A.reshape(A.size), laid(R, q), Q.astype(A.dtype)
    columns, x, spare, c = (
        room_for_columns(R),
        room_for_lanes(r, A.dtype),
        room_for_lanes(r, A.dtype),
        room_for_lanes(r, A.dtype),
    )
    products, F = room_for_rows(q, A), room_for_rows(q, A)
    sums, rest, S = aligned_zeros(len(directions), R), room_for_rest(r - q, R), Ss[k, : r * n].reshape(r, n)
    S[:] = 0
    G, wide = room_for_gram(r, Gs)
    violation, scale = 0.0, 0.0
    begin, end = share_of(k, len(Ss), len(A))
    far = A.size * A.itemsize > FAR_BYTES
    for start in range(begin, end, LANES):
        lanes = min(LANES, end - start)
        products[:] = 0
        add_products(flat, start, lanes, n, columns, directions, products, R, c, far)
        to_lanes(products, q, lanes, c)
        load_lanes(X, at + start, lanes, x)
        if measure:
            violation += violation_of(x, c, curvature, l1, lanes, spare)
            scale += product_of(c, c, r, lanes)
        y = move_lanes(x, c, curvature, l1, move, lanes, spare)
        store_lanes(y, lanes, moved, at + start)
        to_rows(y, q, F)
        add_left(flat, start, lanes, n, columns, F, sums, y, rest, far)
        add_gram(F, q, y, lanes, wide, G)
        if (start - begin) // LANES % FOLD == FOLD - 1:
            fold(sums, rest, S)
    fold(sums, rest, S)
    symmetric(G, Gs[k, : r * r].reshape(r, r))
    residuals[k, 0], residuals[k, 1] = violation, scale


@compiled
def evaluate_rows(
    A: Array, at: int, R: Array, between: Array, X: Array, T: Array, S: Array, G: Array, team: int
) -> float:
    """Both products of rows of A with a chain as it is: their part of T = R Aᵀ, S = (F B)ᵀA, G = FᵀF and ⟨S, R⟩.

    Args:
        A: rows ``at`` … ``at + len(A)`` of the matrix (…×n), contiguous.
        at: the number of the first.
        R: (k×n).
        between: Bᵀ (k×r), for what F is multiplied by; of no size where that is nothing.
        X: F transposed (r×m); of no size where only T is wanted.
        T: gets R Aᵀ (k×m); of no size where that is not wanted.
        S: gets (F B)ᵀA (k×n); of no size where only T is wanted.
        G: gets FᵀF (r×r) in float64.
        team: how many threads.

    Returns:
        ⟨S, R⟩.
    """
    parts = parts_of(len(A), team)
    Ss, Gs = rooms(parts, S.size, S), rooms(parts, G.size, G)
    together(_evaluate_rows, parts, team, (A, at, R, between, X, T, Ss, Gs))
    add_up(Ss, S.shape[1], S)
    add_up(Gs, G.shape[1], G)
    return inner_product(S, R)


@inner
def _evaluate_rows(
    k: int, A: Array, at: int, R: Array, between: Array, X: Array, T: Array, Ss: Array, Gs: Array
) -> None:
    (q, n), r = R.shape, len(X)
    s, u = q - rest_of(q, A.itemsize), r - rest_of(r, A.itemsize)
    flat, directions, weights = A.reshape(A.size), laid(R, s), between.astype(A.dtype)
    columns, x, c = room_for_columns(R), room_for_lanes(r, A.dtype), room_for_lanes(q, A.dtype)
    products, F, product = room_for_rows(s, A), room_for_rows(u, A), room_for_rows(s, A)
    sums, rest = aligned_zeros(len(directions), R), room_for_rest(q - s, R)
    S = Ss[k, : q * n if r else 0].reshape(q if r else 0, n)
    S[:] = 0
    G, wide = room_for_gram(r, Gs)
    begin, end = share_of(k, len(Ss), len(A))
    far = A.size * A.itemsize > FAR_BYTES
    for start in range(begin, end, LANES):
        lanes = min(LANES, end - start)
        if T.size:
            products[:] = 0
            add_products(flat, start, lanes, n, columns, directions, products, R, c, far)
            to_lanes(products, s, lanes, c)
            store_lanes(c, lanes, T, at + start)
        else:
            find_columns(flat, start, lanes, n, columns)
        if not r:
            continue
        load_lanes(X, at + start, lanes, x)
        to_rows(x, u, F)
        add_gram(F, u, x, lanes, wide, G)
        if between.size:
            combine(weights, x, c)
            to_rows(c, s, product)
            add_left(flat, start, lanes, n, columns, product, sums, c, rest, far)
        else:
            add_left(flat, start, lanes, n, columns, F, sums, x, rest, far)
        if (start - begin) // LANES % FOLD == FOLD - 1:
            fold(sums, rest, S)
    if r:
        fold(sums, rest, S)
        symmetric(G, Gs[k, : r * r].reshape(r, r))


@compiled
def solve_rows(
    A: Array, at: int, R: Array, Q: Array, l1: float, X: Array, sweeps: int, tolerance: float, team: int
) -> None:
    """Columns of X for rows of A: coordinate descent from zero until ‖v‖ ≤ tolerance ‖C‖ among the lanes.

    Args:
        A, at, R, Q, l1: as in ``move_rows``.
        X: gets the factor, transposed (r×m).
        sweeps: the most.
        tolerance: of the KKT residual.
        team: how many threads.
    """
    parts = SOLVED * parts_of(len(A), team)
    together(_solve_rows, parts, team, (parts, A, at, R, Q, l1, X, sweeps, tolerance))


@inner
def _solve_rows(
    part: int, parts: int, A: Array, at: int, R: Array, Q: Array, l1: float, X: Array, sweeps: int, tolerance: float
) -> None:
    r, n = R.shape
    q = r - rest_of(r, A.itemsize)
    flat, directions, curvature = A.reshape(A.size), laid(R, q), Q.astype(A.dtype)
    columns, x, spare, c = (
        room_for_columns(R),
        room_for_lanes(r, A.dtype),
        room_for_lanes(r, A.dtype),
        room_for_lanes(r, A.dtype),
    )
    products = room_for_rows(q, A)
    some = Move(COORDINATES, SWEEPS_PER_CHECK, 0.0)
    begin, end, far = *share_of(part, parts, len(A)), False
    for start in range(begin, end, LANES):
        lanes = min(LANES, end - start)
        products[:] = 0
        add_products(flat, start, lanes, n, columns, directions, products, R, c, far)
        to_lanes(products, q, lanes, c)
        enough = tolerance**2 * product_of(c, c, r, lanes)
        x[:] = 0
        for _ in range(0, sweeps, SWEEPS_PER_CHECK):
            x = move_lanes(x, c, curvature, l1, some, lanes, spare)
            if violation_of(x, c, curvature, l1, lanes, spare) <= enough:
                break
        store_lanes(x, lanes, X, at + start)


@compiled
def squared_residual(A: Array, at: int, R: Array, X: Array, team: int) -> float:
    """‖A − F R‖² for rows of A in float64, a few of them at a time.

    Args:
        A, at: as in ``move_rows``.
        R: (r×n) in float64.
        X: F transposed (r×m).
        team: how many threads.
    """
    totals = np.empty(parts_of(len(A), team))
    together(_squared_residual, len(totals), team, (A, at, R, X, totals))
    total = 0.0
    for k in range(len(totals)):
        total += totals[k]
    return total


@inner
def _squared_residual(part: int, A: Array, at: int, R: Array, X: Array, totals: Array) -> None:
    (r, n), total, whole = R.shape, 0.0, laid(R.T.copy(), R.shape[1])
    across = len(whole) // r
    F, product = np.zeros(ROWS * r), np.zeros(ROWS * across)
    every = np.arange(r).astype(np.int32)
    begin, end = share_of(part, len(totals), len(A))
    for start in range(begin, end, ROWS):
        rows = min(ROWS, end - start)
        for i in range(rows):
            for k in range(r):
                F[i * r + k] = X[k, at + start + i]
        product[:] = 0
        multiply_rows(F, rows_from(0, r, ROWS), every, 0, r, whole, product, 0, across, 0, 0)
        for i in range(rows):
            for j in range(n):
                residual = np.float64(A[start + i, j]) - product[i * across + j]
                total += residual * residual
    totals[part] = total
