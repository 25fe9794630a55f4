"""A study writes everything down, refuses before it writes, and survives being interrupted."""

import json
import time

import numpy as np
import pandas as pd
import pytest

from rankscope.datasets import load_digits
from rankscope.metrics import effective_rank, relative_error
from rankscope.nmf.estimators import NMF
from rankscope.runs import Run, list_runs
from rankscope.studies import demo, rank_bias
from rankscope.studies.figures import draw_run
from rankscope.studies.rank_bias import RankBiasConfig, configure


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    config = RankBiasConfig(
        rows="0:120",
        ranks=(5,),
        solver=("hals", "mu"),
        init=("random", "nndsvd"),
        max_iter=40,
        out=tmp_path_factory.mktemp("runs"),
    )
    return rank_bias.run(config)


def test_a_grid_is_one_complete_run(grid):
    assert grid.is_complete
    names = ["hals-random", "hals-nndsvd", "mu-random", "mu-nndsvd"]
    metrics = grid.metrics()
    assert list(metrics["fit"].unique()) == names
    assert (metrics.groupby("fit")["step"].count() >= 11).all()
    table = pd.read_csv(grid.path / "results.csv")
    assert list(table["fit"]) == names
    last = metrics.groupby("fit", sort=False)["relative_error"].last()
    np.testing.assert_allclose(table["relative_error"], last, rtol=1e-12)
    assert grid.status["summary"]["best"] == last.idxmin()
    (listed,) = list_runs(grid.path.parent)
    assert listed.result == f"relative error {last.min():.4g} by {last.idxmin()}"


def test_the_factors_and_examples_on_disk_are_those_of_the_fit(grid, digits):
    factors, examples = grid.arrays("factors"), grid.arrays("examples")
    X = digits[:120].astype(np.float32)
    error = relative_error(X, [factors["hals-random/F1"], factors["hals-random/F2"]])
    metrics = grid.metrics()
    assert error == pytest.approx(metrics[metrics["fit"] == "hals-random"]["relative_error"].iloc[-1], rel=1e-4)
    np.testing.assert_array_equal(examples["X"], X[examples["rows"]])
    assert examples["hals-random/samples"].shape[1] == 64


def test_every_figure_and_the_page_are_there(grid):
    kinds = ["staircase", "curves", "factors", "signatures", "reconstructions", "samples", "evolution"]
    for kind in kinds:
        for suffix in ("png", "svg"):
            assert (grid.path / "figures" / f"mu-random-{kind}.{suffix}").stat().st_size > 1000
    assert (grid.path / "figures" / "comparison.png").is_file()
    page = (grid.path / "report.html").read_text()
    assert "hals-nndsvd" in page


def test_fits_json_says_what_was_found(grid):
    fit = grid.json("fits")["hals-random"]
    assert fit["health"]["ok"] is True
    assert {"precision", "recall", "novelty"} == set(fit["generation"])
    assert [level["k"] for level in fit["levels"]] == [1, 2, 3, 4, 5]
    assert fit["n_iter"] > 0
    json.dumps(fit)


def test_the_same_seed_writes_the_same_numbers(grid, tmp_path):
    again = rank_bias.run(RankBiasConfig(**{**grid_settings(grid), "out": tmp_path}))
    columns = ["fit", "step", "relative_error", "effective_rank"]
    pd.testing.assert_frame_equal(again.metrics()[columns], grid.metrics()[columns])


def grid_settings(run):
    return {key: value for key, value in run.json("config").items() if key in RankBiasConfig.model_fields}


