"""The compiled φ is φ: values and gradients against the formula in float64, at any size; what is no number stays so."""

import pytest
import torch
from torch.nn import functional as F

import laws
from rankscope.weights import kernels
from rankscope.weights.kernels import CHUNK

ACTIVATIONS = {"silu": F.silu, "relu": F.relu}


def formula(Z: torch.Tensor, theta: torch.Tensor, activation: str) -> torch.Tensor:
    """Σ_j w₂ⱼ·activation(w₁ⱼ z + b₁ⱼ) + b₂, row by row."""
    h = theta.shape[1] // 3
    w1, b1, w2, b2 = (part[..., None] for part in theta.split([h, h, h, 1], dim=1))
    return (w2 * ACTIVATIONS[activation](w1 * Z[:, None] + b1)).sum(1) + b2[:, 0]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("entries", [1, CHUNK - 1, CHUNK, 2 * CHUNK + 3])
def test_values_and_gradients_are_those_of_the_formula(activation, entries):
    draw = laws.generator(entries)
    Z = 3 * torch.randn(3, entries, generator=draw)
    theta = 2 * torch.randn(3, 3 * 5 + 1, generator=draw)
    G = torch.randn(3, entries, generator=draw)
    given = [Z.requires_grad_(), theta.requires_grad_()]
    exact = [part.detach().double().requires_grad_() for part in given]
    W, expected = kernels.mlp(*given, activation == "silu"), formula(*exact, activation)
    torch.testing.assert_close(W.double(), expected, rtol=1e-6, atol=1e-5)
    gradients = torch.autograd.grad(W, given, G)
    for gradient, wanted in zip(gradients, torch.autograd.grad(expected, exact, G.double()), strict=True):
        assert (gradient - wanted).abs().max() <= 1e-6 * wanted.abs().max() * max(1, entries**0.5)


@pytest.mark.parametrize("a", [-1e30, -90.0, -1e-20, 0.0, 1e-20, 1e-3, 8.0, 90.0, 1e30])
def test_silu_is_itself_far_out_and_near_zero(a):
    theta = torch.tensor([[1.0, 0.0, 1.0, 0.0]])
    value = kernels.mlp(torch.tensor([[a]]), theta, True).item()
    assert value == pytest.approx(F.silu(torch.tensor(a, dtype=torch.float64)).item(), rel=1e-5, abs=1e-6 * max(1, -a))


@pytest.mark.parametrize("silu", [True, False])
def test_what_is_not_a_number_stays_so(silu):
    W = kernels.mlp(torch.tensor([[float("nan"), 1.0]]), torch.ones(1, 4), silu)
    assert W.isnan().tolist() == [[True, False]]
