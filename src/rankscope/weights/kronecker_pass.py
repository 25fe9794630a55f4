"""y = Σ_k (A_k ⊗ B_k) x for a batch of vectors, and its derivative, compiled: BESIDE vectors at a time, side by side.

Each x is a matrix X (i₁×i₂), and so is y (o₁×o₂):

    Z_k = X B_kᵀ,          Y = Σ_k A_k Z_k,
    ∂Z_k = A_kᵀ ∂Y,        ∂X = Σ_k ∂Z_k B_k,     ∂A_k = Σ ∂Y Z_kᵀ,     ∂B_k = Σ ∂Z_kᵀ X.

Entry (p, q) of X is a row, of one number for each vector. So products with B take the rows of one p at a time, and
products with A all of what is in a row of Z: its rows are those of (p, k), each with o₂ numbers for every vector.
"""

from typing import NamedTuple

import numpy as np

from rankscope.addresses import at, at_or_zeros
from rankscope.compiled import Array, compiled, inner, leaf
from rankscope.matrices import Matrix, product
from rankscope.rooms import Kept, add_up, aligned_zeros, kept_room, rooms_in
from rankscope.team import together
from rankscope.vectors import lanes
from rankscope.weights.beside import (
    BESIDE,
    SOME,
    Places,
    Sizes,
    add_lanes,
    add_matches,
    add_vectors,
    give,
    lay,
    parts_of,
    share,
    take,
)


class Room(NamedTuple):
    """What the way back needs for itself, a row for each part."""

    a: Array
    b: Array
    y: Array
    x: Array
    z: Array
    dz: Array


class Sums(NamedTuple):
    """The gradients of the parameters, a row for each part."""

    A: Array
    B: Array
    bias: Array


def made(batch: int, sizes: Sizes, itemsize: int) -> tuple[tuple[int, int], int]:
    """The shape of Y, and that Z is not kept: to compute it again takes less time than to fetch it."""
    _, o1, _, o2, _ = sizes
    return (batch, o1 * o2), 0


@compiled
def forward(like: Array, sizes: Sizes, batch: int, places: Places, team: int) -> int:
    """Y (batch×o₁o₂) for X (batch×i₁i₂), B (K×o₂×i₂) at p, A (K×o₁×i₁) at q and the bias."""
    K, o1, i1, o2, i2 = sizes
    x, p, q, b, y, _ = places
    kept = kept_room(like)
    X, B, A = at(x, (batch, i1 * i2), like), at(p, (K * o2 * i2,), like), at(q, (K, o1, i1), like)
    bias, Y, parts = at_or_zeros(b, o1 * o2, like), at(y, (batch, o1 * o2), like), parts_for(sizes, batch, team)
    room = (
        rooms_in(kept, parts, i1 * i2 * BESIDE),
        rooms_in(kept, parts, o1 * o2 * BESIDE),
        rooms_in(kept, parts, i1 * K * o2 * BESIDE),
        rooms_in(kept, parts, SOME * BESIDE),
    )
    together(_forward, parts, team, (parts, X, B, in_one_row(A), sizes, bias, Y, room))
    return kept.taken[0]


@leaf
def _forward(
    part: int,
    parts: int,
    X: Array,
    B: Array,
    A: Array,
    sizes: Sizes,
    bias: Array,
    Y: Array,
    room: tuple[Array, Array, Array, Array],
) -> None:
    _, _, i1, _, i2 = sizes
    xs, ys, z, few = room[0][part], room[1][part], room[2][part], room[3][part]
    for block in range(*share(part, parts, len(X))):
        begin = block * BESIDE
        lay(xs, X, begin, i1 * i2, 0)
        with_B(z, xs, B, sizes)
        with_A(ys, z, A, sizes)
        give(Y, begin, ys, bias, few)


@leaf
def with_B(z: Array, xs: Array, B: Array, sizes: Sizes) -> None:
    """Z of a block's X."""
    K, _, i1, o2, i2 = sizes
    for p in range(i1):
        to, rows = Matrix(z, p * K * o2 * BESIDE, BESIDE, 1), Matrix(xs, p * i2 * BESIDE, BESIDE, 1)
        product(to, Matrix(B, 0, i2, 1), rows, K * o2, i2, BESIDE)


@leaf
def with_A(ys: Array, z: Array, A: Array, sizes: Sizes) -> None:
    """Y of its Z."""
    K, o1, i1, o2, _ = sizes
    row = o2 * BESIDE
    product(Matrix(ys, 0, row, 1), Matrix(A, 0, i1 * K, 1), Matrix(z, 0, row, 1), o1, i1 * K, row)


@leaf
def back_with_A(dz: Array, ys: Array, A: Array, sizes: Sizes) -> None:
    """∂Z of its ∂Y."""
    K, o1, i1, o2, _ = sizes
    row = o2 * BESIDE
    product(Matrix(dz, 0, row, 1), Matrix(A, 0, 1, i1 * K), Matrix(ys, 0, row, 1), i1 * K, o1, row)


@leaf
def back_with_B(xs: Array, dz: Array, B: Array, sizes: Sizes) -> None:
    """∂X of its ∂Z."""
    K, _, i1, o2, i2 = sizes
    for p in range(i1):
        to, rows = Matrix(xs, p * i2 * BESIDE, BESIDE, 1), Matrix(dz, p * K * o2 * BESIDE, BESIDE, 1)
        product(to, Matrix(B, 0, 1, i2), rows, i2, K * o2, BESIDE)


