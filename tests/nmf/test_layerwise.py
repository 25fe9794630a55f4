"""The layer-wise objective: the same rules, loop and history on Σ λ_l ‖Z_{l-1} − F_l Z_l‖², here term by term."""

import numpy as np
import pytest
import torch
from sklearn.base import clone

import laws
from rankscope import DeepNMF
from rankscope.metrics import effective_rank
from rankscope.nmf.advance import evaluate, kkt_residual, subproblems
from rankscope.nmf.blocks import RowBlocks
from rankscope.nmf.chain import Chain, Layers
from rankscope.nmf.health import inspect
from rankscope.nmf.penalty import NO_PENALTY, Penalty
from rankscope.nmf.rules import Adam, GradientDescent, Hals, Multiplicative, SharedScalar

SHAPE = (23, 17)
SIZES = {(5,): (2.0,), (5, 3): (1.0, 0.5), (3, 5): (0.7, 2.0), (6, 4, 3): (0.5, 1.0, 2.0)}
RULES = laws.DESCENDING | {"fixed": GradientDescent(1e-4), "adam": Adam(), "scalar": SharedScalar()}


def layered(seed, sizes, dtype=torch.float64, shape=SHAPE):
    """A chain whose codes are not the products that they stand for."""
    chain = laws.random_chain(seed, shape, sizes, dtype)
    codes = [torch.rand(r, shape[1], generator=laws.generator(seed + 7), dtype=dtype) for r in sizes[:-1]]
    return Chain(chain.factors, Layers(tuple(codes), SIZES[sizes]))


def objective(A, chain, penalties=None, observed=None):
    """½ Σ λ_l ‖Z_{l-1} − F_l Z_l‖² + penalties, by the residuals themselves."""
    levels = (A, *chain.codes, chain.last)
    total = 0.0
    for i, (above, F, below, weight) in enumerate(zip(levels, chain.factors, levels[1:], chain.weights, strict=False)):
        residual = above - F @ below
        if i == 0 and observed is not None:
            residual = residual[observed]
        total = total + 0.5 * weight * residual.square().sum()
    return total + sum(p.value(F) for p, F in zip(penalties or [], chain.factors, strict=False))


@pytest.fixture
def A():
    return laws.planted(0, SHAPE, (6,)).A


