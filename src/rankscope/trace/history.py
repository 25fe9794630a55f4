"""History: one row a step, from singular values and errors to a table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from rankscope.metrics import SpectralMeasure, effective_rank, nuclear_over_operator

Measure = SpectralMeasure | Callable[[Tensor], Tensor]
"""A function of singular values (…, r) → (…), or one of ``rankscope.metrics``."""

Columns = dict[str, NDArray[Any]]
"""Rows of a history by column."""

MEASURES: Mapping[str, Measure] = {
    "effective_rank": effective_rank,
    "nuclear_over_operator": nuclear_over_operator,
}


@dataclass(frozen=True)
class Rows:
    """The measurements of T consecutive steps."""

    step: Sequence[int]
    seconds: Sequence[float]
    relative_error: Tensor
    """‖A − B‖²/‖A‖² (T)."""
    absolute_error: Tensor
    """‖A − B‖_F (T)."""
    sigma: Tensor
    """The singular values of B, descending (T, r)."""
    further: Mapping[str, Tensor] = field(default_factory=dict)
    """Columns of their own (T), the same ones in every batch of rows."""


@dataclass
class History:
    """A table that grows: step, seconds, relative and absolute error, the measures, σ₁ and σ₂ (0 for rank one), and
    whatever further columns the rows bring.

    Args:
        measures: further named functions of the singular values, a column each beside those of ``MEASURES``.
    """

    measures: Mapping[str, Measure] = field(default_factory=dict)
    _parts: list[Columns] = field(default_factory=list, init=False, repr=False)
    _further: tuple[str, ...] = field(default=(), init=False, repr=False)

    def __post_init__(self) -> None:
        self.measures = {**MEASURES, **self.measures}

    def extend(self, rows: Rows) -> Columns:
        """Append the rows and return them by column."""
        sigma = rows.sigma
        second = sigma[:, 1] if sigma.shape[1] > 1 else torch.zeros_like(sigma[:, 0])
        measured = {name: formula(measure)(sigma) for name, measure in self.measures.items()}
        tensors = {"relative_error": rows.relative_error, "absolute_error": rows.absolute_error, **measured}
        tensors |= {"sigma_1": sigma[:, 0], "sigma_2": second, **rows.further}
        self._further = tuple(rows.further)
        part = {"step": np.array(rows.step), "seconds": np.array(rows.seconds)}
        part |= {name: value.cpu().numpy() for name, value in tensors.items()}
        self._parts.append(part)
        return part

    def to_frame(self) -> pd.DataFrame:
        """All rows so far."""
        if not self._parts:
            return pd.DataFrame(columns=self.columns)
        # Merged in place, so that asking often does not join the same parts again and again.
        self._parts[:] = [{name: np.concatenate([part[name] for part in self._parts]) for name in self.columns}]
        return pd.DataFrame({name: values.copy() for name, values in self._parts[0].items()})

    @property
    def columns(self) -> list[str]:
        """The names of the columns, in order."""
        return [
            "step",
            "seconds",
            "relative_error",
            "absolute_error",
            *self.measures,
            "sigma_1",
            "sigma_2",
            *self._further,
        ]

    def __len__(self) -> int:
        return sum(len(part["step"]) for part in self._parts)


def formula(measure: Measure) -> Callable[[Tensor], Tensor]:
    """The measure as a function of singular values."""
    return measure.of_spectrum if isinstance(measure, SpectralMeasure) else measure
