"""A factored matrix has the spectrum of the matrix it stands for, to the floor of the route."""

import numpy as np
import pytest
import torch

import laws
from rankscope.spectra import gram_singular_values, singular_values

CHAINS = [((40, 30), (5,)), ((30, 40), (7, 3)), ((25, 60), (3, 8)), ((12, 9), (4, 6, 3, 5))]


@pytest.mark.parametrize(("shape", "sizes"), CHAINS)
@pytest.mark.parametrize(("method", "floor"), [("gram", 1e-7), ("qr", 1e-13), ("svd", 1e-13), ("auto", 1e-13)])
def test_the_spectrum_of_a_product_is_that_of_the_matrix(shape, sizes, method, floor):
    chain = laws.random_chain(0, shape, sizes)
    sigma = singular_values(list(chain.factors), method)
    expected = torch.linalg.svdvals(chain.product())
    assert len(sigma) == min(*shape, *sizes)
    torch.testing.assert_close(sigma, expected[: len(sigma)], rtol=0, atol=floor * float(expected[0]))


@pytest.mark.parametrize("method", ["gram", "qr", "svd"])
@pytest.mark.parametrize("shape", [(20, 8), (8, 20), (1, 5), (6, 6)])
def test_every_route_agrees_on_a_dense_matrix(method, shape):
    A = np.random.default_rng(1).standard_normal(shape)
    np.testing.assert_allclose(singular_values(A, method), np.linalg.svd(A, compute_uv=False), atol=1e-7)


def test_qr_resolves_tails_that_gram_loses():
    rng = np.random.default_rng(0)
    U, V = (np.linalg.qr(rng.standard_normal((50, 12)))[0] for _ in range(2))
    true = 10.0 ** -np.arange(12)
    factors = [U * true, V.T]
    by_qr, by_gram = singular_values(factors, "qr"), singular_values(factors, "gram")
    np.testing.assert_allclose(by_qr, true, rtol=1e-4, atol=1e-14)
    assert abs(by_gram[:8] / true[:8] - 1).max() < 1e-1
    assert abs(by_gram - true).max() < 1e-7


def test_float32_factors_are_measured_in_float64():
    factors = [F.float() for F in laws.random_chain(3, (50, 40), (6,)).factors]
    expected = np.linalg.svd(factors[0].double().numpy() @ factors[1].double().numpy(), compute_uv=False)[:6]
    np.testing.assert_allclose(singular_values(factors, "gram"), expected, rtol=1e-9)


def test_gram_route_survives_singular_grams_in_a_batch():
    full, rank_one = torch.rand(6, 3, dtype=torch.float64), torch.ones(6, 3, dtype=torch.float64)
    R = torch.rand(3, 7, dtype=torch.float64)
    P = torch.stack([F.mT @ F for F in (full, rank_one, 0 * full)])
    sigma = gram_singular_values(P, (R @ R.mT).expand(3, 3, 3))
    for row, F in zip(sigma, (full, rank_one, 0 * full), strict=True):
        torch.testing.assert_close(row, torch.linalg.svdvals(F @ R)[:3], atol=1e-7, rtol=1e-7)


def test_gram_route_does_not_care_how_components_are_scaled():
    L, R = (F.to(torch.float64) for F in laws.random_chain(4, (30, 20), (5,)).factors)
    L[:, 4] = L[:, 3]  # so that P is singular
    scale = torch.tensor([1e14, 1e-12, 1.0, 1e13, 1e-13], dtype=torch.float64)
    left, right = L * scale, R / scale[:, None]
    sigma = gram_singular_values(left.mT @ left, right @ right.mT)
    torch.testing.assert_close(sigma, torch.linalg.svdvals(L @ R)[:5], rtol=1e-7, atol=1e-7)


def test_answers_come_in_kind():
    assert isinstance(singular_values(torch.eye(2)), torch.Tensor)
    assert isinstance(singular_values([torch.eye(2), torch.eye(2)]), torch.Tensor)
    assert isinstance(singular_values([[1.0, 0.0], [0.0, 1.0]]), np.ndarray)
    assert singular_values(np.eye(3)).dtype == np.float64


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.ones(3), "2 dimensions"),
        (np.array([[1.0, np.nan]]), "finite"),
        ([np.ones((2, 3)), np.ones((2, 3))], "inner dimensions.*2×3 · 2×3"),
    ],
)
def test_what_is_no_matrix_is_refused(matrix, message):
    with pytest.raises(ValueError, match=message):
        singular_values(matrix)


def test_unknown_method_is_refused():
    with pytest.raises(ValueError, match="method must be one of auto, gram, qr, svd"):
        singular_values(np.eye(2), "lanczos")
