"""Functions φ applied to every entry of a matrix Z: W = φ(Z) can have full rank though Z has few parameters.

A φ decides how it and the inner structure start. Two things ruin a start: φ(0) ≠ 0 adds a constant to every entry, one
direction that drowns all others; and a bounded φ without an amplitude cannot reach the size that W needs. So all but
the one start kept for comparison give W entries of mean 0 (to sampling) and standard deviation exactly τ = 1/√(3·in).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, vmap

from rankscope.weights import fused, mlp_pass
from rankscope.weights.beside import Sizes
from rankscope.weights.structure import Structure, calibrate, check_range, fill_uniform


class Phi(nn.Module, ABC):
    """φ: Z (out×in) → W (out×in), entry by entry."""

    @property
    @abstractmethod
    def flops_per_entry(self) -> int:
        """What one entry costs, an elementary function counting as one operation."""

    @abstractmethod
    def forward(self, Z: Tensor) -> Tensor:
        """φ(Z) (out×in)."""

    def of_members(self, own: Mapping[str, Tensor], Z: Tensor) -> Tensor:
        """φ(Z) for each member of a population, Z (members × out × in), by its own parameters and buffers, stacked."""
        return vmap(lambda own, z: functional_call(self, own, (z,)))(dict(own), Z)

    @abstractmethod
    def start(self, inner: Structure, std: float, generator: torch.Generator | None) -> None:
        """Draw φ and the inner structure so that the entries of φ(Z) have mean 0 and this standard deviation."""

    @abstractmethod
    def scale(self, factor: float) -> None:
        """φ ← factor·φ."""

    @abstractmethod
    def aim(self, W: Tensor) -> Tensor:
        """Set φ as near to a multiple of the identity as can be; return the Z for which φ(Z) is then near to W."""


@final
class MLP(Phi):
    """φ(z) = Σ_j w₂ⱼ·activation(w₁ⱼ z + b₁ⱼ) + b₂, a 1-h-1 network for all entries alike: 3h + 1 parameters.

    Args:
        width: h >= 2.
        activation: "silu" or "relu".
        start: "calibrated": φ is drawn at random, Z has unit variance, w₂ is rescaled and b₂ shifted so that W has mean
            0 and standard deviation τ. "sine": calibrated likewise, but φ(z) follows sin(1.5 z) for every seed.
            "original": as 1×1 convolutions start by default, Z with variance 2/in, which collapses W to almost a
            constant; kept because published figures rest on it.
        generator: of φ's own first draw; a `Nonlinear` draws again.
    """

    def __init__(
        self,
        width: int = 16,
        *,
        activation: Literal["silu", "relu"] = "silu",
        start: Literal["calibrated", "sine", "original"] = "calibrated",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_range("width", width, 2)
        if activation not in _ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(_ACTIVATIONS)}, got {activation!r}")
        if start not in ("calibrated", "sine", "original"):
            raise ValueError(f"start must be calibrated, sine or original, got {start!r}")
        self.activation, self.how = activation, start
        self.w1, self.b1, self.w2 = (nn.Parameter(torch.empty(width)) for _ in range(3))
        self.b2 = nn.Parameter(torch.empty(1))
        with torch.no_grad():
            self._draw(generator)

    @property
    def flops_per_entry(self) -> int:
        return 5 * len(self.w1)

    def forward(self, Z: Tensor) -> Tensor:
        return fused.apply(_ROUTES[self.activation], Z, torch.stack([self.w1, self.b1, self.w2]), self.b2, None)

    def of_members(self, own: Mapping[str, Tensor], Z: Tensor) -> Tensor:
        if Z.device.type != "cpu" or Z.dtype != torch.float32:
            return super().of_members(own, Z)
        from rankscope.weights import kernels  # noqa: PLC0415  its operations are registered when they are needed

        theta = torch.cat([own[name] for name in ("w1", "b1", "w2", "b2")], dim=1)
        return kernels.mlp(Z.flatten(1), theta, self.activation == "silu").reshape(Z.shape)

    def start(self, inner: Structure, std: float, generator: torch.Generator | None) -> None:
        self._draw(generator)
        if self.how == "original":
            inner.draw(math.sqrt(2 / inner.in_features), generator)
            return
        _standardize(inner, generator)
        Z = inner.matrix()
        if self.how == "sine":
            self._bend(Z)
        values = self(Z)
        self.b2.sub_(values.mean())
        # The size goes into w₂, not into a constant before φ: Adam then moves w₂ fast compared with its size, which
        # was worth four points of test accuracy on MNIST-1D.
        self.scale(std / _spread(values))

    def scale(self, factor: float) -> None:
        self.w2.mul_(factor)
        self.b2.mul_(factor)

    def aim(self, W: Tensor) -> Tensor:
        # a(z) − a(−z) = z for both activations: the identity, exactly, with two of the hidden units.
        self._draw(torch.Generator().manual_seed(0))
        self.w2.zero_()
        self.b2.zero_()
        self.b1[:2] = 0
        self.w1[:2] = torch.tensor([1.0, -1.0])
        self.w2[:2] = torch.tensor([1.0, -1.0])
        return W

    def extra_repr(self) -> str:
        return f"1-{len(self.w1)}-1, {self.activation}, {self.how}"

    def _bend(self, Z: Tensor, reach: float = 2.5, omega: float = 1.5) -> None:
        """Hinges at even distances over the range of Z, w₂ and b₂ such that φ(z) ≈ sin(ωz) (ridge regression).

        A φ drawn at random is nearly straight over that range for some seeds, and W then little more than Z.
        """
        slopes = torch.ones_like(self.w1)
        slopes[1::2] = -1
        self.w1.copy_(slopes)
        self.b1.copy_(-slopes * torch.linspace(-reach, reach, len(slopes)).to(slopes))
        z, w, b = (part.to(torch.float64) for part in (Z.reshape(-1), self.w1, self.b1))
        H = torch.cat([_ACTIVATIONS[self.activation](w[:, None] * z + b[:, None]), torch.ones_like(z)[None]])
        G = H @ H.mT
        G.diagonal().add_(1e-4 * G.diagonal().mean())
        coefficients = torch.linalg.solve(G, H @ torch.sin(omega * z))
        self.w2.copy_(coefficients[:-1])
        self.b2.copy_(coefficients[-1:])

    def _draw(self, generator: torch.Generator | None) -> None:
        """As two 1×1 convolutions start: U(±1/√fan-in)."""
        for parameter, fan_in in ((self.w1, 1), (self.b1, 1), (self.w2, len(self.w1)), (self.b2, len(self.w1))):
            if not parameter.is_meta:
                fill_uniform(parameter, 1 / math.sqrt(fan_in), generator)


@final
class Sine(Phi):
    """φ(z_ij) = g·s·sin(ω z_ij), or g·a_i·b_j·sin(ω z_ij + p_i + q_j): amplitudes, and phases, that are learned.

    At the start Z has unit variance, the amplitudes are 1 and p, q ~ U(±π/2); g, which is not learned, makes the
    standard deviation τ, that is g ≈ τ·√(2/(1 − e^(−2ω²))), or τ√2 with phases.

    Args:
        out_features, in_features: the shape of W.
        gains: "scalar" (s, one parameter) or "rows and columns" (a and b, as many as one rank costs).
        phases: whether to learn p and q (as many again).
        omega: ω > 0.

    Reference: Ji et al., ICLR 2025, arXiv:2403.19243.
    """

    def __init__(
        self,
        out_features: int,
        in_features: int,
        *,
        gains: Literal["scalar", "rows and columns"] = "scalar",
        phases: bool = False,
        omega: float = 2.0,
    ) -> None:
        super().__init__()
        if gains not in ("scalar", "rows and columns"):
            raise ValueError(f"gains must be 'scalar' or 'rows and columns', got {gains!r}")
        self.gains, self.omega = gains, _positive("omega", omega)
        sizes = ((1, 1),) if gains == "scalar" else ((out_features, 1), (1, in_features))
        self.amplitudes = nn.ParameterList([torch.ones(size) for size in sizes])
        shifts = [torch.zeros(out_features, 1), torch.zeros(1, in_features)] if phases else []
        self.phases = nn.ParameterList(shifts)
        self.register_buffer("g", torch.ones(()))

    @property
    def flops_per_entry(self) -> int:
        return 2 + len(self.amplitudes) + len(self.phases)

    def forward(self, Z: Tensor) -> Tensor:
        angle = self.omega * Z
        for phase in self.phases:
            angle = angle + phase
        W = torch.sin(angle)
        first, *others = self.amplitudes
        W = (self.g * first) * W
        for amplitude in others:
            W = W * amplitude
        return W

    def start(self, inner: Structure, std: float, generator: torch.Generator | None) -> None:
        _standardize(inner, generator)
        for amplitude in self.amplitudes:
            amplitude.fill_(1.0)
        for phase in self.phases:
            fill_uniform(phase, math.pi / 2, generator)
        self.g.fill_(1.0)
        self.g.fill_(std / _spread(self(inner.matrix())))

    def scale(self, factor: float) -> None:
        self.g.mul_(factor)

    def aim(self, W: Tensor) -> Tensor:
        for phase in self.phases:
            phase.zero_()
        for amplitude in self.amplitudes:
            amplitude.fill_(1.0)
        shrink = _small_angle(W, self.omega)
        self.g.fill_(1 / (self.omega * shrink))
        return shrink * W

    def extra_repr(self) -> str:
        return f"{self.gains}{', phases' if len(self.phases) else ''}, omega={self.omega:g}"


@final
class Fourier(Phi):
    """φ(z) = g·Σ_{k≤n} [α_k sin(kωz) + β_k cos(kωz)], started at sin(ωz): 2n parameters.

    Args:
        terms: n >= 1.
        omega: ω > 0.
    """

    def __init__(self, terms: int = 4, *, omega: float = 1.0) -> None:
        super().__init__()
        check_range("terms", terms, 1)
        self.omega = _positive("omega", omega)
        self.alpha = nn.Parameter(torch.zeros(terms))
        self.beta = nn.Parameter(torch.zeros(terms))
        self.register_buffer("g", torch.ones(()))

    @property
    def flops_per_entry(self) -> int:
        return 7 * len(self.alpha)

    def forward(self, Z: Tensor) -> Tensor:
        orders = torch.arange(1, len(self.alpha) + 1, device=Z.device, dtype=Z.dtype)
        angles = (self.omega * orders)[:, None] * Z.reshape(1, -1)
        W = (self.g * self.alpha) @ torch.sin(angles) + (self.g * self.beta) @ torch.cos(angles)
        return W.reshape(Z.shape)

    def start(self, inner: Structure, std: float, generator: torch.Generator | None) -> None:
        _standardize(inner, generator)
        self._to_sine()
        self.g.fill_(std / _spread(self(inner.matrix())))

    def scale(self, factor: float) -> None:
        self.g.mul_(factor)

    def aim(self, W: Tensor) -> Tensor:
        self._to_sine()
        shrink = _small_angle(W, self.omega)
        self.g.fill_(1 / (self.omega * shrink))
        return shrink * W

    def extra_repr(self) -> str:
        return f"terms={len(self.alpha)}, omega={self.omega:g}"

    def _to_sine(self) -> None:
        self.alpha.zero_()
        self.beta.zero_()
        self.alpha[0] = 1.0
        self.g.fill_(1.0)


@final
class Function(Phi):
    """φ(z) = g·(f(z) − c) with your own f: a function of a tensor, or a module whose parameters are then learned too.

    g and c are not learned: at the start, with Z of unit variance, they make the mean 0 and the standard deviation τ.

    Args:
        f: takes Z (out×in) and returns as many entries.
        flops_per_entry: what f costs, for the counters.
    """

    def __init__(self, f: Callable[[Tensor], Tensor], *, flops_per_entry: int = 1) -> None:
        super().__init__()
        if not callable(f):
            raise ValueError(f"f must be callable, got {type(f).__name__}; pass a function of a tensor")
        self.f = f
        self._cost = flops_per_entry
        self.register_buffer("g", torch.ones(()))
        self.register_buffer("c", torch.zeros(()))

    @property
    def flops_per_entry(self) -> int:
        return self._cost + 2

    def forward(self, Z: Tensor) -> Tensor:
        return self.g * (self.f(Z) - self.c)

    def start(self, inner: Structure, std: float, generator: torch.Generator | None) -> None:
        _standardize(inner, generator)
        self._place(inner.matrix(), 0.0, std)

    def scale(self, factor: float) -> None:
        self.g.mul_(factor)

    def aim(self, W: Tensor) -> Tensor:
        Z = W / _spread(W)
        self._place(Z, float(W.mean()), _spread(W))
        return Z

    def extra_repr(self) -> str:
        return "" if isinstance(self.f, nn.Module) else getattr(self.f, "__name__", type(self.f).__name__)

    def _place(self, Z: Tensor, mean: float, std: float) -> None:
        values = self.f(Z)
        if values.shape != Z.shape:
            raise ValueError(
                f"f must keep the shape {tuple(Z.shape)}, got {tuple(values.shape)}; apply it entry by entry"
            )
        self.g.fill_(std / _spread(values))
        self.c.fill_(float(values.mean()) - mean / float(self.g))


def _standardize(inner: Structure, generator: torch.Generator | None) -> None:
    inner.draw(1.0, generator)
    calibrate(inner, 1.0)


def _spread(W: Tensor) -> float:
    """The standard deviation of the entries, 1 where there is none."""
    value = float(W.to(torch.float64).std(correction=0))
    # Equal entries have a standard deviation of rounding errors.
    return value if math.isfinite(value) and value > 1e-9 * float(W.abs().max()) else 1.0


def _small_angle(W: Tensor, omega: float) -> float:
    """The factor that brings ω·max|W| to 0.1, where sin(x) is x to 0.2%."""
    return 0.1 / (omega * max(float(W.abs().max()), 1e-30))


def _positive(name: str, value: float) -> float:
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{name} must be a positive number, got {value}; 2 suits most")
    return float(value)


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"silu": F.silu, "relu": F.relu}


def _route(activation: str) -> fused.Route:
    passes = fused.Passes(mlp_pass.forward, mlp_pass.backward, mlp_pass.made)

    def operations(Z: Tensor, theta: Tensor, b2: Tensor, bias: Tensor | None) -> Tensor:
        w1, b1, w2 = theta
        # A product with [z; 1] does what w₁z + b₁ says in one pass over memory, and its gradients likewise.
        z = Z.reshape(1, -1)
        hidden = _ACTIVATIONS[activation](torch.stack([w1, b1], dim=1) @ torch.cat([z, torch.ones_like(z)]))
        return (w2 @ hidden + b2).reshape(Z.shape)

    def sizes(Z: Tensor, theta: Tensor, b2: Tensor, bias: Tensor | None) -> Sizes | None:
        taken = Z.dtype == torch.float32 and Z.ndim > 0 and b2.numel() == 1
        return (Z.shape[-1], theta.shape[1], int(activation == "silu")) if taken else None

    return fused.Route(passes, operations, sizes)


_ROUTES = {activation: _route(activation) for activation in _ACTIVATIONS}
