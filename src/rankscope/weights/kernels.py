"""A small network φ on every entry of a matrix, compiled: φ(z) = Σ_j w₂ⱼ·activation(w₁ⱼ z + b₁ⱼ) + b₂.

Both passes take a few hundred entries at a time and all hidden units of those before the next ones are fetched, so the
hidden values, h times as many as the entries, are never written to memory. No Python is held while a kernel runs.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from rankscope.compiled import Array, compiled, leaf

CHUNK = 256

# tanh(x) = x·p(x²)/q(x²) for |x| ≤ 7.9, beyond which it is 1 in float32: the rational minimax approximation of degrees
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


@leaf
def _sigmoid(a: np.float32) -> np.float32:
    """1/(1 + e⁻ᵃ) = ½ + ½ tanh(a/2)."""
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
    return _HALF + _HALF * x * p / q


@compiled
def _forward(Z: Array, theta: Array, silu: bool, W: Array) -> None:
    """W ← φ(Z), row i by the parameters of row i, w₁ b₁ w₂ b₂."""
    (rows, n), h = Z.shape, theta.shape[1] // 3
    z, w = np.zeros(CHUNK, np.float32), np.zeros(CHUNK, np.float32)
    for i in range(rows):
        for start in range(0, n, CHUNK):
            size = min(CHUNK, n - start)
            for x in range(size):
                z[x] = Z[i, start + x]
            for x in range(CHUNK):
                w[x] = theta[i, 3 * h]
            for j in range(h):
                w1, b1, w2 = theta[i, j], theta[i, h + j], theta[i, 2 * h + j]
                if silu:
                    for x in range(CHUNK):
                        a = w1 * z[x] + b1
                        w[x] += w2 * a * _sigmoid(a)
                else:
                    for x in range(CHUNK):
                        a = w1 * z[x] + b1
                        w[x] += w2 * (_ZERO if a < _ZERO else a)
            for x in range(size):
                W[i, start + x] = w[x]


@compiled
def _backward(G: Array, Z: Array, theta: Array, silu: bool, gZ: Array, g_theta: Array) -> None:
    """The gradients with respect to Z and θ for G = ∂/∂W."""
    (rows, n), h = Z.shape, theta.shape[1] // 3
    g_theta[:] = _ZERO
    z, g, gz = np.zeros(CHUNK, np.float32), np.zeros(CHUNK, np.float32), np.zeros(CHUNK, np.float32)
    for i in range(rows):
        for start in range(0, n, CHUNK):
            size = min(CHUNK, n - start)
            for x in range(size):
                z[x], g[x] = Z[i, start + x], G[i, start + x]
            for x in range(size, CHUNK):
                g[x] = _ZERO
            g_b2 = _ZERO
            for x in range(CHUNK):
                gz[x] = _ZERO
                g_b2 += g[x]
            g_theta[i, 3 * h] += g_b2
            for j in range(h):
                w1, b1, w2 = theta[i, j], theta[i, h + j], theta[i, 2 * h + j]
                g_w1, g_b1, g_w2 = _ZERO, _ZERO, _ZERO
                if silu:
                    for x in range(CHUNK):
                        a = w1 * z[x] + b1
                        s = _sigmoid(a)
                        g_w2 += g[x] * a * s
                        ga = g[x] * w2 * s * (_ONE + a * (_ONE - s))
                        g_b1 += ga
                        g_w1 += ga * z[x]
                        gz[x] += ga * w1
                else:
                    for x in range(CHUNK):
                        a = w1 * z[x] + b1
                        g_w2 += g[x] * (_ZERO if a < _ZERO else a)
                        ga = g[x] * w2 if a > _ZERO else _ZERO
                        g_b1 += ga
                        g_w1 += ga * z[x]
                        gz[x] += ga * w1
                g_theta[i, j] += g_w1
                g_theta[i, h + j] += g_b1
                g_theta[i, 2 * h + j] += g_w2
            for x in range(size):
                gZ[i, start + x] = gz[x]


@torch.library.custom_op("rankscope::mlp", mutates_args=(), device_types="cpu")
def mlp(Z: Tensor, theta: Tensor, silu: bool) -> Tensor:
    """φ of each row by parameters of its own, for float32 on a CPU.

    Args:
        Z: (rows × entries).
        theta: w₁, b₁, w₂ and b₂, one after the other (rows × 3h + 1).
        silu: whether the activation is SiLU; otherwise it is ReLU.
    """
    W = torch.empty(Z.shape)
    _forward(Z.numpy(), theta.numpy(), silu, W.numpy())
    return W


@torch.library.custom_op("rankscope::mlp_backward", mutates_args=(), device_types="cpu")
def _mlp_backward(G: Tensor, Z: Tensor, theta: Tensor, silu: bool) -> tuple[Tensor, Tensor]:
    gZ, g_theta = torch.empty(Z.shape), torch.empty(theta.shape)
    _backward(G.numpy(), Z.numpy(), theta.numpy(), silu, gZ.numpy(), g_theta.numpy())
    return gZ, g_theta


def _save(ctx: Any, inputs: tuple[Tensor, Tensor, bool], output: Tensor) -> None:
    Z, theta, ctx.silu = inputs
    ctx.save_for_backward(Z, theta)


def _differentiate(ctx: Any, G: Tensor) -> tuple[Tensor, Tensor, None]:
    return *_mlp_backward(G, *ctx.saved_tensors, ctx.silu), None


mlp.register_autograd(_differentiate, setup_context=_save)
