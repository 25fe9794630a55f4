"""Laws of the plateau detector, on the staircase of a deep linear network whose stairs are known in closed form."""

import dataclasses
import math

import numpy as np
import pytest
from sklearn.datasets import load_digits

from rankscope.trace.levels import match_level, rank_levels
from rankscope.trace.plateau import Plateau, PlateauDetector

LAMBDA = (10.0, 5.0, 1.0)
STAIRS = {1: 1.0, 2: 1.8898815748, 3: 2.2945200463}  # effective ranks of (10), (10, 5), (10, 5, 1)
LAST_HALF_RISE = {2: 9210, 3: 99_154}


def staircase(depth, *, alpha, steps, every=1, eta=1e-3):
    """½‖W_N … W_1 − A‖² from W_j(0) = αI under gradient descent: d ← d − η d^(N−1)(d^N − λ) for each eigenvalue."""
    lam = np.array([*LAMBDA, 0.0])
    multiplicity = np.array([1, 1, 1, 7])  # A is 10 × 10
    d = np.full(4, alpha)
    rows = []
    for step in range(steps + 1):
        if step % every == 0:
            rows.append(d)
        power = d ** (depth - 1)
        d = d - eta * power * (power * d - lam)
    products = np.array(rows) ** depth
    p = products / (products @ multiplicity)[:, None]
    rank = np.exp(-(p * np.log(p)) @ multiplicity)
    error = ((lam - products) ** 2 @ multiplicity) / np.sum(lam**2)
    return np.arange(0, steps + 1, every), error, rank


@pytest.fixture(scope="module")
def traces():
    return {
        2: staircase(2, alpha=1e-4, steps=24_000),
        3: staircase(3, alpha=1e-2, steps=130_000, every=10),
    }


def watch(steps, error, rank, *, detector=None, **extras):
    """Feed a trace; return the plateaus as they were confirmed, and as they ended."""
    detector = detector or PlateauDetector()
    rows = zip(steps.tolist(), error.tolist(), rank.tolist(), strict=True)
    confirmed = [plateau for row in rows if (plateau := detector.update(*row, **extras))]
    return confirmed, detector.finish()


def noisy(trace, seed, scale=0.02):
    steps, error, rank = trace
    g = np.random.default_rng(seed)
    return steps, error * (1 + scale * g.normal(size=len(steps))), rank * (1 + scale * g.normal(size=len(steps)))


def labels(plateaus):
    levels = rank_levels(LAMBDA)
    return [match_level(plateau, levels).k for plateau in plateaus]


def flat(n, *, error=0.3, rank=2.0):
    """n steps on one level, after ten at the origin."""
    return np.arange(n), np.where(np.arange(n) < 10, 1.0, error), np.full(n, rank)


def two_stairs(n, *, at, levels=(1.0, 2.0), errors=(0.5, 0.1), rise=0.02):
    """A logistic rise in x = ln(step + 1) from one level to the next at step `at`."""
    steps = np.arange(n)
    s = 1 / (1 + np.exp(np.clip(-(np.log1p(steps) - math.log1p(at)) / rise, -500, 500)))
    return (
        steps,
        np.where(steps < 10, 1.0, errors[0] * (errors[1] / errors[0]) ** s),
        levels[0] + (levels[1] - levels[0]) * s,
    )


@pytest.mark.parametrize("depth", [2, 3])
def test_every_stair_is_found_once_and_labelled(traces, depth):
    confirmed, plateaus = watch(*traces[depth])
    assert labels(confirmed) == labels(plateaus) == [1, 2, 3]
    for plateau, level in zip(plateaus, STAIRS.values(), strict=True):
        assert plateau.level == pytest.approx(level, rel=0.01)


@pytest.mark.parametrize("depth", [2, 3])
@pytest.mark.parametrize("seed", range(10))
def test_every_stair_is_found_under_two_percent_noise(traces, depth, seed):
    confirmed, plateaus = watch(*noisy(traces[depth], seed))
    assert labels(confirmed) == labels(plateaus) == [1, 2, 3]
    for plateau, level in zip(plateaus, STAIRS.values(), strict=True):
        assert plateau.level == pytest.approx(level, rel=0.02)


