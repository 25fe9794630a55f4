"""Swap the nn.Linear layers of a model for structured ones, and back.

Everything is built before anything is swapped, so a model is either converted or left exactly as it was.
"""

from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Literal, NamedTuple, TypeVar

import pandas as pd
import torch
from torch import Tensor, nn

from rankscope.weights.budget import Budget, fit_budget
from rankscope.weights.linear import StructuredLinear
from rankscope.weights.structure import Structure

Factory = Callable[[int, int], Structure]
"""(out, in) → structure, for example `lambda out, in_: LowRank(out, in_, rank=8)`."""
Patterns = str | Sequence[str]
M = TypeVar("M", bound=nn.Module)


class Conversion(NamedTuple):
    """A converted model, and what each layer cost.

    `model` is the one passed in, changed in place, unless that was itself a single layer. The table has a row a layer:
    layer, structure, parameters_before, parameters (biases included), flops_before, flops (of one input vector) and
    relative_error, ‖W − Ŵ‖²/‖W‖² against the layer's weight, NaN for a start from scratch.
    """

    model: nn.Module
    table: pd.DataFrame


def compress(
    model: nn.Module,
    structure: Factory | Budget,
    *,
    include: Patterns = "*",
    exclude: Patterns = (),
    start: Literal["nearest", "scratch"] = "nearest",
    generator: torch.Generator | None = None,
) -> Conversion:
    """Replace the model's nn.Linear layers by structured ones, as near to the trained weights as can be or anew.

    Optimizers made before hold the old parameters: make them anew.

    Args:
        model: changed in place, device, precision, training mode and frozen parameters kept.
        structure: what to put in a layer, from its (out, in), or a `Budget` for all of them together.
        include, exclude: patterns of layer names as in `model.named_modules()`, with * and ?.
        start: "nearest" to the weight (the bias is kept) or from "scratch".
        generator: of a start from scratch.

    Raises:
        ValueError: no layer matches, a layer shares its weight with another module, a structure does not suit a
            layer's shape, or a budget is too small. The model is then as it was.
    """
    if start not in ("nearest", "scratch"):
        raise ValueError(f"start must be nearest or scratch, got {start!r}; the default keeps what was learned")
    layers = _selected(model, _patterns(include), _patterns(exclude))
    structures = _structures(layers, structure, generator)
    new: dict[nn.Module, nn.Module] = {}
    rows = []
    for (name, layer), built in zip(layers.items(), structures, strict=True):
        replacement, error = _structured(name, layer, built, start, generator)
        new[layer] = replacement
        rows.append(_row(name, layer, replacement, error))
    return Conversion(_swap(model, new), pd.DataFrame(rows))


def merge(model: nn.Module) -> nn.Module:
    """Replace every StructuredLinear by an nn.Linear with the same matrix and bias, in place, and return the model.

    Raises:
        ValueError: the model has no structured layer.
    """
    layers = [module for module in model.modules() if isinstance(module, StructuredLinear)]
    if not layers:
        raise ValueError("the model must have a StructuredLinear layer to merge, got none; compress it first")
    return _swap(model, {layer: _merged(layer) for layer in layers})


def _selected(model: nn.Module, include: Sequence[str], exclude: Sequence[str]) -> dict[str, nn.Linear]:
    """The layers to swap, by their first name, a shared layer once."""
    linear = {
        name: module
        for name, module in model.named_modules(remove_duplicate=False)
        # A subclass with a forward of its own does something else than x Wᵀ + b.
        if isinstance(module, nn.Linear) and type(module).forward is nn.Linear.forward
    }
    chosen: dict[str, nn.Linear] = {}
    for name, layer in linear.items():
        wanted = any(fnmatchcase(name, pattern) for pattern in include)
        refused = any(fnmatchcase(name, pattern) for pattern in exclude)
        if wanted and not refused and layer not in chosen.values():
            chosen[name] = layer
    if not chosen:
        names = ", ".join(linear) if linear else "no nn.Linear at all"
        raise ValueError(
            f"include={list(include)} without exclude={list(exclude)} must match an nn.Linear, "
            f"got none; the model has {names or 'one unnamed nn.Linear'}"
        )
    _check_unshared(model, chosen)
    return chosen


def _check_unshared(model: nn.Module, chosen: dict[str, nn.Linear]) -> None:
    owners: dict[int, list[str]] = {}
    for name, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), []).append(name)
    for name, layer in chosen.items():
        if isinstance(layer.weight, nn.parameter.UninitializedParameter):
            raise ValueError(f"layer {name!r} must have a shape, got a lazy layer; run the model once first")
        others = [other for other in owners.get(id(layer.weight), []) if other != name]
        if others:
            raise ValueError(
                f"layer {name!r} must own its weight, got one shared with {others[0]!r}; exclude it or untie them"
            )


