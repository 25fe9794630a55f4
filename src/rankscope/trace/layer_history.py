"""The history of many weights as one long table: a row per step and layer."""

from array import array
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from rankscope.metrics import (
    effective_rank,
    nuclear_over_operator,
    numerical_rank,
    participation_ratio,
    resolved_rank,
    stable_rank,
)
from rankscope.trace.history import Measure, formula
from rankscope.trace.targets import Spectrum

SpectralMeasures = Mapping[str, Measure | Callable[[Any], Any]]
"""Named functions of singular values, or metrics of `rankscope.metrics`, `numerical_rank` included."""

SPECTRAL_MEASURES: SpectralMeasures = {
    "effective_rank": effective_rank,
    "nuclear_over_operator": nuclear_over_operator,
    "stable_rank": stable_rank,
    "participation_ratio": participation_ratio,
    "numerical_rank": numerical_rank,
}
"""Every metric of `rankscope.metrics` that reads a spectrum."""


@dataclass(frozen=True)
class LayerRow:
    """One weight at one step."""

    step: int
    seconds: float
    layer: str
    values: dict[str, float]
    """The measures, `moved`, and sigma_1 … sigma_k by name."""


class LayerHistory:
    """A table that grows by rows: step, seconds, layer, the measures, moved, sigma_1 … sigma_k.

    `moved` is ‖σ(W) − σ(W₀)‖ / ‖σ(W₀)‖, W₀ being the weight when it was first seen finite: how far the spectrum has
    come, and at most ‖W − W₀‖/‖W₀‖ (Mirsky 1960, doi:10.1093/qmath/11.1.50). 0/0 is 0. Singular values that a small
    matrix does not have are NaN, and so is all of a row whose weight is not finite.

    Args:
        measures: named functions of the singular values, or metrics of `rankscope.metrics`.
        top_k: how many singular values.

    Raises:
        ValueError: there is no measure, a name is taken, or `top_k` is not a whole number from 0.
    """

    def __init__(self, measures: SpectralMeasures = SPECTRAL_MEASURES, *, top_k: int = 5) -> None:
        if not isinstance(top_k, int) or isinstance(top_k, bool) or top_k < 0:
            raise ValueError(f"top_k must be a whole number from 0, got {top_k!r}; 0 records measures only")
        self._measures = dict(measures)
        self._numbers = [*self._measures, "moved", *(f"sigma_{i}" for i in range(1, top_k + 1))]
        taken = {"step", "seconds", "layer", *self._numbers[len(self._measures) :]} & set(self._measures)
        if taken:
            raise ValueError(f"measures must have names of their own, {sorted(taken)} are columns already; rename them")
        self._top_k = top_k
        # Eight bytes a number: a row of Python floats would take four times as much.
        self._steps, self._layers = array("q"), array("q")
        self._columns = {name: array("d") for name in ("seconds", *self._numbers)}
        self._names: dict[str, int] = {}
        self._first: dict[str, torch.Tensor] = {}

    def measure(self, step: int, seconds: float, layer: str, spectrum: Spectrum) -> LayerRow:
        """The row of one weight, not yet appended."""
        sigma = spectrum.sigma
        if not torch.isfinite(sigma).all():
            return LayerRow(step, seconds, layer, dict.fromkeys(self._numbers, float("nan")))
        values = {
            name: float(
                resolved_rank(sigma, spectrum.resolution) if measure is numerical_rank else formula(measure)(sigma)
            )
            for name, measure in self._measures.items()
        }
        first = self._first.setdefault(layer, sigma)
        norm, distance = float(torch.linalg.vector_norm(first)), float(torch.linalg.vector_norm(sigma - first))
        values["moved"] = distance / norm if norm > 0 else (0.0 if distance == 0 else float("inf"))
        top = sigma[: self._top_k].tolist()
        top += [float("nan")] * (self._top_k - len(top))
        values |= {f"sigma_{i}": value for i, value in enumerate(top, 1)}
        return LayerRow(step, seconds, layer, values)

    def extend(self, rows: Iterable[LayerRow]) -> None:
        """Append rows that `measure` made."""
        for row in rows:
            self._steps.append(row.step)
            self._layers.append(self._names.setdefault(row.layer, len(self._names)))
            self._columns["seconds"].append(row.seconds)
            for name in self._numbers:
                self._columns[name].append(row.values[name])

    def to_frame(self) -> pd.DataFrame:
        """All rows so far."""
        names = np.array(list(self._names), dtype=object)
        layers = names[np.array(self._layers, dtype=np.intp)] if names.size else names
        # Copies: an array with a view of it could not grow any more.
        numbers = {name: np.array(values, dtype=np.float64) for name, values in self._columns.items()}
        frame = {"step": np.array(self._steps, dtype=np.int64), "seconds": numbers.pop("seconds"), "layer": layers}
        return pd.DataFrame({**frame, **numbers})

    def __len__(self) -> int:
        return len(self._steps)
