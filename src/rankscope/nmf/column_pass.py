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
    room_for_lanes,
    share_of,
    square_of,
    store_lanes,
    violation_of,
)
from rankscope.nmf.rules.rule import Move
from rankscope.nmf.tiles import LANES, inner_product, room_for_rows, symmetric, to_rows
from rankscope.rooms import add_up, rooms
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
    parts = parts_of(X.shape[1], team)
    Qs, residuals = rooms(parts, Q.size, Q), np.zeros((parts, 2))
    together(_move_columns, parts, team, (X, P, C, l1, move, measure, moved, Qs, residuals))
    if not Q.size:
        return 0.0, 0.0, 0.0
    add_up(Qs, len(Q), Q)
    violation, scale = 0.0, 0.0
    for k in range(parts):
        violation, scale = violation + residuals[k, 0], scale + residuals[k, 1]
    return inner_product(C, moved), violation, scale


@inner
def _move_columns(
    k: int,
    X: Array,
    P: Array,
    C: Array,
    l1: float,
    move: Move,
    measure: bool,
    moved: Array,
    Qs: Array,
    residuals: Array,
) -> None:
    (r, n), curvature = X.shape, P.astype(X.dtype)
    x, spare, c = room_for_lanes(r, X.dtype), room_for_lanes(r, X.dtype), room_for_lanes(r, X.dtype)
    F, (Q, wide) = room_for_rows(r, X), room_for_gram(r, Qs)
    begin, end = share_of(k, len(residuals), n)
    for start in range(begin, end, LANES):
        lanes = min(LANES, end - start)
        load_lanes(X, start, lanes, x)
        load_lanes(C, start, lanes, c)
        if measure:
            residuals[k, 0] += violation_of(x, c, curvature, l1, lanes, spare)
            residuals[k, 1] += square_of(c, r, lanes)
        y = move_lanes(x, c, curvature, l1, move, spare)
        store_lanes(y, lanes, moved, start)
        if Qs.size:
            to_rows(y, r, F)
            add_gram(F, r, y, wide, Q)
    if Qs.size:
        symmetric(Q, Qs[k, : r * r].reshape(r, r))
