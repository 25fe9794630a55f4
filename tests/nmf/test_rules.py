"""The solvers: equal to their peers step for step, and descending where they claim to."""

import warnings
from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.decomposition import non_negative_factorization

import laws
from rankscope.nmf.advance import advance, start
from rankscope.nmf.blocks import RowBlocks
from rankscope.nmf.chain import Chain
from rankscope.nmf.fit import Stopping, fit
from rankscope.nmf.penalty import NO_PENALTY, Penalty
from rankscope.nmf.rules import SOLVERS, Hals, Multiplicative, ProjectedGradient, make_rule

MONOTONE = {
    "hals": make_rule("hals"),
    "hals×4": make_rule("hals", inner_sweeps=4),
    "mu": make_rule("mu"),
    "gd": make_rule("gd"),
}


def scikit_learn(A, W, H, solver, steps, **penalties):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return non_negative_factorization(
            A, W.copy(), H.copy(), n_components=len(H), init="custom", solver=solver, tol=0, max_iter=steps, **penalties
        )[:2]


@pytest.mark.parametrize(("rule", "solver"), [(Hals(1), "cd"), (Multiplicative(), "mu")])
@pytest.mark.parametrize("penalties", [{}, {"alpha_W": 0.01, "alpha_H": 0.02, "l1_ratio": 0.3}])
def test_same_iterates_as_scikit_learn(digits, rule, solver, penalties):
    A = torch.from_numpy(digits[:300])
    m, n = A.shape
    chain = laws.random_chain(0, (m, n), (10,))
    ours = [NO_PENALTY, NO_PENALTY]
    if penalties:
        ratio = penalties["l1_ratio"]
        alphas = n * penalties["alpha_W"], m * penalties["alpha_H"]
        ours = [Penalty(l1=alpha * ratio, l2=alpha * (1 - ratio)) for alpha in alphas]
    expected = scikit_learn(A.numpy(), *(F.numpy() for F in chain.factors), solver, 50, **penalties)
    result = laws.run(A, chain, rule, 50, penalties=ours)
    assert laws.largest_difference(result.chain.factors, expected) < 1e-4
    scale = max(float(np.abs(F).max()) for F in expected)
    assert laws.largest_difference(result.chain.factors, expected) < 1e-9 * scale


@pytest.mark.parametrize("sizes", [(4,), (6, 3)])
def test_adam_is_torchs_adam_with_a_projection(sizes):
    A = torch.rand(20, 15, dtype=torch.float64, generator=laws.generator(3))
    chain = laws.random_chain(4, (20, 15), sizes)
    leaves = [F.clone().requires_grad_() for F in chain.factors]
    optimizer = torch.optim.Adam(leaves, lr=1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        (0.5 * (A - torch.linalg.multi_dot(leaves)).square().sum()).backward()
        optimizer.step()
        with torch.no_grad():
            for leaf in leaves:
                leaf.clamp_(min=0)
    result = laws.run(A, chain, make_rule("adam"), 40)
    assert laws.largest_difference(result.chain.factors, [leaf.detach() for leaf in leaves]) < 1e-10


def test_gd_at_a_rate_is_gradient_descent_on_the_whole_model():
    A = torch.rand(20, 15, dtype=torch.float64, generator=laws.generator(3))
    chain = laws.random_chain(4, (20, 15), (5, 3))
    factors = list(chain.factors)
    for _ in range(25):
        leaves = [F.clone().requires_grad_() for F in factors]
        (0.5 * (A - torch.linalg.multi_dot(leaves)).square().sum()).backward()
        factors = [(leaf.detach() - 1e-3 * leaf.grad).clamp(min=0) for leaf in leaves]
    assert (
        laws.largest_difference(laws.run(A, chain, make_rule("gd", learning_rate=1e-3), 25).chain.factors, factors)
        < 1e-12
    )


def test_scalar_takes_steps_of_the_length_it_was_given_along_the_gradient():
    A = torch.rand(20, 15, dtype=torch.float64) + 1
    chain = laws.random_chain(4, (20, 15), (3,))
    result = laws.run(A, chain, make_rule("scalar", learning_rate=1e-3), 1)
    step = result.chain.flat() - chain.flat()
    leaves = [F.clone().requires_grad_() for F in chain.factors]
    (0.5 * (A - leaves[0] @ leaves[1]).square().sum()).backward()
    gradient = torch.cat([leaf.grad.reshape(-1) for leaf in leaves])
    assert float(step.norm()) == pytest.approx(1e-3, rel=1e-3)
    assert float(torch.dot(step, gradient) / (step.norm() * gradient.norm())) == pytest.approx(-1, abs=1e-9)


def random_problem(seed):
    rng = np.random.default_rng(seed)
    m, n = rng.integers(2, 40, 2)
    depth = rng.integers(2, 5)
    sizes = tuple(int(r) for r in rng.integers(1, 9, depth - 1))
    A = torch.from_numpy(rng.random((m, n)) * (rng.random((m, n)) < 0.7) * 10.0 ** rng.integers(-3, 4))
    chain = laws.random_chain(seed, (int(m), int(n)), sizes, zeros=float(rng.choice([0, 0, 0.3, 0.9])))
    penalties = [Penalty(*(rng.random(2) * rng.integers(0, 2, 2))) for _ in range(depth)]
    return A, chain, penalties


@pytest.mark.parametrize("name", MONOTONE)
def test_the_objective_never_rises_on_200_random_problems(name):
    for seed in range(200):
        A, chain, penalties = random_problem(seed)
        values = [laws.objective(A, chain, penalties)]
        for _ in range(6):
            chain = laws.run(A, chain, MONOTONE[name], 1, penalties=penalties).chain
            assert all(bool((F >= 0).all()) and bool(F.isfinite().all()) for F in chain.factors), seed
            values.append(laws.objective(A, chain, penalties))
        slack = 1e-12 * max(values[0], float(A.square().sum()))
        assert all(after <= before + slack for before, after in pairwise(values)), (seed, values)


@pytest.mark.parametrize("rule", [Multiplicative(), ProjectedGradient()])
@pytest.mark.parametrize("weight", [0.1, 10, 1000])
def test_with_separation_the_objective_never_rises_either(rule, weight):
    for seed in range(20):
        A = torch.rand(15, 12, dtype=torch.float64, generator=laws.generator(seed))
        chain = laws.random_chain(seed, (15, 12), (4,))
        penalties = [NO_PENALTY, Penalty(separation=weight)]
        values = [laws.objective(A, chain, penalties)]
        for _ in range(15):
            chain = laws.run(A, chain, rule, 1, penalties=penalties).chain
            values.append(laws.objective(A, chain, penalties))
        assert all(after <= before * (1 + 1e-12) for before, after in pairwise(values))
        assert values[-1] < values[0]


@pytest.mark.parametrize("solver", SOLVERS)
def test_factors_stay_nonnegative_and_the_input_is_untouched(solver):
    A, chain, _ = random_problem(11)
    before = [F.clone() for F in chain.factors]
    result = laws.run(A, chain, make_rule(solver), 30)
    assert all(bool((F >= 0).all()) for F in result.chain.factors)
    assert all(torch.equal(F, G) for F, G in zip(chain.factors, before, strict=True))


@pytest.mark.parametrize("shape_and_sizes", [((60, 40), (5,)), ((50, 50), (8,)), ((40, 30), (5, 5))])
def test_hals_recovers_an_exact_nonnegative_product(shape_and_sizes):
    A, _ = laws.planted(3, *shape_and_sizes)
    chain = laws.random_chain(8, *shape_and_sizes)
    result = laws.run(A, chain, Hals(3), 3000)
    assert result.history["relative_error"].iloc[-1] <= 1e-6


def test_depth_five_works():
    A, _ = laws.planted(0, (30, 25), (4,))
    for solver in SOLVERS:
        chain = laws.random_chain(1, (30, 25), (6, 5, 5, 4))
        chain = type(chain)(tuple(0.3 * F for F in chain.factors))
        history = laws.run(A, chain, make_rule(solver), 300).history["relative_error"]
        assert history.iloc[-1] < 0.5 * history.iloc[0], solver


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"solver": "newton"}, "solver must be one of hals, mu, gd, adam, scalar, got 'newton'"),
        ({"solver": "adam", "learning_rate": -1}, "learning_rate must be positive"),
        ({"solver": "hals", "inner_sweeps": 0}, "inner_sweeps must be at least 1"),
        ({"solver": "hals", "nonnegative": False}, "nonnegative=False is for .*, got hals"),
        ({"solver": "mu", "nonnegative": False}, "nonnegative=False is for .*, got mu"),
        ({"solver": "gd", "nonnegative": False}, "nonnegative=False is for .*, got gd without a learning_rate"),
    ],
)
def test_unknown_or_impossible_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_rule(**arguments)


