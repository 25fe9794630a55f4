"""Coarse to fine: where rows are many, the dictionary is learned from few of them first.

F₂ … F_L have no row for a row of A, and a few thousand rows show almost all that they can learn. So a few small random
samples of rows are fitted, all from the same start; the dictionary that encodes fresh rows best goes on, F₁ is solved
for it in one pass over all rows, and from there the fit is the usual one: same passes, same stopping rule.
Several, since where a nonconvex fit ends is partly luck, and on few rows luck is cheap.

Reference: the sampling is that of mini-batch NMF (Lefèvre, Bach & Févotte 2011, doi:10.1109/ASPAA.2011.6082314), but
ahead of the exact passes instead of in place of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from rankscope.nmf import passes
from rankscope.nmf.advance import SETTLING_SWEEPS, Penalties, State, advance, settle, start
from rankscope.nmf.blocks import RowBlocks
from rankscope.nmf.chain import Chain
from rankscope.nmf.encode import encode
from rankscope.nmf.rules import Hals

DRAWS, MOST_ITERATIONS, LOOK_EVERY, WORTH = 3, 100, 10, 1e-3


@dataclass(frozen=True)
class Sampling:
    """How many rows a sample has, and what draws them."""

    rows: int
    generator: torch.Generator

    @classmethod
    def of(cls, shape: tuple[int, int], layer_sizes: Sequence[int], generator: torch.Generator) -> "Sampling | None":
        """max(4n, 60r, 1000) rows for A (m×n) and the widest layer r, or a quarter of the m rows if that is less; none
        where a quarter has fewer than max(60r, 1000)."""
        m, n = shape
        least = max(60 * max(layer_sizes), 1000)
        rows = min(max(4 * n, least), m // (DRAWS + 1))
        return cls(rows, generator) if rows >= least else None


@dataclass(frozen=True)
class Coarse:
    """What the samples told."""

    rows: int
    """The rows of each."""
    iterations: tuple[int, ...]
    """On each."""
    errors: tuple[float, ...]
    """The relative error of each one's dictionary on fresh rows; the lowest went on."""


def refine(
    blocks: RowBlocks, chain: Chain, rule: Hals, penalties: Penalties, sampling: Sampling
) -> tuple[State, Coarse]:
    """The state to go on from: the best sample's dictionary, and F₁ solved for it on all rows.

    Args:
        blocks: A, with at least DRAWS + 1 samples' rows.
        chain: where every sample starts.
        rule: how to move.
        penalties: one for each factor; on a sample those of the small factors count by its share of the rows.
        sampling: how large samples are, and what draws them.
    """
    m = blocks.shape[0]
    drawn = torch.randperm(m, generator=sampling.generator)[: (DRAWS + 1) * sampling.rows].to(blocks.A.device)
    *samples, fresh = drawn.split(sampling.rows)
    share = sampling.rows / m
    scaled = (penalties[0], *(p._replace(l1=share * p.l1, l2=share * p.l2) for p in penalties[1:]))
    tried = [
        _learn(blocks.subset(rows), Chain((chain.first[rows], *chain.factors[1:])), rule, scaled) for rows in samples
    ]
    errors = _errors(blocks.subset(fresh), [learned for learned, _ in tried], penalties)
    best, _ = tried[errors.index(min(errors))]
    state = settle(blocks, Chain((chain.first, *best.factors[1:])), penalties)
    return state, Coarse(sampling.rows, tuple(n for _, n in tried), tuple(errors))


def _learn(blocks: RowBlocks, chain: Chain, rule: Hals, penalties: Penalties) -> tuple[Chain, int]:
    state, steps = descend(blocks, start(blocks, chain, rule), rule, penalties)
    return state.chain, steps


def descend(
    blocks: RowBlocks,
    state: State,
    rule: Hals,
    penalties: Penalties,
    *,
    look_every: int = LOOK_EVERY,
    worth: float = WORTH,
) -> tuple[State, int]:
    """Iterate while so many iterations still lower the error by so much of it: the state, and how many it took."""
    before = float("inf")
    for step in range(1, MOST_ITERATIONS + 1):
        state, _ = advance(blocks, state, rule, penalties)
        if step % look_every == 0:
            error = blocks.squared_norm + 2 * state.trace.objective()
            if before - error <= worth * error:
                return state, step
            before = error
    return state, MOST_ITERATIONS


def _errors(blocks: RowBlocks, chains: Sequence[Chain], penalties: Penalties) -> list[float]:
    """The relative error of every chain's dictionary on rows that none has seen."""
    squared = []
    for R in (chain.dictionary for chain in chains):
        F = encode(blocks, R, penalties[0], max_sweeps=2 * SETTLING_SWEEPS)
        squared.append(passes.squared_residual(blocks, F, R))
    return [error / blocks.squared_norm if blocks.squared_norm > 0 else 0.0 for error in squared]
