"""What belongs to a row of F, in a lane: rows with one Hessian do not interact, so they move side by side.

X = Fᵀ lays lanes side by side; a further sweep costs arithmetic and no memory.
"""

from typing import Any

import numpy as np

from rankscope.compiled import Array, inner, leaf
from rankscope.matrices import Matrix, add_product, copy, turn
from rankscope.nmf.rules.rule import COORDINATES, MULTIPLICATION, Move
from rankscope.nmf.tiles import LANES
from rankscope.rooms import aligned_zeros
from rankscope.rows import add_outer
from rankscope.vectors import EIGHT, FOUR, TWO, WIDE, halves, lanes, load, minus, positive, store

SIDE = EIGHT if WIDE else FOUR
"""Vectors of lanes that move side by side: the slopes of two coordinates stay in registers."""
FEW = TWO
"""Those where no more than half as many lanes are left: sums of fewer would wait for each other."""


@leaf
def parts_of(m: int, team: int) -> int:
    """Into how many parts so many rows are worth being divided."""
    return max(1, min(team, (m + LANES - 1) // LANES))


@inner
def room_for_lanes(r: int, dtype: Any) -> Array:
    """Zeros for r rows of lanes."""
    return aligned_zeros(r * LANES, np.empty(0, dtype)).reshape(r, LANES)


@leaf
def load_lanes(X: Array, at: int, lanes: int, x: Array) -> None:
    """x ← ``lanes`` columns of X from ``at`` on, and 0 in the other lanes."""
    copy(Matrix(x.reshape(x.size), 0, LANES, 1), Matrix(X.reshape(X.size), at, X.shape[1], 1), len(X), lanes)
    _clear_beyond(lanes, x)


@leaf
def store_lanes(x: Array, lanes: int, X: Array, at: int) -> None:
    """``lanes`` columns of X from ``at`` on ← x; 0 in the other lanes of x, which stand for no row."""
    copy(Matrix(X.reshape(X.size), at, X.shape[1], 1), Matrix(x.reshape(x.size), 0, LANES, 1), len(X), lanes)
    _clear_beyond(lanes, x)


@leaf
def _clear_beyond(lanes: int, x: Array) -> None:
    for j in range(len(x)):
        for lane in range(lanes, LANES):
            x[j, lane] = 0


@leaf
def to_lanes(c: Array, r: int, lanes: int, x: Array) -> None:
    """r rows of x (…×LANES) ← c, whose rows lie one after another; 0 in the other lanes of all rows."""
    turn(Matrix(x.reshape(x.size), 0, LANES, 1), Matrix(c, 0, len(c) // LANES, 1), LANES, r)
    _clear_beyond(lanes, x)


@leaf
def combine(weights: Array, x: Array, out: Array) -> None:
    """out ← weights x in every lane, a few rows of it at a time."""
    rows, terms = weights.shape
    slopes, left = out.reshape(out.size), Matrix(weights.reshape(weights.size), 0, terms, 1)
    slopes[:] = 0
    add_product(Matrix(slopes, 0, LANES, 1), left, Matrix(x.reshape(x.size), 0, LANES, 1), rows, terms, LANES)


@inner
def move_lanes(x: Array, c: Array, Q: Array, l1: float, move: Move, many: int, spare: Array) -> Array:
    """So many lanes of x after one move: x itself or ``spare``."""
    r, zero, least = len(Q), x.dtype.type(0), x.dtype.type(l1)
    if move.kind == COORDINATES:
        inverse, bound = np.zeros(r, x.dtype), np.full(LANES, least)
        for j in range(r):
            if Q[j, j] > 0:  # Otherwise the component is dead elsewhere, and any value of x_j as good.
                inverse[j] = -1 / Q[j, j]
        _sweep(x.reshape(x.size), c.reshape(c.size), Q.reshape(Q.size), inverse, bound, move.sweeps, many)
        return x
    rate = x.dtype.type(move.rate)
    combine(Q, x, spare)
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


@leaf
def _sweep(x: Array, c: Array, Q: Array, inverse: Array, least: Array, sweeps: int, many: int) -> None:
    """x_j ← [x_j − (Σ_k Q_jk x_k + ℓ₁ − c_j)/Q_jj]₊ for j = 1 … r, so many times: as many lanes as registers hold."""
    side, at = len(SIDE) * lanes(x), 0
    while at < many:
        if 2 * (many - at) > side:
            _sweep_some(x, c, Q, inverse, least, sweeps, at, SIDE)
            at += side
        else:
            _sweep_some(x, c, Q, inverse, least, sweeps, at, FEW)
            at += len(FEW) * lanes(x)


@leaf
def _sweep_some(
    x: Array, c: Array, Q: Array, inverse: Array, least: Array, sweeps: int, at: int, many: tuple[int, ...]
) -> None:
    """The same for so many vectors of lanes.

    The slopes of two coordinates are taken at once, so that each x_k is loaded for both: where x is larger than the
    first cache level, that is what takes the time. The second one follows what the first one moved by.
    """
    r, bound = len(inverse), load(least, at, many)
    for _ in range(sweeps):
        for j in range(0, r - 1, 2):
            place, next = j * LANES + at, (j + 1) * LANES + at
            slopes = minus(bound, load(c, place, many)) + minus(bound, load(c, next, many))
            for k in range(r):
                slopes = add_outer(slopes, Q, (j * r, (j + 1) * r), k, load(x, k * LANES + at, many))
            (slope, other), before = halves(slopes), load(x, place, many)
            after = positive(add_outer(before, inverse, (j,), 0, slope))
            store(x, place, after)
            other = add_outer(other, Q, ((j + 1) * r,), j, minus(after, before))
            store(x, next, positive(add_outer(load(x, next, many), inverse, (j + 1,), 0, other)))
        if r % 2:
            place = (r - 1) * LANES + at
            slope = minus(bound, load(c, place, many))
            for k in range(r):
                slope = add_outer(slope, Q, ((r - 1) * r,), k, load(x, k * LANES + at, many))
            store(x, place, positive(add_outer(load(x, place, many), inverse, (r - 1,), 0, slope)))


@leaf
def violation_of(x: Array, c: Array, Q: Array, l1: float, lanes: int, spare: Array) -> float:
    """‖min(x Q − c + ℓ₁, diag(Q) ∘ x)‖² over the lanes."""
    total, least = 0.0, x.dtype.type(l1)
    combine(Q, x, spare)
    for j in range(len(Q)):
        curvature = Q[j, j]
        for lane in range(lanes):
            gradient, bound = spare[j, lane] - c[j, lane] + least, curvature * x[j, lane]
            v = np.float64(bound if bound < gradient else gradient)
            total += v * v
    return total


@leaf
def product_of(x: Array, c: Array, r: int, lanes: int) -> float:
    """⟨x, c⟩ in float64, of r rows of these lanes."""
    total = 0.0
    for j in range(r):
        for lane in range(lanes):
            total += np.float64(x[j, lane]) * c[j, lane]
    return total
