"""Every entry of W is a parameter: nn.Linear's own weight, as the structure to compare the others with."""

from typing import Self, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rankscope.weights.structure import (
    Nearest,
    Structure,
    dense_singular_values,
    fill_uniform,
    linear_std,
    nearest,
    shape_of,
)


@final
class Dense(Structure):
    """W (out×in) itself, started on ±1/√in like nn.Linear.

    Args:
        out_features, in_features: the shape of W.
        generator: of the start; by default the global one.
    """

    def __init__(self, out_features: int, in_features: int, *, generator: torch.Generator | None = None) -> None:
        super().__init__(out_features, in_features)
        self.W = nn.Parameter(torch.empty(out_features, in_features))
        self.reset_parameters(generator)

    @classmethod
    def nearest(cls, W: Tensor) -> Nearest[Self]:
        """W itself."""
        out_features, in_features = shape_of(W)
        return nearest(cls(out_features, in_features, generator=torch.Generator()), W)

    def matrix(self) -> Tensor:
        return self.W

    def multiply(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.linear(x, self.W, bias)

    def matrix_flops(self) -> int:
        return 0

    def multiply_flops(self, batch: int) -> int:
        return 2 * batch * self.W.numel()

    @property
    def max_rank(self) -> int:
        return min(self.W.shape)

    def singular_values(self) -> Tensor:
        return dense_singular_values(self)

    def draw(self, std: float, generator: torch.Generator | None) -> None:
        fill_uniform(self.W, 3**0.5 * std, generator)

    def scale(self, factor: float) -> None:
        self.W.mul_(factor)

    def _start(self, generator: torch.Generator | None) -> None:
        self.draw(linear_std(self.in_features), generator)

    def _approach(self, W: Tensor) -> None:
        self.W.copy_(W)
