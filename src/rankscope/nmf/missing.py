"""Which entries of X were observed, and how well a fit predicts those that it was not shown."""

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from rankscope.nmf import passes
from rankscope.nmf.blocks import RowBlocks
from rankscope.nmf.chain import Chain

Missing = Literal["refuse", "mask"]
MISSING = ("refuse", "mask")


def observed_entries(A: Tensor, mask: Any, missing: Missing) -> Tensor | None:
    """bool (m×n), True where A was observed; None where all of it was, so that nothing need be masked.

    Args:
        A: X as a tensor (m×n), checked but for its NaN.
        mask: what the user passed: bool or 0/1 (m×n), True for observed; or None.
        missing: ``"mask"`` takes NaN for a missing entry; ``"refuse"`` takes it where the mask is false only.

    Raises:
        ValueError: the mask has another shape, or other values, or marks a NaN as observed; nothing was observed.
    """
    if mask is None and missing == "refuse":  # Then there is no NaN, and no need to look for it.
        return None
    observed = None if mask is None else _as_bool(mask, A)
    if A.is_floating_point() and bool((absent := A.isnan()).any()):
        if observed is not None and missing == "refuse":
            _refuse_marked(observed & absent)
        observed = ~absent if observed is None else observed & ~absent
    if observed is None or bool(observed.all()):
        return None
    if not observed.any():
        m, n = observed.shape
        raise ValueError(f"at least one entry of X must be observed, got none of {m}×{n}; check the mask and the NaN")
    return observed


def heldout_error(A: Tensor, observed: Tensor | None, chain: Chain) -> float | None:
    """‖A − F₁ … F_L‖²/‖A‖² over the entries that hold a number but were not observed; None where there are none."""
    if observed is None:
        return None
    hidden = ~observed
    if A.is_floating_point():
        hidden &= ~A.isnan()
    if not hidden.any():
        return None
    blocks = RowBlocks.of(A, observed=hidden)
    error = passes.squared_residual(blocks, chain.first, chain.dictionary)
    if blocks.squared_norm > 0:
        return error / blocks.squared_norm
    return 0.0 if error == 0 else float("inf")


def _as_bool(mask: Any, A: Tensor) -> Tensor:
    values = mask.detach() if isinstance(mask, Tensor) else torch.as_tensor(np.asarray(mask))
    if values.shape != A.shape:
        expected, got = ("×".join(map(str, shape)) for shape in (A.shape, values.shape))
        raise ValueError(f"mask must have X's shape, {expected}, got {got or 'a number'}; one entry for each of X's")
    if values.dtype != torch.bool:
        wrong = (values != 0) & (values != 1)
        if wrong.any():
            row, column = (int(i) for i in wrong.nonzero()[0])
            raise ValueError(
                f"mask must be bool or hold 0 and 1 only, got {values[row, column].item()} at row {row}, column "
                f"{column}; 1 is for observed"
            )
    return values.to(A.device, torch.bool)


def _refuse_marked(marked: Tensor) -> None:
    if marked.any():
        row, column = (int(i) for i in marked.nonzero()[0])
        raise ValueError(
            f"X must hold a number wherever mask says observed, got NaN at row {row}, column {column}; clear the mask "
            "there, or set missing='mask'"
        )
