"""Extrapolation with restart: each iteration starts from beyond where the small factors have got to.

    Y_i = [F_i + β (F_i − F_i before)]₊   for i = 2 … L

F₁ needs none: it is solved anew for every dictionary. While the objective falls β grows towards its cap; when it rises
the step is undone, β and its cap shrink, and the next iteration is a plain one, which never rises.

Reference: Ang & Gillis 2019, Neural Computation 31(2), doi:10.1162/neco_a_01157, arXiv:1805.06604 (E-NMF).
"""

from dataclasses import dataclass
from typing import Self

from torch import Tensor

from rankscope.nmf.chain import Chain

GROWTH, CAP_GROWTH, SHRINK = 1.05, 1.01, 1.5
"""γ, γ̄ and η of the reference."""


@dataclass(frozen=True)
class Momentum:
    """β, its cap, and the small factors F₂ … F_L before the last iteration; None for a plain next one."""

    beta: float
    cap: float
    before: tuple[Tensor, ...] | None

    @classmethod
    def still(cls) -> Self:
        """Before the first iteration."""
        return cls(0.5, 1.0, None)

    def reach(self, chain: Chain) -> tuple[Tensor, float]:
        """F_L before, and β; of a plain next iteration F_L as it is, and 0."""
        return (chain.last, 0.0) if self.before is None else (self.before[-1], self.beta)

    def ahead(self, chain: Chain) -> Chain:
        """The chain to start from: with Y in place of the small factors, or the chain itself."""
        if self.before is None:
            return chain
        small = zip(chain.factors[1:], self.before, strict=True)
        return Chain((chain.first, *(F.lerp(old, -self.beta).clamp_(min=0) for F, old in small)))

    def carried(self, chain: Chain) -> "Momentum":
        """After an iteration from ``chain`` that was kept."""
        if self.before is None:
            return Momentum(self.beta, self.cap, chain.factors[1:])
        return Momentum(min(self.cap, GROWTH * self.beta), min(1.0, CAP_GROWTH * self.cap), chain.factors[1:])

    def restarted(self) -> "Momentum":
        """After an iteration that was undone."""
        return Momentum(self.beta / SHRINK, self.beta, None)
