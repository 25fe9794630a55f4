"""The model: A ≈ F₁ F₂ … F_L with every F_i ≥ 0.

Plain NMF is L = 2 (W, H), the two-layer deep NMF is L = 3 (W1, W2, H); nothing here or above knows a depth.
F₁ has a row for every row of A. The others are small and global.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, pairwise
from numbers import Real
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rankscope.spectra import product


@dataclass(frozen=True)
class Layers:
    """What the layer-wise objective has beside the factors (see ``layerwise``).

    Args:
        codes: Z₁ (r₁×n), …, Z_{L-2} (r_{L-2}×n), which stand for F₂ … F_L, …, F_{L-1} F_L.
        weights: λ₁, …, λ_{L-1}.
    """

    codes: tuple[Tensor, ...]
    weights: tuple[float, ...]


class Layout(NamedTuple):
    """How chains of the same shapes lie in one vector."""

    sizes: NDArray[np.int64]
    """m, r₁, …, r_{L-1}, n."""
    narrowest: int
    """j."""
    places: tuple[tuple[tuple[int, ...], int], ...]
    """The shape of every variable, and where it begins."""


class Flat(NamedTuple):
    """All entries of a chain in one vector, and how they lie there."""

    theta: Tensor
    layout: Layout


@dataclass(frozen=True)
class Chain:
    """The factors F₁ (m×r₁), F₂ (r₁×r₂), …, F_L (r_{L-1}×n) of a nonnegative product, and the codes of its layers where
    the objective is layer-wise.

    Args:
        given: the factors, or their entries, of which they are then views.
        layers: the codes.
        gram: F_L F_Lᵀ (r_{L-1}×r_{L-1}) in float64, where it is known.
    """

    given: tuple[Tensor, ...] | Flat
    layers: Layers | None = None
    gram: Tensor | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.given, Flat) or self.gram is not None:
            return  # Made of a chain that was checked; and the factors of a vector may never be read.
        if len(self.factors) < 2 or any(F.ndim != 2 for F in self.factors):
            raise ValueError(f"a chain needs at least 2 factors with 2 dimensions each, got {self._shapes or 'none'}")
        if any(left.shape[1] != right.shape[0] for left, right in pairwise(self.factors)):
            raise ValueError(f"inner dimensions of the factors must agree, got {self._shapes}")
        if self.layers is not None:
            expected = [(r, self.shape[1]) for r in self.layer_sizes[:-1]]
            if [tuple(Z.shape) for Z in self.codes] != expected or len(self.weights) != self.depth - 1:
                raise AssertionError("there is a code for every inner layer but the last, and a weight for every layer")

    @cached_property
    def factors(self) -> tuple[Tensor, ...]:
        """F₁, …, F_L."""
        return self.split(self.given.theta) if isinstance(self.given, Flat) else self.given

    @property
    def depth(self) -> int:
        """L, the number of factors."""
        return len(self.factors)

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n), the shape of the product."""
        return self.factors[0].shape[0], self.factors[-1].shape[1]

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        """(r₁, …, r_{L-1}), the inner dimensions."""
        return tuple(F.shape[1] for F in self.factors[:-1])

    @property
    def first(self) -> Tensor:
        """F₁ (m×r₁)."""
        return self.factors[0]

    @property
    def last(self) -> Tensor:
        """F_L (r_{L-1}×n), the signatures: H."""
        return self.factors[-1]

    @property
    def codes(self) -> tuple[Tensor, ...]:
        """Z₁, …, Z_{L-2}; none where the objective is global."""
        return () if self.layers is None else self.layers.codes

    @property
    def weights(self) -> tuple[float, ...]:
        """λ₁, …, λ_{L-1}; none where the objective is global."""
        return () if self.layers is None else self.layers.weights

    @property
    def variables(self) -> tuple[Tensor, ...]:
        """All that a fit moves: the factors, then the codes."""
        return (*self.factors, *self.codes)

    @property
    def levels(self) -> tuple[Tensor, ...]:
        """(Z₁, …, Z_{L-1}) with Z_{L-1} = F_L: what each of F₁ … F_{L-1} is multiplied by, layer-wise."""
        return (*self.codes, self.last)

    @property
    def basis(self) -> Tensor:
        """The rows (r₁×n) that F₁ is fitted with: Z₁ layer-wise, F₂ … F_L otherwise."""
        return self.dictionary if self.layers is None else self.levels[0]

    @property
    def rights(self) -> tuple[Tensor, ...]:
        """(R₁, …, R_{L-1}), the products to the right of each factor but the last: R_i = F_{i+1} … F_L."""
        return tuple(self.right(i) for i in range(1, self.depth))

    def right(self, i: int) -> Tensor:
        """R_i (r_i×n); multiplied once."""
        while len(self._rights) < self.depth - i:
            self._rights.append(self.factors[-1 - len(self._rights)] @ self._rights[-1])
        return self._rights[self.depth - 1 - i]

    @cached_property
    def _rights(self) -> list[Tensor]:
        """Those that were asked for, the last one first."""
        return [self.last]

    @property
    def right_grams(self) -> tuple[Tensor, ...]:
        """(R₁R₁ᵀ, …, R_{L-1}R_{L-1}ᵀ) in float64: the solvers' Q, and one half of the spectrum."""
        return tuple(self.right_gram(i) for i in range(1, self.depth))

    def right_gram(self, i: int) -> Tensor:
        """R_iR_iᵀ (r_i×r_i) in float64; taken once."""
        while len(self._right_grams) < self.depth - i:
            F = self.inner_in_float64[-len(self._right_grams)]
            self._right_grams.append(F @ self._right_grams[-1] @ F.mT)
        return self._right_grams[self.depth - 1 - i]

    @cached_property
    def _right_grams(self) -> list[Tensor]:
        """Those that were asked for, the last one first."""
        if self.gram is not None:
            return [self.gram]
        last = self.last.to(torch.float64)
        return [last @ last.mT]

    @cached_property
    def inner_in_float64(self) -> tuple[Tensor, ...]:
        """F₂, …, F_{L-1} in float64."""
        return tuple(F.to(torch.float64) for F in self.factors[1:-1])

    @property
    def dictionary(self) -> Tensor:
        """F₂ … F_L (r₁×n): the rows that F₁ combines."""
        return self.right(1)

    @cached_property
    def narrowest(self) -> int:
        """The j in 1..L-1 with the smallest r_j: where products with A cost least; the last of equals."""
        sizes = self.layer_sizes
        return len(sizes) - min(range(len(sizes)), key=lambda k: sizes[len(sizes) - 1 - k])

    def product(self) -> Tensor:
        """F₁ … F_L (m×n), formed whole."""
        return product(self.factors)

    def flat(self) -> Tensor:
        """All entries of the variables as one vector."""
        return torch.cat([F.reshape(-1) for F in self.variables])

    def like(self, theta: Tensor) -> "Chain":
        """The chain of these shapes whose entries are the vector ``theta``."""
        return Chain(Flat(theta, self.layout)) if self.layers is None else self.with_variables(self.split(theta))

    def split(self, theta: Tensor) -> tuple[Tensor, ...]:
        """The entries of a vector as matrices of the variables' shapes: views of it."""
        theta = theta.contiguous()
        offset = theta.storage_offset()
        return tuple(theta.as_strided(shape, (shape[1], 1), offset + begin) for shape, begin in self.layout.places)

    @cached_property
    def layout(self) -> Layout:
        """Chains that are ``like`` this one share it."""
        if isinstance(self.given, Flat):
            return self.given.layout
        shapes = [tuple(F.shape) for F in self.variables]
        begins = accumulate((F.numel() for F in self.variables), initial=0)
        sizes = np.array((self.shape[0], *self.layer_sizes, self.shape[1]))
        return Layout(sizes, self.narrowest, tuple(zip(shapes, begins, strict=False)))

    def with_variables(self, variables: tuple[Tensor, ...]) -> "Chain":
        """The chain of other variables, in their order."""
        L = self.depth
        return Chain(variables[:L], None if self.layers is None else Layers(variables[L:], self.weights))

    def replaced(self, place: int, F: Tensor) -> "Chain":
        """The chain with another variable at a place."""
        return self.with_variables((*self.variables[:place], F, *self.variables[place + 1 :]))

    def layered(self, weights: tuple[float, ...]) -> "Chain":
        """The chain with codes, which start as the products that they stand for: every term but the first is 0."""
        return Chain(self.factors, Layers(self.rights[:-1], weights))

    @property
    def _shapes(self) -> str:
        return " · ".join("×".join(map(str, F.shape)) for F in self.factors)


def broadcast_per_factor(value: float | Sequence[float], depth: int, name: str) -> tuple[float, ...]:
    """One number for every factor: a number is repeated, a sequence must have one entry each."""
    values = (float(value),) * depth if isinstance(value, float | Real) else tuple(float(v) for v in value)
    if len(values) != depth:
        raise ValueError(
            f"{name} must be one number or one for each of the {depth} factors, got {len(values)}; pass one for all"
        )
    if any(not v >= 0 or v == float("inf") for v in values):  # Written so that NaN is refused too.
        raise ValueError(f"{name} must be finite and at least 0, got {value}; pass 0 for none")
    return values
