"""What may come in: a nonnegative, finite matrix, and sizes and factors that fit it."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import _check_feature_names, _num_features, validate_data
from torch import Tensor

from rankscope.nmf.blocks import RowBlocks

KEPT = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.uint8)


def check_matrix(estimator: BaseEstimator, X: Any, *, reset: bool, allow_nan: bool = False) -> Tensor:
    """X as a tensor (m×n) without a copy where its dtype allows: tensors stay on their device, and float32, float64,
    uint8 and float16 stay what they are (``RowBlocks`` widens blocks of the small ones).

    With ``reset`` the estimator learns n_features_in_ (and feature names), without it they must match.

    Raises:
        ValueError: X is not 2-d, empty, complex, or has entries that are negative, inf, or NaN but for ``allow_nan``.
        TypeError: X is sparse, or holds objects that are no numbers.
    """
    if isinstance(X, Tensor):
        matrix = _check_tensor(estimator, X, reset=reset)
    else:
        X = _as_rows(X)
        if X.ndim != 2:
            _refuse_dimensions(X.shape)
        if isinstance(X, np.ndarray) and np.iscomplexobj(X):
            raise ValueError(f"Complex data not supported: X must be real, got {X.dtype}; take X.real or abs(X)")
        if 0 in X.shape:
            _refuse_empty(X.shape)
        array = _as_numbers(estimator, X, reset=reset)
        matrix = torch.from_numpy(np.require(array, requirements=["C", "W"]))
    least, most = torch.aminmax(matrix)
    if not (least >= 0 and most < torch.inf):  # Written so that NaN is refused too.
        if not allow_nan:
            remedy = "remove or impute it, or fit with missing='mask'"
            _refuse_first(matrix, matrix.isnan(), "X must not contain NaN or inf", remedy)
        _refuse_first(matrix, matrix.isinf(), "X must not contain NaN or inf", "remove or impute it")
        negative = f"Negative values in data passed to {type(estimator).__name__}: X must be >= 0"
        _refuse_first(matrix, matrix < 0, negative, "shift or clip it")
    return matrix


def check_factors(factors: Sequence[Any], blocks: RowBlocks, layer_sizes: Sequence[int]) -> list[Tensor]:
    """Custom factors F₁ … F_L as tensors like A: nonnegative, finite, of the shapes that A and the layers ask for."""
    shape = blocks.shape
    inner = [shape[0], *layer_sizes, shape[1]]
    if not isinstance(factors, list | tuple) or len(factors) != len(inner) - 1:
        got = len(factors) if isinstance(factors, list | tuple) else f"a {type(factors).__name__}"
        raise ValueError(
            f"init='custom' needs a list of {len(inner) - 1} factors, got {got}; pass F₁ … F_{len(inner) - 1}"
        )
    tensors = []
    for i, (F, expected) in enumerate(zip(factors, pairwise(inner), strict=True), start=1):
        tensor = blocks.like(_as_factor(i, F))
        if tuple(tensor.shape) != expected:
            got = "×".join(map(str, tensor.shape))
            raise ValueError(
                f"factor {i} must be {expected[0]}×{expected[1]} (X is {shape[0]}×{shape[1]}), got {got}; reshape it"
            )
        _refuse_first(tensor, ~tensor.isfinite(), f"factor {i} must be finite", "replace it")
        _refuse_first(tensor, tensor < 0, f"factor {i} must be >= 0", "clip it")
        if not tensor.any():
            raise ValueError(f"factor {i} must not be all zero, where no solver can leave; start strictly positive")
        tensors.append(tensor)
    return tensors


def _as_factor(i: int, F: Any) -> Tensor:
    array = F if isinstance(F, Tensor) else np.asarray(F)
    real = not array.is_complex() if isinstance(array, Tensor) else array.dtype.kind in "biuf"
    if not real:
        raise ValueError(f"factor {i} must hold real numbers, got {array.dtype}; convert it")
    return torch.as_tensor(array)


def _as_rows(X: Any) -> Any:
    """X, with whatever has no shape of its own (lists, numbers, None) as an array."""
    if hasattr(X, "shape") and hasattr(X, "ndim"):
        return X
    try:
        return np.asarray(X)
    except ValueError:
        raise ValueError(f"X must have rows of one length, got a ragged {type(X).__name__}; pad or cut them") from None


def _as_numbers(estimator: BaseEstimator, X: Any, *, reset: bool) -> NDArray[Any]:
    """X as floats by scikit-learn's rules, which take object arrays whose entries are numbers; but uint8 and float16 as
    they are."""
    kept = [np.float64, np.float32, np.float16, np.uint8] if isinstance(X, np.ndarray) else [np.float64, np.float32]
    try:
        return validate_data(estimator, X, dtype=kept, ensure_all_finite=False, reset=reset)
    except (TypeError, ValueError) as error:
        reason = str(error)
        if "convert string to float" not in reason and "float() argument" not in reason:
            raise
        raise type(error)(f"X must hold numbers only, got an entry that is none: {reason}; encode or drop it") from None


def _check_tensor(estimator: BaseEstimator, X: Tensor, *, reset: bool) -> Tensor:
    if X.ndim != 2:
        _refuse_dimensions(X.shape)
    if X.is_complex():
        raise ValueError(f"Complex data not supported: X must be real, got {X.dtype}; take X.real or X.abs()")
    if X.is_sparse or X.layout != torch.strided:
        raise TypeError("Sparse data was passed, but dense data is required; use X.to_dense()")
    if X.numel() == 0:
        _refuse_empty(X.shape)
    _check_feature_names(estimator, X, reset=reset)
    if reset:
        estimator.n_features_in_ = _num_features(X)
    elif estimator.n_features_in_ != X.shape[1]:
        expected = f"{type(estimator).__name__} is expecting {estimator.n_features_in_} features as input"
        raise ValueError(f"X has {X.shape[1]} features, but {expected}")
    return X.detach() if X.dtype in KEPT else X.detach().to(torch.float32)


def _refuse_dimensions(shape: Sequence[int]) -> None:
    raise ValueError(
        f"X must have 2 dimensions (rows × columns), got shape {tuple(shape)}. Reshape your data: "
        "X.reshape(1, -1) makes one row of it"
    )


def _refuse_empty(shape: Sequence[int]) -> None:
    what = f"{shape[0]} sample(s)" if shape[0] == 0 else f"{shape[1]} feature(s)"
    raise ValueError(
        f"X must have at least one row and one column: found {what} (shape={tuple(shape)}) while a minimum of 1 is "
        "required; check how it was selected"
    )


def _refuse_first(matrix: Tensor, bad: Tensor, rule: str, remedy: str) -> None:
    if bad.any():
        row, column = (int(i) for i in bad.nonzero()[0])
        raise ValueError(f"{rule}, got {matrix[row, column].item()} at row {row}, column {column}; {remedy}")
