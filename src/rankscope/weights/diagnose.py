"""Look at W before training: its mean, its size against nn.Linear's, and how many directions it uses.

A start can be lost before the first step. Where φ(0) ≠ 0 adds a constant to every entry, one direction holds nearly all
of W's energy and every unit computes the same thing; where entries are far too small or too large, no signal passes.
"""

import math
import warnings
from collections.abc import Iterator
from typing import NamedTuple, cast

import pandas as pd
import torch
from torch import Tensor, nn

from rankscope.metrics import effective_rank
from rankscope.spectra import singular_values
from rankscope.weights.linear import StructuredLinear
from rankscope.weights.nonlinear import Nonlinear
from rankscope.weights.structure import linear_std

ENERGY = 0.95
"""One direction holding more than this of ‖W‖² is a collapse, where W could have more of them."""
SPREAD = 5.0
"""A standard deviation this many times above or below nn.Linear's is one too."""


class CollapsedStartWarning(UserWarning):
    """A layer's weight has collapsed before training: to a constant, to one direction, to nothing or far too much."""


def diagnose(model: nn.Module) -> pd.DataFrame:
    """One row for each nn.Linear and StructuredLinear of an untrained model, and a warning for each that has collapsed.

    Columns: layer, structure, shape, mean and std of W's entries, std_ratio = std·√(3·in) (1 for nn.Linear),
    effective_rank, max_rank (the structure's; before φ for a nonlinear one), top_energy = σ₁²/Σσ², and problem (""
    where all is well).

    Raises:
        ValueError: the model has no such layer.
    """
    rows = []
    for layer in _weights(model):
        row = _examine(layer)
        rows.append(row)
        if row["problem"]:
            warnings.warn(
                f"layer {layer.name!r} has collapsed before training: {row['problem']}; use a calibrated start",
                CollapsedStartWarning,
                stacklevel=2,
            )
    if not rows:
        raise ValueError("the model must have an nn.Linear or StructuredLinear layer, got none; pass the whole model")
    return pd.DataFrame(rows)


class _Weight(NamedTuple):
    name: str
    structure: str
    W: Tensor
    sigma: Tensor
    max_rank: int


def _weights(model: nn.Module) -> Iterator[_Weight]:
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, StructuredLinear):
                part = module.structure
                # φ of a rank-one Z starts near rank one, and rightly: only training bends it away.
                rank = part.inner.max_rank if isinstance(part, Nonlinear) else part.max_rank
                yield _Weight(name, part.label, module.weight, part.singular_values(), rank)
            elif isinstance(module, nn.Linear):
                W = module.weight.detach()
                yield _Weight(name, "nn.Linear", W, cast(Tensor, singular_values(W)), min(W.shape))


def _examine(layer: _Weight) -> dict[str, object]:
    W, sigma = layer.W.to(torch.float64), layer.sigma
    mean, std = float(W.mean()), float(W.std(correction=0))
    ratio = std / linear_std(W.shape[1])
    energy = sigma.square()
    top = float(energy[0] / energy.sum()) if energy.sum() > 0 else 0.0
    return {
        "layer": layer.name,
        "structure": layer.structure,
        "shape": f"{W.shape[0]}×{W.shape[1]}",
        "mean": mean,
        "std": std,
        "std_ratio": ratio,
        "effective_rank": float(effective_rank.of_spectrum(sigma)),
        "max_rank": layer.max_rank,
        "top_energy": top,
        "problem": ", ".join([*_constant(mean, std, W.numel()), *_one_direction(top, layer.max_rank), *_size(ratio)]),
    }


def _constant(mean: float, std: float, entries: int) -> list[str]:
    # The mean of few entries is large by chance: std/√n is its own standard deviation.
    large = abs(mean) > std * max(1.0, 4 / math.sqrt(entries))
    return [f"W is nearly constant (mean {mean:.3g}, std {std:.3g})"] if large else []


def _one_direction(top: float, max_rank: int) -> list[str]:
    collapsed = top > ENERGY and max_rank > 1
    return [f"one direction of {max_rank} has {100 * top:.1f}% of the energy"] if collapsed else []


def _size(ratio: float) -> list[str]:
    return [] if 1 / SPREAD <= ratio <= SPREAD else [f"std is {ratio:.3g} times nn.Linear's"]
