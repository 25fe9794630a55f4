"""y = W x for a batch of vectors, and its derivative, compiled: parts of the batch side by side."""

import numpy as np

from rankscope.compiled import Array, inner
from rankscope.team import together
from rankscope.vectors import add_up
from rankscope.weights.products import (
    multiply,
    multiply_turned,
    padded,
    padded_turned,
    parts_of,
    share,
    sum_columns,
)


@inner
def dense_forward(X: Array, W: Array, bias: Array, Y: Array, team: int) -> None:
    """Y ← X Wᵀ + b."""
    parts = parts_of(len(X), W.size, team)
    together(_times, parts, team, (parts, X, padded_turned(W), bias, Y))


@inner
def dense_backward(dY: Array, X: Array, W: Array, dX: Array, dW: Array, db: Array, team: int) -> None:
    """The gradients of X, unless there is no room for it, W and b."""
    parts = parts_of(len(X), W.size, team)
    dWs, dbs = np.empty((parts, *W.shape), W.dtype), np.empty((parts, 1, len(W)), W.dtype)
    together(_dense_backward, parts, team, (dY, X, padded(W), dX, dWs, dbs))
    add_up(dWs, dW)
    add_up(dbs, db.reshape(1, db.size))


@inner
def _times(part: int, parts: int, X: Array, right: Array, bias: Array, Y: Array) -> None:
    begin, end = share(part, parts, len(X))
    multiply(X[begin:end], right, bias, Y[begin:end])


@inner
def _dense_backward(part: int, dY: Array, X: Array, right: Array, dX: Array, dWs: Array, dbs: Array) -> None:
    begin, end = share(part, len(dWs), len(X))
    if dX.size:
        multiply(dY[begin:end], right, np.zeros(X.shape[1], X.dtype), dX[begin:end])
    multiply_turned(dY[begin:end], X[begin:end], dWs[part])
    sum_columns(dY[begin:end], dbs[part, 0])
