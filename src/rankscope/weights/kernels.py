"""A small network φ on the entries of each member of a population, by parameters of its own, compiled (``mlp_pass``).

As an operation of torch's it can be mapped over and recorded. No Python is held while a kernel runs.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from rankscope.compiled import Array, compiled
from rankscope.weights.mlp_pass import CHUNK, add_gradients, add_units


@compiled
def _forward(Z: Array, theta: Array, silu: bool, W: Array) -> None:
    """W ← φ(Z), row i by the parameters of row i, w₁ b₁ w₂ b₂."""
    (rows, n), h = Z.shape, theta.shape[1] // 3
    z, w = np.zeros(CHUNK, np.float32), np.zeros(CHUNK, np.float32)
    for i in range(rows):
        for start in range(0, n, CHUNK):
            size = min(CHUNK, n - start)
            w[:] = theta[i, 3 * h]
            for x in range(size):
                z[x] = Z[i, start + x]
            add_units(z, theta[i], h, silu, w)
            for x in range(size):
                W[i, start + x] = w[x]


@compiled
def _backward(G: Array, Z: Array, theta: Array, silu: bool, gZ: Array, g_theta: Array) -> None:
    """The gradients with respect to Z and θ for G = ∂/∂W."""
    (rows, n), h = Z.shape, theta.shape[1] // 3
    g_theta[:] = 0
    z, g, gz = np.zeros(CHUNK, np.float32), np.zeros(CHUNK, np.float32), np.zeros(CHUNK, np.float32)
    for i in range(rows):
        for start in range(0, n, CHUNK):
            size = min(CHUNK, n - start)
            z[:], g[:], gz[:], g_b2 = 0, 0, 0, 0.0
            for x in range(size):
                z[x], g[x] = Z[i, start + x], G[i, start + x]
                g_b2 += np.float64(g[x])
            g_theta[i, 3 * h] += g_b2
            add_gradients(z, g, theta[i], h, silu, gz, g_theta[i], np.float32(0))
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
