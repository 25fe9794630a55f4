"""Numbers read off a spectrum or a factor: how many directions a matrix really uses, and how well a product fits.

With σ₁ ≥ σ₂ ≥ … the singular values, every measure below is invariant to scale, transpose and rotation, and always

    1 ≤ stable rank ≤ nuclear/operator ≤ effective rank ≤ rank.

The zero matrix uses no direction: each of them is 0 there.
"""

from collections.abc import Callable, Sequence
from functools import update_wrapper

import numpy as np
import torch
from torch import Tensor

from rankscope.spectra import Factors, Matrix, as_factors, as_tensor, is_tensor, product, spectrum

Formula = Callable[[Tensor], Tensor]


class SpectralMeasure:
    """A formula on singular values (…, r) → (…), callable on a matrix or on the factors of a product."""

    def __init__(self, formula: Formula) -> None:
        self.of_spectrum = formula
        update_wrapper(self, formula)

    def __call__(self, A: Matrix | Factors) -> float | Tensor:
        """The measure of A (m×n), or of the product of a list of factors: a 0-d tensor for tensors, else a float."""
        return _like(A, self.of_spectrum(spectrum(as_factors(A))))

    def __repr__(self) -> str:
        return f"<measure {self.__name__}>"  # pyrefly: ignore[missing-attribute]


@SpectralMeasure
def effective_rank(sigma: Tensor) -> Tensor:
    """exp(−Σ p ln p) with p = σ/Σσ: the number of equally strong directions with the same entropy.

    Reference: Roy & Vetterli 2007, EUSIPCO, "The effective rank".
    """
    p = _ratio(sigma, sigma.sum(-1, keepdim=True))
    return torch.where(sigma[..., 0] == 0, 0.0, torch.special.entr(p).sum(-1).exp())


@SpectralMeasure
def nuclear_over_operator(sigma: Tensor) -> Tensor:
    """Σσ/σ₁, the nuclear over the operator norm.

    Reference: Chou, Gieshoff, Maly & Rauhut 2024, Appl. Comput. Harmon. Anal. 68:101595, arXiv:2011.13772.
    """
    return _ratio(sigma.sum(-1), sigma[..., 0])


@SpectralMeasure
def stable_rank(sigma: Tensor) -> Tensor:
    """Σσ²/σ₁², the squared Frobenius over the squared operator norm.

    Reference: Rudelson & Vershynin 2007, J. ACM 54(4), doi:10.1145/1255443.1255449.
    """
    return _ratio(sigma, sigma[..., :1]).square().sum(-1)


@SpectralMeasure
def participation_ratio(sigma: Tensor) -> Tensor:
    """(Σσ²)²/Σσ⁴, the number of directions that share the variance."""
    s = _ratio(sigma, sigma[..., :1]).square()
    return _ratio(s.sum(-1).square(), s.square().sum(-1))


def numerical_rank(A: Matrix | Factors) -> float | Tensor:
    """#{σ > max(m, n) · eps · σ₁}, with eps that of A's own precision (NumPy's and LAPACK's convention)."""
    outer = A if not isinstance(A, list | tuple) or np.ndim(A[0]) < 2 else A[0]
    dtype = outer.dtype if isinstance(outer, Tensor) else np.asarray(outer).dtype
    single = dtype in (torch.float32, np.float32)
    eps = float(np.finfo(np.float32 if single else np.float64).eps)
    factors = as_factors(A)
    largest = max(factors[0].shape[0], factors[-1].shape[1])
    return _like(A, resolved_rank(spectrum(factors), largest * eps))


def resolved_rank(sigma: Tensor, resolution: float) -> Tensor:
    """#{σ > resolution · σ₁} of singular values (…, r), descending: how many stand out of the rounding."""
    return (sigma > resolution * sigma[..., :1]).sum(-1).to(torch.float64)


def cosine_separation_loss(H: Matrix) -> float | Tensor:
    """‖Ĥ Ĥᵀ − I‖²_F with Ĥ the unit rows of H (r×n): 0 for orthogonal rows, r(r−1) for identical ones.

    A penalty, to be minimised. A zero row has no direction and costs 1. Differentiable when H is a tensor.
    """
    rows = H if isinstance(H, Tensor) else as_tensor(H)
    if rows.ndim != 2:
        raise ValueError(f"H must have 2 dimensions (rows × columns), got shape {tuple(rows.shape)}")
    unit = _ratio(rows, torch.linalg.vector_norm(rows, dim=1, keepdim=True))
    cosines = unit @ unit.mT
    return _like(H, (cosines - torch.eye(len(cosines), dtype=cosines.dtype, device=cosines.device)).square().sum())


def relative_error(A: Matrix, approximation: Matrix | Factors, *, block_rows: int = 4096) -> float | Tensor:
    """‖A − B‖²_F / ‖A‖²_F, in float64, B being a matrix or the product of a list of factors, never formed whole.

    Both zero: 0. Only A zero: inf.
    """
    target = A if isinstance(A, Tensor) else torch.as_tensor(np.asarray(A))
    first, *rest = as_factors(approximation)
    shape = (first.shape[0], (rest[-1] if rest else first).shape[1])
    if tuple(target.shape) != shape:
        raise ValueError(f"the approximation must have A's shape {tuple(target.shape)}, got {shape}")
    squared_error = squared_norm = torch.zeros((), dtype=torch.float64, device=target.device)
    right = product(rest) if rest else None
    for start in range(0, shape[0], block_rows):
        rows = slice(start, start + block_rows)
        block = target[rows].to(torch.float64)
        fitted = first[rows] if right is None else first[rows] @ right
        squared_error = squared_error + (block - fitted).square().sum()
        squared_norm = squared_norm + block.square().sum()
    undefined = torch.where(squared_error > 0, torch.inf, 0.0).to(torch.float64)
    return _like(A, torch.where(squared_norm > 0, squared_error / squared_norm, undefined))


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """numerator / denominator, and 0 where the denominator is 0 (with a finite gradient there too)."""
    zero = denominator == 0
    return torch.where(zero, 0.0, numerator / torch.where(zero, 1.0, denominator))


def _like(A: Matrix | Sequence[Matrix], value: Tensor) -> float | Tensor:
    return value if is_tensor(A) else value.item()
