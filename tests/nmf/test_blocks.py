"""One pass over blocks is one pass over the whole, to rounding."""

import pytest
import torch

import laws
from rankscope.nmf.blocks import RowBlocks, gram
from rankscope.nmf.passes import squared_residual
from rankscope.nmf.rules import make_rule


@pytest.mark.parametrize("block_rows", [1, 3, 7, 20, 100])
@pytest.mark.parametrize("dtype", [torch.float64, torch.uint8, torch.float16])
def test_a_pass_gives_the_products(block_rows, dtype):
    A = (10 * torch.rand(20, 9, generator=laws.generator(3))).to(dtype)
    blocks = RowBlocks.of(A, block_rows)
    F, R = (factor.to(blocks.dtype) for factor in laws.random_chain(0, (20, 9), (4,)).factors)
    wide = A.to(blocks.dtype)
    S, G = blocks.total(lambda rows, A_b: (F[rows].mT @ A_b, gram(F[rows])))
    torch.testing.assert_close(S, F.mT @ wide)
    torch.testing.assert_close(G, F.double().mT @ F.double())
    torch.testing.assert_close(blocks.times(R.mT), wide @ R.mT)
    torch.testing.assert_close(blocks.gram_times(R.mT), wide.mT @ (wide @ R.mT))


def test_the_same_pass_gives_the_same_bits():
    A = torch.rand(3000, 800, generator=laws.generator(1))
    blocks = RowBlocks.of(A)
    assert len(blocks.slices) > 1
    R = torch.rand(7, 800, generator=laws.generator(2))
    first, *others = [blocks.total(lambda rows, A_b: (R @ A_b.mT @ A_b,))[0] for _ in range(5)]
    assert all(torch.equal(first, other) for other in others)


def test_the_leading_triplets_are_those_of_the_svd(digits):
    A = torch.from_numpy(digits)
    U, sigma, V = RowBlocks.of(A, 300).leading_triplets(10, laws.generator(0))
    expected = torch.linalg.svdvals(A)
    torch.testing.assert_close(sigma, expected[:10], rtol=1e-6, atol=0)
    best = float((expected[10:] ** 2).sum())
    assert float((A - U * sigma @ V.mT).square().sum()) <= best * (1 + 1e-6)
    wide = RowBlocks.of(A.mT.contiguous()).leading_triplets(10, laws.generator(0))[1]
    torch.testing.assert_close(wide, expected[:10], rtol=1e-6, atol=0)


def test_an_error_in_a_worker_arrives():
    blocks = RowBlocks.of(torch.rand(10, 3), 2)

    def visit(rows, A_b):
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        blocks.total(visit)


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
    assert squared_residual(blocks, *zero) == pytest.approx(blocks.squared_norm, rel=1e-12)


def test_block_rows_follow_the_cache_and_are_checked():
    tall = RowBlocks.of(torch.zeros(100_000, 784))
    assert 256 <= tall.block_rows < 5000
    assert RowBlocks.of(torch.zeros(10, 784)).block_rows == 10
    with pytest.raises(ValueError, match="block_rows must be at least 1"):
        RowBlocks.of(torch.zeros(3, 3), 0)
