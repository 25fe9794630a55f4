"""y = U Vᵀ x for a batch of vectors, and its derivative, compiled: BESIDE vectors at a time, side by side.

    z = Vᵀ x,          y = U z,
    ∂z = Uᵀ ∂y,        ∂x = V ∂z,        ∂U = Σ ∂y zᵀ,        ∂V = Σ x ∂zᵀ.
"""

from typing import NamedTuple

from rankscope.addresses import at, at_or_zeros
from rankscope.compiled import Array, compiled, inner, leaf
from rankscope.matrices import Matrix, add_product, product, turn, whole, whole_of
from rankscope.team import together
from rankscope.vectors import add_up, rooms
from rankscope.weights.beside import BESIDE, add_vectors, begin_with, blocks_of, lay, parts_of, share, take

Sizes = tuple[int, int, int]
"""out, in and r."""


class Room(NamedTuple):
    """What the way back needs for itself, a row for each part."""

    y: Array
    x: Array
    dz: Array
    turned: Array
    dx: Array


def made(batch: int, sizes: Sizes, itemsize: int) -> tuple[tuple[int, int], int]:
    """The shape of Y, and how many numbers Z has."""
    out, _, r = sizes
    return (batch, out), blocks_of(batch) * whole_of(r, itemsize) * BESIDE


@compiled
def forward(like: Array, sizes: Sizes, batch: int, x: int, p: int, q: int, b: int, y: int, z: int, team: int) -> None:
    """Y (batch×out) and Z for X (batch×in), V (in×r) at p, U (out×r) at q and the bias."""
    o, i, r = sizes
    X, V, U = at(x, (batch, i), like), at(p, (i * r,), like), at(q, (o * r,), like)
    bias, Y, Z = at_or_zeros(b, o, like), at(y, (batch, o), like), _between(z, sizes, batch, like)
    parts = parts_of(batch, r * (i + o), team)
    room = rooms(parts, i * BESIDE, X), rooms(parts, o * BESIDE, X)
    together(_forward, parts, team, (parts, X, V, U, sizes, bias, Z, Y, room))


@leaf
def _forward(
    part: int,
    parts: int,
    X: Array,
    V: Array,
    U: Array,
    sizes: Sizes,
    bias: Array,
    Z: Array,
    Y: Array,
    room: tuple[Array, Array],
) -> None:
    o, i, r = sizes
    xs, ys = room[0][part], room[1][part]
    for block in range(*share(part, parts, len(X))):
        between = Matrix(Z[block], 0, BESIDE, 1)
        lay(xs, X, block * BESIDE)
        product(between, Matrix(V, 0, 1, r), Matrix(xs, 0, BESIDE, 1), r, i, BESIDE)
        begin_with(ys, bias)
        add_product(Matrix(ys, 0, BESIDE, 1), Matrix(U, 0, r, 1), between, o, r, BESIDE)
        take(Y, block * BESIDE, ys)


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
    """The gradients of X, unless there is no room for it, V, U and the bias for ∂Y (batch×out)."""
    o, i, r = sizes
    dY, X, Z = at(dy, (batch, o), like), at(x, (batch, i), like), _between(z, sizes, batch, like)
    V, U, dX, u = at(p, (i * r,), like), at(q, (o * r,), like), at(dx, (batch if dx else 0, i), like), whole(r, like)
    parts = parts_of(batch, r * (i + o), team)
    dVs, dUs, dbs = rooms(parts, i * u, X), rooms(parts, o * u, X), rooms(parts, o, X)
    room = Room(
        rooms(parts, o * BESIDE, X),
        rooms(parts, i * BESIDE, X),
        rooms(parts, u * BESIDE, X),
        rooms(parts, u * BESIDE, X),
        rooms(parts, i * BESIDE, X),
    )
    together(_backward, parts, team, (parts, dY, X, Z, V, U, sizes, dX, dVs, dUs, dbs, room))
    add_up(dVs, u, at(dp, (i, r), like))
    add_up(dUs, u, at(dq, (o, r), like))
    add_up(dbs, o, at(db, (1, o), like))


@leaf
def _backward(
    part: int,
    parts: int,
    dY: Array,
    X: Array,
    Z: Array,
    V: Array,
    U: Array,
    sizes: Sizes,
    dX: Array,
    dVs: Array,
    dUs: Array,
    dbs: Array,
    room: Room,
) -> None:
    o, i, r = sizes
    u, dV, dU, bias = whole(r, X), dVs[part], dUs[part], dbs[part]
    ys, xs, dz, turned, dx = room.y[part], room.x[part], room.dz[part], room.turned[part], room.dx[part]
    dV[:], dU[:], bias[:], dz[:] = 0, 0, 0, 0
    outer, given, between = Matrix(ys, 0, BESIDE, 1), Matrix(xs, 0, BESIDE, 1), Matrix(dz, 0, BESIDE, 1)
    rows = Matrix(turned, 0, u, 1)
    for block in range(*share(part, parts, len(X))):
        begin = block * BESIDE
        many = min(BESIDE, len(X) - begin)
        lay(ys, dY, begin)
        lay(xs, X, begin)
        add_vectors(bias, dY, begin)
        turn(rows, Matrix(Z[block], 0, BESIDE, 1), u, BESIDE)
        add_product(Matrix(dU, 0, u, 1), outer, rows, o, many, u)
        product(between, Matrix(U, 0, 1, r), outer, r, o, BESIDE)
        turn(rows, between, u, BESIDE)
        add_product(Matrix(dV, 0, u, 1), given, rows, i, many, u)
        if dX.size:
            product(Matrix(dx, 0, BESIDE, 1), Matrix(V, 0, r, 1), between, i, r, BESIDE)
            take(dX, begin, dx)


@inner
def _between(z: int, sizes: Sizes, batch: int, like: Array) -> Array:
    """Z, a row for each block, with entries to spare for whole vectors of them."""
    return at(z, (-(-batch // BESIDE), whole(sizes[2], like) * BESIDE), like)
