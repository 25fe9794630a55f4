"""What a joint step needs of a chain, compiled: on a small problem its torch calls would cost more than A does.

With A ≈ L R, L = F₁ … F_j, R = F_{j+1} … F_L, and T = A Rᵀ, S = LᵀA of a pass over A,

    P = LᵀL,   Q = RRᵀ,   ∂/∂L = L Q − T,   ∂/∂R = P R − S.

A chain is given as θ, all of its entries in one vector, factor after factor, with its sizes m, r₁, …, r_{L-1}, n.

Threads share the rows of F₁ and the columns of F_L, each with the same ones every time: what it forms of them,
multiplies with A and pulls back stays in its cache. Grams, T and gradients of the small factors are sums over shares.
"""

from typing import NamedTuple

import numpy as np

from rankscope.compiled import Array, Integers, compiled, inner, leaf
from rankscope.nmf import row_pass, tiles
from rankscope.nmf.chain_side import form, pull_back
from rankscope.nmf.kernels import adam_entries
from rankscope.nmf.packed_pass import Packed, look_at_share
from rankscope.nmf.rules.adam import Step
from rankscope.nmf.tiles import WHOLE, share_of
from rankscope.rooms import add_up, rooms
from rankscope.team import together


class Look(NamedTuple):
    """A chain at one point, and what a pass over A leaves of it."""

    P: Array
    """LᵀL (r_j×r_j) in float64."""
    Q: Array
    """RRᵀ (r_j×r_j) in float64."""
    S: Array
    """LᵀA (r_j×n)."""
    T: Array
    """R Aᵀ (r_j×m)."""
    inner: float
    """⟨S, R⟩ in float64."""
    level: float
    """½‖A − L R‖² − ½‖A‖² in float64."""
    gradient: Array
    """Of ½‖A − L R‖², for all entries of θ."""


class Moving(NamedTuple):
    """A step of Adam that is taken first: what moves, and where it is put. Vectors like θ, of no size for no step."""

    theta: Array
    gradient: Array
    first: Array
    second: Array
    moved: Array
    m: Array
    v: Array
    step: Step


class Sides(NamedTuple):
    """A ≈ L R at one point."""

    L: Array
    """Lᵀ (r_j×m)."""
    R: Array
    """(r_j×n)."""
    P: Array
    Q: Array
    S: Array
    T: Array


class Sums(NamedTuple):
    """What each share adds to: its Grams, its part of ⟨S, R⟩ and of the gradient of F₂, …, F_{L-1}; and its room."""

    Ps: Array
    Qs: Array
    inner: Array
    between: Array
    wide: Array
    """Room to work in, in float64."""
    narrow: Array
    small: Array


def look(A: Packed | Array, theta: Array, sizes: Integers, j: int, team: int) -> Look:
    """One pass over A (m×n), by so many threads."""
    if isinstance(A, Packed):
        return _look(A, theta, Moving(*(np.empty(0, theta.dtype),) * 7, Step(*(0.0,) * 6)), sizes, j)
    sides, gradient = _room(theta, sizes, j)
    _take_sides(theta, sizes, j, team, sides)
    L, R, P, Q, S, T = sides
    inner = row_pass.evaluate_rows(A, 0, R, np.empty((0, 0), theta.dtype), L, T, S, np.empty_like(P), team)
    _take_gradient(theta, sizes, j, team, sides, gradient)
    return Look(P, Q, S, T, inner, 0.5 * float(np.vdot(P, Q)) - inner, gradient)


def step_and_look(
    A: Packed, theta: Array, gradient: Array, moments: tuple[Array, Array], step: Step, sizes: Integers, j: int
) -> tuple[tuple[Array, Array, Array], Look]:
    """θ, m and v after a step of Adam, and a pass over A there, in one call."""
    after = np.empty_like(theta), np.empty_like(theta), np.empty_like(theta)
    return after, _look(A, after[0], Moving(theta, gradient, *moments, *after, step), sizes, j)


