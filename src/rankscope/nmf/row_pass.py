"""One pass over A, compiled: each row is read from memory once, for both products and for what lies between them.

    C = A Rᵀ,   F ← moved(F, C),   S = FᵀA,   G = FᵀF

128 rows of A are taken at a time, few enough to stay in the second cache level: both products of them (``columns``),
and between the two their rows of F, side by side (``lanes``). Factors are given and returned transposed, X = Fᵀ (r×m).
Parts of the rows are worked on side by side, by so many threads (``team``); their S and G are added up.
"""

import numpy as np

from rankscope.compiled import Array, compiled
from rankscope.nmf.columns import (
    add_gram,
    add_left,
    add_products,
    find_columns,
    four_rows,
    multiply_four,
    room_for_columns,
)
from rankscope.nmf.lanes import (
    combine,
    load_lanes,
    move_lanes,
    padded,
    room_for_lanes,
    square_of,
    store_lanes,
    to_lanes,
    violation_of,
)
from rankscope.nmf.rules.rule import COORDINATES, SWEEPS_PER_CHECK, Move
from rankscope.nmf.tiles import (
    FOLD,
    LANES,
    added_up,
    aligned_zeros,
    fold,
    inner_product,
    laid,
    room_for_rows,
    symmetric,
    to_rows,
    width_of,
)
from rankscope.team import together

SOLVED = 4
"""Parts for each thread where some rows take more sweeps than others."""


