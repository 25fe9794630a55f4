"""One pass over A, compiled: each row is read from memory once, for both products and for what lies between them.

    C = A Rᵀ,   F ← moved(F, C),   S = FᵀA,   G = FᵀF

``LANES`` rows of A are taken at a time, few enough to stay in the second cache level. What belongs to a row of F lies
in a lane: rows of F with one Hessian do not interact, so they move side by side, and a further sweep costs arithmetic
and no memory. Factors are given and returned transposed, X = Fᵀ (r×m), which lays lanes side by side. No Python is held
while a pass runs, so workers run side by side too.

The two products are sums of small outer products, four rows of A by three of X or R, whose twelve sums or weights stay
in registers: all that a library's product does, without its copies and calls.

All of it is one file, for the compiler's cache of a function does not notice a change in another file.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rankscope.nmf.rules.rule import COORDINATES, MULTIPLICATION, SWEEPS_PER_CHECK, Move

LANES = 128
PANEL = 1024
"""The most columns of a panel of R and S."""
STRIDE = PANEL + 112
"""Entries from one row of S's panels to the next: near a power of two, rows would be in each other's way."""
NEAR = 2**18
"""Bytes of R's panel, and of S's: both stay in the second cache level beside the rows of A."""
FEW = 24
"""Rows of A whose product is formed at once."""
FOLD = 32
"""Groups of lanes after which sums in single precision are put aside, so that they stay small."""
CHUNK = 16
"""Columns that are multiplied together."""
Array = NDArray[np.floating]
Extents = NDArray[np.int32]
"""From which column to which each row is multiplied (…×2)."""

# Sums may be taken in any order and as fused multiply-adds; NaN and inf keep their meaning.
compiled = njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz", "arcp"})
Index = np.uintp  # Unsigned, so that no index is taken from the end.


@compiled
def move_rows(
    A: Array,
    occupied: Extents,
    at: int,
    R: Array,
    Q: Array,
    l1: float,
    X: Array,
    moved: Array,
    move: Move,
    measure: bool,
) -> tuple[Array, Array, float, float]:
    """The columns of X that belong to rows of A, moved; their part of S and G; and the sums of the KKT residual.

    Args:
        A: rows ``at`` … ``at + len(A)`` of the matrix (…×n), contiguous.
        occupied: of every row of the matrix (see ``extents``).
        at: the number of the first.
        R: (r×n).
        Q: RRᵀ + ℓ₂I (r×r).
        l1: what is subtracted from C.
        X: the factor before, transposed (r×m).
        moved: gets the factor after (r×m).
        move: how to move.
        measure: whether ‖v‖² and ‖C‖² of the factor before are wanted (see ``Subproblem.residual``).

    Returns:
        S = FᵀA (r×n), G = FᵀF (r×r) in float64, ‖v‖², ‖C‖².
    """
    r = len(R)
    curvature, directions, width = _padded(Q), _thrice(R), _width(R)
    x, spare = _room(r, LANES, A.dtype), _room(r, LANES, A.dtype)
    c = _room(r, LANES, A.dtype)
    sums, S, G = _sums(R, width), np.zeros_like(R), _room(r, r + 6, np.float64)
    violation, scale = 0.0, 0.0
    for start in range(0, len(A), LANES):
        rows, extents = A[start : start + LANES], occupied[at + start : at + start + LANES]
        c[:] = 0
        _add_products(rows, extents, directions, width, c, False)
        _load(X, at + start, len(rows), x)
        if measure:
            violation += _violation(x, c, curvature, l1, len(rows))
            scale += _square(c, r, len(rows))
        y = _moved(x, c, curvature, l1, move, spare)
        _store(y, len(rows), moved, at + start)
        _add_left(rows, extents, y, width, sums)
        _add_gram(y, G)
        if start // LANES % FOLD == FOLD - 1:
            _fold(sums, width, S)
    _fold(sums, width, S)
    return S, _symmetric(G, r), violation, scale


@compiled
def evaluate_rows(
    A: Array, occupied: Extents, at: int, R: Array, inner: Array, X: Array, T: Array
) -> tuple[Array, Array]:
    """Both products of rows of A with a chain as it is: their part of T = R Aᵀ, of S = (F inner)ᵀA and of G = FᵀF.

    Args:
        A: rows ``at`` … ``at + len(A)`` of the matrix (…×n), contiguous.
        occupied: of every row of the matrix (see ``extents``).
        at: the number of the first.
        R: (k×n).
        inner: transposed (k×r), what F is multiplied by; of no size where that is nothing.
        X: F transposed (r×m).
        T: gets R Aᵀ (k×m); of no size where that is not wanted.

    Returns:
        S (k×n), G (r×r) in float64.
    """
    k, r = len(R), len(X)
    directions, width = _thrice(R), _width(R)
    x, c, product = _room(max(r, k), LANES, A.dtype), _room(k, LANES, A.dtype), _room(k, LANES, A.dtype)
    weights = _padded(inner)
    sums, S, G = _sums(R, width), np.zeros_like(R), _room(r, r + 6, np.float64)
    for start in range(0, len(A), LANES):
        rows, extents = A[start : start + LANES], occupied[at + start : at + start + LANES]
        if T.size:
            c[:] = 0
            _add_products(rows, extents, directions, width, c, False)
            _store(c, len(rows), T, at + start)
        _load(X, at + start, len(rows), x)
        _add_gram(x, G)
        if inner.size:
            for i in range(k):
                _combine(weights[i], x, product[i])
            _add_left(rows, extents, product, width, sums)
        else:
            _add_left(rows, extents, x, width, sums)
        if start // LANES % FOLD == FOLD - 1:
            _fold(sums, width, S)
    _fold(sums, width, S)
    return S, _symmetric(G, r)


@compiled
def solve_rows(
    A: Array, occupied: Extents, at: int, R: Array, Q: Array, l1: float, X: Array, sweeps: int, tolerance: float
) -> None:
    """Columns of X for rows of A: coordinate descent from zero until ‖v‖ ≤ tolerance ‖C‖ among the lanes.

    Args:
        A, occupied, at, R, Q, l1: as in ``move_rows``.
        X: gets the factor, transposed (r×m).
        sweeps: the most.
        tolerance: of the KKT residual.
    """
    r = len(R)
    curvature, directions, width = _padded(Q), _thrice(R), _width(R)
    x, c = _room(r, LANES, A.dtype), _room(r, LANES, A.dtype)
    some = Move(COORDINATES, SWEEPS_PER_CHECK, 0.0)
    for start in range(0, len(A), LANES):
        rows, extents = A[start : start + LANES], occupied[at + start : at + start + LANES]
        c[:] = x[:] = 0
        _add_products(rows, extents, directions, width, c, False)
        enough = tolerance**2 * _square(c, r, len(rows))
        for _ in range(0, sweeps, SWEEPS_PER_CHECK):
            x = _moved(x, c, curvature, l1, some, x)
            if _violation(x, c, curvature, l1, len(rows)) <= enough:
                break
        _store(x, len(rows), X, at + start)


@compiled
def squared_residual(A: Array, at: int, R: Array, X: Array) -> float:
    """‖A − F R‖² for rows of A in float64, a few of them at a time.

    Args:
        A, at: as in ``move_rows``.
        R: (r×n) in float64.
        X: F transposed (r×m).
    """
    (r, n), width, total = R.shape, _width(R), 0.0
    everywhere = np.zeros((r, 2), np.int32)
    everywhere[:, 1] = n
    F, product = np.zeros((FEW, LANES)), np.zeros(-(-n // width) * FEW * STRIDE)
    for start in range(0, len(A), FEW):
        rows = A[start : start + FEW]
        for i in range(len(rows)):
            for k in range(r):
                F[i, k] = X[k, at + start + i]
        _add_left(R, everywhere, F, width, product)
        base = 0
        for begin in range(0, n, width):
            for i in range(len(rows)):
                a, b = rows[i, begin : begin + width], product[base + i * STRIDE : base + i * STRIDE + width]
                for j in range(len(a)):
                    residual = np.float64(a[j]) - b[j]
                    total += residual * residual
            base += FEW * STRIDE
        product[:] = 0
    return total


@compiled
def extents(A: Array) -> Extents:
    """From which column to which each row of A has all that is not 0, in whole chunks (m×2): images have margins."""
    m, n = A.shape
    found = np.zeros((m, 2), np.int32)
    for i in range(m):
        a, begin, end = A[i], n, n
        for j in range(n):
            if a[j] != 0:
                begin = j
                break
        while end > begin and a[end - 1] == 0:
            end -= 1
        found[i, 0], found[i, 1] = begin // CHUNK * CHUNK, min(-(-end // CHUNK) * CHUNK, n)
    return found


@compiled
def move_columns(X: Array, Q: Array, C: Array, l1: float, move: Move) -> Array:
    """X (r×m) moved, every column by itself, where C (r×m) is known."""
    r, m = X.shape
    curvature, moved = _padded(Q), np.empty_like(X)
    x, spare = _room(r, LANES, X.dtype), _room(r, LANES, X.dtype)
    c = np.zeros((r, LANES), X.dtype)
    for start in range(0, m, LANES):
        lanes = min(LANES, m - start)
        _load(X, start, lanes, x)
        _load(C, start, lanes, c)
        _store(_moved(x, c, curvature, l1, move, spare), lanes, moved, start)
    return moved


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
def _add_products(A: Array, extents: Extents, R: Array, width: int, c: Array, upper: bool) -> None:
    """c += R Aᵀ, for rows of R that are a multiple of three; where ``upper`` at least c_ki with k ≤ i."""
    last, n, zero = len(A) - 1, A.shape[1], A.dtype.type(0)
    for panel in range(0, n, width):
        for i in range(0, len(A), 4):
            begin = max(panel, np.min(extents[i : i + 4, 0]))
            end = min(panel + width, np.max(extents[i : i + 4, 1]))
            a0, a1 = A[i, begin:end], A[min(i + 1, last), begin:end]
            a2, a3 = A[min(i + 2, last), begin:end], A[min(i + 3, last), begin:end]
            for k in range(0, min(i + 4, len(R)) if upper else len(R), 3):
                r0, r1, r2 = R[k, begin:end], R[k + 1, begin:end], R[k + 2, begin:end]
                c00 = c01 = c02 = c03 = c10 = c11 = c12 = c13 = c20 = c21 = c22 = c23 = zero
                for j in range(end - begin):
                    A0, A1, A2, A3, R0, R1, R2 = a0[j], a1[j], a2[j], a3[j], r0[j], r1[j], r2[j]
                    # One A at a time: with 16 registers its three sums, and not four of one R, let the compiler keep all.
                    c00, c10, c20 = c00 + A0 * R0, c10 + A0 * R1, c20 + A0 * R2
                    c01, c11, c21 = c01 + A1 * R0, c11 + A1 * R1, c21 + A1 * R2
                    c02, c12, c22 = c02 + A2 * R0, c12 + A2 * R1, c22 + A2 * R2
                    c03, c13, c23 = c03 + A3 * R0, c13 + A3 * R1, c23 + A3 * R2
                c0, c1, c2 = c[k], c[k + 1], c[k + 2]
                c0[i], c0[i + 1], c0[i + 2], c0[i + 3] = c0[i] + c00, c0[i + 1] + c01, c0[i + 2] + c02, c0[i + 3] + c03
                c1[i], c1[i + 1], c1[i + 2], c1[i + 3] = c1[i] + c10, c1[i + 1] + c11, c1[i + 2] + c12, c1[i + 3] + c13
                c2[i], c2[i + 1], c2[i + 2], c2[i + 3] = c2[i] + c20, c2[i + 1] + c21, c2[i + 2] + c22, c2[i + 3] + c23


@compiled
def _add_left(A: Array, extents: Extents, x: Array, width: int, sums: Array) -> None:
    """sums += x A, the lanes of x being the rows of A; sums lie in panels of ``width`` columns (``_sums``)."""
    last, n = len(A) - 1, A.shape[1]
    rows, base = len(sums) // STRIDE // -(-n // width), 0
    for panel in range(0, n, width):
        for i in range(0, len(A), 4):
            begin = max(panel, np.min(extents[i : i + 4, 0]))
            end = min(panel + width, np.max(extents[i : i + 4, 1]))
            a0, a1 = A[i, begin:end], A[min(i + 1, last), begin:end]
            a2, a3 = A[min(i + 2, last), begin:end], A[min(i + 3, last), begin:end]
            for k in range(0, rows, 3):
                x0, x1, x2 = x[k, i : i + 4], x[k + 1, i : i + 4], x[k + 2, i : i + 4]
                x00, x01, x02, x03 = x0[0], x0[1], x0[2], x0[3]
                x10, x11, x12, x13 = x1[0], x1[1], x1[2], x1[3]
                x20, x21, x22, x23 = x2[0], x2[1], x2[2], x2[3]
                first, second, third = Index(base + k * STRIDE + begin - panel), Index(STRIDE), Index(2 * STRIDE)
                for j in range(Index(end - begin)):
                    A0, A1, A2, A3 = a0[j], a1[j], a2[j], a3[j]
                    sums[first + j] += x00 * A0 + x01 * A1 + x02 * A2 + x03 * A3
                    sums[first + second + j] += x10 * A0 + x11 * A1 + x12 * A2 + x13 * A3
                    sums[first + third + j] += x20 * A0 + x21 * A1 + x22 * A2 + x23 * A3
        base += rows * STRIDE


@compiled
def _add_gram(x: Array, G: Array) -> None:
    """G += x xᵀ in float64, but for what lies below the diagonal."""
    wide, extents = x.astype(np.float64), np.zeros((len(x), 2), np.int32)
    extents[:, 1] = LANES
    _add_products(wide, extents, wide, LANES, G, True)


@compiled
def _symmetric(G: Array, r: int) -> Array:
    whole = np.empty((r, r))
    for i in range(r):
        for k in range(i + 1):
            whole[i, k] = whole[k, i] = G[k, i]
    return whole


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
def _thrice(R: Array) -> Array:
    """R with rows of zeros up to a multiple of three."""
    padded = np.zeros(((len(R) + 2) // 3 * 3, R.shape[1]), R.dtype)
    padded[: len(R)] = R
    return padded


@compiled
def _room(r: int, columns: int, dtype: Any) -> Array:
    """Zeros for r rows and as many more as let the kernels take three or four at a time."""
    return np.zeros((((r + 3) // 4 * 4 + 2) // 3 * 3, columns), dtype)


@compiled
def _width(R: Array) -> int:
    """How many columns R's panels have."""
    return min(PANEL, max(NEAR // (len(R) * R.itemsize) // 16 * 16, 64))


@compiled
def _sums(R: Array, width: int) -> Array:
    """Zeros for R's panels, side by side: row k of panel p from (p r' + k) STRIDE on, for r' rows, a multiple of
    three."""
    return np.zeros(-(-R.shape[1] // width) * ((len(R) + 2) // 3 * 3) * STRIDE, R.dtype)


@compiled
def _fold(sums: Array, width: int, S: Array) -> None:
    """S += sums, sums ← 0."""
    r, n = S.shape
    rows, base = (r + 2) // 3 * 3, 0
    for begin in range(0, n, width):
        end = min(begin + width, n)
        for k in range(r):
            from_row = sums[base + k * STRIDE : base + k * STRIDE + end - begin]
            S[k, begin:end] += from_row
            from_row[:] = 0
        base += rows * STRIDE
