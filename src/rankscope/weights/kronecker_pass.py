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
from rankscope.matrices import Matrix, add_product, copy, product, turn, whole, whole_of
from rankscope.team import together
from rankscope.vectors import add_up, aligned_zeros, rooms
from rankscope.weights.beside import (
    BESIDE,
    Places,
    Sizes,
    add_vectors,
    begin_with,
    blocks_of,
    lay,
    parts_of,
    share,
    take,
)

KEPT = 32
"""Numbers in a row of B, from which on it takes longer to compute Z again than to keep it."""


class Room(NamedTuple):
    """What the way back needs for itself, a row for each part."""

    y: Array
    turned: Array
    dz: Array
    dx: Array
    last: Array
    z: Array


def made(batch: int, sizes: Sizes, itemsize: int) -> tuple[tuple[int, int], int]:
    """The shape of Y, and how many numbers Z has if it is kept."""
    K, o1, i1, o2, i2 = sizes
    blocks = blocks_of(batch) if i2 >= KEPT else 0
    return (batch, o1 * o2), blocks * whole_of(i1 * K, itemsize) * o2 * BESIDE


@compiled
def forward(like: Array, sizes: Sizes, batch: int, places: Places, team: int) -> None:
    """Y (batch×o₁o₂) and Z for X (batch×i₁i₂), B (K×o₂×i₂) at p, A (K×o₁×i₁) at q and the bias."""
    K, o1, i1, o2, i2 = sizes
    x, p, q, b, y, z = places
    X, B, A = at(x, (batch, i1 * i2), like), at(p, (K * o2 * i2,), like), at(q, (K, o1, i1), like)
    bias, Y, Z = at_or_zeros(b, o1 * o2, like), at(y, (batch, o1 * o2), like), _between(z, sizes, batch, like)
    parts = parts_of(batch, _each(sizes), team)
    room = rooms(parts, i1 * i2 * BESIDE, X), rooms(parts, o1 * o2 * BESIDE, X), rooms(parts, Z.shape[1], X)
    together(_forward, parts, team, (parts, X, B, _in_one_row(A), sizes, bias, Z, Y, room))


@leaf
def _forward(
    part: int,
    parts: int,
    X: Array,
    B: Array,
    A: Array,
    sizes: Sizes,
    bias: Array,
    Z: Array,
    Y: Array,
    room: tuple[Array, Array, Array],
) -> None:
    K, o1, i1, o2, _ = sizes
    xs, ys, row = room[0][part], room[1][part], o2 * BESIDE
    for block in range(*share(part, parts, len(X))):
        z, begin = Z[block] if len(Z) else room[2][part], block * BESIDE
        lay(xs, X, begin)
        _inner(z, xs, B, sizes)
        begin_with(ys, bias)
        add_product(Matrix(ys, 0, row, 1), Matrix(A, 0, i1 * K, 1), Matrix(z, 0, row, 1), o1, i1 * K, row)
        take(Y, begin, ys)


@leaf
def _inner(z: Array, xs: Array, B: Array, sizes: Sizes) -> None:
    """Z of a block, and zeros in the rows to spare."""
    K, _, i1, o2, i2 = sizes
    for p in range(i1):
        to, rows = Matrix(z, p * K * o2 * BESIDE, BESIDE, 1), Matrix(xs, p * i2 * BESIDE, BESIDE, 1)
        product(to, Matrix(B, 0, i2, 1), rows, K * o2, i2, BESIDE)
    z[i1 * K * o2 * BESIDE :] = 0


