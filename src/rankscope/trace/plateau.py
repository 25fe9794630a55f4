"""Find, while a fit runs, the stretches on which its effective rank and its error stand still.

Training from a small start climbs a staircase: nothing happens for a while, one more singular value of A is learned in
a fraction of that time, and again. The stairs lengthen in proportion to the time already spent, so everything here
happens in x = ln(step + 1), where they are about equally wide. A stretch is flat where the Theil–Sen slopes of
ln(effective rank) and of the log-odds of the relative error are both small.
"""

import math
from bisect import bisect_right
from dataclasses import replace

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from rankscope.trace.levels import Plateau, RankLevel, match_level, rank_levels
from rankscope.trace.slopes import ERROR_FLOOR, LEARNED_FLOOR, Points, Slopes

__all__ = ["Plateau", "PlateauDetector", "RankLevel", "match_level", "rank_levels"]

_RECENT = 5  # points whose median speaks for the present


class PlateauDetector:
    """Watch (step, relative error, effective rank) go by and say when a plateau has been reached.

    A stretch opens when both slopes over the last `window` of x = ln(step + 1) are flat, its start dated back to where
    the level was reached; it is confirmed once it has lasted `min_length`, still flat; it closes when a slope exceeds
    twice its bound or the median of the last five effective ranks leaves the level by more than `drift`. A plateau that
    resumes at the level and error at which it was left is the same plateau, and is not reported twice.

    Args:
        window: width in x over which slopes are taken, widened to hold `min_points` points and `min_steps` steps.
        min_length: length in x from which a flat stretch counts.
        slope_rank, slope_error: bounds on |d ln(effective rank)/dx| and |d ln(error odds)/dx|.
        drift: relative departure from the level that ends a plateau.
        max_points: points kept per window; the steps in between are averaged.
        nothing_learned: no plateau while the relative error exceeds this fraction of its first value (of 1 if less).
        max_delay: steps after which a flat stretch counts even if shorter than `min_length`; the window shrinks too.
        converged_residual: a KKT residual below this makes a plateau "converged".
        locked_entries: a fraction of locked entries above this makes it "locked".

    Raises:
        ValueError: a setting is not positive, or 3 <= `min_points` <= `max_points` does not hold.
    """

    def __init__(
        self,
        *,
        window: float = 0.25,
        min_length: float = 0.35,
        slope_rank: float = 0.15,
        slope_error: float = 0.2,
        drift: float = 0.05,
        min_points: int = 6,
        min_steps: int = 20,
        max_points: int = 40,
        nothing_learned: float = 0.99,
        max_delay: int = 20_000,
        converged_residual: float = 1e-3,
        locked_entries: float = 0.05,
    ) -> None:
        bounds = {"window": window, "min_length": min_length, "slope_rank": slope_rank, "slope_error": slope_error}
        bounds |= {"drift": drift, "min_steps": min_steps, "nothing_learned": nothing_learned, "max_delay": max_delay}
        for name, value in bounds.items():
            if not value > 0:
                raise ValueError(f"{name} must be positive, got {value}; the default suits most fits")
        if not 3 <= min_points <= max_points:
            raise ValueError(f"3 <= min_points <= max_points must hold, got {min_points} and {max_points}")
        self._window, self._min_length, self._max_delay = window, min_length, max_delay
        self._max_window_steps = max_delay * min(1.0, window / min_length)
        self._bounds = np.array([slope_rank, slope_error])
        self._drift, self._nothing_learned = drift, nothing_learned
        self._min_points, self._min_steps, self._max_points = min_points, min_steps, max_points
        self._converged_residual, self._locked_entries = converged_residual, locked_entries

        self._step = -1
        self._start_error: float | None = None  # or 1, what A = 0 would leave, if that is less
        self._kkt_residual, self._locked_fraction = math.inf, 0.0
        self._points = Points()
        self._first: int | None = None  # the point at which the open stretch starts
        self._confirmed = False
        self._climbed = True  # whether the fit has moved since the last stretch
        self._closed: list[Plateau] = []

    def update(
        self,
        step: int,
        relative_error: float,
        effective_rank: float,
        *,
        kkt_residual: float | None = None,
        locked_fraction: float | None = None,
    ) -> Plateau | None:
        """Take one step's numbers; return the plateau at the moment it is confirmed, otherwise None.

        Numbers that are not finite are passed over, and so is an effective rank of zero (a zero product).

        Raises:
            ValueError: `step` is negative or does not lie above the last one.
        """
        if step <= self._step:
            rule = "step must be >= 0" if step < 0 else f"step must lie above the last one, {self._step}"
            raise ValueError(f"{rule}, got {step}; use a new detector for a new fit")
        self._step = step
        if kkt_residual is not None:
            self._kkt_residual = kkt_residual
        if locked_fraction is not None:
            self._locked_fraction = locked_fraction
        points = self._points
        if not points.offer(step, float(effective_rank), float(relative_error)):
            return None
        # A spike of the error up to where it began must not wipe out the plateau that it stands on.
        typical = float(np.median(points.error[-_RECENT:])) + LEARNED_FLOOR
        if self._nothing_learned_yet(min(points.error[-1], typical)):
            self._close(len(points) - 1)
            self._points = Points()
            return None
        points.wait(self._width() / self._max_points)
        return self._judge()

    @property
    def candidate_start(self) -> int | None:
        """The first step of the stretch that is flat so far, confirmed or not; None while the fit is moving."""
        return None if self._first is None else self._points.steps[self._first]

    @property
    def plateaus(self) -> tuple[Plateau, ...]:
        """All confirmed plateaus in order; one that is still open ends at the current step."""
        if self._first is None or not self._confirmed:
            return tuple(self._closed)
        return (*self._closed, self._describe(self._first, len(self._points), end=self._step))

    def finish(self) -> tuple[Plateau, ...]:
        """Close the open stretch at the current step and return all plateaus."""
        self._closed = list(self.plateaus)
        self._first, self._confirmed = None, False
        return tuple(self._closed)

    def _nothing_learned_yet(self, error: float) -> bool:
        """Whether the error is still that of the start: standing still before the first stair is no plateau."""
        if self._start_error is None:
            self._start_error = min(error, 1.0)
        start, converged = self._start_error, self._kkt_residual < self._converged_residual
        # A start may be a solution. The origin never is, though the gradient vanishes there too.
        solved = start <= ERROR_FLOOR or (start <= self._nothing_learned and converged)
        return error > self._nothing_learned * start and not solved

    def _judge(self) -> Plateau | None:
        """Open, confirm or close a stretch, now that there is one more point."""
        begin = self._points.window_begin(self._width(), min_steps=self._min_steps, min_points=self._min_points)
        if begin is None:
            return None
        slopes = self._slopes(begin)
        moving = bool(np.any(slopes.values >= self._bounds))
        self._climbed |= moving
        if self._first is None:
            # A slow ramp leaves one level after the other without ever moving: no staircase, unless it settles.
            if not moving and (self._climbed or np.all(slopes.values < self._bounds / 2)):
                self._open(begin)
            return None
        if np.any(slopes.values > 2 * self._bounds) or self._drifted():
            self._climbed = moving
            self._close(len(self._points))
            return None
        return None if self._confirmed else self._confirm()

    def _open(self, begin: int) -> None:
        """Start a stretch where the level of the window was reached, in the window or before it."""
        points = self._points
        oldest = bisect_right(points.steps, self._closed[-1].end) if self._closed else 0
        if len(points) - max(begin, oldest) < _RECENT:
            return
        values = np.array([points.log_rank[oldest:], points.log_error[oldest:]])
        level = np.median(values[:, max(begin - oldest, 0) :], axis=1, keepdims=True)
        # Medians of five, so that one noisy point neither cuts the stretch short nor lengthens it.
        smooth = np.median(sliding_window_view(values, _RECENT, axis=1), axis=2)
        off_level = np.flatnonzero(np.any(np.abs(smooth - level) > [[self._drift], [2 * self._drift]], axis=0))
        first = oldest + (int(off_level[-1]) + 1 + _RECENT // 2 if len(off_level) else 0)
        self._first, self._confirmed = (first if first < len(points) - 2 else None), False

    def _confirm(self) -> Plateau | None:
        """Report the open stretch if it is long enough, and flat over its whole length."""
        points, first = self._points, self._first
        assert first is not None
        n, length = len(points) - first, points.x[-1] - points.x[first]
        lasted = length >= self._min_length or points.steps[-1] - points.steps[first] >= self._max_delay
        if not lasted or n < self._min_points:
            return None
        # The longer baseline decides, with a margin of one standard error, s·√(12/n)/length: under noise a steady drift
        # just above the bound looks flat in some window or other.
        slopes = self._slopes(first)
        if not np.all(slopes.values + slopes.scatter * math.sqrt(12 / n) / length < self._bounds):
            return None
        self._confirmed = True
        return None if self._resumes(first) else self._describe(first, len(points), end=self._step)

    def _resumes(self, first: int) -> bool:
        """Whether the stretch just confirmed is the last plateau again; if so, make the two one stretch."""
        points = self._points
        if not self._closed or self._closed[-1].start < points.steps[0]:
            return False
        last, now = self._closed[-1], self._describe(first, len(points), end=self._step)
        errors = [math.log(max(plateau.relative_error, ERROR_FLOOR)) for plateau in (last, now)]
        if abs(math.log(now.level / last.level)) > self._drift or abs(errors[1] - errors[0]) > 2 * self._drift:
            return False
        self._first = bisect_right(points.steps, last.start) - 1
        self._closed.pop()
        return True

    def _close(self, stop: int) -> None:
        """End the open stretch at its last point on the level; keep it if it was confirmed."""
        if self._first is not None and self._confirmed:
            values = self._points.log_rank[self._first : stop]
            on_level = np.flatnonzero(np.abs(np.array(values) - np.median(values)) <= self._drift)
            last = self._first + (int(on_level[-1]) if len(on_level) else len(values) - 1)
            plateau = self._describe(self._first, last + 1, end=self._points.steps[last])
            # What moved on had not converged, however small its gradient was: at a saddle it is small too.
            self._closed.append(replace(plateau, kind="transient") if plateau.kind == "converged" else plateau)
        self._first, self._confirmed = None, False

    def _describe(self, first: int, stop: int, *, end: int) -> Plateau:
        """The points first … stop−1 as a plateau that lasts until step `end`."""
        points, kind = self._points, "transient"
        if self._kkt_residual < self._converged_residual:
            kind = "converged"
        elif self._locked_fraction > self._locked_entries:
            kind = "locked"
        level, error = math.exp(np.median(points.log_rank[first:stop])), float(np.median(points.error[first:stop]))
        return Plateau(points.steps[first], end, level, error, kind=kind)

    def _drifted(self) -> bool:
        """Whether the median of the last five effective ranks has left the level of the open stretch."""
        values = self._points.log_rank
        return abs(float(np.median(values[-_RECENT:])) - float(np.median(values[self._first :]))) > self._drift

    def _slopes(self, begin: int) -> Slopes:
        slopes = self._points.slopes(begin, max_points=2 * self._max_points)
        return Slopes(np.abs(slopes.values), slopes.scatter)

    def _width(self) -> float:
        """The window due at the last point: the full one, or the last `max_delay`·window/min_length steps if less."""
        step = self._points.steps[-1]
        if step <= self._max_window_steps:
            return self._window
        return min(self._window, -math.log1p(-self._max_window_steps / (step + 1)))
