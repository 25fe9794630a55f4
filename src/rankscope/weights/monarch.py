"""W made of two block-diagonal matrices with a transpose between them: every output sees every input, in O(n^1.5).

With in = m₀·m₁ and out = n₀·n₁, and R components for every pair of blocks (the block tensor-train; R = 1 is Monarch),

    W[n₀n₁, m₀m₁] = Σ_ρ C[m₁, m₀, n₀, ρ] · D[n₀, ρ, m₁, n₁].

For fixed (n₀, m₁) that is an n₁×m₀ matrix of rank R with parameters of its own, so the nearest one to a given W
truncates each block's singular value decomposition.

References: Dao et al. 2022, arXiv:2204.00595; Qiu et al. 2024, "Compute Better Spent", arXiv:2406.06248.
"""

import math
from types import ModuleType
from typing import Self, cast, final

import torch
from torch import Tensor, nn

from rankscope.compiled import Array
from rankscope.matrices import are_whole
from rankscope.spectra import spectrum
from rankscope.weights import fused, monarch_pass, monarch_tiles_pass
from rankscope.weights.beside import Places, Sizes
from rankscope.weights.structure import (
    Nearest,
    Structure,
    added,
    calibrate,
    check_range,
    divisors,
    fill_normal,
    linear_std,
    nearest,
    padded,
    shape_of,
)

Blocks = tuple[int, int]
LARGE = 2**17
"""Parameters from which on it takes less time to turn them than the vectors of a batch."""
FEW = 1024
"""Vectors up to which it does."""


