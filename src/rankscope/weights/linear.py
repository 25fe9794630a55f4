"""A drop-in for nn.Linear whose weight is a structure."""

from typing import final

import torch
from torch import Tensor, nn

from rankscope.weights.structure import Structure, fill_uniform


@final
class StructuredLinear(nn.Module):
    """y = x Wᵀ + b for x (…, in), W being the structure's matrix.

    Args:
        structure: W (out×in).
        bias: whether to add b (out), started on ±1/√in like nn.Linear's.
        generator: of b's start; by default the global one.
    """

    def __init__(self, structure: Structure, bias: bool = True, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.structure = structure
        self.in_features, self.out_features = structure.in_features, structure.out_features
        like = next(structure.parameters())
        self.bias = nn.Parameter(like.new_empty(self.out_features)) if bias else None
        self._reset_bias(generator)

    def forward(self, x: Tensor) -> Tensor:
        return self.structure(x, self.bias)

    @property
    def weight(self) -> Tensor:
        """W (out×in), formed anew each time: for code that reads a layer's weight."""
        return self.structure.matrix()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Start W and b anew."""
        self.structure.reset_parameters(generator)
        self._reset_bias(generator)

    def flops(self, batch: int = 1) -> int:
        """The floating-point operations of one forward pass, without the bias."""
        return self.structure.flops(batch)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"

    def _reset_bias(self, generator: torch.Generator | None) -> None:
        if self.bias is not None and not self.bias.is_meta:
            with torch.no_grad():
                fill_uniform(self.bias, self.in_features**-0.5, generator)