@compiled
def move_rows(
    A: Array, at: int, R: Array, Q: Array, l1: float, X: Array, moved: Array, move: Move, measure: bool, team: int
) -> tuple[Array, Array, float, float]:
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
        team: how many threads.

    Returns:
        S = FᵀA (r×n), G = FᵀF (r×r) in float64, ‖v‖², ‖C‖².
    """
    (r, n), parts = R.shape, _parts(len(A), team)
    S, G, residual = np.empty((parts, r, n), R.dtype), np.empty((parts, r, r)), np.empty((parts, 2))
    together(_move_rows, parts, team, (A, at, R, Q, l1, X, moved, move, measure, S, G, residual))
    return added_up(S), added_up(G), residual[:, 0].sum(), residual[:, 1].sum()


@compiled
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
    S: Array,
    Gs: Array,
    residual: Array,
) -> None:
    r, n = R.shape
    flat, directions, curvature = A.reshape(A.size), laid(R.T), padded(Q)
    columns, x, spare, c = (
        room_for_columns(R),
        room_for_lanes(r, A.dtype),
        room_for_lanes(r, A.dtype),
        room_for_lanes(r, A.dtype),
    )
    products, F = room_for_rows(r, A), room_for_rows(r, A)
    sums, S_k = aligned_zeros(len(directions), R), S[k]
    S_k[:] = 0
    G, wide = np.zeros(r * width_of(r, 8)), np.zeros(LANES * width_of(r, 8))
    violation, scale = 0.0, 0.0
    begin, end = _share(k, len(S), len(A))
    for start in range(begin, end, LANES):
        lanes = min(LANES, end - start)
        find_columns(flat, start, lanes, n, columns)
        products[:] = 0
        add_products(flat, start, lanes, n, columns, directions, products)
        to_lanes(products, r, lanes, c)
        load_lanes(X, at + start, lanes, x)
        if measure:
            violation += violation_of(x, c, curvature, l1, lanes)
            scale += square_of(c, r, lanes)
        y = move_lanes(x, c, curvature, l1, move, spare)
        store_lanes(y, lanes, moved, at + start)
        to_rows(y, r, F)
        add_left(flat, start, lanes, n, columns, F, sums)
        add_gram(y, r, wide, G)
        if (start - begin) // LANES % FOLD == FOLD - 1:
            fold(sums, S_k)
    fold(sums, S_k)
    Gs[k], residual[k, 0], residual[k, 1] = symmetric(G, r), violation, scale


@compiled
def evaluate_rows(
    A: Array, at: int, R: Array, inner: Array, X: Array, T: Array, team: int
) -> tuple[Array, Array, float]:
    """Both products of rows of A with a chain as it is: their part of T = R Aᵀ, S = (F inner)ᵀA, G = FᵀF and ⟨S, R⟩.

    Args:
        A: rows ``at`` … ``at + len(A)`` of the matrix (…×n), contiguous.
        at: the number of the first.
        R: (k×n).
        inner: transposed (k×r), what F is multiplied by; of no size where that is nothing.
        X: F transposed (r×m); of no size where only T is wanted.
        T: gets R Aᵀ (k×m); of no size where that is not wanted.
        team: how many threads.

    Returns:
        S (k×n), G (r×r) in float64, ⟨S, R⟩.
    """
    (k, n), r, parts = R.shape, len(X), _parts(len(A), team)
    S, G = np.empty((parts, k, n), R.dtype), np.empty((parts, r, r))
    together(_evaluate_rows, parts, team, (A, at, R, inner, X, T, S, G))
    whole = added_up(S)
    return whole, added_up(G), inner_product(whole, R)


@compiled
def _evaluate_rows(k: int, A: Array, at: int, R: Array, inner: Array, X: Array, T: Array, S: Array, Gs: Array) -> None:
    (q, n), r = R.shape, len(X)
    flat, directions, weights = A.reshape(A.size), laid(R.T), padded(inner)
    columns, x, c = room_for_columns(R), room_for_lanes(r, A.dtype), room_for_lanes(q, A.dtype)
    products, F = room_for_rows(q, A), room_for_rows(q, A)
    sums, S_k = aligned_zeros(len(directions), R), S[k]
    S_k[:] = 0
    G, wide = np.zeros(r * width_of(r, 8)), np.zeros(LANES * width_of(r, 8))
    begin, end = _share(k, len(S), len(A))
    for start in range(begin, end, LANES):
        lanes = min(LANES, end - start)
        find_columns(flat, start, lanes, n, columns)
        if T.size:
            products[:] = 0
            add_products(flat, start, lanes, n, columns, directions, products)
            to_lanes(products, q, lanes, c)
            store_lanes(c, lanes, T, at + start)
        if not r:
            continue
        load_lanes(X, at + start, lanes, x)
        add_gram(x, r, wide, G)
        if inner.size:
            for i in range(q):
                combine(weights[i], x, c[i])
            to_rows(c, q, F)
        else:
            to_rows(x, q, F)
        add_left(flat, start, lanes, n, columns, F, sums)
        if (start - begin) // LANES % FOLD == FOLD - 1:
            fold(sums, S_k)
    if r:
        fold(sums, S_k)
        Gs[k] = symmetric(G, r)


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
    parts = SOLVED * _parts(len(A), team)
    together(_solve_rows, parts, team, (parts, A, at, R, Q, l1, X, sweeps, tolerance))


@compiled
def _solve_rows(
    part: int, parts: int, A: Array, at: int, R: Array, Q: Array, l1: float, X: Array, sweeps: int, tolerance: float
) -> None:
    r, n = R.shape
    flat, directions, curvature = A.reshape(A.size), laid(R.T), padded(Q)
    columns, x, c, products = (
        room_for_columns(R),
        room_for_lanes(r, A.dtype),
        room_for_lanes(r, A.dtype),
        room_for_rows(r, A),
    )
    some = Move(COORDINATES, SWEEPS_PER_CHECK, 0.0)
    begin, end = _share(part, parts, len(A))
    for start in range(begin, end, LANES):
        lanes = min(LANES, end - start)
        find_columns(flat, start, lanes, n, columns)
        products[:] = 0
        add_products(flat, start, lanes, n, columns, directions, products)
        to_lanes(products, r, lanes, c)
        enough = tolerance**2 * square_of(c, r, lanes)
        x[:] = 0
        for _ in range(0, sweeps, SWEEPS_PER_CHECK):
            x = move_lanes(x, c, curvature, l1, some, x)
            if violation_of(x, c, curvature, l1, lanes) <= enough:
                break
        store_lanes(x, lanes, X, at + start)


@compiled
def squared_residual(A: Array, at: int, R: Array, X: Array, team: int) -> float:
    """‖A − F R‖² for rows of A in float64, four of them at a time.

    Args:
        A, at: as in ``move_rows``.
        R: (r×n) in float64.
        X: F transposed (r×m).
        team: how many threads.
    """
    totals = np.empty(_parts(len(A), team))
    together(_squared_residual, len(totals), team, (A, at, R, X, totals))
    return totals.sum()


@compiled
def _squared_residual(part: int, A: Array, at: int, R: Array, X: Array, totals: Array) -> None:
    (r, n), total, whole = R.shape, 0.0, laid(R)
    across = len(whole) // r
    F, product = np.zeros(4 * r), np.zeros(4 * across)
    every = np.arange(r).astype(np.int32)
    begin, end = _share(part, len(totals), len(A))
    for start in range(begin, end, 4):
        rows = min(4, end - start)
        for i in range(rows):
            for k in range(r):
                F[i * r + k] = X[k, at + start + i]
        product[:] = 0
        multiply_four(F, four_rows(0, 4, r), every, 0, r, whole, product, 0, across)
        for i in range(rows):
            for j in range(n):
                residual = np.float64(A[start + i, j]) - product[i * across + j]
                total += residual * residual
    totals[part] = total


@compiled
def move_columns(X: Array, Q: Array, C: Array, l1: float, move: Move) -> Array:
    """X (r×m) moved, every column by itself, where C (r×m) is known."""
    r, m = X.shape
    curvature, moved = padded(Q), np.empty_like(X)
    x, spare, c = room_for_lanes(r, X.dtype), room_for_lanes(r, X.dtype), room_for_lanes(r, X.dtype)
    for start in range(0, m, LANES):
        lanes = min(LANES, m - start)
        load_lanes(X, start, lanes, x)
        load_lanes(C, start, lanes, c)
        store_lanes(move_lanes(x, c, curvature, l1, move, spare), lanes, moved, start)
    return moved


@compiled
def _parts(m: int, team: int) -> int:
    """Into how many parts so many rows are worth being divided."""
    return max(1, min(team, (m + LANES - 1) // LANES))


@compiled
def _share(part: int, parts: int, m: int) -> tuple[int, int]:
    """Where a part of m rows begins and ends: at whole lanes."""
    groups = (m + LANES - 1) // LANES
    return part * groups // parts * LANES, min((part + 1) * groups // parts * LANES, m)