def _look(A: Packed, theta: Array, moving: Moving, sizes: Integers, j: int) -> Look:
    sides, gradient = _room(theta, sizes, j)
    inner, level = _look_at_packed(A, theta, moving, sizes, j, sides, gradient)
    return Look(sides.P, sides.Q, sides.S, sides.T, inner, level, gradient)


def _room(theta: Array, sizes: Integers, j: int) -> tuple[Sides, Array]:
    m, n, r = sizes[0], sizes[-1], sizes[j]
    (L, T), (R, S) = np.empty((2, r, m), theta.dtype), np.empty((2, r, n), theta.dtype)
    P, Q = np.empty((2, r, r))
    return Sides(L, R, P, Q, S, T), np.empty_like(theta)


@compiled
def _look_at_packed(
    A: Packed, theta: Array, moving: Moving, sizes: Integers, j: int, sides: Sides, gradient: Array
) -> tuple[float, float]:
    parts, (r, n), many = len(A.begins), sides.R.shape, _between(theta, sizes)
    F, widest = tiles.room_in_rows(sizes[0], sides.S), 0
    for part in range(parts):
        begin, end = share_of(part, parts, n)
        widest = max(widest, end - begin)
    across = tiles.width_of(r, theta.itemsize)
    directions, sums = rooms(parts, widest * across, theta), rooms(parts, widest * across, theta)
    Cs, added = rooms(parts, F.size, theta), _sums(parts, theta, sizes, j)
    if moving.theta.size:
        _move(moving, sizes[0] * sizes[1], theta.size - sizes[-2] * n)
    together(_form_share, parts, parts, (parts, theta, moving, sizes, j, sides, added, F, directions))
    _take_grams(added, sides)
    together(_multiply_share, parts, parts, (A, F, directions, sums, Cs, sides.S))
    together(_pull_back_share, parts, parts, (parts, theta, sizes, j, sides, Cs, added, gradient))
    inner, square = _take_between(added, sizes[0] * sizes[1], many, gradient), 0.0
    for i in range(r):
        for k in range(r):
            square += sides.P[i, k] * sides.Q[i, k]
    return inner, 0.5 * square - inner


@compiled
def _take_sides(theta: Array, sizes: Integers, j: int, team: int, sides: Sides) -> None:
    """Lᵀ, R, P and Q."""
    nowhere, added = np.empty(0, theta.dtype), _sums(team, theta, sizes, j)
    still = Moving(nowhere, nowhere, nowhere, nowhere, nowhere, nowhere, nowhere, Step(0.0, 0.0, 0.0, 0.0, 0.0, 0.0))
    nothing = np.empty((team, 0), theta.dtype)
    together(_form_share, team, team, (team, theta, still, sizes, j, sides, added, nowhere, nothing))
    _take_grams(added, sides)


@compiled
def _take_gradient(theta: Array, sizes: Integers, j: int, team: int, sides: Sides, gradient: Array) -> None:
    """∇ ½‖A − L R‖², where S and T are known."""
    added, nothing = _sums(team, theta, sizes, j), np.empty((0, 0), theta.dtype)
    together(_pull_back_share, team, team, (team, theta, sizes, j, sides, nothing, added, gradient))
    _take_between(added, sizes[0] * sizes[1], _between(theta, sizes), gradient)


@leaf
def _between(theta: Array, sizes: Integers) -> int:
    """How many entries F₂, …, F_{L-1} have."""
    return theta.size - sizes[0] * sizes[1] - sizes[-2] * sizes[-1]


