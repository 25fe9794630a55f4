"""The runs in a folder, one line each, complete or not."""

from dataclasses import dataclass
from datetime import datetime
from math import isfinite, nan
from pathlib import Path

import pandas as pd

from rankscope.runs.folder import Run


@dataclass(frozen=True)
class RunSummary:
    """What `rankscope runs` says of one run."""

    name: str
    kind: str
    started: datetime | None
    state: str  # "complete" | "incomplete"
    fits: int
    steps: int  # the furthest any fit has come
    relative_error: float  # of the last fit: of the factors it kept, else its last row logged, NaN when there is none
    result: str  # what its study says that it found, else that error
    path: Path


def list_runs(out: str | Path) -> list[RunSummary]:
    """Summarize every run in `out`, oldest first; folders that are no runs or cannot be read are passed over."""
    folder = Path(out)
    if not folder.exists():
        return []
    if not folder.is_dir():
        raise ValueError(f"out must be a folder of runs, got the file {str(out)!r}; pass the folder given as --out")
    summaries = [_summary(path) for path in sorted(folder.iterdir())]
    return sorted((summary for summary in summaries if summary is not None), key=lambda summary: summary.name)


def _summary(path: Path) -> RunSummary | None:
    try:
        run = Run.open(path)
        rows = run.metrics(columns=("fit", "step", "relative_error"))
    except (OSError, ValueError):
        return None
    steps = rows.get("step")
    return RunSummary(
        name=run.name,
        kind=run.kind,
        started=run.started,
        state="complete" if run.is_complete else "incomplete",
        fits=rows["fit"].nunique() if "fit" in rows else 0,
        steps=int(steps.max()) if steps is not None and steps.notna().any() else 0,
        relative_error=(error := _last_error(run, rows)),
        result=_found(run) or (f"relative error {error:.4g}" if isfinite(error) else ""),
        path=path,
    )


def _found(run: Run) -> str:
    summary = run.status.get("summary")
    return str(summary.get("result", "")) if isinstance(summary, dict) else ""


def _last_error(run: Run, rows: pd.DataFrame) -> float:
    """A fit that went back to a plateau kept factors of an earlier step than its last row."""
    if "relative_error" not in rows or rows.empty:
        return nan
    try:
        kept = run.json("fits")[rows["fit"].iloc[-1]]["relative_error"]
    except (OSError, ValueError, LookupError, TypeError):  # It is still under way, or was killed, or has no such file.
        kept = None
    return float(kept if isinstance(kept, int | float) else rows["relative_error"].iloc[-1])
