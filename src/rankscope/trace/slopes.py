"""Keep a fit's trace as a few points per unit of x = ln(step + 1), and read robust slopes off it.

A fit of 100,000 steps is some 2,000 points here: each is the mean of the steps since the one before, which costs two
additions a step and averages noise away where steps are plenty.
"""

import math
from bisect import bisect_right
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Below one part in a million of ‖A‖² an error kept in float32 is rounding, and no stair is left in it to wait for: the
# rank alone decides. Without a floor the last level of an exact fit, whose error falls for ever, would never be flat.
ERROR_FLOOR = 1e-6
# The least that counts as learned: below it, noise in an error near 1 would look like learning.
LEARNED_FLOOR = 0.05


class Slopes(NamedTuple):
    """d/dx of ln(effective rank) and of the error's log-odds, each with the scatter of its points about the line."""

    values: NDArray[np.float64]
    scatter: NDArray[np.float64]


class Points:
    """The points kept, as parallel lists: steps, x = ln(step + 1), ln(effective rank), the error and its log-odds."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.x: list[float] = []
        self.log_rank: list[float] = []
        self.error: list[float] = []
        self.log_error: list[float] = []
        self._due = 0
        self._rank_sum, self._error_sum, self._count = 0.0, 0.0, 0

    def __len__(self) -> int:
        return len(self.steps)

    def offer(self, step: int, rank: float, error: float) -> bool:
        """Take one step's numbers, pass over those that are not finite; True if they completed a point."""
        if math.isfinite(rank + error) and rank > 0:
            self._rank_sum += rank
            self._error_sum += error
            self._count += 1
        if step < self._due or not self._count:
            return False
        rank, error = self._rank_sum / self._count, self._error_sum / self._count
        self._rank_sum, self._error_sum, self._count = 0.0, 0.0, 0
        self.steps.append(step)
        self.x.append(math.log1p(step))
        self.log_rank.append(math.log(rank))
        self.error.append(error)
        self.log_error.append(_log_odds(error))
        return True

    def wait(self, spacing: float) -> None:
        """Let the next point end `spacing` in x after the last one."""
        step = self.steps[-1]
        self._due = step + max(1, math.ceil((step + 1) * math.expm1(spacing)))

    def window_begin(self, width: float, *, min_steps: int, min_points: int) -> int | None:
        """The latest point from which width in x, steps and points all suffice; None while the trace is too short."""
        by_width = bisect_right(self.x, self.x[-1] - width) - 1
        by_steps = bisect_right(self.steps, self.steps[-1] - min_steps) - 1
        begin = min(by_width, by_steps, len(self) - min_points)
        return begin if begin >= 0 else None

    def slopes(self, begin: int, *, max_points: int) -> Slopes:
        """Theil–Sen slopes from point `begin` to the last, over at most `max_points` of them."""
        rows = np.array([self.x[begin:], self.log_rank[begin:], self.log_error[begin:]])
        if rows.shape[1] > max_points:
            rows = rows[:, np.linspace(0, rows.shape[1] - 1, max_points).astype(np.intp)]
        return theil_sen(rows[0], rows[1:])


def _log_odds(error: float) -> float:
    """ln of the error over what has been learned, 1 − error.

    On the way down from 1 the error is nearly as flat as on a plateau, but what has been learned grows by multiples:
    a fit that has only begun does not stand still. Where the error is small this is its logarithm.
    """
    return math.log(max(error, ERROR_FLOOR) / (max(1 - error, 0.0) + LEARNED_FLOOR))


def theil_sen(x: NDArray[np.float64], Y: NDArray[np.float64]) -> Slopes:
    """For each row y of Y (q × n): the median of (y_j − y_i)/(x_j − x_i) over i < j, and the scatter of y.

    Up to 29% of the points may be anywhere. The scatter is read off neighbours' differences, |N(0, 2s²)| having median
    0.954 s, so that a trend does not count as noise.

    Reference: Theil 1950; Sen 1968, doi:10.1080/01621459.1968.10480934.
    """
    i, j = _pairs(len(x))
    slopes = np.median((Y[:, j] - Y[:, i]) / (x[j] - x[i]), axis=1)
    return Slopes(slopes, np.median(np.abs(np.diff(Y, axis=1)), axis=1) / 0.954)


@lru_cache(maxsize=256)
def _pairs(n: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    return np.triu_indices(n, 1)
