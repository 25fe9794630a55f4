"""y = Σ_k (A_k ⊗ B_k) x for a batch of vectors, and its derivative, compiled: some vectors at a time, in a cache.

Each x is a matrix X (i₁×i₂), and so is y (o₁×o₂):

    Z_k = X B_kᵀ,          Y = Σ_k A_k Z_k,
    ∂Z_k = A_kᵀ ∂Y,        ∂X = Σ_k ∂Z_k B_k,     ∂A_k = Σ ∂Y Z_kᵀ,     ∂B_k = Σ ∂Z_kᵀ X.

What lies between, Z and Y, has the rows of these matrices outside, then the vectors of the batch, then what is in a
row: so the products with A are one each for all vectors, and those with B one for each row.
"""

from typing import NamedTuple

import numpy as np

from rankscope.addresses import at, at_or_zeros
from rankscope.compiled import Array, Index, compiled, inner, leaf
from rankscope.matrices import Matrix, add_product, copy, copy_sum, turn, whole, whole_of
from rankscope.team import together
from rankscope.vectors import add_up, aligned_zeros, rooms
from rankscope.weights.linear_pass import dense_backward, dense_forward
from rankscope.weights.products import parts_of

Shape = tuple[int, int, int]
Sizes = tuple[int, int, int, int, int]
"""K, o₁, i₁, o₂ and i₂."""


class Room(NamedTuple):
    """What the way back needs for itself, a row for each part."""

    y: Array
    turned: Array
    dz: Array
    rows: Array
    dx: Array


NEAR = 2**15
"""Numbers of Y and Z that are taken at a time."""


def made(batch: int, sizes: Sizes, itemsize: int) -> tuple[tuple[int, int], int]:
    """The shape of Y, and how many numbers Z has."""
    K, o1, i1, o2, _ = sizes
    return (batch, o1 * o2), batch * i1 * K * whole_of(o2, itemsize)


def made_formed(batch: int, sizes: Sizes, itemsize: int) -> tuple[tuple[int, int], int]:
    """The same where W lies between."""
    _, o1, i1, o2, i2 = sizes
    return (batch, o1 * o2), o1 * o2 * i1 * i2


@compiled
def forward(like: Array, sizes: Sizes, batch: int, x: int, p: int, q: int, b: int, y: int, z: int, team: int) -> None:
    """Y (batch×o₁o₂) and Z for X (batch×i₁i₂), B (K×o₂×i₂) at p, A (K×o₁×i₁) at q and the bias."""
    K, o1, i1, o2, i2 = sizes
    w = whole(o2, like)
    X, B, A = at(x, (batch, i1 * i2), like), at(p, (K, o2, i2), like), at(q, (K, o1, i1), like)
    bias, Y, Z = at_or_zeros(b, o1 * o2, like), at(y, (batch, o1 * o2), like), at(z, (batch * i1 * K * w,), like)
    right = aligned_zeros(K * i2 * w, X)
    for k in range(K):
        turn(Matrix(right, k * i2 * w, w, 1), Matrix(B.reshape(B.size), k * o2 * i2, i2, 1), o2, i2)
    parts = _parts(X, B, A, team)
    y = rooms(parts, A.shape[1] * _block(len(X), A.shape, w) * w, X)
    together(_forward, parts, team, (parts, X, right, _in_one_row(A), A.shape, o2, bias, Z, Y, y))


@leaf
def _forward(
    part: int,
    parts: int,
    X: Array,
    right: Array,
    left: Array,
    shape: Shape,
    o2: int,
    bias: Array,
    z: Array,
    Y: Array,
    room: Array,
) -> None:
    K, o1, i1 = shape
    w, i2 = whole(o2, X), X.shape[1] // i1
    x, y, out, block = X.reshape(X.size), room[part], Y.reshape(Y.size), _block(len(X), shape, w)
    for begin in range(*_blocks(part, parts, len(X), block), block):
        many = min(block, len(X) - begin)
        at, beside = begin * i1 * K * w, many * w
        z[at : at + i1 * K * beside] = 0
        number, length, x_step, x_row, z_step, z_row = _shorter(many, shape, i2, w)
        for i in range(number):
            rows = Matrix(x, begin * i1 * i2 + i * x_step, x_row, 1)
            for k in range(K):
                to = Matrix(z, at + i * z_step + k * beside, z_row, 1)
                add_product(to, rows, Matrix(right, k * i2 * w, w, 1), length, i2, w)
        y[:] = 0
        inner = Matrix(z, at, beside, 1)
        add_product(Matrix(y, 0, beside, 1), Matrix(left, 0, i1 * K, 1), inner, o1, i1 * K, beside)
        for r in range(o1):
            to = Matrix(out, begin * o1 * o2 + r * o2, o1 * o2, 1)
            copy_sum(to, Matrix(y, r * beside, w, 1), Matrix(bias, r * o2, 0, 1), many, o2)


