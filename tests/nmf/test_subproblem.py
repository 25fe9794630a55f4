"""(P, Q, C) is all there is: objective, gradient and curvature from it are those of ½‖A − L F R‖² + penalty."""

import pytest
import torch

import laws
from rankscope.nmf.advance import evaluate, kkt_residual, subproblems
from rankscope.nmf.blocks import RowBlocks
from rankscope.nmf.chain import Chain
from rankscope.nmf.penalty import NO_PENALTY, Penalty

PENALTIES = [NO_PENALTY, Penalty(l1=0.3), Penalty(l2=0.7), Penalty(separation=0.4), Penalty(0.1, 0.2, 0.3)]


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("sizes", [(4,), (5, 3), (3, 4, 3, 2)])
def test_gradients_of_every_factor_equal_autograd(sizes, penalty):
    A = torch.rand(9, 8, dtype=torch.float64, generator=laws.generator(5))
    chain = laws.random_chain(1, (9, 8), sizes)
    penalties = tuple([penalty] * chain.depth)
    leaves = [F.clone().requires_grad_() for F in chain.factors]
    loss = 0.5 * (A - Chain(tuple(leaves)).product()).square().sum()
    for F, p in zip(leaves, penalties, strict=True):
        loss = loss + p.value(F)
    loss.backward()
    state = evaluate(RowBlocks.of(A, 4), chain)
    for (F, problem), leaf in zip(subproblems(state, penalties), leaves, strict=True):
        torch.testing.assert_close(problem.gradient(F), leaf.grad, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("penalty", PENALTIES)
def test_the_objective_differs_from_the_explicit_one_by_a_constant(penalty):
    A = torch.rand(9, 8, dtype=torch.float64)
    chain = laws.random_chain(2, (9, 8), (5, 3))
    penalties = tuple([penalty] * 3)
    other = laws.random_chain(3, (9, 8), (5, 3))
    for i, (F, problem) in enumerate(subproblems(evaluate(RowBlocks.of(A), chain), penalties)):
        moved = Chain(tuple(other.factors[i] if j == i else G for j, G in enumerate(chain.factors)))
        expected = laws.objective(A, moved, penalties) - laws.objective(A, chain, penalties)
        assert float(problem.objective(other.factors[i]) - problem.objective(F)) == pytest.approx(expected, rel=1e-9)


def test_lipschitz_and_diagonal_are_those_of_the_hessian():
    A, chain = torch.rand(9, 8, dtype=torch.float64), laws.random_chain(4, (9, 8), (5, 3))
    for F, problem in subproblems(evaluate(RowBlocks.of(A), chain), (NO_PENALTY,) * 3):
        hessian = torch.autograd.functional.hessian(problem.objective, F).reshape(F.numel(), F.numel())
        assert problem.hessian.lipschitz == pytest.approx(float(torch.linalg.eigvalsh(hessian)[-1]), rel=1e-9)
        torch.testing.assert_close(problem.hessian.diagonal(F).reshape(-1), hessian.diagonal() * F.reshape(-1))


def test_the_kkt_residual_vanishes_at_an_exact_product_and_ignores_scale(planted):
    blocks = RowBlocks.of(planted.A)
    assert kkt_residual(evaluate(blocks, planted.chain), (NO_PENALTY,) * 2) < 1e-14
    chain = laws.random_chain(7, tuple(planted.A.shape), (4,))
    W, H = chain.factors
    residuals = [kkt_residual(evaluate(blocks, Chain((s * W, H / s))), (NO_PENALTY,) * 2) for s in (1e-3, 1, 1e3)]
    assert residuals[0] > 0.01
    assert residuals == pytest.approx([residuals[0]] * 3, rel=1e-9)
