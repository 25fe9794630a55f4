"""y = W x and y = U Vᵀ x for a batch of vectors, and their derivatives, compiled: parts of the batch side by side."""

import numpy as np

from rankscope.compiled import Array, compiled
from rankscope.team import together
from rankscope.weights.products import (
    added,
    column_sums,
    multiply,
    multiply_turned,
    padded,
    padded_turned,
    parts_of,
    share,
)


@compiled
def dense_forward(X: Array, W: Array, bias: Array, Y: Array, team: int) -> None:
    """Y ← X Wᵀ + b."""
    parts = parts_of(len(X), W.size, team)
    together(_times, parts, team, (parts, X, padded_turned(W), bias, Y))


@compiled
def dense_backward(dY: Array, X: Array, W: Array, dX: Array, team: int) -> tuple[Array, Array]:
    """The gradients of W and b; ∂X is written, where it is of any size."""
    parts = parts_of(len(X), W.size, team)
    dW, db = np.empty((parts, *W.shape), W.dtype), np.empty((parts, len(W)), W.dtype)
    together(_dense_backward, parts, team, (dY, X, padded(W), dX, dW, db))
    return added(dW), added(db)


@compiled
def low_rank_forward(X: Array, V: Array, U: Array, bias: Array, Y: Array, team: int) -> Array:
    """Y ← X V Uᵀ + b; returns X V."""
    Z = np.empty((len(X), V.shape[1]), X.dtype)
    parts = parts_of(len(X), V.size + U.size, team)
    together(_low_rank_forward, parts, team, (parts, X, padded(V), padded_turned(U), bias, Z, Y))
    return Z


@compiled
def low_rank_backward(
    dY: Array, X: Array, Z: Array, V: Array, U: Array, dX: Array, team: int
) -> tuple[Array, Array, Array]:
    """The gradients of V, U and b; ∂X is written, where it is of any size."""
    parts = parts_of(len(X), V.size + U.size, team)
    dV, dU = np.empty((parts, *V.shape), V.dtype), np.empty((parts, *U.shape), U.dtype)
    db = np.empty((parts, len(U)), U.dtype)
    together(_low_rank_backward, parts, team, (dY, X, Z, padded(U), padded_turned(V), dX, dV, dU, db))
    return added(dV), added(dU), added(db)


@compiled
def _times(part: int, parts: int, X: Array, right: Array, bias: Array, Y: Array) -> None:
    begin, end = share(part, parts, len(X))
    multiply(X[begin:end], right, bias, Y[begin:end])


@compiled
def _dense_backward(part: int, dY: Array, X: Array, right: Array, dX: Array, dW: Array, db: Array) -> None:
    begin, end = share(part, len(dW), len(X))
    if dX.size:
        multiply(dY[begin:end], right, np.zeros(X.shape[1], X.dtype), dX[begin:end])
    dW[part], db[part] = multiply_turned(dY[begin:end], X[begin:end]), column_sums(dY[begin:end])


@compiled
def _low_rank_forward(
    part: int, parts: int, X: Array, right: Array, left: Array, bias: Array, Z: Array, Y: Array
) -> None:
    begin, end = share(part, parts, len(X))
    multiply(X[begin:end], right, np.zeros(Z.shape[1], X.dtype), Z[begin:end])
    multiply(Z[begin:end], left, bias, Y[begin:end])


@compiled
def _low_rank_backward(
    part: int, dY: Array, X: Array, Z: Array, left: Array, right: Array, dX: Array, dV: Array, dU: Array, db: Array
) -> None:
    begin, end = share(part, len(dV), len(X))
    dZ, dy, x = np.empty((end - begin, Z.shape[1]), X.dtype), dY[begin:end], X[begin:end]
    multiply(dy, left, np.zeros(Z.shape[1], X.dtype), dZ)
    if dX.size:
        multiply(dZ, right, np.zeros(X.shape[1], X.dtype), dX[begin:end])
    dV[part], dU[part], db[part] = multiply_turned(x, dZ), multiply_turned(dy, Z[begin:end]), column_sums(dy)