@compiled
def backward(
    like: Array,
    sizes: Sizes,
    batch: int,
    dy: int,
    x: int,
    z: int,
    p: int,
    q: int,
    dx: int,
    dp: int,
    dq: int,
    db: int,
    team: int,
) -> None:
    """The gradients of X, unless there is no room for it, B, A and the bias for ∂Y (batch×o₁o₂)."""
    K, o1, i1, o2, i2 = sizes
    w, v, u = whole(o2, like), whole(i2, like), whole(i1 * K, like)
    dY, X, Z = at(dy, (batch, o1 * o2), like), at(x, (batch, i1 * i2), like), at(z, (batch * i1 * K * w,), like)
    B, A = at(p, (K, o2, i2), like), at(q, (K, o1, i1), like)
    dX = at(dx, (batch if dx else 0, i1 * i2), like)
    right = aligned_zeros(K * o2 * v, X)
    copy(Matrix(right, 0, v, 1), Matrix(B.reshape(B.size), 0, i2, 1), K * o2, i2)
    parts, block = _parts(X, B, A, team), _block(len(X), A.shape, w)
    dAs, dBs, dbs = rooms(parts, o1 * u, X), rooms(parts, K * o2 * v, X), rooms(parts, o1 * o2, X)
    room = Room(
        rooms(parts, o1 * block * w, X),
        rooms(parts, block * w * u, X),
        rooms(parts, i1 * K * block * w, X),
        rooms(parts, max(block, i1) * v, X),
        rooms(parts, max(block, i1) * v, X),
    )
    together(_backward, parts, team, (parts, dY, X, Z, right, _in_one_row(A), A.shape, dX, dAs, dBs, dbs, room))
    rows = np.empty((o1, u), X.dtype)
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
    right: Array,
    left: Array,
    shape: Shape,
    dX: Array,
    dAs: Array,
    dBs: Array,
    dbs: Array,
    room: Room,
) -> None:
    K, o1, i1 = shape
    o2, i2 = dY.shape[1] // o1, X.shape[1] // i1
    w, v, u = whole(o2, X), whole(i2, X), whole(i1 * K, X)
    x, dy, block = X.reshape(X.size), dY.reshape(dY.size), _block(len(X), shape, w)
    y, turned, dz, rows, dx = room.y[part], room.turned[part], room.dz[part], room.rows[part], room.dx[part]
    dA, dB, bias, out = dAs[part], dBs[part], dbs[part], dX.reshape(dX.size)
    dA[:], dB[:], bias[:] = 0, 0, 0
    if w > o2 or v > i2:  # What lies beyond the rows is multiplied too.
        y[:], rows[:] = 0, 0
    for begin in range(*_blocks(part, parts, len(X), block), block):
        many = min(block, len(X) - begin)
        beside = many * w
        for r in range(o1):
            here = Matrix(dy, begin * o1 * o2 + r * o2, o1 * o2, 1)
            copy(Matrix(y, r * beside, w, 1), here, many, o2)
        for e in range(begin, begin + many):
            copy_sum(Matrix(bias, 0, 0, 1), Matrix(bias, 0, 0, 1), Matrix(dy, e * o1 * o2, 0, 1), 1, o1 * o2)
        outer = Matrix(y, 0, beside, 1)
        turn(Matrix(turned, 0, u, 1), Matrix(Z, begin * i1 * K * w, beside, 1), i1 * K, beside)
        add_product(Matrix(dA, 0, u, 1), outer, Matrix(turned, 0, u, 1), o1, beside, u)
        dz[:] = 0
        add_product(Matrix(dz, 0, beside, 1), Matrix(left, 0, 1, i1 * K), outer, i1 * K, o1, beside)
        number, length, x_step, x_row, z_step, z_row = _shorter(many, shape, i2, w)
        for i in range(number):
            place = begin * i1 * i2 + i * x_step
            copy(Matrix(rows, 0, v, 1), Matrix(x, place, x_row, 1), length, i2)
            dx[:] = 0
            for k in range(K):
                here, there = i * z_step + k * beside, k * o2 * v
                add_product(Matrix(dB, there, v, 1), Matrix(dz, here, 1, z_row), Matrix(rows, 0, v, 1), o2, length, v)
                if dX.size:
                    to = Matrix(dx, 0, v, 1)
                    add_product(to, Matrix(dz, here, z_row, 1), Matrix(right, there, v, 1), length, o2, v)
            if dX.size:
                copy(Matrix(out, place, x_row, 1), Matrix(dx, 0, v, 1), length, i2)


