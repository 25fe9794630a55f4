"""The weight study: which structure of a weight matrix learns most from the fewest parameters, answered fairly.

One call makes one run folder: for each model a search of its learning rate, its seeds, one test, and then tables,
figures, verdicts and a report. A run that was killed goes on from its last finished round of trials.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from filelock import FileLock, Timeout

from rankscope.nmf.workers import one_thread
from rankscope.report import build_report
from rankscope.runs import Run
from rankscope.studies.search import open_storage
from rankscope.studies.weight_config import STUDY, WeightConfig, permutation, read_task
from rankscope.studies.weight_figures import draw_run
from rankscope.studies.weight_progress import Progress
from rankscope.studies.weight_results import Entry, load_outcomes, percent, save_outcome, write_tables
from rankscope.studies.weight_training import Task, study_model


def run(config: WeightConfig, *, progress: bool = False, say: Callable[[str], None] = lambda line: None) -> Run:
    """Do the study and return its run folder, complete with report.html.

    Raises:
        ValueError: the settings do not fit the data or one another; nothing is written then.
    """
    task = read_task(config)
    entries = config.entries(task)
    search = config.search()
    record = {
        "study": STUDY,
        **config.model_dump(mode="json", exclude={"out"}),
        "search": search.record,
        "shape": [len(task.train.y) + len(task.test.y), task.train.X.shape[1]],
        "entries": [entry.key for entry in entries],
    }
    return _finish(Run.create(config.out, STUDY, config=record), config, task, progress=progress, say=say)


def resume(path: Path, *, progress: bool = False, say: Callable[[str], None] = lambda line: None) -> Run:
    """Go on with a run from its last finished round, with the settings it was started with.

    Raises:
        ValueError: the folder is no run of this study, or another process is at work on it.
    """
    folder = Run.open(path)
    config = stored_config(folder)
    return _finish(folder, config, read_task(config), progress=progress, say=say)


def stored_config(folder: Run) -> WeightConfig:
    """The settings of a run; ValueError when it is none of this study."""
    record = folder.json("config")
    if record.get("study") != STUDY:
        raise ValueError(f"resume needs a run of `rankscope weights`, got {str(folder.path)!r}; list yours by name")
    fields = {name: value for name, value in record.items() if name in WeightConfig.model_fields}
    return WeightConfig(**fields, out=folder.path.parent)


def summary(folder: Run) -> list[dict[str, Any]]:
    """The rows of the table of a run, as wide as a terminal."""
    frame = pd.read_csv(folder.path / "results.csv", keep_default_na=False, na_values=[""])
    return [
        {
            "model": row["model"],
            "inputs": row["inputs"],
            "parameters": int(row["parameters"]),
            "rate": float(row["learning_rate"]),
            "edge": row["edge"] if isinstance(row["edge"], str) else "",
            "validation %": percent(row, "validation"),
            "test %": percent(row, "test"),
            "in the brief": "" if np.isnan(row["published"]) else f"{row['published']:.2f}",
            "seconds": float(row["seconds"]),
        }
        for row in frame.to_dict("records")
    ]


def redraw(folder: Run) -> None:
    """Write the tables and figures of a run again from what it has, complete or not."""
    config = stored_config(folder)
    _write(folder, config, config.entries(read_task(config)))


def _finish(folder: Run, config: WeightConfig, task: Task, *, progress: bool, say: Callable[[str], None]) -> Run:
    entries = config.entries(task)
    with _alone(folder):
        done = load_outcomes(folder, entries)
        left = [entry for entry in entries if entry not in done]
        try:
            _train(folder, config, task, left, progress=progress, say=say)
        except KeyboardInterrupt:
            _write(folder, config, entries)
            build_report(folder)
            raise
        results = _write(folder, config, entries)
        best = results["model"].iloc[results["test_accuracy"].fillna(-1.0).argmax()]
        folder.finish({"models": len(results), "best": best, "protocol": config.protocol})
        build_report(folder)
    return folder


def _write(folder: Run, config: WeightConfig, entries: list[Entry]) -> pd.DataFrame:
    outcomes = load_outcomes(folder, entries)
    results = write_tables(folder, outcomes, config.protocol)
    draw_run(folder, outcomes, config.protocol)
    return results


def _train(
    folder: Run, config: WeightConfig, task: Task, entries: list[Entry], *, progress: bool, say: Callable[[str], None]
) -> None:
    """Do the entries side by side, each in a thread of its own with one thread of torch's."""
    storage = open_storage(folder.path / "optuna.journal")
    protocol, tasks = config.settings(), {"plain": task, "permuted": task.permuted(permutation(config, task))}
    stop = threading.Event()
    workers = min(config.workers or torch.get_num_threads(), max(len(entries), 1))
    # Models side by side use the cores better than one model's small products do, and do not wait for one another.
    with one_thread(), Progress(entries, protocol, shown=progress) as bars:

        def tick(name: str, epochs: int) -> None:
            if stop.is_set():
                raise _StoppedError
            bars.advance(name, epochs)

        def work(entry: Entry) -> None:
            if stop.is_set():
                return
            bars.start(entry.key)
            outcome = study_model(
                entry.model,
                tasks[entry.inputs],
                protocol,
                storage=storage,
                name=entry.key,
                tick=lambda epochs: tick(entry.key, epochs),
            )
            save_outcome(folder, entry, outcome)
            bars.done(entry.key)
            say(_line(entry, outcome.test, outcome.learning_rate, outcome.seconds))

        with ThreadPoolExecutor(workers) as pool:
            futures = [pool.submit(work, entry) for entry in entries]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                stop.set()
        for future in futures:
            if (error := future.exception()) is not None and not isinstance(error, _StoppedError):
                raise error


class _StoppedError(Exception):
    """Another thread failed, or the user interrupted."""


def _line(entry: Entry, test: np.ndarray, rate: float, seconds: float) -> str:
    accuracy = f"{100 * np.mean(test):.2f}%" if np.isfinite(test).all() else "a seed diverged"
    return f"{entry.key}: {entry.model.num_parameters} parameters, test {accuracy} at rate {rate:.3g}, {seconds:.1f} s"


@contextmanager
def _alone(folder: Run) -> Iterator[None]:
    """Nobody else works on this run; the system lets go of the lock when a process dies, however it does."""
    lock = FileLock(folder.path / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(f"{folder.name} is at work in another process; wait for it or stop it") from None
    try:
        yield
    finally:
        lock.release()
