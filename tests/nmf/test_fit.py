"""The loop stops when and where it is told, and loses nothing on the way."""

import numpy as np
import pytest
import torch

import laws
from rankscope.nmf.blocks import RowBlocks
from rankscope.nmf.chain import Chain
from rankscope.nmf.fit import Stopping, fit
from rankscope.nmf.penalty import NO_PENALTY
from rankscope.nmf.rules import GradientDescent, Hals, make_rule
from rankscope.trace.history import History


def start_fit(A, chain, rule, stopping, *, callback=None, history=True):
    penalties = (NO_PENALTY,) * chain.depth
    record = History() if history else None
    return fit(RowBlocks.of(A), chain, rule, stopping=stopping, penalties=penalties, history=record, callback=callback)


@pytest.fixture
def problem():
    return torch.rand(20, 15, dtype=torch.float64, generator=laws.generator(0)), laws.random_chain(1, (20, 15), (4,))


def staircase_problem():
    """Three blocks of very different strength, from a small start: the effective rank climbs 1, 2, 3."""
    A = torch.zeros(30, 30, dtype=torch.float64)
    for k, strength in enumerate((10.0, 4.0, 1.5)):
        A[10 * k : 10 * k + 10, 10 * k : 10 * k + 10] = strength / 10
    noise = laws.random_chain(0, (30, 30), (6,))
    return A, Chain(tuple(1e-4 * F for F in noise.factors))


def test_tolerance_stops_at_a_stationary_point(problem):
    A, chain = problem
    result = start_fit(A, chain, Hals(3), Stopping(5000, tol=1e-6))
    assert result.reason == "converged"
    assert result.n_iter < 5000
    longer = start_fit(A, chain, Hals(3), Stopping(result.n_iter + 500, "none"))
    assert longer.history["relative_error"].iloc[-1] == pytest.approx(
        result.history["relative_error"].iloc[-1], rel=1e-5
    )


def test_none_runs_to_the_end_and_one_row_a_step(problem):
    result = start_fit(*problem, Hals(), Stopping(37, "none"))
    assert (result.reason, result.n_iter) == ("max_iter", 37)
    assert list(result.history["step"]) == list(range(38))


def test_same_start_same_bits(problem):
    first, second = (start_fit(*problem, make_rule("adam"), Stopping(200, "none")) for _ in range(2))
    assert all(torch.equal(F, G) for F, G in zip(first.chain.factors, second.chain.factors, strict=True))
    columns = first.history.columns.drop("seconds")
    assert first.history[columns].equals(second.history[columns])


def test_recording_changes_nothing_but_the_record(problem):
    watched = start_fit(*problem, Hals(2), Stopping(50, "none"))
    blind = start_fit(*problem, Hals(2), Stopping(50, "none"), history=False)
    assert all(torch.equal(F, G) for F, G in zip(watched.chain.factors, blind.chain.factors, strict=True))
    assert len(blind.history) == 0
    with pytest.raises(ValueError, match="read the history"):
        start_fit(*problem, Hals(), Stopping(50, "plateau"), history=False)


def test_a_callback_sees_every_step_and_can_stop(problem):
    seen = []

    def callback(step, state):
        seen.append((step, state.relative_error, len(state.history), [F.shape for F in state.factors]))
        return step == 23

    result = start_fit(*problem, Hals(), Stopping(100, "none"), callback=callback)
    assert (result.reason, result.n_iter) == ("callback", 23)
    assert [step for step, *_ in seen] == list(range(1, 24))
    assert [rows for *_, rows, _ in seen] == list(range(2, 25))
    np.testing.assert_allclose([error for _, error, *_ in seen], result.history["relative_error"][1:], rtol=1e-12)


@pytest.mark.parametrize("solver", ["hals", "mu", "gd", "adam", "scalar"])
@pytest.mark.parametrize("holes", [False, True])
def test_a_callback_reads_the_error_of_the_history_that_may_be_off(solver, holes):
    from rankscope import DeepNMF

    A = np.random.default_rng(0).random((30, 20))
    if holes:
        A[np.random.default_rng(1).random(A.shape) < 0.2] = np.nan
    missing = "mask" if holes else "refuse"
    for layers in ((4,), (6, 4)):
        errors = {True: [], False: []}
        for on, seen in errors.items():
            model = DeepNMF(layers, solver=solver, max_iter=12, stop="none", random_state=0, missing=missing)
            model.set_params(
                track_history=on, callback=lambda step, state, seen=seen: seen.append(state.relative_error)
            )
            model.fit(A)
            if on:
                expected = model.history_["relative_error"][1:]
        np.testing.assert_allclose(errors[True], expected, rtol=1e-9)
        np.testing.assert_array_equal(errors[True], errors[False])


