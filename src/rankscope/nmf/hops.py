"""Out of a local minimum: near one, some components are drawn anew, and what comes of it is kept if it is lower.

    J ← any three components,   h_j ← [x_i − Σ_{k∉J} w_ik h_k]₊ for j ∈ J and a row i each,   W ← its solution

A row is drawn with the probability of what the other components leave of it, ‖x_i − Σ_{k∉J} w_ik h_k‖². Then the fit
descends as ever. Most of a good minimum is kept, so that a hop takes a fraction of a new start's iterations and ends
lower more often. One that ends a little higher is where the next one starts: from the lowest alone, some never get out.

Reference: basin hopping, Wales & Doye 1997, J. Phys. Chem. A 101(28), doi:10.1021/jp970984n; the slack is that of
threshold accepting, Dueck & Scheuer 1990, J. Comput. Phys. 90(1), doi:10.1016/0021-9991(90)90201-B; rows by their
residual as in k-means++, Arthur & Vassilvitskii 2007 (SODA).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from rankscope.nmf.advance import Penalties, State, settle
from rankscope.nmf.blocks import RowBlocks
from rankscope.nmf.chain import Chain
from rankscope.nmf.coarse import descend
from rankscope.nmf.rules import Hals
from rankscope.spectra import product

COMPONENTS, GAIN, SLACK = 3, 1e-5, 1e-3
"""How many are drawn anew, what of the error a hop has to gain, and what it may lose for the next to start from it."""
LOOK_EVERY, WORTH = 5, 5e-4
"""A hop descends while so many iterations lower the error by so much of it."""
NEAR, SHARE = 1e-3, 2
"""The KKT residual at which a fit is near enough to its minimum to look for others, and for how long: so many times its
own iterations."""
MOST_ENTRIES, IN_VAIN = 2**23, 4


@dataclass(frozen=True)
class Hopping:
    """How long a fit looks for a lower minimum.

    Args:
        in_vain: after so many hops in a row that end no lower there are no more.
        generator: draws components and rows.
    """

    in_vain: int
    generator: torch.Generator

    @classmethod
    def of(cls, shape: tuple[int, int], generator: torch.Generator) -> "Hopping | None":
        """IN_VAIN for an A (m×n) of at most MOST_ENTRIES entries, none for a larger one: a hop takes some twenty
        iterations."""
        return cls(IN_VAIN, generator) if shape[0] * shape[1] <= MOST_ENTRIES else None


@dataclass(frozen=True)
class Hops:
    """What the hops of a fit came to."""

    tried: int = 0
    gained: int = 0
    """How many ended lower than any before."""
    iterations: int = 0
    """Those of all hops; a fit's own count does not hold them."""

    def plus(self, more: "Hops") -> "Hops":
        """With what came of looking again."""
        return Hops(self.tried + more.tried, self.gained + more.gained, self.iterations + more.iterations)


def look_around(
    blocks: RowBlocks, state: State, rule: Hals, penalties: Penalties, hopping: Hopping
) -> tuple[State, Hops]:
    """Hop until enough in a row were in vain, from the last one that ended hardly higher than the lowest of all: the
    lowest, and what it took.

    Args:
        blocks: A, complete.
        state: where a fit is near a minimum.
        rule: how to descend.
        penalties: one for each factor.
        hopping: how many hops in vain are enough, and what draws them.
    """
    tried = gained = iterations = in_vain = 0
    lowest, told = state, 2 * torch.finfo(blocks.dtype).eps * blocks.squared_norm  # What differences of traces tell.
    while in_vain < hopping.in_vain:
        chain = drawn_anew(blocks, state.chain, hopping.generator)
        start = settle(blocks, chain, penalties)
        found, steps = descend(blocks, start, rule, penalties, look_every=LOOK_EVERY, worth=WORTH)
        half_error = max(0.5 * blocks.squared_norm + lowest.trace.objective(), 0.0)
        rise = found.objective(penalties) - lowest.objective(penalties)
        lower = rise < -max(GAIN * half_error, told)
        lowest = found if lower else lowest
        state = found if rise <= SLACK * half_error else state
        tried, gained, iterations = tried + 1, gained + lower, iterations + steps
        in_vain = 0 if lower else in_vain + 1
    return lowest, Hops(tried, gained, iterations)


def drawn_anew(blocks: RowBlocks, chain: Chain, generator: torch.Generator) -> Chain:
    """The chain with rows of what the other components leave of A in place of some rows of its last factor H."""
    W, H = product(chain.factors[:-1]), chain.last
    chosen = torch.randperm(len(H), generator=generator)[:COMPONENTS].to(H.device)
    kept = H.index_fill(0, chosen, 0)
    left = W.new_empty(len(W))

    def visit(rows: slice, A_b: Tensor) -> tuple[Tensor, ...]:
        left[rows] = torch.addmm(A_b, W[rows], kept, alpha=-1).square_().sum(1)
        return ()

    blocks.total(visit)
    if not 0 < left.sum() < torch.inf:
        return chain
    rows = torch.multinomial(left.cpu(), min(len(chosen), int((left > 0).sum())), generator=generator).to(H.device)
    residual = torch.addmm(blocks.rows(rows), W[rows], kept, alpha=-1).clamp_(min=0)
    return Chain((*chain.factors[:-1], H.index_copy(0, chosen[: len(rows)], residual)))
