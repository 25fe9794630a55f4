"""What belongs to a row of F, in a lane: rows with one Hessian do not interact, so they move side by side.

X = Fᵀ lays lanes side by side; a further sweep costs arithmetic and no memory.
"""

from typing import Any

import numpy as np

from rankscope.compiled import Array, inner, leaf
from rankscope.matrices import Matrix, add_product, turn
from rankscope.nmf.rules.rule import COORDINATES, MULTIPLICATION, Move
from rankscope.nmf.tiles import LANES
from rankscope.vectors import aligned_zeros


@inner
def room_for_lanes(r: int, dtype: Any) -> Array:
    """Zeros for r rows of lanes, and as many more as let ``combine`` take four at a time."""
    rows = (r + 3) // 4 * 4
    return aligned_zeros(rows * LANES, np.empty(0, dtype)).reshape(rows, LANES)


@inner
def padded(Q: Array) -> Array:
    """Q with columns of zeros up to a multiple of four."""
    padded = np.zeros((len(Q), (Q.shape[1] + 3) // 4 * 4), Q.dtype)
    for i in range(len(Q)):
        for j in range(Q.shape[1]):
            padded[i, j] = Q[i, j]
    return padded


@leaf
def load_lanes(X: Array, at: int, lanes: int, x: Array) -> None:
    """x ← ``lanes`` columns of X from ``at`` on, and 0 in the other lanes."""
    for j in range(len(X)):
        for lane in range(lanes):
            x[j, lane] = X[j, at + lane]
        x[j, lanes:] = 0


@leaf
def store_lanes(x: Array, lanes: int, X: Array, at: int) -> None:
    """``lanes`` columns of X from ``at`` on ← x; 0 in the other lanes of x, which stand for no row."""
    for j in range(len(X)):
        for lane in range(lanes):
            X[j, at + lane] = x[j, lane]
        x[j, lanes:] = 0


@leaf
def to_lanes(c: Array, r: int, lanes: int, x: Array) -> None:
    """x (r×LANES) ← c, whose rows lie one after another; 0 in the other lanes."""
    turn(Matrix(x.reshape(x.size), 0, LANES, 1), Matrix(c, 0, len(c) // LANES, 1), LANES, r)
    for j in range(r):
        x[j, lanes:] = 0


@leaf
def combine(weights: Array, x: Array, out: Array) -> None:
    """out ← Σ_k weights_k x_k in every lane; four terms at a time, for a quarter of the loads and stores."""
    for lane in range(LANES):
        out[lane] = 0
    for k in range(0, len(weights), 4):
        w0, w1, w2, w3 = weights[k], weights[k + 1], weights[k + 2], weights[k + 3]
        for lane in range(LANES):
            out[lane] += w0 * x[k, lane] + w1 * x[k + 1, lane] + w2 * x[k + 2, lane] + w3 * x[k + 3, lane]


@leaf
def combine_all(weights: Array, x: Array, out: Array) -> None:
    """The same for every row of weights, a few of them at a time."""
    rows, terms = weights.shape
    slopes, left = out.reshape(out.size), Matrix(weights.reshape(weights.size), 0, terms, 1)
    slopes[:] = 0
    add_product(Matrix(slopes, 0, LANES, 1), left, Matrix(x.reshape(x.size), 0, LANES, 1), rows, terms, LANES)


@inner
def move_lanes(x: Array, c: Array, Q: Array, l1: float, move: Move, spare: Array) -> Array:
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
                combine(Q[j], x, slope)
                for lane in range(LANES):
                    to = x[j, lane] + inverse[j] * (c[j, lane] - least - slope[lane])
                    x[j, lane] = zero if to < zero else to
        return x
    rate = x.dtype.type(move.rate)
    combine_all(Q, x, spare)
    for j in range(r):
        if move.kind == MULTIPLICATION:
            for lane in range(LANES):
                there = spare[j, lane] + least
                quotient = x[j, lane] * c[j, lane] / there
                spare[j, lane] = zero if there == zero else quotient
        else:
            for lane in range(LANES):
                to = x[j, lane] - rate * (spare[j, lane] + least - c[j, lane])
                spare[j, lane] = zero if to < zero else to
    return spare


@inner
def violation_of(x: Array, c: Array, Q: Array, l1: float, lanes: int) -> float:
    """‖min(x Q − c + ℓ₁, diag(Q) ∘ x)‖² over the lanes."""
    slope, total = np.zeros(LANES, x.dtype), 0.0
    for j in range(len(Q)):
        combine(Q[j], x, slope)
        curvature, least = Q[j, j], x.dtype.type(l1)
        for lane in range(lanes):
            gradient, bound = slope[lane] - c[j, lane] + least, curvature * x[j, lane]
            v = np.float64(bound if bound < gradient else gradient)
            total += v * v
    return total


@leaf
def square_of(c: Array, r: int, lanes: int) -> float:
    total = 0.0
    for j in range(r):
        for lane in range(lanes):
            total += np.float64(c[j, lane]) * c[j, lane]
    return total
