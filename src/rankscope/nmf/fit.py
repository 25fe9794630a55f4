"""The loop, once: iterate, watch, and know when to stop.

Every solver, depth and stopping rule runs through ``fit``. The rules know nothing of time, history or plateaus; the
loop knows nothing of solvers.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from torch import Tensor

from rankscope import workers
from rankscope.nmf.advance import Penalties, State, advance, settle, start
from rankscope.nmf.blocks import RowBlocks
from rankscope.nmf.chain import Chain
from rankscope.nmf.coarse import Coarse, Sampling, refine
from rankscope.nmf.early_stopping import PlateauWatch, Which
from rankscope.nmf.hops import NEAR, SHARE, Hopping, Hops, look_around
from rankscope.nmf.rules import Hals, Rule
from rankscope.nmf.watch import Kept, Watch, relative_error
from rankscope.trace.history import History
from rankscope.trace.plateau import Plateau
from rankscope.trace.schedule import Schedule

Stop = Literal["tolerance", "plateau", "none"]
Reason = Literal["converged", "plateau", "max_iter", "callback", "not_finite", "interrupted"]
CHECK_EVERY = 10
"""Iterations between two looks at the KKT residual, which costs a few percent of an iteration."""


@dataclass(frozen=True)
class Stopping:
    """When a fit ends.

    Args:
        max_iter: the most iterations.
        stop: ``"tolerance"`` when the KKT residual (see ``kkt_residual``) is at most ``tol``; ``"plateau"`` when a
            plateau of the effective rank is confirmed; ``"none"`` at ``max_iter``.
        tol: for ``"tolerance"``.
        plateau: for ``"plateau"``: which one, see ``PlateauWatch``.
        keep_plateaus: keep the factors at every plateau whatever the stopping rule is.
    """

    max_iter: int = 200
    stop: Stop = "tolerance"
    tol: float = 1e-4
    plateau: Which = "first"
    keep_plateaus: bool = False

    def __post_init__(self) -> None:
        if self.max_iter < 0:
            raise ValueError(f"max_iter must be at least 0, got {self.max_iter}")
        if self.stop not in ("tolerance", "plateau", "none"):
            raise ValueError(f"stop must be one of tolerance, plateau, none, got {self.stop!r}")
        if not self.tol >= 0:
            raise ValueError(f"tol must be at least 0, got {self.tol}")

    def plateau_watch(self) -> PlateauWatch | None:
        """What looks out for plateaus, if anything does."""
        if self.stop == "plateau":
            return PlateauWatch(self.plateau)
        return PlateauWatch("last") if self.keep_plateaus else None


@dataclass(frozen=True)
class Fit:
    """What came of it."""

    chain: Chain
    n_iter: int
    reason: Reason
    history: pd.DataFrame
    plateaus: list[tuple[Plateau, Chain]]
    """Each plateau that was found while fitting, with the factors at its midpoint; empty unless asked for."""
    coarse: Coarse | None = None
    """What came of the samples of rows that were fitted first, if any were."""
    hops: Hops | None = None
    """What came of looking for lower minima, if that was done."""
    state: State | None = None
    """What the last pass left of the chain, if it is the last one."""


class Progress:
    """A fit as its callback sees it: the step, the factors, and on demand the history up to now."""

    def __init__(
        self, step: int, max_iter: int, blocks: RowBlocks, state: State, read: Callable[[], pd.DataFrame]
    ) -> None:
        self.step = step
        self.max_iter = max_iter
        self.factors: tuple[Tensor, ...] = state.chain.factors
        self._blocks, self._state, self._read = blocks, state, read

    @property
    def history(self) -> pd.DataFrame:
        """All rows up to this step."""
        return self._read()

    @property
    def relative_error(self) -> float:
        """‖A − F₁ … F_L‖²/‖A‖² at this step, over what was observed; not read from the history, which may be off."""
        return relative_error(self._blocks, self._state)


Callback = Callable[[int, Progress], object]
"""``callback(step, state)`` after every iteration; a true answer stops the fit."""


@workers.one_thread()
def fit(
    blocks: RowBlocks,
    chain: Chain,
    rule: Rule,
    *,
    stopping: Stopping,
    penalties: Penalties,
    history: History | None,
    callback: Callback | None = None,
    sampling: Sampling | None = None,
    hopping: Hopping | None = None,
    schedule: Schedule = lambda step: True,
) -> Fit:
    """Move a chain by a rule until told to stop.

    Args:
        blocks: A.
        chain: where to start.
        rule: how to move.
        stopping: when to end.
        penalties: one for each factor.
        history: gets a row for every step, the start (step 0) included; None records nothing.
        callback: called after every iteration.
        schedule: the steps that the history sees, beside the last; all by default.
        sampling: for hals, fit samples of rows first (see ``coarse``); step 0 is then what they lead to.
        hopping: for hals, near a minimum look for lower ones (see ``hops``) and go on from the lowest; again and again
            while that has taken no more than SHARE times the iterations of the fit itself.
    """
    observer = _Observer(blocks, history, stopping.plateau_watch())
    if sampling is not None and isinstance(rule, Hals):
        state, coarse = refine(blocks, chain, rule, penalties, sampling)
    else:
        state, coarse = start(blocks, chain, rule, penalties), None
    del chain  # A start need not be kept beside what comes of it.
    observer.see(0, state)
    step, reason = 0, None
    hops = Hops()
    try:
        while reason is None and step < stopping.max_iter:
            step += 1
            measure = stopping.stop == "tolerance" and step % CHECK_EVERY == 0
            state, residual = advance(blocks, state, rule, penalties, measure=measure)
            converged = residual is not None and residual <= stopping.tol
            near = residual is not None and residual <= max(stopping.tol, NEAR) and step < stopping.max_iter
            if near and hopping is not None and isinstance(rule, Hals) and hops.iterations <= SHARE * step:
                state, more = look_around(blocks, state, rule, penalties, hopping)
                hops, converged = hops.plus(more), converged and not more.gained
            if (converged or step == stopping.max_iter) and isinstance(rule, Hals) and rule.extrapolates:
                observer.hold(state.chain)  # One more large factor is about to be formed.
                state = settle(blocks, state.chain, penalties)
            if schedule(step):
                observer.see(step, state)
            reason = observer.reason
            if reason is None and converged:
                reason = "converged"
            if (
                reason is None
                and callback is not None
                and callback(step, Progress(step, stopping.max_iter, blocks, state, observer.read))
            ):
                reason = "callback"
    except KeyboardInterrupt:
        reason = "interrupted"
    if step > 0 and not schedule(step) and reason != "interrupted":
        observer.see(step, state)
    result = observer.close(step, state.chain, reason or "max_iter", stopping)
    last = state if result.chain is state.chain else None
    return replace(result, coarse=coarse, hops=hops if hops.tried else None, state=last)


class _Observer:
    """Turns what the loop shows it into history, plateaus and reasons to stop."""

    def __init__(self, blocks: RowBlocks, history: History | None, plateaus: PlateauWatch | None) -> None:
        if history is None and plateaus is not None:
            raise ValueError("stop='plateau' and keep_plateaus read the history; leave track_history on")
        self._watch = None if history is None else Watch(blocks, history, prompt=plateaus is not None)
        self._plateaus = plateaus
        self._last_finite: tuple[int, Kept] | None = None
        self.reason: Reason | None = None

    def see(self, step: int, state: State) -> None:
        if self._watch is not None and self._watch.see(step, state.chain, state.trace):
            self._digest()

    def hold(self, chain: Chain) -> None:
        if self._watch is not None:
            self._watch.hold(chain)

    def read(self) -> pd.DataFrame:
        if self._watch is None:
            raise ValueError("this fit records no history; leave track_history on")
        self._digest()
        return self._watch.history.to_frame()

    def close(self, step: int, chain: Chain, reason: Reason, stopping: Stopping) -> Fit:
        if self._watch is None:
            return Fit(chain, step, reason, History().to_frame(), [])
        self._digest()
        reason = self.reason if self.reason == "not_finite" else reason
        plateaus = [] if self._plateaus is None else self._plateaus.finish()
        if reason == "not_finite" and self._last_finite is not None:
            step, chain = self._last_finite[0], self._last_finite[1].chain
        elif plateaus and stopping.stop == "plateau" and reason != "interrupted":
            nth = -1 if stopping.plateau == "last" else 0 if stopping.plateau == "first" else stopping.plateau - 1
            if nth < len(plateaus):
                chain = plateaus[nth][1]
        return Fit(chain, step, reason, self._watch.history.to_frame(), plateaus)

    def _digest(self) -> None:
        assert self._watch is not None
        seen, rows = self._watch.flush()
        finite = int(np.cumprod(np.isfinite(rows["absolute_error"])).sum())
        if finite:
            self._last_finite = seen[finite - 1].step, seen[finite - 1].kept
        if finite < len(seen):
            self.reason = "not_finite"
        if self._plateaus is None:
            return
        columns = (rows[name][:finite].tolist() for name in ("relative_error", "effective_rank"))
        for sighting, error, rank in zip(seen[:finite], *columns, strict=True):
            if self._plateaus.update(sighting.step, error, rank, sighting.kept.chain):
                self.reason = self.reason or "plateau"
