"""The layer-wise objective of a deep chain: every layer is a two-factor NMF of the one before it.

    min over F_l, Z_l ≥ 0 of  ½ Σ_l λ_l ‖Z_{l-1} − F_l Z_l‖² + penalties,     l = 1 … L-1,  Z₀ = A,  Z_{L-1} = F_L

With three factors λ₁‖A − W1 Z‖² + λ₂‖Z − W2 H‖². The codes Z_l (r_l×n) are variables of their own, and every variable's
subproblem is still (P, Q, C) (see ``subproblem``):

    F_l:  Q = λ_l Z_l Z_lᵀ,                    C = λ_l Z_{l-1} Z_lᵀ
    Z_l:  P = λ_l F_lᵀF_l + λ_{l+1} I,          C = λ_l F_lᵀ Z_{l-1} + λ_{l+1} F_{l+1} Z_{l+1}

Only F₁ᵀA and A Z₁ᵀ touch A, and these are what the two-factor chain F₁ Z₁ needs; all the rest is small.

λ₂, λ₃, … are scales and no weights: (s F₁, Z₁/s, F₂, …, F_L/s) has the same objective at s²λ₂ as the original at λ₂. So
nothing but the start, or a penalty, keeps a fit from lowering later terms by shrinking Z₁.

Reference: De Handschutter & Gillis 2023, Pattern Recognition 134:109102, doi:10.1016/j.patcog.2022.109102.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import inf
from numbers import Real

import torch
from torch import Tensor

from rankscope.nmf.blocks import gram
from rankscope.nmf.chain import Chain
from rankscope.nmf.penalty import NO_PENALTY, Penalty
from rankscope.nmf.rules import BlockRule
from rankscope.nmf.subproblem import Hessian, Subproblem


def take_turns(
    chain: Chain, G: Tensor, S: Tensor, rule: BlockRule, penalties: Sequence[Penalty], *, measure: bool = False
) -> tuple[Chain, list[tuple[Tensor, Tensor]]]:
    """Every variable after F₁ moved once, in the order Z₁, F₂, Z₂, …, F_L, and where asked their KKT residuals' sums.

    Args:
        chain: a chain with codes, F₁ moved already.
        G: F₁ᵀF₁ (r₁×r₁) in float64.
        S: F₁ᵀA (r₁×n).
        rule: how to move.
        penalties: one for each factor.
        measure: whether to return (‖v‖², ‖C‖²) of every subproblem.
    """
    L, residuals = chain.depth, []
    order = [place for layer in range(1, L - 1) for place in (L + layer - 1, layer)]
    for place in (*order, L - 1):
        F, problem = chain.variables[place], _subproblem(chain, place, G, S, penalties)
        if measure:
            residuals.append(problem.residual(F))
        chain = chain.replaced(place, rule.step(F, problem))
    return chain, residuals


def subproblems(
    chain: Chain, G: Tensor, S: Tensor, T: Tensor, penalties: Sequence[Penalty], *, nonnegative: bool = True
) -> Iterator[tuple[Tensor, Subproblem]]:
    """(variable, its subproblem) for all of ``chain.variables``; T = A Z₁ᵀ (m×r₁), G and S as in ``take_turns``."""
    hessian = Hessian.of(None, first_curvature(chain), chain.first)
    yield chain.first, Subproblem(hessian, chain.weights[0] * T, penalties[0], nonnegative)
    for place, F in enumerate(chain.variables[1:], start=1):
        yield F, replace(_subproblem(chain, place, G, S, penalties), nonnegative=nonnegative)


def first_curvature(chain: Chain) -> Tensor:
    """Q = λ₁ Z₁Z₁ᵀ of F₁, in float64."""
    return chain.weights[0] * gram(chain.basis.mT)


def first_term(chain: Chain, G: Tensor, S: Tensor) -> Tensor:
    """‖A − F₁ Z₁‖² − ‖A‖² in float64, from G = F₁ᵀF₁ and S = F₁ᵀA."""
    Z = chain.basis.to(torch.float64)
    return torch.sum((G @ Z - 2 * S) * Z)


def later_terms(chain: Chain) -> Tensor:
    """Σ_{l≥2} λ_l ‖Z_{l-1} − F_l Z_l‖² in float64."""
    Z = [level.to(torch.float64) for level in chain.levels]
    total = Z[0].new_zeros(())
    for weight, above, F, below in zip(chain.weights[1:], Z, chain.factors[1:], Z[1:], strict=False):
        total = total + weight * torch.addmm(above, F.to(torch.float64), below, alpha=-1).square_().sum()
    return total


def check_weights(weights: float | Sequence[float], layers: int) -> tuple[float, ...]:
    """λ₁ … λ_{L-1}: one number is repeated.

    Raises:
        ValueError: there are more or fewer than layers, or one is not positive and finite.
    """
    values = tuple(weights) if isinstance(weights, Sequence) else (weights,) * layers
    if not all(isinstance(value, Real) and not isinstance(value, bool) and 0 < value < inf for value in values):
        raise ValueError(f"layer_weights must be positive and finite, got {weights!r}; pass 1 for all")
    if len(values) != layers:
        raise ValueError(
            f"layer_weights must be one number or one for each of the {layers} layers, got {len(values)}; pass one"
        )
    return tuple(float(value) for value in values)


def _subproblem(chain: Chain, place: int, G: Tensor, S: Tensor, penalties: Sequence[Penalty]) -> Subproblem:
    """That of the variable at a place from 1 in ``chain.variables``, the others being as they are."""
    L, F, Z, weights = chain.depth, chain.factors, chain.levels, chain.weights
    if place < L - 1:
        above, below, weight = Z[place - 1], Z[place], weights[place]
        hessian = Hessian.of(None, weight * gram(below.mT), below)
        return Subproblem(hessian, weight * above @ below.mT, penalties[place])
    i = L - 2 if place == L - 1 else place - L  # Z[i] is in two terms, but the last one in one.
    P, C = (G, S) if i == 0 else (gram(F[i]), F[i].mT @ Z[i - 1])
    P, C = weights[i] * P, weights[i] * C
    if i < L - 2:
        P = P + weights[i + 1] * torch.eye(len(P), dtype=P.dtype, device=P.device)
        C = C + weights[i + 1] * F[i + 1] @ Z[i + 1]
    return Subproblem(Hessian.of(P, None, Z[i]), C, penalties[-1] if i == L - 2 else NO_PENALTY)
