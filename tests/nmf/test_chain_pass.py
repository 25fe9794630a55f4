"""What is compiled for a joint step is what the equations say, for chains of every depth and narrow place."""

import numpy as np
import pytest
import torch

import laws
from rankscope import DeepNMF
from rankscope.nmf import advance, packed_pass, passes
from rankscope.nmf.blocks import RowBlocks
from rankscope.nmf.chain import Chain, Layers
from rankscope.nmf.penalty import NO_PENALTY, Penalty
from rankscope.nmf.rules import Adam, GradientDescent
from rankscope.spectra import product

SIZES = [(3,), (1,), (2, 5), (5, 2), (7, 3, 6), (6, 5, 2), (2, 4, 9), (5, 4, 1, 3), (3, 3, 3, 3), (9, 7, 5, 13)]
"""r₁, …, r_{L-1} for L = 2 … 5 with the narrow place first, in between and last."""
SHAPES = [(1, 5), (3, 17), (130, 41), (257, 66)]
"""m and n: less than a group of rows, less than a group of lanes, more than one; no multiples of vectors."""
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4}
RULE = GradientDescent(1e-3)


@pytest.fixture
def by_operations(monkeypatch):
    """Forces what runs on any device."""
    return lambda: monkeypatch.setattr(advance, "_is_compiled", lambda blocks, chain: False)


