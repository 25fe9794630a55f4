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

from rankscope.studies.weight_kinds import KINDS, Kind
from rankscope.weights import Structure, StructuredLinear, fit_budget

Activation = Literal["relu", "silu", "gelu", "tanh"]


DEFAULT = ("dense", "low-rank", "nlmf", "kronecker", "nlmf-calibrated", "low-rank-4")
"""The brief's four, and what its hypothesis has to be judged by: NLMF from a sound start, low rank at equal rank."""
LEADERBOARD = (
    # What the brief's hypothesis and the targets are judged by comes first.
    *("dense", "low-rank", "low-rank-4", "kronecker-2x390", "kronecker-2x45", "nlmf-calibrated", "kronecker"),
    *("nlmf-calibrated-6x60", "kronecker-3x256", "dense-23", "sine-monarch-1x90", "nlmf"),
    # about 1,208 parameters
    *("sine-gains", "kronecker-5", "monarch-1x90", "sine", "sine-phases", "fourier", "nlmf-silu", "nlmf-monarch-1x80"),
    # Kronecker sums in between
    *("kronecker-2", "kronecker-3", "kronecker-4"),
    # about 320
    *("dense-6", "low-rank-1x86", "monarch-1x15", "sine-1x85"),
    # about 2,110
    *("dense-41", "kronecker-9", "monarch-2x80", "sine-gains-7", "nlmf-calibrated-7"),
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
