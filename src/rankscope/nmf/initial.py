"""Where a fit starts: random, eye, nndsvd, nndsvda or custom, for a chain of any depth.

Every start is scaled to fit A as well as a scale can, so that its relative error is at most 1. A start for a
multiplicative rule has no zero: an entry that starts at zero would stay there for ever, and a run locked that way
looks like low-rank bias.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from rankscope.nmf.blocks import RowBlocks, gram
from rankscope.nmf.chain import Chain

INITS = ("random", "eye", "nndsvd", "nndsvda", "custom")
FLOOR = 1e-2
"""What stands for zero under a multiplicative rule, as a fraction of the factor's mean."""


@dataclass(frozen=True)
class Start:
    """How to make the first chain.

    Args:
        layer_sizes: (r₁, …, r_{L-1}).
        init: one of ``INITS`` but custom.
        positive: replace zeros by ``FLOOR`` times the mean of their factor.
        scale: multiplies every factor; below 1 the product starts small, which is where low-rank bias shows.
    """

    layer_sizes: tuple[int, ...]
    init: str
    positive: bool = False
    scale: float = 1.0

    def chain(self, blocks: RowBlocks, generator: torch.Generator) -> Chain:
        """The first chain for A."""
        if self.init not in _MAKERS:
            raise ValueError(f"init must be one of {', '.join(INITS)}, got {self.init!r}")
        factors = _MAKERS[self.init](blocks.filled_with_means(), self.layer_sizes, generator)
        if self.positive:
            factors = [F.where(F > 0, FLOOR * F.mean()) for F in factors]
        factors[0] = factors[0].mT.contiguous().mT  # As a pass leaves it, so that none needs a copy.
        chain = Chain(tuple(factors))
        share = self.scale * best_scale(blocks, chain) ** (1 / chain.depth)
        return without_unseen(blocks, Chain(tuple(share * F for F in factors)))


def random(blocks: RowBlocks, sizes: Sequence[int], generator: torch.Generator) -> list[Tensor]:
    """Every entry uniform on [0, 1)."""
    shapes = _shapes(blocks, sizes)
    return [torch.rand(shape, generator=generator, dtype=blocks.dtype).to(blocks.A.device) for shape in shapes]


def eye(blocks: RowBlocks, sizes: Sequence[int], generator: torch.Generator) -> list[Tensor]:
    """Identities repeated until they fill their factor, over a constant floor: row i starts in component i mod r.

    A bare rectangular identity would leave all but r rows and columns at zero, where neither multiplication nor the
    gradient (their partner is zero too) can reach them. Deterministic.
    """
    like = torch.empty(0, dtype=blocks.dtype, device=blocks.A.device)
    return [_tiled_identity(a, b, like) for a, b in _shapes(blocks, sizes)]


def nndsvd(blocks: RowBlocks, sizes: Sequence[int], generator: torch.Generator) -> list[Tensor]:
    """The nonnegative double SVD, peeled from the left: A ≈ F₁ B, then B ≈ F₂ B', and so on.

    Each singular pair (u, v) gives the larger of its positive and its negative part, u₊v₊ᵀ or u₋v₋ᵀ.

    Reference: Boutsidis & Gallopoulos 2008, Pattern Recognition 41(4), doi:10.1016/j.patcog.2007.09.010.
    """
    return _peel(blocks, sizes, generator, fill=False)


def nndsvda(blocks: RowBlocks, sizes: Sequence[int], generator: torch.Generator) -> list[Tensor]:
    """nndsvd with zeros raised to the mean of the matrix that was factored."""
    return _peel(blocks, sizes, generator, fill=True)


_MAKERS: dict[str, Callable[[RowBlocks, Sequence[int], torch.Generator], list[Tensor]]] = {
    "random": random,
    "eye": eye,
    "nndsvd": nndsvd,
    "nndsvda": nndsvda,
}


def _shapes(blocks: RowBlocks, sizes: Sequence[int]) -> list[tuple[int, int]]:
    m, n = blocks.shape
    return list(pairwise([m, *sizes, n]))


def _tiled_identity(rows: int, columns: int, like: Tensor) -> Tensor:
    r = min(rows, columns)
    i = torch.arange(rows, device=like.device).unsqueeze(1)
    j = torch.arange(columns, device=like.device)
    return (i % r == j % r).to(like.dtype) + 1 / r


