"""Tables for a terminal: plain text that also reads well in a file or a pipe."""

from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as an aligned table, numbers with four digits."""
    columns = list(rows[0])
    drawn = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in columns:
        number = all(isinstance(row[column], int | float) for row in rows)
        drawn.add_column(column, justify="right" if number else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(_cell(row[column]) for column in columns))
    text = StringIO()
    Console(file=text, width=200, color_system=None, highlight=False, markup=False).print(drawn)
    return "\n".join(line.rstrip() for line in text.getvalue().rstrip().splitlines())


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
