"""A run folder loses nothing it was told to keep, and shows nothing it has not finished writing."""

import json
import math
import os
import re
import subprocess
import threading
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from rankscope.runs import Run, environment, list_runs
from rankscope.runs.machine import git_state


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "runs", "nmf", config={"data": "digits", "ranks": (20, 10), "tol": math.nan})


def rows(count: int, *, start: int = 1) -> pd.DataFrame:
    step = np.arange(start, start + count)
    return pd.DataFrame({"step": step, "relative_error": 1 / (3 * step), "effective_rank": np.sqrt(step)})


# Creating and opening


def test_create_writes_config_and_environment(run: Run) -> None:
    assert re.fullmatch(r"\d{8}_\d{6}-nmf", run.name)
    assert run.json("config") == {"data": "digits", "ranks": [20, 10], "tol": None}
    assert run.json("environment")["packages"]["rankscope"] == version("rankscope")
    assert (run.kind, run.is_complete, run.status) == ("nmf", False, {"state": "incomplete"})
    assert Run.open(run.path) == run
    assert run.started is not None


def test_runs_of_one_second_get_their_own_folders(tmp_path: Path) -> None:
    made: list[Run] = []

    def make() -> None:
        made.append(Run.create(tmp_path, "nmf", config={}))

    threads = [threading.Thread(target=make) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({run.path for run in made}) == 12
    assert {run.kind for run in made} == {"nmf"}


@pytest.mark.parametrize("inside", ["", "deeper"])
def test_an_out_that_is_a_file_is_refused_in_one_line(tmp_path: Path, inside: str) -> None:
    (tmp_path / "out").write_text("taken")
    with pytest.raises(ValueError, match=r"out must be a folder to write to, got .*choose another") as caught:
        Run.create(tmp_path / "out" / inside, "nmf", config={})
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_out_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ValueError, match="Permission denied"):
        Run.create(tmp_path, "nmf", config={})


@pytest.mark.parametrize("kind", ["", "NMF", "a/b", "..", "nmf-2"])
def test_kinds_that_would_blur_the_name_are_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ValueError, match="kind must be"):
        Run.create(tmp_path, kind, config={})


def test_only_run_folders_open(tmp_path: Path, run: Run) -> None:
    alien = tmp_path / "model"
    alien.mkdir()
    (alien / "config.json").write_text('{"hidden_size": 8}')
    for path in (tmp_path, tmp_path / "absent", alien, run.path / "config.json"):
        with pytest.raises(ValueError, match="a run folder holds"):
            Run.open(path)
    renamed = run.path.rename(tmp_path / "the good one")
    assert Run.open(renamed).kind == "run"


# Metrics


def test_metrics_round_trip_exactly(run: Run) -> None:
    for fit in ("hals nndsvda", "NA", "007"):
        run.append_metrics(fit, rows(3))
    run.append_metrics("NA", rows(2, start=4))
    read = run.metrics()
    assert list(read["fit"]) == ["hals nndsvda"] * 3 + ["NA"] * 3 + ["007"] * 3 + ["NA"] * 2
    pd.testing.assert_frame_equal(read[read["fit"] == "NA"].drop(columns="fit").reset_index(drop=True), rows(5))
    assert (run.path / "metrics.csv").read_text().count("fit,step") == 1
    assert list(run.metrics(columns=("fit", "step"))) == ["fit", "step"]


def test_metrics_keep_every_bit(run: Run) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"step": np.arange(2000), "relative_error": rng.random(2000) * 10.0 ** rng.integers(-300, 300, 2000)}
    )
    frame.loc[:2, "relative_error"] = [math.nan, math.inf, 5e-324]
    run.append_metrics("a", frame)
    pd.testing.assert_frame_equal(run.metrics().drop(columns="fit"), frame, check_exact=True)


def test_a_torn_tail_is_dropped_at_every_byte_and_appending_goes_on(run: Run) -> None:
    path = run.path / "metrics.csv"
    run.append_metrics("a", rows(3))
    whole = path.read_bytes()
    ends = [0, *(i + 1 for i, byte in enumerate(whole) if byte == ord("\n"))]
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        lines = sum(end <= size for end in ends) - 1
        assert len(run.metrics()) == max(lines - 1, 0), size
        run.append_metrics("b", rows(1))
        assert list(run.metrics()["fit"]) == ["a"] * max(lines - 1, 0) + ["b"], size


