"""The command line from outside: what it prints, what it exits with, what it leaves."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from rankscope.cli import run
from rankscope.runs import Run, list_runs, read_snapshots


def test_help_and_version(capsys):
    assert run(["--help"]) == 0
    out = capsys.readouterr().out
    for command in ("nmf", "weights", "demo", "report", "runs", "data"):
        assert command in out
    assert run(["nmf", "--help"]) == 0
    out = capsys.readouterr().out
    for option in ("--ranks", "--solver", "--init", "--max-iter", "--stop", "--rows", "--seed", "--out"):
        assert option in out


def test_help_does_not_wait_for_the_heavy_libraries():
    heavy = ("torch", "sklearn", "pandas", "matplotlib", "pydantic")
    code = f"import sys, rankscope.cli; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_nmf_runs_report_and_runs(tmp_path, capsys):
    out = str(tmp_path / "runs")
    call = [
        "nmf",
        "--ranks",
        "6,4",
        "--solver",
        "hals,adam",
        "--init",
        "random",
        "--max-iter",
        "30",
        "--rows",
        "10:110",
    ]
    assert run([*call, "--stop", "none", "--seed", "3", "--out", out]) == 0
    printed = capsys.readouterr().out
    assert "hals-random" in printed
    assert "adam-random" in printed
    assert "report.html" in printed
    (summary,) = list_runs(out)
    assert (summary.state, summary.fits, summary.steps) == ("complete", 2, 30)
    config = Run.open(summary.path).json("config")
    assert (config["ranks"], config["rows"], config["seed"], config["shape"]) == ([6, 4], "10:110", 3, [100, 64])

    (summary.path / "report.html").unlink()
    assert run(["report", str(summary.path)]) == 0
    assert (summary.path / "report.html").is_file()
    capsys.readouterr()
    assert run(["runs", "--out", out]) == 0
    assert "complete" in capsys.readouterr().out
    assert run(["runs", "--out", str(tmp_path / "none")]) == 0
    assert "no runs" in capsys.readouterr().out


def test_weights_runs_resumes_and_reports(tmp_path, capsys):
    call = ["weights", "--models", "low-rank-2x20,kroneckerx20", "--trials", "2", "--epochs", "1", "--seeds", "2"]
    options = ["--samples", "100", "--hidden", "30", "--depth", "2", "--activation", "tanh", "--schedule", "cosine"]
    assert run([*call, *options, "--permuted", "yes", "--seed", "4", "--out", str(tmp_path)]) == 0
    streams = capsys.readouterr()
    assert "kroneckerx20" in streams.out
    assert "report.html" in streams.out
    (summary,) = list_runs(tmp_path)
    assert (summary.state, summary.kind, summary.fits) == ("complete", "weights", 6)
    config = Run.open(summary.path).json("config")
    assert (config["schedule"], config["inputs"], config["depth"], config["seed"]) == ("cosine", "permuted", 2, 4)
    (summary.path / "report.html").unlink()
    assert run(["report", str(summary.path)]) == 0
    assert "Weight matrices on mnist1d" in (summary.path / "report.html").read_text()
    capsys.readouterr()
    assert run(["weights", "--resume", str(summary.path)]) == 0
    assert "kroneckerx20" in capsys.readouterr().out


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".csv"])
def test_a_users_own_file(tmp_path, suffix):
    X = np.random.default_rng(0).random((20, 9))
    file = tmp_path / f"mine{suffix}"
    {".npy": np.save, ".npz": lambda f, x: np.savez(f, X=x), ".csv": lambda f, x: np.savetxt(f, x, delimiter=",")}[
        suffix
    ](file, X)
    assert run(["nmf", str(file), "--ranks", "3", "--max-iter", "10", "--out", str(tmp_path / "runs")]) == 0
    assert list_runs(tmp_path / "runs")[0].state == "complete"


def test_data_commands(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("RANKSCOPE_DATA", str(tmp_path))
    assert run(["data", "list"]) == 0
    out = capsys.readouterr().out
    assert "digits" in out
    assert "flowers102" in out
    assert run(["data", "path"]) == 0
    assert str(tmp_path) in capsys.readouterr().out
    assert run(["data", "verify", "digits"]) == 0
    assert run(["data", "fetch", "roses"]) == 2


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (["nmf", "nowhere.npy"], "nowhere.npy"),
        (["nmf", "--ranks", "0"], "n_components must be a whole number from 1"),
        (["nmf", "--ranks", "ten"], "ranks"),
        (["nmf", "--solver", "newton"], "got 'newton'; choose one"),
        (["nmf", "--init", "magic"], "got 'magic'; choose one"),
        (["nmf", "--rows", "100:99999"], "rows must lie in 0:1797"),
        (["nmf", "--stop", "soon"], "Choose from"),
        (["nmf", "--stop", "soon"], "; `rankscope nmf --help` lists what it takes"),
        (["nmf", "--tol", "much"], "must be a number, got 'much'; `rankscope nmf --help`"),
        (["nmf", "--tol"], "--tol requires an argument; `rankscope nmf --help`"),
        (["nmf", "digits", "twice"], "['twice']; `rankscope nmf --help`"),
        (["nmf", "--resize", "8,8"], "resize"),
        (["nmf", "--colour", "red"], "--colour. Did you mean --solver? `rankscope nmf --help`"),
        (["nmf", "--seed", "-1"], "seed must be a whole number from 0, got -1; pass for example 0"),
        (["nmf", "--out", ""], "must name a folder, got ''; pass . for this one"),
        (["weights", "--out", ""], "must name a folder, got ''"),
        (["demo", "--out="], "must name a folder, got ''"),
        (["reproduce", "--out="], "must name a folder, got ''"),
        (["runs", "--out="], "must name a folder, got ''"),
        (["nmf", "--init", "custom"], "got 'custom'"),
        (["nmf", "--max-iter", "2.5"], "must be a whole number, got '2.5'"),
        (["nmf", "--max-iter", "-1"], "max_iter must be a whole number from 0, got -1"),
        (["nmf", "--plateau", "0"], "plateau must be first, last or a whole number from 1, got '0'"),
        (
            ["nmf", "--objective", "layerwise"],
            "objective layerwise needs two ranks or more, got 20; pass for example 20,10",
        ),
        (["nmf", "--learning-rate", "0.1"], "learning_rate is for gd, adam and scalar, got 0.1 for hals; leave it out"),
        (["nmf", "--init-scale", "inf"], "init_scale must be positive and finite, got inf"),
        (["nmf", "--l1", "1,2,3"], "l1 must be one number or one for each of the 2 factors, got 3"),
        (["nmf", "--l2", "much"], "one for each factor, got 'much'; pass for example 0.1, or 0,0.1"),
        (["nmf", "--cosine-separation", "1"], "solver='hals' cannot take cosine_separation"),
        (["report", "nowhere"], "nowhere"),
        (["fit"], "weights, demo, reproduce, report, runs; `rankscope --help` lists what it takes"),
        (["data", "lost"], "fetch, verify, path; `rankscope data --help`"),
        (["weights", "--models", "dense,fourrier"], "got 'fourrier'"),
        (["weights", "--trials", "0"], "trials must be at least 1, got 0; raise it"),
        (["weights", "--epochs", "0"], "epochs must be at least 1, got 0; raise it"),
        (["weights", "--seeds", "901"], "seeds must be at most 900, got 901; lower it"),
        (["weights", "--activation", "elu"], "got 'elu'; choose one"),
        (["weights", "--depth", "1.5"], "whole number"),
        (["weights", "--samples", "60", "--models", "low-rank", "--budget", "359"], "at least 360 parameters"),
        (["weights", "--rates", "0.1"], "rates must be lowest,highest"),
        (["weights", "--samples", "60", "--rates", "0.1,0.01"], "rates must satisfy 0 < low < high"),
        (["weights", "--protocol", "mine"], "mine"),
        (["weights", "--resume", "nowhere"], "nowhere"),
    ],
)
def test_wrong_calls_exit_2_with_one_line(call, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(call) == 2
    streams = capsys.readouterr()
    assert words in streams.err
    assert len(streams.err.strip().splitlines()) == 1
    assert streams.err.startswith("rankscope: ")
    assert list(tmp_path.iterdir()) == []


def test_mnist_absent_says_where_to_put_it_and_what_needs_no_network(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("RANKSCOPE_DATA", str(tmp_path))
    assert run(["nmf", "mnist"]) == 2
    message = capsys.readouterr().err
    assert len(message.strip().splitlines()) == 1
    assert str(tmp_path) in message
    assert "digits" in message


def test_out_that_cannot_hold_a_run_exits_2(tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("")
    assert run(["nmf", "--ranks", "3", "--max-iter", "2", "--out", str(file)]) == 2
    assert "out must be a folder to write to" in capsys.readouterr().err


def test_debug_shows_the_traceback(capsys):
    assert run(["nmf", "--ranks", "0", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_failure_exits_1(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(Run, "finish", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert run(["nmf", "--ranks", "3", "--rows", "0:50", "--max-iter", "2", "--out", str(tmp_path)]) == 1
    assert "No space left" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_stopped_by_a_signal_it_leaves_an_incomplete_run_that_report_can_draw(tmp_path, number, code):
    call = [sys.executable, "-m", "rankscope", "nmf", "--ranks", "5", "--rows", "0:200", "--stop", "none"]
    process = subprocess.Popen(
        [*call, "--max-iter", "10000000", "--out", str(tmp_path)],
        stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        # A test run in the background of a shell inherits an ignored SIGINT, and would hand it on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not any(summary.steps > 0 for summary in list_runs(tmp_path)):
        time.sleep(0.2)
    process.send_signal(number)
    said = process.communicate(timeout=60)[1].decode()
    assert process.returncode == code
    assert ("rankscope: interrupted; what was done is kept in the run folder" in said) == (number == signal.SIGINT)
    (summary,) = list_runs(tmp_path)
    assert summary.state == "incomplete"
    assert summary.steps > 0
    assert run(["report", str(summary.path)]) == 0
    assert (summary.path / "figures" / "hals-nndsvda-staircase.png").is_file()
    assert read_snapshots(Run.open(summary.path), "hals-nndsvda").steps[0] == 1
    assert "Logged step" in (summary.path / "report.html").read_text()
    assert "incomplete" in (summary.path / "report.html").read_text().lower()


@pytest.mark.parametrize(("ranks", "init"), [("4", "nndsvda"), ("6,3", "random")])
def test_a_deep_chain_starts_at_random_as_its_estimator_does(tmp_path, ranks, init):
    assert run(["nmf", "--ranks", ranks, "--rows", "0:60", "--max-iter", "2", "--out", str(tmp_path)]) == 0
    (folder,) = tmp_path.iterdir()
    assert Run.open(folder).json("config")["init"] == [init]