@pytest.mark.parametrize("depth", [2, 3])
def test_a_plateau_starts_after_its_eigenvalue_has_risen_and_is_reported_within_its_own_length(traces, depth):
    confirmed, plateaus = watch(*traces[depth])
    assert plateaus[2].start > LAST_HALF_RISE[depth] > plateaus[1].end * 0.7
    for early, final in zip(confirmed, plateaus, strict=True):
        assert early.start == final.start
        assert early.start < early.end <= final.end
        assert early.end <= (early.start + 1) * math.exp(0.40)  # 0.35 and the spacing of the points
        assert final.start < final.midpoint < final.end


def test_nothing_is_reported_before_something_was_learned(traces):
    steps, error, rank = traces[3]
    still = error > 0.99  # 8,000 steps and more at the origin: error and, at first, rank stand still
    assert np.sum(still) > 800
    assert watch(steps[still], error[still], rank[still]) == ([], ())
    n = 20_000
    assert watch(np.arange(n), np.full(n, 0.999), np.full(n, 10.0), kkt_residual=1e-9) == ([], ())
    assert watch(np.arange(n), np.full(n, 0.6), np.full(n, 10.0)) == ([], ())  # a start that already fits something


def test_a_start_that_solves_the_problem_is_a_converged_plateau():
    n = 200
    for error, kkt_residual in [(0.6, 1e-6), (1e-15, None)]:
        _, plateaus = watch(np.arange(n), np.full(n, error), np.full(n, 10.0), kkt_residual=kkt_residual)
        assert [(plateau.start, plateau.end) for plateau in plateaus] == [(0, n - 1)]


@pytest.mark.parametrize(("slope", "scale"), [(0.21, 0.0), (0.5, 0.0), (0.25, 0.02), (0.5, 0.02)])
def test_a_power_law_is_not_a_plateau(slope, scale):
    steps = np.arange(5000)
    x = np.log1p(steps)
    for seed in range(4):
        rising_rank = noisy((steps, 0.9 * np.exp(-0.05 * x), np.exp(slope * x)), seed, scale)
        falling_error = noisy((steps, 0.9 * np.exp(-1.3 * slope * x), np.full(len(x), 3.0)), seed, scale)
        assert watch(*rising_rank) == ([], ())
        assert watch(*falling_error) == ([], ())


def test_a_slow_ramp_is_not_a_flight_of_stairs():
    steps = np.arange(30_000)
    x = np.log1p(steps)
    rank = np.exp(0.12 * x)  # below the bound, yet ×3.4 over the run
    _, plateaus = watch(steps, 0.9 * np.exp(-0.05 * x), rank)
    assert len(plateaus) <= 1
    assert all(rank[plateau.end] < 1.2 * rank[plateau.start] for plateau in plateaus)


def test_the_error_alone_can_tell_two_plateaus_apart():
    _, plateaus = watch(*two_stairs(4000, at=500, levels=(2.0, 2.0), errors=(0.5, 0.1), rise=0.1))
    assert [plateau.relative_error for plateau in plateaus] == pytest.approx([0.5, 0.1], rel=0.05)


def test_a_linear_ramp_is_not_a_plateau():
    steps = np.arange(5000)
    assert watch(steps, 0.9 - 0.8 * steps / 5000, 1 + steps / 20) == ([], ())


def test_projected_gradient_nmf_on_digits_has_one_plateau_at_rank_one():
    A = load_digits().data[:1000] / 16
    g = np.random.default_rng(0)
    W, H = 1e-3 * g.uniform(size=(1000, 10)), 1e-3 * g.uniform(size=(10, 64))
    squared_norm = np.sum(A**2)
    detector = PlateauDetector()
    for step in range(4500):
        Q, AHt = H @ H.T, A @ H.T
        s = np.sqrt(np.maximum(np.linalg.eigvals(W.T @ W @ Q).real, 0))  # σ² of WH
        p = s[s > 0] / s.sum()
        error = (squared_norm - 2 * np.sum(AHt * W) + np.sum((W.T @ W) * Q)) / squared_norm
        detector.update(step, error, math.exp(-np.sum(p * np.log(p))))
        W_next = np.maximum(W - 1e-4 * (W @ Q - AHt), 0)
        H = np.maximum(H - 1e-4 * (W.T @ W @ H - W.T @ A), 0)
        W = W_next
    levels = rank_levels(np.linalg.svd(A, compute_uv=False))
    (plateau,) = (match_level(plateau, levels) for plateau in detector.finish())
    assert plateau.k == 1
    assert plateau.level == pytest.approx(1.0, rel=0.01)
    assert plateau.relative_error == pytest.approx(0.299, rel=0.01)
    assert plateau.start < 1000 < plateau.end < 3000


