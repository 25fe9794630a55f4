"""What an experiment is: descents from a given start, checks of what came of them, and a figure drawn from its run.

Every descent is the chain, the rule, the loop, the history and the plateau detector of any other fit.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.figure import Figure
from torch import Tensor

from rankscope.nmf.blocks import RowBlocks
from rankscope.nmf.chain import Chain
from rankscope.nmf.fit import Progress, Stopping, fit
from rankscope.nmf.levels import detect
from rankscope.nmf.penalty import NO_PENALTY
from rankscope.nmf.rules import Rule
from rankscope.runs import Run
from rankscope.trace import History, Measure, Plateau, RankLevel, log_spaced, match_level
from rankscope.trace.schedule import Schedule

Reading = Callable[[Chain], float]
"""A further column of the history: a number read off the factors."""


@dataclass(frozen=True)
class Check:
    """One figure that was published or follows from a closed form, and what was measured.

    Args:
        quantity: what it is.
        expected: the figure and its band, for a reader.
        measured: ours.
        low, high: the band, both ends in it.
    """

    quantity: str
    expected: str
    measured: float
    low: float = float("-inf")
    high: float = float("inf")

    @classmethod
    def near(cls, quantity: str, expected: float, measured: float, tolerance: float) -> "Check":
        """Within a fraction ``tolerance`` of the expected figure."""
        low, high = sorted((expected * (1 - tolerance), expected * (1 + tolerance)))
        return cls(quantity, f"{_number(expected, 5)} ± {100 * tolerance:g}%", measured, low, high)

    @property
    def within(self) -> bool:
        """Whether the measured figure lies in the band; NaN does not."""
        return self.low <= self.measured <= self.high

    def row(self) -> dict[str, Any]:
        """A row of the printed table."""
        return {
            "quantity": self.quantity,
            "expected": self.expected,
            "measured": _number(self.measured, 4),
            "within": "yes" if self.within else "NO",
        }


@dataclass(frozen=True)
class Descent:
    """One fit: its history (the readings among its columns), where it ended, and the plateaus in it."""

    history: pd.DataFrame
    chain: Chain
    plateaus: list[Plateau]
    levels: Sequence[RankLevel] = ()
    kept: Mapping[int, Chain] = field(default_factory=dict)
    """The chain at the steps that were to be kept."""


@dataclass(frozen=True)
class Findings:
    """What an experiment measured."""

    checks: list[Check]
    descents: Mapping[str, Descent]
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    """Written as NAME.csv and NAME.md."""
    arrays: Mapping[str, Tensor] = field(default_factory=dict)
    """What further figures need beside the histories, written to arrays.safetensors."""


Measurement = Callable[[Callable[[str], None]], Findings]
"""Does an experiment; is given a function that takes a line whenever a descent has ended."""


class Larger(NamedTuple):
    """The larger version of an experiment, for ``--full``: the same, with other settings."""

    settings: Mapping[str, Any]
    measure: Measurement


@dataclass(frozen=True)
class Experiment:
    """A published result.

    Args:
        title: one line.
        source: where it was published.
        settings: for config.json.
        measure: does it.
        figure: draws it from (histories by descent, fits.json).
        figures: further ones by name, each drawn from the run folder.
        full: the larger version, if there is one.
        in_all: whether ``reproduce all`` does it too.
        needs: called before anything is written; raises where data is missing.
    """

    title: str
    source: str
    settings: Mapping[str, Any]
    measure: Measurement
    figure: Callable[[Mapping[str, pd.DataFrame], Mapping[str, Any]], Figure]
    figures: Mapping[str, Callable[[Run], Figure]] = field(default_factory=dict)
    full: Larger | None = None
    in_all: bool = True
    needs: Callable[[], object] = lambda: None


def descend(
    A: Tensor,
    start: Sequence[Tensor] | Chain,
    rule: Rule,
    steps: int,
    *,
    observed: Tensor | None = None,
    measures: Mapping[str, Measure] | None = None,
    readings: Mapping[str, Reading] | None = None,
    levels: Sequence[RankLevel] = (),
    until: float = 0.0,
    per_e_fold: float = 100,
    keep: Schedule = lambda step: False,
) -> Descent:
    """Move factors by a rule and see what happens.

    Args:
        A: (m×n).
        start: F₁ … F_L, or a chain of them with codes.
        rule: how to move.
        steps: the most steps.
        observed: bool (m×n), where A was observed.
        measures: further columns, functions of the singular values.
        readings: further columns, functions of the factors.
        levels: of the best rank-k approximations of A, to name the plateaus by.
        until: the relative error to stop at.
        per_e_fold: recorded steps in each growth of the step by e.
        keep: the steps to keep the chain of.
    """
    schedule, read, kept = log_spaced(per_e_fold), {}, {}

    def note(step: int, chain: Chain) -> None:
        read[step] = {name: reading(chain) for name, reading in (readings or {}).items()}

    def look(step: int, state: Progress) -> bool:
        if keep(step):
            kept[step] = Chain(state.factors)
        if not schedule(step):
            return False
        note(step, Chain(state.factors))
        return until > 0 and state.relative_error <= until

    chain = start if isinstance(start, Chain) else Chain(tuple(start))
    note(0, chain)
    result = fit(
        RowBlocks.of(A, observed=observed),
        chain,
        rule,
        stopping=Stopping(steps, "none"),
        penalties=(NO_PENALTY,) * chain.depth,
        history=History(measures or {}),
        callback=look,
        schedule=schedule,
    )
    note(result.n_iter, result.chain)
    columns = pd.DataFrame([read[step] for step in result.history["step"]], index=result.history.index)
    history = pd.concat([result.history, columns], axis=1)
    plateaus = [match_level(plateau, levels) for plateau in detect(result.history)]
    return Descent(history, result.chain, plateaus, levels, kept)


def _number(value: float, digits: int) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}g}"
