"""When to measure: a schedule step → bool, and a budget that thins it.

A measurement that costs c is affordable where everything spent on measuring, this one included, stays within a
fraction of the time gone by: spent + c ≤ max_overhead · (elapsed + c). A due step that is not is passed over.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

Schedule = Callable[[int], bool]


def as_schedule(every: int | Schedule) -> Schedule:
    """Steps 0, every, 2·every, … for a number; a function step → bool as it is.

    Raises:
        ValueError: it is neither a function nor a whole number from 1.
    """
    if callable(every):
        return every
    if not isinstance(every, int) or isinstance(every, bool) or every < 1:
        raise ValueError(
            f"every must be a whole number from 1 or a function step -> bool, got {every!r}; try every=100"
        )
    return lambda step: step % every == 0


def log_spaced(per_e_fold: float = 40) -> Schedule:
    """A schedule with about that many steps for every growth of the step by e, each step at first.

    Evenly spaced in ln(step + 1), where the stairs of training are about equally wide: 0, 1, 2, …, 40, 42, 43, …

    Raises:
        ValueError: `per_e_fold` is not positive.
    """
    if not per_e_fold > 0:
        raise ValueError(f"per_e_fold must be positive, got {per_e_fold}; 40 suits the plateau detector")

    def place(step: int) -> int:
        return math.floor(per_e_fold * math.log1p(step))

    return lambda step: step == 0 or place(step) > place(step - 1)


@dataclass
class Budget:
    """How much of the wall time may go into measuring, and how much of it went.

    Args:
        max_overhead: the fraction, in (0, 1]; 1 never refuses.

    Raises:
        ValueError: the fraction lies outside.
    """

    max_overhead: float
    spent: float = field(default=0.0, init=False)
    _cost: float = field(default=0.0, init=False)  # of the last measurement, the best guess for the next
    _started: float = field(init=False)

    def __post_init__(self) -> None:
        if not 0 < self.max_overhead <= 1:
            raise ValueError(
                f"max_overhead must be in (0, 1], got {self.max_overhead}; 0.05 is five percent, 1 no bound"
            )
        self._started = time.perf_counter()

    def affordable(self) -> bool:
        """Whether one more measurement stays within the budget, going by what the last one cost."""
        return self.spent + self._cost <= self.max_overhead * (self.elapsed + self._cost)

    def spend(self, seconds: float) -> None:
        """Book a measurement."""
        self._cost = seconds
        self.spent += seconds

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._started

    @property
    def overhead(self) -> float:
        """The fraction of the time so far that went into measuring."""
        return self.spent / self.elapsed if self.spent else 0.0
