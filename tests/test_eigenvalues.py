"""Compiled spectra of many products are those of a library, and say where they fail."""

import numpy as np
import pytest
import torch

from rankscope import spectra
from rankscope.eigenvalues import singular_values_of_products
from rankscope.spectra import gram_singular_values


def grams(r, many=20, seed=0):
    """Products of many narrow matrices, some with components of very different sizes, and their Grams."""
    generator = torch.Generator().manual_seed(seed)
    L, R = (
        torch.rand(size, generator=generator, dtype=torch.float64) for size in ((many, 3 * r, r), (many, r, 2 * r + 1))
    )
    L[1, :, 0] *= 1e12
    R[2, -1] *= 1e-6
    return L, R, L.mT @ L, R @ R.mT


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("r", [1, 2, 3, 8, 17, 64])
def test_they_are_those_of_the_product(r, threads):
    L, R, P, Q = grams(r)
    sigma = gram_singular_values(P, Q, threads)
    expected = torch.linalg.svdvals(L @ R)[:, :r]
    torch.testing.assert_close(sigma / expected[:, :1], expected / expected[:, :1], rtol=0, atol=1e-8)


def test_they_are_those_of_the_operations(monkeypatch):
    _, _, P, Q = grams(10)
    ours = gram_singular_values(P, Q)
    monkeypatch.setattr(spectra, "NARROW", 0)
    torch.testing.assert_close(ours, gram_singular_values(P, Q), rtol=1e-9, atol=1e-9 * float(ours.max()))


def test_diagonal_and_equal_eigenvalues():
    P = torch.eye(5, dtype=torch.float64).repeat(3, 1, 1)
    Q = torch.stack([torch.diag(torch.tensor(d, dtype=torch.float64)) for d in ([4.0] * 5, [9, 0, 1, 0, 4], [0.0] * 5)])
    expected = torch.tensor([[2.0] * 5, [3, 2, 1, 0, 0], [0.0] * 5], dtype=torch.float64)
    torch.testing.assert_close(gram_singular_values(P, Q), expected)


def test_a_gram_that_is_singular_is_counted_and_left_to_the_operations():
    L, R, P, Q = grams(6)
    L[4, :, 2] = 0
    P = L.mT @ L
    sigma = np.empty((len(P), 6))
    assert singular_values_of_products(P.numpy(), Q.numpy(), sigma, 2) == 1
    assert np.isnan(sigma[4, 0])
    assert np.isfinite(np.delete(sigma, 4, 0)).all()
    expected = torch.linalg.svdvals(L @ R)[:, :6]
    torch.testing.assert_close(gram_singular_values(P, Q)[4], expected[4], rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("values", [[1.0, 0, 0, 0, 0, 0], [1.0, 1, 0, 0, 0, -0.5], [3.0, 2, 1, 0, -0.5, -0.9]])
def test_matrices_side_by_side_do_not_disturb_each_other(values):
    """Some fall into parts at once, as their eigenvalues are nearly equal, while others take many steps."""
    apart = torch.tensor(values, dtype=torch.float64) * 10.0 ** -torch.arange(20).unsqueeze(1)
    U = torch.linalg.qr(torch.randn(20, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).Q
    for order in (torch.arange(20), torch.randperm(20, generator=torch.Generator().manual_seed(1))):
        squares = (1 + apart)[order]
        Q = U * squares.unsqueeze(1) @ U.mT
        sigma = gram_singular_values(torch.eye(6, dtype=torch.float64).repeat(20, 1, 1), Q)
        expected = squares.sort(descending=True).values.sqrt()
        torch.testing.assert_close(sigma, expected, rtol=1e-13, atol=1e-14)
