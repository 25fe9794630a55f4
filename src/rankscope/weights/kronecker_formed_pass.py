"""y = W x + b for W = Σ_k A_k ⊗ B_k formed, and its derivative, compiled: where K terms cost as much as W itself.

With W reordered to W' so that a row holds one position (r, p) of A and a column one position (c, j) of B, and ∂W alike,
for A (K×o₁i₁) and B (K×o₂i₂), and with vectors as rows,

    W' = AᵀB,     Y = X Wᵀ,     ∂X = ∂Y W,     ∂W = ∂YᵀX,     ∂A = B ∂W'ᵀ,     ∂B = A ∂W'.

Every thread forms W for itself, in less time than it would take to fetch it from another's cache.
"""

from typing import NamedTuple

from rankscope.addresses import at, at_or_zeros
from rankscope.compiled import Array, compiled, inner, leaf
from rankscope.matrices import Matrix, copy, copy_sum, product, turn, whole
from rankscope.panels import DEEP, HIGH, Room, multiply, panel_size
from rankscope.rooms import Kept, add_up, kept_room, rooms_in
from rankscope.team import together
from rankscope.vectors import ONE, lanes, load, store
from rankscope.weights.beside import Places, Sizes, parts_of, rows_of


class Rooms(NamedTuple):
    """For each part."""

    W: Array
    reordered: Array
    panels: Array
    strips: Array
    turned: Array
    few: Array


@compiled
def forward(like: Array, sizes: Sizes, batch: int, places: Places, team: int) -> int:
    """Y (batch×o₁o₂) for X (batch×i₁i₂), B (K×o₂×i₂) at p, A (K×o₁×i₁) at q and the bias."""
    K, o1, i1, o2, i2 = sizes
    x, p, q, b, y, _ = places
    kept = kept_room(like)
    i, o = i1 * i2, o1 * o2
    X, B, A = at(x, (batch * i,), like), at(p, (K * o2 * i2,), like), at(q, (K * o1 * i1,), like)
    bias, Y, parts = at_or_zeros(b, o, like), at(y, (batch * o,), like), parts_of(batch, o * i, team)
    room = _rooms(kept, parts, o * i, 0, 0, 0)
    together(_forward, parts, team, (parts, batch, X, B, A, sizes, bias, Y, room))
    return kept.taken[0]


@leaf
def _forward(
    part: int, parts: int, batch: int, X: Array, B: Array, A: Array, sizes: Sizes, bias: Array, Y: Array, room: Rooms
) -> None:
    _, o1, i1, o2, i2 = sizes
    i, o, W = i1 * i2, o1 * o2, room.W[part]
    _form(A, B, sizes, room.reordered[part], W)
    begin, many = rows_of(part, parts, batch)
    near, x, y = Room(room.panels[part], X[:0]), Matrix(X, begin * i, i, 1), Matrix(Y, begin * o, o, 1)
    multiply(y, x, Matrix(W, 0, 1, i), many, i, o, bias, near)


@inner
def _rooms(kept: Kept, parts: int, size: int, strip: int, turned: int, few: int) -> Rooms:
    """W and W' have a vector more than their own: see `_swap`."""
    entries = size + lanes(kept.numbers)
    return Rooms(
        rooms_in(kept, parts, entries),
        rooms_in(kept, parts, entries),
        rooms_in(kept, parts, panel_size(kept.numbers)),
        rooms_in(kept, parts, strip),
        rooms_in(kept, parts, turned),
        rooms_in(kept, parts, few),
    )


@leaf
def _form(A: Array, B: Array, sizes: Sizes, reordered: Array, W: Array) -> None:
    K, o1, i1, o2, i2 = sizes
    square = o2 * i2
    left, to = Matrix(A, 0, 1, o1 * i1), Matrix(reordered, 0, square, 1)
    product(to, left, Matrix(B, 0, square, 1), o1 * i1, K, square)
    _swap(reordered, W, o1, i1, o2, i2)


