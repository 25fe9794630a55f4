"""y = W x for a batch of vectors, and its derivative, compiled: parts of the batch side by side."""

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
def dense_forward(X: Array, W: Array, bias: Array, team: int) -> Array:
    """X Wᵀ + b."""
    Y = np.empty((len(X), len(W)), X.dtype)
    parts = parts_of(len(X), W.size, team)
    together(_times, parts, team, (parts, X, padded_turned(W), bias, Y))
    return Y


@compiled
def dense_backward(dY: Array, X: Array, W: Array, wanted: bool, team: int) -> tuple[Array, Array, Array]:
    """The gradients of X, if that is wanted, W and b."""
    dX = np.empty((len(X) if wanted else 0, X.shape[1]), X.dtype)
    parts = parts_of(len(X), W.size, team)
    dW, db = np.empty((parts, *W.shape), W.dtype), np.empty((parts, len(W)), W.dtype)
    together(_dense_backward, parts, team, (dY, X, padded(W), dX, dW, db))
    return dX, added(dW), added(db)


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
