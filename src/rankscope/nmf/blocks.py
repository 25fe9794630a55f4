"""Where A lives: everything that touches A is a map over row blocks and a sum, and all of it is here.

One sweep reads a block A_b once and uses it twice while it is in cache:

    C_b = A_b Rᵀ,   F₁_b ← update(F₁_b, C_b),   S += F₁_bᵀ A_b,   G += F₁_bᵀ F₁_b
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

BLOCK_BYTES = 4 * 2**20
"""A block of A stays in the last cache level while both of its products are taken."""


class Sweep(NamedTuple):
    """What one pass over A leaves: F₁ (m×r₁), S = F₁ᵀA (r₁×n), and in float64 G = F₁ᵀF₁ (r₁×r₁)."""

    first: Tensor
    S: Tensor
    G: Tensor


@dataclass(frozen=True)
class RowBlocks:
    """A (m×n) in memory, seen as blocks of ``block_rows`` rows."""

    A: Tensor
    block_rows: int

    @classmethod
    def of(cls, A: Tensor, block_rows: int | None = None) -> "RowBlocks":
        """A in blocks of the given number of rows, or of as many as the cache holds."""
        m, n = A.shape
        if block_rows is not None and block_rows < 1:
            raise ValueError(f"block_rows must be at least 1, got {block_rows}; leave it None to choose by the cache")
        return cls(A, min(m, block_rows or max(256, BLOCK_BYTES // (n * A.element_size()))))

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        return self.A.shape[0], self.A.shape[1]

    @cached_property
    def squared_norm(self) -> float:
        """‖A‖²_F, summed in float64."""
        return sum(self.A[rows].to(torch.float64).square().sum().item() for rows in self.slices())

    @cached_property
    def mean(self) -> float:
        """The mean entry of A, summed in float64."""
        return sum(self.A[rows].sum(dtype=torch.float64).item() for rows in self.slices()) / self.A.numel()

    def slices(self) -> Iterator[slice]:
        """The row ranges, from the top."""
        m = self.shape[0]
        return (slice(start, min(start + self.block_rows, m)) for start in range(0, m, self.block_rows))

    def sweep(self, first: Tensor, R: Tensor, update: Callable[[slice, Tensor, Tensor], Tensor]) -> Sweep:
        """One pass: F₁_b' = update(rows, F₁_b, A_b Rᵀ) for every block, with S and G of the new F₁."""
        m, n = self.shape
        if self.block_rows >= m:
            first = update(slice(0, m), first, self.A @ R.mT)
            return Sweep(first, first.mT @ self.A, _gram(first))
        updated = torch.empty_like(first)
        S = first.new_zeros(first.shape[1], n)
        G = first.new_zeros(first.shape[1], first.shape[1], dtype=torch.float64)
        for rows in self.slices():
            A_b = self.A[rows]
            F_b = update(rows, first[rows], A_b @ R.mT)
            updated[rows] = F_b
            S.addmm_(F_b.mT, A_b)
            G += _gram(F_b)
        return Sweep(updated, S, G)

    def map_first(self, first: Tensor, R: Tensor, update: Callable[[slice, Tensor, Tensor], Tensor]) -> Tensor:
        """Half a pass: F₁_b' = update(rows, F₁_b, A_b Rᵀ) for every block, and nothing summed."""
        return torch.cat([update(rows, first[rows], self.A[rows] @ R.mT) for rows in self.slices()])

    def squared_residual(self, first: Tensor, R: Tensor) -> float:
        """‖A − F₁ R‖²_F by the residual itself, in float64, a block at a time: exact where the Gram form cancels."""
        R = R.to(torch.float64)
        return sum(
            (self.A[rows].to(torch.float64) - first[rows].to(torch.float64) @ R).square().sum().item()
            for rows in self.slices()
        )


def _gram(F: Tensor) -> Tensor:
    """FᵀF in float64. A float32 Gram would blur singular values below 1e-4 σ₁."""
    wide = F.to(torch.float64)
    return wide.mT @ wide
