"""A product by panels is the product, whatever lies side by side, with what is left over of rows, panels and depth."""

import numpy as np
import pytest

from laws import close, normal
from rankscope.compiled import compiled
from rankscope.matrices import Matrix
from rankscope.panels import DEEP, HIGH, NEAR, Room, multiply, panel_size
from rankscope.rooms import rooms
from rankscope.vectors import FAR

DTYPES = [np.float64, np.float32]
SIZES = [(0, 3, 9), (1, 1, 1), (5, 7, 33), (37, 260, 64), (8, DEEP, 100), (2 * HIGH + 3, 300, 48)]
SIZES += [(37, 300, NEAR // 1000), (2 * HIGH + 3, 300, NEAR // 1000)]  # Of which what comes next is fetched.


@compiled
def times(C, A, B, m, p, n, left, left_row, right, shift):
    room = Room(rooms(1, panel_size(C), C)[0], rooms(1, HIGH * DEEP, C)[0])
    a = Matrix(A, 1, 1, left_row) if left else Matrix(A, 1, left_row, 1)
    b = Matrix(B, 2, 1, p) if right else Matrix(B, 2, n, 1)
    multiply(Matrix(C, 3, n + 5, 1), a, b, m, p, n, shift, room)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("right", [False, True])
@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("far", [False, True])
@pytest.mark.parametrize(("m", "p", "n"), SIZES)
def test_a_product_by_panels_is_the_product(m, p, n, far, left, right, shifted, dtype):
    A, B, shift = normal(m, p, dtype=dtype), normal(p, n, seed=1, dtype=dtype), normal(n, seed=2, dtype=dtype)
    rows = A.T if left else A
    padded = np.pad(rows, ((0, 0), (0, FAR // rows.itemsize if far else 0)))
    a = np.concatenate([[np.nan], padded.ravel()]).astype(dtype)
    b = np.concatenate([[np.nan] * 2, (B.T if right else B).ravel()]).astype(dtype)
    C = np.full(3 + m * (n + 5), 7, dtype)
    times(C, a, b, m, p, n, left, padded.shape[1], right, shift if shifted else shift[:0])
    result = C[3:].reshape(m, n + 5)
    close(result[:, :n], A @ B + (shift if shifted else 0))
    assert (C[:3] == 7).all()
    assert (result[:, n:] == 7).all()
