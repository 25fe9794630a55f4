"""Where A lives: everything that touches A is a map over row blocks and a sum, and all of it is here.

A pass hands each block A_b to a visitor once; what the visitor returns is summed over the blocks. One iteration is one
pass, in which a block is used twice while it is in cache:

    C_b = A_b Rᵀ,   F₁_b ← update(F₁_b, C_b),   S += F₁_bᵀ A_b,   G += F₁_bᵀ F₁_b

Where entries of A are missing, the visitor gets A'_b instead: A_b where it was observed, the current product F₁_b R
elsewhere. The gradient of ½‖A' − B‖² at that product is the gradient over the observed entries, and ½‖A' − B‖² bounds
their error from above for every other B (majorization), so what descends on A' descends on them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from rankscope import team, workers
from rankscope.spectra import truncated_svd

if TYPE_CHECKING:
    from rankscope.nmf.packed_pass import Packed

BLOCK_BYTES = 3 * 2**20
"""About what a core keeps near of a block of A while both of its products are taken, and no less: each block costs some
twenty calls, at which workers wait for one another."""
WHOLE_BYTES = 2**20
"""An A of at most this size is one block: splitting costs more than it gains."""
FLOATS = (torch.float32, torch.float64)

Visit = Callable[[slice, Tensor], tuple[Tensor, ...]]
"""(rows, A_b) → terms to be summed over the blocks."""


@dataclass(frozen=True)
class RowBlocks:
    """A (m×n) in memory, seen as blocks of ``block_rows`` rows; of any dtype, its blocks are floating.

    Args:
        A: the matrix. Where it is not observed it may hold anything, NaN too.
        block_rows: how many rows a block has.
        observed: bool (m×n), True where A was observed; None where all of it was.
        fill: (F₁ (m×r), R (r×n)), whose product stands where A was not observed; None for 0 there.
        workers: among how many workers a pass is spread.
        stretch_rows: how many rows a visitor gets that goes through them by itself; None for those of a block.
    """

    A: Tensor
    block_rows: int
    observed: Tensor | None = None
    fill: tuple[Tensor, Tensor] | None = None
    workers: int = 1
    stretch_rows: int | None = None

    @classmethod
    def of(
        cls,
        A: Tensor,
        block_rows: int | None = None,
        *,
        observed: Tensor | None = None,
        among: int | None = None,
    ) -> "RowBlocks":
        """A in blocks of the given number of rows, or of as many as the cache holds, equally many for each worker."""
        m, n = A.shape
        if block_rows is not None and block_rows < 1:
            raise ValueError(f"block_rows must be at least 1, got {block_rows}; leave it None to choose by the cache")
        among, stretch_rows = among or team.size(), block_rows
        if block_rows is None:
            size = m * n * torch.empty(0, dtype=float_dtype(A)).element_size()
            rounds = -(-size // (BLOCK_BYTES * among))
            one_block = size <= WHOLE_BYTES or A.device.type != "cpu"
            block_rows = m if one_block else -(-m // (rounds * among))
            as_it_is = observed is None and A.dtype in FLOATS
            stretch_rows = m if as_it_is else block_rows
        return cls(A, min(m, block_rows), observed, workers=among, stretch_rows=stretch_rows)

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        return self.A.shape[0], self.A.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of blocks and factors: A's own, float32 for integers and half precision."""
        return float_dtype(self.A)

    def like(self, F: Tensor) -> Tensor:
        """F on A's device, in the dtype of factors; itself where it is so already."""
        return F.to(self.A.device, self.dtype)

    @cached_property
    def as_it_is(self) -> bool:
        """Whether blocks are parts of A itself."""
        return self.observed is None and self.A.dtype in FLOATS

    @cached_property
    def at_hand(self) -> bool:
        """Whether A lies on a CPU, row after row."""
        return self.A.device.type == "cpu" and self.A.is_contiguous()

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """The row ranges of the blocks, from the top."""
        return _slices(self.shape[0], self.block_rows)

    @cached_property
    def stretches(self) -> tuple[slice, ...]:
        """The row ranges for a visitor that goes through them by itself."""
        return _slices(self.shape[0], self.stretch_rows or self.block_rows)

    @property
    def team(self) -> int:
        """How many threads a visitor of stretches may use by itself."""
        return self.workers if len(self.stretches) == 1 else 1

    @property
    def whole(self) -> Tensor:
        """All rows of A, floating: A itself where it is so already."""
        return self.A if self.as_it_is else self.rows(slice(None))

    def rows(self, rows: slice | Tensor) -> Tensor:
        """Some rows of A, floating; where they were not observed, of the fill."""
        A_b = self.A[rows]
        if self.as_it_is:
            return A_b
        A_b = A_b.to(self.dtype)
        if self.observed is None:
            return A_b
        B_b = torch.zeros_like(A_b) if self.fill is None else self.fill[0][rows] @ self.fill[1]
        return overlay(A_b, self.observed[rows], B_b)

    def filled(self, first: Tensor, R: Tensor) -> "RowBlocks":
        """A' = A where it was observed and F₁ R elsewhere: a view, formed a block at a time; A itself if complete."""
        return self if self.observed is None else replace(self, fill=(first, R))

    def filled_with_means(self) -> "RowBlocks":
        """A' = A where it was observed and the mean of its column elsewhere; that of A in a column never observed."""
        if self.observed is None:
            return self
        sums = self.total(lambda rows, A_b: (A_b.sum(0, dtype=torch.float64),))[0]
        counts = self.observed.sum(0)
        means = torch.where(counts > 0, sums / counts.clamp(min=1), self.mean).to(self.dtype)
        return self.filled(means.new_ones(self.shape[0], 1), means.unsqueeze(0))

    def subset(self, rows: Tensor) -> "RowBlocks":
        """Some rows of A, by number, as a matrix of their own. Complete matrices only."""
        assert self.observed is None
        return RowBlocks.of(self.rows(rows), among=self.workers)

    def total(self, visit: Visit, *, stretches: bool = False) -> tuple[Tensor, ...]:
        """Σ_b visit(rows, A_b), one pass over A. The order of the sum depends on nothing but the number of workers.

        Args:
            visit: takes rows and gives what is summed.
            stretches: whether it goes through rows by itself, few at a time, and so may get more than a block of them.
        """
        slices = self.stretches if stretches else self.slices
        if len(slices) == 1:
            return visit(slices[0], self.rows(slices[0]))
        parts = min(self.workers, len(slices)) if self.A.device.type == "cpu" else 1
        return _sum(workers.spread(lambda k: self._part(visit, slices[k::parts]), range(parts)))

    def _part(self, visit: Visit, slices: tuple[slice, ...]) -> tuple[Tensor, ...]:
        first, *others = slices
        sums = visit(first, self.rows(first))
        for rows in others:
            sums = _sum([sums, visit(rows, self.rows(rows))])
        return sums

    def times(self, V: Tensor) -> Tensor:
        """A V (m×k) for V (n×k)."""
        product = V.new_empty(self.shape[0], V.shape[1])

        def visit(rows: slice, A_b: Tensor) -> tuple[Tensor, ...]:
            torch.mm(A_b, V, out=product[rows])
            return ()

        self.total(visit)
        return product

    def gram_times(self, V: Tensor) -> Tensor:
        """AᵀA V (n×k) for V (n×k), in one pass."""
        return self.total(lambda rows, A_b: (A_b.mT @ (A_b @ V),))[0]

    def leading_triplets(self, rank: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """U (m×r), σ (r) and V (n×r) of the truncated singular value decomposition (``truncated_svd``)."""
        n = self.shape[1]
        width = min(rank + 10, *self.shape)
        start = torch.randn(n, width, generator=generator, dtype=self.dtype, device=generator.device)
        return truncated_svd(self, start.to(self.A.device), rank)

    @cached_property
    def packed(self) -> "Packed":
        """A complete, small A on a CPU, for many compiled passes that only look."""
        from rankscope.nmf.packed_pass import pack  # noqa: PLC0415  the compiler is loaded when it is needed

        return pack(self.whole.numpy(), self.workers)

    @cached_property
    def squared_norm(self) -> float:
        """‖A‖²_F over what was observed (and the fill, if there is one), summed in float64."""
        return self.total(lambda rows, A_b: (sum_of_squares(A_b, self.team),), stretches=True)[0].item()

    @cached_property
    def mean(self) -> float:
        """The mean entry of A over what was observed, summed in float64."""
        count = self.A.numel() if self.observed is None else int(self.observed.sum())
        return self.total(lambda rows, A_b: (A_b.sum(dtype=torch.float64),))[0].item() / count


def overlay(A: Tensor, observed: Tensor, B: Tensor) -> Tensor:
    """A where it was observed and B elsewhere, written into B, on a CPU at a small part of the time of torch.where."""
    if A.device.type != "cpu":
        return torch.where(observed, A, B)
    from rankscope.nmf import kernels  # noqa: PLC0415  the compiler is loaded when it is needed

    kernels.overlay(A.numpy(), observed.numpy().view(np.uint8), B.numpy())
    return B


def sum_of_squares(A: Tensor, team: int = 1) -> Tensor:
    """‖A‖²_F in float64, without A in float64; on a CPU by so many threads."""
    if A.device.type != "cpu":
        return A.to(torch.float64).square().sum()
    from rankscope.nmf import kernels  # noqa: PLC0415

    return torch.tensor(kernels.sum_of_squares(A.reshape(-1).numpy(), team), dtype=torch.float64)


def float_dtype(A: Tensor) -> torch.dtype:
    """A's dtype where factors can have it, otherwise float32."""
    return A.dtype if A.dtype in FLOATS else torch.float32


def gram(F: Tensor) -> Tensor:
    """FᵀF in float64. A float32 Gram would blur singular values below 1e-4 σ₁."""
    wide = F.to(torch.float64)
    return wide.mT @ wide


def _slices(m: int, rows: int) -> tuple[slice, ...]:
    return tuple(slice(start, min(start + rows, m)) for start in range(0, m, rows))


def _sum(parts: list[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    total, *others = parts
    for part in others:
        # The visitor's own results: nobody else holds them.
        total = tuple(a.add_(b) for a, b in zip(total, part, strict=True))
    return total
