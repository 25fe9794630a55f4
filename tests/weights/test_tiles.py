"""Vectors come to their places in a tile, and products of registers and in runs are those of matrices."""

import numpy as np
import pytest

from laws import close, normal
from rankscope.compiled import compiled
from rankscope.matrices import Matrix
from rankscope.rows import ROWS
from rankscope.vectors import BYTES
from rankscope.weights.tiles import (
    Runs,
    lay_group,
    lay_tile,
    multiply_lanes,
    multiply_runs,
    place_of_tile,
    tiles_of,
)

DTYPES = [np.float64, np.float32]


def width_of(dtype):
    return BYTES // np.dtype(dtype).itemsize


@compiled
def tile(T, X, begin, many, m, n):
    lay_tile(T, X, begin, many, m, n)


@compiled
def group(T, X, begin, many, which, first, some, m, n):
    lay_group(T, X, begin, many, which, first, some, m, n)


@compiled
def place(which, number, batch, n, like):
    return place_of_tile(which, number, batch, n, like)


@compiled
def tiles(batch):
    return tiles_of(batch)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("groups", [1, 3])
def test_a_tile_holds_the_entries_of_some_vectors(groups, dtype):
    n, width = 5, width_of(dtype)
    m = groups * width
    X, T = normal(3 * ROWS, n, groups, width, dtype=dtype), np.full((groups, n, ROWS, width), np.nan, dtype)
    tile(T.reshape(-1), X.reshape(-1), 4, ROWS - 1, m, n)
    np.testing.assert_array_equal(T[:, :, :-1], X[4 : 3 + ROWS].transpose(2, 1, 0, 3))
    assert np.isnan(T[:, :, -1]).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_group_holds_some_entries_of_many_vectors(dtype):
    n, width, many, first, some = 7, width_of(dtype), 2 * ROWS + 3, 2, 4
    X, T = normal(40, n, 3, width, dtype=dtype), np.full((3, some, ROWS, width), np.nan, dtype)
    group(T.reshape(-1), X.reshape(-1), 5, many, 1, first, some, 3 * width, n)
    laid = T.transpose(0, 2, 1, 3).reshape(3 * ROWS, some, width)
    np.testing.assert_array_equal(laid[:many], X[5 : 5 + many, first : first + some, 1])
    assert np.isnan(laid[many:]).all()


@pytest.mark.parametrize("batch", [1, ROWS, ROWS + 1, 5 * ROWS])
def test_tiles_follow_each_other(batch):
    n, like = 3, np.empty(0, np.float32)
    whole = n * ROWS * width_of(np.float32)
    places = [place(which, number, batch, n, like) for which in range(2) for number in range(tiles(batch))]
    assert places == [k * whole for k in range(2 * tiles(batch))]
    assert (tiles(batch) - 1) * ROWS < batch <= tiles(batch) * ROWS


@compiled
def by_lanes(C, A, B, m, p, n, run, far, width, more):
    # A is (k // run, i, k % run), B (k // run, j, k % run), C (i, j), of registers.
    a, b = Runs(A, 0, run * width, width, far * m), Runs(B, 0, run * width, width, far * n)
    multiply_lanes(Matrix(C, 0, n * width, width), a, b, m, p, n, run, more)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("more", [False, True])
@pytest.mark.parametrize(("m", "p", "n", "run"), [(1, 1, 1, 1), (ROWS, 12, 3, 12), (ROWS + 3, 13, 5, 4), (20, 8, 4, 8)])
def test_what_belongs_to_different_lanes_is_multiplied_by_itself(m, p, n, run, more, dtype):
    width, runs = width_of(dtype), -(-p // run)
    A, B = normal(runs, m, run, width, dtype=dtype), normal(runs, n, run, width, dtype=dtype)
    C = normal(m, n, width, dtype=dtype)
    asked = np.arange(runs * run).reshape(runs, run) < p
    expected = np.einsum("tikw,tjkw,tk->ijw", A, B, asked) + more * C
    by_lanes(C.reshape(-1), A.reshape(-1), B.reshape(-1), m, p, n, run, run * width, width, more)
    close(C, expected)


@compiled
def by_runs(C, A, B, m, p, n, run, turned, before, begun, more, width):
    # A is (k // run, i, k % run) or (k // run, k % run, i), B (k, 1 + j), C (1 + vector, i, lane) and what was before
    # as C is or one row for all.
    a = Runs(A, 0, 1, m, run * m) if turned else Runs(A, 0, run, 1, run * m)
    to = Matrix(C, m * width, width, m * width)
    start = Matrix(before, n, n, 1) if more else Matrix(before, 0, 0, 1)
    multiply_runs(to, a, Runs(B, width, 0, n + width, run * (n + width)), m, p, n, run, start, begun)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("begins", ["with nothing", "with a row", "with rows"])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    ("m", "p", "vectors", "run"), [(1, 1, 1, 1), (ROWS, 12, 3, 12), (ROWS + 3, 13, 5, 4), (9, 6, 4, 6)]
)
def test_a_product_in_runs_is_that_of_matrices(m, p, vectors, run, turned, begins, dtype):
    width, runs = width_of(dtype), -(-p // run)
    n, begun, more = vectors * width, begins != "with nothing", begins == "with rows"
    A, B, before = normal(runs, m, run, dtype=dtype), normal(runs * run, n + width, dtype=dtype), normal(m + 1, n)
    before = before.astype(dtype)
    C = np.full((1 + vectors, m, width), np.nan, dtype)
    given = np.ascontiguousarray(A.transpose(0, 2, 1) if turned else A).reshape(-1)
    by_runs(C.reshape(-1), given, B.reshape(-1), m, p, n, run, turned, before.reshape(-1), begun, more, width)
    expected = A.transpose(1, 0, 2).reshape(m, -1)[:, :p] @ B[:p, width:]
    expected += begun * (before[1:] if more else before[:1])
    close(C[1:].transpose(1, 0, 2).reshape(m, n), expected)
    assert np.isnan(C[0]).all()
