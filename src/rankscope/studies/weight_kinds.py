"""The kinds of structures that the weight study knows, each a family by size: rank, terms, or rank of a block."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from rankscope.weights import MLP, Dense, Family, Fourier, Kronecker, LowRank, Monarch, Nonlinear, Sine
from rankscope.weights.structure import divisors


@dataclass(frozen=True)
class Kind:
    """A kind of structure by size k, the size that a bare name means, and one line on what it is."""

    family: Family
    default: int
    about: str
    published: float | None = None
    """The brief's test accuracy in percent, at the default size, 100 hidden units and one hidden layer."""
    nonlinear: bool = False
    rates: tuple[tuple[str, float], ...] = ()
    """Factors on the learning rate by pattern of the parameter's name."""


def _over_low_rank(phi: Callable[[int, int], nn.Module]) -> Family:
    return Family(lambda o, i, k: Nonlinear(phi(o, i), LowRank(o, i, k)), largest=min)


_BRIEF = {(100, 40): (10, 10), (10, 100): (2, 10)}
"""The left factors of the brief's Kronecker layers. Its 320 parameters are these; the fewest would be 305."""


def _kronecker(out_features: int, in_features: int, terms: int) -> Kronecker:
    """As the brief's: A mixes ten groups of inputs, B the neighbours in each; elsewhere what has fewest parameters."""
    left = _BRIEF.get((out_features, in_features))
    if left is None and in_features == 40:
        left = min(divisors(out_features), key=lambda o1: 10 * o1 + 4 * (out_features // o1)), 10
    return Kronecker(out_features, in_features, terms, left_shape=left)


def _terms(out_features: int, in_features: int) -> int:
    """How many Kronecker terms there can be."""
    with torch.device("meta"):
        part = _kronecker(out_features, in_features, 1)
    (o1, i1), (o2, i2) = part.left_shape, part.right_shape
    return min(o1 * i1, o2 * i2)


def _blocks(out_features: int, in_features: int) -> int:
    """How large the rank of a Monarch block can be."""
    with torch.device("meta"):
        part = Monarch(out_features, in_features)
    return min(part.n1, part.m0)


def _bent() -> MLP:
    return MLP(activation="relu", start="sine")


def _sine(o: int, i: int) -> Sine:
    return Sine(o, i)


def _sine_gains(o: int, i: int) -> Sine:
    return Sine(o, i, gains="rows and columns")


def _sine_phases(o: int, i: int) -> Sine:
    return Sine(o, i, gains="rows and columns", phases=True)


KINDS: Mapping[str, Kind] = {
    "dense": Kind(Family(lambda o, i, k: Dense(o, i), lambda o, i: 1), 1, "every entry a parameter", 70.65),
    "low-rank": Kind(Family(LowRank, min), 8, "U Vᵀ", 59.55),
    "nlmf": Kind(
        _over_low_rank(lambda o, i: MLP(start="original")), 4, "φ(U Vᵀ), the brief's φ and start", 46.35, nonlinear=True
    ),
    "nlmf-calibrated": Kind(
        _over_low_rank(lambda o, i: _bent()),
        4,
        "φ(U Vᵀ), φ of ReLUs, calibrated and bent at the start, at a tenth of the rate",
        nonlinear=True,
        # An entry of φ moves all entries of W: at the rate of U and V it cost more than a point of validation accuracy.
        rates=(("*.phi.*", 0.1),),
    ),
    "nlmf-silu": Kind(_over_low_rank(lambda o, i: MLP()), 4, "φ(U Vᵀ), the brief's φ, calibrated", nonlinear=True),
    "sine": Kind(_over_low_rank(_sine), 4, "s·sin(ω U Vᵀ), R1", nonlinear=True),
    "sine-gains": Kind(_over_low_rank(_sine_gains), 3, "a bᵀ ∘ sin(ω U Vᵀ), R2", nonlinear=True),
    "sine-phases": Kind(_over_low_rank(_sine_phases), 2, "a bᵀ ∘ sin(ω U Vᵀ + p + q), R3", nonlinear=True),
    "fourier": Kind(_over_low_rank(lambda o, i: Fourier()), 4, "a Fourier series of U Vᵀ, R5", nonlinear=True),
    "kronecker": Kind(Family(_kronecker, _terms), 1, "Σ A ⊗ B", 53.00),
    "monarch": Kind(Family(Monarch, _blocks), 1, "two block-diagonal matrices, a transpose between"),
    "nlmf-kronecker": Kind(
        Family(lambda o, i, k: Nonlinear(_bent(), _kronecker(o, i, k)), _terms),
        1,
        "φ(Σ A ⊗ B), calibrated",
        nonlinear=True,
    ),
    "nlmf-monarch": Kind(
        Family(lambda o, i, k: Nonlinear(_bent(), Monarch(o, i, k)), _blocks),
        1,
        "φ of a Monarch matrix, calibrated",
        nonlinear=True,
    ),
    "sine-kronecker": Kind(
        Family(lambda o, i, k: Nonlinear(Sine(o, i, omega=1.0), _kronecker(o, i, k)), _terms),
        1,
        "sin(ω Σ A ⊗ B)",
        nonlinear=True,
    ),
    "sine-monarch": Kind(
        Family(lambda o, i, k: Nonlinear(Sine(o, i, omega=1.0), Monarch(o, i, k)), _blocks),
        1,
        "sin of a Monarch matrix",
        nonlinear=True,
    ),
}
