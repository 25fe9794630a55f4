"""What may be added to ½‖A − F₁ … F_L‖² for one factor: sparsity, shrinkage, and separation of its rows."""

from typing import NamedTuple

import torch
from torch import Tensor

from rankscope.metrics import cosine_separation_loss


class Penalty(NamedTuple):
    """ℓ₁ ΣF + ½ ℓ₂ ‖F‖²_F + w ‖F̂F̂ᵀ − I‖²_F for a factor F ≥ 0, with F̂ its unit rows."""

    l1: float = 0.0
    l2: float = 0.0
    separation: float = 0.0

    def value(self, F: Tensor) -> Tensor:
        """The penalty of F, a 0-d tensor."""
        value = self.l1 * F.sum() + 0.5 * self.l2 * F.square().sum()
        if self.separation:
            value = value + self.separation * torch.as_tensor(cosine_separation_loss(F))
        return value

    def added_to_gradient(self, gradient: Tensor, F: Tensor) -> Tensor:
        """The gradient of a function of F with the penalty's."""
        if self == NO_PENALTY:
            return gradient
        positive, negative = self.gradient_parts(F)
        return gradient + positive - negative

    def gradient_parts(self, F: Tensor) -> tuple[Tensor | float, Tensor | float]:
        """(∇⁺, ∇⁻), both ≥ 0, with ∇⁺ − ∇⁻ the gradient: a multiplicative rule divides by one and adds the other."""
        positive: Tensor | float = self.l1 + self.l2 * F if self.l2 else self.l1
        if not self.separation:
            return positive, 0.0
        attract, repel = _separation_gradient_parts(F)
        return positive + self.separation * attract, self.separation * repel


NO_PENALTY = Penalty()


def _separation_gradient_parts(F: Tensor) -> tuple[Tensor, Tensor]:
    """∇‖F̂F̂ᵀ − I‖² = 4 (Σ_{j≠i} c_ij f̂_j − Σ_{j≠i} c_ij² f̂_i)/‖f_i‖ in row i, with c_ij the cosines; 0 in a zero row."""
    norm = torch.linalg.vector_norm(F, dim=1, keepdim=True)
    inverse = torch.where(norm > 0, 1 / norm, 0.0)
    unit = F * inverse
    cosines = (unit @ unit.mT).fill_diagonal_(0)
    scale = 4 * inverse
    return scale * (cosines @ unit), scale * cosines.square().sum(1, keepdim=True) * unit
