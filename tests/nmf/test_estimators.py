"""The estimators keep scikit-learn's contract, and say what is wrong with what they are given."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import laws
from rankscope import NMF, DeepNMF
from rankscope.errors import LockedFitWarning
from rankscope.metrics import relative_error, stable_rank

SOLVERS = ["hals", "mu", "gd", "adam", "scalar"]
X0 = np.random.default_rng(0).random((12, 8))


@parametrize_with_checks([NMF(), DeepNMF((3, 2)), DeepNMF((3, 2), objective="layerwise")])
def test_scikit_learns_contract(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        check(estimator)


@pytest.mark.parametrize("model", [NMF(4, max_iter=500), DeepNMF((5, 3), max_iter=500)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_learned(digits, model, dtype):
    X = digits[:200].astype(dtype)
    model = clone(model).set_params(random_state=0).fit(X)
    product = np.linalg.multi_dot([*model.factors_, np.eye(64)])
    assert all(F.dtype == dtype and (F >= 0).all() for F in model.factors_)
    assert model.components_ is model.factors_[-1]
    assert model.reconstruction_err_ == pytest.approx(np.linalg.norm(X - product), rel=1e-4)
    last = model.history_.iloc[-1]
    assert last["absolute_error"] == pytest.approx(model.reconstruction_err_, rel=1e-4)
    assert last["relative_error"] == pytest.approx(relative_error(X, model.factors_), rel=1e-4)
    assert last["step"] == model.n_iter_
    assert list(model.history_.columns[:4]) == ["step", "seconds", "relative_error", "absolute_error"]
    assert model.health_.ok


@pytest.mark.parametrize("init", ["eye", "nndsvd"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_no_start_is_locked_and_all_end_alike(digits, solver, init):
    settings = dict(solver=solver, max_iter=1500, stop="none", random_state=0)
    X = digits[:600].astype(np.float32)
    model = NMF(10, init=init, **settings).fit(X)
    random = NMF(10, init="random", **settings).fit(X)
    assert model.history_["relative_error"].iloc[-1] <= 1.1 * random.history_["relative_error"].iloc[-1]
    assert not model.health_.locked
    assert model.health_.locked_components == ()


def test_a_deliberately_locked_start_is_reported():
    model = NMF(3, solver="mu", init="custom", max_iter=50, stop="none")
    with pytest.warns(LockedFitWarning, match="locked at zero: .* 3 of 3 components"):
        model.fit(X0, W=np.eye(12, 3), H=np.eye(3, 8))
    assert model.health_.locked
    assert len(model.health_.locked_components) == 3


def test_transform_and_its_inverse(digits):
    X = digits[:300]
    model = NMF(8, max_iter=2000, tol=1e-7, random_state=0)
    W = model.fit_transform(X)
    np.testing.assert_array_equal(W, model.factors_[0])
    np.testing.assert_allclose(model.transform(X), W, atol=1e-3)
    np.testing.assert_allclose(model.inverse_transform(W), W @ model.components_, atol=1e-12)
    deep = DeepNMF((6, 4), max_iter=200, random_state=0)
    F = deep.fit_transform(X)
    np.testing.assert_array_equal(F, deep.transform(X))
    assert relative_error(X, deep.inverse_transform(F)) <= deep.history_["relative_error"].iloc[-1] * (1 + 1e-12)


def test_pandas_in_and_out():
    frame = pd.DataFrame(X0, columns=[f"gene {i}" for i in range(8)], index=[f"cell {i}" for i in range(12)])
    model = NMF(3, max_iter=50, tol=0).set_output(transform="pandas")
    out = model.fit_transform(frame)
    assert list(out.columns) == ["nmf0", "nmf1", "nmf2"]
    assert list(out.index) == list(frame.index)
    assert list(model.feature_names_in_) == list(frame.columns)
    assert list(DeepNMF((4, 2), max_iter=5, tol=0).fit(X0).get_feature_names_out()) == [f"deepnmf{i}" for i in range(4)]


def test_tensors_come_back_as_tensors():
    X = torch.from_numpy(X0).float()
    model = NMF(3, max_iter=50, tol=0, random_state=0)
    W = model.fit_transform(X)
    assert isinstance(W, torch.Tensor)
    assert W.dtype == torch.float32
    assert isinstance(model.components_, torch.Tensor)
    assert isinstance(model.inverse_transform(model.transform(X)), torch.Tensor)
    assert isinstance(model.sample(2), torch.Tensor)
    same = NMF(3, max_iter=50, tol=0, random_state=0).fit(X0.astype(np.float32))
    np.testing.assert_array_equal(model.components_.numpy(), same.components_)


def test_seeds_pipelines_clones_and_pickles():
    a, b = (NMF(3, init="random", random_state=7, max_iter=30, tol=0).fit(X0) for _ in range(2))
    np.testing.assert_array_equal(a.components_, b.components_)
    c = NMF(3, init="random", random_state=8, max_iter=30, tol=0).fit(X0)
    assert not np.array_equal(a.components_, c.components_)
    assert clone(a).get_params() == a.get_params()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(a)).transform(X0), a.transform(X0))
    assert make_pipeline(MinMaxScaler(), NMF(2, max_iter=20, tol=0)).fit_transform(X0).shape == (12, 2)


def test_warm_start_goes_on_where_the_last_fit_ended(digits):
    X = digits[:100]
    settings = dict(n_components=5, tol=0, random_state=0, inner_sweeps=1)
    whole = NMF(max_iter=40, **settings).fit(X)
    model = NMF(max_iter=20, warm_start=True, **settings).fit(X)
    model.fit(X)
    np.testing.assert_allclose(model.components_, whole.components_, atol=1e-12)
    more_rows = model.fit(digits[:150])
    assert more_rows.history_["relative_error"].iloc[0] < 0.5
    with pytest.raises(ValueError, match="warm_start needs the layer sizes"):
        model.set_params(n_components=4).fit(X)


def test_callbacks_and_measures():
    steps = []
    model = NMF(
        3,
        max_iter=100,
        stop="none",
        callback=lambda step, state: steps.append(step) or step == 9,
        measures={"stable": stable_rank},
    ).fit(X0)
    assert model.n_iter_ == 9
    assert steps == list(range(1, 10))
    assert model.history_["stable"].iloc[-1] == pytest.approx(stable_rank(model.factors_), rel=1e-6)


def test_an_interrupt_is_passed_on_with_everything_kept():
    def callback(step, state):
        if step == 5:
            raise KeyboardInterrupt

    model = NMF(3, max_iter=100, stop="none", callback=callback)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X0)
    assert model.n_iter_ == 5
    assert model.transform(X0).shape == (12, 3)


def test_progress_goes_to_stderr_only(capfd):
    NMF(3, max_iter=30, tol=0, progress=True).fit(X0)
    assert capfd.readouterr().out == ""


def test_not_converging_is_a_warning_that_says_by_how_much():
    with pytest.warns(ConvergenceWarning, match=r"KKT residual is .* after max_iter=2 iterations, above tol=0.0001"):
        NMF(3, max_iter=2).fit(X0)
    with pytest.warns(ConvergenceWarning, match="no plateau"):
        NMF(3, max_iter=3, stop="plateau").fit(X0)
    with pytest.warns(ConvergenceWarning, match="NaN or inf appeared"):
        NMF(3, solver="gd", learning_rate=1e200, max_iter=50).fit(X0)


def test_plateaus_are_found_labelled_and_restored():
    A, _ = laws.planted(0, (60, 40), (3,))
    model = NMF(
        6,
        solver="gd",
        learning_rate=2e-4,
        init="random",
        init_scale=1e-3,
        max_iter=20_000,
        stop="plateau",
        random_state=0,
    )
    model.fit(A.numpy())
    plateau = model.plateaus_[0]
    assert plateau.k == 1
    assert plateau.kind == "transient"
    assert plateau.level == pytest.approx(1, abs=0.05)
    assert len(model.plateau_factors_) == len(model.plateaus_)
    for F, G in zip(model.factors_, model.plateau_factors_[0], strict=True):
        np.testing.assert_array_equal(F, G)


def test_a_plateau_that_gave_way_to_another_had_not_converged():
    """Between two stairs the gradient can be as small as at the end of a fit."""
    A = np.kron(np.diag([10.0, 2.0, 0.4]), np.ones((6, 6))) / 6 + 0.002 * np.random.default_rng(0).random((18, 18))
    settings = dict(init="random", init_scale=1e-3, stop="none", keep_plateaus=True, random_state=0)
    model = NMF(5, solver="gd", learning_rate=1e-2, max_iter=4000, **settings).fit(A)
    assert [(plateau.k, plateau.kind) for plateau in model.plateaus_] == [(1, "transient"), (2, "converged")]


def test_a_plateau_that_is_not_reached_is_a_warning():
    settings = dict(solver="gd", init="random", init_scale=1e-2, learning_rate=1e-3, stop="plateau", random_state=0)
    with pytest.warns(ConvergenceWarning, match="no plateau of the effective rank within max_iter=5"):
        NMF(3, max_iter=5, **settings).fit(X0)
    A = np.kron(np.diag([3.0, 1.0]), np.ones((6, 6)))
    with pytest.warns(ConvergenceWarning, match=r"plateau 9 of the effective rank was not reached \(\d found\)"):
        NMF(2, max_iter=3000, plateau=9, **settings).fit(A)


@pytest.mark.parametrize("solver", ["mu", "gd", "adam", "scalar"])
def test_separation_separates(digits, solver):
    from rankscope.metrics import cosine_separation_loss

    settings = dict(solver=solver, init="random", max_iter=400, stop="none", random_state=0)
    plain = NMF(6, **settings).fit(digits[:200])
    separated = NMF(6, cosine_separation=300, **settings).fit(digits[:200])
    assert cosine_separation_loss(separated.components_) < 0.7 * cosine_separation_loss(plain.components_)


@pytest.mark.parametrize("solver", SOLVERS)
def test_l1_makes_sparse_and_l2_makes_small(digits, solver):
    settings = dict(solver=solver, init="random", max_iter=400, stop="none", random_state=0)
    plain, sparse, small = (NMF(6, **p, **settings).fit(digits[:200]) for p in ({}, {"l1": [1.0, 1.0]}, {"l2": 5.0}))
    total = [sum(F.sum() for F in model.factors_) for model in (plain, sparse)]
    assert total[1] < total[0]
    assert sum((F**2).sum() for F in small.factors_) < sum((F**2).sum() for F in plain.factors_)


def test_eye_custom_and_auto_sizes():
    assert NMF(max_iter=3, tol=0).fit(X0).n_components_ == 8
    model = NMF(init="custom", max_iter=3, tol=0).fit(X0, W=np.ones((12, 2)), H=np.ones((2, 8)))
    assert model.n_components_ == 2
    factors = [F.numpy() for F in laws.random_chain(0, (12, 8), (4, 3)).factors]
    assert DeepNMF((4, 3), init="custom", max_iter=3, tol=0).fit(X0, factors=factors).n_components_ == 3


bad = X0.copy()
bad[2, 3] = -1
nan, inf = X0.copy(), X0.copy()
nan[1, 1], inf[0, 0] = np.nan, np.inf


@pytest.mark.parametrize("kind", ["numpy", "tensor"])
@pytest.mark.parametrize(
    ("X", "message"),
    [
        (bad, r"Negative values in data passed to NMF: X must be >= 0, got -1.0 at row 2, column 3"),
        (nan, r"X must not contain NaN or inf, got nan at row 1, column 1; remove or impute it"),
        (inf, r"X must not contain NaN or inf, got inf at row 0, column 0"),
        (np.ones((0, 4)), r"0 sample|at least one row"),
        (np.ones(5), r"X must have 2 dimensions .* got shape \(5,\). Reshape your data"),
        (np.ones((3, 3, 3)), r"X must have 2 dimensions"),
        (X0 + 1j, r"Complex data not supported: X must be real"),
    ],
)
def test_bad_data_is_refused_in_one_line(kind, X, message):
    with pytest.raises(ValueError, match=message) as refused:
        NMF(2).fit(torch.from_numpy(X) if kind == "tensor" else X)
    assert len(str(refused.value).strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ([1.0, 2.0], r"X must have 2 dimensions .* got shape \(2,\)"),
        (3.0, r"X must have 2 dimensions .* got shape \(\)"),
        (None, r"X must have 2 dimensions"),
        ([[1, 2], [3]], "X must have rows of one length, got a ragged list; pad or cut them"),
        ([[1 + 1j, 2]], "Complex data not supported: X must be real"),
        ([], r"X must have 2 dimensions"),
        ([["a", "b"]], "X must hold numbers only, got an entry that is none: .*'a'.*; encode or drop it"),
    ],
    ids=["one list", "number", "nothing", "ragged", "complex", "empty", "words"],
)
def test_what_is_no_array_is_refused_in_one_line_too(X, message):
    with pytest.raises(ValueError, match=message) as refused:
        NMF(2).fit(X)
    assert len(str(refused.value).splitlines()) == 1


def test_object_arrays_that_hold_no_numbers_are_refused():
    objects = X0.astype(object)
    assert NMF(2, max_iter=2, tol=0).fit(objects).n_components_ == 2
    objects[0, 0] = "five"
    with pytest.raises((ValueError, TypeError), match=r"five|float") as refused:
        NMF(2).fit(objects)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (NMF(0), "n_components must be a whole number from 1, got 0"),
        (NMF(-1), "n_components must be a whole number from 1, got -1"),
        (NMF((4, 3)), "use DeepNMF for several layers"),
        (NMF(2, learning_rate=0.1), "learning_rate is for gd, adam and scalar, got 0.1 for hals"),
        (NMF(2.5), "n_components must be a whole number from 1, got 2.5"),
        (NMF(9), r"n_components must be in 1\.\.8 .*12×8.*got 9; lower it or use init='random'"),
        (NMF(9, init="nndsvd"), r"n_components must be in 1\.\.8"),
        (NMF(2, solver="newton"), "solver must be one of"),
        (NMF(2, init="magic"), "init must be one of random, eye, nndsvd, nndsvda, custom, got 'magic'"),
        (NMF(2, init="custom"), "init='custom' and custom factors go together"),
        (NMF(2, cosine_separation=1.0), "solver='hals' cannot take cosine_separation"),
        (NMF(2, cosine_separation=-1.0, solver="mu"), "cosine_separation must be"),
        (NMF(2, l1=[1, 2, 3]), "l1 must be one number or one for each of the 2 factors"),
        (NMF(2, init_scale=0), "init_scale must be positive"),
        (NMF(2, init_scale=float("inf")), "init_scale must be positive and finite, got inf"),
        (NMF(2, block_rows=0), "block_rows must be a whole number from 1, got 0"),
        (NMF(2, max_iter=2.5), "max_iter must be a whole number from 0, got 2.5"),  # pyrefly: ignore
        (NMF(2, max_iter=-1), "max_iter must be a whole number from 0, got -1"),
        (NMF(2, inner_sweeps=1.5), "inner_sweeps must be a whole number from 1, got 1.5"),  # pyrefly: ignore
        (NMF(2, tol=float("nan")), "tol must be at least 0, got nan"),
        (NMF(2, solver="gd", learning_rate="fast"), "learning_rate must be positive and finite, got 'fast'"),  # pyrefly: ignore
        (NMF(2, solver="adam", betas=(0.9,)), r"betas must be two numbers in \[0, 1\), got \(0.9,\)"),  # pyrefly: ignore
        (NMF(2, l1="much"), "l1 must be one number or one for each factor, got 'much'"),  # pyrefly: ignore
        (NMF(2, callback=3), r"callback must be a function of \(step, state\), got 3"),  # pyrefly: ignore
        (NMF(2, measures=["rank"]), "measures must map names to functions"),  # pyrefly: ignore
        (NMF(2, stop="plateau", plateau=0), "plateau must be 'first', 'last' or a whole number from 1, got 0"),
        (DeepNMF(3), r"layer_sizes must be a sequence of whole numbers, got 3; pass for example \(20, 10\)"),  # pyrefly: ignore
        (NMF(2, track_history=False, stop="plateau"), "read the history"),
        (DeepNMF(()), "layer_sizes must name at least one layer"),
        (DeepNMF((4, 0)), "every layer size must be a whole number from 1, got 0"),
    ],
)
def test_bad_settings_are_refused_in_one_line(model, message):
    with pytest.raises(ValueError, match=message) as refused:
        model.fit(X0)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("W", "H", "message"),
    [
        (np.ones((12, 2)), None, "W and H go together, got only W"),
        (np.ones((11, 2)), np.ones((2, 8)), r"factor 1 must be 12×2 \(X is 12×8\), got 11×2"),
        (np.ones((12, 2)), np.ones((3, 8)), r"factor 2 must be 2×8 \(X is 12×8\), got 3×8"),
        (-np.ones((12, 2)), np.ones((2, 8)), "factor 1 must be >= 0, got -1.0 at row 0, column 0"),
        (np.zeros((12, 2)), np.ones((2, 8)), "factor 1 must not be all zero"),
        (np.full((12, 2), np.nan), np.ones((2, 8)), "factor 1 must be finite"),
    ],
)
def test_custom_factors_that_do_not_fit_are_refused(W, H, message):
    with pytest.raises(ValueError, match=message):
        NMF(2, init="custom").fit(X0, W=W, H=H)


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ([np.ones((12, 3)), np.ones((3, 8))], "needs a list of 3 factors, got 2"),
        (np.ones((12, 3)), "needs a list of 3 factors, got a ndarray"),
        ([np.ones((12, 3)), np.ones((3, 2)), "H"], "factor 3 must hold real numbers"),
        ([np.ones((12, 3)) + 1j, np.ones((3, 2)), np.ones((2, 8))], "factor 1 must hold real numbers, got complex128"),
    ],
)
def test_custom_chains_that_do_not_fit_are_refused(factors, message):
    with pytest.raises(ValueError, match=message):
        DeepNMF((3, 2), init="custom").fit(X0, factors=factors)


def test_warm_starts_that_do_not_fit_are_refused():
    model = NMF(3, warm_start=True, max_iter=2, tol=0).fit(X0)
    with pytest.raises(ValueError, match="warm_start needs the 8 columns of the last fit, got 5"):
        model.fit(X0[:, :5])
    with pytest.raises(ValueError, match=r"warm_start needs the layer sizes of the last fit, \(3,\), got \(2,\)"):
        model.set_params(n_components=2).fit(X0)


@pytest.mark.parametrize("X", [np.zeros((6, 5)), np.ones((6, 5)), np.eye(6), np.ones((1, 5)), np.ones((5, 1))])
@pytest.mark.parametrize("solver", SOLVERS)
def test_degenerate_data_gives_finite_factors(X, solver):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = NMF(1, solver=solver, init="random", max_iter=30, random_state=0).fit(X)
        more = NMF(8, solver=solver, init="random", max_iter=30, random_state=0).fit(X)
    for fitted in (model, more):
        assert all(np.isfinite(F).all() for F in fitted.factors_)
        assert np.isfinite(fitted.reconstruction_err_)


def test_scaling_and_permuting_the_data_scales_and_permutes_the_answer(digits):
    X = digits[:80]
    model = NMF(4, init="nndsvd", random_state=0, max_iter=60, tol=0)
    B = model.fit(X).inverse_transform(model.factors_[0])
    scaled = model.fit(7 * X).inverse_transform(model.factors_[0])
    np.testing.assert_allclose(scaled, 7 * B, atol=1e-6)
    rows = np.random.default_rng(0).permutation(80)
    permuted = model.fit(X[rows]).inverse_transform(model.factors_[0])
    np.testing.assert_allclose(permuted, B[rows], atol=1e-2)


@pytest.mark.parametrize("dtype", [np.uint8, np.float16])
def test_small_dtypes_are_fitted_as_they_are(digits, dtype):
    X = (16 * digits[:300]).astype(dtype)
    small, wide = (NMF(5, random_state=0, max_iter=50).fit(Y) for Y in (X, X.astype(np.float32)))
    assert small.components_.dtype == np.float32
    np.testing.assert_array_equal(small.components_, wide.components_)
    np.testing.assert_array_equal(small.transform(X), wide.transform(X.astype(np.float32)))
