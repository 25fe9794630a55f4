"""Is a plateau low-rank bias, zeros that cannot leave, or the optimizer's memory?

Four fits from one start, that of ``archetypes``: by projected Adam; by Adam with a relu in the forward pass and a clamp
after the step, at zero, where relu′(0) = 0 holds whatever is there, or at a floor above it; and by projected Adam whose
second mean forgets ten times sooner. Zeros that want to grow are counted as if the solver could not move them. And
from the end of relu and clamp it goes on twice, as it is, and with every zero nudged.
"""

from dataclasses import dataclass
from typing import Any

import pandas as pd
from torch import Tensor

from rankscope.nmf.advance import evaluate
from rankscope.nmf.blocks import RowBlocks
from rankscope.nmf.chain import Chain
from rankscope.nmf.health import inspect
from rankscope.nmf.levels import CONVERGED
from rankscope.nmf.penalty import NO_PENALTY
from rankscope.nmf.rules import Adam, JointRule, Multiplicative
from rankscope.studies.reproduce.archetypes import climb_begins
from rankscope.studies.reproduce.experiment import Check, Descent, descend

RATE, NUDGE = 1e-2, 1e-3
FLOOR, MANY = 1e-10, 0.05
"""The floor of the fit that has one; the share of entries locked from which a plateau is an artefact."""


@dataclass(frozen=True)
class ReluAdam(JointRule[Any]):
    """Adam on relu(θ), then θ ← max(θ, floor): the gradient of an entry at zero is zero, whatever the objective wants.

    Only what Adam's first mean still holds can move such an entry, and only if it points away from zero.
    """

    adam: Adam
    floor: float = 0.0

    @property
    def projects(self) -> bool:
        """Yes."""
        return True

    def start(self, theta: Tensor) -> Any:
        """As Adam's."""
        return self.adam.start(theta)

    def step(self, theta: Tensor, gradient: Tensor, memory: Any) -> tuple[Tensor, Any]:
        """Adam's step along relu′(θ) ∘ ∇f."""
        theta, memory = self.adam.step(theta, gradient * (theta > 0), memory)
        return theta.clamp_(min=self.floor), memory


def reading(name: str, epoch: int, A: Tensor, chain: Chain, history: pd.DataFrame) -> dict[str, Any]:
    """A row of the table: the health of a chain, zeros that want to grow counted as locked."""
    row = history.iloc[(history["step"] - epoch).abs().argmin()]
    health = inspect(evaluate(RowBlocks.of(A), chain), Multiplicative(), (NO_PENALTY,) * chain.depth)
    sizes = [F.numel() for F in chain.factors]
    grow = sum(health.locked_entries) / sum(sizes)
    return {
        "fit": name,
        "epoch": epoch,
        "effective_rank": float(row["effective_rank"]),
        "relative_error": float(row["relative_error"]),
        "kkt": health.kkt_residual,
        "zeros": sum(int((F == 0).sum()) for F in chain.factors) / sum(sizes),
        "want_to_grow": grow,
        "stuck_components": len(health.locked_components),
        "dead_components": len(health.dead_components),
        "kind": "locked" if grow > MANY else "converged" if health.kkt_residual < CONVERGED else "transient",
    }


def nudge(A: Tensor, locked: Descent, steps: int) -> dict[str, Descent]:
    """The brief's way from where it ended, as it is and with zeros raised to a thousandth of their factor's mean."""
    ends = locked.chain.factors
    raised = [F.where(F > 0, NUDGE * F.mean()) for F in ends]
    rule = ReluAdam(Adam(RATE))
    return {"as it is": descend(A, ends, rule, steps), "nudged": descend(A, raised, rule, steps)}


def checks(table: pd.DataFrame, fits: dict[str, Descent], nudged: dict[str, Descent]) -> list[Check]:
    """What each kind of plateau would show."""
    ours = table[table["fit"] == "adam"]
    theirs = table[table["fit"] == "relu and clamp"].iloc[-1]
    begins = {name: climb_begins(fit.history) for name, fit in fits.items()}
    ranks = {name: float(fit.history["effective_rank"].iloc[-1]) for name, fit in (fits | nudged).items()}
    return [
        Check("plateaus under projected Adam: most components stuck at zero", "0",
              float(ours["stuck_components"].max()), 0, 0),
        Check("the slow stretch: its last epoch at β₂ = 0.99 over that at 0.999", "1 if it is the model's",
              begins["adam that forgets sooner"] / begins["adam"], 0.8, 1.25),
        Check("relu and clamp: share of entries at zero that want to grow", "≤ 0.05 unless locked",
              float(theirs["want_to_grow"]), 0, 0.05),
        Check(f"relu and a floor of {FLOOR:g}: last effective rank over projected Adam's", "1 unless locked",
              ranks["relu and floor"] / ranks["adam"], 0.95),
        Check("relu and clamp: last effective rank over projected Adam's", "1 unless locked",
              ranks["relu and clamp"] / ranks["adam"], 0.95),
        Check("relu and clamp: effective rank gained when zeros are nudged, over going on as it is", "0 unless locked",
              ranks["nudged"] - ranks["as it is"], -0.05, 0.05),
    ]  # fmt: skip