def test_thinning_does_not_change_what_is_found(traces):
    steps, error, rank = traces[2]
    _, every = watch(steps, error, rank)
    _, fifth = watch(steps[::5], error[::5], rank[::5])
    assert labels(every) == labels(fifth) == [1, 2, 3]
    for a, b in zip(every, fifth, strict=True):
        assert b.level == pytest.approx(a.level, rel=0.01)
        assert b.start == pytest.approx(a.start, rel=0.03)
        assert b.end == pytest.approx(a.end, rel=0.03)


def test_points_kept_grow_with_the_logarithm_of_the_steps():
    detector = PlateauDetector(max_delay=10**9)
    kept = []
    for step in range(100_000):
        detector.update(step, 0.5 if step else 1.0, 3.0)
        if step in (10_000, 99_999):
            kept.append(len(detector._points))
    assert kept[0] < 1000
    assert kept[1] - kept[0] <= math.log(10) * 40 / 0.25 + 1


def test_the_delay_is_capped_in_steps():
    at = 400_000
    trace = tuple(values[::50] for values in two_stairs(500_000, at=at, rise=0.01))
    free, _ = watch(*trace, detector=PlateauDetector(max_delay=10**9))
    assert [round(plateau.level) for plateau in free] == [1]  # 0.35 in x would take until step 570,000
    confirmed, _ = watch(*trace)
    assert [round(plateau.level) for plateau in confirmed] == [1, 2]
    assert at < confirmed[1].start < confirmed[1].end < at + 60_000
    for seed in range(3):
        _, plateaus = watch(*noisy(trace, seed, 0.05))
        assert [round(plateau.level) for plateau in plateaus] == [1, 2]


def test_a_plateau_that_resumes_is_reported_once():
    steps, error, rank = flat(4000)
    rank[1500:1700] = 2.6  # a spike, and back to the same level and error
    confirmed, plateaus = watch(steps, error, rank)
    assert len(confirmed) == 1
    assert [(plateau.start, plateau.end) for plateau in plateaus] == [(10, 3999)]
    error[1500:] = 0.1  # something was learned meanwhile: another plateau
    confirmed, plateaus = watch(steps, error, rank)
    assert [plateau.relative_error for plateau in plateaus] == pytest.approx([0.3, 0.1])
    assert len(confirmed) == 2


def test_candidate_and_open_plateau_can_be_seen_at_any_time():
    detector = PlateauDetector()
    seen = []
    steps, error, rank = two_stairs(3000, at=800)
    for step in steps.tolist():
        detector.update(step, error[step], rank[step])
        seen.append((detector.candidate_start, detector.plateaus))
    assert seen[5] == (None, ())
    assert seen[200][0] == 10
    assert seen[200][1][-1].end == 200
    assert seen[870] == (None, seen[870][1])
    assert len(seen[870][1]) == 1
    assert rank[700] < rank[seen[870][1][0].end] < 1.06  # dated back to where the level was left
    assert 820 < seen[2900][0] < 1000
    assert [round(plateau.level) for plateau in seen[2900][1]] == [1, 2]
    final = detector.finish()
    assert final == detector.plateaus == seen[2999][1]
    assert detector.candidate_start is None
    detector.update(3000, 0.1, 2.0)  # a fit may go on
    assert detector.plateaus == final


def test_a_spike_of_the_error_to_where_it_began_does_not_split_a_plateau():
    steps, error, rank = flat(2000, error=0.7)
    error[[100, 150, 700]] = 1.5
    confirmed, plateaus = watch(steps, error, rank)
    assert [(plateau.start, plateau.end) for plateau in plateaus] == [(10, 1999)]
    assert len(confirmed) == 1


