"""y = W x for W made of two block-diagonal matrices, and its derivative, compiled: blocks that are large.

The same as `monarch_pass`, where BESIDE vectors lie side by side. Here m₁ fills registers, C[m₁] and X[m₁] among them,
and what belongs to different m₁ is multiplied register by register (`tiles`):

    Z_bq = Σ_k X_bk ∘ C_kq,     ∂X_bk = Σ_q ∂Z_bq ∘ C_kq,     ∂C_kq = Σ_b X_bk ∘ ∂Z_bq,

for vector b, k < m₀ and q < n₀R. So it is the parameters that are turned, and no vector: X, Y and their gradients are
read and written as they lie, a few rows from end to end at a time. Threads share what each step is for: vectors for Z
and ∂X, n₀ for Y, ∂Z and ∂D, and m₀ and m₁ for ∂C. So no gradient is added up.

m₁, n₁ and n₀R are of whole vectors.
"""

from typing import NamedTuple

from rankscope.addresses import at, at_or_zeros
from rankscope.compiled import Array, compiled, leaf
from rankscope.matrices import Matrix, copy, copy_sum, turn
from rankscope.rooms import kept_room, rooms_in
from rankscope.rows import ROWS
from rankscope.team import together
from rankscope.vectors import lanes
from rankscope.weights.beside import Places, Sizes
from rankscope.weights.tiles import (
    Runs,
    lay_group,
    lay_tile,
    multiply_lanes,
    multiply_runs,
    place_of_tile,
    tiles_of,
)

MANY = 64
"""Vectors of which X is laid at a time for ∂C: with ROWS of k they stay in the first cache level."""


class Room(NamedTuple):
    """What the way back needs for itself, a row for each part."""

    x: Array
    y: Array
    D: Array
    C: Array


