"""y = Σ_k (A_k ⊗ B_k) x for a batch of vectors, and its derivative, compiled: one vector at a time, by rows.

Each x is a matrix X (i₁×i₂), and so is y (o₁×o₂):

    Z_k = X B_kᵀ,          Y = Σ_k A_k Z_k,
    ∂Z_k = A_kᵀ ∂Y,        ∂X = Σ_k ∂Z_k B_k,     ∂A_k = Σ ∂Y Z_kᵀ,     ∂B_k = Σ ∂Z_kᵀ X.

Where rows of X and of Y are whole vectors, and the parts stay in a cache, nothing has to be laid otherwise but B_kᵀ,
once, and Z_k. A row of Z holds o₂ numbers of every term.
"""

from typing import NamedTuple

from rankscope.addresses import at, at_or_zeros
from rankscope.compiled import Array, compiled, leaf
from rankscope.matrices import Matrix, add_product, copy, copy_sum, product, turn, whole
from rankscope.rooms import add_up, kept_room, rooms_in
from rankscope.team import together
from rankscope.weights.beside import Places, Sizes
from rankscope.weights.kronecker_pass import parts_for


class Room(NamedTuple):
    """What the way back needs for itself, a row for each part."""

    z: Array
    turned: Array
    dz: Array


@compiled
def forward(like: Array, sizes: Sizes, batch: int, places: Places, team: int) -> int:
    """Y (batch×o₁o₂) for X (batch×i₁i₂), B (K×o₂×i₂) at p, A (K×o₁×i₁) at q and the bias."""
    K, o1, i1, o2, i2 = sizes
    x, p, q, b, y, _ = places
    kept = kept_room(like)
    X, B, A = at(x, (batch * i1 * i2,), like), at(p, (K * o2 * i2,), like), at(q, (K * o1 * i1,), like)
    bias, Y, parts = at_or_zeros(b, o1 * o2, like), at(y, (batch * o1 * o2,), like), parts_for(sizes, batch, team)
    turned, room = rooms_in(kept, 1, K * o2 * i2)[0], rooms_in(kept, parts, i1 * K * o2)
    turn(Matrix(turned, 0, K * o2, 1), Matrix(B, 0, i2, 1), K * o2, i2)
    together(_forward, parts, team, (parts, batch, X, turned, A, sizes, bias, Y, room))
    return kept.taken[0]


@leaf
def _forward(
    part: int,
    parts: int,
    batch: int,
    X: Array,
    turned: Array,
    A: Array,
    sizes: Sizes,
    bias: Array,
    Y: Array,
    room: Array,
) -> None:
    K, o1, i1, o2, i2 = sizes
    z, row = room[part], K * o2
    for v in range(part * batch // parts, (part + 1) * batch // parts):
        y = Matrix(Y, v * o1 * o2, o2, 1)
        product(Matrix(z, 0, row, 1), Matrix(X, v * i1 * i2, i2, 1), Matrix(turned, 0, row, 1), i1, i2, row)
        copy(Matrix(Y, y.start, 0, 1), Matrix(bias, 0, 0, 1), 1, o1 * o2)
        for k in range(K):
            add_product(y, Matrix(A, k * o1 * i1, i1, 1), Matrix(z, k * o2, row, 1), o1, i1, o2)


@compiled
def backward(like: Array, sizes: Sizes, batch: int, places: Places, team: int) -> int:
    """The gradients of X, unless there is no room for it, B, A and the bias for ∂Y (batch×o₁o₂)."""
    K, o1, i1, o2, i2 = sizes
    dy, x, _, p, q, dx, dp, dq, db = places
    kept = kept_room(like)
    dY, X, u = at(dy, (batch * o1 * o2,), like), at(x, (batch * i1 * i2,), like), whole(i1, like)
    B, A, dX = at(p, (K * o2 * i2,), like), at(q, (K * o1 * i1,), like), at(dx, (X.size if dx else 0,), like)
    parts, turned = parts_for(sizes, batch, team), rooms_in(kept, 1, K * o2 * i2)[0]
    turn(Matrix(turned, 0, K * o2, 1), Matrix(B, 0, i2, 1), K * o2, i2)
    dAs, dBs = rooms_in(kept, parts, K * o1 * u), rooms_in(kept, parts, K * o2 * i2)
    dbs = rooms_in(kept, parts, o1 * o2)
    room = Room(rooms_in(kept, parts, i1 * K * o2), rooms_in(kept, parts, o2 * u), rooms_in(kept, parts, i1 * K * o2))
    together(_backward, parts, team, (parts, batch, dY, X, B, turned, A, sizes, dX, dAs, dBs, dbs, room))
    add_up(dAs, u, at(dq, (K * o1, i1), like))
    add_up(dBs, i2, at(dp, (K * o2, i2), like))
    add_up(dbs, o1 * o2, at(db, (1, o1 * o2), like))
    return kept.taken[0]


@leaf
def _backward(
    part: int,
    parts: int,
    batch: int,
    dY: Array,
    X: Array,
    B: Array,
    turned: Array,
    A: Array,
    sizes: Sizes,
    dX: Array,
    dAs: Array,
    dBs: Array,
    dbs: Array,
    room: Room,
) -> None:
    K, o1, i1, o2, i2 = sizes
    dA, dB, bias, row, u = dAs[part], dBs[part], dbs[part], K * o2, whole(i1, X)
    z, zt, dz = Matrix(room.z[part], 0, row, 1), Matrix(room.turned[part], 0, u, 1), Matrix(room.dz[part], 0, row, 1)
    dA[:], dB[:], bias[:], zt.entries[:], total = 0, 0, 0, 0, Matrix(bias, 0, 0, 1)
    for v in range(part * batch // parts, (part + 1) * batch // parts):
        x, dy = Matrix(X, v * i1 * i2, i2, 1), Matrix(dY, v * o1 * o2, o2, 1)
        copy_sum(total, total, Matrix(dY, dy.start, 0, 1), 1, o1 * o2)
        product(z, x, Matrix(turned, 0, row, 1), i1, i2, row)
        for k in range(K):
            product(Matrix(dz.entries, k * o2, row, 1), Matrix(A, k * o1 * i1, 1, i1), dy, i1, o1, o2)
            turn(zt, Matrix(z.entries, k * o2, row, 1), i1, o2)
            add_product(Matrix(dA, k * o1 * u, u, 1), dy, zt, o1, o2, u)
        add_product(Matrix(dB, 0, i2, 1), Matrix(dz.entries, 0, 1, row), x, row, i1, i2)
        if dX.size:
            product(Matrix(dX, x.start, i2, 1), dz, Matrix(B, 0, i2, 1), i1, row, i2)
