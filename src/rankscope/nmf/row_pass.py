"""One pass over A, compiled: each row is read from memory once, for both products and for what lies between them.

    C = A Rᵀ,   F ← moved(F, C),   S = FᵀA,   G = FᵀF

``LANES`` rows of A are taken at a time, few enough to stay in the second cache level. What belongs to a row of F lies
in a lane: rows of F with one Hessian do not interact, so they move side by side, and a further sweep costs arithmetic
and no memory. Factors are given and returned transposed, X = Fᵀ (r×m), which lays lanes side by side. No Python is held
while a pass runs, so workers run side by side too.

Both products take four rows of A at a time, and of these only the columns in which not all four are 0:

    c_i += a_ij R_j,   S_j += Σ_i a_ij f_i      for four i, and the columns j in turn

with c, or f, of the four rows in registers: two or three vectors of each, a *tile*, as many times as R has tiles. For
that R, S and rows of F lie with what belongs to one column, or row, side by side (``laid``).
"""

from typing import Any, NamedTuple

import numpy as np

from rankscope.compiled import Array, Index, Integers, compiled
from rankscope.nmf.rules.rule import COORDINATES, MULTIPLICATION, SWEEPS_PER_CHECK, Move
from rankscope.team import together
from rankscope.vectors import BYTES, THREE, TWO, add_scaled, load, store

LANES = 128
NEAR = 2**18
"""Bytes of R's columns, and of S's, that are taken at a time, a panel: both stay in the second cache level."""
LINE = 64
"""Bytes of a cache line."""
ENOUGH = 2**16
"""Entries of A, columns of which some rows are 0 left out, times k that are worth another thread."""
SOLVED = 4
"""Parts for each thread where some rows take more sweeps than others."""
FOLD = 8
"""Groups of lanes after which sums in single precision are put aside, so that they stay small."""


class Columns(NamedTuple):
    """The columns of which something is not 0, for every four rows in the lanes and every panel."""

    numbers: Integers
    """Those of four rows and a panel, from the place of the panel's first column on (LANES/4 × n)."""
    counts: Integers
    """How many they are (LANES/4 × panels)."""
    panel: int
    """How many columns a panel has."""


