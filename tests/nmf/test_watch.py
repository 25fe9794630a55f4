"""What is read off the Grams is what the explicit product says, at every step, however the steps are batched."""

import numpy as np
import pytest
import torch

import laws
from rankscope import NMF
from rankscope.metrics import effective_rank, nuclear_over_operator
from rankscope.nmf.advance import Trace, evaluate
from rankscope.nmf.blocks import RowBlocks
from rankscope.nmf.chain import Chain
from rankscope.nmf.rules import SOLVERS, Hals, make_rule
from rankscope.nmf.watch import Watch
from rankscope.trace.history import History


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("sizes", [(5,), (7, 4), (3, 6)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_every_row_of_history_equals_the_explicit_metrics(solver, sizes, dtype, tolerance):
    A = torch.rand(40, 30, dtype=dtype, generator=laws.generator(0))
    chain = laws.random_chain(1, (40, 30), sizes, dtype=dtype)
    steps = 12
    history = laws.run(A, chain, make_rule(solver), steps).history
    assert list(history["step"]) == list(range(steps + 1))
    assert (np.diff(history["seconds"]) > 0).all()
    for t in (0, 1, 5, steps):
        B = laws.run(A, chain, make_rule(solver), t).chain.product().double()
        residual = float((A.double() - B).norm())
        row = history.iloc[t]
        assert row["absolute_error"] == pytest.approx(residual, rel=tolerance)
        assert row["relative_error"] == pytest.approx(residual**2 / float(A.double().norm()) ** 2, rel=2 * tolerance)
        sigma = torch.linalg.svdvals(B)
        assert row["sigma_1"] == pytest.approx(float(sigma[0]), rel=tolerance)
        assert row["sigma_2"] == pytest.approx(float(sigma[1]), rel=tolerance, abs=1e-6 * float(sigma[0]))
        assert row["effective_rank"] == pytest.approx(float(effective_rank(B)), rel=max(tolerance, 1e-6))
        assert row["nuclear_over_operator"] == pytest.approx(float(nuclear_over_operator(B)), rel=max(tolerance, 1e-6))


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_history_of_a_whole_fit_is_what_its_callback_reads(solver):
    X, errors = torch.rand(60, 40, generator=laws.generator(0)), []
    model = NMF(4, solver=solver, max_iter=30, stop="none", random_state=0)
    model.set_params(callback=lambda step, state: errors.append(state.relative_error)).fit(X)
    W, H = model.factors_
    exact = float((X - W @ H).square().sum() / X.square().sum())
    assert model.history_["relative_error"].iloc[-1] == pytest.approx(exact, rel=1e-4)
    np.testing.assert_allclose(model.history_["relative_error"].iloc[1:], errors, rtol=1e-9)


@pytest.mark.parametrize(("dtype", "smallest"), [(torch.float64, 1e-14), (torch.float32, 1e-7)])
def test_tiny_errors_are_taken_from_the_residual_itself(dtype, smallest):
    A, chain = laws.planted(0)
    A, near = A.to(dtype), Chain(tuple((F * (1 + 10 * smallest)).to(dtype) for F in chain.factors))
    watch = Watch(RowBlocks.of(A, 7), History())
    watch.see(0, near, evaluate(RowBlocks.of(A, 7), near).trace)
    _, row = watch.flush()
    exact = float((A.double() - near.first.double() @ near.last.double()).norm())
    assert row["absolute_error"][0] == pytest.approx(exact, rel=1e-6)
    assert row["relative_error"][0] >= 0


def test_errors_stay_nonnegative_on_the_way_to_an_exact_fit():
    A, _ = laws.planted(3, (60, 40), (5,))
    history = laws.run(A, laws.random_chain(8, (60, 40), (5,)), Hals(3), 1500).history
    assert (history["relative_error"] >= 0).all()
    assert history["relative_error"].is_monotonic_decreasing


def test_batches_grow_with_the_step_and_shrink_with_size():
    small, large = (Watch(RowBlocks.of(torch.ones(4, 4)), History(), prompt=True) for _ in range(2))
    chain = Chain((torch.ones(4, 2), torch.ones(2, 4)))
    long = Chain((torch.ones(1_500_000, 2), torch.ones(2, 4)))
    eye = torch.eye(2, dtype=torch.float64)
    trace = Trace(eye, eye, torch.tensor(1.0, dtype=torch.float64))
    due = [small.see(t, chain, trace) and bool(small.flush()[0]) for t in range(2000)]
    assert all(due[:20])
    assert 2000 // 64 <= sum(due) < 250
    assert all(large.see(t, long, trace) and bool(large.flush()[0]) for t in range(1000, 1005))


def test_rows_that_are_not_finite_are_recorded_as_such():
    A = torch.rand(5, 4, dtype=torch.float64)
    good = laws.random_chain(0, (5, 4), (2,))
    bad = Chain((good.first * float("nan"), good.last))
    watch = Watch(RowBlocks.of(A), History())
    for step, chain in enumerate((good, bad)):
        watch.see(step, chain, evaluate(RowBlocks.of(A), chain).trace)
    _, rows = watch.flush()
    assert all(np.isfinite(column[0]) for column in rows.values())
    assert np.isnan(rows["relative_error"][1])
    assert np.isnan(rows["effective_rank"][1])


@pytest.mark.parametrize("prompt", [False, True])
def test_only_chains_that_may_be_needed_are_held(prompt):
    A, chain = torch.rand(5, 4, dtype=torch.float64), laws.random_chain(0, (5, 4), (2,))
    blocks = RowBlocks.of(A)
    trace = evaluate(blocks, chain).trace
    told = trace._replace(level=trace.objective())
    cancelled = told._replace(level=-0.5 * blocks.squared_norm)
    watch = Watch(blocks, History(), prompt=prompt)
    for step, given in enumerate((told, told, cancelled, told, told, told._replace(level=float("nan")), told)):
        watch.see(step, chain, given)
    seen, rows = watch.flush()
    held = [bool(sighting.kept.given) for sighting in seen]
    assert held == ([True] * 7 if prompt else [False, True, True, False, True, True, True])
    watch.see(7, chain, told)
    assert bool(seen[-1].kept.given) == prompt
    watch.hold(Chain((2 * chain.first, chain.last)))
    ((last,), _) = watch.flush()
    assert torch.equal(last.kept.chain.first, chain.first if prompt else 2 * chain.first)
    np.testing.assert_allclose(rows["relative_error"][[0, 2, 4]], rows["relative_error"][6], rtol=1e-9)
    assert np.isnan(rows["relative_error"][5])