def test_kinds():
    for extras, kind in [
        ({}, "transient"),
        ({"kkt_residual": 0.1, "locked_fraction": 0.01}, "transient"),
        ({"kkt_residual": 1e-5}, "converged"),
        ({"kkt_residual": 0.1, "locked_fraction": 0.3}, "locked"),
        ({"kkt_residual": 1e-5, "locked_fraction": 0.3}, "converged"),
    ]:
        confirmed, plateaus = watch(*flat(100), **extras)
        assert [plateau.kind for plateau in (*confirmed, *plateaus)] == [kind, kind]


def test_the_last_known_residual_decides_and_a_saddle_has_not_converged():
    steps, error, rank = two_stairs(3000, at=800)
    detector = PlateauDetector()
    for step in steps.tolist():  # the residual is only measured now and then
        detector.update(step, error[step], rank[step], kkt_residual=1e-6 if step % 100 == 0 else None)
        if step == 500:
            assert [plateau.kind for plateau in detector.plateaus] == ["converged"]
    assert [plateau.kind for plateau in detector.finish()] == ["transient", "converged"]


def test_numbers_that_are_not_finite_are_passed_over(traces):
    steps, error, rank = (values.copy() for values in noisy(traces[2], 0, scale=0.0))
    _, clean = watch(steps, error, rank)
    g = np.random.default_rng(1)
    error[g.random(len(steps)) < 0.05] = np.nan
    rank[g.random(len(steps)) < 0.05] = np.inf
    rank[g.random(len(steps)) < 0.02] = 0.0
    _, holed = watch(steps, error, rank)
    assert labels(holed) == labels(clean) == [1, 2, 3]
    assert [plateau.start for plateau in holed] == pytest.approx([plateau.start for plateau in clean], rel=0.03)
    nothing = np.full(500, np.nan)
    assert watch(np.arange(500), nothing, nothing) == ([], ())


@pytest.mark.parametrize("error", [0.0, -1e-13, 1e-9])
def test_an_exact_fit_is_a_plateau(error):
    g = np.random.default_rng(0)
    steps, errors, rank = flat(400, error=error, rank=4.0)
    errors[10:] *= 10 ** g.uniform(-3, 0, size=390)  # what is left is rounding and wanders over decades
    _, plateaus = watch(steps, errors, rank)
    assert [(plateau.start, plateau.end) for plateau in plateaus] == [(10, 399)]
    assert match_level(plateaus[0], rank_levels([1, 1, 1, 1])).k == 4


def test_steps_may_start_anywhere_and_be_spaced_at_will(traces):
    steps, error, rank = traces[2]
    late = steps >= 1900
    assert labels(watch(steps[late], error[late], rank[late])[1]) == [2, 3]
    some = np.unique(np.geomspace(1, len(steps) - 1, 1500).astype(int))
    assert labels(watch(steps[some], error[some], rank[some])[1]) == [1, 2, 3]


@pytest.mark.parametrize("steps", [(3, 3), (3, 2), (-1,)])
def test_steps_must_increase(steps):
    detector = PlateauDetector()
    with pytest.raises(ValueError, match="step must"):
        for step in steps:
            detector.update(step, 0.5, 2.0)


@pytest.mark.parametrize("setting", [{"window": 0.0}, {"drift": -1.0}, {"min_length": math.nan}, {"max_delay": 0}])
def test_settings_must_be_positive(setting):
    with pytest.raises(ValueError, match=f"{next(iter(setting))} must be positive"):
        PlateauDetector(**setting)


@pytest.mark.parametrize("setting", [{"min_points": 2}, {"max_points": 5}])
def test_points_must_suffice_for_a_slope(setting):
    with pytest.raises(ValueError, match="min_points <= max_points"):
        PlateauDetector(**setting)


def test_a_plateau_is_frozen_and_knows_its_middle():
    plateau = Plateau(start=99, end=399, level=2.0, relative_error=0.1)
    assert plateau.midpoint == 199  # √(100 · 400) − 1
    assert (plateau.k, plateau.kind) == (None, "transient")
    with pytest.raises(dataclasses.FrozenInstanceError):
        plateau.level = 3.0
