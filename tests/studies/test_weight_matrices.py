"""The weight study, tiny: what it writes, that a kill changes nothing, and that the test part decides nothing."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from rankscope.report import build_report
from rankscope.runs import Run
from rankscope.studies import weight_matrices, weight_training
from rankscope.studies.weight_config import WeightConfig, permutation, read_task
from rankscope.studies.weight_matrices import redraw, resume, run
from rankscope.studies.weight_results import load_outcomes
from rankscope.studies.weight_training import Task
from rankscope.weights import Data

TINY = {"models": ("low-rank-2x20", "kroneckerx20"), "samples": 200, "trials": 3, "epochs": 2, "seeds": 2}
TINY |= {"round_size": 2, "workers": 1, "seed": 3}
STABLE = ["learning_rate", "validation_accuracy", "test_accuracy", "test_low", "effective_rank_layer1_after"]


def tiny(out: Path, **changes) -> WeightConfig:
    return WeightConfig(**{**TINY, **changes, "out": out})


def results(folder: Run) -> pd.DataFrame:
    return pd.read_csv(folder.path / "results.csv", keep_default_na=False, na_values=[""])


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    """Figures and pages take most of the time and are drawn by `finished`, once."""
    monkeypatch.setattr(weight_matrices, "draw_run", lambda *_: None)
    monkeypatch.setattr(weight_matrices, "build_report", lambda *_: None)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Run:
    return run(tiny(tmp_path_factory.mktemp("runs"), inputs="both"))


def test_it_writes_everything_it_promises(finished):
    names = {path.name for path in finished.path.iterdir()}
    assert {"results.csv", "results.md", "curves.csv", "metrics.csv", "verdicts.json", "optuna.journal"} <= names
    assert {"comparison_results.png", "report.html", "status.json", "config.json"} <= names
    figures = {path.name for path in (finished.path / "figures").iterdir()}
    for figure in ("accuracy_against_parameters", "learning_rate_response", "effective_rank", "staircases"):
        assert {f"{figure}.png", f"{figure}.svg", f"{figure}-permuted.png"} <= figures
    assert finished.is_complete
    page = (finished.path / "report.html").read_text()
    assert "Which differences are resolved" in page
    assert "low-rank-2x20, permuted inputs" in page


def test_its_tables_are_of_the_models_that_were_trained(finished):
    frame = results(finished)
    assert frame["model"].tolist() == ["low-rank-2x20", "kroneckerx20"] * 2
    assert frame["inputs"].tolist() == ["plain"] * 2 + ["permuted"] * 2
    assert frame["parameters"].tolist()[:2] == [2 * 60 + 2 * 30 + 30, frame["parameters"][3]]
    assert (frame["effective_rank_layer1_after"][[0, 2]] <= 2).all()
    curves = pd.read_csv(finished.path / "curves.csv")
    assert len(curves) == 4 * 2 * 2  # entries × seeds × epochs
    last = curves[(curves["model"] == "kroneckerx20") & (curves["inputs"] == "plain") & (curves["epoch"] == 2)]
    assert last["accuracy"].mean() == pytest.approx(frame["validation_accuracy"][1])
    metrics = finished.metrics()
    assert metrics.groupby("fit").size().eq(3).all()  # from before the first epoch on
    assert (metrics[metrics["step"] == 2]["relative_error"] == 0).all()
    assert len(finished.json("verdicts")) == 2


def test_the_record_names_sampler_and_seed(finished):
    search = finished.json("config")["search"]
    assert "TPESampler" in search["sampler"]
    assert (search["seed"], search["range"]) == (3, [1e-4, 1e-1])


def test_the_same_seed_gives_the_same_results_side_by_side_or_in_turn(finished, tmp_path):
    again = run(tiny(tmp_path, inputs="both", workers=2))
    pd.testing.assert_frame_equal(results(again)[STABLE], results(finished)[STABLE])


@pytest.mark.parametrize("after", [1, 3, 5])
def test_killed_while_training_and_resumed_it_ends_the_same(finished, tmp_path, monkeypatch, after):
    class Killed(BaseException):
        """As a kill, it is caught by nothing."""

    calls = 0
    train = weight_training.train_population

    def dying(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls > after:
            raise Killed
        return train(*args, **kwargs)

    monkeypatch.setattr(weight_training, "train_population", dying)
    with pytest.raises(Killed):
        run(tiny(tmp_path, inputs="both"))
    monkeypatch.setattr(weight_training, "train_population", train)
    (path,) = tmp_path.iterdir()
    assert not Run.open(path).is_complete
    with (path / "optuna.journal").open("ab") as journal:
        journal.write(b'{"op_code":4,"torn')
    pd.testing.assert_frame_equal(results(resume(path))[STABLE], results(finished)[STABLE])


def test_a_damaged_outcome_is_trained_again(finished, tmp_path):
    folder = run(tiny(tmp_path))
    (folder.path / "outcome-kroneckerx20.safetensors").write_bytes(b"\x00" * 20)
    (folder.path / "status.json").unlink()
    again = results(resume(folder.path))
    pd.testing.assert_frame_equal(again[STABLE], results(finished)[STABLE].iloc[:2])


@pytest.mark.parametrize("models", ["low-rank-2x20", "low-rank-2x20,dense-9"], ids=["in this process", "side by side"])
def test_a_real_kill_leaves_no_process_and_a_run_that_can_be_drawn_and_resumed(tmp_path, models):
    call = [sys.executable, "-m", "rankscope", "weights", "--models", models, "--samples", "500", "--workers", "2"]
    process = subprocess.Popen(
        [*call, "--trials", "4", "--epochs", "30", "--seeds", "2", "--round-size", "2", "--out", str(tmp_path)],
        stderr=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )
    wait_until(lambda: any(path.stat().st_size for path in tmp_path.glob("*/optuna.journal")))
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)
    wait_until(lambda: not group_lives(process.pid))
    (path,) = tmp_path.iterdir()
    redraw(Run.open(path))
    assert resume(path).is_complete


def wait_until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def group_lives(leader: int) -> bool:
    """Whether any process of a session's group is left."""
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return False
    return True


