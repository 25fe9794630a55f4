"""φ by compiled passes is φ by operations: values, gradients, and derivatives of these."""

import copy
import os
import subprocess
import sys

import pytest
import torch
from torch.autograd.functional import jacobian
from torch.func import grad

import laws
from rankscope import team
from rankscope.weights import MLP, LowRank, Nonlinear, StructuredLinear, fused
from rankscope.weights.mlp_pass import CHUNK


def drawn(activation, width=5):
    return MLP(width, activation=activation, generator=laws.generator(0))


@pytest.fixture(autouse=True)
def _nothing_in_a_room(poisoned_rooms):
    """What a pass reads of its room it has written before."""


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
@pytest.mark.parametrize("wanted", ["Z", "w1", "b1", "w2", "b2"])
def test_only_what_is_wanted_has_a_gradient(activation, wanted):
    phi, Z = drawn(activation), torch.randn(40, 40, requires_grad=True)
    every = dict(zip(("Z", "w1", "b1", "w2", "b2"), (Z, *phi.parameters()), strict=True))
    gradients = torch.autograd.grad(phi(Z).square().sum(), list(every.values()))
    for tensor in every.values():
        tensor.requires_grad_(False)
    assert not phi(Z).requires_grad
    every[wanted].requires_grad_()
    alone = torch.autograd.grad(phi(Z).square().sum(), every[wanted])[0]
    assert torch.equal(alone, dict(zip(every, gradients, strict=True))[wanted])


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


@pytest.mark.parametrize("activation", ["silu", "relu"])
def test_what_is_not_a_number_stays_so(activation):
    Z, phi = torch.tensor([[float("nan"), 1.0]]), drawn(activation)
    W = phi(Z)
    assert W.isnan().tolist() == [[True, False]]
    slopes = [jacobian(copy.deepcopy(phi).to(dtype), Z.to(dtype)) for dtype in (torch.float32, torch.float64)]
    torch.testing.assert_close(slopes[0].double(), slopes[1], rtol=1e-5, atol=1e-6, equal_nan=True)


def test_silu_is_itself_far_out():
    phi = drawn("silu", 3)
    with torch.no_grad():
        for parameter, value in zip(phi.parameters(), (1, 0, 1, 0), strict=True):
            parameter.fill_(value)
    Z = torch.tensor([-1e30, -1e6, -100.0, -15.9, -15.7, 15.7, 15.9, 100.0, 1e6, 1e30], requires_grad=True)
    W, wide = phi(Z), Z.detach().double().requires_grad_()
    expected = 3 * torch.nn.functional.silu(wide)
    torch.testing.assert_close(W.double(), expected, rtol=1e-6, atol=1e-5)
    slopes = torch.autograd.grad(W.sum(), Z)[0], torch.autograd.grad(expected.sum(), wide)[0]
    torch.testing.assert_close(slopes[0].double(), slopes[1], rtol=1e-5, atol=1e-5)


def test_many_slopes_of_one_sign_are_added_up_precisely():
    phi, Z = drawn("relu"), torch.randn(700, 900, generator=laws.generator(6))
    slope = torch.autograd.grad(phi(Z), phi.b2, torch.full_like(Z, 0.1))[0]
    assert slope.item() == pytest.approx(0.1 * Z.numel(), rel=1e-6)


def test_other_sizes_are_refused_as_by_operations():
    Z = torch.randn(6, 8)
    for name, size in (("b2", 0), ("b2", 7), ("b1", 1)):
        phi = drawn("silu")
        setattr(phi, name, torch.nn.Parameter(torch.ones(size)))
        with pytest.raises(RuntimeError, match="size"):
            phi(Z)
    assert drawn("silu")(torch.tensor(0.5)).shape == ()


def test_the_process_that_compiles_has_the_bits_of_those_that_load(tmp_path):
    code = """
import hashlib, torch
from rankscope.weights import MLP, kernels
draw, found = torch.Generator().manual_seed(0), hashlib.sha256()
for activation in ("silu", "relu"):
    phi, Z = MLP(activation=activation, generator=draw), torch.randn(40, 100, generator=draw, requires_grad=True)
    theta = torch.randn(40, 49, generator=draw, requires_grad=True)
    G = torch.randn(40, 100, generator=draw)
    found.update(str([g.tolist() for g in torch.autograd.grad(phi(Z), [Z, *phi.parameters()], G)]).encode())
    members = kernels.mlp(Z, theta, activation == "silu")
    found.update(str([g.tolist() for g in torch.autograd.grad(members, [Z, theta], G)]).encode())
print(found.hexdigest())
"""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    runs = [
        subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True) for _ in "12"
    ]
    assert runs[0].stdout == runs[1].stdout != b""


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
