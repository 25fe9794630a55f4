"""y = W x for W made of two block-diagonal matrices, for a batch of vectors, and its derivative, compiled.

Each x is a matrix X (m₀×m₁), and y is Y (n₀×n₁). With C[m₁] (m₀ × n₀R) and D[n₀] (R m₁ × n₁),

    Z[m₁] = Xᵀ[m₁] C[m₁],       Y[n₀] = Z[n₀] D[n₀],
    ∂Z[n₀] = ∂Y[n₀] D[n₀]ᵀ,     ∂X[m₁] = ∂Z[m₁] C[m₁]ᵀ,     ∂D[n₀] = Σ Z[n₀]ᵀ ∂Y[n₀],     ∂C[m₁] = Σ X[m₁]ᵀ ∂Z[m₁].

Between the two, Z is turned from m₁ × (n₀ R) to (n₀ R) × m₁ within each vector, so that rows of every product lie side
by side. Some vectors are taken at a time; what belongs to one lies a little more than its length from the next, since
the cache would put places apart by a power of two in one.
"""

from typing import NamedTuple

import numpy as np

from rankscope.addresses import at, at_or_zeros
from rankscope.compiled import Array, compiled, inner, leaf
from rankscope.matrices import Matrix, add_product, copy, copy_sum, turn, whole
from rankscope.team import together
from rankscope.vectors import add_up, aligned_zeros, rooms
from rankscope.weights.linear_pass import dense_backward, dense_forward
from rankscope.weights.products import ASIDE, padded, parts_of, share


Sizes = tuple[int, int, int, int, int]
"""m₁, m₀, n₀, R and n₁."""


class Apart(NamedTuple):
    """How far apart the vectors lie in each: ∂Y, X turned, ∂Z, ∂Z turned and ∂X turned."""

    y: int
    x: int
    dz: int
    t: int
    dx: int


class Room(NamedTuple):
    """What the way back needs of each for itself, a row for each part."""

    y: Array
    x: Array
    dz: Array
    t: Array
    dx: Array


NEAR = 2**14
"""Numbers of x that are taken at a time."""


