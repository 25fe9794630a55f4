"""The models that the weight study compares, by name: a kind of structure, its size, the hidden width, or a budget.

    KIND[-SIZE][xWIDTH]        low-rank-4, kronecker-3x256, dense-23

A bare kind is the brief's: low rank 8, NLMF 4, one Kronecker term. Where a budget of parameters is given instead, a
bare kind gets the largest size that stays within it. All layers of a model have the same kind and size.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import nn

from rankscope.weights import (
    MLP,
    Dense,
    Family,
    Fourier,
    Kronecker,
    LowRank,
    Monarch,
    Nonlinear,
    Sine,
    Structure,
    StructuredLinear,
    fit_budget,
)
from rankscope.weights.structure import divisors

Activation = Literal["relu", "silu", "gelu", "tanh"]


@dataclass(frozen=True)
class Kind:
    """A kind of structure by size k, the size that a bare name means, and one line on what it is."""

    family: Family
    default: int
    about: str
    published: float | None = None
    """The brief's test accuracy in percent, at the default size, 100 hidden units and one hidden layer."""
    nonlinear: bool = False


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
        _over_low_rank(lambda o, i: _bent()), 4, "φ(U Vᵀ), φ of ReLUs, calibrated and bent at the start", nonlinear=True
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
DEFAULT = ("dense", "low-rank", "nlmf", "kronecker", "nlmf-calibrated", "low-rank-4")
"""The brief's four, and what its hypothesis has to be judged by: NLMF from a sound start, low rank at equal rank."""
LEADERBOARD = (
    # about 2,110 parameters, and the brief's dense model
    *("dense", "dense-41", "low-rank", "nlmf-calibrated-7", "sine-gains-7", "kronecker-9", "monarch-2x80"),
    # about 1,208
    *("dense-23", "low-rank-4", "nlmf", "nlmf-calibrated", "nlmf-calibrated-6x60", "nlmf-silu", "sine", "sine-gains"),
    *("sine-phases", "fourier", "kronecker-5", "monarch-1x90", "sine-monarch-1x90", "nlmf-monarch-1x80"),
    *("kronecker-3x256", "kronecker-2x390"),
    # in between: Kronecker sums
    *("kronecker-4", "kronecker-3", "kronecker-2"),
    # about 320
    *("kronecker", "dense-6", "low-rank-1x86", "sine-1x85", "monarch-1x15", "kronecker-2x45"),
)
"""What `--models all` means."""
_NAME = re.compile(r"(?P<kind>[a-z]+(?:-[a-z]+)*)(?:-(?P<size>\d+))?(?:x(?P<width>\d+))?")
_ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
}


@dataclass(frozen=True)
class WeightModel:
    """A network 40 → width → … → 10 whose weights are all of one kind and size, or within a budget."""

    name: str
    kind: Kind
    size: int
    width: int
    depth: int = 1
    activation: Activation = "relu"
    budget: int | None = None
    inputs: int = 40
    classes: int = 10

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """(out, in) of each layer."""
        widths = [self.inputs, *[self.width] * self.depth, self.classes]
        return list(zip(widths[1:], widths[:-1], strict=True))

    def structures(self) -> list[Structure]:
        """The weights, freshly started from torch's global generator."""
        if self.budget is not None:
            return fit_budget(self.shapes, self.kind.family, parameters=self.budget)
        return [self.kind.family.make(o, i, min(self.size, self.kind.family.largest(o, i))) for o, i in self.shapes]

    def build(self) -> nn.Sequential:
        """The network, freshly started from torch's global generator."""
        layers: list[nn.Module] = []
        for structure in self.structures():
            layers += [StructuredLinear(structure), _ACTIVATIONS[self.activation]()]
        return nn.Sequential(*layers[:-1])

    @property
    def num_parameters(self) -> int:
        """All trainable numbers, biases included."""
        return sum(parameter.numel() for parameter in self.counted().parameters())

    @property
    def flops(self) -> int:
        """Operations of one forward pass of one input, biases and activations left out."""
        return sum(layer.flops() for layer in self.counted() if isinstance(layer, StructuredLinear))

    @property
    def merged_flops(self) -> int:
        """The same once the weights are merged into plain matrices."""
        return sum(2 * o * i for o, i in self.shapes)

    @property
    def label(self) -> str:
        """The structures, layer by layer."""
        return " · ".join(layer.structure.label for layer in self.counted() if isinstance(layer, StructuredLinear))

    @property
    def published(self) -> float | None:
        """The brief's figure in percent, where the brief had this model."""
        brief = WeightModel(self.name, self.kind, self.kind.default, 100)
        return self.kind.published if self == brief else None

    def counted(self) -> nn.Sequential:
        """The network on the meta device, where there is nothing but shapes."""
        with torch.device("meta"):
            return self.build()


