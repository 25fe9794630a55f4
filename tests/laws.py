"""What several tests share: random problems, explicit forms to hold the fast ones against, and the laws themselves."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rankscope.nmf.blocks import RowBlocks
from rankscope.nmf.chain import Chain
from rankscope.nmf.fit import Callback, Fit, Stopping, fit
from rankscope.nmf.penalty import NO_PENALTY, Penalty
from rankscope.nmf.rules import Hals, Multiplicative, ProjectedGradient, Rule
from rankscope.trace.history import History

DESCENDING: dict[str, Rule] = {
    "hals": Hals(),
    "hals-3": Hals(3),
    "accelerated": Hals(4, momentum=True),
    "mu": Multiplicative(),
    "gd": ProjectedGradient(),
}
"""The rules under which no objective rises."""


class Planted(NamedTuple):
    """A = F₁ F₂ … F_L exactly, with sparse nonnegative factors."""

    A: Tensor
    chain: Chain


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def planted(seed: int, shape: tuple[int, int] = (40, 30), sizes: tuple[int, ...] = (4,)) -> Planted:
    chain = random_chain(seed, shape, sizes)
    sparse = Chain(
        tuple(F * (torch.rand(F.shape, generator=generator(seed + 99)) > 0.4) + 0.01 * F for F in chain.factors)
    )
    return Planted(sparse.product(), sparse)


def random_chain(
    seed: int, shape: tuple[int, int], sizes: Sequence[int], dtype: torch.dtype = torch.float64, zeros: float = 0.0
) -> Chain:
    """A chain of uniform factors, a fraction of their entries zero."""
    g = generator(seed)
    inner = [shape[0], *sizes, shape[1]]
    factors = []
    for a, b in pairwise(inner):
        F = torch.rand(a, b, generator=g, dtype=dtype)
        factors.append(F * (torch.rand(a, b, generator=g) >= zeros))
    return Chain(tuple(factors))


def run(
    A: Tensor,
    chain: Chain,
    rule: Rule,
    steps: int,
    *,
    penalties: Sequence[Penalty] | None = None,
    block_rows: int | None = None,
    callback: Callback | None = None,
) -> Fit:
    """That many iterations, no more and no less."""
    return fit(
        RowBlocks.of(A, block_rows),
        chain,
        rule,
        stopping=Stopping(steps, "none"),
        penalties=tuple(penalties or [NO_PENALTY] * chain.depth),
        history=History(),
        callback=callback,
    )


def objective(A: Tensor, chain: Chain, penalties: Sequence[Penalty] | None = None) -> float:
    """½‖A − F₁ … F_L‖² + penalties, by the residual itself."""
    value = 0.5 * (A - chain.product()).square().sum()
    for F, penalty in zip(chain.factors, penalties or [NO_PENALTY] * chain.depth, strict=True):
        value = value + penalty.value(F)
    return float(value)


def largest_difference(left: Sequence[Tensor | np.ndarray], right: Sequence[Tensor | np.ndarray]) -> float:
    """max |left − right| over pairs of factors."""
    # NaN if there is one, which Python's own max may pass over.
    return float(np.max([np.abs(np.asarray(a) - np.asarray(b)).max() for a, b in zip(left, right, strict=True)]))


def normal(*shape: int, seed: int = 0, dtype: type = np.float64) -> np.ndarray:
    """An array drawn from N(0, 1)."""
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def close(ours: np.ndarray, expected: np.ndarray) -> None:
    """As near as sums of some hundred terms are in the precision of ours."""
    tolerance = 1e-12 if ours.dtype == np.float64 else 1e-4
    np.testing.assert_allclose(ours, expected, rtol=tolerance, atol=tolerance)