@final
class Monarch(Structure):
    """W[n₀n₁, m₀m₁] = Σ_{ρ≤R} C[m₁, m₀, n₀, ρ]·D[n₀, ρ, m₁, n₁], both N(0, (τ²/R)^½) at the start.

    It has R·(n₀·in + m₁·out) parameters.

    Args:
        out_features, in_features: the shape of W.
        rank: R in 1..min(n₁, m₀).
        blocks: (n₀, m₁), how many groups of outputs and of inputs there are; they must divide (out, in). By default the
            divisors nearest to (√out, √in).
        generator: of the start; by default the global one.

    Raises:
        ValueError: the blocks do not divide W's shape, both sizes of W are prime and no blocks are given, or R is out
            of range.
    """

    overhead = 4_000_000  # Measured at 64 to 256 wide.

    def __init__(
        self,
        out_features: int,
        in_features: int,
        rank: int = 1,
        *,
        blocks: Blocks | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(out_features, in_features)
        n0, m1 = _balanced(out_features, in_features) if blocks is None else blocks
        self.n0, self.m1 = _divisor("out", out_features, n0), _divisor("in", in_features, m1)
        self.n1, self.m0 = out_features // n0, in_features // m1
        self.rank = check_range("rank", rank, 1, min(self.n1, self.m0), why=f"a block of W is {self.n1}×{self.m0}")
        self.C = nn.Parameter(torch.empty(self.m1, self.m0, self.n0, rank))
        self.D = nn.Parameter(torch.empty(self.n0, rank, self.m1, self.n1))
        self.reset_parameters(generator)

    @classmethod
    def nearest(cls, W: Tensor, rank: int = 1, *, blocks: Blocks | None = None) -> Nearest[Self]:
        """The truncated singular value decomposition of every block of W (out×in)."""
        out_features, in_features = shape_of(W)
        return nearest(cls(out_features, in_features, rank, blocks=blocks, generator=torch.Generator()), W)

    def matrix(self) -> Tensor:
        return _matrix(self.C, self.D)

    def multiply(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        return fused.apply(_COMPILED, x, self.C, self.D, bias)

    def matrix_flops(self) -> int:
        return 2 * self.rank * self.out_features * self.in_features

    def multiply_flops(self, batch: int) -> int:
        return 2 * batch * self.rank * (self.n0 * self.in_features + self.m1 * self.out_features)

    @property
    def max_rank(self) -> int:
        return min(self.n0 * min(self.n1, self.m1 * self.rank), self.m1 * min(self.m0, self.n0 * self.rank))

    def singular_values(self) -> Tensor:
        # Thin QR of each block of the two block-diagonal factors leaves a core that is never larger than W.
        C, D = (part.detach().to(torch.float64) for part in (self.C, self.D))
        right = torch.linalg.qr(C.flatten(2), mode="r").R.unflatten(2, (self.n0, self.rank))  # m1 × k0 × n0 × R
        outputs = D.permute(0, 3, 2, 1).flatten(2)  # n0 × n1 × (m1 R)
        left = torch.linalg.qr(outputs, mode="r").R.unflatten(2, (self.m1, self.rank))  # n0 × k1 × m1 × R
        core = torch.einsum("nkbr,banr->nkba", left, right).flatten(0, 1).flatten(1)
        return padded(spectrum([core]), min(self.out_features, self.in_features))

    def draw(self, std: float, generator: torch.Generator | None) -> None:
        for part in (self.C, self.D):
            fill_normal(part, (std**2 / self.rank) ** 0.25, generator)

    def scale(self, factor: float) -> None:
        for part in (self.C, self.D):
            part.mul_(factor**0.5)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, rank={self.rank}, blocks={self.n0}×{self.m1}"

    def _start(self, generator: torch.Generator | None) -> None:
        tau = linear_std(self.in_features)
        self.draw(tau, generator)
        calibrate(self, tau)

    def _approach(self, W: Tensor) -> None:
        blocks = W.reshape(self.n0, self.n1, self.m0, self.m1).permute(0, 3, 1, 2)  # n0 × m1 × n1 × m0
        U, sigma, Vt = torch.linalg.svd(blocks, full_matrices=False)
        root = sigma[..., : self.rank].sqrt()
        self.D.copy_((U[..., : self.rank] * root[..., None, :]).permute(0, 3, 1, 2))
        self.C.copy_((Vt[..., : self.rank, :] * root[..., None]).permute(1, 3, 0, 2))


def _matrix(C: Tensor, D: Tensor) -> Tensor:
    W = torch.einsum("banr,nrbk->nkab", C, D)
    return W.reshape(W.shape[0] * W.shape[1], W.shape[2] * W.shape[3])


def _by_parts(x: Tensor, C: Tensor, D: Tensor, bias: Tensor | None) -> Tensor:
    # Each step is one batch of products of matrices that lie as they are needed, forwards and backwards: the inputs are
    # regrouped within each x, which is quicker than a transposition of them all.
    (m1, m0, n0, R), n1 = C.shape, D.shape[3]
    X = x.reshape(-1, m0, m1).transpose(1, 2).contiguous().permute(1, 2, 0)  # m1 × m0 × batch
    Z = C.flatten(2).mT @ X  # m1 × (n0 R) × batch
    Z = Z.reshape(m1, n0, R, -1).permute(1, 2, 0, 3).flatten(1, 2)
    Y = added(None if bias is None else bias.view(n0, n1, 1), D.flatten(1, 2).mT, Z)
    return Y.flatten(0, 1).mT.reshape(*x.shape[:-1], n0 * n1)


def _sizes(x: Tensor, C: Tensor, D: Tensor, bias: Tensor | None) -> Sizes | None:
    (m1, m0, n0, R), n1 = C.shape, D.shape[3]
    fit = D.shape[:3] == (n0, R, m1) and x.shape[-1] == m0 * m1 and (bias is None or bias.numel() == n0 * n1)
    return (m1, m0, n0, R, n1) if fit else None


def _by_tiles(sizes: Sizes, batch: int) -> bool:
    """Whether parameters are turned, and not the vectors."""
    m1, m0, n0, R, n1 = sizes
    return m1 * n0 * R * (m0 + n1) >= LARGE and batch <= FEW and are_whole(m1, n1, n0 * R)


def _passes(sizes: Sizes, batch: int) -> ModuleType:
    return monarch_tiles_pass if _by_tiles(sizes, batch) else monarch_pass


def _forward(like: Array, sizes: Sizes, batch: int, places: Places, team: int) -> int:
    return cast(int, _passes(sizes, batch).forward(like, sizes, batch, places, team))


def _backward(like: Array, sizes: Sizes, batch: int, places: Places, team: int) -> int:
    return cast(int, _passes(sizes, batch).backward(like, sizes, batch, places, team))


def _made(batch: int, sizes: Sizes, itemsize: int) -> tuple[tuple[int, int], int]:
    return cast(tuple[tuple[int, int], int], _passes(sizes, batch).made(batch, sizes, itemsize))


_COMPILED = fused.Route(fused.Passes(_forward, _backward, _made), _by_parts, _sizes)


def _balanced(out_features: int, in_features: int) -> Blocks:
    """The divisors nearest to (√out, √in) on a log scale, the smaller of two equally near."""
    if len(divisors(out_features)) <= 2 and len(divisors(in_features)) <= 2:
        raise ValueError(
            f"Monarch needs a size of W that factors, got {out_features}×{in_features}; "
            f"change a size to a composite number or use LowRank"
        )
    n0, m1 = (
        min(divisors(size), key=lambda d, n=size: (round(abs(math.log(d * d / n)), 9), d))
        for size in (out_features, in_features)
    )
    return n0, m1


def _divisor(name: str, size: int, blocks: int) -> int:
    if blocks < 1 or size % blocks:
        raise ValueError(
            f"blocks must divide the shape of W, got {blocks} for {name} = {size}; "
            f"choose among {', '.join(map(str, divisors(size)))}"
        )
    return blocks
