"""Shares of a packed matrix give its products, whatever their number."""

from itertools import pairwise

import numpy as np
import pytest

from rankscope.compiled import compiled
from rankscope.nmf import packed_pass, tiles
from rankscope.nmf.packed_pass import look_at_share, pack
from rankscope.nmf.tiles import share_of
from rankscope.rows import ROWS

SHAPES = [(1, 5, 1), (3, 17, 2), (130, 40, 7), (257, 1300, 10), (4200, 90, 3), (140, 210, 60)]
"""m, n and r: less than a group of rows, more than are added up at once, several tiles."""


@compiled
def _width(R):
    return tiles.width_of(len(R), R.itemsize)


@compiled
def _look(packed, X, R, S, Cs):
    F, across = tiles.room_in_rows(X.shape[1], X), tiles.width_of(len(R), R.itemsize)
    tiles.lay_in_rows(X, F, 0, X.shape[1])
    for part in range(len(packed.begins)):
        begin, end = share_of(part, len(packed.begins), R.shape[1])
        directions, sums = tiles.laid(R[:, begin:end].copy(), len(R)), np.empty((end - begin) * across, R.dtype)
        look_at_share(part, packed, F, directions, sums, Cs[part], S)


def products(A, X, R, shares):
    packed = pack(A, shares)
    groups, across = -(-len(A) // ROWS), _width(R)
    S, Cs = np.full_like(R, np.nan), np.full((len(packed.begins), groups * ROWS * across), np.nan, R.dtype)
    _look(packed, X, R, S, Cs)
    return packed, S, Cs.sum(0).reshape(-1, across)[: len(A), : len(R)]


@pytest.mark.parametrize("shares", [1, 2, 5])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("shape", SHAPES)
def test_both_products_of_a_matrix_with_empty_columns(shape, dtype, shares, monkeypatch):
    monkeypatch.setattr(packed_pass, "ENOUGH", 1)
    (m, n, r), rng = shape, np.random.default_rng(0)
    A, R, X = (rng.random(size).astype(dtype) for size in ((m, n), (r, n), (r, m)))
    A[3:5], A[:, n // 3 : n // 2] = 0, 0
    packed, S, C = products(A, X, R, shares)
    assert len(packed.begins) <= shares
    assert packed.entries.size < A.size + ROWS * n
    tolerance = 1e-12 if dtype == np.float64 else 1e-5
    np.testing.assert_allclose(S, X @ A, rtol=tolerance, atol=tolerance * m)
    np.testing.assert_allclose(C, A @ R.T, rtol=tolerance, atol=tolerance * n)


@compiled
def _share(part, parts, n):
    return share_of(part, parts, n)


def test_shares_are_whole_vectors_and_all():
    for n in (1, 16, 17, 784):
        ends = [_share(part, 3, n) for part in range(3)]
        assert ends[0][0] == 0
        assert ends[-1][1] == n
        assert all(end == begin for (_, end), (begin, _) in pairwise(ends))
        assert all(begin % 16 == 0 for begin, end in ends if end > begin)
