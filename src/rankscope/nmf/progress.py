"""A progress bar on stderr, as a callback."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from rankscope.nmf import fit


@contextmanager
def progress_bar(description: str) -> Iterator[fit.Callback]:
    """A callback that moves a bar of ``description`` while the context is open. It never stops a fit."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(description, total=None)

        def callback(step: int, state: fit.Progress) -> None:
            bar.update(task, completed=step, total=state.max_iter)

        yield callback
