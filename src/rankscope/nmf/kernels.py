"""Small loops, compiled: what would be many operations on few numbers, or several passes over memory for one.

No Python is held while a kernel runs, so workers run side by side.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankscope.compiled import Array, compiled, leaf
from rankscope.team import together


@compiled
def sweep_entries(F: Array, P: Array, Q: Array, C: Array, l2: float, sweeps: int) -> None:
    """For every entry of F (a×b) in order, in place: F_ij ← [F_ij − (P F Q − C + ℓ₂F)_ij / (P_ii Q_jj + ℓ₂)]₊."""
    a, b = F.shape
    for _ in range(sweeps):
        for i in range(a):
            left = np.zeros(b)
            for k in range(a):
                for j in range(b):
                    left[j] += P[i, k] * F[k, j]
            gradient = np.empty(b)
            for j in range(b):
                gradient[j] = l2 * F[i, j] - C[i, j]
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


@compiled
def overlay(A: Array, observed: NDArray[np.uint8], B: Array) -> None:
    """B_ij ← A_ij where observed_ij is 1, in place. A may hold NaN elsewhere."""
    for i in range(A.shape[0]):
        a, seen, b = A[i], observed[i], B[i]
        for j in range(a.size):
            here, there = a[j], b[j]  # Both are read, so that the choice is one instruction for many entries.
            b[j] = here if seen[j] else there


@compiled
def sum_of_squares(a: Array, team: int) -> float:
    """‖a‖² of a vector, in float64, by so many threads."""
    totals = np.empty(team)
    together(_sum_of_squares, team, team, (a, totals))
    total = 0.0
    for part in range(team):
        total += totals[part]
    return total


@leaf
def _sum_of_squares(part: int, a: Array, totals: Array) -> None:
    total, parts = 0.0, len(totals)
    mine = a[part * a.size // parts : (part + 1) * a.size // parts]
    for i in range(len(mine)):
        total += np.float64(mine[i]) * np.float64(mine[i])
    totals[part] = total


@compiled
def adam(
    theta: Array, gradient: Array, first: Array, second: Array, step: Any, moved: Array, m: Array, v: Array
) -> None:
    """θ, m and v after a ``Step`` of Adam from θ, g, m and v, vectors of one length, into the last three."""
    adam_entries(theta, gradient, first, second, step, moved, m, v)


@leaf
def adam_entries(
    theta: Array, gradient: Array, first: Array, second: Array, step: Any, moved: Array, m: Array, v: Array
) -> None:
    """The same of some of their entries."""
    kind = theta.dtype.type
    keep1, keep2, new1, new2 = kind(step.beta1), kind(step.beta2), kind(1 - step.beta1), kind(1 - step.beta2)
    rate, correction, epsilon, least = kind(step.rate), kind(step.correction), kind(step.epsilon), kind(step.least)
    zero, tiny = kind(0), kind(np.finfo(theta.dtype).tiny)
    for i in range(theta.size):
        g = gradient[i]
        mean, square = keep1 * first[i] + new1 * g, keep2 * second[i] + new2 * g * g
        # Where a gradient has become 0, means would shrink to subnormal numbers, which take a hundred times as long.
        m[i] = zero if -tiny < mean < tiny else mean
        v[i] = zero if square < tiny else square
        to = theta[i] - rate * m[i] / (correction * np.sqrt(v[i]) + epsilon)
        moved[i] = least if to < least else to
