"""All a solver ever sees: with the other factors fixed, one factor F ≥ 0 minimizes

    f(F) = ½⟨P F Q, F⟩ − ⟨C, F⟩ + penalty(F),     P = LᵀL,  Q = R Rᵀ,  C = Lᵀ A Rᵀ

with L and R the products left and right of F. This equals ½‖A − L F R‖² up to the constant ½‖A‖², and needs neither A
nor the residual. The gradient is P F Q − C + ∇penalty.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from rankscope.nmf.penalty import NO_PENALTY, Penalty

PIECE_ROWS = 4096


@dataclass(frozen=True)
class Hessian:
    """F ↦ P F Q, the second derivative of the fit, with P (a×a) and Q (b×b), None standing for the identity."""

    P: Tensor | None
    Q: Tensor | None

    @classmethod
    def of(cls, P: Tensor | None, Q: Tensor | None, F: Tensor) -> Self:
        """The Hessian from float64 Grams, in the precision of F."""
        return cls(None if P is None else P.to(F.dtype), None if Q is None else Q.to(F.dtype))

    def __call__(self, F: Tensor) -> Tensor:
        """P F Q."""
        if self.P is not None:
            F = self.P @ F
        if self.Q is None:
            return F
        # Q is symmetric, and what lies in memory as F does is fast to add to it.
        return (self.Q @ F.mT).mT if F.stride(0) == 1 else F @ self.Q

    def plus(self, l2: float) -> "Hessian":
        """That with ½ ℓ₂‖F‖² beside it, where rows or columns do not interact."""
        if l2 == 0:
            return self
        P, Q = (
            None if M is None else M + l2 * torch.eye(len(M), dtype=M.dtype, device=M.device) for M in (self.P, self.Q)
        )
        return Hessian(P, Q)

    @property
    def side(self) -> Tensor:
        """The one of P and Q that is not the identity, where rows or columns do not interact."""
        M = self.Q if self.P is None else self.P
        assert M is not None
        assert self.one_sided
        return M

    @property
    def one_sided(self) -> bool:
        """Whether rows or columns do not interact: one of P and Q is the identity."""
        return (self.P is None) != (self.Q is None)

    def diagonal(self, F: Tensor) -> Tensor:
        """diag(P) F diag(Q): every entry times its own curvature."""
        if self.P is not None:
            F = self.P.diagonal().unsqueeze(1) * F
        return F if self.Q is None else F * self.Q.diagonal()

    @cached_property
    def lipschitz(self) -> float:
        """λ_max(P) λ_max(Q), the Lipschitz constant of the gradient."""
        return _largest_eigenvalue(self.P) * _largest_eigenvalue(self.Q)


@dataclass(frozen=True)
class Subproblem:
    """min over F ≥ 0, or over all F, of ½⟨P F Q, F⟩ − ⟨C, F⟩ + penalty(F)."""

    hessian: Hessian
    C: Tensor
    penalty: Penalty = NO_PENALTY
    nonnegative: bool = True

    def objective(self, F: Tensor) -> Tensor:
        """f(F), a 0-d tensor."""
        return torch.sum((0.5 * self.hessian(F) - self.C) * F) + self.penalty.value(F)

    def gradient(self, F: Tensor) -> Tensor:
        """∇f(F) = P F Q − C + ∇penalty(F), of F's shape."""
        return self.penalty.added_to_gradient(self.hessian(F) - self.C, F)

    def violation(self, F: Tensor) -> Tensor:
        """‖v‖² with v = min(∇f, D ∘ F) and D_ij = P_ii Q_jj + ℓ₂ the curvature of an entry: zero exactly at a KKT
        point.

        v is the gradient, but where that pushes an entry towards zero no more than what would take it there: an entry
        that multiplication keeps just above zero does not count. Over all F, v is the gradient.
        """
        if not self.nonnegative:
            return self.gradient(F).square().sum()
        return torch.stack([problem._violation(part) for part, problem in self.pieces(F)]).sum()

    def pieces(self, F: Tensor) -> Iterator[tuple[Tensor, "Subproblem"]]:
        """F and its problem a few rows at a time where rows do not interact, so that no temporary has F's size."""
        if self.hessian.P is not None or len(F) <= PIECE_ROWS:
            yield F, self
            return
        for part, C in zip(F.split(PIECE_ROWS), self.C.split(PIECE_ROWS), strict=True):
            yield part, Subproblem(self.hessian, C, self.penalty)

    def _violation(self, F: Tensor) -> Tensor:
        scaled = self.hessian.diagonal(F)
        if self.penalty.l2:
            scaled = scaled + self.penalty.l2 * F
        return torch.minimum(self.gradient(F), scaled).square().sum()

    def residual(self, F: Tensor) -> tuple[Tensor, Tensor]:
        """(‖v‖², ‖C‖²) in float64, which sums over row blocks."""
        scale = torch.stack([piece.C.square().sum(dtype=torch.float64) for _, piece in self.pieces(F)]).sum()
        return self.violation(F).double(), scale


def _largest_eigenvalue(M: Tensor | None) -> float:
    return 1.0 if M is None else torch.linalg.eigvalsh(M.to(torch.float64))[-1].item()
