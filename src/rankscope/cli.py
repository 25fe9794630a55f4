"""The command line: parses and calls.

Exit 0 when done, 2 for a wrong call or bad input, 1 for a failure, 130 when interrupted. Heavy imports wait until a
command needs them.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, CycloptsError, Group, Parameter

from rankscope import __version__

if TYPE_CHECKING:
    from rankscope.runs import Run

Stop = Literal["tolerance", "plateau", "none"]

app = App(
    name="rankscope",
    help="Fit matrices as products of small parts and watch the rank emerge.",
    version=__version__,
    help_format="markdown",
    result_action="return_value",
)
data_app = App(name="data", help="The data sets: what is here, and where.")
app.command(data_app)
app["--help"].group = app["--version"].group = Group("Help")
Out = Annotated[Path, Parameter(help="The folder that run folders go into.")]


def main() -> None:
    """Run the command line and exit with its code."""
    sys.exit(run(sys.argv[1:]))


def run(tokens: list[str]) -> int:
    """Run one command and return its exit code. With ``--debug`` errors come with their traceback."""
    debug = "--debug" in tokens
    try:
        app([token for token in tokens if token != "--debug"], exit_on_error=False, print_error=False)
    except KeyboardInterrupt:
        return _fail("interrupted; what was done is kept in the run folder", 130, debug)
    except CycloptsError as error:
        return _fail(_one_line(error), 2, debug)
    except (
        ValueError,
        FileNotFoundError,
    ) as error:  # What we refuse, CorruptDataError and MissingDataError among them.
        return _fail(_one_line(error), 2, debug)
    except Exception as error:  # noqa: BLE001
        return _fail(f"{type(error).__name__}: {_one_line(error)}", 1, debug)
    return 0


@app.command
def nmf(
    data: str = "digits",
    *,
    ranks: str = "20",
    solver: str = "hals",
    init: str = "nndsvda",
    max_iter: int = 500,
    stop: Stop = "tolerance",
    plateau: str = "first",
    tol: float = 1e-4,
    rows: str | None = None,
    resize: str | None = None,
    learning_rate: float | None = None,
    inner_sweeps: int = 3,
    l1: float = 0.0,
    l2: float = 0.0,
    cosine_separation: float = 0.0,
    init_scale: float = 1.0,
    seed: int = 0,
    out: Out = Path("runs"),
) -> None:
    """Factor a data set, A ≈ W H or deeper, and write a run folder with histories, figures and a report.

    Args:
        data: digits, mnist1d, mnist, flowers102, or a .npy, .npz or .csv file.
        ranks: r; or r1,r2,… for a deep chain.
        solver: hals, mu, gd, adam, scalar; several, with commas, make a grid.
        init: random, eye, nndsvd, nndsvda; several, with commas, make a grid.
        max_iter: the most iterations.
        stop: tolerance (converged), plateau (of the effective rank) or none.
        plateau: which plateau: first, last or k.
        tol: the KKT residual to stop at.
        rows: which rows, as start:stop.
        resize: height,width for mnist and flowers102.
        learning_rate: for gd (a fixed rate), adam and scalar.
        inner_sweeps: for hals, sweeps for each pass over the data.
        l1: weight of the sum of every factor.
        l2: weight of half the squared norm of every factor.
        cosine_separation: weight on how parallel the rows of H are; not for hals.
        init_scale: multiplies the start; a small start shows low-rank bias.
        seed: of everything random.
    """
    from rankscope.studies import rank_bias

    config = rank_bias.configure(
        data=data,
        ranks=_list(ranks),
        solver=_list(solver),
        init=_list(init),
        max_iter=max_iter,
        stop=stop,
        plateau=plateau,
        tol=tol,
        rows=rows,
        resize=None if resize is None else _list(resize),
        learning_rate=learning_rate,
        inner_sweeps=inner_sweeps,
        l1=l1,
        l2=l2,
        cosine_separation=cosine_separation,
        init_scale=init_scale,
        seed=seed,
        out=out,
    )
    folder = rank_bias.run(config, progress=sys.stderr.isatty(), say=_note)
    _print_study(f"{config.data}, ranks {','.join(map(str, config.ranks))}", folder)


@app.command
def demo(*, out: Out = Path("runs")) -> None:
    """The study, small, on data that needs no network: a grid of solvers, and a staircase."""
    from rankscope.studies import demo as small

    for title, folder in small.run(out, progress=sys.stderr.isatty(), say=_note):
        _print_study(title, folder)


@app.command
def report(run: Path) -> None:
    """Draw the figures and the page of a run again, complete or not.

    Args:
        run: the run folder.
    """
    from rankscope.report import build_report
    from rankscope.runs import Run
    from rankscope.studies.figures import draw_run

    folder = Run.open(run)
    draw_run(folder)
    _print(str(build_report(folder)))


@app.command
def runs(*, out: Out = Path("runs")) -> None:
    """The runs in a folder, one line each."""
    from rankscope.runs import list_runs
    from rankscope.tables import table

    summaries = list_runs(out)
    if not summaries:
        _print(f"no runs in {out}")
        return
    columns = ("name", "state", "fits", "steps", "relative_error")
    _print(table([{name: getattr(summary, name) for name in columns} for summary in summaries]))


@data_app.command(name="list")
def list_data() -> None:
    """The data sets by name: present or not, their size, whether they need a network."""
    from rankscope.datasets import available
    from rankscope.tables import table

    _print(
        table(
            [
                {
                    "name": status.name,
                    "present": "yes" if status.present else "no",
                    "network": "needed" if status.needs_network else "not needed",
                    "size": status.size,
                }
                for status in available()
            ]
        )
    )


@data_app.command
def fetch(name: str) -> None:
    """Download a data set into the cache (mnist, flowers102), or generate it (mnist1d)."""
    from rankscope import datasets

    _print(str(datasets.fetch(name)))


@data_app.command
def verify(name: str) -> None:
    """Check the files of a data set against their published hashes."""
    from rankscope import datasets

    files = datasets.verify(name)
    _print("\n".join([f"{name}: {len(files)} files are as published", *map(str, files)]))


@data_app.command
def path(name: str | None = None) -> None:
    """The folder of a data set, or of all of them."""
    from rankscope import datasets

    _print(str(datasets.data_path(name)))


def _print_study(title: str, folder: "Run") -> None:
    from rankscope.studies.rank_bias import summary
    from rankscope.tables import table

    _print(f"\n{title}\n{table(summary(folder))}\nreport: {folder.path / 'report.html'}")


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")


def _note(line: str) -> None:
    sys.stderr.write(line + "\n")


def _fail(message: str, code: int, debug: bool) -> int:
    if debug:
        import traceback

        traceback.print_exc()
    _note(f"rankscope: {message}")
    return code


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
