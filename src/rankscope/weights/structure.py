"""A structure is a small module with a matrix: W (out×in) given by few parameters, used like the weight of nn.Linear.

Every structure starts so that the entries of W have the standard deviation that nn.Linear's have,

    τ = 1/√(3·in),

because a start that composes to much less or more is lost before training begins. Floating-point operations are
counted for one forward pass: two for a multiply-add, one for an elementary function, the bias left out.
"""

import math
from abc import ABC, abstractmethod
from typing import Generic, NamedTuple, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rankscope.metrics import relative_error
from rankscope.spectra import singular_values


class Structure(nn.Module, ABC):
    """W (out×in), abstract: its parts, its product with x, its spectrum, its start and its nearest to a matrix.

    Args:
        out_features, in_features: the shape of W.

    Raises:
        ValueError: a size is not a positive integer.
    """

    def __init__(self, out_features: int, in_features: int) -> None:
        super().__init__()
        self.out_features = check_range("out_features", out_features, 1)
        self.in_features = check_range("in_features", in_features, 1)
        self._cheaper: dict[torch.Size, bool] = {}  # Whether `multiply` is, for an x of such a shape.

    overhead: int = 0
    """What `multiply_formed` costs beside its products, in floating-point operations of the same time."""

    slowness: float = 1
    """How many operations of one large product take the time of one of `multiply`."""

    @abstractmethod
    def matrix(self) -> Tensor:
        """W (out×in), formed."""

    @abstractmethod
    def multiply(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """x Wᵀ + b for x (…, in) through the parts of W."""

    @abstractmethod
    def matrix_flops(self) -> int:
        """What `matrix` costs."""

    @abstractmethod
    def multiply_flops(self, batch: int) -> int:
        """What `multiply` costs for a batch of vectors."""

    @property
    @abstractmethod
    def max_rank(self) -> int:
        """The largest rank that W can have."""

    @abstractmethod
    def singular_values(self) -> Tensor:
        """The min(out, in) singular values of W, descending, in float64, by the cheapest exact route."""

    @abstractmethod
    def draw(self, std: float, generator: torch.Generator | None) -> None:
        """Draw the parts so that the entries of W have mean 0 and, in expectation, this standard deviation."""

    @abstractmethod
    def scale(self, factor: float) -> None:
        """W ← factor·W for factor > 0, spread evenly over the parts."""

    @abstractmethod
    def _start(self, generator: torch.Generator | None) -> None: ...

    @abstractmethod
    def _approach(self, W: Tensor) -> None: ...

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """x Wᵀ + b (…, out) for x (…, in), forming W where that takes less time."""
        cheaper = self._cheaper.get(x.shape)
        if cheaper is None:
            cheaper = self._cheaper[x.shape] = self._is_cheaper(x)
        return self.multiply(x, bias) if cheaper else self.multiply_formed(x, bias)

    def multiply_formed(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """x Wᵀ + b likewise, by forming W."""
        return F.linear(x, self.matrix(), bias)

    def _is_cheaper(self, x: Tensor) -> bool:
        if x.shape[-1] != self.in_features:
            raise ValueError(f"the last dimension of x must be in_features = {self.in_features}, got {x.shape[-1]}")
        batch = x.numel() // self.in_features
        return self.slowness * self.multiply_flops(batch) <= self._dense_flops(batch) + self.overhead

    @property
    def num_parameters(self) -> int:
        """The number of trainable numbers, without a bias."""
        return sum(parameter.numel() for parameter in self.parameters())

    def flops(self, batch: int = 1) -> int:
        """The fewest floating-point operations of a forward pass of a batch of vectors, W formed or not."""
        return min(self.multiply_flops(batch), self._dense_flops(batch))

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Start anew, calibrated: the entries of W have standard deviation τ = 1/√(3·in), like nn.Linear's."""
        with torch.no_grad():
            # Sizes can be counted on the meta device, where there is nothing to draw.
            if not any(parameter.is_meta for parameter in self.parameters()):
                self._start(generator)

    def set_nearest(self, W: Tensor) -> float:
        """Move to the structure of this shape nearest to W (out×in) and return ‖W − Ŵ‖²/‖W‖².

        Raises:
            ValueError: W has another shape or entries that are not finite.
        """
        if tuple(W.shape) != (self.out_features, self.in_features):
            raise ValueError(
                f"W must be {self.out_features}×{self.in_features} like the structure, got shape {tuple(W.shape)}"
            )
        if not torch.isfinite(W).all():
            raise ValueError("W must be finite, got NaN or inf entries; train it again or leave the layer out")
        with torch.no_grad():
            self._approach(W.detach().to(torch.float64))
            return float(relative_error(W.detach(), self.matrix()))

    @property
    def label(self) -> str:
        """One line for tables, as `LowRank(100×40, rank=8)`."""
        return f"{type(self).__name__}({self.extra_repr()})"

    def extra_repr(self) -> str:
        return f"{self.out_features}×{self.in_features}"

    def _dense_flops(self, batch: int) -> int:
        return self.matrix_flops() + 2 * batch * self.out_features * self.in_features


S_co = TypeVar("S_co", bound=Structure, covariant=True)
S = TypeVar("S", bound=Structure)


class Nearest(NamedTuple, Generic[S_co]):
    """The nearest structure to a matrix W, and how far it is: ‖W − Ŵ‖²/‖W‖²."""

    structure: S_co
    relative_error: float


def nearest(structure: S, W: Tensor) -> Nearest[S]:
    """The structure moved to W's device and precision and to its nearest there."""
    moved = structure.to(device=W.device, dtype=W.dtype)
    return Nearest(moved, moved.set_nearest(W))


def added(shift: Tensor | None, left: Tensor, right: Tensor) -> Tensor:
    """shift + left @ right for batches of matrices."""
    return torch.bmm(left, right) if shift is None else torch.baddbmm(shift, left, right)


def linear_std(in_features: int) -> float:
    """τ = 1/√(3·in): what nn.Linear's uniform start on ±1/√in has."""
    return 1 / math.sqrt(3 * in_features)


def calibrate(structure: Structure, std: float) -> None:
    """Scale W so that its entries have exactly this standard deviation (a single entry is left as drawn)."""
    W = structure.matrix()
    spread = float(W.to(torch.float64).std()) if W.numel() > 1 else 0.0
    if spread > 0:
        structure.scale(std / spread)


def fill_normal(parameter: Tensor, std: float, generator: torch.Generator | None) -> None:
    """Fill with N(0, std²). The same seed gives the same values on every device and in every precision."""
    parameter.copy_(
        std * torch.randn(parameter.shape, generator=generator, dtype=torch.float64, device=_home(generator))
    )


def fill_uniform(parameter: Tensor, bound: float, generator: torch.Generator | None) -> None:
    """Fill with the uniform distribution on ±bound."""
    values = torch.rand(parameter.shape, generator=generator, dtype=torch.float64, device=_home(generator))
    parameter.copy_(bound * (2 * values - 1))


def padded(sigma: Tensor, length: int) -> Tensor:
    """The values, descending, with zeros appended up to this length."""
    ordered = sigma.flatten().sort(descending=True).values
    return F.pad(ordered, (0, length - len(ordered)))


def dense_singular_values(structure: Structure) -> Tensor:
    """The singular values of W, formed."""
    return cast(Tensor, singular_values(structure.matrix().detach()))


def shape_of(W: Tensor) -> tuple[int, int]:
    """(out, in), if W is a matrix."""
    if W.ndim != 2:
        raise ValueError(f"W must have 2 dimensions (out × in), got shape {tuple(W.shape)}; reshape it")
    out_features, in_features = W.shape
    return out_features, in_features


def divisors(n: int) -> list[int]:
    """1 … n, those that divide n."""
    small = [d for d in range(1, math.isqrt(n) + 1) if n % d == 0]
    return sorted({*small, *(n // d for d in small)})


def check_range(name: str, value: int, low: int, high: int | None = None, *, why: str = "") -> int:
    """The value, if it is an integer in low..high."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or value < low or (high is not None and value > high):
        rule = f">= {low}" if high is None else f"in {low}..{high}"
        reason = f" ({why})" if why else ""
        remedy = "lower it" if whole and value >= low else "raise it" if whole else "pass an integer"
        raise ValueError(f"{name} must be {rule}{reason}, got {value!r}; {remedy}")
    return value


def _home(generator: torch.Generator | None) -> torch.device:
    return torch.device("cpu") if generator is None else generator.device
