"""Choose ranks, terms or blocks so that some layers together stay within a number of parameters or operations.

A family is a structure with one size, k = 1, 2, …, each larger than the one before. All layers get the same k, the
largest that fits (a layer that cannot be that large stays at its largest); what is left goes to single layers, the
smallest first. So 2,110 parameters for 40→100→10 are rank 8 in both layers.
"""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from rankscope.weights.dense import Dense
from rankscope.weights.kronecker import Kronecker
from rankscope.weights.low_rank import LowRank
from rankscope.weights.monarch import Monarch
from rankscope.weights.structure import Structure

Shape = tuple[int, int]
Shapes = Sequence[Shape] | Mapping[str, Shape]


@dataclass(frozen=True)
class Family:
    """Structures of one kind by size: `make(out, in, k)` for k in 1..`largest(out, in)`.

    NLMF, for one: `Family(lambda o, i, k: Nonlinear(MLP(), LowRank(o, i, k)), largest=min)`.
    """

    make: Callable[[int, int, int], Structure]
    largest: Callable[[int, int], int]


@dataclass(frozen=True)
class Budget:
    """What layers may cost together: trainable parameters, biases included, or operations for one input vector.

    Args:
        structure: `LowRank` (k is the rank), `Kronecker` (the terms), `Monarch` (the rank of a block), `Dense`, or a
            `Family` of your own.
        parameters, flops: exactly one of them, positive.

    Raises:
        ValueError: neither or both are given, one is not positive, or the structure has no family.
    """

    structure: type[Structure] | Family
    parameters: int | None = None
    flops: int | None = None

    def __post_init__(self) -> None:
        if (self.parameters is None) == (self.flops is None):
            raise ValueError(
                f"a budget must be either parameters or flops, got {self.parameters} and {self.flops}; give one of them"
            )
        if self.amount < 1:
            raise ValueError(f"a budget must be positive, got {self.amount} {self.unit}; raise it")
        if not isinstance(self.structure, Family) and self.structure not in _FAMILIES:
            known = ", ".join(kind.__name__ for kind in _FAMILIES)
            raise ValueError(f"structure must be one of {known} or a Family, got {self.structure!r}; pass a Family")

    @property
    def amount(self) -> int:
        """The number itself."""
        return (self.parameters or 0) if self.flops is None else self.flops

    @property
    def unit(self) -> str:
        """What it counts."""
        return "parameters" if self.flops is None else "flops"

    @property
    def family(self) -> Family:
        """The family to choose from."""
        return self.structure if isinstance(self.structure, Family) else _FAMILIES[self.structure]


def fit_budget(
    shapes: Shapes,
    structure: type[Structure] | Family,
    *,
    parameters: int | None = None,
    flops: int | None = None,
    bias: bool | Sequence[bool] = True,
    generator: torch.Generator | None = None,
) -> list[Structure]:
    """The largest structures for layers of these shapes that together stay within the budget, freshly started.

    Args:
        shapes: (out, in) of each layer, in a list or by name.
        structure: see `Budget`.
        parameters, flops: exactly one of them; parameters include the biases, flops are those of one input vector.
        bias: whether the layers have a bias, all alike or each.
        generator: of the starts.

    Raises:
        ValueError: no shape is given, the budget is below the smallest structures, or see `Budget`.
    """
    budget = Budget(structure, parameters, flops)
    pairs = list(shapes.values() if isinstance(shapes, Mapping) else shapes)
    if not pairs:
        raise ValueError("shapes must name at least one layer, got none; pass (out, in) of each")
    biases = [bias] * len(pairs) if isinstance(bias, bool) else list(bias)
    layers = [_Layer(*shape, has, budget) for shape, has in zip(pairs, biases, strict=True)]

    def total(k: int) -> int:
        return sum(layer.cost(min(k, layer.largest)) for layer in layers)

    if total(1) > budget.amount:
        raise ValueError(
            f"the budget must be at least {total(1)} {budget.unit} for these {len(layers)} layers, "
            f"got {budget.amount}; raise it or choose a smaller structure"
        )
    common = bisect_right(range(1, max(layer.largest for layer in layers) + 1), budget.amount, key=total)
    sizes = [min(common, layer.largest) for layer in layers]
    left = budget.amount - total(common)
    for index in sorted(range(len(layers)), key=lambda i: layers[i].cost(sizes[i])):
        layer, k = layers[index], sizes[index]
        affordable = left + layer.cost(k)
        grown = k + bisect_right(range(k + 1, layer.largest + 1), affordable, key=layer.cost)
        left, sizes[index] = affordable - layer.cost(grown), grown
    chosen = [layer.make(k) for layer, k in zip(layers, sizes, strict=True)]
    for built in chosen:
        built.reset_parameters(generator)
    return chosen


class _Layer:
    """One layer of a budget: its shape, and what each size costs."""

    def __init__(self, out_features: int, in_features: int, bias: bool, budget: Budget) -> None:
        self._shape, self._bias, self._budget = (out_features, in_features), bias, budget
        self.largest = budget.family.largest(out_features, in_features)
        self._costs: dict[int, int] = {}

    def make(self, k: int) -> Structure:
        return self._budget.family.make(*self._shape, k)

    def cost(self, k: int) -> int:
        if k not in self._costs:
            with torch.device("meta"):  # Counting needs no numbers.
                structure = self.make(k)
            by_parameters = structure.num_parameters + (self._shape[0] if self._bias else 0)
            self._costs[k] = by_parameters if self._budget.unit == "parameters" else structure.flops()
        return self._costs[k]


def _most_terms(out_features: int, in_features: int) -> int:
    with torch.device("meta"):
        smallest = Kronecker(out_features, in_features)
    (o1, i1), (o2, i2) = smallest.left_shape, smallest.right_shape
    return min(o1 * i1, o2 * i2)


def _largest_block(out_features: int, in_features: int) -> int:
    with torch.device("meta"):
        smallest = Monarch(out_features, in_features)
    return min(smallest.n1, smallest.m0)


_FAMILIES: dict[type[Structure], Family] = {
    Dense: Family(lambda o, i, k: Dense(o, i), largest=lambda o, i: 1),
    LowRank: Family(LowRank, largest=min),
    Kronecker: Family(Kronecker, largest=_most_terms),
    Monarch: Family(Monarch, largest=_largest_block),
}
