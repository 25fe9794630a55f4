"""Fit Y = X + E, and read off the way how far the fit is from X: what each rule for stopping would have kept.

The clean error is ‖X − F₁ … F_L‖²/‖X‖². Plateaus are those of the library's detector with its defaults, seen as
``stop="plateau"`` sees them: the first and the second at the moment they are confirmed, the last when the fit has
ended; each is left at its midpoint. A fit without the plateau asked for keeps its last factors.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from rankscope.nmf import NMF, levels, passes
from rankscope.nmf.advance import evaluate
from rankscope.nmf.blocks import RowBlocks
from rankscope.nmf.chain import Chain
from rankscope.nmf.health import inspect
from rankscope.nmf.initial import Start
from rankscope.nmf.missing import heldout_error
from rankscope.nmf.penalty import NO_PENALTY
from rankscope.nmf.rules import BlockRule, Rule, make_rule
from rankscope.spectra import product
from rankscope.studies.reproduce.experiment import Descent, descend
from rankscope.trace import Plateau, PlateauDetector

STEPS: Mapping[str, int] = {"hals": 500, "mu": 2000, "gd": 4000, "adam": 2000, "scalar": 2000}
GD_RATE = 0.2
"""Of 1/σ₁(Y), beyond which gradient descent on balanced factors diverges at the latest."""
HELD_OUT = 0.1
RANK_ONE = 1.1
"""Below this effective rank a plateau is one at the best rank-one approximation: of images, the mean."""
RULES = ("first", "second", "last", "best plateau", "end", "tuned rank", "best rank")


class Problem(NamedTuple):
    """X (m×n), Y (m×n), the r of every layer that is fitted to Y, and whether factors are kept ≥ 0."""

    clean: Tensor
    noisy: Tensor
    rank: int
    nonnegative: bool = True


class NoisyFit(NamedTuple):
    """A fit to Y, whose history has the column ``clean_error``, and what at its end cannot move any more.

    What is zero on both sides of a product, or under a multiplicative rule at all, stays so: a fit that did not end
    locked was not locked on any plateau.
    """

    descent: Descent
    locked: bool
    """By its health."""
    stuck: float
    """See ``stuck_share``."""


class Tuned(NamedTuple):
    """Ranks of a plain NMF (unconstrained: of a truncated SVD) run to its end, and their clean errors."""

    rank: int
    """With the least error on held-out entries of Y."""
    error: float
    best_rank: int
    """With the least clean error, which nobody knows."""
    best_error: float


def clean_error(X: Tensor, chain: Chain) -> float:
    """‖X − F₁ … F_L‖²/‖X‖²."""
    blocks = RowBlocks.of(X)
    return passes.squared_residual(blocks, chain.first, chain.dictionary) / blocks.squared_norm


def fit_noisy(
    problem: Problem, solver: str, scale: float, depth: int, seed: int, *, steps: int | None = None
) -> NoisyFit:
    """One fit to Y, watched.

    Args:
        problem: X and Y.
        solver: of ``SOLVERS``; gd at the fixed rate ``GD_RATE``/σ₁(Y), the others as by default.
        scale: multiplies each factor of a random start that fits Y as well as a scale can.
        depth: the number of factors.
        seed: of the start.
        steps: how many; by default as ``STEPS`` has it.
    """
    X, Y, rank, nonnegative = problem
    blocks, clean = RowBlocks.of(Y), RowBlocks.of(X)
    rate = GD_RATE / float(torch.linalg.matrix_norm(Y, 2)) if solver == "gd" else None
    rule = make_rule(
        solver,
        learning_rate=rate,
        inner_sweeps="auto",
        nonnegative=nonnegative,
        shape=blocks.shape,
        rank=rank,
    )
    start = _start(problem, rule, scale, depth, torch.Generator().manual_seed(seed))
    readings = {
        "clean_error": lambda chain: passes.squared_residual(clean, chain.first, chain.dictionary) / clean.squared_norm
    }
    known = levels(blocks, rank)
    descent = descend(Y, start.factors, rule, steps or STEPS[solver], readings=readings, levels=known)
    health = inspect(evaluate(blocks, descent.chain), rule, (NO_PENALTY,) * depth)
    return NoisyFit(descent, health.locked, stuck_share(Y, descent.chain))


def stuck_share(Y: Tensor, chain: Chain) -> float:
    """The share of ‖Y − F₁ … F_L‖² at entries that no gradient reaches: two zeros or more on each path to them.

    An entry of the product is a sum over paths (i, k₁, …, j) of one entry of each factor. Its derivative is zero if no
    path has less than two zeros, though every component may be alive elsewhere.
    """
    supports = [(F != 0).to(torch.float64) for F in chain.factors]
    paths = product(supports)  # without a zero; then with one zero, in factor l
    for i, S in enumerate(supports):
        paths = paths + product([*supports[:i], 1 - S, *supports[i + 1 :]])
    squares = (Y - chain.product()).square()
    return float(squares[paths == 0].sum() / squares.sum())


def judge(fit: NoisyFit) -> dict[str, Any]:
    """What the rules that stop on the way would have kept, and what the plateaus were: a row of the table of fits."""
    descent = fit.descent
    history, last = descent.history, descent.history.iloc[-1]
    seen = list(confirmed(history))
    plateaus = {
        "first": seen[0] if seen else None,
        "second": seen[1] if len(seen) > 1 else None,
        "last": descent.plateaus[-1] if descent.plateaus else None,
    }
    kept = {name: last if p is None else at(history, p.midpoint) for name, p in plateaus.items()}
    all_kept = [at(history, plateau.midpoint) for plateau in descent.plateaus]
    oracle = history.iloc[int(history["clean_error"].argmin())]
    row: dict[str, Any] = {f"error: {name}": float(record["clean_error"]) for name, record in kept.items()}
    all_kept += [at(history, plateau.midpoint) for plateau in seen]
    row |= {"error: end": float(last["clean_error"]), "error: oracle": float(oracle["clean_error"])}
    row["error: best plateau"] = min((float(each["clean_error"]) for each in all_kept), default=row["error: end"])
    named = [plateau.k for plateau in descent.plateaus if plateau.k is not None]
    row |= {
        "plateaus": len(descent.plateaus),
        "oracle step": int(oracle["step"]),
        "steps": int(last["step"]),
        "in order": named == sorted(set(named)),
    }
    row |= {"rank: oracle": float(oracle["effective_rank"]), "rank: end": float(last["effective_rank"])}
    for name in ("first", "last"):
        plateau, record = plateaus[name], kept[name]
        whole = None if plateau is None else next(p for p in reversed(descent.plateaus) if p.start <= plateau.end)
        row |= {
            f"step: {name}": int(record["step"]),
            f"rank: {name}": float("nan") if plateau is None else float(record["effective_rank"]),
            f"k: {name}": float("nan") if whole is None or whole.k is None else float(whole.k),
            f"rank one: {name}": plateau is not None and float(record["effective_rank"]) < RANK_ONE,
            f"lasts: {name}": whole is not None and whole.end >= last["step"],
        }
    return {**row, "locked": fit.locked, "stuck": fit.stuck}


def confirmed(history: pd.DataFrame) -> Iterator[Plateau]:
    """Each plateau as it is when the detector confirms it, which is all that a fit that stops there sees of it."""
    detector = PlateauDetector()
    columns = (history[name].tolist() for name in ("step", "relative_error", "effective_rank"))
    for step, error, rank in zip(*columns, strict=True):
        plateau = detector.update(step, error, rank)
        if plateau is not None:
            yield plateau


def at(history: pd.DataFrame, step: int) -> pd.Series:
    """The record nearest a step on the axis ln(step + 1)."""
    distance = np.abs(np.log((history["step"].to_numpy() + 1) / (step + 1)))
    return history.iloc[int(distance.argmin())]


def tune(problem: Problem, ranks: Sequence[int], seed: int) -> Tuned:
    """Choose a rank by held-out entries of Y, a tenth of them, and by the clean error for reference."""
    X, Y = problem.clean, problem.noisy
    generator = torch.Generator().manual_seed(seed)
    observed = torch.rand(Y.shape, generator=generator) >= HELD_OUT
    held_out = {}
    for rank in ranks:
        error = heldout_error(Y, observed, _converged(problem, rank, generator, observed))
        held_out[rank] = float("inf") if error is None else error
    errors = {rank: clean_error(X, _converged(problem, rank, generator)) for rank in ranks}
    chosen, best = (min(scores, key=scores.__getitem__) for scores in (held_out, errors))
    return Tuned(chosen, errors[chosen], best, errors[best])


def _converged(problem: Problem, rank: int, generator: torch.Generator, observed: Tensor | None = None) -> Chain:
    """The fit at a rank, run to its end: NMF; without signs, what gradient descent on the observed entries tends to."""
    Y = problem.noisy
    if problem.nonnegative:
        model = NMF(rank, max_iter=500, tol=1e-3, track_history=False, missing="mask", random_state=0)
        return Chain(tuple(model.fit(Y, mask=observed).factors_))
    if observed is None:
        U, sigma, V = RowBlocks.of(Y).leading_triplets(rank, generator)
        return Chain((U * sigma, V.mT))
    rule = make_rule("gd", learning_rate=0.5 / float(torch.linalg.matrix_norm(Y, 2)), nonnegative=False)
    start = _start(problem._replace(rank=rank), rule, 0.5, 2, generator)
    return descend(Y, start.factors, rule, 600, observed=observed, per_e_fold=1).chain


def _start(problem: Problem, rule: Rule, scale: float, depth: int, generator: torch.Generator) -> Chain:
    """A random start: uniform as of any NMF; Gaussian without signs, of the norm of Y at scale 1."""
    Y, sizes = problem.noisy, (problem.rank,) * (depth - 1)
    if problem.nonnegative:
        positive = isinstance(rule, BlockRule) and rule.multiplies
        return Start(sizes, "random", positive=positive, scale=scale).chain(RowBlocks.of(Y), generator)
    m, n = Y.shape
    shapes = zip((m, *sizes), (*sizes, n), strict=True)
    factors = [torch.randn(shape, generator=generator, dtype=Y.dtype) for shape in shapes]
    norm = torch.linalg.matrix_norm(Chain(tuple(factors)).product())
    share = scale * float(torch.linalg.matrix_norm(Y) / norm) ** (1 / depth)
    return Chain(tuple(share * F for F in factors))