def _peel(blocks: RowBlocks, sizes: Sequence[int], generator: torch.Generator, *, fill: bool) -> list[Tensor]:
    r, *further = sizes
    pair = _nndsvd_pair(blocks, r, generator)
    W, rest = (F.where(F > 0, blocks.mean) for F in pair) if fill else pair
    return [W, *(_peel(RowBlocks.of(rest), further, generator, fill=fill) if further else [rest])]


def _nndsvd_pair(blocks: RowBlocks, r: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    m, n = blocks.shape
    if r > min(m, n):
        raise ValueError(
            f"n_components must be in 1..{min(m, n)} for an nndsvd start (its matrix is {m}×{n}), got {r}; "
            "lower it or use init='random'"
        )
    U, sigma, V = blocks.leading_triplets(r, generator)
    U_plus, V_plus = U.clamp(min=0), V.clamp(min=0)
    U_minus, V_minus = (-U).clamp(min=0), (-V).clamp(min=0)
    weight_plus, weight_minus = U_plus.norm(dim=0) * V_plus.norm(dim=0), U_minus.norm(dim=0) * V_minus.norm(dim=0)
    take_plus = weight_plus >= weight_minus
    u, v = torch.where(take_plus, U_plus, U_minus), torch.where(take_plus, V_plus, V_minus)
    size = (sigma * torch.where(take_plus, weight_plus, weight_minus)).sqrt()
    W, H = u * _safe(size, u.norm(dim=0)), (v * _safe(size, v.norm(dim=0))).mT.contiguous()
    return _without_rounding(W), _without_rounding(H)


def _without_rounding(F: Tensor) -> Tensor:
    """F with what rounding left where a singular vector is zero (a black pixel, say) set to zero."""
    return F.where(1e-6 * F.max() < F, 0.0)


def _safe(numerator: Tensor, denominator: Tensor) -> Tensor:
    return torch.where(denominator > 0, numerator / denominator, 0.0)


def without_unseen(blocks: RowBlocks, chain: Chain) -> Chain:
    """The chain with zeros for the rows and columns of A of which nothing was observed.

    Nothing is known of them, and nothing pulls at them: from zero their gradient is zero, so they stay.
    """
    if blocks.observed is None:
        return chain
    seen_rows, seen_columns = blocks.observed.any(1), blocks.observed.any(0)
    if seen_rows.all() and seen_columns.all():
        return chain
    factors = chain.first * seen_rows.unsqueeze(1), *chain.factors[1:-1], chain.last * seen_columns
    return chain.with_variables((*factors, *(Z * seen_columns for Z in chain.codes)))


def best_scale(blocks: RowBlocks, chain: Chain) -> float:
    """The s ≥ 0 that minimizes ‖A − s B‖², ⟨A, B⟩/‖B‖², for the product B of a chain; 1 where either is zero.

    Where entries of A are missing, B's do not count either.
    """
    R = chain.dictionary.to(torch.float64)
    first = chain.first
    if blocks.observed is not None:
        inner, squared_norm = _observed_products(blocks, first, R)
        return inner / squared_norm if inner > 0 and squared_norm > 0 else 1.0
    S, G = blocks.total(lambda rows, A_b: (first[rows].mT @ A_b, gram(first[rows])))
    inner, squared_norm = (S.to(torch.float64) * R).sum().item(), (G * (R @ R.mT)).sum().item()
    return inner / squared_norm if inner > 0 and squared_norm > 0 else 1.0


def _observed_products(blocks: RowBlocks, first: Tensor, R: Tensor) -> tuple[float, float]:
    """⟨A, B⟩ and ‖B‖² over what was observed of A, for B = F₁ R."""
    observed = blocks.observed
    assert observed is not None

    def visit(rows: slice, A_b: Tensor) -> tuple[Tensor, ...]:
        B_b = (first[rows].to(torch.float64) @ R).mul_(observed[rows])
        return (A_b.to(torch.float64) * B_b).sum(), B_b.square().sum()

    inner, squared_norm = blocks.total(visit)
    return inner.item(), squared_norm.item()
