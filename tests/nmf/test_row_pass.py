"""The compiled passes do what the equations say, for every shape of the last group of rows, lanes and panels."""

import numpy as np
import pytest
import torch

import laws
from rankscope.nmf import passes, row_pass
from rankscope.nmf.blocks import RowBlocks
from rankscope.nmf.penalty import NO_PENALTY, Penalty
from rankscope.nmf.rules import make_rule
from rankscope.nmf.rules.rule import COORDINATES, DESCENT, MULTIPLICATION, Move
from rankscope.nmf.subproblem import Hessian, Subproblem

SHAPES = [(1, 5, 1), (3, 17, 2), (130, 40, 7), (257, 1300, 10), (140, 2100, 60), (261, 77, 19), (50, 1100, 50)]
SHAPES += [(140, 333, 131)]
"""m, n and r: less than a group and more than a tile, odd ranks, several panels; components left over, one to four."""
TOLERANCE = {np.float64: 1e-12, np.float32: 1e-4}
MOVES = [Move(COORDINATES, 2), Move(MULTIPLICATION), Move(DESCENT, rate=1e-3)]
L1, L2 = 0.3, 0.2
TEAMS = [1, 2, 5]


def problem(shape, dtype=np.float64, seed=0):
    """A with empty margins, R, F > 0, and Q = RRᵀ + ℓ₂I."""
    (m, n, r), rng = shape, np.random.default_rng(seed)
    A, R, F = rng.random((m, n)), rng.random((r, n)), rng.random((m, r)) + 0.1
    for row in A:
        row[: rng.integers(n)] = 0
        row[rng.integers(n) :] = 0
    A[:, rng.random(n) < 0.3] = 0
    return [*(M.astype(dtype) for M in (A, R, F)), R @ R.T + L2 * np.eye(r)]


def moved(F, Q, C, move):
    F = F.copy()
    if move.kind == MULTIPLICATION:
        return F * C / (F @ Q + L1)
    if move.kind == DESCENT:
        return np.maximum(F - move.rate * (F @ Q - C + L1), 0)
    for _ in range(move.sweeps):
        for j in range(F.shape[1]):
            if Q[j, j] > 0:
                F[:, j] = np.maximum(F[:, j] - (F @ Q[:, j] - C[:, j] + L1) / Q[j, j], 0)
    return F


def move_rows(A, at, R, Q, X, after, move, team):
    S, G = np.empty_like(R), np.empty((len(R), len(R)))
    return S, G, *row_pass.move_rows(A, at, R, Q, L1, X, after, move, True, S, G, team)


def evaluate_rows(A, R, between, X, T, team):
    S, G = np.empty_like(R) if len(X) else np.empty((0, 0), R.dtype), np.empty((len(X), len(X)))
    return S, G, row_pass.evaluate_rows(A, 0, R, between, X, T, S, G, team)


def close(ours, expected, dtype):
    np.testing.assert_allclose(ours, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * np.abs(expected).max())


def test_a_matrix_that_is_far_passes_as_its_parts_do():
    """Beyond FAR_BYTES other rows are fetched, which changes no number."""
    A, R, F, Q = problem((9_000, 600, 5))
    assert A.nbytes > row_pass.FAR_BYTES > A[:4_992].nbytes
    X, after, parts = np.ascontiguousarray(F.T), *np.empty((2, 5, 9_000))
    S, G, *residual = move_rows(A, 0, R, Q, X, after, MOVES[0], 1)
    ends = [move_rows(A[a:b], a, R, Q, X, parts, MOVES[0], 1) for a, b in ((0, 4_992), (4_992, 9_000))]
    np.testing.assert_array_equal(after, parts)
    for ours, *of_parts in zip((S, G, *residual), *ends, strict=True):
        np.testing.assert_allclose(ours, sum(of_parts), rtol=1e-12)
    S, G, inner = evaluate_rows(A, R, np.empty((0, 0)), X, after, 1)
    close(after, (A @ R.T).T, np.float64)
    close(S, X @ A, np.float64)
    assert inner == pytest.approx((S * R).sum())


