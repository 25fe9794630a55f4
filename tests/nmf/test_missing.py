"""Missing entries have no part in a fit: it descends on the observed ones, says so, and predicts the others."""

import numpy as np
import pytest
import torch
from scipy.optimize import nnls

import laws
from rankscope import NMF, DeepNMF
from rankscope.nmf.advance import evaluate, subproblems
from rankscope.nmf.blocks import RowBlocks
from rankscope.nmf.chain import Chain
from rankscope.nmf.fit import Stopping, fit
from rankscope.nmf.penalty import NO_PENALTY, Penalty
from rankscope.nmf.rules import Adam, GradientDescent, Hals, SharedScalar
from rankscope.trace.history import History

RULES = {name: rule for name, rule in laws.DESCENDING.items() if name != "accelerated"} | {
    "fixed": GradientDescent(1e-3),
    "adam": Adam(),
    "scalar": SharedScalar(),
}
SHAPE = (23, 17)


def observed_fraction(seed, shape=SHAPE, fraction=0.7):
    return torch.rand(shape, generator=laws.generator(seed)) < fraction


def run(A, observed, chain, rule, steps=15, *, penalties=None, block_rows=None, callback=None):
    return fit(
        RowBlocks.of(A, block_rows, observed=observed),
        chain,
        rule,
        stopping=Stopping(steps, "none"),
        penalties=tuple(penalties or [NO_PENALTY] * chain.depth),
        history=History(),
        callback=callback,
    )


def observed_error(A, observed, chain):
    """‖M∘(A − B)‖² by the formula."""
    return float((A - chain.product())[observed].double().square().sum())


@pytest.mark.parametrize("block_rows", [7, None])
@pytest.mark.parametrize("sizes", [(4,), (5, 3)], ids=str)
@pytest.mark.parametrize("name", RULES)
def test_a_mask_that_hides_nothing_changes_nothing(name, sizes, block_rows):
    A, chain = laws.planted(0, SHAPE, (3,)).A, laws.random_chain(1, SHAPE, sizes)
    masked = run(A, torch.ones(SHAPE, dtype=torch.bool), chain, RULES[name], block_rows=block_rows)
    plain = laws.run(A, chain, RULES[name], 15, block_rows=block_rows)
    assert all(torch.equal(F, G) for F, G in zip(masked.chain.factors, plain.chain.factors, strict=True))
    columns = masked.history.columns.drop("seconds")
    np.testing.assert_allclose(masked.history[columns], plain.history[columns], rtol=1e-9)


@pytest.mark.parametrize("name", laws.DESCENDING)
@pytest.mark.parametrize("sizes", [(4,), (5, 3)], ids=str)
@pytest.mark.parametrize("penalized", [False, True])
def test_the_objective_over_what_was_observed_never_rises(name, sizes, penalized):
    A, observed = laws.planted(2, SHAPE, (6,)).A, observed_fraction(3, fraction=0.5)
    penalties = [Penalty(l1=0.02, l2=0.1) if penalized else NO_PENALTY] * (len(sizes) + 1)
    values = []

    def note(step, state):
        chain = Chain(state.factors)
        penalty = sum(float(p.value(F)) for p, F in zip(penalties, chain.factors, strict=True))
        values.append(0.5 * observed_error(A, observed, chain) + penalty)

    run(A, observed, laws.random_chain(4, SHAPE, sizes), laws.DESCENDING[name], 60, penalties=penalties, callback=note)
    assert np.all(np.diff(values) <= 1e-10 * values[0])
    assert values[-1] < 0.6 * values[0]


def test_there_is_no_extrapolation_where_entries_are_missing():
    """Whether it may go on is judged by an objective that a pass over A' does not tell."""
    A, observed, chain = laws.planted(2, SHAPE, (6,)).A, observed_fraction(3), laws.random_chain(4, SHAPE, (4,))
    accelerated, plain = (run(A, observed, chain, rule, 20).history for rule in (Hals(4, momentum=True), Hals(4)))
    columns = plain.columns.drop("seconds")
    assert accelerated[columns][:-1].equals(plain[columns][:-1])  # The last row is settled.


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", ["hals-3", "mu", "adam"])
def test_the_history_is_that_of_what_was_observed(name, dtype):
    A, observed = laws.planted(0, SHAPE, (6,)).A.to(dtype), observed_fraction(1)
    expected, norm = [], float(A[observed].double().square().sum())
    chain = laws.random_chain(2, SHAPE, (4, 3), dtype)
    result = run(
        A,
        observed,
        chain,
        RULES[name],
        callback=lambda step, state: expected.append(observed_error(A, observed, Chain(state.factors))),
    )
    expected = np.array([observed_error(A, observed, chain), *expected])
    rtol = 1e-12 if dtype == torch.float64 else 1e-5
    np.testing.assert_allclose(result.history["relative_error"], expected / norm, rtol=rtol)
    np.testing.assert_allclose(result.history["absolute_error"], np.sqrt(expected), rtol=rtol)


