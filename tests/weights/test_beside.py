"""Vectors of a batch lie side by side and come back as they were; blocks of all parts are all blocks."""

from itertools import pairwise

import numpy as np
import pytest

from laws import close, normal
from rankscope.compiled import compiled
from rankscope.matrices import Matrix
from rankscope.vectors import BYTES
from rankscope.weights.beside import (
    BESIDE,
    SOME,
    add_lanes,
    add_matches,
    add_vectors,
    blocks_of,
    give,
    lay,
    parts_of,
    share,
    take,
)

DTYPES = [np.float64, np.float32]


@compiled
def there_and_back(X, block, begin, Y, each, apart):
    lay(block, X, begin, each, apart)
    take(Y, begin, block, each, apart)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("between", [0, 8])
@pytest.mark.parametrize(
    ("batch", "n", "groups"), [(1, 1, 1), (40, 7, 1), (64, 64, 4), (70, 33, 1), (70, 33, 11), (33, 64, 1)]
)
def test_a_block_holds_a_number_of_each_vector_in_a_row(batch, n, groups, between, dtype):
    X, apart = normal(batch, n, dtype=dtype), n // groups * BESIDE + between
    for begin in range(0, batch, BESIDE):
        many = min(BESIDE, batch - begin)
        block, Y = np.full(groups * apart, np.nan, dtype), np.full_like(X, 5)
        there_and_back(X, block, begin, Y, n // groups, apart)
        rows = block.reshape(groups, apart)[:, : n // groups * BESIDE].reshape(n, BESIDE)
        np.testing.assert_array_equal(rows[:, :many], X[begin : begin + many].T)
        np.testing.assert_array_equal(rows[:, many:], 0)
        np.testing.assert_array_equal(Y[begin : begin + many], X[begin : begin + many])
        np.testing.assert_array_equal(np.delete(Y, np.s_[begin : begin + many], axis=0), 5)


@compiled
def through_blocks(X, bias, block, few, Y, total):
    for begin in range(0, len(X), BESIDE):
        lay(block, X, begin, X.shape[1], 0)
        give(Y, begin, block, bias, few)
        add_vectors(total, X, begin)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 19, 64, 150])
def test_every_vector_is_given_a_bias_that_gets_the_sum_of_all(n, dtype):
    X, bias, total = normal(70, n, dtype=dtype), normal(n, dtype=dtype), np.zeros(n, dtype)
    block, few, Y = np.empty(n * BESIDE, dtype), np.empty(SOME * BESIDE, dtype), np.full_like(X, np.nan)
    through_blocks(X, bias, block, few, Y, total)
    np.testing.assert_array_equal(Y, X + bias)
    close(total, X.sum(0))


@compiled
def share_all(bounds, batch):
    for part in range(len(bounds)):
        bounds[part, 0], bounds[part, 1] = share(part, len(bounds), batch)


@pytest.mark.parametrize("batch", [1, 32, 33, 257])
@pytest.mark.parametrize("parts", [1, 2, 5])
def test_parts_share_all_blocks(batch, parts):
    bounds = np.empty((parts, 2), np.int64)
    share_all(bounds, batch)
    assert bounds[0][0] == 0
    assert bounds[-1][1] == blocks_of(batch) == -(-batch // BESIDE)
    assert all(end == begin for (_, end), (begin, _) in pairwise(bounds))


@compiled
def how_many(batch, each, team):
    return parts_of(batch, each, team)


def test_work_is_divided_only_where_it_is_worth_a_thread():
    assert how_many(256, 1, 4) == 1
    assert how_many(256, 100_000, 4) == 4
    assert how_many(20, 10**9, 4) == 1


@compiled
def match(totals, L, R, m, n, p, sums):
    add_matches(totals, Matrix(L, 0, p * BESIDE, BESIDE), Matrix(R, 0, BESIDE, n * BESIDE), m, n, p)
    add_lanes(totals, sums)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("m", "n", "p"), [(1, 1, 1), (3, 2, 5), (8, 7, 8), (21, 6, 3)])
def test_rows_are_matched_over_all_vectors_of_a_block(m, n, p, dtype):
    L, R = normal(m, p, BESIDE, dtype=dtype), normal(p, n, BESIDE, seed=1, dtype=dtype)
    side = BYTES // np.dtype(dtype).itemsize
    totals, sums = normal(m * n, side, seed=2, dtype=dtype), np.full(m * n, np.nan, dtype)
    before = totals.sum(1).reshape(m, n)
    match(totals.ravel(), L.ravel(), R.ravel(), m, n, p, sums)
    close(sums.reshape(m, n), before + np.einsum("ite,tje->ij", L, R))
    assert not np.isnan(totals).any()
