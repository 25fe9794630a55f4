"""What is saved in a run folder comes back unchanged, stays inside of it, and is whole or absent."""

import errno
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from rankscope.runs import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "runs", "nmf", config={"data": "digits"})


def rows(count: int) -> pd.DataFrame:
    step = np.arange(1, count + 1)
    return pd.DataFrame({"step": step, "relative_error": 1 / (3 * step), "effective_rank": np.sqrt(step)})


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Arrays


LAYOUTS = {
    "C": np.ascontiguousarray,
    "F": np.asfortranarray,
    "transposed": lambda a: np.ascontiguousarray(a.T).T,
    "strided": lambda a: np.repeat(np.repeat(a, 2, axis=0), 3, axis=1)[::2, ::3],
    "reversed": lambda a: np.ascontiguousarray(a[::-1, ::-1])[::-1, ::-1],
    "big-endian": lambda a: np.asfortranarray(a.astype(a.dtype.newbyteorder(">"))),
    "torch": lambda a: torch.from_numpy(a).clone(),
    "torch transposed": lambda a: torch.from_numpy(np.ascontiguousarray(a.T)).T.requires_grad_(a.dtype.kind == "f"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int32", "uint8", "bool"])
@pytest.mark.parametrize("shape", [(5, 7), (1, 6), (0, 3)])
def test_arrays_round_trip_in_every_layout(run: Run, layout: str, dtype: str, shape: tuple[int, int]) -> None:
    A = np.random.default_rng(0).uniform(0, 9, shape).astype(dtype)
    run.save_arrays("factors", {"fit/F1": LAYOUTS[layout](A), "other": np.float64(2.5)}, metadata={"rank": "7"})
    back = run.arrays("factors")
    assert back["fit/F1"].dtype == A.dtype
    np.testing.assert_array_equal(back["fit/F1"], A)
    assert back["other"].shape == ()
    assert back["other"] == 2.5
    assert run.array_names("factors") == ["fit/F1", "other"]
    assert list(run.arrays("factors", only=["other"])) == ["other"]
    assert run.arrays("factors", only=[]) == {}


def test_arrays_that_are_not_real_numbers_are_refused(run: Run) -> None:
    for bad in (np.array([None]), np.array(["x"]), np.array([1j])):
        with pytest.raises(ValueError, match="arrays must hold real numbers"):
            run.save_arrays("factors", {"F1": bad})


def test_a_damaged_array_file_is_a_value_error(run: Run) -> None:
    path = run.save_arrays("factors", {"F1": np.ones((50, 50))})
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="must be a whole safetensors file"):
        run.arrays("factors")
    with pytest.raises(FileNotFoundError):
        run.arrays("absent")


@pytest.mark.skipif(os.name == "nt", reason="modes are POSIX")
def test_every_file_is_as_readable_as_the_others(run: Run) -> None:
    path = run.save_arrays("factors", {"F1": np.ones(3)})
    assert path.stat().st_mode == (run.path / "config.json").stat().st_mode


# JSON, tables, figures


def test_json_is_strict_and_holds_what_numpy_gives(run: Run) -> None:
    run.save_json("fits", {"n": np.int64(3), "e": np.float32(0.5), "bad": [math.inf, np.nan], "p": Path("a"), 1: {2}})
    text = (run.path / "fits.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {"n": 3, "e": 0.5, "bad": [None, None], "p": "a", "1": [2]}


def test_tables_are_written_for_machines_and_for_people(run: Run) -> None:
    run.save_table("results", pd.DataFrame({"fit": ["a|b"], "error": [0.123456789], "rank": [math.nan]}))
    assert pd.read_csv(run.path / "results.csv")["error"][0] == 0.123456789
    lines = (run.path / "results.md").read_text().splitlines()
    assert lines == ["| fit | error | rank |", "| --- | ---: | ---: |", r"| a\|b | 0.1235 | nan |"]


def test_figures_come_as_png_and_svg(run: Run) -> None:
    fig = Figure()
    fig.subplots().plot([1, 2])
    run.save_figure("staircase", fig)
    assert (run.path / "figures" / "staircase.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (run.path / "figures" / "staircase.svg").read_text()


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", r"a\b", "a\0b", "a\nb", ".x", "x" * 200, " x", "c:x"])
def test_no_name_leads_out_of_the_folder(run: Run, name: str) -> None:
    before = everything(run.path.parent)
    frame = rows(1)
    for write in (
        lambda: run.save_json(name, 1),
        lambda: run.save_text(name, "x"),
        lambda: run.save_table(name, frame),
        lambda: run.save_figure(name, Figure()),
        lambda: run.save_arrays(name, {}),
        lambda: run.append_metrics(name, frame),
        lambda: run.json(name),
        lambda: run.arrays(name),
    ):
        with pytest.raises(ValueError, match="rename it"):
            write()
    assert everything(run.path.parent) == before


# A full disk


def write_everything(run: Run) -> list[BaseException]:
    """Try each kind of write and return what each raised."""
    fig = Figure()
    fig.subplots().plot([1, 2])
    raised: list[BaseException] = []
    for write in (
        lambda: run.save_json("fits", list(range(2000))),
        lambda: run.save_table("results", rows(2000)),
        lambda: run.save_arrays("factors", {"F1": np.ones((99, 99))}),
        lambda: run.save_figure("staircase", fig),
        lambda: run.save_text("report.html", "x" * 9000),
        lambda: run.append_metrics("b", rows(2000)),
        lambda: run.finish({"text": "x" * 9000}),
    ):
        try:
            write()
        except OSError as error:
            raised.append(error)
    return raised


def test_a_disk_that_fills_up_leaves_the_old_files_whole(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.save_json("fits", {"old": 1})
    before = everything(run.path)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    raised = write_everything(run)
    assert [error.errno for error in raised] == [errno.ENOSPC] * 7
    assert everything(run.path) == before
    with pytest.raises(OSError, match="No space left"):
        Run.create(run.path.parent, "nmf", config={})
    assert list(run.path.parent.iterdir()) == [run.path]
    monkeypatch.undo()
    assert len(write_everything(run)) == 0
    assert run.is_complete


LIMITED = """
import resource, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_runs_files import everything, write_everything
from rankscope.runs import Run
run = Run.open({path!r})
before = everything(run.path)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
raised = write_everything(run)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
assert len(raised) == 7, raised
assert everything(run.path) == before
"""


@pytest.mark.skipif(os.name == "nt", reason="file size limits are POSIX")
def test_a_write_that_the_system_cuts_in_the_middle_leaves_nothing(run: Run) -> None:
    # The system stops each file at 4096 bytes, after part of it has been written: what a full disk does.
    run.append_metrics("a", rows(3))
    script = LIMITED.format(tests=str(Path(__file__).parent), path=str(run.path))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert list(run.metrics()["fit"]) == ["a"] * 3
