"""φ by compiled passes is φ by operations: values, gradients, and derivatives of these."""

import copy

import pytest
import torch
from torch.func import grad

import laws
from rankscope import team
from rankscope.weights import MLP, LowRank, Nonlinear, StructuredLinear, fused
from rankscope.weights.mlp_pass import CHUNK


def drawn(activation, width=5):
    return MLP(width, activation=activation, generator=laws.generator(0))


@pytest.fixture
def taken(monkeypatch):
    """The steps that were taken by passes."""
    steps, step = [], fused._step
    monkeypatch.setattr(fused, "_step", lambda *given: steps.append(given) or step(*given))
    return steps


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("shape", [(1, 1), (7, CHUNK), (130, 2 * CHUNK + 3), (3, 4, 5), (9,)])
@pytest.mark.parametrize("activation", ["silu", "relu"])
def test_values_and_gradients_are_those_of_the_operations(activation, shape, threads, monkeypatch, taken):
    monkeypatch.setattr(team, "size", lambda: threads)
    phi, draw = drawn(activation), laws.generator(1)
    Z, G = (3 * torch.randn(shape, generator=draw)).requires_grad_(), torch.randn(shape, generator=draw)
    exact, wide = copy.deepcopy(phi).double(), Z.detach().double().requires_grad_()
    W, expected = phi(Z), exact(wide)
    assert len(taken) == 1  # In double precision it is operations.
    torch.testing.assert_close(W.double(), expected, rtol=1e-6, atol=1e-5)
    ours = torch.autograd.grad(W, [Z, *phi.parameters()], G)
    theirs = torch.autograd.grad(expected, [wide, *exact.parameters()], G.double())
    for gradient, wanted in zip(ours, theirs, strict=True):
        assert (gradient - wanted).abs().max() <= 1e-5 * wanted.abs().max()


@pytest.mark.parametrize("activation", ["silu", "relu"])
def test_only_what_is_wanted_has_a_gradient(activation):
    phi, Z = drawn(activation), torch.randn(40, 40)
    free = torch.autograd.grad(phi(Z).sum(), phi.w1)[0]
    for parameter in phi.parameters():
        parameter.requires_grad_(False)
    assert not phi(Z).requires_grad
    assert torch.autograd.grad(phi(Z.requires_grad_()).square().sum(), Z)[0].shape == Z.shape
    assert free.shape == phi.w1.shape


def test_derivatives_of_derivatives_are_those_of_the_operations():
    phi, Z = drawn("silu"), torch.randn(6, 7, generator=laws.generator(2))
    exact = copy.deepcopy(phi).double()

    def slope_of_the_slope(phi, Z):
        Z = Z.clone().requires_grad_()
        (slope,) = torch.autograd.grad(phi(Z).square().sum(), Z, create_graph=True)
        return torch.autograd.grad(slope.square().sum(), [Z, phi.w1])

    for ours, wanted in zip(slope_of_the_slope(phi, Z), slope_of_the_slope(exact, Z.double()), strict=True):
        torch.testing.assert_close(ours.double(), wanted, rtol=1e-4, atol=1e-4)


def test_transformed_functions_see_operations(taken):
    phi, Z = drawn("relu"), torch.randn(6, 7)
    slope = grad(lambda Z: phi(Z).sum())(Z)
    assert not taken
    torch.testing.assert_close(slope, torch.autograd.grad(phi(Z.requires_grad_()).sum(), Z)[0], rtol=1e-5, atol=1e-6)


def test_what_is_not_a_number_stays_so():
    W = drawn("silu")(torch.tensor([[float("nan"), 1.0]]))
    assert W.isnan().tolist() == [[True, False]]


def test_a_layer_learns_by_them(taken):
    layer = StructuredLinear(Nonlinear(MLP(), LowRank(32, 48, 4), generator=laws.generator(3)))
    x, y = torch.randn(64, 48, generator=laws.generator(4)), torch.randn(64, 32, generator=laws.generator(5))
    optimizer, losses = torch.optim.Adam(layer.parameters(), 1e-2), []
    taken.clear()
    for _ in range(30):
        optimizer.zero_grad()
        loss = (layer(x) - y).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert taken
    assert losses[-1] < 0.9 * losses[0]
