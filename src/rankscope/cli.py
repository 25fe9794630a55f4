"""The command line: parses and calls.

Exit 0 when done, 2 for a wrong call or bad input, 1 for a failure, 130 when interrupted. Heavy imports wait until a
command needs them.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, CycloptsError, Group, Parameter, Token

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
    suppress_keyboard_interrupt=False,  # It is ours to say what was kept.
)
data_app = App(name="data", help="The data sets: what is here, and where.")
app.command(data_app)
app["--help"].group = app["--version"].group = Group("Help")


def _whole(type_: type, tokens: Sequence[Token]) -> int:
    """2.5 is a mistake to speak of, not to round."""
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError(f"it must be a whole number, got {tokens[0].value!r}") from None


def _number(type_: type, tokens: Sequence[Token]) -> float:
    try:
        return float(tokens[0].value)
    except ValueError:
        raise ValueError(f"it must be a number, got {tokens[0].value!r}") from None


def _folder(type_: type, tokens: Sequence[Token]) -> Path:
    """No name at all would be this very folder."""
    if not tokens[0].value.strip():
        raise ValueError(f"it must name a folder, got {tokens[0].value!r}; pass . for this one, or leave it out")
    return Path(tokens[0].value)


Whole = Annotated[int, Parameter(converter=_whole)]
Number = Annotated[float, Parameter(converter=_number)]
Out = Annotated[Path, Parameter(help="The folder that run folders go into.", converter=_folder)]


def main() -> None:
    """Run the command line and exit with its code."""
    sys.exit(run(sys.argv[1:]))


def run(tokens: list[str]) -> int:
    """Run one command and return its exit code. With ``--debug`` errors come with their traceback."""
    debug = "--debug" in tokens
    try:
        code = app([token for token in tokens if token != "--debug"], exit_on_error=False, print_error=False)
    except KeyboardInterrupt:
        return _fail("interrupted; what was done is kept in the run folder", 130, debug)
    except CycloptsError as error:
        return _fail(_with_help(error), 2, debug)
    except (
        ValueError,
        FileNotFoundError,
    ) as error:  # What we refuse, CorruptDataError and MissingDataError among them.
        return _fail(_one_line(error), 2, debug)
    except Exception as error:  # noqa: BLE001
        return _fail(f"{type(error).__name__}: {_one_line(error)}", 1, debug)
    return code if isinstance(code, int) else 0


@app.command
def nmf(
    data: str = "digits",
    *,
    ranks: str = "20",
    solver: str = "hals",
    init: str | None = None,
    objective: Literal["global", "layerwise"] = "global",
    max_iter: Whole = 500,
    stop: Stop = "tolerance",
    plateau: str = "first",
    tol: Number = 1e-4,
    rows: str | None = None,
    resize: str | None = None,
    learning_rate: Number | None = None,
    inner_sweeps: str = "auto",
    l1: str = "0",
    l2: str = "0",
    cosine_separation: Number = 0.0,
    init_scale: Number = 1.0,
    seed: Whole = 0,
    out: Out = Path("runs"),
) -> None:
    """Factor a data set, A ≈ W H or deeper, and write a run folder with histories, figures and a report.

    Args:
        data: digits, mnist1d, mnist, flowers102, or a .npy, .npz or .csv file.
        ranks: r; or r1,r2,… for a deep chain.
        solver: hals, mu, gd, adam, scalar; several, with commas, make a grid.
        init: random, eye, nndsvd, nndsvda, or several with commas; by default nndsvda, for a deep chain random.
        objective: of a deep chain: global, ‖A − W1 W2 H‖², or layerwise, a term for each layer.
        max_iter: the most iterations.
        stop: tolerance (converged), plateau (of the effective rank) or none.
        plateau: which plateau: first, last or k.
        tol: the KKT residual to stop at.
        rows: which rows, as start:stop.
        resize: height,width for mnist and flowers102.
        learning_rate: for gd (a fixed rate), adam and scalar.
        inner_sweeps: for hals, sweeps for each pass over the data and no more; auto also extrapolates.
        l1: weight of the sum of every factor, or of each: l1 of W, l1 of H.
        l2: weight of half the squared norm of every factor, or of each.
        cosine_separation: weight on how parallel the rows of H are; not for hals.
        init_scale: multiplies the start; a small start shows low-rank bias.
        seed: of everything random.
    """
    from rankscope.studies import rank_bias

    config = rank_bias.configure(
        data=data,
        ranks=_list(ranks),
        solver=_list(solver),
        init=_list(init) if init is not None else ["random" if "," in ranks else "nndsvda"],
        objective=objective,
        max_iter=max_iter,
        stop=stop,
        plateau=plateau,
        tol=tol,
        rows=rows,
        resize=None if resize is None else _list(resize),
        learning_rate=learning_rate,
        inner_sweeps=inner_sweeps,
        l1=_list(l1),
        l2=_list(l2),
        cosine_separation=cosine_separation,
        init_scale=init_scale,
        seed=seed,
        out=out,
    )
    folder = rank_bias.run(config, progress=sys.stderr.isatty(), say=_note)
    _print_study(f"{config.data}, ranks {','.join(map(str, config.ranks))}", folder)


@app.command
def weights(
    data: str = "mnist1d",
    *,
    models: str | None = None,
    trials: Whole = 15,
    epochs: Whole = 50,
    seeds: Whole = 10,
    trial_seeds: Whole = 1,
    hidden: Whole = 100,
    depth: Whole = 1,
    activation: str = "relu",
    budget: Whole | None = None,
    permuted: Annotated[Literal["no", "yes", "both"], Parameter(negative="")] = "no",
    schedule: Literal["constant", "cosine"] = "constant",
    protocol: Literal["fair", "original"] = "fair",
    rates: str = "1e-4,1e-1",
    samples: Whole | None = None,
    batch_size: Whole = 128,
    round_size: Whole = 10,
    workers: Whole | None = None,
    seed: Whole = 0,
    resume: Path | None = None,
    out: Out = Path("runs"),
) -> None:
    """Compare structures of weight matrices, each at its best learning rate, and write a run folder with a report.

    Args:
        data: mnist1d, digits, mnist, or a .npz file with X and labels; the last fifth of its rows is the test part.
        models: names with commas, as low-rank, low-rank-4 (rank 4) or kronecker-3x256 (3 terms, 256 hidden); or all.
            By default the brief's four, a calibrated NLMF and low rank at equal parameters.
        trials: learning rates tried for each model.
        epochs: of each trial and each seed.
        seeds: final runs, each with a start, order and validation split of its own.
        trial_seeds: each trial's score is the mean over so many.
        hidden: width of the hidden layers.
        depth: number of hidden layers.
        activation: relu, silu, gelu or tanh.
        budget: parameters for the models that name no size.
        permuted: train on inputs in a fixed random order: no, yes, or both one after the other.
        schedule: the rate constant, or falling to 0 on half a cosine.
        protocol: fair, or the original's own (20-epoch trials tuned on the test part, one seed).
        rates: lowest,highest learning rate.
        samples: how many rows; of mnist1d, how many are generated.
        batch_size: rows a step.
        round_size: trials that train together as one population.
        workers: models that train side by side; as many as there are cores by default.
        seed: of everything random.
        resume: a run folder to go on with, from its last finished round and with its own settings.
    """
    from rankscope.studies import weight_matrices
    from rankscope.studies.settings import configured
    from rankscope.studies.weight_config import WeightConfig, rate_range

    shown = {"progress": sys.stderr.isatty(), "say": _note}
    if resume is not None:
        folder = weight_matrices.resume(resume, **shown)
        _print_study(f"weights, {folder.name}", folder)
        return
    low, high = rate_range(rates)
    settings: dict[str, Any] = dict(
        data=data,
        trials=trials,
        epochs=epochs,
        seeds=seeds,
        trial_seeds=trial_seeds,
        hidden=hidden,
        depth=depth,
        activation=activation,
        budget=budget,
        inputs={"no": "plain", "yes": "permuted", "both": "both"}[permuted],
        schedule=schedule,
        protocol=protocol,
        low=low,
        high=high,
        samples=samples,
        batch_size=batch_size,
        round_size=round_size,
        workers=workers,
        seed=seed,
        out=out,
    )
    if models is not None:
        settings["models"] = _list(models)
    folder = weight_matrices.run(configured(WeightConfig, settings), **shown)
    _print_study(f"weights on {data}, protocol {protocol}", folder)


@app.command
def demo(*, out: Out = Path("runs")) -> None:
    """Both studies, small, on data that needs no network: solvers, a staircase, and structures of weights."""
    from rankscope.studies import demo as small

    for title, folder in small.run(out, progress=sys.stderr.isatty(), say=_note):
        _print_study(title, folder)


@app.command
def reproduce(
    name: str = "all", *, full: Annotated[bool, Parameter(negative="")] = False, out: Out = Path("runs")
) -> int:
    """Published results again: expected, measured, and whether within the band; exit 1 when any is not.

    Args:
        name: staircase, completion, two-by-two, digits, or all of these, which takes some minutes; or claim or brief.
        full: the larger version, where there is one.
    """
    from rankscope.studies import reproduce as evidence
    from rankscope.tables import table

    within = True
    for done in evidence.reproduce(name, out, full=full, say=_note):
        _print(f"\n{done.title}\n{table([check.row() for check in done.checks])}\nrun: {done.folder.path}")
        within = within and done.within
    if not within:
        _note("rankscope: not every figure lies within its band")
    return 0 if within else 1


@app.command
def report(run: Path) -> None:
    """Draw the figures and the page of a run again, complete or not.

    Args:
        run: the run folder.
    """
    from rankscope.report import build_report
    from rankscope.runs import Run
    from rankscope.studies.kinds import redraw

    folder = Run.open(run)
    redraw(folder)
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
    columns = ("name", "state", "fits", "steps", "result")
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
    from rankscope.studies.kinds import summary
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


def _with_help(error: CycloptsError) -> str:
    """What was wrong with the call, and where it says what would be right."""
    command = " ".join(["rankscope", *(error.command_chain or ())])
    words = _one_line(error).rstrip(".")
    return f"{words}{' ' if words.endswith('?') else '; '}`{command} --help` lists what it takes"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