def test_only_one_process_works_on_a_run(finished):
    with (
        weight_matrices._alone(finished),
        pytest.raises(ValueError, match="is at work in another process"),
    ):
        resume(finished.path)


def test_test_labels_choose_nothing(tmp_path, monkeypatch):
    rates = []
    for scrambled in (False, True):

        def task(config: WeightConfig, scrambled: bool = scrambled) -> Task:
            whole = read_task(config)
            return Task(whole.train, Data(whole.test.X, whole.test.y.flip(0))) if scrambled else whole

        monkeypatch.setattr(weight_matrices, "read_task", task)
        frame = results(run(tiny(tmp_path / str(scrambled))))
        rates.append(frame)
    chosen = ["learning_rate", "validation_accuracy", "effective_rank_layer1_after"]
    pd.testing.assert_frame_equal(rates[0][chosen], rates[1][chosen])
    assert not rates[0]["test_accuracy"].equals(rates[1]["test_accuracy"])


def test_the_test_rows_are_met_once_a_model(tmp_path, monkeypatch):
    met = []
    test = weight_training._tested
    monkeypatch.setattr(weight_training, "_tested", lambda result, data: met.append(len(data.y)) or test(result, data))
    run(tiny(tmp_path))
    assert met == [40, 40]


def test_seeds_are_none_that_the_trials_had_and_train_on_all_training_rows(tmp_path, monkeypatch):
    seen = []
    train = weight_training.train_population

    def spy(make_model, members, data, **kwargs):
        seen.append(({member.seed for member in members}, len(data.y), data.splits))
        return train(make_model, members, data, **kwargs)

    monkeypatch.setattr(weight_training, "train_population", spy)
    run(tiny(tmp_path, models=("low-rank-2x20",)))
    *trials, seeds, refits = seen
    assert all(used == {7000} and rows == 160 and not splits for used, rows, splits in trials)
    assert seeds[0] == refits[0] == {6001, 6002}
    assert len(refits[2][0].train) == 160


