"""Activations are the nonnegative least-squares solution, row by row."""

import numpy as np
import pytest
import torch
from scipy.optimize import nnls

from rankscope.nmf.blocks import RowBlocks
from rankscope.nmf.encode import encode
from rankscope.nmf.penalty import NO_PENALTY, Penalty


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    return rng.random((30, 12)), rng.random((5, 12))


def test_each_row_is_scipys_nnls_solution(problem):
    A, R = problem
    ours = encode(RowBlocks.of(torch.from_numpy(A), 7), torch.from_numpy(R), NO_PENALTY)
    np.testing.assert_allclose(ours, [nnls(R.T, a)[0] for a in A], atol=1e-9)


def test_with_penalties_it_is_the_augmented_problems_solution(problem):
    A, R = problem
    l1, l2 = 0.3, 0.5
    augmented = np.vstack([R.T, np.sqrt(l2) * np.eye(5)])
    # ½‖Rᵀw − a‖² + ℓ₁Σw + ½ℓ₂‖w‖²: the linear term is absorbed by a shift of the target along the rows of the inverse.
    shift = np.linalg.lstsq(augmented.T, -l1 * np.ones(5), rcond=None)[0]
    expected = [nnls(augmented, np.r_[a, np.zeros(5)] + shift)[0] for a in A]
    ours = encode(RowBlocks.of(torch.from_numpy(A)), torch.from_numpy(R), Penalty(l1=l1, l2=l2))
    np.testing.assert_allclose(ours, expected, atol=1e-8)


def test_a_row_does_not_depend_on_its_neighbours(problem):
    A, R = (torch.from_numpy(x) for x in problem)
    together = encode(RowBlocks.of(A), R, NO_PENALTY)
    alone = torch.cat([encode(RowBlocks.of(A[i : i + 1]), R, NO_PENALTY) for i in range(len(A))])
    torch.testing.assert_close(together, alone, atol=1e-9, rtol=0)


def test_zero_rows_and_dead_dictionary_rows_get_zero(problem):
    A, R = (torch.from_numpy(x) for x in problem)
    R[2] = 0
    A[0] = 0
    F = encode(RowBlocks.of(A), R, NO_PENALTY)
    assert (F[0] == 0).all()
    assert (F[:, 2] == 0).all()
