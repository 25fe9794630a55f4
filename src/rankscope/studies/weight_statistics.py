"""Means over seeds with intervals, differences over shared seeds, and which models no other one dominates.

The seeds of all models share their splits and orders, so differences are taken seed by seed and their noise in common
falls out. Intervals are percentile bootstraps: the middle 95% of the means of samples drawn with replacement.

References: Efron & Tibshirani 1993; Bouthillier et al. 2021, arXiv:2103.03098.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 10_000
COVERAGE = 0.95
FEW = 5
"""Seeds below which an interval of resamples is little more than the range of what was seen."""


class Interval(NamedTuple):
    """A mean and the ends of its interval; the ends are NaN where there is only one value."""

    mean: float
    low: float
    high: float


def bootstrap_mean(values: ArrayLike) -> Interval:
    """The mean of the values (n) with its bootstrap interval; NaN counts, since a diverged seed is no seed to drop.

    Raises:
        ValueError: there are no values.
    """
    sample = np.asarray(values, dtype=np.float64).ravel()
    if not len(sample):
        raise ValueError("values must hold at least one number, got none; run at least one seed")
    if len(sample) == 1 or not np.isfinite(sample).all():
        return Interval(float(sample.mean()), float("nan"), float("nan"))
    rng = np.random.default_rng(0)  # Of the resampling, not of the result: the same table twice is the same twice.
    means = sample[rng.integers(len(sample), size=(RESAMPLES, len(sample)))].mean(1)
    low, high = np.quantile(means, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return Interval(float(sample.mean()), float(low), float(high))


class Comparison(NamedTuple):
    """How far one model's accuracy is above another's over shared seeds, in points; resolved where 0 is outside."""

    better: str
    worse: str
    difference: Interval
    seeds: int

    @property
    def resolved(self) -> bool:
        """Whether there are seeds enough and the interval leaves out 0."""
        return self.seeds >= FEW and (self.difference.low > 0 or self.difference.high < 0)

    def sentence(self) -> str:
        """The comparison in words."""
        mean, low, high = self.difference
        if not np.isfinite(mean):
            return f"{self.better} and {self.worse} cannot be compared: a seed diverged."
        if 1 < self.seeds < FEW:
            return (
                f"{self.better} is {mean:.2f} points above {self.worse} on {self.seeds} paired seeds: not resolved, an "
                f"interval takes {FEW}."
            )
        if self.seeds == 1:
            return (
                f"{self.better} is {mean:.2f} points above {self.worse} on a single seed: not resolved, there is no "
                f"interval."
            )
        verdict = "resolved" if self.resolved else "not resolved"
        return (
            f"{self.better} is {mean:.2f} points above {self.worse} "
            f"(95% interval {low:.2f} to {high:.2f}, {self.seeds} paired seeds): {verdict}."
        )


def compare(name: str, a: ArrayLike, other: str, b: ArrayLike) -> Comparison:
    """Two models' accuracies in percent (n) on the same n seeds, the better one first."""
    first, second = (np.asarray(values, dtype=np.float64).ravel() for values in (a, b))
    if len(first) != len(second):
        raise ValueError(f"paired seeds must be equally many, got {len(first)} and {len(second)}; run the same seeds")
    if second.mean() > first.mean():
        name, first, other, second = other, second, name, first
    return Comparison(name, other, bootstrap_mean(first - second), len(first))


def pareto(cost: Sequence[float], score: Sequence[float]) -> NDArray[np.bool_]:
    """Which points no other one beats: none is as cheap or cheaper and better, or cheaper and as good."""
    c, s = np.asarray(cost, dtype=float), np.asarray(score, dtype=float)
    beaten = (c[None] <= c[:, None]) & (s[None] >= s[:, None]) & ((c[None] < c[:, None]) | (s[None] > s[:, None]))
    return np.isfinite(s) & ~beaten.any(1)
