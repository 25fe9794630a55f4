"""y = W x for W made of two block-diagonal matrices, and its derivative, compiled: BESIDE vectors side by side.

Each x is a matrix X (m₀×m₁), and y is Y (n₀×n₁). With C[m₁] (m₀ × n₀R) and D[n₀] (R m₁ × n₁),

    Z[m₁] = Xᵀ[m₁] C[m₁],       Y[n₀] = Z[n₀] D[n₀],
    ∂Z[n₀] = ∂Y[n₀] D[n₀]ᵀ,     ∂X[m₁] = ∂Z[m₁] C[m₁]ᵀ,     ∂D[n₀] = Σ Z[n₀]ᵀ ∂Y[n₀],     ∂C[m₁] = Σ X[m₁]ᵀ ∂Z[m₁].

Entry (n₀, R, m₁) of Z is a row, of one number for each vector: those of one n₀ follow each other, and those of one m₁
lie m₁ apart.
"""

from typing import NamedTuple

from rankscope.addresses import at, at_or_zeros
from rankscope.compiled import Array, compiled, inner, leaf
from rankscope.matrices import Matrix, accumulate, copy, product, turn, whole
from rankscope.rooms import add_up, kept_room, rooms_in
from rankscope.team import together
from rankscope.vectors import FAR, LINE, lanes
from rankscope.weights.beside import (
    BESIDE,
    SOME,
    Places,
    Sizes,
    add_vectors,
    blocks_of,
    give,
    lay,
    parts_of,
    share,
    take,
)


class Room(NamedTuple):
    """What the way back needs for itself, a row for each part."""

    y: Array
    x: Array
    dz: Array
    turned: Array
    few: Array