@leaf
def _swap(M: Array, swapped: Array, r: int, a: int, b: int, n: int) -> None:
    """Runs of n numbers, numbered (r, a, b) in M, to where (r, b, a) numbers them: W' to W, and back.

    Whole vectors are moved: what one has more than a run is where the next run will be, or after the last one.
    """
    to = 0
    for k in range(r):
        for j in range(b):
            for i in range(a):
                frm = ((k * a + i) * b + j) * n
                for e in range(0, n, lanes(M)):
                    store(swapped, to + e, load(M, frm + e, ONE))
                to += n


@compiled
def backward(like: Array, sizes: Sizes, batch: int, places: Places, team: int) -> int:
    """The gradients of X, unless there is no room for it, B, A and the bias for ∂Y (batch×o₁o₂)."""
    K, o1, i1, o2, i2 = sizes
    dy, x, _, p, q, dx, dp, dq, db = places
    kept = kept_room(like)
    i, o, strip = i1 * i2, o1 * o2, HIGH * min(batch, DEEP)
    dY, X, B = at(dy, (batch * o,), like), at(x, (batch * i,), like), at(p, (K * o2 * i2,), like)
    A, dX, dA = at(q, (K * o1 * i1,), like), at(dx, (X.size if dx else 0,), like), at(dq, (K * o1 * i1,), like)
    bias, parts = at(db, (o,), like), min(parts_of(batch, o * i, team), o1)
    across = whole(o1 * i1, like)
    room = _rooms(kept, parts, o * i, strip, o2 * i2 * across, K * across)
    dBs = rooms_in(kept, parts, B.size)
    together(_backward, parts, team, (parts, batch, dY, X, B, A, sizes, dX, dA, dBs, bias, room))
    add_up(dBs, B.size, at(dp, (1, B.size), like))
    return kept.taken[0]


@leaf
def _backward(
    part: int,
    parts: int,
    batch: int,
    dY: Array,
    X: Array,
    B: Array,
    A: Array,
    sizes: Sizes,
    dX: Array,
    dA: Array,
    dBs: Array,
    bias: Array,
    room: Rooms,
) -> None:
    K, o1, i1, o2, i2 = sizes
    i, o, square, none = i1 * i2, o1 * o2, o2 * i2, X[:0]
    W, reordered, near = room.W[part], room.reordered[part], Room(room.panels[part], room.strips[part])
    if dX.size:
        _form(A, B, sizes, reordered, W)
        begin, many = rows_of(part, parts, batch)
        to, dy = Matrix(dX, begin * i, i, 1), Matrix(dY, begin * o, o, 1)
        multiply(to, dy, Matrix(W, 0, i, 1), many, o, i, none, near)
    # Of ∂W the rows of some r, which ∂A of these and their part of ∂B need.
    first, end = part * o1 // parts, (part + 1) * o1 // parts
    begin, many = first * o2, (end - first) * o2
    multiply(Matrix(W, 0, i, 1), Matrix(dY, begin, 1, o), Matrix(X, 0, i, 1), many, batch, i, none, near)
    bias[begin : begin + many], sums = 0, Matrix(bias, begin, 0, 1)
    copy_sum(sums, sums, Matrix(dY, begin, o, 1), batch, many)
    _swap(W, reordered, end - first, o2, i1, i2)
    left, dW = Matrix(A, first * i1, o1 * i1, 1), Matrix(reordered, 0, square, 1)
    product(Matrix(dBs[part], 0, square, 1), left, dW, K, (end - first) * i1, square)
    positions, across = (end - first) * i1, whole((end - first) * i1, X)
    turned, few = Matrix(room.turned[part], 0, across, 1), Matrix(room.few[part], 0, across, 1)
    turn(turned, dW, positions, square)
    product(few, Matrix(B, 0, square, 1), turned, K, square, across)
    copy(Matrix(dA, first * i1, o1 * i1, 1), few, K, positions)