def test_an_interrupt_keeps_what_was_done(problem):
    def callback(step, state):
        if step == 7:
            raise KeyboardInterrupt

    result = start_fit(*problem, Hals(), Stopping(100, "none"), callback=callback)
    assert (result.reason, result.n_iter) == ("interrupted", 7)
    assert len(result.history) == 8


def test_divergence_is_noticed_and_the_last_finite_factors_kept(problem):
    A, chain = problem
    result = start_fit(A + 10, chain, GradientDescent(1e200), Stopping(500, "none"))
    assert result.reason == "not_finite"
    assert all(bool(F.isfinite().all()) for F in result.chain.factors)
    assert result.n_iter < 5


@pytest.mark.parametrize(("which", "index"), [("first", 0), (2, 1), ("last", -1)])
def test_plateau_stopping_goes_back_to_the_middle_of_the_plateau(which, index):
    A, chain = staircase_problem()
    rule = GradientDescent(2e-3)
    whole = start_fit(A, chain, rule, Stopping(6000, "plateau", plateau="last"))
    assert len(whole.plateaus) >= 2
    result = start_fit(A, chain, rule, Stopping(6000, "plateau", plateau=which))
    assert result.reason == ("max_iter" if which == "last" else "plateau")
    plateau = result.plateaus[index][0]
    rank = float(np.exp(-np.sum([p * np.log(p) for p in spectrum(result.chain)])))
    assert rank == pytest.approx(plateau.level, rel=0.05)
    middle = np.log((plateau.start + 1) * (plateau.end + 1)) / 2
    history = result.history
    errors = history["relative_error"].to_numpy()
    here = float((A - result.chain.product()).square().sum() / A.square().sum())
    step = int(history["step"][np.abs(errors - here).argmin()])
    assert abs(np.log(step + 1) - middle) < 0.25 * np.log((plateau.end + 1) / (plateau.start + 1)) + 0.05


def spectrum(chain):
    sigma = torch.linalg.svdvals(chain.product())
    sigma = sigma[sigma > 1e-12 * sigma[0]]
    return (sigma / sigma.sum()).tolist()


def test_first_plateau_stops_earlier_than_the_second():
    A, chain = staircase_problem()
    first, second = (start_fit(A, chain, GradientDescent(2e-3), Stopping(6000, "plateau", plateau=k)) for k in (1, 2))
    assert first.n_iter < second.n_iter < 6000
    assert first.plateaus[0][0].level < second.plateaus[1][0].level


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_iter": -1}, "max_iter must be at least 0"),
        ({"stop": "soon"}, "stop must be one of tolerance, plateau, none"),
        ({"tol": -1e-3}, "tol must be at least 0"),
        ({"tol": float("nan")}, "tol must be at least 0"),
    ],
)
def test_impossible_stopping_rules_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Stopping(**settings)


@pytest.mark.parametrize("which", [0, -1, "middle", 1.5, True])
def test_impossible_plateaus_are_refused(problem, which):
    with pytest.raises(ValueError, match="plateau must be 'first', 'last' or a whole number from 1"):
        start_fit(*problem, Hals(), Stopping(10, "plateau", plateau=which))


def test_plateaus_can_be_kept_without_stopping_at_them():
    A, chain = staircase_problem()
    kept = start_fit(A, chain, GradientDescent(2e-3), Stopping(6000, "none", keep_plateaus=True))
    plain = start_fit(A, chain, GradientDescent(2e-3), Stopping(6000, "none"))
    assert (kept.n_iter, len(plain.plateaus)) == (6000, 0)
    assert all(torch.equal(F, G) for F, G in zip(kept.chain.factors, plain.chain.factors, strict=True))
    levels = [plateau.level for plateau, _ in kept.plateaus]
    assert len(levels) >= 2
    assert levels == sorted(levels)


@pytest.mark.parametrize("steps", [0, 1, 50, 57])
def test_a_schedule_thins_the_history_and_nothing_else(problem, steps):
    A, chain = problem
    scheduled = fit(
        RowBlocks.of(A),
        chain,
        Hals(),
        stopping=Stopping(steps, "none"),
        penalties=(NO_PENALTY,) * 2,
        history=History(),
        schedule=lambda step: step % 10 == 0,
    )
    every = start_fit(A, chain, Hals(), Stopping(steps, "none"))
    assert list(scheduled.history["step"]) == [*range(0, steps + 1, 10), *([steps] if steps % 10 else [])]
    assert all(torch.equal(F, G) for F, G in zip(scheduled.chain.factors, every.chain.factors, strict=True))
    np.testing.assert_allclose(
        scheduled.history["relative_error"], every.history["relative_error"].iloc[scheduled.history["step"]], rtol=1e-12
    )
