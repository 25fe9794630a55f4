"""The brief's findings: each measurement answers rightly where the answer is known, and the whole leaves its folder."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

import laws
from rankscope import cli
from rankscope.datasets import load_digits
from rankscope.nmf.chain import Chain
from rankscope.nmf.rules import Adam
from rankscope.runs import Run
from rankscope.studies import kinds
from rankscope.studies.reproduce import archetypes, brief, emergence, grid, locking, runner


def climbing(*rises, last=10_000, height=1.0):
    """An overshoot, a trough at about 1,500, then a smooth rise at each of these epochs."""
    steps = np.arange(0, last + 1, 10)
    ranks = 1.5 + 0.8 * np.exp(-(((steps - 400) / 400) ** 2))
    for rise in rises:
        ranks = ranks + height / (1 + np.exp(-(steps - rise) / 100))
    return pd.DataFrame({"step": steps, "effective_rank": ranks, "relative_error": 1 / ranks})


def test_the_jumps_of_a_staircase_are_found_between_its_slow_stretches():
    first, second = archetypes.jumps(climbing(4000, 7000))
    assert (first.steepest, second.steepest) == (pytest.approx(4000, abs=60), pytest.approx(7000, abs=60))
    assert first.before < 3000
    assert 4100 < first.after <= second.before < 6900
    assert 7100 < second.after < 9000
    assert len(archetypes.jumps(climbing(5000))) == 1
    assert 1000 < archetypes.climb_begins(climbing(5000)) < 4500


def test_a_rank_that_only_falls_has_no_jumps():
    steps = np.arange(0, 5000, 10)
    falling = pd.DataFrame({"step": steps, "effective_rank": 1 + np.exp(-steps / 500)})
    assert archetypes.jumps(falling) == []


def test_a_row_that_turns_is_told_from_those_that_stay():
    rows = np.random.default_rng(0).random((3, 784))
    circle, digit = rows[0], np.zeros(784)
    digit[300:320] = 1
    before = np.stack([circle, rows[1], circle + 0.01 * rows[2]])
    after = np.stack([circle, rows[1], digit])
    W = torch.ones(4, 3, dtype=torch.float64)
    kept = {step: Chain((W, torch.eye(3).double(), torch.as_tensor(H))) for step, H in ((1, before), (2, after))}
    descent = archetypes.Descent(pd.DataFrame(), kept[2], [], kept=kept)
    patched = pytest.MonkeyPatch()
    patched.setattr(archetypes, "jumps", lambda history: [archetypes.Jump(1, 1, 2)])
    with patched.context():
        table = archetypes.changes(descent, torch.rand(20, 784), np.arange(20) % 10).assign(seed=0)
    patched.undo()
    (turned,) = archetypes.most_turned(table).to_dict("records")
    assert (turned["row"], turned["turned"] > 0.5) == (3, True)
    assert turned["likeness_before"] > 0.99
    assert turned["likeness_after"] < 0.5
    assert set(table["factor"]) == {"H", "W2 H"}
    checks = {check.quantity.split(": ")[-1]: check.measured for check in archetypes.checks(table, 1)}
    assert checks["share in which the row of H that turned most was one of the two most alike, or the roughest"] == 1


def test_relu_and_a_clamp_lock_zeros_and_a_floor_does_not():
    for rule, moves in ((locking.ReluAdam(Adam()), False), (locking.ReluAdam(Adam(), 1e-10), True), (Adam(), True)):
        theta, memory = torch.tensor([0.05, 1.0]), rule.start(torch.zeros(2))
        for wanted in [1.0] * 30 + [-1.0] * 60:  # Down to the bound, then up again.
            theta, memory = rule.step(theta, torch.full((2,), wanted), memory)
        assert bool(theta[0] > 0.1) is moves
        assert theta[1] > 0.8


def test_zeros_that_want_to_grow_are_counted_and_a_nudge_frees_them():
    A = laws.planted(0, (30, 20), (4,)).A
    start = [F.clone() for F in laws.random_chain(1, (30, 20), (4, 4)).factors]
    start[2][:, :10] = 0
    locked = archetypes.descend(A, start, locking.ReluAdam(Adam(1e-2)), 500)
    row = locking.reading("locked", 500, A, locked.chain, locked.history)
    assert row["want_to_grow"] > locking.MANY
    assert row["kind"] == "locked"
    free = archetypes.descend(A, start, Adam(1e-2), 2000)
    assert locking.reading("free", 2000, A, free.chain, free.history)["kind"] != "locked"
    nudged = locking.nudge(A, locked, 500)
    errors = {name: fit.history["relative_error"].iloc[-1] for name, fit in nudged.items()}
    assert errors["nudged"] < 0.5 * errors["as it is"]


def test_a_single_singular_value_emerges_at_its_half_along_its_own_direction():
    A = 10 * torch.outer(torch.linspace(0.1, 1, 30), torch.linspace(1, 0.1, 20))
    _, table, descent = emergence.descend_from_small(A, emergence.Emergence(30, (3, 1), 3000), lambda line: None)
    (row,) = table.to_dict("records")
    history = descent.history.set_index("step")["sigma_1"]
    assert (row["k"], row["nearest_of_A"]) == (1, 1)
    assert row["cosine"] > 0.9
    assert row["sigma"] == pytest.approx(row["sigma_of_A"], rel=0.01)
    assert history.loc[: row["half_rise"] - 1].max() < row["sigma"] / 2 <= history.loc[row["half_rise"]]


def test_an_order_is_one_only_if_every_pair_is_in_it():
    ordered = pd.DataFrame({"k": [1, 2, 3], "half_rise": [10, 20, 40], "nearest_of_A": [1, 2, 3]})
    ordered = ordered.assign(sigma=[4.0, 2.0, 1.0], sigma_of_A=[4.1, 2.0, 1.0])
    assert all(check.within for check in emergence.checks(ordered))
    swapped = ordered.assign(half_rise=[10, 40, 39], nearest_of_A=[1, 3, 2], sigma=[4.5, 2.0, 0.9])
    assert [check.measured for check in emergence.checks(swapped)][:3] == [1, 1, 1]
    assert not any(check.within for check in emergence.checks(swapped))


def test_when_a_rank_has_settled_and_what_a_group_explains():
    history = climbing(4000)
    assert grid._ending(history)["settled"] == pytest.approx(4200, abs=150)
    values, groups = pd.Series([1.0, 1.0, 3.0, 3.0]), pd.Series([5, 5, 9, 9])
    assert grid._explained(values, groups) == 1
    assert grid._explained(values, pd.Series([0, 1, 0, 1])) == 0


@pytest.fixture
def toy(monkeypatch):
    """The whole, in seconds: digits enlarged to 28×28 in place of MNIST."""
    X, dataset = load_digits()
    large = np.kron(X.reshape(-1, 8, 8), np.ones((3, 3)))
    images = np.pad(large, ((0, 0), (2, 2), (2, 2))).reshape(len(X), -1).astype(np.float32)
    size = brief.Size(
        archetypes.Archetypes(40, (5, 3), 700, 2), emergence.Emergence(40, (4, 3), 400), grid.Grid(30, 120, (2, 3), 2)
    )
    monkeypatch.setattr(brief, "load_mnist", lambda: type(load_digits())(images, dataset))
    small = replace(brief.EXPERIMENT, measure=partial(brief.measure, size=size))
    monkeypatch.setattr(runner, "EXPERIMENTS", {"brief": small})


def test_the_whole_leaves_tables_figures_and_a_verdict_on_every_finding(toy, tmp_path, capsys):
    assert cli.run(["reproduce", "brief", "--out", str(tmp_path)]) in (0, 1)
    printed = capsys.readouterr().out
    (path,) = tmp_path.iterdir()
    folder = Run.open(path)
    assert folder.is_complete
    assert len(kinds.summary(folder)) == printed.count("yes") + printed.count("NO") > 20
    names = {"brief", "archetypes", "emergence", "grid"}
    assert {figure.stem for figure in (path / "figures").glob("*.png")} == names
    cells = pd.read_csv(path / "grid.csv")
    assert len(cells) == len(grid.ARMS) * 4 * 2
    assert (cells["effective_rank"] >= 1).all()
    assert {"adam", "relu and clamp", "gradient descent"} <= set(pd.read_csv(path / "plateaus.csv")["fit"])
    assert json.loads((path / "config.json").read_text())["experiment"] == "brief"


def test_without_mnist_it_says_how_to_get_it_and_leaves_nothing(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("RANKSCOPE_DATA", str(tmp_path / "nowhere"))
    out = tmp_path / "runs"
    assert cli.run(["reproduce", "brief", "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert "rankscope data fetch mnist" in said
    assert len(said.strip().splitlines()) == 1
    assert not out.exists()
