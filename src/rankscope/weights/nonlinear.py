"""W = φ(Z), φ applied to every entry of an inner structure Z: NLMF is an MLP φ over a low-rank Z.

φ costs hardly a parameter and can raise the rank of Z to full. There is no way around forming W in the forward pass, so
it is cheaper in parameters, not in operations; once trained, it merges into a plain matrix.
"""

import copy
from collections.abc import Callable
from typing import Self, final

import torch
import torch.nn.functional as F
from torch import Tensor

from rankscope.weights.phi import Function, Phi
from rankscope.weights.structure import Nearest, Structure, dense_singular_values, linear_std, nearest


@final
class Nonlinear(Structure):
    """W = φ(Z) entry by entry, Z being the matrix of the inner structure.

    Args:
        phi: an `MLP`, `Sine`, `Fourier` or `Function`, or your own function of a tensor or module, which then stands
            in a `Function`.
        inner: the structure of Z; it starts anew, as φ wants it.
        generator: of the start; by default the global one.
    """

    def __init__(
        self, phi: Callable[[Tensor], Tensor], inner: Structure, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__(inner.out_features, inner.in_features)
        self.phi: Phi = phi if isinstance(phi, Phi) else Function(phi)
        self.inner = inner
        self.reset_parameters(generator)

    @classmethod
    def nearest(cls, W: Tensor, phi: Callable[[Tensor], Tensor], inner: Structure) -> Nearest[Self]:
        """φ and the inner structure fitted to W (out×in), from the inner structure's own nearest matrix.

        A local fit (L-BFGS in float64): never worse than the inner structure alone, for the φ that contain the
        identity (`MLP`) or nearly do (`Sine`, `Fourier`); for the user's own there is no such bound.
        """
        return nearest(cls(phi, inner, generator=torch.Generator()), W)

    def matrix(self) -> Tensor:
        return self.phi(self.inner.matrix())

    def multiply(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.linear(x, self.matrix(), bias)

    def matrix_flops(self) -> int:
        return self.inner.matrix_flops() + self.phi.flops_per_entry * self.out_features * self.in_features

    def multiply_flops(self, batch: int) -> int:
        return self.matrix_flops() + 2 * batch * self.out_features * self.in_features

    @property
    def max_rank(self) -> int:
        return min(self.out_features, self.in_features)

    def singular_values(self) -> Tensor:
        return dense_singular_values(self)

    def draw(self, std: float, generator: torch.Generator | None) -> None:
        self.phi.start(self.inner, std, generator)

    def scale(self, factor: float) -> None:
        self.phi.scale(factor)

    def extra_repr(self) -> str:
        return f"{type(self.phi).__name__}({self.phi.extra_repr()}), {self.inner.label}"

    def _start(self, generator: torch.Generator | None) -> None:
        self.draw(linear_std(self.in_features), generator)

    def _approach(self, W: Tensor) -> None:
        fitted = copy.deepcopy(self).to(torch.float64)
        # Fitted at unit size: gradients with respect to Z and to φ's amplitudes are then alike.
        size = float(W.square().mean().sqrt()) or 1.0
        fitted.inner.set_nearest(fitted.phi.aim(W / size))
        _fit(fitted, W / size)
        fitted.scale(size)
        self.load_state_dict(fitted.state_dict())


def _fit(structure: Nonlinear, W: Tensor, iterations: int = 500) -> None:
    """Minimize ‖φ(Z) − W‖²/‖W‖² over all that φ and Z are made of, its fixed amplitudes too, keeping the best."""
    norm = W.square().sum().clamp(min=torch.finfo(W.dtype).tiny)
    trained = [part.requires_grad_(True) for part in (*structure.parameters(), *structure.buffers())]
    best = (float("inf"), structure.state_dict())
    optimizer = torch.optim.LBFGS(
        trained,
        max_iter=iterations,
        max_eval=2 * iterations,
        history_size=50,
        tolerance_grad=1e-12,
        tolerance_change=1e-14,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        nonlocal best
        optimizer.zero_grad()
        value = (structure.matrix() - W).square().sum() / norm
        if value.item() < best[0]:
            best = (value.item(), {name: tensor.clone() for name, tensor in structure.state_dict().items()})
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(loss)
    structure.load_state_dict(best[1])
