"""The claim, tested: is a plateau of the effective rank a good place to stop?

Models learn simple structure first, the effective rank shows it, and so, the brief says, its plateau is where to stop
early. If so, then a fit to Y = X + E that stops on a plateau is nearer to X than one that goes on, and about as near
as one whose rank was chosen by validation. Regret is the error to X of what a rule keeps over that of the best step
of the same fit.

Source: the project brief. Early stopping as regularization: Li, Soltanolkotabi & Oymak 2020, arXiv:1903.11680.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import Any, NamedTuple

import pandas as pd

from rankscope.datasets.mnist import mnist_present
from rankscope.studies.reproduce import claim_figures
from rankscope.studies.reproduce.claim_problems import RANKS, SOURCES, make
from rankscope.studies.reproduce.claim_results import SETTING, comparisons, plateau_kinds, ratio, regrets, wide
from rankscope.studies.reproduce.denoising import fit_noisy, judge, tune
from rankscope.studies.reproduce.experiment import Check, Descent, Experiment, Findings, Larger

SEEDS = 5
LEVELS = (0.0, 0.1, 0.3, 1.0)
MATRICES = ("digits", "mnist", "separated parts", "close parts")
DIRECTIONS = ("separated directions", "close directions")


class Cross(NamedTuple):
    """Every combination of its entries."""

    data: tuple[str, ...]
    noise: str
    levels: tuple[float, ...]
    solvers: tuple[str, ...]
    scales: tuple[float, ...]
    depths: tuple[int, ...]


JOINT = ("gd", "adam", "scalar")
BLOCKS = ("hals", "mu")
"""They set a whole factor by the others, so the scale of a start is gone after one step."""
SMALL = (
    Cross(("digits", "separated parts"), "gaussian", (0.3, 1.0), ("hals", "gd"), (1e-3,), (2,)),
    Cross(DIRECTIONS, "gaussian", (0.3, 1.0), ("gd",), (1e-3,), (2,)),
)
FULL = (
    Cross(MATRICES, "gaussian", LEVELS, BLOCKS, (1.0,), (2,)),
    Cross(MATRICES, "gaussian", LEVELS, JOINT, (1.0, 1e-3), (2,)),
    Cross(MATRICES, "gaussian", (0.3,), JOINT, (1e-1,), (2,)),
    Cross(("digits", "separated parts"), "gaussian", (0.3,), BLOCKS, (1e-1, 1e-3), (2,)),
    Cross(MATRICES, "gaussian", (0.3, 1.0), ("hals",), (1.0,), (3,)),
    Cross(MATRICES, "gaussian", (0.3, 1.0), ("gd", "adam"), (1.0, 1e-1), (3,)),
    Cross(MATRICES, "poisson", (0.3, 1.0), ("hals",), (1.0,), (2,)),
    Cross(MATRICES, "poisson", (0.3, 1.0), ("gd",), (1e-3,), (2,)),
    Cross(DIRECTIONS, "gaussian", LEVELS, JOINT, (1.0, 1e-3), (2,)),
    Cross(DIRECTIONS, "gaussian", (0.3,), JOINT, (1e-1,), (2,)),
    Cross(DIRECTIONS, "gaussian", (0.3,), ("gd",), (1.0, 1e-1), (3,)),
)
SMALL_START = ("gd", 1e-3, 2)
EXAMPLES = {
    f"{data}, noise {level:g}": (data, "gaussian", level, *SMALL_START)
    for data, level in (("digits", 0.3), ("digits", 1.0), ("separated directions", 0.3), ("close directions", 0.3))
}
"""Whose descents are kept and drawn, for seed 0."""


def study(crosses: Sequence[Cross], seeds: int, say: Callable[[str], None]) -> Iterator[tuple[dict[str, Any], Descent]]:
    """A row of results and the descent for each fit of the crosses, seed by seed."""
    for seed, (data, noise, level), fits in _problems(crosses, seeds):
        problem = make(data, noise, level, seed)
        tuned = tune(problem, RANKS[SOURCES[data].rank], seed)
        for solver, scale, depth in fits:
            fit = fit_noisy(problem, solver, scale, depth, seed)
            setting = (data, noise, level, solver, scale, depth)
            row = {**dict(zip(SETTING, setting, strict=True)), "seed": seed, **judge(fit)}
            row |= {"error: tuned rank": tuned.error, "error: best rank": tuned.best_error}
            row |= {"rank: tuned rank": tuned.rank, "rank: best rank": tuned.best_rank}
            what = f"{data}, {noise} {level:g}, {solver} from {scale:g}, {depth} factors, seed {seed}"
            errors = (f"{name} {_short(row[f'error: {name}'])}" for name in ("first", "end", "oracle"))
            say(f"claim: {what}: error at {', '.join(errors)}")
            yield row, fit.descent


def _problems(
    crosses: Sequence[Cross], seeds: int
) -> Iterator[tuple[int, tuple[str, str, float], list[tuple[str, float, int]]]]:
    """(seed, problem, its fits): fits of one problem together, as they share what is tuned on it."""
    fits: dict[tuple[str, str, float], list[tuple[str, float, int]]] = {}
    for cross in crosses:
        for data, level in product(cross.data, cross.levels):
            for fit in product(cross.solvers, cross.scales, cross.depths):
                fits.setdefault((data, cross.noise, level), []).append(fit)
    for seed in range(seeds):
        for problem, its_fits in fits.items():
            yield seed, problem, its_fits


def measure(crosses: Sequence[Cross]) -> Callable[[Callable[[str], None]], Findings]:
    """The measurement of these crosses; MNIST is left out where it is absent."""

    def run(say: Callable[[str], None]) -> Findings:
        rows, descents = [], {}
        for row, descent in study(present(crosses, say), SEEDS, say):
            rows.append(row)
            for name, example in EXAMPLES.items():
                if (*example, 0) == tuple(row[key] for key in (*SETTING, "seed")):
                    history = descent.history.assign(tuned_error=row["error: tuned rank"])
                    descents[name] = replace(descent, history=history)
        fits = pd.DataFrame(rows)
        return Findings(checks(fits), descents, tables(fits))

    return run


def present(crosses: Sequence[Cross], say: Callable[[str], None]) -> list[Cross]:
    """The crosses without MNIST where it is not on this machine."""
    if mnist_present() or all("mnist" not in cross.data for cross in crosses):
        return list(crosses)
    say("claim: MNIST is left out, as it is not here: set RANKSCOPE_DATA, or `rankscope data fetch mnist`")
    return [cross._replace(data=tuple(data for data in cross.data if data != "mnist")) for cross in crosses]


def checks(fits: pd.DataFrame) -> list[Check]:
    """What docs/low-rank-bias.md says of gradient descent from a small start, where small and full study have it."""
    small = fits[(fits["solver"] == "gd") & (fits["scale"] == 1e-3) & (fits["depth"] == 2)]
    small = small[small["noise"] == "gaussian"]

    def of(data: str, level: float) -> pd.DataFrame:
        return small[(small["data"] == data) & (small["level"] == level)]

    faint, strong = of("digits", 0.3), of("digits", 1.0)
    far, close = of("separated directions", 0.3), of("close directions", 0.3)
    mean, ordered = float(faint["rank one: first"].mean()), float(far["in order"].mean())
    return [
        Check("digits, noise 0.3: share of fits whose first plateau is the mean image", "1", mean, 1, 1),
        Check("first plateau: error over that at the end", "above 1", _of(faint, "first"), 2),
        Check("digits, noise 1: first plateau: error over that at the end", "below 1", _of(strong, "first"), 0, 1),
        Check("first plateau: regret", "above 1", ratio(strong, "first", "oracle").mean, 1.05),
        Check("separated directions, noise 0.3: share of fits with plateaus in the order of k", "1", ordered, 1, 1),
        Check("first plateau: error over that at the end", "above 1: k = 1", _of(far, "first"), 1.5),
        Check("best plateau: error over that at the end", "below 1", _of(far, "best plateau"), 0, 0.7),
        Check("close directions, noise 0.3: first plateau, likewise", "below 1", _of(close, "first"), 0, 0.5),
        Check("first plateau: regret", "1", ratio(close, "first", "oracle").mean, 1, 1.1),
    ]  # fmt: skip


def _of(fits: pd.DataFrame, rule: str) -> float:
    return ratio(fits, rule, "end").mean


def tables(fits: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The tables of a table of fits; a start is small where scale < 1 and the solver can see it."""
    small = fits["solver"].isin(JOINT) & (fits["scale"] < 1)
    fits = fits.assign(start=small.map({True: "small", False: "usual"}))
    by_noise, by_start = ["start", "data", "noise", "level", "depth"], ["data", "solver", "scale", "depth"]
    hard = fits[fits["level"].isin((0.3, 1.0)) & (fits["noise"] == "gaussian")]
    regret = regrets(fits, by_noise)
    return {
        "each-fit": fits,
        "regret": regret,
        "regret-by-noise": wide(regret, by_noise),
        "regret-by-start": wide(regrets(hard, by_start), by_start),
        "comparisons": comparisons(fits, by_noise),
        "plateaus-by-noise": plateau_kinds(fits, by_noise),
        "plateaus-by-start": plateau_kinds(hard, by_start),
    }


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _settings(crosses: Sequence[Cross]) -> dict[str, Any]:
    return {"seeds": SEEDS, "crosses": [cross._asdict() for cross in crosses]}


EXPERIMENT = Experiment(
    title="The claim: is a plateau of the effective rank a good place to stop?",
    source="the project brief",
    settings=_settings(SMALL),
    measure=measure(SMALL),
    figure=claim_figures.examples,
    figures={"claim-regret": claim_figures.regret, "claim-ranks": claim_figures.ranks},
    full=Larger(_settings(FULL), measure(FULL)),
    in_all=False,
)
