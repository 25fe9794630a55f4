"""The spectra of many products of narrow matrices, compiled: of each from two small Grams.

A library's routines take longer to be called for a matrix of ten rows than to work on it.

    P = K Kᵀ,   M = KᵀQ K = V T Vᵀ with T tridiagonal,   σ² = the eigenvalues of T

Every step of the last part waits for divisions, so that many T are worked on side by side.

References: Householder's reduction, Golub & Van Loan 2013, Matrix Computations, 8.3.1; QL without square
roots, by Pal, Walker & Kahan, in Parlett 1998, The Symmetric Eigenvalue Problem, 8.15, doi:10.1137/1.9781611971163.
"""

import numpy as np

from rankscope.compiled import Array, compiled, inner, leaf
from rankscope.matrices import Matrix, product, whole
from rankscope.team import together

MOST_STEPS = 60
"""Of QL for each eigenvalue; two are usual."""
ENOUGH = 8_000
"""r³ for each product that is worth another thread."""
BESIDE = 8
"""How many T are worked on side by side: a register of 512 bits of them, or two of 256."""


@compiled
def singular_values_of_products(P: Array, Q: Array, sigma: Array, team: int) -> int:
    """σ (T×r) ← those of L R, descending, from P = LᵀL and Q = RRᵀ (T×r×r), all in float64.

    Components are scaled first, as in ``spectra.gram_singular_values``.

    Returns:
        how many failed: P is singular to rounding there, and the row of σ holds NaN.
    """
    parts = max(1, min(team, len(P), len(P) * P.shape[1] ** 3 // ENOUGH))
    together(_some, parts, parts, (parts, P, Q, sigma))
    failed = 0
    for row in sigma:
        failed += row[0] != row[0]
    return failed


@inner
def _some(part: int, parts: int, P: Array, Q: Array, sigma: Array) -> None:
    r, end = P.shape[1], (part + 1) * len(P) // parts
    row = whole(r, P)  # So that rows are whole vectors, K's with zeros beyond their ends.
    K, B, M = np.zeros((r, row)), np.zeros((r, row)), np.zeros((r, row))
    v, w, scale, diagonal, off = np.empty(r), np.empty(r), np.empty(r), np.empty(r), np.empty(r)
    d, e, state, found = np.empty((r, BESIDE)), np.empty((r, BESIDE)), np.empty((6, BESIDE)), np.empty(BESIDE)
    for begin in range(part * len(P) // parts, end, BESIDE):
        d[:], e[:], found[:] = 0, 0, 0
        for k in range(min(BESIDE, end - begin)):
            for i in range(r):
                scale[i] = np.sqrt(P[begin + k, i, i])
            _scaled(P[begin + k], scale, True, M)
            if not _cholesky(M, K):
                continue
            _scaled(Q[begin + k], scale, False, M)
            _sandwich(K, M, B)
            _tridiagonal(M, v, w, diagonal, off)
            d[:, k], e[:, k], found[k] = diagonal, off, 1
        converged = _ql(d, e, state)
        for k in range(min(BESIDE, end - begin)):
            values = sigma[begin + k]
            values[:] = d[:, k]
            _roots(values)
            if not (converged and found[k]):
                values[0] = np.nan


@leaf
def _cholesky(P: Array, K: Array) -> bool:
    """K lower triangular with K Kᵀ = P; False where P is not positive definite."""
    for i in range(len(P)):
        for j in range(i + 1):
            rest = P[i, j]
            for k in range(j):
                rest -= K[i, k] * K[j, k]
            if i > j:
                K[i, j] = rest / K[j, j]
                K[j, i] = 0
            elif rest > 0:
                K[i, i] = np.sqrt(rest)
            else:
                return False
    return True


@leaf
def _scaled(M: Array, scale: Array, divided: bool, scaled: Array) -> None:
    """M with rows and columns multiplied, or divided, by a scale."""
    for i in range(len(M)):
        row, to, own = M[i], scaled[i], scale[i]
        for j in range(len(M)):
            both = own * scale[j]
            to[j] = row[j] / both if divided else row[j] * both


@leaf
def _sandwich(K: Array, M: Array, B: Array) -> None:
    """M ← KᵀM K, by way of B = M K."""
    r, row = K.shape
    k, m, b = (
        Matrix(K.reshape(K.size), 0, row, 1),
        Matrix(M.reshape(M.size), 0, row, 1),
        Matrix(B.reshape(B.size), 0, row, 1),
    )
    product(b, m, k, r, r, row)
    product(m, Matrix(k.entries, 0, 1, row), b, r, r, row)


@leaf
def _add(weight: float, row: Array, total: Array) -> None:
    """total += weight · row, as far as that goes."""
    for j in range(len(row)):
        total[j] += weight * row[j]


@leaf
def _tridiagonal(M: Array, v: Array, w: Array, diagonal: Array, off: Array) -> None:
    """The diagonal and what is beside it of T with M = V T Vᵀ; M is used up."""
    n = len(M)
    for k in range(n - 1):
        below = 0.0
        for i in range(k + 2, n):
            below += M[k, i] * M[k, i]
        head = M[k, k + 1]
        off[k] = head if below == 0 else -np.copysign(np.sqrt(head * head + below), head)
        if below == 0:
            continue
        # H = I − 2vvᵀ/‖v‖² takes the row beyond the diagonal to its first entry; M ← H M H.
        for i in range(k + 1, n):
            v[i] = M[k, i]
        v[k + 1] = head - off[k]
        square, along = below + v[k + 1] * v[k + 1], 0.0
        beyond, moved = v[k + 1 : n], w[k + 1 : n]
        for i in range(k + 1, n):
            total, row = 0.0, M[i, k + 1 : n]
            for j in range(len(row)):
                total += row[j] * beyond[j]
            w[i] = 2 * total / square
            along += w[i] * v[i]
        _add(-along / square, beyond, moved)
        for i in range(k + 1, n):
            row = M[i, k + 1 : n]
            _add(-v[i], moved, row)
            _add(-w[i], beyond, row)
    off[n - 1] = 0
    for i in range(n):
        diagonal[i] = M[i, i]


@leaf
def _ql(d: Array, e: Array, state: Array) -> bool:
    """The eigenvalues of BESIDE tridiagonal matrices with diagonals d and e beside them (r×BESIDE), into d.

    False if it takes too long. Only squares of rotations are formed: no root waits for another. A matrix that is done
    sooner, or falls into parts, takes the others' steps, which leave its eigenvalues what they are.
    """
    n, shift = len(d), state[0]
    for i in range(n):
        for k in range(BESIDE):
            e[i, k] *= e[i, k]
    for first in range(n):
        for step in range(MOST_STEPS + 1):
            last = first
            while last < n - 1 and _connected(d[last], d[last + 1], e[last]):
                last += 1
            if last == first:
                break
            if step == MOST_STEPS:
                return False
            # The shift is the eigenvalue nearer to d_first of the leading 2×2 block.
            for k in range(BESIDE):
                half, beside = 0.5 * (d[first + 1, k] - d[first, k]), e[first, k]
                apart = half + np.copysign(np.sqrt(half * half + beside), half)
                shift[k] = d[first, k] - (beside / apart if beside > 0 else 0.0)
            _sweep(d, e, first, last, state)
    return True


@leaf
def _connected(d: Array, below: Array, e: Array) -> bool:
    """Whether of any matrix the entry beside these of the diagonal is not small; small ones ← 0."""
    small, largest = np.finfo(np.float64).eps, 0.0
    for k in range(BESIDE):
        bound = small * (abs(d[k]) + abs(below[k]))
        e[k] = e[k] if e[k] > bound * bound else 0.0
        largest = max(largest, e[k])
    return largest > 0


@leaf
def _sweep(d: Array, e: Array, first: int, last: int, state: Array) -> None:
    """One step of QL on rows first … last, shifted."""
    shift, cosines, sines, g, p, spare = state[0], state[1], state[2], state[3], state[4], state[5]
    for k in range(BESIDE):
        cosines[k], sines[k], g[k] = 1.0, 0.0, d[last, k] - shift[k]
        p[k] = g[k] * g[k]
    for i in range(last - 1, first - 1, -1):
        above = e[i + 1] if i < last - 1 else spare
        for k in range(BESIDE):
            beside, before = e[i, k], cosines[k]
            square = p[k] + beside
            above[k] = sines[k] * square
            cosine, sine = (p[k] / square, beside / square) if beside > 0 else (1.0, 0.0)
            turned = cosine * (d[i, k] - shift[k]) - sine * g[k]
            d[i + 1, k] = g[k] + (d[i, k] - turned)
            p[k] = turned * turned * (square / p[k]) if p[k] > 0 else before * beside if beside > 0 else turned * turned
            cosines[k], sines[k], g[k] = cosine, sine, turned
    for k in range(BESIDE):
        e[first, k], d[first, k] = sines[k] * p[k], shift[k] + g[k]


@leaf
def _roots(values: Array) -> None:
    """The roots of eigenvalues, descending; of one that is negative, which it is by rounding only, 0."""
    for i in range(len(values)):
        root, place = np.sqrt(max(values[i], 0.0)), i
        while place > 0 and values[place - 1] < root:
            values[place] = values[place - 1]
            place -= 1
        values[place] = root
