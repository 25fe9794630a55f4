"""Vectors of a batch lie side by side and come back as they were; blocks of all parts are all blocks."""

from itertools import pairwise

import numpy as np
import pytest

from laws import close, normal
from rankscope.compiled import compiled
from rankscope.weights.beside import BESIDE, add_vectors, begin_with, blocks_of, lay, parts_of, share, take

DTYPES = [np.float64, np.float32]


@compiled
def there_and_back(X, block, begin, Y):
    lay(block, X, begin)
    take(Y, begin, block)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("batch", "n"), [(1, 1), (40, 7), (64, 64), (70, 33)])
def test_a_block_holds_a_number_of_each_vector_in_a_row(batch, n, dtype):
    X = normal(batch, n, dtype=dtype)
    for begin in range(0, batch, BESIDE):
        many = min(BESIDE, batch - begin)
        block, Y = np.full(n * BESIDE, np.nan, dtype), np.full_like(X, 5)
        there_and_back(X, block, begin, Y)
        rows = block.reshape(n, BESIDE)
        np.testing.assert_array_equal(rows[:, :many], X[begin : begin + many].T)
        np.testing.assert_array_equal(rows[:, many:], 0)
        np.testing.assert_array_equal(Y[begin : begin + many], X[begin : begin + many])
        np.testing.assert_array_equal(np.delete(Y, np.s_[begin : begin + many], axis=0), 5)


@compiled
def sums_of(X, bias, block, total):
    begin_with(block, bias)
    for begin in range(0, len(X), BESIDE):
        add_vectors(total, X, begin)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 19, 64])
def test_a_bias_begins_every_vector_and_gets_the_sum_of_all(n, dtype):
    X, bias, block, total = (
        normal(70, n, dtype=dtype),
        normal(n, dtype=dtype),
        np.empty(n * BESIDE, dtype),
        np.zeros(n, dtype),
    )
    sums_of(X, bias, block, total)
    np.testing.assert_array_equal(block.reshape(n, BESIDE), np.repeat(bias[:, None], BESIDE, axis=1))
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