def made(batch: int, sizes: Sizes, itemsize: int) -> tuple[tuple[int, int], int]:
    """The shape of Y, and how many numbers Z has, and C after it as it is multiplied."""
    m1, m0, n0, R, n1 = sizes
    return (batch, n0 * n1), m1 * n0 * R * (-(-batch // ROWS) * ROWS + m0)


@leaf
def _all_of_z(sizes: Sizes, batch: int) -> int:
    """The same, of Z alone."""
    m1, _, n0, R, _ = sizes
    return m1 * n0 * R * tiles_of(batch) * ROWS


@compiled
def forward(like: Array, sizes: Sizes, batch: int, places: Places, team: int) -> int:
    """Y (batch×n₀n₁) and Z for X (batch×m₀m₁), C (m₁×m₀×n₀×R) at p, D (n₀×R×m₁×n₁) at q and the bias."""
    m1, m0, n0, R, n1 = sizes
    x, p, q, b, y, z = places
    kept = kept_room(like)
    X, C, D = at(x, (batch * m0 * m1,), like), at(p, (m1 * m0 * n0 * R,), like), at(q, (n0 * R * m1 * n1,), like)
    Y, Z = at(y, (batch * n0 * n1,), like), at(z, (_all_of_z(sizes, batch) + C.size,), like)
    bias, xs = at_or_zeros(b, n0 * n1, like), rooms_in(kept, team, ROWS * m0 * m1)
    together(_lay, team, team, (team, batch, C, sizes, Z))
    together(_forward_inputs, team, team, (team, batch, X, sizes, Z, xs))
    together(_forward_outputs, team, team, (team, batch, D, sizes, bias, Z, Y))
    return kept.taken[0]


@leaf
def _lay(part: int, parts: int, batch: int, C: Array, sizes: Sizes, Z: Array) -> None:
    """C behind Z, as [m₁ // lanes][k][q][lanes], of some k."""
    m1, m0, n0, R, _ = sizes
    u, width, start = n0 * R, lanes(C), _all_of_z(sizes, batch)
    for group in range(m1 // width):
        for k in range(part * m0 // parts, (part + 1) * m0 // parts):
            to = Matrix(Z, start + (group * m0 + k) * u * width, width, 1)
            turn(to, Matrix(C, (group * width * m0 + k) * u, m0 * u, 1), width, u)


@leaf
def _forward_inputs(part: int, parts: int, batch: int, X: Array, sizes: Sizes, Z: Array, room: Array) -> None:
    """Z of some vectors."""
    m1, m0, n0, R, _ = sizes
    xs, u, width, start = room[part], n0 * R, lanes(X), _all_of_z(sizes, batch)
    for tile in range(part * tiles_of(batch) // parts, (part + 1) * tiles_of(batch) // parts):
        begin = tile * ROWS
        many = min(ROWS, batch - begin)
        lay_tile(xs, X, begin, many, m1, m0)
        for group in range(m1 // width):
            z = Matrix(Z, place_of_tile(group, tile, batch, u, Z), width, ROWS * width)
            x = Runs(xs, group * m0 * ROWS * width, width, ROWS * width, 0)
            C = Runs(Z, start + group * m0 * u * width, width, u * width, 0)
            multiply_lanes(z, x, C, many, m0, u, m0, False)


@leaf
def _forward_outputs(
    part: int, parts: int, batch: int, D: Array, sizes: Sizes, bias: Array, Z: Array, Y: Array
) -> None:
    """Y of some n₀."""
    m1, _, n0, R, n1 = sizes
    o, u, width = n0 * n1, n0 * R, lanes(Z)
    far = place_of_tile(1, 0, batch, u, Z)
    for tile in range(tiles_of(batch)):
        begin = tile * ROWS
        many = min(ROWS, batch - begin)
        for q in range(part * n0 // parts * R, (part + 1) * n0 // parts * R):
            n = q // R
            y, shift = Matrix(Y, begin * o + n * n1, o, width), Matrix(bias, n * n1, 0, 1)
            z = Runs(Z, place_of_tile(0, tile, batch, u, Z) + q * ROWS * width, width, 1, far)
            before = y if q % R > 0 else shift
            multiply_runs(y, z, Runs(D, q * m1 * n1, 0, n1, width * n1), many, m1, n1, width, before, True)


@compiled
def backward(like: Array, sizes: Sizes, batch: int, places: Places, team: int) -> int:
    """The gradients of X, unless there is no room for it, C, D and the bias for ∂Y (batch×n₀n₁)."""
    m1, m0, n0, R, n1 = sizes
    dy, x, z, _, q, dx, dp, dq, db = places
    kept, width = kept_room(like), lanes(like)
    dY, X = at(dy, (batch * n0 * n1,), like), at(x, (batch * m0 * m1,), like)
    D, bias = at(q, (n0 * R * m1 * n1,), like), at(db, (n0 * n1,), like)
    dX, dC = at(dx, (X.size if dx else 0,), like), at(dp, (m1 * m0 * n0 * R,), like)
    dD, Z = at(dq, (D.size,), like), at(z, (_all_of_z(sizes, batch) + dC.size,), like)
    dZ = rooms_in(kept, 1, _all_of_z(sizes, batch))[0]
    room = Room(
        rooms_in(kept, team, max(MANY * m0 * width, ROWS * _apart(sizes, like))),
        rooms_in(kept, team, batch * (n1 + width)),
        rooms_in(kept, team, n1 * m1),
        rooms_in(kept, team, m0 * n0 * R * width),
    )
    together(_backward_outputs, team, team, (team, batch, dY, Z, D, sizes, dZ, dD, bias, room))
    together(_backward_inputs, team, team, (team, batch, X, Z, dZ, sizes, dX, dC, room))
    return kept.taken[0]


@leaf
def _apart(sizes: Sizes, like: Array) -> int:
    """Numbers from one row of ∂X to the next while it is made: rows share no places in the first cache level."""
    m1, m0, _, _, _ = sizes
    return m0 * m1 + lanes(like)


@leaf
def _backward_outputs(
    part: int,
    parts: int,
    batch: int,
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
    o, u, width = n0 * n1, n0 * R, lanes(Z)
    far, ys, apart, none = place_of_tile(1, 0, batch, u, Z), room.y[part], n1 + width, Matrix(bias, 0, 0, 1)
    turned = Matrix(room.D[part], 0, m1, 1)
    for n in range(part * n0 // parts, (part + 1) * n0 // parts):
        dy, total = Matrix(ys, 0, apart, 1), Matrix(bias, n * n1, 0, 1)
        copy(dy, Matrix(dY, n * n1, o, 1), batch, n1)
        bias[n * n1 : (n + 1) * n1] = 0
        copy_sum(total, total, dy, batch, n1)
        for q in range(n * R, (n + 1) * R):
            turn(turned, Matrix(D, q * m1 * n1, n1, 1), m1, n1)
            for tile in range(tiles_of(batch)):
                begin, place = tile * ROWS, place_of_tile(0, tile, batch, u, Z) + q * ROWS * width
                left, right = Runs(ys, begin * apart, apart, 1, 0), Runs(turned.entries, 0, 0, m1, 0)
                to, many = Matrix(dZ, place, width, far), min(ROWS, batch - begin)
                multiply_runs(to, left, right, many, n1, m1, n1, none, False)
            for a in range(0, m1, ROWS):
                place = place_of_tile(a // width, 0, batch, u, Z) + q * ROWS * width + a % width
                left = Runs(Z, place, 1, width, u * ROWS * width)
                to, right = Matrix(dD, (q * m1 + a) * n1, n1, width), Runs(ys, 0, 0, apart, ROWS * apart)
                multiply_runs(to, left, right, ROWS, batch, n1, ROWS, none, False)


@leaf
def _backward_inputs(
    part: int, parts: int, batch: int, X: Array, Z: Array, dZ: Array, sizes: Sizes, dX: Array, dC: Array, room: Room
) -> None:
    """∂X of some vectors, and ∂C of some k and m₁."""
    m1, m0, _, _, _ = sizes
    if dX.size:
        for tile in range(part * tiles_of(batch) // parts, (part + 1) * tiles_of(batch) // parts):
            _input(tile, batch, Z, dZ, sizes, dX, room.x[part])
    some = (m0 + ROWS - 1) // ROWS
    groups = m1 // lanes(X)
    begin, end = part * groups * some // parts, (part + 1) * groups * some // parts
    for group in range(groups):
        first = max(0, begin - group * some) * ROWS
        after = min(m0, (end - group * some) * ROWS)
        if first < after:
            _parameter(group, first, after - first, batch, X, dZ, sizes, dC, room.x[part], room.C[part])


@leaf
def _input(tile: int, batch: int, Z: Array, dZ: Array, sizes: Sizes, dX: Array, xs: Array) -> None:
    """∂X of a tile."""
    m1, m0, n0, R, _ = sizes
    u, width, apart, start = n0 * R, lanes(Z), _apart(sizes, Z), _all_of_z(sizes, batch)
    begin = tile * ROWS
    many = min(ROWS, batch - begin)
    for group in range(m1 // width):
        dz = Runs(dZ, place_of_tile(group, tile, batch, u, Z), width, ROWS * width, 0)
        C = Runs(Z, start + group * m0 * u * width, u * width, width, 0)
        multiply_lanes(Matrix(xs, group * width, apart, m1), dz, C, many, u, m0, u, False)
    copy(Matrix(dX, begin * m0 * m1, m0 * m1, 1), Matrix(xs, 0, apart, 1), many, m0 * m1)


@leaf
def _parameter(
    group: int,
    first: int,
    some: int,
    batch: int,
    X: Array,
    dZ: Array,
    sizes: Sizes,
    dC: Array,
    xs: Array,
    sums: Array,
) -> None:
    """∂C of a group of m₁ and of some k from ``first`` on."""
    m1, m0, n0, R, _ = sizes
    u, width = n0 * R, lanes(X)
    tile = ROWS * width
    for begin in range(0, batch, MANY):
        many = min(MANY, batch - begin)
        lay_group(xs, X, begin, many, group, first, some, m1, m0)
        x = Runs(xs, 0, tile, width, some * tile)
        dz = Runs(dZ, place_of_tile(group, begin // ROWS, batch, u, X), tile, width, u * tile)
        multiply_lanes(Matrix(sums, 0, u * width, width), x, dz, some, many, u, ROWS, begin > 0)
    for k in range(some):
        to = Matrix(dC, (group * width * m0 + first + k) * u, m0 * u, 1)
        turn(to, Matrix(sums, k * u * width, width, 1), u, width)