def test_the_original_protocol_is_its_own_and_says_so(tmp_path):
    folder = run(tiny(tmp_path, protocol="original", epochs=25))
    frame = results(folder)
    assert frame["seeds"].tolist() == [1, 1]
    assert frame["validation_accuracy"].isna().all()
    assert frame["test_low"].isna().all()
    assert set(frame["protocol"]) == {"original"}
    for text in ((folder.path / "results.md").read_text(), build_report(folder).read_text()):
        assert "no fair comparison" in text
        assert "scored on the test rows" in text
    config = weight_matrices.stored_config(folder)
    (outcome, *_) = load_outcomes(folder, config.entries(read_task(config))).values()
    assert config.settings().trial_epochs == 20
    assert outcome.accuracy.shape == (25, 1)


def test_inputs_are_standardized_by_the_training_rows_and_permuted_alike(tmp_path):
    config = tiny(tmp_path)
    task = read_task(config)
    assert torch.allclose(task.train.X.mean(0), torch.zeros(40), atol=1e-5)
    assert torch.allclose(task.train.X.std(0, correction=0), torch.ones(40), atol=1e-5)
    order = permutation(config, task)
    assert sorted(order.tolist()) == list(range(40))
    assert torch.equal(task.permuted(order).test.X, task.test.X[:, order])
    assert torch.equal(permutation(config, task), order)


def test_a_users_own_labelled_file(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "mine.npz", X=rng.normal(size=(100, 12)), labels=rng.integers(3, 6, size=100))
    folder = run(tiny(tmp_path / "runs", data=str(tmp_path / "mine.npz"), samples=None, models=("dense-5",)))
    assert results(folder)["parameters"].tolist() == [5 * 12 + 5 + 3 * 5 + 3]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X": np.ones((60, 4))}, "data must have labels"),
        ({"X": np.ones((60, 4)), "labels": np.ones(59, int)}, "one integer for each of the 60 rows"),
    ],
)
def test_files_of_the_wrong_length_or_without_labels_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "mine.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        run(tiny(tmp_path / "runs", data=str(tmp_path / "mine.npz"), samples=None))
    assert not (tmp_path / "runs").exists()


def test_a_run_of_another_study_cannot_be_resumed(tmp_path):
    other = Run.create(tmp_path, "nmf", config={"data": "digits"})
    with pytest.raises(ValueError, match="resume needs a run of `rankscope weights`"):
        resume(other.path)
    with pytest.raises(ValueError, match="a run folder holds a config"):
        resume(tmp_path)


def test_interrupted_it_keeps_what_was_finished_exits_130_and_goes_on_to_the_same_end(tmp_path):
    """Ctrl-C in a terminal, which every process of the group gets."""
    models, whole = ("low-rank-2x20", "kroneckerx20"), tmp_path / "whole"
    settings = {"models": models, "trials": 2, "epochs": 100, "samples": 100}
    call = [
        f"--{name}={','.join(value) if name == 'models' else value}" for name, value in {**TINY, **settings}.items()
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "rankscope", "weights", *(word.replace("_", "-") for word in call), f"--out={tmp_path}"],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        start_new_session=True,
        # A test run in the background of a shell inherits an ignored SIGINT, and would hand it on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not list(tmp_path.glob("*/outcome-*")):
        time.sleep(0.01)
    time.sleep(0.3)  # into the training of the other model
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130, said
    assert said.strip().splitlines()[-1] == "rankscope: interrupted; what was done is kept in the run folder"
    (path,) = tmp_path.iterdir()
    kept = [outcome.name for outcome in path.glob("outcome-*")]
    assert len(kept) == 1
    assert "incomplete" in (path / "report.html").read_text().lower()
    assert len(results(Run.open(path))) == 1
    before = (path / kept[0]).read_bytes()
    again = resume(path)
    assert again.is_complete
    assert (path / kept[0]).read_bytes() == before
    pd.testing.assert_frame_equal(results(again)[STABLE], results(run(tiny(whole, **settings)))[STABLE])