def _structures(
    layers: dict[str, nn.Linear], structure: Factory | Budget, generator: torch.Generator | None
) -> list[Structure]:
    shapes = {name: (layer.out_features, layer.in_features) for name, layer in layers.items()}
    if isinstance(structure, Budget):
        biases = [layer.bias is not None for layer in layers.values()]
        return fit_budget(
            shapes,
            structure.structure,
            parameters=structure.parameters,
            flops=structure.flops,
            bias=biases,
            generator=generator,
        )
    built = []
    for name, shape in shapes.items():
        try:
            built.append(structure(*shape))
        except ValueError as error:
            raise ValueError(f"layer {name!r}: {error}, or exclude the layer") from error
    if len({id(one) for one in built}) < len(built):
        raise ValueError("structure must make a new Structure for every layer, got the same one twice; build it inside")
    for (name, shape), one in zip(shapes.items(), built, strict=True):
        if not isinstance(one, Structure) or (one.out_features, one.in_features) != shape:
            got = one.label if isinstance(one, Structure) else type(one).__name__
            raise ValueError(f"layer {name!r}: structure(out, in) must return a {shape[0]}×{shape[1]} one, got {got}")
    return built


def _structured(
    name: str,
    layer: nn.Linear,
    structure: Structure,
    start: str,
    generator: torch.Generator | None,
) -> tuple[StructuredLinear, float]:
    structure = structure.to(device=layer.weight.device, dtype=layer.weight.dtype)
    error = float("nan")
    if start == "scratch":
        structure.reset_parameters(generator)
    else:
        try:
            error = structure.set_nearest(layer.weight)
        except ValueError as problem:
            raise ValueError(f"layer {name!r}: {problem}") from problem
    new = StructuredLinear(structure, layer.bias is not None, generator=generator)
    if start == "nearest":
        _copy_bias(new, layer)
    return _like(new, layer, layer.weight), error


def _merged(layer: StructuredLinear) -> nn.Linear:
    W = layer.weight.detach()
    # On the meta device first: there is nothing to draw.
    new = nn.Linear(layer.in_features, layer.out_features, layer.bias is not None, device="meta", dtype=W.dtype)
    new = new.to_empty(device=W.device)
    with torch.no_grad():
        new.weight.copy_(W)
    _copy_bias(new, layer)
    return _like(new, layer, next(layer.structure.parameters()))


def _copy_bias(new: nn.Linear | StructuredLinear, old: nn.Linear | StructuredLinear) -> None:
    with torch.no_grad():
        if new.bias is not None and old.bias is not None:
            new.bias.copy_(old.bias)


def _like(new: M, old: nn.Linear | StructuredLinear, weight: Tensor) -> M:
    """The new layer in the training mode of the old one, frozen where that is."""
    new.train(old.training)
    for name, parameter in new.named_parameters():
        source = old.bias if name == "bias" and old.bias is not None else weight
        parameter.requires_grad_(source.requires_grad)
    return new


def _swap(model: nn.Module, new: dict[nn.Module, nn.Module]) -> nn.Module:
    """Put the new layers in every place where the old ones are; all of them or none."""
    done: list[tuple[nn.Module, str, nn.Module]] = []
    try:
        for parent, name, old in list(_places(model, new)):
            setattr(parent, name, new[old])
            done.append((parent, name, old))
    except Exception:
        for parent, name, old in done:
            setattr(parent, name, old)
        raise
    return new.get(model, model)


def _places(model: nn.Module, wanted: dict[nn.Module, nn.Module]) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    for parent in model.modules():
        # Not named_children: it passes over a second name of the same layer.
        for name, child in parent._modules.items():
            if child is not None and child in wanted:
                yield parent, name, child


def _row(name: str, old: nn.Linear, new: StructuredLinear, error: float) -> dict[str, object]:
    return {
        "layer": name,
        "structure": new.structure.label,
        "parameters_before": sum(parameter.numel() for parameter in old.parameters()),
        "parameters": sum(parameter.numel() for parameter in new.parameters()),
        "flops_before": 2 * old.in_features * old.out_features,
        "flops": new.flops(),
        "relative_error": error,
    }


def _patterns(patterns: Patterns) -> list[str]:
    return [patterns] if isinstance(patterns, str) else list(patterns)
