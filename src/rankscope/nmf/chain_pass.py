"""What a joint step needs of a chain, compiled: on a small problem its torch calls would cost more than A does.

With A ≈ L R, L = F₁ … F_j, R = F_{j+1} … F_L, and T = A Rᵀ, S = LᵀA of a pass over A,

    P = LᵀL,   Q = RRᵀ,   ∂/∂L = L Q − T,   ∂/∂R = P R − S.

Either side is a long matrix B₀ and small ones that it is multiplied by, B_i = W_i B_{i-1}: to the right F_L and
F_{L-1}, …, F_{j+1}; to the left, transposed, F₁ᵀ and F₂ᵀ, …, F_jᵀ. From E_k, the gradient for the last B_k, follow

    ∂/∂W_i = E_i B_{i-1}ᵀ,   E_{i-1} = W_iᵀ E_i,   ∂/∂B₀ = E₀.

A chain is given as θ, all of its entries in one vector, factor after factor, with its sizes m, r₁, …, r_{L-1}, n.
"""

from typing import NamedTuple

import numpy as np

from rankscope.compiled import Array, Integers, compiled
from rankscope.nmf import packed_pass, row_pass, tiles
from rankscope.nmf.packed_pass import Packed
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
    inner: Array
    """⟨S, R⟩ in float64, of no dimension."""
    gradient: Array
    """Of ½‖A − L R‖², for all entries of θ."""


def look(A: Packed | Array, theta: Array, sizes: Integers, j: int, team: int) -> Look:
    """One pass over A (m×n), by so many threads."""
    if isinstance(A, Packed):
        return Look(*_look_at_packed(A, theta, sizes, j, team))
    L, R, P, Q, _, _ = _sides(theta, sizes, j, team)
    T = np.empty_like(L)
    S, _, inner = row_pass.evaluate_rows(A, 0, R, np.empty((0, 0), A.dtype), L, T, team)
    return Look(P, Q, S, T, np.array(inner), _gradient(theta, sizes, j, (L, R, P, Q, S, T), team))


@compiled
def _look_at_packed(
    A: Packed, theta: Array, sizes: Integers, j: int, team: int
) -> tuple[Array, Array, Array, Array, Array, Array]:
    L, R, P, Q, F, directions = _sides(theta, sizes, j, team)
    S, T, inner = packed_pass.evaluate_packed(A, R, F, directions, sizes[0], team)
    return P, Q, S, T, np.array(inner), _gradient(theta, sizes, j, (L, R, P, Q, S, T), team)


@compiled
def _sides(theta: Array, sizes: Integers, j: int, team: int) -> tuple[Array, Array, Array, Array, Array, Array]:
    """Lᵀ (r_j×m), R (r_j×n), in float64 LᵀL and RRᵀ, and both sides as a pass over a packed A takes them."""
    r, m, n = sizes[j], sizes[0], sizes[-1]
    L, R, P, Q = np.empty((r, m), theta.dtype), np.empty((r, n), theta.dtype), np.empty((r, r)), np.empty((r, r))
    F, directions = tiles.room_in_rows(m, R), tiles.room(n, R)
    together(_side, 2, min(team, 2), (theta, sizes, j, L, R, P, Q, F, directions))
    return L, R, P, Q, F, directions


@compiled
def _side(
    part: int,
    theta: Array,
    sizes: Integers,
    j: int,
    L: Array,
    R: Array,
    P: Array,
    Q: Array,
    F: Array,
    directions: Array,
) -> None:
    """What lies left of the place, or right of it."""
    if part == 0:
        wide = _product(_left(theta, sizes, j))
        L[:], P[:] = wide, _gram(wide)
        tiles.lay_in_rows(L, F)
    else:
        wide = _product(_right(theta, sizes, j))
        R[:], Q[:] = wide, _gram(wide)
        tiles.lay(R.T, directions)


Seen = tuple[Array, Array, Array, Array, Array, Array]


@compiled
def _gradient(theta: Array, sizes: Integers, j: int, seen: Seen, team: int) -> Array:
    """∇ ½‖A − L R‖² from Lᵀ, R, P, Q, S and Tᵀ."""
    whole = np.empty_like(theta)
    together(_gradient_of_side, 2, min(team, 2), (theta, sizes, j, seen, whole))
    return whole


