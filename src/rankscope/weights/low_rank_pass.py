"""y = U Vᵀ x for a batch of vectors, and its derivative, compiled.

With vectors as rows, of X (batch×in) and Y (batch×out),

    Z = X V,       Y = Z Uᵀ,
    ∂Z = ∂Y U,     ∂X = ∂Z Vᵀ,     ∂V = Xᵀ ∂Z,     ∂U = ∂Yᵀ Z.

Threads share the vectors, and the rows of ∂U and ∂V once all of ∂Z is there. What a thread multiplies with it lays into
panels by itself: to fetch them from another's cache takes longer.
"""

from rankscope.addresses import at, at_or_zeros
from rankscope.compiled import Array, compiled, leaf
from rankscope.matrices import Matrix, copy_sum
from rankscope.panels import DEEP, HIGH, Room, multiply, panel_size
from rankscope.rooms import kept_room, rooms_in
from rankscope.team import together
from rankscope.weights.beside import Places, Sizes, rows_of, worth


def made(batch: int, sizes: Sizes, itemsize: int) -> tuple[tuple[int, int], int]:
    """The shape of Y, and how many numbers Z has."""
    _, r, o = sizes
    return (batch, o), batch * r


@compiled
def forward(like: Array, sizes: Sizes, batch: int, places: Places, team: int) -> int:
    """Y (batch×out) and Z (batch×r) for X (batch×in), V (in×r) at p, U (out×r) at q and the bias."""
    i, r, o = sizes
    x, p, q, b, y, z = places
    kept = kept_room(like)
    X, V, U, Z = at(x, (batch * i,), like), at(p, (i * r,), like), at(q, (o * r,), like), at(z, (batch * r,), like)
    bias, Y, parts = at_or_zeros(b, o, like), at(y, (batch * o,), like), worth(batch * r * (i + o), team)
    panels = rooms_in(kept, parts, panel_size(X))
    together(_forward, parts, team, (parts, batch, X, V, U, sizes, bias, Z, Y, panels))
    return kept.taken[0]


@leaf
def _forward(
    part: int,
    parts: int,
    batch: int,
    X: Array,
    V: Array,
    U: Array,
    sizes: Sizes,
    bias: Array,
    Z: Array,
    Y: Array,
    panels: Array,
) -> None:
    i, r, o = sizes
    begin, many = rows_of(part, parts, batch)
    none = bias[:0]
    room = Room(panels[part], none)
    x, z, y = Matrix(X, begin * i, i, 1), Matrix(Z, begin * r, r, 1), Matrix(Y, begin * o, o, 1)
    multiply(z, x, Matrix(V, 0, r, 1), many, i, r, none, room)
    multiply(y, z, Matrix(U, 0, 1, r), many, r, o, bias, room)


@compiled
def backward(like: Array, sizes: Sizes, batch: int, places: Places, team: int) -> int:
    """The gradients of X, unless there is no room for it, V, U and the bias for ∂Y (batch×out)."""
    i, r, o = sizes
    dy, x, z, p, q, dx, dp, dq, db = places
    kept = kept_room(like)
    dY, X, Z = at(dy, (batch * o,), like), at(x, (batch * i,), like), at(z, (batch * r,), like)
    V, U, dX = at(p, (i * r,), like), at(q, (o * r,), like), at(dx, (batch * i if dx else 0,), like)
    dV, dU, bias = at(dp, (i * r,), like), at(dq, (o * r,), like), at(db, (o,), like)
    parts, dZ = worth(batch * r * (i + o), team), rooms_in(kept, 1, batch * r)[0]
    panels, strips = rooms_in(kept, parts, panel_size(X)), rooms_in(kept, parts, HIGH * min(batch, DEEP))
    together(_inputs, parts, team, (parts, batch, dY, V, U, sizes, dZ, dX, panels))
    together(_parameters, parts, team, (parts, batch, dY, X, Z, dZ, sizes, dV, dU, bias, panels, strips))
    return kept.taken[0]


@leaf
def _inputs(
    part: int,
    parts: int,
    batch: int,
    dY: Array,
    V: Array,
    U: Array,
    sizes: Sizes,
    dZ: Array,
    dX: Array,
    panels: Array,
) -> None:
    i, r, o = sizes
    begin, many = rows_of(part, parts, batch)
    dy, dz, none = Matrix(dY, begin * o, o, 1), Matrix(dZ, begin * r, r, 1), dX[:0]
    room = Room(panels[part], none)
    multiply(dz, dy, Matrix(U, 0, r, 1), many, o, r, none, room)
    if dX.size:
        multiply(Matrix(dX, begin * i, i, 1), dz, Matrix(V, 0, 1, r), many, r, i, none, room)


@leaf
def _parameters(
    part: int,
    parts: int,
    batch: int,
    dY: Array,
    X: Array,
    Z: Array,
    dZ: Array,
    sizes: Sizes,
    dV: Array,
    dU: Array,
    bias: Array,
    panels: Array,
    strips: Array,
) -> None:
    i, r, o = sizes
    room, none = Room(panels[part], strips[part]), X[:0]
    begin, many = rows_of(part, parts, o)
    multiply(Matrix(dU, begin * r, r, 1), Matrix(dY, begin, 1, o), Matrix(Z, 0, r, 1), many, batch, r, none, room)
    bias[begin : begin + many], total = 0, Matrix(bias, begin, 0, 1)
    copy_sum(total, total, Matrix(dY, begin, o, 1), batch, many)
    begin, many = rows_of(part, parts, i)
    multiply(Matrix(dV, begin * r, r, 1), Matrix(X, begin, 1, i), Matrix(dZ, 0, r, 1), many, batch, r, none, room)
