"""A small network φ on every entry of a matrix Z, and its derivative, compiled:

    φ(z) = Σ_j w₂ⱼ·activation(w₁ⱼ z + b₁ⱼ) + b₂.

CHUNK entries are taken at a time, and all hidden units of those before the next ones are fetched, so that the hidden
values, h times as many as the entries, are never written to memory. Threads share the entries.
"""

import numpy as np

from rankscope.addresses import at
from rankscope.compiled import Array, compiled, inlined, leaf
from rankscope.rooms import add_up, kept_room, rooms_in
from rankscope.team import together
from rankscope.weights.beside import ENOUGH, Places, Sizes

COST = 8
"""Multiply-adds that a hidden unit takes the time of."""
CHUNK = 256

# tanh(x) = x·p(x²)/q(x²) for |x| ≤ 7.9, beyond which it is 1 to float32: the rational minimax approximation of degrees
# 13 and 6 that Eigen uses. It has no branches and no table, so many entries are done at once.
_P = tuple(
    np.float32(c)
    for c in (
        -2.76076847742355e-16,
        2.00018790482477e-13,
        -8.60467152213735e-11,
        5.12229709037114e-08,
        1.48572235717979e-05,
        6.37261928875436e-04,
        4.89352455891786e-03,
    )
)
_Q = tuple(
    np.float32(c) for c in (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03)
)
_FLAT = np.float32(7.90531110763549805)
_HALF, _ONE, _ZERO = np.float32(0.5), np.float32(1.0), np.float32(0.0)


def made(rows: int, sizes: Sizes, itemsize: int) -> tuple[tuple[int, int], int]:
    """The shape of W; nothing is kept."""
    return (rows, sizes[0]), 0


@compiled
def forward(like: Array, sizes: Sizes, rows: int, places: Places, team: int) -> int:
    """W (rows×n) for Z (rows×n), w₁, b₁ and w₂ (3h) at p and b₂ at q; sizes are n, h and whether it is SiLU."""
    n, h, silu = sizes
    z, p, q, _, w, _ = places
    kept, parts = kept_room(like), _parts_of(rows * n, COST * h, team)
    Z, W, theta, b2 = at(z, (rows * n,), like), at(w, (rows * n,), like), at(p, (3 * h,), like), at(q, (1,), like)
    room = rooms_in(kept, parts, 2 * CHUNK)
    together(_forward, parts, team, (parts, Z, theta, b2, silu > 0, W, room))
    return kept.taken[0]