def problem(shape, sizes, dtype):
    """A with empty margins of rows, and a chain with some zeros."""
    A = torch.rand(shape, generator=laws.generator(1), dtype=dtype)
    A[:, : shape[1] // 3] = 0
    return RowBlocks.of(A), laws.random_chain(2, shape, sizes, dtype, zeros=0.2)


def penalties(chain, penalty=NO_PENALTY):
    return (penalty,) * chain.depth


def close(ours, expected, dtype):
    scale = max(float(abs(expected).max()), 1e-30)
    torch.testing.assert_close(ours / scale, (expected / scale).to(ours.dtype), rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sizes", SIZES)
def test_the_gradient_is_that_of_the_operations_and_of_autograd(sizes, shape, dtype, by_operations):
    blocks, chain = problem(shape, sizes, dtype)
    ours = advance.start(blocks, chain, RULE)
    assert ours.slope is not None
    by_operations()
    other = advance.start(blocks, chain, RULE)
    assert other.slope is None
    gradients = [advance.gradient(state, penalties(chain)) for state in (ours, other)]
    theta = chain.flat().double().requires_grad_()
    (0.5 * (blocks.A.double() - chain.like(theta).product()).square().sum()).backward()
    for part, expected, exact in zip(*map(chain.split, (*gradients, theta.grad)), strict=True):
        close(part, expected, dtype)
        close(part, exact, dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sizes", SIZES)
def test_what_is_left_of_a_pass_has_closed_forms(sizes, shape, dtype):
    blocks, chain = problem(shape, sizes, dtype)
    state, j = advance.start(blocks, chain, RULE), chain.narrowest
    A, factors = blocks.A.double(), [F.double() for F in chain.factors]
    L, R = product(factors[:j]), product(factors[j:])
    close(state.S, L.mT @ A, dtype)
    close(state.T, A @ R.mT, dtype)
    close(torch.tensor(state.trace.inner), ((L.mT @ A) * R).sum(), dtype)
    for ours, expected in (
        (state.left_grams[0], factors[0].mT @ factors[0]),
        (state.trace.P, L.mT @ L),
        (state.trace.Q, R @ R.mT),
    ):
        assert ours.dtype == torch.float64
        close(ours, expected, torch.float64)
    residual = 0.5 * (A - L @ R).square().sum() - 0.5 * A.square().sum()
    assert state.objective(penalties(chain)) == pytest.approx(residual.item(), rel=1e-5)


@pytest.mark.parametrize("among", [1, 2, 5])
@pytest.mark.parametrize("shape", [(33, 17), (130, 97)])
@pytest.mark.parametrize("sizes", SIZES)
def test_shares_of_the_columns_give_the_same(sizes, shape, among, monkeypatch):
    monkeypatch.setattr(packed_pass, "ENOUGH", 1)
    blocks, chain = problem(shape, sizes, torch.float64)
    one = advance.start(RowBlocks.of(blocks.A, among=1), chain, RULE)
    several = advance.start(RowBlocks.of(blocks.A, among=among), chain, RULE)
    read = [(s.slope, s.S, s.T, s.trace.P, s.trace.Q, torch.tensor(s.trace.inner)) for s in (one, several)]
    for ours, expected in zip(*read, strict=True):
        close(ours, expected, torch.float64)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_step_of_adam_in_the_pass_is_the_rules_own(sizes, dtype):
    blocks, chain = problem((130, 41), sizes, dtype)
    rule, some = Adam(0.05), penalties(chain, Penalty(l1=0.1))
    state = advance.start(blocks, chain, rule, some)
    for _ in range(3):
        theta, memory = rule.step(state.theta, advance.gradient(state, some), state.memory)
        state, _ = advance.advance(blocks, state, rule, some)
        assert torch.equal(state.theta, theta)
        assert state.memory.t == memory.t
        np.testing.assert_array_equal(state.memory.first, memory.first)
        np.testing.assert_array_equal(state.memory.second, memory.second)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_penalties_are_added_as_to_the_operations(dtype, by_operations):
    blocks, chain = problem((31, 23), (5, 3), dtype)
    some = (Penalty(0.3), NO_PENALTY, Penalty(l2=0.2, separation=0.1))

    def after(steps):
        state = advance.start(blocks, chain, RULE, some)
        for _ in range(steps):
            state, _ = advance.advance(blocks, state, RULE, some)
        return state

    ours = after(20)
    by_operations()
    expected = after(20)
    assert (ours.slope is None, expected.slope is None) == (False, True)
    close(ours.theta, expected.theta, dtype)
    assert ours.objective(some) == pytest.approx(expected.objective(some), rel=1e-4)
    assert advance.kkt_residual(ours, some) == pytest.approx(advance.kkt_residual(expected, some), rel=1e-2)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("solver", ["adam", "scalar"])
def test_a_fit_goes_as_by_the_operations_and_twice_the_same(solver, dtype, by_operations):
    X = laws.planted(3, (90, 61), (7, 4)).A.numpy().astype(dtype)

    def fitted():
        return DeepNMF((7, 4), solver=solver, max_iter=200, stop="none", random_state=0).fit(X)

    ours, again = fitted(), fitted()
    for F, same in zip(ours.factors_, again.factors_, strict=True):
        np.testing.assert_array_equal(F, same)
        assert F.dtype == dtype
    by_operations()
    expected = fitted()
    for column in set(ours.history_.columns) - {"seconds"}:
        np.testing.assert_allclose(ours.history_[column], expected.history_[column], rtol=1e-3)


@pytest.mark.parametrize("kind", ["bytes", "missing"])
def test_a_matrix_that_is_formed_for_the_pass_is_that_of_the_operations(kind, by_operations):
    A, chain = (
        9 * torch.rand(31, 23, generator=laws.generator(0)),
        laws.random_chain(1, (31, 23), (5, 3), torch.float32),
    )
    blocks = RowBlocks.of(A.to(torch.uint8)) if kind == "bytes" else RowBlocks.of(A, observed=A > 2)

    def after(steps):
        state = advance.start(blocks, chain, RULE)
        for _ in range(steps):
            state, _ = advance.advance(blocks, state, RULE, penalties(chain))
        return state

    ours = after(20)
    by_operations()
    expected = after(20)
    assert (ours.slope is None, expected.slope is None) == (False, True)
    close(ours.theta, expected.theta, torch.float32)
    close(ours.S, expected.S, torch.float32)


def test_it_is_taken_where_it_is_meant_for():
    A = torch.rand(40, 30, generator=laws.generator(0))
    chain = laws.random_chain(1, (40, 30), (5, 4), torch.float32)
    for blocks in (RowBlocks.of(A), RowBlocks.of(A, observed=A > 0.1), RowBlocks.of((A * 255).to(torch.uint8))):
        assert advance.start(blocks, chain, RULE).slope is not None
    layered = Chain(chain.factors, Layers((torch.rand(5, 30),), (1.0, 1.0)))
    elsewhere = [
        (RowBlocks.of(A, 7), chain),
        (RowBlocks.of(A), layered),
        (RowBlocks.of(A), laws.random_chain(1, (40, 30), (passes.WIDEST + 1, 4), torch.float32)),
    ]
    for blocks, other in elsewhere:
        assert advance.start(blocks, other, RULE).slope is None


def test_a_state_is_not_changed_by_the_next_step():
    blocks, chain = problem((31, 23), (5, 3), torch.float32)
    state = advance.start(blocks, chain, RULE)
    held = state.theta, state.slope, state.S, state.T, *state.trace[:2]
    before = [tensor.clone() for tensor in held]
    advance.advance(blocks, state, RULE, penalties(chain))
    for tensor, same in zip(held, before, strict=True):
        assert torch.equal(tensor, same)
