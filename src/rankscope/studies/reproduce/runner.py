"""Do experiments, write each one's run folder, and say what lies within its band."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from rankscope.report import build_report
from rankscope.runs import Run
from rankscope.studies.reproduce import brief, claim, completion, digits, staircase, two_by_two
from rankscope.studies.reproduce.experiment import Check, Experiment, Findings
from rankscope.workers import one_thread

STUDY = "reproduce"
EXPERIMENTS: Mapping[str, Experiment] = {
    "staircase": staircase.EXPERIMENT,
    "completion": completion.EXPERIMENT,
    "two-by-two": two_by_two.EXPERIMENT,
    "digits": digits.EXPERIMENT,
    "claim": claim.EXPERIMENT,
    "brief": brief.EXPERIMENT,
}


@dataclass(frozen=True)
class Reproduced:
    """An experiment that was done, and its run folder."""

    title: str
    checks: list[Check]
    folder: Run

    @property
    def within(self) -> bool:
        """Whether every figure lies in its band."""
        return all(check.within for check in self.checks)


def reproduce(
    name: str, out: Path, *, full: bool = False, say: Callable[[str], None] = lambda line: None
) -> Iterator[Reproduced]:
    """Do one experiment, or one after the other all that belong to ``all``.

    Args:
        name: of ``EXPERIMENTS``, or all.
        out: the folder that run folders go into.
        full: the experiment's larger version.
        say: called with a line whenever a descent has ended.

    Raises:
        ValueError: there is no experiment of that name, or no larger version of it; nothing is written then.
    """
    if name != "all" and name not in EXPERIMENTS:
        raise ValueError(f"the experiment must be one of {', '.join(EXPERIMENTS)} or all, got {name!r}; choose one")
    larger = [each for each, experiment in EXPERIMENTS.items() if experiment.full is not None]
    if full and name not in larger:
        raise ValueError(f"--full is for {', '.join(larger) or 'no experiment'}, got {name!r}; leave it out")
    chosen = [each for each, experiment in EXPERIMENTS.items() if experiment.in_all] if name == "all" else [name]
    return (_do(each, out, full, say) for each in chosen)


def redraw(folder: Run) -> None:
    """The figures of a run again, from what the folder holds; of a killed run there are none."""
    experiment = EXPERIMENTS[folder.json("config")["experiment"]]
    metrics = folder.metrics()
    histories = {str(name): history.drop(columns="fit") for name, history in metrics.groupby("fit", sort=False)}
    if not histories:
        return
    _save(folder, folder.json("config")["experiment"], experiment.figure(histories, folder.json("fits")))
    for name, draw in experiment.figures.items():
        _save(folder, name, draw(folder))


def summary(folder: Run) -> list[dict[str, Any]]:
    """The printed table of a finished run."""
    frame = pd.read_csv(folder.path / "results.csv", dtype=str, keep_default_na=False)
    return [dict(zip(frame.columns, row, strict=True)) for row in frame.itertuples(index=False)]


def _do(name: str, out: Path, full: bool, say: Callable[[str], None]) -> Reproduced:
    experiment = EXPERIMENTS[name]
    larger = experiment.full if full else None
    experiment.needs()
    settings, measure = (experiment.settings, experiment.measure) if larger is None else larger
    config = {
        "study": STUDY,
        "experiment": name,
        "data": experiment.title,
        "source": experiment.source,
        "full": full,
        **settings,
    }
    folder = Run.create(out, STUDY, config=config)
    with one_thread():  # The matrices are too small to gain by a second one.
        findings = measure(say)
    _write(folder, findings)
    redraw(folder)
    outside = sum(not check.within for check in findings.checks)
    summary = {"fits": len(findings.descents), "checks": len(findings.checks), "outside": outside}
    folder.finish(summary | {"result": f"{outside} of {len(findings.checks)} checks outside"})
    build_report(folder)
    return Reproduced(experiment.title, findings.checks, folder)


def _write(folder: Run, findings: Findings) -> None:
    for name, descent in findings.descents.items():
        folder.append_metrics(name, descent.history)
    folder.save_json(
        "fits",
        {
            name: {
                "n_iter": int(descent.history["step"].iloc[-1]),
                "seconds": float(descent.history["seconds"].iloc[-1]),
                "plateaus": [asdict(plateau) for plateau in descent.plateaus],
                "levels": [level._asdict() for level in descent.levels],
            }
            for name, descent in findings.descents.items()
        },
    )
    folder.save_arrays(
        "factors",
        {
            f"{name}/F{i}": F
            for name, descent in findings.descents.items()
            for i, F in enumerate(descent.chain.factors, start=1)
        },
    )
    if findings.arrays:
        folder.save_arrays("arrays", findings.arrays)
    for name, table in findings.tables.items():
        folder.save_table(name, table)
    folder.save_table("results", pd.DataFrame([check.row() for check in findings.checks]))


def _save(folder: Run, name: str, drawn: Figure) -> None:
    folder.save_figure(name, drawn)
    plt.close(drawn)