@pytest.mark.parametrize("penalty", [NO_PENALTY, Penalty(0.1, 0.2, 0.3)], ids=["plain", "penalized"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_the_gradient_of_every_variable_equals_autograd(A, sizes, penalty):
    chain = layered(1, sizes)
    penalties = (penalty,) * chain.depth
    state = evaluate(RowBlocks.of(A, 7), chain)
    leaves = [F.clone().requires_grad_() for F in chain.variables]
    loss = objective(A, chain.with_variables(tuple(leaves)), penalties)
    found = list(subproblems(state, penalties))
    for (F, problem), leaf, expected in zip(found, leaves, torch.autograd.grad(loss, leaves), strict=True):
        assert torch.equal(F, leaf)
        torch.testing.assert_close(problem.gradient(F), expected, rtol=1e-10, atol=1e-10)
    constant = 0.5 * chain.weights[0] * float(A.square().sum())
    assert state.objective(penalties) == pytest.approx(loss.item() - constant, rel=1e-10)


@pytest.mark.parametrize("penalized", [False, True])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("name", laws.DESCENDING)
def test_the_objective_never_rises(A, name, sizes, penalized):
    penalties = [Penalty(0.02, 0.1) if penalized else NO_PENALTY] * (len(sizes) + 1)
    seen = []
    chain, rule = layered(2, sizes), laws.DESCENDING[name]
    for _ in range(30):
        seen.append(float(objective(A, chain, penalties)))
        chain = laws.run(A, chain, rule, 1, penalties=penalties).chain
    assert np.all(np.diff(seen) <= 1e-12 * seen[0])
    assert seen[-1] < 0.5 * seen[0]


@pytest.mark.parametrize("name", [name for name in RULES if name != "accelerated"])
@pytest.mark.parametrize("sizes", [(5, 3), (6, 4, 3)], ids=str)
def test_one_block_equals_many(A, name, sizes):
    whole, blocked = (laws.run(A, layered(2, sizes), RULES[name], 20, block_rows=rows) for rows in (None, 5))
    assert laws.largest_difference(whole.chain.variables, blocked.chain.variables) < 1e-10
    columns = whole.history.columns.drop("seconds")
    np.testing.assert_allclose(whole.history[columns], blocked.history[columns], rtol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", ["hals", "mu", "adam"])
def test_the_history_is_that_of_the_product_and_of_the_objective(A, name, dtype):
    A, chain = A.to(dtype), layered(3, (5, 3), dtype)
    history = laws.run(A, chain, RULES[name], 12).history
    tolerance = 1e-9 if dtype == torch.float64 else 1e-4
    norm = float(A.double().square().sum())
    for t in (0, 1, 12):
        end = laws.run(A, chain, RULES[name], t).chain
        B, row = end.product().double(), history.iloc[t]
        assert row["relative_error"] == pytest.approx(float((A - B).square().sum()) / norm, rel=tolerance)
        assert row["sigma_1"] == pytest.approx(float(torch.linalg.svdvals(B)[0]), rel=tolerance)
        assert row["effective_rank"] == pytest.approx(float(effective_rank(B)), rel=tolerance)
        assert row["layerwise_error"] == pytest.approx(2 * float(objective(A, end)) / norm, rel=tolerance)


def test_layered_data_are_fitted_to_nothing_and_the_history_sees_how_little():
    A, truth = laws.planted(0, (40, 30), (6, 4))
    layers = Layers(truth.rights[:-1], (1.0, 1.0))
    near = Chain(truth.factors, layers).with_variables(
        tuple(F * (1 + 0.05 * torch.rand(F.shape, generator=laws.generator(i))) for i, F in enumerate([
            *truth.factors, *layers.codes]))
    )  # fmt: skip
    history = laws.run(A, near, Hals(4), 3000).history
    assert history["layerwise_error"].iloc[-1] < 1e-9
    assert history["relative_error"].iloc[-1] < 1e-8
    exact = laws.run(A, Chain(truth.factors, layers), Hals(), 1).history
    assert exact["layerwise_error"].max() < 1e-28
    assert kkt_residual(evaluate(RowBlocks.of(A), Chain(truth.factors, layers)), (NO_PENALTY,) * 3) < 1e-14


@pytest.mark.parametrize("name", ["hals", "mu", "gd"])
def test_the_second_weight_is_a_scale(A, name):
    """(s W1, Z/s, W2, H/s) at s²λ₂ is (W1, Z, W2, H) at λ₂, and stays so while rules move them."""
    s, chain = 3.0, layered(4, (5, 3))
    W1, W2, H, Z = chain.variables
    scaled = Chain((s * W1, W2, H / s), Layers((Z / s,), (1.0, s**2 * chain.weights[1])))
    ends = [laws.run(A, each, RULES[name], 30).chain.variables for each in (chain, scaled)]
    expected = [F * t for F, t in zip(ends[0], (s, 1, 1 / s, 1 / s), strict=True)]
    assert laws.largest_difference(expected, ends[1]) < 1e-9


def test_with_one_layer_it_is_the_global_objective(A):
    chain = laws.random_chain(1, SHAPE, (4,))
    for rule in (Hals(2), Multiplicative(), Adam()):
        plain, single = (laws.run(A, each, rule, 10) for each in (chain, chain.layered((1.0,))))
        assert laws.largest_difference(plain.chain.factors, single.chain.factors) < 1e-12
        np.testing.assert_allclose(single.history["layerwise_error"], plain.history["relative_error"], rtol=1e-12)


@pytest.mark.parametrize("name", ["hals", "mu", "gd"])
def test_over_what_was_observed_it_never_rises_either(A, name):
    observed = torch.rand(SHAPE, generator=laws.generator(3)) < 0.6
    model = DeepNMF((5, 3), objective="layerwise", solver=name, max_iter=1, stop="none", random_state=0)
    seen, history = [], []
    for _ in range(20):
        model.fit(A.numpy(), mask=observed.numpy()).set_params(warm_start=True)
        factors, codes = (tuple(map(torch.as_tensor, each)) for each in (model.factors_, model.codes_))
        seen.append(2 * float(objective(A, Chain(factors, Layers(codes, (1.0, 1.0))), observed=observed)))
        history.append(model.history_["layerwise_error"].iloc[-1])
    assert np.all(np.diff(seen) <= 1e-12 * seen[0])
    np.testing.assert_allclose(history, np.array(seen) / float(A[observed].square().sum()), rtol=1e-9)


def test_a_column_never_observed_is_zero_in_the_codes_too(A):
    X = A.numpy().copy()
    X[:, 3], X[5] = np.nan, np.nan
    for solver in ("hals", "mu", "adam"):
        model = DeepNMF((5, 3), objective="layerwise", missing="mask", solver=solver, max_iter=20, stop="none")
        model.set_params(random_state=0, warm_start=True).fit(A.numpy()).fit(X)  # Codes that had learned the column.
        assert not model.codes_[0][:, 3].any()
        assert not model.components_[:, 3].any()
        assert not model.factors_[0][5].any()
        assert np.isfinite(model.reconstruction_err_)


@pytest.mark.parametrize("solver", ["hals", "mu", "gd", "adam", "scalar"])
def test_the_estimator_learns_layers_and_starts_warm_where_it_ended(digits, solver):
    X = digits[:120]
    settings = dict(objective="layerwise", solver=solver, stop="none", random_state=0)
    whole, again = (DeepNMF((8, 5), max_iter=60, **settings).fit(X) for _ in range(2))
    for F, G in zip(whole.factors_ + whole.codes_, again.factors_ + again.codes_, strict=True):
        np.testing.assert_array_equal(F, G)
    history = whole.history_
    assert history["layerwise_error"].iloc[0] == pytest.approx(history["relative_error"].iloc[0])
    assert whole.codes_[0].shape == (8, 64)
    assert whole.health_.ok
    assert len(clone(whole).fit(X).codes_) == 1
    activations = whole.fit_transform(X)
    product = activations @ np.linalg.multi_dot(whole.factors_[1:])
    np.testing.assert_allclose(whole.inverse_transform(activations), product, atol=1e-12)
    assert ((X - product) ** 2).sum() <= whole.reconstruction_err_**2 * (1 + 1e-9)
    if solver in ("mu", "gd"):  # The others remember, or end by settling F₁.
        half = DeepNMF((8, 5), max_iter=30, warm_start=True, **settings).fit(X)
        half.fit(X)
        assert laws.largest_difference(half.factors_ + half.codes_, whole.factors_ + whole.codes_) < 1e-12


def test_it_stops_by_the_kkt_residual_of_all_variables(digits):
    model = DeepNMF((6, 4), objective="layerwise", max_iter=5000, tol=1e-3, random_state=0).fit(digits[:100])
    assert model.n_iter_ < 5000
    assert model.health_.kkt_residual <= 2e-3
    A = torch.as_tensor(digits[:100])
    factors, codes = (tuple(map(torch.as_tensor, each)) for each in (model.factors_, model.codes_))
    leaves = [F.clone().requires_grad_() for F in (*factors, *codes)]
    loss = objective(A, Chain(tuple(leaves[:3]), Layers(tuple(leaves[3:]), (1.0, 1.0))))
    for leaf, gradient in zip(leaves, torch.autograd.grad(loss, leaves), strict=True):
        inward = torch.where(leaf > 1e-6, gradient, gradient.clamp(max=0)).detach()
        assert float(inward.norm()) < 0.02 * float(A.norm() * leaf.detach().norm())


def test_plateaus_keep_their_codes_and_a_component_is_locked_only_with_its_code(A):
    chain = layered(5, (5, 3))
    W1, W2, H, Z = (F.clone() for F in chain.variables)
    W1[:, 1], W2[1] = 0, 0
    penalties = (NO_PENALTY,) * 3
    moving = inspect(evaluate(RowBlocks.of(A), chain.with_variables((W1, W2, H, Z))), Hals(), penalties)
    assert (moving.locked_components, moving.dead_components) == ((), ((0, 1),))
    Z[1] = 0
    stuck = inspect(evaluate(RowBlocks.of(A), chain.with_variables((W1, W2, H, Z))), Hals(), penalties)
    assert stuck.locked_components == ((0, 1),)
    zero = torch.zeros_like(Z)
    locked = inspect(evaluate(RowBlocks.of(A), chain.replaced(3, zero)), Multiplicative(), penalties)
    assert locked.locked_entries[3] == Z.numel()
    assert locked.locked


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objective": "local"}, "objective must be one of global, layerwise, got 'local'; choose one"),
        ({"layer_weights": 2.0}, "layer_weights are for objective='layerwise', got 2.0 for 'global'; leave them at 1"),
        ({"objective": "layerwise", "layer_weights": (1, 2, 3)}, "each of the 2 layers, got 3; pass one"),
        ({"objective": "layerwise", "layer_weights": (1, 0)}, r"must be positive and finite, got \(1, 0\)"),
        ({"objective": "layerwise", "layer_weights": float("nan")}, "must be positive and finite, got nan"),
        ({"objective": "layerwise", "layer_weights": "much"}, "must be positive and finite, got 'much'"),
        ({"objective": "layerwise", "coarse": True}, "coarse=True needs .* the global objective"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(digits, settings, message):
    with pytest.raises(ValueError, match=message) as refused:
        DeepNMF((4, 3), **settings).fit(digits)
    assert len(str(refused.value).splitlines()) == 1
