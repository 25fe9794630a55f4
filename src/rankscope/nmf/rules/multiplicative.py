"""Multiplicative updates."""

from dataclasses import dataclass

import torch
from torch import Tensor

from rankscope.nmf.penalty import NO_PENALTY, Penalty
from rankscope.nmf.rules.line_search import descend
from rankscope.nmf.rules.rule import MULTIPLICATION, BlockRule, Move
from rankscope.nmf.subproblem import Hessian, Subproblem


@dataclass(frozen=True)
class Multiplicative(BlockRule):
    """F ← F ∘ (C + ∇⁻) / (P F Q + ∇⁺), with ∇⁺ − ∇⁻ the gradient of the penalty. The objective never rises.

    An entry at zero stays there: start strictly positive.

    Reference: Lee & Seung 2001, NIPS 13, "Algorithms for non-negative matrix factorization".
    """

    @property
    def takes_separation(self) -> bool:
        """Yes, with backtracking along the direction of the step."""
        return True

    @property
    def multiplies(self) -> bool:
        """Yes."""
        return True

    @property
    def extrapolates(self) -> bool:
        """No."""
        return False

    def move(self, hessian: Hessian, penalty: Penalty) -> Move | None:
        """The update itself, but where the penalty takes a line search."""
        return None if penalty.separation else Move(MULTIPLICATION)

    def pair_moves(self, penalties: tuple[Penalty, ...]) -> tuple[Move, Move] | None:
        """The update of either, but where a penalty takes a line search."""
        return None if any(p.separation for p in penalties) else (Move(MULTIPLICATION), Move(MULTIPLICATION))

    def step(self, F: Tensor, problem: Subproblem) -> Tensor:
        """One multiplicative update of F."""
        compiled = self.compiled_step(F, problem)
        if compiled is not None:
            return compiled
        denominator = problem.hessian(F)
        numerator = problem.C
        if problem.penalty != NO_PENALTY:
            positive, negative = problem.penalty.gradient_parts(F)
            denominator = denominator + positive
            numerator = numerator + negative
        # Where the denominator is 0, F is 0 too or the whole component is; the quotient must only stay finite.
        smallest = torch.finfo(torch.float32).eps
        updated = torch.div(numerator, denominator.masked_fill_(denominator == 0, smallest), out=denominator).mul_(F)
        if not problem.penalty.separation:
            return updated
        # The majorizer behind the update holds for quadratics; its direction, −F/(P F Q + ∇⁺) ∘ ∇f, descends anyway.
        return descend(F, problem, lambda t: torch.lerp(F, updated, t))