@leaf
def match_A(dA: Array, ys: Array, z: Array, sizes: Sizes) -> None:
    """∂A += Σ ∂Y Zᵀ over a block."""
    K, o1, i1, o2, _ = sizes
    row = o2 * BESIDE
    add_matches(dA, Matrix(ys, 0, row, BESIDE), Matrix(z, 0, row, BESIDE), o1, i1 * K, o2)


@leaf
def match_B(dB: Array, dz: Array, xs: Array, sizes: Sizes) -> None:
    """∂B += Σ ∂Zᵀ X over a block."""
    K, _, i1, o2, i2 = sizes
    left, right = Matrix(dz, 0, BESIDE, K * o2 * BESIDE), Matrix(xs, 0, BESIDE, i2 * BESIDE)
    add_matches(dB, left, right, K * o2, i2, i1)


@compiled
def backward(like: Array, sizes: Sizes, batch: int, places: Places, team: int) -> int:
    """The gradients of X, unless there is no room for it, B, A and the bias for ∂Y (batch×o₁o₂)."""
    K, o1, i1, o2, i2 = sizes
    dy, x, _, p, q, dx, dp, dq, db = places
    kept = kept_room(like)
    dY, X, B = at(dy, (batch, o1 * o2), like), at(x, (batch, i1 * i2), like), at(p, (K * o2 * i2,), like)
    A, dX = at(q, (K, o1, i1), like), at(dx, (batch if dx else 0, i1 * i2), like)
    parts = parts_for(sizes, batch, team)
    room, sums = room_for(kept, parts, sizes), sums_for(kept, parts, sizes, o1 * o2)
    together(_backward, parts, team, (parts, dY, X, B, in_one_row(A), sizes, dX, sums, room))
    rows = np.empty((1, A.size), like.dtype)
    add_up(sums.A, A.size, rows)
    by_terms(rows[0], at(dq, (K, o1, i1), like))
    add_up(sums.B, B.size, at(dp, (1, B.size), like))
    add_up(sums.bias, o1 * o2, at(db, (1, o1 * o2), like))
    return kept.taken[0]


@leaf
def _backward(
    part: int,
    parts: int,
    dY: Array,
    X: Array,
    B: Array,
    A: Array,
    sizes: Sizes,
    dX: Array,
    sums: Sums,
    room: Room,
) -> None:
    _, o1, i1, o2, i2 = sizes
    dA, dB, bias = room.a[part], room.b[part], sums.bias[part]
    ys, xs, z, dz = room.y[part], room.x[part], room.z[part], room.dz[part]
    dA[:], dB[:], bias[:] = 0, 0, 0
    for block in range(*share(part, parts, len(X))):
        begin = block * BESIDE
        lay(ys, dY, begin, o1 * o2, 0)
        lay(xs, X, begin, i1 * i2, 0)
        add_vectors(bias, dY, begin)
        with_B(z, xs, B, sizes)
        match_A(dA, ys, z, sizes)
        back_with_A(dz, ys, A, sizes)
        match_B(dB, dz, xs, sizes)
        if dX.size:
            back_with_B(xs, dz, B, sizes)
            take(dX, begin, xs, i1 * i2, 0)
    add_lanes(dA, sums.A[part, : A.size])
    add_lanes(dB, sums.B[part, : B.size])


@leaf
def parts_for(sizes: Sizes, batch: int, team: int) -> int:
    """Into how many parts the vectors are worth being divided."""
    K, o1, i1, o2, i2 = sizes
    return parts_of(batch, K * i1 * o2 * (i2 + o1), team)


@inner
def room_for(kept: Kept, parts: int, sizes: Sizes) -> Room:
    K, o1, i1, o2, i2 = sizes
    side = lanes(kept.numbers)
    return Room(
        rooms_in(kept, parts, K * o1 * i1 * side),
        rooms_in(kept, parts, K * o2 * i2 * side),
        rooms_in(kept, parts, o1 * o2 * BESIDE),
        rooms_in(kept, parts, i1 * i2 * BESIDE),
        rooms_in(kept, parts, i1 * K * o2 * BESIDE),
        rooms_in(kept, parts, i1 * K * o2 * BESIDE),
    )


@inner
def sums_for(kept: Kept, parts: int, sizes: Sizes, out: int) -> Sums:
    K, o1, i1, o2, i2 = sizes
    return Sums(rooms_in(kept, parts, K * o1 * i1), rooms_in(kept, parts, K * o2 * i2), rooms_in(kept, parts, out))


@inner
def in_one_row(A: Array) -> Array:
    """A (K×o₁×i₁) as o₁ rows, with entry (p, k) of each at p K + k."""
    K, o1, i1 = A.shape
    rows = aligned_zeros(A.size, A)
    for k in range(K):
        for r in range(o1):
            for p in range(i1):
                rows[(r * i1 + p) * K + k] = A[k, r, p]
    return rows


@leaf
def by_terms(rows: Array, A: Array) -> None:
    """The way back."""
    K, o1, i1 = A.shape
    for k in range(K):
        for r in range(o1):
            for p in range(i1):
                A[k, r, p] = rows[(r * i1 + p) * K + k]
