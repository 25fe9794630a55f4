"""Where A lives: everything that touches A is a map over row blocks and a sum, and all of it is here.

A pass hands each block A_b to a visitor once; what the visitor returns is summed over the blocks. One iteration is one
pass, in which a block is used twice while it is in cache:

    C_b = A_b Rᵀ,   F₁_b ← update(F₁_b, C_b),   S += F₁_bᵀ A_b,   G += F₁_bᵀ F₁_b
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from rankscope.nmf import workers
from rankscope.spectra import truncated_svd

BLOCK_BYTES = 3 * 2**19
"""About what a core keeps near of a block of A while both of its products are taken."""
WHOLE_BYTES = 4 * 2**20
"""An A of at most this size is one block: splitting costs more than it gains."""
FLOATS = (torch.float32, torch.float64)

Visit = Callable[[slice, Tensor], tuple[Tensor, ...]]
"""(rows, A_b) → terms to be summed over the blocks."""


@dataclass(frozen=True)
class RowBlocks:
    """A (m×n) in memory, seen as blocks of ``block_rows`` rows; of any dtype, its blocks are floating."""

    A: Tensor
    block_rows: int

    @classmethod
    def of(cls, A: Tensor, block_rows: int | None = None) -> "RowBlocks":
        """A in blocks of the given number of rows, or of as many as the cache holds, equally many for each worker."""
        m, n = A.shape
        if block_rows is not None and block_rows < 1:
            raise ValueError(f"block_rows must be at least 1, got {block_rows}; leave it None to choose by the cache")
        if block_rows is None:
            size = m * n * torch.empty(0, dtype=float_dtype(A)).element_size()
            rounds = -(-size // (BLOCK_BYTES * workers.count()))
            one_block = size <= WHOLE_BYTES or A.device.type != "cpu"
            block_rows = m if one_block else -(-m // (rounds * workers.count()))
        return cls(A, min(m, block_rows))

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
    def slices(self) -> tuple[slice, ...]:
        """The row ranges, from the top."""
        m = self.shape[0]
        return tuple(slice(start, min(start + self.block_rows, m)) for start in range(0, m, self.block_rows))

    def rows(self, rows: slice | Tensor) -> Tensor:
        """Some rows of A, floating."""
        return self.A[rows].to(self.dtype)

    def subset(self, rows: Tensor) -> "RowBlocks":
        """Some rows of A, by number, as a matrix of their own."""
        return RowBlocks.of(self.rows(rows))

    def total(self, visit: Visit) -> tuple[Tensor, ...]:
        """Σ_b visit(rows, A_b), one pass over A. The order of the sum depends on nothing but the number of workers."""
        if len(self.slices) == 1:
            return visit(self.slices[0], self.rows(self.slices[0]))
        parts = min(workers.count(), len(self.slices)) if self.A.device.type == "cpu" else 1
        return _sum(workers.spread(lambda k: self._part(visit, self.slices[k::parts]), range(parts)))

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
    def squared_norm(self) -> float:
        """‖A‖²_F, summed in float64."""
        return self.total(lambda rows, A_b: (A_b.to(torch.float64).square().sum(),))[0].item()

    @cached_property
    def mean(self) -> float:
        """The mean entry of A, summed in float64."""
        return self.total(lambda rows, A_b: (A_b.sum(dtype=torch.float64),))[0].item() / self.A.numel()

    def squared_residual(self, first: Tensor, R: Tensor) -> float:
        """‖A − F₁ R‖²_F by the residual itself, in float64, a block at a time: exact where the Gram form cancels."""
        R = R.to(torch.float64)

        def visit(rows: slice, A_b: Tensor) -> tuple[Tensor, ...]:
            return (torch.addmm(A_b.to(torch.float64), first[rows].to(torch.float64), R, alpha=-1).square_().sum(),)

        return self.total(visit)[0].item()


def float_dtype(A: Tensor) -> torch.dtype:
    """A's dtype where factors can have it, otherwise float32."""
    return A.dtype if A.dtype in FLOATS else torch.float32


def gram(F: Tensor) -> Tensor:
    """FᵀF in float64. A float32 Gram would blur singular values below 1e-4 σ₁."""
    wide = F.to(torch.float64)
    return wide.mT @ wide


def _sum(parts: list[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    total, *others = parts
    for part in others:
        # The visitor's own results: nobody else holds them.
        total = tuple(a.add_(b) for a, b in zip(total, part, strict=True))
    return total
