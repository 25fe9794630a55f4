"""Multiplicative updates."""

from dataclasses import dataclass

import torch
from torch import Tensor

from rankscope.nmf.penalty import NO_PENALTY
from rankscope.nmf.rules.line_search import descend
from rankscope.nmf.rules.rule import BlockRule
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

    def step(self, F: Tensor, problem: Subproblem) -> Tensor:
        """One multiplicative update of F."""
        if problem.penalty == NO_PENALTY and F.device.type == "cpu" and problem.hessian.one_sided:
            return _multiplied(F, problem)
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


def _multiplied(F: Tensor, problem: Subproblem) -> Tensor:
    """The same in one pass over F, where its rows or its columns do not interact."""
    from rankscope.nmf import kernels  # noqa: PLC0415  the compiler is loaded when it is needed

    P, Q = problem.hessian.P, problem.hessian.Q
    if Q is None:
        assert P is not None
        return _multiplied(F.mT, Subproblem(Hessian(None, P), problem.C.mT)).mT
    F = F.mT.clone(memory_format=torch.contiguous_format).mT  # Columns are contiguous, as the kernel goes.
    kernels.multiply_rows(F.numpy(), Q.numpy(), problem.C.numpy())
    return F
