"""The low-rank-bias study: factor a data set by one or several solvers and starts, and watch the rank emerge.

One call makes one run folder with everything that was seen: histories, factors, plateaus, figures, a comparison, a
report.
"""

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from rankscope.datasets import DatasetInfo, load
from rankscope.nmf import NMF, DeepNMF, levels
from rankscope.nmf.base import ChainEstimator, Solver
from rankscope.nmf.blocks import RowBlocks
from rankscope.nmf.settings import check_settings
from rankscope.report import build_report
from rankscope.runs import Run
from rankscope.studies.figures import draw_run
from rankscope.studies.recorder import Recorder
from rankscope.studies.settings import configured

# As for the estimators, but for factors that only a program can give.
Init = Literal["random", "eye", "nndsvd", "nndsvda"]
WITHOUT_RATE = ("hals", "mu")
SLOW = 4.0
"""Seconds of first steps after which their user is told why."""
STARTING = "starting: passes are compiled for this processor once, fifteen to thirty seconds for a group of solvers"
RULES = {
    "ranks": "must be whole numbers",
    "resize": "must be two whole numbers, height and width",
    "l1": "must be one number or one for each factor",
    "l2": "must be one number or one for each factor",
    "plateau": "must be first, last or a whole number from 1",
    "inner_sweeps": "must be auto or a whole number from 1",
    "seed": "must be a whole number from 0",
}
REMEDIES = {
    "ranks": "pass for example 20, or 20,10 for a deep chain",
    "resize": "pass for example 28,28",
    "l1": "pass for example 0.1, or 0,0.1",
    "l2": "pass for example 0.1, or 0,0.1",
    "plateau": "pass for example 2",
    "inner_sweeps": "leave it at auto",
    "seed": "pass for example 0",
}


class RankBiasConfig(BaseModel):
    """What to factor and how. Several solvers or inits make a grid.

    Attributes:
        data: digits, mnist1d, mnist, flowers102, or a .npy, .npz or .csv file.
        resize: height and width for mnist and flowers102.
        rows: which rows, as ``start:stop``; all by default.
        ranks: r for NMF; (r₁, r₂, …) for a deep chain.
        l1, l2: one number for all factors, or one for each.
        out: the folder that run folders go into.
        others: as in ``rankscope.NMF``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str = "digits"
    resize: tuple[int, int] | None = None
    rows: str | None = None
    ranks: tuple[int, ...] = (20,)
    solver: tuple[Solver, ...] = ("hals",)
    init: tuple[Init, ...] = ("nndsvda",)
    objective: Literal["global", "layerwise"] = "global"
    max_iter: int = 500
    tol: float = 1e-4
    stop: Literal["tolerance", "plateau", "none"] = "tolerance"
    plateau: Annotated[Literal["first", "last"] | PositiveInt, Field(union_mode="left_to_right")] = "first"
    learning_rate: float | None = None
    inner_sweeps: Annotated[PositiveInt | Literal["auto"], Field(union_mode="left_to_right")] = "auto"
    l1: tuple[float, ...] = (0.0,)
    l2: tuple[float, ...] = (0.0,)
    cosine_separation: float = 0.0
    init_scale: float = 1.0
    seed: int = Field(default=0, ge=0)
    out: Path = Path("runs")

    def fits(self) -> dict[str, tuple[Solver, Init]]:
        """Every fit of the grid by its name."""
        return {f"{solver}-{init}": (solver, init) for solver in self.solver for init in self.init}

    def estimator(self, solver: Solver, init: Init) -> ChainEstimator:
        """The estimator of one fit."""
        settings: dict[str, Any] = self.model_dump(
            include={"max_iter", "tol", "stop", "plateau", "learning_rate", "inner_sweeps", "l1", "l2"}
            | {"cosine_separation", "init_scale"}
        )
        for penalty in ("l1", "l2"):
            values = settings[penalty]
            settings[penalty] = values[0] if len(values) == 1 else values
        if solver in WITHOUT_RATE:  # In a grid, the rate is for the solvers that have one.
            settings["learning_rate"] = None
        settings |= {"solver": solver, "init": init, "random_state": self.seed, "keep_plateaus": True}
        if len(self.ranks) == 1:
            return NMF(self.ranks[0], **settings)
        return DeepNMF(self.ranks, objective=self.objective, **settings)


class Problem(NamedTuple):
    """The rows to factor (m×n), and the data set they are of."""

    X: NDArray[np.floating]
    dataset: DatasetInfo
    first: int = 0
    """The number of X's first row in the data."""


