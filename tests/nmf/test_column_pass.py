"""The compiled pass over the last factor: moved as the equations say, and what is read off it."""

import numpy as np
import pytest
import torch

import laws
from rankscope.nmf import passes
from rankscope.nmf.blocks import RowBlocks
from rankscope.nmf.column_pass import move_columns
from rankscope.nmf.penalty import NO_PENALTY, Penalty
from rankscope.nmf.rules import make_rule
from rankscope.nmf.rules.rule import COORDINATES, Move

MOVE = Move(COORDINATES, 2)


def problem(r, n, seed=0):
    """H, P = WᵀW and C = WᵀA of a random pair."""
    rng = np.random.default_rng(seed)
    W, A = rng.random((3 * r, r)), rng.random((3 * r, n))
    return rng.random((r, n)), W.T @ W, W.T @ A


def moved(X, P, C):
    after, Q = np.empty_like(X), np.empty(P.shape)
    return after, Q, *move_columns(X, P, C, 0.0, MOVE, True, after, Q, 2)


def test_a_dead_component_stays_and_nan_is_not_hidden():
    X, P, C = problem(3, 5)
    P[1], P[:, 1] = 0, 0
    np.testing.assert_array_equal(moved(X, P, C)[0][1], X[1])
    C[0, 2] = np.nan
    after = moved(X, P, C)[0]
    assert np.isnan(after[0, 2])
    assert np.isfinite(after[:, [0, 1, 3, 4]]).all()


@pytest.mark.parametrize("n", [5, 300])
def test_what_is_read_off_the_factor_is_of_it(n):
    X, P, C = problem(7, n)
    after, Q, inner, violation, scale = moved(X, P, C)
    np.testing.assert_allclose(Q, after @ after.T, rtol=1e-12)
    assert inner == pytest.approx((C * after).sum(), rel=1e-12)
    v = np.minimum(P @ X - C, np.diagonal(P)[:, None] * X)
    assert violation == pytest.approx((v**2).sum(), rel=1e-12)
    assert scale == pytest.approx((C**2).sum(), rel=1e-12)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("begin", "end"), [(7, 8), (3, 36), (5, 69), (100, 170), (9, 119), (40, 168)])
def test_columns_move_alike_beside_any_others(begin, end, dtype):
    """However many there are: of a last few some registers are swept alone."""
    X, P, C = problem(5, 300)
    X, C = X.astype(dtype), C.astype(dtype)
    whole = moved(X, P, C)[0]
    few = [np.ascontiguousarray(M[:, begin:end]) for M in (X, C)]
    np.testing.assert_array_equal(whole[:, begin:end], moved(few[0], P, few[1])[0])


@pytest.mark.parametrize("solver", ["hals", "mu", "gd"])
@pytest.mark.parametrize("penalty", [NO_PENALTY, Penalty(l1=0.2, l2=0.3)], ids=["plain", "penalized"])
def test_the_pass_is_the_rules_own_step(solver, penalty, monkeypatch):
    X, P, C = map(torch.from_numpy, problem(7, 200))
    rule, blocks = make_rule(solver), RowBlocks.of(torch.rand(21, 200), among=2)
    ours = passes.move_last(blocks, X, P, C, rule, penalty, measure=True)
    monkeypatch.setattr(passes, "FAST_HERE", False)
    monkeypatch.setattr(type(rule), "compiled_step", lambda self, F, problem: None)
    theirs = passes.move_last(blocks, X, P, C, rule, penalty, measure=True)
    assert theirs.Q is None
    assert laws.largest_difference((ours.F,), (theirs.F,)) < 1e-10
    assert ours.residual == pytest.approx([value.item() for value in theirs.residual], rel=1e-10)
