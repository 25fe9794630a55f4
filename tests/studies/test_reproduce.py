"""Published results: one mechanism, an honest verdict, and a folder that its figure can be drawn from again."""

import math
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

import laws
from rankscope import cli
from rankscope.nmf.rules import GradientDescent
from rankscope.runs import Run
from rankscope.studies import kinds
from rankscope.studies.reproduce import (
    EXPERIMENTS,
    Check,
    Larger,
    completion,
    descend,
    digits,
    reproduce,
    runner,
    staircase,
    two_by_two,
)


@pytest.fixture
def short(monkeypatch):
    """The experiments cut short: they run and draw, but reach no band."""
    monkeypatch.setattr(staircase, "DEPTHS", {2: (1e-4, 300), 3: (1e-2, 300)})
    monkeypatch.setattr(completion, "MOST_STEPS", 5)
    monkeypatch.setattr(two_by_two, "MOST_STEPS", 300)
    monkeypatch.setattr(digits, "STEPS", 100)


@pytest.mark.parametrize("name", [name for name, experiment in EXPERIMENTS.items() if experiment.in_all])
def test_outside_its_band_an_experiment_says_so_and_exits_1(name, short, tmp_path, capsys):
    assert cli.run(["reproduce", name, "--out", str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert "NO" in printed.out
    assert "not every figure lies within its band" in printed.err
    (path,) = tmp_path.iterdir()
    folder = Run.open(path)
    assert folder.is_complete
    assert folder.status["summary"]["outside"] > 0
    figure = path / "figures" / f"{name}.png"
    drawn = figure.read_bytes()
    figure.unlink()
    kinds.redraw(folder)
    assert figure.read_bytes() == drawn
    assert {row["within"] for row in kinds.summary(folder)} <= {"yes", "NO"}
    assert (path / "report.html").is_file()


def test_within_its_bands_an_experiment_exits_0(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(two_by_two, "LOSS", 0.02)  # A twentieth of the way; the law holds to 3% there.
    monkeypatch.setattr(Check, "near", lambda *a: Check("", "", 1.0))
    assert cli.run(["reproduce", "two-by-two", "--out", str(tmp_path)]) == 0
    assert "NO" not in capsys.readouterr().out


def test_an_unknown_name_is_refused_and_nothing_is_written(tmp_path, capsys):
    assert cli.run(["reproduce", "flying", "--out", str(tmp_path)]) == 2
    assert "must be one of staircase, completion, two-by-two, digits" in (said := capsys.readouterr().err)
    assert "or all, got 'flying'" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["digits", "all"])
def test_a_larger_version_that_there_is_not_is_refused(name, tmp_path, capsys):
    assert cli.run(["reproduce", name, "--full", "--out", str(tmp_path)]) == 2
    assert "rankscope: --full is for " in (said := capsys.readouterr().err)
    assert f"got '{name}'; leave it out" in said
    assert not list(tmp_path.iterdir())


def test_an_experiment_may_be_outside_of_all_and_leave_tables_and_further_figures(monkeypatch, short, tmp_path):
    def small(say):
        found = digits.measure(say)
        table, halves = pd.DataFrame({"seed": [0, 1]}), {"halves": torch.full((2, 2), 0.5)}
        return replace(found, checks=[], tables={"seeds": table}, arrays=halves)

    def draw(folder):
        drawn, ax = plt.subplots()
        ax.imshow(folder.arrays("arrays")["halves"])
        return drawn

    further = replace(
        digits.EXPERIMENT,
        measure=lambda say: pytest.fail("the larger version was asked for"),
        figures={"halves": draw},
        full=Larger({"rows": 7}, small),
        in_all=False,
    )
    monkeypatch.setattr(runner, "EXPERIMENTS", {"two-by-two": two_by_two.EXPERIMENT, "further": further})
    assert [done.title for done in reproduce("all", tmp_path)] == [two_by_two.EXPERIMENT.title]
    (done,) = reproduce("further", tmp_path, full=True)
    assert (done.within, done.folder.json("config")["rows"]) == (True, 7)
    assert (done.folder.path / "seeds.csv").read_text() == "seed\n0\n1\n"
    assert {path.name for path in (done.folder.path / "figures").glob("*.png")} == {"further.png", "halves.png"}


def test_nan_lies_in_no_band_and_both_ends_do():
    assert not Check("", "", math.nan).within
    assert not Check.near("", 1, math.nan, 0.1).within
    assert Check("", "", 2.0, 2, 3).within
    assert Check("", "", 3.0, 2, 3).within
    assert not Check("", "", 3.1, 2, 3).within
    assert Check.near("", -2, -2.01, 0.01).within


@pytest.mark.parametrize("depth", [2, 3])
def test_the_eigenvalues_of_a_rotated_matrix_decouple(depth):
    """d ← d − η d^(N−1) (d^N − λ), and half-way up at the step of the closed form."""
    alpha, rate, value = {2: 1e-3, 3: 1.5e-2}[depth], staircase.RATE, 10.0
    d, recursion = alpha, [alpha**depth]
    while d**depth < 0.99 * value:
        d -= rate * d ** (depth - 1) * (d**depth - value)
        recursion.append(d**depth)
    half = int(np.argmax(np.array(recursion) >= value / 2))
    assert half == pytest.approx(staircase.half_rise(depth, value, alpha), rel=0.01)
    Q = torch.linalg.qr(torch.randn(6, 6, generator=laws.generator(0), dtype=torch.float64)).Q
    A = Q * torch.tensor([value, 1, 0, 0, 0, 0], dtype=torch.float64) @ Q.mT
    start = [alpha * torch.eye(6, dtype=torch.float64)] * depth
    history = descend(A, start, GradientDescent(rate, nonnegative=False), len(recursion) - 1).history
    np.testing.assert_allclose(history["sigma_1"], np.array(recursion)[history["step"]], rtol=1e-9)


def test_a_crossing_lies_between_records():
    steps, values = pd.Series([0, 10, 20]), pd.Series([0.0, 1.0, 3.0])
    assert staircase._crossing(steps, values, 2.0) == 15
    assert math.isnan(staircase._crossing(steps, values, 4.0))


def test_readings_are_those_of_their_steps_and_the_descent_ends_where_it_should():
    A = laws.planted(0, (12, 10), (3,)).A
    start = [0.1 * F for F in laws.random_chain(1, (12, 10), (4,)).factors]
    readings = {"error": lambda chain: float((A - chain.product()).square().sum())}
    norm = float(A.square().sum())
    descent = descend(A, start, GradientDescent(1e-3), 5000, readings=readings, until=0.05, per_e_fold=10)
    history = descent.history
    np.testing.assert_allclose(history["error"], norm * history["relative_error"], rtol=1e-9)
    assert history["relative_error"].iloc[-1] <= 0.05 < history["relative_error"].iloc[-2]
    assert len(history) < 100
    assert float((A - descent.chain.product()).square().sum()) == pytest.approx(history["error"].iloc[-1], rel=1e-12)


def test_its_page_shows_the_verdict_and_speaks_of_no_rows(short, tmp_path):
    (done,) = reproduce("digits", tmp_path)
    page = (done.folder.path / "report.html").read_text()
    assert "D. Digits: one early plateau" in page
    assert "A published experiment was done again" in page
    assert "What this run does not have" not in page
    assert not any(text in page for text in ("Signatures: rows", "example rows"))
