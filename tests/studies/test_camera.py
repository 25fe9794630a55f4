"""Snapshots: few, evenly spread in log steps, and those of a fit that was stopped there."""

import numpy as np
import pytest

from rankscope.nmf import NMF, DeepNMF
from rankscope.runs import Pictures, Run, read_snapshots
from rankscope.studies import rank_bias
from rankscope.studies.camera import BYTES, MOST, SIGNATURES, Camera
from rankscope.studies.rank_bias import RankBiasConfig

ROWS = np.array([0, 7, 40])


def filmed(model, X):
    camera = Camera(ROWS, max_iter=model.max_iter)
    model.set_params(callback=lambda step, state: camera.due(step) and camera.take(step, state.factors)).fit(X)
    return camera.snapshots()


@pytest.mark.parametrize("max_iter", [1, 2, 10, 47, 48, 500, 20_000, 10_000_000])
def test_the_moments_are_few_and_evenly_spread_in_log_steps(max_iter):
    camera = Camera(ROWS, max_iter=max_iter)
    span = min(max_iter, 30_000)
    due = [step for step in range(1, span + 1) if camera.due(step)]
    assert due[0] == 1
    assert len(due) <= MOST - 1
    assert len(due) == span or len(due) > 0.5 * MOST * np.log1p(span) / np.log1p(max_iter) - 3
    gaps = np.diff(np.log1p(due))
    spacing = np.log1p(max_iter) / (MOST - 2)
    single = np.diff(due) == 1
    assert (gaps[~single] < 2 * spacing + 0.05).all()
    assert (gaps[5:] > 0.2 * spacing).all()


@pytest.mark.parametrize(
    "model",
    [
        NMF(4, solver="hals", init="random", stop="none", max_iter=60, random_state=0),
        NMF(4, solver="mu", init="random", stop="none", max_iter=60, random_state=0),
        DeepNMF((6, 4), solver="adam", init="random", stop="none", max_iter=60, random_state=0),
    ],
    ids=["hals", "mu", "deep adam"],
)
def test_a_snapshot_is_what_a_fit_stopped_at_that_step_has(model, digits):
    X = digits[:60]
    snapshots = filmed(model, X)
    for t in (0, len(snapshots.steps) // 2, len(snapshots.steps) - 1):
        last = int(snapshots.steps[t])
        model.set_params(callback=lambda step, state, last=last: step == last).fit(X)
        W, *rest = model.factors_
        assert model.n_iter_ == last
        for layer in range(2, len(rest) + 2):
            close(
                snapshots.signatures[layer][t], np.linalg.multi_dot([np.eye(len(rest[layer - 2])), *rest[layer - 2 :]])
            )
        close(snapshots.rebuilt[t], np.linalg.multi_dot([W[ROWS], *rest]))


def close(pictures, rows):
    top = rows.max(-1, keepdims=True)
    assert (np.abs(pictures.rows() - rows) <= top * (1 / 510 + 1e-5)).all()


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1.0, 1e30])
def test_eight_bits_are_enough_at_any_scale(scale):
    rows = scale * np.random.default_rng(0).random((2, 3, 50))
    rows[0, 0] = 0
    pictures = Pictures.of(rows)
    close(pictures, rows)
    assert (pictures.pixels[0, 0] == 0).all()
    assert pictures.pixels.max() == 255


def test_long_rows_and_many_components_stay_within_the_bound():
    camera = Camera(np.arange(6), max_iter=1000)
    camera.take(1, [np.ones((6, 30)), np.ones((30, 100_000))])
    camera.take(2, [np.full((6, 30), np.nan), np.ones((30, 100_000))])  # diverged: nothing to see
    snapshots = camera.snapshots()
    assert snapshots.steps.tolist() == [1]
    assert MOST * (snapshots.signatures[2].pixels.nbytes + snapshots.rebuilt.pixels.nbytes) <= BYTES
    camera = Camera(np.arange(6), max_iter=1000)
    camera.take(1, [np.ones((6, 30)), np.ones((30, 8))])
    assert camera.snapshots().signatures[2].pixels.shape == (1, SIGNATURES, 8)
    assert Camera(ROWS, max_iter=3).snapshots() is None


@pytest.mark.parametrize("stop", ["none", "tolerance", "plateau"])
def test_a_run_keeps_the_snapshots_of_every_fit_and_the_end(stop, tmp_path, monkeypatch):
    config = RankBiasConfig(
        rows="0:100",
        ranks=(3,),
        solver=("hals", "mu"),
        init=("random",),
        max_iter=90,
        stop=stop,
        tol=0.05,
        out=tmp_path,
    )
    for drawing in ("draw_run", "build_report"):
        monkeypatch.setattr(rank_bias, drawing, lambda run: None)
    run = rank_bias.run(config)
    factors = run.arrays("factors")
    for name, facts in run.json("fits").items():
        snapshots = read_snapshots(run, name)
        steps = run.metrics().query("fit == @name")["step"]
        assert set(snapshots.steps) <= set(steps)
        if not (stop == "plateau" and facts["plateaus"]):
            assert snapshots.steps[-1] == facts["n_iter"] == steps.max()
            close(snapshots.signatures[2][-1], factors[f"{name}/F2"])
        assert len(snapshots.steps) <= MOST


def test_what_is_in_the_file_can_be_read_and_what_does_not_belong_together_is_refused(tmp_path):
    run = Run.create(tmp_path, "nmf", config={})
    camera = Camera(ROWS, max_iter=10)
    g = np.random.default_rng(0)
    for step in (1, 2, 5):
        camera.take(step, [g.random((41, 5)), g.random((5, 4)), g.random((4, 9))])
    kept = camera.snapshots()
    arrays = kept.arrays("a fit")
    run.save_arrays("snapshots", {**arrays, **of_another_fit()})
    read = read_snapshots(run, "a fit")
    assert list(read.signatures) == [3, 2]
    assert read.steps.tolist() == [1, 2, 5]
    for layer in (2, 3):
        np.testing.assert_array_equal(read.signatures[layer].rows(), kept.signatures[layer].rows())
    np.testing.assert_array_equal(read.rebuilt.rows(), kept.rebuilt.rows())
    assert read_snapshots(run, "a") is None
    for name, damaged in {
        "a fit/steps": np.array([1, 2]),
        "a fit/rebuilt": arrays["a fit/rebuilt"][..., :4],
        "a fit/signatures3": arrays["a fit/signatures3"].astype(np.float32),
        "a fit/rebuilt/top": np.full((3, 3), np.nan),
    }.items():
        run.save_arrays("snapshots", {**arrays, name: damaged})
        with pytest.raises(ValueError, match="The snapshots of a fit do not belong together"):
            read_snapshots(run, "a fit")
    del arrays["a fit/rebuilt"]
    run.save_arrays("snapshots", arrays)
    with pytest.raises(ValueError, match="must hold all of a fit, but 'a fit/rebuilt' is missing"):
        read_snapshots(run, "a fit")


def of_another_fit():
    camera = Camera(np.array([0]), max_iter=3)
    camera.take(1, [np.ones((1, 2)), np.ones((2, 9))])
    return camera.snapshots().arrays("a fit too")
