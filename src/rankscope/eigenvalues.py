"""The spectra of many products of narrow matrices, compiled: of each from two small Grams.

A library's routines take longer to be called for a matrix of ten rows than to work on it.

    P = K Kᵀ,   M = KᵀQ K = V T Vᵀ with T tridiagonal,   σ² = the eigenvalues of T

References: Householder's reduction, Golub & Van Loan 2013, Matrix Computations, 8.3.1; QL without square
roots, by Pal, Walker & Kahan, in Parlett 1998, The Symmetric Eigenvalue Problem, 8.15, doi:10.1137/1.9781611971163.
"""

import numpy as np

from rankscope.compiled import Array, compiled, inner, leaf
from rankscope.team import together

MOST_STEPS = 60
"""Of QL for each eigenvalue; two are usual."""
ENOUGH = 8_000
"""r³ for each product that is worth another thread."""


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
    r = P.shape[1]
    K, B, M = np.empty((r, r)), np.empty((r, r)), np.empty((r, r))
    off, v, w, scale = np.empty(r), np.empty(r), np.empty(r), np.empty(r)
    for t in range(part * len(P) // parts, (part + 1) * len(P) // parts):
        values = sigma[t]
        for i in range(r):
            scale[i] = np.sqrt(P[t, i, i])
        _scaled(P[t], scale, True, M)
        if _cholesky(M, K):
            _scaled(Q[t], scale, False, M)
            _sandwich(K, M, B)
            _tridiagonal(M, v, w, values, off)
            converged = _ql(values, off)
            _roots(values)
        else:
            converged = False
        if not converged:
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
    B[:] = 0
    for i in range(len(K)):
        for k in range(len(K)):
            _add(M[i, k], K[k, : k + 1], B[i])
    M[:] = 0
    for i in range(len(K)):
        for k in range(i, len(K)):
            _add(K[k, i], B[k], M[i])


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
def _ql(d: Array, e: Array) -> bool:
    """The eigenvalues of the tridiagonal matrix with diagonal d and e beside it, into d; False if it takes too long.

    Only squares of rotations are formed: no root waits for another.
    """
    n, small = len(d), np.finfo(np.float64).eps
    for i in range(n):
        e[i] *= e[i]
    for first in range(n):
        for step in range(MOST_STEPS + 1):
            last = first
            while last < n - 1 and e[last] > (small * (abs(d[last]) + abs(d[last + 1]))) ** 2:
                last += 1
            if last == first:
                break
            if step == MOST_STEPS:
                return False
            # The shift is the eigenvalue nearer to d_first of the leading 2×2 block.
            beside = np.sqrt(e[first])
            shift = (d[first + 1] - d[first]) / (2 * beside)
            shift = d[first] - beside / (shift + np.copysign(np.sqrt(shift * shift + 1), shift))
            cosine, sine, g = 1.0, 0.0, d[last] - shift
            p = g * g
            for i in range(last - 1, first - 1, -1):
                square = p + e[i]
                if i < last - 1:
                    e[i + 1] = sine * square
                before, cosine, sine = cosine, p / square, e[i] / square
                turned = cosine * (d[i] - shift) - sine * g
                d[i + 1] = g + (d[i] - turned)
                p = turned * turned * (square / p) if p > 0 else before * e[i]
                g = turned
            e[first], d[first] = sine * p, shift + g
    return True


@leaf
def _roots(values: Array) -> None:
    """The roots of eigenvalues, descending; of one that is negative, which it is by rounding only, 0."""
    for i in range(len(values)):
        root, place = np.sqrt(max(values[i], 0.0)), i
        while place > 0 and values[place - 1] < root:
            values[place] = values[place - 1]
            place -= 1
        values[place] = root
