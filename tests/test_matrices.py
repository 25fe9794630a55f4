"""Compiled products of views are the products of the matrices, for every remainder of rows, vectors and depth."""

import numpy as np
import pytest

from laws import close, normal
from rankscope.compiled import compiled
from rankscope.matrices import Matrix, add_product, copy, copy_sum, product, turn, whole, whole_of
from rankscope.vectors import BYTES

DTYPES = [np.float64, np.float32]
SIZES = [(1, 1, 1), (3, 2, 5), (4, 7, 8), (9, 16, 24), (66, 130, 41), (130, 5, 64)]


@compiled
def add(C, A, B, m, p, n, turned):
    left = Matrix(A, 1, 1, m) if turned else Matrix(A, 1, p, 1)
    add_product(Matrix(C, 2, n + 3, 1), left, Matrix(B, 3, n, 1), m, p, n)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("m", "p", "n"), SIZES)
def test_a_product_is_added_to_what_is_there(m, p, n, turned, dtype):
    A, B = normal(m, p, dtype=dtype), normal(p, n, seed=1, dtype=dtype)
    flat = np.concatenate([[7], (A.T if turned else A).ravel()]).astype(dtype)
    below = np.concatenate([np.zeros(3), B.ravel()]).astype(dtype)
    C = normal(2 + m * (n + 3), seed=2, dtype=dtype)
    before = C.copy()
    add(C, flat, below, m, p, n, turned)
    rows, expected = C[2:].reshape(m, n + 3), before[2:].reshape(m, n + 3)
    close(rows[:, :n], expected[:, :n] + A @ B)
    np.testing.assert_array_equal(rows[:, n:], expected[:, n:])
    np.testing.assert_array_equal(C[:2], before[:2])


@compiled
def replace(C, A, B, m, p, n):
    width = whole(n, C)
    product(Matrix(C, 0, width, 1), Matrix(A, 0, p, 1), Matrix(B, 0, width, 1), m, p, width)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("m", "p", "n"), SIZES)
def test_a_product_takes_the_place_of_whatever_was_there(m, p, n, dtype):
    A, B, width = normal(m, p, dtype=dtype), normal(p, n, seed=1, dtype=dtype), whole_of(n, np.dtype(dtype).itemsize)
    assert n <= width < n + BYTES // np.dtype(dtype).itemsize
    C = np.full((m, width), np.nan, dtype)
    replace(C.ravel(), A.ravel(), np.pad(B, ((0, 0), (0, width - n))).ravel(), m, p, n)
    close(C[:, :n], A @ B)


@compiled
def turn_all(C, A, m, n):
    turn(Matrix(C, 0, m + 1, 1), Matrix(A, 0, n + 2, 1), m, n)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("m", "n"), [(1, 1), (8, 8), (4, 20), (13, 9), (33, 64)])
def test_a_turned_matrix_is_the_transpose(m, n, dtype):
    A, C = normal(m, n + 2, dtype=dtype), np.full((n, m + 1), 5, dtype)
    turn_all(C.ravel(), A.ravel(), m, n)
    np.testing.assert_array_equal(C[:, :m], A[:, :n].T)
    np.testing.assert_array_equal(C[:, m], 5)  # Of what lies beside nothing is touched.


@compiled
def copy_rows(C, A, m, n):
    copy(Matrix(C, 0, n + 3, 1), Matrix(A, 1, n + 1, 1), m, n)


@compiled
def sum_rows(C, A, b, m, n):
    copy_sum(Matrix(C, 0, n + 3, 1), Matrix(A, 1, n + 1, 1), Matrix(b, 0, 0, 1), m, n)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 7, 8, 15, 16, 19, 33])
def test_rows_are_copied_and_added_to_and_nothing_beside_them_is_touched(n, dtype):
    flat, b, C = normal(1 + 5 * (n + 1), dtype=dtype), normal(n, seed=1, dtype=dtype), np.full((5, n + 3), 7, dtype)
    A = flat[1:].reshape(5, n + 1)[:, :n]
    copy_rows(C.ravel(), flat, 5, n)
    np.testing.assert_array_equal(C[:, :n], A)
    sum_rows(C.ravel(), flat, b, 5, n)
    np.testing.assert_array_equal(C[:, :n], A + b)
    np.testing.assert_array_equal(C[:, n:], 7)


@compiled
def sum_all(total, A, m, n):
    copy_sum(Matrix(total, 0, 0, 1), Matrix(total, 0, 0, 1), Matrix(A, 0, n, 1), m, n)


@pytest.mark.parametrize("n", [1, 16, 19])
def test_rows_are_added_up_where_the_sum_is_no_row_apart(n):
    A, total = normal(70, n), normal(n, seed=1)
    expected = total + A.sum(0)
    sum_all(total, A.ravel(), 70, n)
    close(total, expected)