def test_a_tear_longer_than_a_read_chunk_is_cut(run: Run) -> None:
    run.append_metrics("a", rows(1))
    with (run.path / "metrics.csv").open("ab") as file:
        file.write(b"7" * 200_000)
    run.append_metrics("b", rows(1))
    assert list(run.metrics()["fit"]) == ["a", "b"]


def test_without_metrics_the_frame_is_empty(run: Run) -> None:
    assert run.metrics().empty
    assert list(run.metrics(columns=("fit", "step"))) == ["fit", "step"]


def test_other_columns_are_refused(run: Run) -> None:
    run.append_metrics("a", rows(1))
    with pytest.raises(ValueError, match="give every fit the same measures"):
        run.append_metrics("b", rows(1).drop(columns="effective_rank"))


# The machine and the list


def test_environment_names_versions_and_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    import getpass
    import socket

    monkeypatch.setenv("PATH", "")  # no git
    found = environment()
    assert found["git"] is None
    assert {"torch", "numpy", "rankscope"} <= set(found["packages"])
    assert found["torch_threads"] == torch.get_num_threads()
    words = set(re.findall(r"[\w.-]+", json.dumps(found)))
    assert not words & {socket.gethostname(), getpass.getuser()}
    assert str(Path.home()) not in json.dumps(found)
    assert str(Path(torch.__file__).parent) not in json.dumps(found)


def test_git_state_is_that_of_our_own_checkout_only(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)

    ours, theirs = tmp_path / "src" / "rankscope", tmp_path / ".venv" / "rankscope"
    for folder in (ours, theirs):
        folder.mkdir(parents=True)
        (folder / "a.py").write_text("1")
    try:
        git("init")
    except OSError:
        pytest.skip("git is not installed")
    assert git_state(ours) is None
    git("add", ".")
    git("commit", "-m", "first")
    state = git_state(ours)
    assert state is not None
    assert re.fullmatch("[0-9a-f]{40}", state["commit"])
    assert state["dirty"] is False
    (ours / "a.py").write_text("2")
    assert git_state(ours) == {**state, "dirty": True}
    assert git_state(theirs) is None


def test_the_list_tells_complete_runs_from_killed_ones(tmp_path: Path) -> None:
    done, killed, empty = (Run.create(tmp_path, "nmf", config={}) for _ in range(3))
    done.append_metrics("a", rows(4))
    done.append_metrics("b", rows(9))
    done.finish({"fits": 2})
    killed.append_metrics("a", rows(5))
    with (killed.path / "metrics.csv").open("a") as file:
        file.write("a,6,0.0")
    alien = tmp_path / "20261122_143025-notes"
    alien.mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "20261122_143026-nmf").mkdir()
    (tmp_path / "20261122_143026-nmf" / "config.json").write_text('{"cut')

    summaries = {summary.name: summary for summary in list_runs(tmp_path)}
    assert list(summaries) == sorted(run.name for run in (done, killed, empty))
    first, second, third = (summaries[run.name] for run in (done, killed, empty))
    assert (first.kind, first.state, first.fits, first.steps) == ("nmf", "complete", 2, 9)
    assert first.relative_error == pytest.approx(1 / 27)
    assert (first.result, third.result) == ("relative error 0.03704", "")
    assert (second.state, second.fits, second.steps) == ("incomplete", 1, 5)
    assert (third.state, third.fits, third.steps) == ("incomplete", 0, 0)
    assert math.isnan(third.relative_error)
    assert done.status["seconds"] >= 0
    assert list_runs(tmp_path / "absent") == []
    with pytest.raises(ValueError, match="out must be a folder of runs"):
        list_runs(tmp_path / "file")


@pytest.mark.parametrize(
    ("facts", "shown"),
    [
        ({"a": {"relative_error": 0.7}, "b": {"relative_error": 0.25}}, 0.25),  # what the kept factors have
        ({"a": {"relative_error": 0.7}, "b": {"levels": []}}, 1 / 27),  # b is under way
        ({"b": {"relative_error": None}}, 1 / 27),
        ([1], 1 / 27),
    ],
)
def test_the_list_shows_the_error_of_the_factors_that_were_kept(tmp_path: Path, facts: object, shown: float) -> None:
    run = Run.create(tmp_path, "nmf", config={})
    run.append_metrics("a", rows(4))
    run.append_metrics("b", rows(9))
    run.save_json("fits", facts)
    (summary,) = list_runs(tmp_path)
    assert summary.relative_error == pytest.approx(shown)
