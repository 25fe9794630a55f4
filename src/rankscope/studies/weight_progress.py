"""Progress of the weight study on stderr: one bar a model at work."""

from collections.abc import Sequence
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from rankscope.studies.weight_results import Entry
from rankscope.studies.weight_training import Protocol


class Progress:
    """Bars that count epochs of members; nothing where they are not to be shown."""

    def __init__(self, entries: Sequence[Entry], protocol: Protocol, *, shown: bool) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
        self._bars = Bars(
            *columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True), disable=not shown
        )
        finals = protocol.seeds * (1 if protocol.name == "original" else 2) * protocol.epochs
        self._each = protocol.search.trials * protocol.trial_seeds * protocol.trial_epochs + finals
        self._all = self._bars.add_task(f"all {len(entries)} models", total=self._each * len(entries))
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def start(self, name: str) -> None:
        """A model begins."""
        self._tasks[name] = self._bars.add_task(name, total=self._each)

    def advance(self, name: str, epochs: int) -> None:
        """So many member-epochs of it are done."""
        self._bars.advance(self._tasks[name], epochs)
        self._bars.advance(self._all, epochs)

    def done(self, name: str) -> None:
        """A model ends; what a resumed one did not have to do again counts as done."""
        task = self._tasks[name]
        left = next(self._each - bar.completed for bar in self._bars.tasks if bar.id == task)
        self._bars.advance(self._all, left)
        self._bars.remove_task(task)
