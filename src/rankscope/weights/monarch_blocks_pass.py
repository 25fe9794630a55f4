"""y = W x for W made of two block-diagonal matrices, and its derivative, compiled: blocks that are large.

The same as `monarch_pass`, where threads share the vectors and each goes through all of C and D for some of them at a
time. Here they share the blocks, and each takes all vectors to its own: its part of C and D stays in its cache, and so
do their gradients, which need not be added up. In exchange all threads wait for all of Z and of ∂Z.

m₁, n₁ and n₀R are of whole vectors, and there is work for every thread.
"""

from typing import NamedTuple

from rankscope.addresses import at, at_or_zeros
from rankscope.compiled import Array, compiled, leaf
from rankscope.matrices import Matrix, accumulate, copy, copy_sum, product, turn
from rankscope.rooms import kept_room, rooms_in
from rankscope.team import together
from rankscope.vectors import lanes
from rankscope.weights.beside import BESIDE, SOME, Places, Sizes, give, lay, take
from rankscope.weights.monarch_pass import apart_of, between, inputs_of


class Room(NamedTuple):
    """What the way back needs for itself, a row for each part."""

    x: Array
    y: Array
    few: Array
    turned: Array


@compiled
def forward(like: Array, sizes: Sizes, batch: int, places: Places, team: int) -> int:
    """Y (batch×n₀n₁) and Z for X (batch×m₀m₁), C (m₁×m₀×n₀×R) at p, D (n₀×R×m₁×n₁) at q and the bias."""
    m1, m0, n0, R, n1 = sizes
    x, p, q, b, y, z = places
    kept = kept_room(like)
    X, C, D = at(x, (batch, m0 * m1), like), at(p, (m1 * m0 * n0 * R,), like), at(q, (n0 * R * m1 * n1,), like)
    bias, Y, Z = at_or_zeros(b, n0 * n1, like), at(y, (batch, n0 * n1), like), between(z, sizes, batch, like)
    xs, ys = rooms_in(kept, team, m0 * apart_of(m1, like)), rooms_in(kept, team, n1 * BESIDE)
    few = rooms_in(kept, team, SOME * BESIDE)
    together(_forward_inputs, team, team, (team, X, C, sizes, Z, xs))
    together(_forward_outputs, team, team, (team, D, sizes, bias, Z, Y, ys, few))
    return kept.taken[0]


@leaf
def _forward_inputs(part: int, parts: int, X: Array, C: Array, sizes: Sizes, Z: Array, room: Array) -> None:
    """Z of some m₁."""
    m1, m0, n0, R, _ = sizes
    column, some = _columns_of(part, parts, m1, X)
    xs, u, inputs, apart = room[part], n0 * R, inputs_of(m0, m1, column, some, X), apart_of(m1, X)
    for block in range(len(Z)):
        z = Z[block]
        lay(xs, X, block * BESIDE, inputs)
        for a in range(some):
            to, rows = Matrix(z, (column + a) * BESIDE, apart, 1), Matrix(xs, a * BESIDE, inputs.apart, 1)
            product(to, Matrix(C, (column + a) * m0 * u, 1, u), rows, u, m0, BESIDE)


