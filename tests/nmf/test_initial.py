"""Every start is nonnegative, of the right shapes, no worse than nothing, reproducible, and never locked."""

import numpy as np
import pytest
import torch
from sklearn.decomposition._nmf import _initialize_nmf

import laws
from rankscope.metrics import relative_error
from rankscope.nmf.blocks import RowBlocks
from rankscope.nmf.initial import Start, best_scale
from rankscope.nmf.initial import nndsvd as nndsvd_factors
from rankscope.nmf.initial import nndsvda as nndsvda_factors

INITS = ["random", "eye", "nndsvd", "nndsvda"]
SIZES = [(6,), (8, 5), (7, 6, 5, 4)]


def start(A, sizes, init, seed=0, **settings):
    return Start(sizes, init, **settings).chain(RowBlocks.of(A, 100), laws.generator(seed))


@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shapes_signs_scale_and_seed(digits, init, sizes, dtype):
    A = torch.from_numpy(digits[:300]).to(dtype)
    chain = start(A, sizes, init)
    assert chain.layer_sizes == sizes
    assert chain.shape == (300, 64)
    assert all(F.dtype == dtype and bool((F >= 0).all()) for F in chain.factors)
    assert float(relative_error(A, list(chain.factors))) <= 1
    again = start(A, sizes, init)
    assert all(torch.equal(F, G) for F, G in zip(chain.factors, again.factors, strict=True))


@pytest.mark.parametrize("init", INITS)
def test_a_start_for_multiplication_has_no_zero(digits, init):
    A = torch.from_numpy(digits)
    assert all(bool((F > 0).all()) for F in start(A, (8, 5), init, positive=True).factors)


@pytest.mark.parametrize(("init", "factors"), [("nndsvd", nndsvd_factors), ("nndsvda", nndsvda_factors)])
def test_nndsvd_is_scikit_learns(digits, init, factors):
    A = digits[:400]
    W, H = _initialize_nmf(A, 7, init=init, random_state=0)
    ours = factors(RowBlocks.of(torch.from_numpy(A)), (7,), laws.generator(0))
    np.testing.assert_allclose(ours[0], W, atol=1e-3)  # scikit-learn's own randomized SVD is no closer.
    np.testing.assert_allclose(ours[1], H, atol=1e-3)  # scikit-learn's own randomized SVD is no closer.


def test_nndsvd_starts_nearer_than_nothing_and_its_first_component_is_the_svds(digits):
    A = torch.from_numpy(digits)
    U, sigma, Vh = torch.linalg.svd(A, full_matrices=False)
    W, H = nndsvd_factors(RowBlocks.of(A), (5,), laws.generator(0))
    torch.testing.assert_close(W[:, :1] @ H[:1], (sigma[0] * U[:, :1] @ Vh[:1]).abs(), atol=1e-8, rtol=1e-8)
    assert float(relative_error(A, [W, H])) < 1


def test_eye_reaches_every_row_and_column():
    chain = start(torch.rand(50, 40, dtype=torch.float64), (6, 4), "eye")
    W1, W2, H = chain.factors
    assert (W1.argmax(1) == torch.arange(50) % 6).all()
    assert (H.argmax(0) == torch.arange(40) % 4).all()
    assert (W2 > 0).all()


def test_best_scale_is_the_least_squares_one():
    A = torch.rand(12, 9, dtype=torch.float64)
    chain = laws.random_chain(0, (12, 9), (3,))
    B = chain.product()
    expected = float((A * B).sum() / (B * B).sum())
    assert best_scale(RowBlocks.of(A, 5), chain) == pytest.approx(expected, rel=1e-12)
    assert best_scale(RowBlocks.of(0 * A), chain) == 1


def test_scale_multiplies_every_factor(digits):
    A = torch.from_numpy(digits[:100])
    small, full = start(A, (5, 4), "random", scale=1e-2), start(A, (5, 4), "random")
    assert laws.largest_difference(small.factors, [1e-2 * F for F in full.factors]) < 1e-15


def test_ranks_that_an_svd_cannot_give_are_refused():
    A = torch.rand(5, 3, dtype=torch.float64)
    for init in ("nndsvd", "nndsvda"):
        with pytest.raises(
            ValueError, match=r"n_components must be in 1\.\.3 .*5×3.*got 7; lower it or use init='random'"
        ):
            start(A, (7,), init)
    assert start(A, (7,), "random").layer_sizes == (7,)
    assert start(A, (7,), "eye").layer_sizes == (7,)
