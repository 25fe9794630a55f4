"""Snapshots of a fit under way, evenly spread over ln(step + 1), where the stairs of a fit are about equally wide."""

import math
from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankscope.runs import Pictures, Snapshots
from rankscope.trace.schedule import log_spaced

MOST = 48
"""Snapshots of one fit."""
SIGNATURES = 24
"""Signatures of one layer in a snapshot."""
BYTES = 24 * 2**20
"""Of all snapshots of one fit; where rows are very long, fewer of them are kept."""


class Camera:
    """Keeps what a fit of at most `max_iter` steps looks like at some of them, the first included.

    Args:
        rows: the numbers of the rows of A whose reconstruction is kept.
        max_iter: the most steps; by it the snapshots are spaced.
    """

    def __init__(self, rows: NDArray[np.integer], *, max_iter: int) -> None:
        self._rows = rows
        # One place is for the end, which need not be due.
        self._due = log_spaced((MOST - 2) / math.log1p(max(max_iter, 1)))
        self._taken: dict[int, tuple[list[Pictures], Pictures]] = {}

    def due(self, step: int) -> bool:
        """Whether to take this step: at most ``MOST`` − 1 of 1 … max_iter, step 1 among them."""
        return step == 1 or self._due(step)

    def take(self, step: int, factors: Sequence[Any]) -> None:
        """Keep what a page shows of the factors F₁ … F_L; nothing where they are not finite."""
        W, *rest = (np.asarray(F, dtype=np.float64) for F in (factors[0][self._rows], *factors[1:]))
        layers = [reduce(np.matmul, rest[i:]) for i in reversed(range(len(rest)))]
        rebuilt = W @ layers[-1]
        if step in self._taken or not all(np.isfinite(part).all() for part in (*layers, rebuilt)):
            return
        most = max(1, BYTES // (MOST * layers[0].shape[1] * (len(layers) + 1)))
        kept = [Pictures.of(layer[: min(SIGNATURES, most)]) for layer in layers]
        self._taken[step] = kept, Pictures.of(rebuilt[:most])

    def snapshots(self) -> Snapshots | None:
        """Everything taken so far; None when that is nothing."""
        if not self._taken:
            return None
        steps = sorted(self._taken)
        layers, rebuilt = zip(*(self._taken[step] for step in steps), strict=True)
        depth = len(layers[0]) + 1
        signatures = {depth - i: _stack(layer) for i, layer in enumerate(zip(*layers, strict=True))}
        return Snapshots(np.array(steps, dtype=np.int64), signatures, _stack(rebuilt))


def _stack(moments: Sequence[Pictures]) -> Pictures:
    return Pictures(np.stack([each.pixels for each in moments]), np.stack([each.top for each in moments]))