@leaf
def _parts(X: Array, B: Array, A: Array, team: int) -> int:
    (K, o1, i1), (_, o2, i2) = A.shape, B.shape
    blocks = -(-len(X) // _block(len(X), A.shape, whole(o2, X)))
    return min(parts_of(len(X), K * i1 * o2 * (i2 + o1), team), blocks)


@leaf
def _blocks(part: int, parts: int, batch: int, block: int) -> tuple[int, int]:
    """Where the blocks of a part begin and end."""
    count = -(-batch // block)
    return part * count // parts * block, min((part + 1) * count // parts * block, batch)


@leaf
def _block(batch: int, shape: Shape, w: int) -> int:
    """How many vectors are taken at a time: all, or so many that two or four threads get equally many blocks."""
    K, o1, i1 = shape
    blocks = -(-batch // max(4, NEAR // ((o1 + K * i1) * w)))
    return -(-batch // (blocks if blocks == 1 else (blocks + 3) // 4 * 4))


@leaf
def _shorter(many: int, shape: Shape, i2: int, w: int) -> tuple[int, int, int, int, int, int]:
    """The rows of X and Z, of so many vectors: those of each vector, or of all vectors those in one place of theirs.

    Fewer of the two: how many they are and how long, how far apart they lie in X and how far their rows, and in Z.
    """
    K, _, i1 = shape
    if many < i1:
        return many, i1, i1 * i2, i2, w, K * many * w
    return i1, many, i2, i1 * i2, K * many * w, w


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


@compiled
def formed_forward(
    like: Array, sizes: Sizes, batch: int, x: int, p: int, q: int, b: int, y: int, w: int, team: int
) -> None:
    """Y ← X Wᵀ + b, and W."""
    K, o1, i1, o2, i2 = sizes
    o, i = o1 * o2, i1 * i2
    W = at(w, (o, i), like)
    _form(at(p, (K, o2, i2), like), at(q, (K, o1, i1), like), W)
    dense_forward(at(x, (batch, i), like), W, at_or_zeros(b, o, like), at(y, (batch, o), like), team)


@compiled
def formed_backward(
    like: Array,
    sizes: Sizes,
    batch: int,
    dy: int,
    x: int,
    w: int,
    p: int,
    q: int,
    dx: int,
    dp: int,
    dq: int,
    db: int,
    team: int,
) -> None:
    """The gradients of X, unless there is no room for it, B, A and b."""
    K, o1, i1, o2, i2 = sizes
    o, i = o1 * o2, i1 * i2
    X, dX = at(x, (batch, i), like), at(dx, (batch if dx else 0, i), like)
    dW = np.empty((o, i), like.dtype)
    dense_backward(at(dy, (batch, o), like), X, at(w, (o, i), like), dX, dW, at(db, (o,), like), team)
    B, A, dB, dA = at(p, (K, o2, i2), like), at(q, (K, o1, i1), like), at(dp, (K, o2, i2), like), at(dq, (K, o1, i1), like)
    _take_apart(dW, B, A, dB, dA)


@leaf
def _form(B: Array, A: Array, W: Array) -> None:
    """W = Σ_k A_k ⊗ B_k."""
    (K, o1, i1), (_, o2, i2) = A.shape, B.shape
    W[:] = 0
    w, b = W.reshape(W.size), B.reshape(B.size)
    for k in range(K):
        for r in range(o1):
            for s in range(o2):
                for p in range(i1):
                    to, frm = Index((r * o2 + s) * i1 * i2 + p * i2), Index((k * o2 + s) * i2)
                    for q in range(Index(i2)):
                        w[to + q] += A[k, r, p] * b[frm + q]


@leaf
def _take_apart(dW: Array, B: Array, A: Array, dB: Array, dA: Array) -> None:
    """The gradients of B and A for that of W."""
    (K, o1, i1), (_, o2, i2) = A.shape, B.shape
    dB[:], dA[:] = 0, 0
    w, b, db = dW.reshape(dW.size), B.reshape(B.size), dB.reshape(dB.size)
    for k in range(K):
        for r in range(o1):
            for s in range(o2):
                for p in range(i1):
                    at, frm = Index((r * o2 + s) * i1 * i2 + p * i2), Index((k * o2 + s) * i2)
                    total = A.dtype.type(0)
                    for q in range(Index(i2)):
                        total += w[at + q] * b[frm + q]
                        db[frm + q] += A[k, r, p] * w[at + q]
                    dA[k, r, p] += total