@compiled
def _gradient_of_side(part: int, theta: Array, sizes: Integers, j: int, seen: Seen, whole: Array) -> None:
    L, R, P, Q, S, T = seen
    if part == 0:
        to_left = _combined(Q.astype(theta.dtype), L) - T
        for i, gradient in enumerate(_pulled_back(_left(theta, sizes, j), to_left)):
            _factor(whole, sizes, j - 1 - i)[:] = gradient.T
    else:
        to_right = _combined(P.astype(theta.dtype), R) - S
        for i, gradient in enumerate(_pulled_back(_right(theta, sizes, j), to_right)):
            _factor(whole, sizes, j + i)[:] = gradient


@compiled
def _left(theta: Array, sizes: Integers, j: int) -> list[Array]:
    """F₁ᵀ, …, F_jᵀ."""
    return [_transposed(_factor(theta, sizes, i)) for i in range(j)]


@compiled
def _right(theta: Array, sizes: Integers, j: int) -> list[Array]:
    """F_L, …, F_{j+1}."""
    return [_factor(theta, sizes, i) for i in range(len(sizes) - 2, j - 1, -1)]


@compiled
def _factor(theta: Array, sizes: Integers, i: int) -> Array:
    """F_{i+1}, where it lies in θ."""
    begin = 0
    for k in range(i):
        begin += sizes[k] * sizes[k + 1]
    a, b = sizes[i], sizes[i + 1]
    return theta[begin : begin + a * b].reshape(a, b)


@compiled
def _product(side: list[Array]) -> Array:
    """… W₂ W₁ B₀ in float64."""
    B = side[0].astype(np.float64)
    for W in side[1:]:
        B = _combined(W.astype(np.float64), B)
    return B


@compiled
def _pulled_back(side: list[Array], E: Array) -> list[Array]:
    """The gradients for W_k, …, W₁ and B₀, from that for W_k … W₁ B₀."""
    before = [side[0]]
    for W in side[1:-1]:
        before.append(_combined(W, before[-1]))
    parts = []
    for i in range(len(side) - 1, 0, -1):
        parts.append(_dots(E, before[i - 1]))
        E = _combined(_transposed(side[i]), E)
    parts.append(E)
    return parts


@compiled
def _combined(W: Array, B: Array) -> Array:
    """W B, for long rows of B: four of them at a time, for a quarter of the loads and stores."""
    (p, q), zero = W.shape, W.dtype.type(0)
    whole = np.zeros((p, B.shape[1]), W.dtype)
    for i in range(p):
        w, out = W[i], whole[i]
        for k in range(0, q, 4):
            b0, b1, b2, b3 = B[k], B[min(k + 1, q - 1)], B[min(k + 2, q - 1)], B[min(k + 3, q - 1)]
            w0, w1 = w[k], w[k + 1] if k + 1 < q else zero
            w2, w3 = w[k + 2] if k + 2 < q else zero, w[k + 3] if k + 3 < q else zero
            for c in range(len(out)):
                out[c] += w0 * b0[c] + w1 * b1[c] + w2 * b2[c] + w3 * b3[c]
    return whole


@compiled
def _dots(E: Array, B: Array) -> Array:
    """E Bᵀ, for long rows of both."""
    whole = np.empty((len(E), len(B)), E.dtype)
    for i in range(len(E)):
        for k in range(0, len(B), 4):
            _four_dots(E[i], B, k, whole[i])
    return whole


@compiled
def _gram(B: Array) -> Array:
    """B Bᵀ."""
    r = len(B)
    whole = np.empty((r, r), B.dtype)
    for i in range(r):
        for k in range(0, i + 1, 4):
            _four_dots(B[i], B, k, whole[i])
        whole[: i + 1, i] = whole[i, : i + 1]
    return whole


@compiled
def _four_dots(e: Array, B: Array, k: int, out: Array) -> None:
    """out_k … out_{k+3} ← e times these rows of B, as far as there are so many."""
    last = len(B) - 1
    k1, k2, k3 = min(k + 1, last), min(k + 2, last), min(k + 3, last)
    b0, b1, b2, b3 = B[k], B[k1], B[k2], B[k3]
    s0 = s1 = s2 = s3 = e.dtype.type(0)
    for c in range(len(e)):
        s0 += e[c] * b0[c]
        s1 += e[c] * b1[c]
        s2 += e[c] * b2[c]
        s3 += e[c] * b3[c]
    out[k], out[k1], out[k2], out[k3] = s0, s1, s2, s3


@compiled
def _transposed(B: Array) -> Array:
    return np.ascontiguousarray(B.T)
