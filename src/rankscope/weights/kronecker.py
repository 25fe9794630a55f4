"""W = Σ_k A_k ⊗ B_k: a sum of K Kronecker products, every one of full rank for O(√(out·in)) parameters.

With x reshaped to X (i₁×i₂) one term is (A ⊗ B) x = A X Bᵀ, so W is never needed. Reordered so that each row holds one
o₁×i₁ position and each column one o₂×i₂ position, W is a matrix of rank K: the nearest sum to a given W is that
matrix's truncated singular value decomposition.

Reference: Van Loan & Pitsianis 1993, "Approximation with Kronecker products", doi:10.1007/978-94-015-8196-7_17.
"""

import math
from typing import Self, cast, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rankscope.matrices import are_whole
from rankscope.rows import ROWS
from rankscope.spectra import singular_values
from rankscope.weights import fused, kronecker_formed_pass, kronecker_left_pass, kronecker_pass, kronecker_rows_pass
from rankscope.weights.beside import Sizes
from rankscope.weights.structure import (
    Nearest,
    Structure,
    added,
    calibrate,
    check_range,
    dense_singular_values,
    divisors,
    fill_normal,
    linear_std,
    nearest,
    padded,
    shape_of,
)

Shape = tuple[int, int]


@final
class Kronecker(Structure):
    """W = Σ_{k≤K} A_k ⊗ B_k with A (K×o₁×i₁) and B (K×o₂×i₂), o₁o₂ = out, i₁i₂ = in; both N(0, (τ²/K)^½) at the start.

    Args:
        out_features, in_features: the shape of W.
        terms: K in 1..min(o₁i₁, o₂i₂).
        left_shape: (o₁, i₁), which must divide (out, in); by default the one with the fewest parameters, of those the
            one that reaches the highest rank.
        generator: of the start; by default the global one.

    Raises:
        ValueError: the left shape does not divide W's, both sizes of W are prime and no left shape is given, or K is
            out of range.
    """

    overhead = 4_000_000  # Measured at 64 to 256 wide.
    slowness = 1.75  # Small products by the library: measured at 64 to 1,024 wide, 1 to 8 terms.

    def __init__(
        self,
        out_features: int,
        in_features: int,
        terms: int = 1,
        *,
        left_shape: Shape | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(out_features, in_features)
        o1, i1 = _smallest(out_features, in_features) if left_shape is None else left_shape
        o2, i2 = _quotient((out_features, in_features), (o1, i1))
        self.left_shape, self.right_shape = (o1, i1), (o2, i2)
        factors = f"the factors are {o1}×{i1} and {o2}×{i2}"
        self.terms = check_range("terms", terms, 1, min(o1 * i1, o2 * i2), why=factors)
        self.A = nn.Parameter(torch.empty(terms, o1, i1))
        self.B = nn.Parameter(torch.empty(terms, o2, i2))
        left_first, right_first = self._orders()
        self._from_left = left_first < right_first
        self._route = _route(terms, (o1, i1), (o2, i2), self._from_left)
        entries = out_features * in_features
        self._forms = entries <= 2**20  # Every thread has room for W and W'.
        if self._route:
            self.slowness = 1.6 if entries <= 2**16 else 1.3  # Measured at 64 to 2,048 wide, 1 to 16 terms.
        if self._forms:
            self.overhead = 0
        self.reset_parameters(generator)

    @classmethod
    def nearest(cls, W: Tensor, terms: int = 1, *, left_shape: Shape | None = None) -> Nearest[Self]:
        """The K leading terms of the Van Loan–Pitsianis decomposition of W (out×in)."""
        out_features, in_features = shape_of(W)
        return nearest(cls(out_features, in_features, terms, left_shape=left_shape, generator=torch.Generator()), W)

    def matrix(self) -> Tensor:
        return _matrix(self.A, self.B)

    def multiply(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        if self._route:
            return fused.apply(_ROUTES[self._route], x, self.B, self.A, bias)
        return (_left_first if self._from_left else _right_first)(x, self.B, self.A, bias)

    def multiply_formed(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        return fused.apply(_FORMED, x, self.B, self.A, bias) if self._forms else super().multiply_formed(x, bias)

    def matrix_flops(self) -> int:
        return 2 * self.terms * self.out_features * self.in_features

    def multiply_flops(self, batch: int) -> int:
        return batch * min(self._orders())

    @property
    def max_rank(self) -> int:
        one_term = min(self.left_shape) * min(self.right_shape)
        return min(self.terms * one_term, self.out_features, self.in_features)

    def singular_values(self) -> Tensor:
        if self.terms > 1:
            return dense_singular_values(self)
        left, right = (cast(Tensor, singular_values(part.detach()[0])) for part in (self.A, self.B))
        return padded(torch.outer(left, right), min(self.out_features, self.in_features))

    def draw(self, std: float, generator: torch.Generator | None) -> None:
        for part in (self.A, self.B):
            fill_normal(part, (std**2 / self.terms) ** 0.25, generator)

    def scale(self, factor: float) -> None:
        for part in (self.A, self.B):
            part.mul_(factor**0.5)

    def extra_repr(self) -> str:
        (o1, i1), (o2, i2) = self.left_shape, self.right_shape
        return f"{super().extra_repr()}, terms={self.terms}, ({o1}×{i1})⊗({o2}×{i2})"

    def _start(self, generator: torch.Generator | None) -> None:
        tau = linear_std(self.in_features)
        self.draw(tau, generator)
        calibrate(self, tau)

    def _approach(self, W: Tensor) -> None:
        (o1, i1), (o2, i2) = self.left_shape, self.right_shape
        rearranged = W.reshape(o1, o2, i1, i2).permute(0, 2, 1, 3).reshape(o1 * i1, o2 * i2)
        U, sigma, Vt = torch.linalg.svd(rearranged, full_matrices=False)
        root = sigma[: self.terms].sqrt()
        self.A.copy_((U[:, : self.terms] * root).mT.reshape(self.A.shape))
        self.B.copy_((root[:, None] * Vt[: self.terms]).reshape(self.B.shape))

    def _orders(self) -> tuple[int, int]:
        """The operations for one vector with A applied first, and with B applied first."""
        (o1, i1), (o2, i2) = self.left_shape, self.right_shape
        K = self.terms
        return 2 * K * (o1 * i1 * i2 + o1 * i2 * o2), 2 * K * (i1 * i2 * o2 + o1 * i1 * o2)


def _matrix(A: Tensor, B: Tensor) -> Tensor:
    (_, o1, i1), (_, o2, i2) = A.shape, B.shape
    rearranged = A.flatten(1).mT @ B.flatten(1)  # (o₁ i₁) × (o₂ i₂)
    return rearranged.view(o1, i1, o2, i2).transpose(1, 2).reshape(o1 * o2, i1 * i2)


def _right_first(x: Tensor, B: Tensor, A: Tensor, bias: Tensor | None) -> Tensor:
    # Two products, with the terms side by side in one and summed over by the other. The second is one of matrices for
    # each x, whose results lie as they are wanted; one product for all of them would have to be transposed.
    (K, o1, i1), (_, o2, i2) = A.shape, B.shape
    Z = x.reshape(-1, i2) @ B.flatten(0, 1).mT  # (batch i1) × (K o2)
    Z = Z.reshape(-1, i1, K, o2).transpose(1, 2).reshape(-1, K * i1, o2)
    left = A.transpose(0, 1).reshape(o1, K * i1)
    Y = added(None if bias is None else bias.view(1, o1, o2), left.expand(len(Z), -1, -1), Z)
    return Y.reshape(*x.shape[:-1], o1 * o2)


def _left_first(x: Tensor, B: Tensor, A: Tensor, bias: Tensor | None) -> Tensor:
    (K, o1, i1), (_, o2, i2) = A.shape, B.shape
    X = x.reshape(-1, i1, i2)
    Z = torch.bmm(A.flatten(0, 1).expand(len(X), -1, -1), X)  # batch × (K o1) × i2
    Z = Z.reshape(-1, K, o1, i2).transpose(1, 2).reshape(-1, o1, K * i2)
    Y = added(None if bias is None else bias.view(1, o1, o2), Z, B.mT.flatten(0, 1).expand(len(Z), -1, -1))
    return Y.reshape(*x.shape[:-1], o1 * o2)


def _sizes(x: Tensor, B: Tensor, A: Tensor, bias: Tensor | None) -> Sizes | None:
    (K, o1, i1), (terms, o2, i2) = A.shape, B.shape
    fit = terms == K and x.shape[-1] == i1 * i2 and (bias is None or bias.numel() == o1 * o2)
    return (K, o1, i1, o2, i2) if fit else None


_FORMED = fused.Route(
    fused.Passes(kronecker_formed_pass.forward, kronecker_formed_pass.backward, kronecker_pass.made),
    lambda x, B, A, bias: F.linear(x, _matrix(A, B), bias),
    _sizes,
)
_ROUTES = {
    "rows": fused.Route(
        fused.Passes(kronecker_rows_pass.forward, kronecker_rows_pass.backward, kronecker_pass.made),
        _right_first,
        _sizes,
    ),
    "vectors": fused.Route(
        fused.Passes(kronecker_pass.forward, kronecker_pass.backward, kronecker_pass.made), _right_first, _sizes
    ),
    "left": fused.Route(
        fused.Passes(kronecker_left_pass.forward, kronecker_left_pass.backward, kronecker_pass.made),
        _left_first,
        _sizes,
    ),
}


def _route(terms: int, left: Shape, right: Shape, from_left: bool) -> str:
    """Which passes take parts of such sizes, as measured; none where B is large, whose products are the library's."""
    if math.prod(right) > 2**12 or terms * max(math.prod(left), math.prod(right)) > 2**14:
        return ""
    if from_left:
        return "left"
    by_rows = min(left) >= ROWS and min(right) >= 32 and are_whole(*right)
    return "rows" if by_rows else "vectors"


def _smallest(out_features: int, in_features: int) -> Shape:
    """The left shape with the fewest parameters; ties go to the highest rank, then to the squarest left factor."""

    def cost(shape: Shape) -> tuple[int, int, float]:
        (o1, i1), (o2, i2) = shape, (out_features // shape[0], in_features // shape[1])
        return o1 * i1 + o2 * i2, -min(o1, i1) * min(o2, i2), max(o1, i1) / min(o1, i1)

    rows, columns = divisors(out_features), divisors(in_features)
    if len(rows) <= 2 and len(columns) <= 2:
        raise ValueError(
            f"a Kronecker product needs a size of W that factors, got {out_features}×{in_features}; "
            f"change a size to a composite number or use LowRank"
        )
    return min(((o1, i1) for o1 in rows for i1 in columns), key=cost)


def _quotient(whole: Shape, left: Shape) -> Shape:
    for name, size, part in zip(("out", "in"), whole, left, strict=True):
        if part < 1 or size % part:
            raise ValueError(
                f"left_shape must divide {whole[0]}×{whole[1]}, got {left[0]}×{left[1]}; "
                f"choose its {name} size among {', '.join(map(str, divisors(size)))}"
            )
    return whole[0] // left[0], whole[1] // left[1]