@leaf
def _forward_outputs(
    part: int,
    parts: int,
    D: Array,
    sizes: Sizes,
    bias: Array,
    Z: Array,
    Y: Array,
    room: Array,
    few: Array,
) -> None:
    """Y of some n₀."""
    m1, _, n0, R, n1 = sizes
    ys, apart = Matrix(room[part], 0, BESIDE, 1), apart_of(m1, Y)
    for block in range(len(Z)):
        z = Z[block]
        for n in range(part * n0 // parts, (part + 1) * n0 // parts):
            for q in range(n * R, (n + 1) * R):
                rows = Matrix(z, q * apart, BESIDE, 1)
                accumulate(ys, Matrix(D, q * m1 * n1, 1, n1), rows, n1, m1, BESIDE, q > n * R)
            give(Y, block * BESIDE, ys.entries, n * n1, n1, bias, few[part])


@compiled
def backward(like: Array, sizes: Sizes, batch: int, places: Places, team: int) -> int:
    """The gradients of X, unless there is no room for it, C, D and the bias for ∂Y (batch×n₀n₁)."""
    m1, m0, n0, R, n1 = sizes
    dy, x, z, p, q, dx, dp, dq, db = places
    kept = kept_room(like)
    dY, X, Z = at(dy, (batch, n0 * n1), like), at(x, (batch, m0 * m1), like), between(z, sizes, batch, like)
    C, D, bias = at(p, (m1 * m0 * n0 * R,), like), at(q, (n0 * R * m1 * n1,), like), at(db, (n0 * n1,), like)
    dX, dC, dD = at(dx, (batch if dx else 0, m0 * m1), like), at(dp, (C.size,), like), at(dq, (D.size,), like)
    dZ = rooms_in(kept, len(Z), n0 * R * apart_of(m1, like))
    room = Room(
        rooms_in(kept, team, m0 * apart_of(m1, like)),
        rooms_in(kept, team, n1 * BESIDE),
        rooms_in(kept, team, BESIDE * n1),
        rooms_in(kept, team, BESIDE * n0 * R),
    )
    together(_backward_outputs, team, team, (team, dY, Z, D, sizes, dZ, dD, bias, room))
    together(_backward_inputs, team, team, (team, X, dZ, C, sizes, dC, dX, room))
    return kept.taken[0]


@leaf
def _backward_outputs(
    part: int,
    parts: int,
    dY: Array,
    Z: Array,
    D: Array,
    sizes: Sizes,
    dZ: Array,
    dD: Array,
    bias: Array,
    room: Room,
) -> None:
    """∂Z, ∂D and ∂b of some n₀."""
    m1, _, n0, R, n1 = sizes
    o, apart, dy = n0 * n1, apart_of(m1, dY), dY.reshape(dY.size)
    ys, few = Matrix(room.y[part], 0, BESIDE, 1), Matrix(room.few[part], 0, n1, 1)
    for n in range(part * n0 // parts, (part + 1) * n0 // parts):
        total = Matrix(bias, n * n1, 0, 1)
        bias[n * n1 : (n + 1) * n1] = 0
        for block in range(len(Z)):
            z, dz, begin = Z[block], dZ[block], block * BESIDE
            many = min(BESIDE, len(dY) - begin)
            copy(few, Matrix(dy, begin * o + n * n1, o, 1), many, n1)
            turn(ys, few, BESIDE, n1)
            copy_sum(total, total, few, many, n1)
            for q in range(n * R, (n + 1) * R):
                to, rows = Matrix(dz, q * apart, BESIDE, 1), Matrix(z, q * apart, BESIDE, 1)
                product(to, Matrix(D, q * m1 * n1, n1, 1), ys, m1, n1, BESIDE)
                accumulate(Matrix(dD, q * m1 * n1, n1, 1), rows, few, m1, many, n1, block > 0)


@leaf
def _backward_inputs(
    part: int,
    parts: int,
    X: Array,
    dZ: Array,
    C: Array,
    sizes: Sizes,
    dC: Array,
    dX: Array,
    room: Room,
) -> None:
    """∂X and ∂C of some m₁."""
    m1, m0, n0, R, _ = sizes
    column, some = _columns_of(part, parts, m1, X)
    xs, u, inputs, apart = room.x[part], n0 * R, inputs_of(m0, m1, column, some, X), apart_of(m1, X)
    turned = Matrix(room.turned[part], 0, u, 1)
    for block in range(len(dZ)):
        dz, begin = dZ[block], block * BESIDE
        lay(xs, X, begin, inputs)
        for a in range(some):
            here, rows = Matrix(xs, a * BESIDE, inputs.apart, 1), Matrix(dz, (column + a) * BESIDE, apart, 1)
            turn(turned, rows, u, BESIDE)
            place = (column + a) * m0 * u
            many = min(BESIDE, len(X) - begin)
            accumulate(Matrix(dC, place, u, 1), here, turned, m0, many, u, block > 0)
            if dX.size:  # In the place of X's rows.
                product(here, Matrix(C, place, u, 1), rows, m0, u, BESIDE)
        if dX.size:
            take(dX, begin, xs, inputs)


@leaf
def _columns_of(part: int, parts: int, m1: int, like: Array) -> tuple[int, int]:
    """The first m₁ of a part, at a whole vector, and how many it has."""
    width = lanes(like)
    first, after = part * (m1 // width) // parts * width, (part + 1) * (m1 // width) // parts * width
    return first, after - first