@pytest.mark.parametrize("sizes", [(4,), (5, 3), (3, 4, 5)], ids=str)
def test_the_gradient_is_that_of_the_observed_residual(sizes):
    A, observed = laws.planted(0, SHAPE, (6,)).A, observed_fraction(1)
    chain = laws.random_chain(2, SHAPE, sizes)
    state = evaluate(RowBlocks.of(A, 7, observed=observed), chain)
    leaves = [F.clone().requires_grad_() for F in chain.factors]
    loss = 0.5 * ((A - Chain(tuple(leaves)).product())[observed]).square().sum()
    expected = torch.autograd.grad(loss, leaves)
    for (F, problem), gradient in zip(subproblems(state, [NO_PENALTY] * chain.depth), expected, strict=True):
        torch.testing.assert_close(problem.gradient(F), gradient, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("solver", ["hals", "mu", "gd", "adam", "scalar"])
@pytest.mark.parametrize("init", ["random", "eye", "nndsvda"])
def test_what_was_not_observed_does_not_matter(solver, init):
    X, observed = laws.planted(0, SHAPE, (3,)).A.numpy(), observed_fraction(1).numpy()
    settings = {"solver": solver, "init": init, "max_iter": 20, "stop": "none", "random_state": 0}
    by_mask = NMF(3, **settings).fit(np.where(observed, X, 7.0), mask=observed.astype(int))
    by_nan = NMF(3, missing="mask", **settings).fit(np.where(observed, X, np.nan))
    assert laws.largest_difference(by_mask.factors_, by_nan.factors_) == 0
    assert by_nan.heldout_error_ is None


@pytest.mark.parametrize("solver", ["hals", "mu", "gd", "adam", "scalar"])
@pytest.mark.parametrize("estimator", [NMF(3), DeepNMF((4, 3))], ids=["NMF", "DeepNMF"])
def test_rows_and_columns_never_observed_are_zero_and_nothing_is_nan(solver, estimator):
    X = laws.planted(0, SHAPE, (3,)).A.numpy().copy()
    X[[0, 5]], X[:, 3] = np.nan, np.nan
    model = type(estimator)(estimator.get_params()["n_components" if type(estimator) is NMF else "layer_sizes"])
    model.set_params(solver=solver, missing="mask", max_iter=30, stop="none", random_state=0).fit(X)
    assert all(np.isfinite(F).all() for F in model.factors_)
    assert not model.factors_[0][[0, 5]].any()
    assert not model.factors_[-1][:, 3].any()
    assert np.isfinite(model.history_.to_numpy()).all()
    activations = model.transform(X)
    assert np.isfinite(activations).all()
    assert not activations[[0, 5]].any()
    shown = np.delete(np.delete(X, [0, 5], 0), 3, 1)
    alone = np.delete(np.delete(model.inverse_transform(model.factors_[0]), [0, 5], 0), 3, 1)
    assert model.reconstruction_err_ == pytest.approx(np.linalg.norm(shown - alone), rel=1e-10)


def test_a_complete_matrix_is_fitted_as_without_a_mask():
    X = laws.planted(0, (60, 40), (3,)).A.numpy()
    plain = NMF(3, random_state=0).fit(X)
    for masked in (
        NMF(3, random_state=0).fit(X, mask=np.ones(X.shape, bool)),
        NMF(3, random_state=0, missing="mask").fit(X),
    ):
        assert laws.largest_difference(plain.factors_, masked.factors_) == 0
        assert masked.heldout_error_ is None


def test_the_heldout_error_is_over_the_entries_that_the_mask_hid():
    X, observed = laws.planted(0, SHAPE, (6,)).A.numpy().copy(), observed_fraction(1).numpy()
    row, column = np.argwhere(~observed)[0]
    X[row, column] = np.nan
    model = NMF(3, random_state=0).fit(X, mask=observed)
    hidden = ~observed & np.isfinite(X)
    residual = X - model.inverse_transform(model.factors_[0])
    expected = (residual[hidden] ** 2).sum() / (X[hidden] ** 2).sum()
    assert model.heldout_error_ == pytest.approx(expected, rel=1e-10)


def test_an_exact_product_is_completed():
    planted = laws.planted(0, (80, 60), (3,))
    observed = observed_fraction(1, (80, 60), 0.6)
    model = NMF(3, max_iter=3000, tol=1e-7, init="random", random_state=0).fit(planted.A, mask=observed)
    assert model.health_.kkt_residual <= 1e-6
    assert model.heldout_error_ < 1e-6


@pytest.mark.parametrize("l1", [0.0, 0.05])
def test_transform_solves_each_row_over_what_was_observed_of_it(l1):
    planted, observed = laws.planted(0, (40, 30), (4,)), observed_fraction(1, (40, 30))
    A = planted.A + 0.1 * torch.rand(40, 30, generator=laws.generator(5), dtype=torch.float64)
    model = NMF(4, init="custom", max_iter=0, stop="none", l1=(l1, l1)).fit(
        A.numpy(), W=planted.chain.first.numpy(), H=planted.chain.last.numpy()
    )
    activations = model.transform(A.numpy(), mask=observed.numpy())
    H = model.components_
    for row, seen, got in zip(A.numpy(), observed.numpy(), activations, strict=True):
        design = H[:, seen].T
        gradient = design.T @ (design @ got - row[seen]) + l1
        assert np.abs(np.minimum(gradient, got)).max() < 1e-8
        if l1 == 0:
            np.testing.assert_allclose(got, nnls(design, row[seen])[0], atol=1e-8)


def test_small_integers_keep_their_dtype():
    X = (255 * laws.planted(0, SHAPE, (3,)).A / 12).clamp(max=255).to(torch.uint8)
    observed = observed_fraction(1)
    model = NMF(3, random_state=0, max_iter=50, stop="none").fit(X, mask=observed)
    wide = NMF(3, random_state=0, max_iter=50, stop="none").fit(X.float(), mask=observed)
    assert laws.largest_difference(model.factors_, wide.factors_) == 0


X = laws.planted(0, (6, 5), (2,)).A.numpy()
HOLE = np.where(np.eye(6, 5, dtype=bool), np.nan, X)


@pytest.mark.parametrize(
    ("X", "settings", "mask", "message"),
    [
        (HOLE, {}, None, "got nan at row 0, column 0; remove or impute it, or fit with missing='mask'"),
        (HOLE, {}, np.ones((6, 5)), "wherever mask says observed, got NaN at row 0, column 0; clear the mask"),
        (
            np.full((6, 5), np.nan),
            {"missing": "mask"},
            None,
            "at least one entry of X must be observed, got none of 6×5",
        ),
        (X, {}, np.zeros((6, 5), bool), "at least one entry of X must be observed, got none of 6×5"),
        (X, {}, np.ones((5, 6)), "mask must have X's shape, 6×5, got 5×6"),
        (X, {}, np.full((6, 5), 0.5), "mask must be bool or hold 0 and 1 only, got 0.5 at row 0, column 0"),
        (np.where(np.eye(6, 5) > 0, np.inf, X), {"missing": "mask"}, None, "must not contain NaN or inf, got inf"),
        (np.where(np.eye(6, 5) > 0, -1, HOLE), {"missing": "mask"}, None, "must be >= 0, got -1.0 at row 0"),
        (HOLE, {"missing": "mean"}, None, "X must not contain NaN"),
        (X, {"missing": "mean"}, None, "missing must be 'refuse' or 'mask', got 'mean'"),
        (HOLE, {"missing": "mask", "coarse": True}, None, "coarse=True needs .* no missing"),
    ],
    ids=range(11),
)
def test_what_is_refused(X, settings, mask, message):
    with pytest.raises(ValueError, match=message):
        NMF(2, **settings).fit(X, mask=mask)


def test_mnist_with_holes_is_predicted_better_than_by_filling_them_with_means(mnist):
    X = mnist[:2000]
    observed = np.random.default_rng(0).random(X.shape) >= 0.3
    means = np.where(observed, X, 0).sum(0) / observed.sum(0).clip(min=1)
    settings = {"n_components": 50, "max_iter": 100, "stop": "none", "random_state": 0}
    imputed = NMF(**settings).fit(np.where(observed, X, means).astype(np.float32))
    filled = imputed.inverse_transform(imputed.factors_[0])
    reference = ((X - filled)[~observed] ** 2).sum() / (X[~observed] ** 2).sum()
    assert NMF(**settings).fit(X, mask=observed).heldout_error_ < 0.8 * reference


@pytest.mark.parametrize("estimator", [NMF(3, random_state=0), DeepNMF((4, 3), random_state=0)], ids=["NMF", "DeepNMF"])
def test_fit_transform_takes_the_mask_too(estimator):
    X, observed = laws.planted(0, SHAPE, (3,)).A.numpy(), observed_fraction(1).numpy()
    estimator.set_params(max_iter=2000, tol=1e-8, init="random")
    activations = estimator.fit_transform(X, mask=observed)
    np.testing.assert_allclose(activations, estimator.fit(X, mask=observed).transform(X, mask=observed), atol=1e-4)


def test_new_rows_are_not_drawn_between_rows_never_observed():
    X = laws.planted(0, SHAPE, (3,)).A.numpy().copy()
    X[::2] = np.nan
    made = NMF(3, missing="mask", random_state=0).fit(X).sample(200, random_state=0)
    assert made.sum(1).min() > 0.5 * np.nansum(X[1::2], axis=1).min()
