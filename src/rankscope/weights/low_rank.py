"""W = U Vᵀ: r directions out of min(out, in).

The nearest one to a matrix keeps its r leading singular triplets (Eckart & Young 1936, doi:10.1007/BF02288367), so the
squared error is the tail Σ_{i>r} σ_i².
"""

from typing import Self, cast, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rankscope.rows import ROWS
from rankscope.spectra import singular_values
from rankscope.weights import fused, low_rank_pass
from rankscope.weights.beside import Sizes
from rankscope.weights.structure import (
    Nearest,
    Structure,
    calibrate,
    check_range,
    fill_normal,
    linear_std,
    nearest,
    padded,
    shape_of,
)


@final
class LowRank(Structure):
    """W = U Vᵀ with U (out×r) and V (in×r), both N(0, (τ²/r)^½) at the start.

    Args:
        out_features, in_features: the shape of W.
        rank: r in 1..min(out, in).
        generator: of the start; by default the global one.

    Raises:
        ValueError: the rank is out of range.
    """

    def __init__(
        self, out_features: int, in_features: int, rank: int, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__(out_features, in_features)
        self.rank = check_range(
            "rank", rank, 1, min(out_features, in_features), why=f"W is {out_features}×{in_features}"
        )
        self.U = nn.Parameter(torch.empty(out_features, rank))
        self.V = nn.Parameter(torch.empty(in_features, rank))
        self.reset_parameters(generator)

    @classmethod
    def nearest(cls, W: Tensor, rank: int) -> Nearest[Self]:
        """The truncated singular value decomposition of W (out×in)."""
        out_features, in_features = shape_of(W)
        return nearest(cls(out_features, in_features, rank, generator=torch.Generator()), W)

    def matrix(self) -> Tensor:
        return self.U @ self.V.mT

    def multiply(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        return fused.apply(_COMPILED, x, self.V, self.U, bias)

    def matrix_flops(self) -> int:
        return 2 * self.out_features * self.in_features * self.rank

    def multiply_flops(self, batch: int) -> int:
        return 2 * batch * self.rank * (self.out_features + self.in_features)

    @property
    def max_rank(self) -> int:
        return self.rank

    def singular_values(self) -> Tensor:
        sigma = cast(Tensor, singular_values([self.U.detach(), self.V.detach().mT]))
        return padded(sigma, min(self.out_features, self.in_features))

    def draw(self, std: float, generator: torch.Generator | None) -> None:
        for factor in (self.U, self.V):
            fill_normal(factor, (std**2 / self.rank) ** 0.25, generator)

    def scale(self, factor: float) -> None:
        for part in (self.U, self.V):
            part.mul_(factor**0.5)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, rank={self.rank}"

    def _start(self, generator: torch.Generator | None) -> None:
        tau = linear_std(self.in_features)
        self.draw(tau, generator)
        calibrate(self, tau)

    def _approach(self, W: Tensor) -> None:
        U, sigma, Vt = torch.linalg.svd(W, full_matrices=False)
        # √σ on either side: balanced factors are where gradient descent likes to start.
        root = sigma[: self.rank].sqrt()
        self.U.copy_(U[:, : self.rank] * root)
        self.V.copy_(Vt[: self.rank].mT * root)


def _by_library(x: Tensor, V: Tensor, U: Tensor, bias: Tensor | None) -> Tensor:
    return F.linear(x @ V, U, bias)


def _sizes(x: Tensor, V: Tensor, U: Tensor, bias: Tensor | None) -> Sizes | None:
    (i, r), (o, s) = V.shape, U.shape
    fit = r == s and x.shape[-1] == i and (bias is None or bias.numel() == o)
    # Of fewer vectors than are multiplied at once the library's products are faster.
    return (i, r, o) if fit and x.numel() >= i * ROWS else None


_COMPILED = fused.Route(
    fused.Passes(low_rank_pass.forward, low_rank_pass.backward, low_rank_pass.made), _by_library, _sizes
)
