"""Products of a layer are those of its matrices, and parts of its rows are all of them."""

from itertools import pairwise

import numpy as np
import pytest

from laws import close, normal
from rankscope.compiled import compiled
from rankscope.matrices import whole
from rankscope.vectors import aligned_zeros
from rankscope.weights.products import (
    multiply,
    multiply_turned,
    padded,
    padded_turned,
    room_for_near,
    share,
    sum_columns,
)

DTYPES = [np.float64, np.float32]
SIZES = [(1, 1, 1), (3, 2, 5), (4, 7, 8), (9, 16, 24), (66, 130, 41), (130, 5, 64)]


@compiled
def multiply_all(A, B, turned_B, bias, D, one, other, turned, sums):
    below, left = room_for_near(1, D.shape[1], A)[0], room_for_near(1, A.shape[1], A)[0]
    multiply(A, padded(B), bias, one, below)
    multiply(A, padded_turned(turned_B), bias, other, below)
    rows = aligned_zeros(A.shape[1] * whole(D.shape[1], A), A)
    multiply_turned(A, D, rows, left, below)
    for i in range(len(turned)):
        for j in range(turned.shape[1]):
            turned[i, j] = rows[i * whole(D.shape[1], A) + j]
    sums[:] = 0
    sum_columns(A, sums)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("m", "p", "n"), SIZES)
def test_products_of_arrays(m, p, n, dtype):
    A, B, bias = normal(m, p, dtype=dtype), normal(p, n, seed=1, dtype=dtype), normal(n, seed=2, dtype=dtype)
    D = normal(m, n, seed=3, dtype=dtype)
    one, other, turned, sums = (
        np.empty((m, n), dtype),
        np.empty((m, n), dtype),
        np.empty((p, n), dtype),
        np.empty(p, dtype),
    )
    multiply_all(A, B, np.ascontiguousarray(B.T), bias, D, one, other, turned, sums)
    close(one, A @ B + bias)
    np.testing.assert_array_equal(one, other)
    close(turned, A.T @ D)
    close(sums, A.sum(0))


@compiled
def share_all(bounds, rows):
    for part in range(len(bounds)):
        bounds[part, 0], bounds[part, 1] = share(part, len(bounds), rows)


@pytest.mark.parametrize("rows", [1, 4, 30, 257])
@pytest.mark.parametrize("parts", [1, 2, 5])
def test_parts_share_all_rows(rows, parts):
    bounds = np.empty((parts, 2), np.int64)
    share_all(bounds, rows)
    assert bounds[0][0] == 0
    assert bounds[-1][1] == rows
    assert all(end == begin for (_, end), (begin, _) in pairwise(bounds))
