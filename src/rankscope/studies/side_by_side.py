"""Models of the weight study trained side by side, each in a process of its own.

A step of a population is some fifty small operations. Threads would hand the interpreter to and fro at every one of
them, which costs as much as the second core gains; processes share nothing but a count of what is done.
"""

import os
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from joblib import Parallel, cpu_count, delayed, parallel_config
from numpy.typing import NDArray

from rankscope.runs import Run
from rankscope.studies.search import open_storage
from rankscope.studies.weight_progress import Progress
from rankscope.studies.weight_results import Entry, save_outcome
from rankscope.studies.weight_training import Protocol, Task, Tick, study_model

JOURNAL = "optuna.journal"
AHEAD, ENDED = -1, -2
"""In place of a count: the model has not begun, or has ended."""
LOOK_EVERY = 0.2
"""Seconds between two looks at the counts."""


@dataclass(frozen=True)
class Training:
    """Trains any entry of a run, keeps its outcome in the folder, and returns a line to say."""

    folder: Run
    protocol: Protocol
    tasks: Mapping[str, Task]

    def __call__(self, entry: Entry, tick: Tick) -> str:
        """Called in whatever process has time."""
        outcome = study_model(
            entry.model,
            self.tasks[entry.inputs],
            self.protocol,
            storage=open_storage(self.folder.path / JOURNAL),
            name=entry.key,
            tick=tick,
        )
        save_outcome(self.folder, entry, outcome)
        accuracy = f"{(100 * outcome.test).mean():.2f}%" if np.isfinite(outcome.test).all() else "a seed diverged"
        return (
            f"{entry.key}: {entry.model.num_parameters} parameters, test {accuracy} at rate "
            f"{outcome.learning_rate:.3g}, {outcome.seconds:.1f} s"
        )


def train_each(train: Training, entries: Sequence[Entry], *, workers: int | None, bars: Progress) -> Iterator[str]:
    """The lines of all entries as they are done, the longest being begun first: no core then waits long at the end.

    Without a number of workers there are as many as cores that this process may use.
    """
    queue = sorted(entries, key=lambda entry: -entry.model.flops)
    workers = min(workers or cpu_count(), len(queue))
    return _at_once(train, queue, workers, bars) if workers > 1 else _in_turn(train, queue, bars)


def _in_turn(train: Training, queue: Sequence[Entry], bars: Progress) -> Iterator[str]:
    with _patient() as interrupted:
        for entry in queue:

            def tick(epochs: int, key: str = entry.key) -> None:
                if interrupted.is_set():
                    raise KeyboardInterrupt
                bars.advance(key, epochs)

            bars.start(entry.key)
            yield train(entry, tick)
            bars.done(entry.key)


@contextmanager
def _patient() -> Iterator[threading.Event]:
    """Ctrl-C sets the event, for the end of an epoch to answer: within the journal's lock it would break the lock. A
    second one is not put off."""
    interrupted, before = threading.Event(), signal.getsignal(signal.SIGINT)
    # Elsewhere no signal comes, and one that is ignored stays so.
    if threading.current_thread() is not threading.main_thread() or before is signal.SIG_IGN:
        yield interrupted
        return

    def note(*_: object) -> None:
        interrupted.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, note)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)


def _at_once(train: Training, queue: Sequence[Entry], workers: int, bars: Progress) -> Iterator[str]:
    with (
        tempfile.TemporaryDirectory() as place,
        _shown(Path(place) / "counts", queue, bars) as counts,
        parallel_config("loky", inner_max_num_threads=1),
    ):
        calls = (delayed(_apart)(train, entry, counts, i, os.getpid()) for i, entry in enumerate(queue))
        yield from Parallel(workers, return_as="generator_unordered", batch_size=1)(calls)


def _apart(train: Training, entry: Entry, counts: NDArray[np.int64], i: int, parent: int) -> str:
    """In a process of its own: Ctrl-C is for the parent to answer, and without a parent nothing more is written."""
    apart = os.getpid() != parent  # Where the system has no semaphores, joblib calls this in the parent itself.
    if apart:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    counts[i] = 0

    def tick(epochs: int) -> None:
        if apart and os.getppid() != parent:
            os._exit(1)
        counts[i] += epochs

    line = train(entry, tick)
    counts[i] = ENDED
    return line


@contextmanager
def _shown(path: Path, queue: Sequence[Entry], bars: Progress) -> Iterator[NDArray[np.int64]]:
    """Counts of member-epochs that all processes see, shown while they rise."""
    counts = np.memmap(path, np.int64, "w+", shape=len(queue))
    counts[:] = AHEAD
    seen, ended = counts.copy(), threading.Event()

    def look() -> None:
        while not ended.wait(LOOK_EVERY):
            for i, entry in enumerate(queue):
                before, now = int(seen[i]), int(counts[i])
                if before == AHEAD != now:
                    bars.start(entry.key)
                if now > max(before, 0):
                    bars.advance(entry.key, now - max(before, 0))
                if before != ENDED == now:
                    bars.done(entry.key)
                seen[i] = now

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    try:
        yield counts
    finally:
        ended.set()
        looking.join()
