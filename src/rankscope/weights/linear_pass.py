"""y = W x for a batch of vectors, and its derivative, compiled: parts of the batch side by side."""

import numpy as np

from rankscope.compiled import Array, inner, leaf
from rankscope.matrices import whole
from rankscope.team import together
from rankscope.vectors import add_up, rooms
from rankscope.weights.products import (
    multiply,
    multiply_turned,
    padded,
    padded_turned,
    parts_of,
    room_for_near,
    share,
    sum_columns,
)


@inner
def dense_forward(X: Array, W: Array, bias: Array, Y: Array, team: int) -> None:
    """Y ← X Wᵀ + b."""
    parts = parts_of(len(X), W.size, team)
    together(_times, parts, team, (parts, X, padded_turned(W), bias, Y, room_for_near(parts, len(W), X)))


@inner
def dense_backward(dY: Array, X: Array, W: Array, dX: Array, dW: Array, db: Array, team: int) -> None:
    """The gradients of X, unless there is no room for it, W and b."""
    (o, i), parts = W.shape, parts_of(len(X), W.size, team)
    dWs, dbs, zero = rooms(parts, o * whole(i, X), X), rooms(parts, o, X), np.zeros(i, X.dtype)
    room = room_for_near(parts, o, X), room_for_near(parts, i, X)
    together(_dense_backward, parts, team, (parts, dY, X, padded(W), zero, dX, dWs, dbs, room))
    add_up(dWs, whole(i, X), dW)
    add_up(dbs, o, db.reshape(1, o))


@leaf
def _times(part: int, parts: int, X: Array, right: Array, bias: Array, Y: Array, room: Array) -> None:
    begin, end = share(part, parts, len(X))
    multiply(X[begin:end], right, bias, Y[begin:end], room[part])


@leaf
def _dense_backward(
    part: int,
    parts: int,
    dY: Array,
    X: Array,
    right: Array,
    zero: Array,
    dX: Array,
    dWs: Array,
    dbs: Array,
    room: tuple[Array, Array],
) -> None:
    begin, end = share(part, parts, len(X))
    left, below = room[0][part], room[1][part]
    dWs[part] = 0
    dbs[part] = 0
    if dX.size:
        multiply(dY[begin:end], right, zero, dX[begin:end], below)
    multiply_turned(dY[begin:end], X[begin:end], dWs[part], left, below)
    sum_columns(dY[begin:end], dbs[part])