def made(batch: int, sizes: Sizes, itemsize: int) -> tuple[tuple[int, int], int]:
    """The shape of Y, and how many numbers Z has."""
    m1, _, n0, R, n1 = sizes
    return (batch, n0 * n1), blocks_of(batch) * n0 * R * (m1 * BESIDE + LINE // itemsize)


@compiled
def forward(like: Array, sizes: Sizes, batch: int, places: Places, team: int) -> int:
    """Y (batch×n₀n₁) and Z for X (batch×m₀m₁), C (m₁×m₀×n₀×R) at p, D (n₀×R×m₁×n₁) at q and the bias."""
    m1, m0, n0, R, n1 = sizes
    x, p, q, b, y, z = places
    kept = kept_room(like)
    X, C, D = at(x, (batch, m0 * m1), like), at(p, (m1 * m0 * n0 * R,), like), at(q, (n0 * R * m1 * n1,), like)
    bias, Y, Z = at_or_zeros(b, n0 * n1, like), at(y, (batch, n0 * n1), like), _between(z, sizes, batch, like)
    parts = parts_of(batch, C.size + D.size, team)
    room, few = (
        rooms_in(kept, parts, max(m0 * _apart(m1, like), n0 * n1 * BESIDE)),
        rooms_in(kept, parts, SOME * BESIDE),
    )
    together(_forward, parts, team, (parts, X, C, D, sizes, bias, Z, Y, room, few))
    return kept.taken[0]


@leaf
def _forward(
    part: int,
    parts: int,
    X: Array,
    C: Array,
    D: Array,
    sizes: Sizes,
    bias: Array,
    Z: Array,
    Y: Array,
    room: Array,
    few: Array,
) -> None:
    m1, m0, n0, R, n1 = sizes
    xs, u, apart = room[part], n0 * R, _apart(m1, X)
    ys = xs  # Once there is Z, X is not needed.
    for block in range(*share(part, parts, len(X))):
        z, begin = Z[block], block * BESIDE
        lay(xs, X, begin, _group(m0, m1, X), apart)
        for a in range(m1):
            to, rows = Matrix(z, a * BESIDE, apart, 1), Matrix(xs, a * BESIDE, apart, 1)
            product(to, Matrix(C, a * m0 * u, 1, u), rows, u, m0, BESIDE)
        for q in range(n0 * R):
            to, rows = Matrix(ys, q // R * n1 * BESIDE, BESIDE, 1), Matrix(z, q * apart, BESIDE, 1)
            accumulate(to, Matrix(D, q * m1 * n1, 1, n1), rows, n1, m1, BESIDE, q % R > 0)
        give(Y, begin, ys, bias, few[part])


@compiled
def backward(like: Array, sizes: Sizes, batch: int, places: Places, team: int) -> int:
    """The gradients of X, unless there is no room for it, C, D and the bias for ∂Y (batch×n₀n₁)."""
    m1, m0, n0, R, n1 = sizes
    dy, x, z, p, q, dx, dp, dq, db = places
    kept = kept_room(like)
    dY, X, Z = at(dy, (batch, n0 * n1), like), at(x, (batch, m0 * m1), like), _between(z, sizes, batch, like)
    C, D = at(p, (m1 * m0 * n0 * R,), like), at(q, (n0 * R * m1 * n1,), like)
    dX, u, v = at(dx, (batch if dx else 0, m0 * m1), like), whole(n0 * R, like), whole(n1, like)
    parts, apart = parts_of(batch, C.size + D.size, team), _apart(m1, like)
    dCs, dDs, dbs = (
        rooms_in(kept, parts, m1 * m0 * u),
        rooms_in(kept, parts, n0 * R * m1 * v),
        rooms_in(kept, parts, n0 * n1),
    )
    room = Room(
        rooms_in(kept, parts, n0 * n1 * BESIDE),
        rooms_in(kept, parts, m0 * apart),
        rooms_in(kept, parts, u * apart),
        rooms_in(kept, parts, BESIDE * u),
        rooms_in(kept, parts, BESIDE * v),
    )
    together(_backward, parts, team, (parts, dY, X, Z, C, D, sizes, dX, dCs, dDs, dbs, room))
    dC, dD = at(dp, (m1 * m0, n0 * R), like), at(dq, (n0 * R * m1, n1), like)
    together(_add_up, parts, team, (parts, dCs, u, dC, dDs, v, dD))
    add_up(dbs, n0 * n1, at(db, (1, n0 * n1), like))
    return kept.taken[0]


@leaf
def _backward(
    part: int,
    parts: int,
    dY: Array,
    X: Array,
    Z: Array,
    C: Array,
    D: Array,
    sizes: Sizes,
    dX: Array,
    dCs: Array,
    dDs: Array,
    dbs: Array,
    room: Room,
) -> None:
    m1, m0, n0, R, n1 = sizes
    u, v, o, apart = whole(n0 * R, X), whole(n1, X), n0 * n1, _apart(m1, X)
    dC, dD, bias, dy = dCs[part], dDs[part], dbs[part], dY.reshape(dY.size)
    ys, xs, dz = room.y[part], room.x[part], room.dz[part]
    turned, few = Matrix(room.turned[part], 0, u, 1), Matrix(room.few[part], 0, v, 1)
    bias[:], few.entries[:] = 0, 0
    dz[n0 * R * apart :] = 0
    first, after = share(part, parts, len(X))
    for block in range(first, after):
        z, begin, more = Z[block], block * BESIDE, block > first
        many = min(BESIDE, len(X) - begin)
        lay(ys, dY, begin, o, 0)
        lay(xs, X, begin, _group(m0, m1, X), apart)
        add_vectors(bias, dY, begin)
        for n in range(n0):
            copy(few, Matrix(dy, begin * o + n * n1, o, 1), many, n1)
            rows = Matrix(ys, n * n1 * BESIDE, BESIDE, 1)
            for q in range(n * R, (n + 1) * R):
                to, between = Matrix(dz, q * apart, BESIDE, 1), Matrix(z, q * apart, BESIDE, 1)
                product(to, Matrix(D, q * m1 * n1, n1, 1), rows, m1, n1, BESIDE)
                accumulate(Matrix(dD, q * m1 * v, v, 1), between, few, m1, many, v, more)
        for a in range(m1):
            here, rows = Matrix(xs, a * BESIDE, apart, 1), Matrix(dz, a * BESIDE, apart, 1)
            turn(turned, rows, u, BESIDE)
            accumulate(Matrix(dC, a * m0 * u, u, 1), here, turned, m0, many, u, more)
            if dX.size:  # In the place of X's rows.
                product(here, Matrix(C, a * m0 * n0 * R, n0 * R, 1), rows, m0, n0 * R, BESIDE)
        if dX.size:
            take(dX, begin, xs, _group(m0, m1, X), apart)


@leaf
def _add_up(part: int, parts: int, dCs: Array, u: int, dC: Array, dDs: Array, v: int, dD: Array) -> None:
    """A part of the rows of the gradients."""
    for each, wide, total in ((dCs, u, dC), (dDs, v, dD)):
        begin, end = part * len(total) // parts, (part + 1) * len(total) // parts
        add_up(each[:, begin * wide : end * wide], wide, total[begin:end])


@inner
def _between(z: int, sizes: Sizes, batch: int, like: Array) -> Array:
    """Z, a row for each block."""
    m1, _, n0, R, _ = sizes
    return at(z, (-(-batch // BESIDE), n0 * R * _apart(m1, like)), like)


@leaf
def _apart(m1: int, like: Array) -> int:
    """How far apart the groups of rows of one n₀, or m₀, begin: not at places that share room in a cache."""
    far = m1 * BESIDE * like.itemsize >= FAR and m1 % lanes(like) == 0
    return m1 * BESIDE + (LINE // like.itemsize if far else 0)


@leaf
def _group(m0: int, m1: int, like: Array) -> int:
    """How many rows follow each other."""
    return m1 if _apart(m1, like) > m1 * BESIDE else m0 * m1
