"""y = W x and y = U Vᵀ x for a batch of vectors, and their derivatives, compiled."""

import numpy as np

from rankscope.compiled import Array, compiled
from rankscope.weights.products import column_sums, multiply, multiply_turned, padded, padded_turned


@compiled
def dense_forward(X: Array, W: Array, bias: Array, Y: Array) -> None:
    """Y ← X Wᵀ + b."""
    multiply(X, padded_turned(W), bias, Y)


@compiled
def dense_backward(dY: Array, X: Array, W: Array, dX: Array) -> tuple[Array, Array]:
    """The gradients of W and b; ∂X is written, where it is of any size."""
    if dX.size:
        multiply(dY, padded(W), np.zeros(X.shape[1], X.dtype), dX)
    return multiply_turned(dY, X), column_sums(dY)


@compiled
def low_rank_forward(X: Array, V: Array, U: Array, bias: Array, Y: Array) -> Array:
    """Y ← X V Uᵀ + b; returns X V."""
    Z = np.empty((len(X), V.shape[1]), X.dtype)
    multiply(X, padded(V), np.zeros(V.shape[1], X.dtype), Z)
    multiply(Z, padded_turned(U), bias, Y)
    return Z


@compiled
def low_rank_backward(dY: Array, X: Array, Z: Array, V: Array, U: Array, dX: Array) -> tuple[Array, Array, Array]:
    """The gradients of V, U and b; ∂X is written, where it is of any size."""
    dZ = np.empty_like(Z)
    multiply(dY, padded(U), np.zeros(Z.shape[1], X.dtype), dZ)
    if dX.size:
        multiply(dZ, padded_turned(V), np.zeros(X.shape[1], X.dtype), dX)
    return multiply_turned(X, dZ), multiply_turned(dY, Z), column_sums(dY)
