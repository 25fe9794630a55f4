"""One iteration of two factors, compiled: both passes, from beyond the last factor, in one call.

    R = [H + β (H − H before)]₊,   F ← moved(F, A Rᵀ),   S = FᵀA,  G = FᵀF,   H ← moved(R, S),   Q = H Hᵀ

On small matrices the calls between them would cost more than they do.
"""

import numpy as np

from rankscope.addresses import at
from rankscope.compiled import Array, compiled, inner, leaf
from rankscope.nmf.column_pass import go_beyond, move_columns_for_parts
from rankscope.nmf.lanes import parts_of
from rankscope.nmf.row_pass import move_rows_into_parts
from rankscope.nmf.rules.rule import Move
from rankscope.rooms import rooms


@compiled
def turn(
    like: Array,
    m: int,
    n: int,
    r: int,
    A: int,
    X: int,
    H: int,
    before: int,
    moved: int,
    after: int,
    S: int,
    G: int,
    Q: int,
    beta: float,
    first: Move,
    last: Move,
    penalties: tuple[float, float, float, float],
    measure: bool,
    team: int,
) -> tuple[float, float, float, float, float, float]:
    """Both factors after one iteration, and what is read off them. Matrices are given by address.

    Args:
        like: of the factors' kind.
        m, n, r: the rows and columns of A, and the rank.
        A: (m×n).
        X: F before, transposed (r×m).
        H: (r×n).
        before: H an iteration earlier (r×n).
        moved: gets F after, transposed (r×m).
        after: gets H after (r×n).
        S: gets FᵀA (r×n).
        G: gets FᵀF (r×r) in float64.
        Q: gets H Hᵀ (r×r) in float64.
        beta: how far beyond H the iteration starts.
        first: how F moves.
        last: how H moves.
        penalties: ℓ₁ and ℓ₂ of F, then those of H.
        measure: whether the KKT residual's sums are wanted.
        team: how many threads.

    Returns:
        ⟨S, H⟩ and ½‖A − F H‖² − ½‖A‖² in float64, then ‖v‖² and ‖C‖² of F, and those of H; 0 where not wanted.
    """
    wide = np.empty(0)
    factors = at(X, (r, m), like), at(H, (r, n), like), at(before, (r, n), like)
    room = at(moved, (r, m), like), at(after, (r, n), like), at(S, (r, n), like)
    grams = at(G, (r, r), wide), at(Q, (r, r), wide)
    return _turn(at(A, (m, n), like), factors, beta, first, last, penalties, measure, room, grams, team)


@inner
def _turn(
    A: Array,
    factors: tuple[Array, Array, Array],
    beta: float,
    first: Move,
    last: Move,
    penalties: tuple[float, float, float, float],
    measure: bool,
    room: tuple[Array, Array, Array],
    grams: tuple[Array, Array],
    team: int,
) -> tuple[float, float, float, float, float, float]:
    (X, H, before), (moved, R, S), (G, Q) = factors, room, grams
    l1_first, l2_first, l1_last, l2_last = penalties
    start = np.empty_like(H)
    go_beyond(H, before, beta, start, Q, team)
    _add_to_diagonal(Q, l2_first)
    Ss = rooms(parts_of(len(A), team), S.size, S)
    violation, scale = move_rows_into_parts(A, 0, start, Q, l1_first, X, moved, first, measure, Ss, G, team)
    curvature = G.copy()
    _add_to_diagonal(curvature, l2_last)
    inner, slope, against = move_columns_for_parts(start, curvature, Ss, S, l1_last, last, measure, R, Q, team)
    square = 0.0
    for i in range(len(G)):
        for j in range(len(G)):
            square += G[i, j] * Q[i, j]
    return inner, 0.5 * square - inner, violation, scale, slope, against


@leaf
def _add_to_diagonal(M: Array, value: float) -> None:
    for i in range(len(M)):
        M[i, i] += value
