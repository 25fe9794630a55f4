"""The weight study: which structure of a weight matrix learns most from the fewest parameters, answered fairly.

One call makes one run folder: for each model a search of its learning rate, its seeds, one test, and then tables,
figures, verdicts and a report. A run that was killed goes on from its last finished round of trials.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from rankscope.report import build_report
from rankscope.runs import Run
from rankscope.studies.search import repair_journal
from rankscope.studies.side_by_side import JOURNAL, Training, train_each
from rankscope.studies.weight_config import STUDY, WeightConfig, permutation, read_task
from rankscope.studies.weight_figures import draw_run
from rankscope.studies.weight_progress import Progress
from rankscope.studies.weight_results import Entry, load_outcomes, percent, write_tables
from rankscope.studies.weight_training import Task
from rankscope.workers import one_thread


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
        best = results.iloc[results["test_accuracy"].fillna(-1.0).argmax()]
        result = f"test accuracy {best['test_accuracy']:.2f}% by {best['model']}"
        summary = {"models": len(results), "best": best["model"], "protocol": config.protocol}
        folder.finish(summary | {"result": result})
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
    repair_journal(folder.path / JOURNAL)
    tasks = {"plain": task, "permuted": task.permuted(permutation(config, task))}
    train = Training(folder, config.settings(), tasks)
    with one_thread(), Progress(entries, train.protocol, shown=progress) as bars:
        for line in train_each(train, entries, workers=config.workers, bars=bars):
            say(line)


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
