"""Activations of new rows for a fitted dictionary: the F₁ subproblem, solved to its end.

For R = F₂ … F_L (r×n) and rows A (m×n): min over F ≥ 0 of ½‖A − F R‖² + penalty(F), convex, one row independent of
the next. Where entries of A are missing, the current F R stands for them and is renewed every few sweeps.
"""

import torch
from torch import Tensor

from rankscope.nmf import passes
from rankscope.nmf.blocks import RowBlocks, gram, overlay
from rankscope.nmf.penalty import Penalty
from rankscope.nmf.rules import Hals
from rankscope.nmf.rules.rule import SWEEPS_PER_CHECK
from rankscope.nmf.subproblem import Hessian, Subproblem


def encode(blocks: RowBlocks, R: Tensor, penalty: Penalty, *, max_sweeps: int = 5000) -> Tensor:
    """The activations F (m×r) of the rows of A, by coordinate descent from zero until the KKT residual is rounding."""
    hessian = Hessian.of(None, gram(R.mT), R)
    # What a product in this precision can resolve.
    tolerance = torch.finfo(R.dtype).eps ** 0.75
    if blocks.observed is None and passes.compiled(blocks, R):
        return passes.solve_first(blocks, R, hessian, penalty, sweeps=max_sweeps, tolerance=tolerance)
    activations = R.new_zeros(blocks.shape[0], R.shape[0])

    def visit(rows: slice, A_b: Tensor) -> tuple[Tensor, ...]:
        F, problem = activations[rows], Subproblem(hessian, (R @ A_b.mT).mT, penalty)
        scale = problem.C.square().sum()
        for _ in range(0, max_sweeps, SWEEPS_PER_CHECK):
            F = Hals(SWEEPS_PER_CHECK).step(F, problem)
            if blocks.observed is not None:
                completed = overlay(A_b, blocks.observed[rows], F @ R)
                problem = Subproblem(hessian, (R @ completed.mT).mT, penalty)
            if problem.violation(F) <= tolerance**2 * scale:
                break
        activations[rows] = F
        return ()

    blocks.total(visit)
    return activations
