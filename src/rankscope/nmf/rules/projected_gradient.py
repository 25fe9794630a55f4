"""Projected gradient with a step that is known to descend."""

from dataclasses import dataclass

from torch import Tensor

from rankscope.nmf.penalty import Penalty
from rankscope.nmf.rules.line_search import descend
from rankscope.nmf.rules.rule import DESCENT, BlockRule, Move
from rankscope.nmf.subproblem import Hessian, Subproblem


@dataclass(frozen=True)
class ProjectedGradient(BlockRule):
    """F ← [F − ∇f(F)/λ]₊ with λ = λ_max(P) λ_max(Q) + ℓ₂, the gradient's Lipschitz constant. The objective never rises.

    Reference: Bolte, Sabach & Teboulle 2014, Math. Program. 146 (PALM), doi:10.1007/s10107-013-0701-9.
    """

    @property
    def takes_separation(self) -> bool:
        """Yes, with backtracking from the quadratic's own step."""
        return True

    @property
    def multiplies(self) -> bool:
        """No."""
        return False

    @property
    def extrapolates(self) -> bool:
        """No."""
        return False

    def move(self, hessian: Hessian, penalty: Penalty) -> Move | None:
        """The step, but where the penalty takes a line search or F does not matter."""
        lipschitz = hessian.lipschitz + penalty.l2
        return Move(DESCENT, rate=1 / lipschitz) if lipschitz > 0 and not penalty.separation else None

    def step(self, F: Tensor, problem: Subproblem) -> Tensor:
        """One projected gradient step of F."""
        compiled = self.compiled_step(F, problem)
        if compiled is not None:
            return compiled
        lipschitz = problem.hessian.lipschitz + problem.penalty.l2
        if not lipschitz > 0:  # The other factors are zero: F does not matter.
            return F
        gradient = problem.gradient(F)
        if not problem.penalty.separation:
            return F.sub(gradient, alpha=1 / lipschitz).clamp_(min=0)
        return descend(F, problem, lambda t: F.sub(gradient, alpha=t / lipschitz).clamp_(min=0))
