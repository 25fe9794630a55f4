"""Coordinate descent in the first cache level: the inner loops of HALS, compiled.

The rows of a factor with one Hessian do not interact, so ``LANES`` of them are taken at a time, one row a lane, and
swept as often as asked before the next ones are fetched: a further sweep costs arithmetic, not memory. No Python is
held while a kernel runs, so workers run side by side.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

LANES = 128
Array = NDArray[np.floating]

# Sums may be taken in any order and as fused multiply-adds; NaN and inf keep their meaning.
_compiled = njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz", "arcp"})


@_compiled
def _padded(Q: Array) -> Array:
    """Q (r×r) with columns of zeros up to a multiple of four: sums over k then take four terms at a time, for a quarter
    of the loads and stores."""
    r = len(Q)
    padded = np.zeros((r, (r + 3) // 4 * 4), Q.dtype)
    padded[:, :r] = Q
    return padded


@_compiled
def sweep_rows(F: Array, Q: Array, C: Array, sweeps: int) -> None:
    """For every row f of F (m×r), in place: f_j ← [f_j − (f Q − c)_j / Q_jj]₊ for j = 1 … r, ``sweeps`` times over.

    Args:
        F: the factor (m×r).
        Q: the Hessian (r×r), symmetric; f_j stays where Q_jj is 0.
        C: (m×r).
        sweeps: how often.
    """
    m, r = F.shape
    zero = F.dtype.type(0)
    curvature = _padded(Q)
    padded = curvature.shape[1]
    inverse = np.zeros(r, F.dtype)
    for j in range(r):
        if Q[j, j] > 0:
            inverse[j] = 1 / Q[j, j]
    f = np.zeros((padded, LANES), F.dtype)
    c = np.zeros((r, LANES), F.dtype)
    descent = np.zeros(LANES, F.dtype)
    for start in range(0, m, LANES):
        lanes = min(LANES, m - start)
        for j in range(r):
            for lane in range(lanes):
                f[j, lane] = F[start + lane, j]
                c[j, lane] = C[start + lane, j]
        for _ in range(sweeps):
            for j in range(r):
                for lane in range(LANES):
                    descent[lane] = c[j, lane]
                for k in range(0, padded, 4):
                    q0, q1, q2, q3 = curvature[j, k], curvature[j, k + 1], curvature[j, k + 2], curvature[j, k + 3]
                    for lane in range(LANES):
                        descent[lane] -= (
                            q0 * f[k, lane] + q1 * f[k + 1, lane] + q2 * f[k + 2, lane] + q3 * f[k + 3, lane]
                        )
                for lane in range(LANES):
                    moved = f[j, lane] + inverse[j] * descent[lane]
                    f[j, lane] = zero if moved < zero else moved
        for j in range(r):
            for lane in range(lanes):
                F[start + lane, j] = f[j, lane]


@_compiled
def multiply_rows(F: Array, Q: Array, C: Array) -> None:
    """For every row f of F (m×r) ≥ 0, in place: f ← f ∘ c / (f Q), and 0 where f Q is 0.

    Args:
        F: the factor (m×r).
        Q: the Hessian (r×r), symmetric.
        C: (m×r).
    """
    m, r = F.shape
    zero = F.dtype.type(0)
    curvature = _padded(Q)
    padded = curvature.shape[1]
    f = np.zeros((padded, LANES), F.dtype)
    slope = np.zeros(LANES, F.dtype)
    for start in range(0, m, LANES):
        lanes = min(LANES, m - start)
        for j in range(r):
            for lane in range(lanes):
                f[j, lane] = F[start + lane, j]
        for j in range(r):
            for lane in range(LANES):
                slope[lane] = zero
            for k in range(0, padded, 4):
                q0, q1, q2, q3 = curvature[j, k], curvature[j, k + 1], curvature[j, k + 2], curvature[j, k + 3]
                for lane in range(LANES):
                    slope[lane] += q0 * f[k, lane] + q1 * f[k + 1, lane] + q2 * f[k + 2, lane] + q3 * f[k + 3, lane]
            for lane in range(lanes):
                there = slope[lane]
                quotient = f[j, lane] * C[start + lane, j] / there
                F[start + lane, j] = zero if there == zero else quotient


@_compiled
def sweep_entries(F: Array, P: Array, Q: Array, C: Array, l2: float, sweeps: int) -> None:
    """For every entry of F (a×b) in order, in place: F_ij ← [F_ij − (P F Q − C + ℓ₂F)_ij / (P_ii Q_jj + ℓ₂)]₊."""
    a, b = F.shape
    for _ in range(sweeps):
        for i in range(a):
            left = np.zeros(b)
            for k in range(a):
                for j in range(b):
                    left[j] += P[i, k] * F[k, j]
            gradient = l2 * F[i] - C[i]
            for k in range(b):
                for j in range(b):
                    gradient[j] += left[k] * Q[k, j]
            for j in range(b):
                curvature = P[i, i] * Q[j, j] + l2
                if curvature == 0:
                    continue
                move = max(-gradient[j] / curvature, -F[i, j])
                F[i, j] += move
                for k in range(b):
                    gradient[k] += move * P[i, i] * Q[j, k]
                gradient[j] += move * l2


@_compiled
def overlay(A: Array, observed: NDArray[np.uint8], B: Array) -> None:
    """B_ij ← A_ij where observed_ij is 1, in place. A may hold NaN elsewhere."""
    for i in range(A.shape[0]):
        a, seen, b = A[i], observed[i], B[i]
        for j in range(a.size):
            here, there = a[j], b[j]  # Both are read, so that the choice is one instruction for many entries.
            b[j] = here if seen[j] else there


@_compiled
def adam(theta: Array, gradient: Array, first: Array, second: Array, step: Any) -> tuple[Array, Array, Array]:
    """θ, m and v after a ``Step`` of Adam from θ, g, m and v, vectors of one length."""
    kind = theta.dtype.type
    keep1, keep2, new1, new2 = kind(step.beta1), kind(step.beta2), kind(1 - step.beta1), kind(1 - step.beta2)
    rate, correction, epsilon, least = kind(step.rate), kind(step.correction), kind(step.epsilon), kind(step.least)
    moved, m, v = np.empty_like(theta), np.empty_like(theta), np.empty_like(theta)
    for i in range(theta.size):
        g = gradient[i]
        m[i] = keep1 * first[i] + new1 * g
        v[i] = keep2 * second[i] + new2 * g * g
        to = theta[i] - rate * m[i] / (correction * np.sqrt(v[i]) + epsilon)
        moved[i] = least if to < least else to
    return moved, m, v
