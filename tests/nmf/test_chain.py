"""A chain knows its shape and its products, and refuses factors that do not chain."""

import pytest
import torch

import laws
from rankscope.nmf.chain import Chain, broadcast_per_factor

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


@pytest.mark.parametrize(("sizes", "j"), [((4,), 1), ((5, 3), 2), ((3, 5), 1), ((4, 4), 2), ((6, 2, 7, 2, 3), 4)])
def test_the_narrowest_place_is_the_last_of_the_smallest(sizes, j):
    assert laws.random_chain(0, (9, 8), sizes).narrowest == j
