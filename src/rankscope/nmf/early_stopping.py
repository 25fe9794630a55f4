"""Stopping on a plateau of the effective rank, and going back to it.

A larger effective rank is not a better one, so "restore the best" has no meaning here: what is restored are the
factors at the midpoint (in log steps) of the plateau. Few snapshots suffice, however long the plateau: they are kept
evenly in log steps, and when there are too many every other one goes.
"""

import math
from dataclasses import dataclass, field
from typing import Literal

from rankscope.nmf.chain import Chain
from rankscope.trace.plateau import Plateau, PlateauDetector

Which = Literal["first", "last"] | int
MAX_SNAPSHOTS = 8


@dataclass
class _Snapshots:
    """At most ``MAX_SNAPSHOTS`` (step, chain) since a start, about evenly spaced in ln(step + 1)."""

    spacing: float = 0.02
    taken: list[tuple[int, Chain]] = field(default_factory=list)

    def offer(self, step: int, chain: Chain) -> None:
        x = math.log(step + 1)
        if self.taken and x - math.log(self.taken[-1][0] + 1) < self.spacing:
            return
        self.taken.append((step, chain))
        if len(self.taken) > MAX_SNAPSHOTS:
            self.taken = self.taken[::2]
            self.spacing *= 2

    def nearest(self, step: int) -> tuple[int, Chain]:
        return min(self.taken, key=lambda shot: abs(math.log((shot[0] + 1) / (step + 1))))


@dataclass
class PlateauWatch:
    """Feeds a PlateauDetector, and keeps the factors at the midpoint of every plateau.

    Args:
        which: stop at the ``"first"`` plateau, at the k-th (an int), or never and go back to the ``"last"``.
    """

    which: Which = "first"
    detector: PlateauDetector = field(default_factory=PlateauDetector)
    _open: _Snapshots = field(default_factory=_Snapshots, init=False)
    _kept: dict[int, Chain] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        if self.which not in ("first", "last") and not (type(self.which) is int and self.which >= 1):
            raise ValueError(f"plateau must be 'first', 'last' or a whole number from 1, got {self.which!r}")

    def update(self, step: int, relative_error: float, effective_rank: float, chain: Chain) -> bool:
        """Take one step's numbers and factors; True when the plateau to stop at is confirmed."""
        confirmed = self.detector.update(step, relative_error, effective_rank)
        self._follow(step, chain)
        if confirmed is None or self.which == "last":
            return False
        return len(self.detector.plateaus) >= (1 if self.which == "first" else self.which)

    def finish(self) -> list[tuple[Plateau, Chain]]:
        """Every plateau with the factors at its midpoint."""
        self.detector.finish()
        return [(plateau, self._kept[i]) for i, plateau in enumerate(self.detector.plateaus) if i in self._kept]

    def _follow(self, step: int, chain: Chain) -> None:
        """Keep snapshots while a stretch is open, and of a confirmed plateau the one nearest its midpoint."""
        start = self.detector.candidate_start
        if start is None:
            self._open = _Snapshots()
            return
        self._open.offer(step, chain)
        plateaus = self.detector.plateaus
        if plateaus and plateaus[-1].end >= start:
            self._kept[len(plateaus) - 1] = self._open.nearest(plateaus[-1].midpoint)[1]