@leaf
def _forward(part: int, parts: int, Z: Array, theta: Array, b2: Array, silu: bool, W: Array, room: Array) -> None:
    z, w = room[part, :CHUNK], room[part, CHUNK : 2 * CHUNK]
    for begin in range(*_share_of(part, parts, len(Z)), CHUNK):
        size = min(CHUNK, len(Z) - begin)
        z[:], w[:] = 0, b2[0]
        for x in range(size):
            z[x] = Z[begin + x]
        add_units(z, theta, len(theta) // 3, silu, w)
        for x in range(size):
            W[begin + x] = w[x]


@compiled
def backward(like: Array, sizes: Sizes, rows: int, places: Places, team: int) -> int:
    """The gradients of Z, unless there is no room for it, and of what is at p and q for ∂W (rows×n)."""
    n, h, silu = sizes
    dw, z, _, p, _, dz, dp, dq, _ = places
    kept, parts = kept_room(like), _parts_of(rows * n, 2 * COST * h, team)
    dW, Z, dZ = at(dw, (rows * n,), like), at(z, (rows * n,), like), at(dz, (rows * n if dz else 0,), like)
    room, sums = rooms_in(kept, parts, 3 * CHUNK), (rooms_in(kept, parts, 3 * h), rooms_in(kept, parts, 1))
    together(_backward, parts, team, (parts, dW, Z, at(p, (3 * h,), like), silu > 0, dZ, sums, room))
    add_up(sums[0], 3 * h, at(dp, (1, 3 * h), like))
    add_up(sums[1], 1, at(dq, (1, 1), like))
    return kept.taken[0]


@leaf
def _backward(
    part: int,
    parts: int,
    dW: Array,
    Z: Array,
    theta: Array,
    silu: bool,
    dZ: Array,
    sums: tuple[Array, Array],
    room: Array,
) -> None:
    z, g, dz = room[part, :CHUNK], room[part, CHUNK : 2 * CHUNK], room[part, 2 * CHUNK : 3 * CHUNK]
    d_theta, d_b2 = sums[0][part], sums[1][part]
    d_theta[:], every = 0, 0.0
    for begin in range(*_share_of(part, parts, len(Z)), CHUNK):
        size = min(CHUNK, len(Z) - begin)
        z[:], g[:], dz[:] = 0, 0, 0
        for x in range(size):
            z[x], g[x] = Z[begin + x], dW[begin + x]
            every += np.float64(g[x])
        add_gradients(z, g, theta, len(theta) // 3, silu, dz, d_theta, 0.0)
        if dZ.size:
            for x in range(size):
                dZ[begin + x] = dz[x]
    d_b2[0] = every


@leaf
def _parts_of(entries: int, each: int, team: int) -> int:
    """Into how many parts so many entries are worth being divided, with so many multiply-adds for each."""
    return max(1, min(team, entries * each // ENOUGH, (entries + CHUNK - 1) // CHUNK))


@leaf
def _share_of(part: int, parts: int, entries: int) -> tuple[int, int]:
    """Where a part begins and ends: at a whole CHUNK, or where the entries do."""
    chunks = (entries + CHUNK - 1) // CHUNK
    return part * chunks // parts * CHUNK, min((part + 1) * chunks // parts * CHUNK, entries)


@inlined
def add_units(z: Array, theta: Array, h: int, silu: bool, w: Array) -> None:
    """w += Σ_j w₂ⱼ·activation(w₁ⱼ z + b₁ⱼ) for CHUNK entries z; theta holds h numbers of each kind, w₁, b₁ and w₂."""
    for j in range(h):
        w1, b1, w2 = theta[j], theta[h + j], theta[2 * h + j]
        if silu:
            for x in range(CHUNK):
                a = w1 * z[x] + b1
                w[x] += w2 * a * _sigmoid(a)
        else:
            for x in range(CHUNK):
                a = w1 * z[x] + b1
                w[x] += w2 * (_ZERO if a < _ZERO else a)


@inlined
def add_gradients(
    z: Array, g: Array, theta: Array, h: int, silu: bool, dz: Array, d_theta: Array, zero: np.floating
) -> None:
    """Those with respect to z and theta, for g = ∂/∂w, to what is in dz and d_theta.

    Sums over the entries begin at ``zero`` and have its precision. In double the order of a sum changes no bit: the
    compiler chooses it, and anew for each of the copies that it makes of what threads work on.
    """
    for j in range(h):
        w1, b1, w2 = theta[j], theta[h + j], theta[2 * h + j]
        d_w1, d_b1, d_w2 = zero, zero, zero
        if silu:
            for x in range(CHUNK):
                a = w1 * z[x] + b1
                s = _sigmoid(a)
                d_w2 += g[x] * a * s
                da = g[x] * w2 * s * (_ONE + a * (_ONE - s))
                d_b1 += da
                d_w1 += da * z[x]
                dz[x] += da * w1
        else:
            for x in range(CHUNK):
                a = w1 * z[x] + b1
                d_w2 += g[x] * (_ZERO if a < _ZERO else a)
                da = _ZERO if a <= _ZERO else g[x] * w2
                d_b1 += da
                d_w1 += da * z[x]
                dz[x] += da * w1
        d_theta[j] += d_w1
        d_theta[h + j] += d_b1
        d_theta[2 * h + j] += d_w2


@leaf
def _sigmoid(a: np.float32) -> np.float32:
    """1/(1 + e⁻ᵃ) = ½ + ½ tanh(a/2); 0 and 1 themselves far out, where a product with a would show the difference."""
    x = _HALF * a
    x = -_FLAT if x < -_FLAT else x
    x = _FLAT if x > _FLAT else x
    s = x * x
    p = _P[0]
    p = p * s + _P[1]
    p = p * s + _P[2]
    p = p * s + _P[3]
    p = p * s + _P[4]
    p = p * s + _P[5]
    p = p * s + _P[6]
    q = ((_Q[0] * s + _Q[1]) * s + _Q[2]) * s + _Q[3]
    inside = _HALF + _HALF * x * p / q
    return _ZERO if x == -_FLAT else _ONE if x == _FLAT else inside
