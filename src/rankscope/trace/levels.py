"""Name the stairs of A: where a fit stands that has learned its best rank-k approximation A_k, and which one it is on.

A plateau sits at the effective rank of A_k, not at k: for singular values 10, 5, 1 the stairs are 1, 1.890 and 2.295.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Plateau:
    """One stretch on which a fit stood still, from step `start` to step `end`.

    `level` and `relative_error` are the medians of the effective rank and of ‖A − Â‖²/‖A‖² over it; `k` is the best
    rank-k approximation of A that it matches, where `match_level` was asked. `kind` is "converged" when the optimality
    residual had vanished, "locked" when entries were stuck at zero, otherwise "transient": a stair, with more to come.
    """

    start: int
    end: int
    level: float
    relative_error: float
    k: int | None = None
    kind: str = "transient"

    @property
    def midpoint(self) -> int:
        """The step in the middle of the stretch on the axis ln(step + 1)."""
        return round(math.sqrt((self.start + 1) * (self.end + 1))) - 1


class RankLevel(NamedTuple):
    """Where a fit stands that equals A_k, the best rank-k approximation of A: a stair to be expected."""

    k: int
    effective_rank: float
    relative_error: float


def rank_levels(sigma: ArrayLike, squared_norm: float | None = None) -> list[RankLevel]:
    """The levels of A_k for k = 1, 2, … up to the numerical rank of A.

    effective rank = exp(−Σ p ln p), p = σ_i / Σ_{j≤k} σ_j, i ≤ k;  relative error = 1 − Σ_{i≤k} σ_i² / ‖A‖².

    Args:
        sigma: (r,) singular values of A, or the leading ones if `squared_norm` = ‖A‖² is given.

    Raises:
        ValueError: `sigma` is not a vector of finite numbers >= 0, or `squared_norm` lies below Σσ².

    Reference: Eckart & Young 1936, doi:10.1007/BF02288367; Roy & Vetterli 2007 (EUSIPCO).
    """
    values = np.asarray(sigma, dtype=np.float64)
    if values.ndim != 1 or not np.all(np.isfinite(values)) or np.any(values < 0):
        raise ValueError(
            f"sigma must be a vector of finite numbers >= 0, got shape {values.shape}; pass A's singular values"
        )
    s = np.sort(values)[::-1]
    s = s[s > len(s) * np.finfo(np.float64).eps * s[:1]]
    explained = np.cumsum(s**2)
    total = float(explained[-1]) if len(s) else 0.0
    if squared_norm is not None:
        # A float32 norm of a large A may fall short of its own singular values by rounding.
        if not squared_norm >= total * (1 - 1e-5):
            raise ValueError(f"squared_norm must be at least Σσ² = {total:.6g}, got {squared_norm:.6g}; pass ‖A‖²")
        total = max(total, float(squared_norm))
    # −Σ p ln p = ln Σσ − Σ σ ln σ / Σσ: two running sums give every k at once.
    sums = np.cumsum(s)
    ranks = np.exp(np.log(sums) - np.cumsum(s * np.log(s)) / sums)
    errors = np.maximum(1 - explained / total, 0.0)
    return [
        RankLevel(k, float(rank), float(error)) for k, (rank, error) in enumerate(zip(ranks, errors, strict=True), 1)
    ]


def match_level(plateau: Plateau, levels: Sequence[RankLevel], *, tolerance: float = 0.1) -> Plateau:
    """The plateau with `k` set to the nearest level, or to None if no level is near.

    Distances are taken in (ln effective rank, ‖A − Â‖/‖A‖), and near means at most `tolerance` in both. The root of the
    relative error is compared because it tells a residual of 0.01 from one of 0.
    """
    log_rank, residual = math.log(plateau.level), math.sqrt(max(plateau.relative_error, 0.0))
    near = []
    for level in levels:
        gaps = (abs(math.log(level.effective_rank) - log_rank), abs(math.sqrt(level.relative_error) - residual))
        if max(gaps) <= tolerance:
            near.append((math.hypot(*gaps), level.k))
    return replace(plateau, k=min(near)[1] if near else None)
