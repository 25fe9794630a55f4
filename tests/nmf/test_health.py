"""A fit says when it is locked, dead or free in scale, and is silent when it is well."""

import numpy as np
import pytest
import torch

import laws
from rankscope.nmf.advance import evaluate
from rankscope.nmf.blocks import RowBlocks
from rankscope.nmf.chain import Chain
from rankscope.nmf.health import inspect
from rankscope.nmf.penalty import NO_PENALTY, Penalty
from rankscope.nmf.rules import SOLVERS, Hals, Multiplicative, make_rule


def health(A, chain, rule, penalties=None, **found):
    return inspect(evaluate(RowBlocks.of(A), chain), rule, tuple(penalties or [NO_PENALTY] * chain.depth), **found)


@pytest.fixture
def A():
    return torch.rand(20, 15, dtype=torch.float64, generator=laws.generator(0)) + 0.1


def bare_identity(shape, r):
    return Chain((torch.eye(shape[0], r, dtype=torch.float64), torch.eye(r, shape[1], dtype=torch.float64)))


def test_a_bare_identity_is_locked_under_multiplication_only(A):
    stuck = laws.run(A, bare_identity((20, 15), 5), Multiplicative(), 200).chain
    report = health(A, stuck, Multiplicative())
    assert report.locked
    assert report.locked_components == tuple((0, k) for k in range(5))
    assert sum(report.locked_entries) > 100
    assert report.messages[0].startswith("locked at zero")
    free = laws.run(A, bare_identity((20, 15), 5), Hals(), 200).chain
    assert not health(A, free, Hals()).locked
    assert health(A, free, Hals()).locked_entries == (0, 0)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_component_that_is_zero_on_both_sides_is_locked_under_every_solver(A, solver):
    W, H = laws.random_chain(1, (20, 15), (4,)).factors
    W[:, 2] = 0
    H[2] = 0
    rule = make_rule(solver)
    report = health(A, laws.run(A, Chain((W, H)), rule, 50).chain, rule)
    assert (0, 2) in report.locked_components
    assert (0, 2) in report.dead_components


def test_dead_components_are_named_by_layer(A):
    W1, W2, H = laws.random_chain(1, (20, 15), (4, 3)).factors
    W2[3] = 0
    H[1] = 0
    report = health(A, Chain((W1, W2, H)), Hals())
    assert report.dead_components == ((0, 3), (1, 1))


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_good_fit_has_nothing_to_say(A, solver):
    rule = make_rule(solver)
    report = health(A, laws.run(A, laws.random_chain(1, (20, 15), (3,)), rule, 300).chain, rule)
    assert report.ok
    assert report.messages == ()
    assert not report.locked


def test_entries_that_multiplication_took_to_zero_and_that_belong_there_are_not_locked(digits):
    X = torch.from_numpy(digits[:200])
    result = laws.run(X, laws.random_chain(0, (200, 64), (8,)), Multiplicative(), 2000)
    assert not health(X, result.chain, Multiplicative()).locked


def test_one_sided_penalties_leave_the_scale_free(A):
    chain = laws.random_chain(1, (20, 15), (3,))
    assert health(A, chain, Hals(), [Penalty(l1=0.1), NO_PENALTY]).scale_ambiguous
    assert not health(A, chain, Hals(), [Penalty(l1=0.1), Penalty(l2=0.1)]).scale_ambiguous
    assert not health(A, chain, Hals()).scale_ambiguous
    W, H = chain.factors
    assert health(A, Chain((1000 * W, H)), Hals()).scale_spread > 100


def test_divergence_is_reported(A):
    report = health(A, laws.random_chain(1, (20, 15), (3,)), Hals(), not_finite_at=12)
    assert report.not_finite_at == 12
    assert "step 12" in report.messages[0]
    assert np.isfinite(report.kkt_residual)
