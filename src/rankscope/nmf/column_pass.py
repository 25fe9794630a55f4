"""One pass over the last factor, compiled: moved, and what the next iteration and a history read off it.

    X ← moved(X, C),   Q = X Xᵀ,   ⟨C, X⟩

Its columns do not interact, so they move side by side (``lanes``), parts of them on so many threads (``team``).
"""

import numpy as np

from rankscope.compiled import Array, compiled, inner
from rankscope.nmf.columns import add_gram, room_for_gram
from rankscope.nmf.lanes import (
    load_lanes,
    move_lanes,
    parts_of,
    product_of,
    room_for_lanes,
    store_lanes,
    violation_of,
)
from rankscope.nmf.rules.rule import Move
from rankscope.nmf.tiles import LANES, room_for_rows, share_of, symmetric, to_rows
from rankscope.rooms import add_up, add_up_columns, rooms
from rankscope.team import together


@compiled
def move_columns(
    X: Array, P: Array, C: Array, l1: float, move: Move, measure: bool, moved: Array, Q: Array, team: int
) -> tuple[float, float, float]:
    """Columns moved, each by itself; their Gram, their product with C, and the sums of the KKT residual.

    Args:
        X: the factor before (r×n).
        P: the second derivative for each column (r×r).
        C: (r×n).
        l1: what is subtracted from C.
        move: how to move.
        measure: whether ‖v‖² and ‖C‖² of the factor before are wanted (see ``Subproblem.residual``).
        moved: gets the factor after (r×n).
        Q: gets its Gram (r×r) in float64; of no size where only the factor is wanted.
        team: how many threads.

    Returns:
        ⟨C, X⟩ after the move, in float64, ‖v‖², ‖C‖²; 0 where not wanted.
    """
    return move_columns_for_parts(X, P, np.empty((0, 0), C.dtype), C, l1, move, measure, moved, Q, team)


@inner
def move_columns_for_parts(
    X: Array, P: Array, Cs: Array, C: Array, l1: float, move: Move, measure: bool, moved: Array, Q: Array, team: int
) -> tuple[float, float, float]:
    """The same, where C is yet to be the sum of parts Cs, if there are any: each thread adds up its own columns."""
    parts = parts_of(X.shape[1], team)
    Qs, sums = rooms(parts, Q.size, Q), np.zeros((parts, 3))
    together(_move_columns, parts, team, (X, P, Cs, C, l1, move, measure, moved, Qs, sums))
    if Q.size:
        add_up(Qs, len(Q), Q)
    inner, violation, scale = 0.0, 0.0, 0.0
    for k in range(parts):
        inner, violation, scale = inner + sums[k, 0], violation + sums[k, 1], scale + sums[k, 2]
    return inner, violation, scale


@inner
def _move_columns(
    k: int,
    X: Array,
    P: Array,
    Cs: Array,
    C: Array,
    l1: float,
    move: Move,
    measure: bool,
    moved: Array,
    Qs: Array,
    sums: Array,
) -> None:
    (r, n), curvature = X.shape, P.astype(X.dtype)
    x, spare, c = room_for_lanes(r, X.dtype), room_for_lanes(r, X.dtype), room_for_lanes(r, X.dtype)
    F, (Q, wide) = room_for_rows(r, X), room_for_gram(r, Qs)
    inner, violation, scale = 0.0, 0.0, 0.0
    begin, end = share_of(k, len(sums), n)
    if len(Cs):
        add_up_columns(Cs, begin, end, C)
    for start in range(begin, end, LANES):
        lanes = min(LANES, end - start)
        load_lanes(X, start, lanes, x)
        load_lanes(C, start, lanes, c)
        if measure:
            violation += violation_of(x, c, curvature, l1, lanes, spare)
            scale += product_of(c, c, r, lanes)
        y = move_lanes(x, c, curvature, l1, move, lanes, spare)
        store_lanes(y, lanes, moved, start)
        if Qs.size:
            inner += product_of(c, y, r, lanes)
            to_rows(y, r, F)
            add_gram(F, r, y, lanes, wide, Q)
    if Qs.size:
        symmetric(Q, Qs[k, : r * r].reshape(r, r))
    sums[k, 0], sums[k, 1], sums[k, 2] = inner, violation, scale


@inner
def go_beyond(X: Array, before: Array, beta: float, start: Array, Q: Array, team: int) -> None:
    """start ← [X + β (X − X before)]₊ (r×n), and Q ← its Gram in float64; by so many threads."""
    parts = parts_of(X.shape[1], team)
    Qs = rooms(parts, Q.size, Q)
    together(_go_beyond, parts, team, (X, before, beta, start, Qs))
    add_up(Qs, len(Q), Q)


@inner
def _go_beyond(k: int, X: Array, before: Array, beta: float, start: Array, Qs: Array) -> None:
    (r, n), step, zero = X.shape, X.dtype.type(beta), X.dtype.type(0)
    x, F, (Q, wide) = room_for_lanes(r, X.dtype), room_for_rows(r, X), room_for_gram(r, Qs)
    begin, end = share_of(k, len(Qs), n)
    for j in range(r):
        now, then, to = X[j, begin:end], before[j, begin:end], start[j, begin:end]
        for i in range(end - begin):
            value = now[i] + step * (now[i] - then[i])
            to[i] = zero if value < zero else value
    for first in range(begin, end, LANES):
        lanes = min(LANES, end - first)
        load_lanes(start, first, lanes, x)
        to_rows(x, r, F)
        add_gram(F, r, x, lanes, wide, Q)
    symmetric(Q, Qs[k, : r * r].reshape(r, r))