def weight_models(
    names: Sequence[str],
    *,
    hidden: int = 100,
    depth: int = 1,
    activation: Activation = "relu",
    budget: int | None = None,
    inputs: int = 40,
    classes: int = 10,
) -> list[WeightModel]:
    """The models of these names, "all" standing for the leaderboard's, each once.

    Args:
        names: KIND[-SIZE][xWIDTH]; a dense model's size is its width.
        hidden: the width where the name has none.
        depth: the number of hidden layers.
        activation: between the layers.
        budget: parameters, biases included, for each kind without a size; a dense model's width follows from it.
        inputs, classes: the sizes of the data.

    Raises:
        ValueError: an unknown kind, a size that the kind cannot have, or a budget below its smallest structure.
    """
    wanted = [name for given in names for name in (LEADERBOARD if given == "all" else (given,))]
    if not wanted:
        raise ValueError(f"models must name at least one, got none; choose among {', '.join(KINDS)}, all")
    base = WeightModel("", KINDS["dense"], 1, hidden, depth, activation, budget, inputs, classes)
    made = [_named(name, base) for name in dict.fromkeys(wanted)]
    for model in made:
        try:
            largest = max(model.kind.family.largest(*shape) for shape in model.shapes)
            model.counted()
        except ValueError as error:
            raise ValueError(f"model {model.name}: {error}") from None
        if model.size > largest:
            raise ValueError(
                f"the size of {model.name} must be in 1..{largest} for its layers, got {model.size}; lower it"
            )
    return made


def _named(name: str, base: WeightModel) -> WeightModel:
    """The model of one name; what the name leaves open is the base's."""
    parts = _NAME.fullmatch(name)
    if parts is None or parts["kind"] not in KINDS:
        raise ValueError(
            f"models must be KIND, KIND-SIZE or KIND-SIZExWIDTH, got {name!r}; "
            f"KIND is one of {', '.join(KINDS)}, or use all"
        )
    dense, kind, sized = parts["kind"] == "dense", KINDS[parts["kind"]], parts["size"] is not None
    size, width = int(parts["size"] or kind.default), int(parts["width"] or base.width)
    if size < 1 or width < 1:
        raise ValueError(f"sizes of models must be >= 1, got {name!r}; raise it")
    if dense and sized:
        size, width = 1, size
    budget = None if sized else base.budget
    label = name if parts["width"] or width == 100 or (dense and sized) else f"{name}x{width}"
    if budget is None:
        return replace(base, name=label, kind=kind, size=size, width=width, budget=None)
    if dense:
        return _widest(replace(base, name=f"{name}@{budget}", kind=kind, budget=None), budget)
    return replace(base, name=f"{label}@{budget}", kind=kind, size=size, width=width, budget=budget)


def _widest(model: WeightModel, budget: int) -> WeightModel:
    """A dense model of the largest width within the budget."""
    wider = replace(model, width=1)
    if wider.num_parameters > budget:
        raise ValueError(
            f"the budget must be at least {wider.num_parameters} parameters for a dense model, got {budget}; raise it"
        )
    while wider.num_parameters <= budget:
        model, wider = wider, replace(wider, width=wider.width + 1)
    return model
