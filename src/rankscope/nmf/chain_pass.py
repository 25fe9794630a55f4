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

from rankscope.compiled import Array, Integers, compiled, inner, leaf
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
    inner: float
    """⟨S, R⟩ in float64."""
    gradient: Array
    """Of ½‖A − L R‖², for all entries of θ."""


def look(A: Packed | Array, theta: Array, sizes: Integers, j: int, team: int) -> Look:
    """One pass over A (m×n), by so many threads."""
    m, n, r = sizes[0], sizes[-1], sizes[j]
    (P, Q), gradient = np.empty((2, r, r)), np.empty_like(theta)
    S, T = np.empty((r, n), theta.dtype), np.empty((r, m), theta.dtype)
    if isinstance(A, Packed):
        inner = _look_at_packed(A, theta, sizes, j, team, P, Q, S, T, gradient)
        return Look(P, Q, S, T, inner, gradient)
    L, R, nothing = np.empty_like(T), np.empty_like(S), np.empty((0, 0), theta.dtype)
    _take_sides(theta, sizes, j, team, L, R, P, Q)
    inner = row_pass.evaluate_rows(A, 0, R, nothing, L, T, S, np.empty((r, r)), team)
    _take_gradient(theta, sizes, j, (L, R, P, Q, S, T), team, gradient)
    return Look(P, Q, S, T, inner, gradient)


@compiled
def _look_at_packed(
    A: Packed,
    theta: Array,
    sizes: Integers,
    j: int,
    team: int,
    P: Array,
    Q: Array,
    S: Array,
    T: Array,
    gradient: Array,
) -> float:
    L, R, F, directions = np.empty_like(T), np.empty_like(S), tiles.room_in_rows(sizes[0], S), tiles.room(sizes[-1], S)
    together(_side, 2, min(team, 2), (theta, sizes, j, L, R, P, Q, F, directions))
    inner = packed_pass.evaluate_packed(A, R, F, directions, S, T, team)
    together(_gradient_of_side, 2, min(team, 2), (theta, sizes, j, (L, R, P, Q, S, T), gradient))
    return inner


@compiled
def _take_sides(theta: Array, sizes: Integers, j: int, team: int, L: Array, R: Array, P: Array, Q: Array) -> None:
    """Lᵀ (r_j×m), R (r_j×n) and in float64 LᵀL and RRᵀ."""
    nowhere = np.empty(0, theta.dtype)
    together(_side, 2, min(team, 2), (theta, sizes, j, L, R, P, Q, nowhere, nowhere))


@inner
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
    """What lies left of the place, or right of it; and as a pass over a packed A takes it, where there is room."""
    if part == 0:
        _form(_left(theta, sizes, j), L, P)
        if F.size:
            tiles.lay_in_rows(L, F)
    else:
        _form(_right(theta, sizes, j), R, Q)
        if directions.size:
            tiles.lay(R.T, directions)


Seen = tuple[Array, Array, Array, Array, Array, Array]


@compiled
def _take_gradient(theta: Array, sizes: Integers, j: int, seen: Seen, team: int, whole: Array) -> None:
    """∇ ½‖A − L R‖² from Lᵀ, R, P, Q, S and Tᵀ."""
    together(_gradient_of_side, 2, min(team, 2), (theta, sizes, j, seen, whole))


@inner
def _gradient_of_side(part: int, theta: Array, sizes: Integers, j: int, seen: Seen, whole: Array) -> None:
    L, R, P, Q, S, T = seen
    if part == 0:
        for i, part_of_it in enumerate(_pulled_back(_left(theta, sizes, j), _for_product(Q, L, T))):
            _copy(part_of_it.T, _factor(whole, sizes, j - 1 - i))
    else:
        for i, part_of_it in enumerate(_pulled_back(_right(theta, sizes, j), _for_product(P, R, S))):
            _copy(part_of_it, _factor(whole, sizes, j + i))


@inner
def _for_product(P: Array, R: Array, S: Array) -> Array:
    """∂/∂R = P R − S."""
    E = _combined(P.astype(R.dtype), R)
    for i in range(len(E)):
        for k in range(E.shape[1]):
            E[i, k] -= S[i, k]
    return E


@inner
def _left(theta: Array, sizes: Integers, j: int) -> list[Array]:
    """F₁ᵀ, …, F_jᵀ."""
    return [_transposed(_factor(theta, sizes, i)) for i in range(j)]


@inner
def _right(theta: Array, sizes: Integers, j: int) -> list[Array]:
    """F_L, …, F_{j+1}."""
    return [_factor(theta, sizes, i) for i in range(len(sizes) - 2, j - 1, -1)]


@inner
def _factor(theta: Array, sizes: Integers, i: int) -> Array:
    """F_{i+1}, where it lies in θ."""
    begin = 0
    for k in range(i):
        begin += sizes[k] * sizes[k + 1]
    a, b = sizes[i], sizes[i + 1]
    return theta[begin : begin + a * b].reshape(a, b)


@inner
def _form(side: list[Array], whole: Array, gram: Array) -> None:
    """B = … W₂ W₁ B₀, and B Bᵀ, both by way of float64."""
    B = side[0].astype(np.float64)
    for W in side[1:]:
        B = _combined(W.astype(np.float64), B)
    _copy(B, whole)
    for i in range(len(B)):
        for k in range(0, i + 1, 4):
            _four_dots(B[i], B, k, gram[i])
        for k in range(i):
            gram[k, i] = gram[i, k]


@inner
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


@inner
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


@inner
def _dots(E: Array, B: Array) -> Array:
    """E Bᵀ, for long rows of both."""
    whole = np.empty((len(E), len(B)), E.dtype)
    for i in range(len(E)):
        for k in range(0, len(B), 4):
            _four_dots(E[i], B, k, whole[i])
    return whole


@leaf
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


@inner
def _transposed(B: Array) -> Array:
    whole = np.empty((B.shape[1], len(B)), B.dtype)
    _copy(B.T, whole)
    return whole


@leaf
def _copy(B: Array, whole: Array) -> None:
    for i in range(len(whole)):
        for k in range(whole.shape[1]):
            whole[i, k] = B[i, k]