def configure(**settings: Any) -> RankBiasConfig:
    """A configuration from loose settings; ValueError in one line for the first that is wrong."""
    return configured(RankBiasConfig, settings, rules=RULES, remedies=REMEDIES)


def run(config: RankBiasConfig, *, progress: bool = False, say: Callable[[str], None] = lambda line: None) -> Run:
    """Do the study and return its run folder, complete with report.html.

    Interrupted, what was done is kept and the report drawn; the run then counts as incomplete.

    Args:
        config: what to do.
        progress: show progress bars on stderr.
        say: called with a line whenever a fit has ended.

    Raises:
        ValueError: the settings do not fit the data; nothing is written then.
        MissingDataError, CorruptDataError: the data is not here, or damaged.
    """
    problem = read_problem(config)
    with _told_if_slow(say):
        _check(config, problem)
    folder = Run.create(config.out, "nmf", config=_record(config, problem))
    known = levels(RowBlocks.of(torch.from_numpy(problem.X)), max(config.ranks))
    recorder = Recorder(folder, problem.X, known, first=problem.first)
    try:
        for name, (solver, init) in config.fits().items():
            recorder.fit(name, config.estimator(solver, init).set_params(progress=progress), seed=config.seed)
            say(recorder.line(name))
    except KeyboardInterrupt:
        draw_run(folder)
        build_report(folder)
        raise
    table = recorder.table()
    folder.save_table("results", table)
    draw_run(folder)
    best = table.iloc[table["relative_error"].argmin()]
    result = f"relative error {best['relative_error']:.4g} by {best['fit']}"
    folder.finish({"fits": len(table), "best": best["fit"], "result": result})
    build_report(folder)
    return folder


def read_problem(config: RankBiasConfig) -> Problem:
    """Load the data and take the rows; ValueError for a range outside of it."""
    X, dataset = load(config.data, resize=config.resize)
    first, last = _row_range(config.rows, len(X))
    return Problem(np.ascontiguousarray(X[first:last]), dataset, first)


def summary(folder: Run) -> list[dict[str, Any]]:
    """The rows of the comparison table of a finished run, as wide as a terminal."""
    frame = pd.read_csv(folder.path / "results.csv").drop(columns=["nuclear_over_operator", "kkt_residual"])
    return [dict(zip(frame.columns, row, strict=True)) for row in frame.itertuples(index=False)]


def _row_range(rows: str | None, m: int) -> tuple[int, int]:
    if rows is None:
        return 0, m
    try:
        start, stop = (int(part) if part else default for part, default in zip(rows.split(":"), (0, m), strict=True))
    except ValueError:
        raise ValueError(f"rows must be start:stop, as in 100:350, got {rows!r}") from None
    if not 0 <= start < stop <= m:
        raise ValueError(f"rows must lie in 0:{m} (the data has {m} rows), got {rows}; narrow the range")
    return start, stop


def _check(config: RankBiasConfig, problem: Problem) -> None:
    """Refuse what no fit could take before anything is written: start every one of them, and take one step.

    What is compiled at its first use is so before anything is timed.
    """
    if config.learning_rate is not None and set(config.solver) <= set(WITHOUT_RATE):
        solvers = ", ".join(config.solver)
        raise ValueError(
            f"learning_rate is for gd, adam and scalar, got {config.learning_rate} for {solvers}; leave it out"
        )
    if config.objective == "layerwise" and len(config.ranks) == 1:
        raise ValueError(f"objective layerwise needs two ranks or more, got {config.ranks[0]}; pass for example 20,10")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # The fits themselves will warn.
        for solver, init in config.fits().values():
            model = config.estimator(solver, init)
            check_settings(model.get_params(deep=False))
            model.set_params(max_iter=1, stop="none").fit(problem.X)


@contextmanager
def _told_if_slow(say: Callable[[str], None]) -> Iterator[None]:
    """A line for who waits, from another thread: while something is compiled, no other line is run."""
    telling = threading.Timer(SLOW, say, [STARTING])
    telling.daemon = True
    telling.start()
    try:
        yield
    finally:
        telling.cancel()


def _record(config: RankBiasConfig, problem: Problem) -> dict[str, Any]:
    dataset = problem.dataset
    return {
        **config.model_dump(mode="json", exclude={"out"}),
        "shape": list(problem.X.shape),
        "image_shape": list(dataset.shape),
        "dataset": dataset.name,
        "source": dataset.source,
    }
