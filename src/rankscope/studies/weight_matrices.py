"""The weight study: which structure of a weight matrix learns most from the fewest parameters, answered fairly.

One call makes one run folder: for each model a search of its learning rate, its seeds, one test, and then tables,
figures, verdicts and a report. A run that was killed goes on from its last finished round of trials.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field

from rankscope.datasets import load, load_mnist1d
from rankscope.report import build_report
from rankscope.runs import Run
from rankscope.studies.search import RateSearch, open_storage
from rankscope.studies.weight_figures import draw_run
from rankscope.studies.weight_models import DEFAULT, Activation, weight_models
from rankscope.studies.weight_progress import Progress
from rankscope.studies.weight_results import Entry, load_outcomes, percent, save_outcome, write_tables
from rankscope.studies.weight_training import Protocol, Task, study_model
from rankscope.weights import Data

STUDY = "weights"
TEST_SHARE = 0.2


class WeightConfig(BaseModel):
    """What to compare and how.

    Attributes:
        models: names as in `weight_models`, or all.
        data: mnist1d, digits, mnist, or a .npz file with X and labels; the last fifth of its rows is the test part.
        samples: how many rows; of mnist1d, how many are generated.
        trials, epochs, seeds: of the fair protocol; the original one has trials of 20 epochs and one seed.
        hidden, depth, activation: width and number of hidden layers, and what is between.
        budget: parameters that the models without a size get.
        inputs: in their order, permuted by a fixed permutation, or one after the other.
        schedule: the rate constant, or falling to 0 on half a cosine.
        low, high: the range of rates.
        round_size: trials that train together.
        workers: models that train side by side, a thread each; as many as there are cores by default.
        out: the folder that run folders go into.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: tuple[str, ...] = DEFAULT
    data: str = "mnist1d"
    samples: int | None = Field(default=None, ge=50)
    protocol: Literal["fair", "original"] = "fair"
    trials: int = Field(default=15, ge=1)
    epochs: int = Field(default=50, ge=1)
    seeds: int = Field(default=10, ge=1)
    hidden: int = Field(default=100, ge=1)
    depth: int = Field(default=1, ge=1)
    activation: Activation = "relu"
    budget: int | None = Field(default=None, ge=1)
    inputs: Literal["plain", "permuted", "both"] = "plain"
    schedule: Literal["constant", "cosine"] = "constant"
    batch_size: int = Field(default=128, ge=1)
    low: float = Field(default=1e-4, gt=0)
    high: float = Field(default=1e-1, gt=0)
    round_size: int = Field(default=5, ge=1)
    workers: int | None = Field(default=None, ge=1)
    seed: int = Field(default=0, ge=0)
    out: Path = Path("runs")

    def search(self) -> RateSearch:
        """How rates are searched."""
        return RateSearch(self.trials, self.low, self.high, self.round_size, self.seed)

    def settings(self) -> Protocol:
        """How models are trained."""
        original = self.protocol == "original"
        return Protocol(
            search=self.search(),
            name=self.protocol,
            trial_epochs=min(20, self.epochs) if original else self.epochs,
            epochs=self.epochs,
            seeds=1 if original else self.seeds,
            batch_size=self.batch_size,
            schedule=self.schedule,
        )

    def entries(self, task: Task) -> list[Entry]:
        """Every model on every kind of inputs."""
        made = weight_models(
            self.models,
            hidden=self.hidden,
            depth=self.depth,
            activation=self.activation,
            budget=self.budget,
            inputs=task.train.X.shape[1],
            classes=int(max(part.y.max() for part in task)) + 1,
        )
        kinds = ("plain", "permuted") if self.inputs == "both" else (self.inputs,)
        return [Entry(model, kind) for kind in kinds for model in made]


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


def read_task(config: WeightConfig) -> Task:
    """The data, its last fifth held out for the test, each input standardized by the training rows.

    Raises:
        ValueError: there are no labels, or fewer rows than asked for.
    """
    if config.data == "mnist1d":
        X, dataset = load_mnist1d() if config.samples is None else load_mnist1d(config.samples)
    else:
        X, dataset = load(config.data)
    if dataset.labels is None:
        raise ValueError(f"data must have labels, got none with {config.data}; store them as labels in a .npz beside X")
    n = len(X) if config.samples is None else config.samples
    if n > len(X):
        raise ValueError(f"samples must be at most the {len(X)} rows of {config.data}, got {n}; lower it")
    labels = np.unique(dataset.labels[:n], return_inverse=True)[1]
    train = n - round(TEST_SHARE * n)
    values = X[:n].astype(np.float64)
    spread = values[:train].std(0)
    values = (values - values[:train].mean(0)) / np.where(spread > 0, spread, 1.0)
    X_all, y_all = torch.from_numpy(values.astype(np.float32)), torch.from_numpy(labels)
    return Task(Data(X_all[:train], y_all[:train]), Data(X_all[train:], y_all[train:]))


def rate_range(text: str) -> tuple[float, float]:
    """The lowest and the highest rate from "low,high"; ValueError when it is not that."""
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"rates must be lowest,highest, as in 1e-4,1e-1, got {text!r}") from None
    return low, high


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
    with _one_thread_each(), Progress(entries, protocol, shown=progress) as bars:

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


def permutation(config: WeightConfig, task: Task) -> torch.Tensor:
    """The fixed order of permuted inputs."""
    seed = int(np.random.SeedSequence([config.seed, 40]).generate_state(1)[0])
    return torch.randperm(task.train.X.shape[1], generator=torch.Generator().manual_seed(seed))


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


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Models side by side use the cores better than one model's small products do, and do not wait for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