def test_deep_chains_and_plateau_stopping(tmp_path):
    config = RankBiasConfig(
        rows="0:200",
        ranks=(6, 4),
        solver=("gd",),
        init=("random",),
        learning_rate=3e-4,
        init_scale=1e-1,
        max_iter=4000,
        stop="plateau",
        out=tmp_path,
    )
    run = rank_bias.run(config)
    arrays, fit = run.arrays("factors"), run.json("fits")["gd-random"]
    assert len(fit["plateaus"]) == 1
    assert {"gd-random/F1", "gd-random/F2", "gd-random/F3", "gd-random/plateau1/F1"} <= set(arrays)
    np.testing.assert_array_equal(arrays["gd-random/F3"], arrays["gd-random/plateau1/F3"])
    kept = [arrays[f"gd-random/F{i}"] for i in (1, 2, 3)]
    assert fit["relative_error"] == pytest.approx(relative_error(load_digits().X[:200], kept), rel=1e-5)
    assert fit["effective_rank"] == pytest.approx(effective_rank(kept), rel=1e-5)
    (listed,) = list_runs(tmp_path)
    assert listed.relative_error == pytest.approx(
        float(pd.read_csv(run.path / "results.csv")["relative_error"].iloc[0])
    )
    assert (run.path / "figures" / "gd-random-plateaus.png").is_file()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rows": "100:9999"}, r"rows must lie in 0:1797 \(the data has 1797 rows\), got 100:9999"),
        ({"rows": "5:5"}, "rows must lie in"),
        ({"rows": "many"}, "rows must be start:stop, as in 100:350, got 'many'"),
        ({"data": "nowhere.npy"}, "nowhere.npy"),
        ({"ranks": (0,)}, "n_components must be a whole number from 1, got 0"),
        ({"ranks": (70,)}, r"n_components must be in 1\.\.64"),
        ({"cosine_separation": 1.0}, "cannot take cosine_separation"),
    ],
)
def test_what_cannot_be_fitted_is_refused_before_anything_is_written(tmp_path, settings, message):
    out = tmp_path / "runs"
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        rank_bias.run(RankBiasConfig(**{"max_iter": 5, "out": out, **settings}))
    assert not out.exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"solver": ["newton"]}, "solver must be 'hals'.*, got 'newton'; choose one"),
        ({"init": ["custom", "x"]}, "init must be 'random'.*, got 'custom'; choose one"),
        ({"ranks": ["many"]}, "ranks must be whole numbers, got 'many'; pass for example 20"),
        ({"plateau": "0"}, "plateau must be first, last or a whole number from 1, got '0'; pass"),
        ({"max_iter": "many"}, "max_iter must be a whole number, got 'many'; pass one such as 10"),
        ({"tol": "small"}, "tol must be a number, got 'small'; pass one such as 0.1"),
        ({"seed": -1}, "seed must be a whole number from 0, got -1; pass"),
        ({"colour": 1}, "colour is no setting, got 1; leave it out"),
    ],
)
def test_wrong_settings_are_named_in_one_line(settings, message):
    with pytest.raises(ValueError, match=message) as refused:
        configure(**settings)
    assert len(str(refused.value).splitlines()) == 1


def test_penalties_go_to_the_factor_they_name(tmp_path):
    config = RankBiasConfig(rows="0:100", ranks=(4,), l1=(0.0, 5.0), max_iter=30, stop="none", out=tmp_path)
    estimator = config.estimator("hals", "random")
    assert estimator.l1 == (0.0, 5.0)
    assert estimator.l2 == 0.0
    assert rank_bias.run(config).json("config")["l1"] == [0.0, 5.0]


def test_settings_from_text_are_understood():
    config = configure(ranks=["20", "10"], plateau="2", resize=["14", "14"])
    assert (config.ranks, config.plateau, config.resize) == ((20, 10), 2, (14, 14))
    assert configure(plateau="last").plateau == "last"


