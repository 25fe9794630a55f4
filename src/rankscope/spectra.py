"""The singular values of a matrix, dense or given as a product, without multiplying the product out.

For A = F₁ F₂ … F_L with narrow factors, the spectrum costs O((m + n) r²) and never O(mn · min(m, n)):

- ``gram``: σ² are the eigenvalues of P^½ Q P^½ with P = LᵀL, Q = R Rᵀ for any split A = L R.
  Squaring loses half of the digits: resolved down to about 1e-8 σ₁ in float64.
- ``qr``: σ are the singular values of the small core R₁ F₂ … F_{L-1} R_Lᵀ, where R₁ and R_L come from thin QR
  factorizations of the outer factors. Resolves tails that the Gram route loses.

Both work in float64 whatever the input is: a float32 Gram would blur everything below 1e-4 σ₁.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from itertools import pairwise
from typing import Any, Literal, Protocol, overload

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

NARROW = 64
"""Grams from which on a library finds eigenvalues faster than what is compiled here."""
Method = Literal["auto", "gram", "qr", "svd"]
Matrix = Tensor | ArrayLike
Factors = Sequence[Matrix]


@overload
def singular_values(A: Tensor | Sequence[Tensor], method: Method = "auto") -> Tensor: ...
@overload
def singular_values(A: ArrayLike, method: Method = "auto") -> NDArray[np.float64]: ...
def singular_values(A: Matrix | Factors, method: Method = "auto") -> Tensor | NDArray[np.float64]:
    """The singular values of A, descending, in float64.

    Args:
        A: a matrix (m×n), or a list or tuple of factors F₁ (m×r₁), F₂ (r₁×r₂), …, F_L (…×n) whose product is A.
        method: ``"gram"`` (fastest; tails below 1e-8 σ₁ are noise), ``"qr"`` (accurate tails), ``"svd"`` (LAPACK's on
            the matrix itself; on the core for a product), or ``"auto"``: svd of a matrix, qr of a product.

    Returns:
        min(m, n) values for a matrix; for a product as many as its narrowest inner dimension allows (the others are 0).
        A tensor for tensors, an array for anything else.

    Raises:
        ValueError: a factor is not 2-d, inner dimensions disagree, entries are not finite, or the method is unknown.
    """
    sigma = spectrum(as_factors(A), method)
    return sigma if is_tensor(A) else sigma.cpu().numpy()


def spectrum(factors: Sequence[Tensor], method: Method = "auto") -> Tensor:
    """``singular_values`` of the product of float64 tensors."""
    route = _ROUTES.get("svd" if method == "auto" and len(factors) == 1 else "qr" if method == "auto" else method)
    if route is None:
        raise ValueError(f"method must be one of auto, gram, qr, svd, got {method!r}")
    return route(list(factors))


def gram_singular_values(P: Tensor, Q: Tensor, threads: int = 1) -> Tensor:
    """The singular values of L R (…, r), descending, from P = LᵀL and Q = R Rᵀ (…, r, r), batched.

    With P = K Kᵀ the matrix KᵀQK is symmetric and has the eigenvalues σ². Cholesky gives K; where P is singular to
    rounding (a dead component, a start of low rank) its eigenvectors do. Components are scaled first to columns of L of
    norm 1, which changes nothing but rounding: a fit may hold one as 10¹³ times 10⁻¹³.
    """
    if P.device.type == "cpu" and P.shape[-1] <= NARROW:
        from rankscope import eigenvalues  # noqa: PLC0415  the compiler is loaded when it is needed

        sigma = P.new_empty(P.shape[:-1])
        flat = (M.reshape(-1, *M.shape[-2:]).contiguous().numpy() for M in (P, Q))
        if not eigenvalues.singular_values_of_products(*flat, sigma.view(-1, P.shape[-1]).numpy(), threads):
            return sigma
    norms = P.diagonal(dim1=-2, dim2=-1).sqrt()
    scale = torch.where(norms > 0, norms, 1.0)
    both = scale.unsqueeze(-1) * scale.unsqueeze(-2)
    P, Q = P / both, Q * both
    K, failed = torch.linalg.cholesky_ex(P)
    if failed.any():
        d, V = torch.linalg.eigh(P)
        K = V * d.clamp(min=0).sqrt().unsqueeze(-2)
    # An eigenvalue of a positive semidefinite matrix is negative by rounding only.
    return torch.linalg.eigvalsh(K.mT @ Q @ K).clamp(min=0).sqrt().flip(-1)


class Operator(Protocol):
    """A matrix A (m×n) that is only multiplied with: it may be in pieces, or not floating."""

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        ...

    def times(self, V: Tensor) -> Tensor:
        """A V (m×k)."""
        ...

    def gram_times(self, V: Tensor) -> Tensor:
        """AᵀA V (n×k)."""
        ...


def truncated_svd(A: Operator, start: Tensor, rank: int, *, iterations: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    """The leading ``rank`` singular triplets U (m×r), σ (r), V (n×r) of A by randomized subspace iteration.

    A ≈ U diag(σ) Vᵀ. Each iteration multiplies with AᵀA and re-orthonormalizes, so what lies beyond the sampled
    width shrinks by (σ_{width+1}/σ_i)² a time for triplet i.

    Args:
        A: the matrix.
        start: random (n×width), width ≥ rank; ten more than the rank is what the reference advises.
        rank: how many triplets.
        iterations: how often to multiply.

    Reference: Halko, Martinsson & Tropp 2011, SIAM Review 53(2), doi:10.1137/090771806, algorithms 4.4 and 5.1.
    """
    Z = start
    for _ in range(iterations):
        Z = torch.linalg.qr(A.gram_times(Z)).Q
    Y, R = torch.linalg.qr(A.times(Z))
    U, sigma, Vt = torch.linalg.svd(R, full_matrices=False)
    return Y @ U[:, :rank], sigma[:rank], Z @ Vt[:rank].mT


def as_factors(A: Any) -> list[Tensor]:
    """The factors of A as float64 tensors: one for a matrix, all of them for a list or tuple of 2-d matrices."""
    listed = isinstance(A, list | tuple) and len(A) > 0 and all(np.ndim(part) == 2 for part in A)
    factors = [as_tensor(part) for part in A] if listed else [as_tensor(A)]
    for F in factors:
        if F.ndim != 2:
            raise ValueError(
                f"a matrix must have 2 dimensions, got shape {tuple(F.shape)}; reshape it to rows × columns"
            )
        if not torch.isfinite(F).all():
            raise ValueError("a matrix must be finite, got NaN or inf entries; remove or impute them")
    for left, right in pairwise(factors):
        if left.shape[1] != right.shape[0]:
            shapes = " · ".join(f"{F.shape[0]}×{F.shape[1]}" for F in factors)
            raise ValueError(f"inner dimensions of a product must agree, got {shapes}")
    return factors


def as_tensor(A: Any) -> Tensor:
    """A as a float64 tensor on its own device."""
    if isinstance(A, Tensor):
        return A.to(torch.float64)
    return torch.from_numpy(np.array(A, dtype=np.float64))


def is_tensor(A: Any) -> bool:
    """Whether A is a tensor or a list of them, so that the answer is one too."""
    return isinstance(A[0] if isinstance(A, list | tuple) and len(A) > 0 else A, Tensor)


def product(factors: Sequence[Tensor]) -> Tensor:
    """F₁ F₂ … F_L, from the right, where the intermediate results are narrow."""
    return reduce(lambda right, left: left @ right, reversed(factors))


def _by_gram(factors: list[Tensor]) -> Tensor:
    if len(factors) == 1:
        (A,) = factors
        tall = A.shape[0] >= A.shape[1]
        return torch.linalg.eigvalsh(A.mT @ A if tall else A @ A.mT).clamp(min=0).sqrt().flip(-1)
    P = reduce(lambda P, F: F.mT @ P @ F, factors[1:-1], factors[0].mT @ factors[0])
    H = factors[-1]
    return gram_singular_values(P, H @ H.mT)[: _rank_bound(factors)]


def _by_qr(factors: list[Tensor]) -> Tensor:
    first, *middle, last = (
        factors if len(factors) > 1 else [factors[0], torch.eye(factors[0].shape[1], dtype=torch.float64)]
    )
    R_first = torch.linalg.qr(first, mode="r").R
    R_last = torch.linalg.qr(last.mT.to(first.device), mode="r").R
    return torch.linalg.svdvals(product([R_first, *middle, R_last.mT]))[: _rank_bound(factors)]


def _by_svd(factors: list[Tensor]) -> Tensor:
    return torch.linalg.svdvals(factors[0]) if len(factors) == 1 else _by_qr(factors)


def _rank_bound(factors: list[Tensor]) -> int:
    return min(min(F.shape) for F in factors)


_ROUTES: dict[str, Callable[[list[Tensor]], Tensor]] = {"gram": _by_gram, "qr": _by_qr, "svd": _by_svd}
