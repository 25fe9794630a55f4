"""A chain knows its shape and its products, and refuses factors that do not chain."""

import pytest
import torch

import laws
from rankscope.nmf.chain import Chain, broadcast_per_factor, fold

SIZES = [(4,), (5, 3), (3, 6, 2, 4)]


@pytest.mark.parametrize("sizes", SIZES)
def test_products_are_those_of_the_factors(sizes):
    chain = laws.random_chain(0, (9, 8), sizes)
    assert chain.depth == len(sizes) + 1
    assert chain.shape == (9, 8)
    assert chain.layer_sizes == sizes
    for i, R in enumerate(chain.rights):
        torch.testing.assert_close(R, Chain((torch.eye(sizes[i], dtype=R.dtype), *chain.factors[i + 1 :])).product())
    torch.testing.assert_close(chain.first @ chain.dictionary, chain.product())


@pytest.mark.parametrize("sizes", SIZES)
def test_a_chain_is_its_entries(sizes):
    chain = laws.random_chain(1, (9, 8), sizes)
    again = chain.like(chain.flat())
    assert all(torch.equal(F, G) for F, G in zip(chain.factors, again.factors, strict=True))


def test_fold_moves_a_factor_to_the_left():
    A, chain = torch.rand(9, 8, dtype=torch.float64), laws.random_chain(2, (9, 8), (5, 3))
    W1, W2, _ = chain.factors
    P, S = fold(W1.mT @ W1, W1.mT @ A, W2)
    left = W1 @ W2
    torch.testing.assert_close(P, left.mT @ left)
    torch.testing.assert_close(S, left.mT @ A)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(3, 2)], "at least 2 factors"),
        ([(3, 2), (3, 2)], "inner dimensions.*3×2 · 3×2"),
        ([(3,), (3, 2)], "2 dimensions"),
    ],
)
def test_what_does_not_chain_is_refused(shapes, message):
    with pytest.raises(ValueError, match=message):
        Chain(tuple(torch.ones(shape) for shape in shapes))


def test_one_number_or_one_for_each_factor():
    assert broadcast_per_factor(0.5, 3, "l1") == (0.5, 0.5, 0.5)
    assert broadcast_per_factor([0, 1, 2], 3, "l1") == (0, 1, 2)
    for bad in ([1, 2], -1, float("nan"), float("inf"), [0, -1, 0]):
        with pytest.raises(ValueError, match="l1 must be"):
            broadcast_per_factor(bad, 3, "l1")