@inner
def _sums(parts: int, theta: Array, sizes: Integers, j: int) -> Sums:
    wide, many, square = np.empty(0), _between(theta, sizes), sizes[j] * sizes[j]
    longest = (max(sizes[0], sizes[-1]) // parts + 2 * WHOLE) * sizes[1:-1].max()
    return Sums(
        rooms(parts, square, wide),
        rooms(parts, square, wide),
        np.zeros(parts),
        rooms(parts, many, theta),
        rooms(parts, 2 * longest, wide),
        rooms(parts, (len(sizes) + 2) * longest, theta),
        rooms(parts, 2 * sizes[1:-1].max() ** 2, theta),
    )


@leaf
def _take_grams(added: Sums, sides: Sides) -> None:
    add_up(added.Ps, len(sides.P), sides.P)
    add_up(added.Qs, len(sides.Q), sides.Q)


@leaf
def _take_between(added: Sums, begin: int, many: int, gradient: Array) -> float:
    """The gradient of the small factors, so many entries from ``begin`` on, and ⟨S, R⟩."""
    total, between, slope = 0.0, added.between, gradient[begin : begin + many]
    slope[:] = 0
    for part in range(len(between)):
        total += added.inner[part]
        for i in range(many):
            slope[i] += between[part, i]
    return total


@leaf
def _move(moving: Moving, begin: int, end: int) -> None:
    """Some entries moved."""
    theta, gradient, first, second, moved, m, v, step = moving
    before = theta[begin:end], gradient[begin:end], first[begin:end], second[begin:end]
    adam_entries(*before, step, moved[begin:end], m[begin:end], v[begin:end])


@leaf
def _form_share(
    part: int,
    parts: int,
    theta: Array,
    moving: Moving,
    sizes: Integers,
    j: int,
    sides: Sides,
    added: Sums,
    F: Array,
    directions: Array,
) -> None:
    """A share of both sides moved, if it is to be, and formed; and laid out for a packed A, if there is room."""
    L, R, Ps, Qs, wide, small = sides.L, sides.R, added.Ps, added.Qs, added.wide[part], added.small[part]
    (a, b), (c, d), r = share_of(part, parts, sizes[0]), share_of(part, parts, sizes[-1]), len(L)
    if moving.theta.size:
        _move(moving, a * sizes[1], b * sizes[1])
        last = theta.size - sizes[-2] * sizes[-1]
        for row in range(last, theta.size, sizes[-1]):
            _move(moving, row + c, row + d)
    form(theta, sizes, j, True, a, b, wide, small, L, Ps[part, : r * r].reshape(r, r))
    form(theta, sizes, j, False, c, d, wide, small, R, Qs[part, : r * r].reshape(r, r))
    if F.size:
        tiles.lay_in_rows(L, F, a, b)
        directed = directions[part, : (d - c) * tiles.width_of(r, theta.itemsize)]
        directed[:] = 0
        tiles.lay(R, len(R), c, d - c, directed)


@leaf
def _multiply_share(part: int, A: Packed, F: Array, directions: Array, sums: Array, Cs: Array, S: Array) -> None:
    begin, end = share_of(part, len(A.begins), S.shape[1])
    size = (end - begin) * tiles.width_of(len(S), S.itemsize)
    look_at_share(part, A, F, directions[part, :size], sums[part, :size], Cs[part], S)


@leaf
def _pull_back_share(
    part: int, parts: int, theta: Array, sizes: Integers, j: int, sides: Sides, Cs: Array, added: Sums, gradient: Array
) -> None:
    """The gradient of a share of F₁ and F_L, and its part of the others'; T is Σ C, if these are given."""
    L, R, P, Q, S, T = sides
    (a, b), (c, d) = share_of(part, parts, sizes[0]), share_of(part, parts, sizes[-1])
    if len(Cs):
        whole, across = T.reshape(T.size), tiles.width_of(len(T), T.itemsize)
        for i in range(len(T)):
            T[i, a:b] = 0
        for k in range(len(Cs)):
            tiles.add_turned(Cs[k], a * across, across, b - a, len(T), whole, a, T.shape[1])
    between, narrow, small = added.between[part], added.narrow[part], added.small[part]
    pull_back(theta, sizes, j, True, a, b, Q, L, T, narrow, small, between, gradient)
    pull_back(theta, sizes, j, False, c, d, P, R, S, narrow, small, between, gradient)
    total = 0.0
    for i in range(len(R)):
        row, products = R[i, c:d], S[i, c:d]
        for k in range(len(row)):
            total += np.float64(row[k]) * np.float64(products[k])
    added.inner[part] = total