def test_interrupted_it_keeps_and_draws_what_was_done(tmp_path, monkeypatch):
    fits = []

    def fit(self, X, *args):
        def stop(step, state):
            recorded(step, state)
            if fits and step == 8:
                raise KeyboardInterrupt

        recorded = self.callback
        self.callback = stop
        try:
            self._fit(X, None)
        finally:
            fits.append(self)
        return self

    monkeypatch.setattr(NMF, "fit", fit)
    config = RankBiasConfig(rows="0:100", ranks=(4,), init=("random", "eye"), max_iter=30, stop="none", out=tmp_path)
    monkeypatch.setattr(rank_bias, "_check", lambda config, problem: None)
    with pytest.raises(KeyboardInterrupt):
        rank_bias.run(config)
    (summary,) = list_runs(tmp_path)
    assert summary.state == "incomplete"
    run = Run.open(summary.path)
    assert run.metrics().groupby("fit", sort=False)["step"].max().to_dict() == {"hals-random": 30, "hals-eye": 8}
    assert "hals-eye/F1" in run.arrays("factors")
    assert "incomplete" in (run.path / "report.html").read_text().lower()


def test_what_is_compiled_is_so_before_a_fit_is_timed(tmp_path, monkeypatch):
    """Each fit takes a step before the first of them begins."""
    steps, fit = [], NMF.fit
    monkeypatch.setattr(NMF, "fit", lambda self, X, *args: steps.append(self.max_iter) or fit(self, X, *args))
    config = RankBiasConfig(rows="0:60", ranks=(3,), solver=("hals", "mu"), max_iter=7, stop="none", out=tmp_path)
    rank_bias.run(config)
    assert steps == [1, 1, 7, 7]


@pytest.mark.parametrize(("slow", "told"), [(0.0, [rank_bias.STARTING]), (60.0, [])])
def test_who_waits_for_first_steps_is_told(slow, told, monkeypatch):
    said = []
    monkeypatch.setattr(rank_bias, "SLOW", slow)
    with rank_bias._told_if_slow(said.append):
        time.sleep(0.3)
    assert said == told


def test_a_killed_run_can_still_be_drawn(grid, tmp_path):
    """What a kill leaves: no status, no results, a torn last line, no entry of the fit that was under way."""
    run = Run.create(tmp_path, "nmf", config=grid.json("config"))
    lines = (grid.path / "metrics.csv").read_text()
    (run.path / "metrics.csv").write_text(lines[: len(lines) // 2])
    draw_run(run)
    assert (run.path / "figures" / "hals-random-staircase.png").is_file()
    assert not run.is_complete


def test_the_demo_is_runs_of_both_studies_that_need_no_network(tmp_path, monkeypatch):
    def small(out):
        return {title: config.model_copy(update={"max_iter": 30}) for title, config in whole(out).items()}

    whole, weights = demo.configs, demo.weights_config
    few = {"models": ("dense-5", "kroneckerx20"), "samples": 100, "trials": 2, "epochs": 1, "seeds": 2}
    monkeypatch.setattr(demo, "configs", small)
    monkeypatch.setattr(demo, "weights_config", lambda out: weights(out).model_copy(update=few))
    done = list(demo.run(tmp_path))
    assert [run.kind for _, run in done] == ["nmf", "nmf", "nmf", "weights"]
    assert all(run.is_complete for _, run in done)


def test_the_objective_reaches_the_fit(tmp_path):
    config = configure(data="digits", rows="0:60", ranks=(6, 3), objective="layerwise", max_iter=5, out=tmp_path)
    assert config.estimator("hals", "random").objective == "layerwise"
    assert "layerwise_error" in rank_bias.run(config).metrics()


def test_rows_are_called_by_their_number_in_the_data(tmp_path):
    folder = rank_bias.run(configure(data="digits", rows="100:160", ranks=(3,), max_iter=5, out=tmp_path))
    examples = folder.arrays("examples")
    assert examples["numbers"].tolist() == (examples["rows"] + 100).tolist()
    np.testing.assert_array_equal(examples["X"], load_digits()[0][examples["numbers"]])
    page = (folder.path / "report.html").read_text(encoding="utf-8")
    assert "row 100<" in page
    assert "row 0<" not in page