@pytest.mark.parametrize("team", TEAMS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("move", MOVES, ids=["coordinates", "multiplication", "descent"])
def test_a_pass_moves_rows_and_sums_what_they_leave(shape, dtype, move, team):
    A, R, F, Q = problem(shape, dtype)
    C, X = A @ R.T, np.ascontiguousarray(F.T)
    after = np.empty_like(X)
    S, G, violation, scale = move_rows(A, 0, R, Q, X, after, move, team)
    close(after.T, moved(F, Q, C, move), dtype)
    close(S, after @ A, dtype)
    wide = after.astype(np.float64)
    np.testing.assert_allclose(G, wide @ wide.T, rtol=1e-12)
    v = np.minimum(F @ Q - C + L1, np.diagonal(Q) * F)
    assert violation == pytest.approx((v**2).sum(), rel=1e-3)
    assert scale == pytest.approx((C**2).sum(), rel=1e-5)


@pytest.mark.parametrize("move", MOVES, ids=["coordinates", "multiplication", "descent"])
def test_parts_of_the_rows_add_up_to_all(move):
    A, R, F, Q = problem((300, 90, 7))
    X = np.ascontiguousarray(F.T)
    whole, parts = np.empty_like(X), np.empty_like(X)
    S, G, *_ = move_rows(A, 0, R, Q, X, whole, move, 2)
    sums = [move_rows(A[at : at + 101], at, R, Q, X, parts, move, 1) for at in (0, 101, 202)]
    np.testing.assert_array_equal(whole, parts)
    np.testing.assert_allclose(S, sum(part[0] for part in sums), rtol=1e-12)
    np.testing.assert_allclose(G, sum(part[1] for part in sums), rtol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize("team", TEAMS)
def test_a_look_takes_both_products(shape, inner, team):
    A, R, F, _ = problem(shape)
    wider = np.random.default_rng(1).random((len(R) + 2, len(R)))
    L = F if not inner else np.random.default_rng(2).random((len(A), len(R) + 2))
    X, T = np.ascontiguousarray(L.T), np.empty((len(R), len(A)))
    between = np.ascontiguousarray(wider.T) if inner else np.empty((0, 0))
    S, G, with_R = evaluate_rows(A, R, between, X, T, team)
    np.testing.assert_allclose(T, R @ A.T, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(S, ((L @ wider if inner else L).T) @ A, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(G, L.T @ L, rtol=1e-12)
    assert with_R == pytest.approx((S * R).sum(), rel=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("team", TEAMS)
def test_the_residual_is_exact_where_grams_cancel(shape, team):
    A, R, F, _ = problem(shape)
    X = np.ascontiguousarray(F.T)
    assert row_pass.squared_residual(A, 0, R, X, team) == pytest.approx(((A - F @ R) ** 2).sum(), rel=1e-12)
    assert row_pass.squared_residual(F @ R, 0, R, X, team) <= 1e-28 * (F @ R).size * (F @ R).max() ** 2


@pytest.mark.parametrize("solver", ["hals", "mu", "gd"])
@pytest.mark.parametrize("penalty", [NO_PENALTY, Penalty(l1=0.2, l2=0.3)], ids=["plain", "penalized"])
def test_compiled_passes_are_the_rules_own_steps(solver, penalty, monkeypatch):
    A, R, F, _ = map(torch.from_numpy, problem((200, 60, 7)))
    rule, Q = make_rule(solver), R @ R.mT
    blocks = RowBlocks.of(A, 64)
    assert passes.compiled(blocks, R)
    ours, terms = passes.move_first(blocks, F, R, Q, rule, penalty, measure=True)
    monkeypatch.setattr(passes, "FAST_HERE", False)
    monkeypatch.setattr(type(rule), "compiled_step", lambda self, F, problem: None)
    theirs, expected = passes.move_first(blocks, F, R, Q, rule, penalty, measure=True)
    assert laws.largest_difference((ours, *terms), (theirs, *expected)) < 1e-10
    torch.testing.assert_close(
        ours, rule.step(F, Subproblem(Hessian(None, Q), A @ R.mT, penalty)), rtol=1e-9, atol=1e-10
    )


@pytest.mark.parametrize("team", TEAMS)
def test_several_threads_take_the_products_of_one(team):
    A, R, F, Q = problem((1500, 700, 9))
    X, nothing = np.ascontiguousarray(F.T), np.empty((0, 0))
    one, several = np.empty_like(X), np.empty_like(X)
    evaluate_rows(A, R, nothing, nothing, one, 1)
    evaluate_rows(A, R, nothing, nothing, several, team)
    np.testing.assert_array_equal(one, several)
    np.testing.assert_allclose(one, R @ A.T, rtol=1e-12)
    row_pass.solve_rows(A, 0, R, Q, L1, one, 50, 1e-6, 1)
    row_pass.solve_rows(A, 0, R, Q, L1, several, 50, 1e-6, team)
    np.testing.assert_array_equal(one, several)
    again = [evaluate_rows(A, R, nothing, X, np.empty_like(X), team)[0] for _ in range(2)]
    np.testing.assert_array_equal(*again)
