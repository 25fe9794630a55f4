"""y = Σ_k (A_k ⊗ B_k) x for a batch of vectors, and its derivative, compiled: with A first, where that is less work.

BESIDE vectors lie side by side as in ``kronecker_pass``, whose steps serve in reverse. What its way back does to ∂Y is
the transpose of W, and

    Wᵀ = Σ_k A_kᵀ ⊗ B_kᵀ,

so with A and B turned X takes the place of ∂Y and Y that of ∂X, and on the way back ∂Y that of X and ∂X that of Y:

    Z_k = A_k X,           Y = Σ_k Z_k B_kᵀ,
    ∂Z_k = ∂Y B_k,         ∂X = Σ_k A_kᵀ ∂Z_k,     ∂A_kᵀ = Σ X ∂Z_kᵀ,     ∂B_kᵀ = Σ Z_kᵀ ∂Y.
"""

import numpy as np

from rankscope.addresses import at, at_or_zeros
from rankscope.compiled import Array, compiled, inner, leaf
from rankscope.rooms import add_up, kept_room, rooms_in
from rankscope.team import together
from rankscope.weights.beside import BESIDE, SOME, Places, Sizes, add_lanes, add_vectors, give, lay, share, take
from rankscope.weights.kronecker_pass import (
    Room,
    Sums,
    back_with_A,
    back_with_B,
    by_terms,
    in_one_row,
    match_A,
    match_B,
    parts_for,
    room_for,
    sums_for,
    with_A,
    with_B,
)


@compiled
def forward(like: Array, sizes: Sizes, batch: int, places: Places, team: int) -> int:
    """Y (batch×o₁o₂) for X (batch×i₁i₂), B (K×o₂×i₂) at p, A (K×o₁×i₁) at q and the bias."""
    K, o1, i1, o2, i2 = sizes
    x, p, q, b, y, _ = places
    kept, turned = kept_room(like), (K, i1, o1, i2, o2)
    X, B, A = at(x, (batch, i1 * i2), like), at(p, (K, o2, i2), like), at(q, (K, o1, i1), like)
    bias, Y, parts = at_or_zeros(b, o1 * o2, like), at(y, (batch, o1 * o2), like), parts_for(turned, batch, team)
    room = (
        rooms_in(kept, parts, i1 * i2 * BESIDE),
        rooms_in(kept, parts, o1 * o2 * BESIDE),
        rooms_in(kept, parts, o1 * K * i2 * BESIDE),
        rooms_in(kept, parts, SOME * BESIDE),
    )
    together(_forward, parts, team, (parts, X, *_sides(B, A), turned, bias, Y, room))
    return kept.taken[0]


@leaf
def _forward(
    part: int,
    parts: int,
    X: Array,
    B: Array,
    A: Array,
    turned: Sizes,
    bias: Array,
    Y: Array,
    room: tuple[Array, Array, Array, Array],
) -> None:
    xs, ys, z, few = room[0][part], room[1][part], room[2][part], room[3][part]
    for block in range(*share(part, parts, len(X))):
        begin = block * BESIDE
        lay(xs, X, begin, X.shape[1], 0)
        back_with_A(z, xs, A, turned)
        back_with_B(ys, z, B, turned)
        give(Y, begin, ys, bias, few)


@compiled
def backward(like: Array, sizes: Sizes, batch: int, places: Places, team: int) -> int:
    """The gradients of X, unless there is no room for it, B, A and the bias for ∂Y (batch×o₁o₂)."""
    K, o1, i1, o2, i2 = sizes
    dy, x, _, p, q, dx, dp, dq, db = places
    kept, turned = kept_room(like), (K, i1, o1, i2, o2)
    dY, X, B = at(dy, (batch, o1 * o2), like), at(x, (batch, i1 * i2), like), at(p, (K, o2, i2), like)
    A, dX = at(q, (K, o1, i1), like), at(dx, (batch if dx else 0, i1 * i2), like)
    parts = parts_for(turned, batch, team)
    room, sums = room_for(kept, parts, turned), sums_for(kept, parts, turned, o1 * o2)
    together(_backward, parts, team, (parts, dY, X, *_sides(B, A), turned, dX, sums, room))
    dA, dB = np.empty((1, A.size), like.dtype), np.empty((1, B.size), like.dtype)
    add_up(sums.A, A.size, dA)
    add_up(sums.B, B.size, dB)
    by_terms(dA[0], at(dq, (K, o1, i1), like).transpose(0, 2, 1))
    at(dp, (K, o2, i2), like)[:] = dB.reshape(K, i2, o2).transpose(0, 2, 1)
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
    turned: Sizes,
    dX: Array,
    sums: Sums,
    room: Room,
) -> None:
    dA, dB, bias = room.a[part], room.b[part], sums.bias[part]
    xs, ys, dz, z = room.y[part], room.x[part], room.z[part], room.dz[part]
    dA[:], dB[:], bias[:] = 0, 0, 0
    for block in range(*share(part, parts, len(X))):
        begin = block * BESIDE
        lay(xs, X, begin, X.shape[1], 0)
        lay(ys, dY, begin, dY.shape[1], 0)
        add_vectors(bias, dY, begin)
        with_B(dz, ys, B, turned)
        match_A(dA, xs, dz, turned)
        back_with_A(z, xs, A, turned)
        match_B(dB, z, ys, turned)
        if dX.size:
            with_A(xs, dz, A, turned)
            take(dX, begin, xs, X.shape[1], 0)
    add_lanes(dA, sums.A[part, : A.size])
    add_lanes(dB, sums.B[part, : B.size])


@inner
def _sides(B: Array, A: Array) -> tuple[Array, Array]:
    """Both turned, as the steps take them."""
    return _turned(B).reshape(B.size), in_one_row(_turned(A))


@inner
def _turned(parts: Array) -> Array:
    """Each of K matrices turned."""
    K, m, n = parts.shape
    turned = np.empty((K, n, m), parts.dtype)
    for k in range(K):
        for i in range(m):
            for j in range(n):
                turned[k, j, i] = parts[k, i, j]
    return turned
