"""The measures have their closed forms, their order and their invariances."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rankscope.metrics import (
    cosine_separation_loss,
    effective_rank,
    nuclear_over_operator,
    numerical_rank,
    participation_ratio,
    relative_error,
    stable_rank,
)

MEASURES = [effective_rank, nuclear_over_operator, stable_rank, participation_ratio, numerical_rank]
GEOMETRIC = 2.0 ** -np.arange(50)

SPECTRA = [
    (np.ones(7), 7, 7),
    (np.array([5.0, 0, 0]), 1, 1),
    (np.array([9.0] + [1] * 9), 6, 2),
    (np.array([4.0] + [1] * 3), 7 * 4 ** (-4 / 7), 7 / 4),
    (GEOMETRIC, 4, 2),
    (np.array([1, 0.5]), 1.8899, 1.5),
    (np.array([1, 0.1]), 1.3561, 1.1),
    (np.array([1, 0.01]), 1.0571, 1.01),
    (np.array([10, 5.0]), 1.8899, 1.5),
    (np.array([10, 5, 1.0]), 2.2945, 1.6),
]


def rotated(sigma: np.ndarray, extra: int = 3) -> np.ndarray:
    """A matrix with the given singular values and random singular vectors."""
    rng = np.random.default_rng(len(sigma))
    U = np.linalg.qr(rng.standard_normal((len(sigma) + extra, len(sigma))))[0]
    V = np.linalg.qr(rng.standard_normal((len(sigma), len(sigma))))[0]
    return U * sigma @ V.T


@pytest.mark.parametrize(("sigma", "effective", "nuclear"), SPECTRA)
def test_oracles(sigma, effective, nuclear):
    A = rotated(sigma)
    assert effective_rank(A) == pytest.approx(effective, abs=1e-4)
    assert nuclear_over_operator(A) == pytest.approx(nuclear, abs=1e-9)


def test_oracles_of_the_geometric_spectrum():
    A = np.diag(GEOMETRIC)
    assert stable_rank(A) == pytest.approx(4 / 3, abs=1e-12)
    assert participation_ratio(A) == pytest.approx(5 / 3, abs=1e-12)


def test_large_gaussian_matrices():
    A = np.random.default_rng(0).standard_normal((600, 600))
    assert effective_rank(A) / 600 == pytest.approx(0.805, abs=0.005)
    assert nuclear_over_operator(A) / 600 == pytest.approx(0.424, abs=0.01)


@settings(max_examples=60, deadline=None)
@given(arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.floats(0.01, 1)))
def test_order_and_invariance(A):
    stable, nuclear, effective = stable_rank(A), nuclear_over_operator(A), effective_rank(A)
    slack = 1 + 1e-9
    assert stable * slack >= 1
    assert stable <= nuclear * slack
    sigma = np.linalg.svd(A, compute_uv=False)
    assert nuclear <= sigma.sum() ** 2 / (sigma**2).sum() * slack
    assert sigma.sum() ** 2 / (sigma**2).sum() <= effective * slack
    assert effective <= min(A.shape) * slack
    assert stable <= participation_ratio(A) * slack
    for measure in MEASURES[:4]:
        assert measure(A.T) == pytest.approx(measure(A), rel=1e-9)
        assert measure(3e5 * A) == pytest.approx(measure(A), rel=1e-9)


def test_kronecker_products_multiply():
    rng = np.random.default_rng(2)
    A, B = rng.standard_normal((5, 4)), rng.standard_normal((3, 6))
    assert effective_rank(np.kron(A, B)) == pytest.approx(effective_rank(A) * effective_rank(B), rel=1e-12)


@pytest.mark.parametrize("measure", MEASURES)
def test_the_zero_matrix_has_no_rank(measure):
    assert measure(np.zeros((4, 3))) == 0
    assert measure(torch.zeros(4, 3)) == 0


@pytest.mark.parametrize("measure", MEASURES)
def test_a_product_needs_no_forming_and_answers_come_in_kind(measure):
    rng = np.random.default_rng(3)
    W, H = rng.random((30, 4)), rng.random((4, 20))
    assert isinstance(measure([W, H]), float)
    assert measure([W, H]) == pytest.approx(measure(W @ H), rel=1e-6)
    tensor = measure([torch.from_numpy(W), torch.from_numpy(H)])
    assert isinstance(tensor, torch.Tensor)
    assert tensor.ndim == 0


def test_numerical_rank_counts_by_the_precision_of_the_input():
    A = rotated(np.array([1, 0.5, 1e-7]))
    assert numerical_rank(A) == 3
    assert numerical_rank(A.astype(np.float32)) == 2


def test_separation_oracles():
    assert cosine_separation_loss(np.eye(4)) == pytest.approx(0, abs=1e-15)
    assert cosine_separation_loss(np.ones((4, 7))) == pytest.approx(4 * 3)
    assert cosine_separation_loss(np.zeros((1, 3))) == 1
    for angle in (0.1, 0.7, 1.4):
        rows = np.array([[1, 0], [np.cos(angle), np.sin(angle)]])
        assert cosine_separation_loss(7 * rows) == pytest.approx(2 * np.cos(angle) ** 2)


def test_separation_is_differentiable_even_beside_a_zero_row():
    H = torch.rand(4, 6, dtype=torch.float64)
    H[2] = 0
    H.requires_grad_()
    cosine_separation_loss(H).backward()
    assert H.grad is not None
    assert H.grad.isfinite().all()


def test_relative_error_equals_its_definition_in_any_form():
    rng = np.random.default_rng(5)
    A, W, H = rng.random((50, 30)), rng.random((50, 3)), rng.random((3, 30))
    expected = np.linalg.norm(A - W @ H) ** 2 / np.linalg.norm(A) ** 2
    assert relative_error(A, W @ H) == pytest.approx(expected, rel=1e-12)
    assert relative_error(A, [W, H], block_rows=7) == pytest.approx(expected, rel=1e-12)
    assert relative_error(A, A) == 0
    assert relative_error(0 * A, 0 * A) == 0
    assert relative_error(0 * A, A) == np.inf
    with pytest.raises(ValueError, match="shape"):
        relative_error(A, A.T)
