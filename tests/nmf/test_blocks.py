"""One pass over blocks is one pass over the whole, to rounding."""

import pytest
import torch

import laws
from rankscope.nmf.blocks import RowBlocks
from rankscope.nmf.rules import make_rule


@pytest.mark.parametrize("block_rows", [1, 3, 7, 20, 100])
def test_a_sweep_gives_the_products(block_rows):
    A = torch.rand(20, 9, dtype=torch.float64)
    F, R = laws.random_chain(0, (20, 9), (4,)).factors
    sweep = RowBlocks.of(A, block_rows).sweep(F, R, lambda rows, F_b, C_b: 2 * F_b + C_b)
    expected = 2 * F + A @ R.mT
    torch.testing.assert_close(sweep.first, expected)
    torch.testing.assert_close(sweep.S, expected.mT @ A)
    torch.testing.assert_close(sweep.G, expected.mT @ expected)


@pytest.mark.parametrize("solver", ["hals", "mu", "gd", "adam", "scalar"])
@pytest.mark.parametrize("sizes", [(4,), (5, 3)])
def test_one_block_equals_many(solver, sizes):
    A = torch.rand(33, 17, dtype=torch.float64, generator=laws.generator(1))
    chain = laws.random_chain(2, (33, 17), sizes)
    whole = laws.run(A, chain, make_rule(solver), 20)
    blocked = laws.run(A, chain, make_rule(solver), 20, block_rows=5)
    assert laws.largest_difference(whole.chain.factors, blocked.chain.factors) < 1e-10
    error = (whole.history["relative_error"] - blocked.history["relative_error"]).abs().max()
    assert error < 1e-12


def test_sums_are_taken_in_float64():
    A = torch.full((3000, 100), 0.1, dtype=torch.float32)
    blocks = RowBlocks.of(A, 64)
    assert blocks.squared_norm == pytest.approx(3000 * 100 * float(A[0, 0]) ** 2, rel=1e-12)
    assert blocks.mean == pytest.approx(float(A[0, 0]), rel=1e-9)
    zero = torch.zeros(3000, 1), torch.zeros(1, 100)
    assert blocks.squared_residual(*zero) == pytest.approx(blocks.squared_norm, rel=1e-12)


def test_block_rows_follow_the_cache_and_are_checked():
    tall = RowBlocks.of(torch.zeros(100_000, 784))
    assert 256 <= tall.block_rows < 5000
    assert RowBlocks.of(torch.zeros(10, 784)).block_rows == 10
    with pytest.raises(ValueError, match="block_rows must be at least 1"):
        RowBlocks.of(torch.zeros(3, 3), 0)