def signed_problem(sizes=(6, 5)):
    """A matrix and a chain with entries of both signs."""
    g = laws.generator(3)
    A = torch.randn(12, 10, generator=g, dtype=torch.float64)
    return A, Chain(tuple(F - 0.5 for F in laws.random_chain(1, (12, 10), sizes).factors))


@pytest.mark.parametrize("observed", [None, 0.6])
@pytest.mark.parametrize("sizes", [(6,), (6, 5), (6, 5, 7)], ids=str)
def test_without_projection_gradient_descent_is_autograds(sizes, observed):
    A, chain = signed_problem(sizes)
    mask = None if observed is None else torch.rand(A.shape, generator=laws.generator(5)) < observed
    leaves = [F.clone().requires_grad_() for F in chain.factors]
    blocks = RowBlocks.of(A, 5, observed=mask)
    state = start(blocks, chain, rule := make_rule("gd", learning_rate=0.01, nonnegative=False))
    for _ in range(20):
        residual = A - Chain(tuple(leaves)).product()
        loss = 0.5 * (residual if mask is None else residual[mask]).square().sum()
        for F, gradient in zip(leaves, torch.autograd.grad(loss, leaves), strict=True):
            F.data.sub_(gradient, alpha=0.01)
        state, _ = advance(blocks, state, rule, (NO_PENALTY,) * chain.depth)
    assert min(float(F.detach().min()) for F in leaves) < 0
    assert laws.largest_difference(state.chain.factors, [F.detach() for F in leaves]) < 1e-12


@pytest.mark.parametrize(("solver", "rate"), [("gd", 0.02), ("adam", 0.01), ("scalar", 0.02)])
def test_without_projection_the_best_approximation_of_that_rank_is_reached(solver, rate):
    A, chain = signed_problem((6, 5))
    rule = make_rule(solver, learning_rate=rate, nonnegative=False)
    blocks, penalties = RowBlocks.of(A), (NO_PENALTY,) * 3
    result = fit(blocks, chain, rule, stopping=Stopping(20_000, tol=3e-4), penalties=penalties, history=None)
    assert result.reason == "converged"
    best = float((torch.linalg.svdvals(A)[5:] ** 2).sum())
    assert float((A - result.chain.product()).square().sum()) == pytest.approx(best, rel=1e-3)


def test_penalties_without_projection_are_refused():
    A, chain = signed_problem()
    with pytest.raises(ValueError, match="penalties are for factors >= 0"):
        laws.run(A, chain, make_rule("adam", nonnegative=False), 1, penalties=[Penalty(l1=0.1)] * 3)
