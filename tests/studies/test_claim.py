"""The claim's study: the error to X is the error to X, no rule beats the best step, and every count is what it says."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import laws
from rankscope import NMF
from rankscope.metrics import relative_error
from rankscope.nmf.chain import Chain
from rankscope.nmf.rules import make_rule
from rankscope.studies.reproduce import claim, denoising, reproduce, runner
from rankscope.studies.reproduce.claim import Cross
from rankscope.studies.reproduce.claim_problems import SOURCES, make
from rankscope.studies.reproduce.claim_results import SETTING, comparisons, plateau_kinds, ratio, regrets
from rankscope.studies.reproduce.denoising import (
    GD_RATE,
    NoisyFit,
    Problem,
    clean_error,
    fit_noisy,
    judge,
    stuck_share,
    tune,
)

ON_THE_WAY = ("first", "second", "last", "best plateau", "end")
TINY = Cross(("separated parts",), "gaussian", (0.3,), ("hals",), (1.0,), (2,))


@pytest.fixture(scope="module")
def parts() -> Problem:
    return make("separated parts", "gaussian", 0.3, 0)


@pytest.fixture(scope="module")
def fit(parts) -> NoisyFit:
    return fit_noisy(parts, "gd", 1e-3, 2, 0, steps=1000)


@pytest.mark.parametrize(("solver", "depth"), [("mu", 2), ("adam", 3)])
def test_the_error_read_on_the_way_is_that_of_the_factors_there(parts, solver, depth):
    history = fit_noisy(parts, solver, 0.1, depth, 1, steps=30).descent.history
    for step in (7, 30):
        chain = fit_noisy(parts, solver, 0.1, depth, 1, steps=step).descent.chain
        explicit = float((parts.clean - chain.product()).square().sum() / parts.clean.square().sum())
        assert history.set_index("step").loc[step, "clean_error"] == pytest.approx(explicit, rel=1e-9)
        assert clean_error(parts.clean, chain) == pytest.approx(explicit, rel=1e-9)


def test_without_noise_the_error_to_x_is_the_fits_own():
    history = fit_noisy(make("close parts", "gaussian", 0.0, 0), "scalar", 0.1, 2, 0, steps=200).descent.history
    np.testing.assert_allclose(history["clean_error"], history["relative_error"], rtol=1e-9)


def test_no_rule_beats_the_best_step_and_one_that_is_there_has_regret_1(fit):
    row = judge(fit)
    assert row["error: oracle"] == fit.descent.history["clean_error"].min() < row["error: end"]
    assert all(row[f"error: {rule}"] >= row["error: oracle"] for rule in ON_THE_WAY)
    assert row["error: best plateau"] <= min(row["error: first"], row["error: last"])
    upto = fit.descent.history[fit.descent.history["step"] <= row["oracle step"]]
    stopped = judge(fit._replace(descent=replace(fit.descent, history=upto)))
    assert stopped["error: end"] == stopped["error: oracle"] == row["error: oracle"]


def test_the_first_plateau_is_left_where_a_fit_that_stops_there_goes_back_to(parts, fit):
    rate = GD_RATE / float(torch.linalg.matrix_norm(parts.noisy, 2))
    rule = make_rule("gd", learning_rate=rate)
    start = denoising._start(parts, rule, 1e-3, 2, laws.generator(0))
    model = NMF(parts.rank, solver="gd", learning_rate=rate, init="custom", stop="plateau", max_iter=1000)
    model.fit(parts.noisy, W=start.first, H=start.last)
    row = judge(fit)
    assert 0 < row["step: first"] < model.n_iter_ < 1000
    assert float(relative_error(parts.clean, model.factors_)) == pytest.approx(row["error: first"], rel=1e-3)


def test_without_signs_plateaus_come_in_the_order_of_the_singular_values():
    fit = fit_noisy(make("separated directions", "gaussian", 0.0, 0), "gd", 1e-3, 2, 0)
    assert [plateau.k for plateau in fit.descent.plateaus] == [1, 2, 3, 4]
    row = judge(fit)
    assert (row["in order"], row["rank one: first"], row["k: first"], row["k: last"]) == (True, True, 1, 4)
    assert row["error: first"] > 100 * row["error: last"]


def test_a_fit_without_a_plateau_keeps_its_last_factors_and_is_counted(parts):
    row = judge(fit_noisy(parts, "hals", 1.0, 2, 0, steps=5))
    assert row["plateaus"] == 0
    assert {row[f"error: {rule}"] for rule in ON_THE_WAY} == {row["error: end"]}
    assert not row["rank one: first"]
    assert np.isnan(row["rank: first"])
    row |= {"data": "X", "rank: best rank": 4, "rank: tuned rank": 3}
    assert plateau_kinds(pd.DataFrame([row]), ["data"])["none"].tolist() == ["100%"]


@pytest.mark.parametrize("depth", [2, 3])
def test_what_no_gradient_reaches_is_stuck(depth):
    """Against autograd: the derivative of an entry of the product is zero for all factors."""
    chain = laws.random_chain(0, (6, 5), (3,) * (depth - 1), zeros=0.6)
    factors = [F.clone().requires_grad_() for F in chain.factors]
    Y = torch.ones(6, 5, dtype=torch.float64)
    residual = (Y - chain.product()).square()
    stuck = 0.0
    for i in range(6):
        for j in range(5):
            entry = Chain(tuple(factors)).product()[i, j]
            if all(not grad.any() for grad in torch.autograd.grad(entry, factors)):
                stuck += float(residual[i, j])
    assert stuck > 0
    assert stuck_share(Y, chain) == pytest.approx(stuck / float(residual.sum()))


def test_held_out_entries_choose_the_rank_that_there_is():
    tuned = tune(make("close parts", "gaussian", 0.1, 0), (1, 2, 4, 8), 0)
    assert (tuned.rank, tuned.best_rank) == (4, 4)
    directions = tune(make("close directions", "gaussian", 0.1, 0), (2, 4, 8), 0)
    assert (directions.rank, directions.best_rank) == (4, 4)
    assert directions.error == directions.best_error < 0.01


@pytest.mark.parametrize("data", [name for name in SOURCES if name != "mnist"])
@pytest.mark.parametrize("noise", ["gaussian", "poisson"])
def test_noise_has_the_norm_that_was_asked_for(data, noise):
    if noise == "poisson" and not SOURCES[data].nonnegative:
        return
    X, Y, _, nonnegative = make(data, noise, 0.3, 0)
    level = float((X - Y).norm() / X.norm())
    clipped = noise == "gaussian" and nonnegative
    assert level <= 0.3 if clipped else level == pytest.approx(0.3, rel=0.1)
    assert not nonnegative or float(Y.min()) >= 0
    assert torch.equal(make(data, noise, 0.3, 0).noisy, Y)
    assert not torch.equal(make(data, noise, 0.3, 1).noisy, Y)


def test_synthetic_truths_have_the_singular_values_that_they_say():
    for name, values in (("separated parts", (30, 10, 3, 1)), ("close directions", (1.15, 1.1, 1.05, 1))):
        sigma = torch.linalg.svdvals(make(name, "gaussian", 0.0, 3).clean)
        np.testing.assert_allclose(sigma[:4] / sigma[3], np.array(values), rtol=1e-9)
        assert sigma[4] < 1e-10


def test_the_same_seeds_give_the_same_table(monkeypatch):
    monkeypatch.setattr(denoising, "STEPS", {"hals": 60})
    once, again = ([row for row, _ in claim.study([TINY], 1, lambda line: None)] for _ in range(2))
    pd.testing.assert_frame_equal(pd.DataFrame(once), pd.DataFrame(again))


def test_ratios_are_geometric_means_with_the_seed_as_the_unit():
    setting = dict(zip(SETTING, ("X", "gaussian", 0.3, "gd", 1.0, 2), strict=True))
    errors = {"second": 2.0, "last": 2.0, "best plateau": 1.0, "tuned rank": 1.0, "best rank": 1.0, "oracle": 1.0}
    rows = [
        {**setting, "scale": scale, "seed": seed, "error: end": 2.0, "error: first": first}
        | {f"error: {rule}": error for rule, error in errors.items()}
        for seed in range(5)
        for scale, first in ((1.0, 1.0), (1e-3, 4.0))
    ]
    fits = pd.DataFrame(rows)
    assert tuple(ratio(fits, "first", "oracle")) == pytest.approx((2, 2, 2))
    table = regrets(fits, ["data", "level"]).set_index("rule")
    assert table.loc["end", ["mean", "fits"]].tolist() == pytest.approx([2, 10])
    compared = comparisons(fits, ["data"]).set_index(["rule", "against"])
    assert compared.loc[("first", "end"), ["configurations", "better", "worse"]].tolist() == [2, 1, 1]
    assert compared.loc[("best plateau", "end"), "better"] == 2


def test_the_crosses_name_no_fit_twice_and_mnist_is_left_out_where_it_is_absent(monkeypatch):
    for crosses in (claim.SMALL, claim.FULL):
        fits = [(problem, fit) for _, problem, its in claim._problems(crosses, 1) for fit in its]
        assert len(fits) == len(set(fits))
    monkeypatch.setattr(claim, "mnist_present", lambda: False)
    said = []
    assert claim.present(claim.SMALL, said.append) == list(claim.SMALL)
    assert not said
    assert all("mnist" not in cross.data for cross in claim.present(claim.FULL, said.append))
    assert "set RANKSCOPE_DATA" in said[0]


def test_the_run_has_its_tables_and_figures(monkeypatch, tmp_path):
    monkeypatch.setattr(claim, "SEEDS", 1)
    monkeypatch.setattr(claim, "RANKS", {16: (1,), 32: (1,)})
    monkeypatch.setattr(denoising, "STEPS", {"gd": 90})
    crosses = (
        Cross(("separated directions", "close directions", "digits"), "gaussian", (0.3,), ("gd",), (1e-3,), (2,)),
        Cross(("digits",), "gaussian", (1.0,), ("gd",), (1e-3,), (2,)),
    )
    monkeypatch.setattr(runner, "EXPERIMENTS", {"claim": replace(claim.EXPERIMENT, measure=claim.measure(crosses))})
    said = []
    (done,) = reproduce("claim", tmp_path, say=said.append)
    assert [re.split(r" [\d.]+, gd", line)[0] for line in said] == [
        "claim: separated directions, gaussian",
        "claim: close directions, gaussian",
        "claim: digits, gaussian",
        "claim: digits, gaussian",
    ]
    figures = {path.stem for path in (done.folder.path / "figures").glob("*.png")}
    assert figures == {"claim", "claim-regret", "claim-ranks"}
    assert len(pd.read_csv(done.folder.path / "each-fit.csv")) == 4
    assert set(done.folder.json("fits")) == set(claim.EXAMPLES)
    assert not done.within  # after 90 steps nothing is settled
