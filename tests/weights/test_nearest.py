"""The nearest structure to a matrix: its error, and that a matrix of its own family is recovered."""

import pytest
import torch
from torch import Tensor

import laws
from rankscope.metrics import relative_error
from rankscope.weights import MLP, Dense, Fourier, Function, Kronecker, LowRank, Monarch, Nonlinear, Sine

LINEAR = ["dense", "low-rank", "low-rank, full", "kronecker", "kronecker sum", "monarch", "monarch of rank two"]


def matrix(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=laws.generator(seed), dtype=torch.float64)


def tail(sigma: Tensor, k: int) -> float:
    return float(sigma[k:].square().sum() / sigma.square().sum())


@pytest.mark.parametrize("make", LINEAR, indirect=True)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_matrix_of_the_family_is_recovered(make, shape, dtype):
    W = make(shape, seed=3, dtype=dtype).matrix().detach()
    structure = make(shape, seed=4, dtype=dtype)
    error = structure.set_nearest(W)
    assert error < 1e-10
    assert torch.allclose(structure.matrix(), W, rtol=0, atol=1e-5 * float(W.abs().max()))


@pytest.mark.parametrize("rank", [1, 3, 9])
def test_the_error_of_low_rank_is_the_singular_tail(rank):
    W = matrix(15, 9)
    structure, error = LowRank.nearest(W, rank)
    assert error == pytest.approx(tail(torch.linalg.svdvals(W), rank), rel=1e-9, abs=1e-25)
    assert error == pytest.approx(float(relative_error(W, structure.matrix().detach())), rel=1e-12)
    assert torch.allclose(structure.U.square().sum(0), structure.V.square().sum(0))


@pytest.mark.parametrize("terms", [1, 2, 4])
@pytest.mark.parametrize("left_shape", [(3, 5), (2, 2), (6, 1)])
def test_the_error_of_a_kronecker_sum_is_the_tail_of_the_rearranged_matrix(terms, left_shape):
    W = matrix(6, 20)
    (o1, i1), (o2, i2) = left_shape, (6 // left_shape[0], 20 // left_shape[1])
    rows = [W[a * o2 : (a + 1) * o2, c * i2 : (c + 1) * i2].flatten() for a in range(o1) for c in range(i1)]
    error = Kronecker.nearest(W, terms, left_shape=left_shape).relative_error
    assert error == pytest.approx(tail(torch.linalg.svdvals(torch.stack(rows)), terms), rel=1e-9)


@pytest.mark.parametrize("rank", [1, 2])
def test_the_error_of_monarch_is_the_tail_of_every_block(rank):
    W, (n0, m1) = matrix(12, 10), (3, 2)
    blocks = [W[a * 4 : (a + 1) * 4, b::m1] for a in range(n0) for b in range(m1)]
    expected = sum(float(torch.linalg.svdvals(block)[rank:].square().sum()) for block in blocks)
    error = Monarch.nearest(W, rank, blocks=(n0, m1)).relative_error
    assert error == pytest.approx(expected / float(W.square().sum()), rel=1e-9)


@pytest.mark.parametrize("make", LINEAR, indirect=True)
def test_no_neighbour_is_nearer(make, shape):
    W, structure = matrix(*shape), make(shape)
    error = structure.set_nearest(W)
    for parameter in structure.parameters():
        with torch.no_grad():
            kept = parameter.clone()
            parameter.add_(0.01 * torch.randn(parameter.shape, generator=laws.generator(5), dtype=torch.float64))
            assert float(relative_error(W, structure.matrix())) > error - 1e-14
            parameter.copy_(kept)


def test_dense_is_the_matrix_itself_on_its_device_and_in_its_precision():
    W = matrix(3, 4).float()
    structure, error = Dense.nearest(W)
    assert error == 0
    assert structure.W.dtype == torch.float32
    assert torch.equal(structure.matrix(), W)


def test_nearest_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    LowRank.nearest(matrix(9, 4), 2)
    Kronecker.nearest(matrix(9, 4))
    Monarch.nearest(matrix(9, 4))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_fitted_mlp_recovers_its_family():
    family = Nonlinear(MLP(), LowRank(12, 35, 2)).double()
    family.reset_parameters(laws.generator(0))
    W = family.matrix().detach()
    _, error = Nonlinear.nearest(W, MLP(), LowRank(12, 35, 2))
    assert error < 1e-5


def test_a_fitted_function_recovers_its_family():
    Z = matrix(12, 2) @ matrix(2, 35, seed=2) / 2
    _, error = Nonlinear.nearest(torch.tanh(Z), torch.tanh, LowRank(12, 35, 2))
    assert error < 1e-5


def test_a_fitted_sine_recovers_small_angles():
    Z = matrix(12, 2) @ matrix(2, 35, seed=2)
    Z = 0.6 * Z / Z.abs().max()
    _, error = Nonlinear.nearest(3 * torch.sin(2 * Z), Sine(12, 35), LowRank(12, 35, 2))
    assert error < 1e-5


@pytest.mark.parametrize(
    "phi", [MLP(), MLP(activation="relu"), Sine(9, 12), Fourier()], ids=lambda phi: phi.extra_repr()
)
def test_a_fitted_phi_is_no_worse_than_its_inner_structure(phi):
    W = matrix(9, 12)
    bound = LowRank.nearest(W, 3).relative_error
    structure, error = Nonlinear.nearest(W, phi, LowRank(9, 12, 3))
    assert error <= bound * (1 + 1e-2)
    assert error == pytest.approx(float(relative_error(W, structure.matrix().detach())), rel=1e-12)
    assert all(torch.isfinite(part).all() and not part.grad_fn for part in structure.parameters())


def test_a_constant_or_zero_matrix_does_no_harm():
    for W in (torch.zeros(6, 4), torch.full((6, 4), 2.0)):
        for structure in (LowRank(6, 4, 1), Kronecker(6, 4), Monarch(6, 4)):
            assert structure.set_nearest(W) < 1e-10
        for phi in (MLP(), Sine(6, 4), Fourier(), Function(torch.tanh)):
            assert Nonlinear(phi, LowRank(6, 4, 1)).set_nearest(W) < 1e-3 or not W.any()
