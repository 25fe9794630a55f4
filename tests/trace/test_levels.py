"""The levels of A_k against a truncated SVD, and the label of a plateau."""

import numpy as np
import pytest

from rankscope.trace.levels import Plateau, RankLevel, match_level, rank_levels


def test_levels_are_those_of_the_truncated_svd():
    A = np.random.default_rng(0).normal(size=(12, 7))
    U, s, Vt = np.linalg.svd(A, full_matrices=False)
    levels = rank_levels(s)
    assert [level.k for level in levels] == list(range(1, 8))
    for k, rank, error in levels:
        A_k = (U[:, :k] * s[:k]) @ Vt[:k]
        p = np.linalg.svd(A_k, compute_uv=False)
        p = p[:k] / p[:k].sum()
        assert rank == pytest.approx(np.exp(-np.sum(p * np.log(p))), rel=1e-12)
        assert error == pytest.approx(np.sum((A - A_k) ** 2) / np.sum(A**2), abs=1e-12)


def test_known_levels():
    assert rank_levels([10, 5, 1, 0, 0]) == [
        RankLevel(1, pytest.approx(1.0), pytest.approx(26 / 126)),
        RankLevel(2, pytest.approx(1.889881575), pytest.approx(1 / 126)),
        RankLevel(3, pytest.approx(2.294520046), pytest.approx(0.0, abs=1e-15)),
    ]
    assert [level.k for level in rank_levels([10, 5, 1e-16])] == [1, 2]
    assert [level.effective_rank for level in rank_levels(np.ones(5))] == pytest.approx([1, 2, 3, 4, 5])


def test_levels_do_not_depend_on_scale_or_order():
    for scale in (1e-150, 1e-3, 1e6, 1e150):
        for level, wanted in zip(rank_levels(scale * np.array([1, 10, 5])), rank_levels([10, 5, 1]), strict=True):
            assert level == pytest.approx(wanted, rel=1e-12, abs=1e-14)


def test_leading_values_and_the_norm_give_the_leading_levels():
    s = np.array([10.0, 5.0, 1.0])
    leading = rank_levels(s[:2], float(np.sum(s**2)))
    for level, wanted in zip(leading, rank_levels(s)[:2], strict=True):
        assert level == pytest.approx(wanted, rel=1e-12)


def test_zero_matrix_has_no_levels():
    assert rank_levels(np.zeros(3)) == rank_levels([]) == rank_levels([0.0], 0.0) == []


@pytest.mark.parametrize("sigma", [np.eye(2), 3.0, [1.0, -1.0], [1.0, np.nan], [np.inf]])
def test_singular_values_are_checked(sigma):
    with pytest.raises(ValueError, match="sigma must be a vector"):
        rank_levels(sigma)


@pytest.mark.parametrize("norm", [100.0, np.nan])
def test_a_norm_below_its_singular_values_is_refused(norm):
    with pytest.raises(ValueError, match="squared_norm must be at least"):
        rank_levels([10, 5, 1], norm)


@pytest.mark.parametrize(
    ("level", "error", "k"),
    [
        (1.02, 0.21, 1),
        (1.88, 0.008, 2),
        (2.28, 1e-5, 3),
        (2.10, 0.003, 3),  # between two stairs, in reach of the second only
        (1.40, 0.08, None),  # on the way from one to the next
        (1.89, 0.30, None),  # the right rank, but A_2 leaves far less
        (5.00, 0.0, None),
    ],
)
def test_match_takes_the_nearest_level_or_none(level, error, k):
    plateau = Plateau(start=0, end=10, level=level, relative_error=error, kind="locked")
    matched = match_level(plateau, rank_levels([10, 5, 1]))
    assert matched == Plateau(0, 10, level, error, k=k, kind="locked")


def test_match_without_levels_and_with_tolerance():
    plateau = Plateau(start=0, end=10, level=1.4, relative_error=0.1)
    assert match_level(plateau, []).k is None
    assert match_level(plateau, rank_levels([10, 5, 1])).k is None
    assert match_level(plateau, rank_levels([10, 5, 1]), tolerance=0.5).k == 1
    plateau = Plateau(start=0, end=10, level=2.12, relative_error=0.003)  # rank nearer to A_3, error to A_2
    assert match_level(plateau, rank_levels([10, 5, 1]), tolerance=0.2).k == 3