def made(batch: int, sizes: Sizes, itemsize: int) -> tuple[tuple[int, int], int]:
    """The shape of Y, and how many numbers Z has: n₀ R m₁ for each vector, and some beside."""
    m1, _, n0, R, n1 = sizes
    return (batch, n0 * n1), batch * (n0 * R * m1 + ASIDE // itemsize)


def made_formed(batch: int, sizes: Sizes, itemsize: int) -> tuple[tuple[int, int], int]:
    """The same where W lies between."""
    m1, m0, n0, _, n1 = sizes
    return (batch, n0 * n1), n0 * n1 * m0 * m1


@compiled
def forward(like: Array, sizes: Sizes, batch: int, x: int, p: int, q: int, b: int, y: int, z: int, team: int) -> None:
    """Y (batch×n₀n₁) and Z for X (batch×m₀m₁), C (m₁×m₀×n₀×R) at p, D (n₀×R×m₁×n₁) at q and the bias."""
    m1, m0, n0, R, n1 = sizes
    X, C, D = at(x, (batch, m0 * m1), like), at(p, (m1, m0, n0, R), like), at(q, (n0, R, m1, n1), like)
    bias, Y, Z = at_or_zeros(b, n0 * n1, like), at(y, (batch, n0 * n1), like), _between(z, sizes, batch, like)
    first, second = padded(C.reshape(m1 * m0, n0 * R)), padded(D.reshape(n0 * R * m1, D.shape[3]))
    parts = parts_of(len(X), C.size + D.size, team)
    apart, block = _apart(C.shape, D.shape[3], X), _block(X)
    room = rooms(parts, block * apart.x, X), rooms(parts, block * apart.t, X), rooms(parts, block * apart.y, X)
    together(_forward, parts, team, (parts, X, first, second, C.shape, bias, Z, Y, room))


@leaf
def _forward(
    part: int,
    parts: int,
    X: Array,
    C: Array,
    D: Array,
    shape: tuple[int, int, int, int],
    bias: Array,
    Z: Array,
    Y: Array,
    room: tuple[Array, Array, Array],
) -> None:
    m1, m0, n0, R = shape
    n1 = Y.shape[1] // n0
    u, v, apart = whole(n0 * R, X), whole(n1, X), _apart(shape, n1, X)
    x, z_out, out, block = X.reshape(X.size), Z.reshape(Z.size), Y.reshape(Y.size), _block(X)
    turned, z, y = room[0][part], room[1][part], room[2][part]
    first, last = share(part, parts, len(X))
    for begin in range(first, last, block):
        many = min(block, last - begin)
        z[: many * apart.t] = 0
        y[: many * apart.y] = 0
        for e in range(many):
            turn(Matrix(turned, e * apart.x, m0, 1), Matrix(x, (begin + e) * m0 * m1, m1, 1), m0, m1)
        for a in range(m1):
            to, rows = Matrix(z, a * u, apart.t, 1), Matrix(turned, a * m0, apart.x, 1)
            add_product(to, rows, Matrix(C, a * m0 * u, u, 1), many, m0, u)
        for e in range(many):
            to = Matrix(z_out, (begin + e) * Z.shape[1], m1, 1)
            turn(to, Matrix(z, e * apart.t, u, 1), m1, n0 * R)
        for n in range(n0):
            rows = Matrix(z_out, begin * Z.shape[1] + n * R * m1, Z.shape[1], 1)
            add_product(Matrix(y, n * v, apart.y, 1), rows, Matrix(D, n * R * m1 * v, v, 1), many, R * m1, v)
        for e in range(many):
            to = Matrix(out, (begin + e) * n0 * n1, n1, 1)
            copy_sum(to, Matrix(y, e * apart.y, v, 1), Matrix(bias, 0, n1, 1), n0, n1)


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
    """The gradients of X, unless there is no room for it, C, D and the bias for ∂Y (batch×n₀n₁)."""
    m1, m0, n0, R, n1 = sizes
    dY, X, Z = at(dy, (batch, n0 * n1), like), at(x, (batch, m0 * m1), like), _between(z, sizes, batch, like)
    C, D = at(p, (m1, m0, n0, R), like), at(q, (n0, R, m1, n1), like)
    dX = at(dx, (batch if dx else 0, m0 * m1), like)
    p, w = whole(m0, X), whole(m1, X)
    first, second = aligned_zeros(m1 * n0 * R * p, X), aligned_zeros(n0 * n1 * R * w, X)
    for a in range(m1):
        turn(Matrix(first, a * n0 * R * p, p, 1), Matrix(C.reshape(C.size), a * m0 * n0 * R, n0 * R, 1), m0, n0 * R)
    for n in range(n0):
        for rho in range(R):
            to, frm = Matrix(second, n * n1 * R * w + rho * w, R * w, 1), (n * R + rho) * m1 * n1
            turn(to, Matrix(D.reshape(D.size), frm, n1, 1), m1, n1)
    parts = parts_of(len(X), C.size + D.size, team)
    u, v, apart, block = whole(n0 * R, X), whole(n1, X), _apart(C.shape, n1, X), _block(X)
    dCs, dDs = rooms(parts, m1 * m0 * u, X), rooms(parts, n0 * R * m1 * v, X)
    dbs = rooms(parts, n0 * n1, X)
    room = Room(
        rooms(parts, block * apart.y, X),
        rooms(parts, block * apart.x, X),
        rooms(parts, block * apart.dz, X),
        rooms(parts, block * apart.t, X),
        rooms(parts, block * apart.dx, X),
    )
    together(_backward, parts, team, (parts, dY, X, Z, first, second, C.shape, dX, dCs, dDs, dbs, room))
    add_up(dCs, u, at(dp, (m1 * m0, n0 * R), like))
    add_up(dDs, v, at(dq, (n0 * R * m1, n1), like))
    add_up(dbs, n0 * n1, at(db, (1, n0 * n1), like))


@leaf
def _backward(
    part: int,
    parts: int,
    dY: Array,
    X: Array,
    Z: Array,
    C: Array,
    D: Array,
    shape: tuple[int, int, int, int],
    dX: Array,
    dCs: Array,
    dDs: Array,
    dbs: Array,
    room: Room,
) -> None:
    m1, m0, n0, R = shape
    n1, size = dY.shape[1] // n0, X.shape[1]
    u, v, p, w, apart = whole(n0 * R, X), whole(n1, X), whole(m0, X), whole(m1, X), _apart(shape, n1, X)
    at_y, at_x, at_dz, at_t, at_dx = apart
    at_z, block, one = Z.shape[1], _block(X), 1
    y, x, dz, t, dx = room.y[part], room.x[part], room.dz[part], room.t[part], room.dx[part]
    dC, dD, bias, dy = dCs[part], dDs[part], dbs[part], dY.reshape(dY.size)
    dC[:], dD[:], bias[:] = 0, 0, 0
    if v > n1 or u > n0 * R:  # What lies beyond the rows is multiplied too.
        y[:], t[:] = 0, 0
    given, between, out = X.reshape(X.size), Z.reshape(Z.size), dX.reshape(dX.size)
    first, last = share(part, parts, len(X))
    for begin in range(first, last, block):
        many = min(block, last - begin)
        dz[: many * at_dz] = 0
        dx[: many * at_dx] = 0
        for e in range(many):
            here = Matrix(dy, (begin + e) * n0 * n1, n1, 1)
            copy(Matrix(y, e * at_y, v, 1), here, n0, n1)
            copy_sum(Matrix(bias, 0, n1, 1), Matrix(bias, 0, n1, 1), here, n0, n1)
            turn(Matrix(x, e * at_x, m0, 1), Matrix(given, (begin + e) * size, m1, 1), m0, m1)
        for n in range(n0):
            to, rows = Matrix(dz, n * R * w, at_dz, 1), Matrix(y, n * v, at_y, 1)
            add_product(to, rows, Matrix(D, n * n1 * R * w, R * w, 1), many, n1, R * w)
            left = Matrix(between, begin * at_z + n * R * m1, one, at_z)
            add_product(Matrix(dD, n * R * m1 * v, v, 1), left, rows, R * m1, many, v)
        for e in range(many):
            turn(Matrix(t, e * at_t, u, 1), Matrix(dz, e * at_dz, w, 1), n0 * R, m1)
        for a in range(m1):
            to, rows = Matrix(dC, a * m0 * u, u, 1), Matrix(t, a * u, at_t, 1)
            add_product(to, Matrix(x, a * m0, one, at_x), rows, m0, many, u)
            if dX.size:
                to = Matrix(dx, a * p, at_dx, 1)
                add_product(to, rows, Matrix(C, a * n0 * R * p, p, 1), many, n0 * R, p)
        if dX.size:
            for e in range(many):
                to = Matrix(out, (begin + e) * size, m1, 1)
                turn(to, Matrix(dx, e * at_dx, p, 1), m1, m0)


@compiled
def formed_forward(
    like: Array, sizes: Sizes, batch: int, x: int, p: int, q: int, b: int, y: int, w: int, team: int
) -> None:
    """Y ← X Wᵀ + b, and W."""
    m1, m0, n0, R, n1 = sizes
    o, i = n0 * n1, m0 * m1
    W = at(w, (o, i), like)
    _form(at(p, (m1, m0, n0, R), like), at(q, (n0, R, m1, n1), like), W)
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
    """The gradients of X, unless there is no room for it, C, D and b."""
    m1, m0, n0, R, n1 = sizes
    o, i = n0 * n1, m0 * m1
    X, dX = at(x, (batch, i), like), at(dx, (batch if dx else 0, i), like)
    dW = np.empty((o, i), like.dtype)
    dense_backward(at(dy, (batch, o), like), X, at(w, (o, i), like), dX, dW, at(db, (o,), like), team)
    C, D = at(p, (m1, m0, n0, R), like), at(q, (n0, R, m1, n1), like)
    _take_apart(dW, C, D, at(dp, (m1, m0, n0, R), like), at(dq, (n0, R, m1, n1), like))


@leaf
def _form(C: Array, D: Array, W: Array) -> None:
    """W[n₀n₁, m₀m₁] = Σ_ρ C[m₁, m₀, n₀, ρ] D[n₀, ρ, m₁, n₁]."""
    (m1, m0, n0, R), n1 = C.shape, D.shape[3]
    W[:] = 0
    for n in range(n0):
        for rho in range(R):
            for k in range(n1):
                row = W[n * n1 + k]
                for a in range(m0):
                    for b in range(m1):
                        row[a * m1 + b] += C[b, a, n, rho] * D[n, rho, b, k]


@leaf
def _take_apart(dW: Array, C: Array, D: Array, dC: Array, dD: Array) -> None:
    """The gradients of C and D for that of W."""
    (m1, m0, n0, R), n1 = C.shape, D.shape[3]
    dC[:], dD[:] = 0, 0
    for n in range(n0):
        for rho in range(R):
            for k in range(n1):
                row = dW[n * n1 + k]
                for a in range(m0):
                    for b in range(m1):
                        dC[b, a, n, rho] += row[a * m1 + b] * D[n, rho, b, k]
                        dD[n, rho, b, k] += row[a * m1 + b] * C[b, a, n, rho]


@inner
def _between(z: int, sizes: Sizes, batch: int, like: Array) -> Array:
    """Z, a row for each vector."""
    m1, _, n0, R, _ = sizes
    return at(z, (batch, n0 * R * m1 + ASIDE // like.itemsize), like)


@leaf
def _block(X: Array) -> int:
    """How many vectors are taken at a time."""
    return max(16, NEAR // X.shape[1])


@leaf
def _apart(shape: tuple[int, int, int, int], n1: int, X: Array) -> Apart:
    (m1, m0, n0, R), aside = shape, ASIDE // X.itemsize
    u, v, p, w = whole(n0 * R, X), whole(n1, X), whole(m0, X), whole(m1, X)
    return Apart(n0 * v + aside, m0 * m1 + aside, n0 * R * w + aside, m1 * u + aside, m1 * p + aside)