@compiled
def backward(like: Array, sizes: Sizes, batch: int, places: Places, team: int) -> None:
    """The gradients of X, unless there is no room for it, B, A and the bias for ∂Y (batch×o₁o₂)."""
    K, o1, i1, o2, i2 = sizes
    dy, x, z, p, q, dx, dp, dq, db = places
    dY, X, Z = at(dy, (batch, o1 * o2), like), at(x, (batch, i1 * i2), like), _between(z, sizes, batch, like)
    B, A, dX = at(p, (K * o2 * i2,), like), at(q, (K, o1, i1), like), at(dx, (batch if dx else 0, i1 * i2), like)
    row, u, v = o2 * BESIDE, whole(i1 * K, like), whole(i2, like)
    parts = parts_of(batch, _each(sizes), team)
    dAs, dBs, dbs = rooms(parts, o1 * u, X), rooms(parts, K * o2 * v, X), rooms(parts, o1 * o2, X)
    room = Room(
        rooms(parts, o1 * row, X),
        rooms(parts, row * u, X),
        rooms(parts, i1 * K * row, X),
        rooms(parts, i1 * i2 * BESIDE, X),
        rooms(parts, BESIDE * i1 * i2 + v, X),
        rooms(parts, Z.shape[1], X),
    )
    together(_backward, parts, team, (parts, dY, X, Z, B, _in_one_row(A), sizes, dX, dAs, dBs, dbs, room))
    rows = np.empty((o1, u), like.dtype)
    add_up(dAs, u, rows)
    _by_terms(rows, at(dq, (K, o1, i1), like))
    add_up(dBs, v, at(dp, (K * o2, i2), like))
    add_up(dbs, o1 * o2, at(db, (1, o1 * o2), like))


@leaf
def _backward(
    part: int,
    parts: int,
    dY: Array,
    X: Array,
    Z: Array,
    B: Array,
    A: Array,
    sizes: Sizes,
    dX: Array,
    dAs: Array,
    dBs: Array,
    dbs: Array,
    room: Room,
) -> None:
    K, o1, i1, o2, i2 = sizes
    row, u, v, i = o2 * BESIDE, whole(i1 * K, X), whole(i2, X), i1 * i2
    dA, dB, bias = dAs[part], dBs[part], dbs[part]
    ys, turned, dz, dx, last = room.y[part], room.turned[part], room.dz[part], room.dx[part], room.last[part]
    dA[:], dB[:], bias[:], x = 0, 0, 0, X.reshape(X.size)
    for block in range(*share(part, parts, len(X))):
        begin = block * BESIDE
        many = min(BESIDE, len(X) - begin)
        lay(ys, dY, begin)
        add_vectors(bias, dY, begin)
        outer, z = Matrix(ys, 0, row, 1), Z[block] if len(Z) else room.z[part]
        if not len(Z):
            lay(dx, X, begin)
            _inner(z, dx, B, sizes)
        turn(Matrix(turned, 0, u, 1), Matrix(z, 0, row, 1), u, row)
        add_product(Matrix(dA, 0, u, 1), outer, Matrix(turned, 0, u, 1), o1, row, u)
        product(Matrix(dz, 0, row, 1), Matrix(A, 0, 1, i1 * K), outer, i1 * K, o1, row)
        given, start = x, begin * i
        if begin + many == len(X):  # Rows are read beyond their ends.
            copy(Matrix(last, 0, i, 1), Matrix(x, start, i, 1), many, i)
            given, start = last, 0
        for p in range(i1):
            inner = Matrix(dz, p * K * row, BESIDE, 1)
            add_product(Matrix(dB, 0, v, 1), inner, Matrix(given, start + p * i2, i, 1), K * o2, many, v)
            if dX.size:
                product(Matrix(dx, p * i2 * BESIDE, BESIDE, 1), Matrix(B, 0, 1, i2), inner, i2, K * o2, BESIDE)
        if dX.size:
            take(dX, begin, dx)


@leaf
def _each(sizes: Sizes) -> int:
    """Multiply-adds for each vector, forward."""
    K, o1, i1, o2, i2 = sizes
    return K * i1 * o2 * (i2 + o1)


@inner
def _between(z: int, sizes: Sizes, batch: int, like: Array) -> Array:
    """Z, a row for each block if it is kept, with rows to spare for whole vectors of them."""
    K, _, i1, o2, i2 = sizes
    return at(z, (-(-batch // BESIDE) if i2 >= KEPT else 0, whole(i1 * K, like) * o2 * BESIDE), like)


@inner
def _in_one_row(A: Array) -> Array:
    """A (K×o₁×i₁) as o₁ rows, with entry (p, k) of each at p K + k."""
    K, o1, i1 = A.shape
    rows = aligned_zeros(A.size, A)
    for k in range(K):
        for r in range(o1):
            for p in range(i1):
                rows[(r * i1 + p) * K + k] = A[k, r, p]
    return rows


@leaf
def _by_terms(rows: Array, A: Array) -> None:
    """The way back."""
    K, _, i1 = A.shape
    for k in range(K):
        for r in range(len(rows)):
            for p in range(i1):
                A[k, r, p] = rows[r, p * K + k]