class Packed(NamedTuple):
    """A (m×n) without the columns in which four rows are all 0."""

    entries: Array
    """Four rows' in one column side by side, then in the next; one group of four after another."""
    numbers: Integers
    """Of these columns."""
    begins: Integers
    """Where each group begins among them, and where the last one ends (⌈m/4⌉ + 1)."""


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
    return _added(S), _added(G), residual[:, 0].sum(), residual[:, 1].sum()


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
    flat, directions, curvature = A.reshape(A.size), laid(R.T), _padded(Q)
    columns, x, spare, c = _unknown(R), _room(r, A.dtype), _room(r, A.dtype), _room(r, A.dtype)
    products, F = _rows(r, A), _rows(r, A)
    sums, S_k = _zeros(len(directions), R), S[k]
    S_k[:] = 0
    G, wide = np.zeros(r * _across(r, 8)), np.zeros(LANES * _across(r, 8))
    violation, scale = 0.0, 0.0
    begin, end = _share(k, len(S), len(A))
    for start in range(begin, end, LANES):
        lanes = min(LANES, end - start)
        _find(flat, start, lanes, n, columns)
        products[:] = 0
        _add_products(flat, start, lanes, n, columns, directions, products)
        _to_lanes(products, r, lanes, c)
        _load(X, at + start, lanes, x)
        if measure:
            violation += _violation(x, c, curvature, l1, lanes)
            scale += _square(c, r, lanes)
        y = _moved(x, c, curvature, l1, move, spare)
        _store(y, lanes, moved, at + start)
        _to_rows(y, r, F)
        _add_left(flat, start, lanes, n, columns, F, sums)
        _add_gram(y, r, wide, G)
        if (start - begin) // LANES % FOLD == FOLD - 1:
            _fold(sums, S_k)
    _fold(sums, S_k)
    Gs[k], residual[k, 0], residual[k, 1] = _symmetric(G, r), violation, scale


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
        X: F transposed (r×m).
        T: gets R Aᵀ (k×m); of no size where that is not wanted.
        team: how many threads.

    Returns:
        S (k×n), G (r×r) in float64, ⟨S, R⟩.
    """
    (k, n), r, parts = R.shape, len(X), _parts(len(A), team)
    S, G = np.empty((parts, k, n), R.dtype), np.empty((parts, r, r))
    together(_evaluate_rows, parts, team, (A, at, R, inner, X, T, S, G))
    whole = _added(S)
    return whole, _added(G), _inner(whole, R)


@compiled
def _evaluate_rows(k: int, A: Array, at: int, R: Array, inner: Array, X: Array, T: Array, S: Array, Gs: Array) -> None:
    (q, n), r = R.shape, len(X)
    flat, directions, weights = A.reshape(A.size), laid(R.T), _padded(inner)
    columns, x, c = _unknown(R), _room(r, A.dtype), _room(q, A.dtype)
    products, F = _rows(q, A), _rows(q, A)
    sums, S_k = _zeros(len(directions), R), S[k]
    S_k[:] = 0
    G, wide = np.zeros(r * _across(r, 8)), np.zeros(LANES * _across(r, 8))
    begin, end = _share(k, len(S), len(A))
    for start in range(begin, end, LANES):
        lanes = min(LANES, end - start)
        _find(flat, start, lanes, n, columns)
        if T.size:
            products[:] = 0
            _add_products(flat, start, lanes, n, columns, directions, products)
            _to_lanes(products, q, lanes, c)
            _store(c, lanes, T, at + start)
        _load(X, at + start, lanes, x)
        _add_gram(x, r, wide, G)
        if inner.size:
            for i in range(q):
                _combine(weights[i], x, c[i])
            _to_rows(c, q, F)
        else:
            _to_rows(x, q, F)
        _add_left(flat, start, lanes, n, columns, F, sums)
        if (start - begin) // LANES % FOLD == FOLD - 1:
            _fold(sums, S_k)
    _fold(sums, S_k)
    Gs[k] = _symmetric(G, r)


@compiled
def pack(A: Array) -> Packed:
    """A small matrix that many passes only look at: they need not find its columns again."""
    (m, n), flat = A.shape, A.reshape(A.size)
    begins = np.zeros((m + 3) // 4 + 1, np.int64)
    numbers, entries = np.empty(n * (len(begins) - 1), np.int32), np.empty(4 * n * (len(begins) - 1), A.dtype)
    place = 0
    for group in range(len(begins) - 1):
        i0, i1, i2, i3 = _four(4 * group, m, n)
        rows = min(4, m - 4 * group)
        for j in range(n):
            if flat[i0 + j] != 0 or flat[i1 + j] != 0 or flat[i2 + j] != 0 or flat[i3 + j] != 0:
                numbers[place] = j
                entries[4 * place : 4 * place + 4] = 0
                entries[4 * place : 4 * place + rows] = A[4 * group : 4 * group + rows, j]
                place += 1
        begins[group + 1] = place
    return Packed(entries[: 4 * place].copy(), numbers[:place].copy(), begins)


@compiled
def evaluate_packed(A: Packed, X: Array, R: Array, team: int) -> tuple[Array, Array, float]:
    """S = X A (k×n), T = R Aᵀ (k×m) and ⟨S, R⟩ for X (k×m) and R (k×n), by so many threads."""
    return evaluate_laid(A, R, laid_in_rows(X), laid(R.T), X.shape[1], team)


@compiled
def evaluate_laid(A: Packed, R: Array, F: Array, directions: Array, m: int, team: int) -> tuple[Array, Array, float]:
    """The same of ``laid_in_rows(X)`` and ``laid(R.T)``."""
    k, n = R.shape
    parts = min(team, max(1, A.numbers.size * k // ENOUGH))
    S, T = np.empty((parts, k, n), R.dtype), np.empty((k, m), R.dtype)
    together(_evaluate_packed, parts, team, (A, F, directions, S, T))
    whole = _added(S)
    return whole, T, _inner(whole, R)


@compiled
def _evaluate_packed(part: int, A: Packed, F: Array, directions: Array, S: Array, T: Array) -> None:
    (parts, k, n), (_, m), groups = S.shape, T.shape, len(A.begins) - 1
    across, C, sums = _across(k, T.itemsize), _zeros(len(F), T), _zeros(len(directions), T)
    first, end = part * groups // parts, (part + 1) * groups // parts
    S[part] = 0
    for group in range(first, end):
        at, rows = 0, 4 * group * across
        while at < across:
            width = _tile(across - at, T.itemsize)
            if width == len(TWO) * BYTES // T.itemsize:
                _add_both(A, group, directions, F, C, sums, at * n, rows + at, across, TWO)
            else:
                _add_both(A, group, directions, F, C, sums, at * n, rows + at, across, THREE)
            at += width
        if (group - first) % (FOLD * LANES // 4) == FOLD * LANES // 4 - 1:
            _fold(sums, S[part])
    _fold(sums, S[part])
    for begin in range(4 * first, min(4 * end, m), LANES):
        for j in range(k):
            for i in range(begin, min(begin + LANES, 4 * end, m)):
                T[j, i] = C[i * across + j]


@compiled
def multiply_rows(A: Array, at: int, R: Array, T: Array, team: int) -> None:
    """Columns of T = R Aᵀ (k×m) for rows ``at`` … ``at + len(A)`` of the matrix, with R (k×n), by so many threads."""
    parts = _parts(len(A), team)
    together(_multiply_rows, parts, team, (parts, A, at, R, T))


@compiled
def _multiply_rows(part: int, parts: int, A: Array, at: int, R: Array, T: Array) -> None:
    k, n = R.shape
    flat, directions = A.reshape(A.size), laid(R.T)
    columns, c, products = _unknown(R), _room(k, A.dtype), _rows(k, A)
    begin, end = _share(part, parts, len(A))
    for start in range(begin, end, LANES):
        lanes = min(LANES, end - start)
        _find(flat, start, lanes, n, columns)
        products[:] = 0
        _add_products(flat, start, lanes, n, columns, directions, products)
        _to_lanes(products, k, lanes, c)
        _store(c, lanes, T, at + start)


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
    flat, directions, curvature = A.reshape(A.size), laid(R.T), _padded(Q)
    columns, x, c, products = _unknown(R), _room(r, A.dtype), _room(r, A.dtype), _rows(r, A)
    some = Move(COORDINATES, SWEEPS_PER_CHECK, 0.0)
    begin, end = _share(part, parts, len(A))
    for start in range(begin, end, LANES):
        lanes = min(LANES, end - start)
        _find(flat, start, lanes, n, columns)
        products[:] = 0
        _add_products(flat, start, lanes, n, columns, directions, products)
        _to_lanes(products, r, lanes, c)
        enough = tolerance**2 * _square(c, r, lanes)
        x[:] = 0
        for _ in range(0, sweeps, SWEEPS_PER_CHECK):
            x = _moved(x, c, curvature, l1, some, x)
            if _violation(x, c, curvature, l1, lanes) <= enough:
                break
        _store(x, lanes, X, at + start)


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
        _multiply(F, _four(0, 4, r), every, 0, r, whole, product, 0, across)
        for i in range(rows):
            for j in range(n):
                residual = np.float64(A[start + i, j]) - product[i * across + j]
                total += residual * residual
    totals[part] = total


@compiled
def move_columns(X: Array, Q: Array, C: Array, l1: float, move: Move) -> Array:
    """X (r×m) moved, every column by itself, where C (r×m) is known."""
    r, m = X.shape
    curvature, moved = _padded(Q), np.empty_like(X)
    x, spare, c = _room(r, X.dtype), _room(r, X.dtype), _room(r, X.dtype)
    for start in range(0, m, LANES):
        lanes = min(LANES, m - start)
        _load(X, start, lanes, x)
        _load(C, start, lanes, c)
        _store(_moved(x, c, curvature, l1, move, spare), lanes, moved, start)
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


@compiled
def _added(parts: Array) -> Array:
    """The first of the parts, and all others added to it."""
    whole = parts[0]
    for k in range(1, len(parts)):
        whole += parts[k]
    return whole


@compiled
def _moved(x: Array, c: Array, Q: Array, l1: float, move: Move, spare: Array) -> Array:
    """The lanes of x after one move: x itself or ``spare``."""
    r, zero = len(Q), x.dtype.type(0)
    slope, least = np.zeros(LANES, x.dtype), x.dtype.type(l1)
    if move.kind == COORDINATES:
        inverse = np.zeros(r, x.dtype)
        for j in range(r):
            if Q[j, j] > 0:  # Otherwise the component is dead elsewhere, and any value of x_j as good.
                inverse[j] = 1 / Q[j, j]
        for _ in range(move.sweeps):
            for j in range(r):
                _combine(Q[j], x, slope)
                for lane in range(LANES):
                    to = x[j, lane] + inverse[j] * (c[j, lane] - least - slope[lane])
                    x[j, lane] = zero if to < zero else to
        return x
    rate = x.dtype.type(move.rate)
    for j in range(r):
        _combine(Q[j], x, slope)
        if move.kind == MULTIPLICATION:
            for lane in range(LANES):
                there = slope[lane] + least
                quotient = x[j, lane] * c[j, lane] / there
                spare[j, lane] = zero if there == zero else quotient
        else:
            for lane in range(LANES):
                to = x[j, lane] - rate * (slope[lane] + least - c[j, lane])
                spare[j, lane] = zero if to < zero else to
    return spare


@compiled
def _violation(x: Array, c: Array, Q: Array, l1: float, lanes: int) -> float:
    """‖min(x Q − c + ℓ₁, diag(Q) ∘ x)‖² over the lanes."""
    slope, total = np.zeros(LANES, x.dtype), 0.0
    for j in range(len(Q)):
        _combine(Q[j], x, slope)
        curvature, least = Q[j, j], x.dtype.type(l1)
        for lane in range(lanes):
            gradient, bound = slope[lane] - c[j, lane] + least, curvature * x[j, lane]
            v = np.float64(bound if bound < gradient else gradient)
            total += v * v
    return total


@compiled
def _square(c: Array, r: int, lanes: int) -> float:
    total = 0.0
    for j in range(r):
        for lane in range(lanes):
            total += np.float64(c[j, lane]) * c[j, lane]
    return total


@compiled
def _combine(weights: Array, x: Array, out: Array) -> None:
    """out ← Σ_k weights_k x_k in every lane; four terms at a time, for a quarter of the loads and stores."""
    for lane in range(LANES):
        out[lane] = 0
    for k in range(0, len(weights), 4):
        w0, w1, w2, w3 = weights[k], weights[k + 1], weights[k + 2], weights[k + 3]
        for lane in range(LANES):
            out[lane] += w0 * x[k, lane] + w1 * x[k + 1, lane] + w2 * x[k + 2, lane] + w3 * x[k + 3, lane]


@compiled
def _find(A: Array, start: int, rows: int, n: int, columns: Columns) -> None:
    """The columns of so many rows of A from ``start`` on."""
    seen = np.zeros(n, np.uint8)
    for group in range((rows + 3) // 4):
        i0, i1, i2, i3 = _four(start + 4 * group, start + rows, n)
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


@compiled
def _add_products(A: Array, start: int, rows: int, n: int, columns: Columns, R: Array, c: Array) -> None:
    """c_i += Σ_j a_ij R_j for so many rows i of A from ``start`` on."""
    across = len(c) // LANES
    for k in range(columns.counts.shape[1]):
        for group in range((rows + 3) // 4):
            four = _four(start + 4 * group, start + rows, n)
            numbers, count = columns.numbers[group], columns.counts[group, k]
            _multiply(A, four, numbers, k * columns.panel, count, R, c, 4 * group * across, across)


@compiled
def _add_left(A: Array, start: int, rows: int, n: int, columns: Columns, F: Array, S: Array) -> None:
    """S_j += Σ_i a_ij f_i for so many rows i of A from ``start`` on."""
    across = len(F) // LANES
    for k in range(columns.counts.shape[1]):
        for group in range((rows + 3) // 4):
            four = _four(start + 4 * group, start + rows, n)
            numbers, count = columns.numbers[group], columns.counts[group, k]
            _spread(A, four, numbers, k * columns.panel, count, F, 4 * group * across, across, S, False)


@compiled
def _add_gram(x: Array, r: int, wide: Array, G: Array) -> None:
    """G += x xᵀ in float64, but for what lies below the tiles of the diagonal; ``wide`` is room for x."""
    across, every = len(G) // r, np.arange(r).astype(np.int32)
    _to_rows(x, r, wide)
    for i in range(0, LANES, 4):
        _spread(wide, _four(i, LANES, across), every, 0, r, wide, i * across, across, G, True)


@compiled
def _multiply(
    A: Array, four: Any, numbers: Integers, begin: int, count: int, R: Array, c: Array, to: int, across: int
) -> None:
    """c_i += Σ_j a_ij R_j for four rows i and so many columns j, tile by tile; c_i from ``to`` on."""
    n, at = len(R) // across, 0
    while at < across:
        width = _tile(across - at, R.itemsize)
        if width == len(TWO) * BYTES // R.itemsize:
            _add_inner(A, four, numbers, begin, count, R, at * n, c, to + at, across, TWO)
        else:
            _add_inner(A, four, numbers, begin, count, R, at * n, c, to + at, across, THREE)
        at += width


@compiled
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
        width = _tile(across - at, F.itemsize)
        many = min(count, at + width) if upper else count
        if width == len(TWO) * BYTES // F.itemsize:
            _add_outer(A, four, numbers, begin, many, F, f + at, across, S, at * n, TWO)
        else:
            _add_outer(A, four, numbers, begin, many, F, f + at, across, S, at * n, THREE)
        at += width


@compiled
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


@compiled
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


@compiled
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


@compiled
def _four(i: int, end: int, n: int) -> tuple[int, int, int, int]:
    """Where rows i … i + 3 begin, the last one before ``end`` in place of those beyond."""
    last = end - 1
    return i * n, min(i + 1, last) * n, min(i + 2, last) * n, min(i + 3, last) * n


@compiled
def _tile(left: int, itemsize: int) -> int:
    """How many entries the next tile has, of those that are left: three vectors, or two where that comes out even."""
    vectors = left * itemsize // BYTES
    return (2 if vectors in (2, 4) else 3) * BYTES // itemsize


@compiled
def _across(r: int, itemsize: int) -> int:
    """r and as many more as fill whole tiles."""
    return max(-(-r * itemsize // BYTES), 2) * BYTES // itemsize


@compiled
def laid(B: Array) -> Array:
    """B (p×q) in tiles, one after another: of each, the rows."""
    whole = _zeros(len(B) * _across(B.shape[1], B.itemsize), B)
    lay(B, whole)
    return whole


@compiled
def room(n: int, R: Array) -> Array:
    """Where Rᵀ can be laid."""
    return _zeros(n * _across(len(R), R.itemsize), R)


@compiled
def lay(B: Array, whole: Array) -> None:
    """B (p×q) into such room, which holds zeros beyond."""
    p, q = B.shape
    across, at = len(whole) // p, 0
    while at < across:
        width = _tile(across - at, B.itemsize)
        for begin in range(0, p, LANES):  # Few rows at a time, which stay in the first cache level.
            for k in range(at, min(at + width, q)):
                for i in range(begin, min(begin + LANES, p)):
                    whole[at * p + i * width + k - at] = B[i, k]
        at += width


@compiled
def _fold(sums: Array, S: Array) -> None:
    """S (r×n) += sums, which are laid as Sᵀ; sums ← 0."""
    r, n = S.shape
    across, at = len(sums) // n, 0
    while at < across:
        width = _tile(across - at, S.itemsize)
        for begin in range(0, n, LANES):
            for k in range(at, min(at + width, r)):
                for j in range(begin, min(begin + LANES, n)):
                    S[k, j] += sums[at * n + j * width + k - at]
        at += width
    sums[:] = 0


@compiled
def laid_in_rows(X: Array) -> Array:
    """Xᵀ, row after row, each with zeros up to whole tiles, and zeros for rows up to a multiple of four."""
    F = room_in_rows(X.shape[1], X)
    lay_in_rows(X, F)
    return F


@compiled
def room_in_rows(m: int, X: Array) -> Array:
    """Where Xᵀ (m×k) can be laid."""
    return _zeros((m + 3) // 4 * 4 * _across(len(X), X.itemsize), X)


@compiled
def lay_in_rows(X: Array, F: Array) -> None:
    """Xᵀ into such room, which holds zeros beyond."""
    (k, m), across = X.shape, _across(len(X), X.itemsize)
    for begin in range(0, m, LANES):
        for j in range(k):
            for i in range(begin, min(begin + LANES, m)):
                F[i * across + j] = X[j, i]


@compiled
def _inner(S: Array, R: Array) -> float:
    """⟨S, R⟩ in float64."""
    total = 0.0
    for i in range(len(S)):
        for j in range(S.shape[1]):
            total += np.float64(S[i, j]) * R[i, j]
    return total


@compiled
def _symmetric(G: Array, r: int) -> Array:
    """The whole of what is laid above the diagonal."""
    upper, whole = np.zeros((r, r)), np.empty((r, r))
    _fold(G, upper)
    for k in range(r):
        for j in range(k + 1):
            whole[j, k] = whole[k, j] = upper[k, j]
    return whole


@compiled
def _to_lanes(c: Array, r: int, lanes: int, x: Array) -> None:
    """x (r×LANES) ← c, whose rows lie one after another; 0 in the other lanes."""
    across = len(c) // LANES
    for j in range(r):
        for lane in range(lanes):
            x[j, lane] = c[lane * across + j]
        x[j, lanes:] = 0


@compiled
def _to_rows(x: Array, r: int, F: Array) -> None:
    """F, whose rows lie one after another, ← r rows of x (…×LANES)."""
    across = len(F) // LANES
    for j in range(r):
        for lane in range(LANES):
            F[lane * across + j] = x[j, lane]


@compiled
def _load(X: Array, at: int, lanes: int, x: Array) -> None:
    """x ← ``lanes`` columns of X from ``at`` on, and 0 in the other lanes."""
    for j in range(len(X)):
        x[j, :lanes] = X[j, at : at + lanes]
        x[j, lanes:] = 0


@compiled
def _store(x: Array, lanes: int, X: Array, at: int) -> None:
    """``lanes`` columns of X from ``at`` on ← x; 0 in the other lanes of x, which stand for no row."""
    for j in range(len(X)):
        X[j, at : at + lanes] = x[j, :lanes]
        x[j, lanes:] = 0


@compiled
def _padded(Q: Array) -> Array:
    """Q with columns of zeros up to a multiple of four."""
    padded = np.zeros((len(Q), (Q.shape[1] + 3) // 4 * 4), Q.dtype)
    padded[:, : Q.shape[1]] = Q
    return padded


@compiled
def _room(r: int, dtype: Any) -> Array:
    """Zeros for r rows of lanes, and as many more as let ``_combine`` take four at a time."""
    return np.zeros(((r + 3) // 4 * 4, LANES), dtype)


@compiled
def _rows(r: int, A: Array) -> Array:
    """Zeros like A for a row of r in each lane, one after another."""
    return _zeros(LANES * _across(r, A.itemsize), A)


@compiled
def _zeros(size: int, A: Array) -> Array:
    """Zeros like A from the beginning of a cache line on: vectors of a tile then do not cross one."""
    room = np.zeros(size + LINE // A.itemsize, A.dtype)
    skip = -room.ctypes.data % LINE // A.itemsize
    return room[skip : skip + size]


@compiled
def _unknown(R: Array) -> Columns:
    """Room for the columns of A (…×n) that are multiplied with R (r×n)."""
    r, n = R.shape
    panel = min(n, max(NEAR // (_across(r, R.itemsize) * R.itemsize), 64))
    return Columns(np.zeros((LANES // 4, n + 1), np.int32), np.zeros((LANES // 4, -(-n // panel)), np.int64), panel)
